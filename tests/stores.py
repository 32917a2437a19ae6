"""Stores around a real one: tables that count calls, lose messages, show one organization, or are a test's own."""

import asyncio
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

from azure.data.tables.aio import TableServiceClient

from licensing.errors import UnavailableError
from licensing.storage.ledger import Ledger
from licensing.storage.register import SERVICE, Register
from licensing.storage.tables import PipelineAccess, Row, Table, Tables, Write
from tests.factories import Clock

Result = TypeVar("Result")


def ledgers(tables: Tables, clock: Clock, count: int) -> list[Ledger]:
    """The ledgers of as many processes over one store."""
    return [Ledger(Register(tables), clock) for _ in range(count)]


class Counted(Tables):
    """A store that counts its calls, but for the service's marks that it is alive.

    It loses requests or replies of commits when a test asks for that.
    """

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables._service, tables._pipeline)
        self.calls: list[str] = []
        self.lose_requests = 0
        self.lose_replies = 0

    async def get(self, table: Table, partition: str, key: str, columns: Sequence[str] | None = None) -> Row | None:
        self.calls.append(f"get {key}")
        return await super().get(table, partition, key, columns)

    def pages(self, table: Table, *args: Any, **kwargs: Any) -> Any:
        if SERVICE not in args:
            self.calls.append(f"range {args[1] if len(args) > 1 else ''}")
        return super().pages(table, *args, **kwargs)

    async def commit(self, table: Table, partition: str, writes: Sequence[Write]) -> list[str]:
        if partition != SERVICE:
            self.calls.append(f"commit {table}")
        if table == "register" and self.lose_requests:
            self.lose_requests -= 1
            raise UnavailableError("the request was lost")
        etags = await super().commit(table, partition, writes)
        if table == "register" and self.lose_replies:
            self.lose_replies -= 1
            raise UnavailableError("the reply was lost")
        return etags


class OneCustomer(Tables):
    """A store whose directory shows one organization, so that a retention run works on no other test's licenses."""

    def __init__(self, tables: Tables, organization_id: str) -> None:
        super().__init__(tables._service, tables._pipeline)
        self.organization_id = organization_id

    def pages(self, table: Table, partition: str | None = None, *args: Any, **kwargs: Any) -> Any:
        if table == "directory" and partition is None:
            partition = self.organization_id
        return super().pages(table, partition, *args, **kwargs)


class Dies(BaseException):
    """The process has died; nothing catches it."""


class OwnTables(Tables):
    """A register on tables of its own. It counts calls and rows read, and can die at any call."""

    def __init__(self, service: TableServiceClient, access: PipelineAccess, prefix: str) -> None:
        super().__init__(service, access)
        self.prefix = prefix
        """What the names of its tables begin with."""
        self.calls = 0
        self.rows_read = 0
        self.writes: list[int] = []
        """The number of calls before each call that writes."""
        self.dies_before: int | None = None
        """The number of the call at which the process dies: neither it nor a later call is made."""
        self.dead = asyncio.Event()
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def _call(self, table: Table, call: Callable[[], Awaitable[Result]]) -> Result:
        if self.dead.is_set() or self.calls == self.dies_before:
            self.dead.set()
            raise Dies
        self.calls += 1
        self._in_flight += 1
        self._idle.clear()
        try:
            return await super()._call(self._own(table), call)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def commit(self, table: Table, partition: str, writes: Sequence[Write]) -> list[str]:
        self.writes.append(self.calls)
        return await super().commit(self._own(table), partition, writes)

    async def get(self, table: Table, partition: str, key: str, columns: Sequence[str] | None = None) -> Row | None:
        return await super().get(self._own(table), partition, key, columns)

    def _own(self, table: str) -> Any:
        return table if table.startswith(self.prefix) else self.prefix + table

    async def close(self) -> None:
        await self._idle.wait()  # what a dead process has sent still arrives
        await super().close()

    async def pages(self, table: Table, *args: Any, **kwargs: Any) -> Any:
        async for page in super().pages(self._own(table), *args, **kwargs):
            self.rows_read += len(page)
            yield page


Opened = TypeVar("Opened", bound=OwnTables)


@asynccontextmanager
async def own_tables(storage: str, kind: type[Opened], prefix: str = "") -> AsyncIterator[Opened]:
    """Open new tables, or those with a prefix."""
    access = PipelineAccess()
    service = TableServiceClient.from_connection_string(storage, **access.options())
    opened = kind(service, access, prefix or f"r{secrets.token_hex(8)}")
    yield opened
    await opened.close()


class StorageCalls:
    """Counts the calls that reach Azurite, by the line that it logs for each."""

    def __init__(self, log: Path, tables: Tables) -> None:
        self._log = log
        self._tables = tables

    async def mark(self) -> int:
        """A place in the log after all calls that have been answered."""
        key = secrets.token_hex(8)
        await self._tables.ping()  # so that the table is there, and the next line is a single call
        await self._tables.get("directory", "mark", key)
        return self._place_after(key.encode())

    async def since(self, mark: int) -> list[str]:
        """The calls since a mark, as `VERB url`."""
        until = await self.mark()
        lines = self._log.read_bytes()[mark:until].decode().splitlines()[:-2]  # without the mark's own
        return [line.split('"')[1].removesuffix(" HTTP/1.1") for line in lines]

    def _place_after(self, key: bytes) -> int:
        """The end of the line that names a key; Azurite writes it when the reply has gone out."""
        while not (found := re.search(re.escape(key) + rb".*\n", self._log.read_bytes())):
            time.sleep(0.002)
        return found.end()
