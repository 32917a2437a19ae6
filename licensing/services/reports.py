"""What the totals say: a customer's use of its licenses, and what a month's use comes to.

Days whose totals are final are taken from their rows. Later days, today included, are aggregated from the sessions when
somebody asks. A day's totals are kept for a year; of earlier days nothing is reported, rather than no use. Nothing that
leaves here tells one person from another.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from licensing.rules.billing import Account, Rounding, Statement, agree, bounds, minutes, statement
from licensing.rules.license import Billing
from licensing.rules.model import LicenseState
from licensing.rules.report import Customer, LicenseUsage, OrganizationMonth, Report, license_usage
from licensing.rules.retention import year_before
from licensing.rules.totals import DayTotals, MonthAggregate, MonthTotals, month_of, with_denials_of
from licensing.rules.usage import DAY
from licensing.services.progress import Progress, no_progress
from licensing.services.totals import (
    OpenSessions,
    days_back,
    final_day,
    first_day,
    open_sessions,
    uses_between,
)
from licensing.storage.register import Register

CACHE_SECONDS: Final = 60.0
"""Cache time of a reading in seconds; stops requests for reports from loading the store."""


@dataclass(slots=True)
class LicenseTotals:
    """The totals of one license as of a moment: of its days, of its months, and its users by month.

    What happened before `final_before` cannot change any more. `users` are pseudonyms; they serve to count each person
    once over several licenses, and go no further.
    """

    final_before: datetime
    days: dict[date, DayTotals] = field(default_factory=dict)
    months: dict[str, MonthTotals] = field(default_factory=dict)
    users: dict[str, set[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was known of an organization's licenses at a moment (UTC), as far back as totals are kept.

    `users` are each month's distinct users over all of its licenses. An organization that the register does not know
    has no licenses, and its id for a name.
    """

    organization: Customer
    at: datetime
    licenses: dict[str, tuple[LicenseState, LicenseTotals]]
    users: dict[str, int]


def oldest_day(as_of: datetime) -> date:
    """The oldest UTC day whose totals are kept."""
    return year_before(as_of).date()


def span(first: date | None, last: date | None, days: int, as_of: datetime) -> tuple[date, date] | None:
    """The first and the last UTC day of a report: those asked for, as far as there are totals.

    Without `first`, so many days up to `last`; without that, up to today. None where none of them has totals.
    """
    today, oldest = as_of.date(), oldest_day(as_of)
    last = min(last or today, today)
    first = max(first or max(last, oldest) - (days - 1) * DAY, oldest)
    return (first, last) if first <= last else None


async def license_totals(
    register: Register, license_id: str, first: date, as_of: datetime, present: OpenSessions
) -> LicenseTotals:
    """All totals of a license: of its days from one on, and of all its months."""
    # Before the rows of the days, which are written before they are marked final.
    final = await final_day(register, license_id)
    found = LicenseTotals(present.final_before)
    found.days = {totals.day: totals async for totals in register.days(license_id, first)}
    found.months = {totals.month: totals async for totals in register.months(license_id)}
    # A month that is not final is aggregated whole: people come on several of its days.
    unfinished = (final + DAY).replace(day=1) if final else await first_day(register, license_id, present)
    oldest = min(max(unfinished, first), as_of.date()) if unfinished else as_of.date()
    months: dict[str, MonthAggregate] = {}
    async for aggregate in days_back(register, license_id, oldest, as_of, present):
        totals, month = aggregate.totals, month_of(aggregate.totals.day)
        months.setdefault(month, MonthAggregate(month)).add(aggregate)
        if totals.day >= first and (final is None or totals.day > final):
            # Aggregated again after a correction; the denials were deleted once they were counted.
            if saved := found.days.pop(totals.day, None):
                totals = with_denials_of(saved, totals)
            if totals.sessions or totals.denials:
                found.days[totals.day] = totals
    for month, sums in months.items():
        found.users[month] = sums.users
        month_totals = sums.totals()
        if saved_month := found.months.get(month):
            month_totals = with_denials_of(saved_month, month_totals)
        if month_totals.sessions or month_totals.denials:
            found.months[month] = month_totals
    return found


class Reports:
    """Reports on what the register holds. `clock` gives the present time, UTC.

    Methods that read raise UnavailableError if the store does not answer.
    """

    def __init__(self, register: Register, clock: Callable[[], datetime], small_group: int) -> None:
        self._register = register
        self._clock = clock
        self._small_group = small_group
        self._cache: dict[str, tuple[datetime, asyncio.Task[Reading]]] = {}

    async def cached(self, organization_id: str) -> Reading:
        """`read`, at most `CACHE_SECONDS` ago; concurrent callers share one reading, whatever days they want."""
        now = self._clock()
        stale = now - timedelta(seconds=CACHE_SECONDS)
        self._cache = {key: kept for key, kept in self._cache.items() if kept[0] > stale}
        if organization_id not in self._cache:
            self._cache[organization_id] = now, asyncio.create_task(self.read(organization_id))
        kept = self._cache[organization_id]
        try:
            return await asyncio.shield(kept[1])
        except Exception:
            if self._cache.get(organization_id) is kept:
                del self._cache[organization_id]
            raise

    async def read(
        self, organization_id: str, license_id: str | None = None, progress: Progress = no_progress
    ) -> Reading:
        """Read what is known of an organization's licenses, or of one of them."""
        as_of = self._clock()
        name = await self._register.organization_name(organization_id)
        reading = Reading(Customer(id=organization_id, name=name or organization_id), as_of, {}, {})
        users: dict[str, set[str]] = {}
        license_ids = [license.license_id async for license in self._register.licenses(organization_id)]
        for done, each in enumerate(license_ids):
            progress(done, len(license_ids))
            state = await self._register.state(each) if license_id in (None, each) else None
            if state is None:
                continue
            present = await open_sessions(self._register, each, as_of)
            totals = await license_totals(self._register, each, oldest_day(as_of), as_of, present)
            for month, in_month in totals.users.items():
                users.setdefault(month, set()).update(in_month)
            totals.users.clear()
            reading.licenses[each] = state.value, totals
        if license_id is None:
            reading.users.update(await self._register.organization_months(organization_id))
            for month, in_month in users.items():
                # Where a month is final for some licenses only, those are counted in what was saved, and nowhere else.
                if most := max(len(in_month), reading.users.get(month, 0)):
                    reading.users[month] = most
        return reading

    def report(self, reading: Reading, first: date, last: date, zone: ZoneInfo) -> Report:
        """Report on the use of licenses from one UTC day to another, as `span` gives them."""
        return Report(
            organization=reading.organization,
            first=first,
            last=last,
            time_zone=zone.key,
            small_group=self._small_group,
            generated_at=reading.at,
            licenses=tuple(
                self._license(license_id, state, totals, first, last, zone)
                for license_id, (state, totals) in reading.licenses.items()
            ),
            months=tuple(
                OrganizationMonth(month=month, users=users)
                for month, users in sorted(reading.users.items())
                if month <= month_of(last)
            ),
        )

    def _license(
        self, license_id: str, state: LicenseState, totals: LicenseTotals, first: date, last: date, zone: ZoneInfo
    ) -> LicenseUsage:
        terms = state.terms
        # A license that began or ended within the report was not idle before or after. Its file may be newer than that.
        began = min([terms.valid_from.date(), *totals.days])
        ended = (terms.valid_until - timedelta.resolution).date()
        return license_usage(
            id=license_id,
            product=terms.product,
            kind=terms.kind,
            sharing=terms.sharing,
            seats=terms.seats,
            overdraft=terms.overdraft,
            recorded=state.recorded,
            first=max(first, began),
            last=min(last, ended),
            days=[each for day, each in totals.days.items() if first <= day <= last],
            months=[each for month, each in totals.months.items() if month <= month_of(last)],
            zone=zone,
            small_group=self._small_group,
        )

    async def statement(
        self, month: str, rounding: Rounding, organization_id: str | None = None, progress: Progress = no_progress
    ) -> Statement | None:
        """What a UTC month's use of the licenses that are billed comes to, over all organizations or for one.

        None where the totals of some of the month's days are no longer kept.
        """
        as_of = self._clock()
        if bounds(month)[0].date() < oldest_day(as_of):
            return None
        accounts = [account async for account in self._accounts(month, rounding, organization_id, as_of, progress)]
        return statement(month, accounts, rounding, as_of)

    async def _accounts(
        self, month: str, rounding: Rounding, organization_id: str | None, as_of: datetime, progress: Progress
    ) -> AsyncIterator[Account]:
        first = bounds(month)[0].date()
        licenses = [license async for license in self._register.licenses(organization_id)]
        for done, license in enumerate(licenses):
            progress(done, len(licenses))
            state = await self._register.state(license.license_id)
            if state is None or state.value.terms.billing is Billing.NONE:
                continue
            terms = state.value.terms
            present = await open_sessions(self._register, license.license_id, as_of)
            totals = await license_totals(self._register, license.license_id, first, as_of, present)
            days = tuple(each for day, each in sorted(totals.days.items()) if month_of(day) == month)
            rounded = None
            if rounding is Rounding.MINUTE:
                uses = await uses_between(self._register, license.license_id, *bounds(month), as_of, present)
                rounded = minutes(uses, month, as_of) if agree(uses, days, month, as_of) else None
            month_totals = totals.months.get(month)
            yield Account(
                organization_id=license.organization_id,
                license_id=license.license_id,
                product=terms.product,
                project=terms.project,
                billing=terms.billing,
                sessions=(month_totals.sessions or 0) if month_totals else 0,
                days=days,
                final_before=totals.final_before,
                minutes=rounded,
            )
