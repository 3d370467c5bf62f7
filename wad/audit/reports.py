"""The reports of audits and repairs: the fields of the reference's scripts, and additional evidence.

Fields of the reference (docs/internals/replaced-backend.md#scripts) keep their names and meaning.  Added: `verdict`,
`store`, the types of the times, the age of the rows, the skipped rows with the reason, whether the limit cut the
window.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class AuditVerdict(StrEnum):
    """The verdict of an audit.  `inconclusive`: there were no rows."""

    CLEAN = "clean"
    DUPLICATES = "duplicates"
    INCONCLUSIVE = "inconclusive"


class Report(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """The base of the reports; ages are in seconds, of the audited rows."""


class SkippedRows(Report, frozen=True, kw_only=True):
    """Rows in the scope that were not audited, by reason; `unreadable_content`: audited, but without their text."""

    out_of_window: int
    unreadable_time: int
    unreadable_content: int = 0


class Strategies(msgspec.Struct, frozen=True, kw_only=True):
    """The number of keys by source."""

    stableKeyHash: int = 0  # noqa: N815, the reference's spelling
    fingerprintHash: int = 0  # noqa: N815
    fallback: int = 0
    document: int = 0


class DuplicateGroup(Report, frozen=True, kw_only=True):
    """Documents of one message; ids and keys as hashes, so that a report can be passed on."""

    key_hash: str
    size: int
    canonical_hash: str
    duplicate_hashes: tuple[str, ...]


class MessagesReport(Report, frozen=True, kw_only=True):
    """`wadctl audit messages`."""

    verdict: AuditVerdict
    store: str
    total_docs: int
    marked_docs: int
    active_docs: int
    unique_keys: int
    duplicates_count_active: int
    duplicates_count_all: int | None
    key_strategy_used_counts: Strategies
    window_hours: float
    limit: int
    limit_reached: bool
    key_mode: str
    exclude_marked: bool
    dry_run: bool
    used_fallback: bool
    mode_used: str
    hint: str | None
    index_link: str | None
    ts_client_types: dict[str, int]
    newest_age_seconds: float | None
    oldest_age_seconds: float | None
    skipped: SkippedRows
    top_duplicate_groups: tuple[DuplicateGroup, ...]


class ThreadGroup(Report, frozen=True, kw_only=True):
    """Threads of one conversation."""

    key_hash: str
    count: int


class ThreadsReport(Report, frozen=True, kw_only=True):
    """`wadctl audit threads`."""

    verdict: AuditVerdict
    store: str
    total_threads: int
    unique_keys: int
    duplicates_count: int
    top_duplicate_groups: tuple[ThreadGroup, ...]
    lid_threads_count: int
    canonical_threads_count: int
    object_threads_count: int
    unknown_name_count: int
    redirected_threads_count: int
    window_hours: float
    limit: int
    limit_reached: bool
    used_fallback: bool
    mode_used: str
    hint: str | None
    index_link: str | None
    last_message_at_types: dict[str, int]
    newest_age_seconds: float | None
    oldest_age_seconds: float | None
    skipped: SkippedRows


class RepairVerdict(StrEnum):
    """The verdict of a repair."""

    CLEAN = "clean"
    TO_REPAIR = "to_repair"
    REPAIRED = "repaired"


class RepairReport(Report, frozen=True, kw_only=True):
    """`wadctl audit repair`.  `left`: the number of errors that cannot be corrected.

    Only Firestore has receipts without a message, and documents that changed while they were repaired.
    """

    ok: bool
    verdict: RepairVerdict
    store: str
    dry_run: bool
    thread_id_hash: str | None
    scanned_messages: int
    groups_with_duplicates: int
    duplicates_to_mark: int
    duplicates_already_marked: int
    last_message_at_ms_candidate: int | None
    threads_updated: int
    sample_groups: tuple[DuplicateGroup, ...]
    window_hours: float | None
    limit: int | None
    times_rewritten: int
    addresses_joined: int
    messages_moved: int
    statuses_corrected: int
    receipts_marked: int = 0
    left: int
    changed_meanwhile: int = 0
    rows_changed: int
    undo_file: str | None


class Undone(Report, frozen=True, kw_only=True):
    """`wadctl audit repair --undo`."""

    ok: bool
    rows: int
    threads: int
