"""A full run leaves nothing personal behind: not in the store's files, not in any log."""

import subprocess
from pathlib import Path

import aiohttp

from licensing.cli.home import Home, local_storage
from licensing.cli.processes import free_port, start_azurite, stop
from tests import support
from tests.stories.service import end, heartbeat, serving, start

USER = "canary-user-ada-lovelace"
HOST = "canary-host-analytical-engine.example"
ADDRESS = "203.0.113.77"


def found(folder: Path, secrets: list[str]) -> list[tuple[str, str]]:
    """Which of the secrets stand in which files below a folder."""
    files = [file for file in folder.rglob("*") if file.is_file()]
    texts = {file: file.read_bytes() for file in files}
    return [(file.name, secret) for file, text in texts.items() for secret in secrets if secret.encode() in text]


async def test_a_full_run_leaves_nothing_personal_behind(home: Home, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    table_port = free_port()
    with (kept / "azurite.log").open("wb") as log:
        azurite = start_azurite(table_port, kept / "data", log)
    secrets = [USER, HOST, ADDRESS, support.user_hash(USER), support.host_hash(HOST)]
    try:
        storage = local_storage(table_port)
        with serving(home, storage, log=kept / "service.log", LICENSING_TRUSTED_HOPS="1") as served:
            async with aiohttp.ClientSession() as http:
                license = support.issue(home, seats=1, sharing="user-host")
                headers = {"X-Forwarded-For": f"10.0.0.1, {ADDRESS}:4711"}
                status, reply = await start(http, served.url, support.start(license, USER, HOST), **headers)
                assert status == 201
                secrets += [license, reply["lease"]]
                status, refused = await start(http, served.url, support.start(license, f"{USER}-2", HOST), **headers)
                assert status == 409
                status, renewed = await heartbeat(http, served.url, reply)
                assert status == 200
                secrets.append(renewed["lease"])
                malformed = {"license": license, USER: HOST}
                status, problem = await start(http, served.url, malformed, **headers)
                assert status == 400
                assert not [secret for secret in secrets if secret in f"{refused}{problem}"]
                async with http.get(f"{served.url}/nothing/here", headers={**headers, "User-Agent": "x"}) as response:
                    assert response.status == 404
                assert await end(http, served.url, renewed) == 204
    finally:
        stop(azurite)
    stored = b"".join(file.read_bytes() for file in (kept / "data").rglob("*") if file.is_file())
    assert reply["session"].encode() in stored, "what is looked through is what was stored"
    assert found(kept, secrets) == []
    # And it would be found, if it were there.
    (kept / "data" / "planted").write_text(f"user={USER}")
    assert found(kept, secrets) == [("planted", USER)]


def test_the_shell_that_serves_has_no_secret_on_its_command_line(home: Home, azurite: str, tmp_path: Path) -> None:
    with serving(home, azurite, "--workers", "2", log=tmp_path / "log"):
        listing = subprocess.run(["/bin/ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    settings = support.environment(home, azurite)
    assert "licensing serve" in listing
    assert settings["LICENSING_STORAGE"] not in listing
    assert '"d":' not in listing
