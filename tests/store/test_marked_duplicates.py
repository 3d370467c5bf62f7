"""Rows of wad.db that are marked as duplicates: they stay, and are neither shown nor counted nor reported."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.contracts.world import (
    ACC,
    ANN,
    ANN_LID,
    ANN_LID_THREAD,
    ANN_THREAD,
    EPOCH,
    arrival,
    one_message,
    one_thread,
    queued,
    reaction,
    sending,
    wa_id,
)
from wad.core.change import PutAlias
from wad.core.content import Content, MessageKind
from wad.core.outbox import Unknown
from wad.store.sqlite.store import SqliteStore

ALIAS = PutAlias(str(ANN_LID), str(ANN))
LOST = Content(MessageKind.LOST)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The store's file."""
    return tmp_path / "wad.db"


@pytest.fixture
async def store(file: Path) -> AsyncIterator[SqliteStore]:
    """An empty store."""
    store = await SqliteStore.open(file)
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def connected(file: Path) -> Iterator[sqlite3.Connection]:
    """A connection of our own, as of a repair."""
    with closing(sqlite3.connect(file, isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        yield db


def insert_copy(file: Path, number: int, **columns: object) -> None:
    """Insert a row like the message in row `number`, except for these columns."""
    with connected(file) as db:
        row = dict(db.execute("SELECT * FROM messages WHERE number = ?", (number,)).fetchone())
        del row["number"]
        row |= columns
        marks = ",".join("?" * len(row))
        db.execute(f"INSERT INTO messages ({','.join(row)}) VALUES ({marks})", tuple(row.values()))


async def test_a_changed_duplicate_is_not_reported(store: SqliteStore, file: Path) -> None:
    """A subscriber gets the shown message; the hidden row has the reaction as well."""
    await store.record(ACC, arrival(1))
    shown = await one_message(store)
    insert_copy(file, 1, id="copy", duplicate_of=shown.id)
    recorded = await store.record(ACC, [reaction(1, "!")])
    assert [message.id for message in recorded.changed] == [shown.id]
    with connected(file) as db:
        assert db.execute("SELECT count(*) FROM messages WHERE amended IS NULL").fetchone()[0] == 0


async def test_a_completed_duplicate_is_not_reported_as_new(store: SqliteStore, file: Path) -> None:
    """A marked placeholder whose message arrives stays hidden."""
    await store.record(ACC, arrival(1, content=LOST))
    with connected(file) as db:
        db.execute("UPDATE messages SET duplicate_of = 'other'")
    recorded = await store.record(ACC, arrival(1))
    assert (recorded.new, recorded.known, recorded.changed) == ((), 1, ())


async def test_a_marked_placeholder_is_not_lost_and_not_requested(
    store: SqliteStore, file: Path
) -> None:
    """The message that it repeats is stored."""
    await store.record(ACC, [*arrival(1, content=LOST), *arrival(2, content=LOST)])
    with connected(file) as db:
        db.execute("UPDATE messages SET duplicate_of = 'other' WHERE wa_id = ?", (wa_id(1),))
    assert (await store.totals(ACC)).lost == 1
    assert [found.wa_id for found in await store.placeholders(ACC, limit=9)] == [wa_id(2)]


async def test_a_message_does_not_disappear_into_a_marked_duplicate(
    store: SqliteStore, file: Path
) -> None:
    """The document that the duplicate repeats does not exist any more."""
    await store.record(ACC, arrival(1, ANN_LID))
    insert_copy(file, 1, id="copy", thread=ANN_THREAD, chat=str(ANN), duplicate_of="deleted since")
    before = await one_message(store, ANN_LID_THREAD)
    await store.record(ACC, [ALIAS])
    assert (await one_message(store)).id == before.id
    assert (await one_thread(store)).messages == 1


async def test_a_duplicate_names_the_document_that_its_own_was_merged_into(
    store: SqliteStore, file: Path
) -> None:
    """It is still hidden, and an audit finds what it repeats."""
    await store.record(ACC, [*arrival(1, ANN_LID), *arrival(1)])
    (of_lid,) = await store.messages(ANN_LID_THREAD, limit=9)
    insert_copy(file, 1, id="copy", duplicate_of=of_lid.id)
    await store.record(ACC, [ALIAS])
    shown = await one_message(store)
    assert shown.id != of_lid.id
    with connected(file) as db:
        rows = db.execute("SELECT thread, duplicate_of FROM messages WHERE id = 'copy'").fetchall()
    assert [tuple(row) for row in rows] == [(ANN_THREAD, shown.id)]


async def test_three_rows_of_one_message_become_one(store: SqliteStore, file: Path) -> None:
    """A file that is older than the unique indexes: the row into which the third would be merged is deleted already."""
    entry = queued(to=ANN_LID)
    await sending(store, entry)
    await store.settle(entry.id, Unknown(wa_id(1), "no reply"), epoch=EPOCH)
    with connected(file) as db:
        db.execute("DROP INDEX messages_by_wa_id")
    await store.record(ACC, arrival(2, from_me=True))
    with connected(file) as db:
        db.execute("UPDATE messages SET wa_id = ?", (wa_id(1),))
    insert_copy(file, 2, id="third", thread=ANN_LID_THREAD, chat=str(ANN_LID))
    await store.record(ACC, [ALIAS])
    assert (await one_message(store)).id == entry.id
    assert (await one_thread(store)).messages == 1
