"""The rules of the audits, on rows made by a test."""

from __future__ import annotations

from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.audit.duplicates import Question, grouped, judge_messages, judge_threads, windowed
from wad.audit.keys import KeyMode, Strategy, key_of
from wad.audit.reports import AuditVerdict, MessagesReport, ThreadsReport
from wad.audit.rows import Aliases, MessageRow, ReadRows, ThreadRow
from wad.audit.stamps import Stamp, stamp_of

NOW: Final = 1_769_000_000_000
HOUR: Final = 3_600_000
ANN, ANN_LID, BOB = "40700000001@s.whatsapp.net", "111222333@lid", "40700000002@s.whatsapp.net"
GROUP: Final = "123456-789@g.us"
KNOWN: Final = {("one", ANN_LID): ANN}


def row(ident: str, chat: str = ANN, at: object = NOW - HOUR, **more: Any) -> MessageRow:
    """One message."""
    fields = {"account": "one", "thread": f"one__{chat}", "sender": chat, "text": "hi", **more}
    return MessageRow(id=ident, chat=chat, stamp=stamp_of(at), **fields)


def messages(
    *rows: MessageRow,
    aliases: Aliases | None = None,
    question: Question | None = None,
    **found: Any,
) -> MessagesReport:
    """The report on these rows."""
    asked = question or Question(NOW)
    return judge_messages(
        ReadRows(rows=rows, types={"integer": len(rows)}, **found), aliases or {}, asked, "sqlite"
    )


# --- identity -----------------------------------------------------------------------------------


def test_one_whatsapp_id_in_one_chat_is_one_message() -> None:
    """The document's id does not matter, WhatsApp's does."""
    report = messages(row("a", wa_id="W"), row("b", wa_id="W"), row("c", wa_id="V"))
    assert (report.duplicates_count_active, report.unique_keys) == (1, 2)
    assert report.verdict is AuditVerdict.DUPLICATES


@pytest.mark.parametrize(
    "other",
    [
        row("b", BOB, wa_id="W"),
        row("b", wa_id="W", account="two"),
        row("b", wa_id="W", from_me=True),
    ],
)
def test_an_id_counts_only_in_its_scope(other: MessageRow) -> None:
    """Another chat, account or direction is another message."""
    assert messages(row("a", wa_id="W"), other).verdict is AuditVerdict.CLEAN


def test_in_a_group_the_sender_is_part_of_it() -> None:
    """Two members may use one id; one member does not."""
    by_ann, by_bob = (row(sender, GROUP, wa_id="W", sender=sender) for sender in (ANN, BOB))
    by_ann_hidden = row("c", GROUP, wa_id="W", sender=ANN_LID)
    assert messages(by_ann, by_bob).duplicates_count_active == 0
    assert messages(by_ann, by_ann_hidden).duplicates_count_active == 0
    assert messages(by_ann, by_ann_hidden, aliases=KNOWN).duplicates_count_active == 1


def test_a_lid_is_the_number_if_that_is_known() -> None:
    """A duplicate in a LID's thread is a duplicate."""
    pair = row("a", wa_id="W"), row("b", ANN_LID, wa_id="W")
    assert messages(*pair).duplicates_count_active == 0
    assert messages(*pair, aliases=KNOWN).duplicates_count_active == 1


def test_an_echo_and_our_own_document_are_one() -> None:
    """The outbox writes no sender, WhatsApp's echo does."""
    ours = row("entry", GROUP, wa_id="W", from_me=True, sender="", client_id="c")
    echo = row("echo", GROUP, wa_id="W", from_me=True, sender=BOB)
    assert messages(echo, ours).duplicates_count_active == 1


def test_equal_texts_in_two_chats_are_two_messages() -> None:
    """The replaced backend's fallback key has no chat."""
    assert messages(row("a"), row("b", BOB, sender=ANN)).verdict is AuditVerdict.CLEAN


def test_without_an_id_text_time_and_sender_count() -> None:
    """Blanks do not."""
    report = messages(row("a", text="hi  there "), row("b", text="hi there"), row("c", text="hi"))
    assert report.duplicates_count_active == 1
    assert report.key_strategy_used_counts.fallback == 3


def test_two_entries_of_the_outbox_are_two_messages() -> None:
    """Equal texts queued in one millisecond under two client ids are two messages."""
    report = messages(row("a", from_me=True, client_id="1"), row("b", from_me=True, client_id="2"))
    assert report.verdict is AuditVerdict.CLEAN
    assert report.key_strategy_used_counts.document == 2


def test_the_fallback_mode_uses_text_and_time_only() -> None:
    """Two WhatsApp ids, the same text at the same time."""
    pair = row("a", wa_id="W"), row("b", wa_id="V")
    assert messages(*pair).duplicates_count_active == 0
    question = Question(NOW, mode=KeyMode.FALLBACK)
    assert messages(*pair, question=question).duplicates_count_active == 1


@pytest.mark.parametrize(
    ("more", "strategy"),
    [
        ({"wa_id": "W", "stable_key": "k"}, Strategy.STABLE_KEY),
        ({"stable_key": "k", "fingerprint": "f"}, Strategy.STABLE_KEY),
        ({"fingerprint": "f"}, Strategy.FINGERPRINT),
        ({}, Strategy.FALLBACK),
    ],
)
def test_the_best_identity_that_is_stored_counts(more: Any, strategy: Strategy) -> None:
    """WhatsApp's id, else the stored keys, else the content."""
    assert key_of(row("a", **more), {}, KeyMode.STABLE).strategy is strategy


def test_marked_duplicates_are_not_counted() -> None:
    """Unless they are requested."""
    pair = row("a", wa_id="W"), row("b", wa_id="W", marked=True)
    report = messages(*pair)
    assert (report.verdict, report.marked_docs, report.active_docs) == (AuditVerdict.CLEAN, 1, 1)
    assert report.duplicates_count_all is None
    assert report.key_strategy_used_counts.stableKeyHash == 1
    question = Question(NOW, exclude_marked=False, dry_run=True)
    whole = messages(*pair, question=question)
    assert (whole.verdict, whole.duplicates_count_all) == (AuditVerdict.DUPLICATES, 1)
    assert whole.duplicates_count_active == 0
    assert whole.key_strategy_used_counts.stableKeyHash == 2
    assert len(whole.top_duplicate_groups) == 1
    assert (report.dry_run, whole.dry_run) == (False, True)


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (row("b", wa_id="W", seen=9), row("a", wa_id="W", seen=1, marked=True)),
        (row("b", wa_id="W", seen=9, client_id="c"), row("a", wa_id="W", seen=1)),
        (row("b", wa_id="W", seen=1), row("a", wa_id="W", seen=9)),
        (row("b", wa_id="W", text="hi"), row("a", wa_id="W", text="")),
        (row("a", wa_id="W"), row("b", wa_id="W")),
    ],
)
def test_the_one_to_keep(better: MessageRow, worse: MessageRow) -> None:
    """Unmarked, else the outbox's own, else the first that was seen, else the fullest, else the lower id."""
    for rows in ((better, worse), (worse, better)):
        (group,) = grouped(rows, {}, KeyMode.STABLE).values()
        assert group[0] is better


def test_a_report_shows_the_largest_groups() -> None:
    """Ten of them, with five documents each."""
    rows = [row(f"{group}-{n}", wa_id=f"W{group}") for group in range(12) for n in range(group + 1)]
    groups = messages(*rows).top_duplicate_groups
    assert [group.size for group in groups] == [12, 11, 10, 9, 8, 7, 6, 5, 4, 3]
    assert {len(group.duplicate_hashes) for group in groups[:5]} == {5}


# --- the window ---------------------------------------------------------------------------------


def test_an_empty_window_proves_nothing() -> None:
    """Without messages the audit is inconclusive."""
    report = messages(row("a", at=NOW - 49 * HOUR))
    assert report.verdict is AuditVerdict.INCONCLUSIVE
    assert (report.newest_age_seconds, report.skipped.out_of_window) == (None, 1)


def test_an_unreadable_time_is_in_no_window() -> None:
    """In the replaced backend it was in every one."""
    report = messages(row("a", at="soon"), row("b", at=None), row("c"), older=3, timeless=2)
    assert (report.total_docs, report.skipped.unreadable_time) == (1, 4)
    assert report.skipped.out_of_window == 3


def test_a_text_is_windowed_like_a_number() -> None:
    """It is neither above nor below the others because of its type."""
    old, new = "2026-01-18T00:00:00Z", "2026-01-21T12:00:00Z"
    report = messages(row("a", at=old), row("b", at=new), row("c"))
    assert (report.total_docs, report.skipped.out_of_window) == (2, 1)


def test_ages_are_those_of_the_read_rows() -> None:
    """Newest and oldest, in seconds."""
    report = messages(row("a", at=NOW - 1500), row("b", at=NOW - 2 * HOUR))
    assert (report.newest_age_seconds, report.oldest_age_seconds) == (1.5, 7200.0)


def test_a_limit_that_cuts_is_reported() -> None:
    """The rows beyond it are not audited."""
    rows = [row(str(n), at=NOW - n) for n in range(3)]
    assert messages(*rows, question=Question(NOW, limit=2)).limit_reached
    assert not messages(*rows, question=Question(NOW, limit=3)).limit_reached


def test_the_fallback_of_a_query_is_reported() -> None:
    """An index was missing, and the rows were read in the other order."""
    report = messages(row("a"), mode="asc_fallback")
    assert (report.used_fallback, report.mode_used) == (True, "asc_fallback")


TIMES = st.one_of(
    st.integers(NOW - 100 * HOUR, NOW + HOUR),
    st.none(),
    st.just("2026-01-21T12:00:00Z"),
    st.just("?"),
)


@given(st.lists(TIMES, max_size=30), st.integers(1, 20), st.integers(1, 90))
def test_every_row_is_audited_or_counted_as_skipped(
    times: list[Any], limit: int, hours: int
) -> None:
    """In the window, before it, or without a time; the newest are kept when the limit cuts."""
    rows = tuple(row(str(number), at=at) for number, at in enumerate(times))
    question = Question(NOW, hours, limit)
    kept, skipped, cut = windowed(ReadRows(rows=rows, types={}), question.scope)
    inside = [r for r in rows if r.stamp.ms is not None and r.stamp.ms >= NOW - hours * HOUR]
    assert len(inside) + skipped.out_of_window + skipped.unreadable_time == len(rows)
    assert len(kept) == min(limit, len(inside))
    assert cut == (len(inside) > limit)
    dropped = {r.id for r in inside} - {r.id for r in kept}
    oldest_kept = min((r.stamp.ms or 0 for r in kept), default=0)
    assert all((r.stamp.ms or 0) <= oldest_kept for r in inside if r.id in dropped)


# --- threads ------------------------------------------------------------------------------------


def thread(
    chat: str, account: str = "one", name: str = "Ann", at: object = NOW - HOUR
) -> ThreadRow:
    """One thread."""
    return ThreadRow(
        id=f"{account}__{chat}",
        account=account,
        chat=chat,
        stamp=stamp_of(at),
        name=name,
        messages=1,
    )


def threads(*rows: ThreadRow, aliases: Aliases | None = None) -> ThreadsReport:
    """The report on these threads."""
    return judge_threads(ReadRows(rows=rows, types={}), aliases or {}, Question(NOW), "sqlite")


def test_a_person_has_one_thread() -> None:
    """Threads by number and by LID are duplicates once the alias is known; so are old spellings."""
    assert threads(thread(ANN), thread(ANN_LID)).verdict is AuditVerdict.CLEAN
    report = threads(thread(ANN), thread(ANN_LID), aliases=KNOWN)
    assert (report.duplicates_count, report.lid_threads_count, report.canonical_threads_count) == (
        1,
        1,
        1,
    )
    assert threads(thread(ANN), thread("40700000001@c.us")).duplicates_count == 1
    assert threads(thread(ANN), thread(ANN, account="two")).duplicates_count == 0


def test_threads_without_an_address_are_counted_separately() -> None:
    """`[object Object]` was an object instead of a text."""
    report = threads(thread("[object Object]"), thread(ANN, name=""))
    assert (report.object_threads_count, report.canonical_threads_count) == (1, 1)
    assert report.unknown_name_count == 1
    assert report.verdict is AuditVerdict.CLEAN


def test_without_threads_the_audit_is_inconclusive() -> None:
    """An empty window proves nothing here either."""
    assert threads().verdict is AuditVerdict.INCONCLUSIVE


def test_times_are_counted_by_type() -> None:
    """Reports name the types as the store does."""
    assert row("a", at="x").stamp == Stamp("string", None)
