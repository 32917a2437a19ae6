"""A day in short: programs start, run and end on many licenses, ten heartbeats to a session, over HTTP."""

import asyncio
import random
import statistics
import time
from typing import Any

from benchmarks.common import Bench, Line, cpu_seconds
from benchmarks.programs import fill, many_connections
from tests import support
from tests.stories.service import end, heartbeat, serving, start

HEARTBEATS = 10
AT_ONCE = 8
"""Programs that call at the same time: few, so that what is timed is the service and not the queue before it."""


async def run(bench: Bench) -> list[Line]:
    """One quiet session first, whose calls are counted; then the day."""
    licenses, sessions = bench.choose(200, 40), bench.choose(600, 100)
    files = [support.issue(bench.home, seats=10) for _ in range(licenses)]
    quiet, calls, busy, middle, slow = [], [], [], [], []
    async with bench.tables() as tables, many_connections() as http:
        counted = bench.calls(tables)
        with serving(bench.home, bench.storage, log=bench.folder / "day.log") as served:

            async def session(file: str, times: list[float]) -> None:
                async def timed(call: Any) -> Any:
                    began = time.perf_counter()
                    answer = await call
                    times.append(time.perf_counter() - began)
                    return answer

                status, reply = await timed(start(http, served.url, support.start(file)))
                if status == 409:
                    return
                for _ in range(HEARTBEATS):
                    status, reply = await timed(heartbeat(http, served.url, reply))
                if status != 200 or await timed(end(http, served.url, reply)) != 204:
                    raise RuntimeError("a session did not run as it should")

            for _ in range(bench.choose(3, 2)):
                alone = support.issue(bench.home, seats=5)
                await fill(bench, tables, alone, 1)
                mark = await counted.mark()
                await session(alone, [])
                quiet.append(float(len(await counted.since(mark))))

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
    what = f"{sessions} sessions on {licenses} licenses"
    return [
        Line(
            "start, ten heartbeats, end on a quiet license that this process has not seen: storage calls",
            "",
            quiet,
            (),
            14,
        ),
        Line(f"{what}: storage calls per session of twelve requests", "", calls),
        Line(f"{what}: half of all requests are answered within", "ms", middle),
        Line(f"{what}: 99 of 100 requests are answered within", "ms", slow),
        Line(f"{what}: requests per second of the service's processor time", "", busy),
    ]
