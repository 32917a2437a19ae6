"""No request costs the service much more than a plain refusal, whatever it is made of (by processor time)."""

import gc
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from licensing.crypto.pseudonyms import base64url
from tests import factories
from tests.api.client import Api

MOST: Final = 50
"""How many plain refusals a request may cost."""

TRIES: Final = 7
JSON: Final = {"Content-Type": "application/json"}
SESSION: Final = factories.new_session_id()

Request = tuple[str, str, Mapping[str, Any]]


def post(body: bytes, **headers: str) -> Request:
    return ("POST", "/sessions", {"content": body, "headers": {**JSON, **headers}})


def fields(**changes: Any) -> bytes:
    return json.dumps({**factories.start_body("a.b.c"), **changes}).encode()


def full(piece: bytes, before: bytes = b"", after: bytes = b"") -> bytes:
    """A body of 16 KiB out of many pieces."""
    return before + piece * ((16_384 - len(before) - len(after)) // len(piece)) + after


def token(header: Any, payload: bytes = b"{}", size: int = 0) -> str:
    """The shape of a signed text."""
    return f"{base64url(json.dumps(header).encode())}.{base64url(payload.ljust(size))}.{base64url(bytes(64))}"


MANY_FIELDS: Final = json.dumps({f"{number:x}": 0 for number in range(1700)}, separators=(",", ":")).encode()
HOSTILE: Final[dict[str, Request]] = {
    "thousands of unknown fields": post(MANY_FIELDS),
    "thousands of fields that come twice": post(full(b'"nonce":1,', b"{", b'"nonce":1}')),
    "deep lists": post(full(b"[")),
    "deep objects": post(full(b'{"a":')),
    "a long list": post(full(b"0,", b"[", b"0]")),
    "a number of 16,000 digits": post(full(b"9", b'{"borrow_seconds":', b"}")),
    "a long nonce": post(fields(nonce="n" * 15_000)),
    "a long session": post(fields(session="0" * 15_000)),
    "a long hash": post(fields(user="A" * 15_000)),
    "escapes": post(full(b"\\u0000", b'{"license":"', b'"}')),
    "a long token": post(fields(license=token({"alg": "EdDSA"}, size=11_000))),
    "a token of dots": post(fields(license="." * 15_000)),
    "a token with a deep header": post(fields(license=f"{base64url(b'[' * 10_000)}.e30.AA")),
    "a token with a long kid": post(fields(license=token({"alg": "EdDSA", "kid": "k" * 9_000}))),
    "a lease of dots": ("GET", f"/sessions/{SESSION}", {"headers": factories.bearer("." * 15_000)}),
    "a lease with a deep header": (
        "GET",
        f"/sessions/{SESSION}",
        {"headers": factories.bearer(f"{base64url(b'[' * 10_000)}.e30.AA")},
    ),
    "a long path": ("GET", f"/sessions/{'~' * 15_000}", {}),
    "a path of many parts": ("GET", "/a" * 7_000, {}),
    "a long query": ("GET", f"/usage/data?{'a&' * 15_000}", {}),
    "a query of many dates": ("GET", f"/usage/data?{'from=2026-01-01&' * 1_500}", {}),
    "many addresses": post(fields(), **{"X-Forwarded-For": "1," * 15_000}),
    "the contract": ("GET", "/openapi.json", {}),
    "the docs": ("GET", "/docs", {}),
    "the usage page": ("GET", "/usage", {}),
}


async def cost(api: Api, request: Request) -> float:
    """The processor time of the cheapest of some tries, in seconds; the request as httpx makes it is not in it."""
    method, path, options = request
    app: Callable[..., Any] = api.http._transport.app  # type: ignore[attr-defined]
    sent = api.http.build_request(method, f"/api{path}", **options)
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": sent.url.path,
        "raw_path": sent.url.raw_path.partition(b"?")[0],
        "query_string": sent.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in sent.headers.raw],
        "server": ("test", 80),
        "client": ("203.0.113.9", 50_000),
    }

    async def once() -> float:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": sent.content, "more_body": False}

        async def send(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                assert message["status"] < 500

        began = time.thread_time()
        await app(scope, receive, send)
        return time.thread_time() - began

    gc.collect()
    return min([await once() for _ in range(TRIES)])


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
async def test_no_request_costs_as_much_as_fifty_refusals(api: Api, hostile: Request) -> None:
    refusal = await cost(api, post(fields()))
    factor = await cost(api, hostile) / refusal
    print(f"{factor:.1f} refusals of {refusal * 1e6:.0f} µs")
    assert factor < MOST
