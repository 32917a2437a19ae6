"""`licensing license publish`: the newest file of a license, for all desks that have an older one."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from typer import Argument

from licensing.cli.context import in_event_loop, operator, store
from licensing.cli.license_file import issuer_verifying_keys, read_license_file
from licensing.cli.license_words import last_day
from licensing.cli.output import count, err, fail
from licensing.cli.secret_store import Vault, service_secret
from licensing.crypto.keys import SigningKeys
from licensing.crypto.pseudonyms import Peppers
from licensing.crypto.sealing import Sealer
from licensing.crypto.tokens import license_text
from licensing.errors import TokenError
from licensing.rules.license import License
from licensing.rules.model import LicenseState, Terms
from licensing.services.audit import audited, license_subject
from licensing.services.license_files import LicenseFiles, NewerFile
from licensing.services.publishing import NotPublished, publish
from licensing.services.service import utc_now
from licensing.settings import LEASE_KEYS, PEPPERS


def publish_file(
    file: Annotated[Path, Argument(help="A license file, newer than those that desks have.")], vault: Vault = None
) -> None:
    """Publish a license file: it holds at once, and programs with an older file of the license fetch it.

    Nobody has to touch a file on any computer. Files that list users, computers or networks cannot be published.
    """
    try:
        license = read_license_file(file)
        token = license_text(file.read_text(encoding="utf-8-sig"))
    except TokenError as error:
        fail(f"NOT GENUINE: {file.name} {error}.")
    publish_files([(license, token)], vault)


def publish_files(files: Sequence[tuple[License, str]], vault: str | None) -> None:
    """Publish genuine files (license, JWS) one after the other, under the keys of a vault or of the home.

    The command ends with exit code 1 at the first that is refused, and says how many were published.
    """
    _publish_files(files, service_secret(PEPPERS, vault), service_secret(LEASE_KEYS, vault), vault)


@in_event_loop
async def _publish_files(
    files: Sequence[tuple[License, str]], peppers: Peppers, lease_keys: SigningKeys, vault: str | None
) -> None:
    # A vault's keys never belong to the store of the home's local service.
    async with store(None if vault is None else os.environ) as (register, ledger):
        kept = LicenseFiles(register, ledger, Sealer(peppers), issuer_verifying_keys())
        for done, (license, token) in enumerate(files):
            subject = await license_subject(register, license.id, LicenseState(Terms.of(license)))
            if subject is None:
                raise AssertionError("a genuine file names its license")
            async with audited(register, utc_now, operator(), "publish", subject):
                outcome = await publish(kept, NewerFile(license, token), lease_keys.kid, utc_now())
                if isinstance(outcome, NotPublished):
                    fail(f"{_done(done)}The file of {license.id} {outcome.why}.")
            err.print(f"Published {license.id}, serial {license.serial}, valid to {last_day(license.valid_until)}.")
    err.print("Programs that run learn of it at a heartbeat, others at their next start.")


def _done(number: int) -> str:
    return f"{count(number, 'license')} published. " if number else ""
