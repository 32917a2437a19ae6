"""The client's cost to a program: `python client/tests/benchmark.py`. Milliseconds, the best of many runs."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from factories import license_file, program
from licensing_client import Seat
from licensing_client.identity import names
from reference_service import ReferenceService, serving

RUNS = 20


def best(run: "list[float]") -> float:
    """The shortest of some times in seconds, as milliseconds."""
    return min(run) * 1000


def interpreter(code: str) -> float:
    """Seconds that an interpreter takes for some code."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - begun


def imports(what: str) -> float:
    """Milliseconds that an import adds to an interpreter's start."""
    bare = best([interpreter("pass") for _ in range(RUNS)])
    return best([interpreter(f"import {what}") for _ in range(RUNS)]) - bare


def starts() -> tuple[float, float]:
    """Milliseconds of a start and of a close, against a service on this machine."""
    service = ReferenceService(time.time)
    taken: list[float] = []
    given: list[float] = []
    now = int(time.time())
    names()  # cached, since a resolver may be slow
    with tempfile.TemporaryDirectory() as folder, serving(service.handle) as base:
        file = Path(folder) / "acme.lic"
        file.write_text(license_file(service=base, nbf=now - 60, exp=now + 3600), "utf-8")
        for _ in range(RUNS):
            seat = Seat(program(), file, state_directory=Path(folder) / "state")
            begun = time.perf_counter()
            assert seat.start().running
            taken.append(time.perf_counter() - begun)
            begun = time.perf_counter()
            seat.close()
            given.append(time.perf_counter() - begun)
    return best(taken), best(given)


if __name__ == "__main__":
    print(f"import ssl, http.client   {imports('ssl, http.client'):6.1f} ms")
    print(f"import licensing_client   {imports('licensing_client'):6.1f} ms")
    started, closed = starts()
    print(f"start                     {started:6.1f} ms")
    print(f"close                     {closed:6.1f} ms")
