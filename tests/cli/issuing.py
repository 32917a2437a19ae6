"""Two commands at the same instant on one home, in processes that live for many rounds; and what the books hold then.

    python -m tests.cli.issuing HOME ROUNDS WORD …

is one of them. For each round it waits for a line of input, which is the round's number, and runs `licensing license
issue` with the words, `{}` in them being the number. It prints the code of the command.
"""

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from licensing.cli import main
from licensing.cli.books import IssuedFile
from licensing.cli.home import Home

ROOT = Path(__file__).parents[2]


def run(words: Sequence[str]) -> int:
    """Run a command in this process; its exit code."""
    sys.argv = ["licensing", *words]
    try:
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            main()
    except SystemExit as ended:
        return int(ended.code or 0)
    raise AssertionError("a command exits")


def race(home: Path, rounds: int, commands: Sequence[Sequence[str]], **settings: str) -> list[list[int]]:
    """Run commands at the same instant, in so many rounds, under some settings; the exit codes of each round."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LICENSING_")}
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "tests.cli.issuing", str(home.absolute()), str(rounds), *words],
            cwd=ROOT,
            env={**kept, **settings},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for words in commands
    ]
    codes = []
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for number in range(rounds):
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
        codes.append([int(process.stdout.readline()) for process in processes if process.stdout])
    for process in processes:
        process.communicate()
    return codes


def noted(home: Path) -> list[IssuedFile]:
    """The newest file of each license in the books."""
    return Home(home).issued()


if __name__ == "__main__":
    os.environ["LICENSING_HOME"] = sys.argv[1]
    rounds, command = int(sys.argv[2]), sys.argv[3:]
    results = sys.stdout
    results.write("ready\n")
    results.flush()
    for _ in range(rounds):
        number = sys.stdin.readline().strip()
        code = run([word.replace("{}", number) for word in command])
        results.write(f"{code}\n")
        results.flush()
