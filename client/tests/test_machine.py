"""Whatever happens in whatever order, the machine keeps its promises."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from licensing_client.answers import Answer, Ended, Gone, Granted, NoAnswer, Refused, Unaccepted
from licensing_client.errors import Step
from licensing_client.lease import Lease
from licensing_client.machine import (
    FOREIGN,
    RUNNING,
    Call,
    End,
    Heartbeat,
    Hold,
    Luck,
    Start,
    State,
    Status,
    Terms,
    again,
    answered,
    asking,
    begin,
    borrow,
    due,
    grace_end,
    passed,
    runs_until,
    wake_at,
)
from licensing_client.reasons import Code, reason
from makers import NOW

FINAL = (Code.LICENSE_SUSPENDED, Code.LICENSE_SUPERSEDED)


def lease(session: str, at: float, length: int, grace: int, *, borrowed: bool) -> Lease:
    return Lease("token", session, int(at), int(at) + length, "nonce", (), grace, borrowed, overdraft=False)


@dataclass(frozen=True)
class Turn:
    """What the service does if it is asked, and how much later than asked for the program wakes up; whether its user
    tries again, and wishes to borrow, before the call or while it is under way."""

    kind: str
    late: float
    spread: float
    length: int
    number: int
    again: bool
    wish: int | None
    hasty: bool


turns = st.builds(
    Turn,
    kind=st.sampled_from(["fine", "fine", "silent", "silent", "busy", "full", "gone", "unaccepted", *FINAL]),
    late=st.sampled_from([0.0, 0.0, 0.5, 30.0, 3600.0, 300000.0]),
    spread=st.floats(0, 1, exclude_max=True),
    length=st.integers(2, 900),
    number=st.integers(0, 10**6),
    again=st.booleans(),
    wish=st.sampled_from([None, None, None, None, 0, 86400]),
    hasty=st.booleans(),
)


def reply(turn: Turn, call: Call, now: float, held: dict[str, bool]) -> Answer:
    if turn.kind == "silent":
        return NoAnswer(Step.SERVICE, "")
    if turn.kind == "busy":
        return NoAnswer(Step.SERVICE, "", retry_after=turn.length)
    if turn.kind == "unaccepted" and not isinstance(call, Start):
        return Unaccepted()
    if isinstance(call, End):
        return Ended()
    session = call.session if isinstance(call, Start) else call.lease.session
    if turn.kind == "fine":
        return Granted(lease(session, now, turn.length, 7200, borrowed=held[session]), 300, recorded=True)
    if turn.kind == "gone" or (turn.kind == "full" and isinstance(call, Heartbeat)):
        return Gone()
    if turn.kind in ("full", "unaccepted"):
        return Refused(reason(Code.NO_SEAT), 10)
    return Refused(reason(Code(turn.kind)))


beginnings = st.builds(
    lambda wait, age, known, borrowed: begin(
        Terms(NOW + 30 * 86400, floating=True, wait=wait),
        "fresh",
        lease("old", NOW - age, 900, 7200, borrowed=borrowed) if known != "nothing" else None,
        {"nothing": None, "ended": None, "open": "old", "asked": "other"}[known],
        0,
        float(NOW),
    ),
    wait=st.booleans(),
    age=st.integers(0, 10000),
    known=st.sampled_from(["nothing", "ended", "open", "asked"]),
    borrowed=st.booleans(),
)


@given(beginnings, st.lists(turns, max_size=40))
def test_no_order_of_events_breaks_a_promise(state: State, script: list[Turn]) -> None:
    now, last_call, owed = float(NOW), -1e9, 0.0
    held: dict[str, bool] = {}  # the sessions that may be active, and whether they are borrowed
    if state.hold in (Hold.SEAT, Hold.STALE) and state.lease:
        held[state.lease.session] = state.lease.borrowed
    if state.hold is Hold.ASKED:
        held[state.session] = False
    refused = False
    for turn in script:
        slept = turn.late > 60
        now = max(now, min(wake_at(state), now + 400)) + turn.late
        state = passed(state, now)
        if turn.again:
            state = again(state, now)
        if turn.wish is not None and not turn.hasty:
            state, owed = borrow(state, turn.wish, now, Luck(0, f"wish {turn.number}")), 0.0
        assert not (refused and state.status in RUNNING), "runs after a refusal that was obeyed"
        _may_run_only_on_a_lease(state, now, slept=slept)
        call = due(state, now)
        if call is None:
            continue
        assert slept or now - last_call >= owed - 1e-6, "asked too soon"
        known = isinstance(call, Start) and call.session in held
        if isinstance(call, Start):
            assert set(held) <= {call.session}, "a start while another session may be held"
            held.setdefault(call.session, call.borrow > 0)
        state = asking(state, call)
        if turn.wish is not None and turn.hasty:
            state = borrow(state, turn.wish, now, Luck(0, f"wish {turn.number}"))
        answer = reply(turn, call, now, held)
        before = state
        state = answered(state, answer, now, Luck(turn.spread, f"fresh {turn.number}"))
        last_call, owed = now, _pause_owed(before, answer)
        if isinstance(call, End) and isinstance(answer, Ended):
            held.pop(call.lease.session, None)
        if isinstance(call, Start) and isinstance(answer, Refused | Gone):
            heard_twice = isinstance(answer, Gone) and before.doubted == FOREIGN
            if not known or heard_twice:  # else an earlier start may have taken a seat, and this one was damaged
                held.pop(call.session, None)
        if isinstance(answer, Refused) and state.status in (Status.REFUSED, Status.LOST):
            refused = True
        if isinstance(answer, Granted):
            refused = False
        if isinstance(answer, Granted):
            assert state.status is Status.GRANTED
        if before.status in RUNNING and isinstance(answer, Refused) and before.doubted == answer.reason.code:
            assert state.status is Status.LOST
        if state.status is Status.LOST and isinstance(answer, Refused) and answer.retry_after is None:
            assert due(passed(state, now + 10**6), now + 10**6) is None, "asked after a refusal for good"


def _pause_owed(before: State, answer: Answer) -> float:
    match answer:
        case NoAnswer(retry_after=seconds):
            return max(seconds or 0, 0.5 * min(2.0**before.failures, 300))
        case Gone() if before.hold is Hold.ASKED:
            return 0.5
        case Refused(retry_after=seconds) if before.status in (Status.REFUSED, Status.LOST, Status.STARTING):
            return float(seconds or 0)
        case Refused():
            return 3.0 if before.doubted != answer.reason.code else float(answer.retry_after or 0)
        case Granted() if before.borrow is not None:
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
