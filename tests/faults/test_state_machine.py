"""Whatever happens in whatever order, to several services on one store: the rows keep the ledger's promises after every
step, and every reply is what a simple model of a license says.

The model knows seats, people and leases, and nothing of rows, versions or commits. Where chance decides (a crash before
or after the commit, which of two lapsed sessions makes room, requests at once) it takes from the rows which of the
possible things has happened, and fails where that is none of them.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from licensing.cli.home import Home
from licensing.rules.license import Refusal
from licensing.rules.requests import ForeignSession, Refused
from licensing.services.privacy import PersonQuery, Privacy
from licensing.services.sessions import Gone, Held, NoSeat, Running, Sessions, StartRequest
from licensing.services.sweep import sweep_license
from licensing.services.verify import verify
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Table, Tables, Write
from tests import factories
from tests.factories import Clock
from tests.register_rows import values_of

EXAMPLES: Final = int(os.environ.get("MACHINE_EXAMPLES", "15"))
"""How many lives a license leads here; MACHINE_EXAMPLES=2000 makes an hour of it."""

PHASES: Final = [Phase.generate, *([Phase.shrink] if "MACHINE_EXAMPLES" in os.environ else [])]
"""Shrinking a failing life takes minutes: too long for a run of all tests, and done on demand."""

STEPS: Final = 40
SERVICES: Final = 3
USERS: Final = ("ada", "bob", "eve")
HOSTS: Final = ("pc", "laptop")
Result = TypeVar("Result")

PICK: Final = st.integers(0, 99)
PROCESS: Final = st.integers(0, SERVICES - 1)
Wish = tuple[bool, int, int, str, str]
WISH: Final = st.tuples(st.booleans(), PICK, st.integers(0, 2), st.sampled_from(USERS), st.sampled_from(HOSTS))
"""A start: whether an earlier one is sent again and which, under which file, by whom and where."""


class Mortal(Tables):
    """A real store as a process sees it that can die at a commit: before it, or before it hears the answer."""

    dies: str = ""

    async def commit(self, table: Table, partition: str, writes: Sequence[Write]) -> list[str]:
        if table == "register" and self.dies == "before":
            await asyncio.Event().wait()
        etags = await super().commit(table, partition, writes)
        if table == "register" and self.dies == "after":
            await asyncio.Event().wait()
        return etags


@dataclass
class Process:
    """One of the services: its memory, and its way to the store."""

    tables: Mortal
    ledger: Ledger
    sessions: Sessions


@dataclass
class Use:
    """A session that runs, as the model knows it."""

    user: str
    host: str
    holder: str
    started_at: datetime
    expires_at: datetime
    lease: str = ""


@dataclass
class File:
    """A license file, and what it says."""

    text: str
    serial: int
    seats: int
    overdraft: int
    sharing: str
    lease: int

    def holder(self, session_id: str, user: str, host: str) -> str:
        """Who would hold the seat."""
        return {"none": session_id, "user": user, "host": host, "user-host": f"{user} {host}"}[self.sharing]


Row = tuple[str, datetime]
"""A use: a session's id and its beginning. An id that is started again after its end is a new use."""


@dataclass
class Rows:
    """What the register holds on the license."""

    state: dict[str, Any] | None = None
    active: dict[Row, dict[str, Any]] = field(default_factory=dict)
    ended: dict[Row, dict[str, Any]] = field(default_factory=dict)
    seats: dict[str, int] = field(default_factory=dict)


class Life(RuleBasedStateMachine):
    """A license, from its first start on. `azurite` and `home` are set by the test."""

    azurite: str
    home: Home
    floating = True

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Clock()
        self.slack = 1.0  # seconds by which clocks have been set back; leases are whole seconds besides
        self.license = factories.new_license_id()
        self.organization = factories.new_id("org")
        self.processes = [self.wait(self.born()) for _ in range(SERVICES)]
        self.files: list[File] = []
        self.serial = 0  # the highest serial that a start has brought
        self.exists = False
        self.suspended = False
        self.collect = True
        self.running: dict[str, Use] = {}
        self.over: set[Row] = set()
        self.bodies: list[tuple[StartRequest, str, str]] = []
        self.crowd = 0

    # Setting up.

    def wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do something that takes the event loop; nothing may hang."""
        return self.loop.run_until_complete(asyncio.wait_for(work, 30))

    async def born(self) -> Process:
        """A new process, which knows nothing yet."""
        tables = Mortal.from_connection_string(self.azurite)
        assert isinstance(tables, Mortal)
        ledger = Ledger(Register(tables), self.clock)
        # So that each reads the state for every heartbeat, and a suspension holds at once.
        configured = factories.settings(self.home, self.azurite, LICENSING_STATUS_CACHE_SECONDS="0")
        return Process(tables, ledger, Sessions(configured, ledger, self.clock))

    @initialize(
        terms=st.lists(
            st.tuples(
                st.integers(1, 3),
                st.integers(0, 1),
                st.sampled_from(["none", "user", "host", "user-host"]),
                st.sampled_from([600, 900]),
            ),
            min_size=1,
            max_size=3,
        ),
    )
    def issue(self, terms: list[tuple[int, int, str, int]]) -> None:
        """The files that the customer has: each newer one changes everything."""
        for serial, (seats, overdraft, sharing, lease) in enumerate(terms, start=1):
            claims = {"sub": self.license, "serial": serial, "seats": seats, "lease": lease, "exp": 2_000_000_000}
            claims["organization"] = {"id": self.organization, "name": "Acme"}
            claims |= {"overdraft": overdraft, "sharing": sharing} if self.floating else self.named
            text = factories.issue(self.home, **claims)
            self.files.append(File(text, serial, seats, overdraft, sharing if self.floating else "none", lease))

    @property
    def named(self) -> dict[str, Any]:
        """What makes a license one for named users."""
        return {"kind": "named-user", "users": [factories.user_hash(user) for user in (*USERS, "mallory")]}

    @property
    def file(self) -> File:
        """The terms in force."""
        return self.files[max(self.serial, 1) - 1]

    # What programs do.

    def body(self, wish: Wish) -> tuple[StartRequest, str, str, File]:
        """A start: a new one, or one that was sent before, perhaps under another file."""
        again, pick, which, user, host = wish
        file = self.files[which % len(self.files)]
        if again and self.bodies:
            before, user, host = self.bodies[pick % len(self.bodies)]
            request = StartRequest(file.text, before.session_id, before.user, before.host, factories.new_nonce())
        else:
            names = (factories.user_hash(user), factories.host_hash(host))
            request = StartRequest(file.text, factories.new_session_id(), *names, factories.new_nonce())
            self.bodies.append((request, user, host))
        return request, user, host, file

    def one_of_those_that_run(self, pick: int) -> str | None:
        """A session that runs, in the order in which they were started; None where there is none."""
        return list(self.running)[pick % len(self.running)] if self.running else None

    @rule(process=PROCESS, wish=WISH)
    def start(self, process: int, wish: Wish) -> None:
        request, user, host, file = self.body(wish)
        reply = self.wait(self.processes[process].sessions.start(request, None))
        if not self.exists or not self.suspended:
            self.serial = max(self.serial, file.serial)
            self.exists = True
        if self.suspended:
            assert reply == Refused(Refusal.SUSPENDED)
        elif file.serial < self.serial:
            assert reply == Refused(Refusal.SUPERSEDED)
        elif not self.collect:
            assert isinstance(reply, Running)
            assert not reply.recorded
        elif request.session_id in self.running:
            use = self.running[request.session_id]
            assert isinstance(reply, Running)
            assert reply.repeat
            if use.expires_at <= self.clock():
                use.expires_at = self.clock() + timedelta(seconds=file.lease)
            assert reply.expires_at == use.expires_at
            use.lease = reply.lease_token
        else:
            holder = file.holder(request.session_id, user, host) if self.floating else ""
            self.adopt_lapses()
            free = len(self.holders()) < file.seats + file.overdraft
            if isinstance(reply, Running):
                assert free or holder in self.holders() or not self.floating, "one seat too many"
                assert not reply.repeat
                expires_at = self.clock() + timedelta(seconds=file.lease)
                assert reply.expires_at == expires_at
                self.running[request.session_id] = Use(user, host, holder, self.clock(), expires_at, reply.lease_token)
            else:
                assert isinstance(reply, NoSeat)
                assert not free, "refused, and a seat is free"
                assert holder not in self.holders(), "refused, and its holder has a seat"
                forgotten = self.clock() - timedelta(seconds=self.slack)
                assert all(use.expires_at > forgotten for use in self.running.values()), "refused, and one has lapsed"

    @rule(process=PROCESS, pick=PICK)
    def heartbeat(self, process: int, pick: int) -> None:
        session = self.one_of_those_that_run(pick)
        if session is None:
            return
        use = self.running[session]
        reply = self.wait(self.processes[process].sessions.heartbeat(use.lease, session, factories.new_nonce()))
        if self.suspended:
            assert reply == Refused(Refusal.SUSPENDED)
            return
        assert isinstance(reply, Running)
        use.expires_at = self.clock() + timedelta(seconds=self.file.lease)
        assert reply.expires_at == use.expires_at
        use.lease = reply.lease_token

    @rule(process=PROCESS, twice=st.booleans(), pick=PICK)
    def end(self, process: int, twice: bool, pick: int) -> None:
        session = self.one_of_those_that_run(pick)
        if session is None:
            return
        use = self.running.pop(session)
        self.wait(self.processes[process].sessions.end(use.lease, session))
        self.over.add((session, use.started_at))
        if twice:
            other = self.processes[process - 1].sessions
            self.wait(other.end(use.lease, session))
            assert isinstance(self.wait(other.read(use.lease, session)), Gone)
            answer = self.wait(other.heartbeat(use.lease, session, factories.new_nonce()))
            assert answer == (Refused(Refusal.SUSPENDED) if self.suspended else Gone())

    @rule(process=PROCESS, pick=PICK)
    def read(self, process: int, pick: int) -> None:
        session = self.one_of_those_that_run(pick)
        if session is None:
            return
        use = self.running[session]
        reply = self.wait(self.processes[process].sessions.read(use.lease, session))
        assert isinstance(reply, Held)
        assert (reply.session.started_at, reply.session.expires_at) == (use.started_at, use.expires_at)

    @rule(process=PROCESS, session=PICK)
    def start_under_a_foreign_id(self, process: int, session: int) -> None:
        """One session cannot be two people's."""
        running = [body for body in self.bodies if body[0].session_id in self.running]
        if not running or self.suspended:
            return
        before = running[session % len(running)][0]
        request = StartRequest(
            self.file.text, before.session_id, factories.user_hash("mallory"), before.host, factories.new_nonce()
        )
        assert isinstance(self.wait(self.processes[process].sessions.start(request, None)), ForeignSession)

    # What happens to services and clocks.

    @rule(seconds=st.sampled_from([1, 60, 299, 300, 600, 900, 2000, -20]))
    def clock_steps(self, seconds: int) -> None:
        self.clock.forward(seconds)
        self.slack += max(0, -seconds)

    @rule(process=PROCESS, dies=st.sampled_from(["before", "after"]), starts=st.booleans(), wish=WISH)
    def crash(self, process: int, dies: str, starts: bool, wish: Wish) -> None:
        """A process dies while it serves a start or an end, before or after the commit; another takes its place."""
        ending = self.one_of_those_that_run(wish[1])
        if self.suspended or (ending is None and not starts):
            return
        dying = self.processes[process]
        dying.tables.dies = dies
        if starts or ending is None:
            request, user, host, file = self.body((False, *wish[1:]))
            work: Coroutine[Any, Any, Any] = dying.sessions.start(request, None)
            session = request.session_id
        else:
            session = ending
            work = dying.sessions.end(self.running[session].lease, session)

        async def until_dead() -> None:
            living = asyncio.all_tasks()
            await asyncio.wait([asyncio.ensure_future(work)], timeout=0.05)
            its_own = asyncio.all_tasks() - living
            for task in its_own:
                task.cancel()
            await asyncio.gather(*its_own, return_exceptions=True)
            await dying.tables.close()

        self.wait(until_dead())
        self.processes[process] = self.wait(self.born())
        found = self.wait(self.rows())
        if found.state is not None:
            self.exists = True
            self.serial = int(found.state["serial"][0])
        if starts:
            self.adopt_lapses(found)
            began = [began for name, began in found.active if name == session]
            if began:
                expires_at = began[0] + timedelta(seconds=file.lease)
                holder = file.holder(session, user, host) if self.floating else ""
                use = self.running[session] = Use(user, host, holder, began[0], expires_at)
                # The program asks again, and learns what was done.
                reply = self.wait(self.processes[process].sessions.start(request, None))
                assert isinstance(reply, Running)
                assert reply.repeat
                use.lease = reply.lease_token
        elif (session, self.running[session].started_at) in found.ended:
            self.over.add((session, self.running.pop(session).started_at))

    @rule(process=PROCESS)
    def sweep(self, process: int) -> None:
        swept = self.processes[process]
        lapsed = {name for name, use in self.running.items() if use.expires_at <= self.clock()}
        count = self.wait(sweep_license(Register(swept.tables), swept.ledger, self.license, self.clock()))
        assert count == len(lapsed)
        for name in lapsed:
            self.over.add((name, self.running.pop(name).started_at))

    @rule(seed=st.integers(0, 2**32), wishes=st.lists(WISH, min_size=1, max_size=5))
    def all_at_once(self, seed: int, wishes: list[Wish]) -> None:
        """Starts, ends and sweeps by all services at the same time."""
        chance = random.Random(seed)
        starts = [self.body(wish) for wish in wishes]
        ending = [name for name in self.running if chance.random() < 0.5]
        before = {(name, use.started_at) for name, use in self.running.items()}
        lapsed = {(name, use.started_at) for name, use in self.running.items() if use.expires_at <= self.clock()}

        async def together() -> list[Any]:
            def process() -> Process:
                return chance.choice(self.processes)

            sweeper = process()
            return await asyncio.gather(
                *(process().sessions.start(request, None) for request, *_ in starts),
                *(process().sessions.end(self.running[name].lease, name) for name in ending),
                sweep_license(Register(sweeper.tables), sweeper.ledger, self.license, self.clock()),
            )

        replies = self.wait(together())
        found = self.wait(self.rows())
        if found.state is not None:
            # Seats may have been given under one file before the next took them away.
            brought = [file.seats + file.overdraft for *_, file in starts if file.serial >= self.serial]
            self.crowd = max([self.crowd, *brought])
            self.exists, self.serial = True, int(found.state["serial"][0])
        ids = {request.session_id for request, *_ in starts}
        left = before - found.active.keys()
        assert left <= found.ended.keys(), "a session was lost"
        assert left <= {row for row in before if row[0] in ending} | lapsed, "one was ended that nobody ended"
        assert {name for name, _ in found.active.keys() - before} <= ids, "one came from nowhere"
        names = {name for name, _ in [*found.active, *found.ended]}
        for (request, user, host, file), reply in zip(starts, replies, strict=False):
            if isinstance(reply, Running) and reply.recorded:
                assert request.session_id in names, "granted, and not in the register"
                assert not self.suspended
                if reply.repeat:
                    continue
                for name, began in found.active.keys() - before:
                    if name == request.session_id:
                        holder = file.holder(name, user, host) if self.floating else ""
                        self.running[name] = Use(user, host, holder, began, reply.expires_at, reply.lease_token)
        for name in [row[0] for row in left]:
            if name in self.running and (name, self.running[name].started_at) not in found.active:
                del self.running[name]
        for (name, _), row in found.active.items():
            self.running[name].expires_at = row["expires_at"]
        self.over |= found.ended.keys() - self.over

    # What operators do.

    @rule(process=PROCESS, suspended=st.booleans())
    def change_status(self, process: int, suspended: bool) -> None:
        state = self.wait(self.processes[process].ledger.set_status(self.license, suspended=suspended))
        assert (state is not None) == self.exists
        self.suspended = suspended and self.exists

    @rule(process=PROCESS, user=st.sampled_from(USERS))
    def erase(self, process: int, user: str) -> None:
        """A person wants everything deleted; running sessions are ended first."""
        self.wait(self.privacy(process).erase(PersonQuery(self.organization, factories.user_hash(user))))
        self.running = {name: use for name, use in self.running.items() if use.user != user}
        theirs = {body.session_id for body, name, _ in self.bodies if name == user}
        self.over = {row for row in self.over if row[0] not in theirs}

    def privacy(self, process: int) -> Privacy:
        chosen = self.processes[process]
        return Privacy(Register(chosen.tables), chosen.ledger, self.settings.peppers, self.clock)

    @property
    def settings(self) -> Any:
        return factories.settings(self.home, self.azurite)

    # What must be true.

    def holders(self) -> set[str]:
        return {use.holder for use in self.running.values() if use.holder}

    def adopt_lapses(self, found: Rows | None = None) -> None:
        """Lapsed sessions may have made room; which, the rows tell."""
        found = found or self.wait(self.rows())
        for name, use in list(self.running.items()):
            if (name, use.started_at) in found.ended:
                assert use.expires_at <= self.clock(), "a session was ended before its lease"
                assert found.ended[name, use.started_at]["reason"] == "lapsed"
                self.over.add((name, use.started_at))
                del self.running[name]

    async def rows(self) -> Rows:
        """Everything that the register holds on the license, read past the ledger."""
        found = Rows()
        async for row in self.processes[0].tables.rows("register", self.license):
            kind, _, name = row.key.partition(":")
            columns = values_of(row)
            if kind == "license":
                found.state = columns
            elif kind == "active":
                found.active[name, columns["started_at"]] = columns
            elif kind == "ended":
                use = (name.rpartition(":")[2], columns["started_at"])
                assert use not in found.ended, "a session ended twice"
                found.ended[use] = columns
            elif kind == "seat":
                found.seats[name] = columns["sessions"]
        return found

    @invariant()
    def the_promises_hold(self) -> None:
        self.clock.forward(0.001)  # no two uses of one id begin at once
        found = self.wait(self.rows())
        if found.state is None:
            assert not found.active
            assert not found.ended
            return
        held = {row["holder"] for row in found.active.values() if row["holder"]}
        in_use, capacity = found.state["in_use"], found.state["seats"] + found.state["overdraft"]
        assert in_use == len(held)
        assert in_use <= max(self.crowd, capacity), "more holders than seats"
        self.crowd = in_use
        sharing = (row["holder"] for (name, _), row in found.active.items() if row["holder"] not in ("", name))
        assert found.seats == Counter(sharing)
        assert found.active.keys().isdisjoint(found.ended), "both active and ended"
        assert len({name for name, _ in found.active}) == len(found.active)
        assert found.active.keys() == {(name, use.started_at) for name, use in self.running.items()}
        assert found.ended.keys() == self.over
        assert in_use == len(self.holders())
        for (name, _), row in found.active.items():
            assert row["expires_at"] == self.running[name].expires_at

    def teardown(self) -> None:
        async def close() -> None:
            count = await verify(Register(self.processes[0].tables), self.license)
            assert count is None or count.flaws == ()
            for process in self.processes:
                await process.tables.close()

        self.wait(close())
        self.loop.close()


class NamedUsers(Life):
    """A license that takes no seats, and under which collection can be stopped."""

    floating = False

    @rule(process=PROCESS, collect=st.booleans(), erase=st.booleans())
    def opt(self, process: int, collect: bool, erase: bool) -> None:
        """The customer opts out, or in again."""
        privacy = self.privacy(process)
        if collect:
            assert self.wait(privacy.opt_in(self.license)) == self.exists
            self.collect = self.collect or self.exists
            return
        answer = self.wait(privacy.opt_out(self.license, erase=erase))
        assert (answer is not None) == self.exists
        if answer is None:
            return
        assert answer.ended == len(self.running)
        self.collect = False
        self.over |= {(name, use.started_at) for name, use in self.running.items()}
        self.running = {}
        if erase:
            assert answer.deleted >= len(self.over)
            self.over = set()


@pytest.mark.parametrize("life", [Life, NamedUsers])
def test_the_promises_hold_whatever_happens(home: Home, azurite: str, life: type[Life]) -> None:
    machine = type(life.__name__, (life,), {"home": home, "azurite": azurite})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES if life is Life else max(1, EXAMPLES // 3),
            stateful_step_count=STEPS,
            deadline=None,
            phases=PHASES,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
