"""Whatever happens in whatever order, to several services on one store: the rows keep the ledger's promises after every
step, and every reply is what a simple model of a license says.

The model knows seats, people, leases and outages, and nothing of versions or commits. Where chance decides (a crash
before or after the commit, which of two lapsed sessions makes room, requests at once) it takes from the rows which of
the possible things has happened, and fails where that is none of them.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
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
from licensing.crypto.tokens import Lease, read_lease
from licensing.rules.license import Refusal
from licensing.rules.line import Line, live, position_of, waiters_before
from licensing.rules.model import EndReason
from licensing.rules.outage import Outage
from licensing.rules.requests import End, Ended, ForeignSession, Recall, Recalled, Refused
from licensing.services.late_ends import LateEnds
from licensing.services.privacy import PersonQuery, Privacy
from licensing.services.sessions import Gone, Held, NoSeat, Running, Sessions, StartRequest
from licensing.services.sweep import sweep_license
from licensing.services.verify import verify
from licensing.storage import outages
from licensing.storage import register as rows_of
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Table, Tables, Write, delete, put
from tests import factories
from tests.factories import Clock, sessions_over
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
GAP: Final = timedelta(minutes=11)
AMNESTY: Final = timedelta(minutes=6)
GRACE: Final = 1800


@dataclass(frozen=True)
class Wish:
    """A start: whether an earlier one is sent again and which, by whom and where.

    Under the file in force, a newer or an older one (`file`: by so many serials). How long it wants to borrow; which
    session it replaces (None: none), and how long before now that one stopped. Whether it waits in line.
    """

    again: bool
    pick: int
    file: int
    user: str
    host: str
    borrow: int
    replaces: int | None
    stopped: int
    wait: bool


WISH: Final = st.builds(
    Wish,
    again=st.booleans(),
    pick=PICK,
    file=st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1]),
    user=st.sampled_from(USERS),
    host=st.sampled_from(HOSTS),
    borrow=st.sampled_from([0, 0, 1800, 7200]),
    replaces=st.none() | st.none() | PICK,
    stopped=st.sampled_from([-30, 0, 400]),
    wait=st.booleans(),
)


@dataclass
class Ticking(Clock):
    """A clock that stands still between steps, and goes on by `tick` each time that it is read."""

    tick: timedelta = timedelta()

    def __call__(self) -> datetime:
        self.now += self.tick
        return self.now


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
    """A session that runs, as the model knows it: its seat goes to others at `lapses_at`."""

    user: str
    host: str
    holder: str
    started_at: datetime
    heartbeat_at: datetime
    expires_at: datetime
    lapses_at: datetime
    borrowed: bool = False
    lease: str = ""

    def ended_at(self, now: datetime) -> datetime:
        """When it ends if that is now: no silent time counts."""
        last_sign = self.expires_at if self.borrowed else self.heartbeat_at
        return max(last_sign if now >= self.expires_at else now, self.started_at)


@dataclass
class Past:
    """A session that has ended: when, why, and until when its program ran beyond that."""

    ended_at: datetime
    reason: str
    ran_until: datetime | None = None


@dataclass
class File:
    """A license file, and what it says."""

    text: str
    serial: int
    seats: int
    overdraft: int
    sharing: str
    lease: int
    borrow: int
    hold: int

    def holder(self, session_id: str, user: str, host: str) -> str:
        """Who would hold the seat."""
        return {"none": session_id, "user": user, "host": host, "user-host": f"{user} {host}"}[self.sharing]


Row = tuple[str, datetime]
"""A use: a session's id and its beginning. An id that is started again after its end is a new use."""


@dataclass(frozen=True)
class Body:
    """A start as it was sent first: by whom, where, and after which session."""

    request: StartRequest
    user: str
    host: str
    before: str | None


@dataclass
class Rows:
    """What the register holds on the license; `recalled`: which sessions are, and when those ended."""

    state: dict[str, Any] | None = None
    line: Line = ()
    recalled: dict[str, datetime | None] = field(default_factory=dict)
    active: dict[Row, dict[str, Any]] = field(default_factory=dict)
    ended: dict[Row, dict[str, Any]] = field(default_factory=dict)
    seats: dict[str, int] = field(default_factory=dict)


def second(moment: datetime) -> datetime:
    """The whole second of a moment, as a lease says it."""
    return moment.astimezone(UTC).replace(microsecond=0)


Method = TypeVar("Method", bound=Callable[..., None])


def act(weight: int, *, running: bool = False, **arguments: st.SearchStrategy[Any]) -> Callable[[Method], Method]:
    """Something that can happen, with such arguments, so many times as often; only where a session is `running`.

    Not a rule each: Hypothesis leaves out half of the rules in each life, which is too much for few lives.
    """

    def mark(method: Method) -> Method:
        vars(method).update(weight=weight, running=running, arguments=arguments)
        return method

    return mark


def same(one: datetime, other: datetime) -> bool:
    """Whether two moments are the same; an end is put off by a microsecond where another is there already."""
    return abs(one - other) < timedelta(milliseconds=1)


class Life(RuleBasedStateMachine):
    """A license, from its first start on. `azurite` and `home` are set by the test."""

    azurite: str
    home: Home
    floating = True

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = Ticking()
        self.slack = 1.0  # seconds by which clocks have been set back; leases are whole seconds besides
        self.license = factories.new_license_id()
        self.organization = factories.new_id("org")
        self.processes: list[Process] = []
        self.processes = [self.wait(self.born()) for _ in range(SERVICES)]
        self.alive_at: datetime | None = None  # the last mark of a process that it is alive
        self.outage: tuple[datetime, datetime] | None = None
        self.wait(self.forget_other_lives())
        self.files: list[File] = []
        self.serial = 0  # the highest serial that a start has brought
        self.exists = False
        self.suspended = False
        self.collect = True
        self.running: dict[str, Use] = {}
        self.over: dict[Row, Past] = {}
        self.recalled: dict[str, datetime | None] = {}
        self.left: list[tuple[str, str]] = []  # the last leases of sessions that have ended
        self.bodies: list[Body] = []
        self.crowd = 0
        self.line: Line = ()  # as it was before the present step

    # Setting up.

    def wait(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Do something that takes the event loop, and what it leaves in the background; nothing may hang."""

        async def finished() -> Result:
            result = await work
            for process in self.processes:
                await process.ledger.close()
            return result

        return self.loop.run_until_complete(asyncio.wait_for(finished(), 30))

    async def forget_other_lives(self) -> None:
        """Delete what other lives on the same store, at other times, have noted of the service."""
        tables = self.processes[0].tables
        keys = [row.key async for row in tables.rows("directory", rows_of.SERVICE, columns=())]
        if keys:
            await tables.commit("directory", rows_of.SERVICE, [delete(key) for key in keys])

    async def born(self) -> Process:
        """A new process, which knows nothing yet."""
        tables = Mortal.from_connection_string(self.azurite)
        assert isinstance(tables, Mortal)
        register = Register(tables)
        ledger = Ledger(register, self.clock)
        # So that each reads the state for every heartbeat, and a suspension holds at once.
        configured = factories.settings(self.home, self.azurite, LICENSING_STATUS_CACHE_SECONDS="0")
        return Process(tables, ledger, sessions_over(configured, register, ledger, self.clock))

    @initialize(
        terms=st.lists(
            st.tuples(
                st.integers(1, 3),
                st.integers(0, 1),
                st.sampled_from(["none", "user", "host", "user-host"]),
                st.sampled_from([600, 900]),
                st.sampled_from([0, 3600]),
                st.sampled_from([0, 400, GRACE + 60]),
            ),
            min_size=1,
            max_size=3,
        ),
    )
    def issue(self, terms: list[tuple[int, int, str, int, int, int]]) -> None:
        """The files that the customer has: each newer one changes everything."""
        for serial, (seats, overdraft, sharing, lease, borrow, hold) in enumerate(terms, start=1):
            claims = {"sub": self.license, "serial": serial, "seats": seats, "lease": lease, "exp": 2_000_000_000}
            claims |= {"borrow": borrow, "grace": GRACE} | ({"hold": hold} if hold else {})
            claims["organization"] = {"id": self.organization, "name": "Acme"}
            claims |= {"overdraft": overdraft, "sharing": sharing} if self.floating else self.named
            text = factories.issue(self.home, **claims)
            sharing = sharing if self.floating else "none"
            self.files.append(File(text, serial, seats, overdraft, sharing, lease, borrow, hold))

    @property
    def named(self) -> dict[str, Any]:
        """What makes a license one for named users."""
        return {"kind": "named-user", "users": [factories.user_hash(user) for user in (*USERS, "mallory")]}

    @property
    def file(self) -> File:
        """The terms in force."""
        return self.files[max(self.serial, 1) - 1]

    @rule(data=st.data(), otherwise=WISH)
    def something_happens(self, data: st.DataObject, otherwise: Wish) -> None:
        """One of the acts; a start where no session runs that it needs. What is drawn may not depend on races."""
        acts = [method for name in sorted(dir(type(self))) if hasattr(method := getattr(type(self), name), "weight")]
        chosen = data.draw(st.sampled_from([method for method in acts for _ in range(method.weight)]))
        arguments = {name: data.draw(strategy, name) for name, strategy in chosen.arguments.items()}
        if self.running or not chosen.running:
            chosen(self, **arguments)
        else:
            self.start(0, otherwise)

    # What programs do.

    def body(self, wish: Wish) -> tuple[Body, File]:
        """A start: a new one, or one that was sent before, perhaps under another file."""
        file = self.files[min(max(self.serial - 1 + wish.file, 0), len(self.files) - 1)]
        if wish.again and self.bodies:
            body = self.bodies[wish.pick % len(self.bodies)]
            again = replace(body.request, license_token=file.text, nonce=factories.new_nonce())
            return replace(body, request=again), file
        names = (factories.user_hash(wish.user), factories.host_hash(wish.host))
        request = StartRequest(
            file.text, factories.new_session_id(), *names, factories.new_nonce(), wish.borrow, wait=wish.wait
        )
        before = None
        programs = [(name, use.lease) for name, use in self.running.items()] + self.left[-1:]
        if wish.replaces is not None and programs:
            before, lease = programs[wish.replaces % len(programs)]
            stopped = self.clock() - timedelta(seconds=wish.stopped)
            request = replace(request, replaces=lease, ran_until=stopped)
        self.bodies.append(Body(request, wish.user, wish.host, before))
        return self.bodies[-1], file

    def one_of_those_that_run(self, pick: int) -> str:
        """A session that runs, in the order in which they were started."""
        return list(self.running)[pick % len(self.running)]

    def counting(self, file: File) -> File:
        """The file that a start with this one is judged by: the newest, if the register may keep it."""
        return self.file if file.serial < self.serial and self.floating else file

    @act(6, process=PROCESS, wish=WISH)
    def start(self, process: int, wish: Wish) -> None:
        body, file = self.body(wish)
        name = body.request.session_id
        reply = self.wait(self.processes[process].sessions.start(body.request, None))
        if not self.exists or not self.suspended:
            self.serial = max(self.serial, file.serial)
            self.exists = True
        if self.suspended:
            assert reply == Refused(Refusal.SUSPENDED)
        elif (file := self.counting(file)).serial < self.serial:
            assert reply == Refused(Refusal.SUPERSEDED)
        elif name in self.recalled:
            assert reply == Refused(Refusal.RECALLED)
        elif not self.collect:
            assert isinstance(reply, Running)
            assert not reply.recorded
        elif name in self.running:
            assert isinstance(reply, Running)
            self.repeated(body, file, reply)
        else:
            self.judge(body, file, reply, self.wait(self.rows()))

    def judge(self, body: Body, file: File, reply: Any, found: Rows) -> None:
        """Hold the reply to a new start against the seats; None if nobody heard it."""
        name, request, now = body.request.session_id, body.request, self.clock()
        before = body.before if body.before in self.running else None
        recalled, granted = before in self.recalled, isinstance(reply, Running)
        ran_until = request.ran_until and min(request.ran_until, self.grace_end(request.replaces))
        if before and (before, self.running[before].started_at) in found.ended:
            ended = found.ended[before, self.running[before].started_at]
            if ended["reason"] == "replaced":
                assert granted or recalled, "a refused start has ended a session"
            else:
                before = None
        elif before:
            assert not granted, "its predecessor still has a seat"
            assert not recalled or reply is None, "its recalled predecessor still has a seat"
        self.adopt_lapses(found, but=before)
        if before and recalled and before not in {each for each, _ in found.active}:
            self.finish(before, "replaced", ran_until)
            before = None
        holders = Counter(use.holder for use in self.running.values() if use.holder)
        holder = file.holder(name, body.user, body.host) if self.floating else ""
        freed = before is not None and holders[self.running[before].holder] == 1
        free = file.seats + file.overdraft - len(holders) > waiters_before(self.waiters(self.line), name)
        if granted:
            assert free or holder in holders or freed or not self.floating, "one seat too many"
            assert not reply.repeat
            if before:
                self.finish(before, "replaced", ran_until)
            expires_at = now + timedelta(seconds=file.lease)
            self.running[name] = Use(body.user, body.host, holder, now, now, expires_at, expires_at)
            self.offered(body, file, reply)
        elif reply is not None:
            assert isinstance(reply, NoSeat)
            assert not free, "refused, and a seat is free"
            assert reply.position == position_of(self.waiters(found.line), name)
            assert (reply.position is not None) == request.wait, "so few get a place each"
            assert reply.waiting == len(self.waiters(found.line))
            assert holder not in holders, "refused, and its holder has a seat"
            assert not freed, "refused, and it replaces a session"
            forgotten = now - timedelta(seconds=self.slack)
            assert all(self.lapse(use) > forgotten for use in self.running.values()), "refused, and one has lapsed"

    def repeated(self, body: Body, file: File, reply: Running) -> None:
        """A start whose session is active changes nothing, unless its lease is over: then it goes on."""
        use, now = self.running[body.request.session_id], self.clock()
        assert reply.repeat
        if use.expires_at <= now:
            use.heartbeat_at, use.borrowed = now, False
            use.expires_at = now + timedelta(seconds=file.lease)
            use.lapses_at = max(use.lapses_at, use.expires_at)
        self.offered(body, file, reply)

    def offered(self, body: Body, file: File, reply: Running) -> None:
        """A start gets an ordinary lease; what lasts is offered."""
        use, now = self.running[body.request.session_id], self.clock()
        ordinary = now + timedelta(seconds=file.lease)
        assert reply.expires_at == (min(use.expires_at, ordinary) if use.borrowed else use.expires_at)
        borrowed = min(body.request.borrow_seconds, file.borrow)
        offered = None
        if use.borrowed:
            offered = use.expires_at
        elif borrowed > file.lease:
            offered = now + timedelta(seconds=borrowed)
        elif file.hold:
            offered = reply.expires_at
        lease = self.lease(reply.lease_token)
        assert (lease.expires_at, lease.offered) == (second(reply.expires_at), offered and second(offered))
        assert (lease.grace_seconds, lease.borrowed) == (0 if offered else GRACE, False)
        use.lease = reply.lease_token

    @act(6, running=True, process=PROCESS, pick=PICK)
    def heartbeat(self, process: int, pick: int) -> None:
        session = self.one_of_those_that_run(pick)
        use, now = self.running[session], self.clock()
        reply = self.wait(self.processes[process].sessions.heartbeat(use.lease, session, factories.new_nonce()))
        if self.suspended:
            assert reply == Refused(Refusal.SUSPENDED)
        elif session in self.recalled:
            assert reply == Refused(Refusal.RECALLED)
        else:
            assert isinstance(reply, Running)
            lease = self.lease(use.lease)
            lasting = lease.expires_at if lease.borrowed else None
            if lease.offered and lease.offered > lease.expires_at:
                lasting = lease.offered
            expires_at = now + timedelta(seconds=self.file.lease)
            borrowed = lasting is not None and lasting > expires_at
            use.heartbeat_at, use.lease = now, reply.lease_token
            use.expires_at = lasting if borrowed and lasting else expires_at
            # If the answer were lost, the program would run on the lease that it has.
            use.lapses_at = max(use.expires_at, lease.expires_at, now + timedelta(seconds=self.file.hold))
            if self.file.hold >= GRACE:
                grace_end = lease.issued_at + timedelta(seconds=lease.grace_seconds)
                use.lapses_at = max(use.lapses_at, grace_end + timedelta(seconds=60))
            if lease.offered or lease.borrowed:
                use.borrowed = borrowed
            assert reply.expires_at == use.expires_at
            renewed = self.lease(reply.lease_token)
            assert (renewed.grace_seconds, renewed.borrowed, renewed.offered) == (GRACE, borrowed, None)

    @act(2, running=True, process=PROCESS, twice=st.booleans(), pick=PICK)
    def end(self, process: int, twice: bool, pick: int) -> None:
        session = self.one_of_those_that_run(pick)
        use = self.running[session]
        self.wait(self.processes[process].sessions.end(use.lease, session))
        self.finish(session, "ended")
        if twice:
            self.wait(self.processes[process - 1].sessions.end(use.lease, session))
            self.assert_gone(process - 1, session, use)

    def assert_gone(self, process: int, session: str, use: Use) -> None:
        """A program whose session has ended hears so."""
        other = self.processes[process].sessions
        assert isinstance(self.wait(other.read(use.lease, session)), Gone)
        answer = self.wait(other.heartbeat(use.lease, session, factories.new_nonce()))
        if self.suspended:
            assert answer == Refused(Refusal.SUSPENDED)
        else:
            assert answer == (Refused(Refusal.RECALLED) if session in self.recalled else Gone())

    @act(2, process=PROCESS, pick=PICK, seconds=st.sampled_from([1, 700, 5000]), again=st.booleans())
    def tell_late(self, process: int, pick: int, seconds: int, again: bool) -> None:
        """A program tells until when it ran after its session had ended without it."""
        if not self.left:
            return
        name, token = self.left[pick % len(self.left)]
        lease, now = self.lease(token), self.clock()
        ran_until = lease.issued_at + timedelta(seconds=seconds)
        chosen = self.processes[process]
        hears = LateEnds(Register(chosen.tables), chosen.ledger, self.clock)
        for _ in range(1 + again):
            self.wait(hears.hear(lease, ran_until))
        if name in self.running:
            self.finish(name, "ended")  # the id was started again meanwhile
        cut = min(ran_until, self.grace_end(token), now)
        found = self.wait(self.rows())
        its = [row for row in self.over if row[0] == name]
        late = [row for row in its if found.ended[row].get("ran_until") != self.over[row].ran_until]
        assert len(late) <= 1, "one program has run twice"
        if len(its) == 1:
            past = self.over[its[0]]
            grown = self.collect and cut > (past.ran_until or past.ended_at)
            hidden = past.ended_at < lease.issued_at - timedelta(minutes=1)  # by clocks that were set back
            assert late == its if grown and not hidden else hidden or not late
        for row in late:
            assert cut > (self.over[row].ran_until or self.over[row].ended_at)
            self.over[row].ran_until = cut

    @act(1, running=True, process=PROCESS, pick=PICK)
    def read(self, process: int, pick: int) -> None:
        session = self.one_of_those_that_run(pick)
        use = self.running[session]
        reply = self.wait(self.processes[process].sessions.read(use.lease, session))
        assert isinstance(reply, Held)
        assert (reply.session.started_at, reply.session.expires_at) == (use.started_at, use.expires_at)

    @act(1, running=True, process=PROCESS, session=PICK)
    def start_under_a_foreign_id(self, process: int, session: int) -> None:
        """One session cannot be two people's."""
        ids = self.running.keys() - self.recalled
        running = [body.request for body in self.bodies if body.request.session_id in ids]
        if not running or self.suspended:
            return
        before = running[session % len(running)]
        request = StartRequest(
            self.file.text, before.session_id, factories.user_hash("mallory"), before.host, factories.new_nonce()
        )
        assert isinstance(self.wait(self.processes[process].sessions.start(request, None)), ForeignSession)

    # What happens to services and clocks.

    @act(3, seconds=st.sampled_from([1, 60, 299, 300, 600, 1000, 2000, -20]))
    def clock_steps(self, seconds: int) -> None:
        self.time_passes(seconds)
        self.slack += max(0, -seconds)

    @act(3, running=True, pick=PICK, edge=st.sampled_from(["lease over", "lease over", "about to lapse", "lapsed"]))
    def a_session_is_silent(self, pick: int, edge: str) -> None:
        """Nothing is heard of a session until its lease is over, or until its seat may go to others."""
        use = self.running[self.one_of_those_that_run(pick)]
        ends = {"lease over": use.expires_at, "about to lapse": use.lapses_at - timedelta(seconds=2)}
        seconds = (ends.get(edge, use.lapses_at) - self.clock()).total_seconds() + 1
        if 0 < seconds < 10_000:
            self.time_passes(seconds)

    def time_passes(self, seconds: float) -> None:
        """The service is alive all the time."""
        if seconds <= GAP.total_seconds():
            self.clock.forward(seconds)
            return
        self.wait(self.processes[0].ledger.mark_alive())
        self.notice(self.wait(self.marks()))
        self.clock.forward(seconds)
        alive = put(rows_of.ALIVE, {"at": self.clock()})
        self.wait(self.processes[0].tables.commit("directory", rows_of.SERVICE, [alive]))
        self.alive_at = self.clock()

    @act(1, seconds=st.sampled_from([700, 1000, 7200]))
    def be_away(self, seconds: int) -> None:
        """The service is away; then whoever is first asks first."""
        self.clock.forward(seconds)

    @act(3, process=PROCESS, dies=st.sampled_from(["before", "after"]), starts=st.booleans(), wish=WISH)
    def crash(self, process: int, dies: str, starts: bool, wish: Wish) -> None:
        """A process dies while it serves a start or an end, before or after the commit; another takes its place."""
        if self.suspended or not (self.running or starts):
            return
        dying = self.processes[process]
        dying.tables.dies = dies
        if starts:
            body, file = self.body(replace(wish, again=False))
            work: Coroutine[Any, Any, Any] = dying.sessions.start(body.request, None)
            session = body.request.session_id
        else:
            session = self.one_of_those_that_run(wish.pick)
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
            file = self.counting(file)
        if not starts:
            if (session, self.running[session].started_at) in found.ended:
                self.finish(session, "ended")
        elif any(name == session for name, _ in found.active):
            # The program asks again, and learns what was done.
            reply = self.wait(self.processes[process].sessions.start(body.request, None))
            assert isinstance(reply, Running)
            assert reply.repeat
            self.judge(body, file, replace(reply, repeat=False), found)
        else:
            self.judge(body, file, None, found)

    @act(1, process=PROCESS)
    def sweep(self, process: int) -> None:
        swept = self.processes[process]
        lapsed = [name for name, use in self.running.items() if self.lapse(use) <= self.clock()]
        count = self.wait(sweep_license(Register(swept.tables), swept.ledger, self.license, self.clock()))
        assert count == len(lapsed)
        for name in lapsed:
            self.finish(name, "lapsed")
        self.wait(swept.ledger.update_recalls(self.license))
        self.wait(swept.ledger.clear_left(self.license))
        assert self.wait(self.rows()).line == self.waiters(self.line)
        self.forget_old_recalls()

    @act(2, seed=st.integers(0, 2**32), wishes=st.lists(WISH, min_size=1, max_size=5))
    def all_at_once(self, seed: int, wishes: list[Wish]) -> None:
        """Starts, ends and sweeps by all services at the same time."""
        chance, now = random.Random(seed), self.clock()
        starts = [self.body(wish) for wish in wishes]
        ending = [name for name in self.running if chance.random() < 0.4]
        beating = [name for name in self.running if chance.random() < 0.3]
        recalling = [name for name in self.running if chance.random() < 0.1]
        before = {(name, use.started_at) for name, use in self.running.items()}
        lapsed = {name for name, use in self.running.items() if self.lapse(use) <= now}
        replaced = {body.before for body, _ in starts}

        async def together() -> list[Any]:
            def process() -> Process:
                return chance.choice(self.processes)

            sweeper = process()
            return await asyncio.gather(
                *(process().sessions.start(body.request, None) for body, _ in starts),
                *(process().sessions.heartbeat(self.running[name].lease, name, "n" * 16) for name in beating),
                *(process().sessions.end(self.running[name].lease, name) for name in ending),
                *(process().ledger.submit(self.license, Recall(name)) for name in recalling),
                sweep_license(Register(sweeper.tables), sweeper.ledger, self.license, now),
            )

        self.clock.tick = timedelta(microseconds=1)  # an id may be started again and again: never twice at one instant
        replies = self.wait(together())
        self.clock.tick = timedelta()
        found = self.wait(self.rows())
        if found.state is not None:
            # Seats may have been given under one file before the next took them away.
            brought = [file.seats + file.overdraft for _, file in starts if file.serial >= self.serial]
            self.crowd = max([self.crowd, *brought])
            self.exists, self.serial = True, int(found.state["serial"][0])
        ids = {body.request.session_id for body, _ in starts}
        left = before - found.active.keys()
        assert left <= found.ended.keys(), "a session was lost"
        allowed: dict[str, set[str | None]] = {"ended": {*ending}, "lapsed": {*lapsed}, "replaced": replaced}
        for name, began in left:
            ended, use = found.ended[name, began], self.running[name]
            assert name in allowed[ended["reason"]], "one was ended that nobody ended"
            expected = (use.ended_at(now), now)
            assert any(same(ended["ended_at"], each) for each in expected), "silent time counts, or time is lost"
        assert {name for name, _ in found.active.keys() - before} <= ids, "one came from nowhere"
        names = {name for name, _ in [*found.active, *found.ended]}
        for (body, file), reply in zip(starts, replies, strict=False):
            name = body.request.session_id
            if isinstance(reply, Running) and reply.recorded:
                assert name in names, "granted, and not in the register"
                assert not self.suspended
                file = self.files[reply.license_serial - 1]
                # Of several starts of one id, each under a file of its own, this reply is to one.
                its = reply.expires_at - timedelta(seconds=file.lease)
                for _, began in (
                    row for row in found.active.keys() - before if row == (name, its) and not reply.repeat
                ):
                    holder = file.holder(name, body.user, body.host) if self.floating else ""
                    use = Use(body.user, body.host, holder, began, now, now, now, lease=reply.lease_token)
                    if name in self.running and self.running[name].started_at != began:
                        self.left.append((name, self.running[name].lease))
                    self.running[name] = use
        for name, reply in zip(beating, replies[len(starts) :], strict=False):
            assert isinstance(reply, Running | Gone | Refused)
            if isinstance(reply, Running):
                assert name in names
                if (name, self.running[name].started_at) in before:
                    self.running[name].lease = reply.lease_token
        for name, began in left:
            if self.running[name].started_at == began:
                self.left.append((name, self.running.pop(name).lease))
        for (name, _), row in found.active.items():
            use = self.running[name]
            use.heartbeat_at, use.expires_at = row["heartbeat_at"], row["expires_at"]
            use.lapses_at, use.borrowed = row["lapses_at"], row["borrowed"]
            assert row["lapses_at"] >= row["expires_at"]
        assert found.recalled.keys() <= self.recalled.keys() | {*recalling}
        self.forget_old_recalls()
        assert self.recalled.keys() <= found.recalled.keys() or not recalling
        self.recalled = found.recalled
        for place in found.ended.keys() - self.over.keys():
            ended = found.ended[place]
            self.over[place] = Past(ended["ended_at"], ended["reason"], ended.get("ran_until"))

    # What operators do.

    @act(1, process=PROCESS, suspended=st.sampled_from([True, False, False]))
    def change_status(self, process: int, suspended: bool) -> None:
        state = self.wait(self.processes[process].ledger.set_status(self.license, suspended=suspended))
        assert (state is not None) == self.exists
        self.suspended = suspended and self.exists

    @act(2, running=True, process=PROCESS, pick=PICK, known=st.sampled_from([True, True, False]))
    def recall(self, process: int, pick: int, known: bool) -> None:
        """An operator wants a seat back."""
        session = self.one_of_those_that_run(pick) if known else factories.new_session_id()
        answer = self.wait(self.processes[process].ledger.submit(self.license, Recall(session)))
        if not known:
            assert answer.outcome == Ended(now=False)
            return
        assert isinstance(answer.outcome, Recalled)
        assert answer.outcome.session.lapses_at == self.running[session].lapses_at
        self.forget_old_recalls()
        self.recalled.setdefault(session, None)

    @act(1, running=True, process=PROCESS, pick=PICK)
    def lose(self, process: int, pick: int) -> None:
        """A computer is stolen: its seat is free at once."""
        session = self.one_of_those_that_run(pick)
        use = self.running[session]
        answer = self.wait(self.processes[process].ledger.submit(self.license, End(session, EndReason.LOST)))
        assert answer.outcome == Ended(now=True)
        self.finish(session, "lost")
        self.assert_gone(process - 1, session, use)

    @act(1, process=PROCESS, user=st.sampled_from(USERS))
    def erase(self, process: int, user: str) -> None:
        """A person wants everything deleted; running sessions are ended first."""
        self.wait(self.privacy(process).erase(PersonQuery(self.organization, factories.user_hash(user))))
        self.running = {name: use for name, use in self.running.items() if use.user != user}
        theirs = {body.request.session_id for body in self.bodies if body.user == user}
        self.over = {row: past for row, past in self.over.items() if row[0] not in theirs}
        self.recalled = {name: at for name, at in self.recalled.items() if name not in theirs}

    def privacy(self, process: int) -> Privacy:
        chosen = self.processes[process]
        return Privacy(Register(chosen.tables), chosen.ledger, self.settings.peppers, self.clock)

    @property
    def settings(self) -> Any:
        return factories.settings(self.home, self.azurite)

    # What must be true.

    def holders(self) -> set[str]:
        return {use.holder for use in self.running.values() if use.holder}

    def lease(self, token: str) -> Lease:
        return read_lease(token, self.settings.lease_keys)

    def grace_end(self, token: str | None) -> datetime:
        """Until when a program can have run by a lease."""
        assert token is not None
        lease = self.lease(token)
        return lease.expires_at + timedelta(seconds=lease.grace_seconds)

    def last_outage(self, asked_at: datetime | None = None) -> tuple[datetime, datetime] | None:
        """The last time in which the service was away, as whoever asks at a moment, or now, finds it."""
        now = asked_at or self.clock()
        if self.alive_at is None or now - self.alive_at <= GAP:
            return self.outage
        goes_on = self.outage and self.alive_at < self.outage[1] + AMNESTY
        return self.outage[0] if self.outage and goes_on else self.alive_at, now

    def lapse(self, use: Use) -> datetime:
        """When a seat may go to others: not before all that ran when the service was away can be heard again."""
        outage = self.last_outage()
        if outage and outage[0] <= use.lapses_at < outage[1] + AMNESTY:
            return outage[1] + AMNESTY
        return use.lapses_at

    def waiters(self, line: Line) -> Line:
        """Those of a line who have not left: nobody leaves before all can be heard again after an outage."""
        outage = self.last_outage()
        return live(line, self.clock(), outage and Outage(*outage))

    def finish(self, name: str, reason: str, ran_until: datetime | None = None) -> None:
        """A session ends now."""
        use, now = self.running.pop(name), self.clock()
        ended_at = use.ended_at(now)
        beyond = min(ran_until, now) if ran_until else ended_at
        self.over[name, use.started_at] = Past(ended_at, reason, beyond if beyond > ended_at else None)
        self.left.append((name, use.lease))
        if name in self.recalled:
            self.recalled[name] = now

    def forget_old_recalls(self) -> None:
        day = timedelta(days=1)
        self.recalled = {name: at for name, at in self.recalled.items() if at is None or at + day > self.clock()}

    def adopt_lapses(self, found: Rows, but: str | None = None) -> None:
        """Lapsed sessions may have made room; which, the rows tell."""
        for name, use in list(self.running.items()):
            if name != but and (name, use.started_at) in found.ended:
                assert self.lapse(use) <= self.clock(), "a session was ended before it lapsed"
                assert found.ended[name, use.started_at]["reason"] == "lapsed"
                self.finish(name, "lapsed")

    async def marks(self) -> dict[str, dict[str, datetime]]:
        """What the register holds on the service itself."""
        tables = self.processes[0].tables
        return {row.key: values_of(row) async for row in tables.rows("directory", rows_of.SERVICE)}

    def notice(self, marks: dict[str, dict[str, datetime]]) -> None:
        """Somebody may have marked that the service is alive: then an outage is noted with it."""
        alive = marks.get(rows_of.ALIVE)
        if alive and alive["at"] != self.alive_at:
            assert same(alive["at"], self.clock())
            self.outage = self.last_outage(alive["at"])
            self.alive_at = alive["at"]
        outage = marks.get(rows_of.OUTAGE)
        assert (outage and (outage["from"], outage["to"])) == self.outage, "an outage is not noted, or wrongly"

    async def rows(self) -> Rows:
        """Everything that the register holds on the license, read past the ledger."""
        found = Rows()
        async for row in self.processes[0].tables.rows("register", self.license):
            kind, _, name = row.key.partition(":")
            columns = values_of(row)
            if kind == "license":
                found.state = columns
                state = rows_of.STATES.decode(row)
                found.recalled = {each.session_id: each.ended_at for each in state.recalled}
                found.line = state.line
            elif kind == "active":
                found.active[name, columns["started_at"]] = columns
            elif kind == "ended":
                use = (name.rpartition(":")[2], columns["started_at"])
                assert use not in found.ended, "a session ended twice"
                found.ended[use] = columns
            elif kind == "seat":
                found.seats[name] = columns["sessions"]
        return found

    async def everything(self) -> tuple[dict[str, dict[str, datetime]], Rows]:
        return await asyncio.gather(self.marks(), self.rows())

    @invariant()
    def the_promises_hold(self) -> None:
        marks, found = self.wait(self.everything())
        self.notice(marks)
        self.clock.forward(0.001)  # no two uses of one id begin at once
        assert found.recalled == self.recalled
        waiting = [place.session_id for place in found.line]
        assert len(waiting) == len(set(waiting))
        assert not self.running.keys() & set(waiting), "a session is active, and waits in line"
        arrived = [(place.session_id, place.arrived_at) for place in found.line]
        stayed = [each for place in self.line if (each := (place.session_id, place.arrived_at)) in arrived]
        assert arrived[: len(stayed)] == stayed, "somebody came to stand before who was there"
        self.line = found.line
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
        assert found.ended.keys() == self.over.keys()
        for place, past in self.over.items():
            ended = found.ended[place]
            assert (ended["reason"], ended.get("ran_until")) == (past.reason, past.ran_until)
            assert same(ended["ended_at"], past.ended_at), "silent time counts, or time is lost"
        assert in_use == len(self.holders())
        for (name, _), row in found.active.items():
            use = self.running[name]
            assert (row["heartbeat_at"], row["expires_at"]) == (use.heartbeat_at, use.expires_at)
            assert (row["lapses_at"], row["borrowed"]) == (use.lapses_at, use.borrowed)

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

    @act(1, process=PROCESS, collect=st.booleans(), erase=st.booleans())
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
        for name in list(self.running):
            self.finish(name, "released")
        if erase:
            assert answer.deleted >= len(self.over)
            self.over, self.recalled = {}, {}


@pytest.fixture(autouse=True)
def with_outages(monkeypatch: pytest.MonkeyPatch, always_alive: None) -> None:
    monkeypatch.setattr(outages, "GAP", GAP)


@pytest.mark.parametrize("life", [Life, NamedUsers])
def test_the_promises_hold_whatever_happens(home: Home, azurite: str, life: type[Life]) -> None:
    machine = type(life.__name__, (life,), {"home": home, "azurite": azurite})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES if life is Life else max(1, EXAMPLES // 5),
            stateful_step_count=STEPS,
            deadline=None,
            phases=PHASES,
            report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck),
        ),
    )
