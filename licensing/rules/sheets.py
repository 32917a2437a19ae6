"""CSV that is opened in spreadsheets.

A spreadsheet runs a cell as a formula if it begins with one of `FORMULA`. Such texts come from license files, and get
an apostrophe in front, as OWASP advises. Numbers, also negative ones, are written as they are.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Final

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def sheet(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """A header and rows as CSV. Lines end in a line feed, None is an empty cell, and truth is `true` or `false`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(map(_cell, row) for row in rows)
    return text.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
