"""Who holds a seat, decided by `decide` over rows in memory."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from licensing.rules.license import Kind, Refusal, Sharing
from licensing.rules.model import EndReason, RecalledSession, Session, Versioned, ended_session, holder_of
from licensing.rules.outage import Outage
from licensing.rules.requests import (
    End,
    Ended,
    ForeignSession,
    Full,
    Granted,
    Lapse,
    Outcome,
    Recall,
    Recalled,
    Refused,
    Request,
    TooManyRecalls,
)
from licensing.rules.seats import RETRY_SECONDS, Facts, Lapsing, Plan, Questions, decide, lapsing_until, retry_seconds
from tests.rules.memory_register import NOON, MemoryRegister, later, person, start, terms


@pytest.fixture
def register() -> MemoryRegister:
    return MemoryRegister()


def granted(outcome: Outcome) -> Granted:
    assert isinstance(outcome, Granted), outcome
    return outcome


# Sharing.


def test_without_sharing_each_program_takes_a_seat(register: MemoryRegister) -> None:
    assert [type(each) for each in register.all(start("1"), start("2"), start("3"))] == [Granted, Granted, Full]
    assert register.in_use == 2
    assert register.seats == {}
    register.check()


SHARED = {
    # sharing: who runs beside ada on pc, and how many seats that makes
    Sharing.NONE: (2, 2, 2),
    Sharing.USER_HOST: (1, 2, 2),
    Sharing.USER: (1, 1, 2),
    Sharing.HOST: (1, 2, 1),
}


@pytest.mark.parametrize("sharing", Sharing)
@pytest.mark.parametrize(("other", "user", "host"), [(0, "ada", "pc"), (1, "ada", "laptop"), (2, "bob", "pc")])
@pytest.mark.parametrize("together", [True, False])
def test_seats_are_shared_by_whom_the_license_names(
    register: MemoryRegister, sharing: Sharing, other: int, user: str, host: str, together: bool
) -> None:
    shared = terms(sharing=sharing)
    requests = [start("1", under=shared), start("2", user, host, under=shared)]
    if together:
        register.all(*requests)
    else:
        for request in requests:
            register.one(request)
    assert register.in_use == SHARED[sharing][other]
    register.check()


@pytest.mark.parametrize("sharing", [Sharing.USER_HOST, Sharing.USER, Sharing.HOST])
@pytest.mark.parametrize("together", [True, False])
def test_a_shared_seat_is_free_when_its_last_session_ends(
    register: MemoryRegister, sharing: Sharing, together: bool
) -> None:
    shared = terms(sharing=sharing, seats=1)
    register.all(*(start(session, under=shared) for session in "123"))
    assert register.one(start("4", "bob", "laptop", under=shared)) == Full(60)
    register.one(End("1"))
    assert register.in_use == 1
    if together:
        register.all(End("2"), End("3"))
    else:
        register.one(End("3"))
        assert register.one(start("4", "bob", "laptop", under=shared)) == Full(60)
        register.one(End("2"))
    assert (register.in_use, register.seats) == (0, {})
    granted(register.one(start("4", "bob", "laptop", under=shared)))
    register.check()


def test_a_holder_who_has_a_seat_gets_in_when_all_are_taken(register: MemoryRegister) -> None:
    shared = terms(sharing=Sharing.USER, seats=1)
    register.one(start("1", under=shared))
    outcomes = register.all(start("2", host="laptop", under=shared), start("3", "bob", under=shared))
    assert [type(each) for each in outcomes] == [Granted, Full]


def test_the_last_end_and_a_new_start_on_one_seat_in_one_batch(register: MemoryRegister) -> None:
    shared = terms(sharing=Sharing.USER, seats=1)
    register.one(start("1", under=shared))
    outcomes = register.all(start("2", under=shared), End("1"))
    assert [type(each) for each in outcomes] == [Granted, Ended]
    assert (register.in_use, len(register.seats)) == (1, 1)
    register.check()


def test_holders_differ_by_pseudonyms() -> None:
    ada = person("ada", "pc")
    names = [holder_of("1", ada, terms(sharing=sharing)) for sharing in Sharing]
    assert names == ["1", "ada/new.pc/new", "ada/new", "pc/new"]
    assert holder_of("1", ada, terms(kind=Kind.NODE_LOCKED, sharing=Sharing.USER)) == ""


def test_a_host_name_that_is_nobodys_own_shares_no_seat() -> None:
    ada = replace(person("ada", "localhost"), host_is_nobodys=True)
    names = [holder_of("1", ada, terms(sharing=sharing)) for sharing in Sharing]
    assert names == ["1", "1", "ada/new", "1"]
    assert holder_of("1", ada, terms(kind=Kind.NODE_LOCKED, sharing=Sharing.HOST)) == ""


# Counting.


def test_more_starts_than_seats_in_one_batch_get_exactly_the_seats(register: MemoryRegister) -> None:
    many = terms(seats=5)
    outcomes = register.plan([start(str(number), under=many) for number in range(9)], NOON).outcomes
    assert [type(outcomes[place]) for place in range(9)] == [Granted] * 5 + [Full] * 4
    assert register.in_use == 5
    assert sorted(register.denied) == ["5", "6", "7", "8"]


def test_overdraft_seats_are_given_out_and_named_so(register: MemoryRegister) -> None:
    generous = terms(seats=1, overdraft=1)
    outcomes = register.all(*(start(session, under=generous) for session in "123"))
    sessions = [granted(each).session for each in outcomes[:2]]
    assert [session and session.overdraft for session in sessions] == [False, True]
    assert isinstance(outcomes[2], Full)
    assert register.in_use == 2


def test_a_license_without_seats_lets_nobody_in(register: MemoryRegister) -> None:
    nothing = terms(seats=0)
    assert register.one(start("1", under=nothing)) == Full(60)
    assert register.one(start("1", under=nothing)) == Full(60)
    assert register.in_use == 0


@pytest.mark.parametrize("kind", [Kind.NAMED_USER, Kind.NODE_LOCKED])
def test_a_license_that_is_not_floating_takes_no_seat(register: MemoryRegister, kind: Kind) -> None:
    bound = terms(kind=kind, seats=1, sharing=Sharing.USER)
    for session in "123":
        granted(register.one(start(session, under=bound)))
    assert (register.in_use, register.seats, len(register.active)) == (0, {}, 3)
    assert register.one(End("1")) == Ended(now=True)
    register.check()


def test_ends_make_room_for_the_starts_that_came_before_them_in_the_batch(register: MemoryRegister) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    assert [type(each) for each in register.all(start("2", under=one), End("1"))] == [Granted, Ended]
    register.check()


def test_a_burst_on_a_license_that_nobody_used_yet_reads_its_state_alone(register: MemoryRegister) -> None:
    register.all(*(start(session) for session in "12345"))
    assert register.asked == 1


# Serials and status.


def test_a_state_notes_days_and_no_time_of_a_start(register: MemoryRegister) -> None:
    granted(register.one(start("1"), at=NOON))
    granted(register.one(start("2", under=terms(serial=2, seats=3)), at=NOON + timedelta(days=1)))
    granted(register.one(start("3", under=terms(serial=3, seats=4)), at=NOON + timedelta(days=1, hours=2)))
    assert register.state is not None
    state = register.state.value
    first, second = datetime(2026, 11, 2, tzinfo=UTC), datetime(2026, 11, 3, tzinfo=UTC)
    assert state.since == first
    assert [former.until for former in state.former] == [second, second]
    assert [state.terms_before(day).seats for day in (first, second, second + timedelta(days=1))] == [2, 2, 4]
    assert state.most_seats(first, second) == 2
    assert state.most_seats(second, second + timedelta(days=1)) == 4


def test_a_newer_file_brings_its_terms(register: MemoryRegister) -> None:
    register.one(start("1", under=terms(seats=1)))
    granted(register.one(start("2", under=terms(serial=2, seats=2))))
    assert register.state is not None
    assert register.state.value.terms == terms(serial=2, seats=2)


def test_an_older_file_is_superseded_also_within_one_batch(register: MemoryRegister) -> None:
    outcomes = register.all(start("1"), start("2", under=terms(serial=2)))
    assert outcomes[0] == Refused(Refusal.SUPERSEDED)
    granted(outcomes[1])
    assert register.one(start("1")) == Refused(Refusal.SUPERSEDED)


def test_the_same_serial_with_other_terms_changes_nothing(register: MemoryRegister) -> None:
    register.one(start("1"))
    register.one(start("2", under=terms(seats=50)))
    assert register.state is not None
    assert register.state.value.terms == terms()


def test_fewer_seats_throw_nobody_out_and_let_nobody_in_until_it_fits(register: MemoryRegister) -> None:
    fewer = terms(serial=2, seats=1)
    register.all(start("1"), start("2"))
    assert isinstance(register.one(start("3", under=fewer)), Full)
    assert (register.in_use, len(register.active)) == (2, 2)
    register.one(End("1"))
    assert isinstance(register.one(start("3", under=fewer)), Full)
    register.one(End("2"))
    granted(register.one(start("3", under=fewer)))
    assert register.in_use == 1
    register.check()


def test_a_suspended_license_starts_nobody_and_takes_no_new_terms(register: MemoryRegister) -> None:
    register.one(start("1"))
    register.set_state(suspended=True)
    assert register.one(start("2")) == Refused(Refusal.SUSPENDED)
    assert register.one(start("1")) == Refused(Refusal.SUSPENDED)
    assert register.one(start("2", under=terms(serial=2, seats=50))) == Refused(Refusal.SUSPENDED)
    assert register.state is not None
    assert register.state.value.terms == terms()
    assert register.one(End("1")) == Ended(now=True)


def test_a_reinstated_license_starts_again(register: MemoryRegister) -> None:
    register.one(start("1"))
    register.set_state(suspended=True)
    register.set_state(suspended=False)
    granted(register.one(start("2")))


def test_nothing_is_refused_on_a_cached_state(register: MemoryRegister) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    full = register.state
    register.one(End("1"))
    granted(register.plan([start("2", under=one)], NOON, cached=full).outcomes[0])
    register.set_state(suspended=True)
    suspended = register.state
    register.set_state(suspended=False)
    granted(register.plan([start("2", under=one)], NOON, cached=suspended).outcomes[0])
    register.check()


def test_a_start_on_a_cached_state_asks_nothing(register: MemoryRegister) -> None:
    register.one(start("1"))
    register.asked = 0
    register.plan([start("2")], NOON, cached=register.state)
    assert register.asked == 0


def test_an_end_under_a_license_that_nobody_used_changes_nothing(register: MemoryRegister) -> None:
    assert register.one(End("1")) == Ended(now=False)
    assert register.state is None


# Opt-out.


@pytest.mark.parametrize("kind", [Kind.NAMED_USER, Kind.NODE_LOCKED])
def test_with_an_opt_out_a_start_is_granted_and_nothing_is_stored(register: MemoryRegister, kind: Kind) -> None:
    bound = terms(kind=kind)
    register.one(start("1", under=bound))
    register.set_state(collect=False)
    assert register.one(start("2", under=bound)) == Granted(None, later(900))
    assert list(register.active) == ["1"]
    assert register.one(End("2")) == Ended(now=False)
    assert register.one(End("1")) == Ended(now=True)


def test_nothing_is_granted_on_a_cached_state_where_nothing_is_stored(register: MemoryRegister) -> None:
    bound = terms(kind=Kind.NAMED_USER)
    register.one(start("1", under=bound))
    register.set_state(collect=False)
    cached = register.state
    register.set_state(suspended=True)
    outcome = register.plan([start("2", under=bound)], NOON, cached=cached).outcomes[0]
    assert outcome == Refused(Refusal.SUSPENDED)
    register.set_state(suspended=False, collect=True)
    assert granted(register.plan([start("2", under=bound)], NOON, cached=cached).outcomes[0]).session


def test_a_floating_license_is_recorded_whatever_its_state_says(register: MemoryRegister) -> None:
    register.one(start("1"))
    register.set_state(collect=False)
    assert granted(register.one(start("2"))).session is not None
    assert register.in_use == 2


# Lapses.


def test_a_lapsed_session_makes_room(register: MemoryRegister) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    register.heartbeat("1", later(60))
    assert register.one(start("2", "bob", under=one), later(959)) == Full(10)
    granted(register.one(start("2", "bob", under=one), later(960)))
    (ended,) = register.ended
    assert (ended.session.id, ended.reason, ended.ended_at) == ("1", EndReason.LAPSED, later(60))
    register.check()


def test_only_as_many_lapsed_sessions_are_ended_as_room_is_needed(register: MemoryRegister) -> None:
    register.all(start("1"), start("2"))
    granted(register.one(start("3"), later(900)))
    assert (register.in_use, len(register.ended)) == (2, 1)
    register.check()


def test_a_shared_seat_makes_room_when_all_its_sessions_have_lapsed(register: MemoryRegister) -> None:
    shared = terms(sharing=Sharing.USER, seats=1)
    register.all(start("1", under=shared), start("2", under=shared))
    register.heartbeat("2", later(300))
    assert isinstance(register.one(start("3", "bob", under=shared), later(900)), Full)
    register.check()
    granted(register.one(start("3", "bob", under=shared), later(1200)))
    assert {ended.session.id for ended in register.ended} == {"1", "2"}
    register.check()


def test_a_seat_that_was_taken_for_absent_is_not_freed_by_those_who_had_it(register: MemoryRegister) -> None:
    """Its sessions have lapsed; in one batch their user starts again, and two others need room."""
    three = terms(seats=3, sharing=Sharing.USER)
    for session, user in (("1", "ada"), ("2", "ada")):
        register.one(start(session, user, under=three))
    register.one(start("3", "bob", under=three), later(600))
    started = [start("4", "ada", under=three), start("5", "eve", under=three), start("6", "kim", under=three)]
    outcomes = register.all(*started, at=later(1000))
    assert [type(outcome) for outcome in outcomes] == [Granted, Granted, Full]
    register.check()
    for row in list(register.active.values()):
        register.one(End(row.value.id), later(1001))
    register.check()
    assert (register.in_use, register.seats) == (0, {})


def test_a_session_that_ends_after_it_lapsed_makes_room_once(register: MemoryRegister) -> None:
    """Its end and two starts come in one batch: the lapsed row must not be given away as well."""
    one = terms(seats=1)
    register.one(start("1", under=one))
    outcomes = register.all(End("1"), start("2", under=one), start("3", under=one), at=later(900))
    assert [type(each) for each in outcomes] == [Ended, Granted, Full]
    assert register.in_use == 1
    register.check()


def test_a_swept_session_makes_room_once(register: MemoryRegister) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    requests: list[Request] = [Lapse(register.active["1"]), start("2", under=one), start("3", under=one)]
    assert [type(each) for each in register.all(*requests, at=later(900))] == [Ended, Granted, Full]
    register.check()


def test_a_heartbeat_between_judgement_and_sweep_saves_the_session(register: MemoryRegister) -> None:
    register.one(start("1"))
    judged = Lapse(register.active["1"])
    register.heartbeat("1", later(901))
    assert register.one(judged, later(902)) == Ended(now=False)
    assert list(register.active) == ["1"]


def test_a_session_that_lapses_again_after_a_heartbeat_is_not_ended_by_an_older_judgement(
    register: MemoryRegister,
) -> None:
    register.one(start("1"))
    judged = Lapse(register.active["1"])
    register.heartbeat("1", later(901))
    assert register.one(judged, later(9000)) == Ended(now=False)
    assert list(register.active) == ["1"]


@pytest.mark.parametrize("known", [False, True], ids=["what was judged", "what was read"])
def test_no_sweep_frees_a_seat_whose_lease_still_runs(register: MemoryRegister, known: bool) -> None:
    """From any process and by any clock; otherwise the seat would be given twice."""
    one = terms(seats=1)
    register.one(start("1", under=one))
    register.lapsing = Lapsing(later(900), dict(register.active)) if known else None
    judged = Lapse(register.active["1"])
    outcomes = register.all(judged, start("2", "bob", under=one), at=later(900) - timedelta(microseconds=1))
    assert [type(each) for each in outcomes] == [Ended, Full]
    assert outcomes[0] == Ended(now=False)
    assert list(register.active) == ["1"]
    register.check()
    assert register.one(judged, later(900)) == Ended(now=True)


def test_a_session_that_two_sweeps_judged_lapses_once(register: MemoryRegister) -> None:
    register.one(start("1"))
    judged = Lapse(register.active["1"])
    assert register.one(judged, later(900)) == Ended(now=True)
    assert register.one(judged, later(900)) == Ended(now=False)
    assert register.in_use == 0
    register.check()


def test_a_late_repeat_revives_a_session_that_was_not_swept(register: MemoryRegister) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    outcome = granted(register.one(start("1", under=one), later(5000)))
    assert outcome.repeat
    assert outcome.expires_at == later(5900)
    assert register.active["1"].value.started_at == NOON
    assert isinstance(register.one(start("2", "bob", under=one), later(5001)), Full)
    register.check()


def test_a_late_repeat_with_a_wish_to_borrow_is_offered_it(register: MemoryRegister) -> None:
    lent = terms(borrow_seconds=86400)
    register.one(start("1", under=lent))
    outcome = granted(register.one(start("1", under=lent, borrow=86400), later(5000)))
    assert (outcome.expires_at, outcome.offered) == (later(5900), later(5000 + 86400))
    assert not register.active["1"].value.borrowed, "it is not confirmed"
    register.heartbeat("1", later(5001), outcome.offered)
    outcome = granted(register.one(start("1", under=lent), later(5000 + 86400)))
    assert outcome.session
    assert not outcome.session.borrowed, "the borrowing is over"


def test_terms_that_are_newer_than_a_cached_state_do_not_replace_newer_ones(register: MemoryRegister) -> None:
    register.one(start("1"))
    cached = register.state
    register.one(start("2", under=terms(serial=3, seats=9)))
    plan = register.plan([start("3", under=terms(serial=2))], NOON, cached=cached)
    assert plan.outcomes[0] == Refused(Refusal.SUPERSEDED)
    facts = Facts(cached)
    assert decide(facts, [start("3", under=terms(serial=2))], NOON, 99) == Questions(state=True)


def test_who_revives_keeps_the_seat_from_who_waits(register: MemoryRegister) -> None:
    """Both come in one batch, in either order."""
    one = terms(seats=1)
    register.one(start("1", under=one))
    outcomes = register.all(start("2", "bob", under=one), start("1", under=one), at=later(900))
    assert [type(each) for each in outcomes] == [Full, Granted]
    register.check()


def test_a_repeat_after_the_seat_was_given_away_is_a_new_start(register: MemoryRegister) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    register.one(start("2", "bob", under=one), later(900))
    assert isinstance(register.one(start("1", under=one), later(901)), Full)
    register.one(End("2"), later(902))
    outcome = granted(register.one(start("1", under=one), later(903)))
    assert not outcome.repeat
    register.check()


def test_a_lapsed_session_whose_repeat_is_refused_makes_room(register: MemoryRegister) -> None:
    newer = terms(serial=2, seats=1)
    register.one(start("1", under=newer))
    outcomes = register.all(start("1"), start("2", "bob", under=newer), at=later(900))
    assert outcomes[0] == Refused(Refusal.SUPERSEDED)
    granted(outcomes[1])
    register.check()


# Repeats.


def test_a_repeated_start_is_answered_with_what_was_granted(register: MemoryRegister) -> None:
    first = granted(register.one(start("1")))
    again = granted(register.one(start("1"), later(60)))
    assert again == replace(first, repeat=True)
    assert register.in_use == 1


def test_a_repeat_of_the_last_granted_start_is_not_refused(register: MemoryRegister) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    assert granted(register.one(start("1", under=one), later(60))).repeat


def test_echoes_of_a_start_in_one_batch_take_one_seat(register: MemoryRegister) -> None:
    outcomes = [granted(each) for each in register.all(start("1"), start("1"), start("1"))]
    assert [each.repeat for each in outcomes] == [False, True, True]
    assert register.in_use == 1


def test_echoes_of_a_refused_start_are_denied_once(register: MemoryRegister) -> None:
    nothing = terms(seats=0)
    assert register.all(start("1", under=nothing), start("1", under=nothing)) == [Full(60), Full(60)]
    assert register.denied == {"1": 1}


def test_an_end_and_a_start_of_one_session_are_done_one_after_another(register: MemoryRegister) -> None:
    register.one(start("1"))
    plan = register.plan([start("1"), End("1")], later(1))
    assert plan.outcomes == {1: Ended(now=True)}
    assert not granted(register.plan([start("1")], later(2)).outcomes[0]).repeat
    register.check()


def test_ending_twice_is_fine(register: MemoryRegister) -> None:
    register.all(start("1"), start("2"))
    assert register.one(End("1")) == Ended(now=True)
    assert register.one(End("1")) == Ended(now=False)
    assert register.in_use == 1


def test_ending_what_never_started_is_fine(register: MemoryRegister) -> None:
    register.one(start("1"))
    assert register.one(End("unknown")) == Ended(now=False)


@pytest.mark.parametrize("thief", [("eve", "pc"), ("ada", "laptop")])
def test_one_session_cannot_be_two_peoples(register: MemoryRegister, thief: tuple[str, str]) -> None:
    register.one(start("1"))
    assert register.one(start("1", *thief)) == ForeignSession()
    assert register.in_use == 1


def test_two_people_with_one_session_id_in_one_batch(register: MemoryRegister) -> None:
    requests = [start("1"), start("1", "eve")]
    assert register.plan(requests, NOON).outcomes.keys() == {0}
    assert register.one(requests[1]) == ForeignSession()


def test_a_release_is_recorded_as_one(register: MemoryRegister) -> None:
    register.one(start("1"))
    register.one(End("1", EndReason.RELEASED), later(60))
    assert [(each.reason, each.ended_at) for each in register.ended] == [(EndReason.RELEASED, later(60))]


# Peppers.


@pytest.mark.parametrize("sharing", Sharing)
def test_a_holder_keeps_its_seat_when_the_pepper_is_rotated(register: MemoryRegister, sharing: Sharing) -> None:
    shared = terms(sharing=sharing, seats=1)
    register.one(start("1", under=shared, peppers=("old",)))
    again = granted(register.one(start("1", under=shared, peppers=("new", "old"))))
    assert again.repeat
    assert register.in_use == 1
    register.check()


@pytest.mark.parametrize("sharing", [Sharing.USER_HOST, Sharing.USER, Sharing.HOST])
def test_a_second_program_shares_the_seat_across_a_rotation(register: MemoryRegister, sharing: Sharing) -> None:
    shared = terms(sharing=sharing, seats=1)
    register.one(start("1", under=shared, peppers=("old",)))
    second = granted(register.one(start("2", under=shared, peppers=("new", "old")))).session
    assert second is not None
    assert (second.pepper, second.holder) == ("new", register.active["1"].value.holder)
    assert register.in_use == 1
    register.one(End("1"))
    assert register.in_use == 1
    register.one(End("2"))
    assert (register.in_use, register.seats) == (0, {})
    register.check()


def test_one_persons_session_is_not_taken_under_another_pepper(register: MemoryRegister) -> None:
    register.one(start("1", peppers=("new", "old")))
    assert granted(register.one(start("1", peppers=("old", "new")))).repeat


def test_a_stranger_under_an_old_pepper_has_no_part_in_a_seat(register: MemoryRegister) -> None:
    shared = terms(sharing=Sharing.USER, seats=1)
    register.one(start("1", under=shared, peppers=("old",)))
    assert register.one(start("2", "bob", under=shared, peppers=("new", "old"))) == Full(60)


# Borrowing.


@pytest.mark.parametrize(("borrow", "offered"), [(0, None), (900, None), (901, later(901)), (7200, later(7200))])
def test_a_seat_is_offered_for_as_long_as_the_license_allows(
    register: MemoryRegister, borrow: int, offered: datetime | None
) -> None:
    outcome = granted(register.one(start("1", under=terms(borrow_seconds=borrow), borrow=86400)))
    assert (outcome.expires_at, outcome.offered) == (later(900), offered)
    assert register.active["1"].value.lapses_at == later(900)


def test_a_confirmed_borrowing_does_not_lapse_with_the_ordinary_lease(register: MemoryRegister) -> None:
    lending = terms(seats=1, borrow_seconds=7200)
    offered = granted(register.one(start("1", under=lending, borrow=7200))).offered
    register.heartbeat("1", later(1), offered)
    assert isinstance(register.one(start("2", "bob", under=lending), later(7199)), Full)
    granted(register.one(start("2", "bob", under=lending), later(7200)))


def test_a_borrowing_that_is_not_confirmed_costs_a_seat_for_one_ordinary_lease(register: MemoryRegister) -> None:
    lending = terms(seats=1, borrow_seconds=7200)
    register.one(start("1", under=lending, borrow=7200))
    assert isinstance(register.one(start("2", "bob", under=lending), later(899)), Full)
    granted(register.one(start("2", "bob", under=lending), later(900)))
    assert register.ended[0].ended_at == NOON, "nobody was heard of since"


def test_a_repeat_of_a_confirmed_borrowing_is_answered_as_its_start_was(register: MemoryRegister) -> None:
    lending = terms(seats=1, borrow_seconds=7200)
    offered = granted(register.one(start("1", under=lending, borrow=7200))).offered
    register.heartbeat("1", later(10), offered)
    row = register.active["1"]
    again = granted(register.one(start("1", under=lending, borrow=7200), later(20)))
    assert (again.expires_at, again.offered) == (later(920), offered)
    assert register.active["1"] == row


# Hold.

HELD = terms(seats=1, grace_seconds=43200, hold_seconds=43260)


def test_a_seat_is_held_for_a_silent_program_once_it_has_confirmed(register: MemoryRegister) -> None:
    outcome = granted(register.one(start("1", under=HELD)))
    assert (outcome.expires_at, outcome.offered) == (later(900), later(900))
    register.heartbeat("1", later(1))
    assert register.active["1"].value.lapses_at == later(1 + 43260)
    assert isinstance(register.one(start("2", "bob", under=HELD), later(43260)), Full)
    granted(register.one(start("2", "bob", under=HELD), later(43261)))
    assert register.ended[0].ended_at == later(1)


def test_a_repeat_under_a_shorter_lease_is_offered_no_less_than_it_has(register: MemoryRegister) -> None:
    register.one(start("1", under=HELD))
    shorter = terms(serial=2, seats=1, grace_seconds=43200, hold_seconds=43260, lease_seconds=600)
    again = granted(register.one(start("1", under=shorter), later(1)))
    assert (again.expires_at, again.offered) == (later(900), later(900))


def test_under_a_hold_a_start_that_is_never_confirmed_costs_one_ordinary_lease(register: MemoryRegister) -> None:
    register.one(start("1", under=HELD))
    granted(register.one(start("2", "bob", under=HELD), later(900)))


def test_a_late_copy_of_a_start_does_not_shorten_a_hold(register: MemoryRegister) -> None:
    register.one(start("1", under=HELD))
    register.heartbeat("1", later(1))
    granted(register.one(start("1", under=HELD), later(5000)))
    assert register.active["1"].value.lapses_at == later(43261), "its program may run on until then"


def test_who_comes_back_within_the_hold_has_its_seat_and_the_time_counts(register: MemoryRegister) -> None:
    register.one(start("1", under=HELD))
    register.heartbeat("1", later(1))
    assert register.heartbeat("1", later(20000))
    assert register.one(End("1"), later(20100)) == Ended(now=True)
    assert register.ended[0].ended_at == later(20100)


# A session that ends after its lease.


@pytest.mark.parametrize("reason", EndReason)
@pytest.mark.parametrize(
    ("borrowed", "now", "ended_at"),
    [(False, 899, 899), (False, 900, 300), (False, 50_000, 300), (True, 899, 899), (True, 900, 900), (True, 5000, 900)],
)
def test_silent_time_never_counts(reason: EndReason, borrowed: bool, now: int, ended_at: int) -> None:
    session = Session("1", NOON, later(300), later(900), "u", "h", "i", "p", "1", borrowed=borrowed)
    assert ended_session(session, reason, later(now)).ended_at == later(ended_at)


@pytest.mark.parametrize(("said", "kept"), [(299, None), (300, None), (301, 301), (950, 950), (99_999, 1000)])
def test_what_a_program_says_of_its_end_is_kept_if_it_is_later_and_past(said: int, kept: int | None) -> None:
    session = Session("1", NOON, later(300), later(900), "u", "h", "i", "p", "1")
    ended = ended_session(session, EndReason.REPLACED, later(1000), later(said))
    assert ended.ran_until == (None if kept is None else later(kept))


# Recall.


def test_a_recall_frees_nothing_before_the_program_ends(register: MemoryRegister) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    outcome = register.one(Recall("1"), later(10))
    assert outcome == Recalled(register.active["1"].value)
    assert isinstance(register.one(start("2", "bob", under=one), later(20)), Full)
    assert register.one(start("1", under=one), later(20)) == Refused(Refusal.RECALLED)
    assert register.one(End("1"), later(30)) == Ended(now=True)
    granted(register.one(start("2", "bob", under=one), later(30)))


def test_a_recalled_session_is_answered_as_such_for_a_day_after_its_end(register: MemoryRegister) -> None:
    register.one(start("1"))
    register.one(Recall("1"), later(10))
    register.one(End("1"), later(30))
    assert register.state
    state = register.state.value
    assert state.recalled == (RecalledSession("1", later(30)),)
    assert state.without_old_recalls(later(30 + 86399)).recalls("1")
    assert not state.without_old_recalls(later(30 + 86400)).recalls("1")


def test_a_recall_of_a_session_that_lapsed_makes_room(register: MemoryRegister) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    register.one(Recall("1"), later(10))
    assert register.one(start("1", under=one), later(950)) == Refused(Refusal.RECALLED), "it is not renewed"
    granted(register.one(start("2", "bob", under=one), later(950)))
    assert register.state
    assert register.state.value.recalled == (RecalledSession("1", later(950)),)


def test_what_is_not_active_is_not_recalled_and_a_second_recall_changes_nothing(register: MemoryRegister) -> None:
    register.one(start("1"))
    assert register.one(Recall("2")) == Ended(now=False)
    register.one(Recall("1"))
    assert isinstance(register.one(Recall("1")), Recalled)
    assert register.state
    assert register.state.value.recalled == (RecalledSession("1"),)


def test_there_is_room_for_a_hundred_recalls(register: MemoryRegister) -> None:
    many = terms(seats=101)
    ids = [str(number) for number in range(101)]
    for session in ids:
        register.one(start(session, under=many))
    assert all(isinstance(register.one(Recall(session)), Recalled) for session in ids[:100])
    assert register.one(Recall(ids[100])) == TooManyRecalls()
    register.one(End(ids[0]), later(10))
    assert register.one(Recall(ids[100]), later(10)) == TooManyRecalls()
    assert isinstance(register.one(Recall(ids[100]), later(10 + 86400)), Recalled)


# Outages.

AWAY = Outage(later(600), later(7800))


@pytest.mark.parametrize(("lapses", "at"), [(599, 599), (600, 8160), (900, 8160), (8159, 8160), (8160, 8160)])
def test_who_could_not_be_heard_lapses_after_the_amnesty(lapses: int, at: int) -> None:
    session = Session("1", NOON, NOON, later(lapses), "u", "h", "i", "p", "1")
    assert session.lapse_after(AWAY) == later(at)
    assert session.lapse_after(None) == later(lapses)


def test_nobody_loses_its_seat_to_an_outage_of_the_service(register: MemoryRegister) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    row = register.active["1"]
    register.outage, register.outage_is_known = AWAY, False
    assert register.one(start("2", "bob", under=one), later(8000)) == Full(60)
    assert register.one(Lapse(row), later(8000)) == Ended(now=False)
    assert register.one(start("1", under=one), later(8100)) == Granted(
        register.active["1"].value, later(9000), repeat=True
    )
    assert isinstance(register.one(start("2", "bob", under=one), later(8999)), Full)


def test_who_is_not_heard_within_the_amnesty_makes_room(register: MemoryRegister) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    register.outage, register.outage_is_known = AWAY, False
    assert register.one(start("2", "bob", under=one), later(8150)) == Full(11), "as soon as the amnesty is over"
    granted(register.one(start("2", "bob", under=one), later(8160)))


# Room, questions, times.


def test_a_batch_that_does_not_fit_a_transaction_is_done_in_several(register: MemoryRegister) -> None:
    many = terms(seats=300, sharing=Sharing.USER)
    waiting = [start(str(number), f"user{number}", under=many) for number in range(120)]
    plans = 0
    while waiting:
        done = register.plan(waiting, NOON).outcomes
        assert all(isinstance(each, Granted) for each in done.values())
        waiting = [request for place, request in enumerate(waiting) if place not in done]
        plans += 1
        register.check()
    assert register.in_use == 120
    assert plans == 3


def test_it_is_not_asked_who_lapses_while_that_is_known() -> None:
    one = terms(seats=1)
    register = MemoryRegister()
    register.one(start("1", under=one))
    register.one(start("2", "bob", under=one))
    assert register.state is not None
    facts = Facts(register.state, fresh=True, sessions={"2": None}, lapsing=Lapsing(later(60), {}), outage=None)
    assert isinstance(decide(facts, [start("2", "bob", under=one)], later(59), 99), Plan)
    asked = decide(facts, [start("2", "bob", under=one)], later(60), 99)
    assert asked == Questions(lapsing=True)


def test_an_answer_that_took_longer_than_it_is_good_for_is_good_for_its_batch() -> None:
    one = terms(seats=1, heartbeat_seconds=1, lease_seconds=2)
    register = MemoryRegister()
    register.one(start("1", under=one))
    facts = Facts(
        register.state, fresh=True, sessions={"2": None}, lapsing=Lapsing(later(0.6), {}), asked=True, outage=None
    )
    assert isinstance(decide(facts, [start("2", "bob", under=one)], later(1), 99), Plan)


def test_a_lapsed_session_whose_start_is_repeated_makes_no_room_for_others(register: MemoryRegister) -> None:
    """Otherwise one transaction would end it and start it again."""
    two = terms(seats=2, sharing=Sharing.USER)
    for session, user in (("x", "h"), ("w", "k")):
        register.one(start(session, user, under=two))
    for session in ("z", "z2"):
        register.one(start(session, "h", under=two), later(600))
    register.lapsing = Lapsing(later(1060), {"x": register.active["x"], "w": register.active["w"]})
    repeated = start("x", "h", under=two)
    outcomes = register.all(End("z2"), start("y", "new", under=two), repeated, at=later(1000))
    assert [type(each) for each in outcomes] == [Ended, Granted, Granted]
    assert granted(outcomes[2]).repeat
    assert register.active.keys() == {"x", "y", "z"}
    register.check()


def test_who_lapses_is_asked_for_a_minute_and_never_beyond_a_third_of_a_lease() -> None:
    assert lapsing_until(NOON, terms()) == later(60)
    assert lapsing_until(NOON, terms(heartbeat_seconds=20, lease_seconds=60)) == later(20)


def test_a_session_lapses_at_a_time_of_its_own_and_never_before_its_lease(register: MemoryRegister) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    session = register.active["1"].value
    assert session.lapses_at == session.expires_at == later(900)
    assert replace(session, lapses_at=later(899)).lapses_at == later(900)
    register.active["1"] = Versioned(replace(session, lapses_at=later(1000)), "held")
    assert isinstance(register.one(start("2", "bob", under=one), later(999)), Full)
    assert isinstance(register.one(start("2", "bob", under=one), later(1000)), Granted)


def test_more_lapsed_sessions_than_are_known_make_room_one_batch_after_another(register: MemoryRegister) -> None:
    """A reader stops when it knows of enough that have lapsed; nobody is refused for those that it did not read."""
    few = terms(seats=5)
    register.all(*(start(f"old{number}", under=few) for number in range(5)))
    requests = [start(f"new{number}", under=few) for number in range(6)]
    outcomes: dict[str, Outcome] = {}
    while requests:
        plan = register.plan(requests, later(900))
        outcomes |= {requests[place].session_id: outcome for place, outcome in plan.outcomes.items()}
        requests = [request for place, request in enumerate(requests) if place not in plan.outcomes]
    assert [type(outcomes[f"new{number}"]) for number in range(6)] == [Granted] * 5 + [Full]
    register.check()


@pytest.mark.parametrize(
    ("next_lapse", "seconds"),
    [(later(-5), 10), (later(0), 10), (later(9.5), 10), (later(30), 31), (later(59), 60), (later(900), 60)],
)
def test_a_refused_start_may_retry_when_a_session_can_lapse(next_lapse: datetime, seconds: int) -> None:
    assert retry_seconds(next_lapse, NOON) == seconds
    assert RETRY_SECONDS[0] <= seconds <= RETRY_SECONDS[1]


def test_no_session_ends_before_it_began(register: MemoryRegister) -> None:
    session = granted(register.one(start("1"), later(10))).session
    assert session is not None
    assert ended_session(session, EndReason.ENDED, later(5)).ended_at == later(10)
    early = replace(session, heartbeat_at=later(10) - timedelta(seconds=1))
    assert ended_session(early, EndReason.LAPSED, later(5000)).ended_at == later(10)
