"""The catalogue is complete: each text in each language, with the same values and both plural forms."""

import string
from typing import Any

import pytest

from licensing.rules.catalogue import LANGUAGES, number, text, texts

SECTIONS = ("number", "verdict", "sizing", "page")
EVERY = {f"{section}.{name}": languages for section in SECTIONS for name, languages in texts(section).items()}


def values_of(form: str) -> set[str]:
    """The names of the values that a text takes."""
    return {name for _, name, _, _ in string.Formatter().parse(form) if name is not None}


def forms(found: Any) -> list[str]:
    return [found] if isinstance(found, str) else [found["one"], found["other"]]


@pytest.mark.parametrize("key", EVERY)
def test_a_text_is_in_each_language_with_the_same_values(key: str) -> None:
    languages = EVERY[key]
    assert tuple(languages) == LANGUAGES
    plural = {language: not isinstance(found, str) for language, found in languages.items()}
    assert len(set(plural.values())) == 1, f"{key} has plural forms in some languages only: {plural}"
    for language, found in languages.items():
        assert plural[language] is False or set(found) == {"one", "other"}
        for form in forms(found):
            assert form, f"{key} is empty in {language}"
            assert values_of(form) == values_of(forms(languages["en"])[-1]), f"{key} in {language}"
            assert "n" in values_of(form) or not plural[language], f"{key} in {language} tells no number"


def test_languages_write_one_and_other_numbers_each_in_its_own_way() -> None:
    seats = [[text("verdict.seats", language, n=n) for n in (1, 2310)] for language in LANGUAGES]
    assert seats == [["1 seat", "2,310 seats"], ["1 Platz", "2.310 Plätze"], ["1 paikka", "2\u00a0310 paikkaa"]]
    assert [number(1234.56, language) for language in LANGUAGES] == ["1,234.6", "1.234,6", "1\u00a0234,6"]


def test_an_unknown_text_or_a_missing_value_is_an_error() -> None:
    for wrong in (("verdict.none", "en"), ("verdict.enough", "sv"), ("verdict.late", "en")):
        with pytest.raises(KeyError):
            text(*wrong)
