"""Workers are killed at random points, replaced, added and taken away, while programs start, run and end."""

import asyncio
import os
import random
import signal
import time
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp

from licensing.cli.home import Home
from licensing.services.verify import verify
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests import factories
from tests.processes import Served, end, heartbeat, serving, start, unlimited
from tests.register_rows import look
from tests.stories.test_race import most_at_once

SECONDS: Final = float(os.environ.get("KILL_SECONDS", "8"))
"""How long it goes on; KILL_SECONDS=600 by hand."""

PROGRAMS: Final = 24
SEATS: Final = 10


async def insist(call: Callable[[], Awaitable[Any]]) -> tuple[int, Any]:
    """Call as a program does: again, after a pause, until there is an answer that is not 503."""
    for _ in range(200):
        try:
            answer = await call()
        except (aiohttp.ClientError, OSError):
            answer = 503
        status, reply = answer if isinstance(answer, tuple) else (answer, None)
        if status != 503:
            return status, reply
        await asyncio.sleep(0.1)
    raise AssertionError("never answered")


async def kill_workers(served: Served, until: float) -> int:
    """Kill a worker at a random point, and let others come and go; how many were killed."""
    killed = 0
    while time.monotonic() < until:
        await asyncio.sleep(random.uniform(0.3, 1.5))
        workers = served.workers()
        if len(workers) > 2:
            os.kill(random.choice(workers), signal.SIGKILL)
            killed += 1
        served.process.send_signal(random.choice([signal.SIGTTIN, signal.SIGTTOU]))
    return killed


async def test_workers_are_killed_at_random_and_others_come_and_go(
    home: Home, azurite: str, tables: Tables, tmp_path: Path
) -> None:
    license_id = factories.new_license_id()
    license = factories.issue(home, sub=license_id, seats=SEATS)
    held: list[tuple[float, float]] = []
    ended: set[str] = set()

    async def program(http: aiohttp.ClientSession, url: str, until: float) -> None:
        while time.monotonic() < until:
            body = factories.start_body(license)
            status, reply = await insist(partial(start, http, url, body))
            assert status in (200, 201, 409)
            if status == 409:
                await asyncio.sleep(random.uniform(0, 0.2))
                continue
            since = time.monotonic()
            for _ in range(random.randrange(3)):
                status, beaten = await insist(partial(heartbeat, http, url, reply))
                assert status == 200, beaten
            held.append((since, time.monotonic()))
            assert (await insist(partial(end, http, url, reply)))[0] == 204
            ended.add(body["session"])

    with serving(home, azurite, "--workers", "3", log=tmp_path / "log") as served:
        async with aiohttp.ClientSession(connector=unlimited()) as http:
            until = time.monotonic() + SECONDS
            programs = [asyncio.create_task(program(http, served.url, until)) for _ in range(PROGRAMS)]
            killing = asyncio.create_task(kill_workers(served, until))
            looks = 0
            while not all(task.done() for task in programs):
                count = await verify(Register(tables), license_id)
                if count is not None and count.steady:
                    looks += 1
                    assert count.flaws == ()
                    assert count.holders <= SEATS
                await asyncio.sleep(0.05)
            await asyncio.gather(*programs)
            killed = await killing
    seen = await look(tables, license_id)
    seen.check()
    assert killed
    assert looks > 2
    assert most_at_once(held) <= SEATS
    assert seen.state["in_use"] == 0, "every seat came back"
    assert ended == seen.ended.keys(), "no session was lost, and none came from nowhere"
    assert not seen.active
    print(f"{killed} workers killed, {len(ended)} sessions, {looks} looks")
