"""What the benchmarks share: Azurite, the processes that are measured, and lines of results with their spread."""

import asyncio
import os
import platform
import statistics
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from licensing.cli.home import Home, local_storage
from licensing.cli.processes import free_port, start_azurite, stop
from licensing.storage.tables import Tables
from tests.stores import StorageCalls

ROOT = Path(__file__).parents[1]

AZURITE_MEBIBYTES = 16_000
"""What Azurite may take. Node would stop it at some 4 GiB, which hold less than a million rows."""


@dataclass(frozen=True, slots=True)
class Line:
    """One row of the results: a value for each round, and beside it the naive way's of the same round, if there is one.

    `goal` is the most that the ratio service ÷ naive (without a naive way: the value) may be; with `at_least` the
    least.
    """

    what: str
    unit: str
    values: Sequence[float]
    naive: Sequence[float] = ()
    goal: float | None = None
    at_least: bool = False

    @property
    def ratios(self) -> list[float]:
        """Round by round: service ÷ naive."""
        return [value / naive for value, naive in zip(self.values, self.naive, strict=True)] if self.naive else []

    def cells(self) -> list[str]:
        """As a row of the table: what, service, naive, ratio, goal."""
        return [
            self.what,
            f"{spread(self.values)} {self.unit}".strip(),
            f"{spread(self.naive)} {self.unit}".strip() if self.naive else "–",
            f"{spread(self.ratios)} ×" if self.naive else "–",
            self._judged(),
        ]

    def _judged(self) -> str:
        if self.goal is None:
            return "–"
        middle = statistics.median(self.ratios or self.values)
        met = middle >= self.goal if self.at_least else middle <= self.goal
        return f"{'≥' if self.at_least else '≤'} {self.goal:g}: {'met' if met else 'missed'}"


def spread(values: Sequence[float]) -> str:
    """The median, and in brackets the least and the most where there are several."""
    if not values:
        return "not measured"
    middle = digits(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} [{digits(min(values))}–{digits(max(values))}]"


def digits(value: float) -> str:
    """A number, cut to the three digits that say something."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def processes_of(count: int) -> str:
    """So many processes, in words."""
    return f"{count} process{'es' if count > 1 else ''}"


def machine() -> str:
    """This machine, in words that name no one machine: cores, processor, system, Python."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return f"{os.cpu_count()} cores ({model}), {platform.system()}, Python {platform.python_version()}"


@dataclass(frozen=True, slots=True)
class Bench:
    """Where a benchmark runs: an Azurite and its log, a home with keys, a folder, and whether it has to be quick."""

    storage: str
    azurite_log: Path
    home: Home
    folder: Path
    quick: bool
    azurite_pid: int

    def choose(self, full: int, quick: int) -> int:
        """How many, or how often."""
        return quick if self.quick else full

    def ended(self, quick: int) -> int:
        """The most ended sessions to have: BENCH_ROWS, by default 100,000; a million takes an hour and 6 GiB."""
        return self.choose(int(os.environ.get("BENCH_ROWS", "100000")), quick)

    def calls(self, tables: Tables) -> StorageCalls:
        """The calls that reach Azurite."""
        return StorageCalls(self.azurite_log, tables)

    @asynccontextmanager
    async def tables(self) -> AsyncIterator[Tables]:
        """The store, from this process."""
        tables = Tables.from_connection_string(self.storage)
        yield tables
        await tables.close()


class Azurite(NamedTuple):
    """A running Azurite: its connection string, and its process id."""

    storage: str
    pid: int


@contextmanager
def azurite(log: Path) -> Iterator[Azurite]:
    """An Azurite that keeps its rows in memory and writes a line for each call."""
    port = free_port()
    timeouts = ROOT / "benchmarks" / "timeouts.cjs"
    os.environ["NODE_OPTIONS"] = f'--max-old-space-size={AZURITE_MEBIBYTES} --require "{timeouts}"'
    with log.open("wb") as lines:
        process = start_azurite(port, None, lines)
    try:
        yield Azurite(local_storage(port), process.pid)
    finally:
        stop(process)


def cpu_seconds(pid: int) -> float:
    """The processor time of a process up to now, in seconds (Linux: the clock of clock_getcpuclockid(3))."""
    return time.clock_gettime(~pid << 3 | 2)


def resident_mebibytes(pid: int) -> float:
    """The memory of a process that is in use now (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


LINE_BYTES = 2**20
"""The longest line that a process of a benchmark answers."""


class Worker:
    """A process of a benchmark that says when it is ready.

    It goes on a word and answers with what it prints, or it answers each question with a line until it is closed.
    """

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, module: str, *arguments: object, checkout: Path = ROOT) -> "Worker":
        """Run a module of this checkout, or of one with a `.venv` of its own, and wait until it is ready."""
        pipe = asyncio.subprocess.PIPE
        python = sys.executable if checkout == ROOT else str(checkout / ".venv" / "bin" / "python")
        words = [python, "-m", module, *map(str, arguments)]
        process = await asyncio.create_subprocess_exec(*words, stdin=pipe, stdout=pipe, cwd=checkout, limit=LINE_BYTES)
        if process.stdout is None or await process.stdout.readline() != b"ready\n":
            raise RuntimeError(f"{module} did not start")
        return cls(process)

    async def go(self) -> str:
        """Let it go; what it answers."""
        answer, _ = await self._process.communicate(b"go\n")
        if self._process.returncode != 0:
            raise RuntimeError("a process of the benchmark has failed; its messages are above")
        return answer.decode()

    async def ask(self, question: str) -> str:
        """Send a question of one line; the line that it answers."""
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the process has no pipes")
        self._process.stdin.write(f"{question}\n".encode())
        answer = await self._process.stdout.readline()
        if not answer:
            raise RuntimeError("a process of the benchmark has failed; its messages are above")
        return answer.decode()

    async def close(self) -> None:
        """End one that answers questions."""
        await self._process.communicate(b"")  # which closes its input


def await_go() -> None:
    """In a process that a `Worker` is: say that it is ready, and wait for the word."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
