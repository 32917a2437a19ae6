"""`licensing demo` as a visitor runs it: the story runs to its end, and one that goes wrong fails."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from licensing.cli.processes import stop

SECONDS = 60
STORM_ALONE = """
import sys
from licensing.cli import main
async def nothing(*_): pass
demo = sys.modules["licensing.cli.demo"]
demo._desktops, demo.{name} = nothing, {value}
sys.argv = ["licensing", "demo"]
main()
"""


def output(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run Python, with its temporary files in a folder; its exit code and all that it said."""
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        said, _ = process.communicate(timeout=SECONDS)
    finally:
        stop(process)  # so that it ends what it has started, also when it has taken too long
    return process.returncode, said.decode()


def test_the_demo_shows_the_main_job_and_leaves_nothing_behind(tmp_path: Path) -> None:
    code, said = output(tmp_path, "-m", "licensing", "demo")
    assert code == 0, said
    story = [
        r"anna runs; 1 of 2 seats in use",
        r"ben runs; 2 of 2 seats in use",
        r"carol refused: no-seat-available\. All 2 seats are taken; try again in \d+ seconds\.",
        r"ben ends",
        r"carol runs; 2 of 2 seats in use",
        r"anna falls silent",
        r"david refused: no-seat-available\.",
        r"david runs; 2 of 2 seats in use",
        r"eve refused: license-invalid\.",
        r"carol must stop: license-suspended\.",
        r"225 granted, 75 refused",
        r"\d+ calls to storage",
        r"2 licenses recounted, all in order\.",
        r"That was it",
    ]
    assert re.search(".*".join(story), said, re.DOTALL), said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "value", "said_of_it"),
    [("STORM_STARTS", 200, "200 granted, 0 refused"), ("STORM_CALLS", 0, "calls to storage")],
)
def test_a_storm_that_grants_another_number_or_costs_too_much_ends_the_demo_with_an_error(
    tmp_path: Path, name: str, value: int, said_of_it: str
) -> None:
    code, said = output(tmp_path, "-c", STORM_ALONE.format(name=name, value=value))
    assert said_of_it in said
    assert code == 1, said
    assert said.endswith("The storm did not go as promised; the lines in red say how.\n")
