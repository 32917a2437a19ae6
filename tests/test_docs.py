"""The documents agree with the tree: no link in them is dead, and every decision is in the index."""

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[1]
NOT_OURS = {"node_modules", "build", "dist"}


def documents() -> list[Path]:
    """All Markdown files of the project, but not those of its dependencies."""
    found = []
    for folder, folders, files in os.walk(ROOT):
        folders[:] = [name for name in folders if not name.startswith(".") and name not in NOT_OURS]
        found += [Path(folder) / name for name in files if name.endswith(".md")]
    return sorted(found)


def tokens(document: Path) -> Iterator[Token]:
    """The parts of a document, those within a line of text included."""
    for token in MarkdownIt().enable("table").parse(document.read_text(encoding="utf-8")):
        yield token
        yield from token.children or ()


class _Attributes(HTMLParser):
    """The attributes of some HTML, by name."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(name, value or "") for name, value in attrs]


def links(document: Path) -> list[str]:
    """The targets of all links and pictures of a document, written in Markdown or in HTML."""
    found = []
    for token in tokens(document):
        if token.type in ("link_open", "image"):
            found.append(str(token.attrs.get("href") or token.attrs.get("src") or ""))
        elif token.type in ("html_inline", "html_block"):
            found += [value for name, value in _Attributes(token.content).found if name in ("href", "src")]
    return found


def anchors(document: Path) -> set[str]:
    """What a link may name within a document: its headings, in the way that forges turn them into anchors."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    heading = False
    for token in tokens(document):
        if token.type == "heading_open":
            heading = True
        elif heading and token.type == "inline":
            text = "".join(part.content for part in token.children or () if part.type in ("text", "code_inline"))
            name = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            found.add(name if not seen[name] else f"{name}-{seen[name]}")
            seen[name] += 1
            heading = False
        elif token.type in ("html_inline", "html_block"):
            found |= {value for name, value in _Attributes(token.content).found if name in ("id", "name")}
    return found


def flaws(document: Path, root: Path) -> list[str]:
    """The links of a document that lead nowhere within the tree, each with the reason; other sites are not asked."""
    found = []
    for link in links(document):
        target = urlsplit(link)
        if target.scheme in ("http", "https", "mailto"):
            continue
        if target.scheme or target.netloc or target.path.startswith("/"):
            found.append(f"{link} is neither a relative link nor one to a site")
            continue
        place = Path(os.path.normpath(document.parent / unquote(target.path))) if target.path else document
        if not place.is_relative_to(root):
            found.append(f"{link} leads out of the project")
        elif not place.exists():
            found.append(f"{link} does not exist")
        elif target.fragment and place.suffix == ".md" and unquote(target.fragment) not in anchors(place):
            found.append(f"{link} names a heading that is not there")
    return found


@pytest.mark.parametrize("document", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_link_is_dead(document: Path) -> None:
    found = flaws(document, ROOT)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("text", "flaw"),
    [
        ("[gone](gone.md)", "gone.md does not exist"),
        ("![gone](gone.svg)", "gone.svg does not exist"),
        ("[gone][1]\n\n[1]: gone.md", "gone.md does not exist"),
        ('<img src="gone.png">', "gone.png does not exist"),
        ("| a |\n| - |\n| [gone](gone.md) |", "gone.md does not exist"),
        ("[up](../README.md)", "../README.md leads out of the project"),
        ("[here](#elsewhere)", "#elsewhere names a heading that is not there"),
        ("[there](other.md#elsewhere)", "other.md#elsewhere names a heading that is not there"),
        ("[root](/README.md)", "/README.md is neither a relative link nor one to a site"),
    ],
)
def test_a_dead_link_is_found(tmp_path: Path, text: str, flaw: str) -> None:
    (tmp_path / "other.md").write_text("# The other one\n", encoding="utf-8")
    document = tmp_path / "this.md"
    document.write_text(text, encoding="utf-8")
    assert flaws(document, tmp_path) == [flaw]


def test_a_good_link_is_let_be(tmp_path: Path) -> None:
    (tmp_path / "other one.md").write_text("# `licensing serve`, and why\n\n## Twice\n\n## Twice\n", encoding="utf-8")
    document = tmp_path / "this.md"
    document.write_text(
        "# Here\n\n[a](other%20one.md#licensing-serve-and-why) [b](other%20one.md#twice-1) [c](#here) [d](.)\n"
        "[e](https://example.com/gone) `[f](gone.md)`\n\n```\n[g](gone.md)\n```\n",
        encoding="utf-8",
    )
    assert flaws(document, tmp_path) == []


def test_the_architecture_names_what_is_in_the_code() -> None:
    """Its flows are followed by these names: a module, a class, a function or method, or a field."""
    modules = [ROOT / "function_app.py", *(ROOT / "licensing").rglob("*.py")]
    defined = {path.stem for path in modules} | {path.name for path in (ROOT / "licensing").iterdir() if path.is_dir()}
    for path in modules:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                defined.add(node.name)
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                defined.add(node.target.id)
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w./]+)`", text))
    assert len(named) > 50
    for name in named:
        if "/" in name or name.endswith(".py"):
            assert (ROOT / name).exists() or (ROOT / "licensing" / name).exists(), name
        else:
            assert set(name.split(".")) <= defined, name


def test_every_decision_is_in_the_index() -> None:
    records = sorted(path.name for path in (ROOT / "docs" / "adr").glob("[0-9]*.md"))
    assert len({name[:4] for name in records}) == len(records), "two records have one number"
    assert links(ROOT / "docs" / "adr" / "README.md") == records


def test_the_azurite_that_contributing_starts_is_there() -> None:
    """Its command with one more option: it prints its version and opens no port."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    (line,) = (line for line in text.splitlines() if "azurite.js" in line)
    python, *words = shlex.split(line)
    assert python == "python"
    command = [sys.executable, *words, "--version"]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    wanted = json.loads((ROOT / "package.json").read_text(encoding="utf-8"))["devDependencies"]["azurite"]
    assert said.stdout.strip() == wanted
