"""A customer's report on the use of its licenses: the source of the page, the CSV and the JSON.

The rules:

- There are no names and no pseudonyms, only totals, and of times of day only what `small_group` people share. Whoever
  keeps all reports and subtracts them from one another learns nobody's start or end (record 43).
- A day with fewer users has its peak, its seats and its refusals, which have no time of day; its other totals are None.
  Its refusals count only if its peak took all seats: otherwise they would tell of a lease that ran across midnight.
- An hour of a day counts in the busy hours, and is reported as a peak's hour, only if that many users were there in it.
- A month has its exact sums, as its bill has, unless its other days leave those of a single day with few users. A month
  whose days are no longer all kept has its users, hosts and peak.
- Of programs that ran on after their sessions' ends a day has the exact numbers only if so many people's did, or
  nobody's: the part after midnight is one person's end. A month has them, unless its other days leave those of a
  single day with fewer.
- Days are UTC in every format, since sessions and users cannot be moved between days afterwards. Hours are in the
  customer's time zone. Where a zone is off by part of an hour, the peak of a UTC hour counts in both hours it overlaps.
- An hour of which a part has not passed yet, or lies outside the report's days or the license's time, is left out of
  the mean, unless enough people were there.
- The verdict (`licensing.rules.verdict`) and the sizing (`licensing.rules.sizing`) rest on what is reported alone.

Left to others: which days and months are over (`licensing.services.reports`).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from licensing.rules.license import Kind, ends_in_days, last_day
from licensing.rules.model import LicenseState, Terms
from licensing.rules.sheets import sheet
from licensing.rules.sizing import Sizing, sizing
from licensing.rules.totals import HOUR, DayTotals, MonthTotals, aggregate_day, month_of
from licensing.rules.usage import DAY, midnight
from licensing.rules.verdict import ALWAYS, Verdict, not_over, verdict


class Format(StrEnum):
    """The forms in which reports, statements and exports are given; each command and route offers some of them."""

    TABLE = "table"
    TEXT = "text"
    JSON = "json"
    CSV = "csv"
    HTML = "html"


class Customer(BaseModel, frozen=True, extra="forbid"):
    """The organization that the report is for."""

    id: str
    name: str


class DayUsage(BaseModel, frozen=True, extra="forbid"):
    """A day's totals as a customer sees them.

    `sessions`, `users`, `hosts`, `seat_seconds` and `overdraft_seconds` are None on a day of few people, `peak_at` also
    where few were there in that hour. `seats` are those of the day. `grace_seconds` and `ran_peak` are None if few
    people's programs ran on, `ran_peak` also on a day of few people. Nights count them, for some days afterwards.
    """

    day: date
    sessions: int | None
    users: int | None
    hosts: int | None
    seat_seconds: int | None
    peak: int
    peak_at: datetime | None
    denials: int
    waits: int
    overdraft_seconds: int | None
    seats: int
    grace_seconds: int | None
    ran_peak: int | None


class MonthUsage(BaseModel, frozen=True, extra="ignore"):
    """A month's totals as a customer sees them; `peak_at` is always None, since a month tells no hour."""

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
    grace_seconds: int | None = None
    ran_peak: int | None = None


TAILS: Final = ("grace_seconds", "ran_peak")
"""The totals that tell of programs that ran on."""
SIZING: Final = ("sizing_seats", "sizing_hours", "hours_short", "sizing_starts", "starts_short")
"""Columns of CSV about a number of seats: the hours used and starts, and those that would have been short of them."""
SUMS: Final = ("sessions", "seat_seconds", "overdraft_seconds")
"""A month's totals from which those of its days can be subtracted."""


class BusyHour(BaseModel, frozen=True, extra="forbid"):
    """One hour of the week: the mean over the weeks of its peaks, and the highest of them.

    Where few people were there, an hour of a day counts as 0. An hour that was not over yet, or that lies before the
    license began or after it ended, does not count.
    """

    mean: float
    most: int


class Now(BaseModel, frozen=True, extra="forbid"):
    """How a license stands at a moment, `as_of` (UTC).

    `free`: fewer seats are in use than there are, overdraft included, and nobody waits. It says nothing of the license.
    `in_use`, `total` (the seats bought) and `waiting` are all None where few people used the license lately.
    """

    as_of: datetime
    free: bool
    in_use: int | None
    total: int | None
    waiting: int | None


class LicenseUsage(BaseModel, frozen=True, extra="forbid"):
    """One license: what was bought, whether it suffices, and the figures that say so.

    `busy` has seven days, Monday first, of 24 hours in the report's time zone. An hour is None if few people were there
    in all weeks, and `busy` if that holds for all hours. `late_seconds`: for how long programs ran on that were heard
    of too late to be counted on a day, in the last year; None in a customer's report.

    `valid_until` is the end of the terms in force (UTC, exclusive), `last_valid_day` the same for people.
    `ends_in_days` are the whole days left, from `ENDS_SOON_DAYS` on; 0 if the license has ended. `sizing` is None for a
    license that takes no seats, and where nothing is reported. `now` is None for a license that takes no seats, and in
    a report that nobody asked the service for.
    """

    id: str
    product: str
    kind: str
    sharing: str
    seats: int
    overdraft: int
    verdict: Verdict
    days: tuple[DayUsage, ...]
    months: tuple[MonthUsage, ...]
    busy: tuple[tuple[BusyHour | None, ...], ...] | None
    late_seconds: int | None = None
    suspended: bool
    valid_until: datetime
    last_valid_day: str
    ends_in_days: int | None
    ended: bool
    sizing: Sizing | None = None
    now: Now | None = None


class OrganizationMonth(BaseModel, frozen=True, extra="forbid"):
    """How many people used any of the organization's licenses in a month, each counted once."""

    month: str
    users: int


class Report(BaseModel):
    """All that `usage/data` and `licensing usage` tell; `from` and `to` are its first and last UTC day.

    `link_until` is when the link ends that asked for it (UTC); None in a file or a command's report.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    organization: Customer
    first: date = Field(alias="from")
    last: date = Field(alias="to")
    time_zone: str
    small_group: int
    generated_at: datetime
    licenses: tuple[LicenseUsage, ...]
    months: tuple[OrganizationMonth, ...]
    link_until: datetime | None = None


def license_usage(
    license_id: str,
    state: LicenseState,
    days: Iterable[DayTotals],
    months: Iterable[MonthTotals],
    *,
    first: date,
    last: date,
    oldest: date,
    newest: date,
    zone: ZoneInfo,
    small_group: int,
    late_seconds: int = 0,
    as_of: datetime | None = None,
) -> LicenseUsage:
    """Report on one license, which was in force from `first` to `last`, as of a moment (UTC; else the next midnight).

    `days` are all from `oldest` to `newest`, the days that are kept and over; `months` are all to report. A day that is
    not among them had no use, unless the license is not recorded. A `small_group` of 0 withholds nothing.
    """
    terms, known = state.terms, {day.day: day for day in days}
    as_of = as_of or midnight(newest + DAY)
    totals = _in_range(known, first, min(last, newest), without_gaps=state.recorded)
    every = {day.day: _reported_day(day, state, small_group) for day in known.values()}
    reported = [every.get(day.day) or _reported_day(day, state, small_group) for day in totals]
    seats = terms.seats if terms.kind is Kind.FLOATING else 0
    late = None if small_group else late_seconds
    since, until = _held_between(terms, known, as_of)
    return LicenseUsage(
        id=license_id,
        product=terms.product,
        kind=terms.kind,
        sharing=terms.sharing,
        seats=terms.seats,
        overdraft=terms.overdraft,
        verdict=(
            not_over()
            if state.recorded and first > newest
            else verdict(reported, seats, state.recorded, late_seconds=late or 0, since=since, until=until)
        ),
        days=tuple(reported),
        months=_reported_months(months, known, every.values(), oldest, small_group),
        busy=busy_hours(totals, zone, small_group, since=since, until=until),
        late_seconds=late,
        suspended=state.suspended,
        valid_until=terms.valid_until,
        last_valid_day=last_day(terms.valid_until),
        ends_in_days=ends_in_days(terms.valid_until, as_of),
        ended=terms.valid_until <= as_of,
        sizing=(
            sizing(
                known.values(),
                min(known),
                max(*known, min(newest, (terms.valid_until - timedelta.resolution).date())),
                small_group,
                refused=any(day.denials for day in every.values()),
            )
            if seats and known
            else None
        ),
    )


def _held_between(terms: Terms, known: Iterable[date], as_of: datetime) -> tuple[datetime, datetime]:
    """The time in which a license could be used, so far. Its newest file may begin after its first use."""
    since = min([terms.valid_from, *map(midnight, known)])
    return since, min(as_of, terms.valid_until)


def _in_range(known: Mapping[date, DayTotals], first: date, last: date, *, without_gaps: bool) -> list[DayTotals]:
    """The days of a range in their order, those without use among them or not."""
    every = (first + number * DAY for number in range((last - first).days + 1))
    return [known.get(day) or _unused(day) for day in every if without_gaps or day in known]


def _unused(day: date) -> DayTotals:
    return aggregate_day(day, (), (), midnight(day)).totals


def _reported_day(day: DayTotals, state: LicenseState, small_group: int) -> DayUsage:
    """A day as a customer may see it."""
    begin = midnight(day.day)
    seats = state.most_seats(begin, begin + DAY) if day.seats is None else day.seats
    enough = day.users >= small_group
    exact = enough or not day.users  # a day without use is reported as zeros
    refusals = enough or day.peak >= seats + state.terms.overdraft
    tails = day.grace_users >= small_group or not day.grace_seconds
    return DayUsage(
        day=day.day,
        sessions=day.sessions if exact else None,
        users=day.users if exact else None,
        hosts=day.hosts if exact else None,
        seat_seconds=day.seat_seconds if exact else None,
        peak=day.peak,
        peak_at=day.peak_at if enough and _enough_at_peak(day, small_group) else None,
        denials=day.denials if refusals else 0,
        waits=day.waits if refusals else 0,
        overdraft_seconds=day.overdraft_seconds if exact else None,
        seats=seats,
        grace_seconds=day.grace_seconds if tails else None,
        ran_peak=day.ran_peak if tails and exact else None,
    )


def _enough_at_peak(day: DayTotals, small_group: int) -> bool:
    """Whether enough users were there in the hour of a day's peak; not if the users of its hours are not known."""
    return bool(day.peak_at and day.hour_users and day.hour_users[day.peak_at.hour] >= small_group)


def _reported_months(
    months: Iterable[MonthTotals],
    known: Mapping[date, DayTotals],
    reported: Iterable[DayUsage],
    oldest: date,
    small_group: int,
) -> tuple[MonthUsage, ...]:
    """Months as a customer may see them, in their order; `known` and `reported` are all days that are kept."""
    alone, few_ran_on, denials, waits = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for day in known.values():
        alone[month_of(day.day)] += day.peak > 0 and 0 < day.users < small_group
        few_ran_on[month_of(day.day)] += day.grace_seconds > 0 and day.grace_users < small_group
    for each in reported:
        denials[month_of(each.day)] += each.denials
        waits[month_of(each.day)] += each.waits
    found = []
    for month in sorted(months, key=lambda month: month.month):
        totals = asdict(month) | {"peak_at": None}
        if small_group and date.fromisoformat(f"{month.month}-01") < oldest:
            totals |= dict.fromkeys((*SUMS, *TAILS, "denials", "waits"))
        elif small_group:
            # A refusal that its day does not report is not in the month, either.
            totals["denials"] = min(month.denials or 0, denials[month.month])
            totals["waits"] = min(month.waits or 0, waits[month.month])
            if alone[month.month] == 1:
                totals |= dict.fromkeys(SUMS)
            if few_ran_on[month.month] == 1:
                totals |= dict.fromkeys(TAILS)
        found.append(MonthUsage(**totals))
    return tuple(found)


def busy_hours(
    days: Iterable[DayTotals],
    zone: ZoneInfo,
    small_group: int,
    *,
    since: datetime = ALWAYS[0],
    until: datetime = ALWAYS[1],
) -> tuple[tuple[BusyHour | None, ...], ...] | None:
    """The hours of the week in a time zone, Monday first, from the hourly peaks of UTC days; None if none is reported.

    An hour counts if enough people were there, or if all of it lies in these days and in `since` ≤ t < `until` (UTC).
    When clocks go back, the hour that comes twice counts once, with the higher peak. Days whose hours' users are not
    known are left out.
    """
    peaks: dict[LocalHour, int] = {}
    overlapped: dict[LocalHour, tuple[int, int]] = {}
    reported: set[LocalHour] = set()
    observed: set[int] = set()
    whole = range(-((ALWAYS[0] - since) // HOUR), (until - ALWAYS[0]) // HOUR)
    for day in days:
        for (number, local_hours), peak, users in zip(
            _local_hours(day.day, zone), day.hours, day.hour_users, strict=False
        ):
            if number in whole:
                observed.add(number)
            enough = users >= max(small_group, 1)  # also for the vendor, an hour without anybody may not be over
            for local, overlaps in local_hours:
                overlapped.setdefault(local, overlaps)
                peaks[local] = max(peaks.get(local, 0), peak if enough else 0)
                if enough:
                    reported.add(local)
    if not reported:
        return None
    week: list[list[list[int]]] = [[[] for _ in range(24)] for _ in range(7)]
    for local, peak in peaks.items():
        if local in reported or observed.issuperset(overlapped[local]):
            week[local[0].weekday()][local[1]].append(peak)
    shown = {(local_day.weekday(), hour) for local_day, hour in reported}
    return tuple(
        tuple(_busy_hour(seen) if (weekday, hour) in shown else None for hour, seen in enumerate(hours))
        for weekday, hours in enumerate(week)
    )


LocalHour = tuple[date, int]
"""A day in a time zone, and one of its hours."""


@lru_cache(maxsize=1_000)  # more than a year, for all licenses of a report
def _local_hours(day: date, zone: ZoneInfo) -> tuple[tuple[int, tuple[tuple[LocalHour, tuple[int, int]], ...]], ...]:
    """The hours of a UTC day, numbered from the first one on, each with the local hours that it overlaps.

    With a local hour are the numbers of the first and the last UTC hour that it overlaps.
    """
    found = []
    for hour in range(24):
        begin = midnight(day) + hour * HOUR
        local_hours: dict[LocalHour, tuple[int, int]] = {}
        for instant in (begin, begin + HOUR - timedelta.resolution):
            local = instant.astimezone(zone)
            starts = local.replace(minute=0, second=0, microsecond=0).astimezone(UTC)
            overlaps = (starts - ALWAYS[0]) // HOUR, (starts + HOUR - timedelta.resolution - ALWAYS[0]) // HOUR
            local_hours.setdefault((local.date(), local.hour), overlaps)
        found.append(((begin - ALWAYS[0]) // HOUR, tuple(local_hours.items())))
    return tuple(found)


def _busy_hour(seen: list[int]) -> BusyHour:
    return BusyHour(mean=round(sum(seen) / len(seen), 2), most=max(seen))


def to_csv(report: Report) -> str:
    """One table: of each license a row for each day, then one for each month, then one for each number of seats.

    A day's row has a `day`, a month's a `month`, and one of a number of seats `sizing_seats`; nothing else tells them
    apart. A month's row is about the whole month, and one of a number of seats about `Sizing`'s days. What is withheld
    is an empty cell; cells are as in `licensing.rules.sheets`. Columns are a contract: new ones come last. `seats` are
    those of the license now, `day_seats` those of the day.
    """
    totals = (name for name in DayUsage.model_fields if name not in ("seats", *TAILS))
    columns = ("organization", "license", "product", "kind", "seats", *totals, "month", "day_seats", *TAILS, *SIZING)
    rows: list[dict[str, Any]] = []
    for usage in report.licenses:
        bought = usage.model_dump(mode="json", include={"product", "kind", "seats"})
        row = {"organization": report.organization.id, "license": usage.id, **bought}
        reported = usage.model_dump(mode="json", include={"days", "months"})
        rows += (row | day | {"seats": usage.seats, "day_seats": day["seats"]} for day in reported["days"])
        rows += (row | month for month in reported["months"])
        rows += (row | cells for cells in _sizing_cells(usage.sizing))
    return sheet(columns, (map(row.get, columns) for row in rows))


def _sizing_cells(found: Sizing | None) -> Iterator[dict[str, int | None]]:
    if found is not None:
        for point in found.curve:
            yield dict(zip(SIZING, (point.seats, found.hours, point.hours, found.starts, point.starts), strict=True))


def to_json(report: Report) -> str:
    """The report as one JSON object."""
    return report.model_dump_json()
