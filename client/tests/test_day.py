"""Fifty people on twenty seats, for a working day."""

from pathlib import Path

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
