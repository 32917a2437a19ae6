"""Programs that use the service over HTTP, as many at once as there are seats, and the licenses that they bring."""

import asyncio
import math
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from http import HTTPStatus
from typing import Any

import aiohttp

from benchmarks.common import Bench, cpu_seconds
from licensing.crypto.tokens import Lease, read_license, write_lease
from licensing.rules.model import Person, Terms
from licensing.rules.requests import Granted, Start
from licensing.services.service import utc_now
from licensing.settings import Settings
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests import factories
from tests.processes import Served, end, heartbeat, serving, start
from tests.stores import StorageCalls

IN_FLIGHT = 100
"""Requests at once: what the templates allow an instance of the service (infra/, `perInstanceConcurrency`)."""

CHUNK = 90

RETRY_SECONDS = 0.2
"""A call that is answered 503 is repeated after at most so long, by chance."""

LONG = {"lease": 86_400}
"""Claims of a license whose sessions do not lapse while they are measured."""


@dataclass(frozen=True, slots=True)
class Program:
    """A session that runs, and what its next heartbeat sends."""

    license: str
    session: str
    lease: str

    def reply(self) -> dict[str, Any]:
        """As a reply to its start has it."""
        return {"session": self.session, "lease": self.lease}


async def fill(bench: Bench, tables: Tables, file: str, sessions: int) -> list[Program]:
    """Start sessions under a license file, past HTTP, which is not what is measured."""
    settings = Settings.load(factories.environment(bench.home, bench.storage))
    license = read_license(file, settings.issuer_keys)
    terms, ledger = Terms.of(license), Ledger(Register(tables), utc_now)
    names = [factories.new_session_id() for _ in range(sessions)]
    for first in range(0, sessions, CHUNK):
        starts = [Start(name, terms, (Person(name, name, name, "p1"),)) for name in names[first : first + CHUNK]]
        decision = await asyncio.gather(*(ledger.submit(license.id, start) for start in starts))
        if not all(isinstance(one.outcome, Granted) for one in decision):
            raise RuntimeError("a session was not granted; the benchmark would measure something else")
    now = utc_now()

    def lease(session_id: str) -> str:
        own = Lease(
            session_id=session_id,
            license_id=license.id,
            issued_at=now,
            expires_at=now + timedelta(seconds=license.lease_seconds),
            nonce=factories.new_nonce(),
            features=license.features,
            grace_seconds=license.grace_seconds,
            borrowed=False,
            overdraft=False,
        )
        return write_lease(own, settings.lease_keys)

    return [Program(license.id, name, lease(name)) for name in names]


async def all_at_once(calls: Iterable[Callable[[], Awaitable[None]]], at_once: int = IN_FLIGHT) -> None:
    """Make calls, so many at a time."""
    waiting = iter(calls)

    async def caller() -> None:
        for call in waiting:
            await call()

    await asyncio.gather(*(caller() for _ in range(at_once)))


def many_connections() -> aiohttp.ClientSession:
    """A client that opens as many connections as there are calls at once. The service closes idle ones after 5 s."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=2))


@dataclass(frozen=True, slots=True)
class Load:
    """Calls that were answered: how long each waited, and the time until all were; in seconds."""

    waits: Sequence[float]
    seconds: float

    @property
    def rate(self) -> float:
        """Answers per second."""
        return len(self.waits) / self.seconds

    def within(self, percent: int) -> float:
        """The milliseconds within which so many of a hundred calls were answered."""
        return statistics.quantiles(self.waits, n=100, method="inclusive")[percent - 1] * 1000


@dataclass(frozen=True, slots=True)
class Cost:
    """What a load cost: processor time of service and store in milliseconds, and storage calls, each per answer.

    `unavailable` counts the answers 503, after which the call was made again.
    """

    load: Load
    service: float
    store: float
    storage_calls: float
    unavailable: int


async def load(
    calls: Iterable[Callable[[], Awaitable[object]]], at_once: int = IN_FLIGHT, seconds: float = math.inf
) -> Load:
    """Make calls, so many at a time; after so many seconds no further one."""
    waits: list[float] = []
    began = time.perf_counter()

    async def timed(call: Callable[[], Awaitable[object]]) -> None:
        asked = time.perf_counter()
        if asked - began < seconds:
            await call()
            waits.append(time.perf_counter() - asked)

    await all_at_once((partial(timed, call) for call in calls), at_once)
    return Load(waits, time.perf_counter() - began)


class Programs:
    """Programs that call a service. They repeat a call that is answered 503, as the protocol asks."""

    def __init__(self, served: Served, http: aiohttp.ClientSession, counted: StorageCalls, store: int) -> None:
        self.served = served
        self._http = http
        self._counted = counted
        self._store = store
        self._unavailable = 0

    async def start(self, body: dict[str, Any]) -> dict[str, Any] | None:
        """Start a session; the reply, None where no seat is free."""
        status, reply = await self._answered(lambda: start(self._http, self.served.url, body), 201, 200, 409)
        return None if status == HTTPStatus.CONFLICT else reply

    async def heartbeat(self, reply: dict[str, Any]) -> None:
        """Send a heartbeat for a session."""
        await self._answered(lambda: heartbeat(self._http, self.served.url, reply), 200)

    async def end(self, reply: dict[str, Any]) -> None:
        """End a session."""

        async def ended() -> tuple[int, Any]:
            return await end(self._http, self.served.url, reply), None

        await self._answered(ended, 204)

    async def start_many(self, file: str, count: int, at_once: int) -> tuple[list[dict[str, Any]], Cost]:
        """Start sessions under a license file; the replies of those that got a seat, and what all starts cost."""
        replies: list[dict[str, Any]] = []

        async def one() -> None:
            reply = await self.start(factories.start_body(file))
            if reply is not None:
                replies.append(reply)

        cost = await self.cost([one] * count, at_once)
        return replies, cost

    async def heartbeat_many(self, replies: Sequence[dict[str, Any]], at_once: int) -> Cost:
        """A heartbeat for each session."""
        return await self.cost([partial(self.heartbeat, reply) for reply in replies], at_once)

    async def end_many(self, replies: Sequence[dict[str, Any]], at_once: int, seconds: float = math.inf) -> Cost:
        """End sessions; after so many seconds no further one."""
        return await self.cost([partial(self.end, reply) for reply in replies], at_once, seconds)

    async def cost(
        self, calls: Iterable[Callable[[], Awaitable[object]]], at_once: int, seconds: float = math.inf
    ) -> Cost:
        """Make calls, over as many connections as are needed, and nothing else; arguments as for `load`."""
        await asyncio.gather(*(self._connect() for _ in range(at_once)))
        mark, unavailable = await self._counted.mark(), self._unavailable
        service, store = self._processor()
        done = await load(calls, at_once, seconds)
        service, store = (after - before for after, before in zip(self._processor(), (service, store), strict=True))
        made, answers = len(await self._counted.since(mark)), len(done.waits)
        return Cost(
            done, service / answers * 1000, store / answers * 1000, made / answers, self._unavailable - unavailable
        )

    async def _connect(self) -> None:
        async with self._http.get(f"{self.served.url}/health") as response:
            response.raise_for_status()

    def _processor(self) -> tuple[float, float]:
        """The processor seconds of the service, all its processes together, and those of the store."""
        service = sum(map(cpu_seconds, [self.served.process.pid, *self.served.workers()]))
        return service, cpu_seconds(self._store)

    async def _answered(self, call: Callable[[], Awaitable[tuple[int, Any]]], *expected: int) -> tuple[int, Any]:
        while True:
            status, reply = await call()
            if status in expected:
                return status, reply
            if status != HTTPStatus.SERVICE_UNAVAILABLE:
                raise RuntimeError(f"a call was answered with {status}")
            self._unavailable += 1
            await asyncio.sleep(random.uniform(0, RETRY_SECONDS))


@asynccontextmanager
async def calling(
    bench: Bench, workers: int = 1, program: Sequence[str] = ("-m", "licensing")
) -> AsyncIterator[Programs]:
    """Programs and the service that they call, in so many processes; `program` is what Python runs."""
    log = bench.folder / "service.log"
    async with bench.tables() as tables, many_connections() as http:
        with serving(bench.home, bench.storage, "--workers", str(workers), log=log, program=program) as served:
            yield Programs(served, http, bench.calls(tables), bench.azurite_pid)
