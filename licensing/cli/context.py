"""What commands work on: the home, the settings and the store."""

import asyncio
import getpass
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from licensing.cli.home import Home
from licensing.errors import SettingsError
from licensing.services.service import open_register, utc_now
from licensing.settings import STORES, names_store, storage_settings, with_home
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register

MAKE_A_HOME = "`licensing init` makes keys and settings for this machine"

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def in_event_loop(function: Callable[Parameters, Coroutine[Any, Any, Result]]) -> Callable[Parameters, Result]:
    """Turn a coroutine function into a plain one, which typer can call; it runs an event loop of its own."""

    @wraps(function)
    def plain(*arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        return asyncio.run(function(*arguments, **options))

    return plain


def home() -> Home:
    """The home that --home or LICENSING_HOME names."""
    return Home(Path(os.environ.get("LICENSING_HOME") or ".local"))


def environment() -> Mapping[str, str]:
    """The settings of this process's environment; those that are missing come from the home, if it exists."""
    here = home()
    return with_home({**os.environ, "LICENSING_HOME": str(here.folder)}) if here.initialized else os.environ


def operator() -> str:
    """Who runs this command, for the audit: the user by this machine's account. The store's own log has the proof."""
    return getpass.getuser()


def service_store(vault: str | None) -> AbstractAsyncContextManager[tuple[Register, Ledger]]:
    """The store of the service whose secrets are in a vault, or in the home.

    A vault's secrets never belong to the store of the home's local service, so that the home's settings do not count.
    """
    return store(None if vault is None else os.environ)


@asynccontextmanager
async def store(values: Mapping[str, str] | None = None) -> AsyncIterator[tuple[Register, Ledger]]:
    """The store that the settings name (by default all settings), under the operator's own identity, and its ledger."""
    values = environment() if values is None else values
    if not names_store(values) and not home().initialized:
        raise SettingsError(f"no store is named, and there is no home: {MAKE_A_HOME}, or set {' or '.join(STORES[:2])}")
    # The store's errors go into the command's last message, and not into a log beside it.
    logging.getLogger("licensing").addHandler(logging.NullHandler())
    register = open_register(storage_settings(values))
    try:
        yield register, Ledger(register, utc_now, serves=False)
    finally:
        await register.close()
