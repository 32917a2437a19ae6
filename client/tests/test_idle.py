"""A program that nobody works with gives its seat back, only while somebody waits, and takes one again."""

import datetime
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Workspace, eventually
from factories import NOW, program
from licensing_client import Seat, Standing, Status, machine
from licensing_client.answers import Answer, Ended, Granted, NoAnswer, Refused, Seats, Unaccepted
from licensing_client.errors import ExchangeError, Step
from licensing_client.lease import Lease
from licensing_client.machine import Earlier, End, Heartbeat, Randomness, Registered, Start, State, Terms
from licensing_client.reasons import Code, reason
from licensing_client.transport import Cancellation, Reply, Request
from reference_service import Place
from simulation import PORTAL, Computer, Handle, ReferenceSimulation, without_locks
from test_engine import code_of

HOUR = 3600.0
TERMS = Terms(NOW + 10**7, floating=True)
LEASE = Lease("token", "ann", NOW, NOW + 900, "nonce", (), 7200, borrowed=False, overdraft=False)
HELD = State(TERMS, Status.GRANTED, "ann", Registered.SEAT, LEASE, NOW, NOW, NOW + 300, waiting=1)
SILENT = NoAnswer(Step.SERVICE, "")
CHANCE = Randomness(0.0, "new")


def given_back(state: State = HELD, at: float = NOW + 1) -> State:
    return machine.time_passed(machine.idle(state), at)


# The machine: every state, and every condition.

FORBIDS: dict[str, dict[str, object]] = {
    "nobody waits": {"waiting": 0},
    "it is starting": {"status": Status.STARTING},
    "it was refused": {"status": Status.REFUSED},
    "it lost its seat": {"status": Status.LOST},
    "it has ended": {"status": Status.ENDED},
    "the lease has expired": {"lease": replace(LEASE, expires_at=NOW + 1)},
    "the last call had no answer": {"failures": 1},
    "a refusal was heard once": {"unconfirmed": Code.SEAT_RECALLED.value},
    "the seat is borrowed": {"lease": replace(LEASE, borrowed=True)},
    "the seat is not confirmed": {"lease": replace(LEASE, offered=NOW + 900)},
    "a trade is asked for": {"borrow_seconds": 86400},
    "the seat is being returned": {"borrow_seconds": 0},
    "a start is unanswered": {"registered": Registered.ASKED},
    "the session is being replaced": {"replaces": True},
    "the session is not recorded": {"unrecorded": True, "call_at": None},
    "the license has no seats": {"terms": replace(TERMS, floating=False)},
    "the computer slept": {"seen_at": NOW - 1000},
}


def test_an_idle_program_gives_its_seat_back_when_somebody_waits() -> None:
    after = given_back()
    assert after.status is Status.GIVEN_BACK
    assert after.reason == reason(Code.GIVEN_BACK)
    assert machine.due_call(after, NOW + 1) == End(LEASE)
    assert machine.runs_until(after) is None
    assert machine.wake_at(machine.idle(HELD)) <= NOW, "it is looked at at once"


@pytest.mark.parametrize("why", FORBIDS)
def test_a_seat_is_not_given_back_while(why: str) -> None:
    state = replace(HELD, **FORBIDS[why])  # type: ignore[arg-type]
    after = given_back(state)
    assert after.status is not Status.GIVEN_BACK
    assert after.idle, "it is noted"
    assert machine.due_call(after, NOW + 1) != End(LEASE)
    assert machine.wake_at(machine.idle(state)) > NOW or why in ("the computer slept", "the lease has expired")


@pytest.mark.parametrize("status", [status for status in Status if status is not Status.GIVEN_BACK])
def test_a_program_that_has_given_nothing_back_only_takes_idle_back(status: Status) -> None:
    state = replace(HELD, status=status, idle=True)
    assert machine.active(state, NOW + 1, CHANCE) == replace(state, idle=False)


@pytest.mark.parametrize("answer", [SILENT, NoAnswer(Step.CONNECT, ""), Unaccepted()])
def test_an_end_without_an_answer_is_repeated_until_it_has_one(answer: Answer) -> None:
    state = given_back()
    for pause in (0.5, 1, 2, 4):
        call = machine.due_call(state, state.call_at or 0)
        assert call == End(LEASE)
        now = state.call_at or 0
        state = machine.answered(machine.call_sent(state, call), answer, now, CHANCE)
        assert (state.call_at or 0) - now == pytest.approx(pause)
        assert machine.open_session_id(state) == "ann", "a later run replaces it"
    state = machine.answered(machine.call_sent(state, End(LEASE)), Ended(), state.call_at or 0, CHANCE)
    assert (state.status, state.call_at, machine.open_session_id(state)) == (Status.GIVEN_BACK, None, None)
    assert machine.lease_to_end(state) is None


def test_who_is_active_again_before_the_end_is_answered_replaces_the_session() -> None:
    state = machine.active(given_back(at=NOW + 50), NOW + 60, CHANCE)
    assert state.status is Status.STARTING
    start = Start("new", 0, LEASE, NOW + 50, wait=True)
    assert machine.due_call(state, NOW + 60) == start
    assert machine.is_given_up(machine.call_sent(state, start))


@pytest.mark.parametrize("answer", [SILENT, Unaccepted(), Ended()])
def test_an_end_that_is_answered_after_that_leaves_the_start_as_it_is(answer: Answer) -> None:
    state = machine.call_sent(given_back(), End(LEASE))
    state = machine.active(state, NOW + 2, CHANCE)
    state = machine.answered(state, answer, NOW + 3, CHANCE)
    assert (state.status, state.call_at, state.failures) == (Status.STARTING, NOW + 2, 0)
    call = machine.due_call(state, NOW + 3)
    assert isinstance(call, Start)
    assert call.session_id == "new"
    assert (call.replaces is None) == isinstance(answer, Ended)


def ended(terms: Terms = TERMS) -> State:
    """The end was answered, and the user is back."""
    state = machine.call_sent(given_back(replace(HELD, terms=terms)), End(LEASE))
    return machine.active(machine.answered(state, Ended(), NOW + 2, CHANCE), NOW + 50, CHANCE)


@pytest.mark.parametrize("terms", [TERMS, replace(TERMS, hold_lease_seconds=900)])
def test_who_is_active_again_waits_in_line_and_is_not_in_grace(terms: Terms) -> None:
    state = ended(terms)
    call = machine.due_call(state, NOW + 50)
    assert call == Start("new", 0, wait=True)
    full = Refused(reason(Code.NO_SEAT), 10, position=2)
    waiting = machine.answered(machine.call_sent(state, call), full, NOW + 51, CHANCE)
    assert (waiting.status, waiting.position, waiting.call_at) == (Status.REFUSED, 2, NOW + 61)
    silent = state
    for second in (50, 51):
        silent = machine.answered(machine.call_sent(silent, call), SILENT, NOW + second, CHANCE)
    assert (silent.status, silent.reason) == (Status.REFUSED, reason(Code.NO_ANSWER))
    assert machine.is_asking(silent)
    late = machine.time_passed(state, NOW + 53)
    assert (late.status, machine.is_asking(late)) == (Status.REFUSED, True)


def test_who_finds_no_place_after_giving_back_learns_how_many_wait() -> None:
    state = machine.active(given_back(replace(HELD, waiting=50)), NOW + 2, CHANCE)
    call = machine.due_call(state, NOW + 2)
    assert call
    full = Refused(reason(Code.NO_SEAT), 10, seats=Seats(1, 1, 50))
    after = machine.answered(machine.call_sent(state, call), full, NOW + 3, CHANCE)
    assert machine.line_changed(state, after)
    again = machine.answered(machine.call_sent(after, call), full, NOW + 20, CHANCE)
    assert not machine.line_changed(after, again)


def test_a_seat_granted_again_is_one_as_before() -> None:
    state = machine.call_sent(ended(), Start("new", 0, wait=True))
    lease = replace(LEASE, session_id="new", issued_at=NOW + 100, expires_at=NOW + 1000)
    state = machine.answered(state, Granted(lease, 300, True, Seats(1, 1, 0)), NOW + 100, CHANCE)
    assert (state.status, state.given_back, state.idle) == (Status.GRANTED, False, False)
    assert machine.due_call(state, NOW + 900) == Heartbeat(lease)
    late = machine.time_passed(replace(state, seen_at=NOW + 990), NOW + 1001)
    assert late.status is Status.GRACE, "as any program"


def test_idle_while_starting_or_refused_or_lost_counts_with_the_next_grant() -> None:
    for status in (Status.STARTING, Status.REFUSED, Status.LOST):
        state = machine.idle(replace(HELD, status=status, registered=Registered.ASKED, session_id="new"))
        lease = replace(LEASE, session_id="new")
        state = machine.answered(state, Granted(lease, 300, True, Seats(1, 1, 2)), NOW + 1, CHANCE)
        assert state.status is Status.GRANTED
        assert machine.time_passed(state, NOW + 1).status is Status.GIVEN_BACK


def test_an_answer_that_is_not_recorded_makes_nobody_wait() -> None:
    state = machine.answered(machine.idle(HELD), Granted(LEASE, 300, False, Seats(1, 1, 2)), NOW + 1, CHANCE)
    assert machine.time_passed(state, NOW + 1).status is Status.GRANTED


def test_under_a_hold_no_later_run_uses_a_seat_that_is_being_given_back() -> None:
    state = given_back(replace(HELD, terms=replace(TERMS, hold_lease_seconds=900)))
    assert machine.is_given_up(state)
    earlier = Earlier(LEASE, machine.open_session_id(state), replaces=machine.is_given_up(state))
    later = machine.begin(state.terms, "later", earlier, 0, NOW + 10)
    assert machine.time_passed(later, NOW + 20).status is Status.REFUSED
    state = machine.answered(machine.call_sent(state, End(LEASE)), Ended(), NOW + 2, CHANCE)
    assert state.lease is None


def test_the_service_learns_when_it_was_given_back_and_only_if_it_cannot_know() -> None:
    state = given_back(at=NOW + 50)
    assert machine.report_of(state, NOW + 200) is None, "the end tells it"
    assert machine.report_of(state, NOW + 5000) == machine.Report(LEASE, NOW + 50)
    state = machine.active(state, NOW + 300, CHANCE)
    assert machine.report_of(state, NOW + 400) is None
    call = machine.due_call(state, NOW + 5000)
    assert isinstance(call, Start)
    assert machine.report_of_start(state, call, NOW + 400) is None, "the start tells it"
    assert machine.report_of_start(state, call, NOW + 5000) == machine.Report(LEASE, NOW + 50)


def test_a_program_gives_its_seat_back_once_a_minute_at_most() -> None:
    state, starts = HELD, 0
    for second in range(600):
        now = NOW + second
        state = machine.time_passed(machine.idle(state), now)
        state = machine.active(state, now, CHANCE)
        call = machine.due_call(state, now)
        if isinstance(call, Start):
            starts += 1
            lease = replace(LEASE, session_id=f"{second}", issued_at=int(now), expires_at=int(now) + 900)
            state = machine.answered(
                machine.call_sent(state, call), Granted(lease, 300, True, Seats(1, 1, 2)), now, CHANCE
            )
    assert starts == 10


@pytest.mark.parametrize("clock", [0.0, -1e6])
def test_it_gives_its_seat_back_as_soon_as_the_minute_is_over(clock: float) -> None:
    now = NOW + 20 + clock
    state = replace(machine.idle(HELD), gave_back_at=float(NOW), seen_at=now)
    wake_at = machine.wake_at(state)
    assert wake_at <= NOW + 60
    while state.status is not Status.GIVEN_BACK:
        now = machine.wake_at(state)
        state = machine.time_passed(state, now)
    assert now == (NOW + 60 if clock == 0 else NOW + 20 + clock)


BUSY = NoAnswer(Step.SERVICE, "", retry_after=40)


def test_the_start_after_an_end_keeps_the_retry_after_of_the_end() -> None:
    state = machine.call_sent(given_back(), End(LEASE))
    before = machine.active(machine.answered(state, BUSY, NOW + 2, CHANCE), NOW + 10, CHANCE)
    meanwhile = machine.answered(machine.active(state, NOW + 1.5, CHANCE), BUSY, NOW + 2, CHANCE)
    assert (before.call_at, meanwhile.call_at) == (NOW + 42, NOW + 42)
    late = machine.time_passed(before, NOW + 13)
    assert (late.status, machine.is_asking(late), late.call_at) == (Status.REFUSED, True, NOW + 42)


def test_the_start_after_an_end_does_not_keep_its_backoff() -> None:
    state = given_back()
    for _ in range(8):
        now = state.call_at or 0
        state = machine.answered(machine.call_sent(state, End(LEASE)), SILENT, now, CHANCE)
    assert (state.call_at or 0) - now > 60
    assert machine.active(state, now + 1, CHANCE).call_at == now + 1


# With a service.


@pytest.fixture
def simulation(tmp_path: Path) -> ReferenceSimulation:
    return ReferenceSimulation(tmp_path, seats=1)


def idle(computer: Computer) -> Computer:
    assert computer.engine
    computer.engine.idle()
    return computer


def active(computer: Computer) -> Computer:
    assert computer.engine
    computer.engine.active()
    return computer


def test_nobody_loses_a_seat_that_nobody_waits_for(simulation: ReferenceSimulation) -> None:
    ann = idle(simulation.computer("ann").start().run(1)).run(8 * HOUR)
    assert ann.notices == ["granted"]
    assert simulation.seats_of(ann) == 1


def test_a_seat_goes_from_who_is_idle_to_who_waits_and_back(simulation: ReferenceSimulation) -> None:
    ann = idle(simulation.computer("ann").start().run(1))
    bob = simulation.computer("bob").start(wait=True).run(1)
    ann.run(300)
    assert ann.has_status(Status.GIVEN_BACK)
    assert simulation.seats_of(ann) == 0
    bob.run(20)
    assert bob.has_status(Status.GRANTED)
    active(ann).run(1)
    assert (ann.places, ann.running) == ([(1, 1)], False)
    bob.stop()
    ann.run(6)
    assert ann.has_status(Status.GRANTED)
    assert ann.notices == ["granted", "given-back", "refused", "granted"]
    assert simulation.service.peak == 1
    assert not simulation.service.ran_until


def test_the_program_is_told_before_the_service(simulation: ReferenceSimulation) -> None:
    ann = idle(simulation.computer("ann").start().run(1))
    simulation.computer("bob").start(wait=True).run(1)
    told_at: list[int] = []
    deletes: list[int] = []

    def watching(request: Request) -> Reply:
        if request.method == "DELETE":
            deletes.append(len(ann.notices))
        return simulation.service.handle(request)

    ann.network.handle = watching
    ann.run(300)
    told_at.append(ann.notices.index("given-back") + 1)
    assert deletes == told_at


def test_a_program_that_goes_on_when_it_is_told_does_not_lose_its_seat(simulation: ReferenceSimulation) -> None:
    ann = idle(simulation.computer("ann").start().run(1))
    bob = simulation.computer("bob").start(wait=True).run(1)
    assert ann.engine
    ann.on_notice = lambda state: state.status is Status.GIVEN_BACK and active(ann)
    ann.run(300)
    assert ann.has_status(Status.GRANTED)
    assert bob.has_status(Status.REFUSED)
    assert "DELETE" not in [method for _, method in ann.network.calls]


def without_an_end(simulation: ReferenceSimulation, how: str) -> Handle:
    """The service, but the ends of sessions have no answer."""

    def handle(request: Request) -> Reply:
        if request.method != "DELETE":
            return simulation.service.handle(request)
        if how == "unsent":
            raise ExchangeError(Step.CONNECT, "The cable is out.")
        if how == "lost":
            simulation.service.handle(request)
            raise ExchangeError(Step.SERVICE, "The reply did not come.")
        return PORTAL

    return handle


def given_back_without_an_answer(simulation: ReferenceSimulation, how: str) -> Computer:
    """Ann has given her seat back, Bob waits, and the end of her session has no answer."""
    ann = idle(simulation.computer("ann").start().run(1))
    simulation.computer("bob").start(wait=True).run(1)
    ann.network.handle = without_an_end(simulation, how)
    ann.run(300)
    assert ann.has_status(Status.GIVEN_BACK)
    return ann


@pytest.mark.parametrize("how", ["unsent", "lost", "portal"])
def test_an_end_without_an_answer_is_sent_again(simulation: ReferenceSimulation, how: str) -> None:
    ann = given_back_without_an_answer(simulation, how)
    ann.network.handle = simulation.service.handle
    ann.run(400)
    assert not simulation.service.active
    assert ann.file.read().open_session_id is None
    calls = len(ann.network.calls)
    ann.run(8 * HOUR)
    assert len(ann.network.calls) == calls, "a program without a seat makes no call"
    ann.stop()
    assert len(ann.network.calls) == calls


@pytest.mark.parametrize("how", ["unsent", "lost", "portal"])
@pytest.mark.parametrize("crashes", [False, True])
def test_who_comes_back_while_the_end_is_unanswered_has_one_seat(
    simulation: ReferenceSimulation, how: str, *, crashes: bool
) -> None:
    ann = given_back_without_an_answer(simulation, how)
    if crashes:
        ann.crash().start(wait=True, seed=2).run(1)
    else:
        active(ann).run(1)
    assert ann.has_status(Status.GRANTED), "it replaces its session, and Bob has left the line"
    assert simulation.service.peak == 1
    assert simulation.seats_of(ann) == 1
    assert ann.file.read().open_session_id in simulation.service.active


@pytest.mark.parametrize("hold", [0, 3660])
def test_without_network_a_seat_that_was_given_back_gives_no_grace(tmp_path: Path, hold: int) -> None:
    simulation = ReferenceSimulation(tmp_path, seats=1, hold=hold, grace=3600)
    ann = given_back_without_an_answer(simulation, "lost")
    ann.network.condition = "down"
    active(ann).run(30)
    assert (ann.status, code_of(ann)) == (Status.REFUSED, Code.NO_ANSWER)
    ann.network.condition = "fine"
    ann.run(60)
    assert ann.has_status(Status.GRANTED)


def test_under_a_hold_a_crash_after_giving_back_gives_no_grace_either(tmp_path: Path) -> None:
    simulation = ReferenceSimulation(tmp_path, seats=1, hold=3660, grace=3600)
    ann = given_back_without_an_answer(simulation, "lost").crash()
    ann.network.condition = "down"
    ann.start(seed=2).run(4)
    assert ann.has_status(Status.REFUSED)


def test_under_a_hold_a_power_cut_while_the_end_is_under_way_gives_no_grace_either(tmp_path: Path) -> None:
    simulation = ReferenceSimulation(tmp_path, seats=1, hold=3660, grace=3600)

    class PowerCutError(Exception):
        pass

    def dying(request: Request) -> Reply:
        reply = simulation.service.handle(request)
        if request.method == "DELETE":
            raise PowerCutError
        return reply

    ann = idle(simulation.computer("ann").start().run(1))
    simulation.computer("bob").start(wait=True).run(1)
    ann.network.handle = dying
    with pytest.raises(PowerCutError):
        ann.run(300)
    ann.crash()
    ann.network.condition = "down"
    ann.start(seed=2).run(4)
    assert ann.has_status(Status.REFUSED)


@pytest.mark.parametrize("how", ["active", "start"])
def test_who_comes_back_does_not_wait_for_the_end_to_be_answered(
    simulation: ReferenceSimulation, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    ann = idle(simulation.computer("ann").start().run(1))
    simulation.computer("bob").start(wait=True).run(1)
    real = ann.network.exchange

    def hanging(request: Request, seconds: float, cancellation: Cancellation) -> Reply:
        if request.method != "DELETE":
            return real(request, seconds, cancellation)
        assert ann.engine
        ann.engine.active() if how == "active" else ann.engine.retry()
        with pytest.raises(OSError, match="cancelled"):
            cancellation.check()
        raise ExchangeError(Step.SERVICE, "The exchange was cancelled.")

    monkeypatch.setattr(ann.network, "exchange", hanging)
    ann.run(300)
    assert ann.has_status(Status.GRANTED)
    assert simulation.service.peak == 1


def test_an_end_that_arrives_after_the_lease_says_when_the_seat_was_given_back(
    simulation: ReferenceSimulation,
) -> None:
    ann = given_back_without_an_answer(simulation, "unsent")
    assert ann.engine
    at = ann.engine.state.ran_until or 0
    ann.run(HOUR)
    ann.network.handle = simulation.service.handle
    ann.run(400)
    [ran_until] = simulation.service.ran_until.values()
    assert datetime.datetime.fromisoformat(ran_until.replace("Z", "+00:00")).timestamp() == int(at)


def test_where_a_disk_has_no_locks_idle_is_noted_before_the_start_too(
    simulation: ReferenceSimulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_locks(monkeypatch)
    ann = simulation.computer("ann").start().run(1).crash()
    simulation.clock.true += 400
    idle(ann.start(seed=2)).run(1)
    assert ann.engine
    assert (ann.status, ann.engine.state.idle) == (Status.GRANTED, True)


def test_a_borrowed_seat_is_kept_while_somebody_waits(simulation: ReferenceSimulation) -> None:
    ann = idle(simulation.computer("ann").start(borrow_seconds=86400).run(1))
    simulation.computer("bob").start(wait=True).run(1)
    ann.run(400)
    assert ann.has_status(Status.GRANTED)
    assert simulation.seats_of(ann) == 1


def test_that_nobody_works_is_neither_sent_nor_stored(simulation: ReferenceSimulation) -> None:
    ann = simulation.computer("ann").start().run(1)
    active(idle(ann)).run(300)
    before = [request.body for _, request, _ in simulation.service.requests]
    content = json.loads(next(ann.disk.glob("*.json")).read_text())
    idle(ann).run(300)
    bodies = [json.loads(request.body) for _, request, _ in simulation.service.requests[len(before) :]]
    assert bodies
    assert {tuple(body) for body in bodies} == {("nonce",)}
    after = json.loads(next(ann.disk.glob("*.json")).read_text())
    assert after.keys() == content.keys()
    changes = {name for name in after if after[name] != content[name]}
    assert changes <= {"lease", "seen", "wall", "offset", "ran"}


# As a program embeds it.


def test_a_window_gives_its_seat_to_who_waits_and_comes_back_for_another(workspace: Workspace) -> None:
    workspace.service.place_seconds = 1
    workspace.license(seats=1, heartbeat=1)
    received: list[tuple[str, Standing]] = []

    def listener(name: str) -> Callable[[Standing], None]:
        return lambda standing: received.append((name, standing))

    names = ("granted", "given_back", "restored", "waiting")
    ann = seat_with(workspace, "ann", **{name: listener(name) for name in names})
    ann.idle()
    assert ann.start().running
    bob = seat_with(workspace, "bob", wait=True)
    assert bob.start().position == 1
    assert eventually(lambda: ann.standing.status is Status.GIVEN_BACK)
    assert not ann.standing.running
    assert ann.borrow(60) == reason(Code.GIVEN_BACK)
    assert eventually(lambda: bob.standing.running)
    ann.active()
    assert eventually(lambda: ann.standing.position == 1)
    bob.close()
    assert eventually(lambda: ann.standing.running)
    assert eventually(lambda: [name for name, _ in received] == ["granted", "given_back", "waiting", "restored"])
    assert received[1][1].reason == reason(Code.GIVEN_BACK)
    ann.close()
    assert not workspace.service.active


def seat_with(workspace: Workspace, user: str, **options: object) -> Seat:
    file = workspace.folder / "acme.lic"
    given: dict[str, object] = {"state_directory": workspace.state / user, **options}
    return Seat(program(), file, **given)  # type: ignore[arg-type]


def test_a_start_after_giving_back_takes_a_seat_again(workspace: Workspace) -> None:
    workspace.license(seats=1, heartbeat=1)
    ann = seat_with(workspace, "ann")
    assert ann.start().running
    workspace.service.line["somebody"] = Place(workspace.service.clock(), 1)
    ann.idle()
    assert eventually(lambda: ann.standing.status is Status.GIVEN_BACK)
    workspace.service.line.clear()
    assert ann.start().running
    ann.close()
