"""What a report says: the verdict, the busy hours in their own time, and nobody's working hours."""

import csv
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensing.rules.license import Billing, Kind
from licensing.rules.model import FormerTerms, LicenseState, Status
from licensing.rules.report import (
    BusyHour,
    Customer,
    DayUsage,
    LicenseUsage,
    OrganizationMonth,
    Report,
    busy_hours,
    license_usage,
    to_csv,
    to_json,
)
from licensing.rules.totals import DayTotals, MonthTotals
from licensing.rules.verdict import State, verdict
from tests.factories import terms

MONDAY = date(2028, 2, 28)
HELSINKI, KOLKATA = ZoneInfo("Europe/Helsinki"), ZoneInfo("Asia/Kolkata")


def day(number: int, peak: int, **changes: Any) -> DayTotals:
    """The day `number` days after a Monday, with its peak from 9 to 10 UTC, and a user for each session of it."""
    when = MONDAY + timedelta(days=number)
    hours = tuple(peak if hour == 9 else 0 for hour in range(24))
    peak_at = datetime(when.year, when.month, when.day, 9, tzinfo=UTC) if peak else None
    made = DayTotals(when, peak, peak, peak, 3600 * peak, peak, peak_at, hours, 0, 0, 0)
    return replace(made, **{"hour_users": hours, **changes})


def usage(*days: DayTotals, kind: str = "floating", zone: ZoneInfo = HELSINKI, **changes: Any) -> LicenseUsage:
    """A license's week, whose months are `changes["months"]`."""
    usual: dict[str, Any] = {
        "first": MONDAY,
        "last": MONDAY + timedelta(days=6),
        "oldest": date(2028, 2, 1),
        "newest": MONDAY + timedelta(days=6),
        "months": [MonthTotals("2028-03", 2), MonthTotals("2028-02", 2)],
        "state": LicenseState(terms(kind=Kind(kind), overdraft=1)),
        "small_group": 3,
    }
    return license_usage("water", days=days, zone=zone, **{**usual, **changes})


def reported(*days: DayTotals, seats: int) -> list[DayUsage]:
    """Days as the verdict sees them: nothing is withheld, and each had these seats unless it says otherwise."""
    state = LicenseState(terms(seats=seats))
    return [usage(each, first=each.day, last=each.day, state=state, small_group=0).days[0] for each in days]


@pytest.mark.parametrize(
    ("days", "seats", "state", "sentence"),
    [
        (
            [day(0, 2), day(1, 1)],
            3,
            State.ENOUGH,
            "At most 2 of the 3 seats were taken at once; no start was refused. 2 seats would have been enough.",
        ),
        (
            [day(0, 3), day(1, 1)],
            3,
            State.TIGHT,
            "The seats were all taken on 1 of 2 working days; no start was refused. 3 seats would have been enough.",
        ),
        (
            [day(0, 3, denials=5), day(1, 3), day(2, 1)],
            3,
            State.SHORT,
            "The seats were all taken on 2 of 3 working days; 5 starts were refused. "
            "At least 4 seats would have been needed.",
        ),
        (
            [day(0, 3, denials=5, waits=2), day(5, 3)],
            3,
            State.SHORT,
            "The seats were all taken on 1 of 1 working day and on 1 weekend day; "
            "5 starts were refused, 2 of them served after a wait. At least 4 seats would have been needed.",
        ),
        (
            [day(0, 4, denials=1, waits=1, overdraft_seconds=5400)],
            3,
            State.SHORT,
            "The seats were all taken on 1 of 1 working day; "
            "1 start was refused, but served after a wait. At least 5 seats would have been needed. "
            "Use beyond the seats bought came to 1.5 hours.",
        ),
        (
            [day(0, 1), day(1, 0)],
            1,
            State.ENOUGH,
            "The one seat was taken on 1 of 2 working days; no start was refused. 1 seat would have been enough.",
        ),
        (
            [day(0, 2), day(5, 3)],
            3,
            State.TIGHT,
            "The seats were all taken on 1 weekend day; no start was refused. 3 seats would have been enough.",
        ),
        ([day(0, 0), day(1, 0)], 3, State.IDLE, "Nobody used this license in this time; no seat was needed."),
        ([], 3, State.IDLE, "Nobody used this license in this time; no seat was needed."),
        ([day(0, 1)], 0, State.NO_SEATS, "This license takes no seats. At most 1 session ran at once."),
    ],
)
def test_one_sentence_says_whether_the_seats_suffice(
    days: list[DayTotals], seats: int, state: State, sentence: str
) -> None:
    found = verdict(reported(*days, seats=seats), seats)
    assert (found.state, found.sentence) == (state, sentence)


@pytest.mark.parametrize(
    ("days", "sentence"),
    [
        (
            [day(0, 5, seats=5, denials=23), day(1, 4, seats=10)],
            "The seats were all taken on 1 of 2 working days; 23 starts were refused. "
            "At least 6 seats would have been needed. There are 10 seats now.",
        ),
        (
            [day(0, 4, seats=5), day(1, 4, seats=10)],
            "At most 4 seats were taken at once, and never all; no start was refused. "
            "4 seats would have been enough. There are 10 seats now.",
        ),
        (
            [day(0, 6, seats=5, overdraft_seconds=3600), day(1, 4, seats=10)],
            "The seats were all taken on 1 of 2 working days; no start was refused. 6 seats would have been enough. "
            "Use beyond the seats bought came to 1.0 hours. There are 10 seats now.",
        ),
        (
            [day(0, 5), day(1, 4)],
            "At most 5 of the 10 seats were taken at once; no start was refused. 5 seats would have been enough.",
        ),
    ],
    ids=["more, since starts were refused", "more, though none were", "beyond the former seats", "not known"],
)
def test_the_past_is_judged_by_the_seats_that_it_had(days: list[DayTotals], sentence: str) -> None:
    assert verdict(reported(*days, seats=10), 10).sentence == sentence


def test_a_day_has_its_seats_also_if_nobody_worked_or_its_row_is_of_the_first_edition() -> None:
    bought = datetime(2028, 3, 2, tzinfo=UTC)
    state = LicenseState(terms(seats=10), former=(FormerTerms(bought, "Water", "", Billing.NONE, 5),))
    days = usage(day(0, 3, seats=None), day(1, 3, seats=4), state=state).days
    assert [each.seats for each in days] == [5, 4, 5, 10, 10, 10, 10]
    assert [each.seats for each in usage(day(0, 3)).days] == [3] * 7


def test_a_license_that_does_not_float_is_not_measured_against_seats() -> None:
    assert usage(day(0, 3), kind="named-user").verdict.state is State.NO_SEATS


def test_days_without_totals_had_no_use_but_still_are_working_days() -> None:
    reported = usage(day(1, 3))
    assert [day.day.day for day in reported.days] == [28, 29, 1, 2, 3, 4, 5]
    assert [day.peak for day in reported.days] == [0, 3, 0, 0, 0, 0, 0]
    assert "on 1 of 5 working days" in reported.verdict.sentence


WITHHELD = ("sessions", "users", "hosts", "seat_seconds", "overdraft_seconds", "peak_at")


def test_a_day_of_few_people_tells_its_peak_and_its_refusals_alone() -> None:
    few, none, enough, *_ = usage(day(0, 3, users=2, denials=4, waits=1), day(1, 0), day(2, 3)).days
    assert {name: getattr(few, name) for name in WITHHELD} == dict.fromkeys(WITHHELD)
    assert (few.peak, few.denials, few.waits, few.seats) == (3, 0, 0, 3)  # one more would have had a seat in overdraft
    assert none == DayUsage(
        day=none.day, seats=3, peak_at=None, **dict.fromkeys({*DayUsage.model_fields} - {"day", "seats", "peak_at"}, 0)
    )
    assert (enough.users, enough.sessions, enough.seat_seconds) == (3, 3, 10800)
    assert enough.peak_at is not None


@pytest.mark.parametrize(("peak", "users", "refused"), [(4, 2, 5), (3, 2, 0), (0, 0, 0), (1, 3, 5)])
def test_refusals_of_few_people_count_only_where_the_peak_took_all_seats(peak: int, users: int, refused: int) -> None:
    """Otherwise the seats were held by a program that crashed shortly before midnight."""
    found = usage(day(0, peak, users=users, denials=5, waits=2)).days[0]
    assert (found.denials, found.waits) == (refused, min(refused, 2))


@pytest.mark.parametrize(
    ("hour_users", "peak_at", "busy"),
    [
        pytest.param({9: 3}, True, {9: 3}, id="enough"),
        pytest.param({9: 2, 10: 3}, False, {10: 2}, id="few at the peak"),
        pytest.param({8: 1, 9: 2, 10: 2}, False, None, id="few in each hour"),
        pytest.param(None, False, None, id="not known in the first edition"),
    ],
)
def test_an_hour_is_reported_only_if_enough_people_were_there_in_it(
    hour_users: dict[int, int] | None, peak_at: bool, busy: dict[int, int] | None
) -> None:
    users = tuple(hour_users.get(hour, 0) for hour in range(24)) if hour_users else ()
    hours = tuple({8: 1, 9: 3, 10: 2}.get(hour, 0) for hour in range(24))
    found = usage(day(0, 3, users=4, hours=hours, hour_users=users), zone=ZoneInfo("UTC"))
    assert (found.days[0].peak_at is not None) is peak_at
    seen = found.busy and {hour: cell.most for hour, cell in enumerate(found.busy[0]) if cell}
    assert seen == busy


def test_one_busy_day_does_not_open_the_hours_of_the_others() -> None:
    lone = day(5, 1, hours=(1,) * 8 + (0,) * 16, hour_users=(1,) * 8 + (0,) * 16)
    found = usage(day(4, 3), lone, zone=ZoneInfo("UTC"))
    assert found.busy is not None
    assert found.busy[5] == (None,) * 24
    assert [hour for hour, cell in enumerate(found.busy[4]) if cell] == [9]


def test_an_hour_of_few_people_counts_as_none_in_the_mean_of_its_weeks() -> None:
    weeks = day(0, 4), day(7, 2), day(14, 0)
    found = busy_hours(weeks, ZoneInfo("UTC"), 3)
    assert found is not None
    assert found[0][9] == BusyHour(mean=round(4 / 3, 2), most=4)


MONTH = MonthTotals("2028-02", 5, 9, 4, 7200, 3, datetime(2028, 2, 28, 9, tzinfo=UTC), 7, 2, 60)


@pytest.mark.parametrize(
    ("days", "sums"),
    [
        pytest.param([day(0, 3)], True, id="no day of few people"),
        pytest.param([day(0, 3), day(-1, 1)], False, id="one"),
        pytest.param([day(0, 3), day(-1, 1), day(-2, 2)], True, id="two"),
        pytest.param([day(0, 3), day(-1, 1), day(-2, 0, sessions=1, users=1)], False, id="one, and one without time"),
        pytest.param([day(0, 3), day(-1, 1), day(2, 1)], False, id="one in each month"),
    ],
)
@pytest.mark.parametrize("first", [MONDAY, MONDAY - timedelta(days=20)])
def test_a_month_has_no_sums_that_would_leave_those_of_one_day(days: list[DayTotals], sums: bool, first: date) -> None:
    """Whatever days are asked for."""
    (month,) = usage(*days, months=[MONTH], first=first).months
    assert (month.sessions, month.seat_seconds, month.overdraft_seconds) == ((9, 7200, 60) if sums else (None,) * 3)
    assert (month.users, month.hosts, month.peak, month.peak_at) == (5, 4, 3, None)


def test_a_month_whose_days_are_no_longer_kept_has_no_sums() -> None:
    (month,) = usage(day(0, 3), months=[MONTH], oldest=date(2028, 2, 2)).months
    assert [name for name, total in month.model_dump().items() if total is not None] == [
        *("month", "users", "hosts", "peak")
    ]


def test_a_month_has_no_refusal_that_its_day_does_not_report() -> None:
    (month,) = usage(day(0, 0, denials=7, waits=2), day(-1, 3, denials=4, waits=1), months=[MONTH]).months
    assert (month.denials, month.waits) == (4, 1)


def test_a_vendor_sees_all_totals() -> None:
    found = usage(day(0, 1, denials=5, overdraft_seconds=60), months=[MONTH], small_group=0)
    assert (found.days[0].users, found.days[0].seat_seconds, found.days[0].denials) == (1, 3600, 5)
    assert (found.months[0].sessions, found.months[0].denials) == (9, 7)


def test_of_a_range_of_which_no_day_is_over_nothing_is_said() -> None:
    today = MONDAY + timedelta(days=7)
    found = usage(day(0, 3), first=today, last=today)
    assert (found.days, found.busy, found.verdict.state) == ((), None, State.NOT_OVER)


def test_use_beyond_the_seats_is_at_least_that_of_the_days_that_have_their_hours() -> None:
    found = usage(day(0, 4, overdraft_seconds=3600), day(1, 4, users=2, overdraft_seconds=1800)).verdict
    assert found.sentence.endswith("Use beyond the seats bought came to at least 1.0 hours.")


def test_hours_move_to_the_customers_time_zone_with_its_summer_time() -> None:
    """9 UTC is 11 in Helsinki on Monday 20 March 2028 and, after 26 March, 12 on Monday 27 March."""
    winter, summer = (replace(day(0, 4), day=date(2028, 3, each)) for each in (20, 27))
    found = busy_hours([winter, summer], HELSINKI, 3)
    assert found is not None
    assert [(hour, seen.mean, seen.most) for hour, seen in enumerate(found[0]) if seen] == [
        (11, 2.0, 4),
        (12, 2.0, 4),
    ]


def test_in_a_zone_of_half_hours_a_peak_counts_in_both_hours_it_may_belong_to() -> None:
    found = busy_hours([day(0, 3)], KOLKATA, 3)
    assert found is not None
    assert [hour for hour, seen in enumerate(found[0]) if seen] == [14, 15]


@given(
    st.lists(
        st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=24, max_size=24), min_size=1, max_size=16
    ),
    st.sampled_from([HELSINKI, KOLKATA, ZoneInfo("America/St_Johns"), ZoneInfo("UTC")]),
)
@settings(max_examples=30, deadline=None)
def test_busy_hours_equal_a_count_minute_by_minute(hours: list[list[tuple[int, int]]], zone: ZoneInfo) -> None:
    first = date(2028, 3, 20)
    days = [
        replace(
            day(0, 1),
            day=first + timedelta(days=number),
            hours=tuple(peak for peak, _ in of_day),
            hour_users=tuple(users for _, users in of_day),
        )
        for number, of_day in enumerate(hours)
    ]
    begin = datetime(2028, 3, 20, tzinfo=UTC)
    counted: dict[tuple[date, int], int] = {}
    minutes: Counter[tuple[date, int]] = Counter()
    crowded = set()
    full = set()
    for minute in range(len(hours) * 24 * 60):
        local = (begin + timedelta(minutes=minute)).astimezone(zone)
        peak, users = hours[minute // 1440][minute // 60 % 24]
        key = (local.date(), local.hour)
        counted[key] = max(counted.get(key, 0), peak if users >= 3 else 0)
        minutes[key] += 1
        if users >= 3:
            crowded.add((local.weekday(), local.hour))
            full.add(key)
    found = busy_hours(days, zone, 3)
    assert (found is None) is (not crowded)
    for weekday, of_day in enumerate(found or ()):
        for hour, reported in enumerate(of_day):
            assert (reported is not None) is ((weekday, hour) in crowded)
            if reported:
                seen = [
                    peak
                    for (when, at), peak in counted.items()
                    if (when.weekday(), at) == (weekday, hour) and (minutes[when, at] >= 60 or (when, at) in full)
                ]
                assert reported == BusyHour(mean=round(sum(seen) / len(seen), 2), most=max(seen))


FRIDAY = MONDAY + timedelta(days=4)


@pytest.mark.parametrize("small_group", [0, 1, 3])
def test_hours_that_have_not_come_yet_do_not_count_in_the_mean(small_group: int) -> None:
    """On Friday at 7:20 UTC, three people at 19:00 on the one Friday before are a mean of three."""
    evening = day(-3, 3, hours=(*(0,) * 19, 3, *(0,) * 4), hour_users=(*(0,) * 19, 3, *(0,) * 4))
    now = datetime(2028, 3, 3, 7, 20, tzinfo=UTC)
    whole: dict[str, Any] = {
        "first": FRIDAY - timedelta(days=7),
        "last": FRIDAY,
        "newest": FRIDAY,
        "zone": ZoneInfo("UTC"),
        "small_group": small_group,
    }
    found = usage(evening, **whole, as_of=now).busy
    assert found is not None
    assert found[4][19] == BusyHour(mean=3.0, most=3)
    by_evening = usage(evening, **whole, as_of=now.replace(hour=20)).busy
    assert by_evening is not None
    assert by_evening[4][19] == BusyHour(mean=1.5, most=3)


@pytest.mark.parametrize(("begin", "end", "mean"), [(0, 24, 1.0), (10, 24, 1.5), (0, 9, 1.5)])
def test_hours_before_a_license_began_or_after_it_ended_do_not_count_in_the_mean(
    begin: int, end: int, mean: float
) -> None:
    """Three Mondays with 3, 0 and 0 at nine; of the first or the last one, a part is not the license's."""
    since, until = (datetime(2028, 2, 28, tzinfo=UTC), datetime(2028, 3, 13, tzinfo=UTC))
    since, until = since + timedelta(hours=begin), until + timedelta(hours=end)
    worked = day(7, 3)
    found = busy_hours([day(0, 0), worked, day(14, 0)], ZoneInfo("UTC"), 3, since=since, until=until)
    assert found is not None
    assert found[0][9] == BusyHour(mean=mean, most=3)


def test_a_day_that_is_not_over_is_no_working_day_until_all_seats_are_taken() -> None:
    now = datetime(2028, 3, 1, 12, tzinfo=UTC)  # Wednesday
    whole: dict[str, Any] = {"last": now.date(), "newest": now.date(), "as_of": now, "small_group": 0}
    for today, sentence in ((2, "on 1 of 2 working days"), (3, "on 2 of 3 working days")):
        assert sentence in usage(day(0, 3), day(1, 1), day(2, today), **whole).verdict.sentence


def test_a_verdict_is_in_three_languages() -> None:
    found = usage(day(0, 4, denials=2, waits=1, overdraft_seconds=5400), day(5, 3)).verdict
    german, finnish = found.translations["de"], found.translations["fi"]
    assert (found.headline, german.headline, finnish.headline) == (
        *("Seats ran out", "Die Plätze reichten nicht", "Paikat loppuivat"),
    )
    assert german.sentence == (
        "Alle Plätze waren an 1 von 5 Arbeitstagen und an 1 Wochenendtag belegt; "
        "2 Starts wurden abgewiesen, 1 davon nach einer Wartezeit bedient. "
        "Mindestens 5 Plätze wären nötig gewesen. "
        "Die Nutzung über die gekauften Plätze hinaus betrug 1,5 Stunden."
    )
    assert finnish.sentence == (
        "Kaikki paikat olivat käytössä 1 työpäivänä (kaikkiaan 5) ja 1 viikonlopun päivänä; "
        "2 käynnistystä evättiin, joista 1 sai paikan odotettuaan. "
        "Olisi tarvittu vähintään 5 paikkaa. "
        "Ostetut paikat ylittävää käyttöä oli 1,5 tuntia."
    )


def report() -> Report:
    return Report(
        organization=Customer(id="acme", name="Acme Water Oy"),
        first=MONDAY,
        last=MONDAY + timedelta(days=6),
        time_zone=HELSINKI.key,
        small_group=3,
        generated_at=datetime(2028, 3, 6, 4, tzinfo=UTC),
        licenses=(usage(day(0, 3, denials=1)),),
        months=(OrganizationMonth(month="2028-02", users=3),),
    )


def test_the_json_has_the_names_that_the_page_reads() -> None:
    document = json.loads(to_json(report()))
    assert ",".join(document) == "organization,from,to,time_zone,small_group,generated_at,licenses,months,link_until"
    assert (document["from"], document["to"]) == ("2028-02-28", "2028-03-05")
    assert Report.model_validate(document) == report()
    assert [month["month"] for month in document["licenses"][0]["months"]] == ["2028-02", "2028-03"]


@pytest.mark.parametrize(
    ("changes", "kind", "sentence"),
    [
        (
            [{"grace_seconds": 9000, "ran_peak": 4}, {"grace_seconds": 1800, "ran_peak": 3}],
            "floating",
            "Programs ran 3.0 hours beyond their seats while they could not reach the service; "
            "at most 4 ran at once for 3 seats.",
        ),
        (
            [{"grace_seconds": 60, "ran_peak": 1, "seats": 1}, {"ran_peak": 2}],
            "floating",
            "Programs ran 0.1 hours beyond their seats while they could not reach the service; "
            "at most 1 ran at once for 1 seat.",
        ),
        (
            [{"grace_seconds": 3600, "ran_peak": 2}, {}],
            "named-user",
            "Programs ran 1.0 hours beyond their sessions while they could not reach the service; "
            "at most 2 ran at once.",
        ),
        ([{"ran_peak": 7}, {"ran_peak": 2}], "floating", ""),
    ],
)
def test_a_sentence_says_for_how_long_programs_ran_on(changes: list[dict[str, Any]], kind: str, sentence: str) -> None:
    days = [day(number, 2, **each) for number, each in enumerate(changes)]
    ran_on = usage(*days, kind=kind, small_group=0).verdict
    never = [replace(each, grace_seconds=0, ran_peak=0) for each in days]
    before = usage(*never, kind=kind, small_group=0).verdict
    assert ran_on.sentence == f"{before.sentence} {sentence}".strip()
    assert (ran_on.state, ran_on.headline) == (before.state, before.headline)


def test_what_was_heard_too_late_is_the_vendors_and_of_no_day() -> None:
    found = usage(day(0, 4), small_group=0, late_seconds=7200)
    assert found.late_seconds == 7200
    assert found.verdict.sentence.endswith("Another 2.0 hours were told too late to be counted on a day.")
    shown = usage(day(0, 4), late_seconds=7200)
    assert shown.late_seconds is None
    assert "too late" not in shown.verdict.sentence


def test_of_few_people_who_ran_on_a_customer_sees_no_number_of_a_day() -> None:
    few = day(0, 5, grace_seconds=1800, grace_users=2, ran_peak=6)
    many = day(1, 5, grace_seconds=3600, grace_users=3, ran_peak=8)
    small = day(2, 2, ran_peak=4)
    tail = day(3, 0, grace_seconds=7200, grace_users=1, ran_peak=1)
    shown = usage(few, many, small, tail)
    assert [(each.grace_seconds, each.ran_peak) for each in shown.days[:5]] == [
        (None, None),
        (3600, 8),
        (0, None),
        (None, None),
        (0, 0),
    ]
    assert shown.days[0].sessions == 5, "the day's other numbers are many people's"
    assert (
        "Programs ran at least 1.0 hours beyond their seats while they could not reach the service; "
        "at most 8 ran at once for 3 seats."
    ) in shown.verdict.sentence
    assert usage(few).verdict.sentence.endswith(
        "A few programs ran beyond their seats while they could not reach the service."
    )
    all_of_it = usage(few, many, small, tail, small_group=0).verdict.sentence
    assert "Programs ran 3.5 hours beyond their seats" in all_of_it


@pytest.mark.parametrize(("days", "shown"), [(1, (None, None)), (2, (5400, 6))])
def test_a_month_with_a_single_day_of_few_who_ran_on_leaves_out_their_time(
    days: int, shown: tuple[int | None, int | None]
) -> None:
    kept = [day(number - 20, 5, grace_seconds=1800, grace_users=1, ran_peak=6) for number in range(days)]
    month = MonthTotals("2028-02", 5, 9, 5, 36000, 5, None, 0, 0, 0, (), 5400, 6)
    (found,) = usage(*kept, months=[month]).months
    assert (found.grace_seconds, found.ran_peak, found.seat_seconds) == (*shown, 36000)
    (gone,) = usage(*kept, months=[month], oldest=date(2028, 2, 2)).months
    assert (gone.grace_seconds, gone.ran_peak) == (None, None), "its days are no longer all kept"


@pytest.mark.parametrize(
    ("until", "last_day", "ends_in_days", "ended"),
    [
        (datetime(2028, 5, 6, tzinfo=UTC), "2028-05-05", None, False),
        (datetime(2028, 5, 5, tzinfo=UTC), "2028-05-04", 60, False),
        (datetime(2028, 3, 7, 15, 30, tzinfo=UTC), "2028-03-07 15:30 UTC", 1, False),
        (datetime(2028, 3, 6, 1, tzinfo=UTC), "2028-03-06 01:00 UTC", 0, False),
        (datetime(2028, 3, 6, tzinfo=UTC), "2028-03-05", 0, True),
    ],
)
def test_a_report_says_when_a_license_ends_and_counts_the_last_sixty_days(
    until: datetime, last_day: str, ends_in_days: int | None, ended: bool
) -> None:
    found = usage(day(0, 3), state=LicenseState(terms(valid_until=until)), as_of=datetime(2028, 3, 6, tzinfo=UTC))
    assert (found.valid_until, found.last_valid_day) == (until, last_day)
    assert (found.ends_in_days, found.ended) == (ends_in_days, ended)


def test_a_report_says_that_a_license_is_suspended() -> None:
    state = LicenseState(terms())
    assert [usage(day(0, 3), state=each).suspended for each in (state, replace(state, status=Status.SUSPENDED))] == [
        False,
        True,
    ]


def test_the_csv_has_a_row_for_each_day_and_month_and_stable_columns() -> None:
    rows = list(csv.DictReader(to_csv(report()).splitlines()))
    assert ",".join(rows[0]) == (
        "organization,license,product,kind,seats,day,sessions,users,hosts,seat_seconds,peak,peak_at,"
        "denials,waits,overdraft_seconds,month,day_seats,grace_seconds,ran_peak,"
        "sizing_seats,sizing_hours,hours_short,sizing_starts,starts_short"
    )
    assert [bool(row["day"]) for row in rows] == [True] * 7 + [False] * 3
    assert [row["month"] for row in rows] == [""] * 7 + ["2028-02", "2028-03", ""]
    assert (rows[0]["day"], rows[0]["peak"], rows[0]["peak_at"]) == (
        "2028-02-28",
        "3",
        "2028-02-28T09:00:00Z",
    )
    assert (rows[1]["peak"], rows[1]["peak_at"]) == ("0", "")
    assert [(row["seats"], row["day_seats"]) for row in rows] == [("3", "3")] * 7 + [("3", "")] * 3
    *others, sizing = ([row[name] for name in list(row)[-5:]] for row in rows)
    assert others == [[""] * 5] * 9
    assert sizing == ["3", "1", "0", "", ""]


def test_no_text_of_the_csv_is_a_formula() -> None:
    named = usage(day(0, 3)).model_copy(update={"id": "+1", "product": "=HYPERLINK(1)"})
    organization = report().organization.model_copy(update={"id": "@acme"})
    changed = report().model_copy(update={"licenses": (named,), "organization": organization})
    for row in csv.DictReader(to_csv(changed).splitlines()):
        assert (row["organization"], row["license"], row["product"]) == ("'@acme", "'+1", "'=HYPERLINK(1)")


def test_the_csv_has_an_empty_cell_where_the_json_has_null() -> None:
    of_days = usage(day(0, 3), day(1, 1), months=[MONTH, MonthTotals("2027-01", 2)])
    changed = report().model_copy(update={"licenses": (of_days,)})
    rows = list(csv.DictReader(to_csv(changed).splitlines()))
    (of_json,) = json.loads(to_json(changed))["licenses"]
    *rows, _ = rows  # the last is about a number of seats
    for row, totals in zip(rows, [*of_json["days"], *of_json["months"]], strict=True):
        if "seats" in totals:
            totals["day_seats"] = totals.pop("seats")
        assert {name: row[name] for name in totals} == {
            name: "" if number is None else str(number) for name, number in totals.items()
        }
    assert [name for name, cell in rows[7].items() if cell] == [
        *("organization", "license", "product", "kind", "seats", "users", "month")
    ]


def test_a_license_that_is_not_recorded_is_not_said_to_be_unused() -> None:
    assert verdict([], 0, recorded=False).state is State.UNRECORDED
    assert verdict(reported(day(0, 1), seats=0), 0, recorded=False).state is State.NO_SEATS
