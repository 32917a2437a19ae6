"""`licensing license issue` and `show`: license files, which need the home and no store.

`CLAIMS` is the one list of the claims that an operator decides on. The options of `issue`, their help and the messages
about wrong values are made from it. How to add a claim: CONTRIBUTING.md.
"""

import json
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError
from rich.table import Table
from rich.text import Text
from typer import Argument, Option

from licensing.cli.context import environment, home
from licensing.cli.home import CustomerRecord, new_salt
from licensing.cli.options import out_option, service_url, wrong_usage
from licensing.cli.output import count, deliver, err, fail, out, warn_of_names
from licensing.crypto.keys import VerifyingKeys
from licensing.crypto.pseudonyms import ClientKind, client_hashes, from_base64url, is_nobodys_host
from licensing.crypto.tokens import (
    LICENSE_FILE_LIMIT,
    license_bytes_text,
    license_file_text,
    read_license,
    write_license,
)
from licensing.errors import SettingsError, TokenError
from licensing.rules.license import HOLD_BEYOND_GRACE, USUAL_GRACE, Billing, Kind, License, Sharing
from licensing.services.service import utc_now

STRICT_GRACE: Final = 12 * 3600
"""Grace of a strict license: a working day without a network."""

LARGE_NUMBER: Final = 120
"""From this many minutes or hours on, people say hours or days as well."""

_HASH = re.compile(r"[A-Za-z0-9_-]{43}")


def _one_of(choices: type[StrEnum]) -> str:
    return f"one of {', '.join(choices)}"


_ID = "1 to 64 of the characters A-Z a-z 0-9 . _ -, the first a letter or a digit"
_TEXT = "1 to 200 characters on one line"
_TIME = "a time from 1970 on"
_COUNT = "a whole number up to 1000000"
_SECONDS = "a whole number of seconds, at most a year"
_SERIAL = "a whole number up to 9007199254740992"
_USER = "a username or its hash"
_HOST = "a computer's name or its hash"
_NETWORK = "a network such as 198.51.100.0/24, whose bits beyond the prefix are zero"
_SALT = "22 to 86 characters of base64url without padding"
_URL = "a URL of 1 to 200 characters"
_JWKS = "a file with public keys (JWKS)"


@dataclass(frozen=True, slots=True)
class Claim:
    """The option that makes a claim, the values that it `takes` (for error messages), and its help."""

    option: str
    takes: str
    help: str


CLAIMS: Final = {
    "iss": Claim("--issuer", _TEXT, "Name of the vendor in the license file. Default: the home's."),
    "sub": Claim("--id", _ID, "Id of the license. To renew or change a license, give its id. Default: a new id."),
    "serial": Claim(
        "--serial",
        _SERIAL,
        "A file with a higher serial replaces older files of the license. Default: the time in seconds.",
    ),
    "nbf": Claim("--from", _TIME, "First day of the license (UTC), or an exact time. Default: now."),
    "exp": Claim("--until", _TIME, "Last day of the license (UTC), or an exact time."),
    "organization.id": Claim("--organization", _ID, "Short id of the customer, as in `acme`."),
    "organization.name": Claim("--organization-name", _TEXT, "Name of the customer; needed for its first license."),
    "product": Claim("--product", _TEXT, "Name of the software that is licensed."),
    "kind": Claim(
        "--kind", _one_of(Kind), "Whether seats float, or the license is for the listed users or computers only."
    ),
    "seats": Claim("--seats", _COUNT, "How many programs may run at the same time (floating)."),
    "overdraft": Claim(
        "--overdraft", _COUNT, "Seats beyond those bought: given out when all are in use, and reported."
    ),
    "sharing": Claim(
        "--sharing",
        _one_of(Sharing),
        "Which programs share one seat: none, a user's on one computer, a user's on any, a computer's.",
    ),
    "users": Claim(
        "--user",
        _USER,
        "A user whom the license admits, best by its hash; may be repeated. A name goes into --users-file.",
    ),
    "hosts": Claim(
        "--host",
        _HOST,
        "A computer that the license admits, best by its hash; may be repeated. A name goes into --hosts-file. Of a "
        "full name, the part up to the first dot is listed as well, since programs send that.",
    ),
    "networks": Claim(
        "--network",
        _NETWORK,
        "A network in which programs may run, as in 198.51.100.0/24; may be repeated. Default: any.",
    ),
    "features": Claim("--feature", _TEXT, "A feature of the product that is licensed; may be repeated."),
    "maintenance_until": Claim(
        "--maintenance-until", _TIME, "Last day of free updates (UTC); builds made after it do not run. Default: none."
    ),
    "project": Claim("--project", _TEXT, "The customer's project, for billing by project."),
    "billing": Claim("--billing", _one_of(Billing), "What is billed beyond the license itself."),
    "collect": Claim(
        "--no-collect", "no value", "Whether sessions are recorded. Floating licenses need it to count seats."
    ),
    "salt": Claim(
        "--salt", _SALT, "The customer's key for hashing names. Default: the key of its earlier licenses, or a new one."
    ),
    "heartbeat": Claim("--heartbeat", _SECONDS, "Seconds between two heartbeats of a running program."),
    "lease": Claim("--lease", _SECONDS, "Seconds without a heartbeat until a program loses its seat."),
    "grace": Claim("--grace", _SECONDS, "Seconds for which a program may run while it cannot reach the service."),
    "hold": Claim(
        "--hold",
        _SECONDS,
        "Seconds after its last heartbeat for which a seat is kept for a silent program; at most --grace + 60.",
    ),
    "borrow": Claim(
        "--borrow", _SECONDS, "Seconds for which a seat may be borrowed, to work without the service. 0: not at all."
    ),
    "service": Claim("--service", _URL, "URL at which programs reach the service. Default: the home's."),
    "lease_keys": Claim(
        "--lease-keys",
        _JWKS,
        "File with the service's public lease keys (JWKS), which programs trust. Default: the home's.",
    ),
}
"""By name of the claim; those of the organization have its name and a dot before them."""


def _option(claim: str, *names: str, **settings: Any) -> Any:
    """The option that makes a claim; `names` in place of the table's, for one that is a switch."""
    return Option(*(names or (CLAIMS[claim].option,)), help=CLAIMS[claim].help, **settings)


def issue(
    organization_id: Annotated[str, _option("organization.id")],
    product: Annotated[str, _option("product")],
    until: Annotated[str, _option("exp", metavar="DATE")],
    organization_name: Annotated[str | None, _option("organization.name")] = None,
    seats: Annotated[int, _option("seats", min=0)] = 1,
    out_file: Annotated[Path | None, out_option("license file")] = None,
    license_id: Annotated[str | None, _option("sub")] = None,
    serial: Annotated[int | None, _option("serial", min=1)] = None,
    starts: Annotated[str | None, _option("nbf", metavar="DATE")] = None,
    kind: Annotated[Kind, _option("kind")] = Kind.FLOATING,
    overdraft: Annotated[int, _option("overdraft", min=0)] = 0,
    sharing: Annotated[Sharing, _option("sharing")] = Sharing.NONE,
    user: Annotated[list[str] | None, _option("users")] = None,
    users_file: Annotated[
        Path | None,
        Option(metavar="FILE", help="File of usernames or their hashes, one on a line. Names are never stored."),
    ] = None,
    host: Annotated[list[str] | None, _option("hosts")] = None,
    hosts_file: Annotated[
        Path | None, Option(metavar="FILE", help="File of full computer names or their hashes, one on a line.")
    ] = None,
    network: Annotated[list[str] | None, _option("networks", metavar="CIDR")] = None,
    feature: Annotated[list[str] | None, _option("features")] = None,
    maintenance_until: Annotated[str | None, _option("maintenance_until", metavar="DATE")] = None,
    project: Annotated[str | None, _option("project")] = None,
    billing: Annotated[Billing, _option("billing")] = Billing.NONE,
    collect: Annotated[bool, _option("collect", "--collect/--no-collect")] = True,
    heartbeat_seconds: Annotated[int, _option("heartbeat", min=1)] = 300,
    lease_seconds: Annotated[int, _option("lease", min=1)] = 900,
    grace_seconds: Annotated[
        int | None, _option("grace", min=0, show_default=f"{USUAL_GRACE}, or {STRICT_GRACE} with --strict")
    ] = None,
    hold_seconds: Annotated[int | None, _option("hold", min=0, show_default="0, or --grace + 60 with --strict")] = None,
    strict: Annotated[
        bool,
        Option(
            "--strict", help="No program that is out of reach runs beside another on its seat: sets grace and hold."
        ),
    ] = False,
    borrow_seconds: Annotated[int, _option("borrow", min=0)] = 0,
    salt: Annotated[str | None, _option("salt")] = None,
    service: Annotated[str | None, _option("service", metavar="URL")] = None,
    issuer: Annotated[str | None, _option("iss")] = None,
    lease_keys_file: Annotated[Path | None, _option("lease_keys", metavar="FILE")] = None,
    one_line: Annotated[
        bool,
        Option(
            "--one-line",
            help="Write the signed text on one line, for programs with a client of version 0.1. Mail may cut it.",
        ),
    ] = False,
) -> None:
    """Sign a license file for a customer. Send it to them; it needs no registration."""
    here = home()
    keys, vendor = here.issuer_keys(), here.issuer()
    customer = _customer(organization_id, organization_name, salt)
    now = int(datetime.now(UTC).timestamp())
    if grace_seconds is None:
        grace_seconds = STRICT_GRACE if strict else USUAL_GRACE
    if hold_seconds is None:
        hold_seconds = grace_seconds + HOLD_BEYOND_GRACE if strict else 0
    claims: dict[str, Any] = {
        "iss": issuer or vendor.name,
        "sub": license_id or f"{organization_id}-{_slug(product)}-{now:x}",
        "serial": serial or now,
        "iat": now,
        "nbf": _instant(starts, "--from") if starts else now,
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
        "heartbeat": heartbeat_seconds,
        "lease": lease_seconds,
        "grace": grace_seconds,
        "hold": hold_seconds,
        "borrow": borrow_seconds,
        "service": service_url(service or vendor.service),
        "lease_keys": _lease_keys(lease_keys_file) if lease_keys_file else here.lease_keys(),
    }
    try:
        license = License.model_validate(claims)
        if existing := here.mismatch(license):
            raise typer.BadParameter(
                f"{license.id} is {existing}. A newer file can change a license's terms, but not its customer or its "
                "kind, since programs run under it; issue a license with another --id"
            )
        token = write_license(license, keys)
    except ValidationError as error:
        raise typer.BadParameter(explain(error)) from None
    except ValueError as error:
        fail(str(error))
    here.save_customer(customer)
    here.save_issued(license, keys.kid)
    text = license_file_text(token, _heading(license), one_line=one_line)
    deliver(text, out_file, f"license {license.id}, {_validity(license)}")
    if hold_seconds:
        err.print(
            f"A program that crashes keeps its seat for {_length(hold_seconds)}. Started again on its computer, it has "
            "its seat back at once. Where that computer is lost, `licensing license release --lost` frees the seat."
        )


def show(
    file: Annotated[Path, Argument(help="A license file.")],
    issuer_keys: Annotated[
        Path | None, Option(metavar="FILE", help="File with the issuer's public keys (JWKS). Default: the home's.")
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print the claims as JSON.")] = False,
) -> None:
    """Check a license file and print what it says. Exit code 1 if it admits no program today."""
    try:
        license = read_license_file(file, issuer_keys)
    except TokenError as error:
        fail(f"NOT GENUINE: {file.name} {error}. Do not rely on anything that it says.")
    if as_json:
        out.print_json(data=license.claims())
    else:
        out.print(_sheet(license))
    now = utc_now()
    if now >= license.valid_until:
        fail(f"EXPIRED: genuine, but it ended on {last_day(license.valid_until)}.")
    if now < license.valid_from:
        fail(f"NOT YET VALID: genuine, but it begins on {license.valid_from:%Y-%m-%d %H:%M} UTC.")
    err.print("Genuine, and valid now.", style="green")


def read_license_file(file: Path, issuer_keys: Path | None = None) -> License:
    """Read a license file and check its signature, by default with the home's keys. TokenError if it is not genuine."""
    try:
        with file.open("rb") as opened:
            data = opened.read(LICENSE_FILE_LIMIT + 1)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}.")
    return read_license(license_bytes_text(data), _trusted(issuer_keys))


def last_day(moment: datetime) -> str:
    """The last day that ends before a moment, as people write the end of a license."""
    if moment.time() == datetime.min.time():
        return f"{moment - timedelta(days=1):%Y-%m-%d}"
    return f"{moment:%Y-%m-%d %H:%M} UTC"


def explain(error: ValidationError) -> str:
    """What is wrong with a license, in terms of the option that made the wrong claim."""
    errors = error.errors(include_url=False, include_input=False)
    # The customer's id first, since the license's own id is made of it.
    first = min(errors, key=lambda each: each["loc"][:1] != ("organization",))
    place = ".".join(map(str, first["loc"])) or first["type"]
    claim = next((claim for name, claim in CLAIMS.items() if f"{place}.".startswith(f"{name}.")), None)
    if claim is None:
        return f"the claim {place} is wrong, and no option makes it: {first['msg']}"
    return f"{claim.option} takes {claim.takes}" if first["loc"] else f"{claim.option}: {first['msg']}"


def _customer(organization_id: str, name: str | None, salt: str | None) -> CustomerRecord:
    earlier = home().customer(organization_id)
    if earlier is None:
        if not name:
            raise typer.BadParameter(f"{organization_id} is a new customer; give its --organization-name")
        return CustomerRecord(organization_id, name, salt or new_salt())
    if salt not in (None, earlier.salt):
        raise typer.BadParameter(
            f"the names of {organization_id}'s people are hashed with another --salt. With a new one, nobody who has "
            "used a license before could be found again; leave the option out"
        )
    return CustomerRecord(organization_id, name or earlier.name, earlier.salt)


def _hashes(customer: CustomerRecord, kind: ClientKind, names: list[str] | None, file: Path | None) -> list[str]:
    """The hashes of users or hosts that a license lists: of a name in all its forms."""
    given = [name.strip() for name in names or []]
    warn_of_names((name for name in given if not _HASH.fullmatch(name)), f"use --{kind}s-file")
    if file:
        lines = [line.strip() for line in _text(file).splitlines()]
        given += [line for line in lines if line and not line.startswith("#")]
    if "" in given or (file and not given):
        # A license with an empty list would admit everybody.
        raise typer.BadParameter(f"a name in --{kind} or --{kind}s-file is missing")
    with wrong_usage("--salt takes base64url without padding"):
        salt = from_base64url(customer.salt)
    hashes = {
        each for name in given for each in ((name,) if _HASH.fullmatch(name) else client_hashes(salt, kind, name))
    }
    if kind == "host" and any(is_nobodys_host(salt, each) for each in hashes):
        err.print("A listed computer's name is one that many have: the license admits each of them.", style="yellow")
    return sorted(hashes)


def _instant(text: str, option: str, *, end_of_day: bool = False) -> int:
    """Seconds since 1970. A bare date is its first instant or, with `end_of_day`, the first instant after it."""
    takes = "a date such as 2027-12-31, or a time such as 2027-12-31T12:00Z, before 9999-12-31"
    with wrong_usage(f"{option} takes {takes}", ValueError, OverflowError):
        try:
            moment = datetime.combine(date.fromisoformat(text), time.min) + timedelta(days=end_of_day)
        except ValueError:
            moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())


def _validity(license: License) -> str:
    return f"valid from {license.valid_from:%Y-%m-%d} to {last_day(license.valid_until)}"


def _heading(license: License) -> list[str]:
    what = count(license.seats, "seat") if license.kind is Kind.FLOATING else license.kind.value
    return [
        f"{license.product} for {license.organization.name}: {what}, {_validity(license)}",
        f"License {license.id}, serial {license.serial}. These lines are for people; those below are what counts.",
    ]


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
    """Lease keys for programs to trust. Private keys are refused, since every license file would publish them."""
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


def _sheet(license: License) -> Table:
    sheet = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    lines = {
        "License": f"{license.id}, serial {license.serial}",
        "Customer": f"{license.organization.name} ({license.organization.id})",
        "Product": license.product,
        "Kind": license.kind,
        "Seats": f"{license.seats}" + (f", and {license.overdraft} beyond that" if license.overdraft else ""),
        "Shared by": {
            Sharing.NONE: "nobody: each program takes a seat",
            Sharing.USER_HOST: "the programs of one user on one computer",
            Sharing.USER: "the programs of one user",
            Sharing.HOST: "the programs on one computer",
        }[license.sharing],
        "Valid": f"{license.valid_from:%Y-%m-%d} to {last_day(license.valid_until)}",
        "Updates until": last_day(license.maintenance_until) if license.maintenance_until else "no limit",
        "Users": f"{count(len(license.users), 'name')} listed" if license.users else "any",
        "Computers": f"{count(len(license.hosts), 'name')} listed" if license.hosts else "any",
        "Networks": ", ".join(map(str, license.networks)) or "any",
        "Features": ", ".join(license.features) or "none named",
        "Project": license.project or "none",
        "Billing": license.billing,
        "Recorded": "yes" if license.collect else "no: nothing is stored",
        "Heartbeat": (
            f"every {_length(license.heartbeat_seconds)}, "
            f"a silent program loses its seat after {_length(license.lease_seconds)}"
        ),
        "Offline": f"up to {_length(license.grace_seconds)}" if license.grace_seconds else "no",
        "Held": f"{_length(license.hold_seconds)} for a silent program" if license.hold_seconds else "no",
        "Borrowing": f"up to {_length(license.borrow_seconds)}" if license.borrow_seconds else "no",
        "Service": license.service,
        "Issued": f"{license.issued_at:%Y-%m-%d %H:%M} UTC by {license.issuer}",
    }
    for name, value in lines.items():
        sheet.add_row(name, Text(value))  # not markup, whatever brackets it has
    return sheet


def _length(seconds: int) -> str:
    """A length of time, in the largest unit that divides it; in two units where that makes a large number."""
    units = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
    place = next(place for place, (_, size) in enumerate(units) if seconds % size == 0)
    unit, size = units[place]
    if place == 0 or seconds < LARGE_NUMBER * size:
        return count(seconds // size, unit)
    unit, size = units[place - 1]
    return f"{count(seconds // size, unit)} and {_length(seconds % size)}"
