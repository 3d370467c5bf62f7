"""`GET /api/status/dashboard`: an overview of all accounts, without I/O, for any caller.

See docs/internals/replaced-backend.md#dashboard.  Numbers are masked, also in account ids.  A quiet account is
healthy: `isStale` means that it should be connected and has not been for five minutes.  `summary` counts every account
once.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import wad
from wad.api.legacy.vocabulary import (
    NEEDS_QR,
    Document,
    firestore_connected,
    iso,
    iso_or_null,
    lock_status,
    masked_phone,
    mode,
    shown_id,
    status_word,
)
from wad.api.views.health import Tally, tally_of
from wad.api.views.problems import problems
from wad.core.connection import State, Status
from wad.core.problem import degraded

if TYPE_CHECKING:
    from wad.api.context import Context
    from wad.core.session_location import SessionLocation
    from wad.flow.accounts.account import Account

_CONNECTED: Final = State.CONNECTED
_STALE_MS: Final = 300_000
_ELSEWHERE: Final = Status(state=State.ELSEWHERE)
_EMPTY: Final = Tally()
_TRYING: Final = (State.CONNECTING, State.RECONNECTING)


def dashboard(context: Context) -> Document:
    """The document; the HTTP process replaces `backendBaseUrl` with the URL that the caller used."""
    accounts, locations = context.accounts.all(), context.accounts.elsewhere()
    tally = tally_of(accounts, elsewhere=len(locations))
    now_ms = context.clock.wall_ms()
    leader = context.leader
    valid = leader.valid_for()
    now = _Now(now_ms, iso(now_ms), None if valid is None else iso(now_ms + int(valid * 1000)))
    return {
        "timestamp": now.text,
        "service": {
            "status": "degraded" if degraded(problems(context)) else "healthy",
            "uptime": round(context.uptime, 3),
            "version": wad.__version__,
            "firestoreConnected": firestore_connected(context.store),
            "historySyncEnabled": True,
            "historySyncDryRun": False,
            "backendBaseUrl": None,
            "waMode": mode(leader),
            "instanceId": context.loaded.config.instance.id,
            "lockStatus": lock_status(leader),
            "lockHolder": leader.holder or None,
            "lockRemainingSec": None if valid is None else math.ceil(valid),
            "dedupeTotals": tally.dedupe,
            "historyTotals": tally.history,
        },
        "storage": {
            "path": str(context.loaded.config.state.sessions),
            "writable": context.sessions_writable,
            "totalAccounts": tally.accounts,
        },
        "accounts": [
            *[_row(account, now, context.started_ms) for account in accounts],
            *map(_elsewhere, locations),
        ],
        "summary": _summary(accounts, len(locations)),
    }


def detailed(context: Context) -> Document:
    """`GET /health/detailed`: the dashboard's fields about each account's connection.

    See docs/internals/replaced-backend.md#probes.
    """
    shown = dashboard(context)
    now_ms = context.clock.wall_ms()
    last_events = [account.inbound.last_event_ms for account in context.accounts.all()]
    last_events += [None] * (len(shown["accounts"]) - len(last_events))
    return {
        "status": shown["service"]["status"],
        "timestamp": shown["timestamp"],
        "uptime": shown["service"]["uptime"],
        "waMode": shown["service"]["waMode"],
        "instanceId": shown["service"]["instanceId"],
        "sessions_dir_writable": shown["storage"]["writable"],
        "monitoring": {
            "staleThresholdMs": _STALE_MS,
            "staleAccounts": sum(row["isStale"] for row in shown["accounts"]),
        },
        "accounts": [
            {
                **{name: row[name] for name in _CONNECTION},
                "timeSinceLastEvent": None if last_ms is None else now_ms - last_ms,
            }
            for row, last_ms in zip(shown["accounts"], last_events, strict=True)
        ],
    }


_CONNECTION: Final = (
    "accountId", "status", "hasDiskSession", "needs_qr", "lastEventAt", "reconnectCount", "isStale", "leaseUntil",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Now:
    """Values shared by all accounts: the time, and the time until which workers may act."""

    ms: int
    text: str
    until: str | None


def _row(account: Account, now: _Now, started_ms: int) -> Document:
    status, inbound = account.status, account.inbound
    state, history = status.state, inbound.history
    connected = state is _CONNECTED
    left_ms = account.left_ms
    history_at = iso_or_null(history.last_ms)
    return {
        "accountId": shown_id(account.id, account.card.phone),
        "phone": masked_phone(account.card.phone),
        "status": status_word(status),
        "lastEventAt": iso_or_null(inbound.last_event_ms),
        "lastMessageAt": iso_or_null(inbound.last_message_ms),
        "lastSeen": now.text if connected else iso_or_null(left_ms),
        "reconnectCount": account.logins - 1 if account.logins else 0,
        "reconnectAttempts": status.attempts,
        "needs_qr": state in NEEDS_QR,
        "hasDiskSession": status.paired,
        "isStale": state in _TRYING and now.ms - (left_ms or started_ms) > _STALE_MS,
        "leaseUntil": now.until if account.worker is not None else None,
        "lastBackfillAt": iso(filled.at_ms) if (filled := account.card.backfill) else None,
        "lastHistorySyncAt": history_at,
        "dedupe": {"wrote": inbound.recorded, "skipped": inbound.duplicates, "strongSkipped": 0},
        "history": {
            "wrote": history.recorded,
            "skipped": history.known,
            "lastRunAt": history_at,
            "lastBatchCount": history.last_messages,
        },
    }


def _elsewhere(location: SessionLocation) -> Document:
    """An account that runs on another machine."""
    return {
        "accountId": shown_id(location.account, location.phone),
        "phone": masked_phone(location.phone),
        "status": status_word(_ELSEWHERE),
        "lastEventAt": None,
        "lastMessageAt": None,
        "lastSeen": None,
        "reconnectCount": 0,
        "reconnectAttempts": 0,
        "needs_qr": False,
        "hasDiskSession": False,
        "isStale": False,
        "leaseUntil": None,
        "lastBackfillAt": None,
        "lastHistorySyncAt": None,
        "dedupe": _EMPTY.dedupe,
        "history": _EMPTY.history,
    }


def _summary(accounts: list[Account], elsewhere: int) -> dict[str, int]:
    counts = Counter([account.status.state for account in accounts])
    counts[State.ELSEWHERE] += elsewhere
    groups = dict.fromkeys(("connected", "connecting", "disconnected", "needs_qr"), 0)
    for state, count in counts.items():
        groups[_group(state)] += count
    return {**groups, "total": len(accounts) + elsewhere}


def _group(state: State) -> str:
    if state is _CONNECTED:
        return "connected"
    if state in _TRYING:
        return "connecting"
    return "needs_qr" if state in NEEDS_QR else "disconnected"
