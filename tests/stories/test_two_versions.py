"""During a deployment an older and a newer version write the same rows."""

from datetime import UTC, date, datetime

from licensing.rules.requests import End, Granted
from licensing.services.totals import aggregate_license, final_day, mark_final, save_totals
from licensing.storage import register as rows
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables, merge
from tests.storage.desk import Clock, look, new_license, new_session, start, terms


async def test_a_column_that_a_newer_version_writes_on_the_head_survives_all_that_this_one_does(tables: Tables) -> None:
    license, clock = new_license(), Clock()
    ledger = Ledger(Register(tables), clock)
    session = new_session()
    await ledger.submit(license, start(session, terms()))
    await tables.commit("register", license, [merge(rows.STATE, {"newer": "kept", rows.FINAL_DAY: "2026-01-31"})])

    await ledger.submit(license, start(new_session(), terms()))
    await ledger.submit(license, End(session))
    await ledger.set_status(license, suspended=True)
    await ledger.set_status(license, suspended=False)
    assert isinstance((await ledger.submit(license, start(new_session(), terms(serial=2)))).outcome, Granted)

    seen = await look(tables, license)
    seen.check()
    assert seen.head["newer"] == "kept"
    assert seen.head[rows.FINAL_DAY] == "2026-01-31"
    assert seen.head["seats"] == terms(serial=2).seats


async def test_a_head_that_an_older_version_left_without_figured_to_gets_its_figures(tables: Tables) -> None:
    license, session = new_license(), new_session()
    clock = Clock(datetime(2026, 3, 10, 9, tzinfo=UTC))
    ledger = Ledger(Register(tables), clock)
    await ledger.submit(license, start(session, terms()))
    clock.forward(3600)
    await ledger.submit(license, End(session))
    assert rows.FINAL_DAY not in (await look(tables, license)).head

    clock.forward(3 * 86_400)
    figured = await aggregate_license(Register(tables), license, clock())
    await save_totals(Register(tables), license, figured)
    await mark_final(Register(tables), license, figured)

    day = await tables.get("register", license, rows.day_key(date(2026, 3, 10)))
    assert day is not None
    assert rows.DAYS.decode(day).seat_seconds == 3600
    assert await final_day(Register(tables), license) == date(2026, 3, 12)
    # The head has another version now; who remembers the one before finds that out.
    assert isinstance((await ledger.submit(license, start(new_session(), terms()))).outcome, Granted)
