"""Audit: who did what to what when, from the command line (policy, section 10).

A row is written before a change is made and closed after it, so that none goes unseen: a row that was never closed
tells of a change that may have been made.
"""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from licensing.storage.register import utc
from licensing.storage.tables import Tables, merge, put

BEGUN: Final = "begun"
DONE: Final = "done"
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class Entry:
    """A change: `outcome` is begun, done or failed; `closed_at` is None where it was never closed. Times are UTC."""

    at: datetime
    who: str
    what: str
    subject: str
    outcome: str
    closed_at: datetime | None


async def entries(tables: Tables, month: str) -> AsyncIterator[Entry]:
    """What was changed in a month (YYYY-MM), in the order in which it was begun."""
    async for row in tables.rows("audit", month):
        c = row.columns
        closed_at = utc(c["closed_at"]) if "closed_at" in c else None
        yield Entry(utc(c["at"]), c["who"], c["what"], c["subject"], c["outcome"], closed_at)


@asynccontextmanager
async def recorded(
    tables: Tables, clock: Callable[[], datetime], who: str, what: str, subject: str
) -> AsyncIterator[None]:
    """Record a change while it is made.

    `subject` names a license, a session or an organization, or says that it is all licenses; never a person.
    """
    at = clock().astimezone(UTC)
    month, key = f"{at:%Y-%m}", f"{at:%Y%m%dT%H%M%S.%fZ}:{secrets.token_hex(4)}"
    entry = {"at": at, "who": who, "what": what, "subject": subject, "outcome": BEGUN}
    await tables.commit("audit", month, [put(key, entry)])
    outcome = FAILED
    try:
        yield
        outcome = DONE
    finally:
        await tables.commit("audit", month, [merge(key, {"outcome": outcome, "closed_at": clock()})])
