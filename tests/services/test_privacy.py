"""The rights of the people in the register, on a real store: found everywhere, corrected, erased, or never stored."""

import asyncio
import itertools
import re
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import jsonschema
import pytest

from licensing.cli.home import Home
from licensing.crypto.pseudonyms import Peppers
from licensing.errors import PepperError, UnavailableError
from licensing.rules.license import Kind, Sharing
from licensing.rules.model import LicenseState
from licensing.rules.personal import PersonalData, as_text
from licensing.rules.requests import End, Granted, Request, Start
from licensing.services.privacy import ImplausibleError, PersonQuery, Privacy
from licensing.services.sessions import Gone, Running, Sessions, StartRequest
from licensing.services.totals import aggregate_license, mark_final, save_totals
from licensing.storage import register as rows
from licensing.storage.ledger import Answer, Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Row, Table, Tables, Write
from tests import factories
from tests.factories import Clock, new_license_id, new_session_id, sessions_over
from tests.office import HOUR, NOON, PEPPERS, Office
from tests.register_rows import values_of
from tests.stores import OneCustomer, ledgers


@pytest.fixture
def office(tables: Tables) -> Office:
    return Office(tables)


def found(data: PersonalData) -> set[str]:
    return {session.session for session in data.sessions}


# Export.


async def test_an_export_finds_a_person_everywhere_and_nobody_else(office: Office) -> None:
    floating, shared, named = new_license_id(), new_license_id(), new_license_id()
    hers = {
        await office.use(floating, "ada", pepper="old"),
        await office.use(floating, "ADA "),  # as another computer spells it
        await office.begin(floating, "ada", pepper="old"),
        await office.begin(shared, "ada", sharing=Sharing.USER),
        await office.use(named, "ada", kind=Kind.NAMED_USER),
    }
    await office.use(floating, "bob")
    await office.begin(shared, "bob", sharing=Sharing.USER)
    elsewhere = Office(office.tables)
    await elsewhere.use(new_license_id(), "ada")
    data = await office.privacy.export(office.wanted("Ada"))
    assert found(data) == hers
    assert len(data.sessions) == 5
    assert (data.organization, data.licenses, data.peppers) == (office.organization, 3, 2)
    assert [each.started_at for each in data.sessions] == sorted(each.started_at for each in data.sessions)


async def test_both_uses_of_an_id_that_was_started_again_are_shown_corrected_and_erased(office: Office) -> None:
    license_id = new_license_id()
    session = await office.use(license_id, "ada")
    office.clock.forward(3600)
    await office.use(license_id, "ada", session=session)
    shown = [(each.started_at, each.ended_at) for each in (await office.privacy.export(office.wanted("ada"))).sessions]
    assert shown == [(NOON, NOON + HOUR), (NOON + 2 * HOUR, NOON + 3 * HOUR)]
    done = await office.privacy.correct_end(office.wanted("ada"), session, NOON + HOUR / 2)
    assert (done.corrected, done.running) == (1, 0)
    done = await office.privacy.correct_end(office.wanted("ada"), session, NOON + 2.5 * HOUR)
    assert (done.corrected, done.running) == (1, 0)
    shown = [(each.started_at, each.ended_at) for each in (await office.privacy.export(office.wanted("ada"))).sessions]
    assert shown == [(NOON, NOON + HOUR / 2), (NOON + 2 * HOUR, NOON + 2.5 * HOUR)]
    assert (await office.privacy.erase(office.wanted("ada"))).deleted == 2
    assert not (await office.held(license_id)).ended


async def test_who_has_a_computer_or_an_address_in_mind_gets_only_that(office: Office) -> None:
    license_id = new_license_id()
    here = await office.use(license_id, "ada", host="PC-1", address="192.0.2.7", pepper="old")
    there = await office.use(license_id, "ada", host="pc-2", address="2001:db8:1:2::3")
    await office.use(license_id, "bob", host="pc-1", address="192.0.2.7")
    export = office.privacy.export
    assert found(await export(office.wanted("ada", host="pc-1"))) == {here}
    assert found(await export(office.wanted("ada", address="192.0.2.7"))) == {here}
    assert found(await export(office.wanted("ada", address="2001:db8:1:2:ffff::1"))) == {there}, "the same /64"
    assert found(await export(office.wanted("ada", host="pc-1", address="192.0.2.8"))) == set()
    assert found(await export(office.wanted("ada"))) == {here, there}


async def test_an_export_is_as_its_schema_says_and_tells_until_when_all_is_kept(office: Office) -> None:
    license_id = new_license_id()
    ended = await office.use(license_id, "ada")
    await office.begin(license_id, "ada")
    data = await office.privacy.export(office.wanted("ada"))
    schema = PersonalData.model_json_schema()
    check = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    check.validate(data.model_dump(mode="json"))
    with pytest.raises(jsonschema.ValidationError):
        check.validate({**data.model_dump(mode="json"), "name": "ada"})
    first, second = data.sessions
    assert (first.session, first.state, first.reason) == (ended, "ended", "ended")
    assert first.kept_until == datetime(2027, 3, 10, 13, tzinfo=UTC)
    assert (second.state, second.ended_at, second.kept_until) == ("active", None, None)
    for model in schema["$defs"].values():
        assert all("description" in each for each in model["properties"].values()), "each field is explained"


async def test_an_export_shows_every_column_that_a_session_has(office: Office) -> None:
    license_id = new_license_id()
    await office.use(license_id, "ada", sharing=Sharing.USER_HOST)
    (row,) = (await office.held(license_id)).ended.values()
    (exported,) = (await office.privacy.export(office.wanted("ada"))).sessions
    assert exported.license == license_id
    assert exported.model_dump().items() >= row.items()
    text = as_text(await office.privacy.export(office.wanted("ada")))
    for value in row.values():
        assert f"{value:%Y-%m-%d %H:%M:%S} UTC" if isinstance(value, datetime) else str(value) in text


async def test_a_start_that_had_to_wait_is_exported_and_erased_with_its_session(office: Office) -> None:
    license_id = new_license_id()
    first = await office.begin(license_id, "bob", seats=1)
    waiting, other = new_session_id(), new_session_id()
    hashes = factories.user_hash("ada"), factories.host_hash("pc")
    persons = office.peppers.persons(office.organization, *hashes, None)
    for session in (waiting, other):
        await office.ledger.submit(license_id, Start(session, office.terms(seats=1), persons))
    office.clock.forward(60)
    await office.end(license_id, first)
    await office.begin(license_id, "ada", seats=1, session=waiting)
    assert (await office.held(license_id)).denied.keys() == {waiting, other}
    data = await office.privacy.export(office.wanted("ada"))
    assert [(wait.session, wait.first_at) for wait in data.waits] == [(waiting, NOON)]
    assert "And where a start was refused first" in as_text(data)
    await office.privacy.erase(office.wanted("ada"))
    assert (await office.held(license_id)).denied.keys() == {other}, "nothing says whose the other one was"


async def test_a_session_that_ends_while_it_is_exported_is_exported_once(office: Office) -> None:
    license_id = new_license_id()
    session = await office.begin(license_id, "ada")

    class EndsMeanwhile(Tables):
        async def rows(self, *args: Any, **kwargs: Any) -> AsyncIterator[Row]:
            async for row in super().rows(*args, **kwargs):
                yield row
                if row.key == rows.ACTIVE + session:
                    await office.end(license_id, session)

    store = EndsMeanwhile(office.tables._service, office.tables._pipeline)
    privacy = Privacy(Register(store), office.ledger, office.peppers, office.clock)
    (exported,) = (await privacy.export(office.wanted("ada"))).sessions
    assert exported.state == "ended"


# Erase.


async def test_an_erasure_takes_all_of_a_person_and_frees_the_seats(office: Office) -> None:
    license_id, shared = new_license_id(), new_license_id()
    for pepper in ("old", "new"):
        await office.use(license_id, "ada", pepper=pepper)
        await office.begin(license_id, "ada", pepper=pepper)
    for host in ("pc-1", "pc-2"):
        await office.begin(shared, "ada", host=host, sharing=Sharing.USER)
    stays = await office.use(license_id, "bob"), await office.begin(license_id, "bob")
    on_his_seat = await office.begin(shared, "bob", sharing=Sharing.USER)
    receipt = await office.privacy.erase(office.wanted("ada"))
    assert (receipt.organization, receipt.at) == (office.organization, office.clock())
    assert (receipt.licenses, receipt.ended, receipt.deleted) == (2, 4, 6)
    seen = await office.held(license_id)
    assert (set(seen.ended), set(seen.active)) == ({stays[0]}, {stays[1]})
    assert seen.state["in_use"] == 1
    seen = await office.held(shared)
    assert (set(seen.ended), set(seen.active), len(seen.seats)) == (set(), {on_his_seat}, 1)
    assert found(await office.privacy.export(office.wanted("ada"))) == set()
    again = await office.privacy.erase(office.wanted("ada"))
    assert (again.ended, again.deleted) == (0, 0)


async def test_an_erasure_leaves_final_totals_and_is_left_out_of_those_to_come(office: Office) -> None:
    license_id, today, tomorrow = new_license_id(), NOON.date(), NOON.date() + timedelta(days=1)
    await office.use(license_id, "ada")
    await office.use(license_id, "bob")
    office.clock.now = NOON + timedelta(days=1)
    await office.night()
    assert (await office.day(license_id, today))["users"] == 2
    await office.use(license_id, "ada")
    await office.use(license_id, "bob")
    await office.privacy.erase(office.wanted("ada"))
    office.clock.now = NOON + timedelta(days=2)
    await office.night()
    assert (await office.day(license_id, today))["users"] == 2, "made before, and stays"
    assert (await office.day(license_id, tomorrow))["users"] == 1, "made afterwards, without"
    office.clock.now = datetime(2026, 4, 1, 3, tzinfo=UTC)
    await office.night()
    assert (await office.month(license_id, "2026-03"))["users"] == 1
    assert await office.people("2026-03") == 1


async def test_an_erasure_and_a_correction_leave_seats_whole_beside_live_traffic(office: Office) -> None:
    license_id, privacy = new_license_id(), office.privacy
    office.clock.now = datetime.now(UTC)
    for user in ("ada", "bob"):
        for pepper in ("old", "new"):
            await office.use(license_id, user, pepper=pepper, hours=0, sharing=Sharing.USER, seats=2)
    before = (await office.held(license_id)).ended.keys()
    done = asyncio.Event()
    runs = [0, 0, 0, 0]

    async def program(number: int, ledger: Ledger, user: str) -> None:
        hashes = factories.user_hash(user), factories.host_hash("pc")
        persons = office.peppers.persons(office.organization, *hashes, None)
        while not done.is_set():
            start = Start(new_session_id(), office.terms(sharing=Sharing.USER, seats=2), persons)
            if isinstance((await with_retries(ledger, start)).outcome, Granted):
                runs[number] += 1
                await asyncio.sleep(0.002)
                await with_retries(ledger, End(start.session_id))

    async def with_retries(ledger: Ledger, request: Request) -> Answer:
        while True:
            with suppress(UnavailableError):  # as programs do where too many change a license at once
                return await ledger.submit(license_id, request)

    users = ("ada", "ada", "bob", "eve")
    programs = [
        asyncio.create_task(program(number, ledger, users[number]))
        for number, ledger in enumerate(ledgers(office.tables, office.clock, 4))
    ]
    for tries in itertools.count():
        if tries >= 4 and min(runs):  # three people want two seats; each has had one while this went on
            break
        assert tries < 200, runs
        await privacy.erase(office.wanted("ada"))
        await privacy.move(office.wanted("bob"), factories.user_hash("eve"))
    done.set()
    await asyncio.gather(*programs)
    seen = await office.held(license_id)
    assert seen.active == {}
    assert before - seen.ended.keys() == {
        each for each in before if each not in found(await privacy.export(office.wanted("eve")))
    }
    await privacy.erase(office.wanted("ada"))
    await privacy.move(office.wanted("bob"), factories.user_hash("eve"))
    seen = await office.held(license_id)
    assert found(await privacy.export(office.wanted("eve"))) == seen.ended.keys()
    assert len(seen.ended.keys() & before) == 2


# Crashes.


class CrashError(Exception):
    """The process is gone."""


class Crashing(OneCustomer):
    """A real store whose process is gone right before or after its n-th call."""

    def __init__(self, tables: OneCustomer, at: int, after: bool) -> None:
        super().__init__(tables, tables.organization_id)
        self.left = at
        self.after = after
        self.gone = False

    def call(self, after: bool) -> None:
        if self.gone:
            raise CrashError
        self.left -= not after
        if self.left == 0 and after == self.after:
            self.gone = True
            raise CrashError

    async def get(self, table: Table, partition: str, key: str, columns: Sequence[str] | None = None) -> Row | None:
        self.call(after=False)
        row = await super().get(table, partition, key, columns)
        self.call(after=True)
        return row

    async def pages(self, *args: Any, **kwargs: Any) -> AsyncGenerator[list[Row], None]:
        self.call(after=False)
        async for page in super().pages(*args, **kwargs):
            yield page
        self.call(after=True)

    async def commit(self, table: Table, partition: str, writes: Sequence[Write]) -> list[str]:
        self.call(after=False)
        etags = await super().commit(table, partition, writes)
        self.call(after=True)
        return etags


ERASED = uuid.UUID(int=1)
Change = Callable[[Privacy, Office, str], Any]
CHANGES: dict[str, Change] = {
    "erase": lambda privacy, office, license: privacy.erase(office.wanted("ada")),
    "move": lambda privacy, office, license: privacy.move(office.wanted("ada"), factories.user_hash("eve")),
    "correct": lambda privacy, office, license: privacy.correct_end(
        office.wanted("ada"), str(ERASED), NOON + timedelta(minutes=1)
    ),
    "opt-out": lambda privacy, office, license: privacy.opt_out(license, erase=True),
}


async def scene(tables: Tables, change: str) -> tuple[Office, str]:
    """A license with a night behind it, on which two people have worked and one still does."""
    office, license_id = Office(tables), new_license_id()
    how: dict[str, Any] = {"kind": Kind.NAMED_USER} if change == "opt-out" else {"sharing": Sharing.USER}
    await office.use(license_id, "ada", session=str(ERASED), pepper="old", **how)
    await office.use(license_id, "ada", session=str(uuid.UUID(int=2)), **how)
    await office.use(license_id, "bob", session=str(uuid.UUID(int=3)), **how)
    office.clock.now = NOON + timedelta(days=1)
    await office.night()
    await office.begin(license_id, "ada", session=str(uuid.UUID(int=4)), **how)
    await office.begin(license_id, "bob", session=str(uuid.UUID(int=5)), **how)
    return office, license_id


async def left(office: Office, license_id: str) -> dict[str, dict[str, str]]:
    """What a license has in the store, with names in place of pseudonyms and without what is random."""
    names = {
        office.peppers.pseudonym(pepper, office.organization, "user", factories.user_hash(name)): f"{name}/{pepper}"
        for pepper in office.peppers
        for name in ("ada", "bob", "eve")
    }

    def named(value: object) -> str:
        return re.sub(r"[\w-]{22}", lambda match: names.get(match[0], "?"), str(value))

    left_out = {"commit", "correction", "organization"}
    return {
        named(row.key): {name: named(value) for name, value in values_of(row).items() if name not in left_out}
        async for row in office.tables.rows("register", license_id)
    }


@pytest.mark.parametrize("after", [False, True], ids=["before a call", "after a call"])
@pytest.mark.parametrize("change", CHANGES)
async def test_a_crash_at_any_storage_call_is_made_good_by_a_rerun(tables: Tables, change: str, after: bool) -> None:
    office, license = await scene(tables, change)
    await CHANGES[change](office.privacy, office, license)
    uninterrupted = await left(office, license)
    for call in itertools.count(1):
        office, license = await scene(tables, change)
        assert isinstance(office.tables, OneCustomer)
        store = Crashing(office.tables, call, after)
        privacy = Privacy(Register(store), Ledger(Register(store), office.clock), office.peppers, office.clock)
        try:
            await CHANGES[change](privacy, office, license)
        except CrashError:
            await CHANGES[change](office.privacy, office, license)
            assert await left(office, license) == uninterrupted, f"call {call}"
        else:
            assert call > 3, "it was interrupted before"
            break


@pytest.mark.parametrize("after", [False, True], ids=["before a call", "after a call"])
async def test_a_retention_run_saves_no_totals_of_a_person_whose_erasure_was_interrupted(
    tables: Tables, after: bool
) -> None:
    for call in itertools.count(1):
        office, license_id = await scene(tables, "erase")
        assert isinstance(office.tables, OneCustomer)
        register = Register(office.tables)
        aggregate = await aggregate_license(register, license_id, office.clock() + timedelta(days=2))
        assert aggregate.totals
        store = Register(Crashing(office.tables, call, after))
        crashed = False
        try:
            await Privacy(store, Ledger(store, office.clock), office.peppers, office.clock).erase(office.wanted("ada"))
        except CrashError:
            crashed = True
            await office.privacy.erase(office.wanted("ada"))
        await save_totals(register, license_id, aggregate)
        tomorrow = NOON.date() + timedelta(days=1)
        assert [totals async for totals in register.days(license_id, tomorrow)] == [], f"call {call}"
        if not crashed:
            assert call > 3, "it was interrupted before"
            break


# Rectify.


async def test_sessions_are_given_to_the_right_person_shared_seats_too(office: Office) -> None:
    license_id = new_license_id()
    how: dict[str, Any] = {"sharing": Sharing.USER_HOST, "hours": 1}
    under_old = await office.begin(license_id, "ada", pepper="old", sharing=Sharing.USER_HOST)
    # Her second program shares the seat, which bears her name under the old pepper.
    both = await office.use(license_id, "ada", **how)
    await office.end(license_id, under_old)
    his = await office.use(license_id, "bob", **how)
    done = await office.privacy.move(office.wanted("ada"), factories.user_hash("eve"))
    assert (done.corrected, done.running, done.months) == (2, 0, ())
    assert found(await office.privacy.export(office.wanted("ada"))) == set()
    assert found(await office.privacy.export(office.wanted("eve"))) == {under_old, both}
    assert found(await office.privacy.export(office.wanted("bob"))) == {his}
    hers = {
        office.peppers.pseudonym(pepper, office.organization, "user", factories.user_hash("ada")) for pepper in PEPPERS
    }
    assert not [each for each in hers if each in str(await office.held(license_id))], "nothing bears the wrong name"
    again = await office.privacy.move(office.wanted("ada"), factories.user_hash("eve"))
    assert again.corrected == 0


async def test_totals_follow_a_move(office: Office) -> None:
    license_id, other, today = new_license_id(), new_license_id(), NOON.date()
    await office.use(license_id, "ada")
    await office.use(license_id, "adda")
    await office.use(other, "bob")
    office.clock.now = datetime(2026, 4, 2, 3, tzinfo=UTC)
    await office.night()
    assert (await office.day(license_id, today))["users"] == 2
    assert await office.people("2026-03") == 3
    done = await office.privacy.move(office.wanted("adda"), factories.user_hash("ada"))
    assert (done.corrected, done.months) == (1, ("2026-03",))
    for _ in range(2):
        assert (await office.day(license_id, today))["users"] == 1
        assert (await office.month(license_id, "2026-03"))["users"] == 1
        assert await office.people("2026-03") == 2
        await office.night()


async def test_an_end_is_corrected_and_totals_follow(office: Office) -> None:
    license_id = new_license_id()
    session = await office.use(license_id, "ada", hours=30)
    other = await office.use(license_id, "ada", hours=1)
    office.clock.now = datetime(2026, 4, 2, 3, tzinfo=UTC)
    await office.night()
    assert (await office.day(license_id, NOON.date() + timedelta(days=1)))["seat_seconds"] == (
        18 * 3600 + 3600,
        "Edm.Int64",
    )
    done = await office.privacy.correct_end(office.wanted("ada"), session, NOON + HOUR)
    assert (done.corrected, done.running, done.months) == (1, 0, ("2026-03",))
    sessions = {each.session: each for each in (await office.privacy.export(office.wanted("ada"))).sessions}
    assert sessions[session].ended_at == NOON + HOUR
    assert sessions[session].kept_until == datetime(2027, 3, 10, 13, tzinfo=UTC)
    assert sessions[other].ended_at == NOON + 31 * HOUR
    await office.night()
    first, second = [await office.day(license_id, NOON.date() + timedelta(days=days)) for days in (0, 1)]
    assert first["seat_seconds"][0] == 3600
    assert (second["seat_seconds"][0], second["sessions"]) == (3600, 1)
    assert (await office.month(license_id, "2026-03"))["seat_seconds"][0] == 7200


@pytest.mark.parametrize(
    ("ended_at", "why"),
    [
        (NOON - timedelta(seconds=1), "before it began"),
        (NOON + 2 * HOUR + timedelta(seconds=1), "after it ended, and after its lease"),
        (NOON + 100 * HOUR, "in the future"),
    ],
)
async def test_an_end_that_cannot_be_is_refused(office: Office, ended_at: datetime, why: str) -> None:
    license_id = new_license_id()
    session = await office.use(license_id, "ada", hours=2)
    before = await office.held(license_id)
    with pytest.raises(
        ImplausibleError, match="can have ended between 2026-03-10 12:00:00 and 2026-03-10 14:00:00 UTC"
    ):
        await office.privacy.correct_end(office.wanted("ada"), session, ended_at)
    assert await office.held(license_id) == before, why


async def test_a_session_that_broke_off_can_have_run_until_its_lease_ended(office: Office) -> None:
    license_id = new_license_id()
    session = await office.use(license_id, "ada", hours=0)
    office.clock.forward(3600)
    latest = NOON + timedelta(seconds=900)
    with pytest.raises(ImplausibleError):
        await office.privacy.correct_end(office.wanted("ada"), session, latest + timedelta(seconds=1))
    assert (await office.privacy.correct_end(office.wanted("ada"), session, latest)).corrected == 1
    assert (await office.privacy.correct_end(office.wanted("ada"), session, latest)).corrected == 1, "safe to repeat"
    assert len((await office.held(license_id)).ended) == 1


async def test_nobody_elses_session_is_corrected(office: Office) -> None:
    license_id = new_license_id()
    session = await office.use(license_id, "bob")
    before = await office.held(license_id)
    done = await office.privacy.correct_end(office.wanted("ada"), session, NOON + timedelta(minutes=1))
    assert done.corrected == 0
    assert await office.held(license_id) == before


async def test_denials_and_waits_stand_when_totals_are_made_again(office: Office) -> None:
    license_id = new_license_id()
    first = await office.begin(license_id, "ada", seats=1)
    waiting = new_session_id()
    persons = office.peppers.persons(office.organization, factories.user_hash("bob"), factories.host_hash("pc"), None)
    for session in (waiting, new_session_id()):
        await office.ledger.submit(license_id, Start(session, office.terms(seats=1), persons))
    office.clock.forward(300)
    await office.end(license_id, first)
    await office.use(license_id, "bob", seats=1, session=waiting)
    office.clock.now = datetime(2026, 4, 2, 3, tzinfo=UTC)
    await office.night()
    rows_left = [
        row.key async for row in office.tables.rows("register", license_id, rows.DENIED, rows.beyond(rows.DENIED))
    ]
    assert rows_left == [], "they are gone once counted"
    await office.privacy.move(office.wanted("ada"), factories.user_hash("bob"))
    await office.night()
    for totals in (await office.day(license_id, NOON.date()), await office.month(license_id, "2026-03")):
        assert (totals["users"], totals["denials"], totals["waits"]) == (1, 2, 1)


@pytest.mark.parametrize("late", [datetime(2026, 3, 25, 12, tzinfo=UTC), datetime(2026, 3, 1, 12, tzinfo=UTC)])
async def test_totals_of_a_month_that_is_no_longer_whole_are_not_made_again(office: Office, late: datetime) -> None:
    """A year later the first of two sessions has been let go of, and the other has not."""
    license_id = new_license_id()
    office.clock.now = late.replace(year=2025) - 6 * HOUR
    first_day = office.clock().date()
    await office.use(license_id, "bob")
    office.clock.now = late.replace(year=2025) + HOUR
    await office.use(license_id, "adda")
    april = await office.use(license_id, "ada", hours=24 * 40)
    office.clock.now = datetime(2025, 6, 1, 3, tzinfo=UTC)
    await office.night()
    assert (await office.month(license_id, "2025-03"))["users"] == 3
    office.clock.now = late
    await office.night()
    done = await office.privacy.move(office.wanted("adda"), factories.user_hash("ada"))
    assert (done.corrected, done.months) == (1, ()), f"let go of on {first_day}: its totals stay"
    assert (await office.month(license_id, "2025-03"))["users"] == 3
    before = await office.month(license_id, "2025-04")
    done = await office.privacy.correct_end(office.wanted("ada"), april, datetime(2025, 4, 2, tzinfo=UTC))
    assert (done.corrected, done.months) == (1, ("2025-04", "2025-05")[: 2 if late.day > 21 else 1])
    assert before["seat_seconds"][0] > 86400
    for _ in range(2):
        assert (await office.month(license_id, "2025-03"))["users"] == 3
        assert (await office.month(license_id, "2025-04"))["seat_seconds"][0] == 86400
        await office.night()


async def test_running_sessions_are_left_and_counted(office: Office) -> None:
    license_id = new_license_id()
    running = await office.begin(license_id, "ada", sharing=Sharing.USER)
    ended = await office.use(license_id, "ada", sharing=Sharing.USER)
    done = await office.privacy.move(office.wanted("ada"), factories.user_hash("eve"))
    assert (done.corrected, done.running) == (1, 1)
    assert found(await office.privacy.export(office.wanted("ada"))) == {running}
    await office.held(license_id)
    done = await office.privacy.correct_end(office.wanted("eve"), ended, NOON)
    assert (done.corrected, done.running) == (1, 0), "that one does not run"
    done = await office.privacy.correct_end(office.wanted("ada"), running, NOON)
    assert (done.corrected, done.running) == (0, 1)
    await office.end(license_id, running)
    assert (await office.privacy.move(office.wanted("ada"), factories.user_hash("eve"))).corrected == 1


async def test_a_night_that_was_reading_while_a_session_was_corrected_does_not_save_its_totals(
    office: Office,
) -> None:
    license_id, today = new_license_id(), NOON.date()
    await office.use(license_id, "ada")
    await office.use(license_id, "adda")
    office.clock.now = NOON + timedelta(days=1)
    read_before = await aggregate_license(Register(office.tables), license_id, office.clock())
    await office.privacy.move(office.wanted("adda"), factories.user_hash("ada"))
    await save_totals(Register(office.tables), license_id, read_before)
    await mark_final(Register(office.tables), license_id, read_before)
    assert "day" not in await kinds(office, license_id)
    await office.night()
    assert (await office.day(license_id, today))["users"] == 1


@pytest.mark.parametrize("saved", [False, True], ids=["before it saves them", "after"])
async def test_a_night_that_was_reading_while_people_were_erased_saves_nothing(office: Office, saved: bool) -> None:
    erased, alone = new_license_id(), new_license_id()
    for license in (erased, alone):
        await office.use(license, "ada", kind=Kind.NODE_LOCKED)
    office.clock.now = NOON + timedelta(days=40)
    read_before = {
        license: await aggregate_license(Register(office.tables), license, office.clock())
        for license in (erased, alone)
    }
    if saved:
        await save_totals(Register(office.tables), erased, read_before[erased])
    await office.privacy.opt_out(erased, erase=True)
    await office.privacy.erase(office.wanted("ada"))
    for license, aggregate in read_before.items():
        await save_totals(Register(office.tables), license, aggregate)
        await mark_final(Register(office.tables), license, aggregate)
    kept = {"day", "license", "month"}
    assert (await kinds(office, erased), await kinds(office, alone)) == ({"license"}, kept), "an erasure leaves totals"
    await office.night()
    assert (await kinds(office, erased), await kinds(office, alone)) == ({"license"}, kept)
    assert (await office.day(alone, NOON.date()))["seat_seconds"][0] == 3600


async def test_many_sessions_are_corrected_beside_starts_on_the_same_license(office: Office) -> None:
    license_id = new_license_id()
    sessions = {await office.use(license_id, "adda", hours=0.01, seats=500) for _ in range(120)}
    corrected, _ = await asyncio.gather(
        office.privacy.move(office.wanted("adda"), factories.user_hash("ada")),
        asyncio.gather(*(office.begin(license_id, f"user-{number}", seats=500) for number in range(200))),
    )
    assert corrected.corrected == 120
    assert found(await office.privacy.export(office.wanted("ada"))) == sessions
    assert (await office.held(license_id)).state["in_use"] == 200


# Peppers that are not at hand.


class Counting(OneCustomer):
    """Counts the range reads of the register, by license."""

    def __init__(self, tables: Tables, organization: str) -> None:
        super().__init__(tables, organization)
        self.reads: list[str] = []

    def pages(self, table: Table, partition: str | None = None, *args: Any, **kwargs: Any) -> Any:
        if table == "register" and partition is not None:
            self.reads.append(partition)
        return super().pages(table, partition, *args, **kwargs)


Do = Callable[[Privacy, PersonQuery], Awaitable[object]]
REQUESTS: dict[str, Do] = {
    "export": lambda privacy, wanted: privacy.export(wanted),
    "erase": lambda privacy, wanted: privacy.erase(wanted),
    "move": lambda privacy, wanted: privacy.move(wanted, factories.user_hash("eve")),
    "end": lambda privacy, wanted: privacy.correct_end(wanted, new_session_id(), NOON),
}


@pytest.mark.parametrize("request_", REQUESTS)
async def test_nothing_is_done_where_somebody_would_be_overlooked(office: Office, request_: str) -> None:
    first, last = sorted((new_license_id(), new_license_id()))
    await office.use(first, "ada")
    await office.use(last, "bob", pepper="old")
    before = await office.held(first), await office.held(last)
    newest = Peppers({"new": PEPPERS["new"]})
    partly = Privacy(Register(office.tables), office.ledger, newest, office.clock)
    with pytest.raises(PepperError) as caught:
        await REQUESTS[request_](partly, office.wanted("ada"))
    assert caught.value.pepper == "old"
    assert (await office.held(first), await office.held(last)) == before
    await REQUESTS[request_](office.privacy, office.wanted("ada"))
    await REQUESTS[request_](
        Privacy(Register(office.tables), office.ledger, newest, office.clock, ["old"]), office.wanted("ada")
    )


async def test_whether_somebody_would_be_overlooked_costs_one_read_a_license(office: Office) -> None:
    """Also where rows without a pepper lie between, and with more peppers than the store compares."""
    licenses = {new_license_id() for _ in range(3)}
    for license in licenses:
        running = await office.begin(license, "ada", seats=1)
        persons = office.peppers.persons(
            office.organization, factories.user_hash("bob"), factories.host_hash("pc"), None
        )
        await office.ledger.submit(license, Start(new_session_id(), office.terms(seats=1, overdraft=0), persons))
        await office.end(license, running)
        office.clock.forward(86400)
        await office.night()
        await office.begin(license, "ada", seats=1)
        assert await kinds(office, license) == {"license", "active", "day", "denied", "ended"}
    many = Peppers({**{f"older-{number}": bytes(range(number, 32 + number)) for number in range(20)}, **PEPPERS})
    for peppers in (office.peppers, many):
        store = Counting(office.tables, office.organization)
        assert [await Register(store).unknown_pepper(license, list(peppers)) for license in licenses] == [None] * 3
        assert sorted(store.reads) == sorted(licenses)
    assert [await Register(office.tables).unknown_pepper(license, ["old"]) for license in licenses] == ["new"] * 3
    many = Peppers({f"older-{number}": bytes(range(number, 32 + number)) for number in range(20)})
    assert [await Register(office.tables).unknown_pepper(license, list(many)) for license in licenses] == ["new"] * 3


async def test_progress_says_how_far_a_request_has_come(office: Office) -> None:
    for _ in range(2):
        await office.use(new_license_id(), "ada", kind=Kind.NAMED_USER)
    wanted, eve = office.wanted("ada"), factories.user_hash("eve")
    reports: list[tuple[int, int]] = []

    def watch(done: int, of: int) -> None:
        reports.append((done, of))

    await office.privacy.export(wanted, watch)
    await office.privacy.move(wanted, eve, watch)
    await office.privacy.correct_end(wanted, new_session_id(), NOON, watch)
    await office.privacy.erase(wanted, watch)
    assert reports == [(0, 4), (1, 4), (2, 4), (3, 4)] * 4


# Opting out.


@dataclass
class Desktop:
    """A program that runs under a license, as the service sees it."""

    sessions: Sessions
    license: str

    async def start(self, user: str = "ada") -> Running:
        request = StartRequest(
            self.license, new_session_id(), factories.user_hash(user), factories.host_hash("pc"), factories.new_nonce()
        )
        running = await self.sessions.start(request, ip_address("192.0.2.1"))
        assert isinstance(running, Running), running
        return running

    async def heartbeat(self, running: Running) -> Running | Gone:
        renewed = await self.sessions.heartbeat(running.lease_token, running.session_id, factories.new_nonce())
        assert isinstance(renewed, Running | Gone)
        return renewed

    async def end(self, running: Running) -> None:
        await self.sessions.end(running.lease_token, running.session_id)


@pytest.fixture
def desktop(office: Office, home: Home, azurite: str) -> Callable[..., tuple[str, Desktop]]:
    """Make a program under a new license, in a process of its own."""
    office.clock.now = datetime.now(UTC)

    def made(**claims: Any) -> tuple[str, Desktop]:
        license = claims.pop("sub", new_license_id())
        organization = {"id": office.organization, "name": "Acme Water Oy"}
        usual = {"kind": "named-user", "users": [factories.user_hash("ada")]}
        text = factories.issue(home, sub=license, organization=organization, **{**usual, **claims})
        settings = factories.settings(home, azurite)
        register = Register(office.tables)
        return license, Desktop(sessions_over(settings, register, Ledger(register, office.clock), office.clock), text)

    return made


async def kinds(office: Office, license_id: str) -> set[str]:
    """Which kinds of rows there are under a license."""
    return {row.key.partition(":")[0] async for row in office.tables.rows("register", license_id)}


Made = Callable[..., tuple[str, Desktop]]


async def test_a_day_of_use_after_an_opt_out_leaves_no_row(office: Office, desktop: Made) -> None:
    license, program = desktop()
    running = await program.start()
    assert running.recorded
    done = await office.privacy.opt_out(license, erase=False)
    assert done is not None
    assert (done.ended, done.deleted) == (1, 0)
    assert await kinds(office, license) == {"license", "ended"}, "what was stored stays, unless that is asked for"
    done = await office.privacy.opt_out(license, erase=True)
    assert done is not None
    assert (done.ended, done.deleted) == (0, 1)
    assert isinstance(await program.heartbeat(running), Gone), "so that it starts again"
    for _ in range(24):
        running = await program.start()
        assert not running.recorded
        renewed = await program.heartbeat(running)
        assert isinstance(renewed, Running)
        assert not renewed.recorded
        office.clock.forward(3600)
        await program.end(running)
        assert await kinds(office, license) == {"license"}
    await office.night()
    assert await kinds(office, license) == {"license"}


async def test_an_opt_out_with_erase_leaves_neither_sessions_nor_totals(office: Office) -> None:
    license_id = new_license_id()
    for user in ("ada", "bob"):
        await office.use(license_id, user, kind=Kind.NODE_LOCKED)
    office.clock.now = NOON + timedelta(days=40)
    await office.night()
    await office.begin(license_id, "ada", kind=Kind.NODE_LOCKED)
    assert await kinds(office, license_id) == {"license", "active", "ended", "day", "month"}
    done = await office.privacy.opt_out(license_id, erase=True)
    assert done is not None
    assert (done.ended, done.deleted) == (1, 5)
    assert await kinds(office, license_id) == {"license"}
    await office.night()
    assert await kinds(office, license_id) == {"license"}


async def test_a_floating_license_cannot_opt_out_and_gets_the_reason(office: Office) -> None:
    license_id = new_license_id()
    await office.begin(license_id, "ada")
    before = await office.held(license_id)
    with pytest.raises(ImplausibleError, match=r"who holds one of its seats must be recorded .* Only named-user"):
        await office.privacy.opt_out(license_id, erase=True)
    assert await office.held(license_id) == before
    assert await office.privacy.opt_out(new_license_id(), erase=True) is None, "there is no such license"


async def test_a_process_that_has_cached_the_state_slips_no_row_in(office: Office, desktop: Made) -> None:
    license, elsewhere = desktop()
    _, here = desktop(sub=license)
    for program in (here, elsewhere):
        await program.end(await program.start())
    await office.privacy.opt_out(license, erase=True)
    for program in (elsewhere, here):
        assert not (await program.start()).recorded
    assert await kinds(office, license) == {"license"}


async def test_starts_that_race_with_an_opt_out_leave_no_row(office: Office, desktop: Made) -> None:
    license, first = desktop()
    programs = [first, *(desktop(sub=license)[1] for _ in range(2))]
    await programs[0].start()
    done = asyncio.Event()

    async def work(program: Desktop) -> set[bool]:
        seen = set()
        while not done.is_set():
            running = await program.start()
            seen.add(running.recorded)
            await program.heartbeat(running)
            await program.end(running)
        return seen

    tasks = [asyncio.create_task(work(program)) for program in programs]
    await asyncio.sleep(0.1)
    await office.privacy.opt_out(license, erase=True)
    await asyncio.sleep(0.1)
    done.set()
    assert set().union(*await asyncio.gather(*tasks)) == {True, False}
    assert await kinds(office, license) == {"license"}


async def test_who_opts_in_again_is_recorded_again(office: Office, desktop: Made) -> None:
    license, program = desktop()
    await program.start()
    await office.privacy.opt_out(license, erase=True)
    unrecorded = await program.start()
    assert await office.privacy.opt_in(license)
    _, in_a_minute = desktop(sub=license)  # for so long, the first process may remember the license as it was
    assert isinstance(await in_a_minute.heartbeat(unrecorded), Gone), "so that it starts again"
    assert (await in_a_minute.start()).recorded
    assert await kinds(office, license) == {"license", "active"}
    assert not await office.privacy.opt_in(new_license_id())


async def test_a_renewed_license_file_does_not_undo_an_opt_out(office: Office, desktop: Made) -> None:
    license, program = desktop()
    await program.start()
    await office.privacy.opt_out(license, erase=True)
    _, renewed = desktop(sub=license, serial=2)
    assert not (await renewed.start()).recorded
    assert await kinds(office, license) == {"license"}
    assert (await office.columns("register", license, rows.STATE))["serial"][0] == 2


async def test_a_license_can_opt_out_before_its_first_use(office: Office, desktop: Made) -> None:
    license, program = desktop()
    unknown = LicenseState(office.terms(kind=Kind.NAMED_USER))
    assert await office.privacy.opt_out(license, erase=False, initial=unknown) is not None
    assert not (await program.start()).recorded
    assert await kinds(office, license) == {"license"}


# Two organizations.


async def test_the_same_person_in_two_organizations_has_no_value_in_common(tables: Tables) -> None:
    values: list[set[str]] = []
    for office in (Office(tables), Office(tables, Clock(NOON + timedelta(days=3, minutes=7)))):
        kept: set[str] = set()
        for sharing in Sharing:
            license_id = new_license_id()
            for pepper in ("old", "new"):
                await office.use(license_id, "ada", pepper=pepper, sharing=sharing)
            await office.begin(license_id, "ada", sharing=sharing)
            async for row in office.tables.rows("register", license_id):
                texts = [value for value in values_of(row).values() if isinstance(value, str)]
                kept |= {text for each in (row.key, *texts) for text in re.split("[:.]", each)}
        values.append(kept)
    pseudonyms = [{value for value in kept if re.fullmatch(r"[\w-]{22}", value)} for kept in values]
    assert [len(each) for each in pseudonyms] == [6, 6], "user, host and address, under two peppers"
    assert not pseudonyms[0] & pseudonyms[1]
    in_common = values[0] & values[1]
    assert in_common >= {"Fluidit Water", "new", "old"}, "the comparison sees what both have"
    assert not {value for value in in_common if len(value) > 13}, in_common
