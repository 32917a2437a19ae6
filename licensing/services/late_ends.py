"""A program tells afterwards until when it ran: its session had ended without it, since it could not reach the service.

The session's row gets the time (`licensing.rules.grace`). Nights count it. Nothing else of the row changes, so that
hearing the same twice, or in another order, comes to the same. A session that is still active is ended first.

One report takes at most `CALLS` storage calls where nobody else changes these rows: the license state, the active row
and the commit of its end, a page of ended rows (two for a borrowed seat) and the row, and a commit with a month's row.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from licensing.crypto.tokens import Lease
from licensing.errors import ConflictError, UnavailableError
from licensing.rules.grace import heard
from licensing.rules.requests import End
from licensing.rules.totals import month_of
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register, StoredEnd

CALLS: Final = 8
TRIES: Final = 5
"""How often a report is tried again after others have changed the same row."""
CLOCKS_DIFFER: Final = timedelta(minutes=1)
"""A session may have ended so much before its lease was issued: the lease is issued after the commit, by any clock."""


@dataclass(eq=False, repr=False)
class LateEnds:
    """Hears of programs that ran on. `clock` gives the present time, UTC."""

    register: Register
    ledger: Ledger
    clock: Callable[[], datetime]
    status_cache_seconds: float = 0

    async def hear(self, lease: Lease, ran_until: datetime) -> None:
        """Note until when the program of a genuine lease ran (UTC); idempotent. Nothing is done for an unknown session.

        Raises UnavailableError if the store cannot be used now.
        """
        now = self.clock()
        ran_until = min(lease.latest(ran_until), now)
        state = await self.ledger.state(lease.license_id, self.status_cache_seconds)
        if state is None:
            return
        await self.ledger.submit(lease.license_id, End(lease.session_id))
        if not state.recorded:  # an opt-out: nothing more is collected
            return
        for _ in range(TRIES):
            found = await self._find(lease)
            if found is None or (change := heard(found.value, ran_until, state.terms, now)) is None:
                return
            ended, late = change
            try:
                await self.register.note_tail(
                    lease.license_id, found, ended, round(late.total_seconds()), month_of(now.date())
                )
            except ConflictError:
                continue  # another report, a correction, an erasure or retention came in between
            return
        raise UnavailableError("too many others change this session at once")

    async def _find(self, lease: Lease) -> StoredEnd | None:
        """The row of a session that has ended: a borrowed one probably ended with its lease, others after its issue."""
        for since in (lease.expires_at, lease.issued_at) if lease.borrowed else (lease.issued_at,):
            begun_by = lease.issued_at + CLOCKS_DIFFER
            found = await self.register.find_end(lease.license_id, lease.session_id, since - CLOCKS_DIFFER, begun_by)
            if found is not None:
                return found
        return None
