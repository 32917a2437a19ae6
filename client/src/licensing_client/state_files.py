"""What outlives a run: the last lease, and a session that may not have ended.

Each seat has one private file in the user's state directory. A running program locks its file, so that two programs
never run in grace on one lease. A crash frees the lock. The file holds no names. Each read checks the lease's
signature; changing the rest gains no seat.
"""

import contextlib
import errno
import functools
import hashlib
import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from licensing_client.clock import Timeline
from licensing_client.errors import TokenError
from licensing_client.lease import Lease, read_lease
from licensing_client.license import License

FORMAT = 1
_log = logging.getLogger("licensing_client")


NOWHERE = Path(os.devnull)
"""In place of a home directory that does not exist: nothing can be made below it."""


@functools.cache
def _home() -> Path:
    """The user's home directory; `NOWHERE` if there is none, as for a user id without a name. Cached: told once."""
    try:
        return Path.home()
    except RuntimeError:
        _log.warning("there is no home directory: nothing is kept on disk, and a restart ends grace")
        return NOWHERE


def state_directory() -> Path:
    """The directory for a user's private state on this system."""
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or _home() / "AppData" / "Local") / "licensing-client"
    if sys.platform == "darwin":
        return _home() / "Library" / "Application Support" / "licensing-client"
    return Path(os.environ.get("XDG_STATE_HOME") or _home() / ".local" / "state") / "licensing-client"


@dataclass(frozen=True, slots=True)
class SavedState:
    """`lease`: the last one. `open_session_id`: the session that may not have ended.

    `offset` and `seen_at` are for the timeline.
    """

    lease: Lease | None = None
    open_session_id: str | None = None
    offset: float = 0.0
    seen_at: float = 0.0

    def timeline(self, monotonic: float) -> Timeline:
        """The timeline at this monotonic reading, no earlier than the latest time that was seen."""
        issued_at = self.lease.issued_at if self.lease else 0
        return Timeline(self.offset, max(self.seen_at, issued_at), monotonic)


def _finite_number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and abs(value) < 1e11 else 0.0


def _parse(data: bytes, license: License) -> SavedState:
    """The valid part of a file's content."""
    try:
        content: Any = json.loads(data)
    except (ValueError, RecursionError):
        return SavedState()
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        return SavedState()
    try:
        lease = read_lease(content["lease"], license) if isinstance(content.get("lease"), str) else None
    except TokenError:
        lease = None
    session_id = content.get("open")
    return SavedState(
        lease=lease,
        open_session_id=session_id if isinstance(session_id, str) and len(session_id) == 36 else None,
        offset=_finite_number(content.get("offset")),
        seen_at=_finite_number(content.get("seen")),
    )


class StateFile:
    """One seat's file. Without a path, nothing is saved."""

    def __init__(self, path: Path | None, license: License, lock: int | None = None) -> None:
        self._path = path
        self._license = license
        self._lock = lock

    def read(self) -> SavedState:
        """What the last run saved, or nothing."""
        if self._path is None:
            return SavedState()
        try:
            return _parse(self._path.read_bytes(), self._license)
        except OSError:
            return SavedState()

    def write(self, saved: SavedState) -> None:
        """Replace the file atomically. A full or read-only disk costs grace after a restart, not the run."""
        if self._path is None:
            return
        content = {
            "format": FORMAT,
            "lease": saved.lease.token if saved.lease else None,
            "open": saved.open_session_id,
            "offset": saved.offset,
            "seen": saved.seen_at,
        }
        temporary = self._path.with_suffix(".new")
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)  # left by a crash
            file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "w", encoding="utf-8") as out:
                json.dump(content, out)
            os.replace(temporary, self._path)

    def release(self) -> None:
        """Unlock the file for other programs, even if a forked child still has it open."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                _unlock(self._lock)
            os.close(self._lock)
            self._lock = None


def _try_lock(path: Path) -> int | None:
    """An open file that this process has locked; None if another process has.

    Raises OSError where it cannot be opened, or where there are no locks.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(file)
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return None
        raise
    return file


def _unlock(file: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_UN)


class StateFiles:
    """The state files of one license."""

    def __init__(self, license: License, directory: Path | None = None) -> None:
        self._license = license
        self._directory = directory or state_directory()
        self._stem = hashlib.sha256(license.id.encode()).hexdigest()[:16]

    def _path(self, number: int) -> Path:
        return self._directory / f"{self._stem}-{number}.json"

    def all(self) -> list[StateFile]:
        """All files, for reading only: their programs may be running."""
        return [StateFile(self._path(number), self._license) for number in self._numbers()]

    def _numbers(self) -> list[int]:
        names = [path.stem.rpartition("-")[2] for path in self._directory.glob(f"{self._stem}-*.json")]
        return sorted(int(name) for name in names if name.isdecimal())

    def _priority(self, number: int) -> tuple[bool, int]:
        saved = StateFile(self._path(number), self._license).read()
        lease = saved.lease
        borrowed = lease is not None and lease.borrowed and saved.open_session_id == lease.session_id
        return borrowed, lease.issued_at if lease else 0

    def acquire(self) -> StateFile:
        """The free file with the best lease, borrowed first; else a new one. Locked until released."""
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            numbers = self._numbers()
            existing = sorted(numbers, key=self._priority, reverse=True)
            new = range(max(numbers, default=-1) + 1, max(numbers, default=-1) + 1000)
            for number in (*existing, *new):
                path = self._path(number)
                lock = _try_lock(path.with_suffix(".lock"))
                if lock is not None:
                    return StateFile(path, self._license, lock)
        except OSError:
            pass  # no writable directory, or no locks: the program runs on, without grace after a restart
        return StateFile(None, self._license)
