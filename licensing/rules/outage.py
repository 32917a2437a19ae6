"""An outage of the service, and who is spared for it: nobody could be heard meanwhile."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

AMNESTY: Final = timedelta(minutes=6)
"""For so long after an outage nobody lapses whose time ran out since its beginning: a backoff, and time to answer."""


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which the service was away for all programs: `begin` ≤ t < `end` (UTC)."""

    begin: datetime
    end: datetime

    @classmethod
    def until(cls, now: datetime, gap_begin: datetime, last: "Outage | None") -> "Outage":
        """The outage that a gap until now is; the last one goes on if its amnesty was not over when the gap began."""
        return cls(last.begin if last and gap_begin < last.amnesty_end else gap_begin, now)

    @property
    def amnesty_end(self) -> datetime:
        """When everybody who ran during the outage has had time to be heard again."""
        return self.end + AMNESTY


def spared(end: datetime, outage: Outage | None) -> datetime:
    """When a time really runs out that ran out at `end` (UTC): after the amnesty, if that was during an outage."""
    return outage.amnesty_end if outage and outage.begin <= end < outage.amnesty_end else end
