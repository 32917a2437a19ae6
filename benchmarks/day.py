"""A day in short: programs start, run and end on many licenses, ten heartbeats to a session, over HTTP.

Those heartbeats come back to back, when the license state has just been read. In a real day they come further
apart than a state is cached, which costs calls of its own: these are counted on sessions at a real day's pace, with
all times a sixtieth of the defaults (300 s between heartbeats, a state cached for 60 s).
"""

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable
from typing import Any, TypeVar

import aiohttp

from benchmarks.common import Bench, Line, cpu_seconds
from benchmarks.programs import fill, many_connections
from licensing.storage.tables import Tables
from tests import factories
from tests.processes import end, heartbeat, serving, start

HEARTBEATS = 10
AT_ONCE = 8
"""Programs that call at the same time: few, so that what is timed is the service and not the queue before it."""

PACE, CACHED = 5, 1
"""Seconds between the heartbeats of a session at a real day's pace, and how long a state is then cached."""
SHARED = 50
"""Sessions of the license that many use."""

Answer = TypeVar("Answer")


async def run(bench: Bench) -> list[Line]:
    """One quiet session first, whose calls are counted; then the day; then sessions at a real day's pace."""
    licenses, sessions = bench.choose(200, 40), bench.choose(600, 100)
    files = [factories.issue(bench.home, seats=10) for _ in range(licenses)]
    alone: list[list[float]] = []
    calls, busy, middle, slow = [], [], [], []
    async with bench.tables() as tables, many_connections() as http:
        counted = bench.calls(tables)
        with serving(bench.home, bench.storage, log=bench.folder / "day.log") as served:

            async def session(file: str, times: list[float]) -> None:
                async def timed(call: Any) -> Any:
                    began = time.perf_counter()
                    answer = await call
                    times.append(time.perf_counter() - began)
                    return answer

                status, reply = await timed(start(http, served.url, factories.start_body(file)))
                if status == 409:
                    return
                for _ in range(HEARTBEATS):
                    status, reply = await timed(heartbeat(http, served.url, reply))
                if status != 200 or await timed(end(http, served.url, reply)) != 204:
                    raise RuntimeError("a session did not run as it should")

            async def counting(call: Awaitable[Answer]) -> Answer:
                mark = await counted.mark()
                answer = await call
                alone[-1].append(float(len(await counted.since(mark))))
                return answer

            for _ in range(bench.choose(3, 2)):
                file = factories.issue(bench.home, seats=5)
                await fill(bench, tables, file, 1)
                alone.append([])
                status, reply = await counting(start(http, served.url, factories.start_body(file)))
                for _ in range(HEARTBEATS):
                    status, reply = await counting(heartbeat(http, served.url, reply))
                if status != 200 or await counting(end(http, served.url, reply)) != 204:
                    raise RuntimeError("a session did not run as it should")

            for _ in range(bench.choose(3, 1)):
                times: list[float] = []
                waiting = iter(random.choices(files, k=sessions))

                async def programs(waiting: Any = waiting, times: list[float] = times) -> None:
                    for file in waiting:
                        await session(file, times)

                mark, cpu = await counted.mark(), cpu_seconds(served.process.pid)
                await asyncio.gather(*(programs() for _ in range(AT_ONCE)))
                cpu = cpu_seconds(served.process.pid) - cpu
                calls.append(len(await counted.since(mark)) / sessions)
                busy.append(len(times) / cpu)
                cuts = statistics.quantiles(times, n=100)
                middle.append(cuts[49] * 1000)
                slow.append(cuts[98] * 1000)
        lone, shared = [await paced(bench, tables, http, running) for running in (1, SHARED)]
    what = f"{sessions} sessions on {licenses} licenses"
    quiet = "on a quiet license that this process has not seen"
    pace = f"at a real day's pace ({PACE * 60} s apart, a state cached for {CACHED * 60} s)"
    return [
        Line(f"start, ten heartbeats, end {quiet}: storage calls", "", [sum(counts) for counts in alone], (), 13),
        Line("of these, the start", "", [counts[0] for counts in alone]),
        Line("of these, a heartbeat", "", [count for counts in alone for count in counts[1:-1]]),
        Line("of these, the end", "", [counts[-1] for counts in alone]),
        Line(f"heartbeat {pace}, one session on the license: storage calls", "", [lone], (), 2),
        Line(f"heartbeat {pace}, {SHARED} sessions on the license: storage calls", "", [shared], (), 1.15),
        Line(f"{what}: storage calls per session of twelve requests", "", calls),
        Line(f"{what}: half of all requests are answered within", "ms", middle),
        Line(f"{what}: 99 of 100 requests are answered within", "ms", slow),
        Line(f"{what}: requests per second of the service's processor time", "", busy),
    ]


async def paced(bench: Bench, tables: Tables, http: aiohttp.ClientSession, sessions: int) -> float:
    """Storage calls per heartbeat on a license with so many sessions, whose heartbeats are spread evenly."""
    counted, heartbeats = bench.calls(tables), bench.choose(HEARTBEATS, 3)
    running = await fill(bench, tables, factories.issue(bench.home, seats=sessions), sessions)
    log, cached = bench.folder / "paced.log", str(CACHED)
    with serving(bench.home, bench.storage, log=log, LICENSING_STATUS_CACHE_SECONDS=cached) as served:

        async def program(place: int, reply: dict[str, Any]) -> None:
            await asyncio.sleep(PACE * place / sessions)
            for _ in range(heartbeats):
                status, _ = await heartbeat(http, served.url, reply)
                if status != 200:
                    raise RuntimeError(f"a heartbeat was answered with {status}")
                await asyncio.sleep(PACE)

        mark = await counted.mark()
        await asyncio.gather(*(program(place, one.reply()) for place, one in enumerate(running)))
        return len(await counted.since(mark)) / (sessions * heartbeats)
