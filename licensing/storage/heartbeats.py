"""Heartbeats: they need no license state, and must not queue behind a batch that competes for it.

A heartbeat merges its active row if that is there. A missing row is the truth: the session is gone. If the row is
cached, its version is demanded: so what is cached afterwards is the row as it is, and a later end need not read it.
"""

import asyncio
import itertools
import time
from collections.abc import Sequence
from typing import Final

from licensing.errors import ConflictError, Mismatch, UnavailableError
from licensing.rules.model import Session, Versioned
from licensing.rules.requests import Heartbeat
from licensing.storage.register import Register, heartbeat_change
from licensing.storage.retry import backoff, batch_deadline
from licensing.storage.row_cache import RowCache
from licensing.storage.tables import TRANSACTION_ROWS

GONE_BEFORE_SINGLY: Final = 3
"""After so many sessions of a batch that are gone, the others are noted one by one."""


class HeartbeatWriter:
    """Handles the heartbeats of one license in batches, one batch at a time."""

    def __init__(self, register: Register, license_id: str, rows: RowCache) -> None:
        self._register = register
        self._license_id = license_id
        self._rows = rows

    async def handle(self, heartbeats: Sequence[Heartbeat]) -> dict[int, bool]:
        """Note heartbeats; by place, whether the session is active.

        Raises UnavailableError if that does not succeed in time.
        """
        latest: dict[str, Heartbeat] = {}
        for heartbeat in heartbeats:
            if heartbeat.session_id in latest or len(latest) < TRANSACTION_ROWS:
                latest[heartbeat.session_id] = heartbeat
        gone = await self._note(latest)
        return {
            place: heartbeat.session_id not in gone
            for place, heartbeat in enumerate(heartbeats)
            if heartbeat.session_id in latest
        }

    async def _note(self, heartbeats: dict[str, Heartbeat]) -> set[str]:
        """Note one heartbeat for each session; the sessions that are gone."""
        gone: set[str] = set()
        store_names_rows = True
        deadline = batch_deadline()
        for attempt in itertools.count():
            alive = [heartbeat for session_id, heartbeat in heartbeats.items() if session_id not in gone]
            try:
                if alive and store_names_rows and len(gone) < GONE_BEFORE_SINGLY:
                    await self._merge(alive, [self._rows.session(self._license_id, each.session_id) for each in alive])
                else:
                    gone.update(await self._merge_singly(alive))
                break
            except ConflictError as conflict:
                if conflict.index is None:
                    store_names_rows = False
                elif conflict.mismatch is Mismatch.GONE:
                    gone.add(alive[conflict.index].session_id)
                else:
                    self._forget(alive)  # all at once, since a stale row seldom comes alone
            except UnavailableError:
                if time.monotonic() > deadline:
                    raise
                await backoff(attempt, 0.1)
        return gone

    async def _merge_singly(self, heartbeats: Sequence[Heartbeat]) -> list[str]:
        """Note heartbeats one by one; the sessions that are gone."""

        async def is_gone(heartbeat: Heartbeat) -> bool:
            try:
                await self._merge([heartbeat], [None])
            except ConflictError:
                return True
            return False

        gone = await asyncio.gather(*map(is_gone, heartbeats))
        return [each.session_id for each, is_gone in zip(heartbeats, gone, strict=True) if is_gone]

    async def _merge(self, heartbeats: Sequence[Heartbeat], cached: Sequence[Versioned[Session] | None]) -> None:
        """Note heartbeats in one transaction, at the versions of the rows that are cached.

        Raises ConflictError if a session is gone, or if a cached row is stale.
        """
        changes = [heartbeat_change(each, row) for each, row in zip(heartbeats, cached, strict=True)]
        try:
            etags = await self._register.commit(self._license_id, changes)
        except ConflictError as conflict:
            if conflict.mismatch is Mismatch.GONE or any(cached):
                raise
            raise UnavailableError("the store refuses a write that demands no version") from None
        self._rows.store(self._license_id, changes, etags)

    def _forget(self, heartbeats: Sequence[Heartbeat]) -> None:
        for heartbeat in heartbeats:
            self._rows.forget_session(self._license_id, heartbeat.session_id)
