"""`licensing license sessions` and `release`: who holds the seats of a license or waits for one, and how support gets
one back or clears the line.
"""

import re
from datetime import datetime, timedelta
from typing import Annotated, Any

import typer
from typer import Argument, Option

from licensing.cli.context import environment, in_event_loop, operator, store
from licensing.cli.output import count, err, fail, no_license, out, table
from licensing.rules.license import is_identifier
from licensing.rules.line import Place
from licensing.rules.model import EndReason, LicenseState, Session, session_state
from licensing.rules.requests import SESSION_ID, End, Ended, Recall, Recalled, TooManyRecalls
from licensing.services.audit import audited, license_subject, session_subject
from licensing.services.service import utc_now
from licensing.settings import STATUS_CACHE_SECONDS

LicenseId = Annotated[str, Argument(metavar="ID", help="Id of the license.")]


@in_event_loop
async def list_sessions(
    license_id: LicenseId,
    as_json: Annotated[bool, Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the sessions that hold a license's seats now, and those that wait in line, without a word on whose they are.

    A running session was heard of within its lease; a silent one was not. A held one is silent, and keeps its seat for
    the license's hold. A recalled one gets no lease any more; a borrowed one needs no heartbeat. A waiting one has no
    seat, and loses its place when it lapses.
    """
    if not is_identifier(license_id):
        no_license(license_id)
    async with store() as (register, ledger):
        state = await ledger.state(license_id)
        if state is None:
            no_license(license_id)
        sessions = [row.value async for row in register.active(license_id)]
        await ledger.mark_alive()  # it is known then whether the service was away, and nobody had left meanwhile
        waiters = ledger.waiters(state)
    now = utc_now()
    lines = [_session_line(each, state, now) for each in sorted(sessions, key=lambda each: each.started_at)]
    lines += [_place_line(place, position) for position, place in enumerate(waiters, 1)]
    if as_json:
        out.print_json(data=lines, default=datetime.isoformat)
        return
    columns = {
        "session": "session",
        "started_at": "since",
        "heartbeat_at": "last heard",
        "expires_at": "lease until",
        "lapses_at": "lapses at",
        "state": "state",
    }
    if waiters:
        columns["position"] = "place in line"
    rows = [[_shown(line.get(name)) for name in columns] for line in lines]
    out.print(table(*columns.values(), rows=rows))
    waiting = f", {len(waiters)} waiting" if waiters else ""
    err.print(f"{count(state.in_use, 'seat')} of {state.terms.seats} in use{waiting}. Times are UTC.")


def _session_line(session: Session, state: LicenseState, now: datetime) -> dict[str, Any]:
    return {
        "session": session.id,
        "started_at": session.started_at,
        "heartbeat_at": session.heartbeat_at,
        "expires_at": session.expires_at,
        "lapses_at": session.lapses_at,
        "state": session_state(session, state, now),
    }


def _place_line(place: Place, position: int) -> dict[str, Any]:
    return {
        "session": place.session_id,
        "started_at": place.arrived_at,
        "heartbeat_at": place.heard_at,
        "expires_at": None,
        "lapses_at": place.left_at(None),
        "state": "waiting",
        "position": position,
    }


def release(
    license_id: LicenseId,
    session_id: Annotated[
        str | None, Argument(metavar="[SESSION]", help="Id of the session; see `license sessions`.")
    ] = None,
    lost: Annotated[
        bool,
        Option("--lost", help="The computer is stolen or dead: free the seat at once, though its program may run on."),
    ] = False,
    waiting: Annotated[
        bool, Option("--waiting", help="Instead of a session: clear the whole line. Who waits on gets a new place.")
    ] = False,
) -> None:
    """Get a seat back: its program saves and stops at its next heartbeat. The seat is free then, never before.

    A session that waits in line loses its place. If its program waits on, it gets one at the end of the line.
    """
    if waiting == (session_id is not None) or (waiting and lost):
        raise typer.BadParameter("give the id of a session, or --waiting alone; nothing was released")
    if session_id is None:
        _clear_line(license_id)
    else:
        _release(license_id, session_id, lost=lost)


@in_event_loop
async def _clear_line(license_id: str) -> None:
    async with store() as (register, ledger):
        license = await license_subject(register, license_id)
        if license is None:
            no_license(license_id)
        async with audited(register, utc_now, operator(), "release --waiting", license):
            cleared = await ledger.clear_line(license_id)
    err.print(f"{count(cleared, 'place')} in line cleared." if cleared else "Nobody waits in line.")


@in_event_loop
async def _release(license_id: str, session_id: str, *, lost: bool) -> None:
    if not re.fullmatch(SESSION_ID, session_id):
        raise typer.BadParameter("SESSION is the id of a session, a UUID; nothing was released")
    session_id = session_id.lower()
    async with store() as (register, ledger):
        license = await license_subject(register, license_id)
        state = await ledger.state(license_id) if license else None
        if license is None or state is None:
            no_license(license_id)
        session = await ledger.session(license_id, session_id)
        what = "release --lost" if lost else "release"
        async with audited(register, utc_now, operator(), what, session_subject(license, session_id)):
            request = End(session_id, EndReason.LOST) if lost else Recall(session_id)
            outcome = (await ledger.submit(license_id, request)).outcome
            left_line = outcome == Ended(now=False) and await ledger.clear_line(license_id, [session_id])
    match outcome:
        case Recalled(recalled):
            err.print(_when_free(recalled, state))
        case Ended(now=True) if session:
            until = state.terms.runs_until(session, _last_heartbeat())
            err.print(f"The seat is free. Until {_time(until)} UTC, its program may run on beside another.")
        case TooManyRecalls():
            fail("So many seats are being released that there is no room for another. Wait until programs have ended.")
        case _ if left_line:
            err.print("Its place in line is cleared. If its program waits on, it gets one at the end of the line.")
        case _:
            fail("No such session is active under this license, and none waits in line.")


def _last_heartbeat() -> datetime:
    """When the last heartbeat may be accepted by a process that has cached the license's state."""
    return utc_now() + timedelta(seconds=STATUS_CACHE_SECONDS.read(environment()))


def _when_free(session: Session, state: LicenseState) -> str:
    latest = f"{_time(state.terms.latest_lapse(session, _last_heartbeat()))} UTC"
    if session.borrowed:
        return f"Recalled. The seat is borrowed: it is free when its program has ended, at the latest at {latest}."
    return f"Recalled. Its program stops at its next heartbeat. The seat is free when it has ended, by {latest}."


def _shown(value: Any) -> Any:
    return _time(value) if isinstance(value, datetime) else value


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
