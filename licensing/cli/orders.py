"""`licensing license issue --from FILE`: makes the licenses of a CSV file of orders what their lines say.

The books know a line by its key: its id, else its order, else its content with a counter for identical lines. A line
whose key and content they know is unchanged, whatever happened to its license since.

All lines are decided first, and what they change is shown; one bad line, and nothing is done. Then each line is decided
again, signed and noted with its key in one transaction, and delivered. So a run that dies is finished by the next one.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

from licensing.cli.books import Books, Order
from licensing.cli.claims import CLAIMS, ClaimError
from licensing.cli.context import home, in_event_loop
from licensing.cli.files import check_writable
from licensing.cli.home import CustomerRecord, Home
from licensing.cli.issuing import Draft, LicenseRequest, Signed, content_of, draft_of, sign
from licensing.cli.license_words import file_text, summary
from licensing.cli.order_lines import ORDER, BadCell, OrderFileError, OrderLine, read_orders
from licensing.cli.output import ask, bar, can_ask, count, err, fail, out, print_text, save
from licensing.cli.publishing import publish_files
from licensing.cli.recording import Recorded, recording
from licensing.crypto.keys import SigningKeys, new_private_jwk
from licensing.crypto.tokens import write_license
from licensing.services.service import utc_now

AUDITED_AT_ONCE: Final = 20
"""Lines whose audit entries are written at the same time. Their files are signed one after the other all the same."""


@dataclass(frozen=True, slots=True)
class OrderDelivery:
    """Where the license files of orders go, and what is asked before."""

    folder: Path | None = None
    force: bool = False
    publish: bool = False
    vault: str | None = None
    yes: bool = False
    rename: bool = False
    dry_run: bool = False
    one_line: bool = False

    def text(self, file: Signed) -> str:
        """The text of a license file."""
        return file_text(*file, one_line=self.one_line)


class OrderState(StrEnum):
    """What a line is to its license."""

    NEW = "new"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class OrderPlan:
    """What is to be done for a line. `present` is the file of an unchanged one, `draft` what the others will say.

    `noted` is true if the books have the line as it is.
    """

    line: OrderLine
    key: str
    content: str
    state: OrderState
    draft: Draft | None = None
    present: Signed | None = None
    noted: bool = False

    @property
    def license_id(self) -> str:
        """The id of the line's license."""
        if self.draft:
            return self.draft.license.id
        return self.present[0].id if self.present else ""


class _OrderPlanner:
    """Decides lines in their order: a line may be of a customer that a line before has made."""

    def __init__(self, here: Home, now: datetime, *, rename: bool) -> None:
        self.customers: dict[str, CustomerRecord] = {}
        self._here = here
        self._now = now
        self._rename = rename
        self._identical: Counter[str] = Counter()
        self._names: dict[str, str] = {}

    def plan(self, books: Books, line: OrderLine) -> OrderPlan:
        """What is to be done for a line. ClaimError if it cannot be."""
        request = LicenseRequest(line.claims, strict=line.strict, rename=self._rename, order=line.order)
        self._check_name(line)
        content = content_of(self._here, request, self.customers)
        key = _named_key(line) or (content and self._key_of_content(content))
        known = books.order(key) if key else None
        if known and known.content == content:
            file = books.newest_of(known.license_id)
            if file and file.signed:
                return OrderPlan(line, key or "", content, OrderState.UNCHANGED, present=file.signed, noted=True)
        if known:
            request = replace(request, claims={**request.claims, "sub": known.license_id})
        draft = draft_of(self._here, books, request, self._now, self.customers)
        self.customers[draft.customer.id] = draft.customer
        key = key or self._key_of_content(draft.content)
        if draft.present:
            return OrderPlan(line, key, draft.content, OrderState.UNCHANGED, present=draft.present)
        return OrderPlan(line, key, draft.content, OrderState.CHANGED if draft.newest else OrderState.NEW, draft)

    def _check_name(self, line: OrderLine) -> None:
        """A customer has one name in a file, also where --rename allows for another than before."""
        organization_id, name = line.claims.get("organization.id"), line.claims.get("organization.name")
        if self._rename and organization_id and name and self._names.setdefault(organization_id, name) != name:
            raise ClaimError(
                "organization.name", f"a line before gives {organization_id} another name; give one of them"
            )

    def _key_of_content(self, content: str) -> str:
        self._identical[content] += 1
        return f"line:{content}:{self._identical[content]}"


def issue_orders(file: Path, delivery: OrderDelivery) -> None:
    """Issue the licenses of a file of orders: all, or none if a line is wrong."""
    try:
        lines, bad = read_orders(file)
    except OrderFileError as error:
        fail(f"Nothing was issued: {error}.")
    here = home()
    planner = _OrderPlanner(here, utc_now(), rename=delivery.rename)
    plans = _decided(here, planner, lines, bad)
    bad += _taken_files(plans, delivery)
    if bad:
        for each in sorted(bad, key=lambda cell: cell.line):
            err.print(f"{each}.")
        fail(f"Nothing was issued: {count(len({each.line for each in bad}), 'line')} to correct.")
    _show(plans, delivery)
    if delivery.dry_run:
        return
    _confirm(plans, delivery)
    if delivery.folder is not None:
        _make(delivery.folder)
    signed = _carry_out(here, plans, planner.customers, delivery)
    if delivery.folder is not None:
        err.print(f"{delivery.folder} has the license files of {count(len(signed), 'line')}.")
    if delivery.publish:
        _publish(signed, delivery.vault)


def _named_key(line: OrderLine) -> str | None:
    if "sub" in line.claims:
        return f"id:{line.claims['sub']}"
    return f"order:{line.order}" if line.order else None


def _decided(here: Home, planner: _OrderPlanner, lines: Sequence[OrderLine], bad: list[BadCell]) -> list[OrderPlan]:
    """The plans of all lines; what is wrong with a line is added to `bad`."""
    plans: list[OrderPlan] = []
    seen: dict[str, int] = {}
    keys = SigningKeys({"keys": [new_private_jwk()]})  # only to see how large the files will be
    with here.reading() as books, bar("lines") as progress:
        for done, line in enumerate(lines, 1):
            try:
                plan = planner.plan(books, line)
                if plan.draft:
                    write_license(plan.draft.license, keys)
            except ClaimError as error:
                bad.append(_bad_cell(line, error))
                continue
            except ValueError as error:
                bad.append(BadCell(line.number, "", str(error)))
                continue
            first = min(seen.setdefault(each, line.number) for each in (plan.key, f"license {plan.license_id}"))
            if first != line.number:
                column = CLAIMS["sub"].column if "sub" in line.claims else ORDER
                what = f"line {first} is for the same license; give each its own {column}"
                bad.append(BadCell(line.number, column, what))
            plans.append(plan)
            progress(done, len(lines))
    return plans


def _bad_cell(line: OrderLine, error: ClaimError) -> BadCell:
    column = CLAIMS[error.claim].column if error.claim in CLAIMS else ""
    return BadCell(line.number, column, f"it {error.what}" if error.what.startswith("takes ") else error.what)


def _taken_files(plans: Sequence[OrderPlan], delivery: OrderDelivery) -> list[BadCell]:
    """The lines whose license files would overwrite others, or cannot be written."""
    if delivery.folder is None:
        return []
    return [
        BadCell(plan.line.number, "", what)
        for plan in plans
        if (what := _taken(_file_of(delivery.folder, plan.license_id), plan, delivery))
    ]


def _taken(file: Path, plan: OrderPlan, delivery: OrderDelivery) -> str | None:
    try:
        if file.is_dir():
            return f"{file} is a folder; move it away"
        if delivery.force or not file.is_file():
            return None
        if plan.present and file.read_bytes() == delivery.text(plan.present).encode():
            return None
    except OSError as error:
        return f"{file} cannot be read: {error.strerror}"
    return f"{file} exists and holds something else; --force overwrites it"


def _file_of(folder: Path, license_id: str) -> Path:
    return folder / f"{license_id}.lic"


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_writable(folder / "license.lic")
    except OSError as error:
        fail(f"Nothing was issued: {folder} cannot be written: {error.strerror}.")


def _show(plans: Sequence[OrderPlan], delivery: OrderDelivery) -> None:
    """Show what the lines change; in a dry run that is the result, before the work a message."""
    console = out if delivery.dry_run else err
    for plan in plans:
        if plan.draft is None:
            continue
        license, changes = plan.draft.license, ", ".join(plan.draft.changes)
        if plan.state is OrderState.NEW:
            given = f"{license.id}, " if "sub" in plan.line.claims else ""
            console.print(f"line {plan.line.number}: new, {given}{summary(license)}")
        else:
            words = "what it said before is not in the books" if plan.draft.unknown else changes or "serial and keys"
            console.print(f"line {plan.line.number}: changed, {license.id}: {words}")
    numbers = Counter(plan.state for plan in plans)
    console.print(", ".join(f"{numbers[state]} {state}" for state in OrderState))


def _confirm(plans: Sequence[OrderPlan], delivery: OrderDelivery) -> None:
    """Ask before licenses change, on a terminal; elsewhere want --yes. New ones alone are what was asked for."""
    if delivery.yes or not any(plan.state is OrderState.CHANGED for plan in plans):
        return
    if not can_ask():
        fail(
            "Nothing was issued: lines change licenses. What a line leaves out gets its usual value; --yes issues all "
            "the same, and `licensing license renew` keeps what is not given."
        )
    if not ask("Issue all?"):
        fail("Nothing was issued.")


@in_event_loop
async def _carry_out(
    here: Home, plans: Sequence[OrderPlan], customers: Mapping[str, CustomerRecord], delivery: OrderDelivery
) -> list[Signed]:
    """Sign, note and deliver line by line; the files of all lines."""
    files: list[Signed] = []
    async with recording() as recorded:
        with bar("licenses") as progress:
            for first in range(0, len(plans), AUDITED_AT_ONCE):
                some = plans[first : first + AUDITED_AT_ONCE]
                work = [_done(here, plan, customers, recorded, delivery) for plan in some]
                outcomes = await asyncio.gather(*work, return_exceptions=True)
                files += [file for file in outcomes if not isinstance(file, BaseException)]
                for error in outcomes:
                    if isinstance(error, BaseException):
                        err.print(f"{len(files)} of {count(len(plans), 'line')} are done; run it again for the rest.")
                        raise error
                progress(len(files), len(plans))
    return files


async def _done(
    here: Home,
    plan: OrderPlan,
    customers: Mapping[str, CustomerRecord],
    recorded: Recorded,
    delivery: OrderDelivery,
) -> Signed:
    """Deliver the file of a line, which is signed and noted before unless the line is unchanged."""
    file = plan.present or await _issued(here, plan, customers, recorded, delivery.rename)
    if plan.present and not plan.noted:
        with here.changing() as books:
            books.note_order(plan.key, Order(plan.license_id, plan.content))
            if plan.line.order:
                books.refer(plan.license_id, plan.line.order)
    _deliver(plan, file, delivery)
    return file


async def _issued(
    here: Home, plan: OrderPlan, customers: Mapping[str, CustomerRecord], recorded: Recorded, rename: bool
) -> Signed:
    if plan.draft is None:
        raise AssertionError("a line that is not unchanged has a draft")
    async with recorded("issue", plan.draft.license):
        with here.changing() as books:
            return _signed(here, books, plan, plan.draft, customers, rename)


def _signed(
    here: Home, books: Books, plan: OrderPlan, shown: Draft, customers: Mapping[str, CustomerRecord], rename: bool
) -> Signed:
    """Decide a line again, while nobody else changes the home, and sign what was shown."""
    line = plan.line
    claims = {**line.claims, "sub": shown.license.id}
    request = LicenseRequest(claims, strict=line.strict, rename=rename, order=line.order)
    # Of a customer that this run makes or renames, the lines come in any order.
    new = customers if rename or here.customer(shown.customer.id) is None else {}
    try:
        draft = draft_of(here, books, request, utc_now(), new)
        known = books.order(plan.key)
        moved = known is not None and known.license_id != shown.license.id
        if moved or (draft.newest, draft.changes, draft.content) != (shown.newest, shown.changes, plan.content):
            fail(f"Line {line.number} was not issued: meanwhile another command has changed its license.")
        signed = sign(here, books, draft, line.order)
    except ClaimError as error:
        fail(f"{_bad_cell(line, error)}.")
    books.note_order(plan.key, Order(signed[0].id, plan.content))
    return signed


def _deliver(plan: OrderPlan, file: Signed, delivery: OrderDelivery) -> None:
    license, text = file[0], delivery.text(file)
    if delivery.folder is not None:
        save(text, _file_of(delivery.folder, license.id), overwrite=delivery.force)
        return
    line = {"line": plan.line.number, "license": license.id, "serial": license.serial, "state": plan.state}
    print_text(json.dumps({**line, "file": text}) + "\n")


def _publish(files: Sequence[Signed], vault: str | None) -> None:
    """Publish the files that can be: those of people and networks reach programs by hand."""
    now = utc_now()
    can_be, others = [], []
    for license, jws in files:
        if not license.lists_people and license.valid_from <= now < license.valid_until:
            can_be.append((license, jws))
        else:
            others.append(license.id)
    if others:
        err.print(
            f"{count(len(others), 'file')} cannot be published, for users, computers or networks that are listed, or "
            f"since today is not within the validity: {', '.join(others)}."
        )
    if can_be:
        publish_files(can_be, vault)
