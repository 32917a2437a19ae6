"""`licensing demo`: the main job in a minute, on a temporary home. Everything that it prints happened over HTTP."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
from rich.markup import escape

from licensing.cli import processes
from licensing.cli.home import local_storage
from licensing.cli.output import fail, out
from licensing.crypto.pseudonyms import base64url, client_hash, from_base64url
from licensing.crypto.tokens import license_text

HEARTBEAT_SECONDS = 1
LEASE_SECONDS = 5
STORM_STARTS = 300
STORM_SEATS = 225
STORM_CALLS = 30


def demo() -> None:
    """Show the main job, from the license file to a storm of starts, in under a minute."""
    processes.require_local_extra()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="licensing-demo-") as folder:
        stage = _Stage(Path(folder))
        _print_heading("A vendor makes its keys, and a license with two seats for its customer")
        stage.command("init", "--table-port", str(stage.table_port))
        stage.command(
            *("license", "issue", "--organization", "acme", "--organization-name", "Acme Water Oy"),
            *("--product", "Fluidit Water", "--id", "acme-water", "--seats", "2", "--until", "2099-12-31"),
            *("--heartbeat", str(HEARTBEAT_SECONDS), "--lease", str(LEASE_SECONDS), "--out", "acme.lic"),
        )
        _print_heading("The service starts, over a real Table Storage emulator")
        with stage.service():
            as_promised = asyncio.run(_story(stage))
    if not as_promised:
        fail("The storm did not go as promised; the lines in red say how.")
    seconds = time.monotonic() - began
    out.print(f"\n[bold green]That was it[/], in {seconds:.0f} seconds. Nothing is left behind.", markup=True)


async def _story(stage: "_Stage") -> bool:
    """Run all scenes while the service runs. True if the storm went as promised."""
    async with stage.http() as http:
        await _desktops(stage, http)
        as_promised = await _storm(stage, http)
    _print_heading("Recounted from the rows")
    stage.command("maintenance", "verify")
    return as_promised


async def _desktops(stage: "_Stage", http: aiohttp.ClientSession) -> None:
    """A few programs on two seats: grants, a refusal, an end, a crash, a forged license and a suspension."""
    license_jws = stage.license("acme.lic")
    desktop = partial(_Desktop, http, license_jws)

    _print_heading("Three desktops, two seats")
    anna, ben, carol = desktop("anna"), desktop("ben"), desktop("carol")
    await anna.start()
    await ben.start()
    await carol.start()

    _print_heading("One ends, and the third gets in")
    await ben.end()
    await carol.start()

    _print_heading(f"One crashes; its seat comes back when its lease of {LEASE_SECONDS} seconds lapses")
    await anna.crash()
    david = desktop("david")
    await david.start()
    await _wait(LEASE_SECONDS)
    await david.start()

    _print_heading("A license file in which somebody turned 2 seats into 200")
    await _Desktop(http, _forged(license_jws), "eve").start()

    _print_heading("The vendor suspends the license; a running program learns of it at its next heartbeat")
    stage.command("license", "suspend", "acme-water")
    await _wait(2)
    await carol.heartbeat()
    await david.crash()
    await carol.crash()


async def _storm(stage: "_Stage", http: aiohttp.ClientSession) -> bool:
    """Many starts at once. True if exactly the seats were granted, with few calls to storage."""
    _print_heading(f"A storm: {STORM_STARTS} programs start at once on {STORM_SEATS} seats")
    stage.command(
        *("license", "issue", "--organization", "acme", "--product", "Fluidit Storm", "--id", "acme-storm"),
        *("--seats", str(STORM_SEATS), "--until", "2099-12-31", "--out", "storm.lic"),
    )
    license_jws = stage.license("storm.lic")
    desktops = [_Desktop(http, license_jws, f"user{number}", quiet=True) for number in range(STORM_STARTS)]
    calls, began = stage.storage_calls(), time.monotonic()
    statuses = Counter(await asyncio.gather(*(each.start() for each in desktops)))
    seconds = time.monotonic() - began
    await asyncio.sleep(0.5)  # the emulator writes its log a moment later
    calls = stage.storage_calls() - calls
    exact, cheap = statuses[201] == STORM_SEATS, calls <= STORM_CALLS
    _print_line("storm", f"{statuses[201]} granted, {statuses[409]} refused", exact)
    _print_line("storm", f"{calls} calls to storage, {seconds:.1f} seconds", cheap)
    return exact and cheap


class _Stage:
    """The temporary home, its commands, and the service that runs from it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = processes.free_port()
        self.table_port = processes.free_port()
        self._log = folder / "azurite.log"
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("LICENSING_")},
            "LICENSING_HOME": str(folder / "home"),
            "LICENSING_STATUS_CACHE_SECONDS": "1",
            "COLUMNS": "120",
        }

    def command(self, *words: str) -> None:
        """Run a command as a user would, and print it with its output."""
        shown = " ".join(f'"{word}"' if " " in word else word for word in words)
        out.print(f"  [dim]$ licensing {escape(shown)}[/]", markup=True)
        command = [sys.executable, "-m", "licensing", *words]
        done = subprocess.run(  # noqa: S603 - our own command
            command, cwd=self._folder, env=self._environment, capture_output=True, text=True, check=False
        )
        for line in (done.stdout + done.stderr).splitlines():
            out.print(f"  {line}")
        if done.returncode:
            raise processes.StartError(f"`licensing {words[0]}` failed; the lines above say why")

    @contextmanager
    def service(self) -> Iterator[None]:
        """Run Azurite and the service."""
        with ExitStack() as cleanup:
            log = cleanup.enter_context(self._log.open("wb"))
            cleanup.callback(processes.stop, processes.start_azurite(self.table_port, None, log))
            command = [sys.executable, "-m", "licensing", "serve", "--port", str(self._port)]
            environment = {**self._environment, "LICENSING_STORAGE": local_storage(self.table_port)}
            server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)  # noqa: S603
            cleanup.callback(processes.stop, server)
            ready = server.stdout.readline().decode().strip() if server.stdout else ""
            if not ready:
                raise processes.StartError("the service did not start; the lines above say why")
            out.print(f"  {ready}")
            yield

    def license(self, file: str) -> str:
        """The JWS in a license file that a command has written."""
        return license_text((self._folder / file).read_text(encoding="utf-8"))

    def storage_calls(self) -> int:
        """How many calls Azurite has served, by its own log."""
        return self._log.read_bytes().count(b"HTTP/1.1")

    def http(self) -> aiohttp.ClientSession:
        """A client of the service."""
        connector = aiohttp.TCPConnector(limit=0)
        return aiohttp.ClientSession(f"http://127.0.0.1:{self._port}/api/", connector=connector)


@dataclass(slots=True)
class _Desktop:
    """A desktop program: it starts, sends a heartbeat every second, ends or crashes."""

    http: aiohttp.ClientSession
    license_jws: str
    user: str
    quiet: bool = False
    session_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    token: str = ""
    heartbeats: asyncio.Task[None] | None = None

    async def start(self) -> int:
        """Ask for a seat. Returns the HTTP status."""
        body = {
            "license": self.license_jws,
            "session": self.session_id,
            "user": client_hash(self._salt, "user", self.user),
            "host": client_hash(self._salt, "host", f"{self.user}-pc.acme.example"),
            "nonce": secrets.token_urlsafe(16),
        }
        async with self.http.post("sessions", json=body) as response:
            status, reply = response.status, await response.json()
        if status == 201:
            self.token = reply["lease"]
            seats = reply["seats"]
            self._print(f"runs; {seats['in_use']} of {seats['total']} seats in use", True)
            if not self.quiet:
                self.heartbeats = asyncio.create_task(self._send_heartbeats())
        else:
            self._print(f"refused: {reply['code']}. {reply['detail']}", False)
        return status

    async def heartbeat(self) -> None:
        status, reply = await self._put_heartbeat()
        self._print("goes on" if status == 200 else f"must stop: {reply['code']}. {reply['detail']}", status == 200)

    async def end(self) -> None:
        await self._stop_heartbeats()
        async with self.http.delete(f"sessions/{self.session_id}", headers=self._bearer) as response:
            self._print("ends" if response.status == 204 else f"could not end: {response.status}", True)

    async def crash(self) -> None:
        await self._stop_heartbeats()
        self._print("falls silent", None)

    @property
    def _salt(self) -> bytes:
        # Without a check of the signature: that is the service's part.
        payload = self.license_jws.split(".")[1]
        return from_base64url(json.loads(from_base64url(payload))["salt"])

    @property
    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    async def _put_heartbeat(self) -> tuple[int, dict[str, Any]]:
        body = {"nonce": secrets.token_urlsafe(16)}
        path = f"sessions/{self.session_id}/heartbeat"
        async with self.http.put(path, json=body, headers=self._bearer) as response:
            return response.status, await response.json()

    async def _send_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            status, reply = await self._put_heartbeat()
            if status == 200:
                self.token = reply["lease"]

    async def _stop_heartbeats(self) -> None:
        if self.heartbeats:
            self.heartbeats.cancel()
            with suppress(asyncio.CancelledError):
                await self.heartbeats

    def _print(self, what: str, good: bool | None) -> None:
        if not self.quiet:
            _print_line(self.user, what, good)


def _forged(license_jws: str) -> str:
    """The license with 200 seats in place of 2, under the old signature."""
    header, payload, signature = license_jws.split(".")
    claims = json.loads(from_base64url(payload))
    claims["seats"] = 200
    return f"{header}.{base64url(json.dumps(claims).encode())}.{signature}"


async def _wait(seconds: float) -> None:
    with out.status(f"{seconds:.0f} seconds"):
        await asyncio.sleep(seconds)


def _print_heading(what: str) -> None:
    out.print(f"\n[bold]{escape(what)}[/]", markup=True)


def _print_line(who: str, what: str, good: bool | None) -> None:
    style = {True: "green", False: "red", None: "yellow"}[good]
    out.print(f"  [{style}]{escape(who):>6}[/] {escape(what)}", markup=True)
