"""The rows of one license in memory, with the one thing that `decide` rests on: a transaction is done as a whole if
all rows are as it assumes, else not at all.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from licensing.rules.license import Kind, Sharing
from licensing.rules.line import MOST_PLACES, Line
from licensing.rules.model import (
    UNKNOWN,
    EndedSession,
    KeptFile,
    LicenseState,
    Person,
    Session,
    Status,
    Terms,
    Versioned,
)
from licensing.rules.outage import Outage
from licensing.rules.requests import Outcome, Request, Start
from licensing.rules.seats import Facts, Lapsing, Plan, Questions, decide, lapsing_until

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
MAX_ROWS = 99
TRIES = 12


def later(seconds: float) -> datetime:
    """A moment, by the seconds since noon."""
    return NOON + timedelta(seconds=seconds)


def terms(**changes: Any) -> Terms:
    """Terms of two floating seats, with a lease of 900 s; `changes` replaces some."""
    values: dict[str, Any] = {
        "serial": 1,
        "organization_id": "acme",
        "organization_name": "Acme",
        "product": "Water",
        "kind": Kind.FLOATING,
        "seats": 2,
        "overdraft": 0,
        "sharing": Sharing.NONE,
        "heartbeat_seconds": 300,
        "lease_seconds": 900,
        "borrow_seconds": 0,
        "valid_from": NOON - timedelta(days=1),
        "valid_until": NOON + timedelta(days=365),
        "project": "",
        "billing": "none",
        "grace_seconds": 259200,
        **changes,
    }
    return Terms(**values)


def person(user: str = "ada", host: str = "pc", pepper: str = "new") -> Person:
    """Somebody under one pepper; pseudonyms that can be read."""
    return Person(f"{user}/{pepper}", f"{host}/{pepper}", f"net/{pepper}", pepper)


def start(
    session_id: str,
    user: str = "ada",
    host: str = "pc",
    *,
    under: Terms | None = None,
    peppers: Sequence[str] = ("new",),
    borrow: int = 0,
    replaces: str | None = None,
    ran_until: datetime | None = None,
    wait: bool = False,
) -> Start:
    """A start by a user on a host, who is known under each of `peppers`, the current one first."""
    persons = tuple(person(user, host, pepper) for pepper in peppers)
    return Start(session_id, under or terms(), persons, borrow, replaces, ran_until, wait)


@dataclass
class MemoryRegister:
    """The rows of a license. `plan` is what a process does with a batch of requests."""

    state: Versioned[LicenseState] | None = None
    active: dict[str, Versioned[Session]] = field(default_factory=dict)
    seats: dict[str, Versioned[int]] = field(default_factory=dict)
    ended: list[EndedSession] = field(default_factory=list)
    denied: Counter[str] = field(default_factory=Counter)
    lapsing: Lapsing | None = None
    file: Versioned[KeptFile] | None = None
    outage: Outage | None = None
    outage_is_known: bool = True
    asked: int = 0
    enough: int = 3
    """So many lapsed sessions are enough for whoever reads who lapses."""
    versions: int = 0

    def plan(
        self,
        requests: Sequence[Request],
        now: datetime,
        max_rows: int = MAX_ROWS,
        cached: Versioned[LicenseState] | None = None,
    ) -> Plan:
        """Decide a batch and commit the plan; `cached` is a state that was read before, and may be stale."""
        outage = self.outage if self.outage_is_known else UNKNOWN
        facts = Facts(cached or UNKNOWN, lapsing=self.lapsing if cached else None, outage=outage)
        for _ in range(TRIES):
            decided = decide(facts, requests, now, max_rows)
            if isinstance(decided, Questions):
                facts = self._answer(facts, decided, now)
            elif (learned := self._conflict(facts, decided)) is None:
                assert decided.rows <= max_rows, "more rows than a transaction takes"
                assert decided.rows == _rows(decided)
                self._commit(decided)
                return decided
            else:
                facts = learned
        raise AssertionError("it asks and tries without end")

    def all(self, *requests: Request, at: datetime = NOON) -> list[Outcome]:
        """The outcomes of requests that are decided in one plan."""
        outcomes = self.plan(requests, at).outcomes
        return [outcomes[place] for place in range(len(requests))]

    def one(self, request: Request, at: datetime = NOON) -> Outcome:
        """The outcome of a request that comes alone."""
        return self.all(request, at=at)[0]

    def heartbeat(self, session_id: str, now: datetime, borrowed_until: datetime | None = None) -> bool:
        """A heartbeat: extends the row if it is there, whatever the state says; or confirms a borrowing."""
        if session_id not in self.active or self.state is None:
            return False
        row, terms = self.active[session_id].value, self.state.value.terms
        ordinary_end, _ = terms.lease_end(now)
        borrowed = borrowed_until is not None and borrowed_until > ordinary_end
        until = borrowed_until if borrowed_until and borrowed else ordinary_end
        renewed = replace(row, heartbeat_at=now, expires_at=until, lapses_at=terms.lapse(now, until), borrowed=borrowed)
        self.active[session_id] = self._versioned(renewed)
        return True

    def set_state(self, *, suspended: bool | None = None, collect: bool | None = None) -> None:
        """What an operator does."""
        assert self.state is not None
        state = self.state.value
        if suspended is not None:
            state = replace(state, status=Status.SUSPENDED if suspended else Status.ACTIVE)
        if collect is not None:
            state = replace(state, collect=collect)
        self.state = self._versioned(state)

    @property
    def in_use(self) -> int:
        """The state's count of seats."""
        return self.state.value.in_use if self.state else 0

    @property
    def line(self) -> Line:
        """All places, also of those who have left."""
        return self.state.value.line if self.state else ()

    def check(self) -> None:
        """What must hold after every plan, whatever it was."""
        sessions = [row.value for row in self.active.values()]
        assert self.in_use == len({session.holder for session in sessions if session.holder})
        counted = {holder: row.value for holder, row in self.seats.items()}
        assert counted == Counter(session.holder for session in sessions if session.shares)
        running = {(session.id, session.started_at) for session in sessions}
        over = [(each.session.id, each.session.started_at) for each in self.ended]
        assert len(over) == len(set(over)), "a session ended twice"
        assert running.isdisjoint(over), "a session is both active and ended"
        waiting = [place.session_id for place in self.line]
        assert len(waiting) == len(set(waiting)) <= MOST_PLACES
        assert not self.active.keys() & set(waiting), "a session is active, and waits in line"

    def _versioned(self, value: Any) -> Versioned[Any]:
        self.versions += 1
        return Versioned(value, str(self.versions))

    def _answer(self, facts: Facts, questions: Questions, now: datetime) -> Facts:
        self.asked += 1
        if questions.state:
            assert not facts.fresh, "asks for a state that was just read"
            return self._with_state(facts)
        if questions.outage:
            assert facts.outage is UNKNOWN, "asks for an outage that is known"
            facts.outage = self.outage
        if questions.file:
            assert facts.file is UNKNOWN, "asks for a file that is known"
            facts.file = self.file is not None
            return facts
        sessions = questions.sessions | questions.repeats
        assert (
            questions.lapsing
            or questions.outage
            or sessions - facts.sessions.keys()
            or questions.seats - facts.seats.keys()
        )
        facts.learn({session_id: self.active.get(session_id) for session_id in sessions})
        facts.seats.update({holder: self.seats.get(holder) for holder in questions.seats})
        if questions.lapsing:
            assert not facts.lapsing or facts.lapsing.until <= now, "asks who lapses, and was just told"
            assert self.state is not None, "asks for the sessions of a license that has none"
            self.lapsing = facts.lapsing = self._who_lapses(now, self.state.value.terms)
            facts.asked = self.lapsing.until > now
        return facts

    def _who_lapses(self, now: datetime, terms: Terms) -> Lapsing:
        """All who lapse soon; or, if so many have lapsed that a reader stops, some of those alone."""
        lapsed = {name: row for name, row in self.active.items() if row.value.lapse_after(self.outage) <= now}
        if len(lapsed) >= self.enough:
            return Lapsing(now, dict(list(lapsed.items())[: self.enough]))
        until = lapsing_until(now, terms)
        return Lapsing(until, {name: row for name, row in self.active.items() if row.value.lapses_at <= until})

    def _with_state(self, facts: Facts) -> Facts:
        facts = facts.present()
        facts.state, facts.fresh, facts.lapsing = self.state, True, self.lapsing
        return facts

    def _conflict(self, facts: Facts, plan: Plan) -> Facts | None:
        """None if all rows are as the plan assumes; otherwise the facts with the first row that is not."""
        if plan.changes_state and plan.before != self.state:
            return self._with_state(facts)
        assumed = {session.id: "" for session in plan.started}
        changed = {
            **{row.value.id: row.etag for row in plan.renewed},
            **{row.value.session.id: row.etag for row in plan.ended},
        }
        assert assumed.keys().isdisjoint(changed), "a row comes twice"
        assert len(changed) == len(plan.renewed) + len(plan.ended), "a row comes twice"
        for session_id, etag in (assumed | changed).items():
            row = self.active.get(session_id)
            if (row.etag if row else "") != etag:
                facts.learn({session_id: row})
                return facts
        for holder, change in plan.seats.items():
            if change.needs_write and self.seats.get(holder) != change.before:
                facts.seats[holder] = self.seats.get(holder)
                return facts
        return None

    def _commit(self, plan: Plan) -> None:
        if plan.state and plan.changes_state:
            if self.state is None or self.state.value.terms != plan.state.terms:
                self.lapsing = None
            self.state = self._versioned(plan.state)
        assert not plan.drops_file or self.file, "deletes a file that is not there"
        if plan.file or plan.drops_file:
            self.file = self._versioned(plan.file) if plan.file else None
        for session in plan.started:
            self.active[session.id] = self._versioned(session)
        for row in plan.renewed:
            self.active[row.value.id] = self._versioned(row.value)
        for ended in plan.ended:
            del self.active[ended.value.session.id]
            self.ended.append(ended.value)
        for holder, change in plan.seats.items():
            if change.sessions:
                self.seats[holder] = self._versioned(change.sessions)
            elif change.before:
                del self.seats[holder]
        self.denied.update(plan.denied)


def _rows(plan: Plan) -> int:
    changed = len(plan.started) + len(plan.renewed) + 2 * len(plan.ended)
    return changed + len(plan.seats) + len(plan.denied) + (1 if plan.file or plan.drops_file else 0)
