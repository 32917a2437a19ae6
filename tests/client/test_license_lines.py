"""The service, the Python client and the example read the same JWS in every text, or none (protocol, section 4)."""

import base64
import json
import random
import subprocess

from hypothesis import example, given
from hypothesis import strategies as st
from licensing_client.errors import TokenError as ClientTokenError
from licensing_client.license import FILE_LIMIT_BYTES, license_line

from licensing.crypto.tokens import LICENSE_FILE_LIMIT, license_bytes_text
from licensing.errors import TokenError
from tests.client.test_node import EXAMPLE, node

PIECES = (
    *("eyJ", "a.b", "=", "==", "=\n", "=\r\n", "#", "# Acme", " ", "\t", "\r", "\n", "\r\n", "\n\n", "\r\r\n"),
    *("\x00", "\x0b", "\f", "\x1c", "\x1f", "\x85", "\xa0", "\u2028", "\u2029", "\u3000", "\ufeff", "ä", "\U0001f511"),
)
FILES = 400
READ_ALL = """
import {{ readFileSync }} from "node:fs";
import {{ TokenError, fileText, jwsIn }} from {protocol};
const read = (file) => {{
  try {{
    return jwsIn(fileText(Buffer.from(file, "base64")));
  }} catch (error) {{
    if (error instanceof TokenError) return null;
    throw error;
  }}
}};
console.log(JSON.stringify(JSON.parse(readFileSync(0, "utf8")).map(read)));
"""


def by_service(file: bytes) -> str | None:
    try:
        return license_bytes_text(file)
    except TokenError:
        return None


def by_client(file: bytes) -> str | None:
    try:
        return license_line(file.decode("utf-8")) if len(file) <= FILE_LIMIT_BYTES else None
    except (ClientTokenError, UnicodeDecodeError):
        return None


def by_example(files: list[bytes]) -> list[str | None]:
    script = READ_ALL.format(protocol=json.dumps((EXAMPLE / "protocol.mjs").as_uri()))
    given = json.dumps([base64.b64encode(file).decode() for file in files])
    command = [node(), "--input-type=module", "-e", script]
    done = subprocess.run(command, input=given, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join).map(str.encode) | st.binary(max_size=40))
@example(b"\xef\xbb\xbf\xef\xbb\xbfabc")
@example(b"a\xed\xa0\x80")
@example(b"a" * LICENSE_FILE_LIMIT)
@example(b"a" * (LICENSE_FILE_LIMIT + 1))
def test_service_and_client_read_the_same(file: bytes) -> None:
    assert by_client(file) == by_service(file)


def test_the_example_reads_the_same() -> None:
    rng = random.Random(15)
    files = ["".join(rng.choices(PIECES, k=rng.randint(0, 14))).encode() for _ in range(FILES)]
    files += [b"\xff", b"abc\xc0\x80", b"a\xed\xa0\x80", b"\xef\xbb", b"\xef\xbb\xbf" * 2 + b"abc"]
    files += [b"a" * LICENSE_FILE_LIMIT, b"a" * (LICENSE_FILE_LIMIT + 1)]
    expected = [by_service(file) for file in files]
    assert by_example(files) == expected
    assert FILES / 4 < sum(each is not None for each in expected) < len(files) - FILES / 10, "both kinds are there"
