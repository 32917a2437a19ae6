"""Which time it is, on the service's clock and not on the computer's, which anyone can set.

The rules:

- Each lease says what time it is; from then on, time is what the computer's clocks add to that.
- Time never runs back: it goes on with the monotonic clock when the other is set back.
- A sleeping computer's monotonic clock may stand still; its wall clock then tells how long it slept.
- Over a restart the latest time that was seen is remembered, and it is at least that late.
"""

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """The two clocks of a computer."""

    def wall(self) -> float:
        """Seconds since 1970, as set by whomever."""

    def monotonic(self) -> float:
        """Seconds since some time, never set."""


class SystemClock:
    """This computer's clocks."""

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since some time."""
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Timeline:
    """The service's time: `offset` is how far its clock is ahead of the computer's; at the monotonic reading
    `floor_at` it was at least `floor`. All in seconds.
    """

    offset: float
    floor: float
    floor_at: float

    def now(self, wall: float, monotonic: float) -> float:
        """The service's time at these readings of the computer's clocks."""
        return max(wall + self.offset, self.floor + monotonic - self.floor_at)

    @classmethod
    def synchronized(cls, at: float, wall: float, monotonic: float) -> "Timeline":
        """The timeline after the service said that it is `at`."""
        return cls(offset=at - wall, floor=at, floor_at=monotonic)
