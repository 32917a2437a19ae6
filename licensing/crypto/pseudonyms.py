"""What stands in place of a name: a keyed hash of a keyed hash.

The client hashes with its organization's salt, so that no name leaves the computer; the service hashes again with
its pepper and the organization's id, so that neither the license file nor the store alone lets anyone test a guess,
and so that one person in two organizations has nothing in common. Vectors for both steps: tests/vectors/.

The client's step is written down in docs/protocol.md and made anew in each client; it is here only because an
operator who looks for a person has to take it, too.
"""

import base64
import hmac
import unicodedata
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Literal

from licensing.rules.model import Person

ClientKind = Literal["user", "host"]
Kind = Literal["user", "host", "ip"]

PSEUDONYM_BYTES = 16


def base64url(data: bytes) -> str:
    """Encode without padding (RFC 7515, appendix C)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_base64url(text: str) -> bytes:
    """Decode what `base64url` has encoded; ValueError for anything else."""
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if base64url(data) != text:
        raise ValueError("is not base64url without padding")
    return data


def normalized(name: str) -> str:
    """A name as it is hashed: NFKC, white space trimmed, case folded, in this order."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def client_hash(salt: bytes, kind: ClientKind, name: str) -> str:
    """The client's step: 43 characters base64url that stand for a username or a host's name.

    `salt` is the license's claim, decoded; a host's name is fully qualified where it has such a one.
    """
    return base64url(hmac.digest(salt, f"{kind}:{normalized(name)}".encode(), "sha256"))


def network_of(address: IPv4Address | IPv6Address) -> str:
    """An address as it is hashed: an IPv4 address whole, an IPv6 address cut to its /64.

    A home or office has a /64 of its own, in which computers change addresses daily.
    """
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), 64), strict=False).network_address)
    return str(address)


class Peppers:
    """The service's secret keys. The first is current; the others are kept to find what was stored under them."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """Take `keys` from id to secret, the current one first; at least one."""
        self._keys = dict(keys)
        self.current = next(iter(self._keys))

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def pseudonym(self, pepper: str, organization: str, kind: Kind, value: str) -> str:
        """The service's step on a client hash or, for kind `ip`, on `network_of` an address.

        22 characters base64url. KeyError where the pepper is no longer in the list.
        """
        message = b"\0".join((organization.encode(), kind.encode(), value.encode()))
        return base64url(hmac.digest(self._keys[pepper], message, "sha256")[:PSEUDONYM_BYTES])

    def persons(
        self, organization: str, user: str, host: str, address: IPv4Address | IPv6Address | None
    ) -> tuple[Person, ...]:
        """A caller under each pepper, the current one first, from its client hashes and its address.

        `ip` is empty where the address is not known.
        """
        network = "" if address is None else network_of(address)
        return tuple(
            Person(
                user=self.pseudonym(pepper, organization, "user", user),
                host=self.pseudonym(pepper, organization, "host", host),
                ip=network and self.pseudonym(pepper, organization, "ip", network),
                pepper=pepper,
            )
            for pepper in self._keys
        )
