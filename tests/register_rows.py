"""Rows of the register: a license's past written past the ledger, and all rows read back."""

import asyncio
import json
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from licensing.errors import ConflictError
from licensing.rules.model import EndedSession, EndReason, LicenseState, Person, Session, Terms, Versioned, holder_of
from licensing.rules.totals import DayTotals, MonthTotals
from licensing.rules.usage import Denial, Use
from licensing.services.retention import _Run
from licensing.storage import register as rows
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.retry import with_retries
from licensing.storage.tables import TRANSACTION_ROWS, EdmType, Row, Table, Tables, Write, create, put
from licensing.storage.writes import single
from tests.factories import new_id, new_license_id, new_session_id, terms
from tests.reference import ReferenceTotals, Totals

PARALLEL = 4
TYPE = "@odata.type"


# Written.


@dataclass
class PastLicense:
    """A license and its past: `uses` and `denials` are what happened, `writes` the rows of it.

    Without `final_day` no totals are final. With it, the totals up to that day are final and left out.
    """

    terms: Terms = field(default_factory=terms)
    final_day: date | None = None
    id: str = field(default_factory=new_license_id)
    uses: list[Use] = field(default_factory=list)
    denials: list[Denial] = field(default_factory=list)
    writes: list[Write] = field(default_factory=list)
    running: list[Session] = field(default_factory=list)

    def ended(
        self,
        started_at: datetime,
        ended_at: datetime,
        user: str = "ann",
        host: str = "desk",
        *,
        session_id: str = "",
        borrowed: bool = False,
        overdraft: bool = False,
        reason: EndReason = EndReason.ENDED,
    ) -> None:
        """A session that has ended."""
        session = self._session(started_at, ended_at, ended_at, user, host, session_id, borrowed, overdraft)
        self.uses.append(Use.of(session, ended_at))
        ended = EndedSession(session, ended_at, reason)
        self.writes.append(rows.end_changes(Versioned(ended, ""))[1].write)

    def runs(
        self,
        started_at: datetime,
        heartbeat_at: datetime,
        expires_at: datetime,
        user: str = "ann",
        host: str = "desk",
        *,
        session_id: str = "",
        borrowed: bool = False,
        crashed: bool = False,
    ) -> None:
        """A session that is active; one that `crashed` was over at its last sign of life."""
        session = self._session(started_at, heartbeat_at, expires_at, user, host, session_id, borrowed, False)
        over = expires_at if borrowed else heartbeat_at
        self.uses.append(Use.of(session, over if crashed else None))
        self.running.append(session)
        self.writes.append(rows.start_change(session).write)

    def denied(self, first_at: datetime, session_id: str = "") -> None:
        """A start that was refused."""
        denial = Denial(session_id or new_session_id(), first_at)
        self.denials.append(denial)
        self.writes.append(rows.denial_change(denial.session_id, first_at, again=False).write)

    async def write(self, tables: Tables) -> None:
        """Write the rows into a register."""
        await Register(tables).add_to_directory(self.id, self.terms)
        shared: dict[str, int] = {}
        for session in self.running:
            if session.shares:
                shared[session.holder] = shared.get(session.holder, 0) + 1
        in_use = len({session.holder for session in self.running if session.holder})
        columns = {**rows.STATES.encode(LicenseState(self.terms, in_use=in_use)), "commit": "made"}
        if self.final_day:
            columns[rows.FINAL_DAY] = str(self.final_day)
        state = create(rows.STATE, columns)
        seats = [create(rows.SEAT + holder, {"sessions": count}) for holder, count in shared.items()]
        await commit_all(tables, self.id, [state, *seats, *self.writes])

    def reference(self, as_of: datetime, tick: timedelta = timedelta(minutes=1)) -> ReferenceTotals:
        """The reference totals, where all times are whole ticks."""
        return ReferenceTotals(self.uses, self.denials, as_of, tick)

    def first_day(self) -> date:
        """The first day whose totals are not final, or the first on which anything happened."""
        if self.final_day:
            return self.final_day + timedelta(days=1)
        return min(at.date() for at in (*(u.started_at for u in self.uses), *(d.first_at for d in self.denials)))

    def _session(
        self,
        started_at: datetime,
        heartbeat_at: datetime,
        expires_at: datetime,
        user: str,
        host: str,
        session_id: str,
        borrowed: bool,
        overdraft: bool,
    ) -> Session:
        session_id = session_id or new_session_id()
        who = Person(user=user, host=host, ip="net", pepper="p1")
        return Session(
            id=session_id,
            started_at=started_at,
            heartbeat_at=heartbeat_at,
            expires_at=expires_at,
            user=who.user,
            host=who.host,
            ip=who.ip,
            pepper=who.pepper,
            holder=holder_of(session_id, who, self.terms),
            borrowed=borrowed,
            overdraft=overdraft,
        )


async def commit_all(tables: Tables, license_id: str, writes: list[Write]) -> None:
    """Write new rows in full transactions, several at a time, with retries."""
    places = asyncio.Semaphore(PARALLEL)

    async def commit(batch: list[Write]) -> None:
        async with places:
            with suppress(ConflictError):  # an earlier try succeeded, and its reply was lost
                await with_retries(lambda: tables.commit("register", license_id, batch))

    batches = (writes[start : start + TRANSACTION_ROWS] for start in range(0, len(writes), TRANSACTION_ROWS))
    await asyncio.gather(*map(commit, batches))


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
        """Write the rows of a past: `now` is the last heartbeat of running sessions, `state` fields of the state."""
        await Register(self.tables).add_to_directory(self.license, self.terms)
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
                pepper=use.pepper or "p",
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
        """Run retention for this organization alone; `others` are its other licenses."""
        names = [self.license, *(other.license for other in others)]
        ledger, places = Ledger(Register(self.tables), lambda: as_of), asyncio.Semaphore(1)
        run = _Run(
            Register(self.tables),
            ledger,
            as_of,
            small_group,
            dry_run=False,
            license_slots=places,
            report=lambda license_id: None,
        )
        await run.organization(self.organization, names)


def new_customer(tables: Tables, **changes: Any) -> Customer:
    """A customer with terms as `factories.terms` makes them, and ids that no other test has."""
    return Customer(tables, terms(**{"organization_id": new_id("org"), **changes}), new_license_id())


# Read.


def values_of(row: Row) -> dict[str, Any]:
    """The columns of a row that was read whole as they were written, without those of the store."""
    columns = row.content
    for name in [name for name in columns if name.endswith(TYPE)]:
        kind, column = columns.pop(name), name.removesuffix(TYPE)
        text = columns[column]
        columns[column] = datetime.fromisoformat(text) if kind == EdmType.DATETIME else (int(text), kind)
    return columns


def as_read(key: str, columns: dict[str, Any]) -> Row:
    """A row as it is read after these columns were written."""
    return Row(key, json.loads(single("", "register", "", put(key, columns)).body))


@dataclass
class Seen:
    """All rows of a license, by kind."""

    state: dict[str, Any]
    active: dict[str, dict[str, Any]]
    ended: dict[str, dict[str, Any]]
    denied: dict[str, dict[str, Any]]
    seats: dict[str, int]

    def check(self) -> None:
        """Check the rows against the ledger's invariants."""
        holders = {row["holder"] for row in self.active.values() if row["holder"]}
        assert self.state["in_use"] == len(holders)
        counted: dict[str, int] = {}
        for session_id, row in self.active.items():
            if row["holder"] not in ("", session_id):
                counted[row["holder"]] = counted.get(row["holder"], 0) + 1
        assert self.seats == counted
        assert not self.active.keys() & self.ended.keys()


async def look(tables: Tables, license_id: str) -> Seen:
    """Read all rows of a license except its totals, past the ledger."""
    seen = Seen({}, {}, {}, {}, {})
    async for row in tables.rows("register", license_id):
        kind, _, name = row.key.partition(":")
        columns = values_of(row)
        if row.key == rows.STATE:
            seen.state = columns
        elif kind == "active":
            seen.active[name] = columns
        elif kind == "ended":
            assert name.rpartition(":")[2] not in seen.ended, "a session ended twice"
            seen.ended[name.rpartition(":")[2]] = columns
        elif kind == "denied":
            seen.denied[name.rpartition(":")[2]] = columns
        elif kind == "seat":
            seen.seats[name] = columns["sessions"]
        elif kind not in ("day", "month", "late", "file"):
            raise AssertionError(f"an unknown row: {row.key}")
    return seen


NOT_COUNTED = {"billing", "project", "product", "seats", "erased", "erased_part", "corrected_at", "erased_grace"}
"""What a day's totals have besides counts."""


def counts_of(day: DayTotals) -> Totals:
    """The counts of a day's totals, by name."""
    return {name: value for name, value in asdict(day).items() if name not in NOT_COUNTED}


def counts_of_month(month: MonthTotals) -> Totals:
    """The counts of a month's totals, by name; its minutes over all projects, within the seats and beyond."""
    parts = [(part.within, part.overdraft) for part in month.minutes or ()]
    return {**asdict(month), "minutes": tuple(map(sum, zip(*parts, strict=True))) or None}


async def kept_days(tables: Tables, license_id: str) -> dict[date, Totals]:
    """The counts of all days that are kept."""
    found = tables.rows("register", license_id, rows.DAY, rows.beyond(rows.DAY))
    totals = [rows.DAYS.decode(row) async for row in found]
    return {each.day: counts_of(each) for each in totals}


async def kept_months(tables: Tables, license_id: str) -> dict[str, Totals]:
    """The totals of all months that are kept."""
    found = tables.rows("register", license_id, rows.MONTH, rows.beyond(rows.MONTH))
    totals = [rows.MONTHS.decode(row) async for row in found]
    return {each.month: counts_of_month(each) for each in totals}


async def keys(tables: Tables, license_id: str, kind: str) -> list[str]:
    """The keys of all rows of a kind."""
    return [row.key async for row in tables.rows("register", license_id, kind, rows.beyond(kind), columns=())]


Dump = dict[tuple[str, str], dict[str, Any]]


async def dump(tables: Tables, *, versions: bool = False) -> Dump:
    """All rows by partition and key; with `versions`, also the ETags of all rows except license states."""
    found: Dump = {}
    tables_of_ours: tuple[Table, ...] = ("register", "directory")
    for table in tables_of_ours:
        async for row in tables.rows(table, first=""):
            columns = values_of(row)
            columns.pop("commit", None)
            columns.pop("correction", None)
            if versions and row.key != rows.STATE:
                columns["etag"] = row.etag
            found[row.partition, row.key] = columns
    return found
