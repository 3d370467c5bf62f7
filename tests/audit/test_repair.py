"""The repair of the embedded store: what it finds, changes, records, and reverts."""

from __future__ import annotations

import stat
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings

from tests.audit.damage import (
    ALIAS,
    LID,
    PN,
    change_rows,
    copy_message,
    filled,
    ids,
    opened,
    spread,
)
from tests.contracts.order import EVENTS
from tests.contracts.world import (
    ACC,
    ANN,
    ANN_LID,
    ANN_THREAD,
    BOB,
    GROUP,
    NOON,
    arrival,
    queued,
    wa_id,
)
from wad.audit import open_rows
from wad.audit.duplicates import Question, audit_messages, audit_threads
from wad.audit.reports import AuditVerdict, RepairReport, RepairVerdict
from wad.audit.rows import Range
from wad.audit.sqlite import undo
from wad.audit.sqlite.repair import repair, revert
from wad.audit.sqlite.rules import right_chat, right_status, right_thread
from wad.core.addresses import Addresses
from wad.core.change import PutMark, PutMessage
from wad.core.errors import BadInput, Conflict
from wad.core.event import Event, ReceiptMark
from wad.core.message import Message, Thread
from wad.core.plan import plan
from wad.store.sqlite.store import SqliteStore
from wad.store.sqlite.unique_indexes import BY_WA_ID

NOW = NOON + 60_000
UNIQUE = BY_WA_ID.create
"""Gives a file the index back that `copy_message` takes away."""


def content(file: Path) -> dict[str, list[Any]]:
    """Every row of every table that a repair may touch."""
    tables = {"messages": "id", "threads": "id", "amendments": "number", "outbox": "number"}
    with opened(file) as db:
        return {
            table: db.execute(f"SELECT * FROM {table} ORDER BY {key}").fetchall()
            for table, key in tables.items()
        }


def repaired(file: Path, wanted: Range = Range()) -> RepairReport:  # noqa: B008, a tuple
    """Run a dry run, the repair, and the repair again: it does what it reported, and leaves nothing to do."""
    before = content(file)
    tried = repair(file, wanted, NOW, None)
    assert content(file) == before
    done = repair(file, wanted, NOW, file.with_name("undo"))
    assert done.rows_changed == tried.rows_changed > 0
    assert (tried.verdict, done.verdict) == (RepairVerdict.TO_REPAIR, RepairVerdict.REPAIRED)
    again = repair(file, wanted, NOW, file.with_name("never"))
    assert (again.verdict, again.undo_file) == (RepairVerdict.CLEAN, None)
    assert not file.with_name("never").exists()
    return done


def reverted(file: Path) -> dict[str, list[Any]]:
    """The content after the undo."""
    revert(file, file.with_name("undo"))
    return content(file)


async def shown(file: Path) -> tuple[list[Thread], list[Message]]:
    """What readers see."""
    store = await SqliteStore.open(file)
    try:
        threads = await store.threads(None, limit=100)
        return threads, [
            m for thread in threads for m in await store.messages(thread.id, limit=100)
        ]
    finally:
        await store.close()


def verdicts(file: Path) -> tuple[AuditVerdict, AuditVerdict]:
    """Of both audits."""
    with closing(open_rows("sqlite", file.parent)) as rows:
        question = Question(NOW)
        return audit_messages(rows, question).verdict, audit_threads(rows, question).verdict


# --- each kind of damage --------------------------------------------------------------------------


async def test_duplicates_are_marked_and_no_longer_shown(tmp_path: Path) -> None:
    """The document stays, and is counted nowhere; the audit is clean again."""
    file = await filled(tmp_path, spread(3, NOON))
    before = await shown(file)
    copy_message(file, ids(file)[-1], "zz-duplicate")
    change_rows(file, "UPDATE threads SET messages = messages + 1")
    report = repaired(file)
    assert (report.duplicates_to_mark, report.groups_with_duplicates) == (1, 1)
    assert report.sample_groups[0].size == 2
    assert await shown(file) == before
    assert "zz-duplicate" in ids(file)
    assert verdicts(file) == (AuditVerdict.CLEAN, AuditVerdict.CLEAN)


async def test_a_store_works_after_a_repair(tmp_path: Path) -> None:
    """Repeated and new messages are stored as usual."""
    file = await filled(tmp_path, spread(3, NOON))
    copy_message(file, ids(file)[-1], "zz-duplicate")
    repaired(file)
    await filled(tmp_path, spread(3, NOON), arrival(9, at_ms=NOON + 9))
    threads, messages = await shown(file)
    assert (len(messages), threads[0].messages) == (4, 4)
    assert repair(file, Range(), NOW, None).verdict is RepairVerdict.CLEAN


async def test_a_time_that_is_a_text_becomes_a_number(tmp_path: Path) -> None:
    """The thread follows; an unreadable time is left, and counted."""
    file = await filled(tmp_path, spread(3, NOON))
    before = await shown(file)
    last, first = ids(file)[-1], ids(file)[0]
    change_rows(file, "UPDATE messages SET at_ms = '2026-01-21T12:53:20Z' WHERE id = ?", last)
    change_rows(file, "UPDATE threads SET last_ms = '2026-01-21T12:53:20Z'")
    assert repaired(file).times_rewritten == 1
    assert await shown(file) == before
    change_rows(file, "UPDATE messages SET at_ms = 'soon' WHERE id = ?", first)
    assert repair(file, Range(), NOW, None).left == 1


async def test_seconds_become_milliseconds(tmp_path: Path) -> None:
    """1769000000 is a day of 2026, and not of 1970."""
    file = await filled(tmp_path, spread(1, NOON))
    before = await shown(file)
    change_rows(file, "UPDATE messages SET at_ms = at_ms / 1000")
    repaired(file)
    assert await shown(file) == before


async def test_duplicates_under_a_lid_become_one(tmp_path: Path) -> None:
    """Thread and messages, as in the store when it learns the number."""
    file = await filled(tmp_path, arrival(1), arrival(2), ALIAS)
    before = await shown(file)
    for ident in ids(file):
        copy_message(file, ident, f"{ident}-lid", thread=f"{ACC}__{LID}", chat=LID, sender=LID)
    change_rows(
        file, "INSERT INTO threads (id, account, chat, messages) VALUES (?,?,?,2)", f"{ACC}__{LID}", ACC, LID
    )  # fmt: skip
    assert repaired(file).addresses_joined == 1
    assert await shown(file) == before
    assert verdicts(file) == (AuditVerdict.CLEAN, AuditVerdict.CLEAN)


async def test_a_lid_as_sender_in_a_group_gets_the_number(tmp_path: Path) -> None:
    """If it was stored before the number was known."""
    file = await filled(tmp_path, arrival(1, GROUP, sender=ANN), ALIAS)
    before = await shown(file)
    change_rows(file, "UPDATE messages SET sender = ?", LID)
    assert repaired(file).addresses_joined == 1
    assert await shown(file) == before


@pytest.mark.parametrize(
    ("thread", "chat"),
    [
        (f"{ACC}__[object Object]", PN),
        (f"{ACC}__[object Object]", "[object Object]"),
        (f"{ACC}__40700000001@c.us", "40700000001@c.us"),
        (f"{ACC}__40700000001:12@s.whatsapp.net", "40700000001:12@s.whatsapp.net"),
        (ANN_THREAD, "[object Object]"),
    ],
)
async def test_a_message_moves_to_its_thread(tmp_path: Path, thread: str, chat: str) -> None:
    """By its chat, else by its thread, else by its sender; the wrong thread is deleted."""
    file = await filled(tmp_path, arrival(1), arrival(2))
    before = await shown(file)
    change_rows(file, "UPDATE messages SET thread = ?, chat = ?", thread, chat)
    change_rows(file, "UPDATE threads SET id = ?, chat = ?", thread, chat)
    assert repaired(file).messages_moved == 2
    assert await shown(file) == before


async def test_a_message_without_an_address_is_left(tmp_path: Path) -> None:
    """Our own messages to `[object Object]` name no party."""
    file = await filled(tmp_path, arrival(1, from_me=True))
    change_rows(
        file, "UPDATE messages SET thread = 'one__[object Object]', chat = '[object Object]'"
    )
    change_rows(file, "UPDATE threads SET id = 'one__[object Object]', chat = '[object Object]'")
    report = repair(file, Range(), NOW, None)
    assert (report.left, report.messages_moved) == (1, 0)


async def test_messages_without_a_thread_get_one(tmp_path: Path) -> None:
    """The thread's row was lost."""
    file = await filled(tmp_path, arrival(1), arrival(2))
    before = await shown(file)
    change_rows(file, "DELETE FROM threads")
    repaired(file)
    assert await shown(file) == before


async def test_a_status_follows_from_the_receipts(tmp_path: Path) -> None:
    """Not one too far, as in the replaced backend, and not one short."""
    sent, read = arrival(1, from_me=True), arrival(2, from_me=True)
    mark = PutMark(ANN_THREAD, wa_id(2), ReceiptMark.READ, PN, NOON)
    file = await filled(tmp_path, sent, read, [mark])
    before = await shown(file)
    change_rows(file, "UPDATE messages SET status = 'delivered'")
    assert repaired(file).statuses_corrected == 2
    assert await shown(file) == before


async def test_a_message_of_ours_has_the_status_of_the_outbox(tmp_path: Path) -> None:
    """The entry decides."""
    file = await filled(tmp_path, arrival(1))
    store = await SqliteStore.open(file)
    await store.enqueue(queued("hello"))
    await store.close()
    before = await shown(file)
    change_rows(file, "UPDATE messages SET status = 'read' WHERE client_id != ''")
    assert repaired(file).statuses_corrected == 1
    assert await shown(file) == before


async def test_an_unknown_status_of_an_inbound_message_is_delivered(tmp_path: Path) -> None:
    """No reader knows the stored one."""
    file = await filled(tmp_path, arrival(1))
    before = await shown(file)
    change_rows(file, "UPDATE messages SET status = 'ok'")
    repaired(file)
    assert await shown(file) == before


async def test_a_summary_is_derived_again(tmp_path: Path) -> None:
    """The replaced backend showed the oldest message of a thread after a history sync."""
    file = await filled(tmp_path, spread(3, NOON), arrival(1, BOB))
    before = await shown(file)
    change_rows(
        file,
        "UPDATE threads SET last_ms = 1, last_text = 'old', messages = 9 WHERE id = ?",
        ANN_THREAD,
    )
    assert repaired(file).threads_updated == 1
    assert await shown(file) == before


# --- as a whole -----------------------------------------------------------------------------------


@settings(max_examples=40)
@given(events=EVENTS)
async def test_rows_of_the_store_need_no_repair(events: list[tuple[Event, int]]) -> None:
    """Whatever was recorded, in any order: edits, receipts, LIDs, placeholders."""
    with tempfile.TemporaryDirectory() as directory:
        changes = [plan(ACC, event, Addresses(), seen) for event, seen in events]
        file = await filled(Path(directory), *changes, ALIAS)
        report = repair(file, Range(), NOW, None)
        assert (report.verdict, report.left) == (RepairVerdict.CLEAN, 0), report


async def test_a_repair_is_reverted(tmp_path: Path) -> None:
    """Every row of every kind of damage, byte for byte; later changes stay."""
    file = await filled(tmp_path, spread(3, NOON), arrival(4, from_me=True), arrival(1, BOB))
    first, *_ = ids(file)
    copy_message(file, first, "zz-duplicate")
    copy_message(file, first, "zz-lid", thread=f"{ACC}__{LID}", chat=LID, sender=LID, wa_id="OTHER")
    change_rows(file, "UPDATE messages SET at_ms = '1769000000000' WHERE chat = ?", str(BOB))
    change_rows(file, "UPDATE messages SET status = 'read' WHERE from_me")
    change_rows(file, "INSERT INTO aliases (account, lid, pn) VALUES (?,?,?)", ACC, LID, PN)
    change_rows(
        file, "INSERT INTO threads (id, account, chat) VALUES (?,?,?)", f"{ACC}__{LID}", ACC, LID
    )
    before = content(file)
    repaired(file)
    assert content(file)["messages"] != before["messages"]
    after = reverted(file)
    assert after["messages"] == before["messages"]
    assert [row[0] for row in after["threads"]] == [row[0] for row in before["threads"]]


async def test_later_changes_survive_the_undo(tmp_path: Path) -> None:
    """Only the repair's changes are reverted."""
    file = await filled(tmp_path, spread(3, NOON))
    copy_message(file, ids(file)[-1], "zz-duplicate")
    repaired(file)
    await filled(tmp_path, arrival(9, at_ms=NOON + 9))
    reverted(file)
    threads, messages = await shown(file)
    assert (len(messages), threads[0].messages, threads[0].last_text) == (5, 5, "text 9")


async def test_a_restored_row_is_found(tmp_path: Path) -> None:
    """By its id and by its WhatsApp id, however many messages arrived meanwhile."""
    file = await filled(tmp_path, arrival(1, ANN_LID), arrival(1))
    change_rows(
        file, "INSERT INTO aliases (account, lid, pn) VALUES (?,?,?)", ACC, str(ANN_LID), str(ANN)
    )
    before = set(ids(file))
    repaired(file)
    (gone,) = before - set(ids(file))
    await filled(tmp_path, spread(2100, NOW)[2:])
    reverted(file)
    store = await SqliteStore.open(file)
    try:
        found = await store.message(gone)
        assert found is not None
        assert (await store.record(ACC, [PutMessage(found)])).known == 1
    finally:
        await store.close()


async def test_a_restored_row_replaces_a_later_one(tmp_path: Path) -> None:
    """The message was received again while its row was away: it is stored once."""
    file = await filled(tmp_path, arrival(1, ANN_LID), arrival(1))
    change_rows(
        file, "INSERT INTO aliases (account, lid, pn) VALUES (?,?,?)", ACC, str(ANN_LID), str(ANN)
    )
    before = set(ids(file))
    repaired(file)
    (gone,) = before - set(ids(file))
    change_rows(file, "DELETE FROM aliases")
    change_rows(file, "DELETE FROM messages")
    await filled(tmp_path, arrival(1, ANN_LID))
    assert ids(file) == [gone]
    reverted(file)
    assert ids(file) == [gone]


async def test_a_message_in_both_threads_is_merged(tmp_path: Path) -> None:
    """Its content is that of both; the undo restores both."""
    file = await filled(tmp_path, arrival(1), arrival(2))
    before = await shown(file)
    wrong = f"{ACC}__[object Object]"
    copy_message(file, ids(file)[0], "zz-duplicate", thread=wrong)
    change_rows(file, UNIQUE)
    damaged = content(file)["messages"]
    assert repaired(file).messages_moved == 1
    assert await shown(file) == before
    assert reverted(file)["messages"] == damaged


async def test_an_undo_that_would_store_a_message_twice_is_refused(tmp_path: Path) -> None:
    """The undo file is older than the store's unique index: nothing is changed, and the row is named."""
    file = await filled(tmp_path, spread(3, NOON))
    copy_message(file, ids(file)[-1], "zz-duplicate")
    repaired(file)
    change_rows(file, UNIQUE)
    before = content(file)
    with pytest.raises(BadInput, match="row 4 of messages") as refused:
        revert(file, file.with_name("undo"))
    assert "never stored twice" in refused.value.hint
    assert content(file) == before


async def test_only_the_requested_range(tmp_path: Path) -> None:
    """One thread; one account; the last hour."""
    file = await filled(tmp_path, spread(3, NOW), arrival(1, BOB, at_ms=NOW - 7_200_000))
    with opened(file) as db:
        rows = db.execute("SELECT id, thread FROM messages ORDER BY at_ms").fetchall()
    for ident, _ in (rows[0], rows[-1]):
        copy_message(file, ident, f"zz-{ident}")
    report = repair(file, Range(thread=ANN_THREAD), NOW, None)
    assert (report.duplicates_to_mark, report.scanned_messages) == (1, 4)
    assert report.thread_id_hash
    assert report.last_message_at_ms_candidate == NOW
    assert repair(file, Range(account="nobody"), NOW, None).verdict is RepairVerdict.CLEAN
    assert repair(file, Range(window_hours=1), NOW, None).duplicates_to_mark == 1
    assert repair(file, Range(), NOW, None).duplicates_to_mark == 2


async def test_the_undo_file_is_private_and_never_overwritten(tmp_path: Path) -> None:
    """It holds texts; and an older one may still be needed."""
    file = await filled(tmp_path, spread(2, NOON))
    copy_message(file, ids(file)[0], "zz-duplicate")
    kept = tmp_path / "repairs" / "one.undo"
    repair(file, Range(), NOW, kept)
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.parent.stat().st_mode) == 0o700
    change_rows(file, "UPDATE messages SET duplicate_of = ''")
    before = content(file)
    with pytest.raises(Conflict, match="already exists"):
        repair(file, Range(), NOW, kept)
    assert content(file) == before


def test_an_invalid_undo_file_is_refused(tmp_path: Path) -> None:
    """Missing, or something else."""
    with pytest.raises(BadInput, match="cannot read"):
        revert(tmp_path / "wad.db", tmp_path / "none")
    (tmp_path / "other").write_text("{}")
    with pytest.raises(BadInput, match="not an undo file"):
        revert(tmp_path / "wad.db", tmp_path / "other")


async def test_an_undo_file_of_another_schema_changes_nothing(tmp_path: Path) -> None:
    """It names columns that do not exist."""
    file = await filled(tmp_path, spread(2, NOON))
    change = undo.Change(
        "messages", undo.RowAction.UPDATE, ids(file)[0], (("at_ms", 1), ("no_such", 2))
    )
    undo.write(tmp_path / "undo", [undo.Change("meta", undo.RowAction.INSERT, "epoch"), change])
    before = content(file)
    with pytest.raises(BadInput, match="do not exist"):
        revert(file, tmp_path / "undo")
    assert content(file) == before


# --- the rules ------------------------------------------------------------------------------------

KNOWN = {(ACC, LID): PN}


@pytest.mark.parametrize(
    ("thread", "chat", "sender", "from_me", "right"),
    [
        ("one__x", PN, "", False, PN),
        ("one__x", LID, "", False, PN),
        (f"one__{PN}", "[object Object]", "", True, PN),
        ("one__[object Object]", "[object Object]", LID, False, PN),
        ("one__[object Object]", "[object Object]", PN, True, None),
        ("nothing", "", "", False, None),
    ],
)  # fmt: skip
def test_the_conversation_of_a_row(
    thread: str, chat: str, sender: str, from_me: bool, right: str | None
) -> None:
    """From the chat, else the thread, else the sender; never from our own address."""
    found = right_chat(ACC, thread, chat, sender, from_me=from_me, aliases=KNOWN)
    assert (None if found is None else str(found)) == right


def test_an_invalid_account_has_no_thread() -> None:
    """Its id cannot name one."""
    assert right_thread("Not An Id", ANN) is None
    assert right_thread(ACC, ANN) == ANN_THREAD


@pytest.mark.parametrize(
    ("marks", "status"),
    [((), "sent"), (("delivered",), "delivered"), (("read", "delivered"), "read")],
)
def test_the_status_of_receipts(marks: tuple[str, ...], status: str) -> None:
    """The furthest counts, in any order."""
    assert right_status(marks) == status
