"""What we send ourselves leaves in the store what the SDK leaves there, and its replies are understood no worse."""

import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from azure.core import MatchConditions
from azure.data.tables import EdmType, TableTransactionError, UpdateMode
from azure.data.tables.aio import TableServiceClient

from licensing.errors import ConflictError, Mismatch
from licensing.storage.tables import Tables
from licensing.storage.writes import Rejected, answers, create, delete, merge, put, transaction

KEY = "active:it's 100% ä+&="
COLUMNS: dict[str, Any] = {
    "text": 'ä "quoted" \\ \r\n--changeset_of_writes--\r\n',
    "empty": "",
    "truth": False,
    "whole": -(2**31),
    "large": (2**60, EdmType.INT64),
    "at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    "round": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "elsewhere": datetime(2026, 1, 2, 3, 4, 5, 600000, tzinfo=timezone(timedelta(hours=2))),
    "nothing": None,
}


def new_partition() -> str:
    return f"it's-{uuid.uuid4().hex}"


def owned(partition: str) -> str:
    """The filter that finds a partition's rows."""
    key = partition.replace("'", "''")
    return f"PartitionKey eq '{key}'"


@pytest.mark.parametrize("alone", [False, True])
async def test_rows_are_as_the_sdk_would_have_written_them(azurite: str, tables: Tables, alone: bool) -> None:
    ours, theirs = new_partition(), new_partition()
    steps = [
        [create(KEY, COLUMNS), create("deleted", {"a": 1}), put("put", {"b": 1, "c": 1})],
        [merge(KEY, {"whole": 7, "added": "x"}), delete("deleted"), put("put", {"b": 2})],
    ]
    for step in steps:
        for writes in [[write] for write in step] if alone else [step]:
            await tables.commit("register", ours, writes)
    async with TableServiceClient.from_connection_string(azurite) as service:
        table = service.get_table_client("register")
        row, unconditional = {"PartitionKey": theirs}, {"match_condition": MatchConditions.Unconditionally}
        put_mode = {"mode": UpdateMode.REPLACE}
        await table.submit_transaction(
            [
                ("create", {**row, "RowKey": KEY, **COLUMNS}),
                ("create", {**row, "RowKey": "deleted", "a": 1}),
                ("upsert", {**row, "RowKey": "put", "b": 1, "c": 1}, put_mode),
            ]
        )
        await table.submit_transaction(
            [
                ("update", {**row, "RowKey": KEY, "whole": 7, "added": "x"}, unconditional),
                ("delete", {**row, "RowKey": "deleted"}, unconditional),
                ("upsert", {**row, "RowKey": "put", "b": 2}, put_mode),
            ]
        )
        written = [dict(row) async for row in table.query_entities(owned(ours))]
        expected = [dict(row) async for row in table.query_entities(owned(theirs))]
    assert len(expected) == 2
    assert written == [{**row, "PartitionKey": ours} for row in expected]


async def test_a_lost_transaction_is_lost_by_the_row_that_the_sdk_names(azurite: str, tables: Tables) -> None:
    partition = new_partition()
    await tables.commit("register", partition, [create("there", {})])
    with pytest.raises(ConflictError) as caught:
        await tables.commit("register", partition, [put("a", {}), put("b", {}), create("there", {})])
    async with TableServiceClient.from_connection_string(azurite) as service:
        table = service.get_table_client("register")
        rows = [{"PartitionKey": partition, "RowKey": key} for key in ("a", "b", "there")]
        with pytest.raises(TableTransactionError) as theirs:
            await table.submit_transaction([("upsert", rows[0]), ("upsert", rows[1]), ("create", rows[2])])
    assert (caught.value.mismatch, caught.value.index) == (Mismatch.EXISTS, theirs.value.index)


REPLY = (
    b"--batchresponse_1\r\nContent-Type: multipart/mixed; boundary=changesetresponse_1\r\n\r\n"
    b"--changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    b"HTTP/1.1 204 No Content\r\nContent-ID: 0\r\nETag: W/\"datetime'1'\"\r\n\r\n\r\n"
    b"--changesetresponse_1\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n\r\n"
    b"HTTP/1.1 204 No Content\r\nContent-ID: 1\r\nDataServiceVersion: 3.0;\r\n\r\n\r\n"
    b"--changesetresponse_1--\r\n--batchresponse_1--\r\n"
)


def test_a_deleted_row_has_no_version() -> None:
    assert answers(REPLY, 2) == ["W/\"datetime'1'\"", ""]


@pytest.mark.parametrize("length", range(0, len(REPLY), 7))
def test_a_reply_that_breaks_off_is_never_taken_for_success(length: int) -> None:
    whole = REPLY.index(b"HTTP/1.1 204", REPLY.index(b"HTTP/1.1 204") + 1) + len(b"HTTP/1.1 204 No Content\r\n")
    assert length >= whole or isinstance(answers(REPLY[:length], 2), Rejected)


def test_what_no_column_can_hold_is_refused_before_anything_is_sent() -> None:
    for value in (1.5, b"bytes", 2**31, ["list"]):
        with pytest.raises(TypeError, match="column odd"):
            transaction("http://127.0.0.1", "register", "p", [put("row", {"odd": value})])
