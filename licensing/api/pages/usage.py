"""The customer's usage page, put together from `usage.html`, its style sheet and its script.

Its Content-Security-Policy allows these two by their hashes and nothing else. Nothing comes from any other site.
"""

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import NamedTuple

from licensing.rules.report import Report, to_json

CHARSET = '<meta charset="utf-8">'
STYLE_LINK = '<link rel="stylesheet" href="usage.css">'
SCRIPT_LINK = '<script type="module" src="usage.js"></script>'


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
    # In JSON, `<` only occurs in strings. Escaped, nothing in a report can end the element.
    data = to_json(report).replace("<", "\\u003c")
    html = _put(html, CHARSET, f'{CHARSET}\n<meta http-equiv="Content-Security-Policy" content="{policy}">')
    return _put(html, "</body>", f'<script type="application/json" id="data">{data}</script>\n</body>')


def _assembled() -> tuple[str, str]:
    html, style, script = (_source(f"usage.{kind}") for kind in ("html", "css", "js"))
    html = _put(html, STYLE_LINK, f"<style>{style}</style>")
    html = _put(html, SCRIPT_LINK, f'<script type="module">{script}</script>')
    policy = (
        f"default-src 'none'; script-src {_hash(script)}; style-src {_hash(style)}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )
    return html, policy


def _source(name: str) -> str:
    return (files(__package__) / name).read_text("utf-8")


def _put(html: str, place: str, what: str) -> str:
    before, found, after = html.partition(place)
    if not found:
        raise ValueError(f"usage.html has no {place}")
    return before + what + after


def _hash(source: str) -> str:
    return f"'sha256-{b64encode(sha256(source.encode()).digest()).decode()}'"
