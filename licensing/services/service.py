"""The service: settings, store and use cases, put together once per process and event loop."""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from datetime import UTC, datetime

from licensing.errors import UnavailableError
from licensing.services.late_ends import LateEnds
from licensing.services.license_files import LicenseFiles
from licensing.services.now import CurrentUse
from licensing.services.refusals import Refusals
from licensing.services.reports import Reports
from licensing.services.sessions import Sessions
from licensing.settings import Settings, StorageSettings
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables

HEALTH_SECONDS = 5.0
"""Cache time of the health check in seconds; stops health requests from loading the store."""


def utc_now() -> datetime:
    """The present time, UTC."""
    return datetime.now(UTC)


def open_register(storage: StorageSettings) -> Register:
    """The register in the store that the settings name, with the managed identity in Azure, elsewhere one's own."""
    # The SDK logs URLs at INFO, with keys in them.
    logging.getLogger("azure").setLevel(logging.WARNING)
    if storage.connection_string:
        return Register(Tables.from_connection_string(storage.connection_string))
    # Imported here, since it slows a cold start, and connection strings do not need it.
    from azure.identity.aio import DefaultAzureCredential, ManagedIdentityCredential

    credential = (
        ManagedIdentityCredential(client_id=storage.client_id) if storage.client_id else DefaultAzureCredential()
    )
    return Register(Tables.with_identity(storage.endpoint, credential))


class Service:
    """All use cases over one store."""

    def __init__(self, settings: Settings, clock: Callable[[], datetime] = utc_now) -> None:
        self.settings = settings
        self.clock = clock
        self.register = open_register(settings.storage)
        self.ledger = Ledger(self.register, clock)
        self.files = LicenseFiles.of(settings, self.register, self.ledger)
        self.sessions = Sessions(settings, self.ledger, self.files, clock)
        self.late_ends = LateEnds(self.register, self.ledger, clock, settings.status_cache_seconds)
        self.reports = Reports(self.register, clock, settings.small_group)
        self.refusals = Refusals(self.reports, clock)
        self.current_use = CurrentUse(self.register, self.ledger, clock, settings.small_group)
        self._health_lock = asyncio.Lock()
        self._checked_at = -math.inf
        self._reachable = False

    async def healthy(self) -> bool:
        """Whether the store can be reached, as of at most `HEALTH_SECONDS` ago."""
        async with self._health_lock:
            if time.monotonic() - self._checked_at >= HEALTH_SECONDS:
                try:
                    await self.register.ping()
                    self._reachable = True
                except UnavailableError:
                    self._reachable = False
                self._checked_at = time.monotonic()
            return self._reachable

    async def close(self) -> None:
        """Close the connections to the store."""
        await self.ledger.close()
        await self.register.close()
