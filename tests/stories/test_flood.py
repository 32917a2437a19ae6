"""One source floods the service with bad requests: the store hears nothing of it, and good programs are served."""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import aiohttp

from licensing.cli.home import Home
from tests import factories
from tests.processes import end, heartbeat, serving, start
from tests.stores import StorageCalls

FLOOD: Final = int(os.environ.get("FLOOD", "2000"))
"""How many bad requests; FLOOD=10000 by hand."""

AT_ONCE: Final = 32
SESSION: Final = factories.new_session_id()


def bad_requests(home: Home, stranger: Home, lease: str) -> list[tuple[str, str, Mapping[str, Any], int]]:
    """Bad requests of every kind: method, path, options, and the status that each gets."""
    genuine = factories.start_body(factories.issue(home))
    forged = factories.start_body(factories.issue(stranger))
    damaged = factories.start_body(genuine["license"][:-8] + "AAAAAAAA")
    expired = factories.start_body(factories.issue(home, nbf=1, exp=2))
    session = f"/sessions/{SESSION}"
    return [
        ("POST", "/sessions", {"json": forged}, 401),
        ("POST", "/sessions", {"json": damaged}, 401),
        ("POST", "/sessions", {"json": expired}, 403),
        ("POST", "/sessions", {"json": {**genuine, "nonce": "short"}}, 400),
        ("POST", "/sessions", {"json": {**genuine, "other": 1}}, 400),
        ("POST", "/sessions", {"data": b"{" * 1000}, 400),
        ("POST", "/sessions", {"data": b" " * 20_000}, 413),
        ("PUT", f"{session}/heartbeat", {"json": {"nonce": factories.new_nonce()}}, 401),
        (
            "PUT",
            f"{session}/heartbeat",
            {"json": {"nonce": factories.new_nonce()}, "headers": factories.bearer(lease)},
            401,
        ),
        ("DELETE", session, {"headers": factories.bearer("x" * 2000)}, 401),
        ("GET", session, {"headers": factories.bearer(genuine["license"])}, 401),
        ("GET", "/usage/data", {"headers": factories.bearer(lease)}, 401),
        ("GET", "/health", {}, 200),
        ("PATCH", "/sessions", {}, 405),
        ("GET", "/nothing", {}, 404),
    ]


async def test_a_flood_from_one_source_never_reaches_the_store_and_keeps_nobody_out(
    home: Home, azurite: str, storage_calls: StorageCalls, tmp_path: Path
) -> None:
    stranger = factories.new_home(tmp_path / "stranger")
    license = factories.issue(home, seats=50)
    with serving(home, azurite, log=tmp_path / "log", LICENSING_STATUS_CACHE_SECONDS="60") as served:
        async with aiohttp.ClientSession() as good, aiohttp.ClientSession() as bad:
            status, running = await start(good, served.url, factories.start_body(license))
            assert status == 201
            bad_ones = bad_requests(home, stranger, running["lease"])
            answers: Counter[tuple[int, int]] = Counter()
            waits: list[float] = []
            flooded = asyncio.Event()

            async def flood(numbers: range) -> None:
                for number in numbers:
                    method, path, options, expected = bad_ones[number % len(bad_ones)]
                    async with bad.request(method, served.url + path, **options) as reply:
                        await reply.read()
                        answers[expected, reply.status] += 1

            async def work() -> int:
                """A good program: its heartbeats, one after another, while the flood is on."""
                heartbeats = 0
                while not flooded.is_set():
                    began = time.monotonic()
                    assert (await heartbeat(good, served.url, running))[0] == 200
                    waits.append(time.monotonic() - began)
                    heartbeats += 1
                    await asyncio.sleep(0.02)
                return heartbeats

            mark = await storage_calls.mark()
            began = time.monotonic()
            working = asyncio.create_task(work())
            await asyncio.gather(*(flood(range(first, FLOOD, AT_ONCE)) for first in range(AT_ONCE)))
            seconds = time.monotonic() - began
            flooded.set()
            heartbeats = await working
            calls = await storage_calls.since(mark)

            assert sum(answers.values()) == FLOOD
            assert all(expected == status for expected, status in answers), answers
            looks = [call for call in calls if "RowKey=%27health%27" in call or "RowKey='health'" in call]
            assert len(looks) <= 2 + seconds / 5, "health is looked at once in five seconds, however often it is asked"
            state_reads = [call for call in calls if "RowKey='license'" in call or "RowKey=%27license%27" in call]
            assert len(state_reads) <= 1 + seconds / 60
            assert len(calls) - len(looks) - len(state_reads) == heartbeats, (
                "the store heard of the good program's heartbeats alone"
            )
            assert heartbeats > 3, "a good program was served while the flood was on"
            assert (await start(good, served.url, factories.start_body(license)))[0] == 201
            assert await end(good, served.url, running) == 204
    waits.sort()
    report = {
        "requests": FLOOD,
        "per second": round(FLOOD / seconds),
        "good heartbeats": heartbeats,
        "median ms": round(waits[len(waits) // 2] * 1000),
        "worst ms": round(waits[-1] * 1000),
    }
    print(json.dumps(report))
