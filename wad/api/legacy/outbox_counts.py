"""Counts of the outbox for the monitoring of the replaced backend (docs/internals/replaced-backend.md#probes)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from wad.api.legacy.vocabulary import Document, iso
from wad.core.connection import State
from wad.core.message import MessageStatus

if TYPE_CHECKING:
    from wad.api.context import Context

_OPEN: Final = (MessageStatus.QUEUED, MessageStatus.SENDING)


async def outbox(context: Context) -> Document:
    """The outbox of this machine's accounts in numbers; recent counts begin with the start of the daemon."""
    accounts = context.accounts.all()
    now_ms = context.clock.wall_ms()
    waiting = dict.fromkeys(_OPEN, 0)
    oldest_ms = now_ms
    for account in accounts:
        totals = await context.store.totals(account.id)
        for state in _OPEN:
            waiting[state] += totals.outbox.get(state, 0)
        oldest_ms = min(oldest_ms, totals.oldest_queued_ms or now_ms)
    return {
        "success": True,
        "activeAccounts": sum(one.status.state is State.CONNECTED for one in accounts),
        "queuedCount": waiting[MessageStatus.QUEUED],
        "processingCount": waiting[MessageStatus.SENDING],
        "sentLast5m": sum(one.sent_lately.count for one in accounts),
        "failedLast5m": sum(one.refused_lately.count for one in accounts),
        "reconnectCount": sum(max(0, one.logins - 1) for one in accounts),
        "outboxLagSeconds": round((now_ms - oldest_ms) / 1000, 1),
        "timestamp": iso(now_ms),
    }
