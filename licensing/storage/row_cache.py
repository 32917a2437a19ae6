"""Rows of sessions, seats and denials as this process wrote them last, of all licenses.

A cached row is a shortcut and never the truth. Whoever uses one has the transaction demand its version; if another
process has written the row since, the transaction fails, and the row is read.
"""

from collections import OrderedDict
from collections.abc import Sequence
from datetime import date
from typing import Any, Final

from licensing.rules.model import Session, Versioned
from licensing.storage.register import Change, RowKind

CACHED_ROWS: Final = 50_000
"""How many rows a process keeps, those that it wrote last. A session takes about 1 KiB (docs/operations.md, "Cost")."""

_CACHED: Final = (RowKind.ACTIVE, RowKind.SEAT, RowKind.DENIED)


class RowCache:
    """The cached rows, by license, kind and name."""

    def __init__(self, limit: int = CACHED_ROWS) -> None:
        self._limit = limit
        self._rows: OrderedDict[tuple[str, RowKind, str], Versioned[Any]] = OrderedDict()

    def session(self, license_id: str, session_id: str) -> Versioned[Session] | None:
        """The row of an active session; None if it is not cached."""
        return self._rows.get((license_id, RowKind.ACTIVE, session_id))

    def seat(self, license_id: str, holder: str) -> Versioned[int] | None:
        """The row of a shared seat; None if it is not cached."""
        return self._rows.get((license_id, RowKind.SEAT, holder))

    def denied_on(self, license_id: str, session_id: str) -> date | None:
        """The UTC day of the last denial of a session; None if none is cached."""
        row = self._rows.get((license_id, RowKind.DENIED, session_id))
        return row.value if row else None

    def forget_session(self, license_id: str, session_id: str) -> None:
        """Another process has written the row of a session, or it is gone."""
        self._rows.pop((license_id, RowKind.ACTIVE, session_id), None)

    def store(self, license_id: str, changes: Sequence[Change], etags: Sequence[str]) -> None:
        """Keep the rows that a transaction has written, and forget those that it has deleted."""
        for change, etag in zip(changes, etags, strict=True):
            if change.kind in _CACHED:
                key = (license_id, change.kind, change.name)
                self._rows.pop(key, None)  # so that it becomes the last one
                if change.value is not None:
                    self._rows[key] = Versioned(change.value, etag)
        while len(self._rows) > self._limit:
            self._rows.popitem(last=False)
