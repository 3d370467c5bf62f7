"""The library's database, read without the library."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from wad.core.errors import BadInput, Damaged, NotFound
from wad.engine import session_db


def a_database(path: Path, *, paired: bool = True, key: bytes = b"key") -> Path:
    """The tables that wad reads, as the library creates them."""
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TABLE whatsmeow_device (jid TEXT, lid TEXT, push_name TEXT, noise_key BLOB)"
        )
        db.execute("CREATE TABLE whatsmeow_message_secrets (message_id TEXT, key BLOB)")
        db.execute("INSERT INTO whatsmeow_message_secrets VALUES ('WA1', ?)", (b"secret",))
        if paired:
            device = ("1:2@s.whatsapp.net", None, "Shop", key)
            db.execute("INSERT INTO whatsmeow_device VALUES (?,?,?,?)", device)
    db.close()
    return path


def test_nothing_there_is_not_paired(tmp_path: Path) -> None:
    """A missing or empty file is a device that was never paired, and not damaged."""
    path = tmp_path / "session.db"
    assert not session_db.is_paired(path)
    session_db.check(path)
    path.touch()
    assert not session_db.is_paired(path)


def test_a_database_without_tables_is_not_paired(tmp_path: Path) -> None:
    """The library was interrupted before it created them."""
    path = tmp_path / "session.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE whatsmeow_version (version INTEGER)")
    db.close()
    assert not session_db.is_paired(path)
    assert session_db.identity(path) == ("", "", "", "")


def test_a_paired_device(tmp_path: Path) -> None:
    """Its row has its identity; NULL is an empty text."""
    path = a_database(tmp_path / "a #b?c.db")
    assert session_db.is_paired(path)
    assert session_db.identity(path)[:3] == ("1:2@s.whatsapp.net", "", "Shop")


def test_after_a_logout_the_row_is_gone(tmp_path: Path) -> None:
    """Tables without a device."""
    assert not session_db.is_paired(a_database(tmp_path / "session.db", paired=False))


def test_a_secret_identifies_the_message_that_may_have_been_sent(tmp_path: Path) -> None:
    """An unknown one was not sent."""
    path = a_database(tmp_path / "session.db")
    assert session_db.sent_as(path, b"secret") == "WA1"
    assert session_db.sent_as(path, b"other") is None


@pytest.mark.parametrize("there", ["nothing", "an empty file", "no device"])
def test_a_list_that_is_gone_proves_nothing(tmp_path: Path, there: str) -> None:
    """A logout empties the list, and a session may be quarantined: a message may have been sent all the same."""
    path = tmp_path / "session.db"
    if there == "an empty file":
        path.touch()
    if there == "no device":
        a_database(path, paired=False)
    with pytest.raises(NotFound):
        session_db.sent_as(path, b"other")


def test_another_session_proves_nothing(tmp_path: Path) -> None:
    """An account that was paired again, under the same address: the first session may have sent the message.

    A trace is proof in whichever file it is; and messages of the session itself are found as before.
    """
    first = a_database(tmp_path / "first.db", key=b"one")
    second = a_database(tmp_path / "second.db", key=b"two")
    mark = session_db.identity(first).mark
    assert mark != session_db.identity(second).mark
    assert session_db.sent_as(first, b"other", mark) is None
    assert session_db.sent_as(second, b"secret", mark) == "WA1"
    with pytest.raises(NotFound, match="paired again"):
        session_db.sent_as(second, b"other", mark)


def test_damage_is_seen(tmp_path: Path) -> None:
    """Before a worker is started on it."""
    path = tmp_path / "session.db"
    path.write_bytes(b"no database at all" * 100)
    for look in (session_db.check, session_db.is_paired):
        with pytest.raises(Damaged):
            look(path)


# --- the list of messages -------------------------------------------------------------------------


def a_listing(path: Path, *rows: tuple[str, str, str]) -> Path:
    """A session with number 1 and LID 2, and its list of messages."""
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TABLE whatsmeow_device (jid TEXT, lid TEXT, push_name TEXT, noise_key BLOB)"
        )
        device = ("1:5@s.whatsapp.net", "2:5@lid", "Shop", b"key")
        db.execute("INSERT INTO whatsmeow_device VALUES (?,?,?,?)", device)
        db.execute(
            "CREATE TABLE whatsmeow_message_secrets (chat_jid TEXT, sender_jid TEXT, message_id TEXT)"
        )
        db.executemany("INSERT INTO whatsmeow_message_secrets VALUES (?,?,?)", rows)
    db.close()
    return path


def test_the_messages_of_others_in_a_part_of_the_list(tmp_path: Path) -> None:
    """The account's own messages, under either address, are not in it."""
    path = a_listing(
        tmp_path / "session.db",
        ("9@lid", "9@lid", "A"),
        ("9@lid", "2@lid", "OURS"),
        ("9@lid", "1@s.whatsapp.net", "OURS2"),
        ("9@lid", "9@lid", "B"),
        ("g@g.us", "9@lid", "C"),
    )
    assert session_db.newest_secret(path) == 5
    assert session_db.messages_listed(path, 1, 4) == [("9@lid", "9@lid", "B")]
    assert session_db.messages_listed(path, 0, 1) == [("9@lid", "9@lid", "A")]


def test_no_list_is_an_empty_one(tmp_path: Path) -> None:
    """Neither a file nor tables, nor rows."""
    path = tmp_path / "session.db"
    assert session_db.newest_secret(path) == 0
    assert session_db.messages_listed(path, 0, 10) == []
    assert session_db.newest_secret(a_listing(path)) == 0


def test_old_plaintexts_are_deleted(tmp_path: Path) -> None:
    """The library does not delete them by itself."""
    path = tmp_path / "session.db"
    session_db.prune_plaintexts(path, 100)
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE whatsmeow_event_buffer (insert_timestamp INTEGER)")
        db.executemany("INSERT INTO whatsmeow_event_buffer VALUES (?)", [(99,), (100,), (101,)])
    session_db.prune_plaintexts(path, 100)
    left = db.execute("SELECT insert_timestamp FROM whatsmeow_event_buffer").fetchall()
    db.close()
    assert left == [(100,), (101,)]


def test_a_copy_includes_the_log(tmp_path: Path) -> None:
    """One file, which can be written elsewhere and read."""
    path = a_database(tmp_path / "session.db")
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("UPDATE whatsmeow_device SET push_name = 'New'")
        db.commit()
        copy = session_db.copy(path)
    session_db.check_copy(copy)
    other = tmp_path / "other.db"
    other.write_bytes(copy)
    assert session_db.identity(other)[2] == "New"
    assert session_db.copy(path) == copy


def test_a_copy_that_is_not_a_session_is_refused(tmp_path: Path) -> None:
    """Random bytes, a damaged database, one that was never paired, one of another program."""
    copy = session_db.copy(a_database(tmp_path / "session.db"))
    unpaired = session_db.copy(a_database(tmp_path / "unpaired.db", paired=False))
    for wrong in (b"", b"noise" * 1000, copy[:4096] + b"x" * (len(copy) - 4096), unpaired):
        with pytest.raises(BadInput):
            session_db.check_copy(wrong)


def test_invalid_text_hides_no_other_row(tmp_path: Path) -> None:
    """A name is repaired; a message with an invalid id is not searched for."""
    path = tmp_path / "session.db"
    with sqlite3.connect(path) as db:
        db.execute(
            "CREATE TABLE whatsmeow_device (jid TEXT, lid TEXT, push_name TEXT, noise_key BLOB)"
        )
        db.execute(
            "INSERT INTO whatsmeow_device VALUES ('1:2@s.whatsapp.net', NULL, CAST(x'53ff' AS TEXT), '')"
        )
        db.execute(
            "CREATE TABLE whatsmeow_contacts (their_jid TEXT, full_name TEXT, first_name TEXT)"
        )
        db.execute("INSERT INTO whatsmeow_contacts VALUES ('9@lid', CAST(x'42ff' AS TEXT), NULL)")
        db.execute("INSERT INTO whatsmeow_contacts VALUES ('8@lid', 'Ann', NULL)")
        db.execute(
            "CREATE TABLE whatsmeow_message_secrets (chat_jid TEXT, sender_jid TEXT, message_id TEXT)"
        )
        for ident in ("'A'", "CAST(x'41ff' AS TEXT)", "CAST(x'4100' AS TEXT)"):
            db.execute(f"INSERT INTO whatsmeow_message_secrets VALUES ('9@lid', '9@lid', {ident})")
    db.close()
    assert session_db.identity(path)[:3] == ("1:2@s.whatsapp.net", "", "S\ufffd")
    assert session_db.saved_names(path) == {"9@lid": "B\ufffd", "8@lid": "Ann"}
    assert [one.wa_id for one in session_db.messages_listed(path, 0, 10)] == ["A"]
