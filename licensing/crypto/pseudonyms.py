"""Pseudonyms: a keyed hash of a keyed hash takes the place of a name.

The client hashes with its organization's salt, so that no name leaves the computer. The service hashes again with its
pepper and the organization's id. So neither the license file nor the store alone is enough to test a guess, and one
person has unrelated pseudonyms in two organizations. Vectors for both steps: tests/vectors/.

docs/protocol.md specifies the client's step, which each client implements. It is here as well because an operator who
looks for a person needs it.
"""

import base64
import hmac
import unicodedata
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import Literal

from licensing.rules.model import Person

ClientKind = Literal["user", "host"]
PseudonymKind = Literal["user", "host", "ip"]

PSEUDONYM_BYTES = 16


def base64url(data: bytes) -> str:
    """Encode without padding (RFC 7515, appendix C)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def from_base64url(text: str) -> bytes:
    """Decode what `base64url` has encoded.

    Raises ValueError if the text is not base64url in its only spelling.
    """
    data = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    if base64url(data) != text:
        raise ValueError("is not base64url without padding")
    return data


def normalized(name: str) -> str:
    """A name in the form that is hashed: NFKC, white space trimmed, case folded, in this order."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def client_hash(salt: bytes, kind: ClientKind, name: str) -> str:
    """The client's step: 43 characters base64url for a username or a host's name.

    `salt` is the license's claim, decoded. A host's name is its fully qualified name, if it has one.
    """
    return base64url(hmac.digest(salt, f"{kind}:{normalized(name)}".encode(), "sha256"))


def network_of(address: IPv4Address | IPv6Address) -> str:
    """An address in the form that is hashed: an IPv4 address whole, an IPv6 address cut to its /64.

    A home or office has a /64 of its own, in which computers change addresses daily.
    """
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), 64), strict=False).network_address)
    return str(address)


class Peppers:
    """The service's secret keys, by their ids. The first is current; older ones find what was stored under them."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """`keys` maps ids to secrets: at least one, the current one first."""
        self._keys = dict(keys)
        self.current = next(iter(self._keys))

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def pseudonym(self, pepper: str, organization: str, kind: PseudonymKind, value: str) -> str:
        """The service's step on a client hash or, for kind `ip`, on `network_of` an address: 22 characters base64url.

        Raises KeyError if the pepper is not among the keys.
        """
        message = b"\0".join((organization.encode(), kind.encode(), value.encode()))
        return base64url(hmac.digest(self._keys[pepper], message, "sha256")[:PSEUDONYM_BYTES])

    def persons(
        self, organization: str, user: str, host: str, address: IPv4Address | IPv6Address | None
    ) -> tuple[Person, ...]:
        """A caller's pseudonyms under each pepper, the current one first, from its client hashes and its address.

        `ip` is empty if the address is unknown.
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
