"""Vectors of section 9 of the protocol: what time it is while clocks are wrong, are set, and sleep.

Each number is worked out by hand from the section's rule, with the reason beside it. No implementation made one.
Times are seconds after `NOW`, the true time at which a sequence begins. MONOTONIC is the other clock then.
"""

from typing import Any

from factories import NOW

MINUTE, HOUR, DAY = 60, 3600, 86400
MONOTONIC = 5000

Step = dict[str, Any]


def kept(offset: float, seen: float, wall: float) -> dict[str, float]:
    """The time in a private file."""
    return {"offset": offset, "seen": NOW + seen, "wall": NOW + wall}


def _step(do: str, clocks: tuple[float, float], now: float, offset: float, why: str, **given: Any) -> Step:
    """`clocks`: the wall clock and the monotonic clock. `now` and `offset` are expected."""
    wall, monotonic = clocks
    read = {"wall": NOW + wall, "monotonic": MONOTONIC + monotonic}
    return {"do": do, **given, **read, "keeps": kept(offset, now, wall), "why": why}


def start(
    clocks: tuple[float, float], file: dict[str, float] | None, iat: int | None, now: float, offset: float, why: str
) -> Step:
    """The program starts. `iat`: that of the last lease."""
    return _step("start", clocks, now, offset, why, file=file, iat=None if iat is None else NOW + iat)


def lease(clocks: tuple[float, float], iat: int, offset: float, why: str) -> Step:
    """A lease answers."""
    return _step("lease", clocks, iat, offset, why, iat=NOW + iat)


def read(clocks: tuple[float, float], now: float, offset: float, why: str) -> Step:
    """The clocks are read."""
    return _step("read", clocks, now, offset, why)


# A program's first ten minutes under a right clock: a lease at 2, the file written at 602.
FIRST_FILE = kept(0, 602, 602)

SEQUENCES: dict[str, list[Step]] = {
    "a right clock, from the first start to the second": [
        start((0, 0), None, None, 0, 0, "no file: the wall clock"),
        lease((2, 2), 2, 0, "the lease says the same"),
        read((602, 602), 602, 0, "both clocks have added 600"),
        start((10 * HOUR, 7), FIRST_FILE, 2, 10 * HOUR, 0, "the wall clock is ahead of `seen`, and offset is 0"),
    ],
    "a clock two days fast at the grant, put right while the program runs": [
        start((2 * DAY, 0), None, None, 2 * DAY, 0, "no file: the wall clock is believed"),
        lease((2 * DAY + 2, 2), 2, -2 * DAY, "the lease sets the time, here backwards"),
        read((2 * DAY + 602, 602), 602, -2 * DAY, "both clocks have added 600"),
        read((662, 662), 662, 0, "60 by the monotonic clock; the wall clock lost 2 days, so the offset gains them"),
        read((677 + 10 * HOUR, 677), 677 + 10 * HOUR, 0, "10 hours of sleep, which only the wall clock saw"),
    ],
    "a clock two days fast at the grant, right at the next start": [
        start(
            (10 * HOUR, 7),
            kept(-2 * DAY, 602, 2 * DAY + 602),
            2,
            10 * HOUR,
            0,
            "the wall clock is behind the file's; itself is nearer to 602 than itself less 2 days",
        ),
        read((10 * HOUR + 300, 307), 10 * HOUR + 300, 0, "both clocks have added 300"),
        start(
            (20 * HOUR, 9),
            kept(0, 10 * HOUR + 300, 10 * HOUR + 300),
            2,
            20 * HOUR,
            0,
            "the offset that was learnt under the wrong clock is gone",
        ),
    ],
    "a clock an hour fast at the grant, right at a start so late that it cannot be seen": [
        start(
            (10 * HOUR, 7),
            kept(-HOUR, 602, HOUR + 602),
            2,
            9 * HOUR,
            -HOUR,
            "the wall clock is not behind the file's: the offset counts; an hour is what the clock was wrong by",
        ),
        lease((10 * HOUR + 3, 10), 10 * HOUR + 3, 0, "and it lasts until the next lease"),
    ],
    "a fast clock that stays fast, and is set back by an hour": [
        start(
            (2 * DAY + 602 - HOUR, 7),
            kept(-2 * DAY, 602, 2 * DAY + 602),
            2,
            602,
            HOUR - 2 * DAY,
            "behind the file's: with the offset it is an hour from 602, without it nearly 2 days; before the lease, "
            "so the offset is made anew from 602",
        ),
        read((2 * DAY + 602, 7 + HOUR), 602 + HOUR, HOUR - 2 * DAY, "both clocks have added an hour"),
    ],
    "a clock a day slow at the grant, put right while the program runs": [
        start((-DAY, 0), None, None, -DAY, 0, "no file: the wall clock is believed"),
        lease((2 - DAY, 2), 2, DAY, "the lease sets the time"),
        read((602 - DAY, 602), 602, DAY, "both clocks have added 600"),
        read((617, 617), 617 + DAY, DAY, "a day more on the wall clock is like sleep: it counts"),
        lease((620, 620), 620, 0, "the next lease sets the time, backwards by a day"),
    ],
    "a clock a day slow at the grant, right at the next start": [
        start(
            (HOUR, 7),
            kept(DAY, 602, 602 - DAY),
            2,
            DAY + HOUR,
            DAY,
            "not behind the file's: with the offset, a day ahead",
        ),
        lease((HOUR + 3, 10), HOUR + 3, 0, "the lease sets the time, backwards"),
        start((2 * HOUR, 4), kept(0, HOUR + 3, HOUR + 3), HOUR + 3, 2 * HOUR, 0, "nothing is left of the day"),
    ],
    "a step back while the program runs, then a sleep": [
        start((602, 0), FIRST_FILE, 2, 602, 0, "the time goes on"),
        read((617 - 10 * DAY, 15), 617, 10 * DAY, "15 by the monotonic clock; the offset gains 10 days"),
        read((632 - 7 * DAY, 30), 632 + 3 * DAY, 10 * DAY, "3 days of sleep, which only the wall clock saw"),
        start(
            (632 - 7 * DAY + HOUR, 7),
            kept(10 * DAY, 632 + 3 * DAY, 632 - 7 * DAY),
            2,
            632 + 3 * DAY + HOUR,
            10 * DAY,
            "an hour later by the wall clock, with the offset",
        ),
    ],
    "a step back during a sleep that the monotonic clock counts": [
        start((602, 0), FIRST_FILE, 2, 602, 0, "the time goes on"),
        read(
            (602 + 2 * HOUR - 10 * DAY, 2 * HOUR),
            602 + 2 * HOUR,
            10 * DAY,
            "2 hours by the monotonic clock; the offset gains 10 days",
        ),
    ],
    "a sleep that only the wall clock sees, and one that both see": [
        start((602, 0), FIRST_FILE, 2, 602, 0, "the time goes on"),
        read((617 + 8 * HOUR, 15), 617 + 8 * HOUR, 0, "15 seconds, and 8 hours more by the wall clock"),
        read((632 + 16 * HOUR, 30 + 8 * HOUR), 632 + 16 * HOUR, 0, "8 hours on both clocks count once"),
    ],
    "clocks that differ by up to a second between readings": [
        start((602, 0), FIRST_FILE, 2, 602, 0, "the time goes on"),
        read((617.75, 15), 617, 0, "15.75 and 15: the monotonic clock counts"),
        read((633.5, 30), 632, 0, "again; the differences do not add up"),
        read((648.5, 46), 648, 0, "15 and 16: a second is not more than a second"),
        read((664.5, 61), 663, 0, "16 and 15: nor is this"),
        read((681, 76), 679.5, 0, "16.5 and 15: more than a second, and all of it counts"),
        read((694.5, 91), 694.5, 1.5, "13.5 and 15: the offset gains the 1.5"),
    ],
    "a clock once ten years ahead while offline, and then a good grant": [
        start((3650 * DAY + HOUR, 7), FIRST_FILE, 2, 3650 * DAY + HOUR, 0, "the clock is believed: it may be right"),
        read((3650 * DAY + HOUR + 300, 307), 3650 * DAY + HOUR + 300, 0, "both clocks have added 300"),
        start(
            (2 * HOUR, 9),
            kept(0, 3650 * DAY + HOUR + 300, 3650 * DAY + HOUR + 300),
            2,
            3650 * DAY + HOUR + 300,
            0,
            "never less than `seen`; the clock is right again, and later than the lease, so the offset stays 0",
        ),
        lease((2 * HOUR + 3, 12), 2 * HOUR + 3, 0, "the lease sets the time, and the file's `seen`, backwards"),
        start(
            (3 * HOUR, 4),
            kept(0, 2 * HOUR + 3, 2 * HOUR + 3),
            2 * HOUR + 3,
            3 * HOUR,
            0,
            "nothing is left of ten years",
        ),
    ],
    "many starts without an answer, the clock set back before each": [
        start((602, 0), FIRST_FILE, 2, 602, 0, "set to the file's reading"),
        read((602 + HOUR, HOUR), 602 + HOUR, 0, "an hour of work"),
        start((602, 7), kept(0, 602 + HOUR, 602 + HOUR), 2, 602 + HOUR, 0, "set back: never less than `seen`"),
        read((602 + HOUR, 7 + HOUR), 602 + 2 * HOUR, 0, "another hour of work"),
        start((602, 9), kept(0, 602 + 2 * HOUR, 602 + HOUR), 2, 602 + 2 * HOUR, 0, "set back again"),
        read((602 + HOUR, 9 + HOUR), 602 + 3 * HOUR, 0, "the third hour"),
        start(
            (-HOUR, 4),
            kept(0, 602 + 3 * HOUR, 602 + HOUR),
            2,
            602 + 3 * HOUR,
            602 + 4 * HOUR,
            "set back to before the lease: the offset leads to `seen`",
        ),
        read((0, 4 + HOUR), 602 + 4 * HOUR, 602 + 4 * HOUR, "the fourth hour"),
        start(
            (-HOUR, 6),
            kept(602 + 4 * HOUR, 602 + 4 * HOUR, 0),
            2,
            602 + 4 * HOUR,
            602 + 4 * HOUR,
            "behind the file's: with the offset it is an hour from `seen`; later than the lease, so the offset stays",
        ),
        read((0, 6 + HOUR), 602 + 5 * HOUR, 602 + 4 * HOUR, "the fifth hour"),
    ],
    "a clock set back by thirty days before a start, and left so": [
        start(
            (600 - 30 * DAY, 7),
            FIRST_FILE,
            2,
            602,
            30 * DAY + 2,
            "behind the file's, and before the lease: `seen`, and the offset leads to it",
        ),
        read((660 - 30 * DAY, 67), 662, 30 * DAY + 2, "a minute of work"),
        start(
            (660 - 27 * DAY, 5),
            kept(30 * DAY + 2, 662, 660 - 30 * DAY),
            2,
            662 + 3 * DAY,
            30 * DAY + 2,
            "3 days later by the wall clock: they count although it is wrong",
        ),
    ],
    "a seat borrowed for five days, and a clock that is two days ahead at one start": [
        start((HOUR + 2 * DAY, 7), FIRST_FILE, 2, HOUR + 2 * DAY, 0, "the clock is believed"),
        read((2 * HOUR + 2 * DAY, 7 + HOUR), 2 * HOUR + 2 * DAY, 0, "an hour of work"),
        start(
            (3 * HOUR, 9),
            kept(0, 2 * HOUR + 2 * DAY, 2 * HOUR + 2 * DAY),
            2,
            2 * HOUR + 2 * DAY,
            0,
            "right again: never less than `seen`, yet the offset stays 0",
        ),
        read((4 * HOUR, 9 + HOUR), 3 * HOUR + 2 * DAY, 0, "an hour of work: 2 days ahead"),
        start(
            (4 * DAY, 5),
            kept(0, 3 * HOUR + 2 * DAY, 4 * HOUR),
            2,
            4 * DAY,
            0,
            "the wall clock has overtaken `seen`: the time is right, and the seat lasts another day",
        ),
    ],
    "a crash after the file was written": [
        start((302, 0), kept(0, 2, 2), 2, 302, 0, "the time goes on"),
        read((902, 600), 902, 0, "ten minutes of work, not written before the crash"),
        start((200, 7), kept(0, 302, 302), 2, 302, 0, "set back: the time of the last writing"),
    ],
    "a file that is older than its lease": [
        start(
            (HOUR, 7),
            kept(0, 602, 602),
            2 * HOUR,
            2 * HOUR,
            HOUR,
            "`seen` is at least the lease's issue; the wall clock is before it, so the offset leads to it",
        ),
    ],
}

UNDER_A_HOLD: dict[str, list[Step]] = {
    "under a hold, a clock eight hours fast at the grant, right at the next start": [
        start(
            (12 * HOUR, 7),
            kept(-8 * HOUR, 602, 8 * HOUR + 602),
            2,
            12 * HOUR,
            0,
            "the wall clock is ahead of the file's, and so is itself less 8 hours; a right clock says the most",
        ),
    ],
    "under a hold, a clock eight hours fast at the grant, right after sleep": [
        start((8 * HOUR, 0), None, None, 8 * HOUR, 0, "no file: the wall clock is believed"),
        lease((8 * HOUR + 2, 2), 2, -8 * HOUR, "the lease sets the time"),
        read((8 * HOUR + 602, 602), 602, -8 * HOUR, "both clocks have added 600"),
        read((12 * HOUR, 602), 12 * HOUR, -8 * HOUR, "by the difference 4 hours of sleep; the right clock says 12"),
        read((12 * HOUR + 60, 662), 12 * HOUR + 60, -8 * HOUR, "both clocks have added 60"),
    ],
}


def times() -> dict[str, Any]:
    """The sequences as the file has them."""
    held = [{"what": what, "hold": True, "steps": steps} for what, steps in UNDER_A_HOLD.items()]
    return {"sequences": [*({"what": what, "steps": steps} for what, steps in SEQUENCES.items()), *held]}
