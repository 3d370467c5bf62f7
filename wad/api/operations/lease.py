"""Operations on the lease: show it, list its holders, release it and take it."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.operations.daemon import NoParams
from wad.api.views.lease import HolderView, LeaseStatus
from wad.core.errors import Conflict
from wad.core.lease import Record

Why = Annotated[str, Meta(max_length=200, description="the reason, for the history")]


class HistoryRequest(Params, frozen=True):
    """How many holders to list."""

    limit: Annotated[int, Meta(ge=1, le=200, description="how many holders at most")] = 20


class Release(Params, frozen=True):
    """A release of the lease."""

    seconds: Annotated[
        float,
        Meta(ge=0, le=86400, description="seconds for which this instance does not take it back"),
    ] = 60.0
    reason: Why = ""


class Take(Params, frozen=True):
    """A request to take the lease."""

    force: Annotated[bool, Meta(description="even if another instance holds it")] = False
    reason: Why = ""


@operation("lease.show", access=Access.READ, command="lease show")
async def show(context: Context, request: NoParams) -> LeaseStatus:
    """Show the lease: its holder, since when, and for how long."""
    return lease_status(context)


@operation("lease.history", access=Access.READ, command="lease history")
async def history(context: Context, request: HistoryRequest) -> list[HolderView]:
    """List the holders of the lease, newest first, with the reason and the end of each term."""
    return [
        HolderView(
            epoch=tenure.epoch,
            holder=tenure.holder,
            began_ms=tenure.began_ms,
            reason=tenure.reason,
            ended_ms=tenure.ended_ms or None,
            end_reason=tenure.end,
        )
        for tenure in await context.leader.history(request.limit)
    ]


@operation(
    "lease.release",
    access=Access.ADMIN,
    command="lease release",
    confirm="Every account of this machine disconnects until an instance takes the lease again.",
)
async def release(context: Context, request: Release) -> LeaseStatus:
    """Release the lease, so that another instance takes it.

    Without another instance, this one takes it back after --seconds.

    Example: wadctl lease release --reason "kernel update"
    """
    context.leader.let_go(_who(request.reason), request.seconds)
    return lease_status(context)


@operation(
    "lease.take",
    access=Access.ADMIN,
    command="lease take",
    confirm="With --force the lease is taken from its holder. If that machine runs but is cut off, its accounts"
    " stay connected for up to its ttl in parallel, and WhatsApp ends one of two connections. Use it only"
    " if the other machine is dead or its daemon is stopped.",
)
async def take(context: Context, request: Take) -> LeaseStatus:
    """Take the lease now.

    Without --force this works only while no other instance holds it.
    """
    seen, ours = context.leader.seen, context.loaded.config.instance.id
    if not request.force and seen is not None and seen.holder not in ("", ours):
        raise Conflict(
            f"{seen.holder} holds the lease: {context.leader.reason}",
            hint="stop that daemon or run `wadctl lease release` there; if that machine is dead: --force",
        )
    context.leader.take(_who(request.reason), force=request.force)
    return lease_status(context)


def _who(reason: str) -> str:
    return f"an operator ({reason})" if reason else "an operator"


def lease_status(context: Context) -> LeaseStatus:
    """The lease as this instance sees it now."""
    leader, settings = context.leader, context.loaded.config.lease
    valid = leader.valid_for()
    record = leader.seen if leader.seen is not None and leader.seen.nonce else None
    return LeaseStatus(
        instance=context.loaded.config.instance.id,
        mode="active" if leader.active else "passive",
        reason=leader.reason,
        valid_for_s=None if valid is None else round(valid, 1),
        holder=leader.holder or None,
        epoch=_epoch(leader.seen),
        acquired_ms=record.acquired_ms if record else None,
        renewed_ms=record.renewed_ms if record else None,
        previous_holder=(record.previous or None) if record else None,
        acquire_reason=(record.reason or None) if record else None,
        ttl_s=settings.ttl,
        renew_every_s=settings.renew_every,
        margin_s=settings.margin,
        location=leader.where,
    )


def _epoch(record: Record | None) -> int | None:
    return record.epoch if record is not None else None
