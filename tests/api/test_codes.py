"""A problem code means the same to the service, its contract, the protocol and the client.

The client takes a code that it does not know for no answer, and runs on in grace. So a refusal that is missing in one
of these places is a seat for nothing.
"""

import re
from pathlib import Path
from typing import Any, Final

import pytest
from licensing_client import replies
from licensing_client.answers import Ended, Gone, NoAnswer, Refused, Unaccepted
from licensing_client.transport import Reply

from licensing.api.problems import CODES, MEDIA_TYPE, problem
from licensing.rules.license import Refusal
from tests.api.client import CONTRACT, PROBLEM

PROTOCOL: Final = Path(__file__).parents[2] / "docs" / "protocol.md"
NOT_READ: Final[Any] = None
"""The client compares licenses, sessions and nonces with leases only, and a problem has none."""
CALLS: Final[dict[str, tuple[str, str]]] = {
    "start": ("POST", "/api/sessions"),
    "heartbeat": ("PUT", "/api/sessions/{session}/heartbeat"),
    "end": ("DELETE", "/api/sessions/{session}"),
}
NO_ANSWER: Final = "no answer"
WITHOUT_MEANING: Final = {"malformed-request", "request-too-large", "storage-unavailable", "service-unavailable"}
"""The codes that may be no answer: they say nothing of the license or the session."""


def documented(call: str) -> dict[str, int]:
    """The problem codes that the contract documents for a call, each with its status."""
    replies = CONTRACT.operations()[CALLS[call]]["responses"]
    contents = {int(status): reply.get("content", {}).get(PROBLEM, {}) for status, reply in replies.items()}
    return {code: status for status, content in contents.items() for code in content.get("examples", ())}


def meanings() -> dict[tuple[str, int, str], str]:
    """What section 8 of the protocol says that a call, a status and a code mean."""
    section = PROTOCOL.read_text("utf-8").split("\n## 8. ")[1].split("\n## ")[0]
    found: dict[tuple[str, int, str], str] = {}
    call = ""
    for row in re.findall(r"^\| (.*) \|$", section, re.MULTILINE):
        named, reply, meaning = (
            row.split(" | ") if row.count(" | ") == 2 else ("", *row.removeprefix("| ").split(" | "))
        )
        call = named.strip() or call
        for status, codes in re.findall(r"(\d{3})((?:,? `[a-z-]+`)+)", reply):
            for code in re.findall(r"`([a-z-]+)`", codes):
                (found[call, int(status), code],) = re.findall(r"^\*\*([a-z ]+)\*\*", meaning)
    return found


MEANINGS: Final = meanings()


def heard(call: str, code: str) -> str:
    """What the client makes of this problem."""
    sent = problem(code)
    reply = Reply(sent.status_code, {"content-type": MEDIA_TYPE}, bytes(sent.body))
    if call == "end":
        answer = replies.to_end(reply)
    else:
        read = replies.to_start if call == "start" else replies.to_heartbeat
        answer = read(reply, NOT_READ, NOT_READ, NOT_READ)
    match answer:
        case Refused(reason=reason):
            assert reason.code.value == code
            return "refused"
        case NoAnswer():
            return NO_ANSWER
        case Gone() | Unaccepted() | Ended():
            return type(answer).__name__.lower()
        case _:
            raise AssertionError(f"a problem is no {answer}")


@pytest.mark.parametrize("refusal", Refusal)
def test_a_refusal_is_a_403_that_a_start_can_give(refusal: Refusal) -> None:
    assert CODES[refusal].status == 403
    assert documented("start")[refusal] == 403


@pytest.mark.parametrize(("call", "code"), [(call, code) for call in CALLS for code in documented(call)])
def test_the_protocol_and_the_client_take_a_code_for_the_same(call: str, code: str) -> None:
    meaning = MEANINGS.get((call, CODES[code].status, code), NO_ANSWER)
    assert meaning != NO_ANSWER or code in WITHOUT_MEANING, (
        f"docs/protocol.md, section 8, does not say what {code} means"
    )
    assert heard(call, code) == meaning


def test_the_protocol_gives_no_meaning_to_a_reply_that_never_comes() -> None:
    possible = {(call, status, code) for call in CALLS for code, status in documented(call).items()}
    tolerated = {("end", 410, "session-gone")}
    assert {key for key in MEANINGS.keys() - possible if key[0] in CALLS} == tolerated


def test_every_code_is_one_that_some_operation_gives() -> None:
    given = {
        code
        for operation in CONTRACT.operations().values()
        for reply in operation["responses"].values()
        for code in reply.get("content", {}).get(PROBLEM, {}).get("examples", ())
    }
    elsewhere = {"not-found", "method-not-allowed"}
    assert given == CODES.keys() - elsewhere
