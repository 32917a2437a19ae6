"""An export of what the register holds on a person: each field with its meaning, and until when it is kept.

The register holds no name. Only somebody who asks with the name learns whose a session is.
"""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, Field


class SessionData(BaseModel, frozen=True, extra="forbid"):
    """One use of one program."""

    license: Annotated[str, Field(description="the license under which the program ran")]
    product: Annotated[str, Field(description="the program")]
    session: Annotated[str, Field(description="a random number that the program made for this use")]
    state: Annotated[Literal["active", "ended"], Field(description="whether the program runs now")]
    started_at: Annotated[datetime, Field(description="when the program started")]
    heartbeat_at: Annotated[datetime, Field(description="when it last said that it was running")]
    expires_at: Annotated[datetime, Field(description="until when it may run without saying so again")]
    lapses_at: Annotated[
        datetime | None, Field(description="when its seat goes to others if nothing more is heard of it")
    ] = None
    ended_at: Annotated[datetime | None, Field(description="when it ended")] = None
    reason: Annotated[
        str | None, Field(description="how it ended: by itself (ended), silently (lapsed), or by the vendor (released)")
    ] = None
    ran_until: Annotated[
        datetime | None, Field(description="until when it ran, if it told that afterwards and ran on after the end")
    ] = None
    late_until: Annotated[
        datetime | None, Field(description="the same, told too late to be counted on one of its days")
    ] = None
    user: Annotated[str, Field(description="pseudonym of the username: a keyed hash, the name cannot be read from it")]
    host: Annotated[str, Field(description="pseudonym of the computer's name")]
    ip: Annotated[str, Field(description="pseudonym of the public address; empty where it was not known")]
    pepper: Annotated[str, Field(description="under which of the service's keys the pseudonyms were made")]
    holder: Annotated[str, Field(description="who holds the seat: the session, or pseudonyms that share one")]
    borrowed: Annotated[bool, Field(description="whether the seat was taken along for a time")]
    overdraft: Annotated[bool, Field(description="whether the seat was beyond those bought")]
    kept_until: Annotated[
        datetime | None, Field(description="when this record is deleted; one year after the end, once it has ended")
    ] = None


class WaitData(BaseModel, frozen=True, extra="forbid"):
    """A start that was refused before it became one of the sessions."""

    license: Annotated[str, Field(description="the license under which the program was to run")]
    session: Annotated[str, Field(description="the session that it became; nothing else says who it was")]
    first_at: Annotated[datetime, Field(description="when it was refused first on that day")]
    last_at: Annotated[datetime, Field(description="when it was refused last on that day")]
    reason: Annotated[str, Field(description="why; this record is deleted once its month has been counted")]


class PersonalData(BaseModel, frozen=True, extra="forbid"):
    """All that the register holds on a person under one organization's licenses."""

    organization: Annotated[str, Field(description="the customer whose licenses were looked through")]
    as_of: Annotated[datetime, Field(description="when that was")]
    licenses: Annotated[int, Field(description="how many licenses were looked through")]
    peppers: Annotated[int, Field(description="under how many of the service's keys was looked")]
    sessions: Annotated[tuple[SessionData, ...], Field(description="what was found, in the order of its beginning")]
    waits: Annotated[tuple[WaitData, ...], Field(description="those of them that had to wait for a seat")] = ()


def as_text(data: PersonalData) -> str:
    """The export for people to read: what was found, then what each field means."""
    lines = [
        f"What the register holds, as of {data.as_of:%Y-%m-%d %H:%M} UTC",
        f"Organization: {data.organization}; licenses looked through: {data.licenses}; under keys: {data.peppers}",
        f"Sessions found: {len(data.sessions)}",
        "",
    ]
    for found in (*data.sessions, *data.waits):
        lines += [f"  {name:<13} {_shown(value)}" for name, value in found if value is not None]
        lines.append("")
    for kind, found_any in ((SessionData, data.sessions), (WaitData, data.waits)):
        if found_any:
            lines.append("What these mean" if kind is SessionData else "And where a start was refused first")
            lines += [f"  {name:<13} {field.description}" for name, field in kind.model_fields.items()]
    return "\n".join(lines).rstrip() + "\n"


def _shown(value: object) -> object:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC" if isinstance(value, datetime) else value
