"""The register: every question about its rows and every change of them. The only place that knows keys and columns.

Partition of a license in the table `register`:

    license                         the license state
    file                            the newest license file, sealed, for desks with older ones
    seat:{holder}                   how many sessions are on a shared seat
    active:{session}                a session that runs
    ended:{time}:{session}          a session that has ended; such rows sort by the time of the end
    denied:{date}:{session}         a start that was refused for want of a seat; one row for each wait and day
    day:{date}  month:{month}       usage totals; a month that outlives the year may keep `users` alone
    late:{month}                    seconds that programs ran, heard of in a month, too late to be counted on a day

Partition of an organization in `directory`: `organization`, `license:{id}`, `month:{month}`. Partition
`_service` there: `alive` and `outage`. Partition of a month in `audit`: `{time}:{random}`.

All times are UTC. Every question raises UnavailableError if the store does not answer, RowError at a row that cannot be
read. Some take a list `unreadable`: they add such rows to it instead, and go on.
"""

import asyncio
import secrets
from collections import defaultdict
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing
from dataclasses import asdict, dataclass, replace
from datetime import UTC, date, datetime
from enum import StrEnum
from functools import partial
from operator import index
from typing import Any, Final, TypeVar

from licensing.errors import ConflictError, Mismatch, RowError
from licensing.rules.model import EndedSession, KeptFile, LicenseState, Session, Terms, Versioned
from licensing.rules.outage import Outage
from licensing.rules.requests import Heartbeat
from licensing.rules.seats import SeatChange
from licensing.rules.totals import GRACE, DayTotals, MonthTotals, Pseudonym, month_of
from licensing.rules.usage import Denial, Use
from licensing.storage.bulk import delete_all
from licensing.storage.codec import Codec, column, instant, readable
from licensing.storage.retry import with_retries
from licensing.storage.tables import (
    PAGE_ROWS,
    TRANSACTION_ROWS,
    EdmType,
    Row,
    Tables,
    Write,
    create,
    delete,
    merge,
    put,
)


class RowKind(StrEnum):
    """What a row of a license is about: its key, or the beginning of its key."""

    STATE = "license"
    FILE = "file"
    SEAT = "seat:"
    ACTIVE = "active:"
    ENDED = "ended:"
    DENIED = "denied:"
    DAY = "day:"
    MONTH = "month:"
    LATE = "late:"


STATE, FILE, SEAT, ACTIVE, ENDED, DENIED, DAY, MONTH, LATE = RowKind

FINAL_DAY: Final = "figured_to"
"""Column of the license state: the last day (YYYY-MM-DD) whose totals are final."""
CORRECTION: Final = "correction"
"""Column of the license state: the random id of the last correction or erasure of its sessions. Totals that were
aggregated before it are not final."""
COMMIT: Final = "commit"
"""Column of the license state: the random id of the transaction that wrote it last."""

SERVICE: Final = "_service"
"""Partition of the directory; no organization's id begins so."""
ALIVE: Final = "alive"
OUTAGE: Final = "outage"
ORGANIZATION: Final = "organization"
LICENSE: Final = "license:"

NO_SEAT: Final = "no-seat-available"

COMPARED_PEPPERS: Final = 8
"""How many peppers the store compares, which takes fifteen comparisons a query; more are compared here."""

COMPARED_IDS: Final = 8
"""How many sessions are asked for by their ids within another question."""
LAPSING_ROWS: Final = 200
"""How many sessions a page has that is read while programs wait."""

OWN: Final = ("status", "collect", "in_use", "recalled", "line")
"""Columns of the license state that are not the license file's."""
TOTALS_ROWS: Final = TRANSACTION_ROWS - 1
"""How many totals one transaction takes besides the license state."""
Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class StoredState(Versioned[LicenseState]):
    """A license state, and the id of the transaction that wrote it."""

    commit_id: str


@dataclass(frozen=True, slots=True)
class StoredEnd(Versioned[EndedSession]):
    """A session that has ended, with its row: a correction keeps columns that this version does not know."""

    row: Row


@dataclass(frozen=True, slots=True)
class TotalsState:
    """How far a license's usage totals are final, and the last correction of its sessions.

    `final_day` is None where no day is final. `etag` is that of the license state.
    """

    final_day: date | None
    correction: str
    etag: str


@dataclass(frozen=True, slots=True)
class LicenseRef:
    """A license and the organization that bought it."""

    organization_id: str
    license_id: str


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """What a session must say to be a person's. What is None is not compared."""

    user: str
    host: str | None = None
    ip: str | None = None


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """A change from the command line: `outcome` is begun, done or failed; `closed_at` is None until it has ended.

    `subject` names a license, a session or an organization, never a person.
    """

    at: datetime
    who: str
    what: str
    subject: str
    outcome: str
    closed_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A write, and whose row it is: `name` is a session id or a holder. A lost transaction names its change.

    `value` is what the row says afterwards; None where it is gone, or where that is not known.
    """

    write: Write
    kind: RowKind
    name: str = ""
    value: Any = None


# Keys.


def beyond(prefix: str) -> str:
    """The first key after all keys with a prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def ended_key(ended_at: datetime, session_id: str) -> str:
    """The key of an ended session."""
    return f"{ENDED}{ended_at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}:{session_id}"


def denied_key(session_id: str, day: date) -> str:
    """The key of a denial: all tries of one wait on one day have the same."""
    return f"{DENIED}{day:%Y-%m-%d}:{session_id}"


def audit_key(at: datetime) -> str:
    """The beginning of the key of an audit entry: when its change was begun."""
    return f"{at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}"


def day_key(day: date) -> str:
    """The key of a day's totals."""
    return f"{DAY}{day:%Y-%m-%d}"


def month_key(month: str) -> str:
    """The key of a month's totals, of a license or of an organization."""
    return MONTH + month


def _range(kind: str, since: date | None = None, until: date | None = None) -> tuple[str, str]:
    """The keys of a kind in `since` ≤ t < `until`: of ended sessions by moments, of others by UTC days."""

    def key(at: date) -> str:
        return ended_key(at, "") if isinstance(at, datetime) else f"{kind}{at}"

    return key(since) if since else str(kind), key(until) if until else beyond(kind)


def _last_part(key: str) -> str:
    return key.rpartition(":")[2]


def _ended_at(row: Row) -> datetime:
    time = row.key.removeprefix(ENDED).rpartition(":")[0]
    try:
        return datetime.strptime(time, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        raise RowError(row.partition, row.key, "has a key that cannot be read") from None


# Codecs.

_LARGE: Final = ("seat_seconds", "overdraft_seconds")

STATES: Final = Codec(
    LicenseState,
    names={
        "organization_id": "organization",
        "heartbeat_seconds": "heartbeat",
        "lease_seconds": "lease",
        "borrow_seconds": "borrow",
        "grace_seconds": "grace",
        "hold_seconds": "hold",
    },
    int64=("serial", "oldest"),
    texts=("former", "features", "recalled", "line"),
    added=("former", "recalled", "line", "grace_seconds", "hold_seconds", "features", "oldest"),
)
FILES: Final = Codec(KeptFile, int64=("serial",))
SESSIONS: Final = Codec(Session, key={"id": _last_part}, added=("lapses_at",))
ENDED_SESSIONS: Final = Codec(EndedSession, key={"id": _last_part}, without=("lapses_at",))
USES: Final = Codec(Use, key={"session_id": _last_part})
DENIALS: Final = Codec(Denial, key={"session_id": _last_part})
DAYS: Final = Codec(
    DayTotals,
    key={"day": _last_part},
    int64=_LARGE,
    lists=("hours", "hour_users", "erased_part", "starts"),
    added=("carried", "hour_users", "erased", "erased_part", *GRACE, "starts"),
)
MONTHS: Final = Codec(MonthTotals, key={"month": _last_part}, int64=(*_LARGE, "grace_seconds"), texts=("minutes",))
AUDIT: Final = Codec(AuditEntry)


def _seat_of(row: Row) -> Versioned[int]:
    return Versioned(column(row, "sessions", index), row.etag)


def _user_of(row: Row) -> Pseudonym:
    return column(row, "pepper", str), column(row, "user", str)


def _start_of(row: Row) -> tuple[str, datetime]:
    return _last_part(row.key), column(row, "started_at", instant)


# Changes of seats and sessions.


def new_commit_id() -> str:
    """A random id, by which the writer of a license state is told from all others."""
    return secrets.token_urlsafe(9)


def state_change(before: Versioned[LicenseState] | None, state: LicenseState, commit_id: str) -> Change:
    """The license state comes into being, or changes from `before`: then its terms are written only if they are new."""
    if before is None:
        return Change(create(STATE, {**STATES.encode(state), COMMIT: commit_id}), STATE)
    was = before.value
    own = [name for name in OWN if getattr(state, name) != getattr(was, name)]
    changed = STATES.encode(state, None if state.terms != was.terms else own, defaults=True)
    return Change(merge(STATE, {**changed, COMMIT: commit_id}, before.etag), STATE)


def file_change(file: KeptFile) -> Change:
    """A license file is kept in place of the one before; only together with a change of the state."""
    return Change(put(FILE, FILES.encode(file)), FILE)


def drop_file_change() -> Change:
    """The license file that is kept is deleted; as for `file_change`."""
    return Change(delete(FILE), FILE)


def start_change(session: Session) -> Change:
    """A session begins."""
    return Change(create(ACTIVE + session.id, SESSIONS.encode(session)), ACTIVE, session.id, session)


def renewal_change(row: Versioned[Session]) -> Change:
    """A lapsed session goes on under a new lease, if its row is as it was."""
    lease = SESSIONS.encode(row.value, ("heartbeat_at", "expires_at", "lapses_at", "borrowed"))
    return Change(merge(ACTIVE + row.value.id, lease, row.etag), ACTIVE, row.value.id, row.value)


def heartbeat_change(heartbeat: Heartbeat, before: Versioned[Session] | None = None) -> Change:
    """A session says that it still runs, if its row is as it was `before`; without that, if it is active."""
    columns: dict[str, Any] = {
        "heartbeat_at": heartbeat.at,
        "expires_at": heartbeat.expires_at,
        "lapses_at": heartbeat.lapses_at,
    }
    if heartbeat.borrowed is not None:
        columns["borrowed"] = heartbeat.borrowed
    key = ACTIVE + heartbeat.session_id
    if before is None:
        return Change(merge(key, columns), ACTIVE, heartbeat.session_id)
    return Change(merge(key, columns, before.etag), ACTIVE, heartbeat.session_id, replace(before.value, **columns))


def end_changes(row: Versioned[EndedSession]) -> tuple[Change, Change]:
    """A session ends: its row moves from active to ended, if the active row is as it was."""
    ended, session_id = row.value, row.value.session.id
    return (
        Change(delete(ACTIVE + session_id, row.etag), ACTIVE, session_id),
        Change(create(ended_key(ended.ended_at, session_id), ENDED_SESSIONS.encode(ended)), ENDED, session_id),
    )


def seat_change(holder: str, change: SeatChange) -> Change:
    """A shared seat gets another number of sessions, if its row is as it was."""
    key, columns = SEAT + holder, {"sessions": change.sessions}
    if change.before is None:
        write = create(key, columns)
    elif change.sessions:
        write = merge(key, columns, change.before.etag)
    else:
        write = delete(key, change.before.etag)
    return Change(write, SEAT, holder, change.sessions or None)


def denial_change(session_id: str, at: datetime, *, again: bool) -> Change:
    """A start was refused for want of a seat, for the first time that day or `again`."""
    day = at.astimezone(UTC).date()
    key = denied_key(session_id, day)
    write = merge(key, {"last_at": at}) if again else create(key, {"first_at": at, "last_at": at, "reason": NO_SEAT})
    return Change(write, DENIED, session_id, day)


class Register:
    """Questions about the register, and its changes, over the store's tables."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    async def ping(self) -> None:
        """Ask the store for nothing."""
        await self._tables.ping()

    async def close(self) -> None:
        """Close the connections to the store."""
        await self._tables.close()

    async def commit(self, license_id: str, changes: Sequence[Change]) -> list[str]:
        """Make all changes or none; the rows' new ETags, empty for deleted rows.

        Raises ConflictError with the place of the change whose row was not as demanded, UnavailableError where it is
        not known whether the changes were made.
        """
        return await self._tables.commit("register", license_id, [change.write for change in changes])

    # License states.

    async def state(self, license_id: str) -> StoredState | None:
        """A license's state; None where there is no such license."""
        row = await self._tables.get("register", license_id, STATE)
        return StoredState(STATES.decode(row), row.etag, row.columns.get(COMMIT, "")) if row else None

    async def kept_file(self, license_id: str) -> Versioned[KeptFile] | None:
        """The license file that is kept, whether it counts or not; None where there is none."""
        row = await self._tables.get("register", license_id, FILE)
        return FILES.versioned(row) if row else None

    async def keeps_file(self, license_id: str) -> bool:
        """Whether a license file is kept, also one whose row cannot be read."""
        return await self._tables.get("register", license_id, FILE, ()) is not None

    async def reseal(self, license_id: str, before: Versioned[KeptFile], file: KeptFile) -> None:
        """Replace a kept file by the same one, sealed under another pepper. Raises ConflictError if it has changed."""
        await self._tables.commit("register", license_id, [merge(FILE, FILES.encode(file), before.etag)])

    async def files_under(self, pepper: str) -> list[str]:
        """The ids of the licenses whose kept files are sealed under a pepper, in their order."""
        where, values = "pepper eq @pepper", {"pepper": pepper}
        rows = self._tables.rows("register", None, FILE, FILE + " ", columns=(), where=where, values=values)
        return [row.partition async for row in rows]

    async def totals_state(self, license_id: str) -> TotalsState | None:
        """How far a license's totals are final; None where there is no such license."""
        row = await self._tables.get("register", license_id, STATE, (FINAL_DAY, CORRECTION))
        if row is None:
            return None
        final_day = column(row, FINAL_DAY, date.fromisoformat) if row.columns.get(FINAL_DAY) else None
        return TotalsState(final_day, row.columns.get(CORRECTION, ""), row.etag)

    # Sessions and seats.

    async def session(self, license_id: str, session_id: str) -> Session | None:
        """An active session; None where it is not active."""
        row = await self._tables.get("register", license_id, ACTIVE + session_id)
        return SESSIONS.decode(row) if row else None

    async def sessions(self, license_id: str, session_ids: Iterable[str]) -> dict[str, Versioned[Session] | None]:
        """Some active sessions by their ids, None where one is not active."""
        return await self._each(license_id, ACTIVE, session_ids, SESSIONS.versioned)

    async def repeats(self, license_id: str, session_ids: Collection[str]) -> dict[str, Versioned[Session] | None]:
        """Some active sessions by their ids, None where one is not active, as most are not."""
        return await self._some(license_id, ACTIVE, session_ids, SESSIONS.versioned)

    async def seats(self, license_id: str, holders: Collection[str]) -> dict[str, Versioned[int] | None]:
        """How many sessions some shared seats have, by their holders; None where there is no row."""
        return await self._some(license_id, SEAT, holders, _seat_of)

    async def denied(self, license_id: str, session_ids: Collection[str], day: date) -> set[str]:
        """Which sessions were denied on a UTC day already."""
        prefix = denied_key("", day)
        there, unknown = await self._look_through(license_id, prefix, session_ids)
        found = await self._each(license_id, prefix, unknown, lambda row: row.key)
        return there | {session_id for session_id, key in found.items() if key is not None}

    async def active(
        self, license_id: str, unreadable: list[RowError] | None = None
    ) -> AsyncIterator[Versioned[Session]]:
        """All active sessions of a license."""
        async for row in self._rows(license_id, ACTIVE):
            for session in readable(SESSIONS.versioned, (row,), unreadable):
                yield session

    async def lapsing(
        self, license_id: str, until: datetime, also: Sequence[str] = (), *, held: bool = False
    ) -> AsyncGenerator[list[Versioned[Session]], None]:
        """The active sessions that lapse until a moment, by short pages; also at most `COMPARED_IDS` by their ids.

        The store compares the end of the lease, which every row has: no session lapses before it. With `held` it
        compares when sessions lapse, and passes over those of the first edition: where many are held, others are few.
        """
        values: dict[str, Any] = {"until": until}
        values |= {f"key{place}": ACTIVE + session_id for place, session_id in enumerate(also)}
        compared = "lapses_at le @until" if held else "expires_at le @until"
        where = " or ".join((compared, *(f"RowKey eq @key{place}" for place in range(len(also)))))
        async for page in self._tables.pages(
            "register", license_id, ACTIVE, beyond(ACTIVE), where=where, values=values, page_rows=LAPSING_ROWS
        ):
            rows = map(SESSIONS.versioned, page)
            yield [row for row in rows if row.value.lapses_at <= until or row.value.id in also]

    async def shared_seats(
        self, license_id: str, unreadable: list[RowError] | None = None
    ) -> dict[str, Versioned[int]]:
        """All shared seats of a license: how many sessions each has, by its holder."""
        found = {}
        async for row in self._rows(license_id, SEAT):
            for seat in readable(_seat_of, (row,), unreadable):
                found[row.key.removeprefix(SEAT)] = seat
        return found

    async def mend(
        self,
        license_id: str,
        before: StoredState,
        state: LicenseState,
        not_active: Sequence[Versioned[Session]],
        seats: Mapping[str, int],
    ) -> None:
        """Correct a license state and counts that are wrong, and delete active rows of sessions that have ended.

        As much as fits one transaction. Raises ConflictError if the state or one of those rows has changed.
        """
        writes = [state_change(before, state, new_commit_id()).write]
        writes += [delete(ACTIVE + row.value.id, row.etag) for row in not_active]
        for holder, sessions in seats.items():
            writes.append(put(SEAT + holder, {"sessions": sessions}) if sessions else delete(SEAT + holder))
        await self._tables.commit("register", license_id, writes[:TRANSACTION_ROWS])

    def _rows(
        self, license_id: str, kind: str, since: date | None = None, until: date | None = None, **options: Any
    ) -> AsyncIterator[Row]:
        """The rows of a kind in `since` ≤ t < `until`; options as for `Tables.pages`."""
        return self._tables.rows("register", license_id, *_range(kind, since, until), **options)

    async def _decoded(
        self,
        codec: Codec[Found],
        license_id: str,
        kind: str,
        *times: date | None,
        unreadable: list[RowError] | None = None,
        **options: Any,
    ) -> AsyncIterator[Found]:
        pages = self._tables.pages("register", license_id, *_range(kind, *times), columns=codec.columns, **options)
        async for page in pages:
            for value in readable(codec.decode, page, unreadable):
                yield value

    async def _each(
        self, license_id: str, prefix: str, names: Iterable[str], value: Callable[[Row], Found]
    ) -> dict[str, Found | None]:
        """Read some rows of a kind by their keys, all at once."""
        wanted = list(names)
        rows = await asyncio.gather(*(self._tables.get("register", license_id, prefix + name) for name in wanted))
        return {name: value(row) if row else None for name, row in zip(wanted, rows, strict=True)}

    async def _some(
        self, license_id: str, prefix: str, names: Collection[str], value: Callable[[Row], Found]
    ) -> dict[str, Found | None]:
        """Read some rows of a kind by their keys, of which many may be absent."""
        there, unknown = await self._look_through(license_id, prefix, names)
        return dict.fromkeys(names) | await self._each(license_id, prefix, there | unknown, value)

    async def _look_through(self, license_id: str, prefix: str, names: Collection[str]) -> tuple[set[str], set[str]]:
        """Which of some rows of a kind are there, and which may be; one page of keys tells of many."""
        if len(names) <= COMPARED_IDS:
            return set(), set(names)
        keys: set[str] = set()
        first, last = prefix + min(names), prefix + max(names) + " "  # the first key that sorts after it
        async with aclosing(self._tables.pages("register", license_id, first, last, columns=())) as pages:
            async for page in pages:
                keys |= {row.key for row in page}
                if len(keys) >= PAGE_ROWS:
                    last = max(keys)
                    break
        there = {name for name in names if prefix + name in keys}
        return there, {name for name in names if prefix + name > last}

    # Ended sessions and denials.

    def ended_uses(self, license_id: str, since: datetime, until: datetime | None = None) -> AsyncIterator[Use]:
        """The sessions that ended in `since` ≤ t < `until`, in the order of their ends, as totals need them."""
        return self._decoded(USES, license_id, ENDED, since, until)

    async def users(self, license_id: str, since: datetime, until: datetime) -> AsyncGenerator[set[Pseudonym], None]:
        """Who used a license in `since` ≤ t < `until`, by pages: of the sessions that run, then of those that ended.

        The store compares when sessions began. Rows that cannot be read are left out.
        """
        for keys in (_range(ACTIVE), _range(ENDED, since)):
            where, values = "started_at lt @until", {"until": until}
            pages = self._tables.pages(
                "register", license_id, *keys, columns=("pepper", "user"), where=where, values=values
            )
            async with aclosing(pages):
                async for page in pages:
                    yield set(readable(_user_of, page, []))

    def uses_with_tails(self, license_id: str, since: datetime) -> AsyncIterator[Use]:
        """The sessions that ended from a moment on, and whose programs ran on; the store compares."""
        where, values = "ran_until gt @none", {"none": datetime.fromtimestamp(0, UTC)}
        return self._decoded(USES, license_id, ENDED, since, where=where, values=values)

    async def find_end(self, license_id: str, session_id: str, since: datetime, begun_by: datetime) -> StoredEnd | None:
        """The end of a session, looked for in one page of the ends from a moment on; None where it is not there.

        A session id may come again: of several, the last that had begun by a moment.
        """
        found: list[tuple[datetime, str]] = []
        pages = self._tables.pages("register", license_id, *_range(ENDED, since), columns=("started_at",))
        async with aclosing(pages):
            async for page in pages:
                starts = ((*_start_of(row), row.key) for row in page if _last_part(row.key) == session_id)
                found += ((started_at, key) for _, started_at, key in starts if started_at <= begun_by)
                break
        row = await self._tables.get("register", license_id, max(found)[1]) if found else None
        return StoredEnd(ENDED_SESSIONS.decode(row), row.etag, row) if row else None

    async def note_tail(self, license_id: str, before: StoredEnd, after: EndedSession, late: int, month: str) -> None:
        """Write until when the program of an ended session ran, and add the seconds that are `late` to a month.

        Both in one transaction. Raises ConflictError if a row has changed.
        """
        tail = ENDED_SESSIONS.encode(after, ("ran_until", "late_until"))
        writes = [merge(before.row.key, tail, before.etag)]
        if late:
            known = await self._tables.get("register", license_id, LATE + month)
            seconds = {"seconds": (late + (column(known, "seconds", int) if known else 0), EdmType.INT64)}
            writes.append(merge(LATE + month, seconds, known.etag) if known else create(LATE + month, seconds))
        await self._tables.commit("register", license_id, writes)

    async def late_seconds(self, license_id: str) -> dict[str, int]:
        """For how long programs ran on that were heard of too late for their days, by the month of hearing."""
        return {row.key.removeprefix(LATE): column(row, "seconds", int) async for row in self._rows(license_id, LATE)}

    async def ended_starts(
        self, license_id: str, since: datetime | None = None, unreadable: list[RowError] | None = None
    ) -> AsyncIterator[tuple[str, datetime]]:
        """The id and the start of each session that ended, from a moment on."""
        async for row in self._rows(license_id, ENDED, since, columns=("started_at",)):
            for start in readable(_start_of, (row,), unreadable):
                yield start

    async def oldest_end(self, license_id: str, since: datetime | None = None) -> datetime | None:
        """When the oldest session that is kept (or the oldest from a moment on) ended; None where there is none."""
        row = await self._tables.first("register", license_id, *_range(ENDED, since), ())
        return _ended_at(row) if row else None

    def denials(
        self, license_id: str, since: date | None = None, unreadable: list[RowError] | None = None
    ) -> AsyncIterator[Denial]:
        """The denials of a license in the order of their days, from a UTC day on."""
        return self._decoded(DENIALS, license_id, DENIED, since, unreadable=unreadable)

    # A person's rows.

    async def find_active(
        self, license_id: str, wanted: Pseudonyms, unreadable: list[RowError] | None = None
    ) -> AsyncIterator[Versioned[Session]]:
        """The active sessions of a person; the store compares."""
        async for row in self._find(license_id, ACTIVE, wanted):
            for session in readable(SESSIONS.versioned, (row,), unreadable):
                yield session

    async def find_ended(
        self, license_id: str, wanted: Pseudonyms, unreadable: list[RowError] | None = None
    ) -> AsyncIterator[StoredEnd]:
        """The ended sessions of a person; the store compares."""
        async for row in self._find(license_id, ENDED, wanted):
            for ended in readable(ENDED_SESSIONS.decode, (row,), unreadable):
                yield StoredEnd(ended, row.etag, row)

    def _find(self, license_id: str, prefix: str, wanted: Pseudonyms) -> AsyncIterator[Row]:
        values = {name: value for name, value in asdict(wanted).items() if value is not None}
        where = " and ".join(f"{name} eq @{name}" for name in values)
        return self._rows(license_id, prefix, where=where, values=values)

    async def stored_under(self, pepper: str) -> bool:
        """Whether any session of any license is stored under a pepper. Reads until the first one."""
        pages = self._tables.pages(
            "register",
            None,
            ACTIVE,
            beyond(ENDED),  # what lies between has no pepper
            columns=(),
            where="pepper eq @pepper",
            values={"pepper": pepper},
        )
        async for _ in pages:
            return True
        return False

    async def unknown_pepper(self, license_id: str, known: Collection[str]) -> str | None:
        """A pepper beyond the known ones under which sessions of a license are stored; None where there is none.

        One range read, in which the store passes over the sessions under known peppers. Reads until the first other.
        """
        values = {f"p{place}": pepper for place, pepper in enumerate([*known][:COMPARED_PEPPERS])}
        pages = self._tables.pages(
            "register",
            license_id,
            ACTIVE,
            beyond(ENDED),  # what lies between has no pepper
            columns=("pepper",),
            where=" and ".join(("pepper gt @none", *(f"pepper ne @{name}" for name in values))),
            values={"none": "", **values},
        )
        async for page in pages:
            for row in page:
                if row.columns["pepper"] not in known:
                    return str(row.columns["pepper"])
        return None

    # Deletion. Each method says how many rows were deleted.

    async def delete(self, license_id: str, kind: RowKind, before: date | None = None, *, dry_run: bool = False) -> int:
        """Delete all rows of a kind, or those before a UTC day or, for ended sessions, a moment.

        With `dry_run`, only count them.
        """
        rows = self._rows(license_id, kind, None, before, columns=(), retries=True)
        keys = (row.key async for row in rows)
        return len([key async for key in keys]) if dry_run else await self._delete_keys(license_id, keys)

    async def delete_denials_of(self, license_id: str, session_ids: Collection[str]) -> int:
        """Delete the denials of some sessions."""
        rows = self._rows(license_id, DENIED, columns=())
        return await self._delete_keys(
            license_id, (row.key async for row in rows if _last_part(row.key) in session_ids)
        )

    async def delete_license(
        self, organization_id: str, license_id: str, state: StoredState | None, *, dry_run: bool = False
    ) -> int:
        """Delete all rows of a license, and its row in the directory. With `dry_run`, only count them.

        Its state goes after its other rows, together with the kept file, and its row in the directory last, so that an
        interrupted deletion can be repeated. Raises ConflictError if the state is not `state` any more; then it stays,
        with the kept file.
        """
        rows = self._tables.rows("register", license_id, columns=(), retries=True)
        keys = [row.key async for row in rows]
        if dry_run:
            return len(keys) + 1
        others = [key for key in keys if key not in (STATE, FILE)]
        deleted = await self._delete_keys(license_id, _each(others))
        if state:
            last = [delete(STATE, state.etag), *(delete(key) for key in keys if key == FILE)]
            await with_retries(partial(self._tables.commit, "register", license_id, last))
            deleted += len(last)
        elif len(others) < len(keys):
            raise ConflictError(Mismatch.EXISTS, None)
        return deleted + await delete_all(self._tables, "directory", organization_id, _each([LICENSE + license_id]))

    async def delete_organization(self, organization_id: str, *, dry_run: bool = False) -> int:
        """Delete the months of an organization, and then its own row. With `dry_run`, only count them."""
        rows = self._tables.rows("directory", organization_id, MONTH, columns=(), retries=True)  # "organization" too
        keys = [row.key async for row in rows]
        if dry_run:
            return len(keys)
        months = _each(key for key in keys if key != ORGANIZATION)
        deleted = await delete_all(self._tables, "directory", organization_id, months)
        return deleted + await delete_all(self._tables, "directory", organization_id, _each([ORGANIZATION]))

    async def _delete_keys(self, license_id: str, keys: AsyncIterable[str]) -> int:
        return await delete_all(self._tables, "register", license_id, keys)

    # Usage totals.

    def days(self, license_id: str, since: date) -> AsyncIterator[DayTotals]:
        """The totals of a license's days, from one on."""
        return self._decoded(DAYS, license_id, DAY, since)

    def months(self, license_id: str) -> AsyncIterator[MonthTotals]:
        """The totals of all of a license's months."""
        return self._decoded(MONTHS, license_id, MONTH)

    async def save_totals(
        self,
        license_id: str,
        known: TotalsState,
        totals: Sequence[DayTotals | MonthTotals],
        final_day: date | None = None,
    ) -> None:
        """Write totals, and the last day that is final if one is given, in one transaction.

        At most `TOTALS_ROWS` totals. Raises ConflictError if the license state has changed since `known` was read.
        """
        columns = {FINAL_DAY: str(final_day)} if final_day else {}
        writes = [merge(STATE, columns, known.etag), *map(_totals_write, totals)]
        await self._tables.commit("register", license_id, writes)

    async def correct(
        self,
        license_id: str,
        known: TotalsState,
        corrections: Sequence[tuple[StoredEnd, EndedSession | None]] = (),
        totals: Sequence[DayTotals | MonthTotals] = (),
    ) -> TotalsState:
        """Correct ended sessions, or erase those that are None, and write the totals that change, in one transaction.

        Totals that were aggregated before are not saved any more. At most `TOTALS_ROWS` totals and corrections, each of
        which counts twice. Raises ConflictError if a row has changed: with the place of the correction, or None for the
        license state.
        """
        correction = new_commit_id()
        writes = [merge(STATE, {CORRECTION: correction}, known.etag)]
        places: list[int | None] = [None]
        for place, (before, after) in enumerate(corrections):
            replaced = _replacement(before, after) if after else [delete(before.row.key, before.etag)]
            writes += replaced
            places += [place] * len(replaced)
        writes += map(_totals_write, totals)
        try:
            etags = await self._tables.commit("register", license_id, writes)
        except ConflictError as conflict:
            raise ConflictError(conflict.mismatch, places[conflict.index or 0]) from None
        return TotalsState(known.final_day, correction, etags[0])

    # The directory.

    async def add_to_directory(self, license_id: str, terms: Terms) -> None:
        """Note an organization and its license, so that maintenance finds them."""
        writes = [
            put(ORGANIZATION, {"name": terms.organization_name}),
            put(LICENSE + license_id, {"product": terms.product, "kind": str(terms.kind)}),
        ]
        await self._tables.commit("directory", terms.organization_id, writes)

    async def licenses(self, organization_id: str | None = None) -> AsyncIterator[LicenseRef]:
        """The licenses that were ever used, of all organizations or of one, in the order of their ids."""
        async for row in self._tables.rows("directory", organization_id, LICENSE, beyond(LICENSE), columns=()):
            yield LicenseRef(row.partition, row.key.removeprefix(LICENSE))

    async def license_ids(self, organization_id: str | None = None) -> list[str]:
        """The ids of the licenses of an organization, or of all; in the order of `licenses`."""
        return [license.license_id async for license in self.licenses(organization_id)]

    async def organization_name(self, organization_id: str) -> str | None:
        """What an organization is called; None where it never used a license."""
        row = await self._tables.get("directory", organization_id, ORGANIZATION)
        return column(row, "name", str) if row else None

    async def organization_months(self, organization_id: str) -> dict[str, int]:
        """How many people used any of an organization's licenses, by month."""
        rows = self._tables.rows("directory", organization_id, MONTH, beyond(MONTH))
        return {row.key.removeprefix(MONTH): column(row, "users", index) async for row in rows}

    async def save_organization_month(self, organization_id: str, month: str, users: int) -> None:
        """Keep how many people used any of an organization's licenses in a month."""
        await self._tables.commit("directory", organization_id, [put(month_key(month), {"users": users})])

    # The service itself.

    async def alive(self) -> tuple[Versioned[datetime] | None, Outage | None]:
        """When a process of the service marked last that it is alive, and the last outage; None where none is noted."""
        rows = {row.key: row async for row in self._tables.rows("directory", SERVICE)}
        alive, outage = rows.get(ALIVE), rows.get(OUTAGE)
        return (
            Versioned(column(alive, "at", instant), alive.etag) if alive else None,
            Outage(column(outage, "from", instant), column(outage, "to", instant)) if outage else None,
        )

    async def mark_alive(self, before: Versioned[datetime] | None, at: datetime, outage: Outage | None = None) -> None:
        """Note that the service is alive, and an outage if there was one, in one transaction.

        Raises ConflictError if another process has marked since `before` was read.
        """
        columns = {"at": at}
        writes = [merge(ALIVE, columns, before.etag) if before else create(ALIVE, columns)]
        if outage:
            writes.append(put(OUTAGE, {"from": outage.begin, "to": outage.end}))
        await self._tables.commit("directory", SERVICE, writes)

    # The audit.

    async def begin_audit(self, entry: AuditEntry) -> str:
        """Write an audit entry before a change is made; the id by which it is closed."""
        entry_id = f"{audit_key(entry.at)}:{secrets.token_hex(4)}"
        await self._tables.commit("audit", month_of(entry.at), [put(entry_id, AUDIT.encode(entry))])
        return entry_id

    async def close_audit(self, entry_id: str, entry: AuditEntry) -> None:
        """Write how a change ended."""
        closed = AUDIT.encode(entry, ("outcome", "closed_at"))
        await self._tables.commit("audit", month_of(entry.at), [merge(entry_id, closed)])

    async def audit(self, month: str) -> AsyncIterator[AuditEntry]:
        """The audit entries of a UTC month `YYYY-MM`, in the order of their beginning."""
        async for row in self._tables.rows("audit", month):
            yield AUDIT.decode(row)

    async def delete_audit(self, before: datetime, *, dry_run: bool = False) -> int:
        """Delete the audit entries that were begun before a moment, of all months; how many.

        With `dry_run`, only count them.
        """
        rows = self._tables.rows(
            "audit",
            beyond=audit_key(before),
            columns=(),
            where="PartitionKey le @month",
            values={"month": month_of(before.astimezone(UTC))},
            retries=True,
        )
        months: defaultdict[str, list[str]] = defaultdict(list)
        async for row in rows:
            months[row.partition].append(row.key)
        if dry_run:
            return sum(map(len, months.values()))
        return sum([await delete_all(self._tables, "audit", month, _each(keys)) for month, keys in months.items()])


def _totals_write(totals: DayTotals | MonthTotals) -> Write:
    if isinstance(totals, DayTotals):
        return put(day_key(totals.day), DAYS.encode(totals))
    return put(month_key(totals.month), MONTHS.encode(totals))


def _replacement(before: StoredEnd, after: EndedSession) -> list[Write]:
    # Columns that this version does not know stay as they are.
    columns = {**before.row.content, **ENDED_SESSIONS.encode(after)}
    key = ended_key(after.ended_at, after.session.id)
    if key == before.row.key:
        return [merge(key, columns, before.etag)]
    return [delete(before.row.key, before.etag), create(key, columns)]


async def _each(keys: Iterable[str]) -> AsyncIterator[str]:
    for key in keys:
        yield key
