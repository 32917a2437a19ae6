"""The line on a real store: nobody is overtaken or loses a place, whatever process is asked and whatever gets lost."""

import asyncio
import random
import time
from collections.abc import Sequence
from datetime import timedelta

import pytest

from licensing.errors import ConflictError
from licensing.rules.line import MOST_PLACES
from licensing.rules.requests import End, Full, Granted, Outcome, Start
from licensing.services.sweep import sweep
from licensing.storage.ledger import Ledger
from licensing.storage.register import DENIED, Register, denied_key
from licensing.storage.tables import Table, Tables, Write, delete
from tests.factories import Clock, new_license_id, new_session_id, start, terms
from tests.register_rows import look
from tests.stores import Counted, ledgers

ONE = terms(seats=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


class NamesNoRow(Counted):
    """A store that does not say at which row a transaction conflicts."""

    async def commit(self, table: Table, partition: str, writes: Sequence[Write]) -> list[str]:
        try:
            return await super().commit(table, partition, writes)
        except ConflictError as conflict:
            raise ConflictError(conflict.mismatch, None) from None


def waits(session_id: str, **changes: object) -> Start:
    return start(session_id, ONE, wait=True, **changes)  # type: ignore[arg-type]


async def ask(ledger: Ledger, license_id: str, session_id: str) -> Outcome:
    return (await ledger.submit(license_id, waits(session_id))).outcome


async def position(ledger: Ledger, license_id: str, session_id: str) -> int | None:
    outcome = await ask(ledger, license_id, session_id)
    assert isinstance(outcome, Full), outcome
    return outcome.position


async def full(ledger: Ledger, license_id: str) -> str:
    """A license whose seats are taken; the session that holds the one."""
    held = new_session_id()
    assert isinstance((await ledger.submit(license_id, start(held, ONE))).outcome, Granted)
    return held


async def places(tables: Tables, clock: Clock, license_id: str) -> list[str]:
    (await look(tables, license_id)).check()
    state = await Ledger(Register(tables), clock).state(license_id)
    assert state is not None
    return [place.session_id for place in state.line]


async def test_processes_share_one_line(tables: Tables, clock: Clock) -> None:
    license_id, sessions = new_license_id(), [new_session_id() for _ in range(3)]
    processes = ledgers(tables, clock, 3)
    held = await full(processes[0], license_id)
    for number, session in enumerate(sessions):
        assert await position(processes[number], license_id, session) == number + 1
    await processes[1].submit(license_id, End(held))
    assert await position(processes[0], license_id, sessions[1]) == 2
    assert await position(processes[0], license_id, new_session_id()) == 4
    assert isinstance(await ask(processes[2], license_id, sessions[0]), Granted)
    assert (await places(tables, clock, license_id))[:2] == sessions[1:]


async def test_the_place_survives_a_restart_of_every_process(tables: Tables, clock: Clock) -> None:
    license_id, first, second = new_license_id(), new_session_id(), new_session_id()
    (before,) = ledgers(tables, clock, 1)
    held = await full(before, license_id)
    await ask(before, license_id, first)
    await ask(before, license_id, second)
    await before.submit(license_id, End(held))
    (after,) = ledgers(tables, clock, 1)
    assert await position(after, license_id, second) == 2
    assert isinstance(await ask(after, license_id, first), Granted)


@pytest.mark.parametrize("lost", ["request", "reply"])
@pytest.mark.parametrize("when", ["arriving", "asking again", "served"])
async def test_what_gets_lost_costs_no_place(tables: Tables, clock: Clock, lost: str, when: str) -> None:
    store, license_id, first, second = Counted(tables), new_license_id(), new_session_id(), new_session_id()
    ledger = Ledger(Register(store), clock)
    held = await full(ledger, license_id)
    if when != "arriving":
        await ask(ledger, license_id, first)
        await ask(ledger, license_id, second)
    if when == "served":
        await ledger.submit(license_id, End(held))
    clock.forward(5)
    vars(store)["lose_requests" if lost == "request" else "lose_replies"] = 1
    outcome = await ask(ledger, license_id, first)
    if when == "served":
        assert isinstance(outcome, Granted)
        assert await places(tables, clock, license_id) == [second]
    else:
        assert isinstance(outcome, Full)
        assert outcome.position == 1
        assert (await places(tables, clock, license_id))[0] == first
    assert len((await look(tables, license_id)).denied) == (1 if when == "arriving" else 2)


async def test_a_waiter_costs_one_call_each_time_it_asks(tables: Tables, clock: Clock) -> None:
    store, license_id, waiter = Counted(tables), new_license_id(), new_session_id()
    ledger = Ledger(Register(store), clock)
    await full(ledger, license_id)
    await ask(ledger, license_id, waiter)
    store.calls.clear()
    for _ in range(6):
        clock.forward(5)
        assert await position(ledger, license_id, waiter) == 1
    assert store.calls == ["commit register"] * 6
    denied = (await look(tables, license_id)).denied[waiter]
    assert denied["last_at"] - denied["first_at"] == timedelta(seconds=30)


async def test_a_free_seat_is_seen_by_a_process_that_has_cached_a_full_license(tables: Tables, clock: Clock) -> None:
    license_id, waiter = new_license_id(), new_session_id()
    ours, theirs = ledgers(tables, clock, 2)
    held = await full(ours, license_id)
    await ask(ours, license_id, waiter)
    await theirs.submit(license_id, End(held))
    assert isinstance(await ask(ours, license_id, waiter), Granted)


async def test_a_wait_over_midnight_and_over_processes_has_one_denial_a_day(tables: Tables) -> None:
    clock = Clock()
    clock.forward((clock().replace(hour=23, minute=59, second=40, microsecond=0) - clock()).total_seconds())
    license_id, waiter = new_license_id(), new_session_id()
    ours, theirs = ledgers(tables, clock, 2)
    await full(ours, license_id)
    for ledger in (ours, ours, ours, theirs, theirs):
        assert await position(ledger, license_id, waiter) == 1
        clock.forward(10)
    found = [row.key async for row in tables.rows("register", license_id, DENIED, DENIED + "~")]
    assert len(found) == 2


async def test_a_denial_that_was_erased_meanwhile_is_noted_anew(tables: Tables, clock: Clock) -> None:
    license_id, waiter = new_license_id(), new_session_id()
    (ledger,) = ledgers(tables, clock, 1)
    await full(ledger, license_id)
    await ask(ledger, license_id, waiter)
    await tables.commit("register", license_id, [delete(denied_key(waiter, clock().date()))])
    clock.forward(5)
    assert await position(ledger, license_id, waiter) == 1
    assert (await look(tables, license_id)).denied.keys() == {waiter}


@pytest.mark.parametrize("erased", [True, False])
async def test_a_store_that_names_no_row_refuses_no_waiter_for_its_denial(
    tables: Tables, clock: Clock, erased: bool
) -> None:
    license_id, waiter = new_license_id(), new_session_id()
    store = NamesNoRow(tables)
    first, second = (Ledger(Register(store), clock, serves=False) for _ in range(2))
    await full(first, license_id)
    await ask(first, license_id, waiter)
    if erased:
        await tables.commit("register", license_id, [delete(denied_key(waiter, clock().date()))])
    else:
        await first.clear_line(license_id)
    clock.forward(5)
    assert await position(second, license_id, waiter) == 1
    assert (await look(tables, license_id)).denied.keys() == {waiter}


async def test_fifty_have_a_place_and_others_none_until_one_leaves(tables: Tables, clock: Clock) -> None:
    license_id, sessions = new_license_id(), [new_session_id() for _ in range(MOST_PLACES + 5)]
    first, second = ledgers(tables, clock, 2)
    await full(first, license_id)
    found = await asyncio.gather(
        *(position((first, second)[number % 2], license_id, session) for number, session in enumerate(sessions))
    )
    assert sorted(filter(None, found)) == list(range(1, MOST_PLACES + 1))
    outside = [session for session, place in zip(sessions, found, strict=True) if place is None]
    assert len(outside) == 5
    clock.forward(60)  # all ask again, but one
    line = await places(tables, clock, license_id)
    for session in line[1:]:
        await ask(first, license_id, session)
    clock.forward(0.1)
    assert await position(second, license_id, outside[0]) == MOST_PLACES
    assert line[0] not in await places(tables, clock, license_id)


async def test_a_cached_state_tells_who_waited_when_it_was_read(tables: Tables, clock: Clock) -> None:
    license_id, waiter = new_license_id(), new_session_id()
    ours, theirs = ledgers(tables, clock, 2)
    await full(theirs, license_id)
    assert ours.state_age(license_id) == timedelta(), "nothing is cached"
    await position(theirs, license_id, waiter)
    began = time.monotonic()
    await ours.state(license_id)
    for _ in range(8):
        clock.forward(5)
        await position(theirs, license_id, waiter)
    cached = await ours.state(license_id, 60)
    assert timedelta() < ours.state_age(license_id) <= timedelta(seconds=time.monotonic() - began)
    assert cached is not None
    assert (ours.waiting(cached), ours.waiting(cached, timedelta(seconds=40))) == (0, 1)


async def test_twelve_seats_that_are_free_at_once_are_for_the_first_twelve(tables: Tables, clock: Clock) -> None:
    twelve, license_id, chance = terms(seats=12), new_license_id(), random.Random(16)
    processes = ledgers(tables, clock, 4)
    holders = [new_session_id() for _ in range(12)]
    waiters = [new_session_id() for _ in range(20)]
    await asyncio.gather(*(processes[0].submit(license_id, start(each, twelve)) for each in holders))
    for each in waiters:
        await processes[1].submit(license_id, start(each, twelve, wait=True))
    await asyncio.gather(*(processes[2].submit(license_id, End(each)) for each in holders))
    asking = list(enumerate(waiters))
    chance.shuffle(asking)

    async def granted(number: int, session: str) -> tuple[int, bool]:
        ledger = processes[chance.randrange(4)]
        return number, isinstance((await ledger.submit(license_id, start(session, twelve, wait=True))).outcome, Granted)

    served = dict(await asyncio.gather(*(granted(*each) for each in asking)))
    assert {number for number, has_seat in served.items() if has_seat} == set(range(12))
    assert await places(tables, clock, license_id) == waiters[12:]


async def test_sweep_clears_who_has_left_and_nobody_else(tables: Tables, clock: Clock) -> None:
    license_id, gone, stays = new_license_id(), new_session_id(), new_session_id()
    (ledger,) = ledgers(tables, clock, 1)
    await full(ledger, license_id)
    await ask(ledger, license_id, gone)
    await ask(ledger, license_id, stays)
    clock.forward(29)
    await ledger.submit(license_id, waits(stays))
    for passes, left in ((0, [gone, stays]), (1, [stays])):
        clock.forward(passes)
        await sweep(Register(tables), Ledger(Register(tables), clock), clock())
        assert await places(tables, clock, license_id) == left


async def test_an_operator_clears_a_place_or_the_line(tables: Tables, clock: Clock) -> None:
    license_id, sessions = new_license_id(), [new_session_id() for _ in range(3)]
    (ledger,) = ledgers(tables, clock, 1)
    await full(ledger, license_id)
    for session in sessions:
        await ask(ledger, license_id, session)
    operator = Ledger(Register(tables), clock, serves=False)
    assert await operator.clear_line(license_id, [sessions[0], new_session_id()]) == 1
    assert await operator.clear_line(license_id, [sessions[0]]) == 0
    assert await places(tables, clock, license_id) == sessions[1:]
    assert await position(ledger, license_id, sessions[0]) == 3, "who waits on stands at the end"
    assert await operator.clear_line(license_id) == 3
    assert await operator.clear_line(new_license_id()) == 0
    assert await places(tables, clock, license_id) == []
