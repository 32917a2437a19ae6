"""The vectors match the protocol, and the client reads them as clients in other languages must."""

import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from licensing_client import replies
from licensing_client.answers import (
    Answer,
    CurrentFile,
    Ended,
    Gone,
    Granted,
    NoAnswer,
    NoNewerFile,
    Refused,
    Unaccepted,
)
from licensing_client.clock import SavedTime, Timeline
from licensing_client.errors import TokenError
from licensing_client.fetched_files import newer_license
from licensing_client.identity import Names, Person, bare_user, client_hash, normalized, short_host
from licensing_client.lease import Lease, read_answering_lease, read_lease
from licensing_client.license import License, Program, check_license, parse_license, read_license
from licensing_client.machine import Call, End, Heartbeat, Report, Start
from licensing_client.reasons import Reason
from licensing_client.service import Service
from licensing_client.tokens import Keys, keys_of, unbase64url, xs_of
from licensing_client.transport import Cancellation, Reply, Request
from vectors import FOLDER, files


def load(name: str) -> Any:
    return json.loads((FOLDER / name).read_text("utf-8"))


HASHES, LICENSES, LEASES, EXCHANGES, TIMES, NEWER = map(load, files())
LICENSE = parse_license(LEASES["license"], keys_of(xs_of({"keys": LEASES["issuer_keys"]})))


def named(cases: list[Any]) -> list[Any]:
    return [pytest.param(case, id=case["what"]) for case in cases]


@pytest.mark.parametrize("name", list(files()))
def test_the_files_are_what_the_protocol_makes_them(name: str) -> None:
    assert (FOLDER / name).read_text("utf-8") == files()[name]


@pytest.mark.parametrize("case", named(HASHES["vectors"]))
def test_names_become_hashes(case: Any) -> None:
    assert normalized(case["name"]) == case["normalized"]
    assert client_hash(unbase64url(HASHES["salt"]), case["kind"], case["name"]) == case["hash"]


@pytest.mark.parametrize("case", named(HASHES["accounts"]))
def test_an_account_becomes_a_bare_name(case: Any) -> None:
    assert bare_user(case["account"]) == case["user"]


@pytest.mark.parametrize("case", named(HASHES["computers"]))
def test_a_computers_name_is_cut_at_the_first_dot(case: Any) -> None:
    assert short_host(case["own"]) == case["host"]


@pytest.mark.parametrize("case", named(HASHES["sent"]))
def test_the_form_of_a_name_that_a_license_lists_is_sent(case: Any) -> None:
    account, own = case["account"], case["own"]
    names = Names(bare_user(account), (short_host(own), own), account, lambda: case["full"])
    sent = names.person(unbase64url(HASHES["salt"]), case["hosts"], case["users"])
    assert sent == Person(**case["person"])


@pytest.mark.parametrize("case", named(LICENSES["not_genuine"]))
def test_license_files_that_are_not_genuine(case: Any) -> None:
    with pytest.raises(TokenError):
        parse_license(case["file"], keys_of(xs_of({"keys": LICENSES["issuer_keys"]})))


def code_of(case: Any) -> str | None:
    """The code for a file, a person and a time; None if the file covers the program."""
    given = LICENSES["program"]
    program = Program(
        xs_of({"keys": LICENSES["issuer_keys"]}),
        given["product"],
        datetime.date.fromisoformat(given["built"]),
        frozenset(given["features"]),
    )
    license = parse_license(case["file"], program.keys())
    refusal = check_license(license, program, Person(**case["person"]), case["now"])
    return refusal.code.value if refusal else None


@pytest.mark.parametrize("case", named(LICENSES["judged"]))
def test_license_files_are_judged(case: Any) -> None:
    assert code_of(case) == case["code"]


@pytest.mark.parametrize("case", named([case for case in LICENSES["lines"] if case["code"] is None]))
def test_the_lines_of_a_file_are_joined(case: Any) -> None:
    assert code_of(case) is None


@pytest.mark.parametrize("case", named([case for case in LICENSES["lines"] if case["code"]]))
def test_a_file_with_other_lines_is_refused_with_its_code(case: Any, tmp_path: Path) -> None:
    file = tmp_path / "acme.lic"
    file.write_bytes(case["file"].encode())
    found = read_license(file, keys_of(xs_of({"keys": LICENSES["issuer_keys"]})))
    assert isinstance(found, Reason)
    assert found.code.value == case["code"]


@pytest.mark.parametrize("case", named(LEASES["genuine"]))
def test_leases_that_answer(case: Any) -> None:
    lease = read_answering_lease(case["lease"], LICENSE, LEASES["session"], LEASES["nonce"])
    claims = case["claims"]
    assert (lease.issued_at, lease.expires_at, lease.grace_seconds) == (claims["iat"], claims["exp"], claims["grace"])
    assert (lease.borrowed, lease.overdraft) == (claims["borrowed"], claims["overdraft"])
    assert list(lease.features) == claims["features"]
    assert lease.offered == claims.get("offered")


@pytest.mark.parametrize("case", named(LEASES["refused"]))
def test_leases_that_do_not_answer(case: Any) -> None:
    with pytest.raises(TokenError):
        read_answering_lease(case["lease"], LICENSE, LEASES["session"], LEASES["nonce"])


def meaning(answer: Answer) -> Any:
    match answer:
        case Granted():
            return "granted"
        case Refused(reason=reason, retry_after=None):
            return {"refused": reason.code.value}
        case Refused(reason=reason, retry_after=seconds):
            return {"refused": reason.code.value, "retry_after": seconds}
        case Gone():
            return "gone"
        case Unaccepted():
            return "unaccepted"
        case Ended():
            return "ended"
        case NoAnswer(retry_after=seconds):
            return {"no-answer": seconds} if seconds else "no-answer"


@pytest.mark.parametrize("case", named(EXCHANGES["exchanges"]))
def test_replies_mean_what_they_say(case: Any) -> None:
    given = case["reply"]
    reply = Reply(given["status"], given["headers"], given["body"].encode())
    session, nonce = EXCHANGES["session"], EXCHANGES["nonce"]
    if case["call"] in ("end", "ended"):
        answer = replies.to_end(reply) if case["call"] == "end" else replies.to_report(reply)
        plain: Any = meaning(answer)
        plain = next(iter(plain)) if isinstance(plain, dict) else plain
        assert plain == ("ended" if case["means"] == "done" else case["means"])
        return
    read_reply = replies.to_heartbeat if case["call"] == "heartbeat" else replies.to_start
    answer = read_reply(reply, LICENSE, session, nonce)
    assert meaning(answer) == case["means"]
    if "waiting" in case:
        assert isinstance(answer, Granted | Refused)
        position = answer.position if isinstance(answer, Refused) else None
        waiting = answer.seats.waiting if answer.seats else 0
        assert (position, waiting) == (case["position"], case["waiting"])


def call_of(name: str, lease: Lease, body: Mapping[str, Any] | None) -> Call:
    given = body or {}
    ran_until = datetime.datetime.fromisoformat(given.get("ran_until", "1970-01-01T00:00:00Z").replace("Z", "+00:00"))
    seconds = int(ran_until.timestamp())
    before = read_lease(given["replaces"], LICENSE) if "replaces" in given else None
    calls: Mapping[str, Call] = {
        "start": Start(lease.session_id, 0),
        "borrow": Start(lease.session_id, 432000),
        "heartbeat": Heartbeat(lease),
        "end": End(lease),
        "replace": Start(lease.session_id, 0, before, seconds),
        "replace and borrow": Start(lease.session_id, 432000, before, seconds),
        "wait": Start(lease.session_id, 0, wait=True),
        "ended": Report(lease, seconds),
    }
    return calls[name]


@pytest.mark.parametrize("name", list(EXCHANGES["requests"]))
def test_requests_are_what_is_sent(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    monkeypatch.setattr("secrets.token_urlsafe", lambda _size: EXCHANGES["nonce"])
    expected = EXCHANGES["requests"][name]
    body = EXCHANGES["requests"]["start"]["body"]
    lease = read_answering_lease(LEASES["genuine"][0]["lease"], LICENSE, LEASES["session"], LEASES["nonce"])
    Service(LICENSE, Person(body["user"], body["host"]), recorder).ask(
        call_of(name, lease, expected["body"]), 1.0, Cancellation()
    )
    [request] = recorder.sent
    assert request.method == expected["method"]
    assert request.url == LICENSE.service + expected["path"]
    assert dict(request.headers) == expected["headers"]
    assert (json.loads(request.body) if request.body else None) == expected["body"]


class Recorder:
    """Keeps the requests that are sent."""

    def __init__(self) -> None:
        self.sent: list[Request] = []

    def exchange(self, request: Request, timeout_seconds: float, cancellation: Cancellation) -> Reply:
        self.sent.append(request)
        return Reply(503, {}, b"")


def given_license() -> tuple[License, Keys]:
    keys = keys_of(xs_of({"keys": NEWER["issuer_keys"]}))
    return parse_license(NEWER["given"], keys), keys


def test_the_request_for_a_newer_file_is_what_is_sent() -> None:
    given, _ = given_license()
    recorder, expected = Recorder(), NEWER["request"]
    Service(given, Person("", ""), recorder).current(1.0, Cancellation())
    [request] = recorder.sent
    assert (request.method, request.url) == (expected["method"], given.service + expected["path"])
    assert dict(request.headers) == expected["headers"]
    assert json.loads(request.body) == expected["body"]


@pytest.mark.parametrize("case", named(NEWER["replies"]))
def test_a_newer_file_is_taken_only_if_it_is_one(case: Any) -> None:
    reply = Reply(case["reply"]["status"], case["reply"]["headers"], case["reply"]["body"].encode())
    match replies.to_current(reply):
        case NoAnswer():
            assert case["means"] == "no-answer"
        case NoNewerFile():
            assert case["means"] == "none"
        case CurrentFile(token):
            given, keys = given_license()
            taken = newer_license(token, keys, given)
            assert case["means"] == ("taken" if taken else "not-taken")
            assert (taken.serial if taken else None) == case.get("serial")


@pytest.mark.parametrize("case", named(TIMES["sequences"]))
def test_the_time_goes_on_as_the_protocol_says(case: Any) -> None:
    timeline, hold = Timeline(0, 0, 0, 0), case.get("hold", False)
    for step in case["steps"]:
        wall, monotonic = step["wall"], step["monotonic"]
        match step["do"]:
            case "start":
                saved = SavedTime(**step["file"]) if step["file"] else SavedTime()
                timeline = Timeline.resumed(saved, step["iat"] or 0, wall, monotonic, hold=hold)
            case "lease":
                timeline = Timeline.synchronized(step["iat"], wall, monotonic, hold=hold)
            case _:
                timeline = timeline.at(wall, monotonic)
        kept = {"offset": timeline.offset, "seen": timeline.now, "wall": timeline.wall}
        assert kept == step["keeps"], step["why"]
