"""One strict seat, two programs, bad networks and wrong clocks: at no second do both run."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from licensing_client import machine
from simulation import SimulatedClock

from licensing.cli.home import Home
from licensing.storage import outages
from tests.client.lives import Life, LocalService

LIVES = int(os.environ.get("LIVES", "60"))
"""How many lives are played; LIVES=1000 takes some twenty minutes."""
TOGETHER = 20
"""How many in one test."""
HAPPENS = ("granted", "grace", "lost", "crash", "sleep", "clock", "borrow", "recall", "renew", "end", "call down")
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
