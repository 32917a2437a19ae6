"""An organization with its programs, and the operators who serve its people, on a real store."""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from ipaddress import ip_address
from typing import Any

from licensing.crypto.pseudonyms import Peppers
from licensing.rules.billing import Rounding, Statement
from licensing.rules.model import Terms
from licensing.rules.requests import End, Granted, Start
from licensing.services.privacy import PersonQuery, Privacy
from licensing.services.reports import Reports
from licensing.services.retention import run_retention
from licensing.storage import register as rows
from licensing.storage.ledger import Heartbeat, Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Table, Tables
from tests import factories
from tests.factories import Clock, new_session_id, terms
from tests.register_rows import Seen, look, values_of
from tests.stores import OneCustomer

PEPPERS = {"new": bytes(range(32)), "old": bytes(range(1, 33))}
NOON = datetime(2026, 3, 10, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass
class Office:
    """An organization with its programs, and the operators who serve its people. Times go by one clock."""

    tables: Tables
    clock: Clock = field(default_factory=lambda: Clock(NOON))
    organization: str = field(default_factory=lambda: factories.new_id("org"))
    peppers: Peppers = field(default_factory=lambda: Peppers(PEPPERS))

    def __post_init__(self) -> None:
        self.tables = OneCustomer(self.tables, self.organization)
        self.ledger = Ledger(Register(self.tables), self.clock)

    @property
    def privacy(self) -> Privacy:
        return Privacy(Register(self.tables), Ledger(Register(self.tables), self.clock), self.peppers, self.clock)

    def wanted(self, user: str, host: str | None = None, address: str | None = None) -> PersonQuery:
        return PersonQuery(
            self.organization,
            factories.user_hash(user),
            factories.host_hash(host) if host else None,
            ip_address(address) if address else None,
        )

    def terms(self, **changes: Any) -> Terms:
        return terms(organization_id=self.organization, **{"seats": 50, **changes})

    async def begin(
        self, license_id: str, user: str, *, host: str = "pc", address: str = "192.0.2.1", pepper: str = "", **how: Any
    ) -> str:
        """A program starts, under an older pepper where one is named; its session."""
        session = how.pop("session", None) or new_session_id()
        peppers = Peppers({pepper: PEPPERS[pepper]}) if pepper else self.peppers
        hashes = factories.user_hash(user), factories.host_hash(host)
        persons = peppers.persons(self.organization, *hashes, ip_address(address))
        request = Start(session, self.terms(**how), persons)
        outcome = (await self.ledger.submit(license_id, request)).outcome
        assert isinstance(outcome, Granted), outcome
        return session

    async def use(self, license_id: str, user: str, hours: float = 1, **how: Any) -> str:
        """A program runs for some hours; its session."""
        session = await self.begin(license_id, user, **how)
        self.clock.forward(hours * 3600)
        await self.end(license_id, session)
        return session

    async def end(self, license_id: str, session: str) -> None:
        """A program that was heard of until now ends."""
        state = await self.ledger.state(license_id)
        assert state is not None
        lease_end, _ = state.terms.lease_end(self.clock())
        await self.ledger.heartbeat(license_id, Heartbeat(session, self.clock(), lease_end))
        await self.ledger.submit(license_id, End(session))

    async def night(self) -> None:
        """Retention runs."""
        result = await run_retention(Register(self.tables), self.ledger, self.clock(), 3)
        assert (result.failed, result.overdue) == (0, 0)

    async def day(self, license_id: str, day: date) -> dict[str, Any]:
        return await self.columns("register", license_id, rows.day_key(day))

    async def month(self, license_id: str, month: str) -> dict[str, Any]:
        return await self.columns("register", license_id, rows.month_key(month))

    async def people(self, month: str) -> int:
        """How many people the organization's totals of a month count."""
        return int((await self.columns("directory", self.organization, rows.month_key(month)))["users"])

    async def columns(self, table: Table, partition: str, key: str) -> dict[str, Any]:
        row = await self.tables.get(table, partition, key)
        assert row is not None, key
        return values_of(row)

    async def held(self, license_id: str) -> Seen:
        """The rows of a license without totals, checked against the ledger's invariants."""
        seen = await look(self.tables, license_id)
        seen.check()
        return seen

    async def statement(self, month: str, rounding: Rounding = Rounding.EXACT) -> Statement:
        """The statement of a month."""
        statement = await Reports(Register(self.tables), self.clock, 3).statement(month, rounding, self.organization)
        assert statement
        return statement
