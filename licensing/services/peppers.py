"""Under which peppers sessions are stored.

A pepper can go only when none is under it, and a person has been looked for everywhere only where all are at hand:
otherwise somebody would not be found.
"""

from collections.abc import Collection
from typing import Final

from licensing.storage import register as rows
from licensing.storage.tables import Tables

COMPARED: Final = 8
"""So many peppers are compared in the store, which takes fifteen comparisons a query; more are compared here."""


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


async def pepper_beyond(tables: Tables, license: str, known: Collection[str]) -> str | None:
    """A pepper beyond the known ones under which sessions of a license are stored, by its id; None where there is none.

    One range read, in which the store passes over the sessions under known peppers. Reads until the first other one.
    """
    values = {f"p{place}": pepper for place, pepper in enumerate([*known][:COMPARED])}
    pages = tables.pages(
        "register",
        license,
        rows.ACTIVE,
        rows.beyond(rows.ENDED),  # which takes in what lies between, and has no pepper
        columns=("pepper",),
        where=" and ".join(("pepper gt @none", *(f"pepper ne @{name}" for name in values))),
        values={"none": "", **values},
    )
    async for page in pages:
        for row in page:
            if row.columns["pepper"] not in known:
                return str(row.columns["pepper"])
    return None
