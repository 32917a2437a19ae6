"""The usage page, live and as a file, in a real Chromium under its real Content-Security-Policy."""

import asyncio
import csv
import json
import math
import os
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, Locator, Page, Route, expect

from licensing.api.pages.usage import usage_page, usage_report
from licensing.rules.report import to_json
from tests.pages import sample
from tests.pages.conftest import TOKEN, Service, assert_quiet, opened, visit

REPORT = sample.report(days=35)
SIZES = [pytest.param(360, id="phone"), pytest.param(1280, id="desktop")]


async def test_the_customer_reads_whether_the_seats_suffice(browser: Browser, service: Service) -> None:
    async with opened(browser) as (page, seen):
        await visit(page, service)
        for license in service.report.licenses:
            section = page.get_by_role("region", name=license.product, exact=True)
            await expect(section.locator(".verdict")).to_contain_text(license.verdict.sentence)
        assert_quiet(seen, service)


async def test_every_day_and_month_is_on_the_page_as_it_was_aggregated(shown: Page) -> None:
    license = REPORT.licenses[0]
    section = shown.get_by_role("region", name=license.product, exact=True)
    rows = await section.locator(".peaks details tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert len(rows) == len(license.days)
    for row, day in zip(reversed(rows), license.days, strict=True):
        at = day.peak_at.astimezone(sample.ZONE).strftime("%H:%M") if day.peak_at else "–"
        assert row[1:3] == [str(day.peak), at]
        if day.seat_seconds is None:
            assert row[3:6] == ["under 3fewer than 3 people", "–", "–"]  # for the eye, and for the ear
        else:
            assert row[3:5] == [str(day.users), str(day.sessions)]
            assert float(row[5].replace(",", "")) == pytest.approx(day.seat_seconds / 3600, abs=0.51)
        assert row[6:] == [str(day.denials), str(day.waits)]
    months = await section.locator(".months tbody tr").evaluate_all(
        "rows => rows.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert [month[1:3] for month in months] == [
        [str(m.users), "–" if m.sessions is None else str(m.sessions)] for m in license.months
    ]


async def test_the_picture_shows_each_days_peak_against_the_seats(shown: Page) -> None:
    license = REPORT.licenses[0]
    plot = shown.get_by_role("region", name=license.product, exact=True).locator(".peaks .plot")
    bottom = await plot.locator("rect.hit").first.evaluate("hit => hit.y.baseVal.value + hit.height.baseVal.value")
    (line,) = {y for _, y in await seats_line(plot)}
    heights = await plot.locator("svg > g").evaluate_all(
        "bars => bars.map(bar => [...bar.querySelectorAll('.bar')]"
        ".reduce((sum, part) => sum + part.height.baseVal.value, 0))"
    )
    assert [round(height / (bottom - line) * license.seats, 3) for height in heights] == [
        day.peak for day in license.days
    ]
    assert await plot.locator(".refused").count() == sum(day.denials > 0 for day in license.days)


async def seats_line(plot: Locator) -> list[tuple[float, float]]:
    """The corners of the line of the seats."""
    path = await plot.locator("path.seats").get_attribute("d")
    found = re.fullmatch(r"M([\d.]+) ([\d.]+)((?:V[\d.]+H[\d.]+)+)", path or "")
    assert found
    x, y = float(found[1]), float(found[2])
    corners = [(x, y)]
    for across, along in re.findall(r"V([\d.]+)H([\d.]+)", found[3]):
        corners += [(x, float(across)), (float(along), float(across))]
        x = float(along)
    return corners


async def test_a_day_is_full_by_its_own_seats_and_the_line_steps_where_seats_were_bought(shown: Page) -> None:
    license = REPORT.licenses[1]
    assert {day.seats for day in license.days} == {5, 12}
    section = shown.get_by_role("region", name=license.product, exact=True)
    bars = section.locator(".peaks .plot svg > g")
    full = await bars.evaluate_all("bars => bars.map(bar => bar.querySelector('.full') !== null)")
    assert full == [day.peak >= day.seats for day in license.days]
    assert any(full)
    before, after = dict.fromkeys(y for _, y in await seats_line(section.locator(".peaks .plot")))
    bottom = await bars.locator(".hit").first.evaluate("hit => hit.height.baseVal.value")
    assert (bottom - after) / (bottom - before) == pytest.approx(12 / 5)
    assert await section.locator(".peaks .seats-label").all_text_contents() == ["12 seats", "5 seats"]
    await expect(section.locator(".verdict")).to_contain_text("There are 12 seats now.")
    await expect(section.locator(".tiles")).to_contain_text("of 5 to 12 seats")
    await expect(section.locator(".busy .legend")).to_contain_text(re.compile(r"none to \d\.\d, the greatest average"))


async def test_a_peak_in_overdraft_is_not_called_a_part_of_the_seats(browser: Browser, service: Service) -> None:
    storm = service.report.licenses[1]
    days = (storm.days[0].model_copy(update={"peak": 14}), *storm.days[1:])
    crowded = storm.model_copy(update={"days": days})
    service.report = service.report.model_copy(update={"licenses": (crowded,)})
    async with opened(browser) as (page, _):
        await visit(page, service)
        await expect(page.locator(".tiles div").first).to_contain_text("14 with 5 to 12 seats")


async def test_a_tile_has_the_hours_for_which_programs_ran_beyond_their_seats(
    browser: Browser, service: Service
) -> None:
    water = service.report.licenses[0]
    beyond = {"grace_seconds": 27000, "ran_peak": 8}
    days = (*water.days[:-1], water.days[-1].model_copy(update=beyond))
    sentence = f"{water.verdict.sentence} Programs ran 7.5 hours beyond their seats."
    verdict = water.verdict.model_copy(update={"sentence": sentence})
    license = water.model_copy(update={"days": days, "verdict": verdict})
    service.report = service.report.model_copy(update={"licenses": (license,)})
    async with opened(browser) as (page, _):
        await visit(page, service)
        await expect(page.locator(".tiles div").last).to_have_text("Hours beyond the seats7.5 at most 8 ran at once")
        await expect(page.locator(".verdict")).to_contain_text(sentence)
        if folder := os.environ.get("SCREENSHOTS"):
            await page.screenshot(path=f"{folder}/beyond.png", full_page=True)


async def test_of_few_people_the_page_says_that_there_were_few_and_leaves_out_the_rest(shown: Page) -> None:
    license = REPORT.licenses[2]
    few = [number for number, day in enumerate(license.days) if day.users is None]
    section = shown.get_by_role("region", name=license.product, exact=True)
    titles = await section.locator(".peaks .plot title").all_text_contents()
    assert [number for number, title in enumerate(titles) if title.endswith(", fewer than 3 people")] == few
    tile = section.locator(".tiles div").nth(1)
    known = sum(day.seat_seconds or 0 for day in license.days) / 3600
    assert float((await tile.locator("dd").evaluate("dd => dd.firstChild.data")).replace(",", "")) == round(known)
    await expect(tile).to_contain_text(f"without {len(few)} days of fewer than 3 people")
    await expect(section.locator(".busy .legend")).to_contain_text("fewer than 3 people")
    assert license.busy is not None
    without = sum(hour is None for of_day in license.busy for hour in of_day)
    assert await section.locator(".heat td.few").count() == without > 0
    night = section.locator(".heat td.few").first
    assert await night.get_attribute("title") == "Monday 0–1: fewer than 3 people"
    assert await night.text_content() == "fewer than 3 people"


async def test_a_time_of_which_no_day_is_over_is_said_not_to_be_over(browser: Browser, service: Service) -> None:
    service.report = sample.report(days=0)
    async with opened(browser) as (page, seen):
        await visit(page, service)
        section = page.get_by_role("region", name="Fluidit Water", exact=True)
        await expect(section.locator(".verdict")).to_contain_text("No day of this time can be reported yet.")
        await expect(section.locator(".tiles")).to_have_count(0)
        assert_quiet(seen, service)


async def test_a_year_on_a_phone_is_drawn_by_week(browser: Browser, service: Service) -> None:
    service.report = sample.report(days=365)
    async with opened(browser, 360) as (page, _):
        await visit(page, service)
        license = service.report.licenses[0]
        section = page.get_by_role("region", name=license.product, exact=True)
        await expect(section.get_by_role("heading", name="Most seats taken at once, by week")).to_be_visible()
        weeks: dict[tuple[int, int], int] = {}
        for day in license.days:
            week = day.day.isocalendar()[:2]
            weeks[week] = max(weeks.get(week, 0), day.peak)
        titles = await section.locator(".peaks .plot title").all_text_contents()
        assert [int(re.findall(r": (\d+) at once", title)[0]) for title in titles] == list(weeks.values())


async def test_the_heat_map_has_every_hour_of_the_week(shown: Page) -> None:
    license = REPORT.licenses[0]
    heat = shown.get_by_role("region", name=license.product, exact=True).locator(".heat tbody tr")
    means = await heat.evaluate_all(
        "rows => rows.map(row => [...row.querySelectorAll('td')].map(c => parseFloat(c.textContent)))"
    )
    assert license.busy is not None
    assert means == [
        [pytest.approx(hour.mean if hour else math.nan, abs=0.051, nan_ok=True) for hour in day] for day in license.busy
    ]


async def test_nobodys_hours_are_shown_where_few_people_were_active(shown: Page) -> None:
    section = shown.get_by_role("region", name="Fluidit Sewer", exact=True)
    await expect(section.locator(".busy")).to_contain_text("Not shown: fewer than 3 people in every hour")
    await expect(section.locator(".heat")).to_have_count(0)
    await expect(section.get_by_text("Every hour as a table")).to_have_count(0)


async def test_every_hour_of_the_week_can_be_read_without_a_mouse(browser: Browser, service: Service) -> None:
    license = service.report.licenses[0]
    assert license.busy is not None
    async with opened(browser, 360, has_touch=True) as (page, seen):
        await visit(page, service)
        section = page.get_by_role("region", name=license.product, exact=True)
        hours = section.get_by_role("region", name="Every hour as a table Fluidit Water")
        await expect(hours).to_be_hidden()
        await section.get_by_text("Every hour as a table").tap()
        await expect(hours).to_be_visible()
        await page.keyboard.press("Enter")  # as the tap has left the focus there
        await expect(hours).to_be_hidden()
        await page.keyboard.press("Enter")
        await expect(hours).to_be_visible()
        rows = await hours.locator("tbody tr").evaluate_all(
            "rows => rows.map(row => [...row.querySelectorAll('td')].map(cell => cell.textContent))"
        )
        assert await page.evaluate("document.documentElement.scrollWidth") == 360
        assert_quiet(seen, service)
    assert len(rows) == 24
    for at, row in enumerate(rows):
        for cell, day in zip(row, license.busy, strict=True):
            hour = day[at]
            if hour is None:
                assert cell == "–fewer than 3 people"
                continue
            mean, most = re.fullmatch(r"([\d.]+)(?: \((\d+)\))?", cell).groups("0")  # type: ignore[union-attr]
            assert float(mean) == pytest.approx(hour.mean, abs=0.051)
            assert int(most) == hour.most


async def test_the_token_leaves_the_address_bar_and_the_history(browser: Browser, service: Service) -> None:
    async with opened(browser) as (page, seen):
        await visit(page, service)
        assert page.url == service.url
        assert TOKEN not in await page.content()
        assert [url for url in seen.requests if TOKEN in url.partition("#")[0]] == []
        await page.go_back()
        assert TOKEN not in page.url


@pytest.mark.parametrize(
    ("fragment", "status", "says"),
    [
        ("", 200, "Open the whole link from the mail again; if you no longer have it, ask your vendor for a new one."),
        ("#license-2", 200, "A bookmark or a reload does not hold the key"),
        ("#top", 200, "A bookmark or a reload does not hold the key"),
        (f"#{TOKEN}", 401, "Ask your vendor for a new link"),
        (f"#{TOKEN[:-1]}", 200, "A part of the link is missing"),
        (f"#{TOKEN[:20]}", 200, "A part of the link is missing"),
        (f"#{TOKEN}", 503, "Try again in a minute"),
        (f"#{TOKEN}", 400, "`from` lies after `to`."),
    ],
    ids=["lost", "lost, at a license", "lost, at the top", "expired", "cut", "cut early", "service down", "bad dates"],
)
async def test_whatever_is_wrong_the_page_says_what_to_do(
    browser: Browser, service: Service, fragment: str, status: int, says: str
) -> None:
    service.status = status
    async with opened(browser) as (page, seen):
        await page.goto(service.url + fragment)
        await expect(page.get_by_role("status")).to_contain_text(says)
        assert [text for text in seen.complaints if "Failed to load resource" not in text] == []


async def test_a_reload_asks_for_the_link_again_and_the_link_works_in_the_open_page(
    browser: Browser, service: Service
) -> None:
    async with opened(browser) as (page, seen):
        await visit(page, service)
        await page.reload()
        await expect(page.get_by_role("status")).to_contain_text("Open the whole link from the mail again")
        await page.evaluate("location.hash = 'eyJ0eXAi.eyJzdWIi'")
        await expect(page.get_by_role("status")).to_contain_text("A part of the link is missing")
        await visit(page, service)
        assert_quiet(seen, service)


async def test_without_javascript_the_page_says_so_and_does_not_seem_to_be_at_work(
    browser: Browser, service: Service
) -> None:
    async with opened(browser, java_script_enabled=False) as (page, _):
        await page.goto(f"{service.url}#{TOKEN}")
        await expect(page.locator("noscript p")).to_be_visible()
        said = await page.locator("main").inner_text()
        assert said.strip() == (
            "This page draws its figures with JavaScript. Allow it for this page, then open the link again."
        )


async def test_a_screen_reader_hears_that_totals_are_read_and_which_are_shown(
    browser: Browser, service: Service
) -> None:
    async with opened(browser) as (page, _):
        answer = asyncio.Event()

        async def late(route: Route) -> None:
            await answer.wait()
            await route.continue_()

        await page.route("**/usage/data?*", late)
        await page.goto(f"{service.url}#{TOKEN}")
        status = page.get_by_role("status")
        await expect(status).to_have_text("Reading the figures…")
        answer.set()
        await expect(status).to_have_text(re.compile(r"Figures from Mon,? 19 Oct 2026 to .+ 2026 are shown\."))
        service.report = sample.report(days=7)
        await page.get_by_role("button", name="Show").click()
        await expect(status).to_have_text(re.compile(r"Figures from Mon,? 16 Nov 2026 to .+ 2026 are shown\."))
        assert await status.evaluate("status => status.offsetWidth * status.offsetHeight") <= 1  # the eye sees the page
        service.status = 503
        await page.get_by_role("button", name="Show").click()
        await expect(status).to_contain_text("could not be read")
        assert await status.evaluate("status => status.offsetHeight") > 50


async def test_a_service_that_was_down_can_be_asked_again(browser: Browser, service: Service) -> None:
    service.status = 503
    async with opened(browser) as (page, _):
        await page.goto(f"{service.url}#{TOKEN}")
        again = page.get_by_role("button", name="Try again")
        await expect(again).to_be_visible()
        service.status = 200
        await again.click()
        await expect(page.locator("h1")).to_have_text("Acme Water Oy")


async def test_other_dates_are_asked_for_and_a_link_that_expires_meanwhile_clears_the_page(
    browser: Browser, service: Service
) -> None:
    async with opened(browser) as (page, _):
        await visit(page, service)
        assert service.asked == [{"format": ["json"]}]
        await page.get_by_label("From").fill("2026-09-01")
        await page.get_by_role("button", name="Show").click()
        await expect(page.get_by_role("button", name="Show")).to_be_enabled()
        assert service.asked[1:] == [{"from": ["2026-09-01"], "to": ["2026-11-22"], "format": ["json"]}]
        service.status = 401
        await page.get_by_role("button", name="Show").click()
        await expect(page.get_by_role("status")).to_contain_text("This link no longer works")
        await expect(page.locator(".license")).to_have_count(0)


async def test_the_csv_is_downloaded_with_the_token(browser: Browser, service: Service, tmp_path: Path) -> None:
    async with opened(browser) as (page, seen):
        await visit(page, service)
        async with page.expect_download() as downloading:
            await page.get_by_role("button", name="Download CSV").click()
        download = await downloading.value
        await download.save_as(tmp_path / "usage.csv")
        assert download.suggested_filename == "usage-2026-10-19-to-2026-11-22.csv"
        rows = list(csv.DictReader((tmp_path / "usage.csv").read_text().splitlines()))
        assert sum(bool(row["day"] or row["month"]) for row in rows) == sum(
            len(license.days) + len(license.months) for license in service.report.licenses
        )
        assert_quiet(seen, service)


async def test_the_file_shows_the_same_report_and_connects_to_nothing(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "usage.html"
    file.write_text(usage_report(sample.report(days=35)), "utf-8")
    async with opened(browser) as (page, seen):
        await page.goto(file.as_uri())
        await expect(page.locator(".license")).to_have_count(5)
        await expect(page.get_by_role("button", name="Show")).to_be_hidden()
        assert await page.evaluate("fetch('http://127.0.0.1:9/').catch(() => 'refused')") == "refused"
        assert [text for text in seen.complaints if "connect-src" in text or "default-src" in text]
        assert [url for url in seen.requests if not url.startswith(("file:", "data:"))] == []


async def test_a_customer_named_like_a_script_is_shown_by_name(
    browser: Browser, service: Service, tmp_path: Path
) -> None:
    attack = "</script><script>document.title='x'</script><img src=x onerror=alert(1)><!--<script>\u2028&amp;"
    service.report = sample.report(days=7, organization=attack)
    file = tmp_path / "usage.html"
    file.write_text(usage_report(service.report), "utf-8")
    for address in (file.as_uri(), f"{service.url}#{TOKEN}"):
        async with opened(browser) as (page, seen):
            await page.goto(address)
            await expect(page.locator("h1")).to_have_text(attack)
            assert await page.title() == f"License usage – {attack}"
            assert await page.locator("img").count() == 0
            assert seen.complaints == []


def test_the_policy_allows_the_pages_own_style_and_script_and_its_service_and_nothing_else() -> None:
    directives = dict(part.strip().split(" ", 1) for part in usage_page().csp.split(";"))
    assert directives.pop("default-src") == "'none'"
    assert directives.pop("connect-src") == "'self'"
    assert directives.pop("img-src") == "data:"
    for kind in ("script-src", "style-src"):
        assert re.fullmatch(r"'sha256-[A-Za-z0-9+/]{43}='", directives.pop(kind))
    assert set(directives.values()) == {"'none'"}
    assert set(directives) == {"base-uri", "form-action", "frame-ancestors"}
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", usage_page().html) == []


async def test_a_script_that_was_smuggled_into_the_page_does_not_run(browser: Browser, service: Service) -> None:
    async with opened(browser) as (page, seen):
        await visit(page, service)
        await page.evaluate(
            "document.body.append(Object.assign(document.createElement('script'), {text: 'window.ran = 1'}))"
        )
        assert await page.evaluate("window.ran") is None
        assert any("Content Security Policy" in text for text in seen.complaints)


async def test_no_pseudonym_reaches_the_page(shown: Page) -> None:
    assert "worker-" not in await shown.content()
    assert "worker-" not in json.dumps(REPORT.model_dump(mode="json"))


@pytest.mark.parametrize("width", SIZES)
async def test_nothing_sticks_out_of_a_phone_or_a_desktop(browser: Browser, service: Service, width: int) -> None:
    async with opened(browser, width) as (page, _):
        await visit(page, service)
        assert await page.evaluate("document.documentElement.scrollWidth") == width


async def test_the_months_fit_on_a_phone(browser: Browser, service: Service) -> None:
    """Nobody has to scroll to see how many starts were refused."""
    async with opened(browser, 390) as (page, _):
        await visit(page, service)
        hidden = "[...document.querySelectorAll('.months .scroll')].map(each => each.scrollWidth - each.clientWidth)"
        found = await page.evaluate(hidden)
        assert len(found) > 1
        assert set(found) == {0}


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_stands_out_from_its_background(browser: Browser, service: Service, scheme: str) -> None:
    """WCAG 2.2, success criterion 1.4.3: 4.5 to 1, for large text 3 to 1."""
    async with opened(browser, color_scheme=scheme) as (page, _):
        await visit(page, service)
        await page.evaluate(OPEN_ALL)
        assert await page.evaluate(FAINT_TEXTS) == []


async def test_a_screen_reader_finds_names_and_headings(shown: Page) -> None:
    levels = await shown.evaluate(
        "[...document.querySelectorAll('h1,h2,h3,h4')]"
        ".filter(heading => heading.checkVisibility()).map(heading => +heading.tagName[1])"
    )
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    nameless: list[Any] = await shown.evaluate(NAMELESS)
    assert nameless == []
    assert await shown.evaluate("document.documentElement.lang") == "en"
    ids = await shown.evaluate("[...document.querySelectorAll('[id]')].map(node => node.id)")
    assert len(ids) == len(set(ids))


async def test_all_can_be_reached_by_keyboard(browser: Browser, service: Service) -> None:
    async with opened(browser) as (page, _):
        await visit(page, service)
        reached = []
        for _press in range(40):
            await page.keyboard.press("Tab")
            reached.append(
                await page.evaluate("(document.activeElement.textContent || document.activeElement.name).trim()")
            )
        assert {"from", "to", "Show", "Download CSV", "Every day as a table", "Every hour as a table"} <= set(reached)
        await page.locator("summary").first.focus()
        await page.keyboard.press("Enter")
        await expect(page.locator("details").first).to_have_attribute("open", "")


async def test_print_leaves_out_what_cannot_be_pressed_on_paper(browser: Browser, service: Service) -> None:
    async with opened(browser, color_scheme="dark") as (page, _):
        await visit(page, service)
        await page.emulate_media(media="print")
        await expect(page.get_by_role("button", name="Show")).to_be_hidden()
        await expect(page.locator("summary").first).to_be_hidden()
        assert await page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


async def test_a_table_that_was_opened_is_printed_whole(browser: Browser, service: Service) -> None:
    service.report = sample.report(days=90)
    async with opened(browser) as (page, _):
        await visit(page, service)
        closed = pages(await page.pdf())
        await page.evaluate(OPEN_ALL)
        await page.emulate_media(media="print")
        cut = await page.evaluate(
            "[...document.querySelectorAll('details .scroll')].filter(table => getComputedStyle(table).overflow"
            " !== 'visible' || table.clientHeight < table.firstElementChild.offsetHeight).length"
        )
        assert cut == 0
        kept_whole = await page.evaluate(
            "[...document.querySelectorAll('details')].filter(details => {"
            " for (let node = details; node; node = node.parentElement)"
            "  if (getComputedStyle(node).breakInside === 'avoid') return true; }).length"
        )
        assert kept_whole == 0
        days = sum(len(license.days) for license in service.report.licenses[:4])
        assert pages(await page.pdf()) >= closed + days // 90  # each on more than the rest of its page


def pages(pdf: bytes) -> int:
    return len(re.findall(rb"/Type /Page\b", pdf))


OPEN_ALL = "document.querySelectorAll('details').forEach((details) => details.open = true)"

FAINT_TEXTS = """() => {
  const context = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const known = new Map();
  const channels = (color) => { // the browser itself turns whatever notation into numbers
    if (!known.has(color)) {
      context.clearRect(0, 0, 1, 1);
      context.fillStyle = color;
      context.fillRect(0, 0, 1, 1);
      known.set(color, [...context.getImageData(0, 0, 1, 1).data]);
    }
    return known.get(color);
  };
  const luminance = (color) => channels(color).slice(0, 3)
    .map((c) => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
  const background = (node) => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if (channels(color)[3] === 255) return color;
    }
    return 'white';
  };
  const faint = [];
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    if (!own || !node.checkVisibility() || node.closest('.hidden, script, style, noscript')) continue;
    const style = getComputedStyle(node);
    const text = node instanceof SVGElement ? style.fill : style.color;
    const [light, dark] = [text, background(node)].map(luminance).sort((a, b) => b - a);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || size >= 18.66 && style.fontWeight >= 700;
    if ((light + .05) / (dark + .05) < (large ? 3 : 4.5)) faint.push(node.textContent);
  }
  return faint;
}"""

NAMELESS = """[
  ...[...document.querySelectorAll('table')].filter((table) => !table.caption?.textContent),
  ...[...document.querySelectorAll('input')].filter((input) => !input.labels.length),
  ...[...document.querySelectorAll('[role="region"], [role="img"], nav, section')].filter((node) =>
    !node.ariaLabel &&
    !node.getAttribute('aria-labelledby').split(' ').every((id) => document.getElementById(id)?.textContent)),
  ...[...document.querySelectorAll('th')].filter((header) => !header.scope || !header.textContent),
].filter((node) => node.checkVisibility()).map((node) => node.outerHTML.slice(0, 200))"""


@pytest.mark.parametrize("status", [200, 401])
async def test_what_comes_late_for_a_former_link_is_not_shown(browser: Browser, service: Service, status: int) -> None:
    """Neither its figures, nor that it has ended: another link was opened meanwhile."""
    former = f"{TOKEN[:-4]}late"
    asked, shown, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()
    other = sample.with_live(sample.report(days=7, organization="Somebody else"))

    async def late(route: Route) -> None:
        if route.request.headers["authorization"] != f"Bearer {former}":
            await route.continue_()
            return
        asked.set()
        await shown.wait()
        await route.fulfill(status=status, content_type="application/json", body=to_json(other))
        answered.set()

    async with opened(browser) as (page, _):
        await page.route("**/usage/data*", late)
        await page.goto(f"{service.url}#{former}")
        await asked.wait()
        await page.evaluate("token => location.hash = token", TOKEN)
        await expect(page.locator("h1")).to_have_text("Acme Water Oy")
        shown.set()
        await answered.wait()
        await page.wait_for_timeout(200)
        await expect(page.locator("h1")).to_have_text("Acme Water Oy")
        await expect(page.locator(".license")).to_have_count(5)
        await expect(page.get_by_role("status")).to_contain_text("are shown")
