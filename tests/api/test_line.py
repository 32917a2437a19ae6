"""Who waits for a seat, over HTTP: positions, numbers and times, to the letter."""

from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from typing import Any

import pytest

from licensing.cli.home import Home
from licensing.storage.state_cache import StateCache
from tests import factories
from tests.api.client import Api, assert_problem, running
from tests.factories import OffsetClock

Issue = Callable[..., str]


@pytest.fixture
async def late(home: Home, azurite: str) -> AsyncIterator[tuple[Api, OffsetClock]]:
    """An app whose clock can be put forward, and which caches no license state."""
    clock = OffsetClock()
    async with running(factories.settings(home, azurite, LICENSING_STATUS_CACHE_SECONDS="0"), clock) as opened:
        yield opened, clock


async def test_each_waiter_learns_its_position_and_when_to_ask_again(api: Api, issue: Issue) -> None:
    license = issue(seats=1)
    await api.begin(license)
    for position in range(1, 4):
        reply = await api.start(factories.start_body(license, user=f"user-{position}", wait=True))
        problem = assert_problem(reply, "no-seat-available", 409)
        assert problem["position"] == position
        assert problem["seats"] == {"in_use": 1, "total": 1, "waiting": position}
        assert reply.headers["retry-after"] == str(5 * position)
        assert problem["detail"] == f"You are number {position} in line; try again in {5 * position} seconds."


@pytest.mark.parametrize("wait", [{}, {"wait": False}])
async def test_who_does_not_wait_has_no_place_and_leaves_none(api: Api, issue: Issue, wait: dict[str, Any]) -> None:
    license = issue(seats=1)
    await api.begin(license)
    for _ in range(2):
        reply = await api.start(factories.start_body(license, user="bob", **wait))
        problem = assert_problem(reply, "no-seat-available", 409)
        assert "position" in problem
        assert problem["position"] is None
        assert problem["seats"] == {"in_use": 1, "total": 1, "waiting": 0}
        assert 10 <= int(reply.headers["retry-after"]) <= 60


@pytest.mark.parametrize("wait", ["true", 1, None, [True]])
async def test_wait_is_a_boolean(api: Api, issue: Issue, wait: object) -> None:
    reply = await api.start(factories.start_body(issue(seats=1), wait=wait))
    assert assert_problem(reply, "malformed-request", 400)["detail"].startswith("wait: ")


async def test_a_seat_that_comes_free_is_for_the_first(api: Api, issue: Issue) -> None:
    license = issue(seats=1)
    session_id, lease = await api.begin(license)
    first, second = (factories.start_body(license, user=user, wait=True) for user in ("bob", "eve"))
    await api.start(first)
    await api.start(second)
    assert (await api.end(session_id, lease)).status_code == 204
    refused = await api.start(factories.start_body(license, user="click"))
    problem = assert_problem(refused, "no-seat-available", 409)
    assert problem["seats"] == {"in_use": 0, "total": 1, "waiting": 2}
    assert problem["detail"].startswith("Others wait in line for a seat; ")
    assert (await api.start(second)).json()["position"] == 2
    granted = await api.start(first)
    assert (granted.status_code, granted.json()["seats"]) == (201, {"in_use": 1, "total": 1, "waiting": 1})
    again = await api.start(first)
    assert (again.status_code, again.json()["seats"]["waiting"]) == (200, 1)


async def test_a_heartbeat_tells_how_many_wait(late: tuple[Api, OffsetClock], issue: Issue) -> None:
    api, clock = late
    license = issue(seats=1)
    session_id, lease = await api.begin(license)
    await api.start(factories.start_body(license, user="bob", wait=True))
    for ahead, waiting in ((0, 1), (25, 1), (35, 0)):
        clock.ahead = timedelta(seconds=ahead)
        reply = await api.heartbeat(session_id, lease)
        assert reply.json()["seats"] == {"in_use": 1, "total": 1, "waiting": waiting}


async def test_a_waiter_that_asks_another_process_is_not_missed_by_an_older_reading(
    late: tuple[Api, OffsetClock], issue: Issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    api, clock = late
    license = issue(seats=1)
    session_id, lease = await api.begin(license)
    await api.start(factories.start_body(license, user="bob", wait=True))
    clock.ahead = timedelta(seconds=50)
    for age, waiting in ((40, 1), (10, 0)):
        monkeypatch.setattr(StateCache, "age_seconds", age)
        reply = await api.heartbeat(session_id, lease)
        assert reply.json()["seats"]["waiting"] == waiting
