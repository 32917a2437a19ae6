"""The command `licensing-client`: seats for programs that do not embed the client, and diagnosis.

Results go to standard output, messages to standard error. Exit codes: 0 success, 1 refusal or failure, 2 wrong
usage. `hold` exits with the program's own code, with 125 if there is no seat, or with 130 if Ctrl+C ended the wait for
one.
"""

import argparse
import datetime
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from licensing_client.answers import Ended, Gone, NoAnswer
from licensing_client.clock import SystemClock
from licensing_client.diagnose import diagnose
from licensing_client.fetched_files import FetchedFilesStore
from licensing_client.identity import names
from licensing_client.lease import Lease
from licensing_client.license import (
    License,
    Program,
    check_license,
    ends_in,
    last_valid_day,
    read_license,
    utc_day,
    utc_time,
)
from licensing_client.license_files import CURABLE, LicenseFiles, kept_license_files
from licensing_client.machine import UNSENT, End
from licensing_client.reasons import Reason
from licensing_client.run_command import run_command
from licensing_client.seat import Network, Seat, Standing
from licensing_client.state_files import SavedState, StateFiles, computer_hash
from licensing_client.tokens import xs_of
from licensing_client.transport import Cancellation
from licensing_client.waiting import place_text, refusal_text, wait_for_seat

DONE, FAILED, USAGE, NO_SEAT, INTERRUPTED = 0, 1, 2, 125, 130
TIMEOUT_SECONDS = 10.0
DAY_SECONDS = 86400
ISSUER_KEYS = "LICENSING_ISSUER_KEYS"


class _UsageError(Exception):
    """The command line is wrong; the text says how."""


def print_message(text: str) -> None:
    """Print a message for people on standard error, in one piece: callbacks print on a thread of their own."""
    print(f"{text}\n", end="", file=sys.stderr, flush=True)


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
        what = "the issuer keys are no public JSON Web Key Set"
        hint = "" if arguments.issuer_keys else f"; {ISSUER_KEYS} holds its text, and --issuer-keys names a file"
        raise _UsageError(what + hint) from None
    return program


def _network(arguments: argparse.Namespace) -> Network:
    return Network(proxy=arguments.proxy, ca_file=arguments.ca_file, service=arguments.service)


def _license_files(arguments: argparse.Namespace) -> LicenseFiles | None:
    """The given license file, and those that the service sent earlier."""
    keys = _program(arguments).keys()
    given = read_license(arguments.file, keys)
    if isinstance(given, Reason):
        print_message(given.message)
        return None
    return kept_license_files(given, FetchedFilesStore(given, keys, arguments.state))


def _license(arguments: argparse.Namespace) -> License | None:
    """The license by the file that counts."""
    files = _license_files(arguments)
    return files.as_used() if files is not None else None


def time_left(standing: Standing) -> str:
    """The time that the program may still run, in words."""
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


def _print_waiting(standing: Standing) -> None:
    print_message(refusal_text(standing))


def _print_place(standing: Standing) -> None:
    print_message(place_text(standing))


def _ignore(_standing: Standing) -> None:
    """Say nothing."""


def _print_borrowed(standing: Standing) -> None:
    if standing.borrowed and standing.expires:
        print_message(f"The seat is borrowed until {_to_the_minute(standing.expires)}; `return` gives it back.")


def _print_end(left: datetime.timedelta | None, day: str | None) -> None:
    """Warn of the license's end, if that is near. After it, the refusal tells it."""
    if not left:
        return
    when = {0: "within a day", 1: "in 1 day"}.get(left.days, f"in {left.days} days")
    print_message(f"The license ends on {day}, {when}; ask your license administrator to renew it.")


def _hold(arguments: argparse.Namespace) -> int:
    if not arguments.command:
        raise _UsageError("name the program to run, after --")
    waits = arguments.wait or arguments.max_wait is not None
    seat = Seat(
        _program(arguments),
        arguments.file,
        network=_network(arguments),
        state_directory=arguments.state,
        wait=waits,
        waiting=_print_place if waits else _ignore,
        granted=_print_borrowed,
        grace=_print_grace,
        refused=_print_waiting if waits else _print_reason,
        lost=_print_reason,
        restored=lambda _standing: print_message("The seat is held again."),
    )
    try:
        standing = seat.start()
        _print_end(standing.ends_in, standing.ends_on)
        if not standing.running and not (waits and wait_for_seat(seat, arguments.max_wait, print_message)):
            return NO_SEAT
        return run_command(
            seat, arguments.command, arguments.save_seconds, print_message, command_only=arguments.command_only
        )
    except KeyboardInterrupt:  # before the program ran, which gets it itself
        return INTERRUPTED
    finally:
        seat.close()


def _check(arguments: argparse.Namespace) -> int:
    files = _license_files(arguments)
    if files is None:
        return FAILED
    license = files.as_used()
    person = names().person(license.salt, license.hosts, license.users)
    lines = {
        "license": license.id,
        "file": f"{'given' if files.counting is files.given else 'fetched from the service'}, serial {license.serial}",
        "organization": license.organization,
        "product": license.product,
        "kind": license.kind,
        "seats": str(license.seats),
        "valid": f"{utc_day(license.valid_from)} to {last_valid_day(license.valid_until)}",
        "features": ", ".join(sorted(license.features)) or "none",
        "collects": "use sessions, without names" if license.collect else "nothing",
        "this user": person.user,
        "this host": person.host,
    }
    for name, value in lines.items():
        print(f"{name:<13} {value}")
    if files.candidate is not None:
        print_message(
            f"A newer file, serial {files.candidate.serial}, valid to {last_valid_day(files.candidate.valid_until)}, "
            "was fetched. It counts once the program has been started with it."
        )
    now = datetime.datetime.now(datetime.timezone.utc).timestamp()
    _print_end(ends_in(files.valid_until, now), last_valid_day(files.valid_until))
    program = _program(arguments)
    refusal = files.refusal(lambda each: check_license(each, program, person, now))
    if refusal:
        print_message(refusal.message)
        if refusal.code in CURABLE and files.given.collect:
            print_message("A start asks the service for a newer file first; `diagnose` says whether there is one.")
        return FAILED
    return DONE


def _state_files(license: License, arguments: argparse.Namespace) -> StateFiles:
    return StateFiles(license, computer_hash(names(), license.salt), arguments.state)


def _to_the_minute(time: datetime.datetime) -> str:
    return time.isoformat(timespec="minutes")


def _borrowed_lease(saved: SavedState) -> Lease | None:
    """The lease of a seat that is borrowed and not returned."""
    lease = saved.lease
    return lease if lease is not None and lease.borrowed and saved.open_session_id == lease.session_id else None


def _borrowed_until(license: License, arguments: argparse.Namespace) -> datetime.datetime | None:
    """The end of a borrowed seat that no program uses; None if there is none."""
    file = _state_files(license, arguments).acquire()
    saved, clock = file.read(), SystemClock()
    file.release()
    lease = _borrowed_lease(saved)
    if lease is None or saved.replaces or saved.timeline(clock.wall(), clock.monotonic()).now >= lease.expires_at:
        return None
    return utc_time(lease.expires_at)


def _borrow(arguments: argparse.Namespace) -> int:
    license = _license(arguments)
    if license is None:
        return FAILED
    if not license.borrow_seconds:
        print_message("Seats of this license cannot be borrowed.")
        return FAILED
    until = _borrowed_until(license, arguments)
    if until is not None:
        print(f"borrowed until {_to_the_minute(until)}")
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
        print_message(standing.reason.message if standing.reason else "The service has not confirmed it; try again.")
        return FAILED
    finally:
        seat.close()


def _return(arguments: argparse.Namespace) -> int:
    license = _license(arguments)
    if license is None:
        return FAILED
    file = _state_files(license, arguments).acquire()
    try:
        saved = file.read()
        lease = _borrowed_lease(saved)
        if lease is None:
            print_message("No seat is borrowed here, or the program that uses it still runs.")
            return FAILED
        answer = _network(arguments).to(license).ask(End(lease), TIMEOUT_SECONDS, Cancellation())
        if isinstance(answer, Ended):
            file.write(SavedState(time=saved.time, heartbeat_seconds=saved.heartbeat_seconds, reports=saved.reports))
            print("returned")
            return DONE
        if not (isinstance(answer, NoAnswer) and answer.step in UNSENT):
            file.write(replace(saved, replaces=True))  # it may have been returned
        print_message(answer.detail if isinstance(answer, NoAnswer) else "The seat could not be returned.")
        return FAILED
    finally:
        file.release()


def _my_data(arguments: argparse.Namespace) -> int:
    license = _license(arguments)
    if license is None:
        return FAILED
    service = _network(arguments).to(license)
    sessions: list[object] = []
    for file in _state_files(license, arguments).all():
        saved = file.read()
        if saved.lease is None or saved.open_session_id != saved.lease.session_id:
            continue
        data = service.read(saved.lease, TIMEOUT_SECONDS)
        if isinstance(data, NoAnswer):
            print_message(data.detail)
            return FAILED
        if not isinstance(data, Gone):
            sessions.append(data)
    print(json.dumps(sessions, indent=2))
    if not sessions:
        print_message("The register holds no running session of this user on this computer.")
    return DONE


def _diagnose(arguments: argparse.Namespace) -> int:
    ok = True
    for finding in diagnose(arguments.file, _program(arguments), _network(arguments), arguments.state):
        print(f"{'ok  ' if finding.ok else 'FAIL'} {finding.step:<10} {finding.detail}", flush=True)
        ok = finding.ok
    return DONE if ok else FAILED


def _seconds(text: str) -> float:
    """A length of time on the command line. Raises ArgumentTypeError for another text."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds; give 0 or more, as in 90 or 0.5")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="licensing-client", description="Take, borrow and return seats of a floating license."
    )
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("file", type=Path, help="the license file")
    common.add_argument(
        "--issuer-keys",
        metavar="FILE",
        help=f"the issuer keys to trust, a public JWKS (default: the text in the variable {ISSUER_KEYS})",
    )
    common.add_argument("--product", help="refuse license files of other products")
    common.add_argument("--service", metavar="URL", help="the service (default: the license's own)")
    common.add_argument("--proxy", metavar="URL", help="the HTTP proxy (default: the system's; empty for none)")
    common.add_argument("--ca-file", metavar="FILE", help="more certificate authorities to trust (PEM)")
    common.add_argument(
        "--state", metavar="DIR", type=Path, help="the directory of the private state (default: the system's)"
    )
    subparsers = parser.add_subparsers(dest="verb", required=True)
    commands = {
        "hold": (_hold, "run a program and hold a seat while it runs: hold acme.lic -- program args"),
        "check": (_check, "check a license file offline"),
        "borrow": (_borrow, "borrow a seat for a trip"),
        "return": (_return, "return a borrowed seat early"),
        "my-data": (_my_data, "show the register's data on this user's running sessions"),
        "diagnose": (_diagnose, "test each step to a seat, and name the one that fails"),
    }
    for name, (run, text) in commands.items():
        command = subparsers.add_parser(name, parents=[common], help=text, description=text)
        command.set_defaults(run=run)
        if name == "borrow":
            command.add_argument("--days", type=float, required=True, help="how many days to borrow it for")
        if name == "hold":
            command.add_argument(
                "--save-seconds",
                type=float,
                default=300.0,
                help="seconds to save work after the seat is lost (default: 300)",
            )
            command.add_argument(
                "--wait", action="store_true", help="if all seats are taken, wait in line, and show the place"
            )
            command.add_argument(
                "--max-wait", type=_seconds, metavar="SECONDS", help="wait no longer than so many seconds"
            )
            command.add_argument(
                "--command-only",
                action="store_true",
                help="give the seat back when the command ends, although what it has started runs on",
            )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code."""
    parser = _parser()
    words = list(sys.argv[1:] if argv is None else argv)
    split = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_args(words[:split])
    arguments.command = words[split + 1 :]
    try:
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has ended, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except _UsageError as error:
        parser.error(str(error))
    return code
