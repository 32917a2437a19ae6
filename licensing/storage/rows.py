"""Values as rows and rows as values: the only place that knows keys and columns.

Partition of a license in `register`:

    license                         the head
    seat:{holder}                   sessions on a shared seat
    active:{session}                a session that runs
    ended:{time}:{session}          a session that has ended, in the order of its end
    denied:{date}:{session}         a start that was refused for want of a seat
    day:{date}  month:{month}       figures

Partition of an organization in `directory`: `organization`, `license:{id}`, `month:{month}`.
"""

from datetime import UTC, datetime
from typing import Any, Final

from licensing.rules.license import Billing, Kind, Sharing
from licensing.rules.seats import Departure, Head, Known, Session, Terms
from licensing.storage.tables import Row, Write, create, delete, merge, put

HEAD: Final = "license"
ACTIVE: Final = "active:"
ENDED: Final = "ended:"
DENIED: Final = "denied:"
SEAT: Final = "seat:"

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
        "serial": terms.serial if terms.serial < 2**31 else (terms.serial, "Edm.Int64"),
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
    """An active session from its row."""
    c = row.columns
    session = Session(
        id=row.key.removeprefix(ACTIVE),
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


def heartbeat(session: str, heartbeat_at: datetime, expires_at: datetime, etag: str | None = None) -> Write:
    """A session says that it is still running."""
    return merge(ACTIVE + session, {"heartbeat_at": heartbeat_at, "expires_at": expires_at}, etag)


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


def denial(session: str, at: datetime, again: bool) -> Write:
    """A start was refused for want of a seat, for the first time that day or `again`."""
    key = denied_key(session, at)
    if again:
        return merge(key, {"last_at": at})
    return create(key, {"first_at": at, "last_at": at, "reason": NO_SEAT})


# The directory.


def directory_entries(license: str, terms: Terms) -> list[Write]:
    """An organization and one of its licenses."""
    return [
        put(ORGANIZATION, {"name": terms.organization_name}),
        put(LICENSE + license, {"product": terms.product, "kind": str(terms.kind)}),
    ]
