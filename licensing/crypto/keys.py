"""Ed25519 keys as JSON Web Keys (RFC 7517, RFC 8037), each with its thumbprint (RFC 7638) as its id."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable, Container
from typing import Any, Final, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from licensing.crypto.pseudonyms import base64url, from_base64url

Jwk = dict[str, Any]
Key = TypeVar("Key")

GENUINE_TOKENS: Final = 50_000
"""How many genuine tokens a set of keys knows, in at most 10 MB: more than one process's sessions."""


def thumbprint(jwk: Jwk) -> str:
    """The id of a key, from its public members (RFC 7638, section 3; RFC 8037, section 2)."""
    members = {name: jwk[name] for name in ("crv", "kty", "x")}
    return base64url(hashlib.sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).digest())


def new_private_jwk() -> Jwk:
    """A new key pair, both halves in one JWK."""
    key = Ed25519PrivateKey.generate()
    x, d = base64url(key.public_key().public_bytes_raw()), base64url(key.private_bytes_raw())
    jwk = {"kty": "OKP", "crv": "Ed25519", "x": x, "d": d}
    return {**jwk, "kid": thumbprint(jwk), "alg": "EdDSA", "use": "sig"}


def public_jwk(jwk: Jwk) -> Jwk:
    """A key without its private half."""
    return {name: value for name, value in jwk.items() if name != "d"}


def _public(jwk: Jwk) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(from_base64url(jwk["x"]))


def _private(jwk: Jwk) -> Ed25519PrivateKey:
    key = Ed25519PrivateKey.from_private_bytes(from_base64url(jwk["d"]))
    if key.public_key() != _public(jwk):
        raise ValueError("the halves belong to two keys")
    return key


def _keys(jwks: object, read: Callable[[Jwk], Key], *, private: bool) -> dict[str, Key]:
    entries = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(entries, list) or not entries:
        raise ValueError('must be a JSON Web Key Set, {"keys": [...]}, with at least one key')
    keys: dict[str, Key] = {}
    for jwk in entries:
        if not isinstance(jwk, dict) or jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519":
            raise ValueError("every key must be an Ed25519 key (kty OKP, crv Ed25519)")
        if not isinstance(jwk.get("kid"), str) or not jwk["kid"]:
            raise ValueError("every key must have a kid")
        if private != ("d" in jwk):
            raise ValueError("every key must be private" if private else "no key may be private")
        if jwk["kid"] in keys:
            raise ValueError("two keys have the same kid")
        try:
            keys[jwk["kid"]] = read(jwk)
        except (KeyError, TypeError, ValueError):
            raise ValueError("a key cannot be read") from None
    return keys


class GenuineTokens:
    """The tokens that one set of keys has signed or verified last, by their digests; it holds no token.

    A digest is of a whole token: header, claims and signature. One that differs in a character is another token.
    """

    def __init__(self) -> None:
        self._digests: OrderedDict[bytes, None] = OrderedDict()

    def __contains__(self, token: str) -> bool:
        return _digest(token) in self._digests

    def add(self, token: str) -> None:
        """Note a token whose signature is genuine under these keys."""
        self._digests[_digest(token)] = None
        if len(self._digests) > GENUINE_TOKENS:
            self._digests.popitem(last=False)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


class VerifyingKeys:
    """Public keys by their id. After a rotation, a process has a new set of keys, which knows no token.

    Raises ValueError, whose text shows no key, if `jwks` is no parsed public JWKS.
    """

    def __init__(self, jwks: object) -> None:
        self.keys = _keys(jwks, _public, private=False)
        self.genuine = GenuineTokens()


class SigningKeys(VerifyingKeys):
    """Private keys by their id: the first is current, all verify.

    Raises ValueError, whose text shows no key, if `jwks` is no parsed private JWKS.
    """

    def __init__(self, jwks: object) -> None:
        self.private = _keys(jwks, _private, private=True)
        self.keys = {kid: key.public_key() for kid, key in self.private.items()}
        self.kid = next(iter(self.private))
        self.genuine = GenuineTokens()

    def chosen(self, trusted: Container[str]) -> str:
        """The id of the first key whose id is in `trusted`; the current key's if none is."""
        return next((kid for kid in self.private if kid in trusted), self.kid)
