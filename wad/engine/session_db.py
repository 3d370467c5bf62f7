"""Reading a session's database, without the library.

Table and column names: whatsmeow store/sqlstore upgrades, read from databases that neonize 0.5.2 made
(docs/internals/library.md#database-and-identity).  The file belongs to the library; wad only reads it, except for one
table that the library lets grow without limit.
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
from wad.core.text import is_ident, repaired
from wad.engine.session_db_schema import LARGEST, unexpected
from wad.lib.foreign_sqlite import Guard, check_log, schema_of
from wad.lib.sqlite_file import has_lost_its_database

_VERSIONS: Final = slice(18, 20)
"""The format version in a database's header: 1 without a log, 2 with one, which a database in memory cannot have
(https://sqlite.org/fileformat.html 1.3.4)."""

_MAX_BYTES: Final = 128 << 20  # of the rows of one query, with Python's overhead
_ROW: Final = 200  # bytes of Python's overhead per row
_CHECKED: Final = 1 << 30  # bytes of a file that is read whole before each start
_LONGEST_NAME: Final = 1000  # characters of a push name; WhatsApp's own limit is 25


class ListedMessage(NamedTuple):
    """A message that the library has decrypted, from its own list; addresses without devices."""

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
            # One view of the file for all that follows: a writer cannot exchange its content meanwhile.
            db.execute("BEGIN" if mode == "ro" else "BEGIN IMMEDIATE")
            if found := unexpected(schema_of(db)):
                raise EngineFailure(
                    f"{path} contains {found}",
                    hint="it is not a file of this library: restore the right one, or pair the account again",
                )
            # The library writes data of strangers: bytes that are not valid text must not hide the other rows.
            db.text_factory = _text
            yield db
            db.execute("COMMIT")
        finally:
            db.close()
    except sqlite3.OperationalError as error:
        if guard.spent:
            raise Damaged(f"{path} is damaged: reading it does not terminate") from error
        raise Unavailable(f"cannot read {path}: {error}") from error
    except sqlite3.DatabaseError as error:
        raise Damaged(f"{path} is damaged: {error}") from error


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0  # opening it reports the error


def _is_empty(path: Path) -> bool:
    """Whether there is nothing to read.  Raises Damaged if there is a log, which SQLite would delete."""
    if has_lost_its_database(path):
        raise Damaged(f"{path} is damaged: it is empty, and its log is not")
    return _size(path) == 0


def _rows(path: Path, query: str, *values: object, mode: str = "ro") -> list[tuple[object, ...]]:
    """The rows of a query; none if the library has not created its tables yet."""
    if _is_empty(path):
        return []
    with _opened(path, mode) as db:
        try:
            return _bounded(path, db.execute(query, values))
        except sqlite3.OperationalError as error:
            if "no such table" in str(error):
                return []
            raise


def _bounded(path: Path, rows: Iterable[tuple[object, ...]]) -> list[tuple[object, ...]]:
    """All rows, unless they are more than any account has.  Raises Damaged."""
    found, left = [], _MAX_BYTES
    for row in rows:
        left -= _ROW + sum(len(value) for value in row if isinstance(value, str | bytes))
        if left < 0:
            raise Damaged(
                f"{path} is damaged: it contains more than {_MAX_BYTES >> 20} MB of names"
            )
        found.append(row)
    return found


def _row(path: Path, query: str, *values: object) -> tuple[object, ...] | None:
    return next(iter(_rows(path, query, *values)), None)


def check(path: Path) -> None:
    """Raise Damaged if the database cannot be trusted; a missing or empty one is valid.

    `quick_check` reads the whole file: about 2 ms per megabyte, before each start of a worker.  Raises EngineFailure
    like all readers: a file with views or triggers would run them with each query, and is left unchanged.
    """
    if _is_empty(path) or _size(path) > _CHECKED:
        return
    with _opened(path) as db:
        verdict = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != ("ok",):
        raise Damaged(f"{path} is damaged: {verdict}")


def is_paired(path: Path) -> bool:
    """Whether the database contains a device's keys.  Raises Damaged, Unavailable."""
    return _row(path, "SELECT 1 FROM whatsmeow_device LIMIT 1") is not None


def copy(path: Path) -> bytes:
    """The whole database, as one file without a log.  Raises as above."""
    with _opened(path) as db, closing(sqlite3.connect(":memory:")) as memory:
        (pages,), (page,) = (
            db.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size")
        )
        if pages * page > LARGEST:
            raise EngineFailure(
                f"{path} is larger than {LARGEST >> 20} MB: no other machine accepts it"
            )
        db.backup(memory)
        found = bytearray(memory.serialize())
    found[_VERSIONS] = b"\x01\x01"
    return bytes(found)


def check_copy(database: bytes) -> None:
    """Raise BadInput unless these bytes are a `copy` of a database with one device's keys.

    The file may be malicious: nothing in it is executed, and reading it is bounded.
    """
    if not database:
        raise BadInput("the file is empty: it contains no session")
    if len(database) > LARGEST:
        raise BadInput(f"a session has at most {LARGEST >> 20} MB")
    guard = Guard()
    try:
        with closing(sqlite3.connect(":memory:")) as db:
            db.deserialize(database)
            guard.watch(db)
            if found := unexpected(schema_of(db)):
                raise BadInput(f"not a session: the database contains {found}")
            if db.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise BadInput("the session is damaged")
            devices = db.execute(
                "SELECT jid, lid, push_name FROM whatsmeow_device LIMIT 2"
            ).fetchall()
    except (sqlite3.Error, ValueError, MemoryError) as error:
        why = "reading it does not terminate" if guard.spent else str(error)[:200]
        raise BadInput(f"not a session: {why}") from error
    if len(devices) != 1:
        raise BadInput(f"the session contains {'no device' if not devices else 'several devices'}")
    _check_device(*devices[0])


def _check_device(jid: object, lid: object, push_name: object) -> None:
    """Raise BadInput unless this can be the identity of a linked device."""
    addresses = [jid] if lid in (None, "") else [jid, lid]
    for address in addresses:
        if not isinstance(address, str) or not Jid.parse(address).is_person:
            raise BadInput("the session's device has an invalid address")
    if not isinstance(push_name, str | None) or len(push_name or "") > _LONGEST_NAME:
        raise BadInput("the session's device has an invalid name")


class Owner(NamedTuple):
    """The owner of a session: JID (with device), LID, push name, and a fingerprint of its keys; empty if unknown."""

    jid: str = ""
    lid: str = ""
    push_name: str = ""
    mark: str = ""


def identity(path: Path) -> Owner:
    """The paired device.  Raises as above."""
    row = _row(path, "SELECT jid, lid, push_name, noise_key FROM whatsmeow_device LIMIT 1")
    if row is None:
        return Owner()
    jid, lid, push_name = (str(value or "") for value in row[:3])
    return Owner(jid, lid, repaired(push_name), _mark(row[3]))


def _mark(key: object) -> str:
    """A fingerprint of the keys that a pairing creates, from which they cannot be derived."""
    data = key if isinstance(key, bytes) else str(key).encode(errors="replace")
    return hashlib.blake2b(data, digest_size=8, person=b"wad session").hexdigest()


def sent_as(path: Path, secret: bytes, mark: str = "") -> str | None:
    """The WhatsApp id that was stored with this message secret, before anything was sent; None: nothing was sent.

    `mark`: the session that was sending, if known.  Raises as above, and NotFound if there is no device any more, or
    another one: a logout empties the list, and then a missing entry proves nothing.
    """
    row = _row(
        path, "SELECT message_id FROM whatsmeow_message_secrets WHERE key = ? LIMIT 1", secret
    )
    if row is not None:
        return str(row[0])
    owner = _row(path, "SELECT noise_key FROM whatsmeow_device LIMIT 1")
    if owner is None:
        raise NotFound("the session that was sending it is gone, and with it all records of it")
    if mark and mark != _mark(owner[0]):
        raise NotFound(
            "the account was paired again since, and the new session has no record of it"
        )
    return None


def saved_names(path: Path) -> dict[str, str]:
    """The names in the phone's address book, by address.  Raises as above."""
    found = _rows(
        path,
        "SELECT their_jid, full_name, first_name FROM whatsmeow_contacts"
        " WHERE coalesce(full_name, '') != '' OR coalesce(first_name, '') != ''",
    )
    return {str(address): repaired(str(full or first)) for address, full, first in found}


class StoredSecret(NamedTuple):
    """The secret of a message; `sender` without device."""

    wa_id: str
    sender: str
    key: bytes


def newest_secrets(path: Path, limit: int) -> list[StoredSecret]:
    """The secrets of the newest messages, the oldest first.  Raises as above."""
    found = _rows(
        path,
        "SELECT message_id, sender_jid, key FROM whatsmeow_message_secrets ORDER BY rowid DESC LIMIT ?",
        limit,
    )
    return [
        StoredSecret(str(wa_id), str(sender), key)
        for wa_id, sender, key in reversed(found)
        if isinstance(key, bytes)
    ]


def newest_secret(path: Path) -> int:
    """The number of the newest row in the library's list of messages, 0 if it is empty.  Raises as above.

    Rows are numbered in order of arrival; a logout empties the list, and then numbers start again.
    """
    row = _row(path, "SELECT max(rowid) FROM whatsmeow_message_secrets")
    return int(str(row[0] or 0)) if row else 0


def messages_listed(path: Path, after: int, up_to: int) -> list[ListedMessage]:
    """The messages of others in these rows of the list, except those with an invalid id.  Raises as above.

    The library lists a message that carries a secret, as those of current clients do, before it hands it over
    (whatsmeow message.go, storeMessageSecret); its own messages and those of a history sync are in the list, too.
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
    """Delete the library's buffered plaintexts of messages decrypted before this time; it does not do so itself.

    WhatsApp's server sends nothing again that is older than 14 days (whatsmeow store.go, DeleteOldBufferedHashes).
    Raises as above.
    """
    query = "DELETE FROM whatsmeow_event_buffer WHERE insert_timestamp < ?"
    _rows(path, query, before_ms, mode="rw")


class SessionDbCounts(NamedTuple):
    """The numbers of a session's most important rows."""

    pre_keys: int
    sessions: int
    app_state_keys: int
    app_state_versions: int


def counts(path: Path) -> SessionDbCounts:
    """The numbers of rows; all zero if there is no database.  Raises as above."""
    tables = ("pre_keys", "sessions", "app_state_sync_keys", "app_state_version")
    found = (_row(path, f"SELECT count(*) FROM whatsmeow_{table}") for table in tables)
    return SessionDbCounts(*(int(str(row[0])) if row else 0 for row in found))
