"""A customer who would watch its people: it keeps every answer of `usage/data`, and compares them.

Two pasts of a license differ in one person's times on a day, or in an hour, of few people. All that may be known of
them is the same (`may_be_known`). If each answer at each moment is the same, too, then nobody can tell the two pasts
apart, whatever is subtracted from what. Bills are left out: they tell a month's sums, in which two pasts may differ.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo

import pytest

from licensing.rules.grace import Tails, with_tails
from licensing.rules.model import FormerTerms, LicenseState
from licensing.rules.report import Customer, to_csv, to_json
from licensing.rules.totals import (
    DayTotals,
    MonthAggregate,
    MonthTotals,
    aggregate_day,
    distinct,
    month_of,
    under_terms,
)
from licensing.rules.usage import DAY, Denial, Use, midnight
from licensing.services.reports import LicenseTotals, Reading, Reports, span
from tests.factories import at, terms, use

FIRST: Final = date(2026, 10, 27)
LAST: Final = date(2026, 11, 3)
END: Final = at(LAST + DAY, 12)
DAYS: Final = [FIRST + number * DAY for number in range((LAST - FIRST).days + 1)]
ENOUGH: Final = 3
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)
FOUND_OUT: Final = 20 * MINUTE
"""How long after its last heartbeat a crashed program is found to have ended, at most."""


@dataclass(frozen=True)
class Past:
    """What happened on one license. `crashed` names sessions that are found to have ended only later.

    With the start of `renewed_by` the license has another number of seats. With `first_use` it was unknown before.
    """

    uses: tuple[Use, ...]
    denials: tuple[Denial, ...] = ()
    crashed: frozenset[str] = frozenset()
    seats: int = 3
    overdraft: int = 0
    renewed_by: str = ""
    first_use: bool = False

    def changed(self, session_id: str, begin: timedelta = timedelta(), end: timedelta = timedelta()) -> "Past":
        """The past in which a session began and ended so much later."""
        found = [
            replace(each, started_at=each.started_at + begin, ended_at=each.ended_at + end)
            if each.session_id == session_id and each.ended_at
            else each
            for each in self.uses
        ]
        return replace(self, uses=tuple(found))

    def ran_on(self, session_id: str, hours: float) -> "Past":
        """The past in which a session's program ran on for so long after its end, and told it later."""
        found = [
            replace(each, ran_until=each.ended_at + hours * HOUR)
            if each.session_id == session_id and each.ended_at
            else each
            for each in self.uses
        ]
        return replace(self, uses=tuple(found))

    def tails_at(self, now: datetime) -> Tails:
        """The tails that the last night has counted."""
        night = now.replace(hour=2, minute=30)
        night -= DAY if night > now else 0 * DAY
        return Tails.of(each for each in self.uses if each.ran_until and each.ran_until + FOUND_OUT < night)

    def of(self, session_id: str) -> Use:
        """One session."""
        return next(each for each in self.uses if each.session_id == session_id)

    def known_at(self, now: datetime) -> tuple[list[Use], list[Denial]]:
        """What the register holds at a moment."""
        found = []
        for each in self.uses:
            known = (each.ended_at or now) + (FOUND_OUT if each.session_id in self.crashed else timedelta())
            if each.started_at < now:
                found.append(replace(each, ended_at=None) if known > now else each)
        return found, [denial for denial in self.denials if denial.first_at < now]

    def state_at(self, now: datetime) -> LicenseState | None:
        """The license's state at a moment; None before its first use."""
        begun = min(each.started_at for each in self.uses)
        if self.first_use and begun >= now:
            return None
        bought = terms(seats=self.seats, overdraft=self.overdraft, valid_from=at(FIRST, 0))
        state = LicenseState(bought, since=begun if self.first_use else None)
        if self.renewed_by and self.of(self.renewed_by).started_at < now:
            more = replace(bought, seats=self.seats + 2, product="Fluidit Water 2")
            former = FormerTerms.of(state.terms, self.of(self.renewed_by).started_at)
            state = LicenseState(more, since=state.since, former=(former,))
        return state

    def reading(self, now: datetime) -> Reading:
        """What the service reads at a moment."""
        reading = Reading(Customer(id="acme", name="Acme Water Oy"), now, {}, {})
        state = self.state_at(now)
        if state is None:
            return reading
        (uses, denials), tails = self.known_at(now), self.tails_at(now)
        days: dict[date, DayTotals] = {}
        months: dict[str, MonthAggregate] = {}
        for day in reversed([each for each in [*DAYS, LAST + DAY] if midnight(each) < now]):
            found = aggregate_day(day, uses, denials, now)
            of_day = under_terms(found.totals, state)
            if day in tails.days:
                of_day = with_tails(of_day, tails, uses, now)
            found = replace(found, totals=of_day)
            if found.totals.sessions or found.totals.denials or found.totals.grace_seconds:
                days[day] = found.totals
            months.setdefault(month_of(day), MonthAggregate(month_of(day))).add(found)
        totals: dict[str, MonthTotals] = {
            month: sums.totals() for month, sums in months.items() if sums.totals().sessions
        }
        reading.licenses["acme-1"] = state, LicenseTotals(now, days, totals)
        reading.users.update({month: distinct(sums.users) for month, sums in months.items() if sums.users})
        return reading


def may_be_known(past: Past) -> Any:
    """What a customer may know in the end: what happened among few people, but not at what times."""
    state, totals = past.reading(END + DAY).licenses["acme-1"]
    of_days = {day: _of_day(totals.days[day], state) for day in DAYS if day in totals.days}
    few = [month_of(day) for day, each in totals.days.items() if 0 < each.users < ENOUGH and each.peak]
    few_ran_on = [
        month_of(day) for day, each in totals.days.items() if each.grace_seconds and each.grace_users < ENOUGH
    ]
    of_months = [
        (month, each.users, each.hosts, each.peak)
        + (() if few.count(month) == 1 else (each.sessions, each.seat_seconds, each.overdraft_seconds))
        + (() if few_ran_on.count(month) == 1 else (each.grace_seconds, each.ran_peak))
        for month, each in totals.months.items()
        if month < month_of(LAST)
    ]
    return past.seats, past.overdraft, {day: each for day, each in of_days.items() if each}, of_months


def _of_day(day: DayTotals, state: LicenseState) -> Any:
    many_ran_on = day.grace_users >= ENOUGH
    ran_on = (day.grace_seconds, day.ran_peak if day.users >= ENOUGH else 0) if many_ran_on else bool(day.grace_seconds)
    of_sessions = _of_sessions(day, state)
    return (of_sessions, ran_on) if of_sessions or ran_on else None


def _of_sessions(day: DayTotals, state: LicenseState) -> Any:
    if day.users >= ENOUGH:
        crowded = [users >= ENOUGH for users in day.hour_users]
        hours = [peak if many else None for peak, many in zip(day.hours, crowded, strict=True)]
        at_peak = day.peak_at if day.peak_at and crowded[day.peak_at.hour] else None
        sums = (day.sessions, day.users, day.hosts, day.seat_seconds, day.overdraft_seconds)
        return (*sums, day.peak, at_peak, day.denials, day.waits, hours, day.seats)
    refusals = day.denials, day.waits
    full = day.peak >= (day.seats or 0) + state.terms.overdraft
    return ("few" if day.users else "", day.peak, refusals if full else "", day.seats) if day.users or full else None


def moments(*pasts: Past) -> list[datetime]:
    """When something happens in these pasts or comes to light, and some minutes before, after and in between."""
    happens = {at(day, 0) for day in [*DAYS[1:], LAST + DAY]}
    for past in pasts:
        for each in past.uses:
            happens |= {each.started_at, each.ended_at or END, each.ran_until or END}
        happens |= {denial.first_at for denial in past.denials}
    around = {one + minutes * MINUTE for one in happens for minutes in (1, 16, 31)}
    return sorted(each for each in around if at(FIRST, 0) < each < END)


def ranges(now: datetime) -> Iterator[tuple[date, date]]:
    """Days that are asked for: the usual ones, the last ones alone, and once a day each from and to each."""
    today = now.date()
    asked: list[tuple[date | None, date | None]] = [(None, None), (today, None), (today - DAY, today - DAY)]
    if (now.hour, now.minute) == (0, 31):
        every = [day for day in DAYS if day <= today]
        asked += [(first, last) for first in every for last in every if first <= last]
    yield from {found for first, last in asked if (found := span(first, last, 90, now))}


def answers(past: Past, now: datetime) -> list[str]:
    """All answers that a customer can get at a moment, without the time at which they were made."""
    reading, found = past.reading(now), []
    for first, last in sorted(ranges(now)):
        report = Reports(None, lambda: now, ENOUGH).report(reading, first, last, ZONE)  # type: ignore[arg-type]
        report = report.model_copy(update={"generated_at": END})
        found += [to_json(report), to_csv(report)]
    return found


ZONE: Final = ZoneInfo("Europe/Helsinki")


def assert_nobody_can_tell(one: Past, other: Past) -> None:
    """At no moment does any answer differ."""
    assert may_be_known(one) == may_be_known(other)
    assert one != other
    for now in moments(one, other):
        assert answers(one, now) == answers(other, now), now


# What people do.

WED, THU, FRI, SAT, SUN, MON, TUE = DAYS[1:]


def crowd(day: date, people: int = 4) -> list[Use]:
    """A day on which some work from 9 to 15, and one of them twice."""
    found = [use(f"{day}-{n}", at(day, 9), at(day, 15), f"user-{n}") for n in range(people)]
    return [*found, use(f"{day}-again", at(day, 15.5), at(day, 16), "user-0")]


BUSY: Final = tuple(each for day in (WED, THU, MON) for each in crowd(day))


def lone(*sessions: Use, others: tuple[Use, ...] = BUSY, **changes: Any) -> Past:
    """A past of these sessions beside busy days."""
    return Past((*others, *sessions), **changes)


SATURDAY: Final = lone(use("s", at(SAT, 9), at(SAT, 11), "ada"), use("t", at(SUN, 9), at(SUN, 12), "ada"))
EARLY: Final = lone(use("s", at(THU, 5.2), at(THU, 5.7), "user-1"), use("t", at(SAT, 9), at(SAT, 10), "ada"))
NIGHT: Final = lone(use("s", at(SAT, 22), at(SUN, 2), "ada"), use("t", at(SUN, 9), at(SUN, 12), "bob"))
PROGRAMS: Final = lone(
    *(
        use(name, at(SAT, hour), at(SAT, hour + 3), "ada", holder="ada")
        for name, hour in (("s", 9), ("t", 10), ("u", 9.5))
    ),
    use("v", at(FRI, 9), at(FRI, 12), "bob"),
)
ALONE: Final = lone(
    *(use(f"{day}", at(day, 9), at(day, 9 + number), "ada") for number, day in enumerate(DAYS, 1)), others=(), seats=1
)
WAITED: Final = lone(
    use("s", at(FRI, 8), at(FRI, 23.8), "ada"),
    use("t", at(FRI, 23) + 55 * MINUTE, at(SAT, 2), "bob"),
    denials=(Denial("t", at(FRI, 23) + 50 * MINUTE),),
    others=(),
    seats=1,
)
CRASHED: Final = lone(
    use("s", at(FRI, 20), at(FRI, 23) + 50 * MINUTE, "ada"),
    use("t", at(WED, 8), at(WED, 12), "bob"),
    others=(),
    seats=1,
    crashed=frozenset({"s"}),
)
BEYOND: Final = lone(
    *(use(name, at(SAT, 9), at(SAT, 11), name, overdraft=name == "t") for name in ("s", "t")),
    use("u", at(SUN, 9), at(SUN, 12), "ada"),
    use("v", at(FRI, 9), at(FRI, 12), "ada", overdraft=True),
    seats=1,
    overdraft=1,
)


NEW: Final = replace(ALONE, first_use=True)
RENEWED: Final = replace(ALONE, renewed_by=f"{SAT}")
REFUSED: Final = replace(CRASHED.changed("s", -HOUR, -HOUR), denials=(Denial("x", at(SAT, 0.05)),))
ENDED: Final = lone(
    use("s", at(SAT, 20), at(SAT, 22) + 58 * MINUTE, "ada"), use("t", at(SAT, 24) - MINUTE, at(SUN, 1), "bob")
)
FELL: Final = replace(ENDED.changed("s", HOUR, HOUR), crashed=frozenset({"s"}))
APART: Final = lone(
    *(use(name, at(THU, hour), at(THU, hour + 0.9), name) for hour, name in ((9, "ada"), (11, "bob"), (13, "cid"))),
    *(use(name, at(THU, 5), at(THU, 5.5), "ada") for name in ("s", "t")),
    others=(),
)
OUT_OF_REACH: Final = SATURDAY.ran_on("s", 8).ran_on("t", 6)
OVERNIGHT: Final = (
    lone(use("s", at(WED, 22), at(WED, 23), "ada"), use("t", at(THU, 22), at(THU, 23), "ada"))
    .ran_on("s", 6)
    .ran_on("t", 5)
)
INTO_MONDAY: Final = lone(use("s", at(SUN, 20), at(MON, 2), "ada"))
FROM_ONE_ON_MONDAY: Final = lone(use("s", at(SUN, 20), at(SUN, 23), "ada"), use("t", at(MON, 1), at(MON, 3), "ada"))
ONE_WEEK: Final = lone(use("s", at(TUE, 9.1), at(TUE, 10.9), "ada"), others=(*crowd(FIRST), *crowd(WED)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(SATURDAY, SATURDAY.changed("s", HOUR, HOUR), id="one person on one day"),
        pytest.param(SATURDAY, SATURDAY.changed("s", -7 * HOUR, 9 * HOUR).changed("t", -7 * HOUR), id="longer"),
        pytest.param(EARLY, EARLY.changed("s", HOUR, HOUR), id="one of many comes early"),
        pytest.param(EARLY, EARLY.changed("s", 12 * HOUR, 12 * HOUR), id="or stays late"),
        pytest.param(EARLY, EARLY.changed("t", HOUR, 4 * HOUR), id="the only day of few in its month"),
        pytest.param(NIGHT, NIGHT.changed("s", -HOUR, -HOUR), id="across midnight"),
        pytest.param(NIGHT, NIGHT.changed("s", HOUR).changed("t", -HOUR), id="across midnight and longer"),
        pytest.param(INTO_MONDAY, FROM_ONE_ON_MONDAY, id="across midnight into the day of many"),
        pytest.param(PROGRAMS, PROGRAMS.changed("u", HOUR, HOUR).changed("v", HOUR / 2), id="several programs"),
        pytest.param(PROGRAMS, PROGRAMS.changed("s", -HOUR).changed("v", HOUR), id="several programs, one longer"),
        pytest.param(ALONE, ALONE.changed(f"{SAT}", 2 * HOUR, 2 * HOUR), id="a license with one user"),
        pytest.param(
            ALONE, ALONE.changed(f"{THU}", -HOUR).changed(f"{SAT}", HOUR), id="longer, and less on another day"
        ),
        pytest.param(WAITED, WAITED.changed("t", 9 * MINUTE, 9 * MINUTE), id="a wait into the next day"),
        pytest.param(CRASHED, REFUSED, id="a refusal by a seat that was held across midnight"),
        pytest.param(BEYOND, BEYOND.changed("t", HOUR).changed("v", -HOUR), id="in overdraft"),
        pytest.param(NEW, NEW.changed(f"{FIRST}", HOUR, HOUR), id="the first use"),
        pytest.param(RENEWED, RENEWED.changed(f"{SAT}", HOUR, HOUR), id="the first use of a new license file"),
        pytest.param(ENDED, FELL, id="a crash before midnight"),
        pytest.param(
            APART, APART.changed("s", HOUR, HOUR).changed("t", HOUR, HOUR), id="at the peak of many people's day"
        ),
        pytest.param(OUT_OF_REACH, OUT_OF_REACH.ran_on("s", 9).ran_on("t", 5), id="out of reach, one longer"),
        pytest.param(
            OVERNIGHT, OVERNIGHT.ran_on("s", 5).ran_on("t", 6), id="out of reach until one hour of many's day"
        ),
        pytest.param(ONE_WEEK, ONE_WEEK.changed("s", 2 * HOUR, 2 * HOUR), id="in an hour of many in another week"),
    ],
)
def test_of_few_people_nobodys_times_follow_from_all_answers(one: Past, other: Past) -> None:
    assert_nobody_can_tell(one, other)


def made(chance: random.Random) -> Past:
    """A past in which each day has no, few or many people, at random times."""
    uses: list[Use] = []
    denials: list[Denial] = []
    for day in DAYS[:-1]:
        for person in range(chance.choice((0, 1, 1, 2, 2, 3, 5))):
            for session in range(chance.choice((1, 1, 2))):
                begin = at(day, chance.choice((5, 8, 9, 10, 14, 21, 23))) + chance.randrange(60) * MINUTE
                end = begin + chance.choice((0, 20, 90, 200, 400)) * MINUTE
                name = f"{day}-{person}-{session}"
                uses.append(use(name, begin, end, f"user-{person}", overdraft=chance.random() < 0.1))
                if chance.random() < 0.2:
                    denials.append(Denial(name, begin - chance.randrange(1, 30) * MINUTE))
    crashed = frozenset(each.session_id for each in uses if chance.random() < 0.2)
    seats, overdraft = chance.choice((1, 2, 3)), chance.choice((0, 0, 1))
    return Past(tuple(uses), tuple(denials), crashed, seats, overdraft)


def changes(chance: random.Random, past: Past) -> Iterator[Past]:
    """Pasts in which one person came or went at another hour, in places with a session that makes up for it."""
    for each in chance.sample(past.uses, min(25, len(past.uses))):
        by = chance.choice((-13, -3, -2, -1, 1, 2, 3, 13)) * HOUR
        yield past.changed(each.session_id, by, by)
        for other in chance.sample(past.uses, min(6, len(past.uses))):
            if other is not each:
                yield past.changed(each.session_id, end=by).changed(other.session_id, end=-by)
                yield past.changed(each.session_id, begin=by).changed(other.session_id, begin=-by)


@pytest.mark.parametrize("seed", range(8))
def test_of_any_past_another_with_the_same_counts_gets_the_same_answers(seed: int) -> None:
    chance = random.Random(seed)
    found = 0
    while found < 2:
        one = made(chance)
        known = may_be_known(one)
        for other in changes(chance, one):
            sound = all(each.ended_at is None or each.started_at <= each.ended_at for each in other.uses)
            if sound and may_be_known(other) == known:
                assert_nobody_can_tell(one, other)
                found += 1
                break
