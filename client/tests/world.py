"""A world in which time is told, not waited for: programs on computers, a network with weather, and the service."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from licensing_client.engine import Engine
from licensing_client.errors import NoExchange, Step
from licensing_client.identity import Names
from licensing_client.license import FLOATING, License
from licensing_client.machine import State, Status, Terms
from licensing_client.memory import Slots
from licensing_client.service import Service
from licensing_client.transport import Line, Reply, Request
from makers import NOW, license_of
from reference import ReferenceService

PORTAL = Reply(200, {"content-type": "text/html"}, b"<html>Welcome to the hotel</html>")
REDIRECT = Reply(302, {"location": "https://portal.example.com/"}, b"")
Handle = Callable[[Request], Reply]


@dataclass
class WorldClock:
    """The true time, which the service goes by."""

    true: float = float(NOW)

    def __call__(self) -> float:
        return self.true


@dataclass
class ComputerClock:
    """A computer's two clocks: one that people set, one that stands still while it sleeps."""

    world: WorldClock
    skew: float = 0.0
    slept: float = 0.0

    def wall(self) -> float:
        return self.world.true + self.skew

    def monotonic(self) -> float:
        return self.world.true - self.slept


@dataclass
class Network:
    """Carries exchanges as the weather has it, and writes down every byte that a listener would see.

    `outcomes` are what came of each call; None where it was not what the service had said. `weather`: fine, down,
    reply-lost, portal, redirect, garbled, cut, replay (the first reply to this kind of call), or stolen (a server of
    somebody else's).
    """

    handle: Handle
    weather: str = "fine"
    seen: list[bytes] = field(default_factory=list)
    calls: list[tuple[float, str]] = field(default_factory=list)
    outcomes: list[tuple[float, Reply | None]] = field(default_factory=list)
    clock: Callable[[], float] = lambda: 0.0
    replies: dict[str, Reply] = field(default_factory=dict)
    thief: Handle | None = None

    def exchange(self, request: Request, seconds: float, line: Line) -> Reply:
        try:
            reply = self._carry(request)
        except NoExchange:
            self.outcomes.append((self.clock(), None))
            raise
        self.outcomes.append((self.clock(), reply if self.weather == "fine" else None))
        return reply

    def _carry(self, request: Request) -> Reply:
        self.calls.append((self.clock(), request.method))
        self.seen += [request.url.encode(), repr(sorted(request.headers.items())).encode(), request.body]
        if self.weather == "down":
            raise NoExchange(Step.CONNECT, "The cable is out.")
        if self.weather == "portal":
            return PORTAL
        if self.weather == "redirect":
            return REDIRECT
        if self.weather == "replay" and request.method in self.replies:
            return self.replies[request.method]
        if self.weather == "stolen" and self.thief:
            return self.thief(request)
        reply = self.handle(request)
        self.replies.setdefault(request.method, reply)
        self.seen.append(reply.body)
        if self.weather == "reply-lost":
            raise NoExchange(Step.SERVICE, "The reply did not come.")
        if self.weather == "garbled":
            return Reply(reply.status, reply.headers, reply.body.replace(b"e", b"\x00", 3))
        if self.weather == "cut":
            return Reply(reply.status, reply.headers, reply.body[: len(reply.body) // 2])
        return reply


class Computer:
    """One user on one computer, with its own disk, clocks and network."""

    def __init__(
        self,
        world: "World",
        disk: Path,
        user: str = "ann",
        host: str = "desk.example.com",
        license: License | None = None,
    ) -> None:
        self.world = world
        self.disk = disk
        self.license = license or world.license
        self.names = Names(user, (host,))
        self.clock = ComputerClock(world.clock)
        self.network = Network(world.handle, clock=world.clock)
        self.heard: list[str] = []
        self.states: list[State] = []
        self.engine: Engine | None = None

    @property
    def status(self) -> Status:
        assert self.engine
        return self.engine.state.status

    def stands(self, status: Status) -> bool:
        return self.status is status

    @property
    def running(self) -> bool:
        return self.engine is not None and self.status in (Status.GRANTED, Status.GRACE)

    def start(self, *, wait: bool = False, borrow: int = 0, seed: int = 1) -> "Computer":
        slot = Slots(self.license, self.disk).take()
        person = self.names.person(self.license.salt, self.license.hosts)
        self._was_running = False
        self.engine = Engine(
            self.license,
            Service(self.license, person, self.network),
            slot,
            slot.read(),
            self.clock,
            self._hear,
            terms=Terms(self.license.valid_until, self.license.kind == FLOATING, wait),
            borrow=borrow,
            chance=random.Random(f"{seed} {self.names.user} {self.world.clock.true}"),  # noqa: S311 — no secret
        )
        self.slot = slot
        return self

    def _hear(self, state: State) -> None:
        self.states.append(state)
        self.heard.append(state.status.value)

    def run(self, seconds: float) -> "Computer":
        """Let so much time pass."""
        end = self.world.clock.true + seconds
        hurried = 0
        while self.engine:
            pause = max(self.engine.step(), 0.001)
            hurried = hurried + 1 if pause < 0.01 else 0
            assert hurried < 100, "the client spins"
            if self.world.clock.true + pause > end:
                break
            self.world.clock.true += pause
        self.world.clock.true = end
        if self.engine:
            self.engine.step()
        return self

    def sleep(self, seconds: float) -> "Computer":
        """The lid is closed."""
        self.world.clock.true += seconds
        self.clock.slept += seconds
        return self

    def stop(self) -> "Computer":
        """The program ends in order."""
        assert self.engine
        self.engine.close(1.0)
        self.engine = None
        return self

    def crash(self) -> "Computer":
        """The power fails: the system lets go of the lock, and nothing else happens."""
        self.slot.release()
        self.engine = None
        return self


class World:
    """What computers share: the time, a license, and whoever answers their calls."""

    def __init__(self, disk: Path, clock: WorldClock, license: License, handle: Handle) -> None:
        self.disk = disk
        self.clock = clock
        self.license = license
        self.handle = handle

    def computer(self, user: str = "ann", license: License | None = None) -> Computer:
        return Computer(self, self.disk / user, user, f"{user}-pc.example.com", license)


class ReferenceWorld(World):
    """A world whose service is the reference."""

    def __init__(self, disk: Path, **terms: object) -> None:
        clock = WorldClock()
        self.service = ReferenceService(clock)
        super().__init__(disk, clock, license_of(**terms), self.service.handle)

    def seats_of(self, computer: Computer) -> int:
        """How many seats the service holds for one computer."""
        person = computer.names.person(computer.license.salt, computer.license.hosts)
        return sum(row.host == person.host for row in self.service.active.values())
