"""The page's texts: all of them in the catalogue, each of them used, and shown in the reader's language."""

import re
from html.parser import HTMLParser
from importlib.resources import files
from typing import Final

import pytest
from playwright.async_api import Browser, expect

from licensing.api.pages.usage import SCRIPTS
from licensing.rules.catalogue import LANGUAGES, text, texts
from tests.pages import sample
from tests.pages.conftest import Service, assert_quiet, opened, visit

PAGES: Final = files("licensing.api.pages")
HTML: Final = (PAGES / "usage.html").read_text("utf-8")
SCRIPT: Final = "\n".join((PAGES / f"{name}.js").read_text("utf-8") for name in SCRIPTS)
CODE: Final = re.sub(r"^\s*//.*$", "", SCRIPT, flags=re.MULTILINE)
LITERAL: Final = re.compile(r'"([^"\n]*)"|`([^`]*)`')


def used() -> set[str]:
    """The keys that the page asks for: in the elements, as first argument of `t`, and in tables of keys."""
    keys = set(re.findall(r'data-(?:text|label)="([^"]+)"', HTML))
    for asked in re.findall(r"\bt\(((?:\"[^\"]*\"|[^,()\"])+)", CODE):
        keys.update(re.findall(r'"([^"]+)"', asked))
    for table in re.findall(r"_TEXTS = [{\[](.*?)[}\]];", CODE, flags=re.DOTALL):
        keys.update(re.findall(r'"([a-z]+-[a-z-]+)"(?!:)', table))
    return keys


def test_each_text_of_the_page_is_in_the_catalogue_and_each_of_the_catalogue_on_the_page() -> None:
    assert used() == set(texts("page"))


class Texts(HTMLParser):
    """Collects what a reader would read in a document: texts, and attributes that are read aloud."""

    def __init__(self) -> None:
        super().__init__()
        self.within: list[str] = []
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.within.append(tag)
        self.found += [text or "" for name, text in attributes if name in ("aria-label", "title", "alt", "placeholder")]

    def handle_endtag(self, tag: str) -> None:
        while self.within and self.within.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if data.strip() and "noscript" not in self.within:
            self.found.append(data.strip())


def test_no_text_for_people_stands_beside_the_catalogue() -> None:
    reader = Texts()
    reader.feed(HTML)
    assert reader.found == []
    # Within scripts a text for people has two words, or stands where a reader finds it.
    literals = [plain or template for plain, template in LITERAL.findall(CODE)]
    words = [re.sub(r"\$\{[^}]*\}", "", literal) for literal in literals]
    sentences = [each for each in words if re.search(r"[A-Za-z]{2,},? [a-z]{2,}|^[A-Z][a-z]+$", each)]
    classes = {"muted small", "bar full", "bar beyond", "bar present"}
    assert set(sentences) - classes <= {"Bearer", "Authorization", "status"}


def test_a_text_with_a_number_has_a_singular_and_a_plural() -> None:
    """Save where all words beside the number are the same."""
    plain = {key: [form for form in of.values() if isinstance(form, str)] for key, of in texts("page").items()}
    assert {key for key, forms in plain.items() if any("{n}" in form for form in forms)} == {"few-people-short", "bar"}
    assert text("page.seats-and-overdraft", "fi", n=1, seats="5 paikkaa") == "5 paikkaa ja 1 ylityspaikka"


def test_the_languages_of_the_page_are_those_of_the_catalogue() -> None:
    locales = re.search(r"LOCALES = \{(.*?)\}", CODE)
    assert locales
    assert tuple(re.findall(r"(\w+):", locales[1])) == LANGUAGES


@pytest.mark.parametrize(
    ("languages", "language", "title", "day", "hours", "until"),
    [
        (
            ["fi-FI", "en"],
            "fi",
            "Lisenssien käyttö – Acme Water Oy",
            "22.11.2026",
            "1\u00a0306",
            "Voimassa 30.6.2027 asti",
        ),
        (
            ["sv", "de-AT", "fi"],
            "de",
            "Lizenznutzung – Acme Water Oy",
            "22. Nov. 2026",
            "1.306",
            "Gültig bis 30. Juni 2027",
        ),
        (["sv-SE"], "en", "License usage – Acme Water Oy", "22 Nov 2026", "1,306", "Valid until 30 Jun 2027"),
    ],
    ids=["Finnish", "German behind a language that is not here", "none of ours"],
)
async def test_the_page_speaks_the_first_of_the_readers_languages_that_it_has(
    browser: Browser,
    service: Service,
    languages: list[str],
    language: str,
    title: str,
    day: str,
    hours: str,
    until: str,
) -> None:
    service.report = sample.report(days=90)
    async with opened(browser) as (page, seen):
        await page.add_init_script(f"Object.defineProperty(navigator, 'languages', {{get: () => {languages}}})")
        await visit(page, service)
        assert await page.evaluate("document.documentElement.lang") == language
        assert await page.title() == title
        assert day in await page.locator("#period").inner_text()
        section = page.get_by_role("region", name="Fluidit Water", exact=True)
        await expect(section.locator(".status")).to_contain_text(until)
        assert (await section.locator(".tiles dd").nth(1).inner_text()).startswith(hours)
        verdict = service.report.licenses[0].verdict
        said = verdict.translations.get(language, verdict)
        await expect(section.locator(".verdict span")).to_have_text(said.sentence)
        wanted = texts("page")["days-table"][language]
        await expect(section.get_by_text(wanted)).to_be_visible()
        assert_quiet(seen, service)


async def test_a_message_of_the_page_is_in_the_readers_language(browser: Browser, service: Service) -> None:
    async with opened(browser, locale="de-DE") as (page, _):
        await page.goto(f"{service.url}#cut")
        await expect(page.get_by_role("status")).to_contain_text("Öffnen Sie den ganzen Link")
        assert await page.title() == "Lizenznutzung"
