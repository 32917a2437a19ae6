"""`licensing audit`: the changes that operators have made."""

from dataclasses import asdict
from typing import Annotated

from typer import Option

from licensing.cli.context import in_event_loop, store
from licensing.cli.options import month_bounds
from licensing.cli.output import out, print_json_line, table
from licensing.rules.totals import month_of
from licensing.services.service import utc_now


@in_event_loop
async def audit(
    month: Annotated[str | None, Option(metavar="YYYY-MM", help="The month (UTC). Default: the current month.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print JSON, one line for each entry.")] = False,
) -> None:
    """List changes made from the command line: when, who, what. A change that is only `begun` may have been made."""
    chosen = month_of(utc_now()) if month is None else month
    month_bounds(chosen)
    async with store() as (register, _):
        entries = [entry async for entry in register.audit(chosen)]
    if as_json:
        for entry in entries:
            print_json_line(asdict(entry))
        return
    rows = [(f"{entry.at:%Y-%m-%d %H:%M:%S}", entry.who, entry.what, entry.subject, entry.outcome) for entry in entries]
    out.print(table("at (UTC)", "who", "what", "subject", "outcome", rows=rows))
