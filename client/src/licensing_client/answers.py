"""What can come of asking the service: a closed set of values, which the rest decides on.

`Granted`, `Refused`, `Gone`, `Unaccepted` and `Ended` are the service's own words, each believed only for the call that
it may answer. Everything else, from a cut cable to a captive portal's page, is `NoAnswer`: it proves
nothing.
"""

from dataclasses import dataclass

from licensing_client.errors import Step
from licensing_client.lease import Lease
from licensing_client.reasons import Reason


@dataclass(frozen=True, slots=True)
class Seats:
    """How many seats are in use, of how many."""

    in_use: int
    total: int


@dataclass(frozen=True, slots=True)
class Policy:
    """The privacy policy that the service follows; a new `version` is worth telling the user."""

    version: str
    url: str


@dataclass(frozen=True, slots=True)
class Granted:
    """The program may run as long as the lease says. `recorded`: whether the register holds the session."""

    lease: Lease
    heartbeat_seconds: int
    recorded: bool
    seats: Seats | None = None
    policy: Policy | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The service says no. `retry_after`: seconds until it is worth asking again, or None: it is not."""

    reason: Reason
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class Gone:
    """This session cannot go on, or, at a start, cannot be: another has to be started."""


@dataclass(frozen=True, slots=True)
class Unaccepted:
    """The lease is not accepted, perhaps since it was damaged on its way. Of its session that says nothing."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The session has ended, now or before."""


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """Nothing that proves anything. `step` is how far it came, `detail` is for people."""

    step: Step
    detail: str
    retry_after: int | None = None


Answer = Granted | Refused | Gone | Unaccepted | Ended | NoAnswer
