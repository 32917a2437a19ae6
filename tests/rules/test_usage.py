"""Day and month totals equal what a second-by-second count of the same sessions gives."""

from collections.abc import Iterable
from dataclasses import asdict, fields, replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensing.rules.totals import DayTotals, MonthAggregate, MonthTotals, aggregate_day, suppress
from licensing.rules.usage import Denial, Retrospect, Use
from tests.reference import ReferenceTotals, by_day
from tests.register_rows import counts_of, counts_of_month

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
MIDNIGHT = datetime(2028, 3, 1, tzinfo=UTC)  # 2028 is a leap year: the day before is 29 February.
LEAP_DAY, FIRST = date(2028, 2, 29), date(2028, 3, 1)


def at(clock: str, day: int = 29, month: int = 2) -> datetime:
    hour, minute = map(int, clock.split(":"))
    return datetime(2028, month, day, hour, minute, tzinfo=UTC)


def use(
    session_id: str,
    started_at: datetime,
    ended_at: datetime | None,
    *,
    user: str = "ann",
    host: str = "desk",
    holder: str = "",
    overdraft: bool = False,
) -> Use:
    return Use(session_id, started_at, ended_at, user, host, holder, overdraft)


def day_totals(day: date, uses: Iterable[Use], denials: Iterable[Denial] = (), as_of: datetime = MIDNIGHT) -> DayTotals:
    return aggregate_day(day, uses, denials, as_of).totals


@st.composite
def histories(draw: st.DrawFn, tick: timedelta, reach: int) -> tuple[list[Use], list[Denial], datetime]:
    """Sessions, denials and the time of asking, all within `reach` ticks of the midnight after leap day."""
    times = st.integers(-reach, reach).map(lambda ticks: MIDNIGHT + ticks * tick)
    as_of = draw(times)
    holders = draw(st.sampled_from([[""], ["h1", "h2", "h3"]]))  # no seats, or few, so that they get shared
    uses = []
    for number in range(draw(st.integers(0, 8))):
        started_at, ended_at = sorted((draw(times), draw(times)))
        open_sessions = started_at <= as_of and draw(st.integers(0, 3)) == 0
        uses.append(
            Use(
                f"s{number}",
                started_at,
                None if open_sessions else ended_at,
                user=draw(st.sampled_from(["ann", "ben", "cid"])),
                host=draw(st.sampled_from(["desk", "lab"])),
                holder=draw(st.sampled_from(holders)),
                overdraft=draw(st.booleans()),
            )
        )
    refusals = st.builds(Denial, st.integers(0, 12).map(lambda number: f"s{number}"), times)
    return uses, draw(st.lists(refusals, max_size=6)), as_of


@given(histories(SECOND, reach=1800))
@settings(max_examples=150, deadline=None)
def test_the_hour_around_a_months_midnight_is_counted_to_the_second(
    register: tuple[list[Use], list[Denial], datetime],
) -> None:
    assert_equals_the_count(*register, SECOND)


@given(histories(MINUTE, reach=3 * 24 * 60))
@settings(max_examples=60, deadline=None)
def test_sessions_of_many_days_are_counted_in_each_day_and_month(
    register: tuple[list[Use], list[Denial], datetime],
) -> None:
    assert_equals_the_count(*register, MINUTE)


def assert_equals_the_count(uses: list[Use], denials: list[Denial], as_of: datetime, tick: timedelta) -> None:
    counted = ReferenceTotals(uses, denials, as_of, tick)
    months = {"2028-02": MonthAggregate("2028-02"), "2028-03": MonthAggregate("2028-03")}
    oldest, newest = date(2028, 2, 26), date(2028, 3, 4)
    seen = []
    for day, of_day in by_day(uses, oldest, newest):
        aggregated = aggregate_day(day, of_day, denials, as_of)
        assert counts_of(aggregated.totals) == counted.day(day)
        months[f"{day:%Y-%m}"].add(aggregated)
        seen.append(day)
    assert seen == sorted(seen, reverse=True)
    assert (len(seen), seen[0], seen[-1]) == (8, newest, oldest)
    for month in months.values():
        assert counts_of_month(month.totals()) == counted.month(month.month)


def test_a_session_across_midnight_counts_in_both_days_but_once_in_a_month_and_twice_in_two_months() -> None:
    night = [use("s", at("23:00"), at("02:00", 1, 3))]
    assert [day_totals(day, night).sessions for day in (LEAP_DAY, FIRST)] == [1, 1]
    assert [day_totals(day, night).seat_seconds for day in (LEAP_DAY, FIRST)] == [3600, 7200]
    inside = [use("s", at("23:00", 27), at("02:00", 28))]
    month = MonthAggregate("2028-02")
    for day in (date(2028, 2, 27), date(2028, 2, 28)):
        month.add(aggregate_day(day, inside, (), MIDNIGHT))
    assert (month.totals().sessions, month.totals().seat_seconds) == (1, 3 * 3600)


def test_a_session_that_ends_at_midnight_leaves_nothing_in_the_next_day() -> None:
    assert day_totals(FIRST, [use("s", at("23:00"), MIDNIGHT)]) == day_totals(FIRST, [])


def test_a_session_that_crashed_at_once_is_counted_but_holds_no_time() -> None:
    crashed = day_totals(FIRST, [use("s", MIDNIGHT, MIDNIGHT)])
    assert (crashed.sessions, crashed.users, crashed.hosts) == (1, 1, 1)
    assert (crashed.seat_seconds, crashed.peak, crashed.peak_at) == (0, 0, None)
    assert day_totals(LEAP_DAY, [use("s", MIDNIGHT, MIDNIGHT)]).sessions == 0


def test_one_seat_handed_from_one_to_the_next_is_a_peak_of_one() -> None:
    handed = day_totals(LEAP_DAY, [use("s1", at("09:00"), at("10:00")), use("s2", at("10:00"), at("11:00"))])
    assert (handed.peak, handed.peak_at) == (1, at("09:00"))
    assert handed.hours == (0,) * 9 + (1, 1) + (0,) * 13


def test_an_overlapping_restart_on_a_shared_seat_counts_once() -> None:
    crash = use("s1", at("09:00"), at("09:40"), holder="ann@desk")
    again = use("s2", at("09:30"), at("10:30"), holder="ann@desk")
    shared = day_totals(LEAP_DAY, [crash, again])
    assert (shared.sessions, shared.peak, shared.seat_seconds) == (2, 1, 90 * 60)
    alone = day_totals(LEAP_DAY, [replace(crash, holder="s1"), replace(again, holder="s2")])
    assert (alone.sessions, alone.peak, alone.seat_seconds) == (2, 2, 100 * 60)


def test_a_shared_seat_is_in_overdraft_only_while_a_session_let_in_beyond_the_seats_runs() -> None:
    beyond = use("s1", at("09:00"), at("10:00"), holder="h", overdraft=True)
    within = use("s2", at("09:30"), at("11:00"), holder="h")
    day = day_totals(LEAP_DAY, [beyond, within])
    assert (day.seat_seconds, day.overdraft_seconds) == (2 * 3600, 3600)


def test_a_borrowed_seat_is_held_over_days_without_a_heartbeat() -> None:
    borrowed = [use("s", at("17:00", 27), at("09:00", 1, 3))]
    assert day_totals(date(2028, 2, 28), borrowed).hours == (1,) * 24
    assert day_totals(date(2028, 2, 28), borrowed).seat_seconds == 24 * 3600


def test_an_open_session_counts_up_to_the_time_of_asking() -> None:
    assert day_totals(LEAP_DAY, [use("s", at("09:00"), None)], as_of=at("12:30")).seat_seconds == 3.5 * 3600


def test_half_seconds_are_rounded_once_a_day_not_once_a_session() -> None:
    half = timedelta(milliseconds=500)
    uses = [use(f"s{n}", at("09:00") + n * SECOND, at("09:00") + n * SECOND + half) for n in range(10)]
    assert day_totals(LEAP_DAY, uses).seat_seconds == 5


@pytest.mark.parametrize(
    ("after", "waits"),
    [(-SECOND, 0), (0 * SECOND, 1), (11 * MINUTE, 1), (15 * MINUTE, 1), (15 * MINUTE + SECOND, 0)],
)
def test_a_wait_over_midnight_is_known_from_the_start_in_the_next_day(after: timedelta, waits: int) -> None:
    refused = Denial("s", at("23:50"))
    served = use("s", refused.first_at + after, None)
    day = dict(by_day([served], LEAP_DAY, FIRST))[LEAP_DAY]
    aggregated = day_totals(LEAP_DAY, day, [refused])
    assert (aggregated.denials, aggregated.waits) == (1, waits)


@pytest.mark.parametrize(("after", "waits"), [(0 * MINUTE, 1), (15 * MINUTE, 1), (16 * MINUTE, 0)])
def test_a_wait_of_hours_is_one_denial_and_one_wait(after: timedelta, waits: int) -> None:
    refused = Denial("s", at("09:00"), at("12:00"))
    served = use("s", at("12:00") + after, at("14:00"))
    aggregated = day_totals(LEAP_DAY, [served], [refused])
    assert (aggregated.denials, aggregated.waits) == (1, waits)


def test_a_day_holds_its_own_sessions_and_lets_go_of_all_others() -> None:
    week = [use(f"s{day}", at("09:00", day), at("17:00", day)) for day in range(28, 21, -1)]
    crosser = use("long", at("09:00", 22), at("18:00", 28))
    later = [use("open", at("09:00"), None), use("after", at("08:00"), at("09:00"))]
    sizes = [len(of) for _, of in by_day([*later, crosser, *week], date(2028, 2, 20), date(2028, 2, 28))]
    assert sizes == [2, 2, 2, 2, 2, 2, 2, 0, 0]


def test_a_session_that_comes_with_another_day_is_an_error_not_a_smaller_total() -> None:
    retrospect = Retrospect([])
    with pytest.raises(ValueError, match="did not end on 2028-02-28"):
        retrospect.day(date(2028, 2, 28), [use("s1", at("08:00", 27), at("09:00", 27))])
    retrospect.day(date(2028, 2, 27), [])
    with pytest.raises(ValueError, match="days go back in time"):
        retrospect.day(date(2028, 2, 27), [])


def test_a_day_added_to_another_month_is_an_error() -> None:
    with pytest.raises(ValueError, match="2028-03-01 is not a day of 2028-02"):
        MonthAggregate("2028-02").add(aggregate_day(FIRST, [], (), MIDNIGHT))


def test_of_a_small_group_only_the_number_of_users_outlives_the_year() -> None:
    whole = MonthTotals("2028-02", 3, 40, 5, 90000, 3, MIDNIGHT, 7, 2, 600)
    assert suppress(whole, small_group=3) == replace(whole, peak_at=None), "no hour of a day"
    kept = asdict(suppress(replace(whole, users=2), small_group=3))
    assert (kept.pop("month"), kept.pop("users")) == ("2028-02", 2)
    assert len(kept) == len(fields(MonthTotals)) - 2
    assert set(kept.values()) == {None}
