"""The undo of a repair of wad.db: restores the rows that the repair changed.

Columns and rows that were changed since the repair stay as they are.  The summaries of threads are derived again by the
caller: messages may have arrived since.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import assert_never

from wad.audit.sqlite.undo import KEYS, Change, RowAction, Value, columns_of, same
from wad.core.decoding import decoding
from wad.core.errors import BadInput
from wad.core.message import Message, merged
from wad.store.sqlite.messages import rewrite
from wad.store.sqlite.rows import row_by_number
from wad.store.sqlite.threads import delete_message
from wad.store.sqlite.unique_indexes import conflicting


def restore(db: sqlite3.Connection, changes: Sequence[Change]) -> set[str]:
    """Restore every row, the last change first; return the threads whose summaries may be wrong now.  Raises BadInput.

    A message that was received again after the repair deleted its row is stored once, with the content of both rows.
    """
    undo = _Undo(db)
    for change in reversed(changes):
        try:
            undo.revert(change)
        except sqlite3.IntegrityError as error:
            raise BadInput(
                f"row {change.key} of {change.table} cannot be restored: {error}",
                hint="a message is never stored twice; nothing was changed",
            ) from error
    return undo.threads


class _Undo:
    """The undo of one repair.  `threads`: those whose summaries may be wrong now."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._columns = {table: columns_of(db, table) for table in KEYS}
        self._numbers: dict[
            int, int
        ] = {}  # the new numbers of amendments whose numbers are in use now
        self.threads: set[str] = set()

    def revert(self, change: Change) -> None:
        """Revert one change.  Raises BadInput, sqlite3.IntegrityError."""
        names = {name for name, _ in (*change.before, *change.after)}
        if not names <= {*self._columns.get(change.table, ())} or change.table not in KEYS:
            raise BadInput(
                f"the undo file names {change.table}, or columns of it, that do not exist"
            )
        self._note_threads(change)
        match change.act:
            case RowAction.INSERT:
                self._revert_insert(change)
            case RowAction.UPDATE:
                self._revert_update(change)
            case RowAction.DELETE:
                self._revert_delete(change)
            case _:
                assert_never(change.act)

    def _note_threads(self, change: Change) -> None:
        """Note the threads of a message, before and after, or the changed thread."""
        if change.table == "threads":
            self.threads.add(str(change.key))
        elif change.table == "messages":
            query = "SELECT thread FROM messages WHERE number = ?"
            self.threads |= {thread for (thread,) in self._db.execute(query, (change.key,))}
            self.threads |= {str(value) for name, value in change.before if name == "thread"}

    def _revert_insert(self, change: Change) -> None:
        now = self._present(change)
        if all(same(now.get(name), value) for name, value in change.after):
            table, key = change.table, KEYS[change.table]
            self._db.execute(f"DELETE FROM {table} WHERE {key} = ?", (self._key(change),))

    def _revert_update(self, change: Change) -> None:
        now, written = self._present(change), dict(change.after)
        back = {
            name: value
            for name, value in change.before
            if now and (name not in written or same(now[name], written[name]))
        }
        if back:
            table, key = change.table, KEYS[change.table]
            pairs = ", ".join(f"{name} = ?" for name in back)
            query = f"UPDATE {table} SET {pairs} WHERE {key} = ?"
            self._db.execute(query, (*back.values(), self._key(change)))

    def _revert_delete(self, change: Change) -> None:
        row = dict(change.before)
        match change.table:
            case "threads":
                self._insert(change.table, row, "ON CONFLICT DO NOTHING")
            case "amendments":
                self._insert_amendment(row)
            case "messages":
                self._insert_message(change.key, row)
            case _:
                self._insert(change.table, row)

    # --- rows -----------------------------------------------------------------------------------

    def _key(self, change: Change) -> str | int:
        if change.table == "amendments" and isinstance(change.key, int):
            return self._numbers.get(change.key, change.key)
        return change.key

    def _present(self, change: Change) -> dict[str, Value]:
        """The present values of the changed row; empty if it does not exist."""
        query = f"SELECT * FROM {change.table} WHERE {KEYS[change.table]} = ?"
        row = self._db.execute(query, (self._key(change),)).fetchone()
        return dict(zip(self._columns[change.table], row, strict=True)) if row else {}

    def _insert(self, table: str, row: dict[str, Value], otherwise: str = "") -> sqlite3.Cursor:
        marks = ",".join("?" * len(row))
        query = f"INSERT INTO {table} ({','.join(row)}) VALUES ({marks}) {otherwise}"
        return self._db.execute(query, tuple(row.values()))

    def _insert_amendment(self, row: dict[str, Value]) -> None:
        """Restore an amendment, with a new number if its own is in use; not if it was received again."""
        number = row.get("number")
        if self._insert("amendments", row, "ON CONFLICT DO NOTHING").rowcount:
            return
        cursor = self._insert("amendments", {**row, "number": None}, "ON CONFLICT DO NOTHING")
        if isinstance(number, int):
            self._numbers[number] = (cursor.lastrowid or 0) if cursor.rowcount else 0

    def _insert_message(self, number: str | int, row: dict[str, Value]) -> None:
        """Restore a message, in place of rows that were stored for the same message since."""
        try:
            self._insert("messages", row)
            return
        except sqlite3.IntegrityError:
            newer = conflicting(self._db, row)
            if not newer:
                raise
        contents = [self._take(one) for one in newer]
        self._insert("messages", row)
        with decoding(f"row {number} of messages"):
            restored = row_by_number(self._db, int(number))
            if restored is not None and not restored.original.client_id:
                message = restored.original
                for one in contents:
                    message = merged(message, one)
                rewrite(self._db, restored.number, message)

    def _take(self, number: int) -> Message:
        """Delete a message's row and return the message."""
        row = row_by_number(self._db, number)
        assert row is not None
        self.threads.add(row.original.thread)
        delete_message(self._db, number, row.original.thread)
        return row.original
