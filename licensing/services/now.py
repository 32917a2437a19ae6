"""How the licenses of an organization stand now: for the customer's page, and for its monitoring.

The rules (record 81):

- A license is told of from the day on that the customer's report tells of it. Its product is that of the report.
- Seats in use, seats bought and how many wait are told only where at least `small_group` distinct users were active
  within the last 30 days. Otherwise it is told whether a seat is free, and nothing else.
- Those days are over, and whole: else the moment at which numbers appear or go would tell when somebody began or ended.
- A seat is free if fewer are in use than there are, overdraft included, and nobody waits.
- A license that takes no seats has nothing of this.

One reading of a license's state serves all callers of this process for `NOW_SECONDS`. The ledger's own cache does not
do for that: it does not say when it has read, and under contention forgets what it has read.
"""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Final

from licensing.rules.license import Kind
from licensing.rules.model import LicenseState
from licensing.rules.report import Now
from licensing.rules.totals import Pseudonym, distinct
from licensing.rules.usage import midnight
from licensing.services.reports import CACHE_SECONDS, is_reported, newest_day, reported_terms
from licensing.services.shared_reads import SharedReads
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register

NOW_SECONDS: Final = 10.0
"""For how long one reading of a license's state serves all callers."""
USERS_SECONDS: Final = 3600.0
"""For how long it is known whether enough people use a license; a new day is asked for anew, by all processes."""
ACTIVE_WITHIN: Final = timedelta(days=30)
"""The days, before today, of which users count."""


@dataclass(frozen=True, slots=True)
class LicenseNow:
    """A license as it stands; `now` is None if it takes no seats. `valid_until` (UTC) is its exclusive end."""

    license_id: str
    product: str
    valid_until: datetime
    now: Now | None


@dataclass(frozen=True, slots=True)
class _Moment:
    """A license's state, how many wait, and when that was read (UTC)."""

    as_of: datetime
    state: LicenseState
    waiting: int


class CurrentUse:
    """How licenses stand now. `clock` gives the present time, UTC.

    Methods raise UnavailableError if the store does not answer.
    """

    def __init__(self, register: Register, ledger: Ledger, clock: Callable[[], datetime], small_group: int) -> None:
        self._register = register
        self._ledger = ledger
        self._clock = clock
        self._small_group = small_group
        self._license_ids = SharedReads(CACHE_SECONDS, clock, self._register.license_ids)
        self._moments = SharedReads(NOW_SECONDS, clock, self._read_moment)
        self._enough_users = SharedReads(USERS_SECONDS, clock, self._read_enough_users)

    async def of_organization(self, organization_id: str) -> list[LicenseNow]:
        """The licenses of an organization that a customer is told of, in the order of their ids."""
        return await self.of_licenses(await self._license_ids.get(organization_id))

    async def of_licenses(self, license_ids: Iterable[str]) -> list[LicenseNow]:
        """Those of some licenses that a customer is told of, in the order given."""
        found = await asyncio.gather(*map(self._license, license_ids))
        return [each for each in found if each]

    async def _license(self, license_id: str) -> LicenseNow | None:
        moment = await self._moments.get(license_id)
        if moment is None:
            return None
        terms = moment.state.terms
        newest = newest_day(moment.as_of, terms.lease_seconds)
        if not is_reported(moment.state, newest):
            return None
        now = await self._now(license_id, moment) if terms.kind is Kind.FLOATING else None
        return LicenseNow(license_id, reported_terms(moment.state, newest).product, terms.valid_until, now)

    async def _now(self, license_id: str, moment: _Moment) -> Now:
        terms, in_use, waiting = moment.state.terms, moment.state.in_use, moment.waiting
        free = in_use < terms.capacity and not waiting
        if not await self._enough_users.get((license_id, moment.as_of.date())):
            return Now(as_of=moment.as_of, free=free, in_use=None, total=None, waiting=None)
        return Now(as_of=moment.as_of, free=free, in_use=in_use, total=terms.seats, waiting=waiting)

    async def _read_moment(self, license_id: str) -> _Moment | None:
        as_of = self._clock()
        state = await self._ledger.state(license_id)
        return _Moment(as_of, state, self._ledger.waiting(state)) if state else None

    async def _read_enough_users(self, key: tuple[str, date]) -> bool:
        """Whether enough people were active before a day. Reads no further than that is certain.

        A person counts once, also under two peppers.
        """
        license_id, day = key
        today = midnight(day)
        seen: set[Pseudonym] = set()
        async with aclosing(self._register.users(license_id, today - ACTIVE_WITHIN, today)) as pages:
            async for page in pages:
                seen |= page
                if distinct(seen) >= self._small_group:
                    return True
        return False
