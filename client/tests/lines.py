"""Things that stand between a client and the service, on real sockets: a proxy for tunnels, and a listener that
answers each connection as a test tells it to."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Conversation = Callable[[socket.socket], None]


@contextmanager
def listening(talk: Conversation) -> Iterator[int]:
    """Answer every connection with `talk`, on a thread of its own; gives the port."""
    server = socket.create_server(("127.0.0.1", 0))
    threads: list[threading.Thread] = []
    open_ones: list[socket.socket] = []

    def converse(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            talk(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = server.accept()
                open_ones.append(connection)
                threads.append(threading.Thread(target=converse, args=(connection,), daemon=True))
                threads[-1].start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        accepting.join()
        for connection in open_ones:
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


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass bytes on until one side has had enough."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def tunnel(port: int, heads: list[bytes], *, authorization: bytes | None = None) -> Conversation:
    """A proxy that opens tunnels to `port`, whatever the name; it asks for `authorization` if that is given."""

    def talk(connection: socket.socket) -> None:
        head = read_head(connection)
        heads.append(head)
        if authorization is not None and b"Proxy-Authorization: " + authorization not in head:
            connection.sendall(b"HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n")
            return
        with socket.create_connection(("127.0.0.1", port)) as target:
            connection.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=pump, args=(target, connection), daemon=True)
            back.start()
            pump(connection, target)
            back.join()

    return talk
