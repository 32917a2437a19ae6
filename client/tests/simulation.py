"""A simulation in which the tests set the time: programs on computers, a network with faults, and the service.

`simulate_day` plays a working day: many programs on few seats, with crashes, sleeping computers and network outages.
It checks at every step what the protocol promises (docs/protocol.md).
"""

import errno
import heapq
import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from factories import NOW, license_of, program
from licensing_client.engine import FETCH_SECONDS, Engine
from licensing_client.errors import ExchangeError, Step
from licensing_client.fetched_files import FetchedFilesStore
from licensing_client.identity import Names
from licensing_client.license import License, Program
from licensing_client.license_files import LicenseFiles, kept_license_files
from licensing_client.machine import State, Status
from licensing_client.reasons import Code, Reason
from licensing_client.service import Service
from licensing_client.state_files import StateFiles, computer_hash
from licensing_client.transport import Cancellation, Reply, Request
from reference_service import ReferenceService

PORTAL = Reply(200, {"content-type": "text/html"}, b"<html>Welcome to the hotel</html>")
REDIRECT = Reply(302, {"location": "https://portal.example.com/"}, b"")
Handle = Callable[[Request], Reply]


@dataclass
class SimulatedClock:
    """The true time, which the service uses."""

    true: float = float(NOW)

    def __call__(self) -> float:
        return self.true


@dataclass
class ComputerClock:
    """A computer's two clocks: a wall clock that users set, and a monotonic one that stops during sleep."""

    true_clock: SimulatedClock
    skew: float = 0.0
    slept: float = 0.0

    def wall(self) -> float:
        return self.true_clock.true + self.skew

    def monotonic(self) -> float:
        return self.true_clock.true - self.slept


def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk has no locks."""
    if sys.platform == "win32":
        pytest.skip("flock is POSIX")

    def refuse(_file: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)


@dataclass
class Network:
    """Carries exchanges under a condition.

    `outcomes`: the result of each call, None if it was not the service's own reply; without those for newer files.
    `condition`: fine, down, reply-lost, portal, redirect, garbled, cut, replay (the first reply to a call of this
    kind), or stolen (an impostor answers).
    """

    handle: Handle
    condition: str = "fine"
    calls: list[tuple[float, str]] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    outcomes: list[tuple[float, Reply | None]] = field(default_factory=list)
    clock: Callable[[], float] = lambda: 0.0
    replies: dict[str, Reply] = field(default_factory=dict)
    impostor: Handle | None = None

    def exchange(self, request: Request, timeout_seconds: float, cancellation: Cancellation) -> Reply:
        outcome: Reply | None = None
        try:
            reply = self._carry(request)
            outcome = reply if self.condition == "fine" else None
        finally:
            if not request.url.endswith("/licenses/current"):
                self.outcomes.append((self.clock(), outcome))
        return reply

    def answer_once(self, method: str, reply: Reply) -> list[Request]:
        """Answer the next request of a method with a reply in place of the service; the request, once it has come."""
        real, answered = self.handle, list[Request]()

        def once(request: Request) -> Reply:
            if request.method != method or answered:
                return real(request)
            answered.append(request)
            return reply

        self.handle = once
        return answered

    def _carry(self, request: Request) -> Reply:
        self.calls.append((self.clock(), request.method))
        self.urls.append(request.url)
        if self.condition == "down":
            raise ExchangeError(Step.CONNECT, "The cable is out.")
        if self.condition == "portal":
            return PORTAL
        if self.condition == "redirect":
            return REDIRECT
        if self.condition == "replay" and request.method in self.replies:
            return self.replies[request.method]
        if self.condition == "stolen" and self.impostor:
            return self.impostor(request)
        reply = self.handle(request)
        self.replies.setdefault(request.method, reply)
        if self.condition == "reply-lost":
            raise ExchangeError(Step.SERVICE, "The reply did not come.")
        if self.condition == "garbled":
            return Reply(reply.status, reply.headers, reply.body.replace(b"e", b"\x00", 3))
        if self.condition == "cut":
            return Reply(reply.status, reply.headers, reply.body[: len(reply.body) // 2])
        return reply


class Computer:
    """One user on one computer, with its own disk, clocks and network."""

    def __init__(
        self,
        simulation: "Simulation",
        disk: Path,
        user: str = "ann",
        host: str = "desk.example.com",
        license: License | None = None,
        program: Program | None = None,
    ) -> None:
        self.simulation = simulation
        self.disk = disk
        self.license = license or simulation.license
        self.program = program or simulation.program
        self.names = Names(user, (host,))
        self.clock = ComputerClock(simulation.clock)
        self.network = Network(simulation.handle, clock=simulation.clock)
        self.notices: list[str] = []
        self.states: list[State] = []
        self.places: list[tuple[int | None, int]] = []
        self.engine: Engine | None = None
        self.refusal: Reason | None = None

    @property
    def store(self) -> FetchedFilesStore:
        return FetchedFilesStore(self.license, self.program.keys(), self.disk)

    @property
    def license_files(self) -> LicenseFiles:
        """The license files: those of the running program, or those on its disk."""
        return self.engine.files if self.engine else kept_license_files(self.license, self.store)

    @property
    def files(self) -> StateFiles:
        license = kept_license_files(self.license, self.store).as_used()
        return StateFiles(license, computer_hash(self.names, self.license.salt), self.disk)

    @property
    def status(self) -> Status:
        assert self.engine
        return self.engine.state.status

    def has_status(self, status: Status) -> bool:
        return self.status is status

    @property
    def running(self) -> bool:
        return self.engine is not None and self.status in (Status.GRANTED, Status.GRACE)

    def start(self, *, wait: bool = False, borrow_seconds: int = 0, seed: int = 1) -> "Computer":
        """Start the program. `refusal` says why no license file covers it; then there is no engine."""
        self.store.remove_older()
        file = self.files.acquire(self.clock.wall)
        person = self.names.person(self.license.salt, self.license.hosts)
        self._was_running = False
        engine = Engine(
            kept_license_files(self.license, self.store),
            self.program,
            Service(self.license, person, self.network),
            file,
            file.read(),
            self.clock,
            self._notify,
            notify_line=lambda state: self.places.append((state.position, state.waiting)),
            store=self.store,
            wait=wait,
            borrow_seconds=borrow_seconds,
            rng=random.Random(f"{seed} {self.names.user} {self.simulation.clock.true}"),  # noqa: S311 — no secret
        )
        self.file = file
        self.refusal = engine.refusal(FETCH_SECONDS)
        self.engine = None if self.refusal else engine
        if self.refusal:
            self.notices.append(Status.REFUSED.value)
            file.release()
        return self

    on_notice: Callable[[State], object] = staticmethod(lambda _state: None)

    def _notify(self, state: State) -> None:
        self.states.append(state)
        self.notices.append(state.status.value)
        self.on_notice(state)

    def run(self, seconds: float) -> "Computer":
        """Let so much time pass."""
        end = self.simulation.clock.true + seconds
        busy_steps = 0
        while self.engine:
            pause = max(self.engine.step(), 0.001)
            busy_steps = busy_steps + 1 if pause < 0.01 else 0
            assert busy_steps < 100, "the client spins"
            if self.simulation.clock.true + pause > end:
                break
            self.simulation.clock.true += pause
        self.simulation.clock.true = end
        if self.engine:
            self.engine.step()
        return self

    def sleep(self, seconds: float) -> "Computer":
        """The computer sleeps."""
        self.simulation.clock.true += seconds
        self.clock.slept += seconds
        return self

    def stop(self) -> "Computer":
        """The program ends in order."""
        assert self.engine
        self.engine.close(1.0)
        self.engine = None
        return self

    def crash(self) -> "Computer":
        """The power fails: the system frees the lock, and nothing else happens."""
        self.file.release()
        self.engine = None
        return self


class Simulation:
    """What computers share: the time, a license, and the service that answers their calls."""

    def __init__(
        self, disk: Path, clock: SimulatedClock, license: License, handle: Handle, program: Program | None = None
    ) -> None:
        """`program`: what runs on the computers. By default it trusts no license file that the service sends."""
        self.disk = disk
        self.program = program or Program(())
        self.clock = clock
        self.license = license
        self.handle = handle

    def computer(self, user: str = "ann", license: License | None = None) -> Computer:
        return Computer(self, self.disk / user, user, f"{user}-pc.example.com", license)


class ReferenceSimulation(Simulation):
    """A simulation with the reference service."""

    def __init__(self, disk: Path, **claims: object) -> None:
        clock = SimulatedClock()
        self.service = ReferenceService(clock)
        super().__init__(disk, clock, license_of(**claims), self.service.handle, program())

    def seats_of(self, computer: Computer) -> int:
        """How many seats the service holds for one computer."""
        person = computer.names.person(computer.license.salt, computer.license.hosts)
        return sum(row.host == person.host for row in self.service.active.values())


OFFICE_HOURS = 8 * 3600.0
CONDITIONS = ("down", "reply-lost", "portal", "garbled", "cut")


@dataclass
class Worker:
    """A user with a computer and a plan for the day."""

    computer: Computer
    rng: random.Random
    starts_at: float
    works_until: float = 0.0
    trouble_at: float = 0.0
    clears_at: float = 0.0
    next_step: float = 0.0
    asleep_until: float = 0.0
    active_at: float = 0.0  # when its user works again; 0 while nobody is away
    outcomes_at_change: int = 0  # outcomes before the last change of plan; an early call is fair after it

    def snapshot(self) -> tuple[int, Status | None]:
        """Changes whenever the seat does."""
        return len(self.computer.network.outcomes), self.computer.status if self.computer.engine else None


@dataclass
class DayResult:
    """What happened."""

    starts: int = 0
    served: int = 0
    events: Counter[str] = field(default_factory=Counter)
    peak_granted: int = 0
    peak_running: int = 0
    too_often: list[str] = field(default_factory=list)
    wrongly_stopped: list[str] = field(default_factory=list)


def required_pause(computer: Computer, failures: int) -> float:
    """The shortest time that the client has to wait after its last outcome."""
    _, reply = computer.network.outcomes[-1]
    if reply is not None and reply.status == 409:
        return float(reply.headers["retry-after"]) if computer.status is not Status.GRANTED else 0.0
    if reply is not None and reply.status in (200, 201):
        state = computer.engine.state if computer.engine else None
        if state and state.lease and state.lease.offered is not None:
            return 0.0  # it is confirmed at once
        return 0.8 * heartbeat_interval(computer, reply)
    return min(2.0 ** (failures - 1), 300.0) * 0.5 if failures else 0.0


def heartbeat_interval(computer: Computer, reply: Reply) -> float:
    """The heartbeat interval after a grant, before jitter shortens it."""
    asked = float(json.loads(reply.body)["heartbeat_seconds"])
    assert computer.engine
    lease = computer.engine.state.lease
    if lease and lease.expires_at < computer.license.valid_until:
        asked = min(asked, (lease.expires_at - lease.issued_at) / 2)
    return max(asked, 1.0)


def simulate_day(
    computers: Sequence[Computer],
    clock: SimulatedClock,
    in_use: Callable[[], int],
    seats: int,
    seed: int,
    hours: float = OFFICE_HOURS,
    *,
    strict: bool = False,
    idle: bool = False,
) -> DayResult:
    """Simulate a working day. An assertion fails if an invariant is violated at any step.

    `strict`: the license has a hold, so no more programs run than there are seats, and users borrow and return.
    `idle`: users pause, and their programs say so.
    """
    rng = random.Random(seed)  # noqa: S311 — no secret
    begin, end = clock.true, clock.true + hours
    workers = [
        Worker(computer, random.Random(f"{seed} {number}"), begin + rng.uniform(0, hours / 4))  # noqa: S311
        for number, computer in enumerate(computers)
    ]
    result = DayResult()
    agenda = [(worker.starts_at, number) for number, worker in enumerate(workers)]
    heapq.heapify(agenda)
    while agenda[0][0] < end:
        at, number = agenda[0]
        worker = workers[number]
        clock.true = max(clock.true, at)
        before = worker.snapshot()
        _advance(worker, clock, result, strict=strict, idle=idle)
        heapq.heapreplace(agenda, (worker.next_step if worker.computer.engine else worker.starts_at, number))
        if worker.snapshot() == before:
            continue
        granted = sum(_holds_a_lease(each, clock.true) for each in workers)
        result.peak_granted = max(result.peak_granted, granted)
        assert granted <= seats, f"{granted} programs hold a lease on {seats} seats"
        assert in_use() <= seats
        running = sum(_runs(each, clock.true) for each in workers) if strict else 0
        result.peak_running = max(result.peak_running, running)
        assert running <= seats, f"{running} programs run on {seats} seats"
    clock.true = end
    for worker in workers:
        if worker.computer.engine:
            worker.computer.network.condition = "fine"
            worker.computer.stop()
    return result


def _holds_a_lease(worker: Worker, now: float) -> bool:
    """Whether a program runs on a lease, rightly or not. During sleep it does not run."""
    if worker.computer.engine is None or not worker.computer.has_status(Status.GRANTED):
        return False
    lease = worker.computer.engine.state.lease
    late = lease is not None and now > lease.expires_at + 1
    return lease is None or now < lease.expires_at or (late and now >= worker.next_step)


def _runs(worker: Worker, now: float) -> bool:
    """Whether a program runs, on a lease or in grace. During sleep it does not."""
    return worker.computer.running and worker.asleep_until < now


def _advance(worker: Worker, clock: SimulatedClock, result: DayResult, *, strict: bool, idle: bool) -> None:
    computer, rng, now = worker.computer, worker.rng, clock.true
    if computer.engine is None:
        result.starts += 1
        computer.start(wait=rng.random() < 0.5, seed=rng.randrange(10**6))
        worker.works_until = now + rng.uniform(1800, 3 * 3600)
        worker.trouble_at = now + rng.expovariate(1 / 3600)
        worker.outcomes_at_change = len(computer.network.outcomes)
        if computer.refusal is not None:
            assert computer.network.condition != "fine", computer.refusal
            worker.starts_at = now + rng.uniform(600, 3600)
            return
    elif now >= worker.works_until:
        _end_run(worker, clock, result, crashed=False)
        return
    elif now >= worker.trouble_at:
        _disturb(worker, clock, result, strict=strict, idle=idle)
        if computer.engine is None:
            return
    if computer.network.condition != "fine" and now >= worker.clears_at:
        computer.network.condition = "fine"
    if computer.engine and 0 < worker.active_at <= now:
        result.events["back"] += computer.has_status(Status.GIVEN_BACK)
        computer.engine.active()
        worker.active_at, worker.next_step = 0.0, now
        worker.outcomes_at_change = len(computer.network.outcomes)
    _step(worker, clock, result)


def _disturb(worker: Worker, clock: SimulatedClock, result: DayResult, *, strict: bool, idle: bool) -> None:
    computer, rng = worker.computer, worker.rng
    worker.trouble_at = clock.true + rng.expovariate(1 / 3600)
    kinds = ("crash", "sleep", "network", *(("trade",) if strict else ()), *(("idle", "idle", "idle") if idle else ()))
    kind = rng.choice(kinds)
    result.events[kind] += 1
    if kind == "crash":
        _end_run(worker, clock, result, crashed=True)
    elif kind == "sleep":
        asleep = rng.uniform(120, 3600)
        computer.clock.slept += asleep  # it does nothing until it wakes
        worker.next_step = worker.asleep_until = clock.true + asleep
        worker.outcomes_at_change = len(computer.network.outcomes)
    elif kind == "idle":
        assert computer.engine
        computer.engine.idle()
        worker.active_at, worker.next_step = clock.true + rng.uniform(60, 3600), clock.true
    elif kind == "trade":
        assert computer.engine
        computer.engine.borrow(rng.choice((0, 7200)))
        worker.next_step = clock.true
        worker.outcomes_at_change = len(computer.network.outcomes)
    else:
        computer.network.condition = rng.choice(CONDITIONS)
        worker.clears_at = clock.true + rng.uniform(60, 5400)


def _end_run(worker: Worker, clock: SimulatedClock, result: DayResult, *, crashed: bool) -> None:
    computer, rng = worker.computer, worker.rng
    result.served += "granted" in computer.notices or "grace" in computer.notices
    assert computer.notices, "somebody was neither served nor given a reason"
    computer.notices.clear()
    worker.active_at = 0.0
    if crashed:
        computer.crash()
        worker.starts_at = clock.true + rng.uniform(20, 300)
    else:
        computer.stop()
        worker.starts_at = clock.true + rng.uniform(600, 3600)


def _step(worker: Worker, clock: SimulatedClock, result: DayResult) -> None:
    computer = worker.computer
    if computer.engine is None or worker.next_step > clock.true:
        return
    outcomes = computer.network.outcomes
    before, unconfirmed, failures = len(outcomes), computer.engine.state.unconfirmed, computer.engine.state.failures
    was = computer.status
    min_pause = (
        required_pause(computer, failures) if before > worker.outcomes_at_change and unconfirmed is None else 0.0
    )
    last = outcomes[-1][0] if outcomes else 0.0
    pause = computer.engine.step()
    if computer.has_status(Status.GIVEN_BACK) and was is not Status.GIVEN_BACK:
        min_pause = 0.0  # the end is sent at once
    if len(outcomes) > before and clock.true - last < min_pause - 0.01:
        result.too_often.append(f"{clock.true - last:.1f} s after the last call, {min_pause:.1f} s were min_pause")
    state = computer.engine.state
    if (
        state.status is Status.LOST
        and was is not Status.LOST
        and state.reason
        and state.reason.code is not Code.NO_SEAT
    ):
        result.wrongly_stopped.append(state.reason.code.value)
    worker.next_step = clock.true + max(pause, 0.001)
