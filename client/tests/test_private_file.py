"""The private file: whose it is, and what it keeps for the next run."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from licensing_client.identity import Names
from licensing_client.machine import Status
from licensing_client.transport import Request
from simulation import Computer, ReferenceSimulation, without_locks

HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
def simulation(tmp_path: Path) -> ReferenceSimulation:
    return ReferenceSimulation(tmp_path, seats=2)


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch)


def content_of(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def file_of(computer: Computer) -> Path:
    [file] = computer.disk.glob("*.json")
    return file


def session_of(computer: Computer) -> str:
    assert computer.engine
    assert computer.engine.state.lease
    return computer.engine.state.lease.session_id


def calls_of(computer: Computer) -> list[str]:
    return [method for _, method in computer.network.calls]


# A file of another computer.


@pytest.mark.parametrize("borrow_seconds", [0, int(5 * DAY)])
@pytest.mark.parametrize("running", [True, False])
def test_a_file_that_was_copied_to_another_computer_is_of_no_use_there(
    simulation: ReferenceSimulation, borrow_seconds: int, running: bool
) -> None:
    ann = simulation.computer().start(borrow_seconds=borrow_seconds).run(600)
    session = session_of(ann)
    if not running:
        ann.network.condition = "down"
        ann.stop()  # its session stays open
    copy = simulation.disk / "copy"
    shutil.copytree(ann.disk, copy)
    before = [(file.name, file.read_bytes()) for file in sorted(copy.glob("*.json"))]
    laptop = Computer(simulation, copy, "ann", "laptop.example.com")
    laptop.network.condition = "down"
    laptop.start().run(5)
    assert laptop.has_status(Status.REFUSED), "grace on another computer's lease"
    laptop.stop()
    laptop.network.condition = "fine"
    laptop.start(seed=2).run(600)
    assert laptop.has_status(Status.GRANTED)
    assert session_of(laptop) != session
    assert session in simulation.service.active
    assert "replaces" not in json.loads(simulation.service.requests[-1][1].body or b"{}")
    laptop.stop()
    assert session in simulation.service.active
    assert [(name, (copy / name).read_bytes()) for name, _ in before] == before


def test_two_computers_with_one_home_keep_a_file_each(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600).crash()
    laptop = Computer(simulation, ann.disk, "ann", "laptop.example.com").start().run(600)
    assert laptop.has_status(Status.GRANTED)
    assert calls_of(laptop)[:1] == ["POST"]
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.GRANTED)
    assert len(simulation.service.active) == simulation.service.peak == 2
    laptop.stop()
    ann.stop()
    assert len({content_of(file)["computer"] for file in ann.disk.glob("*.json")}) == 2
    assert len(list(ann.disk.glob("*.json"))) == 2


def test_a_computer_is_known_by_its_short_name(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600).stop()
    moved = Computer(simulation, ann.disk, "ann", "ann-pc.other.example")  # another network gives another domain
    moved.network.condition = "down"
    moved.start().run(3)
    assert moved.has_status(Status.GRACE)


def test_a_file_of_an_older_client_does_not_say_whose_it_is_and_is_used(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600).stop()
    content = content_of(file_of(ann))
    file_of(ann).write_text(json.dumps({name: content[name] for name in ("format", "lease", "open", "offset", "seen")}))
    ann.network.condition = "down"
    ann.start().run(3)
    assert ann.has_status(Status.GRACE)


# A copy on the same computer: its lock says nothing of the other.


def copied(ann: Computer, name: str) -> Computer:
    """The same user on the same computer, with a copy of the private files."""
    copy = ann.simulation.disk / name
    shutil.copytree(ann.disk, copy)
    return Computer(ann.simulation, copy, ann.names.user, ann.names.hosts[0])


@pytest.mark.parametrize("later", [0, 100, 3600])
def test_a_copy_does_not_take_over_the_session_of_a_program_that_runs(
    simulation: ReferenceSimulation, later: int
) -> None:
    ann = simulation.computer().start().run(600)
    session, other = session_of(ann), copied(ann, "copy")
    ann.run(later)
    other.start(seed=2).run(5)
    assert other.has_status(Status.GRANTED)
    assert session_of(other) != session
    ann.run(600)
    assert (ann.has_status(Status.GRANTED), session_of(ann)) == (True, session)
    other.stop()
    assert session in simulation.service.active


def test_files_that_were_moved_are_used_once_it_is_clear_that_nobody_runs_on_them(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(600)
    session, moved = session_of(ann), copied(ann.crash(), "moved")
    simulation.clock.true += 400
    moved.start(seed=2).run(5)
    assert moved.has_status(Status.GRANTED)
    assert session not in simulation.service.active, "it was replaced"
    moved.crash()
    moved.start(seed=3).run(5)
    assert calls_of(moved).count("GET") == 1, "now they are its own"
    assert len(simulation.service.active) == 1


# A disk without locks.


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_second_program_leaves_the_file_of_the_first_alone(simulation: ReferenceSimulation) -> None:
    first = simulation.computer().start().run(1000)
    second = simulation.computer().start(seed=2).run(1000)
    assert session_of(first) != session_of(second)
    first.run(HOUR)
    second.run(HOUR)
    assert first.notices == second.notices == ["granted"]
    assert len(simulation.service.active) == simulation.service.peak == 2
    assert len(list(first.disk.glob("*.json"))) == 2


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_session_that_was_heard_of_later_than_the_file_is_left_alone(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(600)
    copy = simulation.disk / "copy"
    shutil.copytree(ann.disk, copy)
    ann.run(2 * HOUR)
    twin = Computer(simulation, copy, "ann", "ann-pc.example.com").start(seed=2).run(600)
    assert twin.has_status(Status.GRANTED)
    assert calls_of(twin)[:2] == ["GET", "POST"]
    assert session_of(twin) != session_of(ann)
    ann.run(600)
    assert ann.notices == ["granted"]
    assert simulation.service.peak == 2
    assert content_of(next(copy.glob("*.json")))["open"] == session_of(ann)


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("borrow_seconds", [0, int(5 * DAY)])
def test_without_locks_the_session_of_a_crashed_program_goes_on(
    simulation: ReferenceSimulation, borrow_seconds: int
) -> None:
    ann = simulation.computer().start(borrow_seconds=borrow_seconds).run(600).crash()
    simulation.clock.true += 400
    ann.network.calls.clear()
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.GRANTED)
    assert calls_of(ann) == ["GET", "PUT" if borrow_seconds else "POST"]
    assert len(simulation.service.active) == simulation.service.peak == 1


@pytest.mark.usefixtures("no_locks")
def test_without_locks_a_program_that_ends_at_once_leaves_the_file_as_it_was(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600).crash()
    simulation.clock.true += HOUR
    before = content_of(file_of(ann))
    ann.start(seed=2).stop()
    assert content_of(file_of(ann)) == before


@pytest.mark.usefixtures("no_locks")
def test_without_locks_and_without_a_network_a_program_goes_on_in_grace(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600).crash()
    simulation.clock.true += HOUR
    ann.network.condition = "down"
    ann.start(seed=2).run(3)
    assert ann.has_status(Status.GRACE)


def test_nobody_waits_behind_a_dead_seat_whose_last_heartbeat_was_not_answered(
    simulation: ReferenceSimulation,
) -> None:
    class PowerCutError(Exception):
        pass

    ann = simulation.computer().start().run(600)
    real = ann.network.handle

    def dying(request: Request) -> None:
        real(request)
        raise PowerCutError

    ann.network.handle = dying  # type: ignore[assignment]  # it never answers
    with pytest.raises(PowerCutError):
        ann.run(330)
    ann.crash()
    ann.network.handle = real
    others = simulation.computer("bob").start().run(5)
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.GRANTED)
    assert others.has_status(Status.GRANTED)
    assert simulation.service.peak == 2


# Whose session it is.


def test_a_repeat_sends_the_hashes_that_its_session_was_first_started_with(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer()
    ann.names = Names("ann", ("ann-pc.example.com", "ann-pc"))
    ann.network.condition = "reply-lost"
    ann.start().run(0.1).crash()
    ann.network.condition = "fine"
    ann.names = Names("ann", ("ann-pc",))  # the resolver does not answer today
    ann.network.calls.clear()
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.GRANTED)
    assert calls_of(ann) == ["POST"]
    assert len(simulation.service.active) == 1
    ann.stop()
    assert content_of(file_of(ann))["user"] is None, "kept for as long as the session may be open"
    ann.start(seed=3).run(5)
    [row] = simulation.service.active.values()
    assert row.host == ann.names.person(simulation.license.salt, set()).host


@pytest.mark.parametrize(
    "damage",
    [
        {"open": 5},
        {"user": 5, "host": None},
        {"wall": "x"},
        {"seen": "x", "offset": None},
        {"ended": [{"lease": "x", "ran_until": 1}, 5, {}]},
        {"ended": 5},
        {"heartbeat": -1},
        {"borrow": "x"},
        {"replaces": "x"},
        {"computer": 5},
    ],
)
def test_a_damaged_member_is_taken_for_absent(simulation: ReferenceSimulation, damage: dict[str, Any]) -> None:
    ann = simulation.computer().start().run(600).crash()
    file_of(ann).write_text(json.dumps(content_of(file_of(ann)) | damage))
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.GRANTED)
    ann.stop()
