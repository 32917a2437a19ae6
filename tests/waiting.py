"""Programs that wait for seats in told time, over several processes of the service and one real store.

Each program asks when it was told to, holds its seat for a while, and ends, crashes or vanishes; replies and processes
get lost. Whoever looks on knows the line from the answers alone, and holds every further answer against it.
"""

import asyncio
import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

from licensing.rules.line import MOST_PLACES
from licensing.rules.model import Terms
from licensing.rules.requests import End, Full, Granted, Outcome, Start
from licensing.services.sweep import sweep_license
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests.factories import Clock, new_license_id, new_session_id, start
from tests.stores import Counted

LEASE_SECONDS = 120
NETWORK_SECONDS = 0.2
"""Between two things that happen, so that no two share an instant."""


@dataclass(eq=False)
class Program:
    """A program: what it has heard of the line, and when it asked last."""

    session_id: str
    wait: bool = True
    gives_up_after: float = float("inf")
    position: int | None = None
    heard_at: float = 0.0
    retry_seconds: int = 0
    started_at: float = 0.0

    def has_left(self, now: float) -> bool:
        """Whether it was not heard of for so long that it has left the line."""
        return now >= self.heard_at + 3 * self.retry_seconds + 15


@dataclass
class Handover:
    """A seat that came free while somebody waited: for how long, and whether some of them left meanwhile."""

    seconds: float
    after_vanished: bool


@dataclass(eq=False)
class Waiting:
    """One license in told time. `happen` is what befalls a program by chance: its probability, by the kind."""

    tables: Tables
    terms: Terms
    processes: int
    chance: random.Random
    happen: dict[str, float] = field(default_factory=dict)
    fair: bool = True
    license_id: str = field(default_factory=new_license_id)
    now: float = 0.0
    line: list[Program] = field(default_factory=list)
    free_since: list[float] = field(default_factory=list)
    handovers: list[Handover] = field(default_factory=list)
    served: int = 0
    lost: int = 0
    asked: int = 0

    def __post_init__(self) -> None:
        """Start the processes of the service."""
        self.clock = Clock()
        self.begins = self.clock()
        self.stores = [Counted(self.tables) for _ in range(self.processes)]
        self.ledgers = [Ledger(Register(store), self.clock, serves=False) for store in self.stores]
        self.agenda: list[tuple[float, int, Callable[[], object]]] = []
        self.holders: set[str] = set()
        self.crashed: list[Program] = []
        self.vanished_at: float | None = None
        self._number = 0

    @property
    def calls(self) -> int:
        """Storage calls so far."""
        return sum(len(store.calls) for store in self.stores)

    def at(self, moment: float, what: Callable[[], object]) -> None:
        """Note what happens at a moment (seconds)."""
        self._number += 1
        heapq.heappush(self.agenda, (moment, self._number, what))

    def befalls(self, kind: str) -> bool:
        """Whether something happens by chance."""
        return self.chance.random() < self.happen.get(kind, 0.0)

    async def play(self, until: float) -> None:
        """Let time pass, and do what is due, one after the other."""
        while self.agenda and self.agenda[0][0] <= until:
            moment, _, what = heapq.heappop(self.agenda)
            self.pass_time(max(moment, self.now + NETWORK_SECONDS))
            done = what()
            if asyncio.iscoroutine(done):
                await done
        self.pass_time(max(until, self.now))

    def pass_time(self, moment: float) -> None:
        """It is now so many seconds after the beginning."""
        self.now = moment
        self.clock.now = self.begins + timedelta(seconds=moment)

    def ledger(self) -> Ledger:
        """The process that a request comes to; it may have been restarted."""
        number = self.chance.randrange(self.processes)
        if self.befalls("restart"):
            self.ledgers[number] = Ledger(Register(self.stores[number]), self.clock, serves=False)
        if self.befalls("lost call"):
            vars(self.stores[number])[self.chance.choice(["lose_requests", "lose_replies"])] = 1
        return self.ledgers[number]

    def begin(self, *, wait: bool = True, holds: float = float("inf"), gives_up_after: float = float("inf")) -> Program:
        """A program starts now: it waits or not, holds its seat for so long, and gives up waiting after a time."""
        program = Program(new_session_id(), wait, self.now + gives_up_after)
        self.at(self.now, lambda: self.ask(program, holds))
        return program

    async def ask(self, program: Program, holds: float) -> None:
        """A program asks, and does what it is told."""
        request = start(program.session_id, self.terms, wait=program.wait and self.fair)
        outcome = (await self.ledger().submit(self.license_id, request)).outcome
        self.asked += 1
        self.hold_against_the_line(program, request, outcome)
        if self.befalls("lost reply"):
            self.lost += 1
            self.at(self.now + self.chance.uniform(0.5, 1), lambda: self.ask(program, holds))
        elif isinstance(outcome, Granted):
            if holds < float("inf"):
                self.at(self.now + holds, lambda: self.leave(program))
        elif isinstance(outcome, Full) and program.wait and self.now < program.gives_up_after:
            if self.befalls("vanish"):
                return
            spread = 1.1 if program.position else 1.5
            pause = outcome.retry_seconds * self.chance.uniform(1, spread)
            self.at(self.now + pause, lambda: self.ask(program, holds))

    async def leave(self, program: Program) -> None:
        """A program ends, or crashes: then its seat is free when its lease is over."""
        if program.session_id not in self.holders:
            return
        if self.befalls("crash"):
            self.crashed.append(program)
            return
        await self.ledger().submit(self.license_id, End(program.session_id))
        self.forget(program)

    def forget(self, program: Program) -> None:
        """A seat is free from now on."""
        if program.session_id in self.holders:
            self.holders.remove(program.session_id)
            if self.live():
                self.free_since.append(self.now)

    def forget_crashed(self) -> None:
        """Seats of programs that have crashed are free when their leases are over."""
        for program in [each for each in self.crashed if each.started_at + LEASE_SECONDS <= self.now]:
            self.crashed.remove(program)
            self.forget(program)

    async def sweep(self) -> None:
        """Sweep ends what has lapsed."""
        await sweep_license(Register(self.stores[0]), self.ledgers[0], self.license_id, self.clock())

    # What whoever looks on knows.

    def live(self) -> list[Program]:
        """Who waits, the first first."""
        gone = [program for program in self.line if program.has_left(self.now)]
        if gone:
            self.vanished_at = self.now
        self.line = [program for program in self.line if program not in gone]
        return self.line

    def hold_against_the_line(self, program: Program, request: Start, outcome: Outcome) -> None:
        """Fail if somebody was overtaken, or lost a place."""
        self.forget_crashed()
        line = self.live()
        before = line.index(program) if program in line else len(line)
        if isinstance(outcome, Granted):
            if outcome.repeat:
                return
            self.holders.add(program.session_id)
            program.started_at = self.now
            if not self.fair:
                before = 0
            free = self.terms.capacity - len(self.holders)
            assert free >= before, f"{before} stood before one that was granted, and {free} seats are left"
            self.served += program in line
            if self.free_since and (program in line or not self.fair):
                since = self.free_since.pop(0)
                recently = self.vanished_at is not None and self.vanished_at >= since
                self.handovers.append(Handover(self.now - since, recently))
            self.line = [each for each in line if each is not program]
            return
        assert isinstance(outcome, Full), outcome
        if self.fair:
            free = self.terms.capacity - len(self.holders)
            assert free <= before, f"{free} seats are free for one that was refused, and {before} stand before it"
            has_place = request.wait and (before < len(line) or len(line) < MOST_PLACES)
            assert (outcome.position is not None) == has_place, "a place was lost, or given to one that does not wait"
        if not request.wait:
            if not self.fair and program not in line:
                self.line.append(program)
            program.heard_at, program.retry_seconds = self.now, outcome.retry_seconds
            return
        if outcome.position is not None:
            assert outcome.position == before + 1, "a place was lost, or given twice"
            if program not in line:
                self.line.append(program)
        program.position = outcome.position
        program.heard_at, program.retry_seconds = self.now, outcome.retry_seconds
