"""Callers of the app, over ASGI and through the Functions host. Each reply is checked against the published contract.

The host tries the HTTP functions in the alphabetical order of their names. The first whose template and methods fit
takes the request. Headers come in lower case, with those that Azure's front end adds.
"""

import importlib.util
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import azure.functions as func
import httpx
import pytest
from jsonschema import Draft202012Validator

from licensing.api.app import api, contract, create_app
from licensing.services.service import Service, utc_now
from licensing.settings import Settings
from tests.factories import bearer, new_nonce, start_body

PROBLEM: Final = "application/problem+json"
ON_EVERY_REPLY: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
SOCKET: Final = "203.0.113.9"
ROOT: Final = Path(__file__).parents[2]
NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
"""Where the clock stands that tests of present use share."""
CALLER: Final = "198.51.100.23"
NONE: Final[Mapping[str, str]] = {}


def never_asked() -> Service:
    """In place of a service where only the contract is wanted."""
    raise AssertionError("the contract needs no service")


class Contract:
    """The published OpenAPI document."""

    def __init__(self) -> None:
        self.document = contract(api(never_asked))

    def operations(self) -> dict[tuple[str, str], dict[str, Any]]:
        """All operations, by method and path."""
        return {
            (method.upper(), path): operation
            for path, operations in self.document["paths"].items()
            for method, operation in operations.items()
        }

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        """The operation that a request is for."""
        for (verb, template), operation in self.operations().items():
            if verb == method and re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", template), path):
                return operation
        return None

    def validator(self, schema: Mapping[str, Any]) -> Draft202012Validator:
        """What validates by a schema of the document."""
        return Draft202012Validator({**schema, "components": self.document["components"]})

    def check(self, method: str, path: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """Fail unless this reply is one that is documented, down to its body."""
        for name, value in ON_EVERY_REPLY.items():
            assert headers[name] == value
        operation = self.operation(method, path)
        media_type = headers.get("content-type", "").partition(";")[0]
        if operation is None:
            assert json.loads(body)["code"] in ("not-found", "method-not-allowed", "request-too-large")
            return
        assert str(status) in operation["responses"], f"{status} is not documented: {body!r}"
        reply = operation["responses"][str(status)]
        if not reply.get("content"):
            assert not body
            return
        assert media_type in reply["content"], f"{status} {media_type} is not documented"
        content = reply["content"][media_type]
        if media_type.endswith("json"):
            self.validator(content["schema"]).validate(json.loads(body))
        if media_type == PROBLEM:
            assert json.loads(body)["code"] in content["examples"], f"{body!r} is not documented"
        for name, header in reply.get("headers", {}).items():
            assert name in headers, f"{status} lacks {name}"
            if header["schema"]["type"] == "integer":
                assert headers[name].isdigit()


CONTRACT: Final = Contract()


class Api:
    """An app over a service of its own, and a caller at `SOCKET`."""

    def __init__(self, service: Service, http: httpx.AsyncClient) -> None:
        self.service = service
        self.http = http

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send a request; `path` is below /api."""
        return await self.http.request(method, f"/api{path}", **options)

    async def start(self, body: Mapping[str, Any], **options: Any) -> httpx.Response:
        """Start a session; `start_body` makes such bodies."""
        return await self.send("POST", "/sessions", json=body, **options)

    async def heartbeat(self, session_id: str, lease: str, nonce: str | None = None) -> httpx.Response:
        """Say that a session still runs."""
        path, body = f"/sessions/{session_id}/heartbeat", {"nonce": nonce or new_nonce()}
        return await self.send("PUT", path, json=body, headers=bearer(lease))

    async def end(self, session_id: str, lease: str) -> httpx.Response:
        """End a session."""
        return await self.send("DELETE", f"/sessions/{session_id}", headers=bearer(lease))

    async def ended(self, session_id: str, lease: str, ran_until: object) -> httpx.Response:
        """Tell until when a program ran."""
        path, body = f"/sessions/{session_id}/ended", {"ran_until": ran_until}
        return await self.send("POST", path, json=body, headers=bearer(lease))

    async def read(self, session_id: str, lease: str) -> httpx.Response:
        """Ask what the register holds on a session."""
        return await self.send("GET", f"/sessions/{session_id}", headers=bearer(lease))

    async def current(self, license_file: str) -> httpx.Response:
        """Ask for the newest file of a license."""
        return await self.send("POST", "/licenses/current", json={"license": license_file})

    async def usage(self, token: str, **query: str) -> httpx.Response:
        """Ask for an organization's totals; `from_` is the first day."""
        parameters = {name.rstrip("_"): value for name, value in query.items()}
        return await self.send("GET", "/usage/data", headers=bearer(token), params=parameters)

    async def now(self, token: str) -> httpx.Response:
        """Ask how an organization's licenses stand now."""
        return await self.send("GET", "/usage/now", headers=bearer(token))

    async def metrics(self, token: str) -> httpx.Response:
        """Ask for an organization's metrics."""
        return await self.send("GET", "/usage/metrics", headers=bearer(token))

    async def begin(self, license_file: str, **fields: Any) -> tuple[str, str]:
        """Start a session that must be granted; its id and its lease."""
        reply = await self.start(start_body(license_file, **fields))
        assert reply.status_code == 201, reply.text
        return reply.json()["session"], reply.json()["lease"]


async def _checked(reply: httpx.Response) -> None:
    await reply.aread()
    CONTRACT.check(reply.request.method, reply.request.url.path, reply.status_code, reply.headers, reply.content)


@asynccontextmanager
async def running(
    settings: Settings, clock: Callable[[], datetime] = utc_now, socket: str = SOCKET
) -> AsyncIterator[Api]:
    """An app under these settings, called from the address `socket`."""
    service = Service(settings, clock)
    transport = httpx.ASGITransport(create_app(lambda: service), client=(socket, 50000))
    hooks = {"response": [_checked]}
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://test", event_hooks=hooks) as http:
            yield Api(service, http)
    finally:
        await service.close()


def assert_problem(reply: httpx.Response, code: str, status: int, **headers: str) -> dict[str, Any]:
    """Fail unless a reply is exactly this problem; its body."""
    body: dict[str, Any] = reply.json()
    assert (reply.status_code, body["code"]) == (status, code), reply.text
    assert reply.headers["content-type"] == PROBLEM
    assert body.keys() - {"seats", "position", "policy"} == {"type", "title", "status", "detail", "code"}
    of_a_start = (reply.request.method, reply.request.url.path) == ("POST", "/api/sessions")
    assert ("policy" in body) == (of_a_start and code != "request-too-large")
    assert ("seats" in body) == ("position" in body) == (code == "no-seat-available")
    assert (body["type"], body["status"]) == (f"urn:licensing:problem:{code}", status)
    assert body["title"]
    assert body["detail"].endswith(".")
    for name, value in headers.items():
        assert reply.headers[name.replace("_", "-")] == value
    if status == 401:
        assert reply.headers["www-authenticate"] == "Bearer"
    assert ("retry-after" in reply.headers) == (status in (409, 503))
    return body


# The Functions host.


def load(environment: Mapping[str, str], patch: pytest.MonkeyPatch) -> ModuleType:
    """`function_app` as a worker loads it, anew, with these settings."""
    for name, value in environment.items():
        patch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("function_app_under_test", ROOT / "function_app.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Context(func.Context):
    """What the worker tells a function about its invocation."""

    def __init__(self, name: str) -> None:
        self._name = name

    invocation_id = "8f5f2b5e-6d9b-4e0e-bb8c-0d2a1e3b1c11"
    function_directory = str(ROOT)
    trace_context: Any = None
    retry_context: Any = None
    thread_local_storage: Any = None

    @property
    def function_name(self) -> str:
        return self._name


class Trigger:
    """A function with an HTTP trigger."""

    def __init__(self, function: Any) -> None:
        trigger = function.get_trigger()
        self.name: str = function.get_function_name()
        self.route: str = trigger.route
        self.methods = None if trigger.methods is None else {method.value for method in trigger.methods}
        self.handler = function.get_user_function()

    def takes(self, method: str, path: str) -> bool:
        """Whether a request fits."""
        fits = re.sub(r"\\\{\\\*\w+\\\}", ".*", re.escape(self.route))
        fits = re.sub(r"\\\{\w+\\\}", "[^/]+", fits)
        return (self.methods is None or method in self.methods) and bool(re.fullmatch(fits, path))


def triggers(module: ModuleType) -> list[Trigger]:
    """The HTTP functions in the order in which the host tries them."""
    found = [Trigger(function) for function in module.app.get_functions() if is_http(function)]
    return sorted(found, key=lambda trigger: trigger.name.lower())


def is_http(function: Any) -> bool:
    """Whether a function has an HTTP trigger."""
    return bool(function.get_trigger().type == "httpTrigger")


class Host:
    """Calls a loaded app."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.triggers = triggers(module)
        self.invoked: set[str] = set()

    async def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = NONE
    ) -> func.HttpResponse:
        """Send a request to a path below /api; the reply has been held against the contract."""
        place = path.partition("?")[0]
        trigger = next(trigger for trigger in self.triggers if trigger.takes(method, place.removeprefix("/")))
        self.invoked.add(trigger.name)
        request = func.HttpRequest(
            method=method,
            url=f"https://licensing.azurewebsites.net/api{path}",
            headers={**azure_headers(body), **headers},
            body=body,
        )
        reply: func.HttpResponse = await trigger.handler(request, Context(trigger.name))
        CONTRACT.check(method, f"/api{place}", reply.status_code, reply.headers, reply.get_body())
        return reply


def azure_headers(body: bytes) -> dict[str, str]:
    """The headers with which a request arrives in the worker."""
    return {
        "accept": "*/*",
        "host": "licensing.azurewebsites.net",
        "user-agent": "fluidit-water/5.1",
        "max-forwards": "9",
        "x-arr-log-id": "0c0f3c0e-0a0e-4f5e-8a71-2f6cf8ab8b7d",
        "client-ip": f"{CALLER}:50123",
        "disguised-host": "licensing.azurewebsites.net",
        "x-site-deployment-id": "licensing",
        "was-default-hostname": "licensing.azurewebsites.net",
        "x-forwarded-proto": "https",
        "x-appservice-proto": "https",
        "x-arr-ssl": "2048|256|CN=Microsoft Azure RSA TLS Issuing CA 03|CN=*.azurewebsites.net",
        "x-forwarded-tlsversion": "1.3",
        "x-forwarded-for": f"{CALLER}:50123",
        "x-original-url": "/api",
        "x-waws-unencoded-url": "/api",
        **({"content-length": str(len(body)), "content-type": "application/json"} if body else {}),
    }
