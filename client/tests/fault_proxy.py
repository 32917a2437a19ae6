"""Servers on real sockets: a proxy that plants network faults, a tunnel proxy, and a bare listener."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

ConnectionHandler = Callable[[socket.socket], None]


@contextmanager
def listening(handler: ConnectionHandler) -> Iterator[int]:
    """Answer each connection with `handler`, on its own thread. Yields the port."""
    server = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    connections: list[socket.socket] = []

    def run(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            handler(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                connections.append(connection)
                threads.append(threading.Thread(target=run, args=(connection,), daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        accepting.join()
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def read_head(connection: socket.socket) -> bytes:
    """What a client sends, up to the end of its headers."""
    data = b""
    while b"\r\n\r\n" not in data and (more := connection.recv(4096)):
        data += more
    return data


def forward(source: socket.socket, target: socket.socket) -> None:
    """Forward bytes until one side closes."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def tunnel(port: int, heads: list[bytes], *, authorization: bytes | None = None) -> ConnectionHandler:
    """A proxy that opens tunnels to `port` for any name. It demands `authorization` if that is given."""

    def handler(connection: socket.socket) -> None:
        head = read_head(connection)
        heads.append(head)
        if authorization is not None and b"Proxy-Authorization: " + authorization not in head:
            connection.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", port)) as target:
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=forward, args=(target, connection), daemon=True)
            back.start()
            forward(connection, target)
            back.join()

    return handler


PORTAL = b"<html><body>Welcome! Please sign in.</body></html>"
FAULTS = ("delay", "cut", "half", "lost", "corrupt", "replay", "portal", "redirect", "off", "damaged", "stripped")


class FaultProxy:
    """`fault` is fine, or one of `FAULTS`. `traffic` holds every byte that passed.

    delay: a third of a second. cut: closed before the request passes. half: half of the reply. lost: no reply.
    corrupt: a flipped bit in the reply's body. replay: the first reply to a call with this method. portal: a web page.
    redirect: a redirect. off: closed at once. damaged: a flipped bit in the request's body.
    stripped: the request without `Authorization`.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self.fault = "fine"
        self.traffic: list[bytes] = []
        self._first_replies: dict[bytes, bytes] = {}

    def handler(self, connection: socket.socket) -> None:
        """Serve one connection, which carries one exchange."""
        if self.fault == "off":
            return
        request = _read_request(connection)
        if not request:
            return  # the client has given up
        self.traffic.append(request)
        method = request.split(b" ")[0]
        if self.fault == "portal":
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(PORTAL)}\r\n\r\n"
            connection.sendall(head.encode() + PORTAL)
        elif self.fault == "redirect":
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n")
        elif self.fault == "replay" and method in self._first_replies:
            connection.sendall(self._first_replies[method])
        elif self.fault != "cut":
            self._forward(connection, request, method)

    def _forward(self, connection: socket.socket, request: bytes, method: bytes) -> None:
        if self.fault == "damaged":
            request = _flip_bit(request)
        if self.fault == "stripped":
            request = re.sub(rb"\r\nAuthorization: [^\r]*", b"", request)
        with socket.create_connection(self._upstream) as service:
            service.sendall(request)
            reply = _read_all(service)
        self.traffic.append(reply)
        self._first_replies.setdefault(method, reply)
        if self.fault == "delay":
            time.sleep(0.3)
        if self.fault == "half":
            reply = reply[: len(reply) // 2]
        if self.fault == "corrupt":
            reply = _flip_bit(reply)
        if self.fault != "lost":
            connection.sendall(reply)


def _flip_bit(message: bytes) -> bytes:
    """The message with a bit flipped in the middle of its body, if it has one."""
    body = len(message.split(b"\r\n\r\n", 1)[1])
    at = len(message) - body // 2 - 1
    return message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :] if body else message


def _read_request(connection: socket.socket) -> bytes:
    data = read_head(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    missing = (int(lengths[0].split(b":")[1]) if lengths else 0) - len(body)
    while missing > 0 and (more := connection.recv(65536)):
        data += more
        missing -= len(more)
    return data


def _read_all(connection: socket.socket) -> bytes:
    data = b""
    while more := connection.recv(65536):
        data += more
    return data


@contextmanager
def start_fault_proxy(upstream: str) -> Iterator[tuple[FaultProxy, str]]:
    """Run a proxy in front of `upstream` (a base URL). Yields the proxy and the base URL through it."""
    fault_proxy = FaultProxy(upstream)
    with listening(fault_proxy.handler) as port:
        yield fault_proxy, f"http://127.0.0.1:{port}{urlsplit(upstream).path}"
