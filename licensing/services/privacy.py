"""The rights of the people in the register (policy, section 11): see, correct and erase what is held; opt out.

A person is found by pseudonyms under every pepper still in use, over all licenses of one organization. The name itself
never arrives here, only the client hash.

Everything is idempotent and safe beside live traffic. An active session is ended through the ledger before its row is
deleted, so that no seat is lost. Only ended sessions are corrected; they hold no seat.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Final

from licensing.crypto.pseudonyms import Peppers, PseudonymKind, network_of
from licensing.errors import PepperError, RowError
from licensing.rules.license import Address, Kind
from licensing.rules.model import EndedSession, EndReason, LicenseState, Session
from licensing.rules.personal import PersonalData, SessionData, WaitData
from licensing.rules.requests import End, Ended
from licensing.rules.retention import year_after
from licensing.rules.usage import Denial
from licensing.services.corrections import Correction, correct_sessions
from licensing.services.organization_totals import aggregate_organization, recount_months
from licensing.services.progress import Progress, no_progress
from licensing.services.totals import invalidate_run
from licensing.storage.codec import noting
from licensing.storage.ledger import Ledger
from licensing.storage.register import Pseudonyms, Register, RowKind, StoredEnd

PARALLEL: Final = 4
"""How many licenses are aggregated at once."""
TRIES: Final = 5
"""How often an erasure looks again for sessions of a license whose rows have changed meanwhile."""


@dataclass(frozen=True, slots=True)
class PersonQuery:
    """The person to look for: client hashes and an address; each that is given must fit.

    The `other_users` and `other_hosts` are the hashes of the same names in other forms, as older programs sent them.
    """

    organization_id: str
    user: str
    host: str | None = None
    address: Address | None = None
    other_users: tuple[str, ...] = ()
    other_hosts: tuple[str, ...] = ()

    @property
    def users(self) -> tuple[str, ...]:
        """The user in all forms."""
        return (self.user, *self.other_users)

    @property
    def hosts(self) -> tuple[str | None, ...]:
        """The host in all forms; only None if any will do."""
        return (self.host, *self.other_hosts)


@dataclass(frozen=True, slots=True)
class Erased:
    """A receipt that names no person."""

    organization: str
    at: datetime
    licenses: int
    ended: int
    deleted: int


@dataclass(frozen=True, slots=True)
class Rectified:
    """The result of a correction. `running` sessions are unchanged; they can be corrected once they have ended.

    `months` are those of which final days changed: their statements name the correction.
    """

    corrected: int
    running: int
    months: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class OptedOut:
    """The result of opting out: how many running sessions were ended, and how many rows were erased."""

    ended: int
    deleted: int


class ImplausibleError(Exception):
    """A correction that cannot be right; the text says why."""


@dataclass(eq=False, repr=False)
class OptOut:
    """Stops and starts the collection under a license; needs no pepper, since it finds no person."""

    register: Register
    ledger: Ledger

    async def opt_out(
        self, license_id: str, *, erase: bool, initial: LicenseState | None = None, progress: Progress = no_progress
    ) -> OptedOut | None:
        """Stop all collection under a license; None if there is no such license and no `initial` state for one.

        Raises ImplausibleError if the license is floating: its seats are counted in the register.
        """
        state = await self.ledger.state(license_id) or initial
        if state is None:
            return None
        if state.terms.kind is Kind.FLOATING:
            raise ImplausibleError(
                f"{license_id} is a floating license: who holds one of its seats must be recorded while they hold it. "
                "Only named-user and node-locked licenses can do without"
            )
        register = self.register
        kinds = (RowKind.ENDED, RowKind.DENIED, RowKind.DAY, RowKind.MONTH, RowKind.LATE) if erase else ()
        steps = 1 + len(kinds)
        progress(0, steps)
        await self.ledger.set_collect(license_id, collect=False, initial=initial)
        ended = await _end_sessions(self.ledger, license_id, [row.value async for row in register.active(license_id)])
        if erase and (known := await self.ledger.state(license_id)):
            await self.ledger.forget_recalls(license_id, [recall.session_id for recall in known.recalled])
        deleted = 0
        for done, kind in enumerate(kinds, 1):
            progress(done, steps)
            if kind is RowKind.DAY:
                await invalidate_run(register, license_id)
            deleted += await register.delete(license_id, kind)
        return OptedOut(ended, deleted)

    async def opt_in(self, license_id: str) -> bool:
        """Collect again under a license; False if there is no such license."""
        return await self.ledger.set_collect(license_id, collect=True) is not None


@dataclass(eq=False, repr=False)
class Privacy(OptOut):
    """An operator's work on a person's request. `clock` gives the present time, UTC.

    Sessions under the `lost` peppers are left out; the caller has to say so.

    Methods about a person raise PepperError, and do nothing, if a session is under another pepper that is not at hand.
    """

    peppers: Peppers
    clock: Callable[[], datetime]
    lost: Collection[str] = ()

    async def export(
        self, query: PersonQuery, progress: Progress = no_progress, unreadable: list[RowError] | None = None
    ) -> PersonalData:
        """All data that is held on a person. Rows that cannot be read are left out, and added to `unreadable`."""
        as_of, person = self.clock(), self._pseudonyms(query)
        sessions: list[SessionData] = []
        waits: list[WaitData] = []
        license_ids = await self._searchable_licenses(query.organization_id, progress)
        for done, license_id in enumerate(license_ids, len(license_ids)):
            progress(done, 2 * len(license_ids))
            product = ""
            with noting(unreadable):
                state = await self.ledger.state(license_id)
                product = state.terms.product if state else ""
            # A session that ends meanwhile is read twice; the later reading counts. A session id may come again.
            found: dict[tuple[str, datetime], SessionData] = {}
            for session in await self._active_of(license_id, person, unreadable):
                found[session.id, session.started_at] = _session_data(license_id, product, session)
            for row in await self._ended_of(license_id, person, unreadable):
                session = row.value.session
                found[session.id, session.started_at] = _session_data(license_id, product, session, row.value)
            sessions += found.values()
            if session_ids := {session_id for session_id, _ in found}:
                denials = self.register.denials(license_id, unreadable=unreadable)
                waits += [_wait_data(license_id, each) async for each in denials if each.session_id in session_ids]
        return PersonalData(
            organization=query.organization_id,
            as_of=as_of,
            licenses=len(license_ids),
            peppers=len(list(self.peppers)),
            sessions=tuple(sorted(sessions, key=lambda session: session.started_at)),
            waits=tuple(sorted(waits, key=lambda wait: wait.first_at)),
        )

    async def erase(self, query: PersonQuery, progress: Progress = no_progress) -> Erased:
        """Delete all data that is held on a person; running sessions are ended first, so that no seat is lost.

        Totals of days that are over stay as they are, since nobody can be found in them.
        """
        ended = deleted = 0
        license_ids = await self._searchable_licenses(query.organization_id, progress)
        person, found = self._pseudonyms(query), dict[str, list[StoredEnd]]()
        for license_id in license_ids:
            ended += await _end_sessions(self.ledger, license_id, await self._active_of(license_id, person))
            found[license_id] = await self._ended_of(license_id, person)
        if any(found.values()):
            slots = asyncio.Semaphore(PARALLEL)
            await aggregate_organization(self.register, query.organization_id, license_ids, self.clock(), slots)
        for done, (license_id, rows) in enumerate(found.items(), len(license_ids)):
            progress(done, 2 * len(license_ids))
            for _ in range(TRIES):
                if not rows:
                    break
                session_ids = {row.value.session.id for row in rows}
                # Denials and recalls first: only sessions link them to a person.
                await self.register.delete_denials_of(license_id, session_ids)
                await self.ledger.forget_recalls(license_id, session_ids)
                erased: list[Correction] = [(row, None) for row in rows]
                gone = (await correct_sessions(self.register, license_id, erased, self.clock())).sessions
                deleted += gone
                # A program may have said meanwhile until when it ran: then its row is another, and still there.
                rows = await self._ended_of(license_id, person) if gone < len(rows) else []
        return Erased(query.organization_id, self.clock(), len(license_ids), ended, deleted)

    async def move(self, query: PersonQuery, user: str, progress: Progress = no_progress) -> Rectified:
        """Move sessions that are under a wrong name to the right user, by their client hash."""
        right = self._pseudonyms(PersonQuery(query.organization_id, user))
        users = {
            self.peppers.pseudonym(pepper, query.organization_id, "user", wrong): person.user
            for pepper, person in zip(self.peppers, right, strict=True)
            for wrong in query.users
        }

        async def moved(license_id: str, rows: Sequence[StoredEnd]) -> list[Correction]:
            holders = await self._one_name(license_id, right, users) if rows else {}
            return [(row, replace(row.value, session=_moved(row.value.session, users, holders))) for row in rows]

        return await self._rectify(query, moved, progress)

    async def _one_name(self, license_id: str, right: Sequence[Pseudonyms], users: Mapping[str, str]) -> dict[str, str]:
        """Give the seats of the right user one name, that under the newest pepper or of a running session.

        A shared seat may be named under an older pepper than the session's. Under two names, sessions at the same time
        would count as two seats. Returns the name for each pseudonym of the wrong and of the right user.
        """
        names = [each.user for each in right]
        running = [session.holder for session in await self._active_of(license_id, right)]
        name = next((name for name in names for holder in running if name in holder), names[0])
        holders = dict.fromkeys((*users, *names), name)
        renamed: list[Correction] = [
            (row, replace(row.value, session=session))
            for row in await self._ended_of(license_id, right)
            if (session := _moved(row.value.session, {}, holders)) != row.value.session
        ]
        await correct_sessions(self.register, license_id, renamed, self.clock())
        return holders

    async def correct_end(
        self, query: PersonQuery, session_id: str, ended_at: datetime, progress: Progress = no_progress
    ) -> Rectified:
        """Correct when a session ended. If its id was used again, the last use that began before `ended_at` is meant.

        Raises ImplausibleError if it cannot have ended then.
        """

        async def corrected(license_id: str, rows: Sequence[StoredEnd]) -> list[Correction]:
            begun = [row for row in rows if row.value.session.started_at <= ended_at] or rows
            row = max(begun, key=lambda row: row.value.session.started_at, default=None)
            if row is None:
                return []
            began = row.value.session.started_at
            latest = min(self.clock(), max(row.value.ended_at, row.value.session.expires_at))
            if not began <= ended_at <= latest:
                raise ImplausibleError(
                    f"the session can have ended between {began:%Y-%m-%d %H:%M:%S} and "
                    f"{latest:%Y-%m-%d %H:%M:%S} UTC: it began then, and its lease ran out then"
                )
            session = row.value.session
            heartbeat_at = min(session.heartbeat_at, ended_at)
            return [(row, replace(row.value, ended_at=ended_at, session=replace(session, heartbeat_at=heartbeat_at)))]

        return await self._rectify(query, corrected, progress, session_id)

    async def _searchable_licenses(self, organization_id: str, progress: Progress) -> list[str]:
        """An organization's licenses, after all of them were searched for unknown peppers: half of the progress."""
        license_ids = await self.register.license_ids(organization_id)
        known = (*self.peppers, *self.lost)
        for done, license_id in enumerate(license_ids):
            progress(done, 2 * len(license_ids))
            pepper = await self.register.unknown_pepper(license_id, known)
            if pepper is not None:
                raise PepperError(organization_id, pepper)
        return license_ids

    async def _active_of(
        self, license_id: str, person: Sequence[Pseudonyms], unreadable: list[RowError] | None = None
    ) -> list[Session]:
        find = self.register.find_active
        return [row.value for each in person async for row in find(license_id, each, unreadable)]

    async def _ended_of(
        self, license_id: str, person: Sequence[Pseudonyms], unreadable: list[RowError] | None = None
    ) -> list[StoredEnd]:
        find = self.register.find_ended
        return [row for each in person async for row in find(license_id, each, unreadable)]

    def _pseudonyms(self, query: PersonQuery) -> list[Pseudonyms]:
        """A person's pseudonyms under each pepper, and in each form of the names."""
        network = None if query.address is None else network_of(query.address)

        def made(pepper: str, kind: PseudonymKind, value: str | None) -> str | None:
            return None if value is None else self.peppers.pseudonym(pepper, query.organization_id, kind, value)

        return [
            Pseudonyms(
                self.peppers.pseudonym(pepper, query.organization_id, "user", user),
                made(pepper, "host", host),
                made(pepper, "ip", network),
            )
            for pepper in self.peppers
            for user in query.users
            for host in query.hosts
        ]

    async def _rectify(
        self,
        query: PersonQuery,
        change: Callable[[str, Sequence[StoredEnd]], Awaitable[list[Correction]]],
        progress: Progress,
        session_id: str | None = None,
    ) -> Rectified:
        """Correct a person's sessions, or one of them, as `change` says for the ended sessions of a license."""
        corrected = running = 0
        months: set[str] = set()
        person, corrections = self._pseudonyms(query), dict[str, list[Correction]]()
        license_ids = await self._searchable_licenses(query.organization_id, progress)
        for license_id in license_ids:
            active = await self._active_of(license_id, person)
            running += sum(session_id in (None, each.id) for each in active)
            rows = await self._ended_of(license_id, person)
            found = [row for row in rows if session_id in (None, row.value.session.id)]
            corrections[license_id] = await change(license_id, found)
        # First, since who repeats a move that was interrupted finds no session to move any more.
        await recount_months(self.register, query.organization_id, corrections, self.clock())
        for done, (license_id, of_license) in enumerate(corrections.items(), len(license_ids)):
            progress(done, 2 * len(license_ids))
            if of_license:
                done_now = await correct_sessions(self.register, license_id, of_license, self.clock())
                corrected += done_now.sessions
                months |= done_now.months
        return Rectified(corrected, running, tuple(sorted(months)))


async def _end_sessions(ledger: Ledger, license_id: str, sessions: Iterable[Session]) -> int:
    ended = 0
    for session in sessions:
        answer = await ledger.submit(license_id, End(session.id, EndReason.RELEASED))
        ended += answer.outcome == Ended(now=True)
    return ended


def _moved(session: Session, users: Mapping[str, str], holders: Mapping[str, str]) -> Session:
    """A session under the pseudonyms that take the place of others, as a user and in the name of a shared seat."""
    holder = session.holder
    for wrong, right in holders.items():
        holder = holder.replace(wrong, right)
    return replace(session, user=users.get(session.user, session.user), holder=holder)


def _session_data(license_id: str, product: str, session: Session, ended: EndedSession | None = None) -> SessionData:
    fields = asdict(session)
    if ended:
        del fields["lapses_at"]  # what has ended does not lapse
    return SessionData(
        license=license_id,
        product=product,
        session=fields.pop("id"),
        state="ended" if ended else "active",
        ended_at=ended.ended_at if ended else None,
        reason=ended.reason if ended else None,
        ran_until=ended.ran_until if ended else None,
        late_until=ended.late_until if ended else None,
        kept_until=year_after(ended.ended_at) if ended else None,
        **fields,
    )


def _wait_data(license_id: str, denial: Denial) -> WaitData:
    first_at, last_at = denial.first_at, denial.last_at or denial.first_at
    return WaitData(
        license=license_id, session=denial.session_id, first_at=first_at, last_at=last_at, reason=denial.reason
    )
