"""The app over Azurite, as one process for all tests that do not need their own."""

from collections.abc import AsyncIterator

import pytest

from licensing.cli.home import Home
from tests import support
from tests.api.client import Api, running


@pytest.fixture(scope="module")
async def api(home: Home, azurite: str) -> AsyncIterator[Api]:
    """The app, which takes the socket's address for the caller's."""
    async with running(support.settings(home, azurite)) as opened:
        yield opened
