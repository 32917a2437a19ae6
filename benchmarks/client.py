"""What the client costs the program that embeds it, against the same requests by the standard library alone.

The naive way sends each request over a connection of its own, as the client does, and believes what comes back; the
client checks the license file before, and every lease after. Both run in this process, beside the service.
"""

import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any, TypeVar
from urllib.parse import urlsplit

from licensing_client import Program, Seat
from licensing_client.answers import Granted
from licensing_client.identity import names
from licensing_client.license import License, read_license
from licensing_client.machine import Heartbeat, Start
from licensing_client.service import Service
from licensing_client.tokens import xs_of
from licensing_client.transport import Cancellation, HttpTransport

from benchmarks.common import ROOT, Bench, Line
from tests import factories
from tests.processes import serving

SECONDS = 10.0
STANDARD = "ssl, http.client, json, threading"
Result = TypeVar("Result")

Costs = defaultdict[str, list[float]]


async def run(bench: Bench) -> list[Line]:
    """Import, start, heartbeat and end, in turn with the naive way."""
    rounds, times = bench.choose(9, 3), bench.choose(50, 10)
    client, naive = Costs(list), Costs(list)
    for _ in range(rounds):
        client["import"].append(imported("licensing_client"))
        naive["import"].append(imported(STANDARD))
    with serving(bench.home, bench.storage, log=bench.folder / "client.log") as served:
        file = bench.folder / "acme.lic"
        file.write_text(factories.issue(bench.home, seats=10_000, service=served.url), encoding="utf-8")
        keys = xs_of(json.loads((bench.home.folder / "issuer-keys.json").read_text(encoding="utf-8")))
        program = Program(keys)
        license = read_license(file, program.keys())
        if not isinstance(license, License):
            raise TypeError(f"the license file was not accepted: {license.code}")
        for number in range(-1, rounds):  # the first is for warming up
            spent = (client, naive) if number >= 0 else (Costs(list), Costs(list))
            for _ in range(times):
                by_the_client(spent[0], program, license, lambda: Seat(program, file, state_directory=bench.folder))
                by_hand(spent[1], served.url, license)

    def lines(name: str, what: str) -> list[Line]:
        return [
            Line(f"{what}: {kind} time (naive: {how})", "ms", per_round(client, key), per_round(naive, key))
            for kind in ("wall", "processor")
            for key, how in ((f"{name} {kind}", "the same request by http.client"),)
        ]

    def per_round(costs: Costs, key: str) -> list[float]:
        return [sum(costs[key][first : first + times]) / times * 1000 for first in range(0, rounds * times, times)]

    return [
        Line(
            f"import licensing_client, processor time (naive: import {STANDARD})",
            "ms",
            client["import"],
            naive["import"],
        ),
        *lines("start", "start of a seat, thread and license file included"),
        *lines("heartbeat", "heartbeat"),
        *lines("close", "end of a seat"),
    ]


def imported(what: str) -> float:
    """Milliseconds of processor time that an import takes in a fresh interpreter."""
    code = f"import time; began = time.process_time(); import {what}; print(time.process_time() - began)"
    path = str(ROOT / "client" / "src")
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path.append({path!r}); {code}"], **OUTPUT)
    return float(done.stdout) * 1000


OUTPUT: Any = {"check": True, "capture_output": True, "text": True}


def timed(costs: Costs, name: str, what: Callable[[], Result]) -> Result:
    """Do something, and note the seconds that it took, by the clock and of the processor."""
    wall, processor = time.perf_counter(), time.process_time()
    result = what()
    costs[f"{name} wall"].append(time.perf_counter() - wall)
    costs[f"{name} processor"].append(time.process_time() - processor)
    return result


def by_the_client(costs: Costs, program: Program, license: License, seat: Callable[[], Seat]) -> None:
    """One seat from its start to its end as a program takes it, and a heartbeat as the client's thread sends it."""
    taken = seat()
    if not timed(costs, "start", taken.start).running:
        raise RuntimeError(f"the seat was refused: {taken.standing.reason}")
    timed(costs, "close", taken.close)
    service = Service(license, names().person(license.salt, license.hosts), HttpTransport())
    started = service.ask(Start(factories.new_session_id(), 0), SECONDS, Cancellation())
    if not isinstance(started, Granted):
        raise TypeError(f"no seat: {started}")
    again = timed(costs, "heartbeat", lambda: service.ask(Heartbeat(started.lease), SECONDS, Cancellation()))
    if not isinstance(again, Granted):
        raise TypeError(f"no heartbeat: {again}")


def by_hand(costs: Costs, base: str, license: License) -> None:
    """The same, without a look at what comes back."""
    start = factories.start_body(license.token)
    session = start["session"]
    lease = timed(costs, "start", lambda: exchange(base, "POST", "/sessions", start))["lease"]
    nonce = {"nonce": factories.new_nonce()}
    timed(costs, "heartbeat", lambda: exchange(base, "PUT", f"/sessions/{session}/heartbeat", nonce, lease))
    timed(costs, "close", lambda: exchange(base, "DELETE", f"/sessions/{session}", None, lease))


def exchange(base: str, method: str, path: str, body: Any, lease: str = "") -> dict[str, Any]:
    """One request by the standard library, over a connection of its own; what the reply says."""
    address = urlsplit(base)
    connection = HTTPConnection(address.netloc, timeout=SECONDS)
    data = json.dumps(body, separators=(",", ":")) if body else None
    headers = {"Content-Type": "application/json", **(factories.bearer(lease) if lease else {})}
    connection.request(method, address.path + path, data, headers)
    reply = connection.getresponse()
    said = reply.read()
    connection.close()
    if reply.status >= 300:
        raise RuntimeError(f"the service answered {reply.status}")
    return json.loads(said) if said else {}
