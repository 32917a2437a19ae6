"""Canaries: names and tokens that nobody could mistake go through all that can happen, and come out nowhere.

The same run plants a control in every place that is looked through: what finds no canary there would have found one.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from base64 import b64decode
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import aiohttp
import pytest

from licensing.cli.home import CustomerRecord, Home, local_storage
from licensing.cli.processes import free_port, start_azurite, stop
from licensing.crypto.pseudonyms import Peppers
from licensing.rules.license import Billing
from licensing.rules.model import Terms
from licensing.rules.requests import End, Start
from licensing.storage.ledger import Ledger
from licensing.storage.register import Register
from licensing.storage.tables import Tables, put
from tests import factories
from tests.processes import end, heartbeat, serving, start

USER = "canary-user-ada-lovelace"
RIGHT = "canary-user-ada-king"
HOST = "canary-host-analytical-engine.example"
TYPED = "Canary Ada Byron"
"""A name that is typed where a command asks for an id or a time."""
ADDRESS = "203.0.113.77"
CONTROL = "control-that-was-planted-on-purpose"
LISTED = {
    "users": [factories.user_hash(USER)],
    "hosts": [factories.host_hash(HOST)],
    "networks": [f"{ADDRESS}/32"],
}
"""What a license file lists that admits the canary alone."""
LONG_AGO = datetime.now(UTC).replace(hour=9, minute=0, second=0, microsecond=0) - timedelta(days=40)
FORWARDED = {"X-Forwarded-For": f"10.0.0.1, {ADDRESS}:4711"}

PS = Path("/bin/ps")
BASH = Path("/bin/bash")
ROOT = Path(__file__).parents[2]
GUIDE = ROOT / "docs" / "privacy.md"

LOUD = f"""
import logging
logging.basicConfig(level=logging.DEBUG)
logging.getLogger("licensing").debug({CONTROL!r})
"""
COMMAND = f"{LOUD}\nfrom licensing.cli import main\nmain()\n"
COMMAND_WITH_VAULT = """
from licensing.cli import context, main, secret_store
from tests.cli.conftest import Vault
vault = Vault("kv-test")
vault.secrets["peppers"] = [context.home().setting("LICENSING_PEPPERS")]
secret_store.vault_client = lambda name: vault.client()
main()
"""
"""A command that finds the vault which the guide names, with the peppers of the service in it."""
SERVICE = f"""{LOUD}
from licensing.api import problems
from licensing.services.sessions import Sessions
problems.CODES["method-not-allowed"] = (405, "Method not allowed", {CONTROL!r})
async def broken(self, token, session):
    raise RuntimeError(token)
Sessions.read = broken
from licensing.cli import main
main()
"""
"""The service with everything logged, and an operation that fails as nobody foresaw: with what was sent."""


@dataclass
class Traces:
    """What a run has left, by where; and the canaries that must not be in it."""

    canaries: dict[str, str] = field(default_factory=dict)
    places: dict[str, bytes] = field(default_factory=dict)

    def found(self, what: dict[str, str]) -> set[tuple[str, str]]:
        """Which of some texts stand where, in whatever case."""
        return {
            (place, name)
            for place, left in self.places.items()
            for name, text in what.items()
            if text.lower().encode() in left.lower()
        }


@dataclass
class Run:
    """A full story over a store and a service of its own, which leaves its traces in a folder."""

    folder: Path
    home: Home
    azurite: subprocess.Popen[bytes]
    storage: str
    traces: Traces
    problems: list[str] = field(default_factory=list)
    listings: list[bytes] = field(default_factory=list)
    past: str = ""
    """A session that the canary had long ago."""

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its commands."""
        return {**os.environ, **factories.environment(self.home, self.storage), "PYTHONPATH": str(ROOT)}

    def token(self, name: str, token: str) -> str:
        """Note a token as a canary, by its signature."""
        self.traces.canaries[name] = token.rpartition(".")[2]
        return token

    async def refused(self, http: aiohttp.ClientSession, method: str, url: str, **request: Any) -> int:
        """Send what will not be done, and keep the reply."""
        headers = {**FORWARDED, "User-Agent": USER, **request.pop("headers", {})}
        async with http.request(method, url, headers=headers, **request) as reply:
            self.problems.append(f"{reply.status} {dict(reply.headers)} {await reply.text()}")
            return reply.status

    def command(self, *arguments: str, typed: str) -> int:
        """Run a command whose input is typed while the processes are listed; its exit code."""
        with (self.folder / "commands.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, str(program(self.folder.parent, COMMAND)), *arguments],
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )
            listing = (
                subprocess.run([PS, "-ww", "-eo", "args"], capture_output=True, check=True).stdout
                if PS.exists()
                else b""
            )
            assert process.poll() is None, "it waits for its input"
            self.listings.append(listing)
            process.communicate(typed.encode(), timeout=60)
        return process.returncode

    def run(self, *arguments: str, typed: str = "") -> int:
        """Run a command that asks for no name; its exit code."""
        with (self.folder / "commands.log").open("ab") as log:
            command = [sys.executable, str(program(self.folder.parent, COMMAND)), *arguments]
            return subprocess.run(
                command, env=self.environment, input=typed.encode(), stdout=log, stderr=log, timeout=60, check=False
            ).returncode

    def file(self, name: str) -> str:
        """Where a command writes what is looked through afterwards."""
        (self.folder / "files").mkdir(exist_ok=True)
        return str(self.folder / "files" / name)


def program(folder: Path, text: str) -> Path:
    """A program in a file, since a command line is what is looked through."""
    file = folder / f"program-{len(text)}.py"
    file.write_text(text)
    return file


def licenses(run: Run) -> dict[str, str]:
    """A license with one seat, and others that do not admit the canary."""
    lists: dict[str, dict[str, Any]] = {
        "one seat": {"sub": "one-seat", "sharing": "user-host"},
        "other users": {"kind": "named-user", "users": [factories.user_hash("bob")]},
        "other hosts": {"kind": "node-locked", "hosts": [factories.host_hash("other")]},
        "other networks": {"networks": ["192.0.2.0/24"]},
        "expired": {"exp": 1_700_000_000, "nbf": 1_600_000_000},
        "lists the canary": {"sub": "lists", **LISTED},
    }
    run.traces.canaries["salt"] = factories.SALT
    run.traces.canaries |= {f"listed in {name}": text for name, (text,) in LISTED.items()}
    return {name: run.token(f"license: {name}", factories.issue(run.home, **claims)) for name, claims in lists.items()}


async def use_and_abuse(run: Run, http: aiohttp.ClientSession, url: str) -> str:
    """Start, run and end; be refused in every way; have errors at every layer. The session's id."""
    files = licenses(run)
    status, reply = await start(http, url, factories.start_body(files["one seat"], USER, HOST), **FORWARDED)
    assert status == 201
    run.token("lease", reply["lease"])
    status, renewed = await heartbeat(http, url, reply)
    assert status == 200
    run.token("renewed lease", renewed["lease"])
    listed = factories.start_body(files["lists the canary"], USER, HOST)
    status, admitted = await start(http, url, listed, **FORWARDED)
    assert status == 201
    assert await end(http, url, admitted) == 204
    bearer = factories.bearer(renewed["lease"])
    sessions, session = f"{url}/sessions", f"{url}/sessions/{reply['session']}"

    async def refused(method: str, where: str, **request: Any) -> int:
        return await run.refused(http, method, where, **request)

    for name, license in files.items():
        body = factories.start_body(license, f"{USER}-2", HOST)
        assert await refused("POST", sessions, json=body) == (409 if name == "one seat" else 403)
    forged = files["one seat"][:-6] + "AAAAAA"
    assert await refused("POST", sessions, json=factories.start_body(forged, USER, HOST)) == 401
    good = factories.start_body(files["one seat"], USER, HOST)
    for wrong in ({USER: HOST}, {"user": USER}, {"host": HOST}, {"session": USER}, {"nonce": HOST}):
        assert await refused("POST", sessions, json={**good, **wrong}) == 400
    for broken in (f'{{"user": "{USER}"', f'"{USER}"', f"[{good!r}]"):
        assert await refused("POST", sessions, data=broken, headers={"Content-Type": "application/json"}) == 400
    assert await refused("POST", sessions, data=USER * 1000) == 413
    for token in (USER, forged, files["one seat"], f"{renewed['lease']}x"):
        assert await refused(
            "PUT", f"{session}/heartbeat", json={"nonce": HOST * 2}, headers=factories.bearer(token)
        ) in (
            400,
            401,
        )
        assert await refused("DELETE", session, headers=factories.bearer(token)) == 401
        assert await refused("GET", f"{url}/usage/data", headers=factories.bearer(token)) == 401
    assert await refused("GET", f"{url}/{USER}?{HOST}={ADDRESS}") == 404
    assert await refused("GET", f"{url}/sessions/{USER}", headers=bearer) == 400
    assert await refused("PATCH", sessions, json=good) == 405
    assert await refused("GET", session, headers=bearer) == 503, "an error that nobody foresaw"
    os.kill(run.azurite.pid, signal.SIGSTOP)
    heartbeat_again = refused("PUT", f"{session}/heartbeat", json={"nonce": factories.new_nonce()}, headers=bearer)
    assert set(await asyncio.gather(heartbeat_again, refused("POST", sessions, json=good))) == {503}, (
        "the store is cut off"
    )
    os.kill(run.azurite.pid, signal.SIGCONT)
    assert await end(http, url, renewed) == 204
    return str(reply["session"])


def link_of(run: Run) -> str:
    """The link to a customer's totals, as an operator gets it."""
    command = [sys.executable, "-m", "licensing", "usage", "link", "acme"]
    return subprocess.run(command, env=run.environment, capture_output=True, text=True, check=True).stdout.strip()


async def look_at_the_totals(run: Run, http: aiohttp.ClientSession, url: str) -> None:
    """A customer reads its totals."""
    link = await asyncio.to_thread(link_of, run)
    token = run.token("report token", link.rpartition("#")[2])
    async with http.get(f"{url}/usage/data", headers=factories.bearer(token)) as response:
        assert response.status == 200
    assert await run.refused(http, "GET", f"{url}/usage/data?from={USER}", headers=factories.bearer(token)) == 400


def answer_the_person(run: Run, session_id: str) -> None:
    """Export, correct, erase, with the names typed or read."""
    names = f"username={USER}\nhostname={HOST}\naddress={ADDRESS}\n"
    person = ("--organization", "acme")
    export = Path(run.file("export.json"))
    read = ("--from-file", "-")
    assert run.command("privacy", "export", *person, *read, "--format", "json", "--out", str(export), typed=names) == 0
    assert session_id in export.read_text(), "the person was found"
    text = ("--out", run.file("export.txt"))
    assert run.command("privacy", "export", *person, *text, typed=f"{USER}\n") == 0
    assert run.command("privacy", "export", *person, typed=f"{USER}\n") == 0
    times = ("--session", run.past, "--ended-at")
    assert run.command("privacy", "rectify", *person, *times, f"{LONG_AGO:%Y-%m-%d}T09:30Z", typed=f"{USER}\n") == 0
    assert run.run("privacy", "rectify", *person, *times, TYPED, typed=f"{USER}\n") == 2
    assert run.command("privacy", "rectify", *person, "--move", typed=f"{USER}\n{RIGHT}\n") == 0
    assert run.command("privacy", "rectify", *person, *read, "--move", typed=f"{names}to_username={RIGHT}\n") == 1
    assert run.command("privacy", "erase", *person, "--json", typed=f"{RIGHT}\n") == 0
    assert run.command("privacy", "erase", *person, *read, typed=f"canary={USER}\n") == 2
    assert run.command("privacy", "export", "--username", CONTROL, *person, *read, typed="") == 0
    run.command("privacy", "export", "--organization", "nobody", typed=f"{USER}\n")


async def work_long_ago(run: Run) -> None:
    """The canary works on a day that is final now, and on one that a silent program holds open; terms change between.

    Another customer, whose license has expired, has left. The product's name is the control in all reports.
    """
    peppers = Peppers({id: b64decode(key) for id, key in json.loads(run.home.setting("LICENSING_PEPPERS")).items()})
    tables, clock = Tables.from_connection_string(run.storage), factories.Clock(LONG_AGO)
    ledger = Ledger(Register(tables), clock)
    bought = factories.terms(product=CONTROL, billing=Billing.TIME, lease_seconds=60 * factories.DAY)

    async def use(license_id: str, user: str, under: Terms, hours: float = 1) -> str:
        client = factories.user_hash(user), factories.host_hash(HOST)
        session_id = factories.new_session_id()
        persons = peppers.persons(under.organization_id, *client, ip_address(ADDRESS))
        await ledger.submit(license_id, Start(session_id, under, persons))
        if hours:
            clock.forward(hours * 3600)
            await ledger.submit(license_id, End(session_id))
        return session_id

    run.past = await use("past", USER, bought)
    await use("gone", USER, replace(bought, organization_id="gone", valid_until=LONG_AGO + timedelta(days=1)))
    clock.now = datetime.now(UTC).replace(hour=0, minute=0) - timedelta(days=2)
    await use("past", "bob", replace(bought, serial=2, seats=5), hours=0)
    await use("past", USER, replace(bought, serial=2, seats=5))
    await tables.close()


def report(run: Run) -> None:
    """Look at all totals in every form, on the terminal and in files; delete a customer that has left."""
    month = f"{LONG_AGO:%Y-%m}"
    for form in ("table", "json", "csv", "html"):
        usage = ("usage", "--organization", "acme", "--format", form)
        assert run.run(*usage) == run.run(*usage, "--out", run.file(f"usage.{form}")) == 0
    for form, rounding in (("table", "exact"), ("json", "minute"), ("csv", "minute")):
        bill = ("billing", "--month", month, "--rounding", rounding, "--format", form)
        assert run.run(*bill) == run.run(*bill, "--out", run.file(f"bill.{form}")) == 0
    for command in (
        ("maintenance", "retention", "--dry-run"),
        ("maintenance", "retention", "--dry-run", "--as-of", f"{datetime.now(UTC) + timedelta(days=400):%Y-%m-%d}"),
        ("maintenance", "sweep", "--dry-run"),
        ("maintenance", "verify", "--json"),
        ("license", "list", "--json"),
        ("organization", "forget", "gone", "--dry-run"),
    ):
        assert run.run(*command) == 0
    assert run.run("organization", "forget", "acme", "--dry-run") == 1
    assert run.run("organization", "forget", "gone", typed=f"{TYPED}\n") == 1
    assert run.run("organization", "forget", "gone", typed="gone\n") == 0
    for mistyped in (
        ("usage", TYPED),
        ("usage", "--organization", TYPED),
        ("usage", "link", TYPED),
        ("usage", "past", "--from", TYPED),
        ("usage", "past", "--time-zone", TYPED),
        ("billing", "--month", TYPED),
        ("billing", "--month", month, "--organization", TYPED),
        ("license", "list", "--organization", TYPED),
        ("license", "suspend", TYPED),
        ("license", "release", TYPED, run.past),
        ("license", "release", "past", TYPED),
        ("privacy", "opt-out", TYPED),
        ("privacy", "opt-in", TYPED),
        ("privacy", "export", "--organization", TYPED, "--username", TYPED),
        ("organization", "forget", TYPED),
        ("maintenance", "verify", TYPED),
        ("maintenance", "retention", "--dry-run", "--as-of", TYPED),
        ("audit", "--month", TYPED),
    ):
        assert run.run(*mistyped) in (1, 2), mistyped
    assert run.run("audit") == run.run("audit", "--json") == 0


def documented() -> list[str]:
    """The commands that the guide for support people has them type."""
    blocks = re.findall(r"^```sh\n(.*?)^```", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith("licensing ")]


def answers(command: str) -> list[str]:
    """The names that a documented command asks for. What it does not read, the shell would take for a command."""
    asks = re.match(r"licensing privacy (export|erase|rectify) (?!.*(--from-file|--username|--schema))", command)
    return [USER, RIGHT][: 2 if "--move" in command else 1] if asks else []


def type_the_documented_commands(run: Run) -> bytes:
    """What a shell keeps in its history of the documented commands, and of one that names the control."""
    if not BASH.exists():
        return b""
    history, person = run.folder.parent / "history", run.folder.parent / "person.txt"
    person.write_text(f"username={USER}\nhostname={HOST}\n")
    profile = run.folder.parent / "profile"
    command = program(folder=run.folder.parent, text=COMMAND_WITH_VAULT)
    profile.write_text(f'PS1=\nVAULT=kv-test\nlicensing() {{ "{sys.executable}" "{command}" "$@"; }}\n')
    environment = {**run.environment, "HISTFILE": str(history)}
    for line in [*documented(), f"licensing privacy export --organization acme --username {CONTROL}"]:
        subprocess.run(
            [BASH, "--rcfile", str(profile), "-i"],
            input="".join(f"{typed}\n" for typed in (line, *answers(line))).encode(),
            cwd=person.parent,
            env=environment,
            capture_output=True,
            timeout=60,
            check=False,
            start_new_session=True,
        )
    return history.read_bytes()


def collect(run: Run) -> None:
    """Read what a run has left in each place."""
    folder = run.folder
    run.traces.places = {
        "store": b"".join(file.read_bytes() for file in (folder / "data").rglob("*") if file.is_file()),
        "azurite's log": unquote_to_bytes((folder / "azurite.log").read_bytes()),
        "service's log": (folder / "service.log").read_bytes(),
        "commands' output": (folder / "commands.log").read_bytes(),
        "files": b"".join(file.read_bytes() for file in sorted((folder / "files").iterdir())),
        "problem replies": "\n".join(run.problems).encode(),
    }
    if PS.exists():
        run.traces.places["process list"] = b"".join(run.listings)


@pytest.fixture(scope="module")
async def traces(tmp_path_factory: pytest.TempPathFactory) -> Traces:
    """What the whole story leaves behind."""
    folder = tmp_path_factory.mktemp("canaries") / "kept"
    folder.mkdir()
    home = factories.new_home(folder.parent / "home")
    home.save_customer(CustomerRecord("acme", "Acme Water Oy", factories.SALT))
    table_port = free_port()
    with (folder / "azurite.log").open("wb") as log:
        azurite = start_azurite(table_port, folder / "data", log)
    run = Run(folder, home, azurite, local_storage(table_port), Traces())
    run.traces.canaries |= {
        "user": USER,
        "right user": RIGHT,
        "typed": TYPED,
        "host": HOST,
        "address": ADDRESS,
        "user's hash": factories.user_hash(USER),
        "right user's hash": factories.user_hash(RIGHT),
        "host's hash": factories.host_hash(HOST),
    }
    try:
        with serving(
            home,
            run.storage,
            log=folder / "service.log",
            program=[str(program(folder.parent, SERVICE))],
            LICENSING_TRUSTED_HOPS="1",
            PYTHONPATH=str(ROOT),
        ) as served:
            async with aiohttp.ClientSession() as http:
                session = await use_and_abuse(run, http, served.url)
                await look_at_the_totals(run, http, served.url)
                await work_long_ago(run)
                assert await asyncio.to_thread(run.run, "maintenance", "retention") == 0
                await asyncio.to_thread(answer_the_person, run, session)
                await asyncio.to_thread(report, run)
                history = await asyncio.to_thread(type_the_documented_commands, run)
                body = factories.start_body(factories.issue(home, sub="one-seat"), USER, HOST)
                status, again = await start(http, served.url, body, **FORWARDED)
                assert status == 201, "who was erased may come back"
        tables = Tables.from_connection_string(run.storage)
        await tables.commit("audit", CONTROL, [put(CONTROL, {})])
        await tables.close()
    finally:
        stop(azurite)
    collect(run)
    if history:
        run.traces.places["shell history"] = history
    stored = run.traces.places["store"]
    assert session.encode() not in stored, "it was erased"
    for column in (b"former", b"erased_part", b"corrected_at", b"sealed"):
        assert column in stored, "each kind of column was written"
    assert again["session"].encode() in stored, "what is looked through is what was stored"
    return run.traces


def test_no_canary_is_found_anywhere(traces: Traces) -> None:
    assert len(traces.canaries) == 21
    assert traces.found(traces.canaries) == set()


@pytest.mark.parametrize(
    "place",
    [
        *("store", "azurite's log", "service's log", "commands' output", "files"),
        *("problem replies", "process list", "shell history"),
    ],
)
def test_a_canary_would_be_found_where_one_is_planted(traces: Traces, place: str) -> None:
    if place not in traces.places:
        pytest.skip(f"this machine has no {PS if place == 'process list' else BASH}: {place} was NOT looked through")
    assert traces.found({"control": CONTROL}) >= {(place, "control")}


def test_everything_was_logged_and_every_layer_had_its_error(traces: Traces) -> None:
    log = traces.places["service's log"].decode()
    assert "DEBUG:" in log
    assert "unexpected RuntimeError in broken" in log
    assert "the store did not answer" in log


def test_the_guide_has_support_people_type_no_name(traces: Traces) -> None:
    history = traces.places.get("shell history")
    if history is None:
        pytest.skip(f"this machine has no {BASH}: the history was NOT looked through")
    kept = history.decode().splitlines()
    assert set(documented()) <= set(kept), "they were typed"
    assert {line.split()[2] for line in documented() if line.startswith("licensing privacy")} == {
        "export",
        "erase",
        "rectify",
        "opt-out",
        "opt-in",
    }


def test_the_shell_that_serves_has_no_secret_on_its_command_line(home: Home, azurite: str, tmp_path: Path) -> None:
    if not PS.exists():
        pytest.skip(f"this machine has no {PS}: the process list was NOT looked through")
    with serving(home, azurite, "--workers", "2", log=tmp_path / "log"):
        listing = subprocess.run([PS, "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    settings = factories.environment(home, azurite)
    assert "licensing serve" in listing
    assert settings["LICENSING_STORAGE"] not in listing
    assert '"d":' not in listing
