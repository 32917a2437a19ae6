"""Giving the store time: for jobs that nobody waits for. Who serves a program tells it to come back instead."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from licensing.errors import UnavailableError

Result = TypeVar("Result")

BACKOFF_SECONDS = (0.5, 1, 2, 4, 8)
"""Seconds to wait before each new try, when the store does not answer."""


async def with_retries(work: Callable[[], Awaitable[Result]]) -> Result:
    """Run idempotent work, with retries while the store does not answer; UnavailableError after the last."""
    for wait in BACKOFF_SECONDS:
        try:
            return await work()
        except UnavailableError:
            await asyncio.sleep(wait)
    return await work()
