"""Errors. A refusal is a value (`licensing_client.reasons`), not an error.

ClientError
├── TokenError       a license file or a lease fails verification; `.flaw` says how
├── ExchangeError    the network gave no reply; `.step` says which step failed
└── SeatRefused      a `with` block was not entered, since there is no seat; `.reason` says why
"""

from enum import Enum

from licensing_client.reasons import Reason


class ClientError(Exception):
    """Root of all errors. Its text is for people, and holds no secret and no personal data."""


class Flaw(str, Enum):
    """How a token fails verification."""

    DAMAGED = "damaged"
    FORGED = "forged"
    UNKNOWN_KEY = "unknown-key"
    WRONG_TYPE = "wrong-type"
    MALFORMED = "malformed"
    OVERSIZE = "oversize"
    FOREIGN = "foreign"


class TokenError(ClientError):
    """A token fails verification. None of its claims is used."""

    def __init__(self, flaw: Flaw, explanation: str) -> None:
        super().__init__(explanation)
        self.flaw = flaw


class Step(str, Enum):
    """The steps of an exchange, in their order."""

    DNS = "dns"
    CONNECT = "connect"
    PROXY = "proxy"
    TLS = "tls"
    SERVICE = "service"


class ExchangeError(ClientError):
    """No reply came. The service may have received the request all the same."""

    def __init__(self, step: Step, explanation: str) -> None:
        super().__init__(explanation)
        self.step = step


class SeatRefused(ClientError):
    """The program may not run."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason
