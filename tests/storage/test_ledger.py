"""The ledger on a real store: what it promises, and each way in which a commit can lose (design, section 5)."""

import asyncio
from collections import Counter
from datetime import timedelta

import pytest

from licensing.errors import UnavailableError
from licensing.rules.license import Kind, Refusal, Sharing
from licensing.rules.model import EndReason, LicenseState, Session
from licensing.rules.requests import End, Ended, ForeignSession, Full, Granted, Lapse, Outcome, Refused, Request
from licensing.storage import register as rows
from licensing.storage.ledger import Heartbeat, Ledger
from licensing.storage.register import Register
from licensing.storage.tables import TRANSACTION_ROWS, Tables, merge
from tests.factories import Clock, new_license_id, new_session_id, person, start, terms
from tests.register_rows import look
from tests.stores import Counted, OwnTables, ledgers, own_tables


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def granted(ledger: Ledger, license_id: str, session_id: str, **changes: object) -> Granted:
    outcome = (await ledger.submit(license_id, start(session_id, terms(), **changes))).outcome  # type: ignore[arg-type]
    assert isinstance(outcome, Granted)
    return outcome


async def test_a_license_needs_no_registration(tables: Tables, clock: Clock) -> None:
    license_id, session_id = new_license_id(), new_session_id()
    decision = await Ledger(Register(tables), clock).submit(license_id, start(session_id, terms()))
    assert isinstance(decision.outcome, Granted)
    seen = await look(tables, license_id)
    assert seen.state["in_use"] == 1
    assert seen.active.keys() == {session_id}
    assert await tables.get("directory", "acme", f"license:{license_id}") is not None
    organization = await tables.get("directory", "acme", "organization")
    assert organization is not None
    assert organization.columns["name"] == "Acme Water Oy"


async def test_three_hundred_starts_on_an_unknown_license_read_it_once(tables: Tables, clock: Clock) -> None:
    store, license_id, bought = Counted(tables), new_license_id(), terms(seats=225)
    ledger = Ledger(Register(store), clock)
    decision = await asyncio.gather(*(ledger.submit(license_id, start(new_session_id(), bought)) for _ in range(300)))
    assert Counter(type(each.outcome) for each in decision) == {Granted: 225, Full: 75}
    assert store.calls[:3] == ["get license", "commit directory", "commit register"]
    granting = store.calls[: store.calls.index("get license", 1)]
    assert granting.count("commit register") <= 3, "the rest of the reads only confirm that the license is full"
    assert len(store.calls) <= 15
    seen = await look(tables, license_id)
    seen.check()
    assert len(seen.active) == 225
    assert len(seen.denied) == 75


async def test_a_lone_start_on_a_cached_license_is_one_call(tables: Tables, clock: Clock) -> None:
    store, license_id = Counted(tables), new_license_id()
    ledger = Ledger(Register(store), clock)
    await granted(ledger, license_id, new_session_id())
    store.calls.clear()
    await granted(ledger, license_id, new_session_id())
    assert store.calls == ["commit register"]


async def test_a_session_of_ten_heartbeats_takes_thirteen_calls(tables: Tables, clock: Clock) -> None:
    store, license_id, session_id = Counted(tables), new_license_id(), new_session_id()
    await granted(Ledger(Register(tables), clock), license_id, new_session_id())
    ledger = Ledger(Register(store), clock)
    await granted(ledger, license_id, session_id)
    for _ in range(10):
        clock.forward(300)
        assert await ledger.heartbeat(license_id, Heartbeat(session_id, clock(), clock() + timedelta(seconds=900)))
    await ledger.submit(license_id, End(session_id))
    assert len(store.calls) == 13


async def test_another_process_changed_the_state(tables: Tables, clock: Clock) -> None:
    license_id = new_license_id()
    ours, theirs = ledgers(tables, clock, 2)
    await granted(ours, license_id, new_session_id())
    await granted(theirs, license_id, new_session_id())
    await granted(ours, license_id, new_session_id())
    seen = await look(tables, license_id)
    seen.check()
    assert seen.state["in_use"] == 3


async def test_nobody_is_refused_for_a_seat_that_another_process_has_freed(tables: Tables, clock: Clock) -> None:
    license_id, leaving = new_license_id(), new_session_id()
    ours, theirs = ledgers(tables, clock, 2)
    for session in (leaving, new_session_id(), new_session_id()):
        await granted(ours, license_id, session)
    await theirs.submit(license_id, End(leaving))
    await granted(ours, license_id, new_session_id())
    (await look(tables, license_id)).check()


async def test_a_full_license_denies_and_keeps_one_row_for_the_whole_wait(tables: Tables, clock: Clock) -> None:
    license_id, waiting = new_license_id(), new_session_id()
    first, second = ledgers(tables, clock, 2)
    for _ in range(3):
        await granted(first, license_id, new_session_id())
    for seconds, ledger in ((0, first), (30, first), (60, second)):
        clock.forward(seconds)
        outcome = (await ledger.submit(license_id, start(waiting, terms()))).outcome
        assert isinstance(outcome, Full)
        assert 10 <= outcome.retry_seconds <= 60
    seen = await look(tables, license_id)
    seen.check()
    denied = seen.denied[waiting]
    assert denied["last_at"] - denied["first_at"] == timedelta(seconds=90)
    assert denied["reason"] == "no-seat-available"
    assert not {"user", "host", "ip", "holder"} & denied.keys()


async def test_many_waits_that_another_process_began_are_merged(tables: Tables, clock: Clock) -> None:
    store, license_id = Counted(tables), new_license_id()
    first, second = Ledger(Register(tables), clock), Ledger(Register(store), clock)
    for _ in range(3):
        await granted(first, license_id, new_session_id())
    waiting = [new_session_id() for _ in range(60)]
    for ledger in (first, second):
        decision = await asyncio.gather(*(ledger.submit(license_id, start(each, terms())) for each in waiting))
        assert all(isinstance(each.outcome, Full) for each in decision)
        clock.forward(20)
    assert len(store.calls) < 15
    seen = await look(tables, license_id)
    assert seen.denied.keys() == set(waiting)
    assert all(row["last_at"] - row["first_at"] == timedelta(seconds=20) for row in seen.denied.values())


async def test_a_lapsed_session_makes_room_in_the_same_commit(tables: Tables, clock: Clock) -> None:
    license_id, silent = new_license_id(), new_session_id()
    ledger = Ledger(Register(tables), clock)
    await granted(ledger, license_id, silent)
    begun = clock()
    clock.forward(600)
    for _ in range(2):
        await granted(ledger, license_id, new_session_id())
    clock.forward(400)
    await granted(ledger, license_id, new_session_id())
    seen = await look(tables, license_id)
    seen.check()
    assert silent not in seen.active
    assert seen.ended[silent]["reason"] == "lapsed"
    assert seen.ended[silent]["ended_at"] == begun, "a lapsed session ended at its last heartbeat"


async def test_a_borrowed_seat_that_is_never_returned_was_held_to_the_end_of_its_lease(
    tables: Tables, clock: Clock
) -> None:
    license_id, session_id = new_license_id(), new_session_id()
    ledger, week = Ledger(Register(tables), clock), 7 * 86400
    await ledger.submit(license_id, start(session_id, terms(seats=1, borrow_seconds=week), borrow_seconds=week))
    lease_ends = clock() + timedelta(seconds=week)
    assert await ledger.heartbeat(license_id, Heartbeat(session_id, clock(), lease_ends, borrowed=True))
    clock.forward(week - 1)
    assert isinstance((await ledger.submit(license_id, start(new_session_id(), terms(seats=1)))).outcome, Full)
    clock.forward(2)
    await granted(ledger, license_id, new_session_id())
    assert (await look(tables, license_id)).ended[session_id]["ended_at"] == lease_ends


async def test_a_session_under_new_terms_with_a_shorter_lease_makes_room_when_it_lapses(
    tables: Tables, clock: Clock
) -> None:
    license_id, first_id = new_license_id(), new_session_id()
    longer, shorter = terms(seats=1), terms(seats=1, serial=2, lease_seconds=30)
    ledger = Ledger(Register(tables), clock)
    assert isinstance((await ledger.submit(license_id, start(first_id, longer))).outcome, Granted)
    # Nobody lapses within a minute, so it is not asked again; the next terms change that.
    assert isinstance((await ledger.submit(license_id, start(new_session_id(), longer))).outcome, Full)
    await ledger.submit(license_id, End(first_id))
    assert isinstance((await ledger.submit(license_id, start(new_session_id(), shorter))).outcome, Granted)
    clock.forward(40)
    assert isinstance((await ledger.submit(license_id, start(new_session_id(), shorter))).outcome, Granted)


async def test_a_refusal_reads_none_of_those_that_are_held(azurite: str, clock: Clock) -> None:
    license_id, strict = new_license_id(), terms(seats=40, grace_seconds=43200, hold_seconds=43260)
    async with own_tables(azurite, OwnTables) as own:
        ledger = Ledger(Register(own), clock)
        for session in [new_session_id() for _ in range(40)]:
            assert isinstance((await ledger.submit(license_id, start(session, strict))).outcome, Granted)
            heartbeat = Heartbeat(
                session,
                clock(),
                clock() + timedelta(seconds=900),
                strict.lapse(clock(), clock() + timedelta(seconds=900)),
            )
            assert await ledger.heartbeat(license_id, heartbeat)
        clock.forward(3600)
        await ledger.close()
        own.rows_read = 0
        assert isinstance((await ledger.submit(license_id, start(new_session_id(), strict))).outcome, Full)
        await ledger.close()
        assert own.rows_read <= 2, "the service's marks"
        clock.forward(43260)
        assert isinstance((await ledger.submit(license_id, start(new_session_id(), strict))).outcome, Granted)


async def test_who_lapses_is_asked_once_a_minute(tables: Tables, clock: Clock) -> None:
    store, license_id = Counted(tables), new_license_id()
    ledger = Ledger(Register(store), clock)
    for _ in range(3):
        await granted(ledger, license_id, new_session_id())
    for _ in range(5):
        assert isinstance((await ledger.submit(license_id, start(new_session_id(), terms()))).outcome, Full)
    assert store.calls.count("range active:") == 1
    clock.forward(901)
    await granted(ledger, license_id, new_session_id())
    assert store.calls.count("range active:") == 2


async def test_a_repeat_that_reaches_another_process_is_the_same_session(tables: Tables, clock: Clock) -> None:
    license_id, session_id = new_license_id(), new_session_id()
    first, second = ledgers(tables, clock, 2)
    original = await granted(first, license_id, session_id)
    clock.forward(5)
    repeat = await granted(second, license_id, session_id)
    assert repeat.repeat
    assert not original.repeat
    assert repeat.expires_at == original.expires_at, "a repeat changes nothing"
    seen = await look(tables, license_id)
    seen.check()
    assert len(seen.active) == 1


async def test_a_repeat_is_marked_even_when_all_seats_are_held(tables: Tables, clock: Clock) -> None:
    license_id, sessions = new_license_id(), [new_session_id() for _ in range(3)]
    first, second = ledgers(tables, clock, 2)
    for session in sessions:
        await granted(first, license_id, session)
    await granted(second, license_id, sessions[0])
    # Many at once are read by a key range, not one by one.
    others = [new_session_id() for _ in range(20)]
    decision = await asyncio.gather(*(second.submit(license_id, start(each, terms())) for each in [*others, *sessions]))
    assert Counter(type(each.outcome) for each in decision) == {Full: 20, Granted: 3}
    (await look(tables, license_id)).check()


async def test_one_start_sent_twice_at_once_takes_one_seat(tables: Tables, clock: Clock) -> None:
    license_id = new_license_id()
    several = ledgers(tables, clock, 4)
    sessions = [new_session_id() for _ in range(40)]
    bought = terms(seats=30)
    decision = await asyncio.gather(
        *(ledger.submit(license_id, start(session, bought)) for session in sessions for ledger in several)
    )
    outcomes: dict[str, set[type]] = {}
    for place, each in enumerate(decision):
        outcomes.setdefault(sessions[place // 4], set()).add(type(each.outcome))
    assert Counter(map(frozenset, outcomes.values())) == {frozenset({Granted}): 30, frozenset({Full}): 10}
    seen = await look(tables, license_id)
    seen.check()
    assert len(seen.active) == 30


async def test_a_session_id_is_not_two_peoples(tables: Tables, clock: Clock) -> None:
    license_id, session_id = new_license_id(), new_session_id()
    ledger = Ledger(Register(tables), clock)
    await granted(ledger, license_id, session_id, user="anna")
    outcome = (await ledger.submit(license_id, start(session_id, terms(), user="ben"))).outcome
    assert outcome == ForeignSession()


async def test_ending_twice_is_fine_and_frees_one_seat(tables: Tables, clock: Clock) -> None:
    license_id, session_id, other = new_license_id(), new_session_id(), new_session_id()
    first, second = ledgers(tables, clock, 2)
    await granted(first, license_id, session_id)
    await granted(first, license_id, other)
    decision = await asyncio.gather(*(ledger.submit(license_id, End(session_id)) for ledger in (first, second, first)))
    assert sum(each.outcome == Ended(now=True) for each in decision) >= 1
    assert all(isinstance(each.outcome, Ended) for each in decision)
    seen = await look(tables, license_id)
    seen.check()
    assert seen.state["in_use"] == 1
    assert seen.ended.keys() == {session_id}
    assert seen.ended[session_id]["reason"] == "ended"


async def test_an_id_that_is_used_three_times_in_a_microsecond_ends_three_times(tables: Tables, clock: Clock) -> None:
    license_id, session_id, other = new_license_id(), new_session_id(), new_session_id()
    ledger = Ledger(Register(tables), clock)
    for _ in range(3):
        await granted(ledger, license_id, session_id)
        await ledger.submit(license_id, End(session_id))
    await granted(ledger, license_id, other)
    await asyncio.gather(ledger.submit(license_id, End(session_id)), ledger.submit(license_id, End(other)))
    kept = {row.key: row.columns async for row in tables.rows("register", license_id)}
    moments = [clock() + timedelta(microseconds=number) for number in range(3)]
    assert kept.pop(rows.STATE)["in_use"] == 0
    assert kept.keys() == {*(rows.ended_key(moment, session_id) for moment in moments), rows.ended_key(clock(), other)}


async def test_ending_a_session_of_a_license_that_nobody_knows_is_fine(tables: Tables, clock: Clock) -> None:
    decision = await Ledger(Register(tables), clock).submit(new_license_id(), End(new_session_id()))
    assert decision.outcome == Ended(now=False)
    assert decision.state is None


async def test_an_ended_row_says_all_that_the_active_one_said(tables: Tables, clock: Clock) -> None:
    license_id, session_id = new_license_id(), new_session_id()
    ledger = Ledger(Register(tables), clock)
    await granted(ledger, license_id, session_id)
    active = (await look(tables, license_id)).active[session_id]
    clock.forward(60)
    await ledger.submit(license_id, End(session_id, EndReason.RELEASED))
    ended = (await look(tables, license_id)).ended[session_id]
    assert ended["reason"] == "released"
    assert ended["ended_at"] == clock()
    lapses_at = active.pop("lapses_at")
    assert lapses_at == active["expires_at"]
    assert {name: ended[name] for name in active} == active
    assert "lapses_at" not in ended, "what has ended does not lapse"
    assert ended.keys() - active.keys() == {"ended_at", "reason"}


async def test_a_heartbeat_touches_its_own_row_alone(tables: Tables, clock: Clock) -> None:
    store, license_id, session_id = Counted(tables), new_license_id(), new_session_id()
    ledger = Ledger(Register(store), clock)
    await granted(ledger, license_id, session_id)
    before = await look(tables, license_id)
    store.calls.clear()
    clock.forward(300)
    assert await ledger.heartbeat(license_id, Heartbeat(session_id, clock(), clock() + timedelta(seconds=900)))
    assert store.calls == ["commit register"]
    after = await look(tables, license_id)
    assert after.state == before.state
    assert after.active[session_id]["heartbeat_at"] == clock()
    assert after.active[session_id]["expires_at"] == clock() + timedelta(seconds=900)


async def test_heartbeats_of_sessions_that_are_gone_do_not_hold_up_the_others(tables: Tables, clock: Clock) -> None:
    license_id, bought = new_license_id(), terms(seats=150)
    ledger = Ledger(Register(tables), clock)
    sessions = [new_session_id() for _ in range(150)]
    await asyncio.gather(*(ledger.submit(license_id, start(session, bought)) for session in sessions))
    gone = set(sessions[::10])
    await asyncio.gather(*(ledger.submit(license_id, End(session)) for session in gone))
    until = clock() + timedelta(seconds=900)
    alive = await asyncio.gather(
        *(ledger.heartbeat(license_id, Heartbeat(session, clock(), until)) for session in sessions)
    )
    assert {session for session, is_alive in zip(sessions, alive, strict=True) if not is_alive} == gone


async def test_a_late_heartbeat_revives_what_was_not_yet_swept(tables: Tables, clock: Clock) -> None:
    license_id, session_id = new_license_id(), new_session_id()
    ledger = Ledger(Register(tables), clock)
    await granted(ledger, license_id, session_id)
    clock.forward(1000)
    row = await tables.get("register", license_id, rows.ACTIVE + session_id)
    assert row is not None
    judged = rows.SESSIONS.versioned(row)
    assert await ledger.heartbeat(license_id, Heartbeat(session_id, clock(), clock() + timedelta(seconds=900)))
    # The sweep judged the row before that heartbeat, and must leave it alone now.
    assert (await ledger.submit(license_id, Lapse(judged))).outcome == Ended(now=False)
    seen = await look(tables, license_id)
    seen.check()
    assert session_id in seen.active


async def test_a_late_start_revives_its_session(tables: Tables, clock: Clock) -> None:
    license_id, session_id = new_license_id(), new_session_id()
    ledger = Ledger(Register(tables), clock)
    await granted(ledger, license_id, session_id)
    clock.forward(1000)
    again = await granted(ledger, license_id, session_id)
    assert again.repeat
    assert again.expires_at == clock() + timedelta(seconds=900)
    seen = await look(tables, license_id)
    seen.check()
    assert seen.active[session_id]["expires_at"] == again.expires_at


async def test_a_heartbeat_after_the_sweep_hears_that_the_session_is_gone(tables: Tables, clock: Clock) -> None:
    license_id, session_id = new_license_id(), new_session_id()
    ledger = Ledger(Register(tables), clock)
    await granted(ledger, license_id, session_id)
    row = await tables.get("register", license_id, rows.ACTIVE + session_id)
    assert row is not None
    clock.forward(1000)
    assert (await ledger.submit(license_id, Lapse(rows.SESSIONS.versioned(row)))).outcome == Ended(now=True)
    assert not await ledger.heartbeat(license_id, Heartbeat(session_id, clock(), clock()))
    (await look(tables, license_id)).check()


async def test_a_heartbeat_between_the_reading_and_the_end_does_not_keep_the_session(
    tables: Tables, clock: Clock
) -> None:
    license_id, session_id = new_license_id(), new_session_id()

    class Interrupted(Counted):
        async def commit(self, table, partition, writes):  # type: ignore[no-untyped-def]
            if table == "register" and not self.calls.count("commit register"):
                later = clock() + timedelta(seconds=900)
                await tables.commit("register", license_id, [merge(rows.ACTIVE + session_id, {"expires_at": later})])
            return await super().commit(table, partition, writes)

    await granted(Ledger(Register(tables), clock), license_id, session_id)
    decision = await Ledger(Register(Interrupted(tables)), clock).submit(license_id, End(session_id))
    assert decision.outcome == Ended(now=True)
    seen = await look(tables, license_id)
    seen.check()
    assert seen.ended.keys() == {session_id}


async def test_a_start_that_another_process_grants_meanwhile_is_not_refused_for_its_own_seat(
    tables: Tables, clock: Clock
) -> None:
    """Its row was absent when it was read; the state that is read after a lost race counts it."""
    license_id, holding, session_id = new_license_id(), new_session_id(), new_session_id()
    first, newer = Ledger(Register(tables), clock), terms(seats=1, serial=2)

    class Overtaken(Counted):
        async def commit(self, table, partition, writes):  # type: ignore[no-untyped-def]
            if table == "register" and not self.calls.count("commit register"):
                await first.submit(license_id, End(holding))
                assert isinstance((await first.submit(license_id, start(session_id, newer))).outcome, Granted)
            return await super().commit(table, partition, writes)

    await first.submit(license_id, start(holding, terms(seats=1)))
    decision = await Ledger(Register(Overtaken(tables)), clock).submit(license_id, start(session_id, newer))
    assert isinstance(decision.outcome, Granted)
    assert decision.outcome.repeat
    (await look(tables, license_id)).check()


@pytest.mark.parametrize("sharing", [Sharing.USER_HOST, Sharing.USER, Sharing.HOST])
async def test_sessions_of_one_holder_share_a_seat_until_the_last_ends(
    tables: Tables, clock: Clock, sharing: Sharing
) -> None:
    license_id, bought = new_license_id(), terms(seats=1, sharing=sharing)
    several = ledgers(tables, clock, 3)
    sessions = [new_session_id() for _ in range(3)]
    for ledger, session in zip(several, sessions, strict=True):
        assert isinstance((await ledger.submit(license_id, start(session, bought))).outcome, Granted)
    stranger = start(new_session_id(), bought, user="other", host="other")
    assert isinstance((await several[0].submit(license_id, stranger)).outcome, Full)
    seen = await look(tables, license_id)
    seen.check()
    assert list(seen.seats.values()) == [3]
    for ledger, session in zip(several, sessions, strict=True):
        (await look(tables, license_id)).check()
        await ledger.submit(license_id, End(session))
    seen = await look(tables, license_id)
    seen.check()
    assert seen.state["in_use"] == 0
    assert seen.seats == {}
    assert isinstance((await several[1].submit(license_id, stranger)).outcome, Granted)


async def test_under_none_two_sessions_of_one_user_on_one_host_take_two_seats(tables: Tables, clock: Clock) -> None:
    license_id = new_license_id()
    ledger = Ledger(Register(tables), clock)
    await granted(ledger, license_id, new_session_id())
    await granted(ledger, license_id, new_session_id())
    assert (await look(tables, license_id)).state["in_use"] == 2


async def test_many_sharers_who_come_at_once_to_several_processes(tables: Tables, clock: Clock) -> None:
    license_id, bought = new_license_id(), terms(seats=10, sharing=Sharing.USER_HOST)
    several = ledgers(tables, clock, 3)
    requests = [start(new_session_id(), bought, user=f"u{number % 12}") for number in range(72)]
    decision = await asyncio.gather(
        *(several[number % 3].submit(license_id, request) for number, request in enumerate(requests))
    )
    assert Counter(type(each.outcome) for each in decision) == {Granted: 60, Full: 12}
    seen = await look(tables, license_id)
    seen.check()
    assert seen.state["in_use"] == 10
    ends = [End(session) for session in seen.active]
    await asyncio.gather(*(several[number % 3].submit(license_id, end) for number, end in enumerate(ends)))
    seen = await look(tables, license_id)
    seen.check()
    assert seen.state["in_use"] == 0


async def test_a_holder_keeps_its_seat_when_the_pepper_is_rotated(tables: Tables, clock: Clock) -> None:
    license_id, bought = new_license_id(), terms(seats=1, sharing=Sharing.USER)
    ledger = Ledger(Register(tables), clock)
    before, after = start(new_session_id(), bought), start(new_session_id(), bought)
    after = type(after)(after.session_id, bought, (person(pepper="p2"), person(pepper="p1")))
    assert isinstance((await ledger.submit(license_id, before)).outcome, Granted)
    assert isinstance((await ledger.submit(license_id, after)).outcome, Granted)
    seen = await look(tables, license_id)
    seen.check()
    assert seen.state["in_use"] == 1


async def test_a_license_that_is_not_floating_takes_no_seat(tables: Tables, clock: Clock) -> None:
    license_id, bought = new_license_id(), terms(kind=Kind.NAMED_USER, seats=0)
    ledger = Ledger(Register(tables), clock)
    for _ in range(3):
        assert isinstance((await ledger.submit(license_id, start(new_session_id(), bought))).outcome, Granted)
    seen = await look(tables, license_id)
    seen.check()
    assert seen.state["in_use"] == 0
    assert {row["holder"] for row in seen.active.values()} == {""}


async def test_a_higher_serial_brings_its_terms_and_a_lower_one_is_superseded(tables: Tables, clock: Clock) -> None:
    license_id = new_license_id()
    first, second = ledgers(tables, clock, 2)
    for _ in range(3):
        await granted(first, license_id, new_session_id())
    fewer = terms(serial=2, seats=2)
    assert isinstance((await second.submit(license_id, start(new_session_id(), fewer))).outcome, Full)
    outcome = (await first.submit(license_id, start(new_session_id(), terms()))).outcome
    assert outcome == Refused(Refusal.SUPERSEDED)
    seen = await look(tables, license_id)
    seen.check()
    assert seen.state["seats"] == 2
    assert len(seen.active) == 3, "nobody is thrown out"
    await first.submit(license_id, End(next(iter(seen.active))))
    assert isinstance((await first.submit(license_id, start(new_session_id(), fewer))).outcome, Full)


async def test_a_suspension_stops_starts_at_once_in_every_process(tables: Tables, clock: Clock) -> None:
    license_id = new_license_id()
    first, second = ledgers(tables, clock, 2)
    await granted(first, license_id, new_session_id())
    await granted(second, license_id, new_session_id())
    assert await first.set_status(license_id, suspended=True) is not None
    outcome = (await second.submit(license_id, start(new_session_id(), terms()))).outcome
    assert outcome == Refused(Refusal.SUSPENDED)
    await second.set_status(license_id, suspended=False)
    await granted(first, license_id, new_session_id())


async def test_a_process_that_stores_nothing_after_an_opt_out_still_learns_what_becomes_of_the_license(
    tables: Tables, clock: Clock
) -> None:
    license_id, bound = new_license_id(), terms(kind=Kind.NAMED_USER)
    first, second = ledgers(tables, clock, 2)
    await second.set_collect(license_id, collect=False, initial=LicenseState(bound))

    async def outcome() -> Outcome:
        return (await first.submit(license_id, start(new_session_id(), bound))).outcome

    answer = await outcome()
    assert isinstance(answer, Granted)
    assert answer.session is None
    await second.set_status(license_id, suspended=True)
    assert await outcome() == Refused(Refusal.SUSPENDED)
    await second.set_status(license_id, suspended=False)
    await second.set_collect(license_id, collect=True)
    answer = await outcome()
    assert isinstance(answer, Granted)
    assert answer.session is not None


async def test_a_license_can_be_suspended_before_its_first_use(tables: Tables, clock: Clock) -> None:
    license_id = new_license_id()
    ledger = Ledger(Register(tables), clock)
    assert await ledger.set_status(license_id, suspended=True) is None
    assert await ledger.set_status(license_id, suspended=True, initial=LicenseState(terms())) is not None
    outcome = (await ledger.submit(license_id, start(new_session_id(), terms()))).outcome
    assert outcome == Refused(Refusal.SUSPENDED)


@pytest.mark.parametrize("other_writes", [False, True])
async def test_a_start_whose_commit_was_done_but_not_answered_takes_one_seat(
    tables: Tables, clock: Clock, other_writes: bool
) -> None:
    license_id, session_id = new_license_id(), new_session_id()
    others = Ledger(Register(tables), clock)

    class Lossy(Counted):
        async def commit(self, table, partition, writes):  # type: ignore[no-untyped-def]
            try:
                return await super().commit(table, partition, writes)
            except UnavailableError:
                if other_writes:
                    await granted(others, license_id, new_session_id())
                raise

    store = Lossy(tables)
    store.lose_replies = 1
    outcome = await granted(Ledger(Register(store), clock), license_id, session_id)
    seen = await look(tables, license_id)
    seen.check()
    assert session_id in seen.active
    assert seen.state["in_use"] == 1 + other_writes
    # Where the state says that the commit was ours, nobody takes the answer for a repeat.
    assert outcome.repeat == other_writes


async def test_a_start_whose_request_was_lost_is_tried_again(tables: Tables, clock: Clock) -> None:
    store, license_id = Counted(tables), new_license_id()
    store.lose_requests = 2
    assert not (await granted(Ledger(Register(store), clock), license_id, new_session_id())).repeat
    (await look(tables, license_id)).check()


async def test_an_end_whose_commit_was_done_but_not_answered_frees_one_seat(tables: Tables, clock: Clock) -> None:
    store, license_id, session_id = Counted(tables), new_license_id(), new_session_id()
    ledger = Ledger(Register(store), clock)
    await granted(ledger, license_id, session_id)
    await granted(ledger, license_id, new_session_id())
    store.lose_replies = 1
    assert isinstance((await ledger.submit(license_id, End(session_id))).outcome, Ended)
    seen = await look(tables, license_id)
    seen.check()
    assert seen.state["in_use"] == 1


async def test_a_store_that_never_answers_is_given_up_within_bounds(
    tables: Tables, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("licensing.storage.retry.BATCH_SECONDS", 0.5)
    store, license_id = Counted(tables), new_license_id()
    store.lose_requests = 10**6
    ledger = Ledger(Register(store), clock)
    with pytest.raises(UnavailableError):
        await ledger.submit(license_id, start(new_session_id(), terms()))
    with pytest.raises(UnavailableError):
        await ledger.heartbeat(license_id, Heartbeat(new_session_id(), clock(), clock()))
    store.lose_requests = 0
    await granted(ledger, license_id, new_session_id())


async def filled(tables: Tables, clock: Clock, seats: int) -> str:
    """A license of so many seats of which all but one are held, by rows that no ledger has written."""
    license_id, now = new_license_id(), clock()
    ends = now + timedelta(seconds=900)
    await Ledger(Register(tables), clock).submit(license_id, start(new_session_id(), terms(seats=seats)))
    starts = [
        rows.start_change(Session(session, now, now, ends, "u", "h", "i", "p1", holder=session)).write
        for session in (new_session_id() for _ in range(seats - 2))
    ]
    for first in range(0, len(starts), TRANSACTION_ROWS):
        await tables.commit("register", license_id, starts[first : first + TRANSACTION_ROWS])
    await tables.commit("register", license_id, [merge(rows.STATE, {"in_use": seats - 1})])
    return license_id


async def costs(tables: Tables, clock: Clock, seats: int) -> dict[str, list[str]]:
    """The calls that each request makes on a license whose last seat is taken, refused and given back."""
    license, session_id, bought = await filled(tables, clock, seats), new_session_id(), terms(seats=seats)
    store = Counted(tables)
    ledger = Ledger(Register(store), clock)

    async def calls(outcome: type[Outcome], request: Request) -> list[str]:
        store.calls.clear()
        assert isinstance((await ledger.submit(license, request)).outcome, outcome)
        return [call.partition(":")[0] for call in store.calls]

    cost = {"first start": await calls(Granted, start(session_id, bought))}
    store.calls.clear()
    assert await ledger.heartbeat(license, Heartbeat(session_id, clock(), clock() + timedelta(seconds=900)))
    cost["heartbeat"] = list(store.calls)
    cost["first refusal"] = await calls(Full, start(new_session_id(), bought))
    cost["refusal until one can lapse"] = await calls(Full, start(new_session_id(), bought))
    cost["end"] = await calls(Ended, End(session_id))
    cost["start"] = await calls(Granted, start(new_session_id(), bought))
    (await look(tables, license)).check()
    return cost


async def test_thousands_of_held_seats_are_as_cheap_as_ten(tables: Tables, clock: Clock) -> None:
    """Counted in calls, since a timed test would tell of the machine; the times are in benchmarks/."""
    ten = await costs(tables, clock, 10)
    assert ten == {
        "first start": ["get license", "commit register"],
        "heartbeat": ["commit register"],
        "first refusal": ["get license", "range active", "commit register"],
        "refusal until one can lapse": ["get license", "get active", "commit register"],
        "end": ["commit register"],
        "start": ["commit register"],
    }
    assert await costs(tables, clock, 3000) == ten
