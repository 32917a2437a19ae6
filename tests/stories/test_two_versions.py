"""During a deployment an older and a newer version write the same rows."""

from datetime import UTC, date, datetime

from licensing.rules.seats import End, Granted
from licensing.services.totals import aggregate_license, final_day, finish, keep
from licensing.storage import register as rows
from licensing.storage.ledger import Ledger
from licensing.storage.tables import Tables, merge
from tests.storage.desk import Clock, look, new_license, new_session, start, terms


async def test_a_column_that_a_newer_version_writes_on_the_head_survives_all_that_this_one_does(tables: Tables) -> None:
    license, clock = new_license(), Clock()
    ledger = Ledger(tables, clock)
    session = new_session()
    await ledger.submit(license, start(session, terms()))
    await tables.commit("register", license, [merge(rows.HEAD, {"newer": "kept", rows.FIGURED_TO: "2026-01-31"})])

    await ledger.submit(license, start(new_session(), terms()))
    await ledger.submit(license, End(session))
    await ledger.set_status(license, suspended=True)
    await ledger.set_status(license, suspended=False)
    assert isinstance((await ledger.submit(license, start(new_session(), terms(serial=2)))).outcome, Granted)

    seen = await look(tables, license)
    seen.check()
    assert seen.head["newer"] == "kept"
    assert seen.head[rows.FIGURED_TO] == "2026-01-31"
    assert seen.head["seats"] == terms(serial=2).seats


async def test_a_head_that_an_older_version_left_without_figured_to_gets_its_figures(tables: Tables) -> None:
    license, session = new_license(), new_session()
    clock = Clock(datetime(2026, 3, 10, 9, tzinfo=UTC))
    ledger = Ledger(tables, clock)
    await ledger.submit(license, start(session, terms()))
    clock.forward(3600)
    await ledger.submit(license, End(session))
    assert rows.FIGURED_TO not in (await look(tables, license)).head

    clock.forward(3 * 86_400)
    figured = await aggregate_license(tables, license, clock())
    await keep(tables, license, figured)
    await finish(tables, license, figured)

    day = await tables.get("register", license, rows.day_key(date(2026, 3, 10)))
    assert day is not None
    assert rows.day_value(day).seat_seconds == 3600
    assert await final_day(tables, license) == date(2026, 3, 12)
    # The head has another version now; who remembers the one before finds that out.
    assert isinstance((await ledger.submit(license, start(new_session(), terms()))).outcome, Granted)
