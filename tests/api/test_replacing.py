"""A start that replaces a session, over HTTP: which leases count, and what is kept of the old program."""

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from licensing.cli.home import Home
from licensing.crypto.keys import VerifyingKeys
from licensing.crypto.tokens import read_lease
from licensing.rules.requests import Recall
from licensing.storage.tables import Tables
from tests import factories
from tests.api.client import Api, assert_problem, running
from tests.factories import OffsetClock
from tests.register_rows import look

Issue = Callable[..., str]


@pytest.fixture
async def late(home: Home, azurite: str) -> AsyncIterator[tuple[Api, OffsetClock]]:
    """An app whose clock can be put forward."""
    clock = OffsetClock()
    async with running(factories.settings(home, azurite), clock) as opened:
        yield opened, clock


def body(license: str, **fields: Any) -> dict[str, Any]:
    return factories.start_body(license, **fields)


async def test_the_seat_is_the_new_sessions_and_never_free_in_between(api: Api, issue: Issue) -> None:
    license = issue(seats=1)
    old, lease = await api.begin(license)

    reply = await api.start(body(license, replaces=lease))

    assert (reply.status_code, reply.json()["seats"]) == (201, {"in_use": 1, "total": 1, "waiting": 0})
    assert_problem(await api.heartbeat(old, lease), "session-gone", 410)
    assert_problem(await api.start(body(license, user="bob")), "no-seat-available", 409)


async def test_a_repeat_is_answered_as_the_first(api: Api, issue: Issue) -> None:
    license = issue(seats=1)
    _, lease = await api.begin(license)
    start = body(license, replaces=lease)

    first, again = await api.start(start), await api.start(start)

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json()["expires_at"] == first.json()["expires_at"]


@pytest.mark.parametrize("flaw", ["another license's", "forged", "no lease", "the license file", "its own"])
async def test_a_lease_that_does_not_count_is_ignored(api: Api, issue: Issue, tables: Tables, flaw: str) -> None:
    id = factories.new_license_id()
    license = issue(sub=id, seats=1)
    old, lease = await api.begin(license)
    _, foreign = await api.begin(issue(seats=1))
    replaces = {
        "another license's": foreign,
        "forged": lease[:-6] + "AAAAAA",
        "no lease": "nonsense",
        "the license file": license,
        "its own": lease,
    }[flaw]
    start = body(license, user="bob", replaces=replaces)
    if flaw == "its own":
        start["session"] = old

    reply = await api.start(start)

    assert reply.json()["code"] == ("malformed-request" if flaw == "its own" else "no-seat-available")
    assert (await look(tables, id)).active.keys() == {old}, "a refused start ends nothing"


@pytest.mark.parametrize(
    ("hours", "kept"),
    [(0.1, None), (0.2, None), (1, 1), (4, 4), (99, 12 + 0.25)],
    ids=["before its last heartbeat", "within its lease", "in grace", "after it", "after all that it may"],
)
async def test_until_when_the_old_program_ran_is_cut_to_what_it_might(
    late: tuple[Api, OffsetClock], home: Home, issue: Issue, tables: Tables, hours: float, kept: float | None
) -> None:
    api, clock = late
    id = factories.new_license_id()
    license = issue(sub=id, seats=1, grace=43200, exp=int(clock().timestamp()) + 30 * 86400)
    old, lease = await api.begin(license)
    if hours < 1:
        clock.ahead += timedelta(minutes=13)
        lease = (await api.heartbeat(old, lease)).json()["lease"]
    issued_at = read_lease(lease, VerifyingKeys(home.lease_keys())).issued_at
    begun = issued_at - (timedelta(minutes=13) if hours < 1 else timedelta())
    clock.ahead += timedelta(days=5)

    ran_until = (begun + timedelta(hours=hours)).isoformat()
    reply = await api.start(body(license, replaces=lease, ran_until=ran_until))

    assert reply.status_code == 201
    ended = (await look(tables, id)).ended[old]
    assert ended["reason"] == "replaced"
    assert abs(ended["ended_at"] - issued_at) < timedelta(seconds=2), "silent time is not counted"
    assert ended.get("ran_until") == (None if kept is None else begun + timedelta(hours=kept))


@pytest.mark.parametrize(
    "ran_until", [1795000000, "yesterday", "2026-10-05", "2026-10-05T10:00:00", "2026-02-30T10:00:00Z"]
)
async def test_a_time_that_is_none_is_refused(api: Api, issue: Issue, ran_until: object) -> None:
    license = issue()
    _, lease = await api.begin(license)

    problem = assert_problem(
        await api.start(body(license, replaces=lease, ran_until=ran_until)), "malformed-request", 400
    )

    assert problem["detail"].startswith("ran_until: ")
    assert str(ran_until) not in problem["detail"]


@pytest.mark.parametrize("ran_until", ["2026-11-28t10:00:00z", "2026-11-28T12:00:00.123456789+02:00"])
async def test_every_form_of_rfc_3339_is_a_time(api: Api, issue: Issue, ran_until: str) -> None:
    license = issue(seats=1)
    _, lease = await api.begin(license)

    assert (await api.start(body(license, replaces=lease, ran_until=ran_until))).status_code == 201


async def test_who_replaces_a_recalled_session_is_judged_as_any_other(api: Api, issue: Issue, tables: Tables) -> None:
    id = factories.new_license_id()
    license = issue(sub=id, seats=1)
    old, lease = await api.begin(license)
    await api.service.ledger.submit(id, Recall(old))
    assert_problem(await api.start(body(license, session=old)), "seat-recalled", 403)

    assert (await api.start(body(license, replaces=lease))).status_code == 201

    assert datetime.now(UTC) - (await look(tables, id)).ended[old]["ended_at"] < timedelta(minutes=1)
    await api.service.ledger.state(id)
    assert_problem(await api.heartbeat(old, lease), "seat-recalled", 403)
