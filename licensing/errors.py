"""Faults: what went wrong that nobody asked for. Refusals are values (see `licensing.rules`), not faults.

LicensingError
├── SettingsError       a setting is missing, malformed or weak
├── TokenError          a license file, lease or report token is not genuine; `.flaw` says in which way
├── VaultError          the key vault did not do what was asked
├── PepperError         people cannot be looked for everywhere; `.pepper` is the id of the pepper that is missing
└── StorageError        the store did not do what was asked
    ├── ConflictError        a row was not as the write demanded; nothing was written
    └── UnavailableError     no answer, or none that can be used; what was sent may have been done
"""

from enum import StrEnum


class LicensingError(Exception):
    """Root of all faults. Its text is for people and holds no secret and nothing personal."""


class SettingsError(LicensingError):
    """A setting keeps the service from starting. The text names the setting, never its value."""


class Flaw(StrEnum):
    """In which way a token is not what it claims to be."""

    DAMAGED = "damaged"
    FORGED = "forged"
    UNKNOWN_KEY = "unknown-key"
    WRONG_TYPE = "wrong-type"
    MALFORMED = "malformed"
    OVERSIZE = "oversize"
    EXPIRED = "expired"


class TokenError(LicensingError):
    """A token is refused before anything that it says is believed."""

    def __init__(self, flaw: Flaw, explanation: str) -> None:
        super().__init__(explanation)
        self.flaw = flaw


class PepperError(LicensingError):
    """Sessions are stored under a pepper that is not at hand, so that whoever is in them would not be found."""

    def __init__(self, organization: str, pepper: str) -> None:
        super().__init__(
            f"sessions of {organization} are stored under the pepper {pepper}, which is not among those at hand; "
            "whoever is in them would not be found"
        )
        self.pepper = pepper


class VaultError(LicensingError):
    """The key vault did not do what was asked. The text names the vault and the secret, never its value."""


class StorageError(LicensingError):
    """The store did not do what was asked."""


class Mismatch(StrEnum):
    """How a row differed from what a conditional write demanded."""

    EXISTS = "exists"
    CHANGED = "changed"
    GONE = "gone"


class ConflictError(StorageError):
    """A conditional write lost; the whole transaction was left undone.

    `index` is the place of the losing operation in the transaction, or None where the store did not say.
    """

    def __init__(self, mismatch: Mismatch, index: int | None) -> None:
        super().__init__(f"a row was not as expected ({mismatch})")
        self.mismatch = mismatch
        self.index = index


class UnavailableError(StorageError):
    """The store gave no usable answer in time; a write that was sent may or may not have been done."""
