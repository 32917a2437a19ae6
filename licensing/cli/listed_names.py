"""The users and computers that a license lists. Names become hashes here, and go no further."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import typer

from licensing.cli.claims import ClaimError
from licensing.cli.options import read_text
from licensing.cli.output import err, warn_of_names
from licensing.crypto.pseudonyms import ClientKind, client_hashes, from_base64url, is_nobodys_host

_HASH = re.compile(r"[A-Za-z0-9_-]{43}")


def with_files(claims: dict[str, Any], users_file: Path | None, hosts_file: Path | None) -> dict[str, Any]:
    """The claims that options give, with the names in files, one on a line, beside those of --user and --host."""
    files: dict[ClientKind, Path | None] = {"user": users_file, "host": hosts_file}
    result = dict(claims)
    for kind, file in files.items():
        names = [name.strip() for name in claims.get(f"{kind}s", [])]
        warn_of_names((name for name in names if not _HASH.fullmatch(name)), f"use --{kind}s-file")
        if file:
            lines = [line.strip() for line in read_text(file).splitlines()]
            names += [line for line in lines if line and not line.startswith("#")]
        if "" in names or (file and not names):
            # A license with an empty list would admit everybody.
            raise typer.BadParameter(f"a name in --{kind} or --{kind}s-file is missing")
        if names:
            result[f"{kind}s"] = names
    return result


def hashes(salt: str, kind: ClientKind, names: Sequence[str]) -> list[str]:
    """The hashes of users or hosts that a license lists: of a name in all its forms. ClaimError if the
    salt or a name is none."""
    try:
        key = from_base64url(salt)
    except ValueError:
        raise ClaimError("salt", "takes base64url without padding") from None
    forms = ((name,) if _HASH.fullmatch(name) else client_hashes(key, kind, name) for name in names)
    try:
        return sorted({each for of_one in forms for each in of_one})
    except UnicodeEncodeError:  # its text would repeat the name
        raise ClaimError(f"{kind}s", "takes text, and this is none") from None


def warn_of_common_names(salt: str, hosts: Sequence[str]) -> None:
    """Warn if a license lists a computer by a name that many computers have."""
    if any(is_nobodys_host(from_base64url(salt), each) for each in hosts):
        err.print("A listed computer's name is one that many have: the license admits each of them.", style="yellow")
