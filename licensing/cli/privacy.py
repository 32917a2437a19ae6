"""`licensing privacy`: what a person may ask of us. Names are asked for, or read from a file, and never kept.

A command line can be seen by everybody on the machine and stays in the shell's history: --username is for scripts on
made-up names.
"""

import ipaddress
import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from licensing.cli.context import (
    bar,
    count,
    deliver,
    environment,
    err,
    fail,
    home,
    operator,
    out,
    run,
    store,
)
from licensing.cli.license import LicenseOrFile, license_or_file
from licensing.cli.secret_store import SETTINGS, Secret, Vault, secret_store
from licensing.crypto.pseudonyms import Peppers, client_hash, from_base64url
from licensing.errors import PepperError, SettingsError
from licensing.rules.license import Address
from licensing.rules.model import LicenseState
from licensing.rules.personal import PersonalData, as_text
from licensing.services.audit import recorded
from licensing.services.privacy import Erased, ImplausibleError, OptedOut, OptOut, PersonQuery, Privacy, Rectified
from licensing.services.service import utc_now
from licensing.settings import names_deployment, peppers
from licensing.storage.register import Register

commands = typer.Typer(no_args_is_help=True, help="Export, erase or rectify what is held on a person; opt out, opt in.")

Organization = Annotated[str, typer.Option(help="The customer under whose licenses the person works.")]
Username = Annotated[
    str | None, typer.Option(help="The person's username. Leave it out to be asked: a command line can be seen.")
]
Hostname = Annotated[str | None, typer.Option(help="Only sessions on this computer.")]
FromFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Read `username=…`, `hostname=…`, `address=…` (to rectify also `to_username=…`) from it, a line each; "
        "- is stdin.",
    ),
]
Lost = Annotated[
    list[str] | None,
    typer.Option(metavar="PEPPER", help="A pepper that is lost for good, by its id: leave out the sessions under it."),
]
PARTS = ("username", "hostname", "address", "to_username")


class Format(StrEnum):
    """In which form an export is wanted."""

    TEXT = "text"
    JSON = "json"


@commands.command()
def export(
    organization: Annotated[
        str | None, typer.Option(help="The customer under whose licenses the person works; not with --schema.")
    ] = None,
    username: Username = None,
    hostname: Hostname = None,
    from_file: FromFile = None,
    vault: Vault = None,
    lost: Lost = None,
    format_: Annotated[Format, typer.Option("--format", help="Text for people, or JSON.")] = Format.TEXT,
    out_file: Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write it here.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the JSON schema of an export, and nothing else.")
    ] = False,
) -> None:
    """Show everything that the register holds on a person, what it means, and until when it is kept."""
    if schema:
        deliver(json.dumps(PersonalData.model_json_schema(), indent=2) + "\n", out_file)
        return
    if organization is None:
        raise typer.BadParameter("name the customer with --organization")
    at_hand = _peppers(vault)
    wanted = _wanted(organization, username, hostname, _from_file(from_file))

    async def work() -> PersonalData:
        async with (
            _privacy(at_hand, vault, lost) as (register, privacy),
            recorded(register, utc_now, operator(), "export", organization),
        ):
            with bar("licenses") as told:
                return await privacy.export(wanted, told)

    data = run(work())
    deliver(data.model_dump_json(indent=2) + "\n" if format_ is Format.JSON else as_text(data), out_file)


@commands.command()
def erase(
    organization: Organization,
    username: Username = None,
    hostname: Hostname = None,
    from_file: FromFile = None,
    vault: Vault = None,
    lost: Lost = None,
    as_json: Annotated[bool, typer.Option("--json", help="The receipt as JSON.")] = False,
) -> None:
    """Delete everything that the register holds on a person. A program that runs is ended, and may start again.

    The receipt names no one. Figures that are made already stay: nobody is in them.
    """
    at_hand = _peppers(vault)
    wanted = _wanted(organization, username, hostname, _from_file(from_file))

    async def work() -> Erased:
        async with (
            _privacy(at_hand, vault, lost) as (register, privacy),
            recorded(register, utc_now, operator(), "erase", organization),
        ):
            with bar("licenses") as told:
                return await privacy.erase(wanted, told)

    receipt = run(work())
    if as_json:
        out.print(json.dumps({**asdict(receipt), "at": receipt.at.isoformat()}), markup=False)
        return
    out.print(
        f"Erased on {receipt.at:%Y-%m-%d %H:%M} UTC, under {count(receipt.licenses, 'license')} of {organization}: "
        f"{count(receipt.deleted, 'session')} deleted, {receipt.ended} of them ended for it.",
        markup=False,
    )


@commands.command()
def rectify(
    organization: Organization,
    username: Username = None,
    hostname: Hostname = None,
    from_file: FromFile = None,
    vault: Vault = None,
    lost: Lost = None,
    to_username: Annotated[
        str | None, typer.Option(help="Whose the sessions are. Leave it out, with --move, to be asked.")
    ] = None,
    move: Annotated[bool, typer.Option("--move", help="Give the sessions to another user.")] = False,
    session: Annotated[str | None, typer.Option(help="A session whose end is wrong; see the export.")] = None,
    ended_at: Annotated[str | None, typer.Option(metavar="TIME", help="When it ended (UTC).")] = None,
) -> None:
    """Correct what is held on a person: whose sessions they are (--move), or when one ended (--session, --ended-at).

    The figures of those days are made again in the next night.
    """
    given = _from_file(from_file)
    moving = move or to_username is not None
    if moving == (session is not None) or (session is None) != (ended_at is None):
        raise typer.BadParameter("give either --move, or --session with --ended-at")
    at_hand = _peppers(vault)
    wanted = _wanted(organization, username, hostname, given, to_username)
    right = (to_username or given.get("to_username") or _ask("The right username")) if moving else ""

    async def work() -> Rectified:
        async with (
            _privacy(at_hand, vault, lost) as (register, privacy),
            recorded(register, utc_now, operator(), "rectify", organization),
        ):
            with bar("licenses") as told:
                if session is None or ended_at is None:
                    return await privacy.move(wanted, client_hash(_salt(organization), "user", right), told)
                return await privacy.correct_end(wanted, session.lower(), _time(ended_at), told)

    try:
        rectified = run(work())
    except ImplausibleError as reason:
        fail(f"Not corrected: {reason}.")
    out.print(f"{count(rectified.corrected, 'session')} corrected.")
    if rectified.reopened_from:
        out.print(f"The figures from {rectified.reopened_from} on are made again in the next night.")
    if rectified.running:
        err.print(f"Still running: {count(rectified.running, 'session')}. Correct them when they have ended.")
    if not rectified.corrected:
        fail("Nothing was found to correct.")


@commands.command("opt-out")
def opt_out(
    license_id: LicenseOrFile,
    erase: Annotated[bool, typer.Option(help="Also delete all that is stored.")] = False,
) -> None:
    """Stop all collection under a license that is not floating: from now on, nothing is stored of its use."""
    name, initial = license_or_file(license_id)

    async def work() -> OptedOut | None:
        async with store() as (register, ledger), recorded(register, utc_now, operator(), "opt-out", name):
            with bar("steps") as told:
                return await OptOut(register, ledger).opt_out(name, erase=erase, initial=initial, progress=told)

    try:
        done = run(work())
    except ImplausibleError as reason:
        fail(f"Refused: {reason}.")
    if done is None:
        _unknown(name, initial)
    out.print(f"Nothing is stored of the use of {name} from now on.", markup=False)
    if done.ended:
        out.print(f"{count(done.ended, 'program')} that ran start again unrecorded at the next heartbeat.")
    if erase:
        out.print(f"{count(done.deleted, 'row')} erased; none are left but the license's own.")


@commands.command("opt-in")
def opt_in(license_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the license.")]) -> None:
    """Collect again under a license that was opted out."""

    async def work() -> bool:
        async with store() as (register, ledger), recorded(register, utc_now, operator(), "opt-in", license_id):
            return await OptOut(register, ledger).opt_in(license_id)

    if not run(work()):
        _unknown(license_id, None)
    out.print(f"Sessions under {license_id} are recorded again.", markup=False)


def _peppers(vault: str | None) -> Peppers:
    """The peppers of the service whose register is meant; under others, nobody would be found in it."""
    if vault is not None:
        text = secret_store(home(), vault).read(Secret.PEPPERS)
        if text is None:
            raise SettingsError(f"the vault {vault} has no secret {Secret.PEPPERS}")
        return peppers({SETTINGS[Secret.PEPPERS]: text})
    if names_deployment(os.environ) and not os.environ.get(SETTINGS[Secret.PEPPERS]):
        fail("The peppers of a deployed service are in its key vault, and not in this home: name it with --vault.")
    return peppers(environment())


@asynccontextmanager
async def _privacy(
    at_hand: Peppers, vault: str | None, lost: Sequence[str] | None
) -> AsyncIterator[tuple[Register, Privacy]]:
    try:
        # A vault's peppers are never those of the store of the home's local service.
        async with store(None if vault is None else os.environ) as (register, ledger):
            yield register, Privacy(register, ledger, at_hand, utc_now, lost or ())
    except PepperError as fault:
        fail(f"Nothing was done: {fault}. Where the service's peppers are in a key vault, name it with --vault.")
    for pepper in lost or ():
        err.print(f"Sessions under {pepper} were left out: nobody can be found in them.", style="yellow", markup=False)


def _unknown(license_id: str, unknown: LicenseState | None) -> NoReturn:
    hint = "" if unknown else " Name its file, if no program has started under it yet."
    fail(f"There is no license {license_id} in the register.{hint}")


def _wanted(
    organization: str, username: str | None, hostname: str | None, given: dict[str, str], *others: str | None
) -> PersonQuery:
    """Whom to look for, as its computer would tell it: hashed, before anything else sees it."""
    if any(name is not None for name in (username, hostname, *others)):
        err.print("A name on the command line can be seen by others on this machine; leave it out to be asked.")
    user = username or given.get("username") or _ask("Username")
    host = hostname or given.get("hostname")
    salt = _salt(organization)
    return PersonQuery(
        organization_id=organization,
        user=client_hash(salt, "user", user),
        host=client_hash(salt, "host", host) if host else None,
        address=_address(given["address"]) if "address" in given else None,
    )


def _salt(organization: str) -> bytes:
    customer = home().customer(organization)
    if customer is None:
        fail(f"{organization} is not among the customers in {home().folder}; without its salt, nobody can be found.")
    return from_base64url(customer.salt)


def _from_file(file: Path | None) -> dict[str, str]:
    """The names that a file gives, by what they are; none without a file."""
    if file is None:
        return {}
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        fail(f"{file} cannot be read as text.")
    given = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, found, value = line.partition("=")
        if not found or name.strip() not in PARTS or not value.strip():
            raise typer.BadParameter(f"a line of --from-file is one of {', '.join(f'{part}=…' for part in PARTS)}")
        given[name.strip()] = value.strip()
    return given


def _ask(what: str) -> str:
    """Ask on standard error, so that standard output has the result alone."""
    while True:
        err.print(f"{what}: ", end="")
        line = sys.stdin.readline()
        if not line:
            fail("No name was given.")
        if name := line.strip():
            return name


def _address(text: str) -> Address:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise typer.BadParameter("address= takes an IPv4 or IPv6 address") from None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter("--ended-at takes a time such as 2026-11-24T16:30Z") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
