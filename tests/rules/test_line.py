"""The line of those who wait for a seat, decided by `decide` over rows in memory."""

import random
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from licensing.rules import line
from licensing.rules.license import Kind, Sharing
from licensing.rules.line import MOST_PLACES, Place, retry_seconds_at
from licensing.rules.outage import Outage
from licensing.rules.requests import End, Full, Granted, Lapse, Outcome, Recall, Request, Start
from licensing.rules.seats import Facts, Questions, decide
from tests.rules.memory_register import MAX_ROWS, NOON, MemoryRegister, later, start, terms

ONE = terms(seats=1)


@pytest.fixture
def register() -> MemoryRegister:
    return MemoryRegister()


def waits(session_id: str, user: str = "bob", **changes: object) -> Start:
    """A start that waits under a license with one seat."""
    return start(session_id, user, **{"under": ONE, "wait": True, **changes})  # type: ignore[arg-type]


def places(register: MemoryRegister) -> list[str]:
    register.check()
    return [place.session_id for place in register.line]


def positions(*outcomes: Outcome) -> list[int | None]:
    assert all(isinstance(outcome, Full) for outcome in outcomes), outcomes
    return [outcome.position for outcome in outcomes if isinstance(outcome, Full)]


def full_with_line(register: MemoryRegister, *sessions: str, **changes: object) -> None:
    """One seat, held by `held`, and a line."""
    register.one(start("held", under=terms(seats=1, **changes)))
    register.all(*(waits(session, under=terms(seats=1, **changes)) for session in sessions))


# Places.


def test_who_waits_gets_a_place_and_asks_again_after_a_time_by_it(register: MemoryRegister) -> None:
    register.one(start("held", under=ONE))
    refusals = [register.one(waits(f"w{number}")) for number in range(1, 15)]
    assert positions(*refusals) == list(range(1, 15))
    seconds = [outcome.retry_seconds for outcome in refusals if isinstance(outcome, Full)]
    assert seconds == [5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 55, 60, 60, 60]
    assert places(register) == [f"w{number}" for number in range(1, 15)]


def test_who_does_not_wait_has_no_place_and_leaves_none(register: MemoryRegister) -> None:
    full_with_line(register, "w1", "w2")
    assert register.one(start("click", "eve", under=ONE)) == Full(60, None, 2)
    assert register.one(start("w1", "bob", under=ONE)) == Full(60, None, 1), "it does not wait any more"
    assert places(register) == ["w2"]


def test_asking_again_keeps_the_place(register: MemoryRegister) -> None:
    full_with_line(register, "w1", "w2")
    assert positions(register.one(waits("w1"), later(5)), register.one(waits("w2"), later(10))) == [1, 2]
    assert [place.arrived_at for place in register.line] == [NOON, NOON]
    assert [place.heard_at for place in register.line] == [later(5), later(10)]


def test_the_fifty_first_has_no_place_until_somebody_leaves(register: MemoryRegister) -> None:
    full_with_line(register, *(f"w{number}" for number in range(MOST_PLACES)))
    assert register.one(waits("late")) == Full(60, None, MOST_PLACES)
    register.one(start("w7", "bob", under=ONE))  # it does not wait any more
    assert positions(register.one(waits("late"))) == [MOST_PLACES]
    register.check()


# The order.


def test_a_free_seat_goes_to_the_first_whoever_asks(register: MemoryRegister) -> None:
    full_with_line(register, "w1", "w2", "w3")
    register.one(End("held"), later(1))
    assert positions(register.one(waits("w3"), later(2)), register.one(waits("w2"), later(2))) == [3, 2]
    assert register.one(start("click", "eve", under=ONE), later(2)) == Full(60, None, 3)
    assert isinstance(register.one(waits("w1"), later(3)), Granted)
    assert places(register) == ["w2", "w3"]


def test_several_free_seats_are_taken_in_any_order_of_asking(register: MemoryRegister) -> None:
    three = terms(seats=3)
    register.all(*(start(session, session, under=three) for session in "abc"))
    register.all(*(waits(f"w{number}", under=three) for number in range(1, 5)))
    register.all(End("a"), End("b"))
    fourth, third, second, first = (register.one(waits(f"w{number}", under=three), later(1)) for number in (4, 3, 2, 1))
    assert positions(fourth, third) == [4, 3]
    assert isinstance(first, Granted)
    assert isinstance(second, Granted)


def test_in_one_batch_the_order_of_requests_does_not_count(register: MemoryRegister) -> None:
    full_with_line(register, "w1", "w2")
    new, second, first, _ = register.all(waits("new"), waits("w2"), waits("w1"), End("held"), at=later(1))
    assert isinstance(first, Granted)
    assert positions(second, new) == [1, 2]


def test_who_comes_back_after_it_has_left_asks_after_those_who_wait(register: MemoryRegister) -> None:
    full_with_line(register, "left", "next")
    register.one(waits("next"), at=later(20))
    register.one(End("held"), at=later(31))
    answers = register.all(waits("left"), waits("next"), at=later(32))
    assert isinstance(answers[1], Granted)
    assert (positions(answers[0]), places(register)) == ([1], ["left"])


def test_a_predecessor_that_is_gone_moves_nobody_forward(register: MemoryRegister) -> None:
    full_with_line(register, "w1", "w2")
    register.one(End("held"), at=later(1))
    answers = register.all(waits("w2", replaces="gone"), waits("w1"), at=later(2))
    assert isinstance(answers[1], Granted)
    assert (positions(answers[0]), places(register)) == ([1], ["w2"])


def test_more_free_seats_than_waiters_are_for_whoever_comes(register: MemoryRegister) -> None:
    two = terms(seats=2)
    register.all(start("a", "a", under=two), start("b", "b", under=two), waits("w1", under=two))
    register.all(End("a"), End("b"))
    assert isinstance(register.one(start("click", "eve", under=two)), Granted), "one seat is left for the first"
    assert isinstance(register.one(start("click-2", "eve", under=two)), Full)
    assert isinstance(register.one(waits("w1", under=two)), Granted)


def test_lapsed_sessions_make_room_in_the_order_of_the_line(register: MemoryRegister) -> None:
    full_with_line(register, "w1", "w2")
    for seconds in range(20, 900, 20):
        register.all(waits("w1"), waits("w2"), at=later(seconds))
    assert not register.plan([waits("w2")], later(901)).outcomes, "it has made room, and comes again"
    assert positions(register.one(waits("w2"), later(901))) == [2]
    assert isinstance(register.one(waits("w1"), later(902)), Granted)


# Who leaves.


@pytest.mark.parametrize("position", [1, 3, 12, 20])
def test_a_waiter_has_left_after_three_times_its_retry_time(register: MemoryRegister, position: int) -> None:
    before = [f"b{number}" for number in range(1, position)]
    full_with_line(register, *before, "gone")
    for session in before:
        register.one(start(session, "bob", under=ONE))
    silence = 3 * retry_seconds_at(position) + 15
    assert register.one(waits("next"), later(silence - 1)) == Full(10, 2, 2)
    register.one(start("next", "bob", under=ONE), later(silence - 1))
    assert register.one(waits("after"), later(silence)) == Full(5, 1, 1)
    assert places(register) == ["after"]


def test_a_vanished_first_does_not_block_those_behind_it(register: MemoryRegister) -> None:
    full_with_line(register, "gone", "w2")
    register.one(End("held"), later(1))
    assert positions(register.one(waits("w2"), later(10)), register.one(waits("w2"), later(20))) == [2, 2]
    assert isinstance(register.one(waits("w2"), later(30)), Granted)


def test_nobody_has_left_who_could_not_be_heard(register: MemoryRegister) -> None:
    full_with_line(register, "w1", lease_seconds=7200)
    register.outage = Outage(later(10), later(1000))
    assert positions(register.one(waits("w2"), later(1359))) == [2]
    assert positions(register.one(waits("w2"), later(1360))) == [1]


def test_it_is_asked_whether_the_service_was_away_before_anybody_has_left(register: MemoryRegister) -> None:
    full_with_line(register, "w1")
    register.one(End("held"))
    facts = Facts(register.state, fresh=True, lapsing=register.lapsing)
    asked = decide(facts, [waits("w2")], later(31), MAX_ROWS)
    assert isinstance(asked, Questions)
    assert asked.outage


def test_a_waiter_whose_reply_was_lost_has_its_seat(register: MemoryRegister) -> None:
    full_with_line(register, "w1", "w2")
    register.one(End("held"), later(1))
    granted = register.one(waits("w1"), later(5))
    again = register.one(waits("w1"), later(6))
    assert isinstance(granted, Granted)
    assert again == replace(granted, repeat=True)
    assert places(register) == ["w2"]


# Beside other rules.


def test_who_shares_a_seat_or_replaces_its_own_needs_no_place(register: MemoryRegister) -> None:
    shared = terms(seats=1, sharing=Sharing.USER)
    register.one(start("1", "ada", under=shared))
    register.one(waits("w1", under=shared))
    assert isinstance(register.one(start("2", "ada", under=shared)), Granted)
    assert isinstance(register.one(start("3", "ada", under=shared, replaces="1")), Granted)
    assert places(register) == ["w1"]


def test_a_waiter_who_comes_to_share_a_seat_leaves_the_line(register: MemoryRegister) -> None:
    shared = terms(seats=1, sharing=Sharing.USER)
    register.one(start("1", "ada", under=shared))
    register.all(waits("w1", under=shared), waits("w2", "eve", under=shared))
    register.one(End("1"))
    register.one(waits("w1", under=shared))
    assert isinstance(register.one(waits("w3", under=shared)), Granted)
    assert places(register) == ["w2"]


def test_a_recalled_seat_is_given_up_in_the_order_of_the_line(register: MemoryRegister) -> None:
    full_with_line(register, "w1")
    register.one(Recall("held"))
    again = register.one(waits("again", "ada", replaces="held"))
    assert positions(again) == [2], "whose seat was recalled stands behind who waits"


def test_a_borrowed_seat_is_waited_for_until_it_ends(register: MemoryRegister) -> None:
    lends = terms(seats=1, borrow_seconds=7200)
    register.one(start("away", under=lends, borrow=7200))
    register.heartbeat("away", later(1), later(7200))
    assert positions(register.one(waits("w1", under=lends), later(3000))) == [1]
    assert isinstance(register.one(waits("w1", under=lends), later(7201)), Granted)


def test_seats_beyond_those_bought_are_seats_for_the_line(register: MemoryRegister) -> None:
    more = terms(seats=1, overdraft=1)
    register.all(start("a", "a", under=more), start("b", "b", under=more), waits("w1", under=more))
    register.one(End("a"))
    assert isinstance(register.one(start("click", "eve", under=more)), Full)
    granted = register.one(waits("w1", under=more))
    assert isinstance(granted, Granted)
    assert granted.session is not None
    assert granted.session.overdraft


def test_new_terms_with_more_seats_serve_the_line_first(register: MemoryRegister) -> None:
    full_with_line(register, "w1", "w2")
    grown = terms(serial=2, seats=2)
    assert register.one(start("click", "eve", under=grown)) == Full(60, None, 2)
    assert positions(register.one(waits("w2", under=grown))) == [2]
    assert isinstance(register.one(waits("w1", under=grown)), Granted)


def test_new_terms_with_fewer_seats_leave_the_line_as_it_is(register: MemoryRegister) -> None:
    two = terms(seats=2)
    register.all(start("a", "a", under=two), start("b", "b", under=two), waits("w1", under=two))
    fewer = terms(serial=2, seats=1)
    register.one(End("a"))
    assert positions(register.one(waits("w1", under=fewer))) == [1]
    register.one(End("b"))
    assert isinstance(register.one(waits("w1", under=fewer)), Granted)


def test_who_needs_no_seat_any_more_leaves_the_line(register: MemoryRegister) -> None:
    full_with_line(register, "w1", "w2")
    bound = terms(serial=2, kind=Kind.NODE_LOCKED)
    assert isinstance(register.one(waits("w2", under=bound)), Granted)
    assert places(register) == ["w1"]


def test_a_suspended_license_serves_nobody_and_keeps_the_line_while_it_is_heard_of(register: MemoryRegister) -> None:
    full_with_line(register, "w1")
    register.set_state(suspended=True)
    register.one(waits("w1"), later(5))
    register.set_state(suspended=False)
    assert positions(register.one(waits("w2"), later(29))) == [2]
    assert positions(register.one(waits("w2"), later(31))) == [1], "nobody is heard of while a license is suspended"


# What is asked, and what is stored.


def test_who_keeps_a_place_is_refused_by_the_cached_state_and_changes_it(register: MemoryRegister) -> None:
    full_with_line(register, "w1")
    register.one(waits("w1"), later(5))
    asked, state = register.asked, register.state
    plan = register.plan([waits("w1")], later(10), cached=state)
    assert register.asked == asked, "nothing is read: the commit fails if the cached state is stale"
    assert plan.changes_state


def test_a_stale_state_refuses_nobody(register: MemoryRegister) -> None:
    full_with_line(register, "w1")
    stale = register.state
    register.one(End("held"))
    plan = register.plan([waits("w1")], later(5), cached=stale)
    assert isinstance(plan.outcomes[0], Granted)


def test_a_second_ask_at_one_instant_rests_on_a_fresh_state(register: MemoryRegister) -> None:
    full_with_line(register, "w1")
    stale = register.state
    register.one(End("held"))
    plan = register.plan([waits("w1")], NOON, cached=stale)
    assert isinstance(plan.outcomes[0], Granted)


def test_a_lapse_in_the_same_batch_serves_the_first(register: MemoryRegister) -> None:
    full_with_line(register, "w1")
    for seconds in range(20, 900, 20):
        register.one(waits("w1"), later(seconds))
    row = register.active["held"]
    outcomes = register.all(waits("w1"), Lapse(row), at=later(900))
    assert isinstance(outcomes[0], Granted)
    assert places(register) == []


def test_lines_do_not_change() -> None:
    place = Place("w1", NOON, NOON, 5)
    longer = line.waiting((place,), "w2", later(1))
    assert [each.session_id for each in longer] == ["w1", "w2"]
    assert line.without(longer, ["w1"]) == longer[1:]
    assert line.waiters_before(longer, "w2") == 1
    assert line.waiters_before(longer, "w3") == 2
    assert line.live((place,), NOON + timedelta(seconds=30), None) == ()


# At random.


class Life:
    """A license with a few seats, served by two processes with caches of their own; the line as its users see it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.register = MemoryRegister()
        self.terms = terms(seats=self.chance.randint(1, 3), overdraft=self.chance.randint(0, 1))
        self.now = NOON
        self.cached = [self.register.state] * 2
        self.order: list[str] = []  # who waits, the first first
        self.heard: dict[str, tuple[datetime, int]] = {}

    def still_waiting(self) -> list[str]:
        def left(session: str) -> bool:
            at, seconds = self.heard[session]
            return at + timedelta(seconds=3 * seconds + 15) <= self.now

        self.order = [session for session in self.order if not left(session)]
        return self.order

    def step(self) -> None:
        self.now += timedelta(seconds=self.chance.choice([0.5, 1, 2, 5, 20]))
        process = self.chance.randrange(2)
        if self.chance.random() < 0.3:
            self.cached[process] = self.register.state
        running = list(self.register.active)
        request: Request
        if running and self.chance.random() < 0.3:
            request = End(self.chance.choice(running))
        elif self.order and self.chance.random() < 0.6:
            request = waits(self.chance.choice(self.order), under=self.terms)
        else:
            name = f"s{self.chance.randrange(12)}"
            request = start(name, under=self.terms, wait=self.chance.random() < 0.7)
        outcome = self.register.plan([request], self.now, cached=self.cached[process]).outcomes[0]
        self.register.check()
        if isinstance(request, Start) and request.session_id not in running:
            self.hold_against_the_order(request, outcome)

    def hold_against_the_order(self, request: Start, outcome: Outcome) -> None:
        waiting, name = self.still_waiting(), request.session_id
        before = waiting.index(name) if name in waiting else len(waiting)
        free = self.terms.capacity - self.register.in_use
        if isinstance(outcome, Granted):
            assert free >= before, "a waiter was overtaken"
            self.order = [session for session in waiting if session != name]
            return
        assert isinstance(outcome, Full)
        assert free <= before, "refused, and a seat is free"
        if request.wait:
            self.order = waiting if name in waiting else [*waiting, name]
            assert outcome.position == before + 1
            self.heard[name] = self.now, outcome.retry_seconds
        else:
            self.order = [session for session in waiting if session != name]
            assert outcome.position is None
        assert outcome.waiting == len(self.order)


@pytest.mark.parametrize("seed", range(20))
def test_nobody_is_overtaken_whatever_happens(seed: int) -> None:
    for life in range(10):
        lived = Life(100 * seed + life)
        for _ in range(80):
            lived.step()
