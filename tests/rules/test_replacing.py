"""A start that replaces a session takes its seat in one plan (design-2, C3)."""

from dataclasses import replace

import pytest

from licensing.rules.license import Kind, Refusal, Sharing
from licensing.rules.model import EndReason
from licensing.rules.requests import End, Ended, Full, Granted, Lapse, Outcome, Recall, Refused, Request
from licensing.rules.seats import NOT_YET
from tests.rules.memory_register import NOON, MemoryRegister, later, start, terms

ONE = terms(seats=1)
OVERDRAFT = terms(seats=0, overdraft=1)
FEWER = terms(serial=2, seats=1)


@pytest.fixture
def register() -> MemoryRegister:
    return MemoryRegister()


def begin(register: MemoryRegister, *sessions: str, under: object = ONE, user: str = "ada", host: str = "pc") -> None:
    for session in sessions:
        assert isinstance(register.one(start(session, user, host, under=under)), Granted)  # type: ignore[arg-type]


def reasons(register: MemoryRegister) -> dict[str, EndReason]:
    return {each.session.id: each.reason for each in register.ended}


def test_the_seat_changes_hands_in_one_plan(register: MemoryRegister) -> None:
    begin(register, "1")
    plan = register.plan([start("2", under=ONE, replaces="1")], later(60))
    assert isinstance(plan.outcomes[0], Granted)
    assert [session.id for session in plan.started] == ["2"]
    assert [row.value.session.id for row in plan.ended] == ["1"]
    assert (register.in_use, list(register.active), reasons(register)) == (1, ["2"], {"1": EndReason.REPLACED})
    register.check()


def test_a_program_that_asks_in_the_same_batch_does_not_get_the_seat(register: MemoryRegister) -> None:
    begin(register, "1")
    outcomes = register.all(start("3", "bob", under=ONE), start("2", under=ONE, replaces="1"), at=later(60))
    assert [type(each) for each in outcomes] == [Full, Granted]


def test_a_program_that_asks_when_the_old_lease_is_over_does_not_get_the_seat(register: MemoryRegister) -> None:
    begin(register, "1")
    outcomes = register.all(start("3", "bob", under=ONE), start("2", under=ONE, replaces="1"), at=later(901))
    assert [type(each) for each in outcomes] == [Full, Granted]
    assert register.ended[0].ended_at == NOON, "it was not heard of since"


@pytest.mark.parametrize("gone", ["never", "ended", "itself"])
def test_a_predecessor_that_is_not_active_is_ignored(register: MemoryRegister, gone: str) -> None:
    begin(register, "1")
    if gone == "ended":
        register.one(End("1"))
    outcome = register.one(start("2", "bob", under=ONE, replaces={"never": "9", "itself": "2"}.get(gone, "1")))
    assert isinstance(outcome, Granted if gone == "ended" else Full)
    assert len(register.active) == 1
    register.check()


def test_a_repeat_changes_nothing(register: MemoryRegister) -> None:
    begin(register, "1")
    request = start("2", under=ONE, replaces="1", ran_until=later(50))
    first = register.one(request, later(60))
    rows = dict(register.active)
    assert isinstance(first, Granted)
    assert register.one(request, later(61)) == replace(first, repeat=True)
    assert (register.active, len(register.ended)) == (rows, 1)


def test_a_refused_start_ends_nothing(register: MemoryRegister) -> None:
    begin(register, "1")
    register.set_state(suspended=True)
    assert register.one(start("2", under=ONE, replaces="1")) == Refused(Refusal.SUSPENDED)
    register.set_state(suspended=False)
    begin(register, "1", under=ONE)
    newer = terms(serial=2, seats=2)
    begin(register, "3", under=newer, user="bob")
    assert register.one(start("2", under=ONE, replaces="1")) == Refused(Refusal.SUPERSEDED)
    assert register.active.keys() == {"1", "3"}


def test_the_seat_is_kept_when_new_terms_bring_fewer(register: MemoryRegister) -> None:
    begin(register, "1", "2", under=terms(seats=2))
    begin_outcome = register.one(start("3", under=FEWER, replaces="1"), later(10))
    assert isinstance(begin_outcome, Granted), "nobody is thrown out"
    assert register.in_use == 2
    assert isinstance(register.one(start("4", "bob", under=FEWER), later(10)), Full)


def test_an_overdraft_stays_one_and_a_bought_seat_stays_bought(register: MemoryRegister) -> None:
    begin(register, "1", under=OVERDRAFT)
    register.one(start("2", under=OVERDRAFT, replaces="1"))
    assert register.active["2"].value.overdraft
    other = MemoryRegister()
    begin(other, "1", "2", under=terms(seats=1, overdraft=1))
    other.one(start("3", under=terms(seats=1, overdraft=1), replaces="1"))
    assert (other.active["2"].value.overdraft, other.active["3"].value.overdraft) == (True, False)


@pytest.mark.parametrize("sharing", [Sharing.USER, Sharing.HOST, Sharing.USER_HOST])
def test_on_a_shared_seat_the_new_session_joins_and_the_old_one_leaves(
    register: MemoryRegister, sharing: Sharing
) -> None:
    shared = terms(seats=1, sharing=sharing)
    begin(register, "1", "2", under=shared)
    assert isinstance(register.one(start("3", under=shared, replaces="1")), Granted)
    assert (register.in_use, sorted(register.active)) == (1, ["2", "3"])
    register.one(start("4", under=shared, replaces="3"))
    register.one(End("2"))
    assert isinstance(register.one(start("5", under=shared, replaces="4")), Granted), "alone on its seat"
    assert (register.in_use, list(register.active)) == (1, ["5"])
    register.check()


def test_a_holder_with_other_sessions_on_the_seat_needs_one_of_its_own_under_another_name(
    register: MemoryRegister,
) -> None:
    shared = terms(seats=1, sharing=Sharing.USER)
    begin(register, "1", "2", under=shared)
    assert isinstance(register.one(start("3", "eve", under=shared, replaces="1")), Full)
    assert sorted(register.active) == ["1", "2"], "a refused start ends nothing"
    register.one(End("2"))
    assert isinstance(register.one(start("3", "eve", under=shared, replaces="1")), Granted), "the seat moves"
    assert (register.in_use, list(register.active), list(register.seats)) == (1, ["3"], ["eve/new"])
    register.check()


def test_a_session_that_joins_another_seat_frees_its_own(register: MemoryRegister) -> None:
    shared = terms(seats=2, sharing=Sharing.USER)
    begin(register, "1", under=shared, user="eve")
    begin(register, "2", under=shared)
    assert isinstance(register.one(start("3", under=shared, replaces="1")), Granted)
    assert (register.in_use, register.seats["ada/new"].value) == (1, 2)
    register.check()


def test_a_lapsed_neighbour_makes_room_for_a_seat_of_its_own(register: MemoryRegister) -> None:
    shared = terms(seats=2, sharing=Sharing.USER)
    begin(register, "1", "2", under=shared)
    begin(register, "9", under=shared, user="bob")
    register.heartbeat("1", later(600))
    register.heartbeat("2", later(600))
    outcome = register.one(start("3", "eve", under=shared, replaces="1"), later(1000))
    assert isinstance(outcome, Granted)
    assert reasons(register) == {"9": EndReason.LAPSED, "1": EndReason.REPLACED}
    register.check()


def test_a_lapsed_predecessor_that_shares_its_seat_ends_once(register: MemoryRegister) -> None:
    shared = terms(seats=1, sharing=Sharing.USER)
    begin(register, "1", "2", under=shared)
    register.heartbeat("2", later(600))
    assert isinstance(register.one(start("3", "eve", under=shared, replaces="1"), later(1000)), Full)
    register.check()


def test_without_seats_there_is_nothing_to_take_over(register: MemoryRegister) -> None:
    locked = terms(kind=Kind.NODE_LOCKED, seats=0)
    begin(register, "1", under=locked)
    assert isinstance(register.one(start("2", under=locked, replaces="1")), Granted)
    assert (register.in_use, list(register.active)) == (0, ["2"])


def test_who_replaces_a_recalled_session_ends_it_and_is_judged_as_any_other(register: MemoryRegister) -> None:
    two = terms(seats=1)
    begin(register, "1", under=two)
    register.one(Recall("1"))
    asked = [start("3", "bob", under=two), start("2", under=two, replaces="1")]
    outcomes = register.all(*asked, at=later(60))
    assert sorted(type(each).__name__ for each in outcomes) == ["Full", "Granted"]
    assert reasons(register) == {"1": EndReason.REPLACED}
    register.check()


def test_a_session_is_replaced_once_in_a_batch(register: MemoryRegister) -> None:
    begin(register, "1")
    requests = [start("2", under=ONE, replaces="1"), start("3", under=ONE, replaces="1")]
    plan = register.plan(requests, later(60))
    assert [type(plan.decisions[0]), plan.decisions[1]] == [Granted, NOT_YET]
    assert isinstance(register.one(requests[1], later(61)), Full), "the seat is taken"


@pytest.mark.parametrize("other", ["end", "lapse", "repeat"])
def test_another_request_on_the_predecessor_in_the_same_batch_is_safe(register: MemoryRegister, other: str) -> None:
    begin(register, "1")
    row = register.active["1"]
    others: dict[str, Request] = {"end": End("1"), "lapse": Lapse(row), "repeat": start("1", under=ONE)}
    beside = others[other]
    waiting: list[Request] = [start("2", under=ONE, replaces="1"), beside]
    outcomes: list[Outcome] = []
    for second in range(3):
        plan = register.plan(waiting, later(950 + second)) if waiting else None
        outcomes += plan.outcomes.values() if plan else []
        waiting = [each for place, each in enumerate(waiting) if plan and place not in plan.outcomes]
        register.check()
    assert not waiting
    assert sum(isinstance(each, Granted) for each in outcomes) == 1
    assert len(register.active) == 1
    assert other == "repeat" or Ended(now=True) in outcomes


def test_until_when_the_old_program_ran_is_kept(register: MemoryRegister) -> None:
    begin(register, "1")
    register.one(start("2", under=ONE, replaces="1", ran_until=later(5000)), later(4000))
    (ended,) = register.ended
    assert (ended.ended_at, ended.ran_until) == (NOON, later(4000)), "cut to now"
