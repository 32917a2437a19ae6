"""What a line is in a license file (docs/protocol.md, section 4): `license show`, the client and the example agree."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from licensing_client.cli import main as client

from tests.cli.conftest import Licensing
from tests.client.test_node import EXAMPLE, node
from tests.vectors import FOLDER

VECTORS = json.loads((FOLDER / "license-files.json").read_text("utf-8"))
GOOD = VECTORS["judged"][0]["file"].encode()
FILES = {
    **{case["what"]: (case["file"].encode(), case["code"]) for case in VECTORS["lines"]},
    "nothing in it": (b"", "license-malformed"),
    "UTF-16, as an old editor saves text": (GOOD.decode().encode("utf-16"), "license-malformed"),
    "Latin-1 in a comment": ("# Brändi Oy\n".encode("latin-1") + GOOD, "license-malformed"),
    "as large as it may be": (GOOD.ljust(64 * 1024, b"\n"), None),
    "too large by a byte": (GOOD.ljust(64 * 1024 + 1, b"\n"), "license-malformed"),
}
READ = """
import { readFileSync } from "node:fs";
import { fileText, keysOf, readLicense } from "PROTOCOL";
const [keys, ...files] = process.argv.slice(1);
const issuer = keysOf(JSON.parse(readFileSync(keys, "utf8")).keys);
console.log(JSON.stringify(files.map((file) => {
  try {
    return readLicense(fileText(readFileSync(file)), issuer).token && null;
  } catch (error) {
    return error.code;
  }
})));
"""


@pytest.fixture
def keys(folder: Path) -> str:
    """A file with the keys that signed the vectors."""
    (folder / "keys.json").write_text(json.dumps({"keys": VECTORS["issuer_keys"]}))
    return "keys.json"


def code_shown(message: str) -> str | None:
    """The protocol's code for what `license show` says of a file; None if it is genuine."""
    if "NOT GENUINE" not in message:
        return None
    damaged = any(words in message for words in ("is damaged", "is not a text file", "is larger than"))
    return "license-malformed" if damaged else "license-invalid"


def code_checked(message: str) -> str | None:
    """The protocol's code for what `licensing-client check` says of a file; None if it is genuine."""
    codes = {"license file is damaged": "license-malformed", "license file is not genuine": "license-invalid"}
    return next((code for words, code in codes.items() if words in message), None)


@pytest.mark.parametrize("what", FILES)
def test_show_and_the_clients_check_agree(
    licensing: Licensing, capsys: pytest.CaptureFixture[str], keys: str, what: str
) -> None:
    content, code = FILES[what]
    Path("acme.lic").write_bytes(content)
    shown = licensing("license", "show", "acme.lic", "--issuer-keys", keys)
    assert code_shown(shown.err) == code
    assert client(["check", "acme.lic", "--issuer-keys", keys]) == shown.code
    assert code_checked(capsys.readouterr().err) == code


def test_the_example_agrees(keys: str) -> None:
    names = [f"{number}.lic" for number, _ in enumerate(FILES)]
    for name, (content, _) in zip(names, FILES.values(), strict=True):
        Path(name).write_bytes(content)
    script = READ.replace("PROTOCOL", (EXAMPLE / "protocol.mjs").as_uri())
    command = [node(), "--input-type=module", "--eval", script, keys, *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    found: list[Any] = json.loads(done.stdout)
    assert dict(zip(FILES, found, strict=True)) == {what: code for what, (_, code) in FILES.items()}
