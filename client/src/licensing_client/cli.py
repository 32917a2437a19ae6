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
from licensing_client.identity import names
from licensing_client.lease import Lease
from licensing_client.license import License, Program, check_license, read_license, utc_day
from licensing_client.machine import End
from licensing_client.reasons import Reason
from licensing_client.run_command import run_command
from licensing_client.seat import Network, Seat, Standing
from licensing_client.state_files import SavedState, StateFiles
from licensing_client.tokens import xs_of
from licensing_client.transport import Cancellation

DONE, FAILED, USAGE, NO_SEAT = 0, 1, 2, 125
TIMEOUT_SECONDS = 10.0
DAY_SECONDS = 86400
ISSUER_KEYS = "LICENSING_ISSUER_KEYS"


class _UsageError(Exception):
    """The command line cannot be followed; the text says why."""


def print_message(text: str) -> None:
    """Tell people, on standard error."""
    print(text, file=sys.stderr, flush=True)


def _program(arguments: argparse.Namespace) -> Program:
    try:
        text = Path(arguments.issuer_keys).read_text("utf-8") if arguments.issuer_keys else os.environ[ISSUER_KEYS]
        program = Program(xs_of(json.loads(text)), product=arguments.product)
        program.keys()
    except KeyError:
        raise _UsageError(f"say whose licenses to trust: --issuer-keys FILE, or {ISSUER_KEYS}") from None
    except OSError as error:
        raise _UsageError(f"--issuer-keys cannot be read: {error.strerror}") from None
    except ValueError:
        raise _UsageError("the issuer keys are no public JSON Web Key Set") from None
    return program


def _network(arguments: argparse.Namespace) -> Network:
    return Network(proxy=arguments.proxy, ca_file=arguments.ca_file, service=arguments.service)


def _license(arguments: argparse.Namespace) -> License | None:
    found = read_license(arguments.file, _program(arguments).keys())
    if isinstance(found, Reason):
        print_message(found.message)
        return None
    return found


def time_left(standing: Standing) -> str:
    """How long a program may run, in words."""
    seconds = standing.left.total_seconds() if standing.left else 0.0
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds // length:.0f} {unit}"
    return f"{seconds:.0f} seconds"


def _print_grace(standing: Standing) -> None:
    print_message(f"The license service cannot be reached. The program may run for another {time_left(standing)}.")


def _print_reason(standing: Standing) -> None:
    if standing.reason:
        print_message(standing.reason.message)


def _hold(arguments: argparse.Namespace) -> int:
    if not arguments.command:
        raise _UsageError("name the program to run, after --")
    seat = Seat(
        _program(arguments),
        arguments.file,
        network=_network(arguments),
        state_directory=arguments.state,
        grace=_print_grace,
        refused=_print_reason,
        lost=_print_reason,
        restored=lambda _standing: print_message("The seat is held again."),
    )
    try:
        if not seat.start().running:
            return NO_SEAT
        return run_command(seat, arguments.command, arguments.save_seconds, print_message)
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
        "valid": f"{utc_day(license.valid_from)} to {utc_day(license.valid_until)}",
        "features": ", ".join(sorted(license.features)) or "none",
        "collects": "use sessions, without names" if license.collect else "nothing",
        "this user": person.user,
        "this host": person.host,
    }
    for name, value in lines.items():
        print(f"{name:<13} {value}")
    now = datetime.datetime.now(datetime.timezone.utc).timestamp()
    refusal = check_license(license, _program(arguments), person, now)
    if refusal:
        print_message(refusal.message)
        return FAILED
    return DONE


def _to_the_minute(time: datetime.datetime) -> str:
    return time.isoformat(timespec="minutes")


def _borrowed_lease(saved: SavedState) -> Lease | None:
    """The lease of a seat that was borrowed and not given back."""
    lease = saved.lease
    return lease if lease is not None and lease.borrowed and saved.open_session_id == lease.session_id else None


def _borrowed_until(license: License, arguments: argparse.Namespace) -> datetime.datetime | None:
    """Until when a seat is borrowed already, and no program uses it."""
    file = StateFiles(license, arguments.state).acquire()
    saved, clock = file.read(), SystemClock()
    file.release()
    lease, monotonic = _borrowed_lease(saved), clock.monotonic()
    if lease is None or saved.timeline(monotonic).now(clock.wall(), monotonic) >= lease.expires_at:
        return None
    return datetime.datetime.fromtimestamp(lease.expires_at, datetime.timezone.utc)


def _borrow(arguments: argparse.Namespace) -> int:
    license = _license(arguments)
    if license is None:
        return FAILED
    if not license.borrow_seconds:
        print_message("Seats of this license cannot be borrowed.")
        return FAILED
    held = _borrowed_until(license, arguments)
    if held is not None:
        print(f"borrowed until {_to_the_minute(held)}")
        print_message("It was borrowed before, and nothing has changed; `return` gives it back.")
        return FAILED
    seat = Seat(
        _program(arguments),
        arguments.file,
        network=_network(arguments),
        state_directory=arguments.state,
        start_within=TIMEOUT_SECONDS,
        borrow_seconds=round(arguments.days * DAY_SECONDS),
    )
    try:
        standing = seat.start()
        if standing.borrowed and standing.expires is not None:
            print(f"borrowed until {_to_the_minute(standing.expires)}")
            return DONE
        print_message(standing.reason.message if standing.reason else "The seat could not be borrowed.")
        return FAILED
    finally:
        seat.close()


def _return(arguments: argparse.Namespace) -> int:
    license = _license(arguments)
    if license is None:
        return FAILED
    file = StateFiles(license, arguments.state).acquire()
    try:
        saved = file.read()
        lease = _borrowed_lease(saved)
        if lease is None:
            print_message("No seat is borrowed here, or the program that uses it still runs.")
            return FAILED
        answer = _network(arguments).to(license).ask(End(lease), TIMEOUT_SECONDS, Cancellation())
        if isinstance(answer, Ended):
            file.write(SavedState(None, None, saved.offset, saved.seen_at))
            print("returned")
            return DONE
        print_message(answer.detail if isinstance(answer, NoAnswer) else "The seat could not be returned.")
        return FAILED
    finally:
        file.release()


def _my_data(arguments: argparse.Namespace) -> int:
    license = _license(arguments)
    if license is None:
        return FAILED
    service = _network(arguments).to(license)
    held: list[object] = []
    for file in StateFiles(license, arguments.state).all():
        saved = file.read()
        if saved.lease is None or saved.open_session_id != saved.lease.session_id:
            continue
        found = service.read(saved.lease, TIMEOUT_SECONDS)
        if isinstance(found, NoAnswer):
            print_message(found.detail)
            return FAILED
        if not isinstance(found, Gone):
            held.append(found)
    print(json.dumps(held, indent=2))
    if not held:
        print_message("The register holds no running session of this user on this computer.")
    return DONE


def _diagnose(arguments: argparse.Namespace) -> int:
    ok = True
    for finding in diagnose(arguments.file, _program(arguments), _network(arguments)):
        print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.step:<10} {finding.detail}", flush=True)
        ok = finding.ok
    return DONE if ok else FAILED


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
    commands_by_name = {
        "hold": (_hold, "hold a seat while a program runs: hold acme.lic -- program args"),
        "check": (_check, "check a license file, without the network"),
        "borrow": (_borrow, "take a seat along on a trip"),
        "return": (_return, "give a borrowed seat back early"),
        "my-data": (_my_data, "show what the register holds on this user's running sessions"),
        "diagnose": (_diagnose, "try each step of the way to a seat"),
    }
    for name, (run, text) in commands_by_name.items():
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
    except _UsageError as error:
        parser.error(str(error))
    return code
