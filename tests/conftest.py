"""One home for all tests, and one Azurite, on which each file of tests has an account of its own.

So no test sweeps, counts or pages through the rows of others: Azurite looks through all rows of a table for each query.
"""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

import hypothesis
import pytest

from licensing.cli.home import Home, local_storage
from licensing.cli.processes import free_port, start_azurite, stop
from licensing.storage import outages
from licensing.storage.tables import Tables
from tests.api.client import Api, running
from tests.factories import issue as issue_file
from tests.factories import new_home, settings
from tests.stores import StorageCalls

# A commit is judged by the same examples each time; --hypothesis-profile=default looks for new ones.
hypothesis.settings.register_profile("the same each time", derandomize=True)
hypothesis.settings.load_profile("the same each time")

ACCOUNTS: Final = 300
"""More than there are files of tests."""


@pytest.fixture(autouse=True)
def always_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """When a test sets its clock forward, the service was there all the time; tests of outages undo this."""
    monkeypatch.setattr(outages, "GAP", timedelta(days=10_000))


@pytest.fixture(scope="session")
def azurite_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Azurite writes a line for every call."""
    return tmp_path_factory.mktemp("azurite") / "calls.log"


@pytest.fixture(scope="session")
def account(azurite_log: Path) -> Iterator[Callable[[], str]]:
    """Gives the connection string of an account that nobody has used, on an Azurite that keeps its rows in memory."""
    port = free_port()
    one = local_storage(port)
    usual, key = (re.findall(rf"{name}=([^;]+);", one)[0] for name in ("AccountName", "AccountKey"))
    names = [f"tests{number:03}" for number in range(ACCOUNTS)]
    with pytest.MonkeyPatch.context() as patch, azurite_log.open("wb") as log:
        patch.setenv("AZURITE_ACCOUNTS", ";".join(f"{name}:{key}" for name in names))
        process = start_azurite(port, None, log)
    unused = iter(names)
    yield lambda: one.replace(usual, next(unused))
    stop(process)


@pytest.fixture(scope="module")
def azurite(account: Callable[[], str]) -> str:
    """The connection string of this file's own account."""
    return account()


@pytest.fixture
async def tables(azurite: str) -> AsyncIterator[Tables]:
    """The tables of that account."""
    opened = Tables.from_connection_string(azurite)
    yield opened
    await opened.close()


@pytest.fixture
def storage_calls(azurite_log: Path, tables: Tables) -> StorageCalls:
    """The calls that reach that Azurite."""
    return StorageCalls(azurite_log, tables)


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """An initialized home, whose keys sign and verify everything."""
    return new_home(tmp_path_factory.mktemp("home") / "local")


@pytest.fixture
def issue(home: Home) -> Callable[..., str]:
    """Issue a license with any claims: the JWS of its file."""
    return lambda **claims: issue_file(home, **claims)


@pytest.fixture(scope="module")
async def api(home: Home, azurite: str) -> AsyncIterator[Api]:
    """The app, which takes the socket's address for the caller's."""
    async with running(settings(home, azurite)) as opened:
        yield opened
