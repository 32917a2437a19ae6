"""Fifty people on twenty seats, for a working day."""

import os
from pathlib import Path

import pytest

from factories import ISSUER_KEY, NOW, license_claims, sign
from licensing_client.machine import Status
from licensing_client.reasons import Code
from licensing_client.transport import Reply, Request
from simulation import ReferenceSimulation, simulate_day

PEOPLE, SEATS = 50, 20


def test_a_working_day_serves_everyone_or_says_why_not(tmp_path: Path) -> None:
    simulation = ReferenceSimulation(tmp_path, seats=SEATS)
    computers = [simulation.computer(f"user{number}") for number in range(PEOPLE)]
    day = simulate_day(computers, simulation.clock, lambda: len(simulation.service.active), SEATS, seed=7)
    assert day.starts > 2 * PEOPLE
    assert day.served
    assert day.peak_granted == SEATS
    assert min(day.events[kind] for kind in ("crash", "sleep", "network")) > 10
    assert not day.too_often
    assert not day.wrongly_stopped
    simulation.service.sweep(simulation.clock.true + 900)
    assert not simulation.service.active


def test_on_renewal_day_nobody_with_a_network_is_refused(tmp_path: Path) -> None:
    """The license is renewed after two hours, and the old file ends after five."""
    simulation = ReferenceSimulation(tmp_path, seats=20, exp=NOW + 5 * 3600)
    renewed = sign("license+jwt", license_claims(serial=2, seats=20, exp=NOW + 365 * 86400), ISSUER_KEY)
    service = simulation.service

    def handle(request: Request) -> Reply:
        if simulation.clock.true > NOW + 2 * 3600 and "acme-water" not in renewals:
            renewals.append("acme-water")
            service.publish(renewed)
        return service.handle(request)

    renewals: list[str] = []
    simulation.handle = handle
    computers = [simulation.computer(f"user{number}") for number in range(20)]
    day = simulate_day(computers, simulation.clock, lambda: len(service.active), 20, seed=3)
    assert day.events["network"] > 10
    assert not day.too_often
    assert not day.wrongly_stopped
    refusals = {state.reason.code for each in computers for state in each.states if state.reason}
    assert refusals <= {Code.NO_ANSWER, Code.GRACE_OVER}
    for each in computers:
        each.network.condition = "fine"
    assert {each.start().run(5).status for each in computers} == {Status.GRANTED}
    assert {each.license_files.counting.serial for each in computers} == {2}


@pytest.mark.parametrize("seed", range(int(os.environ.get("STRICT_DAYS", "2"))))
def test_on_a_strict_license_no_more_programs_run_than_there_are_seats(tmp_path: Path, seed: int) -> None:
    grace = 2 * 3600
    simulation = ReferenceSimulation(tmp_path, seats=5, grace=grace, hold=grace + 60)
    computers = [simulation.computer(f"user{number}") for number in range(12)]
    day = simulate_day(
        computers, simulation.clock, lambda: len(simulation.service.active), 5, seed=seed, hours=10 * 3600, strict=True
    )
    assert day.peak_running == 5
    assert min(day.events[kind] for kind in ("crash", "sleep", "network", "trade")) > 3
    assert not day.too_often


BUSY_DAY = 4
"""A day on which several people come back to a seat that they gave away."""


@pytest.mark.parametrize("seed", range(BUSY_DAY, BUSY_DAY + int(os.environ.get("IDLE_DAYS", "1"))))
def test_people_who_pause_leave_their_seats_to_others_and_nobody_has_two(tmp_path: Path, seed: int) -> None:
    hold = 7260 if seed % 2 == 0 else 0
    simulation = ReferenceSimulation(tmp_path, seats=3, grace=7200, hold=hold)
    service = simulation.service

    def in_use() -> int:
        in_line = [service.hosts[session] for session in service.line]
        assert len(set(in_line)) == len(in_line), "a program with two places in line"
        return len(service.active)

    computers = [simulation.computer(f"user{number}") for number in range(7)]
    day = simulate_day(computers, simulation.clock, in_use, 3, seed, hours=4 * 3600, strict=hold > 0, idle=True)
    assert day.events["idle"] > 3
    assert day.events["back"] > 1 or seed != BUSY_DAY
    assert not day.too_often
