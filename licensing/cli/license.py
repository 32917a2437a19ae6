"""`licensing license`: issue, renew and show license files; list, suspend and reinstate licenses."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from typer import Argument, Option

from licensing.cli.context import home, in_event_loop, operator, store
from licensing.cli.issue import issue
from licensing.cli.issued import issued
from licensing.cli.license_file import read_license_file, show
from licensing.cli.output import check_id, count, err, fail, no_license, out, table
from licensing.cli.publishing import publish_file
from licensing.cli.renew import renew
from licensing.cli.seats import list_sessions, release
from licensing.errors import TokenError
from licensing.rules.license import ends_in_days, last_day
from licensing.rules.model import LicenseState, Terms
from licensing.services.audit import audited, license_subject
from licensing.services.service import utc_now

commands = typer.Typer(
    no_args_is_help=True, help="Issue, renew, show, publish, list, suspend, reinstate; list sessions and release seats."
)
commands.command()(issue)
commands.command()(renew)
commands.command()(show)
commands.command()(issued)
commands.command("publish")(publish_file)
commands.command("sessions")(list_sessions)
commands.command()(release)


@commands.command("list")
@in_event_loop
async def list_licenses(
    organization_id: Annotated[str | None, Option("--organization", help="List only this customer's licenses.")] = None,
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the licenses under which a program has started or that were published, and how their seats stand now.

    Licenses that end within 60 days say so. The serial is that of the terms in force; `license issued` has that of the
    newest file.
    """
    check_id("organization", organization_id)
    now = utc_now()
    async with store() as (register, ledger):
        ids = await register.license_ids(organization_id)
        found = [
            _line(license_id, state, ledger.waiting(state), now)
            for license_id in ids
            if (state := await ledger.state(license_id)) is not None
        ]
    if not found:
        _say_what_is_issued(organization_id)
    if as_json:
        out.print_json(data=found, default=datetime.isoformat)
        return
    rows = [_row(line, now) for line in found]
    shown = [name for name in _COLUMNS if name != _SOON or any(row[name] for row in rows)]
    out.print(table(*shown, rows=[[row[name] for name in shown] for row in rows]))


def _say_what_is_issued(organization_id: str | None) -> None:
    """Say where licenses are listed that the register does not know yet."""
    here = home()
    files = here.issued() if here.initialized else []
    number = sum(organization_id in (None, file.organization_id) for file in files)
    if number:
        listed = f"{count(number, 'license')} that this home has issued"
        err.print(f"No program has started, and nothing was published. `licensing license issued` lists the {listed}.")


LicenseOrFile = Annotated[
    str,
    Argument(metavar="ID", help="Id of the license; or the path of its file, if no program has started under it yet."),
]


@commands.command()
def suspend(license_or_path: LicenseOrFile) -> None:
    """Stop a license: no program starts under it, and running programs stop at a heartbeat.

    The service caches the license's status for up to a minute (LICENSING_STATUS_CACHE_SECONDS). A program stops at its
    first heartbeat after that, at the latest.
    """
    _change_status(license_or_path, suspended=True)


@commands.command()
def reinstate(license_or_path: LicenseOrFile) -> None:
    """End the suspension of a license, so that programs start under it again."""
    _change_status(license_or_path, suspended=False)


@in_event_loop
async def _change_status(license_or_path: str, *, suspended: bool) -> None:
    license_id, initial = license_or_file(license_or_path)
    async with store() as (register, ledger):
        subject = await license_subject(register, license_id, initial)
        if subject is None:
            no_license(license_id, "No program has started under it: give the path of its file instead of the id.")
        async with audited(register, utc_now, operator(), "suspend" if suspended else "reinstate", subject):
            await ledger.set_status(license_id, suspended=suspended, initial=initial)
    stopped = "suspended; running programs stop at their first heartbeat after a minute, at the latest"
    err.print(f"{license_id} is {stopped if suspended else 'active'}.")


def license_or_file(license_or_path: str) -> tuple[str, LicenseState | None]:
    """The id of a license that is given by its id or its file; from a file, also the state that it would create."""
    if not Path(license_or_path).is_file():
        return license_or_path, None
    try:
        license = read_license_file(Path(license_or_path))
    except TokenError as error:
        fail(f"NOT GENUINE: {license_or_path} {error}.")
    return license.id, LicenseState(Terms.of(license), collect=license.collect)


_SOON: Final = "ends soon"
"""A column that is shown only if a license has something in it."""
_COLUMNS: Final = (
    *("license", "customer", "product", "kind", "status", "in use", "waiting", "seats", "until"),
    *(_SOON, "serial"),
)


def _row(line: Mapping[str, Any], now: datetime) -> dict[str, object]:
    """What people read, by column."""
    return {
        "license": line["license"],
        "customer": line["organization"],
        "product": line["product"],
        "kind": line["kind"],
        "status": line["status"],
        "in use": line["in_use"],
        "waiting": line["waiting"],
        "seats": f"{line['seats']} + {line['overdraft']}" if line["overdraft"] else line["seats"],
        "until": last_day(line["valid_until"]),
        _SOON: _ending(line["valid_until"], now),
        "serial": line["serial"],
    }


def _line(license_id: str, state: LicenseState, waiting: int, now: datetime) -> dict[str, Any]:
    """What programs get."""
    terms = state.terms
    return {
        "license": license_id,
        "organization": terms.organization_id,
        "organization_name": terms.organization_name,
        "product": terms.product,
        "kind": terms.kind,
        "status": "suspended" if state.suspended else "active",
        "collect": state.collect,
        "in_use": state.in_use,
        "waiting": waiting,
        "seats": terms.seats,
        "overdraft": terms.overdraft,
        "sharing": terms.sharing,
        "serial": terms.serial,
        "valid_from": terms.valid_from,
        "valid_until": terms.valid_until,
        "ends_in_days": ends_in_days(terms.valid_until, now),
        "project": terms.project,
        "billing": terms.billing,
    }


def _ending(valid_until: datetime, now: datetime) -> str:
    """That a license ends soon, or has ended, as people read it; empty if it does not end soon."""
    if valid_until <= now:
        return "ended"
    days = ends_in_days(valid_until, now)
    return "" if days is None else f"ends in {count(days, 'day')}" if days else "ends within a day"
