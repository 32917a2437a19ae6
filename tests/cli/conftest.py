"""The command line as a user runs it, in this process, in a folder and with a home of its own."""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from licensing.cli import main


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


Licensing = Callable[..., Said]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, without any settings."""
    for name in [name for name in os.environ if name.startswith("LICENSING_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LICENSING_HOME", "")  # so that what --home sets is taken back afterwards
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def licensing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Licensing:
    """Run `licensing` with arguments, and with LICENSING_HOME in the environment where a test gives it."""

    def run(*arguments: str, variable: str = "") -> Said:
        monkeypatch.setenv("LICENSING_HOME", variable)
        monkeypatch.setattr(sys, "argv", ["licensing", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Said(int(caught.value.code or 0), out, err)

    return run


@pytest.fixture
def made(licensing: Licensing) -> Path:
    """A home that `licensing init` has made in the default place."""
    assert licensing("init").code == 0
    return Path(".local")
