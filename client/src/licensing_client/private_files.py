"""Where a user's private files lie, how they are written, and how programs lock them.

Files have mode 0600 and are replaced atomically; their directory has mode 0700.
"""

import contextlib
import errno
import functools
import hashlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

LOCK_SECONDS = 1.0
"""How long `locked` waits for another program."""
LOCK_PAUSE_SECONDS = 0.02
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


def license_stem(license_id: str) -> str:
    """What the names of a license's files begin with. It does not tell the license."""
    return hashlib.sha256(license_id.encode()).hexdigest()[:16]


def write_private(path: Path, text: str) -> None:
    """Replace a file atomically, with mode 0600. One program at a time may do so.

    Raises OSError where the disk is full or read-only.
    """
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)  # left by a crash
    file = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as out:
        out.write(text)
    os.replace(temporary, path)


NO_LOCKS = "no-locks"


def try_lock(path: Path) -> int | str | None:
    """An open file that this process has locked; None if another process has; `NO_LOCKS` where there are none.

    Raises OSError where it cannot be opened.
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
        return NO_LOCKS
    return file


def _unlock(file: int) -> None:
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file, msvcrt.LK_UNLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_UN)


def release_lock(file: int) -> None:
    """Free a lock, even if a forked child still has the file open, and close the file."""
    with contextlib.suppress(OSError):
        _unlock(file)
    os.close(file)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file during the block. Where the disk has no locks, the block runs without.

    Raises OSError where the file cannot be opened, or another program has it for longer than `LOCK_SECONDS`.
    """
    give_up_at = time.monotonic() + LOCK_SECONDS
    while (lock := try_lock(path)) is None:
        if time.monotonic() > give_up_at:
            raise TimeoutError(errno.ETIMEDOUT, "another program holds the lock")
        time.sleep(LOCK_PAUSE_SECONDS)
    try:
        yield
    finally:
        if isinstance(lock, int):
            release_lock(lock)
