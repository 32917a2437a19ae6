"""The command `licensing-client`, as people and scripts use it."""

import datetime
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import Workspace, eventually
from factories import HOST, ISSUER_KEY, STRANGER_KEY, company_authority, jwk, license_claims, license_of, program, sign
from fault_proxy import listening, read_head, tunnel
from licensing_client import Seat, descendants, run_command
from licensing_client.cli import main
from licensing_client.fetched_files import FetchedFiles, FetchedFilesStore
from licensing_client.identity import names
from licensing_client.license import parse_token
from licensing_client.transport import Reply
from reference_service import Place, serving

LEAVE_IN_ORDER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(4))
print("up", flush=True)
time.sleep(60)
"""


def command(workspace: Workspace, verb: str, *words: str, file: Path | None = None) -> list[str]:
    keys = workspace.folder / "issuer.json"
    keys.write_text(json.dumps({"keys": [jwk(ISSUER_KEY)]}))
    before, after = (list(words), []) if "--" not in words else (list(words[: words.index("--")]), ["--"])
    after += words[words.index("--") + 1 :] if after else []
    options = ["--issuer-keys", str(keys), "--state", str(workspace.state), *before]
    here = [sys.executable, "-c", "import sys; from licensing_client.cli import main; sys.exit(main())"]
    return [*here, verb, str(file or workspace.license()), *options, *after]


def run(workspace: Workspace, verb: str, *words: str, file: Path | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(workspace, verb, *words, file=file), capture_output=True, text=True, timeout=60, check=False
    )


def test_hold_runs_a_program_under_a_seat_and_passes_its_exit_code_on(workspace: Workspace) -> None:
    done = run(workspace, "hold", "--", sys.executable, "-c", "print('work'); raise SystemExit(7)")
    assert (done.returncode, done.stdout) == (7, "work\n")
    assert workspace.service.ended
    assert not workspace.service.active


def test_hold_runs_nothing_without_a_seat(workspace: Workspace) -> None:
    workspace.service.suspended = True
    done = run(workspace, "hold", "--", sys.executable, "-c", "print('work')")
    assert (done.returncode, done.stdout) == (125, "")
    assert "suspended" in done.stderr


def test_hold_names_a_program_that_does_not_exist(workspace: Workspace) -> None:
    done = run(workspace, "hold", "--", "/no/such/program")
    assert done.returncode == 127
    assert not workspace.service.active


def test_hold_without_a_program_is_wrong_usage(workspace: Workspace) -> None:
    assert run(workspace, "hold").returncode == 2


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_hold_tells_of_a_program_that_a_signal_ended(workspace: Workspace) -> None:
    done = run(workspace, "hold", "--", sys.executable, "-c", "import os; os.kill(os.getpid(), 9)")
    assert done.returncode == 128 + 9


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_hold_passes_a_signal_on_and_gives_the_seat_back(workspace: Workspace) -> None:
    process = subprocess.Popen(
        command(workspace, "hold", "--", sys.executable, "-c", LEAVE_IN_ORDER), stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 4
    process.communicate()
    assert not workspace.service.active


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_hold_passes_on_a_signal_that_came_while_the_program_was_being_started(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def slow(command: Sequence[str], _inherited: Sequence[int]) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(command))
        os.kill(os.getpid(), signal.SIGTERM)
        return started[0]

    monkeypatch.setattr(run_command, "_new_process", slow)
    sleeps = [sys.executable, "-c", "import time; time.sleep(60)"]
    try:
        with Seat(program(), workspace.license(), state_directory=workspace.state) as seat:
            assert run_command.run_command(seat, sleeps, 1.0, print) == 128 + signal.SIGTERM
    finally:
        started[0].kill()
        started[0].wait()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_hold_leaves_ctrl_c_to_the_program(workspace: Workspace) -> None:
    awaits = (
        "import time\ntry:\n print('up', flush=True)\n while True: time.sleep(0.1)\n"
        "except KeyboardInterrupt: raise SystemExit(5)"
    )
    code = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n{awaits}"
    words = command(workspace, "hold", "--", sys.executable, "-c", code)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(10) == 5
    process.communicate()
    assert not workspace.service.active


LAUNCHER = """
import os, subprocess, sys
# A daemon in a session of its own, without any file of its parents': what a launcher leaves behind.
subprocess.Popen([sys.executable, "-c", sys.argv[1], *sys.argv[2:]], start_new_session=True)
raise SystemExit(3)
"""
UNTIL_REMOVED = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: os.remove(sys.argv[1]))
with open(sys.argv[1] + ".new", "w") as file: print(os.getpid(), file=file)
os.rename(file.name, sys.argv[1])
while os.path.exists(sys.argv[1]): time.sleep(0.02)
"""
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="where descendants are known for certain")


def launching(workspace: Workspace, *options: str, levels: int = 1) -> tuple[list[str], Path]:
    """A `hold` of a launcher of a launcher …, and the file that exists while the program itself runs."""
    runs = workspace.folder / "runs"
    program = [UNTIL_REMOVED, str(runs)]
    for _ in range(levels):
        program = [LAUNCHER, *program]
    return command(workspace, "hold", *options, "--", sys.executable, "-c", *program), runs


@only_linux
@pytest.mark.parametrize("levels", [1, 2])
def test_hold_keeps_the_seat_for_what_a_launcher_leaves_running(workspace: Workspace, levels: int) -> None:
    words, runs = launching(workspace, levels=levels)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert eventually(runs.exists, 20)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)
    assert len(workspace.service.active) == 1
    runs.unlink()
    assert process.wait(10) == 3, "the command's own exit code"
    assert "The seat is held until all that it has started has ended" in process.communicate()[1]
    assert not workspace.service.active


@only_linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_hold_passes_a_signal_on_to_what_a_launcher_left_running(workspace: Workspace, number: int) -> None:
    words, runs = launching(workspace)
    code = words.index(UNTIL_REMOVED)
    words[code] = words[code].replace("SIGTERM", signal.Signals(number).name)
    process = subprocess.Popen(words, start_new_session=True)
    assert eventually(runs.exists, 20)
    assert eventually(lambda: descendants._parent(int(runs.read_text())) == process.pid), "the launcher has ended"
    process.send_signal(number)
    assert process.wait(10) == 3
    assert not runs.exists()
    assert not workspace.service.active


@only_linux
def test_hold_ends_what_a_launcher_left_running_when_the_seat_is_lost(workspace: Workspace) -> None:
    words, runs = launching(workspace, "--save-seconds", "0.5")
    workspace.license(heartbeat=1, lease=4)
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    assert eventually(runs.exists, 20)
    workspace.service.suspended = True
    assert process.wait(30) == 3
    assert not runs.exists(), "it was asked, and not killed"
    assert "Save your work" in process.communicate()[1]


@only_linux
def test_hold_kills_what_does_not_end_when_asked(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    words, runs = launching(workspace, "--save-seconds", "0.1", levels=2)
    words[words.index(UNTIL_REMOVED)] = UNTIL_REMOVED.replace("lambda *_: os.remove(sys.argv[1])", "signal.SIG_IGN")
    words[words.index("-c") + 1] = (
        "import sys; from licensing_client import run_command; run_command.KILL_SECONDS = 1.0\n"
        "from licensing_client.cli import main; sys.exit(main())"
    )
    workspace.license(heartbeat=1, lease=4)
    process = subprocess.Popen(words)
    assert eventually(runs.exists, 20)
    workspace.service.suspended = True
    assert process.wait(30) == 3
    assert runs.exists(), "it was killed"


@only_linux
def test_hold_of_the_command_only_returns_with_a_launcher(workspace: Workspace) -> None:
    words, runs = launching(workspace, "--command-only")
    assert subprocess.run(words, timeout=30, check=False).returncode == 3
    assert not workspace.service.active
    assert eventually(runs.exists, 20)
    runs.unlink()


@only_linux
def test_hold_leaves_no_dead_process_behind_while_its_command_runs(workspace: Workspace) -> None:
    runs = workspace.folder / "runs"
    code = (
        "import subprocess, sys\n"
        "for _ in range(3): subprocess.run([sys.executable, '-c', *sys.argv[1:4]])\n"
        "print('up', flush=True)\nsys.stdin.readline()"
    )
    arguments = (code, LAUNCHER, "pass", "unused", str(runs))
    words = command(workspace, "hold", "--", sys.executable, "-c", *arguments)
    process = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "up\n"

    def children() -> int:
        return sum(descendants._parent(pid) == process.pid for pid in descendants._all_pids())

    assert eventually(lambda: children() == 1, 10)
    process.communicate("\n")
    assert process.returncode == 0


def with_a_pipe(words: list[str]) -> list[str]:
    """The same command where descendants are not known for certain, as on macOS."""
    here = words.index("-c") + 1
    return [
        *words[:here],
        "import sys; from licensing_client import descendants, run_command\n"
        "run_command.descendants = descendants.InheritedPipe\n"
        "from licensing_client.cli import main; sys.exit(main())",
        *words[here + 1 :],
    ]


@pytest.mark.skipif(sys.platform == "win32", reason="files are inherited in another way")
@pytest.mark.parametrize("keeps", [True, False])
def test_hold_warns_of_a_launcher_where_it_cannot_wait_for_what_was_started(workspace: Workspace, keeps: bool) -> None:
    words, runs = launching(workspace)
    if keeps:
        place = words.index(LAUNCHER)
        words[place] = LAUNCHER.replace("start_new_session=True", "close_fds=False")
    messages = workspace.folder / "messages"
    with messages.open("w") as file:  # a pipe would end only with the program
        assert subprocess.run(with_a_pipe(words), stderr=file, timeout=30, check=False).returncode == 3
    assert ("runs on without a seat" in messages.read_text()) is keeps, "a process that closed its files is not seen"
    assert not workspace.service.active
    assert eventually(runs.exists, 20)
    runs.unlink()


@pytest.mark.skipif(sys.platform == "win32", reason="files are inherited in another way")
def test_hold_warns_of_no_command_that_ends_with_all_that_it_started(workspace: Workspace) -> None:
    words = command(workspace, "hold", "--", sys.executable, "-c", "print('work')")
    done = subprocess.run(with_a_pipe(words), capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "work\n", "")


@only_linux
def test_children_from_before_are_not_taken_for_descendants() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE):
        known = descendants.descendants()
        assert isinstance(known, descendants.InheritedPipe)
        known.close()


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_hold_ends_a_program_politely_when_its_seat_is_lost_after_a_time_to_save(workspace: Workspace) -> None:
    file = workspace.license(heartbeat=1, lease=4)
    words = ("hold", "--save-seconds", "1", "--", sys.executable, "-c", LEAVE_IN_ORDER)
    process = subprocess.Popen(
        command(workspace, *words, file=file), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "up\n"
    workspace.service.suspended = True
    begun = time.monotonic()
    assert process.wait(30) == 4
    assert time.monotonic() - begun > 1
    _, messages = process.communicate()
    assert "suspended" in messages
    assert "Save your work" in messages


def test_check_reads_a_license_without_the_network(workspace: Workspace) -> None:
    done = run(workspace, "check", "--product", "Fluidit Water")
    assert done.returncode == 0
    assert "Acme Water Oy" in done.stdout
    assert not workspace.service.requests
    for name in (names().user, *names().hosts):
        assert name not in done.stdout
    assert run(workspace, "check", "--product", "Fluidit Heat").returncode == 1


def test_output_that_nobody_reads_to_its_end_makes_no_noise(workspace: Workspace) -> None:
    words = command(workspace, "check")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert not process.stderr.read()
        assert process.wait(30) == 1


def test_a_missing_file_and_missing_keys_are_distinguished(workspace: Workspace) -> None:
    assert run(workspace, "check", file=workspace.folder / "none.lic").returncode == 1
    words = command(workspace, "check")
    index = words.index("--issuer-keys")
    bare = words[:index] + words[index + 2 :]
    environment = {name: value for name, value in os.environ.items() if name != "LICENSING_ISSUER_KEYS"}
    done = subprocess.run(bare, capture_output=True, text=True, env=environment, timeout=30, check=False)
    assert done.returncode == 2
    assert "LICENSING_ISSUER_KEYS" in done.stderr
    environment["LICENSING_ISSUER_KEYS"] = words[index + 1]
    done = subprocess.run(bare, capture_output=True, text=True, env=environment, timeout=30, check=False)
    assert done.returncode == 2
    assert "LICENSING_ISSUER_KEYS holds its text, and --issuer-keys names a file" in done.stderr


def test_a_seat_is_borrowed_used_without_network_and_returned(workspace: Workspace) -> None:
    assert "borrowed until" in run(workspace, "borrow", "--days", "3").stdout
    assert len(workspace.service.active) == 1
    offline = run(workspace, "hold", "--service", "http://127.0.0.1:9/api", "--", sys.executable, "-c", "print('work')")
    assert (offline.returncode, offline.stdout) == (0, "work\n")
    assert "borrowed until" in offline.stderr
    assert len(workspace.service.active) == 1
    assert run(workspace, "return").stdout == "returned\n"
    assert not workspace.service.active
    again = run(workspace, "return")
    assert again.returncode == 1
    assert "No seat is borrowed here" in again.stderr


def test_a_return_without_an_answer_is_a_return_all_the_same(workspace: Workspace) -> None:
    run(workspace, "borrow", "--days", "3")
    [session] = workspace.service.active
    unsent = run(workspace, "return", "--service", "http://127.0.0.1:9/api")
    assert unsent.returncode == 1
    assert "nothing has changed" in run(workspace, "borrow", "--days", "5").stderr

    def silent(connection: socket.socket) -> None:
        connection.recv(65536)

    with listening(silent) as port:
        assert run(workspace, "return", "--service", f"http://127.0.0.1:{port}/api").returncode == 1
    done = run(workspace, "hold", "--", sys.executable, "-c", "print('work')")
    assert done.returncode == 0
    assert "borrowed" not in done.stderr
    assert workspace.service.ended >= {session}
    assert not workspace.service.active


def test_a_borrowed_seat_is_said_to_last_as_long_as_it_does_and_is_not_borrowed_twice(workspace: Workspace) -> None:
    done = run(workspace, "borrow", "--days", "1")
    assert done.returncode == 0
    end = datetime.datetime.fromisoformat(done.stdout.split()[-1])
    assert abs(end.timestamp() - time.time() - 86400) < 120
    again = run(workspace, "borrow", "--days", "5")
    assert (again.returncode, again.stdout) == (1, done.stdout)
    assert "nothing has changed" in again.stderr
    assert len(workspace.service.active) == 1


def test_a_license_that_cannot_be_borrowed_says_so(workspace: Workspace) -> None:
    done = run(workspace, "borrow", "--days", "3", file=workspace.license(borrow=0))
    assert done.returncode == 1
    assert not workspace.service.requests


def test_my_data_shows_what_the_register_holds(workspace: Workspace) -> None:
    assert json.loads(run(workspace, "my-data").stdout) == []
    run(workspace, "borrow", "--days", "3")
    held = json.loads(run(workspace, "my-data").stdout)
    assert [entry["session"] for entry in held] == list(workspace.service.active)


STEPS = ["file", "signature", "terms", "dns", "connect", "proxy", "tls", "service", "seat"]


def steps_of(done: subprocess.CompletedProcess[str]) -> list[list[str]]:
    return [line.split()[:2] for line in done.stdout.splitlines()]


def up_to(step: str) -> list[list[str]]:
    """The steps of a diagnosis that fails at one of them."""
    return [*(["ok", before] for before in STEPS[: STEPS.index(step)]), ["FAIL", step]]


def test_diagnose_goes_all_the_way_and_leaves_no_seat_taken(workspace: Workspace) -> None:
    done = run(workspace, "diagnose")
    assert done.returncode == 0
    assert steps_of(done) == [["ok", step] for step in STEPS]
    assert eventually(lambda: not workspace.service.active)


@pytest.mark.parametrize(
    ("words", "step"),
    [
        (("--service", "https://no-such-host.invalid/api", "--proxy", ""), "dns"),
        (("--service", "http://127.0.0.1:9/api"), "connect"),
        (("--service", "https://licensing.test/api", "--proxy", "socks5://127.0.0.1:9"), "proxy"),
        (("--product", "Fluidit Heat"), "terms"),
    ],
)
def test_diagnose_says_where_it_fails(workspace: Workspace, words: tuple[str, ...], step: str) -> None:
    done = run(workspace, "diagnose", *words)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].split()[:2] == ["FAIL", step]


def test_diagnose_finds_a_file_that_was_tampered_with(workspace: Workspace) -> None:
    file = workspace.license()
    file.write_text(file.read_text()[:-30] + "A" * 29, "utf-8")
    done = run(workspace, "diagnose", file=file)
    assert done.stdout.splitlines()[-1].split()[:2] == ["FAIL", "signature"]


def test_diagnose_finds_a_file_that_is_missing_or_no_license_at_all(workspace: Workspace) -> None:
    picture = workspace.folder / "picture.lic"
    picture.write_bytes(b"\x89PNG\r\n")
    for file in (workspace.folder / "none.lic", picture):
        done = run(workspace, "diagnose", file=file)
        assert (done.returncode, steps_of(done)) == (1, up_to("file"))


def test_diagnose_finds_a_company_proxy_that_looks_into_the_connection(workspace: Workspace) -> None:
    ca, context = company_authority(workspace.folder)

    def inspector(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            read_head(secure)

    with listening(inspector) as port, listening(tunnel(port, [])) as proxy:
        words = ("diagnose", "--service", f"https://{HOST}/api", "--proxy", f"http://127.0.0.1:{proxy}")
        done = run(workspace, *words)
        trusting = run(workspace, *words, "--ca-file", str(ca))
    assert (done.returncode, steps_of(done)) == (1, up_to("tls"))
    assert steps_of(trusting) == up_to("service")


def test_diagnose_finds_a_page_that_answers_in_place_of_the_service(workspace: Workspace) -> None:
    with serving(lambda _: Reply(200, {"content-type": "text/html"}, b"<html>Please sign in</html>")) as portal:
        done = run(workspace, "diagnose", "--service", portal)
    assert (done.returncode, steps_of(done)) == (1, up_to("service"))


def test_diagnose_finds_a_seat_that_is_refused(workspace: Workspace) -> None:
    workspace.service.suspended = True
    done = run(workspace, "diagnose")
    assert (done.returncode, steps_of(done)) == (1, up_to("seat"))
    assert "suspended" in done.stdout


# Which license file counts.

NEXT_END = 2240611200
"""2041-01-01, 00:00 UTC."""


def renewed(workspace: Workspace, serial: int = 2, **claims: object) -> str:
    now = int(time.time())
    days = {"nbf": now - 60, "exp": NEXT_END, "service": workspace.base, "serial": serial}
    return sign("license+jwt", license_claims(**(days | claims)), ISSUER_KEY)


def kept(workspace: Workspace, **fetched: str) -> None:
    """The user's private directory holds these files."""
    store = FetchedFilesStore(license_of(), program().keys(), workspace.state)
    parsed = {name: parse_token(token, program().keys()) for name, token in fetched.items()}
    store.keep(FetchedFiles(**parsed))


def test_check_says_the_last_valid_day_and_which_file_counts(workspace: Workspace) -> None:
    file = workspace.license(exp=NEXT_END)
    done = run(workspace, "check", file=file)
    assert done.returncode == 0
    assert " to 2040-12-31\n" in done.stdout
    assert "given, serial 1" in done.stdout
    assert not done.stderr
    kept(workspace, granted=renewed(workspace, exp=NEXT_END + 86400), pending=renewed(workspace, 3, exp=NEXT_END + 60))
    done = run(workspace, "check", file=file)
    assert done.returncode == 0
    assert "fetched from the service, serial 2" in done.stdout
    assert " to 2041-01-01\n" in done.stdout
    assert "serial 3, valid to 2041-01-01 00:01 UTC" in done.stderr
    assert not workspace.service.requests


def test_check_accepts_an_expired_file_that_a_fetched_one_renews(workspace: Workspace) -> None:
    file = workspace.license(nbf=1000, exp=86400 * 2)
    done = run(workspace, "check", file=file)
    assert done.returncode == 1
    assert "(It was valid to 1970-01-02.)" in done.stderr
    assert "A start asks the service for a newer file first; `diagnose` says whether there is one." in done.stderr
    kept(workspace, pending=renewed(workspace))
    assert run(workspace, "check", file=file).returncode == 0
    kept(workspace, granted=renewed(workspace))
    assert run(workspace, "check", file=file).returncode == 0


def test_diagnose_says_which_file_counts(workspace: Workspace) -> None:
    file = workspace.license(exp=NEXT_END)
    done = run(workspace, "diagnose", file=file)
    assert "valid to 2040-12-31, by the given file, serial 1" in done.stdout
    workspace.service.publish(renewed(workspace))
    kept(workspace, granted=renewed(workspace))
    done = run(workspace, "diagnose", file=workspace.license(nbf=1000, exp=86400 * 2))
    assert done.returncode == 0, done.stdout
    assert "valid to 2040-12-31, by a newer file, fetched from the service, serial 2" in done.stdout


def test_diagnose_tells_that_a_start_would_fetch_a_newer_file(workspace: Workspace) -> None:
    file = workspace.license(nbf=1000, exp=86400 * 2)
    done = run(workspace, "diagnose", file=file)
    assert done.returncode == 1
    assert "FAIL terms" in done.stdout
    workspace.service.publish(renewed(workspace))
    done = run(workspace, "diagnose", file=file)
    assert done.returncode == 0, done.stdout
    assert (
        "valid to 2040-12-31, by a newer file, fetched from the service, serial 2; serial 1 counts until a start"
        in done.stdout
    )
    done = run(workspace, "diagnose", file=workspace.license(exp=NEXT_END))
    assert "a seat was granted and given back, 2 in all; programs fetch a newer file, serial 2\n" in done.stdout
    assert not list(workspace.state.glob("*.json")), "a diagnosis keeps nothing"


def test_diagnose_goes_on_with_the_former_file_where_the_newer_one_is_refused(workspace: Workspace) -> None:
    kept(workspace, pending=renewed(workspace))
    workspace.service.refused[2] = "network-not-allowed"
    done = run(workspace, "diagnose")
    assert done.returncode == 0, done.stdout
    assert "2 in all with serial 1, since serial 2 was refused: " in done.stdout
    assert not workspace.service.active
    workspace.service.refused[1] = "license-superseded"
    done = run(workspace, "diagnose")
    assert done.returncode == 1
    assert "FAIL seat" in done.stdout
    assert "network" in done.stdout.splitlines()[-1]


def test_borrow_return_and_my_data_use_the_file_that_counts(workspace: Workspace) -> None:
    changes: dict[str, Any] = {
        "lease_keys": {"keys": [jwk(STRANGER_KEY)]},
        "salt": "A" * 43,
        "service": "http://127.0.0.1:9/api",
    }
    file = workspace.license(borrow=0)
    workspace.service.publish(renewed(workspace, **changes))
    workspace.service.signing_key = STRANGER_KEY
    assert run(workspace, "borrow", "--days", "1", file=file).returncode == 1
    kept(workspace, granted=renewed(workspace, **changes))
    done = run(workspace, "borrow", "--days", "1", file=file)
    assert done.returncode == 0, done.stderr
    assert len(json.loads(run(workspace, "my-data", file=file).stdout)) == 1
    assert run(workspace, "return", file=file).returncode == 0
    assert not workspace.service.active


def test_hold_uses_the_file_that_counts(workspace: Workspace) -> None:
    file = workspace.license(nbf=1000, exp=86400 * 2)
    kept(workspace, granted=renewed(workspace))
    workspace.service.publish(renewed(workspace))
    done = run(workspace, "hold", "--", sys.executable, "-c", "print('work')", file=file)
    assert (done.returncode, done.stdout) == (0, "work\n")


# A license that ends soon.


def in_days(days: float) -> int:
    """The beginning of a day (UTC), after so many whole days."""
    return (int(time.time()) // 86400 + 1) * 86400 + round(days * 86400)


def the_day_before(end: int) -> str:
    return f"{datetime.datetime.fromtimestamp(end - 1, datetime.timezone.utc):%Y-%m-%d}"


@pytest.mark.parametrize(("days", "when"), [(0, "within a day"), (1, "in 1 day"), (33, "in 33 days")])
def test_check_warns_of_an_end_that_is_near(workspace: Workspace, days: int, when: str) -> None:
    end = in_days(days)
    done = run(workspace, "check", file=workspace.license(exp=end))
    assert done.returncode == 0
    day = the_day_before(end)
    assert done.stderr == f"The license ends on {day}, {when}; ask your license administrator to renew it.\n"


@pytest.mark.parametrize("days", [-3, 61])
def test_check_warns_of_no_end_that_is_past_or_far(workspace: Workspace, days: int) -> None:
    file = workspace.license(nbf=1000, exp=in_days(days))
    assert "The license ends on" not in run(workspace, "check", file=file).stderr


def test_a_renewed_license_that_was_fetched_needs_no_warning(workspace: Workspace) -> None:
    file = workspace.license(exp=in_days(5))
    kept(workspace, pending=renewed(workspace))
    assert "The license ends on" not in run(workspace, "check", file=file).stderr


def test_hold_warns_once_of_an_end_that_is_near(workspace: Workspace) -> None:
    end = in_days(5)
    file = workspace.license(exp=end)
    done = run(workspace, "hold", "--", sys.executable, "-c", "print('work')", file=file)
    assert (done.returncode, done.stdout) == (0, "work\n")
    assert done.stderr.count(f"The license ends on {the_day_before(end)}, in 5 days") == 1


# Waiting in line.


@pytest.fixture
def taken(workspace: Workspace) -> Iterator[Workspace]:
    """A license with one seat, which somebody else holds."""
    workspace.service.place_seconds = 1
    file = workspace.license(seats=1)
    with Seat(program(), file, state_directory=workspace.folder / "other"):
        yield workspace


Hold = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def hold(taken: Workspace) -> Iterator[Hold]:
    """Runs `hold` in a process group of its own, as in a terminal."""
    running: list[subprocess.Popen[str]] = []

    def start(*words: str) -> "subprocess.Popen[str]":
        full = command(taken, "hold", *words, file=taken.folder / "acme.lic")
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(full, stdout=pipe, stderr=pipe, text=True, start_new_session=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def line(process: "subprocess.Popen[str]") -> str:
    assert process.stderr
    return process.stderr.readline()


WORK = ("--", sys.executable, "-c", "print('work')")


def test_hold_waits_in_line_and_shows_the_place_when_it_changes(taken: Workspace, hold: Hold) -> None:
    process = hold("--wait", *WORK)
    assert line(process) == "All seats are taken; waiting for one. Ctrl+C ends the wait.\n"
    assert line(process) == "You are number 1 in line; 1 waits.\n"
    starts = len(taken.service.requests)
    assert eventually(lambda: len(taken.service.requests) > starts, 8), "it asks, and says nothing"
    taken.service.line["later"] = Place(time.time(), 60)
    assert line(process) == "You are number 1 in line; 2 wait.\n"
    taken.service.active.clear()
    output, messages = process.communicate(timeout=10)
    assert (process.returncode, output, messages) == (0, "work\n", "")
    assert not taken.service.active


def test_hold_ends_its_wait_after_a_time(taken: Workspace, hold: Hold) -> None:
    process = hold("--max-wait", "0.5", *WORK)
    output, messages = process.communicate(timeout=10)
    assert (process.returncode, output) == (125, "")
    assert messages.endswith("No seat came free within 0.5 seconds.\n")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_the_wait_of_hold_at_once(taken: Workspace, hold: Hold) -> None:
    process = hold("--wait", *WORK)
    assert line(process).startswith("All seats are taken")
    assert line(process) == "You are number 1 in line; 1 waits.\n"
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    output, messages = process.communicate(timeout=10)
    assert (process.returncode, output, messages) == (130, "", "")
    assert time.monotonic() - begun < 2
    again = hold("--max-wait", "0", *WORK)
    again.communicate(timeout=10)
    assert len(taken.service.line) == 1, "the same place"


def test_hold_that_waits_is_refused_for_good_as_ever(taken: Workspace, hold: Hold) -> None:
    taken.service.suspended = True
    process = hold("--wait", *WORK)
    output, messages = process.communicate(timeout=10)
    assert (process.returncode, output) == (125, "")
    assert messages.count("suspended") == 1


@pytest.mark.parametrize("text", ["-1", "soon", "inf", "nan"])
def test_a_time_to_wait_that_is_none_is_wrong_usage(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["hold", "acme.lic", f"--max-wait={text}", *WORK])
    assert f"--max-wait: {text} is no number of seconds; give 0 or more" in capsys.readouterr().err
