"""The daemon as a whole: status, version, restart, what happens."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

import msgspec
from msgspec import Meta

import wad
from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.views.problems import problems
from wad.api.views.status import (
    StatusView,
    account_views,
    http_views,
    lease_view,
    limits_view,
    loop_views,
    problem_views,
    telling_view,
)
from wad.core.problem import degraded


class NoParams(Params, frozen=True):
    """An operation that needs no words."""


class VersionReply(msgspec.Struct, frozen=True):
    """What runs."""

    version: str
    instance: str
    boot_id: str
    pid: int


class Restarting(msgspec.Struct, frozen=True):
    """The process that is about to end."""

    boot_id: str
    pid: int


class Follow(Params, frozen=True):
    """What to follow."""

    account: Annotated[str, Meta(description="only this account (id, name or number)")] = ""
    last: Annotated[int, Meta(ge=0, le=1000, description="begin with so many earlier events")] = 0
    follow: Annotated[bool, Meta(description="go on until interrupted")] = False


class EventView(msgspec.Struct, frozen=True):
    """One thing that happened.  `kind`: state, message, outbox, account or daemon."""

    at_ms: int
    kind: str
    account: str
    text: str
    detail: dict[str, Any]


@operation("status", access=Access.READ, command="status")
async def status(context: Context, request: NoParams) -> StatusView:
    """Show the daemon, its lease and its accounts."""
    config, found = context.loaded.config, problems(context)
    return StatusView(
        service="wad",
        version=wad.__version__,
        instance=config.instance.id,
        boot_id=context.boot_id,
        ready=context.ready,
        pid=os.getpid(),
        started_ms=context.started_ms,
        uptime_s=round(context.uptime, 1),
        engine=config.engine.kind,
        receipts=context.accounts.engine.receipts,
        store=context.store.kind,
        telling=telling_view(context),
        lease=lease_view(context),
        limits=limits_view(context),
        http=http_views(context),
        accounts=tuple(account_views(context.accounts, context.clock.wall_ms())),
        health="degraded" if degraded(found) else "healthy",
        problems=problem_views(found),
        loops=loop_views(context),
        warnings=tuple(problem.text for problem in found if not problem.account),
    )


@operation("version", access=Access.READ)
async def version(context: Context, request: NoParams) -> VersionReply:
    """Show the version of the running daemon."""
    return VersionReply(
        wad.__version__, context.loaded.config.instance.id, context.boot_id, os.getpid()
    )


@operation("restart", access=Access.OPERATE)
async def restart(context: Context, request: NoParams) -> Restarting:
    """Restart the daemon gracefully; its place is taken by a fresh process."""
    answer = Restarting(context.boot_id, os.getpid())
    context.restart()
    return answer


@operation("events", access=Access.READ, command="events")
async def events(context: Context, request: Follow) -> AsyncIterator[EventView]:
    """Show what happened lately, and with --follow what happens.

    A reader that is too slow is told how many events it missed, and goes on.
    """
    account = context.accounts.find(request.account).id if request.account else ""
    last = request.last if request.follow else (request.last or 20)
    async with context.bus.follow(last=last, live=request.follow) as happenings:
        async for happening in happenings:
            if not account or happening.account == account:
                yield EventView(
                    happening.at_ms,
                    happening.kind,
                    happening.account,
                    happening.text,
                    happening.detail,
                )
