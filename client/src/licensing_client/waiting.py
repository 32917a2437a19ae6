"""Waits for a seat in a terminal, and says how that goes: the place in line, the end of the wait."""

import time
from collections.abc import Callable

from licensing_client.machine import Status
from licensing_client.reasons import Code
from licensing_client.seat import Seat, Standing

POLL_SECONDS = 0.1


def refusal_text(standing: Standing) -> str:
    """What to tell of a refusal to somebody who wants to wait."""
    if standing.reason is None:
        return ""
    if not standing.asking:
        return standing.reason.message
    if standing.reason.code is Code.NO_SEAT:
        return "All seats are taken; waiting for one. Ctrl+C ends the wait."
    return f"{standing.reason.message} Trying again; Ctrl+C ends that."


def place_text(standing: Standing) -> str:
    """The place in line, and how many wait, in a sentence."""
    wait = "1 waits" if standing.waiting == 1 else f"{standing.waiting} wait"
    if standing.position is None:
        return f"There is no place in line for you yet; {wait}."
    return f"You are number {standing.position} in line; {wait}."


def wait_for_seat(seat: Seat, seconds: float | None, report: Callable[[str], None]) -> bool:
    """Wait until a seat is granted. False if it is refused for good, or after so many seconds.

    `seconds`: None for no limit. `report` gets the sentence that the time is over. Ctrl+C raises KeyboardInterrupt.
    """
    end = None if seconds is None else time.monotonic() + seconds
    while not (standing := seat.standing).running:
        if not (standing.asking or standing.status is Status.STARTING):
            return False
        if end is not None and time.monotonic() >= end:
            report(f"No seat came free within {seconds:g} seconds.")
            return False
        time.sleep(POLL_SECONDS)
    return True
