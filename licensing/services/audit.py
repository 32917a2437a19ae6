"""Audit: who changed what and when, from the command line (policy, section 10).

An entry is written before a change and closed after it. An entry that was never closed is a change that may have been
made.

What an operator types may be anything, also a person's name. So an entry takes a `Subject`, and only this module makes
one, after a check.
"""

import re
from collections.abc import AsyncIterator, Callable, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final

from licensing.rules.license import License, is_identifier
from licensing.rules.model import LicenseState
from licensing.rules.requests import SESSION_ID
from licensing.rules.retention import audit_cutoff
from licensing.storage.register import AuditEntry, Register

BEGUN: Final = "begun"
DONE: Final = "done"
FAILED: Final = "failed"


@dataclass(frozen=True, slots=True)
class Subject:
    """What an entry is about: a license, a session, an organization or a key, never a person."""

    text: str


async def license_subject(register: Register, license_id: str, initial: LicenseState | None = None) -> Subject | None:
    """A license that the register knows, or that a genuine license file would create as `initial`.

    None for every other text. A text without the form of an id does not reach the store, which logs what it is asked.
    """
    if initial is None and (not is_identifier(license_id) or await register.state(license_id) is None):
        return None
    return Subject(license_id)


def signed_subject(license: License) -> Subject:
    """A license whose file is signed; its id has the form of one, and the file tells it to everybody anyhow."""
    return Subject(license.id)


def session_subject(license: Subject, session_id: str) -> Subject:
    """A session of a license.

    Raises ValueError if the session's id is not a UUID.
    """
    if not re.fullmatch(SESSION_ID, session_id):
        raise ValueError("the id of a session is a UUID")
    return Subject(f"{license.text} {session_id.lower()}")


async def organization_subject(register: Register, organization_id: str) -> Subject | None:
    """An organization that the register knows; None for every other text, as for a license."""
    if not is_identifier(organization_id) or await register.organization_name(organization_id) is None:
        return None
    return Subject(organization_id)


def customer_subject(organization_id: str, customers: Container[str]) -> Subject:
    """One of the customers of the vendor's home.

    Raises ValueError if it is none of them.
    """
    if organization_id not in customers:
        raise ValueError("this id is no customer's")
    return Subject(organization_id)


def key_subject(key_id: str, keys: Container[str], vault: str | None, kind: str = "") -> Subject:
    """One of several keys, in a key vault if one is named; after its `kind`, if that is given.

    Raises ValueError if it is none of them, or if no vault can have that name.
    """
    if key_id not in keys or not (vault is None or is_identifier(vault)):
        raise ValueError("this is no known key")
    return Subject(f"{kind} {key_id}".strip() + (f" in {vault}" if vault else ""))


def all_licenses(as_of: datetime) -> Subject:
    """All licenses as of a moment."""
    return Subject(f"all licenses as of {as_of:%Y-%m-%dT%H:%M:%SZ}")


async def delete_old_entries(register: Register, as_of: datetime, dry_run: bool = False) -> int:
    """Delete the entries that are past their two years as of a moment (UTC), or with `dry_run` count them; how many.

    Raises UnavailableError if the store does not answer, also after retries.
    """
    return await register.delete_audit(audit_cutoff(as_of), dry_run=dry_run)


@asynccontextmanager
async def audited(
    register: Register, clock: Callable[[], datetime], who: str, what: str, subject: Subject
) -> AsyncIterator[None]:
    """Record a change while it is made."""
    entry = AuditEntry(clock().astimezone(UTC), who, what, subject.text, BEGUN)
    entry_id = await register.begin_audit(entry)
    outcome = FAILED
    try:
        yield
        outcome = DONE
    finally:
        await register.close_audit(entry_id, replace(entry, outcome=outcome, closed_at=clock()))
