"""What outlives a run: the last lease, a session that may not have ended, and what is still to be told.

Each seat has one private file in the user's state directory (docs/protocol.md, section 12). A running program locks
its file, so that two programs never run in grace on one lease. A crash frees the lock. The file holds no names. Each
read checks the lease's signature; changing the rest gains no seat. A file that another computer wrote is left alone.
"""

import contextlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from licensing_client.clock import SavedTime, Timeline
from licensing_client.errors import TokenError
from licensing_client.identity import Names, Person, client_hash, short_host
from licensing_client.lease import Lease, read_lease
from licensing_client.license import License
from licensing_client.machine import Report
from licensing_client.private_files import license_stem, release_lock, state_directory, try_lock, write_private
from licensing_client.tokens import base64url

FORMAT = 1
SESSION_ID_CHARACTERS, HASH_CHARACTERS = 36, 43
MAX_REPORTS = 10
DEFAULT_HEARTBEAT_SECONDS = 300
MARGIN_SECONDS = 10
"""A program is heard of within its heartbeat interval and this much more."""


def computer_hash(names: Names, salt: bytes) -> str:
    """The hash of the computer's own name, by which it knows its files."""
    return client_hash(salt, "host", short_host(names.hosts[0]))


@dataclass(frozen=True, slots=True)
class SavedState:
    """What a run leaves for the next one.

    `lease`: the last one. `open_session_id`: the session that may not have ended. `replaces`: the start of that session
    replaces that of the lease; if they are the same, the session is not used again. `borrow_seconds`: the request to
    borrow that was not fulfilled. `person`: the hashes that the open session was started with.
    `heartbeat_seconds`: the service's last interval. `reports`: ends that are still to be told.
    `ran_until`: until when the program ran on the session of the lease; None from older clients.
    `line_session_id`: the session id that has a place in line.
    """

    lease: Lease | None = None
    open_session_id: str | None = None
    replaces: bool = False
    borrow_seconds: int | None = None
    person: Person | None = None
    time: SavedTime = field(default_factory=SavedTime)
    heartbeat_seconds: int = DEFAULT_HEARTBEAT_SECONDS
    reports: tuple[Report, ...] = ()
    ran_until: float | None = None
    line_session_id: str | None = None

    def timeline(self, wall: float, monotonic: float, *, hold: bool = False) -> Timeline:
        """The timeline at these readings, no earlier than the latest time that was seen. `hold`: as in the license."""
        return Timeline.resumed(self.time, self.lease.issued_at if self.lease else 0, wall, monotonic, hold=hold)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e11 else None


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**11 else None


def _session_id(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) == SESSION_ID_CHARACTERS else None


def _lease(value: object, license: License) -> Lease | None:
    try:
        return read_lease(value, license) if isinstance(value, str) else None
    except TokenError:
        return None


def _reports(value: object, license: License) -> tuple[Report, ...]:
    entries = [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
    found = ((_lease(entry.get("lease"), license), _whole(entry.get("ran_until"))) for entry in entries)
    return tuple(Report(lease, ran_until) for lease, ran_until in found if lease and ran_until is not None)


def _person(content: dict[str, Any]) -> Person | None:
    user, host = content.get("user"), content.get("host")
    valid = all(isinstance(value, str) and len(value) == HASH_CHARACTERS for value in (user, host))
    return Person(user, host) if valid else None  # type: ignore[arg-type]


def _place(path: Path, license: License) -> str:
    """A hash of where a file lies: a copy lies elsewhere. The path may hold the user's name, so the hash is keyed."""
    return base64url(hmac.digest(license.salt, f"file:{path.absolute()}".encode(errors="surrogateescape"), "sha256"))


def _content(data: bytes) -> dict[str, Any]:
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) and content.get("format") == FORMAT else {}


def _parse(content: dict[str, Any], license: License) -> SavedState:
    """The valid part of a file's content."""
    offset, seen = _number(content.get("offset")) or 0.0, _number(content.get("seen")) or 0.0
    wall = _number(content.get("wall"))
    return SavedState(
        lease=_lease(content.get("lease"), license),
        open_session_id=_session_id(content.get("open")),
        replaces=content.get("replaces") is True,
        borrow_seconds=_whole(content.get("borrow")),
        person=_person(content),
        time=SavedTime(offset, seen, seen - offset if wall is None else wall),  # older clients kept no `wall`
        heartbeat_seconds=_whole(content.get("heartbeat")) or DEFAULT_HEARTBEAT_SECONDS,
        reports=_reports(content.get("ended"), license),
        ran_until=_number(content.get("ran")),
        line_session_id=_session_id(content.get("line")),
    )


class StateFile:
    """One seat's file. Without a path, nothing is saved."""

    def __init__(self, path: Path | None, license: License, computer: str = "", lock: int | None = None) -> None:
        """`computer`: the hash of this computer's name. `lock`: the open lock file, None where there are no locks."""
        self._path = path
        self._license = license
        self._computer = computer
        self._lock = lock
        self._place = _place(path, license) if path else ""
        place = _content(self._read()).get("place")
        self._copied = isinstance(place, str) and place != self._place

    @property
    def may_be_shared(self) -> bool:
        """Whether another program may use the same session: this disk has no locks, or the file is a copy of another.

        A copy has a lock of its own, which says nothing of the other.
        """
        return self._path is not None and (self._lock is None or self._copied)

    @property
    def of_another_computer(self) -> bool:
        """Whether another computer wrote it. Older clients did not say."""
        computer = _content(self._read()).get("computer")
        return isinstance(computer, str) and computer != self._computer

    def read(self) -> SavedState:
        """What the last run saved, or nothing."""
        return _parse(_content(self._read()), self._license)

    def _read(self) -> bytes:
        try:
            return self._path.read_bytes() if self._path else b""
        except OSError:
            return b""

    def write(self, saved: SavedState) -> None:
        """Replace the file atomically. A full or read-only disk costs grace after a restart, not the run."""
        if self._path is None:
            return
        content = {
            "format": FORMAT,
            "lease": saved.lease.token if saved.lease else None,
            "open": saved.open_session_id,
            "replaces": saved.replaces,
            "borrow": saved.borrow_seconds,
            "user": saved.person.user if saved.person else None,
            "host": saved.person.host if saved.person else None,
            "offset": saved.time.offset,
            "seen": saved.time.seen,
            "wall": saved.time.wall,
            "heartbeat": saved.heartbeat_seconds,
            "ended": [
                {"lease": report.lease.token, "ran_until": report.ran_until} for report in saved.reports[-MAX_REPORTS:]
            ],
            "ran": saved.ran_until,
            "line": saved.line_session_id,
            "computer": self._computer,
            "place": self._place,
        }
        with contextlib.suppress(OSError):
            write_private(self._path, json.dumps(content))

    def release(self) -> None:
        """Unlock the file for other programs, even if a forked child still has it open."""
        if self._lock is not None:
            release_lock(self._lock)
            self._lock = None


class StateFiles:
    """The state files of one license on this computer."""

    def __init__(self, license: License, computer: str, directory: Path | None = None) -> None:
        """`computer`: the hash of this computer's name."""
        self._license = license
        self._computer = computer
        self._directory = directory or state_directory()
        self._stem = license_stem(license.id)

    def _file(self, number: int, lock: int | None = None) -> StateFile:
        return StateFile(self._path(number), self._license, self._computer, lock)

    def _path(self, number: int) -> Path:
        return self._directory / f"{self._stem}-{number}.json"

    def all(self) -> list[StateFile]:
        """All files of this computer, for reading only: their programs may be running."""
        files = (self._file(number) for number in self._numbers())
        return [file for file in files if not file.of_another_computer]

    def _numbers(self) -> list[int]:
        names = [path.stem.rpartition("-")[2] for path in self._directory.glob(f"{self._stem}-*.json")]
        return sorted(int(name) for name in names if name.isdecimal())

    def _priority(self, number: int) -> tuple[bool, int]:
        saved = self._file(number).read()
        lease = saved.lease
        borrowed = lease is not None and lease.borrowed and saved.open_session_id == lease.session_id
        return borrowed, lease.issued_at if lease else 0

    def acquire(self, wall: Callable[[], float] = time.time) -> StateFile:
        """The free file with the best lease, borrowed first; else a new one. Locked until released.

        `wall`: the wall clock. Where there are no locks, a file that was written lately is taken for in use; so is the
        copy of such a file.
        """
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            numbers = self._numbers()
            own = [number for number in numbers if not self._file(number).of_another_computer]
            new = range(max(numbers, default=-1) + 1, max(numbers, default=-1) + 1000)
            for number in (*sorted(own, key=self._priority, reverse=True), *new):
                lock = try_lock(self._path(number).with_suffix(".lock"))
                if lock is None:
                    continue
                file = self._file(number, lock if isinstance(lock, int) else None)
                if not (file.may_be_shared and _written_lately(file.read(), wall())):
                    return file
                file.release()
        except OSError:
            pass  # no writable directory: the program runs on, without grace after a restart
        return StateFile(None, self._license)


def _written_lately(saved: SavedState, wall: float) -> bool:
    """Whether a program that may run wrote a file within its heartbeat interval."""
    silent = abs(wall - saved.time.wall)
    session_id = saved.open_session_id or saved.line_session_id
    return session_id is not None and silent < saved.heartbeat_seconds + MARGIN_SECONDS


def heard_elsewhere(saved: SavedState, heartbeat_at: float, now: float) -> bool:
    """Whether another program runs on the file's session, which the register heard of at `heartbeat_at`.

    It does if the register heard more than the file's own program can have said after it wrote the file, or if it heard
    anything since then and so lately that a running program need not have said more.
    """
    interval = saved.heartbeat_seconds + MARGIN_SECONDS
    since = heartbeat_at - saved.time.seen
    return since > interval or (since > MARGIN_SECONDS and now < heartbeat_at + interval)
