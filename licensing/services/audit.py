"""Audit: who changed what and when, from the command line (policy, section 10).

An entry is written before a change and closed after it. An entry that was never closed is a change that may have been
made.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from licensing.storage.register import AuditEntry, Register

BEGUN: Final = "begun"
DONE: Final = "done"
FAILED: Final = "failed"


@asynccontextmanager
async def audited(
    register: Register, clock: Callable[[], datetime], who: str, what: str, subject: str
) -> AsyncIterator[None]:
    """Record a change while it is made; `subject` is a license, a session or an organization, never a person."""
    entry = AuditEntry(clock().astimezone(UTC), who, what, subject, BEGUN)
    entry_id = await register.begin_audit(entry)
    outcome = FAILED
    try:
        yield
        outcome = DONE
    finally:
        await register.close_audit(entry_id, replace(entry, outcome=outcome, closed_at=clock()))
