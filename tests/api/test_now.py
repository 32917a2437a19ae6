"""How licenses stand now, over HTTP: that it is true, what small groups are told, and what asking costs."""

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from licensing.cli.home import Home
from licensing.rules.license import Kind
from licensing.rules.usage import DAY, Use
from licensing.storage import register as rows
from licensing.storage.tables import Tables, put
from tests import factories
from tests.api.client import NOW, Api, running
from tests.factories import Clock, at, use
from tests.register_rows import Customer, new_customer
from tests.stores import StorageCalls

TODAY: Final = NOW.date()
YESTERDAY: Final = TODAY - DAY
NUMBERS: Final = ("in_use", "total", "waiting")


@pytest.fixture
def customer(tables: Tables) -> Customer:
    """A new customer, who has not used its license yet."""
    return new_customer(tables)


def token(home: Home, customer: Customer) -> str:
    """A report token that is good for two days from `NOW` on."""
    return factories.report_token(home, customer.organization, exp=int((NOW + 2 * DAY).timestamp()))


def people(count: int) -> list[Use]:
    """So many people worked yesterday."""
    return [use(f"s{n}", at(YESTERDAY, 8), at(YESTERDAY, 9)) for n in range(count)]


async def now_of(service: Api, home: Home, customer: Customer) -> Any:
    """What is shown of a customer's only license: the page's data and its renewal say the same."""
    renewed, page = await service.now(token(home, customer)), await service.usage(token(home, customer))
    assert (renewed.status_code, page.status_code) == (200, 200), renewed.text
    (license,), (on_page,) = renewed.json()["licenses"], page.json()["licenses"]
    assert license["id"] == on_page["id"] == customer.license
    assert license["now"] == on_page["now"]
    return license["now"]


# That it is true.


async def test_programs_that_run_are_seats_in_use(home: Home, azurite: str, clock: Clock) -> None:
    organization = factories.new_id("org")
    clock.now = datetime.now(UTC).replace(hour=23, minute=50)
    seats = {"seats": 4, "overdraft": 1, "exp": int(clock.now.timestamp()) + 30 * factories.DAY}
    license = factories.issue(home, organization={"id": organization, "name": "Acme"}, **seats)
    good = factories.report_token(home, organization, exp=int(clock.now.timestamp()) + factories.DAY)
    async with running(factories.settings(home, azurite), clock) as api:
        begun = [await api.begin(license, user=factories.user_hash(name)) for name in ("ada", "bob", "cid")]
        for _ in range(6):
            clock.forward(600)
            begun = [(each, (await api.heartbeat(each, lease)).json()["lease"]) for each, lease in begun]

        (first,) = (await api.now(good)).json()["licenses"]
        for _ in range(2):
            await api.begin(license)
        clock.forward(10)
        (second,) = (await api.now(good)).json()["licenses"]
        await api.end(*begun[0])
        clock.forward(10)
        (third,) = (await api.now(good)).json()["licenses"]

    shown = [(each["now"]["in_use"], each["now"]["total"], each["now"]["free"]) for each in (first, second, third)]
    assert shown == [(3, 4, True), (5, 4, False), (4, 4, True)]
    assert third["now"]["as_of"] == clock.now.isoformat().replace("+00:00", "Z")


async def test_all_members_are_shown_where_enough_people_work(
    service: Api, home: Home, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await customer.used(people(3), in_use=2)
    monkeypatch.setattr(service.service.ledger, "waiting", lambda state: state.in_use * 2)

    now = await now_of(service, home, customer)

    assert now == {"as_of": "2026-11-24T12:00:00Z", "free": False, "in_use": 2, "total": 3, "waiting": 4}


@pytest.mark.parametrize(
    ("in_use", "overdraft", "waiting", "free"), [(2, 0, 0, True), (3, 0, 0, False), (3, 1, 0, True), (2, 0, 1, False)]
)
async def test_a_seat_is_free_if_one_is_left_and_nobody_waits(
    service: Api,
    home: Home,
    tables: Tables,
    monkeypatch: pytest.MonkeyPatch,
    in_use: int,
    overdraft: int,
    waiting: int,
    free: bool,
) -> None:
    customer = new_customer(tables, overdraft=overdraft)
    await customer.used(in_use=in_use)
    monkeypatch.setattr(service.service.ledger, "waiting", lambda _: waiting)

    assert (await now_of(service, home, customer))["free"] is free


async def test_a_license_that_takes_no_seats_has_nothing_of_now(service: Api, home: Home, tables: Tables) -> None:
    customer = new_customer(tables, kind=Kind.NAMED_USER, seats=0)
    await customer.used(people(3))

    assert await now_of(service, home, customer) is None


async def test_the_page_knows_when_its_link_ends(service: Api, home: Home, customer: Customer) -> None:
    assert (await service.usage(token(home, customer))).json()["link_until"] == "2026-11-26T12:00:00Z"


async def test_nothing_of_other_organizations_is_shown(service: Api, home: Home, tables: Tables) -> None:
    one, other = new_customer(tables), new_customer(tables)
    await one.used()
    await other.used()

    assert await now_of(service, home, one)
    text = (await service.metrics(token(home, one))).text
    assert one.license in text
    assert other.license not in text


# What small groups are told.


def by(user: str, begin: float, end: float | None, days: int = 1, **changes: Any) -> Use:
    """A session of a user, so many days before today."""
    day = TODAY - days * DAY
    return use(factories.new_session_id(), at(day, begin), None if end is None else at(day, end), user, **changes)


OTHERS: Final = (by("ada", 8, 9), by("bob", 8, 9))


@pytest.mark.parametrize(
    ("third", "enough"),
    [
        (by("cid", 8, 9), True),
        (by("cid", 23, None), True),
        (by("cid", 0, 1, days=30), True),
        (by("cid", 0, 23.99, days=31), False),
        (by("cid", 8, None, days=0), False),
        (by("ada", 10, 11), False),
        (by("ada", 10, 11, pepper="q"), False),
        (by("ada", 10, None, pepper="q"), False),
    ],
    ids=[
        *("yesterday", "still running", "30 days ago", "31 days ago", "today"),
        *("the same person", "the same person under another pepper", "the same, running"),
    ],
)
async def test_numbers_are_shown_if_three_people_worked_within_thirty_days(
    service: Api, home: Home, customer: Customer, third: Use, enough: bool
) -> None:
    await customer.used([*OTHERS, third], now=NOW, in_use=1)

    now = await now_of(service, home, customer)

    assert now["free"] is True
    assert [now[name] for name in NUMBERS] == ([1, 3, 0] if enough else [None] * 3)
    numbers = ("seats_in_use{", "seats{", "waiting{")
    text = (await service.metrics(token(home, customer))).text
    assert [f"\nlicensing_{name}" in text for name in numbers] == [enough] * 3
    assert "\nlicensing_seat_free{" in text


async def test_when_a_third_person_begins_is_not_shown(
    service: Api, home: Home, customer: Customer, clock: Clock
) -> None:
    """Numbers appear with a new day, at whatever hour of the day before somebody came."""
    await customer.used([*OTHERS, by("cid", 8, 9, days=0)])
    seen = []
    for hour in (7.5, 8.5, 9.5, 23.99, 24):
        clock.now = at(TODAY, hour)
        seen.append((await now_of(service, home, customer))["in_use"])

    assert seen == [None, None, None, None, 0]


async def test_the_small_group_is_the_one_that_is_set(home: Home, azurite: str, customer: Customer) -> None:
    await customer.used(people(4))
    for small_group, shown in (("4", 0), ("5", None)):
        settings = factories.settings(home, azurite, LICENSING_SMALL_GROUP=small_group)
        async with running(settings, lambda: NOW) as api:
            assert (await now_of(api, home, customer))["in_use"] == shown


async def test_a_license_does_not_appear_before_its_first_day_is_over(
    service: Api, home: Home, customer: Customer, clock: Clock
) -> None:
    await customer.used([by("ada", 8, 9, days=0)], since=at(TODAY, 0))
    for hour, shown in ((12, 0), (24.4, 0), (24.6, 1)):
        clock.now = at(TODAY, hour)
        assert len((await service.now(token(home, customer))).json()["licenses"]) == shown
        assert (customer.license in (await service.metrics(token(home, customer))).text) == bool(shown)


# What asking costs.


async def test_one_reading_of_a_license_serves_all_callers_for_ten_seconds(
    service: Api, home: Home, customer: Customer, tables: Tables, clock: Clock, storage_calls: StorageCalls
) -> None:
    other = new_customer(tables, organization_id=customer.organization)
    for each in (customer, other):
        await each.used(people(3), in_use=1)
    good = token(home, customer)

    async def calls(*asked: Any) -> list[str]:
        mark = await storage_calls.mark()
        for reply in await asyncio.gather(*asked):
            assert reply.status_code == 200
        return await storage_calls.since(mark)

    first = await calls(*(service.now(good) for _ in range(50)))
    assert len([call for call in first if "/directory(" in call]) == 1, first
    assert len(first) == 1 + 2 * (1 + 2), first  # of each license the state, then who runs and who ended
    clock.forward(9.9)
    assert await calls(*(service.now(good) for _ in range(5)), service.usage(good, format="csv"), service.now(good))
    assert await calls(service.now(good), service.usage(good), service.metrics(good)) == []
    clock.forward(0.1)
    again = await calls(service.now(good), service.usage(good), service.metrics(good), service.now(good))
    assert len(again) == 2, again
    assert all("RowKey='license'" in call for call in again)
    clock.forward(59.9)
    assert len(await calls(service.now(good))) == 1 + 2
    clock.forward(3600)
    assert len(await calls(service.now(good))) == 1 + 2 * (1 + 2)


async def test_who_runs_is_read_first_and_nothing_once_enough_are_seen(
    service: Api, home: Home, customer: Customer, storage_calls: StorageCalls
) -> None:
    await customer.used([*(by(user, 8, None) for user in ("ada", "bob", "cid")), *people(3)], now=NOW)

    mark = await storage_calls.mark()
    (license,) = (await service.now(token(home, customer))).json()["licenses"]

    assert len(await storage_calls.since(mark)) == 1 + 1 + 1
    assert license["now"]["total"] == 3


async def test_the_csv_asks_for_nothing_of_now(
    service: Api, home: Home, customer: Customer, clock: Clock, storage_calls: StorageCalls
) -> None:
    await customer.used(people(3))
    await service.usage(token(home, customer), format="csv")
    clock.forward(30)

    mark = await storage_calls.mark()
    reply = await service.usage(token(home, customer), format="csv")

    assert await storage_calls.since(mark) == []
    assert "now" not in reply.text.splitlines()[0].split(",")


async def test_a_caller_that_goes_away_does_not_take_the_reading_from_the_others(
    service: Api, home: Home, customer: Customer
) -> None:
    await customer.used(people(3))
    leaving = asyncio.create_task(service.now(token(home, customer)))
    staying = asyncio.create_task(service.now(token(home, customer)))
    await asyncio.sleep(0)
    leaving.cancel()

    assert (await staying).status_code == 200


async def test_a_reading_that_failed_is_made_again(
    service: Api, home: Home, customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await customer.used(people(3))

    async def broken(*_: object) -> None:
        raise OSError

    with monkeypatch.context() as patch:
        patch.setattr(service.service.ledger, "state", broken)
        assert (await service.now(token(home, customer))).status_code == 503

    assert (await service.now(token(home, customer))).status_code == 200


async def test_a_row_that_cannot_be_read_does_not_take_the_numbers_of_all_licenses(
    service: Api, home: Home, customer: Customer, tables: Tables
) -> None:
    await customer.used(people(4), in_use=1)
    ended = [row async for row in tables.rows("register", customer.license, rows.ENDED, rows.beyond(rows.ENDED))]
    await tables.commit("register", customer.license, [put(ended[0].key, {"started_at": at(YESTERDAY, 8)})])

    (license,) = (await service.now(token(home, customer))).json()["licenses"]

    assert license["now"]["in_use"] == 1
