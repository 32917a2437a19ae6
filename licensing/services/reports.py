"""A customer's use of its licenses, and a month's statements, from the register.

Final totals are read. Later days, today included, are aggregated from their sessions when somebody asks. Daily totals
are kept for a year; nothing is reported of earlier days, rather than no use. No result tells one person from another.

A customer's report is of days and months that are over and can no longer change by themselves: whoever asks again and
again does not see when something happened (record 43). The vendor's has today as well, and all totals.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from licensing.rules.billing import (
    Account,
    Rounding,
    Statement,
    agree,
    bounds,
    minutes_of_days,
    statement,
)
from licensing.rules.license import Billing
from licensing.rules.model import LicenseState, Terms
from licensing.rules.report import Customer, LicenseUsage, OrganizationMonth, Report, license_usage
from licensing.rules.retention import year_before
from licensing.rules.totals import (
    DayTotals,
    Minutes,
    MonthAggregate,
    MonthTotals,
    Pseudonym,
    distinct,
    month_of,
    sessions_on,
    with_terms,
)
from licensing.rules.usage import DAY, WAIT, midnight
from licensing.services.progress import Progress, no_progress
from licensing.services.shared_reads import SharedReads
from licensing.services.together import together
from licensing.services.totals import OpenSessions, SavedTotals, days_back, open_sessions, uses_between
from licensing.storage.register import Register

LICENSES_AT_ONCE: Final = 4
"""How many licenses are read at the same time."""
CACHE_SECONDS: Final = 60.0
"""Cache time of a reading in seconds; stops requests for reports from loading the store."""

SWEPT_WITHIN: Final = timedelta(minutes=15)
"""How long after its lease a session that lapsed may still be revived, or not yet be swept."""


@dataclass(slots=True)
class LicenseTotals:
    """The totals of one license as of a moment: of its days, of its months, and its users by month.

    Before `final_before` nothing can change. `users` are pseudonyms, by which a person counts once over all licenses.
    `late` are seconds that programs ran, heard of too late for their days, by the month of hearing.
    """

    final_before: datetime
    days: dict[date, DayTotals]
    months: dict[str, MonthTotals]
    users: dict[str, set[Pseudonym]] = field(default_factory=dict)
    late: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """An organization's licenses at a moment (UTC), with all totals that are kept.

    `users` counts each month's distinct users over all licenses. An unknown organization has no licenses, and its id
    for a name. One that is not `for_vendor` lacks months that are not over, of which a customer sees nothing.
    """

    organization: Customer
    at: datetime
    licenses: dict[str, tuple[LicenseState, LicenseTotals]]
    users: dict[str, int]
    for_vendor: bool = False


def oldest_day(as_of: datetime) -> date:
    """The oldest UTC day whose totals are kept."""
    return year_before(as_of).date()


def newest_day(as_of: datetime, lease_seconds: int = 900) -> date:
    """The newest UTC day that is reported to a customer: it is over, and its refusals and lapses are all known."""
    return (as_of - max(WAIT, timedelta(seconds=lease_seconds)) - SWEPT_WITHIN).date() - DAY


def is_reported(state: LicenseState, newest: date) -> bool:
    """Whether a customer is told of a license, `newest` being the newest day that is reported of it.

    A first use is reported with its day: until then the customer has no such license.
    """
    return state.since is None or state.since.date() <= newest


def reported_terms(state: LicenseState, newest: date) -> Terms:
    """The terms that a customer is told of. A new license file's product and seats count from the day after its first
    use, which would tell when that was."""
    held = state.terms_before(midnight(newest + DAY))
    return replace(state.terms, product=held.product, seats=held.seats)


def span(
    first: date | None, last: date | None, days: int, as_of: datetime, newest: date | None = None
) -> tuple[date, date] | None:
    """The first and the last UTC day of a report: those asked for, as far as there are totals.

    Without `first`, so many days up to `last`; without that, up to `newest` (by default `newest_day`). Days after that
    up to today have no totals yet: if no others are asked for, a report has none. None if nothing can be reported.
    """
    today, oldest, newest = as_of.date(), oldest_day(as_of), newest or newest_day(as_of)
    if first is not None and newest < first <= today and (last is None or first <= last):
        return first, min(last or today, today)
    last = min(last or newest, newest)
    first = max(first or max(last, oldest) - (days - 1) * DAY, oldest)
    return (first, last) if first <= last else None


async def license_totals(
    register: Register,
    license_id: str,
    state: LicenseState,
    first: date,
    as_of: datetime,
    *,
    lapsed_may_go_on: bool = False,
    until_month: str | None = None,
) -> tuple[LicenseTotals, OpenSessions]:
    """All totals of a license in a state: of its days from one on, and of all its months; and its open sessions.

    Of months that are not final, those before `until_month` are aggregated alone, if one is given. `lapsed_may_go_on`
    is as for `open_sessions`.
    """
    present, saved = await together(
        open_sessions(register, license_id, as_of, lapsed_may_go_on=lapsed_may_go_on),
        SavedTotals.read(register, license_id, first, state),
    )
    return await _counted(register, license_id, state, first, as_of, present, saved, until_month), present


async def _counted(
    register: Register,
    license_id: str,
    state: LicenseState,
    first: date,
    as_of: datetime,
    present: OpenSessions,
    saved: SavedTotals | None,
    until_month: str | None,
) -> LicenseTotals:
    """All totals of a license, from what is saved and its sessions since."""
    if saved is None:
        return LicenseTotals(present.final_before, {}, {})
    final, months = saved.known.final_day, dict(saved.months)
    days = {day: with_terms(totals, state) for day, totals in saved.days.items()}
    found = LicenseTotals(present.final_before, days, months)
    # A month that is not final is aggregated whole: people come on several of its days.
    since = final + DAY if final else date.min
    wanted = until_month is None or month_of(since) < until_month
    oldest = min(max(since.replace(day=1) if wanted else since, first), as_of.date()) if final else first
    aggregates: dict[str, MonthAggregate] = {}
    async for fresh in days_back(register, license_id, oldest, as_of, present, from_first_use=final is None):
        day = saved.counted(fresh, final)
        month = month_of(day.totals.day)
        if until_month is None or month < until_month:
            aggregates.setdefault(month, MonthAggregate(month)).add(day)
        if day.totals.day >= first and (day.totals.sessions or day.totals.denials or day.totals.grace_seconds):
            days[day.totals.day] = day.totals
        else:
            days.pop(day.totals.day, None)  # a correction has left nothing of it
    for month, sums in aggregates.items():
        found.users[month] = sums.users
        totals = sums.totals(saved.months.get(month))
        if totals.sessions or totals.denials or totals.grace_seconds:
            months[month] = totals
    return found


def _is_over(month: str, newest: date) -> bool:
    return month < month_of(newest + DAY)


def _license(
    reading: Reading, license_id: str, first: date, last: date, *, newest: date, zone: ZoneInfo, small_group: int
) -> LicenseUsage:
    """One license from a day to another, up to its `newest` day."""
    state, totals = reading.licenses[license_id]
    days = [each for day, each in totals.days.items() if day <= newest]
    terms = reported_terms(state, newest)
    # A license was not idle before it began or after it ended. Its newest file may begin after its first use.
    began = min([terms.valid_from.date(), *(each.day for each in days)])
    ended = (terms.valid_until - timedelta.resolution).date()
    return license_usage(
        license_id,
        replace(state, terms=terms),
        days,
        [
            each
            for month, each in totals.months.items()
            if month <= month_of(last) and (not small_group or _is_over(month, newest))
        ],
        first=max(first, began),
        last=min(last, ended),
        oldest=oldest_day(reading.at),
        newest=newest,
        zone=zone,
        small_group=small_group,
        late_seconds=sum(totals.late.values()),
        as_of=reading.at,
    )


@dataclass(eq=False, repr=False)
class Reports:
    """Reports on the use of licenses. `clock` gives the present time, UTC.

    Methods that read raise UnavailableError if the store does not answer.
    """

    register: Register
    clock: Callable[[], datetime]
    small_group: int
    _cache: SharedReads[str, Reading] = field(init=False)

    def __post_init__(self) -> None:
        """Cache readings for a while."""
        self._cache = SharedReads(CACHE_SECONDS, self.clock, lambda organization_id: self.read(organization_id))

    async def cached(self, organization_id: str) -> Reading:
        """A reading at most `CACHE_SECONDS` old; concurrent callers share one."""
        return await self._cache.get(organization_id)

    async def read(
        self,
        organization_id: str,
        license_id: str | None = None,
        progress: Progress = no_progress,
        *,
        for_vendor: bool = False,
    ) -> Reading:
        """Read an organization's licenses, or one of them, and their totals.

        With `for_vendor` also months that are not over. Some licenses are read at the same time; `progress` counts
        those that are done.
        """
        as_of = self.clock()
        name, license_ids = await together(
            self.register.organization_name(organization_id), self.register.license_ids(organization_id)
        )
        reading = Reading(Customer(id=organization_id, name=name or organization_id), as_of, {}, {}, for_vendor)
        places, done = asyncio.Semaphore(LICENSES_AT_ONCE), 0
        progress(done, len(license_ids))

        async def read_one(each: str) -> tuple[LicenseState, LicenseTotals] | None:
            nonlocal done
            async with places:
                found = await self._license(each, as_of, for_vendor) if license_id in (None, each) else None
            done += 1
            if done < len(license_ids):
                progress(done, len(license_ids))
            return found

        users: defaultdict[str, set[Pseudonym]] = defaultdict(set)
        for each, found in zip(license_ids, await together(*map(read_one, license_ids)), strict=True):
            if found is not None:
                reading.licenses[each] = found
                for month, in_month in found[1].users.items():
                    users[month] |= in_month
                found[1].users.clear()
        if license_id is None:
            reading.users.update(await self.register.organization_months(organization_id))
            for month, in_month in users.items():
                # If a month is final for some licenses only, their users are in the saved number alone.
                if most := max(distinct(in_month), reading.users.get(month, 0)):
                    reading.users[month] = most
        return reading

    async def _license(
        self, license_id: str, as_of: datetime, for_vendor: bool
    ) -> tuple[LicenseState, LicenseTotals] | None:
        """A license's state and totals; None where there is no such license any more."""
        state = await self.register.state(license_id)
        if state is None:
            return None
        until = None if for_vendor else month_of(newest_day(as_of, state.value.terms.lease_seconds) + DAY)
        (totals, _), late = await together(
            license_totals(self.register, license_id, state.value, oldest_day(as_of), as_of, until_month=until),
            self.register.late_seconds(license_id),
        )
        totals.late = late
        return state.value, totals

    def report(self, reading: Reading, first: date, last: date, zone: ZoneInfo) -> Report:
        """Report on the use of licenses from one UTC day to another, as `span` gives them.

        A customer's report leaves out what is not over, and what would tell one person's times. One of a reading for
        the vendor has all, up to the moment of the reading.
        """
        for_vendor = reading.for_vendor
        newest = {
            license_id: reading.at.date() if for_vendor else newest_day(reading.at, state.terms.lease_seconds)
            for license_id, (state, _) in reading.licenses.items()
        }
        known = [
            license_id for license_id, (state, _) in reading.licenses.items() if is_reported(state, newest[license_id])
        ]
        small_group = 0 if for_vendor else self.small_group
        of_all = min(newest.values(), default=newest_day(reading.at))
        return Report(
            organization=reading.organization,
            first=first,
            last=last,
            time_zone=zone.key,
            small_group=self.small_group,
            generated_at=reading.at,
            licenses=tuple(
                _license(reading, each, first, last, newest=newest[each], zone=zone, small_group=small_group)
                for each in known
            ),
            months=tuple(
                OrganizationMonth(month=month, users=users)
                for month, users in sorted(reading.users.items())
                if month <= month_of(last) and (for_vendor or _is_over(month, of_all))
            ),
        )

    async def statement(
        self, month: str, rounding: Rounding, organization_id: str | None = None, progress: Progress = no_progress
    ) -> Statement | None:
        """The statement of a UTC month, over all organizations or for one; None if daily totals of it are deleted."""
        as_of = self.clock()
        if bounds(month)[0].date() < oldest_day(as_of):
            return None
        grace: list[int] = []
        found = self._accounts(month, rounding, organization_id, as_of, progress, grace)
        made = statement(month, [account async for account in found], rounding, as_of)
        return replace(made, grace_seconds=sum(grace))

    async def _accounts(
        self,
        month: str,
        rounding: Rounding,
        organization_id: str | None,
        as_of: datetime,
        progress: Progress,
        grace: list[int],
    ) -> AsyncIterator[Account]:
        """What is billed in a month; for how long programs of these licenses ran on is added to `grace`."""
        begin, end = bounds(month)
        licenses = [license async for license in self.register.licenses(organization_id)]
        for done, license in enumerate(licenses):
            progress(done, len(licenses))
            license_id = license.license_id
            state = await self.register.state(license_id)
            if state is None:
                continue
            # Nothing is closed that a heartbeat of a lapsed session could change.
            totals, present = await license_totals(
                self.register, license_id, state.value, begin.date(), as_of, lapsed_may_go_on=True
            )
            of_month = [each for day, each in sorted(totals.days.items()) if month_of(day) == month]
            # A day on which programs only ran on is not billed.
            days = [each for each in of_month if each.sessions or each.denials]
            parts = _billed_parts(state.value, days, min(end, as_of))
            if rounding is Rounding.MINUTE and any(billing is not Billing.NONE for billing, _ in parts):
                rounded = await self._minutes(license_id, totals, parts, month, as_of, present)
            else:
                rounded = {}
            if any(billing is not Billing.NONE for billing, _ in parts):
                grace += (each.grace_seconds for each in of_month)
            for (billing, project), days_of_part in parts.items():
                if billing is Billing.NONE:
                    continue
                yield Account(
                    organization_id=license.organization_id,
                    license_id=license_id,
                    product=_product(state.value, days_of_part, end),
                    project=project,
                    billing=billing,
                    sessions=_sessions(totals.months.get(month), days, days_of_part),
                    days=tuple(days_of_part),
                    final_before=totals.final_before,
                    minutes=rounded.get((billing, project)),
                )

    async def _minutes(
        self,
        license_id: str,
        totals: LicenseTotals,
        parts: "Parts",
        month: str,
        as_of: datetime,
        present: OpenSessions,
    ) -> dict[tuple[Billing, str], Minutes]:
        """The minutes of a license in a month, by billing and project; without those that are no longer known."""
        known: dict[tuple[str, str], Minutes] = {}
        if (saved := totals.months.get(month)) is not None and saved.minutes is not None:
            known = {(part.billing, part.project): Minutes(part.within, part.overdraft) for part in saved.minutes}
        used = {part for part, days in parts.items() if any(day.sessions for day in days)}
        if used and used <= known.keys():
            return {part: known.get(part, Minutes(0, 0)) for part in parts}
        uses = await uses_between(self.register, license_id, *bounds(month), as_of, present)
        if not agree(uses, [day for days in parts.values() for day in days], month, as_of):
            return {}
        return {part: minutes_of_days(uses, [day.day for day in days], as_of) for part, days in parts.items()}


Parts = dict[tuple[Billing, str], list[DayTotals]]
"""A month's days by billing and project."""


def _billed_parts(state: LicenseState, days: Iterable[DayTotals], end: datetime) -> Parts:
    """A month's days by the billing and the project that they had; also, without days, those at the month's end.

    The first edition did not note the first use of a license: then the beginning of the oldest file that is known
    stands for it.
    """
    parts: Parts = {}
    for day in days:
        parts.setdefault((Billing(day.billing or ""), day.project or ""), []).append(day)
    if (state.since or state.terms.valid_from) < end:
        last = state.terms_before(end)
        parts.setdefault((last.billing, last.project), [])
    return parts


def _product(state: LicenseState, days: Sequence[DayTotals], end: datetime) -> str:
    return next((day.product for day in reversed(days) if day.product is not None), state.terms_before(end).product)


def _sessions(month: MonthTotals | None, days: Sequence[DayTotals], part: Sequence[DayTotals]) -> int:
    """How many sessions a part of a month has. The first edition's days do not tell, but the whole month does."""
    if len(days) == len(part) and not all(day.hour_users for day in days) and month and month.sessions is not None:
        return month.sessions
    return sessions_on(part)
