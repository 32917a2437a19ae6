"""The service's time, derived from leases. Users can set the computer's clock, so it is not trusted.

The rules (docs/protocol.md, section 9):

- A lease that answers sets the time anew, also backwards. Between leases time never runs backwards.
- The monotonic clock measures the time since then. If the wall clock added more, the computer slept, or somebody set
  the clock ahead; that counts as well.
- If the wall clock added less, somebody set it back: the difference goes into `offset`, so that later sleep is seen.
- The latest time is saved with the reading of the wall clock. After a restart, time continues from there or later. A
  wall clock behind that reading was set back, perhaps from a wrong time to the right one.
- Under a hold (`hold`), time is never behind the wall clock after a start, sleep or a setting: `offset` may come from a
  clock that was ahead and is right again, and then somebody else may have the seat already.
"""

import sys
import time
from dataclasses import dataclass
from typing import Protocol

STEP_SECONDS = 1.0
"""The clocks have to differ by more than this to count as set, or as slept."""


class Clock(Protocol):
    """The two clocks of a computer."""

    def wall(self) -> float:
        """Seconds since 1970. Users can set this clock."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary time. Nobody can set this clock."""


class SystemClock:
    """This computer's clocks. The monotonic one counts sleep on Linux and macOS."""

    def wall(self) -> float:
        """Seconds since 1970."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since an arbitrary time."""
        if sys.platform == "linux":
            return time.clock_gettime(time.CLOCK_BOOTTIME)
        if sys.platform == "darwin":
            return time.clock_gettime(time.CLOCK_MONOTONIC)  # time.monotonic stops during sleep there
        return time.monotonic()


@dataclass(frozen=True, slots=True)
class Timeline:
    """The service's time, in seconds.

    `now`: the time when the clocks read `wall` and `monotonic`. `offset`: the service's clock minus the wall clock.
    """

    now: float
    offset: float
    wall: float
    monotonic: float
    hold: bool = False

    def at(self, wall: float, monotonic: float) -> "Timeline":
        """The timeline at the next reading of the computer's clocks."""
        by_wall, elapsed = wall - self.wall, max(0.0, monotonic - self.monotonic)
        offset = self.offset + elapsed - by_wall if elapsed > by_wall + STEP_SECONDS else self.offset
        added = by_wall if by_wall > elapsed + STEP_SECONDS else elapsed
        now = self.now + added
        if self.hold and abs(by_wall - elapsed) > STEP_SECONDS:
            now = max(now, wall)
        return Timeline(now, offset, wall, monotonic, self.hold)

    @classmethod
    def synchronized(cls, issued_at: float, wall: float, monotonic: float, *, hold: bool = False) -> "Timeline":
        """The timeline after a lease that was issued at `issued_at`."""
        return cls(issued_at, issued_at - wall, wall, monotonic, hold)

    @classmethod
    def resumed(
        cls, saved: "SavedTime", issued_at: float, wall: float, monotonic: float, *, hold: bool = False
    ) -> "Timeline":
        """The timeline of a new run. `issued_at`: the issue of the last lease, 0 without one."""
        seen = max(saved.seen, issued_at)
        guess = wall + saved.offset
        if wall < saved.wall:
            guess = min(wall, guess, key=lambda time: abs(time - seen))
        if hold:
            guess = max(guess, wall)
        now = max(guess, seen)
        # A clock that shows a time before the last lease was set back; one that was corrected does not.
        return cls(now, (guess if guess >= issued_at else now) - wall, wall, monotonic, hold)


@dataclass(frozen=True, slots=True)
class SavedTime:
    """What is kept of a timeline. `seen`: the latest time. `wall`: the wall clock then."""

    offset: float = 0.0
    seen: float = 0.0
    wall: float = 0.0
