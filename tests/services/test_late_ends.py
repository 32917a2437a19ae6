"""Programs tell afterwards until when they ran: days count it once, in time, beside corrections and erasures."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from licensing.crypto.tokens import Lease
from licensing.rules.billing import Rounding, to_csv, to_json
from licensing.rules.license import Billing, Kind
from licensing.rules.requests import End, Start
from licensing.services.late_ends import CALLS, LateEnds
from licensing.services.privacy import Privacy
from licensing.services.retention import run_retention
from licensing.services.sweep import sweep_license
from licensing.services.totals import aggregate_license
from licensing.storage import register as rows
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Table, Tables, Write
from tests.factories import host_hash, lease_of, new_license_id, new_session_id, user_hash
from tests.office import HOUR, Office
from tests.register_rows import PastLicense
from tests.stores import Counted

DAY, MINUTE, MOMENT = timedelta(days=1), timedelta(minutes=1), timedelta.resolution
TEN = datetime(2026, 9, 30, 10, tzinfo=UTC)
SEPTEMBER, OCTOBER = TEN.date(), date(2026, 10, 1)
GRACE = 2 * DAY
HOW: dict[str, Any] = {"billing": Billing.TIME, "grace_seconds": int(GRACE.total_seconds())}
CLOSES = datetime(2026, 10, 1, tzinfo=UTC) + GRACE + 4 * DAY
"""From then on, what is heard of September's last day is late."""


class Branch(Office):
    """An office whose programs lose their way to the service."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.license = new_license_id()

    def late_ends(self, tables: Tables | None = None) -> LateEnds:
        register = Register(tables or self.tables)
        return LateEnds(register, Ledger(register, self.clock), self.clock)

    async def cut_off(self, user: str = "ann", at: datetime = TEN, **how: Any) -> Lease:
        """A program starts, is not heard of again, and has lapsed: it ended as it began."""
        self.clock.now = at
        session = await self.begin(self.license, user, **{**HOW, **how})
        self.clock.now = at + HOUR
        assert await sweep_license(Register(self.tables), self.ledger, self.license, self.clock.now) == 1
        return lease_of(self.license, session, at)

    async def grace(self, day: date) -> tuple[int, int, int]:
        """What the totals of a day say of programs that ran on."""
        columns = await self.day(self.license, day)
        return columns.get("grace_seconds", 0), columns.get("grace_users", 0), columns.get("ran_peak", 0)

    async def late(self) -> dict[str, int]:
        return await Register(self.tables).late_seconds(self.license)

    async def tail(self) -> dict[str, Any]:
        """The ended row's columns about when its program stopped."""
        ((_, columns),) = (await self.held(self.license)).ended.items()
        return {name: columns[name] for name in ("ran_until", "late_until") if name in columns}


@pytest.fixture
def branch(tables: Tables) -> Branch:
    return Branch(tables)


# What a day gains.


async def test_a_program_that_ran_on_over_the_end_of_a_month_is_counted_on_each_day(branch: Branch) -> None:
    lease = await branch.cut_off()
    branch.clock.now = datetime(2026, 10, 2, 3, tzinfo=UTC)
    await branch.night()
    before = await branch.day(branch.license, SEPTEMBER)
    await branch.late_ends().hear(lease, TEN + DAY)
    assert await branch.day(branch.license, SEPTEMBER) == before, "a night counts it"
    branch.clock.now += DAY
    await branch.night()
    assert await branch.grace(SEPTEMBER) == (14 * 3600, 1, 1)
    assert await branch.grace(OCTOBER) == (10 * 3600, 1, 1)
    after = await branch.day(branch.license, SEPTEMBER)
    assert {name: after[name] for name in before if name != "ran_peak"} == {
        name: before[name] for name in before if name != "ran_peak"
    }
    assert after["seat_seconds"][0] == 0
    month = await branch.month(branch.license, "2026-09")
    assert (month["grace_seconds"][0], month["ran_peak"], month["seat_seconds"][0]) == (14 * 3600, 1, 0)
    branch.clock.now = datetime(2026, 11, 2, 3, tzinfo=UTC)
    await branch.night()
    october = await branch.month(branch.license, "2026-10")
    assert (october["grace_seconds"][0], october["sessions"]) == (10 * 3600, 0), "of a month without a session, too"


async def test_what_is_said_twice_out_of_order_and_by_two_processes_at_once_counts_once(branch: Branch) -> None:
    lease = await branch.cut_off()
    branch.clock.now = TEN + 8 * HOUR
    for hours in (3, 3, 2, 4, 1):
        await branch.late_ends().hear(lease, TEN + hours * HOUR)
    await asyncio.gather(*(branch.late_ends().hear(lease, TEN + hours * HOUR) for hours in (5, 7, 6, 7)))
    assert await branch.tail() == {"ran_until": TEN + 7 * HOUR}
    for _ in range(3):
        branch.clock.now += DAY
        await branch.night()
        assert await branch.grace(SEPTEMBER) == (7 * 3600, 1, 1)


@pytest.mark.parametrize(
    ("says", "now", "counts"),
    [
        (TEN + 90 * DAY, TEN + 5 * HOUR, TEN + 5 * HOUR),
        (TEN + 90 * DAY, TEN + 3 * DAY, TEN + 15 * MINUTE + GRACE),
        (TEN - DAY, TEN + 3 * DAY, None),
        (TEN, TEN + 3 * DAY, None),
    ],
    ids=["to now", "to the lease and its grace", "before the end", "at the end"],
)
async def test_what_a_program_says_is_cut(branch: Branch, says: datetime, now: datetime, counts: datetime) -> None:
    lease = await branch.cut_off()
    branch.clock.now = now
    await branch.late_ends().hear(lease, says)
    assert await branch.tail() == ({"ran_until": counts} if counts else {})


async def test_a_session_that_is_still_active_is_ended_first(branch: Branch) -> None:
    branch.clock.now = TEN
    session = await branch.begin(branch.license, "ann", **HOW)
    branch.clock.now = TEN + 5 * MINUTE
    await branch.late_ends().hear(lease_of(branch.license, session, TEN), TEN + 90 * DAY)
    seen = await branch.held(branch.license)
    assert not seen.active
    assert seen.state["in_use"] == 0
    assert seen.ended[session]["ended_at"] == TEN + 5 * MINUTE


async def test_two_programs_on_one_seat_for_a_time_are_a_peak_of_one_and_two_that_ran(branch: Branch) -> None:
    lease = await branch.cut_off("ann", seats=1)
    await branch.use(branch.license, "ben", 2, **HOW, seats=1)
    branch.clock.now = TEN + 10 * HOUR
    await branch.late_ends().hear(lease, TEN + 6 * HOUR)
    branch.clock.now += DAY
    await branch.night()
    day = await branch.day(branch.license, SEPTEMBER)
    assert (day["peak"], day["ran_peak"], day["seat_seconds"][0], day["grace_seconds"]) == (1, 2, 7200, 6 * 3600)


# The edges of the time in which it is heard.


@pytest.mark.parametrize("late", [False, True])
async def test_the_last_moment_counts_on_its_day_and_the_next_one_is_late(branch: Branch, late: bool) -> None:
    lease = await branch.cut_off()
    branch.clock.now = TEN + DAY
    await branch.late_ends().hear(lease, TEN + HOUR)
    await branch.night()
    branch.clock.now = CLOSES if late else CLOSES - MOMENT
    for _ in range(2):
        await branch.late_ends().hear(lease, TEN + 4 * HOUR)
    assert await branch.late() == ({"2026-10": 3 * 3600} if late else {})
    assert await branch.tail() == (
        {"ran_until": TEN + HOUR, "late_until": TEN + 4 * HOUR} if late else {"ran_until": TEN + 4 * HOUR}
    )
    branch.clock.now = CLOSES + 3 * HOUR
    await branch.night()
    hours = 1 if late else 4
    assert await branch.grace(SEPTEMBER) == (hours * 3600, 1, 1)
    assert (await branch.month(branch.license, "2026-09"))["grace_seconds"][0] == hours * 3600


async def test_a_night_that_comes_four_days_late_counts_and_after_that_a_day_stays(branch: Branch) -> None:
    lease = await branch.cut_off()
    branch.clock.now = CLOSES - MOMENT
    await branch.late_ends().hear(lease, TEN + HOUR)
    branch.clock.now = CLOSES + 4 * DAY - MINUTE
    await branch.night()
    day = await branch.day(branch.license, SEPTEMBER)
    assert day["grace_seconds"] == 3600
    session = lease.session_id
    await branch.privacy.correct_end(branch.wanted("ann"), session, TEN + 10 * MINUTE)
    branch.clock.now += DAY
    await branch.night()
    after = await branch.day(branch.license, SEPTEMBER)
    assert (after["seat_seconds"][0], after["grace_seconds"]) == (600, 3600), "it is closed"


async def test_late_seconds_add_up_in_the_month_of_hearing_for_a_year(branch: Branch) -> None:
    leases = [await branch.cut_off(user, TEN + number * HOUR) for number, user in enumerate(("ann", "ben"))]
    for now, hours in ((CLOSES, 1), (CLOSES + 40 * DAY, 2)):
        branch.clock.now = now
        await asyncio.gather(*(branch.late_ends().hear(each, each.issued_at + hours * HOUR) for each in leases))
    assert await branch.late() == {"2026-10": 7200, "2026-11": 7200}
    branch.clock.now = datetime(2027, 10, 1, 3, tzinfo=UTC)
    await branch.night()
    assert await branch.late() == {"2026-11": 7200}


# Beside corrections, erasures and retention.


class Meanwhile(Tables):
    """A store in which something happens before the first write to an ended row's own columns."""

    def __init__(self, tables: Tables, happens: Callable[[], Awaitable[object]]) -> None:
        super().__init__(tables._service, tables._pipeline)
        self.happens: Callable[[], Awaitable[object]] | None = happens

    async def commit(self, table: Table, partition: str, writes: Sequence[Write]) -> list[str]:
        happens = self.happens
        if happens and any(write.key.startswith(rows.ENDED) and write.verb != "create" for write in writes):
            self.happens = None
            await happens()
        return await super().commit(table, partition, writes)


async def test_a_program_whose_session_is_erased_or_deleted_meanwhile_is_answered_all_the_same(branch: Branch) -> None:
    lease = await branch.cut_off()
    branch.clock.now = TEN + DAY
    await branch.night()
    erased = Meanwhile(branch.tables, lambda: branch.privacy.erase(branch.wanted("ann")))
    await branch.late_ends(erased).hear(lease, TEN + HOUR)
    await branch.late_ends().hear(lease, TEN + HOUR)
    assert not (await branch.held(branch.license)).ended
    other = await branch.cut_off("ben", TEN + 2 * DAY)
    branch.clock.now = other.issued_at.replace(year=2027) + DAY
    await branch.late_ends(Meanwhile(branch.tables, branch.night)).hear(other, other.issued_at + HOUR)
    assert not (await branch.held(branch.license)).ended
    assert await branch.late() == {}, "nothing is late of what is gone"


async def test_a_slow_report_does_not_undo_a_later_time_that_is_heard_meanwhile(branch: Branch) -> None:
    lease = await branch.cut_off()
    branch.clock.now = TEN + DAY
    meanwhile = Meanwhile(branch.tables, lambda: branch.late_ends().hear(lease, TEN + 3 * HOUR))
    await branch.late_ends(meanwhile).hear(lease, TEN + 2 * HOUR)
    assert await branch.tail() == {"ran_until": TEN + 3 * HOUR}


async def test_what_a_replacing_start_says_of_its_predecessor_is_counted_by_the_night(branch: Branch) -> None:
    branch.clock.now = TEN
    crashed = await branch.begin(branch.license, "ann", **HOW)
    branch.clock.now = TEN + 5 * HOUR
    persons = branch.peppers.persons(branch.organization, user_hash("ann"), host_hash("pc"), None)
    again = Start(new_session_id(), branch.terms(**HOW), persons, replaces=crashed, ran_until=TEN + 2 * HOUR)
    await branch.ledger.submit(branch.license, again)
    branch.clock.forward(600)
    await branch.ledger.submit(branch.license, End(again.session_id))
    branch.clock.now = TEN + DAY
    await branch.night()
    day = await branch.day(branch.license, SEPTEMBER)
    assert (day["seat_seconds"][0], day["grace_seconds"], day["ran_peak"]) == (600, 7200, 1)


async def test_a_program_that_tells_during_an_erasure_does_not_save_its_session(branch: Branch) -> None:
    lease = await branch.cut_off()
    branch.clock.now = TEN + DAY
    tells = Meanwhile(branch.tables, lambda: branch.late_ends().hear(lease, TEN + HOUR))
    privacy = Privacy(Register(tells), Ledger(Register(tells), branch.clock), branch.peppers, branch.clock)
    assert (await privacy.erase(branch.wanted("ann"))).deleted == 1
    assert not (await branch.held(branch.license)).ended


async def test_a_correction_meanwhile_keeps_what_is_heard_and_moves_its_beginning(branch: Branch) -> None:
    lease = await branch.cut_off()
    branch.clock.now = TEN + DAY
    to = TEN + 10 * MINUTE
    corrects = Meanwhile(branch.tables, lambda: branch.privacy.correct_end(branch.wanted("ann"), lease.session_id, to))
    await branch.late_ends(corrects).hear(lease, TEN + HOUR)
    await branch.night()
    day = await branch.day(branch.license, SEPTEMBER)
    assert (day["seat_seconds"][0], day["grace_seconds"]) == (600, 3000)
    await branch.privacy.correct_end(branch.wanted("ann"), lease.session_id, TEN + 5 * MINUTE)
    kept = await branch.day(branch.license, SEPTEMBER)
    assert (kept["seat_seconds"][0], kept["grace_seconds"], kept["ran_peak"]) == (300, 3000, 1)
    branch.clock.now += DAY
    await branch.night()
    day = await branch.day(branch.license, SEPTEMBER)
    assert (day["seat_seconds"][0], day["grace_seconds"]) == (300, 3300), "together they are the time for which it ran"


@pytest.mark.parametrize("final", [True, False])
async def test_an_erasure_lowers_nothing_and_what_others_tell_later_is_added(branch: Branch, final: bool) -> None:
    if not final:
        branch.clock.now = TEN
        await branch.begin(branch.license, "cem", lease_seconds=60 * 86400, **HOW)  # silent: it holds the day open
    anns = await branch.cut_off("ann", TEN + HOUR, serial=2)
    bens = await branch.cut_off("ben", TEN + 2 * HOUR, serial=2)
    branch.clock.now = TEN + DAY
    if final:
        await branch.night()
    await branch.late_ends().hear(anns, anns.issued_at + 5 * HOUR)
    await branch.late_ends().hear(bens, bens.issued_at + HOUR)
    await branch.privacy.erase(branch.wanted("ann"))
    grace = await branch.grace(SEPTEMBER)
    assert grace[:2] == (6 * 3600, 2)
    assert (await branch.day(branch.license, SEPTEMBER))["erased_grace"] == 5 * 3600
    await branch.night()
    assert await branch.grace(SEPTEMBER) == grace
    branch.clock.now = TEN + 2 * DAY
    await branch.late_ends().hear(bens, bens.issued_at + 3 * HOUR)
    await branch.night()
    assert (await branch.grace(SEPTEMBER))[:2] == (8 * 3600, 2)
    branch.clock.now = CLOSES + 5 * DAY
    await branch.night()
    day = await branch.day(branch.license, SEPTEMBER)
    assert (day["grace_seconds"], "erased_grace" in day) == (8 * 3600, False), "it is closed"


async def test_a_correction_that_has_read_a_day_before_a_night_counted_its_tails_does_not_undo_them(
    branch: Branch,
) -> None:
    lease = await branch.cut_off()
    branch.clock.now = TEN + DAY
    await branch.night()
    await branch.late_ends().hear(lease, TEN + HOUR)
    night = Meanwhile(branch.tables, branch.night)
    privacy = Privacy(Register(night), Ledger(Register(night), branch.clock), branch.peppers, branch.clock)
    await privacy.correct_end(branch.wanted("ann"), lease.session_id, TEN + 10 * MINUTE)
    day = await branch.day(branch.license, SEPTEMBER)
    assert (day["seat_seconds"][0], day["grace_seconds"]) == (600, 3600)


async def test_a_closed_statement_and_what_is_final_stay_as_they_are(branch: Branch) -> None:
    lease = await branch.cut_off()
    await branch.use(branch.license, "ben", 3, **HOW)
    await branch.use(branch.license, "ben", 1, **{**HOW, "serial": 2, "project": "Beta"})
    branch.clock.now = TEN + DAY
    await branch.night()

    async def printed() -> list[str]:
        made = [await branch.statement("2026-09", each) for each in Rounding]
        assert all(each.closed for each in made)
        return [text(each) for each in made for text in (to_csv, to_json)]

    before, day = await printed(), await branch.day(branch.license, SEPTEMBER)
    await branch.late_ends().hear(lease, TEN + 20 * HOUR)
    branch.clock.now += DAY
    await branch.night()
    assert await printed() == before
    after = await branch.day(branch.license, SEPTEMBER)
    assert {name: after[name] for name in after if after[name] != day.get(name)} == {
        "grace_seconds": 14 * 3600,
        "grace_users": 1,
        "ran_peak": 2,
    }


async def test_a_day_on_which_programs_only_ran_on_gives_a_statement_no_line(branch: Branch) -> None:
    lease = await branch.cut_off(project="Beta")
    branch.clock.now = TEN + 2 * DAY
    await branch.use(branch.license, "ben", 1, **{**HOW, "serial": 2, "project": "Delta"})
    branch.clock.now = TEN + 3 * DAY
    await branch.night()
    before = to_csv(await branch.statement("2026-10"))
    assert ("Delta" in before, "Beta" in before) == (True, False)
    await branch.late_ends().hear(lease, TEN + DAY)
    await branch.night()
    assert (await branch.day(branch.license, OCTOBER))["project"] == "Beta"
    assert to_csv(await branch.statement("2026-10")) == before


async def test_of_a_small_group_nothing_of_it_outlives_the_year(branch: Branch) -> None:
    lease = await branch.cut_off()
    branch.clock.now = TEN + DAY
    await branch.late_ends().hear(lease, TEN + HOUR)
    await branch.night()
    assert "grace_seconds" in await branch.month(branch.license, "2026-09")
    branch.clock.now = datetime(2027, 9, 2, 3, tzinfo=UTC)
    await branch.night()
    assert await branch.month(branch.license, "2026-09") == {"users": 1}


async def test_a_run_as_of_a_past_moment_and_a_dry_run_change_nothing(branch: Branch) -> None:
    lease = await branch.cut_off()
    branch.clock.now = TEN + 3 * DAY
    await branch.late_ends().hear(lease, TEN + 30 * HOUR)
    await branch.night()
    days = [await branch.day(branch.license, day) for day in (SEPTEMBER, OCTOBER)]
    register = Register(branch.tables)
    for as_of in (TEN + HOUR, TEN + DAY, TEN + 2 * DAY):
        await run_retention(register, branch.ledger, as_of, 3)
    await run_retention(register, branch.ledger, branch.clock.now + 300 * DAY, 3, dry_run=True)
    assert [await branch.day(branch.license, day) for day in (SEPTEMBER, OCTOBER)] == days


async def test_after_an_opt_out_nothing_more_is_collected(branch: Branch) -> None:
    lease = await branch.cut_off(kind=Kind.NAMED_USER)
    await branch.privacy.opt_out(branch.license, erase=False)
    branch.clock.now = TEN + DAY
    await branch.late_ends().hear(lease, TEN + HOUR)
    assert await branch.tail() == {}


# The session's row.


async def test_a_program_that_crashed_at_once_is_found_though_its_lease_was_issued_after_its_end(
    branch: Branch,
) -> None:
    lease = await branch.cut_off(at=TEN - timedelta(milliseconds=100))
    await branch.late_ends().hear(lease.model_copy(update={"issued_at": TEN + timedelta(seconds=9)}), TEN + HOUR / 2)
    assert await branch.tail() == {"ran_until": TEN + HOUR / 2}


async def test_of_a_session_id_that_came_again_the_use_of_the_lease_is_meant(branch: Branch) -> None:
    session = new_session_id()
    for minutes in (0, 30, 60):
        branch.clock.now = TEN + minutes * MINUTE
        await branch.begin(branch.license, "ann", session=session, **HOW)
        branch.clock.forward(5)
        await branch.ledger.submit(branch.license, End(session))
    branch.clock.now = TEN + DAY
    await branch.late_ends().hear(lease_of(branch.license, session, TEN + 30 * MINUTE), TEN + 45 * MINUTE)
    found = branch.tables.rows("register", branch.license, rows.ENDED, rows.beyond(rows.ENDED))
    assert [row.columns.get("ran_until") is not None async for row in found] == [False, True, False]


async def test_it_is_looked_for_in_one_page_and_a_borrowed_one_also_at_its_leases_end(tables: Tables) -> None:
    clock = Branch(tables).clock
    past = PastLicense()
    for number in range(1100):
        past.ended(TEN - HOUR, TEN + number * MINUTE)
    late, borrowed = new_session_id(), new_session_id()
    past.ended(TEN, TEN + 19 * HOUR, session_id=late)
    past.ended(TEN, TEN + 20 * HOUR, session_id=borrowed, borrowed=True)
    await past.write(tables)
    clock.now = TEN + 2 * DAY
    store = Counted(tables)
    late_ends = LateEnds(Register(store), Ledger(Register(store), clock), clock)
    await late_ends.hear(lease_of(past.id, late, TEN), TEN + 30 * HOUR)
    assert "commit register" not in store.calls, "a thousand others ended since its lease was issued"
    assert len([call for call in store.calls if call.startswith("range")]) == 1
    lease = lease_of(past.id, borrowed, TEN, expires_at=TEN + 20 * HOUR, borrowed=True)
    await late_ends.hear(lease, TEN + 30 * HOUR)
    assert store.calls.count("commit register") == 1


async def test_a_report_takes_few_storage_calls_however_much_else_there_is(branch: Branch) -> None:
    store = Counted(branch.tables)

    async def calls(lease: Lease, ran_until: datetime) -> int:
        store.calls.clear()
        await branch.late_ends(store).hear(lease, ran_until)
        return len(store.calls)

    unknown = lease_of(new_license_id(), new_session_id(), TEN)
    assert await calls(unknown, TEN + HOUR) == 1
    lease = await branch.cut_off()
    assert await calls(lease, TEN + HOUR) == 5
    assert await calls(lease, TEN + HOUR) == 4, "told twice"
    session = await branch.begin(branch.license, "ann", **HOW)
    running = lease_of(branch.license, session, branch.clock.now)
    branch.clock.forward(60)
    assert await calls(running, branch.clock.now) <= 6
    borrowed = await branch.cut_off("ben", TEN + 5 * HOUR)
    branch.clock.now = CLOSES + DAY
    assert await calls(lease, TEN + 2 * HOUR) == 6
    most = await calls(borrowed.model_copy(update={"borrowed": True, "expires_at": TEN + DAY}), TEN + 12 * HOUR)
    assert most <= CALLS


async def test_a_night_reads_again_only_sessions_of_days_that_have_gained_something(branch: Branch) -> None:
    lease = await branch.cut_off()
    branch.clock.now = TEN + DAY
    await branch.night()

    async def ranges() -> list[str]:
        branch.clock.now += DAY
        store = Counted(branch.tables)
        await aggregate_license(Register(store), branch.license, branch.clock.now)
        return [call for call in store.calls if call.startswith(f"range {rows.ENDED}")]

    again = f"range {rows.ended_key(datetime(2026, 9, 30, tzinfo=UTC), '')}"
    quiet = await ranges()
    assert again not in quiet
    await branch.late_ends().hear(lease, TEN + 2 * HOUR)
    gained = await ranges()
    assert (gained.count(again), len(gained)) == (1, len(quiet) + 1)


# What a person is shown.


async def test_an_export_says_until_when_a_program_ran(branch: Branch) -> None:
    lease = await branch.cut_off()
    branch.clock.now = CLOSES - HOUR
    await branch.late_ends().hear(lease, TEN + HOUR)
    branch.clock.now = CLOSES
    await branch.late_ends().hear(lease, TEN + 2 * HOUR)
    (shown,) = (await branch.privacy.export(branch.wanted("ann"))).sessions
    assert (shown.ended_at, shown.ran_until, shown.late_until) == (TEN, TEN + HOUR, TEN + 2 * HOUR)
