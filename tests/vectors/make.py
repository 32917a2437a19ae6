"""Make the golden vectors: `python tests/vectors/make.py`.

This follows docs/protocol.md with the standard library and an Ed25519 signature alone, and uses nothing of this
project, so that what it makes can be held against any implementation. Every key in it is a TEST KEY, made from a
sentence that anybody can read here; nothing that is real is signed or hashed with one.

The files:

- `pseudonyms.json`: names and the client's hashes of them; host names that are nobody's own; client hashes, networks,
  and the service's pseudonyms
- `license.json` and `lease.json`: keys, and tokens that hold for them. `payload` is the exact text that is signed,
  `claims` is what a reader makes of it (with the values of claims that were left out), and where `writes` is true,
  signing `claims` in this order gives exactly `jws`.
"""

import base64
import hashlib
import hmac
import json
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

FOLDER = Path(__file__).parent

Json = dict[str, Any]


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def secret_of(sentence: str) -> bytes:
    """32 bytes that stand for a secret."""
    return hashlib.sha256(sentence.encode()).digest()


SALT = secret_of("licensing test salt of acme")
PEPPERS = {"2026b": secret_of("licensing test pepper 2026b"), "2026a": secret_of("licensing test pepper 2026a")}

# What is typed, and what is hashed: NFKC, trimmed, case folded.
NAMES = [
    ("user", "ada", "ada", "as it is"),
    ("user", "Ada.Lovelace", "ada.lovelace", "capitals"),
    ("user", "ACME\\Ada", "acme\\ada", "a domain and a backslash"),
    ("user", "ada@acme.example", "ada@acme.example", "an address"),
    ("user", " \tAda\r\n", "ada", "white space around"),
    ("user", "\u00a0Ada\u3000", "ada", "no-break and ideographic space around"),
    ("user", "Ada  Lovelace", "ada  lovelace", "white space inside stays"),
    ("user", "Stra\u00dfe", "strasse", "sharp s folds to two letters"),
    ("user", "STRASSE", "strasse", "and so is the same as this"),
    ("user", "\u0130nci", "i\u0307nci", "dotted capital I folds to i and a dot, in every locale"),
    ("user", "I\u015f\u0131k", "i\u015f\u0131k", "dotless i stays, capital I folds to i, in every locale"),
    ("user", "\uff21\uff44\uff41", "ada", "full-width letters"),
    ("user", "\ufb01nn", "finn", "a ligature"),
    ("user", "Ren\u00e9", "ren\u00e9", "composed"),
    ("user", "Rene\u0301", "ren\u00e9", "decomposed"),
    ("user", "\u01f0an", "j\u030can", "folding comes last and may decompose; nothing composes it again"),
    ("user", "\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c3", "capital sigma at the end of a word"),
    ("user", "\u03bf\u03b4\u03bf\u03c2", "\u03bf\u03b4\u03bf\u03c3", "final sigma folds to sigma"),
    ("user", "\u212aelvin", "kelvin", "the Kelvin sign"),
    ("user", "\u738b\u5c0f\u660e", "\u738b\u5c0f\u660e", "no case"),
    ("user", "\U0001d400da", "ada", "a mathematical letter beyond the basic plane"),
    ("host", "PC-17.Acme.Example", "pc-17.acme.example", "a full host name"),
    ("host", "pc-17", "pc-17", "a host without a domain"),
    ("host", "ada", "ada", "the kind is part of what is hashed"),
    ("user", "\u0085Ada\u2028\u2029", "ada", "next line, line and paragraph separators around"),
    ("user", "\u1680Ada\u2007\u202f\u205f", "ada", "an Ogham space mark and three other spaces around"),
    ("user", "\u001cAda\u001f", "\u001cada\u001f", "information separators are no white space"),
    ("user", "\ufeffAda", "\ufeffada", "a zero width no-break space is no white space"),
    ("user", "\u200bAda\u180e", "\u200bada\u180e", "nor are a zero width space and a Mongolian vowel separator"),
]

# Host names that are nobody's own: sharing by host does not use them.
NOBODYS_HOSTS = [
    "localhost",
    "localhost.localdomain",
    "localhost6.localdomain6",
    "ip6-localhost",
    "(none)",
    "fedora",
    "archlinux",
    "raspberrypi",
    "penguin",
]

# An address, and the part of it that is hashed.
NETWORKS = [
    ("198.51.100.7", "198.51.100.7", "an IPv4 address whole"),
    ("::ffff:198.51.100.7", "198.51.100.7", "an IPv4-mapped address as the IPv4 address"),
    ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", "an IPv6 address cut to its /64"),
    ("2001:db8:1:2::1", "2001:db8:1:2::", "another in the same /64"),
    ("2001:0DB8:0001:0003::1", "2001:db8:1:3::", "another spelling, another /64"),
    ("fe80::1", "fe80::", "link-local"),
    ("::1", "::", "loopback"),
]


def client_hash(kind: str, normalized: str) -> str:
    return base64url(hmac.new(SALT, f"{kind}:{normalized}".encode(), "sha256").digest())


def pseudonym(pepper: str, organization: str, kind: str, value: str) -> str:
    message = organization.encode() + b"\0" + kind.encode() + b"\0" + value.encode()
    return base64url(hmac.new(PEPPERS[pepper], message, "sha256").digest()[:16])


def pseudonyms() -> Json:
    values = [
        ("user", client_hash("user", "ada")),
        ("host", client_hash("host", "pc-17.acme.example")),
        ("ip", "198.51.100.7"),
        ("ip", "2001:db8:1:2::"),
    ]
    return {
        "about": "Test keys only. hash = base64url(HMAC-SHA-256(salt, kind + ':' + normalized)); pseudonym = "
        "base64url(first 16 bytes of HMAC-SHA-256(pepper, organization, 0, kind, 0, value)).",
        "client": {
            "salt": base64url(SALT),
            "names": [
                {"kind": kind, "name": name, "normalized": plain, "hash": client_hash(kind, plain), "note": note}
                for kind, name, plain, note in NAMES
            ],
            "nobodys_hosts": [{"name": name, "hash": client_hash("host", name)} for name in NOBODYS_HOSTS],
        },
        "networks": [{"address": address, "network": network, "note": note} for address, network, note in NETWORKS],
        "service": {
            "peppers": {name: base64.b64encode(key).decode() for name, key in PEPPERS.items()},
            "pseudonyms": [
                {
                    "pepper": pepper,
                    "organization": organization,
                    "kind": kind,
                    "value": value,
                    "pseudonym": pseudonym(pepper, organization, kind, value),
                }
                for pepper in PEPPERS
                for organization in ("acme", "brook")
                for kind, value in values
            ],
        },
    }


def key_of(sentence: str) -> Json:
    """An Ed25519 key pair as a JWK; its id is its thumbprint (RFC 7638)."""
    seed = secret_of(sentence)
    x = base64url(Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())
    members = json.dumps({"crv": "Ed25519", "kty": "OKP", "x": x}, separators=(",", ":"))
    kid = base64url(hashlib.sha256(members.encode()).digest())
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "d": base64url(seed), "kid": kid, "alg": "EdDSA", "use": "sig"}


def public(key: Json) -> Json:
    return {name: value for name, value in key.items() if name != "d"}


def compact(claims: Json) -> str:
    return json.dumps(claims, separators=(",", ":"), ensure_ascii=False)


def jws(key: Json, typ: str, payload: str) -> str:
    header = compact({"alg": "EdDSA", "kid": key["kid"], "typ": typ})
    signed = f"{base64url(header.encode())}.{base64url(payload.encode())}"
    seed = base64.urlsafe_b64decode(key["d"] + "=")
    return f"{signed}.{base64url(Ed25519PrivateKey.from_private_bytes(seed).sign(signed.encode()))}"


ISSUER = key_of("licensing test issuer key")
OLD_ISSUER = key_of("licensing test issuer key that was used before")
LEASE = key_of("licensing test lease key")
OLD_LEASE = key_of("licensing test lease key that was used before")


def case(name: str, key: Json, typ: str, claims: Json, payload: Json | None = None) -> Json:
    text = compact(claims if payload is None else payload)
    return {"name": name, "writes": payload is None, "payload": text, "claims": claims, "jws": jws(key, typ, text)}


FLOATING: Json = {
    "iss": "Fluidit",
    "sub": "acme-water-1",
    "serial": 1793534400,
    "iat": 1793534400,
    "nbf": 1793534400,
    "exp": 1830297600,
    "organization": {"id": "acme", "name": "Acme Water Oy"},
    "product": "Fluidit Water",
    "kind": "floating",
    "seats": 5,
    "overdraft": 1,
    "sharing": "user-host",
    "users": [client_hash("user", "ada")],
    "hosts": [client_hash("host", "pc-17.acme.example")],
    "networks": ["198.51.100.0/24", "2001:db8:1::/48"],
    "features": ["network", "quality"],
    "maintenance_until": 1825027200,
    "project": "Harbour",
    "billing": "project",
    "collect": True,
    "salt": base64url(SALT),
    "heartbeat": 300,
    "lease": 900,
    "grace": 259200,
    "borrow": 86400,
    "service": "https://licensing.example/api",
    "lease_keys": {"keys": [public(LEASE), public(OLD_LEASE)]},
}

# What a reader takes for claims that were left out.
DEFAULTS: Json = {
    "kind": "floating",
    "overdraft": 0,
    "sharing": "none",
    "users": [],
    "hosts": [],
    "networks": [],
    "features": [],
    "billing": "none",
    "collect": True,
    "heartbeat": 300,
    "lease": 900,
    "grace": 259200,
    "borrow": 0,
}


def licenses() -> Json:
    named = {
        **FLOATING,
        "sub": "brook-sewer.2",
        "organization": {"id": "brook", "name": "Bäche & Söhne GmbH 王"},
        "kind": "named-user",
        "sharing": "none",
        "hosts": [],
        "networks": [],
        "collect": False,
    }
    required = ("iss", "sub", "serial", "iat", "nbf", "exp", "organization", "product", "seats", "salt", "service")
    least = {name: FLOATING[name] for name in (*required, "lease_keys")}
    newer = {"colour": {"unknown": ["to", "this", "reader"]}, **FLOATING}
    typ = "license+jwt"
    return {
        "about": "License files' JWS, typ license+jwt. TEST KEYS: they sign nothing that is real.",
        "typ": typ,
        "trusted": {"keys": [public(ISSUER), public(OLD_ISSUER)]},
        "private_test_keys": {"keys": [ISSUER, OLD_ISSUER]},
        "cases": [
            case("floating, with every claim", ISSUER, typ, FLOATING),
            case("named users, with letters beyond ASCII, unrecorded", ISSUER, typ, named),
            case("no more than the required claims", ISSUER, typ, {**least, **DEFAULTS}, least),
            case("a claim that this reader does not know", ISSUER, typ, FLOATING, newer),
            case("signed with the key that was used before", OLD_ISSUER, typ, FLOATING, FLOATING),
        ],
    }


def leases() -> Json:
    lease: Json = {
        "iss": "licensing",
        "sub": "0b6f6f0c-6f0e-4b5e-9d3a-5a4a2f1f7c11",
        "aud": "acme-water-1",
        "iat": 1793534460,
        "exp": 1793535360,
        "nonce": "bm9uY2Utb2YtYS10ZXN0",
        "features": ["network", "quality"],
        "grace": 259200,
        "borrowed": False,
        "overdraft": False,
    }
    borrowed = {**lease, "exp": 1793620860, "features": [], "grace": 0, "borrowed": True, "overdraft": True}
    newer = {**lease, "colour": "unknown to this reader"}
    typ = "lease+jwt"
    return {
        "about": "Leases, typ lease+jwt. TEST KEYS: they sign nothing that is real.",
        "typ": typ,
        "trusted": {"keys": [public(LEASE), public(OLD_LEASE)]},
        "private_test_keys": {"keys": [LEASE, OLD_LEASE]},
        "cases": [
            case("an ordinary lease", LEASE, typ, lease),
            case("borrowed, and beyond the seats that were bought", LEASE, typ, borrowed),
            case("a claim that this reader does not know", LEASE, typ, lease, newer),
            case("signed with the key that was used before", OLD_LEASE, typ, lease, lease),
        ],
    }


def files() -> dict[str, str]:
    """All files by name."""
    contents = {"pseudonyms.json": pseudonyms(), "license.json": licenses(), "lease.json": leases()}
    return {name: json.dumps(content, indent=2, ensure_ascii=True) + "\n" for name, content in contents.items()}


def main() -> None:
    """Write all files."""
    for name, text in files().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
        sys.stdout.write(f"{name}\n")


if __name__ == "__main__":
    main()
