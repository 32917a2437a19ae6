"""The command line as a user runs it, in a folder and with a home of its own, and a key vault in this process."""

import asyncio
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
import requests
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import RequestsTransport
from azure.keyvault.secrets import SecretClient
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

from licensing.cli import main, secret_store
from licensing.storage.tables import Tables

# There is no emulator of Key Vault. The real `SecretClient` and its transport talk to `Vault` in place of the network.
# What Azure itself checks (roles, networks) is answered as its documentation says.

CHALLENGE = 'Bearer authorization="https://login.microsoftonline.com/tenant", resource="https://vault.azure.net"'


class Anybody:
    """A signed-in operator."""

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        """A token for what the client asks for."""
        assert scopes == ("https://vault.azure.net/.default",)
        return AccessToken("token", 2**40)


class Vault(HTTPAdapter):
    """A vault: all versions of each secret, the newest last. `refuses` is a status that it answers everything with."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        self.secrets: dict[str, list[str]] = {}
        self.refuses: int | None = None

    def client(self) -> SecretClient:
        """The SDK's client, on this vault; it tries once, so that no test waits."""
        session = requests.Session()
        session.mount("https://", self)
        transport = RequestsTransport(session=session, session_owner=False)
        return SecretClient(f"https://{self.name}.vault.azure.net", Anybody(), transport=transport, retry_total=0)

    def send(self, request: requests.PreparedRequest, *_: Any, **_options: Any) -> requests.Response:
        """Answer one request."""
        status, body = self._answer(request)
        headers = {"Content-Type": "application/json", **({"WWW-Authenticate": CHALLENGE} if status == 401 else {})}
        content = io.BytesIO(json.dumps(body).encode())
        return self.build_response(
            request, HTTPResponse(content, headers=headers, status=status, preload_content=False)
        )

    def _answer(self, request: requests.PreparedRequest) -> tuple[int, Any]:
        place = rf"https://{self.name}\.vault\.azure\.net/secrets/([a-z-]+)/?\?api-version=[\d.a-z-]+"
        match = re.fullmatch(place, request.url or "")
        assert match, request.url
        name, versions = match[1], self.secrets.get(match[1], [])
        if self.refuses or "Authorization" not in request.headers:
            return self.refuses or 401, {"error": {"code": "Refused", "message": "Refused"}}
        if request.method == "PUT":
            versions = self.secrets[name] = [*versions, json.loads(str(request.body))["value"]]
        elif not versions:
            return 404, {"error": {"code": "SecretNotFound", "message": "SecretNotFound"}}
        id = f"https://{self.name}.vault.azure.net/secrets/{name}/{len(versions):032x}"
        return 200, {"value": versions[-1], "id": id, "attributes": {"enabled": True}}


@dataclass(frozen=True)
class Said:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


Licensing = Callable[..., Said]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to be in, without any settings."""
    for name in [name for name in os.environ if name.startswith("LICENSING_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LICENSING_HOME", "")  # so that what --home sets is taken back afterwards
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def licensing(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Licensing:
    """Run `licensing` with arguments, and with LICENSING_HOME in the environment where a test gives it."""

    def run(*arguments: str, variable: str = "") -> Said:
        monkeypatch.setenv("LICENSING_HOME", variable)
        monkeypatch.setattr(sys, "argv", ["licensing", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return Said(int(caught.value.code or 0), out, err)

    return run


@pytest.fixture
def made(licensing: Licensing) -> Path:
    """A home that `licensing init` has made in the default place."""
    assert licensing("init").code == 0
    return Path(".local")


Result = TypeVar("Result")
Do = Callable[[Callable[[Tables], Awaitable[Result]]], Result]


@pytest.fixture
def do(made: Path, azurite: str, monkeypatch: pytest.MonkeyPatch) -> Do[Any]:
    """Do something with the tables that the command line will use."""
    monkeypatch.setenv("LICENSING_STORAGE", azurite)

    async def work(what: Callable[[Tables], Awaitable[Any]]) -> Any:
        tables = Tables.from_connection_string(azurite)
        try:
            return await what(tables)
        finally:
            await tables.close()

    return lambda what: asyncio.run(work(what))


@pytest.fixture
def vault(monkeypatch: pytest.MonkeyPatch) -> Vault:
    """An empty vault, to which every client goes."""
    made = Vault("kv-test")
    monkeypatch.setattr(secret_store, "vault_client", lambda name: made.client())
    return made


def in_a_process(*words: str, settings: Mapping[str, str], watched: bool) -> tuple[int, bytes, bytes]:
    """Run `licensing` in a process whose messages go to a terminal or into a pipe: its code, results and messages."""
    read, write = os.openpty() if watched else os.pipe()
    with subprocess.Popen(
        [sys.executable, "-m", "licensing", *words],
        env={**os.environ, "TERM": "xterm-256color", **settings},
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        stderr=write,
    ) as process:
        os.close(write)
        messages = b""
        with os.fdopen(read, "rb", buffering=0) as terminal, suppress(OSError):  # which is how a terminal ends
            while part := terminal.read(4096):
                messages += part
        out, _ = process.communicate()
    return process.returncode, out, messages
