"""Readings that callers share: what they get, and what becomes of readings that fail."""

import asyncio
from datetime import UTC, datetime

import pytest

from licensing.services.shared_reads import SharedReads
from tests.factories import Clock

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


async def test_a_reading_that_fails_after_its_callers_have_gone_is_not_given_to_the_next() -> None:
    answers, goes_on = ["failed", "good"], asyncio.Event()

    async def read(_: str) -> str:
        await goes_on.wait()
        answer = answers.pop(0)
        if answer == "failed":
            raise OSError("the store did not answer")
        return answer

    reads = SharedReads(3600, Clock(NOON), read)
    caller = asyncio.create_task(reads.get("a"))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    goes_on.set()
    for _ in range(3):
        await asyncio.sleep(0)

    assert await reads.get("a") == "good"
    assert answers == []


async def test_callers_of_a_reading_that_fails_all_get_its_error_and_the_next_reads_anew() -> None:
    errors = [OSError("the store did not answer")]

    async def read(_: str) -> str:
        await asyncio.sleep(0)
        if errors:
            raise errors.pop()
        return "good"

    reads = SharedReads(3600, Clock(NOON), read)
    both = await asyncio.gather(reads.get("a"), reads.get("a"), return_exceptions=True)

    assert [type(each) for each in both] == [OSError, OSError]
    assert await reads.get("a") == "good"


async def test_a_reading_by_a_clock_that_is_set_back_is_made_again() -> None:
    clock, made = Clock(NOON), 0

    async def read(_: str) -> int:
        nonlocal made
        made += 1
        return made

    reads = SharedReads(10, clock, read)
    assert [await reads.get("a"), await reads.get("a")] == [1, 1]
    clock.forward(-86_400)
    assert [await reads.get("a"), await reads.get("a")] == [2, 2]
