"""What the README says is so: its walk-through runs word for word, and its steps for Windows are those of make."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from licensing.cli.processes import free_port

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PROGRAMS = Path(sys.executable).parent

WALK = "By hand, with curl"
PORTS = ("7171", "10102")
"""The ports that the walk-through names; free ones take their place here, and nothing else is changed."""

BASH = shutil.which("bash")
CURL = shutil.which("curl")
MAKE = shutil.which("make")

BLOCK_END = "----- end of block -----"
ELLIPSIS = "…"
WALK_SECONDS = 180


def blocks(section: str) -> list[tuple[str, str]]:
    """The fenced blocks under a heading of the README: each one's language and text."""
    found = []
    heading = ""
    tokens = MarkdownIt().parse(README.read_text(encoding="utf-8"))
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            heading = tokens[place + 1].content
        elif token.type == "fence" and heading == section:
            found.append((token.info.strip(), token.content))
    return found


def run_in_bash(script: str, folder: Path) -> str:
    """All that a script prints, run in a shell that stops at the first command that fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LICENSING_")}
    environment |= {"PATH": f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}", "TMPDIR": str(folder)}
    setting = "set -euo pipefail; exec 2>&1; trap 'kill $(jobs -p) 2> /dev/null || true; wait' EXIT\n"
    shell = subprocess.Popen(
        [str(BASH), "-c", setting + script],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    )
    try:
        printed, _ = shell.communicate(timeout=WALK_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(shell.pid, signal.SIGTERM)  # the server among them, which ends its Azurite
        printed, _ = shell.communicate()
        pytest.fail(f"the walk-through did not end in {WALK_SECONDS} seconds; it printed\n{printed}")
    assert shell.returncode == 0, f"a command of the walk-through failed; all of them printed\n{printed}"
    return printed


def looks_like(shown: str, printed: str) -> bool:
    """Whether a program printed what the README shows, where an ellipsis stands for anything within a line."""
    pattern = re.escape(shown.strip()).replace(ELLIPSIS, r"[^\n]*")
    lines = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    return re.fullmatch(pattern, lines) is not None


@pytest.mark.skipif(sys.platform == "win32", reason="the walk-through is for a Bash shell")
@pytest.mark.skipif(not BASH or not CURL, reason="there is no bash or no curl here to run the walk-through with")
def test_the_walk_through_prints_what_the_readme_shows(tmp_path: Path) -> None:
    commands: list[str] = []
    shown: dict[int, str] = {}
    for language, text in blocks(WALK):
        if language == "bash":
            commands.append(text)
        else:
            shown[len(commands) - 1] = text
    assert len(commands) > 5
    assert len(shown) > 5
    script = f"echo '{BLOCK_END}'\n".join([*commands, ""])
    for port in PORTS:
        assert port in script
        script = script.replace(port, str(free_port()))
    printed = run_in_bash(script, tmp_path).split(BLOCK_END + "\n")
    for place, text in enumerate(printed[: len(commands)]):
        expected = shown.get(place, "")
        assert looks_like(expected, text), f"{commands[place]}\nprinted\n{text}\nand the README shows\n{expected}"


def words(command: str) -> list[str]:
    """The words of a command that tell what it does: without options that only make it quiet or quick."""
    kept = ("--no-deps", "--ignore-scripts")
    return [word for word in shlex.split(command) if not word.startswith("--") or word in kept]


@pytest.mark.skipif(not MAKE, reason="there is no make here to ask for its steps")
def test_the_steps_for_windows_are_those_of_make() -> None:
    ((_, steps),) = blocks("On Windows")
    on_windows = [
        words(step.replace("py -3 ", "python3 ").replace(".venv\\Scripts\\", ".venv/bin/"))
        for step in steps.splitlines()
    ]
    make = subprocess.run(
        [str(MAKE), "--dry-run", "--always-make", "PYTHON=python3", "demo", "test"],
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))},
        capture_output=True,
        text=True,
        check=True,
    )
    checks = ("touch", "python3 -c")
    by_make = [words(line) for line in make.stdout.splitlines() if not line.startswith(checks)]
    assert on_windows == by_make
