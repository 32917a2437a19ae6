"""The possible results of a call to the service: a closed set of values.

`Granted`, `Refused`, `Gone`, `Unaccepted`, `Ended`, `CurrentFile` and `NoNewerFile` come from the service. Each counts
only for the calls that it can answer. `NoAnswer` is everything else, from a broken cable to a captive portal's page. It
proves nothing.
"""

from dataclasses import dataclass, field

from licensing_client.errors import Step
from licensing_client.lease import Lease
from licensing_client.reasons import Reason


@dataclass(frozen=True, slots=True)
class Seats:
    """Seats in use, seats in all, and how many wait in line for one (0 from older services)."""

    in_use: int
    total: int
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class Policy:
    """The service's privacy policy. Users should learn of a new `version`."""

    version: str
    url: str


@dataclass(frozen=True, slots=True)
class Granted:
    """The program may run until the lease expires. `recorded`: the register holds the session.

    `license_serial`: the serial of the terms in force; None from older services.
    """

    lease: Lease
    heartbeat_seconds: int
    recorded: bool
    seats: Seats | None = None
    policy: Policy | None = None
    license_serial: int | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The service refuses. `retry_after`: seconds until the next call, None for no further call.

    `position`: the place in line, 1 is next; None without a place.
    """

    reason: Reason
    retry_after: int | None = None
    policy: Policy | None = None
    position: int | None = None
    seats: Seats | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """The session cannot be used, or not any more. The program has to start another."""


@dataclass(frozen=True, slots=True)
class Unaccepted:
    """The service does not accept the lease. The session may be active all the same."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The session has ended, now or earlier."""


@dataclass(frozen=True, slots=True)
class CurrentFile:
    """The newest license file that the service keeps: a signed text, not verified yet."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class NoNewerFile:
    """The service keeps no license file that is newer."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """No valid answer came. `step`: the step that failed; `detail`: a sentence for people."""

    step: Step
    detail: str
    retry_after: int | None = None


Answer = Granted | Refused | Gone | Unaccepted | Ended | NoAnswer
