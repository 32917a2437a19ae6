"""Retention: nightly, make the figures of what has closed, then delete what is older than a year (policy, section 12).

The order makes a crash between any two calls harmless, since a rerun does again what was not finished, and comes out
the same: sweep; reckon, from the sessions themselves, each day and month that is not final; write them, then the
organization's months, then how far all is final; and only then, on all its licenses, delete what has been counted or is
past its year. Each of these steps is done on several licenses at once, and is over on all of an organization's before
the next begins.

What goes when:

- ended sessions: one year after their end, to the microsecond;
- denials: with the month that counted them;
- a day's figures: one year after the day;
- a month's figures: never, but of those that outlive the year only `users` is kept where fewer people were active
  than make a small group.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar

from licensing.errors import LicensingError
from licensing.rules.retention import year_before
from licensing.rules.totals import suppress
from licensing.services.directory import licenses
from licensing.services.progress import Progress, no_progress
from licensing.services.sweep import sweep_license
from licensing.services.totals import (
    LicenseAggregate,
    aggregate_license,
    final_day,
    finish,
    keep,
    month_of,
    outlives_its_sessions,
    users_in,
)
from licensing.storage import register as rows
from licensing.storage.bulk import delete_all
from licensing.storage.ledger import Ledger
from licensing.storage.retry import with_retries
from licensing.storage.tables import Tables, put

PARALLEL = 4
"""How many licenses are worked on at once, over all organizations; nor are there more organizations in memory."""

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetentionResult:
    """What a night's run did, and what is left.

    `deleted` counts rows whose deletion was heard of. `oldest` is the end of the oldest session that is kept; `overdue`
    counts licenses that keep one past its year, and `failed` those that could not be done now.
    """

    licenses: int = 0
    days: int = 0
    months: int = 0
    deleted: int = 0
    oldest: datetime | None = None
    overdue: int = 0
    failed: int = 0
    seconds: float = 0

    def __add__(self, other: "RetentionResult") -> "RetentionResult":
        return RetentionResult(
            self.licenses + other.licenses,
            self.days + other.days,
            self.months + other.months,
            self.deleted + other.deleted,
            min(filter(None, (self.oldest, other.oldest)), default=None),
            self.overdue + other.overdue,
            self.failed + other.failed,
            self.seconds + other.seconds,
        )

    def __str__(self) -> str:
        oldest = f"{self.oldest:%Y-%m-%dT%H:%M:%SZ}" if self.oldest else "none"
        return (
            f"licenses={self.licenses} days={self.days} months={self.months} deleted={self.deleted} "
            f"oldest={oldest} overdue={self.overdue} failed={self.failed} seconds={self.seconds:.1f}"
        )


async def run_retention(
    tables: Tables,
    ledger: Ledger,
    as_of: datetime,
    small_group: int,
    *,
    dry_run: bool = False,
    progress: Progress = no_progress,
    parallel: int = PARALLEL,
) -> RetentionResult:
    """Figure and delete on all licenses, as of a moment (UTC); with `dry_run`, only say what would be done."""
    began = time.monotonic()
    by_organization = await with_retries(lambda: _by_organization(tables))
    total = sum(map(len, by_organization.values()))
    organizations, places = asyncio.Semaphore(parallel), asyncio.Semaphore(parallel)
    done: set[tuple[str, str]] = set()

    async def one(organization: str, names: list[str]) -> RetentionResult:
        def told(*names: str) -> None:
            done.update((organization, name) for name in names)
            progress(len(done), total)

        async with organizations:
            run = _Run(tables, ledger, as_of, small_group, dry_run, places, told)
            try:
                return await with_retries(lambda: run.organization(organization, names))
            except Exception as fault:  # whatever it is, it must not keep the others' sessions beyond their time
                _log.error("retention: %s with the licenses of one organization", type(fault).__name__)
                return await run.failed(names)
            finally:
                told(*names)

    parts = await asyncio.gather(*(one(*each) for each in by_organization.items()))
    result = sum(parts, RetentionResult(seconds=time.monotonic() - began))
    level = logging.ERROR if result.failed or result.overdue else logging.INFO
    _log.log(level, "retention %s", result)
    if result.overdue:
        _log.error("retention: %d licenses keep sessions past their year", result.overdue)
    return result


async def _by_organization(tables: Tables) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    async for entry in licenses(tables):
        found[entry.organization].append(entry.license)
    return found


@dataclass(slots=True)
class _Run:
    tables: Tables
    ledger: Ledger
    as_of: datetime
    small_group: int
    dry_run: bool
    places: asyncio.Semaphore
    done: Callable[[str], None]
    """Is told of each license that is done, with each try."""
    deleted: int = 0
    """By all tries together, since what is gone is not counted again."""

    @property
    def cutoff(self) -> datetime:
        return year_before(self.as_of)

    async def organization(self, organization: str, names: list[str]) -> RetentionResult:
        """All licenses of one organization: their figures, then its own, and only then what may go."""
        if self.dry_run:
            self.deleted = 0  # an earlier try has counted the same rows
        figured = dict(zip(names, await self._each(self._figure, names), strict=True))
        months = sorted({month for each in figured.values() for month in each.users})
        for month in months:
            await self._organization_month(organization, month, figured)
        if not self.dry_run:
            await self._each(lambda name: finish(self.tables, name, figured[name]), names)
        parts = await self._each(lambda name: self._let_go(name, figured[name]), names)
        return sum(parts, RetentionResult(deleted=self.deleted))

    async def failed(self, names: list[str]) -> RetentionResult:
        """What is left on licenses that could not be done, as far as that can be told."""

        async def left(name: str) -> RetentionResult:
            try:
                return await self._left(name)
            except LicensingError:
                return RetentionResult()

        return sum(await self._each(left, names), RetentionResult(licenses=len(names), failed=len(names)))

    async def _each(self, work: Callable[[str], Awaitable[Result]], names: Iterable[str]) -> list[Result]:
        """Do a step on several licenses at once; it is over on all of them, also where it fails on one."""

        async def one(name: str) -> Result:
            async with self.places:
                return await work(name)

        done = await asyncio.gather(*map(one, names), return_exceptions=True)
        for each in done:
            if isinstance(each, BaseException):
                raise each
        return [each for each in done if not isinstance(each, BaseException)]

    async def _figure(self, license: str) -> LicenseAggregate:
        """Reckon what has closed on a license, and keep it."""
        await sweep_license(self.tables, self.ledger, license, self.as_of, self.dry_run)
        figured = await aggregate_license(self.tables, license, self.as_of)
        if not self.dry_run:
            await keep(self.tables, license, figured)
        return figured

    async def _organization_month(self, organization: str, month: str, figured: dict[str, LicenseAggregate]) -> None:
        """How many people used any of the organization's licenses in a month, each counted once."""
        if outlives_its_sessions(month, self.as_of) and await self.tables.get(
            "directory", organization, rows.month_key(month), ()
        ):
            return

        async def users_of(name: str) -> set[str]:
            known = figured[name].users.get(month)
            return await users_in(self.tables, name, month, self.as_of) if known is None else known

        users = set().union(*await self._each(users_of, figured))
        if users and not self.dry_run:
            await self.tables.commit("directory", organization, [put(rows.month_key(month), {"users": len(users)})])

    async def _let_go(self, license: str, figured: LicenseAggregate) -> RetentionResult:
        """Delete what has been counted or is past its year (or count what would be); the license is done then."""
        final = figured.final or await final_day(self.tables, license)
        await self._delete(license, rows.ENDED, rows.ended_key(self.cutoff, ""))
        await self._delete(license, rows.DAY, rows.day_key(self.cutoff.date()))
        if final is not None:
            counted = (final + timedelta(days=1)).replace(day=1)
            await self._delete(license, rows.DENIED, f"{rows.DENIED}{counted}")
        await self._suppress(license)
        left = await self._left(license)
        self.done(license)
        return left + RetentionResult(licenses=1, days=figured.days, months=len(figured.users))

    async def _delete(self, license: str, first: str, beyond: str) -> None:
        kept = self.tables.rows("register", license, first, beyond, columns=(), patient=True)
        keys = (row.key async for row in kept)
        if self.dry_run:
            gone = len([key async for key in keys])
        else:
            gone = await delete_all(self.tables, "register", license, keys)
        self.deleted += gone  # in one go: other licenses count here at the same time

    async def _suppress(self, license: str) -> None:
        """Keep only `users` of the months that outlive the year, where few people were active."""
        if self.dry_run:
            return
        outlived = rows.month_key(month_of(self.cutoff.date()))
        few = {"where": "users lt @few", "values": {"few": self.small_group}}
        kept = [row async for row in self.tables.rows("register", license, rows.MONTH, outlived, **few)]
        for month in map(rows.month_value, kept):
            if month.sessions is not None:
                write = rows.month_figures(suppress(month, self.small_group))
                await self.tables.commit("register", license, [write])

    async def _left(self, license: str) -> RetentionResult:
        """The oldest session that is kept (or would be), and whether that is past its year."""
        since = rows.ended_key(self.cutoff, "") if self.dry_run else rows.ENDED
        row = await self.tables.first("register", license, since, rows.beyond(rows.ENDED), ())
        oldest = rows.ended_at(row) if row else None
        return RetentionResult(oldest=oldest, overdue=int(oldest is not None and oldest < self.cutoff))
