"""`licensing license`: issue and show license files; list, suspend and reinstate licenses, and release seats."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from licensing.cli.context import err, fail, operator, out, run, store, table
from licensing.cli.license_file import issue, last_day, read_license_file, show
from licensing.errors import TokenError
from licensing.rules.model import EndReason, LicenseState, Terms
from licensing.rules.requests import End, Ended
from licensing.services.audit import recorded
from licensing.services.service import utc_now

commands = typer.Typer(no_args_is_help=True, help="Issue, show, list, suspend, reinstate; release a session's seat.")
commands.command()(issue)
commands.command()(show)


@commands.command("list")
def list_licenses(
    organization_id: Annotated[
        str | None, typer.Option("--organization", help="List only this customer's licenses.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the licenses under which a program has ever started, and the seats that are in use now."""

    async def work() -> list[tuple[str, LicenseState]]:
        async with store() as (register, ledger):
            ids = [license.license_id async for license in register.licenses(organization_id)]
            return [(license_id, state) for license_id in ids if (state := await ledger.state(license_id)) is not None]

    found = run(work())
    if as_json:
        out.print_json(json.dumps([_line(license_id, state) for license_id, state in found]))
        return
    listing = table("license", "organization", "product", "kind", "status", "in use", "seats", "until", "serial")
    for license_id, state in found:
        terms = state.terms
        listing.add_row(
            license_id,
            terms.organization_id,
            Text(terms.product),
            terms.kind,
            "suspended" if state.suspended else "active",
            str(state.in_use),
            str(terms.seats) + (f" + {terms.overdraft}" if terms.overdraft else ""),
            last_day(terms.valid_until),
            str(terms.serial),
        )
    out.print(listing)


LicenseOrFile = Annotated[
    str,
    typer.Argument(
        metavar="ID", help="Id of the license; or the path of its file, if no program has started under it yet."
    ),
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


@commands.command()
def release(
    license_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the license.")],
    session_id: Annotated[str, typer.Argument(metavar="SESSION", help="Id of the session to end.")],
) -> None:
    """End a session by hand, so that its seat is free at once. Its program stops at the next heartbeat."""

    async def work() -> bool:
        async with store() as (register, ledger):
            async with recorded(register, utc_now, operator(), "release", f"{license_id} {session_id.lower()}"):
                decision = await ledger.submit(license_id, End(session_id.lower(), EndReason.RELEASED))
            return isinstance(decision.outcome, Ended) and decision.outcome.now

    if not run(work()):
        fail("No such session is active under this license.")
    err.print("Released.")


def _change_status(license_or_path: str, *, suspended: bool) -> None:
    license_id, initial = license_or_file(license_or_path)

    async def work() -> LicenseState | None:
        async with store() as (register, ledger):
            if initial is None and await ledger.state(license_id) is None:
                return None
            what = "suspend" if suspended else "reinstate"
            async with recorded(register, utc_now, operator(), what, license_id):
                return await ledger.set_status(license_id, suspended=suspended, initial=initial)

    if run(work()) is None:
        fail(
            f"There is no license {license_id} in the register: no program has started under it. "
            "Give the path of its license file instead of the id."
        )
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


def _line(license_id: str, state: LicenseState) -> dict[str, Any]:
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
        "seats": terms.seats,
        "overdraft": terms.overdraft,
        "sharing": terms.sharing,
        "serial": terms.serial,
        "valid_from": terms.valid_from.isoformat(),
        "valid_until": terms.valid_until.isoformat(),
        "project": terms.project,
        "billing": terms.billing,
    }
