"""`licensing billing`: a month's statement for the licenses that are billed."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from licensing.cli.context import bar, deliver, environment, err, fail, out, run, store, table
from licensing.rules.billing import Rounding, Statement, bounds, checksum, to_csv, to_json
from licensing.rules.report import Format
from licensing.services.reports import Reports, oldest_day
from licensing.services.service import utc_now
from licensing.settings import small_group


def billing(
    month: Annotated[str, typer.Option(metavar="YYYY-MM", help="The month (UTC).")],
    organization_id: Annotated[
        str | None, typer.Option("--organization", help="Only the licenses of this customer.")
    ] = None,
    rounding: Annotated[
        Rounding, typer.Option(help="Count time to the second, or round each stay on a seat up to whole minutes.")
    ] = Rounding.EXACT,
    format_: Annotated[
        Literal[Format.TABLE, Format.JSON, Format.CSV], typer.Option("--format", help="Form of the statement.")
    ] = Format.TABLE,
    out_file: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Write the statement here. Default: to standard output."),
    ] = None,
) -> None:
    """Make a month's statement, with a line for each license that is billed and one for each project.

    Use beyond the seats bought has its own column. `sha256` is a checksum of the lines, to tell statements apart.
    """
    try:
        bounds(month)
    except ValueError:
        raise typer.BadParameter("--month takes a month such as 2026-11") from None

    async def work() -> Statement | None:
        async with store() as (register, _):
            reports = Reports(register, utc_now, small_group(environment()))
            with bar("licenses") as progress:
                return await reports.statement(month, rounding, organization_id, progress)

    statement = run(work())
    if statement is None:
        fail(
            f"{month} can no longer be billed: the totals of days are kept for one year, and those before "
            f"{oldest_day(utc_now())} are deleted."
        )
    match format_:
        case Format.JSON:
            deliver(to_json(statement), out_file)
        case Format.CSV:
            deliver(to_csv(statement), out_file)
        case Format.TABLE:
            out.print(_table(statement))
            out.print(f"sha256 {checksum(statement)}", markup=False)
    ended = bounds(month)[1] <= utc_now()
    if gone := [line.license for line in statement.lines if line.line == "license" and line.billed_hours is None]:
        err.print(
            f"{month} can no longer be billed by the minute for {', '.join(gone)}: some of its sessions were erased or "
            "are past their year. Use the statement by which you have billed; --rounding exact still gives the time.",
            style="yellow",
        )
    if not ended or any(not line.closed and line.billed_hours is not None for line in statement.lines):
        why = "some programs that ran then have sent nothing since" if ended else "it has not ended"
        err.print(f"{month} is not closed: {why}, and this statement can still change.", style="yellow")


def _table(statement: Statement) -> Table:
    columns = ("line", "organization", "license", "project", "days", "sessions", "hours", "overdraft hours")
    listing = table(*columns, title=f"{statement.month}, {statement.rounding}")
    for line in statement.lines:
        listing.add_row(
            line.line,
            line.organization,
            line.license,
            Text(line.project),
            str(line.active_days),
            str(line.sessions),
            *("–" if hours is None else str(hours) for hours in (line.billed_hours, line.overdraft_hours)),
        )
    return listing
