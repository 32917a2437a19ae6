"""Programs, the command line and the service as their users run them."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from licensing_client import Code, Program, Seat, SeatRefused, Standing, Status

from tests.client.conftest import Served


def seat(served: Served, file: Path, state: Path, **listeners: object) -> Seat:
    program = Program(served.issuer_keys, product="Water")
    return Seat(program, file, state_directory=state, **listeners)  # type: ignore[arg-type]


def in_use(served: Served, license: str) -> int:
    lines = json.loads(served.licensing("license", "list", "--json"))
    return next(int(line["in_use"]) for line in lines if line["license"] == license)


def test_five_lines_take_a_seat_and_give_it_back(served: Served, tmp_path: Path) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "five-lines", "--seats", "2", "--feature", "gis")
    with seat(served, file, tmp_path) as held:
        assert held.standing.status is Status.GRANTED
        assert held.standing.features == {"gis"}
        assert held.standing.seats is not None
        assert held.standing.policy is not None
        assert in_use(served, "five-lines") == 1
    assert in_use(served, "five-lines") == 0


def test_the_last_seat_is_given_once_and_again_when_it_is_free(served: Served, tmp_path: Path) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "one-seat")
    with seat(served, file, tmp_path) as held:
        second = seat(served, file, tmp_path)
        with pytest.raises(SeatRefused) as caught, second:
            pytest.fail("two programs on one seat")
        assert caught.value.reason.code is Code.NO_SEAT
        assert second.standing.policy == held.standing.policy is not None, "who is refused learns of it, too"
    with seat(served, file, tmp_path):
        assert in_use(served, "one-seat") == 1


def test_a_suspended_license_ends_a_program_and_a_reinstated_one_starts_it(served: Served, tmp_path: Path) -> None:
    short = ("--heartbeat", "1", "--lease", "4")
    file = served.issue(tmp_path / "acme.lic", "--id", "naughty", *short)
    lost: list[Standing] = []
    with seat(served, file, tmp_path, lost=lost.append):
        served.licensing("license", "suspend", "naughty")
        end = time.monotonic() + 30
        while not lost and time.monotonic() < end:
            time.sleep(0.2)
    assert lost[0].reason is not None
    assert lost[0].reason.code is Code.LICENSE_SUSPENDED
    with pytest.raises(SeatRefused), seat(served, file, tmp_path):
        pytest.fail("the license is suspended")
    served.licensing("license", "reinstate", "naughty")
    with seat(served, file, tmp_path) as held:
        assert held.standing.running


def sessions(served: Served, license: str) -> list[dict[str, str]]:
    lines: list[dict[str, str]] = json.loads(served.licensing("license", "sessions", license, "--json"))
    return lines


def eventually(what: Callable[[], bool], seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while not what() and time.monotonic() < end:
        time.sleep(0.2)
    return what()


def test_a_recalled_program_is_lost_and_its_seat_is_free_when_it_has_ended(served: Served, tmp_path: Path) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "recalled", "--heartbeat", "1", "--lease", "60")
    lost: list[Standing] = []
    with seat(served, file, tmp_path, lost=lost.append):
        [session] = sessions(served, "recalled")
        served.licensing("license", "release", "recalled", session["session"])
        assert eventually(lambda: bool(lost))
        assert lost[0].reason is not None
        assert lost[0].reason.code is Code.SEAT_RECALLED
        with pytest.raises(SeatRefused) as caught, seat(served, file, tmp_path):
            pytest.fail("its program has not ended")
        assert caught.value.reason.code is Code.NO_SEAT
    with seat(served, file, tmp_path) as held:
        assert held.standing.running
        assert sessions(served, "recalled")[0]["session"] != session["session"]


def test_a_seat_that_was_released_as_lost_starts_again_without_a_word_if_one_is_free(
    served: Served, tmp_path: Path
) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "released", "--heartbeat", "1", "--lease", "60")
    heard: list[Standing] = []
    listeners = dict.fromkeys(("granted", "refused", "grace", "lost", "restored"), heard.append)
    with seat(served, file, tmp_path, **listeners):
        [before] = sessions(served, "released")
        served.licensing("license", "release", "released", before["session"], "--lost")
        assert eventually(lambda: [each["session"] for each in sessions(served, "released")] != [before["session"]])
        assert eventually(lambda: in_use(served, "released") == 1)
    assert [standing.status for standing in heard] == [Status.GRANTED]


def test_a_crashed_program_has_its_seat_back_at_once_though_it_was_the_last(served: Served, tmp_path: Path) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "crashed", "--strict")
    code = (
        "import os, sys; from pathlib import Path; from licensing_client import *; "
        f"assert Seat(Program({served.issuer_keys!r}), sys.argv[1], state_directory=Path(sys.argv[2])).start().running;"
        "import time; time.sleep(1); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file), str(tmp_path)], timeout=30, check=False)
    assert done.returncode == 9
    [before] = sessions(served, "crashed")
    with seat(served, file, tmp_path) as held:
        assert held.standing.status is Status.GRANTED
        [after] = sessions(served, "crashed")
        assert after["session"] != before["session"]
    assert in_use(served, "crashed") == 0


def test_the_last_seat_is_borrowed_and_returned_while_it_is_used(served: Served, tmp_path: Path) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "traded", "--borrow", "864000")
    heard: list[Standing] = []
    with seat(served, file, tmp_path, granted=heard.append) as held:
        assert held.borrow(3 * 86400) is None
        assert eventually(lambda: held.standing.borrowed, 10)
        assert [each["state"] for each in sessions(served, "traded")] == ["borrowed"]
        assert held.borrow(0) is None
        assert eventually(lambda: not held.standing.borrowed and len(heard) == 3, 10)
        assert [each["state"] for each in sessions(served, "traded")] == ["running"]
    assert in_use(served, "traded") == 0


def test_a_renewal_reaches_a_running_program_and_its_next_start_without_a_touch_of_its_file(
    served: Served, tmp_path: Path
) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "renewed", "--heartbeat", "1", "--lease", "60")
    before = file.read_bytes()
    states = [tmp_path / "ann", tmp_path / "bob"]
    with seat(served, file, states[0]) as held:
        first = held.standing.license_file
        assert first is not None
        assert not first.fetched
        with pytest.raises(SeatRefused), seat(served, file, states[1]):
            pytest.fail("there is one seat")

        served.licensing("license", "renew", "renewed", "--until", "2038-12-31", "--seats", "2", "--publish", "--yes")

        with seat(served, file, states[1]) as second:
            assert second.standing.seats is not None
            assert second.standing.seats.total == 2, "the seat that was added counts at once"
        assert eventually(lambda: len(list(states[0].glob("*.json"))) == 2), "it was fetched"
        assert held.standing.running
    with seat(served, file, states[0]) as again:
        counting = again.standing.license_file
        assert counting is not None
        assert counting.fetched
        assert counting.serial > first.serial
        assert counting.last_valid_day == "2038-12-31"
    assert file.read_bytes() == before
    checked = served.client("check", str(file), "--state", str(states[0]))
    assert "fetched from the service" in checked.stdout
    assert "2038-12-31" in checked.stdout


def test_a_named_user_license_admits_those_it_names(served: Served, tmp_path: Path) -> None:
    other = served.issue(tmp_path / "other.lic", "--id", "named", "--kind", "named-user", "--user", "somebody-else")
    with pytest.raises(SeatRefused) as caught, seat(served, other, tmp_path):
        pytest.fail("the license names somebody else")
    assert caught.value.reason.code is Code.USER_NOT_ALLOWED


def test_a_license_that_collects_nothing_is_never_heard_of(served: Served, tmp_path: Path) -> None:
    from licensing_client.identity import names

    options = ("--id", "quiet", "--kind", "named-user", "--user", names().user, "--no-collect")
    file = served.issue(tmp_path / "quiet.lic", *options)
    with seat(served, file, tmp_path) as held:
        assert held.standing.status is Status.GRANTED
    license_ids = [line["license"] for line in json.loads(served.licensing("license", "list", "--json"))]
    assert "quiet" not in license_ids
    assert not list(tmp_path.glob("*.json"))


def test_a_whole_trip_on_the_command_line(served: Served, tmp_path: Path) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "trip", "--borrow", "864000")
    assert served.client("check", str(file)).returncode == 0
    diagnosis = served.client("diagnose", str(file))
    assert diagnosis.returncode == 0, diagnosis.stdout
    assert "borrowed until" in served.client("borrow", str(file), "--days", "3").stdout
    assert in_use(served, "trip") == 1
    work = ("--", sys.executable, "-c", "raise SystemExit(5)")
    offline = served.client("hold", str(file), "--service", "http://127.0.0.1:9/api", *work)
    assert offline.returncode == 5
    online = served.client("hold", str(file), *work)
    assert online.returncode == 5
    assert in_use(served, "trip") == 1
    [data] = json.loads(served.client("my-data", str(file)).stdout)
    assert data["borrowed"]
    assert served.client("return", str(file)).stdout == "returned\n"
    assert in_use(served, "trip") == 0


def test_a_program_that_is_killed_lapses_and_its_seat_goes_on(served: Served, tmp_path: Path) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "killed", "--heartbeat", "1", "--lease", "3")
    code = (
        "import os, sys; from pathlib import Path; from licensing_client import *; "
        f"Seat(Program({served.issuer_keys!r}), sys.argv[1], state_directory=Path(sys.argv[2])).start(); os._exit(9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file), str(tmp_path / "a")], timeout=30, check=False)
    assert done.returncode == 9
    assert in_use(served, "killed") == 1
    waiting = Seat(Program(served.issuer_keys), file, state_directory=tmp_path / "b", wait=True)
    waiting.start()
    end = time.monotonic() + 40
    while not waiting.standing.running and time.monotonic() < end:
        time.sleep(0.2)
    assert waiting.standing.running
    waiting.close()
