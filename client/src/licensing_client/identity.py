"""Hashes of the user's and the computer's names. The names themselves go no further than this module.

A hash is base64url(HMAC-SHA-256(salt, kind + ":" + normalized)), with the salt of the license file. Vectors are in
tests/vectors/client-hashes.json. Names come from the operating system; anyone can set the environment.
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
"""Time limit for the fully qualified name; some resolvers take half a minute to fail."""


WHITE_SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""Unicode's property White_Space. `str.strip` without it would also remove U+001C to U+001F."""


def normalized(name: str) -> str:
    """A name as it is hashed: NFKC, then trimmed, then case-folded."""
    return unicodedata.normalize("NFKC", name).strip(WHITE_SPACE).casefold()


def client_hash(salt: bytes, kind: Literal["user", "host"], name: str) -> str:
    """The hash of a name: 43 characters of base64url."""
    return base64url(hmac.digest(salt, f"{kind}:{normalized(name)}".encode(), "sha256"))


@dataclass(frozen=True, slots=True)
class Person:
    """Client hashes of the user and of the computer."""

    user: str
    host: str


@dataclass(frozen=True, slots=True)
class Names:
    """The user's name, and the computer's names from longest to shortest. Never stored, logged or sent."""

    user: str
    hosts: tuple[str, ...]

    def person(self, salt: bytes, hosts: Container[str]) -> Person:
        """The hashes. If the license's `hosts` lists a name of this computer, that name is used."""
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
    except KeyError:  # containers run under user ids without a name
        return str(os.getuid())


def _fully_qualified(short: str) -> str:
    """The computer's fully qualified name, or `short` if none is found in time."""
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
    """The names of this user and this computer. Cached."""
    short = socket.gethostname()
    return Names(_user(), tuple(dict.fromkeys((_fully_qualified(short), short, short.split(".")[0]))))
