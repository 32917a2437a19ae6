"""What a process remembers of the rows that it wrote spares reads; where it is wrong, that costs one retry."""

import asyncio
import time
from datetime import timedelta
from typing import Any

import pytest

from licensing.errors import ConflictError
from licensing.rules.license import Sharing
from licensing.rules.model import Session
from licensing.rules.requests import End, Ended, Full, Granted
from licensing.rules.seats import Lapsing, SeatChange
from licensing.services.verify import verify
from licensing.storage import register as rows
from licensing.storage import state_cache, writer
from licensing.storage.heartbeats import GONE_BEFORE_SINGLY
from licensing.storage.ledger import Heartbeat, Ledger
from licensing.storage.register import Register, denial_change, seat_change, start_change
from licensing.storage.row_cache import RowCache
from licensing.storage.state_cache import StateCache
from licensing.storage.tables import Tables
from tests.factories import Clock, new_license_id, new_session_id, start, terms
from tests.register_rows import look
from tests.stores import Counted


@pytest.fixture
def clock() -> Clock:
    return Clock()


class Process:
    """A process of the service, whose calls are counted, and which does one thing at a time."""

    def __init__(self, tables: Tables, clock: Clock, license_id: str) -> None:
        self.store = Counted(tables)
        self.clock = clock
        self.license_id = license_id
        self.ledger = Ledger(Register(self.store), clock)

    async def start(self, session_id: str, user: str = "u", **changes: object) -> Granted | Full:
        """Start a session under terms that have some changes."""
        answer = await self.ledger.submit(self.license_id, start(session_id, terms(**changes), user))
        assert isinstance(answer.outcome, Granted | Full)
        return answer.outcome

    async def heartbeat(self, session_id: str) -> bool:
        """A session is heard of."""
        now = self.clock()
        return await self.ledger.heartbeat(self.license_id, Heartbeat(session_id, now, now + timedelta(seconds=900)))

    async def end(self, session_id: str) -> bool:
        """End a session; whether it was active."""
        answer = await self.ledger.submit(self.license_id, End(session_id))
        assert isinstance(answer.outcome, Ended)
        return answer.outcome.now

    def calls(self) -> list[str]:
        """The calls since the last time, without names."""
        calls = [call.partition(":")[0] for call in self.store.calls]
        self.store.calls.clear()
        return calls


@pytest.fixture
def processes(tables: Tables, clock: Clock) -> tuple[Process, Process]:
    license_id = new_license_id()
    return Process(tables, clock, license_id), Process(tables, clock, license_id)


Processes = tuple[Process, Process]


@pytest.mark.parametrize("sharing", Sharing)
async def test_an_end_reads_nothing_where_its_process_wrote_the_rows(processes: Processes, sharing: Sharing) -> None:
    one, _ = processes
    first, second = new_session_id(), new_session_id()
    for session_id in (first, second):
        await one.start(session_id, sharing=sharing)
        one.clock.forward(300)
        assert await one.heartbeat(session_id)
    # Whoever shares a seat that others hold reads the seat's row once: nobody assumes that it is there.
    one.calls()
    assert await one.end(first)
    assert await one.end(second)
    assert one.calls() == ["commit register"] * 2


async def test_an_end_reads_one_row_where_another_process_was_heard_of_last(
    processes: Processes, tables: Tables
) -> None:
    one, other = processes
    session_id = new_session_id()
    await one.start(session_id)
    one.clock.forward(300)
    assert await other.heartbeat(session_id)
    one.calls()
    assert await one.end(session_id)
    assert one.calls() == ["commit register", "get active", "commit register"], "one retry"
    seen = await look(tables, one.license_id)
    seen.check()
    assert seen.ended[session_id]["heartbeat_at"] == one.clock()


async def test_a_process_that_never_saw_the_session_reads_one_row(processes: Processes) -> None:
    one, other = processes
    session_id = new_session_id()
    await one.start(session_id)
    assert await other.heartbeat(session_id)
    other.calls()
    assert await other.end(session_id)
    assert other.calls() == ["get active", "get license", "commit register"]


async def test_a_row_that_was_read_stays_good_when_another_process_wins(
    processes: Processes, tables: Tables, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = processes
    session_id = new_session_id()
    await one.start(session_id)
    commit = other.store.commit
    lost: list[object] = []

    async def overtaken(*transaction: Any) -> list[str]:
        if not lost:
            lost.append(await one.start(new_session_id()))
        return await commit(*transaction)

    monkeypatch.setattr(other.store, "commit", overtaken)
    assert await other.end(session_id)
    assert other.calls() == ["get active", "get license", "commit register", "get license", "commit register"]
    # For a second, rows are read before the state, which grows old meanwhile.
    await one.start(session_id := new_session_id())
    other.calls()
    assert await other.end(session_id)
    assert other.calls() == ["get active", "get license", "commit register"]
    (await look(tables, one.license_id)).check()


async def test_processes_that_compete_for_a_license_wait_for_each_other(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = processes
    waits: list[str] = []

    async def wait() -> None:
        waits.append("waited")

    monkeypatch.setattr(writer, "yield_to_others", wait)
    for process in (one, other):
        await process.start(new_session_id())
    assert not waits, "nobody has lost yet"
    await one.start(new_session_id())
    assert not waits, "it loses now"
    await one.start(new_session_id())
    assert len(waits) == 1
    monkeypatch.setattr(state_cache, "CONTENDED_SECONDS", 0)
    await one.start(new_session_id())
    assert len(waits) == 1


async def test_a_heartbeat_on_a_stale_row_is_tried_once_more_and_never_again(processes: Processes) -> None:
    one, other = processes
    session_id = new_session_id()
    await one.start(session_id)
    assert await other.heartbeat(session_id)
    one.calls()
    assert await one.heartbeat(session_id)
    assert one.calls() == ["commit register", "commit register"]
    assert await other.heartbeat(session_id)
    assert await one.heartbeat(session_id)
    assert one.calls() == ["commit register"]


async def test_a_store_that_names_no_row_costs_a_retry_and_not_more(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = processes
    session_id = new_session_id()
    await one.start(session_id)
    assert await other.heartbeat(session_id)
    commit = one.store.commit

    async def nameless(*transaction: Any) -> list[str]:
        try:
            return await commit(*transaction)
        except ConflictError as conflict:
            raise ConflictError(conflict.mismatch, None) from None

    monkeypatch.setattr(one.store, "commit", nameless)
    one.calls()
    assert await one.end(session_id)
    assert one.calls() == ["commit register", "get license", "get active", "commit register"]


async def test_heartbeats_one_by_one_do_not_take_a_stale_row_for_a_session_that_is_gone(processes: Processes) -> None:
    one, other = processes
    stale = new_session_id()
    await one.start(stale)
    assert await other.heartbeat(stale)
    gone = [one.heartbeat(new_session_id()) for _ in range(GONE_BEFORE_SINGLY + 1)]
    assert await asyncio.gather(*gone, one.heartbeat(stale)) == [False] * (GONE_BEFORE_SINGLY + 1) + [True]


async def test_who_lapses_is_not_cached_under_terms_that_were_replaced_meanwhile(
    processes: Processes, clock: Clock
) -> None:
    one, _ = processes
    await one.start(new_session_id())
    cache = StateCache(one.ledger._register, one.license_id)
    await cache.read()
    lapsing = Lapsing(clock(), {})
    cache.store_lapsing(lapsing, terms(serial=2, lease_seconds=30))
    assert cache.facts().lapsing is None
    cache.store_lapsing(lapsing, terms())
    assert cache.facts().lapsing is lapsing


async def test_a_heartbeat_of_a_cached_session_that_was_ended_elsewhere_hears_of_it(processes: Processes) -> None:
    one, other = processes
    session_id = new_session_id()
    await one.start(session_id)
    assert await other.end(session_id)
    assert not await one.heartbeat(session_id)
    assert not await one.end(session_id)


async def test_a_session_that_began_anew_elsewhere_ends_as_what_it_is(processes: Processes, tables: Tables) -> None:
    """With a memory of the first use, the end would free another seat than the one that is held."""
    one, other = processes
    session_id = new_session_id()
    await one.start(session_id)
    assert await other.end(session_id)
    one.clock.forward(10)
    await other.start(session_id, serial=2, sharing=Sharing.USER)
    await other.start(new_session_id(), serial=2, sharing=Sharing.USER)
    assert await one.heartbeat(session_id)
    assert await one.end(session_id)
    count = await verify(Register(tables), one.license_id)
    assert count is not None
    assert (count.flaws, count.sessions, count.holders) == ((), 1, 1), "the other program of that user still runs"


async def test_a_start_is_never_answered_by_a_cached_row(processes: Processes, tables: Tables) -> None:
    """The repeat of a start writes nothing, so that no commit would tell that the session has ended."""
    one, other = processes
    session_id = new_session_id()
    await one.start(session_id, seats=1)
    assert await other.end(session_id)
    await other.start(new_session_id(), "bob", seats=1)
    assert isinstance(await one.start(session_id, seats=1), Full)
    (await look(tables, one.license_id)).check()


async def test_the_retries_of_a_wait_that_this_process_has_seen_read_nothing_of_it(processes: Processes) -> None:
    one, other = processes
    await one.start(new_session_id(), seats=1)
    waiting = new_session_id()
    assert isinstance(await one.start(waiting, seats=1), Full)
    one.calls()
    assert isinstance(await one.start(waiting, seats=1), Full)
    assert one.calls() == ["get license", "get active", "commit register"]
    one.clock.forward(86_400)  # the row of another day
    assert isinstance(await other.start(new_session_id(), seats=1), Granted), "the first one has lapsed"
    assert isinstance(await one.start(waiting, seats=1), Full)


def test_the_cache_keeps_so_many_rows_and_those_that_were_written_last(clock: Clock) -> None:
    cache, now = RowCache(limit=2), clock()
    session = Session("s1", now, now, now, "u", "h", "i", "p1", "u")
    cache.store("acme", [start_change(session), seat_change("u", SeatChange(None, 1))], ["1", "2"])
    assert cache.session("acme", "s1") is not None
    assert cache.session("other", "s1") is None
    cache.store("acme", [start_change(session)], ["3"])
    cache.store("acme", [denial_change("s2", now, again=False)], ["4"])
    assert cache.seat("acme", "u") is None, "it was written before the others"
    row = cache.session("acme", "s1")
    assert row is not None
    assert row.etag == "3"
    assert cache.denied_on("acme", "s2") == now.date()
    cache.store("acme", [rows.heartbeat_change(Heartbeat("s1", now, now))], ["5"])
    assert cache.session("acme", "s1") is None, "what the row says now is not known"


def test_the_cache_forgets_rows_that_were_not_written_for_a_time(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, now, elapsed = RowCache(seconds=60), clock(), 0.0
    monkeypatch.setattr(time, "monotonic", lambda: elapsed)
    session = Session("s1", now, now, now, "u", "h", "i", "p1", "u")
    cache.store("acme", [start_change(session)], ["1"])
    elapsed = 50.0
    cache.store("acme", [seat_change("u", SeatChange(None, 1))], ["2"])
    elapsed = 61.0
    cache.store("acme", [], [])
    assert cache.session("acme", "s1") is None
    assert cache.seat("acme", "u") is not None
