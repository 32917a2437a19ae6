"""`licensing usage`: how well a customer's licenses are used, and the link by which it can see that itself."""

from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from licensing.api.pages.usage import usage_report
from licensing.cli.context import bar, count, deliver, environment, err, fail, home, out, run, store, table
from licensing.crypto.tokens import ReportPass, write_report_pass
from licensing.rules.report import LicenseUsage, Report, to_csv, to_json
from licensing.services.reports import Reports, oldest_day, span
from licensing.services.service import utc_now
from licensing.settings import small_group

LINK = "link"
MOST_DAYS = 3650


class Format(StrEnum):
    """In which form a report is wanted."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    HTML = "html"


def usage(
    what: Annotated[
        list[str] | None, typer.Argument(metavar="[LICENSE | link ORG]", help="A license; or `link` and a customer.")
    ] = None,
    organization: Annotated[str | None, typer.Option(help="All licenses of this customer.")] = None,
    first: Annotated[str | None, typer.Option("--from", metavar="DATE", help="First day (UTC).")] = None,
    last: Annotated[str | None, typer.Option("--to", metavar="DATE", help="Last day (UTC). Default: today.")] = None,
    days: Annotated[
        int,
        typer.Option(
            min=1, max=MOST_DAYS, help="Without --from: so many days. With `link`: how long the link is good for."
        ),
    ] = 90,
    time_zone: Annotated[str, typer.Option(help="Zone in which hours are told, as in Europe/Helsinki.")] = "UTC",
    format_: Annotated[
        Format, typer.Option("--format", help="Table, JSON, CSV, or a page in one file.")
    ] = Format.TABLE,
    out_file: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it here.")] = None,
) -> None:
    """Tell how well licenses are used: `usage LICENSE`, `usage --organization ORG`, or `usage link ORG`.

    `usage link ORG` prints a link to the customer's own page; whoever has it can read that customer's figures.

    In CSV, rows with a `day` tell of the days asked for; those with a `month`, below them, of whole months.
    """
    zone = _zone(time_zone)
    match what or []:
        case ["link", customer] if organization is None:
            _link(customer, days, zone)
        case [license] if organization is None and license != LINK:
            _report(None, license, _span(first, last, days), zone, format_, out_file)
        case [] if organization is not None:
            _report(organization, None, _span(first, last, days), zone, format_, out_file)
        case _:
            raise typer.BadParameter("name one license, or --organization ORG, or `link ORG`")


def _link(customer: str, days: int, zone: ZoneInfo) -> None:
    issuer = home().issuer()
    now = datetime.now(UTC)
    try:
        report_pass = ReportPass(
            issuer=issuer.name,
            organization_id=customer,
            issued_at=now,
            expires_at=now + timedelta(days=days),
            time_zone=zone.key,
        )
    except ValidationError:
        raise typer.BadParameter(f"{customer} is not the id of a customer") from None
    token = write_report_pass(report_pass, home().issuer_keys())
    out.print(f"{issuer.service.rstrip('/')}/usage#{token}", markup=False)
    err.print(
        f"Good until {report_pass.expires_at:%Y-%m-%d}. Whoever has it can read {customer}'s figures.", markup=False
    )


def _report(
    organization: str | None,
    license: str | None,
    days: tuple[date, date],
    zone: ZoneInfo,
    format_: Format,
    out_file: Path | None,
) -> None:
    async def work() -> Report | None:
        async with store() as (register, _):
            owner = organization
            if license is not None:
                state = await register.state(license)
                owner = state.value.terms.organization_id if state else None
            if owner is None:
                return None
            reports = Reports(register, utc_now, small_group(environment()))
            with bar("licenses") as told:
                reading = await reports.read(owner, license, told)
            return reports.report(reading, *days, zone)

    report = run(work())
    if report is None or not report.licenses:
        fail(f"There is no {'license ' + license if license else f'license of {organization}'} in the register.")
    match format_:
        case Format.JSON:
            deliver(to_json(report) + "\n", out_file)
        case Format.CSV:
            deliver(to_csv(report), out_file)
        case Format.HTML:
            deliver(usage_report(report), out_file)
        case Format.TABLE:
            for told in report.licenses:
                out.print(_table(told))
                out.print(Text(told.verdict.sentence), end="\n\n")


def _table(told: LicenseUsage) -> Table:
    columns = ("month", "users", "sessions", "hours used", "peak", "refused", "of these waited", "overdraft hours")
    seats = f", {count(told.seats, 'seat')}" if told.seats else ""
    sheet = table(*columns, title=f"{told.product} ({told.id}){seats}")
    for month in told.months:
        figures = (month.users, month.sessions, month.peak, month.denials, month.waits)
        users, sessions, peak, denials, waits = ("–" if each is None else str(each) for each in figures)
        used, overdraft = (
            "–" if each is None else f"{each / 3600:.1f}" for each in (month.seat_seconds, month.overdraft_seconds)
        )
        sheet.add_row(month.month, users, sessions, used, peak, denials, waits, overdraft)
    return sheet


def _span(first: str | None, last: str | None, days: int) -> tuple[date, date]:
    now = utc_now()
    found = span(_date(first, "--from") if first else None, _date(last, "--to") if last else None, days, now)
    if found is None:
        raise typer.BadParameter(
            f"there are figures of the days from {oldest_day(now)} to {now.date()}; --from must not come after --to"
        )
    return found


def _date(text: str, option: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{option} takes a date such as 2026-11-30") from None


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        raise typer.BadParameter("--time-zone takes a name such as Europe/Helsinki") from None
