"""The rows of the embedded store for the audits."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tests.audit.damage import ALIAS, LID, PN, change_rows, copy_message, filled, ids, spread
from tests.contracts.world import ACC, ANN, ANN_LID, ANN_THREAD, BOB, NOON, arrival
from wad.audit import open_rows
from wad.audit.duplicates import Question, audit_messages, audit_threads
from wad.audit.reports import AuditVerdict, MessagesReport, ThreadsReport
from wad.core.errors import Damaged, Denied, NotFound, Unavailable

NOW = NOON + 60_000


def audited(file: Path, **asked: Any) -> MessagesReport:
    """The report on its messages."""
    with closing(open_rows("sqlite", file.parent)) as rows:
        return audit_messages(rows, Question(NOW)._replace(**asked))


def audited_threads(file: Path) -> ThreadsReport:
    """The report on its threads."""
    with closing(open_rows("sqlite", file.parent)) as rows:
        return audit_threads(rows, Question(NOW))


async def test_a_store_without_faults_is_clean(tmp_path: Path) -> None:
    """Documents of the store itself have no duplicates, and all of them were audited."""
    report = audited(await filled(tmp_path, spread(5, NOON), arrival(1, BOB)))
    assert report.verdict is AuditVerdict.CLEAN
    assert (report.total_docs, report.ts_client_types) == (6, {"integer": 6})
    assert (report.newest_age_seconds, report.key_strategy_used_counts.stableKeyHash) == (59.0, 6)


async def test_a_second_document_of_a_message_is_found(tmp_path: Path) -> None:
    """By its WhatsApp id, whatever its own."""
    file = await filled(tmp_path, spread(3, NOON))
    copy_message(file, ids(file)[0], "duplicate")
    assert audited(file).duplicates_count_active == 1


async def test_a_duplicate_under_the_lid_is_found(tmp_path: Path) -> None:
    """Message and thread, once the store has the alias."""
    file = await filled(tmp_path, arrival(1), ALIAS)
    copy_message(file, ids(file)[0], "duplicate", thread=f"{ACC}__{LID}", chat=LID, sender=LID)
    change_rows(
        file,
        "INSERT INTO threads (id, account, chat, last_ms, messages) VALUES (?,?,?,?,1)",
        f"{ACC}__{LID}", ACC, LID, NOON,
    )  # fmt: skip
    assert audited(file).duplicates_count_active == 1
    report = audited_threads(file)
    assert (report.duplicates_count, report.lid_threads_count) == (1, 1)


async def test_a_time_written_as_text_hides_nothing(tmp_path: Path) -> None:
    """SQLite sorts texts above all numbers; the audit reads both, and counts each type."""
    file = await filled(tmp_path, spread(5, NOON))
    first, second, *_ = ids(file)
    for ident, at in ((first, "2026-01-21T12:53:00Z"), (second, "2020-01-01T00:00:00Z")):
        change_rows(file, "UPDATE messages SET at_ms = ? WHERE id = ?", at, ident)
    report = audited(file, limit=4)
    assert report.ts_client_types == {"integer": 3, "string": 2}
    assert (report.total_docs, report.skipped.out_of_window) == (4, 1)


async def test_rows_before_the_window_are_counted(tmp_path: Path) -> None:
    """So are rows without a time."""
    file = await filled(tmp_path, spread(4, NOON, step_ms=3_600_000))
    change_rows(file, "UPDATE messages SET at_ms = 0 WHERE id = ?", ids(file)[0])
    report = audited(file, window_hours=1.5)
    assert (report.total_docs, report.skipped.out_of_window, report.skipped.unreadable_time) == (
        2,
        1,
        1,
    )


async def test_only_the_requested_rows(tmp_path: Path) -> None:
    """One account, one thread."""
    file = await filled(tmp_path, spread(3, NOON), arrival(1, BOB))
    assert audited(file, thread=ANN_THREAD).total_docs == 3
    assert audited(file, account="nobody").verdict is AuditVerdict.INCONCLUSIVE


async def test_unreadable_content_is_counted(tmp_path: Path) -> None:
    """The audit continues, and reports that it could not compare these texts."""
    file = await filled(tmp_path, spread(2, NOON))
    change_rows(file, "UPDATE messages SET content = X'c1' WHERE id = ?", ids(file)[0])
    assert audited(file).skipped.unreadable_content == 1


async def test_facts_of_a_chat_are_not_a_thread(tmp_path: Path) -> None:
    """A row without messages is not counted."""
    file = await filled(tmp_path, arrival(1), arrival(2, ANN_LID))
    change_rows(file, "UPDATE threads SET messages = 0 WHERE chat = ?", str(ANN))
    assert audited_threads(file).total_threads == 1


async def test_an_audit_changes_nothing(tmp_path: Path) -> None:
    """Neither a byte of the file nor the list of files."""
    file = await filled(tmp_path, spread(3, NOON))
    before = file.read_bytes()
    audited(file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".db"] == ["wad.db"]


def test_a_missing_store_is_an_error(tmp_path: Path) -> None:
    """None is created: a wrong directory must not look like an empty store."""
    with pytest.raises(NotFound, match=r"wad\.db"):
        open_rows("sqlite", tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the user that may."""
    file = await filled(tmp_path, arrival(1))
    file.chmod(0)
    # Root may read everything.
    monkeypatch.setattr(os, "access", lambda path, mode: bool(stat.S_IMODE(path.stat().st_mode)))
    with pytest.raises(Denied):
        open_rows("sqlite", tmp_path)


async def test_another_schema_is_refused(tmp_path: Path) -> None:
    """The meaning of the columns is known for this schema only."""
    file = await filled(tmp_path, arrival(1))
    change_rows(file, "PRAGMA user_version = 99")
    with pytest.raises(Unavailable, match="newer wad"):
        open_rows("sqlite", tmp_path)


def test_damage_is_named(tmp_path: Path) -> None:
    """A file that is not a database."""
    (tmp_path / "wad.db").write_bytes(b"not a database, but long enough to look" * 20)
    with pytest.raises(Damaged):
        open_rows("sqlite", tmp_path)


def test_the_number_stays_the_number() -> None:
    """The addresses that these tests use for one person are one."""
    assert (str(ANN), str(ANN_LID)) == (PN, LID)
