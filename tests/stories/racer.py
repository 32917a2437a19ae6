"""One of several processes that race for the seats of one license; see test_race.py.

Waits for a line of input once it is ready, and prints a line of JSON: for each seat that it got, from when to when it
knew that it held it (monotonic seconds, which all processes of a machine share).
"""

import asyncio
import json
import random
import sys
import time
from datetime import UTC, datetime

from licensing.errors import UnavailableError
from licensing.rules.requests import End, Full, Granted, Outcome, Request
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables
from tests.storage.desk import new_session, start, terms


async def race(storage: str, license: str, rounds: int, seats: int) -> list[tuple[float, float]]:
    """Start and end, again and again."""
    tables = Tables.from_connection_string(storage)
    ledger = Ledger(Register(tables), lambda: datetime.now(UTC))
    held: list[tuple[float, float]] = []
    for _ in range(rounds):
        session = new_session()
        outcome = await insist(ledger, license, start(session, terms(seats=seats)))
        if isinstance(outcome, Granted):
            since = time.monotonic()
            await asyncio.sleep(random.uniform(0, 0.08))
            held.append((since, time.monotonic()))
            await insist(ledger, license, End(session))
        elif isinstance(outcome, Full):
            await asyncio.sleep(random.uniform(0, 0.02))
        else:
            raise AssertionError(outcome)
    await tables.close()
    return held


async def insist(ledger: Ledger, license: str, request: Request) -> Outcome:
    """Ask until there is an answer, as programs do: among too many others a ledger gives up after a while."""
    while True:
        try:
            return (await ledger.submit(license, request)).outcome
        except UnavailableError:
            await asyncio.sleep(random.uniform(0, 1))


if __name__ == "__main__":
    storage, license, rounds, seats = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(asyncio.run(race(storage, license, int(rounds), int(seats)))))
