"""Sweep: end the sessions that have lapsed, and free their seats; clear places of waiters who have left.

Idempotent, and safe beside live traffic and other sweeps. A session is ended only if it has lapsed by the ledger's
clock, too, and only if its row is unchanged since it was read: a heartbeat in between saves it.
"""

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from licensing.errors import RowError, UnavailableError
from licensing.rules.requests import Ended, Lapse
from licensing.services.progress import Progress, no_progress
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register

PARALLEL: Final = 8
STATE_CACHED_SECONDS: Final = 3600.0
"""A sweep looks for recalls and waiters in license states as old as this, so that it reads few."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did. `failed` licenses could not be swept; the next sweep tries them again."""

    licenses: int
    lapsed: int
    failed: int
    seconds: float

    def __str__(self) -> str:
        return f"licenses={self.licenses} lapsed={self.lapsed} failed={self.failed} seconds={self.seconds:.1f}"


def log_unreadable(error: RowError) -> None:
    """Log the key of a row that cannot be read; the license stays unnamed."""
    _log.error("a row cannot be read: %s", error.key)


async def sweep(
    register: Register,
    ledger: Ledger,
    as_of: datetime,
    dry_run: bool = False,
    progress: Progress = no_progress,
    unreadable: list[RowError] | None = None,
) -> Swept:
    """End sessions that have lapsed as of a moment (UTC) on all licenses; with `dry_run`, only count them.

    A row that cannot be read fails its own license, and is logged and added to `unreadable`.
    """
    began = time.monotonic()
    with suppress(UnavailableError):  # then each license fails by itself
        await ledger.mark_alive()
    license_ids = await register.license_ids()
    places = asyncio.Semaphore(PARALLEL)
    done = 0

    async def one(license_id: str) -> int | None:
        nonlocal done
        async with places:
            try:
                lapsed = await sweep_license(register, ledger, license_id, as_of, dry_run)
                if not dry_run:
                    await _update_recalls(ledger, license_id)
                    await ledger.clear_left(license_id, STATE_CACHED_SECONDS)
                return lapsed
            except UnavailableError:
                return None
            except RowError as error:
                log_unreadable(error)
                if unreadable is not None:
                    unreadable.append(error)
                return None
            finally:
                done += 1
                progress(done, len(license_ids))

    counts = await asyncio.gather(*map(one, license_ids))
    swept = Swept(
        licenses=len(license_ids),
        lapsed=sum(filter(None, counts)),
        failed=counts.count(None),
        seconds=time.monotonic() - began,
    )
    _log.log(logging.ERROR if swept.failed else logging.INFO, "sweep %s", swept)
    return swept


async def _update_recalls(ledger: Ledger, license_id: str) -> None:
    """Forget recalls whose sessions ended more than a day ago.

    A session may have ended unnoticed while it was recalled. Raises UnavailableError if the store cannot be used now.
    """
    state = await ledger.state(license_id, STATE_CACHED_SECONDS)
    if state is None or not state.recalled:
        return
    open_recalls = [recall.session_id for recall in state.recalled if recall.ended_at is None]
    ended = [session_id for session_id in open_recalls if await ledger.session(license_id, session_id) is None]
    if ended or state.without_old_recalls(ledger.now()) != state:
        await ledger.update_recalls(license_id, ended)


async def sweep_license(
    register: Register, ledger: Ledger, license_id: str, as_of: datetime, dry_run: bool = False
) -> int:
    """End the sessions that have lapsed on one license; how many were (or would be) ended.

    Raises UnavailableError if the store cannot be used now, RowError at a row that cannot be read.
    """
    lapsed = 0
    async for page in register.lapsing(license_id, as_of):
        if dry_run:
            lapsed += len(page)
            continue
        answers = await asyncio.gather(*(ledger.submit(license_id, Lapse(row)) for row in page))
        lapsed += sum(answer.outcome == Ended(now=True) for answer in answers)
    return lapsed
