"""What becomes of a recall: sweep forgets it a day after the session's end, an erasure at once."""

import pytest

from licensing.rules.license import Kind
from licensing.rules.requests import Recall, Recalled
from licensing.services.sweep import sweep
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register, new_commit_id, state_change
from licensing.storage.tables import Tables
from tests.factories import new_license_id, new_session_id
from tests.office import Office
from tests.register_rows import look

DAY = 86400


@pytest.fixture
def office(tables: Tables) -> Office:
    return Office(tables)


async def recalled(office: Office, license_id: str) -> list[str]:
    state = await Ledger(Register(office.tables), office.clock).state(license_id)
    assert state is not None
    return [each.session_id for each in state.recalled]


async def test_sweep_forgets_a_recall_a_day_after_the_end(office: Office) -> None:
    license_id = new_license_id()
    session = await office.begin(license_id, "ann")
    assert isinstance((await office.ledger.submit(license_id, Recall(session))).outcome, Recalled)
    await office.end(license_id, session)
    for passes, left in ((DAY - 1, [session]), (2, [])):
        office.clock.forward(passes)
        await sweep(Register(office.tables), Ledger(Register(office.tables), office.clock), office.clock())
        assert await recalled(office, license_id) == left
    assert (await look(office.tables, license_id)).state["recalled"] == "[]"


async def test_a_recalled_session_that_lapses_is_kept_for_a_day_after_it(office: Office) -> None:
    license_id = new_license_id()
    session = await office.begin(license_id, "ann")
    await office.ledger.submit(license_id, Recall(session))
    office.clock.forward(1000)
    await sweep(Register(office.tables), office.ledger, office.clock())
    office.clock.forward(DAY - 1)
    await sweep(Register(office.tables), office.ledger, office.clock())
    assert await recalled(office, license_id) == [session]
    office.clock.forward(1)
    await sweep(Register(office.tables), Ledger(Register(office.tables), office.clock), office.clock())
    assert await recalled(office, license_id) == []


async def test_a_recall_whose_session_ended_unnoticed_is_closed(office: Office) -> None:
    license_id, session = new_license_id(), new_session_id()
    await office.begin(license_id, "ann")
    register = Register(office.tables)
    state = await register.state(license_id)
    assert state is not None
    # As if it ended between the reading of its row and the commit of its recall.
    await register.commit(license_id, [state_change(state, state.value.recalling(session), new_commit_id())])
    for _ in range(2):
        await sweep(Register(office.tables), Ledger(Register(office.tables), office.clock), office.clock())
        office.clock.forward(DAY)
    assert await recalled(office, license_id) == []


async def test_an_erasure_forgets_the_recall(office: Office) -> None:
    license_id = new_license_id()
    anns, bens = [await office.begin(license_id, user) for user in ("ann", "ben")]
    for session in (anns, bens):
        assert isinstance((await office.ledger.submit(license_id, Recall(session))).outcome, Recalled)
    await office.privacy.erase(office.wanted("ann"))
    assert await recalled(office, license_id) == [bens]


async def test_an_opt_out_that_deletes_forgets_all_recalls(office: Office) -> None:
    license_id = new_license_id()
    session = await office.begin(license_id, "ann", kind=Kind.NAMED_USER)
    assert isinstance((await office.ledger.submit(license_id, Recall(session))).outcome, Recalled)
    await office.privacy.opt_out(license_id, erase=True)
    assert await recalled(office, license_id) == []


async def test_recalls_outlast_a_renewal(office: Office) -> None:
    license_id = new_license_id()
    session = await office.begin(license_id, "ann")
    await office.ledger.submit(license_id, Recall(session))
    await office.begin(license_id, "ben", serial=2, hold_seconds=60)
    assert await recalled(office, license_id) == [session]
    await office.begin(license_id, "cem", serial=3)
    state = (await look(office.tables, license_id)).state
    assert (state["hold"], "grace" in state) == (0, True), "what the newest file does not say is not left over"
