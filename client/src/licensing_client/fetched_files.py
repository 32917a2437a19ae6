"""Newer license files that the service sent: which are taken, and how they are kept.

The rules (docs/protocol.md, section 10):

- A file is taken if a trusted key signed it, it is for the same license and the same customer, and its serial is
  higher than that of the given file. Whoever reads it from the disk checks this again.
- `granted` is the newest one with which a start was granted; it counts. `pending` is a newer one that does not yet.
- One private file per license holds both. All programs of one user share it. The highest serial wins.

Left to others: which file a start is made with (`licensing_client.license_files`).
"""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from licensing_client.errors import TokenError
from licensing_client.license import License, parse_token
from licensing_client.private_files import license_stem, locked, state_directory, write_private
from licensing_client.tokens import Keys

FORMAT = 1


def _parse(token: object, keys: Keys, given: License) -> License | None:
    """The license in a signed text, if it is genuine, for the same license and the same customer as `given`."""
    try:
        license = parse_token(token, keys) if isinstance(token, str) else None
    except TokenError:
        return None
    same = license is not None and (license.id, license.organization_id) == (given.id, given.organization_id)
    return license if same else None


def newer_license(token: object, keys: Keys, given: License) -> License | None:
    """The license in a signed text, if one of `keys` signed it and it renews `given`; otherwise None."""
    license = _parse(token, keys, given)
    return license if license is not None and license.serial > given.serial else None


@dataclass(frozen=True, slots=True)
class FetchedFiles:
    """The newer files. `granted`: a start with it was granted. `pending`: newer still, and no start was granted yet."""

    granted: License | None = None
    pending: License | None = None

    def joined(self, other: "FetchedFiles") -> "FetchedFiles":
        """The newest of both."""
        granted = _newest(self.granted, other.granted)
        pending = _newest(self.pending, other.pending)
        used = granted is not None and pending is not None and pending.serial <= granted.serial
        return FetchedFiles(granted, None if used else pending)


def _newest(one: License | None, other: License | None) -> License | None:
    if one is None or other is None:
        return one or other
    return max(one, other, key=lambda license: license.serial)


class FetchedFilesStore:
    """The private file that keeps the fetched files of one license. Without writing, nothing is kept."""

    def __init__(self, given: License, keys: Keys, directory: Path | None = None) -> None:
        """`given`: the file that the program was started with. `keys`: the issuer keys to trust."""
        self._given = given
        self._keys = keys
        self._path = (directory or state_directory()) / f"{license_stem(given.id)}.json"
        self._lock_path = self._path.with_suffix(".lock")

    def read(self) -> FetchedFiles:
        """The kept files that are newer than the given one."""
        content = self._content()
        granted, pending = (
            newer_license(content.get(name), self._keys, self._given) for name in ("granted", "pending")
        )
        return FetchedFiles(granted).joined(FetchedFiles(None, pending))

    def keep(self, fetched: FetchedFiles) -> None:
        """Keep these files, unless another program has kept newer ones."""
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with locked(self._lock_path):
                self._write(self.read().joined(fetched))

    def remove_older(self) -> None:
        """Remove kept files that are no newer than the given one."""
        if not any(map(self._is_older, self._content().values())):
            return
        with contextlib.suppress(OSError), locked(self._lock_path):
            self._write(self.read())

    def _is_older(self, token: object) -> bool:
        license = _parse(token, self._keys, self._given)
        return license is not None and license.serial <= self._given.serial

    def _content(self) -> dict[str, Any]:
        try:
            content: Any = json.loads(self._path.read_bytes())
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) and content.get("format") == FORMAT else {}

    def _write(self, fetched: FetchedFiles) -> None:
        if fetched == FetchedFiles():
            self._path.unlink(missing_ok=True)
            return
        tokens = {
            "granted": fetched.granted.token if fetched.granted else None,
            "pending": fetched.pending.token if fetched.pending else None,
        }
        write_private(self._path, json.dumps({"format": FORMAT} | tokens))
