"""The network: one HTTP exchange, within a time limit.

- HTTPS only, except for a service on this computer. Certificates are checked against the operating system's store,
  which includes company authorities, and against `ca_file`.
- The proxy is the one given, or the system's (`HTTPS_PROXY`, Windows, macOS). A name and a password in its URL are
  sent to it alone (Basic). A service on this computer is reached without it.
- IPv6 and IPv4 addresses are tried in turn; none may use up the time of the others.
- Redirects are not followed, nothing is retried, connections are not kept.
- The time limit covers the whole exchange from the name lookup on, however slowly bytes arrive.

Foreign exceptions stop here and become `ExchangeError`.
"""

import base64
import contextlib
import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, Protocol
from urllib.parse import SplitResult, unquote, urlsplit

import truststore

from licensing_client.errors import ExchangeError, Step

REPLY_LIMIT_BYTES = 64 * 1024
MAX_ADDRESSES = 4
"""How many addresses of a name are tried."""
CANCEL_CHECK_SECONDS = 0.1
"""How often a name lookup checks whether it is cancelled."""
USER_AGENT = "licensing-client/0.1"


@dataclass(frozen=True, slots=True)
class Request:
    """A request. `url` is absolute; `body` is JSON or empty."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply from any sender. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Cancellation:
    """Lets another thread cancel one exchange."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._cancelled = False

    def attach(self, connection: socket.socket) -> None:
        """Name the socket that the exchange waits on.

        Raises OSError where the exchange is cancelled.
        """
        with self._lock:
            self._close_socket()
            self.check()
            self._socket = connection.dup()  # our own handle, since TLS takes over the other one

    def check(self) -> None:
        """Stop a cancelled exchange.

        Raises OSError where the exchange is cancelled.
        """
        if self._cancelled:
            raise OSError("the exchange was cancelled")

    def cancel(self) -> None:
        """End the exchange at once, at any step."""
        with self._lock:
            self._cancelled = True
            if self._socket is not None:
                with contextlib.suppress(OSError):  # not connected yet, or no longer
                    self._socket.shutdown(socket.SHUT_RDWR)

    def release(self) -> None:
        """Close the socket handle; the exchange is over."""
        with self._lock:
            self._close_socket()

    def _close_socket(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class Transport(Protocol):
    """Carries exchanges."""

    def exchange(self, request: Request, timeout_seconds: float, cancellation: Cancellation) -> Reply:
        """Send a request and return the reply, within a time limit.

        Raises ExchangeError where no reply came.
        """


class _Deadline:
    def __init__(self, seconds: float) -> None:
        self._at = time.monotonic() + seconds

    def left(self, shares: int = 1) -> float:
        """The seconds left, divided by `shares`.

        Raises TimeoutError where none are left.
        """
        left = self._at - time.monotonic()
        if left <= 0:
            raise TimeoutError("timed out")
        return left / shares


class _Reader(io.RawIOBase):
    """A socket's read side, for http.client. It stops at the deadline, however slowly bytes arrive."""

    def __init__(self, connection: socket.socket, deadline: _Deadline) -> None:
        super().__init__()
        self._connection = connection
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed names the buffer otherwise
        self._connection.settimeout(self._deadline.left())
        return self._connection.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)


def _is_this_computer(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _describe(error: Exception) -> str:
    """The operating system's message for an error, without addresses."""
    if isinstance(error, TimeoutError):
        return "no reply in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message or "the certificate is not trusted"
    if isinstance(error, OSError):
        return error.strerror or str(error) or type(error).__name__
    return type(error).__name__


@dataclass(frozen=True, slots=True)
class _Proxy:
    host: str
    port: int
    authorization: str | None


def _parse_proxy(url: str) -> _Proxy:
    parts = urlsplit(url if "://" in url else f"http://{url}")
    if parts.scheme != "http" or not parts.hostname:
        raise ExchangeError(Step.PROXY, f"Proxies of the kind {parts.scheme} are not supported; name an HTTP proxy.")
    credentials = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
        credentials = f"Basic {base64.b64encode(pair).decode()}"
    return _Proxy(parts.hostname, parts.port or 8080, credentials)


def system_proxy(host: str) -> str | None:
    """The proxy for a host in this computer's settings."""
    from urllib.request import (
        getproxies,
        proxy_bypass,
    )  # slow to import, and few starts need it

    proxies = getproxies()
    url = proxies.get("https") or proxies.get("all")
    return None if not url or proxy_bypass(host) else url


class HttpTransport:
    """Exchanges over this computer's network."""

    def __init__(self, proxy: str | None = None, ca_file: str | None = None) -> None:
        """`proxy`: a URL, "" for none, None for the system's. `ca_file`: more certificate authorities (PEM)."""
        self._proxy = proxy
        self._ca_file = ca_file
        self._context: ssl.SSLContext | None = None

    def proxy_for(self, host: str) -> str | None:
        """The URL of the proxy for a host; None for a direct connection."""
        if _is_this_computer(host):
            return None
        return system_proxy(host) if self._proxy is None else self._proxy or None

    def exchange(self, request: Request, timeout_seconds: float, cancellation: Cancellation) -> Reply:
        """Send a request and return the reply, within a time limit.

        Raises ExchangeError where no reply came.
        """
        deadline = _Deadline(timeout_seconds)
        try:
            url = urlsplit(request.url)
        except ValueError:
            raise ExchangeError(Step.CONNECT, "The license service's address cannot be read.") from None
        host = url.hostname or ""
        if url.scheme != "https" and not (url.scheme == "http" and _is_this_computer(host)):
            raise ExchangeError(Step.CONNECT, "The license service must have an https address.")
        try:
            with self._connect(url, host, deadline, cancellation) as connection:
                return _send_and_receive(connection, request, url, host, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise ExchangeError(Step.SERVICE, f"{host} did not reply: {_describe(error)}.") from None
        finally:
            cancellation.release()

    def _connect(self, url: SplitResult, host: str, deadline: _Deadline, cancellation: Cancellation) -> socket.socket:
        port = url.port or (443 if url.scheme == "https" else 80)
        proxy_url = self.proxy_for(host)
        if proxy_url is None:
            connection = _open_socket(host, port, deadline, cancellation)
        else:
            proxy = _parse_proxy(proxy_url)
            connection = _open_socket(proxy.host, proxy.port, deadline, cancellation)
            _tunnel(connection, proxy, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", deadline)
        if url.scheme == "http":
            return connection
        try:
            connection.settimeout(deadline.left())
            return self._tls_context().wrap_socket(connection, server_hostname=host)
        except (OSError, ValueError) as error:
            connection.close()
            raise ExchangeError(Step.TLS, f"{host} cannot be trusted: {_describe(error)}.") from None

    def _tls_context(self) -> ssl.SSLContext:
        """TLS with the operating system's trust store. Created on first use, since that is slow."""
        if self._context is None:
            context = truststore.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            if self._ca_file is not None:
                context.load_verify_locations(self._ca_file)
            self._context = context
        return self._context


_Address = tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[Any, ...]]


def _resolve(host: str, port: int, deadline: _Deadline, cancellation: Cancellation) -> Sequence[_Address]:
    """A name's addresses. The system's resolver has no time limit, so a late lookup thread is abandoned."""
    found: list[Sequence[_Address]] = []
    errors: list[Exception] = []

    def resolve() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            errors.append(error)

    resolver = threading.Thread(target=resolve, name="licensing-client-resolver", daemon=True)
    resolver.start()
    while resolver.is_alive():
        cancellation.check()
        resolver.join(min(CANCEL_CHECK_SECONDS, deadline.left()))
    if errors:
        raise errors[0]
    return found[0]


def _open_socket(host: str, port: int, deadline: _Deadline, cancellation: Cancellation) -> socket.socket:
    """Connect to a name. Its IPv6 and IPv4 addresses alternate and share the time."""
    try:
        found = _resolve(host, port, deadline, cancellation)
    except (OSError, UnicodeError) as error:
        raise ExchangeError(Step.DNS, f"The name {host} cannot be found: {_describe(error)}.") from None
    families = list(dict.fromkeys(entry[0] for entry in found))
    queues = [[entry for entry in found if entry[0] == family] for family in families]
    addresses = [entry for entry in chain.from_iterable(zip_longest(*queues)) if entry is not None][:MAX_ADDRESSES]
    last_error: Exception = OSError("it has no address")
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        try:
            connection = socket.socket(family, kind, protocol)
        except OSError as error:  # the system does not support this family
            last_error = error
            continue
        try:
            cancellation.attach(connection)
            connection.settimeout(deadline.left(len(addresses) - index))
            connection.connect(address)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connection.close()
            last_error = error
        else:
            return connection
    raise ExchangeError(Step.CONNECT, f"{host} cannot be reached on port {port}: {_describe(last_error)}.") from None


def _tunnel(connection: socket.socket, proxy: _Proxy, target: str, deadline: _Deadline) -> None:
    """Ask a proxy for a tunnel (RFC 9110, section 9.3.6)."""
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", f"User-Agent: {USER_AGENT}"]
    if proxy.authorization:
        lines.append(f"Proxy-Authorization: {proxy.authorization}")
    try:
        connection.settimeout(deadline.left())
        connection.sendall("\r\n".join([*lines, "", ""]).encode("ascii"))
        # HTTPResponse needs a socket only for makefile.
        with http.client.HTTPResponse(_Reader(connection, deadline), method="CONNECT") as response:  # type: ignore[arg-type]
            response.begin()
    except (OSError, http.client.HTTPException, ValueError) as error:
        connection.close()
        raise ExchangeError(Step.PROXY, f"The proxy {proxy.host} did not reply: {_describe(error)}.") from None
    if response.status != 200:
        connection.close()
        hint = " It wants a name and a password." if response.status == 407 else ""
        raise ExchangeError(Step.PROXY, f"The proxy {proxy.host} refused (HTTP {response.status}).{hint}")


def _send_and_receive(
    connection: socket.socket, request: Request, url: SplitResult, host: str, deadline: _Deadline
) -> Reply:
    client = http.client.HTTPConnection(host, url.port)
    client.sock = connection
    connection.settimeout(deadline.left())
    headers = {
        "User-Agent": USER_AGENT,
        "Accept": "application/json",
        "Connection": "close",
        **request.headers,
    }
    if request.body:
        headers["Content-Type"] = "application/json"
    path = f"{url.path or '/'}?{url.query}" if url.query else url.path or "/"
    client.request(request.method, path, body=request.body or None, headers=headers)
    with http.client.HTTPResponse(_Reader(connection, deadline), method=request.method) as response:  # type: ignore[arg-type]
        response.begin()
        body = response.read(REPLY_LIMIT_BYTES + 1)
    if len(body) > REPLY_LIMIT_BYTES:
        raise ValueError("the reply is too large")
    length = response.getheader("Content-Length")
    if length is not None and length.isdigit() and len(body) < int(length):
        raise ValueError("the reply was cut")
    return Reply(response.status, {name.lower(): value for name, value in response.getheaders()}, body)
