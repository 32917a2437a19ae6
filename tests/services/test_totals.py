"""Which days are aggregated from the register, and how often it is read for them."""

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from licensing.rules.model import EndReason
from licensing.rules.totals import DayTotals
from licensing.services import totals
from licensing.services.totals import aggregate_license, days_back, open_sessions
from licensing.storage import register as rows
from licensing.storage.register import Register
from licensing.storage.tables import Tables, merge
from tests.reference import expected_days
from tests.register_rows import PastLicense
from tests.stores import Counted

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
NOW = datetime(2027, 3, 10, 2, 30, tzinfo=UTC)


async def days_of(store: Tables, license: PastLicense, oldest: date = date.min, **how: Any) -> list[DayTotals]:
    """The days that are aggregated, the oldest first."""
    register = Register(store)
    present = await open_sessions(register, license.id, NOW)
    return [day.totals async for day in days_back(register, license.id, oldest, NOW, present, **how)][::-1]


def month_of_use(seed: int) -> PastLicense:
    """Some weeks of use with gaps, long sessions and denials."""
    chance, license = random.Random(seed), PastLicense()
    for _ in range(60):
        began = NOW - chance.randint(1, 40 * 24 * 60) * MINUTE
        ended = began + chance.choice((0, 3, 70, 700, 12000)) * MINUTE
        if ended < NOW:
            license.ended(began, ended, f"u{chance.randrange(5)}", reason=chance.choice(list(EndReason)))
        else:
            license.runs(began, NOW - MINUTE, NOW + HOUR, "open")
        if chance.random() < 0.1:
            license.denied(began - 10 * MINUTE)
    return license


@pytest.mark.parametrize("few", [0, 7, 10_000])
@pytest.mark.parametrize("seed", range(4))
async def test_days_are_the_same_however_many_are_read_at_once(
    tables: Tables, monkeypatch: pytest.MonkeyPatch, seed: int, few: int
) -> None:
    monkeypatch.setattr(totals, "FEW_SESSIONS", few)
    license = month_of_use(seed)
    await license.write(tables)
    found = await days_of(tables, license, from_first_use=True)
    assert found[0].day == license.first_day()
    assert [each.day for each in found] == [found[0].day + number * DAY for number in range(len(found))]
    assert found[-1].day == NOW.date()
    expected = expected_days(license.reference(NOW), license.first_day(), NOW)
    names = {each.day: {name: getattr(each, name) for name in expected[min(expected)]} for each in found}
    assert {day: names[day] for day in expected} == expected
    assert found == (await days_of(tables, license, license.first_day()))


async def test_a_quiet_license_is_read_several_days_at_a_time(tables: Tables) -> None:
    license = PastLicense()
    for number in range(60):
        license.ended(NOW - number * DAY - 2 * HOUR, NOW - number * DAY - HOUR)
    await license.write(tables)
    store = Counted(tables)
    found = await days_of(store, license, from_first_use=True)
    assert len(found) == 60
    reads = [call for call in store.calls if call.startswith(f"range {rows.ENDED}")]
    assert len(reads) <= 13, "60 days, up to eight at once"


async def test_the_first_day_is_that_of_the_first_start_even_if_others_ended_before(tables: Tables) -> None:
    license = PastLicense()
    license.ended(NOW - 20 * DAY, NOW - 20 * DAY + HOUR)
    license.ended(NOW - 35 * DAY, NOW - DAY)
    await license.write(tables)
    found = await days_of(tables, license, from_first_use=True)
    assert found[0].day == (NOW - 35 * DAY).date()
    assert (await days_of(tables, license, (NOW - 3 * DAY).date(), from_first_use=True))[0].day == date(2027, 3, 7)
    assert await days_of(tables, PastLicense(), from_first_use=True) == [], "nothing ever happened"


async def test_a_license_that_was_first_used_today_has_no_final_day(tables: Tables) -> None:
    license = PastLicense()
    license.ended(NOW - HOUR, NOW - MINUTE)
    await license.write(tables)
    aggregate = await aggregate_license(Register(tables), license.id, NOW)
    assert (aggregate.days, aggregate.totals, aggregate.final_day) == (0, [], None)


async def test_a_row_whose_key_and_column_disagree_is_not_left_out_in_silence(tables: Tables) -> None:
    license = PastLicense()
    license.ended(NOW - DAY - HOUR, NOW - DAY)
    await license.write(tables)
    await tables.commit("register", license.id, [merge(license.writes[0].key, {"ended_at": NOW - 9 * DAY})])
    with pytest.raises(ValueError, match="another day by their key"):
        await days_of(tables, license, from_first_use=True)
