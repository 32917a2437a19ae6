"""The protocol's calls (docs/protocol.md): a request out, an `Answer` back, whatever the network does."""

import json
import secrets
from collections.abc import Callable
from typing import Any

from licensing_client import replies
from licensing_client.answers import Answer, Gone, NoAnswer
from licensing_client.errors import NoExchange
from licensing_client.identity import Person
from licensing_client.lease import Lease
from licensing_client.license import License
from licensing_client.machine import Call, End, Heartbeat, Start
from licensing_client.transport import Line, Reply, Request, Transport

NONCE_BYTES = 24


class Service:
    """The license service, as one license and one person see it."""

    def __init__(self, license: License, person: Person, transport: Transport, base: str | None = None) -> None:
        """`base` is the URL that stands before `/sessions`, where it is not the license's own `service`."""
        self._license = license
        self._person = person
        self._transport = transport
        self.base = (base or license.service).rstrip("/")

    def ask(self, call: Call, seconds: float, line: Line) -> Answer:
        """Make a call that the machine wishes for, in so many seconds at most."""
        nonce = secrets.token_urlsafe(NONCE_BYTES)
        match call:
            case Start(session, borrow):
                body = {
                    "license": self._license.token,
                    "session": session,
                    "user": self._person.user,
                    "host": self._person.host,
                    "nonce": nonce,
                } | ({"borrow_seconds": borrow} if borrow else {})
                reply = self._send("POST", "/sessions", seconds, line, body=body)
                understand: Callable[..., Answer] = replies.to_start
            case Heartbeat(lease):
                session = lease.session
                path = f"/sessions/{session}/heartbeat"
                reply = self._send("PUT", path, seconds, line, lease=lease, body={"nonce": nonce})
                understand = replies.to_heartbeat
            case End(lease):
                reply = self._send("DELETE", f"/sessions/{lease.session}", seconds, line, lease=lease)
                return reply if isinstance(reply, NoAnswer) else replies.to_end(reply)
        return reply if isinstance(reply, NoAnswer) else understand(reply, self._license, session, nonce)

    def read(self, lease: Lease, seconds: float) -> dict[str, Any] | Gone | NoAnswer:
        """All that the register holds on a session."""
        reply = self._send("GET", f"/sessions/{lease.session}", seconds, Line(), lease=lease)
        return reply if isinstance(reply, NoAnswer) else replies.to_read(reply)

    def health(self, seconds: float) -> NoAnswer | None:
        """None where the service is well and can be reached, else how far it came."""
        reply = self._send("GET", "/health", seconds, Line())
        return reply if isinstance(reply, NoAnswer) else replies.to_health(reply)

    def _send(
        self,
        method: str,
        path: str,
        seconds: float,
        line: Line,
        *,
        lease: Lease | None = None,
        body: dict[str, Any] | None = None,
    ) -> Reply | NoAnswer:
        headers = {} if lease is None else {"Authorization": f"Bearer {lease.token}"}
        data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        try:
            return self._transport.exchange(Request(method, self.base + path, headers, data), max(seconds, 0.0), line)
        except NoExchange as fault:
            return NoAnswer(fault.step, str(fault))
