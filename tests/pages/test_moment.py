"""What the page says of this moment: the status line of each license, its renewal, and how many seats would do."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any

from playwright.async_api import Browser, Page, expect

from licensing.api.pages.usage import usage_report
from licensing.rules.report import BusyHour
from tests.pages import sample
from tests.pages.conftest import OVERLAPS, Service, assert_quiet, opened, visit

NEED = ["Fluidit Heat & Cooling", "Fluidit Viewer", "Fluidit Water", "Fluidit Storm", "Fluidit Sewer"]
"""The suspended one and the one that has ended come first; the others all ran short, and stay in their order."""
STATUS = {
    "Fluidit Heat & Cooling": ["Suspended: no program can start", "Valid until 30 Jun 2027"],
    "Fluidit Viewer": ["Ended: was valid until 20 Nov 2026", "0 of 3 seats in use"],
    "Fluidit Water": ["4 of 5 seats in use", "Valid until 30 Jun 2027"],
    "Fluidit Storm": [
        "13 seats in use, 12 bought",
        "2 are waiting",
        "Valid until 5 Dec 2026",
        "Ends in 12 days",
    ],
    "Fluidit Sewer": ["No seat is free", "Valid until 30 Jun 2027"],
}
HIDE = """(hidden) => {
  Object.defineProperty(document, 'hidden', {get: () => hidden, configurable: true});
  document.dispatchEvent(new Event('visibilitychange'));
}"""


def status(page: Page, product: str) -> Any:
    return page.get_by_role("region", name=product, exact=True).locator(".status")


async def test_on_top_of_each_license_stands_what_its_administrator_would_ask_and_need_comes_first(
    shown: Page,
) -> None:
    assert await shown.locator(".license h2").all_text_contents() == NEED
    for product, said in STATUS.items():
        assert await status(shown, product).locator("li").all_text_contents() == said
    # A seat that is free is no good news where no program can start.
    assert await status(shown, "Fluidit Viewer").locator("[data-tone=good]").count() == 0
    assert await status(shown, "Fluidit Water").locator("[data-tone=good]").count() == 1
    asof = shown.locator(".status p:visible")
    assert await asof.all_text_contents() == ["as of 04:00"] * 4
    await expect(shown.locator("#link-until")).to_have_text(
        "This link works until 15 Jan 2027, 14:00 (Europe/Helsinki)"
    )
    cards = await shown.locator("#overview li").all_inner_texts()
    assert [re.split(r"\n+", card)[0] for card in cards] == NEED
    assert "Suspended" in cards[0]
    assert "Ended" in cards[1]
    assert "Ends in 12 days" in cards[3]
    # A warning has a sign beside its colour.
    signs = await shown.locator("[data-tone=warn], [data-tone=bad]").evaluate_all(
        "nodes => nodes.map(node => getComputedStyle(node, '::before').content)"
    )
    assert signs
    assert all(len(sign.strip('" ')) == 1 for sign in signs)


async def test_the_page_says_of_which_days_its_cards_are_and_that_bars_are_seats_taken(shown: Page) -> None:
    section = shown.get_by_role("region", name="Fluidit Water", exact=True)
    titles = await section.locator("h3").all_text_contents()
    assert titles == [
        "35 days, 19 Oct 2026 to 22 Nov 2026",
        "Most seats taken at once, by day",
        "How many seats would do",
        "Busy hours",
        "By month, Oct 2026",
    ]
    await expect(shown.locator("#people h2")).to_have_text("People per month, Oct 2026, all licenses together")
    legend = section.locator(".peaks .legend span").first
    await expect(legend).to_have_text("seats taken")
    swatch = await legend.locator("i").evaluate("i => getComputedStyle(i).backgroundColor")
    bar = await section.locator(".peaks .bar:not(.full)").first.evaluate("bar => getComputedStyle(bar).fill")
    assert swatch == bar


async def test_the_chart_and_the_table_tell_for_each_number_of_seats_how_often_it_is_too_small(shown: Page) -> None:
    section = shown.get_by_role("region", name="Fluidit Water", exact=True).locator(".sizing")
    sizing = sample.LIVE["acme-water"]["sizing"]
    await expect(section).to_contain_text(sizing.sentence)
    await expect(section).to_contain_text("23 Nov 2025 to 22 Nov 2026, 2,310 hours with use")
    shares = [point.hours / sizing.hours for point in sizing.curve]
    heights = await section.locator("svg > g").evaluate_all(
        "groups => groups.map(each => each.querySelector('.bar')?.height.baseVal.value ?? 0)"
    )
    assert [round(height / heights[0], 2) for height in heights] == [round(share / shares[0], 2) for share in shares]
    present = section.locator("g:has(.present) title")
    await expect(present).to_have_text("5 seats: too few in 145 of 2,310 hours (6.3%)")
    rows = await section.locator("tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(c => c.textContent))"
    )
    assert rows[0] == ["3", "578", "25%", "12"]
    assert rows[-1] == ["7", "0", "0%", "0"]
    assert await shown.locator(".sizing").count() == 2  # the others have nothing to tell


async def test_what_stands_now_is_renewed_while_somebody_looks_and_never_wiped(
    browser: Browser, service: Service
) -> None:
    async with opened(browser) as (page, seen):
        await page.clock.install(time=sample.AS_OF)
        await visit(page, service)
        said = await page.get_by_role("status").text_content()
        water, storm = status(page, "Fluidit Water"), status(page, "Fluidit Storm")
        assert service.renewals == 0

        later = {"as_of": sample.AS_OF + timedelta(minutes=7)}
        service.live["acme-water"]["now"] = sample.now(5, 5, free=False, waiting=1).model_copy(update=later)
        await page.clock.fast_forward(29_000)
        await page.clock.fast_forward(1_000)
        await expect(water).to_contain_text("5 of 5 seats in use")
        await expect(water).to_contain_text("1 is waiting")
        await expect(water).to_contain_text("as of 04:07")
        assert service.renewals == 1

        service.status = 503
        await page.clock.fast_forward(30_000)
        await expect(water).to_contain_text("as of 04:07, could not be renewed since")
        await expect(water).to_contain_text("5 of 5 seats in use")
        await expect(storm).to_contain_text("as of 04:00, could not be renewed since")
        service.status = 200
        await page.clock.fast_forward(30_000)
        await expect(page.locator("[data-stale]")).to_have_count(0)
        assert service.renewals == 3

        await page.evaluate(HIDE, True)
        await page.clock.fast_forward(20_000)
        await page.evaluate(HIDE, False)
        await page.evaluate(HIDE, True)
        await page.clock.fast_forward(60_000)
        assert service.renewals == 3
        service.live["acme-water"]["now"] = sample.now(2, 5)
        await page.evaluate(HIDE, False)
        await expect(water).to_contain_text("2 of 5 seats in use")
        assert service.renewals == 4

        # A clock that was set back makes nobody wait longer.
        await page.evaluate(HIDE, True)
        await page.clock.set_system_time(sample.AS_OF - timedelta(hours=2))
        service.live["acme-water"]["now"] = sample.now(3, 5)
        await page.evaluate(HIDE, False)
        await page.clock.fast_forward(30_000)
        await expect(water).to_contain_text("3 of 5 seats in use")
        await expect(page.locator("[data-stale]")).to_have_count(0)
        assert service.renewals == 5

        # A computer that slept shows of which day the figures are.
        await page.clock.set_system_time(sample.AS_OF + timedelta(days=1))
        service.status = 503
        await page.clock.fast_forward(30_000)
        await expect(water).to_contain_text("as of 23 Nov 2026, 04:00, could not be renewed since")

        assert await page.get_by_role("status").text_content() == said  # nothing was announced meanwhile
        service.status = 401
        await page.clock.fast_forward(30_000)
        await expect(page.get_by_role("status")).to_contain_text("This link no longer works")
        await expect(water).to_contain_text("3 of 5 seats in use")
        await page.clock.fast_forward(300_000)
        await page.evaluate(HIDE, False)
        assert service.renewals == 7
        assert [text for text in seen.complaints if "Failed to load resource" not in text] == []


async def test_licenses_alike_have_names_of_their_own_and_a_busy_map_of_little_use_has_its_own_range(
    browser: Browser, service: Service
) -> None:
    water = service.report.licenses[0]
    monday = (None,) * 9 + (BusyHour(mean=24.0, most=25), BusyHour(mean=0.08, most=1)) + (None,) * 13
    week = (monday, *((None,) * 24,) * 6)
    days = tuple(day.model_copy(update={"seats": 225}) for day in water.days)
    large = water.model_copy(update={"seats": 225, "days": days, "busy": week})
    service.report = service.report.model_copy(update={"licenses": (large, water.model_copy(update={"id": "acme-w2"}))})
    service.live["acme-water"]["sizing"] = sample.sizing(200, 3200)
    service.live["acme-w2"] = sample.LIVE["acme-viewer"] | {"ended": False, "ends_in_days": 0}
    async with opened(browser, reduced_motion="reduce") as (page, seen):
        await visit(page, service)
        assert await page.locator("#overview a span:first-child").all_text_contents() == [
            "Fluidit Water acme-water",
            "Fluidit Water acme-w2",
        ]
        section = page.get_by_role("region", name="Fluidit Water acme-water", exact=True)
        await expect(section.locator(".busy .legend")).to_contain_text("none to 24, the greatest average")
        levels = await section.locator(".heat td[data-level]").evaluate_all("cells => cells.map(c => c.dataset.level)")
        assert levels == ["5", "1"]
        await expect(status(page, "Fluidit Water acme-w2")).to_contain_text("Ends within 24 hours")
        # A chart of thousands of seats has as many bars as it has room for, and that of now.
        assert 200 < await section.locator(".sizing svg > g").count() < 600
        await expect(section.locator(".sizing g:has(.present) title")).to_have_text(re.compile("^225 seats: "))
        assert await section.locator(".sizing tbody tr").count() == 3001
        assert await page.evaluate(OVERLAPS) == []
        await section.get_by_role("link", name="Back to the top").click()
        assert await page.evaluate("scrollY") == 0
        assert_quiet(seen, service)


async def test_the_file_shows_how_many_seats_would_do_and_renews_nothing(browser: Browser, tmp_path: Path) -> None:
    live = {name: {**known, "now": None} for name, known in sample.LIVE.items()}
    report = sample.with_live(sample.report(days=7), live).model_copy(update={"link_until": None})
    file = tmp_path / "usage.html"
    file.write_text(usage_report(report), "utf-8")
    async with opened(browser) as (page, seen):
        await page.clock.install()
        await page.goto(file.as_uri())
        await expect(page.locator(".sizing svg")).to_have_count(2)
        await expect(status(page, "Fluidit Water")).to_contain_text("Valid until 30 Jun 2027")
        notes = page.locator("#notes")
        await expect(notes).to_contain_text("These are totals.")
        for of_a_link in ("every 30 seconds", "CSV"):
            await expect(notes).not_to_contain_text(of_a_link)
        await page.clock.fast_forward(120_000)
        assert [url for url in seen.requests if not url.startswith(("file:", "data:"))] == []
        assert seen.complaints == []
