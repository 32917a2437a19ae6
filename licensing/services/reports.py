"""What the totals tell: a customer's use of its licenses, and what a month's use comes to.

Days whose totals are final are taken from their rows. Later days, today included, are aggregated from the sessions
when somebody asks. A day's totals are kept for a year; of earlier days nothing is reported, rather than no use.
Nothing that leaves here tells one person from another.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from licensing.rules.billing import Account, Rounding, Statement, agree, bounds, minutes, statement
from licensing.rules.license import Billing
from licensing.rules.report import Customer, LicenseUsage, OrganizationMonth, Report, license_usage
from licensing.rules.retention import year_before
from licensing.rules.seats import Head
from licensing.rules.totals import DayTotals, MonthAggregate, MonthTotals, with_denials_of
from licensing.rules.usage import DAY
from licensing.services.directory import licenses
from licensing.services.progress import Progress, no_progress
from licensing.services.totals import (
    OpenSessions,
    days_back,
    final_day,
    first_day,
    month_of,
    open_sessions,
    uses_between,
)
from licensing.storage import register as rows
from licensing.storage.tables import Tables

REMEMBERED_SECONDS = 60.0
"""How long a reading is good for, so that nobody can make the store work by asking again and again."""


@dataclass(slots=True)
class Known:
    """The figures of one license, as known at a moment: of its days, of its months, and who used it in this month.

    What happened before `settled` cannot change any more. `people` are pseudonyms; they serve to count each person once
    over several licenses, and go no further.
    """

    settled: datetime
    days: dict[date, DayTotals] = field(default_factory=dict)
    months: dict[str, MonthTotals] = field(default_factory=dict)
    people: dict[str, set[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reading:
    """What was known of an organization's licenses at a moment (UTC), as far back as figures are kept.

    `users` are each month's distinct users over all of its licenses. An organization of which the register knows
    nothing has no licenses, and its id for a name.
    """

    organization: Customer
    at: datetime
    licenses: dict[str, tuple[Head, Known]]
    users: dict[str, int]


def oldest_day(as_of: datetime) -> date:
    """The oldest UTC day whose figures are kept."""
    return year_before(as_of).date()


def span(first: date | None, last: date | None, days: int, as_of: datetime) -> tuple[date, date] | None:
    """The first and the last UTC day of a report: those asked for, as far as there are figures.

    Without `first`, so many days up to `last`; without that, up to today. None where there are figures of none of them.
    """
    today, oldest = as_of.date(), oldest_day(as_of)
    last = min(last or today, today)
    first = max(first or max(last, oldest) - (days - 1) * DAY, oldest)
    return (first, last) if first <= last else None


async def known_figures(tables: Tables, license: str, first: date, as_of: datetime, present: OpenSessions) -> Known:
    """All figures of a license from a day on; its months without regard to that."""
    # Before the rows of the days, which are written before they are called final.
    final = await final_day(tables, license)
    known = Known(present.settled)
    async for row in tables.rows("register", license, rows.day_key(first), rows.beyond(rows.DAY)):
        day = rows.day_value(row)
        known.days[day.day] = day
    async for row in tables.rows("register", license, rows.MONTH, rows.beyond(rows.MONTH)):
        month = rows.month_value(row)
        known.months[month.month] = month
    # A month that is not final is aggregated whole: people come on several of its days.
    unfinished = (final + DAY).replace(day=1) if final else await first_day(tables, license, present)
    oldest = min(max(unfinished, first), as_of.date()) if unfinished else as_of.date()
    sums: dict[str, MonthAggregate] = {}
    async for aggregated in days_back(tables, license, oldest, as_of, present):
        figures = aggregated.totals
        sums.setdefault(month_of(figures.day), MonthAggregate(month_of(figures.day))).add(aggregated)
        if figures.day >= first and (final is None or figures.day > final):
            # Made again, after a correction; the denials were let go of once they were counted.
            if kept := known.days.pop(figures.day, None):
                figures = with_denials_of(kept, figures)
            if figures.sessions or figures.denials:
                known.days[figures.day] = figures
    for name, month_sums in sums.items():
        known.people[name] = month_sums.users
        totals = month_sums.totals()
        if stored := known.months.get(name):
            totals = with_denials_of(stored, totals)
        if totals.sessions or totals.denials:
            known.months[name] = totals
    return known


class Reports:
    """Reports on what the register of one store holds. `clock` gives the present time, UTC."""

    def __init__(self, tables: Tables, clock: Callable[[], datetime], small_group: int) -> None:
        self._tables = tables
        self._clock = clock
        self._small_group = small_group
        self._remembered: dict[str, tuple[datetime, asyncio.Task[Reading]]] = {}

    async def remembered(self, organization: str) -> Reading:
        """`read`, at most `REMEMBERED_SECONDS` ago; all who ask meanwhile, for whatever days, share one reading."""
        now = self._clock()
        good = now - timedelta(seconds=REMEMBERED_SECONDS)
        self._remembered = {key: kept for key, kept in self._remembered.items() if kept[0] > good}
        if organization not in self._remembered:
            self._remembered[organization] = now, asyncio.create_task(self.read(organization))
        kept = self._remembered[organization]
        try:
            return await asyncio.shield(kept[1])
        except Exception:
            if self._remembered.get(organization) is kept:
                del self._remembered[organization]
            raise

    async def read(self, organization: str, license: str | None = None, progress: Progress = no_progress) -> Reading:
        """Read what is known of an organization's licenses, or of one of them."""
        as_of = self._clock()
        entry = await self._tables.get("directory", organization, rows.ORGANIZATION)
        customer = Customer(id=organization, name=entry.columns["name"] if entry else organization)
        reading = Reading(customer, as_of, {}, {})
        people: dict[str, set[str]] = {}
        names = [each.license async for each in licenses(self._tables, organization)]
        for done, name in enumerate(names):
            progress(done, len(names))
            head = await self._head(name) if license in (None, name) else None
            if head is None:
                continue
            present = await open_sessions(self._tables, name, as_of)
            known = await known_figures(self._tables, name, oldest_day(as_of), as_of, present)
            for month, users in known.people.items():
                people.setdefault(month, set()).update(users)
            known.people.clear()
            reading.licenses[name] = head, known
        if license is None:
            async for row in self._tables.rows("directory", organization, rows.MONTH, rows.beyond(rows.MONTH)):
                reading.users[row.key.removeprefix(rows.MONTH)] = row.columns["users"]
            for month, users in people.items():
                # Where a month is final for some licenses only, those are counted in what was kept, and nowhere else.
                if most := max(len(users), reading.users.get(month, 0)):
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
                self._license(name, head, known, first, last, zone) for name, (head, known) in reading.licenses.items()
            ),
            months=tuple(
                OrganizationMonth(month=month, users=users)
                for month, users in sorted(reading.users.items())
                if month <= month_of(last)
            ),
        )

    def _license(self, name: str, head: Head, known: Known, first: date, last: date, zone: ZoneInfo) -> LicenseUsage:
        terms = head.terms
        # A license that began or ended within the report was not idle before or after. Its file may be newer than that.
        began = min([terms.valid_from.date(), *known.days])
        ended = (terms.valid_until - timedelta.resolution).date()
        return license_usage(
            id=name,
            product=terms.product,
            kind=terms.kind,
            sharing=terms.sharing,
            seats=terms.seats,
            overdraft=terms.overdraft,
            recorded=head.recorded,
            first=max(first, began),
            last=min(last, ended),
            days=[figures for day, figures in known.days.items() if first <= day <= last],
            months=[figures for month, figures in known.months.items() if month <= month_of(last)],
            zone=zone,
            small_group=self._small_group,
        )

    async def statement(
        self, month: str, rounding: Rounding, organization: str | None = None, progress: Progress = no_progress
    ) -> Statement | None:
        """What a UTC month's use of the licenses that are billed comes to, over all organizations or for one.

        None where figures of some of the month's days are no longer kept.
        """
        as_of = self._clock()
        if bounds(month)[0].date() < oldest_day(as_of):
            return None
        accounts = [account async for account in self._accounts(month, rounding, organization, as_of, progress)]
        return statement(month, accounts, rounding, as_of)

    async def _accounts(
        self, month: str, rounding: Rounding, organization: str | None, as_of: datetime, progress: Progress
    ) -> AsyncIterator[Account]:
        first = bounds(month)[0].date()
        entries = [entry async for entry in licenses(self._tables, organization)]
        for done, entry in enumerate(entries):
            progress(done, len(entries))
            head = await self._head(entry.license)
            if head is None or head.terms.billing == Billing.NONE:
                continue
            present = await open_sessions(self._tables, entry.license, as_of)
            known = await known_figures(self._tables, entry.license, first, as_of, present)
            totals = known.months.get(month)
            days = tuple(figures for day, figures in sorted(known.days.items()) if month_of(day) == month)
            rounded = None
            if rounding is Rounding.MINUTE:
                uses = await uses_between(self._tables, entry.license, *bounds(month), as_of, present)
                rounded = minutes(uses, month, as_of) if agree(uses, days, month, as_of) else None
            yield Account(
                organization=entry.organization,
                license=entry.license,
                product=head.terms.product,
                project=head.terms.project,
                billing=head.terms.billing,
                sessions=(totals.sessions or 0) if totals else 0,
                days=days,
                settled=known.settled,
                minutes=rounded,
            )

    async def _head(self, license: str) -> Head | None:
        row = await self._tables.get("register", license, rows.HEAD)
        return rows.head_value(row).value if row else None
