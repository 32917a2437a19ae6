"""What a month's use comes to: statements by time and by project, from the day figures.

The rules:

- One line for each license that is billed, and with billing by project one more for each project of an
  organization, over all its licenses: its `active_days` are distinct days, its other figures sums. The column
  `line` tells the two apart, so that nobody adds a project to its own licenses.
- `seat_seconds` and `overdraft_seconds` mean what they mean in the figures and are the sums of the month's
  days; the second is a part of the first. The billed hours are apart: `billed_hours` for use within the seats
  bought, `overdraft_hours` for use beyond them.
- Time is exact, or each stay is rounded up to whole minutes. A stay is an unbroken time on one seat: a
  session, or with sharing the sessions that overlap on the seat, which nobody should pay for twice. What of
  it lies in another month is on that month's statement.
- A month is `closed` once it has ended and nothing that is still to be heard of a session can change its figures.
- Minutes are counted from the sessions themselves, which may be gone sooner than the figures of their days: erased on
  request, or past their year. Where the two no longer agree, a line bills nothing: its hours are left empty, rather
  than told too low, and it is not closed.
- Whether a license is billed, and to which project, is what its newest file says, of months before that file, too.

For these two reasons the statement that counts is the one that was billed by. Its checksum tells it from all others.

Columns and their order are a contract: new ones come last. The checksum is SHA-256 over the rows as they
stand in the CSV, header included, so that `head -n -1 statement.csv | sha256sum` checks a file; the JSON of
the same statement carries the same one.
"""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import asdict, astuple, dataclass, fields
from datetime import MAXYEAR, UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256

from licensing.rules.totals import DayTotals, aggregate_day
from licensing.rules.usage import DAY, Use, midnight, stays

MINUTE = timedelta(minutes=1)
HOURS = Decimal("0.0001")


class Rounding(StrEnum):
    """How time is billed: to the second, or each stay in minutes begun."""

    EXACT = "exact"
    MINUTE = "minute"


@dataclass(frozen=True, slots=True)
class Minutes:
    """The minutes of a month's stays, each rounded up: within the seats bought, and in overdraft."""

    within: int
    overdraft: int


@dataclass(frozen=True, slots=True)
class Account:
    """What one license brings to a month's statement.

    `billing` is `time` or `project`; `project` is empty where the license names none. `sessions` is the
    month's, each once; `days` are the figures of its days, of which those without use may be left out.
    Before `final_before` nothing can change any more. `minutes` matter for `Rounding.MINUTE` alone; None where they
    are not known.
    """

    organization_id: str
    license_id: str
    product: str
    project: str
    billing: str
    sessions: int
    days: tuple[DayTotals, ...]
    final_before: datetime
    minutes: Minutes | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One row of a statement; its fields are the columns. A project's `license` lists ids, spaced.

    The hours are None, in CSV empty, where minutes can no longer be told.
    """

    line: str
    month: str
    closed: bool
    organization: str
    license: str
    product: str
    project: str
    billing: str
    rounding: str
    active_days: int
    sessions: int
    seat_seconds: int
    overdraft_seconds: int
    billed_hours: Decimal | None
    overdraft_hours: Decimal | None


COLUMNS = tuple(column.name for column in fields(Line))


@dataclass(frozen=True, slots=True)
class Statement:
    """A month's lines, by organization: its licenses, then its projects."""

    month: str
    closed: bool
    rounding: Rounding
    lines: tuple[Line, ...]


def bounds(month: str) -> tuple[datetime, datetime]:
    """The first instant of a UTC month, and that of the next. ValueError for anything but `YYYY-MM`."""
    begin = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    if f"{begin:%Y-%m}" != month or begin.year == MAXYEAR:
        raise ValueError(f"{month} is not a month")
    return begin, (begin + timedelta(days=31)).replace(day=1)


def minutes(uses: Iterable[Use], month: str, as_of: datetime) -> Minutes:
    """Round up each stay of one license's sessions in a month; sessions beside the month are passed over."""
    within = overdraft = 0
    for stay in stays(uses, *bounds(month), as_of):
        begun = -(-stay.length // MINUTE)
        if stay.overdraft:
            overdraft += begun
        else:
            within += begun
    return Minutes(within, overdraft)


def agree(uses: Iterable[Use], days: Iterable[DayTotals], month: str, as_of: datetime) -> bool:
    """Whether one license's sessions still are those that the figures of a month's days were made from."""
    begin, end = bounds(month)
    present: defaultdict[date, list[Use]] = defaultdict(list)
    for use in uses:
        if use.touches(begin, end, as_of):
            day = max(use.started_at, begin).date()
            present[day].append(use)
            while midnight(day := day + DAY) < min(use.until(as_of), end):
                present[day].append(use)
    again = [aggregate_day(day, of_day, (), as_of).totals for day, of_day in present.items()]
    return _billed(again) == _billed(days)


def _billed(days: Iterable[DayTotals]) -> dict[date, tuple[int, int, int]]:
    return {day.day: (day.sessions, day.seat_seconds, day.overdraft_seconds) for day in days if day.sessions}


def statement(month: str, accounts: Iterable[Account], rounding: Rounding, as_of: datetime) -> Statement:
    """Draw up the statement of a UTC month `YYYY-MM`, as known at `as_of`.

    Raises ValueError for a day of another month.
    """
    projects: defaultdict[tuple[str, str], list[Account]] = defaultdict(list)
    lines = []
    for account in accounts:
        lines.append(_line("license", month, rounding, [account]))
        if account.billing == "project":
            projects[account.organization_id, account.project].append(account)
    lines += (_line("project", month, rounding, together) for together in projects.values())
    order = sorted(lines, key=lambda line: (line.organization, line.line, line.project, line.license))
    closed = bounds(month)[1] <= as_of and all(line.closed for line in lines)
    return Statement(month, closed, rounding, tuple(order))


def _line(kind: str, month: str, rounding: Rounding, accounts: list[Account]) -> Line:
    days = [day for account in accounts for day in account.days]
    for day in days:
        if f"{day.day:%Y-%m}" != month:
            raise ValueError(f"{day.day} is not a day of {month}")
    seat_seconds = sum(day.seat_seconds for day in days)
    overdraft_seconds = sum(day.overdraft_seconds for day in days)
    told = True
    if rounding is Rounding.EXACT:
        within, overdraft = seat_seconds - overdraft_seconds, overdraft_seconds
    else:
        rounded = [account.minutes for account in accounts if account.minutes is not None]
        told = len(rounded) == len(accounts)
        within = 60 * sum(each.within for each in rounded)
        overdraft = 60 * sum(each.overdraft for each in rounded)
    first = accounts[0]
    return Line(
        line=kind,
        month=month,
        closed=told and bounds(month)[1] <= min(account.final_before for account in accounts),
        organization=first.organization_id,
        license=" ".join(sorted(account.license_id for account in accounts)),
        product=first.product if kind == "license" else "",
        project=first.project,
        billing=first.billing,
        rounding=rounding,
        active_days=len({day.day for day in days if day.sessions}),
        sessions=sum(account.sessions for account in accounts),
        seat_seconds=seat_seconds,
        overdraft_seconds=overdraft_seconds,
        billed_hours=_hours(within) if told else None,
        overdraft_hours=_hours(overdraft) if told else None,
    )


def _hours(seconds: int) -> Decimal:
    return (Decimal(seconds) / 3600).quantize(HOURS)


def _rows(of: Statement) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(_cells(line) for line in of.lines)
    return text.getvalue()


def _cells(line: Line) -> Iterator[str]:
    for value in astuple(line):
        if value is None:
            yield ""
        else:
            yield str(value).lower() if isinstance(value, bool) else str(value)


def checksum(of: Statement) -> str:
    """SHA-256, in hexadecimal, over the rows of the statement as its CSV has them."""
    return sha256(_rows(of).encode()).hexdigest()


def to_csv(of: Statement) -> str:
    """The statement as CSV: header, rows, and as the last line the checksum; lines end in a line feed."""
    return f"{_rows(of)}# sha256 {checksum(of)}\n"


def to_json(of: Statement) -> str:
    """The statement as one JSON object: `month`, `closed`, `rounding`, `lines` by column, `sha256`."""
    document = {
        "month": of.month,
        "closed": of.closed,
        "rounding": of.rounding,
        "lines": [asdict(line) for line in of.lines],
        "sha256": checksum(of),
    }
    return json.dumps(document, default=float, ensure_ascii=False, indent=2) + "\n"
