"""Values that tests are made of: ids, terms, requests, clocks, homes, license files and bodies of starts.

All tests run on one Azurite. Each takes ids of its own, so that none sees another's rows.
"""

import secrets
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from licensing.cli.home import Home, Issuer
from licensing.crypto.pseudonyms import base64url, client_hash, from_base64url
from licensing.crypto.tokens import LICENSE_TYPE, REPORT_TYPE, Lease, sign
from licensing.rules.license import Billing, Kind, Sharing
from licensing.rules.model import Person, Terms
from licensing.rules.requests import Start
from licensing.rules.usage import Use
from licensing.services.license_files import LicenseFiles
from licensing.services.service import utc_now
from licensing.services.sessions import Sessions
from licensing.settings import Settings
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register

SALT: Final = base64url(bytes(range(32)))
USER: Final = "ada"
HOST: Final = "pc-1.acme.example"
DAY: Final = 86400


# Ids.


def new_id(prefix: str) -> str:
    """An id that no other test has."""
    return f"{prefix}-{secrets.token_hex(8)}"


def new_license_id() -> str:
    """The id of a license."""
    return new_id("lic")


def new_session_id() -> str:
    """A session id, as a client makes it."""
    return str(uuid.uuid4())


def new_nonce() -> str:
    """A nonce, as a client makes it."""
    return secrets.token_urlsafe(16)


# Values of the rules.


def terms(**changes: Any) -> Terms:
    """The terms of a floating license with three seats; `changes` replaces some."""
    usual: dict[str, Any] = {
        "serial": 1,
        "organization_id": "acme",
        "organization_name": "Acme Water Oy",
        "product": "Fluidit Water",
        "kind": Kind.FLOATING,
        "seats": 3,
        "overdraft": 0,
        "sharing": Sharing.NONE,
        "heartbeat_seconds": 300,
        "lease_seconds": 900,
        "borrow_seconds": 0,
        "valid_from": datetime(2026, 1, 1, tzinfo=UTC),
        "valid_until": datetime(2099, 1, 1, tzinfo=UTC),
        "project": "",
        "billing": Billing.NONE,
        "grace_seconds": 259200,
    }
    return Terms(**{**usual, **changes})


def person(user: str = "u", host: str = "h", pepper: str = "p1") -> Person:
    """A person under one pepper, with pseudonyms that can be read."""
    return Person(user=f"{pepper}-{user}", host=f"{pepper}-{host}", ip=f"{pepper}-ip", pepper=pepper)


def start(session_id: str, under: Terms, user: str = "u", host: str = "h", **changes: Any) -> Start:
    """A start request."""
    return Start(session_id, under, (person(user, host),), **changes)


def use(session_id: str, begin: datetime, end: datetime | None, user: str = "", **changes: Any) -> Use:
    """A session on a seat of its own, by a user of its own unless one is named."""
    usual = {"user": user or session_id, "host": f"pc-{user or session_id}", "holder": session_id, "overdraft": False}
    return Use(session_id=session_id, started_at=begin, ended_at=end, **{**usual, **changes})


def at(day: date, hour: float) -> datetime:
    """An hour of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=hour)


def lease_of(license_id: str, session_id: str, issued_at: datetime, **changes: Any) -> Lease:
    """A lease of a quarter of an hour with two days of grace; `changes` replaces some."""
    usual: dict[str, Any] = {
        "session_id": session_id,
        "license_id": license_id,
        "issued_at": issued_at,
        "expires_at": issued_at + timedelta(minutes=15),
        "nonce": "n" * 16,
        "features": (),
        "grace_seconds": 2 * DAY,
        "borrowed": False,
        "overdraft": False,
    }
    return Lease(**{**usual, **changes})


# Clocks.


@dataclass
class Clock:
    """A clock that stands still until a test sets it forward."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


class OffsetClock:
    """The present time plus an offset, `ahead`."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


# A home, settings and license files.


def new_home(folder: Path) -> Home:
    """A home with keys and settings, in a folder that is empty or does not exist."""
    home = Home(folder)
    home.create(Issuer("vendor", "http://127.0.0.1:7071/api"), table_port=10002)
    return home


def environment(home: Home, storage: str, **changes: str) -> dict[str, str]:
    """The settings as environment variables: the home's, a store's connection string, and `changes`."""
    return {"LICENSING_HOME": str(home.folder), "LICENSING_STORAGE": storage, **changes}


def settings(home: Home, storage: str, **changes: str) -> Settings:
    """The same settings as a value."""
    return Settings.load(environment(home, storage, **changes))


def sessions_over(settings: Settings, register: Register, ledger: Ledger, clock: Callable[[], datetime]) -> Sessions:
    """The use cases of programs, as the service puts them together."""
    return Sessions(settings, ledger, LicenseFiles.of(settings, register, ledger), clock)


def claims(home: Home, **changes: Any) -> dict[str, Any]:
    """The claims of a floating license of one seat that is valid for a month; `changes` replaces or adds some."""
    now = int(time.time())
    return {
        "iss": "vendor",
        "sub": new_license_id(),
        "serial": 1,
        "iat": now,
        "nbf": now - DAY,
        "exp": now + 30 * DAY,
        "organization": {"id": "acme", "name": "Acme Water Oy"},
        "product": "Water",
        "kind": "floating",
        "seats": 1,
        "salt": SALT,
        "service": "http://127.0.0.1:7071/api",
        "lease_keys": home.lease_keys(),
        **changes,
    }


def issue(home: Home, **changes: Any) -> str:
    """A license file's JWS, signed with the home's issuer key whatever it says; `changes` as for `claims`."""
    return sign(claims(home, **changes), LICENSE_TYPE, home.issuer_keys())


def report_token(home: Home, organization_id: str, **changes: Any) -> str:
    """The token of a link to an organization's totals that is good for a day; `changes` as for `claims`."""
    now = int(time.time())
    pass_ = {"iss": "vendor", "sub": organization_id, "iat": now, "exp": now + DAY, "time_zone": "UTC", **changes}
    return sign(pass_, REPORT_TYPE, home.issuer_keys())


# What a client sends.


def user_hash(name: str = USER) -> str:
    """The client hash of a username."""
    return client_hash(from_base64url(SALT), "user", name)


def host_hash(name: str = HOST) -> str:
    """The client hash of a computer's name."""
    return client_hash(from_base64url(SALT), "host", name)


def start_body(license_file: str, user: str = USER, host: str = HOST, **changes: Any) -> dict[str, Any]:
    """The body of a start by a user on a host, with a new session id and nonce; `changes` replaces or adds fields."""
    return {
        "license": license_file,
        "session": new_session_id(),
        "user": user_hash(user),
        "host": host_hash(host),
        "nonce": new_nonce(),
        **changes,
    }


def bearer(lease: str) -> Mapping[str, str]:
    """The header that a lease is sent in."""
    return {"Authorization": f"Bearer {lease}"}
