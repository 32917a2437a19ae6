"""Group commit's queue: who comes while a group is being served forms the next group.

Nothing waits for a timer: a lone item is served at once. Groups are served one after another, so that whoever serves
need not fear itself.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from licensing.errors import UnavailableError

Item = TypeVar("Item")
Answer = TypeVar("Answer")

BOUND_SECONDS = 9.0
"""The longest that anybody waits for an answer, queueing included."""


class BatchQueue(Generic[Item, Answer]):
    """A queue with one server.

    `serve` takes all items that wait and returns an answer for each, by place; items without one stay in the queue,
    ahead of those that came meanwhile. It must answer at least one. A fault that it raises goes to all of the group.
    """

    def __init__(self, serve: Callable[[Sequence[Item]], Awaitable[dict[int, Answer]]]) -> None:
        self._serve = serve
        self._waiting: list[tuple[Item, asyncio.Future[Answer]]] = []
        self._server: asyncio.Task[None] | None = None

    @property
    def idle(self) -> bool:
        """Whether nobody waits and nobody is being served."""
        return self._server is None

    async def submit(self, item: Item) -> Answer:
        """Queue an item and wait for its answer; UnavailableError where that takes longer than `BOUND_SECONDS`.

        An item whose caller has gone is served all the same: it may be half done already.
        """
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._server is None:
            self._server = asyncio.create_task(self._run())
        try:
            async with asyncio.timeout(BOUND_SECONDS):
                return await future
        except TimeoutError:
            raise UnavailableError("the store did not answer in time") from None

    async def _run(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting, []
                try:
                    answers = await self._serve([item for item, _ in group])
                except Exception as fault:  # whatever it is, it is the callers' to know, and the queue must go on
                    for _, future in group:
                        if not future.done():
                            future.set_exception(fault)
                    continue
                for place, answer in answers.items():
                    future = group[place][1]
                    if not future.done():
                        future.set_result(answer)
                self._waiting[:0] = [entry for place, entry in enumerate(group) if place not in answers]
        finally:
            self._server = None
