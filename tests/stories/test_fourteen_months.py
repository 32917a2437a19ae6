"""Fourteen months of a register: all totals are right, and nothing is kept past its year or let go before.

REGISTER_SESSIONS is how many sessions there are; by hand, `REGISTER_SESSIONS=200000 make test
ARGS=tests/stories/test_fourteen_months.py` takes some ten minutes and 2 GB of memory.
"""

import asyncio
import os
import random
from datetime import UTC, date, datetime, timedelta

from licensing.rules.license import Kind, Sharing
from licensing.rules.model import EndReason
from licensing.rules.retention import year_before
from licensing.services.retention import RetentionResult, run_retention
from licensing.storage import register as rows
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from tests.factories import Clock, new_session_id, terms
from tests.reference import ReferenceTotals, expected_days, expected_months
from tests.register_rows import PastLicense, dump, kept_days, kept_months, keys
from tests.stores import OwnTables, own_tables

SESSIONS = int(os.environ.get("REGISTER_SESSIONS", "3500"))
BEGIN, END = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 3, 1, 2, 30, tzinfo=UTC)
NIGHTS = (datetime(2026, 4, 1, 2, 30, tzinfo=UTC), datetime(2026, 9, 17, 2, 30, tzinfo=UTC), END)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SMALL_GROUP = 3

LICENSES = (
    ("acme", terms(organization_id="acme", sharing=Sharing.NONE, seats=40)),
    ("acme", terms(organization_id="acme", sharing=Sharing.USER, seats=20)),
    ("acme", terms(organization_id="acme", kind=Kind.NODE_LOCKED, seats=0)),
    ("bolt", terms(organization_id="bolt", sharing=Sharing.HOST, seats=10, overdraft=2)),
    ("bolt", terms(organization_id="bolt", sharing=Sharing.USER_HOST, seats=10)),
    ("bolt", terms(organization_id="bolt", kind=Kind.NAMED_USER, seats=0)),
    ("solo", terms(organization_id="solo", seats=2)),
)


def a_past(license: PastLicense, sessions: int, chance: random.Random) -> None:
    """Fourteen months of a license: working days and nights, weeks, crashes, overlaps and refusals."""
    people = 2 if license.terms.organization_id == "solo" else 12
    minutes = (END - BEGIN) // MINUTE
    for _ in range(sessions):
        user, host = f"u{chance.randrange(people)}", f"h{chance.randrange(people // 2)}"
        began = BEGIN + chance.randrange(minutes - 60) * MINUTE
        lasts = chance.choices(
            (0 * MINUTE, chance.randrange(1, 200) * MINUTE, chance.randrange(8, 20) * HOUR, 7 * DAY),
            (2, 90, 7, 0.3),
        )[0]
        session_id = new_session_id()
        if chance.random() < 0.05:
            license.denied(began - chance.randrange(31) * MINUTE, session_id)
        if began + lasts > END - HOUR:
            license.runs(began, END - 5 * MINUTE, END + 10 * MINUTE, user, host, session_id=session_id)
            continue
        license.ended(
            began,
            began + lasts,
            user,
            host,
            session_id=session_id,
            overdraft=license.terms.overdraft > 0 and chance.random() < 0.1,
            borrowed=lasts > DAY,
            reason=EndReason.LAPSED if chance.random() < 0.1 else EndReason.ENDED,
        )
    for _ in range(sessions // 50):
        license.denied(BEGIN + chance.randrange(minutes) * MINUTE)
    crashed = END - chance.randrange(10, 30) * HOUR
    license.runs(crashed, crashed + HOUR, crashed + HOUR + 15 * MINUTE, "u1", "h0", crashed=True)


async def test_fourteen_months_of_three_organizations(azurite: str) -> None:
    chance = random.Random(14)
    licenses = [PastLicense(bought) for _, bought in LICENSES]
    for license in licenses:
        a_past(license, SESSIONS // len(licenses), chance)
    async with own_tables(azurite, OwnTables) as own:
        for license in licenses:
            await license.write(own)
        references = {license.id: license.reference(END) for license in licenses}
        since = BEGIN.date()
        for night in NIGHTS:
            result = await run(own, night)
            assert (result.licenses, result.failed, result.overdue) == (7, 0, 0)
            for license in licenses:
                await assert_equals_the_count(own, license, references[license.id], since, night)
            await assert_organizations_equal_the_count(own, licenses, night)
            since = night.date()
        await assert_kept_for_a_year(own, licenses)
        assert result.oldest == min(ends for license in licenses for ends in kept_ends(license))
        once = await dump(own, versions=True)
        again = await run(own, END)
        assert (again.days, again.months, again.deleted) == (0, 0, 0)
        assert await dump(own, versions=True) == once, "running it again changes nothing"


async def run(tables: OwnTables, as_of: datetime) -> RetentionResult:
    """One night's run."""
    return await run_retention(Register(tables), Ledger(Register(tables), Clock(as_of)), as_of, SMALL_GROUP)


async def assert_equals_the_count(
    tables: OwnTables, license: PastLicense, reference: ReferenceTotals, since: date, as_of: datetime
) -> None:
    """Every day since one, and every month, is as the reference counts it; older days are there for a year."""
    days = await kept_days(tables, license.id)
    expected = await asyncio.to_thread(expected_days, reference, since, as_of)
    assert {day: totals for day, totals in days.items() if day >= since} == expected
    assert not days or min(days) >= year_before(as_of).date()
    assert await kept_months(tables, license.id) == expected_months(reference, BEGIN.date(), as_of, SMALL_GROUP)


async def assert_organizations_equal_the_count(tables: OwnTables, licenses: list[PastLicense], as_of: datetime) -> None:
    """Every month of an organization counts each of its people once."""
    for organization in {license.terms.organization_id for license in licenses}:
        counted: dict[str, set[str]] = {}
        for license in licenses:
            if license.terms.organization_id == organization:
                for use in license.uses:
                    for month in months_of(use.started_at, use.ended_at or as_of, as_of):
                        counted.setdefault(month, set()).add(use.user)
        found = tables.rows("directory", organization, rows.MONTH, rows.beyond(rows.MONTH))
        kept = {row.key.removeprefix(rows.MONTH): row.columns["users"] async for row in found}
        assert kept == {month: len(users) for month, users in counted.items()}


def months_of(started_at: datetime, ended_at: datetime, as_of: datetime) -> set[str]:
    """The months over at a moment in which a session ran or began."""
    days = [started_at + number * DAY for number in range((ended_at - started_at) // DAY + 1)]
    last = max(started_at, ended_at - MINUTE)
    months = {f"{day:%Y-%m}" for day in (*days, last)}
    return {month for month in months if month < f"{as_of:%Y-%m}"}


def kept_ends(license: PastLicense) -> list[datetime]:
    """The ends of the sessions that are to be kept at the end."""
    cutoff = year_before(END)
    return [use.ended_at for use in license.uses if use.ended_at and use.ended_at >= cutoff]


async def assert_kept_for_a_year(tables: OwnTables, licenses: list[PastLicense]) -> None:
    """No session is older than a year, and none younger is gone; of denials, those of this month are left."""
    for license in licenses:
        ended = tables.rows("register", license.id, rows.ENDED, rows.beyond(rows.ENDED), columns=("ended_at",))
        ends = [datetime.fromisoformat(row.columns["ended_at"]) async for row in ended]
        assert sorted(ends) == sorted(kept_ends(license))
        this_month = [denial for denial in license.denials if denial.first_at >= datetime(2027, 3, 1, tzinfo=UTC)]
        assert len(await keys(tables, license.id, rows.DENIED)) == len(this_month)
        assert len(await kept_months(tables, license.id)) == 14
