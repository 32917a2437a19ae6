"""From the sessions of a license to the usage totals of its days and months.

The register is read day by day, going back in time (`licensing.rules.usage.Retrospect`). Never more than one day of
ended sessions is in memory, besides those that run across its midnight.

A day's totals are final once nothing that happens later can change them: every session that touched the day has ended,
or has been heard of since. The license state keeps the last final day, so that the work of a night grows with what is
new and not with what is kept.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from typing import TypeVar

from licensing.errors import ConflictError
from licensing.rules.model import EndReason, ended_session
from licensing.rules.retention import year_before
from licensing.rules.totals import (
    DayAggregate,
    DayTotals,
    MonthAggregate,
    MonthTotals,
    aggregate_day,
    month_of,
    with_denials_of,
)
from licensing.rules.usage import DAY, WAIT, Denial, Retrospect, Use, midnight
from licensing.storage.register import TOTALS_ROWS, Register, TotalsState

AnyTotals = TypeVar("AnyTotals", DayTotals, MonthTotals)


@dataclass(frozen=True, slots=True)
class OpenSessions:
    """The sessions that had not ended at a moment, and the instant before which nothing can change any more.

    They are read before those that have ended. A session that ends in between is read twice: it cannot be missed, and
    `ended` keeps it from being counted twice.
    """

    uses: list[Use]
    final_before: datetime

    def ended(self, uses: Iterable[Use]) -> list[Use]:
        """Of sessions that have ended, those that had ended at that moment. (A session id may come again.)"""
        still_open = {(use.session_id, use.started_at) for use in self.uses}
        return [use for use in uses if (use.session_id, use.started_at) not in still_open]


@dataclass(slots=True)
class LicenseAggregate:
    """What was aggregated of one license: the totals to save, and what its organization needs of it.

    `final_day` is the last day whose totals are final (None: no new one). `users` are each closed month's distinct
    pseudonyms; they are never stored. `correction` is the last correction that was known when reading began.
    """

    totals: list[DayTotals | MonthTotals] = field(default_factory=list)
    days: int = 0
    users: dict[str, set[str]] = field(default_factory=dict)
    final_day: date | None = None
    correction: str = ""


# Reading.


async def open_sessions(register: Register, license_id: str, as_of: datetime) -> OpenSessions:
    """Read the sessions that were open at a moment.

    An active session will have ended no sooner than its last heartbeat or, if it is borrowed, its lease: before the
    earliest of those, nothing can change any more. A lapsed one counts as ended. A start that was refused a moment ago
    may yet turn out to have waited.
    """
    uses, final_before = [], as_of - WAIT
    async for row in register.active(license_id):
        session = row.value
        if session.expires_at <= as_of:
            uses.append(Use.of(session, ended_session(session, EndReason.LAPSED, as_of).ended_at))
        else:
            final_before = min(final_before, session.expires_at if session.borrowed else session.heartbeat_at)
            uses.append(Use.of(session))
    # Where the moment lies in the past, some have ended since.
    since = OpenSessions(uses, final_before).ended([use async for use in register.uses(license_id, as_of)])
    uses += [replace(use, ended_at=None) for use in since]
    return OpenSessions([use for use in uses if use.started_at < as_of], final_before)


async def days_back(
    register: Register, license_id: str, oldest: date, as_of: datetime, present: OpenSessions
) -> AsyncIterator[DayAggregate]:
    """Aggregate every day from that of `as_of`, which is not over, back to `oldest`."""
    refused = await _denials(register, license_id, oldest)
    retrospect = Retrospect(present.uses)
    day = as_of.date()
    while day >= oldest:
        until = min(midnight(day) + DAY, as_of)
        ended = [use async for use in register.uses(license_id, midnight(day), until)]
        yield aggregate_day(day, retrospect.day(day, present.ended(ended)), refused[day], as_of)
        day -= DAY


async def uses_between(
    register: Register, license_id: str, since: datetime, until: datetime, as_of: datetime, present: OpenSessions
) -> list[Use]:
    """The sessions that ran at some time in `since` ≤ t < `until`, as known at a moment."""
    ended = [use async for use in register.uses(license_id, since, as_of) if use.started_at < until]
    return present.ended(ended) + [use for use in present.uses if use.started_at < until]


async def users_in(register: Register, license_id: str, month: str, as_of: datetime) -> set[str]:
    """The distinct pseudonyms of a month's users on one license."""
    first = date.fromisoformat(f"{month}-01")
    present = await open_sessions(register, license_id, as_of)
    users: set[str] = set()
    async for day in days_back(register, license_id, first, as_of, present):
        if month_of(day.totals.day) == month:
            users |= day.users
    return users


async def first_day(register: Register, license_id: str, present: OpenSessions) -> date | None:
    """The first day on which anything happened; needed once in a license's life."""
    first = min((use.started_at for use in present.uses), default=None)
    async for _, started_at in register.ended_starts(license_id):
        first = min(first or started_at, started_at)
    async for denial in register.denials(license_id):
        return min(first or denial.first_at, denial.first_at).date()  # denials go by date
    return first.date() if first else None


async def final_day(register: Register, license_id: str) -> date | None:
    """The last day whose totals are final; None where there is none."""
    known = await register.totals_state(license_id)
    return known.final_day if known else None


def outlives_its_sessions(month: str, as_of: datetime) -> bool:
    """Whether the first sessions of a month are past their year. Its totals were made before, and stay."""
    return midnight(date.fromisoformat(f"{month}-01")) < year_before(as_of)


async def _denials(register: Register, license_id: str, oldest: date) -> dict[date, list[Denial]]:
    refused: defaultdict[date, list[Denial]] = defaultdict(list)
    async for denial in register.denials(license_id, oldest):
        refused[denial.first_at.date()].append(denial)
    return refused


# Aggregating.


async def aggregate_license(register: Register, license_id: str, as_of: datetime) -> LicenseAggregate:
    """Aggregate every day and month that has closed and whose totals are not final; nothing is written."""
    # First, so that a correction of what is read below does not go unnoticed.
    known = await register.totals_state(license_id)
    final = known.final_day if known else None
    aggregate = LicenseAggregate(correction=known.correction if known else "")
    present = await open_sessions(register, license_id, as_of)
    this_month, newest = month_of(as_of.date()), as_of.date() - DAY
    if final is None:
        first = await first_day(register, license_id, present)
    elif final > newest:
        # They were made as of a time that is yet to come; what has happened since is not in them.
        final, first = None, newest.replace(day=1)
    else:
        first = final + DAY
    if first is None or first > newest:
        return aggregate
    # A month that closes is aggregated from its sessions, not from its days: people come on several of them.
    oldest = first if month_of(first) == this_month else first.replace(day=1)
    saved_days = {totals.day: totals async for totals in register.days(license_id, first)}
    months: dict[str, MonthAggregate] = {}
    async for day in days_back(register, license_id, oldest, as_of, present):
        if day.totals.day > newest:
            continue
        if (month := month_of(day.totals.day)) != this_month:
            months.setdefault(month, MonthAggregate(month)).add(day)
        if day.totals.day >= first:
            aggregate.days += 1
            if day.totals.day >= year_before(as_of).date():  # older days have no row any more
                aggregate.totals += _to_save(saved_days.get(day.totals.day), day.totals)
    for month, sums in months.items():
        aggregate.users[month] = sums.users
        saved = await register.month(license_id, month)
        if saved is None or not outlives_its_sessions(month, as_of):
            aggregate.totals += _to_save(saved, sums.totals())
    aggregate.final_day = max(min(newest, present.final_before.date() - DAY), final or date.min)
    return aggregate


def _to_save(saved: AnyTotals | None, totals: AnyTotals) -> list[AnyTotals]:
    """What is to be saved: without use there is no row, unless there was one before."""
    if saved:
        return [with_denials_of(saved, totals)]
    return [totals] if totals.sessions or totals.denials else []


# Saving.


async def save_totals(register: Register, license_id: str, aggregate: LicenseAggregate) -> None:
    """Save what was aggregated. Idempotent: the same days come out the same."""
    for start in range(0, len(aggregate.totals), TOTALS_ROWS):
        await _save(register, license_id, aggregate, aggregate.totals[start : start + TOTALS_ROWS])


async def mark_final(register: Register, license_id: str, aggregate: LicenseAggregate) -> None:
    """Note the last final day, once all that rests on it is saved."""
    if aggregate.final_day is not None:
        await _save(register, license_id, aggregate, (), aggregate.final_day)


async def invalidate_run(register: Register, license_id: str) -> None:
    """Invalidate a nightly run in progress, so that it does not save totals that include erased sessions."""

    async def correct(known: TotalsState) -> None:
        await register.correct(license_id, known)

    await _with_totals_state(register, license_id, correct)


async def _save(
    register: Register,
    license_id: str,
    aggregate: LicenseAggregate,
    totals: Sequence[DayTotals | MonthTotals],
    final_day: date | None = None,
) -> None:
    """Save, but not if sessions were corrected or erased since they were read: the next run aggregates them again."""

    async def save(known: TotalsState) -> None:
        if known.correction == aggregate.correction:
            await register.save_totals(license_id, known, totals, final_day)

    await _with_totals_state(register, license_id, save)


async def _with_totals_state(
    register: Register, license_id: str, write: Callable[[TotalsState], Awaitable[None]]
) -> None:
    """Write on how far a license's totals are final, again where that has changed meanwhile."""
    while (known := await register.totals_state(license_id)) is not None:
        try:
            await write(known)
        except ConflictError:
            continue  # a start or an end came in between
        return
