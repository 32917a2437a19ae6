"""`licensing privacy`: the requests that people may make about their data.

Names are asked for or read from a file, and never stored. A command line is visible to everybody on the machine and
stays in the shell's history: --username is for scripts with made-up names.
"""

import ipaddress
import json
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer
from typer import Argument, Option

from licensing.cli.context import home, in_event_loop, operator, service_store, store
from licensing.cli.license import LicenseOrFile, license_or_file
from licensing.cli.options import out_option, utc_time, wrong_usage
from licensing.cli.output import bar, count, deliver, err, fail, named, no_license, out, print_json_line, warn_of_names
from licensing.cli.secret_store import Vault, service_secret
from licensing.crypto.pseudonyms import Peppers, client_hashes, from_base64url
from licensing.errors import PepperError, RowError
from licensing.rules.license import Address, is_identifier
from licensing.rules.personal import PersonalData, as_text
from licensing.rules.report import Format
from licensing.services.audit import audited, customer_subject, license_subject
from licensing.services.privacy import ImplausibleError, OptOut, PersonQuery, Privacy, Rectified
from licensing.services.progress import Progress
from licensing.services.service import utc_now
from licensing.settings import PEPPERS

commands = typer.Typer(no_args_is_help=True, help="Export, erase or rectify what is held on a person; opt out, opt in.")

Result = TypeVar("Result")

OrganizationId = Annotated[
    str, Option("--organization", help="Id of the customer under whose licenses the person works.")
]
Username = Annotated[
    str | None,
    Option(help="The person's username. Leave it out to be asked for it: others can see a command line."),
]
Hostname = Annotated[
    str | None, Option(help="Name of a computer, best in full: only sessions on it, also those under its short name.")
]
FromFile = Annotated[
    Path | None,
    Option(
        metavar="FILE",
        help="Read `username=…`, `hostname=…`, `address=…` (for `rectify` also `to_username=…`) from this file, one on "
        "a line; - is standard input.",
    ),
]


def _pepper(typed: str) -> str:
    if not is_identifier(typed):
        raise typer.BadParameter("--lost takes the id of a pepper")
    return typed


Lost = Annotated[
    list[str] | None,
    Option(
        metavar="PEPPER", parser=_pepper, help="Id of a pepper that is lost for good. Sessions under it are left out."
    ),
]
PARTS = ("username", "hostname", "address", "to_username")


@commands.command()
def export(
    organization_id: Annotated[
        str | None,
        Option("--organization", help="Id of the customer under whose licenses the person works; not with --schema."),
    ] = None,
    username: Username = None,
    hostname: Hostname = None,
    from_file: FromFile = None,
    vault: Vault = None,
    lost: Lost = None,
    format_: Annotated[
        Literal[Format.TEXT, Format.JSON], Option("--format", help="Text for people, or JSON for programs.")
    ] = Format.TEXT,
    out_file: Annotated[Path | None, out_option("export")] = None,
    schema: Annotated[bool, Option("--schema", help="Print only the JSON schema of an export.")] = False,
) -> None:
    """Show everything that the register holds on a person, what it means, and until when it is kept."""
    if schema:
        deliver(json.dumps(PersonalData.model_json_schema(), indent=2) + "\n", out_file)
        return
    if organization_id is None:
        raise typer.BadParameter("name the customer with --organization")
    at_hand = service_secret(PEPPERS, vault)
    person = _person(organization_id, username, hostname, _from_file(from_file))
    unreadable: list[RowError] = []

    async def exported(privacy: Privacy, person: PersonQuery, progress: Progress) -> PersonalData:
        return await privacy.export(person, progress, unreadable)

    data = _work("export", exported, person, at_hand, vault, lost)
    text = data.model_dump_json(indent=2) + "\n" if format_ is Format.JSON else as_text(data)
    deliver(text, out_file, private=True)
    for error in unreadable:
        err.print(f"Left out: {error}.", style="bold red")
    if unreadable:
        raise typer.Exit(1)


@commands.command()
def erase(
    organization_id: OrganizationId,
    username: Username = None,
    hostname: Hostname = None,
    from_file: FromFile = None,
    vault: Vault = None,
    lost: Lost = None,
    as_json: Annotated[bool, Option("--json", help="Print the receipt as JSON.")] = False,
) -> None:
    """Delete everything that the register holds on a person. Running programs are ended, and may start again.

    The receipt has no names. Totals of days that are over stay: nobody can be found in them.
    """
    at_hand = service_secret(PEPPERS, vault)
    person = _person(organization_id, username, hostname, _from_file(from_file))
    receipt = _work("erase", Privacy.erase, person, at_hand, vault, lost)
    if as_json:
        print_json_line(asdict(receipt))
        return
    out.print(
        f"Erased on {receipt.at:%Y-%m-%d %H:%M} UTC, under {count(receipt.licenses, 'license')} of {organization_id}: "
        f"{count(receipt.deleted, 'session')} deleted, {receipt.ended} of them ended for it."
    )


@commands.command()
def rectify(
    organization_id: OrganizationId,
    username: Username = None,
    hostname: Hostname = None,
    from_file: FromFile = None,
    vault: Vault = None,
    lost: Lost = None,
    to_username: Annotated[
        str | None,
        Option(help="The user whose sessions these really are. With --move, leave it out to be asked for it."),
    ] = None,
    move: Annotated[bool, Option("--move", help="Move the sessions to another user.")] = False,
    session_id: Annotated[
        str | None, Option("--session", help="Id of a session whose end is wrong; the export has the ids.")
    ] = None,
    ended_at: Annotated[str | None, Option(metavar="TIME", help="With --session: when it really ended (UTC).")] = None,
) -> None:
    """Correct what is held on a person: whose sessions they are (--move), or when one ended (--session, --ended-at).

    Totals of these days change with them, by what was corrected.
    """
    given = _from_file(from_file)
    moving = move or to_username is not None
    if moving == (session_id is not None) or (session_id is None) != (ended_at is None):
        raise typer.BadParameter("give either --move, or --session with --ended-at")
    at_hand = service_secret(PEPPERS, vault)
    person = _person(organization_id, username, hostname, given, to_username)
    right_name = (to_username or given.get("to_username") or _ask("The right username")) if moving else ""

    async def correct(privacy: Privacy, person: PersonQuery, progress: Progress) -> Rectified:
        if session_id is None or ended_at is None:
            return await privacy.move(person, client_hashes(_salt(organization_id), "user", right_name)[0], progress)
        ended = utc_time(ended_at, "--ended-at", "2026-11-24T16:30Z")
        return await privacy.correct_end(person, session_id.lower(), ended, progress)

    try:
        rectified = _work("rectify", correct, person, at_hand, vault, lost)
    except ImplausibleError as reason:
        fail(f"Not corrected: {reason}.")
    running = _running(rectified.running)
    if not rectified.corrected:
        fail(f"Nothing was corrected: {running}" if running else "Nothing was found to correct.")
    out.print(f"{count(rectified.corrected, 'session')} corrected{f', and {running}' if running else '.'}")
    if rectified.months:
        out.print(f"Final totals of {', '.join(rectified.months)} changed with them; statements tell of it.")


def _running(sessions: int) -> str:
    """What is to be done about sessions that still run; empty if there are none."""
    if not sessions:
        return ""
    if sessions == 1:
        return "1 session still runs. Correct it when it has ended."
    return f"{sessions} sessions still run. Correct them when they have ended."


@commands.command("opt-out")
@in_event_loop
async def opt_out(
    license_or_path: LicenseOrFile,
    erase: Annotated[bool, Option(help="Also delete everything that is stored of its use.")] = False,
) -> None:
    """Stop recording sessions under a license. Not for floating licenses, which need the sessions to count seats."""
    license_id, initial = license_or_file(license_or_path)
    async with store() as (register, ledger):
        subject = await license_subject(register, license_id, initial)
        if subject is None:
            no_license(license_id, "Name its file, if no program has started under it yet.")
        try:
            async with audited(register, utc_now, operator(), "opt-out", subject):
                with bar("steps") as progress:
                    opting = OptOut(register, ledger)
                    done = await opting.opt_out(license_id, erase=erase, initial=initial, progress=progress)
        except ImplausibleError as reason:
            fail(f"Refused: {reason}.")
    if done is None:  # deleted meanwhile
        no_license(license_id)
    out.print(f"Nothing is stored of the use of {license_id} from now on.")
    if done.ended:
        out.print(f"{count(done.ended, 'running program')} will start again at the next heartbeat, unrecorded.")
    if erase:
        out.print(f"{count(done.deleted, 'row')} erased; only the license's own rows are left.")


@commands.command("opt-in")
@in_event_loop
async def opt_in(license_id: Annotated[str, Argument(metavar="ID", help="Id of the license.")]) -> None:
    """Record sessions again under a license that was opted out."""
    async with store() as (register, ledger):
        subject = await license_subject(register, license_id)
        if subject is None:
            no_license(license_id)
        async with audited(register, utc_now, operator(), "opt-in", subject):
            await OptOut(register, ledger).opt_in(license_id)
    out.print(f"Sessions under {license_id} are recorded again.")


@in_event_loop
async def _work(
    what: str,
    work: Callable[[Privacy, PersonQuery, Progress], Awaitable[Result]],
    person: PersonQuery,
    at_hand: Peppers,
    vault: str | None,
    lost: Sequence[str] | None,
) -> Result:
    """Do some work on a person's data, and record it in the audit."""
    subject = customer_subject(person.organization_id, home().customers())
    try:
        async with service_store(vault) as (register, ledger):
            privacy = Privacy(register, ledger, at_hand, utc_now, lost or ())
            async with audited(register, utc_now, operator(), what, subject):
                with bar("licenses") as progress:
                    result = await work(privacy, person, progress)
    except PepperError as error:
        fail(f"Nothing was done: {error}. Where the service's peppers are in a key vault, name it with --vault.")
    for pepper in lost or ():
        err.print(f"Sessions under {pepper} were left out: nobody can be found in them.", style="yellow")
    return result


def _person(
    organization_id: str, username: str | None, hostname: str | None, given: dict[str, str], *others: str | None
) -> PersonQuery:
    """The person to look for, by hashes as a computer sends or sent them. Nothing else sees the names."""
    warn_of_names((username, hostname, *others), "leave it out to be asked, or use --from-file")
    user = username or given.get("username") or _ask("Username")
    host = hostname or given.get("hostname")
    salt = _salt(organization_id)
    users = client_hashes(salt, "user", user)
    hosts = client_hashes(salt, "host", host) if host else (None,)
    return PersonQuery(
        organization_id=organization_id,
        user=users[0],
        host=hosts[0],
        address=_address(given["address"]) if "address" in given else None,
        other_users=users[1:],
        other_hosts=tuple(filter(None, hosts[1:])),
    )


def _salt(organization_id: str) -> bytes:
    customer = home().customer(organization_id)
    if customer is None:
        unknown = named("customer", organization_id)
        fail(f"There is no {unknown} in {home().folder}; without its salt, nobody can be found.")
    return from_base64url(customer.salt)


def _from_file(file: Path | None) -> dict[str, str]:
    """The names in a file, by their part of `PARTS`; empty without a file."""
    if file is None:
        return {}
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        fail("The file of --from-file cannot be read as text.")
    given = {}
    for line in filter(None, map(str.strip, text.splitlines())):
        name, found, value = line.partition("=")
        if not found or name.strip() not in PARTS or not value.strip():
            raise typer.BadParameter(f"a line of --from-file is one of {', '.join(f'{part}=…' for part in PARTS)}")
        given[name.strip()] = value.strip()
    return given


def _ask(what: str) -> str:
    """Ask on standard error, since standard output is for the result."""
    while True:
        err.print(f"{what}: ", end="")
        line = sys.stdin.readline()
        if not line:
            fail("No name was given.")
        if name := line.strip():
            return name


def _address(text: str) -> Address:
    with wrong_usage("address= takes an IPv4 or IPv6 address"):
        address = ipaddress.ip_address(text)
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address
