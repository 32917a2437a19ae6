"""`licensing license issue`: signs license files, and notes them in the books; `renew` does so in the same way.

A request is decided, shown and, where it changes a license, asked for. Then it is decided again, signed and noted while
nobody else changes the home; if the outcome differs from what was shown, nothing is signed. The file is delivered last.
After a crash in between, the same command delivers the file that is in the books.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer import Option

from licensing.cli.claims import CLAIMS, ClaimError, is_time, with_claims
from licensing.cli.context import home, in_event_loop
from licensing.cli.files import check_writable
from licensing.cli.home import Home
from licensing.cli.issuing import Draft, LicenseRequest, Signed, draft_of, sign
from licensing.cli.license_words import file_text, length_of, validity
from licensing.cli.listed_names import warn_of_common_names, with_files
from licensing.cli.options import out_option
from licensing.cli.orders import OrderDelivery, issue_orders
from licensing.cli.output import ask, can_ask, count, deliver, err, fail
from licensing.cli.publishing import publish_files
from licensing.cli.recording import recording
from licensing.cli.secret_store import Vault
from licensing.rules.license import License
from licensing.services.service import utc_now

UsersFile = Annotated[
    Path | None,
    Option(
        "--users-file", metavar="FILE", help="File of usernames or their hashes, one on a line. Names are never stored."
    ),
]
HostsFile = Annotated[
    Path | None,
    Option("--hosts-file", metavar="FILE", help="File of full computer names or their hashes, one on a line."),
]
Strict = Annotated[
    bool,
    Option("--strict", help="No program that is out of reach runs beside another on its seat: sets grace and hold."),
]
Rename = Annotated[bool, Option("--rename", help="The customer has a new name, that of --organization-name.")]
Out = Annotated[Path | None, out_option("license file")]
Force = Annotated[bool, Option("--force", help="Overwrite the file of --out if it exists.")]
Publish = Annotated[
    bool, Option("--publish", help="Publish the file, so that programs that have an older one get it by themselves.")
]
OneLine = Annotated[
    bool,
    Option(
        "--one-line",
        help="Write the signed text on one line, for programs with a client of version 0.1. Mail may cut it.",
    ),
]
Yes = Annotated[bool, Option("--yes", help="Do not ask before a license is changed.")]


@dataclass(frozen=True, slots=True)
class Delivery:
    """Where a license file goes, and what is asked before."""

    out_file: Path | None = None
    force: bool = False
    publish: bool = False
    vault: str | None = None
    yes: bool = False
    one_line: bool = False


@with_claims("nbf")
def issue(
    claims: dict[str, Any],
    starts: Annotated[
        str | None,
        Option(
            CLAIMS["nbf"].option,
            metavar="DATE|FILE",
            help=f"{CLAIMS['nbf'].full_help} Or a CSV file of orders: its columns are the options without the leading "
            "dashes, and `order` for your reference. Each line makes or changes one license.",
        ),
    ] = None,
    users_file: UsersFile = None,
    hosts_file: HostsFile = None,
    strict: Strict = False,
    rename: Rename = False,
    out_file: Out = None,
    force: Force = False,
    publish: Publish = False,
    vault: Vault = None,
    yes: Yes = False,
    one_line: OneLine = False,
    dry_run: Annotated[
        bool, Option("--dry-run", help="With a file of orders: show what would be issued, and issue nothing.")
    ] = False,
) -> None:
    """Sign a license file for a customer. Send it to them; it needs no registration.

    Give at least --organization, --product, and --until or --trial; of a new customer also the name.

    With the --id of a license that exists, the file replaces its older ones. What it changes is shown, and asked for.

    With a CSV file of orders (--from FILE), --out is a folder; without it, each license is a line of JSON. All lines
    are checked before the first is issued. The books know a line by its `id`, else its `order`, else its content, so
    that running it again issues the rest. docs/operations.md, "Renewals", has an example.
    """
    if starts is not None and not is_time(starts):
        if claims or users_file or hosts_file or strict:
            raise typer.BadParameter("--from: with a file of orders, the terms of licenses are columns, not options")
        issue_orders(Path(starts), OrderDelivery(out_file, force, publish, vault, yes, rename, dry_run, one_line))
        return
    if dry_run:
        raise typer.BadParameter("--dry-run is for a file of orders (--from FILE)")
    if starts is not None:
        claims["nbf"] = starts
    request = LicenseRequest(with_files(claims, users_file, hosts_file), strict=strict, rename=rename)
    issue_one("issue", request, Delivery(out_file, force, publish, vault, yes, one_line))


def issue_one(what: str, request: LicenseRequest, delivery: Delivery) -> None:
    """Issue one license, from the decision to the delivery; `what` is the command, for the audit."""
    if "salt" in request.claims:
        err.print(
            "A salt on the command line can be seen by others on this machine; use a file of orders (--from FILE), "
            "which has a column for it.",
            style="yellow",
        )
    here = home()
    shown = _decide(here, request, utc_now())
    _check_out_file(shown, delivery)
    _confirm(what, shown, delivery)
    license, jws = shown.present or _signed(what, here, request, shown)
    if shown.present:
        err.print(f"{license.id} says this already: this is its file with serial {license.serial} again.")
    note = f"license {license.id}, {validity(license)}"
    text = file_text(license, jws, one_line=delivery.one_line)
    try:
        deliver(text, delivery.out_file, note, overwrite=delivery.force)
    except typer.Exit:
        known = request.base or "sub" in request.claims
        again = "the same command" if known else f"the same command with --id {license.id}"
        err.print(f"{license.id} is issued, and its file is in the books: {again} writes it.")
        raise
    _explain(license)
    if shown.newest is None and what == "issue":
        _tell_of_others(here, license)
    if delivery.publish:
        publish_files([(license, jws)], delivery.vault)


def refuse(error: ClaimError) -> NoReturn:
    """End the command, since a license cannot be as it was requested."""
    if error.refused:
        fail(f"Nothing was issued: {error}.")
    raise typer.BadParameter(str(error)) from None


def _decide(here: Home, request: LicenseRequest, now: datetime) -> Draft:
    with here.reading() as books:
        try:
            return draft_of(here, books, request, now)
        except ClaimError as error:
            refuse(error)


@in_event_loop
async def _signed(what: str, here: Home, request: LicenseRequest, shown: Draft) -> Signed:
    """Sign what was shown, and note it in the books and in the audit."""
    certain = replace(request, claims={**request.claims, "sub": shown.license.id})
    async with recording() as recorded, recorded(what, shown.license):
        with here.changing() as books:
            try:
                draft = draft_of(here, books, certain, utc_now())
                if (draft.newest, draft.changes) != (shown.newest, shown.changes):
                    fail(f"Nothing was issued: meanwhile another command has changed {draft.license.id}. Run it again.")
                return sign(here, books, draft, request.order)
            except ClaimError as error:
                refuse(error)


def _check_out_file(shown: Draft, delivery: Delivery) -> None:
    """End the command if the file of --out would be overwritten, or cannot be written, before anything is noted."""
    file = delivery.out_file
    if file is None:
        return
    try:
        check_writable(file)
        if delivery.force or not file.is_file():
            return
        held = file.read_bytes()
    except OSError as error:
        fail(f"Nothing was issued: {file} cannot be written: {error.strerror}.")
    if shown.present is None or held != file_text(*shown.present, one_line=delivery.one_line).encode():
        fail(f"Nothing was issued: {file} exists. Name another file, or overwrite it with --force.")


def _confirm(what: str, shown: Draft, delivery: Delivery) -> None:
    """Show what a file changes of its license; ask on a terminal.

    Elsewhere `issue` wants --yes, since what is not given gets its usual value. A renewal changes what is given alone.
    """
    words = ", ".join(shown.changes)
    if shown.unknown:
        words = "nobody knows here what it said before, since that file was issued before the books began"
    if not words:
        return
    err.print(f"{shown.license.id} changes: {words}.")
    if delivery.yes:
        return
    if can_ask():
        if not ask("Issue it?"):
            fail("Nothing was issued.")
    elif what == "issue":
        fail("Nothing was issued: --yes issues it all the same, and `licensing license renew` keeps what is not given.")


def _explain(license: License) -> None:
    """Say what a license may do that its vendor does not expect."""
    warn_of_common_names(license.salt, license.hosts)
    if license.hold_seconds:
        err.print(
            f"A program that crashes keeps its seat for {length_of(license.hold_seconds)}. Started again on its "
            "computer, it has its seat back at once. Where that computer is lost, `licensing license release --lost` "
            "frees the seat."
        )


def _tell_of_others(here: Home, license: License) -> None:
    """Say which licenses of the product the customer has besides a new one: perhaps a renewal was meant."""
    others = [
        file
        for file in here.issued()
        if (file.organization_id, file.product) == (license.organization.id, license.product)
        and file.valid_until > license.issued_at
        and file.license_id != license.id
    ]
    if others:
        err.print(
            f"{license.organization.id} has {count(len(others), 'other license')} of {license.product}, and this one "
            "is added. `licensing license renew ID` extends one instead; "
            f"`licensing license issued --organization {license.organization.id}` lists them."
        )
