"""A token that the issuer or the service did not sign exactly so is refused before any claim is used."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from factories import ISSUER_KEY, SERVICE_KEY, STRANGER_KEY, jwk, lease_claims, license_claims, sign, sign_header, x_of
from licensing_client.errors import Flaw, TokenError
from licensing_client.tokens import base64url, keys_of, thumbprint, unbase64url, verified_claims, xs_of

KEYS = keys_of([x_of(ISSUER_KEY)])
KID = thumbprint(x_of(ISSUER_KEY))
HEADER = {"typ": "license+jwt", "alg": "EdDSA", "kid": KID}
GOOD = sign("license+jwt", license_claims(), ISSUER_KEY)


def altered(token: str, change: Callable[[dict[str, Any]], None]) -> str:
    header, payload, signature = token.split(".")
    claims = json.loads(unbase64url(payload))
    change(claims)
    return f"{header}.{base64url(json.dumps(claims).encode())}.{signature}"


def test_the_thumbprint_is_that_of_the_rfc() -> None:
    assert KID == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"  # RFC 8037, appendix A.3


def test_what_the_issuer_signed_is_believed() -> None:
    assert verified_claims(GOOD, "license+jwt", KEYS)["sub"] == "acme-water"


def test_every_single_character_counts() -> None:
    for place in range(0, len(GOOD) - 1, 7):
        other = "A" if GOOD[place] != "A" else "B"
        with pytest.raises(TokenError):
            verified_claims(GOOD[:place] + other + GOOD[place + 1 :], "license+jwt", KEYS)


@pytest.mark.parametrize(
    ("token", "flaw"),
    [
        pytest.param("", Flaw.DAMAGED, id="nothing"),
        pytest.param("not a token", Flaw.DAMAGED, id="prose"),
        pytest.param("a.b", Flaw.DAMAGED, id="two parts"),
        pytest.param(GOOD + ".x", Flaw.DAMAGED, id="four parts"),
        pytest.param(GOOD[:-20], Flaw.FORGED, id="signature cut short"),
        pytest.param(GOOD + "=", Flaw.DAMAGED, id="padding"),
        pytest.param(GOOD.rsplit(".", 1)[0] + ".", Flaw.FORGED, id="no signature"),
        pytest.param(altered(GOOD, lambda claims: claims.update(seats=500)), Flaw.FORGED, id="more seats"),
        pytest.param(sign("license+jwt", license_claims(), STRANGER_KEY), Flaw.UNKNOWN_KEY, id="a stranger's key"),
        pytest.param(sign_header(HEADER, license_claims(), STRANGER_KEY), Flaw.FORGED, id="our kid, a stranger's key"),
        pytest.param(sign("lease+jwt", lease_claims(), ISSUER_KEY), Flaw.WRONG_TYPE, id="a lease for a license"),
        pytest.param(sign_header(HEADER | {"alg": "none"}, {}, ISSUER_KEY), Flaw.FORGED, id="alg none"),
        pytest.param(sign_header(HEADER | {"alg": "HS256"}, {}, ISSUER_KEY), Flaw.FORGED, id="alg HS256"),
        pytest.param(sign_header(HEADER | {"crit": ["b64"]}, {}, ISSUER_KEY), Flaw.FORGED, id="crit"),
        pytest.param(
            sign_header(HEADER | {"jwk": jwk(STRANGER_KEY)}, {}, STRANGER_KEY), Flaw.FORGED, id="brings its key"
        ),
        pytest.param(sign_header(HEADER | {"kid": [KID]}, {}, ISSUER_KEY), Flaw.UNKNOWN_KEY, id="kid is a list"),
        pytest.param(sign("license+jwt", [1], ISSUER_KEY), Flaw.MALFORMED, id="claims are a list"),
        pytest.param("x" * 20000, Flaw.OVERSIZE, id="too large"),
    ],
)
def test_a_token_that_is_not_genuine_is_refused(token: str, flaw: Flaw) -> None:
    with pytest.raises(TokenError) as caught:
        verified_claims(token, "license+jwt", KEYS)
    assert caught.value.flaw is flaw


def test_keys_of_other_kinds_are_left_out_of_a_key_set() -> None:
    assert xs_of({"keys": [{"kty": "RSA", "n": "x"}, jwk(SERVICE_KEY)]}) == (x_of(SERVICE_KEY),)


@pytest.mark.parametrize("jwks", [None, [], {}, {"keys": []}, {"keys": [{"kty": "RSA"}]}, {"keys": "x"}])
def test_a_key_set_without_a_usable_key_is_no_key_set(jwks: object) -> None:
    with pytest.raises(ValueError, match="Ed25519"):
        xs_of(jwks)
