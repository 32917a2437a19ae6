"""Holds a seat while any program runs, and passes its exit code on.

When the seat is lost, the program's user has a time to save; then the program is asked to end (SIGTERM;
Ctrl+Break on Windows), and only if it does not within `KILL_SECONDS` is it made to. If the seat comes back
in time, nothing happens.
"""

import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from licensing_client.machine import Status
from licensing_client.seat import Seat

KILL_SECONDS = 30.0
CANNOT_RUN, NOT_FOUND = 126, 127
"""Exit codes for a program that cannot be started, as shells have them."""
LOOK_SECONDS = 0.25


def _new_process(command: Sequence[str]) -> subprocess.Popen[bytes]:
    if sys.platform == "win32":
        return subprocess.Popen(command, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP)  # noqa: S603
    return subprocess.Popen(command)  # noqa: S603 — running what the user names is what this is for


def _ask_to_end(process: subprocess.Popen[bytes]) -> None:
    if sys.platform == "win32":
        process.send_signal(signal.CTRL_BREAK_EVENT)
    else:
        process.terminate()


@contextlib.contextmanager
def _signals_go_to(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """The terminal sends Ctrl+C to the program itself; what is sent to us alone is passed on."""

    def pass_on(number: int, _frame: object) -> None:
        process.send_signal(number)

    kept = {signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if number is not None and sys.platform != "win32":
            kept[number] = signal.signal(number, pass_on)
    try:
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)


def hold(seat: Seat, command: Sequence[str], save_seconds: float, say: Callable[[str], None]) -> int:
    """Run a program under a seat that is held already. The program's exit code; 128 + n if signal n ended it."""
    try:
        process = _new_process(command)
    except FileNotFoundError:
        say(f"{command[0]}: there is no such program.")
        return NOT_FOUND
    except OSError as error:
        say(f"{command[0]} cannot be run: {error.strerror or 'the system refuses'}.")
        return CANNOT_RUN
    with _signals_go_to(process):
        lost_at: float | None = None
        asked_at: float | None = None
        while (code := _ended(process)) is None:
            now = time.monotonic()
            if seat.standing.status is not Status.LOST:
                lost_at = None
            elif lost_at is None:
                lost_at = now
                say(f"The program will be asked to end in {save_seconds:.0f} seconds. Save your work.")
            if asked_at is None and lost_at is not None and now - lost_at >= save_seconds:
                asked_at = now
                _ask_to_end(process)
            if asked_at is not None and now - asked_at >= KILL_SECONDS:
                process.kill()
    return code if code >= 0 else 128 - code


def _ended(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(LOOK_SECONDS)
    except subprocess.TimeoutExpired:
        return None
