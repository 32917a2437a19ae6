"""What a program embeds: a seat, taken at the start and given back at the end.

    with Seat(PROGRAM, "acme.lic") as seat:
        run()

One daemon thread makes all network calls. It lives from `start` to `close`.
"""

import contextlib
import datetime
import logging
import os
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from licensing_client import exit_handlers, machine
from licensing_client.answers import Policy, Seats
from licensing_client.clock import SystemClock
from licensing_client.engine import FETCH_SECONDS, Engine
from licensing_client.errors import SeatRefused
from licensing_client.fetched_files import FetchedFilesStore
from licensing_client.identity import names
from licensing_client.license import License, Program, ends_in, last_valid_day, read_license, utc_time
from licensing_client.license_files import kept_license_files
from licensing_client.machine import RUNNING, State, Status
from licensing_client.reasons import Code, Reason, reason
from licensing_client.service import Service
from licensing_client.state_files import StateFile, StateFiles, computer_hash
from licensing_client.transport import HttpTransport

CLOSE_SECONDS = 2.0
"""Time limit of `close`."""
CLOSE_WAIT_SECONDS = 1.0
"""The part of it that an exchange in progress gets before it is cancelled."""

_log = logging.getLogger("licensing_client")


@dataclass(frozen=True, slots=True)
class LicenseFile:
    """The license file that counts.

    `fetched`: it came from the service, and renews the given one. `valid_until`: its end, in UTC. `last_valid_day`: the
    same, for people.
    """

    serial: int
    fetched: bool
    valid_until: datetime.datetime
    last_valid_day: str


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a seat stands.

    `until` and `left`: how long the program may run without another answer. `expires`: the end of the lease, and of a
    borrowed seat. `policy`: the service's privacy policy, as its last answer to name one did; a refusal may.
    `license_file`: the license file that counts, once the given one is read.
    `seats`: as the last answer with their numbers said. `position`: the place in line of a program that waits, 1 is
    next; None without a place. `waiting`: how many wait in line. `asking`: the client asks again without the user's
    doing.
    `ends_in`: how long the license lasts, by the latest end of its files and leases, if it ends within 60 days (zero
    after its end); None otherwise. `ends_on`: the last valid day then, for people.
    """

    status: Status
    reason: Reason | None = None
    until: datetime.datetime | None = None
    left: datetime.timedelta | None = None
    expires: datetime.datetime | None = None
    features: frozenset[str] = frozenset()
    borrowed: bool = False
    overdraft: bool = False
    seats: Seats | None = None
    policy: Policy | None = None
    license_file: LicenseFile | None = None
    position: int | None = None
    waiting: int = 0
    asking: bool = False
    ends_in: datetime.timedelta | None = None
    ends_on: str | None = None

    @property
    def running(self) -> bool:
        """Whether the program may run."""
        return self.status in RUNNING


@dataclass(frozen=True, slots=True)
class Network:
    """How to reach the service.

    `proxy`: a URL, "" for none, None for the system's. `ca_file`: more certificate authorities (PEM).
    `service`: a URL in place of the license's own.
    """

    proxy: str | None = None
    ca_file: str | None = None
    service: str | None = None

    def to(self, license: License) -> Service:
        """The service, for this user and this computer."""
        person = names().person(license.salt, license.hosts, license.users)
        return Service(license, person, HttpTransport(self.proxy, self.ca_file), self.service)


Listener = Callable[[Standing], None]


def _describe_file(engine: Engine | None) -> LicenseFile | None:
    if engine is None:
        return None
    counting = engine.files.counting
    until = counting.valid_until
    return LicenseFile(counting.serial, counting is not engine.files.given, utc_time(until), last_valid_day(until))


def _end(engine: Engine | None) -> tuple[datetime.timedelta | None, str | None]:
    """`ends_in` and `ends_on`."""
    if engine is None:
        return None, None
    end = engine.state.terms.valid_until
    left = ends_in(end, engine.now())
    return left, None if left is None else last_valid_day(end)


def _without_names(error: Exception) -> str:
    """Where an error comes from. Its text may hold the user's name, as a path in a home directory does."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {Path(place.filename).name}, line {place.lineno}"


def _ignore(_standing: Standing) -> None:
    """The default callback: do nothing."""


class Seat:
    """One seat of one license.

    The client's own thread makes all callbacks, one at a time. Any callback may call `close`.
    If `start` decides without an answer, its callback comes when the exchange in progress is over.

    Raises SeatRefused where a `with` block gets no seat.
    """

    def __init__(
        self,
        program: Program,
        license_file: str | os.PathLike[str],
        *,
        wait: bool = False,
        start_within: float = 3.0,
        borrow_seconds: int = 0,
        network: Network | None = None,
        state_directory: Path | None = None,
        granted: Listener = _ignore,
        refused: Listener = _ignore,
        grace: Listener = _ignore,
        lost: Listener = _ignore,
        restored: Listener = _ignore,
        waiting: Listener = _ignore,
        given_back: Listener = _ignore,
    ) -> None:
        """`wait`: keep asking if all seats are taken or no answer comes, with a place in line.

        `waiting` is called when `position` or `waiting` of a program that waits for a seat has changed.

        `start_within`: seconds until a start is decided.

        Raises ValueError where an issuer key is malformed.
        """
        self._program = program
        self._keys = program.keys()
        self._path = Path(license_file)
        self._wait = wait
        self._start_within = start_within
        self._borrow_seconds = borrow_seconds
        self._network = network or Network()
        self._directory = state_directory
        self._listeners = {
            Status.GRANTED: granted,
            Status.REFUSED: refused,
            Status.GRACE: grace,
            Status.LOST: lost,
            Status.GIVEN_BACK: given_back,
        }
        self._restored = restored
        self._waiting = waiting
        self._was_running = False
        self._last_status: Status | None = None
        self._clock = SystemClock()
        self._engine: Engine | None = None
        self._opening: Engine | None = None
        self._refusal: Reason | None = None
        self._idle = False
        self._activity = threading.RLock()  # a signal handler may call `active` within `idle`
        self._license_checked = threading.Event()
        self._closing = threading.Event()
        self._close_by = 0.0
        self._thread: threading.Thread | None = None

    # On the program's threads.

    def start(self, *, block: bool = True) -> Standing:
        """Take the seat. With `block` it is decided on return, within `start_within`; without, callbacks follow.

        After a refusal it may be called again, also if it cost the seat. After `given_back` it does what `active` does.
        The caller's thread does no input or output.
        In a callback, on the client's own thread, it does not wait.
        """
        begun = time.monotonic()
        if self._engine is not None:
            self._engine.retry()
        elif self._thread is None or self._refusal is not None:
            self._start_thread()
        if block and self._thread is not threading.current_thread():
            self._license_checked.wait(self._start_within)
            if self._engine is not None:
                self._engine.wait_for_decision(max(0.0, begun + self._start_within - time.monotonic()))
        return self.standing

    @property
    def standing(self) -> Standing:
        """Where the seat stands now."""
        if self._engine is not None:
            return self._describe(machine.judged(self._engine.state, self._engine.now()))
        if self._refusal is not None:
            left, day = _end(self._opening)
            file = _describe_file(self._opening)
            return Standing(Status.REFUSED, self._refusal, license_file=file, ends_in=left, ends_on=day)
        return Standing(Status.ENDED if self._closing.is_set() else Status.STARTING)

    @property
    def license(self) -> License | None:
        """The license by the file that counts, once the given file is read and verified."""
        engine = self._engine or self._opening
        return engine.files.counting if engine is not None else None

    def borrow(self, seconds: int) -> Reason | None:
        """Trade the seat for one borrowed for a trip; 0 trades it back. Returns the reason why not, or None.

        It starts a session in place of this one, so it needs the network. Callbacks say how it went; the seat is
        borrowed once `standing.borrowed` says so.
        """
        if seconds and (self.license is None or not self.license.borrow_seconds):
            return reason(Code.BORROWING_NOT_ALLOWED)
        if self._engine is None or not self._engine.borrow(seconds):
            return self.standing.reason or reason(Code.BORROWING_NOT_ALLOWED)
        return None

    def idle(self) -> None:
        """Nobody works with the program. As soon as others wait, its seat is given back, and `given_back` is called.

        From then on the program may not run, until `active` has brought a seat again. A borrowed seat is never given
        back, nor any while the service does not answer. Nothing of this is sent or stored, except the session's end.
        """
        with self._activity:
            self._idle = True
            if self._engine is not None:
                self._engine.idle()

    def active(self) -> None:
        """Somebody works with the program again. If its seat was given back, it waits in line for another.

        It returns at once; the callbacks say how it goes: `waiting` the place, then `restored`.
        """
        with self._activity:
            self._idle = False
            if self._engine is not None:
                self._engine.active()

    def close(self) -> None:
        """Give the seat back, within two seconds. Idempotent.

        A forked child does not have the client's thread, so closing there gives nothing back.
        """
        if not self._closing.is_set():
            self._close_by = time.monotonic() + CLOSE_SECONDS
            self._closing.set()
            if self._engine is not None:
                self._engine.wake()
        exit_handlers.unregister(self)
        if self._thread is None or self._thread is threading.current_thread():
            return  # the thread closes the seat as soon as the callback returns
        self._thread.join(CLOSE_WAIT_SECONDS)
        engine = self._engine or self._opening
        if self._thread.is_alive() and engine is not None:
            engine.cancel_exchange()
        self._thread.join(max(0.0, self._close_by - time.monotonic()))

    def __enter__(self) -> "Seat":
        standing = self.start()
        if not standing.running:
            self.close()
            raise SeatRefused(standing.reason or reason(Code.NO_ANSWER))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start_thread(self) -> None:
        exit_handlers.register(self)
        self._refusal = None
        self._license_checked = threading.Event()
        self._thread = threading.Thread(
            target=self._run, args=(self._license_checked,), name="licensing-client", daemon=True
        )
        self._thread.start()

    # On the client's thread.

    def _run(self, license_checked: threading.Event) -> None:
        try:
            with contextlib.ExitStack() as unless_opened:
                engine = self._open(unless_opened)
                with self._activity:
                    self._engine = engine
                    if engine is not None and self._idle:
                        engine.idle()
                if engine is not None:
                    unless_opened.pop_all()
        except Exception as error:  # a thread that just ended would leave the program starting for ever
            _log.error("the seat cannot be opened: %s", _without_names(error))
            self._refusal = reason(Code.CANNOT_OPEN, f"({type(error).__name__})")
        finally:
            license_checked.set()
        if self._engine is None:
            self._call_listener(self._listeners[Status.REFUSED], self.standing)
            return
        while not self._closing.is_set():
            self._engine.wait(self._engine.step())
        self._engine.close(max(0.1, self._close_by - time.monotonic() - 0.1))

    def _open(self, unless_opened: contextlib.ExitStack) -> Engine | None:
        """Read and check the license. An engine if one of its files covers this program, user and computer.

        This is decided offline, unless a newer license file may help.

        `unless_opened` gets what is to be done if no engine is returned.
        """
        begun, self._opening = time.monotonic(), None
        given = read_license(self._path, self._keys)
        if isinstance(given, Reason):
            self._refusal = given
            return None
        store = FetchedFilesStore(given, self._keys, self._directory)
        store.remove_older()
        license_files = kept_license_files(given, store)
        files = StateFiles(license_files.as_used(), computer_hash(names(), given.salt), self._directory)
        file = files.acquire(self._clock.wall) if given.collect else StateFile(None, given)
        unless_opened.callback(file.release)
        engine = self._opening = Engine(
            license_files,
            self._program,
            self._network.to(given),
            file,
            file.read(),
            self._clock,
            self._notify,
            notify_line=lambda state: self._call_listener(self._waiting, self._describe(state)),
            store=store,
            wait=self._wait,
            start_within_seconds=self._start_within,
            borrow_seconds=self._borrow_seconds,
        )
        self._refusal = engine.refusal(min(FETCH_SECONDS, begun + self._start_within / 2 - time.monotonic()))
        return None if self._refusal else engine

    def _describe(self, state: State) -> Standing:
        engine, license = self._engine, self.license
        until = machine.runs_until(state)
        lease = state.lease if state.status in RUNNING else None
        license_left, license_day = _end(engine)
        return Standing(
            status=state.status,
            reason=state.reason,
            until=None if until is None else utc_time(until),
            left=None
            if until is None or engine is None
            else datetime.timedelta(seconds=max(0, round(until - engine.now()))),
            expires=utc_time(lease.expires_at) if lease else None,
            features=frozenset(lease.features) if lease else license.features if license else frozenset(),
            borrowed=lease is not None and lease.borrowed and state.registered is machine.Registered.SEAT,
            overdraft=lease is not None and lease.overdraft,
            seats=engine.seats if engine else None,
            policy=engine.policy if engine else None,
            license_file=_describe_file(engine),
            position=None if state.status in RUNNING else state.position,
            waiting=state.waiting,
            asking=machine.is_asking(state),
            ends_in=license_left,
            ends_on=license_day,
        )

    def _notify(self, state: State) -> None:
        listener = self._listeners[state.status]
        if state.status is Status.GRANTED and self._was_running and self._last_status is not Status.GRANTED:
            listener = self._restored
        self._last_status = state.status
        self._was_running = self._was_running or state.status in RUNNING
        self._call_listener(listener, self._describe(state))

    def _call_listener(self, listener: Listener, standing: Standing) -> None:
        try:
            listener(standing)
        except BaseException:  # even sys.exit would end this thread alone, and lose the seat
            _log.exception("a callback for %s failed; the seat is not affected", standing.status.value)
