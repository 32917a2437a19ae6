"""The service's time on computers whose clocks are wrong, are set, or sleep."""

import json
from pathlib import Path

import pytest

from factories import NOW
from licensing_client import machine
from licensing_client.clock import SavedTime, SystemClock, Timeline
from licensing_client.machine import Status
from licensing_client.reasons import Code
from licensing_client.transport import Reply, Request
from simulation import Computer, ReferenceSimulation

HOUR, DAY = 3600.0, 86400.0
GRACE = 3 * DAY


@pytest.fixture
def simulation(tmp_path: Path) -> ReferenceSimulation:
    return ReferenceSimulation(tmp_path)


def error_of(computer: Computer) -> float:
    """How far the program's time is ahead of the true time."""
    assert computer.engine
    return computer.engine.now() - computer.simulation.clock.true


def issued_at(computer: Computer) -> int:
    assert computer.engine
    assert computer.engine.state.lease
    return computer.engine.state.lease.issued_at


def saved_of(computer: Computer) -> dict[str, object]:
    [file] = computer.disk.glob("*.json")
    content: dict[str, object] = json.loads(file.read_text())
    return content


def runs_to_the_end_of_grace(ann: Computer) -> None:
    ann.run(issued_at(ann) + GRACE - 60 - ann.simulation.clock.true)
    assert ann.has_status(Status.GRACE)
    ann.run(120)
    assert ann.has_status(Status.LOST)


# Under a hold, as long as the clock is right whenever the program starts or wakes.


def strict(disk: Path) -> tuple[ReferenceSimulation, Computer, Computer]:
    """One strict seat, and two computers whose monotonic clocks stop while they sleep."""
    simulation = ReferenceSimulation(disk, seats=1, grace=43200, hold=43260)
    return simulation, simulation.computer(), simulation.computer("bob")


def says_that_it_may_run(computer: Computer) -> bool:
    assert computer.engine
    return machine.judged(computer.engine.state, computer.engine.now()).status in machine.RUNNING


def test_under_a_hold_a_clock_that_was_fast_at_the_grant_and_is_right_at_the_next_start_lengthens_nothing(
    tmp_path: Path,
) -> None:
    simulation, ann, bob = strict(tmp_path)
    ann.clock.skew = 8 * HOUR
    ann.start().run(600)
    ann.network.condition = "down"
    ann.crash()
    ann.clock.skew = 0
    simulation.clock.true += 12.5 * HOUR
    assert bob.start().run(3).running
    assert ann.start().run(3).has_status(Status.REFUSED)


def test_under_a_hold_a_clock_that_was_fast_at_the_grant_and_is_right_after_sleep_lengthens_nothing(
    tmp_path: Path,
) -> None:
    _, ann, bob = strict(tmp_path)
    ann.clock.skew = 8 * HOUR
    ann.start().run(600)
    ann.network.condition = "down"
    ann.sleep(12.5 * HOUR)
    ann.clock.skew = 0
    assert bob.start().run(3).running
    assert not says_that_it_may_run(ann)
    assert ann.run(3).has_status(Status.LOST)


def test_under_a_hold_a_program_that_slept_for_too_long_does_not_run_until_it_is_answered(tmp_path: Path) -> None:
    _, ann, bob = strict(tmp_path)
    ann.start().run(600)
    ann.sleep(12.5 * HOUR)
    assert not says_that_it_may_run(ann)
    bob.start().run(3).stop()
    ann.run(3)
    assert ann.notices == ["granted", "lost", "granted"]


def test_a_reply_that_is_read_after_sleep_is_no_answer(tmp_path: Path) -> None:
    simulation, ann, bob = strict(tmp_path)
    ann.start().run(100)
    real = ann.network.handle

    def asleep_before_the_reply_is_read(request: Request) -> Reply:
        reply = real(request)
        ann.sleep(13 * HOUR)
        ann.network.condition = "down"
        return reply

    ann.network.handle = asleep_before_the_reply_is_read
    assert ann.engine
    while ann.network.condition == "fine":
        pause = ann.engine.step()
        simulation.clock.true += pause
    assert error_of(ann) == pytest.approx(0, abs=20)
    assert not says_that_it_may_run(ann)
    assert bob.start().run(3).running
    assert ann.run(60).has_status(Status.LOST)


@pytest.mark.parametrize("ahead", [2 * DAY, 30 * DAY])
def test_a_clock_that_was_fast_at_the_grant_and_is_put_right_does_not_lengthen_grace(
    simulation: ReferenceSimulation, ahead: float
) -> None:
    ann = simulation.computer()
    ann.clock.skew = ahead
    ann.start().run(600)
    ann.network.condition = "down"
    ann.clock.skew = 0
    ann.run(60)
    ann.sleep(10 * HOUR).run(60)
    assert error_of(ann) == pytest.approx(0, abs=2)
    runs_to_the_end_of_grace(ann)


def test_a_clock_that_was_fast_at_the_grant_and_is_right_at_the_next_start_does_not_lengthen_grace(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer()
    ann.clock.skew = 30 * DAY
    ann.start().run(600).stop()
    ann.network.condition = "down"
    ann.clock.skew = 0
    simulation.clock.true += 10 * HOUR
    ann.start().run(3)
    assert error_of(ann) == pytest.approx(0, abs=2)
    simulation.clock.true += 12 * HOUR
    ann.stop().start().run(60)
    assert error_of(ann) == pytest.approx(0, abs=2)
    runs_to_the_end_of_grace(ann)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_clock_that_was_slow_at_the_grant_and_is_put_right_costs_no_more_than_it_was_slow_by(
    simulation: ReferenceSimulation, restarted: bool
) -> None:
    ann = simulation.computer()
    ann.clock.skew = -1 * DAY
    ann.start().run(600)
    ann.network.condition = "down"
    ann.clock.skew = 0
    if restarted:
        ann.stop().start()
    ann.run(HOUR)
    assert ann.has_status(Status.GRACE)
    assert error_of(ann) == pytest.approx(DAY, abs=2)
    ann.network.condition = "fine"
    ann.run(600)
    assert ann.has_status(Status.GRANTED)
    assert error_of(ann) == pytest.approx(0, abs=2)


def test_sleep_counts_after_a_clock_was_set_back(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    ann.network.condition = "down"
    ann.clock.skew -= 10 * DAY
    ann.run(60)
    ann.sleep(GRACE).run(60)
    assert error_of(ann) == pytest.approx(0, abs=2)
    assert ann.has_status(Status.LOST)


def test_sleep_is_seen_though_the_clock_was_set_back_during_it_where_the_monotonic_clock_counts_sleep(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(20)
    calls = len(ann.network.calls)
    ann.clock.skew -= 10 * DAY
    simulation.clock.true += 120  # both clocks go on during this sleep
    ann.run(1)
    assert len(ann.network.calls) == calls + 1


def test_a_grant_puts_right_what_a_clock_once_ahead_has_left(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    ann.network.condition = "down"
    ann.clock.skew = 10 * 365 * DAY
    ann.run(HOUR).stop()
    ann.clock.skew = 0
    ann.network.condition = "fine"
    ann.start().run(600)
    assert error_of(ann) == pytest.approx(0, abs=2)
    ann.stop()
    assert saved_of(ann)["seen"] == pytest.approx(simulation.clock.true, abs=2)
    ann.network.condition = "down"
    ann.start()
    ann.run(3)
    runs_to_the_end_of_grace(ann)


def test_a_clock_that_is_set_back_before_every_start_gains_no_time_in_which_the_program_runs(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(600).stop()
    first_reading = ann.clock.wall()
    ann.network.condition = "down"
    worked = 0.0
    for _ in range(30):
        simulation.clock.true += 16 * HOUR  # the night
        ann.clock.skew += first_reading - ann.clock.wall()
        ann.start()
        ann.run(4 * HOUR)
        ann.sleep(4 * HOUR).run(60)
        if not ann.running:
            break
        worked += 8 * HOUR + 60
        ann.stop()
    assert worked <= GRACE
    assert ann.engine
    assert ann.engine.state.reason
    assert ann.engine.state.reason.code is Code.GRACE_OVER


def test_a_clock_that_is_set_back_once_gains_no_more_than_that_once(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600).stop()
    ann.network.condition = "down"
    ann.clock.skew = -30 * DAY
    ann.start().run(60).stop()
    simulation.clock.true += GRACE
    ann.start().run(3)
    assert ann.has_status(Status.REFUSED)


def test_a_borrowed_seat_survives_a_clock_that_was_ahead_once_and_is_right_again(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start(borrow_seconds=int(5 * DAY)).run(5).stop()
    ann.network.condition = "down"
    ann.clock.skew = 2 * DAY
    ann.start().run(HOUR).stop()
    ann.clock.skew = 0
    ann.start().run(HOUR)
    assert ann.has_status(Status.GRANTED)
    ann.stop()
    simulation.clock.true = NOW + 4.5 * DAY
    ann.start().run(60)
    assert ann.has_status(Status.GRANTED)
    assert error_of(ann) == pytest.approx(0, abs=2)
    ann.run(DAY / 2)
    assert not ann.has_status(Status.GRANTED)


def test_what_failed_is_written_too_so_that_a_crash_loses_little_time(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    ann.network.condition = "down"
    ann.run(5 * HOUR).crash()
    assert simulation.clock.true - 310 < float(str(saved_of(ann)["seen"])) <= simulation.clock.true


def test_a_file_of_an_older_client_has_no_reading_of_the_wall_clock(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600).stop()
    [file] = ann.disk.glob("*.json")
    old = {name: saved_of(ann)[name] for name in ("format", "lease", "open", "offset", "seen")}
    file.write_text(json.dumps(old))
    ann.network.condition = "down"
    simulation.clock.true += HOUR
    ann.start().run(3)
    assert ann.has_status(Status.GRACE)
    assert error_of(ann) == pytest.approx(0, abs=2)


def test_time_never_runs_back_between_leases_and_follows_each_clock() -> None:
    line = Timeline.resumed(SavedTime(offset=5, seen=1000, wall=995), 900, 995, 0)
    assert line.now == 1000
    assert line.at(1005, 10).now == 1010
    assert line.at(1005.9, 10).now == 1010, "less than a step: the monotonic clock counts"
    assert line.at(1095, 10).now == 1100, "it slept"
    back = line.at(95, 10)
    assert (back.now, back.offset) == (1010, 915)
    assert back.at(195, 20).now == 1110, "sleep is seen on a clock that was set back"
    assert Timeline.synchronized(500, 195, 20).now == 500


def test_the_systems_clocks_go_forward() -> None:
    clock = SystemClock()
    assert clock.monotonic() <= clock.monotonic()
    assert clock.wall() > NOW - 10 * 365 * DAY
