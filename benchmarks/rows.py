"""Reading rows: pages against the bare SDK, and `licensing usage` of a large license against another checkout.

The naive way reads the same rows with all of their columns. Both are given by the clock and by processor time of the
reading process; this is what a reader of Azure's pays as well. By the clock, most of what is left is Azurite's: for
each page it looks through all rows of the table and sorts those that are left, which comes to 20 microseconds a row of
3,000 and to 100 a row of 200,000. Azure finds a page by its first key.

The other checkout is a folder with its own `.venv`, named by BENCH_BASE. Both commands run in turn on one Azurite, and
must report the same.
"""

import json
import os
import resource
import subprocess
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from azure.data.tables.aio import TableServiceClient

from benchmarks import past
from benchmarks.common import ROOT, Bench, Line
from licensing.rules.model import LicenseState
from licensing.services.service import utc_now
from licensing.storage import register as rows
from licensing.storage.register import Register
from licensing.storage.tables import PAGE_ROWS, Tables, put
from tests import factories

ROWS = 3_000
"""How many rows are read: three pages. More would measure Azurite."""
QUICK_ENDED = 5_000
SPAN = timedelta(days=90)
LEAST_RATE = 4
"""Of the bare SDK's."""
MOST_HOLD = 20
"""The longest that a page may hold the event loop, in milliseconds."""
MOST_TIME = 0.4
"""Of the other checkout's command."""
NAIVE = "the bare SDK"
DECODED = "as totals need them, decoded"


async def run(bench: Bench) -> list[Line]:
    """Read the rows of one license, then report on another."""
    return [*await reading(bench), *await usage(bench)]


async def reading(bench: Bench) -> list[Line]:
    """The rows of a license, each way in turn."""
    walls: dict[str, list[float]] = defaultdict(list)
    cpus: dict[str, list[float]] = defaultdict(list)
    async with bench.tables() as tables, TableServiceClient.from_connection_string(bench.storage) as service:
        license_id, now = await license_of(tables, ROWS), utc_now()
        register, first, beyond = Register(tables), rows.ENDED, rows.beyond(rows.ENDED)
        where = {"partition": license_id, "first": first, "beyond": beyond}
        table = service.get_table_client("register")
        ways: dict[str, Callable[[], AsyncIterator[object]]] = {
            NAIVE: lambda: table.query_entities(
                "PartitionKey eq @partition and RowKey ge @first and RowKey lt @beyond",
                parameters=where,
                results_per_page=PAGE_ROWS,
            ),
            "all columns": lambda: tables.rows("register", license_id, first, beyond),
            DECODED: lambda: register.ended_uses(license_id, now - 2 * SPAN),
            "keys alone": lambda: tables.rows("register", license_id, first, beyond, columns=()),
        }
        for number in range(-1, bench.choose(15, 5)):  # the first is for warming up
            for name, way in ways.items():
                wall, cpu = time.perf_counter(), time.process_time()
                found = 0
                async for _ in way():
                    found += 1
                wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
                if found != ROWS:
                    raise RuntimeError(f"{name}: {found} rows in place of {ROWS}")
                if number >= 0:
                    walls[name].append(ROWS / wall)
                    cpus[name].append(ROWS / cpu)

    def line(name: str, kind: str, rates: dict[str, list[float]]) -> Line:
        what = f"{ROWS:,} ended sessions, {name}: rows per second of {kind} (naive: bare SDK, all columns)"
        return Line(what, "rows/s", rates[name], rates[NAIVE], LEAST_RATE, at_least=True)

    names = [name for name in ways if name != NAIVE]
    holds = [PAGE_ROWS / rate * 1000 for rate in cpus[DECODED]]
    return [
        *(
            line(name, kind, rates)
            for name in names
            for kind, rates in (("wall time", walls), ("processor time", cpus))
        ),
        Line(f"page of {PAGE_ROWS:,}, {DECODED}: most that it holds the event loop", "ms", holds, (), MOST_HOLD),
    ]


async def usage(bench: Bench) -> list[Line]:
    """The command on a license whose totals are not final, beside the same of another checkout."""
    count = bench.ended(QUICK_ENDED)
    async with bench.tables() as tables:
        license_id = await license_of(tables, count)
    what = f"`licensing usage` of {count:,} ended sessions in {SPAN.days} days"
    base = os.environ.get("BENCH_BASE")
    checkouts = {"this": ROOT, **({"base": Path(base)} if base else {})}
    walls: dict[str, list[float]] = defaultdict(list)
    cpus: dict[str, list[float]] = defaultdict(list)
    for _ in range(bench.choose(3, 2)):
        reports = []
        for name, folder in checkouts.items():
            wall, cpu, report = command(bench, folder, license_id)
            (license,) = report["licenses"]
            walls[name].append(wall)
            cpus[name].append(cpu)
            reports.append(counts_of(license))
        # The former edition reports today, too.
        if any(not reports[0].items() <= report.items() for report in reports):
            raise RuntimeError("the two checkouts report differently")
    compared = "naive: the same of BENCH_BASE" if base else "NOT COMPARED: no BENCH_BASE names another checkout"
    # Of a few sessions, the command's own start is the larger part.
    goal = MOST_TIME if base and not bench.quick else None
    return [
        Line(f"{what}: wall time ({compared})", "s", walls["this"], walls["base"], goal),
        Line(f"{what}: processor time ({compared})", "s", cpus["this"], cpus["base"]),
    ]


async def license_of(tables: Tables, count: int) -> str:
    """A license with so many ended sessions, which no night has counted yet."""
    license_id, bought, now = factories.new_license_id(), factories.terms(), utc_now()
    await Register(tables).add_to_directory(license_id, bought)
    state = put(rows.STATE, {**rows.STATES.encode(LicenseState(bought)), rows.COMMIT: "made"})
    await tables.commit("register", license_id, [state])
    await past.fill(tables, license_id, count, now, SPAN / count)
    return license_id


def counts_of(license: dict[str, Any]) -> dict[str, tuple[int, int, int]]:
    """What a report tells of each day of a license on which enough people worked, in any edition."""
    reported = (day for day in license["days"] if day["sessions"])
    return {day["day"]: (day["sessions"], day["seat_seconds"], day["peak"]) for day in reported}


def command(bench: Bench, folder: Path, *of: str) -> tuple[float, float, dict[str, Any]]:
    """Run `licensing usage` of a checkout: seconds by the clock, of the processor, and the report."""
    words = [str(folder / ".venv" / "bin" / "licensing"), "usage", *of, "--format", "json"]
    environment = {"PATH": os.environ["PATH"], **factories.environment(bench.home, bench.storage)}
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(words, cwd=folder, env=environment, check=True, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    wall, cpu = time.perf_counter() - began, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu, {name: value for name, value in json.loads(done.stdout).items() if name != "generated_at"}
