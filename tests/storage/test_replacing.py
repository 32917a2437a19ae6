"""A start that replaces a session, on a real store: one commit, and every way in which it can lose."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from licensing.rules.license import Sharing
from licensing.rules.requests import End, Ended, Full, Granted, Lapse, Recall
from licensing.storage.ledger import Heartbeat, Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests.factories import Clock, new_license_id, new_session_id, start, terms
from tests.register_rows import look
from tests.stores import Counted, ledgers

ONE = terms(seats=1)


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def begin(ledger: Ledger, license_id: str, session: str | None = None, **how: Any) -> str:
    session = session or new_session_id()
    outcome = (await ledger.submit(license_id, start(session, how.pop("under", ONE), **how))).outcome
    assert isinstance(outcome, Granted), outcome
    return session


@pytest.mark.parametrize("sharing", [Sharing.NONE, Sharing.USER])
async def test_the_process_that_wrote_the_old_session_needs_one_call(
    tables: Tables, clock: Clock, sharing: Sharing
) -> None:
    store, license_id, under = Counted(tables), new_license_id(), terms(seats=1, sharing=sharing)
    ledger = Ledger(Register(store), clock)
    old = await begin(ledger, license_id, under=under)
    store.calls.clear()
    new = await begin(ledger, license_id, under=under, replaces=old, ran_until=clock())
    assert store.calls == ["commit register"]
    seen = await look(tables, license_id)
    seen.check()
    assert (list(seen.active), seen.ended[old]["reason"], seen.state["in_use"]) == ([new], "replaced", 1)


async def test_another_process_needs_one_call_more(tables: Tables, clock: Clock) -> None:
    license_id = new_license_id()
    old = await begin(Ledger(Register(tables), clock), license_id)
    store = Counted(tables)
    other = Ledger(Register(store), clock)
    await other.state(license_id)
    store.calls.clear()
    await begin(other, license_id, replaces=old)
    assert store.calls == [f"get active:{old}", "commit register"]


async def test_a_lost_reply_is_known_by_its_commit(tables: Tables, clock: Clock) -> None:
    store, license_id = Counted(tables), new_license_id()
    ledger = Ledger(Register(store), clock)
    old = await begin(ledger, license_id)
    store.lose_replies = 1
    new = await begin(ledger, license_id, replaces=old)
    seen = await look(tables, license_id)
    seen.check()
    assert (list(seen.active), list(seen.ended)) == ([new], [old])


async def test_a_lost_request_is_sent_again(tables: Tables, clock: Clock) -> None:
    store, license_id = Counted(tables), new_license_id()
    ledger = Ledger(Register(store), clock)
    old = await begin(ledger, license_id)
    store.lose_requests = 1
    new = await begin(ledger, license_id, replaces=old)
    assert (await look(tables, license_id)).active.keys() == {new}


async def test_its_repeat_by_another_process_is_answered_with_the_new_session(tables: Tables, clock: Clock) -> None:
    license_id, new = new_license_id(), new_session_id()
    first, second = ledgers(tables, clock, 2)
    old = await begin(first, license_id)
    await begin(first, license_id, new, replaces=old)
    outcome = (await second.submit(license_id, start(new, ONE, replaces=old))).outcome
    assert isinstance(outcome, Granted)
    assert outcome.repeat
    seen = await look(tables, license_id)
    seen.check()
    assert (list(seen.active), list(seen.ended)) == ([new], [old])


Meanwhile = Callable[[Ledger, str, str, Clock], Any]


async def _heartbeat(other: Ledger, license_id: str, old: str, clock: Clock) -> None:
    assert await other.heartbeat(license_id, Heartbeat(old, clock(), clock() + timedelta(seconds=900)))


async def _end(other: Ledger, license_id: str, old: str, _: Clock) -> None:
    assert (await other.submit(license_id, End(old))).outcome == Ended(now=True)


async def _recall(other: Ledger, license_id: str, old: str, _: Clock) -> None:
    await other.submit(license_id, Recall(old))


async def _suspend(other: Ledger, license_id: str, _: str, __: Clock) -> None:
    await other.set_status(license_id, suspended=True)


async def _take(other: Ledger, license_id: str, old: str, _: Clock) -> None:
    await other.submit(license_id, End(old))
    await begin(other, license_id, user="bob")


CASES: dict[str, tuple[Meanwhile, str]] = {
    "a heartbeat of the old session": (_heartbeat, "granted"),
    "its end": (_end, "granted"),
    "its recall": (_recall, "granted"),
    "a suspension": (_suspend, "refused"),
    "its end, and another program has the seat": (_take, "full"),
}


@pytest.mark.parametrize("case", CASES)
async def test_what_another_process_did_meanwhile_is_noticed_at_the_commit(
    tables: Tables, clock: Clock, case: str
) -> None:
    """The first process rests on cached rows, which the second has changed."""
    meanwhile, expected = CASES[case]
    license_id, new = new_license_id(), new_session_id()
    first, second = ledgers(tables, clock, 2)
    old = await begin(first, license_id)
    await meanwhile(second, license_id, old, clock)
    outcome = (await first.submit(license_id, start(new, ONE, replaces=old))).outcome
    assert type(outcome).__name__.lower() == expected
    seen = await look(tables, license_id)
    seen.check()
    assert seen.state["in_use"] == 1
    if expected == "granted":
        assert seen.active.keys() == {new}
    if expected == "refused":
        assert seen.active.keys() == {old}, "a refused start ends nothing"


async def test_a_sweep_and_a_replacement_at_once_end_the_session_once(tables: Tables, clock: Clock) -> None:
    for _ in range(10):
        license_id, new = new_license_id(), new_session_id()
        first, second = ledgers(tables, clock, 2)
        old = await begin(first, license_id)
        clock.forward(1000)
        (row,) = [row async for row in Register(tables).active(license_id)]
        swept, begun = await asyncio.gather(
            second.submit(license_id, Lapse(row)), first.submit(license_id, start(new, ONE, replaces=old))
        )
        assert isinstance(swept.outcome, Ended)
        assert isinstance(begun.outcome, Granted)
        seen = await look(tables, license_id)
        seen.check()
        assert (list(seen.active), list(seen.ended)) == ([new], [old])


async def test_two_processes_that_replace_one_session_give_its_seat_once(tables: Tables, clock: Clock) -> None:
    for _ in range(10):
        license_id = new_license_id()
        first, second = ledgers(tables, clock, 2)
        old = await begin(first, license_id)
        requests = [start(new_session_id(), ONE, replaces=old) for _ in range(2)]
        answers = await asyncio.gather(first.submit(license_id, requests[0]), second.submit(license_id, requests[1]))
        assert sorted(type(each.outcome).__name__ for each in answers) == ["Full", "Granted"]
        (await look(tables, license_id)).check()


async def test_a_program_that_asks_at_every_instant_never_gets_the_seat(tables: Tables, clock: Clock) -> None:
    """Three processes: one replaces a session again and again, two ask for its seat without a pause."""
    license_id = new_license_id()
    mine, *others = ledgers(tables, clock, 3)
    session, done = await begin(mine, license_id), asyncio.Event()

    async def ask(ledger: Ledger) -> int:
        refused = 0
        while not done.is_set():
            outcome = (await ledger.submit(license_id, start(new_session_id(), ONE, user="bob"))).outcome
            assert isinstance(outcome, Full), outcome
            refused += 1
        return refused

    asking = [asyncio.create_task(ask(ledger)) for ledger in others]
    for _ in range(40):
        clock.forward(60)
        session = await begin(mine, license_id, replaces=session)
    done.set()
    assert sum(await asyncio.gather(*asking)) > 20
    (await look(tables, license_id)).check()
