"""`function_app.py`: its triggers are the routes, and each works through the middleware as it will on Azure."""

import json
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import azure.functions as func
import pytest
from azure.functions import meta
from azure.functions.timer import TimerRequest
from fastapi.routing import APIRoute

from licensing.api import middleware
from licensing.api.app import api as app_of
from licensing.cli.home import Home
from licensing.services.service import utc_now
from licensing.storage import register as rows
from licensing.storage.tables import Tables, merge
from tests import factories
from tests.api.client import CALLER, CONTRACT, ROOT, Host, is_http, load, never_asked, triggers
from tests.stores import StorageCalls

Issue = Callable[..., str]
CATCH_ALL: Final = "zz_unknown"


@pytest.fixture
async def host(home: Home, azurite: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Host]:
    """A worker that has loaded the app with the settings that it would have on Azure."""
    changes = {"LICENSING_TRUSTED_HOPS": "1", "LICENSING_STATUS_CACHE_SECONDS": "0"}
    module = load(factories.environment(home, azurite, **changes), monkeypatch)
    yield Host(module)
    await module.service().close()


def said(reply: func.HttpResponse) -> Any:
    """The body of a reply."""
    return json.loads(reply.get_body())


def packed(body: object) -> bytes:
    """A body as it is sent."""
    return json.dumps(body).encode()


# The same set.


def test_triggers_and_routes_are_the_same_set_but_for_the_catch_all(monkeypatch: pytest.MonkeyPatch) -> None:
    module = load({}, monkeypatch)

    named = {
        (method, f"/api/{trigger.route}")
        for trigger in triggers(module)
        if trigger.name != CATCH_ALL
        for method in trigger.methods or ()
    }

    assert named == set(CONTRACT.operations())


def test_every_route_is_in_the_contract() -> None:
    routes = {
        (method, route.path)
        for route in app_of(never_asked).routes
        if isinstance(route, APIRoute)
        for method in route.methods or ()
    }
    assert routes <= set(CONTRACT.operations())


def test_the_catch_all_is_tried_last_and_takes_every_method(monkeypatch: pytest.MonkeyPatch) -> None:
    last = triggers(load({}, monkeypatch))[-1]

    assert (last.name, last.route, last.methods) == (CATCH_ALL, "{*path}", None)


def test_every_parameter_is_of_the_type_that_the_worker_demands(monkeypatch: pytest.MonkeyPatch) -> None:
    registry: Any = meta.get_binding_registry()  # type: ignore[no-untyped-call]
    for function in load({}, monkeypatch).app.get_functions():
        trigger, handler = function.get_trigger(), function.get_user_function()
        converter = registry.get(trigger.type)
        assert converter.check_input_type_annotation(handler.__annotations__[trigger.name]), handler.__name__
        rest = {name: kind for name, kind in handler.__annotations__.items() if name not in (trigger.name, "return")}
        assert rest == ({"context": func.Context} if is_http(function) else {})


def test_anybody_may_call_since_the_license_is_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in load({}, monkeypatch).app.get_functions():
        if is_http(function):
            assert function.get_trigger().auth_level is func.AuthLevel.ANONYMOUS


# Every trigger, invoked.


async def test_a_whole_session_through_every_trigger(host: Host, home: Home, issue: Issue) -> None:
    body = factories.start_body(issue(networks=[f"{CALLER}/32"]))
    session = body["session"]

    started = await host.send("POST", "/sessions", packed(body))
    assert (started.status_code, started.mimetype) == (201, "application/json")
    bearer = {"authorization": f"Bearer {said(started)['lease']}"}
    heartbeat = await host.send(
        "PUT", f"/sessions/{session}/heartbeat", packed({"nonce": factories.new_nonce()}), bearer
    )
    read = await host.send("GET", f"/sessions/{session}", headers=bearer)
    ended = await host.send("DELETE", f"/sessions/{session}", headers=bearer)
    late = await host.send("POST", f"/sessions/{session}/ended", packed({"ran_until": "2026-11-28T10:00:00Z"}), bearer)
    gone = await host.send("GET", f"/sessions/{session}", headers=bearer)
    token = factories.report_token(home, factories.new_id("org"))
    page = await host.send("GET", "/usage")
    usage = await host.send("GET", "/usage/data?format=csv", headers={"authorization": f"Bearer {token}"})
    bearer = {"authorization": f"Bearer {token}"}
    now = await host.send("GET", "/usage/now", headers=bearer)
    metrics = await host.send("GET", "/usage/metrics", headers=bearer)
    current = await host.send("POST", "/licenses/current", packed({"license": body["license"]}))
    health = await host.send("GET", "/health")
    contract = await host.send("GET", "/openapi.json")
    docs = await host.send("GET", "/docs")
    unknown = await host.send("GET", "/nothing/here")

    assert [reply.status_code for reply in (heartbeat, read, ended, late, gone)] == [200, 200, 204, 204, 410]
    assert {reply.status_code for reply in (page, usage, now, metrics, health, contract, docs)} == {200}
    assert [reply.status_code for reply in (current, unknown)] == [204, 404]
    peppers = host.module.service().settings.peppers
    assert said(read)["ip"] == peppers.pseudonym(peppers.current, "acme", "ip", CALLER)
    assert said(contract) == CONTRACT.document
    assert docs.headers["content-type"] == page.headers["content-type"] == "text/html; charset=utf-8"
    assert usage.headers["content-type"] == "text/csv; charset=utf-8"
    assert metrics.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert unknown.mimetype == "application/problem+json"
    assert host.invoked == {trigger.name for trigger in host.triggers}


async def test_of_all_operations_start_heartbeat_end_and_ended_alone_write(
    host: Host, home: Home, issue: Issue, storage_calls: StorageCalls, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrote = []

    async def ask(method: str, path: str, body: bytes = b"", bearer: str = "") -> func.HttpResponse:
        mark = await storage_calls.mark()
        reply = await host.send(method, path, body, {"authorization": f"Bearer {bearer}"} if bearer else {})
        assert reply.status_code < 300
        if [call for call in await storage_calls.since(mark) if not call.startswith("GET ")]:
            wrote.append((method, re.sub("/sessions/[^/]+", "/sessions/{session}", path)))
        return reply

    body = factories.start_body(issue())
    place = f"/sessions/{body['session']}"
    lease = said(await ask("POST", "/sessions", packed(body)))["lease"]
    await ask("GET", place, bearer=lease)
    await ask("PUT", f"{place}/heartbeat", packed({"nonce": factories.new_nonce()}), lease)
    for path in ("/usage/data", "/usage/now", "/usage/metrics"):
        await ask("GET", path, bearer=factories.report_token(home, "acme"))
    await ask("POST", "/licenses/current", packed({"license": body["license"]}))
    for path in ("/usage", "/health", "/openapi.json", "/docs"):
        await ask("GET", path)
    await ask("DELETE", place, bearer=lease)
    now = utc_now()
    monkeypatch.setattr(host.module.service().late_ends, "clock", lambda: now + timedelta(seconds=9))
    await ask(
        "POST", f"{place}/ended", packed({"ran_until": f"{now + timedelta(seconds=5):%Y-%m-%dT%H:%M:%SZ}"}), lease
    )

    assert host.invoked == {trigger.name for trigger in host.triggers} - {CATCH_ALL}
    assert wrote == [
        ("POST", "/sessions"),
        ("PUT", "/sessions/{session}/heartbeat"),
        ("DELETE", "/sessions/{session}"),
        ("POST", "/sessions/{session}/ended"),
    ]


async def test_a_refusal_keeps_its_headers(host: Host, issue: Issue) -> None:
    license = issue(seats=0)

    full = await host.send("POST", "/sessions", packed(factories.start_body(license)))

    assert (full.status_code, said(full)["code"]) == (409, "no-seat-available")
    assert 10 <= int(full.headers["retry-after"]) <= 60
    assert said(full)["policy"]["version"] == "local"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not-found"),
        ("GET", "/admin", 404, "not-found"),
        ("POST", "/sessions/", 404, "not-found"),
        ("GET", "/sessions", 405, "method-not-allowed"),
        ("PATCH", "/sessions", 405, "method-not-allowed"),
        ("POST", "/health", 405, "method-not-allowed"),
        ("OPTIONS", "/sessions", 405, "method-not-allowed"),
        ("TRACE", "/health", 405, "method-not-allowed"),
        ("POST", "/sessions/6f2b9c1e-0d54-4f0e-9a3e-2f8f1f0c7a11/heartbeat", 405, "method-not-allowed"),
    ],
)
async def test_unknown_paths_and_wrong_methods_get_a_problem_reply_through_the_catch_all(
    host: Host, method: str, path: str, status: int, code: str
) -> None:
    reply = await host.send(method, path)

    assert (reply.status_code, said(reply)["code"]) == (status, code)
    assert reply.mimetype == "application/problem+json"
    assert ("allow" in reply.headers) == (status == 405)
    assert host.invoked == {CATCH_ALL}


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/sessions/%ff%fe", {}),
        ("/health", {"x-forwarded-port": "1" * 5000}),
        ("/health", {"user-agent": "\ud800"}),
    ],
    ids=["a path that is not UTF-8", "a port of 5000 digits", "a lone surrogate"],
)
async def test_what_the_middleware_itself_cannot_read_is_malformed(
    host: Host, path: str, headers: dict[str, str]
) -> None:
    reply = await host.send("GET", path, headers=headers)

    assert (reply.status_code, said(reply)["code"]) == (400, "malformed-request")
    assert reply.mimetype == "application/problem+json"


async def test_a_request_of_more_than_16_kib_is_refused(host: Host) -> None:
    reply = await host.send("POST", "/sessions", b" " * 16_385)

    assert (reply.status_code, said(reply)["code"]) == (413, "request-too-large")


async def test_an_unforeseen_exception_does_not_leave_the_function(
    host: Host, issue: Issue, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(*_: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(host.module.service().sessions, "start", fail)

    reply = await host.send("POST", "/sessions", packed(factories.start_body(issue())))

    assert (reply.status_code, said(reply)["code"]) == (503, "service-unavailable")


# The timer and the warm-up.


async def test_the_timer_ends_what_has_lapsed(host: Host, tables: Tables, issue: Issue) -> None:
    id, service = factories.new_license_id(), host.module.service()
    body = factories.start_body(issue(sub=id))
    await host.send("POST", "/sessions", packed(body))
    ended_at = utc_now() - timedelta(minutes=1)
    silent = {"heartbeat_at": ended_at - timedelta(hours=1), "expires_at": ended_at, "lapses_at": ended_at}
    await tables.commit("register", id, [merge(rows.ACTIVE + body["session"], silent)])

    await host.module.sweep.build().get_user_function()(TimerRequest(past_due=True))

    assert await tables.get("register", id, rows.ACTIVE + body["session"]) is None
    state = await service.ledger.state(id)
    assert state.in_use == 0


async def test_the_warm_up_connects_to_the_store(host: Host, storage_calls: StorageCalls) -> None:
    mark = await storage_calls.mark()

    await host.module.warmup.build().get_user_function()(None)

    assert len(await storage_calls.since(mark)) == 1


# Loading.


def loaded(**environment: str) -> subprocess.CompletedProcess[str]:
    """The outcome of a process that loads the app and prints the names of its functions and packages."""
    code = (
        "import json, sys, function_app\n"
        "functions = [function.get_function_name() for function in function_app.app.get_functions()]\n"
        "packages = sorted({name.partition('.')[0] for name in sys.modules})\n"
        "print(json.dumps({'functions': functions, 'packages': packages, 'modules': sorted(sys.modules)}))"
    )
    command = [sys.executable, "-c", code]
    return subprocess.run(
        command, cwd=ROOT, env={"PYTHONPATH": str(ROOT), **environment}, capture_output=True, text=True, check=False
    )


def test_a_tool_can_list_the_functions_without_any_setting() -> None:
    process = loaded()

    assert process.returncode == 0, process.stderr
    assert set(json.loads(process.stdout)["functions"]) == {
        *("session_start", "session_heartbeat", "session_end", "session_ended", "session_read", "license_current"),
        *("health", "openapi", "docs", CATCH_ALL, "sweep", "retention", "warmup"),
        *("usage_page", "usage_data", "usage_now", "usage_metrics"),
    }


def test_a_weak_pepper_keeps_the_app_from_loading_and_is_not_shown(home: Home) -> None:
    weak = "c2VjcmV0LXBlcHBlcg=="

    process = loaded(
        **factories.environment(home, "UseDevelopmentStorage=true", LICENSING_PEPPERS=f'{{"1": "{weak}"}}')
    )

    assert process.returncode != 0
    assert "LICENSING_PEPPERS" in process.stderr.splitlines()[-1]
    assert weak not in process.stderr


def test_a_missing_setting_keeps_the_app_from_loading() -> None:
    process = loaded(LICENSING_STORAGE="UseDevelopmentStorage=true")

    assert process.returncode != 0
    assert process.stderr.splitlines()[-1].endswith("LICENSING_ISSUER_KEYS is not set")


def test_a_region_outside_the_eu_keeps_the_app_from_loading(home: Home) -> None:
    values = json.loads((home.folder / "local.settings.json").read_text())["Values"]

    process = loaded(**values, REGION_NAME="East US")

    assert process.returncode != 0
    assert "REGION_NAME" in process.stderr.splitlines()[-1]
    assert "East US" not in process.stderr


def test_the_example_of_local_settings_is_enough_after_licensing_init(home: Home, tmp_path: Path) -> None:
    """What `func start` does: the copied file's Values become the environment, in the checkout's folder."""
    values = json.loads((ROOT / "local.settings.example.json").read_text(encoding="utf-8"))["Values"]
    assert values["LICENSING_HOME"] == ".local"
    shutil.copytree(home.folder, tmp_path / ".local")
    command = [sys.executable, "-c", "import function_app"]
    environment = {**values, "PYTHONPATH": str(ROOT)}
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    shutil.rmtree(tmp_path / ".local")
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert process.returncode != 0
    assert "licensing init" in process.stderr


# What is logged.


class Everything(logging.Handler):
    """Keeps every line that anybody logs, as it would be written."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.lines: list[str] = []
        self.setFormatter(logging.Formatter("%(name)s %(levelname)s %(pathname)s %(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))


@pytest.fixture
def everything() -> Iterator[Everything]:
    """All that is logged while the level is DEBUG at the root."""
    handler, root = Everything(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.setLevel(level)
    root.removeHandler(handler)


ADDRESS: Final = "198.51.100.214"


async def life(host: Host, issue: Issue) -> set[str]:
    """A session from start to end with some refusals on the way; everything in it that must stay private."""
    license = issue(seats=1, sharing="user-host")  # whose seats bear pseudonyms in their keys
    mine, others = (
        factories.start_body(license, "augusta.king"),
        factories.start_body(license, "charles.babbage", "pc-2.acme.example"),
    )
    caller = {"x-forwarded-for": f"{ADDRESS}:50123", "client-ip": f"{ADDRESS}:50123"}
    started = await host.send("POST", "/sessions", packed(mine), caller)
    lease = said(started)["lease"]
    bearer = {"authorization": f"Bearer {lease}"}
    path = f"/sessions/{mine['session']}"
    heartbeat = await host.send(
        "PUT", f"{path}/heartbeat", packed({"nonce": factories.new_nonce()}), {**bearer, **caller}
    )
    second = await host.send("POST", "/sessions", packed({**mine, "session": factories.new_session_id()}), caller)
    assert second.status_code == 201
    replies = [
        await host.send("POST", "/sessions", packed(others), caller),
        await host.send("POST", "/sessions", packed({**others, "license": license[:-4]}), caller),
        await host.send("POST", "/sessions", packed({**others, "username": "augusta.king"}), caller),
        await host.send("GET", path, headers={**bearer, **caller}),
        await host.send("GET", f"/{mine['user']}", headers=caller),
        await host.send("GET", path, headers={**caller, "authorization": f"Bearer {lease[:-4]}"}),
        await host.send("GET", "/health", headers={**caller, "x-forwarded-port": "augusta.king"}),
        await host.send("GET", f"{path}%ff", headers={**bearer, **caller}),
        await host.send("DELETE", path, headers={**bearer, **caller}),
    ]
    assert [reply.status_code for reply in replies] == [409, 401, 400, 200, 404, 401, 200, 400, 204]
    held = said(replies[3])
    return {
        *(ADDRESS, "augusta.king", "charles.babbage", "pc-2.acme.example"),
        *(mine["user"], mine["host"], mine["nonce"], others["user"], others["host"]),
        *(held["user"], held["host"], held["ip"]),
        *license.split("."),
        *lease.split("."),
        said(heartbeat)["lease"].rpartition(".")[2],
    }


async def test_with_debug_logs_at_every_layer_nothing_personal_is_logged(
    host: Host, issue: Issue, everything: Everything
) -> None:
    private = await life(host, issue)

    log = "\n".join(everything.lines)
    assert "Received <http.response.body> from ASGI worker." in log  # so that the layer in question was listening
    assert [value for value in private if value in log] == []


async def test_without_the_guards_messages_the_middleware_would_log_leases(
    host: Host, issue: Issue, everything: Everything, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "_Message", dict)

    private = await life(host, issue)

    assert [value for value in private if value in "\n".join(everything.lines)]


# A cold start.


def test_a_cold_start_imports_what_it_needs_and_nothing_more() -> None:
    process = loaded()
    modules = json.loads(process.stdout)
    brought = {name for name in modules["packages"] if name not in sys.stdlib_module_names}

    needed = {
        *("function_app", "licensing"),
        # HTTP: validation and the contract
        *("fastapi", "starlette", "anyio", "pydantic", "pydantic_core", "annotated_types", "annotated_doc"),
        *("typing_extensions", "typing_inspection"),
        "opentelemetry",  # which FastAPI imports whether it is used or not
        # Azure: triggers (azure-functions brings werkzeug) and tables
        *("azure", "werkzeug", "markupsafe", "isodate"),
        # the client of the tables
        *("aiohttp", "aiohappyeyeballs", "aiosignal", "attr", "frozenlist", "idna", "multidict", "propcache", "yarl"),
        # signatures
        *("cryptography", "_cffi_backend"),
    }
    of_python_itself = {"__main__", "cython_runtime", "_openssl", "_distutils_hack", "sitecustomize"}
    made_on_the_fly = {name for name in brought if name.startswith(("_cython_", "_sysconfigdata_"))}
    assert brought - of_python_itself - made_on_the_fly - needed == set()
    avoidable = ("azure.identity", "aiohttp.web", "aiohttp.pytest_plugin", "fastapi.testclient", "licensing.cli")
    assert [name for name in avoidable if name in modules["modules"]] == []
