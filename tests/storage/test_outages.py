"""Outages of the service on a real store: who marks what, who reads it, what it costs, and who keeps the seat."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from licensing.rules.model import UNKNOWN
from licensing.rules.outage import Outage
from licensing.rules.requests import End, Full, Granted, Lapse, Start
from licensing.services.sweep import sweep, sweep_license
from licensing.storage import outages
from licensing.storage.ledger import Heartbeat, Ledger
from licensing.storage.outages import Outages
from licensing.storage.register import ALIVE, OUTAGE, SERVICE, Register
from tests.factories import Clock, new_license_id, new_session_id, start, terms
from tests.register_rows import look
from tests.stores import OwnTables, own_tables

NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
FIVE = terms(seats=5)


@pytest.fixture(autouse=True)
def with_outages(monkeypatch: pytest.MonkeyPatch, always_alive: None) -> None:
    monkeypatch.setattr(outages, "GAP", timedelta(minutes=11))


@pytest.fixture
def clock() -> Clock:
    return Clock(NOON)


@pytest.fixture
async def own(azurite: str) -> AsyncIterator[OwnTables]:
    async with own_tables(azurite, OwnTables) as opened:
        yield opened


async def marks(own: OwnTables) -> dict[str, Any]:
    """The columns of the service's own rows."""
    return {row.key: dict(row.content) async for row in own.rows("directory", SERVICE)}


async def test_a_gap_becomes_an_outage_with_the_next_mark(
    own: OwnTables, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    process = Outages(Register(own), clock)
    assert process.last == UNKNOWN
    assert await process.read() is None
    clock.forward(11 * 60)
    assert await process.read() is None, "as long as it may be quiet between two sweeps"
    clock.forward(11 * 60 + 1)
    outage = Outage(NOON + 11 * MINUTE, clock())
    assert [await process.read(), process.last] == [outage, outage]
    written = await marks(own)
    assert written.keys() == {ALIVE, OUTAGE}
    assert [datetime.fromisoformat(written[OUTAGE][name]) for name in ("from", "to")] == [outage.begin, outage.end]
    assert await Outages(Register(own), clock).read() == outage, "another process knows the same"
    assert caplog.messages == ["the service was away: 2026-03-10T12:11:00Z/2026-03-10T12:22:01Z"]


async def test_an_outage_that_begins_before_the_last_amnesty_is_over_goes_on(own: OwnTables, clock: Clock) -> None:
    process = Outages(Register(own), clock)
    await process.read()
    clock.forward(3600)
    await process.read()
    clock.forward(5 * 60)
    await process.read()
    clock.forward(3600)
    assert await process.read() == Outage(NOON, clock())
    clock.forward(6 * 60)
    await process.read()
    last = clock()
    clock.forward(3600)
    assert await process.read() == Outage(last, clock())


async def test_two_processes_that_come_back_at_once_find_one_outage(own: OwnTables, clock: Clock) -> None:
    await Outages(Register(own), clock).read()
    clock.forward(7200)
    found = await asyncio.gather(*(Outages(Register(own), clock).read() for _ in range(4)))
    assert found == [Outage(NOON, clock())] * 4


async def test_who_serves_marks_once_a_minute_and_two_calls_are_all_that_costs(own: OwnTables, clock: Clock) -> None:
    license_id, session = new_license_id(), new_session_id()
    ledger = Ledger(Register(own), clock)
    await ledger.submit(license_id, start(session, FIVE))
    await ledger.close()
    begun, heartbeats = own.calls, 0
    for _ in range(20):  # ten minutes
        clock.forward(30)
        await ledger.heartbeat(license_id, Heartbeat(session, clock(), clock() + 15 * MINUTE))
        await ledger.close()
        heartbeats += 1
    assert own.calls - begun - heartbeats == 2 * 10


async def test_of_many_processes_one_writes_and_the_others_read(own: OwnTables, clock: Clock) -> None:
    processes = [Outages(Register(own), clock) for _ in range(8)]
    for process in processes:
        process.touch()
        await process.close()
    writes = len(own.writes)
    clock.forward(60)
    begun = own.calls
    for process in processes:
        process.touch()
        await process.close()
    assert (len(own.writes) - writes, own.calls - begun) == (1, 9)


async def test_a_command_marks_nothing_and_takes_a_gap_for_an_outage_that_lasts(own: OwnTables, clock: Clock) -> None:
    license_id, session = new_license_id(), new_session_id()
    service = Ledger(Register(own), clock)
    await service.submit(license_id, start(session, FIVE))
    await service.close()
    before = await marks(own)
    clock.forward(3600)
    by_hand = Ledger(Register(own), clock, serves=False)
    swept = await sweep(Register(own), by_hand, clock())
    assert (swept.lapsed, await marks(own)) == (0, before)
    assert (await look(own, license_id)).active.keys() == {session}


async def test_without_a_mark_of_the_service_a_command_knows_no_outage(own: OwnTables, clock: Clock) -> None:
    license_id, session = new_license_id(), new_session_id()
    by_hand = Ledger(Register(own), clock, serves=False)
    await by_hand.submit(license_id, start(session, FIVE))
    clock.forward(3600)
    assert await sweep_license(Register(own), by_hand, license_id, clock()) == 1


async def test_a_sweep_marks_that_the_service_is_alive_also_where_nothing_lapses(own: OwnTables, clock: Clock) -> None:
    await sweep(Register(own), Ledger(Register(own), clock), clock())
    assert (await marks(own)).keys() == {ALIVE}


@pytest.mark.parametrize("processes", [1, 4])
async def test_after_two_hours_off_all_five_keep_their_seats(azurite: str, processes: int) -> None:
    """Fifty rounds: five newcomers ask before the five that ran are heard, at processes that have just started."""
    for number in range(50):
        async with own_tables(azurite, OwnTables) as own:
            clock, license_id = Clock(NOON), new_license_id()
            before = Ledger(Register(own), clock)
            running = [new_session_id() for _ in range(5)]
            for session in running:
                clock.forward(number % 7)
                assert isinstance((await before.submit(license_id, start(session, FIVE))).outcome, Granted)
            await before.close()
            clock.forward(7200)
            back = [Ledger(Register(own), clock) for _ in range(processes)]

            async def ask(request: Start, ledger: Ledger) -> type:
                return type((await ledger.submit(license_id, request)).outcome)  # noqa: B023 - awaited in this round

            newcomers = [start(new_session_id(), FIVE, user=f"new{place}") for place in range(5)]
            asked = await asyncio.gather(
                *(ask(request, back[place % processes]) for place, request in enumerate(newcomers))
            )
            assert asked == [Full] * 5
            clock.forward(5 * 60)
            for place, session in enumerate(running):
                heartbeat = Heartbeat(session, clock(), clock() + 15 * MINUTE)
                assert await back[place % processes].heartbeat(license_id, heartbeat)
            clock.forward(2 * 60)  # the amnesty is over
            assert await ask(newcomers[0], back[0]) is Full
            for ledger in back:
                await ledger.close()
            assert (await look(own, license_id)).active.keys() == set(running)


async def test_who_is_not_heard_within_the_amnesty_loses_the_seat(own: OwnTables, clock: Clock) -> None:
    license_id, session = new_license_id(), new_session_id()
    one = terms(seats=1)
    await Ledger(Register(own), clock).submit(license_id, start(session, one))
    await asyncio.sleep(0)
    await Outages(Register(own), clock).read()
    clock.forward(7200)
    ledger = Ledger(Register(own), clock)
    assert isinstance((await ledger.submit(license_id, start(new_session_id(), one))).outcome, Full)
    (row,) = [row async for row in Register(own).active(license_id)]
    await ledger.submit(license_id, Lapse(row))
    assert session in (await look(own, license_id)).active, "a sweep waits, too"
    clock.forward(6 * 60)
    assert isinstance((await ledger.submit(license_id, start(new_session_id(), one))).outcome, Granted)
    assert (await look(own, license_id)).ended[session]["ended_at"] == NOON
    await ledger.close()


async def test_nobody_leaves_the_line_while_the_service_is_away(own: OwnTables, clock: Clock) -> None:
    license_id, held, first, second = new_license_id(), *(new_session_id() for _ in range(3))
    one = terms(seats=1)
    before = Ledger(Register(own), clock)
    await before.mark_alive()
    for session in (held, first, second):
        await before.submit(license_id, start(session, one, wait=True))
    await before.submit(license_id, End(held))
    clock.forward(3600)
    after = Ledger(Register(own), clock)
    await after.mark_alive()
    for seconds in (300, 55):
        clock.forward(seconds)
        outcome = (await Ledger(Register(own), clock).submit(license_id, start(second, one, wait=True))).outcome
        assert isinstance(outcome, Full)
        assert outcome.position == 2, "the first may still be heard"
    await sweep(Register(own), after, clock())
    state = await after.state(license_id)
    assert state is not None
    assert len(after.waiters(state)) == 2
    clock.forward(5)
    outcome = (await after.submit(license_id, start(second, one, wait=True))).outcome
    assert isinstance(outcome, Granted), "the amnesty is over"
