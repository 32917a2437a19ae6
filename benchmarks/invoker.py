"""A process that invokes the HTTP functions of the `function_app` in a folder, and says what that cost.

    invoker.py FOLDER            as the SDK's own types: func.HttpRequest in, func.HttpResponse out
    invoker.py FOLDER worker     through `azure-functions-runtime`, the library with which Azure runs Python apps

It prints `ready`. Then each line of input is a round: {"at_once": 50, "requests": [[function, method, url, headers,
body], …]}. Each line of output is the result of one: {"seconds": of processor time, "replies": [[status, body], …]}.

In process it imports nothing of this tree, so that it measures any checkout. What an invocation gets is made
before, and not measured; what it answers is read after.
"""

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

Invocation = Callable[[], Awaitable[Any]]
Prepare = Callable[[str, str, str, dict[str, str], str], Invocation]
"""Makes an invocation of a function: its name; the request's method, URL, headers and body."""
Read = Callable[[Any], tuple[int, str]]
"""The status and the body of what an invocation gave."""

ROOT = str(Path(__file__).parents[1])
INVOCATION = "8f5f2b5e-6d9b-4e0e-bb8c-0d2a1e3b1c11"


def by_the_sdk() -> tuple[Prepare, Read]:
    """Call the functions themselves."""
    import azure.functions as func

    import function_app

    handlers = {each.get_function_name(): each.get_user_function() for each in function_app.app.get_functions()}

    def prepare(name: str, method: str, url: str, headers: dict[str, str], body: str) -> Invocation:
        request = func.HttpRequest(method, url, headers=headers, body=body.encode())
        context = SimpleNamespace(
            function_name=name,
            function_directory=sys.path[0],
            invocation_id=INVOCATION,
            thread_local_storage=None,
            trace_context=None,
            retry_context=None,
        )
        return lambda: handlers[name](request, context)

    return prepare, lambda reply: (reply.status_code, reply.get_body().decode())


async def by_the_worker() -> tuple[Prepare, Read]:
    """Have the platform's library index the app and call the functions."""
    sys.path.insert(0, ROOT)
    from tests import worker

    sys.path.pop(0)
    found = await worker.indexed(sys.path[0])

    def prepare(name: str, method: str, url: str, headers: dict[str, str], body: str) -> Invocation:
        request = worker.http_request(method, url, headers, body.encode())
        return lambda: worker.invoke(found[name].function_id, req=request)

    return prepare, worker.http_reply


async def invoke(invocations: list[Invocation], at_once: int) -> list[Any]:
    """Make all invocations, so many at a time; what they gave."""
    results: list[Any] = [None] * len(invocations)
    waiting = iter(enumerate(invocations))

    async def caller() -> None:
        for place, invocation in waiting:
            results[place] = await invocation()

    await asyncio.gather(*(caller() for _ in range(at_once)))
    return results


async def main(worker: bool) -> None:
    """Invoke round after round, on one event loop."""
    prepare, read = await by_the_worker() if worker else by_the_sdk()
    print("ready", flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):  # connections to the store live on meanwhile
        order = json.loads(line)
        invocations = [prepare(*request) for request in order["requests"]]
        began = time.process_time()
        results = await invoke(invocations, order["at_once"])
        seconds = time.process_time() - began
        print(json.dumps({"seconds": seconds, "replies": [read(result) for result in results]}), flush=True)


if __name__ == "__main__":
    sys.path[0] = sys.argv[1]
    asyncio.run(main(sys.argv[2:] == ["worker"]))
