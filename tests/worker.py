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


async def main(package: str) -> dict[str, Any]:
    """Index and invoke."""
    from azure_functions_runtime import functions_metadata_request, worker_init_request
    from azure_functions_runtime.bindings.datumdef import Datum
    from azure_functions_runtime.native_invocation import invocation_request_native

    start = SimpleNamespace(capabilities={}, function_app_directory=package)
    request = SimpleNamespace(
        request=SimpleNamespace(worker_init_request=start), properties={"host": "127.0.0.1", "protos": Protos()}
    )
    begun = await worker_init_request(request)
    if begun.result.status != Message.Success:
        raise SystemExit(f"the worker did not start: {vars(begun.result.exception)}")
    found = {each.name: each for each in (await functions_metadata_request(request)).function_metadata_results}

    async def invoke(name: str, **inputs: Any) -> Any:
        ok, result, _, text, trace = await invocation_request_native(
            str(uuid.uuid4()), found[name].function_id, list(inputs.items()), {}
        )
        if not ok:
            raise SystemExit(f"{name}: {text}\n{trace}")
        return result

    async def http(
        name: str, method: str, path: str, body: str = "", lease: str = "", params: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        text = {"type": "string"}
        bearer = {"authorization": Datum(f"Bearer {lease}", **text)} if lease else {}
        fields = {
            "method": Datum(method, **text),
            "url": Datum(f"https://licensing.example/api/{path}", **text),
            "headers": {
                "x-forwarded-for": Datum("198.51.100.7:50123", **text),
                "content-type": Datum("application/json", **text),
                "content-length": Datum(str(len(body)), **text),
                **bearer,
            },
            "query": {},
            "params": {name: Datum(value, **text) for name, value in (params or {}).items()},
            "body": Datum(body.encode(), type="bytes"),
        }
        reply = (await invoke(name, req=Datum(fields, type="http"))).value
        return {"status": int(reply["status_code"].value), "body": bytes(reply["body"].value).decode()}

    timer = Datum(json.dumps({"Schedule": {}, "ScheduleStatus": None, "IsPastDue": False}), type="json")
    for name in ("sweep", "retention"):
        await invoke(name, timer=timer)
    await invoke("warmup", instance=Datum("", type="string"))
    answers = {name: await http(name, "GET", path) for name, path in GETS.items()}
    begin = sys.stdin.read()
    answers["session_start"] = started = await http("session_start", "POST", "sessions", begin)
    if started["status"] == 201:
        session, lease = (json.loads(started["body"])[name] for name in ("session", "lease"))
        nonce = json.dumps({"nonce": json.loads(begin)["nonce"]})
        for name, method, path, body in (
            ("session_heartbeat", "PUT", f"sessions/{session}/heartbeat", nonce),
            ("session_read", "GET", f"sessions/{session}", ""),
            ("session_end", "DELETE", f"sessions/{session}", ""),
        ):
            answers[name] = await http(name, method, path, body, lease, {"session": session})
    return {
        "functions": {name: json.loads(each.raw_bindings[0]) for name, each in found.items()},
        "answers": answers,
    }


if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
