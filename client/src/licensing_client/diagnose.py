"""Tests each step to a seat: file, signature, terms, DNS, connection, proxy, TLS, service, seat.

One exchange covers all network steps: those before the failed step succeeded.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from licensing_client.answers import CurrentFile, Ended, Granted, NoAnswer, Refused
from licensing_client.clock import SystemClock
from licensing_client.errors import Step
from licensing_client.fetched_files import FetchedFilesStore
from licensing_client.identity import names
from licensing_client.license import License, Program, check_license, last_valid_day, read_license
from licensing_client.license_files import CURABLE, FILE_REFUSALS, Judge, LicenseFiles, kept_license_files
from licensing_client.machine import End, Start
from licensing_client.reasons import Code, Reason
from licensing_client.seat import Network
from licensing_client.service import Service
from licensing_client.transport import Cancellation, HttpTransport

TIMEOUT_SECONDS = 10.0
_STEPS = {
    Step.DNS: "the name of the service, or of the proxy, is found",
    Step.CONNECT: "it can be reached",
    Step.PROXY: "the proxy lets us through",
    Step.TLS: "the connection is secure, and the certificate is trusted",
    Step.SERVICE: "the license service answers",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """A step, whether it succeeded, and a sentence for people."""

    step: str
    ok: bool
    detail: str


def _check_file(path: Path, program: Program, state: Path | None) -> tuple[LicenseFiles | None, list[Finding]]:
    license = read_license(path, program.keys())
    if isinstance(license, License):
        return kept_license_files(license, FetchedFilesStore(license, program.keys(), state)), [
            Finding("file", True, "it can be read"),
            Finding("signature", True, "the vendor signed it"),
        ]
    if license.code is Code.LICENSE_INVALID:
        return None, [Finding("file", True, "it can be read"), Finding("signature", False, license.message)]
    return None, [Finding("file", False, license.message)]


def _describe(files: LicenseFiles, license: License) -> str:
    """What a license file says, and which one it is."""
    terms = f"{license.product}, {license.kind}, valid to {last_valid_day(license.valid_until)}"
    if license is files.given:
        return f"{terms}, by the given file, serial {license.serial}"
    terms = f"{terms}, by a newer file, fetched from the service, serial {license.serial}"
    if license is files.counting:
        return terms
    return f"{terms}; serial {files.counting.serial} counts until a start with it is granted"


def _with_newer_file(files: LicenseFiles, program: Program, network: Network) -> LicenseFiles:
    """The files, and a newer one if the service has it, as a start would fetch it."""
    license = files.as_used(files.candidate)
    answer = network.to(license).current(TIMEOUT_SECONDS, Cancellation())
    return files.taking(answer.token, program.keys()) if isinstance(answer, CurrentFile) else files


def _check_network(service: Service, network: Network) -> Iterator[Finding]:
    host = urlsplit(service.base_url).hostname or ""
    proxy = HttpTransport(network.proxy).proxy_for(host)
    secure = service.base_url.startswith("https:")
    failure = service.health(TIMEOUT_SECONDS)
    for step, detail in _STEPS.items():
        if failure is not None and failure.step is step:
            yield Finding(step.value, False, failure.detail)
            return
        if step is Step.PROXY and proxy is None:
            detail = "none is used"
        if step is Step.TLS and not secure:
            detail = "not needed: the service is on this computer"
        yield Finding(step.value, True, detail)


def _check_seat(files: LicenseFiles, license: License, service: Service, judge: Judge) -> Finding:
    """Take a seat and give it back at once. If a newer file is refused, the former one serves, as at a start."""
    note = ""
    answer = service.ask(Start(str(uuid.uuid4()), 0), TIMEOUT_SECONDS, Cancellation())
    former = files.start_refused(license)
    may_fall_back = license is not files.counting and former.refusal(judge) is None
    if may_fall_back and isinstance(answer, Refused) and answer.reason.code in FILE_REFUSALS:
        note = (
            f" with serial {files.counting.serial}, since serial {license.serial} was refused: {answer.reason.message}"
        )
        service = service.under(former.as_used())
        again = service.ask(Start(str(uuid.uuid4()), 0), TIMEOUT_SECONDS, Cancellation())
        answer = answer if isinstance(again, Refused) and again.reason.code in FILE_REFUSALS else again
    match answer:
        case Granted(lease=lease, recorded=recorded, license_serial=in_force):
            ended = service.ask(End(lease), TIMEOUT_SECONDS, Cancellation())
            if recorded and not isinstance(ended, Ended):
                return Finding("seat", False, "a seat was granted, but could not be given back; it lapses")
            seats = f", {answer.seats.total} in all" if answer.seats and license.seats else ""
            newer = f"; programs fetch a newer file, serial {in_force}" if (in_force or 0) > files.newest_serial else ""
            return Finding("seat", True, f"a seat was granted and given back{seats}{note}{newer}")
        case Refused(reason=refusal):
            return Finding("seat", False, refusal.message)
        case NoAnswer(detail=detail):
            return Finding("seat", False, detail)
        case _:
            return Finding("seat", False, "the service gave an answer that does not fit")


def diagnose(path: Path, program: Program, network: Network, state: Path | None = None) -> Iterator[Finding]:
    """The findings in order, up to the first failure. `state`: the directory of the private state."""
    files, findings = _check_file(path, program, state)
    yield from findings
    if files is None:
        return
    person = names().person(files.given.salt, files.given.hosts, files.given.users)

    def judge(license: License) -> Reason | None:
        return check_license(license, program, person, SystemClock().wall())

    refusal = files.refusal(judge)
    if refusal is not None and refusal.code in CURABLE and files.given.collect:
        files = _with_newer_file(files, program, network)
        refusal = files.refusal(judge)
    license = files.to_start(judge)
    yield Finding("terms", refusal is None, refusal.message if refusal else _describe(files, license))
    if refusal is not None:
        return
    if not license.collect:
        yield Finding("seat", True, "this license makes no calls: nothing is collected")
        return
    service = network.to(files.given).under(files.as_used(license))
    for finding in _check_network(service, network):
        yield finding
        if not finding.ok:
            return
    yield _check_seat(files, license, service, judge)
