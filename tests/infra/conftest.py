"""The compiler, or a skip that says why: nothing here is tested on anything but the real one."""

import pytest

from infra.check import find_compiler


@pytest.fixture(scope="session")
def compiler() -> str:
    found = find_compiler()
    if found is None:
        pytest.skip("THE TEMPLATES WERE NOT TESTED: no Bicep compiler (set BICEP, or run `az bicep install`)")
    return found
