"""`licensing license issued`: the licenses in the vendor's books, whether a program has started under them or not."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from typer import Option

from licensing.cli.books import IssuedFile
from licensing.cli.claims import LENGTH, length
from licensing.cli.context import home
from licensing.cli.options import wrong_usage
from licensing.cli.output import fail, named, out, table
from licensing.rules.license import last_day
from licensing.services.service import utc_now

_USUAL: Final = ["license", "customer", "product", "seats", "until"]
_RARE: Final = ("trial", "order")
"""Columns that are shown only if a license has something in them."""


def issued(
    organization_id: Annotated[str | None, Option("--organization", help="List only this customer's licenses.")] = None,
    due: Annotated[
        str | None,
        Option(
            metavar="LENGTH",
            help="List only licenses that end within this time, as in 60d, or have ended within the same time. "
            "Days are counted by their last days (UTC).",
        ),
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the licenses that this home has issued, each by its newest file. Needs no store.

    Under --due, a license stands as long as it has no newer file; those that end first come first.
    """
    here, now = home(), utc_now()
    if organization_id is not None and organization_id not in here.customers():
        fail(f"There is no {named('customer', organization_id)} in {here.folder}.")
    files = [file for file in here.issued() if organization_id in (None, file.organization_id)]
    if due is not None:
        with wrong_usage(f"--due takes {LENGTH}"):
            span = timedelta(seconds=length(due))
        within = (file for file in files if _is_within(span, file.valid_until, now))
        files = sorted(within, key=lambda file: file.valid_until)
    if as_json:
        out.print_json(data=[_line(file) for file in files], default=datetime.isoformat)
        return
    rows = [_row(file, now, due=due is not None) for file in files]
    shown = [name for name in rows[0] if name not in _RARE or any(row[name] for row in rows)] if rows else _USUAL
    out.print(table(*shown, rows=[[row[name] for name in shown] for row in rows]))


def _is_within(span: timedelta, valid_until: datetime, now: datetime) -> bool:
    """Whether a license ends within a time, or has ended within it. Whole days are counted from day to day (UTC)."""
    if span % timedelta(days=1):
        return abs(valid_until - now) <= span
    last = (valid_until - timedelta(microseconds=1)).date()
    return abs(last - now.date()) <= span


def _line(file: IssuedFile) -> dict[str, Any]:
    """What programs get; null is what is not known of a file from before the books."""
    license = file.license
    return {
        "license": file.license_id,
        "organization": file.organization_id or None,
        "organization_name": license.organization.name if license else None,
        "product": file.product,
        "kind": file.kind or None,
        "seats": license.seats if license else None,
        "valid_from": license.valid_from if license else None,
        "valid_until": file.valid_until,
        "serial": file.serial,
        "oldest": license.oldest if license else None,
        "trial": license.trial if license else None,
        "order": file.order,
        "issued_at": file.issued_at,
    }


def _row(file: IssuedFile, now: datetime, *, due: bool) -> dict[str, object]:
    """What people read, by column."""
    license, left = file.license, file.valid_until - now
    return {
        "license": file.license_id,
        "customer": file.organization_id or None,
        "product": file.product,
        "seats": license.seats if license else None,
        "until": last_day(file.valid_until),
        **({"days left": left.days if left > timedelta() else "ended"} if due else {"serial": file.serial}),
        "trial": "yes" if license and license.trial else "",
        "order": file.order or "",
    }
