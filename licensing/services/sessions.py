"""A desktop program starts, runs and ends under a license.

Signatures are checked before storage is touched. Names never arrive here: the client sends hashes. The caller's address
becomes a pseudonym or is compared with the license's networks, and is forgotten.

A program trusts only the lease keys that its license file names. So a start is answered under the first of our keys
that the file names, and a heartbeat under the key of the lease that it presents (docs/adr/0011).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from licensing.crypto.tokens import Lease, read_lease, read_license, signed_by, write_lease
from licensing.errors import Flaw, TokenError
from licensing.rules.license import Address, License, Refusal, admits
from licensing.rules.model import LicenseState, Session, Terms
from licensing.rules.requests import End, Ended, Full, Granted, Refused, Start, Taken
from licensing.settings import Settings
from licensing.storage.ledger import Decision, Heartbeat, Ledger


@dataclass(frozen=True, slots=True)
class StartRequest:
    """What a program sends when it starts: its license file's JWS, its session id in canonical form, client hashes."""

    license: str
    session_id: str
    user: str
    host: str
    nonce: str
    borrow_seconds: int = 0


@dataclass(frozen=True, slots=True)
class Running:
    """The program may run: its signed lease, and what it should know about its license."""

    session_id: str
    lease_token: str
    expires_at: datetime
    heartbeat_seconds: int
    in_use: int
    seats: int
    overdraft: bool
    recorded: bool
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class NoSeat:
    """All seats are held; the program may ask again after `retry_seconds`."""

    in_use: int
    seats: int
    retry_seconds: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The session is not active; the program has to start again."""


@dataclass(frozen=True, slots=True)
class Held:
    """All that the register holds on a running session."""

    license_id: str
    session: Session


class Sessions:
    """The life of sessions. `clock` gives the present time, UTC.

    Each method raises UnavailableError if the store cannot be used now.
    """

    def __init__(self, settings: Settings, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._settings = settings
        self._ledger = ledger
        self._clock = clock

    async def start(self, request: StartRequest, address: Address | None) -> Running | Refused | NoSeat | Taken:
        """Start a session, or repeat a start.

        Raises TokenError for a license file that is not genuine.
        """
        license = read_license(request.license, self._settings.issuer_keys)
        refusal = admits(license, request.user, request.host, address, self._clock())
        if refusal:
            return Refused(refusal)
        if not license.collect:
            return await self._start_unrecorded(license, request)
        persons = self._settings.peppers.persons(license.organization.id, request.user, request.host, address)
        start = Start(request.session_id, Terms.of(license), persons, request.borrow_seconds)
        decision = await self._ledger.submit(license.id, start)
        match decision:
            case Decision(Granted() as granted, LicenseState() as state):
                return self._granted(license, request, granted, state)
            case Decision(Full(retry_seconds), LicenseState() as state):
                return NoSeat(state.in_use, state.terms.seats, retry_seconds)
            case Decision(Refused() | Taken() as outcome):
                return outcome
            case _:
                raise AssertionError(f"no decision on a start: {decision.outcome}")

    async def heartbeat(self, token: str, session_id: str, nonce: str) -> Running | Refused | Gone:
        """Note that a session runs, and renew its lease.

        Raises TokenError for a lease that is not this session's.
        """
        lease = self._authenticated(token, session_id)
        now = self._clock()

        def refusal(state: LicenseState | None) -> Refusal | None:
            if state is not None and state.suspended:
                return Refusal.SUSPENDED
            return Refusal.EXPIRED if state is not None and now >= state.terms.valid_until else None

        refused = await self._confirmed(lease.license_id, refusal)
        if refused:
            return Refused(refused)
        state = await self._ledger.state(lease.license_id, self._settings.status_cache_seconds)
        if state is None and (state := await self._ledger.state(lease.license_id)) is None:
            return Gone()  # not by the cache either: its first start may just have been made elsewhere
        renewed = self._renewed(lease, state.terms, nonce, now)
        heartbeat = Heartbeat(session_id, now, renewed.expires_at)
        if state.recorded and not await self._ledger.heartbeat(lease.license_id, heartbeat):
            return Gone()
        return self._running(state.terms, state.in_use, renewed, signed_by(token), recorded=state.recorded)

    async def end(self, token: str, session_id: str) -> None:
        """End a session; fine also if it has ended before.

        Raises TokenError for a lease that is not this session's.
        """
        lease = self._authenticated(token, session_id)
        decision = await self._ledger.submit(lease.license_id, End(session_id))
        if not isinstance(decision.outcome, Ended):
            raise AssertionError(f"no decision on an end: {decision.outcome}")

    async def read(self, token: str, session_id: str) -> Held | Gone:
        """What the register holds on a running session.

        Raises TokenError for a lease that is not this session's.
        """
        lease = self._authenticated(token, session_id)
        session = await self._ledger.session(lease.license_id, session_id)
        return Held(lease.license_id, session) if session else Gone()

    def _authenticated(self, token: str, session_id: str) -> Lease:
        lease = read_lease(token, self._settings.lease_keys)
        if lease.session_id != session_id:
            raise TokenError(Flaw.WRONG_TYPE, "belongs to another session")
        return lease

    async def _confirmed(
        self, license_id: str, refusal: Callable[[LicenseState | None], Refusal | None]
    ) -> Refusal | None:
        """A refusal by the license state: seen on a cached one, and confirmed on one that was just read."""
        if refusal(await self._ledger.state(license_id, self._settings.status_cache_seconds)) is None:
            return None
        return refusal(await self._ledger.state(license_id))

    # Starts.

    def _granted(self, license: License, request: StartRequest, granted: Granted, state: LicenseState) -> Running:
        session, now = granted.session, self._clock()
        ordinary_end = now + timedelta(seconds=license.lease_seconds)
        return self._running(
            state.terms,
            state.in_use,
            Lease(
                session_id=request.session_id,
                license_id=license.id,
                issued_at=now,
                expires_at=granted.expires_at,
                nonce=request.nonce,
                features=license.features,
                grace_seconds=license.grace_seconds,
                borrowed=session.borrowed if session else granted.expires_at > ordinary_end,
                overdraft=session.overdraft if session else False,
            ),
            self._settings.lease_keys.chosen(license.trusted_kids),
            recorded=session is not None,
            repeat=granted.repeat,
        )

    async def _start_unrecorded(self, license: License, request: StartRequest) -> Running | Refused:
        """A license whose file forbids to collect: nothing is stored, not even the license itself."""
        terms, now = Terms.of(license), self._clock()

        def refusal(state: LicenseState | None) -> Refusal | None:
            if state is not None and state.suspended:
                return Refusal.SUSPENDED
            return Refusal.SUPERSEDED if state is not None and state.terms.serial > terms.serial else None

        refused = await self._confirmed(license.id, refusal)
        if refused:
            return Refused(refused)
        expires_at, _ = terms.lease_end(now, request.borrow_seconds)
        return self._granted(license, request, Granted(None, expires_at), LicenseState(terms))

    # Replies.

    def _renewed(self, lease: Lease, terms: Terms, nonce: str, now: datetime) -> Lease:
        """The next lease of a session; a borrowed seat keeps its end."""
        ordinary_end, _ = terms.lease_end(now)
        borrowed = lease.borrowed and lease.expires_at > ordinary_end
        return lease.model_copy(
            update={
                "issued_at": now,
                "expires_at": lease.expires_at if borrowed else ordinary_end,
                "nonce": nonce,
                "borrowed": borrowed,
            }
        )

    def _running(
        self, terms: Terms, in_use: int, lease: Lease, kid: str, *, recorded: bool, repeat: bool = False
    ) -> Running:
        return Running(
            session_id=lease.session_id,
            lease_token=write_lease(lease, self._settings.lease_keys, kid),
            expires_at=lease.expires_at,
            heartbeat_seconds=terms.heartbeat_seconds,
            in_use=in_use,
            seats=terms.seats,
            overdraft=lease.overdraft,
            recorded=recorded,
            repeat=repeat,
        )
