"""Opens the report of an organization once, cold, as the page's first request does.

Arguments: the store's connection string, and the organization's id. Prints JSON: seconds by the clock and of the
processor.
"""

import asyncio
import json
import sys
import time
from zoneinfo import ZoneInfo

from licensing.rules.report import to_json
from licensing.services.reports import Reports, span
from licensing.services.service import utc_now
from licensing.storage.register import Register
from licensing.storage.tables import Tables

DAYS = 90


async def main() -> None:
    """Read and report, as the page's first request does."""
    tables = Tables.from_connection_string(sys.argv[1])
    reports = Reports(Register(tables), utc_now, 3)
    days = span(None, None, DAYS, utc_now())
    if days is None:
        raise RuntimeError("there is nothing to report")
    wall, cpu = time.perf_counter(), time.process_time()
    report = to_json(reports.report(await reports.read(sys.argv[2]), *days, ZoneInfo("Europe/Helsinki")))
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await tables.close()
    if not json.loads(report)["licenses"]:
        raise RuntimeError("the report is empty")
    json.dump({"wall": wall, "cpu": cpu}, sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
