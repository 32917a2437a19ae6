"""A caller of the app, who holds every single reply against the contract that the app publishes."""

import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any, Final

import httpx
from jsonschema import Draft202012Validator

from licensing.api.app import api, contract, create_app
from licensing.services.service import Service, utc_now
from licensing.settings import Settings
from tests import support

PROBLEM: Final = "application/problem+json"
ON_EVERY_REPLY: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}
SOCKET: Final = "203.0.113.9"


class Clock:
    """The present time, and `ahead` of it at will."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.ahead


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
        """Start a session; `support.start` makes such bodies."""
        return await self.send("POST", "/sessions", json=body, **options)

    async def heartbeat(self, session: str, lease: str, nonce: str | None = None) -> httpx.Response:
        """Say that a session still runs."""
        path, body = f"/sessions/{session}/heartbeat", {"nonce": nonce or support.new_nonce()}
        return await self.send("PUT", path, json=body, headers=support.bearer(lease))

    async def end(self, session: str, lease: str) -> httpx.Response:
        """End a session."""
        return await self.send("DELETE", f"/sessions/{session}", headers=support.bearer(lease))

    async def read(self, session: str, lease: str) -> httpx.Response:
        """Ask what the register holds on a session."""
        return await self.send("GET", f"/sessions/{session}", headers=support.bearer(lease))

    async def usage(self, token: str, **query: str) -> httpx.Response:
        """Ask for an organization's figures; `from_` is the first day."""
        parameters = {name.rstrip("_"): value for name, value in query.items()}
        return await self.send("GET", "/usage/data", headers=support.bearer(token), params=parameters)

    async def begin(self, license: str, **fields: Any) -> tuple[str, str]:
        """Start a session that must be granted; its id and its lease."""
        reply = await self.start(support.start(license, **fields))
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
    assert body.keys() - {"seats"} == {"type", "title", "status", "detail", "code"}
    assert ("seats" in body) == (code == "no-seat-available")
    assert (body["type"], body["status"]) == (f"urn:licensing:problem:{code}", status)
    assert body["title"]
    assert body["detail"].endswith(".")
    for name, value in headers.items():
        assert reply.headers[name.replace("_", "-")] == value
    if status == 401:
        assert reply.headers["www-authenticate"] == "Bearer"
    assert ("retry-after" in reply.headers) == (status in (409, 503))
    return body
