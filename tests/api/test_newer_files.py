"""A renewed license reaches every desk (design-2, section D): older files are granted on the newest one's terms."""

import asyncio
import json
from base64 import b64decode
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any, Final

import pytest

from licensing.cli.home import Home, new_pepper, public_jwks
from licensing.crypto.keys import SigningKeys, VerifyingKeys, new_private_jwk
from licensing.crypto.pseudonyms import Peppers
from licensing.crypto.sealing import Sealer
from licensing.crypto.tokens import LICENSE_TYPE, Lease, read_lease, read_license, sign
from licensing.rules.model import LicenseState, Terms
from licensing.rules.usage import midnight
from licensing.services.license_files import LicenseFiles, reseal
from licensing.storage import retry
from licensing.storage.register import Register
from licensing.storage.tables import EdmType, Tables, delete, merge
from tests import factories
from tests.api.client import Api, assert_problem, running
from tests.factories import DAY, OffsetClock, new_license_id, start_body
from tests.fault_proxy import Call, error_before, port_of, start_fault_proxy, through
from tests.register_rows import values_of
from tests.stores import StorageCalls

Issue = Callable[..., str]
USER: Final = factories.user_hash(factories.USER)


@pytest.fixture
async def late(home: Home, azurite: str) -> AsyncIterator[tuple[Api, OffsetClock]]:
    """An app whose clock can be put forward."""
    clock = OffsetClock()
    async with running(factories.settings(home, azurite), clock) as opened:
        yield opened, clock


@pytest.fixture
def renewed(issue: Issue) -> Callable[..., tuple[str, str, str]]:
    """The id of a license with one seat, its file, and its renewal with two; `claims` are the renewal's."""

    def made(old: dict[str, Any] | None = None, **claims: Any) -> tuple[str, str, str]:
        id = new_license_id()
        return id, issue(sub=id, serial=1, **(old or {})), issue(sub=id, **{"serial": 2, "seats": 2, **claims})

    return made


Renewed = Callable[..., tuple[str, str, str]]


async def kept(tables: Tables, license_id: str) -> dict[str, Any] | None:
    """The columns of the row `file`."""
    row = await tables.get("register", license_id, "file")
    return values_of(row) if row else None


def lease_of(reply: Any, home: Home) -> Lease:
    """The lease in a reply, by a key of the home."""
    return read_lease(reply.json()["lease"], VerifyingKeys(home.lease_keys()))


# Starts.


async def test_a_program_with_the_old_file_starts_on_the_terms_that_another_has_brought(
    api: Api, home: Home, renewed: Renewed
) -> None:
    _, older, newer = renewed(features=["sewer"], grace=7200, heartbeat=60, lease=180)
    await api.begin(newer)

    reply = await api.start(start_body(older))

    assert reply.status_code == 201
    assert reply.json()["seats"] == {"in_use": 2, "total": 2, "waiting": 0}
    assert (reply.json()["license_serial"], reply.json()["heartbeat_seconds"]) == (2, 60)
    lease = lease_of(reply, home)
    assert (lease.features, lease.grace_seconds) == (("sewer",), 7200)
    assert lease.expires_at - lease.issued_at == timedelta(seconds=180)


async def test_a_heartbeat_tells_of_the_renewal(late: tuple[Api, OffsetClock], renewed: Renewed) -> None:
    api, clock = late
    _, older, newer = renewed()
    session, lease = await api.begin(older)
    assert (await api.heartbeat(session, lease)).json()["license_serial"] == 1
    await api.begin(newer)
    clock.ahead = timedelta(seconds=61)

    reply = await api.heartbeat(session, lease)

    assert (reply.status_code, reply.json()["license_serial"]) == (200, 2)


async def test_a_repeat_of_a_start_with_the_old_file_changes_nothing(api: Api, renewed: Renewed) -> None:
    _, older, newer = renewed()
    await api.begin(newer)
    body = start_body(older)

    replies = [await api.start(body) for _ in range(3)]

    assert [reply.status_code for reply in replies] == [201, 200, 200]
    assert {reply.json()["seats"]["in_use"] for reply in replies} == {2}


async def test_a_seat_is_not_given_twice_under_the_old_and_the_new_file(api: Api, renewed: Renewed) -> None:
    _, older, newer = renewed()
    await api.begin(newer)

    replies = await asyncio.gather(*(api.start(start_body(file)) for file in (older, newer) * 5))

    assert sorted(reply.status_code for reply in replies) == [201] + [409] * 9


@pytest.mark.parametrize(
    "old",
    [
        {"nbf": 0, "exp": 1},
        {"users": ["x" * 43]},
        {"hosts": ["x" * 43]},
        {"networks": ["192.0.2.0/24"]},
    ],
)
async def test_a_program_that_the_old_file_refuses_is_judged_by_the_newest(
    api: Api, renewed: Renewed, old: dict[str, Any]
) -> None:
    _, older, newer = renewed(old)
    assert (await api.start(start_body(older))).status_code == 403
    await api.begin(newer)

    assert (await api.start(start_body(older))).status_code == 201


async def test_the_newest_files_refusals_hold_for_older_files(
    late: tuple[Api, OffsetClock], renewed: Renewed, issue: Issue
) -> None:
    api, clock = late
    now = int(clock().timestamp())
    id, older, newer = renewed(exp=now + DAY)
    await api.begin(newer)
    clock.ahead = timedelta(days=2)
    assert_problem(await api.start(start_body(older)), "license-expired", 403)
    await api.begin(issue(sub=id, serial=3, exp=now + 9 * DAY))
    await api.service.ledger.set_status(id, suspended=True)
    assert_problem(await api.start(start_body(older)), "license-suspended", 403)


async def test_leases_are_signed_with_a_key_that_the_old_file_names(azurite: str, home: Home) -> None:
    id, first, second = new_license_id(), new_private_jwk(), new_private_jwk()
    older = factories.issue(home, sub=id, lease_keys=public_jwks([first]))
    newer = factories.issue(home, sub=id, serial=2, seats=2, lease_keys=public_jwks([second, first]))
    both = json.dumps({"keys": [second, first]})
    async with running(factories.settings(home, azurite, LICENSING_LEASE_KEYS=both)) as api:
        begun = await api.start(start_body(newer))
        read_lease(begun.json()["lease"], VerifyingKeys(public_jwks([second])))

        reply = await api.start(start_body(older))

        assert reply.status_code == 201
        read_lease(reply.json()["lease"], VerifyingKeys(public_jwks([first])))


@pytest.mark.parametrize(
    "other", [{"salt": "A" * 43}, {"organization": {"id": "bolt", "name": "Bolt Oy"}}], ids=["salt", "organization"]
)
async def test_a_file_of_another_customer_or_salt_is_no_newer_file(
    api: Api, renewed: Renewed, other: dict[str, Any]
) -> None:
    _, older, newer = renewed(**other)
    await api.begin(newer)

    assert_problem(await api.start(start_body(older)), "license-superseded", 403)
    assert (await api.current(older)).status_code == 204


async def test_a_start_with_the_old_file_costs_one_call_more_and_the_file_is_read_once(
    api: Api, renewed: Renewed, storage_calls: StorageCalls
) -> None:
    _, older, newer = renewed(seats=9)
    await api.begin(newer)
    calls = []
    for file in (newer, older, older, older):
        mark = await storage_calls.mark()
        await api.begin(file)
        calls.append(await storage_calls.since(mark))
    assert [len(each) for each in calls] == [1, 3, 2, 2]
    assert "RowKey='file'" in calls[1][1]


# The store fails, and other processes know more.


@pytest.mark.parametrize("on", [Call.POINT_READ, Call.TRANSACTION])
async def test_a_store_that_fails_on_the_way_to_the_newest_file_is_no_refusal(
    azurite: str, home: Home, renewed: Renewed, monkeypatch: pytest.MonkeyPatch, on: Call
) -> None:
    """A refusal would be final, and the seat may have been taken."""
    monkeypatch.setattr(retry, "BATCH_SECONDS", 0.1)
    _, older, newer = renewed()
    async with (
        start_fault_proxy(port_of(azurite)) as proxy,
        running(factories.settings(home, through(proxy.port, azurite))) as api,
    ):
        await api.begin(newer)
        body = start_body(older)
        proxy.break_(error_before, on, None)
        assert_problem(await api.start(body), "storage-unavailable", 503)
        await proxy.mend()
        assert (await api.start(body)).json()["seats"] == {"in_use": 2, "total": 2, "waiting": 0}


@pytest.mark.parametrize("damage", ["no store", "a state that cannot be read"])
async def test_a_files_own_refusal_needs_no_store(
    azurite: str, home: Home, issue: Issue, tables: Tables, damage: str
) -> None:
    id = new_license_id()
    async with (
        start_fault_proxy(port_of(azurite)) as proxy,
        running(factories.settings(home, through(proxy.port, azurite))) as api,
    ):
        await api.begin(issue(sub=id))
        await tables.commit("register", id, [merge("license", {"seats": "many"})])
        if damage == "no store":
            proxy.break_(error_before, Call.STATE_READ, None)
        api.service.ledger._licenses.clear()  # as in a process that has just started

        assert_problem(await api.start(start_body(issue(sub=id, nbf=0, exp=1))), "license-expired", 403)


@pytest.mark.parametrize("opened", [False, True], ids=["unread", "opened"])
async def test_an_expired_file_is_granted_on_the_newest_though_this_process_knows_only_the_one_before(
    azurite: str, home: Home, issue: Issue, opened: bool
) -> None:
    id = new_license_id()
    expired, *files = [issue(sub=id, nbf=0, exp=1), *(issue(sub=id, serial=serial, seats=9) for serial in (2, 3))]
    cached = factories.settings(home, azurite, LICENSING_STATUS_CACHE_SECONDS="60")
    async with running(cached) as api, running(cached) as other:
        await api.begin(files[0])
        if opened:
            assert (await api.start(start_body(expired))).json()["license_serial"] == 2
        else:
            await api.service.ledger.state(id)
        await other.begin(files[1])

        reply = await api.start(start_body(expired))

        assert (reply.status_code, reply.json().get("license_serial")) == (201, 3)


async def test_a_file_that_was_renewed_meanwhile_is_judged_by_the_newest_that_counts_for_it(
    azurite: str, home: Home, issue: Issue
) -> None:
    id = new_license_id()
    expired, *files = [issue(sub=id, nbf=0, exp=1), issue(sub=id, serial=2), issue(sub=id, serial=3, oldest=2)]
    cached = factories.settings(home, azurite, LICENSING_STATUS_CACHE_SECONDS="60")
    async with running(cached) as api, running(cached) as other:
        session, lease = await api.begin(files[0])
        assert (await api.end(session, lease)).status_code == 204
        await other.begin(files[1])

        assert_problem(await api.start(start_body(expired)), "license-superseded", 403)


# What does not count.


async def test_a_file_below_the_oldest_that_counts_gets_nothing_newer(api: Api, renewed: Renewed, issue: Issue) -> None:
    id, older, newer = renewed(oldest=2)
    expired = issue(sub=id, nbf=0, exp=1)
    await api.begin(newer)

    for file in (older, expired):
        assert_problem(await api.start(start_body(file)), "license-superseded", 403)
        assert (await api.current(file)).status_code == 204
    await api.begin(issue(sub=id, serial=3, seats=3, oldest=2))
    reply = await api.start(start_body(newer))
    assert (reply.status_code, reply.json()["license_serial"]) == (201, 3)


async def test_a_row_of_another_serial_than_the_states_does_not_count(
    api: Api, renewed: Renewed, tables: Tables
) -> None:
    """As after a process of the first edition, which adopts newer terms and knows no such row."""
    id, older, newer = renewed()
    await api.begin(newer)
    await tables.commit("register", id, [merge("license", {"serial": (3, EdmType.INT64)})])

    assert_problem(await api.start(start_body(older)), "license-superseded", 403)
    assert (await api.current(older)).status_code == 204


@pytest.mark.parametrize("damage", ["gone", "unreadable", "altered", "another license's"])
async def test_without_a_good_row_an_old_file_is_superseded(
    api: Api, renewed: Renewed, issue: Issue, tables: Tables, damage: str
) -> None:
    id, older, newer = renewed()
    await api.begin(newer)
    stranger = new_license_id()
    await api.begin(issue(sub=stranger, serial=2))
    write = {
        "gone": delete("file"),
        "unreadable": merge("file", {"serial": "two"}),
        "altered": merge("file", {"sealed": (await kept(tables, id) or {})["sealed"][:-6] + "AAAAAA"}),
        "another license's": merge("file", {"sealed": (await kept(tables, stranger) or {})["sealed"]}),
    }[damage]
    await tables.commit("register", id, [write])

    assert_problem(await api.start(start_body(older)), "license-superseded", 403)
    assert (await api.current(older)).status_code == 204


async def test_a_file_whose_issuer_key_is_not_trusted_any_more_is_no_newer_file(azurite: str, home: Home) -> None:
    id, key = new_license_id(), new_private_jwk()
    older = factories.issue(home, sub=id)
    newer = sign(factories.claims(home, sub=id, serial=2, seats=2), LICENSE_TYPE, SigningKeys({"keys": [key]}))
    both = json.dumps(public_jwks([*home.issuer_jwks(), key]))
    async with running(factories.settings(home, azurite, LICENSING_ISSUER_KEYS=both)) as api:
        await api.begin(newer)
    async with running(factories.settings(home, azurite)) as api:
        assert_problem(await api.start(start_body(older)), "license-superseded", 403)


# The row.


@pytest.mark.parametrize("people", [{"users": [USER]}, {"hosts": [factories.host_hash()]}, {"networks": ["0.0.0.0/0"]}])
async def test_a_file_that_lists_people_is_never_stored_and_drops_the_one_before(
    api: Api, renewed: Renewed, issue: Issue, tables: Tables, people: dict[str, Any]
) -> None:
    id, older, newer = renewed()
    await api.begin(newer)
    assert await kept(tables, id) is not None

    await api.begin(issue(sub=id, serial=3, seats=4, **people))

    assert await kept(tables, id) is None
    for file in (older, newer):
        assert_problem(await api.start(start_body(file)), "license-superseded", 403)
    await api.begin(issue(sub=id, serial=4, seats=4, **people))  # there is nothing to delete any more
    await api.begin(issue(sub=id, serial=5, seats=9))
    assert (await api.start(start_body(older))).status_code == 201


async def test_a_row_that_cannot_be_read_is_dropped_as_well(
    api: Api, renewed: Renewed, issue: Issue, tables: Tables
) -> None:
    id, _, newer = renewed()
    await api.begin(newer)
    await tables.commit("register", id, [merge("file", {"published_at": "yesterday"})])

    await api.begin(issue(sub=id, serial=3, seats=4, users=[USER]))

    assert await kept(tables, id) is None


async def test_a_first_file_that_lists_people_is_not_stored(api: Api, issue: Issue, tables: Tables) -> None:
    id = new_license_id()
    await api.begin(issue(sub=id, users=[USER]))
    assert await kept(tables, id) is None


async def test_the_row_holds_serial_day_and_a_sealed_text_and_no_time_of_a_start(
    api: Api, renewed: Renewed, tables: Tables
) -> None:
    id, _, newer = renewed()
    await api.begin(newer)
    row = await kept(tables, id)
    assert row is not None
    assert row.keys() == {"serial", "published_at", "pepper", "sealed"}
    assert row["serial"] == (2, EdmType.INT64)
    assert row["published_at"] == midnight(api.service.clock().date())
    assert newer.split(".")[1][:40] not in row["sealed"]


async def test_after_a_rotation_the_file_opens_until_its_pepper_is_gone_or_it_is_sealed_anew(
    azurite: str, home: Home, renewed: Renewed, tables: Tables
) -> None:
    id, older, newer = renewed(seats=5)
    first, second = new_pepper(), new_pepper()

    async def started(*peppers: tuple[str, str], file: str) -> int:
        async with running(factories.settings(home, azurite, LICENSING_PEPPERS=json.dumps(dict(peppers)))) as api:
            return (await api.start(start_body(file))).status_code

    assert await started(first, file=newer) == 201
    assert await started(second, first, file=older) == 201
    assert await started(second, file=older) == 403
    both = Sealer(Peppers({pepper: b64decode(key) for pepper, key in (second, first)}))
    assert id not in (await reseal(Register(tables), both, second[0]))[1]
    assert (await reseal(Register(tables), both, first[0])) == (1, [])
    assert await started(second, file=older) == 201
    row = await kept(tables, id)
    assert row is not None
    assert row["pepper"] == second[0]


async def test_a_file_that_comes_under_the_older_pepper_while_it_goes_is_sealed_anew_as_well(
    azurite: str, home: Home, renewed: Renewed, tables: Tables
) -> None:
    """From a process that still has the older pepper for the current one."""
    id, older, newer = renewed(seats=5)
    first, second = new_pepper(), new_pepper()
    both = Sealer(Peppers({pepper: b64decode(key) for pepper, key in (second, first)}))

    class Meanwhile(Register):
        async def reseal(self, license_id: str, before: Any, file: Any) -> None:
            if license_id == id and before.value.serial == 1:
                await behind.begin(newer)
            await super().reseal(license_id, before, file)

    not_restarted = factories.settings(home, azurite, LICENSING_PEPPERS=json.dumps(dict((first, second))))
    async with running(not_restarted) as behind:
        await behind.begin(older)
        assert await reseal(Meanwhile(tables), both, first[0]) == (1, [])
    row = await kept(tables, id)
    assert row is not None
    assert (row["serial"], row["pepper"]) == ((2, EdmType.INT64), second[0])


async def test_a_kept_file_that_cannot_be_read_is_named_and_hinders_no_other(
    azurite: str, home: Home, issue: Issue, tables: Tables
) -> None:
    first, second, ids = new_pepper(), new_pepper(), sorted(new_license_id() for _ in range(2))
    async with running(factories.settings(home, azurite, LICENSING_PEPPERS=json.dumps(dict([first])))) as api:
        for id in ids:
            await api.begin(issue(sub=id))
    await tables.commit("register", ids[0], [merge("file", {"published_at": "yesterday"})])
    both = Sealer(Peppers({pepper: b64decode(key) for pepper, key in (second, first)}))
    assert await reseal(Register(tables), both, first[0]) == (1, [ids[0]])


async def test_files_race_in_from_four_processes_and_the_newest_is_kept(
    azurite: str, home: Home, issue: Issue, tables: Tables
) -> None:
    id = new_license_id()
    files = [issue(sub=id, serial=serial, seats=99, users=[USER] if serial == 5 else []) for serial in range(1, 9)]
    async with AsyncExitStack() as opened:
        apis = [await opened.enter_async_context(running(factories.settings(home, azurite))) for _ in range(4)]
        replies = await asyncio.gather(
            *(apis[place % 4].start(start_body(file)) for place, file in enumerate(files * 3))
        )
        assert {reply.status_code for reply in replies} <= {201, 403}
        assert all(reply.status_code == 201 for place, reply in enumerate(replies) if place % 8 == 7)
        row = await kept(tables, id)
        assert row is not None
        assert row["serial"] == (8, EdmType.INT64)
        for api in apis:
            assert (await api.start(start_body(files[0]))).json()["license_serial"] == 8


# The newest file, for programs.


async def test_a_program_gets_the_newest_file_for_an_older_one_also_after_its_end(
    api: Api, home: Home, renewed: Renewed, issue: Issue
) -> None:
    id, older, newer = renewed()
    expired = issue(sub=id, nbf=0, exp=1)
    await api.begin(newer)

    for file in (older, expired):
        reply = await api.current(file)
        assert (reply.status_code, reply.json()) == (200, {"license": newer, "serial": 2})
    assert read_license(reply.json()["license"], home.trusted_keys()).seats == 2
    assert (await api.current(newer)).status_code == 204
    assert (await api.current(issue(sub=id, serial=3))).status_code == 204, "a newer one than the register has"
    assert (await api.current(issue())).status_code == 204, "a license that nobody has used"


async def test_a_process_with_an_old_cache_still_gives_the_newest_file(
    azurite: str, home: Home, renewed: Renewed
) -> None:
    _, older, newer = renewed()
    async with (
        running(factories.settings(home, azurite)) as api,
        running(factories.settings(home, azurite)) as other,
    ):
        await api.begin(older)
        await other.begin(newer)
        assert (await api.current(older)).json()["serial"] == 2


async def test_a_process_that_has_opened_the_file_before_still_gives_the_newest(
    azurite: str, home: Home, renewed: Renewed, issue: Issue
) -> None:
    id, older, newer = renewed()
    cached = factories.settings(home, azurite, LICENSING_STATUS_CACHE_SECONDS="60")
    async with running(cached) as api, running(cached) as other:
        await api.begin(newer)
        assert (await api.current(older)).json()["serial"] == 2
        await other.begin(issue(sub=id, serial=3, seats=3))
        assert (await api.current(older)).json()["serial"] == 3


async def test_nothing_is_given_for_a_file_that_is_not_genuine(api: Api, renewed: Renewed) -> None:
    _, older, newer = renewed()
    await api.begin(newer)
    for text in (older[:-4], "x", newer.split(".")[0]):
        assert_problem(await api.current(text), "license-invalid", 401)


# Published ahead.


async def test_a_published_file_holds_before_any_program_has_it(
    api: Api, home: Home, renewed: Renewed, tables: Tables
) -> None:
    id, older, newer = renewed()
    await api.begin(older)
    assert_problem(await api.start(start_body(older)), "no-seat-available", 409)
    files: LicenseFiles = api.service.files
    license, now = read_license(newer, home.trusted_keys()), api.service.clock()
    file = files.sealed(license, newer, now)
    assert file is not None

    state = await api.service.ledger.publish(id, Terms.of(license), file)

    assert isinstance(state, LicenseState)
    assert state.terms.seats == 2
    row = await kept(tables, id)
    assert row is not None
    assert row["published_at"] == now
    assert (await api.start(start_body(older))).json()["seats"] == {"in_use": 2, "total": 2, "waiting": 0}
