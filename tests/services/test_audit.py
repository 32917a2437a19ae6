"""Audit entries end after two years, to the moment."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from licensing.rules.retention import audit_cutoff
from licensing.services.audit import Subject, audited, delete_old_entries
from licensing.services.retention import run_retention
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from tests.factories import Clock
from tests.stores import OwnTables, own_tables

NIGHT = datetime(2029, 3, 10, 2, 30, tzinfo=UTC)
CUTOFF = datetime(2027, 3, 10, 2, 30, tzinfo=UTC)
MICROSECOND, DAY = timedelta(microseconds=1), timedelta(days=1)


@pytest.fixture
async def own(azurite: str) -> AsyncIterator[OwnTables]:
    """A register that only this test knows."""
    async with own_tables(azurite, OwnTables) as opened:
        yield opened


async def write(own: OwnTables, *begun_at: datetime) -> None:
    """Audit entries that were begun at these moments, each about its moment."""
    for moment in begun_at:
        async with audited(Register(own), Clock(moment), "olga", "suspend", Subject(moment.isoformat())):
            pass


async def kept(own: OwnTables) -> list[datetime]:
    """When the entries that are left were begun, in the order of months and keys."""
    return [datetime.fromisoformat(row.columns["subject"]) async for row in own.rows("audit")]


async def test_an_entry_is_kept_for_two_years_to_the_microsecond(own: OwnTables) -> None:
    first_of_month = CUTOFF.replace(day=1, hour=0, minute=0)
    old = [CUTOFF - 900 * DAY, first_of_month - MICROSECOND, first_of_month, CUTOFF - MICROSECOND]
    young = [CUTOFF, CUTOFF + MICROSECOND, CUTOFF + 30 * DAY, NIGHT]
    await write(own, *old, *young)
    assert await delete_old_entries(Register(own), NIGHT, dry_run=True) == len(old)
    assert await kept(own) == [*old, *young], "a dry run only counts"
    assert await delete_old_entries(Register(own), NIGHT) == len(old)
    assert await kept(own) == young
    assert await delete_old_entries(Register(own), NIGHT) == 0
    assert await delete_old_entries(Register(own), NIGHT + MICROSECOND) == 1
    assert await kept(own) == young[1:]


async def test_the_moment_counts_wherever_the_clock_of_the_caller_is(own: OwnTables) -> None:
    new_year = datetime(2027, 1, 1, tzinfo=UTC)
    await write(own, new_year - MICROSECOND, new_year)
    helsinki = (new_year + 731 * DAY).astimezone(tz=datetime.fromisoformat("2029-01-01T02:00+02:00").tzinfo)
    assert audit_cutoff(helsinki) == new_year
    assert await delete_old_entries(Register(own), helsinki) == 1
    assert await kept(own) == [new_year]


@pytest.mark.parametrize("dry_run", [True, False])
async def test_the_nightly_job_deletes_and_counts_them(own: OwnTables, dry_run: bool) -> None:
    await write(own, CUTOFF - DAY, CUTOFF + DAY)
    register = Register(own)
    result = await run_retention(register, Ledger(register, Clock(NIGHT)), NIGHT, 3, dry_run=dry_run)
    assert (result.deleted, result.failed) == (1, 0)
    assert await kept(own) == [CUTOFF - DAY, CUTOFF + DAY][0 if dry_run else 1 :]


async def test_a_register_without_any_entry_has_none_to_delete(own: OwnTables) -> None:
    assert await delete_old_entries(Register(own), NIGHT) == 0
