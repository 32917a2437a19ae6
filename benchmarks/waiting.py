"""Waiting for a seat: how long a free seat lies free, and what waiting costs, beside asking without a line.

Everything happens in told time, on a real store: the hours that these lives last take minutes. The naive way is what
programs did before there was a line: each asks again after the service's `Retry-After`, times 1 to 1.5, and whoever
asks first has the seat.
"""

import random
import statistics
from collections.abc import Sequence
from functools import partial

from benchmarks.common import Bench, Line, processes_of
from licensing.storage import state_cache
from licensing.storage.tables import Tables
from tests.factories import terms
from tests.waiting import Waiting

LONG = 10**6
PROCESSES = (1, 4, 8)
MINUTES = 10


async def run(bench: Bench) -> list[Line]:
    """Hand-overs of one seat, twelve seats at once, and storage calls, each with and without the line."""
    lines = []
    vars(state_cache)["CONTENDED_SECONDS"] = (
        0.0  # in told time, seconds have passed since another process changed the license
    )
    async with bench.tables() as tables:
        await tables.get("register", "nobody", "nothing")  # so that the table is there
        for processes in PROCESSES:
            rounds = range(bench.choose(10, 2))
            fair = [each for seed in rounds for each in await handovers(tables, seed, processes, fair=True)]
            naive = [each for seed in rounds for each in await handovers(tables, seed, processes, fair=False)]
            what = f"a seat is free until its next holder has it, {processes_of(processes)}"
            lines += [
                Line(f"{what}: median", "s", [statistics.median(fair)], [statistics.median(naive)]),
                Line(f"{what}: median (goal)", "s", [statistics.median(fair)], goal=5),
                Line(f"{what}: 95th percentile (goal)", "s", [percentile(fair, 95)], goal=10),
            ]
            at_once = [await twelve_at_once(tables, seed, processes) for seed in range(bench.choose(10, 2))]
            lines.append(Line(f"12 seats free at once are all taken, {processes_of(processes)}", "s", at_once, goal=90))
        for processes in (1, 4):
            for waiting in (1, 5, 50):
                calls, asks = await a_while(tables, waiting, processes, fair=True)
                naive_calls, _ = await a_while(tables, waiting, processes, fair=False)
                what = f"storage calls a minute, {waiting} waiting, {processes_of(processes)}"
                lines.append(Line(f"{what} ({asks:.0f} asks)", "", [calls], [naive_calls]))
    return lines


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent are not above."""
    return sorted(values)[max(0, -(-len(values) * percent // 100) - 1)]


async def handovers(tables: Tables, seed: int, processes: int, *, fair: bool) -> list[float]:
    """For how long one seat lies free that five programs wait for, each for a few minutes; nobody vanishes."""
    chance = random.Random(seed)
    office = Waiting(tables, terms(seats=1, lease_seconds=900), processes, chance, fair=fair)
    for number in range(12):
        office.at(number * 40, partial(office.begin, holds=chance.uniform(60, 240)))
    await office.play(3600)
    return [each.seconds for each in office.handovers]


async def twelve_at_once(tables: Tables, seed: int, processes: int) -> float:
    """How long it takes until twelve seats that come free at once are all held by those who waited first."""
    chance = random.Random(seed)
    office = Waiting(tables, terms(seats=12, lease_seconds=900), processes, chance)
    for _ in range(12):
        office.begin(wait=False, holds=500)
    for number in range(20):
        office.at(20 + number, office.begin)
    await office.play(700)
    if office.served != 12:
        raise RuntimeError(f"{office.served} of 12 seats were taken")
    return max(each.seconds for each in office.handovers)


async def a_while(tables: Tables, waiting: int, processes: int, *, fair: bool) -> tuple[float, float]:
    """Storage calls and asks a minute of so many programs that wait for one seat that never comes free."""
    office = Waiting(tables, terms(seats=1, lease_seconds=LONG), processes, random.Random(waiting), fair=fair)
    office.begin(wait=False)
    for _ in range(waiting):
        office.at(office.chance.uniform(1, 60), office.begin)
    await office.play(120)
    calls, asked = office.calls, office.asked
    await office.play(120 + 60 * MINUTES)
    return (office.calls - calls) / MINUTES, (office.asked - asked) / MINUTES
