"""A proxy that loses what it is told to lose: real connections, cut for real."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass


@dataclass
class Proxy:
    """A TCP proxy on 127.0.0.1. With `lose_replies`, so many exchanges are forwarded and their answers dropped."""

    target: int
    port: int = 0
    lose_replies: int = 0
    match: bytes = b""
    lost: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until either side, or the proxy's own malice, ends it."""
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
async def proxied(target: int) -> AsyncIterator[Proxy]:
    """A proxy before a port of this machine."""
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await server.wait_closed()
