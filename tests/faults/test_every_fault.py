"""Each fault of the store on each kind of call that each operation makes.

The program gets what it asked for, or a reply that says when to come back. No seat is lost or given twice. Nothing
hangs, and the service recovers when the fault is over.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any, Final

import pytest

from licensing.cli.home import Home
from licensing.errors import UnavailableError
from licensing.rules.requests import Recall, Recalled
from licensing.services import service as service_module
from licensing.services.sweep import sweep_license
from licensing.storage import batching, retry
from licensing.storage import tables as tables_module
from licensing.storage.tables import Tables
from tests import factories
from tests.api.client import Api, assert_problem, running
from tests.factories import OffsetClock
from tests.fault_proxy import FAULTS, SLOW, WRITES, Call, FaultProxy, port_of, start_fault_proxy, through
from tests.register_rows import Seen, look

HANG_SECONDS: Final = 10.0
"""No operation may take so long, whatever befalls it: its bounds are less than half of that here."""

Status = int


@dataclass
class Stage:
    """A license, a process that has been there before and one that is new and has the broken store."""

    home: Home
    api: Api
    license: str = field(default_factory=factories.new_license_id)
    body: dict[str, Any] = field(default_factory=dict)
    held: list[tuple[str, str]] = field(default_factory=list)
    leases: dict[str, datetime] = field(default_factory=dict)
    """Until when sessions may run, by the last reply to each."""
    borrow: int = 0

    def heard(self, reply: Any) -> Status:
        """The status of a reply to a start or a heartbeat; a granted lease is noted."""
        status = status_of(reply)
        if status in GRANTED:
            self.leases[reply.json()["session"]] = datetime.fromisoformat(reply.json()["expires_at"])
        return status

    def file(self, seats: int = 2) -> str:
        """The license's file."""
        return factories.issue(self.home, sub=self.license, seats=seats, borrow=self.borrow)


Act = Callable[[Stage], Awaitable[Status]]


def status_of(reply: Any) -> Status:
    """The status of a reply, which is a success, a refusal, or a problem that says when to come back."""
    if reply.status_code == 503:
        assert_problem(reply, "storage-unavailable", 503)
        assert 1 <= int(reply.headers["retry-after"]) <= 60
    return int(reply.status_code)


async def start(stage: Stage) -> Status:
    return stage.heard(await stage.api.start(stage.body))


async def heartbeat(stage: Stage) -> Status:
    return stage.heard(await stage.api.heartbeat(*stage.held[0]))


async def heartbeats(stage: Stage) -> Status:
    replies = await asyncio.gather(*(stage.api.heartbeat(*held) for held in stage.held))
    return max(map(stage.heard, replies))


async def end(stage: Stage) -> Status:
    return status_of(await stage.api.end(*stage.held[0]))


async def late_end(stage: Stage) -> Status:
    ran_until = datetime.now(UTC) - timedelta(minutes=30)
    return status_of(await stage.api.ended(*stage.held[0], ran_until.isoformat()))


async def recall(stage: Stage) -> Status:
    service, session = stage.api.service, stage.held[0][0]
    try:
        outcome = (await service.ledger.submit(stage.license, Recall(session))).outcome
    except UnavailableError:
        return 503
    assert isinstance(outcome, Recalled)
    return 200


async def read(stage: Stage) -> Status:
    return status_of(await stage.api.read(*stage.held[0]))


async def health(stage: Stage) -> Status:
    return status_of(await stage.api.send("GET", "/health"))


async def sweep(stage: Stage) -> Status:
    service = stage.api.service
    try:
        await sweep_license(service.register, service.ledger, stage.license, service.clock())
    except UnavailableError:
        return 503
    return 200


@dataclass(frozen=True)
class Operation:
    """What is done on a license with so many seats, of which some are `held` and some have `lapsed`; which calls that
    takes, and what then must be true.

    `repeated`: the body is that of a start that was granted. `replaces`: it replaces the first session. `borrow`: for
    so long sessions want to borrow. One fault is not noticed by the program, except on the calls `direct`.
    """

    act: Act
    calls: tuple[Call, ...]
    good: frozenset[Status]
    in_use: int
    ended: int = 0
    held: int = 0
    lapsed: int = 0
    seats: int = 2
    repeated: bool = False
    replaces: bool = False
    borrow: int = 0
    direct: frozenset[Call] = frozenset()


STATE, POINT, RANGE = Call.STATE_READ, Call.POINT_READ, Call.RANGE_READ
SINGLE, BATCH, DIRECTORY = Call.SINGLE_WRITE, Call.TRANSACTION, Call.DIRECTORY
READ_MARKS = Call.MARK_READ
LATE_END = STATE, POINT, BATCH, RANGE, SINGLE
GRANTED, OK, DONE, REFUSED = frozenset({200, 201}), frozenset({200}), frozenset({204}), frozenset({409})

OPERATIONS: Final[Mapping[str, Operation]] = {
    "the first start": Operation(start, (STATE, DIRECTORY, BATCH), GRANTED, in_use=1),
    "a start": Operation(start, (STATE, BATCH), GRANTED, held=1, in_use=2),
    "a start that a lapsed session makes room for": Operation(
        start, (STATE, RANGE, READ_MARKS, BATCH), GRANTED, seats=1, lapsed=1, in_use=1, ended=1
    ),
    "a start that replaces a session": Operation(
        start, (STATE, POINT, BATCH), GRANTED, seats=1, held=1, in_use=1, ended=1, replaces=True
    ),
    "a start without a seat": Operation(start, (STATE, RANGE, SINGLE), REFUSED, seats=1, held=1, in_use=1),
    "a repeated start": Operation(start, (STATE, POINT, BATCH), GRANTED, held=1, in_use=1, repeated=True),
    "a late start again": Operation(start, (POINT, BATCH), GRANTED, lapsed=1, in_use=1, repeated=True),
    "a heartbeat": Operation(heartbeat, (STATE, SINGLE), OK, held=1, in_use=1, direct=frozenset({STATE})),
    "a confirmation": Operation(
        heartbeat, (STATE, SINGLE), OK, held=1, in_use=1, borrow=7200, direct=frozenset({STATE})
    ),
    "two heartbeats": Operation(heartbeats, (STATE, BATCH), OK, held=2, in_use=2, direct=frozenset({STATE})),
    "an end": Operation(end, (STATE, POINT, BATCH), DONE, held=1, in_use=0, ended=1),
    "a late end": Operation(
        late_end, LATE_END, DONE, lapsed=1, in_use=0, ended=1, direct=frozenset({STATE, RANGE, SINGLE})
    ),
    "a recall": Operation(recall, (STATE, POINT, SINGLE), OK, held=1, in_use=1),
    "a sweep": Operation(sweep, (RANGE, BATCH), OK, held=1, lapsed=1, in_use=1, ended=1, direct=frozenset({RANGE})),
    "a look at one's data": Operation(read, (POINT,), OK, held=1, in_use=1, direct=frozenset({POINT})),
    "health": Operation(health, (POINT,), OK, held=1, in_use=1, direct=frozenset({POINT})),
}

ALL: Final = [
    pytest.param(operation, call, fault, id=f"{operation}-{call}-{fault}")
    for operation, what in OPERATIONS.items()
    for call in what.calls
    for fault in FAULTS
    if fault != "412" or call in WRITES
]

STRIDE: Final = 1 if os.environ.get("FAULTS") == "all" else 4
"""Every fourth case, so that each operation meets each fault; FAULTS=all takes all of them, which is minutes."""


@pytest.fixture(scope="module")
async def proxy(azurite: str) -> AsyncIterator[FaultProxy]:
    """What stands before the store."""
    async with start_fault_proxy(port_of(azurite)) as opened:
        yield opened


@pytest.fixture(scope="module")
async def yesterday(home: Home, azurite: str) -> AsyncIterator[tuple[Api, OffsetClock]]:
    """A process that has been there before, with a clock that can be behind."""
    clock = OffsetClock()
    async with running(factories.settings(home, azurite), clock) as opened:
        yield opened, clock


Set = Callable[[Operation, set[str]], AbstractAsyncContextManager[Stage]]

BOUNDS: Final[Mapping[str, tuple[ModuleType, float]]] = {
    "HEALTH_SECONDS": (service_module, 0.0),
    "READ_SECONDS": (tables_module, 0.25),
    "CALL_SECONDS": (tables_module, 0.3),
    "BATCH_SECONDS": (retry, 0.2),
    "WAIT_SECONDS": (batching, 4.0),
}
"""The bounds of the service, shorter; that of a queue still leaves a slow machine time to come to the fault."""


def bounds_for(fault: str, *, lasting: bool) -> set[str]:
    """Which bounds have to be shorter, so that nobody waits for long here."""
    reads = {"READ_SECONDS", "CALL_SECONDS"} if fault in SLOW else set()
    return {"HEALTH_SECONDS"} | reads | ({"BATCH_SECONDS", "WAIT_SECONDS"} if lasting else set())


@pytest.fixture
def staged(
    home: Home, azurite: str, proxy: FaultProxy, yesterday: tuple[Api, OffsetClock], monkeypatch: pytest.MonkeyPatch
) -> Set:
    """What gives a stage on which an operation can be done by a process that is new."""

    @asynccontextmanager
    async def stage_for(operation: Operation, bounds: set[str]) -> AsyncIterator[Stage]:
        before, clock = yesterday
        stage = Stage(home, before, borrow=operation.borrow)
        for number in range(operation.lapsed + operation.held):
            clock.ahead = timedelta(hours=-1 if number < operation.lapsed else 0)
            stage.body = factories.start_body(stage.file(operation.seats), borrow_seconds=operation.borrow)
            reply = await before.start(stage.body)
            assert reply.status_code == 201, reply.text
            stage.held.append((stage.body["session"], reply.json()["lease"]))
        if not operation.repeated:
            after = {"replaces": stage.held[0][1]} if operation.replaces else {}
            stage.body = factories.start_body(stage.file(operation.seats), **after)
        for name in bounds:
            module, seconds = BOUNDS[name]
            monkeypatch.setattr(module, name, seconds)
        async with running(factories.settings(home, through(proxy.port, azurite))) as stage.api:
            yield stage
            await proxy.mend()

    return stage_for


def check(stage: Stage, operation: Operation, seen: Seen) -> None:
    """Hold the rows against what must be true once the operation has been done, however often it was tried."""
    seen.check()
    assert seen.state["in_use"] == operation.in_use
    started = {session for session, _ in stage.held} | ({stage.body["session"]} if operation.act is start else set())
    waiting = {stage.body["session"]} if operation.good == REFUSED else set()
    assert seen.active.keys() | seen.ended.keys() == started - waiting, "a session was lost, or came from nowhere"
    assert len(seen.ended) == operation.ended
    check_leases(stage, seen)
    assert operation.act is not recall or stage.held[0][0] in seen.state["recalled"]
    assert not operation.borrow or all(row["borrowed"] for row in seen.active.values())
    assert operation.act is not late_end or all("ran_until" in row for row in seen.ended.values())
    assert seen.denied.keys() <= waiting


def check_leases(stage: Stage, seen: Seen) -> None:
    """Each lease that was granted is in the rows."""
    for session, expires_at in stage.leases.items():
        if session in seen.active:
            assert seen.active[session]["expires_at"] >= expires_at, "a lease was granted, and is not kept"


@pytest.mark.parametrize(("name", "call", "fault"), ALL[::STRIDE])
async def test_a_fault_of_the_store_that_lasts(
    staged: Set, proxy: FaultProxy, tables: Tables, name: str, call: Call, fault: str
) -> None:
    operation = OPERATIONS[name]
    async with staged(operation, bounds_for(fault, lasting=True)) as stage:
        proxy.break_(FAULTS[fault], call, None)
        status = await until_hit(stage, operation, proxy)
        assert status in operation.good | {503}
        check_leases(stage, await look(tables, stage.license))
        await proxy.mend()
        await until_good(stage, operation)
        check(stage, operation, await look(tables, stage.license))


@pytest.mark.parametrize(("name", "call", "fault"), ALL[STRIDE // 2 :: STRIDE])
async def test_a_fault_of_the_store_that_comes_once(
    staged: Set, proxy: FaultProxy, tables: Tables, name: str, call: Call, fault: str
) -> None:
    operation = OPERATIONS[name]
    async with staged(operation, bounds_for(fault, lasting=False)) as stage:
        proxy.break_(FAULTS[fault], call, 1)
        status = await until_hit(stage, operation, proxy)
        assert status in (operation.good | {503} if call in operation.direct else operation.good)
        check_leases(stage, await look(tables, stage.license))
        await proxy.mend()
        await until_good(stage, operation)
        check(stage, operation, await look(tables, stage.license))


async def until_hit(stage: Stage, operation: Operation, proxy: FaultProxy) -> Status:
    """Do it, and again where the short bounds ended a call before the one that is to go wrong."""
    for _ in range(5):
        async with asyncio.timeout(HANG_SECONDS):
            status = await operation.act(stage)
        if proxy.hits:
            return status
        assert status == 503, "it makes no such call"
    raise AssertionError("the fault was never met")


async def until_good(stage: Stage, operation: Operation) -> None:
    """Try as a program does, a few times: the service must have recovered by itself."""
    for _ in range(5):
        status = await operation.act(stage)
        if status in operation.good:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"still {status} when the fault was over")
