"""The undo records of a repair of wad.db.

Temporary triggers of the repair's connection record every row as it was before; the undo file is on the disk before the
repair is committed.  It holds whole rows, texts included: mode 0600.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta

from wad.core.decoding import decoding
from wad.core.errors import BadInput, InvalidData
from wad.lib.files import create_file

KEYS: Final = {"messages": "number", "threads": "id", "amendments": "number", "outbox": "number"}
"""The tables that a repair changes, and their key columns."""
_Number = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Value = object
"""The value of an SQLite column: a number, text, bytes or None."""


_pack: Final = msgspec.msgpack.Encoder().encode


class RowAction(StrEnum):
    """The action on a row."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"


class Change(msgspec.Struct, frozen=True):
    """One changed row.

    `before`: the changed columns of an update, all columns of a deleted row.  `after`: the changed columns of an
    update, all columns of an inserted row; empty in a file of an older wad.
    """

    table: str
    act: RowAction
    key: str | _Number
    before: tuple[tuple[str, Value], ...] = ()
    after: tuple[tuple[str, Value], ...] = ()


_unpack: Final = msgspec.msgpack.Decoder(Change).decode
_unpack_all: Final = msgspec.msgpack.Decoder(list[Change]).decode


class Recorder:
    """Records the changes of a connection in a temporary table, which a rollback includes."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        # Without it, a row that `OR REPLACE` replaces is deleted without a trigger.
        db.execute("PRAGMA recursive_triggers = ON")

    @contextmanager
    def recording(self) -> Iterator[None]:
        """Record every row that the block changes, in order; call `changes` before it ends."""
        self._db.execute("CREATE TEMP TABLE noted (number INTEGER PRIMARY KEY, change BLOB)")
        for table in KEYS:
            self._watch(table)
        try:
            yield
        finally:
            self._db.execute("DROP TABLE temp.noted")

    def changes(self) -> list[Change]:
        """All recorded changes that were not rolled back."""
        rows = self._db.execute("SELECT change FROM temp.noted ORDER BY number")
        return [_unpack(row[0]) for row in rows]

    def _watch(self, table: str) -> None:
        columns, key = columns_of(self._db, table), KEYS[table]

        def note(act: str, ident: str | int, *values: Value) -> bytes | None:
            count = len(columns)
            old = dict(zip(columns, values[:count], strict=True)) if act != RowAction.INSERT else {}
            new = (
                dict(zip(columns, values[-count:], strict=True)) if act != RowAction.DELETE else {}
            )
            if act == RowAction.UPDATE:
                changed = [name for name in columns if not same(old[name], new[name])]
                if not changed:
                    return None
                old, new = ({name: row[name] for name in changed} for row in (old, new))
            before, after = tuple(old.items()), tuple(new.items())
            return _pack(Change(table, RowAction(act), ident, before, after))

        self._db.create_function(f"note_{table}", -1, note)
        old, new = (", ".join(f"{row}.{column}" for column in columns) for row in ("OLD", "NEW"))
        for act, values in (
            (RowAction.INSERT, f"NEW.{key}, {new}"),
            (RowAction.UPDATE, f"OLD.{key}, {old}, {new}"),
            (RowAction.DELETE, f"OLD.{key}, {old}"),
        ):
            self._db.execute(
                f"CREATE TEMP TRIGGER note_{table}_{act} AFTER {act} ON main.{table} BEGIN INSERT INTO noted (change)"
                f" SELECT change FROM (SELECT note_{table}('{act}', {values}) AS change) WHERE change IS NOT NULL; END"
            )


def columns_of(db: sqlite3.Connection, table: str) -> list[str]:
    """The columns of a table."""
    return [row[1] for row in db.execute(f"PRAGMA main.table_info({table})")]


def same(one: Value, other: Value) -> bool:
    """Whether two values of a column are the same, as numbers, texts or bytes."""
    return type(one) is type(other) and one == other


# --- the file -----------------------------------------------------------------------------------


def write(file: Path, changes: Iterable[msgspec.Struct]) -> None:
    """Write a new file, synced: one MessagePack array of changes.  Raises Conflict if it exists, StateUnwritable."""
    create_file(file, msgspec.msgpack.encode(list(changes)))


def decode_all(data: bytes) -> list[Change]:
    """Decode the changes of wad.db.  Raises what msgspec raises, and BadInput."""
    changes = _unpack_all(data)
    for change in changes:
        if not all(_fits_a_column(value) for _, value in (*change.before, *change.after)):
            raise BadInput("it has a value that no column can hold")
    return changes


def _fits_a_column(value: Value) -> bool:
    if type(value) is int:
        return -(2**63) <= value < 2**63
    return value is None or type(value) in (str, float, bytes)


C = TypeVar("C", bound=msgspec.Struct)


def read(file: Path, decode: Callable[[bytes], list[C]]) -> list[C]:
    """Read the changes in a file.  Raises BadInput."""
    try:
        data = file.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read {file}: {error.strerror}") from error
    try:
        with decoding("its content"):
            return decode(data)
    except InvalidData as error:
        raise BadInput(f"{file} is not an undo file of this store: {error}") from error
