"""How many seats would do, against a replay of the sessions minute by minute with so many seats."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensing.rules.license import Kind
from licensing.rules.model import LicenseState
from licensing.rules.report import license_usage
from licensing.rules.sizing import Sizing, sizing
from licensing.rules.totals import MOST_LEVELS, DayTotals, aggregate_day
from licensing.rules.usage import Use
from tests.factories import terms

FIRST, LAST = date(2028, 2, 28), date(2028, 3, 1)
BEGIN, END = datetime(2028, 2, 28, tzinfo=UTC), datetime(2028, 3, 2, tzinfo=UTC)
DAYS = [FIRST + timedelta(days=number) for number in range(3)]
MINUTE = timedelta(minutes=1)


@st.composite
def histories(draw: st.DrawFn) -> list[Use]:
    """Sessions of three days, of few or many holders, some of whom share a seat and some of which overlap."""
    holders = draw(st.sampled_from([["a", "b", "c", "d"], [f"h{number}" for number in range(20)], []]))
    grid = draw(st.sampled_from([1, 15, 60]))
    uses = []
    for number in range(draw(st.integers(1, 25))):
        began = draw(st.integers(1, 3 * 24 * 60 // grid - 1)) * grid
        length = draw(st.integers(0, 600 // grid)) * grid
        name = draw(st.sampled_from(holders)) if holders else f"s{number}"
        started_at = BEGIN + began * MINUTE
        ended_at = min(started_at + length * MINUTE, END)
        over = draw(st.booleans())
        uses.append(Use(f"s{number}", started_at, ended_at, f"user-{draw(st.integers(0, 5))}", "pc", name, over))
    return uses


def replay(uses: list[Use], seats: int, people: int) -> tuple[int, int, int, int]:
    """Hours used and starts that took a seat, and those of both that so many seats would not have served.

    Only hours in which, and days on which so many people were there count. Then sessions that run across midnight count
    as starts of the new day, as far as there are seats held.
    """
    used, short = set(), set()
    starts = too_many = 0
    holding: set[str] = set()
    for number in range((END - BEGIN) // MINUTE):
        now = BEGIN + number * MINUTE
        hour, day = now.replace(minute=0), now.replace(hour=0, minute=0)
        running = {use.holder for use in uses if held(use, now)}
        crowded = len({use.user for use in uses if there(use, hour, hour + 60 * MINUTE)}) >= people
        if running and crowded:
            used.add(hour)
        if len(running) > seats and crowded:
            short.add(hour)
        if people and now == day and enough_on(uses, day, people):
            across = len([use for use in uses if use.started_at < day < (use.ended_at or END)])
            most = max(len({use.holder for use in uses if held(use, day + each * MINUTE)}) for each in range(1440))
            starts += min(across, most)
            too_many += max(0, min(across, most) - seats)
        taken = holding & running
        if running - taken and enough_on(uses, day, people):
            for holder in running - taken:
                taken.add(holder)
                starts += 1
                too_many += len(taken) > seats
        holding = running
    return len(used), starts, len(short), too_many


def held(use: Use, now: datetime) -> bool:
    return use.started_at <= now < (use.ended_at or END)


def enough_on(uses: list[Use], day: datetime, people: int) -> bool:
    return len({use.user for use in uses if there(use, day, day + 1440 * MINUTE)}) >= people


def there(use: Use, begin: datetime, end: datetime) -> bool:
    ended_at = use.ended_at or END
    return use.started_at < end and (ended_at > begin or begin <= use.started_at)


def days_of(uses: list[Use]) -> list[DayTotals]:
    return [aggregate_day(day, uses, (), END).totals for day in DAYS]


@given(histories(), st.sampled_from([0, 3]))
@settings(max_examples=15, deadline=None)
def test_a_curve_equals_a_replay_with_each_number_of_seats(uses: list[Use], people: int) -> None:
    found = sizing(days_of(uses), FIRST, LAST, people, refused=False)
    hours, starts, *_ = replay(uses, 0, people)
    if found is None:
        assert hours == 0
        return
    assert (found.hours, found.starts or 0) == (hours, starts)
    assert [point.seats for point in found.curve] == list(range(found.median, found.peak + 1))
    for point in found.curve:
        assert (point.hours, point.starts or 0) == replay(uses, point.seats, people)[2:], point
    assert found.enough == found.peak
    if not people:
        assert replay(uses, found.peak, 0)[2:] == (0, 0)
        assert replay(uses, found.peak - 1, 0)[2:] > (0, 0)


def day(number: int, *hours: int, **changes: Any) -> DayTotals:
    """A day whose hours have these peaks, with as many users in each, and a start for each seat of the highest."""
    peaks = (*hours, *(0,) * (24 - len(hours)))
    made = replace(
        aggregate_day(FIRST + timedelta(days=number), (), (), END).totals,
        hours=peaks,
        hour_users=peaks,
        users=max(peaks),
        peak=max(peaks),
        starts=(1,) * max(peaks),
    )
    return replace(made, **changes)


def found_of(*days: DayTotals, people: int = 0, refused: bool = False) -> Sizing:
    found = sizing(days, FIRST, LAST, people, refused=refused)
    assert found is not None
    return found


YEAR = [day(number, *(7,) * 10) for number in range(230)] + [day(230, 9, 8, *(2,) * 8)]


def test_a_sentence_says_how_many_seats_would_do_in_three_languages() -> None:
    found = found_of(*YEAR)
    assert (found.median, found.peak, found.enough, found.hours, found.starts) == (7, 9, 9, 2310, 230 * 7 + 9)
    assert [(point.seats, point.hours, point.starts) for point in found.curve] == [(7, 2, 2), (8, 1, 1), (9, 0, 0)]
    assert found.sentence == (
        "9 seats would have been enough for every start; 7 for all but 2 of 2,310 hours used, "
        "and for all but 2 of 1,619 starts."
    )
    assert found.translations == {
        "de": "9 Plätze hätten für jeden Start genügt; 7 für alle bis auf 2 von 2.310 genutzten Stunden, "
        "und für alle bis auf 2 von 1.619 Starts.",
        "fi": "9 paikkaa olisi riittänyt jokaiseen käynnistykseen; 7 kaikkiin tunteihin paitsi 2 "
        "(käyttötunteja 2\u00a0310) ja kaikkiin käynnistyksiin paitsi 2 (käynnistyksiä 1\u00a0619).",
    }


def test_days_before_starts_were_counted_count_for_the_hours_alone() -> None:
    older = [replace(each, starts=()) for each in YEAR[:200]]
    since = found_of(*older, *YEAR[200:])
    assert (since.hours, since.starts) == (2310, 30 * 7 + 9)
    assert since.sentence.endswith(f"and for all but 2 of 219 starts since {YEAR[200].day}.")
    corrected = found_of(YEAR[0], *older[1:], *YEAR[200:])
    assert (corrected.starts, corrected.sentence) == (since.starts, since.sentence), "an older day was corrected"
    none = found_of(*(replace(each, starts=()) for each in YEAR))
    assert none.starts is None
    assert {point.starts for point in none.curve} == {None}
    assert none.sentence == "9 seats would have been enough for every start; 7 for all but 2 of 2,310 hours used."


def test_where_starts_were_refused_use_does_not_tell_how_many_seats_would_do() -> None:
    found = found_of(*YEAR, refused=True)
    assert found.enough is None
    assert found.sentence == "Starts were refused, so that use alone does not tell how many seats would do."


def test_fewer_seats_that_would_often_have_been_short_are_not_named() -> None:
    assert found_of(day(0, 2, 2, 3)).sentence == "3 seats would have been enough for every start."


def test_a_customer_sees_no_hour_of_few_people_and_no_start_of_their_days() -> None:
    alone = day(1, 5, 5, 5, users=2, hour_users=(2,) * 24)
    found = found_of(day(0, 4, 2, 3), alone, people=3)
    assert (found.hours, found.starts, found.median) == (2, 4, 3)
    assert [(point.seats, point.hours, point.starts) for point in found.curve] == [(3, 1, 1), (4, 0, 0), (5, 0, 0)]
    assert found.enough == 5, "the day's peak is reported, and four would not have been enough for it"
    assert found.sentence.endswith("Of hours and days with fewer than 3 people, only the day's peak counts.")
    assert sizing([alone], FIRST, LAST, 3, refused=False) is None


def test_a_customer_does_not_see_that_a_session_ran_across_midnight() -> None:
    """On the second day a session runs on from the first, or begins a minute after midnight and ends a minute later."""

    def found(began: timedelta, small_group: int) -> tuple[int | None, list[int | None]]:
        midnight = BEGIN + timedelta(days=1)
        night = Use("night", midnight + began, midnight + timedelta(hours=1), "ann", "pc", "night", False)
        noon = midnight + timedelta(hours=12)
        others = [Use(name, noon, noon + timedelta(hours=1), name, name, name, False) for name in ("ben", "cem", "dag")]
        first = Use("first", BEGIN, BEGIN + timedelta(hours=1), "ann", "pc", "first", False)
        sizes = sizing(days_of([first, night, *others]), FIRST, LAST, small_group, refused=False)
        assert sizes is not None
        return sizes.starts, [point.starts for point in sizes.curve]

    across, after = timedelta(hours=-2), timedelta(minutes=1)
    assert found(across, 3) == found(after, 3) == (4, [0])
    assert (found(across, 0)[0], found(after, 0)[0]) == (5, 5)


def test_more_seats_than_a_day_tells_apart_have_no_number_of_starts() -> None:
    uses = [Use(f"s{number}", BEGIN, BEGIN + MINUTE, "ann", "pc", f"s{number}", False) for number in range(2_500)]
    many = days_of(uses)[0]
    assert (len(many.starts), many.starts[-1]) == (MOST_LEVELS, 501)
    levels = replace(many, hours=(1_990, 2_500, *(0,) * 22))
    starts = {point.seats: point.starts for point in found_of(levels).curve}
    assert (starts[1_999], starts[2_000], starts[2_500]) == (501, None, None)


@pytest.mark.parametrize("kind", ["floating", "named-user"])
def test_a_report_has_the_sizing_of_all_days_that_are_kept_whatever_days_are_asked_for(kind: str) -> None:
    bought = terms(kind=Kind(kind), seats=3, valid_until=datetime(2029, 1, 1, tzinfo=UTC))
    found = license_usage(
        "water",
        LicenseState(bought),
        [day(0, 4, 2), day(1, 3, denials=2)],
        (),
        first=LAST,
        last=LAST,
        oldest=date(2027, 3, 1),
        newest=LAST,
        zone=ZoneInfo("UTC"),
        small_group=0,
    )
    if kind == "named-user":
        assert found.sizing is None
        return
    assert found.sizing is not None
    assert (found.sizing.first, found.sizing.last, found.sizing.hours) == (FIRST, LAST, 3)
    assert found.sizing.enough is None


def test_numbers_of_seats_are_written_as_all_numbers_are() -> None:
    crowded = [day(number, *(1200,) * 24, starts=()) for number in range(5)]
    found = found_of(*crowded, day(5, 1300, starts=()))
    assert found.sentence == (
        "1,300 seats would have been enough for every start; 1,200 for all but 1 of 121 hours used."
    )


def test_the_days_of_a_curve_have_all_that_were_used() -> None:
    """A newer file may end a license before its last use."""
    used = day(2, 2)
    state = LicenseState(terms(valid_until=BEGIN + timedelta(days=1)))
    found = license_usage(
        "water",
        state,
        [used],
        (),
        first=FIRST,
        last=LAST,
        oldest=FIRST,
        newest=LAST,
        zone=ZoneInfo("UTC"),
        small_group=0,
    ).sizing
    assert found is not None
    assert (found.first, found.last) == (used.day, used.day)
