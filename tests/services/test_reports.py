"""Reports beside live traffic: what ends or becomes final while they are read counts once, neither twice nor never."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from licensing.crypto.pseudonyms import Peppers
from licensing.errors import UnavailableError
from licensing.rules.billing import Rounding, Statement, to_csv
from licensing.rules.license import Billing
from licensing.rules.model import EndedSession, EndReason, Versioned
from licensing.rules.usage import Denial, Use
from licensing.services.privacy import PersonQuery, Privacy
from licensing.services.reports import Reports, newest_day
from licensing.storage import register as rows
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Row, Tables
from tests.factories import at, new_license_id, use
from tests.register_rows import Customer, new_customer
from tests.stores import Counted

DAY = date(2026, 11, 23)
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Meanwhile(Counted):
    """A real store in which something happens after so many reads of ranges."""

    def __init__(self, tables: Tables, reads: int, happens: Callable[[], Awaitable[object]]) -> None:
        super().__init__(tables)
        self._reads, self._happens = reads, happens

    async def pages(self, *args: Any, **kwargs: Any) -> AsyncGenerator[list[Row], None]:
        async for page in super().pages(*args, **kwargs):
            yield page
        self._reads -= 1
        if self._reads == 0:
            await self._happens()


@pytest.mark.parametrize("ended_at", [NOW - timedelta(minutes=20), NOW + timedelta(seconds=1)], ids=["lapsed", "ended"])
@pytest.mark.parametrize("reads", range(1, 10))
async def test_a_session_that_ends_while_a_statement_is_drawn_up_is_billed_once(
    tables: Tables, ended_at: datetime, reads: int
) -> None:
    customer = new_customer(tables, billing=Billing.TIME)
    await customer.used([use("s", at(DAY, 9), None)], now=NOW - timedelta(minutes=20), in_use=1)

    async def ends() -> None:
        row = await tables.get("register", customer.license, f"{rows.ACTIVE}s")
        assert row
        active = rows.SESSIONS.versioned(row)
        ended = EndedSession(active.value, ended_at, EndReason.LAPSED)
        await Register(tables).commit(customer.license, rows.end_changes(Versioned(ended, active.etag)))

    store = Meanwhile(tables, reads, ends)

    statement = await Reports(Register(store), lambda: NOW, 3).statement(
        "2026-11", Rounding.MINUTE, customer.organization
    )

    assert statement
    (line,) = statement.lines
    assert line.sessions == 1
    assert line.seat_seconds in (160 * 60, 180 * 60)  # up to its last sign of life, or to now
    assert line.billed_hours in (Decimal("2.6667"), 3)


@pytest.mark.parametrize("reads", range(1, 10))
async def test_days_that_become_final_while_a_statement_is_drawn_up_are_billed_once(tables: Tables, reads: int) -> None:
    customer = new_customer(tables, billing=Billing.TIME)
    await customer.used([use("s", at(DAY - timedelta(days=1), 9), at(DAY - timedelta(days=1), 11))])
    store = Meanwhile(tables, reads, lambda: customer.night(NOW))

    statement = await Reports(Register(store), lambda: NOW, 3).statement(
        "2026-11", Rounding.EXACT, customer.organization
    )

    assert statement
    (line,) = statement.lines
    assert (line.sessions, line.seat_seconds, line.active_days) == (1, 2 * 3600, 1)


@pytest.mark.parametrize(
    ("minutes", "seconds", "closed"),
    [
        pytest.param(5, 3600, False, id="it still runs"),
        pytest.param(14, 58 * 60, False, id="a refused start may still turn out to have waited"),
        pytest.param(16, 58 * 60, False, id="it has lapsed, and a heartbeat may still revive it"),
    ],
)
async def test_a_month_is_closed_when_nothing_that_is_still_to_come_can_change_it(
    tables: Tables, minutes: int, seconds: int, closed: bool
) -> None:
    december = datetime(2026, 12, 1, tzinfo=UTC)
    customer = new_customer(tables, billing=Billing.TIME)
    last_sign = december - timedelta(minutes=2)
    await customer.used([use("s", december - timedelta(hours=1), None)], now=last_sign, in_use=1)
    now = december + timedelta(minutes=minutes)

    statement = await Reports(Register(tables), lambda: now, 3).statement(
        "2026-11", Rounding.EXACT, customer.organization
    )

    assert statement
    (line,) = statement.lines
    assert (line.closed, statement.closed) == (closed, closed)
    assert line.seat_seconds == seconds


async def test_progress_says_how_many_licenses_are_done(tables: Tables) -> None:
    customer = new_customer(tables, billing=Billing.TIME)
    await customer.used([use("s", at(DAY, 9), at(DAY, 10))])
    await Register(tables).add_to_directory(new_license_id(), customer.terms)
    reports, progress = Reports(Register(tables), lambda: NOW, 3), list[tuple[int, int]]()

    await reports.read(customer.organization, None, lambda *done: progress.append(done))
    await reports.statement("2026-11", Rounding.EXACT, customer.organization, lambda *done: progress.append(done))

    assert progress == [(0, 2), (1, 2)] * 2


async def test_a_correction_leaves_a_report_its_denials(tables: Tables) -> None:
    customer, day = new_customer(tables), date(2026, 9, 15)
    denial = Denial(session_id="refused", first_at=at(day, 10))
    await customer.used([use("s", at(day, 9), at(day, 12))], [denial])
    await customer.night(NOW)
    reports = Reports(Register(tables), lambda: NOW, 3)
    before = (await reports.read(customer.organization)).licenses[customer.license][1]
    assert before.days[day].denials == 1
    state = await Register(tables).totals_state(customer.license)
    assert state is not None
    await Register(tables).save_totals(customer.license, state, (), day - timedelta(days=1))

    after = (await reports.read(customer.organization)).licenses[customer.license][1]

    assert (after.days, after.months) == (before.days, before.months)


class ReadsEnds(Register):
    """A register that notes from when on ended sessions are read."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables)
        self.since: list[datetime] = []

    def ended_uses(self, license_id: str, since: datetime, until: datetime | None = None) -> AsyncIterator[Use]:
        self.since.append(since)
        return super().ended_uses(license_id, since, until)


@pytest.mark.parametrize(
    ("now", "for_vendor", "first"),
    [
        (NOW, False, DAY),
        (NOW, True, date(2026, 11, 1)),
        (datetime(2026, 12, 1, 12, tzinfo=UTC), False, date(2026, 11, 1)),
    ],
    ids=["a month that is not over", "for the vendor", "over, and not final"],
)
async def test_a_customers_report_reads_sessions_of_final_days_only_for_a_month_that_is_over(
    tables: Tables, now: datetime, for_vendor: bool, first: date
) -> None:
    customer = new_customer(tables)
    await customer.used([use(f"s{n}", at(date(2026, 11, 3 + n), 9), at(date(2026, 11, 3 + n), 10)) for n in range(3)])
    await customer.night(NOW)
    register = ReadsEnds(tables)
    reports = Reports(register, lambda: now, 3)

    reading = await reports.read(customer.organization, for_vendor=for_vendor)

    assert min(register.since).date() == first
    assert ("2026-11" in reading.licenses[customer.license][1].months) is (first < DAY)
    days = reading.licenses[customer.license][1].days
    assert [day.day for day in days] == [3, 4, 5]


async def test_a_store_that_does_not_answer_for_one_license_is_no_report_of_the_others(tables: Tables) -> None:
    customer = new_customer(tables)
    others = [new_customer(tables, organization_id=customer.organization) for _ in range(5)]
    for each in (customer, *others):
        await each.used([use("s", at(DAY, 9), at(DAY, 10))])
    store = Meanwhile(tables, 9, refuses)
    reports = Reports(Register(store), lambda: NOW, 0)

    with pytest.raises(UnavailableError):
        await reports.read(customer.organization)

    running = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert not [task for task in running if "read_one" in repr(task)], "nothing goes on reading a store that is closed"


async def refuses() -> None:
    raise UnavailableError("the store did not answer")


# Which days a customer sees.


@pytest.mark.parametrize(
    ("hour", "lease_seconds", "ago"),
    [
        (0.49, 900, 2),
        (0.5, 900, 1),
        (0.5, 60, 1),
        (0.49, 60, 2),
        (23.9, 900, 1),
        (2.2, 2 * 3600, 2),
        (2.3, 2 * 3600, 1),
    ],
)
def test_a_day_is_reported_once_every_lease_that_ran_at_its_end_has_lapsed_and_was_swept(
    hour: float, lease_seconds: int, ago: int
) -> None:
    assert newest_day(at(DAY, hour), lease_seconds) == DAY - timedelta(days=ago)


async def test_a_license_with_a_long_lease_is_reported_a_little_later_than_others(tables: Tables) -> None:
    customer = new_customer(tables, lease_seconds=13 * 3600)
    other = new_customer(tables, organization_id=customer.organization)
    for each in (customer, other):
        await each.used([use("s", at(DAY - timedelta(days=1), 9), at(DAY - timedelta(days=1), 10))])
    reports = Reports(Register(tables), lambda: NOW, 3)
    reading = await reports.read(customer.organization)

    report = reports.report(reading, DAY - timedelta(days=3), DAY - timedelta(days=1), ZoneInfo("UTC"))

    newest = {each.id: each.days[-1].day for each in report.licenses}
    assert newest == {customer.license: DAY - timedelta(days=2), other.license: DAY - timedelta(days=1)}


async def test_only_the_vendor_sees_today_and_the_sums_of_few_people(tables: Tables) -> None:
    customer = new_customer(tables)
    await customer.used([use("s", at(DAY, 9), at(DAY, 10)), use("t", at(DAY - timedelta(days=1), 9), at(DAY, 0))])
    reports = Reports(Register(tables), lambda: NOW, 3)
    asked = DAY - timedelta(days=1), DAY, ZoneInfo("UTC")

    (of_customer,) = reports.report(await reports.read(customer.organization), *asked).licenses
    (of_vendor,) = reports.report(await reports.read(customer.organization, for_vendor=True), *asked).licenses

    assert [(day.day, day.seat_seconds) for day in of_customer.days] == [(DAY - timedelta(days=1), None)]
    assert of_customer.months == ()
    assert [day.seat_seconds for day in of_vendor.days] == [15 * 3600, 3600]
    assert [(month.month, month.seat_seconds) for month in of_vendor.months] == [("2026-11", 16 * 3600)]


# What is billed once sessions are gone.

PEPPERS = Peppers({"p": bytes(32)})
DECEMBER = datetime(2026, 12, 2, 1, tzinfo=UTC)


async def statements(customer: Customer, now: datetime) -> tuple[Statement, Statement]:
    """November's, by the second and by the minute."""
    reports = Reports(Register(customer.tables), lambda: now, 3)
    exact, rounded = [await reports.statement("2026-11", each, customer.organization) for each in Rounding]
    assert exact
    assert rounded
    return exact, rounded


async def erase(customer: Customer, name: str, now: datetime) -> None:
    privacy = Privacy(Register(customer.tables), Ledger(Register(customer.tables), lambda: now), PEPPERS, lambda: now)
    assert (await privacy.erase(PersonQuery(customer.organization, name))).deleted == 1


async def ann_and_bob(tables: Tables, day: date) -> Customer:
    """Who used a license for a minute and a second each, before one o'clock in the night and after noon."""
    customer = new_customer(tables, billing=Billing.TIME)
    length = timedelta(seconds=61)
    await customer.used(
        use(name, at(day, hour), at(day, hour) + length, PEPPERS.pseudonym("p", customer.organization, "user", name))
        for name, hour in (("ann", 0), ("bob", 13))
    )
    return customer


def hours(statement: Statement) -> tuple[bool, int, int, Decimal | None]:
    (line,) = statement.lines
    assert line.closed is statement.closed
    return line.closed, line.sessions, line.seat_seconds, line.billed_hours


async def test_after_an_erasure_a_closed_month_is_billed_as_before(tables: Tables) -> None:
    customer = await ann_and_bob(tables, DAY)
    await customer.night(DECEMBER)
    exact, rounded = await statements(customer, DECEMBER)
    assert hours(exact) == (True, 2, 122, Decimal("0.0339"))
    assert hours(rounded) == (True, 2, 122, Decimal("0.0667"))

    await erase(customer, "ann", DECEMBER)

    exact_again, rounded_again = await statements(customer, DECEMBER)
    assert (to_csv(exact_again), to_csv(rounded_again)) == (to_csv(exact), to_csv(rounded))


async def test_an_erasure_within_a_month_leaves_no_minutes_of_days_that_are_final(tables: Tables) -> None:
    customer = await ann_and_bob(tables, DAY - timedelta(days=1))
    await customer.night(NOW)

    await erase(customer, "bob", NOW)

    exact, rounded = await statements(customer, NOW)
    assert exact.lines[0].seat_seconds == rounded.lines[0].seat_seconds == 122
    assert (rounded.closed, rounded.lines[0].billed_hours) == (False, None)


async def test_when_retention_reaches_into_a_month_it_is_billed_as_before_or_not_at_all(tables: Tables) -> None:
    customer = await ann_and_bob(tables, date(2026, 11, 1))
    await customer.night(DECEMBER)
    exact, _ = await statements(customer, DECEMBER)
    a_year_later = datetime(2027, 11, 1, 12, tzinfo=UTC)

    await customer.night(a_year_later)

    exact_again, rounded_again = await statements(customer, a_year_later)
    assert to_csv(exact_again) == to_csv(exact)
    assert hours(rounded_again) == (False, 2, 122, None)
