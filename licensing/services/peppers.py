"""Whether a pepper can go: only when no session is stored under it, or nobody could be found in those any more."""

from licensing.storage import rows
from licensing.storage.tables import Tables


async def sessions_under(tables: Tables, pepper: str) -> bool:
    """Whether any session, running or ended, is stored under a pepper, by its id. Reads until the first one."""
    pages = tables.pages(
        "register",
        None,
        rows.ACTIVE,
        rows.beyond(rows.ENDED),  # which takes in what lies between, and has no pepper
        columns=(),
        where="pepper eq @pepper",
        values={"pepper": pepper},
    )
    async for _ in pages:
        return True
    return False
