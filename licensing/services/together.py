"""Reads that do not depend on one another, at the same time."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, overload

One = TypeVar("One")
Other = TypeVar("Other")
Third = TypeVar("Third")


@overload
async def together(one: Coroutine[Any, Any, One], other: Coroutine[Any, Any, Other], /) -> tuple[One, Other]: ...


@overload
async def together(
    one: Coroutine[Any, Any, One], other: Coroutine[Any, Any, Other], third: Coroutine[Any, Any, Third], /
) -> tuple[One, Other, Third]: ...


@overload
async def together(*coroutines: Coroutine[Any, Any, One]) -> tuple[One, ...]: ...


async def together(*coroutines: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
    """Run coroutines at the same time; their results, in the same order.

    Raises the error of the first that fails, once the others were cancelled.
    """
    tasks = [asyncio.create_task(each) for each in coroutines]
    try:
        return tuple(await asyncio.gather(*tasks))
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
