"""Problem replies (RFC 9457): the one place where outcomes and errors become statuses and codes."""

from collections import defaultdict
from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Final, NamedTuple

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from licensing.errors import TokenError, UnavailableError
from licensing.rules.license import Refusal
from licensing.rules.requests import ForeignSession, Refused
from licensing.services.sessions import Gone, NoSeat

URN: Final = "urn:licensing:problem:"
MEDIA_TYPE: Final = "application/problem+json"
RETRY_SECONDS: Final = 5
"""Retry-After of every 503."""


class Seats(BaseModel):
    """How many seats are held, how many were bought, and how many programs wait in line."""

    in_use: int = Field(ge=0)
    total: int = Field(ge=0)
    waiting: int = Field(ge=0)


class Policy(BaseModel):
    """The privacy policy in force."""

    version: str
    url: str


class Problem(BaseModel, json_schema_extra={"additionalProperties": False}):
    """Why a request was not done (RFC 9457). `code` is stable, `detail` is for people. What is not set is not sent."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    seats: Seats | None = None
    position: int | None = Field(
        None, ge=1, description="beside `seats`: the place in line, 1 is next; null without one"
    )
    policy: Policy | None = Field(None, description="in the replies to a start")


class Meaning(NamedTuple):
    """The status, the title and the usual detail of a problem code."""

    status: int
    title: str
    detail: str


_REFUSALS: Final[Mapping[Refusal, tuple[str, str]]] = {
    Refusal.NOT_YET_VALID: ("License not yet valid", "The license has not begun."),
    Refusal.EXPIRED: ("License expired", "The license has expired; ask your license administrator to renew it."),
    Refusal.SUSPENDED: ("License suspended", "The vendor has suspended this license."),
    Refusal.SUPERSEDED: ("License superseded", "There is a newer license file; ask your administrator for it."),
    Refusal.RECALLED: ("Seat recalled", "The vendor has recalled this seat; save your work and close the program."),
    Refusal.USER: ("User not allowed", "The license lists its users, and you are not among them."),
    Refusal.HOST: ("Computer not allowed", "The license lists its computers, and this one is not among them."),
    Refusal.NETWORK: ("Network not allowed", "The license may be used in certain networks only."),
}

CODES: Final[Mapping[str, Meaning]] = {
    "malformed-request": Meaning(400, "Malformed request", "The request is not as the protocol says."),
    "license-invalid": Meaning(401, "License file not accepted", "The license file is not genuine."),
    "lease-invalid": Meaning(401, "Lease not accepted", "Send the session's lease as a bearer token."),
    "token-invalid": Meaning(401, "Report link not accepted", "The link to this report has expired or is damaged."),
    # A refusal without texts stops the service's start, since clients would not know its code.
    **{refusal: Meaning(403, *_REFUSALS[refusal]) for refusal in Refusal},
    "not-found": Meaning(404, "Not found", "There is nothing at this address."),
    "method-not-allowed": Meaning(405, "Method not allowed", "This address does not take this method."),
    "no-seat-available": Meaning(409, "No seat available", "All seats are taken; try again later."),
    "session-gone": Meaning(410, "Session gone", "The session has ended; start again."),
    "request-too-large": Meaning(413, "Request too large", "A request may have 16 KiB at most."),
    "storage-unavailable": Meaning(503, "Storage unavailable", "The register cannot be used now; try again shortly."),
    "service-unavailable": Meaning(503, "Service unavailable", "The service cannot answer now; try again shortly."),
}
"""The one table of problem codes. tests/api/test_codes.py holds the contract, the protocol and the client to it."""

_BY_STATUS: Final = {404: "not-found", 405: "method-not-allowed", 413: "request-too-large"}
_MALFORMED: Final = {
    "extra_forbidden": "The request has a field that the protocol does not know.",
    "json_invalid": "The body is not JSON.",
    "model_attributes_type": "The body is not a JSON object; send it as application/json.",
}
"""Details by the types of pydantic's errors."""


POLICY: Final = "licensing.policy"
"""Key in the scope of a request: the policy that a problem reply to it carries."""


class ProblemReply(Response):
    """A problem reply. It carries the policy if the request's operation has put it into the scope."""

    media_type = MEDIA_TYPE

    def __init__(self, problem: Problem, headers: Mapping[str, str]) -> None:
        super().__init__(problem.model_dump_json(exclude_unset=True), problem.status, headers)
        self._problem = problem
        self._own_headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the reply."""
        if policy := scope.get(POLICY):
            self.body = self.render(
                self._problem.model_copy(update={"policy": policy}).model_dump_json(exclude_unset=True)
            )
            self.init_headers(self._own_headers)  # the length is another
        await super().__call__(scope, receive, send)


def problem(
    code: str,
    detail: str = "",
    *,
    retry_seconds: int | None = None,
    headers: Mapping[str, str] | None = None,
    **members: Any,
) -> Response:
    """A problem reply; `members` are further ones of `Problem`."""
    body = _body(code, detail, **members)
    sent = dict(headers or {})
    if body.status == HTTPStatus.SERVICE_UNAVAILABLE:
        retry_seconds = RETRY_SECONDS
    if retry_seconds is not None:
        sent["Retry-After"] = str(retry_seconds)
    if body.status == HTTPStatus.UNAUTHORIZED:
        sent["WWW-Authenticate"] = "Bearer"
    return ProblemReply(body, sent)


def _body(code: str, detail: str = "", **members: Any) -> Problem:
    status, title, usual_detail = CODES[code]
    return Problem(
        type=URN + code, title=title, status=status, detail=detail or usual_detail, code=str(code), **members
    )


def refusal(outcome: Refused | NoSeat | ForeignSession | Gone) -> Response:
    """The reply to a valid request that was refused."""
    match outcome:
        case Refused(refusal=reason):
            return problem(reason)
        case NoSeat() as full:
            seats = Seats(in_use=full.in_use, total=full.seats, waiting=full.waiting)
            return problem(
                "no-seat-available",
                _why_no_seat(full),
                seats=seats,
                position=full.position,
                retry_seconds=full.retry_seconds,
            )
        case ForeignSession():
            return problem("malformed-request", "This session id belongs to another program; make a new one.")
        case Gone():
            return problem("session-gone")


def _why_no_seat(full: NoSeat) -> str:
    if full.position is not None:
        why = f"You are number {full.position} in line"
    elif full.in_use < full.seats:
        why = "Others wait in line for a seat"
    else:
        why = "The one seat is taken" if full.seats == 1 else f"All {full.seats} seats are taken"
    return f"{why}; try again in {full.retry_seconds} seconds."


def not_genuine(code: str, error: TokenError) -> Response:
    """The reply to a license file, a lease or a report pass that is not genuine."""
    noun = {"license-invalid": "The license file", "lease-invalid": "The lease", "token-invalid": "The link"}[code]
    return problem(code, f"{noun} {error}.")


async def _on_malformed(_: Request, error: RequestValidationError) -> Response:
    """The reply names the wrong part of a request and what is wrong with it, and quotes nothing of it."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    detail = _MALFORMED.get(first["type"]) or f"{where or 'The body'}: {first['msg']}."
    return problem("malformed-request", detail)


async def _on_http(_: Request, error: HTTPException) -> Response:
    headers = {name: value for name, value in (error.headers or {}).items() if name == "Allow"}
    return problem(_BY_STATUS.get(error.status_code, "malformed-request"), headers=headers)


async def _on_unavailable(_: Request, __: UnavailableError) -> Response:
    return problem("storage-unavailable")


HANDLERS: Final[dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]] = {
    RequestValidationError: _on_malformed,
    HTTPException: _on_http,
    UnavailableError: _on_unavailable,
}


RETRY_AFTER: Final = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 0}}}
_NO_SEAT_EXAMPLE: Final[dict[str, Any]] = {"seats": Seats(in_use=5, total=5, waiting=2), "position": 2}
EVERYWHERE: Final = ("malformed-request", "request-too-large", "service-unavailable")


def documented(*codes: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of an operation: its own problem codes, and those that every operation can give."""
    bodies: defaultdict[int, list[Problem]] = defaultdict(list)
    for code in (*codes, *EVERYWHERE):
        body = _body(code, **(_NO_SEAT_EXAMPLE if code == "no-seat-available" else {}))
        bodies[body.status].append(body)
    responses: dict[int | str, dict[str, Any]] = {}
    for status, examples in bodies.items():
        values = {each.code: {"summary": each.title, "value": each.model_dump(exclude_unset=True)} for each in examples}
        responses[status] = {
            "model": Problem,
            "description": ", ".join(f"`{each.code}`" for each in examples),
            "content": {MEDIA_TYPE: {"examples": values}},
        }
        if status in (409, 503):
            responses[status]["headers"] = RETRY_AFTER
    return responses
