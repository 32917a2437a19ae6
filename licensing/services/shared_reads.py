"""Readings of the register that all callers of one process share for some time; concurrent callers share one."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Value = TypeVar("Value")


class SharedReads(Generic[Key, Value]):
    """Readings by key, each good for `seconds` after it was begun by `clock` (UTC). A failed one is not cached.

    `read` makes the reading of a key.
    """

    def __init__(
        self, seconds: float, clock: Callable[[], datetime], read: Callable[[Key], Coroutine[Any, Any, Value]]
    ) -> None:
        self._length = timedelta(seconds=seconds)
        self._clock = clock
        self._read = read
        self._entries: dict[Key, tuple[datetime, asyncio.Task[Value]]] = {}
        self._cleared_at = clock()

    async def get(self, key: Key) -> Value:
        """The reading of a key. Raises what `read` raises; all callers that share a reading get its error."""
        now = self._clock()
        self._forget_stale(now)
        entry = self._entries.get(key)
        if entry is None or not self._is_good(entry[0], now):
            entry = self._entries[key] = now, asyncio.create_task(self._read(key))
            entry[1].add_done_callback(lambda task: self._forget_failed(key, task))
        # A caller that goes away does not take the reading from the others.
        return await asyncio.shield(entry[1])

    def _forget_failed(self, key: Key, task: asyncio.Task[Value]) -> None:
        """Forget a reading that has failed, also where all its callers have gone away."""
        if task.cancelled() or task.exception() is not None:
            entry = self._entries.get(key)
            if entry is not None and entry[1] is task:
                del self._entries[key]

    def _forget_stale(self, now: datetime) -> None:
        """Bound the memory by what was asked for lately. Once for each time that a reading is good for is enough."""
        if not self._is_good(self._cleared_at, now):
            self._entries = {key: entry for key, entry in self._entries.items() if self._is_good(entry[0], now)}
            self._cleared_at = now

    def _is_good(self, begun: datetime, now: datetime) -> bool:
        """Whether a reading is; one from a time to come was begun by a clock that has been set back."""
        return timedelta() <= now - begun < self._length
