"""When the store is away or the code is wrong: a problem that says when to come back, and no word of the cause."""

import logging
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import pytest
from opentelemetry import _logs, metrics, trace

from licensing.api import app as app_module
from licensing.api import problems
from licensing.cli.home import Home, local_storage
from licensing.cli.processes import free_port
from licensing.crypto.tokens import Lease, write_lease
from licensing.services.service import utc_now
from licensing.storage import retry
from tests import factories
from tests.api.client import Api, assert_problem, running
from tests.stores import StorageCalls

Issue = Callable[..., str]

CALLS: Final = {
    "start": lambda api, session, lease, license: api.start(factories.start_body(license)),
    "heartbeat": lambda api, session, lease, license: api.heartbeat(session, lease),
    "end": lambda api, session, lease, license: api.end(session, lease),
    "read": lambda api, session, lease, license: api.read(session, lease),
}
each_call = pytest.mark.parametrize("name", CALLS)


@pytest.fixture
async def cut_off(home: Home, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    """An app whose store is at a port where nobody listens, and which does not try for long."""
    monkeypatch.setattr(retry, "BATCH_SECONDS", 0.1)
    async with running(factories.settings(home, local_storage(free_port()))) as opened:
        yield opened


def lease_of(api: Api, session_id: str) -> str:
    """A lease that the service could have given."""
    now = utc_now()
    lease = Lease(
        session_id=session_id,
        license_id=factories.new_license_id(),
        issued_at=now,
        expires_at=now,
        nonce=factories.new_nonce(),
        features=(),
        grace_seconds=0,
        borrowed=False,
        overdraft=False,
    )
    return write_lease(lease, api.service.settings.lease_keys)


async def call(api: Api, name: str, issue: Issue) -> Any:
    """Make a call that would succeed, or get `session-gone`."""
    session_id = factories.new_session_id()
    return await CALLS[name](api, session_id, lease_of(api, session_id), issue())


@each_call
async def test_without_its_store_every_call_says_when_to_come_back(cut_off: Api, issue: Issue, name: str) -> None:
    reply = await call(cut_off, name, issue)

    assert_problem(reply, "storage-unavailable", 503)
    assert 1 <= int(reply.headers["retry-after"]) <= 60


async def test_without_its_store_the_service_is_not_healthy(cut_off: Api) -> None:
    assert_problem(await cut_off.send("GET", "/health"), "storage-unavailable", 503)


async def test_without_its_store_refusals_by_signature_and_terms_stay_what_they_are(cut_off: Api, issue: Issue) -> None:
    assert_problem(await cut_off.start(factories.start_body("forged")), "license-invalid", 401)
    assert_problem(await cut_off.start(factories.start_body(issue(users=["x" * 43]))), "user-not-allowed", 403)
    assert_problem(await cut_off.read(factories.new_session_id(), "forged"), "lease-invalid", 401)


async def test_nobody_makes_the_store_work_by_asking_for_health(
    home: Home, azurite: str, storage_calls: StorageCalls
) -> None:
    async with running(factories.settings(home, azurite)) as api:
        mark = await storage_calls.mark()

        replies = [await api.send("GET", "/health") for _ in range(20)]

        assert {reply.status_code for reply in replies} == {200}
        assert len(await storage_calls.since(mark)) == 1


SECRET: Final = "augusta.king at 198.51.100.214"


async def fail(*_: object, **__: object) -> Any:
    """What no use case should do."""
    raise RuntimeError(SECRET)


def reporting(*_: object) -> Any:
    """Stands for an OpenTelemetry that the platform has set up, which libraries ask for to report."""
    raise AssertionError("something wants to report to OpenTelemetry")


@each_call
async def test_an_unforeseen_exception_is_a_problem_reply_and_a_log_line_without_its_message(
    api: Api, issue: Issue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setattr(trace, "get_tracer_provider", reporting)
    monkeypatch.setattr(metrics, "get_meter_provider", reporting)
    monkeypatch.setattr(_logs, "get_logger_provider", reporting)
    monkeypatch.setattr(api.service.sessions, name, fail)
    caplog.set_level(logging.DEBUG)

    reply = await call(api, name, issue)

    assert_problem(reply, "service-unavailable", 503)
    assert 1 <= int(reply.headers["retry-after"]) <= 60
    assert SECRET not in reply.text
    assert SECRET not in caplog.text
    assert [
        record.getMessage().partition(" in ")[0] for record in caplog.records if record.levelno >= logging.ERROR
    ] == ["unexpected RuntimeError"]


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
async def test_an_error_in_a_page_is_a_problem_reply_too(api: Api, monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    def broken(_: object) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(app_module, "contract", broken)

    assert_problem(await api.send("GET", path), "service-unavailable", 503)


async def test_an_error_in_health_is_a_problem_reply_too(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.service, "healthy", fail)

    assert_problem(await api.send("GET", "/health"), "service-unavailable", 503)


def test_there_is_no_problem_with_a_status_of_500() -> None:
    assert 500 not in {status for status, _, _ in problems.CODES.values()}
