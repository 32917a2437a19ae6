"""The golden vectors are what their script makes, and it uses nothing of this project."""

import ast

import pytest

from tests.vectors import FOLDER, make


@pytest.mark.parametrize("name", make.files())
def test_the_vectors_are_what_their_script_makes(name: str) -> None:
    assert (FOLDER / name).read_text(encoding="utf-8") == make.files()[name]


def test_every_vector_file_is_made_by_the_script() -> None:
    clients = {
        "client-hashes.json",
        "exchanges.json",
        "leases.json",
        "license-files.json",
        "newer-files.json",
        "times.json",
    }  # made by client/tests/vectors.py
    assert {file.name for file in FOLDER.glob("*.json")} == make.files().keys() | clients


def test_the_script_follows_the_protocol_by_itself() -> None:
    tree = ast.parse((FOLDER / "make.py").read_text(encoding="utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {str(name).split(".")[0] for name in imported}.isdisjoint({"licensing", "licensing_client", "jwt"})
