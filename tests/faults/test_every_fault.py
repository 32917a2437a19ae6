"""Each fault of the store on each kind of call that each operation makes: the program gets what it asked for or is told
when to come back, no seat is lost or given twice, nothing hangs, and all is well again when the fault is over.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import ModuleType
from typing import Any, Final

import pytest

from licensing.cli.home import Home
from licensing.errors import UnavailableError
from licensing.services import service as service_module
from licensing.services.sweep import sweep_license
from licensing.storage import batching, retry
from licensing.storage import tables as tables_module
from licensing.storage.codec import utc
from licensing.storage.tables import Tables
from tests import support
from tests.api.client import Api, Clock, assert_problem, running
from tests.faults.storefront import FAULTS, SLOW, WRITES, Call, Storefront, storefront
from tests.faults.test_lost_replies import by_way_of, port_of
from tests.storage.desk import Seen, look

HANG_SECONDS: Final = 10.0
"""No operation may take so long, whatever befalls it: its bounds are less than half of that here."""

Status = int


@dataclass
class Stage:
    """A license, a process that has been there before and one that is new and has the broken store."""

    home: Home
    api: Api
    license: str = field(default_factory=support.new_id)
    body: dict[str, Any] = field(default_factory=dict)
    held: list[tuple[str, str]] = field(default_factory=list)
    told: dict[str, datetime] = field(default_factory=dict)
    """Until when sessions may run, as programs were told last."""

    def heard(self, reply: Any) -> Status:
        """The status of a reply to a start or a heartbeat; what a lease was granted by is remembered."""
        status = status_of(reply)
        if status in GRANTED:
            self.told[reply.json()["session"]] = datetime.fromisoformat(reply.json()["expires_at"])
        return status

    def file(self, seats: int = 2) -> str:
        """The license's file."""
        return support.issue(self.home, sub=self.license, seats=seats)


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

    `repeated`: the body is that of a start that was granted. `retries`: one fault is not noticed by the program, except
    on the calls `direct`.
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
    direct: frozenset[Call] = frozenset()


HEAD, POINT, RANGE = Call.HEAD_READ, Call.POINT_READ, Call.RANGE_READ
SINGLE, GROUP, DIRECTORY = Call.SINGLE_WRITE, Call.TRANSACTION, Call.DIRECTORY
GRANTED, OK, DONE, REFUSED = frozenset({200, 201}), frozenset({200}), frozenset({204}), frozenset({409})

OPERATIONS: Final[Mapping[str, Operation]] = {
    "the first start": Operation(start, (HEAD, DIRECTORY, GROUP), GRANTED, in_use=1),
    "a start": Operation(start, (HEAD, GROUP), GRANTED, held=1, in_use=2),
    "a start that a lapsed session makes room for": Operation(
        start, (HEAD, POINT, RANGE, GROUP), GRANTED, seats=1, lapsed=1, in_use=1, ended=1
    ),
    "a start without a seat": Operation(start, (HEAD, POINT, RANGE, SINGLE), REFUSED, seats=1, held=1, in_use=1),
    "a repeated start": Operation(start, (HEAD, POINT, GROUP), GRANTED, held=1, in_use=1, repeated=True),
    "a late start again": Operation(start, (POINT, SINGLE), GRANTED, lapsed=1, in_use=1, repeated=True),
    "a heartbeat": Operation(heartbeat, (HEAD, SINGLE), OK, held=1, in_use=1, direct=frozenset({HEAD})),
    "two heartbeats": Operation(heartbeats, (HEAD, GROUP), OK, held=2, in_use=2, direct=frozenset({HEAD})),
    "an end": Operation(end, (HEAD, POINT, GROUP), DONE, held=1, in_use=0, ended=1),
    "a sweep": Operation(sweep, (RANGE, GROUP), OK, held=1, lapsed=1, in_use=1, ended=1, direct=frozenset({RANGE})),
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
async def front(azurite: str) -> AsyncIterator[Storefront]:
    """What stands before the store."""
    async with storefront(port_of(azurite)) as opened:
        yield opened


@pytest.fixture(scope="module")
async def yesterday(home: Home, azurite: str) -> AsyncIterator[tuple[Api, Clock]]:
    """A process that has been there before, with a clock that can be behind."""
    clock = Clock()
    async with running(support.settings(home, azurite), clock) as opened:
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
    home: Home, azurite: str, front: Storefront, yesterday: tuple[Api, Clock], monkeypatch: pytest.MonkeyPatch
) -> Set:
    """What gives a stage on which an operation can be done by a process that is new."""

    @asynccontextmanager
    async def stage_for(operation: Operation, bounds: set[str]) -> AsyncIterator[Stage]:
        before, clock = yesterday
        stage = Stage(home, before)
        for number in range(operation.lapsed + operation.held):
            clock.ahead = timedelta(hours=-1 if number < operation.lapsed else 0)
            stage.body = support.start(stage.file(operation.seats))
            reply = await before.start(stage.body)
            assert reply.status_code == 201, reply.text
            stage.held.append((stage.body["session"], reply.json()["lease"]))
        if not operation.repeated:
            stage.body = support.start(stage.file(operation.seats))
        for name in bounds:
            module, seconds = BOUNDS[name]
            monkeypatch.setattr(module, name, seconds)
        async with running(support.settings(home, by_way_of(front.port, azurite))) as stage.api:
            yield stage
            await front.mend()

    return stage_for


def check(stage: Stage, operation: Operation, seen: Seen) -> None:
    """Hold the rows against what must be true once the operation has been done, however often it was tried."""
    seen.check()
    assert seen.head["in_use"] == operation.in_use
    started = {session for session, _ in stage.held} | ({stage.body["session"]} if operation.act is start else set())
    waiting = {stage.body["session"]} if operation.good == REFUSED else set()
    assert seen.active.keys() | seen.ended.keys() == started - waiting, "a session was lost, or came from nowhere"
    assert len(seen.ended) == operation.ended
    check_what_was_told(stage, seen)
    assert seen.denied.keys() <= waiting


def check_what_was_told(stage: Stage, seen: Seen) -> None:
    """Whoever was told that it may run has its lease in the rows."""
    for session, expires_at in stage.told.items():
        if session in seen.active:
            assert utc(seen.active[session]["expires_at"]) >= expires_at, "a lease was granted, and is not kept"


@pytest.mark.parametrize(("name", "call", "fault"), ALL[::STRIDE])
async def test_a_fault_of_the_store_that_lasts(
    staged: Set, front: Storefront, tables: Tables, name: str, call: Call, fault: str
) -> None:
    operation = OPERATIONS[name]
    async with staged(operation, bounds_for(fault, lasting=True)) as stage:
        front.break_(FAULTS[fault], call, None)
        status = await until_hit(stage, operation, front)
        assert status in operation.good | {503}
        check_what_was_told(stage, await look(tables, stage.license))
        await front.mend()
        await until_good(stage, operation)
        check(stage, operation, await look(tables, stage.license))


@pytest.mark.parametrize(("name", "call", "fault"), ALL[STRIDE // 2 :: STRIDE])
async def test_a_fault_of_the_store_that_comes_once(
    staged: Set, front: Storefront, tables: Tables, name: str, call: Call, fault: str
) -> None:
    operation = OPERATIONS[name]
    async with staged(operation, bounds_for(fault, lasting=False)) as stage:
        front.break_(FAULTS[fault], call, 1)
        status = await until_hit(stage, operation, front)
        assert status in (operation.good | {503} if call in operation.direct else operation.good)
        check_what_was_told(stage, await look(tables, stage.license))
        await front.mend()
        await until_good(stage, operation)
        check(stage, operation, await look(tables, stage.license))


async def until_hit(stage: Stage, operation: Operation, front: Storefront) -> Status:
    """Do it, and again where the short bounds ended a call before the one that is to go wrong."""
    for _ in range(5):
        async with asyncio.timeout(HANG_SECONDS):
            status = await operation.act(stage)
        if front.hits:
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
