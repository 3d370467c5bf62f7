"""A message is stored once: the indexes that look after it, and the upgrade of files that are older than they."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.contracts.world import (
    ACC,
    ANN,
    ANN_LID,
    ANN_LID_THREAD,
    ANN_THREAD,
    BOB,
    EPOCH,
    GROUP,
    NOON,
    OTHER,
    arrival,
    contents,
    queued,
    sending,
    text,
    wa_id,
)
from tests.store.opened import opened
from wad.core.change import Change, PutAlias, PutMessage
from wad.core.content import Content, MessageKind
from wad.core.errors import InvalidData, Unavailable
from wad.core.outbox import Sent
from wad.lib import sqlite_file
from wad.store.port import Cursor
from wad.store.sqlite import messages
from wad.store.sqlite.rows import HAS_WA_ID
from wad.store.sqlite.schema import STEPS
from wad.store.sqlite.store import SqliteStore

OLDER = 2  # steps that a file had taken in which messages were found by wad's own index


def run(path: Path, statement: str, *values: object) -> list[Any]:
    """Run one statement without the store."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        return db.execute(statement, values).fetchall()


def many(first: int, count: int) -> list[Change]:
    """The changes of this number of messages."""
    return [change for number in range(first, first + count) for change in arrival(number)]


def make_older(path: Path) -> None:
    """Make of a store's file what wad wrote before there were unique indexes, its own index included."""
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(
            "DROP INDEX messages_by_id; DROP INDEX messages_by_wa_id; DROP TABLE marks; DROP TABLE hidden_names;"
            "ALTER TABLE messages DROP COLUMN lid_chat; ALTER TABLE messages DROP COLUMN lid_sender;"
            "CREATE TABLE marks (account TEXT NOT NULL, wa_id TEXT NOT NULL, party TEXT NOT NULL, mark TEXT NOT NULL,"
            " at_ms INTEGER NOT NULL, PRIMARY KEY (account, wa_id, party, mark)) WITHOUT ROWID;"
            "DROP TABLE numbers;"
            "DROP INDEX aliases_by_number; ALTER TABLE aliases DROP COLUMN at_ms;"
            "CREATE TABLE keys_recent (place INTEGER PRIMARY KEY, keys BLOB NOT NULL);"
            "CREATE TABLE keys_old (place INTEGER PRIMARY KEY, keys BLOB NOT NULL);"
            "INSERT INTO keys_recent VALUES (4294967296, randomblob(700));"
            "INSERT INTO keys_old VALUES (4294967296, randomblob(70000));"
            f"INSERT INTO meta VALUES ('packed', 2048); PRAGMA user_version = {OLDER};"
        )


def copy_row(path: Path, number: int, **columns: object) -> int:
    """Insert a copy of a row, but for these columns; its number."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.row_factory = sqlite3.Row
        row = dict(db.execute("SELECT * FROM messages WHERE number = ?", (number,)).fetchone())
        del row["number"]
        row |= columns
        marks = ",".join("?" * len(row))
        done = db.execute(
            f"INSERT INTO messages ({','.join(row)}) VALUES ({marks})", [*row.values()]
        )
        db.execute("UPDATE threads SET messages = messages + 1 WHERE id = ?", (row["thread"],))
        assert done.lastrowid is not None
        return done.lastrowid


def marked(path: Path) -> dict[int, str]:
    """The rows that are marked as duplicates, and of which document."""
    rows = run(path, "SELECT number, duplicate_of FROM messages WHERE duplicate_of != ''")
    return dict(rows)


# --- what the indexes refuse --------------------------------------------------------------------------


@pytest.fixture
def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug: no message is ever known."""
    monkeypatch.setattr(messages, "_find_stored", lambda db, message: None)


@pytest.mark.usefixtures("blind")
async def test_a_message_that_a_bug_stores_again_is_refused(tmp_path: Path) -> None:
    """Whatever else the batch holds is not stored either, and the cursor stays."""
    async with opened(tmp_path / "wad.db") as store:
        await store.record(ACC, arrival(1), Cursor("g", 1))
        with pytest.raises(InvalidData, match="UNIQUE"):
            await store.record(ACC, [*arrival(2), *arrival(1)], Cursor("g", 2))
        assert (await store.totals(ACC)).messages == 1
        assert await store.cursor(ACC) == Cursor("g", 1)


@pytest.mark.parametrize(
    ("chat", "again"),
    [
        (ANN, {"id": "other"}),
        (ANN, {"id": "other", "sender": "somebody@lid"}),
        (GROUP, {"id": "other"}),
    ],
)
async def test_a_whatsapp_id_is_unique_in_a_chat(
    tmp_path: Path, chat: Any, again: dict[str, str]
) -> None:
    """Under another document id; in a chat of two also with another sender."""
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.record(ACC, arrival(1, chat, sender=ANN))
    with pytest.raises(sqlite3.IntegrityError):
        copy_row(path, 1, **again)


@pytest.mark.parametrize(
    "again",
    [
        {"id": "other", "wa_id": "OTHER"},
        {"id": "other", "from_me": 1},
        {"id": "other", "sender": str(BOB)},
        {"id": "other", "thread": ANN_THREAD},
        {"account": OTHER, "thread": f"{OTHER}__{GROUP}"},
        {"id": "other", "duplicate_of": "first"},
        {"duplicate_of": "first"},
    ],
)
async def test_another_message_is_not_refused(tmp_path: Path, again: dict[str, object]) -> None:
    """Another id, direction, author, chat or account; and a row that is marked as a duplicate, even of itself."""
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.record(ACC, [*arrival(1, GROUP, sender=ANN), *arrival(9)])
    copy_row(path, 1, **again)
    async with opened(path) as store:
        assert (await store.record(ACC, arrival(1, GROUP, sender=ANN))).known == 1


async def test_messages_without_a_whatsapp_id_are_many(tmp_path: Path) -> None:
    """What waits in the outbox has none yet."""
    async with opened(tmp_path / "wad.db") as store:
        for key in ("a", "b", "c"):
            await store.enqueue(queued(key))
        assert (await store.totals(ACC)).messages == 3


@pytest.mark.parametrize(
    ("query", "index"),
    [
        ("SELECT * FROM messages WHERE id = ?", "messages_by_id"),
        (f"SELECT * FROM messages WHERE {HAS_WA_ID}", "messages_by_wa_id"),
        (
            f"SELECT * FROM messages WHERE {HAS_WA_ID} AND thread = ? AND from_me",
            "messages_by_wa_id",
        ),
    ],
)
async def test_queries_use_an_index(tmp_path: Path, query: str, index: str) -> None:
    """The number of rows that are read does not grow with the number of messages."""
    async with opened(tmp_path / "wad.db"):
        pass
    plan = run(tmp_path / "wad.db", f"EXPLAIN QUERY PLAN {query}", *["x"] * query.count("?"))
    assert [index in row[-1] for row in plan] == [True]


async def test_messages_of_another_process_are_known(tmp_path: Path) -> None:
    """`wadctl store copy` writes beside the daemon: one message is stored once by the two of them."""
    async with opened(tmp_path / "wad.db") as one, opened(tmp_path / "wad.db") as other:
        await one.record(ACC, many(0, 10))
        assert (await other.record(ACC, many(0, 20))).known == 10
        assert (await one.record(ACC, many(0, 30))).known == 20
        assert (await one.totals(ACC)).messages == 30


# --- two that become one ------------------------------------------------------------------------------


async def test_an_echo_that_arrived_first_is_replaced_by_our_own(tmp_path: Path) -> None:
    """Both would have the WhatsApp id for a moment: the echo is deleted before."""
    async with opened(tmp_path / "wad.db") as store:
        await sending(store, queued())
        await store.record(ACC, arrival(1, from_me=True))
        await store.settle(queued().id, Sent(wa_id(1), NOON), epoch=EPOCH)
        assert [message.id for message in await store.messages(ANN_THREAD, limit=9)] == [
            queued().id
        ]


async def test_a_marked_duplicate_does_not_keep_two_threads_apart(tmp_path: Path) -> None:
    """The message is in both threads, and once more where it was marked."""
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.record(ACC, [*arrival(1), *arrival(1, ANN_LID), *arrival(2, ANN_LID)])
    copy_row(path, 1, id="copy", duplicate_of="first")
    run(path, "UPDATE threads SET messages = 1 WHERE id = ?", ANN_THREAD)
    async with opened(path) as store:
        await store.record(ACC, [PutAlias(str(ANN_LID), str(ANN))])
        assert await store.messages(ANN_LID_THREAD, limit=9) == await store.messages(
            ANN_THREAD, limit=9
        )
        found = [message.wa_id for message in await store.messages(ANN_THREAD, limit=9)]
        assert found == [wa_id(2), wa_id(1)]


# --- older files --------------------------------------------------------------------------------------


async def test_an_older_file_is_upgraded_without_a_change_of_content(tmp_path: Path) -> None:
    """Its messages are there and known when they are received again, and its own index is gone."""
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.record(ACC, [*many(0, 300), *arrival(1, GROUP, sender=ANN)], Cursor("g", 7))
        await store.enqueue(queued())
        before = await contents(store)
    make_older(path)
    async with opened(path) as store:
        assert await contents(store) == before
        assert (await store.record(ACC, many(0, 300))).known == 300
        assert await store.cursor(ACC) == Cursor("g", 7)
        assert store.problems() == ()
    assert run(path, "PRAGMA user_version") == [(len(STEPS),)]
    assert not run(path, "SELECT 1 FROM sqlite_schema WHERE name LIKE 'keys_%'")
    assert not run(path, "SELECT 1 FROM meta WHERE key = 'packed'")


async def test_duplicates_of_an_older_file_are_marked_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Under its own id again, and under another: the first stays, nothing is deleted, the thread counts it once."""
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.record(ACC, many(1, 3))
        before = await contents(store)
    first, second, _ = (row[0] for row in run(path, "SELECT id FROM messages ORDER BY number"))
    make_older(path)
    same = copy_row(path, 1)
    other = copy_row(path, 2, id="zz-duplicate")
    async with opened(path) as store:
        assert await contents(store) == before
        (problem,) = store.problems()
        assert "2 messages" in problem.text
        assert (await store.record(ACC, many(1, 3))).known == 3
    assert marked(path) == {same: first, other: second}
    for number, ident in ((same, first), (other, "zz-duplicate")):
        assert f"message {ident} (row {number}, account {ACC}" in caplog.text
    assert run(path, "SELECT count(*) FROM messages") == [(5,)]
    async with opened(path) as store:
        assert store.problems() == ()  # it was said


@pytest.mark.parametrize("placeholder", [MessageKind.LOST, MessageKind.UNDECRYPTABLE])
async def test_a_readable_message_stays(tmp_path: Path, placeholder: MessageKind) -> None:
    """Rather than an earlier placeholder for it."""
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.record(ACC, arrival(1, content=Content(placeholder)))
        await store.record(ACC, arrival(2))
    make_older(path)
    copy_row(path, 2, wa_id=wa_id(1))
    run(path, "DELETE FROM messages WHERE number = 2")
    async with opened(path) as store:
        (shown,) = await store.messages(ANN_THREAD, limit=9)
        assert shown.content == text("text 2")
        thread = await store.thread(ANN_THREAD)
        assert thread is not None
        assert (thread.messages, thread.last_text, thread.unread) == (1, "text 2", 1)


@pytest.mark.parametrize("again", ["the same message", "with its time"])
async def test_a_message_that_is_received_again_updates_the_shown_row(
    tmp_path: Path, again: str
) -> None:
    """Not the older placeholder for it, which is marked as its duplicate and has the message's document id."""
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.record(ACC, arrival(1, content=Content(MessageKind.LOST)))
        await store.record(ACC, arrival(2))
    make_older(path)
    copy_row(path, 2, wa_id=wa_id(1), push_name="" if again == "with its time" else "Ann")
    run(path, "DELETE FROM messages WHERE number = 2")
    async with opened(path) as store:
        done = await store.record(ACC, arrival(1, content=text("text 2"), push_name="Ann"))
        assert (len(done.new), done.known) == (0, 1)
        (shown,) = await store.messages(ANN_THREAD, limit=9)
        assert shown.push_name == "Ann"
    assert run(path, "SELECT kind FROM messages WHERE number = 1") == [("lost",)]


async def test_our_own_document_stays(tmp_path: Path) -> None:
    """Rather than its echo, though that was stored first."""
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.record(ACC, arrival(1, from_me=True))
        await sending(store, queued())
    make_older(path)
    run(path, "UPDATE messages SET wa_id = ? WHERE client_id != ''", wa_id(1))
    async with opened(path) as store:
        (shown,) = await store.messages(ANN_THREAD, limit=9)
        assert shown.id == queued().id


async def test_rows_that_were_marked_before_stay_unchanged(tmp_path: Path) -> None:
    """A repair of before has marked it already."""
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.record(ACC, arrival(1))
    make_older(path)
    number = copy_row(path, 1, id="zz-duplicate", duplicate_of="whatever")
    run(path, "UPDATE threads SET messages = 1")
    async with opened(path) as store:
        assert store.problems() == ()
        assert len(await store.messages(ANN_THREAD, limit=9)) == 1
    assert marked(path) == {number: "whatever"}


_KILLED = """
import os, signal, sys
from pathlib import Path
from wad.lib.sqlite_file import open_database
from wad.store.sqlite.schema import STEPS

def step(db):
    db.execute("PRAGMA cache_size = 10")  # so that much of it is in the log already
    unique_indexes(db)
    os.kill(os.getpid(), signal.SIGKILL)

older = int(sys.argv[2])
unique_indexes = STEPS[older]
open_database(Path(sys.argv[1]), (*STEPS[:older], step))
"""


async def test_an_upgrade_that_was_killed_begins_anew(tmp_path: Path) -> None:
    """It is one transaction: the file is the older one until all of it is done."""
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.record(ACC, many(0, 2000))
        before = await contents(store)
    make_older(path)
    copy_row(path, 7)
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(path), str(OLDER)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert os.path.getsize(f"{path}-wal") > 100_000
    assert run(path, "PRAGMA user_version") == [(OLDER,)]
    assert run(path, "SELECT count(*) FROM keys_old") == [(1,)]
    async with opened(path) as store:
        assert await contents(store) == before
        assert len(marked(path)) == 1


async def test_an_upgrade_reports_its_progress_and_can_be_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A large file takes minutes; a stop meanwhile interrupts it, and the next start continues."""
    monkeypatch.setattr(sqlite_file, "_REPORT_EVERY", 0.0)
    monkeypatch.setattr(sqlite_file, "_LOOK_AFTER", 100)
    monkeypatch.setattr(sqlite_file, "_LOG_EVERY", 0.0)
    caplog.set_level(logging.INFO)
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.record(ACC, many(0, 500))
    make_older(path)
    reported: list[float] = []

    def stop(seconds: float) -> bool:
        reported.append(seconds)
        return len(reported) < 5

    with pytest.raises(Unavailable, match="interrupted"):
        await SqliteStore.open(path, stop)
    assert len(reported) == 5
    assert "is being migrated" in caplog.text
    assert run(path, "PRAGMA user_version") == [(OLDER,)]
    async with opened(path, progress=lambda seconds: True) as store:
        assert (await store.totals(ACC)).messages == 500


async def test_a_document_is_one_message_whatever_its_direction(tmp_path: Path) -> None:
    """Another program has changed a document in Firestore: it is known by its id."""
    path = tmp_path / "wad.db"
    async with opened(path) as store:
        await store.record(ACC, arrival(1))
        (message,) = await store.messages(ANN_THREAD, limit=9)
        turned = [PutMessage(msgspec.structs.replace(message, from_me=True))]
        assert (await store.record(ACC, turned)).known == 1
