"""Where a message lies, by its document id and by its WhatsApp id, at a cost that hardly grows with what is stored.

Both ids are random.  An index of SQLite puts each new one on a page of its own, once it has more pages than a batch has
messages; to read, log, sync and write back two such pages costs more than all else that is done for a message.  So ids
are put into an index many at a time, in the order of their hashes (a log-structured merge: O'Neil et al., 1996):

- The newest messages, fewer than `_BLOCK`, are in no index.  They are the last rows of the table.
- Whenever there are `_BLOCK` of them, their keys are packed into `keys_recent`, and a part of that is handed on to
  `keys_old`; so no batch waits until everything has moved.  `meta` has the last row that is packed.  All of it
  happens in the transaction that stores the message, so that keys and message are known together or not at all.
- A key is the hash of an id, four bytes, and the number of the message's row, four more.  Whoever looks for an id takes
  all rows that are named under its hash and compares: the hash may be another id's, and the row may be gone or have
  another id by now.  So keys are only ever added, and a row's number is never used again (AUTOINCREMENT).

Nearly all WhatsApp ids that are looked for are new, so the connection that writes remembers what excludes them; the
tables are read only for what it does not exclude.

Whether a message is known is decided inside the one transaction that writes, so that no constraint is needed.
"""

from __future__ import annotations

import sqlite3
from collections import defaultdict
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final

_BLOCK: Final = 2048  # messages that are packed at once
_PARTS: Final = 64  # of `keys_recent`, for each kind of id; the first byte of a hash says which
_FINER: Final = 5  # bits of the next byte that belong to the number of a part of `keys_old`
_HANDED_ON: Final = 1  # parts of each kind, with each block
_IDS, _WA_IDS = 0, _PARTS
"""The first part of document ids, and of WhatsApp ids."""

_REST: Final = 3  # bytes of a hash behind the first
_ROW: Final = 4  # bytes of a row's number
_KEY: Final = _REST + _ROW  # bytes of a key in its part
_BLOCK_BITS: Final = 32  # of a place: the number of the block, below that of the part

_LAST_PACKED: Final = "coalesce((SELECT value FROM meta WHERE key = 'packed'), 0)"
_NEWEST: Final = f"SELECT number, id, account, wa_id FROM messages WHERE number > {_LAST_PACKED}"
_RECENT: Final = "SELECT keys FROM keys_recent WHERE place BETWEEN ? AND ?"
_OLD: Final = "SELECT keys FROM keys_old WHERE place BETWEEN ? AND ?"
_ADD: Final = "INSERT INTO {} VALUES (?,?) ON CONFLICT DO UPDATE SET keys = CAST(keys || excluded.keys AS BLOB)"
_ADD_RECENT: Final = _ADD.format("keys_recent")
_ADD_OLD: Final = _ADD.format("keys_old")

_Parts = defaultdict[int, bytearray]
"""Bytes of many keys, by the number of their part."""


class Remembered:
    """What a connection knows of the tables: the newest messages and, if it writes, what excludes WhatsApp ids.

    That takes about three bytes for each message.  It may know of too many ids (some were taken back), as everything is
    compared with its row; never of too few.
    """

    def __init__(self, *, writes: bool) -> None:
        self._writes = writes
        self._seen: tuple[int, int] | None = None  # `data_version`, and the last packed row
        self._newest: dict[str, list[int]] = {}
        self._hashes: _Parts = defaultdict(bytearray)  # the last three bytes of each

    def refresh(self, db: sqlite3.Connection) -> None:
        """Read all again where others have written, or a packing was undone."""
        (version,) = db.execute("PRAGMA data_version").fetchone()
        seen = version, _last_packed(db)
        if seen == self._seen:
            return
        self._newest.clear()
        for number, ident, account, wa_id in db.execute(_NEWEST):
            self.note(number, ident)
            self.note(number, _both(account, wa_id))
        if self._writes:
            self._read_hashes(db)
        self._seen = seen

    def _read_hashes(self, db: sqlite3.Connection) -> None:
        self._hashes.clear()
        for part, keys in _all_wa_ids(db, "keys_recent", 0):
            for key in _cut(keys):
                self.note_packed(_BYTES[part] + key[:_REST])
        for part, keys in _all_wa_ids(db, "keys_old", _FINER):
            self._hashes[part] += _hashes_of(keys)

    def note(self, number: int, name: str) -> None:
        """One of the newest messages has this id."""
        self._newest.setdefault(name, []).append(number)

    def newest(self, name: str) -> list[int]:
        """Those of the newest messages that may have this id."""
        return self._newest.get(name, [])

    def note_packed(self, hashed: bytes) -> None:
        """There is a key with this hash of a WhatsApp id."""
        self._hashes[_old_part(hashed)] += hashed[1:]

    def excludes(self, hashed: bytes) -> bool:
        """Whether there is no key with this hash of a WhatsApp id, as far as that is remembered."""
        return self._writes and hashed[1:] not in self._hashes[_old_part(hashed)]

    def end_block(self, number: int) -> None:
        """All up to this row are packed."""
        self._newest.clear()
        if self._seen is not None:
            self._seen = self._seen[0], number


class WritingConnection(sqlite3.Connection):
    """The connection that writes.  `remembered.refresh` belongs to the beginning of each of its transactions."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.remembered = Remembered(writes=True)


class ReadingConnection(sqlite3.Connection):
    """One that adds no messages."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.remembered = Remembered(writes=False)


def _remembered(db: sqlite3.Connection) -> Remembered:
    """What this connection knows now; one of another kind learns it anew each time."""
    if isinstance(db, WritingConnection):
        return db.remembered
    known = db.remembered if isinstance(db, ReadingConnection) else Remembered(writes=False)
    known.refresh(db)
    return known


# --- messages -------------------------------------------------------------------------------------


def put_keys(db: sqlite3.Connection, number: int, ident: str, account: str, wa_id: str) -> None:
    """A new message lies in this row."""
    if isinstance(db, WritingConnection):
        db.remembered.note(number, ident)
        db.remembered.note(number, _both(account, wa_id))
    if number % _BLOCK == 0:
        _pack(db, number)


def put_id(db: sqlite3.Connection, number: int, ident: str) -> None:
    """The message in this row has this document id now."""
    _put(db, number, ident, _IDS)


def put_wa_id(db: sqlite3.Connection, number: int, account: str, wa_id: str) -> None:
    """The message in this row has this WhatsApp id now; empty for none."""
    if wa_id:
        _put(db, number, _both(account, wa_id), _WA_IDS)


def _put(db: sqlite3.Connection, number: int, name: str, kind: int) -> None:
    last = _last_packed(db)
    hashed = _hash(name, kind)
    if isinstance(db, WritingConnection):
        if number > last:
            db.remembered.note(number, name)
        elif kind == _WA_IDS:
            db.remembered.note_packed(hashed)
    if number <= last:
        db.execute(_ADD_RECENT, (_place(hashed[0], last // _BLOCK), _key(hashed, number)))


def row_of(db: sqlite3.Connection, ident: str) -> int | None:
    """The number of the row with this document id."""
    newest = _remembered(db).newest(ident)
    query = "SELECT 1 FROM messages WHERE number = ? AND id = ?"
    for number in (*newest, *_named(db, _hash(ident, _IDS))):
        if db.execute(query, (number, ident)).fetchone():
            return number
    return None


def rows_of(db: sqlite3.Connection, account: str, wa_id: str) -> list[int]:
    """The numbers of all rows of an account with this WhatsApp id, the oldest first; none for an empty one."""
    if not wa_id:
        return []
    name = _both(account, wa_id)
    hashed = _hash(name, _WA_IDS)
    remembered = _remembered(db)
    newest = remembered.newest(name)
    if remembered.excludes(hashed):
        if not newest:
            return []  # nearly always
        found = {*newest}
    else:
        found = {*newest} | _named(db, hashed)
    query = "SELECT 1 FROM messages WHERE number = ? AND account = ? AND wa_id = ?"
    return [
        number for number in sorted(found) if db.execute(query, (number, account, wa_id)).fetchone()
    ]


# --- keys -----------------------------------------------------------------------------------------

_BYTES: Final = tuple(bytes((value,)) for value in range(256))


def _both(account: str, wa_id: str) -> str:
    return f"{account} {wa_id}"


def _hash(name: str, kind: int) -> bytes:
    # One that nobody can aim at: messages whose ids are made to fall together would all have to be compared.
    digest = blake2b(name.encode(), digest_size=1 + _REST).digest()
    return _BYTES[kind + digest[0] % _PARTS] + digest[1:]


def _key(hashed: bytes, number: int) -> bytes:
    return hashed[1:] + number.to_bytes(_ROW, "big")


def _old_part(hashed: bytes) -> int:
    return hashed[0] << _FINER | hashed[1] >> 8 - _FINER


def _place(part: int, block: int) -> int:
    return part << _BLOCK_BITS | block


def _part(part: int) -> tuple[int, int]:
    """Its first and its last place."""
    return _place(part, 0), _place(part + 1, 0) - 1


def _cut(keys: bytes) -> Iterator[bytes]:
    return (keys[at : at + _KEY] for at in range(0, len(keys), _KEY))


def _hashes_of(keys: bytes) -> bytearray:
    """The bytes of each hash behind its first, without the rows; a loop in Python would take a second for a million."""
    found = bytearray(_REST * (len(keys) // _KEY))
    for byte in range(_REST):
        found[byte::_REST] = keys[byte::_KEY]
    return found


# --- tables ---------------------------------------------------------------------------------------


def _last_packed(db: sqlite3.Connection) -> int:
    return int(db.execute(f"SELECT {_LAST_PACKED}").fetchone()[0])


def _all_wa_ids(db: sqlite3.Connection, table: str, finer: int) -> Iterator[tuple[int, bytes]]:
    """Part and keys."""
    query = f"SELECT place >> {_BLOCK_BITS}, keys FROM {table} WHERE place >= ?"
    return iter(db.execute(query, (_place(_WA_IDS << finer, 0),)))


def _named(db: sqlite3.Connection, hashed: bytes) -> set[int]:
    """All rows that have a key with this hash."""
    found: set[int] = set()
    for query, part in ((_RECENT, hashed[0]), (_OLD, _old_part(hashed))):
        for (keys,) in db.execute(query, _part(part)):
            found |= _within(keys, hashed[1:])
    return found


def _within(keys: bytes, rest: bytes) -> set[int]:
    found, at = set(), keys.find(rest)
    while at >= 0:
        if at % _KEY == 0:
            found.add(int.from_bytes(keys[at + _REST : at + _KEY], "big"))
        at = keys.find(rest, at + 1)
    return found


def _pack(db: sqlite3.Connection, upto: int) -> None:
    """Give the newest messages their keys."""
    remembered = db.remembered if isinstance(db, WritingConnection) else Remembered(writes=False)
    parts: _Parts = defaultdict(bytearray)
    for number, ident, account, wa_id in db.execute(f"{_NEWEST} AND number <= ?", (upto,)):
        hashed = _hash(ident, _IDS)
        parts[hashed[0]] += _key(hashed, number)
        if wa_id:
            hashed = _hash(_both(account, wa_id), _WA_IDS)
            parts[hashed[0]] += _key(hashed, number)
            remembered.note_packed(hashed)
    block = upto // _BLOCK
    db.executemany(_ADD_RECENT, [(_place(part, block), parts[part]) for part in sorted(parts)])
    db.execute("INSERT OR REPLACE INTO meta VALUES ('packed', ?)", (upto,))
    remembered.end_block(upto)
    for turn in range(block * _HANDED_ON, (block + 1) * _HANDED_ON):
        for kind in (_IDS, _WA_IDS):
            _hand_on(db, kind + turn % _PARTS, block)


def _hand_on(db: sqlite3.Connection, part: int, block: int) -> None:
    parts: _Parts = defaultdict(bytearray)
    for (keys,) in db.execute(_RECENT, _part(part)):
        for key in _cut(keys):
            parts[_old_part(_BYTES[part] + key)] += key
    db.executemany(_ADD_OLD, [(_place(finer, block), parts[finer]) for finer in sorted(parts)])
    db.execute("DELETE FROM keys_recent WHERE place BETWEEN ? AND ?", _part(part))
