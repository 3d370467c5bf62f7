"""The verdict of a verification."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

import msgspec
import pytest

from wad.audit.duplicates import Question, judge_messages, judge_threads
from wad.audit.rows import MessageRow, ReadRows
from wad.audit.stamps import Stamp
from wad.audit.verify import Audited, End, Observed, SentMessage, judge

NOW: Final = 1_769_000_000_000


def audited(*wa_ids: str) -> Audited:
    """A store with these messages."""
    rows = tuple(
        MessageRow(id=str(n), account="one", thread="t", chat="1@lid", stamp=Stamp("integer", NOW), wa_id=wa_id)
        for n, wa_id in enumerate(wa_ids)
    )  # fmt: skip
    question = Question(NOW, 0.25)
    return Audited(
        judge_messages(ReadRows(rows=rows, types={}), {}, question, "sqlite"),
        judge_threads(ReadRows(rows=(), types={}), {}, question, "sqlite"),
    )


SENT: Final = SentMessage("one", "+15550000012", status="delivered", wa_id="W", thread="t")
GOOD: Final = Observed(
    before=audited("A"),
    after=audited("A", "W"),
    wanted_restarts=2,
    restarts=("", ""),
    sent=SENT,
    stored=True,
    accounts=1,
    connected=1,
)
# What run-sync-verification.js prints (docs/internals/replaced-backend.md#scripts).
REFERENCE: Final = {
    "duplicatesCountActiveBefore", "duplicatesCountActiveAfter", "before", "after", "delta", "usedFallback", "modeUsed",
    "restartRequested", "restartPerformed", "restartVerified", "verdict",
}  # fmt: skip


def test_verified() -> None:
    """Everything was observed, and everything was right."""
    end, report = judge(GOOD)
    assert (end, report.verdict, report.restart_verified, report.not_ready_reason) == (
        0,
        True,
        True,
        None,
    )
    assert set(msgspec.to_builtins(report)) > REFERENCE
    assert report.quick_write is not None
    assert (report.quick_write.sent, report.quick_write.status_code) == (True, 200)


def test_without_a_message_the_stored_ones_count() -> None:
    """No message has to be sent."""
    assert judge(replace(GOOD, sent=None, stored=False))[0] is End.VERIFIED


@pytest.mark.parametrize(
    ("changed", "end", "reason"),
    [
        ({"after": audited("A", "A")}, End.DUPLICATES_INCREASED, "duplicates_increased"),
        ({"after": audited("A", "A"), "restarts": ("no",)}, End.DUPLICATES_INCREASED, "duplicates_increased"),
        ({"restarts": ("", "not back within 60 s")}, End.FAILED, "restart_not_verified"),
        ({"restarts": ("not back",)}, End.FAILED, "restart_not_verified"),
        ({"connected": 0}, End.FAILED, "not_connected"),
        ({"sent": SentMessage("", "x", error="no_account")}, End.FAILED, "message_not_sent"),
        ({"sent": replace(SENT, status="queued")}, End.FAILED, "message_not_sent"),
        ({"sent": replace(SENT, status="uncertain")}, End.FAILED, "message_not_sent"),
        ({"stored": False}, End.RECENT_DOC_MISSING, "recent_doc_missing"),
        ({"sent": None, "after": audited()}, End.INCONCLUSIVE, "nothing_in_window"),
        ({"before": audited("A", "A"), "after": audited("A", "A")}, End.FAILED, "duplicates_present"),
    ],
)  # fmt: skip
def test_everything_else_is_a_failure(changed: dict[str, Any], end: End, reason: str) -> None:
    """Each has its reason, and none ends with 0."""
    found, report = judge(replace(GOOD, **changed))
    assert (found, report.not_ready_reason, report.verdict) == (end, reason, False)
    assert int(end) != 0


def test_numbers_are_hashes() -> None:
    """The report can be passed on."""
    _, report = judge(GOOD)
    assert "15550000012" not in msgspec.json.encode(report).decode()


def test_an_audit_without_its_index() -> None:
    """It read the right documents, but at a higher cost: it counts only if that is allowed."""
    messages = msgspec.structs.replace(GOOD.after.messages, used_fallback=True)
    fallen = replace(GOOD, after=replace(GOOD.after, messages=messages))
    end, report = judge(fallen)
    assert (end, report.not_ready_reason, report.used_fallback) == (2, "index_missing", True)
    assert msgspec.to_builtins(report)["not_ready_reason"] == "index_missing"
    assert judge(replace(fallen, fallback_allowed=True))[0] is End.VERIFIED
