"""`licensing init`, `licensing license issue` and `show`, from a support person's side."""

import base64
import json
import re
import stat
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel, ValidationError, create_model

from licensing.cli import app
from licensing.cli.claims import CLAIMS, explained
from licensing.cli.home import Home
from licensing.crypto.keys import SigningKeys, new_private_jwk, public_jwk
from licensing.crypto.pseudonyms import base64url, client_hash
from licensing.crypto.tokens import LICENSE_TYPE, license_text, sign
from licensing.errors import SettingsError
from licensing.rules.license import License
from licensing.settings import Settings
from tests.cli.conftest import Licensing, Said

LEAST = ("--organization", "acme", "--organization-name", "Acme Water Oy", "--product", "Fluidit Water")
UNTIL = ("--until", "2099-12-31")
SALT = base64url(bytes(range(32)))


def issue(licensing: Licensing, *options: str, file: str = "acme.lic") -> Path:
    """Issue a license into a file."""
    until = () if {"--until", "--trial"} & set(options) else UNTIL
    said = licensing("license", "issue", *LEAST, *options, *until, "--out", file)
    assert said.code == 0, said.err
    return Path(file)


def claims_of(file: Path) -> dict[str, Any]:
    """What a license file says, without a look at its signature."""
    payload = license_text(file.read_text(encoding="utf-8")).split(".")[1]
    claims: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return claims


def instant(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


COMMANDS = typer.main.get_command(app)


def commands(command: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """All commands, by the words that name them."""
    found = {path: command}
    for name, below in getattr(command, "commands", {}).items():
        found |= commands(below, (*path, name))
    return found


# init


def test_init_makes_a_home_with_which_the_service_can_start(licensing: Licensing) -> None:
    said = licensing("init")
    assert (said.code, said.out) == (0, "")
    assert "licensing license issue" in said.err
    assert Settings.load({"LICENSING_HOME": ".local"}).region == ""


def test_init_makes_files_that_only_their_owner_may_read(made: Path) -> None:
    assert stat.S_IMODE(made.stat().st_mode) == 0o700
    files = list(made.iterdir())
    assert len(files) == 5
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}


def test_files_stay_private_after_a_license_was_issued(made: Path, licensing: Licensing) -> None:
    issue(licensing)
    assert {stat.S_IMODE(file.stat().st_mode) for file in made.iterdir()} == {0o600}


def test_init_never_overwrites(made: Path, licensing: Licensing) -> None:
    before = {file.name: file.read_bytes() for file in made.iterdir()}
    said = licensing("init")
    assert said.code == 1
    assert "not empty" in said.err
    assert {file.name: file.read_bytes() for file in made.iterdir()} == before


def test_init_leaves_a_folder_of_other_things_alone(licensing: Licensing) -> None:
    Path("mine").mkdir()
    Path("mine/letter.txt").write_text("Dear", encoding="utf-8")
    assert licensing("init", "--home", "mine").code == 1
    assert [file.name for file in Path("mine").iterdir()] == ["letter.txt"]


def test_init_says_where_a_home_cannot_be(licensing: Licensing) -> None:
    Path("file").write_text("", encoding="utf-8")
    said = licensing("init", "--home", "file/home")
    assert said.code == 1
    assert "cannot be made" in said.err


def test_every_home_has_keys_of_its_own(licensing: Licensing) -> None:
    kids = set()
    for name in ("one", "two"):
        assert licensing("init", "--home", name).code == 0
        kids |= {Home(Path(name)).issuer_keys().kid, Home(Path(name)).lease_keys()["keys"][0]["kid"]}
    assert len(kids) == 4


def test_the_issuers_private_key_is_not_among_the_services_settings(made: Path) -> None:
    private = json.loads((made / "issuer-keys.json").read_text(encoding="utf-8"))["keys"][0]["d"]
    assert private not in (made / "local.settings.json").read_text(encoding="utf-8")


def test_the_public_files_hold_no_private_key(made: Path) -> None:
    assert '"d"' not in (made / "lease-keys.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--home", "there", "init"),
        ("init", "--home", "there"),
        ("init", "--home=there"),
        ("init", "--issuer", "Fluidit", "--home", "there"),
    ],
)
def test_home_may_stand_anywhere(licensing: Licensing, arguments: tuple[str, ...]) -> None:
    assert licensing(*arguments).code == 0
    assert Home(Path("there")).initialized
    assert not Path(".local").exists()


def test_home_may_come_from_the_environment_and_the_option_goes_first(licensing: Licensing) -> None:
    assert licensing("init", variable="one").code == 0
    assert licensing("init", "--home", "two", variable="one").code == 0
    assert sorted(each.name for each in Path().iterdir()) == ["one", "two"]


def test_a_command_without_a_home_says_how_to_make_one(licensing: Licensing) -> None:
    said = licensing("license", "issue", *LEAST, *UNTIL)
    assert said.code == 1
    assert "licensing init" in said.err


def test_a_command_without_a_store_or_a_home_says_how_to_have_one(licensing: Licensing) -> None:
    for where in ((), ("--home", "missing")):
        said = licensing("license", "list", *where)
        assert (said.code, said.err.count("\n")) == (1, 1)
        assert "LICENSING_STORAGE" in said.err
        assert "licensing init" in said.err


def test_help_says_what_its_options_are(licensing: Licensing) -> None:
    assert "Show the version." in licensing("--help").out
    assert "[ID]" in licensing("maintenance", "verify", "--help").out.splitlines()[1].split()
    issuing = " ".join(licensing("license", "issue", "--help").out.replace("│", " ").split())
    assert "a user's on one computer, a user's on any, a computer's." in issuing


# issue: every claim has its option.

USER, HOST = client_hash(bytes(range(32)), "user", "ada"), client_hash(bytes(range(32)), "host", "pc.acme.example")
SHORT_HOST = client_hash(bytes(range(32)), "host", "pc")

OPTIONS: dict[str, tuple[tuple[str, ...], object]] = {
    "iss": (("--issuer", "Another Vendor"), "Another Vendor"),
    "sub": (("--id", "acme-1"), "acme-1"),
    "serial": (("--serial", "42"), 42),
    "nbf": (("--from", "2026-01-01"), instant("2026-01-01")),
    "exp": (("--until", "2098-12-31"), instant("2099-01-01")),
    "kind": (("--kind", "node-locked", "--host", HOST), "node-locked"),
    "seats": (("--seats", "25"), 25),
    "overdraft": (("--overdraft", "3"), 3),
    "sharing": (("--sharing", "user-host"), "user-host"),
    "users": (("--salt", SALT, "--user", "Ada"), [USER]),
    "hosts": (("--salt", SALT, "--host", "PC.acme.example"), sorted([HOST, SHORT_HOST])),
    "networks": (
        ("--network", "198.51.100.0/24", "--network", "2001:db8::/48"),
        ["198.51.100.0/24", "2001:db8::/48"],
    ),
    "features": (("--feature", "quality", "--feature", "network"), ["quality", "network"]),
    "maintenance_until": (("--maintenance-until", "2027-06-30"), instant("2027-07-01")),
    "project": (("--project", "Harbour"), "Harbour"),
    "billing": (("--billing", "time"), "time"),
    "collect": (("--no-collect", "--kind", "named-user", "--user", USER), False),
    "salt": (("--salt", SALT), SALT),
    "heartbeat": (("--heartbeat", "60"), 60),
    "lease": (("--lease", "1200"), 1200),
    "grace": (("--grace", "0"), 0),
    "hold": (("--hold", "60"), 60),
    "borrow": (("--borrow", "86400"), 86400),
    "service": (("--service", "https://licensing.example/api"), "https://licensing.example/api"),
    "oldest": (("--serial", "42", "--oldest", "7"), 7),
    "trial": (("--trial", "30d"), True),
}
GIVEN_ALWAYS = {"iat", "organization", "product", "lease_keys"}
WITHOUT_AN_OPTION = {"iat"}
"""Claims that no operator decides on: the time of issue is the clock's."""
OTHER_FORMS = {"--users-file", "--hosts-file", "--strict"}
DELIVERY = {"--out", "--force", "--one-line", "--publish", "--vault"}
NOT_CLAIMS = OTHER_FORMS | DELIVERY | {"--yes", "--rename", "--dry-run"}
"""Options that make no claim of their own: other ways to give some, where the file goes, and what is asked."""


def claim_names(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The claims of a model by their names in the file, and those of a model within it after its own and a dot."""
    for name, field in model.model_fields.items():
        claim = prefix + (field.alias or name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from claim_names(field.annotation, f"{claim}.")
        else:
            yield claim


def test_every_claim_of_a_license_is_in_the_table_of_claims() -> None:
    claims = set(claim_names(License)) - WITHOUT_AN_OPTION
    assert not claims - CLAIMS.keys(), "claims that lack their entry in CLAIMS (licensing/cli/claims.py)"
    assert not CLAIMS.keys() - claims, "entries of CLAIMS that are no claims of License"
    assert all(claim.option.startswith("--") and claim.takes and claim.help for claim in CLAIMS.values())
    assert len({claim.option for claim in CLAIMS.values()}) == len(CLAIMS)


def test_every_option_of_issue_makes_a_claim() -> None:
    parameters = commands(COMMANDS)["license", "issue"].params
    options = {name for each in parameters for name in each.secondary_opts or each.opts} - NOT_CLAIMS
    assert options == {claim.option for claim in CLAIMS.values()}


def test_every_claim_is_tried_below() -> None:
    assert OPTIONS.keys() | GIVEN_ALWAYS == {name.split(".")[0] for name in claim_names(License)}


def test_the_protocol_names_every_claim() -> None:
    document = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    section = next(part for part in document.split("\n## ") if "| `sub` | the license's id" in part)
    named = set(re.findall(r"`([a-z_]+)`", section))
    assert not {name.split(".")[0] for name in claim_names(License)} - named


@pytest.mark.parametrize("name", sorted(set(claim_names(License)) - WITHOUT_AN_OPTION))
def test_a_wrong_value_of_any_claim_is_explained_by_its_option(made: Path, licensing: Licensing, name: str) -> None:
    claims = claims_of(issue(licensing))
    outer, _, inner = name.partition(".")
    wrong = {**claims[outer], inner: object()} if inner else object()
    with pytest.raises(ValidationError) as caught:
        License.model_validate({**claims, outer: wrong})
    assert str(explained(caught.value)) == f"{CLAIMS[name].option} takes {CLAIMS[name].takes}"


def test_a_claim_that_no_option_makes_is_explained_nevertheless(made: Path, licensing: Licensing) -> None:
    newer = create_model("Newer", __base__=License, shoe_size=(int, 42))
    with pytest.raises(ValidationError) as caught:
        newer.model_validate({**claims_of(issue(licensing)), "shoe_size": "large"})
    assert str(explained(caught.value)).startswith("the claim shoe_size is wrong, and no option makes it: ")


@pytest.mark.parametrize("claim", OPTIONS)
def test_every_option_arrives_in_the_file(made: Path, licensing: Licensing, claim: str) -> None:
    options, value = OPTIONS[claim]
    assert claims_of(issue(licensing, *options))[claim] == value


def test_every_claim_has_its_option(made: Path, licensing: Licensing) -> None:
    apart = {"collect", "trial"}  # what a floating license cannot have, and what sets others
    every = [option for name, (options, _) in OPTIONS.items() for option in options if name not in apart]
    claims = claims_of(issue(licensing, *every))
    assert claims.keys() == (OPTIONS.keys() | GIVEN_ALWAYS) - {"trial"}
    assert claims["organization"] == {"id": "acme", "name": "Acme Water Oy"}
    assert claims["product"] == "Fluidit Water"
    assert abs(claims["iat"] - time.time()) < 60
    assert claims["lease_keys"] == Home(made).lease_keys()


def test_what_is_not_given_has_the_values_of_the_contract(made: Path, licensing: Licensing) -> None:
    claims = claims_of(issue(licensing))
    assert (claims["kind"], claims["seats"], claims["sharing"], claims["billing"]) == ("floating", 1, "none", "none")
    assert [claims[name] for name in ("heartbeat", "lease", "grace", "borrow")] == [300, 900, 259200, 0]
    assert claims["exp"] == instant("2100-01-01")
    assert claims["sub"].startswith("acme-fluidit-water-")
    assert claims["serial"] == claims["iat"] == claims["nbf"]


@pytest.mark.parametrize(
    ("until", "ends"),
    [
        ("2098-12-31", "2099-01-01"),
        ("20981231", "2099-01-01"),
        ("2098-12-31T12:00Z", "2098-12-31T12:00"),
        ("2098-12-31T12:00+02:00", "2098-12-31T10:00"),
        ("2098-12-31T12:00", "2098-12-31T12:00"),
        ("9999-12-30", "9999-12-31"),
    ],
)
def test_a_license_holds_through_its_last_day(made: Path, licensing: Licensing, until: str, ends: str) -> None:
    assert claims_of(issue(licensing, "--until", until))["exp"] == instant(ends)


def test_names_become_hashes_and_never_reach_the_file(made: Path, licensing: Licensing) -> None:
    Path("users.txt").write_text("\ufeffAda Lovelace\r\n# a comment\r\n\r\n  Charles \r\n", encoding="utf-8")
    file = issue(licensing, "--salt", SALT, "--users-file", "users.txt", "--user", "Grace")
    expected = {client_hash(bytes(range(32)), "user", name) for name in ("Ada Lovelace", "Charles", "Grace")}
    assert set(claims_of(file)["users"]) == expected
    stored = "".join(each.read_bytes().decode(errors="replace") for each in (file, *made.iterdir()))
    assert not any(name in stored for name in ("Lovelace", "Charles", "Grace"))


def test_a_listed_name_admits_in_the_form_that_programs_send_and_as_it_is_given(
    made: Path, licensing: Licensing
) -> None:
    Path("names.txt").write_text("PC.acme.example\npc\nlab\n", encoding="utf-8")
    claims = claims_of(issue(licensing, "--salt", SALT, "--hosts-file", "names.txt", "--user", "ACME\\Ada"))
    salt = bytes(range(32))
    assert set(claims["hosts"]) == {HOST, SHORT_HOST, client_hash(salt, "host", "lab")}
    assert set(claims["users"]) == {USER, client_hash(salt, "user", "acme\\ada")}


@pytest.mark.parametrize(("name", "warned"), [("localhost", True), ("LocalHost.acme.example", True), ("pc", False)])
def test_a_listed_computer_whose_name_many_have_is_warned_of(
    made: Path, licensing: Licensing, name: str, warned: bool
) -> None:
    said = licensing("license", "issue", *LEAST, *UNTIL, "--kind", "node-locked", "--host", name, "--out", "acme.lic")
    assert said.code == 0
    assert ("the license admits each of them" in said.err) is warned


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        (("--user", "Grace"), "--users-file"),
        (("--host", "pc.acme.example"), "--hosts-file"),
        (("--user", USER, "--host", HOST), None),
        (("--users-file", "names.txt", "--hosts-file", "names.txt"), None),
    ],
)
def test_a_name_on_the_command_line_is_warned_of_and_a_hash_or_a_file_is_not(
    made: Path, licensing: Licensing, options: tuple[str, ...], warned: str | None
) -> None:
    Path("names.txt").write_text("Grace\n", encoding="utf-8")
    said = licensing("license", "issue", *LEAST, *UNTIL, *options, "--out", "acme.lic")
    assert said.code == 0
    warning = f"A name on the command line can be seen by others on this machine; use {warned}.\n"
    assert (warning in said.err) is (warned is not None)
    assert ("can be seen by others" in said.err) is (warned is not None)
    assert "Grace" not in said.out + said.err


@pytest.mark.parametrize("content", ["", "\n \n", "# nobody\n"])
def test_a_list_without_anybody_does_not_admit_everybody(made: Path, licensing: Licensing, content: str) -> None:
    Path("users.txt").write_text(content, encoding="utf-8")
    said = licensing("license", "issue", *LEAST, *UNTIL, "--users-file", "users.txt")
    assert said.code == 2
    assert "users-file" in said.err


def test_a_customer_keeps_its_salt_and_its_name(made: Path, licensing: Licensing) -> None:
    first = claims_of(issue(licensing))
    said = licensing("license", "issue", "--organization", "acme", "--product", "Storm", *UNTIL, "--out", "b.lic")
    assert said.code == 0
    second = claims_of(Path("b.lic"))
    assert (second["salt"], second["organization"]) == (first["salt"], first["organization"])
    other = claims_of(issue(licensing, "--organization", "brook", file="c.lic"))
    assert other["salt"] != first["salt"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--organization", "beta", "--organization-name", "Beta Oy", "--id", "acme-1"), "is a license of acme"),
        (("--organization", "acme", "--id", "acme-1", "--kind", "named-user", "--user", "ada"), "a floating license"),
        (("--organization", "acme", "--id", "acme-2", "--salt", SALT), "another --salt"),
    ],
)
def test_a_license_keeps_its_customer_and_its_kind_and_a_customer_its_salt(
    made: Path, licensing: Licensing, options: tuple[str, ...], said: str
) -> None:
    claims = claims_of(issue(licensing, "--id", "acme-1"))

    refused = licensing("license", "issue", *options, "--product", "Water", *UNTIL, "--yes", "--out", "other.lic")

    assert refused.code == 2
    assert said in " ".join(refused.err.replace("│", " ").split())
    assert not Path("other.lic").exists()
    again = issue(licensing, "--id", "acme-1", "--seats", "9", "--yes", "--salt", claims["salt"], file="new.lic")
    assert claims_of(again)["salt"] == claims["salt"]


def test_a_new_customer_needs_a_name(made: Path, licensing: Licensing) -> None:
    said = licensing("license", "issue", "--organization", "acme", "--product", "Water", *UNTIL)
    assert said.code == 2
    assert "--organization-name" in said.err


def test_without_a_file_the_license_goes_to_standard_output(made: Path, licensing: Licensing) -> None:
    said = licensing("license", "issue", *LEAST, *UNTIL)
    assert (said.code, said.err) == (0, "The local service does not run, so the audit does not record this.\n")
    assert said.out.splitlines()[0].startswith("# Fluidit Water for Acme Water Oy: 1 seat, valid from ")
    Path("piped.lic").write_text(said.out, encoding="utf-8")
    assert licensing("license", "show", "piped.lic").code == 0


@pytest.mark.parametrize("name", ["Acme Water Oy", "Ä" * 200, "# " * 99 + "#", "of " * 66, "-" * 200])
def test_no_line_of_a_license_is_too_long_for_mail(made: Path, licensing: Licensing, name: str) -> None:
    file = issue(licensing, "--product", name, "--organization-name", name, "--issuer", name)
    lines = file.read_text("utf-8").splitlines()
    assert max(map(len, lines)) == 76
    assert shown(licensing, file).code == 0


def test_programs_of_the_first_edition_get_their_license_on_one_line(made: Path, licensing: Licensing) -> None:
    file = issue(licensing, "--one-line")
    *comments, token = file.read_text("utf-8").splitlines()
    assert all(line.startswith("# ") for line in comments)
    assert token == license_text(file.read_text("utf-8"))
    assert shown(licensing, file).code == 0


def test_the_lease_keys_of_a_service_elsewhere(made: Path, licensing: Licensing) -> None:
    jwks = {"keys": [public_jwk(new_private_jwk())]}
    Path("keys.json").write_text(json.dumps(jwks), encoding="utf-8")
    assert claims_of(issue(licensing, "--lease-keys", "keys.json"))["lease_keys"] == jwks


def test_a_private_lease_key_is_never_published_in_a_license(made: Path, licensing: Licensing) -> None:
    key = new_private_jwk()
    Path("keys.json").write_text(json.dumps({"keys": [key]}), encoding="utf-8")
    said = licensing("license", "issue", *LEAST, *UNTIL, "--lease-keys", "keys.json")
    assert said.code == 2
    assert "no key may be private" in said.err
    assert key["d"] not in said.out + said.err


WRONG = [
    ("--until", "tomorrow"),
    ("--until", "9999-12-31"),
    ("--until", "2020-01-01"),
    ("--from", "soon"),
    ("--seats", "-1"),
    ("--seats", "many"),
    ("--seats", "1000001"),
    ("--kind", "site"),
    ("--kind", "named-user"),
    ("--kind", "node-locked"),
    ("--no-collect",),
    ("--sharing", "all"),
    ("--id", "../other"),
    ("--organization", "two words"),
    ("--serial", "0"),
    ("--network", "198.51.100.7/24"),
    ("--user", " "),
    ("--salt", "short"),
    ("--salt", "*" * 43),
    ("--salt", "*" * 43, "--user", "ada"),
    ("--salt", "A" * 41, "--user", "ada"),
    ("--lease", "300"),
    ("--heartbeat", "0"),
    ("--product", "two\nlines"),
    ("--product", ""),
    ("--lease-keys", "nonsense.txt"),
    ("--organization-name", "two\nlines"),
    ("--issuer", "two\nlines"),
    ("--feature", ""),
    ("--project", "p" * 201),
    ("--from", "1969-12-31"),
    ("--maintenance-until", "1969-12-30"),
    ("--serial", "9" * 17),
    ("--overdraft", "1000001"),
    ("--grace", "99999999"),
    ("--hold", "99999999"),
    ("--hold", "259261"),
    ("--borrow", "99999999"),
    ("--service", "nonsense"),
    ("--service", "https://"),
    ("--service", "https://two words.example/api"),
    ("--service", "ftp://host.example/api"),
    ("--service", "http://host.example/api"),
    ("--oldest", "9" * 10),
    ("--trial", "30 days"),
    ("--trial", "30d"),
    ("--colour", "blue"),
]
OTHERS = {"named-user": "--user", "node-locked": "--host"}
"""What is missing where an option's value is wrong only without another one."""


@pytest.mark.parametrize("options", WRONG, ids=" ".join)
def test_wrong_usage_is_explained(made: Path, licensing: Licensing, options: tuple[str, ...]) -> None:
    Path("nonsense.txt").write_text("not JSON", encoding="utf-8")
    said = licensing("license", "issue", *LEAST, *UNTIL, *options, "--out", "wrong.lic")
    assert said.code == 2
    assert "Usage: " in said.err
    explained = said.err.replace("│", " ").split()
    assert OTHERS.get(options[-1], options[0]) in [word.strip("':.") for word in explained]
    assert not any(raw in said.err for raw in ("value: Value error", "lax-or-strict", "should match", "sub:"))
    assert not Path("wrong.lic").exists()


@pytest.mark.parametrize("url", ["nonsense", "https://", "http://host.example/api", "https://a b/api"])
def test_init_refuses_a_service_that_no_program_could_use(licensing: Licensing, url: str) -> None:
    said = licensing("init", "--service", url)
    assert said.code == 2
    assert "--service" in said.err
    assert not Path(".local").exists()


@pytest.mark.parametrize("url", ["http://127.0.0.1:7171/api", "http://localhost:7071/api", "http://[::1]:7071/api"])
def test_a_service_on_this_machine_needs_no_https(licensing: Licensing, url: str) -> None:
    assert licensing("init", "--service", url).code == 0
    assert claims_of(issue(licensing))["service"] == url


def test_a_license_with_any_service_is_read(made: Path, licensing: Licensing) -> None:
    file = issue(licensing)
    keys = Home(made).issuer_keys()
    file.write_text(sign({**claims_of(file), "service": "nonsense"}, LICENSE_TYPE, keys), encoding="utf-8")
    assert licensing("license", "show", str(file)).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("init", "nonsense"),
        ("init", "--table-port", "65536"),
        ("init", "--home"),
        ("--home",),
        ("serve", "--port", "65536"),
        ("serve", "--port", "0"),
        ("serve", "--table-port", "70000"),
        ("serve", "--workers", "0"),
        ("license", "issue"),
        ("license", "show"),
        ("license", "release", "acme-1"),
        ("maintenance", "sweep", "--as-of", "yesterday"),
    ],
    ids=" ".join,
)
def test_wrong_usage_exits_2(made: Path, licensing: Licensing, arguments: tuple[str, ...]) -> None:
    assert licensing(*arguments).code == 2


def test_too_many_names_for_one_license_are_refused_with_advice(made: Path, licensing: Licensing) -> None:
    Path("users.txt").write_text("\n".join(f"user{number}" for number in range(400)), encoding="utf-8")
    said = licensing("license", "issue", *LEAST, *UNTIL, "--users-file", "users.txt")
    assert said.code == 1
    assert "issue several licenses" in said.err


def test_a_file_that_cannot_be_written_is_named(made: Path, licensing: Licensing) -> None:
    said = licensing("license", "issue", *LEAST, *UNTIL, "--out", "no/such/folder.lic")
    assert said.code == 1
    assert "no/such/folder.lic" in said.err


# show


def shown(licensing: Licensing, file: Path, *options: str) -> Said:
    return licensing("license", "show", str(file), *options)


def test_show_prints_what_a_genuine_license_says(made: Path, licensing: Licensing) -> None:
    file = issue(licensing, "--seats", "5", "--overdraft", "1", "--sharing", "user", "--id", "acme-1", "--borrow", "60")
    said = shown(licensing, file)
    assert said.code == 0
    for words in ("acme-1", "Acme Water Oy (acme)", "Fluidit Water", "5, and 1 beyond", "one user", "to 2099-12-31"):
        assert words in said.out
    lines = [" ".join(line.split()) for line in said.out.splitlines()]
    assert "Heartbeat every 5 minutes, a silent program loses its seat after 15 minutes" in lines
    assert "Offline up to 3 days" in lines
    assert "Borrowing up to 1 minute" in lines
    assert said.err == "Genuine, and valid now.\n"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "1 second"),
        (90, "90 seconds"),
        (5400, "90 minutes"),
        (3600, "1 hour"),
        (129600, "36 hours"),
        (43260, "12 hours and 1 minute"),
        (259260, "72 hours and 1 minute"),
        (86400, "1 day"),
    ],
)
def test_show_tells_lengths_of_time_as_people_do(made: Path, licensing: Licensing, seconds: int, words: str) -> None:
    said = shown(licensing, issue(licensing, "--grace", str(seconds), "--borrow", str(seconds)))
    assert said.out.count(f"up to {words}") == 2


def test_a_strict_license_has_a_hold_that_outlasts_its_grace_and_says_what_that_means(
    made: Path, licensing: Licensing
) -> None:
    said = licensing("license", "issue", *LEAST, *UNTIL, "--strict", "--out", "strict.lic")
    claims = claims_of(Path("strict.lic"))
    assert (claims["grace"], claims["hold"]) == (43200, 43260)
    assert "keeps its seat for 12 hours and 1 minute" in " ".join(said.err.split())
    assert "Held 12 hours and 1 minute for a silent program" in " ".join(
        shown(licensing, Path("strict.lic")).out.split()
    )
    licensing("license", "issue", *LEAST, *UNTIL, "--strict", "--grace", "60", "--out", "own.lic")
    claims = claims_of(Path("own.lic"))
    assert (claims["grace"], claims["hold"]) == (60, 120)


def test_without_a_hold_no_claim_says_so(made: Path, licensing: Licensing) -> None:
    assert "hold" not in claims_of(issue(licensing))


def test_show_says_that_a_program_may_not_run_offline(made: Path, licensing: Licensing) -> None:
    said = shown(licensing, issue(licensing, "--grace", "0"))
    assert re.search(r"^Offline +no *$", said.out, re.MULTILINE)


def test_show_prints_names_with_brackets_as_they_are(made: Path, licensing: Licensing) -> None:
    file = issue(licensing, "--organization-name", "Acme [Finland] Oy [/]", "--product", "Water [bold]2[/bold]")
    said = shown(licensing, file)
    assert "Acme [Finland] Oy [/] (acme)" in said.out
    assert "Water [bold]2[/bold]" in said.out


def test_show_prints_the_claims_as_json(made: Path, licensing: Licensing) -> None:
    file = issue(licensing)
    assert json.loads(shown(licensing, file, "--json").out) == claims_of(file)


def test_show_says_forged(made: Path, licensing: Licensing) -> None:
    file = issue(licensing)
    stranger = SigningKeys({"keys": [{**new_private_jwk(), "kid": Home(made).issuer_keys().kid}]})
    file.write_text(sign({**claims_of(file), "seats": 500}, LICENSE_TYPE, stranger), encoding="utf-8")
    said = shown(licensing, file)
    assert (said.code, said.out) == (1, "")
    assert "NOT GENUINE" in said.err
    assert "forged" in said.err


def test_show_says_that_another_vendors_license_is_not_trusted(made: Path, licensing: Licensing) -> None:
    file = issue(licensing)
    assert licensing("init", "--home", "other").code == 0
    said = shown(licensing, file, "--home", "other")
    assert said.code == 1
    assert "not trusted" in said.err


@pytest.mark.parametrize("damage", ["", "# only a comment\n", "half", "binary", "twice"])
def test_show_says_damaged(made: Path, licensing: Licensing, damage: str) -> None:
    file = issue(licensing)
    token = license_text(file.read_text(encoding="utf-8"))
    file.write_text({"half": token[: len(token) // 2], "twice": f"{token}\n{token}"}.get(damage, damage), "utf-8")
    if damage == "binary":
        file.write_bytes(b"\xff\xfe\x00")
    said = shown(licensing, file)
    assert (said.code, said.out) == (1, "")
    assert ("is not a text file" if damage == "binary" else "is damaged") in said.err


def test_show_says_expired(made: Path, licensing: Licensing) -> None:
    said = shown(licensing, issue(licensing, "--from", "2025-01-01", "--until", "2025-12-31"))
    assert said.code == 1
    assert "EXPIRED: genuine, but it ended on 2025-12-31." in said.err
    assert "Fluidit Water" in said.out


def test_show_says_not_yet_valid(made: Path, licensing: Licensing) -> None:
    said = shown(licensing, issue(licensing, "--from", "2098-01-01"))
    assert said.code == 1
    assert "NOT YET VALID: genuine, but it begins on 2098-01-01 00:00 UTC." in said.err


def test_show_says_that_there_is_no_such_file(made: Path, licensing: Licensing) -> None:
    said = shown(licensing, Path("missing.lic"))
    assert said.code == 1
    assert "missing.lic" in said.err


def test_show_checks_with_keys_that_are_named(made: Path, licensing: Licensing) -> None:
    file = issue(licensing)
    public = {"keys": [public_jwk(key) for key in json.loads((made / "issuer-keys.json").read_text("utf-8"))["keys"]]}
    Path("keys.json").write_text(json.dumps(public), encoding="utf-8")
    made.rename("gone")
    assert shown(licensing, file, "--issuer-keys", "keys.json").code == 0
    said = shown(licensing, file)
    assert said.code == 1
    assert "no issuer keys" in said.err
    Path("keys.json").write_text("not JSON", encoding="utf-8")
    assert "must be JSON" in shown(licensing, file, "--issuer-keys", "keys.json").err


# Help.


@pytest.mark.parametrize("path", commands(COMMANDS), ids=" ".join)
def test_every_command_and_every_option_explains_itself(licensing: Licensing, path: tuple[str, ...]) -> None:
    command = commands(COMMANDS)[path]
    said = licensing(*path, "--help")
    assert said.code == 0
    assert command.help
    for parameter in command.params:
        assert parameter.help, parameter.name
        assert not parameter.help.startswith(" ")
        for option in parameter.opts:
            assert option.removeprefix("--").lower() in said.out.lower().replace("_", "-") or not option.startswith("-")


def test_a_home_that_was_damaged_is_named_and_not_shown(made: Path, licensing: Licensing) -> None:
    (made / "issuer-keys.json").write_text("{secret", encoding="utf-8")
    said = licensing("license", "issue", *LEAST, *UNTIL)
    assert said.code == 1
    assert "issuer-keys.json" in said.err
    assert "secret" not in said.err
    with pytest.raises(SettingsError):
        Home(made).issuer_keys()
