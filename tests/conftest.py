"""One Azurite and one home for all tests."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from licensing.cli.home import Home, local_storage
from licensing.cli.processes import free_port, start_azurite, stop
from licensing.storage.tables import Tables
from tests import support


@pytest.fixture(scope="session")
def azurite_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Azurite writes a line for every call."""
    return tmp_path_factory.mktemp("azurite") / "calls.log"


@pytest.fixture(scope="session")
def azurite(azurite_log: Path) -> Iterator[str]:
    """The connection string of an Azurite that keeps its rows in memory."""
    port = free_port()
    with azurite_log.open("wb") as log:
        process = start_azurite(port, None, log)
        yield local_storage(port)
        stop(process)


@pytest.fixture
async def tables(azurite: str) -> AsyncIterator[Tables]:
    """The tables of that Azurite."""
    opened = Tables.from_connection_string(azurite)
    yield opened
    await opened.close()


@pytest.fixture
def storage_calls(azurite_log: Path, tables: Tables) -> support.StorageCalls:
    """The calls that reach that Azurite."""
    return support.StorageCalls(azurite_log, tables)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An initialized home, whose keys sign and verify everything."""
    return support.new_home(tmp_path_factory.mktemp("home") / "local")


@pytest.fixture
def issue(home: Home) -> Callable[..., str]:
    """Issue a license with any claims: the JWS of its file."""
    return lambda **claims: support.issue(home, **claims)
