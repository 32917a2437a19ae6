"""The rights of the people in the register (policy, section 11): see, correct and erase what is held; opt out.

A person is found by pseudonyms under every pepper still in use, over all licenses of one organization. The name itself
never arrives here, but only what its computer would send: the client's hash.

Everything is safe to repeat and beside live traffic. Seats stay whole: an active session is ended through the ledger
before its row goes, and what is corrected afterwards has no seat any more.
"""

from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from licensing.crypto.pseudonyms import Peppers, network_of
from licensing.errors import ConflictError, PepperError
from licensing.rules.license import Address, Kind
from licensing.rules.personal import PersonalData, SessionData, WaitData
from licensing.rules.retention import year_after, year_before
from licensing.rules.seats import End, Ended, Head, Reason
from licensing.rules.usage import midnight
from licensing.services.directory import licenses
from licensing.services.peppers import pepper_beyond
from licensing.services.progress import Progress, no_progress
from licensing.services.totals import invalidate_run, reopen, standing
from licensing.storage import register as rows
from licensing.storage.bulk import delete_all
from licensing.storage.ledger import Ledger
from licensing.storage.tables import TRANSACTION_ROWS, Row, Tables, Write, create, delete, merge

STATES = (rows.ACTIVE, rows.ENDED)
CORRECTIONS = (TRANSACTION_ROWS - 1) // 2
"""How many corrections one transaction takes besides the head: each may replace a row by another."""


@dataclass(frozen=True, slots=True)
class PersonQuery:
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


class ImplausibleError(Exception):
    """A correction that cannot be right; the text says why."""


class Collecting:
    """Whether anything is collected under a license at all. No person is looked for, and no pepper is needed."""

    def __init__(self, tables: Tables, ledger: Ledger) -> None:
        self._tables = tables
        self._ledger = ledger

    async def opt_out(
        self, license: str, *, erase: bool, unknown: Head | None = None, progress: Progress = no_progress
    ) -> OptedOut | None:
        """Stop all collection under a license; None where there is no such license.

        ImplausibleError for a floating license, whose seats rest on the register.
        """
        head = await self._ledger.head(license) or unknown
        if head is None:
            return None
        if head.terms.kind is Kind.FLOATING:
            raise ImplausibleError(
                f"{license} is a floating license: who holds one of its seats must be recorded while they hold it. "
                "Only named-user and node-locked licenses can do without"
            )
        prefixes = (rows.ENDED, rows.DENIED, rows.DAY, rows.MONTH) if erase else ()
        progress(0, 1 + len(prefixes))
        await self._ledger.set_collect(license, collect=False, unknown=unknown)
        active = self._tables.rows("register", license, rows.ACTIVE, rows.beyond(rows.ACTIVE), columns=())
        ended = await self._end(license, [_session(row) async for row in active])
        deleted = 0
        for done, prefix in enumerate(prefixes, 1):
            progress(done, 1 + len(prefixes))
            if prefix == rows.DAY:
                await invalidate_run(self._tables, license)
            kept = self._tables.rows("register", license, prefix, rows.beyond(prefix), columns=())
            deleted += await delete_all(self._tables, "register", license, (row.key async for row in kept))
        return OptedOut(ended, deleted)

    async def opt_in(self, license: str) -> bool:
        """Collect again under a license; False where there is no such license."""
        return await self._ledger.set_collect(license, collect=True) is not None

    async def _end(self, license: str, sessions: list[str]) -> int:
        """End sessions that run; how many did."""
        ended = 0
        for session in sessions:
            settled = await self._ledger.submit(license, End(session, Reason.RELEASED))
            ended += settled.outcome == Ended(now=True)
        return ended


class Privacy(Collecting):
    """What operators do on a person's request. `clock` gives the present time, UTC.

    Where sessions are stored under a pepper that is not among `peppers`, export, erase and rectify do nothing and raise
    PepperError: they would pass over people. Those under the `lost` ones are left out, which the caller has to say.
    """

    def __init__(
        self,
        tables: Tables,
        ledger: Ledger,
        peppers: Peppers,
        clock: Callable[[], datetime],
        lost: Collection[str] = (),
    ) -> None:
        super().__init__(tables, ledger)
        self._peppers = peppers
        self._clock = clock
        self._lost = lost

    async def export(self, wanted: PersonQuery, progress: Progress = no_progress) -> PersonalData:
        """Everything that is held on a person."""
        as_of = self._clock()
        looked = 0
        found: list[SessionData] = []
        waits: list[WaitData] = []
        async for name in self._licenses(wanted.organization, progress):
            looked += 1
            head = await self._ledger.head(name)
            product = head.terms.product if head else ""
            # One that ends meanwhile is read twice; then the later reading counts. An id may have been used twice.
            uses = {(_session(row), _began(row)): row async for row in self._rows(name, wanted, *STATES)}
            found += [_told(name, product, row) for row in uses.values()]
            waits += [_told_wait(name, row) async for row in self._waits(name, uses.values())]
        return PersonalData(
            organization=wanted.organization,
            as_of=as_of,
            licenses=looked,
            peppers=len(list(self._peppers)),
            sessions=tuple(sorted(found, key=lambda session: session.started_at)),
            waits=tuple(sorted(waits, key=lambda wait: wait.first_at)),
        )

    async def erase(self, wanted: PersonQuery, progress: Progress = no_progress) -> Erased:
        """Delete everything that is held on a person; running sessions are ended first, so that no seat is lost.

        Figures that are final stay as they are: nobody is in them. Those that are not are made without the person.
        """
        looked = ended = deleted = 0
        async for name in self._licenses(wanted.organization, progress):
            looked += 1
            ended += await self._end(name, [_session(row) async for row in self._rows(name, wanted, rows.ACTIVE)])
            uses = [row async for row in self._rows(name, wanted, rows.ENDED)]
            # Waits first: once the sessions are gone, nothing says any more whose they were.
            waits = (row.key async for row in self._waits(name, uses))
            await delete_all(self._tables, "register", name, waits)
            deleted += await delete_all(self._tables, "register", name, _each(row.key for row in uses))
            if uses:
                await invalidate_run(self._tables, name)
        return Erased(wanted.organization, self._clock(), looked, ended, deleted)

    async def move(self, wanted: PersonQuery, user: str, progress: Progress = no_progress) -> Rectified:
        """Give sessions that stand under a wrong name to the right one, by its client hash."""

        def moved(uses: list[Row]) -> list[tuple[Row, Row]]:
            return [(row, self._moved(wanted, user, row)) for row in uses]

        return await self._rectify(wanted, moved, progress)

    async def correct_end(
        self, wanted: PersonQuery, session: str, ended_at: datetime, progress: Progress = no_progress
    ) -> Rectified:
        """Correct when a session ended. ImplausibleError where it cannot have ended then.

        Where its id was used again, that use is meant which began last before `ended_at`.
        """

        def corrected(uses: list[Row]) -> list[tuple[Row, Row]]:
            begun = [row for row in uses if _began(row) <= ended_at] or uses
            row = max(begun, key=_began, default=None)
            if row is None:
                return []
            latest = min(self._clock(), max(rows.ended_at(row), rows.utc(row.columns["expires_at"])))
            if not _began(row) <= ended_at <= latest:
                raise ImplausibleError(
                    f"the session can have ended between {_began(row):%Y-%m-%d %H:%M:%S} and "
                    f"{latest:%Y-%m-%d %H:%M:%S} UTC: it began then, and its lease ran out then"
                )
            columns = {**row.columns, "ended_at": ended_at}
            return [(row, Row(rows.ended_key(ended_at, session), columns, row.etag))]

        return await self._rectify(wanted, corrected, progress, session)

    # Finding.

    async def _licenses(self, organization: str, progress: Progress) -> AsyncIterator[str]:
        """An organization's licenses one by one, once it is known that nobody can be overlooked under any of them."""
        names = [entry.license async for entry in licenses(self._tables, organization)]
        at_hand, steps = (*self._peppers, *self._lost), 2 * len(names)
        for done, name in enumerate(names):
            progress(done, steps)
            pepper = await pepper_beyond(self._tables, name, at_hand)
            if pepper is not None:
                raise PepperError(organization, pepper)
        for done, name in enumerate(names, len(names)):
            progress(done, steps)
            yield name

    async def _rows(self, license: str, wanted: PersonQuery, *states: str) -> AsyncIterator[Row]:
        """A person's rows on one license, under every pepper; the store looks through the key ranges."""
        for pepper in self._peppers:
            values = self._pseudonyms(pepper, wanted)
            where = " and ".join(f"{name} eq @{name}" for name in values)
            for state in states:
                found = self._tables.rows("register", license, state, rows.beyond(state), where=where, values=values)
                async for row in found:
                    yield row

    def _pseudonyms(self, pepper: str, wanted: PersonQuery) -> dict[str, str]:
        values = {"user": self._peppers.pseudonym(pepper, wanted.organization, "user", wanted.user)}
        if wanted.host is not None:
            values["host"] = self._peppers.pseudonym(pepper, wanted.organization, "host", wanted.host)
        if wanted.address is not None:
            network = network_of(wanted.address)
            values["ip"] = self._peppers.pseudonym(pepper, wanted.organization, "ip", network)
        return values

    async def _waits(self, license: str, uses: Iterable[Row]) -> AsyncIterator[Row]:
        """The denials of starts that became one of these sessions later: their ids alone tell that."""
        known = set(map(_session, uses))
        if known:
            async for row in self._tables.rows("register", license, rows.DENIED, rows.beyond(rows.DENIED)):
                if _session(row) in known:
                    yield row

    # Correcting.

    def _moved(self, wanted: PersonQuery, user: str, row: Row) -> Row:
        right = {pepper: self._peppers.pseudonym(pepper, wanted.organization, "user", user) for pepper in self._peppers}
        # A shared seat is named after those who share it, maybe under an older pepper than the session's.
        holder = row.columns["holder"]
        for pepper in self._peppers:
            holder = holder.replace(self._pseudonyms(pepper, wanted)["user"], right[pepper])
        return Row(row.key, {**row.columns, "user": right[row.columns["pepper"]], "holder": holder}, row.etag)

    async def _rectify(
        self,
        wanted: PersonQuery,
        change: Callable[[list[Row]], list[tuple[Row, Row]]],
        progress: Progress,
        session: str | None = None,
    ) -> Rectified:
        """Correct a person's sessions, or one of them: `change` tells which ended uses become what."""
        corrected = running = 0
        refigured: date | None = None
        async for name in self._licenses(wanted.organization, progress):
            uses = [row async for row in self._rows(name, wanted, *STATES) if session in (None, _session(row))]
            ended = [row for row in uses if row.key.startswith(rows.ENDED)]
            running += len(uses) - len(ended)
            pairs = change(ended)
            for place in range(0, len(pairs), CORRECTIONS):
                done, reopened = await self._replace(name, pairs[place : place + CORRECTIONS])
                corrected += done
                refigured = min(filter(None, (refigured, reopened)), default=None)
        return Rectified(corrected, running, refigured)

    async def _replace(self, license: str, pairs: list[tuple[Row, Row]]) -> tuple[int, date | None]:
        """Replace rows and have their figures made again, in one transaction: neither goes without the other.

        How many were replaced, and from which day on final figures are made again.
        """
        while pairs and (known := await standing(self._tables, license)) is not None:
            began = min(_began(old) for old, _ in pairs).date()
            first = max(began, _first_whole_month(self._clock()))
            writes = [write for old, new in pairs for write in _replacement(old, new)]
            try:
                await self._tables.commit("register", license, [reopen(known, first), *writes])
            except ConflictError as conflict:
                if conflict.index:  # retention or another operator came first
                    lost = writes[conflict.index - 1].key
                    pairs = [(old, new) for old, new in pairs if lost not in (old.key, new.key)]
                continue  # or else a start or an end came in between
            return len(pairs), first if known.final is not None and known.final >= first else None
        return 0, None


def _session(row: Row) -> str:
    return row.key.rpartition(":")[2]


def _began(row: Row) -> datetime:
    return rows.utc(row.columns["started_at"])


async def _each(keys: Iterable[str]) -> AsyncIterator[str]:
    for key in keys:
        yield key


def _replacement(old: Row, new: Row) -> list[Write]:
    columns = {name: value for name, value in new.columns.items() if name != "PartitionKey"}
    if old.key == new.key:
        return [merge(old.key, columns, old.etag)]
    return [delete(old.key, old.etag), create(new.key, columns)]


def _first_whole_month(now: datetime) -> date:
    """The first month of which no session has been let go of yet: older figures cannot be made again."""
    cutoff = year_before(now)
    month = cutoff.date().replace(day=1)
    return month if cutoff == midnight(month) else (month + timedelta(days=31)).replace(day=1)


def _told(license: str, product: str, row: Row) -> SessionData:
    ended = rows.utc(row.columns["ended_at"]) if "ended_at" in row.columns else None
    return SessionData(
        license=license,
        product=product,
        session=_session(row),
        state="ended" if ended else "active",
        ended_at=ended,
        reason=row.columns.get("reason"),
        kept_until=year_after(ended) if ended else None,
        **rows.session_columns(rows.session_value(row).value),
    )


def _told_wait(license: str, row: Row) -> WaitData:
    c = row.columns
    return WaitData(
        license=license,
        session=_session(row),
        first_at=rows.utc(c["first_at"]),
        last_at=rows.utc(c["last_at"]),
        reason=c["reason"],
    )
