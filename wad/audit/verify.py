"""Rules for `wadctl verify`: audits before and after two restarts, and a verdict.  Pure.

The keys are those of the reference's run-sync-verification.js (docs/internals/replaced-backend.md#scripts).  There a
verdict of `false` could end with 0; here 0 always means verified.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import msgspec

from wad.audit.keys import short_hash
from wad.audit.reports import MessagesReport, Report, ThreadsReport
from wad.core.outbox import LEFT


class End(IntEnum):
    """The exit codes of `wadctl verify`."""

    VERIFIED = 0
    FAILED = 2
    DUPLICATES_INCREASED = 3
    RECENT_DOC_MISSING = 4
    INCONCLUSIVE = 10


@dataclass(frozen=True, slots=True)
class Audited:
    """Both audits at one time."""

    messages: MessagesReport
    threads: ThreadsReport

    @property
    def duplicates(self) -> int:
        """The number of duplicates of both kinds."""
        return self.messages.duplicates_count_active + self.threads.duplicates_count


@dataclass(frozen=True, slots=True)
class SentMessage:
    """The message that was sent between the audits; `error`: a code, `status`: its status in the outbox."""

    account: str
    to: str
    error: str = ""
    status: str = ""
    wa_id: str = ""
    thread: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """The observations.

    `restarts`: the error of each, empty if the daemon came back with every account; `skipped`: why none was requested;
    `stored`: whether the sent message is in the store after the restarts; `fallback_allowed`: whether an audit without
    its index counts.
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
    """The counts of one audit."""

    duplicates_count_active: int
    duplicate_threads: int
    marked_docs: int
    active_docs: int
    newest_age_seconds: float | None


class Delta(Report, frozen=True, kw_only=True):
    """The duplicates that the restarts added."""

    duplicates_count_active: int
    duplicate_threads: int


class Written(Report, frozen=True, kw_only=True):
    """The sent message, with hashes for ids; `status_code`: as in the reference's HTTP response."""

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


def judge(observed: Observed) -> tuple[End, Verification]:
    """The exit code and the report."""
    end, reason = _verdict(observed)
    before, after = observed.before.messages, observed.after.messages
    error = next((error for error in observed.restarts if error), None)
    return end, Verification(
        verdict=end is End.VERIFIED,
        not_ready_reason=reason,
        reference_reason=reason,
        duplicates_count_active_before=before.duplicates_count_active,
        duplicates_count_active_after=after.duplicates_count_active,
        before=_counted(observed.before),
        after=_counted(observed.after),
        delta=Delta(
            duplicates_count_active=after.duplicates_count_active - before.duplicates_count_active,
            duplicate_threads=observed.after.threads.duplicates_count
            - observed.before.threads.duplicates_count,
        ),
        used_fallback=_fell_back(observed),
        mode_used=after.mode_used,
        restart_requested=observed.wanted_restarts > 0,
        restart_performed=bool(observed.restarts),
        restart_verified=_restarted(observed),
        restart_skipped_reason=observed.skipped or None,
        restarts=sum(not error for error in observed.restarts),
        restart_error=error,
        quick_write=None if observed.sent is None else _written(observed.sent),
        accounts=observed.accounts,
        connected=observed.connected,
        window_hours=after.window_hours,
        limit=after.limit,
    )


def _verdict(observed: Observed) -> tuple[End, str | None]:
    """The exit code and the first reason that applies, the gravest first."""
    if observed.after.duplicates > observed.before.duplicates:
        return End.DUPLICATES_INCREASED, "duplicates_increased"
    if not _restarted(observed):
        return End.FAILED, "restart_not_verified"
    if not observed.connected:
        return End.FAILED, "not_connected"
    if _fell_back(observed) and not observed.fallback_allowed:
        return End.FAILED, "index_missing"
    if observed.sent is not None and not _left(observed.sent):
        return End.FAILED, "message_not_sent"
    if observed.sent is not None and not observed.stored:
        return End.RECENT_DOC_MISSING, "recent_doc_missing"
    if not observed.after.messages.active_docs:
        return End.INCONCLUSIVE, "nothing_in_window"
    if observed.after.duplicates:
        return End.FAILED, "duplicates_present"
    return End.VERIFIED, None


def _restarted(observed: Observed) -> bool:
    return len(observed.restarts) == observed.wanted_restarts and not any(observed.restarts)


def _fell_back(observed: Observed) -> bool:
    """Whether an audit ran without its index."""
    audits = (observed.before, observed.after)
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
