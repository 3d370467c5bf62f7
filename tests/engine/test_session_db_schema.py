"""Untrusted sessions: nothing in them is run, and reading them terminates."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wad.core.errors import BadInput, EngineFailure
from wad.engine import session_db
from wad.lib.foreign_sqlite import Guard

ENDLESS = (
    "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT x FROM c WHERE x < 0"
)
DEVICE = (
    "INSERT INTO whatsmeow_device (jid, lid, registration_id, noise_key, identity_key, signed_pre_key,"
    " signed_pre_key_id, signed_pre_key_sig, adv_key, adv_details, adv_account_sig, adv_account_sig_key,"
    " adv_device_sig, push_name) VALUES (?, ?, 1, zeroblob(32), zeroblob(32), zeroblob(32), 1, zeroblob(64), x'00',"
    " x'00', zeroblob(64), zeroblob(32), zeroblob(64), ?)"
)
OURS = ("15550000001:3@s.whatsapp.net", "123456:3@lid", "Shop")


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The tables of the installed library, created by itself."""
    file = tmp_path_factory.mktemp("schema") / "session.db"
    subprocess.run([sys.executable, "-m", "wad.worker.schema", str(file)], check=True)
    return file.read_bytes()


def changed(database: bytes, *statements: str, device: tuple[object, ...] | None = OURS) -> bytes:
    """A database after these statements."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as db:
        db.deserialize(database)
        if device is not None:
            db.execute(DEVICE, device)
        for statement in statements:
            db.execute(statement)
        return bytes(db.serialize())


def test_the_librarys_own_tables_are_accepted(empty: bytes) -> None:
    """After an upgrade of neonize this shows whether the rules still fit its schema."""
    session_db.check_copy(changed(empty))


@pytest.mark.parametrize(
    "upgrade",
    [
        "ALTER TABLE whatsmeow_device ADD COLUMN something TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE whatsmeow_device ADD COLUMN number BIGINT NOT NULL DEFAULT 0 CHECK ( number >= 0 )",
        "CREATE TABLE whatsmeow_new (our_jid TEXT, x bytea NOT NULL CHECK ( length(x) = 32 ), PRIMARY KEY (our_jid),"
        " FOREIGN KEY (our_jid) REFERENCES whatsmeow_device(jid) ON DELETE CASCADE ON UPDATE CASCADE)",
        "CREATE TABLE IF NOT EXISTS whatsmeow_new (x TEXT PRIMARY KEY) WITHOUT ROWID",
        "CREATE UNIQUE INDEX whatsmeow_new_idx ON whatsmeow_contacts (our_jid, push_name DESC)",
        "ALTER TABLE whatsmeow_contacts DROP COLUMN redacted_phone",
        "PRAGMA user_version = 9",
    ],
)
def test_schemas_of_other_library_versions_are_accepted(empty: bytes, upgrade: str) -> None:
    """More tables, columns and indexes of the allowed kind."""
    session_db.check_copy(changed(empty, upgrade))


HOSTILE = [
    f"CREATE VIEW whatsmeow_extra AS {ENDLESS}",
    "CREATE VIEW harmless AS SELECT 1",
    "CREATE TRIGGER t AFTER UPDATE ON whatsmeow_device BEGIN DELETE FROM whatsmeow_sessions; END",
    "CREATE TRIGGER t AFTER INSERT ON whatsmeow_message_secrets BEGIN SELECT load_extension('x'); END",
    "CREATE VIRTUAL TABLE whatsmeow_fts USING fts5(x)",
    "CREATE VIRTUAL TABLE whatsmeow_fts USING rtree(id, a, b)",
    "CREATE TABLE whatsmeow_new (x INTEGER, y AS (x + 1))",
    "CREATE TABLE whatsmeow_new (x INTEGER, y INTEGER GENERATED ALWAYS AS (length(x)) STORED)",
    "ALTER TABLE whatsmeow_device ADD COLUMN y AS (printf('%.*c', 1000000000, 'x'))",
    "CREATE TABLE whatsmeow_new (x TEXT DEFAULT (randomblob(1000000000)))",
    "CREATE TABLE whatsmeow_new (x TEXT CHECK (length(zeroblob(1000000000)) > 0))",
    "CREATE TABLE whatsmeow_new (x TEXT CHECK (x LIKE '%a%a%a%a%a%'))",
    "CREATE TABLE whatsmeow_new (x TEXT DEFAULT CURRENT_TIMESTAMP)",
    "CREATE TABLE whatsmeow_new (x TEXT COLLATE nocase)",
    "CREATE INDEX i ON whatsmeow_contacts (lower(push_name))",
    "CREATE INDEX i ON whatsmeow_contacts (push_name) WHERE push_name > 'a'",
    "CREATE TABLE other (x)",
    'CREATE TABLE "whatsmeow_a b" (x)',
    "CREATE TABLE whatsmeow_new (x TEXT /* a comment */)",
    "CREATE TABLE whatsmeow_new (x TEXT) STRICT",
    "CREATE TABLE whatsmeow_new (x INTEGER PRIMARY KEY AUTOINCREMENT)",
    "ANALYZE",
]


@pytest.mark.parametrize("statement", HOSTILE)
def test_schemas_that_are_not_the_librarys_are_refused(empty: bytes, statement: str) -> None:
    """Views, triggers, virtual tables, computed columns, defaults, checks and indexes, other names."""
    with pytest.raises(BadInput, match="not the library's"):
        session_db.check_copy(changed(empty, statement))


def test_a_view_in_place_of_a_table_is_refused_at_once() -> None:
    """Whatever its query: it is not run."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute(
            "CREATE VIEW whatsmeow_device AS WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c)"
            " SELECT x AS jid, x AS lid, x AS push_name FROM c WHERE x < 0"
        )
        database = bytes(db.serialize())
    with pytest.raises(BadInput, match="a view whatsmeow_device"):
        session_db.check_copy(database)


def test_a_table_with_a_wrong_declared_name(empty: bytes) -> None:
    """Written with the schema made writable, as only an attacker does."""
    forged = changed(
        empty,
        "PRAGMA writable_schema = ON",
        "UPDATE sqlite_master SET sql = 'CREATE VIEW whatsmeow_nct_salt AS SELECT 1' WHERE name = 'whatsmeow_nct_salt'",
    )
    with pytest.raises(BadInput):
        session_db.check_copy(forged)


def test_too_many_tables_are_refused(empty: bytes) -> None:
    """Each would be parsed at every opening."""
    many = [f"CREATE TABLE whatsmeow_{number} (x)" for number in range(200)]
    with pytest.raises(BadInput, match="more than 200"):
        session_db.check_copy(changed(empty, *many))


@pytest.mark.parametrize(
    ("device", "why"),
    [
        (None, "no device"),
        (("nobody", None, "Shop"), "an invalid address|not a WhatsApp address"),
        ((b"15550000001:3@s.whatsapp.net", None, "Shop"), "an invalid address"),
        (("123-456@g.us", None, "Shop"), "an invalid address"),
        (("15550000001:3@s.whatsapp.net", "\x1b[31m", "Shop"), "address"),
        (("15550000001:3@s.whatsapp.net", None, b"\xff"), "an invalid name"),
        (("15550000001:3@s.whatsapp.net", None, "x" * 100_000), "an invalid name"),
    ],
)
def test_an_invalid_device_is_refused(
    empty: bytes, device: tuple[object, ...] | None, why: str
) -> None:
    """The daemon uses its address and name."""
    with pytest.raises(BadInput) as caught:
        session_db.check_copy(changed(empty, device=device))
    assert any(part in str(caught.value) for part in (*why.split("|"), "is no JID"))


def test_two_devices_are_refused(empty: bytes) -> None:
    """The library would take either."""
    second = f"INSERT INTO whatsmeow_device SELECT {_columns(empty)} FROM whatsmeow_device"
    with pytest.raises(BadInput, match="several devices"):
        session_db.check_copy(changed(empty, second))


def _columns(database: bytes) -> str:
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(database)
        names = [row[1] for row in db.execute("PRAGMA table_info(whatsmeow_device)")]
    return ", ".join("'1:1@lid'" if name == "jid" else name for name in names)


def test_a_session_that_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything in it is read."""
    monkeypatch.setattr(session_db, "LARGEST", 100)
    with pytest.raises(BadInput, match="at most"):
        session_db.check_copy(b"x" * 101)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_file_with_changed_bytes_is_a_session_or_refused(
    empty: bytes, data: st.DataObject
) -> None:
    """BadInput is the only error, whatever the content."""
    database = bytearray(changed(empty))
    for _ in range(data.draw(st.integers(1, 20))):
        # Most of the important bytes are in the first pages: the header and the schema.
        at = data.draw(st.integers(0, 9000) | st.integers(0, len(database) - 1))
        database[at] = data.draw(st.integers(0, 255))
    try:
        session_db.check_copy(bytes(database[: data.draw(st.integers(1, len(database)))]))
    except BadInput:
        return


# --- a file that was put into the account's directory ----------------------------------------------


def a_file(path: Path, database: bytes) -> Path:
    """It is on the disk."""
    path.write_bytes(database)
    return path


VIEWS = {
    "device": "jid, lid, push_name",
    "message_secrets": "rowid, chat_jid, sender_jid, message_id, key",
    "contacts": "their_jid, full_name, first_name",
    "pre_keys": "jid",
    "sessions": "jid",
    "app_state_sync_keys": "jid",
    "app_state_version": "jid",
}
READERS: list[Callable[[Path], object]] = [
    session_db.check,
    session_db.is_paired,
    session_db.identity,
    session_db.newest_secret,
    session_db.saved_names,
    session_db.counts,
    lambda path: session_db.messages_listed(path, 0, 10),
]


def test_an_endless_query_ends() -> None:
    """After some seconds of processor time."""
    guard = Guard(cpu_s=0.2)
    with closing(sqlite3.connect(":memory:")) as db:
        db.execute("CREATE TABLE t (x)")
        db.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(1000)])
        guard.watch(db)
        for _ in range(2):
            guard.begin()
            with pytest.raises(sqlite3.OperationalError, match="interrupted"):
                db.execute("SELECT count(*) FROM t, t AS u, t AS v, t AS w").fetchone()
            assert guard.spent


@pytest.mark.parametrize("reader", READERS)
def test_a_file_of_views_is_not_asked(tmp_path: Path, reader: Callable[[Path], object]) -> None:
    """Each query of it ends at once, although a worker, or a restore, made its queries endless."""
    with closing(sqlite3.connect(":memory:")) as db:
        for table, columns in VIEWS.items():
            same = ", ".join("x" for _ in columns.split(","))
            db.execute(
                f"CREATE VIEW whatsmeow_{table} ({columns}) AS WITH RECURSIVE c(x) AS"
                f" (SELECT 1 UNION ALL SELECT x + 1 FROM c) SELECT {same} FROM c WHERE x < 0"
            )
        file = a_file(tmp_path / "session.db", bytes(db.serialize()))
    with pytest.raises(EngineFailure, match="a view whatsmeow_"):
        reader(file)


@pytest.mark.parametrize(
    "statement", [one for one in HOSTILE if "VIEW" in one or "TRIGGER" in one or "VIRTUAL" in one]
)
def test_no_worker_starts_on_a_file_with_views_or_triggers(
    tmp_path: Path, empty: bytes, statement: str
) -> None:
    """The library would run them.  The file stays: it may be all that is left of a session."""
    file = a_file(tmp_path / "session.db", changed(empty, statement))
    with pytest.raises(EngineFailure, match="is not the library's"):
        session_db.check(file)
    assert file.exists()


def test_a_large_session_is_within_its_budget(empty: bytes) -> None:
    """The library's own data is read and checked in far fewer steps than allowed."""
    statements = [
        "INSERT INTO whatsmeow_message_secrets WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c"
        f" WHERE x < 20000) SELECT '{OURS[0]}', x, x, x, zeroblob(4) FROM c",
        "INSERT INTO whatsmeow_lid_map WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c"
        " WHERE x < 20000) SELECT x, x FROM c",
    ]
    database = changed(empty, *statements)
    session_db.check_copy(database)
    guard = Guard()
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(database)
        guard.watch(db)
        guard.begin()
        begun = time.thread_time()
        assert db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",)
    assert (
        time.thread_time() - begun < 10 / 4
    )  # seconds of processor time: a quarter of what is given
