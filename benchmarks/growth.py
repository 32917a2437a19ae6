"""What a start and a heartbeat cost on a license that grows, and beside sessions that ended long ago.

Compared are processor time of the service and storage calls: Azurite looks through all rows of a table for each
call, so that its own time, and with it the wall time, grows where Azure's does not.
"""

from benchmarks import past
from benchmarks.common import Bench, Line, cpu_seconds
from benchmarks.heartbeats import heartbeat_each
from benchmarks.programs import fill, many_connections
from licensing.crypto.tokens import read_license
from licensing.services.service import utc_now
from licensing.settings import Settings
from tests import factories
from tests.processes import serving, start


async def run(bench: Bench) -> list[Line]:
    """Each license next to the smallest, in turn."""
    requests, rounds = bench.choose(100, 60), bench.choose(4, 2)
    most = bench.ended(5000)
    sizes = [(10, 0), (1000, 0), (bench.choose(20_000, 2000), 0), (10, most // 10), (10, most)]
    cost: dict[tuple[int, int], dict[str, list[float]]] = {
        size: {"start": [], "heartbeat": [], "calls": []} for size in sizes
    }
    settings = Settings.load(factories.environment(bench.home, bench.storage))
    async with bench.tables() as tables, many_connections() as http:
        counted = bench.calls(tables)
        grown = []
        for seats, ended in sizes:
            # Half of the seats are held; there is room for what is measured.
            file = factories.issue(bench.home, seats=seats + 2 * requests * rounds)
            grown.append((file, await fill(bench, tables, file, seats // 2)))
            await past.fill(tables, read_license(file, settings.issuer_keys).id, ended, utc_now())
        with serving(bench.home, bench.storage, log=bench.folder / "growth.log") as served:
            pid = served.process.pid
            for number in range(-1, rounds):  # the first is for warming up
                for size, (file, programs) in zip(sizes, grown, strict=True):
                    mark, cpu = await counted.mark(), cpu_seconds(pid)
                    for _ in range(requests):
                        status, _ = await start(http, served.url, factories.start_body(file))
                        if status != 201:
                            raise RuntimeError(f"a start was answered with {status}")
                    middle = cpu_seconds(pid)
                    calls = len(await counted.since(mark))
                    for _ in range(requests):
                        await heartbeat_each(http, served.url, programs[:1])
                    if number >= 0:
                        cost[size]["start"].append((middle - cpu) / requests * 1000)
                        cost[size]["heartbeat"].append((cpu_seconds(pid) - middle) / requests * 1000)
                        cost[size]["calls"].append(calls / requests)
    least, lines = cost[sizes[0]], []
    for size in sizes[1:]:
        what = f"{size[0]:,} seats, {size[1]:,} ended sessions (naive column: 10 seats, none ended)"
        lines += [
            Line(f"{name}, {what}: processor time", "ms", cost[size][name], least[name], 1.3)
            for name in ("start", "heartbeat")
        ]
        lines.append(Line(f"start, {what}: storage calls", "", cost[size]["calls"], least["calls"], 1.3))
    return lines
