"""docs/privacy.md says what is stored and logged: held against real rows and the code, so that nothing slips in."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from markdown_it import MarkdownIt

from licensing.crypto.pseudonyms import Peppers
from licensing.rules.license import Sharing
from licensing.rules.model import KeptFile
from licensing.rules.outage import Outage
from licensing.rules.requests import End, Heartbeat, Recall, Start
from licensing.services.audit import Subject, audited
from licensing.services.late_ends import LateEnds
from licensing.services.privacy import PersonQuery, Privacy
from licensing.services.retention import RetentionResult, run_retention
from licensing.services.sweep import Swept
from licensing.storage import register as rows
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests import factories
from tests.factories import Clock, lease_of, new_license_id, new_session_id, start, terms
from tests.register_rows import values_of
from tests.stores import OneCustomer

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs" / "privacy.md"
LEVELS = {"debug", "info", "warning", "error", "critical", "exception", "log"}


def section(heading: str) -> str:
    """The part of the document under a heading."""
    _, found, rest = DOCUMENT.read_text(encoding="utf-8").partition(f"\n## {heading}\n")
    assert found, heading
    return rest.partition("\n## ")[0]


def cells(text: str) -> Iterator[list[str]]:
    """The tables' rows, without their headings."""
    cell: list[str] = []
    for token in MarkdownIt().enable("table").parse(text):
        if token.type == "tr_open":
            cell = []
        elif token.type == "inline":
            cell.append(token.content)
        elif token.type == "tr_close" and token.level == 2 and cell:
            yield cell


def spans(cell: str) -> list[str]:
    """What stands in a cell as code."""
    return re.findall(r"`([^`]+)`", cell)


def listed_columns() -> dict[tuple[str, str], set[str]]:
    """The columns that the document lists, by table and kind of row."""
    listed: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for part in re.split(r"^Table ", section("Rows and columns"), flags=re.MULTILINE)[1:]:
        (table,) = spans(part.partition(",")[0])
        for row, columns, *_ in cells(part):
            if spans(row):
                listed[table, re.split("[:{]", spans(row)[0])[0]] |= set(spans(columns))
    return listed


async def a_row_of_each_kind(tables: Tables) -> dict[tuple[str, str], set[str]]:
    """What the store holds after a story in which every kind of row comes to be, by table and kind."""
    organization, license_id, other = factories.new_id("org"), new_license_id(), new_license_id()
    store, clock = OneCustomer(tables, organization), Clock()
    ledger = Ledger(Register(store), clock)
    held: dict[str, Any] = {"hold_seconds": 60, "features": ("sewer",), "oldest": 1}
    bought = terms(organization_id=organization, seats=1, sharing=Sharing.USER, **held)
    clock.now = (clock.now - timedelta(days=70)).replace(hour=12)
    first = new_session_id()
    file = KeptFile(1, clock(), "p1", "sealed")
    await ledger.submit(license_id, replace(start(first, bought), file=file))
    await ledger.submit(license_id, start(new_session_id(), bought, user="another"))
    clock.forward(13 * 3600)
    await ledger.heartbeat(license_id, Heartbeat(first, clock(), clock() + timedelta(hours=1)))
    await ledger.submit(license_id, Recall(first))
    await ledger.submit(license_id, End(first))
    late_ends, lease = LateEnds(Register(store), ledger, clock), lease_of(license_id, first, clock())
    clock.forward(3600)
    await late_ends.hear(lease, clock() - timedelta(minutes=30))
    clock.forward(62 * 86400)
    await late_ends.hear(lease, clock())
    await run_retention(Register(store), ledger, clock(), 3)
    pseudonyms = Peppers({"p1": bytes(range(32))})
    hashes = factories.user_hash(), factories.host_hash()
    again = Start(
        new_session_id(), terms(organization_id=organization), pseudonyms.persons(organization, *hashes, None)
    )
    corrected, renewed = new_license_id(), new_license_id()
    privacy, person = Privacy(Register(store), ledger, pseudonyms, clock), PersonQuery(organization, hashes[0])
    long = terms(organization_id=organization, seats=5, lease_seconds=60 * 86400)
    await ledger.submit(renewed, start(new_session_id(), long))
    began, wrong, ends = clock(), again.session_id, []
    for each, request in (
        (corrected, again),
        (renewed, replace(again, session_id=new_session_id(), terms=replace(long, serial=2, seats=6))),
    ):
        await ledger.submit(each, request)
        clock.forward(600)
        await ledger.submit(each, End(request.session_id))
        ends.append((lease_of(each, request.session_id, clock()), clock() + timedelta(minutes=9)))
    clock.forward(86400)
    for each_end in ends:
        await late_ends.hear(*each_end)
    await run_retention(Register(store), ledger, clock(), 3)
    await privacy.correct_end(person, wrong, began)
    await privacy.erase(person)
    running = new_session_id()
    await ledger.submit(license_id, start(running, bought))
    await ledger.submit(license_id, start(new_session_id(), bought, user="another"))
    await ledger.submit(other, Start(new_session_id(), bought, start("", bought).persons))
    async with audited(Register(store), clock, "operator", "test", Subject(license_id)):
        pass
    found: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for each in (license_id, other, corrected, renewed):
        async for row in store.rows("register", each):
            found["register", row.key.partition(":")[0]] |= values_of(row).keys()
    alive, _ = await Register(store).alive()
    await Register(store).mark_alive(alive, clock(), Outage(clock(), clock()))
    async for row in store.rows("directory", rows.SERVICE):
        found["directory", row.key] |= values_of(row).keys()
    async for row in store.rows("directory", organization):
        found["directory", row.key.partition(":")[0]] |= values_of(row).keys()
    async for row in store.rows("audit", where="subject eq @subject", values={"subject": license_id}):
        found["audit", ""] |= values_of(row).keys()
    return dict(found)


async def test_every_column_of_every_row_is_listed_and_no_other(tables: Tables) -> None:
    listed = listed_columns()
    held = await a_row_of_each_kind(tables)
    assert len(held) == 15
    assert {kind: sorted(columns) for kind, columns in held.items()} == {
        kind: sorted(columns) for kind, columns in listed.items()
    }


def test_every_kind_of_row_that_the_code_can_name_is_listed() -> None:
    """A prefix of a key that `rows.py` knows, and no story makes, would be missed above."""
    kinds = {value.rstrip(":") for value in vars(rows).values() if isinstance(value, str) and value.endswith(":")}
    assert kinds <= {kind for _, kind in listed_columns()}
    assert kinds >= {"active", "ended", "seat", "denied", "day", "month"}


def logged() -> dict[str, str]:
    """All that the code can log: each text, and where."""
    found: dict[str, str] = {}
    for path in [*(ROOT / "licensing").rglob("*.py"), ROOT / "function_app.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                not isinstance(node, ast.Call)
                or not isinstance(node.func, ast.Attribute)
                or node.func.attr not in LEVELS
            ):
                continue
            of = node.func.value
            name = of.id if isinstance(of, ast.Name) else ""
            if name not in ("_log", "logging", "logger", "log"):
                continue
            where = f"{path.relative_to(ROOT)}:{node.lineno}"
            text = node.args[1 if node.func.attr == "log" else 0]
            assert isinstance(text, ast.Constant), f"{where} logs a text that is made there"
            assert name == "_log", f"{where} logs past its module's logger"
            found[str(text.value)] = where
    return found


def test_every_line_that_the_code_can_log_is_listed_and_no_other() -> None:
    listed = {spans(line)[0]: set(spans(what)) for line, what in cells(section("Lines in the logs")) if spans(line)}
    assert logged().keys() == listed.keys()
    assert len(listed) > 5
    for text, value in (("sweep %s", Swept(0, 0, 0, 0.0)), ("retention %s", RetentionResult())):
        said = set(re.findall(r"(\w+)=", str(value)))
        assert said == listed[text]
        assert said == {each.name for each in fields(value)}


@pytest.mark.parametrize("cell", [cell for row in cells(section("From the policy to its proof")) for cell in row[2:]])
def test_code_and_proof_are_where_the_document_says(cell: str) -> None:
    for named in spans(cell):
        path, _, test = named.partition("::")
        assert (ROOT / path).is_file(), path
        if test:
            text = (ROOT / path).read_text(encoding="utf-8")
            assert re.search(rf"^(async )?def {test}\(", text, re.MULTILINE), named


def test_every_section_of_the_policy_that_binds_us_has_a_proof() -> None:
    sections = {row[0].split()[0] for row in cells(section("From the policy to its proof")) if row[0][0].isdigit()}
    assert sections == {"5", "6", "7", "9", "10", "11", "12", "14"}
