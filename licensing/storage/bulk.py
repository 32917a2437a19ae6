"""Deleting many rows of a partition: full transactions, several at a time, while more keys are read."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator

from licensing.errors import Conflict
from licensing.storage.tables import TRANSACTION_ROWS, Table, Tables, delete

PARALLEL = 4


async def delete_all(tables: Tables, table: Table, partition: str, keys: AsyncIterable[str]) -> int:
    """Delete rows by their keys; how many those were. Those that somebody else deletes meanwhile are passed over."""
    deleted = 0
    places = asyncio.Semaphore(PARALLEL)
    try:
        async with asyncio.TaskGroup() as tasks:
            async for batch in batches(keys):
                deleted += len(batch)
                await places.acquire()
                task = tasks.create_task(_delete(tables, table, partition, batch))
                task.add_done_callback(lambda _: places.release())
    except ExceptionGroup as faults:
        raise faults.exceptions[0] from None  # the callers know faults, not groups of them
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


async def _delete(tables: Tables, table: Table, partition: str, keys: list[str]) -> None:
    while keys:
        try:
            await tables.commit(table, partition, [delete(key) for key in keys])
        except Conflict as conflict:
            keys = [key for place, key in enumerate(keys) if place != (conflict.index or 0)]
        else:
            return
