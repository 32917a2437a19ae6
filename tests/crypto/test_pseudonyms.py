"""What stands in place of a name, held against the golden vectors."""

import base64
import re
import unicodedata
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from licensing.crypto.pseudonyms import (
    ClientKind,
    Peppers,
    base64url,
    client_hash,
    client_hashes,
    from_base64url,
    is_nobodys_host,
    network_of,
    normalized,
)
from licensing.rules.names import NOBODYS_HOSTS
from tests.vectors import load

VECTORS = load("pseudonyms.json")
PROTOCOL = Path(__file__).parents[2] / "docs" / "protocol.md"
SALT = from_base64url(VECTORS["client"]["salt"])
PEPPERS = {name: base64.b64decode(key) for name, key in VECTORS["service"]["peppers"].items()}
ADA, PC = "a" * 43, "p" * 43


@pytest.mark.parametrize("case", VECTORS["client"]["names"], ids=lambda case: case["note"])
def test_the_clients_hash_is_that_of_the_vectors(case: dict[str, Any]) -> None:
    assert normalized(case["name"]) == case["normalized"]
    assert client_hash(SALT, case["kind"], case["name"]) == case["hash"]
    assert len(case["hash"]) == 43


def test_the_host_names_that_are_nobodys_own_are_those_of_the_vectors_and_of_the_protocol() -> None:
    section = PROTOCOL.read_text("utf-8").split("\n## 5. ")[1].split("\n## ")[0]
    named = [name for row in re.findall(r"^\| (`.*?) \|", section, re.MULTILINE) for name in re.findall("`(.*?)`", row)]
    listed = VECTORS["client"]["nobodys_hosts"]
    assert named == list(NOBODYS_HOSTS) == [each["name"] for each in listed]
    assert all(is_nobodys_host(SALT, each["hash"]) for each in listed)
    assert is_nobodys_host(SALT, client_hash(SALT, "host", " LocalHost "))


def test_a_host_name_of_ones_own_is_nobody_elses() -> None:
    assert not is_nobodys_host(SALT, client_hash(SALT, "host", "pc-17"))
    assert not is_nobodys_host(SALT, client_hash(SALT, "user", "localhost"))
    assert not is_nobodys_host(bytes(32), client_hash(SALT, "host", "localhost")), "another customer's salt"


def test_a_name_is_looked_for_in_the_form_that_a_program_sends_and_as_it_is_given() -> None:
    vectors = load("client-hashes.json")
    salt = from_base64url(vectors["salt"])
    cases: list[tuple[ClientKind, str, str]]
    cases = [("user", each["account"], each["user"]) for each in vectors["accounts"]]
    cases += [("host", each["own"], each["host"]) for each in vectors["computers"]]
    assert len(cases) > 10
    for kind, given_name, sent in cases:
        hashes = client_hashes(salt, kind, f" {given_name}\t")
        assert hashes == tuple(dict.fromkeys(client_hash(salt, kind, name) for name in (sent, given_name)))


@pytest.mark.parametrize("case", VECTORS["networks"], ids=lambda case: case["note"])
def test_an_address_is_hashed_as_the_vectors_say(case: dict[str, Any]) -> None:
    address: IPv4Address | IPv6Address | None = ip_address(case["address"])
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped  # as licensing.api does with every caller's
    assert address is not None
    assert network_of(address) == case["network"]


@pytest.mark.parametrize("case", VECTORS["service"]["pseudonyms"])
def test_the_services_pseudonym_is_that_of_the_vectors(case: dict[str, Any]) -> None:
    made = Peppers(PEPPERS).pseudonym(case["pepper"], case["organization"], case["kind"], case["value"])
    assert made == case["pseudonym"]
    assert len(made) == 22


def test_no_two_pseudonyms_are_the_same() -> None:
    """Neither across peppers, nor organizations, nor kinds."""
    made = [case["pseudonym"] for case in VECTORS["service"]["pseudonyms"]]
    assert len(made) == len(set(made)) == 16


def test_a_persons_names_in_two_organizations_have_nothing_in_common() -> None:
    peppers = Peppers(PEPPERS)
    here, there = (peppers.persons(name, ADA, PC, IPv4Address("192.0.2.1"))[0] for name in ("acme", "brook"))
    assert {here.user, here.host, here.ip}.isdisjoint({there.user, there.host, there.ip})


def test_the_parts_of_a_pseudonym_cannot_be_shifted_into_each_other() -> None:
    peppers = Peppers(PEPPERS)
    assert peppers.pseudonym("2026a", "ac", "user", "me") != peppers.pseudonym("2026a", "acme", "user", "")


def test_a_person_is_known_under_every_pepper_the_current_one_first() -> None:
    peppers = Peppers(PEPPERS)
    persons = peppers.persons("acme", ADA, PC, IPv4Address("192.0.2.1"))
    assert peppers.current == "2026b"
    assert [person.pepper for person in persons] == list(peppers) == ["2026b", "2026a"]
    for person in persons:
        assert person.user == peppers.pseudonym(person.pepper, "acme", "user", ADA)
        assert person.host == peppers.pseudonym(person.pepper, "acme", "host", PC)
        assert person.ip == peppers.pseudonym(person.pepper, "acme", "ip", "192.0.2.1")


def test_an_unknown_address_has_no_pseudonym() -> None:
    assert {person.ip for person in Peppers(PEPPERS).persons("acme", ADA, PC, None)} == {""}


def test_a_pepper_that_was_taken_away_finds_nobody() -> None:
    with pytest.raises(KeyError):
        Peppers(PEPPERS).pseudonym("2025", "acme", "user", ADA)


def test_computers_of_one_ipv6_network_are_one() -> None:
    assert network_of(IPv6Address("2001:db8::1")) == network_of(IPv6Address("2001:db8::ffff:ffff:ffff:ffff"))
    assert network_of(IPv6Address("2001:db8::1")) != network_of(IPv6Address("2001:db8:0:1::1"))


@given(st.binary(max_size=80))
def test_base64url_there_and_back(data: bytes) -> None:
    assert from_base64url(base64url(data)) == data


@pytest.mark.parametrize("text", ["a", "ab+/", "ab c", "ab\n", "ab=", "é"])
def test_what_is_no_base64url_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - binascii's own words
        from_base64url(text)


@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_how_a_name_is_typed_does_not_matter(name: str) -> None:
    made = client_hash(SALT, "user", name)
    assert client_hash(SALT, "user", f"  {name}\t") == made
    assert client_hash(SALT, "user", unicodedata.normalize("NFD", name)) == made
