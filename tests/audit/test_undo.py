"""The undo of a repair of wad.db: every table is as before, and what was stored since stays."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.audit.damage import ALIAS, LID, PN, change_rows, copy_message, filled, ids, opened
from tests.contracts.order import EVENTS
from tests.contracts.world import (
    ACC,
    ANN_LID,
    ANN_LID_THREAD,
    ANN_THREAD,
    NOON,
    arrival,
    reaction,
    wa_id,
)
from wad.audit.rows import Range
from wad.audit.sqlite import undo
from wad.audit.sqlite.repair import repair, revert
from wad.core.addresses import Addresses
from wad.core.change import Change, PutMark
from wad.core.event import Event, ReceiptMark
from wad.core.plan import plan
from wad.store.sqlite.threads import recount

NOW = NOON + 60_000


def tables(file: Path) -> dict[str, list[Any]]:
    """Every row of every table."""
    with opened(file) as db:
        names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {
            name: sorted(db.execute(f"SELECT * FROM {name}").fetchall(), key=repr)
            for (name,) in names
        }


def repaired(file: Path) -> None:
    """Repair, with an undo file beside the store."""
    repair(file, Range(), NOW, file.with_name("undo"))


def learn_number(file: Path) -> None:
    """Add an alias as another program does it: nothing is merged."""
    change_rows(
        file, "INSERT OR IGNORE INTO aliases (account, lid, pn) VALUES (?,?,?)", ACC, LID, PN
    )


def move_to_a_wrong_thread(file: Path) -> None:
    """A thread id without an address; the row of the right thread stays."""
    wrong = f"{ACC}__[object Object]"
    change_rows(
        file, "UPDATE OR IGNORE messages SET thread = ? WHERE thread = ?", wrong, ANN_THREAD
    )


def copy_the_first(file: Path) -> None:
    """A second document of one message."""
    for ident in ids(file)[:1]:
        copy_message(file, ident, "zz-copy")


def spoil_statuses(file: Path) -> None:
    """Statuses that no receipt explains."""
    change_rows(file, "UPDATE messages SET status = 'read' WHERE from_me")


def lose_threads(file: Path) -> None:
    """The rows of all threads."""
    change_rows(file, "DELETE FROM threads")


DAMAGE = (learn_number, move_to_a_wrong_thread, copy_the_first, spoil_statuses, lose_threads)


@settings(max_examples=60)
@given(events=EVENTS, damages=st.lists(st.sampled_from(DAMAGE), min_size=1, unique=True))
async def test_an_undo_restores_every_table(
    events: list[tuple[Event, int]], damages: list[Any]
) -> None:
    """Whatever was stored and whatever was damaged: row for row, with summaries that fit the messages."""
    with tempfile.TemporaryDirectory() as directory:
        file = await filled(
            Path(directory), *(plan(ACC, event, Addresses(), seen) for event, seen in events)
        )
        for damage in damages:
            damage(file)
        with opened(file) as db:
            for (thread,) in db.execute("SELECT id FROM threads").fetchall():
                recount(db, thread)
        before = tables(file)
        repaired(file)
        if file.with_name("undo").exists():
            revert(file, file.with_name("undo"))
        assert tables(file) == before


async def test_an_amendment_of_both_addresses_is_restored_twice(tmp_path: Path) -> None:
    """The repair replaces the row of one address by that of the other; no statement deletes it by name."""
    both: list[Change] = [reaction(1, "!", by=ANN_LID), reaction(1, "!")]
    file = await filled(tmp_path, arrival(1), both)
    learn_number(file)
    before = tables(file)
    repaired(file)
    assert len(tables(file)["amendments"]) == 1
    revert(file, file.with_name("undo"))
    assert tables(file) == before


async def test_a_reused_number_of_an_amendment_takes_nothing_away(tmp_path: Path) -> None:
    """SQLite gives the number of a deleted row to the next one: both are stored after the undo."""
    both: list[Change] = [reaction(1, "!", by=ANN_LID), reaction(1, "!")]
    file = await filled(tmp_path, arrival(1), both)
    learn_number(file)
    repaired(file)
    await filled(tmp_path, [reaction(1, "?", at_s=9)])
    revert(file, file.with_name("undo"))
    parties = sorted((row[6], row[8]) for row in tables(file)["amendments"])
    assert parties == sorted([(LID, NOON + 5000), (PN, NOON + 5000), (PN, NOON + 9000)])


async def test_a_value_that_was_changed_since_stays(tmp_path: Path) -> None:
    """The repair corrected a status, then a receipt advanced it."""
    file = await filled(tmp_path, arrival(1, from_me=True))
    change_rows(file, "UPDATE messages SET status = 'delivered'")
    repaired(file)
    await filled(tmp_path, [PutMark(ANN_THREAD, wa_id(1), ReceiptMark.READ, PN, NOON)])
    revert(file, file.with_name("undo"))
    with opened(file) as db:
        assert db.execute("SELECT status FROM messages").fetchall() == [("read",)]


async def test_a_thread_that_is_in_use_since_stays(tmp_path: Path) -> None:
    """The repair created its row, and a message arrived: it is shown after the undo."""
    file = await filled(tmp_path, arrival(1))
    lose_threads(file)
    repaired(file)
    await filled(tmp_path, arrival(2))
    revert(file, file.with_name("undo"))
    with opened(file) as db:
        query = "SELECT messages, newer + older, last_text FROM threads WHERE id = ?"
        assert db.execute(query, (ANN_THREAD,)).fetchall() == [(2, 2, "text 2")]


async def test_a_message_that_was_received_again_is_stored_once_and_whole(tmp_path: Path) -> None:
    """The restored row is a placeholder, the row that was stored since has the text; the counts fit."""
    file = await filled(tmp_path, arrival(1, ANN_LID), arrival(1))
    learn_number(file)
    with opened(file) as db:
        (ident,) = db.execute(
            "SELECT id FROM messages WHERE thread = ?", (ANN_LID_THREAD,)
        ).fetchone()
    repaired(file)
    change_rows(file, "DELETE FROM aliases")
    await filled(tmp_path, arrival(1, ANN_LID), arrival(2, ANN_LID))
    change_rows(file, "UPDATE messages SET push_name = 'Ann' WHERE id = ?", ident)
    revert(file, file.with_name("undo"))
    with opened(file) as db:
        rows = db.execute(
            "SELECT id, push_name FROM messages WHERE thread = ? ORDER BY at_ms", (ANN_LID_THREAD,)
        ).fetchall()
        counts = db.execute(
            "SELECT id, messages, newer + older FROM threads ORDER BY id"
        ).fetchall()
    assert rows[0] == (ident, "Ann")
    assert len(rows) == 2
    assert counts == sorted([(ANN_LID_THREAD, 2, 2), (ANN_THREAD, 1, 1)])


async def test_the_undo_file_of_an_older_wad(tmp_path: Path) -> None:
    """It has only the values before the repair, which are restored as they are."""
    file = await filled(tmp_path, arrival(1, from_me=True))
    change_rows(file, "UPDATE messages SET status = 'delivered'")
    before = tables(file)
    repaired(file)
    old = file.with_name("old")
    changes = undo.read(file.with_name("undo"), undo.decode_all)
    undo.write(old, [undo.Change(one.table, one.act, one.key, one.before) for one in changes])
    revert(file, old)
    assert tables(file) == before


@pytest.mark.parametrize("change", ALIAS)
async def test_learning_a_number_is_not_damage(tmp_path: Path, change: Any) -> None:
    """The store itself merges the addresses, so nothing is left to repair."""
    file = await filled(tmp_path, arrival(1, ANN_LID), [change])
    repaired(file)
    assert not file.with_name("undo").exists()
