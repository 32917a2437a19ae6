"""The values that seats are decided on: what the register holds of a license, its sessions and its people.

A row that was read is a `Versioned` value. A row that is not there is None. A row that was not read is `UNKNOWN`.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from typing import Final, Generic, TypeVar

from pydantic import AwareDatetime

from licensing.rules.license import HOLD_BEYOND_GRACE, USUAL_GRACE, Billing, Kind, License, Sharing, lease_end
from licensing.rules.line import Line
from licensing.rules.outage import Outage, spared

MOST_FORMER_TERMS: Final = 50
"""How many former terms a license state keeps."""
MOST_RECALLS: Final = 100
"""How many recalled sessions a license state keeps."""
RECALL_KEPT: Final = timedelta(days=1)
"""For so long after its end a recalled session is answered `seat-recalled`."""
BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
"""Before every other time."""

Value = TypeVar("Value", covariant=True)


class Unknown(Enum):
    """A row that was not read; None is a row that was read and is not there."""

    UNKNOWN = "unknown"


UNKNOWN: Final = Unknown.UNKNOWN


@dataclass(frozen=True, slots=True)
class Versioned(Generic[Value]):
    """A value and the ETag it was read at."""

    value: Value
    etag: str


@dataclass(frozen=True, slots=True)
class Terms:
    """What the register keeps of a license file.

    Rows of the first edition lack grace, hold, features and oldest: their grace is None until the file is brought
    again. Files with a serial below `oldest` do not count any more.
    """

    serial: int
    organization_id: str
    organization_name: str
    product: str
    kind: Kind
    seats: int
    overdraft: int
    sharing: Sharing
    heartbeat_seconds: int
    lease_seconds: int
    borrow_seconds: int
    valid_from: datetime
    valid_until: datetime
    project: str
    billing: Billing
    grace_seconds: int | None = None
    hold_seconds: int = 0
    features: tuple[str, ...] = ()
    oldest: int = 0

    @classmethod
    def of(cls, license: License) -> "Terms":
        """The terms of a license file."""
        return cls(
            serial=license.serial,
            organization_id=license.organization.id,
            organization_name=license.organization.name,
            product=license.product,
            kind=license.kind,
            seats=license.seats,
            overdraft=license.overdraft,
            sharing=license.sharing,
            heartbeat_seconds=license.heartbeat_seconds,
            lease_seconds=license.lease_seconds,
            borrow_seconds=license.borrow_seconds,
            valid_from=license.valid_from,
            valid_until=license.valid_until,
            project=license.project or "",
            billing=license.billing,
            grace_seconds=license.grace_seconds,
            hold_seconds=license.hold_seconds,
            features=license.features,
            oldest=license.oldest,
        )

    def completed(self, brought: "Terms") -> "Terms":
        """These terms with what the first edition does not write, from the file of the same serial.

        A row may have those columns from the file before: the first edition changes others and leaves them.
        """
        unwritten = ("grace_seconds", "hold_seconds", "features", "oldest")
        return replace(self, **{name: getattr(brought, name) for name in unwritten})

    @property
    def grace(self) -> timedelta:
        """For how long a program runs on without answers; the usual time where the first edition wrote the terms."""
        return timedelta(seconds=USUAL_GRACE if self.grace_seconds is None else self.grace_seconds)

    @property
    def capacity(self) -> int:
        """How many holders there may be; a license that is not floating counts none."""
        return self.seats + self.overdraft

    def lease_end(self, now: datetime, wanted_seconds: int = 0) -> tuple[datetime, bool]:
        """When a lease granted now ends (UTC), and whether it is a borrowing (`rules.license.lease_end`)."""
        return lease_end(
            now,
            lease_seconds=self.lease_seconds,
            borrow_seconds=self.borrow_seconds,
            wanted_seconds=wanted_seconds,
            valid_until=self.valid_until,
        )

    def lapse(self, heartbeat_at: datetime, lease_end: datetime, grace_end: datetime = BEGINNING) -> datetime:
        """When a session's seat goes to others if nothing more is heard: at the lease's end, or after the hold.

        `grace_end` (UTC) is that of the program's last lease. Under former terms it may be later than the hold of
        these; where seats are held for all of grace, this one is held for that grace as well.
        """
        lapse = max(lease_end, heartbeat_at + timedelta(seconds=self.hold_seconds))
        if self.hold_seconds and self.hold_seconds >= (self.grace_seconds or 0):
            return max(lapse, grace_end + timedelta(seconds=HOLD_BEYOND_GRACE))
        return lapse

    def latest_lapse(self, session: "Session", last_heartbeat: datetime) -> datetime:
        """When a session lapses at the latest whose heartbeats are accepted until a moment (UTC), and then no more."""
        lease_end, _ = self.lease_end(last_heartbeat)
        return max(session.lapses_at, self.lapse(last_heartbeat, lease_end))

    def runs_until(self, session: "Session", last_heartbeat: datetime) -> datetime:
        """Until when a program may run whose heartbeats are accepted until a moment (UTC): its lease, then grace."""
        lease_end, _ = self.lease_end(last_heartbeat)
        return min(max(session.expires_at, lease_end, last_heartbeat + self.grace), self.valid_until)


class Status(StrEnum):
    """Whether an operator has suspended a license."""

    ACTIVE = "active"
    SUSPENDED = "suspended"


@dataclass(frozen=True, slots=True)
class FormerTerms:
    """What reports and bills need of terms that held before a day, `until` its beginning (UTC).

    On the day itself both they and their successors were in force: the time of the first start in between is not kept.
    """

    until: AwareDatetime
    product: str
    project: str
    billing: Billing
    seats: int

    @classmethod
    def of(cls, terms: Terms, until: datetime) -> "FormerTerms":
        """What is kept of terms that other terms replace."""
        return cls(until, terms.product, terms.project, terms.billing, terms.seats)

    def bills_as(self, terms: Terms) -> bool:
        """Whether other terms say the same."""
        return self == FormerTerms.of(terms, self.until)


@dataclass(frozen=True, slots=True)
class RecalledSession:
    """A session that an operator has recalled, and when it ended (UTC); None while it may be active."""

    session_id: str
    ended_at: AwareDatetime | None = None


@dataclass(frozen=True, slots=True)
class KeptFile:
    """The license file that the register keeps for desks with older ones: its JWS, `sealed` under a pepper.

    It counts only while its serial is that of the license state. `published_at` (UTC) is when an operator published it,
    or the beginning of the day on which a program brought it.
    """

    serial: int
    published_at: datetime
    pepper: str
    sealed: str


def _most_former(former: tuple[FormerTerms, ...]) -> tuple[FormerTerms, ...]:
    """At most `MOST_FORMER_TERMS`. Those that held at no month's end go first, since closed months need the others."""
    if len(former) <= MOST_FORMER_TERMS:
        return former
    ends = [(each.until.year, each.until.month) for each in former]
    within_month = (place for place in range(1, len(former)) if ends[place - 1] == ends[place])
    gone = next(within_month, 0)
    return former[:gone] + former[gone + 1 :]


@dataclass(frozen=True, slots=True)
class LicenseState:
    """The row that every change of a license's seats goes through. `in_use` counts the seats held.

    `since` is the beginning of the day on which the license was used or published first. The first edition did not note
    it (None): the next renewal notes the beginning of the file before. `former` is what held before its present terms,
    the oldest first. `recalled` are at most `MOST_RECALLS` sessions that extend no lease any more. `line` are those who
    wait for a seat.
    """

    terms: Terms
    status: Status = Status.ACTIVE
    collect: bool = True
    in_use: int = 0
    since: datetime | None = None
    former: tuple[FormerTerms, ...] = ()
    recalled: tuple[RecalledSession, ...] = ()
    line: Line = ()

    def under(self, terms: Terms, today: datetime) -> "LicenseState":
        """The state under other terms, which hold from today on; `today` is the beginning of the day."""
        former = FormerTerms.of(self.terms, today)
        changed = () if former.bills_as(terms) else (former,)
        since = self.since or self.terms.valid_from
        return replace(self, terms=terms, since=since, former=_most_former((*self.former, *changed)))

    def recalls(self, session_id: str) -> bool:
        """Whether a session is recalled, or was when it ended."""
        return any(recall.session_id == session_id for recall in self.recalled)

    def recalling(self, session_id: str) -> "LicenseState":
        """The state after a session is recalled."""
        return (
            self if self.recalls(session_id) else replace(self, recalled=(*self.recalled, RecalledSession(session_id)))
        )

    def with_ended(self, session_id: str, ended_at: datetime) -> "LicenseState":
        """The state after a session's end (UTC): its recall notes when that was."""
        if not self.recalls(session_id):
            return self
        ended = RecalledSession(session_id, ended_at)
        return replace(self, recalled=tuple(ended if each.session_id == session_id else each for each in self.recalled))

    def without_recalls(self, session_ids: Collection[str]) -> "LicenseState":
        """The state without the recalls of some sessions."""
        return replace(self, recalled=tuple(each for each in self.recalled if each.session_id not in session_ids))

    def without_old_recalls(self, now: datetime) -> "LicenseState":
        """The state without recalls of sessions that ended more than `RECALL_KEPT` ago."""
        recalled = tuple(each for each in self.recalled if each.ended_at is None or each.ended_at + RECALL_KEPT > now)
        return self if recalled == self.recalled else replace(self, recalled=recalled)

    def terms_before(self, instant: datetime) -> Terms | FormerTerms:
        """The terms that held right before an instant, as far as reports and bills need them."""
        return next((former for former in self.former if former.until >= instant), self.terms)

    def most_seats(self, begin: datetime, end: datetime) -> int:
        """The most seats that there were in `begin` ≤ t < `end`."""
        seats = self.terms_before(end).seats
        return max([seats, *(former.seats for former in self.former if begin <= former.until < end)])

    @property
    def suspended(self) -> bool:
        """Whether programs are refused until an operator reinstates the license."""
        return self.status is Status.SUSPENDED

    @property
    def recorded(self) -> bool:
        """Whether sessions are stored: always for a floating license, whose seats rest on them."""
        return self.collect or self.terms.kind is Kind.FLOATING


@dataclass(frozen=True, slots=True)
class Person:
    """The caller of a request: pseudonyms under the pepper that is named.

    `host_is_nobodys`: the host's name is one that many computers have, so that no seat is shared by it.
    """

    user: str
    host: str
    ip: str
    pepper: str
    host_is_nobodys: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """A session as the register holds it. `holder` is empty for a license that is not floating. Times are UTC.

    `lapses_at` is when its seat may be given away, never before its lease ends. Rows of the first edition do not have
    it, and its processes do not move it.
    """

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
    lapses_at: datetime = BEGINNING

    def __post_init__(self) -> None:
        """Lapse at the end of the lease, unless a later time is given."""
        object.__setattr__(self, "lapses_at", max(self.lapses_at, self.expires_at))

    def lapse_after(self, outage: Outage | None) -> datetime:
        """When it lapses (UTC), an outage of the service considered: who could not be heard lapses after it."""
        return spared(self.lapses_at, outage)

    @property
    def shares(self) -> bool:
        """Whether its seat has a row of its own, which counts the sessions on it."""
        return self.holder not in ("", self.id)


class SessionState(StrEnum):
    """Where an active session stands, as support sees it."""

    RUNNING = "running"
    SILENT = "silent"
    HELD = "held"
    RECALLED = "recalled"
    BORROWED = "borrowed"


def session_state(session: Session, state: LicenseState, now: datetime) -> SessionState:
    """Where an active session stands: recalled; borrowed; its lease runs; it is silent, or held while it is silent."""
    if state.recalls(session.id):
        return SessionState.RECALLED
    if session.expires_at > now:
        return SessionState.BORROWED if session.borrowed else SessionState.RUNNING
    return SessionState.HELD if session.lapses_at > now else SessionState.SILENT


class EndReason(StrEnum):
    """How a session came to its end."""

    ENDED = "ended"
    LAPSED = "lapsed"
    RELEASED = "released"
    REPLACED = "replaced"
    LOST = "lost"


@dataclass(frozen=True, slots=True)
class EndedSession:
    """A session that has ended, when (UTC), and why.

    `ran_until` is when its program stopped, if that was heard afterwards and was later than `ended_at`. `late_until` is
    the same, if it was heard too late to be counted on a day.
    """

    session: Session
    ended_at: datetime
    reason: EndReason
    ran_until: datetime | None = None
    late_until: datetime | None = None


def ended_session(
    session: Session, reason: EndReason, now: datetime, ran_until: datetime | None = None
) -> EndedSession:
    """A session as it ends now; never before it began.

    After the end of its lease it ends at its last heartbeat, so that no silent time counts. A borrowed one ends with
    its lease: until then no heartbeat was due, and nobody else could have its seat. `ran_until` is what its program
    says of itself (UTC); it is cut to now.
    """
    last_sign = session.expires_at if session.borrowed else session.heartbeat_at
    ended_at = max(last_sign if now >= session.expires_at else now, session.started_at)
    ran_until = min(ran_until, now) if ran_until else ended_at
    return EndedSession(session, ended_at, reason, ran_until if ran_until > ended_at else None)


def holder_of(session_id: str, person: Person, terms: Terms) -> str:
    """The holder of the seat that a start takes: none, the session itself, or the one that sharing names.

    A host name that is nobody's own is shared by no two sessions: the session itself holds the seat.
    """
    if terms.kind is not Kind.FLOATING:
        return ""
    match terms.sharing:
        case Sharing.NONE:
            return session_id
        case Sharing.USER:
            return person.user
        case _ if person.host_is_nobodys:
            return session_id
        case Sharing.HOST:
            return person.host
        case Sharing.USER_HOST:
            return f"{person.user}.{person.host}"
