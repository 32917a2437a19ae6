"""The day on which a license is renewed: many programs run and restart, and nobody touches a file.

Real clients on told clocks call the real service, which one or four processes are.
"""

import asyncio
import heapq
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Final

import pytest
from licensing_client import Program, machine
from licensing_client.license import License
from licensing_client.transport import Reply, Request
from simulation import Computer, SimulatedClock, Simulation

from licensing.cli.home import Home
from licensing.services.publishing import Published
from licensing.storage import outages, state_cache
from tests.client.conftest import issuer_keys
from tests.client.lives import BEGINNING, DAY, HOUR, LocalService

PROGRAMS: Final = int(os.environ.get("PROGRAMS", "16"))
"""How many programs there are; PROGRAMS=200 takes some four minutes."""
HEARTBEAT, RARE_HEARTBEAT = 1800, 6 * 3600
"""Seconds: on the day of the renewal, and in a week of little news."""
RENEWED_AT: Final = 3 * HOUR
ONE_ROUND: Final = HEARTBEAT + 120
"""In this time each program has sent a heartbeat: the service caches terms for a minute."""


class Office:
    """Programs under one license, each of which runs, and now and then restarts, for a day."""

    def __init__(self, home: Home, storage: str, disk: Path, processes: int, heartbeat: int) -> None:
        self.terms = {"seats": PROGRAMS, "heartbeat": heartbeat, "lease": 3 * heartbeat}
        self.clock = SimulatedClock(BEGINNING)
        first = LocalService(home, storage, self.clock)
        others = [LocalService(home, storage, self.clock, first.loop) for _ in range(processes - 1)]
        self.processes = [first, *others]
        self.chance = random.Random(processes)
        self.license = first.license(**self.terms, exp=int(BEGINNING + 2 * DAY))
        program = Program(issuer_keys(home), product="Water")
        self.simulation = Simulation(disk, self.clock, self.license, self.handle, program)
        self.computers = [self.simulation.computer(f"user{number}") for number in range(PROGRAMS)]
        self.statuses: Counter[int] = Counter()

    def handle(self, request: Request) -> Reply:
        """One of the processes answers, whichever the platform chooses."""
        reply = self.chance.choice(self.processes).handle(request)
        self.statuses[reply.status] += 1
        return reply

    def renewed(self, **claims: object) -> License:
        """The renewal of the license."""
        until = int(BEGINNING + 400 * DAY)
        return self.processes[0].license(
            **{"sub": self.license.id, "serial": 2, **self.terms, "seats": PROGRAMS + 5, "exp": until, **claims}
        )

    def publish(self, license: License) -> None:
        """What `licensing license publish` does."""
        assert isinstance(self.processes[-1].publish(license), Published)

    def play(self, until: float, *, restarts: float = 0.0) -> None:
        """Let time pass until so many seconds after the beginning; a program restarts at some of its steps."""
        due = [(self.clock.true, place) for place, each in enumerate(self.computers) if each.engine]
        heapq.heapify(due)
        while due and due[0][0] <= BEGINNING + until:
            at, place = heapq.heappop(due)
            self.clock.true = max(self.clock.true, at)
            computer = self.computers[place]
            if self.chance.random() < restarts:
                self.restart(computer)
            if computer.engine:
                heapq.heappush(due, (self.clock.true + max(computer.engine.step(), 0.01), place))
        self.clock.true = BEGINNING + until

    def start(self, computer: Computer) -> None:
        """A user starts the program."""
        computer.start(seed=self.chance.randrange(2**32)).run(0.01)

    def restart(self, computer: Computer) -> None:
        """A user ends the program and starts it again, or the computer crashes in between."""
        computer.crash() if self.chance.random() < 0.3 else computer.stop()
        self.start(computer)

    @property
    def serials(self) -> Counter[int]:
        """By the serial of the file that counts: how many programs."""
        return Counter(computer.license_files.counting.serial for computer in self.computers)

    def nobody_was_stopped(self) -> bool:
        """Whether every program has run all the time."""
        return all(set(computer.notices) == {"granted"} for computer in self.computers)

    def close(self) -> None:
        """End all."""
        for process in reversed(self.processes):
            process.close()


@pytest.fixture
def office(
    home: Home, account: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Office]]:
    """Open an office whose service has so many processes. It was never away, and so need not mark that it is there."""
    for name in ("MARK_EVERY", "KNOWN_FOR"):
        monkeypatch.setattr(outages, name, timedelta(days=10_000))
    opened: list[Office] = []

    def made(processes: int, heartbeat: int = HEARTBEAT) -> Office:
        # Not every 15 seconds: in told time, nothing comes in between.
        monkeypatch.setattr(machine, "POLL_SECONDS", heartbeat / 6)
        opened.append(Office(home, account(), tmp_path, processes, heartbeat))
        seconds = SimpleNamespace(monotonic=lambda: opened[0].clock.true)
        monkeypatch.setattr(state_cache, "time", seconds)  # so that a minute's cache lasts a minute
        return opened[0]

    yield made
    for each in opened:
        each.close()


@pytest.mark.parametrize(
    ("processes", "published"), [(1, True), (4, True), (4, False)], ids=["one process", "four", "brought by a program"]
)
def test_a_renewal_reaches_every_program_and_stops_none(
    office: Callable[..., Office], processes: int, published: bool
) -> None:
    day = office(processes)
    for computer in day.computers:
        day.start(computer)
    day.play(RENEWED_AT, restarts=0.02)
    assert day.serials == {1: PROGRAMS}

    license = day.renewed()
    if published:
        day.publish(license)
    else:
        day.computers[0].stop()
        day.computers[0].license = license
        day.start(day.computers[0])
    newcomers = [day.simulation.computer(f"newcomer{number}") for number in range(5)]
    for computer in newcomers:
        day.start(computer)
        assert computer.running, "the seats that were added count at once, for who has the old file, too"
    day.computers += newcomers
    day.play(RENEWED_AT + ONE_ROUND)
    fetched = [each.license_files.candidate or each.license_files.counting for each in day.computers]
    assert {each.serial for each in fetched} == {2}, "one heartbeat, and all have the new file"
    for computer in day.computers:
        day.restart(computer)
    assert day.serials == {2: PROGRAMS + 5}, "one restart, and it counts"
    day.play(9 * HOUR, restarts=0.02)

    assert day.nobody_was_stopped()
    assert day.serials == {2: PROGRAMS + 5}
    assert not {403, 409} & day.statuses.keys(), "nobody was refused"


def test_a_program_runs_on_over_the_old_files_end_and_one_that_was_off_for_a_week_starts(
    office: Callable[..., Office],
) -> None:
    week = office(4, RARE_HEARTBEAT)
    away, there = week.computers[::4], [each for place, each in enumerate(week.computers) if place % 4]
    for computer in week.computers:
        week.start(computer)
    week.play(HOUR)
    for computer in away:
        computer.stop()
    week.publish(week.renewed())
    week.play(3 * DAY, restarts=0.01)
    assert week.clock.true > week.license.valid_until
    assert all(computer.running for computer in there)
    week.play(8 * DAY, restarts=0.01)
    for computer in away:
        week.start(computer)
        assert computer.running
    week.play(8 * DAY + 8 * HOUR)

    assert week.nobody_was_stopped()
    assert week.serials[2] > PROGRAMS // 2
    for computer in week.computers:
        week.restart(computer)
    assert week.serials == {2: PROGRAMS}
    assert not {403, 409} & week.statuses.keys(), "nobody was refused"


def test_without_a_renewal_all_stop_when_the_file_ends(office: Callable[..., Office]) -> None:
    """The control: what the tests above see is the renewal's doing."""
    days = office(1)
    for computer in days.computers[:5]:
        days.start(computer)
    days.play(2 * DAY + HOUR)
    assert not any(computer.running for computer in days.computers[:5])


def test_a_program_that_does_not_fetch_is_stopped_by_nothing_but_its_files_end(office: Callable[..., Office]) -> None:
    """A program of the first edition, on the day of a renewal."""
    day = office(1)
    old = day.computers[0]
    asked = asyncio.Event()

    def without_fetching(request: Request) -> Reply:
        if request.url.endswith("/licenses/current"):
            asked.set()
            return Reply(404, {}, b"")
        return day.handle(request)

    old.network.handle = without_fetching
    day.start(old)
    day.play(HOUR)
    day.publish(day.renewed())
    day.play(2 * HOUR)
    day.restart(old)
    assert old.running
    assert asked.is_set()
    assert day.serials[2] == 0
