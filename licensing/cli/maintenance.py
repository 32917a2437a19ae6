"""`licensing maintenance`: what the timers do, by hand, and a recount of what the ledger promises."""

import json
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from licensing.cli.context import bar, count, environment, err, fail, operator, out, run, store
from licensing.services import sweep as sweeping
from licensing.services import verify as verifying
from licensing.services.audit import recorded
from licensing.services.retention import run_retention
from licensing.services.service import utc_now
from licensing.settings import small_group
from licensing.storage.register import Register

commands = typer.Typer(no_args_is_help=True, help="Sweep lapsed sessions, run retention, verify counts.")

AsOf = Annotated[
    str | None,
    typer.Option(
        metavar="TIME", help="As if it were this time (UTC), by default now. One to come: only with --dry-run."
    ),
]
DryRun = Annotated[bool, typer.Option(help="Say what would be done, and do nothing.")]


def moment(text: str | None, *, dry_run: bool) -> datetime:
    """A time that was given as an option, UTC where it names no zone; now, where none was given.

    What is due at a time to come can be told, and not be done: until then programs run, and rows are kept.
    """
    now = utc_now()
    if text is None:
        return now
    try:
        given = datetime.fromisoformat(text)
        given = given.astimezone(UTC) if given.tzinfo else given.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter("--as-of takes a time such as 2026-11-30T03:00Z") from None
    if given > now and not dry_run:
        raise typer.BadParameter("--as-of takes a time to come only with --dry-run: what is due then is not due now")
    return given


def entry(register: Register, what: str, at: datetime, *, dry_run: bool) -> AbstractAsyncContextManager[None]:
    """The audit's entry on a run over all licenses; none where nothing is to be changed."""
    if dry_run:
        return nullcontext()
    return recorded(register, utc_now, operator(), what, f"all licenses as of {at:%Y-%m-%dT%H:%M:%SZ}")


@commands.command()
def sweep(as_of: AsOf = None, dry_run: DryRun = False) -> None:
    """End the sessions whose leases have lapsed, so that their seats are free. The service does so every 5 minutes."""
    at = moment(as_of, dry_run=dry_run)

    async def work() -> None:
        async with store() as (register, ledger), entry(register, "sweep", at, dry_run=dry_run):
            with bar("licenses") as told:
                swept = await sweeping.sweep(register, ledger, at, dry_run, told)
            out.print(f"{'would sweep' if dry_run else 'sweep'} {swept}", markup=False)
            if swept.failed:
                fail(f"{swept.failed} licenses could not be swept: the store did not answer. Run it again.")

    run(work())


@commands.command()
def retention(as_of: AsOf = None, dry_run: DryRun = False) -> None:
    """Make the figures of closed days and months, and delete what is older than a year. The service does so nightly.

    Small groups are those below LICENSING_SMALL_GROUP here (3, where it is not set), not below the deployment's.
    """
    at = moment(as_of, dry_run=dry_run)
    few = small_group(environment())

    async def work() -> None:
        async with store() as (register, ledger), entry(register, "retention", at, dry_run=dry_run):
            with bar("licenses") as told:
                result = await run_retention(register, ledger, at, few, dry_run=dry_run, progress=told)
            out.print(f"{'would run ' if dry_run else ''}retention {result}", markup=False)
            if result.overdue:
                err.print(f"{result.overdue} licenses keep sessions past their year.", style="bold red")
            if result.failed:
                fail(f"{result.failed} licenses could not be done. Run it again.")

    run(work())


@commands.command()
def verify(
    license_id: Annotated[str | None, typer.Argument(metavar="ID", help="Only this license.")] = None,
    repair: Annotated[bool, typer.Option(help="Mend what does not agree.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a line a license.")] = False,
) -> None:
    """Recount from the rows what the ledger promises. Exit code 1 where something does not agree."""

    async def work() -> list[verifying.Count]:
        async with store() as (register, _):
            names = [license_id] if license_id else [license.license_id async for license in register.licenses()]
            counts = []
            with bar("licenses") as told:
                for done, name in enumerate(names):
                    told(done, len(names))
                    counted = await verifying.verify(register, name)
                    if counted is not None and counted.flaws and repair:
                        async with recorded(register, utc_now, operator(), "repair", name):
                            counted = await verifying.verify(register, name, repair=True)
                    if counted is not None:
                        counts.append(counted)
            return counts

    counts = run(work())
    if license_id and not counts:
        fail(f"There is no license {license_id} in the register.")
    for counted in counts:
        if as_json:
            out.print(json.dumps(asdict(counted)), markup=False)
            continue
        out.print(f"{counted.license}: {_verdict(counted)}", markup=False)
        for flaw in counted.flaws:
            out.print(f"  {flaw}", markup=False)
    if any(counted.flaws or not counted.steady for counted in counts):
        raise typer.Exit(1)
    err.print(f"{count(len(counts), 'license')} recounted, all in order.")


def _verdict(counted: verifying.Count) -> str:
    if not counted.steady:
        return "changed all the while; verify it when fewer programs start"
    said = f"{count(counted.sessions, 'session')}, {count(counted.holders, 'seat')} held"
    if counted.crowded:
        said += ", more than the license has now: nobody new gets in until it fits"
    if counted.repaired:
        said += f"; {counted.repaired} flaws mended"
    return said + ("" if counted.flaws else ", in order")
