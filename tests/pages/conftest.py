"""A real headless Chromium, and a local server that sends the page with its real policy."""

import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.async_api import Browser, Page, async_playwright, expect

from licensing.api.pages.usage import usage_page
from licensing.rules.report import Now, Report, to_csv, to_json
from tests.pages import sample

TOKEN = f"eyJ0eXAiOiJyZXBvcnQrand0In0.eyJzdWIiOiJhY21lIn0.{'c2lnbmF0dXJl' * 7}_-"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

UNTIL_DRAWN = """new Promise((done) => {
  const look = () => document.getElementById("licenses").ariaBusy ? setTimeout(look, 10) : done();
  look();
})"""

OVERLAPS = """() => {
  const texts = [...document.querySelectorAll('.plot text')];
  const boxes = texts.map((text) => [text.textContent, text.getBoundingClientRect()]);
  const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  return boxes.flatMap(([text, box], place) =>
    boxes.slice(place + 1).filter(([, other]) => meet(box, other)).map(([other]) => `${text} / ${other}`));
}"""
"""The labels of charts that lie upon one another."""

expect.set_options(timeout=30_000)  # a machine may be busy; what is not so by then is not so


@dataclass
class Service:
    """What the page is served: a report to those who bear the token, unless `status` says otherwise."""

    report: Report
    status: int = 200
    url: str = ""
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    live: dict[str, dict[str, Any]] = field(default_factory=lambda: deepcopy(sample.LIVE))
    renewals: int = 0

    def answer(self, path: str, authorization: str | None) -> tuple[int, dict[str, str], str]:
        asked = urlsplit(path)
        if asked.path == "/api/usage":
            page = usage_page()
            return (
                200,
                {"Content-Type": "text/html; charset=utf-8", "Content-Security-Policy": page.csp},
                page.html,
            )
        if asked.path == "/api/usage/now":
            return self.now(authorization)
        if asked.path != "/api/usage/data":
            return 404, {"Content-Type": "application/problem+json"}, "{}"
        self.asked.append(query := parse_qs(asked.query))
        status = self.status if authorization == f"Bearer {TOKEN}" else 401
        if status != 200:
            problem = {"status": status, "detail": "`from` lies after `to`."}
            return status, {"Content-Type": "application/problem+json"}, json.dumps(problem)
        if query["format"] == ["csv"]:
            return 200, {"Content-Type": "text/csv; charset=utf-8"}, to_csv(self.report)
        return 200, {"Content-Type": "application/json"}, to_json(sample.with_live(self.report, self.live))

    def now(self, authorization: str | None) -> tuple[int, dict[str, str], str]:
        """What stands now, to those who bear the token."""
        self.renewals += 1
        status = self.status if authorization == f"Bearer {TOKEN}" else 401
        found: dict[str, Now | None] = {license.id: self.live[license.id]["now"] for license in self.report.licenses}
        licenses = [{"id": name, "now": now and now.model_dump(mode="json")} for name, now in found.items()]
        return status, {"Content-Type": "application/json"}, json.dumps({"licenses": licenses})


@contextmanager
def served() -> Iterator[Service]:
    """The sample, served on a free port."""
    serving = Service(sample.report(days=35))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, headers, body = serving.answer(self.path, self.headers.get("Authorization"))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Silence: the tests say what went wrong."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    serving.url = f"http://127.0.0.1:{server.server_port}/api/usage"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield serving
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def service() -> Iterator[Service]:
    with served() as serving:
        yield serving


@pytest.fixture(scope="session")
async def shown(browser: Browser) -> AsyncIterator[Page]:
    """The sample on an open page, for tests that only look at it."""
    with served() as serving:
        async with opened(browser) as (page, _):
            await visit(page, serving)
            yield page


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip("NO CHROMIUM HERE: THE USAGE PAGE IS NOT TESTED. Install Debian's package `chromium`.")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        await browser.close()


@dataclass
class Seen:
    """What a page did behind its face."""

    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@asynccontextmanager
async def opened(browser: Browser, width: int = 1280, **options: object) -> AsyncIterator[tuple[Page, Seen]]:
    """A fresh page, and what its console says and what it requests."""
    context = await browser.new_context(viewport={"width": width, "height": 800}, **options)  # type: ignore[arg-type]
    page = await context.new_page()
    seen = Seen()
    page.on("console", lambda message: seen.complaints.append(message.text))
    page.on("pageerror", lambda error: seen.complaints.append(str(error)))
    page.on("request", lambda request: seen.requests.append(request.url))
    try:
        yield page, seen
    finally:
        await context.close()


async def visit(page: Page, service: Service, token: str = TOKEN) -> None:
    """Open the customer's link, and wait for the totals."""
    await page.goto(f"{service.url}#{token}")
    await expect(page.locator("h1")).to_have_text(service.report.organization.name)
    await page.evaluate(UNTIL_DRAWN)


def assert_quiet(seen: Seen, service: Service) -> None:
    """Nothing went wrong, and nobody but the service was asked for anything (`data:` is inside the page)."""
    assert seen.complaints == []
    origin = service.url.removesuffix("/api/usage")
    assert [url for url in seen.requests if not url.startswith((origin, "data:", "blob:" + origin))] == []
