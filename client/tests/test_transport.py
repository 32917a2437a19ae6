"""Real networks: proxies, company authorities, IPv4 and IPv6, and slow or strange servers."""

import base64
import contextlib
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from factories import HOST, company_authority
from fault_proxy import listening, read_head, tunnel
from licensing_client.errors import ExchangeError, Step
from licensing_client.transport import Cancellation, HttpTransport, Reply, Request
from reference_service import serving

OK = Reply(200, {"content-type": "application/json"}, b'{"status": "ok"}')


def get(url: str) -> Request:
    return Request("GET", url, {})


def failure(transport: HttpTransport, url: str, seconds: float = 5.0) -> ExchangeError:
    with pytest.raises(ExchangeError) as caught:
        transport.exchange(get(url), seconds, Cancellation())
    return caught.value


def over_tls(context: ssl.SSLContext) -> Callable[[socket.socket], None]:
    def handler(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            read_head(secure)
            secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")

    return handler


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    ca, context = company_authority(tmp_path)
    with listening(over_tls(context)) as port:
        yield ca, port


def test_a_company_authority_is_trusted_when_it_is_named(secure: tuple[Path, int]) -> None:
    ca, port = secure
    heads: list[bytes] = []
    with listening(tunnel(port, heads)) as proxy:
        transport = HttpTransport(f"http://127.0.0.1:{proxy}", str(ca))
        assert transport.exchange(get(f"https://{HOST}/api/health"), 5.0, Cancellation()).status == 200
    assert heads[0].startswith(f"CONNECT {HOST}:443 HTTP/1.1".encode())
    assert b"Authorization" not in heads[0]


def test_an_authority_that_nobody_knows_is_not_trusted(secure: tuple[Path, int]) -> None:
    _, port = secure
    with listening(tunnel(port, [])) as proxy:
        error = failure(HttpTransport(f"http://127.0.0.1:{proxy}"), f"https://{HOST}/api/health")
    assert error.step is Step.TLS


def test_a_certificate_for_another_name_is_not_trusted(secure: tuple[Path, int]) -> None:
    ca, port = secure
    with listening(tunnel(port, [])) as proxy:
        error = failure(HttpTransport(f"http://127.0.0.1:{proxy}", str(ca)), "https://other.test/api/health")
    assert error.step is Step.TLS


def test_a_proxy_that_wants_a_name_and_a_password_gets_them(secure: tuple[Path, int]) -> None:
    ca, port = secure
    expected = b"Basic " + base64.b64encode(b"svc:p@ss word")
    with listening(tunnel(port, [], authorization=expected)) as proxy:
        transport = HttpTransport(f"http://svc:p%40ss%20word@127.0.0.1:{proxy}", str(ca))
        assert transport.exchange(get(f"https://{HOST}/api/health"), 5.0, Cancellation()).status == 200
        error = failure(HttpTransport(f"http://127.0.0.1:{proxy}", str(ca)), f"https://{HOST}/api/health")
    assert error.step is Step.PROXY
    assert "password" in str(error)


def test_a_proxys_password_is_in_no_message(secure: tuple[Path, int]) -> None:
    ca, port = secure
    with listening(tunnel(port, [], authorization=b"Basic other")) as proxy:
        error = failure(HttpTransport(f"http://svc:secret@127.0.0.1:{proxy}", str(ca)), f"https://{HOST}/")
    assert "secret" not in str(error)
    assert "svc" not in str(error)


def test_the_systems_proxy_is_used_unless_it_excepts_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.com:3128")
    monkeypatch.setenv("NO_PROXY", "inside.example.com")
    assert HttpTransport().proxy_for("licensing.example.com") == "http://proxy.example.com:3128"
    assert HttpTransport().proxy_for("inside.example.com") is None
    assert HttpTransport().proxy_for("127.0.0.1") is None
    assert HttpTransport("").proxy_for("licensing.example.com") is None


def test_a_kind_of_proxy_that_is_not_supported_is_said_to_be_so() -> None:
    error = failure(HttpTransport("socks5://127.0.0.1:1080"), f"https://{HOST}/")
    assert error.step is Step.PROXY
    assert "socks5" in str(error)


def test_an_address_without_https_is_refused_unless_it_is_this_computer() -> None:
    assert "https" in str(failure(HttpTransport(""), "http://licensing.example.com/api/health"))
    with serving(lambda _request: OK) as base:
        assert HttpTransport().exchange(get(f"{base}/health"), 5.0, Cancellation()).status == 200


def test_a_service_on_ipv6_is_reached() -> None:
    with serving(lambda _request: OK, "::1") as base:
        assert HttpTransport().exchange(get(f"{base}/health"), 5.0, Cancellation()).status == 200


def test_an_address_that_does_not_answer_leaves_time_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda _request: OK) as base:
        port = int(base.split(":")[2].split("/")[0])
        dead = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", port, 0, 0))
        good = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_kwargs: [dead, dead, good])
        assert HttpTransport().exchange(get(f"http://localhost:{port}/api/health"), 3.0, Cancellation()).status == 200


def test_a_name_that_does_not_exist_is_a_matter_of_dns() -> None:
    assert failure(HttpTransport(""), "https://no-such-host.invalid/api").step is Step.DNS


@pytest.fixture
def dead_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    stop = threading.Event()

    def hanging(*_args: object, **_kwargs: object) -> list[object]:
        stop.wait(30)
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    yield
    stop.set()


@pytest.mark.usefixtures("dead_resolver")
def test_a_resolver_that_says_nothing_costs_no_more_than_the_time_allowed() -> None:
    begun = time.monotonic()
    assert failure(HttpTransport(""), "https://licensing.example.com/api", seconds=0.5).step is Step.DNS
    assert time.monotonic() - begun < 2.0


@pytest.mark.usefixtures("dead_resolver")
def test_an_exchange_can_be_cancelled_while_a_name_is_looked_up() -> None:
    cancellation = Cancellation()
    timer = threading.Timer(0.2, cancellation.cancel)
    timer.start()
    begun = time.monotonic()
    with pytest.raises(ExchangeError):
        HttpTransport("").exchange(get("https://licensing.example.com/api"), 30.0, cancellation)
    assert time.monotonic() - begun < 2.0
    timer.join()


def test_a_port_where_nobody_listens_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert failure(HttpTransport(), f"http://127.0.0.1:{port}/").step is Step.CONNECT


def test_redirects_are_not_followed() -> None:
    asked: list[str] = []

    def handle(request: Request) -> Reply:
        asked.append(request.url)
        return Reply(307, {"Location": "/elsewhere"}, b"")

    with serving(handle) as base:
        assert HttpTransport().exchange(get(f"{base}/health"), 5.0, Cancellation()).status == 307
    assert len(asked) == 1


def dripping(connection: socket.socket) -> None:
    read_head(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X: y\r\n")
        time.sleep(0.05)


def silent(connection: socket.socket) -> None:
    while connection.recv(4096):
        pass


@pytest.mark.parametrize("handler", [dripping, silent])
def test_a_server_that_drips_or_says_nothing_costs_no_more_than_the_time_allowed(
    handler: Callable[[socket.socket], None],
) -> None:
    with listening(handler) as port:
        begun = time.monotonic()
        assert failure(HttpTransport(), f"http://127.0.0.1:{port}/", seconds=0.5).step is Step.SERVICE
        assert time.monotonic() - begun < 2.0


def saying(data: bytes) -> Callable[[socket.socket], None]:
    def handler(connection: socket.socket) -> None:
        read_head(connection)
        connection.sendall(data)

    return handler


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="hangs up"),
        pytest.param(b"SSH-2.0-OpenSSH\r\n", id="another protocol"),
        pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}", id="cut body"),
        pytest.param(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab", id="cut chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 70000, id="endless body"),
        pytest.param(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 200 + b"\r\n", id="endless headers"),
    ],
)
def test_a_reply_that_is_no_whole_reply_is_none(data: bytes) -> None:
    with listening(saying(data)) as port:
        assert failure(HttpTransport(), f"http://127.0.0.1:{port}/").step is Step.SERVICE


def test_an_exchange_can_be_cancelled_while_it_waits() -> None:
    cancellation, errors = Cancellation(), []

    def exchange(port: int) -> None:
        try:
            HttpTransport().exchange(get(f"http://127.0.0.1:{port}/"), 30.0, cancellation)
        except ExchangeError as error:
            errors.append(error)

    with listening(silent) as port:
        waiting = threading.Thread(target=exchange, args=(port,), daemon=True)
        waiting.start()
        time.sleep(0.2)
        cancellation.cancel()
        waiting.join(2.0)
        assert not waiting.is_alive()
    assert errors


def test_an_exchange_that_was_cancelled_before_sends_nothing() -> None:
    cancellation = Cancellation()
    cancellation.cancel()
    with listening(silent) as port, pytest.raises(ExchangeError):
        HttpTransport().exchange(get(f"http://127.0.0.1:{port}/"), 30.0, cancellation)


@pytest.mark.skipif(sys.platform != "linux", reason="a full backlog holds connections up on Linux alone")
def test_an_exchange_can_be_cancelled_while_it_connects() -> None:
    errors: list[ExchangeError] = []
    cancellation = Cancellation()
    with socket.socket() as server, contextlib.ExitStack() as queue:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            waiting = queue.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        url = f"http://127.0.0.1:{server.getsockname()[1]}/"

        def exchange() -> None:
            with pytest.raises(ExchangeError) as caught:
                HttpTransport().exchange(get(url), 30.0, cancellation)
            errors.append(caught.value)

        thread = threading.Thread(target=exchange, daemon=True)
        thread.start()
        time.sleep(0.2)
        cancellation.cancel()
        thread.join(2.0)
    assert [error.step for error in errors] == [Step.CONNECT]
