"""People wait in line for seats of the real service, and leave theirs to each other while nobody works."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from licensing_client import Program, Seat, Status

from tests.client.conftest import Served
from tests.client.test_node import end, message, seat


def eventually(what: Callable[[], bool], seconds: float = 30.0) -> bool:
    """Whether a condition becomes true in time."""
    deadline = time.monotonic() + seconds
    while not what():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_an_idle_program_leaves_its_seat_to_the_first_in_line_and_waits_for_the_next(
    served: Served, tmp_path: Path
) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "idle", "--heartbeat", "1")
    places: list[tuple[int | None, int]] = []
    ann, bob = (
        Seat(
            Program(served.issuer_keys),
            file,
            state_directory=tmp_path / user,
            wait=user == "bob",
            waiting=lambda standing: places.append((standing.position, standing.waiting)),
        )
        for user in ("ann", "bob")
    )
    assert ann.start().running
    ann.idle()
    assert bob.start().position == 1
    assert eventually(lambda: ann.standing.status is Status.GIVEN_BACK)
    assert eventually(lambda: bob.standing.running)
    assert bob.standing.seats is not None
    assert (bob.standing.seats.in_use, bob.standing.waiting) == (1, 0)
    ann.active()
    assert eventually(lambda: ann.standing.position == 1)
    ann.close()
    bob.close()
    assert places == [(1, 1), (1, 1)]
    left = json.loads(served.licensing("license", "sessions", "idle", "--json"))
    assert [row["state"] for row in left] == ["waiting"], "the place that Ann has left lapses"


def test_a_program_of_each_language_stands_in_one_line(served: Served, tmp_path: Path) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "line")
    work = ("--", sys.executable, "-c", "print('work')")
    holder = Seat(Program(served.issuer_keys), file, state_directory=tmp_path / "ann")
    assert holder.start().running
    first = seat(served, tmp_path, file, 60, "--wait")
    assert message(first) == {"what": "refused", "code": "no-seat-available"}
    assert message(first) == {"what": "waiting", "position": 1, "waiting": 1}
    second = served.client("hold", str(file), "--state", str(tmp_path / "bob"), "--max-wait", "0.1", *work)
    assert second.returncode == 125
    assert "You are number 2 in line; 2 wait." in second.stderr
    assert end(first) == []
    holder.close()
