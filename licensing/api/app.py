"""The app: routes, problem replies and the contract as OpenAPI, inside the middleware."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from functools import cache
from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.types import ASGIApp

import licensing
from licensing.api import problems, schemas
from licensing.api.middleware import RequestMiddleware
from licensing.api.pages.docs import docs_page
from licensing.api.routes import router as sessions
from licensing.api.routes import starts
from licensing.api.usage import router as usage
from licensing.services.service import Service
from licensing.settings import Settings

GARBAGE_THRESHOLD: Final = 10_000
"""How many more containers are made than freed before a collection: more than 50 requests at once hold."""


def service_factory(environment: Mapping[str, str]) -> Callable[[], Service]:
    """A function that returns the one service of this process. Its first call makes it, on the caller's event loop.

    The settings, if there are any, are read at once, so that a service with bad ones does not start.

    Raises SettingsError if a setting is missing, malformed or weak.
    """
    has_settings = any(name.startswith("LICENSING_") or name == "REGION_NAME" for name in environment)
    settings = Settings.load(environment) if has_settings else None

    @cache
    def the_service() -> Service:
        service = Service(settings or Settings.load(environment))
        spare_garbage_collector()
        return service

    return the_service


def spare_garbage_collector() -> None:
    """Have garbage collection pass over all that was loaded, and come after more allocations, for this whole process.

    Otherwise it takes a twelfth of a heartbeat, and a full collection holds the event loop for 50 ms.
    """
    gc.freeze()
    gc.set_threshold(GARBAGE_THRESHOLD)


def create_app(service: Callable[[], Service], *, timers: bool = True) -> ASGIApp:
    """The app, which calls `service` when it starts. Without timers, it marks by itself that the service is alive."""
    return RequestMiddleware(api(service, timers=timers))


def local_app() -> ASGIApp:
    """The app for a local server, with the settings of this process's environment."""
    return create_app(service_factory(os.environ), timers=False)


class Api(FastAPI):
    """FastAPI without its outermost layers: unexpected errors and sizes of bodies are `RequestMiddleware`'s."""

    def build_middleware_stack(self) -> ASGIApp:
        """What each request passes through on its way to the routes."""
        return ExceptionMiddleware(AsyncExitStackMiddleware(self.router), self.exception_handlers)


def api(service: Callable[[], Service], *, timers: bool = True) -> FastAPI:
    """The app without the middleware."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        opened = service()
        marking = None if timers else asyncio.create_task(opened.ledger.keep_alive())
        yield
        if marking:
            marking.cancel()
        await opened.close()

    app = Api(
        title="Licensing",
        version=licensing.__version__,
        description="Floating seats and a register of use sessions that never learns who used the software.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        # Otherwise FastAPI passes the messages and variables of errors to OpenTelemetry, where that is set up.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        lifespan=lifespan,
        exception_handlers=problems.HANDLERS,
    )
    app.state.service = service
    # include_router would add a layer to every request.
    app.router.routes.extend([*starts.routes, *sessions.routes, *usage.routes, *router.routes])
    return app


router = APIRouter(prefix="/api")


@router.get("/openapi.json", summary="This contract", responses=problems.documented())
async def openapi(request: Request) -> Response:
    """The contract of this service, from its code."""
    return JSONResponse(contract(request.app))


@router.get("/docs", summary="This contract, for people", response_class=HTMLResponse, responses=problems.documented())
async def docs(request: Request) -> Response:
    """The contract as a page that loads nothing from anywhere."""
    html, policy = docs_page(contract(request.app))
    return HTMLResponse(html, headers={"Content-Security-Policy": policy})


@cache
def contract(app: FastAPI) -> dict[str, Any]:
    """FastAPI's OpenAPI document, corrected.

    FastAPI documents 422 replies, gives problems the media type of a success, and calls an optional parameter nullable.
    """
    document = app.openapi()
    document["components"]["securitySchemes"] = schemas.SECURITY_SCHEMES
    for operations in document["paths"].values():
        for operation in operations.values():
            operation["responses"].pop("422", None)
            for parameter in operation.get("parameters", ()):
                if choices := parameter["schema"].pop("anyOf", None):
                    (choice,) = (choice for choice in choices if choice != {"type": "null"})
                    parameter["schema"] |= choice
            for reply in operation["responses"].values():
                content = reply.get("content", {})
                if problems.MEDIA_TYPE in content:
                    examples = content.pop(problems.MEDIA_TYPE)
                    (model,) = content.values()  # under the media type of the operation's success
                    reply["content"] = {problems.MEDIA_TYPE: {**model, **examples}}
    for schema in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(schema, None)
    return document
