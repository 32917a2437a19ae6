"""Whatever happens in whatever order: the promises of the seat ledger hold after every plan."""

import os
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from licensing.rules.license import Kind, Sharing
from licensing.rules.line import Line, live, position_of, waiters_before
from licensing.rules.model import EndReason, LicenseState, Terms, Versioned
from licensing.rules.outage import Outage
from licensing.rules.requests import (
    End,
    Ended,
    ForeignSession,
    Full,
    Granted,
    Lapse,
    Outcome,
    Recall,
    Recalled,
    Request,
    Start,
)
from licensing.rules.seats import Plan
from tests.rules.memory_register import NOON, MemoryRegister, start, terms

SESSIONS = st.sampled_from(["1", "2", "3", "4"])
USERS = st.sampled_from(["ada", "bob", "eve"])
HOSTS = st.sampled_from(["pc", "laptop"])
PEPPERS = st.sampled_from([("new",), ("old",), ("new", "old"), ("old", "new")])
ROOMS = st.sampled_from([8, 9, 14, 99])
GRACE, HOLD = 1800, 1860
KINDS = st.sampled_from([Kind.FLOATING, Kind.FLOATING, Kind.FLOATING, Kind.NODE_LOCKED])
SELDOM = st.sampled_from([False, False, False, True])
SECONDS = st.sampled_from([1, 5, 10, 60, 299, 300, 600, 900, 2000])


@dataclass(frozen=True)
class Lease:
    """What a program may do on its last lease: run until a time, and present an offer to borrow."""

    runs_until: datetime
    borrowed_until: datetime | None = None


class Ledger(RuleBasedStateMachine):
    """Requests queue, and are served in batches; operators, sweeps, outages and heartbeats come in between.

    Under a hold no program may run by its last lease whose session is not active.
    """

    def __init__(self) -> None:
        super().__init__()
        self.register = MemoryRegister()
        self.now = NOON
        self.queue: list[Request] = []
        self.cached: Versioned[LicenseState] | None = None
        self.terms: list[Terms] = []
        self.grace = 0
        self.asked: dict[str, Start] = {}
        self.leases: dict[str, Lease] = {}
        """The last leases of the programs that run."""

    @initialize(
        first=st.integers(0, 3),
        later=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1), st.sampled_from(Sharing), KINDS), max_size=2),
        overdraft=st.integers(0, 1),
        sharing=st.sampled_from(Sharing),
        borrow=st.sampled_from([0, 1800]),
        kind=KINDS,
        strict=st.booleans(),
    )
    def issue(
        self,
        first: int,
        later: list[Any],
        overdraft: int,
        sharing: Sharing,
        borrow: int,
        kind: Kind,
        strict: bool,
    ) -> None:
        """The files that the customer has: the first, and newer ones that change everything."""
        self.grace = GRACE if strict else 0
        same = {"grace_seconds": self.grace, "hold_seconds": HOLD if strict else 0}
        given = {"overdraft": overdraft, "sharing": sharing, "borrow_seconds": borrow, "kind": kind, **same}
        self.terms = [terms(seats=first, **given)]
        for serial, (seats, more, other, kind) in enumerate(later, start=2):
            self.terms.append(terms(serial=serial, seats=seats, overdraft=more, sharing=other, kind=kind, **same))

    @rule(session=SESSIONS, user=USERS, host=HOSTS, file=st.integers(0, 2), peppers=PEPPERS, data=st.data())
    def start(self, session: str, user: str, host: str, file: int, peppers: tuple[str, ...], data: Any) -> None:
        under = self.terms[file % len(self.terms)]
        borrow, replaces = data.draw(st.sampled_from([0, 1200])), data.draw(st.none() | SESSIONS)
        if replaces == session:
            replaces = None
        wait = data.draw(st.booleans())
        request = start(session, user, host, under=under, peppers=peppers, borrow=borrow, replaces=replaces, wait=wait)
        self.queue += [request] * data.draw(st.integers(1, 2))
        self.asked[session] = request
        if replaces:
            self.leases.pop(replaces, None)  # it is not used again

    @precondition(lambda self: self.register.line)
    @rule(place=st.integers(0, 3))
    def ask_again(self, place: int) -> None:
        """One of those who wait asks again."""
        line = self.register.line
        self.queue.append(self.asked[line[place % len(line)].session_id])

    @precondition(lambda self: self.register.line and self.register.active)
    @rule(place=st.integers(0, 3))
    def leave_a_seat_to_the_line(self, place: int) -> None:
        session = list(self.register.active)[place % len(self.register.active)]
        self.leases.pop(session, None)
        self.queue.append(End(session))

    @rule(session=SESSIONS)
    def end(self, session: str) -> None:
        self.leases.pop(session, None)
        self.queue.append(End(session))

    @rule(session=SESSIONS)
    def recall(self, session: str) -> None:
        self.queue.append(Recall(session))

    @rule(seconds=SECONDS, known=st.booleans())
    def be_away(self, seconds: int, known: bool) -> None:
        """The service was away until now."""
        gap = self.now - timedelta(seconds=seconds)
        self.register.outage = Outage.until(self.now, gap, self.register.outage)
        self.register.outage_is_known = known

    @rule(ahead=st.sampled_from([0, 0, 600]))
    def sweep(self, ahead: int) -> None:
        """A sweep by a clock that may be ahead."""
        judged_at = self.now + timedelta(seconds=ahead)
        rows = self.register.active.values()
        self.queue += [Lapse(row) for row in rows if row.value.expires_at <= judged_at]

    @rule(session=SESSIONS)
    def heartbeat(self, session: str) -> None:
        """A heartbeat; on a cached state, also of a recalled session."""
        lease = self.leases.get(session)
        if lease and self.register.heartbeat(session, self.now, lease.borrowed_until):
            row = self.register.active[session].value
            self.runs(session, row.expires_at, self.grace)
            if row.borrowed:
                self.leases[session] = replace(self.leases[session], borrowed_until=row.expires_at)

    def runs(self, session: str, expires_at: datetime, grace: int, offered: datetime | None = None) -> None:
        borrowed_until = offered if offered and offered > expires_at else None
        self.leases[session] = Lease(max(expires_at, self.now + timedelta(seconds=grace)), borrowed_until)

    @precondition(lambda self: self.register.state)
    @rule(suspended=SELDOM)
    def change_status(self, suspended: bool) -> None:
        self.register.set_state(suspended=suspended)

    @precondition(lambda self: self.register.state)
    @rule(collect=st.booleans())
    def opt(self, collect: bool) -> None:
        self.register.set_state(collect=collect)

    @rule()
    def cache(self) -> None:
        """From now on, this is the state that the process has cached, until it reads or writes another."""
        self.cached = self.register.state

    @rule(seconds=SECONDS)
    def wait(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @precondition(lambda self: self.queue)
    @rule(room=ROOMS)
    def serve(self, room: int) -> None:
        batch, before, line = self.queue, self.register.in_use, self.register.line
        self.now += timedelta(seconds=1)
        plan = self.register.plan(batch, self.now, room, self.cached)
        assert plan.outcomes or plan.ended, "nobody was answered, and no room was made"
        assert plan.outcomes.keys() <= set(range(len(batch)))
        self.queue = [request for place, request in enumerate(batch) if place not in plan.outcomes]
        outage = self.register.outage
        lapses = [each.value.session for each in plan.ended if each.value.reason is EndReason.LAPSED]
        assert all(session.lapse_after(outage) <= self.now for session in lapses), "one has not lapsed"
        self.give_leases(batch, plan)
        self.in_order(line, plan)
        state = self.register.state
        if state:
            assert self.register.in_use <= max(before, state.value.terms.capacity), "more holders than seats"
        for place, outcome in plan.outcomes.items():
            if isinstance(outcome, Full):
                assert state is not None
                free = state.value.terms.capacity - self.register.in_use
                waiters = live(state.value.line, self.now, outage)
                assert free <= waiters_before(waiters, batch[place].session_id), "refused, and a seat is free"
                position = position_of(waiters, batch[place].session_id)
                # Somebody before it may leave the line in the same plan.
                assert (outcome.position or 0) >= (position or 0)
                assert (outcome.position is None) == (position is None)
                rows = self.register.active.values()
                assert all(row.value.lapse_after(outage) > self.now for row in rows), "refused, and a seat has lapsed"
            self.repeat(batch[place], outcome)

    def in_order(self, before: Line, plan: Plan) -> None:
        """Nobody with a place is overtaken: a seat is left for each waiter who came before one that was granted."""
        state, outage = self.register.state, self.register.outage
        if state is None:
            return
        arrived = [place.session_id for place in self.register.line]
        stood = [place.session_id for place in before]
        assert [name for name in arrived if name in stood] == [name for name in stood if name in arrived]
        waiters = {place.session_id for place in live(before, self.now, outage)}
        left = state.value.terms.capacity - state.value.in_use
        replaced = {each.value.session.holder for each in plan.ended if each.value.reason is EndReason.REPLACED}
        for session in plan.started:
            first = stood.index(session.id) if session.id in stood else len(stood)
            passed = [name for name in stood[:first] if name in waiters and name in arrived]
            shared = session.shares and self.register.seats[session.holder].value > 1
            if session.holder and not shared and not replaced:
                assert len(passed) <= max(left, 0), "a waiter was overtaken"

    def give_leases(self, batch: list[Request], plan: Plan) -> None:
        """Programs get the leases of their starts, but for those that have sent an end or a successor meanwhile."""
        left = [each for place, each in enumerate(batch) if place not in plan.outcomes]
        over = {each.session_id for each in batch if isinstance(each, End)}
        over |= {each.replaces for each in [*batch, *left] if isinstance(each, Start) and each.replaces}
        for place, outcome in plan.outcomes.items():
            request = batch[place]
            if isinstance(outcome, Granted) and outcome.session and request.session_id not in over:
                self.runs(request.session_id, outcome.expires_at, 0, outcome.offered)

    def repeat(self, request: Request, outcome: Outcome) -> None:
        """The same request again changes no row, and gets the same answer."""
        if isinstance(outcome, ForeignSession):
            return  # the session that had the id may have lapsed to make room in the same plan
        if isinstance(request, Start) and isinstance(outcome, Full) and request.replaces in self.register.active:
            return  # what it replaces may have started in the same plan
        rows = self.rows()
        self.register.check()
        again = self.register.plan([request], self.now).outcomes[0]
        match outcome:
            case Ended():
                assert again == Ended(now=False)
            case Recalled(session):
                assert again in (outcome, Ended(now=False)), session
            case Granted():
                assert again == replace(outcome, repeat=outcome.session is not None)
            case Full():
                assert isinstance(again, Full)
            case _:
                assert again == outcome
        assert self.rows() == rows, "a repeated request changed something"

    def rows(self) -> tuple[Any, ...]:
        """All rows, but for what waiters are told: somebody before them may have left in the same plan."""
        register = self.register
        line = tuple(replace(place, retry_seconds=0) for place in register.line)
        state = register.state and replace(register.state.value, line=line)
        return state, dict(register.active), dict(register.seats), len(register.ended)

    @invariant()
    def promises_hold(self) -> None:
        self.register.check()
        running = {session for session, lease in self.leases.items() if lease.runs_until > self.now}
        assert running <= self.register.active.keys(), "a program may run whose seat was given away"

    def teardown(self) -> None:
        plans = 0
        while self.queue:
            self.serve(8)
            plans += 1
            assert plans < 500, "the queue never ends"


Ledger.TestCase.settings = settings(
    max_examples=int(os.environ.get("MACHINE_EXAMPLES", "500")),
    stateful_step_count=40,
    deadline=None,
    # Shrinking a failing life is done on demand.
    phases=[Phase.generate, *([Phase.shrink] if "MACHINE_EXAMPLES" in os.environ else [])],
    report_multiple_bugs=False,
)
test_the_promises_hold = Ledger.TestCase
