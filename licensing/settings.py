"""The settings; one that is missing, malformed or weak stops the start.

`SETTINGS` is the one table of their names, parsers and defaults, and docs/operations.md says what each means. A test
compares it with the manual, the templates and the home.

Each function that reads settings raises SettingsError if one is missing, malformed or weak. The text names the setting
and what to do, never the value.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar
from urllib.parse import urlsplit

from licensing.crypto.keys import SigningKeys, VerifyingKeys
from licensing.crypto.pseudonyms import Peppers
from licensing.errors import SettingsError

PEPPER_BYTES: Final = 32
DEVELOPMENT: Final = "UseDevelopmentStorage=true"
LOCAL_SETTINGS: Final = "local.settings.json"

REGIONS: Final = frozenset(
    (
        *("northeurope", "westeurope", "francecentral", "germanywestcentral", "swedencentral", "norwayeast"),
        *("italynorth", "spaincentral", "polandcentral", "austriaeast", "belgiumcentral", "denmarkeast"),
    )
)
"""Azure's regions inside the EU/EEA (policy, section 9), as in the templates."""


def is_web_address(text: str, *schemes: str) -> bool:
    """Whether a text is a URL with a host and one of the schemes, without a password."""
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # ValueError unless the port is a number
    except ValueError:
        return False
    return parts.scheme in schemes and bool(host) and "@" not in parts.netloc and text.isprintable() and " " not in text


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
        except ValueError:
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


def _checked(holds: Callable[[str], bool], otherwise: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if not holds(text):
            raise ValueError(otherwise)
        return text

    return parse


_text = _checked(lambda text: len(text) <= 200 and text.isprintable(), "must be one line of at most 200 characters")
_https = _checked(lambda text: is_web_address(text, "https"), "must be an https URL")
_region = _checked(
    lambda text: text.replace(" ", "").casefold() in REGIONS,
    "is not a region inside the EU/EEA; the register may not be there",
)


def _connection_string(text: str) -> str:
    """Check by the Tables SDK's own rules, without the cost of importing it for every command."""
    if text.casefold() == DEVELOPMENT.casefold():
        return text
    pairs = [pair.split("=", 1) for pair in text.strip().rstrip(";").split(";")]
    if any(len(pair) != 2 or not all(pair) for pair in pairs):
        raise ValueError(f"must be {DEVELOPMENT} or a connection string (Name=value;Name=value)")
    parts = {name.lower(): value for name, value in pairs}
    if len(parts) != len(pairs):
        raise ValueError("names one of its parts twice")
    account = parts.get("accountname", "")
    if account and "accountkey" in parts:
        try:
            base64.b64decode(parts["accountkey"], validate=True)
        except ValueError:
            raise ValueError("holds an AccountKey that is not base64") from None
    elif "sharedaccesssignature" not in parts:
        raise ValueError("must hold AccountName and AccountKey, or a SharedAccessSignature")
    # Without a URL, the SDK makes one from the account's name.
    scheme, suffix = parts.get("defaultendpointsprotocol", "https"), parts.get("endpointsuffix", "core.windows.net")
    endpoint = parts.get("tableendpoint") or (account and f"{scheme}://{account}.table.{suffix}")
    if not is_web_address(endpoint, "http", "https"):
        raise ValueError("must hold a TableEndpoint that is a URL, or the AccountName from which it is made")
    return text


Parsed = TypeVar("Parsed")


@dataclass(frozen=True, slots=True)
class Setting(Generic[Parsed]):
    """One setting, which must be set if it has no default. `parse` raises ValueError; its text follows the name."""

    name: str
    parse: Callable[[str], Parsed]
    default: Parsed | None = None

    def read(self, values: Mapping[str, str]) -> Parsed:
        """The value of this setting."""
        text = values.get(self.name)
        try:
            if text:
                return self.parse(text)
        except ValueError as error:
            raise SettingsError(f"{self.name} {error}") from None
        if self.default is None:
            raise SettingsError(f"{self.name} is not set")
        return self.default


STORAGE: Final = Setting("LICENSING_STORAGE", _connection_string, default="")
TABLE_SERVICE_URI: Final = Setting("LICENSING_STORAGE__tableServiceUri", _https, default="")
CLIENT_ID: Final = Setting("LICENSING_STORAGE__clientId", str, default="")
ISSUER_KEYS: Final = Setting("LICENSING_ISSUER_KEYS", lambda text: VerifyingKeys(_json(text)))
LEASE_KEYS: Final = Setting("LICENSING_LEASE_KEYS", lambda text: SigningKeys(_json(text)))
PEPPERS: Final = Setting("LICENSING_PEPPERS", _peppers)
TRUSTED_HOPS: Final = Setting("LICENSING_TRUSTED_HOPS", _whole(0, 10))
POLICY_VERSION: Final = Setting("LICENSING_POLICY_VERSION", _text)
POLICY_URL: Final = Setting("LICENSING_POLICY_URL", _https)
SMALL_GROUP: Final = Setting("LICENSING_SMALL_GROUP", _whole(1, 1000), default=3)
STATUS_CACHE_SECONDS: Final = Setting("LICENSING_STATUS_CACHE_SECONDS", _whole(0, 60), default=60)
REGION_NAME: Final = Setting("REGION_NAME", _region, default="")

SETTINGS: Final[tuple[Setting[Any], ...]] = (
    *(STORAGE, TABLE_SERVICE_URI, CLIENT_ID),
    *(ISSUER_KEYS, LEASE_KEYS, PEPPERS),
    *(TRUSTED_HOPS, POLICY_VERSION, POLICY_URL, SMALL_GROUP, STATUS_CACHE_SECONDS, REGION_NAME),
)
STORES: Final = (STORAGE.name, TABLE_SERVICE_URI.name, CLIENT_ID.name)
RENAMED: Final = {"LICENSING_HEAD_SECONDS": STATUS_CACHE_SECONDS.name}
"""Former names: if one were ignored, its value would silently be the default."""
HOME: Final = "LICENSING_HOME"
"""The variable that names the folder with the other settings, on a local machine."""

small_group = SMALL_GROUP.read
"""For commands that need only this setting."""


@dataclass(frozen=True, slots=True)
class StorageSettings:
    """Where the tables are: a connection string, or a URL for an Entra identity."""

    connection_string: str = ""
    endpoint: str = ""
    client_id: str = ""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the service. `region` is empty on a local machine."""

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
        """Read the settings from an environment."""
        values = with_home(environment)
        for name, renamed in RENAMED.items():
            if name in values:
                raise SettingsError(f"{name} is called {renamed} now: rename it")
        return cls(
            storage=storage_settings(values),
            issuer_keys=ISSUER_KEYS.read(values),
            lease_keys=LEASE_KEYS.read(values),
            peppers=PEPPERS.read(values),
            trusted_hops=TRUSTED_HOPS.read(values),
            policy_version=POLICY_VERSION.read(values),
            policy_url=POLICY_URL.read(values),
            small_group=SMALL_GROUP.read(values),
            status_cache_seconds=STATUS_CACHE_SECONDS.read(values),
            region=REGION_NAME.read(values),
        )


def with_home(environment: Mapping[str, str]) -> Mapping[str, str]:
    """An environment with the local settings in LICENSING_HOME, if it names one, as defaults.

    The home's store is left out if the environment names a store.

    Raises SettingsError if the home cannot be read, or if the environment is the cloud's.
    """
    home = environment.get(HOME, "")
    if not home:
        return environment
    if environment.get(REGION_NAME.name):
        raise SettingsError(f"{HOME} is for local machines; in the cloud, secrets come from the key vault")
    file = Path(home) / LOCAL_SETTINGS
    try:
        values = json.loads(file.read_text(encoding="utf-8"))["Values"]
        if not all(isinstance(value, str) for value in values.values()):
            raise ValueError
    except FileNotFoundError:
        raise SettingsError(f"{HOME} holds no {LOCAL_SETTINGS}; make one with `licensing init`") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise SettingsError(
            f"the {LOCAL_SETTINGS} in {HOME} cannot be read; its Values must be texts by name"
        ) from None
    if names_store(environment):
        values = {name: value for name, value in values.items() if name not in STORES}
    return {**values, **environment}


def names_store(values: Mapping[str, str]) -> bool:
    """Whether settings say where the tables are."""
    return bool(values.get(STORAGE.name) or values.get(TABLE_SERVICE_URI.name))


def names_deployment(values: Mapping[str, str]) -> bool:
    """Whether settings name a deployed service's store, which has a URL."""
    return bool(values.get(TABLE_SERVICE_URI.name))


def storage_settings(values: Mapping[str, str]) -> StorageSettings:
    """Where the tables are: exactly one of a connection string and a URL."""
    if bool(values.get(STORAGE.name)) == bool(values.get(TABLE_SERVICE_URI.name)):
        raise SettingsError(f"set one of {STORAGE.name} (a connection string) and {TABLE_SERVICE_URI.name} (a URL)")
    return StorageSettings(STORAGE.read(values), TABLE_SERVICE_URI.read(values), CLIENT_ID.read(values))
