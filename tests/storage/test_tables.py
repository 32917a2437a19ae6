"""What the store's semantics are, as the ledger relies on them: on the real thing."""

import logging
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError

from licensing.cli.home import local_storage
from licensing.cli.processes import free_port
from licensing.errors import ConflictError, Mismatch, UnavailableError
from licensing.storage.tables import Tables, Write, create, delete, merge, put
from tests.fault_proxy import Call, busy, port_of, start_fault_proxy, through
from tests.register_rows import values_of


def new_partition() -> str:
    return f"p-{uuid.uuid4().hex}"


async def lost(tables: Tables, partition: str, *writes: Write) -> tuple[Mismatch, int | None]:
    """How a commit is lost."""
    with pytest.raises(ConflictError) as caught:
        await tables.commit("register", partition, writes)
    return caught.value.mismatch, caught.value.index


class NotSignedIn:
    """The credential of an operator who is not signed in."""

    async def get_token(self, *_: str, **__: Any) -> AccessToken:
        """No token."""
        raise ClientAuthenticationError("a long list of what was tried")

    async def close(self) -> None:
        """Nothing is open."""

    async def __aenter__(self) -> "NotSignedIn":
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing is open."""


async def test_the_error_of_an_operator_who_is_not_signed_in_says_so() -> None:
    tables = Tables.with_identity("https://nobody.table.core.windows.net", NotSignedIn())
    with pytest.raises(UnavailableError, match="sign in, as with `az login`"):
        await tables.get("register", new_partition(), "nothing")
    await tables.close()


async def test_a_missing_row_is_none(tables: Tables) -> None:
    assert await tables.get("register", new_partition(), "nothing") is None


async def test_columns_come_back_as_they_were(tables: Tables) -> None:
    partition, now = new_partition(), datetime.now(UTC)
    columns = {"text": "ä", "whole": 7, "large": (2**40, "Edm.Int64"), "truth": True, "at": now}
    etags = await tables.commit("register", partition, [create("row", columns)])
    row = await tables.get("register", partition, "row")
    assert row is not None
    assert row.etag == etags[0]
    assert values_of(row) == columns


async def test_a_row_that_is_read_in_part_comes_with_its_version(tables: Tables) -> None:
    partition = new_partition()
    etags = await tables.commit("register", partition, [create("row", {"a": 1, "b": 2})])
    row = await tables.get("register", partition, "row", ["a"])
    assert row is not None
    assert row.etag == etags[0]
    assert "b" not in row.columns
    pages = [page async for page in tables.pages("register", partition, columns=["a"], etags=True)]
    assert [row.etag for page in pages for row in page] == etags
    async for row in tables.rows("register", partition, columns=["a"]):
        with pytest.raises(KeyError):
            assert row.etag, "it was not asked for"


@pytest.mark.parametrize("others", [0, 3])
async def test_each_way_in_which_a_write_can_lose(tables: Tables, others: int) -> None:
    """Alone, where the SDK sends the write by itself, and as part of a transaction."""
    partition = new_partition()
    etags = await tables.commit("register", partition, [create("there", {"a": 1}), create("gone", {})])
    await tables.commit("register", partition, [delete("gone", etags[1])])
    await tables.commit("register", partition, [merge("there", {"a": 2})])

    def among(write: Write) -> list[Write]:
        return [*(put(f"other-{number}", {}) for number in range(others)), write]

    assert await lost(tables, partition, *among(create("there", {}))) == (Mismatch.EXISTS, others)
    assert await lost(tables, partition, *among(merge("there", {}, etags[0]))) == (Mismatch.CHANGED, others)
    assert await lost(tables, partition, *among(delete("there", etags[0]))) == (Mismatch.CHANGED, others)
    assert await lost(tables, partition, *among(merge("gone", {}))) == (Mismatch.GONE, others)
    assert await lost(tables, partition, *among(merge("gone", {}, etags[1]))) == (Mismatch.GONE, others)
    assert await lost(tables, partition, *among(delete("gone"))) == (Mismatch.GONE, others)
    assert await tables.get("register", partition, "other-0") is None, "a lost transaction leaves nothing behind"


async def test_a_hundred_rows_are_one_transaction(tables: Tables) -> None:
    partition = new_partition()
    etags = await tables.commit("register", partition, [create(f"{number:03}", {}) for number in range(100)])
    assert len(set(etags)) >= 1
    assert all(etags)


async def test_a_key_range_is_read_in_order_and_without_its_end(tables: Tables) -> None:
    partition = new_partition()
    keys = ["a:1", "a:2", "b:1", "b:2", "c:1"]
    await tables.commit("register", partition, [create(key, {"n": number}) for number, key in enumerate(keys)])
    assert [row.key async for row in tables.rows("register", partition, "a:2", "c:")] == ["a:2", "b:1", "b:2"]
    odd = tables.rows("register", partition, "a:", "d:", where="n ge @least", values={"least": 3})
    assert [row.key async for row in odd] == ["b:2", "c:1"]


async def test_a_merge_leaves_the_other_columns_alone(tables: Tables) -> None:
    partition = new_partition()
    await tables.commit("register", partition, [create("row", {"a": 1, "b": 2})])
    await tables.commit("register", partition, [merge("row", {"b": 3})])
    row = await tables.get("register", partition, "row")
    assert row is not None
    assert (row.columns["a"], row.columns["b"]) == (1, 3)


async def test_a_store_that_is_not_there_is_unavailable_and_said_without_keys(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tables = Tables.from_connection_string(local_storage(free_port()))
    try:
        with caplog.at_level(logging.DEBUG), pytest.raises(UnavailableError):
            await tables.get("register", "partition-canary", "row-canary")
    finally:
        await tables.close()
    said = [record.getMessage() for record in caplog.records if record.name.startswith("licensing")]
    assert said
    assert not any("canary" in line for line in said)


async def test_a_call_that_fails_is_not_tried_again_behind_the_ledgers_back(azurite: str, tables: Tables) -> None:
    """After a retry an error may follow one's own success, so that who decides must be who tries again."""
    partition = new_partition()
    await tables.ping()  # so that the table is there
    async with start_fault_proxy(port_of(azurite)) as front:
        behind = Tables.from_connection_string(through(front.port, azurite))
        row, other = create("row", {}), create("other", {})
        works: dict[Call, Callable[[], Awaitable[object]]] = {
            Call.POINT_READ: lambda: behind.get("register", partition, "row"),
            Call.SINGLE_WRITE: lambda: behind.commit("register", partition, [row]),
            Call.TRANSACTION: lambda: behind.commit("register", partition, [row, other]),
        }
        for call, work in works.items():
            front.break_(busy, call, None)
            with pytest.raises(UnavailableError):
                await work()
            assert front.hits == 1
        await behind.close()
