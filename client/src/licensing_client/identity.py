"""Hashes of the user's and the computer's names. The names themselves go no further than this module.

A hash is base64url(HMAC-SHA-256(salt, kind + ":" + normalized)), with the salt of the license file. Vectors are in
tests/vectors/client-hashes.json. Names come from the operating system: anyone can set the environment, and a resolver
may say something else on another day.
"""

import functools
import getpass
import hmac
import os
import socket
import sys
import threading
import unicodedata
from collections.abc import Callable, Collection, Iterable, Iterator
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


def bare_user(account: str) -> str:
    """The name alone of an account that the system gives as `DOMAIN\\name` or `name@domain`."""
    name = account.rpartition("\\")[2]
    return name.partition("@")[0] or name or account


def short_host(name: str) -> str:
    """A computer's name up to the first dot."""
    return name.partition(".")[0] or name


def _listed_or_first(salt: bytes, kind: Literal["user", "host"], names: Iterable[str], listed: Collection[str]) -> str:
    """The hash of the first name that a license lists; if it lists none of them, of the first. Names may be lazy."""
    hashes = (client_hash(salt, kind, name) for name in names)
    first = next(hashes)
    if not listed or first in listed:
        return first
    return next((value for value in hashes if value in listed), first)


@dataclass(frozen=True, slots=True)
class Names:
    """What the system calls this user and this computer. Never stored, logged or sent.

    `user`: the bare account name. `hosts`: the computer's own names, the short one first. `account`: the user as the
    system gave it. `find_full_host` asks a resolver; None: there is no full name.
    """

    user: str
    hosts: tuple[str, ...]
    account: str = ""
    find_full_host: Callable[[], str | None] = lambda: None

    def person(self, salt: bytes, hosts: Collection[str], users: Collection[str] = ()) -> Person:
        """The hashes of the user and of the computer.

        If the license's `users` or `hosts` do not list the usual name, other forms are tried. Only then is a resolver
        asked.
        """
        accounts = (self.user, self.account) if self.account else (self.user,)
        return Person(
            user=_listed_or_first(salt, "user", accounts, users),
            host=_listed_or_first(salt, "host", self._hosts(), hosts),
        )

    def _hosts(self) -> Iterator[str]:
        yield from self.hosts
        full = self.find_full_host()
        if full is not None:
            yield full


def _account() -> str:
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


@functools.cache
def _fully_qualified(own: str) -> str | None:
    """The computer's fully qualified name, or None if no resolver gives one in time. Cached."""
    found: list[str] = []
    lookup = threading.Thread(
        target=lambda: found.append(socket.getfqdn(own)), name="licensing-client-name", daemon=True
    )
    lookup.start()
    lookup.join(HOST_LOOKUP_SECONDS)
    name = found[0] if found else own
    return name if "." in name and not name.startswith("localhost") else None


@functools.cache
def names() -> Names:
    """The names of this user and this computer, asked of the system and not of a resolver. Cached."""
    account, own = _account(), socket.gethostname()
    hosts = tuple(dict.fromkeys((short_host(own), own)))
    return Names(bare_user(account), hosts, account, functools.partial(_fully_qualified, own))
