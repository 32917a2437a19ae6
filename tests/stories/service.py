"""The service as its users have it: `licensing serve` in processes of its own, and programs that call it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from licensing.cli.home import Home
from licensing.cli.processes import free_port, stop
from tests import support


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
    environment = {**os.environ, **support.environment(home, storage, **settings)}
    command = [sys.executable, *program, "serve", "--port", str(port), *options]
    with log.open("ab") as messages:
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=messages)
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
            # Where it had to be killed, while it waited for a worker that had just begun, the others would stay.
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)


async def start(http: aiohttp.ClientSession, url: str, body: dict[str, Any], **headers: str) -> tuple[int, Any]:
    """Send a start; status and reply."""
    async with http.post(f"{url}/sessions", json=body, headers=headers) as response:
        return response.status, await response.json()


async def heartbeat(http: aiohttp.ClientSession, url: str, reply: dict[str, Any]) -> tuple[int, Any]:
    """Send a heartbeat for a session that was started; status and reply."""
    path, headers = f"{url}/sessions/{reply['session']}/heartbeat", support.bearer(reply["lease"])
    async with http.put(path, json={"nonce": support.new_nonce()}, headers=headers) as response:
        return response.status, await response.json()


async def end(http: aiohttp.ClientSession, url: str, reply: dict[str, Any]) -> int:
    """End a session that was started; the status."""
    headers = support.bearer(reply["lease"])
    async with http.delete(f"{url}/sessions/{reply['session']}", headers=headers) as response:
        return response.status


def unlimited() -> aiohttp.TCPConnector:
    """As many connections at once as there are programs."""
    return aiohttp.TCPConnector(limit=0)
