"""The view of the daemon in replies: lease, sync, limits, problems and loops, read from the live objects without I/O.

Unknown values are None, not zero.  A field that was added later has a default, so that wadctl can decode the reply of
an older daemon; the daemon itself always sets it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import msgspec

from wad.api.views.account import AccountView
from wad.api.views.lease import Mode
from wad.api.views.values import values

if TYPE_CHECKING:
    from collections.abc import Sequence

    from wad.api.context import Context
    from wad.core.problem import Problem


class LeaseView(msgspec.Struct, frozen=True, kw_only=True):
    """The lease.  `valid_for_s`: seconds for which this instance may act without another renewal."""

    mode: Mode
    holder: str | None
    epoch: int | None
    valid_for_s: float | None
    reason: str


class SyncView(msgspec.Struct, frozen=True, kw_only=True):
    """The sync to Firestore: `waiting` documents of at most `quota`, the oldest for `oldest_age_s` seconds.

    `refused`: documents that Firestore refused.  `error`: why the sync fails; empty while it works.
    """

    waiting: int
    oldest_age_s: float | None
    quota: int
    refused: int
    error: str


class LimitsView(msgspec.Struct, frozen=True, kw_only=True):
    """The resource limits of each worker; None for no limit; `reason`: why a configured limit is missing."""

    memory_mb: int | None
    tasks: int | None
    reason: str


class ProblemView(msgspec.Struct, frozen=True, kw_only=True):
    """One current problem; `/health`, `/metrics` and the doctor show the same ones.

    `degrades`: it degrades the service; otherwise it is a warning.  `account` is empty for a problem of the daemon.
    `hint` is what to do.  `since_ms`: None if unknown.
    """

    code: str
    degrades: bool
    account: str
    text: str
    hint: str
    since_ms: int | None


class LoopView(msgspec.Struct, frozen=True, kw_only=True):
    """A long-lived loop that has failed since the start.  `errors`: failed iterations, `internal_errors` of them
    unexpected.

    `error`: why it fails now; empty while it works and after it has ended.
    """

    name: str
    account: str
    errors: int
    internal_errors: int
    error: str


class HttpView(msgspec.Struct, frozen=True):
    """A connected HTTP process: its process id, its version and its addresses."""

    pid: int
    version: str
    listening: tuple[str, ...]


def http_views(context: Context) -> tuple[HttpView, ...]:
    """The connected HTTP processes."""
    return tuple(
        HttpView(one.pid, one.version, one.listening) for one in context.http_processes.all
    )


class StatusView(msgspec.Struct, frozen=True, kw_only=True):
    """The status of the daemon.  `health`: healthy, or degraded by a problem.

    `warnings`: the texts of the problems of the daemon itself.  `limits`, `health` and `problems` are null only in the
    reply of an older daemon.
    """

    service: str
    version: str
    instance: str
    boot_id: str
    ready: bool = True
    pid: int
    started_ms: int
    uptime_s: float
    engine: Annotated[str, values("neonize", "simulator")]
    receipts: Annotated[str, values("after-store", "early")] | None
    store: Annotated[str, values("sqlite", "firestore")]
    sync: SyncView | None
    lease: LeaseView
    limits: LimitsView | None = None
    http: tuple[HttpView, ...] = ()
    accounts: tuple[AccountView, ...]
    health: Annotated[str, values("healthy", "degraded")] | None = None
    problems: tuple[ProblemView, ...] | None = None
    loops: tuple[LoopView, ...] = ()
    warnings: tuple[str, ...]


def limits_view(context: Context) -> LimitsView:
    """The resource limits of each worker."""
    limits = context.limits
    memory_mb = None if limits.memory is None else limits.memory >> 20
    return LimitsView(memory_mb=memory_mb, tasks=limits.tasks, reason=limits.why)


def problem_views(found: Sequence[Problem]) -> tuple[ProblemView, ...]:
    """The views of these problems."""
    return tuple(
        ProblemView(
            code=problem.code,
            degrades=problem.kind.degrades,
            account=problem.account,
            text=problem.text,
            hint=problem.kind.hint,
            since_ms=problem.since_ms,
        )
        for problem in found
    )


def loop_views(context: Context) -> tuple[LoopView, ...]:
    """The loops that have failed since the start."""
    failing = {(loop.name, loop.account): loop.failure for loop in context.loops.running}
    return tuple(
        LoopView(
            name=name,
            account=account,
            errors=count.errors,
            internal_errors=count.faults,
            error=failing.get((name, account), ""),
        )
        for (name, account), count in sorted(context.loops.counts.items())
        if count.errors
    )


def lease_view(context: Context) -> LeaseView:
    """The view of the lease."""
    leader = context.leader
    valid = leader.valid_for()
    return LeaseView(
        mode="active" if leader.active else "passive",
        holder=leader.holder or None,
        epoch=leader.epoch,
        valid_for_s=None if valid is None else round(valid, 1),
        reason=leader.reason,
    )


def sync_view(context: Context) -> SyncView | None:
    """The view of the sync to Firestore; None for a local store."""
    sync = context.store.sync_status
    if sync is None:
        return None
    since = sync.oldest_ms
    return SyncView(
        waiting=sync.waiting,
        oldest_age_s=None if since is None else round((context.clock.wall_ms() - since) / 1000, 1),
        quota=sync.quota,
        refused=sync.refused,
        error=sync.error,
    )
