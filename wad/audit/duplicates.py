"""The audits: duplicate messages, and conversations with more than one thread.  Pure except for reading the rows.

A row without a readable time is in no window and is counted separately: in the reference it passed every window, and
48 hours, one hour and 15 minutes reported the same 500 documents
(docs/internals/replaced-backend.md#what-its-audits-proved).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from wad.audit.keys import Key, KeyMode, Strategy, is_hidden, key_of, parse, short_hash, thread_key
from wad.audit.reports import (
    AuditVerdict,
    DuplicateGroup,
    MessagesReport,
    SkippedRows,
    Strategies,
    ThreadGroup,
    ThreadsReport,
)
from wad.audit.rows import Aliases, MessageRow, R, ReadRows, Rows, Scope, ThreadRow

_SHOWN: Final = 10  # groups of duplicates in a report
_SHOWN_EACH: Final = 5  # documents of each
Groups = Mapping[Key, Sequence[MessageRow]]


class Question(NamedTuple):
    """The parameters of an audit; the window is `window_hours` back from `now_ms`."""

    now_ms: int
    window_hours: float = 48.0
    limit: int = 500
    account: str = ""
    thread: str = ""
    exclude_marked: bool = True
    mode: KeyMode = KeyMode.STABLE
    dry_run: bool = False
    """Only repeated in the report: an audit never writes."""

    @property
    def scope(self) -> Scope:
        """The rows to read."""
        since_ms = self.now_ms - round(self.window_hours * 3_600_000)
        return Scope(self.account, self.thread, since_ms, self.limit)


# --- messages -----------------------------------------------------------------------------------


def audit_messages(store: Rows, question: Question) -> MessagesReport:
    """Read and judge the messages of the window.  Raises what the store raises."""
    return judge_messages(store.messages(question.scope), store.aliases(), question, store.kind)


def judge_messages(
    found: ReadRows[MessageRow], aliases: Aliases, question: Question, store: str
) -> MessagesReport:
    """Judge these messages."""
    rows, skipped, cut = windowed(found, question.scope)
    newest, oldest = _ages(rows, question.now_ms)
    active = [row for row in rows if not row.marked]
    groups = grouped(active, aliases, question.mode)
    everything = None if question.exclude_marked else grouped(rows, aliases, question.mode)
    judged = groups if everything is None else everything
    used = Counter(key.strategy for key, group in judged.items() for _ in group)
    return MessagesReport(
        verdict=_verdict(sum(map(len, judged.values())), _surplus(judged)),
        store=store,
        total_docs=len(rows),
        marked_docs=len(rows) - len(active),
        active_docs=len(active),
        unique_keys=len(groups),
        duplicates_count_active=_surplus(groups),
        duplicates_count_all=None if everything is None else _surplus(everything),
        key_strategy_used_counts=Strategies(
            stableKeyHash=used[Strategy.STABLE_KEY],
            fingerprintHash=used[Strategy.FINGERPRINT],
            fallback=used[Strategy.FALLBACK],
            document=used[Strategy.DOCUMENT],
        ),
        window_hours=question.window_hours,
        limit=question.limit,
        limit_reached=cut,
        key_mode=str(question.mode),
        exclude_marked=question.exclude_marked,
        dry_run=question.dry_run,
        used_fallback=found.mode != "desc",
        mode_used=found.mode,
        hint=None,
        index_link=found.index_link,
        ts_client_types=dict(sorted(found.types.items())),
        newest_age_seconds=newest,
        oldest_age_seconds=oldest,
        skipped=skipped,
        top_duplicate_groups=tuple(largest(judged)),
    )


def grouped(rows: Iterable[MessageRow], aliases: Aliases, mode: KeyMode) -> Groups:
    """Group the rows by message identity; the row to keep is the first of its group."""
    groups: defaultdict[Key, list[MessageRow]] = defaultdict(list)
    for row in rows:
        groups[key_of(row, aliases, mode)].append(row)
    return {key: sorted(group, key=_to_keep) for key, group in groups.items()}


def _to_keep(row: MessageRow) -> tuple[bool, bool, bool, int, int, str]:
    """The sort key: unmarked rows first, then those that the daemon manages, outbox messages, the oldest, the
    fullest."""
    filled = bool(row.text) + bool(row.wa_id) + bool(row.sender) + (row.stamp.ms is not None)
    return row.marked, not row.managed, not row.client_id, row.seen, -filled, row.id


def _surplus(groups: Groups) -> int:
    return sum(len(group) - 1 for group in groups.values())


def largest(groups: Groups) -> Iterator[DuplicateGroup]:
    """The groups of more than one row, as in a report, the largest first."""
    surplus = [(key, group) for key, group in groups.items() if len(group) > 1]
    surplus.sort(key=lambda item: (-len(item[1]), item[0].value))
    for key, (first, *others) in surplus[:_SHOWN]:
        yield DuplicateGroup(
            key_hash=key.value[:8],
            size=1 + len(others),
            canonical_hash=short_hash(first.id),
            duplicate_hashes=tuple(short_hash(row.id) for row in others[:_SHOWN_EACH]),
        )


# --- threads ------------------------------------------------------------------------------------


def audit_threads(store: Rows, question: Question) -> ThreadsReport:
    """Read and judge the threads of the window.  Raises what the store raises."""
    return judge_threads(store.threads(question.scope), store.aliases(), question, store.kind)


def judge_threads(
    found: ReadRows[ThreadRow], aliases: Aliases, question: Question, store: str
) -> ThreadsReport:
    """Judge these threads."""
    rows, skipped, cut = windowed(found, question.scope)
    newest, oldest = _ages(rows, question.now_ms)
    counts = Counter(thread_key(row, aliases) for row in rows)
    addresses = [parse(row.chat) for row in rows]
    hidden = sum(is_hidden(row.chat) for row in rows)
    return ThreadsReport(
        verdict=_verdict(len(rows), len(rows) - len(counts)),
        store=store,
        total_threads=len(rows),
        unique_keys=len(counts),
        duplicates_count=len(rows) - len(counts),
        top_duplicate_groups=tuple(
            ThreadGroup(key_hash=key[:8], count=count)
            for key, count in counts.most_common(_SHOWN)
            if count > 1
        ),
        lid_threads_count=hidden,
        canonical_threads_count=len(rows) - hidden - addresses.count(None),
        object_threads_count=addresses.count(None),
        unknown_name_count=sum(not row.name for row in rows),
        redirected_threads_count=found.redirected,
        window_hours=question.window_hours,
        limit=question.limit,
        limit_reached=cut,
        used_fallback=found.mode != "desc",
        mode_used=found.mode,
        hint=None,
        index_link=found.index_link,
        last_message_at_types=dict(sorted(found.types.items())),
        newest_age_seconds=newest,
        oldest_age_seconds=oldest,
        skipped=skipped,
    )


# --- the window ---------------------------------------------------------------------------------


def windowed(found: ReadRows[R], scope: Scope) -> tuple[list[R], SkippedRows, bool]:
    """The rows in the window, newest first; the skipped rows; whether the limit cut the window."""
    inside = [
        row for row in found.rows if row.stamp.ms is not None and row.stamp.ms >= scope.since_ms
    ]
    timeless = sum(row.stamp.ms is None for row in found.rows)
    skipped = SkippedRows(
        out_of_window=found.older + len(found.rows) - len(inside) - timeless,
        unreadable_time=found.timeless + timeless,
        unreadable_content=found.unreadable,
    )
    inside.sort(key=lambda row: (row.stamp.ms, row.id), reverse=True)
    return inside[: scope.limit], skipped, len(inside) > scope.limit


def _ages(rows: Sequence[MessageRow | ThreadRow], now_ms: int) -> tuple[float | None, float | None]:
    times = [row.stamp.ms for row in rows if row.stamp.ms is not None]
    if not times:
        return None, None
    return round((now_ms - max(times)) / 1000, 1), round((now_ms - min(times)) / 1000, 1)


def _verdict(rows: int, surplus: int) -> AuditVerdict:
    if surplus:
        return AuditVerdict.DUPLICATES
    return AuditVerdict.CLEAN if rows else AuditVerdict.INCONCLUSIVE
