"""Several processes race for the last seats: never is one given twice, and none is lost.

The ended rows tell it of every instant, and not only of those at which somebody looks. A commit is decided, and
stamped, once the one before it on that state is known, so that its time is later: all processes of a machine share one
clock. An end and a start in one commit have the same time. So the spans from `started_at` until before `ended_at` begin
and end in the very order in which the seats changed hands.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from licensing.services.verify import verify
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests.factories import new_license_id
from tests.register_rows import look

PROCESSES = 8
SEATS = 3
ROUNDS = int(os.environ.get("RACE_ROUNDS", "200"))
"""Of each process; RACE_ROUNDS=5000 makes a night of it."""


async def test_eight_processes_race_for_three_seats(azurite: str, tables: Tables) -> None:
    license_id = new_license_id()
    command = ["-m", "tests.processes", azurite, license_id, str(ROUNDS), str(SEATS)]
    racers = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(PROCESSES)
    ]
    for racer in racers:
        assert racer.stdout is not None
        assert await racer.stdout.readline() == b"ready\n"
    race = asyncio.gather(*(racer.communicate(b"go\n") for racer in racers))

    looks = 0
    while not race.done():
        count = await verify(Register(tables), license_id)
        if count is not None and count.steady:
            looks += 1
            assert count.flaws == ()
            assert count.holders <= SEATS
        await asyncio.sleep(0.02)

    assert [racer.returncode for racer in racers] == [0] * PROCESSES
    held = [tuple(span) for output, _ in await race for span in json.loads(output)]
    assert looks > 10, "the rows were looked at while the race was on"
    assert len(held) > ROUNDS * PROCESSES // 20, "the race was a race"
    assert 1 < most_at_once(held) <= SEATS, "by the programs' replies, too"

    seen = await look(tables, license_id)
    seen.check()
    assert seen.state["in_use"] == 0
    assert len(seen.ended) == len(held), "no session was lost"
    spans = [(row["started_at"].timestamp(), row["ended_at"].timestamp()) for row in seen.ended.values()]
    assert most_at_once(spans) == SEATS, "by the rows, at every instant"


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """How many spans overlap at most."""
    changes = sorted([(since, 1) for since, _ in spans] + [(until, -1) for _, until in spans])
    most = now = 0
    for _, change in changes:
        now += change
        most = max(most, now)
    return most
