"""A full house: all seats of a license are held, and 200 programs wait for one.

A process that has just begun, and has refused nobody on the license yet, refuses the first of them; then all at once;
then each again, by itself. Compared is a start on a small license: by itself, too, and, for the first refusal, also
one of those that share transactions with 50 in flight. These are the service's processor time and storage calls.

Then the programs wait: each asks every five seconds, at times of its own. One seat is freed by an end, then one by a
lapse that the process has not seen coming: the lease was shortened past it. Given is the time until one of them has
the seat, from when the end was sent, or from the lapse. Of this, their asking takes 25 ms on average.
"""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from operator import attrgetter
from typing import Any

from benchmarks.common import Bench, Line
from benchmarks.programs import LONG, Cost, Program, Programs, calling, fill
from licensing.services.service import utc_now
from licensing.storage.ledger import Heartbeat, Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests import factories

SIZES = (10, 1000, 20_000)
WAITING = 200
ASK_SECONDS = 5.0
LAPSE_SECONDS = 12
SPARE = 100_000
WARM = 50
BATCHED, AT_ONCE = 200, 50


@dataclass(frozen=True, slots=True)
class House:
    """A license whose seats are all held, by whom, and what its refusals cost."""

    file: str
    held: list[Program]
    first: list[Cost] = field(default_factory=list)
    all_at_once: list[Cost] = field(default_factory=list)
    again: list[Cost] = field(default_factory=list)
    freed: list[tuple[float, float]] = field(default_factory=list)


async def run(bench: Bench) -> list[Line]:
    """The refusals, each round by a new process; then the seats that are freed."""
    sizes = SIZES[1:2] if bench.quick else SIZES
    alone: list[Cost] = []
    batched: list[Cost] = []
    async with bench.tables() as tables:
        houses = {size: await full_house(bench, tables, size) for size in sizes}
        small, other = await full_house(bench, tables, SIZES[0]), factories.issue(bench.home, seats=SPARE, **LONG)
        for _ in range(bench.choose(5, 1)):
            async with calling(bench) as programs:
                await refused(programs, waiting(small.file)[:WARM], 1)
                await programs.start_many(other, WARM, 1)
                alone.append((await programs.start_many(other, WARM, 1))[1])
                batched.append((await programs.start_many(other, BATCHED, AT_ONCE))[1])
                for house in houses.values():
                    bodies = waiting(house.file)
                    house.first.append(await refused(programs, bodies[:1], 1))
                    house.all_at_once.append(await refused(programs, bodies, WAITING))
                    house.again.append(await refused(programs, bodies, 1))
        for house in houses.values():
            async with calling(bench) as programs:
                house.freed.append(await freed(programs, tables, house))
    return [line for size, house in houses.items() for line in lines(size, house, alone, batched)]


def lines(size: int, house: House, alone: Sequence[Cost], batched: Sequence[Cost]) -> list[Line]:
    """What refusals cost at a size, and how soon a seat is had."""

    processor, made = attrgetter("service"), []
    for what, costs, compared in (
        ("the first refusal", house.first, {"by itself": alone, "in a batch": batched}),
        (f"each of {WAITING} refusals at once", house.all_at_once, {"in a batch": batched}),
        ("each refusal again, by itself", house.again, {"by itself": alone}),
    ):
        goals = (5, 3) if costs is house.first else (None, None)
        for how, starts in compared.items():
            column = f"processor time (naive column: a start on a small license, {how})"
            values, naive = (list(map(processor, each)) for each in (costs, starts))
            made.append(Line(f"{size:,} seats held: {what}, {column}", "ms", values, naive, goals[0]))
        calls = [cost.storage_calls for cost in costs]
        made.append(Line(f"{size:,} seats held: {what}, storage calls", "", calls, (), goals[1]))
    ends, lapses = zip(*house.freed, strict=True)
    return [
        *made,
        Line(f"{size:,} seats held, {WAITING} wait: a seat freed by an end is had within", "s", ends),
        Line(f"{size:,} seats held, {WAITING} wait: a seat freed by a lapse is had within", "s", lapses),
    ]


async def full_house(bench: Bench, tables: Tables, size: int) -> House:
    """A license with so many seats, all of them held."""
    file = factories.issue(bench.home, seats=size, **LONG)
    return House(file, await fill(bench, tables, file, size))


def waiting(file: str) -> list[dict[str, Any]]:
    """What programs send that wait for a seat, each under an id of its own."""
    return [factories.start_body(file) for _ in range(WAITING)]


async def refused(programs: Programs, bodies: Sequence[dict[str, Any]], at_once: int) -> Cost:
    """What it costs to refuse starts."""

    async def one(body: dict[str, Any]) -> None:
        if await programs.start(body) is not None:
            raise RuntimeError("a start was granted; the benchmark would measure something else")

    return await programs.cost([partial(one, body) for body in bodies], at_once)


async def freed(programs: Programs, tables: Tables, house: House) -> tuple[float, float]:
    """The seconds until somebody has a seat that an end has freed, and one that has lapsed."""
    lapsing, ending = house.held[:2]
    lapses_at = utc_now() + timedelta(seconds=LAPSE_SECONDS)
    await Ledger(Register(tables), utc_now).heartbeat(lapsing.license, Heartbeat(lapsing.session, utc_now(), lapses_at))
    granted: asyncio.Queue[datetime] = asyncio.Queue()

    async def wait(body: dict[str, Any]) -> None:
        await asyncio.sleep(random.uniform(0, ASK_SECONDS))
        while True:
            if await programs.start(body):
                granted.put_nowait(utc_now())
                return
            await asyncio.sleep(ASK_SECONDS)

    async with asyncio.TaskGroup() as tasks:
        waiters = [tasks.create_task(wait(body)) for body in waiting(house.file)]
        await asyncio.sleep(ASK_SECONDS)  # now all have asked
        sent = utc_now()
        await programs.end(ending.reply())
        by_end = await granted.get() - sent
        by_lapse = await granted.get() - lapses_at
        for waiter in waiters:
            waiter.cancel()
    return by_end.total_seconds(), by_lapse.total_seconds()
