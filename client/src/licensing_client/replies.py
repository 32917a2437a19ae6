"""What a reply means: HTTP in, an `Answer` out. Pure functions.

The rules:

- A success counts if it is JSON of the protocol's shape, with a verified lease for this session and this nonce.
- A refusal counts if it is this service's problem reply (RFC 9457). Its code must fit the call and the status.
- Everything else is `NoAnswer` from any sender: another status, a redirect, an HTML page, or a reply that is cut,
  too large or for another request.
"""

import json
from typing import Any

from licensing_client.answers import (
    Answer,
    CurrentFile,
    Ended,
    Gone,
    Granted,
    NoAnswer,
    NoNewerFile,
    Policy,
    Refused,
    Seats,
    Unaccepted,
)
from licensing_client.errors import Step, TokenError
from licensing_client.lease import read_answering_lease
from licensing_client.license import License
from licensing_client.reasons import REFUSALS, Code, reason
from licensing_client.transport import Reply

RETRY_AFTER_LIMIT_SECONDS = 3600
"""Upper limit for a Retry-After."""

_FINAL_AT_START = {
    (401, Code.LICENSE_INVALID.value): Code.LICENSE_INVALID,
    **{(403, code.value): code for code in REFUSALS},
}
_FINAL_WHILE_RUNNING = {Code.LICENSE_SUSPENDED, Code.LICENSE_EXPIRED, Code.SEAT_RECALLED}
_GONE = (410, "session-gone")
_UNACCEPTED = (401, "lease-invalid")
_MALFORMED = (400, "malformed-request")
_NOT_ACCEPTED = (401, "license-invalid")
NO_SEAT_RETRY_SECONDS = 60
"""When to ask for a seat again if the reply does not say."""


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
    return min(int(text), RETRY_AFTER_LIMIT_SECONDS) if text.isascii() and text.isdigit() and len(text) < 10 else None


def problem(reply: Reply) -> tuple[int, str] | None:
    """Status and code of a problem reply of this service; None for any other reply."""
    body = _json(reply, "application/problem+json")
    if body is None or body.get("status") != reply.status or not isinstance(body.get("code"), str):
        return None
    return (reply.status, body["code"]) if body.get("type") == f"urn:licensing:problem:{body['code']}" else None


def _details(reply: Reply) -> dict[str, Any]:
    """The members of a problem reply."""
    return _json(reply, "application/problem+json") or {}


def _policy_of(reply: Reply) -> Policy | None:
    """The policy that a problem reply carries; replies to a start do, except those of older services."""
    return _policy(_details(reply).get("policy"))


def no_answer(reply: Reply, detail: str = "") -> NoAnswer:
    """A reply that proves nothing, described for people."""
    if not detail and (found := problem(reply)):
        detail = f"it said {found[1]}"
    elif not detail and reply.headers.get("content-type", "").lower().startswith("text/html"):
        detail = "it was a web page; perhaps this network wants you to sign in with a browser first"
    elif not detail and 300 <= reply.status < 400:
        detail = "it pointed to another address, which is not followed"
    return NoAnswer(
        Step.SERVICE,
        f"The reply (HTTP {reply.status}) was not the license service's{': ' if detail else ''}{detail}.",
        _retry_after(reply) if reply.status in (429, 503) else None,
    )


def _whole_number(value: object, least: int = 0) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= least else None


def _seats(value: object) -> Seats | None:
    if not isinstance(value, dict):
        return None
    in_use, total = _whole_number(value.get("in_use")), _whole_number(value.get("total"))
    return None if in_use is None or total is None else Seats(in_use, total, _whole_number(value.get("waiting")) or 0)


def _policy(value: object) -> Policy | None:
    match value:
        case {"version": str(version), "url": str(url)}:
            return Policy(version, url)
    return None


def _success(reply: Reply, license: License, session_id: str, nonce: str) -> Granted | NoAnswer:
    body = _json(reply, "application/json")
    if body is None or not isinstance(body.get("lease"), str) or not isinstance(body.get("recorded"), bool):
        return no_answer(reply)
    if _whole_number(body.get("heartbeat_seconds"), 1) is None:
        return no_answer(reply)
    try:
        lease = read_answering_lease(body["lease"], license, session_id, nonce)
    except TokenError as error:
        return no_answer(reply, f"its lease {error}")
    return Granted(
        lease,
        body["heartbeat_seconds"],
        body["recorded"],
        _seats(body.get("seats")),
        _policy(body.get("policy")),
        _whole_number(body.get("license_serial")),
    )


def _no_seat(reply: Reply) -> Refused:
    """No seat is free. What is not a whole number is taken for missing."""
    details = _details(reply)
    return Refused(
        reason(Code.NO_SEAT),
        _retry_after(reply) or NO_SEAT_RETRY_SECONDS,
        _policy_of(reply),
        _whole_number(details.get("position"), 1),
        _seats(details.get("seats")),
    )


def to_start(reply: Reply, license: License, session_id: str, nonce: str) -> Answer:
    """The meaning of a reply to `POST /sessions`."""
    if reply.status in (200, 201):
        return _success(reply, license, session_id, nonce)
    found = problem(reply)
    if found == (409, "no-seat-available"):
        return _no_seat(reply)
    if found in _FINAL_AT_START:
        return Refused(reason(_FINAL_AT_START[found]), policy=_policy_of(reply))
    return Gone() if found == _MALFORMED else no_answer(reply)


def to_heartbeat(reply: Reply, license: License, session_id: str, nonce: str) -> Answer:
    """The meaning of a reply to `PUT /sessions/{session}/heartbeat`."""
    if reply.status == 200:
        return _success(reply, license, session_id, nonce)
    found = problem(reply)
    if found == _GONE:
        return Gone()
    if found == _UNACCEPTED:
        return Unaccepted()
    if found in _FINAL_AT_START and _FINAL_AT_START[found] in _FINAL_WHILE_RUNNING:
        return Refused(reason(_FINAL_AT_START[found]))
    return no_answer(reply)


def to_end(reply: Reply) -> Answer:
    """The meaning of a reply to `DELETE /sessions/{session}`."""
    if reply.status == 204 or problem(reply) == _GONE:
        return Ended()
    return Unaccepted() if problem(reply) == _UNACCEPTED else no_answer(reply)


def to_report(reply: Reply) -> Ended | NoAnswer:
    """The meaning of a reply to `POST /sessions/{session}/ended`: `Ended` if the report is done with."""
    return Ended() if reply.status == 204 or problem(reply) in (_GONE, _UNACCEPTED, _MALFORMED) else no_answer(reply)


def to_read(reply: Reply) -> dict[str, Any] | Gone | NoAnswer:
    """The meaning of a reply to `GET /sessions/{session}`: the register's data, or `Gone` after the session's end."""
    body = _json(reply, "application/json") if reply.status == 200 else None
    if body is not None:
        return body
    return Gone() if problem(reply) == _GONE else no_answer(reply)


def to_current(reply: Reply) -> CurrentFile | NoNewerFile | NoAnswer:
    """The meaning of a reply to `POST /licenses/current`. The file that it brings is not verified yet."""
    if reply.status == 204 or problem(reply) == _NOT_ACCEPTED:
        return NoNewerFile()
    body = _json(reply, "application/json") if reply.status == 200 else None
    token = body.get("license") if body is not None else None
    return CurrentFile(token) if isinstance(token, str) else no_answer(reply)


def to_health(reply: Reply) -> NoAnswer | None:
    """The meaning of a reply to `GET /health`: None if the service is healthy."""
    body = _json(reply, "application/json") if reply.status == 200 else None
    return None if body is not None and isinstance(body.get("status"), str) else no_answer(reply)
