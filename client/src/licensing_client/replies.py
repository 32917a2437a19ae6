"""What a reply is worth: HTTP in, an `Answer` out. Pure.

The rules:

- A success counts if it is JSON of the protocol's shape and its lease is genuine, for this session and this
  nonce.
- A refusal counts if it is a problem reply (RFC 9457) of this service's making, with a code that this call
  may be answered with and the status that belongs to the code.
- Everything else proves nothing: another status, a redirect, a page of HTML, a reply that was cut, too
  large, or meant for another request. It is `NoAnswer`, whoever sent it.
"""

import json
from typing import Any

from licensing_client.answers import Answer, Ended, Gone, Granted, NoAnswer, Policy, Refused, Seats, Unaccepted
from licensing_client.errors import Step, TokenFault
from licensing_client.lease import read_answer
from licensing_client.license import License
from licensing_client.reasons import Code, reason
from licensing_client.transport import Reply

RETRY_LIMIT = 3600
"""A Retry-After is believed up to so many seconds."""

_FINAL = {
    (401, "license-invalid"): Code.LICENSE_INVALID,
    (403, "license-not-yet-valid"): Code.LICENSE_NOT_YET_VALID,
    (403, "license-expired"): Code.LICENSE_EXPIRED,
    (403, "license-suspended"): Code.LICENSE_SUSPENDED,
    (403, "license-superseded"): Code.LICENSE_SUPERSEDED,
    (403, "user-not-allowed"): Code.USER_NOT_ALLOWED,
    (403, "host-not-allowed"): Code.HOST_NOT_ALLOWED,
    (403, "network-not-allowed"): Code.NETWORK_NOT_ALLOWED,
}
_DURING = {Code.LICENSE_SUSPENDED, Code.LICENSE_EXPIRED}
_GONE = (410, "session-gone")
_UNACCEPTED = (401, "lease-invalid")
NO_SEAT_RETRY = 60
"""When to ask for a seat again if the service does not say."""


def _json(reply: Reply, media_type: str) -> dict[str, Any] | None:
    if reply.headers.get("content-type", "").split(";")[0].strip().lower() != media_type:
        return None
    try:
        value = json.loads(reply.body)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def _retry_after(reply: Reply) -> int | None:
    text = reply.headers.get("retry-after", "")
    return min(int(text), RETRY_LIMIT) if text.isascii() and text.isdigit() and len(text) < 10 else None


def problem(reply: Reply) -> tuple[int, str] | None:
    """Status and code of a problem reply that this service made; None for any other reply."""
    body = _json(reply, "application/problem+json")
    if body is None or body.get("status") != reply.status or not isinstance(body.get("code"), str):
        return None
    return (reply.status, body["code"]) if body.get("type") == f"urn:licensing:problem:{body['code']}" else None


def nothing(reply: Reply, what: str = "") -> NoAnswer:
    """A reply that proves nothing, described for people."""
    if not what and (named := problem(reply)):
        what = f"it said {named[1]}"
    elif not what and reply.headers.get("content-type", "").lower().startswith("text/html"):
        what = "it was a web page; perhaps this network wants you to sign in with a browser first"
    elif not what and 300 <= reply.status < 400:
        what = "it pointed to another address, which is not followed"
    return NoAnswer(
        Step.SERVICE,
        f"The reply (HTTP {reply.status}) was not the license service's{': ' if what else ''}{what}.",
        _retry_after(reply) if reply.status in (429, 503) else None,
    )


def _whole(value: object, least: int = 0) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _seats(value: object) -> Seats | None:
    match value:
        case {"in_use": int(in_use), "total": int(total)}:
            return Seats(in_use, total)
    return None


def _policy(value: object) -> Policy | None:
    match value:
        case {"version": str(version), "url": str(url)}:
            return Policy(version, url)
    return None


def _success(reply: Reply, license: License, session: str, nonce: str) -> Granted | NoAnswer:
    body = _json(reply, "application/json")
    if body is None or not isinstance(body.get("lease"), str) or not isinstance(body.get("recorded"), bool):
        return nothing(reply)
    if not _whole(body.get("heartbeat_seconds"), 1):
        return nothing(reply)
    try:
        lease = read_answer(body["lease"], license, session, nonce)
    except TokenFault as fault:
        return nothing(reply, f"its lease {fault}")
    seats, policy = _seats(body.get("seats")), _policy(body.get("policy"))
    return Granted(lease, body["heartbeat_seconds"], body["recorded"], seats, policy)


def to_start(reply: Reply, license: License, session: str, nonce: str) -> Answer:
    """What a reply to `POST /sessions` says."""
    if reply.status in (200, 201):
        return _success(reply, license, session, nonce)
    named = problem(reply)
    if named == (409, "no-seat-available"):
        return Refused(reason(Code.NO_SEAT), _retry_after(reply) or NO_SEAT_RETRY)
    if named in _FINAL:
        return Refused(reason(_FINAL[named]))
    return Gone() if named == (400, "malformed-request") else nothing(reply)


def to_heartbeat(reply: Reply, license: License, session: str, nonce: str) -> Answer:
    """What a reply to `PUT /sessions/{session}/heartbeat` says."""
    if reply.status == 200:
        return _success(reply, license, session, nonce)
    named = problem(reply)
    if named == _GONE:
        return Gone()
    if named == _UNACCEPTED:
        return Unaccepted()
    if named in _FINAL and _FINAL[named] in _DURING:
        return Refused(reason(_FINAL[named]))
    return nothing(reply)


def to_end(reply: Reply) -> Answer:
    """What a reply to `DELETE /sessions/{session}` says."""
    if reply.status == 204 or problem(reply) == _GONE:
        return Ended()
    return Unaccepted() if problem(reply) == _UNACCEPTED else nothing(reply)


def to_read(reply: Reply) -> dict[str, Any] | Gone | NoAnswer:
    """What a reply to `GET /sessions/{session}` says: all that the register holds, or that it is nothing."""
    body = _json(reply, "application/json") if reply.status == 200 else None
    if body is not None:
        return body
    return Gone() if problem(reply) == _GONE else nothing(reply)


def to_health(reply: Reply) -> NoAnswer | None:
    """What a reply to `GET /health` says: None where the service is well."""
    body = _json(reply, "application/json") if reply.status == 200 else None
    return None if body is not None and isinstance(body.get("status"), str) else nothing(reply)
