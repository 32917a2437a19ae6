"""At five o'clock everybody goes home: many programs on one license end, as fast as 50 calls in flight allow.

First at a level: 10 to 20,000 sessions stay in use while others start and end, so that an end compares with a start
at the same size. Then evenings: all sessions of the license end. The service that ends them has started them; with four
processes any of them may end what another has started. Once it has not, and knows nothing of them. An evening is cut
off after a minute.

Processor time is that of all processes of the service. They share two cores with Azurite and with the programs, so
that rates of four processes are not four times those of one.
"""

from collections.abc import Callable, Sequence

from benchmarks.common import Bench, Line, processes_of
from benchmarks.programs import LONG, Cost, calling, fill
from tests import factories

AT_ONCE = 50
LEVELS = (10, 1000, 5000, 20_000)
COMPARED = (5000, 10)
"""The levels whose rates are compared."""
EVENINGS = (5000, 20_000)
COLD = 5000
MINUTE = 60


async def run(bench: Bench) -> list[Line]:
    """The levels with one process, then evenings with one process and with four."""
    lines = await levels(bench, COMPARED[::-1] if bench.quick else LEVELS)
    for processes in (1, 4):
        for sessions in [200] if bench.quick else EVENINGS:
            lines += await evening(bench, processes, sessions, warm=True)
    return lines + await evening(bench, 1, bench.choose(COLD, 200), warm=False)


async def levels(bench: Bench, in_use: Sequence[int]) -> list[Line]:
    """Starts and ends beside so many sessions that stay, in turn."""
    count, rounds = bench.choose(200, 100), bench.choose(3, 1)
    async with bench.tables() as tables:
        files = {held: factories.issue(bench.home, seats=held + count, **LONG) for held in in_use}
        for held, file in files.items():
            await fill(bench, tables, file, held)
    starts: dict[int, list[Cost]] = {held: [] for held in in_use}
    ends: dict[int, list[Cost]] = {held: [] for held in in_use}
    async with calling(bench) as programs:
        replies, _ = await programs.start_many(files[in_use[0]], count, AT_ONCE)
        await programs.end_many(replies, AT_ONCE)  # so that connections and code are warm
        for _ in range(rounds):
            for held, file in files.items():
                replies, started = await programs.start_many(file, count, AT_ONCE)
                starts[held].append(started)
                ends[held].append(await programs.end_many(replies, AT_ONCE))

    def values(costs: list[Cost], value: Callable[[Cost], float]) -> list[float]:
        return [value(cost) for cost in costs]

    lines = []
    for held in in_use:
        what = f"end, {held:,} in use, {AT_ONCE} in flight"
        spent, start = (values(costs, lambda cost: cost.service) for costs in (ends[held], starts[held]))
        lines += [
            Line(f"{what}: processor time (naive column: a start)", "ms", spent, start, 1.2),
            Line(f"{what}: storage calls", "", values(ends[held], lambda cost: cost.storage_calls), (), 0.1),
        ]
    many, few = COMPARED
    rates = {held: values(ends[held], lambda cost: cost.load.rate) for held in COMPARED}
    what = f"ends with {many:,} in use, {AT_ONCE} in flight (naive column: with {few})"
    return [*lines, Line(what, "/s", rates[many], rates[few], 0.8, at_least=True)]


async def evening(bench: Bench, processes: int, sessions: int, *, warm: bool) -> list[Line]:
    """All sessions of a license end."""
    file = factories.issue(bench.home, seats=sessions, **LONG)
    started = []
    async with calling(bench, processes) as programs:
        if warm:
            replies, cost = await programs.start_many(file, sessions, AT_ONCE)
            started = [cost.service]
        else:
            async with bench.tables() as tables:
                replies = [program.reply() for program in await fill(bench, tables, file, sessions)]
        ended = await programs.end_many(replies, AT_ONCE, MINUTE)
    of = f"{processes_of(processes)}, started {'there' if warm else 'elsewhere'}"
    what, naive = f"{sessions:,} programs end, {of}", " (naive column: its start)" if warm else ""
    calls_goal = 0.1 if warm and processes == 1 else None
    share = len(ended.load.waits) / sessions
    return [
        Line(f"{what}: share that has ended within a minute", "", [share], (), 1, at_least=True),
        Line(f"{what}: ends per second", "/s", [ended.load.rate]),
        Line(f"{what}: half of all ends are answered within", "ms", [ended.load.within(50)]),
        Line(f"{what}: 99 of 100 ends are answered within", "ms", [ended.load.within(99)]),
        Line(f"{what}: answers 503", "", [ended.unavailable], (), 0),
        Line(f"{what}: processor time of an end{naive}", "ms", [ended.service], started, 1.2 if warm else None),
        Line(f"{what}: storage calls of an end", "", [ended.storage_calls], (), calls_goal),
    ]
