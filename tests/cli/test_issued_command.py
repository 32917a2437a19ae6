"""`licensing license issued`: what a vendor has sold, from its books."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from licensing.cli import issued as issued_command
from tests.cli.conftest import Licensing

NOW = datetime.now(UTC)


def issue(licensing: Licensing, license_id: str, days: int, *options: str, organization: str = "acme") -> None:
    """Issue a license whose last day is so many days from today."""
    until = f"{NOW + timedelta(days=days):%Y-%m-%d}"
    who = ("--organization", organization, "--organization-name", organization.title())
    what = ("--product", "Water", "--from", "2020-01-01", "--until", until, "--id", license_id)
    said = licensing("license", "issue", *who, *what, "--yes", *options)
    assert said.code == 0, said.err


def listed(licensing: Licensing, *options: str) -> list[str]:
    """The ids that the command lists."""
    said = licensing("license", "issued", "--json", *options)
    assert said.code == 0, said.err
    return [line["license"] for line in json.loads(said.out)]


def test_people_read_the_last_day_and_programs_the_instant(made: Path, licensing: Licensing) -> None:
    issue(licensing, "acme-1", 400, "--seats", "25", "--until", "2098-12-31", "--serial", "42")
    rows = [re.split(r" *│ *", line.strip("│ ")) for line in licensing("license", "issued").out.splitlines()]
    (row,) = (row for row in rows if row[0] == "acme-1")
    assert row == ["acme-1", "acme", "Water", "25", "2098-12-31", "42"]
    (line,) = json.loads(licensing("license", "issued", "--json").out)
    assert line["valid_until"] == "2099-01-01T00:00:00+00:00"
    assert line["valid_from"] == "2020-01-01T00:00:00+00:00"
    assert (line["organization"], line["organization_name"], line["seats"]) == ("acme", "Acme", 25)
    assert (line["serial"], line["oldest"], line["trial"], line["order"]) == (42, 0, False, None)
    assert line["issued_at"].startswith(f"{NOW:%Y-%m-}")


def test_a_customers_licenses(made: Path, licensing: Licensing) -> None:
    issue(licensing, "acme-1", 400)
    issue(licensing, "brook-1", 400, organization="brook")
    assert listed(licensing) == ["acme-1", "brook-1"]
    assert listed(licensing, "--organization", "brook") == ["brook-1"]
    said = licensing("license", "issued", "--organization", "nobody")
    assert (said.code, said.err) == (1, "There is no customer nobody in .local.\n")


def test_what_is_due_ends_soon_or_has_just_ended_and_has_no_newer_file(made: Path, licensing: Licensing) -> None:
    for license_id, days in (("soon", 30), ("later", 90), ("ended", -30), ("long-ago", -90), ("renewed", 30)):
        issue(licensing, license_id, days)
    assert listed(licensing, "--due", "60d") == ["ended", "renewed", "soon"]
    assert licensing("license", "renew", "renewed", "--until", "2098-12-31").code == 0
    assert listed(licensing, "--due", "60d") == ["ended", "soon"]
    assert "ended" in licensing("license", "issued", "--due", "60d").out
    assert listed(licensing, "--due", "20w") == ["long-ago", "ended", "soon", "later"]


def test_how_many_days_are_left_is_shown_of_what_is_due(made: Path, licensing: Licensing) -> None:
    issue(licensing, "soon", 30)
    said = licensing("license", "issued", "--due", "60d")
    assert re.search(r"│ 30 +│$", said.out, re.MULTILINE)
    assert "days left" in said.out


@pytest.mark.parametrize("options", [(), ("--due", "60d")])
def test_trials_and_orders_have_columns_only_if_there_are_any(
    made: Path, licensing: Licensing, options: tuple[str, ...]
) -> None:
    issue(licensing, "acme-1", 30)
    shown = licensing("license", "issued", *options).out
    assert ("trial" in shown, "order" in shown) == (False, False)
    who = ("--organization", "acme", "--product", "Water")
    assert licensing("license", "issue", *who, "--trial", "30d").code == 0
    shown = licensing("license", "issued", *options).out
    assert ("trial" in shown, "order" in shown) == (True, False)


@pytest.mark.parametrize("time", ["00:00:00", "10:00:00", "23:59:59"])
def test_due_counts_from_day_to_day_at_every_time_of_the_day(
    made: Path, licensing: Licensing, monkeypatch: pytest.MonkeyPatch, time: str
) -> None:
    for days in (-61, -60, 0, 60, 61):
        issue(licensing, f"day{days}", days)
    moment = datetime.fromisoformat(f"{NOW:%Y-%m-%d}T{time}+00:00")
    monkeypatch.setattr(issued_command, "utc_now", lambda: moment)
    assert listed(licensing, "--due", "60d") == ["day-60", "day0", "day60"]
    assert listed(licensing, "--due", "1d") == ["day0"]


@pytest.mark.parametrize("due", ["60", "soon", "-1d", "0d", "9999w"])
def test_a_wrong_length_of_time_is_explained(made: Path, licensing: Licensing, due: str) -> None:
    said = licensing("license", "issued", "--due", due)
    assert said.code == 2
    assert "--due takes a length of time such as 12h, 30d or 4w" in " ".join(said.err.replace("│", " ").split())


def test_a_license_from_before_the_books_is_listed_with_what_is_known(made: Path, licensing: Licensing) -> None:
    entry = {"serial": 7, "until": "2098-01-01T00:00:00+00:00", "issuer_key": "k", "lease_keys": []}
    (made / "licenses.json").write_text(json.dumps({"old-1": entry}), encoding="utf-8")
    assert "2097-12-31" in licensing("license", "issued").out
    (line,) = json.loads(licensing("license", "issued", "--json").out)
    assert (line["license"], line["serial"], line["seats"], line["organization"]) == ("old-1", 7, None, None)


def test_an_empty_register_says_where_issued_licenses_are_listed(
    made: Path, licensing: Licensing, azurite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    issue(licensing, "new-1", 400, organization="newcomer")
    issue(licensing, "new-2", 400, organization="newcomer")
    monkeypatch.setenv("LICENSING_STORAGE", azurite)
    said = licensing("license", "list", "--organization", "newcomer")
    assert said.code == 0
    assert "`licensing license issued` lists the 2 licenses that this home has issued." in said.err
    assert licensing("license", "list", "--organization", "other").err == ""
