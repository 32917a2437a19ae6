"""The real service behind a proxy that does what networks do on a bad day, and a working day on few seats.

Time is simulated: an hour without network passes in the time that its calls take.
"""

import os
import threading
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from fault_proxy import FAULTS, FaultProxy, start_fault_proxy
from licensing_client import engine
from licensing_client.license import License
from licensing_client.machine import Status
from licensing_client.reasons import Code
from licensing_client.transport import Cancellation, HttpTransport, Reply, Request
from simulation import Computer, Simulation, simulate_day

from licensing.cli.home import Home
from tests import factories
from tests.client.conftest import TimedService

HOUR = 3600.0
PEOPLE, SEATS = 50, 20
DAY_HOURS = float(os.environ.get("DAY_HOURS", "2"))
"""How long the simulated working day is: a quarter of one, since every call is a real one. DAY_HOURS=8 for a whole."""


@pytest.fixture
def proxy(service: TimedService) -> Iterator[tuple[FaultProxy, str]]:
    with start_fault_proxy(service.base) as pair:
        yield pair


def through(service: TimedService, base: str, disk: Path, **claims: object) -> Simulation:
    """A simulation whose programs reach the service through the proxy alone."""
    transport = HttpTransport()

    def handle(request: Request) -> Reply:
        return transport.exchange(request, 10.0, Cancellation())

    license = service.license(base, organization={"id": factories.new_id("org"), "name": "Acme"}, **claims)
    return Simulation(disk, service.clock, license, handle)


def sessions(service: TimedService, license: License) -> int:
    count = service.count(license)
    assert not count.flaws
    return count.sessions


def test_the_hours_of_a_bad_day_stop_nobody_and_give_nobody_two_seats(
    service: TimedService, proxy: tuple[FaultProxy, str], tmp_path: Path
) -> None:
    fault_proxy, base = proxy
    simulation = through(service, base, tmp_path, seats=2)
    ann = simulation.computer().start().run(1000)
    for fault in FAULTS:
        fault_proxy.fault = fault
        for _ in range(12):
            ann.run(HOUR / 12)
            assert ann.running, f"{fault} stopped the program"
            assert sessions(service, simulation.license) <= 1, f"{fault} gave a second seat"
        service.sweep(simulation.license)
        fault_proxy.fault = "fine"
        ann.run(1000)
        assert ann.has_status(Status.GRANTED), f"the seat did not come back after {fault}"
        assert sessions(service, simulation.license) == 1
    ann.stop()
    assert sessions(service, simulation.license) == 0


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault not in ("delay", "stripped")])
def test_a_bad_day_at_the_start_gives_nobody_a_seat_for_nothing_nor_two(
    service: TimedService, proxy: tuple[FaultProxy, str], tmp_path: Path, fault: str
) -> None:
    fault_proxy, base = proxy
    simulation = through(service, base, tmp_path, seats=2)
    other = simulation.computer("bob").start().run(5)  # the proxy now has something to replay
    fault_proxy.fault = fault
    ann = simulation.computer("ann").start().run(3)
    assert ann.has_status(Status.REFUSED)
    assert sessions(service, simulation.license) <= 2
    ann.stop()
    fault_proxy.fault = "fine"
    ann.start().run(5)
    assert ann.has_status(Status.GRANTED)
    assert sessions(service, simulation.license) == 2
    ann.stop()
    other.stop()
    assert sessions(service, simulation.license) == 0


def test_a_proxy_that_takes_leases_away_gives_a_program_one_seat_however_often_it_starts(
    service: TimedService, proxy: tuple[FaultProxy, str], tmp_path: Path
) -> None:
    fault_proxy, base = proxy
    simulation = through(service, base, tmp_path, seats=4)
    ann = simulation.computer()
    fault_proxy.fault = "stripped"
    for number in range(4):
        ann.start(seed=number).run(600)
        assert ann.has_status(Status.GRANTED)
        ann.stop()
        assert sessions(service, simulation.license) == 1
    fault_proxy.fault = "fine"
    ann.start(seed=9).run(10).stop()
    assert sessions(service, simulation.license) == 0


def test_a_start_that_was_lost_and_then_damaged_takes_no_second_seat(
    service: TimedService, proxy: tuple[FaultProxy, str], tmp_path: Path
) -> None:
    fault_proxy, base = proxy
    simulation = through(service, base, tmp_path, seats=2)
    fault_proxy.fault = "lost"
    ann = simulation.computer().start().run(0.1)
    fault_proxy.fault = "damaged"
    ann.run(3)
    assert ann.has_status(Status.REFUSED)
    ann.stop()
    fault_proxy.fault = "fine"
    ann.start(seed=2).run(5)
    assert ann.has_status(Status.GRANTED)
    assert sessions(service, simulation.license) == 1
    ann.stop()
    assert sessions(service, simulation.license) == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_trade_on_a_bad_day_frees_no_seat_and_takes_no_second_one(
    service: TimedService, proxy: tuple[FaultProxy, str], tmp_path: Path, fault: str
) -> None:
    fault_proxy, base = proxy
    simulation = through(service, base, tmp_path, seats=1, borrow=14 * 86400)
    ann = simulation.computer().start().run(400)  # the proxy now has something to replay
    assert ann.engine
    for seconds in (5 * 86400, 0):
        fault_proxy.fault = fault
        ann.engine.borrow(seconds)
        ann.run(60)
        assert ann.running, f"{fault} stopped the program"
        assert sessions(service, simulation.license) == 1
        bob = simulation.computer("bob").start().run(3)
        assert not bob.running, f"{fault} gave the seat away"
        bob.stop()
        fault_proxy.fault = "fine"
        ann.run(600)
        assert ann.has_status(Status.GRANTED)
        assert sessions(service, simulation.license) == 1
        lease = ann.engine.state.lease
        assert lease
        answered = fault in ("damaged", "stripped")  # the service answered, so the request is over
        assert answered or lease.borrowed == (seconds > 0)
    ann.engine.borrow(0)
    ann.run(10).stop()
    assert sessions(service, simulation.license) == 0


def test_a_recall_reaches_a_program_through_a_bad_network_and_frees_the_seat_at_its_end(
    service: TimedService, proxy: tuple[FaultProxy, str], tmp_path: Path
) -> None:
    fault_proxy, base = proxy
    simulation = through(service, base, tmp_path, seats=1)
    ann = simulation.computer().start().run(400)
    assert ann.engine
    assert ann.engine.state.lease
    service.recall(simulation.license, ann.engine.state.lease.session_id)
    fault_proxy.fault = "half"
    ann.run(200)
    assert ann.running
    fault_proxy.fault = "fine"
    ann.run(300)
    assert ann.has_status(Status.LOST)
    assert ann.engine.state.reason
    assert ann.engine.state.reason.code is Code.SEAT_RECALLED
    bob = simulation.computer("bob").start().run(3)
    assert bob.has_status(Status.REFUSED)
    ann.stop()
    bob.run(60)
    bob.stop().start(seed=2).run(3)
    assert bob.has_status(Status.GRANTED)
    bob.stop()


def test_after_grace_the_program_stops_and_not_before(
    service: TimedService, proxy: tuple[FaultProxy, str], tmp_path: Path
) -> None:
    fault_proxy, base = proxy
    simulation = through(service, base, tmp_path, seats=1, grace=7200)
    ann = simulation.computer().start().run(600)
    assert ann.engine
    lease = ann.engine.state.lease
    assert lease
    fault_proxy.fault = "off"
    ann.run(lease.issued_at + 7199 - service.clock.true)
    assert ann.has_status(Status.GRACE)
    ann.run(2)
    assert ann.has_status(Status.LOST)


def test_a_server_that_stalls_costs_no_more_than_an_exchange_may(
    service: TimedService, proxy: tuple[FaultProxy, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "EXCHANGE_SECONDS", 0.1)
    fault_proxy, base = proxy
    simulation = Simulation(tmp_path, service.clock, service.license(base), service.handle)
    ann = Computer(simulation, tmp_path / "ann")
    ann.network.exchange = HttpTransport().exchange  # type: ignore[method-assign]
    fault_proxy.fault = "delay"
    ann.start().run(3)
    assert ann.has_status(Status.REFUSED)


def test_nothing_on_the_network_or_on_disk_holds_a_name(
    service: TimedService, proxy: tuple[FaultProxy, str], tmp_path: Path
) -> None:
    fault_proxy, base = proxy
    simulation = through(service, base, tmp_path, seats=2)
    ann = Computer(simulation, tmp_path / "disk", "Zoë Öberg", "oberg-pc.acme.example")
    ann.start().run(HOUR).stop()
    traffic = b"".join(fault_proxy.traffic).decode("utf-8", "replace").casefold()
    disk = "".join(file.name + file.read_text("utf-8") for file in (tmp_path / "disk").iterdir()).casefold()
    assert "heartbeat" in traffic
    assert "lease" in disk
    for word in ("zoë", "öberg", "oberg", "zo\\u00eb", "zo%c3%ab"):
        assert word not in traffic
        assert word not in disk


def test_a_working_day_serves_everyone_or_says_why_not(service: TimedService, home: Home, tmp_path: Path) -> None:
    simulation = service.simulation(tmp_path, service.license(seats=SEATS))
    computers = [simulation.computer(f"user{number}") for number in range(PEOPLE)]

    changes = count()

    def in_use() -> int:
        """Recount the register, which takes longer than a change of it, at every 25th."""
        return sessions(service, simulation.license) if next(changes) % 25 == 0 else 0

    day = simulate_day(computers, simulation.clock, in_use, SEATS, seed=11, hours=DAY_HOURS * HOUR)
    assert day.starts > PEOPLE
    assert day.peak_granted == SEATS
    assert min(day.events[kind] for kind in ("crash", "sleep", "network")) > 10
    assert not day.too_often
    assert not day.wrongly_stopped
    service.clock.true += 900
    service.sweep(simulation.license)
    assert sessions(service, simulation.license) == 0
    assert threading.active_count() < 10


def test_on_a_strict_license_no_more_programs_run_than_there_are_seats(service: TimedService, tmp_path: Path) -> None:
    license = service.license(seats=5, grace=3600, hold=3660, borrow=14 * 86400)
    simulation = service.simulation(tmp_path, license)
    computers = [simulation.computer(f"user{number}") for number in range(12)]
    changes = count()

    def in_use() -> int:
        return sessions(service, license) if next(changes) % 25 == 0 else 0

    day = simulate_day(computers, simulation.clock, in_use, 5, seed=3, hours=2 * DAY_HOURS * HOUR, strict=True)
    assert day.peak_running == 5
    assert min(day.events[kind] for kind in ("crash", "sleep", "network", "trade")) > 3
    assert not day.too_often
