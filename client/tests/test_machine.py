"""The machine keeps its rules for every order of events."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from factories import NOW
from licensing_client.answers import Answer, Ended, Gone, Granted, NoAnswer, Refused, Seats, Unaccepted
from licensing_client.errors import Step
from licensing_client.lease import Lease
from licensing_client.machine import (
    RUNNING,
    SESSION_ID_TAKEN,
    Call,
    Earlier,
    End,
    Heartbeat,
    Randomness,
    Registered,
    Start,
    State,
    Status,
    Terms,
    active,
    answered,
    begin,
    borrow,
    call_sent,
    closed,
    due_call,
    grace_end,
    idle,
    lease_to_end,
    open_session_id,
    renewed,
    retry,
    runs_until,
    time_passed,
    wake_at,
)
from licensing_client.reasons import Code, reason

FINAL = (Code.LICENSE_SUSPENDED, Code.LICENSE_SUPERSEDED, Code.SEAT_RECALLED)


def lease(session: str, at: float, length: int, grace: int, *, borrowed: bool, offered: int | None = None) -> Lease:
    end = int(at) + length
    return Lease("token", session, int(at), end, "nonce", (), grace, borrowed, overdraft=False, offered=offered)


@dataclass(frozen=True)
class Event:
    """The service's answer to a call, how late the program wakes, and what its user does.

    The user may retry, ask to borrow, stop working and go on working, before the call or during it.
    """

    kind: str
    late: float
    jitter: float
    length: int
    retries: bool
    borrow_seconds: int | None
    works: bool | None
    waiting: int
    during_call: bool


events = st.builds(
    Event,
    kind=st.sampled_from(["fine", "fine", "silent", "silent", "unsent", "busy", "full", "gone", "unaccepted", *FINAL]),
    late=st.sampled_from([0.0, 0.0, 0.5, 30.0, 3600.0, 300000.0]),
    jitter=st.floats(0, 1, exclude_max=True),
    length=st.integers(2, 900),
    retries=st.booleans(),
    borrow_seconds=st.sampled_from([None, None, None, None, 0, 86400]),
    works=st.sampled_from([None, False, False, True]),
    waiting=st.sampled_from([0, 1, 1, 2]),
    during_call=st.booleans(),
)


def reply(event: Event, call: Call, now: float, active: dict[str, bool]) -> Answer:
    if event.kind == "silent":
        return NoAnswer(Step.SERVICE, "")
    if event.kind == "unsent":
        return NoAnswer(Step.CONNECT, "")
    if event.kind == "busy":
        return NoAnswer(Step.SERVICE, "", retry_after=event.length)
    if event.kind == "unaccepted" and not isinstance(call, Start):
        return Unaccepted()
    if isinstance(call, End):
        return Ended()
    seats = Seats(1, 1, event.waiting)
    session = call.session_id if isinstance(call, Start) else call.lease.session_id
    if isinstance(call, Heartbeat) and (event.kind == "full" or session not in active):
        return Gone()
    if event.kind == "fine" and isinstance(call, Start) and active[session]:
        return Granted(lease(session, now, event.length, 0, borrowed=False, offered=int(now) + 9000), 300, True, seats)
    if event.kind == "fine":
        return Granted(lease(session, now, event.length, 7200, borrowed=active[session]), 300, True, seats)
    if event.kind == "gone":
        return Gone()
    if event.kind in ("full", "unaccepted"):
        return Refused(reason(Code.NO_SEAT), 10, None, event.waiting or None, seats)
    return Refused(reason(Code(event.kind)))


initial_states = st.builds(
    lambda wait, age, known, borrowed: begin(
        Terms(NOW + 30 * 86400, floating=True, wait=wait),
        "fresh",
        Earlier(
            lease("old", NOW - age, 900, 7200, borrowed=borrowed) if known != "nothing" else None,
            {"nothing": None, "ended": None, "open": "old", "asked": "other", "replacing": "other"}[known],
            replaces=known == "replacing",
            ran_until=NOW - age / 2,
        ),
        0,
        float(NOW),
    ),
    wait=st.booleans(),
    age=st.integers(0, 10000),
    known=st.sampled_from(["nothing", "ended", "open", "asked", "replacing"]),
    borrowed=st.booleans(),
)


@given(initial_states, st.lists(events, max_size=40))
def test_no_order_of_events_breaks_a_promise(state: State, script: list[Event]) -> None:
    now, last_call, min_pause = float(NOW), -1e9, 0.0
    open_sessions: dict[str, bool] = {}  # the sessions that may be active, and whether they were to be borrowed
    if state.registered is Registered.SEAT or state.replaces:
        assert state.lease
        open_sessions[state.lease.session_id] = state.lease.borrowed
    if state.registered is Registered.ASKED:
        open_sessions[state.session_id] = False
    refused, given_back_at, place = False, None, None
    for step, event in enumerate(script):
        slept = event.late > 60
        now = max(now, min(wake_at(state), now + 400)) + event.late
        before = state
        state = time_passed(state, now)
        if state.status is Status.GIVEN_BACK and before.status is not Status.GIVEN_BACK:
            given_back_at, min_pause = now, 0.0
            _may_be_given_back(before)
        if event.retries:
            min_pause = 0.0 if state.status is Status.GIVEN_BACK else min_pause
            state = retry(state, now, Randomness(0, f"retry {step}"))
        if not event.during_call:
            min_pause = 0.0 if event.works and state.status is Status.GIVEN_BACK else min_pause
            state = _work(state, event, now, step)
        if event.borrow_seconds is not None and not event.during_call:
            state, min_pause = borrow(state, event.borrow_seconds, now, Randomness(0, f"borrow {step}")), 0.0
        assert not (refused and state.status in RUNNING), "runs after a refusal that was obeyed"
        assert given_back_at is None or state.status not in RUNNING, "runs after its seat was given back"
        _may_run_only_on_a_lease(state, now, slept=slept)
        call = due_call(state, now)
        if call is None:
            continue
        assert slept or now - last_call >= min_pause - 1e-6, "asked too soon"
        known = isinstance(call, Start) and call.session_id in open_sessions
        if isinstance(call, Start):
            replaced = {call.replaces.session_id} if call.replaces else set()
            assert set(open_sessions) <= {call.session_id} | replaced, "a start that leaves another session active"
            assert call.session_id not in replaced
            assert call.replaces is not None or call.ran_until is None
            open_sessions.setdefault(call.session_id, call.borrow_seconds > 0)
            assert place in (None, call.session_id), "another session id than that of its place"
            assert given_back_at is None or (call.ran_until or 0) <= given_back_at, "ran after its seat was given back"
        assert not isinstance(call, End) or given_back_at is not None, "ends a seat that was not given back"
        before_call, state = state, call_sent(state, call)
        if event.borrow_seconds is not None and event.during_call:
            state = borrow(state, event.borrow_seconds, now, Randomness(0, f"borrow {step}"))
        if event.during_call:
            state = _work(state, event, now, step)
        answer = reply(event, call, now, open_sessions)
        before = state
        state = answered(state, answer, now, Randomness(event.jitter, f"fresh {step}"))
        last_call, min_pause = now, _pause_owed(before_call, before, answer)
        place = state.session_id if state.position is not None else None
        _judge_open_sessions(open_sessions, call, known, before, answer, state)
        if isinstance(call, Start) and isinstance(answer, NoAnswer):
            again = due_call(state, now + 10**4)
            if isinstance(again, Start):
                assert (again.session_id, again.replaces) == (call.session_id, call.replaces), "another start"
            assert again is None or isinstance(again, Start), "the old session is used while a start is unanswered"
        if isinstance(answer, Refused) and state.status in (Status.REFUSED, Status.LOST):
            refused = True
        if isinstance(answer, Granted):
            refused, given_back_at = False, None
            assert state.status is Status.GRANTED
        if before.status in RUNNING and isinstance(call, Heartbeat) and isinstance(answer, Refused):
            assert (state.status is Status.LOST) == (before.unconfirmed == answer.reason.code)
        if state.status is Status.LOST and isinstance(answer, Refused) and answer.retry_after is None:
            assert due_call(time_passed(state, now + 10**6), now + 10**6) is None, "asked after a refusal for good"
        _close_ends_or_remembers(state, open_sessions)


def _work(state: State, event: Event, now: float, step: int) -> State:
    """The user stops working, or goes on."""
    if event.works is None:
        return state
    return active(state, now, Randomness(0, f"active {step}")) if event.works else idle(state)


def _may_be_given_back(before: State) -> None:
    """The conditions under which a seat may be given back, in the last state in which it was held."""
    assert before.idle
    assert before.waiting, "nobody waits"
    assert before.status is Status.GRANTED, "the service did not answer"
    assert (before.failures, before.unconfirmed) == (0, None), "the last answer was no grant"
    assert before.lease
    assert not before.lease.borrowed
    assert before.lease.offered is None, "it is not confirmed"
    assert before.borrow_seconds is None, "a trade is under way"
    assert not before.replaces


def _judge_open_sessions(
    active: dict[str, bool], call: Call, known: bool, before: State, answer: Answer, after: State
) -> None:
    """Update which sessions may be active, from what an honest service means by its answer."""
    session = call.session_id if isinstance(call, Start) else call.lease.session_id
    unsent = isinstance(answer, NoAnswer) and answer.step is Step.CONNECT
    if isinstance(call, Start) and unsent and not known:
        active.pop(session, None)
    if isinstance(answer, Granted):  # one session is active; what it replaced is not
        for other in set(active) - {session}:
            active.pop(other)
    if isinstance(call, End) and isinstance(answer, Ended):
        active.pop(session)
    if isinstance(call, Heartbeat) and isinstance(answer, Gone):
        active.pop(session, None)
    if isinstance(call, Start) and isinstance(answer, Refused | Gone):
        confirmed = isinstance(answer, Gone) and before.unconfirmed == SESSION_ID_TAKEN
        given_up = isinstance(answer, Refused) and answer.reason.code is Code.SEAT_RECALLED
        given_up = given_up and after.session_id != session
        if not known or confirmed or given_up:  # otherwise an earlier start may have a seat, and this one was damaged
            active.pop(session, None)
    if isinstance(answer, Refused) and answer.reason.code is Code.SEAT_RECALLED and after.unconfirmed is None:
        assert after.session_id != session, "a recalled session is used again"


def _close_ends_or_remembers(state: State, active: dict[str, bool]) -> None:
    """When the program ends, each session that may be active is ended, borrowed, or kept for the next run."""
    lease = lease_to_end(state)
    after = closed(state, Ended() if lease else None)
    kept = {open_session_id(after)} | {lease.session_id if lease else None}
    if state.lease and state.lease.session_id in active and state.registered is Registered.SEAT:
        assert state.lease.session_id in kept
    if state.registered is Registered.ASKED:
        assert state.session_id in kept


def _pause_owed(before_call: State, before: State, answer: Answer) -> float:
    if before_call.status is Status.GIVEN_BACK and before.status is Status.STARTING:
        return 0.0  # the user went on working while the end was under way
    match answer:
        case NoAnswer(retry_after=seconds):
            return max(seconds or 0, 0.5 * min(2.0**before.failures, 300))
        case Gone() if before.registered is Registered.ASKED:
            return 0.5
        case Refused() if before.status in RUNNING and before_call.replaces and before.borrow_seconds is not None:
            return 3.0
        case Refused(retry_after=seconds) if before.status in (Status.REFUSED, Status.LOST, Status.STARTING):
            return float(seconds or 0)
        case Refused():
            return 3.0 if before.unconfirmed != answer.reason.code else float(answer.retry_after or 0)
        case Granted(lease=granted) if before.borrow_seconds is not None or granted.offered is not None:
            return 0.0
        case Granted(lease=granted):
            return 0.8 * min(300, max(1.0, (granted.expires_at - granted.issued_at) / 2))
    return 0.0


def _may_run_only_on_a_lease(state: State, now: float, *, slept: bool) -> None:
    if state.status not in RUNNING:
        assert runs_until(state) is None
        return
    assert state.lease is not None, "runs without ever having had a lease"
    if slept and state.call_at is not None and state.call_at <= now:
        return  # the service is asked first
    assert now < grace_end(state.lease, state.terms), "runs beyond its grace"
    if state.status is Status.GRANTED:
        assert now < state.lease.expires_at, "granted on a lease that has expired"


def test_under_a_hold_a_newer_license_file_does_not_revive_a_program_whose_grace_is_over() -> None:
    terms = Terms(NOW + 1000, floating=True, hold_lease_seconds=900)
    last = lease("session", NOW, 900, 900, borrowed=False)
    state = State(terms, Status.GRANTED, "session", Registered.SEAT, last, NOW, NOW, NOW + 1000)
    after = renewed(state, NOW + 950)
    assert (after.status, after.call_at) == (Status.LOST, NOW + 950)
    assert renewed(state, NOW + 850).status is Status.GRANTED
