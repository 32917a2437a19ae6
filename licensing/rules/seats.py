"""Who holds a seat: what a group of requests does to one license, decided all at once and without any storage.

The rules, for every license:

1. A floating license has `seats + overdraft` seats; the head's `in_use` counts those that are held. A grant beyond
   `seats` is an overdraft.
2. A holder occupies one seat. With sharing `none` each session is a holder of its own; else all sessions of a user,
   a host, or a user on a host share a seat, which is freed when the last of them ends.
3. A license that is not floating takes no seat; its sessions have no holder.
4. The terms of the highest serial hold, and a file with a lower one is superseded. When new terms bring fewer seats
   than are held, nobody is thrown out and nobody new gets in until it fits.
5. A start whose session is active already is a repeat and changes nothing, but that it revives a session that has
   lapsed and was not yet swept: its seat was never given away. One session cannot be two people's.
6. A session has lapsed at `expires_at`. Before a start is refused for want of a seat, lapsed sessions make room.
7. Nothing is refused on a head that is only remembered: what was true a minute ago may be so no longer. Nor is
   anything granted on one where nothing is to be stored, since no commit would fail on it.

`settle` is given what is known of the rows. Where it needs to know more it decides nothing and asks; a row that
nobody asked about is taken for absent when a start would create it, since the store refuses the creation if it is
not. Everything that a `Plan` says is to be done in one transaction, or not at all.

Left to others: whether the license admits the caller (`licensing.rules.license`), reading, committing and trying
again (`licensing.storage.ledger`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Generic, TypeVar

from licensing.rules.license import Kind, License, Refusal, Sharing, lease_end

RETRY_SECONDS = (10, 60)
"""A refused start is told to come back when the next lease can lapse, but not sooner or later than this."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What the register keeps of a license's terms. Lengths in seconds."""

    serial: int
    organization: str
    organization_name: str
    product: str
    kind: Kind
    seats: int
    overdraft: int
    sharing: Sharing
    heartbeat: int
    lease: int
    borrow: int
    valid_from: datetime
    valid_until: datetime
    project: str
    billing: str

    @classmethod
    def of(cls, license: License) -> "Terms":
        """The terms that a license file brings."""
        return cls(
            serial=license.serial,
            organization=license.organization.id,
            organization_name=license.organization.name,
            product=license.product,
            kind=license.kind,
            seats=license.seats,
            overdraft=license.overdraft,
            sharing=license.sharing,
            heartbeat=license.heartbeat_seconds,
            lease=license.lease_seconds,
            borrow=license.borrow_seconds,
            valid_from=license.valid_from,
            valid_until=license.valid_until,
            project=license.project or "",
            billing=license.billing,
        )

    @property
    def capacity(self) -> int:
        """How many holders there may be at most; a license that is not floating counts none."""
        return self.seats + self.overdraft


@dataclass(frozen=True, slots=True)
class Person:
    """Who runs a program, as the register knows it: pseudonyms under the pepper that is named."""

    user: str
    host: str
    ip: str
    pepper: str


@dataclass(frozen=True, slots=True)
class Head:
    """The state of a license that every change of its seats goes through."""

    terms: Terms
    suspended: bool = False
    collect: bool = True
    in_use: int = 0

    @property
    def recorded(self) -> bool:
        """Whether sessions are stored: always for floating licenses, whose seats rest on it."""
        return self.collect or self.terms.kind is Kind.FLOATING


@dataclass(frozen=True, slots=True)
class Session:
    """An active session as the register holds it; `holder` is empty for a license that is not floating."""

    id: str
    started_at: datetime
    heartbeat_at: datetime
    expires_at: datetime
    user: str
    host: str
    ip: str
    pepper: str
    holder: str
    borrowed: bool = False
    overdraft: bool = False

    @property
    def shares(self) -> bool:
        """Whether its seat has a row of its own, which counts the sessions on it."""
        return self.holder not in ("", self.id)


class Reason(StrEnum):
    """How a session came to its end."""

    ENDED = "ended"
    LAPSED = "lapsed"
    RELEASED = "released"


Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Known(Generic[Value]):
    """A row's value and the version (ETag) that it was read at."""

    value: Value
    version: str


# Requests.


@dataclass(frozen=True, slots=True)
class Start:
    """A program starts. `persons` is who runs it, under each pepper in use, the current one first."""

    session: str
    terms: Terms
    persons: tuple[Person, ...]
    borrow: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """A session ends, by itself or because an operator releases it."""

    session: str
    reason: Reason = Reason.ENDED


@dataclass(frozen=True, slots=True)
class Lapse:
    """A session was judged to have lapsed; it ends if that is so now, and its row has not changed since."""

    row: Known[Session]

    @property
    def session(self) -> str:
        """The session's id."""
        return self.row.value.id


Request = Start | End | Lapse


# Outcomes.


@dataclass(frozen=True, slots=True)
class Granted:
    """The program may run until `expires_at`. `repeat`: it was told so before.

    `session` is None where nothing is recorded.
    """

    session: Session | None
    expires_at: datetime
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The program may not run, by the state of its license."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Full:
    """All seats are held. Come back after `retry` seconds."""

    retry: int


@dataclass(frozen=True, slots=True)
class Taken:
    """The session id belongs to another user or host."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The session has ended: in this turn (`now`), or it was not active any more."""

    now: bool


Outcome = Granted | Refused | Full | Taken | Ended


# What is known, what is asked, what is to be done.


@dataclass(slots=True)
class Facts:
    """What is known of a license's rows. A row is known, known to be absent (None), or not in the mapping.

    `fresh`: the head was read for this group. `surveyed`: `active` holds all active rows. `quiet_until`: no active
    session can lapse before then, since leases only grow; None where that is not known.
    """

    head: Known[Head] | None = None
    fresh: bool = False
    active: dict[str, Known[Session] | None] = field(default_factory=dict)
    seats: dict[str, Known[int] | None] = field(default_factory=dict)
    surveyed: bool = False
    quiet_until: datetime | None = None


@dataclass(slots=True)
class Questions:
    """What must be read before anything can be decided."""

    head: bool = False
    survey: bool = False
    active: set[str] = field(default_factory=set)
    seats: set[str] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.head or self.survey or self.active or self.seats)


@dataclass(frozen=True, slots=True)
class Departure:
    """A session's end: the row as it was, when it ended, and why."""

    row: Known[Session]
    ended_at: datetime
    reason: Reason


@dataclass(slots=True)
class Plan:
    """What one transaction does, and what is then told to whom.

    `seats` gives for each shared seat the row that was known (None: there was none) and how many sessions it has
    afterwards (0: none, and no row). `denied` are session ids. `outcomes` go by the request's place in the group;
    requests without one come again in the next turn.
    """

    head: Head | None
    arrivals: list[Session] = field(default_factory=list)
    revivals: list[Known[Session]] = field(default_factory=list)
    departures: list[Departure] = field(default_factory=list)
    denied: list[str] = field(default_factory=list)
    seats: dict[str, tuple[Known[int] | None, int]] = field(default_factory=dict)
    outcomes: dict[int, Outcome] = field(default_factory=dict)


def holder_of(session: str, person: Person, terms: Terms) -> str:
    """Who holds the seat that a start takes: nobody, the session itself, or whom the license's sharing names."""
    if terms.kind is not Kind.FLOATING:
        return ""
    match terms.sharing:
        case Sharing.NONE:
            return session
        case Sharing.USER:
            return person.user
        case Sharing.HOST:
            return person.host
        case Sharing.USER_HOST:
            return f"{person.user}.{person.host}"


def retry_seconds(quiet_until: datetime | None, now: datetime) -> int:
    """When a refused start should come back: when the next lease can lapse, within `RETRY_SECONDS`."""
    least, most = RETRY_SECONDS
    if quiet_until is None:
        return least
    return max(least, min(most, int((quiet_until - now).total_seconds()) + 1))


def depart(row: Known[Session], reason: Reason, now: datetime) -> Departure:
    """How a session ends; never before it began.

    One that lapsed ended at its last heartbeat or, where it was borrowed, with its lease: it was not expected to be
    heard of before, and nobody else could have its seat. Any other ends now.
    """
    session = row.value
    last_sign = session.expires_at if session.borrowed else session.heartbeat_at
    at = last_sign if reason is Reason.LAPSED else now
    return Departure(row, max(at, session.started_at), reason)


def settle(facts: Facts, requests: Sequence[Request], now: datetime, room: int) -> Plan | Questions:
    """Decide a group of requests on one license.

    `room` (at least 6) is how many rows a transaction can take besides the head. Unless something has to be asked
    first, at least one request is decided, or sessions that have lapsed are ended to make room for one.
    """
    if facts.head is None and not facts.fresh:
        return Questions(head=True)
    head = _adopted(facts.head.value if facts.head else None, requests)
    if head is None:
        return Plan(None, outcomes={place: Ended(now=False) for place in range(len(requests))})
    if facts.head and not facts.fresh and head.terms != facts.head.value.terms:
        return Questions(head=True)  # terms that are newer than what is remembered may be older than what holds
    return _Settling(facts, head, requests, now, room).run()


def _adopted(known: Head | None, requests: Sequence[Request]) -> Head | None:
    """The head under the newest terms that the group brings; None where there is none and no start makes one."""
    brought = [request.terms for request in requests if isinstance(request, Start)]
    if not brought or (known and known.suspended):
        return known
    newest = max(brought, key=lambda terms: terms.serial)
    if known is None:
        return Head(newest)
    return replace(known, terms=newest) if newest.serial > known.terms.serial else known


class _Settling:
    """One run of `settle`: the turn as it takes shape, and what has to be asked."""

    # The most rows that one request can touch: an end its two and a seat's, a start its own, a seat's, and where
    # a lapsed session makes room for it that one's three.
    ROWS_OF_END = 3
    ROWS_OF_START = 5

    def __init__(self, facts: Facts, head: Head, requests: Sequence[Request], now: datetime, room: int) -> None:
        self.facts = facts
        self.head = head
        self.requests = requests
        self.now = now
        self.left = room
        self.questions = Questions()
        self.turn = Plan(head)
        self.lapsed = {
            session: row
            for session, row in facts.active.items()
            if facts.surveyed and row and row.value.expires_at <= now
        }

    def run(self) -> Plan | Questions:
        places: dict[str, int] = {}
        echoes: dict[int, int] = {}
        order = sorted(range(len(self.requests)), key=self._precedence)
        for place in order:
            request = self.requests[place]
            first = places.setdefault(request.session, place)
            if first != place:
                # The same start again is answered like the first; anything else waits until that is done.
                if isinstance(request, Start) and request == self.requests[first]:
                    echoes[place] = first
                continue
            rows = self.ROWS_OF_START if isinstance(request, Start) else self.ROWS_OF_END
            if self.left < rows:
                continue
            outcome = self._start(request) if isinstance(request, Start) else self._end(request)
            if outcome is not None:
                self.turn.outcomes[place] = outcome
        for place, first in echoes.items():
            outcome = self.turn.outcomes.get(first)
            if outcome is not None:
                self.turn.outcomes[place] = replace(outcome, repeat=True) if isinstance(outcome, Granted) else outcome
        self.turn.head = self.head
        return self.questions or self.turn

    def _precedence(self, place: int) -> int:
        """Ends go first: they make room. New starts go last: they could take the seat of one that is to be revived."""
        request = self.requests[place]
        if not isinstance(request, Start):
            return 0
        return 1 if self.facts.active.get(request.session) else 2

    # Ends.

    def _end(self, request: End | Lapse) -> Outcome | None:
        if isinstance(request, Lapse):
            row = self.facts.active.get(request.session, request.row)
            if row is None or row.version != request.row.version or row.value.expires_at > self.now:
                return Ended(now=False)  # it ended, a heartbeat came in between, or who judged it was ahead of time
            return Ended(now=True) if self._depart(row, Reason.LAPSED) else None
        if request.session not in self.facts.active and not self.facts.surveyed:
            self.questions.active.add(request.session)
            return None
        row = self.facts.active.get(request.session)
        if row is None:
            return Ended(now=False)
        return Ended(now=True) if self._depart(row, request.reason) else None

    def _depart(self, row: Known[Session], reason: Reason) -> bool:
        """End a session and free its seat; False where the seat's row must be read first."""
        session = row.value
        if session.shares:
            # Known, and not only taken for absent: a seat that is created and freed in one turn is not written at all.
            if session.holder not in self.facts.seats:
                self.questions.seats.add(session.holder)
                return False
            count = self._sessions_on(session.holder) or 0
            # A seat without a row is not counted either; `maintenance verify` finds such.
            if count:
                self._set_seat(session.holder, count - 1)
            if count == 1:
                self._count(-1)
        elif session.holder:
            self._count(-1)
        self.lapsed.pop(session.id, None)  # whatever ended it, it makes room only once
        self.turn.departures.append(depart(row, reason, self.now))
        self.left -= 2
        return True

    # Starts.

    def _start(self, start: Start) -> Outcome | None:
        terms = self.head.terms
        if self.head.suspended:
            return self._on_a_fresh_head(Refused(Refusal.SUSPENDED))
        if start.terms.serial < terms.serial:
            return self._on_a_fresh_head(Refused(Refusal.SUPERSEDED))
        expires_at, borrowed = lease_end(
            self.now,
            lease_seconds=terms.lease,
            borrow_seconds=terms.borrow,
            wanted_seconds=start.borrow,
            valid_until=terms.valid_until,
        )
        if not self.head.recorded:
            return self._on_a_fresh_head(Granted(None, expires_at))
        known = self.facts.active.get(start.session)
        if known is not None:
            return self._repeat(start, known, expires_at, borrowed)
        person = start.persons[0]
        session = Session(
            id=start.session,
            started_at=self.now,
            heartbeat_at=self.now,
            expires_at=expires_at,
            user=person.user,
            host=person.host,
            ip=person.ip,
            pepper=person.pepper,
            holder=holder_of(start.session, person, terms),
            borrowed=borrowed,
        )
        return self._seat(session, start)

    def _on_a_fresh_head(self, outcome: Outcome) -> Outcome | None:
        """An outcome that commits nothing, so that no commit tells whether the head still says so."""
        if not self.facts.fresh:
            self.questions.head = True
            return None
        return outcome

    def _repeat(self, start: Start, row: Known[Session], expires_at: datetime, borrowed: bool) -> Outcome:
        session = row.value
        owner = (session.user, session.host, session.pepper)
        if all((person.user, person.host, person.pepper) != owner for person in start.persons):
            return Taken()
        if session.expires_at > self.now:
            return Granted(session, session.expires_at, repeat=True)
        session = replace(session, heartbeat_at=self.now, expires_at=expires_at, borrowed=borrowed)
        self.lapsed.pop(session.id, None)
        self.turn.revivals.append(Known(session, row.version))
        self.left -= 1
        return Granted(session, expires_at, repeat=True)

    def _seat(self, session: Session, start: Start) -> Outcome | None:
        """Give a session its seat: none where none is needed, one that it can share, or a free one."""
        if not session.holder:
            return self._arrive(session)
        if session.shares:
            # Under an older pepper the same holder has another name; its seat is looked for, never assumed absent.
            for person in start.persons:
                holder = holder_of(session.id, person, self.head.terms)
                sitting = self._sessions_on(holder)
                if sitting:
                    self._set_seat(holder, sitting + 1)
                    return self._arrive(replace(session, holder=holder))
                if sitting is None and holder != session.holder:
                    self.questions.seats.add(holder)
        terms, in_use = self.head.terms, self.head.in_use
        if in_use >= terms.capacity:
            if session.shares and self._sessions_on(session.holder) is None:
                self.questions.seats.add(session.holder)
            return self._full(session, start)
        if session.shares:
            self._set_seat(session.holder, 1)
        self._count(+1)
        return self._arrive(replace(session, overdraft=in_use >= terms.seats))

    def _full(self, session: Session, start: Start) -> Outcome | None:
        """Make room by what has lapsed, or refuse; either only on what was read for this group."""
        facts = self.facts
        if not facts.fresh:
            self.questions.head = True
        if facts.head and not facts.surveyed:  # without a head there are no sessions
            if session.id not in facts.active:
                self.questions.active.add(session.id)
            if facts.quiet_until is None or facts.quiet_until <= self.now:
                self.questions.survey = True
        if self.questions:
            return None
        if self.lapsed and self.left >= self.ROWS_OF_START:
            self._depart(next(iter(self.lapsed.values())), Reason.LAPSED)
            return self._seat(session, start)
        if self.lapsed:
            return None  # room can be made, but not in this transaction
        self.turn.denied.append(session.id)
        self.left -= 1
        return Full(retry_seconds(facts.quiet_until, self.now))

    def _arrive(self, session: Session) -> Outcome:
        self.turn.arrivals.append(session)
        self.left -= 1
        return Granted(session, session.expires_at)

    # Counts.

    def _count(self, change: int) -> None:
        self.head = replace(self.head, in_use=self.head.in_use + change)

    def _sessions_on(self, holder: str) -> int | None:
        """How many sessions a shared seat has, None where that is not known."""
        if holder in self.turn.seats:
            return self.turn.seats[holder][1]
        if holder not in self.facts.seats:
            return None
        known = self.facts.seats[holder]
        return known.value if known else 0

    def _set_seat(self, holder: str, sessions: int) -> None:
        if holder not in self.turn.seats:
            self.left -= 1
        self.turn.seats[holder] = (self.facts.seats.get(holder), sessions)
