"""Verify: recount from the rows what the ledger promises (`licensing.storage.ledger`), and mend what is not so.

The ledger keeps its promises by itself; this is for the day on which somebody doubts that, or has touched the store
by hand. What must hold: the head's `in_use` is the number of holders among the active rows; each shared seat counts
its sessions, and has a row while it has any; no session is both active and ended.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from licensing.errors import ConflictError
from licensing.rules.seats import Head, Known, Session
from licensing.storage import register as rows
from licensing.storage.tables import TRANSACTION_ROWS, Row, Tables, Write, delete, merge, put

TRIES = 20


@dataclass(frozen=True, slots=True)
class Count:
    """What was counted on one license.

    `flaws` are sentences for people. `crowded`: more seats are held than there are, which is in order after a newer
    file has brought fewer. `steady` is False where starts and ends came in between each time, so that nothing can be
    said.
    """

    license: str
    sessions: int
    holders: int
    flaws: tuple[str, ...]
    crowded: bool = False
    repaired: int = 0
    steady: bool = True


@dataclass(frozen=True, slots=True)
class _Found:
    head: Known[Head]
    sessions: Sequence[Known[Session]]
    seats: Sequence[Row]
    ended: frozenset[str]

    @property
    def holders(self) -> set[str]:
        return {known.value.holder for known in self.sessions if known.value.holder}


async def verify(tables: Tables, license: str, repair: bool = False) -> Count | None:
    """Recount one license, and with `repair` mend its counts; None where there is no such license."""
    repaired = 0
    for _ in range(TRIES):
        row = await tables.get("register", license, rows.HEAD)
        if row is None:
            return None
        found = await _read(tables, license, rows.head_value(row))
        again = await tables.get("register", license, rows.HEAD, ["in_use"])
        if again is None or again.etag != row.etag:
            continue
        flaws, writes = _compare(found)
        if not flaws or not repair:
            head = found.head.value
            crowded = len(found.holders) > head.terms.capacity
            return Count(license, len(found.sessions), len(found.holders), tuple(flaws), crowded, repaired)
        try:
            await tables.commit("register", license, writes[:TRANSACTION_ROWS])
        except ConflictError:
            continue
        repaired += len(flaws)
    return Count(license, 0, 0, (), repaired=repaired, steady=False)


async def _read(tables: Tables, license: str, head: Known[Head]) -> _Found:
    active = tables.rows("register", license, rows.ACTIVE, rows.beyond(rows.ACTIVE))
    sessions = [rows.session_value(row) async for row in active]
    seats = [row async for row in tables.rows("register", license, rows.SEAT, rows.beyond(rows.SEAT))]
    ended: set[str] = set()
    if sessions:
        # A session cannot have ended before it began, so that older ends need not be read.
        began = {known.value.id: known.value.started_at for known in sessions}
        first = rows.ended_key(min(began.values()), "")
        async for row in tables.rows("register", license, first, rows.beyond(rows.ENDED), columns=["started_at"]):
            session = row.key.rpartition(":")[2]
            if began.get(session) == row.columns["started_at"]:
                ended.add(session)
    return _Found(head, sessions, seats, frozenset(ended))


def _compare(found: _Found) -> tuple[list[str], list[Write]]:
    """The flaws as sentences, and the writes that mend them, the head first."""
    flaws: list[str] = []
    writes: list[Write] = []
    remaining = [known.value for known in found.sessions if known.value.id not in found.ended]
    for known in found.sessions:
        if known.value.id in found.ended:
            flaws.append(f"session {known.value.id} is both active and ended")
            writes.append(delete(rows.ACTIVE + known.value.id, known.version))
    sitting = Counter(session.holder for session in remaining if session.shares)
    counted = {row.key.removeprefix(rows.SEAT): row for row in found.seats}
    for holder in sorted(sitting.keys() | counted.keys()):
        row, sessions = counted.get(holder), sitting[holder]
        says = row.columns["sessions"] if row else 0
        if says != sessions:
            flaws.append(f"a shared seat counts {says} sessions, and {sessions} are active on it")
            key = rows.SEAT + holder
            writes.append(put(key, {"sessions": sessions}) if sessions else delete(key))
    holders = len({session.holder for session in remaining if session.holder})
    in_use = found.head.value.in_use
    if in_use != holders:
        flaws.append(f"the license counts {in_use} seats in use, and {holders} are held")
    return flaws, [merge(rows.HEAD, {"in_use": holders}, found.head.version), *writes]
