"""Answers to the questions that a decision asks: rows become facts."""

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from datetime import datetime

from licensing.rules.model import Session, Unknown, Versioned
from licensing.rules.seats import Facts, Lapsing, Questions, lapsing_until
from licensing.storage.outages import Outages
from licensing.storage.register import COMPARED_IDS, Register
from licensing.storage.state_cache import StateCache
from licensing.storage.tables import TRANSACTION_ROWS


class Reads:
    """Reads the sessions and seats of one license."""

    def __init__(
        self, register: Register, license_id: str, cache: StateCache, outages: Outages, clock: Callable[[], datetime]
    ) -> None:
        self._register = register
        self._license_id = license_id
        self._cache = cache
        self._outages = outages
        self._clock = clock

    async def read(self, facts: Facts, questions: Questions) -> None:
        """Read what is asked for into `facts`; the state must be known if it is asked who lapses.

        Raises UnavailableError if the store does not answer.
        """
        sessions, repeats, seats = await asyncio.gather(
            self._register.sessions(self._license_id, questions.sessions),
            self._repeats_and_lapsing(facts, questions),
            self._register.seats(self._license_id, questions.seats),
        )
        facts.learn(sessions | repeats)
        facts.seats.update(seats)
        if questions.outage:
            facts.outage = await self._outages.read()
        if questions.file:
            facts.file = await self._register.keeps_file(self._license_id)

    async def _repeats_and_lapsing(self, facts: Facts, questions: Questions) -> dict[str, Versioned[Session] | None]:
        """The sessions that starts repeat, by their ids; those that lapse soon go to `facts` and the cache."""
        repeats = questions.repeats
        if not questions.lapsing:
            return await self._register.repeats(self._license_id, repeats)
        if len(repeats) <= COMPARED_IDS:
            return await self._read_lapsing(facts, repeats)
        found, _ = await asyncio.gather(
            self._register.repeats(self._license_id, repeats), self._read_lapsing(facts, set())
        )
        return found

    async def _read_lapsing(self, facts: Facts, also: set[str]) -> dict[str, Versioned[Session] | None]:
        """Read who lapses soon, or as many who have lapsed as a transaction can end, and some sessions besides."""
        state, now = facts.known_state, self._clock()
        if state is None:
            raise AssertionError("a license without a state has no sessions")
        until = lapsing_until(now, state.terms)
        found: dict[str, Versioned[Session]] = {}
        absent: dict[str, Versioned[Session] | None] = dict.fromkeys(also)
        outage = None if isinstance(facts.outage, Unknown) else facts.outage
        lapsed = 0
        held = state.terms.hold_seconds > 0
        async with aclosing(self._register.lapsing(self._license_id, until, sorted(also), held=held)) as pages:
            async for page in pages:
                found |= {row.value.id: row for row in page}
                lapsed += sum(row.value.lapse_after(outage) <= now for row in page)
                if lapsed >= TRANSACTION_ROWS:  # the rest is not known
                    until, absent = now, {}
                    break
            else:
                facts.asked = True
        rows = {name: row for name, row in found.items() if row.value.lapses_at <= until}
        facts.lapsing = Lapsing(until, rows)
        self._cache.store_lapsing(facts.lapsing, state.terms)
        return absent | {name: row for name, row in found.items() if name in also}
