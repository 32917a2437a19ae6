"""Renewal day: newer license files reach every computer, and a wrong one locks nobody out."""

import datetime
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import Workspace, eventually
from factories import ISSUER_KEY, NOW, SALT, SERVICE_KEY, STRANGER_KEY, jwk, license_claims, license_of, program, sign
from fault_proxy import listening
from licensing_client import Network, Seat, Standing
from licensing_client.errors import ExchangeError, Step
from licensing_client.fetched_files import FetchedFiles
from licensing_client.identity import Names, client_hash
from licensing_client.license import parse_token
from licensing_client.machine import Status, runs_until
from licensing_client.reasons import Code
from licensing_client.transport import Cancellation, HttpTransport, Reply, Request
from reference_service import ReferenceService
from simulation import Computer, ReferenceSimulation
from test_transport import silent

HOUR, DAY = 3600.0, 86400.0
END = NOW + 4 * int(HOUR)
"""The end of the given file."""
LATER = NOW + 365 * int(DAY)


@pytest.fixture
def simulation(tmp_path: Path) -> ReferenceSimulation:
    return ReferenceSimulation(tmp_path, exp=END, seats=1)


def token(serial: int = 2, key: Any = ISSUER_KEY, **claims: Any) -> str:
    return sign("license+jwt", license_claims(**({"serial": serial, "exp": LATER, "seats": 2} | claims)), key)


def fetches(computer: Computer) -> int:
    """How often this computer asked for a newer file."""
    return sum(url.endswith("/licenses/current") for url in computer.network.urls)


def started_with(simulation: ReferenceSimulation) -> list[int]:
    """The serials of the files with which starts were made."""
    bodies = [json.loads(r.body) for _, r, _ in simulation.service.requests if r.url.endswith("/sessions")]
    return [serial_of(body["license"]) for body in bodies]


def serial_of(token: str) -> int:
    return parse_token(token, program().keys()).serial


def counts(computer: Computer) -> int:
    return computer.license_files.counting.serial


def code_of(computer: Computer) -> Code | None:
    if computer.refusal:
        return computer.refusal.code
    assert computer.engine
    reason = computer.engine.state.reason
    return reason.code if reason else None


def is_fetch(request: Request) -> bool:
    return request.url.endswith("/licenses/current")


def instead(computer: Computer, which: Callable[[Request], bool], answer: Callable[[Request], Reply]) -> None:
    """Some requests of a computer get another answer than the service's."""
    real = computer.network.handle
    computer.network.handle = lambda request: answer(request) if which(request) else real(request)


def lost(_request: Request) -> Reply:
    raise ExchangeError(Step.SERVICE, "The reply did not come.")


def down() -> Reply:
    raise ExchangeError(Step.CONNECT, "The cable is out.")


# Renewal day.


def test_a_running_program_fetches_the_renewed_file_with_its_next_heartbeat(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    simulation.service.publish(token())
    ann.run(330)
    assert ann.license_files.candidate
    assert ann.notices == ["granted"]
    assert counts(ann) == 1
    ann.stop().start().run(5)
    assert started_with(simulation) == [1, 2]
    assert counts(ann) == 2
    ann.run(4 * HOUR)
    assert fetches(ann) == 1
    assert ann.notices == ["granted", "granted"]
    ann.stop()
    simulation.service.requests.clear()
    ann.start().run(5)
    assert started_with(simulation) == [2], "it counts in later runs, too"


def test_a_program_that_starts_on_renewal_day_needs_one_start_and_no_hand(simulation: ReferenceSimulation) -> None:
    simulation.service.publish(token())
    ann = simulation.computer().start().run(5)
    assert ann.has_status(Status.GRANTED)
    assert fetches(ann) == 1
    bob = simulation.computer("bob").start().run(5)
    assert bob.has_status(Status.GRANTED), "the seats that were added count at once"


def test_a_program_runs_over_the_end_of_its_old_file(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(HOUR)
    simulation.service.publish(token())
    ann.run(6 * HOUR)
    assert ann.notices == ["granted"]
    assert ann.license_files.valid_until == LATER
    ann.stop().start().run(5)
    assert ann.has_status(Status.GRANTED)


def test_over_the_old_end_leases_on_newer_terms_suffice(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(3 * HOUR)
    instead(ann, is_fetch, lost)
    simulation.service.publish(token())
    ann.run(4 * HOUR)
    assert ann.notices == ["granted"]
    assert counts(ann) == ann.license_files.newest_serial == 1
    assert ann.engine
    ann.network.condition = "down"
    ann.run(HOUR)
    assert ann.has_status(Status.LOST), "without the file nobody knows how long the newer terms last"
    assert code_of(ann) is Code.LICENSE_EXPIRED


def test_leases_on_newer_terms_are_renewed_in_time(tmp_path: Path) -> None:
    simulation = ReferenceSimulation(tmp_path, exp=END, heartbeat=1200)
    ann = simulation.computer().start().run(HOUR)
    instead(ann, is_fetch, lost)
    simulation.service.publish(token(heartbeat=1200))
    ann.run(6 * HOUR)
    assert ann.notices == ["granted"]


def test_a_seat_that_was_borrowed_on_newer_terms_serves_over_the_old_end(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(10)
    instead(ann, is_fetch, lost)
    simulation.service.publish(token())
    assert ann.engine
    ann.engine.borrow(int(DAY))
    ann.run(10).stop()
    ann.network.condition = "down"
    simulation.clock.true += 5 * HOUR
    ann.start().run(HOUR)
    assert ann.has_status(Status.GRANTED)


def test_grace_goes_over_the_old_end_once_the_file_is_fetched(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(3 * HOUR)
    simulation.service.publish(token())
    ann.run(HOUR - 600)
    ann.network.condition = "down"
    ann.run(HOUR)
    assert ann.has_status(Status.GRACE)
    assert ann.engine
    assert (runs_until(ann.engine.state) or 0) > END + DAY
    ann.crash()
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.GRACE)


def test_a_file_that_is_published_just_before_the_end_is_asked_for_at_the_end(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(4 * HOUR - 5)
    simulation.service.publish(token())
    ann.run(60)
    assert ann.notices == ["granted"]
    assert fetches(ann) == 1


def test_a_program_is_lost_at_the_end_and_comes_back_when_the_license_is_renewed_late(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(4 * HOUR + 1)
    assert code_of(ann) is Code.LICENSE_EXPIRED
    assert ann.notices == ["granted", "lost"]
    simulation.service.publish(token())
    ann.run(400)
    assert ann.notices == ["granted", "lost", "granted"]


def test_a_heartbeat_that_is_refused_at_the_end_leads_to_a_start_with_the_newer_file(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(600)
    instead(
        ann,
        lambda request: request.method == "PUT",
        lambda request: ReferenceService.problem(403, "license-expired"),
    )
    simulation.service.kept["acme-water"] = token()
    simulation.service._license_claims["acme-water"] |= {"seats": 1}
    ann.run(330)
    assert ann.notices == ["granted"]
    assert started_with(simulation) == [1, 2]
    assert len(simulation.service.active) == simulation.service.peak == 1


def test_after_sleep_over_grace_and_the_old_end_nothing_runs_beside_the_next_program_on_a_strict_seat(
    tmp_path: Path,
) -> None:
    terms = {"grace": 3600, "hold": 3660, "seats": 1}
    simulation = ReferenceSimulation(tmp_path, exp=END, **terms)
    ann = simulation.computer().start().run(600)
    simulation.service.publish(token(**terms))
    ann.sleep(5 * HOUR)
    bob = simulation.computer("bob").start().run(5)
    assert bob.has_status(Status.GRANTED)
    told: list[Status] = []

    def note(request: Request) -> Reply:
        told.append(ann.status)
        return lost(request)

    instead(ann, lambda _request: True, note)
    ann.run(60)
    assert set(told) == {Status.LOST}, "it is told before anything is asked"
    assert ann.engine
    assert ann.engine.state.ran_until == pytest.approx(NOW + 600, abs=1), "it did not run while it slept"


def test_grace_stays_whole_while_a_start_with_the_newer_file_gets_no_answer(tmp_path: Path) -> None:
    terms = {"grace": 43200, "hold": 43260, "seats": 1}
    simulation = ReferenceSimulation(tmp_path, exp=LATER, **terms)
    ann = simulation.computer().start().run(600)
    assert ann.engine
    whole = runs_until(ann.engine.state)
    simulation.service.kept["acme-water"] = token(**terms)
    expired = ReferenceService.problem(403, "license-expired")
    instead(ann, lambda request: not is_fetch(request), lambda request: expired if request.method == "PUT" else down())
    ann.run(330)
    assert ann.license_files.candidate
    assert runs_until(ann.engine.state) == whole, "the session was not ended, and its seat is held"
    assert simulation.service.active


def test_a_computer_that_was_off_for_a_week_over_the_old_end_asks_and_runs(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600).stop()
    simulation.service.publish(token())
    simulation.clock.true += 7 * DAY
    ann.start().run(5)
    assert ann.has_status(Status.GRANTED)
    assert fetches(ann) == 1
    assert started_with(simulation) == [1, 2]
    assert counts(ann) == 2
    assert ann.notices == ["granted", "granted"]


def test_without_an_answer_the_refusal_is_as_before(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer()
    simulation.clock.true += 7 * DAY
    for condition in ("down", "portal", "fine"):
        ann.network.condition = condition
        ann.start()
        assert code_of(ann) is Code.LICENSE_EXPIRED
    assert fetches(ann) == len(ann.network.urls) == 3, "one question for each start, and no start"


@pytest.mark.parametrize("claims", [{"maintenance_until": NOW - 40 * int(DAY)}, {"features": []}])
def test_a_newer_file_cures_what_the_old_one_does_not_cover(tmp_path: Path, claims: dict[str, Any]) -> None:
    simulation = ReferenceSimulation(tmp_path, **claims)
    simulation.program = program(built=datetime.date(2026, 9, 20), features=frozenset({"gis"}))
    simulation.service.publish(token())
    ann = simulation.computer().start().run(5)
    assert ann.has_status(Status.GRANTED)
    assert started_with(simulation) == [2]


def test_a_superseded_file_is_cured_within_the_start(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer()
    superseded = ReferenceService.problem(403, "license-superseded")
    instead(
        ann,
        lambda request: b'"license"' in request.body and not is_fetch(request) and serial_in(request) == 1,
        lambda _request: superseded,
    )
    simulation.service.publish(token())
    ann.start().run(1)
    assert ann.notices == ["granted"]
    assert len({json.loads(r.body)["session"] for _, r, _ in simulation.service.requests if not is_fetch(r)}) == 1


def serial_in(request: Request) -> int:
    return serial_of(json.loads(request.body)["license"])


def test_a_superseded_file_that_nothing_replaces_is_refused_after_one_question(
    simulation: ReferenceSimulation,
) -> None:
    simulation.service.publish(token(oldest=2))
    ann = simulation.computer().start().run(HOUR)
    assert code_of(ann) is Code.LICENSE_SUPERSEDED
    assert fetches(ann) == 1
    assert len(ann.network.urls) == 2


def test_a_newer_file_that_does_not_cover_the_program_cures_nothing(simulation: ReferenceSimulation) -> None:
    simulation.service.publish(token(product="Fluidit Heat"))
    simulation.service.refused[1] = "license-superseded"
    ann = simulation.computer().start().run(HOUR)
    assert ann.notices == ["refused"]
    assert code_of(ann) is Code.LICENSE_SUPERSEDED
    assert started_with(simulation) == [1]
    assert fetches(ann) == 1


# What is taken, and how often it is asked for.


@pytest.mark.parametrize(
    "wrong",
    [
        token(sub="other"),
        token(organization={"id": "other", "name": "Acme Water Oy"}),
        token(key=STRANGER_KEY),
        token(serial=1),
        token()[:-9],
    ],
)
def test_what_is_not_a_newer_file_of_this_license_changes_nothing(simulation: ReferenceSimulation, wrong: str) -> None:
    simulation.service.publish(token())
    simulation.service.kept["acme-water"] = token()
    ann = simulation.computer()
    reply = ReferenceService._json(200, {"license": wrong, "serial": 2})
    instead(ann, is_fetch, lambda _request: reply)
    ann.start().run(2 * HOUR)
    assert ann.notices == ["granted"]
    assert ann.license_files.newest_serial == 1
    assert fetches(ann) == 1, "it was answered, so it is not asked again in this run"
    assert ann.store.read() == FetchedFiles()


def test_after_a_failure_it_is_asked_again_with_the_next_answer(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(10)
    simulation.service.publish(token())
    real = ann.network.handle
    instead(ann, is_fetch, lost)
    ann.run(HOUR)
    heartbeats = sum(method == "PUT" for _, method in ann.network.calls)
    assert 10 < fetches(ann) <= heartbeats
    ann.network.handle = real
    ann.run(330)
    assert ann.license_files.candidate


@pytest.mark.parametrize("serial", ["2", 2.5, True, -2, None])
def test_a_serial_that_is_no_whole_number_tells_nothing(simulation: ReferenceSimulation, serial: object) -> None:
    ann = simulation.computer()
    real = ann.network.handle

    def odd(request: Request) -> Reply:
        reply = real(request)
        body = json.loads(reply.body) | {"license_serial": serial}
        return Reply(reply.status, reply.headers, json.dumps(body).encode())

    ann.network.handle = odd
    ann.start().run(HOUR)
    assert ann.notices == ["granted"]
    assert fetches(ann) == 0


def test_an_older_file_in_a_reply_does_not_replace_a_fetched_one(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(10)
    simulation.service.publish(token(serial=3))
    ann.run(330)
    simulation.service.publish(token(serial=4))
    older = ReferenceService._json(200, {"license": token(serial=2), "serial": 4})
    instead(ann, is_fetch, lambda _request: older)
    ann.run(2 * HOUR)
    assert ann.license_files.newest_serial == 3
    assert fetches(ann) == 2


def test_a_service_that_keeps_no_file_is_not_asked_again(simulation: ReferenceSimulation) -> None:
    simulation.service.publish(token())
    simulation.service.kept.clear()
    ann = simulation.computer()
    instead(ann, is_fetch, lambda _request: Reply(204, {}, b""))
    simulation.service.kept["acme-water"] = token()
    ann.start().run(2 * HOUR)
    assert fetches(ann) == 1


def test_a_seat_that_is_to_be_confirmed_is_confirmed_before_anything_is_fetched(
    simulation: ReferenceSimulation,
) -> None:
    simulation.service.publish(token())
    ann = simulation.computer().start(borrow_seconds=int(DAY)).run(5)
    assert [url.rpartition("/")[2] for url in ann.network.urls] == ["sessions", "heartbeat", "current"]


def test_a_license_that_forbids_calls_makes_none(simulation: ReferenceSimulation) -> None:
    person = simulation.computer().names.person(simulation.license.salt, set())
    free = license_of(kind="named-user", users=[person.user], collect=False, exp=END)
    simulation.service.publish(token())
    ann = simulation.computer(license=free)
    ann.start().run(5 * HOUR)
    assert code_of(ann) is Code.LICENSE_EXPIRED
    assert ann.engine
    ann.stop()
    ann.start()
    assert code_of(ann) is Code.LICENSE_EXPIRED
    ann.store.keep(FetchedFiles(granted=parse_token(token(), program().keys())))
    ann.start()
    assert code_of(ann) is Code.LICENSE_EXPIRED, "nor does it use what another license file has left"
    assert not ann.network.urls


# A wrong file that slipped through.


def fetched(simulation: ReferenceSimulation, **claims: Any) -> Computer:
    """A computer that has fetched a file, and made no start with it."""
    ann = simulation.computer().start().run(10)
    simulation.service.publish(token(**claims))
    ann.run(330).stop()
    simulation.service.requests.clear()
    ann.notices.clear()
    assert ann.store.read().pending
    return ann


@pytest.mark.parametrize(
    "claims",
    [
        {"product": "Fluidit Heat"},
        {"nbf": END},
        {"exp": NOW + 60},
        {"users": ["A" * 43]},
        {"hosts": ["A" * 43]},
        {"nbf": 10**15, "exp": 10**16},
        {"collect": False, "kind": "named-user", "users": [client_hash(SALT, "user", "ann")]},
    ],
)
def test_a_file_that_does_not_cover_the_program_is_not_used(
    simulation: ReferenceSimulation, claims: dict[str, Any]
) -> None:
    ann = fetched(simulation, **claims)
    simulation.service.publish(token(serial=3))  # the vendor has seen it
    ann.start().run(5)
    assert ann.notices == ["granted"]
    assert started_with(simulation) == [1]
    assert ann.license_files.candidate
    assert ann.license_files.candidate.serial == 3


@pytest.mark.parametrize("code", ["user-not-allowed", "license-not-yet-valid", "network-not-allowed"])
def test_a_file_whose_start_is_refused_gives_way_to_the_former_at_once(
    simulation: ReferenceSimulation, code: str
) -> None:
    ann = fetched(simulation)
    simulation.service.refused[2] = code
    ann.start().run(5)
    assert ann.notices == ["granted"]
    assert started_with(simulation) == [2, 1]
    assert len(sessions(simulation)) == 1
    ann.stop()
    assert not simulation.service.active
    ann.start(seed=2).run(5)
    assert started_with(simulation) == [2, 1, 2, 1], "the next program start tries it again"
    assert ann.engine
    simulation.service.active.clear()
    ann.run(330)
    assert started_with(simulation)[4:] == [1], "this run does not"
    assert ann.notices == ["granted", "granted"]


def sessions(simulation: ReferenceSimulation) -> set[str]:
    """The ids of all starts that reached the service."""
    return {json.loads(r.body)["session"] for _, r, _ in simulation.service.requests if r.url.endswith("/sessions")}


def test_the_refusal_of_the_newer_file_is_told_if_the_former_is_refused_too(simulation: ReferenceSimulation) -> None:
    ann = fetched(simulation)
    simulation.service.refused |= {2: "user-not-allowed", 1: "license-superseded"}
    ann.start().run(5)
    assert ann.notices == ["refused"]
    assert code_of(ann) is Code.USER_NOT_ALLOWED


def test_a_file_that_was_fetched_within_a_start_and_refused_is_not_used_again(simulation: ReferenceSimulation) -> None:
    simulation.service.publish(token())
    simulation.service.refused |= {1: "license-superseded", 2: "user-not-allowed"}
    ann = simulation.computer().start().run(5)
    assert code_of(ann) is Code.USER_NOT_ALLOWED
    assert ann.engine
    ann.engine.retry()
    ann.run(5)
    assert started_with(simulation) == [1, 2, 1]


def test_if_the_former_file_has_expired_the_refusal_of_the_newer_one_is_told(simulation: ReferenceSimulation) -> None:
    ann = fetched(simulation)
    simulation.clock.true += 5 * DAY
    simulation.service.refused[2] = "user-not-allowed"
    ann.start().run(5)
    assert ann.notices == ["refused"]
    assert code_of(ann) is Code.USER_NOT_ALLOWED
    assert started_with(simulation) == [2]


def test_a_seat_that_is_not_free_is_no_fault_of_the_file(simulation: ReferenceSimulation) -> None:
    ann = fetched(simulation, seats=1)
    bob = simulation.computer("bob").start().run(5)
    simulation.service.requests.clear()
    ann.start(wait=True).run(30)
    assert ann.notices == ["refused"]
    assert set(started_with(simulation)) == {2}
    bob.stop()
    ann.run(30)
    assert ann.notices == ["refused", "granted"]
    assert counts(ann) == 2


def test_without_an_answer_the_former_file_decides_on_grace(simulation: ReferenceSimulation) -> None:
    ann = fetched(simulation)
    ann.network.condition = "down"
    ann.start().run(5)
    assert ann.notices == ["grace"]
    assert counts(ann) == 1
    ann.network.condition = "fine"
    ann.run(60)
    assert ann.has_status(Status.GRANTED)
    assert counts(ann) == 2


def test_the_former_file_stays_when_a_wrong_one_follows_a_good_one(simulation: ReferenceSimulation) -> None:
    ann = fetched(simulation)
    ann.start().run(5)
    simulation.service.publish(token(serial=3))
    ann.run(330).stop()
    simulation.clock.true += 7 * DAY  # the given file has expired
    simulation.service.refused[3] = "user-not-allowed"
    ann.start().run(5)
    assert ann.has_status(Status.GRANTED)
    assert started_with(simulation)[-2:] == [3, 2]


# The disk.


def test_a_given_file_that_is_as_new_counts_and_the_fetched_one_is_removed(simulation: ReferenceSimulation) -> None:
    ann = fetched(simulation)
    ann.license = license_of(serial=2, exp=LATER, seats=2)
    ann.start().run(5)
    assert ann.license_files.fetched.pending is None
    assert started_with(simulation) == [2]
    assert [file.name for file in ann.disk.glob("*.json") if "-" not in file.name] == []


def test_a_crash_after_a_file_was_fetched_does_not_lose_it(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600).stop()
    simulation.clock.true += 7 * DAY
    simulation.service.publish(token())
    kept: list[bool] = []

    def note(request: Request) -> Reply:
        kept.append(ann.store.read().pending is not None)
        return lost(request)

    instead(ann, lambda request: not is_fetch(request), note)
    ann.start().run(5)
    assert kept[0], "it is kept before the start with it is sent"
    simulation.service.publish(token(serial=3, product="Fluidit Heat"))
    ann = simulation.computer("bob")
    ann.start()
    assert code_of(ann) is Code.LICENSE_EXPIRED
    assert ann.store.read().pending, "also if it does not help today"


def test_without_a_disk_a_fetched_file_serves_the_run(simulation: ReferenceSimulation, tmp_path: Path) -> None:
    (tmp_path / "ann").write_text("no directory")
    ann = simulation.computer().start().run(600)
    simulation.service.publish(token())
    ann.run(5 * HOUR)
    assert ann.notices == ["granted"]
    simulation.service.active.clear()
    ann.run(330)
    assert counts(ann) == 2
    ann.stop().start().run(5)
    assert ann.has_status(Status.GRANTED)
    assert fetches(ann) == 2


def test_two_programs_of_one_user_share_what_one_has_fetched(simulation: ReferenceSimulation, tmp_path: Path) -> None:
    simulation.service.publish(token())
    ann = simulation.computer().start().run(600)
    other = Computer(simulation, ann.disk, "ann", "ann-pc.example.com").start().run(5)
    assert other.has_status(Status.GRANTED)
    assert fetches(other) == 0
    assert counts(other) == 2
    simulation.service.publish(token(serial=3, seats=2))
    ann.run(330)
    other.run(330)
    assert ann.store.read().pending
    other.stop()
    other.start(seed=3).run(5)
    ann.stop()
    assert ann.store.read().granted == parse_token(token(serial=3, seats=2), program().keys())
    assert ann.store.read().pending is None


# What the newer file says.


def test_lease_keys_may_rotate_with_the_file(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(10)
    both = {"keys": [jwk(SERVICE_KEY), jwk(STRANGER_KEY)]}
    simulation.service.publish(token(lease_keys=both))
    ann.run(330)
    simulation.service.signing_key = STRANGER_KEY
    ann.run(HOUR)
    assert ann.notices == ["granted"], "a key of the fetched file is good before that counts"
    ann.crash()
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.GRANTED)
    assert simulation.service.peak == 1, "the saved session was replaced, though the given file lacks its key"


def test_a_saved_session_under_the_old_key_is_replaced_after_a_rotation(simulation: ReferenceSimulation) -> None:
    ann = fetched(simulation, lease_keys={"keys": [jwk(STRANGER_KEY)]})
    simulation.service.kept.clear()
    ann.start().run(5)  # still signed with the old key, which only the given file names
    assert ann.has_status(Status.GRANTED)
    ann.crash()
    simulation.service.signing_key = STRANGER_KEY
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.GRANTED)
    assert simulation.service.peak == 1


def test_a_hold_binds_from_the_first_start_that_was_granted_with_its_file(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(10)
    simulation.service.publish(token(hold=3600, grace=3600))
    ann.run(330)
    assert ann.engine
    assert ann.engine.state.terms.hold_lease_seconds is None
    ann.stop()
    ann.start().run(5)
    assert ann.engine.state.terms.hold_lease_seconds == 900


def test_hashes_and_service_stay_those_of_the_given_file(simulation: ReferenceSimulation) -> None:
    ann = fetched(simulation, salt="A" * 43, service="https://elsewhere.example.com/api")
    ann.start().run(5)
    assert ann.has_status(Status.GRANTED)
    assert counts(ann) == 2
    assert all(url.startswith("https://licensing.example.com/api/") for url in ann.network.urls)
    hosts = {json.loads(r.body)["host"] for _, r, _ in simulation.service.requests if r.url.endswith("/sessions")}
    assert hosts == {Names("ann", ("ann-pc.example.com",)).person(simulation.license.salt, set()).host}


def test_closing_during_the_question_at_the_end_cancels_what_would_follow(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(4 * HOUR - 5)
    cancelled: list[bool] = []
    exchange = ann.network.exchange

    def close(request: Request, timeout_seconds: float, cancellation: Cancellation) -> Reply:
        assert ann.engine
        if is_fetch(request):
            ann.engine.cancel_exchange()
        with pytest.raises(OSError, match="cancelled"):
            cancellation.check()
        cancelled.append(is_fetch(request))
        return exchange(request, timeout_seconds, cancellation)

    simulation.service.publish(token())
    ann.network.exchange = close  # type: ignore[method-assign]
    simulation.clock.true = END + 2
    assert ann.engine
    ann.engine.step()
    assert cancelled == [True, False]


# In real time, through the public face.


def seat_of(workspace: Workspace, file: Path, **options: Any) -> Seat:
    given = {"state_directory": workspace.state, **options}
    return Seat(program(), file, **given)


def renewed(workspace: Workspace, serial: int = 2, **claims: Any) -> str:
    now = int(time.time())
    days = {"nbf": now - 60, "exp": now + 20 * 365 * int(DAY), "service": workspace.base}
    return token(serial, **(days | claims))


def expired(workspace: Workspace) -> Path:
    now = int(time.time())
    return workspace.license(nbf=now - 7200, exp=now - 3600)


def test_standing_says_which_file_counts_and_until_when(workspace: Workspace) -> None:
    file = workspace.license(exp=int(datetime.datetime(2040, 1, 1, tzinfo=datetime.timezone.utc).timestamp()))
    with seat_of(workspace, file) as seat:
        given = seat.standing.license_file
    assert given
    assert (given.serial, given.fetched, given.last_valid_day) == (1, False, "2039-12-31")
    assert given.valid_until == datetime.datetime(2040, 1, 1, tzinfo=datetime.timezone.utc)
    workspace.service.publish(renewed(workspace, exp=2240611200))
    for _ in range(2):
        with seat_of(workspace, file) as seat:
            standing = seat.standing
            assert eventually(lambda: seat._engine is not None and seat._engine.files.newest_serial == 2)
    assert standing.license_file
    assert (standing.license_file.serial, standing.license_file.fetched) == (2, True)
    assert standing.license_file.last_valid_day == "2040-12-31"
    assert seat.license
    assert seat.license.serial == 2
    file = workspace.license(serial=2)
    with seat_of(workspace, file) as seat:
        assert seat.standing.license_file
        assert not seat.standing.license_file.fetched
    assert [each.name for each in workspace.state.glob("*.json") if "-" not in each.name] == []


def test_an_expired_file_is_cured_within_a_start(workspace: Workspace) -> None:
    file = expired(workspace)
    workspace.service.publish(renewed(workspace))
    seat = seat_of(workspace, file)
    begun = time.monotonic()
    assert seat.start().running
    assert time.monotonic() - begun < 3
    seat.close()
    assert not workspace.service.active


def test_a_question_that_hangs_does_not_delay_the_refusal(workspace: Workspace) -> None:
    with listening(silent) as port:
        received: list[Standing] = []
        network = Network(service=f"http://127.0.0.1:{port}/api")
        seat = seat_of(workspace, expired(workspace), network=network, refused=received.append)
        begun = time.monotonic()
        standing = seat.start()
        assert time.monotonic() - begun < 3
        assert standing.reason
        assert standing.reason.code is Code.LICENSE_EXPIRED
        assert eventually(lambda: [each.reason for each in received] == [standing.reason])
        seat.close()


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Questions for a newer file get no answer."""
    with listening(silent) as port:

        class Hanging(HttpTransport):
            def exchange(self, request: Request, timeout_seconds: float, cancellation: Cancellation) -> Reply:
                if is_fetch(request):
                    request = replace(request, url=f"http://127.0.0.1:{port}/")
                return super().exchange(request, timeout_seconds, cancellation)

        monkeypatch.setattr("licensing_client.seat.HttpTransport", Hanging)
        yield


@pytest.mark.usefixtures("hanging")
def test_a_question_that_hangs_delays_no_heartbeat(workspace: Workspace) -> None:
    often = {"heartbeat": 1, "lease": 4}
    workspace.service.publish(renewed(workspace, **often))
    received: list[Standing] = []
    seat = seat_of(workspace, workspace.license(**often), grace=received.append)
    assert seat.start().running
    assert eventually(lambda: sum(r.method == "PUT" for _, r, _ in workspace.service.requests) >= 4, 8)
    seat.close()
    assert not received, "it was never without a lease"


@pytest.mark.usefixtures("hanging")
def test_a_question_that_hangs_after_a_refusal_of_the_service_does_not_delay_it(workspace: Workspace) -> None:
    workspace.service.publish(renewed(workspace, oldest=2))
    seat = seat_of(workspace, workspace.license())
    begun = time.monotonic()
    standing = seat.start()
    assert time.monotonic() - begun < 3
    seat.close()
    assert standing.reason
    assert standing.reason.code is Code.LICENSE_SUPERSEDED


def test_a_question_can_be_cancelled(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("licensing_client.seat.FETCH_SECONDS", 30.0)
    with listening(silent) as port:
        network = Network(service=f"http://127.0.0.1:{port}/api")
        seat = seat_of(workspace, expired(workspace), network=network, start_within=100)
        seat.start(block=False)
        time.sleep(0.2)
        begun = time.monotonic()
        seat.close()
        assert time.monotonic() - begun < 1.9
        assert seat._thread
        assert not seat._thread.is_alive()
