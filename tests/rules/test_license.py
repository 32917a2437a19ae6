"""Whom a license admits, which licenses contradict themselves, and how long a lease lasts."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from pydantic import ValidationError

from licensing.rules.license import Kind, License, Refusal, lease_end, refusal_of

BEGINS, ENDS = 1_780_000_000, 1_790_000_000
ADA, BOB = "a" * 43, "b" * 43
PC, LAPTOP = "p" * 43, "l" * 43
NOW = datetime.fromtimestamp(BEGINS + 1000, UTC)


def claims(**changes: Any) -> dict[str, Any]:
    return {
        "iss": "vendor",
        "sub": "acme-water-1",
        "serial": 7,
        "iat": BEGINS,
        "nbf": BEGINS,
        "exp": ENDS,
        "organization": {"id": "acme", "name": "Acme Water Oy"},
        "product": "Water",
        "seats": 5,
        "salt": "s" * 43,
        "service": "https://licensing.example/api",
        "lease_keys": {"keys": []},
        **changes,
    }


def license(**changes: Any) -> License:
    return License.model_validate(claims(**changes))


def admitted(
    license: License, user: str = ADA, host: str = PC, address: str | None = "198.51.100.7", now: datetime = NOW
) -> Refusal | None:
    return refusal_of(license, user, host, ip_address(address) if address else None, now)


# Dates.


@pytest.mark.parametrize(
    ("seconds", "refusal"),
    [
        (BEGINS - 1, Refusal.NOT_YET_VALID),
        (BEGINS - 1e-6, Refusal.NOT_YET_VALID),
        (BEGINS, None),
        (ENDS - 1, None),
        (ENDS - 1e-6, None),
        (ENDS, Refusal.EXPIRED),
        (ENDS + 1, Refusal.EXPIRED),
    ],
)
def test_a_license_holds_from_its_first_second_to_the_last_before_its_end(
    seconds: float, refusal: Refusal | None
) -> None:
    assert admitted(license(), now=datetime.fromtimestamp(seconds, UTC)) == refusal


def test_the_zone_of_the_clock_does_not_matter() -> None:
    helsinki = datetime.fromtimestamp(ENDS, UTC).astimezone(tz=None)
    assert admitted(license(), now=helsinki) == Refusal.EXPIRED


# Users and hosts.


@pytest.mark.parametrize("kind", Kind)
def test_only_listed_users_are_admitted_where_users_are_listed(kind: Kind) -> None:
    listing = license(kind=kind, users=[ADA], hosts=[PC])
    assert admitted(listing) is None
    assert admitted(listing, user=BOB) == Refusal.USER


@pytest.mark.parametrize("kind", Kind)
def test_only_listed_hosts_are_admitted_where_hosts_are_listed(kind: Kind) -> None:
    listing = license(kind=kind, users=[ADA], hosts=[PC])
    assert admitted(listing, host=LAPTOP) == Refusal.HOST


def test_a_license_without_lists_admits_anybody_anywhere() -> None:
    assert admitted(license(), user=BOB, host=LAPTOP, address=None) is None


# Networks.


@pytest.mark.parametrize(
    ("networks", "address", "refusal"),
    [
        (["198.51.100.0/24"], "198.51.100.0", None),
        (["198.51.100.0/24"], "198.51.100.255", None),
        (["198.51.100.0/24"], "198.51.101.0", Refusal.NETWORK),
        (["198.51.100.0/24", "203.0.113.7/32"], "203.0.113.7", None),
        (["203.0.113.7"], "203.0.113.7", None),
        (["203.0.113.7"], "203.0.113.8", Refusal.NETWORK),
        (["2001:db8:1::/48"], "2001:db8:1:ffff::9", None),
        (["2001:db8:1::/48"], "2001:db8:2::9", Refusal.NETWORK),
        (["2001:db8:1::/48"], "198.51.100.7", Refusal.NETWORK),
        (["198.51.100.0/24"], "2001:db8:1::9", Refusal.NETWORK),
        (["198.51.100.0/24", "2001:db8:1::/48"], "2001:db8:1::9", None),
        (["198.51.100.0/24"], None, Refusal.NETWORK),
        (["0.0.0.0/0", "::/0"], None, Refusal.NETWORK),
        (["0.0.0.0/0"], "192.0.2.1", None),
    ],
)
def test_only_the_named_networks_are_admitted(
    networks: list[str], address: str | None, refusal: Refusal | None
) -> None:
    assert admitted(license(networks=networks), address=address) == refusal


def test_the_first_rule_that_fails_is_the_answer() -> None:
    listing = license(users=[ADA], hosts=[PC], networks=["203.0.113.0/24"])
    late = datetime.fromtimestamp(ENDS, UTC)
    assert admitted(listing, BOB, LAPTOP, now=late) == Refusal.EXPIRED
    assert admitted(listing, BOB, LAPTOP) == Refusal.USER
    assert admitted(listing, ADA, LAPTOP) == Refusal.HOST
    assert admitted(listing, ADA, PC) == Refusal.NETWORK


# Licenses that contradict themselves, or are none.


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"exp": BEGINS}, "ends before it begins"),
        ({"exp": BEGINS - 1}, "ends before it begins"),
        ({"lease": 300}, "must outlast the heartbeat"),
        ({"heartbeat": 900}, "must outlast the heartbeat"),
        ({"kind": "named-user"}, "must list its users"),
        ({"kind": "named-user", "hosts": [PC]}, "must list its users"),
        ({"kind": "node-locked"}, "must list its hosts"),
        ({"kind": "node-locked", "users": [ADA]}, "must list its hosts"),
        ({"collect": False}, "must be recorded"),
    ],
)
def test_a_license_that_contradicts_itself_is_malformed(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        license(**changes)


@pytest.mark.parametrize("claim", claims())
def test_a_license_without_a_required_claim_is_malformed(claim: str) -> None:
    rest = claims()
    del rest[claim]
    with pytest.raises(ValidationError, match=claim):
        License.model_validate(rest)


@pytest.mark.parametrize(
    "changes",
    [
        {"sub": "../other"},
        {"sub": "-dash"},
        {"sub": "a" * 65},
        {"sub": "two words"},
        {"sub": "line\n"},
        {"sub": ""},
        {"organization": {"id": "a/b", "name": "A"}},
        {"organization": {"id": "acme", "name": ""}},
        {"organization": "acme"},
        {"serial": 0},
        {"serial": 1.5},
        {"serial": "7"},
        {"serial": True},
        {"serial": 2**53 + 1},
        {"iat": -1},
        {"nbf": 1.5},
        {"exp": 10**30},
        {"exp": "2027-12-31"},
        {"exp": True},
        {"exp": None},
        {"seats": -1},
        {"seats": 1_000_001},
        {"seats": "5"},
        {"seats": True},
        {"overdraft": 0.5},
        {"kind": "site"},
        {"sharing": "everybody"},
        {"billing": "yes"},
        {"users": [ADA[:42]]},
        {"users": [ADA + "\n"]},
        {"users": ADA},
        {"hosts": ["pc-1.acme.example"]},
        {"networks": ["198.51.100.7/24"]},
        {"networks": ["everywhere"]},
        {"features": [""]},
        {"features": [1]},
        {"collect": "yes"},
        {"salt": "short"},
        {"salt": "s" * 42 + "="},
        {"heartbeat": 0},
        {"lease": 10**9},
        {"grace": -1},
        {"borrow": -1},
        {"service": ""},
        {"lease_keys": []},
        {"product": "x" * 201},
        {"product": "two\nlines"},
        {"product": "\ud800"},
        {"product": "bell\a"},
        {"organization": {"id": "acme", "name": "Acme\u2028NOT A COMMENT"}},
    ],
)
def test_a_claim_of_a_wrong_type_or_size_is_malformed(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        license(**changes)


def test_unknown_claims_are_ignored_so_that_issuers_can_add_some() -> None:
    assert license(colour="blue", organization={"id": "acme", "name": "Acme", "country": "FI"}).seats == 5


def test_what_a_license_leaves_out_has_the_values_of_the_contract() -> None:
    least = license()
    assert (least.kind, least.sharing, least.billing) == ("floating", "none", "none")
    assert (least.heartbeat_seconds, least.lease_seconds, least.grace_seconds, least.borrow_seconds) == (
        300,
        900,
        259200,
        0,
    )
    assert (least.overdraft, least.collect) == (0, True)


def test_a_bound_license_may_go_unrecorded() -> None:
    assert not license(kind="named-user", users=[ADA], collect=False).collect


# Leases.


@pytest.mark.parametrize(
    ("borrow", "wanted", "seconds", "borrowed"),
    [
        (0, 0, 900, False),
        (0, 3600, 900, False),
        (7200, 0, 900, False),
        (7200, 900, 900, False),
        (7200, 901, 901, True),
        (7200, 7200, 7200, True),
        (7200, 7201, 7200, True),
        (600, 7200, 900, False),
    ],
)
def test_a_lease_lasts_as_asked_for_up_to_what_may_be_borrowed(
    borrow: int, wanted: int, seconds: int, borrowed: bool
) -> None:
    end = lease_end(
        NOW,
        lease_seconds=900,
        borrow_seconds=borrow,
        wanted_seconds=wanted,
        valid_until=NOW + timedelta(days=1),
    )
    assert end == (NOW + timedelta(seconds=seconds), borrowed)


@pytest.mark.parametrize("wanted", [0, 7200])
def test_no_lease_outlasts_its_license(wanted: int) -> None:
    soon = NOW + timedelta(seconds=60)
    end, _ = lease_end(NOW, lease_seconds=900, borrow_seconds=7200, wanted_seconds=wanted, valid_until=soon)
    assert end == soon


# Names.


def test_lengths_have_long_names_in_the_code_and_short_ones_in_the_file() -> None:
    lengths = {"heartbeat": 60, "lease": 120, "grace": 180, "borrow": 240}
    named = license(**{f"{claim}_seconds": seconds for claim, seconds in lengths.items()})
    assert named == license(**lengths)
    assert lengths.items() <= named.claims().items()


@pytest.mark.parametrize("claim", ["heartbeat", "lease", "grace", "borrow", "iss", "sub", "exp"])
def test_an_error_names_the_claim_and_not_the_field(claim: str) -> None:
    with pytest.raises(ValidationError) as caught:
        license(**{claim: {}})
    assert caught.value.errors()[0]["loc"] == (claim,)
