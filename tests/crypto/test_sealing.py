"""A kept license file opens with its pepper, for its license and serial, and otherwise not."""

import pytest

from licensing.crypto.pseudonyms import Peppers, base64url, from_base64url
from licensing.crypto.sealing import Sealer

FIRST, SECOND = bytes(range(32)), bytes(range(1, 33))
TOKEN = "header.payload.signature"


def test_what_was_sealed_opens_and_shows_nothing() -> None:
    sealer = Sealer(Peppers({"p1": FIRST}))
    sealed = sealer.seal(TOKEN, "acme-1", 7)
    assert sealer.open(sealed, "acme-1", 7, "p1") == TOKEN
    assert sealed != sealer.seal(TOKEN, "acme-1", 7), "a nonce was used twice"
    assert b"payload" not in from_base64url(sealed)


def test_after_a_rotation_older_files_open_and_new_ones_are_under_the_current_pepper() -> None:
    old = Sealer(Peppers({"p1": FIRST})).seal(TOKEN, "acme-1", 7)
    rotated = Sealer(Peppers({"p2": SECOND, "p1": FIRST}))
    assert rotated.pepper == "p2"
    assert rotated.open(old, "acme-1", 7, "p1") == TOKEN
    new = rotated.seal(TOKEN, "acme-1", 7)
    assert rotated.open(new, "acme-1", 7, "p2") == TOKEN
    assert rotated.open(new, "acme-1", 7, "p1") is None


def altered(text: str) -> str:
    """A text with its last byte changed."""
    data = from_base64url(text)
    return base64url(data[:-1] + bytes([data[-1] ^ 1]))


@pytest.mark.parametrize("damage", ["", "x", "====", "AAAA", "é"])
def test_what_was_never_sealed_does_not_open(damage: str) -> None:
    assert Sealer(Peppers({"p1": FIRST})).open(damage, "acme-1", 7, "p1") is None


def test_a_sealed_file_of_another_row_key_or_content_does_not_open() -> None:
    sealer = Sealer(Peppers({"p1": FIRST}))
    sealed = sealer.seal(TOKEN, "acme-1", 7)
    assert sealer.open(sealed, "acme-2", 7, "p1") is None
    assert sealer.open(sealed, "acme-1", 8, "p1") is None
    assert sealer.open(sealed, "acme-1", 7, "p0") is None
    assert sealer.open(altered(sealed), "acme-1", 7, "p1") is None
    assert Sealer(Peppers({"p1": SECOND})).open(sealed, "acme-1", 7, "p1") is None


def test_the_key_that_seals_is_not_the_pepper_that_makes_pseudonyms() -> None:
    peppers = Peppers({"p1": FIRST})
    derived = {peppers.derived("p1", purpose) for purpose in ("one", "two")}
    assert len(derived | {FIRST}) == 3
    assert all(len(key) == 32 for key in derived)
