"""The outermost layer: what holds for every request, whatever becomes of it inside.

- A body of more than 16 KiB, or a query of more than one, is refused before anything looks at it.
- Whatever nobody foresaw becomes a problem reply; what is logged of it is its kind and where it arose, never its
  message, which could hold what the caller sent.
- Replies are not to be stored, guessed at or framed.
"""

import logging
import traceback
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from licensing.api import problems

BODY_LIMIT: Final = 16 * 1024
QUERY_LIMIT: Final = 1024
"""The longest query that means anything is a tenth of it; to take a long one apart costs a hundred refusals."""

HEADERS: Final = {
    "cache-control": "no-store",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}

_HEADERS: Final = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

_log = logging.getLogger(__name__)


class _Message(dict[str, object]):
    """A message whose text does not show its contents: the Functions middleware logs every message at DEBUG."""

    def __repr__(self) -> str:
        return f"<{self['type']}>"


class RequestMiddleware:
    """An ASGI app around another one."""

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
            await self.app(scope, _replay(body, receive), reply)
        except Exception as fault:
            where = traceback.extract_tb(fault.__traceback__)[-1]
            _log.error("unexpected %s in %s line %s", type(fault).__name__, where.name, where.lineno)
            if not started:
                await problems.unexpected()(scope, receive, reply)


async def _body(scope: Scope, receive: Receive) -> bytes | None:
    """The whole body, None where it is too large."""
    for name, value in scope["headers"]:
        # Nine digits tell; what is no number, or claims less than there is, is found out below.
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


def _replay(body: bytes, receive: Receive) -> Receive:
    waiting = True

    async def replayed() -> Message:
        nonlocal waiting
        if waiting:
            waiting = False
            return {"type": "http.request", "body": body, "more_body": False}
        return await receive()

    return replayed
