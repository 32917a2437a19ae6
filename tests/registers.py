"""Registers that are made of rows: any past at once, on tables of their own."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

from azure.data.tables.aio import TableClient, TableServiceClient

from licensing.errors import ConflictError
from licensing.rules.model import EndedSession, EndReason, LicenseState, Person, Session, Terms, Versioned, holder_of
from licensing.rules.retention import year_before
from licensing.rules.usage import Denial, Use
from licensing.storage import register as rows
from licensing.storage.register import Register
from licensing.storage.retry import with_retries
from licensing.storage.tables import TRANSACTION_ROWS, PipelineAccess, Table, Tables, Write, create
from tests.reckoner import Reckoner
from tests.storage.desk import new_license, new_session, terms

PARALLEL = 4
Result = TypeVar("Result")
Figures = dict[str, object]


class Dies(BaseException):
    """The process has died; nobody catches that."""


class OwnTables(Tables):
    """A register on tables of its own, in a real store. It counts calls and rows read, and can die at any call."""

    def __init__(self, service: TableServiceClient, door: PipelineAccess, prefix: str) -> None:
        super().__init__(service, door)
        self.prefix = prefix
        """What the names of its tables begin with."""
        self.calls = 0
        self.rows_read = 0
        self.writes: list[int] = []
        """How many calls there were before each that writes."""
        self.dies_before: int | None = None
        """The number of the call that is not made any more, nor is any later one."""
        self.dead = asyncio.Event()
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    async def _call(self, table: Table, call: Callable[[], Awaitable[Result]]) -> Result:
        if self.dead.is_set() or self.calls == self.dies_before:
            self.dead.set()
            raise Dies
        self.calls += 1
        self._in_flight += 1
        self._idle.clear()
        try:
            return await super()._call(self._own(table), call)
        except StopAsyncIteration:  # there is no further page, for which nobody was asked
            self.calls -= 1
            raise
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def commit(self, table: Table, partition: str, writes: Sequence[Write]) -> list[str]:
        self.writes.append(self.calls)
        return await super().commit(self._own(table), partition, writes)

    def _client(self, table: Table) -> TableClient:
        return super()._client(self._own(table))

    def _own(self, table: str) -> Any:
        return table if table.startswith(self.prefix) else self.prefix + table

    async def close(self) -> None:
        await self._idle.wait()  # what a dead process has sent arrives all the same
        await super().close()

    async def pages(self, *args: Any, **kwargs: Any) -> Any:
        async for page in super().pages(*args, **kwargs):
            self.rows_read += len(page)
            yield page


Opened = TypeVar("Opened", bound=OwnTables)


@asynccontextmanager
async def register(storage: str, kind: type[Opened], prefix: str = "") -> AsyncIterator[Opened]:
    """Open a new register, or that with a prefix."""
    door = PipelineAccess()
    service = TableServiceClient.from_connection_string(storage, **door.options())
    opened = kind(service, door, prefix or f"r{secrets.token_hex(8)}")
    yield opened
    await opened.close()


@dataclass
class License:
    """A license and its past: `uses` and `denials` are what happened, `writes` the rows that tell it.

    With `final_day`, earlier nights have made the figures up to then; they are left out.
    """

    terms: Terms = field(default_factory=terms)
    final_day: date | None = None
    id: str = field(default_factory=new_license)
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
        session: str = "",
        borrowed: bool = False,
        overdraft: bool = False,
        reason: EndReason = EndReason.ENDED,
    ) -> None:
        """A session that has ended."""
        known = self._session(started_at, ended_at, ended_at, user, host, session, borrowed, overdraft)
        self.uses.append(_use(known, ended_at))
        ended = EndedSession(known, ended_at, reason)
        self.writes.append(rows.end_changes(Versioned(ended, ""))[1].write)

    def runs(
        self,
        started_at: datetime,
        heartbeat_at: datetime,
        expires_at: datetime,
        user: str = "ann",
        host: str = "desk",
        *,
        session: str = "",
        borrowed: bool = False,
        crashed: bool = False,
    ) -> None:
        """A session that is active; one that `crashed` has been over since its last sign of life."""
        known = self._session(started_at, heartbeat_at, expires_at, user, host, session, borrowed, False)
        over = expires_at if borrowed else heartbeat_at
        self.uses.append(_use(known, over if crashed else None))
        self.running.append(known)
        self.writes.append(rows.start_change(known).write)

    def denied(self, first_at: datetime, session: str = "") -> None:
        """A start that was refused."""
        denial = Denial(session or new_session(), first_at)
        self.denials.append(denial)
        self.writes.append(rows.denial_change(denial.session_id, first_at, again=False).write)

    async def write(self, tables: Tables) -> None:
        """Put it into a register, in full transactions, several at a time."""
        await Register(tables).add_license(self.id, self.terms)
        shared: dict[str, int] = {}
        for session in self.running:
            if session.shares:
                shared[session.holder] = shared.get(session.holder, 0) + 1
        in_use = len({session.holder for session in self.running if session.holder})
        columns = {**rows.STATES.encode(LicenseState(self.terms, in_use=in_use)), "commit": "made"}
        if self.final_day:
            columns[rows.FINAL_DAY] = str(self.final_day)
        head = create(rows.STATE, columns)
        seats = [create(rows.SEAT + holder, {"sessions": count}) for holder, count in shared.items()]
        await commit_all(tables, self.id, [head, *seats, *self.writes])

    def reckoner(self, as_of: datetime, tick: timedelta = timedelta(minutes=1)) -> Reckoner:
        """The count of it, tick by tick, where all times are whole ticks."""
        return Reckoner(self.uses, self.denials, as_of, tick)

    def first_day(self) -> date:
        """The first day that there are figures of: that on which anything happened, or that came to be counted."""
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
        session: str,
        borrowed: bool,
        overdraft: bool,
    ) -> Session:
        session = session or new_session()
        who = Person(user=user, host=host, ip="net", pepper="p1")
        return Session(
            id=session,
            started_at=started_at,
            heartbeat_at=heartbeat_at,
            expires_at=expires_at,
            user=who.user,
            host=who.host,
            ip=who.ip,
            pepper=who.pepper,
            holder=holder_of(session, who, self.terms),
            borrowed=borrowed,
            overdraft=overdraft,
        )


def _use(session: Session, ended_at: datetime | None) -> Use:
    return Use.of(session, ended_at)


async def commit_all(tables: Tables, license: str, writes: list[Write]) -> None:
    """Write new rows in full transactions, several at a time; a store that is too busy to answer is given time."""
    places = asyncio.Semaphore(PARALLEL)

    async def commit(batch: list[Write]) -> None:
        async with places:
            with suppress(ConflictError):  # the try before was done, and not answered
                await with_retries(lambda: tables.commit("register", license, batch))

    batches = (writes[start : start + TRANSACTION_ROWS] for start in range(0, len(writes), TRANSACTION_ROWS))
    await asyncio.gather(*map(commit, batches))


def days_until(first: date, as_of: datetime) -> Iterable[date]:
    """The days from one on that are over at a moment."""
    return (first + timedelta(days=number) for number in range((as_of.date() - first).days))


def expected_days(reckoner: Reckoner, first: date, as_of: datetime) -> dict[date, Figures]:
    """The figures of each day from one on that a register keeps at a moment: those with use, for a year."""
    counted = {day: reckoner.day(day) for day in days_until(max(first, year_before(as_of).date()), as_of)}
    return {day: figures for day, figures in counted.items() if figures["sessions"] or figures["denials"]}


def expected_months(reckoner: Reckoner, first: date, as_of: datetime, small_group: int) -> dict[str, Figures]:
    """The figures of each month that a register keeps at a moment: those with use, cut where few outlive the year."""
    names = dict.fromkeys(f"{day:%Y-%m}" for day in days_until(first, as_of))
    counted = {month: reckoner.month(month) for month in names if month != f"{as_of:%Y-%m}"}
    outlived = f"{year_before(as_of):%Y-%m}"
    for month, figures in counted.items():
        if month < outlived and int(str(figures["users"])) < small_group:
            kept = ("month", "users")
            counted[month] = {name: figures[name] if name in kept else None for name in figures}
    return {month: figures for month, figures in counted.items() if figures["users"] or figures["denials"]}


async def kept_days(tables: Tables, license: str) -> dict[date, Figures]:
    """The figures of all days that are kept."""
    found = tables.rows("register", license, rows.DAY, rows.beyond(rows.DAY))
    figures = [rows.DAYS.decode(row) async for row in found]
    return {each.day: asdict(each) for each in figures}


async def kept_months(tables: Tables, license: str) -> dict[str, Figures]:
    """The figures of all months that are kept."""
    found = tables.rows("register", license, rows.MONTH, rows.beyond(rows.MONTH))
    figures = [rows.MONTHS.decode(row) async for row in found]
    return {each.month: asdict(each) for each in figures}


async def keys(tables: Tables, license: str, kind: str) -> list[str]:
    """The keys of all rows of a kind."""
    return [row.key async for row in tables.rows("register", license, kind, rows.beyond(kind), columns=())]


Dump = dict[tuple[str, str], dict[str, Any]]


async def dump(tables: Tables, *, versions: bool = False) -> Dump:
    """Everything that is kept, by partition and key; with the `versions` of all rows but heads."""
    found: Dump = {}
    tables_of_ours: tuple[Table, ...] = ("register", "directory")
    for table in tables_of_ours:
        async for row in tables.rows(table, first=""):
            columns = dict(row.columns)
            columns.pop("commit", None)
            if versions and row.key != rows.STATE:
                columns["etag"] = row.etag
            found[columns.pop("PartitionKey"), row.key] = columns
    return found
