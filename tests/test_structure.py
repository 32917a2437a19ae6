"""Imports go one way (CONTRIBUTING.md, "The code"), also those within functions; a class's name is its own."""

import ast
import re
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = "licensing."
ROOMS = {
    "rules": {"rules", "errors"},
    "crypto": {"crypto", "rules", "errors"},
    "storage": {"storage", "rules", "errors"},
    "services": {"services", "storage", "crypto", "rules", "errors", "settings"},
}
"""What each may import of ours."""


def files(folder: str) -> list[Path]:
    """The modules of a folder, of which there are some."""
    found = sorted((ROOT / folder).rglob("*.py"))
    assert found
    return found


def imported(file: Path) -> Iterator[str]:
    """The full names of all that a file imports: of modules, and of what is taken from them."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: a relative import"
            yield from (f"{node.module}.{name.name}" for name in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_go_one_way(room: str) -> None:
    for file in files(f"licensing/{room}"):
        rooms = {name.split(".")[1] for name in imported(file) if name.startswith(OURS)}
        assert rooms <= ROOMS[room], file


def test_rules_need_nothing_but_the_standard_library_and_pydantic() -> None:
    for file in files("licensing/rules"):
        packages = {name.split(".")[0] for name in imported(file)}
        assert packages <= sys.stdlib_module_names | {"licensing", "pydantic", "pydantic_core"}, file


def test_one_module_knows_the_tables_sdk() -> None:
    knowing = {file for file in files("licensing") if any(name.startswith("azure.data") for name in imported(file))}
    assert knowing == {ROOT / "licensing/storage/tables.py"}


TABLES = "licensing.storage.tables"
OPENS_THE_STORE = "licensing/services/service.py"
KEYS_AND_COLUMNS = re.compile(
    r"PartitionKey|RowKey| (eq|ne|lt|le|gt|ge) @|^(active|ended|denied|seat|day|month):|^(register|directory|audit)$"
)
"""Keys, filters and tables of the register, as they stand in texts."""
NAMES_OF_KEYS = {
    "licensing/storage/register.py",
    "licensing/storage/queries.py",  # the protocol's names of keys, in each read
    "licensing/storage/tables.py",  # the names of the tables
    "licensing/storage/writes.py",  # the protocol's names of keys, in each write
}
CARRY_ETAGS = {
    "licensing/rules/seats.py",  # a plan hands on the ETags of the rows that it rests on
    "licensing/services/verify.py",  # reads the state again to see whether it has changed: the register should say so
}


def test_one_module_knows_keys_and_columns() -> None:
    """`storage/register.py` alone names a key, a column or a filter, and only `storage` reaches the tables."""
    names_keys, takes_tables, takes_etags = set(), set(), set()
    for file in [*files("licensing"), ROOT / "function_app.py"]:
        tree = ast.parse(file.read_text(encoding="utf-8"))
        name = file.relative_to(ROOT).as_posix()
        documentation = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in documentation:
                if KEYS_AND_COLUMNS.search(node.value):
                    names_keys.add(name)
            elif isinstance(node, ast.Attribute) and node.attr == "etag" and "/storage/" not in name:
                takes_etags.add(name)
        if "/storage/" not in name and any(each.startswith(TABLES) for each in imported(file)):
            takes_tables.add(name)
    assert names_keys == NAMES_OF_KEYS
    assert takes_tables == {OPENS_THE_STORE}
    assert takes_etags <= CARRY_ETAGS


def test_the_client_imports_nothing_of_the_service() -> None:
    for file in files("client/src"):
        assert "licensing" not in {name.split(".")[0] for name in imported(file)}, file


def test_no_two_classes_share_a_name() -> None:
    homes = defaultdict(set)
    for file in files("licensing"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes[node.name].add(str(file.relative_to(ROOT)))
    shared = {name: sorted(modules) for name, modules in homes.items() if len(modules) > 1}
    assert not shared


def test_hooks_before_a_commit_run_what_make_check_does() -> None:
    check = re.search(r"^check:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert check
    commands = {line.strip("\t@") for line in check[1].splitlines()}
    hooks = re.findall(r"entry: \.venv/bin/(.+)", (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert len(hooks) == 3
    assert {f"$(BIN)/{hook}" for hook in hooks} <= commands
