"""A program tells afterwards until when it ran: what it must send, and what becomes of it."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta

import pytest

from licensing.cli.home import Home
from licensing.services.sweep import sweep_license
from tests import factories
from tests.api.client import Api, assert_problem, running
from tests.factories import OffsetClock
from tests.register_rows import look

Issue = Callable[..., str]
HOUR = timedelta(hours=1)


@pytest.fixture
async def late(home: Home, azurite: str) -> AsyncIterator[tuple[Api, OffsetClock]]:
    """An app whose clock can be put forward."""
    clock = OffsetClock()
    async with running(factories.settings(home, azurite, LICENSING_STATUS_CACHE_SECONDS="0"), clock) as opened:
        yield opened, clock


def text(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


async def test_a_session_that_lapsed_gets_the_time_until_which_its_program_ran(
    late: tuple[Api, OffsetClock], issue: Issue
) -> None:
    api, clock = late
    license_id = factories.new_license_id()
    session, lease = await api.begin(issue(sub=license_id, grace=7200))
    clock.ahead = 5 * HOUR
    service = api.service
    await sweep_license(service.register, service.ledger, license_id, clock())
    began = clock() - 5 * HOUR
    for ran_until in (began + HOUR, began + HOUR / 2, began + HOUR):
        reply = await api.ended(session, lease, text(ran_until))
        assert (reply.status_code, reply.content) == (204, b"")
    seen = (await look(service.register._tables, license_id)).ended[session]
    assert seen["ran_until"] == began + HOUR
    assert (await api.ended(session, lease, text(began + 5 * HOUR))).status_code == 204
    seen = (await look(service.register._tables, license_id)).ended[session]
    assert timedelta(hours=2, minutes=14) < seen["ran_until"] - began < timedelta(hours=2, minutes=16), "cut to grace"
    assert seen["reason"] == "lapsed"


async def test_a_running_session_is_ended_and_an_unknown_one_is_left_alone(api: Api, issue: Issue) -> None:
    session, lease = await api.begin(issue())
    now = text(datetime.now(UTC))
    assert (await api.ended(session, lease, now)).status_code == 204
    assert_problem(await api.heartbeat(session, lease), "session-gone", 410)
    assert (await api.ended(session, lease, now)).status_code == 204
    bound, user = issue(kind="named-user", users=[factories.user_hash()], collect=False), factories.USER
    session, lease = await api.begin(bound, user=user)
    assert (await api.ended(session, lease, now)).status_code == 204, "nothing is stored of it"


async def test_another_sessions_lease_tells_nothing(api: Api, issue: Issue) -> None:
    license = issue(seats=2)
    session, lease = await api.begin(license)
    other, _ = await api.begin(license)
    now = text(datetime.now(UTC))
    assert_problem(await api.ended(other, lease, now), "lease-invalid", 401)
    assert_problem(await api.ended(session, lease[:-4], now), "lease-invalid", 401)
    assert (await api.heartbeat(session, lease)).status_code == 200


@pytest.mark.parametrize(
    "ran_until",
    [
        "2026-11-28T10:00:00Z",
        "2026-11-28t10:00:00z",
        "2026-11-28T12:00:00.123456+02:00",
        "2026-11-28T10:00:00.1-00:30",
        "0001-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
    ],
)
async def test_a_time_with_an_offset_is_taken(api: Api, issue: Issue, ran_until: str) -> None:
    session, lease = await api.begin(issue())
    assert (await api.ended(session, lease, ran_until)).status_code == 204


@pytest.mark.parametrize(
    "ran_until",
    [
        None,
        True,
        1764324000,
        "",
        "1764324000",
        "2026-11-28",
        "2026-11-28T10:00:00",
        "2026-11-28 10:00:00Z",
        "2026-11-28T10:00Z",
        "2026-11-31T10:00:00Z",
        "2026-11-28T10:00:60Z",
        "2026-11-28T10:00:00+25:00",
        "0001-01-01T00:00:00+01:00",
        "9999-12-31T23:59:59-01:00",
        "２026-11-28T10:00:00Z",
        "2026-11-28T10:00:00Z\n",
    ],
)
async def test_what_is_no_time_with_an_offset_is_malformed(api: Api, issue: Issue, ran_until: object) -> None:
    session, lease = await api.begin(issue())
    said = assert_problem(await api.ended(session, lease, ran_until), "malformed-request", 400)
    assert said["detail"].startswith("ran_until: Input should be a time")
    assert (await api.heartbeat(session, lease)).status_code == 200, "nothing was ended"


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"ran_until": "2026-11-28T10:00:00Z", "more": 1}'])
async def test_a_body_with_less_or_more_is_malformed(api: Api, issue: Issue, body: bytes) -> None:
    session, lease = await api.begin(issue())
    headers = {**factories.bearer(lease), "content-type": "application/json"}
    reply = await api.send("POST", f"/sessions/{session}/ended", content=body, headers=headers)
    assert_problem(reply, "malformed-request", 400)
