"""What is asked of a license's seats, and the closed set of outcomes."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from licensing.rules.license import Refusal
from licensing.rules.model import BEGINNING, EndReason, KeptFile, Person, Session, Terms, Versioned

SESSION_ID: Final = r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
"""The form of a session id: a UUID, which the register holds in lower case."""


@dataclass(frozen=True, slots=True)
class Start:
    """A program starts. `persons` is its caller under each pepper in use, the current pepper first.

    `replaces` is the session that it follows, whose program ran until `ran_until` (UTC) as far as it is known. `file`
    is the license file that it brings, sealed; None for one that the register must not keep. `wait`: it gets a place in
    line if there is no seat.
    """

    session_id: str
    terms: Terms
    persons: tuple[Person, ...]
    borrow_seconds: int = 0
    replaces: str | None = None
    ran_until: datetime | None = None
    wait: bool = False
    file: KeptFile | None = field(default=None, compare=False)  # sealed anew each time


@dataclass(frozen=True, slots=True)
class End:
    """A session ends: its program says so, or an operator frees its seat."""

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


@dataclass(frozen=True, slots=True)
class Recall:
    """An operator wants a seat back: the session's lease is not extended any more."""

    session_id: str


Request = Start | End | Lapse | Recall


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The session runs at `at`, and its lease ends at `expires_at` (UTC).

    `lapses_at` is when its seat may be given away, never before its lease ends. `borrowed`: whether the seat is
    borrowed from now on; None where that stays as it is.
    """

    session_id: str
    at: datetime
    expires_at: datetime
    lapses_at: datetime = BEGINNING
    borrowed: bool | None = None

    def __post_init__(self) -> None:
        """Lapse at the end of the lease, unless a later time is given."""
        object.__setattr__(self, "lapses_at", max(self.lapses_at, self.expires_at))


@dataclass(frozen=True, slots=True)
class Granted:
    """The program may run until `expires_at`. `repeat`: the same start was granted before.

    `session` is None where nothing is recorded. `offered` is until when the lease lasts that the first heartbeat gets;
    None where no lasting one is offered (docs/adr/0005).
    """

    session: Session | None
    expires_at: datetime
    repeat: bool = False
    offered: datetime | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """The license or its state refuses the program."""

    refusal: Refusal


@dataclass(frozen=True, slots=True)
class Full:
    """No seat is free for the program; it may ask again after `retry_seconds`.

    `position`: where it stands in line, 1 for the first; None without a place. `waiting`: how many have one.
    """

    retry_seconds: int
    position: int | None = None
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class ForeignSession:
    """The session id belongs to another user or host."""


@dataclass(frozen=True, slots=True)
class Ended:
    """The session has ended: by this request (`now`), or before it."""

    now: bool


@dataclass(frozen=True, slots=True)
class Recalled:
    """The session is recalled; it is free when its program has ended, or when it has lapsed."""

    session: Session


@dataclass(frozen=True, slots=True)
class TooManyRecalls:
    """The license state has no room for another recall."""


Outcome = Granted | Refused | Full | ForeignSession | Ended | Recalled | TooManyRecalls
