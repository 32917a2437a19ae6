"""The seat ledger: group commit of starts, ends and lapses on the head's ETag, and of heartbeats on their own rows.

What holds at every instant, for any number of processes, any interleaving, a crash anywhere, any lost reply:

1. the distinct holders among the active rows are the head's `in_use`, at most seats + overdraft, and each `seat:` row
   counts its active rows;
2. a session is active or ended, never both, never lost;
3. what was answered with success is committed;
4. a repeated request changes nothing.

A group is decided by `licensing.rules.seats` and committed as one transaction whose first write is the head, If-Match
the version that the decision rests on. Each way in which that can be lost:

- the head was changed: another process won. Everything is read and decided again, after a random pause.
- a session's or a seat's row was not as assumed: that row is read, and the group is decided again with it; from the
  second such row on, all rows of the group are read at once.
- a denial is there already: the wait goes on, and its row is merged instead.
- an ended session is there already: its id was started again at the very microsecond of its end, and ends a microsecond
  later this time.
- no answer came: what was sent may have been done. Everything is read again; a head that bears one of this group's
  commit ids tells that it was, and where another process has written since, the rows tell.

A heartbeat needs no head: it merges its active row if that is there. A missing row is the truth: the session is gone.
"""

import asyncio
import itertools
import math
import random
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TypeVar

from licensing.errors import ConflictError, Mismatch, UnavailableError
from licensing.rules.seats import (
    Departure,
    Facts,
    Head,
    Known,
    Outcome,
    Plan,
    Questions,
    Request,
    Session,
    settle,
)
from licensing.storage import register as rows
from licensing.storage.batching import BatchQueue
from licensing.storage.tables import PAGE_ROWS, TRANSACTION_ROWS, Row, Tables, Write, create, merge

GROUP_SECONDS = 6.0
"""How long a group is tried before its callers are told to come back."""

REMEMBERED_DESKS = 10_000

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Decision:
    """The outcome of a request, and the head as it was left (None: there is no such license)."""

    outcome: Outcome
    head: Head | None


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """A heartbeat: the session runs at `at`, and may until `expires_at`."""

    session: str
    at: datetime
    expires_at: datetime


class Ledger:
    """The seats of all licenses, as one process sees and changes them. It belongs to the running event loop."""

    def __init__(self, tables: Tables, clock: Callable[[], datetime]) -> None:
        self._tables = tables
        self._clock = clock
        self._desks: dict[str, _Desk] = {}

    async def submit(self, license: str, request: Request) -> Decision:
        """Start, end or lapse a session; the answer is committed. UnavailableError if the store fails."""
        return await self._desk(license).turns.submit(request)

    async def beat(self, license: str, beat: Heartbeat) -> bool:
        """Note a heartbeat; False where the session is not active (any more)."""
        return await self._desk(license).beats.submit(beat)

    async def head(self, license: str, max_age: float = 0) -> Head | None:
        """The head of a license, read at most `max_age` seconds ago; None where there is no such license."""
        known = await self._desk(license).head(max_age)
        return known.value if known else None

    async def session(self, license: str, session: str) -> Session | None:
        """An active session, None where it is not."""
        row = await self._tables.get("register", license, rows.ACTIVE + session)
        return rows.session_value(row).value if row else None

    async def set_status(self, license: str, *, suspended: bool, unknown: Head | None = None) -> Head | None:
        """Suspend or reinstate a license; its head afterwards.

        A license that is not in the register comes into being as `unknown`; without that, None.
        """
        return await self._amend(license, lambda head: replace(head, suspended=suspended), unknown)

    async def set_collect(self, license: str, *, collect: bool, unknown: Head | None = None) -> Head | None:
        """Have sessions recorded under a license, or not; as for `set_status`."""
        return await self._amend(license, lambda head: replace(head, collect=collect), unknown)

    async def _amend(self, license: str, change: Callable[[Head], Head], unknown: Head | None) -> Head | None:
        while True:
            known = await self._desk(license).head(0)
            if known is not None:
                head = change(known.value)
                write = merge(rows.HEAD, {**rows.state_columns(head), "commit": _commit_id()}, known.version)
            elif unknown is not None:
                head = change(unknown)
                write = create(rows.HEAD, {**rows.head_columns(head), "commit": _commit_id()})
                entries = rows.directory_entries(license, head.terms)
                await self._tables.commit("directory", head.terms.organization, entries)
            else:
                return None
            try:
                await self._tables.commit("register", license, [write])
            except ConflictError:
                continue  # a start or an end came in between; the change is as good on the next head
            return head

    def _desk(self, license: str) -> "_Desk":
        desk = self._desks.get(license)
        if desk is None:
            if len(self._desks) >= REMEMBERED_DESKS:
                self._desks = {name: desk for name, desk in self._desks.items() if not desk.idle}
            desk = self._desks[license] = _Desk(self._tables, license, self._clock)
        return desk


@dataclass(slots=True)
class _Group:
    """What a group of requests has learned and tried so far."""

    requests: Sequence[Request]
    facts: Facts
    attempts: dict[str, Plan] = field(default_factory=dict)
    conflicts: int = 0
    denied_before: set[str] = field(default_factory=set)
    """Keys of the denials that are there already."""
    ended_before: set[str] = field(default_factory=set)
    """Keys of ended sessions that are there already."""


class _Desk:
    """Where one process keeps one license: what it remembers of the head, and the two lanes."""

    def __init__(self, tables: Tables, license: str, clock: Callable[[], datetime]) -> None:
        self._tables = tables
        self._license = license
        self._clock = clock
        self.turns: BatchQueue[Request, Decision] = BatchQueue(self._take_turn)
        self.beats: BatchQueue[Heartbeat, bool] = BatchQueue(self._note_beats)
        self._known: Known[Head] | None = None
        self._known_at = -math.inf
        self._commits = 0
        self._reading: asyncio.Task[tuple[Known[Head] | None, str]] | None = None
        self._quiet_until: datetime | None = None

    @property
    def idle(self) -> bool:
        return self.turns.idle and self.beats.idle

    # The head.

    async def head(self, max_age: float) -> Known[Head] | None:
        """The head, read at most `max_age` seconds ago; all who wait share one read."""
        if time.monotonic() - self._known_at < max_age:
            return self._known
        if self._reading is None:
            self._reading = asyncio.create_task(self._read_head())
            self._reading.add_done_callback(self._read)
        return (await asyncio.shield(self._reading))[0]

    def _read(self, _: object) -> None:
        self._reading = None

    async def _read_head(self) -> tuple[Known[Head] | None, str]:
        """Read the head; also the id of the commit that left it so."""
        began, commits = time.monotonic(), self._commits
        row = await self._tables.get("register", self._license, rows.HEAD)
        known = rows.head_value(row) if row else None
        if commits == self._commits:  # else a commit of our own is newer than what was read
            self._remember(known, began)
        return known, row.columns.get("commit", "") if row else ""

    def _remember(self, known: Known[Head] | None, at: float) -> None:
        if self._known is None or known is None or self._known.value.terms != known.value.terms:
            self._quiet_until = None  # other terms may bring shorter leases
        self._known, self._known_at = known, at

    def _forget(self) -> None:
        self._known, self._known_at = None, -math.inf

    # Turns.

    async def _take_turn(self, requests: Sequence[Request]) -> dict[int, Decision]:
        group = _Group(requests, Facts(self._known, quiet_until=self._quiet_until))
        give_up = time.monotonic() + GROUP_SECONDS
        for attempt in itertools.count():
            try:
                turn = await self._try_turn(group)
            except UnavailableError:
                self._forget()
                group.facts = Facts()
                if time.monotonic() > give_up:
                    raise
                await _pause(attempt, 0.1)
            else:
                if turn is not None:
                    return {place: Decision(outcome, turn.head) for place, outcome in turn.outcomes.items()}
                if time.monotonic() > give_up:
                    raise UnavailableError("too many others change this license at once")
        raise AssertionError("unreachable")

    async def _try_turn(self, group: _Group) -> Plan | None:
        """Decide and commit, or learn what is needed to; None where that has to be done again."""
        decision = settle(group.facts, group.requests, self._clock(), TRANSACTION_ROWS - 1)
        if isinstance(decision, Questions):
            return await self._learn(group, decision)
        writes = self._writes(group, decision)
        try:
            await self._commit(group, decision, writes)
        except ConflictError as conflict:
            await self._reconsider(group, decision, writes, conflict)
            return None
        return decision

    def _writes(self, group: _Group, turn: Plan) -> list[Write]:
        """The transaction of a turn, the head first: where that has changed, nothing else matters."""
        now = self._clock()
        head = [self._head_write(group, turn)] if turn.head and _moves_head(group, turn) else []
        arrivals = (rows.arrival(session) for session in turn.arrivals)
        revivals = map(rows.revival, turn.revivals)
        departures = (write for departure in turn.departures for write in rows.departure(_apart(group, departure)))
        seats = (rows.seat(holder, known, sessions) for holder, (known, sessions) in turn.seats.items())
        denials = (
            rows.denial(session, now, again=rows.denied_key(session, now) in group.denied_before)
            for session in turn.denied
        )
        return [*head, *arrivals, *revivals, *departures, *filter(None, seats), *denials]

    def _head_write(self, group: _Group, turn: Plan) -> Write:
        commit_id = _commit_id()
        group.attempts[commit_id] = turn
        known, head = group.facts.head, turn.head
        if head is None:
            raise AssertionError("a turn that moves the head has one")
        if known is None:
            return create(rows.HEAD, {**rows.head_columns(head), "commit": commit_id})
        terms = {} if head.terms == known.value.terms else rows.terms_columns(head.terms)
        return merge(rows.HEAD, {**terms, "in_use": head.in_use, "commit": commit_id}, known.version)

    async def _commit(self, group: _Group, turn: Plan, writes: Sequence[Write]) -> None:
        known = group.facts.head
        if turn.head and (known is None or known.value.terms != turn.head.terms):
            # First, so that maintenance finds every license that has sessions, whatever happens here.
            entries = rows.directory_entries(self._license, turn.head.terms)
            await self._tables.commit("directory", turn.head.terms.organization, entries)
        if not writes:
            return
        etags = await self._tables.commit("register", self._license, writes)
        if turn.head and writes[0].key == rows.HEAD:
            self._commits += 1
            self._remember(Known(turn.head, etags[0]), time.monotonic())

    async def _learn(self, group: _Group, questions: Questions) -> Plan | None:
        """Read what is asked. An earlier try of this group turns out to have been done where the head says so."""
        facts = group.facts
        if questions.head:
            # Alone, and before the rows: a full house is told from a head that is older than what the rows say.
            facts.head, commit_id = await self._read_head()
            facts.fresh, facts.quiet_until = True, self._quiet_until
            facts.surveyed = facts.head is None  # then there are no sessions either
            return group.attempts.get(commit_id)
        active, seats, _ = await asyncio.gather(
            self._find(facts, rows.ACTIVE, questions.active, rows.session_value),
            self._find(facts, rows.SEAT, questions.seats, rows.seat_value),
            self._survey(facts) if questions.survey else _nothing(),
        )
        facts.active.update(active)
        facts.seats.update(seats)
        return None

    async def _survey(self, facts: Facts) -> None:
        """Read all active rows, and with them until when none of them can lapse."""
        now = self._clock()
        active: dict[str, Known[Session] | None] = {}
        async for row in self._tables.rows("register", self._license, rows.ACTIVE, rows.beyond(rows.ACTIVE)):
            known = rows.session_value(row)
            active[known.value.id] = known
        facts.active, facts.surveyed = active, True
        # No lease that is granted from now on ends sooner than an ordinary one.
        ordinary = timedelta(seconds=facts.head.value.terms.lease) if facts.head else timedelta(0)
        ends = (known.value.expires_at for known in active.values() if known)
        self._quiet_until = facts.quiet_until = min((now + ordinary, *ends))

    async def _find(
        self, facts: Facts, prefix: str, names: Iterable[str], value: Callable[[Row], Known[Found]]
    ) -> dict[str, Known[Found] | None]:
        """Read some rows of a kind one by one, or as a key range where that is fewer calls."""
        wanted = sorted(names)
        in_use = facts.head.value.in_use if facts.head else 0
        if len(wanted) <= 2 + in_use // PAGE_ROWS:
            found = await asyncio.gather(
                *(self._tables.get("register", self._license, prefix + name) for name in wanted)
            )
            return {name: value(row) if row else None for name, row in zip(wanted, found, strict=True)}
        known: dict[str, Known[Found] | None] = dict.fromkeys(wanted)
        last = prefix + wanted[-1] + " "  # the first key that sorts after it
        async for row in self._tables.rows("register", self._license, prefix + wanted[0], last):
            name = row.key.removeprefix(prefix)
            if name in known:
                known[name] = value(row)
        return known

    async def _reconsider(self, group: _Group, turn: Plan, writes: Sequence[Write], conflict: ConflictError) -> None:
        """Learn from a lost transaction: whose row was not as assumed, and what it is like."""
        key = rows.HEAD if conflict.index is None else writes[conflict.index].key
        group.conflicts += 1
        if key == rows.HEAD:
            self._forget()
            group.facts = Facts()
            await _pause(group.conflicts, 0.005)
        elif key.startswith(rows.ENDED):
            group.ended_before.add(key)
        elif key.startswith(rows.DENIED):
            now = self._clock()
            again = {key} if group.conflicts == 1 else {rows.denied_key(session, now) for session in turn.denied}
            names = {name.removeprefix(rows.DENIED) for name in again}
            found = await self._find(group.facts, rows.DENIED, names, lambda row: Known(row.key, row.etag))
            group.denied_before -= again
            group.denied_before |= {row.value for row in found.values() if row}
        elif group.conflicts == 1 and key.startswith(rows.ACTIVE):
            await self._learn(group, Questions(active={key.removeprefix(rows.ACTIVE)}))
        elif group.conflicts == 1 and key.startswith(rows.SEAT):
            await self._learn(group, Questions(seats={key.removeprefix(rows.SEAT)}))
        else:
            sessions = {request.session for request in group.requests}
            leaving = {departure.row.value.id for departure in turn.departures}
            await self._learn(group, Questions(active=sessions | leaving, seats=set(turn.seats)))

    # Heartbeats.

    async def _note_beats(self, beats: Sequence[Heartbeat]) -> dict[int, bool]:
        latest: dict[str, Heartbeat] = {}
        for beat in beats:
            if beat.session in latest or len(latest) < TRANSACTION_ROWS:
                latest[beat.session] = beat
        gone: set[str] = set()
        give_up = time.monotonic() + GROUP_SECONDS
        for attempt in itertools.count():
            alive = [beat for session, beat in latest.items() if session not in gone]
            try:
                if alive and len(gone) < 3:
                    await self._merge_beats(alive)
                else:
                    gone.update(await self._gone_among(alive))
                break
            except ConflictError as conflict:
                if conflict.index is None:
                    gone.update(await self._gone_among(alive))
                    break
                gone.add(alive[conflict.index].session)
            except UnavailableError:
                if time.monotonic() > give_up:
                    raise
                await _pause(attempt, 0.1)
        return {place: beat.session not in gone for place, beat in enumerate(beats) if beat.session in latest}

    async def _gone_among(self, beats: Iterable[Heartbeat]) -> list[str]:
        """Note heartbeats one by one; the sessions that are not active."""

        async def is_gone(beat: Heartbeat) -> bool:
            try:
                await self._merge_beats([beat])
            except ConflictError:
                return True
            return False

        beats = list(beats)
        gone = await asyncio.gather(*map(is_gone, beats))
        return [beat.session for beat, is_gone in zip(beats, gone, strict=True) if is_gone]

    async def _merge_beats(self, beats: Sequence[Heartbeat]) -> None:
        """Note heartbeats; ConflictError where a session is gone, and for no other reason: they demand no version."""
        writes = [rows.heartbeat(beat.session, beat.at, beat.expires_at) for beat in beats]
        try:
            await self._tables.commit("register", self._license, writes)
        except ConflictError as conflict:
            if conflict.mismatch is Mismatch.GONE:
                raise
            raise UnavailableError("the store refuses a write that demands nothing") from None


def _apart(group: _Group, departure: Departure) -> Departure:
    """An end at a time at which no earlier use of the same id has ended."""
    while rows.ended_key(departure.ended_at, departure.row.value.id) in group.ended_before:
        departure = replace(departure, ended_at=departure.ended_at + timedelta(microseconds=1))
    return departure


def _moves_head(group: _Group, turn: Plan) -> bool:
    known = group.facts.head
    return bool(turn.arrivals or turn.departures or known is None or known.value != turn.head)


def _commit_id() -> str:
    return secrets.token_urlsafe(9)


async def _nothing() -> None:
    return None


async def _pause(attempt: int, seconds: float) -> None:
    """Wait at random, longer with each attempt, so that those who collided do not collide again."""
    await asyncio.sleep(random.uniform(0, min(1.0, seconds * 2 ** min(attempt, 6))))  # noqa: S311 - no secret
