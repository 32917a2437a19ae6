"""During a deployment an older and a newer version write the same rows."""

from datetime import UTC, date, datetime, timedelta

from licensing.crypto.pseudonyms import Peppers
from licensing.rules.requests import End, Granted, Start
from licensing.services.privacy import PersonQuery, Privacy
from licensing.services.totals import aggregate_license, mark_final, save_totals, saved_final_day
from licensing.storage import register as rows
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables, merge
from tests.factories import Clock, host_hash, new_id, new_license_id, new_session_id, start, terms, user_hash
from tests.register_rows import look


async def test_a_column_that_a_newer_version_writes_on_the_state_survives_all_that_this_one_does(
    tables: Tables,
) -> None:
    license_id, clock = new_license_id(), Clock()
    ledger = Ledger(Register(tables), clock)
    session_id = new_session_id()
    await ledger.submit(license_id, start(session_id, terms()))
    await tables.commit("register", license_id, [merge(rows.STATE, {"newer": "kept", rows.FINAL_DAY: "2026-01-31"})])

    await ledger.submit(license_id, start(new_session_id(), terms()))
    await ledger.submit(license_id, End(session_id))
    await ledger.set_status(license_id, suspended=True)
    await ledger.set_status(license_id, suspended=False)
    assert isinstance((await ledger.submit(license_id, start(new_session_id(), terms(serial=2)))).outcome, Granted)

    seen = await look(tables, license_id)
    seen.check()
    assert seen.state["newer"] == "kept"
    assert seen.state[rows.FINAL_DAY] == "2026-01-31"
    assert seen.state["seats"] == terms(serial=2).seats


async def test_a_state_that_an_older_version_left_without_a_final_day_gets_its_totals(tables: Tables) -> None:
    license_id, session_id = new_license_id(), new_session_id()
    clock = Clock(datetime(2026, 3, 10, 9, tzinfo=UTC))
    ledger = Ledger(Register(tables), clock)
    await ledger.submit(license_id, start(session_id, terms()))
    clock.forward(600)
    await ledger.submit(license_id, End(session_id))
    assert rows.FINAL_DAY not in (await look(tables, license_id)).state

    clock.forward(3 * 86_400)
    aggregate = await aggregate_license(Register(tables), license_id, clock())
    await save_totals(Register(tables), license_id, aggregate)
    await mark_final(Register(tables), license_id, aggregate)

    day = await tables.get("register", license_id, rows.day_key(date(2026, 3, 10)))
    assert day is not None
    assert rows.DAYS.decode(day).seat_seconds == 600
    assert await saved_final_day(Register(tables), license_id) == date(2026, 3, 12)
    # The state has another ETag now; a cached one fails at the commit.
    assert isinstance((await ledger.submit(license_id, start(new_session_id(), terms()))).outcome, Granted)


async def test_a_correction_keeps_what_a_newer_version_wrote_on_an_ended_session(tables: Tables) -> None:
    organization_id, license_id, session_id = new_id("org"), new_license_id(), new_session_id()
    clock, peppers = Clock(), Peppers({"p1": b"1" * 32})
    ledger = Ledger(Register(tables), clock)
    persons = peppers.persons(organization_id, user_hash("ann"), host_hash(), None)
    await ledger.submit(license_id, Start(session_id, terms(organization_id=organization_id), persons))
    clock.forward(600)
    await ledger.submit(license_id, End(session_id))
    key = rows.ended_key(clock(), session_id)
    await tables.commit("register", license_id, [merge(key, {"newer": "kept"})])

    privacy, query = Privacy(Register(tables), ledger, peppers, clock), PersonQuery(organization_id, user_hash("ann"))
    await privacy.move(query, user_hash("bob"))
    await privacy.correct_end(
        PersonQuery(organization_id, user_hash("bob")), session_id, clock() - timedelta(seconds=60)
    )
    ended = (await look(tables, license_id)).ended[session_id]
    assert ended["ended_at"] == clock() - timedelta(seconds=60)
    assert ended["newer"] == "kept"
