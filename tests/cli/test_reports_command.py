"""`licensing usage`, `billing`, `audit` and `maintenance`, from a vendor's side, on a store of their own."""

import csv
import json
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import pytest

from licensing.cli.home import CustomerRecord, Home, local_storage, new_salt
from licensing.cli.processes import free_port
from licensing.crypto.tokens import read_report_pass
from licensing.errors import UnavailableError
from licensing.rules.license import Billing
from licensing.rules.model import FormerTerms
from licensing.rules.retention import year_before
from licensing.rules.usage import Denial, Use
from licensing.services.reports import newest_day, oldest_day
from licensing.services.totals import aggregate_license, mark_final, save_totals
from licensing.storage import register as rows
from licensing.storage import retry
from licensing.storage.ledger import Ledger
from licensing.storage.register import AuditEntry, Register
from licensing.storage.tables import Tables, delete, merge, put
from tests.cli.conftest import Do, Licensing, Said, in_a_process
from tests.factories import at, new_session_id, use
from tests.register_rows import Customer, look, new_customer

NOW: Final = datetime.now(UTC)
TODAY: Final = newest_day(NOW) + timedelta(days=1)
"""Right after midnight the day before, so that yesterday can be reported."""
YESTERDAY: Final = TODAY - timedelta(days=1)
LAST_DAY: Final = TODAY.replace(day=1) - timedelta(days=1)
"""The last day of the month that has closed last."""
EARLIER: Final = LAST_DAY - timedelta(days=1)
MONTH: Final = f"{LAST_DAY:%Y-%m}"
ROOT: Final = Path(__file__).parents[2]


def customer(do: Do[Any], *uses: Use, denials: tuple[Denial, ...] = (), in_use: int = 0, **changes: Any) -> Customer:
    """A new customer under whose license this happened; `changes` are to its terms."""

    async def write(tables: Tables) -> Customer:
        made = new_customer(tables, **changes)
        await made.used(uses, denials, in_use=in_use)
        return made

    written: Customer = do(write)
    return written


def bare(said: Said) -> str:
    """What a command wrote to standard output, where it has done its work and had nothing else to say."""
    assert (said.code, said.err) == (0, "")
    return said.out


def refused(said: Said, code: int = 1) -> str:
    """What a command that was refused said; it wrote no result."""
    assert (said.code, said.out) == (code, ""), said
    return " ".join(said.err.replace("│", " ").split())


# usage


def test_usage_tells_people_months_and_whether_the_seats_suffice(licensing: Licensing, do: Do[Any]) -> None:
    busy = [use(f"s{n}", at(YESTERDAY, 8), at(YESTERDAY, 10)) for n in range(3)]
    acme = customer(do, *busy, denials=(Denial("late", at(YESTERDAY, 9)),))

    printed = bare(licensing("usage", acme.license))

    assert f"Fluidit Water ({acme.license}), 3 seats" in printed
    assert re.search(rf"{YESTERDAY:%Y-%m} +│ 3 +│ 3 +│ 6\.0 +│ 3 +│ 1 +│ 0 +│ 0\.0", printed)
    assert f"({acme.license}), 3 seats: all months that are kept" in " ".join(printed.split())
    said = " ".join(printed.split())
    assert re.search(r"From \d{4}-\d\d-\d\d to \d{4}-\d\d-\d\d: The seats were all taken on ", said)
    assert "1 start was refused. At least 4 seats would have been needed." in said


def test_usage_tells_people_how_many_seats_would_do(licensing: Licensing, do: Do[Any]) -> None:
    busy = [use(f"s{n}", at(YESTERDAY, 8 + n), at(YESTERDAY, 11)) for n in range(3)]
    acme = customer(do, *busy, seats=5)

    printed = bare(licensing("usage", acme.license))
    rows = list(csv.DictReader(bare(licensing("usage", acme.license, "--format", "csv")).splitlines()))

    assert f"{acme.license}: how many seats would do" in printed
    assert re.search(r"2 +│ +1 +│ +33\.3 % +│ +1 ", printed)
    assert re.search(r"3 +│ +0 +│ +0\.0 % +│ +0 ", printed)
    assert f"From {YESTERDAY} to " in printed
    assert printed.split(": ")[-1].strip() == "3 seats would have been enough for every start."
    assert [row["sizing_seats"] for row in rows if not row["day"] and not row["month"]] == ["3"], "one hour had three"


def out_of_reach(do: Do[Any], acme: Customer, session_id: str, ran_until: datetime) -> None:
    """A session's program has told until when it ran, and a night has counted it."""

    async def write(tables: Tables) -> None:
        register = Register(tables)
        found = [row.key async for row in tables.rows("register", acme.license, rows.ENDED, rows.beyond(rows.ENDED))]
        (key,) = (key for key in found if key.endswith(session_id))
        await tables.commit("register", acme.license, [merge(key, {"ran_until": ran_until})])
        aggregate = await aggregate_license(register, acme.license, max(NOW, ran_until))
        await save_totals(register, acme.license, aggregate)
        await mark_final(register, acme.license, aggregate)

    do(write)


@pytest.mark.parametrize("people", [1, 3])
def test_every_form_of_a_report_says_in_a_sentence_for_how_long_programs_ran_on(
    licensing: Licensing, do: Do[Any], people: int
) -> None:
    acme = customer(do, *(use(f"s{n}", at(YESTERDAY, 8), at(YESTERDAY, 9)) for n in range(3)), seats=2)
    for number in range(people):
        out_of_reach(do, acme, f"s{number}", at(YESTERDAY, 11))

    forms = {form: licensing("usage", acme.license, "--format", form).out for form in ("json", "csv", "html", "table")}

    sentence = (
        f"Programs ran {2 * people}.0 hours beyond their seats while they could not reach the service; "
        "at most 3 ran at once for 2 seats."
    )
    few = "A few programs ran beyond their seats while they could not reach the service."
    assert sentence in " ".join(forms["table"].split()), "the table is the vendor's"
    shown = sentence if people == 3 else few
    (license,) = json.loads(forms["json"])["licenses"]
    assert license["verdict"]["sentence"].endswith(shown)
    assert license["late_seconds"] is None
    assert shown in forms["html"]
    day = next(row for row in csv.DictReader(forms["csv"].splitlines()) if row["day"] == str(YESTERDAY))
    assert (day["grace_seconds"], day["ran_peak"]) == (("21600", "3") if people == 3 else ("", ""))
    assert day["seat_seconds"] == "10800"


def test_a_table_is_the_vendors_and_has_today(licensing: Licensing, do: Do[Any]) -> None:
    acme = customer(do, use("s", at(TODAY, 0), at(TODAY, 0.5)))

    printed = bare(licensing("usage", acme.license))

    assert re.search(rf"{TODAY:%Y-%m} +│ 1 +│ 1 +│ ", printed)


def test_a_license_that_was_first_used_today_is_in_the_table_and_not_yet_in_a_customers_report(
    licensing: Licensing, do: Do[Any]
) -> None:
    async def write(tables: Tables) -> Customer:
        made = new_customer(tables)
        await made.used([use("s", at(TODAY, 0), at(TODAY, 0.1))], since=at(TODAY, 0))
        return made

    acme = do(write)

    assert acme.license in bare(licensing("usage", acme.license))
    assert json.loads(bare(licensing("usage", acme.license, "--format", "json")))["licenses"] == []
    assert bare(licensing("usage", acme.license, "--format", "csv")).count("\n") == 1


def test_machine_formats_hold_the_report_and_nothing_else(licensing: Licensing, do: Do[Any]) -> None:
    acme = customer(
        do,
        *(use(f"s{n}", at(LAST_DAY, 8), at(LAST_DAY, 9.5)) for n in range(3)),
        use("today", at(TODAY, 0), at(TODAY, 0.1)),
    )
    span = ("--from", str(LAST_DAY), "--to", str(LAST_DAY))

    report = json.loads(bare(licensing("usage", acme.license, "--format", "json", *span)))
    sheet = bare(licensing("usage", acme.license, "--format", "csv", *span))
    all_days = bare(licensing("usage", acme.license, "--format", "csv"))

    assert (report["from"], report["to"], report["time_zone"]) == (str(LAST_DAY), str(LAST_DAY), "UTC")
    (license,) = report["licenses"]
    assert [(day["day"], day["seat_seconds"]) for day in license["days"]] == [(str(LAST_DAY), 16200)]
    day, month, sizing = csv.DictReader(sheet.splitlines())
    assert (day["license"], day["day"], day["seat_seconds"]) == (acme.license, str(LAST_DAY), "16200")
    assert (month["license"], month["month"], month["seat_seconds"]) == (acme.license, MONTH, "16200")
    assert (sizing["day"], sizing["month"], sizing["sizing_seats"], sizing["sizing_hours"]) == ("", "", "3", "2")
    assert "\r" not in sheet
    assert f"{YESTERDAY}" in all_days  # and nothing of what is not over
    assert f"{TODAY}" not in all_days
    assert f"{TODAY:%Y-%m}" not in [row["month"] for row in csv.DictReader(all_days.splitlines())]


def test_the_page_as_a_file_is_whole_in_itself(licensing: Licensing, do: Do[Any]) -> None:
    acme = customer(do, use("s", at(YESTERDAY, 8), at(YESTERDAY, 9)))

    page = bare(licensing("usage", acme.license, "--format", "html", "--time-zone", "Europe/Helsinki"))

    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert re.findall(r'\s(?:src|href)="(?!#|data:)', page) == []
    assert "connect-src" not in page  # so that it connects to nothing
    data = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert data
    assert json.loads(data[1])["time_zone"] == "Europe/Helsinki"


@pytest.mark.parametrize("format_", ["table", "json", "csv", "html"])
def test_a_report_goes_to_a_file_where_one_is_named(licensing: Licensing, do: Do[Any], format_: str) -> None:
    acme = customer(do, use("s", at(YESTERDAY, 8), at(YESTERDAY, 9)))

    said = licensing("usage", acme.license, "--format", format_, "--out", "report")

    assert (said.code, said.out, said.err) == (0, "", "Wrote report.\n")
    assert acme.license in Path("report").read_text("utf-8")
    assert "no/such/place" in refused(licensing("usage", acme.license, "--format", format_, "--out", "no/such/place"))


def test_a_table_in_a_file_is_plain_text_with_what_stands_below_it(
    licensing: Licensing, do: Do[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    acme = customer(do, use("s", at(LAST_DAY, 8), at(LAST_DAY, 9)), billing=Billing.TIME)
    billing = ("billing", "--month", MONTH, "--organization", acme.organization)

    for command in (("usage", acme.license), billing):
        said = licensing(*command, "--out", "table.txt")
        assert (said.code, said.out) == (0, "")
        written = Path("table.txt").read_text("utf-8")
        assert "\x1b" not in written
        assert acme.license in written
        assert max(map(len, written.splitlines())) <= 160
        below = (
            "1 seat would have been enough for every start."
            if command[0] == "usage"
            else f"sha256 {statement(licensing, *billing[1:])['sha256']}"
        )
        assert written.rstrip().splitlines()[-1].endswith(below)


def test_one_license_or_all_of_an_organizations(licensing: Licensing, do: Do[Any]) -> None:
    acme = customer(do, use("s", at(LAST_DAY, 8), at(LAST_DAY, 9), "ada"))
    other = customer(do, use("s", at(LAST_DAY, 8), at(LAST_DAY, 9), "ada"), organization_id=acme.organization)

    one = json.loads(bare(licensing("usage", acme.license, "--format", "json")))
    both = json.loads(bare(licensing("usage", "--organization", acme.organization, "--format", "json")))

    assert [license["id"] for license in one["licenses"]] == [acme.license]
    assert {license["id"] for license in both["licenses"]} == {acme.license, other.license}
    assert one["months"] == []
    assert both["months"] == [{"month": MONTH, "users": 1}]
    assert (both["from"], both["to"]) == (str(TODAY - timedelta(days=90)), str(YESTERDAY))


def test_usage_of_what_is_not_in_the_register_is_not_found(licensing: Licensing, do: Do[Any]) -> None:
    assert "no license nobodys-1 in the register" in refused(licensing("usage", "nobodys-1", "--format", "json"))
    assert "no license of nobody in the register" in refused(licensing("usage", "--organization", "nobody"))


def known(home: Path, organization_id: str) -> None:
    """Make an organization a customer of this home."""
    Home(home).save_customer(CustomerRecord(organization_id, organization_id.title(), new_salt()))


def test_a_link_opens_one_organizations_totals_for_as_long_as_it_says(made: Path, licensing: Licensing) -> None:
    known(made, "acme")
    said = licensing("usage", "link", "acme", "--days", "7", "--time-zone", "Europe/Helsinki")

    link, token = said.out.removesuffix("\n").split("#")
    assert (said.code, link) == (0, "http://127.0.0.1:7071/api/usage")
    assert "acme" in said.err
    assert token not in said.err
    report_pass = read_report_pass(token, Home(Path(".local")).trusted_keys(), datetime.now(UTC))
    assert (report_pass.organization_id, report_pass.time_zone) == ("acme", "Europe/Helsinki")
    assert report_pass.expires_at - report_pass.issued_at == timedelta(days=7)
    usual = licensing("usage", "link", "acme").out.strip().split("#")[1]
    report_pass = read_report_pass(usual, Home(Path(".local")).trusted_keys(), datetime.now(UTC))
    assert report_pass.expires_at - report_pass.issued_at == timedelta(days=90)


def test_no_link_is_signed_for_an_organization_that_was_never_a_customer(made: Path, licensing: Licensing) -> None:
    known(made, "acme")

    assert "acmee is not among the customers in .local" in refused(licensing("usage", "link", "acmee"))


def test_a_link_goes_to_a_file_where_one_is_named(made: Path, licensing: Licensing) -> None:
    known(made, "acme")

    said = licensing("usage", "link", "acme", "--out", "link.txt")

    assert (said.code, said.out) == (0, "")
    assert said.err.startswith("Wrote link.txt.\n")
    assert Path("link.txt").read_text().startswith("http://127.0.0.1:7071/api/usage#")


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("link",),
        ("link", "acme", "brook"),
        ("link", "two words"),
        ("link", "acme", "--days", "0"),
        ("link", "acme", "--days", "1000000000"),
        ("link", "--organization", "acme"),
        ("acme-1", "--organization", "acme"),
        ("acme-1", "brook-1"),
        ("acme-1", "--from", "soon"),
        ("acme-1", "--to", "2026-02-30"),
        ("acme-1", "--to", "0001-01-01"),
        ("acme-1", "--to", "2001-01-01"),
        ("acme-1", "--from", "9999-12-31"),
        ("acme-1", "--from", str(TODAY), "--to", str(YESTERDAY)),
        ("acme-1", "--days", "1000000000"),
        ("acme-1", "--format", "pdf"),
        ("acme-1", "--time-zone", "Mars/Olympus"),
        ("acme-1", "--time-zone", "../../etc/passwd"),
        ("acme-1", "--time-zone", ""),
    ],
    ids=" ".join,
)
def test_wrong_usage_of_usage_is_explained(made: Path, licensing: Licensing, arguments: tuple[str, ...]) -> None:
    assert "Usage: " in refused(licensing("usage", *arguments), 2)


# billing


def statement(licensing: Licensing, *options: str) -> dict[str, Any]:
    """A statement as JSON."""
    said = licensing("billing", *options, "--format", "json")
    assert said.code == 0, said.err
    result: dict[str, Any] = json.loads(said.out)
    return result


def test_a_statement_equals_the_day_totals_and_its_checksum_verifies(licensing: Licensing, do: Do[Any]) -> None:
    first = LAST_DAY.replace(day=1)
    acme = customer(
        do,
        use("into", at(first, -3), at(first, 2)),  # of which two hours are this month's
        use("whole", at(first, 8), at(first, 9.5)),
        use("out", at(LAST_DAY, 23), at(LAST_DAY, 26)),  # and of this one
        billing=Billing.TIME,
    )

    said = licensing("billing", "--month", MONTH, "--organization", acme.organization, "--format", "csv")
    whole = statement(licensing, "--month", MONTH, "--organization", acme.organization)
    span = ("--from", str(first), "--to", str(LAST_DAY))
    (usage,) = json.loads(bare(licensing("usage", acme.license, *span, "--format", "json")))["licenses"]

    digest = sha256(said.out.encode()).hexdigest()
    assert (said.code, said.err) == (0, f"sha256 {digest}\n")
    assert (whole["month"], whole["closed"], whole["sha256"]) == (MONTH, True, digest)
    (row,) = csv.DictReader(said.out.splitlines())
    (line,) = whole["lines"]
    assert list(row) == list(line)
    assert (row["license"], row["closed"], row["billed_hours"]) == (acme.license, "true", "4.5000")
    assert line["seat_seconds"] == usage["months"][-1]["seat_seconds"] == int(4.5 * 3600)
    assert (line["sessions"], line["active_days"]) == (3, 2)


def test_what_ran_beyond_its_seat_is_said_beside_a_statement_and_not_billed(licensing: Licensing, do: Do[Any]) -> None:
    # Of a day on which it is still counted, in a month that may not have closed.
    day = at(YESTERDAY, 0).date()
    acme = customer(do, use("s", at(day, 8), at(day, 9)), billing=Billing.TIME)
    options = ("--month", f"{day:%Y-%m}", "--organization", acme.organization)
    before = [licensing("billing", *options, "--format", form).out for form in ("csv", "json")]

    out_of_reach(do, acme, "s", at(day, 12))

    after = [licensing("billing", *options, "--format", form) for form in ("csv", "json")]
    assert [said.out for said in after] == before
    for said in after:
        assert (
            f"In {day:%Y-%m}, programs ran 3.0 hours beyond their seats while they could not reach the service, as far "
            "as is known. This is not billed."
        ) in " ".join(said.err.split())


def test_the_table_tells_people_the_same(licensing: Licensing, do: Do[Any]) -> None:
    acme = customer(do, use("s", at(LAST_DAY, 8), at(LAST_DAY, 9.5)), billing=Billing.TIME)
    options = ("--month", MONTH, "--organization", acme.organization)

    said = licensing("billing", *options)

    assert re.search(
        rf"license +│ {acme.organization} +│ {acme.license} +│ +│ 1 +│ 1 +│ 1\.5000 +│ 0\.0000 +│ yes", said.out
    )
    assert "NOT CLOSED" not in said.out
    assert (said.code, said.err) == (0, f"sha256 {statement(licensing, *options)['sha256']}\n")


def test_minutes_begun_are_billed_where_that_was_agreed(licensing: Licensing, do: Do[Any]) -> None:
    begin = at(LAST_DAY, 8)
    second = timedelta(seconds=1)
    acme = customer(
        do,
        use("a", begin, begin + 61 * second),
        use("b", begin, begin + 60 * second),
        use("c", begin, begin),
        billing=Billing.TIME,
    )
    options = ("--month", MONTH, "--organization", acme.organization)

    (exact,) = statement(licensing, *options)["lines"]
    (rounded,) = statement(licensing, *options, "--rounding", "minute")["lines"]

    assert (exact["billed_hours"], rounded["billed_hours"]) == (round(121 / 3600, 4), round(3 / 60, 4))
    assert exact["seat_seconds"] == rounded["seat_seconds"] == 121


def test_use_beyond_the_seats_bought_is_apart(licensing: Licensing, do: Do[Any]) -> None:
    within = use("a", at(LAST_DAY, 8), at(LAST_DAY, 10))
    beyond = use("b", at(LAST_DAY, 9), at(LAST_DAY, 10), overdraft=True)
    acme = customer(do, within, beyond, billing=Billing.TIME)

    for rounding in ("exact", "minute"):
        options = ("--month", MONTH, "--organization", acme.organization, "--rounding", rounding)
        (line,) = statement(licensing, *options)["lines"]
        assert (line["billed_hours"], line["overdraft_hours"]) == (2, 1)


def test_a_project_adds_up_its_licenses_and_counts_each_day_once(licensing: Licensing, do: Do[Any]) -> None:
    project: dict[str, Any] = {"billing": Billing.PROJECT, "project": "Harbour [north]"}
    one = customer(do, use("a", at(LAST_DAY, 8), at(LAST_DAY, 9)), **project)
    two = customer(do, use("b", at(LAST_DAY, 8), at(LAST_DAY, 10)), **project, organization_id=one.organization)
    customer(do, use("c", at(LAST_DAY, 8), at(LAST_DAY, 9)), organization_id=one.organization)  # which is not billed
    options = ("--month", MONTH, "--organization", one.organization)

    lines = statement(licensing, *options)["lines"]

    assert [(line["line"], line["billed_hours"]) for line in lines if line["line"] == "project"] == [("project", 3)]
    assert {line["license"] for line in lines if line["line"] == "license"} == {one.license, two.license}
    (together,) = (line for line in lines if line["line"] == "project")
    assert together["license"].split() == sorted([one.license, two.license])
    assert (together["project"], together["active_days"], together["sessions"]) == ("Harbour [north]", 1, 2)
    assert "Harbour [north]" in licensing("billing", *options).out


def test_all_customers_are_billed_where_none_is_named(licensing: Licensing, do: Do[Any]) -> None:
    some = [customer(do, use("a", at(LAST_DAY, 8), at(LAST_DAY, 9)), billing=Billing.TIME) for _ in range(2)]

    organizations = {line["organization"] for line in statement(licensing, "--month", MONTH)["lines"]}

    assert {each.organization for each in some} <= organizations


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_a_month_that_has_not_closed_says_so_beside_the_result(licensing: Licensing, do: Do[Any], format_: str) -> None:
    acme = customer(do, billing=Billing.TIME)
    month = f"{TODAY:%Y-%m}"

    said = licensing("billing", "--month", month, "--organization", acme.organization, "--format", format_)

    assert said.code == 0
    *checksum, message = said.err.splitlines()
    assert [line[:7] for line in checksum] == ([] if format_ == "json" else ["sha256 "])
    assert message == f"{month} is not closed: it has not ended, and this statement can still change."
    if format_ == "json":
        assert json.loads(said.out)["closed"] is False
    if format_ == "table":
        assert said.out.startswith(f"{month}, exact, NOT CLOSED: can still change")
        assert re.search(rf"{acme.license} .*│ NOT CLOSED", said.out)
    if format_ == "csv":
        assert [row["closed"] for row in csv.DictReader(said.out.splitlines())] == ["false"]


async def forget_minutes(tables: Tables, license_id: str) -> None:
    """Leave a month as the first edition saved it, without its minutes."""
    month = {each.month: each async for each in Register(tables).months(license_id)}[MONTH]
    known = await Register(tables).totals_state(license_id)
    assert known
    await Register(tables).save_totals(license_id, known, [replace(month, minutes=None)])


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_minutes_of_sessions_that_are_gone_are_left_out_with_the_reason(
    licensing: Licensing, do: Do[Any], format_: str
) -> None:
    gone, stays = (use(name, at(LAST_DAY, 8), at(LAST_DAY, 9)) for name in "ab")
    acme = customer(do, gone, stays, billing=Billing.TIME)
    options = ("--month", MONTH, "--organization", acme.organization, "--rounding", "minute", "--format", format_)

    async def forget(tables: Tables) -> None:
        await replace(acme, tables=tables).night(NOW)
        row = await tables.get("register", acme.license, rows.ended_key(at(LAST_DAY, 9), "a"))
        assert row
        await tables.commit("register", acme.license, [delete(row.key, row.etag)])
        await forget_minutes(tables, acme.license)

    assert "\n" not in licensing("billing", *options).err.strip()
    do(forget)
    said = licensing("billing", *options)

    assert said.code == 0
    (message,) = (line for line in said.err.splitlines() if not line.startswith("sha256 "))  # one reason is enough
    assert message.startswith(f"{MONTH} can no longer be billed by the minute for {acme.license}: ")
    if format_ == "table":
        assert said.out.startswith(f"{MONTH}, minute, NOT CLOSED: hours are missing")
        assert re.search(r"│ 2 +│ – +│ – +│ NOT CLOSED", said.out, re.MULTILINE)
    if format_ == "csv":
        (row,) = csv.DictReader(said.out.splitlines())
        assert (row["closed"], row["sessions"], row["billed_hours"], row["overdraft_hours"]) == ("false", "2", "", "")
    if format_ == "json":
        assert [line["billed_hours"] for line in json.loads(said.out)["lines"]] == [None]


def test_a_license_that_changed_its_project_is_named_once_where_its_minutes_are_gone(
    licensing: Licensing, do: Do[Any]
) -> None:
    changed = at(LAST_DAY, 0)
    before = FormerTerms(changed, "Fluidit Water", "harbour", Billing.PROJECT, 3)

    async def write(tables: Tables) -> Customer:
        made = new_customer(tables, billing=Billing.PROJECT, project="river")
        uses = [
            use(name, day, day + timedelta(hours=1)) for name, day in (("a", at(EARLIER, 8)), ("b", at(LAST_DAY, 8)))
        ]
        await made.used(uses, former=(before,))
        await made.night(NOW)
        row = await tables.get("register", made.license, rows.ended_key(at(EARLIER, 9), "a"))
        assert row
        await tables.commit("register", made.license, [delete(row.key, row.etag)])
        await forget_minutes(tables, made.license)
        return made

    acme = do(write)

    said = licensing("billing", "--month", MONTH, "--organization", acme.organization, "--rounding", "minute")

    assert f"{MONTH} can no longer be billed by the minute for {acme.license}: " in said.err


def test_a_month_that_has_just_ended_is_not_closed_for_a_reason_that_is_true(
    licensing: Licensing, do: Do[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = customer(do, use("a", at(LAST_DAY, 8), at(LAST_DAY, 9)), billing=Billing.TIME)
    options = ("--month", MONTH, "--organization", acme.organization)

    command = sys.modules["licensing.cli.billing"]  # its package has the function under this name

    monkeypatch.setattr(command, "utc_now", lambda: at(LAST_DAY, 24) + timedelta(minutes=14))
    early = licensing("billing", *options).err
    monkeypatch.setattr(command, "utc_now", lambda: at(LAST_DAY, 24) + timedelta(minutes=15))
    later = licensing("billing", *options).err

    assert f"{MONTH} is not closed: it ended less than 15 minutes ago, " in early
    assert "not closed" not in later


def test_a_month_of_which_days_are_gone_is_refused_and_not_billed_nothing(licensing: Licensing, do: Do[Any]) -> None:
    customer(do, billing=Billing.TIME, valid_from=at(TODAY, 0).replace(year=2020, day=1))
    oldest = oldest_day(datetime.now(UTC))
    gone = oldest if oldest.day > 1 else oldest - timedelta(days=1)

    said = refused(licensing("billing", "--month", f"{gone:%Y-%m}", "--format", "csv"))

    assert "can no longer be billed" in said
    assert str(oldest) in said
    kept = (gone.replace(day=1) + timedelta(days=31)).replace(day=1)
    assert licensing("billing", "--month", f"{kept:%Y-%m}", "--format", "csv").code == 0


FORMATS: Final = ("table", "csv", "json")


@pytest.mark.parametrize("format_", FORMATS)
def test_who_is_not_in_the_register_gets_no_bill(licensing: Licensing, do: Do[Any], format_: str) -> None:
    said = licensing("billing", "--month", MONTH, "--organization", "acmee", "--format", format_, "--out", "bill")

    assert refused(said) == "There is no license of acmee in the register."
    assert not Path("bill").exists()


@pytest.mark.parametrize("format_", FORMATS)
def test_who_has_no_license_that_is_billed_gets_no_bill(licensing: Licensing, do: Do[Any], format_: str) -> None:
    acme = customer(do, use("s", at(LAST_DAY, 8), at(LAST_DAY, 9)))

    said = refused(licensing("billing", "--month", MONTH, "--organization", acme.organization, "--format", format_))

    assert said.startswith(f"No license of {acme.organization} was billed in {MONTH}: ")
    assert "(--billing)" in said


def test_a_month_that_has_not_begun_is_not_billed(licensing: Licensing, do: Do[Any]) -> None:
    acme = customer(do, billing=Billing.TIME)
    next_month = f"{TODAY.replace(day=1) + timedelta(days=31):%Y-%m}"

    said = refused(licensing("billing", "--month", next_month, "--organization", acme.organization))

    assert said == f"{next_month} has not begun: there is nothing to bill yet."


def test_a_month_before_the_first_license_was_valid_or_used_is_not_billed(licensing: Licensing, do: Do[Any]) -> None:
    """A newer file may begin after the first use, which is billed all the same."""
    newer: dict[str, Any] = {"billing": Billing.TIME, "valid_from": at(TODAY, 0)}
    acme = customer(do, **newer)
    customer(do, use("s", at(LAST_DAY, 8), at(LAST_DAY, 9)), organization_id=acme.organization)  # which is not billed
    across = customer(do, use("s", at(LAST_DAY, 23), at(LAST_DAY, 25)), **newer)
    runs = customer(do, use(new_session_id(), at(LAST_DAY, 23), None), **newer)

    said = refused(licensing("billing", "--month", MONTH, "--organization", acme.organization, "--format", "csv"))

    assert said.startswith(f"No license of {acme.organization} was billed in {MONTH}: ")
    for used in (across, runs):
        (line,) = statement(licensing, "--month", MONTH, "--organization", used.organization)["lines"]
        assert line["seat_seconds"] == 3600


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--month", ""),
        ("--month", "2026"),
        ("--month", "2026-13"),
        ("--month", "2026-1"),
        ("--month", "2026-11-01"),
        ("--month", "9999-12"),
        ("--month", "last"),
        ("--month", MONTH, "--rounding", "up"),
        ("--month", MONTH, "--format", "html"),
        ("--month", MONTH, "acme"),
    ],
    ids=" ".join,
)
def test_wrong_usage_of_billing_is_explained(made: Path, licensing: Licensing, arguments: tuple[str, ...]) -> None:
    assert "Usage: " in refused(licensing("billing", *arguments), 2)


# audit


def audited(licensing: Licensing, subject: str) -> list[dict[str, Any]]:
    """What the audit holds on a license."""
    found = [json.loads(line) for line in bare(licensing("audit", "--json")).splitlines()]
    return [entry for entry in found if entry["subject"].split()[0] == subject]


def test_every_change_by_an_operator_leaves_an_entry_that_is_closed(
    licensing: Licensing, do: Do[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("licensing.cli.license.operator", lambda: "olga")
    monkeypatch.setattr("licensing.cli.seats.operator", lambda: "olga")
    monkeypatch.setattr("licensing.cli.maintenance.operator", lambda: "otto")
    session_id = new_session_id()
    acme = customer(do, use(session_id, at(TODAY, 0), None, holder=session_id), in_use=1)

    for command in ("suspend", "reinstate"):
        assert licensing("license", command, acme.license).code == 0
    do(lambda tables: tables.commit("register", acme.license, [merge(rows.STATE, {"in_use": 3})]))
    assert licensing("maintenance", "verify", acme.license, "--repair").code == 0
    assert licensing("license", "release", acme.license, session_id).code == 0

    changes = audited(licensing, acme.license)
    assert [(entry["who"], entry["what"], entry["outcome"]) for entry in changes] == [
        ("olga", "suspend", "done"),
        ("olga", "reinstate", "done"),
        ("otto", "repair", "done"),
        ("olga", "release", "done"),
    ]
    assert changes[-1]["subject"] == f"{acme.license} {session_id}"
    assert all(entry["at"] <= entry["closed_at"] for entry in changes)
    table = bare(licensing("audit", "--month", f"{datetime.now(UTC):%Y-%m}"))
    assert re.search(rf"olga +│ suspend +│ {acme.license} +│ done", table)


@pytest.mark.parametrize("what", ["sweep", "retention"])
def test_a_run_by_hand_over_all_licenses_is_an_operators_change_unless_it_is_dry(
    licensing: Licensing, do: Do[Any], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr("licensing.cli.maintenance.operator", lambda: "otto")
    month = f"{datetime.now(UTC):%Y-%m}"
    begun = []

    async def entries(register: Register) -> list[AuditEntry]:
        return [entry async for entry in register.audit(month) if entry.what == what]

    async def seen(register: Register, ledger: Ledger, license_id: str, *_: object) -> int:
        begun.extend(await entries(register))
        raise UnavailableError("the store did not answer")

    customer(do)
    before = len(do(lambda tables: entries(Register(tables))))
    as_of = ("--as-of", "2026-01-31T05:00+02:00")
    bare(licensing("maintenance", what, "--dry-run"))
    bare(licensing("maintenance", what, *as_of))
    monkeypatch.setattr(f"licensing.services.{what}.sweep_license", seen)
    monkeypatch.setattr(retry, "BACKOFF_SECONDS", ())
    assert licensing("maintenance", what, *as_of).code == 1

    done, failed = do(lambda tables: entries(Register(tables)))[before:]
    assert (done.who, done.subject, done.outcome) == ("otto", "all licenses as of 2026-01-31T03:00:00Z", "done")
    assert (failed.who, failed.subject, failed.outcome) == ("otto", done.subject, "failed")
    assert failed.closed_at
    assert (begun[-1].outcome, begun[-1].closed_at) == ("begun", None)


def test_the_entry_is_written_before_the_change_and_a_change_that_failed_says_so(
    licensing: Licensing, do: Do[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    acme = customer(do)
    seen = []

    async def failing(ledger: Ledger, license_id: str, **_: object) -> None:
        month = f"{datetime.now(UTC):%Y-%m}"
        seen.extend([entry async for entry in ledger._register.audit(month) if entry.subject == license_id])
        raise UnavailableError("the store did not answer")

    monkeypatch.setattr(Ledger, "set_status", failing)
    assert "The store cannot be used" in refused(licensing("license", "suspend", acme.license))

    assert [(entry.outcome, entry.closed_at) for entry in seen] == [("begun", None)]
    (entry,) = audited(licensing, acme.license)
    assert (entry["what"], entry["outcome"]) == ("suspend", "failed")
    assert entry["closed_at"]


def test_what_changed_nothing_leaves_no_entry(licensing: Licensing, do: Do[Any]) -> None:
    acme = customer(do)

    bare(licensing("usage", acme.license, "--format", "csv"))
    assert licensing("maintenance", "verify", acme.license, "--repair").code == 0
    assert "give the path of its file instead" in refused(licensing("license", "suspend", "nobodys-1"))

    assert audited(licensing, acme.license) == audited(licensing, "nobodys-1") == []


def test_a_month_without_changes_is_empty_and_what_is_no_month_is_wrong_usage(
    licensing: Licensing, do: Do[Any]
) -> None:
    assert bare(licensing("audit", "--month", "2020-01", "--json")) == ""
    for month in ("2026-13", "2026-1", "last", ""):
        assert "Usage: " in refused(licensing("audit", "--month", month), 2)


# maintenance

SWEPT: Final = r"sweep licenses=\d+ lapsed={} failed=0 seconds=\d+\.\d\n"
RESULT: Final = r"retention licenses=\d+ days={} months={} deleted={} oldest=\S+ overdue=0 failed=0 seconds=\d+\.\d\n"


def test_sweep_says_how_many_lapsed_and_a_dry_run_ends_none(licensing: Licensing, do: Do[Any]) -> None:
    lapsed = new_session_id()
    long_ago = at(YESTERDAY, 8)

    async def write(tables: Tables) -> Customer:
        made = new_customer(tables)
        await made.used([use(lapsed, long_ago, None)], now=at(YESTERDAY, 9), in_use=1)
        return made

    acme = do(write)

    assert re.fullmatch("would " + SWEPT.format(1), bare(licensing("maintenance", "sweep", "--dry-run")))
    assert lapsed in do(lambda tables: look(tables, acme.license)).active
    before = ("--as-of", f"{YESTERDAY}T09:14:59Z")
    assert re.fullmatch(SWEPT.format(0), bare(licensing("maintenance", "sweep", *before)))
    assert re.fullmatch(SWEPT.format(1), bare(licensing("maintenance", "sweep")))
    assert re.fullmatch(SWEPT.format(0), bare(licensing("maintenance", "sweep")))
    after = do(lambda tables: look(tables, acme.license))
    assert (after.active, list(after.ended), after.state["in_use"]) == ({}, [lapsed], 0)


def test_retention_says_what_it_did_a_dry_run_does_nothing_and_a_second_run_finds_nothing(
    licensing: Licensing, do: Do[Any]
) -> None:
    bare(licensing("maintenance", "retention"))  # so that what follows is about this customer alone
    old = TODAY - timedelta(days=400)
    acme = customer(do, use("old", at(old, 8), at(old, 9)), use("new", at(YESTERDAY, 8), at(YESTERDAY, 9)))

    async def keys(tables: Tables) -> set[str]:
        return {row.key async for row in tables.rows("register", acme.license, columns=())}

    before = do(keys)
    would = bare(licensing("maintenance", "retention", "--dry-run"))
    assert do(keys) == before
    assert re.match("would run " + RESULT.format(r"\d+", r"\d+", 1), would)
    assert f"\nwould reduce {old:%Y-%m} of {acme.license} to what outlives its sessions\n" in would

    did = bare(licensing("maintenance", "retention"))
    assert re.fullmatch(RESULT.format(r"\d+", r"\d+", 1), did)  # the session; totals past their year are not made
    after = do(keys)
    assert not any(key.startswith(("ended:", "day:")) and f"{old:%Y%m%d}" in key.replace("-", "") for key in after)
    assert {f"day:{YESTERDAY}", f"month:{old:%Y-%m}"} <= after
    assert re.fullmatch(RESULT.format(0, 0, 0), bare(licensing("maintenance", "retention")))
    assert do(keys) == after


def test_retention_as_of_a_day_to_come_lets_go_of_what_is_due_by_then(licensing: Licensing, do: Do[Any]) -> None:
    ended = year_before(at(TODAY + timedelta(days=3), 9))
    customer(do, use("s", ended - timedelta(hours=1), ended))
    due = at(TODAY + timedelta(days=3), 9)

    def deleted(as_of: datetime) -> int:
        printed = bare(licensing("maintenance", "retention", "--dry-run", "--as-of", as_of.isoformat()))
        found = re.match("would run " + RESULT.format(r"\d+", r"\d+", r"(\d+)"), printed)
        assert found
        return int(found[1])

    assert deleted(due + timedelta(seconds=1)) - deleted(due) == 1


@pytest.mark.parametrize("command", ["sweep", "retention"])
def test_what_is_due_at_a_time_to_come_is_reported_and_not_done(
    licensing: Licensing, do: Do[Any], command: str
) -> None:
    """Else a seat would be free whose program still runs, and what is a year old then would be gone now."""
    session_id = new_session_id()
    ended = year_before(at(TODAY + timedelta(days=2), 9))
    acme = customer(do, use("old", ended - timedelta(hours=1), ended), use(session_id, at(TODAY, 0), None), in_use=1)
    days_ahead = ("--as-of", f"{TODAY + timedelta(days=3)}")

    said = refused(licensing("maintenance", command, *days_ahead), 2)

    assert "--as-of takes a future time only with --dry-run" in said
    after = do(lambda tables: look(tables, acme.license))
    assert (list(after.active), list(after.ended), after.state["in_use"]) == ([session_id], ["old"], 1)
    would = bare(licensing("maintenance", command, *days_ahead, "--dry-run"))
    assert re.search(r" (lapsed|deleted)=[1-9]", would)
    assert session_id in do(lambda tables: look(tables, acme.license)).active


def test_verify_tells_what_does_not_agree_and_mends_it_when_asked(licensing: Licensing, do: Do[Any]) -> None:
    session_id = new_session_id()
    acme = customer(do, use(session_id, at(TODAY, 0), None), in_use=1)

    said = licensing("maintenance", "verify", acme.license)
    assert (said.code, said.out) == (0, f"{acme.license}: 1 session, 1 seat held, in order\n")
    assert said.err == "1 license recounted, all in order.\n"

    do(lambda tables: tables.commit("register", acme.license, [merge(rows.STATE, {"in_use": 3})]))
    said = licensing("maintenance", "verify", acme.license)
    assert said.code == 1
    assert said.out.splitlines()[1] == "  the license counts 3 seats in use, and 1 are held"
    said = licensing("maintenance", "verify", acme.license, "--json")
    assert (said.code, len(json.loads(said.out)["flaws"])) == (1, 1)

    assert licensing("maintenance", "verify", acme.license, "--repair").code == 0
    verdict = json.loads(licensing("maintenance", "verify", acme.license, "--json").out)
    assert (verdict["holders"], verdict["flaws"], verdict["steady"]) == (1, [], True)
    assert "nobodys-1" in refused(licensing("maintenance", "verify", "nobodys-1"))


def lose(do: Do[Any], acme: Customer, key: str, column: str) -> None:
    """A row loses a column."""

    async def replaced(tables: Tables) -> None:
        row = await tables.get("register", acme.license, key)
        assert row
        columns = {name: value for name, value in row.content.items() if name.partition("@")[0] != column}
        await tables.commit("register", acme.license, [put(key, columns)])

    do(replaced)


def test_verify_names_the_rows_that_cannot_be_read_repairs_nothing_there_and_goes_on(
    licensing: Licensing, do: Do[Any]
) -> None:
    """Without the row of a session its seat would be counted as free."""
    first, second = new_session_id(), new_session_id()
    acme = customer(do, use(first, at(TODAY, 0), None), use(second, at(TODAY, 0), None), in_use=2)
    other = customer(do, use(new_session_id(), at(TODAY, 0), None), in_use=1)
    holder = "canary-pseudonym-22-chars"
    do(lambda tables: tables.commit("register", acme.license, [put(f"seat:{holder}", {"sessions": "many"})]))
    lose(do, acme, f"active:{first}", "user")
    stateless = customer(do)
    lose(do, stateless, "license", "seats")

    said = licensing("maintenance", "verify", "--repair")

    assert said.code == 1
    assert (
        f"{acme.license}: not recounted, 2 rows cannot be read\n"
        f"  the row active:{first} of {acme.license} lacks its column user; correct it by hand\n"
        f"  the row seat:… of {acme.license} has a column sessions that cannot be read; correct it by hand\n"
    ) in said.out
    assert f"  the row license of {stateless.license} lacks its column seats; correct it by hand\n" in said.out
    assert f"{other.license}: 1 session, 1 seat held, in order\n" in said.out
    assert holder not in said.out + said.err
    assert do(lambda tables: look(tables, acme.license)).state["in_use"] == 2
    assert audited(licensing, acme.license) == []
    do(lambda tables: tables.commit("register", stateless.license, [merge("license", {"seats": 3})]))
    do(lambda tables: tables.commit("register", acme.license, [delete(f"seat:{holder}"), delete(f"active:{first}")]))
    assert licensing("maintenance", "verify", acme.license, "--repair").code == 0
    assert do(lambda tables: look(tables, acme.license)).state["in_use"] == 1


def test_a_row_that_cannot_be_read_fails_the_sweep_of_its_own_license_alone(
    licensing: Licensing, do: Do[Any], caplog: pytest.LogCaptureFixture
) -> None:
    bad, lapsed = new_session_id(), new_session_id()

    async def write(tables: Tables, session_id: str) -> Customer:
        made = new_customer(tables)
        await made.used([use(session_id, at(YESTERDAY, 8), None)], now=at(YESTERDAY, 9), in_use=1)
        return made

    acme, other = do(lambda tables: write(tables, bad)), do(lambda tables: write(tables, lapsed))
    key = f"active:{bad}"
    lose(do, acme, key, "holder")

    said = licensing("maintenance", "sweep")

    assert said.code == 1
    assert re.fullmatch(r"sweep licenses=\d+ lapsed=\d+ failed=1 seconds=\d+\.\d\n", said.out)
    assert said.err.splitlines() == [
        f"the row {key} of {acme.license} lacks its column holder; correct it by hand.",
        "1 license could not be swept. Run it again then.",
    ]
    assert list(do(lambda tables: look(tables, other.license)).ended) == [lapsed]
    assert f"a row cannot be read: {key}" in caplog.messages
    do(lambda tables: tables.commit("register", acme.license, [delete(key)]))


@pytest.mark.parametrize("place", ["active", "ended", "month"])
def test_a_row_that_cannot_be_read_fails_the_retention_of_its_own_license_and_keeps_nothing_past_its_year(
    licensing: Licensing, do: Do[Any], place: str, caplog: pytest.LogCaptureFixture
) -> None:
    bare(licensing("maintenance", "retention"))
    old, running = TODAY - timedelta(days=400), new_session_id()
    past = use("old", at(old, 8), at(old, 9))
    acme = customer(
        do, past, use("new", at(YESTERDAY, 8), at(YESTERDAY, 9)), use(running, at(TODAY, 0), None), in_use=1
    )
    other = customer(do, past, use("new", at(YESTERDAY, 8), at(YESTERDAY, 9)), organization_id=acme.organization)
    month = rows.month_key("2020-01")
    do(lambda tables: tables.commit("register", acme.license, [put(month, {"users": 9})]))
    key, column = {
        "active": (f"active:{running}", "started_at"),
        "ended": (rows.ended_key(at(YESTERDAY, 9), "new"), "user"),
        "month": (month, "users"),
    }[place]
    lose(do, acme, key, column)

    said = licensing("maintenance", "retention")

    assert said.code == 1
    assert " deleted=2 " in said.out
    assert " failed=1 " in said.out
    assert said.err.splitlines() == [
        f"the row {key} of {acme.license} lacks its column {column}; correct it by hand.",
        "1 license could not be done. Run it again then.",
    ]
    assert caplog.messages.count(f"a row cannot be read: {key}") == 1
    assert "old" not in do(lambda tables: look(tables, acme.license)).ended
    after = do(lambda tables: look(tables, other.license))
    assert "old" not in after.ended
    assert rows.day_key(YESTERDAY) in do(lambda tables: keys(tables, other.license))
    do(lambda tables: tables.commit("register", acme.license, [delete(key)]))
    assert licensing("maintenance", "retention").code == 0


def test_a_row_whose_key_cannot_be_read_fails_its_own_license_with_a_sentence(
    licensing: Licensing, do: Do[Any]
) -> None:
    acme = customer(do)
    key = f"ended:{YESTERDAY}:x"
    do(lambda tables: tables.commit("register", acme.license, [put(key, {"started_at": at(YESTERDAY, 8)})]))
    sentence = f"the row {key} of {acme.license} has a key that cannot be read; correct it by hand."

    assert refused(licensing("usage", acme.license)) == sentence
    said = licensing("maintenance", "retention")

    assert (said.code, " failed=1 " in said.out) == (1, True)
    assert said.err.splitlines()[0] == sentence
    do(lambda tables: tables.commit("register", acme.license, [delete(key)]))


async def keys(tables: Tables, license_id: str) -> set[str]:
    """The keys of a license's rows."""
    return {row.key async for row in tables.rows("register", license_id, columns=())}


@pytest.mark.parametrize("command", [("usage", "ID"), ("billing", "--month", MONTH, "--organization", "ORG")])
def test_a_report_or_bill_that_would_lack_a_row_is_refused_with_the_rows_key(
    licensing: Licensing, do: Do[Any], command: tuple[str, ...]
) -> None:
    ended = at(LAST_DAY, 9)
    acme = customer(do, use("s", at(LAST_DAY, 8), ended), billing=Billing.TIME)
    key = rows.ended_key(ended, "s")
    lose(do, acme, key, "host")

    said = refused(licensing(*({"ID": acme.license, "ORG": acme.organization}.get(word, word) for word in command)))

    assert said == f"the row {key} of {acme.license} lacks its column host; correct it by hand."
    do(lambda tables: tables.commit("register", acme.license, [delete(key)]))


@pytest.mark.parametrize(
    "arguments",
    [
        ("sweep", "--as-of", "yesterday"),
        ("retention", "--as-of", "2026-13-01"),
        ("retention", "--as-of", "0001-01-01T00:00+14:00"),
        ("retention", "acme-1"),
        ("verify", "acme-1", "--dry-run"),
    ],
    ids=" ".join,
)
def test_wrong_usage_of_maintenance_is_explained(licensing: Licensing, do: Do[Any], arguments: tuple[str, ...]) -> None:
    assert "Usage: " in refused(licensing("maintenance", *arguments), 2)


# Every one of them.

READING: Final = (
    ("usage", "acme-1", "--format", "json"),
    ("billing", "--month", MONTH, "--format", "csv"),
    ("audit", "--json"),
    ("maintenance", "sweep"),
    ("maintenance", "retention"),
    ("maintenance", "verify"),
)


@pytest.mark.parametrize("arguments", READING, ids=" ".join)
def test_a_store_that_cannot_be_reached_is_said_in_one_line(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("LICENSING_STORAGE", local_storage(free_port()))

    assert re.fullmatch(r"The store cannot be used: [^.]+\.", refused(licensing(*arguments)))


@pytest.mark.parametrize("name", ["LICENSING_STORAGE", "LICENSING_STORAGE__tableServiceUri"])
@pytest.mark.parametrize("arguments", [*READING, ("license", "list"), ("serve",)], ids=" ".join)
def test_a_store_that_is_not_named_rightly_is_said_in_one_line(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], name: str
) -> None:
    for each in ("LICENSING_STORAGE", "LICENSING_STORAGE__tableServiceUri"):
        monkeypatch.setenv(each, "garbage" if each == name else "")

    assert re.fullmatch(rf"{name} must be [^.]+\.", refused(licensing(*arguments)))


LONG: Final = (
    ("usage", "--organization", "ORG", "--format", "json"),
    ("billing", "--month", f"{YESTERDAY:%Y-%m}", "--format", "csv"),
    ("maintenance", "sweep"),
    ("maintenance", "retention"),
    ("maintenance", "verify", "ID"),
)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudoterminal")
@pytest.mark.parametrize("watched", [True, False], ids=["terminal", "pipe"])
@pytest.mark.parametrize("arguments", LONG, ids=" ".join)
def test_long_work_shows_a_bar_on_a_terminal_and_nowhere_else(
    do: Do[Any], made: Path, azurite: str, arguments: tuple[str, ...], watched: bool
) -> None:
    used = customer(do, use("s", at(YESTERDAY, 8), at(YESTERDAY, 9)), billing=Billing.TIME)
    settings = {"LICENSING_HOME": str(made.absolute()), "LICENSING_STORAGE": azurite}
    words = [{"ORG": used.organization, "ID": used.license}.get(word, word) for word in arguments]

    code, out, messages = in_a_process(*words, settings=settings, watched=watched)

    assert code == 0
    assert (b"licenses" in messages) is watched
    assert (b"\x1b" in messages) is watched
    assert out
    assert b"\x1b" not in out
