"""`licensing license list`: who waits, and what ends soon."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from licensing.rules.license import Kind
from licensing.storage.ledger import Ledger
from licensing.storage.tables import Tables
from tests.cli.conftest import Do, Licensing
from tests.register_rows import new_customer

HOURS: Final = {"days": 24, "half": 12, "ended": -1, "sixty": 60 * 24, "later": 60 * 24 + 1, "two": 36}
"""In how many hours licenses of these products end, and some minutes before that."""
SHOWN: Final = {
    "days": "ends within a day",
    "half": "ends within a day",
    "ended": "ended",
    "sixty": "ends in 59 days",
    "two": "ends in 1 day",
}


@pytest.fixture
def organization(do: Do[Any]) -> str:
    """A customer with a license of each product in `HOURS`, and one that takes no seats and ends in ten years."""

    async def used(tables: Tables) -> str:
        now = datetime.now(UTC) - timedelta(minutes=5)
        first = new_customer(tables)
        for product, hours in HOURS.items():
            until = now + timedelta(hours=hours)
            of_one = {"organization_id": first.organization, "product": product, "valid_until": until}
            await new_customer(tables, **of_one).used(in_use=2)
        named = {"product": "named", "kind": Kind.NAMED_USER, "seats": 0}
        await new_customer(tables, organization_id=first.organization, **named).used()
        return first.organization

    return str(do(used))


def test_a_license_that_ends_within_sixty_days_says_so(licensing: Licensing, organization: str) -> None:
    said = licensing("license", "list", "--organization", organization).out
    lines = json.loads(licensing("license", "list", "--organization", organization, "--json").out)

    by_product = {line["product"]: line["ends_in_days"] for line in lines}
    assert by_product == {"days": 0, "half": 0, "ended": 0, "sixty": 59, "later": None, "two": 1, "named": None}
    rows = {cells[2].strip(): cells for line in said.splitlines() if len(cells := line.strip("│").split("│")) > 9}
    for product in by_product:
        assert rows[product][9].strip() == SHOWN.get(product, ""), said
    assert "ends soon" in said


def test_nothing_is_said_of_ends_where_none_is_near(licensing: Licensing, do: Do[Any]) -> None:
    async def used(tables: Tables) -> str:
        customer = new_customer(tables)
        await customer.used()
        return customer.organization

    assert "ends" not in licensing("license", "list", "--organization", do(used)).out


def test_who_waits_is_listed_beside_the_seats_in_use(
    licensing: Licensing, organization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Ledger, "waiting", lambda _, state: 7 if state.terms.product == "two" else 0)

    said = licensing("license", "list", "--organization", organization).out
    lines = json.loads(licensing("license", "list", "--organization", organization, "--json").out)

    assert {line["product"]: (line["in_use"], line["waiting"]) for line in lines}["two"] == (2, 7)
    assert sum(line["waiting"] for line in lines) == 7
    (row,) = (line for line in said.splitlines() if "│ two " in line)
    assert [cell.strip() for cell in row.split("│")][6:8] == ["2", "7"]
