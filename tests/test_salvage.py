"""What is saved of a damaged spool: all that can be read and was not recorded."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.test_spool import a_long_one, event, path, put
from wad.salvage import Salvaged, salvage
from wad.spool import Row, Spool

__all__ = ["path"]  # a fixture


def salvaged(damaged: Path, recorded: int = 0) -> tuple[Salvaged, list[Row]]:
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
    (count, complete), rows = salvaged(path)
    assert not complete
    found = [row.received_ms for row in rows]
    assert count == len(rows)
    assert found == sorted(set(found))
    assert 560 < count < 600
    assert (found[0], found[-1]) == (0, 599)
    assert [row.seq for row in rows] == list(range(1, count + 1))
    assert all(row.event == event(row.received_ms) for row in rows)


def test_raw_bytes_are_saved_too(path: Path) -> None:
    """What was never translated comes along whole."""
    with closing(Spool.open(path)) as spool:
        put(spool, 5, untranslated=True)
    with closing(Spool.open(path.with_name("new.db"))) as into:
        assert salvage(path, into, lambda _generation: 0) == (1, True)
        (row,) = into.untranslated_rows(10)
    assert (row.raw, row.reason, row.wa_id) == (b"\5" * 300, "too strange", "ID5")


def test_what_was_recorded_need_not_be_saved(path: Path) -> None:
    """Only rows after the cursor."""
    a_long_one(path)
    saved, rows = salvaged(path, recorded=590)
    assert saved == (10, True)
    assert [row.received_ms for row in rows] == list(range(590, 600))


def test_rows_in_the_log_are_saved(path: Path) -> None:
    """A log that was renamed with its file is read with it."""
    with closing(Spool.open(path)) as spool:
        for number in range(5):
            put(spool, number)
        for suffix in ("", "-wal"):
            source = path.with_name(path.name + suffix)
            path.with_name(f"aside{suffix}").write_bytes(source.read_bytes())
    assert salvaged(path.with_name("aside"))[0] == (5, True)


def test_a_damaged_translation_becomes_an_untranslated_row(path: Path) -> None:
    """It must not stop the inbox for ever; the raw bytes are still there."""
    with closing(Spool.open(path)) as spool:
        spool.append(received_ms=1, kind="message", wa_id="A", raw=b"raw", event=b"\xc1nonsense")
        put(spool, 2)
    saved, rows = salvaged(path)
    assert saved == (2, False)
    assert [row.event for row in rows] == [None, event(2)]
    assert rows[0].reason.startswith("its translation was damaged")


@pytest.mark.parametrize("content", [b"", b"no database at all" * 100])
def test_where_nothing_is_left_nothing_is_saved(path: Path, content: bytes) -> None:
    """Salvaging never fails for damage."""
    path.write_bytes(content)
    assert salvaged(path) == ((0, False), [])


def test_a_missing_file_has_no_rows(path: Path) -> None:
    """Salvaging does not make the file that it looks for."""
    assert salvaged(path) == ((0, False), [])
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
    assert saved == (3, True)
    assert [row.received_ms for row in rows] == [1, 2, 3]


def test_a_file_that_does_not_say_which_it_is_is_saved_whole(path: Path) -> None:
    """What was recorded of it is unknown, and to record it again changes nothing."""
    a_long_one(path, 3)
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM meta")
        db.commit()
    assert salvaged(path, recorded=2)[0] == (3, False)
