"""Usage totals of a license's days and months, from its sessions.

The register is read once, going back in time (`licensing.rules.usage.Retrospect`): day by day, or several days at once
where they hold few sessions. In memory are the ended sessions of those days, and the sessions that run across the
first midnight.

A day's totals are final once nothing but a correction can change them: each session that touched the day has ended, or
sent a heartbeat since. The license state has the last final day, so that a night's work grows only with new sessions.
Final days count as they were saved, others as their sessions tell.

Programs that ran on after their sessions' ends (`licensing.rules.grace`) are counted by nights alone, also on final
days. A night reads the sessions that tell of such, and once more all sessions of days that have gained some.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import Final

from licensing.errors import ConflictError
from licensing.rules.billing import bounds
from licensing.rules.grace import Tails, closed, is_counted, longest_tail, oldest_open, with_tails
from licensing.rules.model import EndReason, LicenseState, ended_session
from licensing.rules.retention import year_before
from licensing.rules.totals import (
    DayAggregate,
    DayTotals,
    MonthAggregate,
    MonthTotals,
    Pseudonym,
    Totals,
    aggregate_day,
    aggregated_again,
    grace_of_month,
    made_final,
    month_of,
    under_terms,
    with_terms,
)
from licensing.rules.usage import DAY, WAIT, Denial, Retrospect, Use, midnight
from licensing.services.together import together
from licensing.storage.register import TOTALS_ROWS, Register, TotalsState

MOST_DAYS: Final = 8
"""How many days are read at once, at most."""
NOTED: Final = 31 * DAY
"""For how long after it was closed a day is looked at once more, if nights have failed."""
FEW_SESSIONS: Final = 5_000
"""If fewer ended in the days that were read at once, more days are read next, otherwise fewer."""


@dataclass(slots=True)
class OpenSessions:
    """The sessions that were open at a moment, and the instant before which nothing can change any more.

    They are read before the ended ones: a session that ends in between is read twice, and counts as open.
    """

    uses: list[Use]
    final_before: datetime
    _keys: set[tuple[str, datetime]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._keys = {(use.session_id, use.started_at) for use in self.uses}

    def __contains__(self, use: Use) -> bool:
        """Whether a session that is read as ended was open. A session id may come again."""
        return (use.session_id, use.started_at) in self._keys


@dataclass(slots=True)
class LicenseAggregate:
    """The totals of one license to save, and each closed month's distinct pseudonyms, which are never saved.

    `final_day` is the last final day (None: no new one). `correction` was the last correction before reading began, and
    `known_final_day` the last final day then.
    `lost` are those of the months that have lost sessions. `tails` are final totals that have gained tails.
    """

    totals: list[DayTotals | MonthTotals] = field(default_factory=list)
    tails: list[DayTotals | MonthTotals] = field(default_factory=list)
    days: int = 0
    lost: set[str] = field(default_factory=set)
    users: dict[str, set[Pseudonym]] = field(default_factory=dict)
    final_day: date | None = None
    correction: str = ""
    known_final_day: date | None = None


async def open_sessions(
    register: Register, license_id: str, as_of: datetime, *, lapsed_may_go_on: bool = False
) -> OpenSessions:
    """Read the sessions that were open at a moment.

    An active session ends no sooner than its last heartbeat or, if it is borrowed, its lease. A lapsed one counts as
    ended; with `lapsed_may_go_on` it still holds back what is final, since a heartbeat can revive it until it is swept.
    A denial may become a wait for another `WAIT`.
    """
    uses, final_before = [], as_of - WAIT
    async for row in register.active(license_id):
        session = row.value
        lapsed = session.expires_at <= as_of
        if not lapsed or lapsed_may_go_on:
            final_before = min(final_before, session.expires_at if session.borrowed else session.heartbeat_at)
        ended_at = ended_session(session, EndReason.LAPSED, as_of).ended_at if lapsed else None
        uses.append(Use.of(session, ended_at))
    # If the moment lies in the past, some have ended since.
    active = OpenSessions(uses, final_before)
    uses += [replace(use, ended_at=None) async for use in register.ended_uses(license_id, as_of) if use not in active]
    return OpenSessions([use for use in uses if use.started_at < as_of], final_before)


async def days_back(
    register: Register,
    license_id: str,
    oldest: date,
    as_of: datetime,
    present: OpenSessions,
    *,
    from_first_use: bool = False,
) -> AsyncIterator[DayAggregate]:
    """Aggregate every day from that of `as_of`, which is not over, back to `oldest`.

    With `from_first_use`, no day before the first start or denial; none at all if there was none.
    """
    denials: defaultdict[date, list[Denial]] = defaultdict(list)
    async for denial in register.denials(license_id, oldest):
        denials[denial.first_at.date()].append(denial)
    first = oldest
    if from_first_use:
        used = [*denials, *(use.started_at.date() for use in present.uses)]
        if (end := await register.oldest_end(license_id)) is not None:
            used.append(end.date())
        if not used:
            return
        first = max(oldest, min(used))
    retrospect, day, at_once = Retrospect(present.uses), as_of.date(), 1
    while day >= first:
        since, until = max(oldest, day - (at_once - 1) * DAY), min(midnight(day) + DAY, as_of)
        ended: defaultdict[date, list[Use]] = defaultdict(list)
        began, count = until, 0
        async for use in register.ended_uses(license_id, midnight(since), until):
            if use.ended_at is not None and use not in present:
                ended[use.ended_at.date()].append(use)
                began, count = min(began, use.started_at), count + 1
        if from_first_use:
            first = max(oldest, min(first, began.date()))  # sessions begin on earlier days than they end
        while day >= max(since, first):
            # In a thread: a day of many sessions would hold up the event loop.
            yield await asyncio.to_thread(_aggregate, retrospect, day, ended.pop(day, []), denials[day], as_of)
            day -= DAY
        if ended:
            raise ValueError(f"sessions ended on {min(ended)} by their column, and on another day by their key")
        at_once = min(2 * at_once, MOST_DAYS) if count < FEW_SESSIONS else max(at_once // 2, 1)


def _aggregate(
    retrospect: Retrospect, day: date, ended: list[Use], denials: list[Denial], as_of: datetime
) -> DayAggregate:
    return aggregate_day(day, retrospect.day(day, ended), denials, as_of)


async def uses_between(
    register: Register, license_id: str, since: datetime, until: datetime, as_of: datetime, present: OpenSessions
) -> list[Use]:
    """The sessions that ran in `since` ≤ t < `until`, as known at a moment."""
    ended = register.ended_uses(license_id, since, as_of)
    uses = [use async for use in ended if use.started_at < until and use not in present]
    return uses + [use for use in present.uses if use.started_at < until]


async def uses_in(register: Register, license_id: str, month: str, as_of: datetime) -> list[Use]:
    """The sessions of one license in a month."""
    begin, end = bounds(month)
    present = await open_sessions(register, license_id, as_of)
    uses = await uses_between(register, license_id, begin, end, as_of, present)
    return [use for use in uses if use.touches(begin, end, as_of)]


async def _all(totals: AsyncIterator[Totals]) -> list[Totals]:
    return [each async for each in totals]


@dataclass(slots=True)
class SavedTotals:
    """What is saved of a license: how far its totals are final, those of days from one on, and those of all months."""

    known: TotalsState
    state: LicenseState
    days: dict[date, DayTotals]
    months: dict[str, MonthTotals]

    @classmethod
    async def read(
        cls, register: Register, license_id: str, first: date, state: LicenseState | None = None
    ) -> "SavedTotals | None":
        """Read them, and the license's state unless it is given; None where there is no such license."""
        # Read first: totals are saved before they are marked final.
        known = await register.totals_state(license_id)
        if state is None and (stored := await register.state(license_id)) is not None:
            state = stored.value
        if known is None or state is None:
            return None
        days, months = await together(_all(register.days(license_id, first)), _all(register.months(license_id)))
        return cls(known, state, {each.day: each for each in days}, {each.month: each for each in months})

    def counted(self, day: DayAggregate, final: date | None) -> DayAggregate:
        """A day with the totals that count: the saved ones, or if it is later than the last `final` day, its own."""
        saved = self.days.get(day.totals.day)
        if saved is None or final is None or day.totals.day > final:
            return replace(day, totals=aggregated_again(saved, under_terms(day.totals, self.state)))
        if not saved.hour_users:  # the first edition saved neither terms nor how many sessions were carried
            saved = replace(with_terms(saved, self.state), carried=day.totals.carried)
        return replace(day, totals=saved)


async def saved_final_day(register: Register, license_id: str) -> date | None:
    """The last day whose totals are final; None if there is none."""
    known = await register.totals_state(license_id)
    return known.final_day if known else None


def outlives_its_sessions(month: str, as_of: datetime) -> bool:
    """Whether the first sessions of a month are past their year; then its totals stay as they were saved."""
    return midnight(date.fromisoformat(f"{month}-01")) < year_before(as_of)


async def aggregate_license(
    register: Register, license_id: str, as_of: datetime, now: datetime | None = None, *, dry_run: bool = False
) -> LicenseAggregate:
    """Aggregate each closed day and month whose totals are not final; nothing is written.

    `now` is the present time where `as_of` lies in the past: what is final by then is left alone. In a `dry_run` lapsed
    sessions count as swept.
    """
    # Read first, so that `_save` notices a correction of the sessions that are read below.
    known = await register.totals_state(license_id)
    if known is None:
        return LicenseAggregate()
    aggregate = LicenseAggregate(correction=known.correction, known_final_day=known.final_day)
    present = await open_sessions(register, license_id, as_of, lapsed_may_go_on=not dry_run)
    this_month, newest, final = month_of(as_of.date()), as_of.date() - DAY, known.final_day
    from_first_use = final is None
    if final is not None and final >= (now or as_of).date():
        # They were made as of a future time, and lack the sessions since.
        final, first = None, newest.replace(day=1)
    else:
        first = final + DAY if final else date.min
    # A month that closes is aggregated from its sessions, not from its days: people come on several of them.
    oldest = first if month_of(first) == this_month else first.replace(day=1)
    if (state := await register.state(license_id)) is None:
        return aggregate
    open_from = max(oldest_open(state.value.terms, now or as_of), year_before(as_of).date())
    # With some days that are closed, and whole months.
    kept_from = min(oldest, (open_from - NOTED).replace(day=1))
    saved = await SavedTotals.read(register, license_id, kept_from, state.value)
    if saved is None:
        return aggregate
    counted = await _CountedTails.read(register, license_id, saved, present, as_of, open_from, newest, final)
    aggregate.tails = await counted.of_final_days()
    if first > newest:
        return aggregate
    months: dict[str, MonthAggregate] = {}
    async for fresh in days_back(register, license_id, oldest, as_of, present, from_first_use=from_first_use):
        if fresh.totals.day > newest:
            continue
        day = await counted.on(saved.counted(fresh, final))
        if (month := month_of(day.totals.day)) != this_month:
            months.setdefault(month, MonthAggregate(month)).add(day)
        if day.totals.day >= first:
            aggregate.days += 1
            if day.totals.day >= year_before(as_of).date():  # rows of older days are deleted
                aggregate.totals += _to_save(saved.days.get(day.totals.day), day.totals)
    for month, sums in months.items():
        aggregate.users[month] = sums.users
        if sums.lost:
            aggregate.lost.add(month)
        known_month = saved.months.get(month)
        if known_month is None or not outlives_its_sessions(month, as_of):
            aggregate.totals += _to_save(known_month, sums.totals(known_month))
    if aggregate.days:
        aggregate.final_day = max(min(newest, present.final_before.date() - DAY), final or date.min)
    return aggregate


def _to_save(saved: Totals | None, totals: Totals) -> list[Totals]:
    """The totals, if they are to be saved: those without use only in place of saved ones."""
    return [totals] if saved or totals.sessions or totals.denials or totals.grace_seconds else []


@dataclass(slots=True)
class _CountedTails:
    """The tails of a license's sessions on the days from `first` to `last`, and all sessions of days that need them.

    Days up to `final` are final: of these, only some may have gained tails since a night has counted them.
    """

    saved: SavedTotals
    tails: Tails
    as_of: datetime
    first: date
    last: date
    final: date | None
    uses: dict[date, list[Use]]

    @classmethod
    async def read(
        cls,
        register: Register,
        license_id: str,
        saved: SavedTotals,
        present: OpenSessions,
        as_of: datetime,
        first: date,
        last: date,
        final: date | None,
    ) -> "_CountedTails":
        """Read the sessions that have tails, and those of days that must be counted."""
        since = midnight(first) - longest_tail(saved.state.terms)
        tails = Tails.of([use async for use in register.uses_with_tails(license_id, since)])
        found = cls(saved, tails, as_of, first, last, final, {})
        found.uses = {day: [] for day in found._to_count()}
        if found.uses:
            since, until = midnight(min(found.uses)), midnight(max(found.uses)) + DAY
            for use in await uses_between(register, license_id, since, until, as_of, present):
                for day, of_day in found.uses.items():
                    if use.touches(midnight(day), midnight(day) + DAY, as_of):
                        of_day.append(use)
        return found

    def _is_final(self, day: date) -> bool:
        return self.final is not None and day <= self.final

    def _to_count(self) -> set[date]:
        days = {day for day in {*self.tails.days, *self.saved.days} if self.first <= day <= self.last}
        saved = self.saved.days
        final = {day for day in days if self._is_final(day)}
        counted = {day for day in final if day in saved and is_counted(saved[day], self.tails)}
        return final - counted | (self.tails.days & (days - final))

    async def on(self, day: DayAggregate) -> DayAggregate:
        """A day with its tails, if it is not final; a final day has its own."""
        if self._is_final(day.totals.day):
            return day
        if day.totals.day < self.first:
            return replace(day, totals=closed(day.totals))
        return replace(day, totals=await self._counted(day.totals)) if day.totals.day in self.uses else day

    async def _counted(self, totals: DayTotals) -> DayTotals:
        return await asyncio.to_thread(with_tails, totals, self.tails, self.uses[totals.day], self.as_of)

    async def of_final_days(self) -> list[DayTotals | MonthTotals]:
        """The totals to save of final days and months: nothing but what tells of tails has changed."""
        changed: dict[date, DayTotals] = {}
        for day in filter(self._is_final, self.uses):
            known = self.saved.days.get(day)
            before = known or under_terms(aggregate_day(day, (), (), self.as_of).totals, self.saved.state)
            after = await self._counted(before)
            if after != before and (known or after.grace_seconds):
                changed[day] = after
        months = {month_of(day) for day in changed}
        for day, totals in self.saved.days.items():
            if day < self.first and self._is_final(day) and totals.erased_grace:
                changed[day] = closed(totals)
        self.saved.days |= changed
        return [*changed.values(), *filter(None, map(self._month, sorted(months)))]

    def _month(self, month: str) -> MonthTotals | None:
        """The totals of a month that is final, from those of its days; None if it is not, or keeps less."""
        known = self.saved.months.get(month)
        if not self._is_final(bounds(month)[1].date() - DAY) or outlives_its_sessions(month, self.as_of):
            return None
        days = [totals for day, totals in self.saved.days.items() if month_of(day) == month]
        return replace(known or MonthAggregate(month).totals(), **grace_of_month(days))


async def save_totals(register: Register, license_id: str, aggregate: LicenseAggregate) -> None:
    """Save what was aggregated; idempotent."""
    for start in range(0, len(aggregate.tails), TOTALS_ROWS):
        await _save(register, license_id, aggregate, aggregate.tails[start : start + TOTALS_ROWS], tails=True)
    for start in range(0, len(aggregate.totals), TOTALS_ROWS):
        await _save(register, license_id, aggregate, aggregate.totals[start : start + TOTALS_ROWS])


async def mark_final(register: Register, license_id: str, aggregate: LicenseAggregate) -> None:
    """Save the last final day, after all totals up to it; they no longer tell what erased sessions gave."""
    final = aggregate.final_day
    if final is None:
        return
    days = [each for each in aggregate.totals if isinstance(each, DayTotals) and each.day <= final and each.erased_part]
    days.sort(key=lambda totals: totals.day)
    for start in range(0, len(days), TOTALS_ROWS):
        some = days[start : start + TOTALS_ROWS]
        await _save(register, license_id, aggregate, [*map(made_final, some)], some[-1].day)
    await _save(register, license_id, aggregate, (), final)


async def invalidate_run(register: Register, license_id: str) -> None:
    """Invalidate a nightly run in progress, so that it does not save totals that include erased sessions."""
    while (known := await register.totals_state(license_id)) is not None:
        with suppress(ConflictError):  # a start or an end has changed the license state
            await register.correct(license_id, known)
            return


async def reduce_months(
    register: Register, license_id: str, reduced: Callable[[Iterable[MonthTotals]], list[MonthTotals]]
) -> list[MonthTotals]:
    """Keep less of some months, as `reduced` says; returns these. Corrections that have read more of them start again.

    Nothing is done where there is no such license.
    """
    while (known := await register.totals_state(license_id)) is not None:
        months = reduced([month async for month in register.months(license_id)])
        with suppress(ConflictError):  # a start, an end or a correction has changed the license state
            for start in range(0, len(months), TOTALS_ROWS):
                known = await register.correct(license_id, known, (), months[start : start + TOTALS_ROWS])
            return months
    return []


async def _save(
    register: Register,
    license_id: str,
    aggregate: LicenseAggregate,
    totals: Sequence[DayTotals | MonthTotals],
    final_day: date | None = None,
    *,
    tails: bool = False,
) -> None:
    """Save unless sessions were corrected or erased since they were read: the next run aggregates them again.

    Nor is anything saved once another run has marked days final: what was read before it may be older. With `tails`
    these are final totals; corrections that have read them without their tails start again.
    """
    mine = aggregate.correction, aggregate.known_final_day
    while (known := await register.totals_state(license_id)) and (known.correction, known.final_day) == mine:
        with suppress(ConflictError):  # a start or an end has changed the license state
            if tails:
                aggregate.correction = (await register.correct(license_id, known, (), totals)).correction
            else:
                await register.save_totals(license_id, known, totals, final_day)
            aggregate.known_final_day = final_day or aggregate.known_final_day
            return
