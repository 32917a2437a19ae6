"""Which license file a program uses: the given one, or a newer one that the service sent.

The rules (docs/protocol.md, section 10):

1. A fetched file counts once a start with it was granted. Until then the former one counts.
2. A start is made with a fetched file that does not count yet, if that covers the program, the person and the time,
   and does not forbid calls. Otherwise it is made with the file that counts.
3. If the service refuses such a start because of its file (`FILE_REFUSALS`), the former file is used again, at once.
   The refused one is not tried again in this run.
4. A newer file may cure some refusals (`CURABLE`): the service is asked for one before the program is refused.
5. The license ends at the latest `exp` of the file that counts and of a fetched file that was not refused.
6. A lease is genuine by a lease key of any of these files, so that keys may rotate. The given file names the service,
   and the key for hashes.

Left to others: when the service is asked (`licensing_client.engine`), which files are taken and how they are kept
(`licensing_client.fetched_files`).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from licensing_client.fetched_files import FetchedFiles, FetchedFilesStore, newer_license
from licensing_client.license import License
from licensing_client.reasons import Code, Reason
from licensing_client.tokens import Keys

CURABLE = frozenset({Code.LICENSE_EXPIRED, Code.MAINTENANCE_OVER, Code.FEATURE_NOT_LICENSED, Code.LICENSE_SUPERSEDED})
"""What a newer license file may cure."""
FILE_REFUSALS = frozenset(
    {
        Code.LICENSE_INVALID,
        Code.LICENSE_NOT_YET_VALID,
        Code.LICENSE_EXPIRED,
        Code.LICENSE_SUPERSEDED,
        Code.USER_NOT_ALLOWED,
        Code.HOST_NOT_ALLOWED,
        Code.NETWORK_NOT_ALLOWED,
    }
)
"""Refusals of the service that another license file may not get."""

Judge = Callable[[License], Reason | None]
"""The reason why a license does not cover a program, a person and a time; None if it does."""


@dataclass(frozen=True, slots=True)
class LicenseFiles:
    """The files of one license. `refused`: the serials of fetched files whose start was refused in this run."""

    given: License
    fetched: FetchedFiles = field(default_factory=FetchedFiles)
    refused: frozenset[int] = frozenset()

    @property
    def counting(self) -> License:
        """The file that counts."""
        return self.fetched.granted or self.given

    @property
    def candidate(self) -> License | None:
        """A newer file that does not count yet, and was not refused."""
        pending = self.fetched.pending
        return pending if pending is not None and pending.serial not in self.refused else None

    @property
    def newest_serial(self) -> int:
        """The highest serial of all files."""
        return max(self.counting.serial, self.fetched.pending.serial if self.fetched.pending else 0)

    @property
    def valid_until(self) -> int:
        """When the license ends, in seconds since 1970."""
        return max(license.valid_until for license in (self.counting, self.candidate) if license is not None)

    def to_start(self, judge: Judge) -> License:
        """The file to make a start with."""
        candidate = self.candidate
        usable = candidate is not None and candidate.collect and judge(candidate) is None
        return candidate if candidate is not None and usable else self.counting

    def refusal(self, judge: Judge, lease_until: int = 0) -> Reason | None:
        """The reason why no file covers the program; None if one does.

        `lease_until`: the end of the last lease. That may be later than the file's, if it was granted on newer terms.
        """
        license = self.to_start(judge)
        if license is self.counting:
            license = replace(license, valid_until=max(license.valid_until, lease_until))
        return judge(license)

    def as_used(self, license: License | None = None) -> License:
        """The license by one file, or by that which counts, as calls and leases use it.

        It has the lease keys of all files, and the service and the salt of the given one.
        """
        every = (self.given, self.fetched.granted, self.fetched.pending)
        keys = {name: key for each in every if each is not None for name, key in each.lease_keys.items()}
        license = license or self.counting
        return replace(license, lease_keys=keys, service=self.given.service, salt=self.given.salt)

    def taking(self, token: str, keys: Keys) -> "LicenseFiles":
        """With what the service sent, if that is a file by one of `keys` and newer than all others; else as before."""
        license = newer_license(token, keys, self.given)
        if license is None or license.serial <= self.newest_serial:
            return self
        return replace(self, fetched=self.fetched.joined(FetchedFiles(pending=license)))

    def granted(self, license: License) -> "LicenseFiles":
        """After a start with this file was granted."""
        if license.serial <= self.counting.serial:
            return self
        return replace(self, fetched=self.fetched.joined(FetchedFiles(granted=license)))

    def start_refused(self, license: License) -> "LicenseFiles":
        """After a start with this file, which does not count yet, was refused because of it."""
        return replace(self, refused=self.refused | {license.serial})


def kept_license_files(given: License, store: FetchedFilesStore) -> LicenseFiles:
    """The given file, and those that earlier runs kept. A license that forbids calls has none."""
    return LicenseFiles(given, store.read() if given.collect else FetchedFiles())
