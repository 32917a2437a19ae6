"""Sessions that replace each other, are confirmed, are recalled, and what is told of them afterwards."""

import datetime
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from factories import SERVICE_KEY, lease_claims, license_of, sign
from licensing_client.errors import ExchangeError, Step
from licensing_client.lease import Lease, read_lease
from licensing_client.machine import Status
from licensing_client.reasons import Code
from licensing_client.transport import Reply, Request
from reference_service import ReferenceService
from simulation import Computer, ReferenceSimulation

HOUR, DAY = 3600.0, 86400.0
TRIP = int(5 * DAY)


@pytest.fixture
def simulation(tmp_path: Path) -> ReferenceSimulation:
    return ReferenceSimulation(tmp_path, seats=1)


def lease_of(computer: Computer) -> Lease:
    assert computer.engine
    assert computer.engine.state.lease
    return computer.engine.state.lease


def code_of(computer: Computer) -> Code | None:
    assert computer.engine
    reason = computer.engine.state.reason
    return reason.code if reason else None


def starts(simulation: ReferenceSimulation) -> list[dict[str, Any]]:
    """The bodies of all starts that reached the service."""
    return [json.loads(request.body) for _, request, _ in simulation.service.requests if is_start(request)]


def is_start(request: Request) -> bool:
    return request.method == "POST" and request.url.endswith("/sessions")


def methods(simulation: ReferenceSimulation) -> list[str]:
    return [request.method for _, request, _ in simulation.service.requests]


def utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def lose_replies(computer: Computer, which: Callable[[Request], bool]) -> Callable[[Request], Reply]:
    """Lose the replies to some requests. Returns the network's former handler."""
    real = computer.network.handle

    def forgetful(request: Request) -> Reply:
        reply = real(request)
        if which(request):
            raise ExchangeError(Step.SERVICE, "The reply did not come.")
        return reply

    computer.network.handle = forgetful
    return real


# Replacing.


def test_after_a_crash_one_start_replaces_the_old_session_and_nobody_takes_the_seat_in_between(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(600)
    old = lease_of(ann)
    seen = simulation.clock.true
    ann.crash()
    bob = simulation.computer("bob").start(wait=True).run(5)
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.GRANTED)
    assert bob.has_status(Status.REFUSED)
    body = starts(simulation)[-1]
    assert body["replaces"] == old.token
    assert seen - 310 < datetime.datetime.fromisoformat(body["ran_until"].replace("Z", "+00:00")).timestamp() <= seen
    assert "DELETE" not in methods(simulation)
    assert lease_of(ann).session_id != old.session_id
    assert simulation.service.peak == 1


def test_a_session_that_is_gone_is_replaced_by_the_next_start(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    old = lease_of(ann)
    simulation.service.active.clear()
    ann.run(330)
    assert ann.notices == ["granted"]
    body = starts(simulation)[-1]
    assert body["replaces"] == old.token
    assert utc(simulation.clock.true - 330) <= body["ran_until"] <= utc(simulation.clock.true)


def test_a_seat_is_traded_in_one_step_though_others_wait(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    old = lease_of(ann)
    bob = simulation.computer("bob").start(wait=True).run(5)
    assert ann.engine
    ann.engine.borrow(TRIP)
    ann.run(5)
    assert lease_of(ann).borrowed
    assert starts(simulation)[-1]["replaces"] == old.token
    ann.engine.borrow(0)
    ann.run(5)
    assert not lease_of(ann).borrowed
    bob.run(60)
    assert bob.has_status(Status.REFUSED)
    assert "DELETE" not in methods(simulation)
    assert len(simulation.service.active) == simulation.service.peak == 1


def test_an_unanswered_trade_is_repeated_as_it_was_and_the_old_session_is_not_used(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(10)
    old = lease_of(ann)
    real = lose_replies(ann, is_start)
    before = len(simulation.service.requests)
    assert ann.engine
    ann.engine.borrow(TRIP)
    ann.run(HOUR)
    tries = [request for _, request, _ in simulation.service.requests[before:]]
    assert len(tries) > 5
    assert all(is_start(request) for request in tries)
    bodies = [json.loads(request.body) for request in tries]
    assert len({(body["session"], body["replaces"], body["borrow_seconds"]) for body in bodies}) == 1
    assert bodies[0]["replaces"] == old.token
    assert ann.has_status(Status.GRACE)
    ann.network.handle = real
    ann.run(300)
    assert lease_of(ann).borrowed
    assert simulation.service.peak == 1


def test_an_unanswered_trade_is_repeated_after_a_crash_with_its_wish(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(10)
    old = lease_of(ann)
    real = lose_replies(ann, is_start)
    assert ann.engine
    ann.engine.borrow(TRIP)
    ann.run(5).crash()
    ann.network.handle = real
    ann.start(seed=2).run(5)
    assert lease_of(ann).borrowed
    bodies = starts(simulation)[1:]
    assert {body["replaces"] for body in bodies} == {old.token}
    assert len({body["session"] for body in bodies}) == 1
    assert simulation.service.peak == 1


def test_a_refused_trade_ended_nothing_and_the_program_goes_on_with_its_seat(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(10)
    old = lease_of(ann)
    real = ann.network.handle
    full = ReferenceService.problem(409, "no-seat-available", {"retry-after": "10"})
    ann.network.handle = lambda request: full if is_start(request) else real(request)
    assert ann.engine
    ann.engine.borrow(TRIP)
    ann.run(HOUR)
    assert ann.notices == ["granted", "granted"]
    assert ann.states[-1].reason
    assert ann.states[-1].reason.code is Code.NO_SEAT
    assert lease_of(ann).session_id == old.session_id
    assert not lease_of(ann).borrowed
    assert sum(method == "POST" for _, method in ann.network.calls) == 2


@pytest.mark.parametrize("reached", [False, True])
def test_a_trade_that_is_unanswered_when_the_program_ends_leaves_one_seat_to_the_next_run(
    simulation: ReferenceSimulation, reached: bool
) -> None:
    ann = simulation.computer().start().run(10)
    old = lease_of(ann)
    real = ann.network.handle

    def start_lost(request: Request) -> Reply:
        if is_start(request):
            if reached:
                real(request)
            raise ExchangeError(Step.SERVICE, "The reply did not come.")
        return real(request)

    ann.network.handle = start_lost
    assert ann.engine
    ann.engine.borrow(TRIP)
    ann.run(5).stop()
    assert methods(simulation)[-1] == "DELETE"
    assert len(simulation.service.active) == reached
    ann.network.handle = real
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.GRANTED)
    assert starts(simulation)[-1]["replaces"] == old.token
    assert len(simulation.service.active) == simulation.service.peak == 1


def test_a_crashed_program_whose_start_is_refused_frees_the_old_seat_when_it_ends(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(600).crash()
    simulation.service.suspended = True
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.REFUSED)
    assert len(simulation.service.active) == 1
    ann.stop()
    assert not simulation.service.active


def test_a_start_that_arrives_late_costs_a_seat_for_one_ordinary_lease(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer()
    late: list[Request] = []
    real = ann.network.handle

    def slow(request: Request) -> Reply:
        if is_start(request):
            late.append(request)
            raise ExchangeError(Step.SERVICE, "The proxy keeps it.")
        return real(request)

    ann.network.handle = slow
    ann.start(borrow_seconds=TRIP).run(5).stop()
    simulation.service.handle(late[0])
    bob = simulation.computer("bob").start(wait=True).run(900 + 30)
    assert bob.has_status(Status.GRANTED)


# Confirming.


def test_a_borrowed_seat_is_confirmed_at_once_and_only_then_promised(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start(borrow_seconds=TRIP).run(1)
    assert methods(simulation) == ["POST", "PUT"]
    assert ann.notices == ["granted", "granted"]
    borrowed = [state.lease.borrowed for state in ann.states if state.lease]
    assert borrowed == [False, True]
    assert lease_of(ann).expires_at >= simulation.clock.true + TRIP - 5


def test_a_seat_whose_confirmation_never_comes_is_not_promised_and_is_ended_on_exit(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer()
    ann.network.handle = real_without_heartbeats(ann)
    ann.start(borrow_seconds=TRIP).run(60)
    assert ann.has_status(Status.GRANTED)
    assert ann.states[-1].lease
    assert not ann.states[-1].lease.borrowed
    tries = sum(method == "PUT" for _, method in ann.network.calls)
    assert 5 <= tries <= 9, "repeated as a heartbeat is"
    ann.stop()
    assert not simulation.service.active


def real_without_heartbeats(computer: Computer) -> Callable[[Request], Reply]:
    real = computer.network.handle

    def cut(request: Request) -> Reply:
        if request.method == "PUT":
            raise ExchangeError(Step.SERVICE, "The reply did not come.")
        return real(request)

    return cut


def test_a_lost_confirmation_is_repeated(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer()
    real = lose_replies(ann, lambda request: request.method == "PUT")
    ann.start(borrow_seconds=TRIP).run(5)
    assert not lease_of(ann).borrowed
    ann.network.handle = real
    ann.run(30)
    assert lease_of(ann).borrowed
    ann.stop()
    assert len(simulation.service.active) == 1


def test_an_unconfirmed_seat_has_no_grace(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer()
    ann.network.handle = real_without_heartbeats(ann)
    ann.start(borrow_seconds=TRIP).run(899)
    assert ann.has_status(Status.GRANTED)
    ann.run(2)
    assert ann.has_status(Status.LOST)


def test_under_a_hold_every_start_is_confirmed_and_a_confirmed_end_leaves_no_grace(tmp_path: Path) -> None:
    simulation = ReferenceSimulation(tmp_path, seats=1, grace=int(12 * HOUR), hold=int(12 * HOUR) + 60)
    ann = simulation.computer().start().run(5)
    assert methods(simulation) == ["POST", "PUT"]
    assert ann.notices == ["granted"]
    assert lease_of(ann).grace_seconds == 12 * HOUR
    ann.stop()
    bob = simulation.computer("bob").start().run(5)
    assert bob.has_status(Status.GRANTED)
    ann.network.condition = "down"
    ann.start().run(5)
    assert ann.has_status(Status.REFUSED), "its seat is somebody else's"


def test_under_a_hold_a_crashed_program_goes_on_in_grace_and_its_seat_stays_its_own(tmp_path: Path) -> None:
    simulation = ReferenceSimulation(tmp_path, seats=1, grace=int(12 * HOUR), hold=int(12 * HOUR) + 60)
    ann = simulation.computer().start().run(600).crash()
    ann.network.condition = "down"
    bob = simulation.computer("bob").start(wait=True)
    ann.start(seed=2)
    for _ in range(11):
        ann.run(HOUR)
        bob.run(5)
        assert ann.has_status(Status.GRACE)
        assert bob.has_status(Status.REFUSED)
    ann.network.condition = "fine"
    ann.run(330)
    assert ann.has_status(Status.GRANTED)
    assert simulation.service.peak == 1


# Recalling.


def recall(simulation: ReferenceSimulation, computer: Computer) -> None:
    simulation.service.recalled.add(lease_of(computer).session_id)


def test_a_recalled_program_is_lost_after_a_second_hearing_and_asks_no_more(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    recall(simulation, ann)
    ann.run(330)
    assert ann.notices == ["granted", "lost"]
    assert code_of(ann) is Code.SEAT_RECALLED
    refused = [at for at, request, status in simulation.service.requests if status == 403]
    assert len(refused) == 2
    assert 3 <= refused[1] - refused[0] <= 4.6
    calls = len(ann.network.calls)
    ann.run(DAY)
    assert len(ann.network.calls) == calls
    assert ann.has_status(Status.LOST)


def test_a_recall_that_was_played_once_more_does_not_stop_a_program(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    played = ann.network.answer_once("PUT", ReferenceService.problem(403, "seat-recalled"))
    ann.run(HOUR)
    assert played
    assert ann.notices == ["granted"]


def test_a_recalled_seat_is_free_when_the_program_ends(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    bob = simulation.computer("bob").start(wait=True).run(5)
    recall(simulation, ann)
    ann.run(330)
    assert bob.run(30).has_status(Status.REFUSED), "free before the program has ended"
    ann.stop()
    assert bob.run(30).has_status(Status.GRANTED)


def test_a_borrowed_seat_that_is_recalled_is_ended_too(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start(borrow_seconds=TRIP).run(600)
    recall(simulation, ann)
    ann.run(330)
    assert code_of(ann) is Code.SEAT_RECALLED
    ann.stop()
    assert not simulation.service.active


def test_a_start_by_hand_after_a_recall_has_a_new_session_that_replaces_the_old_one(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(600)
    old = lease_of(ann)
    recall(simulation, ann)
    ann.run(330)
    assert ann.engine
    ann.engine.retry()
    ann.run(5)
    assert ann.has_status(Status.GRANTED)
    body = starts(simulation)[-1]
    assert body["replaces"] == old.token
    assert body["session"] != old.session_id
    assert list(simulation.service.active) == [body["session"]]


@pytest.mark.parametrize("borrow_seconds", [0, TRIP])
@pytest.mark.parametrize("crashed", [False, True])
def test_a_recalled_session_that_could_not_be_ended_is_not_used_by_the_next_run(
    simulation: ReferenceSimulation, borrow_seconds: int, crashed: bool
) -> None:
    ann = simulation.computer().start(borrow_seconds=borrow_seconds).run(600)
    old = lease_of(ann)
    recall(simulation, ann)
    ann.run(330)
    ann.network.condition = "down"
    _ = ann.crash() if crashed else ann.stop()
    ann.network.condition = "fine"
    ann.notices.clear()
    ann.start(seed=2).run(5)
    assert ann.notices == ["granted"]
    body = starts(simulation)[-1]
    assert body["replaces"] == old.token
    assert body["session"] != old.session_id
    assert len(simulation.service.active) == 1


def test_a_start_whose_session_was_recalled_before_its_answer_came_is_refused_and_then_has_a_new_id(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer()
    real = lose_replies(ann, is_start)
    ann.start().run(0.1)
    [session] = simulation.service.active
    simulation.service.recalled.add(session)
    ann.network.handle = real
    ann.run(5)
    assert ann.has_status(Status.REFUSED)
    assert code_of(ann) is Code.SEAT_RECALLED
    simulation.service.active.clear()
    assert ann.engine
    ann.engine.retry()
    ann.run(5)
    assert ann.has_status(Status.GRANTED)
    assert starts(simulation)[-1]["session"] != session


# Telling.


def check_report(simulation: ReferenceSimulation, session: str, until: float) -> None:
    """A lease has whole seconds, so the program's time may be one behind."""
    [(reported, ran_until)] = simulation.service.ran_until.items()
    assert reported == session
    assert utc(until - 1) <= ran_until <= utc(until)


def test_a_program_that_ended_after_its_lease_says_until_when_it_ran(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    session = lease_of(ann).session_id
    real = ann.network.handle
    ann.network.condition = "down"
    ann.run(5 * HOUR)
    assert ann.has_status(Status.GRACE)
    ann.network.condition, ann.network.handle = "fine", real
    ann.stop()
    assert methods(simulation)[-2:] == ["DELETE", "POST"]
    check_report(simulation, session, simulation.clock.true)


def test_a_program_that_ends_within_its_lease_has_nothing_to_tell(simulation: ReferenceSimulation) -> None:
    simulation.computer().start().run(600).stop()
    assert methods(simulation)[-1] == "DELETE"


def test_what_could_not_be_told_is_told_by_the_next_run(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    session = lease_of(ann).session_id
    ann.network.condition = "down"
    ann.run(5 * HOUR)
    until = simulation.clock.true
    ann.network.condition = "fine"
    real = ann.network.handle

    def deaf(request: Request) -> Reply:
        if request.url.endswith("/ended"):
            raise ExchangeError(Step.SERVICE, "The reply did not come.")
        return real(request)

    ann.network.handle = deaf
    ann.stop()
    assert not simulation.service.ran_until
    ann.start(seed=2).run(600)
    assert not simulation.service.ran_until
    ann.network.handle = real
    ann.run(330)
    check_report(simulation, session, until)
    reports = sum(request.url.endswith("/ended") for _, request, _ in simulation.service.requests)
    ann.run(HOUR).stop()
    assert sum(request.url.endswith("/ended") for _, request, _ in simulation.service.requests) == reports


@pytest.mark.parametrize("status", [400, 401, 410])
def test_a_report_that_the_service_does_not_want_is_dropped(simulation: ReferenceSimulation, status: int) -> None:
    codes = {400: "malformed-request", 401: "lease-invalid", 410: "session-gone"}
    ann = simulation.computer().start().run(600)
    ann.network.condition = "down"
    ann.run(HOUR)
    ann.network.condition = "fine"
    real = ann.network.handle
    problem = ReferenceService.problem(status, codes[status])
    ann.network.handle = lambda request: problem if request.url.endswith("/ended") else real(request)
    ann.stop()
    [file] = ann.disk.glob("*.json")
    assert json.loads(file.read_text())["ended"] == []


def test_no_more_than_ten_reports_wait(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer()
    real = ann.network.handle

    def deaf(request: Request) -> Reply:
        if request.url.endswith("/ended"):
            raise ExchangeError(Step.SERVICE, "The reply did not come.")
        return real(request)

    ann.network.handle = deaf
    for seed in range(13):
        ann.start(seed=seed).run(600)
        ann.network.condition = "down"
        ann.run(HOUR)
        ann.network.condition = "fine"
        ann.stop()
    [file] = ann.disk.glob("*.json")
    assert len(json.loads(file.read_text())["ended"]) == 10


def test_a_program_that_lost_its_seat_says_that_it_ran_until_then_and_no_longer(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(600)
    session = lease_of(ann).session_id
    ann.network.condition = "down"
    ann.run(HOUR)
    bob = simulation.computer("bob").start().run(5)
    ann.network.condition = "fine"
    ann.run(330)
    assert code_of(ann) is Code.NO_SEAT
    lost_at = next(at for at, _, status in reversed(simulation.service.requests) if status == 409)
    ann.run(HOUR).stop()
    assert simulation.service.ran_until[session] <= utc(lost_at)
    assert simulation.service.ran_until[session] > utc(lost_at - HOUR)
    bob.stop()


def test_a_program_that_was_lost_out_of_reach_says_in_its_next_run_that_it_ran_until_then_and_no_longer(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(600)
    lease = lease_of(ann)
    ann.network.condition = "down"
    ann.run(lease.issued_at + lease.grace_seconds - simulation.clock.true + 1)
    assert code_of(ann) is Code.GRACE_OVER
    ann.run(600).stop()
    simulation.clock.true += HOUR
    ann.start(seed=2).run(3).stop()
    ann.network.condition = "fine"
    ann.start(seed=3).run(5)
    assert starts(simulation)[-1]["ran_until"] == utc(lease.issued_at + lease.grace_seconds)


def test_a_program_that_ends_out_of_reach_says_in_its_next_run_that_it_ran_until_its_end(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(600)
    ann.network.condition = "down"
    ann.run(HOUR + 7)
    simulation.clock.true += 7
    until = simulation.clock.true
    ann.stop()
    simulation.clock.true += HOUR
    ann.network.condition = "fine"
    ann.start(seed=2).run(5)
    assert utc(until - 1) <= starts(simulation)[-1]["ran_until"] <= utc(until)


def test_a_lease_that_is_to_be_confirmed_is_read() -> None:
    assert read_lease(sign("lease+jwt", lease_claims(offered=5), SERVICE_KEY), license_of()).offered == 5
    assert read_lease(sign("lease+jwt", lease_claims(), SERVICE_KEY), license_of()).offered is None


# Under a hold, nobody runs beside another.


def strict(tmp_path: Path) -> ReferenceSimulation:
    return ReferenceSimulation(tmp_path, seats=1, grace=int(12 * HOUR), hold=int(12 * HOUR) + 60, borrow=14 * 86400)


def never_two(simulation: ReferenceSimulation, ann: Computer, bob: Computer, hours: int) -> None:
    for _ in range(hours * 6):
        ann.run(HOUR / 6)
        bob.run(1)
        assert not (ann.running and bob.running), f"two programs run on one seat: {ann.status}, {bob.status}"


@pytest.mark.parametrize("borrowed", [False, True])
@pytest.mark.parametrize("crashes", [False, True])
def test_under_a_hold_a_trade_whose_answer_is_lost_lets_nobody_run_beside_another(
    tmp_path: Path, borrowed: bool, crashes: bool
) -> None:
    simulation = strict(tmp_path)
    ann = simulation.computer().start(borrow_seconds=TRIP if borrowed else 0).run(600)
    bob = simulation.computer("bob").start(wait=True)
    real = ann.network.handle

    def lost(request: Request) -> Reply:
        real(request)
        raise ExchangeError(Step.SERVICE, "The reply did not come.")

    ann.network.handle = lost
    assert ann.engine
    ann.engine.borrow(0 if borrowed else TRIP)
    ann.run(1)
    ann.network.condition = "down"
    if crashes:
        ann.run(600).crash().start(seed=2)
    never_two(simulation, ann, bob, 14)
    assert bob.running


@pytest.mark.parametrize("killed", [False, True])
def test_under_a_hold_an_end_whose_answer_is_lost_leaves_no_grace(tmp_path: Path, killed: bool) -> None:
    class KilledError(Exception):
        pass

    simulation = strict(tmp_path)
    ann = simulation.computer().start().run(600)
    real = ann.network.handle

    def lost(request: Request) -> Reply:
        real(request)
        if killed:
            raise KilledError
        raise ExchangeError(Step.SERVICE, "The reply did not come.")

    ann.network.handle = lost
    if killed:
        with pytest.raises(KilledError):
            ann.stop()
        ann.crash()
    else:
        ann.stop()
    bob = simulation.computer("bob").start().run(5)
    assert bob.has_status(Status.GRANTED)
    ann.network.condition = "down"
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.REFUSED)
    ann.stop()
    bob.stop()
    ann.network.condition, ann.network.handle = "fine", real
    ann.start(seed=3).run(5)
    assert ann.has_status(Status.GRANTED)


def test_under_a_hold_an_end_that_could_not_be_sent_leaves_grace(tmp_path: Path) -> None:
    simulation = strict(tmp_path)
    ann = simulation.computer().start().run(600)
    ann.network.condition = "down"
    ann.stop()
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.GRACE)


def test_under_a_hold_a_program_whose_session_is_gone_does_not_run_on_for_long_without_an_answer(
    tmp_path: Path,
) -> None:
    simulation = strict(tmp_path)
    ann = simulation.computer().start().run(600)
    simulation.service.active.clear()
    real = ann.network.handle

    def heartbeats_only(request: Request) -> Reply:
        if is_start(request):
            raise ExchangeError(Step.CONNECT, "The cable is out.")
        return real(request)

    ann.network.handle = heartbeats_only
    ann.run(300)
    ann.run(900)
    assert ann.has_status(Status.LOST)


def test_a_start_that_was_not_sent_takes_no_session_id_and_costs_no_grace(tmp_path: Path) -> None:
    simulation = strict(tmp_path)
    ann = simulation.computer().start().run(600)
    old = lease_of(ann)
    ann.crash()
    ann.network.condition = "down"
    for seed in range(3):
        ann.start(seed=seed).run(HOUR)
        assert ann.has_status(Status.GRACE)
        ann.crash()
    [file] = ann.disk.glob("*.json")
    assert json.loads(file.read_text())["open"] == old.session_id


def test_a_borrowed_seat_stays_borrowed_though_one_heartbeat_was_damaged(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start(borrow_seconds=TRIP).run(600)
    damaged = ann.network.answer_once("PUT", ReferenceService.problem(401, "lease-invalid"))
    while not damaged:
        ann.run(30)
    ann.run(5)
    assert lease_of(ann).borrowed
    ann.stop()
    assert len(simulation.service.active) == 1
