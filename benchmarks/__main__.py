"""`make bench`: run the benchmarks, print the table, and after a full run keep it in RESULTS.md."""

import argparse
import asyncio
import importlib
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Bench, Line, azurite, machine
from licensing.services.service import utc_now
from tests import support

BENCHMARKS = ("storm", "heartbeats", "day", "growth", "cold_start")
RESULTS = Path(__file__).with_name("RESULTS.md")
COLUMNS = ("what", "service", "naive way", "ratio", "goal")
INTRODUCTION = """# What it costs

Made by `make bench`, on {machine}, {date}. Each line compares, round by round in one run on one Azurite, the service
with the naive way that the line names. Given is the median, in brackets the least and the most. Ratios are service ÷
naive; where the goal is a least one, naive ÷ service. The machine is shared, so that times of different runs do not
compare; ratios do. Storage calls are counted in Azurite's log.
"""


def measure(name: str, quick: bool) -> Sequence[Line]:
    """Run one benchmark on an Azurite of its own."""
    benchmark = importlib.import_module(f"benchmarks.{name}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        log = folder / "azurite.log"
        with azurite(log) as storage:
            bench = Bench(storage, log, support.new_home(folder / "home"), folder, quick)
            lines: Sequence[Line] = asyncio.run(benchmark.run(bench))
    return lines


def table(lines: Sequence[Line]) -> str:
    """Results as Markdown."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(line.cells() for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main() -> None:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(BENCHMARKS)}; all, if none is named")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds; RESULTS.md stays as it is")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    parts = [INTRODUCTION.format(machine=machine(), date=f"{utc_now():%Y-%m-%d}")]
    for name in options.names or BENCHMARKS:
        began = time.monotonic()
        lines = measure(name, options.quick)
        parts.append(f"## {name.replace('_', ' ').capitalize()}\n\n{table(lines)}\n")
        sys.stdout.write(f"{parts[-1]}\n({time.monotonic() - began:.0f} s)\n\n")
        sys.stdout.flush()
    if not options.quick and not options.names:
        RESULTS.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
