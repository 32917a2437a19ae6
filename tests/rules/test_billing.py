"""Statements: equal to the day totals they come from, and to a count by hand."""

import csv
import json
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from licensing.rules.billing import (
    COLUMNS,
    Account,
    Line,
    Rounding,
    Statement,
    agree,
    bounds,
    checksum,
    minutes_of_days,
    statement,
    to_csv,
    to_json,
)
from licensing.rules.totals import DayTotals, Minutes, MonthAggregate, aggregate_day
from licensing.rules.usage import Use
from tests.reference import ReferenceTotals, by_day

FEBRUARY, MARCH = datetime(2028, 2, 1, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def day(number: int, seat_seconds: int = 3600, overdraft_seconds: int = 0, sessions: int = 1) -> DayTotals:
    return DayTotals(
        date(2028, 2, number), sessions, 1, 1, seat_seconds, 1, FEBRUARY, (1,) * 24, 0, 0, overdraft_seconds
    )


def account(
    license_id: str, *days: DayTotals, billing: str = "time", project: str = "", final_before: datetime = MARCH
) -> Account:
    return Account(
        "acme", license_id, "Fluidit Water", project, billing, sum(d.sessions for d in days), days, final_before
    )


def only_line(of: Statement) -> Line:
    (line,) = of.lines
    return line


def use(session_id: str, started_at: datetime, length: timedelta, holder: str, overdraft: bool = False) -> Use:
    return Use(session_id, started_at, started_at + length, "ann", "desk", holder, overdraft)


def minutes(uses: list[Use], month: str, as_of: datetime) -> Minutes:
    """The minutes of all days of a month."""
    begin, end = bounds(month)
    return minutes_of_days(uses, [begin.date() + timedelta(days=n) for n in range((end - begin).days)], as_of)


def test_time_is_the_sum_of_the_days_with_overdraft_apart() -> None:
    line = only_line(statement("2028-02", [account("water", day(1, 7200, 1800), day(29, 900))], Rounding.EXACT, MARCH))
    assert (line.seat_seconds, line.overdraft_seconds) == (8100, 1800)
    assert (line.billed_hours, line.overdraft_hours) == (Decimal("1.7500"), Decimal("0.5000"))
    assert (line.active_days, line.sessions) == (2, 2)


def test_a_day_without_use_is_not_an_active_day() -> None:
    line = only_line(statement("2028-02", [account("water", day(1, 0, 0, sessions=0))], Rounding.EXACT, MARCH))
    assert line.active_days == 0


def test_a_project_is_the_sum_of_its_licenses_over_distinct_days() -> None:
    accounts = [
        account("sewer", day(1), day(2), billing="project", project="Harbour"),
        account("water", day(2), day(3), billing="project", project="Harbour"),
        account("heat", day(9), billing="project", project="Bridge"),
        account("plain", day(1), billing="time", project="Harbour"),
    ]
    lines = statement("2028-02", accounts, Rounding.EXACT, MARCH).lines
    assert [(line.line, line.project, line.license, line.active_days, line.seat_seconds) for line in lines] == [
        ("license", "Bridge", "heat", 1, 3600),
        ("license", "Harbour", "plain", 1, 3600),
        ("license", "Harbour", "sewer", 2, 7200),
        ("license", "Harbour", "water", 2, 7200),
        ("project", "Bridge", "heat", 1, 3600),
        ("project", "Harbour", "sewer water", 3, 14400),
    ]


def test_the_same_project_name_at_two_customers_is_two_projects() -> None:
    mine = account("water", day(1), billing="project", project="Harbour")
    lines = statement("2028-02", [mine, replace(mine, organization_id="other")], Rounding.EXACT, MARCH).lines
    assert [(line.organization, line.line) for line in lines] == [
        ("acme", "license"),
        ("acme", "project"),
        ("other", "license"),
        ("other", "project"),
    ]


@pytest.mark.parametrize(("final_before", "closed"), [(MARCH - SECOND, False), (MARCH, True)])
def test_a_month_whose_totals_can_still_change_says_so_in_every_format(final_before: datetime, closed: bool) -> None:
    made = statement("2028-02", [account("water", day(1), final_before=final_before)], Rounding.EXACT, MARCH + SECOND)
    assert made.closed is closed
    assert next(csv.DictReader(to_csv(made).splitlines()))["closed"] == str(closed).lower()
    assert json.loads(to_json(made))["closed"] is closed
    assert json.loads(to_json(made))["lines"][0]["closed"] is closed


def test_a_statement_is_closed_when_all_of_its_lines_are() -> None:
    early, late = account("water", day(1), final_before=MARCH - SECOND), account("heat", day(1))
    made = statement("2028-02", [early, late], Rounding.EXACT, MARCH + SECOND)
    assert {line.license: line.closed for line in made.lines} == {"water": False, "heat": True}
    assert not made.closed
    assert statement("2028-02", [], Rounding.EXACT, MARCH).closed
    assert not statement("2028-02", [], Rounding.EXACT, MARCH - SECOND).closed


def test_a_minute_begun_is_billed_for_each_session() -> None:
    uses = [use("s1", FEBRUARY, SECOND, "s1"), use("s2", FEBRUARY, 61 * SECOND, "s2")]
    assert minutes(uses, "2028-02", MARCH) == Minutes(3, 0)


def test_sessions_that_overlap_on_a_shared_seat_are_billed_once() -> None:
    uses = [use("s1", FEBRUARY, 90 * SECOND, "h"), use("s2", FEBRUARY + 60 * SECOND, 60 * SECOND, "h")]
    assert minutes(uses, "2028-02", MARCH) == Minutes(2, 0)


def test_a_session_that_held_no_time_is_billed_none() -> None:
    assert minutes([use("s", FEBRUARY, timedelta(), "s")], "2028-02", MARCH) == Minutes(0, 0)


def test_a_session_across_two_months_is_billed_in_each_for_its_part() -> None:
    uses = [use("s", MARCH - 61 * SECOND, 62 * SECOND, "s", overdraft=True)]
    assert minutes(uses, "2028-02", MARCH) == Minutes(0, 2)
    assert minutes(uses, "2028-03", MARCH + timedelta(days=1)) == Minutes(0, 1)


def test_minutes_are_billed_in_place_of_seconds_but_the_seconds_stay_those_of_the_totals() -> None:
    rounded = replace(account("water", day(1, 61, 1)), minutes=Minutes(2, 1))
    line = only_line(statement("2028-02", [rounded], Rounding.MINUTE, MARCH))
    assert (line.seat_seconds, line.overdraft_seconds) == (61, 1)
    assert (line.billed_hours, line.overdraft_hours) == (Decimal("0.0333"), Decimal("0.0167"))


def test_minutes_that_are_no_longer_known_are_billed_neither_as_nothing_nor_as_what_is_left() -> None:
    whole = replace(account("water", day(1), billing="project", project="Harbour"), minutes=Minutes(60, 0))
    made = statement("2028-02", [whole, replace(whole, license_id="sewer", minutes=None)], Rounding.MINUTE, MARCH)
    found = {line.license: (line.closed, line.billed_hours, line.overdraft_hours) for line in made.lines}
    assert found == {
        "water": (True, Decimal(1), Decimal(0)),
        "sewer": (False, None, None),
        "sewer water": (False, None, None),
    }
    assert not made.closed
    assert [line.seat_seconds for line in made.lines] == [3600, 3600, 7200]
    assert [row["billed_hours"] for row in csv.DictReader(to_csv(made).splitlines())] == ["", "1.0000", ""]
    assert [line["billed_hours"] for line in json.loads(to_json(made))["lines"]] == [None, 1, None]


def test_a_day_of_another_month_is_an_error() -> None:
    with pytest.raises(ValueError, match="2028-02-01 is not a day of 2028-03"):
        statement("2028-03", [account("water", day(1))], Rounding.EXACT, MARCH)


def test_february_of_a_leap_year_has_29_days_and_december_ends_in_the_next_year() -> None:
    assert bounds("2028-02") == (FEBRUARY, FEBRUARY + timedelta(days=29))
    assert bounds("2027-12")[1] == datetime(2028, 1, 1, tzinfo=UTC)


def test_the_columns_stay_as_they_are() -> None:
    assert ",".join(COLUMNS) == (
        "line,month,closed,organization,license,product,project,billing,rounding,active_days,sessions,"
        "seat_seconds,overdraft_seconds,billed_hours,overdraft_hours,corrected"
    )


def test_csv_and_json_tell_the_same_and_bear_the_same_checksum() -> None:
    named = replace(account("water", day(1), day(2, 1)), product='Water, "Pro"\nÄ')
    made = statement("2028-02", [named], Rounding.EXACT, MARCH)
    rows = to_csv(made)
    document = json.loads(to_json(made))
    assert document["sha256"] == checksum(made) == sha256(rows.encode()).hexdigest()
    (row,) = csv.DictReader(rows.splitlines(keepends=True))
    (line,) = document["lines"]
    assert row.keys() == line.keys()
    for column, cell in row.items():
        found = cell if isinstance(line[column], str) else json.loads(cell)
        assert found == line[column], column


def test_a_changed_number_changes_the_checksum() -> None:
    made = [statement("2028-02", [account("water", day(1, n))], Rounding.EXACT, MARCH) for n in (3600, 3601)]
    assert len({checksum(each) for each in made}) == 2


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\t=1", "\r=1", "\n=1"])
def test_no_text_of_a_statement_is_a_formula_and_the_checksum_is_over_what_is_written(text: str) -> None:
    named = replace(account("water", day(1), billing="project", project=text), product=text, organization_id=text)
    made = statement("2028-02", [named], Rounding.EXACT, MARCH)
    sheet = to_csv(made)
    assert sheet.count(text) == sheet.count(f"'{text}") == 5  # of the license three, of the project two
    assert checksum(made) == sha256(sheet.encode()).hexdigest()
    assert json.loads(to_json(made))["lines"][0]["project"] == text


@given(
    st.lists(
        st.tuples(st.integers(-2 * 3600, 2 * 3600), st.integers(0, 3 * 3600), st.sampled_from("abc"), st.booleans()),
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_a_statement_of_any_sessions_equals_the_count_second_by_second(
    made: list[tuple[int, int, str, bool]],
) -> None:
    uses = [
        use(f"s{n}", MARCH + start * SECOND, length * SECOND, holder, over)
        for n, (start, length, holder, over) in enumerate(made)
    ]
    as_of = MARCH + timedelta(days=31)
    reference = ReferenceTotals(uses, [], as_of)
    counted = reference.month("2028-03")
    month, days = MonthAggregate("2028-03"), []
    for each, of_day in by_day(uses, date(2028, 3, 1), date(2028, 3, 2)):
        aggregated = aggregate_day(each, of_day, (), as_of)
        month.add(aggregated)
        days.append(aggregated.totals)
    sessions = month.totals().sessions
    assert sessions is not None
    bill = Account("acme", "water", "Water", "", "time", sessions, tuple(days), as_of, minutes(uses, "2028-03", as_of))
    exact = only_line(statement("2028-03", [bill], Rounding.EXACT, as_of))
    assert exact.sessions == counted["sessions"]
    assert exact.seat_seconds == counted["seat_seconds"]
    assert exact.overdraft_seconds == counted["overdraft_seconds"]
    assert bill.minutes == minutes_counted(reference, MARCH)
    assert agree(uses, days, "2028-03", as_of)
    for gone in uses:
        left = [each for each in uses if each is not gone]
        assert agree(left, days, "2028-03", as_of) is not gone.touches(MARCH, as_of, as_of)


def minutes_counted(reference: ReferenceTotals, begin: datetime) -> Minutes:
    """Follow each holder from second to second; each time it changes to or from overdraft is a new stay."""
    stays: list[tuple[bool, int]] = []
    for holder in {holder for holders in reference.held.values() for holder in holders}:
        before: bool | None = None
        for now in range(reference.ticks(begin), max(reference.held) + 1):
            overdraft = reference.held.get(now, {}).get(holder)
            if overdraft is None:
                pass
            elif overdraft is before:
                stays[-1] = (overdraft, stays[-1][1] + 1)
            else:
                stays.append((overdraft, 1))
            before = overdraft
    within, beyond = (sum(-(-length // 60) for over, length in stays if over is which) for which in (False, True))
    return Minutes(within, beyond)
