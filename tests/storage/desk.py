"""Values that the ledger's tests are made of, and stores that misbehave around a real one."""

import itertools
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from licensing.errors import UnavailableError
from licensing.rules.license import Billing, Kind, Sharing
from licensing.rules.model import Person, Terms
from licensing.rules.requests import Start
from licensing.storage import register as rows
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Row, Table, Tables, Write

_numbers = itertools.count()


def new_license() -> str:
    """An id that no other test uses."""
    return f"lic-{next(_numbers)}-{uuid.uuid4().hex[:8]}"


def new_session() -> str:
    """A session's id."""
    return str(uuid.uuid4())


def terms(**changes: Any) -> Terms:
    """The terms of a floating license with three seats, unless changed."""
    usual: dict[str, Any] = {
        "serial": 1,
        "organization_id": "acme",
        "organization_name": "Acme Water Oy",
        "product": "Fluidit Water",
        "kind": Kind.FLOATING,
        "seats": 3,
        "overdraft": 0,
        "sharing": Sharing.NONE,
        "heartbeat_seconds": 300,
        "lease_seconds": 900,
        "borrow_seconds": 0,
        "valid_from": datetime(2026, 1, 1, tzinfo=UTC),
        "valid_until": datetime(2099, 1, 1, tzinfo=UTC),
        "project": "",
        "billing": Billing.NONE,
    }
    return Terms(**{**usual, **changes})


def person(user: str = "u", host: str = "h", pepper: str = "p1") -> Person:
    """Somebody, as the register would know them."""
    return Person(user=f"{pepper}-{user}", host=f"{pepper}-{host}", ip=f"{pepper}-ip", pepper=pepper)


def start(session: str, under: Terms, user: str = "u", host: str = "h", **changes: Any) -> Start:
    """A start request."""
    return Start(session, under, (person(user, host),), **changes)


@dataclass
class Clock:
    """A clock that goes when told to."""

    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def __call__(self) -> datetime:
        return self.now

    def forward(self, seconds: float) -> None:
        """Let time pass."""
        self.now += timedelta(seconds=seconds)


class Counted(Tables):
    """A real store that counts what it is asked, and can be told to lose requests or replies."""

    def __init__(self, tables: Tables) -> None:
        super().__init__(tables._service, tables._pipeline)
        self.calls: list[str] = []
        self.lose_requests = 0
        self.lose_replies = 0

    async def get(self, table: Table, partition: str, key: str, columns: Sequence[str] | None = None) -> Row | None:
        self.calls.append(f"get {key}")
        return await super().get(table, partition, key, columns)

    def pages(self, table: Table, *args: Any, **kwargs: Any) -> Any:
        self.calls.append(f"range {args[1] if len(args) > 1 else ''}")
        return super().pages(table, *args, **kwargs)

    async def commit(self, table: Table, partition: str, writes: Sequence[Write]) -> list[str]:
        self.calls.append(f"commit {table}")
        if table == "register" and self.lose_requests:
            self.lose_requests -= 1
            raise UnavailableError("the request was lost")
        etags = await super().commit(table, partition, writes)
        if table == "register" and self.lose_replies:
            self.lose_replies -= 1
            raise UnavailableError("the reply was lost")
        return etags


class OneCustomer(Tables):
    """A real store whose directory shows one organization, so that a night's run works on no other test's licenses."""

    def __init__(self, tables: Tables, organization: str) -> None:
        super().__init__(tables._service, tables._pipeline)
        self.organization = organization

    def pages(self, table: Table, partition: str | None = None, *args: Any, **kwargs: Any) -> Any:
        if table == "directory" and partition is None:
            partition = self.organization
        return super().pages(table, partition, *args, **kwargs)


@dataclass
class Seen:
    """All rows of a license, by kind."""

    head: dict[str, Any]
    active: dict[str, dict[str, Any]]
    ended: dict[str, dict[str, Any]]
    denied: dict[str, dict[str, Any]]
    seats: dict[str, int]

    def check(self) -> None:
        """Hold the rows against what the ledger promises."""
        holders = {row["holder"] for row in self.active.values() if row["holder"]}
        assert self.head["in_use"] == len(holders)
        counted: dict[str, int] = {}
        for session, row in self.active.items():
            if row["holder"] not in ("", session):
                counted[row["holder"]] = counted.get(row["holder"], 0) + 1
        assert self.seats == counted
        assert not self.active.keys() & self.ended.keys()


async def look(tables: Tables, license: str) -> Seen:
    """Read everything but figures that the register holds on a license, past the ledger."""
    seen = Seen({}, {}, {}, {}, {})
    async for row in tables.rows("register", license):
        kind, _, name = row.key.partition(":")
        columns = dict(row.columns)
        if row.key == rows.STATE:
            seen.head = columns
        elif kind == "active":
            seen.active[name] = columns
        elif kind == "ended":
            assert name.rpartition(":")[2] not in seen.ended, "a session ended twice"
            seen.ended[name.rpartition(":")[2]] = columns
        elif kind == "denied":
            seen.denied[name.rpartition(":")[2]] = columns
        elif kind == "seat":
            seen.seats[name] = columns["sessions"]
        elif kind not in ("day", "month"):
            raise AssertionError(f"an unknown row: {row.key}")
    return seen


def ledgers(tables: Tables, clock: Clock, count: int) -> list[Ledger]:
    """As many processes' ledgers over one store."""
    return [Ledger(Register(tables), clock) for _ in range(count)]
