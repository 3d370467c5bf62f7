"""What the library keeps in a session's database, read without the library.

Table and column names: whatsmeow store/sqlstore upgrades, read from databases that neonize 0.5.2 made
(docs/internals/library.md#database-and-identity).  The file belongs to the library; wad only reads it, but for one
table that the library leaves to grow.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import quote

from wad.core.errors import BadInput, Damaged, EngineFailure, NotFound, Unavailable
from wad.core.jid import Jid
from wad.core.text import is_ident, mended
from wad.engine.session_db_schema import LARGEST, unexpected
from wad.lib.foreign_sqlite import Guard, check_log, schema_of

_VERSIONS: Final = slice(18, 20)
"""Of a database's head, its format: 1 without a log, 2 with one, which a database in memory cannot have
(https://sqlite.org/fileformat.html 1.3.4)."""

_MOST_BYTES: Final = 128 << 20  # that one question may bring, with what Python adds
_ROW: Final = 200  # bytes that Python adds to a row
_CHECKED: Final = 1 << 30  # bytes of a file that is read whole before each start
_LONGEST_NAME: Final = 1000  # characters of a push name; WhatsApp's own end at 25


class ListedMessage(NamedTuple):
    """A message that the library has decrypted, as its own list has it; addresses without devices."""

    chat: str
    sender: str
    wa_id: str


@contextmanager
def _opened(path: Path, mode: str = "ro") -> Iterator[sqlite3.Connection]:
    guard = Guard()
    try:
        check_log(path)
        db = sqlite3.connect(
            f"file:{quote(str(path))}?mode={mode}", uri=True, timeout=10, isolation_level=None
        )
        try:
            guard.watch(db)
            # One view of the file for all that follows: who writes it cannot put something else there meanwhile.
            db.execute("BEGIN" if mode == "ro" else "BEGIN IMMEDIATE")
            if found := unexpected(schema_of(db)):
                raise EngineFailure(
                    f"{path} holds {found}",
                    hint="the file comes from elsewhere: put the right one there, or pair the account again",
                )
            # The library writes what strangers sent: bytes that are no text must not hide the other rows.
            db.text_factory = _text
            yield db
            db.execute("COMMIT")
        finally:
            db.close()
    except sqlite3.OperationalError as error:
        if guard.spent:
            raise Damaged(f"{path} is damaged: reading it does not end") from error
        raise Unavailable(f"cannot read {path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise Damaged(f"{path} is damaged: {error}") from error


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # opening it says why


def _rows(path: Path, query: str, *values: object, mode: str = "ro") -> list[tuple[object, ...]]:
    """What a query finds; nothing also where the library has not made its tables yet."""
    if not path.exists() or path.stat().st_size == 0:
        return []
    with _opened(path, mode) as db:
        try:
            return _bounded(path, db.execute(query, values))
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise


def _bounded(path: Path, rows: Iterable[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """All of them, unless they are more than any account has.  Raises Damaged."""
    found, left = [], _MOST_BYTES
    for row in rows:
        left -= _ROW + sum(len(value) for value in row if isinstance(value, str | bytes))
        if left < 0:
            raise Damaged(f"{path} is damaged: it holds more than {_MOST_BYTES >> 20} MB of names")
        found.append(row)
    return found


def _row(path: Path, query: str, *values: object) -> tuple[object, ...] | None:
    return next(iter(_rows(path, query, *values)), None)


def check(path: Path) -> None:
    """Raise Damaged when the database cannot be trusted; a missing or empty one is fine.

    `quick_check` reads the whole file: about 2 ms a megabyte, before each start of a worker.  Raises EngineFailure as
    all that reads it: a file with views or triggers would run them with each query, and stays where it is.
    """
    if not 0 < _size(path) <= _CHECKED:
        return
    with _opened(path) as db:
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != ("ok",):
        raise Damaged(f"{path} is damaged: {verdict}")


def is_paired(path: Path) -> bool:
    """Whether the database holds a device's keys.  Raises Damaged, Unavailable."""
    return _row(path, "SELECT 1 FROM whatsmeow_device LIMIT 1") is not None


def copy(path: Path) -> bytes:
    """The whole database, as one file without a log.  Raises as above."""
    with _opened(path) as db, closing(sqlite3.connect(":memory:")) as memory:
        (pages,), (page,) = (
            db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
        )
        if pages * page > LARGEST:
            raise EngineFailure(
                f"{path} is larger than {LARGEST >> 20} MB: no other machine takes it"
            )
        db.backup(memory)
        found = bytearray(memory.serialize())
    found[_VERSIONS] = b"\x01\x01"
    return bytes(found)


def check_copy(database: bytes) -> None:
    """Raise BadInput unless `copy` gave these bytes, of a database that holds one device's keys.

    Whoever made the file may mean harm: nothing in it is run, and looking at it ends.
    """
    if not database:
        raise BadInput("there is no session in it")
    if len(database) > LARGEST:
        raise BadInput(f"a session has at most {LARGEST >> 20} MB")
    guard = Guard()
    try:
        with closing(sqlite3.connect(":memory:")) as db:
            db.deserialize(database)
            guard.watch(db)
            if found := unexpected(schema_of(db)):
                raise BadInput(f"this is no session: it holds {found}")
            if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise BadInput("the session is damaged")
            devices = db.execute(
                "SELECT jid, lid, push_name FROM whatsmeow_device LIMIT 2"
            ).fetchall()
    except (sqlite3.Error, ValueError, MemoryError) as error:
        why = "reading it does not end" if guard.spent else str(error)[:200]
        raise BadInput(f"this is no session: {why}") from error
    if len(devices) != 1:
        raise BadInput(f"the session holds {'no device' if not devices else 'several devices'}")
    _check_device(*devices[0])


def _check_device(jid: object, lid: object, push_name: object) -> None:
    """Whether this can be the identity of a linked device.  Raises BadInput."""
    addresses = [jid] if lid in (None, "") else [jid, lid]
    for address in addresses:
        if not isinstance(address, str) or not Jid.parse(address).is_person:
            raise BadInput("the session's device has an address that is none")
    if not isinstance(push_name, str | None) or len(push_name or "") > _LONGEST_NAME:
        raise BadInput("the session's device has a name that is none")


class Owner(NamedTuple):
    """Whose session it is: JID (with device), LID, push name, and a word for its keys; empty texts where unknown."""

    jid: str = ""
    lid: str = ""
    push_name: str = ""
    mark: str = ""


def identity(path: Path) -> Owner:
    """Of the paired device.  Raises as above."""
    row = _row(path, "SELECT jid, lid, push_name, noise_key FROM whatsmeow_device LIMIT 1")
    if row is None:
        return Owner()
    jid, lid, push_name = (str(value or "") for value in row[:3])
    return Owner(jid, lid, mended(push_name), _mark(row[3]))


def _mark(key: object) -> str:
    """A word for the keys that a pairing makes, from which they cannot be found."""
    data = key if isinstance(key, bytes) else str(key).encode(errors="replace")
    return hashlib.blake2b(data, digest_size=8, person=b"wad session").hexdigest()


def sent_as(path: Path, secret: bytes, mark: str = "") -> str | None:
    """The WhatsApp id that was stored with this message secret, before anything was sent; None: nothing left.

    `mark`: of the session that was sending, where that is known.  Raises as above, and NotFound where no device is
    there any more, or another one is: a logout empties the list, and then it proves nothing.
    """
    row = _row(
        path, "SELECT message_id FROM whatsmeow_message_secrets WHERE key = ? LIMIT 1", secret
    )
    if row is not None:
        return str(row[0])
    owner = _row(path, "SELECT noise_key FROM whatsmeow_device LIMIT 1")
    if owner is None:
        raise NotFound("the session that was sending it is gone, and with it all traces")
    if mark and mark != _mark(owner[0]):
        raise NotFound("the account was paired anew since, and the new session has no trace of it")
    return None


def saved_names(path: Path) -> dict[str, str]:
    """What the phone's address book calls people, by address, where it has a name for them.  Raises as above."""
    found = _rows(
        path,
        "SELECT their_jid, full_name, first_name FROM whatsmeow_contacts"
        " WHERE coalesce(full_name, '') != '' OR coalesce(first_name, '') != ''",
    )
    return {str(address): mended(str(full or first)) for address, full, first in found}


def newest_secret(path: Path) -> int:
    """The number of the newest row in the library's list of messages, 0 when it is empty.  Raises as above.

    Rows are numbered as they come; a logout empties the list, and then numbers start again.
    """
    row = _row(path, "SELECT max(rowid) FROM whatsmeow_message_secrets")
    return int(str(row[0] or 0)) if row else 0


def messages_listed(path: Path, after: int, up_to: int) -> list[ListedMessage]:
    """The messages of others in these rows of the list, but for those with an invalid id.  Raises as above.

    The library lists a message that carries a secret, as those of current clients do, before it hands it over
    (whatsmeow message.go, storeMessageSecret); its own messages and those of a history sync are in it, too.
    """
    ours = {address.partition("@")[0].partition(":")[0] for address in identity(path)[:2]}
    found = _rows(
        path,
        "SELECT chat_jid, sender_jid, message_id FROM whatsmeow_message_secrets WHERE rowid > ? AND rowid <= ?",
        after,
        up_to,
    )
    listed = [ListedMessage(*map(str, row)) for row in found]
    return [
        one for one in listed if is_ident(one.wa_id) and one.sender.partition("@")[0] not in ours
    ]


def prune_plaintexts(path: Path, before_ms: int) -> None:
    """Delete what the library keeps of messages decrypted before this time; it does not do so itself.

    WhatsApp's server sends nothing again that is older than 14 days (whatsmeow store.go, DeleteOldBufferedHashes).
    Raises as above.
    """
    query = "DELETE FROM whatsmeow_event_buffer WHERE insert_timestamp < ?"
    _rows(path, query, before_ms, mode="rw")


class SessionDbCounts(NamedTuple):
    """How much of what a session consists of is there."""

    pre_keys: int
    sessions: int
    app_state_keys: int
    app_state_versions: int


def counts(path: Path) -> SessionDbCounts:
    """What lies in the database, by number; all zero where there is none.  Raises as above."""
    tables = ("pre_keys", "sessions", "app_state_sync_keys", "app_state_version")
    found = (_row(path, f"SELECT count(*) FROM whatsmeow_{table}") for table in tables)
    return SessionDbCounts(*(int(str(row[0])) if row else 0 for row in found))
