"""`licensing organization forget`: a customer that has left is deleted on purpose, never by mistake."""

import asyncio
import io
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from licensing.rules.requests import End
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests import factories
from tests.cli.conftest import Licensing, Said
from tests.factories import Clock, new_license_id, new_session_id, start, terms

HOUR = timedelta(hours=1)


@dataclass
class Customer:
    """A customer of the home, with a license in the register that was used once."""

    licensing: Licensing
    monkeypatch: pytest.MonkeyPatch
    storage: str
    id: str
    license: str

    def forget(self, *options: str, typed: str = "") -> Said:
        """Run the command on this customer, with what the operator types."""
        self.monkeypatch.setattr(sys, "stdin", io.StringIO(typed))
        return self.licensing("organization", "forget", self.id, *options)

    def use(self, until: datetime, *, ends: bool = True) -> None:
        """A program is used, or still runs, under the license that is valid until then."""

        async def used() -> None:
            tables = Tables.from_connection_string(self.storage)
            ledger = Ledger(Register(tables), Clock(datetime.now(UTC) - 2 * HOUR))
            session_id = new_session_id()
            await ledger.submit(self.license, start(session_id, terms(organization_id=self.id, valid_until=until)))
            if ends:
                await ledger.submit(self.license, End(session_id))
            await tables.close()

        asyncio.run(used())

    def rows(self) -> set[str]:
        """The keys of the customer's rows in all tables, and what the audit says of it."""

        async def read() -> set[str]:
            tables = Tables.from_connection_string(self.storage)
            found = {row.key async for row in tables.rows("register", self.license)}
            found |= {row.key async for row in tables.rows("directory", self.id)}
            entries = Register(tables).audit(f"{datetime.now(UTC):%Y-%m}")
            found |= {f"{each.what} {each.outcome}" async for each in entries if each.subject == self.id}
            await tables.close()
            return found

        return asyncio.run(read())


@pytest.fixture
def customer(made: Path, licensing: Licensing, azurite: str, monkeypatch: pytest.MonkeyPatch) -> Customer:
    """A new customer, to whom a license was issued from this home; it has ended since."""
    id = factories.new_id("org")
    least = ("--organization-name", "Acme", "--product", "Water", "--from", "2025-01-01", "--out", "acme.lic")
    assert licensing("license", "issue", "--organization", id, "--until", "2025-12-31", *least).code == 0
    monkeypatch.setenv("LICENSING_STORAGE", azurite)
    return Customer(licensing, monkeypatch, azurite, id, new_license_id())


@pytest.mark.parametrize("options", [(), ("--yes",)])
def test_a_customer_is_deleted_after_its_id_was_typed_again(customer: Customer, options: tuple[str, ...]) -> None:
    customer.use(datetime.now(UTC) - HOUR)
    said = customer.forget(*options, typed="" if options else f"{customer.id}\n")
    assert (said.code, said.out) == (0, f"Deleted {customer.id}: 1 license, 4 rows in all.\n")
    assert ("Type" in said.err) is (not options)
    assert ("This deletes 1 license, 4 rows in all" in said.err) is (not options)
    for left in ("audit", "two years", "LICENSING_LOG_DAYS", "statements", "organizations.json", "books.sqlite"):
        assert left in said.err
    assert customer.rows() == {"forget done"}
    again = customer.forget("--yes")
    assert (again.code, again.err) == (1, f"There is no organization {customer.id} in the register.\n")


@pytest.mark.parametrize("typed", ["", "y\n", "\n", "another\n"])
def test_anything_else_deletes_nothing(customer: Customer, typed: str) -> None:
    customer.use(datetime.now(UTC) - HOUR)
    before = customer.rows()
    said = customer.forget(typed=typed)
    assert (said.code, said.out) == (1, "")
    assert said.err.endswith("Nothing was deleted.\n")
    assert customer.rows() == before


def test_a_dry_run_counts_and_asks_nothing(customer: Customer) -> None:
    customer.use(datetime.now(UTC) - HOUR)
    before = customer.rows()
    said = customer.forget("--dry-run")
    assert (said.code, said.out, said.err) == (0, "would delete 1 license, 4 rows in all\n", "")
    assert customer.rows() == before


def test_a_customer_that_has_not_left_is_not_deleted(customer: Customer) -> None:
    customer.use(datetime(2099, 1, 1, tzinfo=UTC), ends=False)
    before = customer.rows()
    for options in (("--yes",), ("--dry-run",), ()):
        said = customer.forget(*options, typed=f"{customer.id}\n")
        assert (said.code, said.out) == (1, "")
        assert f"Nothing was deleted: {customer.license} is valid until 2098-12-31; " in said.err
        assert f"{customer.license} has 1 active session." in said.err
    assert customer.rows() == before


def test_a_file_that_could_bring_the_customer_back_is_named(customer: Customer, licensing: Licensing) -> None:
    customer.use(datetime.now(UTC) - HOUR)
    least = ("--product", "Water", "--until", "2099-12-31", "--id", "unused-1", "--out", "unused.lic")
    assert licensing("license", "issue", "--organization", customer.id, *least).code == 0
    said = customer.forget("--yes")
    assert said.code == 0
    assert "the license file of unused-1, valid until 2099-12-31" in said.err
