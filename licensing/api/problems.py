"""Problem replies (RFC 9457), and the one place where outcomes and faults become statuses and codes."""

from collections.abc import Callable, Coroutine, Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.responses import Response

from licensing.errors import TokenError, UnavailableError
from licensing.rules.license import Refusal
from licensing.rules.requests import Refused, Taken
from licensing.services.sessions import Gone, NoSeat

URN: Final = "urn:licensing:problem:"
MEDIA_TYPE: Final = "application/problem+json"
STORAGE_RETRY_SECONDS: Final = 5


class Seats(BaseModel):
    """How many seats are held, and how many were bought."""

    in_use: int = Field(ge=0)
    total: int = Field(ge=0)


class Problem(BaseModel):
    """Why a request was not done (RFC 9457). `code` is stable, `detail` is for people."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": False})

    type: str
    title: str
    status: int
    detail: str
    code: str
    seats: Seats | None = None


CODES: Final[Mapping[str, tuple[int, str, str]]] = {
    "malformed-request": (400, "Malformed request", "The request is not as the protocol says."),
    "license-invalid": (401, "License file not accepted", "The license file is not genuine."),
    "lease-invalid": (401, "Lease not accepted", "Send the session's lease as a bearer token."),
    "token-invalid": (401, "Report link not accepted", "The link to this report has expired or is damaged."),
    Refusal.NOT_YET_VALID: (403, "License not yet valid", "The license has not begun."),
    Refusal.EXPIRED: (403, "License expired", "The license has expired; ask your license administrator to renew it."),
    Refusal.SUSPENDED: (403, "License suspended", "The vendor has suspended this license."),
    Refusal.SUPERSEDED: (403, "License superseded", "There is a newer license file; ask your administrator for it."),
    Refusal.USER: (403, "User not allowed", "The license lists its users, and you are not among them."),
    Refusal.HOST: (403, "Computer not allowed", "The license lists its computers, and this one is not among them."),
    Refusal.NETWORK: (403, "Network not allowed", "The license may be used in certain networks only."),
    "not-found": (404, "Not found", "There is nothing at this address."),
    "method-not-allowed": (405, "Method not allowed", "This address does not take this method."),
    "no-seat-available": (409, "No seat available", "All seats are taken; try again later."),
    "session-gone": (410, "Session gone", "The session has ended; start again."),
    "request-too-large": (413, "Request too large", "A request may have 16 KiB at most."),
    "storage-unavailable": (503, "Storage unavailable", "The register cannot be used now; try again shortly."),
    "service-unavailable": (503, "Service unavailable", "The service cannot answer now; try again shortly."),
}
"""Each problem code with its status, its title, and what is said where there is nothing more particular to say."""

_BY_STATUS: Final = {404: "not-found", 405: "method-not-allowed", 413: "request-too-large"}


def problem(
    code: str,
    detail: str = "",
    *,
    seats: Seats | None = None,
    retry_after: int | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """A problem reply; `retry_after` in seconds."""
    status, title, usual = CODES[code]
    body = Problem(type=URN + code, title=title, status=status, detail=detail or usual, code=str(code), seats=seats)
    sent = dict(headers or {})
    if retry_after is not None:
        sent["Retry-After"] = str(retry_after)
    if status == HTTPStatus.UNAUTHORIZED:
        sent["WWW-Authenticate"] = "Bearer"
    return Response(body.model_dump_json(exclude_none=True), status, sent, MEDIA_TYPE)


def refusal(outcome: Refused | NoSeat | Taken | Gone) -> Response:
    """The reply to a request that was understood and refused."""
    match outcome:
        case Refused(refusal=reason):
            return problem(reason)
        case NoSeat(in_use=in_use, seats=total, retry_seconds=retry):
            return problem(
                "no-seat-available",
                f"{f'All {total} seats are' if total != 1 else 'The one seat is'} taken; try again in {retry} seconds.",
                seats=Seats(in_use=in_use, total=total),
                retry_after=retry,
            )
        case Taken():
            return problem("malformed-request", "This session id belongs to another program; make a new one.")
        case Gone():
            return problem("session-gone")


def malformed(fault: RequestValidationError) -> Response:
    """Say which part of a request is wrong, and how, without a word of what was sent."""
    first = fault.errors()[0]
    if first["type"] == "extra_forbidden":
        return problem("malformed-request", "The request has a field that the protocol does not know.")
    if first["type"] == "json_invalid":
        return problem("malformed-request", "The body is not JSON.")
    if first["type"] == "model_attributes_type":
        return problem("malformed-request", "The body is not a JSON object; send it as application/json.")
    where = ".".join(str(part) for part in first["loc"] if part not in ("body", "query", "path"))
    return problem("malformed-request", f"{where or 'The body'}: {first['msg']}.")


async def on_invalid(_: Request, fault: Exception) -> Response:
    """Handle what FastAPI refuses to pass on."""
    return malformed(fault) if isinstance(fault, RequestValidationError) else problem("malformed-request")


async def on_http(_: Request, fault: Exception) -> Response:
    """Handle what Starlette refuses to route or parse."""
    status = fault.status_code if isinstance(fault, HTTPException) else 400
    headers = {}
    if isinstance(fault, HTTPException) and fault.headers and "Allow" in fault.headers:
        headers["Allow"] = fault.headers["Allow"]
    return problem(_BY_STATUS.get(status, "malformed-request"), headers=headers)


async def on_unavailable(_: Request, __: Exception) -> Response:
    """Handle a store that does not answer."""
    return unavailable()


def unavailable() -> Response:
    """The reply while the store cannot be used."""
    return problem("storage-unavailable", retry_after=STORAGE_RETRY_SECONDS)


async def on_unexpected(_: Request, __: Exception) -> Response:
    """Handle what nobody foresaw; the guard logs it."""
    return unexpected()


def unexpected() -> Response:
    """The reply to what nobody foresaw: the client keeps its lease or its grace, and comes back."""
    return problem("service-unavailable", retry_after=STORAGE_RETRY_SECONDS)


def not_genuine(code: str, fault: TokenError) -> Response:
    """The reply to a license file, lease or report token that is refused before anything it says is believed."""
    noun = {"license-invalid": "The license file", "lease-invalid": "The lease", "token-invalid": "The link"}[code]
    return problem(code, f"{noun} {fault}.")


HANDLERS: Final[dict[int | type[Exception], Callable[[Request, Any], Coroutine[Any, Any, Response]]]] = {
    RequestValidationError: on_invalid,
    HTTPException: on_http,
    UnavailableError: on_unavailable,
    Exception: on_unexpected,
}


EVERYWHERE: Final = ("malformed-request", "request-too-large", "service-unavailable")


def documented(*codes: str) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's `responses` of an operation: its own problem codes and those that every operation has."""
    responses: dict[int | str, dict[str, Any]] = {}
    for code in (*codes, *EVERYWHERE):
        status, title, detail = CODES[code]
        reply = responses.setdefault(
            status, {"model": Problem, "description": "", "content": {MEDIA_TYPE: {"examples": {}}}}
        )
        reply["description"] = f"{reply['description']}, `{code}`" if reply["description"] else f"`{code}`"
        example: dict[str, Any] = {
            "type": URN + code,
            "title": title,
            "status": status,
            "detail": detail,
            "code": str(code),
        }
        if code == "no-seat-available":
            example["seats"] = {"in_use": 5, "total": 5}
        reply["content"][MEDIA_TYPE]["examples"][str(code)] = {"summary": title, "value": example}
        if status in (409, 503):
            reply["headers"] = {"Retry-After": {"description": "seconds", "schema": {"type": "integer", "minimum": 0}}}
    return responses
