"""The library's database, read without the library."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from wad.core.errors import Damaged
from wad.engine import session


def a_database(path: Path, *, paired: bool = True) -> Path:
    """The tables that are read, as the library makes them."""
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE whatsmeow_device (jid TEXT, lid TEXT, push_name TEXT)")
        db.execute("CREATE TABLE whatsmeow_message_secrets (message_id TEXT, key BLOB)")
        db.execute("INSERT INTO whatsmeow_message_secrets VALUES ('WA1', ?)", (b"secret",))
        if paired:
            db.execute("INSERT INTO whatsmeow_device VALUES ('1:2@s.whatsapp.net', NULL, 'Shop')")
    db.close()
    return path


def test_nothing_there_is_not_paired(tmp_path: Path) -> None:
    """A missing and an empty file are a device that was never paired, and not damaged."""
    path = tmp_path / "session.db"
    assert not session.is_paired(path)
    session.check(path)
    path.touch()
    assert not session.is_paired(path)
    assert session.sent_as(path, b"secret") is None


def test_a_database_without_tables_is_not_paired(tmp_path: Path) -> None:
    """The library was interrupted before it made them."""
    path = tmp_path / "session.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE other (x)")
    db.close()
    assert not session.is_paired(path)
    assert session.identity(path) == ("", "", "")


def test_a_paired_device(tmp_path: Path) -> None:
    """Its row says who it is; what is NULL is an empty text."""
    path = a_database(tmp_path / "a #b?c.db")
    assert session.is_paired(path)
    assert session.identity(path) == ("1:2@s.whatsapp.net", "", "Shop")


def test_after_a_logout_the_row_is_gone(tmp_path: Path) -> None:
    """Tables without a device."""
    assert not session.is_paired(a_database(tmp_path / "session.db", paired=False))


def test_a_secret_names_the_message_that_may_have_left(tmp_path: Path) -> None:
    """And an unknown one says that nothing left."""
    path = a_database(tmp_path / "session.db")
    assert session.sent_as(path, b"secret") == "WA1"
    assert session.sent_as(path, b"other") is None


def test_damage_is_seen(tmp_path: Path) -> None:
    """Before a worker is started on it."""
    path = tmp_path / "session.db"
    path.write_bytes(b"no database at all" * 100)
    for look in (session.check, session.is_paired):
        with pytest.raises(Damaged):
            look(path)
