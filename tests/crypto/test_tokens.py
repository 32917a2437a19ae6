"""License files and leases: held against the golden vectors both ways, and attacked."""

import hmac
import json
import math
import string
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from licensing.crypto import keys as keys_module
from licensing.crypto.keys import GenuineTokens, SigningKeys, VerifyingKeys, new_private_jwk, public_jwk
from licensing.crypto.pseudonyms import base64url, from_base64url
from licensing.crypto.tokens import (
    LEASE_LIMIT,
    LEASE_TYPE,
    LICENSE_LIMIT,
    LICENSE_TYPE,
    Lease,
    license_bytes_text,
    license_file_text,
    license_text,
    read_lease,
    read_license,
    sign,
    write_lease,
    write_license,
)
from licensing.errors import Flaw, TokenError
from licensing.rules.license import License
from tests.vectors import load

LICENSES, LEASES = load("license.json"), load("lease.json")
ISSUER, LEASE = LICENSES["private_test_keys"], LEASES["private_test_keys"]
LICENSE_JWS: str = LICENSES["cases"][0]["jws"]
LEASE_JWS: str = LEASES["cases"][0]["jws"]

Read = Callable[[str], object]
Token = TypeVar("Token", License, Lease)


def read_as_license(token: str) -> License:
    return read_twice(read_license, token, LICENSES["trusted"], LICENSE_JWS)


def read_as_lease(token: str) -> Lease:
    return read_twice(read_lease, token, LEASES["trusted"], LEASE_JWS)


def read_twice(read: Callable[[str, VerifyingKeys], Token], token: str, trusted: object, genuine: str) -> Token:
    """Read by keys that know no token, and by keys that know a genuine one, as those of a running process do."""
    fresh, knowing = VerifyingKeys(trusted), VerifyingKeys(trusted)
    read(genuine, knowing)
    if flaw := flaw_of_any(lambda: read(token, fresh)):
        with pytest.raises(TokenError) as again:
            read(token, knowing)
        assert again.value.flaw == flaw
    found = read(token, knowing)
    assert found == read(token, fresh)
    assert read(token, knowing) == found, "now it is known"
    return found


def flaw_of_any(read: Callable[[], object]) -> Flaw | None:
    """The flaw for which a token is refused; None if it is read."""
    try:
        read()
    except TokenError as error:
        return error.flaw
    return None


KINDS = pytest.mark.parametrize(
    ("genuine", "typ", "keys", "read"),
    [
        pytest.param(LICENSE_JWS, LICENSE_TYPE, ISSUER, read_as_license, id="license"),
        pytest.param(LEASE_JWS, LEASE_TYPE, LEASE, read_as_lease, id="lease"),
    ],
)


def flaw_of(read: Read, token: str) -> Flaw:
    """In which way a token is refused; its explanation is fit for people and repeats nothing of the token."""
    with pytest.raises(TokenError) as caught:
        read(token)
    said = str(caught.value)
    assert said.startswith(("is ", "was "))
    assert "\n" not in said
    assert len(said) < 200
    return caught.value.flaw


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a genuine token."""
    header, payload, _ = token.split(".")
    return json.loads(from_base64url(header)), json.loads(from_base64url(payload))


def encoded(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return base64url(text.encode("utf-8", "surrogatepass"))


def first_of(jwks: dict[str, Any]) -> Ed25519PrivateKey:
    """The private key that signs."""
    keys = SigningKeys(jwks)
    return keys.private[keys.kid]


def signed(header: object, payload: object, jwks: dict[str, Any]) -> str:
    """Any header and payload, JSON or not, with a genuine signature by the first of `jwks`."""
    content = f"{encoded(header)}.{encoded(payload)}"
    return f"{content}.{base64url(first_of(jwks).sign(content.encode()))}"


# Both ways.


@pytest.mark.parametrize("case", LICENSES["cases"], ids=lambda case: case["name"])
def test_a_license_reads_as_the_vectors_say(case: dict[str, Any]) -> None:
    assert read_as_license(case["jws"]).claims() == case["claims"]


@pytest.mark.parametrize("case", [each for each in LICENSES["cases"] if each["writes"]], ids=lambda case: case["name"])
def test_a_license_is_written_as_the_vectors_say(case: dict[str, Any]) -> None:
    assert write_license(License.model_validate(case["claims"]), SigningKeys(ISSUER)) == case["jws"]


@pytest.mark.parametrize("case", LEASES["cases"], ids=lambda case: case["name"])
def test_a_lease_reads_as_the_vectors_say(case: dict[str, Any]) -> None:
    assert read_as_lease(case["jws"]).claims() == case["claims"]


@pytest.mark.parametrize("case", [each for each in LEASES["cases"] if each["writes"]], ids=lambda case: case["name"])
def test_a_lease_is_written_as_the_vectors_say(case: dict[str, Any]) -> None:
    assert write_lease(Lease.model_validate(case["claims"]), SigningKeys(LEASE)) == case["jws"]


def test_the_payload_in_the_vectors_is_what_is_signed() -> None:
    for case in (*LICENSES["cases"], *LEASES["cases"]):
        assert from_base64url(case["jws"].split(".")[1]).decode() == case["payload"]


# Attacks.


@KINDS
@pytest.mark.parametrize("alg", ["none", "None", "NONE", ""])
def test_alg_none(genuine: str, typ: str, keys: dict[str, Any], read: Read, alg: str) -> None:
    header, claims = parts(genuine)
    content = f"{encoded({**header, 'alg': alg})}.{encoded(claims)}"
    assert flaw_of(read, f"{content}.") == Flaw.DAMAGED
    assert flaw_of(read, content + "." + genuine.rpartition(".")[2]) == Flaw.FORGED


@KINDS
@pytest.mark.parametrize("alg", ["HS256", "HS512"])
def test_hmac_with_the_public_key(genuine: str, typ: str, keys: dict[str, Any], read: Read, alg: str) -> None:
    header, claims = parts(genuine)
    content = f"{encoded({**header, 'alg': alg})}.{encoded(claims)}"
    for secret in (from_base64url(keys["keys"][0]["x"]), keys["keys"][0]["x"].encode()):
        tag = hmac.digest(secret, content.encode(), f"sha{alg[2:]}")
        assert flaw_of(read, f"{content}.{base64url(tag)}") == Flaw.FORGED


@KINDS
@pytest.mark.parametrize("alg", ["RS256", "ES256", "Ed448", "Ed25519", "eddsa", 1, None, ["EdDSA"]])
def test_another_algorithm(genuine: str, typ: str, keys: dict[str, Any], read: Read, alg: object) -> None:
    header, claims = parts(genuine)
    assert flaw_of(read, signed({**header, "alg": alg}, claims, keys)) == Flaw.FORGED


@KINDS
def test_wrong_key_under_a_trusted_kid(genuine: str, typ: str, keys: dict[str, Any], read: Read) -> None:
    forger = {"keys": [{**new_private_jwk(), "kid": keys["keys"][0]["kid"]}]}
    assert flaw_of(read, signed(*parts(genuine), forger)) == Flaw.FORGED


@KINDS
def test_unknown_kid(genuine: str, typ: str, keys: dict[str, Any], read: Read) -> None:
    assert flaw_of(read, sign(parts(genuine)[1], typ, SigningKeys({"keys": [new_private_jwk()]}))) == Flaw.UNKNOWN_KEY


@KINDS
def test_another_trusted_kid(genuine: str, typ: str, keys: dict[str, Any], read: Read) -> None:
    header, claims = parts(genuine)
    assert flaw_of(read, signed({**header, "kid": keys["keys"][1]["kid"]}, claims, keys)) == Flaw.FORGED


@KINDS
@pytest.mark.parametrize("kid", [None, 1, True, [], {}, ["x"], ""])
def test_kid_of_a_wrong_type(genuine: str, typ: str, keys: dict[str, Any], read: Read, kid: object) -> None:
    header, claims = parts(genuine)
    assert flaw_of(read, signed({**header, "kid": kid}, claims, keys)) in {Flaw.DAMAGED, Flaw.UNKNOWN_KEY}


@KINDS
@pytest.mark.parametrize("member", ["alg", "kid", "typ"])
def test_header_with_a_member_missing(genuine: str, typ: str, keys: dict[str, Any], read: Read, member: str) -> None:
    header, claims = parts(genuine)
    del header[member]
    assert flaw_of(read, signed(header, claims, keys)) == Flaw.FORGED


@KINDS
@pytest.mark.parametrize(
    "extra",
    [
        {"crit": ["exp"]},
        {"crit": []},
        {"crit": ["b64"], "b64": True},
        {"crit": ["b64"], "b64": False},
        {"b64": True},
        {"b64": False},
        {"jku": "https://attacker.example/keys"},
        {"x5u": "https://attacker.example/certificate"},
        {"x5c": ["MIIB"]},
        {"cty": "JWT"},
        {"zip": "DEF"},
        {"": ""},
    ],
    ids=str,
)
def test_extra_header(genuine: str, typ: str, keys: dict[str, Any], read: Read, extra: dict[str, Any]) -> None:
    header, claims = parts(genuine)
    assert flaw_of(read, signed({**header, **extra}, claims, keys)) in {Flaw.FORGED, Flaw.DAMAGED}


@KINDS
def test_a_key_that_the_token_brings_along(genuine: str, typ: str, keys: dict[str, Any], read: Read) -> None:
    header, claims = parts(genuine)
    forger = new_private_jwk()
    token = signed({**header, "jwk": public_jwk(forger)}, claims, {"keys": [forger]})
    assert flaw_of(read, token) == Flaw.FORGED


@KINDS
@pytest.mark.parametrize("other", ["JWT", "jwt", "", "LICENSE+JWT", "application/license+jwt", "report+jwt", 1, None])
def test_swapped_typ(genuine: str, typ: str, keys: dict[str, Any], read: Read, other: object) -> None:
    header, claims = parts(genuine)
    assert flaw_of(read, signed({**header, "typ": other}, claims, keys)) == Flaw.WRONG_TYPE


def test_a_lease_used_as_a_license_and_a_license_used_as_a_lease() -> None:
    assert flaw_of(read_as_license, LEASE_JWS) == Flaw.WRONG_TYPE
    assert flaw_of(read_as_lease, LICENSE_JWS) == Flaw.WRONG_TYPE


def test_a_lease_key_that_signs_a_license_and_an_issuer_key_that_signs_a_lease() -> None:
    """Also under the right typ: neither key is trusted for the other's tokens."""
    license = sign(parts(LICENSE_JWS)[1], LICENSE_TYPE, SigningKeys(LEASE))
    lease = sign(parts(LEASE_JWS)[1], LEASE_TYPE, SigningKeys(ISSUER))
    assert flaw_of(read_as_license, license) == Flaw.UNKNOWN_KEY
    assert flaw_of(read_as_lease, lease) == Flaw.UNKNOWN_KEY


def test_one_key_for_both_still_tells_the_types_apart() -> None:
    both = VerifyingKeys(LICENSES["trusted"])
    lease = sign(parts(LEASE_JWS)[1], LEASE_TYPE, SigningKeys(ISSUER))
    assert read_lease(lease, both).license_id == "acme-water-1"
    assert flaw_of(lambda token: read_license(token, both), lease) == Flaw.WRONG_TYPE
    assert flaw_of(lambda token: read_lease(token, both), LICENSE_JWS) == Flaw.WRONG_TYPE


@pytest.mark.parametrize(
    ("claim", "value"),
    [("seats", 500), ("exp", 4_000_000_000), ("sub", "another"), ("users", []), ("serial", 9_999_999_999)],
)
def test_altered_payload(claim: str, value: object) -> None:
    header, payload, signature = LICENSE_JWS.split(".")
    altered = encoded({**json.loads(from_base64url(payload)), claim: value})
    assert flaw_of(read_as_license, f"{header}.{altered}.{signature}") == Flaw.FORGED


@KINDS
def test_the_payload_of_one_genuine_token_under_the_signature_of_another(
    genuine: str, typ: str, keys: dict[str, Any], read: Read
) -> None:
    other = signed(parts(genuine)[0], {**parts(genuine)[1], "grace": 1}, keys)
    mixed = ".".join((*genuine.split(".")[:2], other.split(".")[2]))
    assert flaw_of(read, mixed) == Flaw.FORGED


@KINDS
def test_altered_signature(genuine: str, typ: str, keys: dict[str, Any], read: Read) -> None:
    content, _, signature = genuine.rpartition(".")
    for altered in (bytes(64), b"\xff" * 64, from_base64url(signature)[::-1]):
        assert flaw_of(read, f"{content}.{base64url(altered)}") == Flaw.FORGED
    for length in (0, 1, 63, 65):
        shorter = (from_base64url(signature) + b"\0")[:length]
        assert flaw_of(read, f"{content}.{base64url(shorter)}") in {Flaw.FORGED, Flaw.DAMAGED}


@KINDS
@pytest.mark.parametrize("padded", ["=", "==", "===", "\n", " ", "\0", "."])
def test_another_spelling_of_a_genuine_token(
    genuine: str, typ: str, keys: dict[str, Any], read: Read, padded: str
) -> None:
    header, payload, signature = genuine.split(".")
    for spelling in (
        genuine + padded,
        padded + genuine,
        f"{header}{padded}.{payload}.{signature}",
        f"{header}.{payload}{padded}.{signature}",
        f"{header}.{payload}.{padded}{signature}",
    ):
        assert flaw_of(read, spelling) == Flaw.DAMAGED


JUNK = [
    "",
    " ",
    "\n",
    "\0",
    ".",
    "..",
    "...",
    "a.b.c",
    "a.b",
    "null",
    "{}",
    "[]",
    "é.é.é",
    "\ud800.\ud800.\ud800",
    "\ufeff" + LICENSE_JWS,
    LICENSE_JWS.upper(),
    LICENSE_JWS[:-1],
    LICENSE_JWS[1:],
    LICENSE_JWS * 2,
    LICENSE_JWS.replace(".", ""),
    LICENSE_JWS.replace(".", ".."),
    LICENSE_JWS.rpartition(".")[0],
    f"{LICENSE_JWS}.{LICENSE_JWS}",
    f"Bearer {LICENSE_JWS}",
    f'"{LICENSE_JWS}"',
    encoded("[" * 3000) + ".e30.AAAA",
    encoded('{"a":' * 1000) + ".e30.AAAA",
    encoded("1" * 5000) + ".e30.AAAA",
    encoded("null") + ".e30.AAAA",
    encoded('"EdDSA"') + ".e30.AAAA",
    encoded('["alg","kid","typ"]') + ".e30.AAAA",
    encoded("NaN") + ".e30.AAAA",
    base64url(b"\xff\xfe{}") + ".e30.AAAA",
]


@pytest.mark.parametrize("token", JUNK, ids=lambda token: ascii(token)[:40])
@pytest.mark.parametrize("read", [read_as_license, read_as_lease])
def test_junk(token: str, read: Read) -> None:
    assert flaw_of(read, token) == Flaw.DAMAGED


@pytest.mark.parametrize(("read", "limit"), [(read_as_license, LICENSE_LIMIT), (read_as_lease, LEASE_LIMIT)])
def test_oversize(read: Read, limit: int) -> None:
    assert flaw_of(read, "a" * limit) == Flaw.DAMAGED
    assert flaw_of(read, "a" * (limit + 1)) == Flaw.OVERSIZE
    assert flaw_of(read, "a" * 10_000_000) == Flaw.OVERSIZE


def test_oversize_though_genuine() -> None:
    claims = {**parts(LICENSE_JWS)[1], "filler": "x" * LICENSE_LIMIT}
    assert flaw_of(read_as_license, sign(claims, LICENSE_TYPE, SigningKeys(ISSUER))) == Flaw.OVERSIZE


def test_a_license_that_could_not_be_sent_is_not_written() -> None:
    claims = parts(LICENSE_JWS)[1]
    many = License.model_validate({**claims, "users": [f"{number:043}" for number in range(300)]})
    with pytest.raises(ValueError, match="fewer users"):
        write_license(many, SigningKeys(ISSUER))


# What is signed by a genuine key, and still is no token.

NO_CLAIMS = ["", " ", "null", "[]", '"text"', "1", "true", "{", '{"a":1,}', "[" * 4000, "9" * 5000, "\ufeff{}"]


@KINDS
@pytest.mark.parametrize("payload", NO_CLAIMS, ids=lambda payload: ascii(payload)[:20])
def test_a_payload_that_is_no_object(genuine: str, typ: str, keys: dict[str, Any], read: Read, payload: str) -> None:
    expected = Flaw.MALFORMED if payload else Flaw.DAMAGED
    assert flaw_of(read, signed(parts(genuine)[0], payload, keys)) == expected


@KINDS
def test_a_payload_that_is_no_text(genuine: str, typ: str, keys: dict[str, Any], read: Read) -> None:
    header = genuine.split(".")[0]
    content = f"{header}.{base64url(bytes([0xFF, 0xFE, 0x7B]))}"
    token = f"{content}.{base64url(first_of(keys).sign(content.encode()))}"
    assert flaw_of(read, token) == Flaw.MALFORMED


WRONG = [None, True, "text", "", 1.5, -1, 10**30, math.inf, -math.inf, math.nan, [], [1], {}, {"a": 1}, "\ud800"]
FITTING: dict[str, dict[str, tuple[object, ...]]] = {
    # A claim of any of these values may be right.
    "license": {
        **dict.fromkeys(("iss", "sub", "product", "service"), ("text",)),
        "project": ("text", None),
        "maintenance_until": (None,),
        **dict.fromkeys(("users", "hosts", "networks", "features"), ([],)),
        "collect": (True,),
        "lease_keys": ({}, {"a": 1}),
    },
    "lease": {
        "sub": ("text",),
        "nonce": ("text",),
        "aud": ("text",),
        "features": ([],),
        "borrowed": (True,),
        "overdraft": (True,),
    },
}


@pytest.mark.parametrize("value", WRONG, ids=ascii)
@KINDS
def test_claims_of_wrong_types(genuine: str, typ: str, keys: dict[str, Any], read: Read, value: object) -> None:
    """Infinite and huge numbers and lone surrogates among them."""
    header, claims = parts(genuine)
    fitting = FITTING[typ.removesuffix("+jwt")]
    for claim in claims:
        if any(value is each or (value == each and type(value) is type(each)) for each in fitting.get(claim, ())):
            continue
        assert flaw_of(read, signed(header, {**claims, claim: value}, keys)) == Flaw.MALFORMED, claim


@KINDS
def test_claims_that_are_missing(genuine: str, typ: str, keys: dict[str, Any], read: Read) -> None:
    header, claims = parts(genuine)
    assert flaw_of(read, signed(header, {}, keys)) == Flaw.MALFORMED
    assert flaw_of(read, signed(header, dict.fromkeys(claims), keys)) == Flaw.MALFORMED


@KINDS
def test_duplicate_claims_count_as_the_last_of_them(genuine: str, typ: str, keys: dict[str, Any], read: Read) -> None:
    """RFC 7519, section 4. Only who holds the key can do it; a header or payload altered so is refused."""
    header, claims = parts(genuine)
    payload = json.dumps(claims)
    doubled = f'{{"grace":1,{payload[1:-1]},"grace":2}}'
    text = read(signed(header, doubled, keys))
    assert isinstance(text, License | Lease)
    assert text.grace_seconds == 2
    kept = genuine.split(".")
    assert flaw_of(read, f"{kept[0]}.{encoded(doubled)}.{kept[2]}") == Flaw.FORGED
    again = encoded('{"alg":"none",' + json.dumps(header)[1:])
    assert flaw_of(read, f"{again}.{kept[1]}.{kept[2]}") == Flaw.FORGED


def test_a_contradiction_is_explained_without_the_value() -> None:
    claims = {**parts(LICENSE_JWS)[1], "salt": "not a salt at all"}
    with pytest.raises(TokenError, match="contradicts itself") as caught:
        read_as_license(sign(claims, LICENSE_TYPE, SigningKeys(ISSUER)))
    assert "salt" in str(caught.value)
    assert "not a salt" not in str(caught.value)


def test_a_token_that_was_signed_here_is_genuine_until_the_keys_are_others() -> None:
    keys = SigningKeys({"keys": [new_private_jwk()]})
    token = write_lease(read_as_lease(LEASE_JWS), keys)
    assert token in keys.genuine
    assert read_lease(token, keys) == read_as_lease(LEASE_JWS)
    rotated = SigningKeys({"keys": [new_private_jwk()]})
    assert token not in rotated.genuine
    assert flaw_of(lambda each: read_lease(each, rotated), token) == Flaw.UNKNOWN_KEY


def test_so_many_tokens_are_known_and_those_that_came_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "GENUINE_TOKENS", 2)
    known = GenuineTokens()
    for token in ("first", "second", "third"):
        known.add(token)
    assert [token in known for token in ("first", "second", "third")] == [False, True, True]


def test_an_expired_lease_is_still_genuine() -> None:
    claims = {**parts(LEASE_JWS)[1], "iat": 1, "exp": 2}
    assert read_as_lease(sign(claims, LEASE_TYPE, SigningKeys(LEASE))).expires_at.year == 1970


# Whatever comes.


@pytest.mark.parametrize(("genuine", "read"), [(LICENSE_JWS, read_as_license), (LEASE_JWS, read_as_lease)])
@given(place=st.integers(min_value=0), character=st.sampled_from(string.ascii_letters + string.digits + "-_.=+/ é"))
def test_any_single_changed_character_is_noticed(genuine: str, read: Read, place: int, character: str) -> None:
    place %= len(genuine)
    if genuine[place] != character:
        flaw_of(read, genuine[:place] + character + genuine[place + 1 :])


@pytest.mark.parametrize(("genuine", "read"), [(LICENSE_JWS, read_as_license), (LEASE_JWS, read_as_lease)])
def test_the_last_character_has_one_spelling(genuine: str, read: Read) -> None:
    """Its lower bits are not part of the signature; a lenient reader takes 16 characters for the same."""
    for character in string.ascii_letters + string.digits + "-_":
        if character != genuine[-1]:
            flaw_of(read, genuine[:-1] + character)


@given(st.text())
def test_any_text_is_refused_with_a_token_error(text: str) -> None:
    flaw_of(read_as_license, text)
    flaw_of(read_as_lease, text)


@given(st.lists(st.text(string.ascii_letters + string.digits + "-_", min_size=1), min_size=3, max_size=3))
def test_any_text_in_the_form_of_a_token_is_refused_with_a_token_error(segments: list[str]) -> None:
    flaw_of(read_as_license, ".".join(segments))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(header=JSON | st.fixed_dictionaries({"alg": JSON, "kid": JSON, "typ": JSON}), payload=JSON)
def test_any_json_that_is_signed_is_refused_with_a_token_error(header: object, payload: object) -> None:
    flaw_of(read_as_license, signed(header, payload, ISSUER))


@given(claim=st.sampled_from(sorted(parts(LICENSE_JWS)[1])), value=JSON)
def test_any_value_of_a_claim_is_read_or_refused_with_a_token_error(claim: str, value: object) -> None:
    header, claims = parts(LICENSE_JWS)
    token = signed(header, {**claims, claim: value}, ISSUER)
    with suppress(TokenError):
        assert read_as_license(token).id


# The file around the token.


@pytest.mark.parametrize(
    "file",
    [
        LICENSE_JWS,
        f"{LICENSE_JWS}\n",
        f"# For Acme\n# Five seats\n{LICENSE_JWS}\n",
        f"\ufeff# For Acme\r\n\r\n  {LICENSE_JWS}  \r\n# That is all\r\n",
    ],
)
def test_a_license_file_is_a_token_among_comments(file: str) -> None:
    assert license_text(file) == LICENSE_JWS


LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


@pytest.mark.parametrize("one_line", [False, True])
@given(comments=st.lists(st.text(st.characters(codec="utf-8") | st.sampled_from(f"# \t=\ufeff{LINE_ENDS}"))))
def test_no_comment_breaks_a_license_file(comments: list[str], one_line: bool) -> None:
    file = license_file_text(LICENSE_JWS, comments, one_line=one_line)
    assert license_bytes_text(file.encode()) == LICENSE_JWS
    signed = [line for line in file.splitlines() if not line.startswith("#")]
    assert "".join(signed) == LICENSE_JWS, "also for readers with other line ends"
    assert (len(signed) == 1) == one_line
    assert max(map(len, file.splitlines()[: None if not one_line else -1]), default=0) <= 76


@pytest.mark.parametrize("length", [1, 75, 76, 77, 152, 153])
def test_a_token_of_any_length_is_found_again(length: int) -> None:
    assert license_text(license_file_text("a" * length, [])) == "a" * length


def test_the_words_of_a_comment_stay_whole_where_a_line_holds_them() -> None:
    long = "w" * 100
    words = ["on-the-desk"] * 20
    lines = license_file_text("t", [f" {long}\n", "", " ".join(words)]).splitlines()
    assert lines[:3] == [f"# {long[:74]}", f"# {long[74:]}", "#"]
    assert [word for line in lines[3:-1] for word in line[2:].split(" ")] == words


@pytest.mark.parametrize(
    "file",
    [
        "",
        "\n\n",
        "# nothing\n",
        f"{LICENSE_JWS}\n{LICENSE_JWS}\n",
        f"{LICENSE_JWS}\n\n{LICENSE_JWS}\n",
        f"Dear customer,\n{LICENSE_JWS}",
        "\x00\n\x00",
    ],
)
def test_a_file_without_exactly_one_token_is_damaged(file: str) -> None:
    assert flaw_of(lambda text: read_as_license(license_text(text)), file) == Flaw.DAMAGED
