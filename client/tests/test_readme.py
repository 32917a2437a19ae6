"""The code and commands in README.md work as shown."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from conftest import Workspace, eventually
from licensing_client.cli import _parser

TEXT = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_its_python_takes_seats_and_gives_them_back(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace.license(maintenance_until=None)
    monkeypatch.chdir(workspace.folder)
    monkeypatch.setenv("XDG_STATE_HOME", str(workspace.state))
    received: list[str] = []
    window = SimpleNamespace(
        enable=lambda: received.append("enabled"), say=received.append, save_and_close=received.append
    )
    given: dict[str, object] = {"window": window}
    assert len(BLOCKS) == 4
    for block in BLOCKS:
        exec(compile(block, "README.md", "exec"), given)  # noqa: S102 — our own text
    assert eventually(lambda: received == ["enabled"])
    given["seat"].close()  # type: ignore[attr-defined]
    assert "licensed features: ['gis', 'scenarios']" in capsys.readouterr().out
    assert len(workspace.service.ended) == 3
    assert not workspace.service.active


def test_its_commands_are_those_that_there_are() -> None:
    shown = set(re.findall(r"^licensing-client ([a-z-]+) ", TEXT, re.MULTILINE))
    assert shown == set(_parser()._subparsers._group_actions[0].choices)  # type: ignore[union-attr, arg-type]


def test_the_files_that_it_names_are_there() -> None:
    for name in re.findall(r"`(\w+\.py)`", TEXT):
        assert list(Path(__file__).parents[1].rglob(name)), name
    for link in re.findall(r"\]\(([^)]+)\)", TEXT):
        assert (Path(__file__).parents[1] / link).exists(), link
