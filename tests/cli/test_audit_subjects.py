"""What an operator types may be a person's name: unless it was checked, it reaches no audit, no log and no message."""

import ast
import asyncio
import io
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import unquote

import pytest

from licensing.cli.home import Home
from licensing.rules.license import Kind
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests import factories
from tests.cli.conftest import Licensing, Vault
from tests.factories import new_license_id, new_session_id, start, terms

ROOT: Final = Path(__file__).parents[2]
NAME: Final = "Canary-Grace~Hopper"
"""Somebody's name, which has not the form of an id, and stands in a URL as it is."""
NICKNAME: Final = "canary.grace"
"""Somebody's name, which has the form of an id."""
ORG, ID, SESSION, KEY, ISSUED = "<organization>", "<license>", "<session>", "<key>", "<issued>"
PERSON: Final = ("--organization", ORG, "--username", "ada", "--hostname", "pc", "--vault", "kv-test", "--lost", "p9")

COMMANDS: Final = (
    ("license", "renew", ISSUED, "--until", "2098-12-31"),
    ("license", "suspend", ID),
    ("license", "reinstate", ID),
    ("license", "release", ID, SESSION),
    ("license", "release", ID, SESSION, "--lost"),
    ("privacy", "export", *PERSON),
    ("privacy", "erase", *PERSON),
    ("privacy", "erase", "--organization", ORG, "--from-file", "person.txt"),
    ("privacy", "rectify", *PERSON, "--session", SESSION, "--ended-at", "2026-01-01"),
    ("privacy", "rectify", *PERSON, "--to-username", "eve"),
    ("privacy", "opt-out", ID),
    ("privacy", "opt-in", ID),
    ("organization", "forget", ORG, "--yes"),
    ("maintenance", "sweep", "--as-of", "2026-01-01"),
    ("maintenance", "retention", "--as-of", "2026-01-01"),
    ("maintenance", "verify", ID, "--repair"),
    ("keys", "rotate", "pepper", "--vault", "kv-test"),
    ("keys", "rotate", "pepper", "--vault", "kv-test", "--to", KEY),
    ("keys", "drop", "pepper", KEY, "--vault", "kv-test"),
    ("keys", "create", "--vault", "kv-test"),
)
"""The commands that write audit entries, each with all arguments that take a text."""

Result = TypeVar("Result")


def typed_in_each_place() -> list[tuple[tuple[str, ...], int]]:
    """Each command, and each place of a value in it."""
    places = ((command, place) for command in COMMANDS for place in range(2, len(command)))
    return [(command, place) for command, place in places if not command[place].startswith("--")]


@pytest.fixture
def do(azurite: str) -> Callable[[Callable[[Tables], Coroutine[Any, Any, Result]]], Result]:
    """Do some work on the store."""

    def done(work: Callable[[Tables], Coroutine[Any, Any, Result]]) -> Result:
        async def opened() -> Result:
            tables = Tables.from_connection_string(azurite)
            try:
                return await work(tables)
            finally:
                await tables.close()

        return asyncio.run(opened())

    return done


async def audited_subjects(tables: Tables) -> list[str]:
    return [f"{row.columns}" async for row in tables.rows("audit")]


@pytest.mark.parametrize("name", [NAME, NICKNAME])
@pytest.mark.parametrize(("command", "place"), typed_in_each_place())
def test_a_name_typed_in_place_of_anything_reaches_nothing(
    made: Path,
    licensing: Licensing,
    vault: Vault,
    azurite: str,
    azurite_log: Path,
    do: Callable[[Callable[[Tables], Coroutine[Any, Any, Any]]], Any],
    monkeypatch: pytest.MonkeyPatch,
    command: tuple[str, ...],
    place: int,
    name: str,
) -> None:
    organization, license_id, session_id = factories.new_id("org"), new_license_id(), new_session_id()
    least = ("--organization-name", "Acme", "--product", "Water", "--until", "2099-12-31", "--out", "acme.lic")
    issued = new_license_id()
    assert licensing("license", "issue", "--organization", organization, "--id", issued, *least).code == 0
    peppers = Home(made).setting("LICENSING_PEPPERS")
    vault.secrets["peppers"] = [peppers]
    Path("person.txt").write_text("username=ada\n", encoding="utf-8")
    monkeypatch.setenv("LICENSING_STORAGE", azurite)
    monkeypatch.setattr(sys, "stdin", io.StringIO("ada\n"))

    async def runs(tables: Tables) -> None:
        bought = terms(organization_id=organization, kind=Kind.NAMED_USER)
        await Ledger(Register(tables), factories.Clock()).submit(license_id, start(session_id, bought))

    do(runs)
    values = {ORG: organization, ID: license_id, SESSION: session_id, KEY: peppers.split('"')[1], ISSUED: issued}
    words = [values.get(word, word) for word in command]
    words[place] = name
    said = licensing(*words)
    assert name not in "".join(do(audited_subjects))
    if name == NAME:
        assert name.lower() not in (said.out + said.err).lower()
        assert name.lower() not in azurite_log.read_text(encoding="utf-8", errors="replace").lower()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("license", "release", "acme-1", NAME), 2),
        (("license", "release", NAME, SESSION), 1),
        (("license", "release", "acme-1", SESSION), 1),
        (("privacy", "opt-out", NAME), 1),
        (("privacy", "opt-in", "acme-1"), 1),
        (("organization", "forget", NAME, "--yes"), 1),
        (("maintenance", "verify", NAME, "--repair"), 1),
        (("keys", "rotate", NAME), 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_what_is_not_known_is_refused_before_the_audit_hears_of_it(
    made: Path,
    licensing: Licensing,
    azurite: str,
    do: Callable[[Callable[[Tables], Coroutine[Any, Any, Any]]], Any],
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    code: int,
) -> None:
    monkeypatch.setenv("LICENSING_STORAGE", azurite)
    before = do(audited_subjects)
    said = licensing(*(new_session_id() if word == SESSION else word for word in words))
    assert (said.code, said.out) == (code, "")
    assert do(audited_subjects) == before
    assert ("There is no license acme-1 in the register." in said.err) is ("acme-1" in words and NAME not in words)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("usage", NAME), 1),
        (("usage", "--organization", NAME), 1),
        (("usage", "link", NAME), 2),
        (("billing", "--month", "2026-10", "--organization", NAME), 1),
        (("license", "list", "--organization", NAME), 1),
        (("license", "sessions", NAME), 1),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_a_name_in_place_of_an_id_reaches_no_store_and_no_message(
    made: Path,
    licensing: Licensing,
    azurite: str,
    azurite_log: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    code: int,
) -> None:
    monkeypatch.setenv("LICENSING_STORAGE", azurite)
    said = licensing(*words)
    assert (said.code, said.out) == (code, "")
    assert NAME.lower() not in said.err.lower()
    log = unquote(azurite_log.read_text(encoding="utf-8", errors="replace"))
    assert NAME.lower() not in log.lower()


def calls(name: str) -> set[str]:
    """The modules of the project that call a function or class."""
    return {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "licensing").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    }


def test_every_module_that_writes_audit_entries_is_tried_and_none_makes_a_subject_of_its_own() -> None:
    modules = {"release": "seats", "renew": "recording"}  # elsewhere a file bears its noun
    tried = {f"licensing/cli/{modules.get(command[1], command[0])}.py" for command in COMMANDS}
    takes_files = {"licensing/cli/publishing.py"}  # the subject is what a genuine file says, never what was typed
    assert calls("audited") == tried | takes_files
    assert calls("Subject") == {"licensing/services/audit.py"}
