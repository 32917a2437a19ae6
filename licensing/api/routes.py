"""The operations. Each is also a named trigger in `function_app.py`; a test compares the two."""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

import licensing
from licensing.api import problems, schemas
from licensing.api.routing import QuickRoute
from licensing.crypto.tokens import read_license
from licensing.errors import TokenError
from licensing.rules.license import Refusal
from licensing.services.license_files import SignedFile
from licensing.services.service import Service
from licensing.services.sessions import Gone, Running

router = APIRouter(prefix="/api", route_class=QuickRoute)

SessionId = Annotated[schemas.SessionId, Path(alias="session", description="the session's id")]


def service_of(request: Request) -> Service:
    """The service that the app of a request serves."""
    service = request.app.state.service()
    if not isinstance(service, Service):
        raise TypeError("the app was made without a service")
    return service


class StartRoute(QuickRoute):
    """The route of a start. Its problem replies carry the policy: who is always refused learns of it, too."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request whose path is this route's."""
        if scope["method"] in (self.methods or ()):
            scope[problems.POLICY] = schemas.policy_of(service_of(Request(scope)).settings)
        await super().handle(scope, receive, send)


starts = APIRouter(prefix="/api", route_class=StartRoute)


def _json(body: Any, status: int = 200) -> Response:
    return Response(body.model_dump_json(), status, media_type="application/json")


@starts.post(
    "/sessions",
    status_code=201,
    response_model=schemas.RunningReply,
    responses={
        200: {"model": schemas.RunningReply, "description": "The start was granted before; this is the same session"},
        **problems.documented("license-invalid", *Refusal, "no-seat-available", "storage-unavailable"),
    },
    summary="A program starts",
)
async def session_start(body: schemas.StartBody, request: Request) -> Response:
    """Take a seat where one is needed, and get a lease. Sending the same start again is safe and changes nothing."""
    service = service_of(request)
    address = schemas.caller_address(request, service.settings.trusted_hops)
    try:
        outcome = await service.sessions.start(body.value(), address)
    except TokenError as error:
        return problems.not_genuine("license-invalid", error)
    if not isinstance(outcome, Running):
        return problems.refusal(outcome)
    return _json(schemas.RunningReply.of(outcome, service.settings), 200 if outcome.repeat else 201)


@router.put(
    "/sessions/{session}/heartbeat",
    response_model=schemas.RunningReply,
    responses=problems.documented(
        "lease-invalid", Refusal.SUSPENDED, Refusal.EXPIRED, Refusal.RECALLED, "session-gone", "storage-unavailable"
    ),
    summary="A program still runs",
    openapi_extra=schemas.asks_for("lease"),
)
async def session_heartbeat(session_id: SessionId, body: schemas.HeartbeatBody, request: Request) -> Response:
    """Renew the lease. On `session-gone`, start again with a new session id."""
    service = service_of(request)
    try:
        outcome = await service.sessions.heartbeat(schemas.bearer_token(request), session_id, body.nonce)
    except TokenError as error:
        return problems.not_genuine("lease-invalid", error)
    if not isinstance(outcome, Running):
        return problems.refusal(outcome)
    return _json(schemas.RunningReply.of(outcome, service.settings))


@router.delete(
    "/sessions/{session}",
    status_code=204,
    responses=problems.documented("lease-invalid", "storage-unavailable"),
    summary="A program ends",
    openapi_extra=schemas.asks_for("lease"),
)
async def session_end(session_id: SessionId, request: Request) -> Response:
    """Give the seat back. Also fine when the session has ended before."""
    try:
        await service_of(request).sessions.end(schemas.bearer_token(request), session_id)
    except TokenError as error:
        return problems.not_genuine("lease-invalid", error)
    return Response(status_code=204)


@router.post(
    "/sessions/{session}/ended",
    status_code=204,
    responses=problems.documented("lease-invalid", "storage-unavailable"),
    summary="A program tells afterwards until when it ran",
    openapi_extra=schemas.asks_for("lease"),
)
async def session_ended(session_id: SessionId, body: schemas.EndedBody, request: Request) -> Response:
    """Tell until when a program ran whose session had ended or lapsed without it. An active session is ended.

    Also fine when the session is not found, or a later time was told before.
    """
    service = service_of(request)
    try:
        lease = service.sessions.authenticated(schemas.bearer_token(request), session_id)
    except TokenError as error:
        return problems.not_genuine("lease-invalid", error)
    await service.late_ends.hear(lease, body.ran_until)
    return Response(status_code=204)


@router.get(
    "/sessions/{session}",
    response_model=schemas.SessionReply,
    responses=problems.documented("lease-invalid", "session-gone", "storage-unavailable"),
    summary="What the register holds on a program that runs",
    openapi_extra=schemas.asks_for("lease"),
)
async def session_read(session_id: SessionId, request: Request) -> Response:
    """All columns of the session's row: pseudonyms and times, and nothing else, because there is nothing else.

    After the session's end the answer is `session-gone`; the row is kept for a year.
    """
    try:
        outcome = await service_of(request).sessions.read(schemas.bearer_token(request), session_id)
    except TokenError as error:
        return problems.not_genuine("lease-invalid", error)
    return problems.refusal(outcome) if isinstance(outcome, Gone) else _json(schemas.SessionReply.of(outcome))


@router.post(
    "/licenses/current",
    response_model=schemas.CurrentReply,
    responses={
        204: {"description": "The file that was sent is the newest, none is kept, or it does not count any more"},
        **problems.documented("license-invalid", "storage-unavailable"),
    },
    summary="A program asks for the newest file of its license",
)
async def license_current(body: schemas.CurrentBody, request: Request) -> Response:
    """Send the file that is in force to a program that has an older one; the older one may have expired."""
    service = service_of(request)
    try:
        license = read_license(body.license, service.settings.issuer_keys)
    except TokenError as error:
        return problems.not_genuine("license-invalid", error)
    newest = await service.files.newer(license)
    if not isinstance(newest, SignedFile):
        return Response(status_code=204)
    return _json(schemas.CurrentReply(license=newest.token, serial=newest.license.serial))


@router.get(
    "/health",
    response_model=schemas.Health,
    responses=problems.documented("storage-unavailable"),
    summary="Whether the service can reach its store",
)
async def health(request: Request) -> Response:
    """Answer 200 where programs can start, 503 where they cannot."""
    service = service_of(request)
    if not await service.healthy():
        return problems.problem("storage-unavailable")
    region = service.settings.region or "local"
    return _json(schemas.Health(status="ok", region=region, version=licensing.__version__))
