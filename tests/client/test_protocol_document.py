"""docs/protocol.md says what the client does: its codes, its numbers, its files."""

import json
import re
from pathlib import Path

import pytest
from licensing_client import identity, license, machine, replies, seat, tokens, transport
from licensing_client.engine import EXCHANGE_SECONDS
from licensing_client.reasons import Code

from licensing.api.problems import CODES
from licensing.rules.names import WHITE_SPACE

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "protocol.md").read_text("utf-8")
HERE = {Code.BORROWING_NOT_ALLOWED, Code.CANNOT_OPEN}
"""Reasons of this client's own, which no other has to have."""


def test_every_reason_has_its_place() -> None:
    assert [code.value for code in Code if code not in HERE and f"`{code.value}`" not in TEXT] == []


def test_every_code_of_a_programs_calls_has_its_meaning() -> None:
    others = {"token-invalid", "not-found", "method-not-allowed", "request-too-large"}  # never meant for a program
    unavailable = {"storage-unavailable", "service-unavailable"}  # known by their status
    assert [code for code in CODES if code not in others | unavailable and f"`{code}`" not in TEXT] == []
    assert {CODES[code][0] for code in unavailable} == {503}


@pytest.mark.parametrize(
    "sentence",
    [
        f"at most {tokens.MAX_CHARACTERS:,} characters",
        f"at most {license.FILE_LIMIT_BYTES:,} bytes",
        f"min(2ⁿ⁻¹, {machine.BACKOFF_LIMIT_SECONDS:.0f}) seconds",
        f"{machine.CONFIRM_AFTER_SECONDS:.0f} seconds times random 1 to 1.5, once",
        f"every {machine.POLL_SECONDS:.0f} seconds; "
        f"{machine.POLL_SECONDS + machine.SLEEP_GAP_SECONDS:.0f} seconds or more",
        f"or {machine.Terms(0, floating=True).start_within_seconds:.0f} seconds: *grace*",
        f"at most {EXCHANGE_SECONDS:.0f} seconds each",
        f"believed up to {replies.RETRY_AFTER_LIMIT_SECONDS}",
        f"random 1 to {1 + machine.SPREAD_IN_LINE:.1f} with a [place in line](#waiting-in-line), "
        f"1 to {1 + machine.SPREAD_WITHOUT_PLACE:.1f} without",
        f"({replies.NO_SEAT_RETRY_SECONDS} where it is missing or 0)",
        f"gave no seat back within the last {machine.GIVE_BACK_SECONDS:.0f} seconds",
        f"larger than {transport.REPLY_LIMIT_BYTES // 1024} KiB",
        f"within {seat.CLOSE_SECONDS:.0f} seconds",
    ],
)
def test_the_numbers_are_those_of_the_client(sentence: str) -> None:
    assert sentence in TEXT


def test_white_space_is_the_same_to_the_protocol_the_client_and_the_service() -> None:
    (listed,) = re.findall(r"White_Space, and nothing else: (.*?)\. ", TEXT)
    bounds = [[int(bound, 16) for bound in re.findall(r"U\+(\w+)", each)] for each in listed.split(", ")]
    points = [point for each in bounds for point in range(each[0], each[-1] + 1)]
    assert len(points) == 25
    assert identity.WHITE_SPACE == WHITE_SPACE == "".join(map(chr, points))


def test_its_links_lead_somewhere() -> None:
    headings = {
        re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-")
        for heading in re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    }
    for target in re.findall(r"\]\(([^)]+)\)", TEXT):
        if target.startswith("#"):
            assert target[1:] in headings, target
        else:
            assert (ROOT / "docs" / target).exists(), target


def test_its_examples_are_json() -> None:
    examples = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        json.loads(example)
