"""The service, its command line, the client and the changelog agree on the version."""

import re
import tomllib
from pathlib import Path

from typer.testing import CliRunner

import licensing
from licensing.cli import app

ROOT = Path(__file__).parents[1]


def test_the_changelog_begins_with_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.findall(r"^## \[(\d[^]]*)\] - \d{4}-\d{2}-\d{2}$", changelog, re.MULTILINE)[0] == licensing.__version__


def test_the_command_line_says_this_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).output == f"{licensing.__version__}\n"


def test_the_client_has_this_version() -> None:
    client = tomllib.loads((ROOT / "client" / "pyproject.toml").read_text(encoding="utf-8"))
    assert client["project"]["version"] == licensing.__version__
