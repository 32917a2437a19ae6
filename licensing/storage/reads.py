"""Answers to the questions that a decision asks: rows become facts."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from licensing.rules.model import Session, Versioned
from licensing.rules.seats import Facts, Questions
from licensing.storage.register import Register
from licensing.storage.state_cache import StateCache


class Reads:
    """Reads the sessions and seats of one license."""

    def __init__(self, register: Register, license_id: str, cache: StateCache, clock: Callable[[], datetime]) -> None:
        self._register = register
        self._license_id = license_id
        self._cache = cache
        self._clock = clock

    async def read(self, facts: Facts, questions: Questions) -> None:
        """Read what is asked for into `facts`; the state must be known.

        Raises UnavailableError if the store does not answer.
        """
        sessions, seats, _ = await asyncio.gather(
            self._register.sessions(self._license_id, questions.sessions, in_use(facts)),
            self._register.seats(self._license_id, questions.seats, in_use(facts)),
            self._survey(facts) if questions.survey else asyncio.sleep(0),
        )
        facts.sessions.update(sessions)
        facts.seats.update(seats)

    async def _survey(self, facts: Facts) -> None:
        """Read all active sessions, and with them until when none of them can lapse."""
        now = self._clock()
        active: dict[str, Versioned[Session] | None] = {}
        ends = []
        async for row in self._register.active(self._license_id):
            active[row.value.id] = row
            ends.append(row.value.expires_at)
        facts.sessions, facts.complete = active, True
        # No lease that is granted from now on ends sooner than an ordinary one.
        state = facts.known_state
        lease = timedelta(seconds=state.terms.lease_seconds if state else 0)
        self._cache.earliest_lapse = facts.earliest_lapse = min((now + lease, *ends))


def in_use(facts: Facts) -> int:
    """How many seats are held, as far as that is known: about as many sessions are to be read."""
    return facts.known_state.in_use if facts.known_state else 0
