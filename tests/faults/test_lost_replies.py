"""A commit is done, and its reply is lost: no second seat, and no error on a retry."""

from datetime import timedelta

import pytest

from licensing.rules.requests import End, Ended, Granted
from licensing.storage.ledger import Heartbeat, Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests.factories import Clock, new_license_id, new_session_id, start, terms
from tests.fault_proxy import port_of, start_lossy_proxy, through
from tests.register_rows import look


@pytest.mark.parametrize("cached", [False, True])
async def test_the_answer_to_a_transaction_is_lost_between_store_and_service(
    azurite: str, tables: Tables, cached: bool
) -> None:
    license_id, session_id, clock = new_license_id(), new_session_id(), Clock()
    async with start_lossy_proxy(port_of(azurite)) as proxy:
        lossy = Tables.from_connection_string(through(proxy.port, azurite))
        ledger = Ledger(Register(lossy), clock)
        if cached:
            await ledger.submit(license_id, start(new_session_id(), terms()))
        proxy.match, proxy.lose_replies = b"register", 1
        assert isinstance((await ledger.submit(license_id, start(session_id, terms()))).outcome, Granted)
        assert proxy.lost == 1
        seen = await look(tables, license_id)
        seen.check()
        assert seen.state["in_use"] == 1 + cached

        proxy.lose_replies = 1
        assert await ledger.heartbeat(license_id, Heartbeat(session_id, clock(), clock() + timedelta(seconds=900)))
        assert proxy.lost == 2

        proxy.lose_replies = 1
        assert isinstance((await ledger.submit(license_id, End(session_id))).outcome, Ended)
        assert proxy.lost == 3
        seen = await look(tables, license_id)
        seen.check()
        assert seen.ended.keys() == {session_id}
        await lossy.close()
