"""The rights of the people in the register (policy, section 11): see, correct and erase what is held; opt out.

A person is found by pseudonyms under every pepper still in use, over all licenses of one organization. The name itself
never arrives here, only what its computer would send: the client's hash.

Everything is idempotent and safe beside live traffic. Seats stay whole: an active session is ended through the ledger
before its row goes, and a session that is corrected afterwards has no seat any more.
"""

from collections.abc import AsyncIterator, Callable, Collection, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date, datetime, timedelta

from licensing.crypto.pseudonyms import Peppers, PseudonymKind, network_of
from licensing.errors import ConflictError, PepperError
from licensing.rules.license import Address, Kind
from licensing.rules.model import EndedSession, EndReason, LicenseState, Session
from licensing.rules.personal import PersonalData, SessionData, WaitData
from licensing.rules.requests import End, Ended
from licensing.rules.retention import year_after, year_before
from licensing.rules.usage import DAY, Denial, midnight
from licensing.services.progress import Progress, no_progress
from licensing.services.totals import invalidate_run
from licensing.storage.ledger import Ledger
from licensing.storage.register import CORRECTIONS, Pseudonyms, Register, StoredEnd

Correction = tuple[StoredEnd, EndedSession]
"""An ended session as it is stored, and as it should be."""


@dataclass(frozen=True, slots=True)
class PersonQuery:
    """Whom to look for: client hashes, and an address; each that is given must fit."""

    organization_id: str
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
    """What was corrected. `running` sessions keep their seat as it is; they can be corrected once they have ended.

    `reopened_from` is the day from which on final totals are aggregated again; None where there are none.
    """

    corrected: int
    running: int
    reopened_from: date | None


@dataclass(frozen=True, slots=True)
class OptedOut:
    """What opting out did: sessions that ran were ended, rows erased if that was asked for."""

    ended: int
    deleted: int


class ImplausibleError(Exception):
    """A correction that cannot be right; the text says why."""


class OptOut:
    """Stops and starts the collection under a license. No person is looked for, and no pepper is needed."""

    def __init__(self, register: Register, ledger: Ledger) -> None:
        self._register = register
        self._ledger = ledger

    async def opt_out(
        self, license_id: str, *, erase: bool, initial: LicenseState | None = None, progress: Progress = no_progress
    ) -> OptedOut | None:
        """Stop all collection under a license; None where there is no such license and no `initial` state for one.

        Raises ImplausibleError for a floating license, whose seats rest on the register.
        """
        state = await self._ledger.state(license_id) or initial
        if state is None:
            return None
        if state.terms.kind is Kind.FLOATING:
            raise ImplausibleError(
                f"{license_id} is a floating license: who holds one of its seats must be recorded while they hold it. "
                "Only named-user and node-locked licenses can do without"
            )
        steps = 5 if erase else 1
        progress(0, steps)
        await self._ledger.set_collect(license_id, collect=False, initial=initial)
        ended = await self._end(license_id, [row.value.id async for row in self._register.active(license_id)])
        deleted = 0
        if erase:
            progress(1, steps)
            deleted += await self._register.delete_ended(license_id)
            progress(2, steps)
            deleted += await self._register.delete_denials(license_id)
            progress(3, steps)
            await invalidate_run(self._register, license_id)
            deleted += await self._register.delete_days(license_id)
            progress(4, steps)
            deleted += await self._register.delete_months(license_id)
        return OptedOut(ended, deleted)

    async def opt_in(self, license_id: str) -> bool:
        """Collect again under a license; False where there is no such license."""
        return await self._ledger.set_collect(license_id, collect=True) is not None

    async def _end(self, license_id: str, session_ids: Sequence[str]) -> int:
        """End sessions that run; how many did."""
        ended = 0
        for session_id in session_ids:
            decision = await self._ledger.submit(license_id, End(session_id, EndReason.RELEASED))
            ended += decision.outcome == Ended(now=True)
        return ended


class Privacy(OptOut):
    """What operators do on a person's request. `clock` gives the present time, UTC.

    Export, erase and rectify raise PepperError, and do nothing, if sessions are stored under a pepper that is not among
    `peppers`: they would overlook people. Sessions under the `lost` peppers are left out, which the caller has to say.
    """

    def __init__(
        self,
        register: Register,
        ledger: Ledger,
        peppers: Peppers,
        clock: Callable[[], datetime],
        lost: Collection[str] = (),
    ) -> None:
        super().__init__(register, ledger)
        self._peppers = peppers
        self._clock = clock
        self._lost = lost

    async def export(self, wanted: PersonQuery, progress: Progress = no_progress) -> PersonalData:
        """Everything that is held on a person."""
        as_of = self._clock()
        looked = 0
        sessions: list[SessionData] = []
        waits: list[WaitData] = []
        async for license_id in self._licenses(wanted.organization_id, progress):
            looked += 1
            state = await self._ledger.state(license_id)
            product = state.terms.product if state else ""
            # One that ends meanwhile is read twice; then the later reading counts. A session id may come again.
            found: dict[tuple[str, datetime], SessionData] = {}
            async for session in self._active(license_id, wanted):
                found[session.id, session.started_at] = _session_data(license_id, product, session)
            async for row in self._ended(license_id, wanted):
                session = row.value.session
                found[session.id, session.started_at] = _session_data(license_id, product, session, row.value)
            sessions += found.values()
            waits += [
                _wait_data(license_id, denial)
                async for denial in self._register.denials(license_id)
                if any(denial.session_id == session_id for session_id, _ in found)
            ]
        return PersonalData(
            organization=wanted.organization_id,
            as_of=as_of,
            licenses=looked,
            peppers=len(list(self._peppers)),
            sessions=tuple(sorted(sessions, key=lambda session: session.started_at)),
            waits=tuple(sorted(waits, key=lambda wait: wait.first_at)),
        )

    async def erase(self, wanted: PersonQuery, progress: Progress = no_progress) -> Erased:
        """Delete everything that is held on a person; running sessions are ended first, so that no seat is lost.

        Totals that are final stay as they are: nobody is in them. Those that are not are aggregated without the person.
        """
        looked = ended = deleted = 0
        async for license_id in self._licenses(wanted.organization_id, progress):
            looked += 1
            ended += await self._end(license_id, [each.id async for each in self._active(license_id, wanted)])
            rows = [row async for row in self._ended(license_id, wanted)]
            if not rows:
                continue
            # Waits first: once the sessions are gone, nothing says any more whose they were.
            await self._register.delete_denials_of(license_id, {row.value.session.id for row in rows})
            deleted += await self._register.delete_sessions(license_id, rows)
            await invalidate_run(self._register, license_id)
        return Erased(wanted.organization_id, self._clock(), looked, ended, deleted)

    async def move(self, wanted: PersonQuery, user: str, progress: Progress = no_progress) -> Rectified:
        """Give sessions that stand under a wrong name to the right one, by its client hash."""

        def moved(rows: Sequence[StoredEnd]) -> list[Correction]:
            return [(row, replace(row.value, session=self._moved(wanted, user, row.value.session))) for row in rows]

        return await self._rectify(wanted, moved, progress)

    async def correct_end(
        self, wanted: PersonQuery, session_id: str, ended_at: datetime, progress: Progress = no_progress
    ) -> Rectified:
        """Correct when a session ended. If its id was used again, the use that began last before `ended_at` is meant.

        Raises ImplausibleError if it cannot have ended then.
        """

        def corrected(rows: Sequence[StoredEnd]) -> list[Correction]:
            begun = [row for row in rows if row.value.session.started_at <= ended_at] or rows
            row = max(begun, key=lambda row: row.value.session.started_at, default=None)
            if row is None:
                return []
            began = row.value.session.started_at
            latest = min(self._clock(), max(row.value.ended_at, row.value.session.expires_at))
            if not began <= ended_at <= latest:
                raise ImplausibleError(
                    f"the session can have ended between {began:%Y-%m-%d %H:%M:%S} and "
                    f"{latest:%Y-%m-%d %H:%M:%S} UTC: it began then, and its lease ran out then"
                )
            return [(row, replace(row.value, ended_at=ended_at))]

        return await self._rectify(wanted, corrected, progress, session_id)

    # Finding.

    async def _licenses(self, organization_id: str, progress: Progress) -> AsyncIterator[str]:
        """An organization's licenses one by one, once it is known that nobody can be overlooked under any of them."""
        license_ids = [license.license_id async for license in self._register.licenses(organization_id)]
        at_hand, steps = (*self._peppers, *self._lost), 2 * len(license_ids)
        for done, license_id in enumerate(license_ids):
            progress(done, steps)
            pepper = await self._register.pepper_beyond(license_id, at_hand)
            if pepper is not None:
                raise PepperError(organization_id, pepper)
        for done, license_id in enumerate(license_ids, len(license_ids)):
            progress(done, steps)
            yield license_id

    async def _active(self, license_id: str, wanted: PersonQuery) -> AsyncIterator[Session]:
        """A person's running sessions on one license, under every pepper."""
        for pepper in self._peppers:
            async for row in self._register.find_active(license_id, self._pseudonyms(pepper, wanted)):
                yield row.value

    async def _ended(self, license_id: str, wanted: PersonQuery) -> AsyncIterator[StoredEnd]:
        """A person's ended sessions on one license, under every pepper."""
        for pepper in self._peppers:
            async for row in self._register.find_ended(license_id, self._pseudonyms(pepper, wanted)):
                yield row

    def _pseudonyms(self, pepper: str, wanted: PersonQuery) -> Pseudonyms:
        def pseudonym(kind: PseudonymKind, value: str) -> str:
            return self._peppers.pseudonym(pepper, wanted.organization_id, kind, value)

        return Pseudonyms(
            user=pseudonym("user", wanted.user),
            host=None if wanted.host is None else pseudonym("host", wanted.host),
            ip=None if wanted.address is None else pseudonym("ip", network_of(wanted.address)),
        )

    # Correcting.

    def _moved(self, wanted: PersonQuery, user: str, session: Session) -> Session:
        right = {
            pepper: self._peppers.pseudonym(pepper, wanted.organization_id, "user", user) for pepper in self._peppers
        }
        # A shared seat is named after those who share it, maybe under an older pepper than the session's.
        holder = session.holder
        for pepper in self._peppers:
            holder = holder.replace(self._pseudonyms(pepper, wanted).user, right[pepper])
        return replace(session, user=right[session.pepper], holder=holder)

    async def _rectify(
        self,
        wanted: PersonQuery,
        change: Callable[[Sequence[StoredEnd]], list[Correction]],
        progress: Progress,
        session_id: str | None = None,
    ) -> Rectified:
        """Correct a person's sessions, or one of them: `change` says which ended sessions become what."""
        corrected = running = 0
        reopened: date | None = None
        async for license_id in self._licenses(wanted.organization_id, progress):
            active = [each.id async for each in self._active(license_id, wanted)]
            running += sum(session_id in (None, each) for each in active)
            rows = [row async for row in self._ended(license_id, wanted)]
            corrections = change([row for row in rows if session_id in (None, row.value.session.id)])
            for place in range(0, len(corrections), CORRECTIONS):
                done, from_day = await self._correct(license_id, corrections[place : place + CORRECTIONS])
                corrected += done
                reopened = min(filter(None, (reopened, from_day)), default=None)
        return Rectified(corrected, running, reopened)

    async def _correct(self, license_id: str, corrections: list[Correction]) -> tuple[int, date | None]:
        """Correct sessions and reopen their totals, in one transaction: neither goes without the other.

        How many were corrected, and from which day on final totals are aggregated again.
        """
        while corrections and (known := await self._register.totals_state(license_id)) is not None:
            began = min(before.value.session.started_at for before, _ in corrections).date()
            first = max(began, _first_whole_month(self._clock()))
            reopens = known.final_day is not None and known.final_day >= first
            try:
                await self._register.correct(license_id, known, corrections, first - DAY if reopens else None)
            except ConflictError as conflict:
                if conflict.index is not None:  # retention or another operator came first
                    del corrections[conflict.index]
                continue  # or else a start or an end came in between
            return len(corrections), first if reopens else None
        return 0, None


def _first_whole_month(now: datetime) -> date:
    """The first month whose sessions are all still kept: older totals cannot be aggregated again."""
    cutoff = year_before(now)
    month = cutoff.date().replace(day=1)
    return month if cutoff == midnight(month) else (month + timedelta(days=31)).replace(day=1)


def _session_data(license_id: str, product: str, session: Session, ended: EndedSession | None = None) -> SessionData:
    fields = asdict(session)
    return SessionData(
        license=license_id,
        product=product,
        session=fields.pop("id"),
        state="ended" if ended else "active",
        ended_at=ended.ended_at if ended else None,
        reason=ended.reason if ended else None,
        kept_until=year_after(ended.ended_at) if ended else None,
        **fields,
    )


def _wait_data(license_id: str, denial: Denial) -> WaitData:
    return WaitData(
        license=license_id,
        session=denial.session_id,
        first_at=denial.first_at,
        last_at=denial.last_at or denial.first_at,
        reason=denial.reason,
    )
