"""One strict seat, two programs, bad networks and wrong clocks: at no second do both run."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from licensing_client import machine
from licensing_client.license import License
from licensing_client.machine import Status
from simulation import SimulatedClock, Simulation

from licensing.cli.home import Home
from licensing.storage import outages
from tests.client.lives import BEGINNING, DAY, HOUR, STRICT, Life, LifeWithoutHold, LocalService

LIVES = int(os.environ.get("LIVES", "60"))
"""How many lives are played; LIVES=1000 takes some twenty minutes."""
LIVES_WITHOUT_HOLD = max(6, LIVES // 10)
TOGETHER = 20
"""How many in one test."""
HAPPENS = (
    *("granted", "grace", "lost", "crash", "sleep", "clock", "borrow", "recall", "end", "call down"),
    *("renew", "publish", "expired"),
)
"""What befalls somebody in so many lives."""


@pytest.fixture
def local(home: Home, account: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalService]:
    """The service in told time. It was never away, and so need not mark that it is there."""
    for name in ("MARK_EVERY", "KNOWN_FOR"):
        monkeypatch.setattr(outages, name, timedelta(days=10_000))
    monkeypatch.setattr(machine, "POLL_SECONDS", 300.0)  # not 15: in told time, nothing comes in between
    service = LocalService(home, account(), SimulatedClock())
    yield service
    service.close()


@pytest.mark.parametrize("first", range(0, LIVES, TOGETHER))
def test_no_two_programs_run_on_one_strict_seat(local: LocalService, tmp_path: Path, first: int) -> None:
    seen: Counter[str] = Counter()
    for seed in range(first, min(first + TOGETHER, LIVES)):
        life = Life(local, tmp_path / str(seed), seed)
        life.play()
        assert not life.both, f"two programs ran at once in life {seed}:\n" + "\n".join(life.both)
        seen += life.events
    assert all(seen[kind] for kind in HAPPENS), f"these lives try little: {dict(seen)}"


def test_without_a_hold_seats_and_grace_together_are_the_time_in_which_programs_ran(
    local: LocalService, tmp_path: Path
) -> None:
    seen: Counter[str] = Counter()
    for seed in range(LIVES_WITHOUT_HOLD):
        life = LifeWithoutHold(local, tmp_path / str(seed), seed)
        life.play()
        local.clock.true += DAY
        local.sweep(life.license)
        ran = sum(station.ran for station in life.stations)
        held, beyond = local.counted(life.license)
        seen += life.events + Counter(beyond=int(beyond))
        allowed = 2 * life.events["start"] + 5  # each end is rounded, and heard of after a moment
        assert abs(held + beyond - ran) <= allowed, f"life {seed}: {held} + {beyond} is not {ran}\n" + "\n".join(
            life.trace
        )
    assert seen["both"]
    assert seen["beyond"] > HOUR


# What such lives have found, and what they find too seldom.


def strict(local: LocalService, disk: Path, **claims: object) -> Simulation:
    """Programs around one strict seat of its own."""
    local.clock.true = BEGINNING
    license = local.license(**{"borrow": 172800, **STRICT, **claims})
    return Simulation(disk, local.clock, license, local.handle)


def renewal(local: LocalService, of: License, **claims: object) -> License:
    """A newer file of a license."""
    return local.license(**{"sub": of.id, "serial": 2, **STRICT, **claims})


def test_a_renewal_with_shorter_leases_frees_no_seat_while_an_older_lease_lasts(
    local: LocalService, tmp_path: Path
) -> None:
    simulation = strict(local, tmp_path, grace=0, hold=0, lease=7200)
    ann = simulation.computer().start().run(60)
    bob = simulation.computer("bob", renewal(local, simulation.license, grace=0, hold=0, lease=900))
    bob.start().run(3)
    assert bob.has_status(Status.REFUSED)
    bob.stop()
    ann.network.condition = "reply-lost"
    ann.run(400)
    ann.network.condition = "down"
    ann.run(HOUR)
    assert ann.running
    assert bob.start().run(3).has_status(Status.REFUSED)
    bob.stop()
    ann.run(HOUR)
    assert bob.start().run(3).running


def test_a_renewal_with_a_shorter_hold_frees_no_seat_on_which_an_older_lease_runs(
    local: LocalService, tmp_path: Path
) -> None:
    simulation = strict(local, tmp_path)
    ann = simulation.computer().start().run(60)
    bob = simulation.computer("bob", renewal(local, simulation.license, grace=3600, hold=3660))
    bob.start().run(3)
    assert bob.has_status(Status.REFUSED)
    bob.stop()
    ann.network.condition = "reply-lost"
    ann.run(400)
    ann.network.condition = "down"
    for _ in range(12):
        ann.run(HOUR)
        bob.start().run(3)
        assert not (ann.running and bob.running)
        bob.stop()
    ann.run(HOUR)
    assert bob.start().run(3).running
