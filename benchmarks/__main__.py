"""`make bench`: run the benchmarks, print the table, and after a full run keep it in RESULTS.md."""

import argparse
import asyncio
import importlib
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Bench, Line, azurite
from tests import support

BENCHMARKS = ("heartbeats",)
RESULTS = Path(__file__).with_name("RESULTS.md")
HEADER = ("what", "service", "naive way", "ratio", "goal")


def table(results: Sequence[tuple[str, Sequence[Line]]]) -> str:
    """The results as one Markdown table."""
    lines = [f"| {' | '.join(HEADER)} |", f"|{' --- |' * len(HEADER)}"]
    for name, found in results:
        lines.append(f"| **{name}** |{'  |' * (len(HEADER) - 1)}")
        lines += [f"| {' | '.join(line.cells())} |" for line in found]
    return "\n".join(lines)


def main() -> None:
    """Run the benchmarks that are named, or all."""
    parser = argparse.ArgumentParser(prog="make bench")
    parser.add_argument("names", nargs="*", choices=[*BENCHMARKS, []], help="which; all, if none is named")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller rounds; RESULTS.md stays as it is")
    options = parser.parse_args()
    results = []
    for name in options.names or BENCHMARKS:
        began = time.monotonic()
        benchmark = importlib.import_module(f"benchmarks.{name}")
        with tempfile.TemporaryDirectory() as folder:
            log = Path(folder) / "azurite.log"
            with azurite(log) as storage:
                home = support.new_home(Path(folder) / "home")
                lines = asyncio.run(benchmark.run(Bench(storage, log, home, Path(folder), options.quick)))
        results.append((name, lines))
        print(f"\n{name} ({time.monotonic() - began:.0f} s)")
        for line in lines:
            print("  " + " | ".join(line.cells()), flush=True)


if __name__ == "__main__":
    main()
