"""The customer's usage page, put together from `usage.html`, its style sheet, its scripts and the catalogue's texts.

Its Content-Security-Policy allows the style sheet and the script by their hashes and nothing else. Nothing comes from
any other site. Texts and reports are JSON within the page, which runs nowhere, so that no hash is needed.
"""

import json
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final, NamedTuple

from licensing.rules.catalogue import text, texts
from licensing.rules.report import Report, to_json

CHARSET: Final = '<meta charset="utf-8">'
TITLE: Final = "<title></title>"
STYLE_LINK: Final = '<link rel="stylesheet" href="usage.css">'
SCRIPT_LINK: Final = '<script type="module" src="usage.js"></script>'
SCRIPTS: Final = ("texts", "charts", "busy", "report", "usage")
"""In this order they are one module: modules within a page cannot import one another. The last one starts."""


class Page(NamedTuple):
    """A page, and the Content-Security-Policy to send with it."""

    html: str
    csp: str


@cache
def usage_page() -> Page:
    """The live page: its script reads the report from `usage/data`, beside the page."""
    html, policy = _assembled()
    return Page(html, f"{policy}; connect-src 'self'; frame-ancestors 'none'")


def usage_report(report: Report) -> str:
    """The page with a report inside, for a file: it connects to nothing, and holds its own policy."""
    html, policy = _assembled()
    html = _put(html, CHARSET, f'{CHARSET}\n<meta http-equiv="Content-Security-Policy" content="{policy}">')
    return _put(html, "</body>", f"{_data('data', to_json(report))}\n</body>")


def _assembled() -> tuple[str, str]:
    html, style = _source("usage.html"), _source("usage.css")
    script = "\n".join(_source(f"{name}.js") for name in SCRIPTS)
    # The script puts the reader's language in its place.
    html = _put(html, TITLE, f"<title>{text('page.title', 'en')}</title>")
    html = _put(html, STYLE_LINK, f"<style>{style}</style>")
    html = _put(html, SCRIPT_LINK, f'{_data("texts", _page_texts())}\n<script type="module">{script}</script>')
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return html, policy


def _page_texts() -> str:
    return json.dumps(texts("page"), ensure_ascii=False, separators=(",", ":"))


def _data(name: str, json_text: str) -> str:
    """JSON as an element. In JSON, `<` only occurs in strings; escaped, nothing in it can end the element."""
    escaped = json_text.replace("<", "\\u003c")
    return f'<script type="application/json" id="{name}">{escaped}</script>'


def _source(name: str) -> str:
    return (files(__package__) / name).read_text("utf-8")


def _put(html: str, place: str, what: str) -> str:
    before, found, after = html.partition(place)
    if not found:
        raise ValueError(f"usage.html has no {place}")
    return before + what + after


def _hash(source: str) -> str:
    return f"'sha256-{b64encode(sha256(source.encode()).digest()).decode()}'"
