"""The texts that people read in reports and on the page, in each language, from `catalogue.toml`.

The rules:

- Each text is in all `LANGUAGES`, with the same `{names}` in each. `tests/rules/test_catalogue.py` holds that.
- A text with the forms `one` and `other` has another form for one thing. In all our languages, that is the whole
  number 1 alone.
- Numbers are written as the language writes them; a number with a fraction has one decimal.

Left to others: which text is said when.
"""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any, Final

LANGUAGES: Final = ("en", "de", "fi")


@cache
def _sections() -> dict[str, dict[str, dict[str, Any]]]:
    # A part of this package, as its modules are: it is no file that somebody could choose.
    return tomllib.loads((files(__package__) / "catalogue.toml").read_text("utf-8"))


def texts(section: str) -> dict[str, dict[str, Any]]:
    """All texts of a section by name: of each language the text, or its forms `one` and `other`.

    Raises KeyError for an unknown section.
    """
    return _sections()[section]


def text(key: str, language: str, **values: object) -> str:
    """The text `section.name` in a language, with the values of its `{names}`; `n` chooses between `one` and `other`.

    Raises KeyError for an unknown text or language, or a missing value.
    """
    section, _, name = key.partition(".")
    found = texts(section)[name][language]
    if not isinstance(found, str):
        found = found["one" if values["n"] == 1 and isinstance(values["n"], int) else "other"]
    return str(found.format(**{each: _written(value, language) for each, value in values.items()}))


def number(value: float, language: str) -> str:
    """A number as a language writes it: whole ones in groups of three digits, others with one decimal."""
    plain = f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
    marks = {",": texts("number")["thousands"][language], ".": texts("number")["decimal"][language]}
    return "".join(marks.get(each, each) for each in plain)


def _written(value: object, language: str) -> object:
    return number(value, language) if isinstance(value, int | float) else value
