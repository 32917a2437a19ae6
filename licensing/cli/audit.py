"""`licensing audit`: the changes that operators have made."""

import json
from typing import Annotated, Any

import typer
from rich.text import Text

from licensing.cli.context import out, run, store, table
from licensing.rules.billing import bounds
from licensing.services.service import utc_now
from licensing.storage.register import AuditEntry


def audit(
    month: Annotated[
        str | None, typer.Option(metavar="YYYY-MM", help="The month (UTC). Default: the current month.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, one line for each entry.")] = False,
) -> None:
    """List changes made from the command line: when, who, what. A change that is only `begun` may have been made."""
    chosen = f"{utc_now():%Y-%m}" if month is None else month
    try:
        bounds(chosen)
    except ValueError:
        raise typer.BadParameter("--month takes a month such as 2026-11") from None

    async def work() -> list[AuditEntry]:
        async with store() as (register, _):
            return [entry async for entry in register.audit(chosen)]

    found = run(work())
    if as_json:
        for entry in found:
            out.print(json.dumps(_columns(entry)), markup=False)
        return
    listing = table("at (UTC)", "who", "what", "subject", "outcome")
    for entry in found:
        listing.add_row(
            f"{entry.at:%Y-%m-%d %H:%M:%S}", Text(entry.who), entry.what, Text(entry.subject), entry.outcome
        )
    out.print(listing)


def _columns(entry: AuditEntry) -> dict[str, Any]:
    return {
        "at": entry.at.isoformat(),
        "who": entry.who,
        "what": entry.what,
        "subject": entry.subject,
        "outcome": entry.outcome,
        "closed_at": entry.closed_at.isoformat() if entry.closed_at else None,
    }
