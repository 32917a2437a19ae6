"""What a month's use comes to: statements by time and by project, made from daily totals.

The rules:

- There is one line for each license that is billed. With billing by project there is one more for each project of an
  organization, over all its licenses. Its `active_days` are distinct days, its other numbers sums.
- `seat_seconds` and `overdraft_seconds` are the sums of the daily totals; the second is a part of the first. The billed
  hours are apart: `billed_hours` within the seats bought, `overdraft_hours` beyond them.
- Time is exact, or each stay is rounded up to whole minutes. A stay is an unbroken time on one seat: a session, or with
  sharing the sessions that overlap on the seat, which are billed once. Each month bills its own part of a stay.
- A month is `closed` once it has ended and no session can change its totals any more.
- Minutes are counted from sessions, which may be deleted before their daily totals: erased on request, or past their
  year. If the two no longer agree, a line is not closed and its hours are empty, since they would be too low.
- A license's newest file says whether it is billed and to which project, also for months before that file.

By the last two rules a month's statement can change later. The one that was billed by counts; its checksum identifies
it.

Columns and their order are a contract: new ones come last. The checksum is SHA-256 over the rows of the CSV, header
included: `head -n -1 statement.csv | sha256sum` checks a file. The JSON of the same statement has the same checksum.
"""

import csv
import io
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, fields
from datetime import MAXYEAR, UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256

from licensing.rules.totals import DayTotals, aggregate_day, month_of
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
    """The use of one license in a month.

    `billing` is `time` or `project`. `sessions` counts each of the month's once. `days` may leave out those without
    use; before `final_before` they cannot change. `minutes`: for `Rounding.MINUTE` alone; None if not known.
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
    """One row of a statement; its fields are the columns. A project's `license` lists ids with spaces in between.

    The hours are None, in CSV empty, where the minutes are no longer known.
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
    """The first instant of a UTC month, and that of the next.

    Raises ValueError if `month` is not a month, `YYYY-MM`.
    """
    begin = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    if f"{begin:%Y-%m}" != month or begin.year == MAXYEAR:
        raise ValueError(f"{month} is not a month")
    return begin, (begin + timedelta(days=31)).replace(day=1)


def minutes(uses: Iterable[Use], month: str, as_of: datetime) -> Minutes:
    """Round up each stay of one license's sessions in a month; sessions of other times are left out."""
    rounded = [(stay.overdraft, -(-stay.length // MINUTE)) for stay in stays(uses, *bounds(month), as_of)]
    return Minutes(
        within=sum(each for overdraft, each in rounded if not overdraft),
        overdraft=sum(each for overdraft, each in rounded if overdraft),
    )


def agree(uses: Iterable[Use], days: Iterable[DayTotals], month: str, as_of: datetime) -> bool:
    """Whether one license's sessions still are those from which a month's daily totals were made."""
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
    """The statement of a UTC month `YYYY-MM`, as known at `as_of`.

    Raises ValueError if a day is of another month.
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
        if month_of(day.day) != month:
            raise ValueError(f"{day.day} is not a day of {month}")
    seat_seconds = sum(day.seat_seconds for day in days)
    overdraft_seconds = sum(day.overdraft_seconds for day in days)
    rounded = [account.minutes for account in accounts if account.minutes is not None]
    if rounding is Rounding.EXACT:
        within, overdraft = seat_seconds - overdraft_seconds, overdraft_seconds
    else:
        within, overdraft = 60 * sum(each.within for each in rounded), 60 * sum(each.overdraft for each in rounded)
    known = rounding is Rounding.EXACT or len(rounded) == len(accounts)
    first = accounts[0]
    return Line(
        line=kind,
        month=month,
        closed=known and bounds(month)[1] <= min(account.final_before for account in accounts),
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
        billed_hours=_hours(within) if known else None,
        overdraft_hours=_hours(overdraft) if known else None,
    )


def _hours(seconds: int) -> Decimal:
    return (Decimal(seconds) / 3600).quantize(HOURS)


def _rows(of: Statement) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for line in of.lines:
        writer.writerow(str(cell).lower() if isinstance(cell, bool) else cell for cell in astuple(line))
    return text.getvalue()


def checksum(of: Statement) -> str:
    """SHA-256, in hexadecimal, over the rows of the statement's CSV."""
    return sha256(_rows(of).encode()).hexdigest()


def to_csv(of: Statement) -> str:
    """The statement as CSV: header, rows, and the checksum as the last line; lines end in a line feed."""
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
