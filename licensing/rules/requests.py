"""What is asked of a license's seats, and the closed set of outcomes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from licensing.rules.license import Refusal
from licensing.rules.model import EndReason, Person, Session, Terms, Versioned

SESSION_ID: Final = r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
"""The form of a session id: a UUID, which the register holds in lower case."""


@dataclass(frozen=True, slots=True)
class Start:
    """A program starts. `persons` is its caller under each pepper in use, the current pepper first."""

    session_id: str
    terms: Terms
    persons: tuple[Person, ...]
    borrow_seconds: int = 0


@dataclass(frozen=True, slots=True)
class End:
    """A session ends: its program says so, or an operator releases it."""

    session_id: str
    reason: EndReason = EndReason.ENDED


@dataclass(frozen=True, slots=True)
class Lapse:
    """A session was judged to have lapsed. It ends if it has lapsed now and its row has not changed since."""

    row: Versioned[Session]

    @property
    def session_id(self) -> str:
        """The session's id."""
        return self.row.value.id


Request = Start | End | Lapse


@dataclass(frozen=True, slots=True)
class Granted:
    """The program may run until `expires_at`. `repeat`: the same start was granted before.

    `session` is None where nothing is recorded.
    """

    session: Session | None
    expires_at: datetime
    repeat: bool = False


@dataclass(frozen=True, slots=True)
class Refused:
    """The license or its state refuses the program."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Full:
    """All seats are held; the program may ask again after `retry_seconds`."""

    retry_seconds: int


@dataclass(frozen=True, slots=True)
class ForeignSession:
    """The session id belongs to another user or host."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The session has ended: by this request (`now`), or before it."""

    now: bool


Outcome = Granted | Refused | Full | ForeignSession | Ended
