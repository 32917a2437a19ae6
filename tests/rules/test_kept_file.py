"""Which plans keep a license file for programs with older ones, and which delete the one that was kept."""

from dataclasses import replace
from typing import Any

import pytest

from licensing.rules.license import Refusal
from licensing.rules.model import KeptFile
from licensing.rules.requests import Granted, Refused, Start
from tests.rules.memory_register import NOON, MemoryRegister, start, terms


def bringing(session_id: str, serial: int, *, keep: bool = True, **changes: Any) -> Start:
    """A start under a file with a serial; without `keep`, one that lists people."""
    file = KeptFile(serial, NOON, "p1", f"file {serial}") if keep else None
    return replace(start(session_id, under=terms(serial=serial, seats=9, **changes)), file=file)


def serial_kept(register: MemoryRegister) -> int | None:
    """The serial of the file that the register keeps."""
    return register.file.value.serial if register.file else None


def test_the_first_start_keeps_its_file_and_a_newer_file_takes_its_place() -> None:
    register = MemoryRegister()
    for serial, expected in ((2, 2), (5, 5), (5, 5)):
        assert isinstance(register.one(bringing(f"s{serial}", serial)), Granted)
        assert serial_kept(register) == expected


def test_an_older_file_is_refused_and_not_kept() -> None:
    register = MemoryRegister()
    register.one(bringing("a", 5))
    assert register.one(bringing("b", 4)) == Refused(Refusal.SUPERSEDED)
    assert serial_kept(register) == 5


def test_of_a_batch_the_newest_file_is_kept() -> None:
    register = MemoryRegister()
    register.all(bringing("a", 3), bringing("b", 7), bringing("c", 5))
    assert serial_kept(register) == 7


def test_a_file_that_lists_people_deletes_the_one_before() -> None:
    register = MemoryRegister()
    register.one(bringing("a", 1, keep=False))
    assert serial_kept(register) is None
    register.one(bringing("b", 2))
    register.one(bringing("c", 3, keep=False))
    assert serial_kept(register) is None
    register.one(bringing("d", 4, keep=False))
    assert serial_kept(register) is None


def test_under_a_suspension_nothing_is_adopted_and_nothing_kept() -> None:
    register = MemoryRegister()
    register.one(bringing("a", 1))
    register.set_state(suspended=True)
    for keep in (True, False):
        assert register.one(bringing("b", 2, keep=keep)) == Refused(Refusal.SUSPENDED)
        assert serial_kept(register) == 1


def test_a_stale_state_keeps_no_older_file() -> None:
    register = MemoryRegister()
    register.one(bringing("a", 1))
    stale = register.state
    register.one(bringing("b", 3))
    outcomes = register.plan([bringing("c", 2)], NOON, cached=stale).outcomes
    assert outcomes[0] == Refused(Refusal.SUPERSEDED)
    assert serial_kept(register) == 3


@pytest.mark.parametrize("keep", [True, False])
def test_the_file_counts_as_a_row_of_the_transaction(keep: bool) -> None:
    register = MemoryRegister()
    register.one(bringing("first", 1))
    plan = register.plan([bringing(f"s{place}", 2, keep=keep) for place in range(30)], NOON, max_rows=12)
    assert plan.rows <= 12
    assert plan.outcomes


def test_two_starts_that_differ_only_in_how_their_file_is_sealed_are_the_same_start() -> None:
    once = bringing("a", 1)
    again = replace(once, file=KeptFile(1, NOON, "p2", "sealed otherwise"))
    assert once == again
    outcomes = MemoryRegister().all(once, again)
    assert [isinstance(each, Granted) and each.repeat for each in outcomes] == [False, True]
