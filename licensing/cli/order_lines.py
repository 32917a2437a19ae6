"""A CSV file of orders, read whole: each line is a license, each column a claim.

- UTF-8, with or without a byte order mark; at most `FILE_LIMIT` bytes. Commas or semicolons separate cells (RFC 4180).
- The first line names the columns: each claim by its option without the dashes, and `strict` and `order`.
- White space around a cell is not part of it. An empty cell is a value that is not given; an empty line is no order.
- A list has its values between semicolons, or without any between white space. A switch is `yes` or `no`.

Left to others: what the claims make together (`licensing.cli.issuing`), and what is known of an order (`orders`).
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from licensing.cli.claims import CLAIMS, ClaimError

FILE_LIMIT: Final = 16 * 1024 * 1024
"""In bytes: some 100,000 lines."""

STRICT: Final = "strict"
ORDER: Final = "order"
ORDER_LENGTH: Final = 200

_CLAIMS: Final = {claim.column: name for name, claim in CLAIMS.items()}
_SWITCHES: Final = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class BadCell:
    """What is wrong in a line, by the number on which it begins, and what to do. `column` is empty for a whole line."""

    line: int
    column: str
    what: str

    def __str__(self) -> str:
        return f"line {self.line}{f', column {self.column}' if self.column else ''}: {self.what}"


@dataclass(frozen=True, slots=True)
class OrderLine:
    """One order. `claims` has values as the options of claims give them; `order` is the vendor's reference."""

    number: int
    claims: Mapping[str, Any]
    strict: bool = False
    order: str | None = None


class OrderFileError(Exception):
    """The file cannot be read as orders at all; the text says why and what to do."""


def read_orders(file: Path) -> tuple[list[OrderLine], list[BadCell]]:
    """All orders whose cells can be read, and what is wrong in the other lines. OrderFileError if none can be read."""
    text = _text(file)
    heading = re.split(r"[\r\n]", text, maxsplit=1)[0]
    delimiter = ";" if heading.count(";") > heading.count(",") else ","
    lines, bad = [], []
    records = _records(text, delimiter)
    _, first = next(records, (0, []))
    columns = _columns([name.strip().lower() for name in first])
    for number, cells in records:
        if not any(cells):
            continue
        found = [] if len(cells) == len(columns) else [_wrong_length(number, len(cells), len(columns))]
        line = OrderLine(number, {}) if found else _line(number, dict(zip(columns, cells, strict=True)), found)
        bad += found
        if not found:
            lines.append(line)
    return lines, bad


def _text(file: Path) -> str:
    try:
        with file.open("rb") as content:
            data = content.read(FILE_LIMIT + 1)
    except OSError as error:
        raise OrderFileError(f"{file} cannot be read: {error.strerror}") from None
    if len(data) > FILE_LIMIT:
        raise OrderFileError(f"{file} is larger than {FILE_LIMIT // 1024 // 1024} MB; issue it in parts")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise OrderFileError(f"{file} is not in UTF-8; save it as CSV UTF-8") from None


def _records(text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Each record with the number of the line on which it begins: a cell in quotes may have line breaks."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            hint = "a quote within a cell in quotes is doubled"
            raise OrderFileError(f"line {number} cannot be read ({error}); {hint}") from None
        yield number, [cell.strip() for cell in cells]


def _columns(names: list[str]) -> list[str]:
    """The columns that line 1 names. Others are told by their places: in a file without that line they are names."""
    known = [*_CLAIMS, STRICT, ORDER]
    unknown = [str(place) for place, name in enumerate(names, 1) if name not in known]
    if not names or unknown:
        what = f"cells that name no column ({', '.join(unknown)})" if names else "no columns"
        raise OrderFileError(f"line 1 has {what}; there are {', '.join(known)}")
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise OrderFileError(f"line 1 has columns twice: {', '.join(sorted(twice))}")
    return names


def _wrong_length(number: int, cells: int, columns: int) -> BadCell:
    return BadCell(number, "", f"it has {cells} cells, and line 1 has {columns}; a cell with a separator needs quotes")


def _line(number: int, cells: Mapping[str, str], bad: list[BadCell]) -> OrderLine:
    claims, strict = {}, False
    for column, text in cells.items():
        if not text or column == ORDER:
            continue
        try:
            if column == STRICT:
                strict = _switch(text)
            else:
                claim = _CLAIMS[column]
                claims[claim] = _value(claim, text)
                CLAIMS[claim].read(claims[claim])  # the draft does it again; here, each wrong cell of the line is found
        except ClaimError as error:
            bad.append(BadCell(number, column, f"it {error.what}"))
        except ValueError:
            takes = "yes or no" if column == STRICT else _takes(_CLAIMS[column])
            bad.append(BadCell(number, column, f"it takes {takes}"))
    order = cells.get(ORDER) or None
    if order and (len(order) > ORDER_LENGTH or not order.isprintable()):
        bad.append(BadCell(number, ORDER, f"it takes 1 to {ORDER_LENGTH} characters on one line"))
    return OrderLine(number, claims, strict, order)


def _takes(claim: str) -> str:
    return "yes or no" if CLAIMS[claim].type is bool else CLAIMS[claim].takes


def _value(claim: str, text: str) -> Any:
    """What the option of a claim would give for a cell. ValueError if it cannot."""
    kind = CLAIMS[claim].type
    if kind is int:
        if not (text.isascii() and text.isdigit()):
            raise ValueError
        return int(text)
    if kind is bool:  # the column has the name of what switches it off
        return not _switch(text)
    if kind == list[str]:
        values = [value.strip() for value in text.split(";")] if ";" in text else text.split()
        return [value for value in values if value]
    if isinstance(kind, type) and issubclass(kind, StrEnum | Path):
        return kind(text)
    return text


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCHES:
        raise ValueError
    return _SWITCHES[text.lower()]
