"""`licensing usage`: reports on the use of a customer's licenses, and links to the customer's usage page."""

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from licensing.api.pages.usage import usage_report
from licensing.cli.context import environment, home, in_event_loop, store
from licensing.cli.options import out_option, wrong_usage
from licensing.cli.output import bar, check_id, count, deliver, err, fail, show, table
from licensing.crypto.tokens import ReportPass, write_report_pass
from licensing.rules.report import Format, LicenseUsage, Report, to_csv, to_json
from licensing.rules.sizing import Sizing, SizingPoint
from licensing.services.reports import Reports, newest_day, oldest_day, span
from licensing.services.service import utc_now
from licensing.settings import small_group

ReportFormat = Literal[Format.TABLE, Format.JSON, Format.CSV, Format.HTML]

MOST_POINTS: Final = 20
"""How many numbers of seats a table shows at most."""


def usage(
    what: Annotated[
        list[str] | None,
        Argument(metavar="[LICENSE | link ORG]", help="The id of a license; or `link` and the id of a customer."),
    ] = None,
    organization_id: Annotated[
        str | None, Option("--organization", help="Report on all licenses of this customer.")
    ] = None,
    first: Annotated[str | None, Option("--from", metavar="DATE", help="First day of the report (UTC).")] = None,
    last: Annotated[
        str | None,
        Option("--to", metavar="DATE", help="Last day of the report (UTC). Default: yesterday; in a table, today."),
    ] = None,
    days: Annotated[
        int,
        Option(
            min=1,
            max=3650,
            help="Days of the report, if --from is not given. With `link`: days for which the link works.",
        ),
    ] = 90,
    time_zone: Annotated[str, Option(help="Time zone of the hours in the report, as in Europe/Helsinki.")] = "UTC",
    format_: Annotated[
        ReportFormat, Option("--format", help="Form of the report; html is a page in one file.")
    ] = Format.TABLE,
    out_file: Annotated[Path | None, out_option("report or the link")] = None,
) -> None:
    """Report on the use of licenses: `usage LICENSE`, `usage --organization ORG`, or `usage link ORG`.

    `usage link ORG` prints a link to the customer's usage page. Everybody with the link can read that page.

    A table is for the vendor: it has today, this month and exact sums.

    JSON, CSV and page are for the customer: days and months that are over, and nobody's times.

    In CSV, each license has a row for each day of the report, then a row for each whole month, then one for each number
    of seats that might do. A text that a spreadsheet would run as a formula begins with an apostrophe.
    """
    zone = _zone(time_zone)
    match what or []:
        case ["link", customer_id] if organization_id is None:
            _link(customer_id, days, zone, out_file)
        case [license_id] if organization_id is None and license_id != "link":
            _report(None, license_id, _span(first, last, days, format_), zone, format_, out_file)
        case [] if organization_id is not None:
            _report(organization_id, None, _span(first, last, days, format_), zone, format_, out_file)
        case _:
            raise typer.BadParameter("give the id of one license, or --organization ORG, or `link ORG`")


def _link(organization_id: str, days: int, zone: ZoneInfo, out_file: Path | None) -> None:
    issuer = home().issuer()
    now = datetime.now(UTC)
    with wrong_usage("`link` takes the id of a customer"):
        report_pass = ReportPass(
            issuer=issuer.name,
            organization_id=organization_id,
            issued_at=now,
            expires_at=now + timedelta(days=days),
            time_zone=zone.key,
        )
    if home().customer(organization_id) is None:
        fail(f"{organization_id} is not among the customers in {home().folder}: no license was issued to it from here.")
    token = write_report_pass(report_pass, home().issuer_keys())
    deliver(f"{issuer.service.rstrip('/')}/usage#{token}\n", out_file, private=True)
    err.print(
        f"Works until {report_pass.expires_at:%Y-%m-%d}. Everybody with the link can read {organization_id}'s page."
    )


@in_event_loop
async def _report(
    organization_id: str | None,
    license_id: str | None,
    days: tuple[date, date],
    zone: ZoneInfo,
    format_: ReportFormat,
    out_file: Path | None,
) -> None:
    check_id("license", license_id)
    check_id("organization", organization_id)
    report = None
    async with store() as (register, _):
        if license_id is not None:
            state = await register.state(license_id)
            organization_id = state.value.terms.organization_id if state else None
        if organization_id is not None:
            reports = Reports(register, utc_now, small_group(environment()))
            with bar("licenses") as progress:
                reading = await reports.read(organization_id, license_id, progress, for_vendor=format_ is Format.TABLE)
            if reading.licenses:
                report = reports.report(reading, *days, zone)
    if report is None:
        fail(
            f"There is no {f'license {license_id}' if license_id else f'license of {organization_id}'} in the register."
        )
    match format_:
        case Format.JSON:
            deliver(to_json(report) + "\n", out_file)
        case Format.CSV:
            deliver(to_csv(report), out_file)
        case Format.HTML:
            deliver(usage_report(report), out_file)
        case Format.TABLE:
            show(out_file, *(part for each in report.licenses for part in _parts(each, report)))


def _parts(usage: LicenseUsage, report: Report) -> Iterator[Table | Text]:
    """What a table says of one license: of all its months, of the days of the report, and how many seats would do."""
    yield _months(usage)
    first, last = (usage.days[0].day, usage.days[-1].day) if usage.days else (report.first, report.last)
    yield Text(f"From {first} to {last}: {usage.verdict.sentence}\n")
    if usage.sizing is not None:
        yield _curve(usage.id, usage.sizing)
        yield Text(f"From {usage.sizing.first} to {usage.sizing.last}: {usage.sizing.sentence}\n")


def _months(usage: LicenseUsage) -> Table:
    columns = ("month", "users", "sessions", "hours used", "peak", "refused", "of these waited", "overdraft hours")
    seats = f", {count(usage.seats, 'seat')}" if usage.seats else ""
    rows = [
        (
            *(month.month, month.users, month.sessions, _hours(month.seat_seconds)),
            *(month.peak, month.denials, month.waits, _hours(month.overdraft_seconds)),
        )
        for month in usage.months
    ]
    return table(*columns, rows=rows, title=f"{usage.product} ({usage.id}){seats}: all months that are kept")


def _curve(license_id: str, sizing: Sizing) -> Table:
    rows = [
        (point.seats, point.hours, f"{100 * point.hours / sizing.hours:.1f} %", point.starts)
        for point in _shown(sizing.curve)
    ]
    columns = ("seats", "hours short", "share of the hours used", "starts short")
    return table(*columns, rows=rows, title=f"{license_id}: how many seats would do, days of the last year")


def _shown(curve: Sequence[SizingPoint]) -> list[SizingPoint]:
    """The points of a curve that fit a table: the highest number of seats, and others at even distances below it."""
    step = -(-len(curve) // MOST_POINTS)
    return list(curve[::-1][::step][::-1])


def _hours(seconds: int | None) -> str | None:
    return None if seconds is None else f"{seconds / 3600:.1f}"


def _span(first: str | None, last: str | None, days: int, format_: ReportFormat) -> tuple[date, date]:
    now = utc_now()
    newest = now.date() if format_ is Format.TABLE else newest_day(now)
    asked = _date(first, "--from") if first else None, _date(last, "--to") if last else None
    days_asked = span(*asked, days, now, newest)
    if days_asked is None:
        raise typer.BadParameter(f"reports go from {oldest_day(now)} to {newest}; --from must not come after --to")
    return days_asked


def _date(text: str, option: str) -> date:
    with wrong_usage(f"{option} takes a date such as 2026-11-30"):
        return date.fromisoformat(text)


def _zone(name: str) -> ZoneInfo:
    with wrong_usage("--time-zone takes a name such as Europe/Helsinki", ZoneInfoNotFoundError, ValueError):
        return ZoneInfo(name)
