"""Sessions that ended, many of them, put beside a license past the service."""

import asyncio
import uuid
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial

from licensing.rules.model import EndedSession, EndReason, Session, Versioned
from licensing.storage import register as rows
from licensing.storage.bulk import PARALLEL
from licensing.storage.retry import with_retries
from licensing.storage.tables import TRANSACTION_ROWS, Tables, Write, put

SECOND = timedelta(seconds=1)


async def fill(tables: Tables, license_id: str, count: int, before: datetime, apart: timedelta = SECOND) -> None:
    """So many sessions that ended so far apart, the last of them a minute before a time."""
    places = asyncio.Semaphore(PARALLEL)
    async with asyncio.TaskGroup() as tasks:
        for batch in batches(count, before, apart):
            await places.acquire()
            task = tasks.create_task(with_retries(partial(tables.commit, "register", license_id, batch)))
            task.add_done_callback(lambda _: places.release())


def batches(count: int, before: datetime, apart: timedelta = SECOND) -> Iterator[list[Write]]:
    """Their rows by the transaction, the oldest first."""
    for first in range(0, count, TRANSACTION_ROWS):
        yield [
            ended(number, before - timedelta(seconds=60) - (count - number) * apart)
            for number in range(first, min(first + TRANSACTION_ROWS, count))
        ]


def ended(number: int, at: datetime) -> Write:
    """A session that ended at a time, as the ledger writes it."""
    name, pseudonym = str(uuid.UUID(int=number)), "p" * 22
    session = Session(name, at - timedelta(hours=1), at, at, pseudonym, pseudonym, pseudonym, "p1", name)
    write = rows.end_changes(Versioned(EndedSession(session, at, EndReason.ENDED), ""))[1].write
    return put(write.key, write.columns)  # which can be tried again
