"""The secrets part of Key Vault's REST API, as far as an operator's commands use it, within this process.

There is no emulator of Key Vault. So the real `SecretClient` and its transport talk to this in place of the network;
what Azure itself checks (roles, networks) is answered as its documentation says.
"""

import io
import json
import re
from typing import Any

import requests
from azure.core.credentials import AccessToken
from azure.core.pipeline.transport import RequestsTransport
from azure.keyvault.secrets import SecretClient
from requests.adapters import HTTPAdapter
from urllib3 import HTTPResponse

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
