"""The command `licensing-client`: for programs that do not embed the client, and for finding out what is
wrong.

Results go to standard output, messages to standard error. Exit codes: 0 done; 1 refused, or something
failed; 2 wrong usage. `hold` passes the program's own on; 125 means that there was no seat and the program
was not run.
"""

import argparse
import datetime
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from licensing_client.answers import Ended, Gone, NoAnswer
from licensing_client.clock import SystemClock
from licensing_client.diagnose import diagnose
from licensing_client.hold import hold
from licensing_client.identity import names
from licensing_client.lease import Lease
from licensing_client.license import License, Program, covers, day, read_license
from licensing_client.machine import End
from licensing_client.memory import Memory, Slots
from licensing_client.reasons import Reason
from licensing_client.seat import Network, Seat, Standing
from licensing_client.tokens import xs_of
from licensing_client.transport import Line

DONE, FAILED, USAGE, NO_SEAT = 0, 1, 2, 125
SECONDS = 10.0
DAY = 86400
ISSUER_KEYS = "LICENSING_ISSUER_KEYS"


class _Usage(Exception):
    """The command line cannot be followed; the text says why."""


def say(text: str) -> None:
    """Tell people, on standard error."""
    print(text, file=sys.stderr, flush=True)


def _program(arguments: argparse.Namespace) -> Program:
    try:
        text = Path(arguments.issuer_keys).read_text("utf-8") if arguments.issuer_keys else os.environ[ISSUER_KEYS]
        program = Program(xs_of(json.loads(text)), product=arguments.product)
        program.keys()
    except KeyError:
        raise _Usage(f"say whose licenses to trust: --issuer-keys FILE, or {ISSUER_KEYS}") from None
    except OSError as error:
        raise _Usage(f"--issuer-keys cannot be read: {error.strerror}") from None
    except ValueError:
        raise _Usage("the issuer keys are no public JSON Web Key Set") from None
    return program


def _network(arguments: argparse.Namespace) -> Network:
    return Network(proxy=arguments.proxy, ca_file=arguments.ca_file, service=arguments.service)


def _license(arguments: argparse.Namespace) -> License | None:
    found = read_license(arguments.file, _program(arguments).keys())
    if isinstance(found, Reason):
        say(found.message)
        return None
    return found


def time_left(standing: Standing) -> str:
    """How long a program may run, in words."""
    seconds = standing.left.total_seconds() if standing.left else 0.0
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _tell_grace(standing: Standing) -> None:
    say(f"The license service cannot be reached. The program may run for another {time_left(standing)}.")


def _tell_reason(standing: Standing) -> None:
    if standing.reason:
        say(standing.reason.message)


def _hold(arguments: argparse.Namespace) -> int:
    if not arguments.command:
        raise _Usage("name the program to run, after --")
    seat = Seat(
        _program(arguments),
        arguments.file,
        network=_network(arguments),
        state_directory=arguments.state,
        grace=_tell_grace,
        refused=_tell_reason,
        lost=_tell_reason,
        restored=lambda _standing: say("The seat is held again."),
    )
    try:
        if not seat.start().running:
            return NO_SEAT
        return hold(seat, arguments.command, arguments.save_seconds, say)
    finally:
        seat.close()


def _check(arguments: argparse.Namespace) -> int:
    license = _license(arguments)
    if license is None:
        return FAILED
    person = names().person(license.salt, license.hosts)
    lines = {
        "license": license.id,
        "organization": license.organization,
        "product": license.product,
        "kind": license.kind,
        "seats": str(license.seats),
        "valid": f"{day(license.valid_from)} to {day(license.valid_until)}",
        "features": ", ".join(sorted(license.features)) or "none",
        "collects": "use sessions, without names" if license.collect else "nothing",
        "this user": person.user,
        "this host": person.host,
    }
    for name, value in lines.items():
        print(f"{name:<13} {value}")
    now = datetime.datetime.now(datetime.timezone.utc).timestamp()
    refusal = covers(license, _program(arguments), person, now)
    if refusal:
        say(refusal.message)
        return FAILED
    return DONE


def _minute(time: datetime.datetime) -> str:
    return time.isoformat(timespec="minutes")


def _borrowed(memory: Memory) -> Lease | None:
    """The lease of a seat that was borrowed and not given back."""
    lease = memory.lease
    return lease if lease is not None and lease.borrowed and memory.open == lease.session else None


def _borrowed_here(license: License, arguments: argparse.Namespace) -> datetime.datetime | None:
    """Until when a seat is borrowed already, and no program uses it."""
    slot = Slots(license, arguments.state).take()
    memory, clock = slot.read(), SystemClock()
    slot.release()
    lease, monotonic = _borrowed(memory), clock.monotonic()
    if lease is None or memory.timeline(monotonic).now(clock.wall(), monotonic) >= lease.expires_at:
        return None
    return datetime.datetime.fromtimestamp(lease.expires_at, datetime.timezone.utc)


def _borrow(arguments: argparse.Namespace) -> int:
    license = _license(arguments)
    if license is None:
        return FAILED
    if not license.borrow:
        say("Seats of this license cannot be borrowed.")
        return FAILED
    held = _borrowed_here(license, arguments)
    if held is not None:
        print(f"borrowed until {_minute(held)}")
        say("It was borrowed before, and nothing has changed; `return` gives it back.")
        return FAILED
    seat = Seat(
        _program(arguments),
        arguments.file,
        network=_network(arguments),
        state_directory=arguments.state,
        start_within=SECONDS,
        borrow_seconds=round(arguments.days * DAY),
    )
    try:
        standing = seat.start()
        if standing.borrowed and standing.expires is not None:
            print(f"borrowed until {_minute(standing.expires)}")
            return DONE
        say(standing.reason.message if standing.reason else "The seat could not be borrowed.")
        return FAILED
    finally:
        seat.close()


def _return(arguments: argparse.Namespace) -> int:
    license = _license(arguments)
    if license is None:
        return FAILED
    slot = Slots(license, arguments.state).take()
    try:
        memory = slot.read()
        lease = _borrowed(memory)
        if lease is None:
            say("No seat is borrowed here, or the program that uses it still runs.")
            return FAILED
        answer = _network(arguments).to(license).ask(End(lease), SECONDS, Line())
        if isinstance(answer, Ended):
            slot.write(Memory(None, None, memory.offset, memory.seen))
            print("returned")
            return DONE
        say(answer.detail if isinstance(answer, NoAnswer) else "The seat could not be returned.")
        return FAILED
    finally:
        slot.release()


def _my_data(arguments: argparse.Namespace) -> int:
    license = _license(arguments)
    if license is None:
        return FAILED
    service = _network(arguments).to(license)
    held: list[object] = []
    for slot in Slots(license, arguments.state).all():
        memory = slot.read()
        if memory.lease is None or memory.open != memory.lease.session:
            continue
        found = service.read(memory.lease, SECONDS)
        if isinstance(found, NoAnswer):
            say(found.detail)
            return FAILED
        if not isinstance(found, Gone):
            held.append(found)
    print(json.dumps(held, indent=2))
    if not held:
        say("The register holds no running session of this user on this computer.")
    return DONE


def _diagnose(arguments: argparse.Namespace) -> int:
    well = True
    for finding in diagnose(arguments.file, _program(arguments), _network(arguments)):
        print(f"{'ok  ' if finding.well else 'FAIL'} {finding.step:<10} {finding.detail}", flush=True)
        well = finding.well
    return DONE if well else FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="licensing-client", description="Seats of a floating license.")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("file", type=Path, help="the license file")
    common.add_argument(
        "--issuer-keys", metavar="FILE", help=f"whose licenses to trust: public JWKS (or {ISSUER_KEYS})"
    )
    common.add_argument("--product", help="refuse license files of other products")
    common.add_argument("--service", metavar="URL", help="in place of the license's own")
    common.add_argument("--proxy", metavar="URL", help="in place of the system's; empty for none")
    common.add_argument("--ca-file", metavar="FILE", help="more certificate authorities to trust (PEM)")
    common.add_argument("--state", metavar="DIR", type=Path, help="where the last lease is kept")
    commands = parser.add_subparsers(dest="verb", required=True)
    verbs = {
        "hold": (_hold, "hold a seat while a program runs: hold acme.lic -- program args"),
        "check": (_check, "check a license file, without the network"),
        "borrow": (_borrow, "take a seat along on a trip"),
        "return": (_return, "give a borrowed seat back early"),
        "my-data": (_my_data, "show what the register holds on this user's running sessions"),
        "diagnose": (_diagnose, "try each step of the way to a seat"),
    }
    for name, (run, text) in verbs.items():
        verb = commands.add_parser(name, parents=[common], help=text, description=text)
        verb.set_defaults(run=run)
        if name == "borrow":
            verb.add_argument("--days", type=float, required=True, help="for how long")
        if name == "hold":
            verb.add_argument(
                "--save-seconds", type=float, default=300.0, help="time to save when the seat is lost (300)"
            )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code."""
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    split = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_args(words[:split])
    arguments.command = words[split + 1 :]
    try:
        code: int = arguments.run(arguments)
    except _Usage as error:
        parser.error(str(error))
    return code
