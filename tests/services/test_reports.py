"""Reports beside live traffic: a session that ends while they are read counts once, neither twice nor not at all."""

from collections.abc import AsyncGenerator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from licensing.rules.billing import Rounding
from licensing.rules.license import Billing
from licensing.rules.seats import Departure, Reason
from licensing.services.reports import Reports
from licensing.storage import rows
from licensing.storage.tables import Row, Tables
from tests.customer import at, new_customer, use
from tests.storage.desk import Counted

DAY = date(2026, 11, 23)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Meanwhile(Counted):
    """A real store in which the only session ends after so many reads of ranges."""

    def __init__(self, tables: Tables, license: str, ended_at: datetime, reads: int) -> None:
        super().__init__(tables)
        self._license, self._ended_at, self._reads = license, ended_at, reads

    async def pages(self, *args: Any, **kwargs: Any) -> AsyncGenerator[list[Row], None]:
        async for page in super().pages(*args, **kwargs):
            yield page
        self._reads -= 1
        if self._reads == 0:
            row = await self.get("register", self._license, f"{rows.ACTIVE}s")
            assert row
            departure = Departure(rows.session_value(row), self._ended_at, Reason.LAPSED)
            await self.commit("register", self._license, rows.departure(departure))


@pytest.mark.parametrize("ended_at", [NOW - timedelta(minutes=20), NOW + timedelta(seconds=1)], ids=["lapsed", "ended"])
@pytest.mark.parametrize("reads", range(1, 10))
async def test_a_session_that_ends_while_a_statement_is_drawn_up_is_billed_once(
    tables: Tables, ended_at: datetime, reads: int
) -> None:
    customer = new_customer(tables, billing=Billing.TIME)
    await customer.used([use("s", at(DAY, 9), None)], now=NOW - timedelta(minutes=20), in_use=1)
    store = Meanwhile(tables, customer.license, ended_at, reads)

    statement = await Reports(store, lambda: NOW, 3).statement("2026-11", Rounding.MINUTE, customer.organization)

    assert statement
    (line,) = statement.lines
    assert line.sessions == 1
    assert line.seat_seconds in (160 * 60, 180 * 60)  # up to its last sign of life, or to now
    assert float(line.billed_hours) in (2.6667, 3)
