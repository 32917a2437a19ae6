"""The settings: whatever is missing, malformed or weak stops the start, by name and without its value."""

import base64
import json
import re
from pathlib import Path
from typing import Any

import pytest

from licensing.cli.home import Home, Issuer
from licensing.crypto.keys import new_private_jwk, public_jwk
from licensing.errors import SettingsError
from licensing.settings import HOME, LOCAL_SETTINGS, REGIONS, SETTINGS, Settings, StorageSettings
from licensing.storage.tables import Tables
from tests.infra import policy

KEY = new_private_jwk()
PEPPER = base64.b64encode(bytes(range(100, 132))).decode()
STORAGE = "UseDevelopmentStorage=true"
SECRET = "c2VjcmV0LXRoYXQtbm9ib2R5LW1heS1zZWU"

WHOLE = {
    "LICENSING_STORAGE": STORAGE,
    "LICENSING_ISSUER_KEYS": json.dumps({"keys": [public_jwk(KEY)]}),
    "LICENSING_LEASE_KEYS": json.dumps({"keys": [KEY]}),
    "LICENSING_PEPPERS": json.dumps({"2026": PEPPER}),
    "LICENSING_TRUSTED_HOPS": "1",
    "LICENSING_POLICY_VERSION": "2026-11",
    "LICENSING_POLICY_URL": "https://vendor.example/privacy",
}


def load(**changes: str) -> Settings:
    return Settings.load({**WHOLE, **changes})


def refused(name: str, **changes: str) -> str:
    """The one line that names a setting and holds none of the values."""
    with pytest.raises(SettingsError) as caught:
        load(**changes)
    said = str(caught.value)
    assert name in said
    assert "\n" not in said
    for value in changes.values():
        assert len(value) < 4 or value not in said
    for secret in (SECRET, PEPPER, KEY["d"], KEY["x"]):
        assert secret not in said
    return said


def test_a_whole_environment_is_read() -> None:
    settings = load(LICENSING_SMALL_GROUP="5", LICENSING_STATUS_CACHE_SECONDS="0", REGION_NAME="North Europe")
    assert settings.storage == StorageSettings(connection_string=STORAGE)
    assert list(settings.issuer_keys.keys) == [settings.lease_keys.kid] == [KEY["kid"]]
    assert list(settings.peppers) == ["2026"]
    assert (settings.trusted_hops, settings.small_group, settings.status_cache_seconds) == (1, 5, 0)
    assert (settings.policy_version, settings.policy_url) == ("2026-11", "https://vendor.example/privacy")
    assert settings.region == "North Europe"


def test_what_may_be_left_out_has_the_values_of_the_contract() -> None:
    assert (load().small_group, load().status_cache_seconds, load().region) == (3, 60, "")


def test_a_setting_under_its_former_name_stops_the_start() -> None:
    """Ignored, it would let a suspended license run on for a minute where somebody has asked for none."""
    former = "LICENSING_HEAD_SECONDS"
    with pytest.raises(SettingsError, match=f"{former} is called LICENSING_STATUS_CACHE_SECONDS now"):
        load(**{former: "0"})


def test_the_first_pepper_is_current() -> None:
    peppers = load(LICENSING_PEPPERS=json.dumps({"b": PEPPER, "a": PEPPER})).peppers
    assert (peppers.current, list(peppers)) == ("b", ["b", "a"])


@pytest.mark.parametrize("name", WHOLE)
def test_a_missing_setting_is_named(name: str) -> None:
    rest = {other: value for other, value in WHOLE.items() if other != name}
    with pytest.raises(SettingsError, match=name):
        Settings.load(rest)
    with pytest.raises(SettingsError, match=name):
        Settings.load({**rest, name: ""})


def keys(*jwks: dict[str, Any]) -> str:
    return json.dumps({"keys": jwks})


WEAK = {
    "of few bytes": base64.b64encode(bytes(range(31))).decode(),
    "of one byte, repeated": base64.b64encode(b"a" * 64).decode(),
    "of zeros": base64.b64encode(bytes(32)).decode(),
    "empty": "",
}

MALFORMED = [
    ("LICENSING_ISSUER_KEYS", SECRET),
    ("LICENSING_ISSUER_KEYS", "[" * 5000),
    ("LICENSING_ISSUER_KEYS", "9" * 5000),
    ("LICENSING_ISSUER_KEYS", "null"),
    ("LICENSING_ISSUER_KEYS", "{}"),
    ("LICENSING_ISSUER_KEYS", keys()),
    ("LICENSING_ISSUER_KEYS", keys(KEY)),
    ("LICENSING_ISSUER_KEYS", keys({"kty": "oct", "kid": "1", "k": SECRET})),
    ("LICENSING_LEASE_KEYS", SECRET),
    ("LICENSING_LEASE_KEYS", keys(public_jwk(KEY))),
    ("LICENSING_LEASE_KEYS", keys({**KEY, "d": SECRET})),
    ("LICENSING_LEASE_KEYS", keys(KEY, KEY)),
    ("LICENSING_PEPPERS", SECRET),
    ("LICENSING_PEPPERS", json.dumps([PEPPER])),
    ("LICENSING_PEPPERS", "{}"),
    ("LICENSING_PEPPERS", json.dumps({"": PEPPER})),
    ("LICENSING_PEPPERS", json.dumps({"2026": 1})),
    ("LICENSING_PEPPERS", json.dumps({"2026": None})),
    ("LICENSING_PEPPERS", json.dumps({"2026": "é" * 44})),
    ("LICENSING_PEPPERS", json.dumps({"2026": "not base64 " * 5})),
    *(("LICENSING_PEPPERS", json.dumps({"2026": PEPPER, "2025": weak})) for weak in WEAK.values()),
    ("LICENSING_TRUSTED_HOPS", "-1"),
    ("LICENSING_TRUSTED_HOPS", "11"),
    ("LICENSING_TRUSTED_HOPS", "1.5"),
    ("LICENSING_TRUSTED_HOPS", "one"),
    ("LICENSING_TRUSTED_HOPS", "\u0661"),
    ("LICENSING_TRUSTED_HOPS", "1" * 5000),
    ("LICENSING_POLICY_VERSION", "v" * 201),
    ("LICENSING_POLICY_VERSION", "two\nlines"),
    ("LICENSING_POLICY_URL", "http://vendor.example/privacy"),
    ("LICENSING_POLICY_URL", "javascript:alert(1)"),
    ("LICENSING_POLICY_URL", "https://vendor.example/\r\nX: y"),
    ("LICENSING_POLICY_URL", "https://vendor.example/two words"),
    ("LICENSING_POLICY_URL", "https://"),
    ("LICENSING_POLICY_URL", "https:///privacy"),
    ("LICENSING_SMALL_GROUP", "0"),
    ("LICENSING_SMALL_GROUP", "1001"),
    ("LICENSING_STATUS_CACHE_SECONDS", "61"),
    ("LICENSING_STATUS_CACHE_SECONDS", "-1"),
    ("LICENSING_STATUS_CACHE_SECONDS", "inf"),
    ("LICENSING_STORAGE", SECRET),
    ("LICENSING_STORAGE", "@Microsoft.KeyVault(SecretUri=https://vault.example/secrets/storage/)"),
    ("LICENSING_STORAGE", "https://account.table.core.windows.net"),
    ("LICENSING_STORAGE", "UseDevelopmentStorage=false"),
    ("LICENSING_STORAGE", "UseDevelopmentStorage=true;"),
    ("LICENSING_STORAGE", "AccountName=account"),
    ("LICENSING_STORAGE", f"AccountKey={PEPPER}"),
    ("LICENSING_STORAGE", f"AccountName=;AccountKey={PEPPER}"),
    ("LICENSING_STORAGE", f"AccountName=account;AccountKey={PEPPER};;EndpointSuffix=core.windows.net"),
    ("LICENSING_STORAGE", f"AccountName=account;AccountKey={PEPPER};accountname=other"),
    ("LICENSING_STORAGE", f"AccountName=account;AccountKey={SECRET}"),
    ("LICENSING_STORAGE", f"AccountName=two words;AccountKey={PEPPER}"),
    ("LICENSING_STORAGE", f"SharedAccessSignature=sig={SECRET}"),
    *(
        ("LICENSING_STORAGE", f"AccountName=account;AccountKey={PEPPER};TableEndpoint={url}")
        for url in (
            "https://",
            "account.table",
            "https://a b",
            "ftp://account.example",
            "http://127.0.0.1:port/account",
        )
    ),
    ("LICENSING_STORAGE__tableServiceUri", "https://account.table.core.windows.net"),
    ("REGION_NAME", "East US"),
    ("REGION_NAME", "switzerlandnorth"),
    ("REGION_NAME", "UK South"),
    ("REGION_NAME", "northeurope2"),
    ("REGION_NAME", " "),
]


@pytest.mark.parametrize(
    ("name", "value"), MALFORMED, ids=lambda text: text if text.startswith("LICENSING_") else "value"
)
def test_a_malformed_or_weak_setting_is_named_and_not_shown(name: str, value: str) -> None:
    refused(name, **{name: value})


@pytest.mark.parametrize("name", ["LICENSING_ISSUER_KEYS", "LICENSING_LEASE_KEYS", "LICENSING_PEPPERS"])
def test_a_key_vault_reference_that_was_not_resolved_is_named_as_such(name: str) -> None:
    reference = "@Microsoft.KeyVault(SecretUri=https://vault.example/secrets/pepper/)"
    assert "Key Vault reference" in refused(name, **{name: reference})


# Storage.


def test_storage_by_identity() -> None:
    rest = {name: value for name, value in WHOLE.items() if name != "LICENSING_STORAGE"}
    where = {
        "LICENSING_STORAGE__tableServiceUri": "https://account.table.core.windows.net",
        "LICENSING_STORAGE__clientId": "11111111-2222-3333-4444-555555555555",
    }
    storage = Settings.load({**rest, **where}).storage
    assert (storage.connection_string, storage.endpoint, storage.client_id) == ("", *where.values())


@pytest.mark.parametrize(
    "url",
    [
        "http://account.table.core.windows.net",  # not encrypted on its way
        "http://127.0.0.1:10002/devstoreaccount1",
        "https://",
        "https:///account",
        "https://:443",
        "https://a b",
        "https://account.example/a b",
        "https://account.example\n",
        "https://account.example:port",
        "https://account.example:70000",
        "https://[account.example",
        f"https://account:{SECRET}@account.example",
        "account.table.core.windows.net",
        SECRET,
    ],
)
def test_a_url_at_which_no_store_can_be_is_refused(url: str) -> None:
    refused("LICENSING_STORAGE__tableServiceUri", LICENSING_STORAGE="", LICENSING_STORAGE__tableServiceUri=url)


@pytest.mark.parametrize(
    "connection",
    [
        STORAGE,
        "usedevelopmentstorage=TRUE",
        f"AccountName=account;AccountKey={PEPPER}",
        f"DefaultEndpointsProtocol=https;AccountName=account;AccountKey={PEPPER};EndpointSuffix=core.windows.net;",
        f" accountname=account;ACCOUNTKEY={PEPPER};TableEndpoint=http://127.0.0.1:10102/account; ",
        "TableEndpoint=https://account.table.core.windows.net/;SharedAccessSignature=sv=2020-12-06&sig=c2ln",
        "BlobEndpoint=https://account.blob.core.windows.net/;AccountName=account;SharedAccessSignature=sv=1&sig=c2ln",
    ],
)
async def test_a_connection_string_that_is_accepted_is_one_that_the_sdk_can_use(connection: str) -> None:
    opened = Tables.from_connection_string(load(LICENSING_STORAGE=connection).storage.connection_string)
    await opened.close()


# Regions.


@pytest.mark.parametrize(
    "name", ["North Europe", "West Europe", "France Central", "Germany West Central", "Sweden Central", "Norway East"]
)
def test_a_region_is_known_by_its_display_name_too(name: str) -> None:
    assert load(REGION_NAME=name).region == name
    assert load(REGION_NAME=name.replace(" ", "").lower()).region
    assert load(REGION_NAME=name.upper()).region


def test_every_region_is_inside_the_eu_or_eea() -> None:
    countries = "europe", "france", "germany", "sweden", "norway", "italy", "spain", "poland", "austria", "belgium"
    assert all(any(country in region for country in (*countries, "denmark")) for region in REGIONS)


# The home.


def home(folder: Path, content: object) -> str:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / LOCAL_SETTINGS).write_text(text, encoding="utf-8")
    return str(folder)


def test_a_home_fills_in_what_the_environment_leaves_out(tmp_path: Path) -> None:
    where = home(tmp_path, {"Values": {**WHOLE, "LICENSING_SMALL_GROUP": "7"}})
    settings = Settings.load({"LICENSING_HOME": where, "LICENSING_TRUSTED_HOPS": "2"})
    assert (settings.trusted_hops, settings.small_group) == (2, 7)


def test_without_a_home_nothing_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home(tmp_path, {"Values": WHOLE})
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError):
        Settings.load({})


def test_a_store_in_the_environment_is_meant_in_place_of_the_homes(tmp_path: Path) -> None:
    where = home(tmp_path, {"Values": WHOLE})
    endpoint = "https://register.table.core.windows.net"
    settings = Settings.load({"LICENSING_HOME": where, "LICENSING_STORAGE__tableServiceUri": endpoint})
    assert (settings.storage.endpoint, settings.storage.connection_string) == (endpoint, "")


def test_a_home_in_the_cloud_is_refused(tmp_path: Path) -> None:
    where = home(tmp_path, {"Values": WHOLE})
    refused("LICENSING_HOME", LICENSING_HOME=where, REGION_NAME="North Europe")


def test_an_empty_home_says_how_to_make_one(tmp_path: Path) -> None:
    assert "licensing init" in refused("LICENSING_HOME", LICENSING_HOME=str(tmp_path))


UNREADABLE: list[object] = [
    "",
    SECRET,
    "[]",
    "null",
    "{}",
    "[" * 5000,
    {"Values": None},
    {"Values": []},
    {"Values": ["LICENSING_STORAGE"]},
    {"Values": {"LICENSING_TRUSTED_HOPS": 1}},
    {"Values": {"LICENSING_PEPPERS": {"2026": SECRET}}},
]


@pytest.mark.parametrize("content", UNREADABLE, ids=lambda content: str(content)[:40])
def test_a_home_that_cannot_be_read_says_so(tmp_path: Path, content: object) -> None:
    refused("LICENSING_HOME", LICENSING_HOME=home(tmp_path, content))


def test_a_home_that_is_no_text_says_so(tmp_path: Path) -> None:
    (tmp_path / LOCAL_SETTINGS).write_bytes(b"\xff\xfe{}")
    refused("LICENSING_HOME", LICENSING_HOME=str(tmp_path))


# The table, and what else names a setting.

ROOT = Path(__file__).parents[1]
MANUAL = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
PARAMETERS = json.loads((ROOT / "infra" / "main.parameters.json").read_text(encoding="utf-8"))["parameters"]
TEMPLATE = (ROOT / "infra" / "main.bicep").read_text(encoding="utf-8")
TABLE = {setting.name: setting for setting in SETTINGS}


class Asked(dict[str, str]):
    """An environment that notes what it is asked for."""

    names: set[str]

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def first_column(heading: str) -> dict[str, str]:
    """The names in the first column of a table of the manual, each with the second column."""
    section = MANUAL.split(f"\n### {heading}\n")[1].split("\n#")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {name: row[1].strip() for row in rows for name in re.findall(r"`(\w+)`", row[0])}


def test_the_service_reads_the_settings_of_the_table_and_no_other() -> None:
    environment = Asked(WHOLE)
    environment.names = set()
    Settings.load(environment)
    assert environment.names == {*TABLE, HOME}


def test_the_manual_names_every_setting_of_the_app() -> None:
    assert first_column("Settings of the app").keys() == policy.SETTINGS | {"REGION_NAME"}
    assert "`LICENSING_STORAGE`" in MANUAL


@pytest.mark.parametrize("name", [name for name in TABLE if f"${{{name}}}" in json.dumps(PARAMETERS)])
def test_a_parameter_has_the_default_of_the_manual_and_bounds_that_the_service_takes(name: str) -> None:
    setting = TABLE[name]
    (parameter,) = (key for key, entry in PARAMETERS.items() if entry["value"] == f"${{{name}}}")
    found = re.search(rf"((?:^@.*\n)+)^param {parameter} \w+(?: = (\w+))?$", TEMPLATE, re.MULTILINE)
    assert found, f"main.bicep has no parameter {parameter}"
    decorators, default = found.groups()
    assert f"({name})" in decorators
    assert first_column("Parameters")[name] == (f"`{default}`" if default else "asked")
    assert default in (None, str(setting.default)) or setting.default is None
    for text in (default, *re.findall(r"^@(?:minValue|maxValue)\((\d+)\)", decorators, re.MULTILINE)):
        if text:
            assert str(setting.parse(text)) == text


def test_a_home_sets_what_has_no_default_and_a_store_and_no_more(tmp_path: Path) -> None:
    Home(tmp_path).create(Issuer("Vendor", "http://127.0.0.1:7071/api"), 10002)
    values = json.loads((tmp_path / LOCAL_SETTINGS).read_text(encoding="utf-8"))["Values"]
    required = {name for name, setting in TABLE.items() if setting.default is None}
    assert {name for name in values if name.startswith("LICENSING_")} == {*required, "LICENSING_STORAGE"}
    example = json.loads((ROOT / "local.settings.example.json").read_text(encoding="utf-8"))["Values"]
    assert values.keys() | example.keys() <= {*TABLE, HOME, "AzureWebJobsStorage", "FUNCTIONS_WORKER_RUNTIME"}
    Settings.load({**example, HOME: str(tmp_path)})
