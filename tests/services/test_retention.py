"""Retention on a real store: totals that equal a minute-by-minute count, and nothing kept past its year."""

import asyncio
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeVar

import pytest

from licensing.errors import UnavailableError
from licensing.rules.license import Kind, Sharing
from licensing.rules.model import EndReason
from licensing.rules.requests import End, Granted
from licensing.rules.retention import year_after, year_before
from licensing.services.retention import PARALLEL, RetentionResult, run_retention
from licensing.services.totals import (
    LicenseAggregate,
    aggregate_license,
    invalidate_run,
    mark_final,
    save_totals,
    saved_final_day,
)
from licensing.storage import register as rows
from licensing.storage import retry
from licensing.storage.ledger import Heartbeat, Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Table, Write, merge, put
from tests.factories import Clock, new_session_id, start, terms
from tests.reference import expected_days, expected_months
from tests.register_rows import PastLicense, dump, kept_days, kept_months, keys, look
from tests.stores import OwnTables, StorageCalls, own_tables

MICROSECOND, MINUTE, HOUR, DAY = timedelta(microseconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
SMALL_GROUP = 3
OLD_ROWS = int(os.environ.get("REGISTER_OLD_ROWS", "10000"))
"""How many a night must not cost more for; REGISTER_OLD_ROWS=100000 by hand."""


def at(text: str) -> datetime:
    """A time, UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


NIGHT = at("2027-03-10T02:30")


@pytest.fixture
async def own(azurite: str) -> AsyncIterator[OwnTables]:
    """A register that only this test knows."""
    async with own_tables(azurite, OwnTables) as opened:
        yield opened


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many retries as ever, with short waits."""
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", (0.01,) * len(retry.BACKOFF_SECONDS))


async def run(tables: OwnTables, as_of: datetime, *, dry_run: bool = False) -> RetentionResult:
    """One night's run."""
    return await run_retention(
        Register(tables), Ledger(Register(tables), Clock(as_of)), as_of, SMALL_GROUP, dry_run=dry_run
    )


async def assert_equals_the_count(tables: OwnTables, license: PastLicense, as_of: datetime) -> None:
    """Compare all totals that are kept of a license with the reference."""
    reference, first = license.reference(as_of), license.first_day()
    assert await kept_days(tables, license.id) == expected_days(reference, first, as_of)
    assert await kept_months(tables, license.id) == expected_months(reference, first, as_of, SMALL_GROUP)


def eventful(license: PastLicense) -> PastLicense:
    """Whatever may happen to a license, around the turn of a month and up to the night."""
    license.ended(at("2027-01-30T09:00"), at("2027-01-30T17:12"))
    license.ended(at("2027-01-30T23:50"), at("2027-01-31T00:10"), "ben", "lab")
    license.ended(at("2027-01-31T22:00"), at("2027-02-01T03:00"), "ann")
    license.ended(at("2027-02-03T12:00"), at("2027-02-10T12:00"), "cid", "cluster")  # a week
    license.ended(at("2027-02-12T08:00"), at("2027-02-12T10:00"), "dan")
    license.ended(at("2027-02-12T09:00"), at("2027-02-12T11:00"), "dan")  # started again before the first was over
    license.ended(at("2027-02-12T09:30"), at("2027-02-12T09:31"), "eve", overdraft=True)
    license.ended(at("2027-02-15T09:30"), at("2027-02-15T09:30"), "fay")  # crashed at once
    license.ended(at("2027-02-15T10:00"), at("2027-02-15T10:25"), "fay", reason=EndReason.LAPSED)
    license.ended(at("2027-02-27T10:00"), at("2027-03-02T10:00"), "gil", borrowed=True, reason=EndReason.LAPSED)
    waited = new_session_id()
    license.denied(at("2027-02-12T09:20"), waited)
    license.ended(at("2027-02-12T09:35"), at("2027-02-12T12:00"), "hal", session_id=waited)
    late = new_session_id()
    license.denied(at("2027-02-28T23:50"), late)
    license.ended(at("2027-03-01T00:04"), at("2027-03-01T00:06"), "hal", session_id=late)
    license.denied(at("2027-02-20T09:20"))
    license.denied(at("2027-03-08T11:00"))
    license.runs(at("2027-03-08T23:00"), NIGHT - MINUTE, NIGHT + HOUR, "ann")
    license.runs(at("2027-03-09T20:00"), at("2027-03-09T20:05"), NIGHT + DAY, "ben", "lab", borrowed=True)
    license.runs(at("2027-03-09T10:00"), at("2027-03-09T10:40"), at("2027-03-09T10:55"), "ida", crashed=True)
    return license


@pytest.mark.parametrize(
    "bought",
    [
        *(terms(sharing=sharing, seats=9) for sharing in Sharing),
        terms(kind=Kind.NAMED_USER, seats=0),
        terms(kind=Kind.NODE_LOCKED, seats=0),
    ],
    ids=lambda bought: f"{bought.kind}-{bought.sharing}",
)
async def test_all_totals_equal_a_count_minute_by_minute(own: OwnTables, bought: Any) -> None:
    license = eventful(PastLicense(bought))
    await license.write(own)
    result = await run(own, NIGHT)
    assert (result.licenses, result.failed, result.overdue) == (1, 0, 0)
    assert result.months == 2
    assert result.oldest == at("2027-01-30T17:12")
    await assert_equals_the_count(own, license, NIGHT)
    (await look(own, license.id)).check()


async def test_a_second_run_changes_nothing(own: OwnTables) -> None:
    licenses = [
        eventful(PastLicense(terms(organization_id="acme"))),
        eventful(PastLicense(terms(organization_id="other"))),
    ]
    old = PastLicense(terms(organization_id="acme", sharing=Sharing.USER), at("2027-01-20T00:00").date())
    for number in range(250):
        began = at("2026-03-01T00:00") + number * 2 * HOUR
        old.ended(began, began + 3 * HOUR, f"u{number % 4}")
        if number % 10 == 0:
            old.denied(began)
    for license in [*licenses, old]:
        await license.write(own)
    first = await run(own, NIGHT)
    assert first.deleted > 100
    once = await dump(own, versions=True)
    second = await run(own, NIGHT)
    assert (second.days, second.months, second.deleted, second.failed) == (0, 0, 0, 0)
    assert await dump(own, versions=True) == once, "no row was so much as written again"
    assert first.oldest == second.oldest


@pytest.mark.parametrize(
    ("ended_at", "kept_at", "gone_at"),
    [
        ("2026-03-10T02:30", "2027-03-10T02:30", "2027-03-10T02:30:00.000001"),
        ("2026-03-10T02:30:00.000001", "2027-03-10T02:30:00.000001", "2027-03-10T02:30:00.000002"),
        ("2026-12-31T23:59:59.999999", "2027-12-31T23:59:59.999999", "2028-01-01T00:00"),
        ("2027-02-28T03:00", "2028-02-28T03:00", "2028-02-28T03:00:00.000001"),
        ("2027-02-28T03:00", "2028-02-28T03:00", "2028-02-29T02:30"),
        ("2027-02-28T23:59:59.999999", "2028-02-28T23:59:59.999999", "2028-02-29T00:00"),
        ("2027-03-01T00:00", "2028-02-29T23:59:59.999999", "2028-03-01T00:00:00.000001"),
        ("2028-02-29T12:00", "2029-02-28T23:59:59.999999", "2029-03-01T00:00"),
    ],
)
async def test_a_session_is_kept_for_a_year_to_the_microsecond(
    own: OwnTables, ended_at: str, kept_at: str, gone_at: str
) -> None:
    license = PastLicense(final_day=at(kept_at).date() - 2 * DAY)
    license.ended(at(ended_at) - HOUR, at(ended_at))
    license.ended(at(ended_at), at(ended_at) + 3 * DAY)
    await license.write(own)
    result = await run(own, at(kept_at))
    assert len(await keys(own, license.id, rows.ENDED)) == 2
    assert (result.oldest, result.overdue) == (at(ended_at), 0)
    result = await run(own, at(gone_at))
    assert len(await keys(own, license.id, rows.ENDED)) == 1
    assert (result.oldest, result.overdue) == (at(ended_at) + 3 * DAY, 0)


def test_what_is_to_go_at_a_moment_and_when_something_is_to_go_agree() -> None:
    leap_day = at("2028-02-29T00:00")
    offsets = [timedelta(0), MICROSECOND, 12 * HOUR, DAY - MICROSECOND]
    moments = [leap_day + days * DAY + offset for days in range(-400, 400) for offset in offsets]
    assert all(earlier < later for earlier, later in pairwise(moments))
    cuts = [year_before(moment) for moment in moments]
    assert cuts == sorted(cuts), "what is to go does not come back"
    for ended_at in moments[:1700]:
        for moment in (year_after(ended_at) - MICROSECOND, year_after(ended_at) + MICROSECOND):
            assert (ended_at < year_before(moment)) == (moment > year_after(ended_at))


async def test_denials_go_once_their_month_has_been_counted(own: OwnTables) -> None:
    license = PastLicense()
    license.denied(at("2027-02-01T10:00"))
    license.denied(at("2027-02-28T10:00"))
    license.denied(at("2027-03-01T10:00"))
    await license.write(own)
    await run(own, at("2027-02-28T23:59"))
    assert len(await keys(own, license.id, rows.DENIED)) == 3
    result = await run(own, at("2027-03-01T00:05"))
    assert result.deleted == 0, "who was refused just before midnight may yet be found to have waited"
    result = await run(own, at("2027-03-01T02:30"))
    assert result.deleted == 2
    assert await keys(own, license.id, rows.DENIED) == [rows.denied_key(license.denials[2].session_id, NIGHT - 9 * DAY)]
    assert (await kept_months(own, license.id))["2027-02"]["denials"] == 2


async def test_a_wait_across_the_last_midnight_is_a_wait(own: OwnTables) -> None:
    license, waits = PastLicense(), new_session_id()
    license.denied(at("2027-02-28T23:58"), waits)
    license.ended(at("2027-03-01T00:10"), at("2027-03-01T01:00"), session_id=waits)
    await license.write(own)
    for night in ("2027-03-01T00:05", "2027-03-01T02:30"):
        await run(own, at(night))
    await assert_equals_the_count(own, license, at("2027-03-01T02:30"))
    assert (await kept_months(own, license.id))["2027-02"]["waits"] == 1


async def test_totals_of_days_go_after_a_year_and_of_months_stay_with_small_groups_suppressed(own: OwnTables) -> None:
    license = PastLicense(terms(seats=9))
    for month in range(1, 13):
        for day, user in [(3, "ann"), (20, "ben"), (28, "cid" if month % 2 else "ann")]:
            began = datetime(2026, month, day, 9, tzinfo=UTC)
            license.ended(began, began + HOUR, user)
    await license.write(own)
    await run(own, NIGHT)
    await assert_equals_the_count(own, license, NIGHT)
    assert min(await kept_days(own, license.id)) == at("2026-03-20T00:00").date()
    months = await kept_months(own, license.id)
    assert list(months) == [f"2026-{month:02}" for month in range(1, 13)]
    assert {name: value for name, value in months["2026-02"].items() if value is not None} == {
        "month": "2026-02",
        "users": 2,
    }, "few people, and the month outlives its year"
    assert months["2026-01"]["seat_seconds"] == 3 * 3600, "as many people as need not be hidden"
    assert months["2026-04"]["seat_seconds"] == 3 * 3600, "few people, but not older than a year"
    await run(own, at("2027-05-01T02:30"))
    await assert_equals_the_count(own, license, at("2027-05-01T02:30"))
    assert (await kept_months(own, license.id))["2026-04"]["seat_seconds"] is None


async def test_an_organizations_month_counts_each_person_once_over_its_licenses(own: OwnTables) -> None:
    licenses = [PastLicense(terms(organization_id="acme")) for _ in range(3)]
    other = PastLicense(terms(organization_id="other"))
    for license, users in zip([*licenses, other], (("ann", "ben"), ("ben", "cid"), (), ("dan",)), strict=True):
        for user in users:
            license.ended(at("2027-02-10T09:00"), at("2027-02-10T10:00"), user)
        await license.write(own)
    await run(own, NIGHT)
    counted = {}
    for organization in ("acme", "other"):
        row = await own.get("directory", organization, "month:2027-02")
        counted[organization] = row.columns["users"] if row else None
    assert counted == {"acme": 3, "other": 1}


async def test_a_month_that_one_license_finishes_later_still_counts_the_people_of_the_others(own: OwnTables) -> None:
    quiet, late = PastLicense(), PastLicense()
    quiet.ended(at("2027-02-10T09:00"), at("2027-02-10T10:00"), "ann")
    late.ended(at("2027-02-10T09:00"), at("2027-02-10T10:00"), "ben")
    late.runs(at("2027-02-28T23:00"), at("2027-02-28T23:55"), at("2027-03-01T02:45"), "cid")
    for license in (quiet, late):
        await license.write(own)
    for night in ("2027-03-01T02:30", "2027-03-02T02:30"):
        await run(own, at(night))
        row = await own.get("directory", "acme", "month:2027-02")
        assert row is not None
        assert row.columns["users"] == 3


async def test_a_day_is_aggregated_again_while_a_session_may_still_have_ended_on_it(own: OwnTables) -> None:
    license = PastLicense()
    license.ended(at("2027-03-08T09:00"), at("2027-03-08T10:00"))
    license.runs(at("2027-03-09T23:00"), at("2027-03-09T23:50"), NIGHT + 10 * MINUTE, "ben")
    await license.write(own)
    await run(own, NIGHT)
    await assert_equals_the_count(own, license, NIGHT)  # as if it ran on
    result = await run(own, NIGHT + DAY)
    assert result.days == 2
    crashed = PastLicense(license.terms, id=license.id)
    crashed.ended(at("2027-03-08T09:00"), at("2027-03-08T10:00"))
    crashed.ended(at("2027-03-09T23:00"), at("2027-03-09T23:50"), "ben")
    await assert_equals_the_count(own, crashed, NIGHT + DAY)
    assert (await run(own, NIGHT + 2 * DAY)).days == 1


async def test_as_of_a_past_moment_the_register_is_as_it_was_then(own: OwnTables) -> None:
    license = eventful(PastLicense())
    await license.write(own)
    past = at("2027-02-05T00:00")
    await run(own, past)
    then = PastLicense(license.terms, id=license.id)
    then.uses = [use for use in license.uses if use.started_at < past]
    then.denials = [denial for denial in license.denials if denial.first_at < past]
    assert await kept_days(own, license.id) == expected_days(then.reference(past), license.first_day(), past)
    assert await kept_months(own, license.id) == expected_months(then.reference(past), license.first_day(), past, 3)
    await run(own, NIGHT)
    await assert_equals_the_count(own, license, NIGHT)
    await run(own, past)
    await run(own, NIGHT)
    await assert_equals_the_count(own, license, NIGHT)


async def test_after_a_run_by_a_clock_that_was_ahead_what_happens_until_then_is_counted_all_the_same(
    own: OwnTables,
) -> None:
    license = eventful(PastLicense(terms(seats=9)))
    await license.write(own)
    await run(own, NIGHT + 60 * DAY)
    assert await keys(own, license.id, rows.ACTIVE) == [], "as of then, they have lapsed"
    clock = Clock(NIGHT + HOUR)
    ledger, session_id = Ledger(Register(own), clock), new_session_id()
    await ledger.submit(license.id, start(session_id, license.terms, user="new"))
    clock.forward(3600)
    await ledger.heartbeat(license.id, Heartbeat(session_id, clock(), clock() + HOUR))
    await ledger.submit(license.id, End(session_id))
    license.uses = [use for use in license.uses if use.ended_at]
    license.ended(at("2027-03-08T23:00"), NIGHT - MINUTE, "ann")
    license.ended(at("2027-03-09T20:00"), NIGHT + DAY, "ben", "lab")
    license.ended(NIGHT + HOUR, NIGHT + 2 * HOUR, "p1-new", "p1-h")
    for night in (NIGHT + DAY, NIGHT + 2 * DAY, at("2027-04-01T02:30")):
        await run(own, night)
    await assert_equals_the_count(own, license, night)


async def test_a_dry_run_writes_nothing_and_tells_the_same_numbers(own: OwnTables, storage_calls: StorageCalls) -> None:
    for organization in ("acme", "other"):
        license = eventful(PastLicense(terms(organization_id=organization), at("2027-01-20T00:00").date()))
        for number in range(150):
            began = at("2026-02-20T00:00") + number * 6 * HOUR
            license.ended(began, began + 2 * HOUR, f"u{number % 3}")
            license.denied(began)
        await license.write(own)
    before = await dump(own, versions=True)
    mark = await storage_calls.mark()
    result = await run(own, NIGHT, dry_run=True)
    ours = [call for call in await storage_calls.since(mark) if own.prefix in call or "batch" in call]
    assert len(ours) > 20
    assert {call.split()[0] for call in ours} == {"GET"}, "no call that could write"
    assert await dump(own, versions=True) == before
    done = await run(own, NIGHT)
    assert result.deleted > 100
    assert str(result).rpartition(" ")[0] == str(done).rpartition(" ")[0]


async def test_two_runs_at_once_do_the_same_as_one(azurite: str, own: OwnTables) -> None:
    license = eventful(PastLicense(final_day=at("2027-01-28T00:00").date()))
    for number in range(1500):
        began = at("2026-01-10T00:00") + number * HOUR
        license.ended(began, began + 2 * HOUR, f"u{number % 5}")
    await license.write(own)
    old = sum(use.ended_at < year_before(NIGHT) for use in license.uses if use.ended_at)
    async with own_tables(azurite, OwnTables, own.prefix) as another:
        both = await asyncio.gather(run(own, NIGHT), run(another, NIGHT))
    assert [each.failed for each in both] == [0, 0]
    denied = sum(denial.first_at < at("2027-03-01T00:00") for denial in license.denials)
    assert sum(each.deleted for each in both) == old + denied, "each row was deleted by one of them"
    await assert_equals_the_count(own, license, NIGHT)
    assert len(await keys(own, license.id, rows.ENDED)) == len(license.uses) - old - 2  # two are still open


async def test_seats_stay_whole_beside_live_traffic(azurite: str, own: OwnTables) -> None:
    bought, clock = terms(seats=5, sharing=Sharing.USER), Clock(NIGHT)
    license = PastLicense(bought, at("2027-01-31T00:00").date())
    for number in range(1200):
        began = at("2026-02-01T00:00") + number * HOUR
        license.ended(began, began + 2 * HOUR, f"u{number % 5}")
    license.runs(at("2027-03-09T10:00"), at("2027-03-09T10:40"), at("2027-03-09T10:55"), "ida", crashed=True)
    await license.write(own)
    done = asyncio.Event()
    granted: set[str] = set()

    async def program(number: int, ledger: Ledger) -> None:
        while not done.is_set():
            session_id = new_session_id()
            decision = await ledger.submit(license.id, start(session_id, bought, user=f"live{number % 7}"))
            if isinstance(decision.outcome, Granted):
                granted.add(session_id)
                await ledger.heartbeat(license.id, Heartbeat(session_id, clock(), clock() + HOUR))
                if random.random() < 0.8:
                    await ledger.submit(license.id, End(session_id))

    async with own_tables(azurite, OwnTables, own.prefix) as served:
        ledger = Ledger(Register(served), clock)
        traffic = asyncio.gather(*(program(number, ledger) for number in range(8)))
        result, nights = RetentionResult(), 0
        while nights < 3 or (len(granted) <= 20 and nights < 60):
            result += await run(own, NIGHT)
            nights += 1
        done.set()
        await traffic
    assert result.failed == 0
    assert len(granted) > 20, "there was traffic"
    await assert_equals_the_count(own, license, NIGHT)
    seen = await look(own, license.id)
    seen.check()
    assert granted <= seen.active.keys() | seen.ended.keys(), "no session was lost"
    assert year_before(NIGHT) <= min(row["ended_at"] for row in seen.ended.values())


class EndsMeanwhile(OwnTables):
    """A register in which a session ends between the reading of active and of ended rows."""

    session = ""
    ended_at = NIGHT

    async def pages(self, table: Table, *args: Any, **kwargs: Any) -> Any:
        if table == "register" and args[1].startswith(rows.ENDED) and self.session and kwargs.get("columns"):
            ending, self.session = self.session, ""
            await Ledger(Register(self), Clock(self.ended_at)).submit(args[0], End(ending))
        async for page in super().pages(table, *args, **kwargs):
            yield page


@pytest.mark.parametrize("ended_at", [NIGHT - timedelta(seconds=1), NIGHT + timedelta(seconds=1)])
async def test_a_session_that_ends_while_the_register_is_read_counts_once(
    azurite: str, own: OwnTables, ended_at: datetime
) -> None:
    license = PastLicense()
    license.ended(at("2027-03-08T09:00"), at("2027-03-08T10:00"))
    await license.write(own)
    await run(own, NIGHT - DAY)  # so that only what is new gets read
    license.runs(at("2027-03-09T22:00"), NIGHT, NIGHT + HOUR, "ben")
    await own.commit("register", license.id, [license.writes[-1], merge(rows.STATE, {"in_use": 1})])
    async with own_tables(azurite, EndsMeanwhile, own.prefix) as read:
        read.session, read.ended_at = license.running[0].id, ended_at
        await run(read, NIGHT)
        assert read.session == "", "it ended meanwhile"
    await assert_equals_the_count(own, license, NIGHT)


@pytest.mark.parametrize("organization", ["acme", "other"])
async def test_a_row_that_cannot_be_read_harms_only_its_own_license_and_keeps_nothing_past_its_year(
    own: OwnTables, caplog: pytest.LogCaptureFixture, organization: str
) -> None:
    poisoned, sound = (
        PastLicense(terms(organization_id="acme")),
        eventful(PastLicense(terms(organization_id=organization))),
    )
    poisoned.ended(at("2026-03-01T09:00"), at("2026-03-01T10:00"))
    for license in (poisoned, sound):
        await license.write(own)
    await own.commit("register", poisoned.id, [put(rows.ended_key(at("2026-03-01T11:00"), "x"), {"started_at": "?"})])
    with caplog.at_level("INFO", "licensing"):
        result = await run(own, NIGHT)
    assert (result.licenses, result.failed, result.overdue) == (2, 1, 0)
    await assert_equals_the_count(own, sound, NIGHT)
    assert await keys(own, poisoned.id, rows.ENDED) == []
    assert await keys(own, poisoned.id, rows.MONTH) == []
    said = {record.getMessage(): record.levelname for record in caplog.records}
    assert said[f"retention {result}"] == "ERROR"
    assert said["a row cannot be read: ended:20260301T110000.000000Z:x"] == "ERROR"
    assert not any(poisoned.id in message or "acme" in message for message in said)


async def test_a_failure_harms_only_its_own_organization_and_what_stays_past_its_year_is_reported(
    own: OwnTables, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = PastLicense(terms(organization_id="acme")), eventful(PastLicense(terms(organization_id="other")))
    broken.ended(at("2026-03-01T09:00"), at("2026-03-01T10:00"))
    for license in (broken, sound):
        await license.write(own)

    async def failing(register: Register, license_id: str, *times: datetime, dry_run: bool) -> LicenseAggregate:
        if license_id == broken.id:
            raise RuntimeError
        return await aggregate_license(register, license_id, *times, dry_run=dry_run)

    monkeypatch.setattr("licensing.services.organization_totals.aggregate_license", failing)
    with caplog.at_level("INFO", "licensing"):
        result = await run(own, NIGHT)
    assert (result.licenses, result.failed, result.overdue) == (2, 1, 1)
    assert result.oldest == at("2026-03-01T10:00")
    await assert_equals_the_count(own, sound, NIGHT)
    assert len(await keys(own, broken.id, rows.ENDED)) == 1, "nothing goes before it is counted"
    said = {record.getMessage(): record.levelname for record in caplog.records}
    assert said["retention: RuntimeError with the licenses of one organization"] == "ERROR"
    assert said["retention: 1 licenses keep sessions past their year"] == "ERROR"


class Noted(OwnTables):
    """A register that notes which step of the night each write is of, and of how many licenses it is read at once."""

    STEPS = ("totals", "organization", "final", "deletion")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.steps: list[str] = []
        self.read: list[str] = []
        self.most_at_once = 0

    async def commit(self, table: Table, partition: str, writes: Any) -> list[str]:
        first = writes[0]
        kind = "deletion" if first.verb == "delete" else "final" if rows.FINAL_DAY in first.columns else "totals"
        step = "organization" if table == "directory" else kind
        self.steps.append(step)
        done = await super().commit(table, partition, writes)
        self.steps.append(step)
        return done

    async def pages(self, table: Table, *args: Any, **kwargs: Any) -> Any:
        noted = [args[0]] if table == "register" and args[1] == rows.ACTIVE else []
        self.read += noted
        self.most_at_once = max(self.most_at_once, len(set(self.read)))
        async for page in super().pages(table, *args, **kwargs):
            yield page
        for license in noted:
            self.read.remove(license)


def unlike(organization: str, count: int) -> list[PastLicense]:
    """Licenses of one organization on which little and much is to be done."""
    licenses = [PastLicense(terms(organization_id=organization), at("2027-02-20T00:00").date()) for _ in range(count)]
    for number, license in enumerate(licenses):
        for old in range(1 + 60 * number):
            license.ended(at("2026-01-01T00:00"), at("2026-01-01T00:00") + old * HOUR)
        for new in range(number):
            license.ended(at("2027-02-21T00:00"), at("2027-02-21T00:00") + new * DAY)
    return licenses


async def test_licenses_go_side_by_side_and_each_step_is_over_on_all_before_the_next(
    azurite: str, own: OwnTables
) -> None:
    for license in unlike("acme", 7):
        await license.write(own)
    overdue = 7 + 60 * sum(range(7))
    assert (await run(own, NIGHT, dry_run=True)).deleted == overdue
    async with own_tables(azurite, Noted, own.prefix) as noted:
        result = await run(noted, NIGHT)
    assert (result.licenses, result.failed, result.deleted) == (7, 0, overdue)
    assert set(noted.steps) == set(noted.STEPS)
    assert noted.steps == sorted(noted.steps, key=noted.STEPS.index), "an end of a step after the next has begun"
    assert noted.most_at_once == PARALLEL


async def test_many_organizations_share_the_same_few_places(azurite: str, own: OwnTables) -> None:
    for organization in ("acme", "bolt", "cove"):
        for license in unlike(organization, 3):
            await license.write(own)
    async with own_tables(azurite, Noted, own.prefix) as noted:
        assert (await run(noted, NIGHT)).failed == 0
    assert noted.most_at_once == PARALLEL


async def test_progress_is_reported_with_each_license_and_comes_to_its_end_beside_an_error(own: OwnTables) -> None:
    poisoned = PastLicense(terms(organization_id="other"))
    for license in [*unlike("acme", 5), poisoned]:
        await license.write(own)
    await own.commit("register", poisoned.id, [put(rows.ended_key(at("2026-03-01T11:00"), "x"), {"started_at": "?"})])
    reports: list[tuple[int, int]] = []
    ledger = Ledger(Register(own), Clock(NIGHT))
    result = await run_retention(
        Register(own), ledger, NIGHT, SMALL_GROUP, progress=lambda done, of: reports.append((done, of))
    )
    assert result.failed == 1
    assert reports == sorted(reports)
    assert set(reports) == {(done, 6) for done in range(1, 7)}


async def test_the_log_says_what_was_done_and_what_is_left(own: OwnTables, caplog: pytest.LogCaptureFixture) -> None:
    license = PastLicense()
    license.ended(at("2026-03-01T09:00"), at("2026-03-01T10:00"))
    license.ended(at("2027-03-01T09:00"), at("2027-03-01T10:00"))
    await license.write(own)
    with caplog.at_level("INFO", "licensing"):
        result = await run(own, NIGHT)
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("INFO", f"retention {result}")]
    assert str(result).startswith(
        "licenses=1 days=374 months=12 deleted=1 oldest=2027-03-01T10:00:00Z overdue=0 failed=0 seconds="
    )


class Throttled(OwnTables):
    """A register that is too busy to answer some transactions, having done every other one of them."""

    unanswered = 0

    async def commit(self, table: Table, partition: str, writes: Any) -> list[str]:
        deletes: list[Write] = [write for write in writes if write.verb == "delete"]
        if len(deletes) > 1 and self.unanswered:
            self.unanswered -= 1
            if self.unanswered % 2:
                await super().commit(table, partition, writes)
            raise UnavailableError("the store answered 503")
        return await super().commit(table, partition, writes)


@pytest.mark.usefixtures("hurried")
async def test_a_busy_store_is_given_time(azurite: str, own: OwnTables) -> None:
    license = PastLicense(final_day=at("2027-03-07T00:00").date())
    for number in range(1000):
        license.ended(at("2026-01-01T00:00"), at("2026-01-01T00:00") + number * HOUR)
    await license.write(own)
    async with own_tables(azurite, Throttled, own.prefix) as busy:
        busy.unanswered = 12
        result = await run(busy, NIGHT)
        assert (result.failed, result.overdue, busy.unanswered) == (0, 0, 0)
    assert await keys(own, license.id, rows.ENDED) == []


Result = TypeVar("Result")


class Silent(OwnTables):
    """A register that leaves some calls in a row without an answer, once, before they are done."""

    silent_from = 0
    silent = 4

    async def _call(self, table: Table, call: Callable[[], Awaitable[Result]]) -> Result:
        if self.calls >= self.silent_from and self.silent:
            self.silent -= 1
            raise UnavailableError("the store did not answer")
        return await super()._call(table, call)


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("silent_from", range(16))
async def test_a_store_that_is_silent_for_a_while_costs_no_night(
    azurite: str, own: OwnTables, silent_from: int
) -> None:
    license = PastLicense(final_day=at("2027-03-07T00:00").date())
    license.ended(at("2026-03-01T09:00"), at("2026-03-01T10:00"))
    license.ended(at("2027-03-01T09:00"), at("2027-03-01T10:00"))
    await license.write(own)
    async with own_tables(azurite, Silent, own.prefix) as silent:
        silent.silent_from = silent_from
        result = await run(silent, NIGHT)
        assert silent.silent == 0, "it was silent"
    assert (result.failed, result.overdue, result.deleted) == (0, 0, 1)
    assert result.oldest == at("2027-03-01T10:00")
    assert (await run(own, NIGHT)).days == 0, "all was done"


async def test_a_night_does_not_save_totals_of_sessions_that_are_erased_while_it_aggregates(own: OwnTables) -> None:
    license = eventful(PastLicense(terms(kind=Kind.NAMED_USER, seats=0)))
    await license.write(own)
    aggregate = await aggregate_license(Register(own), license.id, NIGHT)
    state = await Register(own).totals_state(license.id)
    assert state is not None
    await Register(own).correct(license.id, state)
    await save_totals(Register(own), license.id, aggregate)
    await mark_final(Register(own), license.id, aggregate)
    assert await keys(own, license.id, rows.DAY) == await keys(own, license.id, rows.MONTH) == []
    assert await saved_final_day(Register(own), license.id) is None


async def test_a_denial_is_kept_until_the_totals_that_count_it_are_saved(
    own: OwnTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    license = PastLicense()
    license.ended(at("2027-02-12T08:00"), at("2027-02-12T10:00"))
    license.denied(at("2027-02-12T09:00"))
    await license.write(own)

    async def aggregate_and_erase(
        register: Register, license_id: str, *times: datetime, dry_run: bool
    ) -> LicenseAggregate:
        aggregate = await aggregate_license(register, license_id, *times, dry_run=dry_run)
        await invalidate_run(register, license_id)
        return aggregate

    with monkeypatch.context() as patch:
        patch.setattr("licensing.services.organization_totals.aggregate_license", aggregate_and_erase)
        await run(own, NIGHT)
    assert await keys(own, license.id, rows.MONTH) == []
    assert len(await keys(own, license.id, rows.DENIED)) == 1
    await run(own, NIGHT)
    assert (await kept_months(own, license.id))["2027-02"]["denials"] == 1
    assert await keys(own, license.id, rows.DENIED) == []


class Halting(OwnTables):
    """A register that after each deletion leaves the next reading of a range without an answer."""

    halts = 0
    due = False

    async def commit(self, table: Table, partition: str, writes: Any) -> list[str]:
        self.due = self.due or any(write.verb == "delete" for write in writes)
        return await super().commit(table, partition, writes)

    async def _call(self, table: Table, call: Callable[[], Awaitable[Result]]) -> Result:
        if self.due and call.__qualname__.startswith("Tables.pages."):
            self.due = False
            self.halts += 1
            raise UnavailableError("the store did not answer")
        return await super()._call(table, call)


@pytest.mark.usefixtures("hurried")
async def test_a_long_deletion_outlasts_a_store_that_halts_again_and_again(azurite: str, own: OwnTables) -> None:
    license = PastLicense(final_day=at("2027-03-07T00:00").date())
    for number in range(7100):
        license.ended(at("2026-01-01T00:00"), at("2026-01-01T00:00") + number * MINUTE)
    await license.write(own)
    async with own_tables(azurite, Halting, own.prefix) as halting:
        result = await run(halting, NIGHT)
        assert halting.halts > len(retry.BACKOFF_SECONDS)
    assert (result.failed, result.overdue, result.deleted) == (0, 0, 7100)


@pytest.mark.usefixtures("hurried")
async def test_a_dry_run_on_a_store_that_is_silent_for_a_while_counts_nothing_twice(
    azurite: str, own: OwnTables
) -> None:
    license = PastLicense(final_day=at("2027-03-07T00:00").date())
    license.ended(at("2026-03-01T09:00"), at("2026-03-01T10:00"))
    await license.write(own)
    async with own_tables(azurite, Silent, own.prefix) as silent:
        while silent.silent_from == 0 or silent.silent == 0:  # as long as there are so many calls
            silent.calls, silent.silent, silent.silent_from = 0, 4, silent.silent_from + 1
            would = await run(silent, NIGHT, dry_run=True)
            assert (would.failed, would.deleted) == (0, 1)
        assert 8 < silent.silent_from < 50


def crowd(license: PastLicense, rows_kept: int) -> PastLicense:
    """So many old sessions, and one new day."""
    for number in range(rows_kept):
        began = at("2026-04-01T00:00") + number * 4 * MINUTE
        license.ended(began, began + HOUR, f"u{number % 7}")
    for hour in range(20):
        license.ended(NIGHT.replace(day=9, hour=hour), NIGHT.replace(day=9, hour=hour + 2), f"u{hour % 7}")
    return license


async def test_a_night_costs_what_changed_and_not_what_is_kept(azurite: str) -> None:
    costs = []
    for rows_kept in (0, 100, OLD_ROWS):
        async with own_tables(azurite, OwnTables) as own:
            license = crowd(PastLicense(final_day=at("2027-03-08T00:00").date()), rows_kept)
            await license.write(own)
            own.calls = own.rows_read = 0
            result = await run(own, NIGHT)
            assert (result.days, result.failed) == (1, 0)
            costs.append((own.calls, own.rows_read))
            license.uses = license.uses[rows_kept:]
            await assert_equals_the_count(own, license, NIGHT)
    assert len(set(costs)) == 1, costs
