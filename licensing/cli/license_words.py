"""What people read of a license: until when it is valid, its terms, and what changes in them.

People read the last valid day; programs get the instant.
"""

from collections.abc import Callable, Iterable
from typing import Final

from rich.table import Table
from rich.text import Text

from licensing.cli.output import count
from licensing.crypto.tokens import license_file_text
from licensing.rules.license import Kind, License, Sharing, last_day

LARGE_NUMBER: Final = 120
"""From this many minutes or hours on, people say hours or days as well."""

_SHARED_BY: Final = {
    Sharing.NONE: "nobody: each program takes a seat",
    Sharing.USER_HOST: "the programs of one user on one computer",
    Sharing.USER: "the programs of one user",
    Sharing.HOST: "the programs on one computer",
}


def validity(license: License) -> str:
    """From when to when a license is valid, as in "valid from 2027-01-01 to 2027-12-31"."""
    return f"valid from {license.valid_from:%Y-%m-%d} to {last_day(license.valid_until)}"


def summary(license: License) -> str:
    """A license in some words, without its id."""
    what = count(license.seats, "seat") if license.kind is Kind.FLOATING else license.kind.value
    trial = "trial, " if license.trial else ""
    return f"{license.product} for {license.organization.name}: {trial}{what}, {validity(license)}"


def file_text(license: License, jws: str, *, one_line: bool = False) -> str:
    """A license file: some lines for people, and the signed text, with `one_line` on one line."""
    comments = [
        summary(license),
        f"License {license.id}, serial {license.serial}. These lines are for people; those below are what counts.",
    ]
    return license_file_text(jws, comments, one_line=one_line)


def length_of(seconds: int) -> str:
    """A length of time, in the largest unit that divides it; in two units where that makes a large number."""
    units = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
    place = next(place for place, (_, size) in enumerate(units) if seconds % size == 0)
    unit, size = units[place]
    if place == 0 or seconds < LARGE_NUMBER * size:
        return count(seconds // size, unit)
    unit, size = units[place - 1]
    return f"{count(seconds // size, unit)} and {length_of(seconds % size)}"


def sheet(license: License) -> Table:
    """All that a license says."""
    table = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
    lines = {
        "License": f"{license.id}, serial {license.serial}",
        "Customer": f"{license.organization.name} ({license.organization.id})",
        "Product": license.product,
        "Kind": license.kind,
        "Trial": "yes" if license.trial else "no",
        "Seats": f"{license.seats}" + (f", and {license.overdraft} beyond that" if license.overdraft else ""),
        "Shared by": _SHARED_BY[license.sharing],
        "Valid": f"{license.valid_from:%Y-%m-%d} to {last_day(license.valid_until)}",
        "Updates until": last_day(license.maintenance_until) if license.maintenance_until else "no limit",
        "Users": f"{count(len(license.users), 'name')} listed" if license.users else "any",
        "Computers": f"{count(len(license.hosts), 'name')} listed" if license.hosts else "any",
        "Networks": ", ".join(map(str, license.networks)) or "any",
        "Features": ", ".join(license.features) or "none named",
        "Project": license.project or "none",
        "Billing": license.billing,
        "Recorded": "yes" if license.collect else "no: nothing is stored",
        "Heartbeat": (
            f"every {length_of(license.heartbeat_seconds)}, "
            f"a silent program loses its seat after {length_of(license.lease_seconds)}"
        ),
        "Offline": f"up to {length_of(license.grace_seconds)}" if license.grace_seconds else "no",
        "Held": f"{length_of(license.hold_seconds)} for a silent program" if license.hold_seconds else "no",
        "Borrowing": f"up to {length_of(license.borrow_seconds)}" if license.borrow_seconds else "no",
        "Older files": f"count from serial {license.oldest} on" if license.oldest else "count",
        "Service": license.service,
        "Issued": f"{license.issued_at:%Y-%m-%d %H:%M} UTC by {license.issuer}",
    }
    for name, value in lines.items():
        table.add_row(name, Text(value))  # not markup, whatever brackets it has
    return table


def _length(seconds: int) -> str:
    return length_of(seconds) if seconds else "none"


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"


_CHANGING: Final[dict[str, tuple[str, Callable[[License], str]]]] = {
    "organization": ("name of the customer", lambda license: license.organization.name),
    "product": ("product", lambda license: license.product),
    "seats": ("seats", lambda license: str(license.seats)),
    "overdraft": ("seats beyond those", lambda license: str(license.overdraft or "none")),
    "sharing": ("shared by", lambda license: license.sharing.value),
    "valid_from": ("from", lambda license: f"{license.valid_from:%Y-%m-%d %H:%M} UTC"),
    "valid_until": ("until", lambda license: last_day(license.valid_until)),
    "maintenance_until": (
        "updates until",
        lambda license: last_day(license.maintenance_until) if license.maintenance_until else "no limit",
    ),
    "networks": ("networks", lambda license: ", ".join(map(str, license.networks)) or "any"),
    "features": ("features", lambda license: _listed(license.features)),
    "project": ("project", lambda license: license.project or "none"),
    "billing": ("billing", lambda license: license.billing.value),
    "collect": ("recorded", lambda license: "yes" if license.collect else "no"),
    "heartbeat_seconds": ("heartbeat every", lambda license: length_of(license.heartbeat_seconds)),
    "lease_seconds": ("seat of a silent program lost after", lambda license: length_of(license.lease_seconds)),
    "grace_seconds": ("offline", lambda license: _length(license.grace_seconds)),
    "hold_seconds": ("held", lambda license: _length(license.hold_seconds)),
    "borrow_seconds": ("borrowing", lambda license: _length(license.borrow_seconds)),
    "service": ("service", lambda license: license.service),
    "issuer": ("vendor", lambda license: license.issuer),
    "oldest": ("older files count", lambda license: f"from serial {license.oldest} on" if license.oldest else "all"),
    "trial": ("trial", lambda license: "yes" if license.trial else "no"),
}
"""The fields of a license that a newer file may change, each with its name and its value for people."""


def changes(before: License, after: License) -> list[str]:
    """What a newer file changes in the terms of a license, in words such as "seats 5 → 1"; serial and keys are none."""
    found = [
        f"{name} {words(before)} → {words(after)}"
        for field, (name, words) in _CHANGING.items()
        if getattr(before, field) != getattr(after, field)
    ]
    found += _changed_list("users", before.users, after.users)
    found += _changed_list("computers", before.hosts, after.hosts)
    return found


def _changed_list(name: str, before: tuple[str, ...], after: tuple[str, ...]) -> list[str]:
    """What changes in a list of hashes, of which people can read only how many there are."""
    if set(before) == set(after):
        return []
    added, removed = len(set(after) - set(before)), len(set(before) - set(after))
    return [f"listed {name} {len(before) or 'any'} → {len(after) or 'any'} ({added} added, {removed} removed)"]
