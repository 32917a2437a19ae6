"""The rights of the people in the register (policy, section 11): see, correct and erase what is held; opt out.

A person is found by pseudonyms under every pepper still in use, over all licenses of one organization. The name itself
never arrives here, but only what its computer would send: the client's hash.

Everything is safe to repeat and beside live traffic. Seats stay whole: an active session is ended through the ledger
before its row goes, and what is corrected afterwards has no seat any more.
"""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from licensing.crypto.pseudonyms import Peppers, network_of
from licensing.errors import Conflict
from licensing.rules.license import Address, Kind
from licensing.rules.personal import PersonalData, SessionData
from licensing.rules.retention import year_after, year_before
from licensing.rules.seats import End, Head, Reason
from licensing.services.directory import licenses
from licensing.services.figures import reopen
from licensing.storage import rows
from licensing.storage.bulk import delete_all
from licensing.storage.ledger import Ledger
from licensing.storage.tables import Row, Tables, Write, create, delete, merge

STATES = (rows.ACTIVE, rows.ENDED)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Whom to look for: client hashes, and an address; each that is given must fit."""

    organization: str
    user: str
    host: str | None = None
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class Erased:
    """A receipt that names no one."""

    organization: str
    at: datetime
    licenses: int
    ended: int
    deleted: int


@dataclass(frozen=True, slots=True)
class Rectified:
    """What was corrected. `running` sessions keep their seat as it is until they have ended, and wait for that."""

    corrected: int
    running: int
    refigured_from: date | None


@dataclass(frozen=True, slots=True)
class OptedOut:
    """What opting out did: sessions that ran were ended, rows erased if that was asked for."""

    ended: int
    deleted: int


class Implausible(Exception):
    """A correction that cannot be right; the text says why."""


class Privacy:
    """What operators do on a person's request. `clock` gives the present time, UTC."""

    def __init__(self, tables: Tables, ledger: Ledger, peppers: Peppers, clock: Callable[[], datetime]) -> None:
        self._tables = tables
        self._ledger = ledger
        self._peppers = peppers
        self._clock = clock

    async def export(self, wanted: Wanted) -> PersonalData:
        """Everything that is held on a person."""
        as_of = self._clock()
        names = await self._licenses(wanted.organization)
        found: list[SessionData] = []
        for name in names:
            head = await self._ledger.head(name)
            product = head.terms.product if head else ""
            found += [_told(name, product, row) async for row in self._rows(name, wanted, *STATES)]
        return PersonalData(
            organization=wanted.organization,
            as_of=as_of,
            licenses=len(names),
            peppers=len(list(self._peppers)),
            sessions=tuple(sorted(found, key=lambda session: session.started_at)),
        )

    async def erase(self, wanted: Wanted) -> Erased:
        """Delete everything that is held on a person; running sessions are ended first, so that no seat is lost.

        Figures that are final stay as they are: nobody is in them. Those that are not are made without the person.
        """
        ended = deleted = 0
        names = await self._licenses(wanted.organization)
        for name in names:
            running = [row.key.removeprefix(rows.ACTIVE) async for row in self._rows(name, wanted, rows.ACTIVE)]
            for session in running:
                await self._ledger.submit(name, End(session, Reason.RELEASED))
            keys = (row.key async for row in self._rows(name, wanted, rows.ENDED))
            ended += len(running)
            deleted += await delete_all(self._tables, "register", name, keys)
        return Erased(wanted.organization, self._clock(), len(names), ended, deleted)

    async def move(self, wanted: Wanted, user: str) -> Rectified:
        """Give sessions that stand under a wrong name to the right one, by its client hash."""
        return await self._rectify(wanted, lambda row: self._moved(wanted, user, row))

    async def correct_end(self, wanted: Wanted, session: str, ended_at: datetime) -> Rectified:
        """Correct when a session ended. Implausible where it cannot have ended then."""

        def corrected(row: Row) -> Row | None:
            if row.key.rpartition(":")[2] != session:
                return None
            use = rows.use_value(row)
            latest = min(self._clock(), max(rows.ended_at(row), rows.utc(row.columns["expires_at"])))
            if not use.started_at <= ended_at <= latest:
                raise Implausible(
                    f"the session can have ended between {use.started_at:%Y-%m-%d %H:%M:%S} and "
                    f"{latest:%Y-%m-%d %H:%M:%S} UTC: it began then, and its lease ran out then"
                )
            columns = {**row.columns, "ended_at": ended_at}
            return Row(rows.ended_key(ended_at, session), columns, row.etag)

        return await self._rectify(wanted, corrected)

    async def opt_out(self, license: str, *, erase: bool, unknown: Head | None = None) -> OptedOut | None:
        """Stop all collection under a license; None where there is no such license.

        Implausible for a floating license, whose seats rest on the register.
        """
        head = await self._ledger.head(license) or unknown
        if head is None:
            return None
        if head.terms.kind is Kind.FLOATING:
            raise Implausible(
                f"{license} is a floating license: who holds one of its seats must be recorded while they hold it. "
                "Only named-user and node-locked licenses can do without"
            )
        await self._ledger.set_collect(license, collect=False, unknown=unknown)
        active = self._tables.rows("register", license, rows.ACTIVE, rows.beyond(rows.ACTIVE), columns=())
        running = [row.key.removeprefix(rows.ACTIVE) async for row in active]
        for session in running:
            await self._ledger.submit(license, End(session, Reason.RELEASED))
        deleted = 0
        for prefix in (rows.ENDED, rows.DENIED, rows.DAY, rows.MONTH) if erase else ():
            kept = self._tables.rows("register", license, prefix, rows.beyond(prefix), columns=())
            deleted += await delete_all(self._tables, "register", license, (row.key async for row in kept))
        return OptedOut(len(running), deleted)

    async def opt_in(self, license: str) -> bool:
        """Collect again under a license; False where there is no such license."""
        return await self._ledger.set_collect(license, collect=True) is not None

    # Finding.

    async def _licenses(self, organization: str) -> list[str]:
        return [entry.license async for entry in licenses(self._tables, organization)]

    async def _rows(self, license: str, wanted: Wanted, *states: str) -> AsyncIterator[Row]:
        """A person's rows on one license, under every pepper; the store looks through the key ranges."""
        for pepper in self._peppers:
            values = self._pseudonyms(pepper, wanted)
            where = " and ".join(f"{name} eq @{name}" for name in values)
            for state in states:
                found = self._tables.rows("register", license, state, rows.beyond(state), where=where, values=values)
                async for row in found:
                    yield row

    def _pseudonyms(self, pepper: str, wanted: Wanted) -> dict[str, str]:
        values = {"user": self._peppers.pseudonym(pepper, wanted.organization, "user", wanted.user)}
        if wanted.host is not None:
            values["host"] = self._peppers.pseudonym(pepper, wanted.organization, "host", wanted.host)
        if wanted.address is not None:
            network = network_of(wanted.address)
            values["ip"] = self._peppers.pseudonym(pepper, wanted.organization, "ip", network)
        return values

    # Correcting.

    def _moved(self, wanted: Wanted, user: str, row: Row) -> Row:
        pepper = row.columns["pepper"]
        right = self._peppers.pseudonym(pepper, wanted.organization, "user", user)
        # A shared seat is named after those who share it.
        holder = row.columns["holder"].replace(row.columns["user"], right)
        return Row(row.key, {**row.columns, "user": right, "holder": holder}, row.etag)

    async def _rectify(self, wanted: Wanted, change: Callable[[Row], Row | None]) -> Rectified:
        corrected = running = 0
        refigured: date | None = None
        for name in await self._licenses(wanted.organization):
            pairs: list[tuple[Row, Row]] = []
            async for row in self._rows(name, wanted, rows.ENDED):
                changed = change(row)
                if changed is not None:
                    pairs.append((row, changed))
            running += len([row async for row in self._rows(name, wanted, rows.ACTIVE)])
            if not pairs:
                continue
            # First, so that the next night makes those figures again, whatever happens here.
            first = min(rows.use_value(row).started_at for row, _ in pairs).date()
            reopened = await reopen(self._tables, name, max(first, _first_whole_month(self._clock())))
            refigured = min(filter(None, (refigured, reopened)), default=None)
            for old, new in pairs:
                try:
                    await self._tables.commit("register", name, _replacement(old, new))
                except Conflict:
                    continue  # retention or another operator came first
                corrected += 1
        return Rectified(corrected, running, refigured)


def _replacement(old: Row, new: Row) -> list[Write]:
    columns = {name: value for name, value in new.columns.items() if name != "PartitionKey"}
    if old.key == new.key:
        return [merge(old.key, columns, old.etag)]
    return [delete(old.key, old.etag), create(new.key, columns)]


def _first_whole_month(now: datetime) -> date:
    """The first month of which no session has been let go of yet: older figures cannot be made again."""
    cutoff = year_before(now).date()
    return cutoff if cutoff.day == 1 else (cutoff.replace(day=1) + timedelta(days=31)).replace(day=1)


def _told(license: str, product: str, row: Row) -> SessionData:
    c = row.columns
    ended = rows.utc(c["ended_at"]) if "ended_at" in c else None
    return SessionData(
        license=license,
        product=product,
        session=row.key.rpartition(":")[2],
        state="ended" if ended else "active",
        started_at=rows.utc(c["started_at"]),
        heartbeat_at=rows.utc(c["heartbeat_at"]),
        expires_at=rows.utc(c["expires_at"]),
        ended_at=ended,
        reason=c.get("reason"),
        user=c["user"],
        host=c["host"],
        ip=c["ip"],
        pepper=c["pepper"],
        holder=c["holder"],
        borrowed=c["borrowed"],
        overdraft=c["overdraft"],
        kept_until=year_after(ended) if ended else None,
    )
