"""The protocol's calls (docs/protocol.md): a call in, an `Answer` out, whatever the network does."""

import datetime
import json
import secrets
from collections.abc import Callable
from typing import Any

from licensing_client import replies
from licensing_client.answers import Answer, CurrentFile, Gone, NoAnswer, NoNewerFile
from licensing_client.errors import ExchangeError
from licensing_client.identity import Person
from licensing_client.lease import Lease
from licensing_client.license import License
from licensing_client.machine import Call, End, Heartbeat, Report, Start
from licensing_client.transport import Cancellation, Reply, Request, Transport

NONCE_BYTES = 24


def _utc(seconds: int) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


class Service:
    """The license service, for one license and one person."""

    def __init__(self, license: License, person: Person, transport: Transport, base_url: str | None = None) -> None:
        """`base_url`: the URL before `/sessions`, if it is not the license's own `service`."""
        self._license = license
        self.person = person
        self._transport = transport
        self.base_url = (base_url or license.service).rstrip("/")

    def under(self, license: License) -> "Service":
        """The same service for another file of the license: starts send it, and its keys verify leases."""
        return Service(license, self.person, self._transport, self.base_url)

    def ask(
        self, call: Call, timeout_seconds: float, cancellation: Cancellation, person: Person | None = None
    ) -> Answer:
        """Make a call of the machine's, within a time limit. `person`: whom a start names, if not this one."""
        nonce = secrets.token_urlsafe(NONCE_BYTES)
        match call:
            case Start(session_id):
                body = self._start_body(call, person or self.person, nonce)
                reply = self._send("POST", "/sessions", timeout_seconds, cancellation, body=body)
                read_reply: Callable[..., Answer] = replies.to_start
            case Heartbeat(lease):
                session_id = lease.session_id
                path = f"/sessions/{session_id}/heartbeat"
                reply = self._send("PUT", path, timeout_seconds, cancellation, lease=lease, body={"nonce": nonce})
                read_reply = replies.to_heartbeat
            case End(lease):
                reply = self._send(
                    "DELETE", f"/sessions/{lease.session_id}", timeout_seconds, cancellation, lease=lease
                )
                return reply if isinstance(reply, NoAnswer) else replies.to_end(reply)
            case Report(lease, ran_until):
                path, body = f"/sessions/{lease.session_id}/ended", {"ran_until": _utc(ran_until)}
                reply = self._send("POST", path, timeout_seconds, cancellation, lease=lease, body=body)
                return reply if isinstance(reply, NoAnswer) else replies.to_report(reply)
        return reply if isinstance(reply, NoAnswer) else read_reply(reply, self._license, session_id, nonce)

    def _start_body(self, call: Start, person: Person, nonce: str) -> dict[str, Any]:
        body: dict[str, Any] = {
            "license": self._license.token,
            "session": call.session_id,
            "user": person.user,
            "host": person.host,
            "nonce": nonce,
        }
        if call.wait:
            body["wait"] = True
        if call.borrow_seconds:
            body["borrow_seconds"] = call.borrow_seconds
        if call.replaces is not None:
            body["replaces"] = call.replaces.token
            if call.ran_until is not None:
                body["ran_until"] = _utc(call.ran_until)
        return body

    def read(self, lease: Lease, timeout_seconds: float) -> dict[str, Any] | Gone | NoAnswer:
        """The register's data on a session."""
        reply = self._send("GET", f"/sessions/{lease.session_id}", timeout_seconds, Cancellation(), lease=lease)
        return reply if isinstance(reply, NoAnswer) else replies.to_read(reply)

    def current(self, timeout_seconds: float, cancellation: Cancellation) -> CurrentFile | NoNewerFile | NoAnswer:
        """The newest file of the license that the service keeps, if that is newer than this one."""
        body = {"license": self._license.token}
        reply = self._send("POST", "/licenses/current", timeout_seconds, cancellation, body=body)
        return reply if isinstance(reply, NoAnswer) else replies.to_current(reply)

    def health(self, timeout_seconds: float) -> NoAnswer | None:
        """None if the service is healthy and can be reached, otherwise the step that failed."""
        reply = self._send("GET", "/health", timeout_seconds, Cancellation())
        return reply if isinstance(reply, NoAnswer) else replies.to_health(reply)

    def _send(
        self,
        method: str,
        path: str,
        timeout_seconds: float,
        cancellation: Cancellation,
        *,
        lease: Lease | None = None,
        body: dict[str, Any] | None = None,
    ) -> Reply | NoAnswer:
        headers = {} if lease is None else {"Authorization": f"Bearer {lease.token}"}
        data = b"" if body is None else json.dumps(body, separators=(",", ":")).encode()
        try:
            return self._transport.exchange(
                Request(method, self.base_url + path, headers, data), max(timeout_seconds, 0.0), cancellation
            )
        except ExchangeError as error:
            return NoAnswer(error.step, str(error))
