"""Where a service's secrets are: in the settings of a home, or in a key vault.

A secret is the text of the service's setting, so that no conversion is needed.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

from typer import Option

from licensing.cli.context import environment, home
from licensing.cli.home import Home
from licensing.errors import SettingsError, VaultError
from licensing.settings import Setting, names_deployment

if TYPE_CHECKING:
    from azure.keyvault.secrets import SecretClient


Value = TypeVar("Value")


class Secret(StrEnum):
    """A secret of the service, by its name in a vault. infra/ uses the same names."""

    LEASE_KEYS = "lease-keys"
    PEPPERS = "peppers"


SETTINGS: Final = {Secret.LEASE_KEYS: "LICENSING_LEASE_KEYS", Secret.PEPPERS: "LICENSING_PEPPERS"}
VAULT_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9-]{1,22}[A-Za-z0-9]")
"""Azure's rule for a vault's name. It also keeps a name from leading to a server outside of Azure."""


Vault = Annotated[str | None, Option(metavar="NAME", help="Use the secrets of this key vault, not the home's.")]
"""The option of every command that needs secrets."""


class HomeSecretStore:
    """The secrets of the local service; every home has both."""

    def __init__(self, home: Home) -> None:
        self._home = home

    def read(self, secret: Secret) -> str | None:
        return self._home.setting(SETTINGS[secret])

    def write(self, secret: Secret, value: str) -> None:
        self._home.save_setting(SETTINGS[secret], value)


class VaultSecretStore:
    """The secrets in a key vault; they never touch the disk. The vault keeps replaced ones as older versions."""

    def __init__(self, name: str, client: "SecretClient") -> None:
        self._name = name
        self._client = client

    def read(self, secret: Secret) -> str | None:
        from azure.core.exceptions import ResourceNotFoundError

        with self._translated(secret):
            try:
                return self._client.get_secret(secret).value
            except ResourceNotFoundError:
                return None

    def write(self, secret: Secret, value: str) -> None:
        with self._translated(secret):
            self._client.set_secret(secret, value, content_type="application/json")

    @contextmanager
    def _translated(self, secret: Secret) -> Iterator[None]:
        from azure.core.exceptions import AzureError, HttpResponseError

        try:
            yield
        except HttpResponseError as error:
            what = {
                401: "does not know you: sign in (`az login`) to the tenant of the vault",
                403: "forbids it: you need the role Key Vault Secrets Officer, which takes minutes to spread; "
                "or the secret is disabled, or the vault closed to this network",
                409: "keeps a deleted secret of that name: recover it first",
            }.get(error.status_code or 0, f"answered {error.status_code}")
            raise VaultError(f"{secret}: the vault {self._name} {what}") from None
        except AzureError as error:
            raise VaultError(
                f"{secret}: the vault {self._name} cannot be reached or you are not signed in "
                f"({type(error).__name__}); check its name, the network, and `az login`"
            ) from None


def service_secret(setting: Setting[Value], vault: str | None) -> Value:
    """A secret setting of the service whose register is named: from its vault, its environment, or the home.

    Raises SettingsError where it is missing, or is probably another service's.
    """
    if vault is not None:
        secret = next(secret for secret, name in SETTINGS.items() if name == setting.name)
        text = secret_store(home(), vault).read(secret)
        if text is None:
            raise SettingsError(f"the vault {vault} has no secret {secret}")
        return setting.read({setting.name: text})
    if names_deployment(os.environ) and not os.environ.get(setting.name):
        raise SettingsError(
            f"{setting.name} of a deployed service is in its key vault, and not in this home: name it with --vault"
        )
    return setting.read(environment())


SecretStore = HomeSecretStore | VaultSecretStore
"""Raises LicensingError, in words for people, if it fails. `read` returns None for a secret that does not exist."""


def vault_client(name: str) -> "SecretClient":
    """A client of a vault under the operator's own identity."""
    # Imported here, since only commands with --vault need them.
    from azure.identity import DefaultAzureCredential
    from azure.keyvault.secrets import SecretClient

    return SecretClient(f"https://{name}.vault.azure.net", DefaultAzureCredential())


def secret_store(home: Home, vault: str | None) -> SecretStore:
    """The secrets in the named vault, or in the home if none is named. SettingsError if no vault can have that name."""
    if vault is None:
        return HomeSecretStore(home)
    if not VAULT_NAME.fullmatch(vault):  # it is not repeated: a person's name may have been typed
        raise SettingsError(
            "what --vault gives is not the name of a key vault; the name is the first word of the vault's address"
        )
    return VaultSecretStore(vault, vault_client(vault))
