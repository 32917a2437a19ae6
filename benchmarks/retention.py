"""Retention of many ended sessions on one license, against bare full delete batches of the same SDK.

The naive way knows all keys beforehand and reads nothing; retention has to find them. Both keep as many transactions
in flight, and each runs in a process of its own, whose peak of memory is measured: retention's must not grow with the
rows. The sessions are older than a year and have been counted by earlier nights.
"""

import asyncio
import resource
import sys
import time
from datetime import timedelta

from azure.data.tables.aio import TableServiceClient

from benchmarks import past
from benchmarks.common import Bench, Line, Worker, await_go
from licensing.rules.retention import year_before
from licensing.rules.seats import Head
from licensing.services.retain import retain
from licensing.services.service import utc_now
from licensing.storage import rows
from licensing.storage.bulk import PARALLEL
from licensing.storage.ledger import Ledger
from licensing.storage.tables import TRANSACTION_ROWS, Tables, put
from tests.storage.desk import new_license, terms

QUICK_ROWS = 20_000
FEW_ROWS = (10_000, 2_000)
"""In a full run and in a quick one."""
ROUNDS = 3
WAYS = ("retain", "naive")
LEAST_RATE = 0.8
"""Of the naive way's."""


async def run(bench: Bench) -> list[Line]:
    """Measure at a small size, then at the full one; the naive way and retention in turn."""
    size = bench.ended(QUICK_ROWS)
    lines = []
    for count, rounds in ((bench.choose(*FEW_ROWS), bench.choose(ROUNDS, 1)), (size, 1)):
        seconds: dict[str, list[float]] = {way: [] for way in WAYS}
        peaks: dict[str, list[float]] = {way: [] for way in WAYS}
        for _ in range(rounds):
            for way in WAYS:
                async with bench.tables() as tables:
                    license = await age(tables, count)
                worker = await Worker.start("benchmarks.retention", bench.storage, license, way)
                took, mebibytes = map(float, (await worker.go()).split())
                seconds[way].append(took)
                peaks[way].append(mebibytes)
        rates = {way: [count / took for took in seconds[way]] for way in WAYS}
        lines += [
            Line(
                f"deleting {count:,} ended sessions (naive: bare full delete batches of known keys)",
                "rows/s",
                rates["retain"],
                rates["naive"],
                LEAST_RATE,
                at_least=True,
            ),
            Line(f"peak memory of the process, {count:,} sessions", "MiB", peaks["retain"], peaks["naive"]),
        ]
    return lines


async def age(tables: Tables, count: int) -> str:
    """A license with so many sessions that are past their year, as earlier nights would have left it; its id."""
    license, bought, now = new_license(), terms(), utc_now()
    yesterday = (now - timedelta(days=1)).date()
    head = put(rows.HEAD, {**rows.head_columns(Head(bought)), rows.FIGURED_TO: str(yesterday), "commit": "made"})
    await tables.commit("directory", bought.organization, rows.directory_entries(license, bought))
    await tables.commit("register", license, [head])
    await past.fill(tables, license, count, year_before(now))
    return license


async def bare(storage: str, license: str) -> float:
    """The naive way: delete batches on known keys; its seconds."""
    async with TableServiceClient.from_connection_string(storage) as service:
        table = service.get_table_client("register")
        span = f"PartitionKey eq '{license}' and RowKey ge '{rows.ENDED}' and RowKey lt '{rows.beyond(rows.ENDED)}'"
        keys = [entity["RowKey"] async for entity in table.query_entities(span, select=["RowKey"])]

        places = asyncio.Semaphore(PARALLEL)

        async def delete(some: list[str]) -> None:
            await table.submit_transaction([("delete", {"PartitionKey": license, "RowKey": key}) for key in some])
            places.release()

        await_go()
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for first in range(0, len(keys), TRANSACTION_ROWS):
                await places.acquire()
                tasks.create_task(delete(keys[first : first + TRANSACTION_ROWS]))
        return time.perf_counter() - began


async def retention(storage: str) -> float:
    """The night's run; its seconds."""
    tables = Tables.from_connection_string(storage)
    await tables.ping()
    await_go()
    began = time.perf_counter()
    retained = await retain(tables, Ledger(tables, utc_now), utc_now(), 3)
    seconds = time.perf_counter() - began
    await tables.close()
    if retained.failed or retained.overdue or retained.oldest:
        raise RuntimeError(f"not done: {retained}")
    return seconds


async def main() -> None:
    """Delete in this process; prints the seconds, and the peak of its memory in MiB (Linux)."""
    storage, license, way = sys.argv[1:]
    seconds = await (retention(storage) if way == "retain" else bare(storage, license))
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    asyncio.run(main())
