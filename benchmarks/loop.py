"""How long the service holds its event loop: in storms, a full house, evenings, and under heartbeats.

    python -m benchmarks.loop serve …

is `licensing serve` with a watch inside, and prints on SIGUSR1 the longest holds since the last time, as JSON.

Times are processor time of the loop's thread, since on a busy machine the clock also counts what others run. A
callback is one step of a task, or one event of a connection: until it returns, nobody else is served. That is the
hold that has a goal. Within one, Python may collect garbage: the longest collection is given, too. A round of the loop
runs all callbacks that are ready. It grows with the programs that call at once: with 300 it lasts for 300 steps.
"""

import asyncio
import gc
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from benchmarks import full
from benchmarks.common import Bench, Line
from benchmarks.programs import IN_FLIGHT, LONG, Programs, calling, fill
from licensing.cli import main
from tests import factories

STARTS, SEATS = 300, 225
AT_ONCE = 50
GOAL_MILLISECONDS = 20

Holds = dict[str, float]


async def run(bench: Bench) -> list[Line]:
    """Everything on a license of its own size, and all again on one with 20,000 sessions."""
    few, many, heartbeats = bench.choose(5000, 200), bench.choose(20_000, 1000), bench.choose(3000, 200)
    ends = bench.choose(1000, 100)
    own = factories.issue(bench.home, seats=few, **LONG)
    large = factories.issue(bench.home, seats=many + SEATS, **LONG)
    async with bench.tables() as tables:
        held = [program.reply() for program in await fill(bench, tables, large, many)]
    found: dict[str, Holds] = {}
    async with calling(bench, program=("-m", "benchmarks.loop")) as programs:
        holds(programs)  # what came before the first call is not measured

        for _ in range(bench.choose(3, 1)):
            await programs.start_many(factories.issue(bench.home, seats=SEATS), STARTS, STARTS)
        found[f"storm of {STARTS} starts on {SEATS} seats"] = holds(programs)
        replies, _ = await programs.start_many(own, few, AT_ONCE)
        found[f"{few:,} starts, {AT_ONCE} in flight"] = holds(programs)
        await programs.heartbeat_many(replies[:heartbeats], IN_FLIGHT)
        found[f"{heartbeats:,} heartbeats on {few:,} sessions, {IN_FLIGHT} in flight"] = holds(programs)
        await programs.end_many(replies, AT_ONCE)
        found[f"{few:,} programs end, {AT_ONCE} in flight"] = holds(programs)

        beside = f"{many:,} sessions"
        await programs.heartbeat_many(held[:heartbeats], IN_FLIGHT)
        found[f"{beside}: {heartbeats:,} heartbeats, {IN_FLIGHT} in flight"] = holds(programs)
        await programs.start_many(large, STARTS, STARTS)
        found[f"{beside}: storm of {STARTS} starts on the last {SEATS} seats"] = holds(programs)
        waiting = full.waiting(large)
        for _ in range(2):
            await full.refused(programs, waiting, full.WAITING)
        found[f"{beside}: full, {full.WAITING} ask at once, twice"] = holds(programs)
        await programs.end_many(held[:ends], AT_ONCE)
        found[f"{beside}: {ends:,} of them end, {AT_ONCE} in flight"] = holds(programs)
    named = {"callback": GOAL_MILLISECONDS, "collection": None, "round": None}
    return [
        Line(f"longest {name}: {what}", "ms", [longest[name]], (), goal)
        for name, goal in named.items()
        for what, longest in found.items()
    ]


def holds(programs: Programs) -> Holds:
    """The longest holds since the last time, in milliseconds."""
    process = programs.served.process
    assert process.stdout is not None
    os.kill(process.pid, signal.SIGUSR1)
    longest: Holds = json.loads(process.stdout.readline())
    return longest


def watch() -> None:
    """Time callbacks, rounds of the event loop and garbage collections of this process; print the longest on SIGUSR1.

    Both methods are asyncio's own. Its public way, the debug mode, goes by the clock, and makes all slower.
    """
    longest = {"callback": 0.0, "collection": 0.0, "round": 0.0}
    collecting = 0.0

    def note(name: str, began: float) -> None:
        longest[name] = max(longest[name], (time.thread_time() - began) * 1000)

    def collected(phase: str, _: object) -> None:
        nonlocal collecting
        if phase == "start":
            collecting = time.thread_time()
        else:
            note("collection", collecting)

    def timed(name: str, method: Callable[[Any], None]) -> Callable[[Any], None]:
        def run(this: Any) -> None:
            began = time.thread_time()
            method(this)
            note(name, began)

        return run

    def report(*_: object) -> None:
        sys.stdout.write(f"{json.dumps(longest)}\n")
        sys.stdout.flush()
        longest.update(dict.fromkeys(longest, 0.0))

    gc.callbacks.append(collected)
    handle: Any = asyncio.Handle
    loop: Any = asyncio.BaseEventLoop
    handle._run, loop._run_once = timed("callback", handle._run), timed("round", loop._run_once)
    signal.signal(signal.SIGUSR1, report)


if __name__ == "__main__":
    watch()
    main()
