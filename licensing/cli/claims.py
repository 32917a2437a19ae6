"""The claims of a license that a vendor decides on: their options, their columns in a CSV file of orders, their values.

`CLAIMS` is the one list of them. The options of `license issue` and `renew`, the columns of `issue --from`, their help
and the messages about wrong values are made from it. How to add a claim: CONTRIBUTING.md.
"""

import inspect
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import partial, wraps
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from pydantic import ValidationError
from typer import Option

from licensing.cli.options import service_url
from licensing.crypto.keys import VerifyingKeys
from licensing.rules.license import USUAL_GRACE, Billing, Kind, Sharing

STRICT_GRACE: Final = 12 * 3600
"""Grace of a strict license: a working day without a network."""

LENGTH: Final = "a length of time such as 12h, 30d or 4w"
_UNITS: Final = {"h": 3600, "d": 86400, "w": 7 * 86400}

_ID = "1 to 64 of the characters A-Z a-z 0-9 . _ -, the first a letter or a digit"
_TEXT = "1 to 200 characters on one line"
_TIME = "a date such as 2027-12-31, or a time such as 2027-12-31T12:00Z, from 1970 on and before 9999-12-31"
_COUNT = "a whole number up to 1000000"
_SECONDS = "a whole number of seconds, at most a year"
_SERIAL = "a whole number up to 9007199254740992"
_USER = "a username or its hash"
_HOST = "a computer's name or its hash"
_NETWORK = "a network such as 198.51.100.0/24, whose bits beyond the prefix are zero"
_SALT = "22 to 86 characters of base64url without padding"
_URL = "a URL such as https://host.example/api, of at most 200 characters; http only for 127.0.0.1"
_JWKS = "a file with public keys (JWKS)"


class ClaimError(ValueError):
    """A license cannot be as it is wanted, because of one claim; the text names its option and says what to do.

    `claim` is its name, empty where no option makes it. `what` is the text without the option. `refused` tells what
    is well formed, and not done, from what is wrong usage.
    """

    def __init__(self, claim: str, what: str, *, refused: bool = False) -> None:
        option = CLAIMS[claim].option if claim in CLAIMS else ""
        super().__init__(f"{option}{'' if what.startswith('takes ') or not option else ':'} {what}".strip())
        self.claim = claim
        self.what = what
        self.refused = refused


def length(text: str) -> int:
    """Seconds of a length of time such as 30d. ValueError if it is none, or longer than a year."""
    match = re.fullmatch(r"(\d{1,4})([hdw])", text.strip())
    seconds = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < seconds <= 366 * 86400:
        raise ValueError
    return seconds


def instant(text: str, *, end_of_day: bool = False) -> int:
    """Seconds since 1970. A bare date is its first instant (UTC) or, with `end_of_day`, the first instant after it.

    ValueError if it is neither a date nor a time.
    """
    try:
        try:
            moment = datetime.combine(date.fromisoformat(text), time.min) + timedelta(days=end_of_day)
        except ValueError:
            moment = datetime.fromisoformat(text)
        return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
    except OverflowError:
        raise ValueError from None


def is_time(text: str) -> bool:
    """Whether a text is a date or a time."""
    try:
        instant(text)
    except ValueError:
        return False
    return True


def _service(url: str) -> str:
    try:
        return service_url(url)
    except typer.BadParameter:
        raise ValueError from None


def _lease_keys(file: Path) -> dict[str, Any]:
    """Lease keys for programs to trust. Private keys are refused, since every license file would publish them."""
    try:
        jwks: dict[str, Any] = json.loads(file.read_text(encoding="utf-8-sig"))
        VerifyingKeys(jwks)
    except (OSError, UnicodeDecodeError):
        raise ClaimError("lease_keys", "takes a file with JSON, and this one cannot be read") from None
    except json.JSONDecodeError:
        raise ClaimError("lease_keys", "takes a file with JSON") from None
    except ValueError as error:
        raise ClaimError("lease_keys", f"takes a file with public keys (JWKS): {error}") from None
    return jwks


def _as_given(value: Any) -> Any:
    return value


@dataclass(frozen=True, slots=True)
class Claim:
    """A claim: the option that makes it, the values that it `takes` (for error messages), and its help.

    `type` is that of the option's value, and `read` makes the claim of it: ValueError if it is wrong. `default` and
    `metavar` are for the help.
    """

    option: str
    takes: str
    help: str
    type: Any = str
    read: Callable[[Any], Any] = _as_given
    default: object = None
    metavar: str | None = None

    @property
    def full_help(self) -> str:
        """Its help, with the default."""
        return self.help if self.default is None else f"{self.help} Default: {self.default}."

    @property
    def column(self) -> str:
        """Its name as a column of a CSV file."""
        return self.option.removeprefix("--")


def _one_of(choices: type[StrEnum]) -> str:
    return f"one of {', '.join(choices)}"


_LIST = list[str]
_LAST_DAY = partial(instant, end_of_day=True)

CLAIMS: Final = {
    "organization.id": Claim("--organization", _ID, "Short id of the customer, as in `acme`."),
    "organization.name": Claim("--organization-name", _TEXT, "Name of the customer; needed for its first license."),
    "product": Claim("--product", _TEXT, "Name of the software that is licensed."),
    "exp": Claim("--until", _TIME, "Last day of the license (UTC), or an exact time.", read=_LAST_DAY, metavar="DATE"),
    "seats": Claim("--seats", _COUNT, "How many programs may run at the same time (floating).", type=int, default=1),
    "sub": Claim("--id", _ID, "Id of the license. To renew or change a license, give its id.", default="a new id"),
    "serial": Claim(
        "--serial",
        _SERIAL,
        "A file with a higher serial replaces older files of the license.",
        default="the next one, at least the time in seconds",
        type=int,
    ),
    "nbf": Claim(
        "--from",
        _TIME,
        "First day of the license (UTC), or an exact time.",
        default="now, or as in the license's newest file",
        read=instant,
        metavar="DATE",
    ),
    "kind": Claim(
        "--kind",
        _one_of(Kind),
        "Whether seats float, or the license is for the listed users or computers only.",
        type=Kind,
        default=Kind.FLOATING,
    ),
    "overdraft": Claim(
        "--overdraft",
        _COUNT,
        "Seats beyond those bought: given out when all are in use, and reported.",
        type=int,
        default=0,
    ),
    "sharing": Claim(
        "--sharing",
        _one_of(Sharing),
        "Which programs share one seat: none, a user's on one computer, a user's on any, a computer's.",
        type=Sharing,
        default=Sharing.NONE,
    ),
    "users": Claim(
        "--user",
        _USER,
        "A user whom the license admits, best by its hash; may be repeated. A name goes into --users-file.",
        type=_LIST,
    ),
    "hosts": Claim(
        "--host",
        _HOST,
        "A computer that the license admits, best by its hash; may be repeated. A name goes into --hosts-file. Of a "
        "full name, the part up to the first dot is listed as well, since programs send that.",
        type=_LIST,
    ),
    "networks": Claim(
        "--network",
        _NETWORK,
        "A network in which programs may run, as in 198.51.100.0/24; may be repeated.",
        default="any",
        type=_LIST,
        metavar="CIDR",
    ),
    "features": Claim("--feature", _TEXT, "A feature of the product that is licensed; may be repeated.", type=_LIST),
    "maintenance_until": Claim(
        "--maintenance-until",
        _TIME,
        "Last day of free updates (UTC); builds made after it do not run.",
        default="none",
        read=_LAST_DAY,
        metavar="DATE",
    ),
    "project": Claim("--project", _TEXT, "The customer's project, for billing by project."),
    "billing": Claim(
        "--billing", _one_of(Billing), "What is billed beyond the license itself.", type=Billing, default=Billing.NONE
    ),
    "collect": Claim(
        "--no-collect",
        "no value",
        "Whether sessions are recorded. Floating licenses need it to count seats.",
        type=bool,
        default="collect",
    ),
    "salt": Claim(
        "--salt",
        _SALT,
        "The customer's key for hashing names.",
        default="the key of its earlier licenses, or a new one",
    ),
    "heartbeat": Claim(
        "--heartbeat", _SECONDS, "Seconds between two heartbeats of a running program.", type=int, default=300
    ),
    "lease": Claim(
        "--lease", _SECONDS, "Seconds without a heartbeat until a program loses its seat.", type=int, default=900
    ),
    "grace": Claim(
        "--grace",
        _SECONDS,
        "Seconds for which a program may run while it cannot reach the service.",
        type=int,
        default=f"{USUAL_GRACE}, {STRICT_GRACE} with --strict, 0 with --trial",
    ),
    "hold": Claim(
        "--hold",
        _SECONDS,
        "Seconds after its last heartbeat for which a seat is kept for a silent program; at most --grace + 60.",
        type=int,
        default="0, or --grace + 60 with --strict",
    ),
    "borrow": Claim(
        "--borrow",
        _SECONDS,
        "Seconds for which a seat may be borrowed, to work without the service. 0: not at all.",
        type=int,
        default=0,
    ),
    "service": Claim(
        "--service",
        _URL,
        "URL at which programs reach the service.",
        default="the home's",
        read=_service,
        metavar="URL",
    ),
    "iss": Claim("--issuer", _TEXT, "Name of the vendor in the license file.", default="the home's"),
    "lease_keys": Claim(
        "--lease-keys",
        _JWKS,
        "File with the service's public lease keys (JWKS), which programs trust.",
        default="the home's",
        type=Path,
        read=_lease_keys,
        metavar="FILE",
    ),
    "oldest": Claim(
        "--oldest",
        "a serial, at most the license's own",
        "Lowest serial that still counts: older files of the license are refused.",
        default="as before, or all count",
        type=int,
    ),
    "trial": Claim(
        "--trial",
        LENGTH,
        "A trial for so long from its beginning, as in 30d, without grace; in place of --until.",
        read=length,
        metavar="LENGTH",
    ),
}
"""By name of the claim; those of the organization have its name and a dot before them."""


def with_claims(*without: str, defaults: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command the options of all claims, but of those that are named; their help shows the `defaults`, or none.

    The command has an argument `claims`, which gets what was given: the values of the options by their claims.
    """

    def decorated(command: Callable[..., None]) -> Callable[..., None]:
        names = {claim.replace(".", "_"): claim for claim in CLAIMS if claim not in without}

        @wraps(command)
        def with_options(**arguments: Any) -> None:
            values = {claim: arguments.pop(name) for name, claim in names.items()}
            command(**arguments, claims={claim: value for claim, value in values.items() if value not in (None, [])})

        options = [_option(name, CLAIMS[claim], defaults) for name, claim in names.items()]
        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            own = parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)
            parameters += options if parameter.name == "claims" else [own]
        # typer reads both.
        vars(with_options)["__signature__"] = inspect.Signature(parameters)
        with_options.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return with_options

    return decorated


def _option(name: str, claim: Claim, defaults: bool) -> inspect.Parameter:
    names = ("--collect/--no-collect",) if claim.type is bool else (claim.option,)
    option = Option(*names, help=claim.full_help if defaults else claim.help, metavar=claim.metavar, show_default=False)
    taken: Any = claim.type | None
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[taken, option])


def read_claims(values: Mapping[str, Any]) -> dict[str, Any]:
    """The claims that the values of options make. ClaimError if one is wrong."""
    claims = {}
    for name, value in values.items():
        try:
            claims[name] = CLAIMS[name].read(value)
        except ClaimError:
            raise
        except ValueError:  # its text would repeat what was typed
            raise ClaimError(name, f"takes {CLAIMS[name].takes}") from None
    return claims


def explained(error: ValidationError) -> ClaimError:
    """What is wrong with a license, in terms of the claim to change."""
    errors = error.errors(include_url=False, include_input=False)
    # The customer's id first, since the license's own id is made of it.
    first = min(errors, key=lambda each: each["loc"][:1] != ("organization",))
    place = ".".join(map(str, first["loc"])) or first["type"]
    name = next((name for name in CLAIMS if f"{place}.".startswith(f"{name}.")), None)
    if name is None:
        return ClaimError("", f"the claim {place} is wrong, and no option makes it: {first['msg']}")
    return ClaimError(name, f"takes {CLAIMS[name].takes}" if first["loc"] else first["msg"])
