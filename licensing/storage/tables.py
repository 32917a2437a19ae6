"""The only module that knows the Tables SDK: calls become the store's, and the store's errors become ours.

The SDK's defaults suit batch jobs, not a program that waits to start. So this module adds:

- writes and reads of our own (`storage/writes.py`, `storage/queries.py`), sent through the SDK's pipeline, which signs
  them;
- timeouts of seconds, and no retries: after a retry, an error may follow one's own success, so that only the code that
  decides may retry;
- errors by their meaning: `ConflictError` (nothing was done) or `UnavailableError` (it may have been done);
- tables that are created when they are first missed.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager
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
from azure.data.tables.aio import TableServiceClient

from licensing.errors import ConflictError, LicensingError, Mismatch, UnavailableError
from licensing.storage import queries
from licensing.storage.queries import Row
from licensing.storage.retry import with_retries
from licensing.storage.writes import (
    Message,
    Rejected,
    Write,
    answers,
    create,
    delete,
    merge,
    put,
    rejected,
    single,
    transaction,
)

__all__ = ["EdmType", "Row", "Tables", "Write", "create", "delete", "merge", "put"]

TRANSACTION_ROWS: Final = 100
PAGE_ROWS: Final = 1000
CONNECT_SECONDS: Final = 2
READ_SECONDS: Final = 4
CALL_SECONDS: Final = 6
"""The longest that a call takes. The other two bound a connection and a pause; a reply could drip for ever."""

Table = Literal["register", "directory", "audit"]
Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class Tables:
    """The store's tables, on one pool of connections that belongs to the running event loop."""

    def __init__(
        self, service: TableServiceClient, pipeline: "PipelineAccess", credential: AsyncTokenCredential | None = None
    ) -> None:
        self._service = service
        self._pipeline = pipeline
        self._credential = credential
        self._endpoint = service.url.partition("?")[0].rstrip("/")  # without a token, which the pipeline adds

    @classmethod
    def from_connection_string(cls, connection_string: str) -> "Tables":
        """Open the store that a connection string names.

        Raises ValueError if it is none.
        """
        pipeline = PipelineAccess()
        return cls(TableServiceClient.from_connection_string(connection_string, **pipeline.options()), pipeline)

    @classmethod
    def with_identity(cls, endpoint: str, credential: AsyncTokenCredential) -> "Tables":
        """Open the store at a URL with a Microsoft Entra identity."""
        pipeline = PipelineAccess()
        return cls(TableServiceClient(endpoint, credential=credential, **pipeline.options()), pipeline, credential)

    async def close(self) -> None:
        """Close all connections."""
        await self._service.close()
        if self._credential is not None:
            await self._credential.close()

    async def get(self, table: Table, partition: str, key: str, columns: Sequence[str] | None = None) -> Row | None:
        """Read one row, None where there is none: all of its columns, or some; always with its ETag."""
        message = queries.point(self._endpoint, table, partition, key, columns)

        async def read() -> Row:
            return queries.row((await self._read(message)).content)

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
        etags: bool = False,
        where: str = "",
        values: Mapping[str, Any] | None = None,
        page_rows: int = PAGE_ROWS,
        retries: bool = False,
    ) -> AsyncGenerator[list[Row], None]:
        """Read the rows of a key range [first, beyond) in key order, by pages of at most `page_rows`.

        Rows that are read whole have ETags; rows of some `columns` have them with `etags`. `where` is an OData
        comparison with `values` for its @names; the store compares. Without a partition the whole table is read.
        `retries` are for background jobs.

        Raises UnavailableError if a page does not come.
        """
        condition = queries.condition(partition, first, beyond, where, values or {})
        after: dict[str, str] = {}

        async def read() -> tuple[list[Row], dict[str, str]]:
            message = queries.page(self._endpoint, table, condition, columns, page_rows, after, etags=etags)
            response = await self._read(message)
            return queries.rows(response.content), queries.continuation(response.headers)

        while True:
            rows, after = await (with_retries(partial(self._call, table, read)) if retries else self._call(table, read))
            if rows:
                yield rows
            if not after:
                return

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
        """Do all writes or none; the rows' new ETags, empty for deleted rows.

        At most `TRANSACTION_ROWS` writes, each to another row. Raises ConflictError if a row was not as demanded (then
        nothing was done), UnavailableError if it is not known what was done.
        """
        if len(writes) == 1:
            etags = [await self._call(table, lambda: self._send(single(self._endpoint, table, partition, writes[0])))]
        else:
            message = transaction(self._endpoint, table, partition, writes)
            etags = await self._call(table, lambda: self._transact(message, len(writes)))
        if not all(etag or write.verb == "delete" for write, etag in zip(writes, etags, strict=True)):
            raise UnavailableError("the store did not say which version it has written")  # a stranger has answered
        return etags

    async def _read(self, message: Message) -> AsyncHttpResponse:
        response = await self._pipeline.send_own(message, self._service.api_version)
        if response.status_code != HTTPStatus.OK:
            raise _error(rejected(response.status_code, response.content), 0)
        return response

    async def _send(self, message: Message) -> str:
        """Send a write by itself; the row's new ETag."""
        response = await self._pipeline.send_own(message, self._service.api_version)
        if response.status_code != HTTPStatus.NO_CONTENT:
            raise _error(rejected(response.status_code, response.content), 0)
        return response.headers.get("etag", "")

    async def _transact(self, message: Message, writes: int) -> list[str]:
        """Send a transaction of so many writes; the rows' new ETags."""
        response = await self._pipeline.send_own(message, self._service.api_version)
        if response.status_code != HTTPStatus.ACCEPTED:
            raise _error(rejected(response.status_code, response.content))
        answer = answers(response.content, writes)
        if isinstance(answer, Rejected):
            raise _error(answer, answer.index)
        return answer

    async def ping(self) -> None:
        """Ask the store for nothing.

        Raises UnavailableError if it does not answer.
        """
        await self.get("directory", "health", "health")

    async def _call(self, table: Table, call: Callable[[], Awaitable[Result]]) -> Result:
        """Make a call, and once more where its table had to be made first."""
        try:
            with _as_our_errors():
                async with asyncio.timeout(CALL_SECONDS):
                    return await call()
        except _NoTableError:
            with _as_our_errors():
                async with asyncio.timeout(CALL_SECONDS):
                    await self._service.create_table_if_not_exists(table)
                    return await call()


class _NoTableError(Exception):
    pass


class PipelineAccess(AsyncHTTPPolicy[HttpRequest, AsyncHttpResponse]):
    """Sends requests of our own through the SDK's pipeline, which signs and times them like the SDK's.

    A custom policy is the SDK's own way to be extended. This one stands first, and so knows the next one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._transport = AioHttpTransport(
            connection_timeout=CONNECT_SECONDS,
            read_timeout=READ_SECONDS,
            # With this set, aiohttp looks for a proxy in two threads before each request.
            use_env_settings=bool(getproxies()),
        )

    def options(self) -> dict[str, Any]:
        """The options of the SDK's client whose pipeline this is."""
        return {"transport": self._transport, "retry_total": 0, "per_call_policies": [self]}

    async def send(self, request: PipelineRequest[HttpRequest]) -> PipelineResponse[HttpRequest, AsyncHttpResponse]:
        """Pass on a request of the SDK."""
        return await self.next.send(request)

    async def send_own(self, message: Message, version: str) -> AsyncHttpResponse:
        """Send a request of our own in a version of the protocol; the response, with its body read."""
        headers = {**message.headers, "x-ms-version": version}
        request = HttpRequest(message.method, message.url, headers=headers, content=message.body.encode())
        # As a stream: otherwise the pipeline parses the body.
        context = PipelineContext(self._transport, stream=True)
        response = (await self.next.send(PipelineRequest(request, context))).http_response
        await response.read()
        return response


@contextmanager
def _as_our_errors() -> Iterator[None]:
    try:
        yield
    except HttpResponseError as error:
        if error.status_code is None:  # there is no access token, so the store was not asked
            _log.error("the store did not answer: %s", type(error).__name__)
            raise UnavailableError("there is no access token: sign in, as with `az login`") from None
        raise _error(Rejected(error.status_code, getattr(error, "error_code", None) or ""), 0) from None
    except (AzureError, TimeoutError, OSError) as error:
        _log.error("the store did not answer: %s", type(error).__name__)
        raise UnavailableError("the store did not answer") from None
    except (LicensingError, _NoTableError):
        raise
    except Exception as error:  # the reply is not the store's, or not whole
        _log.error("the store's answer cannot be read: %s", type(error).__name__)
        raise UnavailableError("the store's answer cannot be read") from None


_MISMATCHES: Final[dict[int, Mismatch]] = {
    HTTPStatus.CONFLICT: Mismatch.EXISTS,
    HTTPStatus.PRECONDITION_FAILED: Mismatch.CHANGED,
    HTTPStatus.NOT_FOUND: Mismatch.GONE,
}


def _error(answer: Rejected, index: int | None = None) -> Exception:
    """The error that an answer means; `index` is the place of the write that it is about."""
    if answer.code == "TableNotFound":
        return _NoTableError()
    mismatch = _MISMATCHES.get(answer.status)
    if mismatch is not None and answer.code:  # a stranger's 404 says nothing about a row
        return ConflictError(mismatch, index)
    # Status and code only: the message holds row keys.
    _log.error("the store answered %s %s", answer.status, answer.code)
    return UnavailableError(f"the store answered {answer.status}")
