"""`licensing license sessions` and `release`: who holds seats, a recall, and a computer that is lost."""

import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from licensing.rules.license import Refusal
from licensing.rules.model import EndReason, Terms
from licensing.rules.requests import Full, Granted, Outcome, Recall, Refused, Request
from licensing.storage.ledger import Heartbeat, Ledger
from licensing.storage.register import AuditEntry, Register
from licensing.storage.tables import Tables
from tests.cli.conftest import Do, Licensing, Said
from tests.factories import Clock, new_license_id, new_session_id, start, terms
from tests.register_rows import Seen, look

DAY = 86400
CACHED = 60
"""How old a process's copy of a license's state may be."""


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Customer:
    """A license whose programs start at a time of their own."""

    do: Do[Any]
    license: str
    terms: Terms

    def asks(self, *requests: Request | Heartbeat, ago: float = 0) -> Outcome:
        """The outcome of the last request, all made so many seconds ago."""

        async def ask(tables: Tables) -> Any:
            ledger = Ledger(Register(tables), Clock(now() - timedelta(seconds=ago)), serves=False)
            for request in requests:
                if isinstance(request, Heartbeat):
                    assert await ledger.heartbeat(self.license, request)
                else:
                    outcome = (await ledger.submit(self.license, request)).outcome
            return outcome

        outcome: Outcome = self.do(ask)
        return outcome

    def runs(self, ago: float = 0, heartbeat_ago: float | None = None, lease: float = 900, **how: Any) -> str:
        """A program that has started, and was heard of last, so many seconds ago; its session."""
        session = new_session_id()
        requests: list[Request | Heartbeat] = [start(session, self.terms, **how)]
        if heartbeat_ago is not None:
            at = now() - timedelta(seconds=heartbeat_ago)
            until = at + timedelta(seconds=lease)
            requests.append(Heartbeat(session, at, until, self.terms.lapse(at, until), lease > 900))
        assert isinstance(self.asks(*requests, ago=ago), Granted)
        return session

    def look(self) -> Seen:
        async def seen(tables: Tables) -> Seen:
            return await look(tables, self.license)

        found: Seen = self.do(seen)
        return found

    def audit(self) -> list[AuditEntry]:
        async def entries(tables: Tables) -> list[AuditEntry]:
            month = f"{datetime.now(UTC):%Y-%m}"
            found = [entry async for entry in Register(tables).audit(month)]
            return [entry for entry in found if entry.subject.startswith(self.license)]

        found: list[AuditEntry] = self.do(entries)
        return found


@pytest.fixture
def acme(do: Do[Any]) -> Customer:
    return Customer(do, new_license_id(), terms(seats=3))


@pytest.fixture
def strict(do: Do[Any]) -> Customer:
    return Customer(do, new_license_id(), terms(seats=1, grace_seconds=43200, hold_seconds=43260))


def said_times(said: Said) -> list[datetime]:
    return [datetime.fromisoformat(f"{text}+00:00") for text in re.findall(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", said.err)]


def near(seconds: float) -> Any:
    return pytest.approx((now() + timedelta(seconds=seconds)).timestamp(), abs=60)


# sessions


def test_each_session_is_listed_with_its_times_and_where_it_stands(licensing: Licensing, acme: Customer) -> None:
    borrowed = acme.runs(5000, 4990, 14 * DAY)
    silent = acme.runs(4000, 3000)
    running = acme.runs(600, 300)
    said = licensing("license", "sessions", acme.license, "--json")
    assert (said.code, said.err) == (0, "")
    found = json.loads(said.out)
    assert [(each["session"], each["state"]) for each in found] == [
        (borrowed, "borrowed"),
        (silent, "silent"),
        (running, "running"),
    ]
    assert found[2].keys() == {"session", "started_at", "heartbeat_at", "expires_at", "lapses_at", "state"}
    times = [datetime.fromisoformat(found[2][name]).timestamp() for name in list(found[2])[1:5]]
    assert times == [near(-600), near(-300), near(600), near(600)]
    shown = licensing("license", "sessions", acme.license)
    assert re.search(rf"{running} .* running", shown.out)
    assert "3 seats of 3 in use" in shown.err


def test_a_held_and_a_recalled_session_say_so_and_nobody_is_named(licensing: Licensing, strict: Customer) -> None:
    held = strict.runs(5000, 4000)
    said = licensing("license", "sessions", strict.license, "--json")
    assert [(each["session"], each["state"]) for each in json.loads(said.out)] == [(held, "held")]
    row = strict.look().active[held]
    assert not any(str(row[name]) in said.out for name in ("user", "host", "ip"))
    strict.asks(Recall(held))
    said = licensing("license", "sessions", strict.license, "--json")
    assert [each["state"] for each in json.loads(said.out)] == ["recalled"]


def test_sessions_of_a_license_that_is_not_there(licensing: Licensing, made: object, acme: Customer) -> None:
    for typed in (acme.license, "Ada Lovelace"):
        said = licensing("license", "sessions", typed)
        assert (said.code, said.out) == (1, "")
    assert "Lovelace" not in said.err


# release


def test_a_release_is_a_recall_and_says_when_the_seat_is_free(licensing: Licensing, acme: Customer) -> None:
    session = acme.runs(600, 300)
    said = licensing("license", "release", acme.license, session)
    assert (said.code, said.out) == (0, "")
    assert [time.timestamp() for time in said_times(said)] == [near(CACHED + 900)]
    seen = acme.look()
    assert (list(seen.active), seen.state["in_use"]) == ([session], 1)
    assert acme.asks(start(session, acme.terms)) == Refused(Refusal.RECALLED)
    (entry,) = acme.audit()
    assert (entry.what, entry.subject, entry.outcome) == ("release", f"{acme.license} {session}", "done")


def test_a_borrowed_seat_is_free_at_the_loans_end(licensing: Licensing, acme: Customer) -> None:
    said = licensing("license", "release", acme.license, acme.runs(600, 600, 14 * DAY))
    assert "borrowed" in said.err
    assert [time.timestamp() for time in said_times(said)] == [near(14 * DAY - 600)]


def test_under_a_hold_a_seat_may_be_held_after_a_last_heartbeat(licensing: Licensing, strict: Customer) -> None:
    said = licensing("license", "release", strict.license, strict.runs(600, 300))
    assert [time.timestamp() for time in said_times(said)] == [near(CACHED + 43260)]


def test_a_lost_computer_frees_its_seat_at_once_and_two_may_run_for_a_time(
    licensing: Licensing, strict: Customer
) -> None:
    session = strict.runs(600, 300)
    assert isinstance(strict.asks(start(new_session_id(), strict.terms, user="bob")), Full)
    said = licensing("license", "release", strict.license, session, "--lost")
    assert (said.code, said.out) == (0, "")
    assert [time.timestamp() for time in said_times(said)] == [near(CACHED + 43200)]
    assert strict.look().ended[session]["reason"] == EndReason.LOST
    assert isinstance(strict.asks(start(new_session_id(), strict.terms, user="bob")), Granted)
    assert [entry.what for entry in strict.audit()] == ["release --lost"]


@pytest.mark.parametrize("option", [(), ("--lost",)])
def test_what_is_not_active_cannot_be_released(licensing: Licensing, acme: Customer, option: tuple[str, ...]) -> None:
    acme.runs()
    said = licensing("license", "release", acme.license, new_session_id(), *option)
    assert (said.code, said.out) == (1, "")
    assert "No such session is active" in said.err


# Who waits.


def test_who_waits_is_listed_after_the_sessions_in_the_order_of_the_line(
    licensing: Licensing, strict: Customer
) -> None:
    held = strict.runs(60)
    waiting = [new_session_id(), new_session_id()]
    for session in waiting:
        strict.asks(start(session, strict.terms, wait=True), ago=5)
    said = licensing("license", "sessions", strict.license, "--json")
    found = json.loads(said.out)
    assert [(each["session"], each["state"]) for each in found] == [
        (held, "running"),
        *((session, "waiting") for session in waiting),
    ]
    assert [each.get("position") for each in found] == [None, 1, 2]
    assert found[1]["expires_at"] is None
    times = [datetime.fromisoformat(found[2][name]).timestamp() for name in ("started_at", "heartbeat_at", "lapses_at")]
    assert times == [near(-5), near(-5), near(40)]
    shown = licensing("license", "sessions", strict.license)
    assert "place in line" in shown.out
    assert "1 seat of 1 in use, 2 waiting" in shown.err


def test_a_place_that_nobody_needs_is_cleared(licensing: Licensing, strict: Customer) -> None:
    strict.runs(60)
    made_up, real = new_session_id(), new_session_id()
    for session in (made_up, real):
        strict.asks(start(session, strict.terms, wait=True), ago=5)
    said = licensing("license", "release", strict.license, made_up)
    assert (said.code, said.out) == (0, "")
    assert "place in line is cleared" in said.err
    assert strict.audit()[-1].subject == f"{strict.license} {made_up}"
    outcome = strict.asks(start(real, strict.terms, wait=True))
    assert isinstance(outcome, Full)
    assert outcome.position == 1
    again = licensing("license", "release", strict.license, made_up)
    assert (again.code, again.out) == (1, "")
    assert "none waits in line" in again.err


def test_the_whole_line_is_cleared(licensing: Licensing, strict: Customer) -> None:
    strict.runs(60)
    for _ in range(3):
        strict.asks(start(new_session_id(), strict.terms, wait=True), ago=5)
    assert "3 places in line cleared" in licensing("license", "release", strict.license, "--waiting").err
    assert strict.audit()[-1].what == "release --waiting"
    assert "Nobody waits" in licensing("license", "release", strict.license, "--waiting").err
    assert [each["state"] for each in json.loads(licensing("license", "sessions", strict.license, "--json").out)] == [
        "running"
    ]


@pytest.mark.parametrize("typed", [(), ("--waiting", "--lost"), (new_session_id(), "--waiting")])
def test_release_takes_a_session_or_the_line(licensing: Licensing, strict: Customer, typed: tuple[str, ...]) -> None:
    said = licensing("license", "release", strict.license, *typed)
    assert said.code == 2
    assert "nothing was released" in said.err
