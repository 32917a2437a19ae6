"""A storm of starts over HTTP: exactly as many are granted as seats were bought, and it costs a handful of calls."""

import asyncio
from collections import Counter
from pathlib import Path

import aiohttp
import pytest

from licensing.cli.home import Home
from licensing.storage.tables import Tables
from tests import factories
from tests.processes import serving, start, unlimited
from tests.register_rows import look
from tests.stores import StorageCalls

STARTS = 300
SEATS = 225


@pytest.mark.parametrize(("workers", "most_calls"), [(1, 30), (4, 120)])
@pytest.mark.parametrize("sharing", ["none", "user-host"])
async def test_three_hundred_starts_on_225_seats(
    home: Home,
    azurite: str,
    tables: Tables,
    storage_calls: StorageCalls,
    tmp_path: Path,
    workers: int,
    most_calls: int,
    sharing: str,
) -> None:
    with serving(home, azurite, "--workers", str(workers), log=tmp_path / "log") as served:
        async with aiohttp.ClientSession(connector=unlimited()) as http:
            for times in (1, 2):
                license_id = factories.new_license_id()
                license = factories.issue(home, sub=license_id, seats=SEATS, sharing=sharing)
                bodies = [factories.start_body(license, user=f"u{number}") for number in range(STARTS)]
                mark = await storage_calls.mark()
                sent = [body for body in bodies for _ in range(times)]
                replies = await asyncio.gather(*(start(http, served.url, body) for body in sent))
                calls = await storage_calls.since(mark)

                answers: dict[str, list[int]] = {body["session"]: [] for body in bodies}
                for body, (status, _) in zip(sent, replies, strict=True):
                    answers[body["session"]].append(status)
                outcomes = Counter(tuple(sorted(statuses)) for statuses in answers.values())
                if times == 1:
                    assert outcomes == {(201,): SEATS, (409,): STARTS - SEATS}
                    assert len(calls) <= most_calls
                else:
                    assert outcomes == {(200, 201): SEATS, (409, 409): STARTS - SEATS}

                seen = await look(tables, license_id)
                seen.check()
                assert seen.state["in_use"] == SEATS
                assert len(seen.denied) == STARTS - SEATS
