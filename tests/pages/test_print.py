"""The page on paper: whose it is and which page, an overview, and charts that can be read."""

from playwright.async_api import Browser

from tests.pages import sample
from tests.pages.conftest import Service, opened, visit
from tests.pages.pdf import page_texts

PAPER_WIDTH = 680
"""What is left of A4 between its margins, in CSS pixels."""
WIDTHS = "[...document.querySelectorAll('.plot svg')].map(svg => svg.viewBox.baseVal.width)"
MAY_BE_CUT = """[...document.querySelectorAll(
    'figure, .plot, .heat, .tiles, .verdict, .status, .license:not(:has(figure))')]
  .filter((node) => getComputedStyle(node).breakInside !== 'avoid').length"""


async def test_each_page_on_paper_names_the_customer_and_its_number_and_the_first_has_the_overview(
    browser: Browser, service: Service
) -> None:
    customer = 'Acme "Water" \\ Oy }'
    service.report = sample.report(days=90, organization=customer)
    async with opened(browser) as (page, _):
        await visit(page, service)
        printed = page_texts(await page.pdf(format="A4", prefer_css_page_size=True))
    assert len(printed) > 3
    for number, text in enumerate(printed, start=1):
        assert text.startswith(customer)
        assert f"{number} / {len(printed)}" in text
    for license in service.report.licenses:
        assert license.product in printed[0]
        assert license.verdict.headline in printed[0]
    assert "Ends in 12 days" in printed[0]
    assert "Back to the top" not in "".join(printed)


async def test_charts_are_drawn_for_paper_also_those_out_of_sight_and_then_for_the_screen_again(
    browser: Browser, service: Service
) -> None:
    """Letters of 12 pixels are 9 points there; scaled down from a screen they were 6."""
    async with opened(browser, 1600) as (page, _):
        await visit(page, service)
        charts = sum(len(license.days) > 0 for license in service.report.licenses[:4]) + 2
        on_screen = await page.evaluate(WIDTHS)
        assert len(on_screen) == charts
        assert min(on_screen) > PAPER_WIDTH
        await page.evaluate("dispatchEvent(new Event('beforeprint'))")
        on_paper = await page.evaluate(WIDTHS)
        assert len(on_paper) == charts
        assert max(on_paper) <= PAPER_WIDTH
        await page.emulate_media(media="print")
        assert await page.evaluate(MAY_BE_CUT) == 0
        await page.emulate_media(media="screen")
        await page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert await page.evaluate(WIDTHS) == on_screen


async def test_what_was_not_drawn_yet_is_on_paper_all_the_same(browser: Browser, service: Service) -> None:
    async with opened(browser) as (page, _):
        # The print is asked for in the very task in which the report is shown.
        await page.add_init_script(
            "new MutationObserver((_, observer) => {"
            "  if (!document.querySelector('.license')) return;"
            "  observer.disconnect();"
            "  dispatchEvent(new Event('beforeprint'));"
            f"  window.drawn = {WIDTHS}.length;"
            "}).observe(document, {childList: true, subtree: true})"
        )
        await visit(page, service)
        assert await page.evaluate("window.drawn") == 6
