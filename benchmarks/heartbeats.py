"""Heartbeats of 5,000 sessions on one license, and spread over 500, against bare SDK merges, one per request.

The service's processor time holds everything: HTTP, the signature check, the write, and a new signed lease. The naive
way's holds the SDK's merge of the same two columns and nothing else; each in a process of its own.
"""

import asyncio
import random
import sys
import time
from functools import partial

import aiohttp
from azure.core import MatchConditions
from azure.data.tables.aio import TableServiceClient

from benchmarks.common import Bench, Line, Worker, await_go, cpu_seconds
from benchmarks.programs import IN_FLIGHT, Program, all_at_once, fill, many_connections
from licensing.rules.requests import Heartbeat
from licensing.services.service import utc_now
from licensing.storage import register as rows
from tests import factories
from tests.processes import heartbeat, serving

SESSIONS = 5000
LICENSES = 500
TRIES = 3
"""On a busy machine Azurite may be silent for so long that a program is answered 503."""


async def run(bench: Bench) -> list[Line]:
    """Measure, in turn, so that a busy machine is unfair to all alike."""
    count = bench.choose(3000, 1000)
    measured: dict[str, list[tuple[float, float]]] = {"naive": [], "busy": [], "spread": []}
    async with bench.tables() as tables, many_connections() as http:
        file = factories.issue(bench.home, seats=SESSIONS)
        busy = await fill(bench, tables, file, SESSIONS)
        spread: list[Program] = []
        for _ in range(LICENSES):
            spread += await fill(bench, tables, factories.issue(bench.home, seats=10), SESSIONS // LICENSES)
        with serving(bench.home, bench.storage, log=bench.folder / "heartbeats.log") as served:
            await heartbeat_each(http, served.url, random.sample(spread, 500))  # so that connections and code are warm
            for _ in range(bench.choose(7, 3)):
                naive = await Worker.start("benchmarks.heartbeats", bench.storage, busy[0].license, count)
                cpu, wall = map(float, (await naive.go()).split())
                measured["naive"].append((cpu / count, wall / count))
                for name, programs in (("busy", busy), ("spread", spread)):
                    cpu, wall = cpu_seconds(served.process.pid), time.perf_counter()
                    await heartbeat_each(http, served.url, random.sample(programs, count))
                    cpu, wall = cpu_seconds(served.process.pid) - cpu, time.perf_counter() - wall
                    measured[name].append((cpu / count, wall / count))

    def line(what: str, name: str, column: int, goal: float | None = None) -> Line:
        values, naive = ([pair[column] * 1000 for pair in measured[key]] for key in (name, "naive"))
        return Line(what, "ms", values, naive, goal)

    one, many = f"one license of {SESSIONS:,} sessions", f"{SESSIONS:,} sessions on {LICENSES} licenses"
    return [
        line(f"processor time of a heartbeat, {one} (naive: bare SDK merge)", "busy", 0, 0.65),
        line(f"processor time of a heartbeat, {many} (naive: bare SDK merge)", "spread", 0, 1.25),
        line(f"wall time per heartbeat, {IN_FLIGHT} in flight, {one}", "busy", 1),
        line(f"wall time per heartbeat, {IN_FLIGHT} in flight, {many}", "spread", 1),
    ]


async def heartbeat_each(http: aiohttp.ClientSession, url: str, programs: list[Program]) -> None:
    """Each program sends one heartbeat."""

    async def one(program: Program) -> None:
        for _ in range(TRIES):
            status, _ = await heartbeat(http, url, program.reply())
            if status == 200:
                return
        raise RuntimeError(f"a heartbeat was answered with {status}")

    await all_at_once(partial(one, program) for program in programs)


async def merges(storage: str, license_id: str, count: int) -> tuple[float, float]:
    """The naive way: a merge for each heartbeat; processor and wall time in seconds."""
    service = TableServiceClient.from_connection_string(storage)
    table = service.get_table_client("register")
    found = table.query_entities(f"PartitionKey eq '{license_id}' and RowKey ge 'active:' and RowKey lt 'active;'")
    keys = [entity["RowKey"] async for entity in found]

    async def one(key: str) -> None:
        heartbeat = Heartbeat(key.removeprefix(rows.ACTIVE), utc_now(), utc_now())
        columns = rows.heartbeat_change(heartbeat).write.columns
        row = {"PartitionKey": license_id, "RowKey": key, **columns}
        await table.update_entity(row, match_condition=MatchConditions.Unconditionally)

    await all_at_once(partial(one, key) for key in random.sample(keys, IN_FLIGHT))
    await_go()
    cpu, wall = time.process_time(), time.perf_counter()
    await all_at_once(partial(one, key) for key in random.sample(keys, count))
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    await service.close()
    return cpu, wall


if __name__ == "__main__":
    print(*asyncio.run(merges(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
