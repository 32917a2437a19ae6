"""Runs a program while a seat is held, and passes its exit code on.

When the seat is lost, the user gets time to save. If the seat comes back within that time, nothing happens.
Otherwise the program is asked to end, and killed after `KILL_SECONDS`. It is asked with SIGTERM. On Windows its
windows are asked to close; a program without windows gets Ctrl+Break.

A program that returns while what it has started runs on, as launchers do: the seat is held until the last of these
ends, as far as `descendants` knows them. They are asked to end, killed, and sent signals in the program's place.

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

from licensing_client.descendants import Descendants, Unknown, descendants
from licensing_client.machine import Status
from licensing_client.seat import Seat

KILL_SECONDS = 30.0
CANNOT_RUN, NOT_FOUND = 126, 127
"""Exit codes for a program that cannot be started, as in shells."""
POLL_SECONDS = 0.25
LAUNCHER_SECONDS = 2.0
"""A command that ends within so many seconds, and leaves something running, was a launcher. Also how long what it has
left must run until the user is told."""


def _new_process(command: Sequence[str], inherited: Sequence[int]) -> "subprocess.Popen[bytes]":
    if sys.platform == "win32":
        return subprocess.Popen(command, creationflags=subprocess.CREATE_NEW_PROCESS_GROUP)  # noqa: S603
    return subprocess.Popen(command, pass_fds=inherited)  # noqa: S603 — the user names the program


class _Program:
    """A command, and what it leaves running when it ends."""

    def __init__(self, process: "subprocess.Popen[bytes]", others: Descendants) -> None:
        self.process = process
        self._others = others
        self._asked: set[int] = set()

    @property
    def ended(self) -> bool:
        """Whether the command itself has ended."""
        return self.process.returncode is not None

    def runs_on(self) -> bool:
        """Whether the command or anything that it has started runs. Returns within `POLL_SECONDS`."""
        if not self.ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(POLL_SECONDS)
        elif self._others.running(self.process):
            time.sleep(POLL_SECONDS)
        return self._others.running(self.process) or not self.ended

    def forward(self, number: int) -> None:
        """Send a signal that this process was sent."""
        if self.process.poll() is None:
            _forward(self.process, number)
            return
        for pid in self._others.pids():
            _forward_to_other(pid, number)

    def request_end(self) -> None:
        """Ask whatever runs to end, each process once."""
        for pid in self._others.pids() if self.ended else [self.process.pid]:
            if pid not in self._asked:
                self._asked.add(pid)
                _request_end(pid, with_break=not self.ended)

    def kill(self) -> None:
        """Kill whatever runs."""
        if not self.ended:
            self.process.kill()
            return
        for pid in self._others.pids():
            _kill(pid)


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(OSError):  # it has ended, is another user's, or has no console
        os.kill(pid, number)


def _kill(pid: int) -> None:
    if sys.platform == "win32":
        _send(pid, signal.SIGTERM)  # which terminates it at once
    else:
        _send(pid, signal.SIGKILL)


def _request_end(pid: int, *, with_break: bool) -> None:
    if sys.platform != "win32":
        _send(pid, signal.SIGTERM)
        return
    # Without /F, taskkill asks windows to close; it fails where there are none.
    taskkill = os.path.join(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "taskkill.exe")
    command = [taskkill, "/PID", str(pid)]
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        if not subprocess.run(command, capture_output=True, timeout=KILL_SECONDS, check=False).returncode:  # noqa: S603
            return
    if with_break:  # otherwise Ctrl+Break might go to all programs of the console
        _send(pid, signal.CTRL_BREAK_EVENT)


def _forward(process: "subprocess.Popen[bytes]", number: int) -> None:
    if sys.platform != "win32":
        if number != signal.SIGINT:  # the terminal sends Ctrl+C to the program itself
            process.send_signal(number)
        return
    with contextlib.suppress(OSError):  # without a console there is no Ctrl+Break
        process.send_signal(signal.CTRL_BREAK_EVENT)


def _forward_to_other(pid: int, number: int) -> None:
    if sys.platform == "win32":
        _request_end(pid, with_break=False)
    elif number != signal.SIGINT or _is_out_of_reach(pid):
        _send(pid, number)


def _is_out_of_reach(pid: int) -> bool:
    """Whether the terminal's Ctrl+C, which goes to a process group, misses a process."""
    if sys.platform == "win32":
        return False
    try:
        return os.getpgid(pid) != os.getpgrp()
    except OSError:
        return False


@contextlib.contextmanager
def _signals_forwarded() -> Iterator[Callable[[_Program], None]]:
    """Forward signals to the program; those that arrive before it runs are kept for it.

    Yields the function to call as soon as it runs. Ignored signals stay ignored, here and in the program.
    """
    started: list[_Program] = []
    early: list[int] = []

    def handle(number: int, _frame: object) -> None:
        if started:
            started[0].forward(number)
        else:
            early.append(number)

    def start(program: _Program) -> None:
        started.append(program)
        for number in early:
            program.forward(number)

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


def run_command(
    seat: Seat,
    command: Sequence[str],
    save_seconds: float,
    report: Callable[[str], None],
    *,
    command_only: bool = False,
) -> int:
    """Run a program under a held seat, until it and all that it has started have ended.

    `command_only`: until it has ended. Returns its exit code, or 128 + n if signal n ended it.
    """
    others = Unknown() if command_only else descendants()
    with contextlib.closing(others), _signals_forwarded() as forward_to:
        begun = time.monotonic()
        try:
            process = _new_process(command, others.inherited)
        except FileNotFoundError:
            report(f"{command[0]}: there is no such program.")
            return NOT_FOUND
        except OSError as error:
            report(f"{command[0]} cannot be run: {error.strerror or 'the system refuses'}.")
            return CANNOT_RUN
        others.started()
        program = _Program(process, others)
        forward_to(program)
        _run_under(seat, program, save_seconds, report)
        if time.monotonic() - begun < LAUNCHER_SECONDS and others.left_behind():
            report("The command has ended, and what it has started runs on without a seat. Name the program itself.")
    code = process.returncode
    return code if code >= 0 else 128 - code


def _run_under(seat: Seat, program: _Program, save_seconds: float, report: Callable[[str], None]) -> None:
    """Wait until a program has ended. If the seat is lost, give time to save, then end it."""
    lost_at: float | None = None
    end_requested_at: float | None = None
    ended_at: float | None = None
    reported = False
    while program.runs_on():
        now = time.monotonic()
        ended_at = ended_at or (now if program.ended else None)
        if ended_at is not None and not reported and now - ended_at >= LAUNCHER_SECONDS:
            reported = True
            report("The command has ended. The seat is held until all that it has started has ended, too.")
        if seat.standing.status is not Status.LOST:
            lost_at = None
        elif lost_at is None:
            lost_at = now
            report(f"The program will be asked to end in {save_seconds:.0f} seconds. Save your work.")
        if end_requested_at is None and lost_at is not None and now - lost_at >= save_seconds:
            end_requested_at = now
        if end_requested_at is not None:
            program.request_end()
            if now - end_requested_at >= KILL_SECONDS:
                program.kill()
