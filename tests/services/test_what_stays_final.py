"""A final total stays through interrupted corrections, silent programs, renewals, and erasures on other licenses."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta

import pytest

from licensing.errors import UnavailableError
from licensing.rules.license import Kind
from licensing.rules.requests import End
from licensing.services.privacy import Privacy
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Table, Tables, Write
from tests.factories import new_license_id
from tests.office import HOUR, Office

DAY = timedelta(days=1)
MARCH = datetime(2026, 3, 1, 8, tzinfo=UTC)


class Stops(Tables):
    """A store that takes so many writes to a table, and then no more."""

    def __init__(self, tables: Tables, table: Table, writes: int) -> None:
        super().__init__(tables._service, tables._pipeline)
        self.table, self.writes = table, writes

    async def commit(self, table: Table, partition: str, writes: Sequence[Write]) -> list[str]:
        if table == self.table:
            self.writes -= 1
            if self.writes < 0:
                raise UnavailableError("the store has stopped")
        return await super().commit(table, partition, writes)


def interrupted(office: Office, table: Table, writes: int) -> Privacy:
    """An operator whose work stops after so many writes to a table."""
    register = Register(Stops(office.tables, table, writes))
    return Privacy(register, Ledger(register, office.clock), office.peppers, office.clock)


# A session of more than three months has more totals than one transaction takes.


@pytest.mark.parametrize("longer", [False, True])
async def test_a_correction_of_a_long_session_that_is_interrupted_and_repeated_counts_once(
    tables: Tables, longer: bool
) -> None:
    office, license_id, few, many = Office(tables), new_license_id(), MARCH + HOUR, MARCH + 120 * DAY
    office.clock.now = MARCH
    long = await office.begin(license_id, "ann", kind=Kind.NAMED_USER, lease_seconds=150 * 86400)
    office.clock.now = few if longer else many
    await office.ledger.submit(license_id, End(long))
    office.clock.now = MARCH + 130 * DAY
    await office.night()
    to = many if longer else few
    with pytest.raises(UnavailableError):
        await interrupted(office, "register", 1).correct_end(office.wanted("ann"), long, to)
    await office.privacy.correct_end(office.wanted("ann"), long, to)
    days = [totals async for totals in Register(office.tables).days(license_id, date.min)]
    months = [totals async for totals in Register(office.tables).months(license_id)]
    for totals in (days, months):
        assert sum(each.seat_seconds or 0 for each in totals) == (to - MARCH).total_seconds()
    assert max(each.seat_seconds for each in days) <= 86400
    assert sum((each.minutes or 0) for each in months) == (to - MARCH) / timedelta(minutes=1)


async def test_a_correction_into_a_month_without_use_gives_it_totals(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = datetime(2026, 3, 31, 23, 50, tzinfo=UTC)
    anns = await office.use(license_id, "ann", 5 / 60)
    office.clock.now = datetime(2026, 5, 3, 3, tzinfo=UTC)
    await office.night()
    await office.privacy.correct_end(office.wanted("ann"), anns, datetime(2026, 4, 1, 0, 5, tzinfo=UTC))
    april = await office.month(license_id, "2026-04")
    assert (april["users"], april["sessions"], april["seat_seconds"][0], april["minutes"]) == (1, 1, 300, 5)
