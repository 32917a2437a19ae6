"""Retries and backoff.

A batch of requests is tried for `BATCH_SECONDS`; then its callers get 503 with Retry-After. Background jobs wait
longer: `with_retries`.
"""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from licensing.errors import UnavailableError

Result = TypeVar("Result")

BATCH_SECONDS = 6.0
"""How long a batch is tried."""
YIELD_SECONDS = 0.05
"""How long a process leaves a license to the others that change it, after each batch: two or three transactions."""
BACKOFF_SECONDS = (0.5, 1, 2, 4, 8)
"""The waits between a background job's tries."""


def batch_deadline() -> float:
    """Until when a batch that is tried now may be tried again, on the monotonic clock."""
    return time.monotonic() + BATCH_SECONDS


async def backoff(attempt: int, seconds: float) -> None:
    """Wait at random, up to `seconds` doubled with each attempt and at most one second."""
    await asyncio.sleep(random.uniform(0, min(1.0, seconds * 2 ** min(attempt, 6))))  # noqa: S311 - no secret


async def yield_to_others() -> None:
    """Wait about `YIELD_SECONDS`, by half more or less, so that processes do not keep step."""
    await asyncio.sleep(random.uniform(0.5, 1.5) * YIELD_SECONDS)  # noqa: S311 - no secret


async def with_retries(work: Callable[[], Awaitable[Result]]) -> Result:
    """Run idempotent background work, again while the store does not answer.

    Raises UnavailableError if the last try fails, too.
    """
    for wait in BACKOFF_SECONDS:
        try:
            return await work()
        except UnavailableError:
            await asyncio.sleep(wait)
    return await work()
