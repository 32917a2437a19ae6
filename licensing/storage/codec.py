"""Dataclasses as columns and back, by pydantic.

A column bears its field's name unless `names` says otherwise; the fields of a nested dataclass stand among the
others. None has no column. A row must have every other column, so that nobody takes a default for what the row lost;
only columns that were added later may be missing, and are read as their field's default.

A row that cannot be read is named by its key (`RowError`), so that work on other rows can go on.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, is_dataclass
from datetime import datetime
from types import MappingProxyType, NoneType
from typing import Any, Final, Generic, TypeVar, get_args, get_type_hints

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json, to_json

from licensing.errors import RowError
from licensing.rules.model import Versioned
from licensing.storage.tables import EdmType, Row

Value = TypeVar("Value")
Found = TypeVar("Found")


class Codec(Generic[Value]):
    """The columns of one dataclass.

    `key` reads a field from the row's key, `names` are columns that bear another name than their field, `int64` are
    fields that outgrow 32 bits, `lists` fields of several integers, which stand in one text, `texts` fields of other
    values, which stand in one text of JSON, `added` fields whose column older rows lack, and `without` fields that have
    no column. An `added` field that holds its default has no column either.
    """

    def __init__(
        self,
        cls: type[Value],
        *,
        key: Mapping[str, Callable[[str], Any]] = MappingProxyType({}),
        names: Mapping[str, str] = MappingProxyType({}),
        int64: Collection[str] = (),
        lists: Collection[str] = (),
        texts: Collection[str] = (),
        added: Collection[str] = (),
        without: Collection[str] = (),
    ) -> None:
        self._adapter = TypeAdapter(cls)
        self._key = key
        self._int64 = int64
        self._lists = lists
        hints = get_type_hints(cls)
        self._texts = texts
        self._absent = {name: None for name, hint in hints.items() if NoneType in get_args(hint)}
        self._times = [name for name, hint in _leaves(hints) if datetime in (hint, *get_args(hint))]
        parts = {name: hint for name, hint in hints.items() if is_dataclass(hint)}
        self._nested = {name: [field.name for field in fields(part)] for name, part in parts.items()}
        defaults = {each.name: each.default for part in (cls, *parts.values()) for each in fields(part)}  # type: ignore[arg-type]
        self._added = {name: defaults[name] for name in added}
        own = [name for field in fields(cls) for name in self._nested.get(field.name, [field.name])]  # type: ignore[arg-type]
        self._fields = {names.get(name, name): name for name in own if name not in {*key, *without}}
        self._required = self._fields.keys() - {names.get(name, name) for name in (*self._absent, *added)}
        self.columns: Final = tuple(self._fields)
        """The names of all columns."""

    def encode(self, value: Value, only: Collection[str] | None = None, *, defaults: bool = False) -> dict[str, Any]:
        """The columns of a value, or of some of its fields.

        With `defaults`, those of `added` fields are among them also at their default, to change a row that may differ.
        """
        values = self._adapter.dump_python(value, exclude_none=True)
        for part in self._nested:
            values |= values.pop(part)
        for field, default in self._added.items():
            if not defaults and values.get(field) == default:
                values.pop(field, None)
        for field in self._int64:
            if field in values:
                values[field] = (values[field], EdmType.INT64)
        for field in self._lists:
            if field in values:
                values[field] = ",".join(map(str, values[field]))
        for field in self._texts:
            if field in values:
                values[field] = to_json(values[field]).decode()
        wanted = values.keys() if only is None else values.keys() & set(only)
        return {column: values[field] for column, field in self._fields.items() if field in wanted}

    def decode(self, row: Row) -> Value:
        """The value that a row holds.

        Raises RowError if a column is missing or holds another type; it names the column, never a content.
        """
        columns = row.columns
        values = {field: columns[name] for name, field in self._fields.items() if name in columns}
        if len(values) < len(self._fields):
            missing = self._required - columns.keys()
            if missing:
                raise _lacks(row, min(missing))
            values = {**self._absent, **values}
        for field, read in self._key.items():
            values[field] = read(row.key)
        for field in self._lists:
            if field in values:
                values[field] = str(values[field]).split(",")
        place = ""
        try:
            for place in self._texts:
                if (text := values.get(place)) is not None:
                    values[place] = from_json(text)
            for place in self._times:
                if (text := values.get(place)) is not None:
                    values[place] = instant(text)
            for part, names in self._nested.items():
                values[part] = {field: values.pop(field) for field in names if field in values}
            return self._adapter.validate_python(values)
        except ValidationError as error:
            place = self._field_at(
                error.errors(include_input=False, include_url=False, include_context=False)[0]["loc"]
            )
        except (TypeError, ValueError):  # no JSON, or no time
            pass
        # Outside, so that pydantic's text, which quotes the row, is no context of this error.
        raise _unreadable(row, place)

    def _field_at(self, location: tuple[int | str, ...]) -> str:
        """The field at a location in a value: the one whose text holds it, if it lies within a text."""
        return str(next((part for part in location if part in self._texts), location[-1]))

    def versioned(self, row: Row) -> Versioned[Value]:
        """The value that a row holds, with the row's ETag."""
        return Versioned(self.decode(row), row.etag)


def column(row: Row, name: str, read: Callable[[Any], Found]) -> Found:
    """One column of a row, as `read` makes it of the content.

    Raises RowError if it is missing, or if `read` raises TypeError or ValueError.
    """
    if name not in row.columns:
        raise _lacks(row, name)
    with suppress(TypeError, ValueError):
        return read(row.columns[name])
    raise _unreadable(row, name)


def readable(read: Callable[[Row], Found], rows: Iterable[Row], unreadable: list[RowError] | None) -> Iterator[Found]:
    """The rows as `read` makes values of them. Those that it cannot read, as in `noting`."""
    for row in rows:
        try:
            value = read(row)
        except RowError as error:
            _note(error, unreadable)
        else:
            yield value


@contextmanager
def noting(unreadable: list[RowError] | None) -> Iterator[None]:
    """Stop at a row that cannot be read, and add it to `unreadable`; with None, raise RowError."""
    try:
        yield
    except RowError as error:
        _note(error, unreadable)


def _note(error: RowError, unreadable: list[RowError] | None) -> None:
    if unreadable is None:
        raise error
    unreadable.append(error)


def instant(text: str) -> datetime:
    """A time as a column holds it. Raises ValueError without a time zone: it could be compared with no other time."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("has no time zone")
    return moment


def _lacks(row: Row, name: str) -> RowError:
    return RowError(row.partition, row.key, f"lacks its column {name}")


def _unreadable(row: Row, name: str) -> RowError:
    return RowError(row.partition, row.key, f"has a column {name} that cannot be read")


def _leaves(hints: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The hints of all columns, those of a nested dataclass among the others."""
    for name, hint in hints.items():
        if is_dataclass(hint):
            yield from get_type_hints(hint).items()
        else:
            yield name, hint
