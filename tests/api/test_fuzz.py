"""Requests made from the published contract, right and wrong ones, and attacked tokens, at the running service: each is
answered as the contract says, and never by a 5xx status.
"""

import os
import random
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import urlsplit

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Ok

from licensing.cli.home import Home
from tests import factories
from tests.api.client import CONTRACT
from tests.processes import Served, serving

EXAMPLES: Final = int(os.environ.get("FUZZ_EXAMPLES", "20"))
"""How many requests of each kind; FUZZ_EXAMPLES=2000 by hand."""

SCHEMA: Final = schemathesis.openapi.from_dict(CONTRACT.document)
OPERATIONS: Final = {
    f"{operation.method.upper()} {operation.path}": operation
    for operation in (found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok))
}
WITH_INPUT: Final = {name for name in OPERATIONS if "{session}" in name or "POST" in name or "data" in name}
CASES: Final = [
    *(pytest.param(name, GenerationMode.POSITIVE, id=f"{name} as the contract says") for name in OPERATIONS),
    *(pytest.param(name, GenerationMode.NEGATIVE, id=f"{name} otherwise") for name in OPERATIONS if name in WITH_INPUT),
]

few = settings(
    max_examples=EXAMPLES,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def served(home: Home, azurite: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The service in a process of its own."""
    with serving(home, azurite, log=tmp_path_factory.mktemp("fuzz") / "log") as running:
        yield running


@pytest.fixture(scope="module")
def http() -> Iterator[requests.Session]:
    """Connections that are kept."""
    with requests.Session() as opened:
        yield opened


def hold_against_contract(served: Served, http: requests.Session, case: Case[Any]) -> int:
    """Send a request; the status of its reply, which must be documented and below 500."""
    reply = case.call(base_url=served.url.removesuffix("/api"), session=http, allow_redirects=False)
    path = urlsplit(str(reply.request.url)).path
    assert reply.status_code < 500, reply.text
    CONTRACT.check(
        case.method, path, reply.status_code, {k.lower(): v[0] for k, v in reply.headers.items()}, reply.content
    )
    return reply.status_code


def mangled(token: str, chance: random.Random) -> str:
    """A genuine token, attacked: cut, doubled, changed, spliced or with its parts mixed up."""
    parts = token.split(".")
    place = chance.randrange(len(token))
    attacked = [
        token[:place],
        token[:place] + chance.choice("A_-=.+/\u00e9") + token[place + 1 :],
        ".".join(chance.sample(parts, 3)),
        ".".join([*parts[:2], ""]),
        ".".join([*parts, parts[-1]]),
        f"{parts[0]}..{parts[2]}",
        token * 2,
        token.swapcase(),
    ]
    return chance.choice([text for text in attacked if text != token])  # it may have been an A before


@pytest.mark.parametrize(("name", "mode"), CASES)
def test_requests_made_from_the_contract(
    served: Served, http: requests.Session, name: str, mode: GenerationMode
) -> None:
    @few
    @given(case=OPERATIONS[name].as_strategy(generation_mode=mode))
    def fuzz(case: Any) -> None:
        hold_against_contract(served, http, case)

    fuzz()


@pytest.mark.parametrize("name", [name for name in OPERATIONS if "{session}" in name])
def test_a_lease_that_was_attacked_opens_nothing(home: Home, served: Served, http: requests.Session, name: str) -> None:
    """A session is started, used with its own lease in any way that the contract has, and attacked by all others."""
    license = factories.issue(home, seats=100_000)

    @few
    @given(case=OPERATIONS[name].as_strategy(), seed=st.integers(0), genuine=st.booleans())
    def attack(case: Any, seed: int, genuine: bool) -> None:
        chance = random.Random(seed)
        begun = http.post(f"{served.url}/sessions", json=factories.start_body(license)).json()
        other = http.post(f"{served.url}/sessions", json=factories.start_body(license)).json()
        wrong = [mangled(begun["lease"], chance), other["lease"], license, mangled(license, chance)]
        token = begun["lease"] if genuine else chance.choice(wrong).encode().decode("latin-1")
        case.path_parameters["session"] = begun["session"]
        case.headers["Authorization"] = f"Bearer {token}"
        status = hold_against_contract(served, http, case)
        assert status in ((200, 204) if genuine else (400, 401))
        # Whatever was sent, the session is there unless its own lease ended it.
        read = http.get(f"{served.url}/sessions/{begun['session']}", headers=factories.bearer(begun["lease"]))
        ends = case.method == "DELETE" or name.endswith("/ended")
        assert read.status_code == (410 if genuine and ends else 200)

    attack()


def test_a_license_file_that_was_attacked_starts_nothing(home: Home, served: Served, http: requests.Session) -> None:
    license = factories.issue(home, seats=100_000)

    @few
    @given(seed=st.integers(0))
    def attack(seed: int) -> None:
        wrong = mangled(license, random.Random(seed))
        reply = http.post(f"{served.url}/sessions", json=factories.start_body(wrong))
        assert reply.status_code in (400, 401, 413), reply.text

    attack()
