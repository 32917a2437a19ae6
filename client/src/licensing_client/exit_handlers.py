"""Closes seats when the program ends: at exit, after an exception, or on a signal.

SIGTERM, SIGHUP (terminal or login session closed) and Ctrl+Break (Windows) end Python without its exit handlers.
Where the program has no signal handler of its own, they become `sys.exit`. On Windows, a window program learns of
the session's end from its toolkit and calls `close` itself (README.md).
"""

import atexit
import signal
import sys
import threading
from types import FrameType
from typing import Protocol


class Closable(Protocol):
    """Anything with a `close` method."""

    def close(self) -> None:
        """Close it."""


_open_seats: list[Closable] = []
_atexit_registered = False


def _close_all() -> None:
    while _open_seats:
        _open_seats.pop().close()


def _exit(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)


def register(seat: Closable) -> None:
    """Close a seat when the program ends. Outside the main thread, signals are left alone."""
    global _atexit_registered
    if seat not in _open_seats:
        _open_seats.append(seat)
    if not _atexit_registered:
        _atexit_registered = True
        atexit.register(_close_all)
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, _exit)


def unregister(seat: Closable) -> None:
    """Forget a seat that is closed."""
    if seat in _open_seats:
        _open_seats.remove(seat)
