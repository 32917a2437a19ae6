"""Anonymous totals: the day and month figures of one license.

Days and months are UTC. Each day counts what touches it, so a session across midnight counts in both days,
each with its own part of the time; seat-seconds of days therefore add up to those of their month, while
sessions, users, hosts and denials do not: a month counts each of them once.

| figure | counts |
| --- | --- |
| `sessions` | sessions that touch the time, also those of no length |
| `users`, `hosts` | distinct pseudonyms on those sessions; a new pepper in between makes them appear twice |
| `seat_seconds` | time for which holders held, each counted once, rounded to the second for each day |
| `peak` | most holders at one instant (without seats: sessions); more than the seats when in overdraft |
| `peak_at` | the UTC hour in which the peak was first reached; None if nothing was held |
| `hours` | the peak of each UTC hour of a day, 24 numbers: all that a busy-hours picture needs |
| `denials` | sessions that were refused for want of a seat |
| `waits` | those of them that were served within 15 minutes of their first refusal |
| `overdraft_seconds` | the part of `seat_seconds` beyond the seats bought |

What this module does not do: it reads and stores nothing, and leaves to its callers which days have closed.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import TypeVar

from licensing.rules.usage import DAY, Denial, Stay, Use, midnight, stays

HOUR = timedelta(hours=1)
SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class DayTotals:
    """The totals of one UTC day; `hours` has 24 numbers, the peak of each hour."""

    day: date
    sessions: int
    users: int
    hosts: int
    seat_seconds: int
    peak: int
    peak_at: datetime | None
    hours: tuple[int, ...]
    denials: int
    waits: int
    overdraft_seconds: int


@dataclass(frozen=True, slots=True)
class MonthTotals:
    """The totals of one UTC month, `YYYY-MM`; all but `users` is None once a small group was suppressed."""

    month: str
    users: int
    sessions: int | None = None
    hosts: int | None = None
    seat_seconds: int | None = None
    peak: int | None = None
    peak_at: datetime | None = None
    denials: int | None = None
    waits: int | None = None
    overdraft_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class DayAggregate:
    """The figures of a day, and the pseudonyms behind them that its month needs; never to be stored."""

    totals: DayTotals
    carried: int
    """How many of the sessions had begun on an earlier day."""
    users: frozenset[str]
    hosts: frozenset[str]
    denied: frozenset[str]
    waited: frozenset[str]


def aggregate_day(day: date, uses: Iterable[Use], denials: Iterable[Denial], as_of: datetime) -> DayAggregate:
    """Aggregate one UTC day of one license.

    `uses` and `denials` may hold more than the day's; `usage.Retrospect` says which of `uses` a day needs. The
    figures of a day that is not over at `as_of` are those up to then. Memory: the day's.
    """
    begin, end = midnight(day), midnight(day) + DAY
    present: list[Use] = []
    starts: defaultdict[str, list[datetime]] = defaultdict(list)
    for use in uses:
        starts[use.session_id].append(use.started_at)
        if use.touches(begin, end, as_of):
            present.append(use)
    refused = [denial for denial in denials if begin <= denial.first_at < end]
    waited = frozenset(d.session_id for d in refused if any(map(d.waited, starts.get(d.session_id, ()))))
    denied = frozenset(denial.session_id for denial in refused)
    users = frozenset(use.user for use in present)
    hosts = frozenset(use.host for use in present)
    held = list(stays(present, begin, end, as_of))
    hours = _peaks(held, begin)
    peak = max(hours)
    return DayAggregate(
        DayTotals(
            day=day,
            sessions=len(present),
            users=len(users),
            hosts=len(hosts),
            seat_seconds=_seconds(held),
            peak=peak,
            peak_at=begin + hours.index(peak) * HOUR if peak else None,
            hours=tuple(hours),
            denials=len(denied),
            waits=len(waited),
            overdraft_seconds=_seconds(stay for stay in held if stay.overdraft),
        ),
        carried=sum(use.started_at < begin for use in present),
        users=users,
        hosts=hosts,
        denied=denied,
        waited=waited,
    )


def _seconds(held: Iterable[Stay]) -> int:
    return round(sum((stay.length for stay in held), timedelta()) / SECOND)


def _peaks(held: Collection[Stay], begin: datetime) -> list[int]:
    """The most stays at one instant of each of the 24 hours from `begin`."""
    changes: Counter[datetime] = Counter(stay.since for stay in held)
    changes.subtract(stay.until for stay in held)
    hours = [0] * 24
    level = 0
    for at, following in pairwise(sorted(changes)):
        level += changes[at]
        for hour in range((at - begin) // HOUR, -((begin - following) // HOUR)):
            hours[hour] = max(hours[hour], level)
    return hours


def month_of(day: date) -> str:
    """The month of a day, `YYYY-MM`."""
    return f"{day:%Y-%m}"


class MonthAggregate:
    """Adds up the days of one UTC month of one license, in any order, each once.

    Memory: the month's distinct users, hosts and denials, however many sessions there were.
    """

    def __init__(self, month: str) -> None:
        self.month = month
        self.users: set[str] = set()
        """The distinct pseudonyms; those of several licenses together give an organization's `users`."""
        self._hosts: set[str] = set()
        self._denied: set[str] = set()
        self._waited: set[str] = set()
        self._sessions = self._seat_seconds = self._overdraft_seconds = self._peak = 0
        self._peak_at: datetime | None = None

    def add(self, day: DayAggregate) -> None:
        """Add one day; one of another month is an error (ValueError)."""
        totals = day.totals
        if month_of(totals.day) != self.month:
            raise ValueError(f"{totals.day} is not a day of {self.month}")
        # A session counts where it starts; what ran into the month from the one before, on the first.
        self._sessions += totals.sessions - (0 if totals.day.day == 1 else day.carried)
        self.users |= day.users
        self._hosts |= day.hosts
        self._denied |= day.denied
        self._waited |= day.waited
        self._seat_seconds += totals.seat_seconds
        self._overdraft_seconds += totals.overdraft_seconds
        if totals.peak_at is not None and (
            self._peak_at is None or (-totals.peak, totals.peak_at) < (-self._peak, self._peak_at)
        ):
            self._peak, self._peak_at = totals.peak, totals.peak_at

    def totals(self) -> MonthTotals:
        """The totals of the days added so far."""
        return MonthTotals(
            month=self.month,
            users=len(self.users),
            sessions=self._sessions,
            hosts=len(self._hosts),
            seat_seconds=self._seat_seconds,
            peak=self._peak,
            peak_at=self._peak_at,
            denials=len(self._denied),
            waits=len(self._waited),
            overdraft_seconds=self._overdraft_seconds,
        )


Totals = TypeVar("Totals", DayTotals, MonthTotals)


def with_denials_of(before: Totals, again: Totals) -> Totals:
    """Totals that are aggregated again, with the denials and waits that they had.

    Sessions can be corrected later; denials cannot, and are let go of once counted, so that they are not there to be
    counted again.
    """
    return replace(
        again,
        denials=max(before.denials or 0, again.denials or 0),
        waits=max(before.waits or 0, again.waits or 0),
    )


def suppress(month: MonthTotals, small_group: int) -> MonthTotals:
    """What may be kept of a month that outlives the year: `users`, and the rest if they were a `small_group`.

    Of fewer people the other totals would tell how long, when and where one or two of them worked.
    """
    if month.users >= small_group:
        return month
    return MonthTotals(month.month, month.users)
