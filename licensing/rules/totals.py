"""Anonymous usage totals of one license: of its days and its months.

Days and months are UTC. A day counts each session that touches it, so a session across midnight counts on both days.
The seat-seconds of the days add up to those of their month. Sessions, users, hosts and denials do not: a month counts
each of them once.

| total | counts |
| --- | --- |
| `sessions` | sessions that touch the time, also those of no length |
| `users`, `hosts` | distinct pseudonyms on those sessions; a new pepper in between makes them appear twice |
| `seat_seconds` | time for which holders held a seat, each counted once, rounded to the second for each day |
| `peak` | most holders at one instant (without seats: sessions); more than the seats when in overdraft |
| `peak_at` | the UTC hour in which the peak was first reached; None if no seat was held |
| `hours` | the peak of each UTC hour of a day: 24 numbers |
| `denials` | sessions that were refused for want of a seat |
| `waits` | those of them that were granted a seat within 15 minutes of their first refusal |
| `overdraft_seconds` | the part of `seat_seconds` beyond the seats bought |

Left to others: reading, saving, and which days have closed (`licensing.services.totals`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
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
    """The totals of a day, and what its month needs besides: pseudonyms and session ids, which are never saved.

    `carried` is how many of the sessions began on an earlier day.
    """

    totals: DayTotals
    carried: int
    users: frozenset[str]
    hosts: frozenset[str]
    denied: frozenset[str]
    waited: frozenset[str]


def aggregate_day(day: date, uses: Iterable[Use], denials: Iterable[Denial], as_of: datetime) -> DayAggregate:
    """Aggregate one UTC day of one license; a day that is not over, up to `as_of`.

    `uses` and `denials` may hold more than the day's; `usage.Retrospect` says which of `uses` a day needs.
    """
    begin, end, uses = midnight(day), midnight(day) + DAY, list(uses)
    present = [use for use in uses if use.touches(begin, end, as_of)]
    denied: defaultdict[str, list[Denial]] = defaultdict(list)
    for denial in denials:
        if begin <= denial.first_at < end:
            denied[denial.session_id].append(denial)
    starts = [(use.started_at, denied[use.session_id]) for use in uses if use.session_id in denied]
    waited = frozenset(each.session_id for start, tries in starts for each in tries if each.waited(start))
    users = frozenset(use.user for use in present)
    hosts = frozenset(use.host for use in present)
    held = list(stays(present, begin, end, as_of))
    hours = _peaks(held, begin)
    peak = max(hours)
    totals = DayTotals(
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
    )
    carried = sum(use.started_at < begin for use in present)
    return DayAggregate(totals, carried, users, hosts, frozenset(denied), waited)


def _seconds(held: Iterable[Stay]) -> int:
    return round(sum((stay.length for stay in held), timedelta()) / SECOND)


def _peaks(held: Collection[Stay], begin: datetime) -> list[int]:
    """The most stays at one instant of each of the 24 hours from `begin`."""
    # Ends sort before beginnings at the same instant: a stay does not hold at its end.
    changes = sorted([*((stay.since, 1) for stay in held), *((stay.until, -1) for stay in held)])
    hours = [0] * 24
    hour, until, level = 0, begin + HOUR, 0
    for at, change in changes:
        while at > until or (at == until and change > 0):
            hour += 1
            until += HOUR
            hours[hour] = level
        level += change
        if level > hours[hour]:
            hours[hour] = level
    return hours


def month_of(day: date) -> str:
    """The month of a day, `YYYY-MM`."""
    return f"{day:%Y-%m}"


@dataclass(slots=True)
class MonthAggregate:
    """Adds up the days of one UTC month of one license, in any order, each once.

    Memory: the month's distinct users, hosts and denials, however many sessions there were.
    """

    month: str
    users: set[str] = field(default_factory=set)
    """The distinct pseudonyms; the union over several licenses gives an organization's `users`."""
    _hosts: set[str] = field(default_factory=set)
    _denied: set[str] = field(default_factory=set)
    _waited: set[str] = field(default_factory=set)
    _sessions: int = 0
    _days: list[DayTotals] = field(default_factory=list)

    def add(self, day: DayAggregate) -> None:
        """Add one day.

        Raises ValueError if it is of another month.
        """
        totals = day.totals
        if month_of(totals.day) != self.month:
            raise ValueError(f"{totals.day} is not a day of {self.month}")
        # A session counts on the day on which it starts; one that began before the month, on the first day.
        self._sessions += totals.sessions - (0 if totals.day.day == 1 else day.carried)
        self._days.append(totals)
        self.users |= day.users
        self._hosts |= day.hosts
        self._denied |= day.denied
        self._waited |= day.waited

    def totals(self) -> MonthTotals:
        """The totals of the days added so far."""
        busiest = max(self._days, key=lambda day: (day.peak, -day.day.toordinal()), default=None)
        return MonthTotals(
            month=self.month,
            users=len(self.users),
            sessions=self._sessions,
            hosts=len(self._hosts),
            seat_seconds=sum(day.seat_seconds for day in self._days),
            peak=busiest.peak if busiest else 0,
            peak_at=busiest.peak_at if busiest else None,
            denials=len(self._denied),
            waits=len(self._waited),
            overdraft_seconds=sum(day.overdraft_seconds for day in self._days),
        )


Totals = TypeVar("Totals", DayTotals, MonthTotals)


def with_denials_of(saved: Totals | None, totals: Totals) -> Totals:
    """Totals that are aggregated again, with the denials and waits of those that were saved, if any.

    Sessions can be corrected later. Denials cannot, and are deleted once they are counted.
    """
    if saved is None:
        return totals
    denials, waits = max(saved.denials or 0, totals.denials or 0), max(saved.waits or 0, totals.waits or 0)
    return replace(totals, denials=denials, waits=waits)


def suppress(month: MonthTotals, small_group: int) -> MonthTotals:
    """What is kept of a month that outlives the year: `users`, and the rest if they were a `small_group`.

    The other totals of fewer people would show how long, when and where one of them worked.
    """
    return month if month.users >= small_group else MonthTotals(month.month, month.users)
