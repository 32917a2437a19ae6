"""Dataclasses as columns and back.

A column bears its field's name unless `names` says otherwise; the fields of a nested dataclass stand among the
others. None has no column, and a missing column is read as its field's default: so columns can be added, and older
rows can still be read.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from datetime import UTC, datetime
from enum import StrEnum
from types import MappingProxyType, NoneType
from typing import Any, Final, Generic, NamedTuple, TypeVar, get_args, get_type_hints

from licensing.rules.model import Versioned
from licensing.storage.tables import EdmType, Row

Value = TypeVar("Value")


def utc(moment: datetime) -> datetime:
    """A plain aware datetime from a column, which comes as a subclass of the SDK's own."""
    return datetime.fromtimestamp(moment.timestamp(), UTC) if type(moment) is not datetime else moment


class _Column(NamedTuple):
    """How one field is written and read. `default` is MISSING where a row must have the column."""

    name: str
    field: str
    default: Any
    encode: Callable[[Any], Any] | None
    decode: Callable[[Any], Any] | None


class Codec(Generic[Value]):
    """The columns of one dataclass.

    `key` reads a field from the row's key, `names` are columns that bear another name than their field, and `int64`
    the fields that outgrow 32 bits.
    """

    def __init__(
        self,
        cls: Callable[..., Value],
        *,
        key: Mapping[str, Callable[[str], Any]] = MappingProxyType({}),
        names: Mapping[str, str] = MappingProxyType({}),
        int64: Collection[str] = (),
    ) -> None:
        self._cls = cls
        self._nested: dict[str, Codec[Any]] = {}
        self._columns: list[_Column] = []
        self._key: dict[str, Callable[[str], Any]] = {}
        hints = get_type_hints(cls)
        for field in fields(cls):  # type: ignore[arg-type]
            hint = hints[field.name]
            if is_dataclass(hint):
                self._nested[field.name] = Codec(hint, key=key, names=names, int64=int64)  # type: ignore[arg-type]
            elif field.name in key:
                self._key[field.name] = key[field.name]
            else:
                name = names.get(field.name, field.name)
                self._columns.append(_column(name, field, hint, large=field.name in int64))
        nested = [name for codec in self._nested.values() for name in codec.columns]
        self.columns: Final[tuple[str, ...]] = (*nested, *(column.name for column in self._columns))
        """The names of all columns."""

    def encode(self, value: Value, only: Collection[str] | None = None) -> dict[str, Any]:
        """The columns of a value, or of some of its fields."""
        columns: dict[str, Any] = {}
        for field, codec in self._nested.items():
            columns |= codec.encode(getattr(value, field), only)
        for name, field, _, encode, _ in self._columns:
            content = getattr(value, field)
            if content is not None and (only is None or field in only):
                columns[name] = encode(content) if encode else content
        return columns

    def decode(self, row: Row) -> Value:
        """The value that a row holds.

        Raises KeyError if a column is missing whose field has no default.
        """
        values = {field: codec.decode(row) for field, codec in self._nested.items()}
        columns = row.columns
        for name, field, default, _, decode in self._columns:
            if name in columns:
                values[field] = decode(columns[name]) if decode else columns[name]
            elif default is MISSING:
                raise KeyError(name)
            else:
                values[field] = default
        return self._cls(**values, **{field: read(row.key) for field, read in self._key.items()})

    def versioned(self, row: Row) -> Versioned[Value]:
        """The value that a row holds, with the row's ETag."""
        return Versioned(self.decode(row), row.etag)


def _column(name: str, field: Field[Any], hint: Any, *, large: bool) -> _Column:
    options = get_args(hint)
    default = None if NoneType in options else field.default
    plain = next((option for option in options if option is not NoneType), hint) if NoneType in options else hint
    if large:
        return _Column(name, field.name, default, _to_int64, _from_int64)
    if plain is datetime:
        return _Column(name, field.name, default, None, utc)
    if isinstance(plain, type) and issubclass(plain, StrEnum):
        return _Column(name, field.name, default, str, plain)
    if get_args(plain) == (int, ...):
        return _Column(name, field.name, default, _to_list, _from_list)
    if plain not in (str, int, bool):
        raise TypeError(f"field {field.name}: a {plain} has no column")
    return _Column(name, field.name, default, None, None)


def _to_int64(number: int) -> tuple[int, EdmType]:
    return number, EdmType.INT64


def _from_int64(column: Any) -> int:
    # A 64-bit column comes as a pair of its value and its type.
    return int(column[0] if isinstance(column, tuple) else column)


def _to_list(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))


def _from_list(column: str) -> tuple[int, ...]:
    return tuple(map(int, column.split(",")))
