"""Rows of sessions, seats and denials as this process wrote them within the last hour, of all licenses.

A cached row is a shortcut and never the truth. Whoever uses one has the transaction demand its version; if another
process has written the row since, the transaction fails, and the row is read.
"""

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import fields
from datetime import date
from operator import attrgetter
from typing import Any, Final

from licensing.rules.model import Session, Versioned
from licensing.storage.register import Change, RowKind

CACHED_ROWS: Final = 50_000
"""How many rows a process keeps, those that it wrote last. A session's takes about 1 KiB."""

CACHED_SECONDS: Final = 3600.0
"""How long a row is kept. Who runs is heard of more often; of others nothing stays in memory."""

_CACHED: Final = (RowKind.ACTIVE, RowKind.SEAT, RowKind.DENIED)
_values_of: Final = attrgetter(*(field.name for field in fields(Session)))


class RowCache:
    """The cached rows by license, kind and name: when they were written, ETag and values.

    Flat tuples of texts, times and numbers: garbage collection looks at them once and then passes over them. Objects
    would make it stop the event loop for 50 ms or longer.
    """

    def __init__(self, limit: int = CACHED_ROWS, seconds: float = CACHED_SECONDS) -> None:
        self._limit = limit
        self._seconds = seconds
        self._rows: OrderedDict[str, tuple[Any, ...]] = OrderedDict()

    def session(self, license_id: str, session_id: str) -> Versioned[Session] | None:
        """The row of an active session; None if it is not cached."""
        row = self._rows.get(_key(license_id, RowKind.ACTIVE, session_id))
        return Versioned(Session(*row[2:]), row[1]) if row else None

    def seat(self, license_id: str, holder: str) -> Versioned[int] | None:
        """The row of a shared seat; None if it is not cached."""
        row = self._rows.get(_key(license_id, RowKind.SEAT, holder))
        return Versioned(row[2], row[1]) if row else None

    def denied_on(self, license_id: str, session_id: str) -> date | None:
        """The UTC day of the last denial of a session; None if none is cached."""
        row = self._rows.get(_key(license_id, RowKind.DENIED, session_id))
        return row[2] if row else None

    def forget_session(self, license_id: str, session_id: str) -> None:
        """Another process has written the row of a session, or it is gone."""
        self._rows.pop(_key(license_id, RowKind.ACTIVE, session_id), None)

    def store(self, license_id: str, changes: Sequence[Change], etags: Sequence[str]) -> None:
        """Keep the rows that a transaction has written, and forget those that it has deleted."""
        now = time.monotonic()
        for change, etag in zip(changes, etags, strict=True):
            if change.kind in _CACHED:
                key, value = _key(license_id, change.kind, change.name), change.value
                self._rows.pop(key, None)  # so that it becomes the last one
                if value is not None:
                    values = _values_of(value) if isinstance(value, Session) else (value,)
                    self._rows[key] = (now, etag, *values)
        while self._rows and (len(self._rows) > self._limit or self._oldest() < now - self._seconds):
            self._rows.popitem(last=False)

    def _oldest(self) -> float:
        written_at: float = self._rows[next(iter(self._rows))][0]
        return written_at


def _key(license_id: str, kind: RowKind, name: str) -> str:
    return f"{license_id}/{kind}{name}"
