"""Ed25519 keys as JSON Web Keys."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licensing.crypto.keys import SigningKeys, VerifyingKeys, new_private_jwk, public_jwk, thumbprint
from licensing.crypto.pseudonyms import base64url, from_base64url

PRIVATE = new_private_jwk()
PUBLIC = public_jwk(PRIVATE)


def kind(value: object) -> str:
    """A name for a case that does not hold a key, which is another one in every process."""
    return type(value).__name__


def test_a_thumbprint_is_that_of_the_rfcs_own_key() -> None:
    """RFC 8037, appendix A.1 to A.3."""
    seed = from_base64url("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A")
    x = base64url(Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())
    assert thumbprint({"kty": "OKP", "crv": "Ed25519", "x": x}) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_a_new_key_has_its_thumbprint_as_its_id() -> None:
    assert PRIVATE["kid"] == thumbprint(PRIVATE) == thumbprint(PUBLIC)
    assert new_private_jwk()["kid"] != PRIVATE["kid"]


def test_a_public_key_holds_no_private_half() -> None:
    assert PUBLIC.keys() == PRIVATE.keys() - {"d"}


def test_what_one_half_signs_the_other_verifies() -> None:
    signing = SigningKeys({"keys": [PRIVATE]})
    signature = signing.private[signing.kid].sign(b"text")
    VerifyingKeys({"keys": [PUBLIC]}).keys[signing.kid].verify(signature, b"text")


def test_the_first_key_signs_and_all_verify() -> None:
    second = new_private_jwk()
    keys = SigningKeys({"keys": [PRIVATE, second]})
    assert keys.kid == PRIVATE["kid"]
    assert list(keys.keys) == [PRIVATE["kid"], second["kid"]]


NO_SETS: list[Any] = [None, 1, "text", [], {}, {"keys": None}, {"keys": []}, {"keys": {}}, {"keys": "text"}, [PUBLIC]]


@pytest.mark.parametrize("jwks", NO_SETS, ids=kind)
@pytest.mark.parametrize("take", [VerifyingKeys, SigningKeys])
def test_what_is_no_key_set_is_refused(take: type[VerifyingKeys], jwks: object) -> None:
    with pytest.raises(ValueError, match="JSON Web Key Set"):
        take(jwks)


@pytest.mark.parametrize(
    "changes",
    [
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "RSA"},
        {"kty": None},
        {"crv": "X25519"},
        {"crv": "Ed448"},
        {"crv": "P-256"},
        {"kid": ""},
        {"kid": 1},
        {"kid": None},
        {"x": ""},
        {"x": "short"},
        {"x": PUBLIC["x"] + "AAAA"},
        {"x": 1},
        {"x": None},
        {"x": "é" * 43},
    ],
    ids=kind,
)
@pytest.mark.parametrize(("take", "jwk"), [(VerifyingKeys, PUBLIC), (SigningKeys, PRIVATE)], ids=kind)
def test_a_key_that_cannot_be_used_is_refused(
    take: type[VerifyingKeys], jwk: dict[str, Any], changes: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match="key") as caught:
        take({"keys": [jwk, {**jwk, "kid": "another", **changes}]})
    assert PRIVATE["d"] not in str(caught.value)
    assert PUBLIC["x"] not in str(caught.value)


@pytest.mark.parametrize("d", ["", "short", PRIVATE["d"] + "AAAA", 1, None], ids=kind)
def test_a_private_half_that_cannot_be_used_is_refused(d: object) -> None:
    with pytest.raises(ValueError, match="key"):
        SigningKeys({"keys": [{**PRIVATE, "d": d}]})


@pytest.mark.parametrize("entry", [None, 1, "text", [], {}])
def test_an_entry_that_is_no_key_is_refused(entry: object) -> None:
    with pytest.raises(ValueError, match="Ed25519"):
        VerifyingKeys({"keys": [entry]})


def test_a_private_key_among_public_ones_is_refused() -> None:
    with pytest.raises(ValueError, match="no key may be private"):
        VerifyingKeys({"keys": [PRIVATE]})


def test_a_public_key_among_private_ones_is_refused() -> None:
    with pytest.raises(ValueError, match="every key must be private"):
        SigningKeys({"keys": [PRIVATE, public_jwk(new_private_jwk())]})


def test_halves_of_two_keys_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        SigningKeys({"keys": [{**PRIVATE, "x": new_private_jwk()["x"]}]})


def test_two_keys_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="same kid"):
        VerifyingKeys({"keys": [PUBLIC, {**public_jwk(new_private_jwk()), "kid": PUBLIC["kid"]}]})
