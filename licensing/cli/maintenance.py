"""`licensing maintenance`: the work of the timers, run by hand, and a check of the register."""

from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import asdict
from datetime import datetime
from typing import Annotated, NoReturn

import typer
from typer import Argument, Option

from licensing.cli.context import environment, in_event_loop, operator, store
from licensing.cli.options import utc_time
from licensing.cli.output import bar, count, err, fail, no_license, out, print_json_line
from licensing.errors import RowError
from licensing.rules.license import is_identifier
from licensing.services import sweep as sweeping
from licensing.services import verify as verifying
from licensing.services.audit import all_licenses, audited, license_subject
from licensing.services.retention import Details, run_retention
from licensing.services.service import utc_now
from licensing.settings import small_group
from licensing.storage.register import Register

commands = typer.Typer(no_args_is_help=True, help="Sweep lapsed sessions, run retention, verify counts.")

AsOf = Annotated[
    str | None,
    Option(metavar="TIME", help="Work as of this time (UTC). Default: now. A future time needs --dry-run."),
]
DryRun = Annotated[bool, Option(help="Print what would be done, and change nothing.")]


def moment(as_of: str | None, *, dry_run: bool) -> datetime:
    """The time that --as-of gives, by default now. A future time is only for a dry run: the work is not due yet."""
    now = utc_now()
    given = now if as_of is None else utc_time(as_of, "--as-of", "2026-11-30T03:00Z")
    if given > now and not dry_run:
        raise typer.BadParameter("--as-of takes a future time only with --dry-run: the work is not due now")
    return given


def entry(register: Register, what: str, at: datetime, *, dry_run: bool) -> AbstractAsyncContextManager[None]:
    """The audit's entry for a run over all licenses; none for a dry run."""
    if dry_run:
        return nullcontext()
    return audited(register, utc_now, operator(), what, all_licenses(at))


@commands.command()
@in_event_loop
async def sweep(as_of: AsOf = None, dry_run: DryRun = False) -> None:
    """End the sessions whose leases have lapsed, and free their seats. The service does so every 5 minutes."""
    at = moment(as_of, dry_run=dry_run)
    unreadable: list[RowError] = []
    async with store() as (register, ledger), entry(register, "sweep", at, dry_run=dry_run):
        with bar("licenses") as progress:
            swept = await sweeping.sweep(register, ledger, at, dry_run, progress, unreadable)
        out.print(f"{'would sweep' if dry_run else 'sweep'} {swept}")
        if swept.failed:
            _fail(f"{count(swept.failed, 'license')} could not be swept.", unreadable)


@commands.command()
@in_event_loop
async def retention(as_of: AsOf = None, dry_run: DryRun = False) -> None:
    """Save the totals of past days and months, and delete what is older than a year. The service does so nightly.

    Audit entries are deleted after two years.

    The size of a small group is LICENSING_SMALL_GROUP of this command's environment (default 3), not the deployment's.
    """
    at = moment(as_of, dry_run=dry_run)
    few = small_group(environment())
    details = Details()
    async with store() as (register, ledger), entry(register, "retention", at, dry_run=dry_run):
        with bar("licenses") as progress:
            result = await run_retention(register, ledger, at, few, dry_run=dry_run, progress=progress, details=details)
        out.print(f"{'would run ' if dry_run else ''}retention {result}")
        for each, month in details.reduced if dry_run else ():
            out.print(f"would reduce {month} of {each} to what outlives its sessions")
        if result.overdue:
            err.print(f"{result.overdue} licenses keep sessions past their year.", style="bold red")
        if result.failed:
            _fail(f"{count(result.failed, 'license')} could not be done.", details.unreadable)


def _fail(message: str, unreadable: list[RowError]) -> NoReturn:
    """End a run in which some licenses failed, at rows that cannot be read or for want of an answer."""
    for error in unreadable:
        err.print(f"{error}.", style="bold red")
    fail(f"{message} Run it again{' then' if unreadable else ': the store did not answer'}.")


@commands.command()
@in_event_loop
async def verify(
    license_id: Annotated[str | None, Argument(metavar="ID", help="Check only this license.")] = None,
    repair: Annotated[bool, Option(help="Correct the counts that are wrong.")] = False,
    as_json: Annotated[bool, Option("--json", help="Print JSON, one line for each license.")] = False,
) -> None:
    """Count sessions and seats from the rows, and compare with the stored counts. Exit code 1 if they differ."""
    if license_id is not None and not is_identifier(license_id):
        no_license(license_id)
    counts = []
    async with store() as (register, _):
        ids = [license_id] if license_id else await register.license_ids()
        with bar("licenses") as progress:
            for done, each in enumerate(ids):
                progress(done, len(ids))
                counted = await verifying.verify(register, each)
                mendable = repair and counted and counted.flaws and not counted.unreadable
                subject = await license_subject(register, each) if mendable else None
                if subject is not None:
                    async with audited(register, utc_now, operator(), "repair", subject):
                        counted = await verifying.verify(register, each, repair=True)
                if counted is not None:
                    counts.append(counted)
    if license_id and not counts:
        no_license(license_id)
    for counted in counts:
        if as_json:
            print_json_line(asdict(counted))
            continue
        out.print(f"{counted.license}: {_verdict(counted)}")
        for flaw in counted.flaws:
            out.print(f"  {flaw}")
    if any(counted.flaws or not counted.steady for counted in counts):
        raise typer.Exit(1)
    err.print(f"{count(len(counts), 'license')} recounted, all in order.")


def _verdict(counted: verifying.Count) -> str:
    if not counted.steady:
        return "changed during the check; verify it when fewer programs start"
    if counted.unreadable:
        return f"not recounted, {count(counted.unreadable, 'row')} cannot be read"
    verdict = f"{count(counted.sessions, 'session')}, {count(counted.holders, 'seat')} held"
    if counted.crowded:
        verdict += ", more than the license has now: no new program gets a seat until it fits"
    if counted.repaired:
        verdict += f"; {count(counted.repaired, 'flaw')} corrected"
    return verdict + ("" if counted.flaws else ", in order")
