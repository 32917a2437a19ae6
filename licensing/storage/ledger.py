"""The seat ledger: what services ask of the seats of a license.

What holds at every instant, for any number of processes, any interleaving, a crash anywhere and any lost reply:

1. the distinct holders among the active sessions are the state's `in_use`, at most seats + overdraft, and each shared
   seat counts its active sessions;
2. a session is active or ended, never both, never lost;
3. what was answered with success is committed;
4. a repeated request changes nothing.

A start, an end or a lapse goes: batch queue (`batching`), writer (`writer`), decision (`rules.seats`), one transaction.
A heartbeat has a queue and a writer of its own (`heartbeats`).
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from licensing.errors import ConflictError
from licensing.rules.line import Line, live, without
from licensing.rules.model import KeptFile, LicenseState, Session, Status, Terms, Unknown
from licensing.rules.requests import Heartbeat, Request
from licensing.rules.usage import midnight
from licensing.storage.batching import BatchQueue, no_pause
from licensing.storage.heartbeats import HeartbeatWriter
from licensing.storage.outages import Outages
from licensing.storage.register import Change, Register, file_change, new_commit_id, state_change
from licensing.storage.row_cache import RowCache
from licensing.storage.state_cache import StateCache
from licensing.storage.writer import Answer, Writer

__all__ = ["Answer", "Heartbeat", "Ledger"]

CACHED_LICENSES: Final = 10_000


class Ledger:
    """The seats of all licenses, as one process sees and changes them. It belongs to the running event loop.

    A process that does not serve programs, such as a command, is opened with `serves` False: it marks no time at which
    the service was alive. Each method raises UnavailableError if the store cannot be used now.
    """

    def __init__(self, register: Register, clock: Callable[[], datetime], *, serves: bool = True) -> None:
        self._register = register
        self._clock = clock
        self._outages = Outages(register, clock, marks=serves)
        self._rows = RowCache()
        self._licenses: dict[str, _License] = {}

    def now(self) -> datetime:
        """The present time (UTC), by which requests are decided."""
        return self._clock()

    async def mark_alive(self) -> None:
        """Mark that the service is alive, unless this process serves nobody."""
        await self._outages.read()

    async def keep_alive(self) -> None:
        """Mark every minute that the service is alive, until it is cancelled."""
        await self._outages.keep_marking()

    async def close(self) -> None:
        """Finish what goes on in the background."""
        await self._outages.close()

    async def submit(self, license_id: str, request: Request) -> Answer:
        """Start, end, lapse or recall a session; the decision is committed."""
        self._outages.touch()
        return await self._license(license_id).requests.submit(request)

    async def heartbeat(self, license_id: str, heartbeat: Heartbeat) -> bool:
        """Note a heartbeat; False where the session is not active."""
        self._outages.touch()
        return await self._license(license_id).heartbeats.submit(heartbeat)

    async def state(self, license_id: str, max_age_seconds: float = 0) -> LicenseState | None:
        """The state of a license, read at most so long ago; None where there is no such license."""
        known = await self._license(license_id).cache.get(max_age_seconds)
        return known.value if known else None

    def state_age(self, license_id: str) -> timedelta:
        """How long ago the cached state of a license was read or written; nothing where none is cached."""
        return timedelta(seconds=self._license(license_id).cache.age_seconds)

    def waiters(self, state: LicenseState, age: timedelta = timedelta()) -> Line:
        """Who waits in line for a seat of a license in this state, the first first.

        `age` is how long ago it was read. Since then waiters may have asked elsewhere: nobody has left by that time.
        """
        outage = self._outages.last
        return live(state.line, self._clock() - age, None if isinstance(outage, Unknown) else outage)

    def waiting(self, state: LicenseState, age: timedelta = timedelta()) -> int:
        """How many wait in line for a seat of a license in this state; as for `waiters`."""
        return len(self.waiters(state, age))

    async def session(self, license_id: str, session_id: str) -> Session | None:
        """An active session; None where it is not active."""
        return await self._register.session(license_id, session_id)

    async def set_status(
        self, license_id: str, *, suspended: bool, initial: LicenseState | None = None
    ) -> LicenseState | None:
        """Suspend or reinstate a license; its state afterwards.

        A license that is not in the register comes into being as `initial`; without that, None.
        """
        status = Status.SUSPENDED if suspended else Status.ACTIVE
        return await self._amend(license_id, lambda state: replace(state, status=status), initial)

    async def set_collect(
        self, license_id: str, *, collect: bool, initial: LicenseState | None = None
    ) -> LicenseState | None:
        """Have sessions recorded under a license, or not; as for `set_status`."""
        return await self._amend(license_id, lambda state: replace(state, collect=collect), initial)

    async def publish(self, license_id: str, terms: Terms, file: KeptFile) -> LicenseState | None:
        """Put a license under newer terms, and keep their file for desks with older ones; its state afterwards.

        A license that is not in the register comes into being. None where the register has still newer terms.
        """
        today = midnight(self._clock().date())

        def published(state: LicenseState) -> LicenseState | None:
            if state.terms.serial > terms.serial:
                return None
            if state.terms.serial == terms.serial:
                return replace(state, terms=state.terms.completed(terms))
            return state.under(terms, today)

        return await self._amend(license_id, published, LicenseState(terms, since=today), [file_change(file)])

    async def update_recalls(self, license_id: str, ended: Collection[str] = ()) -> None:
        """Note that recalled sessions have ended, and forget those that ended more than a day ago."""
        now = self._clock()

        def updated(state: LicenseState) -> LicenseState:
            for session_id in ended:
                state = state.with_ended(session_id, now)
            return state.without_old_recalls(now)

        await self._amend(license_id, updated, None)

    async def forget_recalls(self, license_id: str, session_ids: Collection[str]) -> None:
        """Forget that some sessions were recalled."""
        state = await self.state(license_id)
        if state and any(map(state.recalls, session_ids)):
            await self._amend(license_id, lambda state: state.without_recalls(session_ids), None)

    async def clear_line(self, license_id: str, session_ids: Collection[str] | None = None) -> int:
        """Take away the places of some sessions, or those of all; how many there were.

        A program that waits on gets a place at the end of the line when it asks again.
        """
        gone: Line = ()

        def cleared(state: LicenseState) -> LicenseState | None:
            nonlocal gone
            left = () if session_ids is None else without(state.line, session_ids)
            gone = tuple(place for place in state.line if place not in left)
            return replace(state, line=left) if gone else None

        await self._amend(license_id, cleared, None)
        return len(gone)

    async def clear_left(self, license_id: str, max_age_seconds: float = 0) -> None:
        """Clear the places of those who have left, going by a state that is at most so old."""
        state = await self.state(license_id, max_age_seconds)
        if state is None or len(live(state.line, self._clock(), None)) == len(state.line):
            return
        outage = await self._outages.read()

        def cleared(state: LicenseState) -> LicenseState | None:
            waiters = live(state.line, self._clock(), outage)
            return replace(state, line=waiters) if waiters != state.line else None

        await self._amend(license_id, cleared, None)

    async def _amend(
        self,
        license_id: str,
        change: Callable[[LicenseState], LicenseState | None],
        initial: LicenseState | None,
        others: Sequence[Change] = (),
    ) -> LicenseState | None:
        """Change a state and, in the same transaction, other rows; None where there is no state, or no change of it."""
        while True:
            known = await self._license(license_id).cache.get(0)
            state = change(known.value) if known else initial and change(initial)
            if state is None:
                return None
            if known is None or known.value.terms != state.terms:
                await self._register.add_to_directory(license_id, state.terms)
            try:
                await self._register.commit(license_id, [state_change(known, state, new_commit_id()), *others])
            except ConflictError:
                continue  # a start or an end came in between; the change is as good on the next state
            return state

    def _license(self, license_id: str) -> "_License":
        known = self._licenses.get(license_id)
        if known is None:
            if len(self._licenses) >= CACHED_LICENSES:
                self._licenses = {name: each for name, each in self._licenses.items() if not each.idle}
            known = self._licenses[license_id] = _License(
                self._register, license_id, self._rows, self._outages, self._clock
            )
        return known


class _License:
    """What one process keeps for one license: the cached state and two queues with their writers."""

    def __init__(
        self, register: Register, license_id: str, rows: RowCache, outages: Outages, clock: Callable[[], datetime]
    ) -> None:
        self.cache = StateCache(register, license_id)
        writer = Writer(register, license_id, self.cache, rows, outages, clock)
        self.requests = BatchQueue(writer.handle, writer.pause)
        self.heartbeats = BatchQueue(HeartbeatWriter(register, license_id, rows).handle, no_pause)

    @property
    def idle(self) -> bool:
        return self.requests.idle and self.heartbeats.idle
