"""Ed25519 keys as JSON Web Keys (RFC 7517, RFC 8037).

A key's id is its thumbprint (RFC 7638), so that nobody has to invent or register one.
"""

import hashlib
import json
from collections.abc import Container, Iterator
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from jwt.algorithms import OKPAlgorithm
from jwt.exceptions import InvalidKeyError

from licensing.crypto.pseudonyms import base64url

Jwk = dict[str, Any]


def thumbprint(jwk: Jwk) -> str:
    """The id of a key from its public members (RFC 7638, section 3; RFC 8037, section 2)."""
    members = {name: jwk[name] for name in ("crv", "kty", "x")}
    return base64url(hashlib.sha256(json.dumps(members, separators=(",", ":"), sort_keys=True).encode()).digest())


def new_private_jwk() -> Jwk:
    """Make a key pair; the result holds both halves."""
    jwk = dict(OKPAlgorithm.to_jwk(Ed25519PrivateKey.generate(), as_dict=True))
    return {**jwk, "kid": thumbprint(jwk), "alg": "EdDSA", "use": "sig"}


def public_jwk(jwk: Jwk) -> Jwk:
    """A key without its private half."""
    return {name: value for name, value in jwk.items() if name != "d"}


def _members(jwks: object, *, private: bool) -> Iterator[tuple[str, Ed25519PrivateKey | Ed25519PublicKey]]:
    keys = jwks.get("keys") if isinstance(jwks, dict) else None
    if not isinstance(keys, list) or not keys:
        raise ValueError('must be a JSON Web Key Set, {"keys": [...]}, with at least one key')
    kids: set[str] = set()
    for jwk in keys:
        if not isinstance(jwk, dict) or jwk.get("kty") != "OKP" or jwk.get("crv") != "Ed25519":
            raise ValueError("every key must be an Ed25519 key (kty OKP, crv Ed25519)")
        if not isinstance(jwk.get("kid"), str) or not jwk["kid"]:
            raise ValueError("every key must have a kid")
        if private != ("d" in jwk):
            raise ValueError("every key must be private" if private else "no key may be private")
        try:
            key = OKPAlgorithm.from_jwk(jwk)
        except (InvalidKeyError, ValueError, TypeError):
            raise ValueError("a key cannot be read") from None
        if not isinstance(key, Ed25519PrivateKey | Ed25519PublicKey):
            raise ValueError("every key must be an Ed25519 key (kty OKP, crv Ed25519)")
        if jwk["kid"] in kids:
            raise ValueError("two keys have the same kid")
        kids.add(jwk["kid"])
        yield jwk["kid"], key


class VerifyingKeys:
    """Public keys by their id."""

    def __init__(self, jwks: object) -> None:
        """Take a parsed public JWKS. ValueError, in words for people and without its contents, where it is none."""
        self.keys: dict[str, Ed25519PublicKey] = {
            kid: key for kid, key in _members(jwks, private=False) if isinstance(key, Ed25519PublicKey)
        }


class SigningKeys(VerifyingKeys):
    """Private keys by their id: the first is current, all verify."""

    def __init__(self, jwks: object) -> None:
        """Take a parsed private JWKS. ValueError as for `VerifyingKeys`."""
        pairs = {kid: key for kid, key in _members(jwks, private=True) if isinstance(key, Ed25519PrivateKey)}
        self.keys = {kid: key.public_key() for kid, key in pairs.items()}
        self.private = pairs
        self.kid = next(iter(pairs))

    def chosen(self, trusted: Container[str]) -> str:
        """Which key signs for somebody who trusts certain ids: the first of them; the current one where none is."""
        return next((kid for kid in self.private if kid in trusted), self.kid)
