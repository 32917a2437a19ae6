"""Workers are killed in the middle of a storm, and answers are lost on the way to programs."""

import asyncio
import os
import signal
from pathlib import Path

import aiohttp
import pytest

from licensing.cli.home import Home
from licensing.services.service import utc_now
from licensing.services.sweep import sweep_license
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests import factories
from tests.fault_proxy import start_lossy_proxy
from tests.processes import end, heartbeat, serving, start, unlimited
from tests.register_rows import look

LEASE = 3


async def until_answered(http: aiohttp.ClientSession, url: str, body: dict[str, object]) -> int:
    """Start as a program does: the same session again, until there is an answer."""
    for _ in range(40):
        try:
            status, _ = await start(http, url, body)
        except (aiohttp.ClientError, OSError):
            status = 0
        if status in (200, 201, 409):
            return status
        await asyncio.sleep(0.25)
    raise AssertionError("never answered")


async def test_a_worker_is_killed_in_the_middle_of_a_storm(
    home: Home, azurite: str, tables: Tables, tmp_path: Path
) -> None:
    license_id = factories.new_license_id()
    license = factories.issue(home, sub=license_id, seats=200, heartbeat=1, lease=LEASE, sharing="user")
    bodies = [factories.start_body(license, user=f"u{number % 250}") for number in range(300)]
    with serving(home, azurite, "--workers", "3", log=tmp_path / "log") as served:
        workers = served.workers()
        assert len(workers) == 3
        async with aiohttp.ClientSession(connector=unlimited()) as http:
            storm = [asyncio.create_task(until_answered(http, served.url, body)) for body in bodies]
            await asyncio.sleep(0.4)
            assert not all(task.done() for task in storm), "the storm is on"
            os.kill(workers[0], signal.SIGKILL)
            statuses = await asyncio.gather(*storm)
            assert set(statuses) <= {200, 201, 409}
            seen = await look(tables, license_id)
            seen.check()
            assert seen.state["in_use"] <= 200
            granted = {body["session"] for body, status in zip(bodies, statuses, strict=True) if status in (200, 201)}
            assert granted <= seen.active.keys() | seen.ended.keys(), "what was answered is committed"

            await asyncio.sleep(LEASE + 0.5)
            await sweep_license(Register(tables), Ledger(Register(tables), utc_now), license_id, utc_now())
            seen = await look(tables, license_id)
            seen.check()
            assert seen.state["in_use"] == 0
            assert seen.active == {}
            assert granted <= seen.ended.keys()
            assert await until_answered(http, served.url, factories.start_body(license)) in (200, 201)


@pytest.mark.parametrize("lost", ["start", "heartbeat", "end"])
async def test_an_answer_is_lost_between_service_and_program(
    home: Home, azurite: str, tables: Tables, tmp_path: Path, lost: str
) -> None:
    license_id = factories.new_license_id()
    license = factories.issue(home, sub=license_id, seats=2)
    body = factories.start_body(license)
    with serving(home, azurite, log=tmp_path / "log") as served:
        async with start_lossy_proxy(served.port) as proxy, aiohttp.ClientSession(connector=unlimited()) as http:
            url = f"http://127.0.0.1:{proxy.port}/api"
            if lost == "start":
                proxy.lose_replies = 1
                with pytest.raises(aiohttp.ClientError):
                    await start(http, url, body)
                assert proxy.lost == 1
            status, reply = await start(http, url, body)
            assert status == (200 if lost == "start" else 201)
            assert reply["seats"] == {"in_use": 1, "total": 2, "waiting": 0}
            if lost == "heartbeat":
                proxy.lose_replies = 2  # the HTTP client tries such a request once more by itself
                with pytest.raises(aiohttp.ClientError):
                    await heartbeat(http, url, reply)
            assert (await heartbeat(http, url, reply))[0] == 200
            if lost == "end":
                proxy.lose_replies = 2
                with pytest.raises(aiohttp.ClientError):
                    await end(http, url, reply)
            assert await end(http, url, reply) == 204
    seen = await look(tables, license_id)
    seen.check()
    assert seen.state["in_use"] == 0
    assert len(seen.ended) == 1
