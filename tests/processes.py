"""The service in processes of its own, programs that call it over HTTP, and processes that race for seats.

    python -m tests.processes STORAGE LICENSE_ID ROUNDS SEATS

is one racer: it prints `ready`, waits for a line of input, and prints JSON: for each seat that it got, from when to
when it held it.
"""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp

from licensing.cli.home import Home
from licensing.cli.processes import free_port, stop
from licensing.errors import UnavailableError
from licensing.rules.requests import End, Full, Granted, Outcome, Request
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests.factories import bearer, environment, new_nonce, new_session_id, terms
from tests.factories import start as start_request


@dataclass
class Served:
    """A running service."""

    url: str
    port: int
    process: subprocess.Popen[bytes]

    def workers(self) -> list[int]:
        """The process ids of its workers (on Linux)."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        command = {int(child): Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
        return [child for child, words in command.items() if b"spawn_main" in words]


@contextmanager
def serving(
    home: Home, storage: str, *options: str, log: Path, program: Sequence[str] = ("-m", "licensing"), **settings: str
) -> Iterator[Served]:
    """Run `licensing serve` over a store, with its messages in a file, and end it; `program` is what Python runs."""
    port = free_port()
    variables = {**os.environ, **environment(home, storage, **settings)}
    command = [sys.executable, *program, "serve", "--port", str(port), *options]
    with log.open("ab") as messages:
        process = subprocess.Popen(command, env=variables, stdout=subprocess.PIPE, stderr=messages)
    assert process.stdout is not None
    served: Served | None = None
    try:
        ready = process.stdout.readline().decode().strip()
        assert ready == f"ready http://127.0.0.1:{port}/api", log.read_text()
        served = Served(ready.removeprefix("ready "), port, process)
        yield served
    finally:
        workers = served.workers() if served and process.poll() is None and sys.platform == "linux" else []
        stop(process)
        process.stdout.close()
        for worker in workers:
            # If the service had to be killed while a worker was starting, the other workers would stay.
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


async def start(http: aiohttp.ClientSession, url: str, body: dict[str, Any], **headers: str) -> tuple[int, Any]:
    """Send a start; status and reply."""
    async with http.post(f"{url}/sessions", json=body, headers=headers) as response:
        return response.status, await response.json()


async def heartbeat(http: aiohttp.ClientSession, url: str, reply: dict[str, Any]) -> tuple[int, Any]:
    """Send a heartbeat for a session that was started; status and reply."""
    path, headers = f"{url}/sessions/{reply['session']}/heartbeat", bearer(reply["lease"])
    async with http.put(path, json={"nonce": new_nonce()}, headers=headers) as response:
        return response.status, await response.json()


async def end(http: aiohttp.ClientSession, url: str, reply: dict[str, Any]) -> int:
    """End a session that was started; the status."""
    headers = bearer(reply["lease"])
    async with http.delete(f"{url}/sessions/{reply['session']}", headers=headers) as response:
        return response.status


def unlimited() -> aiohttp.TCPConnector:
    """A connector without a limit of connections."""
    return aiohttp.TCPConnector(limit=0)


# A racer.


async def race(storage: str, license_id: str, rounds: int, seats: int) -> list[tuple[float, float]]:
    """Start and end sessions, of which some wait in line, and return when each was held.

    The times are monotonic seconds, which all processes of a machine share.
    """
    tables = Tables.from_connection_string(storage)
    ledger = Ledger(Register(tables), lambda: datetime.now(UTC))
    held: list[tuple[float, float]] = []
    for _ in range(rounds):
        session_id, wait = new_session_id(), random.random() < 0.05
        request = start_request(session_id, terms(seats=seats), wait=wait)
        outcome = await insist(ledger, license_id, request)
        while wait and isinstance(outcome, Full):
            await asyncio.sleep(random.uniform(0, 0.02))
            outcome = await insist(ledger, license_id, request)
        if isinstance(outcome, Granted):
            since = time.monotonic()
            await asyncio.sleep(random.uniform(0, 0.08))
            held.append((since, time.monotonic()))
            await insist(ledger, license_id, End(session_id))
        elif isinstance(outcome, Full):
            await asyncio.sleep(random.uniform(0, 0.02))
        else:
            raise AssertionError(outcome)
    await tables.close()
    return held


async def insist(ledger: Ledger, license_id: str, request: Request) -> Outcome:
    """Retry until there is an answer, as programs do."""
    while True:
        try:
            return (await ledger.submit(license_id, request)).outcome
        except UnavailableError:
            await asyncio.sleep(random.uniform(0, 1))


if __name__ == "__main__":
    storage, license_id, rounds, seats = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(asyncio.run(race(storage, license_id, int(rounds), int(seats)))))
