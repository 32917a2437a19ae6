"""Who runs the program, and where, as hashes: names are turned into these here and go no further.

The hash is base64url(HMAC-SHA-256(salt, kind + ":" + normalized)), with the salt of the license file;
vectors in tests/vectors/client-hashes.json. Names come from the operating system, not from the environment,
which anyone can set.
"""

import functools
import getpass
import hmac
import os
import socket
import sys
import threading
import unicodedata
from collections.abc import Container
from dataclasses import dataclass
from typing import Literal

from licensing_client.tokens import base64url

HOST_LOOKUP_SECONDS = 1.0
"""How long the fully qualified name may take to find; some resolvers need half a minute to say no."""


def normalized(name: str) -> str:
    """A name as it is hashed: NFKC, white space trimmed, case folded, in this order."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def client_hash(salt: bytes, kind: Literal["user", "host"], name: str) -> str:
    """43 characters base64url that stand for a name."""
    return base64url(hmac.digest(salt, f"{kind}:{normalized(name)}".encode(), "sha256"))


@dataclass(frozen=True, slots=True)
class Person:
    """Client hashes of who runs the program and of the computer that it runs on."""

    user: str
    host: str


@dataclass(frozen=True, slots=True)
class Names:
    """The user's name, and the computer's from the fullest to the shortest. Never stored, logged or sent."""

    user: str
    hosts: tuple[str, ...]

    def person(self, salt: bytes, hosts: Container[str]) -> Person:
        """The hashes. Where a license lists `hosts`, the name by which it knows this computer is taken."""
        hashes = [client_hash(salt, "host", name) for name in self.hosts]
        return Person(
            user=client_hash(salt, "user", self.user),
            host=next((value for value in hashes if value in hosts), hashes[0]),
        )


def _user() -> str:
    if sys.platform == "win32":
        import ctypes

        buffer = ctypes.create_unicode_buffer(257)
        size = ctypes.c_ulong(len(buffer))
        if ctypes.windll.advapi32.GetUserNameW(buffer, ctypes.byref(size)):
            return buffer.value
        return getpass.getuser()
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # containers run under numbers that have no name
        return str(os.getuid())


def _fully_qualified(short: str) -> str:
    """The computer's fully qualified name, or `short` where it has none that can be found in time."""
    found: list[str] = []
    lookup = threading.Thread(
        target=lambda: found.append(socket.getfqdn(short)), name="licensing-client-name", daemon=True
    )
    lookup.start()
    lookup.join(HOST_LOOKUP_SECONDS)
    name = found[0] if found else short
    return name if "." in name and not name.startswith("localhost") else short


@functools.cache
def names() -> Names:
    """The names of this user and this computer, looked up once."""
    short = socket.gethostname()
    return Names(_user(), tuple(dict.fromkeys((_fully_qualified(short), short, short.split(".")[0]))))
