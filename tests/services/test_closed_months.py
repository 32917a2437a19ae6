"""A closed month changes only by a correction, and only by what the correction changed; an erasure never lowers it."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from licensing.rules.billing import Line, Rounding, to_csv, to_json
from licensing.rules.license import Billing, Kind, Sharing
from licensing.services.retention import Details, run_retention
from licensing.services.totals import aggregate_license, mark_final, save_totals
from licensing.storage import register as rows
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests.factories import new_license_id, new_session_id, user_hash
from tests.office import HOUR, Office
from tests.stores import Counted

DAY = timedelta(days=1)
FIRST = datetime(2026, 9, 1, 8, tzinfo=UTC)
OCTOBER = datetime(2026, 10, 1, 8, tzinfo=UTC)
NOVEMBER = datetime(2026, 11, 3, 3, tzinfo=UTC)


@dataclass
class Closed:
    """A license billed by time: ann used it for an hour in September, ben for ten in October; both months are final."""

    office: Office
    license: str
    anns: str
    bens: str

    async def october(self, rounding: Rounding = Rounding.EXACT) -> Line:
        return (await self.office.statement("2026-10", rounding)).lines[0]


async def closed_months(tables: Tables, **how: Any) -> Closed:
    office, license_id = Office(tables), new_license_id()
    how = {"billing": Billing.TIME, **how}
    office.clock.now = FIRST
    anns = await office.use(license_id, "ann", **how)
    office.clock.now = OCTOBER
    bens = await office.use(license_id, "ben", 10, **how)
    office.clock.now = NOVEMBER
    await office.night()
    closed = Closed(office, license_id, anns, bens)
    assert_ten_hours(await closed.october())
    return closed


def assert_ten_hours(line: Line) -> None:
    assert (line.billed_hours, line.sessions, line.active_days, line.closed) == (Decimal("10.0000"), 1, 1, True)


# A correction takes nobody else's hours.


async def test_the_correction_of_one_persons_end_leaves_an_erased_persons_hours_in_a_closed_month(
    tables: Tables,
) -> None:
    closed = await closed_months(tables)
    privacy, office = closed.office.privacy, closed.office
    await privacy.erase(office.wanted("ben"))
    for _ in range(2):
        for rounding in Rounding:
            assert_ten_hours(await closed.october(rounding))
        done = await privacy.correct_end(office.wanted("ann"), closed.anns, FIRST + HOUR - timedelta(seconds=1))
        assert done.corrected == 1
    await office.night()
    for rounding in Rounding:
        assert_ten_hours(await closed.october(rounding))
    (september,) = (await office.statement("2026-09")).lines
    assert (september.seat_seconds, september.closed) == (3599, True)


async def test_a_move_leaves_an_erased_persons_hours_in_a_closed_month(tables: Tables) -> None:
    closed = await closed_months(tables)
    await closed.office.privacy.erase(closed.office.wanted("ben"))
    await closed.office.privacy.move(closed.office.wanted("ann"), user_hash("eve"))
    await closed.office.night()
    assert_ten_hours(await closed.october())


async def test_a_correction_and_an_erasure_before_the_night_leave_the_erased_persons_hours(tables: Tables) -> None:
    closed = await closed_months(tables)
    office = closed.office
    await office.privacy.correct_end(office.wanted("ann"), closed.anns, FIRST + HOUR / 2)
    await office.privacy.erase(office.wanted("ben"))
    await office.night()
    assert_ten_hours(await closed.october())


async def test_retention_as_of_a_past_moment_does_not_move_finality_back(tables: Tables) -> None:
    closed = await closed_months(tables)
    office, register = closed.office, Register(closed.office.tables)
    await office.privacy.erase(office.wanted("ben"))
    before = await register.totals_state(closed.license)
    assert before
    for as_of in (NOVEMBER - 10 * DAY, OCTOBER + HOUR, FIRST - DAY):
        await run_retention(register, office.ledger, as_of, 3)
        after = await register.totals_state(closed.license)
        assert after
        assert after.final_day == before.final_day == date(2026, 11, 2)
    await office.night()
    assert_ten_hours(await closed.october())


async def test_a_final_day_that_lost_sessions_changes_by_the_difference_and_keeps_its_peaks(tables: Tables) -> None:
    closed = await closed_months(tables)
    office = closed.office
    office.clock.now = OCTOBER + 40 * DAY
    anns = await office.begin(closed.license, "ann", billing=Billing.TIME)
    cems = await office.begin(closed.license, "cem", billing=Billing.TIME)
    office.clock.forward(3 * 3600)
    for session in (anns, cems):
        await office.end(closed.license, session)
    day = office.clock.now.date()
    office.clock.forward(86400)
    await office.night()
    before = await office.day(closed.license, day)
    assert (before["peak"], before["users"], before["seat_seconds"][0]) == (2, 2, 6 * 3600)
    assert "erased" not in before
    await office.privacy.erase(office.wanted("cem"))
    assert await office.day(closed.license, day) == {**before, "erased": True}
    await office.privacy.correct_end(office.wanted("ann"), anns, office.clock.now - DAY - 2 * HOUR)
    after = await office.day(closed.license, day)
    assert (after["peak"], after["users"], after["seat_seconds"][0]) == (2, 2, 4 * 3600), "two hours were taken off"
    assert after["hours"] == before["hours"]
    await office.night()
    assert await office.day(closed.license, day) == after


def in_minutes(within: int) -> str:
    """The column of a month that is not billed."""
    return f'[{{"billing":"none","project":"","within":{within},"overdraft":0}}]'


async def test_a_final_month_that_lost_sessions_changes_by_the_difference_and_keeps_its_people(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = FIRST
    sessions = {user: await office.begin(license_id, user) for user in ("ann", "ben", "cem")}
    office.clock.forward(3600)
    for session in sessions.values():
        await office.end(license_id, session)
    office.clock.now = NOVEMBER
    await office.night()
    before = await office.month(license_id, "2026-09")
    assert (before["users"], before["hosts"], before["peak"], before["minutes"]) == (3, 1, 3, in_minutes(180))
    await office.privacy.erase(office.wanted("ben"))
    assert await office.month(license_id, "2026-09") == before
    await office.privacy.correct_end(office.wanted("ann"), sessions["ann"], FIRST + HOUR / 2)
    after = await office.month(license_id, "2026-09")
    assert after == {**before, "seat_seconds": (9000, before["seat_seconds"][1]), "minutes": in_minutes(150)}


async def test_only_days_that_a_corrected_session_touched_are_made_again(tables: Tables) -> None:
    closed = await closed_months(tables)
    office = closed.office
    october = await office.columns("register", closed.license, rows.day_key(OCTOBER.date()))
    september = await office.columns("register", closed.license, rows.day_key(FIRST.date()))
    assert "corrected_at" not in {**october, **september}
    await office.privacy.correct_end(office.wanted("ann"), closed.anns, FIRST + HOUR / 2)
    assert await office.columns("register", closed.license, rows.day_key(OCTOBER.date())) == october
    changed = await office.columns("register", closed.license, rows.day_key(FIRST.date()))
    assert (changed["seat_seconds"][0], changed["corrected_at"]) == (1800, NOVEMBER)


async def test_a_correction_costs_calls_by_what_it_touches(tables: Tables) -> None:
    closed = await closed_months(tables)
    office = closed.office
    store = Counted(office.tables)
    privacy = type(office.privacy)(Register(store), Ledger(Register(store), office.clock), office.peppers, office.clock)
    store.calls.clear()
    await privacy.correct_end(closed.office.wanted("ann"), closed.anns, FIRST + HOUR / 2)
    assert store.calls.count("commit register") == 1, "the session and its totals, in one transaction"


# A statement names corrections, and else stays as it was to the byte.


async def test_a_statement_names_a_correction_after_its_month_was_final(tables: Tables) -> None:
    closed = await closed_months(tables)
    office = closed.office
    assert (await closed.october()).corrected == ""
    await office.privacy.correct_end(office.wanted("ben"), closed.bens, OCTOBER + 9 * HOUR)
    line = await closed.october()
    assert (line.billed_hours, line.corrected, line.closed) == (Decimal("9.0000"), "2026-11-03", True)
    assert "2026-11-03" in to_csv(await office.statement("2026-10"))
    (september,) = (await office.statement("2026-09")).lines
    assert september.corrected == "", "it was not touched"


async def renewed(closed: Closed, serial: int, **changes: Any) -> None:
    """A renewed license file is used for the first time."""
    await closed.office.use(closed.license, "ann", 0.1, serial=serial, **changes)


async def test_a_closed_statement_is_the_same_bytes_after_renewals_and_erasures(tables: Tables) -> None:
    project = {"billing": Billing.PROJECT, "project": "Beta"}
    closed = await closed_months(tables, **project)
    office = closed.office

    async def printed() -> list[str]:
        made = [await office.statement(month, each) for month in ("2026-09", "2026-10") for each in Rounding]
        return [text(each) for each in made for text in (to_csv, to_json)]

    before = await printed()
    assert all("Beta" in text for text in before)
    await renewed(closed, 2, billing=Billing.PROJECT, project="Delta", product="Fluidit Water 2")
    assert await printed() == before
    await renewed(closed, 3, billing=Billing.NONE)
    assert await printed() == before
    await office.privacy.erase(office.wanted("ben"))
    office.clock.forward(40 * 86400)
    await office.night()
    assert await printed() == before


async def test_a_day_is_billed_by_the_terms_of_its_end_though_they_changed_before_the_night(tables: Tables) -> None:
    closed = await closed_months(tables)
    office = closed.office
    noon = office.clock.now = datetime(2026, 11, 20, 12, tzinfo=UTC)
    await renewed(closed, 2, billing=Billing.PROJECT, project="Beta", seats=5)
    office.clock.now = noon + DAY
    await renewed(closed, 3, billing=Billing.PROJECT, project="Delta", seats=10)
    office.clock.now = noon + 5 * DAY
    await office.night()
    days = [await office.day(closed.license, noon.date() + number * DAY) for number in range(2)]
    assert [(day["billing"], day["project"]) for day in days] == [("project", "Beta"), ("project", "Delta")]
    assert [day["seats"] for day in days] == [50, 10], "the most seats of the day"
    lines = (await office.statement("2026-11")).lines
    assert [(line.line, line.project, line.active_days, line.sessions) for line in lines] == [
        ("license", "Beta", 1, 1),
        ("license", "Delta", 1, 1),
        ("project", "Beta", 1, 1),
        ("project", "Delta", 1, 1),
    ]


async def test_minutes_of_a_month_in_which_the_project_changed_stay_after_an_erasure(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = FIRST + 14 * HOUR
    how: dict[str, Any] = {"billing": Billing.PROJECT, "project": "Beta"}
    anns = await office.use(license_id, "ann", 3.01, **how)  # across midnight
    await office.use(license_id, "ben", 1.01, **{**how, "project": "Delta", "serial": 2})
    office.clock.now = OCTOBER + DAY
    await office.night()
    before = to_csv(await office.statement("2026-09", Rounding.MINUTE))
    hours = {
        line.project: line.billed_hours
        for line in (await office.statement("2026-09", Rounding.MINUTE)).lines
        if line.line == "license"
    }
    # Two hours on the first day; on the second, two stays of an hour and a minute begun.
    assert hours == {"Beta": Decimal("2.0000"), "Delta": Decimal("2.0333")}
    await office.privacy.erase(office.wanted("ben"))
    assert to_csv(await office.statement("2026-09", Rounding.MINUTE)) == before
    done = await office.privacy.correct_end(office.wanted("ann"), anns, FIRST + 16.5 * HOUR)
    assert done.months == ("2026-09",)
    lines = (await office.statement("2026-09", Rounding.MINUTE)).lines
    shorter = {line.project: (line.billed_hours, line.closed) for line in lines if line.line == "license"}
    assert shorter == {"Beta": (Decimal("2.0000"), True), "Delta": (Decimal("1.5167"), True)}


async def test_a_month_before_a_license_was_used_has_no_line_of_it(tables: Tables) -> None:
    closed = await closed_months(tables)
    before = to_csv(await closed.office.statement("2026-10"))
    await closed.office.use(new_license_id(), "dan", billing=Billing.TIME)
    assert to_csv(await closed.office.statement("2026-10")) == before


async def test_lines_of_a_project_add_up_to_its_sum(tables: Tables) -> None:
    office = Office(tables)
    office.clock.now = FIRST
    for _ in range(3):
        await office.use(new_license_id(), "ann", 10 / 3600, billing=Billing.PROJECT, project="Beta")
    office.clock.now = OCTOBER
    await office.night()
    *licenses, project = (await office.statement("2026-09")).lines
    assert [line.billed_hours for line in licenses] == [Decimal("0.0028")] * 3
    assert project.billed_hours == Decimal("0.0084"), "10 s are 0.00277… h: rounded, they come to more than 30 s"
    assert project.sessions == sum(line.sessions for line in licenses)


# A silent program with a long lease.


async def test_an_erasure_leaves_a_month_long_over_its_hours_though_a_long_lease_holds_it_open(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    how: dict[str, Any] = {"billing": Billing.TIME, "lease_seconds": 60 * 86400}
    office.clock.now = FIRST
    await office.begin(license_id, "cem", **how)
    await office.use(license_id, "ann", 2, **how)
    await office.use(license_id, "ben", 6, **how)
    office.clock.now = OCTOBER + 4 * DAY
    await office.night()
    (line,) = (await office.statement("2026-09")).lines
    assert not line.closed, "it may turn out to have fallen silent at its start"
    both = 8 * 3600

    async def hours_of_first() -> int:
        return int((await office.day(license_id, FIRST.date()))["seat_seconds"][0]) - 16 * 3600

    assert await hours_of_first() == both, "besides sixteen hours of the silent one"
    erased = await office.privacy.erase(office.wanted("ben"))
    assert erased.deleted == 1
    await office.night()
    assert await hours_of_first() == both
    office.clock.now = FIRST + 61 * DAY
    await office.night()  # the silent one has lapsed, and ended at its start
    (line,) = (await office.statement("2026-09")).lines
    assert (line.billed_hours, line.sessions, line.closed) == (Decimal("8.0000"), 3, True)
    day = await office.day(license_id, FIRST.date())
    assert day["erased"]
    assert "erased_part" not in day, "once final, nothing tells what the erased one gave"


async def test_an_erasure_before_the_first_night_leaves_days_that_are_over_their_hours(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = FIRST
    await office.use(license_id, "ann", 3, billing=Billing.TIME)
    office.clock.forward(86400)
    await office.privacy.erase(office.wanted("ann"))
    (line,) = (await office.statement("2026-09")).lines
    assert (line.billed_hours, line.sessions) == (Decimal("3.0000"), 1)
    office.clock.now = OCTOBER
    await office.night()
    (line,) = (await office.statement("2026-09")).lines
    assert (line.billed_hours, line.sessions, line.closed) == (Decimal("3.0000"), 1, True)


async def test_an_erasure_between_a_months_end_and_the_night_leaves_its_statement_as_it_was(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = FIRST
    for user in ("ann", "ben", "cem"):
        await office.use(license_id, user, 3.01, billing=Billing.TIME)
    office.clock.now = OCTOBER

    async def printed() -> list[str]:
        return [to_csv(await office.statement("2026-09", each)) for each in Rounding]

    before = await printed()
    assert all(line.closed for line in (await office.statement("2026-09", Rounding.MINUTE)).lines)
    await office.privacy.erase(office.wanted("ann"))
    assert await printed() == before
    await office.night()
    assert await printed() == before
    assert (await office.month(license_id, "2026-09"))["users"] == 3
    assert await office.people("2026-09") == 3


async def test_an_erasure_takes_more_sessions_than_a_transaction_has_room_for(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    how: dict[str, Any] = {"billing": Billing.TIME, "lease_seconds": 90 * 86400}
    office.clock.now = FIRST
    await office.begin(license_id, "cem", **how)
    for number in range(130):
        office.clock.now = FIRST + number * 5 * HOUR
        await office.use(license_id, "ann", 1, **how)
    office.clock.forward(86400)
    assert (await office.privacy.erase(office.wanted("ann"))).deleted == 130
    office.clock.now = FIRST + 91 * DAY
    await office.night()
    (line,) = (await office.statement("2026-09")).lines
    assert (line.billed_hours, line.sessions) == (Decimal("130.0000"), 131)


# Moves.


async def test_stays_at_the_same_time_under_two_peppers_are_one_stay_after_a_move(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    how: dict[str, Any] = {"billing": Billing.TIME, "sharing": Sharing.USER}
    office.clock.now = FIRST
    hers = await office.begin(license_id, "ann", pepper="old", **how)
    office.clock.forward(3600)
    wrong = await office.begin(license_id, "anne", **how)  # a colleague's login, after a rotation
    office.clock.forward(3600)
    for session in (hers, wrong):
        await office.end(license_id, session)
    office.clock.now = OCTOBER + DAY
    await office.night()
    (line,) = (await office.statement("2026-09")).lines
    assert line.seat_seconds == 3 * 3600
    await office.privacy.move(office.wanted("anne"), user_hash("ann"))
    for rounding in Rounding:
        (line,) = (await office.statement("2026-09", rounding)).lines
        assert (line.seat_seconds, line.billed_hours) == (2 * 3600, Decimal("2.0000")), "one seat for two hours"


# What outlives the year.


async def test_a_rotation_of_the_pepper_does_not_make_two_people_four(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = FIRST
    for pepper in ("old", "new"):
        for user in ("ann", "ben"):
            await office.use(license_id, user, pepper=pepper)
    office.clock.now = OCTOBER
    await office.night()
    assert (await office.month(license_id, "2026-09"))["users"] == 2
    assert (await office.day(license_id, FIRST.date()))["users"] == 2
    assert await office.people("2026-09") == 2
    office.clock.now = FIRST.replace(year=2027, hour=3)
    await office.night()
    assert await office.month(license_id, "2026-09") == {"users": 2}


@pytest.mark.parametrize("people", [2, 3])
async def test_a_month_is_reduced_when_the_first_of_its_sessions_goes(tables: Tables, people: int) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = FIRST
    for number in range(people):
        await office.use(license_id, f"user-{number}")
    office.clock.now = OCTOBER
    await office.night()
    whole = await office.month(license_id, "2026-09")
    assert whole["peak_at"] == FIRST
    office.clock.now = datetime(2027, 8, 31, 23, tzinfo=UTC)
    await office.night()
    assert await office.month(license_id, "2026-09") == whole, "all of its sessions are there"
    office.clock.now = datetime(2027, 9, 1, 3, tzinfo=UTC)
    await office.night()
    kept = await office.month(license_id, "2026-09")
    assert "peak_at" not in kept, "no hour outlives the year"
    assert kept == ({"users": 2} if people < 3 else {name: whole[name] for name in whole if name != "peak_at"})


async def test_the_dry_run_tells_what_the_run_then_does(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = FIRST
    await office.begin(license_id, "ann")  # falls silent, and no sweep comes
    await office.use(license_id, "ben")
    office.clock.now = FIRST.replace(year=2027, month=10)

    async def run(*, dry_run: bool) -> tuple[int, list[tuple[str, str]]]:
        register, details = Register(office.tables), Details()
        result = await run_retention(register, office.ledger, office.clock(), 3, dry_run=dry_run, details=details)
        return result.deleted, details.reduced

    would = await run(dry_run=True)
    assert would == (2, [(license_id, "2026-09")])
    assert await run(dry_run=False) == would


# An export after a correction.


async def test_after_a_corrected_end_the_export_shows_no_later_heartbeat(tables: Tables) -> None:
    office, license_id, session = Office(tables), new_license_id(), new_session_id()
    office.clock.now = FIRST
    await office.begin(license_id, "ann", session=session, kind=Kind.NAMED_USER)
    office.clock.forward(3600)
    office.clock.now = FIRST + 2 * HOUR
    await office.end(license_id, session)
    await office.privacy.correct_end(office.wanted("ann"), session, FIRST)
    (shown,) = (await office.privacy.export(office.wanted("ann"))).sessions
    assert shown.ended_at == FIRST
    assert shown.heartbeat_at <= FIRST


# Two runs at once.


async def test_a_slow_run_overwrites_nothing_that_a_later_one_has_made_final(tables: Tables) -> None:
    office, license_id = Office(tables), new_license_id()
    office.clock.now = FIRST
    await office.begin(license_id, "ann", lease_seconds=3 * 86400)
    office.clock.now = FIRST + DAY
    register = Register(office.tables)
    slow = await aggregate_license(register, license_id, office.clock())
    office.clock.now = FIRST + 4 * DAY
    await office.night()  # it has lapsed, and ended as it began
    day, state = await office.day(license_id, FIRST.date()), await register.totals_state(license_id)
    assert (day["seat_seconds"][0], day["sessions"]) == (0, 1)
    await save_totals(register, license_id, slow)
    await mark_final(register, license_id, slow)
    assert await office.day(license_id, FIRST.date()) == day
    after = await register.totals_state(license_id)
    assert after
    assert state
    assert after.final_day == state.final_day == (FIRST + 3 * DAY).date()
