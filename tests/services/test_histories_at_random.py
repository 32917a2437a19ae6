"""Final totals over random histories: starts, heartbeats, ends, nights, corrections, moves and erasures in any order.

Programs tell afterwards, in time or late, until when they ran.

Each history is a license of its own on a real store. After each step:

- a final total never falls by more than a correction took from it;
- without an erasure, final totals equal a count from the sessions, minute by minute;
- where each session has its own seat, final seat-seconds equal a count with the erased sessions among the others;
- after a night, the time for which programs ran on equals a count, also with erased sessions; once closed it stays.

`HISTORIES=10000 pytest tests/services/test_histories_at_random.py` plays more of them.
"""

import asyncio
import os
import random
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from licensing.crypto.pseudonyms import Peppers
from licensing.crypto.tokens import Lease
from licensing.rules.billing import Rounding
from licensing.rules.license import Billing, Sharing
from licensing.rules.model import EndedSession, Person, Terms
from licensing.rules.requests import End, Granted, Start
from licensing.rules.totals import DayTotals, MonthTotals
from licensing.rules.usage import Use, midnight
from licensing.services.late_ends import LateEnds
from licensing.services.privacy import PersonQuery, Privacy
from licensing.services.reports import Reports
from licensing.services.retention import run_retention
from licensing.storage.ledger import Heartbeat, Ledger
from licensing.storage.register import Pseudonyms, Register
from licensing.storage.tables import Tables
from tests.factories import Clock, lease_of, new_id, new_license_id, new_session_id, terms, user_hash
from tests.reference import ReferenceTotals, Totals
from tests.register_rows import counts_of, counts_of_month
from tests.stores import OneCustomer

HISTORIES = int(os.environ.get("HISTORIES", "240"))
AT_ONCE = 12
STEPS = 10
BEGIN = datetime(2026, 9, 28, 7, tzinfo=UTC)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
PEOPLE = ("ann", "ben", "cem")
PEPPERS = Peppers({"p": bytes(range(32))})
ADDED = ("seat_seconds", "sessions", "overdraft_seconds")
TAILS = ("grace_seconds", "grace_users", "ran_peak")
GRACE = 3 * DAY
CHANGES = ("night", "correct", "correct", "correct", "move", "erase", "past", "renew")
WHAT = ("start", "end", "end", "wait", "heartbeat", "tell", "tell", *CHANGES)


def without_tails(counts: Totals) -> Totals:
    """The counts without those that nights still change on final days."""
    return {name: value for name, value in counts.items() if name not in TAILS}


@dataclass
class Run:
    """One session, as it really was."""

    id: str
    user: str
    holder: str
    began: datetime
    ended: datetime | None = None
    erased: bool = False
    lease: Lease | None = None
    ran_until: datetime | None = None
    late_until: datetime | None = None

    def use(self) -> Use:
        return Use(self.id, self.began, self.ended, self.user, "pc", self.holder, False, ran_until=self.ran_until)


@dataclass
class History:
    """A license whose past is made up step by step, and what is known of it."""

    tables: OneCustomer
    chance: random.Random
    sharing: Sharing
    clock: Clock = field(default_factory=lambda: Clock(BEGIN))
    license_id: str = field(default_factory=new_license_id)
    runs: list[Run] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    final: dict[date | str, DayTotals | MonthTotals] = field(default_factory=dict)
    taken: timedelta = timedelta()
    """How much the last step took from sessions, at most."""
    late: timedelta = timedelta()
    """For how long programs ran that were heard of too late."""
    night: datetime = BEGIN
    closed: dict[date, tuple[int, int, int]] = field(default_factory=dict)
    """What closed days say of programs that ran on."""

    def __post_init__(self) -> None:
        self.register = Register(self.tables)
        self.ledger = Ledger(self.register, self.clock)
        self.privacy = Privacy(self.register, self.ledger, PEPPERS, self.clock)
        self.late_ends = LateEnds(self.register, self.ledger, self.clock)

    @property
    def organization(self) -> str:
        return self.tables.organization_id

    @property
    def terms(self) -> Terms:
        long = int(self.lease.total_seconds())
        return terms(
            organization_id=self.organization,
            serial=self.serial,
            seats=20 + self.serial % 3,
            product=f"Fluidit Water {self.serial}",
            sharing=self.sharing,
            billing=Billing.TIME,
            lease_seconds=long,
        )

    lease: timedelta = 3 * DAY
    erased: bool = False
    serial: int = 1

    def person(self, name: str) -> PersonQuery:
        return PersonQuery(self.organization, user_hash(name))

    def minute(self, first: datetime, last: datetime) -> datetime:
        """A whole minute between two."""
        return first + self.chance.randint(0, max(0, (last - first) // MINUTE)) * MINUTE

    async def step(self) -> None:
        """Something happens, or nothing where it cannot; what can change final totals is checked."""
        name = self.chance.choice(WHAT)
        self.log.append(f"{self.clock.now:%d %H:%M} {name}")
        self.taken = timedelta()
        await getattr(self, f"do_{name}")()
        if name in CHANGES:
            await self.check()

    async def do_wait(self) -> None:
        self.clock.now += self.chance.choice((20 * MINUTE, 5 * HOUR, 17 * HOUR, 2 * DAY, 9 * DAY))

    async def do_start(self) -> None:
        name, session_id = self.chance.choice(PEOPLE), new_session_id()
        persons: tuple[Person, ...] = PEPPERS.persons(self.organization, user_hash(name), user_hash("pc"), None)
        answer = await self.ledger.submit(self.license_id, Start(session_id, self.terms, persons))
        assert isinstance(answer.outcome, Granted)
        holder = session_id if self.sharing is Sharing.NONE else name if self.sharing is Sharing.USER else "pc"
        self.runs.append(Run(session_id, name, holder, self.clock.now, lease=self.lease_of(session_id)))
        self.clock.now += self.chance.choice((MINUTE, HOUR))

    def lease_of(self, session_id: str) -> Lease:
        now, grace = self.clock.now, int(GRACE.total_seconds())
        return lease_of(self.license_id, session_id, now, expires_at=now + self.lease, grace_seconds=grace)

    async def do_tell(self) -> None:
        """A program tells until when it ran: once, twice, or less than before."""
        now, ended = self.clock.now, [run for run in self.runs if run.ended and not run.erased]
        if not ended:
            return
        run = self.chance.choice(ended)
        assert run.ended
        assert run.lease
        latest = min(now, run.lease.expires_at + GRACE)
        until = self.minute(run.ended, latest + 5 * MINUTE)
        for ran_until in self.chance.choice(((until,), (until, until), (until, run.ended))):
            await self.late_ends.hear(run.lease, ran_until)
        until = min(until, latest)
        if run.late_until is None and now < midnight(run.ended.date()) + DAY + GRACE + 4 * DAY:
            run.ran_until = max(until, run.ran_until or until) if until > run.ended else run.ran_until
        elif until > (known := max(filter(None, (run.ended, run.ran_until, run.late_until)))):
            self.late += until - known
            run.late_until = until
        assert sum((await self.register.late_seconds(self.license_id)).values()) == self.late.total_seconds(), self.log

    def running(self) -> list[Run]:
        return [run for run in self.runs if run.ended is None]

    async def do_end(self) -> None:
        if running := self.running():
            run = self.chance.choice(running)
            self.clock.now += self.chance.choice((10 * MINUTE, 3 * HOUR, 9 * HOUR))
            await self.ledger.submit(self.license_id, End(run.id))
        await self.learn_ends()

    async def do_heartbeat(self) -> None:
        now = self.clock.now
        for run in self.running():
            await self.ledger.heartbeat(self.license_id, Heartbeat(run.id, now, now + self.lease))
            run.lease = self.lease_of(run.id)

    async def do_night(self) -> None:
        self.clock.now = self.clock.now.replace(hour=3, minute=0) + (DAY if self.clock.now.hour >= 3 else timedelta())
        await self.retention(self.clock.now)
        await self.check_tails()
        self.night = self.clock.now

    async def do_past(self) -> None:
        """An operator runs retention as of a past moment."""
        await self.retention(self.clock.now - self.chance.choice((DAY, 3 * DAY)))

    async def retention(self, as_of: datetime) -> None:
        result = await run_retention(self.register, self.ledger, as_of, 3)
        assert (result.failed, result.overdue) == (0, 0)
        await self.learn_ends()

    async def do_correct(self) -> None:
        ended = [run for run in self.runs if run.ended and not run.erased]
        if not ended:
            return
        run = self.chance.choice(ended)
        assert run.ended
        # Up to the end of its lease it may have run longer.
        leases = {use.session.id: use.session.expires_at for use in await self.ends()}
        latest = run.ended if self.chance.random() < 0.5 else min(self.clock.now, max(run.ended, leases[run.id]))
        to = self.minute(run.began, latest)
        self.taken = max(timedelta(), run.ended - to)
        done = await self.privacy.correct_end(self.person(run.user), run.id, to)
        assert done.corrected == 1
        run.ended = to

    async def ends(self) -> list[EndedSession]:
        """The sessions that have ended and are kept."""
        found = [self.privacy.register.find_ended(self.license_id, person) for person in self.everybody()]
        return [row.value for each in found async for row in each]

    def everybody(self) -> list[Pseudonyms]:
        """The pseudonyms of all people."""
        return [Pseudonyms(PEPPERS.pseudonym("p", self.organization, "user", user_hash(name))) for name in PEOPLE]

    async def do_renew(self) -> None:
        """The next start brings a renewed license file, with other seats and another product."""
        self.serial += 1

    async def do_move(self) -> None:
        wrong, right = self.chance.sample(PEOPLE, 2)
        moved = [run for run in self.runs if run.user == wrong and run.ended and not run.erased]
        done = await self.privacy.move(self.person(wrong), user_hash(right))
        assert done.corrected == len(moved)
        for run in moved:
            run.user = right
            if self.sharing is Sharing.USER:
                run.holder = right
                assert run.ended
                self.taken += run.ended - run.began  # two programs of one user share a seat

    async def do_erase(self) -> None:
        name = self.chance.choice(PEOPLE)
        await self.privacy.erase(self.person(name))
        self.erased = self.erased or any(run.user == name for run in self.runs)
        today = midnight(self.clock.now.date())
        for run in [run for run in self.runs if run.user == name and not run.erased]:
            # Days that are over keep what the session gave to them.
            run.ended, run.erased = min(run.ended or today, today), True
            run.ran_until = min(run.ran_until, today) if run.ran_until else None
            if run.began >= today:
                self.runs.remove(run)

    async def learn_ends(self) -> None:
        """Take over when sessions ended."""
        found = {use.session_id: use.ended_at async for use in self.register.ended_uses(self.license_id, BEGIN)}
        for run in self.running():
            run.ended = found.get(run.id)

    async def check_tails(self) -> None:
        """After a night: compare what days say of programs that ran on with what was."""
        reference = ReferenceTotals([run.use() for run in self.runs], [], self.clock.now, MINUTE)
        days = {day.day: day async for day in self.register.days(self.license_id, date.min)}
        for number in range((self.clock.now.date() - BEGIN.date()).days):
            day = BEGIN.date() + number * DAY
            saved, counted = days.get(day), reference.day(day)
            grace = (saved.grace_seconds, saved.grace_users, saved.ran_peak) if saved else (0, 0, 0)
            if self.clock.now > midnight(day) + GRACE + 9 * DAY:
                assert self.closed.setdefault(day, grace) == grace, f"{day} was closed: {self.log}"
                if self.clock.now - self.night < 31 * DAY:
                    assert not (saved and saved.erased_grace), f"{day} is closed: {self.log}"
                continue
            assert grace[0] == counted["grace_seconds"], f"{day}: {self.log}"
            if saved and self.sharing is Sharing.NONE:
                ran = reference.program_seconds(midnight(day), midnight(day) + DAY)
                assert saved.seat_seconds + saved.grace_seconds == ran, f"{day}: {self.log}"
            if not self.erased:
                assert grace == tuple(counted[name] for name in TAILS), f"{day}: {self.log}"

    async def check(self) -> None:
        """Compare what is final with what was, and with what is known of the sessions."""
        state = await self.register.totals_state(self.license_id)
        final = state.final_day if state else None
        if final is None:
            return
        days = {day.day: day async for day in self.register.days(self.license_id, date.min) if day.day <= final}
        months = {month.month: month async for month in self.register.months(self.license_id)}
        closed = {name: month for name, month in months.items() if f"{final + DAY:%Y-%m}" > name}
        now: dict[date | str, DayTotals | MonthTotals] = dict(days.items())
        now.update(closed)
        for key, before in self.final.items():
            after = now[key]
            fell = (before.seat_seconds or 0) - (after.seat_seconds or 0)
            assert fell <= self.taken.total_seconds(), f"{key} fell by {fell} s: {self.log}"
            assert self.taken or (before.sessions or 0) <= (after.sessions or 0), f"{key}: {self.log}"
        self.final = now
        self.compare(days, closed, BEGIN.date(), final)
        await self.check_bill(days)

    def compare(self, days: dict[date, DayTotals], closed: dict[str, MonthTotals], first: date, final: date) -> None:
        reference = ReferenceTotals([run.use() for run in self.runs], [], self.clock.now, MINUTE)
        for number in range((final - first).days + 1):
            day = first + number * DAY
            counted: dict[str, Any] = reference.day(day)
            saved = days.get(day)
            if saved is None:
                assert counted["sessions"] == 0, f"{day}: {self.log}"
            elif not self.erased:
                assert without_tails(counts_of(saved)) == without_tails(counted), f"{day}: {self.log}"
            elif self.sharing is Sharing.NONE:
                assert {name: getattr(saved, name) for name in ADDED} == {name: counted[name] for name in ADDED}, (
                    f"{day}: {self.log}"
                )
        for month in closed.values():
            assert month.seat_seconds == sum(
                day.seat_seconds for day in days.values() if f"{day.day:%Y-%m}" == month.month
            )
            counted = reference.month(month.month)
            of_days = [day for day in days.values() if f"{day.day:%Y-%m}" == month.month]
            assert month.grace_seconds == sum(day.grace_seconds for day in of_days), f"{month.month}: {self.log}"
            assert month.ran_peak == max((day.ran_peak for day in of_days), default=0), f"{month.month}: {self.log}"
            if not self.erased:
                assert without_tails(counts_of_month(month)) == without_tails(counted), f"{month.month}: {self.log}"
            elif self.sharing is Sharing.NONE:
                assert month.sessions == counted["sessions"], f"{month.month}: {self.log}"

    async def check_bill(self, days: dict[date, DayTotals]) -> None:
        if "2026-09" not in self.final:
            return
        statement = await Reports(self.register, self.clock, 3).statement("2026-09", Rounding.EXACT, self.organization)
        assert statement
        if statement.closed:
            (line,) = statement.lines
            of_month = [day for day in days.values() if day.day.month == 9]
            assert line.seat_seconds == sum(day.seat_seconds for day in of_month), self.log
            assert line.sessions == self.final["2026-09"].sessions, self.log


async def play(tables: Tables, seed: int) -> None:
    """Play one history, with a night and a check at its end."""
    chance = random.Random(seed)
    sharing = chance.choice((Sharing.NONE, Sharing.NONE, Sharing.USER, Sharing.HOST))
    history = History(OneCustomer(tables, new_id("org")), chance, sharing)
    history.lease = chance.choice((1, 3, 30)) * DAY
    try:
        for _ in range(chance.randint(1, 3)):  # some busy days, and a night
            await history.do_start()
            await history.do_start()
            await history.do_end()
            await history.do_end()
            await history.do_night()
        for _ in range(STEPS):
            await history.step()
        await history.do_wait()
        await history.do_night()
        await history.check()
    except Exception as error:
        error.add_note(f"seed {seed}: {history.log}")
        raise


@pytest.mark.parametrize("part", range(4))
async def test_final_totals_stay_over_any_history(tables: Tables, part: int) -> None:
    seeds = iter(range(part, HISTORIES, 4))

    async def play_on() -> None:
        for seed in seeds:
            await play(tables, seed)

    await asyncio.gather(*(play_on() for _ in range(AT_ONCE)))
