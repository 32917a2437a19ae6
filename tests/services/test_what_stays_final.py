"""A final total stays through interrupted corrections, silent programs, renewals, and erasures on other licenses."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from licensing.errors import UnavailableError
from licensing.rules.billing import Rounding, to_csv
from licensing.rules.license import Billing, Kind
from licensing.services.privacy import Privacy
from licensing.services.retention import run_retention
from licensing.storage import register as rows
from licensing.storage.ledger import Heartbeat, Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Table, Tables, Write, put
from tests.factories import new_license_id, user_hash
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
    await office.end(license_id, long)
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
    assert sum(part.within for each in months for part in each.minutes or ()) == (to - MARCH) / timedelta(minutes=1)


async def test_a_correction_into_a_month_without_use_gives_it_totals(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = datetime(2026, 3, 31, 23, 50, tzinfo=UTC)
    anns = await office.use(license_id, "ann", 5 / 60)
    office.clock.now = datetime(2026, 5, 3, 3, tzinfo=UTC)
    await office.night()
    await office.privacy.correct_end(office.wanted("ann"), anns, datetime(2026, 4, 1, 0, 5, tzinfo=UTC))
    april = await office.month(license_id, "2026-04")
    assert (april["users"], april["sessions"], april["seat_seconds"][0]) == (1, 1, 300)
    assert april["minutes"] == '[{"billing":"none","project":"","within":5,"overdraft":0}]'


# A silent program holds a month open.

SEPTEMBER = datetime(2026, 9, 1, 8, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 5, 8, tzinfo=UTC)
LONG: dict[str, Any] = {"billing": Billing.TIME, "lease_seconds": 60 * 86400}


async def test_after_an_erasure_a_silent_programs_month_is_not_billed_by_the_minute(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = SEPTEMBER
    await office.begin(license_id, "cem", **LONG)  # falls silent
    await office.use(license_id, "ann", 2, **LONG)
    await office.use(license_id, "ben", 6, **LONG)
    office.clock.now = OCTOBER
    await office.privacy.erase(office.wanted("ben"))
    office.clock.now = SEPTEMBER + 61 * DAY
    await office.night()  # it has lapsed, and ended at its start
    (exact,) = (await office.statement("2026-09")).lines
    assert exact.billed_hours == Decimal("8.0000")
    (line,) = (await office.statement("2026-09", Rounding.MINUTE)).lines
    assert (line.billed_hours, line.closed) == (None, False), "the minutes of the erased one are not known"


# An organization's month.


async def test_an_erasure_on_a_final_license_leaves_the_organizations_month_that_another_holds_open(
    tables: Tables,
) -> None:
    office, final = Office(tables), new_license_id()
    office.clock.now = SEPTEMBER
    await office.begin(new_license_id(), "cem", **LONG)
    await office.use(final, "ben")
    office.clock.now = OCTOBER
    await office.night()
    await office.privacy.erase(office.wanted("ben"))
    office.clock.now += DAY
    await office.night()
    assert await office.people("2026-09") == 2


async def test_a_correction_leaves_people_whose_rows_are_deleted_in_the_organizations_month(tables: Tables) -> None:
    office, license_id, bound = Office(tables), new_license_id(), new_license_id()
    office.clock.now = SEPTEMBER
    anns = await office.use(license_id, "ann")
    await office.use(bound, "ben", kind=Kind.NAMED_USER)
    office.clock.now = OCTOBER
    await office.night()
    await office.privacy.opt_out(bound, erase=True)
    await office.privacy.correct_end(office.wanted("ann"), anns, SEPTEMBER + HOUR / 2)
    assert await office.people("2026-09") == 2


@pytest.mark.parametrize("table", ["register", "directory"])
async def test_a_move_that_is_interrupted_and_repeated_counts_the_organizations_people_again(
    tables: Tables, table: Table
) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = SEPTEMBER
    await office.use(license_id, "ann")
    await office.use(license_id, "anne")
    office.clock.now = OCTOBER
    await office.night()
    assert await office.people("2026-09") == 2
    with pytest.raises(UnavailableError):
        await interrupted(office, table, 0).move(office.wanted("anne"), user_hash("ann"))
    await office.privacy.move(office.wanted("anne"), user_hash("ann"))
    assert await office.people("2026-09") == 1


# A closed statement.

BETA: dict[str, Any] = {"billing": Billing.PROJECT, "project": "Beta"}


async def test_a_statement_is_not_closed_while_a_lapsed_session_can_be_revived(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = datetime(2026, 9, 30, 23, 40, tzinfo=UTC)
    silent = await office.begin(license_id, "ann", billing=Billing.TIME)
    office.clock.now = datetime(2026, 10, 1, 0, 20, tzinfo=UTC)
    assert not (await office.statement("2026-09")).closed
    await office.ledger.heartbeat(license_id, Heartbeat(silent, office.clock.now, office.clock.now + HOUR))
    assert (await office.statement("2026-09")).lines[0].seat_seconds == 20 * 60
    office.clock.now += DAY
    await office.night()
    assert (await office.statement("2026-09")).closed


async def test_a_closed_statement_stays_over_sixty_renewals(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = SEPTEMBER
    await office.use(license_id, "ann", **BETA)
    office.clock.now = OCTOBER
    await office.night()
    before = [to_csv(await office.statement("2026-09", rounding)) for rounding in Rounding]
    for number in range(60):
        changes = {**BETA, "project": f"P{number}", "serial": number + 2}
        await office.use(license_id, "ann", 0, **changes)
    assert [to_csv(await office.statement("2026-09", rounding)) for rounding in Rounding] == before


async def test_a_closed_statement_by_the_minute_stays_after_an_erasure_though_the_project_changed_unused(
    tables: Tables,
) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = SEPTEMBER
    await office.use(license_id, "ann", kind=Kind.NAMED_USER, **BETA)
    await office.use(license_id, "ben", kind=Kind.NAMED_USER, **BETA)
    office.clock.now += 10 * DAY
    await office.privacy.opt_out(license_id, erase=False)
    await office.use(license_id, "ann", kind=Kind.NAMED_USER, serial=2, billing=Billing.PROJECT, project="Delta")
    office.clock.now = OCTOBER
    await office.night()
    before = to_csv(await office.statement("2026-09", Rounding.MINUTE))
    assert ",Beta,project,minute,1,2,7200,0,2.0000," in before
    assert ",Delta,project,minute,0,0,0,0,0.0000," in before
    await office.privacy.erase(office.wanted("ben"))
    assert to_csv(await office.statement("2026-09", Rounding.MINUTE)) == before


async def test_closed_statements_of_the_first_edition_stay_when_the_license_is_renewed(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = SEPTEMBER
    await office.use(license_id, "ann", **BETA)
    office.clock.now = OCTOBER
    await office.night()
    later = ("billing", "project", "product", "seats", "carried", "hour_users", "starts")
    for key, unknown in ((rows.STATE, ("since", "former")), (rows.day_key(SEPTEMBER.date()), later)):
        row = await office.tables.get("register", license_id, key)
        assert row
        kept = {name: value for name, value in row.content.items() if name.partition("@")[0] not in unknown}
        await office.tables.commit("register", license_id, [put(key, kept)])
    office = Office(tables, office.clock, office.organization)
    before = [to_csv(await office.statement(month)) for month in ("2026-08", "2026-09")]
    assert all(",Beta," in each for each in before)
    await office.use(license_id, "ann", serial=2, billing=Billing.PROJECT, project="Delta", valid_from=OCTOBER)
    assert [to_csv(await office.statement(month)) for month in ("2026-08", "2026-09")] == before


# Months that outlive their sessions.


class BeforeSeptember(Tables):
    """A real store in which something happens right before September's totals are written for the first time."""

    def __init__(self, tables: Tables, happens: Callable[[], Awaitable[object]]) -> None:
        super().__init__(tables._service, tables._pipeline)
        self.happens: Callable[[], Awaitable[object]] | None = happens

    async def commit(self, table: Table, partition: str, writes: Sequence[Write]) -> list[str]:
        happens = self.happens
        if table == "register" and happens and any(write.key == rows.month_key("2026-09") for write in writes):
            self.happens = None
            await happens()
        return await super().commit(table, partition, writes)


async def a_year_later(tables: Tables, people: int) -> tuple[Office, str, str]:
    """An office whose next night reduces September, a license, and a session of that month that is still kept."""
    office, license_id = Office(tables), new_license_id()
    office.clock.now = SEPTEMBER
    for number in range(people):
        await office.use(license_id, f"user-{number}", **LONG)
    office.clock.now = SEPTEMBER + 20 * DAY
    last = await office.use(license_id, "user-0", **LONG)
    office.clock.now = OCTOBER
    await office.night()
    office.clock.now = SEPTEMBER.replace(year=2027) - 9 * DAY
    await office.begin(license_id, "user-0", **LONG)  # falls silent: no later day is final
    office.clock.now += DAY
    await office.night()
    office.clock.now += 8 * DAY
    return office, license_id, last


async def test_a_correction_does_not_bring_back_a_month_that_is_reduced_at_the_same_time(tables: Tables) -> None:
    office, license_id, last = await a_year_later(tables, 2)
    register = Register(BeforeSeptember(office.tables, office.night))
    privacy = Privacy(register, Ledger(register, office.clock), office.peppers, office.clock)
    assert "peak_at" in await office.month(license_id, "2026-09")
    to = SEPTEMBER + 20 * DAY + HOUR / 2
    assert (await privacy.correct_end(office.wanted("user-0"), last, to)).corrected == 1
    assert await office.month(license_id, "2026-09") == {"users": 2}


async def test_a_month_that_is_reduced_keeps_a_correction_at_the_same_time(tables: Tables) -> None:
    office, license_id, last = await a_year_later(tables, 3)
    to = SEPTEMBER + 20 * DAY + HOUR / 2
    correct = office.privacy.correct_end
    register = Register(BeforeSeptember(office.tables, lambda: correct(office.wanted("user-0"), last, to)))
    await run_retention(register, Ledger(register, office.clock), office.clock(), 3)
    month = await office.month(license_id, "2026-09")
    assert (month["seat_seconds"][0], "peak_at" in month) == (3 * 3600 + 1800, False)
