"""The platform's own worker library on a package: index it, and invoke its functions. Run by tests/test_package.py.

On Python 3.13 and later Azure runs an app with `azure-functions-runtime`. Its entries are not documented, so that
requirements-worker.txt pins the version. In place of the protocol's messages it is given plain classes.

    worker.py PACKAGE    prints a JSON object: the functions by name with their routes, and what invoking them gave
"""

import asyncio
import json
import sys
import uuid
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

GETS = {
    "health": "health",
    "usage_page": "usage",
    "usage_data": "usage/data",
    "usage_now": "usage/now",
    "usage_metrics": "usage/metrics",
    "openapi": "openapi.json",
    "docs": "docs",
    "zz_unknown": "nowhere",
}
"""What anybody may ask for, by function."""


class Message:
    """Any message of the protocol: what it is made with becomes its attributes. The constants are the protocol's."""

    Failure, Success = 0, 1
    out, inout, undefined = 1, 2, -1

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class Protos:
    """The message types, by whatever name the library asks for."""

    def __getattr__(self, _: str) -> type[Message]:
        return Message


async def indexed(package: str) -> dict[str, Any]:
    """What the library finds in a package that can be imported: its functions by name."""
    from azure_functions_runtime import functions_metadata_request, worker_init_request

    start = SimpleNamespace(capabilities={}, function_app_directory=package)
    request = SimpleNamespace(
        request=SimpleNamespace(worker_init_request=start), properties={"host": "127.0.0.1", "protos": Protos()}
    )
    begun = await worker_init_request(request)
    if begun.result.status != Message.Success:
        raise SystemExit(f"the worker did not start: {vars(begun.result.exception)}")
    return {each.name: each for each in (await functions_metadata_request(request)).function_metadata_results}


def http_request(
    method: str, url: str, headers: Mapping[str, str], body: bytes, params: Mapping[str, str] | None = None
) -> Any:
    """A request as the library gets it."""
    from azure_functions_runtime.bindings.datumdef import Datum

    fields = {
        "method": Datum(method, "string"),
        "url": Datum(url, "string"),
        "headers": {name: Datum(value, "string") for name, value in headers.items()},
        "query": {},
        "params": {name: Datum(value, "string") for name, value in (params or {}).items()},
        "body": Datum(body, "bytes"),
    }
    return Datum(fields, "http")


def http_reply(value: Any) -> tuple[int, str]:
    """The status and the body of what the library gives for a reply."""
    return int(value.value["status_code"].value), bytes(value.value["body"].value).decode()


async def invoke(function_id: str, **inputs: Any) -> Any:
    """Invoke a function; what it gave. A failure ends the process."""
    from azure_functions_runtime.native_invocation import invocation_request_native

    ok, result, _, text, trace = await invocation_request_native(
        str(uuid.uuid4()), function_id, list(inputs.items()), {}
    )
    if not ok:
        raise SystemExit(f"{text}\n{trace}")
    return result


async def main(package: str) -> dict[str, Any]:
    """Index and invoke."""
    from azure_functions_runtime.bindings.datumdef import Datum

    found = await indexed(package)

    async def http(
        name: str, method: str, path: str, body: str = "", lease: str = "", params: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        headers = {
            "x-forwarded-for": "198.51.100.7:50123",
            "content-type": "application/json",
            "content-length": str(len(body)),
            **({"authorization": f"Bearer {lease}"} if lease else {}),
        }
        request = http_request(method, f"https://licensing.example/api/{path}", headers, body.encode(), params)
        status, said = http_reply(await invoke(found[name].function_id, req=request))
        return {"status": status, "body": said}

    timer = Datum(json.dumps({"Schedule": {}, "ScheduleStatus": None, "IsPastDue": False}), type="json")
    for name in ("sweep", "retention"):
        await invoke(found[name].function_id, timer=timer)
    await invoke(found["warmup"].function_id, instance=Datum("", type="string"))
    answers = {name: await http(name, "GET", path) for name, path in GETS.items()}
    begin = sys.stdin.read()
    answers["session_start"] = started = await http("session_start", "POST", "sessions", begin)
    file = json.dumps({"license": json.loads(begin)["license"]})
    answers["license_current"] = await http("license_current", "POST", "licenses/current", file)
    if started["status"] == 201:
        session, lease = (json.loads(started["body"])[name] for name in ("session", "lease"))
        nonce = json.dumps({"nonce": json.loads(begin)["nonce"]})
        for name, method, path, body in (
            ("session_heartbeat", "PUT", f"sessions/{session}/heartbeat", nonce),
            ("session_read", "GET", f"sessions/{session}", ""),
            ("session_end", "DELETE", f"sessions/{session}", ""),
            ("session_ended", "POST", f"sessions/{session}/ended", json.dumps({"ran_until": "2026-11-28T10:00:00Z"})),
        ):
            answers[name] = await http(name, method, path, body, lease, {"session": session})
    return {
        "functions": {name: json.loads(each.raw_bindings[0]) for name, each in found.items()},
        "answers": answers,
    }


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
