"""The outermost layer: what holds for every request.

- A body of more than 16 KiB, or a query of more than one, is refused before anything parses it.
- An unexpected error becomes a problem reply. Its type and place are logged, never its message, which could hold
  personal data.
- Every reply forbids caching, content sniffing and referrers.
"""

import logging
import traceback
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from licensing.api import problems

BODY_LIMIT: Final = 16 * 1024
QUERY_LIMIT: Final = 1024
"""Ten times the longest valid query. Parsing a long one costs as much as a hundred refusals."""

HEADERS: Final = {"cache-control": "no-store", "x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}
_HEADERS: Final = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

_log = logging.getLogger(__name__)


class _Message(dict[str, object]):
    """A message whose `repr` hides its contents: the Functions middleware logs every message at DEBUG."""

    def __repr__(self) -> str:
        return f"<{self['type']}>"


class RequestMiddleware:
    """The ASGI middleware around the app."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = False

        async def reply(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(_Message(message))

        try:
            if len(scope["query_string"]) > QUERY_LIMIT:
                await problems.problem("malformed-request", "The query is too long.")(scope, receive, reply)
                return
            body = await _body(scope, receive)
            if body is None:
                await problems.problem("request-too-large")(scope, receive, reply)
                return
            await self.app(scope, _replay(body), reply)
        except Exception as error:
            where = traceback.extract_tb(error.__traceback__)[-1]
            _log.error("unexpected %s in %s line %s", type(error).__name__, where.name, where.lineno)
            if not started:
                await problems.problem("service-unavailable")(scope, receive, reply)


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body; None if it is too large."""
    for name, value in scope["headers"]:
        # Nine digits decide. The loop below finds a false or missing length.
        if name == b"content-length" and value.isdigit() and int(value[:9]) > BODY_LIMIT:
            return None
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return body
        body += bytes(message.get("body", b""))
        if len(body) > BODY_LIMIT:
            return None
        if not message.get("more_body"):
            return body


def _replay(body: bytes) -> Receive:
    """Receive a body that was read, as often as it is asked for."""

    async def replayed() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed
