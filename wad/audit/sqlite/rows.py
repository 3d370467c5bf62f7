"""The rows of the embedded store; the daemon may run.

The file is opened read-only: an audit creates no file and migrates no schema.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from wad.audit.rows import Aliases, MessageRow, ReadRows, Scope, ThreadRow
from wad.audit.stamps import stamp_of
from wad.core.errors import Denied, NotFound, Unavailable
from wad.lib.sqlite_file import BUSY_S, translated
from wad.store.sqlite.rows import present_content
from wad.store.sqlite.schema import STEPS

_TYPES: Final = {"text": "string", "real": "double", "blob": "bytes"}
"""SQLite's names of types, and those of the audits."""
_MESSAGE: Final = (
    "id, account, thread, chat, at_ms, sender, from_me, kind, content, amended, wa_id, client_id, stable_key,"
    " fingerprint, seen, duplicate_of"
)
_THREAD: Final = "id, account, chat, last_ms, CASE WHEN saved_name != '' THEN saved_name ELSE push_name END, messages"


class SqliteRows:
    """`wad.audit.rows.Rows` of wad.db."""

    kind = "sqlite"
    mode = "desc"

    def __init__(self, path: Path, db: sqlite3.Connection) -> None:
        self._path = path
        self._db = db

    @staticmethod
    def open(path: Path) -> SqliteRows:
        """Open the file.  Raises NotFound, Denied, Unavailable (a newer wad wrote it), Damaged."""
        check_readable(path)
        with translated(path):
            db = sqlite3.connect(
                f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_S, isolation_level=None
            )
            try:
                db.execute("BEGIN")  # all queries see the same state
                check_version(db, path)
            except BaseException:
                db.close()
                raise
        return SqliteRows(path, db)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def aliases(self) -> Aliases:
        """Every LID whose phone number is known."""
        rows = self._rows("SELECT account, lid, pn FROM aliases")
        return {(account, lid): pn for account, lid, pn in rows}

    def messages(self, scope: Scope) -> ReadRows[MessageRow]:
        """Messages of the scope."""
        where, values = _where(account=scope.account, thread=scope.thread)
        types, older, timeless = self._census("messages", "at_ms", where, values, scope.since_ms)
        rows, unreadable = [], 0
        for row in self._candidates("messages", _MESSAGE, "at_ms", where, values, scope):
            message, readable = _message(row)
            rows.append(message)
            unreadable += not readable
        return ReadRows(
            rows=tuple(rows), types=types, older=older, timeless=timeless, unreadable=unreadable
        )

    def threads(self, scope: Scope) -> ReadRows[ThreadRow]:
        """Threads of the scope; a row with facts of a chat without messages is not a thread."""
        where, values = _where(account=scope.account, id=scope.thread)
        where += " AND messages > 0"
        types, older, timeless = self._census("threads", "last_ms", where, values, scope.since_ms)
        found = self._candidates("threads", _THREAD, "last_ms", where, values, scope)
        rows = tuple(
            ThreadRow(
                id=ident, account=account, chat=chat, stamp=stamp_of(at), name=name, messages=messages
            )
            for ident, account, chat, at, name, messages in found
        )  # fmt: skip
        return ReadRows(rows=rows, types=types, older=older, timeless=timeless)

    # --- queries ----------------------------------------------------------------------------------

    def _census(
        self, table: str, column: str, where: str, values: list[str], since_ms: int
    ) -> tuple[dict[str, int], int, int]:
        """The types of the times; the number of rows before the window, and of those without a time."""
        types: dict[str, int] = {}
        older = timeless = 0
        query = (
            f"SELECT typeof({column}), count(*), sum({column} > 0 AND {column} < ?), sum({column} <= 0)"
            f" FROM {table} WHERE {where} GROUP BY 1"
        )
        for kind, count, before, none in self._rows(query, since_ms, *values):
            types[_TYPES.get(kind, kind)] = count
            if kind == "integer":
                older, timeless = before, none
        return types, older, timeless

    def _candidates(
        self, table: str, columns: str, time: str, where: str, values: list[str], scope: Scope
    ) -> Iterator[tuple[Any, ...]]:
        """Rows in the window up to the limit; then those whose time is not a whole number (SQLite sorts texts
        above)."""
        query = f"SELECT {columns} FROM {table} WHERE {where} AND typeof({time})"
        in_window = f"{query} = 'integer' AND {time} > 0 AND {time} >= ? ORDER BY {time} DESC, id DESC LIMIT ?"
        yield from self._rows(in_window, *values, scope.since_ms, scope.limit + 1)
        yield from self._rows(f"{query} != 'integer'", *values)

    def _rows(self, query: str, *values: object) -> Iterator[tuple[Any, ...]]:
        with translated(self._path), closing(self._db.execute(query, values)) as cursor:
            yield from cursor


def check_readable(path: Path) -> None:
    """Raise NotFound or Denied; SQLite would only report that it cannot open the file."""
    denied = Denied(f"no permission to read {path}", hint="run it as root, or as the daemon's user")
    try:
        path.stat()
    except PermissionError as error:
        raise denied from error
    except OSError as error:
        raise NotFound(
            f"store not found: {path}", hint="wad config show prints state.dir"
        ) from error
    if not os.access(path, os.R_OK):
        raise denied


def check_version(db: sqlite3.Connection, path: Path) -> None:
    """Raise Unavailable unless the schema has this version."""
    version = int(db.execute("PRAGMA user_version").fetchone()[0])
    if version != len(STEPS):
        relation = "a newer" if version > len(STEPS) else "an older"
        raise Unavailable(
            f"{path} was written by {relation} wad (schema {version}, this version has {len(STEPS)})",
            hint="use the wadctl of the daemon's own version, and let that daemon start once",
        )


def _where(**equal: str) -> tuple[str, list[str]]:
    terms = [f"{name} = ?" for name, value in equal.items() if value]
    return " AND ".join(terms) or "1", [value for value in equal.values() if value]


def _message(row: tuple[Any, ...]) -> tuple[MessageRow, bool]:
    """The row, and whether its content can be read."""
    (
        ident, account, thread, chat, at, sender, from_me, kind, content, amended, wa_id, client_id, stable_key,
        fingerprint, seen, duplicate_of,
    ) = row  # fmt: skip
    text, readable = _text(content, amended)
    return (
        MessageRow(
            id=str(ident), account=str(account), thread=str(thread), chat=str(chat), stamp=stamp_of(at),
            sender=str(sender), from_me=bool(from_me), kind=str(kind), text=text, wa_id=str(wa_id),
            client_id=str(client_id), stable_key=str(stable_key), fingerprint=str(fingerprint),
            seen=seen if isinstance(seen, int) else 0, marked=duplicate_of != "",
        ),
        readable,
    )  # fmt: skip


def _text(content: object, amended: object) -> tuple[str, bool]:
    """The text, and whether it could be read; unreadable bytes are compared as they are."""
    blob = content if isinstance(content, bytes) else str(content).encode()
    try:
        return present_content(blob, amended if isinstance(amended, bytes) else None).text, True
    except msgspec.MsgspecError:
        return blob.hex(), False
