"""What a start, a heartbeat and an end cost in the function app, from the worker's request to its reply.

Beside them are the same requests to another checkout that BENCH_BASE names, a folder with a `.venv` of its own. Both
run in processes of their own, in turn. Then the app runs as Azure runs it, under `azure-functions-runtime` on Python
3.13, beside a function that does nothing.
"""

import asyncio
import json
import os
import random
import sys
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.common import ROOT, Bench, Line
from tests import cloud, factories
from tests.api.client import azure_headers

IN_USE: Final = 1500
IN_FLIGHT: Final = 50
GOALS: Final = {"start": 0.7, "heartbeat": 0.6, "end": 0.15}
BARE: Final = """
import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)


@app.function_name("bare")
@app.route("bare", methods=["POST"])
async def bare(req: func.HttpRequest, context: func.Context) -> func.HttpResponse:
    return func.HttpResponse(b"{}", mimetype="application/json")
"""

Request = tuple[str, str, str, dict[str, str], str]
"""A function, and the request that it gets: method, URL, headers, body."""
Costs = defaultdict[str, list[float]]
"""Milliseconds of processor time per request, round by round."""


async def run(bench: Bench) -> list[Line]:
    """In process beside the other checkout, then as Azure runs it."""
    return [*await in_process(bench), *await as_azure_runs_it(bench)]


async def in_process(bench: Bench) -> list[Line]:
    """This checkout and the other, in turn."""
    own, base = Costs(list), Costs(list)
    async with AsyncExitStack() as stack:
        programs = [Programs(bench, await stack.enter_async_context(invoker(bench, ROOT, sys.executable)), own)]
        if folder := os.environ.get("BENCH_BASE"):
            python = Path(folder) / ".venv" / "bin" / "python"
            other = await stack.enter_async_context(invoker(bench, Path(folder), str(python)))
            programs.append(Programs(bench, other, base))
        await measure(bench, programs)
    beside = "(naive column: the checkout of BENCH_BASE)"
    lines = [
        Line(f"{what}, in process {beside if base else ''}".rstrip(), "ms", own[what], base[what], goal(what))
        for what in list(own)
    ]
    return lines if base else [*lines, Line("beside another checkout: NOT MEASURED, BENCH_BASE names none", "", ())]


async def as_azure_runs_it(bench: Bench) -> list[Line]:
    """This checkout under the platform's worker library."""
    python = cloud.python_of_the_cloud()
    if python is None:
        return [Line("under azure-functions-runtime: NOT MEASURED, there is no Python 3.13 here", "", ())]
    try:
        own = cloud.new_environment(python, bench.folder / "cloud", "requirements.txt", "requirements-worker.txt")
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return [Line("under azure-functions-runtime: NOT MEASURED, its packages cannot be installed here", "", ())]
    (bench.folder / "bare").mkdir()
    (bench.folder / "bare" / "function_app.py").write_text(BARE, encoding="utf-8")
    costs, bare = Costs(list), Costs(list)
    async with (
        invoker(bench, ROOT, str(own), "worker") as app,
        invoker(bench, bench.folder / "bare", str(own), "worker") as nothing,
    ):
        await measure(bench, [Programs(bench, app, costs), Nothing(nothing, bare)])
    beside = "under azure-functions-runtime (naive column: a function that does nothing)"
    return [Line(f"{what}, {beside}", "ms", costs[what], bare[what]) for what in list(costs)]


def goal(what: str) -> float | None:
    """The most that a cost may be of the other checkout's."""
    return GOALS.get(what.partition(",")[0]) if f"{IN_FLIGHT} in flight" in what else None


class Invoker:
    """A process that is `benchmarks/invoker.py`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        if process.stdin is None or process.stdout is None:
            raise TypeError("the process was started without pipes")
        self._input, self._output = process.stdin, process.stdout

    async def line(self) -> bytes:
        """The next line of its output."""
        line = await self._output.readline()
        if not line:
            raise RuntimeError("a process of the benchmark has failed; its messages are above")
        return line

    async def send(self, requests: Sequence[Request], at_once: int, status: int) -> tuple[float, list[str]]:
        """Have it serve requests, which must all get this status; milliseconds per request, and the bodies."""
        self._input.write(json.dumps({"at_once": at_once, "requests": requests}).encode() + b"\n")
        result = json.loads(await self.line())
        wrong = {found for found, _ in result["replies"]} - {status}
        if wrong:
            raise RuntimeError(f"{requests[0][0]} was answered with {wrong}")
        return result["seconds"] / len(requests) * 1000, [body for _, body in result["replies"]]


@asynccontextmanager
async def invoker(bench: Bench, folder: Path, python: str, *mode: str) -> AsyncIterator[Invoker]:
    """The function app of a folder in a process of its own, which must be ready."""
    pipe, script = asyncio.subprocess.PIPE, str(ROOT / "benchmarks" / "invoker.py")
    settings = factories.environment(bench.home, bench.storage, LICENSING_TRUSTED_HOPS="1")
    process = await asyncio.create_subprocess_exec(
        *(python, script, str(folder), *mode),
        stdin=pipe,
        stdout=pipe,
        cwd=folder,
        env={**cloud.bare(), **settings},
        limit=2**26,
    )
    try:
        own = Invoker(process)
        if await own.line() != b"ready\n":
            raise RuntimeError("the process did not start")
        yield own
    finally:
        process.kill()
        await process.wait()


class Programs:
    """Programs on a license of their own, and what their requests cost."""

    def __init__(self, bench: Bench, invoker: Invoker, costs: Costs) -> None:
        self._file = factories.issue(bench.home, seats=10 * IN_USE)
        self._invoker = invoker
        self._costs = costs
        self._leases: dict[str, str] = {}

    async def fill(self) -> None:
        """As many as are to run all the time."""
        await self.round(IN_USE, 0, 0, IN_FLIGHT, "")

    async def round(self, starts: int, heartbeats: int, ends: int, at_once: int, label: str) -> None:
        """Start some, let some send a heartbeat, end some."""
        bodies = [factories.start_body(self._file, user=f"user-{number}") for number in range(starts)]
        requests = [request("session_start", "POST", "sessions", body) for body in bodies]
        for reply in await self._measure(f"start, {label}", requests, at_once, 201):
            self._leases[reply["session"]] = reply["lease"]
        requests = [
            request("session_heartbeat", "PUT", f"sessions/{each}/heartbeat", {"nonce": factories.new_nonce()}, lease)
            for each, lease in random.sample(sorted(self._leases.items()), heartbeats)
        ]
        for reply in await self._measure(f"heartbeat, {label}", requests, at_once, 200):
            self._leases[reply["session"]] = reply["lease"]
        ending = random.sample(sorted(self._leases), ends)
        requests = [
            request("session_end", "DELETE", f"sessions/{each}", None, self._leases.pop(each)) for each in ending
        ]
        await self._measure(f"end, {label}", requests, at_once, 204)

    async def _measure(self, what: str, requests: Sequence[Request], at_once: int, status: int) -> list[dict[str, Any]]:
        if not requests:
            return []
        cost, replies = await self._invoker.send(requests, at_once, status)
        if not what.endswith(", "):
            self._costs[what].append(cost)
        return [json.loads(reply) for reply in replies if reply]


class Nothing:
    """In place of programs: as many calls of a function that does nothing."""

    def __init__(self, invoker: Invoker, costs: Costs) -> None:
        self._invoker = invoker
        self._costs = costs

    async def fill(self) -> None:
        """Nothing runs."""

    async def round(self, starts: int, heartbeats: int, ends: int, at_once: int, label: str) -> None:
        """Requests of the same size."""
        for what, count in (("start", starts), ("heartbeat", heartbeats), ("end", ends)):
            requests = [request("bare", "POST", "bare", {"nonce": factories.new_nonce()}) for _ in range(count)]
            cost, _ = await self._invoker.send(requests, at_once, 200)
            if label:
                self._costs[f"{what}, {label}"].append(cost)


async def measure(bench: Bench, sides: Sequence[Programs | Nothing]) -> None:
    """Round after round, each side in turn, in changing order."""
    for side in sides:
        await side.fill()
    count = bench.choose(400, 100)
    for number in range(-1, bench.choose(15, 3)):  # the first is for warming up
        for side in sides if number % 2 else sides[::-1]:
            for at_once, each in ((IN_FLIGHT, count), (1, count // 4)):
                what = f"{IN_USE:,} in use, {at_once} in flight"
                await side.round(each, 2 * each, each, at_once, what if number >= 0 else "")


def request(function: str, method: str, path: str, body: Any, lease: str = "") -> Request:
    """A request as it arrives in the worker."""
    text = "" if body is None else json.dumps(body, separators=(",", ":"))
    bearer = {"authorization": f"Bearer {lease}"} if lease else {}
    headers = {**azure_headers(text.encode()), **bearer}
    return function, method, f"https://licensing.azurewebsites.net/api/{path}", headers, text
