"""How many starts were refused this month, as the customer's report tells it: for the customer's monitoring.

The month is that of the newest day that is reported. So its last day counts for a day, before the next month begins.

All processes change the number at the same quarter of an hour: monitoring takes a counter that goes back, since another
process answers, for one that began anew.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from licensing.rules.totals import month_of
from licensing.rules.usage import midnight
from licensing.services.reports import Reports, newest_day
from licensing.services.shared_reads import SharedReads

QUARTER: Final = timedelta(minutes=15)
"""For how long one reading serves all callers."""


@dataclass(frozen=True, slots=True)
class MonthRefusals:
    """How many starts of a license were refused since the beginning of a month (UTC)."""

    number: int
    since: datetime


class Refusals:
    """The refusals of this month. `clock` gives the present time, UTC."""

    def __init__(self, reports: Reports, clock: Callable[[], datetime]) -> None:
        self._reports = reports
        self._clock = clock
        self._shared = SharedReads(QUARTER.total_seconds(), clock, self._read)

    async def of_organization(self, organization_id: str) -> Mapping[str, MonthRefusals]:
        """The refusals of an organization's licenses that are reported, by license.

        Raises UnavailableError if the store does not answer.
        """
        now = self._clock()
        return await self._shared.get((organization_id, now - (now - midnight(now.date())) % QUARTER))

    async def _read(self, key: tuple[str, datetime]) -> Mapping[str, MonthRefusals]:
        """The refusals of an organization's licenses as of the beginning of a quarter of an hour."""
        organization_id, as_of = key
        reading = await self._reports.cached(organization_id)
        if reading.at < as_of:
            reading = await self._reports.read(organization_id)
        newest = {
            license_id: newest_day(as_of, state.terms.lease_seconds)
            for license_id, (state, _) in reading.licenses.items()
        }
        if not newest:
            return {}
        first = min(newest.values()).replace(day=1)
        report = self._reports.report(reading, first, max(newest.values()), ZoneInfo("UTC"))
        found = {}
        for usage in report.licenses:
            last = newest[usage.id]
            of_month = (day for day in usage.days if day.day <= last and month_of(day.day) == month_of(last))
            found[usage.id] = MonthRefusals(sum(day.denials for day in of_month), midnight(last.replace(day=1)))
        return found
