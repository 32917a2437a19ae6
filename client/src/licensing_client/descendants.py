"""What a command leaves running when it ends, as a launcher does.

- Linux: this process becomes the subreaper of what it starts. Processes whose parent has ended become its children.
- Windows: this process joins a job object, and all that it starts is in the job. (This part was never run.)
- Elsewhere, and where the system refuses the above, it cannot be known for certain. The command inherits a pipe: while
  a process has it open, something runs. A process that closes inherited files is not seen.

What a service starts on request (systemd, launchd, D-Bus, COM) descends from that service, and is not seen either.
"""

import contextlib
import ctypes
import os
import select
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol


class Descendants(Protocol):
    """The processes that a command has started, and theirs, and so on."""

    inherited: Sequence[int]
    """Files that the command has to inherit."""

    def running(self, command: "subprocess.Popen[bytes]") -> bool:
        """Whether any is known to run. The command itself may count. To be called from time to time."""

    def left_behind(self) -> bool:
        """After the command has ended: whether something seems to run on that `running` does not know."""

    def pids(self) -> list[int]:
        """Those to send signals to, once the command has ended."""

    def started(self) -> None:
        """The command has been started."""

    def close(self) -> None:
        """Stop looking."""


class Unknown:
    """Nothing is known of descendants: when the command has ended, all is over."""

    inherited: Sequence[int] = ()

    def running(self, command: "subprocess.Popen[bytes]") -> bool:
        return False

    def left_behind(self) -> bool:
        return False

    def pids(self) -> list[int]:
        return []

    def started(self) -> None:
        pass

    def close(self) -> None:
        pass


if sys.platform == "win32":
    from ctypes import wintypes

    PROCESS_ID_LIST = 3
    MOST_PROCESSES = 1024

    class _ProcessIds(ctypes.Structure):
        """JOBOBJECT_BASIC_PROCESS_ID_LIST."""

        _fields_ = (
            ("assigned", wintypes.DWORD),
            ("listed", wintypes.DWORD),
            ("ids", ctypes.c_size_t * MOST_PROCESSES),
        )

    class Job(Unknown):
        """A job object that this process and all that it starts is in."""

        def __init__(self) -> None:
            """Join a new job object.

            Raises OSError where the system refuses, as Windows 7 does within another job.
            """
            self._kernel32 = kernel32 = ctypes.WinDLL("kernel32", use_last_error=True)
            kernel32.CreateJobObjectW.restype = wintypes.HANDLE
            kernel32.CreateJobObjectW.argtypes = (ctypes.c_void_p, wintypes.LPCWSTR)
            kernel32.GetCurrentProcess.restype = wintypes.HANDLE
            kernel32.AssignProcessToJobObject.argtypes = (wintypes.HANDLE, wintypes.HANDLE)
            kernel32.QueryInformationJobObject.argtypes = (
                wintypes.HANDLE,
                ctypes.c_int,
                ctypes.c_void_p,
                wintypes.DWORD,
                ctypes.c_void_p,
            )
            kernel32.CloseHandle.argtypes = (wintypes.HANDLE,)
            self._job = kernel32.CreateJobObjectW(None, None)
            if not self._job:
                raise ctypes.WinError(ctypes.get_last_error())
            if not kernel32.AssignProcessToJobObject(self._job, kernel32.GetCurrentProcess()):
                error = ctypes.get_last_error()
                self.close()
                raise ctypes.WinError(error)

        def running(self, command: "subprocess.Popen[bytes]") -> bool:
            return bool(self.pids())

        def pids(self) -> list[int]:
            found = _ProcessIds()
            # It fails if there are more than fit; those that fit are there all the same.
            self._kernel32.QueryInformationJobObject(
                self._job, PROCESS_ID_LIST, ctypes.byref(found), ctypes.sizeof(found), None
            )
            return [pid for pid in found.ids[: found.listed] if pid != os.getpid()]

        def close(self) -> None:
            self._kernel32.CloseHandle(self._job)

    def descendants() -> Descendants:
        """What can be known of descendants on this system."""
        try:
            return Job()
        except OSError:
            return Unknown()

else:

    class InheritedPipe(Unknown):
        """A pipe that the command inherits. As long as it is open, something runs that has inherited it."""

        def __init__(self) -> None:
            self._read_end, self._write_end = os.pipe()
            self.inherited = (self._write_end,)

        def started(self) -> None:
            os.close(self._write_end)
            self.inherited = ()

        def left_behind(self) -> bool:
            return not select.select([self._read_end], [], [], 0)[0]

        def close(self) -> None:
            for end in (self._read_end, *self.inherited):
                os.close(end)

    if sys.platform == "linux":
        PR_SET_CHILD_SUBREAPER = 36

        class Subreaper(Unknown):
            """Orphans become children of this process."""

            def __init__(self) -> None:
                """Become a subreaper.

                Raises OSError where that cannot be, or where this process has children already.
                """
                with contextlib.suppress(ChildProcessError):
                    os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    raise OSError("there are children from before, and nothing distinguishes new ones from them")
                os.stat("/proc/self/stat")
                self._become_subreaper(True)

            @staticmethod
            def _become_subreaper(become: bool) -> None:
                prctl = getattr(ctypes.CDLL(None), "prctl", None)
                if prctl is None or prctl(PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(become), 0, 0, 0) != 0:
                    raise OSError("the system has no subreapers")

            def running(self, command: "subprocess.Popen[bytes]") -> bool:
                """As promised; those that have ended are reaped."""
                while True:
                    try:
                        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                    except ChildProcessError:
                        return False
                    if ended is None:
                        return True
                    if ended.si_pid == command.pid and command.returncode is None:
                        command.poll()  # keeps its exit code
                    else:
                        os.waitpid(ended.si_pid, 0)

            def pids(self) -> list[int]:
                """The children of this process; theirs become its own as soon as these have ended."""
                return [pid for pid in _all_pids() if _parent(pid) == os.getpid()]

            def close(self) -> None:
                self._become_subreaper(False)

        def _all_pids() -> list[int]:
            return [int(entry) for entry in os.listdir("/proc") if entry.isdecimal()]

        def _parent(pid: int) -> int | None:
            """The parent of a process; None if the process has ended."""
            try:
                after_name = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2]
            except OSError:
                return None
            return int(after_name.split()[1])

        def descendants() -> Descendants:
            """What can be known of descendants on this system."""
            try:
                return Subreaper()
            except OSError:
                return InheritedPipe()

    else:

        def descendants() -> Descendants:
            """What can be known of descendants on this system."""
            return InheritedPipe()
