"""Keys are rotated: no session is cut, nobody becomes unfindable, no license file ends before its time."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from licensing.cli.home import Home
from licensing.crypto.keys import VerifyingKeys
from licensing.crypto.pseudonyms import from_base64url
from licensing.crypto.tokens import read_lease
from licensing.settings import Settings
from licensing.storage import register as rows
from licensing.storage.tables import Tables, delete
from tests import factories
from tests.processes import end, heartbeat, serving, start


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home whose keys no other test uses."""
    return factories.new_home(tmp_path / "home")


def keys(home: Home, storage: str, *words: str, code: int = 0) -> str:
    """Run `licensing keys`; what it printed."""
    environment = {**os.environ, **factories.environment(home, storage)}
    command = [sys.executable, "-m", "licensing", "keys", *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout.strip()


def kid_of(reply: dict[str, Any]) -> str:
    """The key that signed the lease in a reply."""
    return str(json.loads(from_base64url(reply["lease"].split(".")[0]))["kid"])


def trusted(license: str, reply: dict[str, Any]) -> bool:
    """Whether a program with a license file believes a reply."""
    claims = json.loads(from_base64url(license.split(".")[1]))
    lease = read_lease(reply["lease"], VerifyingKeys(claims["lease_keys"]))
    return bool(lease.session_id == reply["session"])


async def test_a_new_lease_key_cuts_no_session_and_ends_no_license_file(
    home: Home, azurite: str, tmp_path: Path
) -> None:
    log = tmp_path / "serve.log"
    older = factories.issue(home, seats=5)
    async with aiohttp.ClientSession() as http:
        with serving(home, azurite, log=log) as served:
            status, running = await start(http, served.url, factories.start_body(older))
            assert status == 201
        old = kid_of(running)
        new = keys(home, azurite, "rotate", "lease")
        newer = factories.issue(home, seats=5)
        with serving(home, azurite, log=log) as served:
            status, renewed = await heartbeat(http, served.url, running)
            assert (status, kid_of(renewed), trusted(older, renewed)) == (200, old, True)
            status, again = await start(http, served.url, factories.start_body(older))
            assert (status, kid_of(again), trusted(older, again)) == (201, old, True)
            status, fresh = await start(http, served.url, factories.start_body(newer))
            assert (status, kid_of(fresh), trusted(newer, fresh)) == (201, new, True)
            assert await end(http, served.url, renewed) == 204


async def test_a_new_pepper_cuts_no_session_and_loses_nobody(
    home: Home, azurite: str, tables: Tables, tmp_path: Path
) -> None:
    log = tmp_path / "serve.log"
    organization, license_id = factories.new_id("org"), factories.new_license_id()
    terms = {"sub": license_id, "seats": 5, "organization": {"id": organization, "name": "Acme"}}
    file = factories.issue(home, **terms)
    async with aiohttp.ClientSession() as http:
        with serving(home, azurite, log=log) as served:
            _, before = await start(http, served.url, factories.start_body(file))
            _, ended = await start(http, served.url, factories.start_body(file))
            assert await end(http, served.url, ended) == 204
        old = Settings.load(factories.environment(home, azurite)).peppers.current
        new = keys(home, azurite, "rotate", "pepper")
        with serving(home, azurite, log=log) as served:
            status, renewed = await heartbeat(http, served.url, before)
            assert status == 200
            _, after = await start(http, served.url, factories.start_body(file))

            peppers = Settings.load(factories.environment(home, azurite)).peppers
            person = {
                each.pepper: each.user
                for each in peppers.persons(organization, factories.user_hash(), factories.host_hash(), None)
            }
            assert list(person) == [new, old]
            held = {
                row.key.rpartition(":")[2]: (row.columns["pepper"], row.columns["user"])
                async for row in tables.rows("register", license_id, rows.ACTIVE, rows.beyond(rows.ENDED))
            }
            assert held == {
                before["session"]: (old, person[old]),
                ended["session"]: (old, person[old]),
                after["session"]: (new, person[new]),
            }
            assert await end(http, served.url, renewed) == 204
            assert await end(http, served.url, after) == 204
    # Neither running nor ended sessions may be left under a pepper that goes.
    keys(home, azurite, "drop", "pepper", old, code=1)
    assert old in Settings.load(factories.environment(home, azurite)).peppers
    ended_rows = tables.rows("register", license_id, rows.ENDED, rows.beyond(rows.ENDED))
    await tables.commit("register", license_id, [delete(row.key) async for row in ended_rows])
    keys(home, azurite, "drop", "pepper", old)
    assert list(Settings.load(factories.environment(home, azurite)).peppers) == [new]


async def test_a_new_issuer_key_ends_no_license_file(home: Home, azurite: str, tmp_path: Path) -> None:
    log = tmp_path / "serve.log"
    older = factories.issue(home, seats=5)
    async with aiohttp.ClientSession() as http:
        with serving(home, azurite, log=log) as served:
            _, running = await start(http, served.url, factories.start_body(older))
        keys(home, azurite, "rotate", "issuer")
        newer = factories.issue(home, seats=5)
        with serving(home, azurite, log=log) as served:
            assert (await heartbeat(http, served.url, running))[0] == 200
            assert (await start(http, served.url, factories.start_body(older)))[0] == 201
            assert (await start(http, served.url, factories.start_body(newer)))[0] == 201
