"""A program that waits for a seat has one place in line, keeps it whatever happens, and learns of it."""

import json
from pathlib import Path

import pytest

from conftest import Workspace, eventually
from factories import NOW, program
from licensing_client import Seat, Standing, Status, machine
from licensing_client.answers import Granted, Refused, Seats
from licensing_client.lease import Lease
from licensing_client.machine import Earlier, Randomness, Terms
from licensing_client.reasons import Code, reason
from simulation import Computer, ReferenceSimulation, without_locks
from test_seat import seat_of

HOUR = 3600.0


@pytest.fixture
def simulation(tmp_path: Path) -> ReferenceSimulation:
    """One seat, which Ann holds."""
    simulation = ReferenceSimulation(tmp_path, seats=1)
    simulation.computer("ann").start().run(1)
    return simulation


def starts(computer: Computer, simulation: ReferenceSimulation) -> list[dict[str, object]]:
    """The starts that the service got from a computer."""
    person = computer.names.person(computer.license.salt, computer.license.hosts)
    bodies = (json.loads(request.body) for _, request, _ in simulation.service.requests if request.method == "POST")
    return [body for body in bodies if body.get("host") == person.host]


def position_of(computer: Computer) -> int | None:
    assert computer.engine
    return computer.engine.state.position


def free_the_seat(simulation: ReferenceSimulation) -> None:
    simulation.service.active.clear()


def test_each_start_of_a_wait_asks_for_the_same_place(simulation: ReferenceSimulation) -> None:
    bob = simulation.computer("bob").start(wait=True).run(60)
    assert bob.has_status(Status.REFUSED)
    assert position_of(bob) == 1
    asked = starts(bob, simulation)
    assert len(asked) >= 10
    assert {(body["session"], body["wait"]) for body in asked} == {(asked[0]["session"], True)}


def test_a_program_that_does_not_wait_asks_for_no_place(simulation: ReferenceSimulation) -> None:
    bob = simulation.computer("bob").start().run(60)
    assert bob.has_status(Status.REFUSED)
    assert ["wait" in body for body in starts(bob, simulation)] == [False]
    assert not simulation.service.line


def test_a_seat_that_comes_free_goes_to_the_first_in_line(simulation: ReferenceSimulation) -> None:
    bob = simulation.computer("bob").start(wait=True).run(1)
    eve = simulation.computer("eve").start(wait=True).run(1)
    assert (position_of(bob), position_of(eve)) == (1, 2)
    free_the_seat(simulation)
    eve.run(0.5)
    bob.run(5.6)
    assert bob.has_status(Status.GRANTED)
    assert position_of(bob) is None
    assert eve.has_status(Status.REFUSED)


@pytest.mark.parametrize("condition", ["reply-lost", "down", "portal"])
def test_a_bad_line_costs_no_place(simulation: ReferenceSimulation, condition: str) -> None:
    bob = simulation.computer("bob").start(wait=True).run(1)
    eve = simulation.computer("eve").start(wait=True).run(1)
    for _ in range(3):
        bob.network.condition = condition
        bob.run(7)
        bob.network.condition = "fine"
        bob.run(7)
        eve.run(0)
    assert (position_of(bob), position_of(eve)) == (1, 2)
    assert len({body["session"] for body in starts(bob, simulation)}) == 1


def test_a_grant_whose_reply_is_lost_is_the_seat_of_the_wait(simulation: ReferenceSimulation) -> None:
    bob = simulation.computer("bob").start(wait=True).run(1)
    free_the_seat(simulation)
    bob.network.condition = "reply-lost"
    bob.run(6)
    bob.network.condition = "fine"
    bob.run(6)
    assert bob.has_status(Status.GRANTED)
    assert simulation.seats_of(bob) == 1
    assert not simulation.service.line


def test_sleep_costs_no_session_id(simulation: ReferenceSimulation) -> None:
    bob = simulation.computer("bob").start(wait=True).run(1).sleep(600).run(10)
    assert position_of(bob) == 1
    assert len({body["session"] for body in starts(bob, simulation)}) == 1


@pytest.mark.parametrize("moment", ["waiting", "asking", "closed"])
def test_a_wait_that_goes_on_after_a_crash_has_the_same_place(simulation: ReferenceSimulation, moment: str) -> None:
    bob = simulation.computer("bob").start(wait=True).run(1)
    eve = simulation.computer("eve").start(wait=True).run(1)
    if moment == "asking":
        bob.network.condition = "reply-lost"
        bob.run(5.6)
    bob = bob.stop() if moment == "closed" else bob.crash()
    bob.network.condition = "fine"
    bob.start(wait=True, seed=2).run(1)
    assert (position_of(bob), position_of(eve)) == (1, 2)
    assert len(simulation.service.line) == 2


def test_after_a_crash_a_wait_that_replaces_keeps_its_place_too(simulation: ReferenceSimulation) -> None:
    free_the_seat(simulation)
    bob = simulation.computer("bob").start(wait=True).run(1).crash()
    free_the_seat(simulation)
    simulation.computer("ann").start().run(1)
    for seed in (2, 3):
        bob.start(wait=True, seed=seed).run(1).crash()
    assert len(simulation.service.line) == 1
    asked = starts(bob, simulation)
    assert asked[-1]["session"] == asked[-2]["session"]
    assert asked[-1]["replaces"] == asked[-2]["replaces"]


def test_the_id_of_a_place_serves_one_start_only(simulation: ReferenceSimulation) -> None:
    bob = simulation.computer("bob").start(wait=True).run(1)
    free_the_seat(simulation)
    bob.run(6).stop().start(wait=True, seed=2).run(1)
    sessions = [body["session"] for body in starts(bob, simulation)]
    assert sessions[-1] != sessions[-2]


def test_without_locks_two_programs_never_share_a_place(
    simulation: ReferenceSimulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch)
    bob = simulation.computer("bob").start(wait=True).run(1)
    other = simulation.computer("bob").start(wait=True, seed=2).run(1)
    assert (position_of(bob), position_of(other)) == (1, 2)
    bob.crash()
    simulation.clock.true += 2 * HOUR
    third = simulation.computer("bob").start(wait=True, seed=3).run(1)
    assert len({str(body["session"]) for body in starts(third, simulation)}) == 3


def test_a_program_that_loses_its_seat_has_one_place_from_the_first_refusal_on(simulation: ReferenceSimulation) -> None:
    free_the_seat(simulation)
    bob = simulation.computer("bob").start(wait=True).run(1)
    free_the_seat(simulation)
    simulation.computer("ann").start().run(1)
    bob.run(250)
    while len(bob.network.calls) < 3:
        bob.run(1)
    assert bob.running, "its session is gone, and a start in its place was refused once"
    assert bob.places == []
    bob.crash().start(wait=True, seed=2).run(1)
    assert len(simulation.service.line) == 1
    bob.places.clear()
    bob.stop().start(wait=True, seed=3).run(1)
    assert bob.places == [(1, 1)]


def test_a_program_that_has_lost_its_seat_learns_its_place(simulation: ReferenceSimulation) -> None:
    free_the_seat(simulation)
    bob = simulation.computer("bob").start(wait=True).run(1)
    free_the_seat(simulation)
    simulation.computer("ann").start().run(1)
    bob.run(330)
    assert (bob.notices, bob.places) == (["granted", "lost"], [(1, 1)])


def test_who_has_a_place_asks_sooner_than_who_has_none() -> None:
    refused = [Refused(reason(Code.NO_SEAT), 10, position=position) for position in (3, None)]
    state = machine.begin(Terms(NOW + 10**6, floating=True, wait=True), "one", Earlier(), 0, NOW)
    state = machine.call_sent(state, machine.Start("one", 0, wait=True))
    for jitter, wanted in ((0.0, (10, 10)), (0.5, (10.5, 12.5)), (1.0, (11, 15))):
        after = [machine.answered(state, answer, NOW, Randomness(jitter, "two")).call_at for answer in refused]
        assert [(call_at or 0) - NOW for call_at in after] == pytest.approx(wanted)


def test_a_trade_asks_for_no_place() -> None:
    """A trade that is refused leaves the program its seat, so nobody would come for the place."""
    ann = machine.begin(Terms(NOW + 10**6, floating=True, wait=True), "one", Earlier(), 0, NOW)
    start = machine.due_call(ann, NOW)
    assert isinstance(start, machine.Start)
    assert start.wait
    lease = Lease("t", "one", NOW, NOW + 900, "n", (), 7200, borrowed=False, overdraft=False)
    answer = Granted(lease, 300, recorded=True)
    ann = machine.answered(machine.call_sent(ann, start), answer, NOW, Randomness(0, "two"))
    ann = machine.borrow(ann, 86400, NOW, Randomness(0, "three"))
    trade = machine.due_call(ann, NOW)
    assert isinstance(trade, machine.Start)
    assert not trade.wait


def test_a_program_learns_its_place_when_that_changes_and_not_at_each_answer(simulation: ReferenceSimulation) -> None:
    bob = simulation.computer("bob").start(wait=True).run(1)
    eve = simulation.computer("eve").start(wait=True)
    for _ in range(6):
        eve.run(5)
        bob.run(5)
    assert eve.places == [(2, 2)]
    bob.stop()
    eve.run(60)
    assert eve.places == [(2, 2), (1, 1)]
    assert eve.notices == ["refused"]


def test_without_a_place_a_program_learns_how_many_wait(simulation: ReferenceSimulation) -> None:
    crowd = [simulation.computer(f"user{number}").start(wait=True).run(0) for number in range(50)]
    late = simulation.computer("late").start(wait=True).run(1)
    assert late.places == [(None, 50)]
    assert crowd[-1].places == [(50, 50)]
    alone = simulation.computer("alone").start().run(1)
    assert alone.places == [], "it does not wait"


def test_a_window_shows_the_place_and_then_the_seat(workspace: Workspace) -> None:
    workspace.service.place_seconds = 1
    places: list[Standing] = []
    granted: list[Standing] = []
    with Seat(program(), workspace.license(seats=1), state_directory=workspace.state / "ann"):
        seat = Seat(
            program(),
            workspace.license(seats=1),
            state_directory=workspace.state / "bob",
            wait=True,
            waiting=places.append,
            granted=granted.append,
        )
        assert seat.start().position == 1
        assert seat.standing.asking
        assert eventually(lambda: bool(places))
        assert (places[0].status, places[0].position, places[0].waiting) == (Status.REFUSED, 1, 1)
        assert places[0].seats == Seats(1, 1, 1)
    workspace.service.line.clear()
    seat.start()
    assert eventually(lambda: bool(granted), 8)
    assert (granted[0].position, granted[0].waiting, granted[0].asking) == (None, 0, False)
    seat.close()


def test_a_callback_of_the_place_may_close_the_seat(workspace: Workspace) -> None:
    closed: list[bool] = []

    def close(_standing: Standing) -> None:
        seat.close()
        closed.append(True)

    with seat_of(workspace), seat_of(workspace):
        seat = seat_of(workspace, wait=True, waiting=close)  # the license has two seats
        seat.start()
        assert eventually(lambda: closed == [True])
    assert eventually(lambda: seat.standing.status is Status.ENDED)
