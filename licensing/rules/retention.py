"""How long the register keeps a session: one year after its end (policy, section 12). Audit entries stay two years."""

from datetime import datetime
from typing import Final

AUDIT_YEARS: Final = 2
"""How many years the register keeps an audit entry."""


def year_before(moment: datetime) -> datetime:
    """The same time a year earlier; for 29 February, 1 March. A session that ended before it is deleted."""
    return _in_year(moment, moment.year - 1)


def audit_cutoff(moment: datetime) -> datetime:
    """The same time two years earlier; for 29 February, 1 March. An audit entry that was begun before it is deleted."""
    return _in_year(moment, moment.year - AUDIT_YEARS)


def year_after(moment: datetime) -> datetime:
    """The same time a year later; for 29 February, 1 March. A session that ended at `moment` is deleted then."""
    return _in_year(moment, moment.year + 1)


def _in_year(moment: datetime, year: int) -> datetime:
    try:
        return moment.replace(year=year)
    except ValueError:  # 29 February
        return moment.replace(year=year, month=3, day=1, hour=0, minute=0, second=0, microsecond=0)
