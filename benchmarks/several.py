"""Several processes on one license: starts, heartbeats, all kinds of calls together, ends.

    python -m benchmarks.several STORAGE LICENSE_ID

is one process that works past HTTP, by a ledger of its own. It reads lines `KIND COUNT AT_ONCE` and answers each with
JSON: the wait of each call in seconds, and how many errors there were. So each process has the same share of the calls,
and a session is ended where it started. Over HTTP, a call goes to whichever process has its connection.

One process has as many calls in flight as several have together. Errors are answers that the store cannot be used now;
such a call is made again, and its wait goes on. Given are the worst wait and the errors of all rounds. Two cores
are shared by the processes, by Azurite, which is one more, and over HTTP by the one that makes the calls.
"""

import asyncio
import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import Any, Protocol, TypeVar

from benchmarks.common import Bench, Line, Worker, processes_of
from benchmarks.programs import LONG, RETRY_SECONDS, Load, Programs, calling, fill, load
from licensing.errors import UnavailableError
from licensing.rules.requests import End, Ended, Granted
from licensing.services.service import utc_now
from licensing.storage.ledger import Heartbeat, Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests import factories

PROCESSES = (1, 2, 4)
OVER_HTTP = (1, 4)
HTTP = "over HTTP"
IN_USE = 1000
"""Sessions that run besides."""
SEATS = 100_000
AT_ONCE = 100
RATES = {"starts": 0.9, "heartbeats": None, "mixed": 0.9, "ends": 1.0}
"""The kinds of calls in their order, and the least rate of several processes over HTTP, as a part of what one has.

Past HTTP there is none: one process then has hardly any work but the transactions, which come one after the other."""
MOST_SECONDS = 150
"""After so long, no further round begins."""
LEASE = timedelta(days=1)

LONGEST_WAIT = 1
"""Seconds."""
WAIT_OF_ENDS = 300
"""The milliseconds within which 99 of 100 ends are answered, in each round."""

Answer = TypeVar("Answer")


async def run(bench: Bench) -> list[Line]:
    """Past HTTP, then over HTTP."""
    async with AsyncExitStack() as cleanup:
        ledgers = {count: await Ledgers.start(bench, cleanup, count) for count in PROCESSES}
        lines = await compare("past HTTP", ledgers, bench.choose(1000, 100), bench.choose(5, 1))
    async with AsyncExitStack() as cleanup:
        services = {count: await Service.start(bench, cleanup, count) for count in OVER_HTTP}
        return lines + await compare(HTTP, services, bench.choose(2000, 200), bench.choose(10, 1))


class Processes(Protocol):
    """Processes that serve one license."""

    async def measure(self, kind: str, count: int) -> tuple[Load, int]:
        """Make so many calls of a kind; what they took, and how many errors there were."""


async def compare(where: str, crews: Mapping[int, Processes], count: int, rounds: int) -> list[Line]:
    """Each kind by one process and by several, in turn: so many rounds, or fewer if they take too long."""
    loads: dict[tuple[str, int], list[Load]] = defaultdict(list)
    errors: dict[tuple[str, int], int] = defaultdict(int)
    for kind in RATES:  # for warming up
        for crew in crews.values():
            await crew.measure(kind, AT_ONCE)
    began, made = time.perf_counter(), 0
    while made < rounds and time.perf_counter() - began < MOST_SECONDS:
        made += 1
        for kind in RATES:
            for processes, crew in crews.items():
                done, failed = await crew.measure(kind, count)
                loads[kind, processes].append(done)
                errors[kind, processes] += failed

    def lines(kind: str, processes: int) -> list[Line]:
        what = f"{kind} {where}, {AT_ONCE} in flight, {processes_of(processes)}"
        least = RATES[kind] if where == HTTP else None
        rates, naive = ([each.rate for each in loads[kind, number]] for number in (processes, 1))
        slow = max(each.within(99) for each in loads[kind, processes])
        longest = max(max(each.waits) for each in loads[kind, processes])
        within = f"99 of 100 are answered within, in the worst of {made} rounds"
        slowest = Line(f"{what}: {within}", "ms", [slow], (), WAIT_OF_ENDS)
        return [
            Line(f"{what} (naive column: 1 process)", "/s", rates, naive, least, at_least=True),
            *([slowest] if kind == "ends" else []),
            Line(f"{what}: longest wait", "s", [longest], (), LONGEST_WAIT),
            Line(f"{what}: errors", "", [errors[kind, processes]], (), 0),
        ]

    return [line for kind in RATES for processes in crews if processes > 1 for line in lines(kind, processes)]


async def in_use(bench: Bench) -> tuple[str, str]:
    """A license on which sessions run: its file and its id."""
    file = factories.issue(bench.home, seats=SEATS, **LONG)
    async with bench.tables() as tables:
        return file, (await fill(bench, tables, file, IN_USE))[0].license


class Calls:
    """Calls of each kind, made by a way to start a session, one to send its heartbeat, and one to end it."""

    def __init__(
        self,
        start: Callable[[], Awaitable[Any]],
        heartbeat: Callable[[Any], Awaitable[object]],
        end: Callable[[Any], Awaitable[object]],
    ) -> None:
        self._start = start
        self._heartbeat = heartbeat
        self._end = end
        self._running: list[Any] = []

    def of(self, kind: str, count: int) -> list[Callable[[], Awaitable[object]]]:
        """So many calls of a kind; of mixed ones, a quarter starts, a quarter ends. Ends are those of all sessions."""
        match kind:
            case "starts":
                return [self._started] * count
            case "heartbeats":
                return [partial(self._heartbeat, session) for session in self._running[:count]]
            case "mixed":
                quarter = count // 4
                heartbeats = [partial(self._heartbeat, session) for session in self._running[quarter : 3 * quarter]]
                mixed: list[Callable[[], Awaitable[object]]] = [self._started] * quarter
                mixed += [*heartbeats, *self._ended(quarter)]
                return random.sample(mixed, len(mixed))
            case _:
                return [*self._ended(len(self._running))]

    async def _started(self) -> None:
        self._running.append(await self._start())

    def _ended(self, count: int) -> list[Callable[[], Awaitable[object]]]:
        ending, self._running = self._running[:count], self._running[count:]
        return [partial(self._end, session) for session in ending]


class Service:
    """Processes over HTTP."""

    def __init__(self, programs: Programs, file: str) -> None:
        self._programs = programs
        self._calls = Calls(lambda: programs.start(factories.start_body(file)), programs.heartbeat, programs.end)

    @classmethod
    async def start(cls, bench: Bench, cleanup: AsyncExitStack, processes: int) -> "Service":
        """Start so many processes, on a license of their own."""
        file, _ = await in_use(bench)
        return cls(await cleanup.enter_async_context(calling(bench, processes)), file)

    async def measure(self, kind: str, count: int) -> tuple[Load, int]:
        """As `Processes` has it."""
        cost = await self._programs.cost(self._calls.of(kind, count), AT_ONCE)
        return cost.load, cost.unavailable


class Ledgers:
    """Processes past HTTP."""

    def __init__(self, workers: list[Worker]) -> None:
        self._workers = workers

    @classmethod
    async def start(cls, bench: Bench, cleanup: AsyncExitStack, processes: int) -> "Ledgers":
        """Start so many processes, on a license of their own."""
        _, license_id = await in_use(bench)
        workers = [await Worker.start("benchmarks.several", bench.storage, license_id) for _ in range(processes)]
        for worker in workers:
            cleanup.push_async_callback(worker.close)
        return cls(workers)

    async def measure(self, kind: str, count: int) -> tuple[Load, int]:
        """As `Processes` has it."""
        question = f"{kind} {count // len(self._workers)} {AT_ONCE // len(self._workers)}"
        began = time.perf_counter()
        answers = await asyncio.gather(*(worker.ask(question) for worker in self._workers))
        seconds = time.perf_counter() - began
        waits, errors = zip(*map(json.loads, answers), strict=True)
        return Load([wait for some in waits for wait in some], seconds), sum(errors)


class Process:
    """What one of them does."""

    def __init__(self, ledger: Ledger, license_id: str) -> None:
        self._ledger = ledger
        self._license_id = license_id
        self._terms = factories.terms(seats=SEATS)
        self.errors = 0

    async def start(self) -> str:
        """Start a session; its id."""
        start = factories.start(factories.new_session_id(), self._terms)
        answer = await self._answered(lambda: self._ledger.submit(self._license_id, start))
        assert isinstance(answer.outcome, Granted)
        return start.session_id

    async def heartbeat(self, session_id: str) -> None:
        """Note that a session runs."""
        now = utc_now()
        heartbeat = Heartbeat(session_id, now, now + LEASE)
        assert await self._answered(lambda: self._ledger.heartbeat(self._license_id, heartbeat))

    async def end(self, session_id: str) -> None:
        """End a session."""
        answer = await self._answered(lambda: self._ledger.submit(self._license_id, End(session_id)))
        assert isinstance(answer.outcome, Ended)

    async def _answered(self, call: Callable[[], Awaitable[Answer]]) -> Answer:
        while True:
            try:
                return await call()
            except UnavailableError:
                self.errors += 1
                await asyncio.sleep(random.uniform(0, RETRY_SECONDS))


async def main(storage: str, license_id: str) -> None:
    """Answer questions until there are no more."""
    tables = Tables.from_connection_string(storage)
    process = Process(Ledger(Register(tables), utc_now), license_id)
    calls = Calls(process.start, process.heartbeat, process.end)
    await tables.ping()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while question := await asyncio.to_thread(sys.stdin.readline):
        kind, count, at_once = question.split()
        process.errors = 0
        done = await load(calls.of(kind, int(count)), int(at_once))
        sys.stdout.write(f"{json.dumps([[round(wait, 5) for wait in done.waits], process.errors])}\n")
        sys.stdout.flush()
    await tables.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
