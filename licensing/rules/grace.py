"""Programs that ran on after their sessions' ends, since they could not reach the service.

A program says afterwards until when it ran (`ran_until` of its ended session). The rules:

- What it says is cut to now and to the end of its lease and grace. The greatest of what was heard counts.
- The time from the session's end to then is its *tail*. Each day counts its part of it (`grace_seconds`).
- A tail is heard of in time until the license's grace and `HEARD_WITHIN` after the day of the session's end. What comes
  later is late: it counts in the month in which it is heard, and on no day.
- Nights count tails for another `COUNTED_WITHIN`. After that a day's numbers stay.
- They do not fall by an erasure. After a correction, the tail begins at the corrected end.

Left to others: finding a session (`licensing.services.late_ends`), reading and saving (`licensing.services.totals`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from typing import Final

from licensing.rules.license import USUAL_GRACE
from licensing.rules.model import EndedSession, Terms
from licensing.rules.totals import SECOND, DayTotals, distinct, peaks
from licensing.rules.usage import DAY, Use, midnight, runs

HEARD_WITHIN: Final = 4 * DAY
COUNTED_WITHIN: Final = 4 * DAY
"""For so long after that nights count what was heard in time: some of them may fail."""


def is_in_time(ended_at: datetime, terms: Terms, now: datetime) -> bool:
    """Whether the tail of a session that ended then still counts on its days."""
    return now < midnight(ended_at.date()) + DAY + terms.grace + HEARD_WITHIN


def oldest_open(terms: Terms, as_of: datetime) -> date:
    """The oldest day whose tails are still counted."""
    return (as_of - terms.grace - HEARD_WITHIN - COUNTED_WITHIN).date()


def longest_tail(terms: Terms) -> timedelta:
    """How long a tail can be that was heard in time: it is over when it is heard."""
    return DAY + max(terms.grace, timedelta(seconds=USUAL_GRACE)) + HEARD_WITHIN


def heard(
    ended: EndedSession, ran_until: datetime, terms: Terms, now: datetime
) -> tuple[EndedSession, timedelta] | None:
    """An ended session whose program is heard to have run until then, and how much of it is late.

    None if that says nothing new.
    """
    if ended.late_until is None and is_in_time(ended.ended_at, terms, now):
        known = ended.ran_until or ended.ended_at
        return (replace(ended, ran_until=ran_until), timedelta()) if ran_until > max(known, ended.ended_at) else None
    known = max(each for each in (ended.ended_at, ended.ran_until, ended.late_until) if each)
    return (replace(ended, late_until=ran_until), ran_until - known) if ran_until > known else None


@dataclass(slots=True)
class Tails:
    """Sessions whose programs ran on, by the days on which these ran."""

    _by_day: defaultdict[date, list[Use]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def of(cls, uses: Iterable[Use]) -> "Tails":
        """The tails of some sessions, each given once."""
        tails = cls()
        for use in uses:
            if use.tail is None:
                continue
            day, until = use.tail[0].date(), use.tail[1]
            while midnight(day) < until:
                tails._by_day[day].append(use)
                day += DAY
        return tails

    @property
    def days(self) -> set[date]:
        """The days on which programs ran on."""
        return {*self._by_day}

    def on(self, day: date) -> Sequence[Use]:
        """The sessions whose programs ran on on a day."""
        return self._by_day.get(day, ())

    def seconds(self, day: date) -> int:
        """For how long they ran on, together, on a day."""
        begin, end = midnight(day), midnight(day) + DAY
        cut = ((max(use.tail[0], begin), min(use.tail[1], end)) for use in self.on(day) if use.tail)
        return round(sum((until - since for since, until in cut), timedelta()) / SECOND)


def is_counted(totals: DayTotals, tails: Tails) -> bool:
    """Whether the totals of a final day say of its tails what they should.

    After a correction they are counted again, since the most programs at once may be others.
    """
    return totals.corrected_at is None and totals.grace_seconds == tails.seconds(totals.day) + totals.erased_grace


def with_tails(totals: DayTotals, tails: Tails, uses: Collection[Use], as_of: datetime) -> DayTotals:
    """The totals of a day with its tails; `uses` are its sessions. What erased ones gave to it stays."""
    day, begin, end = totals.day, midnight(totals.day), midnight(totals.day) + DAY
    programs = {(use.session_id, use.started_at): use for use in (*uses, *tails.on(day))}
    users = distinct((use.pepper, use.user) for use in tails.on(day))
    peak = max(peaks([*runs(programs.values(), begin, end, as_of, tails=True)], begin))
    return replace(
        totals,
        grace_seconds=tails.seconds(day) + totals.erased_grace,
        grace_users=max(users, totals.grace_users) if totals.erased_grace else users,
        ran_peak=max(peak, totals.ran_peak) if totals.erased or totals.erased_grace else peak,
    )


def with_erased(totals: DayTotals, seconds: int) -> DayTotals:
    """The totals of a day whose tails lose so many seconds to an erasure: it notes them, and no number changes."""
    return replace(totals, erased_grace=totals.erased_grace + seconds)


def closed(totals: DayTotals) -> DayTotals:
    """The totals of a day whose tails are counted no more: what erased ones gave is no longer told apart."""
    return replace(totals, erased_grace=0)
