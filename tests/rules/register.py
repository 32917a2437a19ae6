"""The rows of one license in memory, with the one thing that `settle` rests on: a transaction is done as a whole if
all rows are as it assumes, else not at all.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from licensing.rules.license import Kind, Sharing
from licensing.rules.seats import (
    Departure,
    Facts,
    Head,
    Known,
    Outcome,
    Person,
    Plan,
    Questions,
    Request,
    Session,
    Start,
    Terms,
    settle,
)

NOON = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
ROOM = 99
TRIES = 12


def later(seconds: float) -> datetime:
    """A moment, by the seconds since noon."""
    return NOON + timedelta(seconds=seconds)


def terms(**changes: Any) -> Terms:
    """Terms of two floating seats, with a lease of 900 s; `changes` replaces some."""
    values: dict[str, Any] = {
        "serial": 1,
        "organization": "acme",
        "organization_name": "Acme",
        "product": "Water",
        "kind": Kind.FLOATING,
        "seats": 2,
        "overdraft": 0,
        "sharing": Sharing.NONE,
        "heartbeat": 300,
        "lease": 900,
        "borrow": 0,
        "valid_from": NOON - timedelta(days=1),
        "valid_until": NOON + timedelta(days=365),
        "project": "",
        "billing": "none",
        **changes,
    }
    return Terms(**values)


def person(user: str = "ada", host: str = "pc", pepper: str = "new") -> Person:
    """Somebody under one pepper; pseudonyms that can be read."""
    return Person(f"{user}/{pepper}", f"{host}/{pepper}", f"net/{pepper}", pepper)


def start(
    session: str,
    user: str = "ada",
    host: str = "pc",
    *,
    under: Terms | None = None,
    peppers: Sequence[str] = ("new",),
    borrow: int = 0,
) -> Start:
    """A start by a user on a host, who is known under each of `peppers`, the current one first."""
    return Start(session, under or terms(), tuple(person(user, host, pepper) for pepper in peppers), borrow)


@dataclass
class Register:
    """The rows of a license. `turn` is what a process does with a group of requests."""

    head: Known[Head] | None = None
    active: dict[str, Known[Session]] = field(default_factory=dict)
    seats: dict[str, Known[int]] = field(default_factory=dict)
    ended: list[Departure] = field(default_factory=list)
    denied: Counter[str] = field(default_factory=Counter)
    quiet_until: datetime | None = None
    asked: int = 0
    versions: int = 0

    def turn(
        self, requests: Sequence[Request], now: datetime, room: int = ROOM, remembered: Known[Head] | None = None
    ) -> Plan:
        """Settle a group and commit the turn; `remembered` is a head that was read before, and may be out of date."""
        facts = Facts(remembered, quiet_until=self.quiet_until if remembered else None)
        for _ in range(TRIES):
            decision = settle(facts, requests, now, room)
            if isinstance(decision, Questions):
                self._answer(facts, decision, now)
            elif self._fits(facts, decision):
                assert _rows(decision) <= room, "more rows than a transaction takes"
                self._commit(facts, decision)
                return decision
        raise AssertionError("it asks and tries without end")

    def all(self, *requests: Request, at: datetime = NOON) -> list[Outcome]:
        """The outcomes of requests that are settled in one turn."""
        outcomes = self.turn(requests, at).outcomes
        return [outcomes[place] for place in range(len(requests))]

    def one(self, request: Request, at: datetime = NOON) -> Outcome:
        """The outcome of a request that comes alone."""
        return self.all(request, at=at)[0]

    def beat(self, session: str, now: datetime) -> bool:
        """A heartbeat: extends the row if it is there, whatever the head says."""
        if session not in self.active or self.head is None:
            return False
        row = self.active[session].value
        until = max(row.expires_at, now + timedelta(seconds=self.head.value.terms.lease))
        self.active[session] = self._known(replace(row, heartbeat_at=now, expires_at=until))
        return True

    def set_head(self, **changes: Any) -> None:
        """What an operator does: `suspended`, `collect`."""
        assert self.head is not None
        self.head = self._known(replace(self.head.value, **changes))

    @property
    def in_use(self) -> int:
        """The head's count of seats."""
        return self.head.value.in_use if self.head else 0

    def check(self) -> None:
        """What must hold after every turn, whatever it was."""
        sessions = [known.value for known in self.active.values()]
        assert self.in_use == len({session.holder for session in sessions if session.holder})
        counted = {holder: known.value for holder, known in self.seats.items()}
        assert counted == Counter(session.holder for session in sessions if session.shares)
        running = {(session.id, session.started_at) for session in sessions}
        over = [(each.row.value.id, each.row.value.started_at) for each in self.ended]
        assert len(over) == len(set(over)), "a session ended twice"
        assert running.isdisjoint(over), "a session is both active and ended"

    def _known(self, value: Any) -> Known[Any]:
        self.versions += 1
        return Known(value, str(self.versions))

    def _answer(self, facts: Facts, questions: Questions, now: datetime) -> None:
        self.asked += 1
        if questions.head:
            assert not facts.fresh, "asks for a head that was just read"
            facts.head, facts.fresh, facts.quiet_until = self.head, True, self.quiet_until
            return
        assert questions.survey or questions.active - facts.active.keys() or questions.seats - facts.seats.keys()
        facts.active.update({session: self.active.get(session) for session in questions.active})
        facts.seats.update({holder: self.seats.get(holder) for holder in questions.seats})
        if questions.survey:
            assert not facts.surveyed, "asks for a survey that was just made"
            facts.active, facts.surveyed = dict(self.active), True
            assert self.head is not None, "asks for the sessions of a license that has none"
            lease = timedelta(seconds=self.head.value.terms.lease)
            ends = [known.value.expires_at for known in self.active.values()]
            self.quiet_until = facts.quiet_until = min([*ends, now + lease])

    def _fits(self, facts: Facts, turn: Plan) -> bool:
        """Whether all rows are as the turn assumes; if not, the first that is not becomes a fact."""
        if _moves_head(facts, turn) and facts.head != self.head:
            facts.head, facts.fresh, facts.quiet_until = self.head, True, self.quiet_until
            return False
        assumed = {session.id: "" for session in turn.arrivals}
        changed = [*turn.revivals, *(each.row for each in turn.departures)]
        assert len({*assumed, *(row.value.id for row in changed)}) == len(assumed) + len(changed), "a row comes twice"
        assumed |= {row.value.id: row.version for row in changed}
        for session, version in assumed.items():
            row = self.active.get(session)
            if (row.version if row else "") != version:
                facts.active[session] = row
                return False
        for holder, (known, sessions) in turn.seats.items():
            if known is None and not sessions:
                continue  # nothing is written, so that nothing can be refused
            if self.seats.get(holder) != known:
                facts.seats[holder] = self.seats.get(holder)
                return False
        return True

    def _commit(self, facts: Facts, turn: Plan) -> None:
        if turn.head and _moves_head(facts, turn):
            if self.head is None or self.head.value.terms != turn.head.terms:
                self.quiet_until = None
            self.head = self._known(turn.head)
        for session in turn.arrivals:
            self.active[session.id] = self._known(session)
        for row in turn.revivals:
            self.active[row.value.id] = self._known(row.value)
        for departure in turn.departures:
            del self.active[departure.row.value.id]
            self.ended.append(departure)
        for holder, (known, sessions) in turn.seats.items():
            if sessions:
                self.seats[holder] = self._known(sessions)
            elif known:
                del self.seats[holder]
        self.denied.update(turn.denied)


def _moves_head(facts: Facts, turn: Plan) -> bool:
    return bool(turn.arrivals or turn.departures or facts.head is None or facts.head.value != turn.head)


def _rows(turn: Plan) -> int:
    changed = len(turn.arrivals) + len(turn.revivals) + 2 * len(turn.departures)
    return changed + len(turn.seats) + len(turn.denied)
