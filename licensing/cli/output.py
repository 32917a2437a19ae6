"""What commands print and write: results to standard output or a file, progress and messages to standard error."""

import io
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NoReturn

import typer
from rich import box
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from licensing.cli.files import write_whole
from licensing.rules.license import is_identifier

FILE_WIDTH: Final = 160
NARROW_GAP: Final = 2
"""Columns between two columns of a table without vertical lines."""

out = Console(highlight=False, markup=False, soft_wrap=True, width=None if sys.stdout.isatty() else FILE_WIDTH)
err = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)


def fail(message: str) -> NoReturn:
    """End the command with a message and exit code 1: refused, or not found."""
    err.print(message, style="bold red")
    raise typer.Exit(1)


def named(noun: str, typed: str) -> str:
    """What was not found, in words for "there is no …", by its id if the typed text has the form of one.

    Any other text is not repeated: it might be a person's name.
    """
    return f"{noun} {typed}" if is_identifier(typed) else f"such {noun}"


def check_id(noun: str, typed: str | None) -> None:
    """End the command if a typed id does not have the form of one: it might be a name, and the store logs its calls."""
    if typed is not None and not is_identifier(typed):
        fail(f"There is no {named(noun, typed)} in the register.")


def no_license(license_id: str, hint: str = "") -> NoReturn:
    """End the command, since the register does not know a license."""
    fail(f"There is no {named('license', license_id)} in the register.{hint and ' '}{hint}")


def warn_of_names(names: Iterable[str | None], instead: str) -> None:
    """Warn if names were given on the command line, and say what to do `instead`."""
    if any(name is not None for name in names):
        err.print(f"A name on the command line can be seen by others on this machine; {instead}.", style="yellow")


def deliver(text: str, file: Path | None, note: str = "", *, private: bool = False, overwrite: bool = True) -> None:
    """Write a result to a file and say so, with a note on it; without a file, to standard output. See `save`.

    The command ends if that fails.
    """
    if file is None:
        print_text(text)
        return
    save(text, file, private=private, overwrite=overwrite)
    err.print(f"Wrote {file}{note and ': '}{note}.")


def print_text(text: str) -> None:
    """Write a text to standard output as it is; the command ends if that fails."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is left in the buffer would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        fail(f"Standard output cannot be written: {error.strerror}.")


def save(text: str, file: Path, *, private: bool = False, overwrite: bool = True) -> None:
    """Write a result to a file, whole or not at all; the command ends if that fails.

    Only its owner reads a `private` one. Without `overwrite`, a file that exists stays, and the command ends unless it
    holds the same text.
    """
    try:
        try:
            write_whole(file, text, private=private, overwrite=overwrite)
        except FileExistsError:
            if file.read_bytes() != text.encode():
                fail(f"{file} exists and was not overwritten. Name another file, or overwrite it with --force.")
    except OSError as error:
        fail(f"{file} cannot be written: {error.strerror}.")


def can_ask() -> bool:
    """Whether somebody can be asked: standard input is a terminal. It may also be closed."""
    return sys.stdin is not None and sys.stdin.isatty()


def ask(question: str) -> bool:
    """Ask on standard error whether to go on; no is the answer of whoever only presses Enter."""
    err.print(f"{question} [y/N] ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def show(file: Path | None, *parts: Table | Text) -> None:
    """Print parts one below the other; with a file, write them there as plain text without colours."""
    if file is None:
        for part in parts:
            out.print(part)
        return
    text = io.StringIO()
    plain = Console(file=text, width=FILE_WIDTH, force_terminal=False, color_system=None, soft_wrap=True)
    for part in parts:
        plain.print(part)
    deliver(text.getvalue(), file)


def print_json_line(values: Mapping[str, Any]) -> None:
    """Print JSON on one line, with times in ISO 8601."""
    out.print(json.dumps(values, default=datetime.isoformat))


def table(*columns: str, rows: Iterable[Sequence[object]], title: str | None = None) -> Table:
    """A table in which long cells are wrapped, not cut, and None is a dash.

    On a terminal that is too narrow for it, there are no vertical lines, and words are kept whole if they fit.
    """
    cells = [["–" if cell is None else str(cell) for cell in row] for row in rows]
    result = Table(title=Text(title) if title else None, title_justify="left")
    for name in columns:
        result.add_column(name, overflow="fold")
    for row in cells:
        result.add_row(*map(Text, row))
    if out.measure(result, options=out.options.update(max_width=sys.maxsize)).maximum > out.width:
        result.box, result.show_edge, result.pad_edge, result.padding = box.SIMPLE, False, False, (0, 1, 0, 0)
        for column, width in zip(result.columns, _narrow_widths(columns, cells), strict=False):
            column.width = width
    return result


def _narrow_widths(columns: Sequence[str], cells: Sequence[Sequence[str]]) -> list[int]:
    """The widths of columns on a narrow terminal that break no word; none if they do not fit."""
    each = [(name, *(row[place] for row in cells)) for place, name in enumerate(columns)]
    widths = [max(map(len, " ".join(column).split())) for column in each]
    left = out.width - sum(widths) - NARROW_GAP * (len(widths) - 1)
    if left < 0:
        return []
    for place, column in enumerate(each):
        more = min(left, max(map(len, column)) - widths[place])
        widths[place] += more
        left -= more
    return widths


def count(number: int, noun: str) -> str:
    """A number with its noun, as in "1 seat" or "2 seats"."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error, if that is a terminal; yields a callback for steps done and their total."""
    with Progress(console=err, transient=True, disable=not err.is_terminal) as display:
        task = display.add_task(what, total=None)
        yield lambda done, total: display.update(task, completed=done, total=total)
