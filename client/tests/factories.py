"""License files, leases and certificates for tests.

License files and leases are signed with the published test keys of RFC 8037 and RFC 8032.
"""

import datetime
import hashlib
import json
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID

from licensing_client.license import License, Program, parse_license
from licensing_client.tokens import base64url, thumbprint, unbase64url

ISSUER_KEY = Ed25519PrivateKey.from_private_bytes(unbase64url("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"))
"""RFC 8037, appendix A.1."""
SERVICE_KEY = Ed25519PrivateKey.from_private_bytes(
    bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
)
"""RFC 8032, section 7.1, test 2."""
STRANGER_KEY = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"stranger").digest())

NOW = 1_790_000_000
SALT = bytes(range(32))


def x_of(key: Ed25519PrivateKey) -> str:
    return base64url(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))


def jwk(key: Ed25519PrivateKey) -> dict[str, str]:
    x = x_of(key)
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": thumbprint(x), "alg": "EdDSA", "use": "sig"}


def sign_header(header: Mapping[str, Any], claims: object, key: Ed25519PrivateKey) -> str:
    parts = [json.dumps(part, separators=(",", ":"), ensure_ascii=False).encode() for part in (header, claims)]
    signed = ".".join(base64url(part) for part in parts)
    return f"{signed}.{base64url(key.sign(signed.encode()))}"


def sign(typ: str, claims: object, key: Ed25519PrivateKey) -> str:
    return sign_header({"typ": typ, "alg": "EdDSA", "kid": thumbprint(x_of(key))}, claims, key)


def license_claims(**changes: Any) -> dict[str, Any]:
    claims = {
        "iss": "fluidit",
        "sub": "acme-water",
        "serial": 1,
        "iat": NOW - 86400,
        "nbf": NOW - 86400,
        "exp": NOW + 365 * 86400,
        "organization": {"id": "acme", "name": "Acme Water Oy"},
        "product": "Fluidit Water",
        "kind": "floating",
        "seats": 2,
        "overdraft": 0,
        "sharing": "none",
        "users": [],
        "hosts": [],
        "networks": [],
        "features": ["gis", "scenarios"],
        "maintenance_until": NOW + 30 * 86400,
        "billing": "none",
        "collect": True,
        "salt": base64url(SALT),
        "heartbeat": 300,
        "lease": 900,
        "grace": 259200,
        "borrow": 14 * 86400,
        "service": "https://licensing.example.com/api",
        "lease_keys": {"keys": [jwk(SERVICE_KEY)]},
    }
    return {name: value for name, value in (claims | changes).items() if value is not ...}


def license_file(**changes: Any) -> str:
    token = sign("license+jwt", license_claims(**changes), ISSUER_KEY)
    return f"# A license for Acme Water Oy\n\n{token}\n"


def program(**changes: Any) -> Program:
    return Program(**({"issuer_keys": (x_of(ISSUER_KEY),), "product": "Fluidit Water"} | changes))


def license_of(**changes: Any) -> License:
    return parse_license(license_file(**changes), program().keys())


def lease_claims(**changes: Any) -> dict[str, Any]:
    claims = {
        "iss": "licensing",
        "sub": "6f2b9c1e-0d54-4f0e-9a3e-2f8f1f0c7a11",
        "aud": "acme-water",
        "iat": NOW,
        "exp": NOW + 900,
        "nonce": "q8n0S2kYbT3w9fLrA1c4",
        "features": ["gis", "scenarios"],
        "grace": 259200,
        "borrowed": False,
        "overdraft": False,
    }
    return {name: value for name, value in (claims | changes).items() if value is not ...}


def lease_token(**changes: Any) -> str:
    return sign("lease+jwt", lease_claims(**changes), SERVICE_KEY)


HOST = "licensing.test"


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def company_authority(folder: Path, host: str = HOST) -> tuple[Path, ssl.SSLContext]:
    """A new certificate authority (PEM file), and the TLS context of a server for `host` that it certifies."""
    today = datetime.datetime.now(datetime.timezone.utc)
    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())

    def certificate(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject))
            .issuer_name(_name("Company authority"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(today - datetime.timedelta(days=1))
            .not_valid_after(today + datetime.timedelta(days=1))
        )

    root = certificate("Company authority", authority)
    root = root.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    leaf = certificate(host, server)
    leaf = leaf.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    (folder / "ca.pem").write_bytes(root.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM))
    (folder / "server.pem").write_bytes(
        server.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        + leaf.sign(authority, hashes.SHA256()).public_bytes(Encoding.PEM)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return folder / "ca.pem", context
