"""Bulk deletion within a partition: full transactions, several at a time, while more keys are read.

That can be faster than the store allows a partition; its refusals are retried.
"""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator
from functools import partial

from licensing.errors import ConflictError
from licensing.storage.retry import with_retries
from licensing.storage.tables import TRANSACTION_ROWS, Table, Tables, delete

PARALLEL = 4


async def delete_all(tables: Tables, table: Table, partition: str, keys: AsyncIterable[str]) -> int:
    """Delete rows by their keys; how many. Rows that somebody else deletes meanwhile are not counted.

    Raises UnavailableError if the store does not answer, also after retries.
    """
    deleted = 0
    places = asyncio.Semaphore(PARALLEL)

    def done(task: asyncio.Task[int]) -> None:
        nonlocal deleted
        places.release()
        if not task.cancelled() and not task.exception():
            deleted += task.result()

    try:
        async with asyncio.TaskGroup() as tasks:
            async for batch in batches(keys):
                await places.acquire()
                tasks.create_task(_delete(tables, table, partition, batch)).add_done_callback(done)
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None  # callers handle single errors
    return deleted


async def batches(keys: AsyncIterable[str]) -> AsyncIterator[list[str]]:
    """Keys by the transaction."""
    batch: list[str] = []
    async for key in keys:
        batch.append(key)
        if len(batch) == TRANSACTION_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


async def _delete(tables: Tables, table: Table, partition: str, keys: list[str]) -> int:
    while keys:
        try:
            await with_retries(partial(tables.commit, table, partition, [delete(key) for key in keys]))
        except ConflictError:
            # Somebody else was faster, or an earlier try of ours whose reply was lost.
            beyond = max(keys) + " "  # the first key that sorts after it
            kept = {row.key async for row in tables.rows(table, partition, min(keys), beyond, columns=())}
            keys = [key for key in keys if key in kept]
        else:
            break
    return len(keys)
