"""Stands between the service and its store, understands what is asked, and does to it what a fault does.

Connections are real and are cut for real; whatever reaches the store is answered by the store. Only what a front end,
a proxy or a throttled store would say by itself is made up here.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL


class Call(StrEnum):
    """What the service asks the store for."""

    HEAD_READ = "head read"
    POINT_READ = "point read"
    RANGE_READ = "range read"
    SINGLE_WRITE = "single write"
    TRANSACTION = "transaction"
    DIRECTORY = "directory write"


WRITES: Final = frozenset({Call.SINGLE_WRITE, Call.TRANSACTION})


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def call(self) -> Call | None:
        """Which kind of call it is, None for one that makes tables."""
        table, _, rest = self.path.partition("?")[0].rpartition("/")[2].partition("(")
        if table == "$batch":
            return Call.DIRECTORY if b"/directory" in self.body else Call.TRANSACTION
        if table not in ("register", "directory"):
            return None
        if self.method != "GET":
            return Call.SINGLE_WRITE
        if "RowKey=" not in rest:
            return Call.RANGE_READ
        return Call.HEAD_READ if "RowKey='license'" in rest or "RowKey=%27license%27" in rest else Call.POINT_READ


PlantedFault = Callable[["Storefront", web.BaseRequest, Asked], Awaitable[web.StreamResponse]]


@dataclass
class Storefront:
    """An HTTP proxy before the store at port `target`; `fault` befalls the calls `on`, so many `times` (None: all)."""

    target: int
    port: int = 0
    fault: PlantedFault | None = None
    on: Call | None = None
    times: int | None = None
    hits: int = 0
    http: aiohttp.ClientSession = field(init=False)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    busy: set[asyncio.Task[object]] = field(default_factory=set)

    def break_(self, fault: PlantedFault, on: Call, times: int | None) -> None:
        """From now on, calls of a kind go wrong."""
        self.fault, self.on, self.times, self.hits = fault, on, times, 0
        self.over.clear()

    async def mend(self) -> None:
        """From now on all is well, and what was held up has come through."""
        self.fault = None
        self.over.set()
        await asyncio.gather(*self.busy, return_exceptions=True)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Serve one request, or let the fault do it."""
        asked = Asked(request.method, request.raw_path, request.headers, await request.read())
        if self.fault is None or asked.call is not self.on or self.times == self.hits:
            return await self.forward(asked)
        self.hits += 1
        task = asyncio.current_task()
        assert task is not None
        self.busy.add(task)
        try:
            return await self.fault(self, request, asked)
        finally:
            self.busy.discard(task)

    async def forward(self, asked: Asked) -> web.Response:
        """Pass a request on; the store's reply."""
        url = URL(f"http://127.0.0.1:{self.target}{asked.path}", encoded=True)
        headers = {name: value for name, value in asked.headers.items() if name.lower() not in _OF_THE_CONNECTION}
        async with self.http.request(asked.method, url, headers=headers, data=asked.body) as reply:
            kept = [(name, value) for name, value in reply.headers.items() if name.lower() not in _OF_THE_CONNECTION]
            return web.Response(status=reply.status, headers=dict(kept), body=await reply.read())


_OF_THE_CONNECTION: Final = frozenset({"host", "connection", "keep-alive", "content-length", "transfer-encoding"})


@asynccontextmanager
async def storefront(target: int) -> AsyncIterator[Storefront]:
    """A storefront before a store on this machine."""
    front = Storefront(target)
    server = web.Server(front.serve)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    front.port = listening.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession(
        auto_decompress=False, skip_auto_headers=["User-Agent", "Content-Type"]
    ) as front.http:
        try:
            yield front
        finally:
            await front.mend()
            listening.close()
            await server.shutdown(0)


# Faults.


def hang_up(request: web.BaseRequest) -> web.Response:
    """Cut the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def late(front: Storefront, _: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """The store takes its time."""
    await asyncio.sleep(0.1)
    return await front.forward(asked)


async def cut_before(_: Storefront, request: web.BaseRequest, __: Asked) -> web.StreamResponse:
    """The connection is lost before the request has arrived."""
    return hang_up(request)


async def cut_after(front: Storefront, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """It is done, and the connection is lost before the reply."""
    await front.forward(asked)
    return hang_up(request)


def made_up(status: int, code: str, **headers: str) -> web.Response:
    """A reply in the store's words that the store did not give."""
    body = f'{{"odata.error":{{"code":"{code}","message":{{"lang":"en-US","value":"{code}"}}}}}}'
    return web.Response(status=status, text=body, content_type="application/json", headers=headers)


async def error_before(_: Storefront, __: web.BaseRequest, ___: Asked) -> web.StreamResponse:
    """The store fails."""
    return made_up(500, "InternalError")


async def error_after(front: Storefront, _: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """It is done, and the store fails before it has said so."""
    await front.forward(asked)
    return made_up(500, "OperationTimedOut")


async def busy(_: Storefront, __: web.BaseRequest, ___: Asked) -> web.StreamResponse:
    """The store throttles."""
    return made_up(503, "ServerBusy")


async def busy_for_a_minute(_: Storefront, __: web.BaseRequest, ___: Asked) -> web.StreamResponse:
    """The store throttles and says for how long."""
    return made_up(503, "ServerBusy", **{"Retry-After": "60"})


async def silent_before(front: Storefront, request: web.BaseRequest, _: Asked) -> web.StreamResponse:
    """The request vanishes, and the connection stays."""
    await front.over.wait()
    return hang_up(request)


async def silent_after(front: Storefront, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """It is done, and nobody says so."""
    await front.forward(asked)
    return await silent_before(front, request, asked)


async def delivered_late(front: Storefront, _: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """The request arrives when the service has long given up."""
    await asyncio.sleep(0.3)
    return await front.forward(asked)


async def dripping(front: Storefront, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """The reply comes byte by byte, without end."""
    reply = web.StreamResponse(status=(await front.forward(asked)).status)
    reply.content_length = 1_000_000
    await reply.prepare(request)
    while not front.over.is_set() and request.transport is not None:
        await reply.write(b" ")
        await asyncio.sleep(0.05)
    return break_off(request, reply)


async def cut_within(front: Storefront, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """The connection is lost in the middle of the reply."""
    whole = await front.forward(asked)
    body = bytes(whole.body) if isinstance(whole.body, bytes) else b""
    reply = web.StreamResponse(status=whole.status, headers=whole.headers)
    reply.content_length = len(body)
    await reply.prepare(request)
    await reply.write(body[: len(body) // 2])
    return break_off(request, reply)


def break_off(request: web.BaseRequest, reply: web.StreamResponse) -> web.StreamResponse:
    """Cut the connection in the middle of a reply."""
    if request.transport is not None:
        request.transport.abort()
    return reply


async def halved(front: Storefront, _: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """Somebody between cuts the reply short and says that it is whole."""
    whole = await front.forward(asked)
    body = bytes(whole.body) if isinstance(whole.body, bytes) else b""
    return web.Response(status=whole.status, headers=whole.headers, body=body[: len(body) // 2])


async def twice(front: Storefront, _: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """The request arrives twice; the second reply is the one that is seen."""
    await front.forward(asked)
    return await front.forward(asked)


async def stranger(_: Storefront, __: web.BaseRequest, ___: Asked) -> web.StreamResponse:
    """Somebody else answers, as the log-in page of a network does."""
    return web.Response(text="<html><body>Please sign in.</body></html>", content_type="text/html")


async def changed(front: Storefront, _: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """The row is never at the version that the write demands: the store's own 412."""
    other = "W/\"datetime'2000-01-01T00%3A00%3A00.0000000Z'\""
    headers = {name: other if name.lower() == "if-match" else value for name, value in asked.headers.items()}
    body = re.sub(rb"(?i)(if-match: )[^\r\n]+", rb"\g<1>" + other.encode(), asked.body)
    return await front.forward(Asked(asked.method, asked.path, headers, body))


FAULTS: Final[Mapping[str, PlantedFault]] = {
    "late": late,
    "cut before": cut_before,
    "cut after": cut_after,
    "cut within": cut_within,
    "500 before": error_before,
    "500 after": error_after,
    "503": busy,
    "503 with Retry-After": busy_for_a_minute,
    "no answer before": silent_before,
    "no answer after": silent_after,
    "delivered late": delivered_late,
    "dripping": dripping,
    "halved": halved,
    "twice": twice,
    "a stranger's": stranger,
    "412": changed,
}

SLOW: Final = frozenset({"no answer before", "no answer after", "delivered late", "dripping"})
"""Faults that end with the service's patience."""
