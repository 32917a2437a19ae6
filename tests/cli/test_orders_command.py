"""`licensing license issue --from FILE`: a file of orders makes each license once, or nothing and says why."""

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from licensing.cli import orders
from licensing.cli.books import Books
from licensing.cli.claims import CLAIMS
from licensing.cli.home import CustomerRecord, Home
from licensing.cli.order_lines import FILE_LIMIT, ORDER, STRICT
from licensing.crypto.keys import new_private_jwk, public_jwk
from licensing.crypto.tokens import license_text
from licensing.rules.license import License
from tests.cli.conftest import Licensing, Said
from tests.cli.issuing import ROOT, noted
from tests.cli.test_license_command import HOST, OPTIONS, USER, claims_of

HEADING = "organization,organization-name,product,seats,until"
ACME = "acme,Acme Water Oy,Fluidit Water,5,2099-12-31"
MORE = ACME.replace(",5,", ",6,")


def write(*lines: str, heading: str = HEADING, file: str = "orders.csv") -> str:
    """A file of orders; its name."""
    Path(file).write_text("\n".join([heading, *lines]) + "\n", encoding="utf-8")
    return file


def run(licensing: Licensing, *options: str, code: int = 0, file: str = "orders.csv") -> Said:
    """Issue the orders of the file."""
    said = licensing("license", "issue", "--from", file, *options)
    assert said.code == code, said.err
    return said


def licenses(home: Path) -> list[License]:
    """What the books hold of each license."""
    return [file.license for file in noted(home) if file.license]


def numbers(said: Said) -> tuple[int, ...]:
    """How many lines were new, changed and unchanged."""
    found = re.search(r"^(\d+) new, (\d+) changed, (\d+) unchanged$", said.out + said.err, re.MULTILINE)
    assert found, said.err
    return tuple(map(int, found.groups()))


# Each line once.


def test_each_line_is_a_license_in_a_file_of_its_own(made: Path, licensing: Licensing) -> None:
    write(ACME, "acme,,Fluidit Storm,,2098-12-31", 'brook,"Brook, Ltd",Fluidit Water,2,2099-12-31')
    said = run(licensing, "--out", "licenses")
    assert (numbers(said), said.out) == ((3, 0, 0), "")
    assert "licenses has the license files of 3 lines." in said.err
    files = sorted(Path("licenses").iterdir())
    assert [file.stem for file in files] == [license.id for license in licenses(made)]
    assert all(licensing("license", "show", str(file)).code == 0 for file in files)
    assert {(each.organization.name, each.product, each.seats) for each in licenses(made)} == {
        ("Acme Water Oy", "Fluidit Water", 5),
        ("Acme Water Oy", "Fluidit Storm", 1),
        ("Brook, Ltd", "Fluidit Water", 2),
    }
    assert len({license.salt for license in licenses(made)}) == 2


@pytest.mark.parametrize("key", ["id", "order", "content"])
def test_run_twice_there_is_no_second_set(made: Path, licensing: Licensing, key: str) -> None:
    column = {"id": ",id", "order": ",order", "content": ""}[key]
    lines = [f"{ACME}{f',{key}-{number}' if column else ''}" for number in range(3)]
    write(*lines, heading=HEADING + column)
    assert numbers(run(licensing, "--out", "licenses")) == (3, 0, 0)
    before = noted(made)
    assert len({file.license_id for file in before}) == len({file.serial for file in before}) == 3
    written = {file: file.read_bytes() for file in Path("licenses").iterdir()}
    assert numbers(run(licensing, "--out", "licenses")) == (0, 0, 3)
    assert (noted(made), {file: file.read_bytes() for file in Path("licenses").iterdir()}) == (before, written)
    assert numbers(run(licensing, "--out", "elsewhere")) == (0, 0, 3)
    assert [file.name for file in sorted(Path("elsewhere").iterdir())] == sorted(file.name for file in written)


def test_of_identical_lines_each_is_a_license_and_one_more_is_one_more(made: Path, licensing: Licensing) -> None:
    write(ACME, ACME)
    run(licensing, "--out", "licenses")
    write(ACME, ACME, ACME)
    assert numbers(run(licensing, "--out", "licenses")) == (1, 0, 2)
    assert len(noted(made)) == 3


@pytest.mark.parametrize("column", ["id", "order"])
def test_a_changed_line_changes_its_license(made: Path, licensing: Licensing, column: str) -> None:
    heading = f"{HEADING},{column}"
    write(f"{ACME},a-1", f"{ACME},a-2", heading=heading)
    run(licensing, "--out", "licenses")
    before = {file.license_id: file for file in noted(made)}
    write(f"{ACME},a-1", f"{MORE},a-2", heading=heading)

    said = run(licensing, "--out", "new", code=1)
    assert re.search(r"^line 3: changed, \S+: seats 5 → 6$", said.err, re.MULTILINE)
    assert "What a line leaves out gets its usual value; --yes issues all the same" in said.err
    assert ({file.license_id: file for file in noted(made)}, Path("new").exists()) == (before, False)

    assert numbers(run(licensing, "--out", "new", "--yes")) == (0, 1, 1)
    after = {file.license_id: file for file in noted(made)}
    assert after.keys() == before.keys()
    (changed,) = (id for id in after if after[id] != before[id])
    license = after[changed].license
    assert license
    assert (license.seats, license.serial > before[changed].serial) == (6, True)
    assert numbers(run(licensing, "--out", "new", "--yes")) == (0, 0, 2)


def test_a_line_that_stays_the_same_takes_no_renewal_back(made: Path, licensing: Licensing) -> None:
    write(f"{ACME},po-1", heading=f"{HEADING},order")
    run(licensing, "--out", "licenses")
    (file,) = noted(made)
    assert licensing("license", "renew", file.license_id, "--until", "2100-12-31", "--seats", "9").code == 0
    assert numbers(run(licensing, "--out", "new")) == (0, 0, 1)
    assert claims_of(Path(f"new/{file.license_id}.lic"))["seats"] == 9


def test_the_reference_of_an_order_is_in_the_books_and_not_in_the_file(made: Path, licensing: Licensing) -> None:
    write(f"{ACME},PO 4711/2", heading=f"{HEADING},order")
    said = run(licensing)
    assert noted(made)[0].order == "PO 4711/2"
    assert "4711" not in json.dumps(licenses(made)[0].claims()) + said.out
    assert "PO 4711/2" in licensing("license", "issued").out
    renewed = licensing("license", "renew", noted(made)[0].license_id, "--until", "2100-12-31")
    assert renewed.code == 0
    assert noted(made)[0].order == "PO 4711/2"


def test_a_license_that_was_issued_by_hand_is_taken_up_by_its_id(made: Path, licensing: Licensing) -> None:
    who = ("--organization", "acme", "--organization-name", "Acme Water Oy", "--product", "Fluidit Water")
    said = licensing("license", "issue", *who, "--seats", "5", "--until", "2099-12-31", "--id", "acme-1")
    assert said.code == 0
    (before,) = noted(made)
    write(f"{ACME},acme-1,po-7", heading=f"{HEADING},id,order")
    assert numbers(run(licensing, "--out", "licenses")) == (0, 0, 1)
    (after,) = noted(made)
    assert (after.jws, after.order) == (before.jws, "po-7")


def test_names_in_an_order_are_hashed_and_known_again(made: Path, licensing: Licensing) -> None:
    write(f"{ACME},named-user,Ada Lovelace; Grace", heading=f"{HEADING},kind,user")
    assert numbers(run(licensing, "--out", "licenses")) == (1, 0, 0)
    assert len(licenses(made)[0].users) == 2
    assert numbers(run(licensing, "--out", "licenses")) == (0, 0, 1)
    written = b"".join(file.read_bytes() for file in (*made.iterdir(), *Path("licenses").iterdir()))
    assert b"Lovelace" not in written
    assert b"Grace" not in written


# Killed in the middle.


def start(home: Path, *options: str) -> subprocess.Popen[str]:
    """Begin to issue the orders in a process of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("LICENSING_")}
    return subprocess.Popen(
        [sys.executable, "-m", "licensing", "license", "issue", "--from", str(Path("orders.csv").absolute()), *options],
        cwd=ROOT,
        env={**kept, "LICENSING_HOME": str(home.absolute())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_in_the_middle_and_run_again_it_gives_the_rest(made: Path, licensing: Licensing) -> None:
    lines = [f"c{number % 40},Customer {number % 40},Water,{1 + number},2099-12-31" for number in range(200)]
    write(*lines)
    folder = Path("licenses").absolute()
    for least in (10, 60):
        process = start(made, "--out", str(folder))
        deadline = time.monotonic() + 60
        while (len(list(folder.glob("*.lic"))) if folder.exists() else 0) < least:
            assert process.poll() is None, "it ended before it was killed"
            assert time.monotonic() < deadline
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert least <= len(noted(made)) < 200
    found = len(noted(made))
    assert numbers(run(licensing, "--out", "licenses")) == (200 - found, 0, found)
    every = licenses(made)
    assert len(every) == len({each.id for each in every}) == len({each.serial for each in every}) == 200
    assert sorted(each.seats for each in every) == list(range(1, 201))
    assert {file.name for file in folder.glob("*.lic")} == {f"{each.id}.lic" for each in every}
    by_file = {license_text(file.read_text(encoding="utf-8")) for file in folder.glob("*.lic")}
    assert by_file == {file.jws for file in noted(made)}


def test_a_file_that_was_noted_and_not_delivered_is_delivered_by_the_next_run(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(ACME, MORE)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(orders, "_deliver", dies)
        run(licensing, "--out", "licenses", code=130)
    assert len(noted(made)) == 1
    assert list(Path("licenses").iterdir()) == []
    assert numbers(run(licensing, "--out", "licenses")) == (1, 0, 1)
    assert len(list(Path("licenses").iterdir())) == 2


def test_the_same_orders_issued_by_two_at_once_give_no_second_set(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(ACME, MORE)

    def another_run(*_: object) -> None:
        with start(made) as process:
            assert process.wait() == 0

    with monkeypatch.context() as patched:
        patched.setattr(orders, "_confirm", another_run)
        said = run(licensing, code=1)
    assert "Line 2 was not issued: meanwhile another command has changed its license." in said.err
    assert "0 of 2 lines are done; run it again for the rest." in said.err
    assert len(noted(made)) == 2
    assert numbers(run(licensing)) == (0, 0, 2)


def test_the_key_of_a_line_is_noted_with_its_file_or_not_at_all(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(ACME)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Books, "note_order", dies)
        run(licensing, code=130)
    assert noted(made) == []
    assert numbers(run(licensing)) == (1, 0, 0)


# What a dry run and standard output are.


def test_a_dry_run_shows_what_would_be_and_changes_nothing(made: Path, licensing: Licensing) -> None:
    write(f"{ACME},acme-1", heading=f"{HEADING},id")
    run(licensing)
    before = noted(made)
    write(f"{MORE},acme-1", f"{ACME},acme-2", heading=f"{HEADING},id")
    said = run(licensing, "--dry-run", "--out", "licenses")
    assert said.out.splitlines() == [
        "line 2: changed, acme-1: seats 5 → 6",
        said.out.splitlines()[1],
        "1 new, 1 changed, 0 unchanged",
    ]
    assert said.out.splitlines()[1].startswith("line 3: new, acme-2, Fluidit Water for Acme Water Oy: 5 seats, valid ")
    assert (noted(made), Path("licenses").exists()) == (before, False)


def test_without_a_folder_each_license_is_a_line_of_json(made: Path, licensing: Licensing) -> None:
    write(ACME, MORE)
    found = [json.loads(line) for line in run(licensing).out.splitlines()]
    assert [(each["line"], each["state"]) for each in found] == [(2, "new"), (3, "new")]
    by_id = {file.license_id: (file.serial, file.jws) for file in noted(made)}
    assert {each["license"]: (each["serial"], license_text(each["file"])) for each in found} == by_id


def test_a_file_in_the_folder_is_not_overwritten_and_then_nothing_is_done(made: Path, licensing: Licensing) -> None:
    write(ACME + ",acme-1", ACME + ",acme-2", heading=f"{HEADING},id")
    Path("licenses").mkdir()
    Path("licenses/acme-2.lic").write_text("precious", encoding="utf-8")
    said = run(licensing, "--out", "licenses", code=1)
    assert "line 3: licenses/acme-2.lic exists" in said.err
    assert noted(made) == []
    assert Path("licenses/acme-2.lic").read_text(encoding="utf-8") == "precious"
    run(licensing, "--out", "licenses", "--force")
    assert claims_of(Path("licenses/acme-2.lic"))["sub"] == "acme-2"


def test_a_folder_in_place_of_a_file_or_a_file_in_place_of_the_folder_is_named_and_nothing_is_done(
    made: Path, licensing: Licensing
) -> None:
    write(ACME + ",acme-1", ACME + ",acme-2", heading=f"{HEADING},id")
    Path("licenses/acme-2.lic").mkdir(parents=True)
    said = run(licensing, "--out", "licenses", "--force", code=1)
    assert "line 3: licenses/acme-2.lic is a folder" in said.err
    assert "orders.csv cannot be written: File exists" in run(licensing, "--out", "orders.csv", code=1).err
    assert noted(made) == []


def test_a_folder_that_cannot_be_written_is_named_and_nothing_is_done(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))

    write(ACME)
    monkeypatch.setattr(orders, "check_writable", refuse)
    assert "licenses cannot be written: Permission denied" in run(licensing, "--out", "licenses", code=1).err
    assert noted(made) == []


def test_a_file_that_cannot_be_read_is_named_with_its_line(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(ACME + ",acme-1", heading=f"{HEADING},id")
    run(licensing, "--out", "licenses")

    def refuse(file: Path) -> bytes:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(file))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    said = run(licensing, "--out", "licenses", code=1)
    assert "line 2: licenses/acme-1.lic cannot be read: Permission denied" in said.err


def test_what_can_be_published_is(made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch) -> None:
    published: list[tuple[list[str], str | None]] = []

    def publish(files: Sequence[tuple[License, str]], vault: str | None) -> None:
        published.append(([license.id for license, _ in files], vault))

    monkeypatch.setattr(orders, "publish_files", publish)
    heading = f"{HEADING},id,network,from"
    write(f"{ACME},a-1,,", f"{ACME},a-2,10.0.0.0/8,", f"{ACME},a-3,,2098-01-01", f"{ACME},a-4,,", heading=heading)
    said = run(licensing, "--publish", "--vault", "kv-test")
    assert published == [(["a-1", "a-4"], "kv-test")]
    assert re.search(r"2 files cannot be published, .*: a-2, a-3\.", said.err)


def test_each_license_is_published_and_in_the_audit(
    made: Path, licensing: Licensing, azurite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LICENSING_STORAGE", azurite)
    write(ACME, MORE)
    assert run(licensing, "--publish").err.count("Published acme-") == 2
    entries = [json.loads(line) for line in licensing("audit", "--json").out.splitlines()]
    ids = {file.license_id for file in noted(made)}
    found = [(each["subject"], each["what"], each["outcome"]) for each in entries if each["subject"] in ids]
    assert sorted(found) == sorted((id, what, "done") for id in ids for what in ("issue", "publish"))


# Every claim is a column.

CELLS = {
    "organization.id": "brook",
    "organization.name": "Brook Ltd",
    "product": "Storm",
    "users": USER,
    "hosts": HOST,
    "networks": "198.51.100.0/24 2001:db8::/48",
    "features": "quality; network",
    "lease_keys": "keys.json",
}
"""Cells, where they differ from the option's value."""


@pytest.mark.parametrize("claim", CLAIMS)
def test_every_claim_can_be_a_column(made: Path, licensing: Licensing, claim: str) -> None:
    jwks = {"keys": [public_jwk(new_private_jwk())]}
    Path("keys.json").write_text(json.dumps(jwks), encoding="utf-8")
    options, value = OPTIONS.get(claim, ((), None))
    cells: dict[str, str] = dict(zip(HEADING.split(","), ACME.split(","), strict=True))
    words = ("--no-collect", "yes", *options[1:]) if claim == "collect" else options
    for option, given in zip(words[::2], words[1::2], strict=True):
        cells[option.removeprefix("--")] = given
    if claim in CELLS:
        cells[CLAIMS[claim].column] = CELLS[claim]
    if claim == "trial":
        cells["until"] = ""
    write(",".join(cells.values()), heading=",".join(cells))
    run(licensing)
    claims: dict[str, Any] = licenses(made)[0].claims()
    outer, _, inner = claim.partition(".")
    found = claims[outer][inner] if inner else claims.get(outer)
    expected = {
        "organization.id": "brook",
        "organization.name": "Brook Ltd",
        "product": "Storm",
        "users": [USER],
        "hosts": [HOST],
        "lease_keys": jwks,
    }
    assert found == expected.get(claim, value)


def test_a_strict_license_can_be_ordered(made: Path, licensing: Licensing) -> None:
    write(f"{ACME},yes", f"{ACME},no", heading=f"{HEADING},strict")
    run(licensing)
    assert sorted(license.hold_seconds for license in licenses(made)) == [0, 43260]


# What is wrong.

WRONG = [
    ("seats", "many", "it takes a whole number up to 1000000"),
    ("seats", "-1", "it takes a whole number up to 1000000"),
    ("seats", "1000001", "it takes a whole number up to 1000000"),
    ("seats", "9" * 5000, "it takes a whole number up to 1000000"),
    ("until", "31.12.2099", "it takes a date such as 2027-12-31"),
    ("until", "2001-12-31", "the license ends before it begins"),
    ("until", "", "it is missing"),
    ("product", "", "it is missing"),
    ("organization", "", "it is missing"),
    ("organization", "two words", "it takes 1 to 64 of the characters"),
    ("organization-name", "", "acme is a new customer; give its name"),
    ("kind", "site", "it takes one of floating, named-user, node-locked"),
    ("kind", "named-user", "a named-user license must list its users"),
    ("no-collect", "perhaps", "it takes yes or no"),
    ("strict", "perhaps", "it takes yes or no"),
    ("trial", "30", "it takes a length of time"),
    ("trial", "30d", "it sets the end and the grace"),
    ("network", "198.51.100.7/24", "it takes a network such as"),
    ("lease-keys", "missing.json", "takes a file with JSON"),
    ("salt", "short", "it takes 22 to 86 characters"),
    ("service", "ftp://host.example", "it takes a URL such as"),
    ("oldest", "9999999999", "the license would not count itself"),
    ("order", "p" * 201, "it takes 1 to 200 characters"),
    ("id", "../other", "it takes 1 to 64 of the characters"),
]


@pytest.mark.parametrize(("column", "value", "what"), WRONG, ids=lambda value: str(value)[:20])
def test_a_wrong_cell_is_named_and_nothing_is_done(
    made: Path, licensing: Licensing, column: str, value: str, what: str
) -> None:
    cells = dict(zip(HEADING.split(","), ACME.split(","), strict=True)) | {column: value}
    place = {"named-user": "user"}.get(value, column)
    good = dict.fromkeys(cells, "") | dict(zip(HEADING.split(","), ACME.replace("acme", "b").split(","), strict=True))
    write(",".join(good.values()), ",".join(cells.values()), heading=",".join(cells))
    said = run(licensing, "--out", "licenses", code=1)
    assert f"line 3, column {place}: " in said.err
    assert what in said.err
    assert "Nothing was issued: 1 line to correct." in said.err
    assert (noted(made), Path("licenses").exists()) == ([], False)
    assert not value or len(value) < 20 or value not in said.err


def test_every_bad_line_is_named_by_its_number_in_the_file(made: Path, licensing: Licensing) -> None:
    write(
        'acme,"Acme\nWater",Water,5,2099-12-31',  # lines 2 and 3
        "",
        "brook,Brook,Water,none,tomorrow",
        "creek,Creek,Water",
        ",,,,",
        "delta,Delta,Water,1,2099-12-31",
        "elder,,Water,1,2099-12-31",
    )
    said = run(licensing, "--dry-run", code=1)
    places = re.findall(r"^line (\d+)(?:, column (\S+))?:", said.err, re.MULTILINE)
    assert places == [("2", "organization-name"), ("5", "seats"), ("5", "until"), ("6", ""), ("9", "organization-name")]
    assert "4 lines to correct" in said.err


@pytest.mark.parametrize("column", ["id", "order"])
def test_two_lines_of_one_license_are_refused(made: Path, licensing: Licensing, column: str) -> None:
    write(f"{ACME},one", f"{ACME},one", heading=f"{HEADING},{column}")
    said = run(licensing, code=1)
    assert f"line 3, column {column}: line 2 is for the same license; give each its own {column}." in said.err


def test_a_license_that_would_be_too_large_is_named(made: Path, licensing: Licensing) -> None:
    write(f"{ACME},{' '.join(f'user{number}' for number in range(400))}", heading=f"{HEADING},user")
    said = run(licensing, code=1)
    assert "line 2: the license would be " in said.err
    assert noted(made) == []


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "no columns"),
        (b"organization,colour\n", "line 1 has cells that name no column (2)"),
        (b"acme,anna.smith\n", "line 1 has cells that name no column (1, 2)"),
        (b"id,seats,id\n", "columns twice: id"),
        (b"id\n\xff\xfe\n", "not in UTF-8"),
        (b'id,seats\na,1\n"b,2\n', "line 3 cannot be read"),
        (b"id\n" + b" " * FILE_LIMIT, "larger than 16 MB"),
    ],
    ids=["empty", "unknown column", "no names of columns", "column twice", "encoding", "open quote", "too large"],
)
def test_a_file_that_is_no_list_of_orders_is_explained(
    made: Path, licensing: Licensing, content: bytes, what: str
) -> None:
    Path("orders.csv").write_bytes(content)
    said = run(licensing, code=1)
    assert what in said.err
    assert "anna" not in said.err
    assert noted(made) == []


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + HEADING + "\r\n" + ACME + "\r\n",
        HEADING.replace(",", ";") + "\n" + ACME.replace(",", ";"),
        HEADING.upper() + "\n" + ACME.replace(",", " , "),
        HEADING + ",feature\r" + ACME + ",a;b;c;d;e;f;g;h;i;j;k;l;m\r",
        "\ufeff" + HEADING.replace(",", ";") + "\r\n" + ACME.replace(",", ";") + "\r\n;;;;\r\n\r\n",
    ],
    ids=["mark and CR LF", "semicolons", "capitals and spaces", "CR", "as a spreadsheet writes it"],
)
def test_the_ways_in_which_programs_write_csv_are_read(made: Path, licensing: Licensing, content: str) -> None:
    Path("orders.csv").write_text(content, encoding="utf-8", newline="")
    run(licensing)
    (license,) = licenses(made)
    assert (license.organization.name, license.seats, license.product) == ("Acme Water Oy", 5, "Fluidit Water")


@pytest.mark.parametrize(
    "options", [("--seats", "5"), ("--id", "a"), ("--until", "2099-12-31"), ("--strict",), ("--no-collect",)]
)
def test_terms_beside_a_file_of_orders_are_refused(made: Path, licensing: Licensing, options: tuple[str, ...]) -> None:
    write(ACME)
    assert "--from" in run(licensing, *options, code=2).err
    assert noted(made) == []


def test_a_file_of_orders_that_is_not_there_and_a_wrong_date_are_explained(made: Path, licensing: Licensing) -> None:
    assert "missing.csv cannot be read" in run(licensing, code=1, file="missing.csv").err
    said = licensing("license", "issue", "--dry-run", "--until", "2099-12-31")
    assert said.code == 2
    assert "--dry-run" in said.err


def test_a_customer_of_another_name_is_refused_unless_it_is_renamed(made: Path, licensing: Licensing) -> None:
    write(ACME)
    run(licensing)
    write(ACME.replace("Water Oy", "Oyj"), ACME.replace("Water Oy", "Oyj").replace(",5,", ",6,"))
    assert "line 2, column organization-name: acme is known by another name" in run(licensing, code=1).err
    assert numbers(run(licensing, "--rename")) == (2, 0, 0)
    customer = Home(made).customer("acme")
    assert customer
    assert customer.name == "Acme Oyj"


def test_a_long_run_reads_the_customers_again_only_after_a_change(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(*[ACME] * 5)
    run(licensing)
    reads: list[str] = []
    read_text = Path.read_text

    def counted(file: Path, **options: Any) -> str:
        reads.append(file.name)
        return read_text(file, **options)

    write(*[MORE] * 50)
    monkeypatch.setattr(Path, "read_text", counted)
    run(licensing)
    assert reads.count("organizations.json") == 1


def test_a_customer_whom_another_command_makes_is_seen(made: Path) -> None:
    here, other = Home(made), Home(made)
    assert here.customer("acme") is None
    other.save_customer(CustomerRecord("acme", "Acme", "s" * 43))
    assert here.customer("acme") == other.customer("acme") == CustomerRecord("acme", "Acme", "s" * 43)


def test_a_file_gives_a_customer_one_name(made: Path, licensing: Licensing) -> None:
    write(ACME, MORE.replace("Acme Water Oy", "Acme Sea Oy"))
    said = run(licensing, "--rename", code=1)
    assert "line 3, column organization-name: a line before gives acme another name" in said.err
    assert noted(made) == []


def test_the_columns_are_claims_strict_and_order(made: Path, licensing: Licensing) -> None:
    write(heading="id,colour")
    listed = run(licensing, code=1).err.partition("there are ")[2].strip().rstrip(".").split(", ")
    assert set(listed) == {claim.option.removeprefix("--") for claim in CLAIMS.values()} | {STRICT, ORDER}


def test_the_example_of_the_operations_manual_is_a_file_of_orders(made: Path, licensing: Licensing) -> None:
    manual = (Path(__file__).parents[2] / "docs/operations.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```csv\n(.+?)```", manual, re.DOTALL)
    Path("orders.csv").write_text(example, encoding="utf-8")
    assert numbers(run(licensing, "--dry-run")) == (3, 0, 0)
    run(licensing)
    found = {(each.organization.name, each.product, each.seats, each.trial, each.features) for each in licenses(made)}
    assert found == {
        ("Acme Water Oy", "Fluidit Water", 5, False, ("pro", "gis")),
        ("Acme Water Oy", "Fluidit Sewer", 1, True, ()),
        ("Brook, Ltd", "Fluidit Water", 2, False, ()),
    }
