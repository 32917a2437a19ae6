"""Lives of two programs on one strict seat: told clocks, bad networks, and the real service and client.

A life is a list of things to do at told times. What a program says lasts until the next of them, so looking at both
programs after each one sees every second. Each call takes time, in which everything else goes on: the network holds
it back or loses it, the computer sleeps, or the program crashes.
"""

import asyncio
import heapq
import math
import random
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from licensing_client import Program, machine
from licensing_client.errors import ExchangeError, Step
from licensing_client.lease import Lease
from licensing_client.license import License, parse_license
from licensing_client.machine import RUNNING, Status
from licensing_client.transport import Cancellation, Reply, Request
from simulation import PORTAL, Computer, SimulatedClock, Simulation

from licensing.api.app import create_app
from licensing.cli.home import Home
from licensing.crypto.tokens import read_license
from licensing.rules.requests import Recall
from licensing.rules.totals import DayTotals
from licensing.services.license_files import SignedFile
from licensing.services.publishing import NotPublished, Published, publish
from licensing.services.service import Service
from licensing.services.sweep import sweep_license
from licensing.services.totals import aggregate_license
from tests import factories
from tests.client.conftest import issuer_keys

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
BEGINNING: Final = datetime(2026, 6, 1, 8, tzinfo=UTC).timestamp()
"""When each life begins, so that a life is the same by itself as among others."""
STRICT: Final = {"grace": 43200, "hold": 43260}
LOCAL: Final = "http://127.0.0.1:7071/api"
CONDITIONS: Final = ("down", "hang", "reply-lost", "late", "twice", "portal", "garbled", "cut", "replay")
"""What a network may do; `late`: the request arrives after the program has given up; `twice`: also once more."""


class LocalService:
    """The real app on a told clock, called in this process."""

    def __init__(
        self, home: Home, storage: str, clock: SimulatedClock, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """`loop`: that of another process's service, which it shares."""
        self.home = home
        self.clock = clock
        self.loop = loop or asyncio.new_event_loop()
        self._owns_loop = loop is None
        settings = factories.settings(home, storage)
        self._service = cache(lambda: Service(settings, self._now))
        self._app = create_app(self._service)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self.clock.true, UTC)

    def wait_for(self, work: Any) -> Any:
        """The result of a coroutine on the service's event loop."""
        return self.loop.run_until_complete(work)

    def handle(self, request: Request) -> Reply:
        """Take one request."""
        return self.wait_for(self.call(request))  # type: ignore[no-any-return]

    async def call(self, request: Request) -> Reply:
        """Take one request, on the service's event loop."""
        headers = [(name.lower().encode(), value.encode()) for name, value in request.headers.items()]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(request.body)).encode())]
        path = urlsplit(request.url).path
        scope = {
            "type": "http",
            "method": request.method,
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": headers,
            "client": ("203.0.113.9", 50000),
            "http_version": "1.1",
            "scheme": "http",
            "server": ("127.0.0.1", 7071),
            "asgi": {"version": "3.0"},
        }
        sent: list[Any] = []

        async def receive() -> Any:
            return {"type": "http.request", "body": request.body, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self._app(scope, receive, send)
        answered = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], answered, b"".join(message.get("body", b"") for message in sent[1:]))

    def license(self, **claims: Any) -> License:
        """A license for a month from now."""
        now = int(self.clock.true)
        given = {"iat": now, "nbf": now, "exp": now + 30 * int(DAY), "service": LOCAL, **claims}
        keys = Program(issuer_keys(self.home)).keys()
        return parse_license(factories.issue(self.home, **given), keys)

    def recall(self, license: License, session_id: str) -> None:
        """Recall a session, as an administrator does."""
        self.wait_for(self._service().ledger.submit(license.id, Recall(session_id)))

    def publish(self, license: License) -> Published | NotPublished:
        """Publish a file, as an operator does."""
        service = self._service()
        file = SignedFile(read_license(license.token, service.settings.issuer_keys), license.token)
        return self.wait_for(  # type: ignore[no-any-return]
            publish(service.files, file, service.settings.lease_keys.kid, self._now())
        )

    def sweep(self, license: License) -> None:
        """End what has lapsed."""
        service = self._service()
        self.wait_for(sweep_license(service.register, service.ledger, license.id, self._now()))

    def open(self) -> None:
        """Open the connections to the store now, and not at the first request."""
        self._service()

    def counted(self, license: License) -> tuple[int, int]:
        """The seconds for which all days' totals say that seats were held, and that programs ran beyond their seats."""
        aggregate = self.wait_for(aggregate_license(self._service().register, license.id, self._now()))
        days = [each for each in aggregate.totals if isinstance(each, DayTotals)]
        return sum(day.seat_seconds for day in days), sum(day.grace_seconds for day in days)

    def close(self) -> None:
        """Close the connections to the store."""
        self.wait_for(self._service().close())
        if self._owns_loop:
            self.loop.close()


class CrashedError(BaseException):
    """The program's process is gone; nothing of it catches this."""


class Worker:
    """A program's thread. It and the life run by turns, never at once."""

    def __init__(self) -> None:
        self._work: Callable[[], None] | None = None
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._error: BaseException | None = None
        self.idle = True
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            self._go.acquire()
            if self._work is None:
                return
            try:
                self._work()
            except CrashedError:
                pass
            except BaseException as error:
                self._error = error
            self.idle = True
            self._back.release()

    def run(self, work: Callable[[], None] | None) -> None:
        """Run `work`, or what waits, until it is done or waits for the network."""
        if work is not None:
            self._work = work
        self.idle = False
        self._go.release()
        self._back.acquire()
        if self._error:
            raise self._error

    def wait(self) -> None:
        """On the program's thread: let the life go on until it calls `run` again."""
        self._back.release()
        self._go.acquire()

    def close(self) -> None:
        """End the thread."""
        self._work = None
        self._go.release()
        self._thread.join()


@dataclass
class LifeNetwork:
    """The network of one station: an exchange ends when the life says so."""

    station: "Workstation"
    condition: str = "fine"
    replies: dict[str, Reply] = field(default_factory=dict)

    def exchange(self, request: Request, timeout_seconds: float, cancellation: Cancellation) -> Reply:
        station = self.station
        assert not station.worker.idle, "a call that the life did not expect"
        station.life.send(station, request, min(timeout_seconds, 10.0))
        station.worker.wait()
        result, station.result = station.result, None
        if station.crashed:
            raise CrashedError
        if isinstance(result, Reply):
            return result
        assert isinstance(result, Step)
        raise ExchangeError(result, "No reply came.")


class Workstation:
    """One computer with its program and its user."""

    def __init__(self, life: "Life", name: str, license: License) -> None:
        self.life = life
        self.name = name
        self.rng = random.Random(f"{life.seed} {name}")
        self.worker = Worker()
        self.computer = Computer(life.simulation, life.disk / name, name, f"{name}-pc.example.com", license)
        self.network = LifeNetwork(self)
        self.computer.network = self.network  # type: ignore[assignment]
        self.counts_sleep = self.rng.random() < 0.5
        self.asleep_since: float | None = None
        self.closing = self.crashed = self.in_exchange = False
        self.result: Reply | Step | None = None
        self.deferred: Reply | Step | None = None
        self.version = self.run_number = 0
        self.last_lease: Lease | None = None
        self.ran, self.looked_at, self.ran_when_looked_at = 0.0, life.clock.true, False

    def note_running(self) -> None:
        """Add the time since the last look to `ran`, if the program ran in it."""
        now = self.life.clock.true
        self.ran += (now - self.looked_at) * self.ran_when_looked_at
        self.looked_at, self.ran_when_looked_at = now, self.running

    @property
    def on(self) -> bool:
        """Whether its program is there."""
        return self.computer.engine is not None and not self.crashed

    @property
    def awake(self) -> bool:
        return self.asleep_since is None

    @property
    def running(self) -> bool:
        """Whether the program says now that it may run."""
        engine = self.computer.engine
        return (
            engine is not None
            and not self.closing
            and not self.crashed
            and self.awake
            and machine.judged(engine.state, engine.now()).status in RUNNING
        )

    def describe(self) -> str:
        engine = self.computer.engine
        if engine is None or self.crashed:
            return "off"
        state = engine.state
        lease = state.lease
        line = f"{state.status.value} {state.registered.value} {state.session_id[:4]}"
        if lease:
            line += f" lease {lease.session_id[:4]} iat {self.life.time(lease.issued_at)}"
            line += f" exp {self.life.time(lease.expires_at)} grace {lease.grace_seconds}"
            line += " borrowed" * lease.borrowed + f" offered {lease.offered is not None}"
        line += f" replaces {state.replaces} reason {state.reason.code.value if state.reason else None}"
        return f"{line} clock off by {engine.now() - self.life.clock.true:.0f}"


class Life:
    """Three days of two stations on one strict seat."""

    def __init__(self, service: LocalService, disk: Path, seed: int, **claims: Any) -> None:
        self.seed = seed
        self.service = service
        self.disk = disk
        self.rng = random.Random(f"life {seed}")
        self.clock = service.clock
        self.clock.true = BEGINNING
        self.claims = {
            "sub": factories.new_license_id(),
            "organization": {"id": factories.new_id("org"), "name": "Acme"},
            "seats": 1,
            "heartbeat": 2400,
            "lease": 7200,
            "borrow": 2 * int(DAY),
            "serial": 1,
            "exp": self.license_end(),
            **STRICT,
            **claims,
        }
        self.license = service.license(**self.claims)
        program = Program(issuer_keys(service.home))
        self.simulation = Simulation(disk, self.clock, self.license, service.handle, program)
        self.agenda: list[tuple[float, int, Callable[[], None]]] = []
        self.numbers = count()
        self.trace: list[str] = []
        self.events: Counter[str] = Counter()
        self.both: list[str] = []
        self.stations = (Workstation(self, "ann", self.license), Workstation(self, "bob", self.license))

    def license_end(self) -> int:
        """The end of a file that is issued now: within the life, or after it."""
        lasts = self.rng.choice((30 * DAY, self.rng.uniform(12 * HOUR, 2.5 * DAY)))
        return int(self.clock.true + lasts)

    # Telling.

    def time(self, seconds: float) -> str:
        return f"{(seconds - BEGINNING) / HOUR:.3f}h"

    def tell(self, station: Workstation | None, what: str) -> None:
        self.trace.append(f"{self.time(self.clock.true)} {station.name if station else '-'}: {what}")

    # The agenda.

    def at(self, time: float, action: Callable[[], None]) -> None:
        heapq.heappush(self.agenda, (max(time, self.clock.true), next(self.numbers), action))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        self.at(self.clock.true + seconds, action)

    def play(self, seconds: float = 3 * DAY) -> None:
        """Play the life. `both` says when two programs ran at once."""
        end = self.clock.true + seconds
        for station in self.stations:
            self.after(station.rng.uniform(0, 2 * HOUR), lambda station=station: self.start(station))  # type: ignore[misc]
        self.after(self.rng.expovariate(1 / (8 * HOUR)), self.administer)
        try:
            while self.agenda and self.agenda[0][0] < end and not self.both:
                time, _, action = heapq.heappop(self.agenda)
                self.clock.true = max(self.clock.true, time)
                action()
                self.look()
        finally:
            self.leave()

    def look(self) -> None:
        """Note how long each program has run, and whether both run now."""
        for station in self.stations:
            station.note_running()
            if station.computer.engine and station.computer.engine.state.lease:
                station.last_lease = station.computer.engine.state.lease
        if all(station.running for station in self.stations):
            self.both = [*self.trace[-80:], *(f"{station.name} {station.describe()}" for station in self.stations)]

    def leave(self) -> None:
        for station in self.stations:
            if not station.worker.idle:
                station.crashed = True
                station.worker.run(None)
            if station.computer.engine:
                station.computer.crash()
            station.worker.close()

    # The program's steps.

    def run(self, station: Workstation, work: Callable[[], None] | None) -> None:
        """Let a program work until it is done or waits for its network."""
        station.worker.run(work)

    def schedule_step(self, station: Workstation, seconds: float) -> None:
        station.version += 1
        version = station.version
        self.after(max(seconds, 0.001), lambda: self.step(station, version))

    def step(self, station: Workstation, version: int) -> None:
        engine = station.computer.engine
        if version != station.version or engine is None or not station.awake or not station.worker.idle:
            return
        state, now = engine.state, engine.now()
        calls = state.call_at is not None and (now >= state.call_at or now - state.seen_at > machine.POLL_SECONDS + 1)
        if not calls and not machine.loses_to_end(state, now):
            before = engine.state.status
            self.schedule_step(station, engine.step())
            self.stepped(station, before)
            return

        def work() -> None:
            before = engine.state.status
            pause = engine.step()
            self.schedule_step(station, pause)
            self.stepped(station, before)

        self.run(station, work)

    def stepped(self, station: Workstation, before: Status) -> None:
        """What the user does about the program's new status."""
        engine = station.computer.engine
        assert engine
        status = engine.state.status
        if status is before:
            return
        reason = engine.state.reason
        self.events[status.value] += 1
        self.tell(station, f"is {status.value} {reason.code.value if reason else ''}")
        run = station.run_number
        if status is Status.REFUSED:
            seconds = station.rng.choice((1.0, 1.0, 100.0, 8 * MINUTE))
            self.after(seconds, lambda: self.end(station, run, "gives up"))
        elif status is Status.LOST:
            if station.rng.random() < 0.3:
                self.after(station.rng.uniform(1, 300), lambda: self.retry(station, run))
            self.after(station.rng.uniform(60, 20 * MINUTE), lambda: self.end(station, run, "saved"))

    def retry(self, station: Workstation, run: int) -> None:
        engine = station.computer.engine
        if engine and station.run_number == run and station.worker.idle and station.awake and not station.closing:
            engine.retry()
            self.tell(station, "tries again by hand")
            self.schedule_step(station, 0)

    # The network.

    def send(self, station: Workstation, request: Request, timeout: float) -> None:
        """A program has sent a request. Schedules what the service gets, and what the program hears."""
        rng, network = station.rng, station.network
        condition, now = network.condition, self.clock.true
        arrives = now + rng.uniform(0, 0.3)
        kind = f"{request.method} {request.url.rpartition('/')[2][:9]}"
        self.events[f"call {condition}"] += 1
        run = station.run_number

        def hear(what: Reply | Step) -> None:
            self.after(rng.uniform(0, 0.3), lambda: self.hear(station, run, what))

        def deliver() -> None:
            reply = self.service.handle(request)
            self.tell(station, f"{kind} under {condition}: {reply.status}")
            network.replies.setdefault(request.method, reply)
            if condition == "garbled":
                reply = Reply(reply.status, reply.headers, reply.body.replace(b"e", b"\x00", 3))
            if condition == "cut":
                reply = Reply(reply.status, reply.headers, reply.body[: len(reply.body) // 2])
            if condition not in ("reply-lost", "late"):
                hear(reply)

        def deliver_again() -> None:
            reply = self.service.handle(request)
            self.tell(station, f"{kind} arrives {condition}: {reply.status}")

        if condition in ("hang", "reply-lost", "late"):
            self.at(now + timeout, lambda: self.hear(station, run, Step.SERVICE))
        if condition in ("late", "twice"):
            self.at(now + timeout + self.span(rng, 1, 10 * MINUTE), deliver_again)
        if condition == "down":
            self.after(rng.choice((0.1, timeout)), lambda: self.hear(station, run, Step.CONNECT))
        elif condition == "portal":
            hear(PORTAL)
        elif condition == "replay" and request.method in network.replies:
            hear(network.replies[request.method])
        elif condition not in ("hang", "late"):
            self.at(arrives, deliver)

    def hear(self, station: Workstation, run: int, what: Reply | Step) -> None:
        """The program's exchange is over. A computer that sleeps hears of it when it wakes."""
        if station.run_number != run or station.worker.idle:
            return
        if not station.awake:
            station.deferred = what
            return
        station.result = what
        self.run(station, None)

    # What users do and suffer.

    def span(self, rng: random.Random, least: float, most: float) -> float:
        """A time between two, short ones as likely as long ones."""
        return math.exp(rng.uniform(math.log(least), math.log(most)))

    def start(self, station: Workstation) -> None:
        if station.computer.engine is not None or not station.worker.idle:
            return
        rng = station.rng
        station.computer.clock.skew = 0.0
        station.crashed = station.closing = False
        station.run_number += 1
        if station.computer.license is not self.license and rng.random() < 0.7:
            station.computer.license = self.license
        borrow = self.borrowing(station)
        wait = rng.random() < 0.4
        self.events["start"] += 1
        self.tell(station, f"starts{f', borrowing {borrow}' if borrow else ''}")
        self.run(station, lambda: self.open(station, wait=wait, borrow_seconds=borrow))
        run = station.run_number
        self.after(self.span(rng, 30 * MINUTE, 40 * HOUR), lambda: self.end(station, run, "ends"))
        self.after(rng.expovariate(1 / (1.5 * HOUR)), lambda: self.disturb(station, run))

    def open(self, station: Workstation, *, wait: bool, borrow_seconds: int) -> None:
        """Start the program. It may ask for a newer license file before it is refused for the end of its own."""
        station.computer.start(wait=wait, borrow_seconds=borrow_seconds, seed=self.seed)
        if station.computer.refusal:
            self.events["expired"] += 1
            self.tell(station, f"is not started: {station.computer.refusal.code.value}")
            self.start_again(station, 30)
        else:
            self.schedule_step(station, 0)

    def borrowing(self, station: Workstation) -> int:
        """For how long the next start borrows the seat."""
        return int(self.span(station.rng, HOUR, 2 * DAY)) if station.rng.random() < 0.1 else 0

    def other(self, station: Workstation) -> Workstation:
        return self.stations[0] if station is self.stations[1] else self.stations[1]

    def start_again(self, station: Workstation, soon: float) -> None:
        """Some time later, or the moment at which the other's seat is most likely to be given away."""
        rng = station.rng
        later = self.clock.true + self.span(rng, soon, 16 * HOUR)
        if station.network.condition != "fine" and rng.random() < 0.3:
            later = self.clock.true + rng.uniform(9 * HOUR, 15 * HOUR)
        lease = self.other(station).last_lease
        if lease and rng.random() < 0.5:
            held, leased = lease.issued_at + self.claims["hold"], lease.issued_at + self.claims["lease"]
            coming = [moment for moment in (held, held, leased, lease.expires_at) if moment > self.clock.true + soon]
            later = rng.choice(coming) + rng.uniform(0, 90) if coming else later
        self.at(later, lambda: self.start(station))

    def end(self, station: Workstation, run: int, why: str) -> None:
        engine = station.computer.engine
        if station.run_number != run or engine is None or station.closing:
            return
        if not station.awake or not station.worker.idle:
            self.after(30, lambda: self.end(station, run, why))
            return
        self.events["end"] += 1
        self.tell(station, why)
        station.closing = True

        def work() -> None:
            station.computer.stop()
            self.start_again(station, 30)

        self.run(station, work)

    def crash(self, station: Workstation) -> None:
        self.events["crash"] += 1
        self.tell(station, "crashes" if station.worker.idle else "crashes during a call")
        station.crashed = True
        if not station.worker.idle:
            self.run(station, None)
        if station.computer.engine:
            station.computer.crash()
        station.deferred = None
        station.version += 1
        station.run_number += 1
        self.start_again(station, 5)

    def disturb(self, station: Workstation, run: int) -> None:
        if station.run_number != run or station.computer.engine is None:
            return
        self.after(station.rng.expovariate(1 / (1.5 * HOUR)), lambda: self.disturb(station, run))
        if not station.awake:
            return
        kind = station.rng.choices(
            ("network", "sleep", "crash", "clock", "borrow", "call", "bad luck"), weights=(5, 4, 3, 3, 2, 2, 6)
        )[0]
        self.events[kind] += kind != "crash"
        if kind == "network":
            self.disturb_network(station)
        elif kind == "sleep":
            self.sleep(station)
        elif kind == "crash":
            self.crash(station)
        elif kind == "clock":
            self.set_clock(station)
        elif kind == "borrow":
            self.borrow(station)
        elif kind == "bad luck":
            self.have_bad_luck(station, run)
        else:  # at the next call: sleep or crash in the middle of it
            self.wait_for_call(station, run, station.rng.choice((self.sleep, self.crash)))

    def wait_for_call(
        self, station: Workstation, run: int, then: Callable[[Workstation], None], tries: int = 5000
    ) -> None:
        if station.run_number != run or station.computer.engine is None or not tries:
            return
        if station.awake and not station.worker.idle:
            then(station)
            return
        state = station.computer.engine.state
        due = (state.call_at or 0) - station.computer.engine.now()
        pause = due + 0.15 if 1 < due < HOUR else station.rng.uniform(0.05, 0.3)
        self.after(pause, lambda: self.wait_for_call(station, run, then, tries - 1))

    def disturb_network(self, station: Workstation) -> None:
        station.network.condition = station.rng.choice(("down", "down", *CONDITIONS))
        lasts = self.span(station.rng, 60, 30 * HOUR)
        condition = station.network.condition
        self.tell(station, f"network {condition} for {lasts / HOUR:.2f}h")
        self.after(lasts, lambda: self.clear(station, condition))

    def clear(self, station: Workstation, condition: str) -> None:
        if station.network.condition == condition:
            self.tell(station, "network fine")
            station.network.condition = "fine"

    def sleep(self, station: Workstation) -> None:
        lasts = (
            self.span(station.rng, 60, 16 * HOUR)
            if station.rng.random() < 0.6
            else station.rng.uniform(9 * HOUR, 16 * HOUR)
        )
        self.tell(station, f"sleeps for {lasts / HOUR:.2f}h{'' if station.worker.idle else ' during a call'}")
        station.asleep_since = self.clock.true
        self.after(lasts, lambda: self.wake(station))

    def wake(self, station: Workstation) -> None:
        assert station.asleep_since is not None
        if not station.counts_sleep:
            station.computer.clock.slept += self.clock.true - station.asleep_since
        station.asleep_since = None
        station.computer.clock.skew = 0.0
        self.tell(station, "wakes")
        if station.rng.random() < 0.3:
            station.network.condition = "fine"
        if station.worker.idle:
            self.schedule_step(station, 0)
        elif station.deferred is not None:
            what, station.deferred = station.deferred, None
            run = station.run_number
            what = what if station.rng.random() < 0.5 else Step.SERVICE
            self.after(0.05, lambda: self.hear(station, run, what))

    def set_clock(self, station: Workstation) -> None:
        station.computer.clock.skew = station.rng.choice((-1, 1)) * self.span(station.rng, 30, 2 * DAY)
        if station.rng.random() < 0.3:
            station.computer.clock.skew = 0.0
        self.tell(station, f"clock off by {station.computer.clock.skew / HOUR:.2f}h")

    def have_bad_luck(self, station: Workstation, run: int) -> None:
        """A clock is wrong when a lease is granted; then the network goes, and the program sleeps or starts again."""
        rng = station.rng
        station.computer.clock.skew = rng.choice((0, 1, 1, 1, -1)) * rng.uniform(0, 12 * HOUR)
        self.tell(station, f"clock off by {station.computer.clock.skew / HOUR:.2f}h")

        def unplug() -> None:
            if station.run_number != run or not station.on:
                return
            if rng.random() < 0.3:
                self.set_clock(station)
            station.network.condition = rng.choice(("down", "hang", "late"))
            self.tell(station, f"network {station.network.condition}")
            condition = station.network.condition
            self.after(self.span(rng, 8 * HOUR, 40 * HOUR), lambda: self.clear(station, condition))
            then = rng.choice((self.sleep, self.crash, lambda station: self.end(station, run, "ends")))

            def suffer() -> None:
                if station.run_number == run and station.awake:
                    then(station)

            self.after(self.span(rng, 60, 2 * HOUR), suffer)

        self.after(self.claims["heartbeat"] + 10, unplug)

    def borrow(self, station: Workstation) -> None:
        engine = station.computer.engine
        assert engine
        if not station.worker.idle or station.closing:
            return
        seconds = station.rng.choice((0, int(self.span(station.rng, HOUR, 2 * DAY))))
        taken = engine.borrow(seconds)
        self.tell(station, f"borrows {seconds}: {taken}")
        self.schedule_step(station, 0)

    def administer(self) -> None:
        """The vendor renews the license, or recalls a seat, or sweep runs."""
        rng = self.rng
        self.after(rng.expovariate(1 / (8 * HOUR)), self.administer)
        ended = self.clock.true >= self.license.valid_until
        kind = "renew" if ended else rng.choice(("renew", "recall", "recall", "sweep"))
        self.events[kind] += 1
        if kind == "renew":
            self.claims["serial"] += 1
            self.claims["grace"] = rng.choice((43200, 43200, 21600))
            self.claims["hold"] = self.claims["grace"] + 60
            self.claims["exp"] = self.license_end()
            self.license = self.service.license(**self.claims)
            self.tell(None, f"renewal {self.claims['serial']}, grace {self.claims['grace']}")
            if rng.random() < 0.7:
                self.events["publish"] += 1
                self.tell(None, f"is published: {self.service.publish(self.license)}")
        elif kind == "sweep":
            self.tell(None, "sweep")
            self.service.sweep(self.license)
        else:
            station = rng.choice(self.stations)
            lease = station.computer.engine.state.lease if station.computer.engine else None
            if lease:
                self.tell(station, f"is recalled: {lease.session_id[:4]}")
                self.service.recall(self.license, lease.session_id)


class LifeWithoutHold(Life):
    """Two programs on one seat without a hold: they start, end, and are out of reach. In the end all are heard again.

    So the register can know all times: nothing crashes or sleeps, no clock is wrong, and no answer is lost.
    """

    def __init__(self, service: LocalService, disk: Path, seed: int) -> None:
        super().__init__(service, disk, seed, hold=0, heartbeat=1200, lease=3600, exp=int(BEGINNING + 30 * DAY))
        self.over = False

    def play(self, seconds: float = 3 * DAY) -> None:
        """Play the life, then a last hour on a good network."""
        self.after(seconds, self.finish)
        super().play(seconds + HOUR)

    def look(self) -> None:
        super().look()
        self.events["both"] += bool(self.both)
        self.both = []

    def finish(self) -> None:
        """The network is fine, and everybody says once more what there is to say."""
        self.over = True
        for station in self.stations:
            station.network.condition = "fine"
            if station.computer.engine is None:
                super().start(station)
            run = station.run_number
            self.after(20 * MINUTE, lambda station=station, run=run: self.end(station, run, "goes home"))  # type: ignore[misc]

    def start(self, station: Workstation) -> None:
        """Start within reach: a second run in grace on one lease says only until when it ran, and not since when."""
        if station.network.condition != "fine":
            self.after(5 * MINUTE, lambda: self.start(station))
        elif not self.over:
            super().start(station)

    def borrowing(self, station: Workstation) -> int:
        return 0

    def end(self, station: Workstation, run: int, why: str) -> None:
        """End, but not out of reach within a lease: then the seat is held after the program has ended."""
        engine = station.computer.engine
        lease = engine.state.lease if engine else None
        if station.network.condition != "fine" and lease and self.clock.true < lease.expires_at + 1:
            self.after(MINUTE, lambda: self.end(station, run, why))
        else:
            super().end(station, run, why)

    def disturb(self, station: Workstation, run: int) -> None:
        if station.run_number == run and not self.over and station.network.condition == "fine":
            lasts = self.span(station.rng, 10 * MINUTE, 30 * HOUR)
            self.tell(station, f"network down for {lasts / HOUR:.2f}h")
            station.network.condition = "down"
            self.after(lasts, lambda: self.clear(station, "down"))
        if station.run_number == run and not self.over:
            self.after(station.rng.expovariate(1 / (1.5 * HOUR)), lambda: self.disturb(station, run))

    def administer(self) -> None:
        """Only sweep runs."""
        self.service.sweep(self.license)
        self.after(self.rng.expovariate(1 / (2 * HOUR)), self.administer)
