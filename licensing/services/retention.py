"""Retention: every night, aggregate closed days and months, then delete rows past their year (policy, section 12).

The steps, each on all licenses of an organization before the next begins:

1. sweep;
2. aggregate each closed day and month that is not final from its sessions, and save it;
3. save the organization's months;
4. mark days final;
5. reduce the months that outlive their sessions, and delete.

A crash between any two calls is harmless: the next run repeats what was not finished, with the same result.

What is kept until when:

- ended sessions: one year after their end, to the microsecond;
- denials: until their month is final;
- a day's totals: one year after the day; what was heard too late for its day: one year after that month's beginning;
- a month's totals: for good. Once the first of its sessions is deleted they hold no hour of a day, and only `users` if
  they were fewer than a small group;
- audit entries: two years.

A row that cannot be read fails its own license: its totals are not saved. What is past its year is deleted all the
same, by its key.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from licensing.errors import LicensingError, RowError
from licensing.rules.model import EndReason, ended_session
from licensing.rules.retention import year_before
from licensing.rules.totals import MonthTotals, suppress
from licensing.rules.usage import DAY
from licensing.services.audit import delete_old_entries
from licensing.services.organization_totals import aggregate_organization, on_each
from licensing.services.progress import Progress, no_progress
from licensing.services.sweep import log_unreadable, sweep_license
from licensing.services.totals import LicenseAggregate, outlives_its_sessions, reduce_months, saved_final_day
from licensing.storage.codec import noting
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register, RowKind
from licensing.storage.retry import with_retries

PARALLEL: Final = 4
"""How many licenses are worked on at once, over all organizations, and how many organizations are in memory."""

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


@dataclass(slots=True)
class Details:
    """What a run tells besides its numbers to the person who runs it, and no log: which rows and months they are.

    `reduced` are months, by license, of which less is kept from now on; `unreadable` rows fail their licenses.
    """

    reduced: list[tuple[str, str]] = field(default_factory=list)
    unreadable: list[RowError] = field(default_factory=list)


async def run_retention(
    register: Register,
    ledger: Ledger,
    as_of: datetime,
    small_group: int,
    *,
    dry_run: bool = False,
    progress: Progress = no_progress,
    parallel: int = PARALLEL,
    details: Details | None = None,
) -> RetentionResult:
    """Aggregate and delete on all licenses, as of a moment (UTC); with `dry_run`, only count.

    Rows that cannot be read are logged, and `details` are added.
    """
    details = details or Details()
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
                once = {str(row): row for row in run.unreadable}.values()  # several steps read the same rows
                for row in once:
                    log_unreadable(row)
                details.unreadable += once
                details.reduced += sorted(run.reduced)

    parts = await asyncio.gather(*(one(*each) for each in by_organization.items()))
    parts.append(RetentionResult(deleted=await with_retries(lambda: delete_old_entries(register, as_of, dry_run))))
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
    reduced: set[tuple[str, str]] = field(default_factory=set)
    """The months that were reduced, by license, in all tries."""
    unreadable: list[RowError] = field(default_factory=list)
    """The rows that the last try could not read."""

    @property
    def cutoff(self) -> datetime:
        return year_before(self.as_of)

    async def organization(self, organization_id: str, license_ids: list[str]) -> RetentionResult:
        """Do all licenses of one organization, step by step."""
        self.unreadable.clear()
        if self.dry_run:
            self.deleted = 0  # a retry counts the same rows
        await on_each(self._sweep, license_ids, self.license_slots)
        aggregates = await aggregate_organization(
            self.register,
            organization_id,
            license_ids,
            self.as_of,
            self.license_slots,
            max(self.as_of, self.ledger.now()),
            dry_run=self.dry_run,
            unreadable=self.unreadable,
        )
        parts = await on_each(lambda each: self._delete(each, aggregates[each]), license_ids, self.license_slots)
        failed = {error.partition for error in self.unreadable}
        return sum(parts, RetentionResult(deleted=self.deleted, failed=len(failed)))

    async def _sweep(self, license_id: str) -> None:
        with noting(self.unreadable):
            await sweep_license(self.register, self.ledger, license_id, self.as_of, self.dry_run)

    async def failed(self, license_ids: list[str]) -> RetentionResult:
        """What is left on licenses that could not be done, as far as the store answers."""

        async def left(license_id: str) -> RetentionResult:
            try:
                return await self._oldest_left(license_id)
            except LicensingError:
                return RetentionResult()

        count = len(license_ids)
        return sum(await on_each(left, license_ids, self.license_slots), RetentionResult(licenses=count, failed=count))

    async def _delete(self, license_id: str, aggregate: LicenseAggregate) -> RetentionResult:
        """Reduce months, then delete rows that were counted or are past their year (or count them)."""
        register, dry_run = self.register, self.dry_run
        # What this run found is not saved if sessions were corrected or erased meanwhile.
        final = aggregate.final_day if dry_run else None
        with noting(self.unreadable):
            final = final or await saved_final_day(register, license_id)
        with noting(self.unreadable):
            await self._reduce(license_id, aggregate)
        self._count(await register.delete(license_id, RowKind.ENDED, self.cutoff, dry_run=dry_run))
        if dry_run:
            with noting(self.unreadable):
                self._count(await self._ended_by_sweep(license_id))
        for kind in (RowKind.DAY, RowKind.LATE):
            self._count(await register.delete(license_id, kind, self.cutoff.date(), dry_run=dry_run))
        if final is not None:
            counted = (final + DAY).replace(day=1)
            self._count(await register.delete(license_id, RowKind.DENIED, counted, dry_run=dry_run))
        left = await self._oldest_left(license_id)
        self.report(license_id)
        return left + RetentionResult(licenses=1, days=aggregate.days, months=len(aggregate.users))

    async def _ended_by_sweep(self, license_id: str) -> int:
        """How many sessions a run would end and then delete: those that lapsed more than a year ago."""
        lapsed = [row.value async for row in self.register.active(license_id) if row.value.lapses_at <= self.as_of]
        return sum(ended_session(each, EndReason.LAPSED, self.as_of).ended_at < self.cutoff for each in lapsed)

    async def _reduce(self, license_id: str, aggregate: LicenseAggregate) -> None:
        """Reduce the months that outlive their sessions (or count them), before the first session of one is deleted."""
        if self.dry_run:
            months = {month.month: month async for month in self.register.months(license_id)}
            months |= {each.month: each for each in aggregate.totals if isinstance(each, MonthTotals)}
            reduced = self._reduced(months.values())
        else:
            reduced = await reduce_months(self.register, license_id, self._reduced)
        self.reduced.update((license_id, month.month) for month in reduced)

    def _reduced(self, months: Iterable[MonthTotals]) -> list[MonthTotals]:
        """What is kept from now on of those months of which less is kept."""
        old = [month for month in months if outlives_its_sessions(month.month, self.as_of)]
        return [less for month in old if (less := suppress(month, self.small_group)) != month]

    def _count(self, deleted: int) -> None:
        # No await between reading and writing: other licenses count here at the same time.
        self.deleted += deleted

    async def _oldest_left(self, license_id: str) -> RetentionResult:
        """The oldest session that is left (or would be), and whether it is past its year."""
        oldest = await self.register.oldest_end(license_id, self.cutoff if self.dry_run else None)
        return RetentionResult(oldest=oldest, overdue=int(oldest is not None and oldest < self.cutoff))
