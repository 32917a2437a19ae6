"""The home: a private folder with the keys and settings of a vendor's or a developer's machine.

    issuer-keys.json      private JWKS; the first key signs license files. It never goes to the cloud.
    lease-keys.json       public JWKS; license files tell clients to trust these
    issuer.json           who issues, and where the service is
    licenses.json         of each license, whose it is, its kind, and the keys that its newest file rests on
    organizations.json    each customer's name and salt; without its salt, nobody can be found in the register
    local.settings.json   the settings of a local service, with its own lease keys and pepper

Back it up, and show it to nobody.
"""

import base64
import json
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from licensing.crypto.keys import Jwk, SigningKeys, VerifyingKeys, new_private_jwk, public_jwk
from licensing.crypto.pseudonyms import base64url
from licensing.errors import SettingsError
from licensing.rules.license import License
from licensing.settings import LOCAL_SETTINGS, PEPPER_BYTES

SALT_BYTES: Final = 32
TABLE_PORT: Final = 10002


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs license files, and the URL of the service that programs are to call."""

    name: str
    service: str


@dataclass(frozen=True, slots=True)
class Customer:
    """An organization as the vendor knows it; `salt` is base64url."""

    id: str
    name: str
    salt: str


@dataclass(frozen=True, slots=True)
class Issued:
    """The newest license file of a license: the key that signed it, and the lease keys that it names, by their ids."""

    license: str
    until: datetime
    issuer_key: str
    lease_keys: frozenset[str]


class Home:
    """The files of one home. SettingsError, in words for people, where one is missing or cannot be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def create(self, issuer: Issuer, table_port: int) -> None:
        """Make all files, with new keys and a new pepper; FileExistsError where there are some already."""
        if self.folder.exists() and any(self.folder.iterdir()):
            raise FileExistsError(str(self.folder))
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        issuer_key, lease_key = new_private_jwk(), new_private_jwk()
        self._write("issuer-keys.json", {"keys": [issuer_key]})
        self._write("lease-keys.json", {"keys": [public_jwk(lease_key)]})
        self._write("issuer.json", {"issuer": issuer.name, "service": issuer.service})
        self._write("organizations.json", {})
        values = {
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "AzureWebJobsStorage": "UseDevelopmentStorage=true",
            "LICENSING_STORAGE": local_storage(table_port),
            "LICENSING_ISSUER_KEYS": json.dumps({"keys": [public_jwk(issuer_key)]}),
            "LICENSING_LEASE_KEYS": json.dumps({"keys": [lease_key]}),
            "LICENSING_PEPPERS": json.dumps(dict([new_pepper()])),
            "LICENSING_TRUSTED_HOPS": "0",
            "LICENSING_POLICY_VERSION": "local",
            "LICENSING_POLICY_URL": "https://example.com/privacy",
        }
        self._write(LOCAL_SETTINGS, {"IsEncrypted": False, "Values": values})

    @property
    def initialized(self) -> bool:
        """Whether `create` has made this home."""
        return (self.folder / LOCAL_SETTINGS).is_file()

    def table_port(self) -> int:
        """Where Azurite listens on this machine."""
        storage = self._read(LOCAL_SETTINGS)["Values"].get("LICENSING_STORAGE", "")
        port = re.search(r"TableEndpoint=http://127\.0\.0\.1:(\d+)/", storage)
        return int(port[1]) if port else TABLE_PORT

    def issuer(self) -> Issuer:
        """Who issues."""
        values = self._read("issuer.json")
        return Issuer(values["issuer"], values["service"])

    def issuer_keys(self) -> SigningKeys:
        """The private keys that sign license files."""
        return SigningKeys(self._read("issuer-keys.json"))

    def trusted_keys(self) -> VerifyingKeys:
        """The public halves of the issuer's keys."""
        jwks = self._read("issuer-keys.json")
        return VerifyingKeys({"keys": [public_jwk(key) for key in jwks["keys"]]})

    def issuer_jwks(self) -> list[Jwk]:
        """The issuer's keys with their private halves, the current one first."""
        keys: list[Jwk] = self._read("issuer-keys.json")["keys"]
        return keys

    def keep_issuer_jwks(self, keys: list[Jwk]) -> None:
        """Replace the issuer's keys, and what a local service trusts."""
        self.set_value("LICENSING_ISSUER_KEYS", json.dumps({"keys": [public_jwk(key) for key in keys]}))
        self._write("issuer-keys.json", {"keys": keys})

    def lease_keys(self) -> dict[str, list[Jwk]]:
        """The public lease keys, as they go into license files."""
        keys: dict[str, list[Jwk]] = self._read("lease-keys.json")
        return keys

    def keep_lease_keys(self, keys: list[Jwk]) -> None:
        """Replace the public lease keys, those of private ones by their public halves."""
        self._write("lease-keys.json", {"keys": [public_jwk(key) for key in keys]})

    def value(self, name: str) -> str:
        """A setting of the local service."""
        return str(self._read(LOCAL_SETTINGS)["Values"][name])

    def set_value(self, name: str, value: str) -> None:
        """Change a setting of the local service."""
        content = self._read(LOCAL_SETTINGS)
        content["Values"][name] = value
        self._write(LOCAL_SETTINGS, content)

    def issued(self) -> Iterator[Issued]:
        """The newest file of each license that this home has issued."""
        for id, known in self._issued().items():
            until = datetime.fromisoformat(known["until"])
            yield Issued(id, until, known["issuer_key"], frozenset(known["lease_keys"]))

    def note(self, terms: License, issuer_key: str) -> None:
        """Remember on which keys a license file rests, unless a newer one of the same license is known."""
        known = self._issued()
        if known.get(terms.id, {"serial": 0})["serial"] > terms.serial:
            return
        known[terms.id] = {
            "serial": terms.serial,
            "until": terms.valid_until.isoformat(),
            "issuer_key": issuer_key,
            "lease_keys": sorted(terms.trusted_kids),
            "organization": terms.organization.id,
            "kind": terms.kind,
        }
        self._write("licenses.json", known)

    def differs(self, terms: License) -> str | None:
        """What a license is already that a file of it does not say: whose it is, or its kind; None where all agrees."""
        known = self._issued().get(terms.id, {})
        if known.get("organization", terms.organization.id) != terms.organization.id:
            return f"a license of {known['organization']}"
        if known.get("kind", terms.kind) != terms.kind:
            return f"a {known['kind']} license"
        return None

    def _issued(self) -> dict[str, Any]:
        known: dict[str, Any] = self._read("licenses.json") if (self.folder / "licenses.json").exists() else {}
        return known

    def customer(self, id: str) -> Customer | None:
        """A customer to whom a license was issued before, None for a new one."""
        known = self._read("organizations.json").get(id)
        return Customer(id, known["name"], known["salt"]) if known else None

    def remember(self, customer: Customer) -> None:
        """Keep a customer's name and salt."""
        known = self._read("organizations.json")
        known[customer.id] = {"name": customer.name, "salt": customer.salt}
        self._write("organizations.json", known)

    def _read(self, name: str) -> Any:
        file = self.folder / name
        try:
            return json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise SettingsError(
                f"{self.folder} has no {name}; `licensing init` makes a home, --home names another one"
            ) from None
        except (OSError, ValueError):
            raise SettingsError(f"{name} in {self.folder} cannot be read") from None

    def _write(self, name: str, content: Any) -> None:
        """Write a file that only its owner may read, whole or not at all."""
        draft = self.folder / f".{name}.{secrets.token_hex(4)}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as out:
            json.dump(content, out, indent=2, ensure_ascii=False)
            out.write("\n")
        draft.replace(self.folder / name)


def new_salt() -> str:
    """A new organization's key for the client's hash, base64url."""
    return base64url(secrets.token_bytes(SALT_BYTES))


def new_pepper() -> tuple[str, str]:
    """A new secret key of the service: its id, which tells when it was made, and the key as base64."""
    name = f"{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(2)}"
    return name, base64.b64encode(secrets.token_bytes(PEPPER_BYTES)).decode()


def local_storage(port: int) -> str:
    """The connection string of an Azurite on this machine. Its account and key are everybody's."""
    return (
        "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
        "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
        f"TableEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
    )
