"""Anonymous usage totals of one license: of its days and its months.

Days and months are UTC. A day counts each session that touches it, so a session across midnight counts on both days.
The seat-seconds of the days add up to those of their month, and so do their sessions less those `carried`. Users, hosts
and denials do not: a month counts each of them once.

| total | counts |
| --- | --- |
| `sessions` | sessions that touch the time, also those of no length |
| `carried` | those of a day's sessions that began on an earlier day |
| `users`, `hosts` | distinct pseudonyms on those sessions, counted from below (`distinct`) |
| `seat_seconds` | time for which holders held a seat, each counted once, rounded to the second for each day |
| `peak` | most holders at one instant (without seats: sessions); more than the seats when in overdraft |
| `peak_at` | the UTC hour in which the peak was first reached; None if no seat was held |
| `hours` | the peak of each UTC hour of a day: 24 numbers |
| `hour_users` | the users of each UTC hour of a day, counted from below: 24 numbers |
| `starts` | starts that took a seat, by the number of seats held right after them: of 1 seat, of 2 and so on |
| `denials` | sessions that were refused for want of a seat |
| `waits` | those of them that were granted a seat within 15 minutes of their last refusal |
| `overdraft_seconds` | the part of `seat_seconds` beyond the seats bought |
| `minutes` | the stays of a month, each rounded up to minutes, by billing and project (`PartMinutes`) |
| `grace_seconds` | time for which programs ran on after their sessions' ends (`licensing.rules.grace`) |
| `grace_users` | distinct users of these programs, counted from below |
| `ran_peak` | most programs at one instant, these included: sessions, not holders |

A final day or month changes only by a correction (`corrected_day`, `corrected_month`). An erasure leaves its numbers.
The last three are no part of this: they are open for longer, and a correction leaves them.
A day that is over and not yet final keeps what erased sessions gave (`erased_part`) until it is final.

Left to others: reading, saving, and which days have closed (`licensing.services.totals`).
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from itertools import starmap, zip_longest
from typing import Any, Final, TypeVar

from licensing.rules.model import LicenseState
from licensing.rules.usage import DAY, Denial, Stay, Use, midnight, runs, start_levels, stays

HOUR = timedelta(hours=1)
MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)

Pseudonym = tuple[str, str]
"""The id of a pepper, and a pseudonym under it."""


@dataclass(frozen=True, slots=True)
class DayTotals:
    """The totals of one UTC day; `hours` and `hour_users` have 24 numbers, `starts` at most `MOST_LEVELS`.

    `billing`, `project`, `product` and `seats` are those of the day. `erased`: it has lost sessions to an erasure;
    `erased_part` is what they gave to `ADDED`, until the day is final, `erased_grace` what they gave to
    `grace_seconds`, while that is open. `corrected_at`: when it was corrected last after it was final (UTC). The first
    edition's days lack `carried`, `hour_users` and all from `billing` on. Days that were saved before `starts` were
    counted have none of it; others have at least one number.
    """

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
    carried: int = 0
    hour_users: tuple[int, ...] = ()
    billing: str | None = None
    project: str | None = None
    product: str | None = None
    seats: int | None = None
    erased: bool = False
    erased_part: tuple[int, ...] = ()
    corrected_at: datetime | None = None
    grace_seconds: int = 0
    grace_users: int = 0
    ran_peak: int = 0
    erased_grace: int = 0
    starts: tuple[int, ...] = ()


MOST_LEVELS: Final = 2_000
"""How many numbers `starts` has at most, so that they fit a column; the last one counts starts with more seats, too."""
GRACE: Final = ("grace_seconds", "grace_users", "ran_peak", "erased_grace")
"""The totals of a day that tell of programs that ran on after their sessions' ends."""
ADDED: Final = ("sessions", "carried", "seat_seconds", "overdraft_seconds")
"""The totals of a day that add up, to other days' and to other sessions'."""
TERMS: Final = ("billing", "project", "product", "seats")
"""What a day keeps of the terms that it is billed and judged by."""


@dataclass(frozen=True, slots=True)
class PartMinutes:
    """The minutes of a month's stays under one kind of billing and project: within the seats bought, and beyond.

    A stay that goes on under another project is rounded up in each.
    """

    billing: str
    project: str
    within: int
    overdraft: int


@dataclass(frozen=True, slots=True)
class MonthTotals:
    """The totals of one UTC month, `YYYY-MM`; all but `users` is None once a small group was suppressed.

    `minutes`, `grace_seconds` and `ran_peak` are None where they are not known: the first edition did not keep them.
    """

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
    minutes: tuple[PartMinutes, ...] | None = None
    grace_seconds: int | None = None
    ran_peak: int | None = None


@dataclass(frozen=True, slots=True)
class DayAggregate:
    """The totals of a day, and what its month needs besides: pseudonyms and session ids, which are never saved."""

    totals: DayTotals
    users: frozenset[Pseudonym]
    hosts: frozenset[Pseudonym]
    denied: frozenset[str]
    waited: frozenset[str]
    stays: tuple[Stay, ...]


def distinct(pseudonyms: Iterable[Pseudonym]) -> int:
    """How many people or computers there were at least.

    Under a new pepper the same person has another pseudonym. So the most under any one pepper count.
    """
    return max(Counter(pepper for pepper, _ in set(pseudonyms)).values(), default=0)


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
    users = frozenset((use.pepper, use.user) for use in present)
    hosts = frozenset((use.pepper, use.host) for use in present)
    held = tuple(stays(present, begin, end, as_of))
    hours = peaks(held, begin)
    peak = max(hours)
    totals = DayTotals(
        day=day,
        sessions=len(present),
        users=distinct(users),
        hosts=distinct(hosts),
        seat_seconds=_seconds(held),
        peak=peak,
        peak_at=begin + hours.index(peak) * HOUR if peak else None,
        hours=tuple(hours),
        denials=len(denied),
        waits=len(waited),
        overdraft_seconds=_seconds(stay for stay in held if stay.overdraft),
        carried=sum(use.started_at < begin for use in present),
        hour_users=_hour_users(present, begin, end, as_of),
        ran_peak=max(peaks([*runs(present, begin, end, as_of, tails=False)], begin)),
        starts=_starts(present, held, begin),
    )
    return DayAggregate(totals, users, hosts, frozenset(denied), waited, held)


def _seconds(held: Iterable[Stay]) -> int:
    return round(sum((stay.length for stay in held), timedelta()) / SECOND)


def _starts(present: Iterable[Use], held: Collection[Stay], begin: datetime) -> tuple[int, ...]:
    """The starts by the number of seats held right after them, from one seat on; at least one number."""
    levels = start_levels(held, {use.holder or use.session_id for use in present if use.started_at < begin}, begin)
    top = max(levels, default=1)
    numbers = [levels[level] for level in range(1, min(top, MOST_LEVELS) + 1)]
    numbers[-1] += sum(levels[level] for level in range(MOST_LEVELS + 1, top + 1))
    return tuple(numbers)


def _hour_users(present: Iterable[Use], begin: datetime, end: datetime, as_of: datetime) -> tuple[int, ...]:
    """The users of each of the 24 hours from `begin`; one who starts and ends in an instant is there, too."""
    users: list[set[Pseudonym]] = [set() for _ in range(24)]
    for use in present:
        first = max(use.started_at, begin)
        last = max(first, min(use.until(as_of), end) - timedelta.resolution)
        for hour in range((first - begin) // HOUR, (last - begin) // HOUR + 1):
            users[hour].add((use.pepper, use.user))
    return tuple(map(distinct, users))


def peaks(held: Collection[Stay], begin: datetime) -> list[int]:
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
    return day.isoformat()[:7]  # many times for each report; strftime takes four times as long


@dataclass(slots=True)
class MonthAggregate:
    """Adds up the days of one UTC month of one license, in any order, each once.

    Memory: the month's distinct users, hosts and denials, and the stays across midnights.
    """

    month: str
    users: set[Pseudonym] = field(default_factory=set)
    """The distinct pseudonyms; the union over several licenses gives an organization's `users`."""
    _hosts: set[Pseudonym] = field(default_factory=set)
    _denied: set[str] = field(default_factory=set)
    _waited: set[str] = field(default_factory=set)
    _days: list[DayTotals] = field(default_factory=list)
    _lost: bool = False
    _minutes: defaultdict[tuple[str, str], "MinuteCount"] = field(
        default_factory=lambda: defaultdict(lambda: MinuteCount())
    )

    def add(self, day: DayAggregate) -> None:
        """Add one day.

        Raises ValueError if it is of another month.
        """
        totals = day.totals
        if month_of(totals.day) != self.month:
            raise ValueError(f"{totals.day} is not a day of {self.month}")
        self._days.append(totals)
        self._lost |= totals.erased or totals.seat_seconds != _seconds(day.stays)
        self.users |= day.users
        self._hosts |= day.hosts
        self._denied |= day.denied
        self._waited |= day.waited
        if totals.sessions:
            self._minutes[totals.billing or "", totals.project or ""].add(totals.day, day.stays)

    @property
    def lost(self) -> bool:
        """Whether a day of it has lost sessions, by its mark or since its totals count more than they give."""
        return self._lost

    def totals(self, saved: MonthTotals | None = None) -> MonthTotals:
        """The totals of the days added so far, in place of `saved` ones.

        Where a day has lost sessions, saved users and hosts stand. Saved minutes stand as long as the seat-seconds are
        the same; otherwise no minutes are known.
        """
        busiest = max(self._days, key=lambda day: (day.peak, -day.day.toordinal()), default=None)
        minutes = ((part, count.totals()) for part, count in sorted(self._minutes.items()))
        totals = MonthTotals(
            month=self.month,
            users=distinct(self.users),
            sessions=sessions_on(self._days),
            hosts=distinct(self._hosts),
            seat_seconds=sum(day.seat_seconds for day in self._days),
            peak=busiest.peak if busiest else 0,
            peak_at=busiest.peak_at if busiest else None,
            denials=len(self._denied),
            waits=len(self._waited),
            overdraft_seconds=sum(day.overdraft_seconds for day in self._days),
            minutes=tuple(PartMinutes(*part, each.within, each.overdraft) for part, each in minutes),
            **grace_of_month(self._days),
        )
        if self.lost:
            same = saved if saved and _seat_seconds(saved) == _seat_seconds(totals) else None
            totals = replace(
                totals,
                users=max(totals.users, saved.users if saved else 0),
                hosts=max(totals.hosts or 0, (saved and saved.hosts) or 0),
                minutes=same.minutes if same else None,
            )
        return with_denials_of(saved, totals)


def grace_of_month(days: Iterable[DayTotals]) -> dict[str, Any]:
    """What the days of a month say of programs that ran on after their sessions' ends, as fields of the month."""
    each = [(day.grace_seconds, day.ran_peak) for day in days]
    return {
        "grace_seconds": sum(seconds for seconds, _ in each),
        "ran_peak": max((peak for _, peak in each), default=0),
    }


def _seat_seconds(month: MonthTotals) -> tuple[int | None, int | None]:
    return month.seat_seconds, month.overdraft_seconds


def sessions_on(days: Collection[DayTotals]) -> int:
    """How many sessions some days have, each counted once for each unbroken row of days."""
    there = {day.day for day in days}
    return sum(day.sessions - (day.carried if day.day - DAY in there else 0) for day in days)


@dataclass(frozen=True, slots=True)
class Minutes:
    """The minutes of stays, each rounded up: within the seats bought, and in overdraft."""

    within: int
    overdraft: int

    @classmethod
    def of(cls, held: Iterable[tuple[bool, timedelta]]) -> "Minutes":
        """The minutes of stays, in overdraft or not, of some lengths."""
        minutes = [0, 0]
        for overdraft, length in held:
            minutes[overdraft] += -(-length // MINUTE)
        return cls(*minutes)

    def __add__(self, other: "Minutes") -> "Minutes":
        return Minutes(self.within + other.within, self.overdraft + other.overdraft)


@dataclass(slots=True)
class MinuteCount:
    """Rounds up the stays of days that are added in any order; a stay across midnights is rounded once.

    Memory: the stays that touch a midnight.
    """

    _within_days: Minutes = Minutes(0, 0)
    _at_midnight: dict[date, list[Stay]] = field(default_factory=dict)

    def add(self, day: date, held: Iterable[Stay]) -> None:
        """Add the stays of one day, cut to it."""
        edges = midnight(day), midnight(day) + DAY
        inner = []
        self._at_midnight[day] = []
        for stay in held:
            if edges[0] < stay.since and stay.until < edges[1]:
                inner.append((stay.overdraft, stay.length))
            else:
                self._at_midnight[day].append(stay)
        self._within_days += Minutes.of(inner)

    def totals(self) -> Minutes:
        """The minutes of the days added so far."""
        whole: list[tuple[bool, timedelta]] = []
        running: dict[tuple[str, bool], tuple[datetime, timedelta]] = {}
        for stay in (stay for _, stays_of_day in sorted(self._at_midnight.items()) for stay in stays_of_day):
            key, length = (stay.holder, stay.overdraft), stay.length
            until, before = running.pop(key, (stay.since, timedelta()))
            if until == stay.since:
                length += before
            else:
                whole.append((stay.overdraft, before))
            running[key] = stay.until, length
        whole += ((overdraft, length) for (_, overdraft), (_, length) in running.items())
        return self._within_days + Minutes.of(whole)


Totals = TypeVar("Totals", DayTotals, MonthTotals)


def with_denials_of(saved: Totals | None, totals: Totals) -> Totals:
    """Totals that are aggregated again, with the denials and waits of those that were saved, if any.

    Sessions can be corrected later. Denials cannot, and are deleted once they are counted.
    """
    if saved is None:
        return totals
    denials, waits = max(saved.denials or 0, totals.denials or 0), max(saved.waits or 0, totals.waits or 0)
    return replace(totals, denials=denials, waits=waits)


def under_terms(totals: DayTotals, state: LicenseState) -> DayTotals:
    """A day's totals with the billing, project and product that held at its end, and the most seats that it had."""
    begin, end = midnight(totals.day), midnight(totals.day) + DAY
    terms, seats = state.terms_before(end), state.most_seats(begin, end)
    return replace(totals, billing=terms.billing, project=terms.project, product=terms.product, seats=seats)


def with_terms(totals: DayTotals, state: LicenseState) -> DayTotals:
    """Saved totals of a day with its terms: those of the first edition have none, and get the oldest that are known."""
    return under_terms(totals, state) if totals.billing is None else totals


def aggregated_again(saved: DayTotals | None, totals: DayTotals) -> DayTotals:
    """The totals of a day that is not final, with what the `saved` ones say of denials, grace and erased sessions."""
    totals = _with_grace_of(saved, totals)
    if saved is None or not saved.erased:
        return with_denials_of(saved, totals)
    if not saved.erased_part:  # it was final before, by a clock that was ahead
        return saved
    added = {name: getattr(totals, name) + gave for name, gave in zip(ADDED, saved.erased_part, strict=True)}
    with_part = replace(with_denials_of(saved, totals), **added, **_at_least(saved, totals))
    return replace(with_part, erased=True, erased_part=saved.erased_part)


def _with_grace_of(saved: DayTotals | None, totals: DayTotals) -> DayTotals:
    """The totals of a day with the grace of those that a night has saved.

    It is told by nights alone, so that no report shows when a program was heard of.
    """
    if saved is None or not (saved.grace_seconds or saved.erased_grace):
        return totals
    kept = {name: getattr(saved, name) for name in GRACE}
    return replace(totals, **{**kept, "ran_peak": max(saved.ran_peak, totals.ran_peak)})


def _at_least(saved: DayTotals, totals: DayTotals) -> dict[str, Any]:
    """Peaks and distinct counts that are as high as in both."""
    return {
        "users": max(saved.users, totals.users),
        "hosts": max(saved.hosts, totals.hosts),
        "peak": max(saved.peak, totals.peak),
        "peak_at": saved.peak_at if saved.peak >= totals.peak else totals.peak_at,
        "ran_peak": max(saved.ran_peak, totals.ran_peak),
        "hours": _higher(saved.hours, totals.hours),
        "hour_users": _higher(saved.hour_users, totals.hour_users),
        "starts": _higher(saved.starts, totals.starts) if saved.starts else (),
    }


def _higher(some: Sequence[int], others: Sequence[int]) -> tuple[int, ...]:
    return tuple(starmap(max, zip_longest(some, others, fillvalue=0)))


def erased_after_final(totals: DayTotals) -> DayTotals:
    """The totals of a final day that loses sessions to an erasure: it notes that, and no number changes."""
    return replace(totals, erased=True)


def erased_before_final(totals: DayTotals, before: DayTotals, after: DayTotals) -> DayTotals:
    """The totals of a day that is not final and loses sessions to an erasure: it notes what these gave.

    `before` and `after` are its totals with and without these sessions. No number of `totals` changes.
    """
    part = totals.erased_part or (0,) * len(ADDED)
    gave = (getattr(before, name) - getattr(after, name) for name in ADDED)
    return replace(totals, erased=True, erased_part=tuple(starmap(int.__add__, zip(part, gave, strict=True))))


def made_final(totals: DayTotals) -> DayTotals:
    """A day's totals once they are final: what erased sessions gave is no longer told apart."""
    return replace(totals, erased_part=())


_DISTINCT: Final = ("users", "hosts", "peak")
_ADDED_BY_MONTH: Final = ("sessions", "seat_seconds", "overdraft_seconds")


def corrected_day(saved: DayTotals, before: DayTotals, after: DayTotals, at: datetime) -> DayTotals:
    """A final day after a correction; `before` and `after` are its totals from the sessions that are still there.

    A day that has lost sessions to an erasure changes by the difference; its peaks and distinct counts stay. One that
    is as it should be stays: an interrupted correction has written it.
    """
    if not saved.erased and _is_corrected(saved, before, after):
        return saved
    if saved.erased or not _agree(saved, before):
        return replace(saved, **_differences(saved, before, after, ADDED), corrected_at=at)
    kept = {name: getattr(saved, name) for name in (*TERMS, *GRACE)}
    return replace(with_denials_of(saved, after), **kept, corrected_at=at)


def corrected_month(saved: MonthTotals, before: MonthTotals, after: MonthTotals, *, whole: bool) -> MonthTotals:
    """A final month after a correction, as `corrected_day`; `whole`: it has lost no sessions. Suppressed ones stay."""
    if saved.hosts is None or (whole and _is_corrected(saved, before, after)):
        return saved
    new = _differences(saved, before, after, _ADDED_BY_MONTH)
    if whole and _agree(saved, before):
        new |= {name: getattr(after, name) for name in (*_DISTINCT, "peak_at")}
    return replace(saved, **new, minutes=_corrected_minutes(saved, before, after))


def _corrected_minutes(saved: MonthTotals, before: MonthTotals, after: MonthTotals) -> tuple[PartMinutes, ...] | None:
    """The minutes of a month after a correction; None where they were not known."""
    if saved.minutes is None:
        return None
    sums: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0])
    for sign, month in ((1, saved), (-1, before), (1, after)):
        for part in month.minutes or ():
            of_part = sums[part.billing, part.project]
            of_part[0] += sign * part.within
            of_part[1] += sign * part.overdraft
    return tuple(PartMinutes(*part, *(max(0, each) for each in both)) for part, both in sorted(sums.items()))


def _is_corrected(saved: Totals, before: Totals, after: Totals) -> bool:
    return _agree(saved, after) and not _agree(saved, before)


def _agree(saved: Totals, again: Totals) -> bool:
    names = (*_DISTINCT, "sessions", "seat_seconds", "overdraft_seconds")
    return all(getattr(saved, name) == getattr(again, name) for name in names)


def _differences(saved: Totals, before: Totals, after: Totals, names: Iterable[str]) -> dict[str, Any]:
    """Totals that add up after a correction; what was not kept stays None."""
    known = (name for name in names if getattr(saved, name) is not None)
    return {name: max(0, getattr(saved, name) + getattr(after, name) - getattr(before, name)) for name in known}


def suppress(month: MonthTotals, small_group: int) -> MonthTotals:
    """What is kept of a month that outlives its sessions: no hour of a day, and of a small group only `users`.

    The other totals of fewer people would show how long, when and where one of them worked.
    """
    return replace(month, peak_at=None) if month.users >= small_group else MonthTotals(month.month, month.users)
