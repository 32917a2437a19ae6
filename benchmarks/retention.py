"""Retention of many ended sessions on one license, against bare full delete batches of the same SDK.

The naive way knows all keys beforehand and reads nothing; retention has to find them. Both keep as many transactions
in flight, and run at the same time, each in a process of its own on an Azurite of its own, so that both have the same
of the machine. The peak of memory of each process is measured: retention's must not grow with the rows. The sessions
that go are older than a year, those that stay younger, and all have been counted by earlier nights.

Azurite takes the longer for a row that it deletes the more there are: 7 ms where there are a million, so that a
transaction among others may take longer than a call to Azure is given. Here, calls are given a minute.
"""

import asyncio
import resource
import sys
import time
from datetime import datetime, timedelta
from unittest.mock import patch

from azure.data.tables.aio import TableServiceClient

from benchmarks import past
from benchmarks.common import Bench, Line, Worker, await_go, azurite
from licensing.rules.model import LicenseState
from licensing.rules.retention import year_before
from licensing.services.retention import run_retention
from licensing.services.service import utc_now
from licensing.storage import register as rows
from licensing.storage import tables as store
from licensing.storage.bulk import PARALLEL
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import TRANSACTION_ROWS, Tables, put
from tests.factories import new_license_id, terms

QUICK_ROWS = 20_000
FEW_ROWS = (10_000, 2_000)
"""In a full run and in a quick one."""
MOST_OVERDUE = 50_000
ROUNDS = 3
WAYS = ("retention", "naive")
CALL_SECONDS = 60
LEAST_RATE = 0.8
"""Of the naive way's."""


async def run(bench: Bench) -> list[Line]:
    """Measure where all of a few sessions go, then where some of many do; the naive way beside retention."""
    size = bench.ended(QUICK_ROWS)
    lines = []
    with azurite(bench.folder / "retention.log") as one, azurite(bench.folder / "naive.log") as other:
        stores = dict(zip(WAYS, (one.storage, other.storage), strict=True))
        few = bench.choose(*FEW_ROWS)
        for count, overdue, rounds in ((few, few, bench.choose(ROUNDS, 1)), (size, min(size // 2, MOST_OVERDUE), 1)):
            measured = [await side_by_side(stores, count, overdue) for _ in range(rounds)]
            rates, peaks = ({way: [each[way][what] for each in measured] for way in WAYS} for what in (0, 1))
            lines += [
                Line(
                    f"deleting {overdue:,} of {count:,} ended sessions (naive: bare full delete batches of known keys)",
                    "rows/s",
                    rates["retention"],
                    rates["naive"],
                    LEAST_RATE,
                    at_least=True,
                ),
                Line(
                    f"peak memory of the process, {overdue:,} of {count:,}", "MiB", peaks["retention"], peaks["naive"]
                ),
            ]
    return lines


async def side_by_side(stores: dict[str, str], count: int, overdue: int) -> dict[str, tuple[float, float]]:
    """Delete what is overdue of so many sessions, each way at the same time; how many a second, and peaks in MiB."""
    now = utc_now()
    licenses = await asyncio.gather(*(age(storage, count, overdue, now) for storage in stores.values()))
    workers = [
        await Worker.start("benchmarks.retention", way, storage, license, overdue, now.isoformat())
        for (way, storage), license in zip(stores.items(), licenses, strict=True)
    ]
    answers = await asyncio.gather(*(worker.go() for worker in workers))
    parsed = [tuple(map(float, answer.split())) for answer in answers]
    return {way: (overdue / seconds, mebibytes) for way, (seconds, mebibytes) in zip(stores, parsed, strict=True)}


async def age(storage: str, count: int, overdue: int, now: datetime) -> str:
    """A license with so many sessions, of which some are past their year, as earlier nights would have left it."""
    license_id, bought = new_license_id(), terms()
    yesterday = (now - timedelta(days=1)).date()
    state = put(
        rows.STATE, {**rows.STATES.encode(LicenseState(bought)), rows.FINAL_DAY: str(yesterday), "commit": "made"}
    )
    tables = Tables.from_connection_string(storage)
    await Register(tables).add_to_directory(license_id, bought)
    await tables.commit("register", license_id, [state])
    await past.fill(tables, license_id, overdue, year_before(now))
    await past.fill(tables, license_id, count - overdue, now)
    await tables.close()
    return license_id


async def bare(storage: str, license_id: str, overdue: int, now: datetime) -> float:
    """The naive way: delete batches on known keys; its seconds."""
    async with TableServiceClient.from_connection_string(storage) as service:
        table = service.get_table_client("register")
        keys = [write.key for batch in past.batches(overdue, year_before(now)) for write in batch]
        places = asyncio.Semaphore(PARALLEL)

        async def delete(some: list[str]) -> None:
            await table.submit_transaction([("delete", {"PartitionKey": license_id, "RowKey": key}) for key in some])
            places.release()

        await_go()
        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for first in range(0, len(keys), TRANSACTION_ROWS):
                await places.acquire()
                tasks.create_task(delete(keys[first : first + TRANSACTION_ROWS]))
        return time.perf_counter() - began


async def retention(storage: str, overdue: int, now: datetime) -> float:
    """The night's run; its seconds."""
    with patch.multiple(store, READ_SECONDS=CALL_SECONDS, CALL_SECONDS=CALL_SECONDS):
        tables = Tables.from_connection_string(storage)
        await tables.ping()
        await_go()
        began = time.perf_counter()
        result = await run_retention(Register(tables), Ledger(Register(tables), utc_now), now, 3)
        seconds = time.perf_counter() - began
        await tables.close()
    if result.failed or result.overdue or result.deleted != overdue:
        raise RuntimeError(f"not done: {result}")
    return seconds


async def main() -> None:
    """Delete in this process; prints the seconds, and the peak of its memory in MiB (Linux)."""
    way, storage, license, overdue, now = (*sys.argv[1:4], int(sys.argv[4]), datetime.fromisoformat(sys.argv[5]))
    seconds = await (retention(storage, overdue, now) if way == "retention" else bare(storage, license, overdue, now))
    print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    asyncio.run(main())
