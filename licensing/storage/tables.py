"""The only module that knows the Tables SDK: it turns calls into the store's and the store's errors into faults.

What it adds to the SDK, since the SDK's defaults suit batch jobs and not a program that waits to start:

- timeouts of seconds, and no retries of its own: after a retry an error may follow one's own success, so that
  whoever decides must also be the one who tries again;
- errors by what they mean: `Conflict` (nothing was done) or `Unavailable` (what was sent may have been done);
- tables that come into being when they are first missed.
"""

import logging
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar
from urllib.request import getproxies

from azure.core import MatchConditions
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import (
    AzureError,
    HttpResponseError,
    ResourceExistsError,
    ResourceModifiedError,
    ResourceNotFoundError,
)
from azure.core.pipeline.transport import AioHttpTransport
from azure.data.tables import EdmType, TableTransactionError, UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from licensing.errors import Conflict, Mismatch, Unavailable

__all__ = ["EdmType", "Row", "Tables", "Write", "create", "delete", "merge", "put"]

TRANSACTION_ROWS: Final = 100
PAGE_ROWS: Final = 1000
CONNECT_SECONDS: Final = 2
READ_SECONDS: Final = 4

Table = Literal["register", "directory", "audit"]
Verb = Literal["create", "merge", "replace", "put", "delete"]
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read: its key within the partition, its columns, and its version."""

    key: str
    columns: Mapping[str, Any]
    etag: str


@dataclass(frozen=True, slots=True)
class Write:
    """A write of one row. `etag` is the version it demands; None demands none, but merge and replace that it exists."""

    verb: Verb
    key: str
    columns: Mapping[str, Any]
    etag: str | None = None


def create(key: str, columns: Mapping[str, Any]) -> Write:
    """Insert a row that must not exist."""
    return Write("create", key, columns)


def merge(key: str, columns: Mapping[str, Any], etag: str | None = None) -> Write:
    """Change some columns of a row that must exist, at this version if one is given."""
    return Write("merge", key, columns, etag)


def put(key: str, columns: Mapping[str, Any]) -> Write:
    """Write a row, whether or not there was one."""
    return Write("put", key, columns)


def delete(key: str, etag: str | None = None) -> Write:
    """Delete a row that must exist, at this version if one is given."""
    return Write("delete", key, {}, etag)


class Tables:
    """The store's tables, on one pool of connections that belongs to the running event loop."""

    def __init__(self, service: TableServiceClient, credential: AsyncTokenCredential | None = None) -> None:
        self._service = service
        self._credential = credential
        self._clients: dict[str, TableClient] = {}

    @classmethod
    def from_connection_string(cls, connection_string: str) -> "Tables":
        """Open the store that a connection string names; ValueError where it is none."""
        return cls(TableServiceClient.from_connection_string(connection_string, **_options()))

    @classmethod
    def with_identity(cls, endpoint: str, credential: AsyncTokenCredential) -> "Tables":
        """Open the store at a URL with a Microsoft Entra identity."""
        return cls(TableServiceClient(endpoint, credential=credential, **_options()), credential)

    async def close(self) -> None:
        """Close all connections."""
        await self._service.close()
        if self._credential is not None:
            await self._credential.close()

    async def get(self, table: Table, partition: str, key: str, columns: Sequence[str] | None = None) -> Row | None:
        """Read one row, None where there is none."""
        client, names = self._client(table), _selected(columns)
        try:
            entity = await self._call(table, lambda: client.get_entity(partition, key, select=names))
        except Conflict:
            return None
        return _row(entity)

    async def pages(
        self,
        table: Table,
        partition: str | None = None,
        first: str | None = None,
        beyond: str | None = None,
        *,
        columns: Sequence[str] | None = None,
        where: str = "",
        values: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[list[Row]]:
        """Read the rows of a key range [first, beyond) in key order, page by page of at most `PAGE_ROWS`.

        `where` (one OData comparison, with `values` for its @names, each a word of its own) filters in the store what
        the range reads. Without a partition the whole table is read.
        """
        given: dict[str, Any] = {"partition": partition, "first": first, "beyond": beyond}
        tests = [
            test
            for name, test in (
                ("partition", "PartitionKey eq @partition"),
                ("first", "RowKey ge @first"),
                ("beyond", "RowKey lt @beyond"),
            )
            if given[name] is not None
        ]
        if where:
            tests.append(f"( {where} )")  # in spaces, since the SDK knows names only between them
        query = self._client(table).query_entities(
            " and ".join(tests),
            parameters={**given, **(values or {})},
            select=_selected(columns),
            results_per_page=PAGE_ROWS,
        )
        pages = query.by_page()
        while True:
            try:
                page = await self._call(table, lambda: anext(pages))
            except StopAsyncIteration:
                return
            rows = [_row(entity) async for entity in page]
            if rows:
                yield rows

    async def rows(self, table: Table, partition: str | None = None, *args: Any, **kwargs: Any) -> AsyncIterator[Row]:
        """Read rows one by one; arguments as for `pages`."""
        async for page in self.pages(table, partition, *args, **kwargs):
            for row in page:
                yield row

    async def commit(self, table: Table, partition: str, writes: Sequence[Write]) -> list[str]:
        """Do all writes or none; the rows' new versions (empty for deleted ones).

        At most `TRANSACTION_ROWS` writes, each to another row. Conflict where a row was not as demanded: then nothing
        was done. Unavailable where that cannot be told.
        """
        client = self._client(table)
        # A lone write is cheaper alone; but a lone deletion would not say that the row was gone.
        if len(writes) == 1 and writes[0].verb != "delete":
            results = [await self._call(table, lambda: _send(client, partition, writes[0]))]
        else:
            operations = [_operation(partition, write) for write in writes]
            results = list(await self._call(table, lambda: client.submit_transaction(operations)))
        return [str(result.get("etag") or "") for result in results]

    async def ping(self) -> None:
        """Ask the store for nothing; Unavailable where it does not answer."""
        await self.get("directory", "health", "health")

    def _client(self, table: Table) -> TableClient:
        if table not in self._clients:
            self._clients[table] = self._service.get_table_client(table)
        return self._clients[table]

    async def _call(self, table: Table, call: Callable[[], Awaitable[Result]]) -> Result:
        """Make a call, and once more where its table had to be made first."""
        try:
            with _as_faults():
                return await call()
        except _NoTable:
            with _as_faults():
                await self._service.create_table_if_not_exists(table)
                return await call()


class _NoTable(Exception):
    pass


def _options() -> dict[str, Any]:
    transport = AioHttpTransport(
        connection_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        # Told to look for a proxy, aiohttp looks in two threads before each request: dear where there is none.
        use_env_settings=bool(getproxies()),
    )
    return {"transport": transport, "retry_total": 0}


def _selected(columns: Sequence[str] | None) -> list[str] | None:
    # Without its timestamp, a row that was read in part would come without its version.
    return None if columns is None else ["PartitionKey", "RowKey", "Timestamp", *columns]


def _row(entity: Any) -> Row:
    return Row(entity.pop("RowKey"), entity, entity.metadata["etag"])


def _entity(partition: str, write: Write) -> dict[str, Any]:
    return {"PartitionKey": partition, "RowKey": write.key, **write.columns}


def _condition(write: Write) -> dict[str, Any]:
    if write.verb in ("create", "put"):
        return {}
    if write.etag is None:
        return {"match_condition": MatchConditions.Unconditionally}  # which the SDK sends as If-Match: *
    return {"match_condition": MatchConditions.IfNotModified, "etag": write.etag}


_MODES: Final = {"merge": UpdateMode.MERGE, "replace": UpdateMode.REPLACE, "put": UpdateMode.REPLACE}
_OPERATIONS: Final = {
    "create": "create",
    "merge": "update",
    "replace": "update",
    "put": "upsert",
    "delete": "delete",
}


def _operation(partition: str, write: Write) -> tuple[str, dict[str, Any], dict[str, Any]]:
    options = _condition(write)
    if write.verb in _MODES:
        options["mode"] = _MODES[write.verb]
    return _OPERATIONS[write.verb], _entity(partition, write), options


async def _send(client: TableClient, partition: str, write: Write) -> Mapping[str, Any]:
    entity = _entity(partition, write)
    if write.verb == "create":
        return await client.create_entity(entity)
    if write.verb == "put":
        return await client.upsert_entity(entity, mode=UpdateMode.REPLACE)
    return await client.update_entity(entity, mode=_MODES[write.verb], **_condition(write))


_INDEX: Final = re.compile(r"(\d+):")


@contextmanager
def _as_faults() -> Iterator[None]:
    try:
        yield
    except HttpResponseError as error:
        code = getattr(error, "error_code", None)
        if code == "TableNotFound":
            raise _NoTable from None
        # A duplicate insert comes without an error code, and a failed transaction with a type of its own: the status
        # tells in every case.
        mismatch = _mismatch(error)
        if mismatch is None:
            # The status and the code say enough; the message would hold row keys.
            _log.error("the store answered %s %s", error.status_code, code or "")
            raise Unavailable(f"the store answered {error.status_code}") from None
        index = None
        if isinstance(error, TableTransactionError):
            match = _INDEX.match(error.message or "")
            index = int(match[1]) if match else None
        else:
            index = 0
        raise Conflict(mismatch, index) from None
    except (AzureError, TimeoutError, OSError) as error:
        _log.error("the store did not answer: %s", type(error).__name__)
        raise Unavailable("the store did not answer") from None


def _mismatch(error: HttpResponseError) -> Mismatch | None:
    if isinstance(error, ResourceExistsError) or error.status_code == 409:
        return Mismatch.EXISTS
    if isinstance(error, ResourceModifiedError) or error.status_code == 412:
        return Mismatch.CHANGED
    if isinstance(error, ResourceNotFoundError) or error.status_code == 404:
        return Mismatch.GONE
    return None
