"""The example in JavaScript waits in line, and gives its seat back while nobody works.

The service is the client's reference implementation: tests with the real one are in test_line.py.
"""

import json
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from factories import ISSUER_KEY, jwk, license_file
from licensing_client.transport import Reply, Request
from reference_service import Place, ReferenceService, Row, serving

from tests.client.test_node import EXAMPLE, end, message, messages, node, private_file


@dataclass
class Office:
    """The reference service, with a license of one seat, and a folder of each user's own."""

    service: ReferenceService
    folder: Path
    keys: Path
    file: Path
    running: list["subprocess.Popen[str]"] = field(default_factory=list)
    ends: int | None = None

    def handle(self, request: Request) -> Reply:
        """The service. Once `ends` is a number, it counts the ends of sessions, and answers none."""
        if request.method == "DELETE" and self.ends is not None:
            self.ends += 1
            return self.service.problem(503, "storage-unavailable")
        return self.service.handle(request)

    def take_the_seat(self) -> None:
        """Somebody holds the only seat."""
        now = time.time()
        self.service.active["somebody"] = Row("acme-water", "user", "host", now, now, now + 900, borrowed=False)

    def run(self, user: str, *options: str) -> "subprocess.Popen[str]":
        state = str(self.folder / user / "state")
        command = [node(), str(EXAMPLE / "seat.mjs"), str(self.file), str(self.keys), "60", *options]
        environment = {"XDG_STATE_HOME": state, "LOCALAPPDATA": state}
        pipe = subprocess.PIPE
        self.running.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment))
        return self.running[-1]

    def starts(self) -> list[dict[str, Any]]:
        """The starts that came."""
        requests = [request for _, request, _ in self.service.requests if request.url.endswith("/sessions")]
        return [json.loads(request.body) for request in requests]


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    place = Office(ReferenceService(time.time), tmp_path, tmp_path / "issuer.json", tmp_path / "acme.lic")
    place.service.place_seconds = 1
    place.keys.write_text(json.dumps({"keys": [jwk(ISSUER_KEY)]}))
    with serving(place.handle) as base:
        now = int(time.time())
        claims = {"iat": now - 60, "nbf": now - 60, "exp": now + 10**7, "seats": 1, "heartbeat": 1}
        place.file.write_text(license_file(**claims, service=base))
        yield place
        for process in place.running:
            process.kill()
            process.communicate()


def say(process: "subprocess.Popen[str]", word: str) -> None:
    assert process.stdin
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


def test_it_waits_in_line_with_one_place_also_after_a_crash(office: Office) -> None:
    office.take_the_seat()
    office.service.line["first"] = Place(time.time(), 60)
    bob = office.run("bob", "--wait")
    assert message(bob) == {"what": "refused", "code": "no-seat-available"}
    assert message(bob) == {"what": "waiting", "position": 2, "waiting": 2}
    while json.loads(private_file(office.folder / "bob").read_text())["line"] is None:
        time.sleep(0.02)
    bob.kill()
    bob.communicate()
    office.service.line.pop("first")
    bob = office.run("bob", "--wait")
    assert message(bob)["what"] == "refused"
    assert message(bob) == {"what": "waiting", "position": 1, "waiting": 1}
    office.service.active.clear()
    assert message(bob)["what"] == "granted"
    assert len({body["session"] for body in office.starts()}) == 1
    assert all(body["wait"] for body in office.starts())
    assert json.loads(private_file(office.folder / "bob", granted=True).read_text())["line"] is None
    assert end(bob) == ["ended"]


def test_who_does_not_wait_has_no_place(office: Office) -> None:
    office.take_the_seat()
    bob = office.run("bob")
    assert messages(bob) == [{"what": "refused", "code": "no-seat-available"}]
    assert not office.service.line


def test_it_gives_its_seat_to_who_waits_and_comes_back_for_another(office: Office) -> None:
    ann = office.run("ann")
    session = message(ann)["session"]
    say(ann, "idle")
    bob = office.run("bob", "--wait")
    assert message(ann) == {"what": "given-back", "code": "given-back"}
    assert [message(bob)["what"], message(bob)["what"]] == ["refused", "waiting"]
    assert message(bob)["what"] == "granted"
    say(ann, "active")
    assert message(ann) == {"what": "refused", "code": "no-seat-available"}
    assert message(ann) == {"what": "waiting", "position": 1, "waiting": 1}
    say(ann, "idle")  # it is noted, and nobody waits when the seat comes
    assert end(bob) == ["ended"]
    restored = message(ann)
    assert restored["what"] == "restored"
    assert restored["session"] != session
    assert end(ann) == ["ended"]
    assert ann.returncode == 0
    assert office.service.peak == 1
    assert not office.service.ran_until


def test_an_end_without_an_answer_is_repeated_and_an_active_program_replaces_its_session(office: Office) -> None:
    ann = office.run("ann")
    session = message(ann)["session"]
    office.ends = 0
    office.service.line["somebody"] = Place(time.time(), 60)
    say(ann, "idle")
    assert message(ann)["what"] == "given-back"
    while office.ends < 2:
        time.sleep(0.02)
    assert session in office.service.active
    say(ann, "active")
    assert message(ann)["what"] == "restored", "on its own seat, before those who wait"
    assert session in office.service.ended
    assert office.starts()[-1]["ran_until"]
    assert end(ann)[-1:] == ["lapses"]
