"""What the figures tell: a customer's use of its licenses, and what a month's use comes to.

Days whose figures are final are taken from their rows; later ones, today included, are reckoned from the sessions when
somebody asks. Nothing that leaves here tells one person from another.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from licensing.rules.billing import Account, Minutes, Rounding, Statement, bounds, minutes, statement
from licensing.rules.figures import DayFigures, Month, MonthFigures
from licensing.rules.license import Billing
from licensing.rules.report import Customer, LicenseUsage, OrganizationMonth, Report, license_usage
from licensing.rules.seats import Head
from licensing.rules.usage import DAY, Use
from licensing.services.directory import licenses
from licensing.services.figures import days_back, figured_to, month_of, still_open, uses_since
from licensing.storage import rows
from licensing.storage.tables import Tables

REMEMBERED_SECONDS = 60.0
"""How long a report is good for, so that nobody can make the store work by asking again and again."""


@dataclass(slots=True)
class Known:
    """The figures of one license, as known at a moment: of its days, of its months, and who used it in this month.

    `people` are pseudonyms; they serve to count each person once over several licenses, and go no further.
    """

    days: dict[date, DayFigures] = field(default_factory=dict)
    months: dict[str, MonthFigures] = field(default_factory=dict)
    people: dict[str, set[str]] = field(default_factory=dict)


async def known_figures(tables: Tables, license: str, first: date, as_of: datetime) -> Known:
    """All figures of a license from a day on; its months without regard to that."""
    known = Known()
    beyond = rows.beyond(rows.DAY)
    async for row in tables.rows("register", license, rows.day_key(first), beyond):
        day = rows.day_value(row)
        known.days[day.day] = day
    async for row in tables.rows("register", license, rows.MONTH, rows.beyond(rows.MONTH)):
        month = rows.month_value(row)
        known.months[month.month] = month
    final = await figured_to(tables, license)
    oldest = min(final + timedelta(days=1) if final else first, as_of.date()).replace(day=1)
    sums: dict[str, Month] = {}
    present = await still_open(tables, license, as_of)
    async for reckoned in days_back(tables, license, oldest, as_of, present):
        figures = reckoned.figures
        sums.setdefault(month_of(figures.day), Month(month_of(figures.day))).add(reckoned)
        if figures.day >= first and (final is None or figures.day > final):
            known.days.pop(figures.day, None)
            if figures.sessions or figures.denials:
                known.days[figures.day] = figures
    for name, month_sums in sums.items():
        known.people[name] = month_sums.users
        totals = month_sums.figures()
        if totals.sessions or totals.denials:
            known.months[name] = totals
    return known


class Reports:
    """Reports on what the register of one store holds. `clock` gives the present time, UTC."""

    def __init__(self, tables: Tables, clock: Callable[[], datetime], small_group: int) -> None:
        self._tables = tables
        self._clock = clock
        self._small_group = small_group
        self._remembered: dict[tuple[str, date, date, str], tuple[datetime, asyncio.Task[Report | None]]] = {}

    async def remembered(self, organization: str, first: date, last: date, zone: ZoneInfo) -> Report | None:
        """`organization`, at most `REMEMBERED_SECONDS` old; all who ask at once share one reading."""
        now = self._clock()
        good = now - timedelta(seconds=REMEMBERED_SECONDS)
        self._remembered = {key: kept for key, kept in self._remembered.items() if kept[0] > good}
        key = (organization, first, last, zone.key)
        if key not in self._remembered:
            self._remembered[key] = now, asyncio.create_task(self.organization(organization, first, last, zone))
        task = self._remembered[key][1]
        try:
            return await asyncio.shield(task)
        except Exception:
            self._remembered.pop(key, None)
            raise

    async def organization(
        self, organization: str, first: date, last: date, zone: ZoneInfo, license: str | None = None
    ) -> Report | None:
        """The use of an organization's licenses, or of one of them, from one UTC day to another; None without any."""
        as_of = self._clock()
        entry = await self._tables.get("directory", organization, rows.ORGANIZATION)
        names = [entry.license async for entry in licenses(self._tables, organization)]
        if entry is None or (license and license not in names):
            return None
        told: list[LicenseUsage] = []
        people: dict[str, set[str]] = {}
        for name in names if license is None else [license]:
            head = await self._head(name)
            if head is None:
                continue
            known = await known_figures(self._tables, name, first, as_of)
            told.append(self._license(name, head, known, first, last, zone))
            for month, users in known.people.items():
                people.setdefault(month, set()).update(users)
        return Report(
            organization=Customer(id=organization, name=entry.columns["name"]),
            first=first,
            last=last,
            time_zone=zone.key,
            small_group=self._small_group,
            generated_at=as_of,
            licenses=tuple(told),
            months=await self._months(organization, people, last) if license is None else (),
        )

    def _license(self, name: str, head: Head, known: Known, first: date, last: date, zone: ZoneInfo) -> LicenseUsage:
        terms = head.terms
        days = [figures for day, figures in known.days.items() if first <= day <= last]
        # A license that began or ended within the report was not idle before or after.
        began = min([terms.valid_from.date(), *(figures.day for figures in days)])
        return license_usage(
            id=name,
            product=terms.product,
            kind=terms.kind,
            sharing=terms.sharing,
            seats=terms.seats,
            overdraft=terms.overdraft,
            first=max(first, began),
            last=min(last, terms.valid_until.date()),
            days=days,
            months=[figures for month, figures in known.months.items() if month <= month_of(last)],
            zone=zone,
            small_group=self._small_group,
        )

    async def _months(
        self, organization: str, people: dict[str, set[str]], last: date
    ) -> tuple[OrganizationMonth, ...]:
        kept = self._tables.rows("directory", organization, rows.MONTH, rows.beyond(rows.MONTH))
        users = {row.key.removeprefix(rows.MONTH): int(row.columns["users"]) async for row in kept}
        users |= {month: len(each) for month, each in people.items() if each}
        return tuple(
            OrganizationMonth(month=month, users=users[month]) for month in sorted(users) if month <= month_of(last)
        )

    async def statement(self, month: str, rounding: Rounding, organization: str | None = None) -> Statement:
        """What a UTC month's use of the licenses that are billed comes to, over all organizations or for one."""
        as_of = self._clock()
        accounts = [account async for account in self._accounts(month, rounding, organization, as_of)]
        return statement(month, accounts, rounding, as_of)

    async def _accounts(
        self, month: str, rounding: Rounding, organization: str | None, as_of: datetime
    ) -> AsyncIterator[Account]:
        first = bounds(month)[0].date()
        async for entry in licenses(self._tables, organization):
            head = await self._head(entry.license)
            if head is None or head.terms.billing == Billing.NONE:
                continue
            known = await known_figures(self._tables, entry.license, first, as_of)
            totals = known.months.get(month)
            yield Account(
                organization=entry.organization,
                license=entry.license,
                product=head.terms.product,
                project=head.terms.project,
                billing=head.terms.billing,
                sessions=(totals.sessions or 0) if totals else 0,
                days=tuple(figures for day, figures in sorted(known.days.items()) if month_of(day) == month),
                minutes=await self._minutes(entry.license, month, as_of) if rounding is Rounding.MINUTE else None,
            )

    async def _minutes(self, license: str, month: str, as_of: datetime) -> Minutes:
        begin, end = bounds(month)
        uses: list[Use] = [use async for use in uses_since(self._tables, license, begin, as_of)]
        return minutes([use for use in uses if use.started_at < min(end, as_of)], month, as_of)

    async def _head(self, license: str) -> Head | None:
        row = await self._tables.get("register", license, rows.HEAD)
        return rows.head_value(row).value if row else None


def last_days(as_of: datetime, days: int) -> tuple[date, date]:
    """The first and the last of so many UTC days up to that of a moment."""
    last = as_of.date()
    return last - (days - 1) * DAY, last
