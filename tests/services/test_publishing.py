"""What `publish` does, and each file that it refuses."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from licensing.cli.home import Home, public_jwks
from licensing.crypto.keys import new_private_jwk
from licensing.crypto.tokens import read_license
from licensing.rules.license import Kind, License
from licensing.rules.model import Terms
from licensing.services.license_files import LicenseFiles, NoNewerFile, SignedFile
from licensing.services.publishing import NotPublished, Published, publish
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import EdmType, Tables, merge
from tests import factories
from tests.factories import DAY, Clock, new_license_id, new_session_id, start


class Vendor:
    """A vendor with one license, whose first file has serial 1."""

    def __init__(self, tables: Tables, home: Home, storage: str) -> None:
        self.home = home
        self.id = new_license_id()
        self.clock = Clock(datetime.now(UTC))
        self.register = Register(tables)
        self.settings = factories.settings(home, storage)
        self.files = self.process()

    def process(self) -> LicenseFiles:
        """What another process sees."""
        return LicenseFiles.of(self.settings, self.register, Ledger(self.register, self.clock))

    def file(self, serial: int = 1, **claims: Any) -> SignedFile:
        """A file of the license."""
        token = factories.issue(self.home, **{"sub": self.id, "serial": serial, "seats": serial, **claims})
        return SignedFile(read_license(token, self.home.trusted_keys()), token)

    async def publish(
        self, file: SignedFile, before: License | None = None, files: LicenseFiles | None = None
    ) -> Published | NotPublished:
        """Publish a file, as the home's service signs leases."""
        return await publish(files or self.files, file, self.settings.lease_keys.kid, self.clock(), before)

    async def in_force(self) -> tuple[int, int] | None:
        """The serials of the state and of the file that is kept."""
        state, kept = await self.register.state(self.id), await self.register.kept_file(self.id)
        return (state.value.terms.serial, kept.value.serial if kept else 0) if state else None


@pytest.fixture
def vendor(tables: Tables, home: Home, azurite: str) -> Vendor:
    """A vendor with a license that nobody has used."""
    return Vendor(tables, home, azurite)


async def test_a_license_that_nobody_has_used_is_published(vendor: Vendor) -> None:
    outcome = await vendor.publish(vendor.file())

    assert isinstance(outcome, Published)
    assert outcome.state.terms.seats == 1
    assert await vendor.in_force() == (1, 1)
    assert vendor.id in [each.license_id async for each in vendor.register.licenses("acme")]
    newer = await vendor.files.newer(vendor.file(serial=1, iat=1).license)
    assert not isinstance(newer, SignedFile), "the same serial is not newer"


async def test_publishing_again_changes_nothing_and_keeps_the_seats_in_use(vendor: Vendor) -> None:
    await vendor.publish(vendor.file(1))
    state = await vendor.files.ledger.state(vendor.id)
    assert state is not None
    await vendor.files.ledger.submit(vendor.id, start(new_session_id(), state.terms))
    newer = vendor.file(4)

    for _ in range(2):
        outcome = await vendor.publish(newer)
        assert isinstance(outcome, Published)
        assert (outcome.state.in_use, outcome.state.terms.seats) == (1, 4)
        assert await vendor.in_force() == (4, 4)
    assert isinstance(outcome, Published)
    assert [former.seats for former in outcome.state.former] == [1], "closed months need what held before"


async def test_a_file_that_a_program_brought_is_kept_again_by_publishing_it(vendor: Vendor) -> None:
    """As after the first edition, or where the pepper is gone."""
    file = vendor.file(2)
    await vendor.files.ledger.submit(vendor.id, start(new_session_id(), factories.terms(serial=2, product="Water")))
    assert await vendor.in_force() == (2, 0)

    assert isinstance(await vendor.publish(file), Published)

    assert await vendor.in_force() == (2, 2)


@pytest.mark.parametrize("by", ["an operator", "a program"])
async def test_what_a_process_of_the_first_edition_adopted_holds_whole_when_it_comes_again(
    vendor: Vendor, tables: Tables, by: str
) -> None:
    """Such a process writes serial and seats, and leaves the columns that it does not know as they were."""
    dates = {"nbf": 0, "exp": int(vendor.clock().timestamp()) + DAY}
    await vendor.publish(vendor.file(2, grace=7200, features=["sewer"], **dates))
    await tables.commit("register", vendor.id, [merge("license", {"serial": (3, EdmType.INT64), "seats": 3})])
    file = vendor.file(3, oldest=3, grace=600, hold=60, features=["pumps"], **dates)

    if by == "a program":
        await vendor.files.ledger.submit(vendor.id, start(new_session_id(), Terms.of(file.license)))
    else:
        await vendor.publish(file)

    state = await vendor.files.ledger.state(vendor.id)
    assert state is not None
    assert state.terms == Terms.of(file.license)
    assert await vendor.files.newer(vendor.file(2).license) is NoNewerFile.TOO_OLD


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"nbf": 2_000_000_000, "exp": 2_000_000_001}, "is not valid yet"),
        ({"nbf": 0, "exp": 1}, "has expired. Renew"),
        ({"users": ["u" * 43]}, "never stored"),
        ({"hosts": ["h" * 43]}, "never stored"),
        ({"networks": ["192.0.2.0/24"]}, "never stored"),
        ({"service": "https://other.example/api"}, "in service"),
        ({"product": "Sewer"}, "in product"),
        ({"organization": {"id": "bolt", "name": "Bolt Oy"}}, "in organization"),
        ({"salt": "A" * 43}, "in salt"),
        ({"lease_keys": public_jwks([new_private_jwk()])}, "lease key"),
        ({"serial": 1}, "a newer one, 2, is in force"),
        ({"serial": 2, "seats": 7}, "which another file"),
    ],
)
async def test_what_programs_would_not_take_is_not_published(
    vendor: Vendor, claims: dict[str, Any], words: str
) -> None:
    await vendor.publish(vendor.file(2))

    outcome = await vendor.publish(vendor.file(**{"serial": 3, **claims}))

    assert isinstance(outcome, NotPublished)
    assert words in outcome.why
    assert "A" * 43 not in outcome.why
    assert await vendor.in_force() == (2, 2)


async def test_another_kind_is_not_published(vendor: Vendor) -> None:
    """A file of another kind lists people; so the register's word counts where the file itself would be refused."""
    node_locked = factories.terms(kind=Kind.NODE_LOCKED, product="Water")
    await vendor.files.ledger.submit(vendor.id, start(new_session_id(), node_locked))

    outcome = await vendor.publish(vendor.file(3))

    assert isinstance(outcome, NotPublished)
    assert "in kind" in outcome.why


@pytest.mark.parametrize("claims", [{"service": "https://other.example/api"}, {"salt": "A" * 43}])
async def test_without_a_kept_file_the_vendors_books_tell_what_was_before(
    vendor: Vendor, claims: dict[str, Any]
) -> None:
    before = vendor.file(1).license

    assert isinstance(await vendor.publish(vendor.file(2, **claims), before), NotPublished)
    assert await vendor.in_force() is None
    assert isinstance(await vendor.publish(vendor.file(2), before), Published)


async def test_files_published_at_once_leave_the_newest(vendor: Vendor) -> None:
    processes = [vendor.process() for _ in range(4)]
    outcomes = await asyncio.gather(
        *(vendor.publish(vendor.file(serial), files=processes[serial % 4]) for serial in range(1, 13))
    )

    assert isinstance(outcomes[-1], Published)
    assert await vendor.in_force() == (12, 12)


async def test_a_published_file_ends_when_it_ends(vendor: Vendor) -> None:
    now = int(vendor.clock().timestamp())
    await vendor.publish(vendor.file(2, exp=now + DAY))
    vendor.clock.now += timedelta(days=2)
    assert isinstance(await vendor.publish(vendor.file(2, exp=now + DAY)), NotPublished)
    assert isinstance(await vendor.publish(vendor.file(3, exp=now + 9 * DAY)), Published)
