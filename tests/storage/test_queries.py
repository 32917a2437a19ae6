"""What we read ourselves is what the SDK reads, and a reply that is not the store's is not taken for an answer."""

import base64
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import pytest
from aiohttp import web
from azure.core.credentials import AzureNamedKeyCredential
from azure.data.tables import AccountSasPermissions, EdmType, EntityProperty, ResourceTypes, generate_account_sas
from azure.data.tables.aio import TableClient, TableServiceClient

from licensing.errors import UnavailableError
from licensing.storage.queries import Row, condition, continuation
from licensing.storage.tables import Tables, create
from tests.fault_proxy import Asked, Call, FaultProxy, halved, port_of, start_fault_proxy, stranger, through
from tests.register_rows import values_of

KEYS: Final = ("active:it's 100% ä+&=;", "a b", "ö:''", '{}[]@~`^|<>"', "%27 or '1' eq '1", "日本")
COLUMNS: Final[dict[str, Any]] = {
    "text": 'it\'s "quoted" \\ ä 日本 \r\n&+%27;',
    "empty": "",
    "number": "7",
    "truth": True,
    "whole": -(2**31),
    "large": (2**60, EdmType.INT64),
    "small": (-3, EdmType.INT64),
    "at": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
    "round": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "fine": EntityProperty("2026-01-02T03:04:05.1234569Z", EdmType.DATETIME),
}
SOME: Final = ("at", "large", "text", "missing")


def new_partition() -> str:
    return f"it's-{uuid.uuid4().hex}"


@pytest.fixture
async def sdk(azurite: str, tables: Tables) -> AsyncIterator[TableClient]:
    """The SDK's own client for the table."""
    await tables.commit("register", new_partition(), [create("row", {})])  # so that the table is there
    async with TableServiceClient.from_connection_string(azurite) as service:
        yield service.get_table_client("register")


async def strange_rows(sdk: TableClient) -> str:
    """A partition of rows with strange keys, each of which lacks a column; its key."""
    partition = new_partition()
    for key, lost in zip(KEYS, COLUMNS, strict=False):
        columns = {name: value for name, value in COLUMNS.items() if name != lost}
        await sdk.create_entity({"PartitionKey": partition, "RowKey": key, **columns})
    return partition


def as_the_sdk_has_it(row: Row) -> tuple[dict[str, Any], str]:
    """A row that we have read whole, with its ETag."""
    return {"PartitionKey": row.partition, "RowKey": row.key, **values_of(row)}, row.etag


@pytest.mark.parametrize("key", KEYS)
async def test_a_row_is_the_one_that_the_sdk_reads(tables: Tables, sdk: TableClient, key: str) -> None:
    partition = await strange_rows(sdk)
    theirs = await sdk.get_entity(partition, key)
    ours = await tables.get("register", partition, key)
    assert ours is not None
    assert as_the_sdk_has_it(ours) == (dict(theirs), theirs.metadata["etag"])


async def test_some_columns_of_a_row_are_those_that_the_sdk_reads(tables: Tables, sdk: TableClient) -> None:
    partition = await strange_rows(sdk)
    for key in KEYS:
        theirs = await sdk.get_entity(partition, key, select=["PartitionKey", "RowKey", "Timestamp", *SOME])
        ours = await tables.get("register", partition, key, SOME)
        assert ours is not None
        assert as_the_sdk_has_it(ours) == (dict(theirs), theirs.metadata["etag"])


@pytest.mark.parametrize("page_rows", [1, 4, 1000])
async def test_pages_have_the_rows_that_the_sdk_reads(tables: Tables, sdk: TableClient, page_rows: int) -> None:
    partition = await strange_rows(sdk)
    found = sdk.query_entities("PartitionKey eq @p", parameters={"p": partition})
    theirs = [(dict(row), row.metadata["etag"]) async for row in found]
    pages = [page async for page in tables.pages("register", partition, page_rows=page_rows)]
    assert [as_the_sdk_has_it(row) for page in pages for row in page] == theirs
    assert all(len(page) <= page_rows for page in pages)
    for etags in (False, True):
        some = [row async for row in tables.rows("register", partition, columns=SOME, etags=etags, page_rows=page_rows)]
        assert [{name: row.columns.get(name) for name in SOME} for row in some] == [
            {name: row.columns.get(name) for name in SOME} for page in pages for row in page
        ], "without their types, values stand in the same texts"
        assert [(row.partition, row.key) for row in some] == [(partition, each["RowKey"]) for each, _ in theirs]
        assert not etags or [row.etag for row in some] == [etag for _, etag in theirs]


FILTERS: Final[dict[str, Mapping[str, Any]]] = {
    "text eq @text": {"text": COLUMNS["text"]},
    "text gt @none and number eq @number": {"none": "", "number": "7"},
    "at le @at": {"at": COLUMNS["at"]},
    "at lt @later": {"later": COLUMNS["at"] + timedelta(seconds=1)},
    "at ge @elsewhere": {"elsewhere": COLUMNS["at"].astimezone(timezone(timedelta(hours=-7)))},
    "truth eq @yes": {"yes": True},
    "truth eq @no or whole eq @least": {"no": False, "least": -(2**31)},
    "large gt @large": {"large": 2**60 - 1},
    "not (whole ge @zero)": {"zero": 0},
    (MISSING := "missing eq @a"): {"a": "a"},
}


@pytest.mark.parametrize("where", FILTERS)
async def test_a_filter_finds_what_the_same_filter_of_the_sdk_finds(
    tables: Tables, sdk: TableClient, where: str
) -> None:
    partition, values = await strange_rows(sdk), FILTERS[where]
    spaced = where.replace("(", "( ").replace(")", " )")  # the SDK knows names only between spaces
    for first, beyond in ((None, None), ("a", "{~"), (KEYS[2], None), (None, KEYS[0])):
        asked = {"first": ("RowKey ge @first", first), "beyond": ("RowKey lt @beyond", beyond)}
        bounds = [f" and {test}" for test, key in asked.values() if key is not None]
        theirs = sdk.query_entities(
            f"PartitionKey eq @p{''.join(bounds)} and ( {spaced} )",
            parameters={"p": partition, "first": first, "beyond": beyond, **values},
        )
        ours = tables.rows("register", partition, first, beyond, where=where, values=values)
        found = [row.key async for row in ours]
        assert found == [row["RowKey"] async for row in theirs]
        assert found or first or beyond or where == MISSING, "the comparison sees rows"


async def test_a_whole_table_is_read_over_all_partitions(tables: Tables, sdk: TableClient) -> None:
    partitions = sorted([await strange_rows(sdk), await strange_rows(sdk)])
    theirs = [(row["PartitionKey"], row["RowKey"]) async for row in sdk.list_entities()]
    ours = [(row.partition, row.key) async for row in tables.rows("register", columns=(), page_rows=3)]
    assert ours == theirs
    assert [each for each in dict.fromkeys(partition for partition, _ in ours) if each in partitions] == partitions


async def test_a_version_made_from_the_time_of_the_change_is_the_stores(tables: Tables, sdk: TableClient) -> None:
    partition = await strange_rows(sdk)
    row = await tables.get("register", partition, KEYS[0])
    assert row is not None
    without = {name: value for name, value in row.columns.items() if name != "odata.etag"}
    assert Row(row.key, without).etag == row.etag


async def test_a_page_may_be_empty_and_have_others_after_it(azurite: str, tables: Tables) -> None:
    partition = new_partition()
    await tables.commit("register", partition, [create(key, {}) for key in ("a", "b", "c")])

    async def none_yet(_: FaultProxy, __: web.BaseRequest, asked: Asked) -> web.StreamResponse:
        """As Azure replies when it has looked through so many rows without finding one; Azurite names keys so."""
        key = {"NextPartitionKey": partition, "NextRowKey": "a"}
        tokens = {name: base64.b64encode(value.encode()).decode() for name, value in key.items()}
        headers = {f"x-ms-continuation-{name}": token for name, token in tokens.items()}
        return web.Response(text='{"value":[]}', content_type="application/json", headers=headers)

    async with start_fault_proxy(port_of(azurite)) as front:
        behind = Tables.from_connection_string(through(front.port, azurite))
        front.break_(none_yet, Call.RANGE_READ, 3)
        pages = [[row.key for row in page] async for page in behind.pages("register", partition, columns=())]
        assert (pages, front.hits) == ([["a", "b", "c"]], 3)
        front.break_(none_yet, Call.RANGE_READ, 3)
        found = await behind.first("register", partition, "b", "d")
        await behind.close()
    assert found is not None
    assert found.key == "b"


def test_a_page_is_continued_by_what_the_store_names() -> None:
    names = {"x-ms-continuation-NextPartitionKey": "1!4!YQ--", "x-ms-continuation-NextRowKey": "1!8!YjE-"}
    assert continuation(names) == {"NextPartitionKey": "1!4!YQ--", "NextRowKey": "1!8!YjE-"}
    assert continuation({"x-ms-continuation-NextPartitionKey": "1!4!YQ--"}) == {"NextPartitionKey": "1!4!YQ--"}
    assert continuation({"x-ms-continuation-NextRowKey": "", "ETag": "x"}) == {}


async def reply(text: str, status: int) -> web.StreamResponse:
    return web.Response(text=text, status=status, content_type="application/json")


STRANGERS: Final[dict[str, tuple[str, int]]] = {
    "another server's JSON": ('{"ok":true}', 200),
    "a list": ("[]", 200),
    "rows that are none": ('{"value":[{"a":1}]}', 200),
    "no content": ("", 204),
    "not found, without the store's word for it": ("<html>Not found</html>", 404),
    "a conflict, without the store's word for it": ("{}", 409),
    "a redirection": ("", 302),
    "no right to read": ('{"odata.error":{"code":"AuthorizationFailure"}}', 403),
}


@pytest.mark.parametrize("fault", [*STRANGERS, "stranger", "halved"])
async def test_a_reply_that_is_not_the_stores_is_no_answer(azurite: str, tables: Tables, fault: str) -> None:
    """A row that a stranger does not have may be there all the same."""
    partition = new_partition()
    await tables.commit("register", partition, [create("row", {"a": 1})])
    known = {"stranger": stranger, "halved": halved}

    async def instead(_: FaultProxy, __: web.BaseRequest, ___: Asked) -> web.StreamResponse:
        return await reply(*STRANGERS[fault])

    async with start_fault_proxy(port_of(azurite)) as front:
        behind = Tables.from_connection_string(through(front.port, azurite))
        front.break_(known.get(fault, instead), Call.POINT_READ, None)
        with pytest.raises(UnavailableError):
            await behind.get("register", partition, "row")
        front.break_(known.get(fault, instead), Call.RANGE_READ, None)
        with pytest.raises(UnavailableError):
            await anext(behind.pages("register", partition))
        await behind.close()


async def test_a_shared_access_signature_opens_rows(azurite: str, tables: Tables) -> None:
    partition = new_partition()
    await tables.commit("register", partition, [create(key, {"n": 1}) for key in KEYS])
    given = dict(part.split("=", 1) for part in azurite.split(";") if part)
    signature = generate_account_sas(
        AzureNamedKeyCredential(given["AccountName"], given["AccountKey"]),
        ResourceTypes(object=True, service=True, container=True),
        AccountSasPermissions(read=True, write=True, list=True, add=True, update=True, delete=True),
        expiry=datetime.now(UTC) + timedelta(hours=1),
    )
    opened = Tables.from_connection_string(f"TableEndpoint={given['TableEndpoint']};SharedAccessSignature={signature}")
    assert [row.key async for row in opened.rows("register", partition, columns=["n"], page_rows=2)] == sorted(KEYS)
    for key in KEYS:
        row = await opened.get("register", partition, key)
        assert row is not None
        assert row.key == key
    assert await opened.get("register", partition, "nothing") is None
    await opened.close()


def test_values_stand_in_filters_as_the_protocol_writes_them() -> None:
    values = {"a": "it's", "b": False, "c": 7, "d": 2**31, "e": datetime(2026, 1, 2, 3, tzinfo=UTC), "f": "@a"}
    assert condition("p'q", "a", None, "a eq @a and b eq @b", values) == (
        "PartitionKey eq 'p''q' and RowKey ge 'a' and (a eq 'it''s' and b eq false)"
    )
    assert condition(None, None, "z", "c eq @c or d eq @d", values) == "RowKey lt 'z' and (c eq 7 or d eq 2147483648L)"
    assert condition(None, None, None, "e le @e", values) == "(e le datetime'2026-01-02T03:00:00.000000Z')"
    assert condition(None, None, None, "f eq @f", values) == "(f eq '@a')", "a value is no name"
    assert condition(None, "", None, "", {}) == "RowKey ge ''"
    assert condition(None, None, None, "", {}) == ""


def test_what_no_filter_holds_is_refused_before_anything_is_sent() -> None:
    for value in (1.5, None, b"bytes", ["list"]):
        with pytest.raises(TypeError, match="cannot be compared"):
            condition("p", None, None, "odd eq @odd", {"odd": value})
