"""Faults: what went wrong that nobody asked for. Refusals are values (`licensing_client.reasons`), not
faults.

ClientError
├── TokenError      a license file or a lease is not genuine; `.flaw` says in which way
├── ExchangeError      the network gave no reply; `.step` says how far it came
└── SeatRefused     a `with` block was not entered, since there is no seat; `.reason` says why
"""

from enum import Enum

from licensing_client.reasons import Reason


class ClientError(Exception):
    """Root of all faults. Its text is for people and holds no secret and nothing personal."""


class Flaw(str, Enum):
    """In which way a token is not what it claims to be."""

    DAMAGED = "damaged"
    FORGED = "forged"
    UNKNOWN_KEY = "unknown-key"
    WRONG_TYPE = "wrong-type"
    MALFORMED = "malformed"
    OVERSIZE = "oversize"
    FOREIGN = "foreign"


class TokenError(ClientError):
    """A token is refused before anything that it says is believed."""

    def __init__(self, flaw: Flaw, explanation: str) -> None:
        super().__init__(explanation)
        self.flaw = flaw


class Step(str, Enum):
    """How far an exchange came before it failed, in the order in which it goes."""

    DNS = "dns"
    CONNECT = "connect"
    PROXY = "proxy"
    TLS = "tls"
    SERVICE = "service"


class ExchangeError(ClientError):
    """No reply came. The request may or may not have reached the service."""

    def __init__(self, step: Step, explanation: str) -> None:
        super().__init__(explanation)
        self.step = step


class SeatRefused(ClientError):
    """The program may not run."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason
