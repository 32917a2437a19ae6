"""Bodies of requests and replies; the caller's token and its address."""

import ipaddress
import re
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import Request
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    Field,
    PlainSerializer,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import PydanticCustomError

from licensing.api.problems import Policy, Seats
from licensing.rules.license import Address, ClientHash
from licensing.rules.requests import SESSION_ID
from licensing.services.sessions import Held, Running, StartRequest
from licensing.settings import Settings

SessionId = Annotated[
    str,
    StringConstraints(pattern=f"^{SESSION_ID}$"),
    AfterValidator(str.lower),
    Field(description="a UUID that the client makes", examples=["6f2b9c1e-0d54-4f0e-9a3e-2f8f1f0c7a11"]),
]
Nonce = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9_-]{16,64}$"),
    Field(description="random, new for each request; comes back in the lease", examples=["q8n0S2kYbT3w9fLr"]),
]
RFC3339: Final = r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)"
Time = Annotated[
    datetime,
    PlainSerializer(lambda moment: rfc3339(moment), return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


Instant = Annotated[
    datetime,
    BeforeValidator(lambda text: _instant(text)),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]


def _instant(text: Any) -> datetime:
    """An instant as a program sends it: RFC 3339, with its offset from UTC."""
    if not isinstance(text, str) or not re.fullmatch(RFC3339, text):
        raise PydanticCustomError("instant", "Input should be a time as in RFC 3339, such as 2026-11-28T10:00:00Z")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise PydanticCustomError("instant", "Input should be a time that there is") from None


def rfc3339(moment: datetime) -> str:
    """An instant in the contract's form: UTC, with microseconds if it has any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


class RequestBody(BaseModel, extra="forbid", strict=True):
    """A body that a program sends."""

    @model_validator(mode="before")
    @classmethod
    def _with_one_unknown_field(cls, body: Any) -> Any:
        """Leave out all unknown fields but one: each would be an error, and the reply names the first."""
        fields = cls.model_fields
        if not isinstance(body, dict) or len(body) <= len(fields):
            return body
        unknown = next(name for name in body if name not in fields)
        return {name: value for name, value in body.items() if name in fields or name == unknown}


class StartBody(RequestBody):
    """A program starts."""

    license: Annotated[str, Field(min_length=1, description="the JWS line of the license file")]
    session: SessionId
    user: Annotated[ClientHash, Field(description="the client hash of the username")]
    host: Annotated[ClientHash, Field(description="the client hash of the computer's name")]
    nonce: Nonce
    borrow_seconds: Annotated[
        int, Field(ge=0, le=366 * 86400, description="take the seat along for so long; cut to what the license allows")
    ] = 0
    replaces: Annotated[
        str | None, Field(min_length=1, description="the last lease of the session that this one follows")
    ] = None
    ran_until: Annotated[Instant | None, Field(description="until when the program of that session ran")] = None
    wait: Annotated[bool, Field(description="get a place in line if there is no seat, and ask again")] = False

    def value(self) -> StartRequest:
        """The request in the use case's form."""
        return StartRequest(
            self.license,
            self.session,
            self.user,
            self.host,
            self.nonce,
            self.borrow_seconds,
            self.replaces,
            self.ran_until,
            self.wait,
        )


class CurrentBody(RequestBody):
    """A program asks for the newest file of its license."""

    license: Annotated[
        str, Field(min_length=1, description="the JWS of the license file that it has, also an expired one")
    ]


class CurrentReply(BaseModel):
    """The newest file of a license."""

    license: Annotated[str, Field(description="its JWS; the client checks the signature (docs/protocol.md)")]
    serial: int


class HeartbeatBody(RequestBody):
    """A program still runs."""

    nonce: Nonce


class EndedBody(RequestBody):
    """A program tells afterwards until when it ran."""

    ran_until: Annotated[
        Instant, Field(description="until when the program ran; cut to now, and to its lease and grace")
    ]


def policy_of(settings: Settings) -> Policy:
    """The privacy policy that the settings name."""
    return Policy(version=settings.policy_version, url=settings.policy_url)


class RunningReply(BaseModel):
    """The program may run until its lease expires."""

    session: str
    lease: Annotated[str, Field(description="signed; the proof that counts (docs/protocol.md)")]
    expires_at: Time
    heartbeat_seconds: Annotated[int, Field(description="say that you still run every so many seconds")]
    seats: Seats
    overdraft: Annotated[bool, Field(description="this seat is beyond those bought")]
    recorded: Annotated[bool, Field(description="false: nothing is stored, and no heartbeat is needed")]
    license_serial: Annotated[int, Field(description="the serial of the license file whose terms are in force")]
    policy: Policy

    @classmethod
    def of(cls, running: Running, settings: Settings) -> "RunningReply":
        """The reply to a start or heartbeat that succeeded."""
        return cls(
            session=running.session_id,
            lease=running.lease_token,
            expires_at=running.expires_at,
            heartbeat_seconds=running.heartbeat_seconds,
            seats=Seats(in_use=running.in_use, total=running.seats, waiting=running.waiting),
            overdraft=running.overdraft,
            recorded=running.recorded,
            license_serial=running.license_serial,
            policy=policy_of(settings),
        )


class SessionReply(BaseModel):
    """All that the register holds on a running session."""

    license: str
    session: str
    started_at: Time
    heartbeat_at: Time
    expires_at: Time
    lapses_at: Annotated[Time, Field(description="when its seat goes to others if nothing more is heard of it")]
    user: Annotated[str, Field(description="pseudonym of the username")]
    host: Annotated[str, Field(description="pseudonym of the computer's name")]
    ip: Annotated[str, Field(description="pseudonym of the public address")]
    pepper: Annotated[str, Field(description="under which of the service's keys the pseudonyms are")]
    holder: Annotated[str, Field(description="who holds the seat")]
    borrowed: bool
    overdraft: bool

    @classmethod
    def of(cls, held: Held) -> "SessionReply":
        """The reply to a program that asks what the register holds on it."""
        return cls(license=held.license_id, session=held.session.id, **asdict(held.session))


class Health(BaseModel):
    """How the service is."""

    status: Annotated[str, Field(examples=["ok"])]
    region: Annotated[str, Field(description="Azure's region, `local` outside of it")]
    version: str


SECURITY_SCHEMES: Final = {
    "lease": {"type": "http", "scheme": "bearer", "description": "the session's lease"},
    "report": {"type": "http", "scheme": "bearer", "description": "the token of a report's link"},
}
"""The tokens that operations need, in OpenAPI's form."""


def asks_for(scheme: str) -> dict[str, Any]:
    """OpenAPI's `security` of an operation that needs a token. FastAPI's own way costs time at each request."""
    return {"security": [{scheme: []}]}


def bearer_token(request: Request) -> str:
    """The bearer token of a request (RFC 6750, section 2.1); empty if there is none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


def caller_address(request: Request, trusted_hops: int) -> Address | None:
    """The public address of the caller, never IPv4-mapped; None if it is unknown.

    Each trusted proxy appends its peer's address to X-Forwarded-For. Entries further left are the caller's claims.
    Without a trusted proxy it is the socket's address.
    """
    if trusted_hops == 0:
        return _address(request.client.host) if request.client else None
    entries = ",".join(request.headers.getlist("x-forwarded-for")).split(",")
    return _address(entries[-trusted_hops]) if len(entries) >= trusted_hops else None


def _address(text: str) -> Address | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, ipaddress.IPv6Address) else address
