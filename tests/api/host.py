"""The Functions host as far as it matters: which function a request goes to, and what it passes on.

It tries the HTTP functions in the alphabetical order of their names; the first whose template and methods fit takes
the request. Headers come in lower case, with those that Azure's front end adds.
"""

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import azure.functions as func
import pytest

from tests.api.client import CONTRACT

ROOT: Final = Path(__file__).parents[2]
CALLER: Final = "198.51.100.23"
NONE: Final[Mapping[str, str]] = {}


def load(environment: Mapping[str, str], patch: pytest.MonkeyPatch) -> ModuleType:
    """`function_app` as a worker loads it, anew, with these settings."""
    for name, value in environment.items():
        patch.setenv(name, value)
    spec = importlib.util.spec_from_file_location("function_app_under_test", ROOT / "function_app.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Context(func.Context):
    """What the worker tells a function about its invocation."""

    def __init__(self, name: str) -> None:
        self._name = name

    invocation_id = "8f5f2b5e-6d9b-4e0e-bb8c-0d2a1e3b1c11"
    function_directory = str(ROOT)
    trace_context: Any = None
    retry_context: Any = None
    thread_local_storage: Any = None

    @property
    def function_name(self) -> str:
        return self._name


class Trigger:
    """A function with an HTTP trigger."""

    def __init__(self, function: Any) -> None:
        trigger = function.get_trigger()
        self.name: str = function.get_function_name()
        self.route: str = trigger.route
        self.methods = None if trigger.methods is None else {method.value for method in trigger.methods}
        self.handler = function.get_user_function()

    def takes(self, method: str, path: str) -> bool:
        """Whether a request fits."""
        fits = re.sub(r"\\\{\\\*\w+\\\}", ".*", re.escape(self.route))
        fits = re.sub(r"\\\{\w+\\\}", "[^/]+", fits)
        return (self.methods is None or method in self.methods) and bool(re.fullmatch(fits, path))


def triggers(module: ModuleType) -> list[Trigger]:
    """The HTTP functions in the order in which the host tries them."""
    found = [Trigger(function) for function in module.app.get_functions() if is_http(function)]
    return sorted(found, key=lambda trigger: trigger.name.lower())


def is_http(function: Any) -> bool:
    """Whether a function has an HTTP trigger."""
    return bool(function.get_trigger().type == "httpTrigger")


class Host:
    """Calls a loaded app."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.triggers = triggers(module)
        self.invoked: set[str] = set()

    async def send(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] = NONE
    ) -> func.HttpResponse:
        """Send a request to a path below /api; the reply has been held against the contract."""
        place = path.partition("?")[0]
        trigger = next(trigger for trigger in self.triggers if trigger.takes(method, place.removeprefix("/")))
        self.invoked.add(trigger.name)
        request = func.HttpRequest(
            method=method,
            url=f"https://licensing.azurewebsites.net/api{path}",
            headers={**azure_headers(body), **headers},
            body=body,
        )
        reply: func.HttpResponse = await trigger.handler(request, Context(trigger.name))
        CONTRACT.check(method, f"/api{place}", reply.status_code, reply.headers, reply.get_body())
        return reply


def azure_headers(body: bytes) -> dict[str, str]:
    """The headers with which a request arrives in the worker."""
    return {
        "accept": "*/*",
        "host": "licensing.azurewebsites.net",
        "user-agent": "fluidit-water/5.1",
        "max-forwards": "9",
        "x-arr-log-id": "0c0f3c0e-0a0e-4f5e-8a71-2f6cf8ab8b7d",
        "client-ip": f"{CALLER}:50123",
        "disguised-host": "licensing.azurewebsites.net",
        "x-site-deployment-id": "licensing",
        "was-default-hostname": "licensing.azurewebsites.net",
        "x-forwarded-proto": "https",
        "x-appservice-proto": "https",
        "x-arr-ssl": "2048|256|CN=Microsoft Azure RSA TLS Issuing CA 03|CN=*.azurewebsites.net",
        "x-forwarded-tlsversion": "1.3",
        "x-forwarded-for": f"{CALLER}:50123",
        "x-original-url": "/api",
        "x-waws-unencoded-url": "/api",
        **({"content-length": str(len(body)), "content-type": "application/json"} if body else {}),
    }
