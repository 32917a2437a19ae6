"""A working day: many programs on few seats, with crashes, closed lids and networks that come and go.

Time is told. What is checked at every moment is what the protocol promises (docs/protocol.md).
"""

import heapq
import json
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from licensing_client.machine import Status
from licensing_client.reasons import Code
from licensing_client.transport import Reply
from world import Computer, WorldClock

OFFICE_HOURS = 8 * 3600.0
WEATHERS = ("down", "reply-lost", "portal", "garbled", "cut")


@dataclass
class Person:
    """Somebody with a computer, a plan for the day, and bad luck."""

    computer: Computer
    chance: random.Random
    wants_at: float
    works_until: float = 0.0
    trouble_at: float = 0.0
    clears_at: float = 0.0
    next_step: float = 0.0
    fresh: int = 0  # how many outcomes there were when the last change of plan made an early call fair

    def standing(self) -> tuple[int, Status | None]:
        """What changes whenever a seat does."""
        return len(self.computer.network.outcomes), self.computer.status if self.computer.engine else None


@dataclass
class Day:
    """What happened."""

    starts: int = 0
    served: int = 0
    told: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    peak_granted: int = 0
    too_often: list[str] = field(default_factory=list)
    wrongly_stopped: list[str] = field(default_factory=list)


def pause_owed(computer: Computer, failures: int) -> float:
    """How long a client has to wait after its last outcome, at the least."""
    _, reply = computer.network.outcomes[-1]
    if reply is not None and reply.status == 409:
        return float(reply.headers["retry-after"]) if computer.status is not Status.GRANTED else 0.0
    if reply is not None and reply.status in (200, 201):
        return 0.8 * heartbeat_interval(computer, reply)
    return min(2.0 ** (failures - 1), 300.0) * 0.5 if failures else 0.0


def heartbeat_interval(computer: Computer, reply: Reply) -> float:
    """How far apart heartbeats are after a grant, before chance makes it a little less."""
    asked = float(json.loads(reply.body)["heartbeat_seconds"])
    assert computer.engine
    lease = computer.engine.state.lease
    if lease and lease.expires_at < computer.license.valid_until:
        asked = min(asked, (lease.expires_at - lease.issued_at) / 2)
    return max(asked, 1.0)


def play(
    computers: Sequence[Computer],
    clock: WorldClock,
    in_use: Callable[[], int],
    seats: int,
    seed: int,
    hours: float = OFFICE_HOURS,
) -> Day:
    """Let a day pass; the invariants hold at every step of it, or an assertion fails."""
    chance = random.Random(seed)  # noqa: S311 — a script, no secret
    begin, end = clock.true, clock.true + hours
    people = [
        Person(computer, random.Random(f"{seed} {number}"), begin + chance.uniform(0, hours / 4))  # noqa: S311
        for number, computer in enumerate(computers)
    ]
    day = Day()
    agenda = [(person.wants_at, number) for number, person in enumerate(people)]
    heapq.heapify(agenda)
    while agenda[0][0] < end:
        at, number = agenda[0]
        person = people[number]
        clock.true = max(clock.true, at)
        before = person.standing()
        _live(person, clock, day)
        heapq.heapreplace(agenda, (person.next_step if person.computer.engine else person.wants_at, number))
        if person.standing() == before:
            continue
        granted = sum(_holds_a_lease(one, clock.true) for one in people)
        day.peak_granted = max(day.peak_granted, granted)
        assert granted <= seats, f"{granted} programs hold a lease on {seats} seats"
        assert in_use() <= seats
    clock.true = end
    for person in people:
        if person.computer.engine:
            person.computer.network.weather = "fine"
            person.computer.stop()
    return day


def _holds_a_lease(person: Person, now: float) -> bool:
    """Whether a program runs on a lease, rightly or not; one that sleeps does not run."""
    if person.computer.engine is None or not person.computer.stands(Status.GRANTED):
        return False
    lease = person.computer.engine.state.lease
    late = lease is not None and now > lease.expires_at + 1
    return lease is None or now < lease.expires_at or (late and now >= person.next_step)


def _live(person: Person, clock: WorldClock, day: Day) -> None:
    computer, chance, now = person.computer, person.chance, clock.true
    if computer.engine is None:
        day.starts += 1
        computer.start(wait=chance.random() < 0.5, seed=chance.randrange(10**6))
        person.works_until = now + chance.uniform(1800, 3 * 3600)
        person.trouble_at = now + chance.expovariate(1 / 3600)
        person.fresh = len(computer.network.outcomes)
    elif now >= person.works_until:
        _leave(person, clock, day, crashed=False)
        return
    elif now >= person.trouble_at:
        _trouble(person, clock, day)
        if computer.engine is None:
            return
    if computer.network.weather != "fine" and now >= person.clears_at:
        computer.network.weather = "fine"
    _step(person, clock, day)


def _trouble(person: Person, clock: WorldClock, day: Day) -> None:
    computer, chance = person.computer, person.chance
    person.trouble_at = clock.true + chance.expovariate(1 / 3600)
    kind = chance.choice(("crash", "sleep", "network"))
    day.events[kind] += 1
    if kind == "crash":
        _leave(person, clock, day, crashed=True)
    elif kind == "sleep":
        asleep = chance.uniform(120, 3600)
        computer.clock.slept += asleep  # the others go on; this one does nothing until it wakes
        person.next_step = clock.true + asleep
        person.fresh = len(computer.network.outcomes)
    else:
        computer.network.weather = chance.choice(WEATHERS)
        person.clears_at = clock.true + chance.uniform(60, 5400)


def _leave(person: Person, clock: WorldClock, day: Day, *, crashed: bool) -> None:
    computer, chance = person.computer, person.chance
    day.told.update(set(computer.heard))
    day.served += "granted" in computer.heard or "grace" in computer.heard
    assert computer.heard, "somebody was neither served nor told why not"
    computer.heard.clear()
    if crashed:
        computer.crash()
        person.wants_at = clock.true + chance.uniform(20, 300)
    else:
        computer.stop()
        person.wants_at = clock.true + chance.uniform(600, 3600)


def _step(person: Person, clock: WorldClock, day: Day) -> None:
    computer = person.computer
    if computer.engine is None or person.next_step > clock.true:
        return
    outcomes = computer.network.outcomes
    before, doubted, failures = len(outcomes), computer.engine.state.doubted, computer.engine.state.failures
    was = computer.status
    owed = pause_owed(computer, failures) if before > person.fresh and doubted is None else 0.0
    last = outcomes[-1][0] if outcomes else 0.0
    pause = computer.engine.step()
    if len(outcomes) > before and clock.true - last < owed - 0.01:
        day.too_often.append(f"{clock.true - last:.1f} s after the last call, {owed:.1f} s were owed")
    state = computer.engine.state
    if (
        state.status is Status.LOST
        and was is not Status.LOST
        and state.reason
        and state.reason.code is not Code.NO_SEAT
    ):
        day.wrongly_stopped.append(state.reason.code.value)
    person.next_step = clock.true + max(pause, 0.001)
