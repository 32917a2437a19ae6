"""The service's time, derived from leases. Users can set the computer's clock, so it is not trusted.

The rules:

- Each lease carries the service's time. The computer's clocks measure the time since then.
- Time never runs backwards: if the wall clock is set back, the monotonic clock counts.
- The monotonic clock may stop while the computer sleeps; the wall clock then shows how long it slept.
- The latest time is saved. After a restart, time continues from there or later.
"""

import time
from dataclasses import dataclass
from typing import Protocol


class Clock(Protocol):
    """The two clocks of a computer."""

    def wall(self) -> float:
        """Seconds since 1970. Users can set this clock."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary time. Nobody can set this clock."""


class SystemClock:
    """This computer's clocks."""

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since an arbitrary time."""
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Timeline:
    """The service's time, in seconds.

    `offset`: the service's clock minus the wall clock. `floor`: the least time at the monotonic reading `floor_at`.
    """

    offset: float
    floor: float
    floor_at: float

    def now(self, wall: float, monotonic: float) -> float:
        """The service's time at these readings of the computer's clocks."""
        return max(wall + self.offset, self.floor + monotonic - self.floor_at)

    @classmethod
    def synchronized(cls, issued_at: float, wall: float, monotonic: float) -> "Timeline":
        """The timeline after a lease that was issued at `issued_at`."""
        return cls(offset=issued_at - wall, floor=issued_at, floor_at=monotonic)
