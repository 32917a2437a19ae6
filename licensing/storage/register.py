"""Values as rows and rows as values: the only place that knows keys and columns.

Partition of a license in `register`:

    license                         the head
    seat:{holder}                   sessions on a shared seat
    active:{session}                a session that runs
    ended:{time}:{session}          a session that has ended, in the order of its end
    denied:{date}:{session}         a start that was refused for want of a seat
    day:{date}  month:{month}       figures; only `users` of a month that outlived the year with few people

Partition of an organization in `directory`: `organization`, `license:{id}`, `month:{month}`.
"""

from datetime import UTC, date, datetime
from typing import Any, Final

from licensing.rules.license import Billing, Kind, Sharing
from licensing.rules.seats import Departure, Head, Known, Session, Terms
from licensing.rules.totals import DayTotals, MonthTotals
from licensing.rules.usage import Denial, Use
from licensing.storage.tables import EdmType, Row, Write, create, delete, merge, put

HEAD: Final = "license"
ACTIVE: Final = "active:"
ENDED: Final = "ended:"
DENIED: Final = "denied:"
SEAT: Final = "seat:"
DAY: Final = "day:"
MONTH: Final = "month:"
FIGURED_TO: Final = "figured_to"
"""Column of the head: the last day (YYYY-MM-DD) whose figures are final."""
CORRECTION: Final = "correction"
"""Column of the head: the id of the last correction of its sessions, random; figures from before it are not final."""

ORGANIZATION: Final = "organization"
LICENSE: Final = "license:"

NO_SEAT: Final = "no-seat-available"


def beyond(prefix: str) -> str:
    """The first key after all keys with a prefix, for use as the end of a key range."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)


def utc(moment: datetime) -> datetime:
    """A plain aware datetime from a column, which comes as a subclass of the SDK's own."""
    return datetime.fromtimestamp(moment.timestamp(), UTC) if type(moment) is not datetime else moment


# Heads.


def head_columns(head: Head) -> dict[str, Any]:
    """All columns of a head but `commit`."""
    return {**terms_columns(head.terms), **state_columns(head), "in_use": head.in_use}


def terms_columns(terms: Terms) -> dict[str, Any]:
    """The columns that come with a license file."""
    return {
        "serial": _long(terms.serial),
        "organization": terms.organization,
        "organization_name": terms.organization_name,
        "product": terms.product,
        "kind": str(terms.kind),
        "seats": terms.seats,
        "overdraft": terms.overdraft,
        "sharing": str(terms.sharing),
        "heartbeat": terms.heartbeat,
        "lease": terms.lease,
        "borrow": terms.borrow,
        "valid_from": terms.valid_from,
        "valid_until": terms.valid_until,
        "project": terms.project,
        "billing": str(terms.billing),
    }


def state_columns(head: Head) -> dict[str, Any]:
    """The columns that operators change."""
    return {"status": "suspended" if head.suspended else "active", "collect": head.collect}


def head_value(row: Row) -> Known[Head]:
    """A head from its row."""
    c = row.columns
    terms = Terms(
        serial=_number(c["serial"]),
        organization=c["organization"],
        organization_name=c["organization_name"],
        product=c["product"],
        kind=Kind(c["kind"]),
        seats=c["seats"],
        overdraft=c["overdraft"],
        sharing=Sharing(c["sharing"]),
        heartbeat=c["heartbeat"],
        lease=c["lease"],
        borrow=c["borrow"],
        valid_from=utc(c["valid_from"]),
        valid_until=utc(c["valid_until"]),
        project=c["project"],
        billing=Billing(c["billing"]),
    )
    head = Head(terms, suspended=c["status"] == "suspended", collect=c["collect"], in_use=c["in_use"])
    return Known(head, row.etag)


def _long(number: int) -> tuple[int, EdmType]:
    return number, EdmType.INT64


def _number(column: Any) -> int:
    # A 64-bit column comes as a pair of its value and its type.
    return int(column[0] if isinstance(column, tuple) else column)


# Sessions.


def session_columns(session: Session) -> dict[str, Any]:
    """The columns of an active session."""
    return {
        "started_at": session.started_at,
        "heartbeat_at": session.heartbeat_at,
        "expires_at": session.expires_at,
        "user": session.user,
        "host": session.host,
        "ip": session.ip,
        "pepper": session.pepper,
        "holder": session.holder,
        "borrowed": session.borrowed,
        "overdraft": session.overdraft,
    }


def session_value(row: Row) -> Known[Session]:
    """A session from its active or its ended row."""
    c = row.columns
    session = Session(
        id=row.key.rpartition(":")[2],
        started_at=utc(c["started_at"]),
        heartbeat_at=utc(c["heartbeat_at"]),
        expires_at=utc(c["expires_at"]),
        user=c["user"],
        host=c["host"],
        ip=c["ip"],
        pepper=c["pepper"],
        holder=c["holder"],
        borrowed=c["borrowed"],
        overdraft=c["overdraft"],
    )
    return Known(session, row.etag)


def ended_key(ended_at: datetime, session: str) -> str:
    """The key of an ended session; such keys sort by the time of the end."""
    return f"{ENDED}{ended_at.astimezone(UTC):%Y%m%dT%H%M%S.%fZ}:{session}"


def arrival(session: Session) -> Write:
    """A session begins."""
    return create(ACTIVE + session.id, session_columns(session))


def heartbeat(session: str, heartbeat_at: datetime, expires_at: datetime) -> Write:
    """A session says that it is still running."""
    return merge(ACTIVE + session, {"heartbeat_at": heartbeat_at, "expires_at": expires_at})


def revival(row: Known[Session]) -> Write:
    """A session that had lapsed goes on under a new lease, if its row is as it was."""
    lease = {name: session_columns(row.value)[name] for name in ("heartbeat_at", "expires_at", "borrowed")}
    return merge(ACTIVE + row.value.id, lease, row.version)


def departure(departure: Departure) -> tuple[Write, Write]:
    """A session ends: its row moves from active to ended."""
    session = departure.row.value
    ended = {
        **session_columns(session),
        "ended_at": departure.ended_at,
        "reason": str(departure.reason),
    }
    return (
        delete(ACTIVE + session.id, departure.row.version),
        create(ended_key(departure.ended_at, session.id), ended),
    )


# Shared seats.


def seat_value(row: Row) -> Known[int]:
    """How many sessions a shared seat has."""
    return Known(row.columns["sessions"], row.etag)


def seat(holder: str, known: Known[int] | None, sessions: int) -> Write | None:
    """A shared seat comes to have so many sessions; None where there is nothing to do."""
    key = SEAT + holder
    if known is None:
        return create(key, {"sessions": sessions}) if sessions else None
    return merge(key, {"sessions": sessions}, known.version) if sessions else delete(key, known.version)


# Denials.


def denied_key(session: str, at: datetime) -> str:
    """The key that folds all the tries of one wait on one day into one row."""
    return f"{DENIED}{at.astimezone(UTC):%Y-%m-%d}:{session}"


def denial(session: str, at: datetime, *, again: bool) -> Write:
    """A start was refused for want of a seat, for the first time that day or `again`."""
    key = denied_key(session, at)
    if again:
        return merge(key, {"last_at": at})
    return create(key, {"first_at": at, "last_at": at, "reason": NO_SEAT})


# What figures are made of.


def use_value(row: Row) -> Use:
    """A session as figures see it, from its active or its ended row."""
    c = row.columns
    return Use(
        session=row.key.rpartition(":")[2],
        started_at=utc(c["started_at"]),
        ended_at=utc(c["ended_at"]) if "ended_at" in c else None,
        user=c["user"],
        host=c["host"],
        holder=c["holder"],
        overdraft=c["overdraft"],
    )


def ended_at(row: Row) -> datetime:
    """When a session ended, from the key of its row alone."""
    time = row.key.removeprefix(ENDED).rpartition(":")[0]
    return datetime.strptime(time, "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)


def denial_value(row: Row) -> Denial:
    """A denial as figures see it."""
    return Denial(session=row.key.rpartition(":")[2], first_at=utc(row.columns["first_at"]))


# Figures.


def day_key(day: date) -> str:
    """The key of a day's figures."""
    return f"{DAY}{day:%Y-%m-%d}"


def month_key(month: str) -> str:
    """The key of a month's figures, of a license or of an organization."""
    return MONTH + month


def day_figures(figures: DayTotals) -> Write:
    """The figures of a day; `hours` as 24 numbers, comma-separated."""
    columns = {
        "sessions": figures.sessions,
        "users": figures.users,
        "hosts": figures.hosts,
        "seat_seconds": _long(figures.seat_seconds),
        "peak": figures.peak,
        "peak_at": figures.peak_at,
        "hours": ",".join(map(str, figures.hours)),
        "denials": figures.denials,
        "waits": figures.waits,
        "overdraft_seconds": _long(figures.overdraft_seconds),
    }
    return put(day_key(figures.day), {name: value for name, value in columns.items() if value is not None})


def day_value(row: Row) -> DayTotals:
    """The figures of a day from their row."""
    c = row.columns
    return DayTotals(
        day=date.fromisoformat(row.key.removeprefix(DAY)),
        sessions=c["sessions"],
        users=c["users"],
        hosts=c["hosts"],
        seat_seconds=_number(c["seat_seconds"]),
        peak=c["peak"],
        peak_at=utc(c["peak_at"]) if "peak_at" in c else None,
        hours=tuple(map(int, c["hours"].split(","))),
        denials=c["denials"],
        waits=c["waits"],
        overdraft_seconds=_number(c["overdraft_seconds"]),
    )


def month_figures(figures: MonthTotals) -> Write:
    """The figures of a month."""
    columns = {
        "users": figures.users,
        "sessions": figures.sessions,
        "hosts": figures.hosts,
        "seat_seconds": None if figures.seat_seconds is None else _long(figures.seat_seconds),
        "peak": figures.peak,
        "peak_at": figures.peak_at,
        "denials": figures.denials,
        "waits": figures.waits,
        "overdraft_seconds": None if figures.overdraft_seconds is None else _long(figures.overdraft_seconds),
    }
    return put(month_key(figures.month), {name: value for name, value in columns.items() if value is not None})


def month_value(row: Row) -> MonthTotals:
    """The figures of a month from their row."""
    c = row.columns
    return MonthTotals(
        month=row.key.removeprefix(MONTH),
        users=c["users"],
        sessions=c.get("sessions"),
        hosts=c.get("hosts"),
        seat_seconds=_number(c["seat_seconds"]) if "seat_seconds" in c else None,
        peak=c.get("peak"),
        peak_at=utc(c["peak_at"]) if "peak_at" in c else None,
        denials=c.get("denials"),
        waits=c.get("waits"),
        overdraft_seconds=_number(c["overdraft_seconds"]) if "overdraft_seconds" in c else None,
    )


# The directory.


def directory_entries(license: str, terms: Terms) -> list[Write]:
    """An organization and one of its licenses."""
    return [
        put(ORGANIZATION, {"name": terms.organization_name}),
        put(LICENSE + license, {"product": terms.product, "kind": str(terms.kind)}),
    ]
