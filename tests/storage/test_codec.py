"""Dataclasses as columns and back: what is lost, what is kept, and what an older row may lack."""

import json
import traceback
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime
from typing import Any

import pytest

from licensing.errors import RowError
from licensing.rules.license import Billing, Kind, Sharing
from licensing.rules.line import Place
from licensing.rules.model import EndedSession, EndReason, LicenseState, Session, Status, Terms
from licensing.rules.totals import DayTotals, MonthTotals, PartMinutes
from licensing.rules.usage import Denial, Use
from licensing.storage import register
from licensing.storage.codec import Codec
from licensing.storage.tables import EdmType
from tests.register_rows import as_read

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
PSEUDONYM = "canary-pseudonym-22-chars"
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
    (register.MONTHS, MonthTotals("2026-11", 2, minutes=(PartMinutes("time", "Ä", 7, 1),)), "month:2026-11"),
    (
        register.DAYS,
        replace(
            DAY,
            carried=1,
            hour_users=(1,) * 24,
            billing="time",
            erased=True,
            erased_part=(1, 0, -5, 0),
            starts=(2, 0, 1),
        ),
        "day:2026-11-02",
    ),
    (register.STATES, LicenseState(TERMS, since=NOON).under(replace(TERMS, serial=7, seats=9), NOON), "license"),
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
    assert codec.decode(as_read(key, columns)) == value


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
    default: int = 0
    added: bool = False
    optional: datetime | None = None


def test_an_older_row_lacks_what_was_added_later_and_nothing_else() -> None:
    codec = Codec(Newer, key={"id": str}, added=("added",))
    assert codec.decode(as_read("x", {"old": "y", "default": 1, "unknown": 1})) == Newer("x", "y", 1)
    for lost in ("old", "default"):
        columns = {"old": "y", "default": 1, "added": True}
        del columns[lost]
        with pytest.raises(RowError, match=f"the row x of  lacks its column {lost}"):
            codec.decode(as_read("x", columns))


@pytest.mark.parametrize("codec", [register.STATES, register.SESSIONS, register.ENDED_SESSIONS, register.USES])
def test_no_default_stands_in_for_a_column_that_a_row_has_lost(codec: Codec[Any]) -> None:
    """Else a license whose count or suspension was lost would give out its seats again."""
    value = next(value for each, value, _ in VALUES if each is codec)
    columns = codec.encode(value)
    for lost in columns.keys() - {"ended_at", "lapses_at"}:
        rest = {name: content for name, content in columns.items() if name != lost}
        with pytest.raises(RowError, match=f"the row active:s1 of  lacks its column {lost}"):
            codec.decode(as_read("active:s1", rest))


@pytest.mark.parametrize("damage", [{"started_at": "?"}, {"borrowed": "?"}, {"user": 7}])
def test_an_error_names_the_column_and_quotes_nothing_of_the_row(damage: dict[str, Any]) -> None:
    pseudonym = PSEUDONYM
    columns = register.SESSIONS.encode(replace(SESSION, user=pseudonym, host=pseudonym)) | damage
    for row in (columns, {name: value for name, value in columns.items() if name != "pepper"}):
        with pytest.raises(RowError, match=r"the row active:s1 .* column") as caught:
            register.SESSIONS.decode(as_read("active:s1", row))
        assert pseudonym not in "".join(traceback.format_exception(caught.value))
        assert caught.value.__context__ is None


PLACE = {"session_id": "s1", "arrived_at": "2026-11-02T12:00:00Z", "heard_at": "2026-11-02T12:00:00Z"}
DAMAGED = [
    *(("line", text) for text in ("", "?", "null", "{}", "[{}]", 7)),
    ("line", json.dumps([{**PLACE, "retry_seconds": 5, "heard_at": "2026-11-02T12:00:00"}])),
    ("line", json.dumps([{**PLACE, "retry_seconds": 10**12}])),
    ("line", json.dumps([{**PLACE, "retry_seconds": -1}])),
    ("recalled", '[{"session_id": "s1", "ended_at": "2026-11-02"}]'),
    *(("former", text) for text in ("?", '[{"until": "2026-11-02T12:00:00"}]')),
    *(("features", text) for text in ("?", "[1]")),
    ("valid_from", "2026-11-02T12:00:00"),
]


@pytest.mark.parametrize(("column", "content"), DAMAGED)
def test_a_damaged_column_is_named_whatever_it_holds(column: str, content: object) -> None:
    columns = register.STATES.encode(LicenseState(TERMS)) | {column: content}
    with pytest.raises(RowError, match=f"the row license of .* has a column {column} that cannot be read"):
        register.STATES.decode(as_read("license", columns))


def test_a_place_written_by_hand_is_read() -> None:
    columns = register.STATES.encode(LicenseState(TERMS)) | {"line": json.dumps([{**PLACE, "retry_seconds": 5}])}
    at_twelve = datetime(2026, 11, 2, 12, 0, 0, 0, UTC)
    assert register.STATES.decode(as_read("license", columns)).line == (Place("s1", at_twelve, at_twelve, 5),)


def test_an_error_names_a_rows_key_but_no_pseudonym_in_it() -> None:
    error = RowError("acme-1", f"seat:{PSEUDONYM}", "lacks its column sessions")
    assert (error.kind, error.key, error.partition) == ("seat", "seat:…", "acme-1")
    assert str(error) == "the row seat:… of acme-1 lacks its column sessions; correct it by hand"
    assert PSEUDONYM not in repr(error)


def test_columns_are_written_in_the_order_of_their_fields() -> None:
    names = [field.name for field in fields(Session) if field.name != "id"]
    assert list(register.SESSIONS.columns) == list(register.SESSIONS.encode(SESSION)) == names
