"""Encrypts the license files that the register keeps, since they hold their customers' salts.

AES-256-GCM under a key that is derived from a pepper, so that the store alone is of no use. A sealed file opens only
for the license and serial that it was sealed for: it cannot be moved to another row.
"""

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from licensing.crypto.pseudonyms import Peppers, base64url, from_base64url

PURPOSE: Final = "license file in the register"
NONCE_BYTES: Final = 12


class Sealer:
    """Seals and opens license files with a service's peppers."""

    def __init__(self, peppers: Peppers) -> None:
        self._peppers = peppers
        self._ciphers: dict[str, AESGCM] = {}

    @property
    def pepper(self) -> str:
        """The id of the pepper that files are sealed under: the current one."""
        return self._peppers.current

    def seal(self, token: str, license_id: str, serial: int) -> str:
        """A license file's JWS, sealed under the current pepper: base64url."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        sealed = self._cipher(self.pepper).encrypt(nonce, token.encode(), _context(license_id, serial))
        return base64url(nonce + sealed)

    def open(self, sealed: str, license_id: str, serial: int, pepper: str) -> str | None:
        """The JWS that was sealed; None if its pepper is gone, or if it is not what was sealed for this license."""
        try:
            data = from_base64url(sealed)
            opened = self._cipher(pepper).decrypt(data[:NONCE_BYTES], data[NONCE_BYTES:], _context(license_id, serial))
        except (KeyError, ValueError, InvalidTag):
            return None
        return opened.decode()

    def _cipher(self, pepper: str) -> AESGCM:
        if pepper not in self._ciphers:
            self._ciphers[pepper] = AESGCM(self._peppers.derived(pepper, PURPOSE))
        return self._ciphers[pepper]


def _context(license_id: str, serial: int) -> bytes:
    return f"{license_id} {serial}".encode()
