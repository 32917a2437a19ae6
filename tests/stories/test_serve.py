"""`licensing serve` as a developer has it on a machine: start, use, stop, and again."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp
import pytest

from licensing.cli.home import Home
from licensing.cli.processes import free_port
from tests import factories
from tests.processes import end, heartbeat, start


@contextmanager
def terminal(home: Home, *options: str) -> Iterator[tuple[str, int, subprocess.Popen[str]]]:
    """Run `licensing serve` with its own Azurite; its URL, Azurite's port, and the process."""
    port, table_port = free_port(), free_port()
    command = [sys.executable, "-m", "licensing", "--home", str(home.folder), "serve"]
    ports = ["--port", str(port), "--table-port", str(table_port)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LICENSING_")}
    process = subprocess.Popen(
        [*command, *ports, *options], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == f"ready http://127.0.0.1:{port}/api\n"
        yield f"http://127.0.0.1:{port}/api", table_port, process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)


def listens(port: int) -> bool:
    """Whether anybody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", ["1", "2"])
async def test_stopping_stops_the_service_and_azurite(home: Home, how: signal.Signals, workers: str) -> None:
    with terminal(home, "--workers", workers) as (url, table_port, process):
        async with aiohttp.ClientSession() as http, http.get(f"{url}/health") as response:
            assert response.status == 200
        assert listens(table_port)
        process.send_signal(how)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0, said
        assert said == "Stopped.\n"
        assert not listens(table_port)
        assert not listens(int(url.split(":")[2].split("/")[0]))


def test_workers_do_not_outlive_a_command_that_was_killed(home: Home, azurite: str) -> None:
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "licensing", "serve", "--port", str(port), "--workers", "2"],
        env={**os.environ, **factories.environment(home, azurite)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == f"ready http://127.0.0.1:{port}/api\n"
        process.kill()
        process.communicate(timeout=30)  # to the end of what the workers write, too
        assert not listens(port)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


async def test_the_register_is_kept_over_a_restart_where_a_folder_is_named(home: Home, tmp_path: Path) -> None:
    license = factories.issue(home, seats=1)
    async with aiohttp.ClientSession() as http:
        with terminal(home, "--data", str(tmp_path / "data")) as (url, _, _):
            status, reply = await start(http, url, factories.start_body(license))
            assert status == 201
        with terminal(home, "--data", str(tmp_path / "data")) as (url, _, _):
            assert (await heartbeat(http, url, reply))[0] == 200
            assert (await start(http, url, factories.start_body(license)))[0] == 409
            assert await end(http, url, reply) == 204
            assert (await start(http, url, factories.start_body(license)))[0] == 201


def test_a_taken_port_is_said_in_one_line_and_nothing_is_left_running(home: Home) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port, table_port = taken.getsockname()[1], free_port()
        command = [sys.executable, "-m", "licensing", "serve", "--home", str(home.folder)]
        for ports in (["--port", str(port)], ["--port", str(free_port()), "--table-port", str(port)]):
            done = subprocess.run(
                [*command, "--table-port", str(table_port), *ports],
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
                env={name: value for name, value in os.environ.items() if not name.startswith("LICENSING_")},
            )
            assert done.returncode == 1
            assert done.stdout == ""
            assert len(done.stderr.splitlines()) == 1
            assert f"port {port} is taken" in done.stderr
            assert not listens(table_port)


def test_a_setting_that_does_not_do_stops_the_start_with_one_line(home: Home) -> None:
    environment = {**os.environ, "LICENSING_PEPPERS": '{"p1": "canary"}', "LICENSING_HOME": str(home.folder)}
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "licensing", "serve"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=environment,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "LICENSING_PEPPERS" in done.stderr
    assert "canary" not in done.stderr
    assert time.monotonic() - began < 30
