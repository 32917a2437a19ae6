"""The environment as one frozen value; whatever is missing, malformed or weak stops the start.

Every text of a `SettingsError` names the setting and what to do, never the value.
"""

import base64
import binascii
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

from licensing.crypto.keys import SigningKeys, VerifyingKeys
from licensing.crypto.pseudonyms import Peppers
from licensing.errors import SettingsError

PEPPER_BYTES: Final = 32
STORES: Final = ("LICENSING_STORAGE", "LICENSING_STORAGE__tableServiceUri", "LICENSING_STORAGE__clientId")
DEVELOPMENT: Final = "UseDevelopmentStorage=true"
LOCAL_SETTINGS: Final = "local.settings.json"

REGIONS: Final = frozenset(
    {
        "northeurope",
        "westeurope",
        "francecentral",
        "germanywestcentral",
        "swedencentral",
        "norwayeast",
        "italynorth",
        "spaincentral",
        "polandcentral",
        "austriaeast",
        "belgiumcentral",
        "denmarkeast",
    }
)
"""Azure's regions inside the EU/EEA (policy, section 9); infra/ has the same list."""

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Where the tables are: a connection string, or a URL to be used with an Entra identity."""

    connection_string: str = ""
    endpoint: str = ""
    client_id: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the service is told from outside. `region` is empty on a local machine."""

    storage: StorageSettings
    issuer_keys: VerifyingKeys
    lease_keys: SigningKeys
    peppers: Peppers
    trusted_hops: int
    policy_version: str
    policy_url: str
    small_group: int
    status_cache_seconds: float
    region: str

    @classmethod
    def load(cls, environment: Mapping[str, str]) -> "Settings":
        """Read the settings (docs/operations.md lists them) from an environment; SettingsError where they do not do."""
        values = with_home(environment)
        return cls(
            storage=storage_settings(values),
            issuer_keys=_parsed(values, "LICENSING_ISSUER_KEYS", lambda text: VerifyingKeys(_json(text))),
            lease_keys=_parsed(values, "LICENSING_LEASE_KEYS", lambda text: SigningKeys(_json(text))),
            peppers=peppers(values),
            trusted_hops=_parsed(values, "LICENSING_TRUSTED_HOPS", _whole(0, 10)),
            policy_version=_parsed(values, "LICENSING_POLICY_VERSION", _text),
            policy_url=_parsed(values, "LICENSING_POLICY_URL", _https),
            small_group=small_group(values),
            status_cache_seconds=_parsed(values, "LICENSING_STATUS_CACHE_SECONDS", _whole(0, 60), default="60"),
            region=_region(values),
        )


def with_home(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Fill what an environment leaves out from the local settings in LICENSING_HOME, which only a local machine has.

    An environment that names a store means that one alone, and not the home's.
    """
    home = environment.get("LICENSING_HOME", "")
    if not home:
        return environment
    if environment.get("REGION_NAME"):
        raise SettingsError("LICENSING_HOME is for local machines; in the cloud, secrets come from the key vault")
    file = Path(home) / LOCAL_SETTINGS
    try:
        values = json.loads(file.read_text(encoding="utf-8"))["Values"]
        if not all(isinstance(value, str) for value in values.values()):
            raise ValueError
    except FileNotFoundError:
        raise SettingsError(f"LICENSING_HOME holds no {LOCAL_SETTINGS}; make one with `licensing init`") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SettingsError(
            f"the {LOCAL_SETTINGS} in LICENSING_HOME cannot be read; its Values must be texts by name"
        ) from None
    if names_store(environment):
        values = {name: value for name, value in values.items() if name not in STORES}
    return {**values, **environment}


def peppers(values: Mapping[str, str]) -> Peppers:
    """The service's secret keys for pseudonyms; SettingsError where they are missing, malformed or weak."""
    return _parsed(values, "LICENSING_PEPPERS", _peppers)


def names_store(values: Mapping[str, str]) -> bool:
    """Whether settings say where the tables are."""
    return any(values.get(name) for name in STORES[:2])


def names_deployment(values: Mapping[str, str]) -> bool:
    """Whether they name a deployed service's store, which goes by a URL."""
    return bool(values.get("LICENSING_STORAGE__tableServiceUri"))


def small_group(values: Mapping[str, str]) -> int:
    """How many people make a group in which nobody stands out."""
    return _parsed(values, "LICENSING_SMALL_GROUP", _whole(1, 1000), default="3")


def storage_settings(values: Mapping[str, str]) -> StorageSettings:
    """Where the tables are; SettingsError where that is not said, or said twice, or cannot be."""
    connection_string = values.get("LICENSING_STORAGE", "")
    endpoint = values.get("LICENSING_STORAGE__tableServiceUri", "")
    if bool(connection_string) == bool(endpoint):
        raise SettingsError(
            "set one of LICENSING_STORAGE (a connection string) and LICENSING_STORAGE__tableServiceUri (a URL)"
        )
    if connection_string:
        _parsed(values, "LICENSING_STORAGE", _connection_string)
    else:
        _parsed(values, "LICENSING_STORAGE__tableServiceUri", _https)
    return StorageSettings(connection_string, endpoint, values.get("LICENSING_STORAGE__clientId", ""))


def is_web_address(text: str, *schemes: str) -> bool:
    """Whether a text is a URL with a host, and with one of the schemes."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # which must be a number, where there is one
    except ValueError:
        return False
    return parts.scheme in schemes and bool(host) and "@" not in parts.netloc and text.isprintable() and " " not in text


def _parsed(values: Mapping[str, str], name: str, parse: Callable[[str], Parsed], default: str | None = None) -> Parsed:
    text = values.get(name) or default
    if not text:
        raise SettingsError(f"{name} is not set")
    try:
        return parse(text)
    except ValueError as error:
        raise SettingsError(f"{name} {error}") from None


def _json(text: str) -> Any:
    if text.startswith("@Microsoft.KeyVault("):
        raise ValueError(
            "is a Key Vault reference that was not resolved: check the vault's access and the secret's name"
        )
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("must be JSON") from None


def _peppers(text: str) -> Peppers:
    values = _json(text)
    if not isinstance(values, dict) or not values:
        raise ValueError("must be a JSON object from id to key, with at least one")
    keys: dict[str, bytes] = {}
    for name, value in values.items():
        if not name or not isinstance(value, str):
            raise ValueError("must be a JSON object from id to base64")
        try:
            keys[name] = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("holds a key that is not base64") from None
        if len(keys[name]) < PEPPER_BYTES or len(set(keys[name])) < PEPPER_BYTES // 4:
            raise ValueError(f"holds a weak key: each must be {PEPPER_BYTES} random bytes or more")
    return Peppers(keys)


def _whole(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isascii() or not text.isdigit() or not least <= int(text) <= most:
            raise ValueError(f"must be a whole number from {least} to {most}")
        return int(text)

    return parse


def _text(text: str) -> str:
    if len(text) > 200 or not text.isprintable():
        raise ValueError("must be a short text")
    return text


def _https(text: str) -> str:
    if not is_web_address(text, "https"):
        raise ValueError("must be the URL of a host, by https")
    return text


def _connection_string(text: str) -> str:
    """One that the Tables SDK can use, by its own rules: to ask the SDK would be to import it for every command."""
    if text.casefold() == DEVELOPMENT.casefold():
        return text
    pairs = [pair.split("=", 1) for pair in text.strip().rstrip(";").split(";")]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise ValueError(f"must be {DEVELOPMENT} or a connection string (Name=value;Name=value)")
    parts = {name.lower(): value for name, value in pairs}
    if len(parts) != len(pairs):
        raise ValueError("says something twice")
    account = parts.get("accountname", "")
    if account and "accountkey" in parts:
        try:
            base64.b64decode(parts["accountkey"], validate=True)
        except (binascii.Error, ValueError):
            raise ValueError("holds an AccountKey that is not base64") from None
    elif "sharedaccesssignature" not in parts:
        raise ValueError("must hold AccountName and AccountKey, or a SharedAccessSignature")
    # The SDK makes the URL from the account's name where none is given.
    scheme, suffix = parts.get("defaultendpointsprotocol", "https"), parts.get("endpointsuffix", "core.windows.net")
    endpoint = parts.get("tableendpoint") or (account and f"{scheme}://{account}.table.{suffix}")
    if not is_web_address(endpoint, "http", "https"):
        raise ValueError("must hold a TableEndpoint that is a URL, or the AccountName from which it is made")
    return text


def _region(values: Mapping[str, str]) -> str:
    region = values.get("REGION_NAME", "")
    if region and region.replace(" ", "").casefold() not in REGIONS:
        raise SettingsError("REGION_NAME is not a region inside the EU/EEA; the register may not be there")
    return region
