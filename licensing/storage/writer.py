"""Group commit: one writer per process and license decides a batch of requests and commits it as one transaction.

If a plan changes the license state, its first write is the state, If-Match the ETag that the plan rests on. A
transaction can conflict at each kind of row:

- the license state: another process has written it. It is read again. Rows that are there stay facts: the transaction
  demands their own versions. If the store names no row, nothing stays.
- an active session or a shared seat: it is not as the plan assumed. That row is read, and all that came from the cache;
  from the second conflict on, all rows of the batch are.
- a denial: the wait began before. Its row is merged instead of inserted.
- the license file that was kept: it is gone. Whether there is one is read again.
- an ended session: its id ended before, at this very microsecond. It ends a microsecond later.

If no answer comes, the transaction may have been done (a lost reply). Everything is read again. A state that bears one
of the batch's commit ids says that it was done; if another process has written since, the rows say so.
"""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

from licensing.errors import ConflictError, UnavailableError
from licensing.rules.model import UNKNOWN, EndedSession, LicenseState, Versioned
from licensing.rules.requests import End, Outcome, Request, Start
from licensing.rules.seats import Facts, Plan, Questions, decide
from licensing.storage.outages import Outages
from licensing.storage.reads import Reads
from licensing.storage.register import (
    Change,
    Register,
    RowKind,
    denial_change,
    drop_file_change,
    end_changes,
    file_change,
    new_commit_id,
    renewal_change,
    seat_change,
    start_change,
    state_change,
)
from licensing.storage.retry import backoff, batch_deadline, yield_to_others
from licensing.storage.row_cache import RowCache
from licensing.storage.state_cache import StateCache
from licensing.storage.tables import TRANSACTION_ROWS


@dataclass(frozen=True, slots=True)
class Answer:
    """The outcome of a request, and the license state after it (None: there is no such license)."""

    outcome: Outcome
    state: LicenseState | None


@dataclass(slots=True)
class _Batch:
    """What a batch of requests has learned and tried so far.

    `cached` are sessions and holders whose rows came from the cache, `unread` sessions to be read first. `sent` are the
    plans that were sent, by their commit ids. `conflicts` are counted by the kind of the losing row. `denied` are
    sessions with a denial of today; `denials_read` are those for which that was read. `delays` are the microseconds by
    which a session's end is put off.
    """

    requests: Sequence[Request]
    facts: Facts
    cached: set[str] = field(default_factory=set)
    unread: set[str] = field(default_factory=set)
    sent: dict[str, Plan] = field(default_factory=dict)
    conflicts: Counter[RowKind] = field(default_factory=Counter)
    denied: set[str] = field(default_factory=set)
    denials_read: set[str] = field(default_factory=set)
    delays: Counter[str] = field(default_factory=Counter)


class Writer:
    """Handles the batches of one license, one at a time."""

    def __init__(
        self,
        register: Register,
        license_id: str,
        cache: StateCache,
        rows: RowCache,
        outages: Outages,
        clock: Callable[[], datetime],
    ) -> None:
        self._register = register
        self._license_id = license_id
        self._cache = cache
        self._rows = rows
        self._clock = clock
        self._outages = outages
        self._reads = Reads(register, license_id, cache, outages, clock)

    async def handle(self, requests: Sequence[Request]) -> dict[int, Answer]:
        """Decide and commit a batch; decisions by place, at least one.

        Raises UnavailableError if that does not succeed in time.
        """
        batch = self._batch(requests)
        deadline = batch_deadline()
        for attempt in itertools.count():
            try:
                plan = await self._attempt(batch)
            except UnavailableError:
                self._cache.clear()
                batch.facts = Facts(outage=self._outages.last)
                if time.monotonic() > deadline:
                    raise
                await backoff(attempt, 0.1)
                continue
            if plan is not None:
                return {place: Answer(outcome, plan.state) for place, outcome in plan.outcomes.items()}
            if time.monotonic() > deadline:
                break
        raise UnavailableError("too many others change this license at once")

    async def pause(self) -> None:
        """Give other processes that change the license their turn; meanwhile the next batch grows."""
        if self._cache.contended:
            await yield_to_others()

    def _batch(self, requests: Sequence[Request]) -> _Batch:
        """A batch with what is cached. Only what ends may rest on a cached row: the repeat of a start writes nothing.

        Where other processes change the license at this time, cached rows probably are stale.
        """
        batch, today, contended = _Batch(requests, self._cache.facts()), self._today(), self._cache.contended
        batch.facts.outage = self._outages.last
        for request in requests:
            if ending := _session_to_end(request):
                row = self._rows.session(self._license_id, ending)
                if row and not contended:
                    batch.facts.sessions[ending] = row
                    batch.cached.add(ending)
                    if row.value.shares and (seat := self._rows.seat(self._license_id, row.value.holder)):
                        batch.facts.seats[row.value.holder] = seat
                        batch.cached.add(row.value.holder)
                else:
                    batch.unread.add(ending)
            if self._rows.denied_on(self._license_id, request.session_id) == today:
                batch.denied.add(request.session_id)
        self._learn_denials(batch)
        return batch

    def _learn_denials(self, batch: _Batch) -> None:
        """Whoever asked from its place in line today has a denial of today: both were written together."""
        state = batch.facts.known_state
        waiters = state.line if state else ()
        today = self._today()
        asked = {place.session_id for place in waiters if place.heard_at.astimezone(UTC).date() == today}
        batch.denied |= asked - batch.denials_read  # it may have been erased since

    async def _attempt(self, batch: _Batch) -> Plan | None:
        """Decide and commit; None where the batch has learned something and must be decided again."""
        if batch.unread:
            await self._reads.read(batch.facts, Questions(sessions=batch.unread))
            batch.unread = set()
            if self._cache.contended:  # then the state has grown old meanwhile; a lost commit costs more than a read
                batch.facts.state = UNKNOWN
        decided = decide(batch.facts, batch.requests, self._clock(), TRANSACTION_ROWS - 1)
        if isinstance(decided, Questions):
            if decided.state:
                return await self._read_state(batch)
            await self._reads.read(batch.facts, decided)
            return None
        commit_id = new_commit_id()
        changes = self._changes(batch, decided, commit_id)
        await self._add_to_directory(decided)
        if changes:
            # Noted before it is sent. If the reply is lost, a state with this id says that the commit succeeded.
            batch.sent[commit_id] = decided
            try:
                etags = await self._register.commit(self._license_id, changes)
            except ConflictError as conflict:
                await self._after_conflict(batch, decided, changes, conflict)
                return None
            if decided.state and decided.changes_state:
                self._cache.store(Versioned(decided.state, etags[0]))
            self._rows.store(self._license_id, changes, etags)
            batch.facts.learn({row.value.session.id: None for row in decided.ended})
        return decided

    async def _read_state(self, batch: _Batch) -> Plan | None:
        """Read the state; the plan of this batch that it shows to be committed, if there is one.

        A row that was absent before is read again: the state may count it, and no start is refused for a seat that it
        holds itself.
        """
        state, batch.facts = await self._cache.read(), batch.facts.present()
        batch.facts.state, batch.facts.fresh, batch.facts.lapsing = state, True, self._cache.lapsing
        self._learn_denials(batch)
        return batch.sent.get(state.commit_id) if state else None

    # Commit.

    def _changes(self, batch: _Batch, plan: Plan, commit_id: str) -> list[Change]:
        """The transaction of a plan, the license state first: if that has changed, nothing else matters."""
        now = self._clock()
        changes = []
        if plan.state and plan.changes_state:
            changes.append(state_change(plan.before, plan.state, commit_id))
        if plan.file:
            changes.append(file_change(plan.file))
        elif plan.drops_file:
            changes.append(drop_file_change())
        changes += map(start_change, plan.started)
        changes += map(renewal_change, plan.renewed)
        for row in plan.ended:
            changes += end_changes(_delayed(row, batch.delays))
        changes += (seat_change(holder, change) for holder, change in plan.seats.items() if change.needs_write)
        changes += (denial_change(session, now, again=session in batch.denied) for session in plan.denied)
        return changes

    async def _add_to_directory(self, plan: Plan) -> None:
        """Note a license whose terms are new, before its state: maintenance then finds all that have sessions."""
        if plan.state and (plan.before is None or plan.before.value.terms != plan.state.terms):
            await self._register.add_to_directory(self._license_id, plan.state.terms)

    # Conflicts.

    async def _after_conflict(
        self, batch: _Batch, plan: Plan, changes: Sequence[Change], conflict: ConflictError
    ) -> None:
        """Learn from the row at which a transaction conflicts; if the store names none, the state is meant."""
        losing = None if conflict.index is None else changes[conflict.index]
        kind = losing.kind if losing else RowKind.STATE
        batch.conflicts[kind] += 1
        match losing:
            case None | Change(kind=RowKind.STATE):
                self._cache.lost()
                batch.facts = batch.facts.present() if losing else Facts(outage=batch.facts.outage)
                if losing is None:
                    await self._read_denials(batch, plan.denied)
                # The read that follows is wait enough; a longer one would let those who just won win again.
                await backoff(batch.conflicts[kind] // 10, 0.005)
            case Change(kind=RowKind.ACTIVE | RowKind.SEAT):
                await self._reads.read(batch.facts, _rows_to_reread(batch, plan, losing))
            case Change(kind=RowKind.ENDED, name=session_id):
                batch.delays[session_id] += 1
            case Change(kind=RowKind.FILE):
                batch.facts.file = UNKNOWN
            case Change(kind=RowKind.DENIED, name=session_id):
                await self._read_denials(batch, [session_id] if batch.conflicts[kind] == 1 else plan.denied)

    async def _read_denials(self, batch: _Batch, session_ids: Sequence[str]) -> None:
        found = await self._register.denied(self._license_id, session_ids, self._today())
        batch.denials_read.update(session_ids)
        batch.denied.difference_update(session_ids)
        batch.denied |= found

    def _today(self) -> date:
        return self._clock().astimezone(UTC).date()


def _session_to_end(request: Request) -> str | None:
    """The session that a request ends, if it is active."""
    match request:
        case End(session_id):
            return session_id
        case Start(replaces=session_id):
            return session_id
    return None


def _rows_to_reread(batch: _Batch, plan: Plan, losing: Change) -> Questions:
    """What to read after a conflict at a session or a seat: that row and the cached ones, or from the second on all."""
    sessions = {request.session_id for request in batch.requests} | {row.value.session.id for row in plan.ended}
    seats = set(plan.seats)
    if batch.conflicts[RowKind.ACTIVE] + batch.conflicts[RowKind.SEAT] == 1:
        suspected = {losing.name, *batch.cached}
        return Questions(sessions=sessions & suspected, seats=seats & suspected)
    return Questions(sessions=sessions, seats=seats)


def _delayed(row: Versioned[EndedSession], delays: Mapping[str, int]) -> Versioned[EndedSession]:
    """An end at a time at which no earlier use of the same id has ended."""
    delay = timedelta(microseconds=delays.get(row.value.session.id, 0))
    return Versioned(replace(row.value, ended_at=row.value.ended_at + delay), row.etag) if delay else row
