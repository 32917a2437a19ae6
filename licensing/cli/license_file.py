"""`licensing license show`: reads license files, and says what they say. It needs no store."""

import json
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from licensing.cli.context import environment, home
from licensing.cli.license_words import sheet
from licensing.cli.options import read_text
from licensing.cli.output import err, fail, out
from licensing.crypto.keys import VerifyingKeys
from licensing.crypto.tokens import LICENSE_FILE_LIMIT, license_bytes_text, read_license
from licensing.errors import SettingsError, TokenError
from licensing.rules.license import License, last_day
from licensing.services.service import utc_now


def show(
    file: Annotated[Path, Argument(help="A license file.")],
    issuer_keys: Annotated[
        Path | None, Option(metavar="FILE", help="File with the issuer's public keys (JWKS). Default: the home's.")
    ] = None,
    as_json: Annotated[bool, Option("--json", help="Print the claims as JSON.")] = False,
) -> None:
    """Check a license file and print what it says. Exit code 1 if it admits no program today."""
    try:
        license = read_license_file(file, issuer_keys)
    except TokenError as error:
        fail(f"NOT GENUINE: {file.name} {error}. Do not rely on anything that it says.")
    if as_json:
        out.print_json(data=license.claims())
    else:
        out.print(sheet(license))
    now = utc_now()
    if now >= license.valid_until:
        fail(f"EXPIRED: genuine, but it ended on {last_day(license.valid_until)}.")
    if now < license.valid_from:
        fail(f"NOT YET VALID: genuine, but it begins on {license.valid_from:%Y-%m-%d %H:%M} UTC.")
    err.print("Genuine, and valid now.", style="green")


def read_license_file(file: Path, issuer_keys: Path | None = None) -> License:
    """Read a license file and check its signature, by default with the home's keys. TokenError if it is not genuine."""
    return read_signed_file(file, issuer_keys)[0]


def read_signed_file(file: Path, issuer_keys: Path | None = None) -> tuple[License, str]:
    """The license in a file, and its JWS; as for `read_license_file`."""
    try:
        with file.open("rb") as opened:
            data = opened.read(LICENSE_FILE_LIMIT + 1)
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}.")
    token = license_bytes_text(data)
    return read_license(token, issuer_verifying_keys(issuer_keys)), token


def issuer_verifying_keys(file: Path | None = None) -> VerifyingKeys:
    """The issuer's public keys: those in a file (JWKS), else the home's, else those that the settings name.

    Raises SettingsError if there are none, or if they cannot be read.
    """
    if file is None and (home().folder / "issuer-keys.json").is_file():
        return home().trusted_keys()
    text = read_text(file) if file else environment().get("LICENSING_ISSUER_KEYS", "")
    if not text:
        raise SettingsError("no issuer keys to check with: make a home (`licensing init`) or name --issuer-keys")
    try:
        return VerifyingKeys(json.loads(text))
    except json.JSONDecodeError:
        raise SettingsError("the issuer keys must be JSON") from None
    except ValueError as error:
        raise SettingsError(f"the issuer keys {error}") from None
