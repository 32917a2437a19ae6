"""A made organization with one license for each thing that the page can say, aggregated by the real rules."""

import random
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from licensing.rules.catalogue import text
from licensing.rules.license import Billing, Kind, Sharing
from licensing.rules.model import FormerTerms, LicenseState
from licensing.rules.report import Customer, LicenseUsage, Now, OrganizationMonth, Report, license_usage
from licensing.rules.sizing import Sizing, SizingPoint
from licensing.rules.totals import DayTotals, MonthAggregate, aggregate_day, under_terms
from licensing.rules.usage import Denial, Use, midnight
from licensing.rules.verdict import in_each_language
from tests.factories import terms
from tests.reference import by_day

LAST = date(2026, 11, 22)
AS_OF = datetime(2026, 11, 23, 2, tzinfo=UTC)
ZONE = ZoneInfo("Europe/Helsinki")
SMALL_GROUP = 3
BOUGHT = datetime(2026, 11, 9, tzinfo=UTC)
"""When the organization bought more seats of Fluidit Storm."""
SEATS_BEFORE = {"acme-storm": 5}
LINK_UNTIL = datetime(2027, 1, 15, 12, tzinfo=UTC)


def now(in_use: int | None, total: int | None, *, free: bool = True, waiting: int | None = 0) -> Now:
    """What stands now on a license; all numbers are None where few people used it."""
    return Now(as_of=AS_OF, free=free, in_use=in_use, total=total, waiting=waiting)


def terms_until(day: str, ends_in_days: int | None = None, *, suspended: bool = False) -> dict[str, Any]:
    """How long a license lasts; `day` is its last day."""
    after = date.fromisoformat(day) + timedelta(days=1)
    return {
        "suspended": suspended,
        "valid_until": midnight(after),
        "last_valid_day": day,
        "ends_in_days": ends_in_days,
        "ended": day < f"{LAST}",
    }


def sizing(seats: int, peak: int, hours: int = 2310) -> Sizing:
    """A curve that halves with each seat, from a median to a peak of which nobody was refused."""
    curve = tuple(
        SizingPoint(seats=n, hours=0 if n == peak else hours // 2 ** (n - seats + 2) + 1, starts=(peak - n) * 3)
        for n in range(seats, peak + 1)
    )
    sentence, translations = in_each_language(lambda language: text("sizing.enough", language, n=peak, fewer=""))
    return Sizing(
        first=date(2025, 11, 23),
        last=LAST,
        hours=hours,
        starts=4100,
        median=seats,
        peak=peak,
        curve=curve,
        enough=peak,
        sentence=sentence,
        translations=translations,
    )


LIVE: dict[str, dict[str, Any]] = {
    "acme-water": {**terms_until("2027-06-30"), "now": now(4, 5), "sizing": sizing(3, 7)},
    "acme-storm": {
        **terms_until("2026-12-05", 12),
        "now": now(13, 12, free=False, waiting=2),
        "sizing": sizing(3, 14),
    },
    "acme-heat": {**terms_until("2027-06-30", suspended=True), "now": None, "sizing": None},
    "acme-sewer": {**terms_until("2027-06-30"), "now": now(None, None, free=False, waiting=None), "sizing": None},
    "acme-viewer": {**terms_until("2026-11-20", 0), "now": now(0, 3), "sizing": None},
}
"""What the service knows of the licenses beyond their days and months."""


def with_live(report: Report, live: dict[str, dict[str, Any]] | None = None) -> Report:
    """The report as the service gives it, with what it knows of the moment."""
    known = LIVE if live is None else live
    licenses = tuple(LicenseUsage.model_validate(dict(license) | known[license.id]) for license in report.licenses)
    return report.model_copy(update={"licenses": licenses, "link_until": LINK_UNTIL})


@cache
def report(days: int = 90, organization: str = "Acme Water Oy") -> Report:
    """The organization's report on the last `days` days; with 0, on the day that is not over."""
    first = LAST - timedelta(days=days - 1)
    kinds = (
        ("acme-water", "Fluidit Water", "floating", "none", 5, 0, 7),
        ("acme-storm", "Fluidit Storm", "floating", "user", 12, 2, 9),
        ("acme-heat", "Fluidit Heat & Cooling", "named-user", "none", 4, 0, 4),
        ("acme-sewer", "Fluidit Sewer", "floating", "none", 1, 0, 2),
        ("acme-viewer", "Fluidit Viewer", "floating", "none", 3, 0, 0),
    )
    people: dict[str, set[str]] = {}
    licenses = tuple(_license(*kind, first=first, people=people) for kind in kinds)
    return Report(
        organization=Customer(id="acme", name=organization),
        first=first,
        last=max(first, LAST),
        time_zone=ZONE.key,
        small_group=SMALL_GROUP,
        generated_at=AS_OF,
        licenses=licenses,
        months=tuple(
            OrganizationMonth(month=month, users=len(people[month]))
            for month in sorted(people)
            if month < f"{LAST:%Y-%m}"
        ),
    )


def _license(
    id_: str,
    product: str,
    kind: str,
    sharing: str,
    seats: int,
    overdraft: int,
    workers: int,
    *,
    first: date,
    people: dict[str, set[str]],
) -> LicenseUsage:
    chance = random.Random(id_)  # the same numbers in every run
    former = tuple(
        FormerTerms(BOUGHT, product, "", Billing.NONE, before) for name, before in SEATS_BEFORE.items() if name == id_
    )
    bought = terms(product=product, kind=Kind(kind), sharing=Sharing(sharing), seats=seats, overdraft=overdraft)
    state = LicenseState(bought, former=former)
    uses, denials = _worked(chance, first, state if kind == "floating" else None, workers)
    totals: list[DayTotals] = []
    months: dict[str, MonthAggregate] = {}
    for day, of_day in by_day(uses, first, LAST):
        aggregated = aggregate_day(day, of_day, denials, AS_OF)
        totals.append(under_terms(aggregated.totals, state))
        name = f"{day:%Y-%m}"
        months.setdefault(name, MonthAggregate(name)).add(aggregated)
        people.setdefault(name, set()).update(user for _, user in aggregated.users)
    return license_usage(
        id_,
        state,
        totals,
        [month.totals() for month in months.values() if month.month < f"{LAST:%Y-%m}"],
        first=first,
        last=max(first, LAST),
        oldest=first.replace(day=1),
        newest=LAST,
        zone=ZONE,
        small_group=SMALL_GROUP,
    )


def _worked(
    chance: random.Random, first: date, state: LicenseState | None, workers: int
) -> tuple[list[Use], list[Denial]]:
    """Everybody works a morning and an afternoon on most days, if a seat is free; some wait for one."""
    uses: list[Use] = []
    denials: list[Denial] = []
    for session, (worker, started_at, ended_at) in enumerate(_wishes(chance, first, workers)):
        recent = uses[-40:]
        waiting_until = started_at + timedelta(minutes=chance.choice((0, 14, 50)))
        granted_at = started_at
        seats = state.terms_before(granted_at).seats if state else 10**6
        while granted_at <= waiting_until and _taken(recent, granted_at) >= seats:
            granted_at += timedelta(minutes=1)
        if granted_at > started_at:
            denials.append(Denial(f"s{session}", started_at))
        if granted_at <= waiting_until:
            uses.append(Use(f"s{session}", granted_at, max(granted_at, ended_at), worker, f"pc-{worker}", "", False))
    return uses, denials


def _taken(uses: list[Use], at: datetime) -> int:
    """How many run at or after a time: no seat is promised to one that would start a little later."""
    return sum(use.until(AS_OF) > at for use in uses)


def _wishes(chance: random.Random, first: date, workers: int) -> Iterator[tuple[str, datetime, datetime]]:
    for day in (first + timedelta(days=number) for number in range((LAST - first).days + 1)):
        begin = datetime(day.year, day.month, day.day, 6, tzinfo=UTC)
        wishes = []
        for worker in range(workers):
            for half in (0, 5):
                if chance.random() < (0.62 if day.weekday() < 5 else 0.05):
                    started_at = begin + timedelta(hours=half, minutes=chance.randint(0, 150))
                    wishes.append(
                        (
                            f"worker-{worker}",
                            started_at,
                            started_at + timedelta(minutes=chance.randint(45, 260)),
                        )
                    )
        yield from sorted(wishes, key=lambda wish: wish[1])
