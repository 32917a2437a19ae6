"""One language: no retired word comes back as a name, and the glossary has the words that are used.

Names are those of modules, classes, functions, arguments, attributes and variables, in parts: `fault_proxy` has two.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

import pytest

ROOT: Final = Path(__file__).parents[1]
PLACES: Final = ("licensing", "client/src", "function_app.py", "benchmarks", "tests")

RETIRED: Final = {
    "arrival": "started",
    "arrivals": "started",
    "beat": "heartbeat",
    "beats": "heartbeats",
    "custody": "secret store",
    "depart": "end",
    "departure": "ended session",
    "departures": "ended",
    "desk": "writer; in tests: factories",
    "disown": "invalidate",
    "door": "pipeline access",
    "fault": "error",
    "faults": "errors",
    "figure": "number, total",
    "figured": "aggregate, final",
    "figures": "totals",
    "group": "batch",
    "groups": "batches",
    "guard": "middleware",
    "head": "license state",
    "heads": "license states",
    "lane": "batch queue",
    "makers": "factories",
    "mischief": "fault proxy",
    "patience": "retry, timeout",
    "patient": "waiting",
    "patiently": "with retries",
    "reckon": "aggregate",
    "reckoned": "aggregated",
    "reckoner": "reference",
    "reckons": "aggregates",
    "registers": "register rows",
    "remembered": "cached",
    "remembers": "caches",
    "retain": "retention",
    "retained": "retention result",
    "revival": "renewal",
    "revivals": "renewed",
    "settle": "decide",
    "settled": "decision",
    "storefront": "fault proxy",
    "told": "answered, reported",
    "turn": "plan, round",
    "turns": "plans, rounds",
    "unwatched": "no progress",
    "wire": "schemas",
    "world": "simulation",
}
"""What was said once, and what is said instead."""

RETIRED_NAMES: Final = {
    "CannotStart": "StartError",
    "Conflict": "ConflictError",
    "Implausible": "ImplausibleError",
    "Known": "Versioned, LicenseTotals",
    "StillOpen": "OpenSessions",
    "Unavailable": "UnavailableError",
    "Wanted": "PersonQuery",
    "still_open": "open_sessions",
}
"""Whole names whose parts are words of the field."""


class Allowed(NamedTuple):
    """A name, as a pattern, that may be used below a folder."""

    place: str
    name: str
    reason: str


ALLOWED: Final = (
    Allowed(
        "", r"LICENSING_SMALL_GROUP|_?small_group|SMALL_GROUP|test_\w*small_groups?_\w+", "a small group of people"
    ),
    Allowed("", r"TaskGroup|ExceptionGroup|groups|CREATE_NEW_PROCESS_GROUP", "names of the standard library"),
    Allowed("tests/infra/", r"SECURITY_GROUP|group", "Azure's network security groups"),
    Allowed("tests/", r"\w*([Ff]ault|FAULT)\w*", "in tests a fault is planted, or injected by the fault proxy"),
    Allowed("tests/test_words.py", r".*", "lists the words"),
    Allowed("client/src/licensing_client/__init__.py", r"Fault", "the public name of a version before, for callers"),
)


def named(tree: ast.AST) -> Iterator[str]:
    """All names in a module."""
    for node in ast.walk(tree):
        match node:
            case ast.ClassDef() | ast.FunctionDef() | ast.AsyncFunctionDef():
                yield node.name
            case ast.Name():
                yield node.id
            case ast.Attribute():
                yield node.attr
            case ast.arg():
                yield node.arg
            case ast.keyword(arg=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name
            case ast.ExceptHandler(name=str(name)):
                yield name
            case ast.alias():
                yield node.asname or node.name.rpartition(".")[2]


def parts(name: str) -> list[str]:
    """The words of a name, split at underscores and within CamelCase."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]


@cache
def names() -> list[tuple[str, str]]:
    """Every name with the file that it stands in."""
    found = []
    for place in PLACES:
        path = ROOT / place
        modules = [path] if path.is_file() else sorted(path.rglob("*.py"))
        assert modules
        for module in modules:
            file = module.relative_to(ROOT).as_posix()
            tree = ast.parse(module.read_text(encoding="utf-8"))
            found += [(file, name) for name in {*named(tree), *Path(file).with_suffix("").parts}]
    return found


def may_be(file: str, name: str) -> bool:
    """Whether an exception allows a name."""
    return any(file.startswith(each.place) and re.fullmatch(each.name, name) for each in ALLOWED)


@pytest.mark.parametrize("word", RETIRED)
def test_no_retired_word_is_part_of_a_name(word: str) -> None:
    used = [(file, name) for file, name in names() if word in parts(name) and not may_be(file, name)]
    assert not used, f"{word} is retired; say {RETIRED[word]}"


@pytest.mark.parametrize("word", RETIRED_NAMES)
def test_no_retired_name_comes_back(word: str) -> None:
    used = [file for file, name in names() if name == word and not may_be(file, name)]
    assert not used, f"{word} is retired; say {RETIRED_NAMES[word]}"


def test_a_retired_word_is_found_in_any_kind_of_name() -> None:
    code = "import a.lane as b\nclass BeatQueue: ...\ndef settle(door): x.told = [turn for turn in y]\nf(head=1)"
    found = {part for name in named(ast.parse(code)) for part in parts(name)}
    assert {"beat", "settle", "door", "told", "turn", "head"} <= found & RETIRED.keys()


def test_the_glossary_has_twenty_five_words_and_no_retired_one() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8").partition("\n## Glossary\n")[2]
    words = re.findall(r"^- \*\*([a-z ]+)\*\*: \S", text, re.MULTILINE)
    assert len(words) == len(set(words)) == 25
    assert words == sorted(words)
    assert not {part for word in words for part in word.split()} & RETIRED.keys()
