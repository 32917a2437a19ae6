"""The real service, once as its users run it and once in simulated time."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
import uvicorn
from licensing_client import Program
from licensing_client.license import License, parse_license
from licensing_client.tokens import xs_of
from licensing_client.transport import Cancellation, HttpTransport, Reply, Request
from simulation import SimulatedClock, Simulation

from licensing.api.app import create_app
from licensing.cli.home import Home
from licensing.cli.processes import free_port
from licensing.rules.requests import Recall
from licensing.rules.usage import Use
from licensing.services.service import Service
from licensing.services.sweep import sweep_license
from licensing.services.verify import Count, verify
from tests import factories

Result = TypeVar("Result")


def issuer_keys(home: Home) -> tuple[str, ...]:
    """What a vendor compiles into a program."""
    return xs_of(json.loads((home.folder / "issuer-keys.json").read_text()))


class TimedService:
    """The real service in this process, on a simulated clock; its calls come over real sockets."""

    def __init__(self, home: Home, storage: str, clock: SimulatedClock) -> None:
        self.home = home
        self.clock = clock
        self._loop = asyncio.new_event_loop()
        settings = factories.settings(home, storage)
        self._service = cache(lambda: Service(settings, lambda: datetime.fromtimestamp(clock.true, UTC)))
        self._socket = socket.create_server(("127.0.0.1", 0))
        config = uvicorn.Config(create_app(self._service), log_level="warning", access_log=False)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        self.base = f"http://127.0.0.1:{self._socket.getsockname()[1]}/api"
        self._transport = HttpTransport()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._server.serve([self._socket]))

    def close(self) -> None:
        """Stop, and wait until it has stopped."""
        self._server.should_exit = True
        self._thread.join()
        self._loop.close()

    def handle(self, request: Request) -> Reply:
        """Take one request over the network."""
        return self._transport.exchange(request, 10.0, Cancellation())

    def license(self, base: str = "", **claims: Any) -> License:
        """A license that has just been issued; programs reach the service at `base`."""
        now = int(self.clock.true)
        given = {"iat": now, "nbf": now, "exp": now + 30 * 86400, "service": base or self.base, **claims}
        return parse_license(factories.issue(self.home, **given), Program(issuer_keys(self.home)).keys())

    def simulation(self, disk: Path, license: License) -> Simulation:
        """A simulation of programs around this service."""
        return Simulation(disk, self.clock, license, self.handle, Program(issuer_keys(self.home)))

    def _await(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def sweep(self, license: License) -> int:
        """End what has lapsed; how many sessions that were."""
        service = self._service()
        as_of = datetime.fromtimestamp(self.clock.true, UTC)
        return self._await(sweep_license(service.register, service.ledger, license.id, as_of))

    def recall(self, license: License, session_id: str) -> None:
        """Recall a session, as an administrator does."""
        self._await(self._service().ledger.submit(license.id, Recall(session_id)))

    def uses(self, license: License) -> list[Use]:
        """The sessions that have ended, as totals see them."""

        async def ended() -> list[Use]:
            long_ago = datetime.fromtimestamp(0, UTC)
            return [use async for use in self._service().register.ended_uses(license.id, long_ago)]

        return self._await(ended())

    def count(self, license: License) -> Count:
        """Recount the register's invariants from its rows."""
        counted = self._await(verify(self._service().register, license.id))
        assert counted
        return counted


@pytest.fixture(scope="session")
def service(home: Home, account: Callable[[], str]) -> Iterator[TimedService]:
    """The service in simulated time."""
    service = TimedService(home, account(), SimulatedClock(float(int(time.time()))))
    yield service
    service.close()


@dataclass
class Served:
    """The service as its users run it: `licensing serve`, and the commands beside it."""

    home: Path
    base: str
    environment: dict[str, str]

    def licensing(self, *words: str) -> str:
        """Run a command of the service's; its standard output."""
        command = [sys.executable, "-m", "licensing", "--home", str(self.home), *words]
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def issue(self, file: Path, *options: str) -> Path:
        """Issue a license file with `licensing license issue`."""
        words = ["--organization", "acme", "--organization-name", "Acme Water Oy", "--product", "Water"]
        words += ["--until", "2037-12-31", "--service", self.base, "--out", str(file)]
        self.licensing("license", "issue", *words, *options)
        return file

    @property
    def issuer_keys(self) -> tuple[str, ...]:
        """The public keys that sign its license files."""
        return issuer_keys(Home(self.home))

    def client(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `licensing-client`."""
        keys = self.home / "issuer-public.json"
        public = [{"kty": "OKP", "crv": "Ed25519", "x": x} for x in self.issuer_keys]
        keys.write_text(json.dumps({"keys": public}))
        command = [sys.executable, "-m", "licensing_client", *words]
        environment = {**self.environment, "LICENSING_ISSUER_KEYS": keys.read_text()}
        return subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=60)


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory, account: Callable[[], str]) -> Iterator[Served]:
    """`licensing init` and `licensing serve` on the tests' Azurite."""
    folder = tmp_path_factory.mktemp("served")
    port = free_port()
    environment = {**os.environ, "LICENSING_STORAGE": account(), "XDG_STATE_HOME": str(folder / "state")}
    environment["LICENSING_STATUS_CACHE_SECONDS"] = "1"  # a suspension is to bite within a second
    for name in ("LICENSING_HOME", "LICENSING_ISSUER_KEYS"):
        environment.pop(name, None)
    place = Served(folder / "home", f"http://127.0.0.1:{port}/api", environment)
    place.licensing("init", "--service", place.base)
    command = [sys.executable, "-m", "licensing", "--home", str(place.home), "serve", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout
    assert process.stdout.readline().strip() == f"ready {place.base}"
    yield place
    process.terminate()
    process.communicate(timeout=30)


Issue = Callable[..., Path]
