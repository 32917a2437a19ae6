"""Who held what, and when: the sessions of one license on the time line.

The rules:

- A session holds from its start up to, not including, its end. An open one holds up to `as_of`. One that ended as it
  began (it crashed before its first heartbeat) is counted, but holds nothing.
- A holder holds one seat however many sessions it has on it: the union of their times counts, so overlapping re-starts
  count once. Where a license takes no seats, each session is its own holder.
- A holder is in overdraft while any of its running sessions was granted beyond the seats bought.
- A borrowed seat is no special case: it is held until it is returned, or until its lease runs out.
- A program may have run on after its session's end, out of reach (`ran_until`). Then it holds nothing, but runs.

Users, hosts and holders are pseudonyms. They serve to tell one from another, and leave the rules only as numbers
(`licensing.rules.totals`). Times are aware and UTC.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby

from licensing.rules.model import Session

DAY = timedelta(days=1)
WAIT = timedelta(minutes=15)
"""A session that is granted within this time after its last refusal has waited; one granted later was denied."""


@dataclass(frozen=True, slots=True)
class Use:
    """One session of one license.

    `ended_at` is None while it is open, and never before `started_at`. `holder` is empty where the license takes no
    seats. `pepper` is that of the pseudonyms. `ran_until` is when the program stopped, if it ran on after the end.
    """

    session_id: str
    started_at: datetime
    ended_at: datetime | None
    user: str
    host: str
    holder: str
    overdraft: bool
    pepper: str = ""
    ran_until: datetime | None = None

    @classmethod
    def of(cls, session: Session, ended_at: datetime | None = None, ran_until: datetime | None = None) -> "Use":
        """The use of a session that is open, or that ended at a time."""
        user, host, holder, over = session.user, session.host, session.holder, session.overdraft
        return cls(session.id, session.started_at, ended_at, user, host, holder, over, session.pepper, ran_until)

    @property
    def tail(self) -> tuple[datetime, datetime] | None:
        """The time for which the program ran on after the session's end; None if it did not."""
        if self.ended_at is None or self.ran_until is None or self.ran_until <= self.ended_at:
            return None
        return max(self.started_at, self.ended_at), self.ran_until

    def until(self, as_of: datetime) -> datetime:
        """The end of the session, as known at `as_of`, which may be a little before its start."""
        return max(self.started_at, self.ended_at or as_of)

    def touches(self, since: datetime, until: datetime, as_of: datetime) -> bool:
        """Whether any of the session, be it the instant of its start, lies in `since` ≤ t < `until`."""
        return self.started_at < until and (since <= self.started_at or since < self.until(as_of))


@dataclass(frozen=True, slots=True)
class Denial:
    """A start that was refused for want of a seat; retries of one session on one day are one denial."""

    session_id: str
    first_at: datetime
    last_at: datetime | None = None
    reason: str = ""

    def waited(self, started_at: datetime) -> bool:
        """Whether a start of the same session at `started_at` makes this a wait, however long it was."""
        return self.first_at <= started_at <= (self.last_at or self.first_at) + WAIT


@dataclass(frozen=True, slots=True)
class Stay:
    """An unbroken time, `since` ≤ t < `until`, for which one holder held one seat, in overdraft or not."""

    since: datetime
    until: datetime
    overdraft: bool
    holder: str

    @property
    def length(self) -> timedelta:
        return self.until - self.since


def midnight(day: date) -> datetime:
    """The instant at which a UTC day begins."""
    return datetime.combine(day, time(), UTC)


def stays(uses: Iterable[Use], since: datetime, until: datetime, as_of: datetime) -> Iterator[Stay]:
    """The stays of all holders within `since` ≤ t < `until`, in no order; those of one holder are disjoint."""
    held: defaultdict[str, list[Stay]] = defaultdict(list)
    for use in uses:
        begin, end = max(use.started_at, since), min(use.until(as_of), until)
        if begin < end:
            holder = use.holder or use.session_id
            held[holder].append(Stay(begin, end, use.overdraft, holder))
    for of_holder in held.values():
        if len(of_holder) == 1:
            yield of_holder[0]
        else:
            yield from _union(of_holder)


def start_levels(held: Collection[Stay], carried: Container[str], since: datetime) -> Counter[int]:
    """How many seats were held right after each start that took one: the number of starts by that number of seats.

    `held` are all stays from `since` on. A start takes a seat if its holder had none until then; `carried` are the
    holders that had one before `since`. Ends come before starts at the same instant, and so each start counts the
    seats of the starts before it.
    """
    # Where overdraft changes, one stay of a holder follows another: it is no start.
    begins = {(stay.holder, stay.since) for stay in held}
    ends = {(stay.holder, stay.until) for stay in held}
    changes = [(stay.until, -1, False) for stay in held if (stay.holder, stay.until) not in begins]
    changes += [
        (stay.since, 1, stay.since > since or stay.holder not in carried)
        for stay in held
        if (stay.holder, stay.since) not in ends
    ]
    levels, level = Counter[int](), 0
    for _, change, is_start in sorted(changes):
        level += change
        if is_start:
            levels[level] += 1
    return levels


def runs(uses: Iterable[Use], since: datetime, until: datetime, as_of: datetime, *, tails: bool) -> Iterator[Stay]:
    """The part of `since` ≤ t < `until` in which the program of each session ran; with `tails`, also after its end."""
    for use in uses:
        stopped = use.tail[1] if tails and use.tail else use.until(as_of)
        begin, end = max(use.started_at, since), min(stopped, until)
        if begin < end:
            yield Stay(begin, end, use.overdraft, use.session_id)


def _union(of_holder: Sequence[Stay]) -> Iterator[Stay]:
    """The stays of one holder, given those of each of its sessions, which may overlap."""
    changes: list[tuple[datetime, int, int]] = []
    for stay in of_holder:
        over = int(stay.overdraft)
        changes += (stay.since, 1, over), (stay.until, -1, -over)
    changes.sort()
    running, over, begin = 0, 0, changes[0][0]
    for at, together in groupby(changes, key=lambda change: change[0]):
        was_running, was_over = running > 0, over > 0
        for _, one, one_over in together:
            running += one
            over += one_over
        if (was_running, was_over) != (running > 0, over > 0):
            if was_running:
                yield Stay(begin, at, was_over, of_holder[0].holder)
            begin = at


class Retrospect:
    """The sessions that matter to each UTC day, going back in time day by day.

    Those are the sessions that touch the day, and those that start up to `WAIT` after it, which turn denials into
    waits. A session that ends while the register is read may be given as open and as ended: the end counts.

    Going back bounds memory: once an end lies before a day, no further session can touch that day. Going forward, a
    day would stay unfinished until every session that had begun by then has ended. In memory are one day's sessions,
    and those that run across its midnight.
    """

    def __init__(self, open_sessions: Iterable[Use]) -> None:
        self._sessions = {(use.session_id, use.started_at): use for use in open_sessions}
        self._before = date.max

    def day(self, day: date, ended: Iterable[Use]) -> list[Use]:
        """The sessions that matter to `day`, given those that ended on it, in any order.

        Each day is earlier than the one before. A day may be left out only if no session ended on it.

        Raises ValueError if a day or an end is out of order: totals would be too small.
        """
        if day >= self._before:
            raise ValueError(f"{day} comes after {self._before}: days go back in time")
        self._before = day
        begin, end = midnight(day), midnight(day) + DAY
        for use in ended:
            if use.ended_at is None or not begin <= use.ended_at < end:
                raise ValueError(f"a session that ended at {use.ended_at} did not end on {day}")
            self._sessions[use.session_id, use.started_at] = use
        self._sessions = {key: use for key, use in self._sessions.items() if use.started_at < end + WAIT}
        return list(self._sessions.values())
