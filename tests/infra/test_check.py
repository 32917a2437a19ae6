"""`infra/check.py` as `make check` runs it, on a copy of the templates: what it says, and when it fails."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.check import INFRA, SNAPSHOT


@pytest.fixture
def templates(tmp_path: Path) -> Path:
    return Path(shutil.copytree(INFRA, tmp_path / "infra", ignore=shutil.ignore_patterns("__pycache__")))


def check(templates: Path, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [sys.executable, templates / "check.py", *options]
    return subprocess.run(
        command, env={**os.environ, **environment}, capture_output=True, text=True, timeout=120, check=False
    )


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert text.count(old) == 1, f"{file.name} no longer says {old} once"
    file.write_text(text.replace(old, new), encoding="utf-8")


def test_without_a_compiler_it_says_loudly_that_nothing_was_checked(templates: Path) -> None:
    nowhere = str(templates.parent / "nowhere")
    for options, code in (((), 0), (("--require",), 1)):
        done = check(templates, *options, BICEP="", PATH=nowhere, AZURE_CONFIG_DIR=nowhere)
        assert (done.returncode, done.stdout) == (code, "")
        assert "THE TEMPLATES WERE NOT CHECKED: there is no Bicep compiler here." in done.stderr


def test_a_compiler_that_is_named_and_not_there_is_a_failure(templates: Path) -> None:
    done = check(templates, BICEP=str(templates / "bicep"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "is not a program" in done.stderr


def test_a_template_that_is_not_formatted_is_named(compiler: str, templates: Path) -> None:
    edit(templates / "storage.bicep", "kind: 'StorageV2'", "kind:   'StorageV2'")
    done = check(templates, BICEP=compiler)
    assert (done.returncode, done.stdout) == (1, "")
    assert "not formatted: storage.bicep;" in done.stderr


def test_a_change_of_what_would_be_deployed_is_shown_until_it_is_meant(compiler: str, templates: Path) -> None:
    edit(templates / "logs.bicep", "name: 'PerGB2018'", "name: 'CapacityReservation'")
    done = check(templates, BICEP=compiler)
    assert (done.returncode, done.stdout) == (1, "")
    changed = [line.replace(" ", "") for line in done.stderr.splitlines() if line[0] in "+-"]
    assert changed[2:] == ['-"name":"PerGB2018"', '+"name":"CapacityReservation"']
    done = check(templates, "--update", BICEP=compiler)
    assert (done.returncode, done.stderr) == (0, "")
    assert "match the snapshot" in done.stdout
    kept = SNAPSHOT.read_text(encoding="utf-8").replace('"PerGB2018"', '"CapacityReservation"')
    assert (templates / SNAPSHOT.name).read_text(encoding="utf-8") == kept
