"""`licensing license renew`: signs the next file of a license, with all claims of the one before that are not given."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer import Argument, Option

from licensing.cli.claims import CLAIMS, with_claims
from licensing.cli.context import home
from licensing.cli.issue import (
    Delivery,
    Force,
    HostsFile,
    OneLine,
    Out,
    Publish,
    Rename,
    Strict,
    UsersFile,
    Yes,
    issue_one,
)
from licensing.cli.issuing import LicenseRequest
from licensing.cli.license_file import read_license_file
from licensing.cli.listed_names import with_files
from licensing.cli.output import err, fail, named
from licensing.cli.secret_store import Vault
from licensing.errors import TokenError
from licensing.rules.license import License, is_identifier


@with_claims("sub", "organization.id", defaults=False)
def renew(
    license_id: Annotated[str, Argument(metavar="ID", help="Id of the license; `license issued` lists them.")],
    claims: dict[str, Any],
    users_file: UsersFile = None,
    hosts_file: HostsFile = None,
    strict: Strict = False,
    rename: Rename = False,
    no_trial: Annotated[bool, Option("--no-trial", help="The license is no trial any more.")] = False,
    revoke_older: Annotated[
        bool, Option("--revoke-older", help="Older files of the license do not count any more, wherever they are.")
    ] = False,
    file: Annotated[
        Path | None,
        Option(metavar="FILE", help="The newest file of the license, if the books do not have it."),
    ] = None,
    out_file: Out = None,
    force: Force = False,
    publish: Publish = False,
    vault: Vault = None,
    yes: Yes = False,
    one_line: OneLine = False,
) -> None:
    """Sign the next file of a license. What is not given stays as it is in the newest file.

    Its serial, its time of issue and the lease keys that programs trust are new. To take a claim away, issue the
    license anew: `license issue --id`.
    """
    base = _from_file(license_id, file) if file else _from_books(license_id)
    if "exp" not in claims and "trial" not in claims:
        raise typer.BadParameter(f"{CLAIMS['exp'].option}: it is missing")
    request = LicenseRequest(
        with_files(claims, users_file, hosts_file),
        base,
        strict=strict,
        rename=rename,
        revoke_older=revoke_older,
        end_trial=no_trial,
    )
    if no_trial and base.trial and not base.grace_seconds and "grace" not in claims and not strict:
        err.print("As in the trial, no program runs without the service (grace 0); --grace changes that.")
    issue_one("renew", request, Delivery(out_file, force, publish, vault, yes, one_line))


def _from_books(license_id: str) -> License:
    with home().reading() as books:
        newest = books.newest_of(license_id) if is_identifier(license_id) else None
    if newest is None:
        fail(
            f"There is no {named('license', license_id)} in the books of {home().folder}; `licensing license issued` "
            "lists them. If another home has issued it, give its newest file with --file."
        )
    if newest.license is None:
        fail(
            f"The books do not have the newest file of {license_id} (serial {newest.serial}), since it was issued "
            "before they began: give it with --file."
        )
    return newest.license


def _from_file(license_id: str, file: Path) -> License:
    try:
        license = read_license_file(file)
    except TokenError as error:
        fail(f"NOT GENUINE: {file} {error}.")
    if license.id != license_id:
        fail(f"{file} is a file of another license, {license.id}.")
    with home().reading() as books:
        newest = books.newest_of(license_id)
    if newest and newest.serial > license.serial:
        fail(f"{file} has serial {license.serial}, and {license_id} has a newer file, with serial {newest.serial}.")
    return license
