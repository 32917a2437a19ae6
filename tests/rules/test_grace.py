"""Programs that ran on after their sessions' ends: each day counts its part, once, in time, and keeps it."""

import random
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from licensing.rules.grace import (
    Tails,
    closed,
    heard,
    is_counted,
    is_in_time,
    longest_tail,
    oldest_open,
    with_erased,
    with_tails,
)
from licensing.rules.model import EndedSession, EndReason, Session
from licensing.rules.totals import DayTotals, MonthAggregate, aggregate_day, corrected_day
from licensing.rules.usage import Use, midnight
from tests.factories import at, terms, use
from tests.reference import ReferenceTotals

DAY, HOUR, MINUTE, MOMENT = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1), timedelta.resolution
MONDAY, TUESDAY = date(2026, 11, 30), date(2026, 12, 1)
NOW = datetime(2026, 12, 3, 3, tzinfo=UTC)
TERMS = terms(grace_seconds=2 * 86400)
"""Two days of grace, and four: what ended on a Monday is heard of until Sunday."""


def ended(ended_at: datetime, ran_until: datetime | None = None, late_until: datetime | None = None) -> EndedSession:
    began = ended_at - HOUR
    session = Session("s", began, ended_at, ended_at + HOUR, "u", "h", "", "p", "s")
    return EndedSession(session, ended_at, EndReason.LAPSED, ran_until, late_until)


def counted(day: date, *uses: Use, as_of: datetime = NOW) -> DayTotals:
    begin, end = midnight(day), midnight(day) + DAY
    present = [each for each in uses if each.touches(begin, end, as_of)]
    totals = aggregate_day(day, present, (), as_of).totals
    return with_tails(totals, Tails.of(uses), present, as_of)


# What is heard.


def test_a_later_time_counts_and_an_earlier_one_lowers_nothing() -> None:
    was = ended(at(MONDAY, 10))
    now = at(MONDAY, 15)
    first = heard(was, at(MONDAY, 12), TERMS, now)
    assert first == (replace(was, ran_until=at(MONDAY, 12)), timedelta())
    assert heard(first[0], at(MONDAY, 12), TERMS, now) is None, "twice"
    assert heard(first[0], at(MONDAY, 11), TERMS, now) is None, "out of order"
    assert heard(first[0], at(MONDAY, 13), TERMS, now) == (replace(was, ran_until=at(MONDAY, 13)), timedelta())
    assert heard(was, at(MONDAY, 10), TERMS, now) is None, "it ended then"


def test_what_is_heard_after_grace_and_four_days_is_late_from_that_moment_on() -> None:
    was, closes = ended(at(MONDAY, 23.9)), midnight(TUESDAY) + 6 * DAY
    assert is_in_time(was.ended_at, TERMS, closes - MOMENT)
    assert not is_in_time(was.ended_at, TERMS, closes)
    known = replace(was, ran_until=at(TUESDAY, 1))
    assert heard(known, at(TUESDAY, 3), TERMS, closes - MOMENT) == (
        replace(known, ran_until=at(TUESDAY, 3)),
        timedelta(),
    )
    late = heard(known, at(TUESDAY, 3), TERMS, closes)
    assert late == (replace(known, late_until=at(TUESDAY, 3)), 2 * HOUR), "an hour was heard in time"
    assert heard(late[0], at(TUESDAY, 3), TERMS, closes) is None
    assert heard(late[0], at(TUESDAY, 4), TERMS, closes) == (replace(known, late_until=at(TUESDAY, 4)), HOUR)
    by_a_slow_clock = heard(late[0], at(TUESDAY, 4), TERMS, closes - MOMENT)
    assert by_a_slow_clock == (replace(known, late_until=at(TUESDAY, 4)), HOUR), "once late, never of a day"


@pytest.mark.parametrize("grace", [0, 43_200, 259_200, 30 * 86_400])
def test_nights_count_for_four_days_longer_and_look_back_as_far_as_a_tail_can_reach(grace: int) -> None:
    license = terms(grace_seconds=grace)
    closes = midnight(TUESDAY) + timedelta(seconds=grace) + 4 * DAY
    assert is_in_time(at(MONDAY, 0), license, closes - MOMENT)
    assert oldest_open(license, closes + 4 * DAY - MOMENT) <= MONDAY
    assert oldest_open(license, closes + 5 * DAY) > MONDAY
    # What is heard in time was over by then, so that it is no longer than this.
    assert closes - at(MONDAY, 0) <= longest_tail(license)


def test_terms_of_the_first_edition_have_three_days_of_grace() -> None:
    assert terms(grace_seconds=None).grace == 3 * DAY
    assert terms(grace_seconds=0).grace == timedelta()


def test_a_program_under_terms_of_the_first_edition_runs_on_for_three_days_after_its_seat_was_freed() -> None:
    began = at(MONDAY, 0)
    first = terms(grace_seconds=None, valid_until=began + 30 * DAY)
    session = Session("s", began, began, began + timedelta(minutes=15), "u", "h", "i", "p", "s")
    assert first.runs_until(session, began) == began + 3 * DAY


# What is counted.


def test_a_tail_across_the_end_of_a_month_is_counted_in_each_day_and_month() -> None:
    night = use("s", at(MONDAY, 20), at(MONDAY, 22), ran_until=at(TUESDAY, 5))
    days = [counted(day, night) for day in (MONDAY, TUESDAY)]
    assert [(day.seat_seconds, day.grace_seconds, day.grace_users, day.ran_peak) for day in days] == [
        (2 * 3600, 2 * 3600, 1, 1),
        (0, 5 * 3600, 1, 1),
    ]
    assert [day.sessions for day in days] == [1, 0], "its session was over"
    for day in days:
        month = MonthAggregate(f"{day.day:%Y-%m}")
        month.add(replace(aggregate_day(day.day, [night], (), NOW), totals=day))
        assert (month.totals().grace_seconds, month.totals().ran_peak) == (day.grace_seconds, 1)


def test_a_tail_that_ends_at_midnight_leaves_nothing_in_the_next_day() -> None:
    assert counted(TUESDAY, use("s", at(MONDAY, 20), at(MONDAY, 22), ran_until=midnight(TUESDAY))).ran_peak == 0
    assert Tails.of([use("s", at(MONDAY, 20), at(MONDAY, 22), ran_until=midnight(TUESDAY))]).days == {MONDAY}


def test_a_seat_given_to_another_meanwhile_shows_in_the_programs_and_not_in_the_peak() -> None:
    cut_off = use("s", at(MONDAY, 8), at(MONDAY, 10), ran_until=at(MONDAY, 14))
    other = use("t", at(MONDAY, 11), at(MONDAY, 12))
    day = counted(MONDAY, cut_off, other)
    assert (day.peak, day.ran_peak, day.grace_seconds) == (1, 2, 4 * 3600)
    assert day.seat_seconds == 3 * 3600


def test_two_programs_on_one_seat_are_two_programs() -> None:
    both = [use(name, at(MONDAY, 8), at(MONDAY, 10), holder="ann") for name in ("s", "t")]
    day = counted(MONDAY, *both)
    assert (day.peak, day.ran_peak) == (1, 2)


@pytest.mark.parametrize("seed", range(40))
def test_seats_and_tails_together_are_the_time_for_which_programs_ran(seed: int) -> None:
    chance, first = random.Random(seed), date(2026, 11, 28)
    uses = []
    for number in range(chance.randint(1, 12)):
        began = at(first, chance.randrange(5 * 24)) + chance.randrange(60) * MINUTE
        end = began + chance.choice((0, 5, 100, 700, 2500)) * MINUTE
        stopped = end + chance.choice((-30, 0, 1, 90, 800, 4000)) * MINUTE if chance.random() < 0.7 else None
        uses.append(use(f"s{number}", began, end, f"u{number % 3}", host="pc", ran_until=stopped))
    reference = ReferenceTotals(uses, [], NOW + 9 * DAY, MINUTE)
    ran = timedelta()
    for number in range(13):
        day = first + number * DAY
        found, expected = counted(day, *uses, as_of=NOW + 9 * DAY), reference.day(day)
        names = ("seat_seconds", "grace_seconds", "grace_users", "ran_peak", "peak")
        assert {name: getattr(found, name) for name in names} == {name: expected[name] for name in names}
        ran += timedelta(seconds=found.seat_seconds + found.grace_seconds)
    really = [each.tail[1] if each.tail else each.until(NOW) for each in uses]
    assert ran == sum((stopped - each.started_at for each, stopped in zip(uses, really, strict=True)), 0 * DAY)


# What stays.


def test_a_correction_keeps_what_a_day_says_until_a_night_counts_it_with_the_corrected_end() -> None:
    longer = use("s", at(MONDAY, 8), at(MONDAY, 10), ran_until=at(MONDAY, 14))
    day = counted(MONDAY, longer)
    assert is_counted(day, Tails.of([longer]))
    later = replace(longer, ended_at=at(MONDAY, 11))
    corrected = corrected_day(day, day, aggregate_day(MONDAY, [later], (), NOW).totals, NOW)
    assert (corrected.seat_seconds, corrected.grace_seconds, corrected.ran_peak) == (3 * 3600, 4 * 3600, 1), "kept"
    assert not is_counted(corrected, Tails.of([later]))
    again = with_tails(corrected, Tails.of([later]), [later], NOW)
    assert (again.seat_seconds, again.grace_seconds) == (3 * 3600, 3 * 3600), "together it ran as long as before"
    assert not is_counted(day, Tails.of([later])), "also where the correction changes no other number"


def test_erased_tails_are_noted_so_that_what_others_tell_later_is_added() -> None:
    anns = use("s", at(MONDAY, 8), at(MONDAY, 10), "ann", ran_until=at(MONDAY, 14))
    bens = use("t", at(MONDAY, 8), at(MONDAY, 9), "ben", ran_until=at(MONDAY, 10))
    day = counted(MONDAY, anns, bens)
    erased = replace(with_erased(day, Tails.of([anns]).seconds(MONDAY)), erased=True)
    assert replace(erased, erased_grace=0, erased=False) == day, "an erasure changes no number"
    left = Tails.of([bens])
    assert is_counted(erased, left)
    assert with_tails(erased, left, [bens], NOW) == erased
    longer = replace(bens, ran_until=at(MONDAY, 12))
    after = with_tails(erased, Tails.of([longer]), [longer], NOW)
    assert (after.grace_seconds, after.grace_users, after.ran_peak) == (7 * 3600, 2, 2)
    assert closed(after) == replace(after, erased_grace=0)
