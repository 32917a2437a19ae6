"""`licensing audit`: what operators have changed."""

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
        str | None, typer.Option(metavar="YYYY-MM", help="The month (UTC). Default: the present one.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a line an entry.")] = False,
) -> None:
    """List who did what to what when, from the command line. A change that was never closed may have been made."""
    wanted = f"{utc_now():%Y-%m}" if month is None else month
    try:
        bounds(wanted)
    except ValueError:
        raise typer.BadParameter("--month takes a month such as 2026-11") from None

    async def work() -> list[AuditEntry]:
        async with store() as (register, _):
            return [entry async for entry in register.audit(wanted)]

    found = run(work())
    if as_json:
        for entry in found:
            out.print(json.dumps(_columns(entry)), markup=False)
        return
    told = table("at (UTC)", "who", "what", "subject", "outcome")
    for entry in found:
        told.add_row(f"{entry.at:%Y-%m-%d %H:%M:%S}", Text(entry.who), entry.what, Text(entry.subject), entry.outcome)
    out.print(told)


def _columns(entry: AuditEntry) -> dict[str, Any]:
    return {
        "at": entry.at.isoformat(),
        "who": entry.who,
        "what": entry.what,
        "subject": entry.subject,
        "outcome": entry.outcome,
        "closed_at": entry.closed_at.isoformat() if entry.closed_at else None,
    }
