"""Our side of a comparison with other license servers, beside the bare SDK. No peer is named here, and none is run.

For the other side, measure the peer on the same machine, in turn with this, by one client process that holds as many
connections as calls are in flight, opened before the clock starts:

- storm: 300 programs at once check out one of 225 seats; note how many got one;
- renewal and release: of 1,000 held seats, 50 in flight, each once; then of 2,000, 100 in flight;
- checkout of 50 and then their release, all in flight, while 10 other seats are held, and while 5,000 are.

The first two are done with one process of the server and with four, the last with one. A rate is answers per second
from the first call to the last answer, refusals included. Processor time is that of all processes of the server and of
its store, without the client's, for each answer. An error is an answer after which the same call has to be made again.
Say beside the numbers what a peer leaves out: a license that is checked, a lease that is signed, a row that is kept of
each ended session, a store that survives a crash (Azurite keeps its rows in memory here).

The naive column is one SDK transaction for each call, of the rows that it writes alone, by one process, as many in
flight: no HTTP before it, no check, no signature, no condition. A checkout writes license state and session, a renewal
the session, a release license state, session and ended session. In the storm these are as many as there are seats. Its
processor time is that of its process and of the store.

    python -m benchmarks.peer STORAGE KIND COUNT AT_ONCE

is that process. It prints JSON: waits of all transactions and the time of all together, in seconds, and its processor
time in seconds.
"""

import asyncio
import json
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import astuple, dataclass
from datetime import timedelta
from functools import partial
from typing import Any, NamedTuple

from azure.core import MatchConditions
from azure.data.tables.aio import TableClient, TableServiceClient

from benchmarks.common import Bench, Line, Worker, await_go, cpu_seconds, processes_of
from benchmarks.programs import LONG, Cost, Load, Programs, calling, fill, load
from licensing.rules.model import EndedSession, EndReason, Session, Versioned
from licensing.rules.requests import Heartbeat
from licensing.services.service import utc_now
from licensing.storage import register as rows
from licensing.storage.tables import TRANSACTION_ROWS, Write, create, delete, merge
from tests import factories

STARTS, SEATS = 300, 225
MANY = ((1000, 50), (2000, 100))
"""How many seats are held, renewed and released, and how many calls are then in flight."""
FEW = 50
BESIDE = (10, 5000)
LEASE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Work:
    """What the bare SDK does beside a measurement: calls of a kind, how many in all and in flight."""

    kind: str
    count: int
    at_once: int


class Measured(NamedTuple):
    """What some work took; processor time in milliseconds for each answer, that of the store included."""

    load: Load
    processor: float


async def run(bench: Bench) -> list[Line]:
    """Each work by the service, and by the bare SDK, in turn."""
    ours: dict[tuple[str, Work], list[Measured]] = defaultdict(list)
    bare: dict[Work, list[Measured]] = defaultdict(list)
    errors: dict[str, int] = defaultdict(int)
    async with bench.tables() as tables:
        beside = {held: factories.issue(bench.home, seats=held + FEW, **LONG) for held in BESIDE}
        for held, file in beside.items():
            await fill(bench, tables, file, held)
    async with calling(bench, 1) as one, calling(bench, 4) as four:
        for number in range(-1, bench.choose(5, 1)):  # the first is for warming up
            for processes, programs, files in ((1, one, beside), (4, four, {})):
                where = processes_of(processes)
                async for what, work, cost in by_the_service(bench, programs, files):
                    if number >= 0:
                        ours[f"{what}, {where}", work].append(Measured(cost.load, cost.service + cost.store))
                        errors[where] += cost.unavailable
            for work in {work for _, work in ours}:
                bare[work].append(await by_the_sdk(bench, work))

    def lines(what: str, work: Work) -> list[Line]:
        def both(value: Callable[[Measured], float]) -> tuple[list[float], list[float]]:
            return [value(each) for each in ours[what, work]], [value(each) for each in bare[work]]

        return [
            Line(what, "/s", *both(lambda each: each.load.rate)),
            Line(f"{what}: 99 of 100 are answered within", "ms", *both(lambda each: each.load.within(99))),
            Line(f"{what}: processor time of each, with the store's", "ms", *both(lambda each: each.processor)),
        ]

    return [
        *(line for what, work in ours for line in lines(what, work)),
        *(Line(f"errors in all work, {where}", "", [count], (), 0) for where, count in errors.items()),
    ]


async def by_the_service(
    bench: Bench, programs: Programs, beside: dict[int, str]
) -> AsyncIterator[tuple[str, Work, Cost]]:
    """What the service is asked to do, and what it cost; `beside` are files of licenses, by what is held on them."""
    replies, cost = await programs.start_many(factories.issue(bench.home, seats=SEATS), STARTS, STARTS)
    if len(replies) != SEATS:
        raise RuntimeError(f"{len(replies)} programs got one of {SEATS} seats")
    yield f"storm of {STARTS} on {SEATS} seats", Work("checkout", SEATS, STARTS), cost

    for count, at_once in [(200, 50)] if bench.quick else MANY:
        replies, _ = await programs.start_many(factories.issue(bench.home, seats=count, **LONG), count, at_once)
        what = f"of {count:,}, {at_once} in flight"
        yield f"renewal {what}", Work("renewal", count, at_once), await programs.heartbeat_many(replies, at_once)
        yield f"release {what}", Work("release", count, at_once), await programs.end_many(replies, at_once)

    for held, file in beside.items():
        replies, cost = await programs.start_many(file, FEW, FEW)
        yield f"checkout of {FEW}, {held:,} held", Work("checkout", FEW, FEW), cost
        yield f"release of {FEW}, {held:,} held", Work("release", FEW, FEW), await programs.end_many(replies, FEW)


async def by_the_sdk(bench: Bench, work: Work) -> Measured:
    """The naive way."""
    worker = await Worker.start("benchmarks.peer", bench.storage, *astuple(work))
    store = cpu_seconds(bench.azurite_pid)
    waits, seconds, processor = json.loads(await worker.go())
    processor += cpu_seconds(bench.azurite_pid) - store
    return Measured(Load(waits, seconds), processor / work.count * 1000)


async def transactions(storage: str, work: Work) -> tuple[list[float], float, float]:
    """Make them, on a license of their own; waits, time and processor time in seconds."""
    license_id, now = factories.new_license_id(), utc_now()
    sessions = [_session(factories.new_session_id()) for _ in range(work.count)]
    async with TableServiceClient.from_connection_string(storage) as service:
        table = service.get_table_client("register")
        state = merge(rows.STATE, {"in_use": 1, rows.COMMIT: "naive"})
        begun = [rows.start_change(session).write for session in sessions]
        await _send(table, license_id, [create(state.key, state.columns)])
        match work.kind:
            case "checkout":
                writes = [[state, start] for start in begun]
            case "renewal":
                writes = [
                    [rows.heartbeat_change(Heartbeat(session.id, now, now + LEASE)).write] for session in sessions
                ]
            case _:
                writes = [[state, delete(rows.ACTIVE + session.id), _ended(session)] for session in sessions]
        if work.kind != "checkout":
            for first in range(0, work.count, TRANSACTION_ROWS):
                await _send(table, license_id, begun[first : first + TRANSACTION_ROWS])
        await asyncio.gather(*(table.get_entity(license_id, state.key) for _ in range(work.at_once)))  # to connect
        await_go()
        processor = time.process_time()
        done = await load((partial(_send, table, license_id, some) for some in writes), work.at_once)
        return list(done.waits), done.seconds, time.process_time() - processor


def _session(name: str) -> Session:
    now, pseudonym = utc_now(), "p" * 22
    return Session(name, now, now, now + LEASE, pseudonym, pseudonym, pseudonym, "p1", name)


def _ended(session: Session) -> Write:
    return rows.end_changes(Versioned(EndedSession(session, utc_now(), EndReason.ENDED), ""))[1].write


async def _send(table: TableClient, license_id: str, writes: Sequence[Write]) -> None:
    """Write rows by the SDK: one as it is, several as a transaction."""
    verbs = {"create": "create", "merge": "update", "delete": "delete"}
    entities: list[tuple[str, dict[str, Any]]] = [
        (verbs[write.verb], {"PartitionKey": license_id, "RowKey": write.key, **write.columns}) for write in writes
    ]
    match entities:
        case [("create", entity)]:
            await table.create_entity(entity)
        case [(_, entity)]:
            await table.update_entity(entity, match_condition=MatchConditions.Unconditionally)
        case _:
            await table.submit_transaction(entities)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(transactions(sys.argv[1], Work(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))))))
