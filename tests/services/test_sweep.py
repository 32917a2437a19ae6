"""Sweep, verify and audit on a real store."""

from datetime import UTC, datetime, timedelta

import pytest
from pydantic_core import to_json

from licensing.rules.license import Sharing
from licensing.rules.requests import End
from licensing.services.audit import Subject, audited
from licensing.services.sweep import sweep, sweep_license
from licensing.services.verify import verify
from licensing.storage import register as rows
from licensing.storage.ledger import Heartbeat, Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables, delete, merge, put
from tests.factories import Clock, new_license_id, new_session_id, start, terms
from tests.register_rows import look, values_of
from tests.stores import Counted


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_sweep_ends_what_has_lapsed_and_nothing_else(tables: Tables, clock: Clock) -> None:
    license_id, ledger = new_license_id(), Ledger(Register(tables), clock)
    silent, alive = [new_session_id() for _ in range(150)], new_session_id()
    bought = terms(seats=500)
    for session in [*silent, alive]:
        await ledger.submit(license_id, start(session, bought))
    begun = clock()
    clock.forward(600)
    await ledger.heartbeat(license_id, Heartbeat(alive, clock(), clock() + timedelta(seconds=900)))
    clock.forward(400)
    assert await sweep_license(Register(tables), ledger, license_id, clock(), dry_run=True) == 150
    assert len((await look(tables, license_id)).active) == 151, "a dry run does nothing"
    assert await sweep_license(Register(tables), ledger, license_id, clock()) == 150
    seen = await look(tables, license_id)
    seen.check()
    assert seen.active.keys() == {alive}
    assert seen.ended.keys() == set(silent)
    assert {row["reason"] for row in seen.ended.values()} == {"lapsed"}
    assert {row["ended_at"] for row in seen.ended.values()} == {begun}
    assert await sweep_license(Register(tables), ledger, license_id, clock()) == 0


async def test_a_sweep_ahead_of_time_frees_no_seat_whose_lease_still_runs(tables: Tables, clock: Clock) -> None:
    license_id, ledger = new_license_id(), Ledger(Register(tables), clock)
    await ledger.submit(license_id, start(new_session_id(), terms()))
    clock.forward(600)
    await ledger.submit(license_id, start(new_session_id(), terms()))
    clock.forward(300)
    ahead = clock() + timedelta(days=400)
    assert await sweep_license(Register(tables), ledger, license_id, ahead, dry_run=True) == 2
    assert await sweep_license(Register(tables), ledger, license_id, ahead) == 1, "that which has lapsed by now"
    seen = await look(tables, license_id)
    seen.check()
    assert len(seen.active) == 1


async def test_a_sweep_reads_only_the_active_rows(tables: Tables, clock: Clock) -> None:
    store, license_id = Counted(tables), new_license_id()
    ledger = Ledger(Register(store), clock)
    await ledger.submit(license_id, start(new_session_id(), terms()))
    store.calls.clear()
    await sweep_license(Register(store), ledger, license_id, clock())
    assert store.calls == ["range active:"]


async def test_the_timer_sweeps_every_license_and_says_what_it_did(
    tables: Tables, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger(Register(tables), clock)
    licenses = [new_license_id() for _ in range(3)]
    for license in licenses:
        await ledger.submit(license, start(new_session_id(), terms()))
    clock.forward(1000)
    with caplog.at_level("INFO"):
        swept = await sweep(Register(tables), ledger, clock())
    assert swept.lapsed >= 3
    assert swept.licenses >= 3
    assert swept.failed == 0
    assert any(record.getMessage() == f"sweep {swept}" for record in caplog.records)
    for license in licenses:
        assert (await look(tables, license)).state["in_use"] == 0


async def test_verify_finds_a_license_in_order(tables: Tables, clock: Clock) -> None:
    license_id, ledger = new_license_id(), Ledger(Register(tables), clock)
    bought = terms(sharing=Sharing.USER)
    sessions = [new_session_id() for _ in range(3)]
    for session in sessions:
        await ledger.submit(license_id, start(session, bought))
    await ledger.submit(license_id, End(sessions[0]))
    count = await verify(Register(tables), license_id)
    assert count is not None
    assert (count.sessions, count.holders, count.flaws, count.crowded) == (2, 1, (), False)


async def test_verify_of_an_unknown_license_is_none(tables: Tables) -> None:
    assert await verify(Register(tables), new_license_id()) is None


async def test_verify_finds_what_somebody_did_by_hand_and_mends_it(tables: Tables, clock: Clock) -> None:
    license_id, ledger = new_license_id(), Ledger(Register(tables), clock)
    bought = terms(sharing=Sharing.USER, seats=10)
    sessions = [new_session_id() for _ in range(4)]
    for number, session in enumerate(sessions):
        await ledger.submit(license_id, start(session, bought, user=f"u{number // 2}"))
    seen = await look(tables, license_id)
    first, second = sorted(seen.seats)
    stray = sessions[0]
    ended = {**seen.active[stray], "ended_at": clock(), "reason": "ended"}
    await tables.commit(
        "register",
        license_id,
        [
            merge(rows.STATE, {"in_use": 7}),
            put(rows.SEAT + first, {"sessions": 5}),
            delete(rows.SEAT + second),
            put(rows.SEAT + "nobody", {"sessions": 1}),
            put(rows.ended_key(clock(), stray), ended),
        ],
    )
    count = await verify(Register(tables), license_id)
    assert count is not None
    assert len(count.flaws) == 5
    assert all(person not in flaw for flaw in count.flaws for person in (first, second))
    mended = await verify(Register(tables), license_id, repair=True)
    assert mended is not None
    assert mended.flaws == ()
    assert mended.repaired == 5
    (await look(tables, license_id)).check()


async def test_verify_takes_the_place_of_a_session_that_is_active(tables: Tables, clock: Clock) -> None:
    license_id, ledger = new_license_id(), Ledger(Register(tables), clock)
    served, waiting = new_session_id(), new_session_id()
    for session in (served, waiting):
        await ledger.submit(license_id, start(session, terms(seats=1), wait=True))
    line = [
        {"session_id": each, "arrived_at": clock(), "heard_at": clock(), "retry_seconds": 5}
        for each in (served, waiting)
    ]
    await tables.commit("register", license_id, [merge(rows.STATE, {"line": to_json(line).decode()})])
    count = await verify(Register(tables), license_id)
    assert count is not None
    assert count.flaws == (f"session {served} is active, and waits in line",)
    await verify(Register(tables), license_id, repair=True)
    state = await Register(tables).state(license_id)
    assert state is not None
    assert [place.session_id for place in state.value.line] == [waiting]


async def test_verify_tells_a_crowded_license_from_a_broken_one(tables: Tables, clock: Clock) -> None:
    license_id, ledger = new_license_id(), Ledger(Register(tables), clock)
    for _ in range(3):
        await ledger.submit(license_id, start(new_session_id(), terms()))
    await ledger.submit(license_id, start(new_session_id(), terms(serial=2, seats=1)))
    count = await verify(Register(tables), license_id)
    assert count is not None
    assert count.crowded
    assert count.flaws == ()


async def audit_rows(tables: Tables, subject: str) -> list[dict[str, object]]:
    found = tables.rows("audit", where="subject eq @subject", values={"subject": subject})
    return [{"month": row.partition, **values_of(row)} async for row in found]


async def test_a_change_is_in_the_audit_before_it_is_made_and_closed_after(tables: Tables, clock: Clock) -> None:
    subject = new_license_id()
    async with audited(Register(tables), clock, "operator", "suspend", Subject(subject)):
        (before,) = await audit_rows(tables, subject)
        assert before["outcome"] == "begun"
        clock.forward(1)
    (after,) = await audit_rows(tables, subject)
    assert (after["who"], after["what"], after["outcome"]) == ("operator", "suspend", "done")
    assert after["at"] == clock() - timedelta(seconds=1)
    assert after["closed_at"] == clock()
    assert after["month"] == f"{datetime.now(UTC):%Y-%m}"


async def test_a_change_that_fails_is_said_to_have_failed(tables: Tables, clock: Clock) -> None:
    subject = new_license_id()
    with pytest.raises(ZeroDivisionError):
        async with audited(Register(tables), clock, "operator", "suspend", Subject(subject)):
            _ = 1 / 0
    assert [entry["outcome"] for entry in await audit_rows(tables, subject)] == ["failed"]
