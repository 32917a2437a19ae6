"""The vendor's books: what is issued is noted whole, never twice under one id and serial, and delivered or kept."""

import errno
import json
import os
import re
import shlex
import sqlite3
import stat
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from licensing.cli import books, files
from licensing.cli.home import Home, local_storage
from licensing.cli.license_words import changes
from licensing.cli.processes import free_port
from licensing.crypto.keys import new_private_jwk, public_jwk
from licensing.crypto.tokens import license_text
from licensing.errors import SettingsError
from licensing.rules.license import License
from tests.cli.conftest import Licensing, Said
from tests.cli.issuing import ROOT, noted, race
from tests.cli.test_license_command import HOST, OPTIONS, USER, claims_of

ACME = ("--organization", "acme", "--organization-name", "Acme Water Oy", "--product", "Fluidit Water")
UNTIL = ("--until", "2099-12-31")


def issue(licensing: Licensing, *options: str, code: int = 0) -> Said:
    """Issue a license to acme; its file goes to standard output."""
    said = licensing("license", "issue", *ACME, *UNTIL, *options)
    assert said.code == code, said.err
    return said


def renew(licensing: Licensing, *options: str, code: int = 0) -> Said:
    said = licensing("license", "renew", *options)
    assert said.code == code, said.err
    return said


def said_in_file(said: Said) -> dict[str, Any]:
    """The claims of the file that a command printed."""
    Path("said.lic").write_text(said.out, encoding="utf-8")
    return claims_of(Path("said.lic"))


# What is noted.


def test_a_file_is_noted_whole_in_books_that_only_their_owner_reads(made: Path, licensing: Licensing) -> None:
    said = issue(licensing, "--seats", "5")
    (file,) = noted(made)
    claims = said_in_file(said)
    assert (file.license_id, file.serial, file.jws) == (claims["sub"], claims["serial"], license_text(said.out))
    assert (file.organization_id, file.product, file.kind) == ("acme", "Fluidit Water", "floating")
    assert file.valid_until == datetime(2100, 1, 1, tzinfo=UTC)
    assert file.issuer_kid == Home(made).issuer_keys().kid
    assert file.lease_kids == {key["kid"] for key in Home(made).lease_keys()["keys"]}
    assert file.issued_at == datetime.fromtimestamp(claims["iat"], UTC)
    assert stat.S_IMODE((made / "books.sqlite").stat().st_mode) == 0o600


def test_the_books_are_private_from_the_first_byte_on(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    connect: Any = sqlite3.connect

    def connected(file: Path, **options: Any) -> Any:
        seen.append((stat.S_IMODE(file.stat().st_mode), file.stat().st_size))
        return connect(file, **options)

    monkeypatch.setattr(sqlite3, "connect", connected)
    old = os.umask(0)
    try:
        with Home(made).changing():
            pass
    finally:
        os.umask(old)
    assert seen == [(0o600, 0)]


def test_an_id_names_customer_and_product_and_ends_at_random(made: Path, licensing: Licensing) -> None:
    ids = {said_in_file(issue(licensing))["sub"] for _ in range(3)}
    assert len(ids) == 3
    assert all(re.fullmatch(r"acme-fluidit-water-[a-z0-9]{8}", id) for id in ids)
    for organization in ("o" * 30, "o" * 64):
        id = said_in_file(issue(licensing, "--organization", organization, "--product", "P" * 60))["sub"]
        assert re.fullmatch(r"o{30,55}(-p+)?-[a-z0-9]{8}", id)
        assert len(id) <= 64


def test_a_serial_is_the_next_one_and_at_least_the_time(made: Path, licensing: Licensing) -> None:
    before = int(datetime.now(UTC).timestamp())
    first = said_in_file(issue(licensing, "--id", "acme-1"))
    second = said_in_file(issue(licensing, "--id", "acme-1", "--seats", "2", "--yes"))
    assert before <= first["serial"] < second["serial"]
    far = before + 10_000_000
    issue(licensing, "--id", "acme-1", "--seats", "3", "--serial", str(far), "--yes")
    assert said_in_file(issue(licensing, "--id", "acme-1", "--seats", "4", "--yes"))["serial"] == far + 1
    other = said_in_file(issue(licensing))
    assert before <= other["serial"] < far


@pytest.mark.parametrize("known", [True, False], ids=["known customer", "new customers"])
def test_two_at_the_same_instant_never_share_an_id_or_a_serial(made: Path, licensing: Licensing, known: bool) -> None:
    rounds = 50 if known else 10
    organization = "acme" if known else "new-{}"
    words = (
        "license",
        "issue",
        *UNTIL,
        "--organization",
        organization,
        "--organization-name",
        "Acme",
        "--product",
        "P",
    )

    codes = race(made, rounds, [(*words, *UNTIL)] * 2)

    assert codes == [[0, 0]] * rounds
    every = noted(made)
    assert len(every) == len({file.license_id for file in every}) == len({file.serial for file in every}) == 2 * rounds
    salts = {(file.organization_id, file.license.salt) for file in every if file.license}
    assert len(salts) == (1 if known else rounds)
    assert dict(salts) == {id: customer.salt for id in dict(salts) if (customer := Home(made).customer(id))}


def test_two_at_the_same_instant_change_a_license_one_after_the_other(made: Path, licensing: Licensing) -> None:
    issue(licensing, "--id", "acme-1")
    words = ("license", "renew", "acme-1", *UNTIL, "--project")

    codes = race(made, 15, [(*words, "one {}"), (*words, "two {}")])

    assert Counter(code for both in codes for code in both)[0] >= 15
    assert all(0 in both for both in codes)
    with sqlite3.connect(made / "books.sqlite") as connection:
        (files, serials) = connection.execute("SELECT COUNT(*), COUNT(DISTINCT serial) FROM files").fetchone()
    connection.close()
    assert files == serials == 1 + sum(not code for both in codes for code in both)


def test_two_rotations_at_the_same_instant_lose_no_key(made: Path, azurite: str) -> None:
    words = ("keys", "rotate", "issuer")
    assert race(made, 5, [words, words], LICENSING_STORAGE=azurite) == [[0, 0]] * 5
    assert len(Home(made).issuer_jwks()) == 11


def test_a_command_that_waits_too_long_for_another_says_so(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(books, "LOCK_SECONDS", 0.2)
    with Home(made).changing():
        said = issue(licensing, code=1)
    assert "another command has been changing .local" in said.err
    assert said.out == ""


def test_an_error_undoes_what_was_noted(made: Path, licensing: Licensing) -> None:
    issue(licensing)
    (file,) = noted(made)

    def fails() -> None:
        with Home(made).changing() as open_books:
            open_books.note(replace(file, serial=file.serial + 1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert noted(made) == [file]


def test_books_that_cannot_be_read_are_named(made: Path, licensing: Licensing) -> None:
    (made / "books.sqlite").write_text("not a database, and long enough to be looked at" * 9, encoding="utf-8")
    assert "books.sqlite cannot be read" in issue(licensing, code=1).err


def test_books_of_a_newer_version_are_left_alone(made: Path, licensing: Licensing) -> None:
    issue(licensing)
    connection = sqlite3.connect(made / "books.sqlite")
    connection.execute("PRAGMA user_version = 9")
    connection.close()
    assert "newer version" in issue(licensing, code=1).err


def test_what_a_killed_command_left_half_written_is_deleted(made: Path) -> None:
    script = (
        "import os, pathlib, sys\n"
        "from licensing.cli.home import Home\n"
        "pathlib.Path.replace = lambda *_: os._exit(9)\n"
        "home = Home(pathlib.Path(sys.argv[1]))\n"
        "home.save_issuer_jwks(home.issuer_jwks())\n"
    )
    before = all_bytes(made)
    killed = subprocess.run([sys.executable, "-c", script, str(made.absolute())], cwd=ROOT, check=False)
    assert killed.returncode == 9
    assert len(list(made.glob(".*"))) == 1
    with Home(made).changing():
        assert all_bytes(made).keys() - {"books.sqlite", "books.sqlite-journal"} == before.keys()


@pytest.mark.parametrize("content", ["[]", '{"acme": {"name": "Acme"}}', '{"acme": 1}', '{"acme": {}}'])
def test_damaged_customers_are_named_and_get_no_other_salt(made: Path, licensing: Licensing, content: str) -> None:
    (made / "organizations.json").write_text(content, encoding="utf-8")
    assert "organizations.json in .local is damaged" in issue(licensing, code=1).err
    assert (made / "organizations.json").read_text(encoding="utf-8") == content


# What was issued before the books.

OLD = {
    "acme-1": {
        "serial": 7,
        "until": "2098-01-01T00:00:00+00:00",
        "issuer_key": "old-key",
        "lease_keys": ["k1"],
        "organization": "acme",
        "kind": "floating",
    },
    "first-1": {"serial": 1, "until": "2020-01-01T00:00:00+00:00", "issuer_key": "old-key", "lease_keys": []},
}


def test_entries_from_before_the_books_stay_known(made: Path, licensing: Licensing) -> None:
    (made / "licenses.json").write_text(json.dumps(OLD), encoding="utf-8")
    by_id = {file.license_id: file for file in noted(made)}
    assert by_id.keys() == OLD.keys()
    old = by_id["acme-1"]
    assert (old.serial, old.jws, old.organization_id, old.kind) == (7, None, "acme", "floating")
    assert (old.issuer_kid, [*old.lease_kids], old.valid_until) == ("old-key", ["k1"], datetime(2098, 1, 1, tzinfo=UTC))
    assert (made / "licenses.json").exists()  # a question changes nothing

    assert (
        "a floating license"
        in issue(licensing, "--id", "acme-1", "--kind", "named-user", "--user", USER, "--yes", code=2).err
    )
    said = issue(licensing, "--id", "acme-1", code=1)
    assert "issued before the books began" in said.err
    assert said_in_file(issue(licensing, "--id", "acme-1", "--yes"))["serial"] > 7
    assert not (made / "licenses.json").exists()
    assert {file.license_id for file in noted(made)} == OLD.keys()


@pytest.mark.parametrize(
    "content", ["[1]", '{"a": 1}', '{"a": {"serial": 1}}', json.dumps({"a": {**OLD["acme-1"], "until": "soon"}})]
)
def test_damaged_entries_from_before_the_books_are_named_and_kept(
    made: Path, licensing: Licensing, content: str
) -> None:
    (made / "licenses.json").write_text(content, encoding="utf-8")
    assert "licenses.json in .local is damaged" in licensing("license", "issued").err
    assert "licenses.json in .local is damaged" in issue(licensing, code=1).err
    assert (made / "licenses.json").read_text(encoding="utf-8") == content


def test_entries_that_another_command_takes_over_meanwhile_are_no_error(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch
) -> None:
    (made / "licenses.json").write_text(json.dumps(OLD), encoding="utf-8")
    read_text = Path.read_text

    def taken_over_meanwhile(file: Path, **options: Any) -> str:
        if file.name == "licenses.json":
            monkeypatch.setattr(Path, "read_text", read_text)
            with Home(made).changing():
                pass
        return read_text(file, **options)

    monkeypatch.setattr(Path, "read_text", taken_over_meanwhile)
    assert {file.license_id for file in noted(made)} == OLD.keys()


# What only reads.


def all_bytes(home: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in home.iterdir()}


@pytest.mark.parametrize("begun", [True, False], ids=["with books", "from before the books"])
def test_a_question_changes_no_byte_of_the_home(made: Path, licensing: Licensing, begun: bool) -> None:
    if begun:
        issue(licensing, "--id", "acme-1")
    else:
        (made / "licenses.json").write_text(json.dumps(OLD), encoding="utf-8")
    Path("orders.csv").write_text(
        "organization,organization-name,product,until\nnew,New,Pro,2099-12-31\n", encoding="utf-8"
    )
    before = all_bytes(made)
    assert licensing("license", "issue", "--from", "orders.csv", "--dry-run").code == 0
    assert "acme-1" in licensing("license", "issued").out
    assert licensing("keys", "show").code == 0
    issue(licensing, "--id", "acme-1", "--seats", "9", code=1)
    renew(licensing, "nobody-1", *UNTIL, code=1)
    assert all_bytes(made) == before


def test_a_home_that_cannot_be_written_is_read_and_named(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(licensing, "--id", "acme-1")
    really_open = os.open

    def read_only(file: Any, flags: int, *more: Any) -> int:
        if flags & os.O_RDWR and Path(file).name == "books.sqlite":
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(file))
        return really_open(file, flags, *more)

    monkeypatch.setattr(os, "open", read_only)
    assert "acme-1" in licensing("license", "issued").out
    assert "books.sqlite cannot be written: Read-only file system" in issue(licensing, code=1).err


def test_a_file_of_the_home_for_which_there_is_no_space_is_named(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "replace", full)
    assert "organizations.json in .local cannot be written: No space left" in issue(licensing, code=1).err
    assert noted(made) == []


def test_questions_are_answered_while_another_command_changes_the_home(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(licensing, "--id", "acme-1")
    monkeypatch.setattr(books, "LOCK_SECONDS", 0.2)
    with Home(made).changing():
        assert "acme-1" in licensing("license", "issued").out


@pytest.mark.parametrize("command", ["license issued", "license renew acme-1 --until 2099-12-31", "keys rotate issuer"])
def test_a_folder_that_is_no_home_stays_as_it_is(licensing: Licensing, command: str) -> None:
    Path("other").mkdir()
    said = licensing("--home", "other", *command.split())
    assert (said.code, "licensing init" in said.err) == (1, True)
    assert list(Path("other").iterdir()) == []


def test_a_file_from_before_the_books_is_renewed_with_its_file(made: Path, licensing: Licensing) -> None:
    said = issue(licensing, "--id", "acme-1", "--seats", "5")
    Path("old.lic").write_text(said.out, encoding="utf-8")
    entry = {**OLD["acme-1"], "serial": said_in_file(said)["serial"]}
    (made / "books.sqlite").unlink()
    (made / "licenses.json").write_text(json.dumps({"acme-1": entry}), encoding="utf-8")

    assert "--file" in renew(licensing, "acme-1", "--until", "2098-12-31", code=1).err
    renewed = said_in_file(renew(licensing, "acme-1", "--until", "2098-12-31", "--file", "old.lic"))
    assert (renewed["seats"], renewed["serial"] > entry["serial"]) == (5, True)
    assert "newer file" in renew(licensing, "acme-1", "--until", "2097-12-31", "--file", "old.lic", code=1).err
    assert "another license" in renew(licensing, "acme-2", "--until", "2097-12-31", "--file", "old.lic", code=1).err


# Files.


def test_an_existing_file_is_not_overwritten_and_nothing_is_noted(made: Path, licensing: Licensing) -> None:
    Path("acme.lic").write_text("precious", encoding="utf-8")
    said = issue(licensing, "--out", "acme.lic", code=1)
    assert "acme.lic exists" in said.err
    assert "--force" in said.err
    assert Path("acme.lic").read_text(encoding="utf-8") == "precious"
    assert noted(made) == []
    issue(licensing, "--out", "acme.lic", "--force")
    assert claims_of(Path("acme.lic"))["sub"] == noted(made)[0].license_id


def test_a_file_that_appears_meanwhile_is_not_overwritten_either(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = os.link

    def appears(source: Path, target: Path) -> None:
        target.write_text("precious", encoding="utf-8")
        link(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "link", appears)
        said = issue(licensing, "--id", "acme-1", "--out", "acme.lic", code=1)
    assert "acme.lic exists and was not overwritten" in said.err
    assert Path("acme.lic").read_text(encoding="utf-8") == "precious"
    assert sorted(file.name for file in Path().iterdir()) == [".local", "acme.lic"]
    assert license_text(issue(licensing, "--id", "acme-1").out) == noted(made)[0].jws


def test_where_the_file_system_knows_no_links_nothing_is_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Path) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuses)
    file = tmp_path / "a.lic"
    files.write_whole(file, "first", overwrite=False)
    with pytest.raises(FileExistsError):
        files.write_whole(file, "second", overwrite=False)
    assert [each.read_text(encoding="utf-8") for each in tmp_path.iterdir()] == ["first"]


@pytest.mark.parametrize("out_file", [".", "folder", "no-folder/acme.lic", f"{'n' * 250}.lic"])
@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_noted(
    made: Path, licensing: Licensing, out_file: str, force: tuple[str, ...]
) -> None:
    Path("folder").mkdir()
    said = issue(licensing, "--out", out_file, *force, code=1)
    assert f"Nothing was issued: {out_file} cannot be written" in said.err
    assert noted(made) == []
    assert sorted(file.name for file in Path().iterdir()) == [".local", "folder"]


def in_a_shell(made: Path, ending: str) -> subprocess.CompletedProcess[str]:
    """Issue a license as a shell does it, with the end of the line."""
    words = shlex.join([sys.executable, "-m", "licensing", "--home", str(made), "license", "issue", *ACME, *UNTIL])
    paths = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(  # noqa: S602 - ours
        f"{words} {ending}", shell=True, text=True, env=paths, capture_output=True, check=False
    )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a system without these devices")
def test_standard_output_may_be_named_and_may_be_full(made: Path) -> None:
    done = in_a_shell(made, "--out /dev/stdout")
    (file,) = noted(made)
    assert (done.returncode, license_text(done.stdout)) == (0, file.jws)
    full = in_a_shell(made, "> /dev/full")
    assert full.returncode == 1
    assert "Standard output cannot be written: No space left on device" in full.stderr
    assert "the same command with --id acme-fluidit-water-" in full.stderr
    assert "Traceback" not in full.stderr


def test_after_a_crash_before_the_delivery_the_same_command_delivers_the_same_file(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(files, "_move_to_free_name", full)
        said = issue(licensing, "--seats", "5", "--out", "acme.lic", code=1)
        (file,) = noted(made)
        assert "acme.lic cannot be written: No space left on device" in said.err
        assert f"the same command with --id {file.license_id} writes it" in said.err
        said = issue(licensing, "--id", file.license_id, "--seats", "5", "--out", "acme.lic", code=1)
        assert "the same command writes it" in said.err
    again = issue(licensing, "--id", file.license_id, "--seats", "5", "--out", "acme.lic")
    assert license_text(Path("acme.lic").read_text(encoding="utf-8")) == file.jws
    assert f"its file with serial {file.serial} again" in again.err
    assert noted(made) == [file]
    assert issue(licensing, "--id", file.license_id, "--seats", "5", "--out", "acme.lic").code == 0


@pytest.mark.parametrize("content", [b"\xff\xfe", b"other"], ids=["not text", "another text"])
def test_the_same_file_again_does_not_overwrite_something_else(
    made: Path, licensing: Licensing, content: bytes
) -> None:
    issue(licensing, "--id", "acme-1")
    Path("acme.lic").write_bytes(content)
    assert "Nothing was issued: acme.lic exists" in issue(licensing, "--id", "acme-1", "--out", "acme.lic", code=1).err
    assert Path("acme.lic").read_bytes() == content


@pytest.fixture
def stored(azurite: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store for the audit, without which no key is changed."""
    monkeypatch.setenv("LICENSING_STORAGE", azurite)


@pytest.mark.usefixtures("stored")
def test_with_a_new_issuer_key_the_same_license_is_signed_anew(made: Path, licensing: Licensing) -> None:
    first = said_in_file(issue(licensing, "--id", "acme-1"))
    assert licensing("keys", "rotate", "issuer").code == 0
    second = said_in_file(issue(licensing, "--id", "acme-1"))
    assert second["serial"] > first["serial"]
    assert noted(made)[0].issuer_kid == Home(made).issuer_keys().kid


# What changes.


def test_a_license_that_exists_is_not_changed_without_a_word(made: Path, licensing: Licensing) -> None:
    issue(licensing, "--id", "acme-1", "--seats", "5", "--borrow", "604800")
    before = noted(made)
    said = issue(licensing, "--id", "acme-1", "--until", "2098-12-31", "--out", "acme.lic", code=1)
    assert "acme-1 changes: seats 5 → 1, until 2099-12-31 → 2098-12-31, borrowing 7 days → none." in said.err
    assert "--yes" in said.err
    assert (noted(made), Path("acme.lic").exists()) == (before, False)
    assert said_in_file(issue(licensing, "--id", "acme-1", "--yes"))["seats"] == 1


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("yes\n", 0), ("\n", 1), ("n\n", 1), ("", 1)])
@pytest.mark.parametrize("command", ["issue", "renew"])
def test_on_a_terminal_it_asks(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch, typed: str, code: int, command: str
) -> None:
    issue(licensing, "--id", "acme-1", "--seats", "5")

    class Terminal:
        def isatty(self) -> bool:
            return True

        def readline(self) -> str:
            return typed

    monkeypatch.setattr(sys, "stdin", Terminal())
    if command == "issue":
        said = issue(licensing, "--id", "acme-1", "--seats", "6", code=code)
    else:
        said = renew(licensing, "acme-1", *UNTIL, "--seats", "6", code=code)
    assert "seats 5 → 6" in said.err
    assert bool(said.out) is (code == 0)
    assert ("Nothing was issued." in said.err) is (code == 1)
    license = noted(made)[0].license
    assert license
    assert license.seats == (6 if code == 0 else 5)


def test_without_any_input_nobody_is_asked(made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch) -> None:
    issue(licensing, "--id", "acme-1", "--seats", "5")
    monkeypatch.setattr(sys, "stdin", None)  # as Python has it where a shell closed it
    assert "--yes issues it all the same" in issue(licensing, "--id", "acme-1", code=1).err
    Path("orders.csv").write_text("organization,product,until,id\nacme,Pro,2099-12-31,acme-1\n", encoding="utf-8")
    assert "--yes issues all" in licensing("license", "issue", "--from", "orders.csv").err
    assert renew(licensing, "acme-1", "--until", "2098-12-31").code == 0


def test_every_term_that_changes_is_said(made: Path, licensing: Licensing) -> None:
    before = License.model_validate(said_in_file(issue(licensing, "--id", "acme-1")))
    unsaid = {"id", "serial", "issued_at", "organization", "kind", "salt", "lease_keys"}
    """What a newer file keeps, or what is new in each; of the customer only the name can change."""
    words = {"users": [USER], "hosts": [HOST], "networks": ["10.0.0.0/8"], "sharing": "user", "billing": "time"}
    for name, field in License.model_fields.items():
        if name in unsaid:
            continue
        value = before.claims().get(field.alias or name)
        other: Any = words.get(name)
        if other is None:
            other = (not value) if isinstance(value, bool) or name == "trial" else None
        if other is None and (value is None or isinstance(value, int)):
            other = "Harbour" if name == "project" else (value or 100) - 1
        if other is None:
            other = ["quality"] if isinstance(value, list) else f"{value}2"
        after = before.model_copy(
            update={
                name: getattr(
                    License.model_validate({**before.claims(), **_consistent(name, field.alias, other)}), name
                )
            }
        )
        assert len(changes(before, after)) == 1, name
    renamed = before.organization.model_copy(update={"name": "Acme Oyj"})
    assert changes(before, before.model_copy(update={"organization": renamed})) == [
        "name of the customer Acme Water Oy → Acme Oyj"
    ]
    assert changes(before, before.model_copy(update={"serial": 1, "salt": "x"})) == []


def _consistent(name: str, alias: str | None, value: object) -> dict[str, object]:
    """A claim, with others without which it would contradict them."""
    return {alias or name: value, **({"kind": "named-user", "users": [USER]} if name == "collect" else {})}


def test_what_was_shown_is_signed_or_nothing(made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch) -> None:
    issue(licensing, "--id", "acme-1")

    def changed_meanwhile(*_: object) -> None:
        with Home(made).changing() as opened:
            (file,) = opened.newest()
            opened.note(replace(file, serial=file.serial + 1))

    monkeypatch.setattr("licensing.cli.issue._confirm", changed_meanwhile)
    said = renew(licensing, "acme-1", *UNTIL, "--seats", "9", code=1)
    assert "meanwhile another command has changed acme-1" in said.err
    assert said.out == ""
    license = noted(made)[0].license
    assert license
    assert license.seats == 1


@pytest.mark.parametrize("serial", ["1", "41", "42"])
def test_a_serial_that_programs_would_not_take_is_refused(made: Path, licensing: Licensing, serial: str) -> None:
    issue(licensing, "--id", "acme-1", "--serial", "42")
    said = issue(licensing, "--id", "acme-1", "--serial", serial, "--seats", "9", "--yes", code=1)
    assert "serial 42" in said.err
    assert "Leave the serial out" in said.err
    assert [file.serial for file in noted(made)] == [42]


def test_a_license_with_the_highest_serial_has_no_next_file(made: Path, licensing: Licensing) -> None:
    issue(licensing, "--id", "acme-1", "--serial", str(2**53 - 1))
    assert renew(licensing, "acme-1", "--until", "2098-12-31").code == 0
    for said in (
        renew(licensing, "acme-1", "--until", "2097-12-31", code=1),
        issue(licensing, "--id", "acme-1", "--seats", "2", "--yes", code=1),
    ):
        assert "acme-1 has the highest serial that there is" in said.err
    assert renew(licensing, "acme-1", "--until", "2098-12-31").code == 0  # its file again
    assert issue(licensing, "--id", "acme-2").code == 0


def test_another_name_of_a_customer_is_refused_unless_it_is_meant(made: Path, licensing: Licensing) -> None:
    issue(licensing, "--id", "acme-1")
    said = issue(licensing, "--organization-name", "Acme Oyj", code=1)
    assert "known by another name, Acme Water Oy" in said.err
    assert "--rename" in said.err
    assert len(noted(made)) == 1
    issue(licensing, "--organization-name", "Acme Oyj", "--rename")
    customer = Home(made).customer("acme")
    assert customer
    assert customer.name == "Acme Oyj"
    assert "Acme Water Oy → Acme Oyj" in renew(licensing, "acme-1", *UNTIL).err


# Renewals.


def test_a_salt_on_the_command_line_is_warned_of_and_not_repeated(made: Path, licensing: Licensing) -> None:
    salt = "s" * 43
    said = issue(licensing, "--salt", salt)
    assert "A salt on the command line can be seen by others" in said.err
    assert salt not in said.err
    assert "can be seen" not in issue(licensing).err


def test_keys_and_salts_are_on_the_disk_before_they_replace_older_ones(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace_file = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        fsync(descriptor)
        events.append("synced")

    def replaced(file: Path, target: Path) -> Path:
        events.append(target.name)
        return replace_file(file, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    issue(licensing)
    assert events == ["synced", "organizations.json"]


def test_white_space_around_a_customers_name_is_no_part_of_it(made: Path, licensing: Licensing) -> None:
    issue(licensing, "--organization-name", " Acme Water Oy ")
    assert '"Acme Water Oy"' in (made / "organizations.json").read_text(encoding="utf-8")
    issue(licensing, "--organization-name", "Acme Water Oy")
    issue(licensing, "--organization-name", "Acme Water Oy ")


@pytest.mark.parametrize("option", ["--organization", "--id", "--product", "--user", "--host"])
def test_bytes_that_are_no_text_are_wrong_usage(made: Path, licensing: Licensing, option: str) -> None:
    assert option in issue(licensing, option, os.fsdecode(b"a\xff"), code=2).err
    assert "There is no such license" in renew(licensing, os.fsdecode(b"a\xff"), *UNTIL, code=1).err


def test_a_renewal_carries_all_other_claims_over(made: Path, licensing: Licensing) -> None:
    apart = {"collect", "trial", "sub", "kind", "serial", "oldest"}
    every = [word for name, (words, _) in OPTIONS.items() for word in words if name not in apart]
    before = said_in_file(issue(licensing, "--id", "acme-1", *every))
    said = renew(licensing, "acme-1", "--until", "2100-12-31", "--seats", "50")
    after = said_in_file(said)
    assert "until 2098-12-31 → 2100-12-31" in said.err
    assert "seats 25 → 50" in said.err
    assert after == {
        **before,
        "exp": int(datetime(2101, 1, 1, tzinfo=UTC).timestamp()),
        "seats": 50,
        "serial": after["serial"],
        "iat": after["iat"],
    }
    assert after["serial"] > before["serial"]


@pytest.mark.usefixtures("stored")
def test_a_renewal_names_the_homes_lease_keys_of_today(made: Path, licensing: Licensing) -> None:
    before = said_in_file(issue(licensing, "--id", "acme-1"))
    assert licensing("keys", "rotate", "lease").code == 0
    after = said_in_file(renew(licensing, "acme-1", *UNTIL))
    assert after["lease_keys"] == Home(made).lease_keys() != before["lease_keys"]


def test_the_same_renewal_again_is_the_same_file(made: Path, licensing: Licensing) -> None:
    issue(licensing, "--id", "acme-1")
    words = ("acme-1", "--until", "2101-12-31", "--seats", "9", "--revoke-older")
    first, again = renew(licensing, *words), renew(licensing, *words)
    assert again.out == first.out
    assert "again" in again.err


def test_older_files_are_revoked_when_that_is_asked_for_and_stay_so(made: Path, licensing: Licensing) -> None:
    first = said_in_file(issue(licensing, "--id", "acme-1"))
    assert "oldest" not in first
    revoking = renew(licensing, "acme-1", *UNTIL, "--revoke-older")
    second = said_in_file(revoking)
    assert second["oldest"] == second["serial"] > first["serial"]
    assert f"older files count all → from serial {second['serial']} on" in revoking.err
    third = said_in_file(renew(licensing, "acme-1", *UNTIL, "--seats", "3"))
    assert third["oldest"] == second["serial"] < third["serial"]
    assert said_in_file(issue(licensing, "--id", "acme-1", "--seats", "4", "--yes"))["oldest"] == second["serial"]


def test_a_renewal_without_an_end_or_of_an_unknown_license_is_refused(made: Path, licensing: Licensing) -> None:
    assert "license issued" in renew(licensing, "acme-1", *UNTIL, code=1).err
    issue(licensing, "--id", "acme-1")
    assert "--until" in renew(licensing, "acme-1", code=2).err


def test_a_license_of_another_home_is_renewed_with_its_file(made: Path, licensing: Licensing) -> None:
    Path("other.lic").write_text(issue(licensing, "--id", "acme-1", "--seats", "5").out, encoding="utf-8")
    claims = claims_of(Path("other.lic"))
    (made / "books.sqlite").unlink()
    (made / "organizations.json").write_text("{}", encoding="utf-8")
    after = said_in_file(renew(licensing, "acme-1", "--until", "2100-12-31", "--file", "other.lic"))
    assert (after["seats"], after["salt"], after["serial"] > claims["serial"]) == (5, claims["salt"], True)
    customer = Home(made).customer("acme")
    assert customer
    assert (customer.name, customer.salt) == ("Acme Water Oy", claims["salt"])


def test_who_issues_a_second_license_of_a_product_learns_of_the_first(made: Path, licensing: Licensing) -> None:
    first = said_in_file(issue(licensing))["sub"]
    assert "has 1 other license of Fluidit Water, and this one is added." in issue(licensing).err
    assert "other license" not in issue(licensing, "--product", "Fluidit Storm").err
    assert "other license" not in issue(licensing, "--id", first, "--seats", "2", "--yes").err
    assert "other license" not in renew(licensing, first, "--until", "2100-12-31").err


# The audit.


@pytest.mark.usefixtures("stored")
def test_the_audit_tells_who_issued_and_renewed(made: Path, licensing: Licensing) -> None:
    license_id = said_in_file(issue(licensing))["sub"]
    renew(licensing, license_id, "--until", "2100-12-31")
    renew(licensing, license_id, "--until", "2100-12-31")  # nothing is signed
    assert "The local service does not run" not in issue(licensing).err
    entries = [json.loads(line) for line in licensing("audit", "--json").out.splitlines()]
    assert [(each["what"], each["outcome"]) for each in entries if each["subject"] == license_id] == [
        ("issue", "done"),
        ("renew", "done"),
    ]


def test_nothing_is_issued_past_the_audit_of_a_store_that_is_named(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LICENSING_STORAGE", local_storage(free_port()))
    said = issue(licensing, code=1)
    assert "The store cannot be used" in said.err
    assert (said.out, noted(made)) == ("", [])


# Publishing.


@pytest.mark.usefixtures("stored")
def test_a_renewal_is_published_at_once_and_again_after_a_failure(made: Path, licensing: Licensing) -> None:
    license_id = said_in_file(issue(licensing))["sub"]
    words = (license_id, "--until", "2100-12-31", "--publish", "--out", "new.lic")
    said = renew(licensing, *words)
    serial = noted(made)[0].serial
    assert f"Published {license_id}, serial {serial}, valid to 2100-12-31." in said.err
    assert f"Published {license_id}, serial {serial}" in renew(licensing, *words).err
    assert licensing("license", "publish", "new.lic").code == 0
    entries = [json.loads(line) for line in licensing("audit", "--json").out.splitlines()]
    done = [each["what"] for each in entries if each["subject"] == license_id and each["outcome"] == "done"]
    assert done == ["issue", "renew", "publish", "publish", "publish"]


@pytest.mark.usefixtures("stored")
def test_what_cannot_be_published_is_issued_and_the_command_says_so(made: Path, licensing: Licensing) -> None:
    said = issue(licensing, "--network", "10.0.0.0/8", "--publish", "--out", "acme.lic", code=1)
    assert "networks" in said.err
    assert claims_of(Path("acme.lic"))["sub"] == noted(made)[0].license_id


# Trials.


def test_a_trial_ends_after_its_length_without_grace_and_says_so(made: Path, licensing: Licensing) -> None:
    said = licensing("license", "issue", *ACME, "--trial", "30d", "--from", "2098-06-01", "--out", "trial.lic")
    assert said.code == 0, said.err
    claims = claims_of(Path("trial.lic"))
    assert (claims["trial"], claims["grace"]) == (True, 0)
    assert claims["exp"] - claims["nbf"] == timedelta(days=30).total_seconds()
    shown = " ".join(licensing("license", "show", "trial.lic").out.split())
    assert "Trial yes" in shown
    assert "Older files count" in shown
    assert "trial, 1 seat" in Path("trial.lic").read_text(encoding="utf-8")


@pytest.mark.parametrize("other", [UNTIL, ("--strict",), ("--grace", "60")])
def test_a_trial_takes_nothing_that_it_sets(made: Path, licensing: Licensing, other: tuple[str, ...]) -> None:
    said = licensing("license", "issue", *ACME, "--trial", "30d", *other)
    assert said.code == 2
    assert "--trial" in said.err


def test_a_renewed_trial_stays_a_trial_unless_it_is_bought(made: Path, licensing: Licensing) -> None:
    assert licensing("license", "issue", *ACME, "--trial", "30d", "--id", "acme-1").code == 0
    assert said_in_file(renew(licensing, "acme-1", *UNTIL))["trial"] is True
    assert said_in_file(renew(licensing, "acme-1", "--trial", "60d"))["trial"] is True
    said = renew(licensing, "acme-1", *UNTIL, "--no-trial")
    assert "trial yes → no" in said.err
    assert "--grace" in said.err
    assert "trial" not in said_in_file(said)


def test_show_says_which_older_files_count(made: Path, licensing: Licensing) -> None:
    issue(licensing, "--serial", "42", "--oldest", "7", "--out", "acme.lic")
    assert "count from serial 7 on" in licensing("license", "show", "acme.lic").out


def test_a_lease_key_that_is_not_public_is_refused_in_a_renewal_too(made: Path, licensing: Licensing) -> None:
    issue(licensing, "--id", "acme-1")
    Path("keys.json").write_text(json.dumps({"keys": [new_private_jwk()]}), encoding="utf-8")
    assert "no key may be private" in renew(licensing, "acme-1", *UNTIL, "--lease-keys", "keys.json", code=2).err
    jwks = {"keys": [public_jwk(new_private_jwk())]}
    Path("keys.json").write_text(json.dumps(jwks), encoding="utf-8")
    assert said_in_file(renew(licensing, "acme-1", *UNTIL, "--lease-keys", "keys.json"))["lease_keys"] == jwks


def test_a_home_that_is_missing_is_not_made(licensing: Licensing) -> None:
    with pytest.raises(SettingsError), Home(Path("missing")).changing():
        pass
    assert not Path("missing").exists()
