"""Usage totals of an organization: of its licenses, and how many people used any of them in a month."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import date, datetime
from typing import TypeVar

from licensing.errors import RowError
from licensing.rules.billing import bounds
from licensing.rules.totals import Pseudonym, distinct, month_of
from licensing.rules.usage import Use
from licensing.services.corrections import Correction, days_of
from licensing.services.totals import (
    LicenseAggregate,
    aggregate_license,
    mark_final,
    outlives_its_sessions,
    save_totals,
    uses_in,
)
from licensing.storage.codec import noting
from licensing.storage.register import Register

Result = TypeVar("Result")


async def on_each(
    work: Callable[[str], Awaitable[Result]], license_ids: Iterable[str], slots: asyncio.Semaphore
) -> list[Result]:
    """Do a step on several licenses at once, and wait for all of them even if one fails; then its error is raised."""

    async def one(license_id: str) -> Result:
        async with slots:
            return await work(license_id)

    done = await asyncio.gather(*map(one, license_ids), return_exceptions=True)
    for each in done:
        if isinstance(each, BaseException):
            raise each
    return [each for each in done if not isinstance(each, BaseException)]


async def aggregate_organization(
    register: Register,
    organization_id: str,
    license_ids: Collection[str],
    as_of: datetime,
    slots: asyncio.Semaphore,
    now: datetime | None = None,
    *,
    dry_run: bool = False,
    unreadable: list[RowError] | None = None,
) -> dict[str, LicenseAggregate]:
    """Aggregate the closed days and months of an organization's licenses, save them and mark them final; by license.

    Each step is done on all licenses before the next begins, so that a crash in between is harmless: the next run
    repeats what was not finished, with the same result. `now` and `dry_run` are as for `aggregate_license`.

    Rows that cannot be read are noted in `unreadable`, and fail their license alone. Without it RowError is raised.
    """

    async def one(license_id: str) -> LicenseAggregate:
        aggregate = LicenseAggregate()
        with _noting(unreadable):
            aggregate = await aggregate_license(register, license_id, as_of, now, dry_run=dry_run)
        if not dry_run:
            await save_totals(register, license_id, aggregate)
        return aggregate

    aggregates = dict(zip(license_ids, await on_each(one, license_ids, slots), strict=True))
    if dry_run:
        return aggregates
    for month in sorted({month for aggregate in aggregates.values() for month in aggregate.users}):
        with _noting(unreadable):
            await _save_month(register, organization_id, month, aggregates, as_of, slots)
    await on_each(lambda each: mark_final(register, each, aggregates[each]), license_ids, slots)
    return aggregates


async def _save_month(
    register: Register,
    organization_id: str,
    month: str,
    aggregates: Mapping[str, LicenseAggregate],
    as_of: datetime,
    slots: asyncio.Semaphore,
) -> None:
    """Save how many people used any of an organization's licenses in a month; not fewer after an erasure."""
    known = {each: found.users[month] for each, found in aggregates.items() if month in found.users}
    # Where a month is final, its license is not among those that were aggregated.
    final = [each for each in aggregates if each not in known]
    lost = any(month in found.lost for found in aggregates.values()) or any(
        [await _has_lost_sessions(register, each, month) for each in final]
    )
    months = await register.organization_months(organization_id)
    if month in months and outlives_its_sessions(month, as_of):
        return
    users = await _users(register, aggregates, month, as_of, slots, known)
    if users := max(users, months.get(month, 0) if lost else 0):
        await register.save_organization_month(organization_id, month, users)


def _noting(unreadable: list[RowError] | None) -> AbstractContextManager[None]:
    return nullcontext() if unreadable is None else noting(unreadable)


async def _users(
    register: Register,
    license_ids: Iterable[str],
    month: str,
    as_of: datetime,
    slots: asyncio.Semaphore,
    known: Mapping[str, set[Pseudonym]],
) -> int:
    """How many people used any of some licenses in a month, each counted once; those of some licenses are known."""

    async def users_of(license_id: str) -> set[Pseudonym]:
        if license_id in known:
            return known[license_id]
        return _users_of(await uses_in(register, license_id, month, as_of))

    return distinct(set().union(*await on_each(users_of, license_ids, slots)))


async def recount_months(
    register: Register, organization_id: str, corrections: Mapping[str, Collection[Correction]], as_of: datetime
) -> None:
    """Count the users of months again as they will be after corrections, by license, that are about to be made.

    `corrections` has all licenses of the organization. A month stays if its number is not that of its sessions: it has
    lost some, or an interrupted correction has counted it again.
    """
    saved = await register.organization_months(organization_id)
    days = {day for of_license in corrections.values() for each in of_license for day in days_of(each)}
    for month in sorted({month_of(day) for day in days if month_of(day) < month_of(as_of.date())}):
        if outlives_its_sessions(month, as_of):
            continue
        before: set[Pseudonym] = set()
        after: set[Pseudonym] = set()
        for license_id, of_license in corrections.items():
            uses = await uses_in(register, license_id, month, as_of)
            before |= _users_of(uses)
            after |= _users_of(_corrected(uses, of_license, month))
        if saved.get(month, 0) == distinct(before) != distinct(after):
            await register.save_organization_month(organization_id, month, distinct(after))


def _users_of(uses: Iterable[Use]) -> set[Pseudonym]:
    return {(use.pepper, use.user) for use in uses}


def _corrected(uses: Iterable[Use], corrections: Iterable[Correction], month: str) -> list[Use]:
    """The sessions of a month after corrections."""
    corrected = {(before.value.session.id, before.value.session.started_at): after for before, after in corrections}
    new = (Use.of(after.session, after.ended_at) for after in corrected.values() if after)
    left = [use for use in uses if (use.session_id, use.started_at) not in corrected]
    return left + [use for use in new if use.touches(*bounds(month), use.until(use.started_at))]


async def _has_lost_sessions(register: Register, license_id: str, month: str) -> bool:
    days = register.days(license_id, date.fromisoformat(f"{month}-01"))
    return any([totals.erased async for totals in days if month_of(totals.day) == month])
