"""Options that several commands take, and how their values are read."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import typer
from typer import Option

from licensing.cli.output import fail
from licensing.rules.billing import bounds
from licensing.settings import is_web_address


def out_option(result: str) -> Any:
    """The option --out, for `deliver`."""
    return Option("--out", metavar="FILE", help=f"Write the {result} here. Default: to standard output.")


@contextmanager
def wrong_usage(message: str, *errors: type[Exception]) -> Iterator[None]:
    """At one of these errors (by default ValueError), end the command with a message and exit code 2."""
    caught = errors or (ValueError,)
    try:
        yield
    except caught:
        raise typer.BadParameter(message) from None


def read_text(file: Path) -> str:
    """The text of a file in UTF-8, with or without a byte order mark; the command ends if it cannot be read."""
    try:
        return file.read_text(encoding="utf-8-sig")  # Windows editors write a byte order mark
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}.")
    except UnicodeDecodeError:
        fail(f"{file} is not a text file.")


def month_bounds(month: str) -> tuple[datetime, datetime]:
    """The first instant of the month that --month gives, and of the next month."""
    with wrong_usage("--month takes a month such as 2026-11"):
        return bounds(month)


def utc_time(text: str, option: str, example: str) -> datetime:
    """The time that an option gives, in UTC if it names no zone."""
    with wrong_usage(f"{option} takes a time such as {example}", ValueError, OverflowError):
        given = datetime.fromisoformat(text)
        return given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)


def service_url(url: str) -> str:
    """Check a service's URL: https, or http on this machine, so that nobody can listen in."""
    local = is_web_address(url, "http") and urlsplit(url).hostname in ("127.0.0.1", "localhost", "::1")
    if not local and not is_web_address(url, "https"):
        raise typer.BadParameter("--service takes a URL such as https://host.example/api; http only for 127.0.0.1")
    return url
