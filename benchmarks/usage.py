"""Opening the usage page cold: the report of ten licenses with a year of rows.

Each license has totals of 365 days and of their months, and sessions of the last four weeks. Of these, the ones since
the beginning of the month are read, since a month that is not over is aggregated whole. Each report is made by a new
process (`benchmarks.usage_reader`), whose imports are not counted.

Beside it, `licensing usage` reports on the same, here and in another checkout: a folder with its own `.venv`, named by
BENCH_BASE. Both run in turn on one Azurite, and must report the same.
"""

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

from benchmarks.common import ROOT, Bench, Line
from benchmarks.rows import command, counts_of
from licensing.rules.model import EndedSession, EndReason, LicenseState, Session, Versioned
from licensing.rules.totals import MonthAggregate, aggregate_day, month_of, under_terms
from licensing.rules.usage import DAY, Use, midnight
from licensing.services.service import utc_now
from licensing.storage import register as rows
from licensing.storage.register import Register
from licensing.storage.tables import TRANSACTION_ROWS, Tables, Write, put
from tests import factories

LICENSES = 10
DAYS = 365
SESSION_DAYS = 28
PEOPLE = 20
RUNS = 2
"""How often each of the people starts on a day."""
MOST_SECONDS = 2


async def run(bench: Bench) -> list[Line]:
    """Fill a register, then open the report in each checkout in turn."""
    organization = factories.new_id("org")
    licenses, people = bench.choose(LICENSES, 3), bench.choose(PEOPLE, 5)
    async with bench.tables() as tables:
        for _ in range(licenses):
            await fill(tables, organization, people)
    first, last = (f"{utc_now().date() - days * DAY}" for days in (90, 2))
    base = os.environ.get("BENCH_BASE")
    checkouts = {"this": ROOT, **({"base": Path(base)} if base else {})}
    opened: list[dict[str, float]] = []
    walls: dict[str, list[float]] = defaultdict(list)
    for _ in range(bench.choose(5, 2)):
        opened.append(open_cold(bench, organization))
        found = []
        for name, folder in checkouts.items():
            wall, _, report = command(bench, folder, "--organization", organization, "--from", first, "--to", last)
            walls[name].append(wall)
            found.append({license["id"]: counts_of(license) for license in report["licenses"]})
        if any(each != found[0] for each in found):
            raise RuntimeError("the two checkouts report differently")
    compared = "naive: the same of BENCH_BASE" if base else "NOT COMPARED: no BENCH_BASE names another checkout"
    what = f"{licenses} licenses, {DAYS} days, {people * RUNS * SESSION_DAYS:,} sessions each"
    return [
        Line(f"report of {what}, cold: wall time", "s", [each["wall"] for each in opened], goal=MOST_SECONDS),
        Line(f"report of {what}, cold: processor time", "s", [each["cpu"] for each in opened]),
        Line(f"`licensing usage` of {what}: wall time ({compared})", "s", walls["this"], walls["base"]),
    ]


def open_cold(bench: Bench, organization: str) -> dict[str, float]:
    """Open the report in a new process: seconds by the clock and of the processor."""
    words = [sys.executable, "-m", "benchmarks.usage_reader", bench.storage, organization]
    done = subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True)
    opened: dict[str, float] = json.loads(done.stdout)
    return opened


async def fill(tables: Tables, organization: str, people: int) -> None:
    """A license as a year of use and of nights has left it."""
    license_id, today = factories.new_license_id(), utc_now().date()
    bought = factories.terms(
        organization_id=organization,
        seats=people,
        valid_from=midnight(today - DAYS * DAY),
        valid_until=utc_now() + 90 * DAY,
    )
    state = LicenseState(bought, since=midnight(today - DAYS * DAY))
    columns = {**rows.STATES.encode(state), rows.FINAL_DAY: f"{today - DAY}", rows.COMMIT: "made"}
    await Register(tables).add_to_directory(license_id, bought)
    await tables.commit("register", license_id, [put(rows.STATE, columns)])
    writes = list(_rows(state, today, people))
    for first in range(0, len(writes), TRANSACTION_ROWS):
        await tables.commit("register", license_id, writes[first : first + TRANSACTION_ROWS])


def _rows(state: LicenseState, today: date, people: int) -> Iterator[Write]:
    months: dict[str, MonthAggregate] = {}
    for number in range(1, DAYS + 1):
        day = today - number * DAY
        uses = list(_uses(day, people))
        found = aggregate_day(day, uses, (), midnight(today))
        totals = under_terms(found.totals, state)
        months.setdefault(month_of(day), MonthAggregate(month_of(day))).add(found)
        yield put(rows.day_key(day), rows.DAYS.encode(totals))
        if number <= SESSION_DAYS:
            yield from map(_ended, uses)
    for month, sums in months.items():
        if month != month_of(today):
            yield put(rows.month_key(month), rows.MONTHS.encode(sums.totals()))


def _uses(day: date, people: int) -> Iterator[Use]:
    """Everybody works in the morning and in the afternoon of each day, each at another minute."""
    for person in range(people):
        for run in range(RUNS):
            began = midnight(day) + timedelta(hours=7 + 5 * run, minutes=5 * person % 120)
            name = f"{day:%Y%m%d}-0000-4000-8000-{1000 * person + run:012}"
            pseudonym = f"{person:022}"
            yield Use(name, began, began + timedelta(hours=3, minutes=person), pseudonym, pseudonym, name, False, "p1")


def _ended(use: Use) -> Write:
    at = use.ended_at or use.started_at
    session = Session(use.session_id, use.started_at, at, at, use.user, use.host, use.user, "p1", use.holder)
    write = rows.end_changes(Versioned(EndedSession(session, at, EndReason.ENDED), ""))[1].write
    return put(write.key, write.columns)
