"""What can go wrong. A refusal is no error: it is a value (see `licensing.rules`).

LicensingError
├── SettingsError           a setting is missing, malformed or weak
├── TokenError              a license file, lease or report pass is not genuine: `.flaw`
├── PepperError             a pepper that sessions are stored under is missing: `.pepper`
├── VaultError              the key vault did not do what was asked
├── RowError                a row lacks a column or has one that cannot be read: `.kind`, `.key`, `.partition`
└── StorageError            the store did not do what was asked
    ├── ConflictError       a conditional write lost: `.mismatch`, `.index`
    └── UnavailableError    the store gave no usable answer
"""

from enum import StrEnum


class LicensingError(Exception):
    """The root of all errors. Its text is for people and holds no secret and nothing personal."""


class SettingsError(LicensingError):
    """A setting is missing, malformed or weak. The text names the setting, never its value."""


class Flaw(StrEnum):
    """Why a token is not genuine."""

    DAMAGED = "damaged"
    FORGED = "forged"
    UNKNOWN_KEY = "unknown-key"
    WRONG_TYPE = "wrong-type"
    MALFORMED = "malformed"
    OVERSIZE = "oversize"
    EXPIRED = "expired"


class TokenError(LicensingError):
    """A token is not genuine, so nothing that it says is used."""

    def __init__(self, flaw: Flaw, explanation: str) -> None:
        super().__init__(explanation)
        self.flaw = flaw


class PepperError(LicensingError):
    """Sessions are stored under a pepper that is missing, so a search for a person would overlook them."""

    def __init__(self, organization_id: str, pepper: str) -> None:
        super().__init__(
            f"sessions of {organization_id} are stored under the pepper {pepper}, which is missing here; "
            "people in them would not be found"
        )
        self.pepper = pepper


class VaultError(LicensingError):
    """The key vault did not do what was asked. The text names the vault and the secret, never its value."""


class RowError(LicensingError):
    """A row of the store lacks a column, or has one that cannot be read.

    `kind` is the beginning of its key. `key` is the whole key; of a shared seat `seat:…`, whose rest is a pseudonym.
    `partition` is its license or organization.
    """

    def __init__(self, partition: str, key: str, flaw: str) -> None:
        self.partition = partition
        self.kind = key.partition(":")[0]
        self.key = f"{self.kind}:…" if self.kind == "seat" else key
        super().__init__(f"the row {self.key} of {partition} {flaw}; correct it by hand")


class StorageError(LicensingError):
    """The store did not do what was asked."""


class Mismatch(StrEnum):
    """How a row differed from what a conditional write required."""

    EXISTS = "exists"
    CHANGED = "changed"
    GONE = "gone"


class ConflictError(StorageError):
    """A conditional write lost, and its whole transaction was undone.

    `index` is the place of the losing operation in the transaction; None if the store did not say.
    """

    def __init__(self, mismatch: Mismatch, index: int | None) -> None:
        super().__init__(f"a row was not as expected ({mismatch})")
        self.mismatch = mismatch
        self.index = index


class UnavailableError(StorageError):
    """The store gave no usable answer in time; a write that was sent may have been done."""
