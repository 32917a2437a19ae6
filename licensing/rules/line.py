"""The line: who waits for a seat of a license, in the order of arrival.

1. A start that waits, and is refused for want of a seat, gets a place at the end of the line. There are at most
   `MOST_PLACES`; whoever comes then has none, and may get one when it asks again.
2. A place belongs to a session id. Asking again keeps it, so that a lost reply costs nobody a place.
3. A start is granted if more seats are free than live waiters stand before it: nobody with a place is overtaken. A
   start without a place stands behind all.
4. A waiter is told by its position when to ask again. If it is not heard of for three times as long and 15 seconds, it
   has left; but not before the amnesty after an outage is over, since nobody could be heard meanwhile.
5. Whoever is granted, or asks without waiting, has no place any more.

Who needs no seat of its own needs no place (`licensing.rules.seats`). Lines are tuples, and do not change; times are
UTC.
"""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Final

from pydantic import AwareDatetime, Field

from licensing.rules.outage import Outage, spared

MOST_PLACES: Final = 50
RETRY_STEP_SECONDS: Final = 5
MOST_RETRY_SECONDS: Final = 60
"""The first in line asks again after 5 seconds, the second after 10, and so on up to 60."""
MISSED_RETRIES: Final = 3
LEFT_AFTER_SECONDS: Final = 15
"""A waiter has left that is not heard of for `MISSED_RETRIES` times what it was told, and this."""


@dataclass(frozen=True, slots=True)
class Place:
    """A session's place: when it came, when it asked last, and after how long it was told to ask again then."""

    session_id: str
    arrived_at: AwareDatetime
    heard_at: AwareDatetime
    retry_seconds: Annotated[int, Field(ge=0, le=86400)]

    def left_at(self, outage: Outage | None) -> datetime:
        """When it has left if it does not ask again (UTC), an outage of the service considered."""
        silence = timedelta(seconds=MISSED_RETRIES * self.retry_seconds + LEFT_AFTER_SECONDS)
        return spared(self.heard_at + silence, outage)


Line = tuple[Place, ...]


def live(line: Line, now: datetime, outage: Outage | None) -> Line:
    """Those who still wait, the last outage of the service considered."""
    return tuple(place for place in line if place.left_at(outage) > now)


def without(line: Line, session_ids: Collection[str]) -> Line:
    """The line after some sessions have left it."""
    return tuple(place for place in line if place.session_id not in session_ids)


def position_of(line: Line, session_id: str) -> int | None:
    """Where a session stands, 1 for the first; None if it has no place."""
    return next((number for number, place in enumerate(line, 1) if place.session_id == session_id), None)


def waiters_before(line: Line, session_id: str) -> int:
    """How many stand before a session: all, if it has no place."""
    position = position_of(line, session_id)
    return len(line) if position is None else position - 1


def retry_seconds_at(position: int) -> int:
    """After how long a waiter at a position asks again."""
    return min(RETRY_STEP_SECONDS * position, MOST_RETRY_SECONDS)


def waiting(line: Line, session_id: str, now: datetime) -> Line:
    """The line after a session has asked and was refused: it keeps its place, or gets the last one if there is room."""
    position = position_of(line, session_id)
    if position is None:
        if len(line) >= MOST_PLACES:
            return line
        return (*line, Place(session_id, now, now, retry_seconds_at(len(line) + 1)))
    heard = replace(line[position - 1], heard_at=now, retry_seconds=retry_seconds_at(position))
    return (*line[: position - 1], heard, *line[position:])
