"""Names of users and computers, before they are hashed (docs/protocol.md, section 5)."""

from typing import Final, Literal

WHITE_SPACE: Final = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
"""Unicode's property White_Space. `str.strip` without it would also remove U+001C to U+001F."""

NOBODYS_HOSTS: Final = (
    "localhost",
    "localhost.localdomain",
    "localhost6.localdomain6",
    "ip6-localhost",
    "(none)",
    "fedora",
    "archlinux",
    "raspberrypi",
    "penguin",
)
"""Names that many computers have, since nobody gave them one of their own. The protocol has the reason of each."""


def bare_user(account: str) -> str:
    """The name alone of an account that is given as `DOMAIN\\name` or `name@domain`."""
    name = account.rpartition("\\")[2]
    return name.partition("@")[0] or name or account


def short_host(name: str) -> str:
    """A computer's name up to the first dot."""
    return name.partition(".")[0] or name


def forms_of(kind: Literal["user", "host"], name: str) -> tuple[str, ...]:
    """The forms in which a program may send a name: as it usually does, then as the name is given."""
    name = name.strip(WHITE_SPACE)
    return tuple(dict.fromkeys((bare_user(name) if kind == "user" else short_host(name), name)))
