"""`wadctl audit`: what it prints, and how it exits."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.audit.damage import change_rows, copy_message, filled, ids, opened, spread
from tests.contracts.world import ACC, ANN_THREAD
from tests.support.wadctl_command import wadctl, wadctl_json


def run(state_dir: Path, *arguments: str, **environ: str) -> Result:
    """wadctl in this process, in a pipe; the daemon does not run."""
    return wadctl(_env(state_dir) | environ, "audit", *arguments)


def ask(state_dir: Path, *arguments: str, code: int = 0) -> Any:
    """The JSON document of a command that exits with this code."""
    return wadctl_json(_env(state_dir), "audit", *arguments, code=code)


def _env(state_dir: Path) -> dict[str, str | None]:
    return {"WAD_STATE_DIR": str(state_dir), "WAD_CONFIG": None}


@pytest.fixture
async def file(tmp_path: Path) -> Path:
    """A store with five messages of now."""
    return await filled(tmp_path, spread(5, time.time_ns() // 1_000_000))


# What the reference's scripts print (docs/internals/replaced-backend.md#scripts), to the name.
MESSAGES = {
    "totalDocs", "markedDocs", "activeDocs", "uniqueKeys", "duplicatesCountActive", "duplicatesCountAll",
    "keyStrategyUsedCounts", "windowHours", "limit", "keyMode", "excludeMarked", "dryRun", "usedFallback", "modeUsed",
    "hint", "indexLink",
}  # fmt: skip
THREADS = {
    "totalThreads", "uniqueKeys", "duplicatesCount", "topDuplicateGroups", "lidThreadsCount", "canonicalThreadsCount",
    "unknownNameCount",
}  # fmt: skip
FAILURE = {
    "error",
    "code",
    "message",
    "hint",
    "indexLink",
    "projectId",
    "emulatorHost",
    "usedFallback",
    "modeUsed",
}


def test_a_clean_store_exits_with_0(file: Path) -> None:
    """Its report has every field of the script that it replaces."""
    report = ask(file.parent, "messages")
    assert set(report) > MESSAGES
    assert set(report["keyStrategyUsedCounts"]) > {"stableKeyHash", "fingerprintHash", "fallback"}
    assert (report["verdict"], report["totalDocs"], report["duplicatesCountAll"]) == (
        "clean",
        5,
        None,
    )
    assert set(ask(file.parent, "threads")) > THREADS


def test_duplicates_exit_with_2(file: Path) -> None:
    """As in the reference."""
    copy_message(file, ids(file)[0], "duplicate")
    assert ask(file.parent, "messages", code=2)["duplicatesCountActive"] == 1
    assert "1 duplicates; wadctl audit repair" in run(file.parent, "messages").stdout


def test_duplicate_threads_exit_with_2(file: Path) -> None:
    """An old spelling of the same number."""
    change_rows(
        file,
        "INSERT INTO threads (id, account, chat, last_ms, messages) SELECT ?, account, ?, last_ms, 1 FROM threads",
        f"{ACC}__40700000001@c.us", "40700000001@c.us",
    )  # fmt: skip
    report = ask(file.parent, "threads", code=2)
    assert [group["count"] for group in report["topDuplicateGroups"]] == [2]


def test_an_empty_window_exits_with_10(file: Path) -> None:
    """Nothing was shown, so it is neither a success nor a finding."""
    change_rows(file, "UPDATE messages SET at_ms = at_ms - 200000000")
    change_rows(file, "UPDATE threads SET last_ms = last_ms - 200000000")
    report = ask(file.parent, "messages", code=10)
    assert (report["verdict"], report["skipped"]["outOfWindow"]) == ("inconclusive", 5)
    assert ask(file.parent, "threads", code=10)["verdict"] == "inconclusive"
    assert "inconclusive" in run(file.parent, "messages").stdout


def test_no_store_exits_with_1(tmp_path: Path) -> None:
    """An error is not a finding: it has another code than duplicates."""
    failure = ask(tmp_path, "messages", code=1)
    assert set(failure) > FAILURE
    assert (failure["ok"], failure["error"], failure["code"]) == (
        False,
        "store_unavailable",
        "not_found",
    )
    assert f"store not found: {tmp_path}" in run(tmp_path, "threads").stderr


def test_a_bad_configuration_exits_with_1(file: Path) -> None:
    """The location of the store is unknown."""
    result = run(file.parent, "messages", WAD_STORE_KIND="oracle")
    assert result.exit_code == 1
    assert "store.kind" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("--limit", "0"), ("--window-hours", "0"), ("--no-such",), ("more",)]
)
def test_wrong_usage_exits_with_64(file: Path, arguments: tuple[str, ...]) -> None:
    """2 means duplicates here."""
    result = run(file.parent, "messages", *arguments)
    assert result.exit_code == 64
    assert result.stderr.startswith("Usage: wadctl audit messages")


@pytest.mark.parametrize(
    "arguments",
    [
        ("--windowHours=0.25", "--limit=500", f"--threadId={ANN_THREAD}", f"--accountId={ACC}", "--excludeMarked",
         "--keyMode=stable", "--printIndexLink"),
        ("--window-hours", "0.25", "--thread", ANN_THREAD, "--account", ACC, "--include-marked", "--key-mode",
         "fallback", "--no-print-index-link"),
    ],
)  # fmt: skip
def test_the_flags_of_the_reference_are_understood(file: Path, arguments: tuple[str, ...]) -> None:
    """In its spelling and in ours."""
    report = ask(file.parent, "messages", *arguments)
    assert (report["windowHours"], report["totalDocs"]) == (0.25, 5)


def test_the_text_report(file: Path) -> None:
    """The scope, the types of times, the age; no message text and no number."""
    out = run(file.parent, "messages").stdout
    assert "clean" in out
    assert "integer 5" in out
    assert "text 1" not in out
    assert "4070" not in run(file.parent, "threads").stdout


def test_the_daemon_need_not_run_and_may(file: Path) -> None:
    """A writer at the same time causes no error."""
    with opened(file) as db:
        db.execute("BEGIN IMMEDIATE")
        db.execute("UPDATE messages SET at_ms = 0")
        assert ask(file.parent, "messages")["totalDocs"] == 5
        db.execute("ROLLBACK")


# --- repair ---------------------------------------------------------------------------------------

CLEANUP = {
    "threadIdHash", "scannedMessages", "groupsWithDuplicates", "duplicatesToMark", "duplicatesAlreadyMarked",
    "lastMessageAtMsCandidate", "threadsUpdated", "sampleGroups", "windowHours", "limit", "dryRun",
}  # fmt: skip


def test_a_repair_is_a_dry_run_first(file: Path) -> None:
    """It exits with 2 as long as there is something to do, and prints the command."""
    copy_message(file, ids(file)[0], "duplicate")
    report = ask(file.parent, "repair", code=2)
    assert set(report) > CLEANUP
    assert (report["dryRun"], report["duplicatesToMark"], report["undoFile"]) == (True, 1, None)
    assert "apply it with: wadctl audit repair --apply" in run(file.parent, "repair").stdout
    assert ask(file.parent, "messages", code=2)["duplicatesCountActive"] == 1


def test_a_repair_that_was_done_exits_with_0(file: Path) -> None:
    """Not so in the reference; and it can be taken back."""
    copy_message(file, ids(file)[0], "duplicate")
    report = ask(file.parent, "repair", "--apply")
    assert (report["verdict"], report["dryRun"]) == ("repaired", False)
    assert Path(report["undoFile"]).parent == file.parent / "repairs"
    assert ask(file.parent, "messages")["markedDocs"] == 1
    assert ask(file.parent, "repair", "--apply")["verdict"] == "clean"
    assert ask(file.parent, "repair", "--undo", report["undoFile"])["rows"] == report["rowsChanged"]
    assert ask(file.parent, "messages", code=2)["markedDocs"] == 0


def test_a_repair_for_people(file: Path) -> None:
    """What was done, and how to take it back."""
    copy_message(file, ids(file)[0], "duplicate")
    kept = file.parent / "kept"
    out = run(file.parent, "repair", "--apply", "--undo-file", str(kept)).stdout
    assert "done: repaired" in out
    assert f"wadctl audit repair --undo {kept}" in out
    assert "undone" in run(file.parent, "repair", "--undo", str(kept)).stdout


def test_a_repair_without_a_store_exits_with_1(tmp_path: Path) -> None:
    """Nothing is made."""
    assert ask(tmp_path, "repair", "--apply", code=1)["code"] == "not_found"
    assert ask(tmp_path, "repair", "--undo", str(tmp_path / "none"), code=1)["code"] == "bad_input"
    assert list(tmp_path.iterdir()) == []
