"""Giving the store time: for jobs that nobody waits for. Who serves a program tells it to come back instead."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from licensing.errors import Unavailable

Result = TypeVar("Result")

PATIENCE = (0.5, 1, 2, 4, 8)
"""Seconds to wait before each new try, when the store does not answer."""


async def patiently(work: Callable[[], Awaitable[Result]]) -> Result:
    """Do what is safe to repeat, again while the store does not answer; Unavailable when patience is at its end."""
    for wait in PATIENCE:
        try:
            return await work()
        except Unavailable:
            await asyncio.sleep(wait)
    return await work()
