"""A Python as the cloud has it: version 3.13 where this machine has one, with what a list of packages names alone."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(command: list[str], environment: Mapping[str, str] | None = None, said: str = "") -> str:
    """Run a program; what it printed.

    Raises RuntimeError with its messages if it fails.
    """
    done = subprocess.run(command, env=environment, input=said, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return done.stdout


def bare() -> dict[str, str]:
    """This process's environment without anything that would bring this tree or its settings along."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("LICENSING_", "PYTHON"))}


def python_of_the_cloud() -> str | None:
    """A Python 3.13, wherever this machine has one."""
    found = [sys.executable, shutil.which("python3.13")]
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found += map(str, sorted(root.glob("versions/3.13.*/bin/python")))
    for python in filter(None, found):
        version = subprocess.run(
            [python, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True, check=False
        )
        if version.returncode == 0 and version.stdout.split() == ["3", "13"]:
            return python
    return None


def new_environment(python: str, folder: Path, *files: str) -> Path:
    """A new virtual environment with the packages of these files; its Python.

    Raises RuntimeError if that does not succeed.
    """
    run([python, "-m", "venv", str(folder)], bare())
    own = folder / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    install(own, *files)
    return own


def install(python: Path, *files: str) -> None:
    """Install requirements from the package index.

    Raises RuntimeError if that does not succeed.
    """
    wanted = [word for file in files for word in ("-r", str(ROOT / file))]
    options = ["--quiet", "--disable-pip-version-check", "--no-compile"]
    run([str(python), "-m", "pip", "install", *options, *wanted], bare())
