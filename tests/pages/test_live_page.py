"""The customer's page end to end: `licensing serve`, a link by `licensing usage link`, and a real Chromium."""

import csv
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Browser, Page, expect

from licensing.cli.home import CustomerRecord, Home, new_salt
from licensing.services.reports import newest_day
from licensing.storage.tables import Tables
from tests import factories
from tests.factories import at, use
from tests.pages.conftest import OVERLAPS, Seen, opened
from tests.processes import Served, end, serving, start
from tests.register_rows import Customer, new_customer

YESTERDAY = newest_day(datetime.now(UTC))
TODAY = YESTERDAY + timedelta(days=1)


@pytest.fixture(scope="module")
def served(home: Home, azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(home, azurite, log=tmp_path_factory.mktemp("serve") / "messages") as running:
        yield running


def link(home: Home, served: Served, organization: str, *options: str) -> str:
    """What the command line makes for a customer, at the port where the service really is."""
    if home.customer(organization) is None:
        home.save_customer(CustomerRecord(organization, organization, new_salt()))
    command = [sys.executable, "-m", "licensing", "--home", str(home.folder), "usage", "link", organization, *options]
    made = subprocess.run(command, capture_output=True, check=True, text=True).stdout.strip()
    assert made.startswith("http://127.0.0.1:7071/api/usage#")
    return made.replace("http://127.0.0.1:7071/api", served.url)


def assert_quiet(seen: Seen, served: Served) -> None:
    """Nothing went wrong, and nobody but the service was asked for anything."""
    origin = served.url.removesuffix("/api")
    assert seen.complaints == []
    assert [url for url in seen.requests if not url.startswith((f"{origin}/", "data:", f"blob:{origin}/"))] == []


async def used(tables: Tables, days: int) -> Customer:
    """A customer who got its license so many days ago, and whose people have worked on each of them."""
    customer = new_customer(tables, seats=4, valid_from=at(TODAY - timedelta(days=days), 0))
    uses = []
    for ago in range(1, days + 1):
        day = TODAY - timedelta(days=ago)
        for person in range(2 + ago % 3):
            begin = at(day, 7 + person / 2)
            uses.append(use(f"d{ago}-{person}", begin, begin + timedelta(hours=3), f"person-{person}"))
    await customer.used(uses)
    return customer


async def test_a_customer_opens_its_link_and_finds_what_its_programs_did(
    browser: Browser, home: Home, served: Served, tables: Tables, tmp_path: Path
) -> None:
    customer = await used(tables, days=62)
    organization = {"id": customer.organization, "name": "Acme Water Oy"}
    license = factories.issue(home, organization=organization, product="Fluidit Storm", seats=1)
    async with aiohttp.ClientSession() as http:
        status, reply = await start(http, served.url, factories.start_body(license))
        assert status == 201
        assert await end(http, served.url, reply) == 204
    address = link(home, served, organization["id"], "--time-zone", "Europe/Helsinki")
    token = address.partition("#")[2]

    async with opened(browser) as (page, seen):
        await page.goto(address)
        await expect(page.locator("h1")).to_have_text("Acme Water Oy")
        section = page.get_by_role("region", name="Fluidit Water", exact=True)
        await expect(section.locator(".verdict")).to_contain_text("The seats were all taken on ")
        await expect(page.locator(".license")).to_have_count(1)  # the other one was first used today
        await expect(page.locator("#notes")).to_contain_text("Europe/Helsinki")
        assert page.url == f"{served.url}/usage"
        assert token not in await page.content()
        assert [url for url in seen.requests if token in url.partition("#")[0]] == []
        async with page.expect_download() as downloading:
            await page.get_by_role("button", name="Download CSV").click()
        await (await downloading.value).save_as(tmp_path / "usage.csv")
        assert_quiet(seen, served)

    rows = list(csv.DictReader((tmp_path / "usage.csv").read_text().splitlines()))
    newest = [row for row in rows if row["day"]][-1]
    last = [row for row in rows if row["month"]][-1]
    assert (newest["organization"], newest["product"], newest["seats"]) == (organization["id"], "Fluidit Water", "4")
    assert (newest["day"], newest["sessions"], newest["users"], newest["peak"]) == (str(YESTERDAY), "3", "3", "3")
    assert (last["day"], last["month"], last["users"]) == ("", f"{YESTERDAY.replace(day=1) - timedelta(1):%Y-%m}", "4")


async def test_other_dates_can_be_asked_for_and_impossible_ones_are_explained(
    browser: Browser, home: Home, served: Served, tables: Tables
) -> None:
    customer = await used(tables, days=20)

    async with opened(browser) as (page, seen):
        await page.goto(link(home, served, customer.organization))
        await expect(page.locator(".peaks g")).to_have_count(20)
        await page.get_by_label("From").fill(str(TODAY - timedelta(days=5)))
        await page.get_by_role("button", name="Show").click()
        await expect(page.locator(".peaks g")).to_have_count(5)
        assert_quiet(seen, served)
        await page.get_by_label("To", exact=True).fill("2020-01-01")
        await page.get_by_role("button", name="Show").click()
        await expect(page.get_by_role("status")).to_contain_text("There are figures of the days from")
        await page.get_by_label("To", exact=True).fill(str(TODAY))
        await page.get_by_role("button", name="Show").click()
        await expect(page.get_by_role("status")).to_contain_text("are shown.")


async def says(browser: Browser, address: str, text: str) -> None:
    """The page says this, and shows nothing of anybody."""
    async with opened(browser) as (page, seen):
        await page.goto(address)
        await expect(page.get_by_role("status")).to_contain_text(text)
        await expect(page.locator(".license")).to_have_count(0)
        assert [complaint for complaint in seen.complaints if "401" not in complaint] == []


async def test_an_expired_link_a_forged_one_and_none_say_what_to_do(
    browser: Browser, home: Home, served: Served, tables: Tables, tmp_path: Path
) -> None:
    customer = await used(tables, days=1)
    expired = factories.report_token(home, customer.organization, exp=int(time.time()) - 1)
    forged = factories.report_token(factories.new_home(tmp_path / "other"), customer.organization)

    page = f"{served.url}/usage"
    await says(browser, f"{page}#{expired}", "Ask your vendor for a new link")
    await says(browser, f"{page}#{forged}", "Ask your vendor for a new link")
    await says(browser, page, "Open the whole link from the mail again")


async def test_a_customer_who_has_not_begun_gets_a_message(browser: Browser, home: Home, served: Served) -> None:
    async with opened(browser) as (page, seen):
        await page.goto(link(home, served, factories.new_id("org")))
        await expect(page.get_by_role("status")).to_contain_text("No licenses yet")
        assert_quiet(seen, served)


async def fits(page: Page, width: int) -> None:
    """Nothing sticks out, and no two labels of the picture overlap."""
    assert await page.evaluate("document.documentElement.scrollWidth") == width
    assert await page.evaluate(OVERLAPS) == []


@pytest.mark.parametrize("width", [pytest.param(360, id="phone"), pytest.param(1280, id="desktop")])
@pytest.mark.parametrize("days", [1, 3, 30])
async def test_a_new_customers_few_days_make_a_page_like_any_other(
    browser: Browser, home: Home, served: Served, tables: Tables, days: int, width: int
) -> None:
    customer = await used(tables, days)

    async with opened(browser, width) as (page, seen):
        await page.goto(link(home, served, customer.organization))
        bars = page.locator(".peaks g")
        await expect(bars).to_have_count(days)
        widths = await bars.locator(".bar").evaluate_all("bars => bars.map(bar => bar.getBBox().width)")
        assert len(widths) == days
        assert max(widths) <= 40
        months = await page.locator(".months tbody tr").count()
        worked = {f"{TODAY - timedelta(days=ago):%Y-%m}" for ago in range(1, days + 1)}
        assert months == len([month for month in worked if month < f"{TODAY:%Y-%m}"])
        assert re.fullmatch(r"\d+", await page.locator(".tiles dd").first.evaluate("dd => dd.firstChild.data"))
        await fits(page, width)
        assert_quiet(seen, served)
