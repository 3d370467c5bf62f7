"""A store with messages, damaged row by row like by bugs of other programs."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from tests.contracts.world import ACC, arrival
from wad.core.change import Change, PutAlias
from wad.store.sqlite.rows import MESSAGE_COLUMNS
from wad.store.sqlite.store import SqliteStore

LID, PN = "111222333@lid", "40700000001@s.whatsapp.net"


async def filled(state_dir: Path, *changes: list[Change]) -> Path:
    """A store's file with these changes; `state_dir` is created."""
    state_dir.mkdir(parents=True, exist_ok=True)
    store = await SqliteStore.open(state_dir / "wad.db")
    try:
        for change in changes:
            await store.record(ACC, change)
    finally:
        await store.close()
    return state_dir / "wad.db"


def spread(count: int, at_ms: int, step_ms: int = 1000) -> list[Change]:
    """This number of messages of Ann, the last at `at_ms`."""
    return [
        change
        for number in range(1, count + 1)
        for change in arrival(number, at_ms=at_ms - (count - number) * step_ms, seen=number)
    ]


@contextmanager
def opened(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection to the file itself."""
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        yield db


def copy_message(file: Path, ident: str, other: str, **columns: object) -> None:
    """Insert a second document like the first, except for its id and these columns."""
    names = MESSAGE_COLUMNS.split(", ")
    with opened(file) as db:
        db.execute("DROP INDEX IF EXISTS messages_by_wa_id")
        row = db.execute(
            f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE id = ?", (ident,)
        ).fetchone()
        values = dict(zip(names, row, strict=True)) | {"id": other} | columns
        db.execute(
            f"INSERT INTO messages ({MESSAGE_COLUMNS}) VALUES ({','.join('?' * len(names))})",
            [values[name] for name in names],
        )


def change_rows(file: Path, statement: str, *values: object) -> None:
    """Run one statement."""
    with opened(file) as db:
        db.execute(statement, values)


def ids(file: Path) -> list[str]:
    """Every message's document id, in the order of time."""
    with opened(file) as db:
        return [row[0] for row in db.execute("SELECT id FROM messages ORDER BY at_ms, id")]


ALIAS: list[Change] = [PutAlias(LID, PN)]
