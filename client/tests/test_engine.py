"""What happens to a program and its seat under faults of the network, the computer and its user."""

import json
from pathlib import Path

import pytest

from factories import NOW, STRANGER_KEY, lease_claims, license_of, sign
from licensing_client.errors import ExchangeError, Step
from licensing_client.lease import Lease
from licensing_client.machine import Status, runs_until
from licensing_client.reasons import Code
from licensing_client.transport import Reply, Request
from reference_service import ReferenceService
from simulation import Computer, Handle, ReferenceSimulation

HOUR, DAY = 3600.0, 86400.0


@pytest.fixture
def simulation(tmp_path: Path) -> ReferenceSimulation:
    return ReferenceSimulation(tmp_path)


def code_of(computer: Computer) -> Code | None:
    assert computer.engine
    reason = computer.engine.state.reason
    return reason.code if reason else None


def test_a_program_takes_a_seat_keeps_it_all_day_and_gives_it_back(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(8 * HOUR)
    assert ann.notices == ["granted"]
    assert simulation.seats_of(ann) == 1
    ann.stop()
    assert not simulation.service.active
    heartbeats = sum(method == "PUT" for _, method in ann.network.calls)
    assert 8 * 12 <= heartbeats <= 8 * 12 / 0.8 + 1


def test_a_start_whose_reply_is_lost_takes_no_second_seat(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start()
    ann.network.condition = "reply-lost"
    ann.run(0.1)
    ann.network.condition = "fine"
    ann.run(60)
    assert ann.has_status(Status.GRANTED)
    assert simulation.seats_of(ann) == 1
    assert not simulation.service.ended


def test_a_crash_before_the_answer_takes_no_second_seat(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start()
    ann.network.condition = "reply-lost"
    ann.run(0.1).crash()
    ann.network.condition = "fine"
    ann.start().run(10)
    assert ann.has_status(Status.GRANTED)
    assert simulation.seats_of(ann) == 1


def test_a_power_cut_while_the_answer_is_under_way_takes_no_second_seat(simulation: ReferenceSimulation) -> None:
    class PowerCutError(Exception):
        pass

    def dying(request: Request) -> Reply:
        simulation.service.handle(request)
        raise PowerCutError

    ann = simulation.computer()
    ann.network.handle = dying
    with pytest.raises(PowerCutError):
        ann.start().run(1)
    ann.crash()
    ann.network.handle = simulation.service.handle
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.GRANTED)
    assert simulation.seats_of(ann) == 1


def test_after_a_crash_the_old_seat_is_given_back_before_a_new_one_is_taken(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600).crash()
    assert simulation.seats_of(ann) == 1
    ann.start().run(10)
    assert ann.has_status(Status.GRANTED)
    assert simulation.seats_of(ann) == 1
    assert simulation.service.peak == 1


def test_two_programs_of_one_user_hold_two_seats_and_no_more(simulation: ReferenceSimulation) -> None:
    first, second = simulation.computer().start().run(10), simulation.computer().start().run(10)
    third = simulation.computer().start().run(10)
    assert [first.status, second.status, third.status] == [Status.GRANTED, Status.GRANTED, Status.REFUSED]


def test_an_hour_without_network_stops_nobody_and_costs_no_second_seat(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    ann.network.condition = "down"
    ann.run(HOUR)
    assert ann.has_status(Status.GRACE)
    assert ann.notices == ["granted", "grace"]
    ann.network.condition = "fine"
    ann.run(600)
    assert ann.has_status(Status.GRANTED)
    assert ann.notices == ["granted", "grace", "granted"]
    assert simulation.seats_of(ann) == 1


@pytest.mark.parametrize("condition", ["down", "reply-lost", "portal", "redirect", "garbled", "cut", "replay"])
def test_no_network_condition_stops_a_program_or_gives_it_two_seats(
    simulation: ReferenceSimulation, condition: str
) -> None:
    ann = simulation.computer().start().run(1000)
    for _ in range(5):
        ann.network.condition = condition
        ann.run(HOUR)
        assert ann.running
        assert simulation.seats_of(ann) <= 1
        ann.network.condition = "fine"
        ann.run(1000)
        assert ann.has_status(Status.GRANTED)
        assert simulation.seats_of(ann) == 1


def test_grace_ends_when_the_license_says_and_the_user_learns_how_long_is_left(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    assert ann.engine
    lease = ann.engine.state.lease
    assert lease
    ann.network.condition = "down"
    ann.run(lease.issued_at + 3 * DAY - 1 - simulation.clock.true)
    assert ann.has_status(Status.GRACE)
    assert ann.notices == ["granted", "grace", "grace", "grace", "grace"]  # at once, then a day, an hour, ten minutes
    ann.run(2)
    assert ann.has_status(Status.LOST)
    assert code_of(ann) is Code.GRACE_OVER


def test_a_seat_lost_to_a_long_outage_comes_back_with_the_network(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    ann.network.condition = "down"
    ann.run(4 * DAY)
    assert ann.has_status(Status.LOST)
    ann.network.condition = "fine"
    ann.run(600)
    assert ann.has_status(Status.GRANTED)


def test_without_network_a_program_starts_again_in_grace_within_its_time(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600).stop()
    ann.network.condition = "down"
    ann.start().run(3)
    assert ann.has_status(Status.GRACE)


def test_a_program_that_never_had_a_lease_does_not_start_without_the_service(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start()
    ann.network.condition = "down"
    ann.run(3)
    assert ann.has_status(Status.REFUSED)
    assert code_of(ann) is Code.NO_ANSWER


def test_a_clock_set_back_does_not_lengthen_grace(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600).stop()
    ann.network.condition = "down"
    for _ in range(8):  # half a day of work each, and each morning the clock goes back to the first day
        ann.start().run(DAY / 2)
        running = ann.running
        ann.stop()
        ann.clock.skew -= DAY / 2
    assert not running
    ann.start().run(3)
    assert code_of(ann) is Code.GRACE_OVER


def test_a_clock_set_back_while_running_does_not_lengthen_grace(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    ann.network.condition = "down"
    ann.run(DAY)
    ann.clock.skew = -10 * DAY
    ann.run(2 * DAY + HOUR)
    assert ann.has_status(Status.LOST)


def test_a_clock_that_is_days_wrong_costs_an_honest_user_nothing(simulation: ReferenceSimulation) -> None:
    license = license_of(nbf=int(NOW - 60 * DAY))  # by either wrong clock it has begun, and has not ended
    for skew in (-30 * DAY, 30 * DAY):
        ann = simulation.computer(f"user{skew:.0f}", license)
        ann.clock.skew = skew
        ann.start().run(600)
        assert ann.has_status(Status.GRANTED)
        ann.network.condition = "down"
        ann.run(HOUR).stop()
        ann.start().run(3)
        assert ann.has_status(Status.GRACE)
        ann.stop()


def test_deleting_the_private_file_gains_no_grace(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600).stop()
    for file in ann.disk.iterdir():
        file.unlink()
    ann.network.condition = "down"
    ann.start().run(3)
    assert ann.has_status(Status.REFUSED)


def test_two_programs_do_not_go_on_in_grace_from_one_lease(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600).stop()
    ann.network.condition = "down"
    ann.start().run(3)
    second = simulation.computer()
    second.network.condition = "down"
    second.start().run(3)
    assert ann.has_status(Status.GRACE)
    assert second.has_status(Status.REFUSED)


def test_a_suspension_ends_the_program_in_order_and_never_in_grace(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    simulation.service.suspended = True
    ann.run(400)
    assert ann.has_status(Status.LOST)
    assert code_of(ann) is Code.LICENSE_SUSPENDED
    assert ann.notices == ["granted", "lost"]
    calls = len(ann.network.calls)
    ann.run(HOUR)
    assert len(ann.network.calls) == calls


def test_an_old_refusal_played_again_does_not_stop_a_program(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    simulation.service.suspended = True
    refusal = simulation.service.handle(heartbeat_of(ann))
    simulation.service.suspended = False
    real_handle = ann.network.handle
    replayed: list[Request] = []

    def once(request: Request) -> Reply:
        if request.method == "PUT" and not replayed:
            replayed.append(request)
            return refusal
        return real_handle(request)

    ann.network.handle = once
    ann.run(HOUR)
    assert replayed
    assert ann.notices == ["granted"]


def heartbeat_of(computer: Computer) -> Request:
    assert computer.engine
    lease = computer.engine.state.lease
    assert lease
    url = f"https://x/api/sessions/{lease.session_id}/heartbeat"
    return Request("PUT", url, {"Authorization": f"Bearer {lease.token}"}, b'{"nonce": "0000000000000000"}')


def test_a_session_that_the_service_lost_is_started_again_without_a_word(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    simulation.service.active.clear()
    ann.run(600)
    assert ann.notices == ["granted"]
    assert simulation.seats_of(ann) == 1


def test_an_old_session_gone_played_again_gives_no_second_seat(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    real_handle = ann.network.handle
    gone = ReferenceService.problem(410, "session-gone")
    ann.network.handle = lambda request: gone if request.method == "PUT" else real_handle(request)
    ann.run(HOUR)
    assert ann.running
    assert simulation.service.peak == 1


def test_a_seat_given_to_another_during_an_outage_is_lost_and_comes_back_when_it_is_free(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer("ann").start().run(600)
    ann.network.condition = "down"
    ann.run(HOUR)
    others = [simulation.computer(user).start().run(5) for user in ("bob", "eve")]
    assert [other.status for other in others] == [Status.GRANTED] * 2
    ann.network.condition = "fine"
    ann.run(330)
    assert ann.has_status(Status.LOST)
    assert code_of(ann) is Code.NO_SEAT
    others[0].stop()
    ann.run(120)
    assert ann.has_status(Status.GRANTED)
    assert simulation.service.peak == 2


def test_a_program_that_wants_to_wait_gets_the_next_free_seat(simulation: ReferenceSimulation) -> None:
    first, second = simulation.computer("bob").start().run(5), simulation.computer("eve").start().run(5)
    ann = simulation.computer("ann").start(wait=True).run(60)
    assert ann.notices == ["refused"]
    first.stop()
    ann.run(30)
    assert ann.notices == ["refused", "granted"]
    assert second.has_status(Status.GRANTED)


def test_a_program_that_was_refused_and_does_not_wait_asks_no_more(simulation: ReferenceSimulation) -> None:
    for user in ("bob", "eve"):
        simulation.computer(user).start().run(5)
    ann = simulation.computer("ann").start().run(HOUR)
    assert len(ann.network.calls) == 1


def test_trying_again_too_soon_asks_nobody(simulation: ReferenceSimulation) -> None:
    for user in ("bob", "eve"):
        simulation.computer(user).start().run(5)
    ann = simulation.computer("ann").start().run(1)
    assert ann.engine
    calls = len(ann.network.calls)
    ann.engine.retry()
    ann.run(1)
    assert len(ann.network.calls) == calls
    ann.run(20)
    ann.engine.retry()
    ann.run(1)
    assert len(ann.network.calls) == calls + 1


def test_a_fake_server_gains_nothing(simulation: ReferenceSimulation) -> None:
    def impostor(request: Request) -> Reply:
        real = simulation.service.handle(request)
        forged = sign("lease+jwt", lease_claims(exp=NOW + 10**8), STRANGER_KEY)
        return Reply(real.status, real.headers, real.body.replace(b'"lease": "', f'"lease": "{forged}'.encode()))

    ann = simulation.computer()
    ann.network.impostor, ann.network.condition = impostor, "stolen"
    ann.start().run(3)
    assert ann.has_status(Status.REFUSED)
    assert code_of(ann) is Code.NO_ANSWER


def test_a_recorded_answer_is_no_answer_to_another_program(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(5)
    bob = simulation.computer("bob")
    bob.network.replies, bob.network.condition = ann.network.replies, "replay"
    bob.start().run(3)
    assert bob.has_status(Status.REFUSED)


def test_a_computer_that_slept_says_at_once_that_it_still_runs(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(20)
    before = len(ann.network.calls)
    ann.sleep(120).run(1)
    assert [method for _, method in ann.network.calls[before:]] == ["PUT"]


def test_a_computer_that_slept_through_its_lease_goes_on_without_a_word(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    ann.sleep(10 * HOUR).run(5)
    assert ann.notices == ["granted"]
    assert simulation.seats_of(ann) == 1


def test_a_clock_set_ahead_by_years_stops_nobody_who_has_a_network(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    ann.clock.skew = 10 * 365 * DAY
    ann.run(600)
    assert ann.notices == ["granted"]


def test_a_clock_that_was_ahead_by_years_while_there_was_no_network_is_forgiven_with_the_network(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(600)
    ann.network.condition = "down"
    ann.clock.skew = 10 * 365 * DAY
    ann.run(600)
    assert ann.has_status(Status.LOST)
    ann.clock.skew = 0
    ann.stop()
    ann.network.condition = "fine"
    ann.start().run(5)
    assert ann.has_status(Status.GRANTED)


def test_an_expired_license_ends_a_running_program(tmp_path: Path) -> None:
    simulation = ReferenceSimulation(tmp_path, exp=NOW + 3600)
    ann = simulation.computer().start().run(2 * HOUR)
    assert ann.has_status(Status.LOST)
    assert code_of(ann) is Code.LICENSE_EXPIRED


def test_grace_never_goes_beyond_the_license(tmp_path: Path) -> None:
    simulation = ReferenceSimulation(tmp_path, exp=NOW + 3600)
    ann = simulation.computer().start().run(600)
    ann.network.condition = "down"
    ann.run(HOUR / 2)
    assert ann.engine
    assert runs_until(ann.engine.state) == NOW + 3600
    ann.run(2 * HOUR)
    assert code_of(ann) is Code.LICENSE_EXPIRED


def test_a_borrowed_seat_travels_without_a_network_and_is_returned_early(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start(borrow_seconds=int(5 * DAY)).run(5)
    ann.stop()
    assert simulation.seats_of(ann) == 1
    ann.network.condition = "down"
    simulation.clock.true += 3 * DAY
    ann.start()
    assert ann.has_status(Status.GRANTED)
    ann.run(DAY)
    assert ann.notices == ["granted", "granted", "granted"]  # at the start, when confirmed, and on the trip
    assert ann.engine
    ann.network.condition = "fine"
    ann.run(600)
    ann.engine.borrow(0)
    ann.run(10).stop()
    assert simulation.seats_of(ann) == 0


def test_a_borrowed_seat_has_no_grace_after_its_end(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start(borrow_seconds=int(5 * DAY)).run(5).stop()
    ann.network.condition = "down"
    simulation.clock.true += 5 * DAY
    ann.start().run(3)
    assert code_of(ann) is Code.GRACE_OVER


def test_a_seat_in_use_can_be_traded_for_a_borrowed_one(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    assert ann.engine
    ann.engine.borrow(int(5 * DAY))
    ann.run(5)
    lease = ann.engine.state.lease
    assert lease
    assert lease.borrowed
    assert ann.notices == ["granted", "granted"]
    assert simulation.service.peak == 1


def lease_of(computer: Computer) -> Lease:
    assert computer.engine
    assert computer.engine.state.lease
    return computer.engine.state.lease


def test_a_request_to_borrow_outlives_a_start_whose_reply_was_lost(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    simulation.service.active.clear()
    real_handle = ann.network.handle

    def forgetful(request: Request) -> Reply:
        reply = real_handle(request)
        if request.method == "POST":
            raise ExchangeError(Step.SERVICE, "The reply did not come.")
        return reply

    ann.network.handle = forgetful
    ann.run(HOUR)
    assert ann.has_status(Status.GRACE)
    assert ann.engine
    ann.engine.borrow(int(5 * DAY))
    ann.network.handle = real_handle
    ann.run(30)
    assert lease_of(ann).borrowed
    assert simulation.seats_of(ann) == 1
    assert simulation.service.peak == 1
    assert ann.notices == ["granted", "grace", "granted", "granted"]


def test_who_returns_while_the_answer_to_a_borrowing_is_lost_does_not_end_up_borrowed(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(600)
    assert ann.engine
    ann.network.condition = "reply-lost"
    ann.engine.borrow(int(5 * DAY))
    ann.run(5)
    ann.engine.borrow(0)
    ann.network.condition = "fine"
    ann.run(60)
    assert ann.engine.state.borrow_seconds is None
    assert ann.engine.state.lease
    assert not ann.engine.state.lease.borrowed
    ann.stop()
    assert simulation.seats_of(ann) == 0


def test_a_request_to_borrow_outlives_a_heartbeat_that_was_under_way(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(10)
    real_handle = ann.network.handle

    def meanwhile(request: Request) -> Reply:
        if request.method == "PUT" and not lease_of(ann).borrowed:
            assert ann.engine
            ann.engine.borrow(int(5 * DAY))
        return real_handle(request)

    ann.network.handle = meanwhile
    ann.run(330)
    assert lease_of(ann).borrowed
    assert simulation.service.peak == 1
    assert ann.notices == ["granted", "granted"]


def test_a_request_to_borrow_that_is_cut_to_nothing_is_reported(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(10)
    assert ann.engine
    ann.engine.borrow(600)
    ann.run(10)
    assert not lease_of(ann).borrowed
    assert ann.notices == ["granted", "granted"]
    assert ann.states[-1].reason is not None
    assert ann.states[-1].reason.code is Code.BORROWING_NOT_ALLOWED
    calls = len(ann.network.calls)
    ann.run(60)
    assert len(ann.network.calls) == calls


def stripped(handle: Handle, methods: str = "PUT DELETE") -> Handle:
    """A proxy that removes `Authorization`."""

    def proxy(request: Request) -> Reply:
        bare = Request(request.method, request.url, {}, request.body)
        return handle(bare if request.method in methods else request)

    return proxy


@pytest.mark.parametrize("methods", ["DELETE", "PUT DELETE"])
def test_a_proxy_that_takes_the_lease_away_gives_nobody_a_second_seat(
    simulation: ReferenceSimulation, methods: str
) -> None:
    ann = simulation.computer().start().run(600)
    ann.network.handle = stripped(simulation.service.handle, methods)
    for _ in range(4):
        ann.stop()
        ann.start().run(HOUR)
        assert ann.has_status(Status.GRANTED)
        assert simulation.seats_of(ann) == 1
    assert simulation.service.peak == 1
    assert len(ann.network.calls) < 5 * 200
    ann.network.handle = simulation.service.handle
    ann.run(600).stop()
    assert not simulation.service.active


def test_a_request_to_borrow_through_such_a_proxy_is_given_up_and_reported(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start().run(600)
    ann.network.handle = stripped(simulation.service.handle)
    assert ann.engine
    ann.engine.borrow(int(5 * DAY))
    ann.run(60)
    assert not lease_of(ann).borrowed
    assert ann.notices == ["granted", "granted"]
    assert simulation.service.peak == 1
    assert len(ann.network.calls) < 10


@pytest.mark.parametrize("code", [(401, "license-invalid"), (400, "malformed-request")])
def test_a_start_that_was_lost_and_then_damaged_takes_no_second_seat(
    simulation: ReferenceSimulation, code: tuple[int, str]
) -> None:
    ann = simulation.computer().start()
    ann.network.condition = "reply-lost"
    ann.run(0.1)
    assert simulation.seats_of(ann) == 1
    ann.network.condition = "fine"
    real_handle = ann.network.handle
    ann.network.handle = lambda _request: ReferenceService.problem(*code)
    ann.run(1.2)
    assert len(ann.network.calls) == 2
    ann.network.handle = real_handle
    ann.stop()
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.GRANTED)
    assert simulation.service.peak == 1


def test_an_id_that_is_somebody_elses_is_replaced_when_that_was_said_twice(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer().start()
    ann.network.condition = "reply-lost"
    ann.run(0.1).crash()
    ann.network.condition = "fine"
    [file] = ann.disk.glob("*.json")
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {"host": "A" * 43}))  # the kept hash is damaged
    ann.network.calls.clear()
    ann.start(seed=2).run(3)
    assert ann.has_status(Status.GRANTED)
    assert [method for _, method in ann.network.calls] == ["POST"] * 3


def test_no_grace_follows_a_refusal_when_the_cable_is_pulled_and_the_user_tries_again(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(600).stop()
    simulation.service.suspended = True
    ann.start().run(1)
    assert code_of(ann) is Code.LICENSE_SUSPENDED
    ann.network.condition = "down"
    assert ann.engine
    for _ in range(3):
        ann.engine.retry()
        ann.run(10)
        assert ann.has_status(Status.REFUSED)
        assert code_of(ann) is Code.LICENSE_SUSPENDED
    simulation.service.suspended = False
    ann.network.condition = "fine"
    ann.engine.retry()
    ann.run(10)
    assert ann.has_status(Status.GRANTED)
    ann.network.condition = "down"
    ann.run(HOUR)
    assert ann.has_status(Status.GRACE)


def test_a_license_that_collects_nothing_makes_no_call_and_leaves_no_file(simulation: ReferenceSimulation) -> None:
    person = simulation.computer().names.person(simulation.license.salt, set())
    free = license_of(kind="named-user", users=[person.user], collect=False)
    ann = simulation.computer(license=free).start().run(DAY).stop()
    assert ann.notices == ["granted"]
    assert not ann.network.calls
    assert not list(ann.disk.glob("*.json"))


def test_a_session_that_is_not_recorded_needs_no_heartbeat(simulation: ReferenceSimulation) -> None:
    named = license_of(
        kind="named-user", users=[simulation.computer().names.person(simulation.license.salt, set()).user]
    )
    ann = simulation.computer(license=named)
    real_handle = ann.network.handle

    def unrecorded(request: Request) -> Reply:
        reply = real_handle(request)
        return Reply(reply.status, reply.headers, reply.body.replace(b'"recorded": true', b'"recorded": false'))

    ann.network.handle = unrecorded
    ann.start().run(DAY).stop()
    assert [method for _, method in ann.network.calls] == ["POST"]


def test_a_floating_seat_is_kept_alive_whatever_a_reply_says_of_recording(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer()
    real_handle = ann.network.handle

    def unrecorded(request: Request) -> Reply:
        reply = real_handle(request)
        return Reply(reply.status, reply.headers, reply.body.replace(b'"recorded": true', b'"recorded": false'))

    ann.network.handle = unrecorded
    ann.start().run(HOUR)
    assert sum(method == "PUT" for _, method in ann.network.calls) >= 12


def test_what_is_left_of_a_program_that_could_not_say_goodbye_is_tidied_up_by_the_next(
    simulation: ReferenceSimulation,
) -> None:
    ann = simulation.computer().start().run(600)
    ann.network.condition = "down"
    ann.stop()
    assert simulation.seats_of(ann) == 1
    saved = ann.files.all()[0].read()
    assert saved.lease
    assert saved.open_session_id == saved.lease.session_id
    ann.network.condition = "fine"
    ann.start().run(5)
    assert simulation.service.peak == 1
    ann.stop()
    assert not simulation.service.active
