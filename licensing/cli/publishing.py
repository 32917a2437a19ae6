"""`licensing license publish`: the newest file of a license, for all computers that have an older one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from typer import Argument

from licensing.cli.context import home, in_event_loop, operator, service_store
from licensing.cli.license_file import issuer_verifying_keys, read_signed_file
from licensing.cli.output import bar, count, err, fail
from licensing.cli.secret_store import Vault, service_secret
from licensing.crypto.keys import SigningKeys
from licensing.crypto.pseudonyms import Peppers
from licensing.crypto.sealing import Sealer
from licensing.errors import StorageError, TokenError
from licensing.rules.license import License, last_day
from licensing.services.audit import audited, signed_subject
from licensing.services.license_files import LicenseFiles, SignedFile
from licensing.services.publishing import NotPublished, publish
from licensing.services.service import utc_now
from licensing.settings import LEASE_KEYS, PEPPERS


def publish_file(
    file: Annotated[Path, Argument(help="A license file, newer than those that computers have.")], vault: Vault = None
) -> None:
    """Publish a license file: it holds at once, and programs with an older file of the license fetch it.

    Nobody has to touch a file on any computer. Files that list users, computers or networks cannot be published.
    """
    try:
        signed = read_signed_file(file)
    except TokenError as error:
        fail(f"NOT GENUINE: {file.name} {error}.")
    publish_files([signed], vault)


def publish_files(files: Sequence[tuple[License, str]], vault: str | None) -> None:
    """Publish genuine files (license, JWS) one after the other, under the keys of a vault or of the home.

    The command ends with exit code 1 at the first that is refused, or where the store does not answer any more, and
    says how many were published.
    """
    _publish_files(files, service_secret(PEPPERS, vault), service_secret(LEASE_KEYS, vault), vault)


@in_event_loop
async def _publish_files(
    files: Sequence[tuple[License, str]], peppers: Peppers, lease_keys: SigningKeys, vault: str | None
) -> None:
    async with service_store(vault) as (register, ledger):
        kept = LicenseFiles(register, ledger, Sealer(peppers), issuer_verifying_keys())
        with bar("published") as progress:
            for done, (license, token) in enumerate(files):
                progress(done, len(files))
                before = home().file_before(license)
                try:
                    async with audited(register, utc_now, operator(), "publish", signed_subject(license)):
                        outcome = await publish(kept, SignedFile(license, token), lease_keys.kid, utc_now(), before)
                        if isinstance(outcome, NotPublished):
                            fail(f"{_done(done)}The file of {license.id} {outcome.why}.")
                except StorageError:
                    err.print(f"{_done(done)}Publish again from {license.id} on; what is published stays so.")
                    raise
                err.print(f"Published {license.id}, serial {license.serial}, valid to {last_day(license.valid_until)}.")
    _say_what_follows([license for license, _ in files])


def _say_what_follows(published: Sequence[License]) -> None:
    """Say how programs get the files, and which do not."""
    if any(license.oldest < license.serial for license in published):
        err.print("Programs that run learn of it at a heartbeat, others at their next start.")
    for license in published:
        if license.oldest:
            err.print(
                f"Files of {license.id} below serial {license.oldest} are refused, and their computers are sent no "
                "newer one. Bring this file to each of them."
            )


def _done(number: int) -> str:
    return f"{count(number, 'license')} published. " if number else ""
