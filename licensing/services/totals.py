"""Usage totals of a license's days and months, from its sessions.

The register is read day by day, going back in time (`licensing.rules.usage.Retrospect`). Only one day of ended sessions
is in memory, besides those that run across its midnight.

A day's totals are final once nothing can change them: each session that touched the day has ended, or sent a heartbeat
since. The license state has the last final day, so that a night's work grows only with new sessions.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from licensing.errors import ConflictError
from licensing.rules.model import EndReason, ended_session
from licensing.rules.retention import year_before
from licensing.rules.totals import (
    DayAggregate,
    DayTotals,
    MonthAggregate,
    MonthTotals,
    Totals,
    aggregate_day,
    month_of,
    with_denials_of,
)
from licensing.rules.usage import DAY, WAIT, Denial, Retrospect, Use, midnight
from licensing.storage.register import TOTALS_ROWS, Register


@dataclass(frozen=True, slots=True)
class OpenSessions:
    """The sessions that were open at a moment, and the instant before which nothing can change any more.

    They are read before the ended ones: a session that ends in between is read twice, and `ended` leaves it out.
    """

    uses: list[Use]
    final_before: datetime

    def without_open(self, uses: Iterable[Use]) -> list[Use]:
        """Those of `uses` that had ended at that moment. A session id may come again."""
        were_open = {(use.session_id, use.started_at) for use in self.uses}
        return [use for use in uses if (use.session_id, use.started_at) not in were_open]


@dataclass(slots=True)
class LicenseAggregate:
    """The totals of one license to save, and each closed month's distinct pseudonyms, which are never saved.

    `final_day` is the last final day (None: no new one), `correction` the last correction before reading began.
    """

    totals: list[DayTotals | MonthTotals] = field(default_factory=list)
    days: int = 0
    users: dict[str, set[str]] = field(default_factory=dict)
    final_day: date | None = None
    correction: str = ""


async def open_sessions(register: Register, license_id: str, as_of: datetime) -> OpenSessions:
    """Read the sessions that were open at a moment.

    An active session ends no sooner than its last heartbeat or, if it is borrowed, its lease. A lapsed one counts as
    ended. A denial may become a wait for another `WAIT`.
    """
    uses, final_before = [], as_of - WAIT
    async for row in register.active(license_id):
        session = row.value
        if session.expires_at <= as_of:
            uses.append(Use.of(session, ended_session(session, EndReason.LAPSED, as_of).ended_at))
        else:
            final_before = min(final_before, session.expires_at if session.borrowed else session.heartbeat_at)
            uses.append(Use.of(session))
    # If the moment lies in the past, some have ended since.
    since = OpenSessions(uses, final_before).without_open([use async for use in register.ended_uses(license_id, as_of)])
    uses += [replace(use, ended_at=None) for use in since]
    return OpenSessions([use for use in uses if use.started_at < as_of], final_before)


async def days_back(
    register: Register, license_id: str, oldest: date, as_of: datetime, present: OpenSessions
) -> AsyncIterator[DayAggregate]:
    """Aggregate every day from that of `as_of`, which is not over, back to `oldest`."""
    denials: defaultdict[date, list[Denial]] = defaultdict(list)
    async for denial in register.denials(license_id, oldest):
        denials[denial.first_at.date()].append(denial)
    retrospect = Retrospect(present.uses)
    day = as_of.date()
    while day >= oldest:
        until = min(midnight(day) + DAY, as_of)
        ended = [use async for use in register.ended_uses(license_id, midnight(day), until)]
        yield aggregate_day(day, retrospect.day(day, present.without_open(ended)), denials[day], as_of)
        day -= DAY


async def uses_between(
    register: Register, license_id: str, since: datetime, until: datetime, as_of: datetime, present: OpenSessions
) -> list[Use]:
    """The sessions that ran in `since` ≤ t < `until`, as known at a moment."""
    ended = [use async for use in register.ended_uses(license_id, since, as_of) if use.started_at < until]
    return present.without_open(ended) + [use for use in present.uses if use.started_at < until]


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
    """The day of the first start or denial; needed once in a license's life."""
    first = min((use.started_at for use in present.uses), default=None)
    async for _, started_at in register.ended_starts(license_id):
        first = min(first or started_at, started_at)
    async for denial in register.denials(license_id):
        return min(first or denial.first_at, denial.first_at).date()  # the first denial comes first
    return first.date() if first else None


async def saved_final_day(register: Register, license_id: str) -> date | None:
    """The last day whose totals are final; None if there is none."""
    known = await register.totals_state(license_id)
    return known.final_day if known else None


def outlives_its_sessions(month: str, as_of: datetime) -> bool:
    """Whether the first sessions of a month are past their year; then its totals stay as they were saved."""
    return midnight(date.fromisoformat(f"{month}-01")) < year_before(as_of)


async def aggregate_license(register: Register, license_id: str, as_of: datetime) -> LicenseAggregate:
    """Aggregate each closed day and month whose totals are not final; nothing is written."""
    # Read first, so that `_save` notices a correction of the sessions that are read below.
    known = await register.totals_state(license_id)
    final = known.final_day if known else None
    aggregate = LicenseAggregate(correction=known.correction if known else "")
    present = await open_sessions(register, license_id, as_of)
    this_month, newest = month_of(as_of.date()), as_of.date() - DAY
    if final is None:
        first = await first_day(register, license_id, present)
    elif final > newest:
        # They were made as of a future time, and lack the sessions since.
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
            if day.totals.day >= year_before(as_of).date():  # rows of older days are deleted
                aggregate.totals += _to_save(saved_days.get(day.totals.day), day.totals)
    for month, sums in months.items():
        aggregate.users[month] = sums.users
        saved = await register.month(license_id, month)
        if saved is None or not outlives_its_sessions(month, as_of):
            aggregate.totals += _to_save(saved, sums.totals())
    aggregate.final_day = max(min(newest, present.final_before.date() - DAY), final or date.min)
    return aggregate


def _to_save(saved: Totals | None, totals: Totals) -> list[Totals]:
    """The totals, if they are to be saved: those without use only in place of saved ones."""
    return [with_denials_of(saved, totals)] if saved or totals.sessions or totals.denials else []


async def save_totals(register: Register, license_id: str, aggregate: LicenseAggregate) -> None:
    """Save what was aggregated; idempotent."""
    for start in range(0, len(aggregate.totals), TOTALS_ROWS):
        await _save(register, license_id, aggregate, aggregate.totals[start : start + TOTALS_ROWS])


async def mark_final(register: Register, license_id: str, aggregate: LicenseAggregate) -> None:
    """Save the last final day, after all totals up to it."""
    if aggregate.final_day is not None:
        await _save(register, license_id, aggregate, (), aggregate.final_day)


async def invalidate_run(register: Register, license_id: str) -> None:
    """Invalidate a nightly run in progress, so that it does not save totals that include erased sessions."""
    while (known := await register.totals_state(license_id)) is not None:
        with suppress(ConflictError):  # a start or an end has changed the license state
            await register.correct(license_id, known)
            return


async def _save(
    register: Register,
    license_id: str,
    aggregate: LicenseAggregate,
    totals: Sequence[DayTotals | MonthTotals],
    final_day: date | None = None,
) -> None:
    """Save unless sessions were corrected or erased since they were read: the next run aggregates them again."""
    while (known := await register.totals_state(license_id)) is not None and known.correction == aggregate.correction:
        with suppress(ConflictError):  # a start or an end has changed the license state
            await register.save_totals(license_id, known, totals, final_day)
            return
