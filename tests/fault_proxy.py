"""Proxies between the service and its store that inject faults.

Connections are real and are cut for real. A request that reaches the store is answered by the store. Only replies that
a front end, a proxy or a throttled store gives by itself are made up.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL


class Call(StrEnum):
    """The kinds of calls to the store."""

    STATE_READ = "state read"
    POINT_READ = "point read"
    RANGE_READ = "range read"
    SINGLE_WRITE = "single write"
    TRANSACTION = "transaction"
    DIRECTORY = "directory write"
    MARK_READ = "read of marks"
    MARK = "mark"


WRITES: Final = frozenset({Call.SINGLE_WRITE, Call.TRANSACTION, Call.MARK})


@dataclass(frozen=True)
class Asked:
    """A request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def call(self) -> Call | None:
        """The kind of call; None for one that creates tables."""
        table, _, rest = self.path.partition("?")[0].rpartition("/")[2].partition("(")
        if "_service" in self.path or b"_service" in self.body:
            return Call.MARK_READ if self.method == "GET" else Call.MARK
        if table == "$batch":
            return Call.DIRECTORY if b"/directory" in self.body else Call.TRANSACTION
        if table not in ("register", "directory"):
            return None
        if self.method != "GET":
            return Call.SINGLE_WRITE
        if "RowKey=" not in rest:
            return Call.RANGE_READ
        return Call.STATE_READ if "RowKey='license'" in rest or "RowKey=%27license%27" in rest else Call.POINT_READ


PlantedFault = Callable[["FaultProxy", web.BaseRequest, Asked], Awaitable[web.StreamResponse]]


@dataclass
class FaultProxy:
    """An HTTP proxy before the store at port `target`.

    It injects `fault` into calls of the kind `on`, as many as `times` (None: all).
    """

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
        """From now on, inject a fault into calls of a kind."""
        self.fault, self.on, self.times, self.hits = fault, on, times, 0
        self.over.clear()

    async def mend(self) -> None:
        """Inject nothing more, and wait for the requests that were held up."""
        self.fault = None
        self.over.set()
        await asyncio.gather(*self.busy, return_exceptions=True)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        """Forward one request, or let the fault handle it."""
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


def port_of(connection_string: str) -> int:
    """The port of a store on this machine."""
    match = re.search(r"127\.0\.0\.1:(\d+)", connection_string)
    assert match
    return int(match[1])


def through(port: int, connection_string: str) -> str:
    """The connection string of the same store through a proxy that listens on a port."""
    return connection_string.replace(f":{port_of(connection_string)}/", f":{port}/")


@asynccontextmanager
async def start_fault_proxy(target: int) -> AsyncIterator[FaultProxy]:
    """Start a fault proxy before a store on this machine."""
    proxy = FaultProxy(target)
    server = web.Server(proxy.serve)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    proxy.port = listening.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession(
        auto_decompress=False, skip_auto_headers=["User-Agent", "Content-Type"]
    ) as proxy.http:
        try:
            yield proxy
        finally:
            await proxy.mend()
            listening.close()
            await server.shutdown(0)


# Faults.


def hang_up(request: web.BaseRequest) -> web.Response:
    """Cut the connection."""
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def late(proxy: FaultProxy, _: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """The store is slow."""
    await asyncio.sleep(0.1)
    return await proxy.forward(asked)


async def cut_before(_: FaultProxy, request: web.BaseRequest, __: Asked) -> web.StreamResponse:
    """The connection is lost before the request has arrived."""
    return hang_up(request)


async def cut_after(proxy: FaultProxy, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """The write is done, and the connection is lost before the reply."""
    await proxy.forward(asked)
    return hang_up(request)


def made_up(status: int, code: str, **headers: str) -> web.Response:
    """A reply in the store's format that the store did not give."""
    body = f'{{"odata.error":{{"code":"{code}","message":{{"lang":"en-US","value":"{code}"}}}}}}'
    return web.Response(status=status, text=body, content_type="application/json", headers=headers)


async def error_before(_: FaultProxy, __: web.BaseRequest, ___: Asked) -> web.StreamResponse:
    """The store fails."""
    return made_up(500, "InternalError")


async def error_after(proxy: FaultProxy, _: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """The write is done, and the store fails before it replies."""
    await proxy.forward(asked)
    return made_up(500, "OperationTimedOut")


async def busy(_: FaultProxy, __: web.BaseRequest, ___: Asked) -> web.StreamResponse:
    """The store throttles."""
    return made_up(503, "ServerBusy")


async def busy_for_a_minute(_: FaultProxy, __: web.BaseRequest, ___: Asked) -> web.StreamResponse:
    """The store throttles, with Retry-After."""
    return made_up(503, "ServerBusy", **{"Retry-After": "60"})


async def silent_before(proxy: FaultProxy, request: web.BaseRequest, _: Asked) -> web.StreamResponse:
    """The request is lost, and the connection stays open."""
    await proxy.over.wait()
    return hang_up(request)


async def silent_after(proxy: FaultProxy, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """The write is done, and no reply comes."""
    await proxy.forward(asked)
    return await silent_before(proxy, request, asked)


async def delivered_late(proxy: FaultProxy, _: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """The request arrives after the service has given up."""
    await asyncio.sleep(0.3)
    return await proxy.forward(asked)


async def dripping(proxy: FaultProxy, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """The reply comes byte by byte, without end."""
    reply = web.StreamResponse(status=(await proxy.forward(asked)).status)
    reply.content_length = 1_000_000
    await reply.prepare(request)
    while not proxy.over.is_set() and request.transport is not None:
        await reply.write(b" ")
        await asyncio.sleep(0.05)
    return break_off(request, reply)


async def cut_within(proxy: FaultProxy, request: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """The connection is lost in the middle of the reply."""
    whole = await proxy.forward(asked)
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


async def halved(proxy: FaultProxy, _: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """A proxy cuts the reply short and declares it complete."""
    whole = await proxy.forward(asked)
    body = bytes(whole.body) if isinstance(whole.body, bytes) else b""
    return web.Response(status=whole.status, headers=whole.headers, body=body[: len(body) // 2])


async def twice(proxy: FaultProxy, _: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """The request arrives twice; the second reply is the one that is seen."""
    await proxy.forward(asked)
    return await proxy.forward(asked)


async def stranger(_: FaultProxy, __: web.BaseRequest, ___: Asked) -> web.StreamResponse:
    """Another server answers, as a captive portal does."""
    return web.Response(text="<html><body>Please sign in.</body></html>", content_type="text/html")


async def changed(proxy: FaultProxy, _: web.BaseRequest, asked: Asked) -> web.StreamResponse:
    """The row is never at the version that the write requires: the store's own 412."""
    other = "W/\"datetime'2000-01-01T00%3A00%3A00.0000000Z'\""
    headers = {name: other if name.lower() == "if-match" else value for name, value in asked.headers.items()}
    body = re.sub(rb"(?i)(if-match: )[^\r\n]+", rb"\g<1>" + other.encode(), asked.body)
    return await proxy.forward(Asked(asked.method, asked.path, headers, body))


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
"""Faults that end at the service's timeouts."""


# Lost replies.


@dataclass
class LossyProxy:
    """A TCP proxy on 127.0.0.1. It forwards as many exchanges as `lose_replies` and drops their replies."""

    target: int
    port: int = 0
    lose_replies: int = 0
    match: bytes = b""
    lost: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until either side ends it, or a reply is to be lost."""
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self.target)
        doomed = asyncio.Event()

        async def there() -> None:
            while data := await reader.read(65536):
                if self.lose_replies and self.match in data:
                    self.lose_replies -= 1
                    doomed.set()
                back_writer.write(data)
                await back_writer.drain()

        async def back() -> None:
            while data := await back_reader.read(65536):
                if doomed.is_set():
                    self.lost += 1
                    return
                writer.write(data)
                await writer.drain()

        tasks = [asyncio.create_task(there()), asyncio.create_task(back())]
        with suppress(ConnectionError):
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stream in (writer, back_writer):
            stream.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await stream.wait_closed()


@asynccontextmanager
async def start_lossy_proxy(target: int) -> AsyncIterator[LossyProxy]:
    """Start a lossy proxy before a port of this machine."""
    proxy = LossyProxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await server.wait_closed()
