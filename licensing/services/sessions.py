"""A desktop program starts, runs and ends under a license.

Signatures are verified before storage is touched. The client sends hashes, never names. The caller's address becomes a
pseudonym or is compared with the license's networks, and is forgotten.

A program trusts only the lease keys that its license file names (docs/adr/0011). So the lease of a start is signed with
the first of our keys that the file names. That of a heartbeat is signed with the key of the lease before.

A program whose license file is not the newest is judged by the newest one, if the register keeps it.
"""

from collections.abc import Callable, Container
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from licensing.crypto.pseudonyms import from_base64url, is_nobodys_host
from licensing.crypto.tokens import Lease, read_lease, read_license, signed_by, write_lease
from licensing.errors import Flaw, RowError, TokenError, UnavailableError
from licensing.rules.license import Address, License, Refusal, refusal_of
from licensing.rules.model import LicenseState, Session, Terms
from licensing.rules.requests import End, Ended, ForeignSession, Full, Granted, Refused, Start
from licensing.rules.usage import midnight
from licensing.services.license_files import LicenseFiles, NoNewerFile, SignedFile
from licensing.settings import Settings
from licensing.storage.ledger import Answer, Heartbeat, Ledger

NOT_OF_THE_FILE: Final = (Refusal.SUSPENDED, Refusal.RECALLED)
"""Refusals that another file of the license cannot change."""


@dataclass(frozen=True, slots=True)
class StartRequest:
    """A program starts: its license file's JWS, its session id in lower case, its client hashes.

    `replaces` is the lease of the session that it follows, whose program ran until `ran_until`. `wait`: if there is no
    seat, it gets a place in line.
    """

    license_token: str
    session_id: str
    user: str
    host: str
    nonce: str
    borrow_seconds: int = 0
    replaces: str | None = None
    ran_until: datetime | None = None
    wait: bool = False


@dataclass(frozen=True, slots=True)
class Running:
    """The program may run: its signed lease, and what it should know about its license."""

    session_id: str
    lease_token: str
    expires_at: datetime
    heartbeat_seconds: int
    in_use: int
    seats: int
    waiting: int
    overdraft: bool
    recorded: bool
    license_serial: int
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class NoSeat:
    """No seat is free for the program; it may ask again after `retry_seconds`. `position`: in line, None outside."""

    in_use: int
    seats: int
    waiting: int
    position: int | None
    retry_seconds: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The session is not active; the program has to start again."""


@dataclass(frozen=True, slots=True)
class Held:
    """All that the register holds on a running session."""

    license_id: str
    session: Session


@dataclass(eq=False, repr=False)
class Sessions:
    """The life of sessions. `clock` gives the present time, UTC.

    Each method raises TokenError if the license file or lease is not genuine or another session's, and UnavailableError
    if the store cannot be used now.
    """

    settings: Settings
    ledger: Ledger
    files: LicenseFiles
    clock: Callable[[], datetime]

    async def start(
        self, request: StartRequest, address: Address | None
    ) -> Running | Refused | NoSeat | ForeignSession:
        """Start a session, or repeat a start."""
        license = read_license(request.license_token, self.settings.issuer_keys)
        file = SignedFile(license, request.license_token)
        while True:
            outcome = await self._start_under(file, request, address, license.trusted_kids)
            if not isinstance(outcome, Refused) or outcome.refusal in NOT_OF_THE_FILE:
                return outcome
            newest = await self._newer(license, outcome.refusal)
            if newest is NoNewerFile.TOO_OLD:
                return Refused(Refusal.SUPERSEDED)
            if not isinstance(newest, SignedFile) or newest.license.serial <= file.license.serial:
                return outcome
            file = newest  # by a stale state even this may not be the newest; then the register refuses it

    async def _newer(self, license: License, refusal: Refusal) -> SignedFile | NoNewerFile:
        """The newest file for a program that was refused under an older one.

        A refusal by the file's own terms stands if the register cannot be read. One by the register does not: there is
        a newer file, which may grant.
        """
        try:
            return await self.files.newer(license, by_cache=True)
        except (UnavailableError, RowError):
            if refusal is Refusal.SUPERSEDED:
                raise
            return NoNewerFile.NONE

    async def _start_under(
        self, file: SignedFile, request: StartRequest, address: Address | None, trusted_kids: Container[str]
    ) -> Running | Refused | NoSeat | ForeignSession:
        """Start a session by the terms of a file. The program trusts the lease keys of the file that it has."""
        license = file.license
        if refusal := refusal_of(license, request.user, request.host, address, self.clock()):
            return Refused(refusal)
        if not license.collect:
            return await self._start_unrecorded(license, request)
        persons = self.settings.peppers.persons(
            license.organization.id,
            request.user,
            request.host,
            address,
            host_is_nobodys=is_nobodys_host(from_base64url(license.salt), request.host),
        )
        kept = self.files.sealed(license, file.token, midnight(self.clock().date()))
        start = Start(
            request.session_id, Terms.of(license), persons, request.borrow_seconds, wait=request.wait, file=kept
        )
        if request.replaces and (lease := self._predecessor(request.replaces, license.id, request.session_id)):
            ran_until = request.ran_until and lease.latest(request.ran_until)
            start = replace(start, replaces=lease.session_id, ran_until=ran_until)
        answer = await self.ledger.submit(license.id, start)
        match answer:
            case Answer(Granted() as granted, LicenseState() as state):
                return self._granted(license, request, granted, state, trusted_kids)
            case Answer(Full(retry_seconds, position, waiting), LicenseState() as state):
                return NoSeat(state.in_use, state.terms.seats, waiting, position, retry_seconds)
            case Answer(Refused() | ForeignSession() as outcome):
                return outcome
            case _:
                raise AssertionError(f"no decision on a start: {answer.outcome}")

    async def heartbeat(self, token: str, session_id: str, nonce: str) -> Running | Refused | Gone:
        """Note that a session runs, and renew its lease."""
        lease = self.authenticated(token, session_id)
        now = self.clock()

        def refused(state: LicenseState) -> Refusal | None:
            if state.recalls(session_id):
                return Refusal.RECALLED
            return Refusal.EXPIRED if now >= state.terms.valid_until else None

        state, refusal = await self._state(lease.license_id, refused)
        if refusal:
            return Refused(refusal)
        if state is None and (state := await self.ledger.state(lease.license_id)) is None:
            return Gone()  # only by a fresh read: another process may just have made its first start
        waiting = self.ledger.waiting(state, self.ledger.state_age(lease.license_id))
        renewed = self._renewed(lease, state.terms, nonce, now)
        # If this answer is lost, the program runs on the lease that it has, perhaps one under former terms.
        lapses_at = state.terms.lapse(now, max(renewed.expires_at, lease.expires_at), lease.grace_end)
        borrowed = renewed.borrowed if lease.offered or lease.borrowed else None
        heartbeat = Heartbeat(session_id, now, renewed.expires_at, lapses_at, borrowed)
        if state.recorded and not await self.ledger.heartbeat(lease.license_id, heartbeat):
            return Gone()
        return self._running(state, renewed, signed_by(token), waiting, recorded=state.recorded)

    async def end(self, token: str, session_id: str) -> None:
        """End a session; idempotent."""
        lease = self.authenticated(token, session_id)
        answer = await self.ledger.submit(lease.license_id, End(session_id))
        if not isinstance(answer.outcome, Ended):
            raise AssertionError(f"no decision on an end: {answer.outcome}")

    async def read(self, token: str, session_id: str) -> Held | Gone:
        """All that the register holds on a running session."""
        lease = self.authenticated(token, session_id)
        session = await self.ledger.session(lease.license_id, session_id)
        return Held(lease.license_id, session) if session else Gone()

    def authenticated(self, token: str, session_id: str) -> Lease:
        """The lease of a session, also after it has expired."""
        lease = read_lease(token, self.settings.lease_keys)
        if lease.session_id != session_id:
            raise TokenError(Flaw.WRONG_TYPE, "belongs to another session")
        return lease

    async def _state(
        self, license_id: str, by_state: Callable[[LicenseState], Refusal | None]
    ) -> tuple[LicenseState | None, Refusal | None]:
        """The license state, and a refusal by it: first by a cached one, then confirmed by a fresh one."""
        state = refusal = None
        for max_age_seconds in (self.settings.status_cache_seconds, 0):
            state = await self.ledger.state(license_id, max_age_seconds)
            refusal = _refusal(state, by_state)
            if refusal is None:
                break
        return state, refusal

    def _predecessor(self, token: str, license_id: str, session_id: str) -> Lease | None:
        """The lease of the session that a start replaces; None where it is no other session of this license."""
        try:
            lease = read_lease(token, self.settings.lease_keys)
        except TokenError:
            return None  # the start must not fail for it: the old session lapses
        return lease if lease.license_id == license_id and lease.session_id != session_id else None

    def _granted(
        self,
        license: License,
        request: StartRequest,
        granted: Granted,
        state: LicenseState,
        trusted_kids: Container[str],
    ) -> Running:
        session, now = granted.session, self.clock()
        ordinary_end = now + timedelta(seconds=license.lease_seconds)
        lease = Lease(
            session_id=request.session_id,
            license_id=license.id,
            issued_at=now,
            expires_at=granted.expires_at,
            nonce=request.nonce,
            features=license.features,
            grace_seconds=0 if granted.offered else license.grace_seconds,
            borrowed=session is None and granted.expires_at > ordinary_end,
            overdraft=session.overdraft if session else False,
            offered=granted.offered,
        )
        kid = self.settings.lease_keys.chosen(trusted_kids)
        waiting = self.ledger.waiting(state)
        return self._running(state, lease, kid, waiting, recorded=session is not None, repeat=granted.repeat)

    async def _start_unrecorded(self, license: License, request: StartRequest) -> Running | Refused:
        """Start under a license that forbids collection: nothing is stored, not even the license."""
        terms, now = Terms.of(license), self.clock()

        def superseded(state: LicenseState) -> Refusal | None:
            return Refusal.SUPERSEDED if state.terms.serial > terms.serial else None

        _, refusal = await self._state(license.id, superseded)
        if refusal:
            return Refused(refusal)
        expires_at, _ = terms.lease_end(now, request.borrow_seconds)
        return self._granted(license, request, Granted(None, expires_at), LicenseState(terms), license.trusted_kids)

    def _renewed(self, lease: Lease, terms: Terms, nonce: str, now: datetime) -> Lease:
        """The next lease of a session, under the terms in force; a borrowed seat keeps its end."""
        expires_at, _ = terms.lease_end(now)
        borrowing_end = lease.borrowing_end
        borrowed = borrowing_end is not None and borrowing_end > expires_at
        complete = terms.grace_seconds is not None  # else the first edition wrote them
        update = {
            "issued_at": now,
            "expires_at": borrowing_end if borrowed else expires_at,
            "nonce": nonce,
            "features": terms.features if complete else lease.features,
            "grace_seconds": terms.grace_seconds if complete else lease.grace_seconds,
            "borrowed": borrowed,
            "offered": None,
        }
        return lease.model_copy(update=update)

    def _running(
        self, state: LicenseState, lease: Lease, kid: str, waiting: int, *, recorded: bool, repeat: bool = False
    ) -> Running:
        return Running(
            session_id=lease.session_id,
            lease_token=write_lease(lease, self.settings.lease_keys, kid),
            expires_at=lease.expires_at,
            heartbeat_seconds=state.terms.heartbeat_seconds,
            in_use=state.in_use,
            seats=state.terms.seats,
            waiting=waiting,
            overdraft=lease.overdraft,
            recorded=recorded,
            license_serial=state.terms.serial,
            repeat=repeat,
        )


def _refusal(state: LicenseState | None, by_state: Callable[[LicenseState], Refusal | None]) -> Refusal | None:
    if state is None:
        return None
    return Refusal.SUSPENDED if state.suspended else by_state(state)
