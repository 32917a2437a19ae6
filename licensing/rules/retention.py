"""How long the register keeps a session: one year after its end (policy, section 12)."""

from datetime import datetime


def year_before(moment: datetime) -> datetime:
    """The same time a year ago: what ended before then is to go; on 29 February, all that ended in February."""
    try:
        return moment.replace(year=moment.year - 1)
    except ValueError:
        return moment.replace(year=moment.year - 1, month=3, day=1, hour=0, minute=0, second=0, microsecond=0)


def year_after(moment: datetime) -> datetime:
    """When what ended at a moment is to go; of what ended on 29 February, that is 1 March."""
    try:
        return moment.replace(year=moment.year + 1)
    except ValueError:
        return moment.replace(year=moment.year + 1, month=3, day=1, hour=0, minute=0, second=0, microsecond=0)
