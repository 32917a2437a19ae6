"""A seat goes from one program to the next at no moment too early: the real service and the real client."""

import json
import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from licensing_client.machine import Status
from licensing_client.reasons import Code
from licensing_client.transport import Request
from simulation import Computer, SimulatedClock, Simulation, without_locks

from licensing.cli.home import Home
from licensing.services import service as service_module
from licensing.storage.register import Register
from licensing.storage.tables import Row, Table, Tables, Write
from tests import factories
from tests.client.lives import BEGINNING, HOUR, LOCAL, STRICT, LocalService

TERMS: dict[str, Any] = {"plain": {}, "strict": STRICT}


@pytest.fixture
def local(home: Home, azurite: str) -> Iterator[LocalService]:
    service = LocalService(home, azurite, SimulatedClock(BEGINNING))
    yield service
    service.close()


def one_seat(local: LocalService, disk: Path, **claims: Any) -> Simulation:
    return Simulation(disk, local.clock, local.license(borrow=172800, **claims), local.handle)


def session_of(computer: Computer) -> str:
    assert computer.engine
    assert computer.engine.state.lease
    return computer.engine.state.lease.session_id


# Somebody asks before and after each call to the store.


class Watched(Tables):
    """A store that lets somebody else ask before and after each call."""

    ask: Callable[[], Any] | None = None

    async def _asked(self) -> None:
        if self.ask is not None:
            await self.ask()

    async def get(self, table: Table, partition: str, key: str, columns: Sequence[str] | None = None) -> Row | None:
        await self._asked()
        row = await super().get(table, partition, key, columns)
        await self._asked()
        return row

    async def pages(self, *args: Any, **kwargs: Any) -> AsyncIterator[list[Row]]:  # type: ignore[override]
        await self._asked()
        async for page in super().pages(*args, **kwargs):
            yield page
            await self._asked()

    async def commit(self, table: Table, partition: str, writes: Sequence[Write]) -> list[str]:
        await self._asked()
        etags = await super().commit(table, partition, writes)
        await self._asked()
        return etags


@pytest.fixture
def watched(
    home: Home, azurite: str, local: LocalService, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[LocalService, Watched]]:
    """A process whose store is watched, beside that of `local`, on the same event loop."""
    tables = Watched.from_connection_string(azurite)
    assert isinstance(tables, Watched)
    monkeypatch.setattr(service_module, "open_register", lambda _: Register(tables))
    service = LocalService(home, azurite, local.clock, local.loop)
    service.open()
    monkeypatch.undo()
    yield service, tables
    tables.ask = None
    service.close()


@pytest.mark.parametrize("terms", TERMS)
@pytest.mark.parametrize("move", ["restart", "borrow", "return"])
def test_a_seat_that_moves_to_a_new_session_is_never_free_in_between(
    local: LocalService, watched: tuple[LocalService, Watched], tmp_path: Path, move: str, terms: str
) -> None:
    service, tables = watched
    simulation = one_seat(service, tmp_path, **TERMS[terms])
    ann = simulation.computer().start(borrow_seconds=86400 if move == "return" else 0).run(600)
    before = session_of(ann)
    heard: list[int] = []

    async def bob_asks() -> None:
        body = factories.start_body(simulation.license.token, "bob", "bob-pc.example.com")
        headers = {"Content-Type": "application/json"}
        reply = await local.call(Request("POST", f"{LOCAL}/sessions", headers, json.dumps(body).encode()))
        heard.append(reply.status)

    if move == "restart":
        ann.crash()
    tables.ask = bob_asks
    if move == "restart":
        ann.start(seed=2)
    else:
        assert ann.engine
        assert ann.engine.borrow(86400 if move == "borrow" else 0)
    ann.run(10)
    assert ann.has_status(Status.GRANTED)
    assert session_of(ann) != before
    assert len(heard) >= 2
    assert set(heard) == {409}


# A recall.


@pytest.mark.parametrize("terms", TERMS)
def test_a_recalled_seat_is_given_away_only_when_its_program_has_ended(
    local: LocalService, tmp_path: Path, terms: str
) -> None:
    simulation = one_seat(local, tmp_path, **TERMS[terms])
    ann, bob = simulation.computer().start().run(600), simulation.computer("bob")
    local.recall(simulation.license, session_of(ann))
    for _ in range(20):
        bob.start().run(2)
        assert bob.has_status(Status.REFUSED)
        bob.stop()
        ann.run(20)
    assert ann.engine
    assert ann.has_status(Status.LOST)
    assert ann.engine.state.reason
    assert ann.engine.state.reason.code is Code.SEAT_RECALLED
    ann.stop()
    assert bob.start().run(2).has_status(Status.GRANTED)


@pytest.mark.parametrize("terms", TERMS)
def test_a_recalled_seat_of_a_program_out_of_reach_is_given_away_when_it_has_lapsed(
    local: LocalService, tmp_path: Path, terms: str
) -> None:
    simulation = one_seat(local, tmp_path, **TERMS[terms])
    ann, bob = simulation.computer().start().run(600), simulation.computer("bob")
    ann.network.condition = "down"
    assert ann.engine
    lease = ann.engine.state.lease
    assert lease
    local.recall(simulation.license, lease.session_id)
    lapses_at = max(lease.expires_at, lease.issued_at + TERMS[terms].get("hold", 0))
    while local.clock.true < lapses_at - 300:
        ann.run((lapses_at - local.clock.true) / 2)
        bob.start().run(2)
        assert bob.has_status(Status.REFUSED)
        bob.stop()
    ann.run(lapses_at - local.clock.true + 1)
    assert bob.start().run(2).has_status(Status.GRANTED)
    assert not (terms == "strict" and ann.running)
    ann.network.condition = "fine"
    ann.run(400)
    assert ann.has_status(Status.LOST)


# A copied file.


@pytest.fixture
def no_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch)


@pytest.mark.usefixtures("no_locks")
@pytest.mark.parametrize("seats", [1, 2])
@pytest.mark.parametrize("host", ["ann-pc.example.com", "other-pc.example.com"])
@pytest.mark.parametrize("borrow", [0, 86400])
def test_a_copied_file_neither_ends_nor_takes_over_a_session_that_is_alive(
    local: LocalService, tmp_path: Path, host: str, seats: int, borrow: int
) -> None:
    simulation = one_seat(local, tmp_path, seats=seats)
    ann = simulation.computer().start(borrow_seconds=borrow).run(600)
    session = session_of(ann)
    copy = tmp_path / "copy"
    shutil.copytree(ann.disk, copy)
    for number in range(40):
        ann.run(25)
        disk = tmp_path / f"copy {number}"
        shutil.copytree(copy, disk)
        twin = Computer(simulation, disk, "ann", host).start(seed=number + 2).run(2)
        assert twin.has_status(Status.GRANTED if seats == 2 else Status.REFUSED), number
        twin.stop()
        assert ann.run(1).running
    ann.run(HOUR)
    assert set(ann.notices) == {"granted"}
    assert session_of(ann) == session
