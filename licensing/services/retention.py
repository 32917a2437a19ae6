"""Retention: every night, aggregate closed days and months, then delete rows past their year (policy, section 12).

The steps, each on all licenses of an organization before the next begins:

1. sweep, then aggregate each closed day and month that is not final from its sessions, and save it;
2. save the organization's months;
3. mark days final;
4. delete, and suppress months of small groups.

A crash between any two calls is harmless: the next run repeats what was not finished, with the same result.

What is kept until when:

- ended sessions: one year after their end, to the microsecond;
- denials: until their month is final;
- a day's totals: one year after the day;
- a month's totals: for good, after a year only `users` if they were fewer than a small group.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeVar

from licensing.errors import LicensingError
from licensing.rules.retention import year_before
from licensing.rules.totals import month_of, suppress
from licensing.rules.usage import DAY
from licensing.services.progress import Progress, no_progress
from licensing.services.sweep import sweep_license
from licensing.services.totals import (
    LicenseAggregate,
    aggregate_license,
    mark_final,
    outlives_its_sessions,
    save_totals,
    saved_final_day,
    users_in,
)
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register, RowKind
from licensing.storage.retry import with_retries

PARALLEL: Final = 4
"""How many licenses are worked on at once, over all organizations, and how many organizations are in memory."""

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RetentionResult:
    """What a run did, and what is left.

    `deleted` counts confirmed deletions of rows. `oldest` is the end of the oldest session that is left. `overdue`
    licenses have one past its year; `failed` ones could not be done.
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
    register: Register,
    ledger: Ledger,
    as_of: datetime,
    small_group: int,
    *,
    dry_run: bool = False,
    progress: Progress = no_progress,
    parallel: int = PARALLEL,
) -> RetentionResult:
    """Aggregate and delete on all licenses, as of a moment (UTC); with `dry_run`, only count."""
    began = time.monotonic()
    by_organization = await with_retries(lambda: _by_organization(register))
    total = sum(map(len, by_organization.values()))
    organization_slots, license_slots = asyncio.Semaphore(parallel), asyncio.Semaphore(parallel)
    done: set[tuple[str, str]] = set()

    async def one(organization_id: str, license_ids: list[str]) -> RetentionResult:
        def report(*license_ids: str) -> None:
            done.update((organization_id, license_id) for license_id in license_ids)
            progress(len(done), total)

        async with organization_slots:
            run = _Run(register, ledger, as_of, small_group, dry_run, license_slots, report)
            try:
                return await with_retries(lambda: run.organization(organization_id, license_ids))
            except Exception as error:  # so that the other organizations' sessions are deleted in time
                _log.error("retention: %s with the licenses of one organization", type(error).__name__)
                return await run.failed(license_ids)
            finally:
                report(*license_ids)

    parts = await asyncio.gather(*(one(*each) for each in by_organization.items()))
    result = sum(parts, RetentionResult(seconds=time.monotonic() - began))
    level = logging.ERROR if result.failed or result.overdue else logging.INFO
    _log.log(level, "retention %s", result)
    if result.overdue:
        _log.error("retention: %d licenses keep sessions past their year", result.overdue)
    return result


async def _by_organization(register: Register) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    async for license in register.licenses():
        found[license.organization_id].append(license.license_id)
    return found


@dataclass(slots=True)
class _Run:
    register: Register
    ledger: Ledger
    as_of: datetime
    small_group: int
    dry_run: bool
    license_slots: asyncio.Semaphore
    report: Callable[[str], None]
    """Called with each license that is done, by each try."""
    deleted: int = 0
    """The sum over all tries: a retry does not find rows that are deleted."""

    @property
    def cutoff(self) -> datetime:
        return year_before(self.as_of)

    async def organization(self, organization_id: str, license_ids: list[str]) -> RetentionResult:
        """Do all licenses of one organization, step by step."""
        if self.dry_run:
            self.deleted = 0  # a retry counts the same rows
        found = await self._on_each(self._sweep_and_aggregate, license_ids)
        aggregates = dict(zip(license_ids, found, strict=True))
        months = sorted({month for aggregate in found for month in aggregate.users})
        for month in months:
            await self._organization_month(organization_id, month, aggregates)
        if not self.dry_run:
            await self._on_each(lambda each: mark_final(self.register, each, aggregates[each]), license_ids)
        parts = await self._on_each(lambda each: self._delete(each, aggregates[each]), license_ids)
        return sum(parts, RetentionResult(deleted=self.deleted))

    async def failed(self, license_ids: list[str]) -> RetentionResult:
        """What is left on licenses that could not be done, as far as the store answers."""

        async def left(license_id: str) -> RetentionResult:
            try:
                return await self._oldest_left(license_id)
            except LicensingError:
                return RetentionResult()

        count = len(license_ids)
        return sum(await self._on_each(left, license_ids), RetentionResult(licenses=count, failed=count))

    async def _on_each(self, work: Callable[[str], Awaitable[Result]], license_ids: Iterable[str]) -> list[Result]:
        """Do a step on several licenses at once, and wait for all of them even if one fails."""

        async def one(license_id: str) -> Result:
            async with self.license_slots:
                return await work(license_id)

        done = await asyncio.gather(*map(one, license_ids), return_exceptions=True)
        for each in done:
            if isinstance(each, BaseException):
                raise each
        return [each for each in done if not isinstance(each, BaseException)]

    async def _sweep_and_aggregate(self, license_id: str) -> LicenseAggregate:
        await sweep_license(self.register, self.ledger, license_id, self.as_of, self.dry_run)
        aggregate = await aggregate_license(self.register, license_id, self.as_of)
        if not self.dry_run:
            await save_totals(self.register, license_id, aggregate)
        return aggregate

    async def _organization_month(
        self, organization_id: str, month: str, aggregates: dict[str, LicenseAggregate]
    ) -> None:
        """How many people used any of the organization's licenses in a month, each counted once."""
        outlives = outlives_its_sessions(month, self.as_of)
        if outlives and month in await self.register.organization_months(organization_id):
            return

        async def users_of(license_id: str) -> set[str]:
            known = aggregates[license_id].users.get(month)
            return await users_in(self.register, license_id, month, self.as_of) if known is None else known

        users = set().union(*await self._on_each(users_of, aggregates))
        if users and not self.dry_run:
            await self.register.save_organization_month(organization_id, month, len(users))

    async def _delete(self, license_id: str, aggregate: LicenseAggregate) -> RetentionResult:
        """Delete rows that were counted or are past their year (or count them), and suppress small groups' months."""
        register, dry_run = self.register, self.dry_run
        # What this run found is not saved if sessions were corrected or erased meanwhile.
        final = (aggregate.final_day if dry_run else None) or await saved_final_day(register, license_id)
        self._count(await register.delete(license_id, RowKind.ENDED, self.cutoff, dry_run=dry_run))
        self._count(await register.delete(license_id, RowKind.DAY, self.cutoff.date(), dry_run=dry_run))
        if final is not None:
            counted = (final + DAY).replace(day=1)
            self._count(await register.delete(license_id, RowKind.DENIED, counted, dry_run=dry_run))
        if not dry_run:
            await self._suppress(license_id)
        left = await self._oldest_left(license_id)
        self.report(license_id)
        return left + RetentionResult(licenses=1, days=aggregate.days, months=len(aggregate.users))

    async def _suppress(self, license_id: str) -> None:
        """Keep only `users` of the months that outlive the year, where few people were active."""
        outlived = month_of(self.cutoff.date())
        async for month in self.register.months(license_id):
            small = suppress(month, self.small_group)
            if month.month < outlived and small != month:
                await self.register.replace_month(license_id, small)

    def _count(self, deleted: int) -> None:
        # No await between reading and writing: other licenses count here at the same time.
        self.deleted += deleted

    async def _oldest_left(self, license_id: str) -> RetentionResult:
        """The oldest session that is left (or would be), and whether it is past its year."""
        oldest = await self.register.oldest_end(license_id, self.cutoff if self.dry_run else None)
        return RetentionResult(oldest=oldest, overdue=int(oldest is not None and oldest < self.cutoff))
