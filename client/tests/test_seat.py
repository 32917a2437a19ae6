"""A program embeds a seat in a few lines, never waits long, and leaves nothing behind."""

import base64
import datetime
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from conftest import Workspace, eventually
from factories import ISSUER_KEY, SALT, license_claims, program, sign
from fault_proxy import listening
from licensing_client import Code, Network, Seat, SeatRefused, Standing, Status
from licensing_client.clock import SystemClock
from licensing_client.identity import Names, names
from test_transport import silent

CLIENT_THREADS = "licensing-client"


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(CLIENT_THREADS)]


def seat_of(workspace: Workspace, **options: object) -> Seat:
    given = {"state_directory": workspace.state, **options}
    return Seat(program(), workspace.license(), **given)  # type: ignore[arg-type]


def test_a_few_lines_take_a_seat_and_give_it_back(workspace: Workspace) -> None:
    with seat_of(workspace) as seat:
        assert seat.standing.running
        assert seat.standing.features == {"gis", "scenarios"}
        assert seat.standing.seats is not None
        assert len(workspace.service.active) == 1
    assert not workspace.service.active
    assert not threads()


def test_an_exception_gives_the_seat_back(workspace: Workspace) -> None:
    with pytest.raises(ZeroDivisionError), seat_of(workspace):
        _ = 1 / 0
    assert not workspace.service.active


def test_a_program_without_a_seat_gets_the_reason_and_holds_nothing(workspace: Workspace) -> None:
    workspace.service.suspended = True
    with pytest.raises(SeatRefused) as caught, seat_of(workspace):
        pytest.fail("the program must not run")
    assert caught.value.reason.code is Code.LICENSE_SUSPENDED
    assert not threads()


def test_callbacks_inform_a_window_that_does_not_wait(workspace: Workspace) -> None:
    received: list[Standing] = []
    seat = seat_of(workspace, granted=received.append)
    begun = time.monotonic()
    seat.start(block=False)
    assert time.monotonic() - begun < 0.5
    assert eventually(lambda: bool(received))
    assert received[0].status is Status.GRANTED
    seat.close()


def test_a_callback_that_fails_does_not_cost_the_seat(workspace: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    def fails(_standing: Standing) -> None:
        raise RuntimeError("a bug of the program's")

    seat = seat_of(workspace, granted=fails)
    assert seat.start().running
    assert eventually(lambda: "a bug of the program's" in caplog.text)
    seat.close()
    assert not workspace.service.active


def test_a_callback_may_close_the_seat(workspace: Workspace) -> None:
    done = threading.Event()

    def close(_standing: Standing) -> None:
        seat.close()
        done.set()

    seat = seat_of(workspace, granted=close)
    seat.start()
    assert done.wait(5)
    assert eventually(lambda: not threads())
    assert not workspace.service.active


def test_a_service_that_says_nothing_holds_a_program_up_for_no_longer_than_it_allows(workspace: Workspace) -> None:
    with listening(silent) as port:
        seat = seat_of(workspace, start_within=0.5, network=Network(service=f"http://127.0.0.1:{port}/api"))
        begun = time.monotonic()
        standing = seat.start()
        assert time.monotonic() - begun < 1.5
        assert standing.reason is not None
        assert standing.reason.code is Code.NO_ANSWER
        begun = time.monotonic()
        seat.close()
        assert time.monotonic() - begun < 2.2
        assert not threads()


class ClockAfterSleep(SystemClock):
    """The clocks of a computer that slept for `slept` seconds."""

    slept = 0.0

    def wall(self) -> float:
        return super().wall() + self.slept

    def monotonic(self) -> float:
        return super().monotonic() + self.slept


def test_under_a_hold_a_program_that_wakes_too_late_is_not_told_that_it_may_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("licensing_client.seat.SystemClock", ClockAfterSleep)
    with Seat(program(), workspace.license(grace=43200, hold=43260), state_directory=workspace.state) as seat:
        assert seat.standing.running
        monkeypatch.setattr(ClockAfterSleep, "slept", 13 * 3600.0)
        assert (seat.standing.status, seat.standing.reason and seat.standing.reason.code) == (
            Status.LOST,
            Code.GRACE_OVER,
        )


def test_without_network_the_next_start_goes_on_in_grace_and_says_how_long(workspace: Workspace) -> None:
    with seat_of(workspace):
        pass
    received: list[Standing] = []
    seat = seat_of(workspace, network=Network(service="http://127.0.0.1:9/api"), grace=received.append)
    standing = seat.start()
    assert standing.status is Status.GRACE
    assert standing.left is not None
    assert 2.9 < standing.left.total_seconds() / 86400 <= 3
    seat.close()
    assert received[0].status is Status.GRACE


def test_a_refused_license_file_asks_nobody(workspace: Workspace) -> None:
    seat = Seat(program(product="Fluidit Heat"), workspace.license(), state_directory=workspace.state)
    standing = seat.start()
    seat.close()
    assert standing.reason is not None
    assert standing.reason.code is Code.PRODUCT_NOT_LICENSED
    assert not workspace.service.requests
    assert not threads()


def test_a_license_file_that_has_been_replaced_is_read_when_the_user_tries_again(workspace: Workspace) -> None:
    file = workspace.license(product="Fluidit Heat")
    seat = Seat(program(), file, state_directory=workspace.state)
    assert not seat.start().running
    workspace.license()
    assert seat.start().running
    seat.close()


def test_a_key_that_is_none_is_found_when_the_program_is_written(workspace: Workspace) -> None:
    with pytest.raises(ValueError, match="43 characters"):
        Seat(program(issuer_keys=("no key",)), workspace.license())


def test_a_computer_whose_date_is_wrong_asks_the_service_before_it_gives_up(workspace: Workspace) -> None:
    with seat_of(workspace):
        pass
    later = type("Later", (SystemClock,), {"wall": lambda _self: time.time() - 10 * 365 * 86400})
    seat = seat_of(workspace)
    seat._clock = later()
    assert seat.start().status is Status.GRANTED
    seat.close()


def code_of(standing: Standing) -> Code | None:
    return standing.reason.code if standing.reason else None


def test_a_seat_that_frees_up_is_taken_when_the_user_tries_again(workspace: Workspace) -> None:
    workspace.service.retry_after = 1
    first, second, third = seat_of(workspace), seat_of(workspace), seat_of(workspace)
    assert first.start().running
    assert second.start().running
    assert code_of(third.start()) is Code.NO_SEAT
    first.close()
    time.sleep(1.6)  # Retry-After and its jitter
    begun = time.monotonic()
    assert third.start().status is Status.GRANTED
    assert time.monotonic() - begun < 2
    assert len(workspace.service.active) == 2
    for seat in (second, third):
        seat.close()
    assert not workspace.service.active
    assert workspace.service.peak == 2


def test_trying_again_asks_the_service_and_a_suspended_license_does_not_run_in_grace(workspace: Workspace) -> None:
    with seat_of(workspace):
        pass
    workspace.service.suspended = True
    seat = seat_of(workspace)
    assert code_of(seat.start()) is Code.LICENSE_SUSPENDED
    time.sleep(0.3)  # the client's thread has gone to rest
    asked = len(workspace.service.requests)
    standing = seat.start()
    assert standing.status is Status.REFUSED
    assert code_of(standing) is Code.LICENSE_SUSPENDED
    assert len(workspace.service.requests) == asked + 1
    workspace.service.suspended = False
    assert seat.start().status is Status.GRANTED
    seat.close()


def test_a_recalled_seat_is_lost_and_a_start_by_hand_takes_it_anew(workspace: Workspace) -> None:
    file = workspace.license(heartbeat=1, lease=60, seats=1)
    received: list[Standing] = []
    seat = Seat(program(), file, state_directory=workspace.state, lost=received.append, restored=received.append)
    assert seat.start().running
    workspace.service.recalled.update(workspace.service.active)
    assert eventually(lambda: bool(received), 10)
    assert code_of(received[0]) is Code.SEAT_RECALLED
    assert seat.standing.status is Status.LOST
    assert len(workspace.service.active) == 1
    assert seat.start().status is Status.GRANTED
    assert eventually(lambda: len(received) == 2)
    assert len(workspace.service.active) == workspace.service.peak == 1
    seat.close()
    assert not workspace.service.active


def test_a_seat_is_borrowed_at_once_and_the_user_is_reported(workspace: Workspace) -> None:
    received: list[Standing] = []
    seat = seat_of(workspace, granted=received.append)
    seat.start()
    assert seat.borrow(3 * 86400) is None
    assert eventually(lambda: len(received) == 2, 3.0)
    assert received[1].borrowed
    assert received[1].expires is not None
    assert received[1].until is not None
    assert received[1].until >= received[1].expires
    assert seat.borrow(0) is None
    assert eventually(lambda: len(received) == 3, 3.0)
    assert not received[2].borrowed
    seat.close()
    assert code_of(Standing(Status.ENDED, seat.borrow(3 * 86400))) is Code.BORROWING_NOT_ALLOWED
    assert not workspace.service.active
    assert workspace.service.peak == 1


@pytest.mark.parametrize("outage", ["refused", "silent"])
def test_callbacks_come_from_the_clients_thread_alone(workspace: Workspace, outage: str) -> None:
    with seat_of(workspace):
        pass
    names: list[str] = []

    def hear(_standing: Standing) -> None:
        names.append(threading.current_thread().name)

    listeners = dict.fromkeys(("granted", "refused", "grace", "lost", "restored"), hear)
    with listening(silent) as port:
        bad = Network(service=f"http://127.0.0.1:{9 if outage == 'refused' else port}/api")
        seat = seat_of(workspace, network=bad, start_within=0.3, **listeners)
        assert seat.start().status is Status.GRACE
        assert outage == "silent" or eventually(lambda: bool(names))
        seat.close()
    assert set(names) == {CLIENT_THREADS}


def test_a_callback_that_wants_to_end_the_program_does_not_end_the_client(workspace: Workspace) -> None:
    def leave(_standing: Standing) -> None:
        sys.exit(3)

    file = workspace.license(heartbeat=1, lease=4)
    seat = Seat(program(), file, state_directory=workspace.state, granted=leave)
    seat.start()
    assert eventually(lambda: any(request.method == "PUT" for _, request, _ in workspace.service.requests))
    seat.close()
    assert not workspace.service.active


def test_a_callback_that_tries_again_does_not_hold_the_client_up(workspace: Workspace) -> None:
    workspace.service.suspended = True
    received: list[Standing] = []

    def once_more(standing: Standing) -> None:
        received.append(standing)
        if len(received) == 1:
            workspace.service.suspended = False
            seat.start()

    seat = seat_of(workspace, refused=once_more, granted=received.append)
    seat.start(block=False)
    assert eventually(lambda: len(received) == 2)
    assert [standing.status for standing in received] == [Status.REFUSED, Status.GRANTED]
    seat.close()


NAMES = Names("Zoë Öberg", ("oberg-pc.acme.example", "oberg-pc"))


def betrays(data: bytes) -> list[str]:
    """The words of `NAMES` found in `data`, plain or encoded as UTF-8, percent, JSON or base64."""
    text = data.decode("utf-8", "replace").casefold()
    words = [word for name in (NAMES.user, *NAMES.hosts) for word in name.casefold().split()]
    spellings = {word: {word, quote(word).casefold(), json.dumps(word)[1:-1].casefold()} for word in words}
    encoded = {word: base64.b64encode(word.encode()).decode().rstrip("=")[:-1].casefold() for word in words}
    return [word for word in words if any(one in text for one in spellings[word]) or encoded[word] in text]


def test_the_search_for_names_finds_them() -> None:
    assert betrays("who: ZOË".encode())
    assert betrays(json.dumps({"host": "oberg-pc"}).encode())
    assert betrays(b"/api?user=%C3%B6berg")


def test_what_is_kept_on_disk_is_private_and_holds_no_name(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("licensing_client.seat.names", lambda: NAMES)
    with seat_of(workspace):
        written_by = time.monotonic() + 5
        while (files := list(workspace.state.iterdir())) and any(file.suffix == ".new" for file in files):
            assert time.monotonic() < written_by, "what was written never takes its place"
        assert {file.suffix for file in files} == {".json", ".lock"}
        for file in files:
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert not betrays(str(file.name).encode() + file.read_bytes())
        assert stat.S_IMODE(workspace.state.stat().st_mode) == 0o700


def test_nothing_on_the_wire_holds_a_name(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("licensing_client.seat.names", lambda: NAMES)
    with seat_of(workspace):
        pass
    sent = [request for _, request, _ in workspace.service.requests]
    assert [request.method for request in sent] == ["POST", "DELETE"]
    hashes = NAMES.person(SALT, set())
    assert hashes.user.encode() in sent[0].body
    assert hashes.host.encode() in sent[0].body
    for request in sent:
        assert not betrays(request.url.encode() + repr(request.headers).encode() + request.body)


def test_a_disk_that_cannot_be_written_stops_nobody(workspace: Workspace) -> None:
    workspace.state.write_text("a file where the directory should be")
    with seat_of(workspace) as seat:
        assert seat.standing.running
    assert not workspace.service.active


@pytest.mark.skipif(sys.platform == "win32", reason="flock is POSIX")
def test_a_disk_without_locks_stops_nobody_and_is_not_filled(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(_file: int, _how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with seat_of(workspace) as seat:
        assert seat.standing.running
    assert len(list(workspace.state.iterdir())) == 2  # one file, and its lock that locks nothing


def test_whatever_fails_while_a_seat_is_opened_the_program_is_refused_and_may_try_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    received: list[Standing] = []
    seat = seat_of(workspace, refused=received.append)

    def fails() -> str:
        raise OSError(errno.EIO, "Input/output error", "/home/zoe")

    monkeypatch.setattr("socket.gethostname", fails)
    names.cache_clear()
    try:
        begun = time.monotonic()
        standing = seat.start()
        assert time.monotonic() - begun < 1
        assert standing.status is Status.REFUSED
        assert standing.reason is not None
        assert standing.reason.code is Code.CANNOT_OPEN
        assert "OSError" in standing.reason.message
        assert "OSError" in caplog.text
        assert "zoe" not in caplog.text + standing.reason.message
        assert eventually(lambda: [each.reason for each in received] == [standing.reason])
        assert eventually(lambda: not threads())
        monkeypatch.undo()
        assert seat.start().running
        seat.close()
        assert len(list(workspace.state.glob("*.json"))) == 1, "the lock was released when it failed"
    finally:
        names.cache_clear()


def test_a_license_with_a_date_beyond_all_calendars_is_refused(workspace: Workspace) -> None:
    seat = Seat(program(), workspace.license(nbf=10**15, exp=2 * 10**15), state_directory=workspace.state)
    assert code_of(seat.start()) is Code.LICENSE_NOT_YET_VALID
    seat.close()


def test_a_path_that_no_system_takes_is_refused(workspace: Workspace) -> None:
    for seat in (Seat(program(), "acme\0.lic"), seat_of(workspace, state_directory=Path("\0"))):
        with pytest.raises(SeatRefused) as caught, seat:
            pytest.fail("the program must not run")
        assert caught.value.reason.code is Code.CANNOT_OPEN


def test_a_directory_in_place_of_the_license_file_is_refused_with_its_callback(workspace: Workspace) -> None:
    received: list[Standing] = []
    seat = Seat(program(), workspace.folder, state_directory=workspace.state, refused=received.append)
    assert code_of(seat.start()) is Code.LICENSE_MISSING
    assert eventually(lambda: [code_of(each) for each in received] == [Code.LICENSE_MISSING])
    seat.close()


def test_a_directory_in_place_of_the_private_file_stops_nobody(workspace: Workspace) -> None:
    with seat_of(workspace):
        pass
    (file,) = workspace.state.glob("*.json")
    file.unlink()
    file.mkdir()
    with seat_of(workspace) as seat:
        assert seat.standing.running
    assert not workspace.service.active


AS_ANOTHER_USER = """
import encodings.idna, logging, os, sys  # all that is needed of a Python that only root can read
from pathlib import Path
from licensing_client import Program, Seat
logging.basicConfig(format="%(levelname)s %(message)s")
os.setgroups([]); os.setgid(65533); os.setuid(65533)
state = Path(sys.argv[2]) if sys.argv[2] else None
for _ in range(2):
    seat = Seat(Program({keys!r}), sys.argv[1], state_directory=state)
    standing = seat.start()
    print(standing.status.value, standing.reason and standing.reason.code.value)
    seat.close()
"""


@pytest.fixture
def as_another_user(workspace: Workspace) -> Iterator[Callable[[str], subprocess.CompletedProcess[str]]]:
    """Runs a program twice under a user id without a name and a home, with a directory for its state, or none."""
    if sys.platform == "win32" or os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    import pwd

    with pytest.raises(KeyError):
        pwd.getpwuid(65533)
    with tempfile.TemporaryDirectory() as public:
        os.chmod(public, 0o755)  # noqa: S103 — it is public
        license = Path(public, "acme.lic")
        license.write_bytes(workspace.license().read_bytes())
        environment = {name: value for name, value in os.environ.items() if name not in ("HOME", "XDG_STATE_HOME")}

        def run(state: str) -> subprocess.CompletedProcess[str]:
            code = AS_ANOTHER_USER.format(keys=program().issuer_keys)
            command = [sys.executable, "-c", code, str(license), state and str(Path(public, state))]
            return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

        yield run


def test_a_user_without_a_name_and_a_home_gets_a_seat_and_is_warned_once(
    workspace: Workspace, as_another_user: Callable[[str], subprocess.CompletedProcess[str]]
) -> None:
    done = as_another_user("")
    assert (done.returncode, done.stdout) == (0, "granted None\n" * 2)
    assert done.stderr.splitlines() == [
        "WARNING there is no home directory: nothing is kept on disk, and a restart ends grace"
    ]
    assert not workspace.service.active


@pytest.mark.parametrize("mode", [0o000, 0o555])
def test_a_state_directory_that_is_somebody_elses_stops_nobody(
    workspace: Workspace, as_another_user: Callable[[str], subprocess.CompletedProcess[str]], mode: int
) -> None:
    with tempfile.TemporaryDirectory() as public:
        os.chmod(public, 0o755)  # noqa: S103 — it is public
        state = Path(public, "state")
        state.mkdir(mode)
        done = as_another_user(str(state))
    assert (done.returncode, done.stdout, done.stderr) == (0, "granted None\n" * 2, "")
    assert not workspace.service.active


PROGRAM = """
import signal, sys, time
from licensing_client import Program, Seat
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
seat = Seat(Program({keys!r}), sys.argv[1], state_directory=__import__("pathlib").Path(sys.argv[2]))
assert seat.start().running
print("running", flush=True)
sys.stdin.readline()
{then}
"""


def child(workspace: Workspace, then: str) -> subprocess.Popen[str]:
    code = PROGRAM.format(keys=program().issuer_keys, then=then)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(workspace.license()), str(workspace.state)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # expected tracebacks
        text=True,
    )
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "running\n"
    assert len(workspace.service.active) == 1
    process.stdin.write("go on\n")
    process.stdin.flush()
    return process


@pytest.mark.parametrize(
    ("then", "code"),
    [
        pytest.param("", 0, id="end of the program"),
        pytest.param("sys.exit(3)", 3, id="exit"),
        pytest.param("1 / 0", 1, id="exception"),
    ],
)
def test_however_a_program_ends_its_seat_is_given_back(workspace: Workspace, then: str, code: int) -> None:
    process = child(workspace, then)
    assert process.wait(10) == code
    assert process.communicate()
    assert not workspace.service.active


@pytest.mark.skipif(sys.platform == "win32", reason="these signals are POSIX")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_program_that_is_asked_to_end_gives_its_seat_back(workspace: Workspace, number: signal.Signals) -> None:
    # Short sleeps: a signal just before a long one would be handled only after it.
    process = child(workspace, "while True: time.sleep(0.1)")
    begun = time.monotonic()
    process.send_signal(number)
    process.wait(10)
    assert time.monotonic() - begun < 3
    process.communicate()
    assert not workspace.service.active


@pytest.mark.skipif(sys.platform == "win32", reason="fork is POSIX")
def test_a_forked_child_does_not_give_its_parents_seat_back(workspace: Workspace) -> None:
    process = child(
        workspace, "import os\nif os.fork() == 0: sys.exit(0)\nos.wait(); print('reaped', flush=True); input()"
    )
    assert process.stdout
    assert process.stdout.readline() == "reaped\n"
    assert len(workspace.service.active) == 1
    process.terminate()
    process.wait(10)
    process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="fork is POSIX")
def test_a_forked_child_does_not_keep_the_file_of_its_parents_seat(workspace: Workspace) -> None:
    forks = "import os\npid = os.fork()\nif pid == 0: time.sleep(60); os._exit(0)\n"
    process = child(workspace, forks + "seat.close(); print('closed', flush=True); input(); os.kill(pid, 9)")
    assert process.stdout
    assert process.stdout.readline() == "closed\n"
    seat = seat_of(workspace, network=Network(service="http://127.0.0.1:9/api"))
    standing = seat.start()
    seat.close()
    process.communicate("end\n", timeout=10)
    assert standing.status is Status.GRACE  # on the lease in that file


def test_a_crash_leaves_no_lock_and_the_next_start_holds_one_seat(workspace: Workspace) -> None:
    process = child(workspace, "import os\nos._exit(9)")
    process.wait(10)
    process.communicate()
    assert len(workspace.service.active) == 1
    with seat_of(workspace):
        assert len(workspace.service.active) == 1
    assert workspace.service.peak == 1


def test_private_state_goes_where_the_system_keeps_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from licensing_client.private_files import state_directory

    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    if os.name == "posix" and sys.platform != "darwin":
        assert state_directory() == tmp_path / "licensing-client"


def test_a_program_learns_that_its_license_ends_soon(workspace: Workspace) -> None:
    now = int(time.time())
    end = (now // 86400 + 10) * 86400
    with Seat(program(), workspace.license(exp=end), state_directory=workspace.state) as seat:
        standing = seat.standing
        assert standing.ends_in is not None
        assert 0 <= end - now - standing.ends_in.total_seconds() < 10
        assert standing.ends_on == datetime.datetime.fromtimestamp(end - 1, datetime.timezone.utc).date().isoformat()
        workspace.service.publish(sign("license+jwt", license_claims(serial=2, exp=now + 10**8), ISSUER_KEY))
    with Seat(program(), workspace.license(exp=end), state_directory=workspace.state) as seat:
        assert eventually(lambda: seat.standing.ends_in is None), "a newer file was fetched"
        assert seat.standing.ends_on is None
    expired = Seat(program(), workspace.license(nbf=1000, exp=now - 9, serial=9), state_directory=workspace.folder)
    assert expired.start().ends_in == datetime.timedelta(0)
    expired.close()
