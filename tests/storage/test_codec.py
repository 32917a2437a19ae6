"""Dataclasses as columns and back: what is lost, what is kept, and what an older row may lack."""

from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from licensing.rules.license import Billing, Kind, Sharing
from licensing.rules.model import EndedSession, EndReason, LicenseState, Session, Status, Terms
from licensing.rules.totals import DayTotals, MonthTotals
from licensing.rules.usage import Denial, Use
from licensing.storage import register
from licensing.storage.codec import Codec
from licensing.storage.tables import EdmType, Row

NOON = datetime(2026, 11, 2, 12, 0, 0, 123456, UTC)
TERMS = Terms(
    serial=2**40,
    organization_id="acme",
    organization_name="Acme Water Oy",
    product="Fluidit Water",
    kind=Kind.FLOATING,
    seats=3,
    overdraft=1,
    sharing=Sharing.USER_HOST,
    heartbeat_seconds=300,
    lease_seconds=900,
    borrow_seconds=86400,
    valid_from=NOON,
    valid_until=NOON.replace(year=2027),
    project="Harbour",
    billing=Billing.PROJECT,
)
SESSION = Session("s1", NOON, NOON, NOON, "u", "h", "i", "p1", "u.h", borrowed=True, overdraft=True)
DAY = DayTotals(date(2026, 11, 2), 5, 4, 3, 2**33, 2, NOON, tuple(range(24)), 1, 1, 60)
VALUES: list[tuple[Codec[Any], Any, str]] = [
    (register.STATES, LicenseState(TERMS, Status.SUSPENDED, collect=False, in_use=2), "license"),
    (register.SESSIONS, SESSION, "active:s1"),
    (register.ENDED_SESSIONS, EndedSession(SESSION, NOON, EndReason.LAPSED), "ended:20261102T120000.123456Z:s1"),
    (register.USES, Use.of(SESSION, NOON), "ended:20261102T120000.123456Z:s1"),
    (register.USES, Use.of(SESSION), "active:s1"),
    (register.DENIALS, Denial("s1", NOON, NOON, "no-seat-available"), "denied:2026-11-02:s1"),
    (register.DAYS, DAY, "day:2026-11-02"),
    (register.DAYS, replace(DAY, peak_at=None), "day:2026-11-02"),
    (register.MONTHS, MonthTotals("2026-11", 4, 5, 3, 2**33, 2, NOON, 1, 1, 60), "month:2026-11"),
    (register.MONTHS, MonthTotals("2026-11", 2), "month:2026-11"),
    (
        register.AUDIT,
        register.AuditEntry(NOON, "olga", "release", "acme-1", "done", NOON),
        "20261102T120000.123456Z:ab",
    ),
]


@pytest.mark.parametrize(("codec", "value", "key"), VALUES, ids=lambda each: type(each).__name__)
def test_a_value_comes_back_from_its_row_as_it_was(codec: Codec[Any], value: Any, key: str) -> None:
    columns = codec.encode(value)
    assert None not in columns.values(), "None has no column"
    assert columns.keys() <= set(codec.columns)
    assert codec.decode(Row(key, columns, "etag")) == value


def test_columns_bear_the_names_of_the_contract() -> None:
    state = register.STATES.encode(LicenseState(TERMS, Status.SUSPENDED))
    assert (state["organization"], state["heartbeat"], state["lease"], state["borrow"]) == ("acme", 300, 900, 86400)
    assert (state["status"], state["collect"], state["in_use"]) == ("suspended", True, 0)
    assert state["serial"] == (2**40, EdmType.INT64)
    assert set(register.SESSIONS.columns) == {field.name for field in fields(Session)} - {"id"}
    assert register.DAYS.encode(DAY)["hours"] == ",".join(map(str, range(24)))


def test_some_fields_are_written_alone() -> None:
    assert register.SESSIONS.encode(SESSION, ("heartbeat_at", "borrowed")) == {"heartbeat_at": NOON, "borrowed": True}


@dataclass(frozen=True)
class Newer:
    id: str
    old: str
    added: bool = False
    optional: datetime | None = None


def test_an_older_row_lacks_what_has_a_default_and_nothing_else() -> None:
    codec = Codec(Newer, key={"id": str})
    assert codec.decode(Row("x", {"old": "y", "unknown": 1}, "")) == Newer("x", "y")
    with pytest.raises(ValueError, match="old"):
        codec.decode(Row("x", {"added": True}, ""))
