"""A reference implementation of the totals: counts use tick by tick, without the algorithms of `licensing.rules`.

It looks at every second (or every minute, where all times are whole minutes and there is much to count) and notes who
held a seat in it. It is slow and simple.
"""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, date, datetime, timedelta

from licensing.rules.retention import year_before
from licensing.rules.usage import Denial, Retrospect, Use

HOUR = timedelta(hours=1)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Totals = dict[str, object]


class ReferenceTotals:
    """The totals of a license's days and months, as dictionaries by the names of the register's columns."""

    def __init__(
        self,
        uses: Iterable[Use],
        denials: Iterable[Denial],
        as_of: datetime,
        tick: timedelta = timedelta(seconds=1),
    ) -> None:
        self.uses = list(uses)
        self.denials = list(denials)
        self.as_of = as_of
        self.tick = tick
        #: For each tick, who holds a seat in it, and whether in overdraft.
        self.held: defaultdict[int, dict[str, bool]] = defaultdict(dict)
        #: For each tick, the sessions whose programs run, and those of them that have ended.
        self.ran: defaultdict[int, set[tuple[str, datetime]]] = defaultdict(set)
        self.ran_on: defaultdict[int, set[tuple[str, datetime]]] = defaultdict(set)
        for use in self.uses:
            program = use.session_id, use.started_at
            end = max(self.end(use), use.started_at)
            stopped = max(end, use.ran_until) if use.ended_at and use.ran_until else end
            for now in range(self.ticks(use.started_at), self.ticks(stopped)):
                self.ran[now].add(program)
            for now in range(self.ticks(end), self.ticks(stopped)):
                self.ran_on[now].add(program)
            holder = use.session_id if use.holder == "" else use.holder
            for now in range(self.ticks(use.started_at), self.ticks(self.end(use))):
                self.held[now][holder] = self.held[now].get(holder, False) or use.overdraft

    def ticks(self, at: datetime) -> int:
        assert (at - EPOCH) % self.tick == timedelta(), f"{at} is not on a tick"
        return (at - EPOCH) // self.tick

    def end(self, use: Use) -> datetime:
        return self.as_of if use.ended_at is None else use.ended_at

    def day(self, day: date) -> Totals:
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        hours = [0] * 24
        for now, holders in self._during(begin, begin + timedelta(days=1)).items():
            hour = (EPOCH + now * self.tick).hour
            hours[hour] = max(hours[hour], len(holders))
        return {
            "day": day,
            **self._between(begin, begin + timedelta(days=1)),
            "hours": tuple(hours),
            "hour_users": tuple(
                len({use.user for use in self._present(begin + hour * HOUR, begin + (hour + 1) * HOUR)})
                for hour in range(24)
            ),
            "carried": sum(use.started_at < begin for use in self._present(begin, begin + timedelta(days=1))),
            "starts": self._starts(begin),
            "grace_users": len({use.user for use in self.uses if self._runs_on(use, begin)}),
        }

    def _starts(self, begin: datetime) -> tuple[int, ...]:
        """The starts of a day that took a seat, by the seats that were held with their own one."""
        levels: list[int] = []
        # One that gives a seat back at midnight and takes it again has started on the new day.
        before = {use.holder or use.session_id for use in self.uses if use.started_at < begin < self.end(use)}
        for now in range(self.ticks(begin), self.ticks(begin + timedelta(days=1))):
            holders = set(self.held[now]) if now in self.held else set()
            levels += range(len(holders & before) + 1, len(holders) + 1)
            before = holders
        return tuple(levels.count(level) for level in range(1, max(levels, default=1) + 1))

    def month(self, month: str) -> Totals:
        begin = datetime.fromisoformat(f"{month}-01T00:00:00+00:00")
        end = (begin + timedelta(days=31)).replace(day=1)
        within, beyond = self._minutes(begin, end)
        counts = self._between(begin, end)
        return {"month": month, **counts, "minutes": (within, beyond) if counts["sessions"] else None}

    def _minutes(self, begin: datetime, end: datetime) -> tuple[int, int]:
        """Each unbroken time of a holder rounded up to minutes, within the seats and in overdraft, tick by tick."""
        lengths = {False: 0, True: 0}
        running: dict[str, tuple[bool, int]] = {}
        held = self._during(begin, end)

        def over(stay: tuple[bool, int]) -> None:
            lengths[stay[0]] += -(-(stay[1] * self.tick) // timedelta(minutes=1))

        last = -1
        for now in [*sorted(held), self.ticks(end) + 1]:
            holders = held.get(now, {})
            for holder, stay in list(running.items()):
                if now != last + 1 or holders.get(holder) is not stay[0]:
                    over(running.pop(holder))
            for holder, beyond in holders.items():
                running[holder] = beyond, running.get(holder, (beyond, 0))[1] + 1
            last = now
        return lengths[False], lengths[True]

    def _runs_on(self, use: Use, begin: datetime) -> bool:
        if use.ended_at is None or use.ran_until is None:
            return False
        return use.ran_until > max(begin, use.ended_at) and use.ended_at < begin + timedelta(days=1)

    def _present(self, begin: datetime, end: datetime) -> list[Use]:
        """The sessions that touch a time."""
        return [
            use
            for use in self.uses
            if begin <= use.started_at < end or (use.started_at < end and self.end(use) > max(begin, use.started_at))
        ]

    def _between(self, begin: datetime, end: datetime) -> Totals:
        present = self._present(begin, end)
        held = self._during(begin, end)
        peak = max((len(holders) for holders in held.values()), default=0)
        first = min((now for now in held if len(held[now]) == peak), default=None)
        seconds = int(self.tick.total_seconds())
        refused = [denial for denial in self.denials if begin <= denial.first_at < end]
        return {
            "sessions": len(present),
            "users": len({use.user for use in present}),
            "hosts": len({use.host for use in present}),
            "seat_seconds": seconds * sum(len(holders) for holders in held.values()),
            "peak": peak,
            "peak_at": None if first is None else (EPOCH + first * self.tick).replace(minute=0, second=0),
            "denials": len({denial.session_id for denial in refused}),
            "waits": len({denial.session_id for denial in refused if self._waited(denial)}),
            "overdraft_seconds": seconds * sum(sum(holders.values()) for holders in held.values()),
            "grace_seconds": seconds * sum(len(self.ran_on[now]) for now in self._within(self.ran_on, begin, end)),
            "ran_peak": max((len(self.ran[now]) for now in self._within(self.ran, begin, end)), default=0),
        }

    def _during(self, begin: datetime, end: datetime) -> dict[int, dict[str, bool]]:
        ticks = range(self.ticks(begin), self.ticks(end))
        if len(self.held) < len(ticks):  # the shorter way of the two
            return {now: holders for now, holders in self.held.items() if now in ticks}
        return {now: self.held[now] for now in ticks if now in self.held}

    def program_seconds(self, begin: datetime, end: datetime) -> int:
        """For how long programs really ran, together."""
        seconds = int(self.tick.total_seconds())
        return seconds * sum(len(self.ran[now]) for now in self._within(self.ran, begin, end))

    def _within(self, ticks: Collection[int], begin: datetime, end: datetime) -> list[int]:
        wanted = range(self.ticks(begin), self.ticks(end))
        if len(ticks) < len(wanted):
            return [now for now in ticks if now in wanted]
        return [now for now in wanted if now in ticks]

    def _waited(self, denial: Denial) -> bool:
        return any(
            use.session_id == denial.session_id
            and denial.first_at <= use.started_at <= (denial.last_at or denial.first_at) + timedelta(minutes=15)
            for use in self.uses
        )


def by_day(uses: Iterable[Use], oldest: date, newest: date) -> Iterator[tuple[date, list[Use]]]:
    """Every day from `newest` back to `oldest`, with the sessions that matter to it."""
    ended: defaultdict[date, list[Use]] = defaultdict(list)
    open_sessions = []
    for use in uses:
        if use.ended_at is None:
            open_sessions.append(use)
        else:
            ended[use.ended_at.date()].append(use)
    retrospect = Retrospect(open_sessions)
    day = max([newest, *ended])
    while day >= oldest:
        of_day = retrospect.day(day, ended.get(day, ()))
        if day <= newest:
            yield day, of_day
        day -= timedelta(days=1)


def days_until(first: date, as_of: datetime) -> Iterable[date]:
    """The days from one on that are over at a moment."""
    return (first + timedelta(days=number) for number in range((as_of.date() - first).days))


def expected_days(reference: ReferenceTotals, first: date, as_of: datetime) -> dict[date, Totals]:
    """The totals of each day from one on that a register keeps at a moment: days with use, for a year."""
    counted = {day: reference.day(day) for day in days_until(max(first, year_before(as_of).date()), as_of)}
    return {day: totals for day, totals in counted.items() if totals["sessions"] or totals["denials"]}


def expected_months(reference: ReferenceTotals, first: date, as_of: datetime, small_group: int) -> dict[str, Totals]:
    """The totals of each month that a register keeps at a moment: months with use, suppressed for a small group."""
    names = dict.fromkeys(f"{day:%Y-%m}" for day in days_until(first, as_of))
    counted = {month: reference.month(month) for month in names if month != f"{as_of:%Y-%m}"}
    for month, totals in counted.items():
        if datetime.fromisoformat(f"{month}-01T00:00:00+00:00") < year_before(as_of):
            small = int(str(totals["users"])) < small_group
            lost = set(totals) - {"month", "users"} if small else {"peak_at"}
            counted[month] = {name: None if name in lost else totals[name] for name in totals}
    return {month: totals for month, totals in counted.items() if totals["users"] or totals["denials"]}
