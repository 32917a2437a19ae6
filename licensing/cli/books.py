"""The vendor's books: every license file that a home has issued, whole, and the orders that asked for them.

They are one SQLite database, which its owner alone reads. A change of the home is one transaction of it: the write lock
of the database is held while the home is read, a decision is made, and the outcome is written. So commands that run at
the same instant change a home one after the other, and a command that dies leaves all of its change or nothing.

SQLite's errors end here. Each function raises SettingsError if the books cannot be read or written.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from licensing.cli.files import PRIVATE
from licensing.crypto.pseudonyms import from_base64url
from licensing.errors import SettingsError
from licensing.rules.license import HIGHEST_SERIAL, License

LOCK_SECONDS: Final = 60.0
"""How long a command waits for another one that changes the same home."""

_VERSION: Final = 1
_SCHEMA: Final = (
    """CREATE TABLE files (
        license_id TEXT NOT NULL, serial INTEGER NOT NULL, jws TEXT, organization_id TEXT NOT NULL, product TEXT,
        kind TEXT, valid_until TEXT NOT NULL, issuer_kid TEXT NOT NULL, lease_kids TEXT NOT NULL, issued_at TEXT,
        order_reference TEXT, PRIMARY KEY (license_id, serial))""",
    "CREATE INDEX files_by_serial ON files (serial)",
    "CREATE TABLE orders (key TEXT PRIMARY KEY, license_id TEXT NOT NULL, content TEXT NOT NULL)",
    f"PRAGMA user_version = {_VERSION}",
)
_COLUMNS: Final = (
    "license_id, serial, jws, organization_id, product, kind, valid_until, issuer_kid, lease_kids, issued_at, "
    "order_reference"
)
_INTO_FILES: Final = f"INTO files ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)"


@dataclass(frozen=True, slots=True)
class IssuedFile:
    """A license file that was issued. `issuer_kid` signed it; `lease_kids` are the lease keys that it names.

    Of a file from before the books, `jws`, `product` and `issued_at` are None; `organization_id` or `kind` are empty
    where an early version has not recorded them. `order` is the vendor's reference of the order, if there was one.
    """

    license_id: str
    serial: int
    jws: str | None
    organization_id: str
    product: str | None
    kind: str
    valid_until: datetime
    issuer_kid: str
    lease_kids: frozenset[str]
    issued_at: datetime | None = None
    order: str | None = None

    @property
    def license(self) -> License | None:
        """What the file says; None if it is from before the books. It is not verified: this home has signed it."""
        return self.signed[0] if self.signed else None

    @property
    def signed(self) -> tuple[License, str] | None:
        """What the file says, and its JWS; None if it is from before the books."""
        if self.jws is None:
            return None
        claims = json.loads(from_base64url(self.jws.split(".")[1]))
        return License.model_validate(claims, by_alias=True, by_name=False), self.jws


@dataclass(frozen=True, slots=True)
class Order:
    """The license that an order made, and a digest of what the order said last."""

    license_id: str
    content: str


class Books:
    """The books within a transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def newest(self) -> list[IssuedFile]:
        """The newest file of each license, by its id."""
        # SQLite takes the other columns from the row that has the maximum.
        found = self._connection.execute(
            f"SELECT {_COLUMNS}, MAX(serial) FROM files GROUP BY license_id ORDER BY license_id"  # noqa: S608 - ours
        )
        return [_decoded(row) for row in found.fetchall()]

    def counting(self) -> list[IssuedFile]:
        """Every file that still counts, by license and serial: older ones do, unless the newest has revoked them."""
        oldest = {file.license_id: file.license.oldest if file.license else 0 for file in self.newest()}
        found = self._connection.execute(f"SELECT {_COLUMNS} FROM files ORDER BY license_id, serial")  # noqa: S608 - ours
        files = map(_decoded, found.fetchall())
        return [file for file in files if file.serial >= oldest[file.license_id]]

    def newest_of(self, license_id: str, below: int = HIGHEST_SERIAL + 1) -> IssuedFile | None:
        """The newest file of a license whose serial is `below` this one; None if there is none."""
        found = self._connection.execute(
            f"SELECT {_COLUMNS} FROM files WHERE license_id = ? AND serial < ? ORDER BY serial DESC LIMIT 1",  # noqa: S608 - ours
            (license_id, below),
        )
        row = found.fetchone()
        return _decoded(row) if row else None

    def free_serial(self, least: int) -> int:
        """The lowest serial from `least` on that no file of this home has, of whatever license."""
        found = self._connection.execute(
            "SELECT MIN(serial) + 1 FROM files AS taken WHERE serial >= ?1"
            " AND EXISTS (SELECT 1 FROM files WHERE serial = ?1)"
            " AND NOT EXISTS (SELECT 1 FROM files WHERE serial = taken.serial + 1)",
            (least,),
        )
        return cast("int | None", found.fetchone()[0]) or least

    def note(self, file: IssuedFile) -> None:
        """Note a file that is issued. Its serial is higher than that of every other file of its license."""
        self._connection.execute(f"INSERT {_INTO_FILES}", _encoded(file))

    def order(self, key: str) -> Order | None:
        """What is noted under the key of an order; None for a new one."""
        row = self._connection.execute("SELECT license_id, content FROM orders WHERE key = ?", (key,)).fetchone()
        return Order(*row) if row else None

    def note_order(self, key: str, order: Order) -> None:
        """Note which license an order has made, in place of what is noted under its key."""
        self._connection.execute(
            "INSERT OR REPLACE INTO orders (key, license_id, content) VALUES (?, ?, ?)",
            (key, order.license_id, order.content),
        )

    def refer(self, license_id: str, order: str) -> None:
        """Note another reference of the order for the newest file of a license."""
        self._connection.execute(
            "UPDATE files SET order_reference = ?2 WHERE license_id = ?1"
            " AND serial = (SELECT MAX(serial) FROM files WHERE license_id = ?1)",
            (license_id, order),
        )

    def take_over(self, files: Iterable[IssuedFile]) -> None:
        """Note files from before the books, but those that are noted already.

        Those were taken over by a command that died before the old file was deleted.
        """
        for file in files:
            self._connection.execute(f"INSERT OR IGNORE {_INTO_FILES}", _encoded(file))


def files_before_books(entries: dict[str, Any]) -> list[IssuedFile]:
    """What a `licenses.json`, from before the books, tells of the newest file of each license.

    ValueError if it is damaged.
    """
    try:
        return [
            IssuedFile(
                license_id,
                int(entry["serial"]),
                None,
                str(entry.get("organization", "")),
                None,
                str(entry.get("kind", "")),
                datetime.fromisoformat(entry["until"]),
                str(entry["issuer_key"]),
                frozenset(map(str, entry["lease_keys"])),
            )
            for license_id, entry in entries.items()
        ]
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError("not as it was written") from error


def _encoded(file: IssuedFile) -> tuple[object, ...]:
    return (
        file.license_id,
        file.serial,
        file.jws,
        file.organization_id,
        file.product,
        file.kind,
        file.valid_until.isoformat(),
        file.issuer_kid,
        json.dumps(sorted(file.lease_kids)),
        file.issued_at and file.issued_at.isoformat(),
        file.order,
    )


def _decoded(row: tuple[Any, ...]) -> IssuedFile:
    license_id, serial, jws, organization_id, product, kind, until, issuer_kid, lease_kids, issued_at, order = row[:11]
    return IssuedFile(
        license_id,
        serial,
        jws,
        organization_id,
        product,
        kind,
        datetime.fromisoformat(until).astimezone(UTC),
        issuer_kid,
        frozenset(json.loads(lease_kids)),
        datetime.fromisoformat(issued_at) if issued_at else None,
        order,
    )


@contextmanager
def open_books(file: Path) -> Iterator[Books]:
    """Open the books for a change, alone: one transaction, which an error undoes. They are made if there are none.

    Raises SettingsError if another command holds them for longer than `LOCK_SECONDS`.
    """
    with _errors_of(file):
        try:
            os.close(os.open(file, os.O_RDWR | os.O_CREAT, PRIVATE))
        except OSError as error:
            raise SettingsError(f"{file} cannot be written: {error.strerror}") from None
        with closing(sqlite3.connect(file, timeout=LOCK_SECONDS, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            try:
                _prepare(connection, file)
                yield Books(connection)
                connection.execute("COMMIT")
            finally:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")


@contextmanager
def read_books(file: Path, before: Sequence[IssuedFile]) -> Iterator[Books]:
    """Open the books to read, without a change of any file. They are empty if there are none.

    Other commands may change them meanwhile; each question is answered by what is noted then. `before` are files
    from before the books that are not taken over yet: the books are read as they would be with them.
    """
    with _errors_of(file), closing(sqlite3.connect(":memory:", isolation_level=None)) as memory:
        # It writes only where it has to undo what a command left that died.
        place = f"{file.absolute().as_uri()}?mode=rw" if file.exists() else ":memory:"
        with closing(sqlite3.connect(place, timeout=LOCK_SECONDS, isolation_level=None, uri=True)) as kept:
            made = _version_of(kept, file) > 0
            if made and not before:
                yield Books(kept)
                return
            if made:
                kept.backup(memory)
        _prepare(memory, file)
        books = Books(memory)
        books.take_over(before)
        yield books


@contextmanager
def _errors_of(file: Path) -> Iterator[None]:
    """SQLite's errors in words for people."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
            raise SettingsError(
                f"another command has been changing {file.parent} for {LOCK_SECONDS:.0f} seconds; wait for its end, "
                "then run this command again"
            ) from None
        raise SettingsError(f"{file} cannot be used ({error})") from None
    except sqlite3.Error as error:
        raise SettingsError(f"{file} cannot be read ({error}); restore it from a backup") from None


def _prepare(connection: sqlite3.Connection, file: Path) -> None:
    if _version_of(connection, file) == 0:
        for statement in _SCHEMA:
            connection.execute(statement)


def _version_of(connection: sqlite3.Connection, file: Path) -> int:
    """The version of the books; 0 if nothing is in them. SettingsError if it is a later one."""
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > _VERSION:
        raise SettingsError(f"{file} was written by a newer version of `licensing`; update this one")
    return version
