"""Who holds a seat, decided by `settle` over rows in memory."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from licensing.rules.license import Kind, Refusal, Sharing
from licensing.rules.seats import (
    RETRY_SECONDS,
    End,
    Ended,
    Facts,
    Full,
    Granted,
    Known,
    Lapse,
    Outcome,
    Plan,
    Questions,
    Reason,
    Refused,
    Request,
    Taken,
    depart,
    holder_of,
    retry_seconds,
    settle,
)
from tests.rules.register import NOON, Register, later, person, start, terms


@pytest.fixture
def register() -> Register:
    return Register()


def granted(outcome: Outcome) -> Granted:
    assert isinstance(outcome, Granted), outcome
    return outcome


# Sharing.


def test_without_sharing_each_program_takes_a_seat(register: Register) -> None:
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
    register: Register, sharing: Sharing, other: int, user: str, host: str, together: bool
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
def test_a_shared_seat_is_free_when_its_last_session_ends(register: Register, sharing: Sharing, together: bool) -> None:
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


def test_a_holder_who_has_a_seat_gets_in_when_all_are_taken(register: Register) -> None:
    shared = terms(sharing=Sharing.USER, seats=1)
    register.one(start("1", under=shared))
    outcomes = register.all(start("2", host="laptop", under=shared), start("3", "bob", under=shared))
    assert [type(each) for each in outcomes] == [Granted, Full]


def test_the_last_end_and_a_new_start_on_one_seat_in_one_group(register: Register) -> None:
    shared = terms(sharing=Sharing.USER, seats=1)
    register.one(start("1", under=shared))
    outcomes = register.all(start("2", under=shared), End("1"))
    assert [type(each) for each in outcomes] == [Granted, Ended]
    assert (register.in_use, len(register.seats)) == (1, 1)
    register.check()


def test_holders_are_told_apart_by_pseudonyms() -> None:
    ada = person("ada", "pc")
    names = [holder_of("1", ada, terms(sharing=sharing)) for sharing in Sharing]
    assert names == ["1", "ada/new.pc/new", "ada/new", "pc/new"]
    assert holder_of("1", ada, terms(kind=Kind.NODE_LOCKED, sharing=Sharing.USER)) == ""


# Counting.


def test_more_starts_than_seats_in_one_group_get_exactly_the_seats(register: Register) -> None:
    many = terms(seats=5)
    outcomes = register.turn([start(str(number), under=many) for number in range(9)], NOON).outcomes
    assert [type(outcomes[place]) for place in range(9)] == [Granted] * 5 + [Full] * 4
    assert register.in_use == 5
    assert sorted(register.denied) == ["5", "6", "7", "8"]


def test_overdraft_seats_are_given_out_and_named_so(register: Register) -> None:
    generous = terms(seats=1, overdraft=1)
    outcomes = register.all(*(start(session, under=generous) for session in "123"))
    sessions = [granted(each).session for each in outcomes[:2]]
    assert [session and session.overdraft for session in sessions] == [False, True]
    assert isinstance(outcomes[2], Full)
    assert register.in_use == 2


def test_a_license_without_seats_lets_nobody_in(register: Register) -> None:
    nothing = terms(seats=0)
    assert register.one(start("1", under=nothing)) == Full(10)
    assert register.one(start("1", under=nothing)) == Full(60)
    assert register.in_use == 0


@pytest.mark.parametrize("kind", [Kind.NAMED_USER, Kind.NODE_LOCKED])
def test_a_license_that_is_not_floating_takes_no_seat(register: Register, kind: Kind) -> None:
    bound = terms(kind=kind, seats=1, sharing=Sharing.USER)
    for session in "123":
        granted(register.one(start(session, under=bound)))
    assert (register.in_use, register.seats, len(register.active)) == (0, {}, 3)
    assert register.one(End("1")) == Ended(now=True)
    register.check()


def test_ends_make_room_for_the_starts_that_came_before_them_in_the_group(register: Register) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    assert [type(each) for each in register.all(start("2", under=one), End("1"))] == [Granted, Ended]
    register.check()


def test_a_burst_on_a_license_that_nobody_used_yet_reads_its_head_alone(register: Register) -> None:
    register.all(*(start(session) for session in "12345"))
    assert register.asked == 1


# Serials and status.


def test_a_newer_file_brings_its_terms(register: Register) -> None:
    register.one(start("1", under=terms(seats=1)))
    granted(register.one(start("2", under=terms(serial=2, seats=2))))
    assert register.head is not None
    assert register.head.value.terms == terms(serial=2, seats=2)


def test_an_older_file_is_superseded_also_within_one_group(register: Register) -> None:
    outcomes = register.all(start("1"), start("2", under=terms(serial=2)))
    assert outcomes[0] == Refused(Refusal.SUPERSEDED)
    granted(outcomes[1])
    assert register.one(start("1")) == Refused(Refusal.SUPERSEDED)


def test_the_same_serial_with_other_terms_changes_nothing(register: Register) -> None:
    register.one(start("1"))
    register.one(start("2", under=terms(seats=50)))
    assert register.head is not None
    assert register.head.value.terms == terms()


def test_fewer_seats_throw_nobody_out_and_let_nobody_in_until_it_fits(register: Register) -> None:
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


def test_a_suspended_license_starts_nobody_and_takes_no_new_terms(register: Register) -> None:
    register.one(start("1"))
    register.set_head(suspended=True)
    assert register.one(start("2")) == Refused(Refusal.SUSPENDED)
    assert register.one(start("1")) == Refused(Refusal.SUSPENDED)
    assert register.one(start("2", under=terms(serial=2, seats=50))) == Refused(Refusal.SUSPENDED)
    assert register.head is not None
    assert register.head.value.terms == terms()
    assert register.one(End("1")) == Ended(now=True)


def test_a_reinstated_license_starts_again(register: Register) -> None:
    register.one(start("1"))
    register.set_head(suspended=True)
    register.set_head(suspended=False)
    granted(register.one(start("2")))


def test_nothing_is_refused_on_a_remembered_head(register: Register) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    full = register.head
    register.one(End("1"))
    granted(register.turn([start("2", under=one)], NOON, remembered=full).outcomes[0])
    register.set_head(suspended=True)
    suspended = register.head
    register.set_head(suspended=False)
    granted(register.turn([start("2", under=one)], NOON, remembered=suspended).outcomes[0])
    register.check()


def test_a_start_on_a_head_that_is_known_asks_nothing(register: Register) -> None:
    register.one(start("1"))
    register.asked = 0
    register.turn([start("2")], NOON, remembered=register.head)
    assert register.asked == 0


def test_an_end_under_a_license_that_nobody_used_changes_nothing(register: Register) -> None:
    assert register.one(End("1")) == Ended(now=False)
    assert register.head is None


# Opt-out.


@pytest.mark.parametrize("kind", [Kind.NAMED_USER, Kind.NODE_LOCKED])
def test_with_an_opt_out_a_start_is_granted_and_nothing_is_stored(register: Register, kind: Kind) -> None:
    bound = terms(kind=kind)
    register.one(start("1", under=bound))
    register.set_head(collect=False)
    assert register.one(start("2", under=bound)) == Granted(None, later(900))
    assert list(register.active) == ["1"]
    assert register.one(End("2")) == Ended(now=False)
    assert register.one(End("1")) == Ended(now=True)


def test_nothing_is_granted_on_a_remembered_head_where_nothing_is_stored(register: Register) -> None:
    bound = terms(kind=Kind.NAMED_USER)
    register.one(start("1", under=bound))
    register.set_head(collect=False)
    remembered = register.head
    register.set_head(suspended=True)
    outcome = register.turn([start("2", under=bound)], NOON, remembered=remembered).outcomes[0]
    assert outcome == Refused(Refusal.SUSPENDED)
    register.set_head(suspended=False, collect=True)
    assert granted(register.turn([start("2", under=bound)], NOON, remembered=remembered).outcomes[0]).session


def test_a_floating_license_is_recorded_whatever_its_head_says(register: Register) -> None:
    register.one(start("1"))
    register.set_head(collect=False)
    assert granted(register.one(start("2"))).session is not None
    assert register.in_use == 2


# Lapses.


def test_a_lapsed_session_makes_room(register: Register) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    register.beat("1", later(60))
    assert register.one(start("2", "bob", under=one), later(959)) == Full(10)
    granted(register.one(start("2", "bob", under=one), later(960)))
    (departure,) = register.ended
    assert (departure.row.value.id, departure.reason, departure.ended_at) == ("1", Reason.LAPSED, later(60))
    register.check()


def test_only_as_many_lapsed_sessions_are_ended_as_room_is_needed(register: Register) -> None:
    register.all(start("1"), start("2"))
    granted(register.one(start("3"), later(900)))
    assert (register.in_use, len(register.ended)) == (2, 1)
    register.check()


def test_a_shared_seat_makes_room_when_all_its_sessions_have_lapsed(register: Register) -> None:
    shared = terms(sharing=Sharing.USER, seats=1)
    register.all(start("1", under=shared), start("2", under=shared))
    register.beat("2", later(300))
    assert isinstance(register.one(start("3", "bob", under=shared), later(900)), Full)
    register.check()
    granted(register.one(start("3", "bob", under=shared), later(1200)))
    assert {departure.row.value.id for departure in register.ended} == {"1", "2"}
    register.check()


def test_a_seat_that_was_taken_for_absent_is_not_freed_by_those_who_had_it(register: Register) -> None:
    """Its sessions have lapsed; in one group their user starts again, and two others need room."""
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


def test_a_session_that_ends_after_it_lapsed_makes_room_once(register: Register) -> None:
    """Its end and two starts come in one group: the lapsed row must not be given away as well."""
    one = terms(seats=1)
    register.one(start("1", under=one))
    outcomes = register.all(End("1"), start("2", under=one), start("3", under=one), at=later(900))
    assert [type(each) for each in outcomes] == [Ended, Granted, Full]
    assert register.in_use == 1
    register.check()


def test_a_swept_session_makes_room_once(register: Register) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    requests: list[Request] = [Lapse(register.active["1"]), start("2", under=one), start("3", under=one)]
    assert [type(each) for each in register.all(*requests, at=later(900))] == [Ended, Granted, Full]
    register.check()


def test_a_heartbeat_between_judgement_and_sweep_saves_the_session(register: Register) -> None:
    register.one(start("1"))
    judged = Lapse(register.active["1"])
    register.beat("1", later(901))
    assert register.one(judged, later(902)) == Ended(now=False)
    assert list(register.active) == ["1"]


def test_a_session_that_lapses_again_after_a_heartbeat_is_not_ended_by_an_older_judgement(register: Register) -> None:
    register.one(start("1"))
    judged = Lapse(register.active["1"])
    register.beat("1", later(901))
    assert register.one(judged, later(9000)) == Ended(now=False)
    assert list(register.active) == ["1"]


@pytest.mark.parametrize("surveyed", [False, True], ids=["what was judged", "what was read"])
def test_no_sweep_frees_a_seat_whose_lease_still_runs(register: Register, surveyed: bool) -> None:
    """Whoever sends it, by whatever clock: the seat would be given twice."""
    one = terms(seats=1)
    register.one(start("1", under=one))
    register.quiet_until = None if surveyed else later(900)
    judged = Lapse(register.active["1"])
    outcomes = register.all(judged, start("2", "bob", under=one), at=later(900) - timedelta(microseconds=1))
    assert [type(each) for each in outcomes] == [Ended, Full]
    assert outcomes[0] == Ended(now=False)
    assert list(register.active) == ["1"]
    register.check()
    assert register.one(judged, later(900)) == Ended(now=True)


def test_a_session_that_two_sweeps_judged_lapses_once(register: Register) -> None:
    register.one(start("1"))
    judged = Lapse(register.active["1"])
    assert register.one(judged, later(900)) == Ended(now=True)
    assert register.one(judged, later(900)) == Ended(now=False)
    assert register.in_use == 0
    register.check()


def test_a_late_repeat_revives_a_session_that_was_not_swept(register: Register) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    outcome = granted(register.one(start("1", under=one), later(5000)))
    assert outcome.repeat
    assert outcome.expires_at == later(5900)
    assert register.active["1"].value.started_at == NOON
    assert isinstance(register.one(start("2", "bob", under=one), later(5001)), Full)
    register.check()


def test_a_late_repeat_with_a_wish_to_borrow_counts_as_borrowed(register: Register) -> None:
    lent = terms(borrow=86400)
    register.one(start("1", under=lent))
    outcome = granted(register.one(start("1", under=lent, borrow=86400), later(5000)))
    assert outcome.session
    assert (outcome.session.borrowed, outcome.expires_at) == (True, later(5000 + 86400))
    assert register.active["1"].value.borrowed
    outcome = granted(register.one(start("1", under=lent), later(5000 + 86400)))
    assert outcome.session
    assert not outcome.session.borrowed


def test_terms_that_are_newer_than_a_remembered_head_do_not_replace_newer_ones(register: Register) -> None:
    register.one(start("1"))
    remembered = register.head
    register.one(start("2", under=terms(serial=3, seats=9)))
    turn = register.turn([start("3", under=terms(serial=2))], NOON, remembered=remembered)
    assert turn.outcomes[0] == Refused(Refusal.SUPERSEDED)
    facts = Facts(remembered)
    assert settle(facts, [start("3", under=terms(serial=2))], NOON, 99) == Questions(head=True)


def test_who_revives_keeps_the_seat_from_who_waits(register: Register) -> None:
    """Both come in one group, whoever is first."""
    one = terms(seats=1)
    register.one(start("1", under=one))
    outcomes = register.all(start("2", "bob", under=one), start("1", under=one), at=later(900))
    assert [type(each) for each in outcomes] == [Full, Granted]
    register.check()


def test_a_repeat_after_the_seat_was_given_away_is_a_new_start(register: Register) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    register.one(start("2", "bob", under=one), later(900))
    assert isinstance(register.one(start("1", under=one), later(901)), Full)
    register.one(End("2"), later(902))
    outcome = granted(register.one(start("1", under=one), later(903)))
    assert not outcome.repeat
    register.check()


def test_a_lapsed_session_whose_repeat_is_refused_makes_room(register: Register) -> None:
    newer = terms(serial=2, seats=1)
    register.one(start("1", under=newer))
    outcomes = register.all(start("1"), start("2", "bob", under=newer), at=later(900))
    assert outcomes[0] == Refused(Refusal.SUPERSEDED)
    granted(outcomes[1])
    register.check()


# Repeats.


def test_a_repeated_start_is_answered_with_what_was_granted(register: Register) -> None:
    first = granted(register.one(start("1")))
    again = granted(register.one(start("1"), later(60)))
    assert again == replace(first, repeat=True)
    assert register.in_use == 1


def test_a_repeat_of_the_last_granted_start_is_not_refused(register: Register) -> None:
    one = terms(seats=1)
    register.one(start("1", under=one))
    assert granted(register.one(start("1", under=one), later(60))).repeat


def test_echoes_of_a_start_in_one_group_take_one_seat(register: Register) -> None:
    outcomes = [granted(each) for each in register.all(start("1"), start("1"), start("1"))]
    assert [each.repeat for each in outcomes] == [False, True, True]
    assert register.in_use == 1


def test_echoes_of_a_refused_start_are_denied_once(register: Register) -> None:
    nothing = terms(seats=0)
    assert register.all(start("1", under=nothing), start("1", under=nothing)) == [Full(10), Full(10)]
    assert register.denied == {"1": 1}


def test_an_end_and_a_start_of_one_session_are_done_one_after_another(register: Register) -> None:
    register.one(start("1"))
    turn = register.turn([start("1"), End("1")], later(1))
    assert turn.outcomes == {1: Ended(now=True)}
    assert not granted(register.turn([start("1")], later(2)).outcomes[0]).repeat
    register.check()


def test_ending_twice_is_fine(register: Register) -> None:
    register.all(start("1"), start("2"))
    assert register.one(End("1")) == Ended(now=True)
    assert register.one(End("1")) == Ended(now=False)
    assert register.in_use == 1


def test_ending_what_never_started_is_fine(register: Register) -> None:
    register.one(start("1"))
    assert register.one(End("unknown")) == Ended(now=False)


@pytest.mark.parametrize("thief", [("eve", "pc"), ("ada", "laptop")])
def test_one_session_cannot_be_two_peoples(register: Register, thief: tuple[str, str]) -> None:
    register.one(start("1"))
    assert register.one(start("1", *thief)) == Taken()
    assert register.in_use == 1


def test_two_people_with_one_session_id_in_one_group(register: Register) -> None:
    requests = [start("1"), start("1", "eve")]
    assert register.turn(requests, NOON).outcomes.keys() == {0}
    assert register.one(requests[1]) == Taken()


def test_a_release_is_recorded_as_one(register: Register) -> None:
    register.one(start("1"))
    register.one(End("1", Reason.RELEASED), later(60))
    assert [(each.reason, each.ended_at) for each in register.ended] == [(Reason.RELEASED, later(60))]


# Peppers.


@pytest.mark.parametrize("sharing", Sharing)
def test_a_holder_keeps_its_seat_when_the_pepper_is_rotated(register: Register, sharing: Sharing) -> None:
    shared = terms(sharing=sharing, seats=1)
    register.one(start("1", under=shared, peppers=("old",)))
    again = granted(register.one(start("1", under=shared, peppers=("new", "old"))))
    assert again.repeat
    assert register.in_use == 1
    register.check()


@pytest.mark.parametrize("sharing", [Sharing.USER_HOST, Sharing.USER, Sharing.HOST])
def test_a_second_program_shares_the_seat_across_a_rotation(register: Register, sharing: Sharing) -> None:
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


def test_one_persons_session_is_not_taken_under_another_pepper(register: Register) -> None:
    register.one(start("1", peppers=("new", "old")))
    assert granted(register.one(start("1", peppers=("old", "new")))).repeat


def test_a_stranger_under_an_old_pepper_has_no_part_in_a_seat(register: Register) -> None:
    shared = terms(sharing=Sharing.USER, seats=1)
    register.one(start("1", under=shared, peppers=("old",)))
    assert register.one(start("2", "bob", under=shared, peppers=("new", "old"))) == Full(60)


# Borrowing.


@pytest.mark.parametrize(("borrow", "borrowed", "seconds"), [(0, False, 900), (7200, True, 7200)])
def test_a_seat_is_borrowed_for_as_long_as_the_license_allows(
    register: Register, borrow: int, borrowed: bool, seconds: int
) -> None:
    session = granted(register.one(start("1", under=terms(borrow=borrow), borrow=86400))).session
    assert session is not None
    assert (session.borrowed, session.expires_at) == (borrowed, later(seconds))


def test_a_borrowed_seat_does_not_lapse_with_the_ordinary_lease(register: Register) -> None:
    lending = terms(seats=1, borrow=7200)
    register.one(start("1", under=lending, borrow=7200))
    assert isinstance(register.one(start("2", "bob", under=lending), later(7199)), Full)
    granted(register.one(start("2", "bob", under=lending), later(7200)))


# Room, questions, times.


def test_a_group_that_does_not_fit_a_transaction_is_done_in_turns(register: Register) -> None:
    many = terms(seats=300, sharing=Sharing.USER)
    waiting = [start(str(number), f"user{number}", under=many) for number in range(120)]
    turns = 0
    while waiting:
        done = register.turn(waiting, NOON).outcomes
        assert all(isinstance(each, Granted) for each in done.values())
        waiting = [request for place, request in enumerate(waiting) if place not in done]
        turns += 1
        register.check()
    assert register.in_use == 120
    assert turns == 3


def test_a_survey_is_not_asked_for_while_no_lease_can_lapse() -> None:
    one = terms(seats=1)
    register = Register()
    register.one(start("1", under=one))
    register.one(start("2", "bob", under=one))
    assert register.head is not None
    facts = Facts(register.head, fresh=True, active={"2": None}, quiet_until=later(900))
    assert isinstance(settle(facts, [start("2", "bob", under=one)], later(899), 99), Plan)
    asked = settle(facts, [start("2", "bob", under=one)], later(900), 99)
    assert asked == Questions(survey=True)


@pytest.mark.parametrize(
    ("quiet", "seconds"),
    [(None, 10), (later(-5), 10), (later(0), 10), (later(9.5), 10), (later(30), 31), (later(59), 60), (later(900), 60)],
)
def test_a_refused_start_is_told_to_come_back_when_a_lease_can_lapse(quiet: datetime | None, seconds: int) -> None:
    assert retry_seconds(quiet, NOON) == seconds
    assert RETRY_SECONDS[0] <= seconds <= RETRY_SECONDS[1]


def test_no_session_ends_before_it_began(register: Register) -> None:
    session = granted(register.one(start("1"), later(10))).session
    assert session is not None
    row = Known(session, "1")
    assert depart(row, Reason.ENDED, later(5)).ended_at == later(10)
    early = Known(replace(session, heartbeat_at=later(10) - timedelta(seconds=1)), "1")
    assert depart(early, Reason.LAPSED, later(5000)).ended_at == later(10)
