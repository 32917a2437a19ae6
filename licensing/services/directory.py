"""Which organizations and licenses there are."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

from licensing.storage import register as rows
from licensing.storage.tables import Tables


@dataclass(frozen=True, slots=True)
class Entry:
    """A license and the organization that bought it, by their ids."""

    organization: str
    license: str


async def licenses(tables: Tables, organization: str | None = None) -> AsyncIterator[Entry]:
    """All licenses under which a program has ever started, or those of one organization, in the order of their ids."""
    first, beyond = rows.LICENSE, rows.beyond(rows.LICENSE)
    async for row in tables.rows("directory", organization, first, beyond, columns=[]):
        yield Entry(row.columns["PartitionKey"], row.key.removeprefix(rows.LICENSE))
