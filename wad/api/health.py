"""What probes are told.  Read from the live objects at the moment of asking, without I/O; unknown is null, not zero.

The fields are those of the backend that wad replaces (reference-backend.md 2.1 and 2.3), which its probes and banners
read; what they never could know is null.  Nothing here names an account or a number: anybody who reaches the port may
read it.  Probes may ask often: the accounts are gone through once, and the calendar is asked once a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import wad
from wad.core.connection import State

if TYPE_CHECKING:
    from collections.abc import Iterable

    from wad.api.context import Context
    from wad.flow.account import Account
    from wad.store.port import Telling

Document = dict[str, Any]

_CONNECTED: Final = State.CONNECTED
_NEEDS_QR: Final = (State.AWAITING_SCAN, State.LOGGED_OUT)
_ILL: Final = (
    State.RECONNECTING,
    State.LOGGED_OUT,
    State.REPLACED,
    State.BANNED,
    State.OUTDATED,
    State.ELSEWHERE,
    State.FAILED,
)
_SLOW_S: Final = 60.0  # received messages that wait longer than this are worth a word


def health(context: Context, request_id: str) -> Document:
    """The whole document; `request_id` empty: one is made from the time."""
    now_ms = context.clock.wall_ms()
    accounts = context.accounts
    tally = _tally(accounts.all(), len(accounts.elsewhere()))
    valid = context.leader.valid_for()
    holder = context.leader.holder
    writable = context.sessions_writable
    oldest_s = None if tally.oldest_ms is None else round((now_ms - tally.oldest_ms) / 1000, 1)
    telling = context.store.telling
    reasons = [*_reasons(tally, oldest_s, writable), *_untold(telling, now_ms)]
    return {
        "ok": writable is not False,
        "status": "degraded" if reasons else "healthy",
        "reasons": reasons,
        "service": "wad",
        "version": wad.__version__,
        "commit": None,
        "instanceId": context.loaded.config.instance.id,
        "waMode": "active" if context.leader.active else "passive",
        "lockStatus": _lock_status(valid, holder),
        "lockHolder": holder or None,
        "lockRemainingSec": None if valid is None else math.ceil(valid),
        "bootTimestamp": _iso(context.started_ms),
        "uptime": round(context.uptime, 3),
        "timestamp": _iso(now_ms),
        "requestId": request_id or f"health_{now_ms}",
        "accounts_total": tally.accounts,
        "connected": tally.accounts - len(tally.others),
        "needs_qr": sum(tally.others.count(state) for state in _NEEDS_QR) if tally.others else 0,
        "sessions_dir_writable": writable,
        "receipts": accounts.engine.receipts,
        "backlog": {"rows": tally.backlog, "oldestSeconds": oldest_s},
        "store": context.store.kind,
        "firestore": _firestore(telling),
        "telling": _telling(telling, now_ms),
        "warnings": len(context.warnings) + tally.warnings,
        "internalErrors": context.internal_errors,
    }


def healthz(context: Context) -> Document:
    """The process answers; nothing more."""
    return {"status": "ok", "timestamp": _iso(context.clock.wall_ms())}


def ready(context: Context) -> Document:
    """Whether this instance is the one that acts; `reason` says why it is not."""
    active, valid = context.leader.active, context.leader.valid_for()
    holder = context.leader.holder
    document: Document = {
        "ready": active,
        "mode": "active" if active else "passive",
        "instanceId": context.loaded.config.instance.id,
        "lockStatus": _lock_status(valid, holder),
        "heldBy": holder or None,
        "lockExpiresInSeconds": None if valid is None else math.ceil(valid),
    }
    if not active:
        document["reason"] = context.leader.reason
    document["timestamp"] = _iso(context.clock.wall_ms())
    return document


def _lock_status(valid: float | None, holder: str) -> str:
    if valid is not None:
        return "held_by_this_instance"
    return "held_by_other" if holder else "not_held"


@dataclass(slots=True)
class _Tally:
    """What all accounts have together.  `others` are the states of those that are not connected."""

    accounts: int = 0
    others: list[State] = field(default_factory=list)
    backlog: int = 0
    oldest_ms: int | None = None
    unstored: int = 0
    warnings: int = 0


def _tally(accounts: Iterable[Account], elsewhere: int) -> _Tally:
    tally = _Tally(elsewhere, [State.ELSEWHERE] * elsewhere)
    for account in accounts:
        tally.accounts += 1
        if (state := account.status.state) is not _CONNECTED:
            tally.others.append(state)
        inbound = account.inbound
        tally.backlog += inbound.backlog
        oldest_ms = inbound.oldest_ms
        if oldest_ms is not None and (tally.oldest_ms is None or oldest_ms < tally.oldest_ms):
            tally.oldest_ms = oldest_ms
        if inbound.error:
            tally.unstored += 1
        tally.warnings += len(account.warnings)
    return tally


def _reasons(tally: _Tally, oldest_s: float | None, writable: bool | None) -> list[str]:
    """Why it is degraded, one sentence each; a passive instance that works is not."""
    reasons = []
    if writable is False:
        reasons.append("the accounts' directory cannot be written")
    if tally.others:
        counts = [(tally.others.count(state), state) for state in _ILL]
        reasons += [f"{_accounts(count)} {state}" for count, state in counts if count]
    if tally.unstored:
        reasons.append(f"what {tally.unstored} account(s) received cannot be stored now")
    if oldest_s is not None and oldest_s > _SLOW_S:
        reasons.append(f"a received message has waited {oldest_s:.0f} s to be stored")
    return reasons


def _firestore(telling: Telling | None) -> str:
    if telling is None:
        return "disabled"
    return "disconnected" if telling.error else "connected"


def _telling(telling: Telling | None, now_ms: int) -> Document | None:
    """What waits to be told to Firestore, and for how long the oldest does."""
    if telling is None:
        return None
    oldest_ms = telling.oldest_ms
    return {
        "documents": telling.waiting,
        "oldestSeconds": None if oldest_ms is None else round((now_ms - oldest_ms) / 1000, 1),
        "refused": telling.refused,
    }


def _untold(telling: Telling | None, now_ms: int) -> list[str]:
    if telling is None or telling.oldest_ms is None:
        return []
    waited_s = (now_ms - telling.oldest_ms) / 1000
    if waited_s <= _SLOW_S:
        return []
    return [f"{telling.waiting} documents wait for Firestore, the oldest for {waited_s:.0f} s"]


def _accounts(count: int) -> str:
    return "1 account is" if count == 1 else f"{count} accounts are"


def _iso(ms: int) -> str:
    """As JavaScript's toISOString(), which the readers of these documents expect."""
    return f"{_iso_second(ms // 1000)}.{ms % 1000:03d}Z"


@lru_cache(maxsize=8)
def _iso_second(second: int) -> str:
    return f"{datetime.fromtimestamp(second, UTC):%Y-%m-%dT%H:%M:%S}"
