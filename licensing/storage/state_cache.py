"""What one process knows of a license's state between batches.

A cached state is a shortcut and never the truth: a plan that rests on a stale one fails at its commit.
"""

import asyncio
import math
import time
from typing import Final

from licensing.rules.model import UNKNOWN, LicenseState, Terms, Unknown, Versioned
from licensing.rules.seats import Facts, Lapsing
from licensing.storage.register import Register, StoredState

CONTENDED_SECONDS: Final = 1.0
"""For so long after a commit has lost to another process, the next ones are likely to."""


class StateCache:
    """The cached state of one license."""

    def __init__(self, register: Register, license_id: str) -> None:
        self._register = register
        self._license_id = license_id
        self._state: Versioned[LicenseState] | None = None
        self._terms: Terms | None = None  # kept when the state is forgotten
        self._read_at = -math.inf
        self._lost_at = -math.inf
        self._stores = 0
        self._reading: asyncio.Task[StoredState | None] | None = None
        self.lapsing: Lapsing | None = None
        """Who may lapse soon; None if not known."""

    def facts(self) -> Facts:
        """What a batch can be decided on without reading anything."""
        state: Versioned[LicenseState] | Unknown = self._state or UNKNOWN
        return Facts(state, lapsing=self.lapsing)

    @property
    def contended(self) -> bool:
        """Whether other processes change the state at this time."""
        return time.monotonic() - self._lost_at < CONTENDED_SECONDS

    @property
    def age_seconds(self) -> float:
        """How long ago the cached state was read or written; 0 if none is cached."""
        return time.monotonic() - self._read_at if self._state else 0.0

    async def get(self, max_age_seconds: float) -> Versioned[LicenseState] | None:
        """The state as of at most `max_age_seconds` ago; concurrent callers share one read."""
        if time.monotonic() - self._read_at < max_age_seconds:
            return self._state
        if self._reading is None:
            self._reading = asyncio.create_task(self.read())
            self._reading.add_done_callback(self._read_done)
        return await asyncio.shield(self._reading)

    async def read(self) -> StoredState | None:
        """Read the state, and cache it."""
        began, stores = time.monotonic(), self._stores
        state = await self._register.state(self._license_id)
        if stores == self._stores:  # else a commit of this process is newer than what was read
            self._set(state, began)
        return state

    def store(self, state: Versioned[LicenseState]) -> None:
        """Cache the state that a commit has written."""
        self._stores += 1
        self._set(state, time.monotonic())

    def store_lapsing(self, lapsing: Lapsing, terms: Terms) -> None:
        """Cache who may lapse soon, as it was read under some terms, unless others were seen meanwhile."""
        if terms == self._terms:
            self.lapsing = lapsing

    def lost(self) -> None:
        """Forget the state: another process has written it, and may do so again soon."""
        self._lost_at = time.monotonic()
        self.clear()

    def clear(self) -> None:
        """Forget the state: it is stale, or nobody knows what became of a commit."""
        self._state, self._read_at = None, -math.inf

    def _set(self, state: Versioned[LicenseState] | None, read_at: float) -> None:
        terms = state.value.terms if state else None
        if terms != self._terms:
            self.lapsing = None  # other terms may bring shorter leases
        self._state, self._terms, self._read_at = state, terms, read_at

    def _read_done(self, _: object) -> None:
        self._reading = None
