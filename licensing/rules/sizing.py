"""How many seats would do: for each number of seats, what would have been short of them.

The rules:

- An hour is a whole UTC hour in which a seat was used. It is short of `n` seats if its peak is above `n`.
- A start is one that took a seat. It is short of `n` seats if with its own one more than `n` were held. Days that were
  saved before starts were counted so count for the hours alone, and so do all days before the last such day.
- Those of a curve are from the median of the hours' peaks to the highest peak of a day.
- The highest peak of a day would have been enough for every start. If starts were refused, use alone does not tell.
- Of hours and days with fewer than `small_group` people, the day's peak alone counts, as in the rest of a report. A
  report for the vendor has all.
- In a customer's report, a session that runs across midnight counts as a start on the new day, too. Otherwise the day's
  sessions less its starts would say that somebody was there at midnight.

Left to others: which days there are, and what of their peaks and refusals is reported (`licensing.rules.report`).
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import date
from statistics import median_low
from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from licensing.rules.catalogue import text
from licensing.rules.totals import MOST_LEVELS, DayTotals
from licensing.rules.verdict import in_each_language

SHORT_HOURS: Final = 0.01
"""The sentence names fewer seats, too, that would have been short in at most this part of the hours used."""


class SizingPoint(BaseModel, frozen=True, extra="forbid"):
    """A number of seats, and how many hours and starts would have been short of them.

    `starts` is None where they are not known.
    """

    seats: int
    hours: int
    starts: int | None


class Sizing(BaseModel):
    """How many seats would do, from the days `from` to `to` (UTC).

    `hours` are the whole hours in which a seat was used, `starts` those that took a seat; None where they are not
    known. `curve` has each number of seats from the `median` of the hours' peaks to the highest `peak`. `enough` is the
    smallest number of which nothing would have been short; None if starts were refused. `translations` are those of
    `sentence`, by language.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, validate_by_alias=True, serialize_by_alias=True
    )

    first: date = Field(alias="from")
    last: date = Field(alias="to")
    hours: int
    starts: int | None
    median: int
    peak: int
    curve: tuple[SizingPoint, ...]
    enough: int | None
    sentence: str
    translations: dict[str, str]


def sizing(days: Iterable[DayTotals], first: date, last: date, small_group: int, *, refused: bool) -> Sizing | None:
    """How many seats would have done on some days, those from `first` to `last`; None if no hour of use is reported.

    `refused`: whether a start was refused on them, as it is reported. A `small_group` of 0 leaves nothing out.
    """
    days = sorted(days, key=lambda day: day.day)
    hours = sorted(peak for day in days for peak in _hours(day, small_group))
    if not hours:
        return None
    lacking = max((day.day for day in days if not day.starts), default=date.min)
    counted = [day for day in days if day.day > lacking and day.users >= small_group]
    starts = _total(_starts(day, small_group) for day in counted)
    median, peak = median_low(hours), max(max(day.peak for day in days), hours[-1])
    curve = tuple(
        SizingPoint(seats=seats, hours=len(hours) - bisect_right(hours, seats), starts=_short(starts, seats))
        for seats in range(median, peak + 1)
    )
    since = counted[0].day if counted and lacking > date.min else None
    enough = None if refused else peak
    total = sum(starts) if counted else None

    def sentence(language: str) -> str:
        return _sentence(language, curve, len(hours), total, enough, since, small_group)

    english, translations = in_each_language(sentence)
    return Sizing(
        first=first,
        last=last,
        hours=len(hours),
        starts=total,
        median=median,
        peak=peak,
        curve=curve,
        enough=enough,
        sentence=english,
        translations=translations,
    )


def _hours(day: DayTotals, small_group: int) -> Iterable[int]:
    """The peaks of a day's hours with use and enough people."""
    if not small_group:  # the first edition's days do not know their hours' users
        return filter(None, day.hours)
    return [peak for peak, users in zip(day.hours, day.hour_users, strict=False) if peak and users >= small_group]


def _starts(day: DayTotals, small_group: int) -> Sequence[int]:
    """A day's starts by their number of seats. For a customer, seats held at midnight count as starts, too."""
    carried = min(day.carried, day.peak, MOST_LEVELS) if small_group else 0
    return [number + (place < carried) for place, number in enumerate((*day.starts, *(0,) * carried))]


def _total(starts: Iterable[Sequence[int]]) -> list[int]:
    """The starts of some days together, by their number of seats, from one on."""
    total: list[int] = []
    for each in starts:
        total += [0] * (len(each) - len(total))
        for place, number in enumerate(each):
            total[place] += number
    return total


def _short(starts: Sequence[int], seats: int) -> int | None:
    """How many starts would have been short of some seats; None where no day tells."""
    if not starts or (len(starts) == MOST_LEVELS and seats >= MOST_LEVELS):
        return None
    return sum(starts[seats:])


def _sentence(
    language: str,
    curve: Sequence[SizingPoint],
    hours: int,
    starts: int | None,
    enough: int | None,
    since: date | None,
    small_group: int,
) -> str:
    sentences = []
    if enough is None:
        sentences.append(text("sizing.refused", language))
    else:
        fewer = next((point for point in curve if 0 < point.hours <= hours * SHORT_HOURS), None)
        some = _fewer(language, fewer, hours, starts, since) if fewer else ""
        sentences.append(text("sizing.enough", language, n=enough, fewer=some))
    if small_group > 1:
        sentences.append(text("sizing.few-people", language, people=small_group))
    return " ".join(sentences)


def _fewer(language: str, point: SizingPoint, hours: int, starts: int | None, since: date | None) -> str:
    """What would have been short of fewer seats than would have been enough."""
    of_starts = ""
    if starts and point.starts is not None:
        of_starts = (
            text("sizing.starts-since", language, short=point.starts, n=starts, day=f"{since}")
            if since
            else text("sizing.starts", language, short=point.starts, n=starts)
        )
    return text("sizing.fewer", language, seats=point.seats, short=point.hours, n=hours, starts=of_starts)
