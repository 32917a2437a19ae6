"""`licensing license`: issue license files, look at them, and act on the licenses that are in use."""

import json
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text

from licensing.cli.context import (
    count,
    deliver,
    environment,
    err,
    fail,
    home,
    operator,
    out,
    run,
    service_url,
    store,
    table,
)
from licensing.cli.home import Customer, new_salt
from licensing.crypto.keys import VerifyingKeys
from licensing.crypto.pseudonyms import ClientKind, client_hash, from_base64url
from licensing.crypto.tokens import license_text, read_license, write_license
from licensing.errors import SettingsError, TokenError
from licensing.rules.license import Billing, Kind, License, Sharing
from licensing.rules.model import EndReason, LicenseState, Terms
from licensing.rules.requests import End, Ended
from licensing.services.audit import recorded
from licensing.services.service import utc_now

commands = typer.Typer(no_args_is_help=True, help="Issue, show, list, suspend, reinstate; release a session's seat.")

_HASH = re.compile(r"[A-Za-z0-9_-]{43}")

_ID = "up to 64 of the characters A-Z a-z 0-9 . _ - of which the first is a letter or a digit"
_TEXT = "one line of at most 200 characters, and not none"
_TIME = "a time from 1970 on"
_COUNT = "a whole number up to 1000000"
_SECONDS = "a whole number of seconds, at most a year"

_TAKES = {
    "iss": ("--issuer", _TEXT),
    "sub": ("--id", _ID),
    "serial": ("--serial", "a whole number up to 9007199254740992"),
    "nbf": ("--from", _TIME),
    "exp": ("--until", _TIME),
    "id": ("--organization", _ID),
    "name": ("--organization-name", _TEXT),
    "product": ("--product", _TEXT),
    "seats": ("--seats", _COUNT),
    "overdraft": ("--overdraft", _COUNT),
    "users": ("--user", "a username or its hash"),
    "hosts": ("--host", "a computer's name or its hash"),
    "networks": ("--network", "a network such as 198.51.100.0/24, whose bits beyond the prefix are zero"),
    "features": ("--feature", _TEXT),
    "maintenance_until": ("--maintenance-until", _TIME),
    "project": ("--project", _TEXT),
    "collect": ("--no-collect", "no value"),
    "salt": ("--salt", "22 to 86 characters of base64url without padding"),
    "heartbeat": ("--heartbeat", _SECONDS),
    "lease": ("--lease", _SECONDS),
    "grace": ("--grace", _SECONDS),
    "borrow": ("--borrow", _SECONDS),
    "service": ("--service", _TEXT),
}
"""The option that makes a claim (of the organization's two, by their own names), and what it takes."""


@commands.command()
def issue(
    organization: Annotated[str, typer.Option(help="Short id of the customer, as in `acme`.")],
    product: Annotated[str, typer.Option(help="What the license is for.")],
    until: Annotated[str, typer.Option(metavar="DATE", help="Last day of the license (UTC), or an exact time.")],
    organization_name: Annotated[
        str | None, typer.Option(help="The customer's name; needed with its first license.")
    ] = None,
    seats: Annotated[int, typer.Option(min=0, help="How many programs may run at the same time (floating).")] = 1,
    out_file: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the license file here, else to the screen.")
    ] = None,
    license_id: Annotated[
        str | None, typer.Option("--id", help="Id of the license; name the old one to renew or change a license.")
    ] = None,
    serial: Annotated[
        int | None,
        typer.Option(min=1, help="A file with a higher serial replaces one with a lower. Default: the time."),
    ] = None,
    starts: Annotated[
        str | None, typer.Option("--from", metavar="DATE", help="First day of the license (UTC). Default: now.")
    ] = None,
    kind: Annotated[
        Kind, typer.Option(help="Seats that float, or a license for the users or computers that it lists.")
    ] = Kind.FLOATING,
    overdraft: Annotated[int, typer.Option(min=0, help="Seats beyond those bought, given out and reported.")] = 0,
    sharing: Annotated[
        Sharing,
        typer.Option(
            help="Whose programs share one seat: nobody's, a user's on one computer, a user's on any, a computer's."
        ),
    ] = Sharing.NONE,
    user: Annotated[
        list[str] | None, typer.Option(help="A user whom the license admits; may be repeated. Prefer --users-file.")
    ] = None,
    users_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Usernames or client hashes, one a line; never stored.")
    ] = None,
    host: Annotated[
        list[str] | None, typer.Option(help="A computer that the license admits; may be repeated. Prefer --hosts-file.")
    ] = None,
    hosts_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Full computer names or client hashes, one a line.")
    ] = None,
    network: Annotated[
        list[str] | None, typer.Option(metavar="CIDR", help="Where the program may run, as in 198.51.100.0/24.")
    ] = None,
    feature: Annotated[list[str] | None, typer.Option(help="A feature of the product; may be repeated.")] = None,
    maintenance_until: Annotated[
        str | None, typer.Option(metavar="DATE", help="Last day of free updates: newer builds do not run.")
    ] = None,
    project: Annotated[str | None, typer.Option(help="The customer's project, for billing.")] = None,
    billing: Annotated[Billing, typer.Option(help="What is billed beyond the license.")] = Billing.NONE,
    collect: Annotated[bool, typer.Option(help="Whether sessions are recorded; floating licenses need it.")] = True,
    heartbeat: Annotated[int, typer.Option(min=1, help="Seconds between a program's signs of life.")] = 300,
    lease: Annotated[int, typer.Option(min=1, help="Seconds until a silent program loses its seat.")] = 900,
    grace: Annotated[int, typer.Option(min=0, help="Seconds a program may run when it cannot reach us.")] = 259200,
    borrow: Annotated[int, typer.Option(min=0, help="Most seconds for which a seat may be taken along.")] = 0,
    salt: Annotated[
        str | None, typer.Option(help="The customer's key for hashing names. Default: its own, made once.")
    ] = None,
    service: Annotated[
        str | None, typer.Option(metavar="URL", help="Where the service is. Default: as in the home.")
    ] = None,
    issuer: Annotated[str | None, typer.Option(help="Who issues. Default: as in the home.")] = None,
    lease_keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Public keys of the service's leases. Default: as in the home.")
    ] = None,
) -> None:
    """Sign a license file for a customer. Send it to them; it needs no registration."""
    here = home()
    keys, vendor = here.issuer_keys(), here.issuer()
    customer = _customer(organization, organization_name, salt)
    now = datetime.now(UTC)
    claims: dict[str, Any] = {
        "iss": issuer or vendor.name,
        "sub": license_id or f"{organization}-{_slug(product)}-{int(now.timestamp()):x}",
        "serial": serial or int(now.timestamp()),
        "iat": int(now.timestamp()),
        "nbf": _instant(starts, "--from") if starts else int(now.timestamp()),
        "exp": _instant(until, "--until", end_of_day=True),
        "organization": {"id": customer.id, "name": customer.name},
        "product": product,
        "kind": kind,
        "seats": seats,
        "overdraft": overdraft,
        "sharing": sharing,
        "users": _hashes(customer, "user", user, users_file),
        "hosts": _hashes(customer, "host", host, hosts_file),
        "networks": network or [],
        "features": feature or [],
        "maintenance_until": (
            _instant(maintenance_until, "--maintenance-until", end_of_day=True) if maintenance_until else None
        ),
        "project": project,
        "billing": billing,
        "collect": collect,
        "salt": customer.salt,
        "heartbeat": heartbeat,
        "lease": lease,
        "grace": grace,
        "borrow": borrow,
        "service": service_url(service or vendor.service),
        "lease_keys": _lease_keys(lease_keys) if lease_keys else here.lease_keys(),
    }
    try:
        terms = License.model_validate(claims)
        if known := here.differs(terms):
            raise typer.BadParameter(
                f"{terms.id} is {known}. A newer file can change a license's terms, but neither whose it is nor its "
                "kind, since programs run under it; issue a license with another --id"
            )
        token = write_license(terms, keys)
    except ValidationError as error:
        raise typer.BadParameter(_explained(error)) from None
    except ValueError as error:
        fail(str(error))
    here.remember(customer)
    here.note(terms, keys.kid)
    text = f"{_heading(terms)}{token}\n"
    deliver(text, out_file, f"license {terms.id}, {_validity(terms)}")


@commands.command()
def show(
    file: Annotated[Path, typer.Argument(help="A license file.")],
    issuer_keys: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Public issuer keys (JWKS). Default: the home's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The claims as JSON.")] = False,
) -> None:
    """Check a license file and print what it says. Exit code 1 where a program would not be admitted with it today."""
    try:
        terms = read_license(license_text(_text(file)), _trusted(issuer_keys))
    except TokenError as fault:
        fail(f"NOT GENUINE: {file.name} {fault}. Do not rely on anything that it says.")
    if as_json:
        out.print_json(json.dumps(terms.claims()))
    else:
        out.print(_sheet(terms))
    now = utc_now()
    if now >= terms.valid_until:
        fail(f"EXPIRED: genuine, but it ended on {_day(terms.valid_until)}.")
    if now < terms.valid_from:
        fail(f"NOT YET VALID: genuine, but it begins on {terms.valid_from:%Y-%m-%d %H:%M} UTC.")
    err.print("Genuine, and valid now.", style="green")


@commands.command("list")
def list_licenses(
    organization: Annotated[str | None, typer.Option(help="Only this customer's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """List the licenses under which a program has ever started, with their seats now."""

    async def work() -> list[tuple[str, LicenseState]]:
        async with store() as (register, ledger):
            names = [license.license_id async for license in register.licenses(organization)]
            return [(name, head) for name in names if (head := await ledger.state(name)) is not None]

    found = run(work())
    if as_json:
        out.print_json(json.dumps([_line(name, head) for name, head in found]))
        return
    told = table("license", "organization", "product", "kind", "status", "in use", "seats", "until", "serial")
    for name, head in found:
        terms = head.terms
        told.add_row(
            name,
            terms.organization_id,
            Text(terms.product),
            terms.kind,
            "suspended" if head.suspended else "active",
            str(head.in_use),
            str(terms.seats) + (f" + {terms.overdraft}" if terms.overdraft else ""),
            _day(terms.valid_until),
            str(terms.serial),
        )
    out.print(told)


LicenseOrFile = Annotated[
    str, typer.Argument(metavar="ID", help="Id of the license, or its file where no program has used it yet.")
]


@commands.command()
def suspend(license_id: LicenseOrFile) -> None:
    """Stop a license: no program starts under it, and those that run stop at a heartbeat.

    For up to a minute (LICENSING_STATUS_CACHE_SECONDS) the service may remember that the license was active. The first
    heartbeat after that stops a program at the latest.
    """
    _change_status(license_id, suspended=True)


@commands.command()
def reinstate(license_id: LicenseOrFile) -> None:
    """Let a suspended license be used again."""
    _change_status(license_id, suspended=False)


@commands.command()
def release(
    license_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the license.")],
    session: Annotated[str, typer.Argument(help="Id of the session whose seat is to be free again.")],
) -> None:
    """End a session by hand, so that its seat is free at once. The program learns of it at its next heartbeat."""

    async def work() -> bool:
        async with store() as (register, ledger):
            async with recorded(register, utc_now, operator(), "release", f"{license_id} {session.lower()}"):
                decision = await ledger.submit(license_id, End(session.lower(), EndReason.RELEASED))
            return isinstance(decision.outcome, Ended) and decision.outcome.now

    if not run(work()):
        fail("No such session is active under this license.")
    err.print("Released.")


def _change_status(name: str, *, suspended: bool) -> None:
    license_id, initial = license_or_file(name)

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
    stopped = "suspended; programs that run stop at their next heartbeat, or the first after a minute"
    err.print(f"{license_id} is {stopped if suspended else 'active'}.")


def license_or_file(name: str) -> tuple[str, LicenseState | None]:
    """A license that was named by its id or its file: its id and, from a file, what its head would be."""
    if not Path(name).is_file():
        return name, None
    try:
        license = read_license(license_text(_text(Path(name))), _trusted(None))
    except TokenError as fault:
        fail(f"NOT GENUINE: {name} {fault}.")
    return license.id, LicenseState(Terms.of(license), collect=license.collect)


def _explained(error: ValidationError) -> str:
    """What is wrong with a license, in the words of the options that made it."""
    errors = error.errors(include_url=False, include_input=False)
    # The customer's id first, since a license's own id is made of it.
    first = min(errors, key=lambda each: each["loc"][:1] != ("organization",))
    option, takes = next(_TAKES[part] for part in (*first["loc"], first["type"]) if part in _TAKES)
    return f"{option} takes {takes}" if first["loc"] else f"{option}: {first['msg']}"


def _customer(id: str, name: str | None, salt: str | None) -> Customer:
    known = home().customer(id)
    if known is None and not name:
        raise typer.BadParameter(f"{id} is a new customer; give its --organization-name")
    if known is not None and salt not in (None, known.salt):
        raise typer.BadParameter(
            f"the names of {id}'s people are hashed with another --salt. Under a new one nobody could be found again "
            "who has used a license before; leave the option away"
        )
    return Customer(id, name or (known.name if known else ""), salt or (known.salt if known else new_salt()))


def _hashes(customer: Customer, kind: ClientKind, names: list[str] | None, file: Path | None) -> list[str]:
    given = [name.strip() for name in names or []]
    if file:
        lines = [line.strip() for line in _text(file).splitlines()]
        given += [line for line in lines if line and not line.startswith("#")]
    if "" in given or (file and not given):
        # Without anybody on its list, a license would admit everybody.
        raise typer.BadParameter(f"a name in --{kind} or --{kind}s-file is missing")
    try:
        salt = from_base64url(customer.salt)
    except ValueError:
        raise typer.BadParameter("--salt takes base64url without padding") from None
    return sorted({name if _HASH.fullmatch(name) else client_hash(salt, kind, name) for name in given})


def _instant(text: str, option: str, *, end_of_day: bool = False) -> int:
    """Seconds since 1970; a bare date is its first instant, or with `end_of_day` the first of the day after."""
    try:
        moment = datetime.fromisoformat(text)
        if end_of_day and _is_date(text):
            moment += timedelta(days=1)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{option} takes a date such as 2027-12-31, or a time such as 2027-12-31T12:00Z, before 9999-12-31"
        ) from None
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _is_date(text: str) -> bool:
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def _day(moment: datetime) -> str:
    """The last day that ends before a moment, as people write the end of a license."""
    if moment.time() == datetime.min.time():
        return f"{moment - timedelta(days=1):%Y-%m-%d}"
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def _validity(terms: License) -> str:
    return f"valid from {terms.valid_from:%Y-%m-%d} to {_day(terms.valid_until)}"


def _heading(terms: License) -> str:
    what = count(terms.seats, "seat") if terms.kind is Kind.FLOATING else terms.kind.value
    return (
        f"# {terms.product} for {terms.organization.name}: {what}, {_validity(terms)}\n"
        f"# License {terms.id}, serial {terms.serial}. These lines are for people; the next one is what counts.\n"
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:24] or "license"


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")  # Windows editors write a byte order mark
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}.")
    except UnicodeDecodeError:
        fail(f"{file} is not a text file.")


def _lease_keys(file: Path) -> dict[str, Any]:
    """Keys for clients to trust; a private one would be published with every license."""
    try:
        jwks: dict[str, Any] = json.loads(_text(file))
        VerifyingKeys(jwks)
    except json.JSONDecodeError:
        raise typer.BadParameter("--lease-keys takes a file with JSON") from None
    except ValueError as error:
        raise typer.BadParameter(f"--lease-keys: {error}") from None
    return jwks


def _trusted(file: Path | None) -> VerifyingKeys:
    if file is None and (home().folder / "issuer-keys.json").is_file():
        return home().trusted_keys()
    text = _text(file) if file else environment().get("LICENSING_ISSUER_KEYS", "")
    if not text:
        raise SettingsError("no issuer keys to check with: make a home (`licensing init`) or name --issuer-keys")
    try:
        return VerifyingKeys(json.loads(text))
    except json.JSONDecodeError:
        raise SettingsError("the issuer keys must be JSON") from None
    except ValueError as error:
        raise SettingsError(f"the issuer keys {error}") from None


def _sheet(terms: License) -> Table:
    sheet = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    lines = {
        "License": f"{terms.id}, serial {terms.serial}",
        "Customer": f"{terms.organization.name} ({terms.organization.id})",
        "Product": terms.product,
        "Kind": terms.kind,
        "Seats": f"{terms.seats}" + (f", and {terms.overdraft} beyond that" if terms.overdraft else ""),
        "Shared by": {
            Sharing.NONE: "nobody: each program takes a seat",
            Sharing.USER_HOST: "the programs of one user on one computer",
            Sharing.USER: "the programs of one user",
            Sharing.HOST: "the programs on one computer",
        }[terms.sharing],
        "Valid": f"{terms.valid_from:%Y-%m-%d} to {_day(terms.valid_until)}",
        "Updates until": _day(terms.maintenance_until) if terms.maintenance_until else "no limit",
        "Users": f"{len(terms.users)} listed" if terms.users else "any",
        "Computers": f"{len(terms.hosts)} listed" if terms.hosts else "any",
        "Networks": ", ".join(map(str, terms.networks)) or "any",
        "Features": ", ".join(terms.features) or "none named",
        "Project": terms.project or "none",
        "Billing": terms.billing,
        "Recorded": "yes" if terms.collect else "no: nothing is stored",
        "Heartbeat": f"every {_length(terms.heartbeat)}, a silent program loses its seat after {_length(terms.lease)}",
        "Offline": f"up to {_length(terms.grace)}" if terms.grace else "no",
        "Borrowing": f"up to {_length(terms.borrow)}" if terms.borrow else "no",
        "Service": terms.service,
        "Issued": f"{terms.issued_at:%Y-%m-%d %H:%M} UTC by {terms.issuer}",
    }
    for name, value in lines.items():
        sheet.add_row(name, Text(value))  # not markup, whatever brackets it has
    return sheet


def _length(seconds: int) -> str:
    """A length of time in the largest unit of which it is a whole number."""
    units = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
    return next(count(seconds // size, unit) for unit, size in units if seconds % size == 0)


def _line(name: str, head: LicenseState) -> dict[str, Any]:
    terms = head.terms
    return {
        "license": name,
        "organization": terms.organization_id,
        "organization_name": terms.organization_name,
        "product": terms.product,
        "kind": terms.kind,
        "status": "suspended" if head.suspended else "active",
        "collect": head.collect,
        "in_use": head.in_use,
        "seats": terms.seats,
        "overdraft": terms.overdraft,
        "sharing": terms.sharing,
        "serial": terms.serial,
        "valid_from": terms.valid_from.isoformat(),
        "valid_until": terms.valid_until.isoformat(),
        "project": terms.project,
        "billing": terms.billing,
    }
