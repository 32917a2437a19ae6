"""The published contract is true: all that it documents can be had, and (`Contract.check`) nothing else comes."""

import base64
import hashlib
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from html import escape
from typing import Any, Final

import azure.functions as func
import httpx
import pytest
from jsonschema import Draft202012Validator

from licensing.api import app as app_module
from licensing.api import problems
from licensing.api import usage as usage_module
from licensing.api.app import create_app
from licensing.api.functions import Bridge
from licensing.cli.home import Home, local_storage
from licensing.cli.processes import free_port
from licensing.rules.requests import Recall
from licensing.storage import retry
from tests import factories
from tests.api.client import CONTRACT, PROBLEM, Api, Context, running
from tests.factories import OffsetClock

START: Final = ("POST", "/api/sessions")
HEARTBEAT: Final = ("PUT", "/api/sessions/{session}/heartbeat")
END: Final = ("DELETE", "/api/sessions/{session}")
ENDED: Final = ("POST", "/api/sessions/{session}/ended")
READ: Final = ("GET", "/api/sessions/{session}")
PAGE: Final = ("GET", "/api/usage")
USAGE: Final = ("GET", "/api/usage/data")
NOW: Final = ("GET", "/api/usage/now")
METRICS: Final = ("GET", "/api/usage/metrics")
CURRENT: Final = ("POST", "/api/licenses/current")
HEALTH: Final = ("GET", "/api/health")
OPENAPI: Final = ("GET", "/api/openapi.json")
DOCS: Final = ("GET", "/api/docs")
WITH_TOKEN: Final = (USAGE, NOW, METRICS)
WITH_LEASE: Final = (HEARTBEAT, END, ENDED, READ)
BODIES: Final = {HEARTBEAT: {"nonce": "n" * 16}, ENDED: {"ran_until": "2026-11-28T10:00:00Z"}}

Operation = tuple[str, str]


@dataclass
class Setup:
    """Where every reply can be provoked."""

    home: Home
    api: Api
    clock: OffsetClock
    unreachable: Api
    patch: pytest.MonkeyPatch

    @property
    def cut_off(self) -> Api:
        """An app that cannot reach its store, and does not try for long."""
        self.patch.setattr(retry, "BATCH_SECONDS", 0.1)
        return self.unreachable

    def license(self, **claims: Any) -> str:
        """A license with any claims."""
        return factories.issue(self.home, **claims)

    async def call(self, operation: Operation, session_id: str, lease: str, api: Api | None = None) -> httpx.Response:
        """Make a well-formed call other than a start."""
        method, path = operation
        path = path.replace("{session}", session_id).removeprefix("/api")
        return await (api or self.api).send(method, path, headers=factories.bearer(lease), json=BODIES.get(operation))


@pytest.fixture
async def setup(home: Home, azurite: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Setup]:
    """An app with a clock that can be put forward, and one that cannot reach its store."""
    clock = OffsetClock()
    settings = factories.settings(home, azurite, LICENSING_STATUS_CACHE_SECONDS="0")
    async with (
        running(settings, clock) as api,
        running(factories.settings(home, local_storage(free_port()))) as unreachable,
    ):
        yield Setup(home, api, clock, unreachable, monkeypatch)


Provoke = Callable[[Setup, Operation], Awaitable[httpx.Response]]


# Starts.


async def started(setup: Setup, _: Operation) -> httpx.Response:
    return await setup.api.start(factories.start_body(setup.license()))


async def repeated(setup: Setup, _: Operation) -> httpx.Response:
    body = factories.start_body(setup.license())
    await setup.api.start(body)
    return await setup.api.start(body)


async def full(setup: Setup, _: Operation) -> httpx.Response:
    return await setup.api.start(factories.start_body(setup.license(seats=0)))


def under(**claims: Any) -> Provoke:
    """A start under a license with such claims; times are seconds from now."""

    async def start(setup: Setup, _: Operation) -> httpx.Response:
        now = int(setup.clock().timestamp())
        moments = {name: now + claims[name] for name in ("nbf", "exp") if name in claims}
        return await setup.api.start(factories.start_body(setup.license(**(claims | moments))))

    return start


async def forged(setup: Setup, _: Operation) -> httpx.Response:
    return await setup.api.start(factories.start_body(setup.license()[:-4]))


async def suspended(setup: Setup, _: Operation) -> httpx.Response:
    id = factories.new_license_id()
    license = setup.license(sub=id, seats=2)
    await setup.api.begin(license)
    await setup.api.service.ledger.set_status(id, suspended=True)
    return await setup.api.start(factories.start_body(license))


async def superseded(setup: Setup, _: Operation) -> httpx.Response:
    id = factories.new_license_id()
    await setup.api.begin(setup.license(sub=id, serial=2, oldest=2))
    return await setup.api.start(factories.start_body(setup.license(sub=id, serial=1)))


async def started_again_after_a_recall(setup: Setup, _: Operation) -> httpx.Response:
    id = factories.new_license_id()
    body = factories.start_body(setup.license(sub=id))
    await setup.api.start(body)
    await setup.api.service.ledger.submit(id, Recall(body["session"]))
    return await setup.api.start(body)


async def started_without_store(setup: Setup, _: Operation) -> httpx.Response:
    return await setup.cut_off.start(factories.start_body(setup.license()))


# Calls with a lease.


async def running_session(setup: Setup, operation: Operation) -> httpx.Response:
    return await setup.call(operation, *await setup.api.begin(setup.license()))


async def with_another_lease(setup: Setup, operation: Operation) -> httpx.Response:
    _, lease = await setup.api.begin(setup.license())
    return await setup.call(operation, factories.new_session_id(), lease)


async def after_the_end(setup: Setup, operation: Operation) -> httpx.Response:
    session, lease = await setup.api.begin(setup.license())
    await setup.api.end(session, lease)
    return await setup.call(operation, session, lease)


async def after_a_suspension(setup: Setup, operation: Operation) -> httpx.Response:
    id = factories.new_license_id()
    session, lease = await setup.api.begin(setup.license(sub=id))
    await setup.api.service.ledger.set_status(id, suspended=True)
    return await setup.call(operation, session, lease)


async def after_a_recall(setup: Setup, operation: Operation) -> httpx.Response:
    id = factories.new_license_id()
    session, lease = await setup.api.begin(setup.license(sub=id))
    await setup.api.service.ledger.submit(id, Recall(session))
    return await setup.call(operation, session, lease)


async def after_the_license_expired(setup: Setup, operation: Operation) -> httpx.Response:
    session, lease = await setup.api.begin(setup.license())
    setup.clock.ahead = timedelta(days=31)
    return await setup.call(operation, session, lease)


async def without_store(setup: Setup, operation: Operation) -> httpx.Response:
    session, lease = await setup.api.begin(setup.license())
    return await setup.call(operation, session, lease, setup.cut_off)


# Calls with a license file.


async def with_an_older_file(setup: Setup, _: Operation) -> httpx.Response:
    id = factories.new_license_id()
    await setup.api.begin(setup.license(sub=id, serial=2))
    return await setup.api.current(setup.license(sub=id, serial=1))


async def with_the_newest_file(setup: Setup, _: Operation) -> httpx.Response:
    return await setup.api.current(setup.license())


async def with_a_forged_file(setup: Setup, _: Operation) -> httpx.Response:
    return await setup.api.current(setup.license()[:-4])


async def with_a_file_without_store(setup: Setup, _: Operation) -> httpx.Response:
    return await setup.cut_off.current(setup.license())


# Calls with a report token.


def with_token(**claims: Any) -> Provoke:
    """A call with a token that has such claims."""

    async def ask(setup: Setup, operation: Operation) -> httpx.Response:
        organization = factories.new_id("org")
        await setup.api.begin(setup.license(organization={"id": organization, "name": "Acme Water Oy"}))
        return await setup.call(operation, "", factories.report_token(setup.home, organization, **claims))

    return ask


async def usage_without_store(setup: Setup, operation: Operation) -> httpx.Response:
    return await setup.call(operation, "", factories.report_token(setup.home, "acme"), setup.cut_off)


# Any call.


async def plain(setup: Setup, operation: Operation) -> httpx.Response:
    return await setup.call(operation, "", "")


async def plain_without_store(setup: Setup, operation: Operation) -> httpx.Response:
    return await setup.call(operation, "", "", setup.cut_off)


async def malformed(setup: Setup, operation: Operation) -> httpx.Response:
    """Junk in the body or the path; where there is neither, a header that the Functions middleware cannot read."""
    method, path = operation
    if operation in (START, CURRENT, *WITH_LEASE):
        return await setup.api.send(method, path.removeprefix("/api").replace("{session}", "junk"))
    headers = {"x-forwarded-port": "9" * 5000}
    request = func.HttpRequest(method, f"https://test{path}", headers=headers, body=b"")
    reply = await Bridge(create_app(lambda: setup.api.service)).handle_async(request, Context("any"))
    CONTRACT.check(method, path, reply.status_code, reply.headers, reply.get_body())
    return httpx.Response(reply.status_code, headers=dict(reply.headers), content=reply.get_body())


async def too_large(setup: Setup, operation: Operation) -> httpx.Response:
    method, path = operation
    path = path.removeprefix("/api").replace("{session}", factories.new_session_id())
    return await setup.api.send(method, path, content=b" " * 16_385)


async def unforeseen(setup: Setup, operation: Operation) -> httpx.Response:
    def broken(*_: object) -> None:
        raise RuntimeError

    for name in ("start", "heartbeat", "end", "read", "authenticated"):
        setup.patch.setattr(setup.api.service.sessions, name, broken)
    setup.patch.setattr(setup.api.service, "healthy", broken)
    setup.patch.setattr(app_module, "contract", broken)
    setup.patch.setattr(usage_module, "usage_page", broken)
    setup.patch.setattr(usage_module, "read_report_pass", broken)
    setup.patch.setattr(setup.api.service.files, "newer", broken)
    if operation == START:
        return await started(setup, operation)
    if operation == CURRENT:
        return await with_the_newest_file(setup, operation)
    return await setup.call(operation, factories.new_session_id(), "")


DAY: Final = factories.DAY
OTHER: Final = "x" * 43
ANY: Final[dict[str, Provoke]] = {
    "malformed-request": malformed,
    "request-too-large": too_large,
    "service-unavailable": unforeseen,
}
LEASED: Final[dict[str, Provoke]] = {**ANY, "lease-invalid": with_another_lease, "storage-unavailable": without_store}
PROVOKED: Final[dict[Operation, dict[str, Provoke]]] = {
    START: {
        **ANY,
        "201": started,
        "200": repeated,
        "license-invalid": forged,
        "license-not-yet-valid": under(nbf=DAY),
        "license-expired": under(nbf=-2 * DAY, exp=-DAY),
        "license-suspended": suspended,
        "license-superseded": superseded,
        "seat-recalled": started_again_after_a_recall,
        "user-not-allowed": under(users=[OTHER]),
        "host-not-allowed": under(hosts=[OTHER]),
        "network-not-allowed": under(networks=["192.0.2.0/24"]),
        "no-seat-available": full,
        "storage-unavailable": started_without_store,
    },
    HEARTBEAT: {
        **LEASED,
        "200": running_session,
        "license-suspended": after_a_suspension,
        "license-expired": after_the_license_expired,
        "seat-recalled": after_a_recall,
        "session-gone": after_the_end,
    },
    END: {**LEASED, "204": running_session},
    ENDED: {**LEASED, "204": after_the_end},
    READ: {**LEASED, "200": running_session, "session-gone": after_the_end},
    CURRENT: {
        **ANY,
        "200": with_an_older_file,
        "204": with_the_newest_file,
        "license-invalid": with_a_forged_file,
        "storage-unavailable": with_a_file_without_store,
    },
    PAGE: {**ANY, "200": plain},
    **{
        operation: {
            **ANY,
            "200": with_token(),
            "token-invalid": with_token(exp=0),
            "storage-unavailable": usage_without_store,
        }
        for operation in WITH_TOKEN
    },
    HEALTH: {**ANY, "200": plain, "storage-unavailable": plain_without_store},
    OPENAPI: {**ANY, "200": plain},
    DOCS: {**ANY, "200": plain},
}


def documented(operation: dict[str, Any]) -> dict[str, int]:
    """The outcomes that an operation documents, each with its status: problem codes, and statuses of success."""
    outcomes: dict[str, int] = {}
    for status, reply in operation["responses"].items():
        examples = reply.get("content", {}).get(PROBLEM, {}).get("examples", {})
        outcomes.update(dict.fromkeys(examples or [status], int(status)))
    return outcomes


def test_what_is_documented_is_what_can_be_provoked() -> None:
    published = {name: set(documented(operation)) for name, operation in CONTRACT.operations().items()}

    assert published == {name: set(outcomes) for name, outcomes in PROVOKED.items()}


@pytest.mark.parametrize(
    ("operation", "outcome"), [(operation, outcome) for operation, outcomes in PROVOKED.items() for outcome in outcomes]
)
async def test_each_documented_reply_comes_as_documented(setup: Setup, operation: Operation, outcome: str) -> None:
    reply = await PROVOKED[operation][outcome](setup, operation)

    assert reply.status_code == documented(CONTRACT.operations()[operation])[outcome]
    if outcome != str(reply.status_code):
        assert reply.json()["code"] == outcome


# The document.


def test_each_call_says_which_token_it_wants() -> None:
    asked = {name: operation.get("security", []) for name, operation in CONTRACT.operations().items()}

    for name, wanted in asked.items():
        assert wanted == ([{"lease": []}] if name in WITH_LEASE else [{"report": []}] if name in WITH_TOKEN else [])
    schemes = CONTRACT.document["components"]["securitySchemes"]
    assert {name: scheme["scheme"] for name, scheme in schemes.items()} == {"lease": "bearer", "report": "bearer"}


def test_totals_come_as_json_or_csv_and_problems_never_do() -> None:
    replies = CONTRACT.operations()[USAGE]["responses"]
    kinds = {status: set(reply["content"]) for status, reply in replies.items()}

    assert kinds.pop("200") == {"application/json", "text/csv"}
    assert set().union(*kinds.values()) == {PROBLEM}


def test_the_days_and_the_format_may_be_left_out_but_are_never_null() -> None:
    parameters = {each["name"]: each for each in CONTRACT.operations()[USAGE]["parameters"]}

    assert not any(parameter["required"] for parameter in parameters.values())
    for name in ("from", "to"):
        assert CONTRACT.validator(parameters[name]["schema"]).is_valid("2026-11-30")
        assert not CONTRACT.validator(parameters[name]["schema"]).is_valid(None)
    assert CONTRACT.validator(parameters["format"]["schema"]).is_valid("csv")
    assert not CONTRACT.validator(parameters["format"]["schema"]).is_valid("html")


def test_every_problem_example_is_a_problem_by_the_schema_and_by_the_code() -> None:
    for operation in CONTRACT.operations().values():
        for status, reply in operation["responses"].items():
            content = reply.get("content", {}).get(PROBLEM)
            if content is None:
                continue
            validator = CONTRACT.validator(content["schema"])
            for code, example in content["examples"].items():
                validator.validate(example["value"])
                assert (example["value"]["code"], example["value"]["status"]) == (code, int(status))
                assert example["value"]["type"] == f"urn:licensing:problem:{code}"
                assert problems.CODES[code][:2] == (int(status), example["value"]["title"])


def test_every_schema_is_one_and_its_examples_fit() -> None:
    examples = 0
    for schema in CONTRACT.document["components"]["schemas"].values():
        Draft202012Validator.check_schema(schema)
        for field in schema.get("properties", {}).values():
            for example in field.get("examples", ()):
                CONTRACT.validator(field).validate(example)
                examples += 1
    assert examples


def test_all_times_are_times() -> None:
    schemas = CONTRACT.document["components"]["schemas"].values()
    fields = [field for schema in schemas for field in schema.get("properties", {}).items()]
    times = [CONTRACT.validator(field) for name, field in fields if name.endswith("_at")]

    assert times
    for time in times:
        assert time.is_valid("2026-11-30T12:00:00Z")
        assert not time.is_valid(1796040000)
        assert '"date-time"' in json.dumps(time.schema)


def test_no_reply_is_documented_that_never_comes() -> None:
    text = json.dumps(CONTRACT.document)

    assert '"422"' not in text
    assert '"500"' not in text
    assert "ValidationError" not in text


async def test_the_contract_that_is_served_is_this_one_each_time(api: Api) -> None:
    replies = [await api.send("GET", "/openapi.json") for _ in range(2)]

    assert [reply.json() for reply in replies] == [CONTRACT.document] * 2
    assert replies[0].json()["openapi"].startswith("3.1")


# The page.


async def test_the_docs_page_runs_nothing_and_asks_nobody(api: Api) -> None:
    page = await api.send("GET", "/docs")

    style = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    assert len(style) == 1
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"] == (
        f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    assert not re.search(
        r"<(script|link|img|iframe|object|embed|form|base)\b|\bon\w+=|\bstyle=|url\(|@import", page.text
    )
    assert re.findall(r'(?:href|src)="([^"]*)"', page.text) == ["openapi.json"]
    assert "//" not in page.text


async def test_the_docs_page_tells_all_that_the_contract_does(api: Api) -> None:
    page = (await api.send("GET", "/docs")).text

    for (method, path), operation in CONTRACT.operations().items():
        assert f'<span class="method">{method}</span><code>{path}</code>' in page
        for outcome in documented(operation):
            assert outcome in page
        for kind in {kind for reply in operation["responses"].values() for kind in reply.get("content", {})}:
            assert f"<code>{kind}</code>" in page
        for parameter in operation.get("parameters", ()):
            assert f"<tr><td><code>{parameter['name']}</code></td>" in page
    for name, schema in CONTRACT.document["components"]["schemas"].items():
        for field in schema.get("properties", {}) if name != "Problem" else ():
            assert f"<code>{field}</code>" in page, name
        if "enum" in schema:
            assert f"<td>{' or '.join(schema['enum'])}</td>" in page
    assert page.count("<code>Authorization</code>") == len(WITH_LEASE) + len(WITH_TOKEN)
    for scheme in CONTRACT.document["components"]["securitySchemes"].values():
        assert escape(scheme["description"]) in page
