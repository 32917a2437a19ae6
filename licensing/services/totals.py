"""From the sessions of a license to the figures of its days and months.

The register is read day by day, going back in time (`licensing.rules.usage.Retrospect`), in key ranges: never more
than one day of ended sessions is in memory, besides those that run across its midnight.

A day's figures are final once nothing that happens later can change them: every session that touched the day has
ended, or has been heard of since. The head keeps the last day up to which all are (`final_day`), so that the work of
a night grows with what is new and not with what is kept.
"""

import secrets
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

from licensing.errors import ConflictError
from licensing.rules.retention import year_before
from licensing.rules.seats import Reason, depart
from licensing.rules.totals import DayAggregate, DayTotals, MonthAggregate, aggregate_day, with_denials_of
from licensing.rules.usage import DAY, WAIT, Denial, Retrospect, Use, midnight
from licensing.storage import register as rows
from licensing.storage.tables import TRANSACTION_ROWS, Tables, Write, merge

USE_COLUMNS = ("started_at", "ended_at", "user", "host", "holder", "overdraft")


@dataclass(frozen=True, slots=True)
class OpenSessions:
    """The sessions that had not ended at a moment, and until when everything that happened is settled.

    It is read before those that have ended. One that ends in between moves from here to there: so it cannot be missed,
    and `ended` keeps it from being counted twice.
    """

    uses: list[Use]
    settled: datetime

    def ended(self, uses: Iterable[Use]) -> list[Use]:
        """Of sessions that have ended, those that had ended at that moment. (A session's id may come again.)"""
        still = {(use.session, use.started_at) for use in self.uses}
        return [use for use in uses if (use.session, use.started_at) not in still]


@dataclass(slots=True)
class LicenseAggregate:
    """What was aggregated of one license: the writes that keep it, and what its organization needs of it.

    `final` is the last day whose figures cannot change any more (None: none that is new). `users` are each closed
    month's distinct pseudonyms; they are never stored. `correction` is the last one that was known when reading began.
    """

    writes: list[Write] = field(default_factory=list)
    days: int = 0
    users: dict[str, set[str]] = field(default_factory=dict)
    final: date | None = None
    correction: str = ""


@dataclass(frozen=True, slots=True)
class TotalsState:
    """How far a license's figures are final, and the last correction of its sessions, at a version of its head."""

    final: date | None
    correction: str
    version: str


def month_of(day: date) -> str:
    """The month of a day, as `YYYY-MM`."""
    return f"{day:%Y-%m}"


async def open_sessions(tables: Tables, license: str, as_of: datetime) -> OpenSessions:
    """Read the sessions that were open at a moment.

    A session that is active now will have ended no sooner than its last heartbeat or, where it is borrowed, its
    lease: before the earliest of those, nothing can change any more. One that has lapsed is taken as ended. What was
    refused a moment ago may yet turn out to have waited.
    """
    uses, settled = [], as_of - WAIT
    async for row in tables.rows("register", license, rows.ACTIVE, rows.beyond(rows.ACTIVE)):
        known = rows.session_value(row)
        session, use = known.value, rows.use_value(row)
        if session.expires_at <= as_of:
            use = replace(use, ended_at=depart(known, Reason.LAPSED, as_of).ended_at)
        else:
            settled = min(settled, session.expires_at if session.borrowed else session.heartbeat_at)
        uses.append(use)
    # Where the moment lies in the past, some have ended since.
    first, beyond = rows.ended_key(as_of, ""), rows.beyond(rows.ENDED)
    since = tables.rows("register", license, first, beyond, columns=USE_COLUMNS)
    ended = OpenSessions(uses, settled).ended([rows.use_value(row) async for row in since])
    uses += [replace(use, ended_at=None) for use in ended]
    return OpenSessions([use for use in uses if use.started_at < as_of], settled)


async def days_back(
    tables: Tables, license: str, oldest: date, as_of: datetime, present: OpenSessions
) -> AsyncIterator[DayAggregate]:
    """Reckon every day from that of `as_of`, which is not over, back to `oldest`."""
    refused = await _denials(tables, license, oldest)
    retrospect = Retrospect(present.uses)
    day = as_of.date()
    while day >= oldest:
        ended = [use async for use in _ended(tables, license, midnight(day), min(midnight(day) + DAY, as_of))]
        yield aggregate_day(day, retrospect.day(day, present.ended(ended)), refused[day], as_of)
        day -= timedelta(days=1)


async def _ended(tables: Tables, license: str, since: datetime, until: datetime) -> AsyncIterator[Use]:
    first, beyond = rows.ended_key(since, ""), rows.ended_key(until, "")
    async for row in tables.rows("register", license, first, beyond, columns=USE_COLUMNS):
        yield rows.use_value(row)


async def uses_between(
    tables: Tables, license: str, since: datetime, until: datetime, as_of: datetime, present: OpenSessions
) -> list[Use]:
    """The sessions that ran at some time in `since` ≤ t < `until`, as known at a moment."""
    ended = [use async for use in _ended(tables, license, since, as_of) if use.started_at < until]
    return present.ended(ended) + [use for use in present.uses if use.started_at < until]


async def _denials(tables: Tables, license: str, oldest: date) -> dict[date, list[Denial]]:
    refused: defaultdict[date, list[Denial]] = defaultdict(list)
    first, beyond = f"{rows.DENIED}{oldest}", rows.beyond(rows.DENIED)
    async for row in tables.rows("register", license, first, beyond, columns=("first_at",)):
        denial = rows.denial_value(row)
        refused[denial.first_at.date()].append(denial)
    return refused


async def standing(tables: Tables, license: str) -> TotalsState | None:
    """How a license's figures stand; None where there is no such license."""
    head = await tables.get("register", license, rows.HEAD, (rows.FIGURED_TO, rows.CORRECTION))
    if head is None:
        return None
    final = head.columns.get(rows.FIGURED_TO)
    return TotalsState(date.fromisoformat(final) if final else None, head.columns.get(rows.CORRECTION, ""), head.etag)


async def final_day(tables: Tables, license: str) -> date | None:
    """The last day whose figures are final, None where there is none."""
    known = await standing(tables, license)
    return known.final if known else None


async def aggregate_license(tables: Tables, license: str, as_of: datetime) -> LicenseAggregate:
    """Reckon every day and month that has closed and whose figures are not final yet; nothing is written."""
    # First, so that a correction of what is read below does not go unnoticed.
    known = await standing(tables, license)
    final = known.final if known else None
    figured = LicenseAggregate(correction=known.correction if known else "")
    present = await open_sessions(tables, license, as_of)
    this_month, newest = month_of(as_of.date()), as_of.date() - DAY
    if final is None:
        first = await first_day(tables, license, present)
    elif final > newest:
        # They were made as of a time that is yet to come; what has happened since is not in them.
        final, first = None, newest.replace(day=1)
    else:
        first = final + DAY
    if first is None or first > newest:
        return figured
    year_ago = year_before(as_of)
    # A month that closes is aggregated from its sessions, not from its days: people come on several of them.
    oldest = first if month_of(first) == this_month else first.replace(day=1)
    kept = await _kept_days(tables, license, first)
    months: dict[str, MonthAggregate] = {}
    async for day in days_back(tables, license, oldest, as_of, present):
        figures = day.totals
        if figures.day > newest:
            continue
        if (month := month_of(figures.day)) != this_month:
            months.setdefault(month, MonthAggregate(month)).add(day)
        if figures.day >= first:
            figured.days += 1
            before = kept.get(figures.day)
            if before:
                figures = with_denials_of(before, figures)
            # Days without use have no row, unless they had one before it was found that there was none; and those that
            # are older than a year have none any more.
            if (before or figures.sessions or figures.denials) and figures.day >= year_ago.date():
                figured.writes.append(rows.day_figures(figures))
    for name, sums in months.items():
        totals = sums.totals()
        figured.users[name] = sums.users
        row = await tables.get("register", license, rows.month_key(name))
        if row and outlives_its_sessions(name, as_of):
            continue
        if row:
            totals = with_denials_of(rows.month_value(row), totals)
        if row or totals.sessions or totals.denials:
            figured.writes.append(rows.month_figures(totals))
    figured.final = max(min(newest, present.settled.date() - DAY), final or date.min)
    return figured


def reopen(known: TotalsState, first: date) -> Write:
    """The write that has figures from a day on made again; it belongs into the transaction that corrects sessions.

    Its new id keeps a night's run that has read them before from calling its figures final.
    """
    columns = {rows.CORRECTION: secrets.token_urlsafe(9)}
    if known.final is not None and known.final >= first:
        columns[rows.FIGURED_TO] = str(first - timedelta(days=1))
    return merge(rows.HEAD, columns, known.version)


async def invalidate_run(tables: Tables, license: str) -> None:
    """Keep a night's run that has read sessions which have been erased since from keeping figures of them."""
    await _with_head(tables, license, lambda known: [reopen(known, date.max)])


def outlives_its_sessions(month: str, as_of: datetime) -> bool:
    """Whether the first sessions of a month are past their year. Its figures were made before, and are made no more."""
    return midnight(date.fromisoformat(f"{month}-01")) < year_before(as_of)


async def keep(tables: Tables, license: str, figured: LicenseAggregate) -> None:
    """Write what was aggregated. Safe to repeat: the same days come out the same."""
    for start in range(0, len(figured.writes), TRANSACTION_ROWS - 1):
        await _unless_corrected(tables, license, figured, {}, figured.writes[start : start + TRANSACTION_ROWS - 1])


async def finish(tables: Tables, license: str, figured: LicenseAggregate) -> None:
    """Note up to which day figures are final, once all that rests on them is written."""
    if figured.final is not None:
        await _unless_corrected(tables, license, figured, {rows.FIGURED_TO: str(figured.final)})


async def _unless_corrected(
    tables: Tables, license: str, figured: LicenseAggregate, head: dict[str, str], writes: Sequence[Write] = ()
) -> None:
    """Change the head, and other rows with it, but not where sessions were corrected or erased since they were read.

    The next run then makes the figures again.
    """

    def change(known: TotalsState) -> list[Write]:
        return [merge(rows.HEAD, head, known.version), *writes] if known.correction == figured.correction else []

    await _with_head(tables, license, change)


async def _with_head(tables: Tables, license: str, change: Callable[[TotalsState], list[Write]]) -> None:
    """Do what `change` makes of how a license's figures stand, while they stand so; nothing where it makes nothing."""
    while (known := await standing(tables, license)) is not None and (writes := change(known)):
        try:
            await tables.commit("register", license, writes)
        except ConflictError:
            continue  # a start or an end came in between
        return


async def users_in(tables: Tables, license: str, month: str, as_of: datetime) -> set[str]:
    """The distinct pseudonyms of a month's users on one license."""
    first = date.fromisoformat(f"{month}-01")
    present = await open_sessions(tables, license, as_of)
    users: set[str] = set()
    async for day in days_back(tables, license, first, as_of, present):
        if month_of(day.totals.day) == month:
            users |= day.users
    return users


async def first_day(tables: Tables, license: str, present: OpenSessions) -> date | None:
    """The first day on which anything happened; needed once in a license's life."""
    first = min((use.started_at for use in present.uses), default=None)
    ended = tables.rows("register", license, rows.ENDED, rows.beyond(rows.ENDED), columns=("started_at",))
    async for row in ended:
        began = rows.utc(row.columns["started_at"])
        first = min(first or began, began)
    denied = tables.rows("register", license, rows.DENIED, rows.beyond(rows.DENIED), columns=("first_at",))
    async for row in denied:
        began = rows.denial_value(row).first_at
        return min(first or began, began).date()  # the rows go by date
    return first.date() if first else None


async def _kept_days(tables: Tables, license: str, first: date) -> dict[date, DayTotals]:
    kept = tables.rows("register", license, rows.day_key(first), rows.beyond(rows.DAY))
    return {figures.day: figures async for figures in (rows.day_value(row) async for row in kept)}
