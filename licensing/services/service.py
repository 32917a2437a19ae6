"""The service as a whole: settings, store and use cases, put together once per process and event loop."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

from licensing.errors import UnavailableError
from licensing.services.reports import Reports
from licensing.services.sessions import Sessions
from licensing.settings import Settings, StorageSettings
from licensing.storage.ledger import Ledger
from licensing.storage.tables import Tables

HEALTH_SECONDS = 5.0
"""How long a look at the store is good for, so that nobody can make the store work by asking for our health."""


def utc_now() -> datetime:
    """The present time, UTC."""
    return datetime.now(UTC)


def open_tables(storage: StorageSettings) -> Tables:
    """The store that the settings name; inside Azure with the managed identity, elsewhere with one's own."""
    # The SDK logs URLs at INFO, with keys in them.
    logging.getLogger("azure").setLevel(logging.WARNING)
    if storage.connection_string:
        return Tables.from_connection_string(storage.connection_string)
    # Only here, since a local run or a connection string has no use for it and it costs a cold start dearly.
    from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential

    if storage.client_id:
        return Tables.with_identity(storage.endpoint, ManagedIdentityCredential(client_id=storage.client_id))
    return Tables.with_identity(storage.endpoint, DefaultAzureCredential())


class Service:
    """All use cases over one store."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self.settings = settings
        self.clock = clock
        self.tables = open_tables(settings.storage)
        self.ledger = Ledger(self.tables, clock)
        self.sessions = Sessions(settings, self.ledger, clock)
        self.reports = Reports(self.tables, clock, settings.small_group)
        self._looking = asyncio.Lock()
        self._looked_at = -math.inf
        self._reachable = False

    async def healthy(self) -> bool:
        """Whether the store can be reached, as of at most `HEALTH_SECONDS` ago."""
        async with self._looking:
            if time.monotonic() - self._looked_at >= HEALTH_SECONDS:
                try:
                    await self.tables.ping()
                    self._reachable = True
                except UnavailableError:
                    self._reachable = False
                self._looked_at = time.monotonic()
            return self._reachable

    async def close(self) -> None:
        """Close the connections to the store."""
        await self.tables.close()
