"""Organizations: delete all that the register holds of a customer that has left.

Only when nothing of it is in use: none of its licenses is valid, and none of its sessions is active. Then no process
writes its rows: a start under an expired license is refused, and writes nothing. A license that is renewed meanwhile
stays, and ends the deletion.

A deletion that was interrupted can be repeated: the directory, which leads to the rows, goes last.
"""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime

from licensing.errors import ConflictError
from licensing.services.progress import Progress, no_progress
from licensing.storage.register import Register


@dataclass(frozen=True, slots=True)
class Forgotten:
    """How many licenses of an organization were (or would be) deleted, and how many rows in all."""

    licenses: int
    rows: int


@dataclass(frozen=True, slots=True)
class InUse:
    """Why an organization is not deleted: until when licenses are `valid`, and how many sessions are `active` on some.

    Both are by the license's id. `begun`: rows were deleted before it came into use.
    """

    valid: Mapping[str, datetime]
    active: Mapping[str, int]
    begun: bool = False


async def forget(
    register: Register,
    organization_id: str,
    now: datetime,
    *,
    dry_run: bool = False,
    progress: Progress = no_progress,
) -> Forgotten | InUse:
    """Delete all rows of an organization and of its licenses, unless some are in use; with `dry_run`, only count them.

    Raises UnavailableError if the store does not answer.
    """
    license_ids = await register.license_ids(organization_id)
    used = await _in_use(register, license_ids, now)
    if used.valid or used.active:
        return used
    rows = 0
    for done, license_id in enumerate(license_ids):
        progress(done, len(license_ids))
        deleted = await _forget_license(register, organization_id, license_id, now, dry_run=dry_run)
        if isinstance(deleted, InUse):
            return replace(deleted, begun=True)
        rows += deleted
    rows += await register.delete_organization(organization_id, dry_run=dry_run)
    return Forgotten(len(license_ids), rows)


async def _forget_license(
    register: Register, organization_id: str, license_id: str, now: datetime, *, dry_run: bool
) -> int | InUse:
    """Delete a license, unless it comes into use meanwhile; how many rows.

    A file that is published at this time must not be deleted, nor stay alone.
    """
    while True:
        state = await register.state(license_id)
        used = await _in_use(register, [license_id], now)
        if used.valid or used.active:
            return used
        with suppress(ConflictError):  # the state changed after it was read
            return await register.delete_license(organization_id, license_id, state, dry_run=dry_run)


async def _in_use(register: Register, license_ids: list[str], now: datetime) -> InUse:
    valid, active = {}, {}
    for license_id in license_ids:
        state = await register.state(license_id)
        if state is not None and now < state.value.terms.valid_until:
            valid[license_id] = state.value.terms.valid_until
        if sessions := len([row async for row in register.active(license_id)]):
            active[license_id] = sessions
    return InUse(valid, active)
