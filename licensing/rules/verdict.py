"""Whether a license's seats suffice, in words.

The rules:

- The verdict is made from what is reported alone. It compares each day's peak with the seats of that day.
- Working days are Monday to Friday; public holidays are not known here. A day on which the license was in force for a
  part only, or that is not over, counts only if the seats were all taken on it.
- Where no start was refused, the highest peak would have been enough. Where some were, at least the highest peak would
  have been needed, and a seat more than the peak of a day on which all were taken and starts refused.

The words are those of the catalogue.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel

from licensing.rules.catalogue import LANGUAGES, number, text
from licensing.rules.usage import DAY, midnight

if TYPE_CHECKING:
    from licensing.rules.report import DayUsage

ENGLISH: Final = LANGUAGES[0]
ALWAYS: Final = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class State(StrEnum):
    """Whether the seats suffice."""

    ENOUGH = "enough"
    TIGHT = "tight"
    SHORT = "short"
    IDLE = "idle"
    NO_SEATS = "no-seats"
    UNRECORDED = "unrecorded"
    NOT_OVER = "not-over"


class VerdictText(BaseModel, frozen=True, extra="forbid"):
    """A verdict in one language: a few words, and a sentence."""

    headline: str
    sentence: str


class Verdict(BaseModel, frozen=True, extra="forbid"):
    """The answer to the customer's question, as a state for programs, a few words, and a sentence.

    These are English; `translations` has both in the other languages.
    """

    state: State
    headline: str
    sentence: str
    translations: dict[str, VerdictText] = {}


Say = Callable[..., str]
"""A text of the section `verdict` in one language: its name, and its values."""


def in_each_language(sentence: Callable[[str], str]) -> tuple[str, dict[str, str]]:
    """A sentence in English, and in the other languages."""
    return sentence(ENGLISH), {language: sentence(language) for language in LANGUAGES if language != ENGLISH}


def not_over() -> Verdict:
    """The verdict on a time of which nothing can be reported yet."""
    return _made(State.NOT_OVER, lambda say: [say("not-over-sentence")])


def verdict(
    days: Iterable["DayUsage"],
    seats: int,
    recorded: bool = True,
    *,
    late_seconds: int = 0,
    since: datetime = ALWAYS[0],
    until: datetime = ALWAYS[1],
) -> Verdict:
    """Whether the seats sufficed on these days; `seats` are the present ones, 0 for a license that takes none.

    Use that is not `recorded` is not said to be none. The license could be used in `since` ≤ t < `until` (UTC), so far.
    `late_seconds` is how long programs ran on that were heard of too late.
    """
    days = list(days)
    ran_on = partial(_ran_on, days, late_seconds, takes_seats=bool(seats))
    peak = max((day.peak for day in days), default=0)
    if not any(day.denials for day in days) and all(day.sessions == 0 for day in days):
        state = State.IDLE if recorded else State.UNRECORDED
        return _made(state, lambda say: [say(f"{state}-sentence"), *ran_on(say)])
    if not seats:
        return _made(State.NO_SEATS, lambda say: [say("no-seats-sentence", n=peak), *ran_on(say)])
    full = [day for day in days if day.peak >= day.seats]
    working = [
        day
        for day in days
        if day.day.weekday() < 5
        and (day.peak >= day.seats or (since <= midnight(day.day) and midnight(day.day) + DAY <= until))
    ]
    if any(day.denials for day in days):
        state = State.SHORT
    else:
        state = State.TIGHT if any(day.seats > 1 for day in full) else State.ENOUGH
    judged = _Judged(days, full, len(working), peak, seats)
    return _made(state, lambda say: [*judged.sentences(say), *ran_on(say)])


def _made(state: State, sentences: Callable[[Say], list[str]]) -> Verdict:
    """A verdict in all languages."""

    def say(language: str, name: str, **values: object) -> str:
        return text(f"verdict.{name}", language, **values)

    texts = {
        language: VerdictText(headline=say(language, state), sentence=" ".join(sentences(partial(say, language))))
        for language in LANGUAGES
    }
    english = texts.pop(ENGLISH)
    return Verdict(state=state, headline=english.headline, sentence=english.sentence, translations=texts)


@dataclass(frozen=True, slots=True)
class _Judged:
    """Days with use of a license that takes seats: all, those on which its seats were all taken, and what they show.

    `working` is the number of working days that count, `seats` are the present ones.
    """

    days: Sequence["DayUsage"]
    full: Sequence["DayUsage"]
    working: int
    peak: int
    seats: int

    def sentences(self, say: Say) -> list[str]:
        found = [say("sentence", taken=self._taken(say), refused=self._refused(say)), self._would_do(say)]
        overdraft = sum(day.overdraft_seconds or 0 for day in self.days)
        if overdraft:
            least = any(day.overdraft_seconds is None and day.peak > day.seats for day in self.days)
            found.append(say("beyond", hours=_hours(say, overdraft, least=least)))
        return [*found, say("seats-now", n=self.seats)] if self._changed else found

    @property
    def _changed(self) -> bool:
        return any(day.seats != self.seats for day in self.days)

    def _taken(self, say: Say) -> str:
        if not self.full:
            name = "most-taken-never-all" if self._changed else "most-taken"
            return say(name, n=self.peak, **({} if self._changed else {"seats": self.seats}))
        full_working = sum(day.day.weekday() < 5 for day in self.full)
        when = []
        if full_working:
            when.append(say("on-working-days", full=full_working, n=self.working))
        if full_weekend := len(self.full) - full_working:
            when.append(say("on-weekend-days", n=full_weekend))
        both = when[0] if len(when) == 1 else say("and", some=when[0], others=when[1])
        return say("one-taken" if self.seats == 1 and not self._changed else "all-taken", when=both)

    def _refused(self, say: Say) -> str:
        refused, waits = sum(day.denials for day in self.days), sum(day.waits for day in self.days)
        if not refused:
            return say("none-refused")
        were = say("refused", n=refused)
        if not waits:
            return were
        return say("all-served", refused=were) if waits == refused else say("some-served", refused=were, n=waits)

    def _would_do(self, say: Say) -> str:
        short = [day.peak + (day.peak >= day.seats) for day in self.days if day.denials]
        return say("needed-seats", n=max(self.peak, *short)) if short else say("enough-seats", n=self.peak)


def _ran_on(days: Sequence["DayUsage"], late_seconds: int, say: Say, *, takes_seats: bool) -> list[str]:
    """What these days say of programs that ran on while they could not reach the service; empty if none did."""
    on = [day for day in days if day.grace_seconds]
    withheld = any(day.grace_seconds is None for day in days)
    suffix = "" if takes_seats else "-without-seats"
    sentences = []
    if on:
        hours = _hours(say, sum(day.grace_seconds or 0 for day in on), least=withheld)
        sentences.append(say(f"ran-on{suffix}", hours=hours, most=_most_ran(on, say, takes_seats=takes_seats)))
    elif withheld:
        sentences.append(say(f"few-ran-on{suffix}"))
    if late_seconds:
        sentences.append(say("late", hours=_hours_number(late_seconds)))
    return sentences


def _most_ran(on: Sequence["DayUsage"], say: Say, *, takes_seats: bool) -> str:
    most = max(on, key=lambda day: (day.ran_peak or 0, -day.day.toordinal()))
    if most.ran_peak is None:
        return ""
    if not takes_seats:
        return say("most-ran", n=most.ran_peak)
    return say("most-ran-for-seats", n=most.ran_peak, seats=say("seats", n=most.seats))


def _hours(say: Say, seconds: int, *, least: bool) -> str:
    return say("hours-at-least" if least else "hours", hours=_hours_number(seconds))


def _hours_number(seconds: int) -> float:
    """A time in hours, for people; never 0.0."""
    return max(seconds / 3600, 0.1)


def hours_of(seconds: int) -> str:
    """A time in hours, for people, in English; never 0.0."""
    return number(_hours_number(seconds), ENGLISH)
