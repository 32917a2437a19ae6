"""What a license file says, and which callers it admits.

The rules, in this order; the first that fails is the answer:

1. the license has begun and has not expired (half-open: `nbf` <= now < `exp`);
2. if the license lists users, the user is among them;
3. if it lists hosts, the host is among them;
4. if it lists networks, the caller's address lies in one of them.

A named-user license must list users, a node-locked license must list hosts. A floating license must be recorded,
since its seats are counted in the register. Otherwise it is malformed, even with a valid signature.

Left to others: signatures (`licensing.crypto.tokens`); suspension, serials and seats, which need the register
(`licensing.rules.seats`).
"""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, Any, Final, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    StringConstraints,
    model_validator,
)
from pydantic_core import PydanticCustomError

Address = IPv4Address | IPv6Address

IDENTIFIER: Final = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
Identifier = Annotated[str, StringConstraints(pattern=f"^{IDENTIFIER}$")]
"""The id of a license or an organization. It is also a key in the store, hence the small alphabet."""


def is_identifier(text: str) -> bool:
    """Whether a text has the form of the id of a license or an organization."""
    return re.fullmatch(IDENTIFIER, text) is not None


ClientHash = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{43}$")]
"""What a client sends in place of a name: HMAC-SHA-256, base64url without padding."""


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line of printable characters")
    return text


Text = Annotated[str, StringConstraints(min_length=1, max_length=200, strip_whitespace=True), AfterValidator(_one_line)]
"""A short text for people; one line, since it stands in the heading of a license file."""


def _moment(value: object) -> object:
    if isinstance(value, int) and not isinstance(value, bool):
        if not 0 <= value < 253402300800:
            raise ValueError("must be seconds since 1970, before the year 10000")
        return datetime.fromtimestamp(value, UTC)
    if isinstance(value, datetime) and value.tzinfo is not None:
        return value
    raise ValueError("must be a whole number of seconds since 1970 (UTC)")


Moment = Annotated[
    datetime, BeforeValidator(_moment), PlainSerializer(lambda moment: int(moment.timestamp()), return_type=int)
]
"""An instant: a JWT NumericDate (RFC 7519, section 2) outside, an aware UTC datetime inside."""


def _text_of_network(value: object) -> object:
    if isinstance(value, int):
        raise ValueError("must be a text such as 198.51.100.0/24")  # pydantic takes a number for an address
    return value


Network = Annotated[IPv4Network | IPv6Network, BeforeValidator(_text_of_network)]
USUAL_GRACE: Final = 3 * 86400
"""How many seconds a program may run without answers, unless its license says otherwise."""
HOLD_BEYOND_GRACE: Final = 60
"""How many seconds a seat may be held longer than a program runs on in grace: the least that lets no two overlap."""
HIGHEST_SERIAL: Final = 2**53
"""Up to here, every number is exact in the JSON of all languages."""
Count = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
Seconds = Annotated[int, Field(strict=True, ge=0, le=366 * 86400)]


class Kind(StrEnum):
    """What a license is bound to: nothing (its seats float), named users, or certain hosts."""

    FLOATING = "floating"
    NAMED_USER = "named-user"
    NODE_LOCKED = "node-locked"


class Sharing(StrEnum):
    """Which sessions share one seat: none, those of one user on one host, of one user, or of one host."""

    NONE = "none"
    USER_HOST = "user-host"
    USER = "user"
    HOST = "host"


class Billing(StrEnum):
    """What the vendor bills: nothing beyond the license, time of use, or use per project."""

    NONE = "none"
    TIME = "time"
    PROJECT = "project"


class Organization(BaseModel, frozen=True, extra="ignore"):
    """A customer."""

    id: Identifier
    name: Text


class License(BaseModel, frozen=True, extra="ignore", populate_by_name=True):
    """The claims of a license file (docs/protocol.md). Unknown claims are ignored, so that issuers can add some.

    Where a field and its claim differ in name, the alias is the claim.
    """

    issuer: Text = Field(alias="iss")
    id: Identifier = Field(alias="sub")
    serial: Annotated[int, Field(strict=True, ge=1, le=HIGHEST_SERIAL)]
    issued_at: Moment = Field(alias="iat")
    valid_from: Moment = Field(alias="nbf")
    valid_until: Moment = Field(alias="exp")
    organization: Organization
    product: Text
    kind: Kind = Kind.FLOATING
    seats: Count
    overdraft: Count = 0
    sharing: Sharing = Sharing.NONE
    users: tuple[ClientHash, ...] = ()
    hosts: tuple[ClientHash, ...] = ()
    networks: tuple[Network, ...] = ()
    features: tuple[Text, ...] = ()
    maintenance_until: Moment | None = None
    project: Text | None = None
    billing: Billing = Billing.NONE
    collect: Annotated[bool, Field(strict=True)] = True
    salt: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{22,86}$")]
    heartbeat_seconds: Annotated[Seconds, Field(ge=1)] = Field(300, alias="heartbeat")
    lease_seconds: Annotated[Seconds, Field(ge=1)] = Field(900, alias="lease")
    grace_seconds: Seconds = Field(USUAL_GRACE, alias="grace")
    hold_seconds: Seconds = Field(0, alias="hold")
    borrow_seconds: Seconds = Field(0, alias="borrow")
    service: Text
    lease_keys: dict[str, Any]
    oldest: Annotated[int, Field(strict=True, ge=0, le=HIGHEST_SERIAL)] = 0
    trial: Annotated[bool, Field(strict=True)] = False

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        # The type of each error is the claim to change.
        if self.valid_until <= self.valid_from:
            raise PydanticCustomError("exp", "the license ends before it begins")
        if self.lease_seconds <= self.heartbeat_seconds:
            raise PydanticCustomError("lease", "the lease must outlast the heartbeat interval")
        if self.hold_seconds > self.grace_seconds + HOLD_BEYOND_GRACE:
            raise PydanticCustomError("hold", "a seat is held for at most grace and a minute")
        if self.oldest > self.serial:
            raise PydanticCustomError("oldest", "the license would not count itself")
        if self.kind is Kind.NAMED_USER and not self.users:
            raise PydanticCustomError("users", "a named-user license must list its users")
        if self.kind is Kind.NODE_LOCKED and not self.hosts:
            raise PydanticCustomError("hosts", "a node-locked license must list its hosts")
        if self.kind is Kind.FLOATING and not self.collect:
            raise PydanticCustomError("collect", "a floating license must be recorded: its seats rest on the register")
        return self

    @property
    def lists_people(self) -> bool:
        """Whether the file lists users, computers or networks; such a file is never stored."""
        return bool(self.users or self.hosts or self.networks)

    @property
    def trusted_kids(self) -> frozenset[str]:
        """The ids of the lease keys that a program with this license trusts."""
        keys = self.lease_keys.get("keys")
        kids = [jwk.get("kid") for jwk in keys if isinstance(jwk, dict)] if isinstance(keys, list) else []
        return frozenset(kid for kid in kids if isinstance(kid, str))

    def claims(self) -> dict[str, Any]:
        """The claims as in the file: short names, NumericDates, plain JSON types.

        Claims that came after the first edition are written only where they say something.
        """
        claims = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return {name: value for name, value in claims.items() if value or name not in ("hold", "oldest", "trial")}


class Refusal(StrEnum):
    """Why a program may not run; the values are the problem codes of the HTTP contract."""

    NOT_YET_VALID = "license-not-yet-valid"
    EXPIRED = "license-expired"
    SUSPENDED = "license-suspended"
    SUPERSEDED = "license-superseded"
    RECALLED = "seat-recalled"
    USER = "user-not-allowed"
    HOST = "host-not-allowed"
    NETWORK = "network-not-allowed"


def last_day(moment: datetime) -> str:
    """The last day that ends before a moment (UTC), as people write the end of a license; with a time if it ends in
    the middle of a day.
    """
    if moment.time() == datetime.min.time():
        return f"{moment - timedelta(days=1):%Y-%m-%d}"
    return f"{moment:%Y-%m-%d %H:%M} UTC"


ENDS_SOON_DAYS: Final = 60
"""A license that ends within so many days ends soon."""


def ends_in_days(valid_until: datetime, now: datetime) -> int | None:
    """The whole days left of a license that ends soon, 0 once it has ended; None for others. Times are UTC."""
    left = valid_until - now
    return max(left.days, 0) if left <= timedelta(days=ENDS_SOON_DAYS) else None


def refusal_of(license: License, user: str, host: str, address: Address | None, now: datetime) -> Refusal | None:
    """Whether a license admits a caller: None if it does, else the first rule that it fails.

    `user` and `host` are client hashes. `address` is never IPv4-mapped; None is unknown, and lies in no network.
    """
    if now < license.valid_from:
        return Refusal.NOT_YET_VALID
    if now >= license.valid_until:
        return Refusal.EXPIRED
    if license.users and user not in license.users:
        return Refusal.USER
    if license.hosts and host not in license.hosts:
        return Refusal.HOST
    if license.networks and not any(address is not None and address in network for network in license.networks):
        return Refusal.NETWORK
    return None


def lease_end(
    now: datetime, *, lease_seconds: int, borrow_seconds: int, wanted_seconds: int, valid_until: datetime
) -> tuple[datetime, bool]:
    """When a lease that is granted now ends, and whether it is borrowed.

    `wanted_seconds` is cut to `borrow_seconds`, and is no borrowing up to `lease_seconds`. The lease never outlasts the
    license.
    """
    borrowed_seconds = min(wanted_seconds, borrow_seconds)
    end = now + timedelta(seconds=max(lease_seconds, borrowed_seconds))
    return min(end, valid_until), borrowed_seconds > lease_seconds
