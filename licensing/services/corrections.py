"""Corrections and erasures of sessions that have ended, with the saved totals that they touch.

A session and the totals of its days change in one transaction, so that a crash leaves both or neither:

- a final day or month changes by what the correction changed (`rules.totals.corrected_day`, `corrected_month`);
- an erasure changes no total. A final day notes that it has lost sessions; one that is not, also what these gave. While
  tails are still counted (`rules.grace`), a day notes those that it has lost;
- days that are not final are aggregated from their corrected sessions by the next night.

What is final by now should be marked so before (`organization_totals.aggregate_organization`).
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Final

from licensing.errors import ConflictError
from licensing.rules.grace import Tails, oldest_open, with_erased
from licensing.rules.model import EndedSession
from licensing.rules.retention import year_before
from licensing.rules.totals import (
    TERMS,
    DayAggregate,
    DayTotals,
    MonthAggregate,
    MonthTotals,
    aggregate_day,
    aggregated_again,
    corrected_day,
    corrected_month,
    erased_after_final,
    erased_before_final,
    month_of,
    with_terms,
)
from licensing.rules.usage import DAY, Use, midnight
from licensing.services.totals import SavedTotals, open_sessions, outlives_its_sessions, uses_between
from licensing.storage.register import TOTALS_ROWS, Register, StoredEnd

Correction = tuple[StoredEnd, EndedSession | None]
"""An ended session as it is stored, and as it should be; None erases it."""

MOST_SESSIONS: Final = 30
"""How many sessions one transaction changes, at most."""


@dataclass(slots=True)
class Corrected:
    """How many sessions were changed, and which months have final days that changed with them."""

    sessions: int = 0
    months: set[str] = field(default_factory=set)


async def correct_sessions(
    register: Register, license_id: str, corrections: Collection[Correction], as_of: datetime
) -> Corrected:
    """Correct or erase sessions of one license, and what their days' totals say of them.

    A session that retention or another operator has changed since it was read is left out.
    """
    left = sorted(corrections, key=lambda each: each[0].value.session.started_at)
    result = Corrected()
    while left:
        view = await _View.read(register, license_id, left, as_of)
        if view is None:
            break
        # Until somebody else corrects sessions or marks days final, the view stays right.
        while left and await view.commit(some := _that_fit(left), result):
            left = left[len(some) :]
        left = [each for each in left if each[0].row.key not in view.gone]
    return result


def _that_fit(corrections: Sequence[Correction]) -> Sequence[Correction]:
    """As many of the corrections as one transaction takes with the totals of their days; at least one."""
    days: set[date] = set()
    for count, correction in enumerate(corrections[:MOST_SESSIONS]):
        days.update(days_of(correction), _tails_of((correction,)).days)
        # A correction may replace its row by another. Of each month there is one row.
        if count and 2 * (count + 1) + len(days) + len({month_of(day) for day in days}) > TOTALS_ROWS:
            return corrections[:count]
    return corrections[:MOST_SESSIONS]


def _uses_of(correction: Correction) -> Iterator[Use]:
    for ended in (correction[0].value, correction[1]):
        if ended is not None:
            yield Use.of(ended.session, ended.ended_at, ended.ran_until)


def days_of(correction: Correction) -> Iterator[date]:
    """The days that a session touched before its correction, or touches after it."""
    for use in _uses_of(correction):
        yield from _days(use, use.started_at)


def _days(use: Use, as_of: datetime) -> Iterator[date]:
    day, until = use.started_at.date(), use.until(as_of)
    yield day
    while midnight(day := day + DAY) < until:
        yield day


def _tails_of(erasures: Iterable[Correction]) -> Tails:
    """The tails that erasures take; a correction takes none."""
    return Tails.of(use for each in erasures if each[1] is None for use in _uses_of(each))


def _days_of_month(month: str) -> list[date]:
    first = date.fromisoformat(f"{month}-01")
    return [day for number in range(31) if month_of(day := first + number * DAY) == month]


@dataclass(slots=True)
class _View:
    """The sessions of the days that corrections touch, and the totals that are saved of these days."""

    register: Register
    license_id: str
    saved: SavedTotals
    as_of: datetime
    wanted: set[date]
    """The days whose totals must be aggregated to correct what is saved."""
    uses: defaultdict[date, dict[tuple[str, datetime], Use]] = field(default_factory=lambda: defaultdict(dict))
    aggregates: dict[date, DayAggregate] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    """The keys of sessions that somebody else has changed."""

    @classmethod
    async def read(
        cls, register: Register, license_id: str, corrections: Iterable[Correction], as_of: datetime
    ) -> "_View | None":
        """Read what the corrections touch; None where there is no such license."""
        saved = await SavedTotals.read(register, license_id, year_before(as_of).date())
        if saved is None:
            return None
        view = cls(register, license_id, saved, as_of, set())
        for correction in corrections:
            view.wanted |= view._wanted_for(correction)
        if view.wanted:
            since, until = midnight(min(view.wanted)), midnight(max(view.wanted)) + DAY
            present = await open_sessions(register, license_id, as_of)
            for use in await uses_between(register, license_id, since, until, as_of, present):
                view.put(use)
        return view

    def _wanted_for(self, correction: Correction) -> set[date]:
        """The days that are aggregated for a correction: those that change, with the rest of their final months.

        An erasure changes no final day.
        """
        days = {day for day in days_of(correction) if day < self.as_of.date()}
        if correction[1] is None:
            return {day for day in days if not self.is_final(day)}
        final = {day for day in days if self.is_final(day)}
        months = {month_of(day) for day in final if self._month_is_final(month_of(day))}
        return final.union(*map(_days_of_month, months))

    def is_final(self, day: date) -> bool:
        """Whether the totals of a day are final."""
        return self.saved.known.final_day is not None and day <= self.saved.known.final_day

    def put(self, use: Use) -> None:
        """Note a session on its days."""
        for day in _days(use, self.as_of):
            if day in self.wanted:
                self.uses[day][use.session_id, use.started_at] = use

    def day(self, day: date) -> DayAggregate:
        """A day's aggregate from the sessions that are there."""
        if day not in self.aggregates:
            fresh = aggregate_day(day, self.uses[day].values(), (), self.as_of)
            terms = with_terms(self.saved.days.get(day, fresh.totals), self.saved.state)
            # What tells of tails is not compared: a correction leaves it to the next night.
            totals = replace(fresh.totals, ran_peak=0, **{name: getattr(terms, name) for name in TERMS})
            self.aggregates[day] = replace(fresh, totals=totals)
        return self.aggregates[day]

    def month(self, month: str) -> MonthTotals:
        """A month's totals from the sessions that are there."""
        aggregate = MonthAggregate(month)
        for day in self.wanted:
            if month_of(day) == month:
                aggregate.add(self.day(day))
        return aggregate.totals()

    async def commit(self, corrections: Sequence[Correction], result: Corrected) -> bool:
        """Make some corrections and save the totals that change with them; False if the view is stale then."""
        touched = {day for correction in corrections for day in days_of(correction) if day < self.as_of.date()}
        tails = _tails_of(corrections)
        months = {month_of(day) for day in touched if self._month_is_final(month_of(day))}
        erases = corrections[0][1] is None
        days_before = {day: self.day(day).totals for day in touched & self.wanted}
        months_before = {month: self.month(month) for month in months} if not erases else {}
        self._apply(corrections, touched)
        totals: list[DayTotals | MonthTotals] = []
        for day in sorted(touched | tails.days):
            changed = None
            if day in touched:
                changed = self._erased(day, days_before) if erases else self._corrected(day, days_before)
            changed = self._without_tails(day, changed, tails)
            if changed is not None:
                self.saved.days[day] = changed
                totals.append(changed)
                result.months |= {month_of(day)} if not erases else set()
        for month, before in months_before.items():
            changed_month = self._corrected_month(month, before)
            if changed_month is not None:
                self.saved.months[month] = changed_month
                totals.append(changed_month)
        if not await self._write(corrections, totals):
            return False
        result.sessions += len(corrections)
        return True

    def _apply(self, corrections: Iterable[Correction], touched: Iterable[date]) -> None:
        for day in touched:
            self.aggregates.pop(day, None)
        for before, after in corrections:
            for day in days_of((before, after)):
                self.uses[day].pop((before.value.session.id, before.value.session.started_at), None)
            if after is not None:
                self.put(Use.of(after.session, after.ended_at, after.ran_until))

    def _erased(self, day: date, before: dict[date, DayTotals]) -> DayTotals | None:
        """The totals to save of a day that loses sessions to an erasure; None if nothing changes."""
        saved = self.saved.days.get(day)
        if self.is_final(day):
            return erased_after_final(saved) if saved and not saved.erased else None
        known = aggregated_again(saved, before[day])
        return erased_before_final(known, before[day], self.day(day).totals)

    def _without_tails(self, day: date, changed: DayTotals | None, tails: Tails) -> DayTotals | None:
        """The totals to save of a day that also loses tails; `changed` as they are."""
        totals, seconds = changed or self.saved.days.get(day), tails.seconds(day)
        is_open = oldest_open(self.saved.state.terms, self.as_of) <= day < self.as_of.date()
        return with_erased(totals, seconds) if totals and seconds and is_open else changed

    def _corrected(self, day: date, before: dict[date, DayTotals]) -> DayTotals | None:
        """The totals to save of a final day after a correction; None if nothing changes."""
        after = self.day(day).totals if day in before else None
        if after is None or after == before[day] or not self.is_final(day) or day < year_before(self.as_of).date():
            return None
        saved = self.saved.days.get(day) or before[day]
        new = corrected_day(saved, before[day], after, self.as_of)
        return new if replace(new, corrected_at=saved.corrected_at) != saved else None

    def _month_is_final(self, month: str) -> bool:
        return self.is_final(_days_of_month(month)[-1])

    def _corrected_month(self, month: str, before: MonthTotals) -> MonthTotals | None:
        """The totals to save of a final month after a correction; None if nothing changes."""
        saved, after = self.saved.months.get(month), self.month(month)
        if saved is None and not before.sessions:
            saved = before  # a month without use was not saved
        if saved is None or after == before:
            return None
        lost = any(totals.erased for day, totals in self.saved.days.items() if month_of(day) == month)
        whole = not lost and not outlives_its_sessions(month, self.as_of)
        return corrected_month(saved, before, after, whole=whole)

    async def _write(self, corrections: Sequence[Correction], totals: Sequence[DayTotals | MonthTotals]) -> bool:
        """Write all in one transaction, unless the view is stale.

        Of one session that ran for months the last totals are written with it, the others before.
        """
        room = TOTALS_ROWS - 2 * len(corrections)
        parts = [totals[start : start + room] for start in range(0, len(totals), room)] or [()]
        for place, part in enumerate(parts):
            last = place == len(parts) - 1
            if not await self._write_part(corrections if last else (), part):
                return False
        return True

    async def _write_part(self, corrections: Sequence[Correction], totals: Sequence[DayTotals | MonthTotals]) -> bool:
        mine = self.saved.known
        while (known := await self.register.totals_state(self.license_id)) is not None:
            if (known.correction, known.final_day) != (mine.correction, mine.final_day):
                return False
            try:
                self.saved.known = await self.register.correct(self.license_id, known, corrections, totals)
            except ConflictError as conflict:
                if conflict.index is None:  # a start or an end has changed the license state
                    continue
                self.gone.add(corrections[conflict.index][0].row.key)
                return False
            return True
        return False
