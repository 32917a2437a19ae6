"""The audit of license files that are issued: issuing needs no store, and is recorded where there is one."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from licensing.cli.context import home, operator, store
from licensing.cli.output import err
from licensing.errors import UnavailableError
from licensing.rules.license import License
from licensing.services.audit import audited, signed_subject
from licensing.services.service import utc_now
from licensing.settings import names_store

Recorded = Callable[[str, License], AbstractAsyncContextManager[None]]
"""A change to a license, by what is done, within which it is made."""


@asynccontextmanager
async def recording() -> AsyncIterator[Recorded]:
    """Yield what records changes in the audit.

    A store that the environment names must answer: UnavailableError ends the command. The home's own store, which runs
    with `licensing serve` only, may be silent; then one line says that nothing is recorded.
    """
    named = names_store(os.environ)
    if not named and not home().initialized:
        yield _unrecorded
        return
    async with store() as (register, _):

        def recorded(what: str, license: License) -> AbstractAsyncContextManager[None]:
            return audited(register, utc_now, operator(), what, signed_subject(license))

        try:
            await register.ping()
        except UnavailableError:
            if named:
                raise
            err.print("The local service does not run, so the audit does not record this.")
            yield _unrecorded
            return
        yield recorded


@asynccontextmanager
async def _unrecorded(_what: str, _license: License) -> AsyncIterator[None]:
    yield
