"""The newest file of a license: kept sealed in the register, for desks that still have an older one.

A program's start or an operator brings it (`licensing.rules.seats`, `publish`). It counts only while its serial is that
of the license state: a process of the first edition adopts newer files without keeping them. A file that lists people,
computers or networks is never kept.
"""

from collections import OrderedDict
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Final

from licensing.crypto.keys import VerifyingKeys
from licensing.crypto.sealing import Sealer
from licensing.crypto.tokens import read_license
from licensing.errors import ConflictError, RowError, TokenError
from licensing.rules.license import License
from licensing.rules.model import KeptFile
from licensing.settings import Settings
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register

CACHED_FILES: Final = 1000


@dataclass(frozen=True, slots=True)
class SignedFile:
    """A genuine license file: the license, and its JWS."""

    license: License
    token: str


class NoNewerFile(Enum):
    """Why there is no newer file: there is none that counts, or the file at hand does not count any more itself."""

    NONE = "none"
    TOO_OLD = "too-old"


@dataclass(eq=False, repr=False)
class LicenseFiles:
    """The files that the register keeps."""

    register: Register
    ledger: Ledger
    sealer: Sealer
    issuer_keys: VerifyingKeys
    status_cache_seconds: float = 0
    _cache: OrderedDict[tuple[str, int], SignedFile] = field(default_factory=OrderedDict, init=False)

    @classmethod
    def of(cls, settings: Settings, register: Register, ledger: Ledger) -> "LicenseFiles":
        """The files in a register, sealed and verified with the keys of the settings."""
        sealer = Sealer(settings.peppers)
        return cls(register, ledger, sealer, settings.issuer_keys, settings.status_cache_seconds)

    def sealed(self, license: License, token: str, published_at: datetime) -> KeptFile | None:
        """A license file in the form that the register keeps; None for one that it must not keep."""
        if license.lists_people:
            return None
        sealed = self.sealer.seal(token, license.id, license.serial)
        return KeptFile(license.serial, published_at, self.sealer.pepper, sealed)

    async def newer(self, license: License, *, by_cache: bool = False) -> SignedFile | NoNewerFile:
        """The newest file of a license, for a program that has an older genuine one, whatever its dates.

        `by_cache`: the license state may be a cached one, so that it costs no storage call in most cases. Raises
        UnavailableError if the store cannot be used now.
        """
        newest = None
        for max_age_seconds in (self.status_cache_seconds, 0) if by_cache else (0,):
            state = await self.ledger.state(license.id, max_age_seconds)
            if state is None or license.serial >= state.terms.serial:
                return NoNewerFile.NONE
            if license.serial < state.terms.oldest:
                return NoNewerFile.TOO_OLD
            newest = await self.kept(license.id, state.terms.serial)
            if newest is None or newest.license.serial == state.terms.serial:
                break
            newest = None  # the cached state is stale
        return newest if newest and _continues(newest.license, license) else NoNewerFile.NONE

    async def kept(self, license_id: str, serial: int) -> SignedFile | None:
        """The file that is kept, if it can be opened and its serial is not lower than this one.

        If it is higher, the license state that says `serial` is stale. Raises UnavailableError if the store cannot be
        used now.
        """
        if known := self._cache.get((license_id, serial)):
            self._cache.move_to_end((license_id, serial))
            return known
        try:
            row = await self.register.kept_file(license_id)
        except RowError:
            return None  # publishing the file again mends it
        if row is None or row.value.serial < serial:
            return None
        file = row.value
        token = self.sealer.open(file.sealed, license_id, file.serial, file.pepper)
        if token is None:
            return None
        try:
            newest = SignedFile(read_license(token, self.issuer_keys), token)
        except TokenError:
            return None  # the key that signed it is not trusted any more
        self._cache[license_id, file.serial] = newest
        if len(self._cache) > CACHED_FILES:
            self._cache.popitem(last=False)
        return newest


async def reseal(register: Register, sealer: Sealer, pepper: str) -> tuple[int, list[str]]:
    """Seal all files that are kept under an older pepper under the current one, so that the older one can be dropped.

    How many there were, and the licenses whose files cannot be opened. Raises UnavailableError if the store cannot be
    used now.
    """
    done, unreadable = 0, []
    for license_id in await register.files_under(pepper):
        try:
            done += await _reseal_one(register, sealer, pepper, license_id)
        except RowError:
            unreadable.append(license_id)
    return done, unreadable


async def _reseal_one(register: Register, sealer: Sealer, pepper: str, license_id: str) -> bool:
    """Seal a license's file anew; False if it is not under the older pepper. RowError if it cannot be opened."""
    while (kept := await register.kept_file(license_id)) and kept.value.pepper == pepper:
        file = kept.value
        token = sealer.open(file.sealed, license_id, file.serial, pepper)
        if token is None:
            raise RowError(license_id, "file", "cannot be opened")
        sealed = sealer.seal(token, license_id, file.serial)
        with suppress(ConflictError):  # a newer file came in between, perhaps under the older pepper as well
            await register.reseal(license_id, kept, replace(file, pepper=sealer.pepper, sealed=sealed))
            return True
    return False


def _continues(newer: License, older: License) -> bool:
    """Whether a program that has the older file may go by the newer one: its names are hashed in the same way."""
    return (newer.organization.id, newer.salt, newer.kind) == (older.organization.id, older.salt, older.kind)
