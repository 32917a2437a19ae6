"""`licensing billing`: what a month's use of the licenses that are billed comes to."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from licensing.cli.context import bar, deliver, environment, err, fail, out, run, store, table
from licensing.rules.billing import Rounding, Statement, bounds, checksum, to_csv, to_json
from licensing.services.reports import Reports, oldest_day
from licensing.services.service import utc_now
from licensing.settings import small_group


class Format(StrEnum):
    """In which form a statement is wanted."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


def billing(
    month: Annotated[str, typer.Option(metavar="YYYY-MM", help="The month (UTC).")],
    organization: Annotated[str | None, typer.Option(help="Only this customer.")] = None,
    rounding: Annotated[
        Rounding, typer.Option(help="Time to the second, or each stay on a seat rounded up to minutes.")
    ] = Rounding.EXACT,
    format_: Annotated[Format, typer.Option("--format", help="Table, JSON or CSV.")] = Format.TABLE,
    out_file: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it here.")] = None,
) -> None:
    """Draw up a month's statement: a line for each license that is billed, and one for each project.

    `sha256` sums up the lines, so that nobody mistakes one statement for another. Use beyond the seats bought is apart.
    """
    try:
        bounds(month)
    except ValueError:
        raise typer.BadParameter("--month takes a month such as 2026-11") from None

    async def work() -> Statement | None:
        async with store() as (register, _):
            reports = Reports(register, utc_now, small_group(environment()))
            with bar("licenses") as told:
                return await reports.statement(month, rounding, organization, told)

    statement = run(work())
    if statement is None:
        fail(
            f"{month} can no longer be billed: the figures of days are kept for one year, and those before "
            f"{oldest_day(utc_now())} are gone."
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
            f"{month} can no longer be billed by the minute for {', '.join(gone)}: of the sessions that its figures "
            "were made from, some were erased or are past their year. Keep to the statement that you billed by; "
            "--rounding exact tells the time that was counted.",
            style="yellow",
        )
    if not ended or any(not line.closed and line.billed_hours is not None for line in statement.lines):
        why = "programs that ran then have not been heard of since" if ended else "it has not ended"
        err.print(f"{month} is not closed: {why}, and these figures can still change.", style="yellow")


def _table(statement: Statement) -> Table:
    columns = ("line", "organization", "license", "project", "days", "sessions", "hours", "overdraft hours")
    told = table(*columns, title=f"{statement.month}, {statement.rounding}")
    for line in statement.lines:
        told.add_row(
            line.line,
            line.organization,
            line.license,
            Text(line.project),
            str(line.active_days),
            str(line.sessions),
            *("–" if hours is None else str(hours) for hours in (line.billed_hours, line.overdraft_hours)),
        )
    return told
