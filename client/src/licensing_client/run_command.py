"""Runs a program while a seat is held, and passes its exit code on.

When the seat is lost, the user gets time to save. If the seat comes back within that time, nothing happens.
Otherwise the program is asked to end, and killed after `KILL_SECONDS`. It is asked with SIGTERM. On Windows its
windows are asked to close; a program without windows gets Ctrl+Break.

The program receives the signals. On Windows it has a process group of its own, so that Ctrl+Break reaches it alone.
The system sends no Ctrl+C to such a group, so this module forwards both keys as Ctrl+Break.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from licensing_client.machine import Status
from licensing_client.seat import Seat

KILL_SECONDS = 30.0
CANNOT_RUN, NOT_FOUND = 126, 127
"""Exit codes for a program that cannot be started, as in shells."""
POLL_SECONDS = 0.25


def _new_process(command: Sequence[str]) -> subprocess.Popen[bytes]:
    if sys.platform == "win32":
        return subprocess.Popen(command, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP)  # noqa: S603
    return subprocess.Popen(command)  # noqa: S603 — the user names the program


def _request_end(process: subprocess.Popen[bytes]) -> None:
    if sys.platform != "win32":
        process.terminate()
        return
    # Without /F, taskkill asks windows to close; it fails where there are none.
    taskkill = os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "taskkill.exe")
    command = [taskkill, "/PID", str(process.pid)]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        if not subprocess.run(command, capture_output=True, timeout=KILL_SECONDS, check=False).returncode:  # noqa: S603
            return
    _forward_signal(process, signal.SIGBREAK)


def _forward_signal(process: subprocess.Popen[bytes], number: int) -> None:
    if sys.platform != "win32":
        if number != signal.SIGINT:  # the terminal sends Ctrl+C to the program itself
            process.send_signal(number)
        return
    with contextlib.suppress(OSError):  # without a console there is no Ctrl+Break
        process.send_signal(signal.CTRL_BREAK_EVENT)


@contextlib.contextmanager
def _signals_forwarded() -> Iterator[Callable[[subprocess.Popen[bytes]], None]]:
    """Forward signals to the program; those that arrive before it runs are kept for it.

    Yields the function to call as soon as it runs. Ignored signals stay ignored, here and in the program.
    """
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def handle(number: int, _frame: object) -> None:
        if started:
            _forward_signal(started[0], number)
        else:
            early.append(number)

    def start(process: subprocess.Popen[bytes]) -> None:
        started.append(process)
        for number in early:
            _forward_signal(process, number)

    previous = {}
    for name in ("SIGINT", "SIGBREAK") if sys.platform == "win32" else ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name)
        if signal.getsignal(number) is not signal.SIG_IGN:
            previous[number] = signal.signal(number, handle)
    try:
        yield start
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def run_command(seat: Seat, command: Sequence[str], save_seconds: float, report: Callable[[str], None]) -> int:
    """Run a program under a held seat. Returns its exit code, or 128 + n if signal n ended it."""
    with _signals_forwarded() as forward_to:
        try:
            process = _new_process(command)
        except FileNotFoundError:
            report(f"{command[0]}: there is no such program.")
            return NOT_FOUND
        except OSError as error:
            report(f"{command[0]} cannot be run: {error.strerror or 'the system refuses'}.")
            return CANNOT_RUN
        forward_to(process)
        lost_at: float | None = None
        end_requested_at: float | None = None
        while (code := _exit_code(process)) is None:
            now = time.monotonic()
            if seat.standing.status is not Status.LOST:
                lost_at = None
            elif lost_at is None:
                lost_at = now
                report(f"The program will be asked to end in {save_seconds:.0f} seconds. Save your work.")
            if end_requested_at is None and lost_at is not None and now - lost_at >= save_seconds:
                end_requested_at = now
                _request_end(process)
            if end_requested_at is not None and now - end_requested_at >= KILL_SECONDS:
                process.kill()
    return code if code >= 0 else 128 - code


def _exit_code(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(POLL_SECONDS)
    except subprocess.TimeoutExpired:
        return None
