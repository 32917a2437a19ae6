"""A register that the version before has written is read, counted and retained by this one.

The rows are `tests/storage/first_edition_register.json`, made by that version's own code. Each test has them on tables
of its own, since pseudonyms depend on the organization's id.
"""

import json
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import asdict, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from licensing.crypto.pseudonyms import Peppers, client_hash
from licensing.rules.billing import Rounding
from licensing.rules.license import Billing, Kind, Refusal, Sharing
from licensing.rules.model import EndReason, LicenseState, Person, Status, Terms
from licensing.rules.requests import End, Ended, Full, Granted, Recall, Recalled, Refused, Start
from licensing.services.privacy import PersonQuery, Privacy
from licensing.services.reports import Reports
from licensing.services.retention import run_retention
from licensing.services.verify import verify
from licensing.storage import register as rows
from licensing.storage.codec import Codec
from licensing.storage.ledger import Heartbeat, Ledger
from licensing.storage.register import SERVICE, AuditEntry, LicenseRef, Register
from licensing.storage.tables import EdmType, Table, put
from tests.factories import Clock, new_license_id, new_session_id, start, terms
from tests.register_rows import Dump, as_read, dump, look, values_of
from tests.stores import OwnTables, own_tables

FIXTURE: Final = json.loads((Path(__file__).parents[1] / "storage" / "first_edition_register.json").read_text())
AS_OF: Final = datetime.fromisoformat(FIXTURE["as_of"])
PEPPERS: Final = Peppers({"p2": b"2" * 32, "p1": b"1" * 32})
SALT: Final = b"s" * 32
WATER, HEAT, BOUND = LICENSES = ("acme-water", "acme-heat", "acme-bound")
SMALL_GROUP: Final = 3

Columns = dict[str, Any]


def decoded(value: Any) -> Any:
    """A column's value, from JSON."""
    match value:
        case {"time": time}:
            return datetime.fromisoformat(time)
        case {"int64": number}:
            return number, EdmType.INT64
    return value


STORED: Final[dict[tuple[Table, str, str], Columns]] = {
    (row["table"], row["partition"], row["key"]): {name: decoded(value) for name, value in row["columns"].items()}
    for row in FIXTURE["rows"]
}
"""The columns of each row by table, partition and key."""


def session_id(number: int) -> str:
    """The id of a stored session; they are numbered in the order of their starts."""
    return f"00000000-0000-0000-0000-{number:012x}"


def persons(user: str, host: str) -> tuple[Person, ...]:
    return PEPPERS.persons("acme", client_hash(SALT, "user", user), client_hash(SALT, "host", host), None)


def query(user: str) -> PersonQuery:
    return PersonQuery("acme", client_hash(SALT, "user", user))


def of_kind(license_id: str, kind: str) -> dict[str, Columns]:
    """The stored rows of a license of one kind, by what follows it in their keys."""
    return {
        key.removeprefix(kind): columns
        for (table, partition, key), columns in STORED.items()
        if (table, partition) == ("register", license_id) and key.startswith(kind)
    }


def comparable(columns: Columns) -> Columns:
    """Columns with plain numbers and dates."""
    plain = {name: value[0] if isinstance(value, tuple) else value for name, value in columns.items()}
    hours = {"hours": tuple(map(int, plain["hours"].split(",")))} if "hours" in plain else {}
    return plain | hours


@pytest.fixture
async def tables(azurite: str) -> AsyncIterator[OwnTables]:
    """Tables that hold the stored rows."""
    by_partition: defaultdict[tuple[Table, str], list[Any]] = defaultdict(list)
    for (table, partition, key), columns in STORED.items():
        by_partition[table, partition].append(put(key, columns))
    async with own_tables(azurite, OwnTables) as opened:
        for (table, partition), writes in by_partition.items():
            await opened.commit(table, partition, writes)
        yield opened


async def assert_in_order(tables: OwnTables) -> None:
    """Each license's counts are those of its rows."""
    for license_id in LICENSES:
        (await look(tables, license_id)).check()
        count = await verify(Register(tables), license_id)
        assert count is not None
        assert (count.flaws, count.steady, count.crowded) == ((), True, False)


async def terms_of(ledger: Ledger, license_id: str) -> Terms:
    state = await ledger.state(license_id)
    assert state is not None
    return state.terms


CODECS: Final[dict[str, Codec[Any]]] = {
    rows.STATE: rows.STATES,
    rows.ACTIVE: rows.SESSIONS,
    rows.ENDED: rows.ENDED_SESSIONS,
    rows.DENIED: rows.DENIALS,
    rows.DAY: rows.DAYS,
    rows.MONTH: rows.MONTHS,
}


@pytest.mark.parametrize("kind", CODECS)
def test_each_row_means_what_it_says(kind: str) -> None:
    checked = 0
    for license_id in LICENSES:
        for name, columns in of_kind(license_id, kind).items():
            beside = {rows.COMMIT, rows.FINAL_DAY, rows.CORRECTION}
            value = CODECS[kind].decode(as_read(kind + name, columns))
            added = {"lapses_at": value.expires_at} if kind == rows.ACTIVE else {}
            assert CODECS[kind].encode(value) == added | {name: columns[name] for name in columns if name not in beside}
            checked += 1
    assert checked


async def test_licenses_are_in_order_and_their_states_as_they_were(tables: OwnTables) -> None:
    register = Register(tables)
    await assert_in_order(tables)
    counts = [await verify(register, license_id) for license_id in LICENSES]
    assert [(count.sessions, count.holders) for count in counts if count] == [(2, 2), (3, 2), (0, 0)]
    terms = Terms(
        serial=1,
        organization_id="acme",
        organization_name="Acme Water Oy",
        product="Fluidit Storm",
        kind=Kind.NAMED_USER,
        seats=0,
        overdraft=0,
        sharing=Sharing.NONE,
        heartbeat_seconds=300,
        lease_seconds=900,
        borrow_seconds=86400,
        valid_from=datetime(2026, 1, 1, tzinfo=UTC),
        valid_until=datetime(2030, 1, 1, tzinfo=UTC),
        project="",
        billing=Billing.TIME,
    )
    state = await register.state(BOUND)
    assert state is not None
    assert state.value == LicenseState(terms, Status.SUSPENDED, collect=False, in_use=0)
    assert [each async for each in register.licenses()] == [LicenseRef("acme", each) for each in sorted(LICENSES)]
    at = datetime(2026, 11, 3, 2, 30, tzinfo=UTC)
    entries = [entry async for entry in register.audit("2026-11")]
    assert entries == [AuditEntry(at, "olga", "release", "acme-water x", "done", at)]


async def test_reports_and_statements_have_the_stored_totals(tables: OwnTables) -> None:
    reports = Reports(Register(tables), lambda: AS_OF + timedelta(minutes=10), SMALL_GROUP)
    reading = await reports.read("acme")
    assert reading.organization.name == "Acme Water Oy"
    assert reading.licenses.keys() == set(LICENSES)
    for license_id, (_, totals) in reading.licenses.items():
        days = {date.fromisoformat(day): columns for day, columns in of_kind(license_id, rows.DAY).items()}
        assert days.keys() == {day for day in totals.days if day < AS_OF.date()}
        for day, columns in days.items():
            # Those of the water license from 30 October on are aggregated again: a session of that day was corrected.
            assert asdict(totals.days[day]).items() >= {"day": day, **comparable(columns)}.items()
        months = of_kind(license_id, rows.MONTH)
        assert months.keys() == {month for month in totals.months if month < "2026-11"}
        for month, columns in months.items():
            assert asdict(totals.months[month]).items() >= {"month": month, **comparable(columns)}.items()
    today = {license_id: totals.days.get(AS_OF.date()) for license_id, (_, totals) in reading.licenses.items()}
    assert {name: each and (each.sessions, each.seat_seconds, each.denials) for name, each in today.items()} == {
        WATER: (3, 2 * 600, 0),
        HEAT: (3, 2 * 600, 1),
        BOUND: None,
    }
    assert {month: users for month, users in reading.users.items() if month < "2026-11"} == {"2026-09": 1, "2026-10": 4}

    statement = await reports.statement("2026-10", Rounding.EXACT, "acme")
    assert statement is not None
    billed = {line.license: (line.seat_seconds, line.overdraft_seconds) for line in statement.lines}
    assert billed == {WATER: (28800, 7200), HEAT: (7200, 0), BOUND: (0, 0)}


async def work(tables: OwnTables, clock: Clock) -> None:
    """Heartbeats, a repeat, ends, new starts, a denial and an operator's changes, on all three licenses."""
    ledger = Ledger(Register(tables), clock)
    water, heat, bound = [await terms_of(ledger, license_id) for license_id in LICENSES]
    ann, borrowed = session_id(0x0E), session_id(0x0F)

    clock.forward(300)
    assert await ledger.heartbeat(WATER, Heartbeat(ann, clock(), clock() + timedelta(seconds=900)))
    repeat = (await ledger.submit(WATER, Start(ann, water, persons("ann", "pc-ann")))).outcome
    assert isinstance(repeat, Granted)
    assert repeat.repeat
    assert (await ledger.submit(WATER, End(ann))).outcome == Ended(now=True)
    for user in ("eve", "zoe"):
        started = (await ledger.submit(WATER, Start(new_session_id(), water, persons(user, f"pc-{user}")))).outcome
        assert isinstance(started, Granted)
    held = await ledger.session(WATER, borrowed)
    assert held is not None
    assert (held.borrowed, held.expires_at) == (True, AS_OF + timedelta(days=1))

    # Two sessions of ann share a seat; zoe has waited for one since the morning.
    for number in (0x11, 0x13):
        assert await ledger.heartbeat(HEAT, Heartbeat(session_id(number), clock(), clock() + timedelta(seconds=900)))
    zoe = Start(session_id(0x14), heat, persons("zoe", "pc"))
    assert isinstance((await ledger.submit(HEAT, zoe)).outcome, Full)
    assert (await ledger.submit(HEAT, End(session_id(0x12), EndReason.RELEASED))).outcome == Ended(now=True)
    assert isinstance((await ledger.submit(HEAT, zoe)).outcome, Full)
    shared = (await ledger.submit(HEAT, Start(new_session_id(), heat, persons("bob", "pc-2")))).outcome
    assert isinstance(shared, Granted)
    assert (await ledger.submit(HEAT, End(session_id(0x11)))).outcome == Ended(now=True)
    assert isinstance((await ledger.submit(HEAT, zoe)).outcome, Granted)

    kim = Start(new_session_id(), bound, persons("kim", "pc-kim"))
    assert (await ledger.submit(BOUND, kim)).outcome == Refused(Refusal.SUSPENDED)
    await ledger.set_status(BOUND, suspended=False)
    granted = (await ledger.submit(BOUND, kim)).outcome
    assert isinstance(granted, Granted)
    assert granted.session is None, "this license has opted out"


async def test_sessions_go_on_where_they_were(tables: OwnTables) -> None:
    await work(tables, Clock(AS_OF))
    await assert_in_order(tables)
    assert [(await look(tables, license_id)).state["in_use"] for license_id in LICENSES] == [3, 2, 0]


async def test_what_is_written_back_keeps_all_columns(tables: OwnTables) -> None:
    clock = Clock(AS_OF)
    await work(tables, clock)
    privacy = Privacy(Register(tables), Ledger(Register(tables), clock), PEPPERS, clock)
    corrected = await privacy.move(query("eve"), client_hash(SALT, "user", "eva"))
    assert (corrected.corrected, corrected.running) == (2, 1)
    clock.forward(2 * 86400)
    result = await run_retention(Register(tables), Ledger(Register(tables), clock), clock(), SMALL_GROUP)
    assert (result.failed, result.overdue) == (0, 0)

    now = await whole(tables)
    gone = STORED.keys() - now.keys()
    ended = {session_id(number) for number in (0x0E, 0x0F, 0x11, 0x12, 0x13)}
    assert {key.rpartition(":")[2] for _, _, key in gone if key.startswith(rows.ACTIVE)} == ended
    assert {key.partition(":")[0] for _, _, key in gone} <= {"active", "seat"}
    for place in STORED.keys() & now.keys():
        assert STORED[place].keys() <= now[place].keys(), place
    for _, partition, key in gone:
        if key.startswith(rows.ACTIVE):
            (after,) = [c for (_, p, k), c in now.items() if p == partition and k.endswith(key.partition(":")[2])]
            assert STORED["register", partition, key].keys() <= after.keys(), key
    await assert_in_order(tables)


async def whole(tables: OwnTables) -> dict[tuple[Table, str, str], Columns]:
    """All rows by table, partition and key."""
    found: dict[tuple[Table, str, str], Columns] = {}
    every: tuple[Table, ...] = ("register", "directory", "audit")
    for table in every:
        async for row in tables.rows(table, first=""):
            found[table, row.partition, row.key] = values_of(row)
    return found


async def test_a_person_is_found_and_erased_under_both_peppers(tables: OwnTables) -> None:
    clock = Clock(AS_OF)
    ledger = Ledger(Register(tables), clock)
    privacy = Privacy(Register(tables), ledger, PEPPERS, clock)
    data = await privacy.export(query("ann"))
    found = sorted((each.license, int(each.session[-2:], 16), each.pepper, each.state) for each in data.sessions)
    assert found == [
        (BOUND, 0x0C, "p2", "ended"),
        (HEAT, 0x07, "p1", "ended"),
        (HEAT, 0x08, "p1", "ended"),
        (HEAT, 0x11, "p2", "active"),
        (HEAT, 0x12, "p2", "active"),
        (WATER, 0x01, "p1", "ended"),
        (WATER, 0x02, "p1", "ended"),
        (WATER, 0x0A, "p2", "ended"),
        (WATER, 0x0E, "p2", "active"),
    ]
    assert [each.session for each in (await privacy.export(query("kira"))).sessions] == [session_id(0x05)]
    assert not (await privacy.export(query("kim"))).sessions

    receipt = await privacy.erase(query("ann"))
    assert (receipt.licenses, receipt.ended, receipt.deleted) == (3, 3, len(found))
    assert not (await privacy.export(query("ann"))).sessions
    left = await dump(tables)
    anns = {person.user for person in persons("ann", "pc")}
    assert not any(user in repr(row) for row in left.items() for user in anns)
    others = [
        place for place in STORED if not anns & {str(STORED[place].get("user")), place[2].removeprefix(rows.SEAT)}
    ]
    assert all((partition, key) in left for table, partition, key in others if table != "audit")
    await assert_in_order(tables)


async def test_after_a_year_and_a_day_only_months_are_left(tables: OwnTables) -> None:
    clock = Clock(AS_OF + timedelta(days=366, hours=1))
    register = Register(tables)
    result = await run_retention(register, Ledger(register, clock), clock(), SMALL_GROUP)
    assert (result.licenses, result.failed, result.overdue, result.oldest) == (3, 0, 0, None)

    left = await dump(tables)
    kinds = defaultdict(set)
    for partition, key in left:
        kinds[partition].add(key)
    assert kinds == {
        # The borrowed seat was held until 5 November, which is a year ago today.
        WATER: {"license", "day:2026-11-05", "month:2026-09", "month:2026-10", "month:2026-11"},
        HEAT: {"license", "month:2026-10", "month:2026-11"},
        BOUND: {"license", "month:2026-11"},
        "acme": {
            *("organization", *(f"license:{license_id}" for license_id in LICENSES)),
            *("month:2026-09", "month:2026-10", "month:2026-11"),
        },
        SERVICE: {"alive"},
    }
    # Four people used the water license in October; of smaller groups, only their number is kept, and no hour of any.
    october = comparable(STORED["register", WATER, "month:2026-10"])
    del october["peak_at"]
    assert columns_of(left, WATER, "month:2026-10") == october
    assert columns_of(left, WATER, "month:2026-09") == {"users": 1}
    assert columns_of(left, HEAT, "month:2026-10") == {"users": 2}
    assert columns_of(left, "acme", "month:2026-09") == {"users": 1}
    assert columns_of(left, "acme", "month:2026-10") == {"users": 4}
    await assert_in_order(tables)


def columns_of(found: Dump, partition: str, key: str) -> Columns:
    return comparable(found[partition, key])


async def test_sessions_of_the_first_edition_are_replaced_recalled_and_held(tables: OwnTables) -> None:
    clock = Clock(AS_OF)
    ledger = Ledger(Register(tables), clock)
    water, heat = await terms_of(ledger, WATER), await terms_of(ledger, HEAT)
    ann, borrowed, second = session_id(0x0E), session_id(0x0F), session_id(0x11)

    # A crash, and a borrowing that ends early: each keeps the seat in one commit.
    for session, user in ((ann, "ann"), (borrowed, "bob")):
        clock.forward(60)
        again = Start(new_session_id(), water, persons(user, f"pc-{user}"), replaces=session, ran_until=clock())
        assert isinstance((await ledger.submit(WATER, again)).outcome, Granted)
    seen = await look(tables, WATER)
    assert seen.state["in_use"] == len(seen.active) == 2
    replaced = seen.ended
    assert [replaced[session]["reason"] for session in (ann, borrowed)] == ["replaced", "replaced"]

    # A recalled one is refused by the state; its seat is free when it has lapsed, never before.
    recalled = (await ledger.submit(HEAT, Recall(second))).outcome
    assert isinstance(recalled, Recalled)
    assert recalled.session.lapses_at == recalled.session.expires_at
    assert (await ledger.submit(HEAT, Start(second, heat, persons("ann", "pc-1")))).outcome == Refused(Refusal.RECALLED)

    # Under a new file with a hold, the next heartbeat holds the seat of a session that began under the old one.
    held = replace(water, serial=water.serial + 1, grace_seconds=1800, hold_seconds=1860)
    last = new_session_id()
    assert isinstance((await ledger.submit(WATER, Start(last, held, persons("dan", "pc-dan")))).outcome, Granted)
    (running, *_) = (await look(tables, WATER)).active
    lapses_at = held.lapse(clock(), clock() + timedelta(seconds=900))
    assert await ledger.heartbeat(WATER, Heartbeat(running, clock(), clock() + timedelta(seconds=900), lapses_at))
    clock.forward(1000)
    lapsed = [row.value.id async for page in Register(tables).lapsing(WATER, clock()) for row in page]
    assert running not in lapsed
    await assert_in_order(tables)


DEMANDED: Final = {
    kind: set.intersection(*({*columns} for license_id in LICENSES for columns in of_kind(license_id, kind).values()))
    - {rows.FINAL_DAY}
    for kind in (rows.STATE, rows.ACTIVE, rows.ENDED)
}
"""The columns that all rows of the first edition have: it reads each of them, and no row without one."""


async def test_the_first_edition_finds_all_columns_that_it_reads(tables: OwnTables) -> None:
    """In a rollback, or beside it in a deployment. Of columns and rows that it does not know it reads nothing."""
    license_id, clock = new_license_id(), Clock()
    ledger = Ledger(Register(tables), clock)
    under = terms(seats=5, borrow_seconds=7200, grace_seconds=1800, hold_seconds=1860, features=("pumps",))
    sessions = [new_session_id() for _ in range(4)]
    for session in sessions:
        await ledger.submit(license_id, start(session, under, borrow_seconds=7200))
    held, recalled, lost, old = sessions
    end = clock() + timedelta(seconds=7200)
    assert await ledger.heartbeat(license_id, Heartbeat(held, clock(), end, end, borrowed=True))
    assert isinstance((await ledger.submit(license_id, Recall(recalled))).outcome, Recalled)
    assert (await ledger.submit(license_id, End(lost, EndReason.LOST))).outcome == Ended(now=True)
    clock.forward(1000)
    again = start(new_session_id(), under, replaces=old, ran_until=clock())
    assert isinstance((await ledger.submit(license_id, again)).outcome, Granted)

    found = await look(tables, license_id)
    assert found.ended[old]["ran_until"] == clock()
    written = {rows.STATE: [found.state], rows.ACTIVE: [*found.active.values()], rows.ENDED: [*found.ended.values()]}
    assert [len(each) for each in written.values()] == [1, 3, 2]
    known = {kind: next(iter(of_kind(WATER, kind).values())) for kind in written}
    for kind, each in written.items():
        for columns in each:
            assert columns.keys() >= DEMANDED[kind]
            assert all(type(columns[name]) is type(known[kind][name]) for name in DEMANDED[kind])
    partitions = {
        row.partition async for row in tables.rows("directory", None, rows.LICENSE, rows.beyond(rows.LICENSE))
    }
    assert SERVICE not in partitions, "the first edition takes such rows for licenses"
