"""A desktop program starts, runs and ends under a license.

Signatures are checked before storage is touched. A name never arrives here: the client sends hashes, and its address
is turned into a pseudonym or compared with the license's networks, and forgotten.

A program trusts only the lease keys that its license file names. So a start is answered under the first of our keys
that the file names, and a heartbeat under the key of the lease that it presents (docs/adr/0020).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from licensing.crypto.tokens import Lease, read_lease, read_license, signed_by, write_lease
from licensing.errors import Flaw, TokenError
from licensing.rules.license import Address, License, Refusal, admits, lease_end
from licensing.rules.seats import End, Ended, Full, Granted, Head, Refused, Session, Start, Taken, Terms
from licensing.settings import Settings
from licensing.storage.ledger import Heartbeat, Ledger


@dataclass(frozen=True, slots=True)
class StartRequest:
    """What a program sends when it starts; `session` in canonical form, `borrow` in seconds."""

    license: str
    session: str
    user: str
    host: str
    nonce: str
    borrow: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """The program may run: its signed lease, and what it should know about its license."""

    session: str
    lease: str
    expires_at: datetime
    heartbeat_seconds: int
    in_use: int
    seats: int
    overdraft: bool
    recorded: bool
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class NoSeat:
    """All seats are held; come back after `retry` seconds."""

    in_use: int
    seats: int
    retry: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The session is not active (any more); the program has to start again."""


@dataclass(frozen=True, slots=True)
class Held:
    """All that the register holds on a running session."""

    license: str
    session: Session


class Sessions:
    """The life of sessions. `clock` gives the present time, UTC."""

    def __init__(self, settings: Settings, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._ledger = ledger
        self._clock = clock

    async def start(self, request: StartRequest, address: Address | None) -> Running | Refused | NoSeat | Taken:
        """Start a session, or repeat a start. TokenError for a license file that is not genuine."""
        license = read_license(request.license, self._settings.issuer_keys)
        refusal = admits(license, request.user, request.host, address, self._clock())
        if refusal:
            return Refused(refusal)
        if not license.collect:
            return await self._start_unrecorded(license, request)
        persons = self._settings.peppers.persons(license.organization.id, request.user, request.host, address)
        start = Start(request.session, Terms.of(license), persons, request.borrow)
        settled = await self._ledger.submit(license.id, start)
        outcome, head = settled.outcome, settled.head
        match outcome:
            case Granted(session=session, expires_at=expires_at, repeat=repeat) if head is not None:
                return self._running(
                    head.terms,
                    head.in_use,
                    self._lease_for(license, request, expires_at, session),
                    self._settings.lease_keys.chosen(license.trusted_kids),
                    recorded=session is not None,
                    repeat=repeat,
                )
            case Full(retry=retry) if head is not None:
                return NoSeat(head.in_use, head.terms.seats, retry)
            case Refused() | Taken():
                return outcome
            case _:
                raise AssertionError(f"no outcome of a start: {outcome}")

    async def _start_unrecorded(self, license: License, request: StartRequest) -> Running | Refused:
        """A license whose file forbids to collect: nothing is stored, not even the license itself."""
        terms, now = Terms.of(license), self._clock()

        def refusal(head: Head | None) -> Refusal | None:
            if head is not None and head.suspended:
                return Refusal.SUSPENDED
            return Refusal.SUPERSEDED if head is not None and head.terms.serial > terms.serial else None

        refused = await self._confirmed(license.id, refusal)
        if refused:
            return Refused(refused)
        expires_at, _ = lease_end(
            now, lease=terms.lease, borrow=terms.borrow, wanted=request.borrow, valid_until=terms.valid_until
        )
        lease = self._lease_for(license, request, expires_at, None)
        return self._running(terms, 0, lease, self._settings.lease_keys.chosen(license.trusted_kids), recorded=False)

    async def heartbeat(self, token: str, session: str, nonce: str) -> Running | Refused | Gone:
        """Note that a session runs, and renew its lease. TokenError for a lease that is not its own."""
        lease = self._authenticated(token, session)
        now = self._clock()

        def refusal(head: Head | None) -> Refusal | None:
            if head is not None and head.suspended:
                return Refusal.SUSPENDED
            return Refusal.EXPIRED if head is not None and now >= head.terms.valid_until else None

        refused = await self._confirmed(lease.license_id, refusal)
        if refused:
            return Refused(refused)
        head = await self._ledger.head(lease.license_id, self._settings.status_cache_seconds)
        if head is None and (head := await self._ledger.head(lease.license_id)) is None:
            return Gone()  # nor is that remembered: its first start may just have been made elsewhere
        terms = head.terms
        expires_at, _ = lease_end(now, lease=terms.lease, borrow=0, wanted=0, valid_until=terms.valid_until)
        borrowed = lease.borrowed and lease.expires_at > expires_at
        if borrowed:
            expires_at = lease.expires_at
        if head.recorded and not await self._ledger.beat(lease.license_id, Heartbeat(session, now, expires_at)):
            return Gone()
        renewed = Lease(
            session_id=session,
            license_id=lease.license_id,
            issued_at=now,
            expires_at=expires_at,
            nonce=nonce,
            features=lease.features,
            grace_seconds=lease.grace_seconds,
            borrowed=borrowed,
            overdraft=lease.overdraft,
        )
        return self._running(terms, head.in_use, renewed, signed_by(token), recorded=head.recorded)

    async def end(self, token: str, session: str) -> None:
        """End a session; also fine when it has ended before. TokenError for a lease that is not its own."""
        lease = self._authenticated(token, session)
        settled = await self._ledger.submit(lease.license_id, End(session))
        if not isinstance(settled.outcome, Ended):
            raise AssertionError(f"no outcome of an end: {settled.outcome}")

    async def read(self, token: str, session: str) -> Held | Gone:
        """What the register holds on a running session. TokenError for a lease that is not its own."""
        lease = self._authenticated(token, session)
        held = await self._ledger.session(lease.license_id, session)
        return Held(lease.license_id, held) if held else Gone()

    def _authenticated(self, token: str, session: str) -> Lease:
        lease = read_lease(token, self._settings.lease_keys)
        if lease.session_id != session:
            raise TokenError(Flaw.WRONG_TYPE, "belongs to another session")
        return lease

    async def _confirmed(self, license: str, refusal: Callable[[Head | None], Refusal | None]) -> Refusal | None:
        """A refusal by the head: seen on one that may be remembered, and confirmed on one that is not."""
        if refusal(await self._ledger.head(license, self._settings.status_cache_seconds)) is None:
            return None
        return refusal(await self._ledger.head(license))

    def _lease_for(
        self, license: License, request: StartRequest, expires_at: datetime, session: Session | None
    ) -> Lease:
        now = self._clock()
        return Lease(
            session_id=request.session,
            license_id=license.id,
            issued_at=now,
            expires_at=expires_at,
            nonce=request.nonce,
            features=license.features,
            grace_seconds=license.grace,
            borrowed=session.borrowed if session else expires_at > now + timedelta(seconds=license.lease),
            overdraft=session.overdraft if session else False,
        )

    def _running(
        self, terms: Terms, in_use: int, lease: Lease, kid: str, *, recorded: bool, repeat: bool = False
    ) -> Running:
        return Running(
            session=lease.session_id,
            lease=write_lease(lease, self._settings.lease_keys, kid),
            expires_at=lease.expires_at,
            heartbeat_seconds=terms.heartbeat,
            in_use=in_use,
            seats=terms.seats,
            overdraft=lease.overdraft,
            recorded=recorded,
            repeat=repeat,
        )
