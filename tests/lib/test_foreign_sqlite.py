"""Databases that a worker can write: whatever they contain, a reader gets an error in time, and no code runs."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from wad.core.errors import Damaged, WadError
from wad.engine import session_db
from wad.engine.contacts import AddressBook
from wad.engine.lost_messages import Comparison
from wad.lib.clock import SystemClock
from wad.lib.foreign_sqlite import Guard
from wad.lib.sqlite_file import write_back
from wad.state.account_dir import AccountDir
from wad.state.spool import HEARD, Arrival, Spool
from wad.state.spool_salvage import salvage

ENDLESS = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c WHERE x < 0"
)
TABLES = ("meta", "events", "heard", "names", "set_aside")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a second of processor time, so that a test need not wait for ten."""
    monkeypatch.setattr(Guard.__init__, "__defaults__", (0.5, 60.0))


def a_spool(path: Path) -> Path:
    """As the worker makes it, with two rows."""
    with closing(Spool.open(path)) as spool:
        spool.take(
            [Arrival(1, "message", "WA1", b"raw", b"event"), Arrival(2, "message", "WA2", b"raw")]
        )
    return path


def changed(path: Path, *statements: str) -> None:
    """A worker that was taken over executes these."""
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            db.execute(statement)


def in_place_of(table: str) -> list[str]:
    """A view whose query does not end, under the name of a table."""
    columns = {
        "meta": "key, value", "heard": "wa_id, seq", "names": "address, name", "set_aside": "seq, since_ms, reason",
        "events": "seq, received_ms, kind, wa_id, raw, event, reason",
    }[table]  # fmt: skip
    same = ", ".join("x" for _ in columns.split(","))
    return [
        f"ALTER TABLE {table} RENAME TO was_{table}",
        f"CREATE VIEW {table} ({columns}) AS SELECT {same} FROM ({ENDLESS})",
    ]


QUESTIONS: list[Callable[[Spool], object]] = [
    lambda spool: spool.after(0, 500),
    lambda spool: spool.row(1),
    lambda spool: spool.kept(1000),
    lambda spool: spool.counts(),
    lambda spool: spool.set_aside(1, "why", 1),
    lambda spool: spool.recorded(1, b""),
    lambda spool: spool.drop(1),
    lambda spool: spool.untranslated_rows(10),
    lambda spool: spool.backlog(0),
    lambda spool: spool.has_ids(["WA1"]),
    lambda spool: spool.mark(),
    lambda spool: spool.pruned_after(0),
    lambda spool: list(spool.raw_after(0, "message")),
    lambda spool: spool.prune(10, 10, 10),
    lambda spool: spool.take([Arrival(1, HEARD, "WA3")]),
]


@pytest.mark.parametrize("question", range(len(QUESTIONS)))
def test_a_spool_that_is_changed_while_it_is_open(tmp_path: Path, question: int) -> None:
    """Each query ends, and raises Damaged."""
    path = a_spool(tmp_path / "spool.db")
    with closing(Spool.open(path)) as spool:
        changed(path, *[statement for table in TABLES for statement in in_place_of(table)])
        with pytest.raises(Damaged, match="which wad does not create"):
            QUESTIONS[question](spool)


HOSTILE = {
    **{f"a view for {table}": in_place_of(table) for table in TABLES},
    "a trigger": ["CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM events; END"],
    "another table": ["CREATE TABLE other (x)"],
    "another index": ["CREATE INDEX i ON events (kind)"],
    "an index that computes": ["CREATE INDEX i ON events (upper(kind))"],
    "a virtual table": ["CREATE VIRTUAL TABLE f USING fts5(x)"],
    "no table": ["DROP TABLE events"],
    "a column that is computed": ["ALTER TABLE events ADD COLUMN z AS (length(raw))"],
    "a check that is computed": ["DROP TABLE heard", "CREATE TABLE heard (wa_id TEXT CHECK (length(wa_id)), seq)"],
    "many tables": [f"CREATE TABLE t{number} (x)" for number in range(300)],
    "a generation of bytes": ["UPDATE meta SET value = x'00' WHERE key = 'generation'"],
    "a huge generation": ["UPDATE meta SET value = printf('%.*c', 1000000, 'x') WHERE key = 'generation'"],
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_spool_that_is_none_is_not_opened(tmp_path: Path, name: str) -> None:
    """It is damaged, so that it is set aside; and what is saved of it ends as well."""
    path = a_spool(tmp_path / "spool.db")
    changed(path, *HOSTILE[name])
    with pytest.raises(Damaged):
        Spool.open(path)
    with closing(Spool.open(tmp_path / "fresh.db")) as fresh:
        saved = salvage(path, fresh, lambda generation: 0)
    assert saved.rows in (0, 2)


def test_a_schema_that_was_written_by_hand(tmp_path: Path) -> None:
    """A table that is declared as a view, and one on a page that is none."""
    for number, forged in enumerate(
        (
            "UPDATE sqlite_schema SET type = 'view', rootpage = 0,"
            f" sql = 'CREATE VIEW heard AS {ENDLESS}' WHERE name = 'heard'",
            "UPDATE sqlite_schema SET rootpage = 100000 WHERE name = 'events'",
            "UPDATE sqlite_schema SET sql = 'nonsense' WHERE name = 'events'",
        )
    ):
        path = a_spool(tmp_path / f"{number}.db")
        changed(path, forged)
        with pytest.raises(Damaged):
            Spool.open(path)


@pytest.mark.parametrize("column", ["kind", "wa_id", "reason", "event", "raw", "received_ms"])
def test_a_row_that_is_huge_takes_no_memory(tmp_path: Path, column: str) -> None:
    """Its number is known, and what it holds is not read: the row is set aside, or the file is."""
    path = a_spool(tmp_path / "spool.db")
    changed(path, f"UPDATE events SET {column} = zeroblob(140000000) WHERE seq = 1")
    with closing(Spool.open(path)) as spool:
        for ask in (lambda: spool.after(0, 500), lambda: spool.kept(10), lambda: spool.row(1)):
            try:
                ask()
            except Damaged as error:
                assert "too big" in str(error)  # noqa: PT017, either is right
        if column == "event":
            assert [(row.seq, row.event) for row in spool.after(0, 500)] == [(1, b""), (2, None)]


def test_numbers_that_are_none(tmp_path: Path) -> None:
    """The counter of rows in the file is a text."""
    path = a_spool(tmp_path / "spool.db")
    changed(path, "UPDATE sqlite_sequence SET seq = 'many'")
    with closing(Spool.open(path)) as spool, pytest.raises(Damaged):
        spool.last_seq()


def test_writing_a_log_back_runs_nothing(tmp_path: Path) -> None:
    """As it is done for every account's databases."""
    path = a_spool(tmp_path / "spool.db")
    changed(path, *in_place_of("events"))
    assert write_back(path)


def test_readers_of_names(tmp_path: Path) -> None:
    """The daemon's looks into both files end in an error that they know."""
    account_dir = AccountDir(tmp_path)
    with closing(sqlite3.connect(account_dir.session_db, isolation_level=None)) as db:
        db.execute(
            "CREATE TABLE whatsmeow_message_secrets (our_jid, chat_jid, sender_jid, message_id, key)"
        )
        db.execute(
            "CREATE TABLE whatsmeow_contacts (their_jid TEXT, full_name TEXT, first_name TEXT)"
        )
        db.execute(
            "CREATE TABLE whatsmeow_device (jid TEXT, lid TEXT, push_name TEXT, noise_key BLOB)"
        )
    a_spool(account_dir.spool_db)
    comparison, book = (
        Comparison(account_dir, SystemClock()),
        AddressBook(account_dir, SystemClock()),
    )
    with closing(sqlite3.connect(account_dir.session_db, isolation_level=None)) as db:
        db.execute("DROP TABLE whatsmeow_message_secrets")
        db.execute("DROP TABLE whatsmeow_contacts")
        db.execute(f"CREATE VIEW whatsmeow_message_secrets AS {ENDLESS}")
        db.execute(f"CREATE VIEW whatsmeow_contacts (their_jid) AS {ENDLESS}")
    for look in (comparison.run, book.check, lambda: session_db.identity(account_dir.session_db)):
        with pytest.raises(WadError, match="is not the library's"):
            look()


def test_names_without_end(tmp_path: Path) -> None:
    """More than fits is damage, not memory."""
    path = tmp_path / "session.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(
            "CREATE TABLE whatsmeow_contacts (their_jid TEXT, full_name TEXT, first_name TEXT)"
        )
        row = "INSERT INTO whatsmeow_contacts VALUES ('1@s.whatsapp.net', printf('%.*c', 10000000, 'x'), '')"
        for _ in range(20):
            db.execute(row)
    with pytest.raises(Damaged, match="more than"):
        session_db.saved_names(path)


def test_a_session_too_large_for_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not copied into memory to find that out."""
    path = tmp_path / "session.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        db.execute(
            "CREATE TABLE whatsmeow_device (jid TEXT, lid TEXT, push_name TEXT, noise_key BLOB)"
        )
    monkeypatch.setattr(session_db, "LARGEST", 4096)
    with pytest.raises(WadError, match="is larger than"):
        session_db.copy(path)


@pytest.mark.parametrize("name", ["spool.db", "session.db"])
def test_a_log_that_is_too_large_is_not_read(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite would read all of it to open the database, and nothing ends that."""
    path = a_spool(tmp_path / name)
    with open(f"{path}-wal", "wb") as log:
        log.truncate((1 << 30) + 1)  # it takes no room
    with pytest.raises(Damaged, match=f"{name}-wal has 1024 MB"):
        Spool.open(path) if name == "spool.db" else session_db.is_paired(path)
    with pytest.raises(Damaged):
        write_back(path)
