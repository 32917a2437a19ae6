"""Runs one seat: does what the machine decides, one step at a time.

It has no thread of its own, and no clock except the one that it is given. So tests simulate a working day in seconds.
"""

import random
import threading
import uuid
from collections import deque
from collections.abc import Callable

from licensing_client import machine
from licensing_client.answers import Ended, Granted, Policy, Refused
from licensing_client.clock import Clock, Timeline
from licensing_client.license import License
from licensing_client.machine import Randomness, Start, State, Status, Terms
from licensing_client.service import Service
from licensing_client.state_files import SavedState, StateFile
from licensing_client.transport import Cancellation

EXCHANGE_SECONDS = 10.0


class Engine:
    """Keeps a seat's state, makes the calls that are due, saves the state, and sends notices.

    One thread calls `step`, `wait` and `close`, and receives the notices. Any thread may call the other methods.
    """

    def __init__(
        self,
        license: License,
        service: Service,
        file: StateFile,
        saved: SavedState,
        clock: Clock,
        notify: Callable[[State], None],
        *,
        terms: Terms,
        borrow_seconds: int = 0,
        rng: random.Random | None = None,
    ) -> None:
        """`saved`: the content of `file`. `notify` receives each state that users should know, one at a time."""
        self._service = service
        self._file = file
        self._clock = clock
        self._notify = notify
        self._rng = rng or random.Random()  # noqa: S311 — jitter, no secret
        self._timeline = saved.timeline(clock.monotonic())
        self._changed = threading.Condition(threading.RLock())
        self._woken = threading.Event()
        self._cancellation = Cancellation()
        self._notices: deque[State] = deque()
        self.last_grant: Granted | None = None
        self.policy: Policy | None = None
        session_id = self._draw().session_id
        if license.collect:
            self._state = machine.begin(
                terms, session_id, saved.lease, saved.open_session_id, borrow_seconds, self.now()
            )
        else:
            self._state = machine.begin_unrecorded(terms, session_id, self.now())
        if self._state.status is Status.GRANTED:
            self._notices.append(self._state)

    def now(self) -> float:
        """The service's time."""
        return self._timeline.now(self._clock.wall(), self._clock.monotonic())

    @property
    def state(self) -> State:
        """The seat's current state."""
        return self._state

    def step(self) -> float:
        """Do what is due now. Returns the seconds until the next step."""
        with self._changed:
            now = self.now()
            self._transition(machine.time_passed(self._state, now))
            call = machine.due_call(self._state, now)
            if call is not None:
                self._transition(machine.call_sent(self._state, call))
                cancellation = self._cancellation = Cancellation()
        self._send_notices()
        if call is not None:
            if isinstance(call, Start):
                self._save()  # a crash before the answer must not cost a second seat
            answer = self._service.ask(call, EXCHANGE_SECONDS, cancellation)
            with self._changed:
                if isinstance(answer, Granted | Refused):
                    self.policy = answer.policy or self.policy
                if isinstance(answer, Granted):
                    self.last_grant = answer
                    self._timeline = Timeline.synchronized(
                        answer.lease.issued_at, self._clock.wall(), self._clock.monotonic()
                    )
                self._transition(machine.answered(self._state, answer, self.now(), self._draw()))
                self._save()
            self._send_notices()
        with self._changed:
            return max(0.0, machine.wake_at(self._state) - self.now())

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
            self._changed.wait_for(lambda: self._state.status is not Status.STARTING, seconds)
            if self._state.status is Status.STARTING:
                late = self._state.began_at + self._state.terms.start_within_seconds
                self._transition(machine.time_passed(self._state, max(self.now(), late)))
        self.wake()

    def retry(self) -> None:
        """Try again after a refusal."""
        with self._changed:
            self._transition(machine.retry(self._state, self.now()))
        self.wake()

    def borrow(self, seconds: int) -> bool:
        """Trade the seat for a borrowed one; 0 trades it back. False if there is no seat to trade."""
        with self._changed:
            before = self._state
            self._transition(machine.borrow(before, seconds, self.now(), self._draw()))
            taken = self._state is not before
        self.wake()
        return taken

    def cancel_exchange(self) -> None:
        """Cancel the exchange in progress."""
        with self._changed:
            self._cancellation.cancel()

    def close(self, seconds: float) -> None:
        """End the session within so many seconds, and release the state file."""
        lease = machine.lease_to_end(self._state)
        answer = None
        if lease is not None:
            answer = self._service.ask(machine.End(lease), seconds, Cancellation())
        with self._changed:
            self._transition(machine.closed(self._state, ended=isinstance(answer, Ended)))
            self._save()
            self._file.release()

    def _draw(self) -> Randomness:
        return Randomness(self._rng.random(), str(uuid.UUID(int=self._rng.getrandbits(128), version=4)))

    def _transition(self, after: State) -> None:
        before, self._state = self._state, after
        if machine.should_notify(before, after):
            self._notices.append(after)
        self._changed.notify_all()

    def _save(self) -> None:
        if self._state.unrecorded and self._state.lease is None:
            return  # a license that collects nothing leaves no file
        self._file.write(
            SavedState(
                lease=self._state.lease,
                open_session_id=machine.open_session_id(self._state),
                offset=self._timeline.offset,
                seen_at=self.now(),
            )
        )

    def _send_notices(self) -> None:
        """Send the pending notices in order, without holding the lock."""
        while True:
            with self._changed:
                if not self._notices:
                    return
                state = self._notices.popleft()
            self._notify(state)
