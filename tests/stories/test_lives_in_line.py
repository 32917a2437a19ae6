"""Waiters, holders and crashes at random, over one to eight processes: nobody is overtaken, and no place is lost."""

import os
import random
from functools import partial

import pytest

from licensing.services.verify import verify
from licensing.storage import state_cache
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests.factories import terms
from tests.register_rows import look
from tests.waiting import LEASE_SECONDS, Waiting

LIVES = int(os.environ.get("LIVES_IN_LINE", "3"))
"""For each number of processes; LIVES_IN_LINE=1000 takes some hours."""
TOGETHER = 10
"""How many in one test."""
SEATS = (1, 12, 2)
HAPPEN = {
    "lost reply": 0.05,
    "lost call": 0.01,
    "restart": 0.03,
    "vanish": 0.02,
    "crash": 0.1,
}


@pytest.fixture(autouse=True)
def in_simulated_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """In told time, a second has always passed since another process changed the license."""
    monkeypatch.setattr(state_cache, "CONTENDED_SECONDS", 0.0)


async def live(tables: Tables, seed: int, processes: int) -> Waiting:
    """Twenty minutes of a license."""
    chance = random.Random(seed)
    bought = terms(seats=SEATS[seed % len(SEATS)], overdraft=chance.choice([0, 0, 1]), lease_seconds=LEASE_SECONDS)
    office = Waiting(tables, bought, processes, chance, HAPPEN)
    for _ in range(bought.capacity + chance.choice([3, 8, 20])):
        begin = partial(office.begin, wait=chance.random() < 0.8, holds=chance.uniform(10, 110), gives_up_after=900)
        office.at(chance.uniform(0, 400), begin)
    for minute in (5, 10, 15):
        office.at(60 * minute, office.sweep)
    await office.play(1200)
    return office


@pytest.mark.parametrize("first", range(0, LIVES, TOGETHER))
@pytest.mark.parametrize("processes", [1, 4, 8])
async def test_nobody_is_overtaken_and_no_place_is_lost(tables: Tables, processes: int, first: int) -> None:
    served = lost = 0
    for seed in range(first, min(first + TOGETHER, LIVES)):
        office = await live(tables, seed, processes)
        (await look(tables, office.license_id)).check()
        count = await verify(Register(tables), office.license_id)
        assert count is not None
        assert count.flaws == ()
        served, lost = served + office.served, lost + office.lost
    assert served, "nobody waits in these lives"
    assert lost, "these lives lose nothing"
