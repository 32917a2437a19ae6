"""The batch queue of group commit: requests that arrive while a batch is handled form the next batch.

No timer collects a batch: a lone request is handled at once, unless other processes have to get their turn. One batch
at a time, so the handler never runs concurrently with itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from licensing.errors import UnavailableError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

WAIT_SECONDS = 9.0
"""The longest wait for an answer, the time in the queue included."""


async def no_pause() -> None:
    """Take the next batch at once."""


class BatchQueue(Generic[Item, Answer]):
    """A queue with one handler.

    `handle` takes all queued items and returns answers by their places; it answers at least one. Items without an
    answer stay in the queue, ahead of later ones. An exception that it raises goes to all callers of the batch.
    `pause` is awaited before each batch.
    """

    def __init__(
        self,
        handle: Callable[[Sequence[Item]], Awaitable[dict[int, Answer]]],
        pause: Callable[[], Awaitable[None]],
    ) -> None:
        self._handle = handle
        self._pause = pause
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._running: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nothing is queued or being handled."""
        return self._running is None

    async def submit(self, item: Item) -> Answer:
        """Queue an item and wait for its answer. An item whose caller was cancelled is handled all the same.

        Raises UnavailableError after `WAIT_SECONDS`, and whatever the handler raises.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                return await future
        except TimeoutError:
            raise UnavailableError("the store did not answer in time") from None

    async def _run(self) -> None:
        try:
            while self._waiting:
                await self._pause()
                batch, self._waiting = self._waiting, []
                try:
                    answers = await self._handle([item for item, _ in batch])
                except Exception as error:  # it is the callers' to handle, and the queue must go on
                    for _, future in batch:
                        if not future.done():
                            future.set_exception(error)
                    continue
                for place, answer in answers.items():
                    future = batch[place][1]
                    if not future.done():
                        future.set_result(answer)
                self._waiting[:0] = [entry for place, entry in enumerate(batch) if place not in answers]
        finally:
            self._running = None
