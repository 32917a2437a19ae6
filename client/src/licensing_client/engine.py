"""One seat's life: does what the machine decides, a step at a time. It has no thread of its own and no
clock but the one that it is given, so that a working day can be played in a second.
"""

import random
import threading
import uuid
from collections import deque
from collections.abc import Callable

from licensing_client import machine
from licensing_client.answers import Ended, Granted
from licensing_client.clock import Clock, Timeline
from licensing_client.license import License
from licensing_client.machine import Luck, Start, State, Status, Terms
from licensing_client.memory import Memory, Slot
from licensing_client.service import Service
from licensing_client.transport import Line

EXCHANGE_SECONDS = 10.0


class Engine:
    """Holds a seat's state, asks the service what the machine wishes to know, remembers, and tells what is
    new.

    `step`, `rest` and `close` belong to one thread, on which news is told; everything else may be called from
    any.
    """

    def __init__(
        self,
        license: License,
        service: Service,
        slot: Slot,
        memory: Memory,
        clock: Clock,
        tell: Callable[[State], None],
        *,
        terms: Terms,
        borrow: int = 0,
        chance: random.Random | None = None,
    ) -> None:
        """`memory` is what `slot` held; `tell` hears of each change that users are to know of, one by one."""
        self._service = service
        self._slot = slot
        self._clock = clock
        self._tell = tell
        self._chance = chance or random.Random()  # noqa: S311 — jitter, no secret
        self._timeline = memory.timeline(clock.monotonic())
        self._changed = threading.Condition(threading.RLock())
        self._woken = threading.Event()
        self._line = Line()
        self._news: deque[State] = deque()
        self.granted: Granted | None = None
        fresh = self._luck().session
        if license.collect:
            self._state = machine.begin(terms, fresh, memory.lease, memory.open, borrow, self.now())
        else:
            self._state = machine.uncollected(terms, fresh, self.now())
        if self._state.status is Status.GRANTED:
            self._news.append(self._state)

    def now(self) -> float:
        """The service's time."""
        return self._timeline.now(self._clock.wall(), self._clock.monotonic())

    @property
    def state(self) -> State:
        """Where the seat stands."""
        return self._state

    def step(self) -> float:
        """Do what is due now. Seconds until something is due next."""
        with self._changed:
            now = self.now()
            self._move(machine.passed(self._state, now))
            call = machine.due(self._state, now)
            if call is not None:
                self._move(machine.asking(self._state, call))
                line = self._line = Line()
        self._announce()
        if call is not None:
            if isinstance(call, Start):
                self._remember()  # a crash before the answer must not cost a second seat
            answer = self._service.ask(call, EXCHANGE_SECONDS, line)
            with self._changed:
                if isinstance(answer, Granted):
                    self.granted = answer
                    self._timeline = Timeline.told(answer.lease.issued_at, self._clock.wall(), self._clock.monotonic())
                self._move(machine.answered(self._state, answer, self.now(), self._luck()))
                self._remember()
            self._announce()
        with self._changed:
            return max(0.0, machine.wake_at(self._state) - self.now())

    def rest(self, seconds: float) -> None:
        """Do nothing for so many seconds, or until somebody calls `wake`."""
        self._woken.wait(seconds)
        self._woken.clear()

    def wake(self) -> None:
        """There is something to be done."""
        self._woken.set()

    def settled(self, seconds: float) -> None:
        """Wait until a start is decided; after so many seconds it is decided without the network."""
        with self._changed:
            self._changed.wait_for(lambda: self._state.status is not Status.STARTING, seconds)
            if self._state.status is Status.STARTING:
                late = self._state.began_at + self._state.terms.start_within
                self._move(machine.passed(self._state, max(self.now(), late)))
        self.wake()

    def again(self) -> None:
        """Try once more after a refusal."""
        with self._changed:
            self._move(machine.again(self._state, self.now()))
        self.wake()

    def borrow(self, seconds: int) -> bool:
        """Trade the seat for a borrowed one, or, with 0, back. False where there is none to trade."""
        with self._changed:
            before = self._state
            self._move(machine.borrow(before, seconds, self.now(), self._luck()))
            taken = self._state is not before
        self.wake()
        return taken

    def cut(self) -> None:
        """Do not wait for the answer that is under way."""
        with self._changed:
            self._line.cut()

    def close(self, seconds: float) -> None:
        """Give the seat back, within so many seconds, and let go of everything."""
        lease = machine.leaving(self._state)
        answer = None
        if lease is not None:
            answer = self._service.ask(machine.End(lease), seconds, Line())
        with self._changed:
            self._move(machine.closed(self._state, ended=isinstance(answer, Ended)))
            self._remember()
            self._slot.release()

    def _luck(self) -> Luck:
        return Luck(self._chance.random(), str(uuid.UUID(int=self._chance.getrandbits(128), version=4)))

    def _move(self, after: State) -> None:
        before, self._state = self._state, after
        if machine.news(before, after):
            self._news.append(after)
        self._changed.notify_all()

    def _remember(self) -> None:
        if self._state.quiet and self._state.lease is None:
            return  # a license that collects nothing leaves nothing behind
        self._slot.write(
            Memory(
                lease=self._state.lease,
                open=machine.open_session(self._state),
                offset=self._timeline.offset,
                seen=self.now(),
            )
        )

    def _announce(self) -> None:
        """Tell what is new, in order, and never while a lock is held."""
        while True:
            with self._changed:
                if not self._news:
                    return
                state = self._news.popleft()
            self._tell(state)
