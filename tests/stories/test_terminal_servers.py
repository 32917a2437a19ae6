"""What a seat is on terminal servers, for each way of sharing: the table in docs/operations.md, counted by the service.

In a program's place, a test sends what its client would send: the hashes of account and host.
"""

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests import factories
from tests.api.client import Api

OPERATIONS: Final = Path(__file__).parents[2] / "docs" / "operations.md"
FIVE: Final = ("ada", "bob", "cyd", "dan", "eve")

SCENES: Final[dict[str, list[tuple[str, str]]]] = {
    "one user, three programs, one server": [("ada", "ts-1")] * 3,
    "five users on one server": [(user, "ts-1") for user in FIVE],
    "one user on two servers": [("ada", "ts-1"), ("ada", "ts-2")],
    "five people under one account on one server": [("kiosk", "ts-1")] * 5,
    "five users, each on a server called `localhost`": [(user, "localhost") for user in FIVE],
    "one user on two servers called `localhost`": [("ada", "localhost")] * 2,
}
"""The columns of the table: user and host of each program that runs."""


def table() -> dict[str, dict[str, int]]:
    """The seats that the table names, by way of sharing and by scene."""
    section = OPERATIONS.read_text("utf-8").split("\n## Terminal servers\n")[1].split("\n## ")[0]
    heading, _, *rows = [row.strip("| ").split(" | ") for row in re.findall(r"^\|.*\|$", section, re.MULTILINE)]
    return {way.strip("`"): dict(zip(heading[1:], map(int, numbers), strict=True)) for way, *numbers in rows}


TABLE: Final = table()


def test_the_table_has_each_way_of_sharing_and_each_scene() -> None:
    assert list(TABLE) == ["none", "user-host", "user", "host"]
    assert {tuple(row) for row in TABLE.values()} == {tuple(SCENES)}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("sharing", TABLE)
async def test_the_seats_of_the_table_are_those_that_the_service_counts(
    api: Api, issue: Callable[..., str], sharing: str, scene: str
) -> None:
    programs, seats = SCENES[scene], TABLE[sharing][scene]
    license_file = issue(seats=seats, sharing=sharing)
    bodies = [factories.start_body(license_file, user=user, host=host) for user, host in programs]
    replies = await asyncio.gather(*map(api.start, bodies))
    assert {reply.status_code for reply in replies} == {201}
    again = await asyncio.gather(*map(api.start, bodies))
    assert {reply.json()["seats"]["in_use"] for reply in again} == {seats}
    other = factories.start_body(license_file, user="zoe", host="ts-9")
    assert (await api.start(other)).status_code == 409, "each of these seats is taken"
