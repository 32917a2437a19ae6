"""The only module that knows the Tables SDK: it turns calls into the store's and the store's errors into faults.

What it adds to the SDK, since the SDK's defaults suit batch jobs and not a program that waits to start:

- writes in the words of `licensing.storage.writes`, through the SDK's own pipeline, which signs and sends them;

- timeouts of seconds, and no retries of its own: after a retry an error may follow one's own success, so that
  whoever decides must also be the one who tries again;
- errors by what they mean: `ConflictError` (nothing was done) or `UnavailableError` (what was sent may have been done);
- tables that come into being when they are first missed.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any, Final, Literal, TypeVar
from urllib.request import getproxies

from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import AzureError, HttpResponseError
from azure.core.pipeline import PipelineContext, PipelineRequest, PipelineResponse
from azure.core.pipeline.policies import AsyncHTTPPolicy
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.data.tables import EdmType
from azure.data.tables.aio import TableClient, TableServiceClient

from licensing.errors import ConflictError, LicensingError, Mismatch, UnavailableError
from licensing.storage.retry import with_retries
from licensing.storage.writes import (
    Message,
    Refused,
    Write,
    answers,
    create,
    delete,
    merge,
    put,
    refused,
    single,
    transaction,
)

__all__ = ["EdmType", "Row", "Tables", "Write", "create", "delete", "merge", "put"]

TRANSACTION_ROWS: Final = 100
PAGE_ROWS: Final = 1000
CONNECT_SECONDS: Final = 2
READ_SECONDS: Final = 4
CALL_SECONDS: Final = 6
"""The longest that a call takes: the others bound a connection and a pause, and a reply could drip for ever."""

Table = Literal["register", "directory", "audit"]
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Row:
    """A row as it was read: its key within the partition, its columns, and its version."""

    key: str
    columns: Mapping[str, Any]
    etag: str

    @property
    def partition(self) -> str:
        """The key of its partition."""
        return str(self.columns["PartitionKey"])


class Tables:
    """The store's tables, on one pool of connections that belongs to the running event loop."""

    def __init__(
        self, service: TableServiceClient, door: "PipelineAccess", credential: AsyncTokenCredential | None = None
    ) -> None:
        self._service = service
        self._door = door
        self._credential = credential
        self._endpoint = service.url.partition("?")[0].rstrip("/")  # without a token, which the pipeline adds
        self._clients: dict[str, TableClient] = {}

    @classmethod
    def from_connection_string(cls, connection_string: str) -> "Tables":
        """Open the store that a connection string names; ValueError where it is none."""
        door = PipelineAccess()
        return cls(TableServiceClient.from_connection_string(connection_string, **door.options()), door)

    @classmethod
    def with_identity(cls, endpoint: str, credential: AsyncTokenCredential) -> "Tables":
        """Open the store at a URL with a Microsoft Entra identity."""
        door = PipelineAccess()
        return cls(TableServiceClient(endpoint, credential=credential, **door.options()), door, credential)

    async def close(self) -> None:
        """Close all connections."""
        await self._service.close()
        if self._credential is not None:
            await self._credential.close()

    async def get(self, table: Table, partition: str, key: str, columns: Sequence[str] | None = None) -> Row | None:
        """Read one row, None where there is none."""
        client, names = self._client(table), _selected(columns)

        async def read() -> Row:
            return _row(await client.get_entity(partition, key, select=names))

        try:
            return await self._call(table, read)
        except ConflictError as conflict:
            if conflict.mismatch is Mismatch.GONE:
                return None
            raise UnavailableError("the store refuses to read") from None

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
        page_rows: int = PAGE_ROWS,
        retries: bool = False,
    ) -> AsyncGenerator[list[Row], None]:
        """Read the rows of a key range [first, beyond) in key order, page by page of at most `page_rows`.

        `where` (one OData comparison, with `values` for its @names, each a word of its own) filters in the store what
        the range reads. Without a partition the whole table is read. `retries` are for background jobs.
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
            results_per_page=page_rows,
        )
        pages = query.by_page()

        async def read() -> list[Row]:
            return [_row(entity) async for entity in await anext(pages)]

        while True:
            try:
                rows = await (with_retries(partial(self._call, table, read)) if retries else self._call(table, read))
            except StopAsyncIteration:
                return
            if rows:
                yield rows

    async def rows(self, table: Table, partition: str | None = None, *args: Any, **kwargs: Any) -> AsyncIterator[Row]:
        """Read rows one by one; arguments as for `pages`."""
        async for page in self.pages(table, partition, *args, **kwargs):
            for row in page:
                yield row

    async def first(
        self, table: Table, partition: str, first: str, beyond: str, columns: Sequence[str] | None = None
    ) -> Row | None:
        """Read the first row of a key range, None where there is none."""
        pages = self.pages(table, partition, first, beyond, columns=columns, page_rows=1)
        async with aclosing(pages):
            async for page in pages:
                return page[0]
        return None

    async def commit(self, table: Table, partition: str, writes: Sequence[Write]) -> list[str]:
        """Do all writes or none; the rows' new versions (empty for deleted ones).

        At most `TRANSACTION_ROWS` writes, each to another row. ConflictError where a row was not as demanded: then
        nothing was done. UnavailableError where that cannot be told.
        """
        if len(writes) == 1:
            etags = [await self._call(table, lambda: self._send(single(self._endpoint, table, partition, writes[0])))]
        else:
            message = transaction(self._endpoint, table, partition, writes)
            etags = await self._call(table, lambda: self._transact(message, len(writes)))
        if not all(etag or write.verb == "delete" for write, etag in zip(writes, etags, strict=True)):
            raise UnavailableError("the store did not say which version it has written")  # whoever it was that answered
        return etags

    async def _send(self, message: Message) -> str:
        """Send a write by itself; the row's new version."""
        response = await self._door.send_own(message, self._service.api_version)
        if response.status_code != HTTPStatus.NO_CONTENT:
            raise _fault(refused(response.status_code, response.content), 0)
        return response.headers.get("etag", "")

    async def _transact(self, message: Message, writes: int) -> list[str]:
        """Send a transaction of so many writes; the rows' new versions."""
        response = await self._door.send_own(message, self._service.api_version)
        if response.status_code != HTTPStatus.ACCEPTED:
            raise _fault(refused(response.status_code, response.content))
        answer = answers(response.content, writes)
        if isinstance(answer, Refused):
            raise _fault(answer, answer.index)
        return answer

    async def ping(self) -> None:
        """Ask the store for nothing; UnavailableError where it does not answer."""
        await self.get("directory", "health", "health")

    def _client(self, table: Table) -> TableClient:
        if table not in self._clients:
            self._clients[table] = self._service.get_table_client(table)
        return self._clients[table]

    async def _call(self, table: Table, call: Callable[[], Awaitable[Result]]) -> Result:
        """Make a call, and once more where its table had to be made first."""
        try:
            with _as_faults():
                async with asyncio.timeout(CALL_SECONDS):
                    return await call()
        except _NoTableError:
            with _as_faults():
                async with asyncio.timeout(CALL_SECONDS):
                    await self._service.create_table_if_not_exists(table)
                    return await call()


class _NoTableError(Exception):
    pass


class PipelineAccess(AsyncHTTPPolicy[HttpRequest, AsyncHttpResponse]):
    """Lets requests of our own into the SDK's pipeline, which signs, times and sends them as it does the SDK's.

    Policies of one's own are how the SDK is meant to be extended. This one stands first, and so knows what comes next.
    """

    def __init__(self) -> None:
        super().__init__()
        self._transport = AioHttpTransport(
            connection_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            # Told to look for a proxy, aiohttp looks in two threads before each request: dear where there is none.
            use_env_settings=bool(getproxies()),
        )

    def options(self) -> dict[str, Any]:
        """How the client is to be made whose pipeline this opens."""
        return {"transport": self._transport, "retry_total": 0, "per_call_policies": [self]}

    async def send(self, request: PipelineRequest[HttpRequest]) -> PipelineResponse[HttpRequest, AsyncHttpResponse]:
        """Let a request of the SDK pass."""
        return await self.next.send(request)

    async def send_own(self, message: Message, version: str) -> AsyncHttpResponse:
        """Send a request of our own, in a version of the protocol; the response, with its body read."""
        headers = {**message.headers, "x-ms-version": version}
        request = HttpRequest(message.method, message.url, headers=headers, content=message.body.encode())
        # As a stream, since the pipeline would else try to understand the body.
        context = PipelineContext(self._transport, stream=True)
        response = (await self.next.send(PipelineRequest(request, context))).http_response
        await response.read()
        return response


def _selected(columns: Sequence[str] | None) -> list[str] | None:
    # Without its timestamp, a row that was read in part would come without its version.
    return None if columns is None else ["PartitionKey", "RowKey", "Timestamp", *columns]


def _row(entity: Any) -> Row:
    return Row(entity.pop("RowKey"), entity, entity.metadata["etag"])


@contextmanager
def _as_faults() -> Iterator[None]:
    try:
        yield
    except HttpResponseError as error:
        raise _fault(Refused(error.status_code or 0, getattr(error, "error_code", None) or ""), 0) from None
    except (AzureError, TimeoutError, OSError) as error:
        _log.error("the store did not answer: %s", type(error).__name__)
        raise UnavailableError("the store did not answer") from None
    except (LicensingError, _NoTableError, StopAsyncIteration):
        raise
    except Exception as error:  # whatever the SDK trips over in a reply that is not the store's, or not whole
        _log.error("the store's answer cannot be read: %s", type(error).__name__)
        raise UnavailableError("the store's answer cannot be read") from None


_MISMATCHES: Final[dict[int, Mismatch]] = {
    HTTPStatus.CONFLICT: Mismatch.EXISTS,
    HTTPStatus.PRECONDITION_FAILED: Mismatch.CHANGED,
    HTTPStatus.NOT_FOUND: Mismatch.GONE,
}


def _fault(answer: Refused, index: int | None = None) -> Exception:
    """What an answer means; `index` is the place of the write that it is about."""
    if answer.code == "TableNotFound":
        return _NoTableError()
    mismatch = _MISMATCHES.get(answer.status)
    if mismatch is not None:
        return ConflictError(mismatch, index)
    # The status and the code say enough; the message would hold row keys.
    _log.error("the store answered %s %s", answer.status, answer.code)
    return UnavailableError(f"the store answered {answer.status}")
