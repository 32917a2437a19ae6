"""The home: a private folder with the keys and settings of a vendor's or a developer's machine.

    issuer-keys.json      private JWKS; the first key signs license files. They never go to the cloud.
    lease-keys.json       public JWKS; license files tell clients to trust these
    issuer.json           the vendor's name, and the URL of the service
    books.sqlite          every license file that was issued, and the orders; `licensing.cli.books`
    organizations.json    each customer's name and salt; without the salt, nobody can be found in the register
    local.settings.json   the settings of a local service, with its lease keys and pepper

It holds secrets: back it up, and give nobody else access.

A command that reads a file, decides and writes does so within `Home.changing`, which keeps all others out meanwhile.
What only reads the books does so within `Home.reading`.
"""

import base64
import json
import re
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from licensing.cli.books import Books, IssuedFile, files_before_books, open_books, read_books
from licensing.cli.files import DRAFTS, write_whole
from licensing.crypto.keys import Jwk, SigningKeys, VerifyingKeys, new_private_jwk, public_jwk
from licensing.crypto.pseudonyms import base64url
from licensing.errors import SettingsError
from licensing.rules.license import License
from licensing.settings import LOCAL_SETTINGS, PEPPER_BYTES

SALT_BYTES: Final = 32
TABLE_PORT: Final = 10002
BOOKS: Final = "books.sqlite"
BEFORE_BOOKS: Final = "licenses.json"
"""What earlier versions kept in place of the books."""


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs license files, and the URL of the service that programs are to call."""

    name: str
    service: str


@dataclass(frozen=True, slots=True)
class CustomerRecord:
    """What the vendor keeps of a customer. `id` is the organization's; `salt` is base64url."""

    id: str
    name: str
    salt: str


class Home:
    """The files of one home. SettingsError, in words for people, if one is missing or cannot be read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._books: Books | None = None
        self._customers: tuple[tuple[int, ...], dict[str, Any]] | None = None

    @contextmanager
    def changing(self) -> Iterator[Books]:
        """Change the home, alone: whoever else does so waits. An error undoes what was noted in the books.

        A change within a change of the same object is part of it. Raises SettingsError if there is no home, if another
        command does not end, or if the books cannot be used.
        """
        if self._books is not None:
            yield self._books
            return
        self._check()
        with open_books(self.folder / BOOKS) as books:
            books.take_over(self._before_books())
            self._clear_drafts()
            self._books = books
            try:
                yield books
            finally:
                self._books = None
        (self.folder / BEFORE_BOOKS).unlink(missing_ok=True)

    @contextmanager
    def reading(self) -> Iterator[Books]:
        """Read the books; no file is changed or made, and nobody waits. Others may change the home meanwhile.

        Raises SettingsError if there is no home, or if the books cannot be read.
        """
        if self._books is not None:
            yield self._books
            return
        self._check()
        with read_books(self.folder / BOOKS, self._before_books()) as books:
            yield books

    def _clear_drafts(self) -> None:
        """Delete what commands left that died while they wrote: it may hold keys that are dropped one day."""
        for draft in self.folder.glob(DRAFTS):
            draft.unlink(missing_ok=True)

    @property
    def exists(self) -> bool:
        """Whether the folder is a home, and not one of something else."""
        return any((self.folder / name).is_file() for name in ("issuer-keys.json", LOCAL_SETTINGS))

    def _check(self) -> None:
        if not self.exists:
            raise self._missing("issuer-keys.json")

    def _before_books(self) -> list[IssuedFile]:
        """What earlier versions have noted in place of the books; none if that is taken over, or never was."""
        try:
            return files_before_books(self._read(BEFORE_BOOKS))
        except SettingsError:
            if not (self.folder / BEFORE_BOOKS).exists():
                return []
            raise
        except ValueError:
            raise self._damaged(BEFORE_BOOKS) from None

    def create(self, issuer: Issuer, table_port: int) -> None:
        """Make all files, with new keys and a new pepper. FileExistsError if the folder is not empty."""
        if self.folder.exists() and any(self.folder.iterdir()):
            raise FileExistsError(str(self.folder))
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        issuer_key, lease_key = new_private_jwk(), new_private_jwk()
        self._write("issuer-keys.json", {"keys": [issuer_key]})
        self._write("lease-keys.json", public_jwks([lease_key]))
        self._write("issuer.json", {"issuer": issuer.name, "service": issuer.service})
        self._write("organizations.json", {})
        values = {
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "AzureWebJobsStorage": "UseDevelopmentStorage=true",
            "LICENSING_STORAGE": local_storage(table_port),
            "LICENSING_ISSUER_KEYS": json.dumps(public_jwks([issuer_key])),
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
        """The port on which Azurite listens on this machine."""
        storage = self._read(LOCAL_SETTINGS)["Values"].get("LICENSING_STORAGE", "")
        port = re.search(r"TableEndpoint=http://127\.0\.0\.1:(\d+)/", storage)
        return int(port[1]) if port else TABLE_PORT

    def issuer(self) -> Issuer:
        """The vendor's name, and the URL of the service."""
        values = self._read("issuer.json")
        return Issuer(values["issuer"], values["service"])

    def issuer_keys(self) -> SigningKeys:
        """The private keys that sign license files."""
        return SigningKeys(self._read("issuer-keys.json"))

    def trusted_keys(self) -> VerifyingKeys:
        """The issuer's public keys."""
        return VerifyingKeys(public_jwks(self.issuer_jwks()))

    def issuer_jwks(self) -> list[Jwk]:
        """The issuer's private keys, the current one first."""
        return list(self._read("issuer-keys.json")["keys"])

    def save_issuer_jwks(self, keys: list[Jwk]) -> None:
        """Replace the issuer's keys, and the public keys that a local service trusts."""
        with self.changing():
            self.save_setting("LICENSING_ISSUER_KEYS", json.dumps(public_jwks(keys)))
            self._write("issuer-keys.json", {"keys": keys})

    def lease_keys(self) -> dict[str, list[Jwk]]:
        """The public lease keys, as they go into license files."""
        return self._read("lease-keys.json")

    def save_lease_keys(self, keys: list[Jwk]) -> None:
        """Replace the public lease keys. Of a private key, only the public half is written."""
        self._write("lease-keys.json", public_jwks(keys))

    def setting(self, name: str) -> str:
        """A setting of the local service."""
        return str(self._read(LOCAL_SETTINGS)["Values"][name])

    def save_setting(self, name: str, value: str) -> None:
        """Change a setting of the local service."""
        with self.changing():
            content = self._read(LOCAL_SETTINGS)
            content["Values"][name] = value
            self._write(LOCAL_SETTINGS, content)

    def issued(self) -> list[IssuedFile]:
        """The newest file of each license that this home has issued."""
        with self.reading() as books:
            return books.newest()

    def counting(self) -> list[IssuedFile]:
        """Every file that this home has issued and not revoked, by license and serial: some computer may have it."""
        with self.changing() as books:
            return books.counting()

    def file_before(self, license: License) -> License | None:
        """The file before this one of the same license; None if this home has none, or is none."""
        if not self.exists:
            return None
        with self.reading() as books:
            before = books.newest_of(license.id, below=license.serial)
        return before.license if before else None

    def customers(self) -> frozenset[str]:
        """The ids of all customers to whom a license was issued."""
        return frozenset(self._read("organizations.json"))

    def customer(self, organization_id: str) -> CustomerRecord | None:
        """A customer to whom a license was issued before; None for a new one."""
        entry = self._known_customers().get(organization_id)
        try:
            return None if entry is None else CustomerRecord(organization_id, entry["name"], entry["salt"])
        except (KeyError, TypeError):
            raise self._damaged("organizations.json") from None

    def save_customer(self, customer: CustomerRecord) -> None:
        """Record a customer's name and salt."""
        with self.changing():
            entries = self._known_customers()
            entry = {"name": customer.name, "salt": customer.salt}
            if entries.get(customer.id) != entry:
                self._write("organizations.json", {**entries, customer.id: entry})

    def _known_customers(self) -> dict[str, Any]:
        """Their entries, which long runs ask for often: the file is read when it is another than before."""
        try:
            found = (self.folder / "organizations.json").stat()
        except OSError:
            return self._read("organizations.json")  # which says what is wrong
        version = (found.st_ino, found.st_mtime_ns, found.st_size)
        if self._customers is None or self._customers[0] != version:
            self._customers = version, self._read("organizations.json")
        return self._customers[1]

    def _read(self, name: str) -> dict[str, Any]:
        file = self.folder / name
        try:
            content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise self._missing(name) from None
        except (OSError, ValueError):
            raise SettingsError(f"{name} in {self.folder} cannot be read") from None
        if not isinstance(content, dict):
            raise self._damaged(name)
        return content

    def _damaged(self, name: str) -> SettingsError:
        return SettingsError(f"{name} in {self.folder} is damaged; restore it from a backup")

    def _missing(self, name: str) -> SettingsError:
        return SettingsError(f"{self.folder} has no {name}; `licensing init` makes a home, --home names another one")

    def _write(self, name: str, content: Any) -> None:
        """Write a file atomically, readable by its owner only."""
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        try:
            write_whole(self.folder / name, text, private=True)
        except OSError as error:
            raise SettingsError(f"{name} in {self.folder} cannot be written: {error.strerror}") from None


def public_jwks(keys: Iterable[Jwk]) -> dict[str, list[Jwk]]:
    """A JSON Web Key Set with the public halves of some keys."""
    return {"keys": [public_jwk(key) for key in keys]}


def new_salt() -> str:
    """A new customer's key for hashing names, base64url."""
    return base64url(secrets.token_bytes(SALT_BYTES))


def new_pepper() -> tuple[str, str]:
    """A new pepper: its id, which begins with today's date, and the key as base64."""
    pepper_id = f"{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(2)}"
    return pepper_id, base64.b64encode(secrets.token_bytes(PEPPER_BYTES)).decode()


def local_storage(port: int) -> str:
    """The connection string of Azurite on this machine, with Azurite's published account and key."""
    return (
        "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"
        "AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;"
        f"TableEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
    )
