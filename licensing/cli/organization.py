"""`licensing organization`: delete a customer that has left."""

import sys
from typing import Annotated

import typer
from typer import Argument, Option

from licensing.cli.context import home, in_event_loop, operator, store
from licensing.cli.output import bar, count, err, fail, named, out
from licensing.rules.license import last_day
from licensing.services import organizations
from licensing.services.audit import audited, organization_subject
from licensing.services.organizations import Forgotten, InUse
from licensing.services.service import utc_now

commands = typer.Typer(no_args_is_help=True, help="Delete a customer that has left.")


@commands.command()
@in_event_loop
async def forget(
    organization_id: Annotated[str, Argument(metavar="ORG", help="Id of the customer.")],
    yes: Annotated[bool, Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, Option("--dry-run", help="Count what would be deleted, and change nothing.")] = False,
) -> None:
    """Delete all that the register holds of a customer: its licenses, their sessions, and all totals.

    Refused while a license of the customer is valid, or a session is active. Draw up the last bill first: without the
    totals, no month can be billed. If the command is interrupted, run it again.
    """
    async with store() as (register, _):
        subject = await organization_subject(register, organization_id)
        if subject is None:
            fail(f"There is no {named('organization', organization_id)} in the register.")
        found = _unused(await organizations.forget(register, organization_id, utc_now(), dry_run=True))
        if dry_run:
            out.print(f"would delete {_numbers(found)}")
            return
        if not yes:
            _confirm(organization_id, found)
        async with audited(register, utc_now, operator(), "forget", subject):
            with bar("licenses") as progress:
                deleted = await organizations.forget(register, organization_id, utc_now(), progress=progress)
            deleted = _unused(deleted)
    out.print(f"Deleted {organization_id}: {_numbers(deleted)}.")
    _say_what_is_left(organization_id)


def _unused(found: Forgotten | InUse) -> Forgotten:
    """What was found, unless something is in use: then the command ends and says what."""
    if isinstance(found, InUse):
        reasons = [f"{license_id} is valid until {last_day(until)}" for license_id, until in found.valid.items()]
        reasons += [f"{each} has {count(number, 'active session')}" for each, number in found.active.items()]
        fail(
            f"{'Only a part' if found.begun else 'Nothing'} was deleted: {'; '.join(reasons)}. Delete a customer when "
            "its licenses have expired and its sessions have ended; until then, `licensing license suspend` stops a "
            "license."
        )
    return found


def _numbers(found: Forgotten) -> str:
    return f"{count(found.licenses, 'license')}, {count(found.rows, 'row')} in all"


def _confirm(organization_id: str, found: Forgotten) -> None:
    err.print(f"This deletes {_numbers(found)}, for good. Type {organization_id} again to delete it: ", end="")
    if sys.stdin.readline().strip() != organization_id:
        fail("Nothing was deleted.")


def _say_what_is_left(organization_id: str) -> None:
    """Say what holds something of the customer still, and how that goes away."""
    err.print("What is left of it:")
    err.print("- in the audit, entries that name it and its licenses: each for two years")
    err.print("- in the logs, the keys of its rows: for LICENSING_LOG_DAYS, by default 90 days")
    err.print("- statements, reports and exports of it that were kept: delete them by hand")
    here = home()
    if not here.initialized:
        err.print("- in the vendor's home, its name, its salt and its licenses: delete its entries there by hand")
        return
    if organization_id in here.customers():
        err.print(
            f"- in {here.folder}, its name and salt (organizations.json) and its licenses (books.sqlite): delete its "
            "entries there by hand, in both (docs/privacy.md, When a customer leaves)"
        )
    for file in here.issued():
        if file.organization_id == organization_id and file.valid_until > utc_now():
            err.print(
                f"- the license file of {file.license_id}, valid until {last_day(file.valid_until)}: if a program "
                "starts with it, the register holds the customer again",
                style="yellow",
            )
