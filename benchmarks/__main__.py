"""`make bench`: run the benchmarks, print their tables, and keep those of full size in RESULTS.md."""

import argparse
import asyncio
import importlib
import os
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import ROOT, Bench, Line, azurite, machine
from licensing.services.service import utc_now
from tests import factories

BENCHMARKS = (
    "storm",
    "waiting",
    "heartbeats",
    "day",
    "growth",
    "triggers",
    "evening",
    "full",
    "several",
    "loop",
    "peer",
    "cold_start",
    "retention",
    "rows",
    "client",
    "usage",
)
BESIDE_ANOTHER_CHECKOUT = ("storm", "triggers", "rows", "usage")
RESULTS = Path(__file__).with_name("RESULTS.md")
COLUMNS = ("what", "service", "naive way", "ratio", "goal")
INTRODUCTION = """# What it costs

Made by `make bench`; each part says with which command, when, and on what machine. Each line compares, round by round
in one run on one Azurite, the service with the naive way that the line names. Given is the median, in brackets the
least and the most; ratios are service ÷ naive. The machine is shared, so that times of different runs do not compare;
ratios do. Storage calls are counted in Azurite's log.
"""


def measure(name: str, quick: bool) -> Sequence[Line]:
    """Run one benchmark on an Azurite of its own."""
    benchmark = importlib.import_module(f"benchmarks.{name}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        log = folder / "azurite.log"
        with azurite(log) as (storage, pid):
            bench = Bench(storage, log, factories.new_home(folder / "home"), folder, quick, pid)
            lines: Sequence[Line] = asyncio.run(benchmark.run(bench))
    return lines


def table(lines: Sequence[Line]) -> str:
    """Results as Markdown."""
    rows = [COLUMNS, ["---"] * len(COLUMNS), *(line.cells() for line in lines)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def save(name: str, part: str) -> None:
    """Put one benchmark's part into RESULTS.md, in place of that of an earlier run."""
    kept = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    parts = {
        title(found.splitlines()[0].removeprefix("## ")): found for found in re.split(r"^(?=## )", kept, flags=re.M)[1:]
    }
    parts[title(name)] = part
    order = [parts[title(each)].rstrip() for each in BENCHMARKS if title(each) in parts]
    RESULTS.write_text("\n\n".join([INTRODUCTION.rstrip(), *order]) + "\n", encoding="utf-8")


def title(name: str) -> str:
    """A benchmark's name as a heading."""
    return name.replace("_", " ").capitalize()


def command(name: str) -> str:
    """What makes a benchmark's part as it was made."""
    rows = os.environ.get("BENCH_ROWS")
    base = "BENCH_BASE=… " if name in BESIDE_ANOTHER_CHECKOUT and os.environ.get("BENCH_BASE") else ""
    return f"{f'BENCH_ROWS={rows} ' if rows else ''}{base}make bench ONLY={name}"


def main() -> None:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("names", nargs="*", help=f"which of {', '.join(BENCHMARKS)}; all, if none is named")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds; RESULTS.md stays as it is")
    options = parser.parse_args()
    unknown = set(options.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    sys.path.append(str(ROOT / "client" / "src"))  # the client is a distribution of its own
    for name in options.names or BENCHMARKS:
        began = time.monotonic()
        lines = measure(name, options.quick)
        made = f"`{command(name)}`, {utc_now():%Y-%m-%d}, in {time.monotonic() - began:,.0f} s on {machine()}."
        part = f"## {title(name)}\n\n{made}\n\n{table(lines)}\n"
        sys.stdout.write(f"{part}\n")
        sys.stdout.flush()
        if not options.quick:
            save(name, part)


if __name__ == "__main__":
    main()
