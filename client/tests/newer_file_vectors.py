"""Vectors for newer license files: the request of `current`, and what its replies mean (docs/protocol.md, section 10).

`vectors.py` writes them, beside the others.
"""

import json
from typing import Any

from factories import (
    ISSUER_KEY,
    STRANGER_KEY,
    jwk,
    lease_claims,
    license_claims,
    license_file,
    sign,
    sign_header,
    x_of,
)
from licensing_client.tokens import thumbprint
from licensing_client.transport import Reply
from reference_service import ReferenceService

GIVEN_SERIAL = 5


def _token(**changes: Any) -> str:
    return sign("license+jwt", license_claims(serial=GIVEN_SERIAL + 1) | changes, ISSUER_KEY)


def _json(content: object, media_type: str = "application/json") -> Reply:
    return Reply(200, {"content-type": media_type}, json.dumps(content).encode())


def _brings(token: str, serial: int = GIVEN_SERIAL + 1, **more: Any) -> Reply:
    return _json({"license": token, "serial": serial, **more})


def _without(name: str) -> str:
    claims = license_claims(serial=GIVEN_SERIAL + 1)
    del claims[name]
    return sign("license+jwt", claims, ISSUER_KEY)


def _taken() -> list[tuple[str, Reply, int]]:
    """Replies whose file is taken, and its serial."""
    organization = {"id": "acme", "name": "Acme Water and Heat Oy"}
    return [
        ("a newer file", _brings(_token()), GIVEN_SERIAL + 1),
        ("a newer file with claims and members that nobody knows yet", _brings(_token(rebate=10), hint="-"), 6),
        ("a newer file of the same customer, by another name", _brings(_token(organization=organization)), 6),
        ("a much newer file, which the reply calls old", _brings(_token(serial=1_800_000_000), 1), 1_800_000_000),
        ("a newer file for another product: taken, but it covers no start", _brings(_token(product="Heat")), 6),
        ("a newer file that has expired", _brings(_token(exp=license_claims()["nbf"] + 1)), 6),
    ]


def _not_taken() -> list[tuple[str, Reply]]:
    """Replies that bring something that is not to be taken."""
    header = {"typ": "license+jwt", "alg": "EdDSA", "kid": thumbprint(x_of(ISSUER_KEY))}
    claims = license_claims(serial=GIVEN_SERIAL + 1)
    other = {"id": "other", "name": "Acme Water Oy"}
    return [
        ("a file of another license", _brings(_token(sub="acme-heat"))),
        ("a file of another customer of the same name", _brings(_token(organization=other))),
        ("a file whose customer has no id", _brings(_token(organization={"name": "Acme Water Oy"}))),
        ("a key that is not trusted signed it", _brings(sign("license+jwt", claims, STRANGER_KEY))),
        ("a stranger signed it with our kid", _brings(sign_header(header, claims, STRANGER_KEY))),
        ("the same serial", _brings(_token(serial=GIVEN_SERIAL))),
        ("the same serial, which the reply calls newer", _brings(_token(serial=GIVEN_SERIAL), GIVEN_SERIAL + 1)),
        ("a lower serial", _brings(_token(serial=GIVEN_SERIAL - 1))),
        ("no serial", _brings(_without("serial"))),
        ("a serial that is text", _brings(_token(serial="6"))),
        ("a serial that is true", _brings(_token(serial=True))),
        ("cut short", _brings(_token()[:-9])),
        ("no text of a license", _brings("none")),
        ("malformed: its hold exceeds its grace", _brings(_token(grace=3600, hold=3661))),
        ("no lease keys", _brings(_token(lease_keys={"keys": []}))),
        ("lease keys that are a list", _brings(_token(lease_keys=[jwk(ISSUER_KEY)]))),
        ("lease keys that are a number", _brings(_token(lease_keys={"keys": 5}))),
        ("lease keys that are null", _brings(_token(lease_keys={"keys": [None]}))),
        ("a lease key that is too short", _brings(_token(lease_keys={"keys": [jwk(ISSUER_KEY) | {"x": "short"}]}))),
        ("a kind that nobody knows", _brings(_token(kind="constructor"))),
        ("users that are null", _brings(_token(users=None))),
        ("hosts that are null", _brings(_token(hosts=None))),
        ("seats that are text", _brings(_token(seats="2"))),
        ("a time to borrow that is text", _brings(_token(borrow="86400"))),
        ("an end of maintenance that is text", _brings(_token(maintenance_until="2027-12-31"))),
        ("a salt without a character", _brings(_token(salt=""))),
        ("a customer without a name", _brings(_token(organization={"id": "acme"}))),
        ("a lease by the issuer's key", _brings(sign("lease+jwt", lease_claims(), ISSUER_KEY))),
        ("a license file with a comment in place of its JWS", _brings(license_file(serial=GIVEN_SERIAL + 1))),
    ]


def _others() -> list[tuple[str, Reply, str]]:
    """Replies that bring no file."""
    problem = ReferenceService.problem
    portal = Reply(200, {"content-type": "text/html"}, b"<html>Please sign in</html>")
    unauthorized = Reply(401, {"content-type": "application/json"}, b"{}")
    return [
        ("none is newer, or none is kept", Reply(204, {}, b""), "none"),
        ("the file that was sent is not accepted", problem(401, "license-invalid"), "none"),
        ("a captive portal", portal, "no-answer"),
        ("a portal that calls itself JSON", Reply(200, {"content-type": "application/json"}, b"<html>"), "no-answer"),
        ("a reply that was cut", Reply(200, {"content-type": "application/json"}, _json({}).body[:1]), "no-answer"),
        ("a list", _json([_token()]), "no-answer"),
        ("no license", _json({"serial": GIVEN_SERIAL + 1}), "no-answer"),
        ("a license that is no text", _json({"license": {"jws": _token()}, "serial": 6}), "no-answer"),
        ("another media type", _json({"license": _token(), "serial": 6}, "text/plain"), "no-answer"),
        ("a redirect", Reply(302, {"location": "https://portal.example.com/"}, b""), "no-answer"),
        ("the request is malformed", problem(400, "malformed-request"), "no-answer"),
        ("a 401 that is no problem reply", unauthorized, "no-answer"),
        ("a service that does not know the call", problem(404, "not-found"), "no-answer"),
        ("the store does not answer", problem(503, "storage-unavailable", {"retry-after": "5"}), "no-answer"),
    ]


def _case(what: str, reply: Reply, means: str) -> dict[str, Any]:
    given = {"status": reply.status, "headers": dict(reply.headers), "body": reply.body.decode()}
    return {"what": what, "reply": given, "means": means}


def newer_files() -> dict[str, Any]:
    """A given file, the request for a newer one, and what the replies mean."""
    given = sign("license+jwt", license_claims(serial=GIVEN_SERIAL), ISSUER_KEY)
    return {
        "issuer_keys": [jwk(ISSUER_KEY)],
        "given": license_file(serial=GIVEN_SERIAL),
        "request": {"method": "POST", "path": "/licenses/current", "headers": {}, "body": {"license": given}},
        "replies": [
            *({**_case(what, reply, "taken"), "serial": serial} for what, reply, serial in _taken()),
            *(_case(what, reply, "not-taken") for what, reply in _not_taken()),
            *(_case(what, reply, means) for what, reply, means in _others()),
        ],
    }
