"""The ways in which a program ends while it holds a seat: it exits, an exception ends it, or it is told to.

SIGTERM, SIGHUP (the terminal or the login session closes) and, on Windows, Ctrl+Break end a Python program
without its exit handlers. Where the program has not decided otherwise they become an orderly exit. A window
program on Windows hears of the session's end from its toolkit, and calls `close` there (README.md).
"""

import atexit
import signal
import sys
import threading
from types import FrameType
from typing import Protocol


class Closable(Protocol):
    """What is to be closed."""

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
    """Close a seat when the program ends, however it does. Signals are left alone outside the main thread."""
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
    """A seat has been closed."""
    if seat in _open_seats:
        _open_seats.remove(seat)
