"""A storm of starts, more than there are seats: the ledger against a read-modify-retry of each request on the same SDK.

The naive way is what one writes first: read the license's row, and if a seat is free, write the session and the raised
count in one transaction If-Match; a write that loses reads again, after a random backoff.

A storm whose programs wait in line is compared with a storm of another checkout, which BENCH_BASE names: a folder with
a `.venv` of its own. Both run in turn.
"""

import asyncio
import os
import random
import sys
import time
from contextlib import suppress
from pathlib import Path

from azure.core import MatchConditions
from azure.core.exceptions import ResourceExistsError
from azure.data.tables import TableTransactionError
from azure.data.tables.aio import TableClient, TableServiceClient

from benchmarks.common import ROOT, Bench, Line, Worker, await_go, processes_of
from licensing.rules.license import Billing, Kind, Sharing
from licensing.rules.model import Person, Terms
from licensing.rules.requests import Granted, Start
from licensing.services.service import utc_now
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests.factories import new_license_id, new_session_id


async def run(bench: Bench) -> list[Line]:
    """Once with one process and once with four, each as often as there are rounds."""
    starts, seats = bench.choose(300, 60), bench.choose(225, 45)
    lines = []
    goal = None if bench.quick else 0.01  # which is meant for the whole storm
    async with bench.tables() as tables:
        await tables.get("register", "nobody", "nothing")  # so that the table is there
        for processes in (1, 4):
            # The naive way once, since it takes its time; each round of the ledger is compared with that.
            naive, naive_calls = await storm(bench, tables, "naive", processes, starts, seats)
            rounds = [await storm(bench, tables, "ledger", processes, starts, seats) for _ in range(bench.choose(5, 3))]
            seconds, calls = zip(*rounds, strict=True)
            what = f"{starts} starts on {seats} seats, {processes_of(processes)}"
            lines += [
                Line(f"{what}: time (naive: read-modify-retry)", "s", seconds, [naive] * len(seconds), goal),
                Line(f"{what}: storage calls per start", "", calls, (), 0.1 if processes == 1 else 0.4),
                Line(f"{what}: storage calls per start, the naive way", "", [naive_calls]),
            ]
            lines += await beside_another_checkout(bench, tables, processes, starts, seats)
    return lines


async def beside_another_checkout(bench: Bench, tables: Tables, processes: int, starts: int, seats: int) -> list[Line]:
    """A storm whose programs wait, round by round beside the other checkout's."""
    base = os.environ.get("BENCH_BASE")
    ours, theirs = [], []
    for _ in range(bench.choose(9, 3)):
        ours.append(await storm(bench, tables, "waiting", processes, starts, seats))
        if base:
            theirs.append(await storm(bench, tables, "ledger", processes, starts, seats, Path(base)))
    seconds, calls = zip(*ours, strict=True)
    base_seconds, base_calls = zip(*theirs, strict=True) if theirs else ((), ())
    compared = "naive: the same of BENCH_BASE" if base else "NOT COMPARED: no BENCH_BASE names another checkout"
    what = f"{starts} starts that wait on {seats} seats, {processes_of(processes)}"
    goal = 1.3 if base and not bench.quick else None
    return [
        Line(f"{what}: time ({compared})", "s", seconds, base_seconds, goal),
        Line(f"{what}: storage calls per start ({compared})", "", calls, base_calls, goal),
    ]


async def storm(
    bench: Bench, tables: Tables, way: str, processes: int, starts: int, seats: int, checkout: Path = ROOT
) -> tuple[float, float]:
    """Seconds until all are answered, and storage calls per start."""
    words = (way, bench.storage, new_license_id(), starts // processes, seats)
    workers = [await Worker.start("benchmarks.storm", *words, checkout=checkout) for _ in range(processes)]
    mark = await bench.calls(tables).mark()
    began = time.perf_counter()
    granted = sum(int(answer) for answer in await asyncio.gather(*(one.go() for one in workers)))
    seconds = time.perf_counter() - began
    calls = len(await bench.calls(tables).since(mark)) / starts
    if granted != seats:
        raise RuntimeError(f"{granted} starts were granted on {seats} seats ({way})")
    return seconds, calls


async def by_the_ledger(storage: str, license_id: str, starts: int, seats: int) -> int:
    """How many of this process's starts were granted."""
    return await _by_the_ledger(storage, license_id, starts, seats)


async def waiting(storage: str, license_id: str, starts: int, seats: int) -> int:
    """The same; whoever is refused waits in line."""
    return await _by_the_ledger(storage, license_id, starts, seats, wait=True)


async def _by_the_ledger(storage: str, license_id: str, starts: int, seats: int, *, wait: bool = False) -> int:
    tables = Tables.from_connection_string(storage)
    ledger = Ledger(Register(tables), utc_now)
    terms = Terms(
        serial=1,
        organization_id="acme",
        organization_name="Acme",
        product="Water",
        kind=Kind.FLOATING,
        seats=seats,
        overdraft=0,
        sharing=Sharing.NONE,
        heartbeat_seconds=300,
        lease_seconds=900,
        borrow_seconds=0,
        valid_from=utc_now().replace(year=2020),
        valid_until=utc_now().replace(year=2099),
        project="",
        billing=Billing.NONE,
    )
    await tables.ping()
    await_go()
    persons = (Person("user", "host", "ip", "p1"),)
    decision = await asyncio.gather(
        *(ledger.submit(license_id, Start(new_session_id(), terms, persons, wait=wait)) for _ in range(starts))
    )
    await tables.close()
    return sum(isinstance(one.outcome, Granted) for one in decision)


async def naively(storage: str, license_id: str, starts: int, seats: int) -> int:
    """The same, each start by itself."""
    async with TableServiceClient.from_connection_string(storage) as service:
        table = service.get_table_client("register")
        row = {"PartitionKey": license_id, "RowKey": "license", "in_use": 0}
        with suppress(ResourceExistsError):  # where another process was first
            await table.create_entity(row)
        await_go()
        granted = await asyncio.gather(*(_start(table, license_id, seats) for _ in range(starts)))
    return sum(granted)


async def _start(table: TableClient, license_id: str, seats: int) -> bool:
    while True:
        try:
            row = await table.get_entity(license_id, "license")
            if row["in_use"] >= seats:
                return False
            raised = {"PartitionKey": license_id, "RowKey": "license", "in_use": row["in_use"] + 1}
            condition = {"etag": row.metadata["etag"], "match_condition": MatchConditions.IfNotModified}
            session = {"PartitionKey": license_id, "RowKey": f"active:{new_session_id()}", "started_at": utc_now()}
            await table.submit_transaction([("update", raised, condition), ("create", session)])
        except TableTransactionError:
            await asyncio.sleep(random.uniform(0, 0.02))
        else:
            return True


if __name__ == "__main__":
    way = {"ledger": by_the_ledger, "waiting": waiting, "naive": naively}[sys.argv[1]]
    print(asyncio.run(way(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))))
