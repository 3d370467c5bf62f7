"""What is saved of a damaged spool: all that can be read and was not recorded."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.state.test_spool import a_long_one, event, path, put
from wad.core.errors import StateUnwritable, Unavailable
from wad.state.spool import Salvaged, Spool, SpoolRow
from wad.state.spool_salvage import salvage

__all__ = ["path"]  # a fixture


def counted(saved: Salvaged) -> tuple[int, bool]:
    """How many rows, and whether these are all."""
    return saved.rows, saved.complete


def salvaged(damaged: Path, recorded: int = 0) -> tuple[Salvaged, list[SpoolRow]]:
    """What could be saved into a new spool."""
    with closing(Spool.open(damaged.with_name("new.db"))) as into:
        saved = salvage(damaged, into, lambda _generation: recorded)
        return saved, into.after(0, 100_000)


def test_rows_around_the_damage_are_saved(path: Path) -> None:
    """Before it and behind it, in the old order, with new numbers."""
    a_long_one(path)
    data = bytearray(path.read_bytes())
    middle = len(data) // 2 // 4096 * 4096
    data[middle : middle + 8192] = b"\xff" * 8192
    path.write_bytes(data)
    saved, rows = salvaged(path)
    count = saved.rows
    assert not saved.complete
    found = [row.received_ms for row in rows]
    assert count == len(rows)
    assert found == sorted(set(found))
    assert 560 < count < 600
    assert (found[0], found[-1]) == (0, 599)
    assert [row.seq for row in rows] == list(range(1, count + 1))
    assert all(row.event == event(row.received_ms) for row in rows)


def test_raw_bytes_are_saved_too(path: Path) -> None:
    """Untranslated rows are copied completely."""
    with closing(Spool.open(path)) as spool:
        put(spool, 5, untranslated=True)
    with closing(Spool.open(path.with_name("new.db"))) as into:
        assert salvage(path, into, lambda _generation: 0) == Salvaged(1, complete=True, seq=1)
        (row,) = into.untranslated_rows(10)
    assert (row.raw, row.reason, row.wa_id) == (b"\5" * 300, "too strange", "ID5")


def test_recorded_rows_need_not_be_saved(path: Path) -> None:
    """Only rows after the cursor."""
    a_long_one(path)
    saved, rows = salvaged(path, recorded=590)
    assert counted(saved) == (10, True)
    assert [row.received_ms for row in rows] == list(range(590, 600))


def test_rows_in_the_log_are_saved(path: Path) -> None:
    """A log that was renamed with its file is read with it."""
    with closing(Spool.open(path)) as spool:
        for number in range(5):
            put(spool, number)
        for suffix in ("", "-wal"):
            source = path.with_name(path.name + suffix)
            path.with_name(f"aside{suffix}").write_bytes(source.read_bytes())
    assert counted(salvaged(path.with_name("aside"))[0]) == (5, True)


def test_a_damaged_translation_becomes_an_untranslated_row(path: Path) -> None:
    """It must not stop the inbox for ever; the raw bytes are still there."""
    with closing(Spool.open(path)) as spool:
        spool.append(received_ms=1, kind="message", wa_id="A", raw=b"raw", event=b"\xc1nonsense")
        put(spool, 2)
    saved, rows = salvaged(path)
    assert counted(saved) == (2, False)
    assert [row.event for row in rows] == [None, event(2)]
    assert rows[0].reason.startswith("its translation was damaged")


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_where_nothing_is_left_nothing_is_saved(path: Path, content: bytes) -> None:
    """Salvaging never fails for damage."""
    path.write_bytes(content)
    assert salvaged(path) == (Salvaged(complete=False), [])


def test_a_missing_file_has_no_rows(path: Path) -> None:
    """Salvaging does not make the file that it looks for."""
    assert salvaged(path) == (Salvaged(complete=False), [])
    assert not path.exists()


def test_salvaging_changes_nothing_in_the_damaged_file(path: Path) -> None:
    """It is evidence."""
    a_long_one(path)
    before = path.read_bytes()
    salvaged(path)
    assert path.read_bytes() == before


def test_rows_that_an_operator_is_to_look_at_are_saved(path: Path) -> None:
    """Also from before the cursor, since they are recorded nowhere."""
    with closing(Spool.open(path)) as spool:
        seqs = [put(spool, number, untranslated=number == 1) for number in range(4)]
        spool.set_aside(seqs[2], "the store refused it", 1)
    saved, rows = salvaged(path, recorded=seqs[2])
    assert counted(saved) == (3, True)
    assert [row.received_ms for row in rows] == [1, 2, 3]


def test_a_file_that_does_not_say_which_it_is_is_saved_whole(path: Path) -> None:
    """What was recorded of it is unknown, and to record it again changes nothing."""
    a_long_one(path, 3)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM meta")
        db.commit()
    assert counted(salvaged(path, recorded=2)[0]) == (3, False)


def test_after_an_error_it_continues_where_it_was(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk in the middle: each row is copied once, however often and by whatever process it is tried."""
    monkeypatch.setattr("wad.state.spool_salvage._STRIDE", 50)
    a_long_one(path)
    with closing(Spool.open(path)) as spool:
        put(spool, 600, untranslated=True)
        spool.set_aside(3, "the store refused it", 1)
    new = path.with_name("new.db")
    append, tries = Spool.append_salvaged, 0

    def full(self: Spool, *given: Any) -> None:
        if tries % 3 == 2:
            raise StateUnwritable("the disk is full")
        append(self, *given)

    while True:
        with closing(Spool.open(new)) as into, monkeypatch.context() as patched:

            def counted_full(self: Spool, *given: Any) -> None:
                nonlocal tries
                tries += 1
                full(self, *given)

            patched.setattr(Spool, "append_salvaged", counted_full)
            try:
                saved = salvage(path, into, lambda _generation: 100)
            except StateUnwritable:
                continue
        break
    with closing(Spool.open(new)) as into:
        rows = into.after(0, 100_000)
    assert [row.received_ms for row in rows] == [2, *range(100, 601)]
    assert counted(saved) == (502, True)


def test_unreadable_rows_before_an_error_count_after_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the copy would pass for saved, and would be deleted one day."""
    monkeypatch.setattr("wad.state.spool_salvage._STRIDE", 2)
    with closing(Spool.open(path)) as spool:
        spool.append(received_ms=0, kind="message", wa_id="A", raw=b"raw", event=b"\xc1nonsense")
        for number in range(1, 10):
            put(spool, number)
    append, tries = Spool.append_salvaged, 0

    def full(self: Spool, *given: Any) -> None:
        nonlocal tries
        tries += 1
        if tries == 3:
            raise StateUnwritable("the disk is full")
        append(self, *given)

    monkeypatch.setattr(Spool, "append_salvaged", full)
    with closing(Spool.open(path.with_name("new.db"))) as into:
        with pytest.raises(StateUnwritable):
            salvage(path, into, lambda _generation: 0)
        assert counted(salvage(path, into, lambda _generation: 0)) == (10, False)


@pytest.mark.parametrize("code", ["SQLITE_CANTOPEN", "SQLITE_NOMEM", "SQLITE_BUSY"])
def test_a_temporary_error_is_not_damage(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    """A lack of file descriptors or memory says nothing about the file, and is retried."""
    a_long_one(path, 3)

    def fail(*_: object, **__: object) -> object:
        error = sqlite3.OperationalError("not now")
        error.sqlite_errorname = code
        raise error

    with closing(Spool.open(path.with_name("new.db"))) as into:
        with monkeypatch.context() as patched:
            patched.setattr("wad.state.spool_salvage.sqlite3.connect", fail)
            with pytest.raises(Unavailable):
                salvage(path, into, lambda _generation: 0)
        assert counted(salvage(path, into, lambda _generation: 0)) == (3, True)
