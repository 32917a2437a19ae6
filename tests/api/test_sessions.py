"""A program starts, runs and ends (design, section 6): each success to the letter, and each refusal."""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from licensing.api.schemas import RunningReply, SessionReply, StartBody
from licensing.cli.home import Home
from licensing.crypto.keys import VerifyingKeys
from licensing.crypto.pseudonyms import Peppers
from licensing.crypto.tokens import Lease, read_lease
from licensing.rules.model import Session
from tests import factories
from tests.api.client import SOCKET, Api, assert_problem, running
from tests.factories import OffsetClock
from tests.stores import StorageCalls

PROTOCOL: Final = Path(__file__).parents[2] / "docs" / "protocol.md"
Issue = Callable[..., str]
RFC3339_UTC = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z")


@pytest.fixture
async def late(home: Home, azurite: str) -> AsyncIterator[tuple[Api, OffsetClock]]:
    """An app whose clock can be put forward, and which caches no license state."""
    clock = OffsetClock()
    async with running(factories.settings(home, azurite, LICENSING_STATUS_CACHE_SECONDS="0"), clock) as opened:
        yield opened, clock


def lease_in(reply: Any, home: Home) -> Lease:
    """The lease in a reply, as a client reads it: by a key in its license file."""
    return read_lease(reply.json()["lease"], VerifyingKeys(home.lease_keys()))


# Starts.


@pytest.mark.parametrize("sharing", ["user-host", "host"])
async def test_two_computers_that_nobody_named_do_not_share_a_seat(api: Api, issue: Issue, sharing: str) -> None:
    file = issue(seats=2, sharing=sharing)
    for in_use in (1, 2):
        reply = await api.start(factories.start_body(file, host="localhost"))
        assert (reply.status_code, reply.json()["seats"]["in_use"]) == (201, in_use)
    assert (await api.start(factories.start_body(file, host="LOCALHOST "))).status_code == 409
    assert (await api.start(factories.start_body(file, host="localhost.acme.example"))).status_code == 409


async def test_a_user_shares_a_seat_between_computers_that_nobody_named(api: Api, issue: Issue) -> None:
    file = issue(seats=1, sharing="user")
    for _ in range(2):
        assert (await api.start(factories.start_body(file, host="localhost"))).status_code == 201


async def test_a_start_takes_a_seat_and_says_all_that_a_program_needs(api: Api, home: Home, issue: Issue) -> None:
    body = factories.start_body(issue(seats=3, heartbeat=60, lease=180, features=["sewer", "2d"], grace=7200))
    before = datetime.now(UTC)

    reply = await api.start(body)

    assert reply.status_code == 201
    assert reply.headers["content-type"] == "application/json"
    said = reply.json()
    lease = lease_in(reply, home)
    assert said == {
        "session": body["session"],
        "lease": said["lease"],
        "expires_at": said["expires_at"],
        "heartbeat_seconds": 60,
        "seats": {"in_use": 1, "total": 3, "waiting": 0},
        "overdraft": False,
        "recorded": True,
        "license_serial": 1,
        "policy": {"version": "local", "url": "https://example.com/privacy"},
    }
    assert RFC3339_UTC.fullmatch(said["expires_at"])
    expires_at = datetime.fromisoformat(said["expires_at"])
    assert timedelta(seconds=180) <= expires_at - before < timedelta(seconds=240)
    assert (lease.session_id, lease.nonce) == (body["session"], body["nonce"])
    assert lease.expires_at == expires_at.replace(microsecond=0)
    assert (lease.features, lease.grace_seconds, lease.borrowed, lease.overdraft) == (
        ("sewer", "2d"),
        7200,
        False,
        False,
    )


async def test_a_repeated_start_is_the_same_session_and_takes_no_second_seat(
    api: Api, home: Home, issue: Issue
) -> None:
    body = factories.start_body(issue())
    first = await api.start(body)

    again = await api.start({**body, "nonce": "another_nonce_than_before"})

    assert (first.status_code, again.status_code) == (201, 200)
    assert again.json() == {**first.json(), "lease": again.json()["lease"]}
    assert lease_in(again, home).nonce == "another_nonce_than_before"


async def test_a_session_id_is_one_id_in_capitals_too(api: Api, issue: Issue) -> None:
    body = factories.start_body(issue())
    await api.start(body)

    again = await api.start({**body, "session": body["session"].upper()})

    assert (again.status_code, again.json()["session"]) == (200, body["session"])


async def test_a_full_house_refuses_and_says_when_to_come_back(api: Api, issue: Issue) -> None:
    license = issue(seats=1)
    await api.begin(license)

    reply = await api.start(factories.start_body(license, user="bob"))

    problem = assert_problem(reply, "no-seat-available", 409)
    assert problem["seats"] == {"in_use": 1, "total": 1, "waiting": 0}
    assert 10 <= int(reply.headers["retry-after"]) <= 60
    assert problem["detail"] == f"The one seat is taken; try again in {reply.headers['retry-after']} seconds."


async def test_who_is_refused_a_start_learns_of_the_policy_too(api: Api, issue: Issue) -> None:
    policy = {"version": "local", "url": "https://example.com/privacy"}
    license = issue(seats=1)
    session_id, _ = await api.begin(license)

    refusals = {
        400: await api.start({"user": 1}),
        401: await api.start(factories.start_body(license[:-6] + "AAAAAA")),
        403: await api.start(factories.start_body(issue(exp=NOW - 1))),
        409: await api.start(factories.start_body(license, user="bob")),
    }

    assert {status: reply.status_code for status, reply in refusals.items()} == {each: each for each in refusals}
    assert [reply.json()["policy"] for reply in refusals.values()] == [policy] * 4
    assert all(int(reply.headers["content-length"]) == len(reply.content) for reply in refusals.values())
    for other in (await api.send("GET", "/sessions"), await api.read(session_id, "no lease")):
        assert "policy" not in other.json()


async def test_a_seat_beyond_those_bought_is_granted_and_marked(api: Api, home: Home, issue: Issue) -> None:
    license = issue(seats=1, overdraft=1)
    await api.begin(license)

    reply = await api.start(factories.start_body(license, user="bob"))

    assert reply.status_code == 201
    assert (reply.json()["overdraft"], reply.json()["seats"]) == (True, {"in_use": 2, "total": 1, "waiting": 0})
    assert lease_in(reply, home).overdraft


async def test_a_borrowing_is_offered_cut_to_what_the_license_allows_and_lasts_once_confirmed(
    api: Api, home: Home, issue: Issue
) -> None:
    reply = await api.start(factories.start_body(issue(borrow=7200), borrow_seconds=31_622_400))

    offer = lease_in(reply, home)
    assert (offer.borrowed, offer.grace_seconds) == (False, 0)
    assert offer.expires_at - offer.issued_at == timedelta(seconds=900)
    assert offer.offered
    assert offer.offered - offer.issued_at == timedelta(seconds=7200)

    for _ in range(2):  # the second, as if the answer to the first was lost
        confirmed = lease_in(await api.heartbeat(offer.session_id, reply.json()["lease"]), home)
        assert (confirmed.borrowed, confirmed.grace_seconds, confirmed.offered) == (True, 259200, None)
        assert confirmed.expires_at == offer.offered


async def test_under_a_hold_the_first_heartbeat_gets_the_grace(api: Api, home: Home, issue: Issue) -> None:
    reply = await api.start(factories.start_body(issue(grace=43200, hold=43260)))

    offer = lease_in(reply, home)
    assert (offer.grace_seconds, offer.offered) == (0, offer.expires_at)

    confirmed = lease_in(await api.heartbeat(offer.session_id, reply.json()["lease"]), home)
    assert (confirmed.borrowed, confirmed.grace_seconds, confirmed.offered) == (False, 43200, None)


async def test_every_lease_has_the_grace_and_the_features_of_the_terms_in_force(
    api: Api, home: Home, issue: Issue
) -> None:
    id = factories.new_license_id()
    session_id, lease = await api.begin(issue(sub=id, serial=1, seats=2, grace=3600, features=["old"]))
    await api.begin(issue(sub=id, serial=2, seats=2, grace=7200, features=["new"]))

    renewed = lease_in(await api.heartbeat(session_id, lease), home)

    assert (renewed.grace_seconds, renewed.features) == (7200, ("new",))


async def test_a_license_that_forbids_to_collect_leaves_no_trace(
    api: Api, home: Home, issue: Issue, storage_calls: StorageCalls
) -> None:
    license = issue(kind="named-user", users=[factories.user_hash()], collect=False)
    mark = await storage_calls.mark()

    reply = await api.start(factories.start_body(license))

    assert reply.status_code == 201
    assert (reply.json()["recorded"], reply.json()["seats"]) == (False, {"in_use": 0, "total": 1, "waiting": 0})
    assert lease_in(reply, home).session_id == reply.json()["session"]
    assert [call.partition(" ")[0] for call in await storage_calls.since(mark)] == ["GET"]


async def test_a_license_for_named_users_takes_no_seat(api: Api, issue: Issue) -> None:
    license = issue(kind="named-user", users=[factories.user_hash()], seats=0)

    replies = [await api.start(factories.start_body(license)) for _ in range(3)]

    assert [reply.status_code for reply in replies] == [201, 201, 201]
    assert {reply.json()["seats"]["in_use"] for reply in replies} == {0}


NOW = int(datetime.now(UTC).timestamp())
OTHER = "x" * 43


@pytest.mark.parametrize(
    ("code", "claims"),
    [
        ("license-not-yet-valid", {"nbf": NOW + factories.DAY}),
        ("license-expired", {"nbf": NOW - 2 * factories.DAY, "exp": NOW - 1}),
        ("user-not-allowed", {"users": [OTHER]}),
        ("user-not-allowed", {"kind": "named-user", "users": [OTHER]}),
        ("host-not-allowed", {"hosts": [OTHER]}),
        ("host-not-allowed", {"kind": "node-locked", "hosts": [OTHER]}),
        ("network-not-allowed", {"networks": ["198.51.100.0/24", "2001:db8::/32"]}),
    ],
)
async def test_whom_the_license_does_not_admit_is_refused_at_the_cost_of_one_read_a_minute(
    api: Api, issue: Issue, storage_calls: StorageCalls, code: str, claims: dict[str, Any]
) -> None:
    license, mark = issue(**claims), await storage_calls.mark()

    for _ in range(3):
        assert_problem(await api.start(factories.start_body(license)), code, 403)

    (read,) = await storage_calls.since(mark)
    assert read.startswith("GET ")
    assert read.endswith("RowKey='license')")


async def test_a_suspended_license_starts_nothing_until_it_is_reinstated(api: Api, issue: Issue) -> None:
    id = factories.new_license_id()
    license = issue(sub=id, seats=5)
    await api.begin(license)
    await api.service.ledger.set_status(id, suspended=True)

    assert_problem(await api.start(factories.start_body(license)), "license-suspended", 403)

    await api.service.ledger.set_status(id, suspended=False)
    assert (await api.start(factories.start_body(license))).status_code == 201


async def test_a_session_id_that_another_program_uses_is_not_given_away(api: Api, issue: Issue) -> None:
    license = issue(seats=5)
    session, _ = await api.begin(license)

    reply = await api.start(factories.start_body(license, user="mallory", session=session))

    assert_problem(reply, "malformed-request", 400)


# Heartbeats.


async def test_a_heartbeat_renews_the_lease_with_its_own_nonce(
    late: tuple[Api, OffsetClock], home: Home, issue: Issue
) -> None:
    api, clock = late
    begun = await api.start(factories.start_body(issue(seats=2)))
    session, lease = begun.json()["session"], begun.json()["lease"]
    clock.ahead = timedelta(seconds=300)

    reply = await api.heartbeat(session, lease, "nonce_of_the_heartbeat")

    assert reply.status_code == 200
    assert reply.json().keys() == begun.json().keys()
    changed = {name for name, value in reply.json().items() if value != begun.json()[name]}
    assert changed == {"lease", "expires_at"}
    renewed = lease_in(reply, home)
    assert renewed.nonce == "nonce_of_the_heartbeat"
    assert renewed.expires_at - lease_in(begun, home).expires_at >= timedelta(seconds=300)


async def test_a_heartbeat_sent_twice_is_as_good_as_once(api: Api, issue: Issue) -> None:
    session, lease = await api.begin(issue())

    replies = [await api.heartbeat(session, lease) for _ in range(2)]

    assert [reply.status_code for reply in replies] == [200, 200]
    assert [reply.json()["seats"]["in_use"] for reply in replies] == [1, 1]


async def test_a_late_heartbeat_revives_a_session_that_nobody_has_swept(
    late: tuple[Api, OffsetClock], issue: Issue
) -> None:
    api, clock = late
    session, lease = await api.begin(issue())
    clock.ahead = timedelta(hours=2)

    assert (await api.heartbeat(session, lease)).status_code == 200


async def test_a_heartbeat_of_an_ended_session_means_a_new_start(api: Api, issue: Issue) -> None:
    session, lease = await api.begin(issue())
    await api.end(session, lease)

    assert_problem(await api.heartbeat(session, lease), "session-gone", 410)


async def test_a_suspension_stops_a_running_program_at_its_next_heartbeat(
    late: tuple[Api, OffsetClock], issue: Issue
) -> None:
    api, _ = late
    id = factories.new_license_id()
    session, lease = await api.begin(issue(sub=id))
    await api.service.ledger.set_status(id, suspended=True)

    assert_problem(await api.heartbeat(session, lease), "license-suspended", 403)


async def test_a_program_stops_when_its_license_expires(late: tuple[Api, OffsetClock], issue: Issue) -> None:
    api, clock = late
    begun = await api.start(factories.start_body(issue(exp=NOW + 600)))
    assert begun.json()["expires_at"] == datetime.fromtimestamp(NOW + 600, UTC).isoformat().replace("+00:00", "Z")
    clock.ahead = timedelta(seconds=601)

    reply = await api.heartbeat(begun.json()["session"], begun.json()["lease"])

    assert_problem(reply, "license-expired", 403)


# Ends.


async def test_an_end_gives_the_seat_back_and_may_be_sent_twice(api: Api, issue: Issue) -> None:
    license = issue(seats=1)
    session, lease = await api.begin(license)

    replies = [await api.end(session, lease) for _ in range(2)]

    assert [(reply.status_code, reply.content) for reply in replies] == [(204, b""), (204, b"")]
    assert "content-type" not in replies[0].headers
    assert (await api.start(factories.start_body(license, user="bob"))).status_code == 201


async def test_an_end_after_the_license_expired_still_frees_the_seat(
    late: tuple[Api, OffsetClock], issue: Issue
) -> None:
    api, clock = late
    id = factories.new_license_id()
    session, lease = await api.begin(issue(sub=id, exp=NOW + 600))
    clock.ahead = timedelta(days=2)

    assert (await api.end(session, lease)).status_code == 204
    state = await api.service.ledger.state(id)
    assert state is not None
    assert state.in_use == 0


# What the register holds.


def test_what_a_program_can_read_are_all_columns_of_its_session() -> None:
    columns = {field.name for field in fields(Session)} - {"id"}
    assert set(SessionReply.model_fields) == {"license", "session"} | columns


def test_the_protocol_names_all_that_a_start_sends_and_gets() -> None:
    section = PROTOCOL.read_text(encoding="utf-8").split("\n## 7. ")[1].split("\n## ")[0]
    for name in (*StartBody.model_fields, *RunningReply.model_fields):
        assert re.search(rf"\b{name}\b", section), name


async def test_a_program_can_read_all_that_is_held_on_it(api: Api, home: Home, issue: Issue) -> None:
    id, now = factories.new_license_id(), datetime.now(UTC)
    session, lease = await api.begin(issue(sub=id, sharing="user-host"))

    reply = await api.read(session, lease)

    assert reply.status_code == 200
    held, peppers = reply.json(), api.service.settings.peppers
    user = peppers.pseudonym(peppers.current, "acme", "user", factories.user_hash())
    host = peppers.pseudonym(peppers.current, "acme", "host", factories.host_hash())
    times = {name: held.pop(name) for name in ("started_at", "heartbeat_at", "expires_at", "lapses_at")}
    assert held == {
        "license": id,
        "session": session,
        "user": user,
        "host": host,
        "ip": address_pseudonym(peppers, SOCKET),
        "pepper": peppers.current,
        "holder": f"{user}.{host}",
        "borrowed": False,
        "overdraft": False,
    }
    assert all(RFC3339_UTC.fullmatch(value) for value in times.values())
    started, heartbeat, expires, lapses = (datetime.fromisoformat(value) for value in times.values())
    assert started == heartbeat
    assert abs(started - now) < timedelta(minutes=1)
    assert lapses == expires == started + timedelta(seconds=900)


def address_pseudonym(peppers: Peppers, address: str) -> str:
    """The pseudonym of an address as it is hashed, for the organization of all these tests."""
    return peppers.pseudonym(peppers.current, "acme", "ip", address)


async def test_a_session_that_ended_cannot_be_read_though_its_row_is_kept_as_the_protocol_says(
    api: Api, issue: Issue
) -> None:
    license_id = factories.new_license_id()
    session, lease = await api.begin(issue(sub=license_id))
    await api.end(session, lease)

    assert_problem(await api.read(session, lease), "session-gone", 410)
    long_ago = datetime.now(UTC) - timedelta(days=1)
    kept = [use.session_id async for use in api.service.register.ended_uses(license_id, long_ago)]
    assert kept == [session]
    protocol = PROTOCOL.read_text(encoding="utf-8")
    assert "410 as above: it is not active; if it has ended, its row is kept for a year" in protocol
    assert (
        "After its end, read answers 410 `session-gone`, although the register keeps the row for a year, " in protocol
    )


# Health.


async def test_health_says_where_the_service_runs(home: Home, azurite: str) -> None:
    async with running(factories.settings(home, azurite)) as api:
        local = await api.send("GET", "/health")
        assert local.json() == {"status": "ok", "region": "local", "version": "0.1.0"}
