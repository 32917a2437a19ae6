"""Sweep: end the sessions whose leases have lapsed, so that their seats are free before anybody asks for them.

Safe to repeat, beside live traffic and beside itself: a session is ended only if its row has not changed since it was
judged, so that a heartbeat in between saves it, and only if it has lapsed by the ledger's clock too.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from datetime import datetime

from licensing.errors import UnavailableError
from licensing.rules.seats import Ended, Lapse
from licensing.services.directory import licenses
from licensing.services.progress import Progress, no_progress
from licensing.storage import register as rows
from licensing.storage.ledger import Ledger
from licensing.storage.tables import Tables

PARALLEL = 8

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Swept:
    """What a sweep did. `failed` licenses could not be swept now; the next sweep will."""

    licenses: int
    lapsed: int
    failed: int
    seconds: float

    def __str__(self) -> str:
        return f"licenses={self.licenses} lapsed={self.lapsed} failed={self.failed} seconds={self.seconds:.1f}"


async def sweep(
    tables: Tables, ledger: Ledger, as_of: datetime, dry_run: bool = False, progress: Progress = no_progress
) -> Swept:
    """End what has lapsed as of a moment (UTC) on all licenses; with `dry_run`, only count it."""
    began = time.monotonic()
    names = [entry.license async for entry in licenses(tables)]
    places = asyncio.Semaphore(PARALLEL)
    done = 0

    async def one(license: str) -> int | None:
        nonlocal done
        async with places:
            try:
                return await sweep_license(tables, ledger, license, as_of, dry_run)
            except UnavailableError:
                return None
            finally:
                done += 1
                progress(done, len(names))

    counts = await asyncio.gather(*map(one, names))
    swept = Swept(
        licenses=len(names),
        lapsed=sum(filter(None, counts)),
        failed=counts.count(None),
        seconds=time.monotonic() - began,
    )
    _log.log(logging.ERROR if swept.failed else logging.INFO, "sweep %s", swept)
    return swept


async def sweep_license(tables: Tables, ledger: Ledger, license: str, as_of: datetime, dry_run: bool = False) -> int:
    """End what has lapsed on one license; how many sessions that were (or would be)."""
    lapsed = 0
    pages = tables.pages(
        "register",
        license,
        rows.ACTIVE,
        rows.beyond(rows.ACTIVE),
        where="expires_at le @as_of",
        values={"as_of": as_of},
    )
    async for page in pages:
        if dry_run:
            lapsed += len(page)
            continue
        settled = await asyncio.gather(*(ledger.submit(license, Lapse(rows.session_value(row))) for row in page))
        lapsed += sum(isinstance(each.outcome, Ended) and each.outcome.now for each in settled)
    return lapsed
