"""Whether the service was away: whoever ran meanwhile could not be heard, and must not find the seat given away.

Each process that serves marks that it is alive, at most once a minute. A gap between two marks is an outage. Whoever
finds it writes it down in one transaction with the next mark, so that all processes know the same outage.

What lies between the service and the programs is not seen: names, certificates, the front end, the customer's line.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Final

from licensing.errors import ConflictError, LicensingError, UnavailableError
from licensing.rules.model import UNKNOWN, Unknown
from licensing.rules.outage import Outage
from licensing.storage.register import Register

MARK_EVERY: Final = timedelta(minutes=1)
"""How often a process marks that it is alive, if it serves anybody."""
GAP: Final = timedelta(minutes=11)
"""A longer time without a mark is an outage; sweep, every five minutes, may miss once."""
KNOWN_FOR: Final = timedelta(minutes=3)
"""For so long after its own mark a process knows that there was no outage."""
TRIES: Final = 5

_log = logging.getLogger(__name__)


class Outages:
    """What one process knows of outages. It belongs to the running event loop.

    With `marks` False the process serves nobody, and a gap until now is an outage that still lasts.
    """

    def __init__(self, register: Register, clock: Callable[[], datetime], *, marks: bool = True) -> None:
        self._register = register
        self._clock = clock
        self._marks = marks
        self._outage: Outage | None = None
        self._marked_at: datetime | None = None
        self._tried_at: datetime | None = None
        self._marking: asyncio.Task[None] | None = None

    @property
    def last(self) -> Outage | Unknown | None:
        """The last outage, as far as it may still matter; UNKNOWN if this process did not mark lately."""
        return self._outage if _is_recent(self._marked_at, self._clock(), KNOWN_FOR) else UNKNOWN

    def touch(self) -> None:
        """Mark in the background that the process is alive, unless it did within a minute."""
        if self._marks and self._marking is None and not _is_recent(self._tried_at, self._clock(), MARK_EVERY):
            self._marking = asyncio.create_task(self._in_background())

    async def keep_marking(self) -> None:
        """Mark every minute, until it is cancelled, that the process is alive: for a server without timers."""
        while True:
            self.touch()
            await asyncio.sleep(MARK_EVERY.total_seconds())

    async def read(self) -> Outage | None:
        """Read the last outage, and mark that the process is alive.

        Raises UnavailableError if the store does not answer.
        """
        for _ in range(TRIES):
            with suppress(ConflictError):  # another process has marked meanwhile
                await self._mark()
                return self._outage
        raise UnavailableError("too many others mark at once that they are alive")

    async def close(self) -> None:
        """Wait for the mark in progress."""
        if self._marking is not None:
            await self._marking

    async def _in_background(self) -> None:
        try:
            with suppress(LicensingError):  # the next request tries again, after a minute
                await self._mark()
        finally:
            self._marking = None

    async def _mark(self) -> None:
        now = self._tried_at = self._clock()
        alive, outage = await self._register.alive()
        gap = None
        if alive and now - alive.value > GAP:
            gap = outage = Outage.until(now, alive.value, outage)
        if self._marks and not (alive and _is_recent(alive.value, now, MARK_EVERY)):
            await self._register.mark_alive(alive, now, gap)
            if gap:
                _log.warning("the service was away: %s", f"{gap.begin:%Y-%m-%dT%H:%M:%SZ}/{now:%Y-%m-%dT%H:%M:%SZ}")
        self._outage, self._marked_at = outage, now


def _is_recent(at: datetime | None, now: datetime, limit: timedelta) -> bool:
    return at is not None and abs(now - at) < limit
