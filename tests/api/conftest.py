"""What tests of a customer's operations share: an app whose clock stands still."""

from collections.abc import AsyncIterator

import pytest

from licensing.cli.home import Home
from tests import factories
from tests.api.client import NOW, Api, running
from tests.factories import Clock


@pytest.fixture
def clock() -> Clock:
    """The service's clock, which stands at `NOW`."""
    return Clock(NOW)


@pytest.fixture
async def service(home: Home, azurite: str, clock: Clock) -> AsyncIterator[Api]:
    """An app with empty caches."""
    async with running(factories.settings(home, azurite), clock) as opened:
        yield opened
