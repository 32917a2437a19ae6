"""`licensing privacy`, from the side of a support person: names are typed or read, and never printed."""

import asyncio
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar

import jsonschema
import pytest

from licensing.cli.home import Home, local_storage, new_pepper
from licensing.cli.processes import free_port
from licensing.crypto.pseudonyms import client_hash, from_base64url
from licensing.rules.license import Kind
from licensing.rules.requests import End, Start
from licensing.services.retention import run_retention
from licensing.services.service import utc_now
from licensing.settings import Settings
from licensing.storage.ledger import Ledger
from licensing.storage.register import AuditEntry, Register
from licensing.storage.tables import Tables, merge
from tests import factories
from tests.cli.conftest import Licensing, Said, Vault, in_a_process
from tests.factories import Clock, new_license_id, new_session_id, terms
from tests.stores import OneCustomer

ADA, EVE, PC = "canary-ada", "canary-eve", "canary-pc.acme.example"
ADDRESS = "203.0.113.77"
NAMES = (ADA, EVE, PC, ADDRESS)

Result = TypeVar("Result")


@dataclass
class Customer:
    """A customer with a license, in the store and in the home of the support person."""

    licensing: Licensing
    monkeypatch: pytest.MonkeyPatch
    storage: str
    id: str
    license: str

    def privacy(self, command: str, *options: str, typed: str = "") -> Said:
        """Run a command on this customer's people, with what the support person types."""
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        return self.licensing("privacy", command, "--organization", self.id, *options)

    @asynccontextmanager
    async def tables(self) -> AsyncIterator[Tables]:
        tables = Tables.from_connection_string(self.storage)
        try:
            yield tables
        finally:
            await tables.close()

    def work(self, work: Callable[[Tables], Coroutine[Any, Any, Result]]) -> Result:
        async def opened() -> Result:
            async with self.tables() as tables:
                return await work(tables)

        return asyncio.run(opened())

    def use(
        self,
        user: str,
        *,
        host: str = PC,
        ends: bool = True,
        at: datetime | None = None,
        kind: Kind = Kind.FLOATING,
    ) -> str:
        """A program is used for ten minutes, or still runs; its session."""
        settings = Settings.load({"LICENSING_HOME": ".local", "LICENSING_STORAGE": self.storage})
        record = Home(Path(".local")).customer(self.id)
        assert record is not None
        salt = from_base64url(record.salt)
        hashes = client_hash(salt, "user", user), client_hash(salt, "host", host)
        persons = settings.peppers.persons(self.id, *hashes, ip_address(ADDRESS))
        session_id, clock = new_session_id(), Clock(at or datetime.now(UTC) - timedelta(hours=1))

        async def used(tables: Tables) -> None:
            ledger = Ledger(Register(tables), clock)
            bought = terms(organization_id=self.id, seats=100, kind=kind)
            await ledger.submit(self.license, Start(session_id, bought, persons))
            clock.forward(600)
            if ends:
                await ledger.submit(self.license, End(session_id))

        self.work(used)
        return session_id

    def peppers(self) -> str:
        """The setting of the home with its peppers."""
        return Home(Path(".local")).setting("LICENSING_PEPPERS")

    def audit(self) -> list[AuditEntry]:
        """What the audit says of this customer."""

        async def read(tables: Tables) -> list[AuditEntry]:
            found = Register(tables).audit(f"{utc_now():%Y-%m}")
            return [entry async for entry in found if entry.subject in (self.id, self.license)]

        return self.work(read)


@pytest.fixture
def customer(made: Path, licensing: Licensing, azurite: str, monkeypatch: pytest.MonkeyPatch) -> Customer:
    """A new customer, to whom a license was issued from this home."""
    id = factories.new_id("org")
    least = ("--organization-name", "Acme", "--product", "Water", "--until", "2099-12-31", "--out", "acme.lic")
    assert licensing("license", "issue", "--organization", id, *least).code == 0
    monkeypatch.setenv("LICENSING_STORAGE", azurite)
    return Customer(licensing, monkeypatch, azurite, id, new_license_id())


def silent(*said: Said) -> bool:
    """Whether no name is in any output."""
    return not [name for each in said for name in NAMES if name in each.out or name in each.err]


def sessions(said: Said) -> set[str]:
    return {session["session"] for session in json.loads(said.out)["sessions"]}


JSON = ("--format", "json")


def test_a_name_is_asked_for_and_shown_to_nobody(customer: Customer) -> None:
    hers, _ = customer.use(ADA), customer.use(EVE)
    said = customer.privacy("export", *JSON, typed=f"{ADA}\n")
    assert (said.code, sessions(said)) == (0, {hers})
    assert "Username:" in said.err, "so that the export can be piped"
    assert silent(said)
    said = customer.privacy("export", typed=f"{ADA.upper()}\n")
    assert f"session       {hers}" in said.out
    assert "What these mean" in said.out
    assert silent(said)


def test_an_empty_answer_is_asked_again_and_no_answer_stops(customer: Customer) -> None:
    hers = customer.use(ADA)
    assert sessions(customer.privacy("export", *JSON, typed=f"\n{ADA}\n")) == {hers}
    said = customer.privacy("erase", typed="")
    assert (said.code, said.err) == (1, "Username: No name was given.\n")
    assert sessions(customer.privacy("export", *JSON, typed=f"{ADA}\n")) == {hers}


@pytest.mark.parametrize("source", ["person.txt", "-"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_names_are_read_from_a_file_or_from_standard_input(customer: Customer, source: str, newline: str) -> None:
    hers = customer.use(ADA)

    def export(*lines: str) -> Said:
        text = newline.join((*lines, ""))
        Path("person.txt").write_bytes(text.encode("utf-8-sig"))
        return customer.privacy("export", *JSON, "--from-file", source, typed=text)

    said = export(f"username = {ADA}", "", f"hostname={PC}", f"address={ADDRESS}")
    assert (said.code, sessions(said), said.err) == (0, {hers}, "")
    assert sessions(export(f"username={ADA}", "hostname=another.example")) == set()
    assert sessions(export(f"username={ADA}", f"address=::ffff:{ADDRESS}")) == {hers}, "the same address"
    assert sessions(export(f"username={ADA}", "address=203.0.113.78")) == set()


def test_a_computer_is_found_under_its_short_name_and_under_the_full_one_that_older_programs_sent(
    customer: Customer,
) -> None:
    short = PC.partition(".")[0]
    now, before = customer.use(ADA, host=short), customer.use(ADA, host=PC)
    other = customer.use(ADA, host="canary-pc-2")

    def with_host(command: str, name: str, *options: str) -> Said:
        return customer.privacy(command, *options, "--from-file", "-", typed=f"username={ADA}\nhostname={name}\n")

    assert sessions(with_host("export", PC.upper(), *JSON)) == {now, before}
    assert sessions(with_host("export", short, *JSON)) == {now}
    corrected = with_host("rectify", PC, "--session", before, "--ended-at", f"{datetime.now(UTC):%Y-%m-%dT%H:%MZ}")
    assert (corrected.code, silent(corrected)) == (1, True), "it is found, and has not run so long"
    assert "the session can have ended between" in corrected.err
    assert "2 sessions deleted" in with_host("erase", PC).out
    assert sessions(customer.privacy("export", *JSON, typed=f"{ADA}\n")) == {other}


@pytest.mark.parametrize("form", [f"ACME\\{ADA}", f"{ADA}@acme.example"])
def test_a_user_is_found_without_the_domain_and_with_the_one_that_is_given(customer: Customer, form: str) -> None:
    now, before = customer.use(ADA), customer.use(form)
    assert sessions(customer.privacy("export", *JSON, typed=f"{form}\n")) == {now, before}
    assert sessions(customer.privacy("export", *JSON, typed=f"{ADA}\n")) == {now}
    moved = customer.privacy("rectify", "--move", typed=f"{form}\nACME\\{EVE}\n")
    assert (moved.code, moved.out.startswith("2 sessions corrected")) == (0, True)
    assert sessions(customer.privacy("export", *JSON, typed=f"{EVE}\n")) == {now, before}
    assert "2 sessions deleted" in customer.privacy("erase", typed=f"{EVE}\n").out


@pytest.mark.parametrize("line", [ADA, f"user={ADA}", "username=", f"address={ADA}"])
def test_a_file_that_says_something_else_is_refused_and_not_shown(customer: Customer, line: str) -> None:
    said = customer.privacy("erase", "--from-file", "-", typed=f"username={EVE}\n{line}\n")
    assert said.code == 2
    assert silent(said)


def test_a_file_that_is_not_there_is_reported(customer: Customer) -> None:
    said = customer.privacy("erase", "--from-file", "nowhere.txt")
    assert (said.code, said.err) == (1, "The file of --from-file cannot be read as text.\n")


@pytest.mark.parametrize("option", [("--username", ADA), ("--hostname", PC)])
def test_a_name_on_the_command_line_works_with_a_warning(customer: Customer, option: tuple[str, str]) -> None:
    hers = customer.use(ADA)
    said = customer.privacy("export", *JSON, *option, typed=f"{ADA}\n")
    assert (said.code, sessions(said)) == (0, {hers})
    assert "can be seen by others on this machine" in said.err
    assert silent(said)


def test_the_right_name_on_the_command_line_is_warned_of_too(customer: Customer) -> None:
    customer.use(ADA)
    said = customer.privacy("rectify", "--to-username", EVE, typed=f"{ADA}\n")
    assert said.code == 0
    assert "can be seen by others on this machine" in said.err


def test_an_export_is_as_the_schema_that_the_command_prints(customer: Customer) -> None:
    customer.use(ADA)
    customer.use(ADA, ends=False)
    schema = json.loads(customer.licensing("privacy", "export", "--schema").out)
    said = customer.privacy("export", *JSON, "--out", "export.json", typed=f"{ADA}\n")
    assert (said.code, said.out) == (0, "")
    exported = json.loads(Path("export.json").read_text(encoding="utf-8"))
    jsonschema.validate(exported, schema)
    assert len(exported["sessions"]) == 2


def test_a_row_that_cannot_be_read_is_named_and_the_others_are_shown(customer: Customer) -> None:
    hers, ended, active = customer.use(ADA), customer.use(ADA), customer.use(ADA, ends=False)

    async def damage(tables: Tables) -> list[str]:
        prefixes = ("ended:", f"active:{active}")
        keys = [row.key async for row in tables.rows("register", customer.license, columns=())]
        damaged = [key for key in keys if key.startswith(prefixes) and key.endswith((ended, active))]
        for key in damaged:
            await tables.commit("register", customer.license, [merge(key, {"started_at": "?"})])
        return damaged

    keys = customer.work(damage)
    said = customer.privacy("export", *JSON, typed=f"{ADA}\n")

    assert (said.code, sessions(said), len(keys)) == (1, {hers}, 2)
    flaw = "has a column started_at that cannot be read; correct it by hand."
    assert said.err.removeprefix("Username: ").splitlines() == [
        f"Left out: the row {key} of {customer.license} {flaw}" for key in keys
    ]
    assert silent(said)
    said = customer.privacy("erase", typed=f"{ADA}\n")
    assert (said.code, said.out) == (1, ""), "an erasure that would leave a row is none"
    assert f"the row {keys[0]} of {customer.license} {flaw}" in said.err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no file modes")
@pytest.mark.parametrize("before", [None, 0o644], ids=["new", "existing"])
def test_an_export_in_a_file_can_be_read_by_its_owner_alone_from_the_first_byte_on(
    customer: Customer, monkeypatch: pytest.MonkeyPatch, before: int | None
) -> None:
    hers, file = customer.use(ADA), Path("export.json")
    if before is not None:
        file.write_text("old")
        file.chmod(before)
    modes = []

    def written(self: Path, target: Path) -> None:
        modes.append(self.stat().st_mode & 0o777)
        os.replace(self, target)

    monkeypatch.setattr(Path, "replace", written)

    assert customer.privacy("export", *JSON, "--out", "export.json", typed=f"{ADA}\n").code == 0

    assert (modes, file.stat().st_mode & 0o777) == ([0o600], 0o600)
    assert hers in file.read_text(encoding="utf-8")
    assert [each.name for each in Path().glob(".export*")] == []


def test_a_result_that_cannot_be_written_leaves_the_file_as_it_was(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    customer.use(ADA)
    Path("export.json").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    said = customer.privacy("export", *JSON, "--out", "export.json", typed=f"{ADA}\n")

    assert (said.code, said.err) == (1, "Username: export.json cannot be written: No space left on device.\n")
    assert Path("export.json").read_text() == "old"
    assert [each.name for each in Path().glob(".export*")] == []


@pytest.mark.skipif(sys.platform == "win32", reason="there is no /dev/null")
def test_what_is_no_regular_file_is_written_into_and_not_replaced(customer: Customer) -> None:
    customer.use(ADA)
    assert customer.privacy("export", "--out", "/dev/null", typed=f"{ADA}\n").code == 0
    assert Path("/dev/null").is_char_device()


def test_an_export_without_a_customer_is_wrong_usage(licensing: Licensing) -> None:
    said = licensing("privacy", "export", "--username", ADA)
    assert said.code == 2
    assert "name the customer with --organization" in said.err


def test_an_erasure_gives_a_receipt_that_names_no_one_and_can_be_repeated(customer: Customer) -> None:
    hers, running, his = customer.use(ADA), customer.use(ADA, ends=False), customer.use(EVE)
    said = customer.privacy("erase", typed=f"{ADA}\n")
    assert said.code == 0
    assert f"under 1 license of {customer.id}: 2 sessions deleted, 1 of them ended for it." in said.out
    again = customer.privacy("erase", "--json", typed=f"{ADA}\n")
    assert again.code == 0
    receipt = json.loads(again.out)
    assert datetime.fromisoformat(receipt.pop("at")).tzinfo is not None
    assert receipt == {"organization": customer.id, "licenses": 1, "ended": 0, "deleted": 0}
    assert silent(said, again)
    assert hers not in said.out + again.out
    assert running not in said.out + again.out
    assert sessions(customer.privacy("export", *JSON, typed=f"{EVE}\n")) == {his}


def test_sessions_move_to_the_right_name(customer: Customer) -> None:
    hers = customer.use(ADA)
    said = customer.privacy("rectify", "--move", typed=f"{ADA}\n{EVE}\n")
    assert (said.code, said.out) == (0, "1 session corrected.\n")
    assert silent(said)
    assert sessions(customer.privacy("export", *JSON, typed=f"{EVE}\n")) == {hers}
    said = customer.privacy("rectify", "--move", "--from-file", "-", typed=f"username={EVE}\nto_username={ADA}\n")
    assert said.code == 0
    assert silent(said)
    assert sessions(customer.privacy("export", *JSON, typed=f"{ADA}\n")) == {hers}
    said = customer.privacy("rectify", "--move", typed=f"{EVE}\n{ADA}\n")
    assert (said.code, said.err) == (1, "Username: The right username: Nothing was found to correct.\n")


def test_an_end_is_corrected_where_it_can_have_been(customer: Customer) -> None:
    hers = customer.use(ADA, at=datetime(2026, 3, 10, 12, tzinfo=UTC))
    customer.use(ADA, ends=False)

    def correct(ended_at: str) -> Said:
        return customer.privacy("rectify", "--session", hers.upper(), "--ended-at", ended_at, typed=f"{ADA}\n")

    said = correct("2026-03-10T12:05+01:00")
    assert said.code == 1
    assert "Not corrected: the session can have ended between 2026-03-10 12:00:00" in said.err
    assert (correct("2026-03-10T12:05").code, correct("yesterday").code) == (0, 2)

    async def night(tables: Tables) -> None:
        store = OneCustomer(tables, customer.id)
        await run_retention(Register(store), Ledger(Register(store), utc_now), utc_now(), 3)

    customer.work(night)
    said = correct("2026-03-10T14:04+02:00")
    assert (said.code, said.err) == (0, "Username: "), "the other one, that runs, is of no concern"
    assert "Final totals of 2026-03 changed with them; statements tell of it." in said.out
    (session,) = [
        session
        for session in json.loads(customer.privacy("export", *JSON, typed=f"{ADA}\n").out)["sessions"]
        if session["session"] == hers
    ]
    assert session["ended_at"] == "2026-03-10T12:04:00Z"


def test_one_message_says_what_was_corrected_and_what_still_runs(customer: Customer) -> None:
    asked = "Username: The right username: "
    customer.use(ADA, ends=False)
    only_running = customer.privacy("rectify", "--move", typed=f"{ADA}\n{EVE}\n")
    customer.use(ADA)
    some_running = customer.privacy("rectify", "--move", typed=f"{ADA}\n{EVE}\n")
    customer.use(ADA, ends=False)
    two_running = customer.privacy("rectify", "--move", typed=f"{ADA}\n{EVE}\n")

    assert only_running == Said(
        1, "", f"{asked}Nothing was corrected: 1 session still runs. Correct it when it has ended.\n"
    )
    assert some_running == Said(
        0, "1 session corrected, and 1 session still runs. Correct it when it has ended.\n", asked
    )
    assert two_running == Said(
        1, "", f"{asked}Nothing was corrected: 2 sessions still run. Correct them when they have ended.\n"
    )


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--session", "x"),
        ("--ended-at", "2026-03-10"),
        ("--move", "--session", "x", "--ended-at", "2026-03-10"),
    ],
)
def test_a_correction_is_either_of_the_name_or_of_the_end(customer: Customer, options: tuple[str, ...]) -> None:
    assert customer.privacy("rectify", *options, typed=f"{ADA}\n").code == 2


def test_without_the_customers_salt_nobody_can_be_found(customer: Customer) -> None:
    said = customer.licensing("privacy", "erase", "--organization", "unknown", "--username", ADA)
    assert said.code == 1
    assert "There is no customer unknown in" in said.err


# The peppers.

REQUESTS = {
    "export": ("export",),
    "erase": ("erase",),
    "move": ("rectify", "--move"),
    "end": ("rectify", "--session", "x", "--ended-at", "2026-03-10"),
}


def elsewhere(customer: Customer) -> tuple[str, str]:
    """Make the home's pepper another one than the register's; that one's id, and the setting that knows it."""
    there = customer.peppers()
    Home(Path(".local")).save_setting("LICENSING_PEPPERS", json.dumps(dict([new_pepper()])))
    (id,) = json.loads(there)
    return id, there


@pytest.mark.parametrize("ends", [True, False], ids=["ended", "active"])
@pytest.mark.parametrize("request_", REQUESTS)
def test_a_register_under_another_pepper_is_never_said_to_hold_nothing(
    customer: Customer, request_: str, ends: bool
) -> None:
    hers = customer.use(ADA, ends=ends)
    id, there = elsewhere(customer)
    said = customer.privacy(*REQUESTS[request_], typed=f"{ADA}\n{EVE}\n")
    assert (said.code, said.out) == (1, "")
    assert f"Nothing was done: sessions of {customer.id} are stored under the pepper {id}" in said.err
    assert "--vault" in said.err
    assert silent(said)
    assert [(entry.what, entry.outcome) for entry in customer.audit()] == [(REQUESTS[request_][0], "failed")]
    Home(Path(".local")).save_setting("LICENSING_PEPPERS", there)
    assert sessions(customer.privacy("export", *JSON, typed=f"{ADA}\n")) == {hers}


def test_a_register_whose_peppers_are_in_a_vault_is_searched_with_these(customer: Customer, vault: Vault) -> None:
    hers = customer.use(ADA)
    _, there = elsewhere(customer)
    vault.secrets["peppers"] = [there]
    of = ("--vault", "kv-test")
    assert sessions(customer.privacy("export", *JSON, *of, typed=f"{ADA}\n")) == {hers}
    assert customer.privacy("rectify", "--move", *of, typed=f"{ADA}\n{EVE}\n").out == "1 session corrected.\n"
    assert "1 session deleted" in customer.privacy("erase", *of, typed=f"{EVE}\n").out
    secrets = json.loads(there).values()
    said = customer.privacy("export", *JSON, *of, typed=f"{EVE}\n")
    assert sessions(said) == set()
    assert not [secret for secret in secrets if secret in said.out + said.err]


def test_a_vaults_peppers_are_not_tried_on_the_store_of_the_home(
    customer: Customer, vault: Vault, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault.secrets["peppers"] = [customer.peppers()]
    monkeypatch.delenv("LICENSING_STORAGE")
    said = customer.privacy("export", "--vault", "kv-test", typed=f"{ADA}\n")
    assert (said.code, said.out) == (1, "")
    assert "set one of LICENSING_STORAGE" in said.err


def test_the_homes_peppers_are_not_tried_on_a_deployed_store(
    customer: Customer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LICENSING_STORAGE")
    monkeypatch.setenv("LICENSING_STORAGE__tableServiceUri", f"https://127.0.0.1:{free_port()}")
    for command in REQUESTS.values():
        said = customer.privacy(*command, typed=f"{ADA}\n{EVE}\n")
        assert (said.code, said.out) == (1, "")
        assert "name it with --vault" in said.err
        assert "Username" not in said.err, "nobody is asked in vain"


def test_an_empty_name_of_a_vault_does_not_mean_the_home(customer: Customer) -> None:
    customer.use(ADA)
    said = customer.privacy("export", "--vault", "", typed=f"{ADA}\n")
    assert (said.code, said.out) == (1, "")
    assert "is not the name of a key vault" in said.err


@pytest.mark.parametrize("kept", [None, "{}"])
def test_a_vault_without_peppers_is_reported(customer: Customer, vault: Vault, kept: str | None) -> None:
    vault.secrets["peppers"] = [kept] if kept else []
    said = customer.privacy("erase", "--vault", "kv-test", typed=f"{ADA}\n")
    assert (said.code, said.out) == (1, "")
    assert re.search("has no secret peppers|LICENSING_PEPPERS must be", said.err)


def test_what_is_under_a_lost_pepper_is_left_out_and_that_is_said(customer: Customer) -> None:
    customer.use(ADA)
    lost, _ = elsewhere(customer)
    hers = customer.use(ADA)
    said = customer.privacy("export", *JSON, "--lost", lost, typed=f"{ADA}\n")
    assert (said.code, sessions(said)) == (0, {hers})
    assert f"Sessions under {lost} were left out: nobody can be found in them." in said.err
    assert customer.privacy("export", *JSON, "--lost", "another", typed=f"{ADA}\n").code == 1


def test_opting_out_needs_no_pepper(customer: Customer, licensing: Licensing) -> None:
    customer.use(ADA, kind=Kind.NAMED_USER)
    Home(Path(".local")).save_setting("LICENSING_PEPPERS", "")
    assert licensing("privacy", "opt-out", customer.license, "--erase").code == 0
    assert licensing("privacy", "opt-in", customer.license).code == 0


def test_a_license_opts_out_and_in(customer: Customer, licensing: Licensing) -> None:
    customer.use(ADA, kind=Kind.NAMED_USER)
    customer.use(ADA, ends=False, kind=Kind.NAMED_USER)
    said = licensing("privacy", "opt-out", customer.license, "--erase")
    assert said.code == 0
    assert said.out.splitlines() == [
        f"Nothing is stored of the use of {customer.license} from now on.",
        "1 running program will start again at the next heartbeat, unrecorded.",
        "2 rows erased; only the license's own rows are left.",
    ]
    said = licensing("privacy", "opt-in", customer.license)
    assert (said.code, said.out) == (0, f"Sessions under {customer.license} are recorded again.\n")


def test_a_floating_license_and_an_unknown_one_cannot_opt_out(customer: Customer, licensing: Licensing) -> None:
    customer.use(ADA)
    said = licensing("privacy", "opt-out", customer.license)
    assert (said.code, said.out) == (1, "")
    assert f"Refused: {customer.license} is a floating license" in said.err
    said = licensing("privacy", "opt-out", "acme.lic")
    assert said.code == 1
    assert "is a floating license" in said.err
    for command in ("opt-out", "opt-in"):
        said = licensing("privacy", command, "nowhere")
        assert said.code == 1
        assert "There is no license nowhere in the register." in said.err


def test_every_request_is_in_the_audit_and_no_name_is(customer: Customer, licensing: Licensing) -> None:
    customer.use(ADA)
    customer.privacy("export", typed=f"{ADA}\n")
    customer.privacy("rectify", "--move", typed=f"{ADA}\n{EVE}\n")
    customer.privacy("erase", typed=f"{EVE}\n")
    licensing("privacy", "opt-out", customer.license)
    licensing("privacy", "opt-in", customer.license)
    found = [(entry.what, entry.subject, entry.outcome) for entry in customer.audit()]
    assert found == [
        ("export", customer.id, "done"),
        ("rectify", customer.id, "done"),
        ("erase", customer.id, "done"),
        ("opt-out", customer.license, "failed"),
        ("opt-in", customer.license, "done"),
    ]
    assert silent(licensing("audit"), licensing("audit", "--json"))


def test_a_store_that_cannot_be_used_is_one_sentence(customer: Customer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LICENSING_STORAGE", local_storage(free_port()))
    said = customer.privacy("erase", typed=f"{ADA}\n")
    assert said.code == 1
    assert said.err == "Username: The store cannot be used: the store did not answer.\n"
    assert silent(said)


def test_a_command_passes_no_name_to_a_program_that_it_starts(customer: Customer) -> None:
    customer.use(ADA)
    program = (
        "import sys\n"
        "started = []\n"
        "sys.addaudithook(lambda event, args: started.append(str(args)) if event in "
        "('subprocess.Popen', 'os.exec', 'os.system', 'os.posix_spawn', 'os.fork') else None)\n"
        "from licensing.cli import main\n"
        "try:\n    main()\nfinally:\n    sys.stderr.write(f'started={started}')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, "privacy", "erase", "--organization", customer.id],
        input=f"{ADA}\n",
        env={**os.environ, "LICENSING_HOME": ".local", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "started=" in done.stderr
    assert ADA not in done.stdout + done.stderr


LONG = {
    "export": ("export", "--organization", "ORG", "--username", ADA),
    "erase": ("erase", "--organization", "ORG", "--username", ADA),
    "rectify": ("rectify", "--organization", "ORG", "--username", ADA, "--to-username", EVE),
    "opt-out": ("opt-out", "ID", "--erase"),
}


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudoterminal")
@pytest.mark.parametrize("watched", [True, False], ids=["terminal", "pipe"])
@pytest.mark.parametrize("request_", LONG)
def test_long_work_shows_a_bar_on_a_terminal_and_nowhere_else(
    customer: Customer, made: Path, azurite: str, request_: str, watched: bool
) -> None:
    customer.use(ADA, kind=Kind.NAMED_USER)
    words = ["privacy", *({"ORG": customer.id, "ID": customer.license}.get(word, word) for word in LONG[request_])]
    settings = {"LICENSING_HOME": str(made.absolute()), "LICENSING_STORAGE": azurite}
    code, out, messages = in_a_process(*words, settings=settings, watched=watched)
    assert code == 0
    assert (re.search(rb"licenses|steps", messages) is not None) is watched
    assert (b"\x1b" in messages) is watched
    assert out
    assert b"\x1b" not in out
