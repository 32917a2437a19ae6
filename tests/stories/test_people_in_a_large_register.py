"""Export, rectify and erase in a large register: only that organization, under both peppers, beside live traffic.

REGISTER_SESSIONS says how many sessions it has; 200,000 take some minutes.
"""

import asyncio
import os
import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta

from licensing.crypto.pseudonyms import Peppers
from licensing.errors import UnavailableError
from licensing.rules.license import Sharing
from licensing.rules.model import EndedSession, EndReason, Session, Versioned
from licensing.rules.personal import PersonalData
from licensing.rules.requests import End, Granted, Request, Start
from licensing.services.privacy import PersonQuery, Privacy
from licensing.storage import register as rows
from licensing.storage.ledger import Answer, Ledger
from licensing.storage.register import Register
from licensing.storage.tables import TRANSACTION_ROWS, Tables, Write
from tests import factories
from tests.factories import Clock, new_license_id, new_session_id, terms
from tests.register_rows import look
from tests.stores import ledgers

SESSIONS = int(os.environ.get("REGISTER_SESSIONS", "4000"))
PEPPERS = Peppers({"new": bytes(range(32)), "old": bytes(range(1, 33))})
PEOPLE = ["ada", "bob", "eve", *(f"user-{number}" for number in range(37))]
CORRECTED = "user-9"
"""Somebody who is not among the live traffic, and one end of whose sessions is wrong."""
USE = timedelta(minutes=30)
"""How long each past session lasted."""
LICENSES = 2
SEATS = 3


def past_sessions(organization: str, count: int, now: datetime) -> list[tuple[str, Write]]:
    """Sessions of the last ten months by all people, each under one of the peppers: who it was, and the row."""
    chance = random.Random(count)
    made: list[tuple[str, Write]] = []
    for number in range(count):
        user, pepper = PEOPLE[number % len(PEOPLE)], ("old", "new")[number // len(PEOPLE) % 2]
        (person,) = (
            person
            for person in PEPPERS.persons(organization, factories.user_hash(user), factories.host_hash(), None)
            if person.pepper == pepper
        )
        began = now - timedelta(seconds=chance.uniform(3600, 300 * 86400))
        session = Session(
            new_session_id(), began, began, began, person.user, person.host, person.ip, pepper, holder=person.user
        )
        ended = EndedSession(session, began + USE, EndReason.ENDED)
        made.append((user, rows.end_changes(Versioned(ended, ""))[1].write))
    return made


async def fill(tables: Tables, license_id: str, sessions: list[tuple[str, Write]]) -> Counter[str]:
    """Put past sessions into the register; how many each person has."""
    writes = sorted((write for _, write in sessions), key=lambda write: write.key)
    places = asyncio.Semaphore(8)

    async def put(batch: list[Write]) -> None:
        async with places:
            await tables.commit("register", license_id, batch)

    await asyncio.gather(
        *(put(writes[place : place + TRANSACTION_ROWS]) for place in range(0, len(writes), TRANSACTION_ROWS))
    )
    return Counter(user for user, _ in sessions)


async def until_answered(ledger: Ledger, license_id: str, request: Request) -> Answer:
    """Submit a request as a program does, which comes back where the store was too busy."""
    for _ in range(20):
        try:
            return await ledger.submit(license_id, request)
        except UnavailableError:
            await asyncio.sleep(1)
    raise AssertionError("never answered")


async def test_only_one_person_of_one_organization_is_touched_beside_live_traffic(tables: Tables) -> None:
    clock = Clock(datetime.now(UTC))
    organizations = [factories.new_id("org") for _ in range(2)]
    licenses = {organization: [new_license_id() for _ in range(LICENSES)] for organization in organizations}
    before: dict[str, Counter[str]] = {organization: Counter() for organization in organizations}
    began = time.monotonic()

    def lap(what: str) -> None:
        nonlocal began
        print(f"{what} {time.monotonic() - began:.1f} s", end=", ", flush=True)
        began = time.monotonic()

    async def live(ledger: Ledger, organization: str, user: str, done: asyncio.Event) -> int:
        bought = terms(organization_id=organization, sharing=Sharing.USER, seats=SEATS)
        persons = PEPPERS.persons(organization, factories.user_hash(user), factories.host_hash(), None)
        runs = 0
        while not done.is_set():
            license = random.choice(licenses[organization])
            start = Start(new_session_id(), bought, persons)
            if isinstance((await until_answered(ledger, license, start)).outcome, Granted):
                runs += 1
                await asyncio.sleep(random.uniform(0, 0.05))
                await until_answered(ledger, license, End(start.session_id))
            await asyncio.sleep(random.uniform(0, 0.05))
        return runs

    def wanted(organization: str, user: str) -> PersonQuery:
        return PersonQuery(organization, factories.user_hash(user))

    for organization in organizations:
        for license in licenses[organization]:
            # Their first start makes the licenses known.
            persons = PEPPERS.persons(organization, factories.user_hash("first"), factories.host_hash(), None)
            first = Start(
                new_session_id(), terms(organization_id=organization, sharing=Sharing.USER, seats=SEATS), persons
            )
            await Ledger(Register(tables), clock).submit(license, first)
            await Ledger(Register(tables), clock).submit(license, End(first.session_id))
            each = past_sessions(organization, SESSIONS // 2 // LICENSES, clock())
            before[organization] += await fill(tables, license, each)
    lap("fill")

    privacy = Privacy(Register(tables), Ledger(Register(tables), clock), PEPPERS, clock)
    here, there = organizations
    done = asyncio.Event()
    programs = [
        asyncio.create_task(live(ledger, organization, user, done))
        for ledger, (organization, user) in zip(
            ledgers(tables, clock, 5),
            [(here, "ada"), (here, "user-0"), (here, "user-1"), (there, "ada"), (there, "bob")],
            strict=True,
        )
    ]
    export: PersonalData = await privacy.export(wanted(here, "ada"))
    lap("export")
    moved = await privacy.move(wanted(here, "bob"), factories.user_hash("eve"))
    lap("rectify: move")
    wrong = (await privacy.export(wanted(here, CORRECTED))).sessions[-1]
    right = wrong.started_at + USE / 3
    corrected = await privacy.correct_end(wanted(here, CORRECTED), wrong.session, right)
    lap("rectify: correct an end")
    erased = await privacy.erase(wanted(here, "ada"))
    lap("erase")
    done.set()
    runs = await asyncio.gather(*programs)
    assert min(runs) > 0, "there was traffic all the while"

    past = [session for session in export.sessions if session.started_at < clock()]
    assert len(past) == before[here]["ada"]
    assert {session.pepper for session in past} == {"old", "new"}
    assert {session.license for session in past} == set(licenses[here])
    assert moved.corrected == before[here]["bob"]
    assert corrected.corrected == 1
    assert erased.deleted >= before[here]["ada"]
    lap("traffic ends")

    otherwise: dict[str, datetime] = {}
    for organization in organizations:
        left: Counter[str] = Counter()
        names = {
            PEPPERS.pseudonym(pepper, organization, "user", factories.user_hash(user)): user
            for pepper in PEPPERS
            for user in PEOPLE
        }
        for license in licenses[organization]:
            seen = await look(tables, license)
            seen.check()
            assert seen.state["in_use"] == 0
            otherwise |= {
                session: row["ended_at"]
                for session, row in seen.ended.items()
                if row["started_at"] < clock() and row["ended_at"] - row["started_at"] != USE
            }
            left += Counter(
                names[row["user"]]
                for row in seen.ended.values()
                if row["user"] in names and row["started_at"] < clock()
            )
        expected = before[organization].copy()
        if organization == here:
            expected["eve"] += expected.pop("bob")
            del expected["ada"]
        assert left == expected
    assert otherwise == {wrong.session: right}, "no other end was touched"
    lap("check")
    print(f"of {SESSIONS} sessions, while {sum(runs)} programs ran")
