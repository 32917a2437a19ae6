"""A customer that has left is deleted as a whole, however often that is interrupted, and does not come back."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from licensing.cli.home import Home
from licensing.rules.license import Refusal, Sharing
from licensing.rules.model import KeptFile
from licensing.rules.requests import End, Refused
from licensing.services.organizations import Forgotten, InUse, forget
from licensing.services.retention import run_retention
from licensing.services.sessions import Gone, Running, StartRequest
from licensing.services.sweep import sweep
from licensing.storage.ledger import Ledger
from licensing.storage.register import SERVICE, Register
from tests import factories
from tests.factories import Clock, new_nonce, new_session_id, sessions_over, start, terms
from tests.stores import OwnTables, own_tables

NOON = datetime(2027, 3, 10, 12, tzinfo=UTC)
UNTIL = NOON + timedelta(days=1)
LATER = UNTIL + timedelta(hours=1)
KEPT = KeptFile(1, NOON, "p1", "sealed")


@dataclass
class Vendor:
    """A register of its own, with two licenses of one customer and one of another."""

    tables: OwnTables
    clock: Clock = field(default_factory=lambda: Clock(NOON))

    def __post_init__(self) -> None:
        self.register = Register(self.tables)
        self.ledger = Ledger(self.register, self.clock)

    async def use(self) -> None:
        """Rows of every kind, of sessions that have all ended."""
        self.clock.now = NOON - timedelta(days=40)
        for organization, license_id in (("gone", "gone-1"), ("gone", "gone-2"), ("stays", "stays-1")):
            bought = terms(organization_id=organization, seats=1, sharing=Sharing.USER, valid_until=UNTIL)
            session_id = new_session_id()
            await self.ledger.submit(license_id, replace(start(session_id, bought), file=KEPT))
            await self.ledger.submit(license_id, start(new_session_id(), bought, user="another"))
            self.clock.forward(60)
            await self.ledger.submit(license_id, End(session_id))
        self.clock.now = NOON
        await run_retention(self.register, self.ledger, NOON, 3)
        for license_id in ("gone-1", "stays-1"):
            bought = terms(organization_id=license_id.split("-")[0], seats=1, sharing=Sharing.USER, valid_until=UNTIL)
            await self.ledger.submit(license_id, start(new_session_id(), bought))
            await self.ledger.submit(license_id, start(new_session_id(), bought, user="another"))

    async def rows(self, *partitions: str) -> dict[tuple[str, str], set[str]]:
        """The keys of all rows, by table and partition; of some partitions, or of all."""
        found: dict[tuple[str, str], set[str]] = {}
        for table in ("register", "directory"):
            async for row in self.tables.rows(table, columns=()):
                if row.partition in partitions or not (partitions or row.partition == SERVICE):
                    found.setdefault((table, row.partition), set()).add(row.key)
        return found

    async def forget(self, *, dry_run: bool = False) -> Forgotten | InUse:
        return await forget(self.register, "gone", self.clock(), dry_run=dry_run)


OF_THE_CUSTOMER = ("gone", "gone-1", "gone-2")


@pytest.fixture
async def vendor(azurite: str) -> AsyncIterator[Vendor]:
    """A register in which a customer is to be deleted: its licenses have expired, its sessions have ended."""
    async with own_tables(azurite, OwnTables) as own:
        made = Vendor(own)
        await made.use()
        made.clock.now = LATER
        await sweep(made.register, made.ledger, LATER)
        yield made


async def test_a_customer_goes_with_every_row_and_the_others_stay(vendor: Vendor) -> None:
    before = await vendor.rows()
    of_the_customer = await vendor.rows(*OF_THE_CUSTOMER)
    kinds = {key.partition(":")[0] for keys in of_the_customer.values() for key in keys}
    assert kinds == {"license", "file", "ended", "denied", "day", "month", "organization"}
    expected = Forgotten(2, sum(map(len, of_the_customer.values())))
    assert await vendor.forget(dry_run=True) == expected
    assert await vendor.rows() == before, "a dry run only counts"
    assert await vendor.forget() == expected
    assert await vendor.rows() == {place: keys for place, keys in before.items() if place not in of_the_customer}


async def test_nothing_goes_while_a_license_is_valid_or_a_session_is_active(azurite: str) -> None:
    async with own_tables(azurite, OwnTables) as own:
        vendor = Vendor(own)
        await vendor.use()
        before = await vendor.rows()
        vendor.clock.now = UNTIL - timedelta(microseconds=1)
        assert await vendor.forget() == InUse({"gone-1": UNTIL, "gone-2": UNTIL}, {"gone-1": 1})
        vendor.clock.now = UNTIL
        assert await vendor.forget() == InUse({}, {"gone-1": 1})
        assert await vendor.rows() == before
        await sweep(vendor.register, vendor.ledger, UNTIL)
        assert isinstance(await vendor.forget(), Forgotten)
        assert await vendor.rows(*OF_THE_CUSTOMER) == {}


async def test_a_deletion_that_was_interrupted_anywhere_is_repeated(azurite: str) -> None:
    call = finished = 0
    while not finished:
        async with own_tables(azurite, OwnTables) as own:
            vendor = Vendor(own)
            await vendor.use()
            vendor.clock.now = LATER
            await sweep(vendor.register, vendor.ledger, LATER)
            own.calls, own.dies_before = 0, call
            try:
                await vendor.forget()
                finished = 1
            except BaseException:
                assert own.dead.is_set()
            own.dies_before = None
            own.dead.clear()
            left = await vendor.rows(*OF_THE_CUSTOMER)
            directory = left.get(("directory", "gone"), set())
            assert "organization" in directory or not left
            for license_id in ("gone-1", "gone-2"):
                rows = left.get(("register", license_id), set())
                assert "license" in rows or not rows
                assert f"license:{license_id}" in directory or not rows
            if left:
                assert isinstance(await vendor.forget(), Forgotten)
            assert await vendor.rows(*OF_THE_CUSTOMER) == {}
        call += 1
    assert call > 10


async def test_a_license_that_is_renewed_meanwhile_stays_whole(vendor: Vendor) -> None:
    renewed = terms(serial=2, organization_id="gone", valid_until=LATER + timedelta(days=9))

    class Meanwhile(Register):
        async def delete_license(self, organization_id: str, license_id: str, *args: Any, **options: Any) -> int:
            state = await vendor.ledger.state("gone-1")
            if state and state.terms.serial == 1:
                await vendor.ledger.publish("gone-1", renewed, replace(KEPT, serial=2))
            return await super().delete_license(organization_id, license_id, *args, **options)

    outcome = await forget(Meanwhile(vendor.tables), "gone", LATER)

    assert outcome == InUse({"gone-1": renewed.valid_until}, {}, begun=True)

    left = await vendor.rows("gone", "gone-1")
    assert {"license", "file"} <= left["register", "gone-1"]
    assert "license:gone-1" in left["directory", "gone"]


async def test_a_late_start_with_the_old_license_file_is_refused_and_makes_no_row(azurite: str, home: Home) -> None:
    async with own_tables(azurite, OwnTables) as own:
        vendor = Vendor(own, Clock(datetime.now(UTC)))
        settings = factories.settings(home, azurite)
        sessions = sessions_over(settings, vendor.register, vendor.ledger, vendor.clock)
        customer = {"id": "gone", "name": "Gone Oy"}
        exp = int(vendor.clock().timestamp()) + 3600
        license = factories.issue(home, sub="gone-1", organization=customer, exp=exp)

        def request() -> StartRequest:
            return StartRequest(license, new_session_id(), factories.user_hash(), factories.host_hash(), new_nonce())

        running = await sessions.start(request(), None)
        assert isinstance(running, Running)
        vendor.clock.forward(3601)
        await sweep(vendor.register, vendor.ledger, vendor.clock())
        assert isinstance(await vendor.forget(), Forgotten)
        other = sessions_over(settings, vendor.register, Ledger(vendor.register, vendor.clock), vendor.clock)
        for process in (sessions, other):
            assert await process.start(request(), None) == Refused(Refusal.EXPIRED)
            beyond = await process.heartbeat(running.lease_token, running.session_id, new_nonce())
            assert beyond in (Gone(), Refused(Refusal.EXPIRED))
            await process.end(running.lease_token, running.session_id)
        assert await vendor.rows() == {}
