"""Runs one seat: does what the machine decides, one step at a time.

It has no thread of its own, and no clock except the one that it is given. So tests simulate a working day in seconds.
"""

import dataclasses
import datetime
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from licensing_client import machine
from licensing_client.answers import Answer, CurrentFile, Ended, Granted, NoAnswer, NoNewerFile, Policy, Refused, Seats
from licensing_client.clock import Clock, SavedTime, Timeline
from licensing_client.errors import Step
from licensing_client.fetched_files import FetchedFilesStore
from licensing_client.identity import Person
from licensing_client.license import FLOATING, License, Program, refusal_by_clocks
from licensing_client.license_files import CURABLE, FILE_REFUSALS, LicenseFiles
from licensing_client.machine import Call, Earlier, Heartbeat, Randomness, Report, Start, State, Status, Terms
from licensing_client.reasons import Code, Reason
from licensing_client.service import Service
from licensing_client.state_files import MAX_REPORTS, SavedState, StateFile, heard_elsewhere
from licensing_client.transport import Cancellation

EXCHANGE_SECONDS = 10.0
LOOK_SECONDS = 1.5
"""Time limit of the question whether another program uses the file, before a start is decided."""
FETCH_SECONDS = 1.5
"""Time limit of the question for a newer license file, before a program is refused or lost."""
DECIDE_MARGIN_SECONDS = 0.3
"""That question ends so long before a start has to be decided."""
CLOSE_MARGIN_SECONDS = 0.2
"""No report is begun when less than this is left to close."""


@dataclass(frozen=True, slots=True)
class _Exchange:
    """A call that was made with a license file. `wall` and `monotonic`: the clocks when it was sent."""

    answer: Answer
    license: License
    wall: float
    monotonic: float

    def is_refused_for(self, codes: frozenset[Code]) -> bool:
        """Whether the service refused it for one of these reasons."""
        return isinstance(self.answer, Refused) and self.answer.reason.code in codes


class Engine:
    """Keeps a seat's state, makes the calls that are due, saves the state, and sends notices.

    One thread calls `step`, `wait` and `close`, and receives the notices. Any thread may call the other methods.
    """

    def __init__(
        self,
        files: LicenseFiles,
        program: Program,
        service: Service,
        file: StateFile,
        saved: SavedState,
        clock: Clock,
        notify: Callable[[State], None],
        *,
        notify_line: Callable[[State], None] | None = None,
        store: FetchedFilesStore | None = None,
        wait: bool = False,
        start_within_seconds: float = 3.0,
        borrow_seconds: int = 0,
        rng: random.Random | None = None,
    ) -> None:
        """`saved`: the content of `file`. `notify` receives each state that users should know, one at a time;
        `notify_line` each in which a waiting program has another place in line, or more or fewer wait.

        `store`: where newer license files are kept; None keeps them in memory.
        """
        self._files = files
        self._program = program
        self._keys = program.keys()
        self._store = store
        self._kept = files.fetched
        self._declined_serial = 0
        self._service = service
        self._file = file
        self._saved = saved
        self._clock = clock
        self._notify = notify
        self._notify_line = notify_line
        self._wait = wait
        self._start_within_seconds = start_within_seconds
        self._borrow_seconds = borrow_seconds
        self._rng = rng or random.Random()  # noqa: S311 — jitter, no secret
        self._timeline = saved.timeline(clock.wall(), clock.monotonic(), hold=self._holds)
        self._heartbeat_seconds = saved.heartbeat_seconds
        self._reports = saved.reports
        self._changed = threading.Condition(threading.RLock())
        self._woken = threading.Event()
        self._cancellation = Cancellation()
        self._notices: deque[tuple[Callable[[State], None], State]] = deque()
        self._in_doubt = file.may_be_shared and saved.lease is not None and saved.open_session_id is not None
        self.seats: Seats | None = None
        self.policy: Policy | None = None
        self._state = self._begin(Earlier() if self._in_doubt else self._earlier())
        if self._state.status is Status.GRANTED:
            self._notices.append((notify, self._state))

    def _begin(self, earlier: Earlier) -> State:
        session_id, now = self._draw().session_id, self.now()
        if self._files.given.collect:
            return machine.begin(self._terms, session_id, earlier, self._borrow_seconds, now)
        return machine.begin_unrecorded(self._terms, session_id, now)

    @property
    def _terms(self) -> Terms:
        """What the license files say."""
        return Terms(
            self._files.valid_until,
            self._files.counting.kind == FLOATING,
            self._wait,
            self._start_within_seconds,
            self._files.counting.hold_lease_seconds,
        )

    @property
    def _holds(self) -> bool:
        """Whether the license has a hold."""
        return self._files.counting.hold_seconds > 0

    @property
    def files(self) -> LicenseFiles:
        """The license files: which one counts."""
        return self._files

    def _earlier(self) -> Earlier:
        saved = self._saved
        ran_until = saved.time.seen if saved.ran_until is None else saved.ran_until
        in_line = None if self._file.may_be_shared else saved.line_session_id  # two programs on one id share a seat
        return Earlier(saved.lease, saved.open_session_id, saved.replaces, saved.borrow_seconds, ran_until, in_line)

    def now(self) -> float:
        """The service's time."""
        with self._changed:
            self._timeline = self._timeline.at(self._clock.wall(), self._clock.monotonic())
            return self._timeline.now

    @property
    def state(self) -> State:
        """The seat's current state."""
        return self._state

    def refusal(self, seconds: float) -> Reason | None:
        """The reason why no license file covers the program, before any start; None if one does.

        If a newer file may help, the service is asked for it, for so many seconds.
        """
        refusal = self._refusal()
        if refusal is not None and refusal.code in CURABLE and self._fetch(seconds):
            refusal = self._refusal()
        return refusal

    def _refusal(self) -> Reason | None:
        lease = self._saved.lease
        return self._files.refusal(self._judge, lease.expires_at if lease else 0)

    def _judge(self, license: License) -> Reason | None:
        clocks = self._clock.wall(), self.now()
        return refusal_by_clocks(license, self._program, self._service.person, *clocks)

    def step(self) -> float:
        """Do what is due now. Returns the seconds until the next step."""
        with self._changed:
            self._cancellation = Cancellation()
        if self._in_doubt:
            self._look(self._saved)
        renewed = machine.loses_to_end(self._state, self.now()) and self._fetch(FETCH_SECONDS)
        with self._changed:
            now = self.now()
            self._transition((machine.renewed if renewed else machine.time_passed)(self._state, now))
        self._send_notices()  # a program that gives its seat back stops before the end is sent
        with self._changed:
            call = machine.due_call(self._state, self.now())
            if call is not None:
                self._transition(machine.call_sent(self._state, call))
                asking = self._state
        if call is not None:
            self._make(call, asking)
        with self._changed:
            return max(0.0, machine.wake_at(self._state) - self.now())

    def _make(self, call: Call, asking: State) -> None:
        """Make a call, take its answer, and do what may follow it. `asking`: the state in which it is made."""
        if not isinstance(call, Heartbeat):
            self._save()  # a crash before the answer must cost no second seat; nor may a seat given back be used again
        if isinstance(call, Start):
            exchange = self._start(call)
        else:
            exchange = self._exchange(call, self._files.counting)
            if isinstance(call, Heartbeat) and exchange.is_refused_for(CURABLE) and self._fetch(FETCH_SECONDS):
                with self._changed:
                    self._transition(machine.restarted(self._state, self.now(), self._draw()))
                return
        self._take(call, exchange, asking)
        self._save()
        self._send_notices()
        self._keep_files()
        if isinstance(exchange.answer, NoAnswer):
            return
        if self._reports:
            self._send_report(EXCHANGE_SECONDS, self._cancellation)
        if isinstance(exchange.answer, Granted):
            self._fetch_if_newer(exchange.answer)

    def _start(self, call: Start) -> _Exchange:
        """Start with the newest license file that covers the program; if that is refused, with another one."""
        newest = last = self._start_with(call, self._files.to_start(self._judge))
        if newest.license.serial in self._files.refused and self._refusal() is None:
            last = self._start_with(call, self._files.counting)
        if last.is_refused_for(CURABLE) and self._fetch(self._seconds_to_decide()):
            license = self._files.to_start(self._judge)
            if license.serial > last.license.serial:
                return self._start_with(call, license)
        return newest if last.is_refused_for(FILE_REFUSALS) else last

    def _start_with(self, call: Start, license: License) -> _Exchange:
        """Start with a license file. One that does not count yet is not used again if it is refused."""
        exchange = self._exchange(call, license)
        if exchange.is_refused_for(FILE_REFUSALS) and license.serial > self._files.counting.serial:
            self._change_files(self._files.start_refused(license))
        return exchange

    def _exchange(self, call: Call, license: License) -> _Exchange:
        """Make a call with a license file."""
        service = self._service.under(self._files.as_used(license))
        person = self._person_of(call.session_id) if isinstance(call, Start) else None
        sent = self._clock.wall(), self._clock.monotonic()
        answer = service.ask(call, EXCHANGE_SECONDS, self._cancellation, person)
        if self._slept_since(*sent):
            answer = NoAnswer(Step.SERVICE, "The computer slept before the reply was read.")
        return _Exchange(answer, license, *sent)

    def _take(self, call: Call, exchange: _Exchange, asking: State) -> None:
        """Take the answer to a call."""
        answer = exchange.answer
        if isinstance(call, Start) and isinstance(answer, Granted):
            self._change_files(self._files.granted(exchange.license))
        with self._changed:
            if isinstance(answer, Granted | Refused):
                self.policy = answer.policy or self.policy
                self.seats = answer.seats or self.seats
            if isinstance(answer, Granted):
                self._heartbeat_seconds = answer.heartbeat_seconds
                self._timeline = Timeline.synchronized(
                    answer.lease.issued_at, exchange.wall, exchange.monotonic, hold=self._holds
                )
            self._transition(machine.answered(self._state, answer, self.now(), self._draw()))
            if isinstance(call, Start) and isinstance(answer, Granted):
                self._add_report(machine.report_of_start(asking, call, self.now()))
            if isinstance(answer, Ended):
                self._add_report(machine.report_of(asking, self.now()))

    def _change_files(self, files: LicenseFiles) -> None:
        """Use other license files from now on."""
        with self._changed:
            self._files = files
            self._transition(machine.with_terms(self._state, self._terms))

    def _keep_files(self) -> None:
        """Write what has changed of the fetched files."""
        if self._store is not None and self._files.fetched != self._kept:
            self._kept = self._files.fetched
            self._store.keep(self._kept)

    def _seconds_to_decide(self) -> float:
        """For how long the service may be asked for a newer license file."""
        if self._state.status is not Status.STARTING:
            return FETCH_SECONDS
        left = self._state.began_at + self._start_within_seconds - self.now() - DECIDE_MARGIN_SECONDS
        return min(FETCH_SECONDS, left)

    def _fetch_if_newer(self, answer: Granted) -> None:
        """Fetch a newer license file if there is one. No call is delayed: a confirmation is due at once."""
        serial = answer.license_serial or 0
        if serial <= max(self._files.newest_serial, self._declined_serial) or answer.lease.offered is not None:
            return
        if self._fetch(self._seconds_to_next_call()) is False:
            self._declined_serial = serial

    def _seconds_to_next_call(self) -> float:
        """How long an exchange may take that delays no other."""
        call_at = self._state.call_at
        return EXCHANGE_SECONDS if call_at is None else min(EXCHANGE_SECONDS, call_at - self.now())

    def _fetch(self, seconds: float) -> bool | None:
        """Ask the service for a newer license file. Whether one was taken; None without an answer.

        Nothing is asked if the license forbids calls.
        """
        if not self._files.given.collect or seconds <= 0:
            return None
        newest = self._files.candidate or self._files.counting
        answer = self._service.under(newest).current(seconds, self._cancellation)
        match answer:
            case CurrentFile(token):
                files = self._files.taking(token, self._keys)
                if files is self._files:
                    return False
                self._change_files(files)
                self._keep_files()
                return True
            case NoNewerFile():
                return False
            case NoAnswer():
                return None

    def _slept_since(self, wall: float, monotonic: float) -> bool:
        """Whether the computer slept since these readings, or a clock was set: a reply may be old."""
        passed = max(abs(self._clock.wall() - wall), self._clock.monotonic() - monotonic)
        return passed > EXCHANGE_SECONDS + machine.SLEEP_GAP_SECONDS

    def _look(self, saved: SavedState) -> None:
        """Ask whether another program runs on the session of the file; if so, leave both alone."""
        self._in_doubt = False
        data = self._service.read(saved.lease, LOOK_SECONDS) if saved.lease else None
        heartbeat_at = _time_of(data.get("heartbeat_at")) if isinstance(data, dict) else None
        with self._changed:
            if heartbeat_at is not None and heard_elsewhere(saved, heartbeat_at, self.now()):
                self._file.release()
                self._file = StateFile(None, self._files.given)
                self._saved, self._reports = SavedState(), ()
                return
            state, begun = self._state, self._begin(self._earlier())
            self._transition(dataclasses.replace(begun, began_at=state.began_at, idle=state.idle))

    def _add_report(self, report: Report | None) -> None:
        if report is not None:
            self._reports = (*self._reports, report)[-MAX_REPORTS:]

    def _send_report(self, seconds: float, cancellation: Cancellation) -> None:
        """Send the first report that waits. Without an answer it is kept."""
        answer = self._service.ask(self._reports[0], seconds, cancellation)
        if isinstance(answer, Ended):
            self._reports = self._reports[1:]
            self._save()

    def wait(self, seconds: float) -> None:
        """Wait so many seconds, or until `wake` is called."""
        self._woken.wait(seconds)
        self._woken.clear()

    def wake(self) -> None:
        """End `wait` early."""
        self._woken.set()

    def wait_for_decision(self, seconds: float) -> None:
        """Wait until a start is decided. After so many seconds it is decided without an answer."""
        with self._changed:
            self._changed.wait_for(lambda: machine.decided(self._state), seconds)
            if self._state.status is Status.STARTING:
                late = self._state.began_at + self._state.terms.start_within_seconds
                self._transition(machine.time_passed(self._state, max(self.now(), late)))
        self.wake()

    def retry(self) -> None:
        """Try again after a refusal, or take a seat again that was given back."""
        with self._changed:
            self._let_go_of_end()
            self._transition(machine.retry(self._state, self.now(), self._draw()))
        self.wake()

    def idle(self) -> None:
        """Nobody works with the program: give the seat back as soon as somebody waits for one."""
        with self._changed:
            self._transition(machine.idle(self._state))
        self.wake()

    def active(self) -> None:
        """Somebody works with the program: keep the seat, or take one again if it was given back."""
        with self._changed:
            self._let_go_of_end()
            self._transition(machine.active(self._state, self.now(), self._draw()))
        self.wake()

    def _let_go_of_end(self) -> None:
        """Do not wait for the answer to an end: the start that follows replaces the session."""
        if self._state.ending:
            self._cancellation.cancel()

    def borrow(self, seconds: int) -> bool:
        """Trade the seat for a borrowed one; 0 trades it back. False if there is no seat to trade."""
        with self._changed:
            before = self._state
            self._transition(machine.borrow(before, seconds, self.now(), self._draw()))
            taken = self._state is not before
        self.wake()
        return taken

    def cancel_exchange(self) -> None:
        """Cancel the exchange in progress, and those that follow it in the same step."""
        with self._changed:
            self._cancellation.cancel()

    def close(self, seconds: float) -> None:
        """End the session within so many seconds, say until when the program ran, and release the state file."""
        if self._in_doubt:  # nothing was done, and the file may be another program's
            with self._changed:
                self._transition(machine.closed(self._state, None))
            self._file.release()
            return
        close_by = time.monotonic() + seconds
        now = self.now()
        with self._changed:
            self._transition(dataclasses.replace(self._state, ran_until=machine.last_ran(self._state, now)))
        lease, report = machine.lease_to_end(self._state), machine.report_of(self._state, now)
        answer = None
        if lease is not None:
            self._save(machine.ending(self._state))
            answer = self._service.ask(machine.End(lease), seconds, Cancellation())
        ended = isinstance(answer, Ended)
        with self._changed:
            if ended:
                self._add_report(report)
            self._transition(machine.closed(self._state, answer))
        self._save()
        left = close_by - time.monotonic() - CLOSE_MARGIN_SECONDS
        if ended and self._reports and left > 0:
            self._send_report(left, Cancellation())
        self._file.release()

    def _draw(self) -> Randomness:
        return Randomness(self._rng.random(), str(uuid.UUID(int=self._rng.getrandbits(128), version=4)))

    def _transition(self, after: State) -> None:
        before, self._state = self._state, after
        if machine.should_notify(before, after):
            self._notices.append((self._notify, after))
        if self._notify_line is not None and machine.line_changed(before, after):
            self._notices.append((self._notify_line, after))
        self._changed.notify_all()

    def _save(self, state: State | None = None) -> None:
        """Write what the next run needs. Only the client's thread writes, without the lock: disks may be slow."""
        with self._changed:
            state, now = state or self._state, self.now()
            offset, wall = self._timeline.offset, self._timeline.wall
        if state.unrecorded and state.lease is None:
            return  # a license that collects nothing leaves no file
        open_session_id = machine.open_session_id(state)
        self._file.write(
            SavedState(
                lease=state.lease,
                open_session_id=open_session_id,
                replaces=machine.is_given_up(state),
                borrow_seconds=None if open_session_id is None else state.borrow_seconds,
                person=None if open_session_id is None else self._person_of(open_session_id),
                time=SavedTime(offset, now, wall),
                heartbeat_seconds=self._heartbeat_seconds,
                reports=self._reports,
                ran_until=machine.last_ran(state, now),
                line_session_id=machine.session_id_in_line(state),
            )
        )

    def _person_of(self, session_id: str) -> Person:
        """The hashes that a session is, or was, started with: a repeat has to send the same."""
        kept = self._saved.person if session_id == self._saved.open_session_id else None
        return kept or self._service.person

    def _send_notices(self) -> None:
        """Send the pending notices in order, without holding the lock."""
        while True:
            with self._changed:
                if not self._notices:
                    return
                notify, state = self._notices.popleft()
            notify(state)


def _time_of(value: object) -> float | None:
    """The seconds since 1970 of an RFC 3339 time."""
    try:
        return datetime.datetime.fromisoformat(str(value).replace("Z", "+00:00")).timestamp()
    except ValueError:
        return None
