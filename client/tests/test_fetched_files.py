"""Newer license files that the service sent are kept beside the private file, for all programs of one user."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from factories import ISSUER_KEY, STRANGER_KEY, license_claims, license_of, program, sign
from licensing_client.fetched_files import FetchedFiles, FetchedFilesStore
from simulation import without_locks

KEYS = program().keys()


def store(directory: Path, serial: int = 1) -> FetchedFilesStore:
    return FetchedFilesStore(license_of(serial=serial), KEYS, directory)


def serials(fetched: FetchedFiles) -> tuple[int | None, int | None]:
    return tuple(license and license.serial for license in (fetched.granted, fetched.pending))  # type: ignore[return-value]


def pending(serial: int) -> FetchedFiles:
    return FetchedFiles(pending=license_of(serial=serial))


def granted(serial: int) -> FetchedFiles:
    return FetchedFiles(granted=license_of(serial=serial))


def test_a_fetched_file_is_kept_for_the_next_run(tmp_path: Path) -> None:
    store(tmp_path / "new").keep(pending(2))
    assert serials(store(tmp_path / "new").read()) == (None, 2)


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX permissions")
def test_only_its_user_can_read_it(tmp_path: Path) -> None:
    store(tmp_path / "new").keep(pending(2))
    [file] = (tmp_path / "new").glob("*.json")
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("kept", "then"),
    [
        ([granted(2), pending(2)], (2, None)),  # granted is never unset
        ([pending(2), granted(2)], (2, None)),
        ([pending(3), pending(2)], (None, 3)),
        ([granted(3), granted(2)], (3, None)),
        ([granted(3), pending(2)], (3, None)),
        ([granted(2), pending(3)], (2, 3)),  # the former one stays, in case that the newer one is refused
        ([granted(2), pending(3), granted(3)], (3, None)),
    ],
)
def test_of_two_programs_the_highest_serial_wins(
    tmp_path: Path, kept: list[FetchedFiles], then: tuple[int | None, int | None]
) -> None:
    for fetched in kept:
        store(tmp_path).keep(fetched)
    assert serials(store(tmp_path).read()) == then


def test_a_given_file_that_is_as_new_counts_and_the_kept_one_is_removed(tmp_path: Path) -> None:
    store(tmp_path).keep(granted(2))
    store(tmp_path).keep(pending(3))
    store(tmp_path, 2).remove_older()
    assert serials(store(tmp_path).read()) == (None, 3)
    store(tmp_path, 3).remove_older()
    assert not list(tmp_path.glob("*.json"))


def test_a_kept_file_is_checked_each_time_that_it_is_read(tmp_path: Path) -> None:
    store(tmp_path).keep(pending(2))
    [file] = tmp_path.glob("*.json")
    claims = license_claims(serial=9)
    forged = sign("license+jwt", claims, STRANGER_KEY)
    foreign = sign("license+jwt", claims | {"organization": {"id": "other", "name": "Acme"}}, ISSUER_KEY)
    for token in (forged, foreign, "junk", None, 7):
        file.write_text(json.dumps({"format": 1, "granted": token, "pending": token}))
        assert store(tmp_path).read() == FetchedFiles()
        store(tmp_path).remove_older()
        assert file.exists()
    for junk in ("", "[]", '{"format": 2}', "{"):
        file.write_text(junk)
        assert store(tmp_path).read() == FetchedFiles()


def test_a_place_that_cannot_be_written_keeps_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    store(tmp_path).keep(pending(2))
    [file] = tmp_path.glob("*.json")
    file.unlink()
    file.mkdir()
    store(tmp_path).keep(pending(2))
    assert store(tmp_path).read() == FetchedFiles()


def test_a_disk_that_cannot_be_made_keeps_nothing_and_breaks_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store(tmp_path / "file" / "below").keep(pending(2))
    assert store(tmp_path / "file" / "below").read() == FetchedFiles()


def test_a_disk_without_locks_keeps_it_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_locks(monkeypatch)
    store(tmp_path).keep(pending(2))
    assert serials(store(tmp_path).read()) == (None, 2)


WRITER = """
import sys
from pathlib import Path
from factories import license_of, program
from licensing_client.fetched_files import FetchedFiles, FetchedFilesStore
store = FetchedFilesStore(license_of(), program().keys(), Path(sys.argv[1]))
for serial in range(int(sys.argv[2]), int(sys.argv[2]) + 40, 2):
    store.keep(FetchedFiles(license_of(serial=serial)))
"""


def test_several_processes_that_write_at_once_leave_the_newest(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(first)], env=environment) for first in (100, 101, 50, 51)]
    assert [writer.wait(60) for writer in writers] == [0] * 4
    assert serials(store(tmp_path).read()) == (139, None)
