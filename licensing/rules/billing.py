"""What a month's use comes to: statements by time and by project, made from daily totals.

The rules:

- There is one line for each license that is billed, and for each project and kind of billing that it had in the month.
  With billing by project there is one more for each project of an organization, over all its licenses: its
  `active_days` are distinct days, its other numbers the sums of the lines of its licenses.
- Each day is billed by the terms that held at its end, a month without use by those that held at the month's end.
- `seat_seconds` and `overdraft_seconds` are the sums of the daily totals; the second is a part of the first. The billed
  hours are apart: `billed_hours` within the seats bought, `overdraft_hours` beyond them.
- Time is exact, or each stay is rounded up to whole minutes. A stay is an unbroken time on one seat: a session, or with
  sharing the sessions that overlap on the seat, which are billed once. Each month bills its own part of a stay.
- A month is `closed` once it has ended and no session can change its totals any more. Then a correction alone changes
  its statement: `corrected` is the day of the last one (UTC).
- Minutes are kept with the month's totals once it is over. Where they are not, since sessions were erased before, they
  are counted from the sessions. If these no longer agree with the daily totals, a line is not closed and its hours are
  empty, since they would be too low.

Columns and their order are a contract: new ones come last. The checksum is SHA-256 over the CSV, header included:
`sha256sum statement.csv` repeats it. The JSON of the same statement has the same checksum.
"""

import json
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from datetime import MAXYEAR, UTC, date, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from hashlib import sha256

from licensing.rules.sheets import sheet
from licensing.rules.totals import DayTotals, Minutes, aggregate_day, month_of
from licensing.rules.usage import DAY, Use, midnight, stays

HOURS = Decimal("0.0001")


class Rounding(StrEnum):
    """How time is billed: to the second, or each stay in minutes begun."""

    EXACT = "exact"
    MINUTE = "minute"


@dataclass(frozen=True, slots=True)
class Account:
    """The use of one license in a month, under one kind of billing and one project.

    `billing` is `time` or `project`. `sessions` counts each of its sessions once. `days` may leave out those without
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

    The hours are None, in CSV empty, where the minutes are no longer known. `corrected` is the UTC day of the last
    correction after the month's days were final, empty without one.
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
    corrected: str = ""


COLUMNS = tuple(column.name for column in fields(Line))


@dataclass(frozen=True, slots=True)
class Statement:
    """A month's lines, by organization: its licenses, then its projects.

    `grace_seconds` is for how long programs of these licenses ran on after their sessions' ends. It is not billed, and
    stands in no file, since it changes for some days after a statement is closed.
    """

    month: str
    closed: bool
    rounding: Rounding
    lines: tuple[Line, ...]
    grace_seconds: int = 0


def bounds(month: str) -> tuple[datetime, datetime]:
    """The first instant of a UTC month, and that of the next.

    Raises ValueError if `month` is not a month, `YYYY-MM`.
    """
    begin = datetime.strptime(month, "%Y-%m").replace(tzinfo=UTC)
    if f"{begin:%Y-%m}" != month or begin.year == MAXYEAR:
        raise ValueError(f"{month} is not a month")
    return begin, (begin + timedelta(days=31)).replace(day=1)


def minutes_of_days(uses: Collection[Use], days: Iterable[date], as_of: datetime) -> Minutes:
    """Round up each stay on some days; where one goes on from day to day, once."""
    total, wanted = Minutes(0, 0), set(days)
    for first in sorted(day for day in wanted if day - DAY not in wanted):
        last = first
        while last + DAY in wanted:
            last += DAY
        held = stays(uses, midnight(first), midnight(last) + DAY, as_of)
        total += Minutes.of((stay.overdraft, stay.length) for stay in held)
    return total


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
    by_project: defaultdict[tuple[str, str], list[Line]] = defaultdict(list)
    for account in accounts:
        line = _line(month, rounding, account)
        lines.append(line)
        if account.billing == "project":
            projects[account.organization_id, account.project].append(account)
            by_project[account.organization_id, account.project].append(line)
    lines += (_sum(by_project[key], accounts_of) for key, accounts_of in projects.items())
    order = sorted(lines, key=lambda line: (line.organization, line.line, line.project, line.license))
    closed = bounds(month)[1] <= as_of and all(line.closed for line in lines)
    return Statement(month, closed, rounding, tuple(order))


def _line(month: str, rounding: Rounding, account: Account) -> Line:
    """The line of one license."""
    for day in account.days:
        if month_of(day.day) != month:
            raise ValueError(f"{day.day} is not a day of {month}")
    seat_seconds = sum(day.seat_seconds for day in account.days)
    overdraft_seconds = sum(day.overdraft_seconds for day in account.days)
    billed = Minutes(0, 0) if account.minutes is None else account.minutes
    known = rounding is Rounding.EXACT or account.minutes is not None
    if rounding is Rounding.EXACT:
        within, overdraft = seat_seconds - overdraft_seconds, overdraft_seconds
    else:
        within, overdraft = 60 * billed.within, 60 * billed.overdraft
    return Line(
        line="license",
        month=month,
        closed=known and bounds(month)[1] <= account.final_before,
        organization=account.organization_id,
        license=account.license_id,
        product=account.product,
        project=account.project,
        billing=account.billing,
        rounding=rounding,
        active_days=sum(day.sessions > 0 for day in account.days),
        sessions=account.sessions,
        seat_seconds=seat_seconds,
        overdraft_seconds=overdraft_seconds,
        billed_hours=_hours(within) if known else None,
        overdraft_hours=_hours(overdraft) if known else None,
        corrected=max((f"{day.corrected_at:%Y-%m-%d}" for day in account.days if day.corrected_at), default=""),
    )


def _sum(lines: Sequence[Line], accounts: Sequence[Account]) -> Line:
    """The line of a project, given the lines of its licenses: their sums, so that the sheet adds up."""
    return replace(
        lines[0],
        line="project",
        closed=all(line.closed for line in lines),
        license=" ".join(sorted(line.license for line in lines)),
        product="",
        active_days=len({day.day for account in accounts for day in account.days if day.sessions}),
        sessions=sum(line.sessions for line in lines),
        seat_seconds=sum(line.seat_seconds for line in lines),
        overdraft_seconds=sum(line.overdraft_seconds for line in lines),
        billed_hours=_added(line.billed_hours for line in lines),
        overdraft_hours=_added(line.overdraft_hours for line in lines),
        corrected=max(line.corrected for line in lines),
    )


def _added(hours: Iterable[Decimal | None]) -> Decimal | None:
    """The sum of some hours; None if one of them is not known."""
    known = [*hours]
    return None if None in known else sum((each for each in known if each is not None), Decimal("0.0000"))


def _hours(seconds: int) -> Decimal:
    return (Decimal(seconds) / 3600).quantize(HOURS)


def checksum(of: Statement) -> str:
    """SHA-256, in hexadecimal, over the statement's CSV."""
    return sha256(to_csv(of).encode()).hexdigest()


def to_csv(of: Statement) -> str:
    """The statement as CSV: header and rows, and nothing else, with cells as in `licensing.rules.sheets`."""
    return sheet(COLUMNS, map(astuple, of.lines))


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
