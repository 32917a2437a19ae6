"""Verifies license files and leases. Both are compact JWS (RFC 7515) of one kind.

All of this must hold before any claim is used:

- at most `MAX_CHARACTERS` characters;
- a header of exactly `alg`, `kid` and `typ`, with `alg` EdDSA and the `typ` that the caller expects;
- a `kid` among the keys that the caller trusts;
- an Ed25519 signature by that key over exactly this header and this payload.

There is one algorithm, so none can be confused with another. Why no JOSE library: docs/adr/0070.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from licensing_client.errors import Flaw, TokenError

LICENSE_TYPE = "license+jwt"
LEASE_TYPE = "lease+jwt"
MAX_CHARACTERS = 12 * 1024

Keys = Mapping[str, Ed25519PublicKey]


def base64url(data: bytes) -> str:
    """Encode without padding (RFC 7515, appendix C)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def unbase64url(text: str) -> bytes:
    """Decode text without padding.

    Raises ValueError where it has padding or foreign characters.
    """
    if not {"=", "+", "/"}.isdisjoint(text):  # the decoder takes characters of plain base64, too
        raise ValueError("padding and foreign characters are not allowed")
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def thumbprint(x: str) -> str:
    """A public key's id, from its `x` (RFC 7638, section 3; RFC 8037, section 2)."""
    return base64url(hashlib.sha256(f'{{"crv":"Ed25519","kty":"OKP","x":"{x}"}}'.encode()).digest())


def keys_of(xs: Iterable[str]) -> dict[str, Ed25519PublicKey]:
    """Public keys by their ids, from their `x` (43 characters of base64url each).

    Raises ValueError where one is no key.
    """
    try:
        return {thumbprint(x): Ed25519PublicKey.from_public_bytes(unbase64url(x)) for x in xs}
    except ValueError:
        raise ValueError("a public Ed25519 key is 43 characters of base64url, the x of its JWK") from None


def xs_of(jwks: object) -> tuple[str, ...]:
    """The `x` of every Ed25519 key in a parsed JWKS; other keys are left out.

    Raises ValueError where none is left.
    """
    keys = jwks.get("keys") if isinstance(jwks, dict) else None
    xs = tuple(
        key["x"]
        for key in (keys if isinstance(keys, list) else [])
        if isinstance(key, dict) and key.get("crv") == "Ed25519" and isinstance(key.get("x"), str)
    )
    if not xs:
        raise ValueError('there is no Ed25519 key; a JSON Web Key Set {"keys": [...]} is needed')
    return xs


def _json_object(part: str) -> dict[str, Any] | None:
    try:
        value = json.loads(unbase64url(part))
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def verified_claims(token: str, typ: str, keys: Keys) -> dict[str, Any]:
    """The claims of a token of this type that one of `keys` signed.

    Raises TokenError where verification fails.
    """
    if len(token) > MAX_CHARACTERS:
        raise TokenError(Flaw.OVERSIZE, f"is larger than {MAX_CHARACTERS} characters")
    parts = token.split(".")
    header = _json_object(parts[0])
    try:
        _payload, signature = map(unbase64url, parts[1:])
    except ValueError:
        header = None
    if header is None:
        raise TokenError(Flaw.DAMAGED, "is damaged: it is not a signed text, or not a whole one")
    if header.keys() != {"alg", "kid", "typ"} or header["alg"] != "EdDSA":
        raise TokenError(Flaw.FORGED, "is forged: it is not signed in the way that genuine ones are")
    if header["typ"] != typ:
        raise TokenError(Flaw.WRONG_TYPE, f"is of another type than {typ}")
    key = keys.get(header["kid"]) if isinstance(header["kid"], str) else None
    if key is None:
        raise TokenError(Flaw.UNKNOWN_KEY, "is signed with a key that is not trusted here")
    try:
        key.verify(signature, f"{parts[0]}.{parts[1]}".encode())
    except InvalidSignature:
        raise TokenError(Flaw.FORGED, "was altered after it was signed, or is forged") from None
    claims = _json_object(parts[1])
    if claims is None:
        raise TokenError(Flaw.MALFORMED, "is signed, but holds no claims")
    return claims
