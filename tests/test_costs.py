"""What the manual says that a month costs follows from the assumptions that it names, row for row."""

import re
from pathlib import Path

import pytest

MANUAL = (Path(__file__).parents[1] / "docs" / "operations.md").read_text(encoding="utf-8")
COST = MANUAL.split("\n## Cost\n")[1].split("\n## ")[0]

HOURS, DAYS, STARTS, CACHE_SECONDS, LOG_DAYS = 8, 21, 2, 60, 90
TIMERS = 12 * 24 * 30 + 30
"""Runs of sweep and of retention in a month."""


def rows(heading: str) -> dict[str, list[str]]:
    """The table of the chapter that begins with a heading: its rows by their first cell."""
    table = COST[COST.index(f"| {heading} |") :].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {first: rest for first, *rest in cells}


def assumed(name: str) -> float:
    """A number of the table of assumptions."""
    (found,) = (cells[0] for first, cells in rows("assumption").items() if first.startswith(name))
    return float(found.split()[0])


def month(seats: int, licenses: int, heartbeat: int) -> dict[str, float]:
    """What a month comes to, with the formulas of the manual, one instance serving."""
    seconds = DAYS * HOURS * 3600
    heartbeats, starts = seats * seconds / heartbeat, seats * DAYS * STARTS
    requests = heartbeats + 2 * starts
    state_reads = min(heartbeats, licenses * seconds / CACHE_SECONDS)
    sweeps = TIMERS - 30
    marks = 2 * (seconds / 60 + sweeps)
    calls = 2 * starts + heartbeats + state_reads + starts + sweeps * (licenses + 1) + 720 * licenses + marks
    executions = requests + TIMERS
    request_logs, call_logs = executions * assumed("row of `AppRequests`"), calls * assumed("row of `StorageTableLogs`")
    gigabytes = (request_logs + call_logs) / 1e6
    active = min(requests, seconds) + TIMERS
    kept = starts * 12 * assumed("row of an ended session") * 1000 / 2**30
    money = {
        "executions, USD": max(0, executions - 250_000) / 1e6 * assumed("a million executions"),
        "compute at 2 GB, on demand, at most, USD": max(0, 2 * active - 100_000) * assumed("a GB-second"),
        "storage, USD": calls / 10_000 * assumed("10,000 storage calls") + kept * assumed("a GiB of tables"),
        "logs taken in, USD": max(0, gigabytes - 5) * assumed("a GB of logs taken in"),
        f"logs kept for {LOG_DAYS} days, USD": call_logs / 1e6 * (LOG_DAYS - 31) / 30 * assumed("a GB of logs kept"),
    }
    counts = {
        "requests a month": requests,
        "storage calls a month": calls,
        "log rows a month": executions + calls,
        "logs a month, GB": gigabytes,
    }
    return {**counts, **money, "together, USD": sum(money.values())}


@pytest.mark.parametrize(("column", "seats", "licenses"), [(0, 100, 10), (1, 1_000, 50), (2, 10_000, 200)])
def test_the_table_of_costs_is_what_its_assumptions_come_to(column: int, seats: int, licenses: int) -> None:
    said = {name: cells[column] for name, cells in rows("seats").items()}
    due = month(seats, licenses, 300)
    due["together at `h` = 600, USD"] = month(seats, licenses, 600)["together, USD"]
    written = {name: f"{value:,.2f}" if re.search("USD|GB$", name) else f"{value:,.0f}" for name, value in due.items()}
    assert (said.pop("seats"), said.pop("licenses"), said.pop("---")) == (f"{seats:,}", f"{licenses:,}", "---")
    assert said == written
