"""An operator publishes a license file: its terms hold at once, and desks with older files go by it.

The rules, in this order; the first that fails is the answer:

1. the file lists no users, computers or networks: such files are never stored, and reach desks by hand;
2. it is valid now;
3. it names the lease key that signs now, so that programs with it trust the service;
4. no newer file of the license is in force, nor another one with the same serial;
5. customer, product and kind are those of the license in the register;
6. service, customer, product, kind and salt are those of the file before, as far as one is known: the one that the
   register keeps, else the one that the vendor's books have.
"""

from dataclasses import dataclass
from datetime import datetime

from licensing.rules.license import License
from licensing.rules.model import LicenseState, Terms
from licensing.services.license_files import LicenseFiles, SignedFile


@dataclass(frozen=True, slots=True)
class Published:
    """The license is under this state now."""

    state: LicenseState


@dataclass(frozen=True, slots=True)
class NotPublished:
    """Nothing was done; `why` completes the sentence "The file …"."""

    why: str


async def publish(
    files: LicenseFiles, file: SignedFile, lease_kid: str, now: datetime, before: License | None = None
) -> Published | NotPublished:
    """Publish a genuine file; idempotent. `lease_kid` is the id of the key that signs leases; `now` is UTC.

    `before` is the file before this one in the vendor's books. Raises UnavailableError if the store cannot be used now.
    """
    license = file.license
    if why := _unfit(license, lease_kid, now):
        return NotPublished(why)
    state = await files.ledger.state(license.id)
    kept = await files.kept(license.id, state.terms.serial) if state else None
    if state and (why := _differs_from_state(license, state)):
        return NotPublished(why)
    if kept and kept.license.serial == license.serial and kept.token != file.token:
        return NotPublished(f"has the serial {license.serial}, which another file of {license.id} has; issue it again")
    if (last := kept.license if kept else before) and (why := _differs(license, last)):
        return NotPublished(why)
    sealed = files.sealed(license, file.token, now)
    after = await files.ledger.publish(license.id, Terms.of(license), sealed) if sealed else None
    return Published(after) if after else NotPublished(f"is older than one of {license.id} that came in between")


def _unfit(license: License, lease_kid: str, now: datetime) -> str | None:
    if license.lists_people:
        return "lists users, computers or networks; such files are never stored. Send it to the customer by hand"
    if now < license.valid_from:
        return f"is not valid yet: it begins on {license.valid_from:%Y-%m-%d %H:%M} UTC. Publish it then"
    if now >= license.valid_until:
        return "has expired. Renew the license"
    if lease_kid not in license.trusted_kids:
        return (
            f"does not name the lease key {lease_kid}, which signs now: programs would trust no answer. Issue it "
            "again; if the service's keys are in a key vault, name it with --vault"
        )
    return None


def _differs_from_state(license: License, state: LicenseState) -> str | None:
    terms = state.terms
    if license.serial < terms.serial:
        return (
            f"has the serial {license.serial}, and a newer one, {terms.serial}, is in force. It stays so; for other "
            "terms, renew the license"
        )
    named = {
        "organization": (license.organization.id, terms.organization_id),
        "product": (license.product, terms.product),
        "kind": (license.kind, terms.kind),
    }
    return _difference(named)


def _differs(license: License, last: License) -> str | None:
    names = ("service", "product", "kind", "salt")
    named = {name: (getattr(license, name), getattr(last, name)) for name in names}
    return _difference({"organization": (license.organization.id, last.organization.id), **named})


def _difference(named: dict[str, tuple[str, str]]) -> str | None:
    """What differs from the file before, in words; the values are not repeated, since a salt is a secret."""
    different = [name for name, (new, old) in named.items() if new != old]
    if not different:
        return None
    return (
        f"differs from the one before in {' and '.join(different)}: programs with older files would not take it. Issue "
        "a license with another id"
    )
