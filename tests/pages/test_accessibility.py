"""The page for everybody, and on every screen: axe-core, phones, the dark, and the keyboard."""

from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.async_api import Browser, Page, expect

from licensing.api.pages.usage import usage_report
from tests.pages import sample
from tests.pages.conftest import Service, opened, visit

AXE: Final = Path(__file__).parents[2] / "node_modules" / "axe-core" / "axe.min.js"
OPEN_ALL: Final = "document.querySelectorAll('details').forEach((details) => details.open = true)"
VIOLATIONS: Final = """axe.run(document, {resultTypes: ['violations'], preload: false}).then((found) =>
  found.violations.flatMap(({id, nodes}) => nodes.map((node) => `${id}: ${node.html} ${node.failureSummary}`)))"""
CUT: Final = """[...document.querySelectorAll('.scroll, .plot, .status, .tiles, figcaption, td, th, dd, button')]
  .filter((node) => node.scrollWidth > node.clientWidth + 1 && node.clientWidth && !node.closest('.hidden, .heat'))
  .map((node) => node.outerHTML.slice(0, 120))"""
OUTSIDE: Final = """[...document.querySelectorAll('.plot text')]
  .filter((text) => text.getBoundingClientRect().left < 0 || text.getBoundingClientRect().right > innerWidth)
  .map((text) => text.textContent)"""
HEAT: Final = """() => {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const luminance = (color) => {
    context.fillStyle = color;
    context.fillRect(0, 0, 1, 1);
    return [...context.getImageData(0, 0, 1, 1).data].slice(0, 3)
      .map((c) => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
      .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  };
  const heat = document.querySelector('.heat');
  const cell = heat.querySelector('td[data-level]');
  const steps = [0, 1, 2, 3, 4, 5].map((level) => {
    cell.dataset.level = level;
    return luminance(getComputedStyle(cell).backgroundColor);
  });
  return [luminance(getComputedStyle(heat.closest('.card')).backgroundColor), ...steps];
}"""


async def violations(page: Page) -> list[str]:
    """What axe-core finds, with all that can be opened open."""
    await page.evaluate(OPEN_ALL)
    await page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[str] = await page.evaluate(VIOLATIONS)
    return found


@pytest.mark.parametrize(
    ("width", "options"),
    [(1280, {}), (1280, {"color_scheme": "dark"}), (360, {"locale": "de-DE"})],
    ids=["light", "dark", "narrow"],
)
async def test_axe_finds_no_violation(browser: Browser, service: Service, width: int, options: dict[str, Any]) -> None:
    service.report = sample.report(days=7)
    async with opened(browser, width, reduced_motion="reduce", **options) as (page, _):
        await visit(page, service)
        assert await violations(page) == []


async def test_axe_finds_no_violation_in_what_the_page_says_without_a_link(browser: Browser, service: Service) -> None:
    async with opened(browser) as (page, _):
        await page.goto(service.url)
        await expect(page.get_by_role("status")).to_contain_text("Open the whole link")
        assert await violations(page) == []


@pytest.mark.parametrize("locale", ["en-GB", "de-DE", "fi-FI"])
async def test_nothing_is_cut_off_on_the_narrowest_phone(browser: Browser, service: Service, locale: str) -> None:
    """All columns of all tables, every legend and every label of a chart, and names of one long word."""
    report = sample.report(days=90, organization="Ö" * 200)
    licenses = tuple(license.model_copy(update={"product": "Ä" * 200}) for license in report.licenses)
    service.report = report.model_copy(update={"licenses": licenses})
    async with opened(browser, 360, locale=locale) as (page, _):
        await visit(page, service)
        await page.evaluate(OPEN_ALL)
        assert await page.evaluate("document.documentElement.scrollWidth") == 360
        assert await page.evaluate(CUT) == []
        assert await page.evaluate(OUTSIDE) == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_the_steps_of_the_heat_map_differ(browser: Browser, tmp_path: Path, scheme: str) -> None:
    """The lowest ones, too: each differs from the one before and the first from the card, by 1.15 to 1."""
    file = tmp_path / "usage.html"
    file.write_text(usage_report(sample.report(days=35)), "utf-8")
    async with opened(browser, color_scheme=scheme) as (page, _):
        await page.goto(file.as_uri())
        steps = await page.evaluate(HEAT)
    contrasts = [(max(pair) + 0.05) / (min(pair) + 0.05) for pair in pairwise(steps)]
    assert [round(contrast, 2) for contrast in contrasts if contrast < 1.15] == []
