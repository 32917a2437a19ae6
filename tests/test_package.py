"""The package that goes to the cloud: it holds what runs and nothing else, and runs alone, also as Azure runs it."""

import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pathspec
import pytest

import function_app
from licensing import settings
from licensing.cli.home import Home
from licensing.services.retention import RetentionResult
from licensing.services.sweep import Swept
from tests import factories
from tests.cloud import bare, install, new_environment, python_of_the_cloud, run
from tests.infra import policy

ROOT = Path(__file__).parents[1]
MANUAL = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
LIST = """
import sys
sys.path.insert(0, sys.argv[1])
import function_app
print(*(function.get_function_name() for function in function_app.app.get_functions()))
"""


def packaged() -> set[str]:
    """What `.funcignore` leaves of this folder; it has the rules of a `.gitignore`."""
    ignored = pathspec.GitIgnoreSpec.from_lines((ROOT / ".funcignore").read_text(encoding="utf-8").splitlines())
    found = set()
    for folder, folders, files in os.walk(ROOT):
        here = Path(folder).relative_to(ROOT)
        # As git does: what is within a folder that is left out cannot be taken back in.
        folders[:] = [name for name in folders if not ignored.match_file(f"{(here / name).as_posix()}/")]
        found |= {path for name in files if not ignored.match_file(path := (here / name).as_posix())}
    return found


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package, unpacked."""
    folder = tmp_path_factory.mktemp("package")
    for name in packaged():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has what the package asks for and nothing else: the cloud's, where this machine has it."""
    folder = tmp_path_factory.mktemp("alone")
    return new_environment(python_of_the_cloud() or sys.executable, folder, "requirements.txt")


def documented() -> set[str]:
    """The functions that the manual lists."""
    paragraph = next(part for part in MANUAL.split("\n\n") if part.startswith("Requests are one row each"))
    return set(re.findall(r"`([a-z_]+)`", paragraph))


def test_the_package_holds_only_what_runs() -> None:
    files = packaged()
    assert {name for name in files if "/" not in name} == {"function_app.py", "host.json", "requirements.txt"}
    kinds = {Path(name).suffix for name in files if name.startswith("licensing/")}
    assert kinds == {".py", ".html", ".css", ".js", ".toml"}
    assert {name.split("/")[1] for name in files if name.count("/") > 1} == {
        *("api", "crypto", "rules", "services", "storage"),
    }


@pytest.mark.parametrize("name", [".local/issuer-keys.json", "local.settings.json", "acme.lic", "licensing/cli/x.py"])
def test_no_key_that_lies_about_gets_into_the_package(name: str) -> None:
    ignored = pathspec.GitIgnoreSpec.from_lines((ROOT / ".funcignore").read_text(encoding="utf-8").splitlines())
    assert ignored.match_file(name)


def test_the_package_alone_lists_exactly_the_documented_functions(package: Path, alone: Path) -> None:
    functions = run([str(alone), "-I", "-W", "error", "-c", LIST, str(package)], bare()).split()
    assert len(functions) == len(set(functions))
    assert set(functions) == documented()


def test_the_manual_lists_every_function() -> None:
    assert {function.get_function_name() for function in function_app.app.get_functions()} == documented()


# As Azure runs it.


@pytest.fixture(scope="session")
def worker(package: Path, alone: Path, home: Home, account: Callable[[], str]) -> dict[str, Any]:
    """What Microsoft's worker library has found in the package, and what its functions answered."""
    if python_of_the_cloud() is None:
        pytest.skip("NOT TESTED AS AZURE RUNS IT: there is no Python 3.13 on this machine")
    install(alone, "requirements.txt", "requirements-worker.txt")
    environment = {**bare(), **factories.environment(home, account(), LICENSING_TRUSTED_HOPS="1")}
    body = json.dumps(factories.start_body(factories.issue(home)))
    command = [str(alone), str(ROOT / "tests" / "worker.py"), str(package)]
    answered: dict[str, Any] = json.loads(run(command, environment, body))
    return answered


def test_azures_own_worker_finds_every_documented_function(worker: dict[str, Any]) -> None:
    functions = worker["functions"]
    assert functions.keys() == documented()
    assert {name for name, trigger in functions.items() if trigger["type"] == "timerTrigger"} == {"sweep", "retention"}
    last = max((name for name, trigger in functions.items() if trigger["type"] == "httpTrigger"), key=str.lower)
    assert functions[last]["route"] == "{*path}"


def test_azures_own_worker_serves_programs(worker: dict[str, Any]) -> None:
    answers = worker["answers"]
    assert {name: answer["status"] for name, answer in answers.items()} == {
        **dict.fromkeys(("health", "usage_page", "openapi", "docs"), 200),
        **dict.fromkeys(("usage_data", "usage_now", "usage_metrics"), 401),
        "zz_unknown": 404,
        "session_start": 201,
        "session_heartbeat": 200,
        "session_read": 200,
        "session_end": 204,
        "session_ended": 204,
        "license_current": 204,
    }, answers["session_start"]["body"]
    assert answers.keys() == {
        name for name, trigger in worker["functions"].items() if trigger["type"] == "httpTrigger"
    }, "each function was invoked"
    assert json.loads(answers["session_start"]["body"])["lease"].count(".") == 2
    assert json.loads(answers["usage_data"]["body"])["code"] == "token-invalid"
    assert json.loads(answers["zz_unknown"]["body"])["code"] == "not-found"


# What is said in two places.


def test_the_service_and_the_templates_allow_the_same_regions() -> None:
    assert set(policy.REGIONS) == settings.REGIONS


def test_the_log_lines_that_alerts_rest_on_are_those_of_the_manual() -> None:
    lines = re.findall(r"^\| `((?:sweep|retention) [^`]+)` \|", MANUAL, re.MULTILINE)
    swept = Swept(licenses=120, lapsed=3, failed=0, seconds=4.2)
    oldest = datetime(2025, 11, 25, 6, 12, 9, tzinfo=UTC)
    result = RetentionResult(licenses=120, days=118, months=2, deleted=960, oldest=oldest, seconds=38.0)
    assert lines == [f"sweep {swept}", f"retention {result}"]
    assert "oldest=none" in str(RetentionResult())
    assert "`none`" in next(line for line in MANUAL.splitlines() if line.startswith("| `retention licenses="))
