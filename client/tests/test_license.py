"""A license file is checked offline, before any call, and the answer is one that people understand."""

import datetime
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from factories import NOW, SALT, STRANGER_KEY, license_claims, license_file, license_of, program, sign, x_of
from licensing_client import identity
from licensing_client.identity import Names, Person, client_hash
from licensing_client.license import License, check_license, parse_license, read_license
from licensing_client.reasons import Code, Reason

ANN = client_hash(SALT, "user", "ann")
DESK = client_hash(SALT, "host", "desk.example.com")
PERSON = Person(ANN, DESK)
DAY = datetime.date(2026, 9, 20)


def refusal_code(
    person: Person = PERSON, now: float = NOW, *, claims: dict[str, Any] | None = None, **changes: Any
) -> object:
    refusal = check_license(license_of(**(claims or {})), program(**changes), person, now)
    return refusal.code if refusal else None


def test_a_license_that_covers_the_program_admits_it() -> None:
    assert refusal_code(built=DAY, features=frozenset({"gis"})) is None


@pytest.mark.parametrize(
    ("claims", "changes", "code"),
    [
        ({"product": "Fluidit Heat"}, {}, Code.PRODUCT_NOT_LICENSED),
        ({"nbf": NOW + 1}, {}, Code.LICENSE_NOT_YET_VALID),
        ({"exp": NOW}, {}, Code.LICENSE_EXPIRED),
        ({"maintenance_until": NOW - 90 * 86400}, {"built": DAY}, Code.MAINTENANCE_OVER),
        ({}, {"features": frozenset({"3d"})}, Code.FEATURE_NOT_LICENSED),
        ({"kind": "named-user", "users": [client_hash(SALT, "user", "bob")]}, {}, Code.USER_NOT_ALLOWED),
        ({"kind": "node-locked", "hosts": [client_hash(SALT, "host", "other")]}, {}, Code.HOST_NOT_ALLOWED),
    ],
)
def test_a_license_that_does_not_fit_says_why(claims: dict[str, Any], changes: dict[str, Any], code: Code) -> None:
    assert refusal_code(claims=claims, **changes) == code


def test_a_version_made_before_maintenance_ended_runs_for_good() -> None:
    assert refusal_code(claims={"maintenance_until": NOW - 90 * 86400}, built=datetime.date(2025, 1, 1)) is None
    assert refusal_code(claims={"maintenance_until": ...}, built=DAY) is None
    assert refusal_code(claims={"maintenance_until": None}, built=DAY) is None


def test_named_user_and_node_locked_admit_those_they_name() -> None:
    assert refusal_code(claims={"kind": "named-user", "users": [ANN]}) is None
    assert refusal_code(claims={"kind": "node-locked", "hosts": [DESK]}) is None


def test_a_computer_is_known_by_any_of_its_names() -> None:
    listed = client_hash(SALT, "host", "desk")
    names = Names("ann", ("desk.example.com", "desk"))
    assert names.person(SALT, {listed}).host == listed
    assert names.person(SALT, set()).host == DESK


def test_a_resolver_is_asked_only_for_a_license_that_does_not_list_the_computers_own_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []

    def getfqdn(name: str) -> str:
        asked.append(name)
        return "desk.example.com"

    monkeypatch.setattr("socket.gethostname", lambda: "Desk.local")
    monkeypatch.setattr("socket.getfqdn", getfqdn)
    identity.names.cache_clear()
    identity._fully_qualified.cache_clear()
    try:
        names, short = identity.names(), client_hash(SALT, "host", "desk")
        assert names.person(SALT, set()).host == short
        assert names.person(SALT, {short, DESK}).host == short
        assert names.person(SALT, {client_hash(SALT, "host", "desk.local")}).host == client_hash(
            SALT, "host", "desk.local"
        )
        assert not asked
        assert names.person(SALT, {DESK}).host == DESK
        assert names.person(SALT, {client_hash(SALT, "host", "other")}).host == short
        assert asked == ["Desk.local"]
    finally:
        identity.names.cache_clear()
        identity._fully_qualified.cache_clear()


def test_a_resolver_that_does_not_answer_or_knows_no_name_of_its_own_costs_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    never = threading.Event()
    monkeypatch.setattr("socket.getfqdn", lambda _name: str(never.wait(10)))
    begun = time.monotonic()
    assert identity._fully_qualified.__wrapped__("desk") is None
    assert time.monotonic() - begun < 2
    never.set()
    monkeypatch.setattr("socket.getfqdn", lambda _name: "localhost.localdomain")
    assert identity._fully_qualified.__wrapped__("desk") is None


@pytest.mark.parametrize(
    ("text", "code"),
    [
        pytest.param("", Code.LICENSE_MALFORMED, id="empty"),
        pytest.param("# only a comment\n", Code.LICENSE_MALFORMED, id="comments only"),
        pytest.param(license_file() + license_file(), Code.LICENSE_MALFORMED, id="two licenses in one file"),
        pytest.param(license_file()[:-50], Code.LICENSE_MALFORMED, id="cut within a byte"),
        pytest.param(license_file()[:-51], Code.LICENSE_INVALID, id="cut between bytes"),
        pytest.param(sign("license+jwt", license_claims(), STRANGER_KEY), Code.LICENSE_INVALID, id="home-made"),
        pytest.param(license_file(seats="many"), Code.LICENSE_MALFORMED, id="seats are no number"),
        pytest.param(license_file(exp=...), Code.LICENSE_MALFORMED, id="no end"),
        pytest.param(license_file(collect=False), Code.LICENSE_MALFORMED, id="floating, yet nothing recorded"),
        pytest.param(license_file(kind="named-user"), Code.LICENSE_MALFORMED, id="named-user without users"),
        pytest.param(license_file(kind="node-locked"), Code.LICENSE_MALFORMED, id="node-locked without hosts"),
        pytest.param(license_file(kind="site"), Code.LICENSE_MALFORMED, id="a kind that is not known"),
        pytest.param(license_file(salt="!"), Code.LICENSE_MALFORMED, id="salt is no base64url"),
        pytest.param(license_file(lease_keys={"keys": []}), Code.LICENSE_MALFORMED, id="no lease keys"),
    ],
)
def test_a_file_that_is_no_license_is_refused(tmp_path: Path, text: str, code: Code) -> None:
    file = tmp_path / "acme.lic"
    file.write_text(text, "utf-8")
    found = read_license(file, program().keys())
    assert isinstance(found, Reason)
    assert found.code is code


def test_a_missing_or_binary_file_is_said_to_be_so(tmp_path: Path) -> None:
    missing = read_license(tmp_path / "none.lic", program().keys())
    (tmp_path / "binary.lic").write_bytes(b"\xff\xfe\x00")
    binary = read_license(tmp_path / "binary.lic", program().keys())
    assert isinstance(missing, Reason)
    assert missing.code is Code.LICENSE_MISSING
    assert isinstance(binary, Reason)
    assert binary.code is Code.LICENSE_MALFORMED


def test_a_file_from_windows_with_a_newer_issuers_claims_is_read() -> None:
    text = "\ufeff" + license_file(rebates={"x": 1}).replace("\n", "\r\n")
    assert isinstance(parse_license(text, program().keys()), License)


def test_a_program_trusts_several_issuer_keys_so_that_they_can_be_changed() -> None:
    keys = program(issuer_keys=(x_of(STRANGER_KEY), *program().issuer_keys)).keys()
    assert parse_license(license_file(), keys).id == "acme-water"


@pytest.mark.parametrize(
    ("one", "other"),
    [("Ann", " ann\n"), ("STRASSE", "straße"), ("\uff21nn", "ann"), ("\u0041\u030akesson", "\u00c5KESSON")],
)
def test_one_person_has_one_hash_however_the_name_is_typed(one: str, other: str) -> None:
    assert client_hash(SALT, "user", one) == client_hash(SALT, "user", other)


def test_a_user_and_a_host_of_one_name_have_nothing_in_common() -> None:
    assert client_hash(SALT, "user", "ann") != client_hash(SALT, "host", "ann")
