"""The command line as a user runs it, in this process, in a folder and with a home of its own."""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from licensing.cli import main, secret_store
from tests.cli.vault import Vault


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


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Vault:
    """An empty vault, to which every client goes."""
    made = Vault("kv-test")
    monkeypatch.setattr(secret_store, "vault_client", lambda name: made.client())
    return made


def in_a_process(*words: str, settings: Mapping[str, str], watched: bool) -> tuple[int, bytes, bytes]:
    """Run `licensing` in a process whose messages go to a terminal or into a pipe: its code, results and messages."""
    read, write = os.openpty() if watched else os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "licensing", *words],
        env={**os.environ, "TERM": "xterm-256color", **settings},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=write,
    ) as process:
        os.close(write)
        messages = b""
        with os.fdopen(read, "rb", buffering=0) as terminal, suppress(OSError):  # which is how a terminal ends
            while part := terminal.read(4096):
                messages += part
        out, _ = process.communicate()
    return process.returncode, out, messages
