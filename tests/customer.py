"""A customer with one license, whose past is written straight into the store: what the ledger would have left there."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from licensing.rules.model import EndedSession, EndReason, LicenseState, Session, Terms, Versioned
from licensing.rules.usage import Denial, Use
from licensing.services.retention import _Run
from licensing.storage import register as rows
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import TRANSACTION_ROWS, Tables, put
from tests import support
from tests.storage.desk import new_license, terms


@dataclass
class Customer:
    """An organization and its license."""

    tables: Tables
    terms: Terms
    license: str

    @property
    def organization(self) -> str:
        """The organization's id."""
        return self.terms.organization_id

    async def used(
        self, uses: Iterable[Use] = (), denials: Iterable[Denial] = (), now: datetime | None = None, **state: Any
    ) -> None:
        """Write the rows of all that happened; `now` is the last heartbeat of what still runs, `state` its fields."""
        await Register(self.tables).add_license(self.license, self.terms)
        writes = [put(rows.STATE, {**rows.STATES.encode(LicenseState(self.terms, **state)), "commit": "the last one"})]
        for use in uses:
            last = use.ended_at or now or datetime.now(UTC)
            session = Session(
                id=use.session_id,
                started_at=use.started_at,
                heartbeat_at=last,
                expires_at=last + timedelta(minutes=15),
                user=use.user,
                host=use.host,
                ip="p-ip",
                pepper="p",
                holder=use.holder,
                overdraft=use.overdraft,
            )
            if use.ended_at is None:
                writes.append(rows.start_change(session).write)
            else:
                ended = EndedSession(session, use.ended_at, EndReason.ENDED)
                writes.append(rows.end_changes(Versioned(ended, ""))[1].write)
        writes += [rows.denial_change(denial.session_id, denial.first_at, again=False).write for denial in denials]
        for start in range(0, len(writes), TRANSACTION_ROWS):
            await self.tables.commit("register", self.license, writes[start : start + TRANSACTION_ROWS])

    async def night(self, as_of: datetime, *others: "Customer", small_group: int = 3) -> None:
        """Do what a nightly run does, for this organization alone; `others` are its other licenses."""
        names = [self.license, *(other.license for other in others)]
        ledger, places = Ledger(Register(self.tables), lambda: as_of), asyncio.Semaphore(1)
        run = _Run(
            Register(self.tables), ledger, as_of, small_group, dry_run=False, places=places, report=lambda license: None
        )
        await run.organization(self.organization, names)


def new_customer(tables: Tables, **changes: Any) -> Customer:
    """A customer with terms as `tests.storage.desk.terms` makes them, and ids that no other test has."""
    return Customer(tables, terms(**{"organization_id": support.new_id("org"), **changes}), new_license())


def at(day: date, hour: float) -> datetime:
    """An hour of a UTC day."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(hours=hour)


def use(session: str, begin: datetime, end: datetime | None, user: str = "", **changes: Any) -> Use:
    """A session on a seat of its own, by a user of its own unless one is named."""
    usual = {"user": user or session, "host": f"pc-{user or session}", "holder": session, "overdraft": False}
    return Use(session_id=session, started_at=begin, ended_at=end, **{**usual, **changes})
