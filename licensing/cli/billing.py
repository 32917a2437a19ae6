"""`licensing billing`: a month's statement for the licenses that are billed."""

from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from rich.table import Table
from rich.text import Text
from typer import Option

from licensing.cli.context import environment, in_event_loop, store
from licensing.cli.options import month_bounds, out_option
from licensing.cli.output import bar, check_id, deliver, err, fail, show, table
from licensing.rules.billing import Rounding, Statement, checksum, to_csv, to_json
from licensing.rules.report import Format
from licensing.rules.usage import WAIT
from licensing.rules.verdict import hours_of
from licensing.services.reports import Reports, oldest_day
from licensing.services.service import utc_now
from licensing.settings import small_group


@in_event_loop
async def billing(
    month: Annotated[str, Option(metavar="YYYY-MM", help="The month (UTC).")],
    organization_id: Annotated[str | None, Option("--organization", help="Only the licenses of this customer.")] = None,
    rounding: Annotated[
        Rounding, Option(help="Count time to the second, or round each stay on a seat up to whole minutes.")
    ] = Rounding.EXACT,
    format_: Annotated[
        Literal[Format.TABLE, Format.JSON, Format.CSV], Option("--format", help="Form of the statement.")
    ] = Format.TABLE,
    out_file: Annotated[Path | None, out_option("statement")] = None,
) -> None:
    """Make a month's statement, with a line for each license that is billed and one for each project.

    Use beyond the seats bought has its own column. `sha256` is the checksum of the statement's CSV. JSON contains it;
    with other forms it goes to standard error.
    """
    begins, ends = month_bounds(month)
    check_id("organization", organization_id)
    if begins > utc_now():
        fail(f"{month} has not begun: there is nothing to bill yet.")
    async with store() as (register, _):
        known = [license async for license in register.licenses(organization_id)]
        reports = Reports(register, utc_now, small_group(environment()))
        with bar("licenses") as progress:
            statement = await reports.statement(month, rounding, organization_id, progress)
    if statement is None:
        fail(
            f"{month} can no longer be billed: the totals of days are kept for one year, and those before "
            f"{oldest_day(utc_now())} are deleted."
        )
    of = f" of {organization_id}" if organization_id else ""
    if not known:
        fail(f"There is no license{of} in the register.")
    if not statement.lines:
        fail(
            f"No license{of} was billed in {month}: a license is billed from its first use on, if its file says so "
            "(--billing)."
        )
    ended = ends <= utc_now()
    gone = dict.fromkeys(
        line.license for line in statement.lines if line.line == "license" and line.billed_hours is None
    )
    changes = not ended or any(not line.closed and line.billed_hours is not None for line in statement.lines)
    match format_:
        case Format.JSON:
            deliver(to_json(statement), out_file)
        case Format.CSV:
            deliver(to_csv(statement), out_file)
        case Format.TABLE:
            parts = [_table(statement, changes=changes)]
            show(out_file, *parts, *([Text(f"sha256 {checksum(statement)}")] if out_file else []))
    if format_ is not Format.JSON:  # which has its own
        err.print(f"sha256 {checksum(statement)}")
    if statement.grace_seconds:
        err.print(
            f"In {month}, programs ran {hours_of(statement.grace_seconds)} hours beyond their seats while they could "
            "not reach the service, as far as is known. This is not billed."
        )
    if gone:
        err.print(
            f"{month} can no longer be billed by the minute for {', '.join(gone)}: some of its sessions were erased or "
            "are past their year. Use the statement by which you have billed; --rounding exact still gives the time.",
            style="yellow",
        )
    if corrected := max(line.corrected for line in statement.lines):
        err.print(
            f"{month} was corrected after it was final, last on {corrected}: an older statement may differ.",
            style="yellow",
        )
    if changes:
        err.print(f"{month} is not closed: {_why(ends)}, and this statement can still change.", style="yellow")


def _why(ends: datetime) -> str:
    """Why a month that ends then is not closed."""
    now = utc_now()
    if now < ends:
        return "it has not ended"
    if now < ends + WAIT:
        return f"it ended less than {WAIT // timedelta(minutes=1)} minutes ago"
    return "some programs that ran then have sent nothing since"


def _table(statement: Statement, *, changes: bool) -> Table:
    """The statement for people. Each line and the title say what is not closed."""
    columns = ("line", "organization", "license", "project", "days", "sessions", "hours", "overdraft hours", "closed")
    rows = [
        (
            *(line.line, line.organization, line.license, line.project, line.active_days, line.sessions),
            *(line.billed_hours, line.overdraft_hours, "yes" if line.closed else "NOT CLOSED"),
        )
        for line in statement.lines
    ]
    title = f"{statement.month}, {statement.rounding}"
    if changes:
        title += ", NOT CLOSED: can still change"
    elif not statement.closed:
        title += ", NOT CLOSED: hours are missing"
    return table(*columns, rows=rows, title=title)
