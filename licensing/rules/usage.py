"""Who held what, and when: the sessions of one license laid along the time line.

The rules:

- A session holds from its start up to, not including, its end. One that is still open holds up to
  `as_of`. One that ended as it began (it crashed before its first heartbeat) was there, but held nothing.
- A holder holds one seat however many sessions it has on it: what counts is the union of their times, so
  that shared seats and overlapping re-starts count once. Where a license takes no seats, each session is
  its own holder.
- A holder is in overdraft while any session that it then runs was let in beyond the seats bought.
- A borrowed seat is no special case: it is held until it is returned, or until its lease runs out.

Users, hosts and holders are pseudonyms; they serve to tell one from another and leave this package only as
numbers (see `figures`). Times are aware and UTC.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby

from licensing.rules.model import Session

DAY = timedelta(days=1)
#: A start that is refused and then served within this time has waited; one served later has been denied.
WAIT = timedelta(minutes=15)


@dataclass(frozen=True, slots=True)
class Use:
    """One session of one license.

    `ended_at` is None while it is open, and never before `started_at`. For a lapsed session it is the last
    heartbeat, but for one that was borrowed the end of its lease: nobody else could have its seat until then.
    `holder` is empty where the license takes no seats.
    """

    session_id: str
    started_at: datetime
    ended_at: datetime | None
    user: str
    host: str
    holder: str
    overdraft: bool

    @classmethod
    def of(cls, session: Session, ended_at: datetime | None = None) -> "Use":
        """The use that a session is, or was until it ended."""
        return cls(
            session_id=session.id,
            started_at=session.started_at,
            ended_at=ended_at,
            user=session.user,
            host=session.host,
            holder=session.holder,
            overdraft=session.overdraft,
        )

    def until(self, as_of: datetime) -> datetime:
        """The end of the session, as known at `as_of`, which may be a little before its start."""
        return max(self.started_at, self.ended_at or as_of)

    def touches(self, since: datetime, until: datetime, as_of: datetime) -> bool:
        """Whether any of the session, be it the instant of its start, lies in `since` ≤ t < `until`."""
        return self.started_at < until and (since <= self.started_at or since < self.until(as_of))


@dataclass(frozen=True, slots=True)
class Denial:
    """A start that was refused for want of a seat; retries of one wait, on one day, are one denial."""

    session_id: str
    first_at: datetime
    last_at: datetime | None = None
    reason: str = ""

    def waited(self, started_at: datetime) -> bool:
        """Whether a start of the same session at `started_at` means that it had only to wait."""
        return self.first_at <= started_at <= self.first_at + WAIT


@dataclass(frozen=True, slots=True)
class Stay:
    """An unbroken time, `since` ≤ t < `until`, for which one holder held one seat, in overdraft or not."""

    since: datetime
    until: datetime
    overdraft: bool

    @property
    def length(self) -> timedelta:
        return self.until - self.since


def midnight(day: date) -> datetime:
    """The instant at which a UTC day begins."""
    return datetime.combine(day, time(), UTC)


def stays(uses: Iterable[Use], since: datetime, until: datetime, as_of: datetime) -> Iterator[Stay]:
    """The stays of all holders within `since` ≤ t < `until`, in no order; those of one holder are disjoint.

    Memory: what of `uses` touches the time asked for.
    """
    changes: defaultdict[str, list[tuple[datetime, int, int]]] = defaultdict(list)
    for use in uses:
        begin, end = max(use.started_at, since), min(use.until(as_of), until)
        if begin < end:
            over = int(use.overdraft)
            changes[use.holder or use.session_id] += (begin, 1, over), (end, -1, -over)
    for of_holder in changes.values():
        running = over = 0
        begin = since
        for at, together in groupby(sorted(of_holder), key=lambda change: change[0]):
            was_running, was_over = running > 0, over > 0
            for _, one, one_over in together:
                running += one
                over += one_over
            if (was_running, was_over) != (running > 0, over > 0):
                if was_running:
                    yield Stay(begin, at, was_over)
                begin = at


class Retrospect:
    """Goes back in time day by day, and tells of each UTC day the sessions that matter to it.

    Those are the sessions that touch the day, and those that start up to `WAIT` after it, which tell whether a denial
    of the day had only to wait.

    A session that ends while the register is read may be told twice, as open and as ended: the end is what counts.

    Going back is what bounds memory: once an end lies before a day, no further session can touch that day, whereas
    going forward a day stays unfinished for as long as some session might yet end that had begun by then. What is held
    is the day in hand, and the sessions that run across its midnight.
    """

    def __init__(self, open_sessions: Iterable[Use]) -> None:
        """Begin with the sessions that have not ended."""
        self._in_hand = {(use.session_id, use.started_at): use for use in open_sessions}
        self._before = date.max

    def day(self, day: date, ended: Iterable[Use]) -> list[Use]:
        """The sessions that matter to `day`, given those that ended on it, in any order.

        Days come in turn, each earlier than the one before; a day may be left out only if no session ended on it.
        Raises ValueError otherwise, for then figures would silently be too small.
        """
        if day >= self._before:
            raise ValueError(f"{day} comes after {self._before}: days go back in time")
        self._before = day
        begin, end = midnight(day), midnight(day) + DAY
        for use in ended:
            if use.ended_at is None or not begin <= use.ended_at < end:
                raise ValueError(f"a session that ended at {use.ended_at} did not end on {day}")
            self._in_hand[use.session_id, use.started_at] = use
        self._in_hand = {key: use for key, use in self._in_hand.items() if use.started_at < end + WAIT}
        return list(self._in_hand.values())
