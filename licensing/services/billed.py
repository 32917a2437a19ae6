"""Whether there is anything to bill: a bill without lines would say that nobody owes anything."""

from datetime import datetime
from enum import Enum, auto

from licensing.rules.license import Billing
from licensing.rules.totals import month_of
from licensing.storage.register import Register


class NothingToBill(Enum):
    """Why a statement would have no lines, or only lines about a time before its licenses."""

    UNKNOWN = auto()
    """There is no license in the register."""
    UNBILLED = auto()
    """There are licenses, of which none is billed."""
    EARLIER = auto()
    """None of those that are billed was valid or used by then."""


async def nothing_to_bill(register: Register, organization_id: str | None, until: datetime) -> NothingToBill | None:
    """Why there is nothing to bill before a moment, the end of a month; None if there is something.

    Over all organizations or for one. Raises UnavailableError if the store does not answer.
    """
    found = NothingToBill.UNKNOWN
    async for license in register.licenses(organization_id):
        state = await register.state(license.license_id)
        if state is None:
            continue
        terms = state.value.terms
        if terms.billing is Billing.NONE:
            found = NothingToBill.UNBILLED if found is NothingToBill.UNKNOWN else found
        elif terms.valid_from < until or await _used_before(register, license.license_id, until):
            return None
        else:
            found = NothingToBill.EARLIER
    return found


async def _used_before(register: Register, license_id: str, until: datetime) -> bool:
    """Whether a license was used before a moment. Its newest file may begin after its first use."""
    async for totals in register.months(license_id):
        if totals.month < month_of(until.date()):
            return True
    async for row in register.active(license_id):
        if row.value.started_at < until:
            return True
    async for _, started_at in register.ended_starts(license_id):
        if started_at < until:
            return True
    return False
