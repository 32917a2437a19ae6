"""Imports go one way (CONTRIBUTING.md, "The code"), also those within functions."""

import ast
import sys
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


def test_the_client_imports_nothing_of_the_service() -> None:
    for file in files("client/src"):
        assert "licensing" not in {name.split(".")[0] for name in imported(file)}, file
