"""Whether an installation may be relied on: what was seen before and after two restarts, and what that proves.  Pure.

The keys are those of the reference's run-sync-verification.js (docs/internals/replaced-backend.md#scripts).  There a
verdict of `false` could end with 0; here 0 means verified, and nothing else does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import msgspec

from wad.audit.keys import short_hash
from wad.audit.reports import MessagesReport, Report, ThreadsReport
from wad.core.outbox import LEFT


class End(IntEnum):
    """How `wadctl verify` ends."""

    VERIFIED = 0
    FAILED = 2
    DUPLICATES_INCREASED = 3
    RECENT_DOC_MISSING = 4
    INCONCLUSIVE = 10


@dataclass(frozen=True, slots=True)
class Audited:
    """Both audits of one moment."""

    messages: MessagesReport
    threads: ThreadsReport

    @property
    def double(self) -> int:
        """Duplicates of both kinds."""
        return self.messages.duplicates_count_active + self.threads.duplicates_count


@dataclass(frozen=True, slots=True)
class SentMessage:
    """The message that was sent between the audits; `error` is a word, `status` what the outbox says."""

    account: str
    to: str
    error: str = ""
    status: str = ""
    wa_id: str = ""
    thread: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was seen.

    `restarts` has the error of each, empty where it came back with every account; `skipped`: why none was wanted;
    `stored`: whether the message that was sent is in the store after them; `fallback_allowed`: whether an audit counts
    that went without its index.
    """

    before: Audited
    after: Audited
    wanted_restarts: int
    restarts: tuple[str, ...]
    sent: SentMessage | None
    stored: bool
    accounts: int
    connected: int
    skipped: str = ""
    fallback_allowed: bool = False


class AuditCount(Report, frozen=True, kw_only=True):
    """One audit, in short."""

    duplicates_count_active: int
    duplicate_threads: int
    marked_docs: int
    active_docs: int
    newest_age_seconds: float | None


class Delta(Report, frozen=True, kw_only=True):
    """What the restarts added."""

    duplicates_count_active: int
    duplicate_threads: int


class Written(Report, frozen=True, kw_only=True):
    """The message that was sent, by hashes; `status_code` as the reference's HTTP answered."""

    account_hash: str
    dest_hash: str
    sent: bool
    status_code: int
    wa_message_id_hash: str | None
    thread_hash: str | None
    error: str | None


class Verification(Report, frozen=True, kw_only=True):
    """`wadctl verify --json`."""

    verdict: bool
    not_ready_reason: str | None
    reference_reason: str | None = msgspec.field(name="not_ready_reason")
    duplicates_count_active_before: int
    duplicates_count_active_after: int
    before: AuditCount
    after: AuditCount
    delta: Delta
    used_fallback: bool
    mode_used: str
    restart_requested: bool
    restart_performed: bool
    restart_verified: bool
    restart_skipped_reason: str | None
    restarts: int
    restart_error: str | None
    quick_write: Written | None
    accounts: int
    connected: int
    window_hours: float
    limit: int


def judge(seen: Observed) -> tuple[End, Verification]:
    """The verdict, and all that it rests on."""
    end, reason = _verdict(seen)
    before, after = seen.before.messages, seen.after.messages
    error = next((error for error in seen.restarts if error), None)
    return end, Verification(
        verdict=end is End.VERIFIED,
        not_ready_reason=reason,
        reference_reason=reason,
        duplicates_count_active_before=before.duplicates_count_active,
        duplicates_count_active_after=after.duplicates_count_active,
        before=_counted(seen.before),
        after=_counted(seen.after),
        delta=Delta(
            duplicates_count_active=after.duplicates_count_active - before.duplicates_count_active,
            duplicate_threads=seen.after.threads.duplicates_count
            - seen.before.threads.duplicates_count,
        ),
        used_fallback=_fell_back(seen),
        mode_used=after.mode_used,
        restart_requested=seen.wanted_restarts > 0,
        restart_performed=bool(seen.restarts),
        restart_verified=_restarted(seen),
        restart_skipped_reason=seen.skipped or None,
        restarts=sum(not error for error in seen.restarts),
        restart_error=error,
        quick_write=None if seen.sent is None else _written(seen.sent),
        accounts=seen.accounts,
        connected=seen.connected,
        window_hours=after.window_hours,
        limit=after.limit,
    )


def _verdict(seen: Observed) -> tuple[End, str | None]:
    """The first reason that counts, the gravest first."""
    if seen.after.double > seen.before.double:
        return End.DUPLICATES_INCREASED, "duplicates_increased"
    if not _restarted(seen):
        return End.FAILED, "restart_not_verified"
    if not seen.connected:
        return End.FAILED, "not_connected"
    if _fell_back(seen) and not seen.fallback_allowed:
        return End.FAILED, "index_missing"
    if seen.sent is not None and not _left(seen.sent):
        return End.FAILED, "message_not_sent"
    if seen.sent is not None and not seen.stored:
        return End.RECENT_DOC_MISSING, "recent_doc_missing"
    if not seen.after.messages.active_docs:
        return End.INCONCLUSIVE, "nothing_in_window"
    if seen.after.double:
        return End.FAILED, "duplicates_present"
    return End.VERIFIED, None


def _restarted(seen: Observed) -> bool:
    return len(seen.restarts) == seen.wanted_restarts and not any(seen.restarts)


def _fell_back(seen: Observed) -> bool:
    """Whether an audit went without its index."""
    audits = (seen.before, seen.after)
    return any(each.messages.used_fallback or each.threads.used_fallback for each in audits)


def _left(sent: SentMessage) -> bool:
    return sent.status in LEFT


def _counted(audited: Audited) -> AuditCount:
    messages = audited.messages
    return AuditCount(
        duplicates_count_active=messages.duplicates_count_active,
        duplicate_threads=audited.threads.duplicates_count,
        marked_docs=messages.marked_docs,
        active_docs=messages.active_docs,
        newest_age_seconds=messages.newest_age_seconds,
    )


def _written(sent: SentMessage) -> Written:
    return Written(
        account_hash=short_hash(sent.account),
        dest_hash=short_hash(sent.to),
        sent=_left(sent),
        status_code=200 if _left(sent) else 503,
        wa_message_id_hash=short_hash(sent.wa_id) if sent.wa_id else None,
        thread_hash=short_hash(sent.thread) if sent.thread else None,
        error=sent.error or None,
    )
