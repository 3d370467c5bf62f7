"""Operations on the daemon: status, version, restart and events."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import Annotated

from msgspec import Meta
from msgspec.structs import replace

import wad
from wad.api.caller import Caller
from wad.api.context import Context
from wad.api.operation import Access, Params, operation
from wad.api.views.account import account_views
from wad.api.views.daemon import EventView, Restarting, VersionReply
from wad.api.views.problems import problems
from wad.api.views.status import (
    StatusView,
    http_views,
    lease_view,
    limits_view,
    loop_views,
    problem_views,
    sync_view,
)
from wad.core.problem import degraded


class NoParams(Params, frozen=True):
    """A request without parameters."""


class Follow(Params, frozen=True):
    """Which events to show."""

    account: Annotated[str, Meta(description="only this account (id, name or number)")] = ""
    last: Annotated[
        int, Meta(ge=0, le=1000, description="show this number of earlier events first")
    ] = 0
    follow: Annotated[bool, Meta(description="keep showing new events until interrupted")] = False


@operation("status", access=Access.READ, command="status")
async def status(context: Context, request: NoParams, caller: Caller) -> StatusView:
    """Show the daemon, its lease, its accounts and its problems.

    Codes are shown only to callers that may pair an account.

    Example: watch -n 5 wadctl status
    """
    config, found = context.loaded.config, problems(context)
    accounts = account_views(context.accounts, context.clock.wall_ms())
    if not caller.sees_codes:
        accounts = [
            replace(account, qr=None, pairing_code=None, pairing_phone=None) for account in accounts
        ]
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
        sync=sync_view(context),
        lease=lease_view(context),
        limits=limits_view(context),
        http=http_views(context),
        accounts=tuple(accounts),
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
    """Restart the daemon gracefully."""
    answer = Restarting(context.boot_id, os.getpid())
    context.restart()
    return answer


@operation("events", access=Access.READ, command="events")
async def events(context: Context, request: Follow) -> AsyncIterator[EventView]:
    """Show recent events, and with --follow new ones.

    A reader that is too slow gets an event with the number of missed events.

    Example: wadctl events --follow --account main
    """
    account = context.accounts.find(request.account).id if request.account else ""
    last = request.last if request.follow else (request.last or 20)
    async with context.bus.follow(last=last, live=request.follow) as found:
        async for event in found:
            if not account or event.account == account:
                yield EventView(
                    event.at_ms,
                    event.kind,
                    event.account,
                    event.text,
                    event.detail,
                )
