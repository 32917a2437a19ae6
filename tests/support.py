"""What tests share: a home, settings, licenses and starts, made in this process and with any content.

All tests run on one Azurite. Each takes license ids of its own (`new_id`), so that none sees another's rows.
"""

import re
import secrets
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from licensing.cli.home import Home, Issuer
from licensing.crypto.pseudonyms import base64url, client_hash, from_base64url
from licensing.crypto.tokens import LICENSE_TYPE, REPORT_TYPE, sign
from licensing.settings import Settings
from licensing.storage.tables import Tables

SALT: Final = base64url(bytes(range(32)))
USER: Final = "ada"
HOST: Final = "pc-1.acme.example"
DAY: Final = 86400


def new_id(prefix: str = "lic") -> str:
    """An id that no other test has, of a license or an organization."""
    return f"{prefix}-{secrets.token_hex(8)}"


def new_home(folder: Path) -> Home:
    """A home with keys and settings, in a folder that is empty or does not exist."""
    home = Home(folder)
    home.create(Issuer("vendor", "http://127.0.0.1:7071/api"), table_port=10002)
    return home


def environment(home: Home, storage: str, **changes: str) -> dict[str, str]:
    """The settings as environment variables: the home's, a store's connection string, and `changes`."""
    return {"LICENSING_HOME": str(home.folder), "LICENSING_STORAGE": storage, **changes}


def settings(home: Home, storage: str, **changes: str) -> Settings:
    """The same, read."""
    return Settings.load(environment(home, storage, **changes))


def claims(home: Home, **changes: Any) -> dict[str, Any]:
    """The claims of a floating license of one seat that is valid for a month; `changes` replaces or adds some."""
    now = int(time.time())
    return {
        "iss": "vendor",
        "sub": new_id(),
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


def report_token(home: Home, organization: str, **changes: Any) -> str:
    """The token of a link to an organization's figures that is good for a day; `changes` as for `claims`."""
    now = int(time.time())
    pass_ = {"iss": "vendor", "sub": organization, "iat": now, "exp": now + DAY, "time_zone": "UTC", **changes}
    return sign(pass_, REPORT_TYPE, home.issuer_keys())


def user_hash(name: str = USER) -> str:
    """The client hash of a username."""
    return client_hash(from_base64url(SALT), "user", name)


def host_hash(name: str = HOST) -> str:
    """The client hash of a computer's name."""
    return client_hash(from_base64url(SALT), "host", name)


def new_session() -> str:
    """A session id, as a client makes it."""
    return str(uuid.uuid4())


def new_nonce() -> str:
    """A nonce, as a client makes it."""
    return secrets.token_urlsafe(16)


def start(license: str, user: str = USER, host: str = HOST, **changes: Any) -> dict[str, Any]:
    """The body of a start by a user on a host, with a new session id and nonce; `changes` replaces or adds fields."""
    return {
        "license": license,
        "session": new_session(),
        "user": user_hash(user),
        "host": host_hash(host),
        "nonce": new_nonce(),
        **changes,
    }


def bearer(lease: str) -> Mapping[str, str]:
    """The header that a lease is sent in."""
    return {"Authorization": f"Bearer {lease}"}


class StorageCalls:
    """Counts the calls that reach Azurite, by the line that it logs for each."""

    def __init__(self, log: Path, tables: Tables) -> None:
        self._log = log
        self._tables = tables

    async def mark(self) -> int:
        """A place in the log after all calls that have been answered, as of now."""
        key = secrets.token_hex(8)
        await self._tables.ping()  # so that the table is there, and the next line is a single call
        await self._tables.get("directory", "mark", key)
        return self._place_after(key.encode())

    async def since(self, mark: int) -> list[str]:
        """The calls since a mark, as `VERB url`."""
        until = await self.mark()
        lines = self._log.read_bytes()[mark:until].decode().splitlines()[:-2]  # without the mark's own
        return [line.split('"')[1].removesuffix(" HTTP/1.1") for line in lines]

    def _place_after(self, key: bytes) -> int:
        """The end of the line that names a key; Azurite writes it when the reply has gone out."""
        while not (found := re.search(re.escape(key) + rb".*\n", self._log.read_bytes())):
            time.sleep(0.002)
        return found.end()
