"""Who gets a seat: a batch of requests on one license becomes one plan, without any storage.

The rules, for every license:

1. A floating license has `seats + overdraft` seats; the state's `in_use` counts those held. A grant beyond `seats`
   is an overdraft.
2. A holder occupies one seat. With sharing `none` each session is its own holder. Otherwise all sessions of a user,
   a host, or a user on a host share a seat; it is free when the last of them ends.
3. A license that is not floating takes no seat; its sessions have no holder.
4. The terms of the highest serial hold, and a file with a lower one is superseded. If new terms bring fewer seats
   than are held, nobody is thrown out, and nobody new gets in until it fits. The plan that adopts a file keeps it for
   desks with older ones; if it must not be kept, the plan deletes the one that was kept before.
5. A start whose session is active is a repeat and changes nothing. If that session has lapsed, the repeat renews it:
   its seat was never given away. One session id cannot be two people's.
6. A session has lapsed at `lapses_at`, but not before the amnesty after an outage is over. Before a start is refused
   for want of a seat, lapsed sessions make room. Seats go in the order of the line (`licensing.rules.line`).
7. A start that replaces an active session ends it and takes its seat, in one plan. Where others share that seat, it
   needs one of its own. A refused start ends nothing.
8. A recalled session is neither repeated nor renewed. A start that replaces it ends it, and is judged as any other.
9. What lasts is offered: a borrowing, and all leases under a hold. The grant is an ordinary one without a hold, and the
   session's first heartbeat takes the offer (docs/adr/0005).
10. Never refuse on a cached state that the plan does not change; it may be stale, and no commit would fail. Nor grant
   on one if the grant stores nothing.

`decide` is given facts. If it needs more it decides nothing and asks questions. An unread row is assumed absent if
the start will insert it: if it exists, the insert fails. A plan is one transaction: all of it is done, or nothing. So
an end and a lapse may rest on a row that was read or written long ago: the transaction demands its version.

Left to others: whether the license admits the caller (`licensing.rules.license`); reading, committing and retries
(`licensing.storage.writer`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from licensing.rules import line
from licensing.rules.license import Refusal
from licensing.rules.model import (
    MOST_RECALLS,
    UNKNOWN,
    EndedSession,
    EndReason,
    KeptFile,
    LicenseState,
    Session,
    Terms,
    Unknown,
    Versioned,
    ended_session,
    holder_of,
)
from licensing.rules.outage import Outage
from licensing.rules.requests import (
    End,
    Ended,
    ForeignSession,
    Full,
    Granted,
    Lapse,
    Outcome,
    Recall,
    Recalled,
    Refused,
    Request,
    Start,
    TooManyRecalls,
)
from licensing.rules.usage import midnight

RETRY_SECONDS: Final = (10, 60)
"""A refused start may ask again when the next session can lapse, but not sooner or later than this."""

ROWS_OF_END: Final = 3
"""The most rows that an end changes besides the license state: the active row, the ended row, a shared seat's."""
ROWS_OF_START: Final = 2 + ROWS_OF_END
"""The most rows that a start changes: its own, a shared seat's, and those of one lapsed session that makes room. If it
replaces a session, those of an end besides."""


@dataclass(frozen=True, slots=True)
class Lapsing:
    """The active sessions that lapse before `until` (UTC), by their ids. All others lapse later: leases only grow."""

    until: datetime
    rows: dict[str, Versioned[Session]]

    def update(self, sessions: Mapping[str, Versioned[Session] | None]) -> None:
        """Take in rows that were read since; None where a session is no longer active."""
        for session_id in self.rows.keys() & sessions:
            row = sessions[session_id]
            if row and row.value.lapses_at < self.until:
                self.rows[session_id] = row
            else:
                del self.rows[session_id]

    def next_lapse(self, now: datetime, outage: Outage | None) -> datetime | None:
        """When the next of them lapses after `now`; None if none does."""
        ends = (row.value.lapse_after(outage) for row in self.rows.values())
        return min((end for end in ends if end > now), default=None)


def lapsing_until(now: datetime, terms: Terms) -> datetime:
    """Until when sessions are looked for that may lapse: a minute, if leases are of the usual length.

    A third of a lease: no session that is heard of in time lapses so soon, and none that is granted from now on.
    """
    return now + timedelta(seconds=min(RETRY_SECONDS[1], terms.lease_seconds / 3))


@dataclass(slots=True)
class Facts:
    """What is known of a license's rows. A session or seat that was not read is not in its mapping.

    `fresh`: the state was read for this batch, and is not from the cache. `lapsing`: who may lapse soon; None if not
    known. `asked`: that was read for this batch, and is good for it however long the reading took. `outage`: the last
    one of the service. `file`: whether the register keeps a license file.
    """

    state: Versioned[LicenseState] | Unknown | None = UNKNOWN
    fresh: bool = False
    sessions: dict[str, Versioned[Session] | None] = field(default_factory=dict)
    seats: dict[str, Versioned[int] | None] = field(default_factory=dict)
    lapsing: Lapsing | None = None
    asked: bool = False
    outage: Outage | Unknown | None = UNKNOWN
    file: bool | Unknown = UNKNOWN

    @property
    def known_state(self) -> LicenseState | None:
        """The state, as far as it is known."""
        return self.state.value if isinstance(self.state, Versioned) else None

    def present(self) -> "Facts":
        """What stays good when the state changes: rows that are there, whose versions a transaction demands."""
        sessions: dict[str, Versioned[Session] | None] = {name: row for name, row in self.sessions.items() if row}
        seats: dict[str, Versioned[int] | None] = {name: row for name, row in self.seats.items() if row}
        return Facts(sessions=sessions, seats=seats, outage=self.outage)

    def learn(self, sessions: Mapping[str, Versioned[Session] | None]) -> None:
        """Take in session rows that were read; None where a session is not active."""
        self.sessions.update(sessions)
        if self.lapsing:
            self.lapsing.update(sessions)

    def session(self, session_id: str) -> Versioned[Session] | Unknown | None:
        """The row of an active session; UNKNOWN if it was not read."""
        return self.sessions.get(session_id, None if self.state is None else UNKNOWN)  # no state, no sessions

    def session_if_read(self, session_id: str) -> Versioned[Session] | None:
        """The row of an active session; a row that was not read is assumed absent."""
        return self.sessions.get(session_id)

    def seat(self, holder: str) -> Versioned[int] | Unknown | None:
        """The row of a shared seat: how many sessions are on it."""
        return self.seats.get(holder, UNKNOWN)


@dataclass(slots=True)
class Questions:
    """What must be read before anything can be decided.

    `sessions` probably are active, `repeats` probably not: they are ids of starts. `lapsing`: who may lapse soon.
    `outage`: whether the service was away lately. `file`: whether a license file is kept.
    """

    state: bool = False
    lapsing: bool = False
    outage: bool = False
    file: bool = False
    sessions: set[str] = field(default_factory=set)
    repeats: set[str] = field(default_factory=set)
    seats: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        named = self.sessions or self.repeats or self.seats
        return bool(self.state or self.lapsing or self.outage or self.file or named)


@dataclass(frozen=True, slots=True)
class Later:
    """The plan leaves a request undecided; it comes again with the next batch."""

    reason: str


TRANSACTION_FULL: Final = Later("the transaction is full")
NOT_YET: Final = Later("another request of the same session comes first")
MORE_HAVE_LAPSED: Final = Later("the sessions that are known to have lapsed have made room for others")
UNREAD: Final = Later("rows must be read first")  # never leaves `decide`: a question goes with it


@dataclass(frozen=True, slots=True)
class SeatChange:
    """A shared seat's row as it was (None: absent), and how many sessions are on the seat now (0: no row)."""

    before: Versioned[int] | None
    sessions: int

    @property
    def needs_write(self) -> bool:
        """Whether there is a row to write: a seat that is taken and freed within one plan has none."""
        return bool(self.before or self.sessions)


@dataclass(slots=True)
class Plan:
    """What one transaction does, and the decision on each request by its place in the batch.

    `before` is the state that the plan rests on (None: absent), `state` the state after it. An ended session bears
    the ETag of its active row. `denied` are ids of sessions. `file` is the license file to keep; `drops_file`: the one
    that was kept is deleted.
    """

    before: Versioned[LicenseState] | None
    state: LicenseState | None
    started: list[Session] = field(default_factory=list)
    renewed: list[Versioned[Session]] = field(default_factory=list)
    ended: list[Versioned[EndedSession]] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    seats: dict[str, SeatChange] = field(default_factory=dict)
    file: KeptFile | None = None
    drops_file: bool = False
    decisions: dict[int, Outcome | Later] = field(default_factory=dict)

    @property
    def outcomes(self) -> dict[int, Outcome]:
        """The outcomes of the requests that are decided."""
        return {place: decision for place, decision in self.decisions.items() if not isinstance(decision, Later)}

    @property
    def changes_state(self) -> bool:
        """Whether the transaction writes the license state, and so fails if another process has written it."""
        if self.state is None:
            return False
        return bool(
            self.started or self.renewed or self.ended or self.before is None or self.before.value != self.state
        )

    @property
    def rows(self) -> int:
        """How many rows the transaction writes besides the license state."""
        sessions = len(self.started) + len(self.renewed) + 2 * len(self.ended)
        return sessions + len(self.denied) + len(self.seats) + (self.file is not None or self.drops_file)


def retry_seconds(next_lapse: datetime, now: datetime) -> int:
    """When a refused start may ask again: when the next session can lapse, within `RETRY_SECONDS`."""
    least, most = RETRY_SECONDS
    return max(least, min(most, int((next_lapse - now).total_seconds()) + 1))


def decide(facts: Facts, requests: Sequence[Request], now: datetime, max_rows: int) -> Plan | Questions:
    """Decide a batch of requests on one license.

    `max_rows`, at least `ROWS_OF_START` + `ROWS_OF_END`, is how many rows a transaction takes besides the state.
    Unless something must be asked first, the plan decides at least one request, or makes room for one.
    """
    before = facts.state
    if isinstance(before, Unknown):
        return Questions(state=True)
    starts = [request for request in requests if isinstance(request, Start)]
    newest = max(starts, key=lambda start: start.terms.serial, default=None)
    state = _with_terms(before.value if before else None, newest.terms if newest else None, now)
    if state is None:
        return Plan(None, None, decisions={place: Ended(now=False) for place in range(len(requests))})
    if before and not facts.fresh and state.terms != before.value.terms:
        return Questions(state=True)  # the register may hold still newer terms
    plan = Plan(before, state)
    if newest and (before is None or state.terms.serial > before.value.terms.serial):
        plan.file = newest.file
        if before and plan.file is None:
            if isinstance(facts.file, Unknown):
                return Questions(file=True)
            plan.drops_file = facts.file
    return _Planner(facts, plan, state, requests, now, max_rows).run()


def _with_terms(known: LicenseState | None, newest: Terms | None, now: datetime) -> LicenseState | None:
    """The state under the newest terms that a batch brings; None where there is none and no start makes one."""
    if newest is None or (known and known.suspended):
        return known
    # Only the day: on a license for one person, the time would tell for good when that person began to work.
    today = midnight(now.date())
    if known is None:
        return LicenseState(newest, since=today)
    if newest.serial > known.terms.serial:
        return known.under(newest, today)
    return replace(known, terms=known.terms.completed(newest)) if newest.serial == known.terms.serial else known


def _offer(
    outcome: Outcome | Later, ordinary_end: datetime, borrowing_end: datetime | None, terms: Terms
) -> Outcome | Later:
    """A grant as it is answered: what lasts is cut to an ordinary lease, and offered.

    `borrowing_end` is the end of the borrowing that the start asks for, if it is allowed.
    """
    if not isinstance(outcome, Granted) or outcome.session is None:
        return outcome
    if outcome.session.borrowed:
        expires_at = min(outcome.expires_at, ordinary_end)
        return replace(outcome, expires_at=expires_at, offered=outcome.session.expires_at)
    if borrowing_end or terms.hold_seconds:
        return replace(outcome, offered=borrowing_end or outcome.expires_at)
    return outcome


class _Planner:
    """One run of `decide`: the plan as it grows, and the questions that come up."""

    def __init__(
        self,
        facts: Facts,
        plan: Plan,
        state: LicenseState,
        requests: Sequence[Request],
        now: datetime,
        max_rows: int,
    ) -> None:
        self.facts = facts
        self.plan = plan
        self.state = state
        self.requests = requests
        self.now = now
        self.max_rows = max_rows
        self.questions = Questions()
        self.outage = None if isinstance(facts.outage, Unknown) else facts.outage
        rows = facts.lapsing.rows.values() if facts.lapsing else ()
        self.lapsed = {row.value.id: row for row in rows if row.value.lapse_after(self.outage) <= now}
        self.room_made = False
        self.changed: set[str] = set()
        """The sessions that the plan starts, renews, ends, or grants again."""

    def run(self) -> Plan | Questions:
        """Decide each request once, and answer its duplicates like the first."""
        first_places: dict[str, int] = {}
        duplicates: dict[int, int] = {}
        waiters = line.live(self.state.line, self.now, self.outage)
        for place in sorted(range(len(self.requests)), key=lambda place: self._precedence(place, waiters)):
            request = self.requests[place]
            first = first_places.setdefault(request.session_id, place)
            if first == place:
                self.plan.decisions[place] = self._decide(request)
            elif isinstance(request, Start) and request == self.requests[first]:
                duplicates[place] = first
            else:
                self.plan.decisions[place] = NOT_YET
        for place, first in duplicates.items():
            outcome = self.plan.decisions[first]
            self.plan.decisions[place] = replace(outcome, repeat=True) if isinstance(outcome, Granted) else outcome
        self.plan.state = self.state
        return self.questions or self.plan

    def _precedence(self, place: int, waiters: line.Line) -> tuple[int, int]:
        """Ends go first: they make room. New starts go last: they could take a seat that is renewed or replaced.

        Of these, waiters come in their order, and before others: each is told the position that it has afterwards.
        """
        request = self.requests[place]
        if not isinstance(request, Start):
            return 0, 0
        if self._row_of(request) or (request.replaces and self._predecessor(request.replaces)):
            return 1, 0
        return 2, line.waiters_before(waiters, request.session_id)

    def _predecessor(self, session_id: str) -> Versioned[Session] | Unknown | None:
        """The row of a session that a start replaces, also of one that has lapsed; None if it is not active."""
        return self.lapsed.get(session_id) or self.facts.session(session_id)

    def _row_of(self, start: Start) -> Versioned[Session] | None:
        """The row of a session that a start repeats: also one that has lapsed, and would otherwise make room."""
        return self.lapsed.get(start.session_id) or self.facts.session_if_read(start.session_id)

    def _decide(self, request: Request) -> Outcome | Later:
        if not self._fits(request):
            return TRANSACTION_FULL
        match request:
            case Start():
                return self._start(request)
            case End():
                return self._end(request)
            case Lapse():
                return self._lapse(request)
            case Recall():
                return self._recall(request)

    def _fits(self, request: Request) -> bool:
        starts = isinstance(request, Start)
        ends = not isinstance(request, Start) or request.replaces is not None
        return self.plan.rows + starts * ROWS_OF_START + ends * ROWS_OF_END <= self.max_rows

    # Ends.

    def _end(self, request: End) -> Outcome | Later:
        row = self.facts.session(request.session_id)
        if isinstance(row, Unknown):
            self.questions.sessions.add(request.session_id)
            return UNREAD
        if row is None:
            return Ended(now=False)
        return Ended(now=True) if self._end_session(row, request.reason) else UNREAD

    def _lapse(self, request: Lapse) -> Outcome | Later:
        row = self.facts.sessions.get(request.session_id, request.row)
        if row is None or row.etag != request.row.etag or row.value.lapses_at > self.now:
            return Ended(now=False)  # it ended, a heartbeat came in between, or the judge's clock is ahead
        if isinstance(self.facts.outage, Unknown):
            self.questions.outage = True
            return UNREAD
        if row.value.lapse_after(self.outage) > self.now:
            return Ended(now=False)
        return Ended(now=True) if self._end_session(row, EndReason.LAPSED) else UNREAD

    def _recall(self, request: Recall) -> Outcome | Later:
        row = self.facts.session(request.session_id)
        if isinstance(row, Unknown):
            self.questions.sessions.add(request.session_id)
            return UNREAD
        if row is None:
            return Ended(now=False)
        state = self.state.without_old_recalls(self.now).recalling(request.session_id)
        if len(state.recalled) > MOST_RECALLS:
            return self._if_fresh(TooManyRecalls())
        self.state = state
        return Recalled(row.value)

    def _end_session(self, row: Versioned[Session], reason: EndReason, ran_until: datetime | None = None) -> bool:
        """End a session and free its seat; False where the seat's row must be read first."""
        session = row.value
        if session.shares:
            # Read, and not only assumed absent: a seat that is taken and freed in one plan is not written at all.
            if isinstance(self.facts.seat(session.holder), Unknown):
                self.questions.seats.add(session.holder)
                return False
            sessions = self._sessions_on(session.holder)
            # A seat without a row is not counted either; `maintenance verify` finds such.
            if sessions:
                self._add_to_seat(session.holder, -1)
            if sessions == 1:
                self._count_seats(-1)
        elif session.holder:
            self._count_seats(-1)
        self.lapsed.pop(session.id, None)  # it makes room only once
        self.changed.add(session.id)
        self.state = self.state.with_ended(session.id, self.now)
        self.plan.ended.append(Versioned(ended_session(session, reason, self.now, ran_until), row.etag))
        return True

    # Starts.

    def _start(self, start: Start) -> Outcome | Later:
        terms = self.state.terms
        if self.state.suspended:
            return self._if_fresh(Refused(Refusal.SUSPENDED))
        if start.terms.serial < terms.serial:
            return self._if_fresh(Refused(Refusal.SUPERSEDED))
        if self.state.recalls(start.session_id):
            return self._if_fresh(Refused(Refusal.RECALLED))
        lasting_end, borrows = terms.lease_end(self.now, start.borrow_seconds)
        if not self.state.recorded:
            return self._if_fresh(Granted(None, lasting_end))
        if not self.changed.isdisjoint((start.session_id, start.replaces)):
            return NOT_YET
        person = start.persons[0]
        expires_at, _ = terms.lease_end(self.now)
        session = Session(
            id=start.session_id,
            started_at=self.now,
            heartbeat_at=self.now,
            expires_at=expires_at,
            user=person.user,
            host=person.host,
            ip=person.ip,
            pepper=person.pepper,
            holder=holder_of(start.session_id, person, terms),
        )
        # If the row exists after all, the insert fails, the row is read, and this start is a repeat.
        row = self._row_of(start)
        outcome = self._repeat(start, session, row) if row else self._begin(session, start)
        return _offer(outcome, expires_at, lasting_end if borrows else None, terms)

    def _if_fresh(self, outcome: Outcome) -> Outcome | Later:
        """An outcome that commits nothing, so that no commit fails if the state is stale."""
        if not self.facts.fresh:
            self.questions.state = True
            return UNREAD
        return outcome

    def _repeat(self, start: Start, again: Session, row: Versioned[Session]) -> Outcome:
        """Answer a start whose session is active; `again` is the session as it would start now."""
        session = row.value
        owner = (session.user, session.host, session.pepper)
        if all((person.user, person.host, person.pepper) != owner for person in start.persons):
            return ForeignSession()
        self.changed.add(session.id)
        if session.expires_at > self.now:
            return Granted(session, session.expires_at, repeat=True)
        session = replace(
            session,
            heartbeat_at=again.heartbeat_at,
            expires_at=again.expires_at,
            lapses_at=max(session.lapses_at, again.lapses_at),  # a program on grace may still run until then
            borrowed=again.borrowed,
        )
        self.lapsed.pop(session.id, None)
        self.plan.renewed.append(Versioned(session, row.etag))
        return Granted(session, session.expires_at, repeat=True)

    def _begin(self, session: Session, start: Start) -> Outcome | Later:
        """Begin a session, in place of the one that it replaces if that is active."""
        if start.replaces is None:
            return self._give_seat(session, start)
        row = self._predecessor(start.replaces)
        if isinstance(row, Unknown):
            self.questions.sessions.add(start.replaces)
            return UNREAD
        if row and self.state.recalls(start.replaces):
            if not self._end_session(row, EndReason.REPLACED, start.ran_until):
                return UNREAD
            row = None
        return self._give_seat(session, start, row)

    def _give_seat(self, session: Session, start: Start, replaced: Versioned[Session] | None = None) -> Outcome | Later:
        """Give a session its seat: none where none is needed, one that it can share, the replaced one's, or a free one.

        If it gets one, the replaced session ends.
        """
        in_use = self.state.in_use
        freed = replaced.value if replaced and self._frees_seat(replaced.value) else None
        if not session.holder:
            pass
        elif session.shares and (shared := self._shared_seat(session, start)):
            self._add_to_seat(shared, +1)
            session = replace(session, holder=shared, overdraft=freed is not None and freed.overdraft)
        elif freed or self._seat_is_free(session.id):
            if session.shares:
                self._add_to_seat(session.holder, +1)
            self._count_seats(+1)
            session = replace(session, overdraft=freed.overdraft if freed else in_use >= self.state.terms.seats)
        else:
            if session.shares and self._sessions_on(session.holder) is None:
                self.questions.seats.add(session.holder)  # the holder may have a seat already
            return self._make_room_or_refuse(session, start, replaced)
        if replaced and not self._end_session(replaced, EndReason.REPLACED, start.ran_until):
            return UNREAD
        return self._grant(session)

    def _frees_seat(self, session: Session) -> bool:
        """Whether a seat is free when a session ends. Where its row must be read first, a question is asked."""
        if not session.shares:
            return bool(session.holder)
        sessions = self._sessions_on(session.holder)
        if sessions is None:
            self.questions.seats.add(session.holder)
        return sessions == 1

    def _shared_seat(self, session: Session, start: Start) -> str | None:
        """The seat that the session's holder has already, by the holder's name under any pepper."""
        for person in start.persons:
            holder = holder_of(session.id, person, self.state.terms)
            sessions = self._sessions_on(holder)
            if sessions:
                return holder
            # A seat under an older pepper is looked for, and never assumed absent: the start will not insert it.
            if sessions is None and holder != session.holder:
                self.questions.seats.add(holder)
        return None

    def _seat_is_free(self, session_id: str) -> bool:
        """Whether more seats are free than waiters stand before a session."""
        free = self.state.terms.capacity - self.state.in_use
        if free <= 0 or free > len(self.state.line):
            return free > 0
        return free > line.waiters_before(self._live_line(), session_id)

    def _live_line(self) -> line.Line:
        """Those who wait now. If somebody seems to have left during an outage, it is asked whether there was one."""
        waiters = line.live(self.state.line, self.now, self.outage)
        if len(waiters) < len(self.state.line) and isinstance(self.facts.outage, Unknown):
            self.questions.outage = True
        return waiters

    def _make_room_or_refuse(
        self, session: Session, start: Start, replaced: Versioned[Session] | None
    ) -> Outcome | Later:
        """Make room by a lapsed session, or refuse.

        A refusal needs a fresh state, and its own row read after it. Whoever keeps a place needs neither: the plan
        changes the state, and a session with a place is not active.
        """
        facts, waiters = self.facts, self._live_line()
        has_place = start.wait and line.position_of(waiters, session.id) is not None
        waits_on = has_place and line.waiting(waiters, session.id, self.now) != self.state.line
        if not facts.fresh and not waits_on:
            self.questions.state = True
        if isinstance(facts.session(session.id), Unknown) and not waits_on:
            self.questions.repeats.add(session.id)
        known = facts.lapsing and (facts.asked or facts.lapsing.until > self.now)
        if facts.state and not self.lapsed and not known:
            if self.room_made:
                return MORE_HAVE_LAPSED
            self.questions.lapsing = True
        if self.lapsed and isinstance(facts.outage, Unknown):
            self.questions.outage = True
        if self.questions:
            return UNREAD
        if self.lapsed:
            if not self._fits(start):
                return TRANSACTION_FULL
            # If its seat's row must be read first, this asks for it, and the next call returns UNREAD.
            self.room_made = self._end_session(next(iter(self.lapsed.values())), EndReason.LAPSED)
            made_room = replaced is not None and replaced.value.id in self.changed
            return self._give_seat(session, start, None if made_room else replaced)
        return self._refuse(start, waiters)

    def _refuse(self, start: Start, waiters: line.Line) -> Full:
        """Refuse for want of a seat. Who waits gets or keeps a place in line; who does not has none."""
        self.plan.denied.append(start.session_id)
        if start.wait:
            waiters = line.waiting(waiters, start.session_id, self.now)
        else:
            waiters = line.without(waiters, [start.session_id])
        self.state = replace(self.state, line=waiters)
        position = line.position_of(waiters, start.session_id)
        if position is not None:
            return Full(line.retry_seconds_at(position), position, len(waiters))
        lapsing = self.facts.lapsing
        next_lapse = lapsing.next_lapse(self.now, self.outage) if lapsing else None
        retry = retry_seconds(next_lapse or lapsing_until(self.now, self.state.terms), self.now)
        return Full(retry, None, len(waiters))

    def _grant(self, session: Session) -> Outcome:
        self.changed.add(session.id)
        self.state = replace(self.state, line=line.without(self.state.line, [session.id]))
        self.plan.started.append(session)
        return Granted(session, session.expires_at)

    # Counts.

    def _count_seats(self, change: int) -> None:
        self.state = replace(self.state, in_use=self.state.in_use + change)

    def _sessions_on(self, holder: str) -> int | None:
        """How many sessions are on a shared seat; None where that is not known."""
        if holder in self.plan.seats:
            return self.plan.seats[holder].sessions
        row = self.facts.seat(holder)
        if isinstance(row, Unknown):
            return None
        return row.value if row else 0

    def _add_to_seat(self, holder: str, change: int) -> None:
        sessions = (self._sessions_on(holder) or 0) + change
        self.plan.seats[holder] = SeatChange(self.facts.seats.get(holder), sessions)
