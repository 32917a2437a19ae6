"""What a license file says, and whether it covers this program. Both are decided offline.

The checks, in this order; the first that fails is the answer:

1. The file holds one signed text, and a key that is compiled into the program signed it.
2. Its product is the program's.
3. It has begun and has not expired (`nbf` <= now < `exp`).
4. The program was built before the license's maintenance ended.
5. It has every feature that the program needs.
6. It lists the user, if it lists users; it lists the host, if it lists hosts.

Unknown claims are ignored, so that newer issuers can add claims.

Left to the service: suspension, superseded files, networks and seats.
"""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from licensing_client.errors import Flaw, TokenError
from licensing_client.identity import Person
from licensing_client.reasons import Code, Reason, reason
from licensing_client.tokens import LICENSE_TYPE, Keys, keys_of, unbase64url, verified_claims, xs_of

HOLD_MARGIN_SECONDS = 60
"""A seat is held for at most so much longer than the license's grace."""
FLOATING, NAMED_USER, NODE_LOCKED = "floating", "named-user", "node-locked"

LAST_SECOND = 253_402_300_799
"""The end of the year 9999."""
FILE_LIMIT_BYTES = 64 * 1024
"""Largest license file: the signed text and pages of comments."""


@dataclass(frozen=True, slots=True)
class Program:
    """What the vendor compiles into a program.

    `issuer_keys`: the `x` (43 characters of base64url) of every key that may sign license files.
    `product`: the claim that must match; None matches any. `built`: the day of the build.
    `features`: the features that the program needs.
    """

    issuer_keys: tuple[str, ...]
    product: str | None = None
    built: datetime.date | None = None
    features: frozenset[str] = frozenset()

    def keys(self) -> Keys:
        """The issuer keys by their ids.

        Raises ValueError where one is no key.
        """
        return keys_of(self.issuer_keys)


@dataclass(frozen=True, slots=True)
class License:
    """A verified license. Times are seconds since 1970, UTC."""

    token: str = field(repr=False)
    id: str
    serial: int
    organization_id: str
    organization: str
    product: str
    kind: str
    seats: int
    users: frozenset[str]
    hosts: frozenset[str]
    features: frozenset[str]
    valid_from: int
    valid_until: int
    maintenance_until: int | None
    collect: bool
    salt: bytes = field(repr=False)
    grace_seconds: int
    borrow_seconds: int
    hold_seconds: int
    lease_seconds: int
    service: str
    lease_keys: Keys = field(repr=False)

    @property
    def hold_lease_seconds(self) -> int | None:
        """Under a hold, the length of an ordinary lease; None without a hold."""
        return self.lease_seconds if self.hold_seconds else None


class _Claims:
    """Reads claims by name and type."""

    def __init__(self, claims: Mapping[str, Any]) -> None:
        self._claims = claims

    def text(self, name: str) -> str:
        value = self._claims.get(name)
        if not isinstance(value, str) or not value:
            raise TokenError(Flaw.MALFORMED, f"is signed, but its {name} is no text")
        return value

    def whole_number(self, name: str, default: int | None = None) -> int:
        value = self._claims.get(name, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise TokenError(Flaw.MALFORMED, f"is signed, but its {name} is no whole number")
        return value

    def text_set(self, name: str) -> frozenset[str]:
        value = self._claims.get(name, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise TokenError(Flaw.MALFORMED, f"is signed, but its {name} is no list of texts")
        return frozenset(value)

    def boolean(self, name: str, default: bool) -> bool:
        value = self._claims.get(name, default)
        if not isinstance(value, bool):
            raise TokenError(Flaw.MALFORMED, f"is signed, but its {name} is neither true nor false")
        return value


def license_line(text: str) -> str:
    """The JWS in the text of a license file: its lines that are no comments, joined (docs/protocol.md, section 4).

    Those lines must follow each other directly. A `=` at the end of one is a soft line break of quoted-printable.
    Raises TokenError where there are none, or they do not follow each other.
    """
    lines = [line.removesuffix("\r").strip(" \t") for line in text.removeprefix("\ufeff").split("\n")]
    places = [place for place, line in enumerate(lines) if line and not line.startswith("#")]
    if not places:
        raise TokenError(Flaw.DAMAGED, "is damaged: there is no signed text in it")
    *folded, last = lines[places[0] : places[-1] + 1]
    if len(folded) + 1 != len(places):
        raise TokenError(
            Flaw.DAMAGED, "is damaged: a blank line or a comment interrupts the signed text, or text was added"
        )
    return "".join(line.removesuffix("=") for line in folded) + last


def parse_license(text: str, keys: Keys) -> License:
    """The license in a file's text, whatever its dates.

    Raises TokenError where none of `keys` signed it, or its claims are malformed.
    """
    return parse_token(license_line(text), keys)


def parse_token(token: str, keys: Keys) -> License:
    """The license in a signed text, whatever its dates.

    Raises TokenError where none of `keys` signed it, or its claims are malformed.
    """
    payload = verified_claims(token, LICENSE_TYPE, keys)
    claims = _Claims(payload)
    customer = payload.get("organization")
    organization = _Claims(customer if isinstance(customer, dict) else {})
    try:
        lease_keys = keys_of(xs_of(payload.get("lease_keys")))
        salt = unbase64url(claims.text("salt"))
    except ValueError:
        raise TokenError(Flaw.MALFORMED, "is signed, but its keys or its salt cannot be read") from None
    license = License(
        token=token,
        id=claims.text("sub"),
        serial=claims.whole_number("serial"),
        organization_id=organization.text("id"),
        organization=organization.text("name"),
        product=claims.text("product"),
        kind=claims.text("kind") if "kind" in payload else FLOATING,
        seats=claims.whole_number("seats", 0),
        users=claims.text_set("users"),
        hosts=claims.text_set("hosts"),
        features=claims.text_set("features"),
        valid_from=claims.whole_number("nbf"),
        valid_until=claims.whole_number("exp"),
        maintenance_until=None
        if payload.get("maintenance_until") is None
        else claims.whole_number("maintenance_until"),
        collect=claims.boolean("collect", True),
        salt=salt,
        grace_seconds=claims.whole_number("grace", 259200),
        borrow_seconds=claims.whole_number("borrow", 0),
        hold_seconds=claims.whole_number("hold", 0),
        lease_seconds=claims.whole_number("lease", 900),
        service=claims.text("service").rstrip("/"),
        lease_keys=lease_keys,
    )
    if license.kind == FLOATING and not license.collect:
        raise TokenError(Flaw.MALFORMED, "is signed, but its seats float and it asks for no record of them")
    if license.hold_seconds > license.grace_seconds + HOLD_MARGIN_SECONDS:
        raise TokenError(Flaw.MALFORMED, "is signed, but it holds seats for longer than its grace")
    if license.kind not in (FLOATING, NAMED_USER, NODE_LOCKED):
        raise TokenError(Flaw.MALFORMED, "is signed, but its kind is not known; a newer program may know it")
    if (license.kind == NAMED_USER and not license.users) or (license.kind == NODE_LOCKED and not license.hosts):
        raise TokenError(Flaw.MALFORMED, "is signed, but does not say to whom it is bound")
    return license


def read_license(path: Path, keys: Keys) -> License | Reason:
    """The license in a file, or the reason why there is none."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT_BYTES + 1)
        if len(data) > FILE_LIMIT_BYTES:
            raise TokenError(Flaw.OVERSIZE, f"is larger than {FILE_LIMIT_BYTES // 1024} KiB")
        return parse_license(data.decode("utf-8"), keys)
    except OSError as error:
        return reason(Code.LICENSE_MISSING, f"({error.strerror or type(error).__name__})")
    except UnicodeDecodeError:
        return reason(Code.LICENSE_MALFORMED, "(It is no UTF-8 text.)")
    except TokenError as error:
        malformed = error.flaw in (Flaw.DAMAGED, Flaw.MALFORMED, Flaw.OVERSIZE)
        return reason(Code.LICENSE_MALFORMED if malformed else Code.LICENSE_INVALID, f"(It {error}.)")


def utc_time(seconds: float) -> datetime.datetime:
    """The time so many seconds after 1970 (UTC); the end of all calendars at the latest."""
    return datetime.datetime.fromtimestamp(min(seconds, LAST_SECOND), datetime.timezone.utc)


def utc_day(moment: float) -> str:
    """The UTC day of a time, for people."""
    return utc_time(moment).date().isoformat()


def last_valid_day(end: float) -> str:
    """The last day before an end, for people. An end within a day is told to the minute (UTC)."""
    moment = utc_time(end)
    if moment.time() == datetime.time():
        return (moment.date() - datetime.timedelta(days=1)).isoformat()
    return f"{moment:%Y-%m-%d %H:%M} UTC"


ENDS_SOON_SECONDS = 60 * 86400
"""People learn of a license's end so long before it."""


def ends_in(end: float, now: float) -> datetime.timedelta | None:
    """How long a license lasts, in whole seconds, if it ends soon; zero after its end. None if it does not end soon."""
    left = max(0, int(end - now))
    return datetime.timedelta(seconds=left) if left <= ENDS_SOON_SECONDS else None


def check_license(license: License, program: Program, person: Person, now: float) -> Reason | None:
    """The reason why a license does not cover a program, a person and a time; None if it does."""
    if program.product is not None and license.product != program.product:
        return reason(Code.PRODUCT_NOT_LICENSED, f"(It is for {license.product}.)")
    if now < license.valid_from:
        return reason(Code.LICENSE_NOT_YET_VALID, f"(It begins on {utc_day(license.valid_from)}.)")
    if now >= license.valid_until:
        return reason(Code.LICENSE_EXPIRED, f"(It was valid to {last_valid_day(license.valid_until)}.)")
    if program.built is not None and license.maintenance_until is not None:
        built = datetime.datetime.combine(program.built, datetime.time(), datetime.timezone.utc)
        if built.timestamp() > license.maintenance_until:
            return reason(Code.MAINTENANCE_OVER, f"(It lasted to {last_valid_day(license.maintenance_until)}.)")
    if missing := sorted(program.features - license.features):
        return reason(Code.FEATURE_NOT_LICENSED, f"(Missing: {', '.join(missing)}.)")
    if license.users and person.user not in license.users:
        return reason(Code.USER_NOT_ALLOWED)
    if license.hosts and person.host not in license.hosts:
        return reason(Code.HOST_NOT_ALLOWED)
    return None


def refusal_by_clocks(license: License, program: Program, person: Person, *clocks: float) -> Reason | None:
    """The reason why a license covers nothing by any of these clocks; None if it does by one.

    Each clock may be wrong, so all have to refuse. The service decides; without it, grace uses the later time.
    """
    reasons = [check_license(license, program, person, now) for now in clocks]
    return None if None in reasons else reasons[-1]
