"""Whose address counts: what the trusted proxies say, never what the caller says of itself (design, section 6)."""

from collections.abc import Callable
from typing import Final

import pytest

from licensing.cli.home import Home
from tests import factories
from tests.api.client import Api, assert_problem, running

Issue = Callable[..., str]

SOCKET: Final = "192.0.2.1"
FORGED: Final = "198.51.100.66"

SEEN: Final[list[tuple[int, str, list[str], str]]] = [
    # trusted hops, socket, X-Forwarded-For, the address that counts
    (0, SOCKET, [], SOCKET),
    (0, SOCKET, [FORGED], SOCKET),
    (0, "2001:db8:1:2::5", [], "2001:db8:1:2::5"),
    (0, "::ffff:192.0.2.7", [], "192.0.2.7"),
    (1, SOCKET, ["203.0.113.7"], "203.0.113.7"),
    (1, SOCKET, ["203.0.113.7:50123"], "203.0.113.7"),
    (1, SOCKET, [f"{FORGED}, 203.0.113.7:50123"], "203.0.113.7"),
    (1, SOCKET, [FORGED, "203.0.113.7:50123"], "203.0.113.7"),
    (1, SOCKET, [f"{FORGED}:1,{FORGED} ,  203.0.113.7:50123  "], "203.0.113.7"),
    (1, SOCKET, ["[2001:db8:1:2::5]:50123"], "2001:db8:1:2::5"),
    (1, SOCKET, ["[2001:db8:1:2::5]"], "2001:db8:1:2::5"),
    (1, SOCKET, ["2001:db8:1:2::5"], "2001:db8:1:2::5"),
    (1, SOCKET, ["2001:DB8:0001:0002:0:0:0:5"], "2001:db8:1:2::5"),
    (1, SOCKET, ["::ffff:203.0.113.7"], "203.0.113.7"),
    (1, SOCKET, ["[::ffff:203.0.113.7]:50123"], "203.0.113.7"),
    (2, SOCKET, ["203.0.113.7:50123, 10.0.0.4:443"], "203.0.113.7"),
    (2, SOCKET, [f"{FORGED}, 203.0.113.7, 10.0.0.4"], "203.0.113.7"),
    (2, SOCKET, [f"{FORGED}, 203.0.113.7", "10.0.0.4"], "203.0.113.7"),
]

UNKNOWN: Final[list[tuple[int, str, list[str]]]] = [
    (0, "testclient", []),
    (1, SOCKET, []),
    (1, SOCKET, [""]),
    (1, SOCKET, [f"{FORGED},"]),
    (1, SOCKET, ["unknown"]),
    (1, SOCKET, [f"{FORGED}, <script>"]),
    (1, SOCKET, ["203.0.113.7:50123:1"]),
    (1, SOCKET, ["203.0.113.256"]),
    (1, SOCKET, ["0x7f.1"]),
    (1, SOCKET, ["010.1.1.1"]),
    (1, SOCKET, ["["]),
    (1, SOCKET, ["[]:50123"]),
    (1, SOCKET, ["9" * 5000]),
    (2, SOCKET, ["203.0.113.7"]),
]


async def start(
    home: Home, azurite: str, issue: Issue, case: tuple[int, str, list[str]], network: str
) -> tuple[int, str]:
    """Start under a license for one network; the status, and the address's pseudonym that the register then holds."""
    hops, socket, forwarded = case
    async with running(factories.settings(home, azurite, LICENSING_TRUSTED_HOPS=str(hops)), socket=socket) as api:
        headers = [("X-Forwarded-For", entry) for entry in forwarded]
        reply = await api.start(factories.start_body(issue(networks=[network] if network else [])), headers=headers)
        if reply.status_code != 201:
            assert_problem(reply, "network-not-allowed", 403)
            return 403, ""
        held = await api.read(reply.json()["session"], reply.json()["lease"])
        return 201, held.json()["ip"]


def pseudonym(home: Home, address: str) -> str:
    """The pseudonym of an address, or of a /64 as its first address."""
    peppers = factories.settings(home, "UseDevelopmentStorage=true").peppers
    return peppers.pseudonym(peppers.current, "acme", "ip", address)


@pytest.mark.parametrize(("hops", "socket", "forwarded", "address"), SEEN)
async def test_the_address_that_the_trusted_proxies_saw_counts(
    home: Home, azurite: str, issue: Issue, hops: int, socket: str, forwarded: list[str], address: str
) -> None:
    hashed = "2001:db8:1:2::" if ":" in address else address
    case = (hops, socket, forwarded)

    assert await start(home, azurite, issue, case, address) == (201, pseudonym(home, hashed))
    assert await start(home, azurite, issue, case, f"{FORGED}/32") == (403, "")


@pytest.mark.parametrize(("hops", "socket", "forwarded"), UNKNOWN)
async def test_an_address_that_cannot_be_read_is_in_no_network_and_has_no_pseudonym(
    home: Home, azurite: str, issue: Issue, hops: int, socket: str, forwarded: list[str]
) -> None:
    case = (hops, socket, forwarded)

    assert await start(home, azurite, issue, case, "0.0.0.0/0") == (403, "")
    assert await start(home, azurite, issue, case, "::/0") == (403, "")
    assert await start(home, azurite, issue, case, "") == (201, "")


async def test_two_addresses_of_one_home_are_one_pseudonym_and_two_homes_are_two(
    home: Home, azurite: str, issue: Issue
) -> None:
    addresses = ("2001:db8:1:2::5", "2001:db8:1:2:ffff::", "2001:db8:1:3::5")

    first, neighbour, other = [
        (await start(home, azurite, issue, (1, SOCKET, [address]), ""))[1] for address in addresses
    ]

    assert first == neighbour != other


async def test_an_organization_cannot_be_linked_to_another_by_the_address(api: Api, issue: Issue) -> None:
    held = []
    for organization in ("acme", "globex"):
        session, lease = await api.begin(issue(organization={"id": organization, "name": organization}))
        held.append((await api.read(session, lease)).json())

    assert [name for name in ("user", "host", "ip") if held[0][name] == held[1][name]] == []
