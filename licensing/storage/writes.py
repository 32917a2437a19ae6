"""Writes as the Table service's protocol has them: single requests and entity group transactions.

The SDK makes a request object with a pipeline for each row, wraps them into a MIME message and parses the reply as one.
That takes 2 times the processor time for a single write, and 10 times for a transaction of 100 (docs/adr/0030). A test
compares the rows that both leave in the store.

https://learn.microsoft.com/rest/api/storageservices/performing-entity-group-transactions
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal
from urllib.parse import quote

Verb = Literal["create", "merge", "put", "delete"]


@dataclass(frozen=True, slots=True)
class Write:
    """A write of one row. `etag`: required version. None: no version check; merge and delete still need the row.

    Columns are texts, booleans, integers of 32 bits, pairs of a number and its type, or datetimes with a time zone.
    None is left out.
    """

    verb: Verb
    key: str
    columns: Mapping[str, Any]
    etag: str | None = None


def create(key: str, columns: Mapping[str, Any]) -> Write:
    """Insert a row that must not exist."""
    return Write("create", key, columns)


def merge(key: str, columns: Mapping[str, Any], etag: str | None = None) -> Write:
    """Change some columns of a row that must exist, at this version if one is given."""
    return Write("merge", key, columns, etag)


def put(key: str, columns: Mapping[str, Any]) -> Write:
    """Write a row, whether or not there was one."""
    return Write("put", key, columns)


def delete(key: str, etag: str | None = None) -> Write:
    """Delete a row that must exist, at this version if one is given."""
    return Write("delete", key, {}, etag)


@dataclass(frozen=True, slots=True)
class Message:
    """An HTTP request."""

    method: str
    url: str
    headers: dict[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """The store's answer to writes that it did not do; `index` is the losing write's place, if the store says so."""

    status: int
    code: str = ""
    index: int | None = None


_json: Final = json.JSONEncoder(separators=(",", ":")).encode  # `dumps` would make an encoder for each row
_METHODS: Final = {"create": "POST", "merge": "PATCH", "put": "PUT", "delete": "DELETE"}


def single(endpoint: str, table: str, partition: str, write: Write) -> Message:
    """A write by itself, to the store at `endpoint`."""
    headers = {"Accept": "application/json;odata=minimalmetadata", "DataServiceVersion": "3.0"}
    url = f"{endpoint}/{table}"
    if write.verb == "create":
        headers["Prefer"] = "return-no-content"
    else:
        url += f"(PartitionKey='{quoted(partition)}',RowKey='{quoted(write.key)}')"
    if write.verb in ("merge", "delete"):
        headers["If-Match"] = "*" if write.etag is None else write.etag
    if write.verb == "delete":
        return Message("DELETE", url, headers, "")
    headers["Content-Type"] = "application/json"
    row = {"PartitionKey": partition, "RowKey": write.key, **_typed(write.columns)}
    return Message(_METHODS[write.verb], url, headers, _json(row))


# No line of a part looks like a boundary: keys are quoted, and JSON escapes line feeds. Azurite knows boundaries by
# these first words.
_BATCH: Final = "batch_of_writes"
_CHANGES: Final = "changeset_of_writes"
_PART: Final = f"--{_CHANGES}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\n"


def transaction(endpoint: str, table: str, partition: str, writes: Sequence[Write]) -> Message:
    """Writes that are all done or none."""
    lines = [f"--{_BATCH}\r\nContent-Type: multipart/mixed; boundary={_CHANGES}\r\n\r\n"]
    for index, write in enumerate(writes):
        part = single(endpoint, table, partition, write)
        named = "".join(f"{name}: {value}\r\n" for name, value in part.headers.items())
        lines.append(
            f"{_PART}Content-ID: {index}\r\n\r\n{part.method} {part.url} HTTP/1.1\r\n"
            f"{named}Content-Length: {len(part.body)}\r\n\r\n{part.body}\r\n"
        )
    lines.append(f"--{_CHANGES}--\r\n--{_BATCH}--\r\n")
    headers = {"Content-Type": f"multipart/mixed; boundary={_BATCH}", "Accept": "application/json"}
    return Message("POST", f"{endpoint}/$batch", headers, "".join(lines))


_ANSWER: Final = re.compile(rb"^HTTP/1\.1 (\d{3})[^\r\n]*\r?\n((?:[^\r\n]+\r?\n)*)", re.MULTILINE)
_ETAG: Final = re.compile(rb"^etag: *([^\r\n]+)", re.MULTILINE | re.IGNORECASE)
_CODE: Final = re.compile(rb'"code"\s*:\s*"(\w+)"')
_INDEX: Final = re.compile(rb'"value"\s*:\s*"(\d+):')


def answers(reply: bytes, count: int) -> list[str] | Rejected:
    """The reply to a transaction of `count` writes: the rows' new ETags, empty for deleted rows, or the rejection."""
    etags = []
    for answer in _ANSWER.finditer(reply):
        status = int(answer[1])
        if not 200 <= status < 300:
            return rejected(status, reply[answer.end() :])
        etag = _ETAG.search(answer[2])
        etags.append(etag[1].decode() if etag else "")
    return etags if len(etags) == count else Rejected(0, "incomplete")


def rejected(status: int, body: bytes) -> Rejected:
    """The rejection that an answer holds."""
    code, index = _CODE.search(body), _INDEX.search(body)
    return Rejected(status, code[1].decode() if code else "", int(index[1]) if index else None)


def quoted(key: str) -> str:
    """A key as it stands between quotes in a URL."""
    # `quote` is quick with a text that it leaves as it is, as it does keys but for their colons.
    return quote(key.replace("'", "''"), safe=":").replace(":", "%3A")


def utc_text(moment: datetime) -> str:
    """An aware datetime as the protocol has it, in UTC."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _typed(columns: Mapping[str, Any]) -> dict[str, Any]:
    """Columns with the types that JSON lacks."""
    typed: dict[str, Any] = {}
    for name, value in columns.items():
        if isinstance(value, datetime):
            typed[name], typed[f"{name}@odata.type"] = utc_text(value), "Edm.DateTime"
        elif isinstance(value, tuple):
            number, kind = value
            typed[name], typed[f"{name}@odata.type"] = str(number), kind
        elif isinstance(value, str | bool) or (isinstance(value, int) and -(2**31) <= value < 2**31):
            typed[name] = value
        elif value is not None:
            raise TypeError(f"column {name}: a {type(value).__name__} cannot be written so")
    return typed
