"""Verify: recount the invariants of the ledger (`licensing.storage.ledger`) from its rows, and repair differences.

The state's `in_use` is the number of holders among the active sessions. Each shared seat counts its sessions, and has a
row while it has any. No session is both active and ended. No session that waits in line is active. Only changes by hand
break these.

Where a row cannot be read, it is named, and nothing is compared or repaired: the counts would lack it.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from licensing.errors import ConflictError, RowError
from licensing.rules.line import Line, without
from licensing.rules.model import LicenseState, Session, Versioned
from licensing.storage.register import Register

TRIES: Final = 20


@dataclass(frozen=True, slots=True)
class Count:
    """The counts of one license.

    `flaws` are sentences for people. `crowded`: more seats are held than there are, which is in order after a newer
    file with fewer. `steady` is False if starts and ends came in between each try; then nothing is known. `unreadable`
    rows are among the flaws; if there are any, no others are known.
    """

    license: str
    sessions: int
    holders: int
    flaws: tuple[str, ...]
    crowded: bool = False
    repaired: int = 0
    steady: bool = True
    unreadable: int = 0


@dataclass(slots=True)
class _Comparison:
    """The sessions of one license, the flaws in its counts, and their repair."""

    sessions: Sequence[Versioned[Session]]
    flaws: list[str] = field(default_factory=list)
    not_active: list[Versioned[Session]] = field(default_factory=list)
    seats: dict[str, int] = field(default_factory=dict)
    holders: int = 0
    served: set[str] = field(default_factory=set)
    unreadable: list[RowError] = field(default_factory=list)

    def mended(self, state: LicenseState) -> LicenseState:
        """The license state with the right count of seats, and a line without sessions that have a seat."""
        return replace(state, in_use=self.holders, line=without(state.line, self.served))


async def verify(register: Register, license_id: str, repair: bool = False) -> Count | None:
    """Recount one license, and with `repair` correct its counts; None if there is no such license.

    Raises UnavailableError if the store does not answer.
    """
    repaired = 0
    for _ in range(TRIES):
        try:
            state = await register.state(license_id)
        except RowError as error:
            return _unreadable(license_id, [error, *(await _compare(register, license_id, 0)).unreadable])
        if state is None:
            return None
        found = await _compare(register, license_id, state.value.in_use, state.value.line)
        if found.unreadable:
            return _unreadable(license_id, found.unreadable)
        again = await register.state(license_id)
        if again is None or again.etag != state.etag:
            continue
        if not found.flaws or not repair:
            holders = {row.value.holder for row in found.sessions if row.value.holder}
            crowded = len(holders) > state.value.terms.capacity
            return Count(license_id, len(found.sessions), len(holders), tuple(found.flaws), crowded, repaired)
        try:
            await register.mend(license_id, state, found.mended(state.value), found.not_active, found.seats)
        except ConflictError:
            continue
        repaired += len(found.flaws)
    return Count(license_id, 0, 0, (), repaired=repaired, steady=False)


def _unreadable(license_id: str, rows: list[RowError]) -> Count:
    return Count(license_id, 0, 0, tuple(map(str, rows)), unreadable=len(rows))


async def _compare(register: Register, license_id: str, in_use: int, line: Line = ()) -> _Comparison:
    unreadable: list[RowError] = []
    sessions = [row async for row in register.active(license_id, unreadable)]
    found = _Comparison(sessions, unreadable=unreadable)
    seats = await register.shared_seats(license_id, unreadable)
    started = {row.value.id: row.value.started_at for row in found.sessions}
    ended: set[str] = set()
    if started:
        # A session cannot have ended before it began: older ends need not be read.
        ends = register.ended_starts(license_id, min(started.values()), unreadable)
        ended = {session_id async for session_id, started_at in ends if started.get(session_id) == started_at}
    if unreadable:
        return found
    for row in found.sessions:
        if row.value.id in ended:
            found.flaws.append(f"session {row.value.id} is both active and ended")
            found.not_active.append(row)
    active = [row.value for row in found.sessions if row.value.id not in ended]
    sitting = Counter(session.holder for session in active if session.shares)
    for holder in sorted(sitting.keys() | seats.keys()):
        counted = seats[holder].value if holder in seats else 0
        if counted != sitting[holder]:
            found.flaws.append(f"a shared seat counts {counted} sessions, and {sitting[holder]} are active on it")
            found.seats[holder] = sitting[holder]
    found.holders = len({session.holder for session in active if session.holder})
    if in_use != found.holders:
        found.flaws.append(f"the license counts {in_use} seats in use, and {found.holders} are held")
    found.served = {session.id for session in active} & {place.session_id for place in line}
    found.flaws += (f"session {session_id} is active, and waits in line" for session_id in sorted(found.served))
    return found
