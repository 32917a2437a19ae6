"""Retention dies before and after each of its writes: the next run makes up for it.

A read changes nothing: to die before it is to die after the write before it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from licensing.rules.license import Sharing
from licensing.services.retention import RetentionResult, run_retention
from licensing.storage import register as rows
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Table, put
from tests.factories import Clock, terms
from tests.register_rows import Dump, PastLicense, dump, keys
from tests.stores import OwnTables, own_tables

NIGHT = datetime(2027, 3, 1, 2, 30, tzinfo=UTC)
YEAR_AGO = NIGHT.replace(year=2026)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def small_register() -> list[PastLicense]:
    """Two licenses of one organization, with something of everything that retention does.

    The totals up to 26 February are final; those of the last days of the month are missing.
    """
    final_day = (NIGHT - 3 * DAY).date()
    licenses = [
        PastLicense(terms(sharing=Sharing.USER), final_day, "shared"),
        PastLicense(terms(), final_day, "plain"),
    ]
    for license in licenses:
        for number in range(-2, 2):
            ended_at = YEAR_AGO + number * HOUR
            license.ended(ended_at - HOUR, ended_at, session_id=f"old-{number}")
        license.ended(NIGHT - 2 * DAY, NIGHT - DAY, license.id, session_id="across")
        license.ended(NIGHT - DAY, NIGHT - DAY + HOUR, "ann", session_id="short")
        license.denied(NIGHT - 2 * DAY, "refused")
        license.writes += [
            put("day:2026-02-28", {"users": 2, "sessions": 9}),
            put("month:2026-02", {"users": 2, "sessions": 9}),
            put("month:2026-01", {"users": 2, "sessions": 9}),
        ]
    licenses[0].runs(NIGHT - 9 * HOUR, NIGHT - 8 * HOUR, NIGHT - 7 * HOUR, "cid", crashed=True, session_id="crashed")
    return licenses


@asynccontextmanager
async def made(azurite: str, licenses: list[PastLicense]) -> AsyncIterator[OwnTables]:
    """A register with some licenses, of which nothing has been asked yet."""
    async with own_tables(azurite, OwnTables) as own:
        for license in licenses:
            await license.write(own)
        own.calls = 0
        own.writes.clear()
        yield own


async def run(tables: OwnTables) -> RetentionResult:
    """A night's run to its end, on one license at a time: so its calls come in the same order each time."""
    return await run_retention(Register(tables), Ledger(Register(tables), Clock(NIGHT)), NIGHT, 3, parallel=1)


async def run_until_it_dies(tables: OwnTables) -> None:
    """A night's run that may not come to its end."""
    running, death = asyncio.create_task(run(tables)), asyncio.create_task(tables.dead.wait())
    await asyncio.wait((running, death), return_when=asyncio.FIRST_COMPLETED)
    running.cancel()
    death.cancel()
    await asyncio.gather(running, death, return_exceptions=True)


async def run_again(azurite: str, tables: OwnTables) -> Dump:
    """What is kept after another process has run to its end."""
    async with own_tables(azurite, OwnTables, tables.prefix) as again:
        result = await run(again)
        assert (result.failed, result.overdue) == (0, 0)
        return await dump(again)


async def test_wherever_it_dies_the_next_run_comes_to_the_same(azurite: str) -> None:
    async with made(azurite, small_register()) as own:
        result = await run(own)
        points = sorted({0, *own.writes, *(calls + 1 for calls in own.writes)})
        assert points[-1] < own.calls
        uninterrupted = await dump(own)
    assert (result.days, result.months, result.deleted) == (4, 2, 8)
    assert (result.failed, result.oldest) == (0, YEAR_AGO)
    assert ("acme", "month:2027-02") in uninterrupted
    assert len(points) > 15

    async def die(dies_before: int) -> None:
        async with made(azurite, small_register()) as own:
            own.dies_before = dies_before
            await run_until_it_dies(own)
            assert own.dead.is_set()
            assert await run_again(azurite, own) == uninterrupted, f"after it died before call {dies_before}"

    for first in range(0, len(points), 4):
        await asyncio.gather(*map(die, points[first : first + 4]))


class DiesAfterDeleting(OwnTables):
    """A register whose process dies when it has deleted the first sessions."""

    async def commit(self, table: Table, partition: str, writes: Any) -> list[str]:
        done = await super().commit(table, partition, writes)
        if any(write.verb == "delete" and write.key.startswith(rows.ENDED) for write in writes):
            self.dies_before = self.calls
        return done


async def test_the_first_run_ever_dies_and_an_organization_still_knows_how_many_people_it_had(azurite: str) -> None:
    licenses = [PastLicense(terms(), id="one"), PastLicense(terms(), id="two")]
    for license in licenses:
        license.ended(YEAR_AGO - 12 * DAY, YEAR_AGO - 12 * DAY + HOUR, license.id, session_id="old")
    async with made(azurite, licenses) as own:
        async with own_tables(azurite, DiesAfterDeleting, own.prefix) as first:
            await run_until_it_dies(first)
            assert first.dead.is_set()
        left = [await keys(own, license.id, rows.ENDED) for license in licenses]
        assert sorted(map(len, left)) == [0, 1], "one license is done, the other is not"
        kept = await run_again(azurite, own)
    assert kept["acme", "month:2026-02"] == {"users": 2}
    assert {kept[license.id, "month:2026-02"]["users"] for license in licenses} == {1}
