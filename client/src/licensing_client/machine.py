"""Every decision of the client: whether the program may run, and which call to make when.

It uses no clock, thread or network. The rules:

1. A program runs while its lease lasts (`granted`). Without an answer it runs on in `grace`, which counts from the
   issue of its last lease. Grace never outlasts the license.
2. A start without an answer is decided after `start_within_seconds`, or after two failures. With a saved lease the
   program runs in grace; without one it is refused.
3. A refusal counts at once at a start (`refused`). While the program runs it counts when it comes twice (`lost`):
   refusals are not signed, so one may be a replay. No grace follows, even if a later retry gets no answer.
4. A missing answer proves nothing and only sets the time of the next call. The backoff after n failures in a row is
   2^(n-1) seconds, at most `BACKOFF_LIMIT_SECONDS`, times 0.5 to 1 (jitter), and at least Retry-After.
5. Heartbeats follow the server's interval, times 0.8 to 1 (jitter), with at least `HEARTBEATS_PER_LEASE` per lease.
   After the computer slept, one is sent at once.
6. A start after a session that may be active replaces it: both change in one step, so nobody holds two seats and none
   is lost. An unanswered start is retried with the same session id, which is idempotent. Requests may be damaged on
   their way. So neither a refused retry nor an unaccepted lease proves the session inactive: its id is kept. Only a
   second reply that the id is somebody else's replaces it.
7. A session that the service no longer knows is started again without a notice.
8. A program that lost its seat keeps asking if no seat was free, or if only the clock ended it. So does a refused
   program with `wait`. All other refusals are final, until the user tries again.
9. A license that is not recorded and takes no seat needs no heartbeat; it holds until its end.
10. A request to borrow, or to trade back, is kept until a start that carried it is answered. A refused trade ended
    nothing: the program goes on with its old seat. The user learns how it went.
11. A lease with `offered` is confirmed by a heartbeat at once. Before that nothing is borrowed.
12. A recalled session is not used again: the program ends it on close, and a later start replaces it.
13. Under a hold, a session that may have been replaced serves only until its successor can have lapsed. A program
    that slept beyond its grace does not run until it is answered.
14. A replacing start says until when the program ran on the old session. If that may have ended or lapsed, a report
    says it, too (`report_of_start`). On close, `report_of` says it.
15. The license ends no earlier than a lease under it: that may be granted on newer terms than the file's.
16. A program with `wait` asks for a place in line, in each start that it would repeat after a refusal. The place
    belongs to the session id, which stays the same until a start is granted. With a place the next start comes after
    Retry-After times 1 to 1.1 (jitter), otherwise times 1 to 1.5. A trade asks for no place: it is not repeated.
17. A program may say that nobody works (`idle`). In `granted`, if the last answer was a grant and said that somebody
    waits, the seat is then given back (`given-back`). Sleep, a failure or a refusal since that answer forbids it. So
    does a lease that is borrowed or not confirmed, a trade, a replacing start, and a program that takes no seat. In
    all other states `idle` is only noted, for the next grant. It is given back once in `GIVE_BACK_SECONDS` at most.
18. The program is told before the end is sent, and the end is repeated until it is answered. From `given-back` on it
    runs only after the next grant: an unanswered start leads to no grace. Until then it waits, also without `wait`.
19. `active` takes `idle` back. In `given-back` it begins a start with a new session id, as `retry` does, no sooner than
    Retry-After. If the end was not answered, that start replaces the old session; an answer to the end that comes later
    frees it from that.

Times are seconds on the service's clock (`licensing_client.clock`). Left to others: what a reply means
(`licensing_client.replies`), whether the license covers the program (`licensing_client.license`), and which license
file a start is made with (`licensing_client.license_files`).
"""

from dataclasses import dataclass, replace
from enum import Enum

from licensing_client.answers import Answer, Ended, Gone, Granted, NoAnswer, Refused, Unaccepted
from licensing_client.errors import Step
from licensing_client.lease import Lease
from licensing_client.reasons import Code, Reason, reason

BACKOFF_LIMIT_SECONDS = 300.0
HEARTBEATS_PER_LEASE = 2
CONFIRM_AFTER_SECONDS = 3.0
POLL_SECONDS = 15.0
"""How often the clock is read, so that sleep is noticed soon."""
SLEEP_GAP_SECONDS = 60.0
"""A gap this much longer than `POLL_SECONDS` means that the computer slept."""
REMINDER_SECONDS = (86400, 3600, 600)
"""The user gets another notice when grace has this many seconds left."""
MAX_START_FAILURES = 2
GIVE_BACK_SECONDS = 60.0
"""The shortest time from one giving back to the next: each can cost a start."""
SPREAD_IN_LINE, SPREAD_WITHOUT_PLACE = 0.1, 0.5
"""How much later than Retry-After a program that waits asks at most, in parts of it: places have different times."""
UNSENT = frozenset({Step.DNS, Step.CONNECT, Step.PROXY, Step.TLS})
"""Where an exchange fails before the request is sent."""
SESSION_ID_TAKEN = "session-id-taken"
"""Value of `State.unconfirmed` after a reply that the session id is somebody else's."""
_STAYS = "The seat stays as it is."
_UNTRADED = reason(Code.NO_ANSWER, _STAYS)


class Status(str, Enum):
    """Where a seat stands."""

    STARTING = "starting"
    GRANTED = "granted"
    GRACE = "grace"
    REFUSED = "refused"
    LOST = "lost"
    GIVEN_BACK = "given-back"
    ENDED = "ended"


RUNNING = frozenset({Status.GRANTED, Status.GRACE})


class Registered(Enum):
    """What the register may hold for this program."""

    NOTHING = "nothing"
    ASKED = "asked"  # a start was sent, its answer is unknown; if it replaces, perhaps still the session of the lease
    SEAT = "seat"  # the session of the lease


@dataclass(frozen=True, slots=True)
class Terms:
    """What the license says. It changes with the license file that counts.

    `valid_until`: the end of the license, as its files say; a lease under it may end later.
    """

    valid_until: int
    floating: bool
    wait: bool = False
    start_within_seconds: float = 3.0
    hold_lease_seconds: int | None = None
    """Under a hold, the length of an ordinary lease: nobody else may run on the seat of a silent program."""


@dataclass(frozen=True, slots=True)
class Randomness:
    """Random values, drawn by the caller. `jitter` is uniform in [0, 1)."""

    jitter: float
    session_id: str


@dataclass(frozen=True, slots=True)
class Start:
    """Ask for a seat. `replaces`: the lease of the session to end; `ran_until`: until when its program ran.

    `wait`: ask for a place in line if no seat is free.
    """

    session_id: str
    borrow_seconds: int
    replaces: Lease | None = None
    ran_until: int | None = None
    wait: bool = False


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Say that the program still runs."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class End:
    """Give the seat back."""

    lease: Lease


@dataclass(frozen=True, slots=True)
class Report:
    """Say until when a program ran on a session that has ended without it."""

    lease: Lease
    ran_until: int


Call = Start | Heartbeat | End | Report


@dataclass(frozen=True, slots=True)
class State:
    """Everything known of one seat at one moment.

    `lease`: the last lease, of any session; the program runs on it. `session_id`: that of the next or last start.
    `unanswered`: the session id of a start that may have been granted, since no answer to it counted.
    `repeated`: the last start was sent before, and may have been granted.
    `unaccepted`: how often in a row the service did not accept the lease.
    `replaces`: that start replaces the session of the lease, which gets no other call meanwhile.
    `replaced_since`: since when that session may have been replaced, or is known to be gone.
    `ran_until`: until when the program ran on the session of the lease.
    `call_at`: when to make the next call, None for never. `not_before`: the earliest time that the service allows.
    `refusal`: the service's refusal that is in force. `unconfirmed`: what came once and counts when it comes twice.
    `unrecorded`: no calls are needed. `borrow_seconds`: the length asked for, 0 to trade back, None for no request.
    `sent_borrow_seconds`: the request that the last start carried.
    `position`: the place in line of the next start, None without one. `waiting`: how many wait for a seat, as the
    last answer said.
    `idle`: nobody works. `given_back`: the seat was given back for that, and none was granted since. `gave_back_at`:
    when one was last. `ending`: the end of the session of the lease is under way.
    """

    terms: Terms
    status: Status
    session_id: str
    registered: Registered
    lease: Lease | None
    began_at: float
    seen_at: float
    call_at: float | None
    not_before: float = 0.0
    failures: int = 0
    reason: Reason | None = None
    refusal: Reason | None = None
    unconfirmed: str | None = None
    unrecorded: bool = False
    unanswered: str | None = None
    repeated: bool = False
    unaccepted: int = 0
    replaces: bool = False
    replaced_since: float | None = None
    ran_until: float | None = None
    borrow_seconds: int | None = None
    sent_borrow_seconds: int | None = None
    reminders_given: int = 0
    position: int | None = None
    waiting: int = 0
    idle: bool = False
    given_back: bool = False
    gave_back_at: float | None = None
    ending: bool = False


# Starting.


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier run left.

    `lease`: its last one. `open_session_id`: a session that may not have ended. `replaces`: as in `State`; if the open
    session is that of the lease, it is not used again. `borrow_seconds`: its request. `ran_until`: when it ran last.
    `line_session_id`: the session id that has a place in line.
    """

    lease: Lease | None = None
    open_session_id: str | None = None
    replaces: bool = False
    borrow_seconds: int | None = None
    ran_until: float | None = None
    line_session_id: str | None = None


def begin(terms: Terms, session_id: str, earlier: Earlier, borrow_seconds: int, now: float) -> State:
    """The state at the start.

    A borrowed seat that has not expired is used at once. The session of a crashed program is replaced. An unanswered
    start is retried. `session_id` is for all other starts, unless another one has a place in line.
    """
    lease, open_id = earlier.lease, earlier.open_session_id
    state = State(
        terms=_lasting(terms, lease),
        status=Status.STARTING,
        session_id=earlier.line_session_id or session_id,
        registered=Registered.NOTHING,
        lease=lease,
        began_at=now,
        seen_at=now,
        call_at=now,
        ran_until=earlier.ran_until,
        borrow_seconds=borrow_seconds or None,
    )
    if open_id is None:
        return state
    state = replace(state, borrow_seconds=borrow_seconds or earlier.borrow_seconds)
    if lease is None or lease.session_id != open_id:
        replaces = earlier.replaces and lease is not None
        state = replace(state, registered=Registered.ASKED, session_id=open_id, unanswered=open_id)
        return replace(state, replaces=replaces, replaced_since=0.0 if replaces else None)
    state = replace(state, registered=Registered.SEAT, replaced_since=0.0 if earlier.replaces else None)
    if lease.borrowed and now < lease.expires_at and not earlier.replaces:
        return replace(state, status=Status.GRANTED, session_id=open_id, borrow_seconds=None)
    return replace(state, replaces=True)


def _lasting(terms: Terms, lease: Lease | None) -> Terms:
    """The terms, which last at least as long as a lease that was granted under them."""
    return terms if lease is None else replace(terms, valid_until=max(terms.valid_until, lease.expires_at))


def begin_unrecorded(terms: Terms, session_id: str, now: float) -> State:
    """The state at the start if the license collects nothing: the program runs and makes no call."""
    return replace(begin(terms, session_id, Earlier(), 0, now), status=Status.GRANTED, call_at=None, unrecorded=True)


def retry(state: State, now: float, randomness: Randomness) -> State:
    """The user tries again after a refusal. Before `not_before`, and while it keeps asking, nothing changes."""
    if state.status is Status.GIVEN_BACK:
        return active(state, now, randomness)
    final = state.status is Status.LOST and state.call_at is None
    if not (state.status is Status.REFUSED or final) or now < state.not_before:
        return state
    return replace(state, status=Status.STARTING, began_at=now, call_at=now, failures=0, reason=None)


def borrow(state: State, seconds: int, now: float, randomness: Randomness) -> State:
    """Trade the seat for one borrowed for so many seconds; 0 trades it back. Without a seat, nothing changes."""
    if state.status is Status.STARTING:
        return replace(state, borrow_seconds=seconds)
    if state.status not in RUNNING or state.unrecorded:
        return state
    if state.borrow_seconds == seconds:
        return replace(state)  # asked before, and under way
    return replace(_replace_session(state, now, randomness), borrow_seconds=seconds)


def idle(state: State) -> State:
    """Nobody works with the program. What follows, follows when time passes."""
    return replace(state, idle=True)


def active(state: State, now: float, randomness: Randomness) -> State:
    """Somebody works with the program: one that gave its seat back asks for another."""
    state = replace(state, idle=False)
    if state.status is not Status.GIVEN_BACK:
        return state
    return replace(
        state,
        status=Status.STARTING,
        session_id=randomness.session_id,
        replaces=state.registered is Registered.SEAT,
        began_at=now,
        call_at=max(now, state.not_before),
        failures=0,
        reason=None,
    )


# Questions about a state.


def due_call(state: State, now: float) -> Call | None:
    """The call to make now, if any."""
    if state.status is Status.ENDED or state.call_at is None or now < state.call_at:
        return None
    if state.lease is not None and state.registered is Registered.SEAT and not state.replaces:
        return End(state.lease) if state.status is Status.GIVEN_BACK else Heartbeat(state.lease)
    start = Start(state.session_id, state.borrow_seconds or 0, wait=_waits(state) and not _is_trade(state))
    if not state.replaces:
        return start
    ran_until = last_ran(state, now)
    return replace(start, replaces=state.lease, ran_until=None if ran_until is None else int(ran_until))


def wake_at(state: State) -> float:
    """The latest time of the next step."""
    times = [state.seen_at + POLL_SECONDS]
    if state.call_at is not None:
        times.append(state.call_at)
    if state.status is Status.STARTING:
        times.append(state.began_at + state.terms.start_within_seconds)
    if state.status in RUNNING:
        times.append(float(state.terms.valid_until))
    if _may_give_back(state):
        times.append(_next_give_back(state))
    if state.lease is not None and not state.unrecorded:
        if state.status is Status.GRANTED:
            times.append(min(state.lease.expires_at, _grace_end(state, state.lease)))
        if state.status is Status.GRACE:
            end = _grace_end(state, state.lease)
            times += [
                end,
                *(end - left for left in REMINDER_SECONDS[state.reminders_given : state.reminders_given + 1]),
            ]
    return min(times)


def grace_end(lease: Lease, terms: Terms) -> float:
    """The time until which a program may run on this lease without another answer."""
    return min(max(lease.expires_at, lease.issued_at + lease.grace_seconds), terms.valid_until)


def _grace_end(state: State, lease: Lease) -> float:
    """Until when the program may run; under a hold, no longer than a successor of its session surely lasts."""
    end = grace_end(lease, state.terms)
    if state.terms.hold_lease_seconds is None or state.replaced_since is None:
        return end
    return min(end, state.replaced_since + state.terms.hold_lease_seconds)


def runs_until(state: State) -> float | None:
    """The time until which the program may run without another answer; None if it may not run."""
    if state.status not in RUNNING:
        return None
    if state.lease is None or state.unrecorded:
        return float(state.terms.valid_until)
    return _grace_end(state, state.lease)


def judged(state: State, now: float) -> State:
    """The state as its user may rely on it now.

    Under a hold, the seat of a program whose grace is over may be somebody else's. So after sleep it does not run on
    until the service answers.
    """
    until = runs_until(state)
    if state.terms.hold_lease_seconds is None or until is None or now < until:
        return state
    return _check_lease(state, now)


def decided(state: State) -> bool:
    """Whether a start is decided; if it asked to borrow, whether that is confirmed as well."""
    confirming = state.status is Status.GRANTED and state.lease is not None and state.lease.offered is not None
    return state.status is not Status.STARTING and not (confirming and state.borrow_seconds is not None)


def lease_to_end(state: State) -> Lease | None:
    """The lease of the session to end on close. A borrowed seat is kept, unless it is recalled or being replaced."""
    open_id = open_session_id(state)
    if state.lease is None or state.unrecorded or open_id is None:
        return None
    if state.replaces:
        return state.lease
    return state.lease if state.lease.session_id == open_id and not state.lease.borrowed else None


def open_session_id(state: State) -> str | None:
    """The session that the register may hold, to be saved in case of a crash."""
    if state.registered is Registered.ASKED:
        return state.session_id
    return state.lease.session_id if state.lease is not None and state.registered is Registered.SEAT else None


def session_id_in_line(state: State) -> str | None:
    """The session id that has a place in line, to be saved: after a crash another id would take a second place."""
    return None if state.position is None else state.session_id


def is_asking(state: State) -> bool:
    """Whether a program that may not run asks again without its user's doing."""
    return state.status in (Status.REFUSED, Status.LOST) and state.call_at is not None


def line_changed(before: State, after: State) -> bool:
    """Whether a program that waits for a seat should learn of its place in line, or of how many wait."""
    waits = is_asking(after) and after.reason is not None and after.reason.code is Code.NO_SEAT
    waited = before.refusal is not None and before.refusal.code is Code.NO_SEAT  # else a grant said who waits
    shown = (before.position, before.waiting) if waited else (None, 0)
    return waits and (after.position, after.waiting) != shown


def is_given_up(state: State) -> bool:
    """Whether no later run may use the session of the lease, to be saved with `open_session_id`."""
    if state.given_back and state.terms.hold_lease_seconds is not None and state.registered is Registered.SEAT:
        return True
    return state.replaces and (state.registered is Registered.ASKED or state.replaced_since is not None)


def report_of(state: State, now: float) -> Report | None:
    """What to tell once the session of `lease_to_end` has ended: the program ran on after the lease, or after its end.

    If a replacing start is unanswered, the next run repeats it and tells it with that.
    """
    lease, ran_until = lease_to_end(state), last_ran(state, now)
    if lease is None or ran_until is None or state.registered is not Registered.SEAT:
        return None
    had_ended = now >= lease.expires_at or (state.replaces and not state.given_back)
    return Report(lease, int(ran_until)) if had_ended else None


def report_of_start(state: State, call: Start, now: float) -> Report | None:
    """What to tell once a replacing start was granted: the service ignores a session that had ended or lapsed before.

    `state` is that in which it was sent. From the first time on that it was sent, its own session may count.
    """
    if call.replaces is None or call.ran_until is None:
        return None
    if now < call.replaces.expires_at and state.replaced_since is None:
        return None  # it was active until now
    sent_first_at = state.replaced_since if state.repeated else None  # 0: in an earlier run, nobody knows when
    return Report(call.replaces, min(call.ran_until, int(sent_first_at)) if sent_first_at else call.ran_until)


def last_ran(state: State, now: float) -> float | None:
    """Until when the program ran on the session of the lease: until now, if it runs."""
    return now if state.status in RUNNING else state.ran_until


def should_notify(before: State, after: State) -> bool:
    """Whether the user should learn of this change."""
    if after.status in (Status.STARTING, Status.ENDED):
        return False
    if after.status is not before.status or (before.borrow_seconds is not None and after.borrow_seconds is None):
        return True
    if after.status is Status.GRACE:
        return after.reminders_given > before.reminders_given
    return after.status in (Status.REFUSED, Status.LOST) and after.reason != before.reason


def loses_to_end(state: State, now: float) -> bool:
    """Whether a running program is lost now, since its license ends: a newer license file may cure that."""
    return state.status in RUNNING and now >= state.terms.valid_until and not _asks_first(state, now)


# Events.


def with_terms(state: State, terms: Terms) -> State:
    """The license's files say something else now."""
    return replace(state, terms=_lasting(terms, state.lease))


def renewed(state: State, now: float) -> State:
    """A newer license file came when the license ended: the service is asked before the time is judged."""
    return judged(replace(state, seen_at=now, call_at=now, failures=0), now)


def restarted(state: State, now: float, randomness: Randomness) -> State:
    """A newer license file came when a heartbeat was refused: a start with that replaces the session."""
    return _replace_session(replace(state, seen_at=now, ran_until=last_ran(state, now)), now, randomness)


def _asks_first(state: State, now: float) -> bool:
    """Whether it slept, or the clock was set ahead: the service is asked before the time is judged."""
    return state.call_at is not None and now - state.seen_at > POLL_SECONDS + SLEEP_GAP_SECONDS


def time_passed(state: State, now: float) -> State:
    """Time has passed."""
    if state.call_at is not None and _asks_first(state, now):
        return judged(replace(state, seen_at=now, call_at=min(state.call_at, now), failures=0), now)
    state = replace(state, seen_at=now, ran_until=last_ran(state, now))
    if state.status is Status.STARTING and now >= state.began_at + state.terms.start_within_seconds:
        return _start_unanswered(state, now)
    if state.status in RUNNING:
        state = _check_lease(state, now)
    return _give_back(state, now) if _may_give_back(state) and now >= _next_give_back(state) else state


def _may_give_back(state: State) -> bool:
    """Whether nobody works on a seat that somebody waits for, and nothing forbids to give it back."""
    wanted = state.idle and state.waiting > 0 and state.status is Status.GRANTED
    answered = state.failures == 0 and state.unconfirmed is None and state.registered is Registered.SEAT
    trades = state.replaces or state.borrow_seconds is not None
    ordinary = state.lease is not None and not state.lease.borrowed and state.lease.offered is None
    return wanted and answered and not trades and ordinary and state.terms.floating and not state.unrecorded


def _next_give_back(state: State) -> float:
    """When the seat may be given back: at once, unless one was given back a moment ago."""
    if state.gave_back_at is None or state.gave_back_at > state.seen_at:  # the clock was set
        return state.seen_at
    return max(state.seen_at, state.gave_back_at + GIVE_BACK_SECONDS)


def _give_back(state: State, now: float) -> State:
    """Do not run any more, and end the session."""
    state = replace(state, status=Status.GIVEN_BACK, given_back=True, gave_back_at=now)
    return replace(state, reason=reason(Code.GIVEN_BACK), call_at=now, failures=0)


def call_sent(state: State, call: Call) -> State:
    """A call is being sent. From a start on, the register may hold a seat for it."""
    if isinstance(call, End):
        return replace(state, ending=True)
    if not isinstance(call, Start):
        return state
    return replace(
        state,
        registered=Registered.ASKED,
        unanswered=call.session_id,
        repeated=state.unanswered == call.session_id,
        sent_borrow_seconds=state.borrow_seconds,
    )


def answered(state: State, answer: Answer, now: float, randomness: Randomness) -> State:
    """The call that was due has an answer, or none."""
    if state.status is Status.ENDED:
        return state
    sent_at = state.seen_at
    state = replace(state, seen_at=now, ran_until=last_ran(state, now))
    if state.ending:
        return _end_answered(state, answer, now, randomness)
    match answer:
        case Granted():
            return _granted(state, answer, now, randomness)
        case Refused():
            return _refused(state, answer, now, randomness)
        case Gone() if state.registered is Registered.ASKED:
            return _session_id_taken(state, now, randomness)
        case Gone():
            return replace(_replace_session(state, now, randomness), replaced_since=now)
        case Unaccepted():
            return _unaccepted(state, now)
        case NoAnswer():
            state = _unanswered(state, answer.step, sent_at)
            return _no_answer(state, answer.retry_after or 0, now, randomness)
        case Ended():
            return state  # it answers an end only


def _end_answered(state: State, answer: Answer, now: float, randomness: Randomness) -> State:
    """The end of a seat that is given back has an answer, or none. Under a hold, its lease is forgotten."""
    state = replace(state, ending=False)
    given_back = state.status is Status.GIVEN_BACK  # otherwise the program is active again
    if isinstance(answer, Ended):
        lease = state.lease if state.terms.hold_lease_seconds is None else None
        call_at = None if given_back else state.call_at
        return replace(state, registered=Registered.NOTHING, replaces=False, lease=lease, call_at=call_at, failures=0)
    retry_after = (answer.retry_after or 0) if isinstance(answer, NoAnswer) else 0
    not_before = now + retry_after  # of the start that follows `active`, too
    if given_back:
        return replace(_no_answer(state, retry_after, now, randomness), not_before=not_before)
    return replace(state, call_at=max(state.call_at or 0.0, not_before) if retry_after else state.call_at)


def ending(state: State) -> State:
    """What to save before the end of the session is sent: under a hold, no later run may use its lease."""
    given_up = state.terms.hold_lease_seconds is not None and lease_to_end(state) is not None
    return replace(state, replaces=True, replaced_since=0.0) if given_up else state


def closed(state: State, answer: Answer | None) -> State:
    """The program has ended. `answer`: that to the end of the session of `lease_to_end`.

    A replacing start without an answer may have taken a seat, so it stays. Under a hold, the seat of an ended session
    is free, and no later run may use its lease.
    """
    unanswered = state.registered is Registered.ASKED and state.replaces
    ended = isinstance(answer, Ended) and not unanswered
    unsent = answer is None or (isinstance(answer, NoAnswer) and answer.step in UNSENT)
    after = state if unsent else ending(state)
    if state.unrecorded or ended:
        after = replace(after, registered=Registered.NOTHING, replaces=False)
    if ended and state.terms.hold_lease_seconds is not None:
        after = replace(after, lease=None)
    return replace(after, status=Status.ENDED, call_at=None)


def _next_id(state: State, randomness: Randomness) -> str:
    """The id of the next start: a new one, unless the last one was never granted."""
    used = state.lease is not None and state.session_id == state.lease.session_id
    return randomness.session_id if used else state.session_id


def _replace_session(state: State, now: float, randomness: Randomness) -> State:
    """Start a session that replaces that of the lease. An unanswered start is repeated as it is."""
    seat = state.registered is Registered.SEAT
    return replace(
        state,
        replaces=seat or state.replaces,
        session_id=_next_id(state, randomness) if seat else state.session_id,
        call_at=now,
        failures=0,
        unconfirmed=None,
    )


def _release_id(state: State, randomness: Randomness) -> State:
    """Take a new session id. If the lease is that of the session given up, or of its predecessor, replace it."""
    own = state.lease is not None and (state.replaces or state.lease.session_id == state.session_id)
    registered = Registered.SEAT if own else Registered.NOTHING
    return replace(
        state, registered=registered, replaces=own, session_id=randomness.session_id, unanswered=None, position=None
    )


def _waits(state: State) -> bool:
    """Whether a refused program asks on. Others may have the seat that it gave back."""
    return state.terms.wait or state.given_back


def _is_trade(state: State) -> bool:
    """Whether a running program asked to replace its seat, which it still holds if that is refused."""
    return state.status in RUNNING and state.replaces and state.borrow_seconds is not None


def _keep_old_seat(state: State, why: Reason) -> State:
    """A trade has failed: go on with the session of the lease."""
    return replace(state, registered=Registered.SEAT, replaces=False, borrow_seconds=None, reason=why)


def _session_id_taken(state: State, now: float, randomness: Randomness) -> State:
    """The session id is said to be somebody else's: take a new one."""
    if state.repeated and state.unconfirmed != SESSION_ID_TAKEN:
        return _no_answer(replace(state, unconfirmed=SESSION_ID_TAKEN), 0, now, randomness)
    trade = _is_trade(state)
    state = _release_id(state, randomness)
    if trade:
        state = _keep_old_seat(state, _UNTRADED)
    state = replace(state, failures=0 if state.repeated else state.failures, unconfirmed=None)
    return _no_answer(state, 0, now, randomness)


def _unaccepted(state: State, now: float) -> State:
    """The lease is not accepted, but its session may be active: start that session again.

    If another start may have replaced it, that start is repeated. A session whose lease is not accepted cannot be
    confirmed, so a request to borrow is dropped.
    """
    if state.lease is None:
        return state
    state = replace(
        state,
        registered=Registered.ASKED,
        replaces=state.session_id != state.lease.session_id,
        unanswered=state.session_id,
        unaccepted=state.unaccepted + 1,
        call_at=now,
        failures=0,
        unconfirmed=None,
    )
    if state.status in RUNNING and state.borrow_seconds is not None:
        return replace(state, borrow_seconds=None, reason=_UNTRADED)
    return state


def _granted(state: State, answer: Granted, now: float, randomness: Randomness) -> State:
    unrecorded = not answer.recorded and not state.terms.floating
    lease = answer.lease
    granted = replace(
        state,
        status=Status.GRANTED,
        registered=Registered.SEAT,
        replaces=False,
        replaced_since=None,
        terms=_lasting(state.terms, lease),
        unanswered=None,
        unaccepted=state.unaccepted if state.registered is Registered.ASKED else 0,
        lease=lease,
        unrecorded=unrecorded,
        call_at=None if unrecorded else _next_heartbeat(state, answer, now, randomness),
        not_before=0.0,
        failures=0,
        reason=None,
        refusal=None,
        unconfirmed=None,
        borrow_seconds=None,
        reminders_given=0,
        position=None,
        waiting=_waiting(answer) if answer.recorded else 0,
        given_back=False,
    )
    if state.borrow_seconds is None or unrecorded:
        return granted
    return _traded(state, granted, lease, now, randomness)


def _waiting(answer: Granted | Refused) -> int:
    """How many wait in line; 0 from older services."""
    return 0 if answer.seats is None else answer.seats.waiting


def _next_heartbeat(state: State, answer: Granted, now: float, randomness: Randomness) -> float:
    """When the next heartbeat is due. A session is confirmed at once, unless its lease is refused again and again."""
    lease = answer.lease
    if lease.offered is not None and state.registered is Registered.ASKED and state.unaccepted <= 1:
        return now
    interval = float(answer.heartbeat_seconds)
    if lease.expires_at != state.terms.valid_until:  # a lease that ends with its license cannot be extended
        interval = min(interval, (lease.expires_at - lease.issued_at) / HEARTBEATS_PER_LEASE)
    return now + max(interval, 1.0) * (0.8 + 0.2 * randomness.jitter)


def _traded(state: State, granted: State, lease: Lease, now: float, randomness: Randomness) -> State:
    """What became of a request to borrow. `granted`: the state after the answer, without the request."""
    wanted = state.borrow_seconds or 0
    asked = state.registered is Registered.ASKED
    borrows = lease.borrowed if lease.offered is None else lease.offered > lease.expires_at
    fulfilled = borrows == (wanted > 0)
    if asked and fulfilled and lease.offered is not None:
        return replace(granted, borrow_seconds=wanted)  # until it is confirmed
    confirmed = not asked and not state.replaces
    if fulfilled and (asked or confirmed):
        return granted
    if confirmed or (asked and state.sent_borrow_seconds == state.borrow_seconds and not state.repeated):
        return replace(granted, reason=reason(Code.BORROWING_NOT_ALLOWED))
    # The answer is to a call from before the request, or repeats such an answer.
    return replace(_replace_session(granted, now, randomness), borrow_seconds=wanted)


def _refused(state: State, answer: Refused, now: float, randomness: Randomness) -> State:
    code = answer.reason.code
    asked, first_hearing = state.registered is Registered.ASKED, state.unconfirmed != code
    confirm_at = now + CONFIRM_AFTER_SECONDS * (1 + randomness.jitter / 2)
    state = replace(state, position=answer.position, waiting=_waiting(answer))
    if asked and not state.repeated:  # a refused start ended nothing
        state = replace(state, registered=Registered.SEAT if state.replaces else Registered.NOTHING, unanswered=None)
    if asked and _is_trade(state) and not (state.repeated and first_hearing):
        state = _keep_old_seat(state, reason(code, _STAYS))
        return replace(state, unconfirmed=code, call_at=confirm_at, failures=0)
    if state.status in RUNNING and first_hearing:
        return replace(state, unconfirmed=code, call_at=confirm_at, failures=0)
    if code is Code.SEAT_RECALLED:
        state = _release_id(state, randomness) if asked else _replace_session(state, now, randomness)
        state = replace(state, replaced_since=now)
    spread = SPREAD_WITHOUT_PLACE if answer.position is None else SPREAD_IN_LINE
    retry_at = None if answer.retry_after is None else now + answer.retry_after * (1 + spread * randomness.jitter)
    lost = state.status in RUNNING or state.status is Status.LOST
    return replace(
        state,
        status=Status.LOST if lost else Status.REFUSED,
        reason=answer.reason,
        refusal=answer.reason,
        call_at=retry_at if lost or _waits(state) else None,
        not_before=retry_at or now,
        failures=0,
        unconfirmed=None,
    )


def _unanswered(state: State, step: Step, sent_at: float) -> State:
    """What the register may hold after a call without an answer. A request that was not sent changes nothing."""
    if state.registered is not Registered.ASKED:
        return state
    if step in UNSENT and not state.repeated:
        return replace(state, registered=Registered.SEAT if state.replaces else Registered.NOTHING, unanswered=None)
    since = sent_at if state.replaced_since is None else state.replaced_since
    return replace(state, replaced_since=since if state.replaces else None)


def _no_answer(state: State, retry_after: int, now: float, randomness: Randomness) -> State:
    failures = state.failures + 1
    pause = min(2.0 ** min(failures - 1, 16), BACKOFF_LIMIT_SECONDS) * (0.5 + 0.5 * randomness.jitter)
    pause = max(pause, retry_after)
    state = replace(state, failures=failures, call_at=now + pause, not_before=now + pause)
    if state.status is Status.REFUSED and not _waits(state):
        return replace(state, call_at=None)
    if state.status is Status.STARTING and failures >= MAX_START_FAILURES:
        return _start_unanswered(state, now)
    return state


def _start_unanswered(state: State, now: float) -> State:
    """A start had no answer in time: run in grace, or be refused."""
    call_at = state.call_at if _waits(state) else None
    if state.refusal is not None:
        return replace(state, status=Status.REFUSED, reason=state.refusal, call_at=call_at)
    if state.given_back:
        return replace(state, status=Status.REFUSED, reason=reason(Code.NO_ANSWER), call_at=call_at)
    if state.lease is not None and now < _grace_end(state, state.lease):
        return _check_lease(replace(state, status=Status.GRACE, reason=reason(Code.NO_ANSWER)), now)
    code = Code.NO_ANSWER if state.lease is None else Code.GRACE_OVER
    more = "It must be reached once before the program can run without it." if state.lease is None else ""
    return replace(state, status=Status.REFUSED, reason=reason(code, more), call_at=call_at)


def _check_lease(state: State, now: float) -> State:
    """Check the lease and the grace of a running program."""
    if now >= state.terms.valid_until:
        return replace(state, status=Status.LOST, reason=reason(Code.LICENSE_EXPIRED))
    if state.lease is None or state.unrecorded:
        return state
    end = _grace_end(state, state.lease)
    if state.status is Status.GRANTED and now < min(state.lease.expires_at, end):
        return state
    if now >= end:
        return replace(state, status=Status.LOST, reason=reason(Code.GRACE_OVER))
    reminders_given = sum(1 for left in REMINDER_SECONDS if end - now <= left)
    return replace(state, status=Status.GRACE, reason=reason(Code.NO_ANSWER), reminders_given=reminders_given)
