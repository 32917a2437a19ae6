"""A renewed license reaches a program in another language (examples/node) on the real service. Nobody swaps a file."""

import hashlib
import json
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fault_proxy import FaultProxy, listening, start_fault_proxy

from licensing.cli.home import Home
from tests import factories
from tests.client.conftest import Served
from tests.client.test_node import end, message, messages, seat, sessions

OVER = {"nbf": 1735689600, "exp": 1767225600}
ELSEWHERE = {"networks": ["203.0.113.0/24"]}
HERE = {"networks": ["127.0.0.0/8"]}
"""Claims of a file that the service does not keep."""
OFTEN = {"seats": 2, "heartbeat": 1, "lease": 6, "grace": 0}


@dataclass
class Computer:
    """A computer with a program in another language, and a license of its own."""

    served: Served
    folder: Path
    license_id: str

    def issue(self, serial: int, **claims: Any) -> Path:
        """Issue a file of the license."""
        file = self.folder / f"{serial}.lic"
        given = {"sub": self.license_id, "serial": serial, "service": self.served.base, **claims}
        file.write_text(factories.issue(Home(self.served.home), **given))
        return file

    def publish(self, serial: int, **claims: Any) -> str:
        """Issue a file and publish it; its JWS."""
        file = self.issue(serial, **claims)
        self.served.licensing("license", "publish", str(file))
        return file.read_text()

    def bring(self, serial: int, **claims: Any) -> str:
        """Issue a file, with which another computer starts and ends; its JWS."""
        file, other = self.issue(serial, **claims), self.folder / "other"
        other.mkdir()
        process = seat(self.served, other, file, 60)
        assert message(process)["what"] == "granted"
        assert end(process) == ["ended"]
        return file.read_text()

    def start(self, file: Path, seconds: float = 60) -> subprocess.Popen[str]:
        """Start the program."""
        return seat(self.served, self.folder, file, seconds)

    @property
    def fetched_file(self) -> Path:
        """The private file for fetched license files."""
        name = hashlib.sha256(self.license_id.encode()).hexdigest()[:16]
        return self.folder / "state" / "licensing-node" / f"{name}.json"

    def fetched(self) -> Any:
        """What that file holds."""
        return json.loads(self.fetched_file.read_text())

    def put(self, **kept: str) -> None:
        """Write that file."""
        self.fetched_file.parent.mkdir(parents=True, exist_ok=True)
        self.fetched_file.write_text(json.dumps({"format": 1, **kept}))


@pytest.fixture
def computer(served: Served, tmp_path: Path) -> Computer:
    """A computer of which the service has never heard."""
    return Computer(served, tmp_path, factories.new_id("node"))


def whats(process: subprocess.Popen[str], number: int) -> list[str]:
    """What the next messages of a program are."""
    return [message(process)["what"] for _ in range(number)]


def test_a_running_program_fetches_the_renewed_file_which_counts_from_the_next_start_on(computer: Computer) -> None:
    old = computer.issue(1, heartbeat=1)
    process = computer.start(old)
    assert whats(process, 1) == ["granted"]
    assert not computer.fetched_file.exists()
    new = computer.publish(2, heartbeat=1, exp=2145916800)
    assert message(process) == {"what": "newer-license", "serial": 2, "until": 2145916800, "valid_to": "2037-12-31"}
    assert computer.fetched() == {"format": 1, "granted": None, "pending": new}
    assert computer.fetched_file.stat().st_mode & 0o777 == 0o600
    assert end(process) == ["ended"]
    process = computer.start(old)
    assert whats(process, 1) == ["granted"]
    assert end(process) == ["ended"]
    assert computer.fetched() == {"format": 1, "granted": new, "pending": None}


def test_a_program_that_was_off_over_the_end_of_its_file_asks_and_runs(computer: Computer) -> None:
    new = computer.publish(2)
    process = computer.start(computer.issue(1, **OVER))
    assert whats(process, 2) == ["newer-license", "granted"]
    assert end(process) == ["ended"]
    assert computer.fetched() == {"format": 1, "granted": new, "pending": None}


@pytest.mark.parametrize(("exp", "said"), [(1767225600, "2025-12-31"), (1767222000, "2025-12-31 23:00 UTC")])
def test_without_a_newer_file_it_is_refused_and_says_the_last_valid_day(
    computer: Computer, exp: int, said: str
) -> None:
    process = computer.start(computer.issue(1, nbf=1735689600, exp=exp))
    assert messages(process) == [{"what": "refused", "code": "license-expired", "valid_to": said}]
    assert process.returncode == 1


def test_a_newer_file_that_comes_after_the_three_seconds_of_a_start_is_too_late(computer: Computer) -> None:
    body = json.dumps({"license": computer.issue(2).read_text(), "serial": 2})
    reply = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"

    def slow(connection: socket.socket) -> None:
        connection.recv(65536)
        time.sleep(5)
        connection.sendall(f"{reply}{body}".encode())

    with listening(slow) as port:
        process = computer.start(computer.issue(1, **OVER, service=f"http://127.0.0.1:{port}/api"))
        assert [line["code"] for line in messages(process)] == ["license-expired"]


def test_where_nothing_may_be_recorded_no_newer_file_is_asked_for(computer: Computer) -> None:
    quiet = {"kind": "named-user", "users": ["x" * 43], "collect": False}
    with start_fault_proxy(computer.served.base) as (proxy, base):
        process = computer.start(computer.issue(1, **OVER, **quiet, service=base))
        assert [line["code"] for line in messages(process)] == ["license-expired"]
        assert proxy.traffic == []


def test_it_runs_over_the_end_of_its_file(computer: Computer) -> None:
    ends = int(time.time()) + 8
    process = computer.start(computer.issue(1, exp=ends, **OFTEN))
    session = message(process)["session"]
    computer.bring(2, **OFTEN)
    assert whats(process, 1) == ["newer-license"]
    time.sleep(ends + 4 - time.time())
    assert sessions(computer.served, computer.license_id) == {session: "running"}
    assert end(process) == ["ended"]


def test_it_is_in_grace_over_the_end_of_its_file_once_it_has_a_newer_one(computer: Computer) -> None:
    often = {**OFTEN, "grace": 3600}
    with start_fault_proxy(computer.served.base) as (proxy, base):
        ends = int(time.time()) + 12
        process = computer.start(computer.issue(1, exp=ends, **often, service=base))
        assert whats(process, 1) == ["granted"]
        computer.bring(2, **often)
        assert whats(process, 1) == ["newer-license"]
        proxy.fault = "off"
        assert whats(process, 1) == ["grace"]
        assert time.time() < ends
        time.sleep(ends + 2 - time.time())
        assert end(process) == ["lapses"]
        assert process.returncode == 0


def test_it_runs_on_under_newer_terms_that_it_cannot_fetch(computer: Computer) -> None:
    ends = int(time.time()) + 8
    process = computer.start(computer.issue(1, exp=ends, **OFTEN))
    session = message(process)["session"]
    computer.bring(2, **OFTEN, **HERE)
    time.sleep(ends + 4 - time.time())
    assert sessions(computer.served, computer.license_id) == {session: "running"}
    assert end(process) == ["ended"]


def test_a_program_that_had_no_news_asks_at_the_end_of_its_file(computer: Computer) -> None:
    seldom = {"seats": 2, "heartbeat": 3600, "lease": 7200, "grace": 0}
    ends = int(time.time()) + 8
    process = computer.start(computer.issue(1, exp=ends, **seldom))
    assert whats(process, 1) == ["granted"]
    computer.bring(2, **seldom)
    assert whats(process, 1) == ["newer-license"]
    assert time.time() > ends - 1
    time.sleep(1)
    assert end(process) == ["ended"]


def test_a_heartbeat_that_is_refused_for_the_end_leads_to_a_start_with_the_newer_file(computer: Computer) -> None:
    expired = {"type": "urn:licensing:problem:license-expired", "status": 403, "code": "license-expired"}
    body = json.dumps(expired)
    kind = f"Content-Type: application/problem+json\r\nContent-Length: {len(body)}"

    class Refusing(FaultProxy):
        def _forward(self, connection: socket.socket, request: bytes, method: bytes) -> None:
            if method == b"PUT":
                connection.sendall(f"HTTP/1.1 403 Forbidden\r\n{kind}\r\n\r\n{body}".encode())
            else:
                super()._forward(connection, request, method)

    proxy = Refusing(computer.served.base)
    with listening(proxy.handler) as port:
        process = computer.start(computer.issue(1, seats=2, heartbeat=1, service=f"http://127.0.0.1:{port}/api"))
        session = message(process)["session"]
        new = computer.bring(2, seats=2)
        assert whats(process, 1) == ["newer-license"]
        while computer.fetched()["granted"] != new:
            time.sleep(0.02)
        (replaced,) = sessions(computer.served, computer.license_id)
        assert replaced != session
        assert end(process) == ["ended"]


def test_a_question_that_hangs_delays_no_heartbeat(computer: Computer) -> None:
    class Hanging(FaultProxy):
        def _forward(self, connection: socket.socket, request: bytes, method: bytes) -> None:
            if b"/licenses/current" in request.partition(b"\r\n")[0]:
                while connection.recv(4096):  # until the program gives up
                    pass
            else:
                super()._forward(connection, request, method)

    often = {**OFTEN, "lease": 4}
    computer.publish(2, **often)
    proxy = Hanging(computer.served.base)
    with listening(proxy.handler) as port:
        process = computer.start(computer.issue(1, **often, service=f"http://127.0.0.1:{port}/api"), 6)
        assert [line["what"] for line in messages(process)] == ["granted", "ended"]
    assert sum(each.startswith(b"PUT ") for each in proxy.traffic) >= 4


def test_a_file_that_the_service_refuses_locks_nobody_out(computer: Computer) -> None:
    good = computer.publish(2)
    wrong = computer.issue(3, **ELSEWHERE).read_text()
    computer.put(granted=good, pending=wrong)
    process = computer.start(computer.issue(1))
    assert whats(process, 1) == ["granted"], "with the former file, and no word of the refusal"
    assert end(process) == ["ended"]
    assert computer.fetched() == {"format": 1, "granted": good, "pending": wrong}


def test_a_file_for_another_product_is_not_sent(computer: Computer) -> None:
    with start_fault_proxy(computer.served.base) as (proxy, base):
        old = computer.issue(1, service=base)
        wrong = computer.issue(3, product="Heat").read_text()
        computer.put(pending=wrong)
        process = computer.start(old)
        assert whats(process, 1) == ["granted"]
        assert end(process) == ["ended"]
        assert not [request for request in proxy.traffic if wrong.encode() in request]


def test_a_newer_file_is_asked_for_with_the_newest_at_hand(computer: Computer) -> None:
    computer.put(pending=computer.issue(2, nbf=int(time.time()) + 3600).read_text())
    newest = computer.publish(3, oldest=2)
    process = computer.start(computer.issue(1))
    assert whats(process, 2) == ["newer-license", "granted"], "the given file alone does not count any more"
    assert end(process) == ["ended"]
    assert computer.fetched()["granted"] == newest


def test_the_refusal_of_the_newer_file_is_shown_where_the_former_is_refused_as_well(computer: Computer) -> None:
    old = computer.issue(1)
    computer.bring(4, **HERE)
    assert messages(computer.start(old)) == [{"what": "refused", "code": "license-superseded"}]
    computer.put(pending=computer.issue(5, **ELSEWHERE).read_text())
    assert messages(computer.start(old)) == [{"what": "refused", "code": "network-not-allowed"}]


def test_a_file_that_is_not_the_vendors_is_not_used(computer: Computer) -> None:
    new = computer.publish(2)
    computer.put(granted=new[:-9] + "A" * 9)
    process = computer.start(computer.issue(1))
    assert whats(process, 2) == ["granted", "newer-license"], "fetched anew"
    assert end(process) == ["ended"]
    assert computer.fetched() == {"format": 1, "granted": None, "pending": new}


def test_a_given_file_that_is_as_new_counts_and_the_fetched_one_is_removed(computer: Computer) -> None:
    new = computer.issue(2)
    computer.put(granted=new.read_text())
    process = computer.start(new)
    assert whats(process, 1) == ["granted"]
    assert end(process) == ["ended"]
    assert not computer.fetched_file.exists()


def test_where_nothing_can_be_written_the_fetched_file_is_kept_in_memory(computer: Computer) -> None:
    (computer.folder / "state").write_text("no folder")
    computer.publish(2)
    process = computer.start(computer.issue(1, **OVER))
    assert whats(process, 2) == ["newer-license", "granted"]
    assert end(process) == ["ended"]
