"""A commit is done, and its answer is lost on the way: no second seat, and no error on trying again."""

import re
from datetime import timedelta

import pytest

from licensing.rules.requests import End, Ended, Granted
from licensing.storage.ledger import Heartbeat, Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests.faults.proxy import proxied
from tests.storage.desk import Clock, look, new_license, new_session, start, terms


def port_of(connection_string: str) -> int:
    match = re.search(r"127\.0\.0\.1:(\d+)", connection_string)
    assert match
    return int(match[1])


def by_way_of(port: int, connection_string: str) -> str:
    """The same store, by way of a proxy that listens on a port."""
    return connection_string.replace(f":{port_of(connection_string)}/", f":{port}/")


@pytest.mark.parametrize("known", [False, True])
async def test_the_answer_to_a_transaction_is_lost_between_store_and_service(
    azurite: str, tables: Tables, known: bool
) -> None:
    license, session, clock = new_license(), new_session(), Clock()
    async with proxied(port_of(azurite)) as proxy:
        lossy = Tables.from_connection_string(by_way_of(proxy.port, azurite))
        ledger = Ledger(Register(lossy), clock)
        if known:
            await ledger.submit(license, start(new_session(), terms()))
        proxy.match, proxy.lose_replies = b"register", 1
        assert isinstance((await ledger.submit(license, start(session, terms()))).outcome, Granted)
        assert proxy.lost == 1
        seen = await look(tables, license)
        seen.check()
        assert seen.head["in_use"] == 1 + known

        proxy.lose_replies = 1
        assert await ledger.heartbeat(license, Heartbeat(session, clock(), clock() + timedelta(seconds=900)))
        assert proxy.lost == 2

        proxy.lose_replies = 1
        assert isinstance((await ledger.submit(license, End(session))).outcome, Ended)
        assert proxy.lost == 3
        seen = await look(tables, license)
        seen.check()
        assert seen.ended.keys() == {session}
        await lossy.close()
