"""What every command shares: the home, the settings, the store, how to speak and how to fail."""

import asyncio
import getpass
import logging
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from licensing.cli.home import Home
from licensing.errors import SettingsError
from licensing.services.service import open_register, utc_now
from licensing.settings import STORES, is_web_address, names_store, storage_settings, with_home
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register

Result = TypeVar("Result")

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 160)
"""Results: standard output."""

MAKE_A_HOME = "`licensing init` makes keys and settings for this machine"

err = Console(stderr=True, highlight=False, soft_wrap=True)
"""Progress and messages: standard error."""


def home() -> Home:
    """The home that --home or LICENSING_HOME names."""
    return Home(Path(os.environ.get("LICENSING_HOME") or ".local"))


def environment() -> Mapping[str, str]:
    """This process's settings; what it leaves out comes from the home, if that has been made."""
    here = home()
    return with_home({**os.environ, "LICENSING_HOME": str(here.folder)}) if here.initialized else os.environ


def service_url(url: str) -> str:
    """A URL at which programs can reach the service and nobody can listen: https, or on this machine."""
    here = is_web_address(url, "http") and urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    if not here and not is_web_address(url, "https"):
        raise typer.BadParameter("--service takes a URL such as https://host.example/api; http only for 127.0.0.1")
    return url


def deliver(text: str, file: Path | None, note: str = "") -> None:
    """Write a result to a file, and say so with a note on it; or, bare, to standard output."""
    if file is None:
        sys.stdout.write(text)
        return
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}.")
    err.print(f"Wrote {file}{note and ': '}{note}.", markup=False)


def table(*columns: str, title: str | None = None) -> Table:
    """A table in which a long cell is folded, and never cut."""
    made = Table(title=Text(title) if title else None, title_justify="left")
    for column in columns:
        made.add_column(column, overflow="fold")
    return made


def count(number: int, noun: str) -> str:
    """A number of things, in words for people."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def fail(message: str) -> NoReturn:
    """Stop with exit code 1: refused, or not found."""
    err.print(message, style="bold red", markup=False)
    raise typer.Exit(1)


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """Do a command's work on an event loop."""
    return asyncio.run(work)


def operator() -> str:
    """Who runs this command, for the audit: the user of this machine, as it says. Proof is in the store's own log."""
    return getpass.getuser()


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, where somebody watches; what it gives is told how much of how much is done."""
    with Progress(console=err, transient=True, disable=not err.is_terminal) as progress:
        task = progress.add_task(what, total=None)

        def told(done: int, of: int) -> None:
            progress.update(task, completed=done, total=of)

        yield told


def _with_store(values: Mapping[str, str]) -> Mapping[str, str]:
    if not names_store(values) and not home().initialized:
        raise SettingsError(f"no store is named, and there is no home: {MAKE_A_HOME}, or set {' or '.join(STORES[:2])}")
    return values


@asynccontextmanager
async def store(values: Mapping[str, str] | None = None) -> AsyncIterator[tuple[Register, Ledger]]:
    """The store that the settings name (`values`, by default all), with the operator's own identity, and its ledger."""
    # What the store says goes into the message that a command ends with, not beside it.
    logging.getLogger("licensing").addHandler(logging.NullHandler())
    register = open_register(storage_settings(_with_store(environment() if values is None else values)))
    try:
        yield register, Ledger(register, utc_now)
    finally:
        await register.close()
