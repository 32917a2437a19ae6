"""A customer's report on the use of its licenses: the source of the page, the CSV and the JSON.

The rules:

- There are no names and no pseudonyms, only totals. Hours are withheld where they could be one person's working time.
  Busy hours need a day on which at least `small_group` people used the license; the hour of a peak needs that day.
- Days are UTC in every format, since sessions and users cannot be moved between days afterwards. Hours are in the
  customer's time zone. Where a zone is off by part of an hour, the peak of a UTC hour counts in both hours it overlaps.
- The verdict compares peaks with the seats bought at the time of asking. Working days are Monday to Friday; public
  holidays are not known here.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field

from licensing.rules.license import Kind
from licensing.rules.model import Terms
from licensing.rules.sheets import sheet
from licensing.rules.totals import HOUR, DayTotals, MonthTotals, Totals, aggregate_day
from licensing.rules.usage import DAY, midnight


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


class DayUsage(BaseModel, frozen=True, from_attributes=True):
    """A day's figures as a customer sees them; `peak_at` is withheld (None) where few people were active."""

    day: date
    sessions: int
    users: int
    hosts: int
    seat_seconds: int
    peak: int
    peak_at: datetime | None
    denials: int
    waits: int
    overdraft_seconds: int


class BusyHour(BaseModel, frozen=True, extra="forbid"):
    """One hour of the week: the mean over the weeks of its peaks, and the highest of them."""

    mean: float
    most: int


class State(StrEnum):
    """Whether the seats suffice."""

    ENOUGH = "enough"
    TIGHT = "tight"
    SHORT = "short"
    IDLE = "idle"
    NO_SEATS = "no-seats"
    UNRECORDED = "unrecorded"


class Verdict(BaseModel, frozen=True, extra="forbid"):
    """The answer to the customer's question, as a state for programs, a few words, and a sentence."""

    state: State
    headline: str
    sentence: str


class LicenseUsage(BaseModel, frozen=True, extra="forbid"):
    """One license: what was bought, whether it suffices, and the figures that say so.

    `busy` has seven days, Monday first, of 24 hours in the report's time zone; None where it is withheld.
    """

    id: str
    product: str
    kind: str
    sharing: str
    seats: int
    overdraft: int
    verdict: Verdict
    days: tuple[DayUsage, ...]
    months: tuple[MonthTotals, ...]
    busy: tuple[tuple[BusyHour, ...], ...] | None


class OrganizationMonth(BaseModel, frozen=True, extra="forbid"):
    """How many people used any of the organization's licenses in a month, each counted once."""

    month: str
    users: int


class Report(BaseModel):
    """All that `usage/data` and `licensing usage` tell; `from` and `to` are its first and last UTC day."""

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


def license_usage(
    license_id: str,
    terms: Terms,
    days: Iterable[DayTotals],
    months: Iterable[MonthTotals],
    *,
    first: date,
    last: date,
    zone: ZoneInfo,
    small_group: int,
    recorded: bool = True,
) -> LicenseUsage:
    """Report on one license, which was in force from `first` to `last`.

    A day in between that is not among `days` had no use, unless the license is not `recorded`.
    """
    totals = sorted(days, key=lambda day: day.day)
    crowded = {day.day for day in totals if day.users >= small_group}
    if recorded:
        totals = _without_gaps({day.day: day for day in totals}, first, last)
    return LicenseUsage(
        id=license_id,
        product=terms.product,
        kind=terms.kind,
        sharing=terms.sharing,
        seats=terms.seats,
        overdraft=terms.overdraft,
        verdict=verdict(totals, terms.seats if terms.kind is Kind.FLOATING else 0, recorded),
        days=tuple(DayUsage.model_validate(_without_hour(day, crowded)) for day in totals),
        months=tuple(_without_hour(month, crowded) for month in sorted(months, key=lambda month: month.month)),
        busy=busy_hours(totals, zone) if crowded else None,
    )


def _without_gaps(known: Mapping[date, DayTotals], first: date, last: date) -> list[DayTotals]:
    every = {first + number * DAY for number in range((last - first).days + 1)} | known.keys()
    return [known.get(day) or aggregate_day(day, (), (), midnight(day)).totals for day in sorted(every)]


def _without_hour(totals: Totals, crowded: Collection[date]) -> Totals:
    """Totals without the hour of their peak, unless enough people were active on that day."""
    return totals if totals.peak_at and totals.peak_at.date() in crowded else replace(totals, peak_at=None)


def busy_hours(days: Iterable[DayTotals], zone: ZoneInfo) -> tuple[tuple[BusyHour, ...], ...]:
    """The hours of the week in a time zone, Monday first, from the hourly peaks of UTC days.

    When clocks go back, the hour that comes twice counts once, with the higher peak. An hour that no day covers is 0.
    """
    peaks: defaultdict[tuple[date, int], int] = defaultdict(int)
    for day in days:
        for hour, peak in enumerate(day.hours):
            begin = midnight(day.day) + hour * HOUR
            for instant in (begin, begin + HOUR - timedelta.resolution):
                local = instant.astimezone(zone)
                key = local.date(), local.hour
                peaks[key] = max(peaks[key], peak)
    week: list[list[list[int]]] = [[[] for _ in range(24)] for _ in range(7)]
    for (local_day, hour), peak in peaks.items():
        week[local_day.weekday()][hour].append(peak)
    return tuple(tuple(_busy_hour(seen) for seen in hours) for hours in week)


def _busy_hour(seen: list[int]) -> BusyHour:
    return BusyHour(mean=round(sum(seen) / max(1, len(seen)), 2), most=max(seen, default=0))


def verdict(days: Iterable[DayTotals], seats: int, recorded: bool = True) -> Verdict:
    """Whether the seats sufficed on these days; `seats` is 0 for a license that takes none.

    Use that is not `recorded` is not said to be none.
    """
    days = list(days)
    peak = max((day.peak for day in days), default=0)
    refused = sum(day.denials for day in days)
    if not refused and not any(day.sessions for day in days):
        if not recorded:
            sentence = "The use of this license is not recorded, as was asked for."
            return Verdict(state=State.UNRECORDED, headline="Not recorded", sentence=sentence)
        return Verdict(state=State.IDLE, headline="Not used", sentence="Nobody used this license in this time.")
    if not seats:
        sentence = f"This license takes no seats. At most {_count(peak, 'session')} ran at once."
        return Verdict(state=State.NO_SEATS, headline="Takes no seats", sentence=sentence)
    full = [day for day in days if day.peak >= seats]
    if refused:
        state, headline = State.SHORT, "Seats ran out"
    elif full and seats > 1:
        state, headline = State.TIGHT, "Just enough seats"
    else:
        state, headline = State.ENOUGH, "Enough seats"
    sentence = f"{_taken(full, days, seats, peak)}; {_refused(refused, sum(day.waits for day in days))}."
    overdraft = sum(day.overdraft_seconds for day in days) / 3600
    if overdraft:
        sentence += f" Use beyond the seats bought came to {max(overdraft, 0.1):.1f} hours."
    return Verdict(state=state, headline=headline, sentence=sentence)


def _taken(full: list[DayTotals], days: list[DayTotals], seats: int, peak: int) -> str:
    if not full:
        return f"At most {peak} of the {seats} seats were taken at once"
    working = [day for day in days if day.day.weekday() < 5]
    full_working = sum(day.day.weekday() < 5 for day in full)
    seats_were = "The one seat was" if seats == 1 else "The seats were all"
    when = [f"on {full_working} of {_count(len(working), 'working day')}"] if full_working else []
    if full_weekend := len(full) - full_working:
        when.append(f"on {_count(full_weekend, 'weekend day')}")
    return f"{seats_were} taken {' and '.join(when)}"


def _refused(refused: int, waits: int) -> str:
    if not refused:
        return "no start was refused"
    were = "1 start was refused" if refused == 1 else f"{refused} starts were refused"
    if not waits:
        return were
    if waits == refused:
        return f"{were}, but served within 15 minutes"
    return f"{were}, {waits} of them served within 15 minutes"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def to_csv(report: Report) -> str:
    """One table: of each license a row for each day, then one for each month; cells as in `licensing.rules.sheets`.

    Either `day` or `month` is filled. A month's row is about the whole month, and has empty cells for totals that were
    suppressed. Columns are a contract: new ones come last.
    """
    columns = ("organization", "license", "product", "kind", "seats", *DayUsage.model_fields, "month")
    rows: list[dict[str, object]] = []
    for usage in report.licenses:
        bought = usage.model_dump(mode="json", include={"product", "kind", "seats"})
        row = {"organization": report.organization.id, "license": usage.id, **bought}
        totals = usage.model_dump(mode="json", include={"days", "months"})
        rows += (row | each for each in (*totals["days"], *totals["months"]))
    return sheet(columns, (map(row.get, columns) for row in rows))


def to_json(report: Report) -> str:
    """The report as one JSON object."""
    return report.model_dump_json()
