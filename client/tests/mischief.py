"""A proxy on real sockets between clients and a service, which does what networks do on a bad day."""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

from lines import listening, read_head

PORTAL = b"<html><body>Welcome! Please sign in.</body></html>"
MOODS = ("delay", "cut", "half", "lost", "corrupt", "replay", "portal", "redirect", "off", "damaged", "stripped")


class Mischief:
    """`mood` is fine, or one of `MOODS`: delay (a third of a second), cut (hangs up before the request gets through),
    half (of the reply), lost (the whole reply), corrupt (a bit of the body flips), replay (the first reply to a call of
    this kind), portal, redirect, off, damaged (a bit of the request's body flips), or stripped (the request's
    `Authorization` is taken away). `wire` is every byte that went by.
    """

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self.mood = "fine"
        self.wire: list[bytes] = []
        self._first: dict[bytes, bytes] = {}

    def talk(self, connection: socket.socket) -> None:
        """Serve one connection, which carries one exchange."""
        if self.mood == "off":
            return
        request = _whole(connection)
        self.wire.append(request)
        kind = request.split(b" ")[0]
        if self.mood == "portal":
            head = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(PORTAL)}\r\n\r\n"
            connection.sendall(head.encode() + PORTAL)
        elif self.mood == "redirect":
            connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n")
        elif self.mood == "replay" and kind in self._first:
            connection.sendall(self._first[kind])
        elif self.mood != "cut":
            self._pass_on(connection, request, kind)

    def _pass_on(self, connection: socket.socket, request: bytes, kind: bytes) -> None:
        if self.mood == "damaged":
            request = _with_a_bit_flipped(request)
        if self.mood == "stripped":
            request = re.sub(rb"\r\nAuthorization: [^\r]*", b"", request)
        with socket.create_connection(self._upstream) as service:
            service.sendall(request)
            reply = _all(service)
        self.wire.append(reply)
        self._first.setdefault(kind, reply)
        if self.mood == "delay":
            time.sleep(0.3)
        if self.mood == "half":
            reply = reply[: len(reply) // 2]
        if self.mood == "corrupt":
            reply = _with_a_bit_flipped(reply)
        if self.mood != "lost":
            connection.sendall(reply)


def _with_a_bit_flipped(message: bytes) -> bytes:
    """A message with a bit flipped in the middle of its body, if it has one."""
    body = len(message.split(b"\r\n\r\n", 1)[1])
    at = len(message) - body // 2 - 1
    return message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :] if body else message


def _whole(connection: socket.socket) -> bytes:
    data = read_head(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    missing = (int(lengths[0].split(b":")[1]) if lengths else 0) - len(body)
    while missing > 0 and (more := connection.recv(65536)):
        data += more
        missing -= len(more)
    return data


def _all(connection: socket.socket) -> bytes:
    data = b""
    while more := connection.recv(65536):
        data += more
    return data


@contextmanager
def between(upstream: str) -> Iterator[tuple[Mischief, str]]:
    """A proxy before `upstream` (a base URL): itself, and the base URL that leads through it."""
    mischief = Mischief(upstream)
    with listening(mischief.talk) as port:
        yield mischief, f"http://127.0.0.1:{port}{urlsplit(upstream).path}"
