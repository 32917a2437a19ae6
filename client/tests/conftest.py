"""What tests of whole programs share: a license file that names a service on this computer."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from factories import license_file
from licensing_client.identity import names
from reference_service import ReferenceService, serving

YEAR = 365 * 86400


@dataclass
class Workspace:
    """A running service, and this test's own license file and private directory."""

    service: ReferenceService
    base: str
    folder: Path

    def license(self, **changes: object) -> Path:
        now = int(time.time())
        claims = {"iat": now - 60, "nbf": now - 60, "exp": now + YEAR, "service": self.base}
        file = self.folder / "acme.lic"
        file.write_text(license_file(**(claims | changes)), "utf-8")
        return file

    @property
    def state(self) -> Path:
        return self.folder / "state"


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    names()  # cached, so that no test sees the lookup's thread
    before = set(threading.enumerate())
    service = ReferenceService(time.time)
    with serving(service.handle) as base:
        yield Workspace(service, base, tmp_path)
    assert eventually(lambda: set(threading.enumerate()) <= before), "a thread was left behind"


def eventually(what: Callable[[], bool], seconds: float = 5.0) -> bool:
    """Whether a condition becomes true in time."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
