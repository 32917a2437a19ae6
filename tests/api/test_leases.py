"""Who may speak for a session: its own lease does, however old, and nothing else."""

import json
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest

from licensing.cli.home import Home
from licensing.crypto.keys import SigningKeys, new_private_jwk, public_jwk
from licensing.crypto.pseudonyms import from_base64url
from licensing.crypto.tokens import LEASE_TYPE, LICENSE_TYPE, sign
from licensing.services.service import utc_now
from tests import factories
from tests.api.client import Api, assert_problem, running
from tests.factories import OffsetClock
from tests.stores import StorageCalls

Issue = Callable[..., str]
Call = Callable[[Api, str, str], Awaitable[httpx.Response]]

CALLS = {
    "heartbeat": lambda api, session, lease: api.heartbeat(session, lease),
    "end": lambda api, session, lease: api.end(session, lease),
    "read": lambda api, session, lease: api.read(session, lease),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


def claims(session_id: str, license_id: str, **changes: Any) -> dict[str, Any]:
    """The claims of a lease that is good for an hour."""
    now = int(utc_now().timestamp())
    return {
        "iss": "licensing",
        "sub": session_id,
        "aud": license_id,
        "iat": now,
        "exp": now + 3600,
        "nonce": factories.new_nonce(),
        "features": [],
        "grace": 0,
        "borrowed": False,
        "overdraft": False,
        **changes,
    }


def altered(token: str) -> str:
    """A token with one character of its payload changed."""
    header, payload, signature = token.split(".")
    return ".".join((header, payload[:20] + ("A" if payload[20] != "A" else "B") + payload[21:], signature))


@each_call
async def test_the_lease_of_another_session_of_the_same_license_opens_nothing(
    api: Api, issue: Issue, storage_calls: StorageCalls, call: Call
) -> None:
    license = issue(seats=2)
    victim, victims_lease = await api.begin(license)
    _, own_lease = await api.begin(license, user="mallory")
    mark = await storage_calls.mark()

    reply = await call(api, victim, own_lease)

    assert_problem(reply, "lease-invalid", 401)
    assert await storage_calls.since(mark) == []
    assert (await api.heartbeat(victim, victims_lease)).status_code == 200


FORGERIES: dict[str, Callable[[str, str, Home], str]] = {
    "nothing": lambda _session, _lease, _home: "",
    "altered": lambda _session, lease, _home: altered(lease),
    "truncated": lambda _session, lease, _home: lease[:-1],
    "signature cut off": lambda _session, lease, _home: lease.rpartition(".")[0] + ".",
    "own key": lambda session, _lease, _home: sign(
        claims(session, "lic"), LEASE_TYPE, SigningKeys({"keys": [new_private_jwk()]})
    ),
    "issuer's key": lambda session, _lease, home: sign(claims(session, "lic"), LEASE_TYPE, home.issuer_keys()),
    "of another type": lambda session, _lease, home: sign(claims(session, "lic"), LICENSE_TYPE, lease_keys(home)),
    "a license": lambda session, _lease, home: factories.issue(home, sub=session),
    "without claims": lambda _session, _lease, home: sign({}, LEASE_TYPE, lease_keys(home)),
    "too large": lambda session, _lease, home: sign(
        claims(session, "lic", features=["f" * 12_288]), LEASE_TYPE, lease_keys(home)
    ),
    "junk": lambda _session, _lease, _home: "~.{}.~",
}


def lease_keys(home: Home) -> SigningKeys:
    """The keys that the service signs leases with."""
    return factories.settings(home, "UseDevelopmentStorage=true").lease_keys


@each_call
@pytest.mark.parametrize("forge", FORGERIES.values(), ids=FORGERIES)
async def test_what_is_no_lease_of_ours_is_refused_before_storage_is_touched(
    api: Api,
    home: Home,
    issue: Issue,
    storage_calls: StorageCalls,
    call: Call,
    forge: Callable[[str, str, Home], str],
) -> None:
    session, lease = await api.begin(issue())
    forged = forge(session, lease, home)
    mark = await storage_calls.mark()

    reply = await call(api, session, forged)

    assert_problem(reply, "lease-invalid", 401)
    assert await storage_calls.since(mark) == []


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic {}", "{}", "Bearer {} {}", "Bearer, {}"])
async def test_a_lease_counts_as_a_bearer_token_only(api: Api, issue: Issue, header: str | None) -> None:
    session, lease = await api.begin(issue())
    headers = {} if header is None else {"Authorization": header.format(lease, lease)}

    assert_problem(await api.send("GET", f"/sessions/{session}", headers=headers), "lease-invalid", 401)


async def test_the_scheme_of_a_bearer_token_is_written_in_any_case(api: Api, issue: Issue) -> None:
    session, lease = await api.begin(issue())

    reply = await api.send("GET", f"/sessions/{session}", headers={"Authorization": f"bearer {lease}"})

    assert reply.status_code == 200


async def test_a_session_id_in_the_path_is_one_id_in_capitals_too(api: Api, issue: Issue) -> None:
    session, lease = await api.begin(issue())

    assert (await api.read(session.upper(), lease)).status_code == 200


async def test_a_license_file_is_not_accepted_where_a_lease_is_and_the_other_way_round(api: Api, issue: Issue) -> None:
    license = issue(seats=2)
    session, lease = await api.begin(license)

    assert_problem(await api.read(session, license), "lease-invalid", 401)
    assert_problem(await api.start(factories.start_body(lease)), "license-invalid", 401)


async def test_an_expired_lease_still_authenticates_because_the_row_decides(
    home: Home, azurite: str, issue: Issue
) -> None:
    clock = OffsetClock()
    async with running(factories.settings(home, azurite), clock) as api:
        session, lease = await api.begin(issue())
        clock.ahead = timedelta(hours=9)

        assert (await api.read(session, lease)).status_code == 200
        assert (await api.heartbeat(session, lease)).status_code == 200
        assert (await api.end(session, lease)).status_code == 204


async def test_a_stolen_lease_of_an_ended_session_brings_nothing_back(api: Api, issue: Issue) -> None:
    session, lease = await api.begin(issue())
    await api.end(session, lease)

    assert_problem(await api.heartbeat(session, lease), "session-gone", 410)
    assert_problem(await api.read(session, lease), "session-gone", 410)


LICENSE_FORGERIES: dict[str, Callable[[str, Home], str]] = {
    "altered": lambda license, _home: altered(license),
    "own key": lambda _license, home: sign(
        factories.claims(home), LICENSE_TYPE, SigningKeys({"keys": [new_private_jwk()]})
    ),
    "lease key": lambda _license, home: sign(factories.claims(home), LICENSE_TYPE, lease_keys(home)),
    "of another type": lambda _license, home: sign(factories.claims(home), LEASE_TYPE, home.issuer_keys()),
    "contradicts itself": lambda _license, home: factories.issue(home, heartbeat=900, lease=900),
    "too large": lambda _license, home: factories.issue(home, users=[factories.user_hash()] * 200),
    "with its comments": lambda license, _home: f"# a license\n{license}\n",
    "junk": lambda _license, _home: "ü.{}.\u0000",
}


@pytest.mark.parametrize("forge", LICENSE_FORGERIES.values(), ids=LICENSE_FORGERIES)
async def test_what_is_no_genuine_license_is_refused_before_storage_is_touched(
    api: Api, home: Home, issue: Issue, storage_calls: StorageCalls, forge: Callable[[str, Home], str]
) -> None:
    forged = forge(issue(), home)
    mark = await storage_calls.mark()

    assert_problem(await api.start(factories.start_body(forged)), "license-invalid", 401)
    assert await storage_calls.since(mark) == []


# Which lease key signs. A program trusts only those that its license file names.


def kid_of(lease: str) -> str:
    """The key that signed a lease."""
    return str(json.loads(from_base64url(lease.split(".")[0]))["kid"])


def jwks(*keys: dict[str, Any]) -> str:
    """Private lease keys as the service's setting."""
    return json.dumps({"keys": keys})


async def test_a_program_whose_file_does_not_know_the_new_lease_key_gets_leases_that_it_trusts(
    home: Home, azurite: str, issue: Issue
) -> None:
    old, new = new_private_jwk(), new_private_jwk()
    older_file = issue(lease_keys={"keys": [public_jwk(old)]})
    newer_file = issue(lease_keys={"keys": [public_jwk(old), public_jwk(new)]})
    foreign_file = issue(lease_keys={"keys": [public_jwk(new_private_jwk())]})
    async with running(factories.settings(home, azurite, LICENSING_LEASE_KEYS=jwks(new, old))) as api:
        for file, expected in ((older_file, old), (newer_file, new), (foreign_file, new)):
            session, lease = await api.begin(file)
            assert kid_of(lease) == expected["kid"]
            renewed = (await api.heartbeat(session, lease)).json()["lease"]
            assert kid_of(renewed) == expected["kid"]


async def test_a_session_keeps_its_lease_key_when_the_service_gets_a_new_one(
    home: Home, azurite: str, issue: Issue
) -> None:
    old, new = new_private_jwk(), new_private_jwk()
    license = issue(lease_keys={"keys": [public_jwk(new), public_jwk(old)]})
    async with running(factories.settings(home, azurite, LICENSING_LEASE_KEYS=jwks(old))) as api:
        session, lease = await api.begin(license)
    async with running(factories.settings(home, azurite, LICENSING_LEASE_KEYS=jwks(new, old))) as api:
        renewed = await api.heartbeat(session, lease)
        assert (renewed.status_code, kid_of(renewed.json()["lease"])) == (200, old["kid"])
        assert (await api.end(session, renewed.json()["lease"])).status_code == 204


async def test_an_unrecorded_start_is_answered_under_a_key_of_its_file_too(
    home: Home, azurite: str, issue: Issue
) -> None:
    old, new = new_private_jwk(), new_private_jwk()
    license = issue(
        kind="named-user", users=[factories.user_hash()], collect=False, lease_keys={"keys": [public_jwk(old)]}
    )
    async with running(factories.settings(home, azurite, LICENSING_LEASE_KEYS=jwks(new, old))) as api:
        _, lease = await api.begin(license)
    assert kid_of(lease) == old["kid"]


@pytest.mark.parametrize("named", [{}, {"keys": None}, {"keys": "all"}, {"keys": [None, 1, {}, {"kid": 7}]}])
async def test_a_file_whose_lease_keys_are_no_keys_is_answered_under_the_current_one(
    api: Api, home: Home, issue: Issue, named: dict[str, Any]
) -> None:
    _, lease = await api.begin(issue(lease_keys=named))
    assert kid_of(lease) == home.lease_keys()["keys"][0]["kid"]
