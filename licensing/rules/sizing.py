"""How many seats would do: for each number of seats, what would have been short of them."""

from datetime import date

from pydantic import BaseModel, ConfigDict, Field


class SizingPoint(BaseModel, frozen=True, extra="forbid"):
    """A number of seats, the hours whose peak was above it, and the starts with whose own seat more were held.

    `starts` is None where starts are not known by their numbers of seats.
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
