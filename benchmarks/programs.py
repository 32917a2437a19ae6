"""Programs that use the service over HTTP, as many at once as there are seats, and the licenses that they bring."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import aiohttp

from benchmarks.common import Bench
from licensing.crypto.tokens import Lease, read_license, write_lease
from licensing.rules.model import Person, Terms
from licensing.rules.requests import Granted, Start
from licensing.services.service import utc_now
from licensing.settings import Settings
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests import factories

IN_FLIGHT = 100
"""Requests at once: what the templates allow an instance of the service (infra/, `perInstanceConcurrency`)."""

CHUNK = 90


@dataclass(frozen=True, slots=True)
class Program:
    """A session that runs, and what its next heartbeat sends."""

    license: str
    session: str
    lease: str

    def reply(self) -> dict[str, Any]:
        """As a reply to its start has it."""
        return {"session": self.session, "lease": self.lease}


async def fill(bench: Bench, tables: Tables, file: str, sessions: int) -> list[Program]:
    """Start sessions under a license file, past HTTP, which is not what is measured."""
    settings = Settings.load(factories.environment(bench.home, bench.storage))
    license = read_license(file, settings.issuer_keys)
    terms, ledger = Terms.of(license), Ledger(Register(tables), utc_now)
    names = [factories.new_session_id() for _ in range(sessions)]
    for first in range(0, sessions, CHUNK):
        starts = [Start(name, terms, (Person(name, name, name, "p1"),)) for name in names[first : first + CHUNK]]
        decision = await asyncio.gather(*(ledger.submit(license.id, start) for start in starts))
        if not all(isinstance(one.outcome, Granted) for one in decision):
            raise RuntimeError("a session was not granted; the benchmark would measure something else")
    now = utc_now()

    def lease(session_id: str) -> str:
        own = Lease(
            session_id=session_id,
            license_id=license.id,
            issued_at=now,
            expires_at=now + timedelta(seconds=license.lease_seconds),
            nonce=factories.new_nonce(),
            features=license.features,
            grace_seconds=license.grace_seconds,
            borrowed=False,
            overdraft=False,
        )
        return write_lease(own, settings.lease_keys)

    return [Program(license.id, name, lease(name)) for name in names]


async def all_at_once(calls: Iterable[Callable[[], Awaitable[None]]], at_once: int = IN_FLIGHT) -> None:
    """Make calls, so many at a time."""
    waiting = iter(calls)

    async def caller() -> None:
        for call in waiting:
            await call()

    await asyncio.gather(*(caller() for _ in range(at_once)))


def many_connections() -> aiohttp.ClientSession:
    """A client that opens as many connections as there are calls at once."""
    return aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
