"""What a report says: the verdict, the busy hours in their own time, and nobody's working hours."""

import csv
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensing.rules.license import Kind
from licensing.rules.report import (
    Customer,
    LicenseUsage,
    OrganizationMonth,
    Report,
    State,
    busy_hours,
    license_usage,
    to_csv,
    to_json,
    verdict,
)
from licensing.rules.totals import DayTotals, MonthTotals
from tests.factories import terms

MONDAY = date(2028, 2, 28)
HELSINKI, KOLKATA = ZoneInfo("Europe/Helsinki"), ZoneInfo("Asia/Kolkata")


def day(number: int, peak: int, **changes: Any) -> DayTotals:
    """The day `number` days after a Monday, with its peak from 9 to 10 UTC."""
    when = MONDAY + timedelta(days=number)
    hours = tuple(peak if hour == 9 else 0 for hour in range(24))
    peak_at = datetime(when.year, when.month, when.day, 9, tzinfo=UTC) if peak else None
    made = DayTotals(when, peak, peak, peak, 3600 * peak, peak, peak_at, hours, 0, 0, 0)
    return replace(made, **changes)


def usage(*days: DayTotals, kind: str = "floating", zone: ZoneInfo = HELSINKI) -> LicenseUsage:
    return license_usage(
        "water",
        terms(kind=Kind(kind), overdraft=1),
        days,
        [MonthTotals("2028-03", 2), MonthTotals("2028-02", 2)],
        first=MONDAY,
        last=MONDAY + timedelta(days=6),
        zone=zone,
        small_group=3,
    )


@pytest.mark.parametrize(
    ("days", "seats", "state", "sentence"),
    [
        (
            [day(0, 2), day(1, 1)],
            3,
            State.ENOUGH,
            "At most 2 of the 3 seats were taken at once; no start was refused.",
        ),
        (
            [day(0, 3), day(1, 1)],
            3,
            State.TIGHT,
            "The seats were all taken on 1 of 2 working days; no start was refused.",
        ),
        (
            [day(0, 3, denials=5), day(1, 3), day(2, 1)],
            3,
            State.SHORT,
            "The seats were all taken on 2 of 3 working days; 5 starts were refused.",
        ),
        (
            [day(0, 3, denials=5, waits=2), day(5, 3)],
            3,
            State.SHORT,
            "The seats were all taken on 1 of 1 working day and on 1 weekend day; "
            "5 starts were refused, 2 of them served within 15 minutes.",
        ),
        (
            [day(0, 4, denials=1, waits=1, overdraft_seconds=5400)],
            3,
            State.SHORT,
            "The seats were all taken on 1 of 1 working day; "
            "1 start was refused, but served within 15 minutes. "
            "Use beyond the seats bought came to 1.5 hours.",
        ),
        (
            [day(0, 1), day(1, 0)],
            1,
            State.ENOUGH,
            "The one seat was taken on 1 of 2 working days; no start was refused.",
        ),
        (
            [day(0, 2), day(5, 3)],
            3,
            State.TIGHT,
            "The seats were all taken on 1 weekend day; no start was refused.",
        ),
        ([day(0, 0), day(1, 0)], 3, State.IDLE, "Nobody used this license in this time."),
        ([], 3, State.IDLE, "Nobody used this license in this time."),
        ([day(0, 1)], 0, State.NO_SEATS, "This license takes no seats. At most 1 session ran at once."),
    ],
)
def test_one_sentence_says_whether_the_seats_suffice(
    days: list[DayTotals], seats: int, state: State, sentence: str
) -> None:
    assert (verdict(days, seats).state, verdict(days, seats).sentence) == (state, sentence)


def test_a_license_that_does_not_float_is_not_measured_against_seats() -> None:
    assert usage(day(0, 3), kind="named-user").verdict.state is State.NO_SEATS


def test_days_without_totals_had_no_use_but_still_are_working_days() -> None:
    reported = usage(day(1, 3))
    assert [day.day.day for day in reported.days] == [28, 29, 1, 2, 3, 4, 5]
    assert [day.peak for day in reported.days] == [0, 3, 0, 0, 0, 0, 0]
    assert "on 1 of 5 working days" in reported.verdict.sentence


def test_nobodys_hours_are_reported_where_few_people_were_active() -> None:
    few = usage(day(0, 3, users=2), day(1, 1, users=1))
    assert few.busy is None
    assert {day.peak_at for day in few.days} == {None}
    enough = usage(day(0, 3, users=3), day(1, 1, users=1))
    assert enough.busy is not None
    assert [day.peak_at is None for day in enough.days[:2]] == [False, True]


def test_hours_move_to_the_customers_time_zone_with_its_summer_time() -> None:
    """9 UTC is 11 in Helsinki on Monday 20 March 2028 and, after 26 March, 12 on Monday 27 March."""
    winter, summer = (replace(day(0, 4), day=date(2028, 3, each)) for each in (20, 27))
    monday = busy_hours([winter, summer], HELSINKI)[0]
    assert [(hour, seen.mean, seen.most) for hour, seen in enumerate(monday) if seen.most] == [
        (11, 2.0, 4),
        (12, 2.0, 4),
    ]


def test_in_a_zone_of_half_hours_a_peak_counts_in_both_hours_it_may_belong_to() -> None:
    monday = busy_hours([day(0, 2)], KOLKATA)[0]
    assert [hour for hour, seen in enumerate(monday) if seen.most] == [14, 15]


@given(
    st.lists(st.lists(st.integers(0, 5), min_size=24, max_size=24), min_size=1, max_size=16),
    st.sampled_from([HELSINKI, KOLKATA, ZoneInfo("America/St_Johns"), ZoneInfo("UTC")]),
)
@settings(max_examples=30, deadline=None)
def test_busy_hours_equal_a_count_minute_by_minute(peaks: list[list[int]], zone: ZoneInfo) -> None:
    first = date(2028, 3, 20)
    days = [
        replace(day(0, 1), day=first + timedelta(days=number), hours=tuple(hours)) for number, hours in enumerate(peaks)
    ]
    begin = datetime(2028, 3, 20, tzinfo=UTC)
    counted: dict[tuple[date, int], int] = {}
    for minute in range(len(peaks) * 24 * 60):
        local = (begin + timedelta(minutes=minute)).astimezone(zone)
        key = (local.date(), local.hour)
        counted[key] = max(counted.get(key, 0), peaks[minute // 1440][minute // 60 % 24])
    for weekday, hours in enumerate(busy_hours(days, zone)):
        for hour, reported in enumerate(hours):
            seen = [peak for (when, at), peak in counted.items() if (when.weekday(), at) == (weekday, hour)]
            assert reported.most == max(seen, default=0)
            assert reported.mean == (round(sum(seen) / len(seen), 2) if seen else 0)


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
    assert ",".join(document) == "organization,from,to,time_zone,small_group,generated_at,licenses,months"
    assert (document["from"], document["to"]) == ("2028-02-28", "2028-03-05")
    assert Report.model_validate(document) == report()
    assert [month["month"] for month in document["licenses"][0]["months"]] == ["2028-02", "2028-03"]


def test_the_csv_has_a_row_for_each_day_and_month_and_stable_columns() -> None:
    rows = list(csv.DictReader(to_csv(report()).splitlines()))
    assert ",".join(rows[0]) == (
        "organization,license,product,kind,seats,day,sessions,users,hosts,seat_seconds,peak,peak_at,"
        "denials,waits,overdraft_seconds,month"
    )
    assert [bool(row["day"]) for row in rows] == [True] * 7 + [False] * 2
    assert [row["month"] for row in rows] == [""] * 7 + ["2028-02", "2028-03"]
    assert (rows[0]["day"], rows[0]["peak"], rows[0]["peak_at"]) == (
        "2028-02-28",
        "3",
        "2028-02-28T09:00:00Z",
    )
    assert (rows[1]["peak"], rows[1]["peak_at"]) == ("0", "")


def test_no_text_of_the_csv_is_a_formula() -> None:
    named = usage(day(0, 3)).model_copy(update={"id": "+1", "product": "=HYPERLINK(1)"})
    organization = report().organization.model_copy(update={"id": "@acme"})
    changed = report().model_copy(update={"licenses": (named,), "organization": organization})
    for row in csv.DictReader(to_csv(changed).splitlines()):
        assert (row["organization"], row["license"], row["product"]) == ("'@acme", "'+1", "'=HYPERLINK(1)")


def test_of_a_small_groups_month_the_csv_tells_only_what_the_json_does() -> None:
    license_ = usage(day(0, 3))
    full = MonthTotals("2028-02", 3, 9, 2, 7200, 3, datetime(2028, 2, 28, 9, tzinfo=UTC), 1, 1, 60)
    few = MonthTotals("2027-01", 2)
    changed = report().model_copy(update={"licenses": (license_.model_copy(update={"months": (few, full)}),)})
    *_, kept, whole = csv.DictReader(to_csv(changed).splitlines())
    (of_json,) = json.loads(to_json(changed))["licenses"]
    for row, month in zip((kept, whole), of_json["months"], strict=True):
        assert {name: row[name] for name in month} == {
            name: "" if number is None else str(number) for name, number in month.items()
        }
    assert [name for name, cell in kept.items() if cell] == [
        *("organization", "license", "product", "kind", "seats", "users", "month")
    ]
    assert (whole["seats"], whole["peak_at"]) == ("3", "2028-02-28T09:00:00Z")


def test_the_hour_of_a_months_peak_is_reported_only_where_enough_people_were_active_that_day() -> None:
    months = [
        MonthTotals("2028-02", 9, peak=3, peak_at=datetime(2028, 2, 28, 9, tzinfo=UTC)),
        MonthTotals("2028-03", 9, peak=3, peak_at=datetime(2028, 3, 1, 9, tzinfo=UTC)),
    ]
    reported = license_usage(
        "water",
        terms(),
        [day(0, 3), day(2, 2)],
        months,
        first=MONDAY,
        last=MONDAY + timedelta(days=6),
        zone=HELSINKI,
        small_group=3,
    )
    assert [month.peak_at for month in reported.months] == [months[0].peak_at, None]
    assert [month.peak for month in reported.months] == [3, 3]


def test_a_license_that_is_not_recorded_is_not_said_to_be_unused() -> None:
    assert verdict([], 0, recorded=False).state is State.UNRECORDED
    assert verdict([day(0, 1)], 0, recorded=False).state is State.NO_SEATS
