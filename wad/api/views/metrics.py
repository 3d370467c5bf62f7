"""`GET /metrics`: metrics for graphs and alerts, in Prometheus' text format.

`read` reads the values from the live objects in the event loop; `exposition` renders them on a thread.  Metrics of each
account begin with `wad_account_` and have the label `account` (the full id, which may contain a number); metrics of all
accounts together begin with `wad_` and have no such label.  Counters start with the process; unknown values are
omitted.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path
from typing import TYPE_CHECKING, Final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

import wad
from wad.api.views.problems import problems
from wad.api.views.status import LoopView, loop_views
from wad.core.connection import State
from wad.core.problem import KINDS, by_code, degraded
from wad.engine.port import Receipts
from wad.flow.accounts.counts import COUNTS

if TYPE_CHECKING:
    from wad.api.context import Context
    from wad.engine.port import Worker
    from wad.flow.accounts.account import Account

CONTENT_TYPE: Final = CONTENT_TYPE_LATEST.encode()
_PAGE: Final = os.sysconf("SC_PAGESIZE")

Value = float | None
Total = Callable[[Iterable[float]], float]


@dataclass(frozen=True)
class _Metric:
    """A metric of each account, and (combined by `total`) of all accounts together."""

    name: str
    text: str
    value: Callable[[Account, int], Value]
    counter: bool = False
    total: Total = sum


def _max(values: Iterable[float]) -> float:
    return max(values, default=0.0)


def _min(values: Iterable[float]) -> float:
    return min(values, default=1.0)


def _lag(account: Account, now_ms: int) -> Value:
    oldest_ms = account.inbound.oldest_ms
    return 0.0 if oldest_ms is None else (now_ms - oldest_ms) / 1000


def _after_store(account: Account, now_ms: int) -> Value:
    receipts = account.worker.receipts if account.worker is not None else None
    return None if receipts is None else float(receipts is Receipts.AFTER_STORE)


def _seconds(ms: int | None) -> Value:
    return None if ms is None else ms / 1000


def _counter(name: str, text: str) -> _Metric:
    count = COUNTS[name]
    return _Metric(name, text, lambda account, _: count(account), counter=True)


_ACCOUNT_METRICS: Final = (
    _counter("messages_recorded", "Messages stored that were new."),
    _counter("messages_duplicate", "Messages received again."),
    _counter("messages_sent", "Messages that WhatsApp accepted."),
    _counter("messages_refused", "Messages that could not be sent."),
    _counter("history_messages", "Messages of the history."),
    _counter("receipts", "Receipts for our messages."),
    _Metric("messages_lost", "Messages that are known to be lost.", lambda a, _: a.inbound.lost),
    _Metric("untranslated_rows", "Received rows that are not translated.", lambda a, _: a.inbound.untranslated),
    _Metric("quarantined_rows", "Received rows in quarantine.", lambda a, _: a.inbound.set_aside),
    _Metric("copies", "Copies of damaged files in the account directory.", lambda a, _: len(a.quarantine.copies)),
    _Metric("backlog_rows", "Received rows that wait to be stored.", lambda a, _: a.inbound.backlog),
    _Metric("lag_seconds", "Age of the oldest row that waits.", _lag, total=_max),
    _Metric("store_failing", "1 while what was received cannot be stored.", lambda a, _: bool(a.inbound.error)),
    _Metric("receipts_after_store", "1: receipts are sent after the commit.", _after_store, total=_min),
    _counter("logins", "Times that the account connected."),
    _Metric("reconnect_attempts", "Consecutive failed connections.", lambda a, _: a.status.attempts, total=_max),
    _counter("worker_restarts", "Restarts of the worker."),
    _Metric("warnings", "Warnings for the operator.", lambda a, _: len(a.warnings)),
    _Metric(
        "last_message_timestamp_seconds", "Time of the newest message.",
        lambda a, _: _seconds(a.inbound.last_message_ms), total=_max,
    ),
    _Metric(
        "last_event_timestamp_seconds", "Time of the last received event.",
        lambda a, _: _seconds(a.inbound.last_event_ms), total=_max,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class _AccountReading:
    ident: str
    state: State
    worker: Worker | None
    values: tuple[Value, ...]


@dataclass(frozen=True)
class MetricsSnapshot:
    """All values at one point in time."""

    info: dict[str, str]
    gauges: dict[str, tuple[str, Value]]
    internal_errors: int
    problems: dict[str, Counter[str]]
    """The number of problems of each kind by account; empty for the daemon itself."""
    loops: tuple[LoopView, ...]
    logs: dict[tuple[str, str], int]
    """The bytes of each write-ahead log, by account and file."""
    accounts: tuple[_AccountReading, ...]
    removed: Mapping[str, int]
    """The counts of accounts that were removed since the start, by the name of the metric."""


def read(context: Context) -> MetricsSnapshot:
    """Read the current values."""
    leader, now_ms = context.leader, context.clock.wall_ms()
    found, files = problems(context), context.inspection.files
    instance = context.loaded.config.instance
    return MetricsSnapshot(
        info={"version": wad.__version__, "instance": instance.id, "commit": instance.commit},
        gauges={
            "healthy": ("1 while no problem degrades the service.", not degraded(found)),
            "uptime_seconds": ("Seconds since the start.", context.uptime),
            "lease_active": ("1 while this instance is active.", float(leader.active)),
            "lease_epoch": ("The epoch of this instance's leadership.", leader.epoch),
            "lease_valid_seconds": (
                "Seconds for which this instance may act without renewal.",
                leader.valid_for(),
            ),
            "event_loop_lag_seconds": (
                "The longest delay of the event loop within the last minute.",
                context.inspection.lag,
            ),
            "open_files": ("Open files of the daemon.", files and files[0]),
            "open_files_limit": (
                "The limit of open files.",
                files and files[1],
            ),
            "sessions_writable": (
                "1 while the accounts' directory can be written.",
                context.sessions_writable,
            ),
            "daemon_warnings": (
                "Warnings of the daemon itself.",
                sum(not problem.account for problem in found),
            ),
        },
        internal_errors=context.internal_errors,
        problems={
            code: Counter(problem.account for problem in each)
            for code, each in by_code(found).items()
        },
        loops=loop_views(context),
        logs={
            (database.account, database.path.name): size
            for database, size in context.inspection.logs.items()
        },
        accounts=tuple(_of(account, now_ms) for account in context.accounts.all()),
        removed=dict(context.accounts.removed_counts),
    )


def _of(account: Account, now_ms: int) -> _AccountReading:
    values = tuple(row.value(account, now_ms) for row in _ACCOUNT_METRICS)
    return _AccountReading(account.id, account.status.state, account.worker, values)


def exposition(reading: MetricsSnapshot, *, each: bool) -> bytes:
    """The metrics as text; `each`: also those of each account.  Reads the processes' memory use from /proc."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Families(reading, each=each))
    return generate_latest(registry)


class _Families(Collector):
    def __init__(self, reading: MetricsSnapshot, *, each: bool) -> None:
        self._reading = reading
        self._each = each

    def collect(self) -> Iterator[Metric]:
        """The requested metric families."""
        families = self._all()
        return families if self._each else filterfalse(_is_of_each, families)

    def _all(self) -> Iterator[Metric]:
        reading = self._reading
        yield InfoMetricFamily("wad", "Version and instance.", value=reading.info)
        for name, (text, value) in reading.gauges.items():
            yield from _single(f"wad_{name}", text, value)
        yield CounterMetricFamily(
            "wad_internal_errors", "Internal errors.", value=reading.internal_errors
        )
        yield from _problems(reading)
        yield from _loops(reading.loops)
        yield from _logs(reading.logs)
        yield from _single(
            "wad_daemon_resident_bytes", "Memory of the daemon.", resident(os.getpid())
        )
        yield from _states(reading.accounts)
        yield from _memory(reading.accounts)
        for number, row in enumerate(_ACCOUNT_METRICS):
            values = {one.ident: one.values[number] for one in reading.accounts}
            yield from _both(row, values, reading.removed.get(row.name, 0))


def _is_of_each(family: Metric) -> bool:
    return family.name.startswith("wad_account_")


def _single(name: str, text: str, value: Value) -> Iterator[Metric]:
    if value is not None:
        yield GaugeMetricFamily(name, text, value=float(value))


def _both(row: _Metric, values: dict[str, Value], removed: int) -> Iterator[Metric]:
    """The metric of each account and of all; `removed`: the count of removed accounts, since a counter never falls."""
    known = {ident: float(value) for ident, value in values.items() if value is not None}
    family = CounterMetricFamily if row.counter else GaugeMetricFamily
    each = family(f"wad_account_{row.name}", row.text, labels=["account"])
    for ident, value in known.items():
        each.add_metric([ident], value)
    yield each
    yield family(
        f"wad_{row.name}", f"{row.text} All accounts.", value=row.total(known.values()) + removed
    )


def _problems(reading: MetricsSnapshot) -> Iterator[Metric]:
    each = GaugeMetricFamily(
        "wad_account_problem", "Problems of the account, by kind.", labels=["account", "code"]
    )
    overall = GaugeMetricFamily("wad_problem", "Problems, by kind.", labels=["code"])
    for code in KINDS:
        counts = reading.problems.get(code, Counter())
        overall.add_metric([code], counts.total())
        for account, count in counts.items():
            if account:
                each.add_metric([account, code], count)
    yield each
    yield overall


def _loops(loops: tuple[LoopView, ...]) -> Iterator[Metric]:
    yield from _counted(
        "loop_errors", "Failed iterations of a long-lived loop.",
        [(loop.account, loop.name, loop.errors) for loop in loops],
    )  # fmt: skip
    yield from _counted(
        "loop_internal_errors", "Unexpected errors of a long-lived loop.",
        [(loop.account, loop.name, loop.internal_errors) for loop in loops],
    )  # fmt: skip


def _logs(logs: dict[tuple[str, str], int]) -> Iterator[Metric]:
    text = "Size of a write-ahead log."
    each = GaugeMetricFamily("wad_account_write_ahead_log_bytes", text, labels=["account", "file"])
    greatest: dict[str, int] = {}
    for (account, file), size in logs.items():
        greatest[file] = max(size, greatest.get(file, 0))
        if account:
            each.add_metric([account, file], size)
    yield each
    overall = GaugeMetricFamily(
        "wad_write_ahead_log_bytes", f"{text} The largest of all accounts.", labels=["file"]
    )
    for file, size in greatest.items():
        overall.add_metric([file], size)
    yield overall


def _counted(name: str, text: str, counts: list[tuple[str, str, int]]) -> Iterator[Metric]:
    each = CounterMetricFamily(f"wad_account_{name}", text, labels=["account", "loop"])
    totals: Counter[str] = Counter()
    for account, loop, count in counts:
        totals[loop] += count
        if account:
            each.add_metric([account, loop], count)
    yield each
    overall = CounterMetricFamily(f"wad_{name}", text, labels=["loop"])
    for loop, total in totals.items():
        overall.add_metric([loop], total)
    yield overall


def _states(accounts: tuple[_AccountReading, ...]) -> Iterator[Metric]:
    each = GaugeMetricFamily(
        "wad_account_state", "1 for the account's current state.", labels=["account", "state"]
    )
    for account in accounts:
        for state in State:
            each.add_metric([account.ident, state], float(account.state is state))
    yield each
    counts = Counter(account.state for account in accounts)
    overall = GaugeMetricFamily("wad_accounts", "Accounts in each state.", labels=["state"])
    for state in State:
        overall.add_metric([state], counts[state])
    yield overall


def _memory(accounts: tuple[_AccountReading, ...]) -> Iterator[Metric]:
    each = GaugeMetricFamily(
        "wad_account_worker_resident_bytes", "Memory of the account's worker.", labels=["account"]
    )
    total = 0.0
    for account in accounts:
        usage = account.worker.usage if account.worker is not None else None
        if usage is not None:
            each.add_metric([account.ident], usage.memory)
            total += usage.memory
    yield each
    yield GaugeMetricFamily("wad_workers_resident_bytes", "Memory of all workers.", value=total)


def resident(pid: int) -> float | None:
    """The resident bytes of a process; None when it has ended."""
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):
        return None
    return float(int(pages) * _PAGE)
