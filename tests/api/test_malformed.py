"""Malformed input of every kind gets a problem reply of the 4xx family, and nothing of it comes back."""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from licensing.crypto.pseudonyms import base64url
from tests import factories
from tests.api.client import Api, assert_problem
from tests.stores import StorageCalls

Issue = Callable[..., str]

CANARY: Final = "canary-4711"
SESSION: Final = "6f2b9c1e-0d54-4f0e-9a3e-2f8f1f0c7a11"
JSON: Final = {"Content-Type": "application/json"}


def fields(**changes: Any) -> dict[str, Any]:
    """The fields of a start that is well-formed, though its license is not genuine."""
    return {**factories.start_body("not.genuine."), **changes}


def without(name: str) -> dict[str, Any]:
    """Such a start without a field."""
    return {key: value for key, value in fields().items() if key != name}


WRONG: Final[dict[str, dict[str, Any]]] = {
    "an unknown field": {CANARY: 1},
    "an unknown field that is one of Python's": {"__class__": CANARY},
    "the name of the user": {"username": CANARY},
    "a license of another type": {"license": {CANARY: 1}},
    "an empty license": {"license": ""},
    "a license that is null": {"license": None},
    "a lone surrogate": {"license": "\ud800"},
    "a session that is no UUID": {"session": CANARY},
    "a session in braces": {"session": f"{{{SESSION}}}"},
    "a session without hyphens": {"session": SESSION.replace("-", "")},
    "a session with a line break": {"session": SESSION + "\n"},
    "a session with other digits": {"session": SESSION.replace("6", "٦")},
    "a session with a key's separator": {"session": f"{SESSION[:-1]}:"},
    "a hash that is too short": {"user": "A" * 42},
    "a hash that is too long": {"host": "A" * 44},
    "a hash of other characters": {"user": "+" * 43},
    "a hash with a line break": {"user": "A" * 42 + "\n"},
    "a name instead of a hash": {"user": CANARY},
    "a nonce that is too short": {"nonce": "n" * 15},
    "a nonce that is too long": {"nonce": "n" * 65},
    "a nonce that is a number": {"nonce": 4711},
    "a negative borrowing": {"borrow_seconds": -1},
    "a borrowing beyond a year": {"borrow_seconds": 366 * 86400 + 1},
    "a fractional borrowing": {"borrow_seconds": 0.5},
    "a borrowing as a text": {"borrow_seconds": "3600"},
    "a borrowing that is true": {"borrow_seconds": True},
    "an endless borrowing": {"borrow_seconds": float("inf")},
    "a borrowing that is no number": {"borrow_seconds": float("nan")},
    "a borrowing that is null": {"borrow_seconds": None},
}

BODIES: Final[dict[str, bytes]] = {
    "nothing": b"",
    "blank": b"  ",
    "not JSON": f"license={CANARY}".encode(),
    "half of it": json.dumps(fields()).encode()[:-9],
    "twice": json.dumps(fields()).encode() * 2,
    "null": b"null",
    "a number": b"4711",
    "a text": f'"{CANARY}"'.encode(),
    "a list": json.dumps([fields()]).encode(),
    "an empty object": b"{}",
    "deep lists": b"[" * 8000 + b"]" * 8000,
    "deep objects": b'{"a":' * 2500 + b"1" + b"}" * 2500,
    "a deep license": b'{"license":' + b"[" * 5000 + b"]" * 5000 + b"}",
    "not UTF-8": b'{"license": "\xff\xfe"}',
    "UTF-8 with a mark": b"\xef\xbb\xbf" + b"{",
    "a null byte": b'{"license": "\x00"}',
    "a number of 5000 digits": b'{"borrow_seconds": ' + b"9" * 5000 + b"}",
    "a duplicate key with a wrong value": b'{"nonce": 1, "nonce": 2}',
    **{f"no {name}": json.dumps(without(name)).encode() for name in fields()},
    **{name: json.dumps(fields(**changes)).encode() for name, changes in WRONG.items()},
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_a_start_that_is_not_as_the_protocol_says_is_malformed(
    api: Api, storage_calls: StorageCalls, body: bytes
) -> None:
    mark = await storage_calls.mark()

    reply = await api.send("POST", "/sessions", content=body, headers=JSON)

    assert_problem(reply, "malformed-request", 400)
    assert CANARY not in reply.text
    assert await storage_calls.since(mark) == []


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"{}", b'{"nonce": null}', b'{"nonce": "short"}', b'{"nonce": "0123456789abcdef", "x": 1}'],
)
async def test_a_heartbeat_that_is_not_as_the_protocol_says_is_malformed(api: Api, issue: Issue, body: bytes) -> None:
    session, lease = await api.begin(issue())
    headers = {**JSON, **factories.bearer(lease)}

    reply = await api.send("PUT", f"/sessions/{session}/heartbeat", content=body, headers=headers)

    assert_problem(reply, "malformed-request", 400)


@pytest.mark.parametrize(
    "media_type", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "/"]
)
async def test_a_body_that_does_not_say_it_is_json_is_malformed(api: Api, issue: Issue, media_type: str) -> None:
    body = json.dumps(factories.start_body(issue())).encode()

    reply = await api.send("POST", "/sessions", content=body, headers={"Content-Type": media_type})

    assert_problem(reply, "malformed-request", 400)


async def test_a_key_that_comes_twice_counts_once(api: Api, issue: Issue) -> None:
    body = json.dumps(factories.start_body(issue())).encode()

    reply = await api.send("POST", "/sessions", content=b'{"nonce": "0123456789abcdef", ' + body[1:], headers=JSON)

    assert reply.status_code == 201


@pytest.mark.parametrize("method", ["GET", "DELETE"])
@pytest.mark.parametrize(
    "junk",
    [
        CANARY,
        SESSION[:-1],
        SESSION + "0",
        SESSION.replace("-", ""),
        f"{{{SESSION}}}",
        "%00",
        "%0A",
        "%ED%A0%80",
        "..%2f",
        "~" * 2000,
    ],
)
async def test_a_path_with_junk_for_a_session_is_malformed_or_leads_nowhere(api: Api, method: str, junk: str) -> None:
    reply = await api.send(method, f"/sessions/{junk}", headers=factories.bearer(CANARY))

    assert reply.json()["code"] in ("malformed-request", "not-found")
    assert CANARY not in reply.text


async def test_a_query_is_ignored(api: Api) -> None:
    assert (await api.send("GET", f"/health?{CANARY}=%ff&x=%00")).status_code == 200


@pytest.mark.parametrize("path", ["", "/", "/session", "/sessions/", f"/sessions/{SESSION}/", "/health/", f"/{CANARY}"])
async def test_an_unknown_path_is_not_found(api: Api, path: str) -> None:
    reply = await api.send("GET", path)

    assert_problem(reply, "not-found", 404)
    assert CANARY not in reply.text


async def test_outside_of_api_there_is_nothing(api: Api) -> None:
    assert_problem(await api.http.get("/"), "not-found", 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/sessions", "POST"),
        ("PUT", "/sessions", "POST"),
        ("OPTIONS", "/sessions", "POST"),
        (CANARY, "/sessions", "POST"),
        ("POST", f"/sessions/{SESSION}/heartbeat", "PUT"),
        ("POST", "/health", "GET"),
        ("DELETE", "/docs", "GET"),
    ],
)
async def test_a_wrong_method_gets_the_right_one(api: Api, method: str, path: str, allowed: str) -> None:
    reply = await api.send(method, path)

    assert_problem(reply, "method-not-allowed", 405, allow=allowed)
    assert CANARY not in reply.text


# Size.


async def chunks(body: bytes) -> AsyncIterator[bytes]:
    """A body in pieces, whose length is not sent first."""
    for start in range(0, len(body), 1000):
        yield body[start : start + 1000]


def of_size(license: str, size: int) -> bytes:
    """A start with blanks up to a size."""
    return json.dumps(factories.start_body(license)).encode().ljust(size)


@pytest.mark.parametrize("sent", [lambda body: body, chunks], ids=["Content-Length", "in chunks"])
async def test_16_kib_are_let_through_and_one_byte_more_is_too_large(
    api: Api, issue: Issue, sent: Callable[[bytes], Any]
) -> None:
    license = issue(seats=2)

    fits = await api.send("POST", "/sessions", content=sent(of_size(license, 16_384)), headers=JSON)
    too_large = await api.send("POST", "/sessions", content=sent(of_size(license, 16_385)), headers=JSON)

    assert fits.status_code == 201
    assert_problem(too_large, "request-too-large", 413)


@pytest.mark.parametrize("length", ["16385", "9" * 5000])
async def test_a_length_that_is_too_large_is_refused_before_the_body_comes(api: Api, length: str) -> None:
    async def never() -> AsyncIterator[bytes]:
        raise AssertionError("the body was asked for")
        yield b""

    reply = await api.send("POST", "/sessions", content=never(), headers={**JSON, "Content-Length": length})

    assert_problem(reply, "request-too-large", 413)


@pytest.mark.parametrize("length", ["1", "0", "-1", "1e3", "x"])
async def test_a_length_that_is_not_true_does_not_let_more_in(api: Api, issue: Issue, length: str) -> None:
    body = of_size(issue(), 16_385)

    reply = await api.send("POST", "/sessions", content=chunks(body), headers={**JSON, "Content-Length": length})

    assert_problem(reply, "request-too-large", 413)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_a_body_where_none_is_expected_does_no_harm(api: Api, issue: Issue, method: str) -> None:
    session, lease = await api.begin(issue())

    reply = await api.send(method, f"/sessions/{session}", content=b"{" * 100, headers=factories.bearer(lease))

    assert reply.status_code in (200, 204)


async def test_a_caller_who_hangs_up_in_the_middle_is_served_nothing_and_breaks_nothing(api: Api) -> None:
    body = json.dumps(fields()).encode()
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": body[:50], "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Mapping[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if len(messages) > 1 else messages[0]

    async def send(message: Mapping[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/sessions",
        "raw_path": b"/api/sessions",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
        "client": None,
    }
    await app_of(api)(scope, receive, send)

    assert [message["status"] for message in sent if message["type"] == "http.response.start"] in ([], [400])


def app_of(api: Api) -> Callable[..., Any]:
    """The app that a caller calls."""
    transport: Any = api.http._transport
    app: Callable[..., Any] = transport.app
    return app


# Anything at all.

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=20,
)
token = st.builds(
    lambda header, payload, signature: ".".join((header, payload, signature)),
    st.dictionaries(st.sampled_from(["alg", "kid", "typ", "crit", "b64", "zip"]), anything, max_size=4).map(
        lambda header: base64url(json.dumps(header).encode())
    ),
    st.binary(max_size=50).map(base64url),
    st.binary(max_size=80).map(base64url),
)
start_bodies = anything | st.builds(
    lambda changes: {**fields(), **changes},
    st.dictionaries(
        st.sampled_from(["license", "session", "user", "host", "nonce", "borrow_seconds", "other"]),
        anything | token,
        max_size=3,
    ),
)
header_values = st.binary(max_size=80).filter(lambda value: value.strip() == value)
headers_of_any_kind = st.dictionaries(
    st.sampled_from(
        [b"authorization", b"content-type", b"x-forwarded-for", b"host", b"accept", b"x-http-method-override"]
    ),
    header_values | token.map(lambda text: b"Bearer " + text.encode()),
    max_size=4,
)
few = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@few
@given(body=start_bodies | st.binary(max_size=200), headers=headers_of_any_kind)
async def test_no_start_whatever_it_is_gets_anything_but_a_4xx_problem(
    api: Api, body: Any, headers: dict[bytes, bytes]
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {b"content-type": b"application/json", **headers}

    reply = await api.send("POST", "/sessions", content=content, headers=headers)

    assert reply.status_code in (400, 401), reply.text
    assert reply.headers["content-type"] == "application/problem+json"


@few
@given(token=token | header_values.map(lambda value: value.decode("latin-1")), path=st.text(min_size=1, max_size=40))
async def test_no_lease_and_no_path_whatever_they_are_get_anything_but_a_4xx_problem(
    api: Api, token: str, path: str
) -> None:
    headers = {b"authorization": b"Bearer " + token.encode("latin-1")}

    replies = [
        await api.send("GET", f"/sessions/{SESSION}", headers=headers),
        await api.send("DELETE", "/sessions/" + quote(path, safe="", errors="replace"), headers=headers),
    ]

    assert replies[0].status_code == 401
    assert replies[1].status_code in (400, 404, 405)
