"""A reference implementation of the service's side of the protocol, in memory. It signs, counts seats, keeps a line
and refuses.

With it the client is tested alone; `tests/client/` of the project runs the client against the real service.
"""

import datetime
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from factories import ISSUER_KEY, SERVICE_KEY, lease_claims, sign, x_of
from licensing_client.errors import TokenError
from licensing_client.tokens import Keys, keys_of, verified_claims
from licensing_client.transport import Reply, Request

TITLES = {
    400: "Bad",
    401: "Not accepted",
    403: "Forbidden",
    404: "Not found",
    409: "No seat",
    410: "Gone",
    503: "Unavailable",
}


MOST_PLACES = 50


@dataclass
class Place:
    """A place in line. `retry_seconds`: what its program was told at `heard_at`."""

    heard_at: float
    retry_seconds: int

    def left_at(self) -> float:
        return self.heard_at + 3 * self.retry_seconds + 15


@dataclass
class Row:
    """A session. `confirmed_until`: the end that its first heartbeat brings, None once it is confirmed."""

    license: str
    user: str
    host: str
    started_at: float
    heartbeat_at: float
    expires_at: float
    borrowed: bool
    confirmed_until: float | None = None
    lasts: bool = False

    def lapses_at(self, hold: float) -> float:
        return max(self.expires_at, self.heartbeat_at + hold if self.confirmed_until is None else 0.0)


class ReferenceService:
    """Sessions by id; `clock` gives seconds since 1970.

    It keeps the newest license file, if that lists nobody. `kept`: the files by license. `signing_key` signs leases.
    `refused`: the code with which starts with a file of this serial are refused. `line`: places by session id, in the
    order of arrival. `hosts`: the host of each session that was ever started.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.active: dict[str, Row] = {}
        self.line: dict[str, Place] = {}
        self.hosts: dict[str, str] = {}
        self.ended: set[str] = set()
        self.recalled: set[str] = set()
        self.refused: dict[int, str] = {}
        self.ran_until: dict[str, str] = {}
        self.suspended = False
        self.hold = 0
        self.retry_after = 10
        self.place_seconds = 5
        self.peak = 0
        self.requests: list[tuple[float, Request, int]] = []
        self.kept: dict[str, str] = {}
        self.signing_key = SERVICE_KEY
        self._license_claims: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def handle(self, request: Request) -> Reply:
        with self._lock:
            reply = self._route(request)
            self.requests.append((self.clock(), request, reply.status))
            return reply

    def _route(self, request: Request) -> Reply:
        path = request.url.split("/api", 1)[1]
        body = json.loads(request.body) if request.body else {}
        if path == "/health":
            return self._json(200, {"status": "ok", "region": "local", "version": "0"})
        if request.method == "POST" and path == "/sessions":
            return self._start(body)
        if request.method == "POST" and path == "/licenses/current":
            return self._current(body)
        session = path.split("/")[2]
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        try:
            lease = verified_claims(token, "lease+jwt", self._lease_keys)
        except TokenError:
            return self.problem(401, "lease-invalid")
        if lease["sub"] != session:
            return self.problem(401, "lease-invalid")
        match request.method, path.endswith("/heartbeat"):
            case "PUT", True:
                return self._heartbeat(session, lease, body)
            case "POST", False:
                return self._ran_until(session, body)
            case "DELETE", False:
                self._end(session)
                return Reply(204, {}, b"")
            case "GET", False:
                return self._read(session)
        return self.problem(404, "not-found")

    def _start(self, body: dict[str, Any]) -> Reply:
        now = self.clock()
        try:
            given = self._license(body["license"])
        except TokenError:
            return self.problem(401, "license-invalid")
        if given["serial"] in self.refused:
            return self.problem(403, self.refused[given["serial"]])
        license_claims = self._in_force(given, body["license"])
        if license_claims is None:
            return self.problem(403, "license-superseded")
        if self.suspended:
            return self.problem(403, "license-suspended")
        if now >= license_claims["exp"]:
            return self.problem(403, "license-expired")
        session = body["session"]
        self.hosts[session] = body["host"]
        if session in self.recalled:
            return self.problem(403, "seat-recalled")
        row = self.active.get(session)
        if row is not None and (row.user, row.host) != (body["user"], body["host"]):
            return self.problem(400, "malformed-request")
        self.hold = license_claims.get("hold", 0)
        self.sweep(now)
        row = self.active.get(session)
        if row is not None:
            row.expires_at = max(row.expires_at, min(now + license_claims["lease"], license_claims["exp"]))
            return self._running(200, session, row, license_claims, body["nonce"], started=True)
        predecessor = self._predecessor(body)
        free = license_claims["seats"] - len(self.active) + (predecessor in self.active)
        before = 0 if predecessor in self.active else self._waiting_before(session)
        if license_claims["kind"] == "floating" and free <= before:
            return self._no_seat(body, license_claims["seats"], before + 1)
        self.line.pop(session, None)
        if predecessor in self.active:
            self._end(predecessor)
        if predecessor and "ran_until" in body:
            self._ran_until(predecessor, body)
        row = self._new_row(body, license_claims, now)
        self.active[session] = row
        self.peak = max(self.peak, len(self.active))
        return self._running(201, session, row, license_claims, body["nonce"], started=True)

    def _waiting_before(self, session: str) -> int:
        """How many wait in line before a session."""
        return list(self.line).index(session) if session in self.line else len(self.line)

    def _no_seat(self, body: dict[str, Any], seats: int, position: int) -> Reply:
        retry_after, place = self.retry_after, None
        if body.get("wait") and (body["session"] in self.line or len(self.line) < MOST_PLACES):
            retry_after, place = min(60, self.place_seconds * position), position
            self.line[body["session"]] = Place(self.clock(), retry_after)
        in_use = {"in_use": len(self.active), "total": seats, "waiting": len(self.line)}
        members = {"position": place, "seats": in_use}
        return self.problem(409, "no-seat-available", {"retry-after": str(retry_after)}, members)

    @property
    def _lease_keys(self) -> Keys:
        return keys_of([x_of(SERVICE_KEY), x_of(self.signing_key)])

    def _license(self, token: str) -> dict[str, Any]:
        return verified_claims(token, "license+jwt", keys_of([x_of(ISSUER_KEY)]))

    def publish(self, token: str) -> None:
        """Keep a license file; its terms are in force from now on."""
        claims = self._license(token)
        self._license_claims[claims["sub"]] = claims
        self.kept[claims["sub"]] = token

    def _in_force(self, given: dict[str, Any], token: str) -> dict[str, Any] | None:
        """The terms that a start is judged by; None if its file is superseded."""
        newest = self._license_claims.get(given["sub"], given)
        if given["serial"] >= newest["serial"]:
            self._license_claims[given["sub"]] = given
            self.kept.pop(given["sub"], None)
            if not (given["users"] or given["hosts"] or given["networks"]):
                self.kept[given["sub"]] = token
            return given
        superseded = given["sub"] not in self.kept or given["serial"] < newest.get("oldest", 0)
        return None if superseded else newest

    def _current(self, body: dict[str, Any]) -> Reply:
        try:
            given = self._license(body["license"])
        except TokenError:
            return self.problem(401, "license-invalid")
        token = self.kept.get(given["sub"])
        newest = self._license(token) if token else given
        if token is None or newest["serial"] <= given["serial"] or given["serial"] < newest.get("oldest", 0):
            return Reply(204, {}, b"")
        return self._json(200, {"license": token, "serial": newest["serial"]})

    def _new_row(self, body: dict[str, Any], license_claims: dict[str, Any], now: float) -> Row:
        ordinary = min(now + license_claims["lease"], license_claims["exp"])
        length = max(license_claims["lease"], min(body.get("borrow_seconds", 0), license_claims["borrow"]))
        until = min(now + length, license_claims["exp"])
        lasts = until > ordinary or self.hold > 0
        row = Row(license_claims["sub"], body["user"], body["host"], now, now, ordinary, False, lasts=lasts)
        row.confirmed_until = until if lasts else None
        return row

    def _predecessor(self, body: dict[str, Any]) -> str:
        try:
            lease = verified_claims(body.get("replaces", ""), "lease+jwt", self._lease_keys)
        except TokenError:
            return ""
        return str(lease["sub"])

    def _ran_until(self, session: str, body: dict[str, Any]) -> Reply:
        self._end(session)
        self.ran_until[session] = max(self.ran_until.get(session, ""), body["ran_until"])
        return Reply(204, {}, b"")

    def _heartbeat(self, session: str, lease: dict[str, Any], body: dict[str, Any]) -> Reply:
        now = self.clock()
        license_claims = self._license_claims[lease["aud"]]
        if self.suspended:
            return self.problem(403, "license-suspended")
        if now >= license_claims["exp"]:
            return self.problem(403, "license-expired")
        if session in self.recalled:
            return self.problem(403, "seat-recalled")
        row = self.active.get(session)
        if row is None:
            return self.problem(410, "session-gone")
        row.heartbeat_at = now
        row.expires_at = max(row.expires_at, min(now + license_claims["lease"], license_claims["exp"]))
        if row.confirmed_until is not None:
            row.borrowed = row.confirmed_until > row.expires_at
            row.expires_at = max(row.expires_at, row.confirmed_until)
            row.confirmed_until = None
        return self._running(200, session, row, license_claims, body["nonce"])

    def _read(self, session: str) -> Reply:
        row = self.active.get(session)
        if row is None:
            return self.problem(410, "session-gone")
        heard = datetime.datetime.fromtimestamp(row.heartbeat_at, datetime.timezone.utc).isoformat()
        return self._json(
            200, {"session": session, "license": row.license, "user": row.user[:22], "heartbeat_at": heard}
        )

    def _end(self, session: str) -> None:
        if self.active.pop(session, None):
            self.ended.add(session)

    def sweep(self, now: float) -> None:
        for session in [name for name, row in self.active.items() if row.lapses_at(self.hold) <= now]:
            self._end(session)
        self.line = {session: place for session, place in self.line.items() if now < place.left_at()}

    def _running(
        self,
        status: int,
        session: str,
        row: Row,
        license_claims: dict[str, Any],
        nonce: str,
        *,
        started: bool = False,
    ) -> Reply:
        """`started`: it answers a start, which never brings what lasts."""
        unconfirmed = started and row.lasts
        ordinary = min(self.clock() + license_claims["lease"], license_claims["exp"])
        until = row.expires_at if row.confirmed_until is None else row.confirmed_until
        claims = lease_claims(
            sub=session,
            aud=license_claims["sub"],
            iat=int(self.clock()),
            exp=int(min(row.expires_at, ordinary) if unconfirmed else row.expires_at),
            nonce=nonce,
            grace=0 if unconfirmed else license_claims["grace"],
            features=license_claims["features"],
            borrowed=row.borrowed and not unconfirmed,
            **({"offered": int(max(until, ordinary))} if unconfirmed else {}),
        )
        return self._json(
            status,
            {
                "session": session,
                "lease": sign("lease+jwt", claims, self.signing_key),
                "expires_at": "2027-01-01T00:00:00Z",
                "heartbeat_seconds": license_claims["heartbeat"],
                "seats": {"in_use": len(self.active), "total": license_claims["seats"], "waiting": len(self.line)},
                "overdraft": False,
                "recorded": True,
                "license_serial": license_claims["serial"],
                "policy": {"version": "1", "url": "https://example.com/privacy"},
            },
        )

    @staticmethod
    def _json(status: int, body: dict[str, Any], media: str = "application/json") -> Reply:
        return Reply(status, {"content-type": media}, json.dumps(body).encode())

    @staticmethod
    def problem(
        status: int, code: str, headers: dict[str, str] | None = None, members: dict[str, Any] | None = None
    ) -> Reply:
        body = {"type": f"urn:licensing:problem:{code}", "title": TITLES[status], "status": status, "code": code}
        reply = ReferenceService._json(status, body | {"detail": ""} | (members or {}), "application/problem+json")
        return Reply(status, {**reply.headers, **(headers or {})}, reply.body)


Handle = Callable[[Request], Reply]


@contextmanager
def serving(handle: Handle, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve `handle` over HTTP on a free port. Yields the base URL, which ends in /api."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            url = f"http://{self.headers['Host']}{self.path}"
            reply = handle(Request(self.command, url, dict(self.headers), self.rfile.read(length)))
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """A client that hangs up is not an error of the server."""

    if ":" in host:
        Server.address_family = socket.AF_INET6
    server = Server((host, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{server.server_address[1]}/api"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
