"""Pseudonyms: a keyed hash of a keyed hash takes the place of a name.

The client hashes with its organization's salt, so no name leaves the computer (docs/protocol.md). The service hashes
again with its pepper and the organization's id. So neither the license file nor the store alone is enough to test a
guess, and one person has unrelated pseudonyms in two organizations. Vectors for both steps: tests/vectors/.

The client's step is here because the operator's commands need it to find a person.
"""

import base64
import hmac
import unicodedata
from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv6Address, IPv6Network
from typing import Literal

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from licensing.rules.license import Address
from licensing.rules.model import Person
from licensing.rules.names import NOBODYS_HOSTS, WHITE_SPACE, forms_of

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
    return unicodedata.normalize("NFKC", name).strip(WHITE_SPACE).casefold()


def client_hash(salt: bytes, kind: ClientKind, name: str) -> str:
    """The client's step: 43 characters base64url for a user's or a host's name as a program sends it.

    `salt` is the license's claim, decoded.
    """
    return base64url(hmac.digest(salt, f"{kind}:{normalized(name)}".encode(), "sha256"))


def client_hashes(salt: bytes, kind: ClientKind, name: str) -> tuple[str, ...]:
    """The hashes of a name that people give, in all forms in which programs may send it; the usual one first."""
    return tuple(dict.fromkeys(client_hash(salt, kind, form) for form in forms_of(kind, name)))


@lru_cache
def _nobodys_hosts(salt: bytes) -> frozenset[str]:
    return frozenset(client_hash(salt, "host", name) for name in NOBODYS_HOSTS)


def is_nobodys_host(salt: bytes, host: str) -> bool:
    """Whether a client hash is that of a host name that is nobody's own, under a license's salt."""
    return host in _nobodys_hosts(salt)


def network_of(address: Address) -> str:
    """An address in the form that is hashed: an IPv4 address whole, an IPv6 address cut to its /64.

    A home or office has a /64 of its own, in which computers change addresses daily.
    """
    if isinstance(address, IPv6Address):
        return str(IPv6Network((int(address), 64), strict=False).network_address)
    return str(address)


class Peppers:
    """The service's secret keys by their ids, at least one. The first is current; older ones find older sessions."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._keys = dict(keys)
        self.current = next(iter(self._keys))

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def pseudonym(self, pepper: str, organization_id: str, kind: PseudonymKind, value: str) -> str:
        """The service's step on a client hash or, for kind `ip`, on `network_of` an address: 22 characters base64url.

        Raises KeyError if the pepper is not among the keys.
        """
        message = b"\0".join((organization_id.encode(), kind.encode(), value.encode()))
        return base64url(hmac.digest(self._keys[pepper], message, "sha256")[:PSEUDONYM_BYTES])

    def derived(self, pepper: str, purpose: str) -> bytes:
        """A key of 32 bytes for another purpose than pseudonyms, made of a pepper (HKDF, RFC 5869).

        Raises KeyError if the pepper is not among the keys.
        """
        return HKDF(SHA256(), length=32, salt=None, info=purpose.encode()).derive(self._keys[pepper])

    def persons(
        self,
        organization_id: str,
        user: str,
        host: str,
        address: Address | None,
        *,
        host_is_nobodys: bool = False,
    ) -> tuple[Person, ...]:
        """A caller's pseudonyms under each pepper, the current one first; `ip` is empty if the address is unknown."""
        network = "" if address is None else network_of(address)
        return tuple(
            Person(
                user=self.pseudonym(pepper, organization_id, "user", user),
                host=self.pseudonym(pepper, organization_id, "host", host),
                ip=network and self.pseudonym(pepper, organization_id, "ip", network),
                pepper=pepper,
                host_is_nobodys=host_is_nobodys,
            )
            for pepper in self._keys
        )
