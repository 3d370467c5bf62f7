"""What probes are told.  Read from the live objects at the moment of asking, without I/O; unknown is null, not zero.

The fields are those of the backend that wad replaces (docs/internals/replaced-backend.md#probes), which its probes and
banners read; what they never could know is null.  Nothing here names an account or a number: anybody who reaches the
port may read it.  Probes may ask often: the accounts are gone through once, and the calendar is asked once a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import wad
from wad.api.legacy.vocabulary import (
    NEEDS_QR,
    Document,
    firestore,
    firestore_connected,
    iso,
    iso_or_null,
    lock_status,
    mode,
    shown_id,
)
from wad.api.views.problems import problems
from wad.core.connection import State
from wad.core.masking import masked
from wad.core.problem import KINDS, STATES, by_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from wad.api.context import Context
    from wad.core.problem import Problem
    from wad.flow.accounts.account import Account
    from wad.store.port import SyncStatus

_CONNECTED: Final = State.CONNECTED


def health(context: Context, request_id: str) -> Document:
    """The whole document; `request_id` empty: one is made from the time."""
    now_ms = context.clock.wall_ms()
    accounts = context.accounts
    tally = tally_of(accounts.all(), elsewhere=len(accounts.elsewhere()))
    leader, instance = context.leader, context.loaded.config.instance
    valid = leader.valid_for()
    writable = context.sessions_writable
    oldest_s = None if tally.oldest_ms is None else round((now_ms - tally.oldest_ms) / 1000, 1)
    telling = context.store.telling
    found = by_code(problems(context))
    reasons = [KINDS[code].sentence(each) for code, each in found.items() if KINDS[code].degrades]
    return {
        "ok": writable is not False,
        "status": "degraded" if reasons else "healthy",
        "reasons": reasons,
        "problems": [_problem(code, each) for code, each in found.items()],
        "service": "wad",
        "version": wad.__version__,
        "commit": instance.commit or None,
        "instanceId": instance.id,
        "waMode": mode(leader),
        "lockStatus": lock_status(leader),
        "lockHolder": leader.holder or None,
        "lockRemainingSec": None if valid is None else math.ceil(valid),
        "bootTimestamp": iso(context.started_ms),
        "uptime": round(context.uptime, 3),
        "timestamp": iso(now_ms),
        "requestId": request_id or f"health_{now_ms}",
        "accounts_total": tally.accounts,
        "connected": tally.accounts - len(tally.others),
        "needs_qr": sum(tally.others.count(state) for state in NEEDS_QR) if tally.others else 0,
        "sessions_dir_writable": writable,
        "dedupe": tally.dedupe,
        "history": tally.history,
        "firestore": firestore(context.store),
        "receipts": accounts.engine.receipts,
        "backlog": {"rows": tally.backlog, "oldestSeconds": oldest_s},
        "store": context.store.kind,
        "telling": _telling(telling, now_ms),
        "warnings": sum(len(each) for code, each in found.items() if code not in STATES),
        "internalErrors": context.internal_errors,
    }


def healthz(context: Context) -> Document:
    """The process answers; nothing more."""
    return {"status": "ok", "timestamp": iso(context.clock.wall_ms())}


def ready(context: Context) -> Document:
    """Whether this instance acts, for banners; a passive one says why not."""
    leader = context.leader
    active, valid = leader.active, leader.valid_for()
    unusable = _unusable(context)
    document: Document = {
        "ready": active and not unusable,
        "mode": "active" if active else "passive",
        "instanceId": context.loaded.config.instance.id,
        "lockStatus": lock_status(leader),
        "heldBy": leader.holder or None,
        "lockExpiresInSeconds": None if valid is None else math.ceil(valid),
    }
    if not active:
        document["reason"] = leader.reason
    elif unusable:
        document["reason"] = unusable
    document["timestamp"] = iso(context.clock.wall_ms())
    return document


def _unusable(context: Context) -> str:
    """What anybody may read of files that the daemon cannot use; empty where there are none."""
    found = [each for each in context.findings if each.code == "unusable_files"]
    return found[0].kind.sentence(found) if found else ""


def readyz(context: Context) -> Document:
    """Whether to send requests here: this instance acts, and can write what it gets.  `status` is `ready` then."""
    active, writable = context.leader.active, context.sessions_writable
    return {
        "status": "ready"
        if active and writable is not False and not _unusable(context)
        else "not_ready",
        "checks": {
            "firestore": firestore(context.store),
            "worker": "running" if active else "passive",
            "sessions": writable,
            "timestamp": iso(context.clock.wall_ms()),
        },
    }


def diag(context: Context) -> Document:
    """The lease, and the accounts that heard something last."""
    leader = context.leader
    heard = [account for account in context.accounts.all() if account.inbound.last_event_ms]
    heard.sort(key=lambda account: account.inbound.last_event_ms or 0, reverse=True)
    return {
        "ready": leader.active,
        "mode": mode(leader),
        "instanceId": context.loaded.config.instance.id,
        "firestoreConnected": firestore_connected(context.store),
        "latestRealtime": [_realtime(account) for account in heard[:3]],
        "timestamp": iso(context.clock.wall_ms()),
    }


def _realtime(account: Account) -> Document:
    inbound = account.inbound
    return {
        "accountId": shown_id(account.id, account.card.phone),
        "lastRealtimeIngestAt": iso_or_null(inbound.last_event_ms),
        "lastRealtimeMessageAt": iso_or_null(inbound.last_message_ms),
        "lastRealtimeError": masked(inbound.error) or None,
    }


@dataclass(slots=True)
class Tally:
    """What all accounts have together.  `others` are the states of those that are not connected."""

    accounts: int = 0
    others: list[State] = field(default_factory=list)
    backlog: int = 0
    oldest_ms: int | None = None
    recorded: int = 0
    known: int = 0
    history_recorded: int = 0
    history_known: int = 0
    history_ms: int | None = None
    history_messages: int | None = None

    @property
    def dedupe(self) -> Document:
        """Since the start.  Nothing is ever taken for known by its looks alone (strongSkipped), only by its id."""
        return {"wrote": self.recorded, "skipped": self.known, "strongSkipped": 0}

    @property
    def history(self) -> Document:
        """Since the start; the last two are of the latest chunk."""
        return {
            "wrote": self.history_recorded,
            "skipped": self.history_known,
            "lastRunAt": iso_or_null(self.history_ms),
            "lastBatchCount": self.history_messages,
        }

    def add(self, account: Account) -> None:
        """One more."""
        self.accounts += 1
        if (state := account.status.state) is not _CONNECTED:
            self.others.append(state)
        inbound = account.inbound
        self.backlog += inbound.backlog
        self.recorded += inbound.recorded
        self.known += inbound.duplicates
        oldest_ms = inbound.oldest_ms
        if oldest_ms is not None and (self.oldest_ms is None or oldest_ms < self.oldest_ms):
            self.oldest_ms = oldest_ms
        history = inbound.history
        if history.last_ms is not None:
            self.history_recorded += history.recorded
            self.history_known += history.known
            if self.history_ms is None or history.last_ms > self.history_ms:
                self.history_ms, self.history_messages = history.last_ms, history.last_messages


def tally_of(accounts: Iterable[Account], *, elsewhere: int = 0) -> Tally:
    """Gone through once; of `elsewhere` others nothing lies here."""
    tally = Tally(elsewhere, [State.ELSEWHERE] * elsewhere)
    for account in accounts:
        tally.add(account)
    return tally


def _problem(code: str, found: Sequence[Problem]) -> Document:
    """One kind of problem: how many there are, and since when the oldest."""
    dates = [problem.since_ms for problem in found if problem.since_ms is not None]
    return {
        "code": code,
        "count": len(found),
        "degrades": KINDS[code].degrades,
        "since": iso_or_null(min(dates, default=None)),
    }


def _telling(telling: SyncStatus | None, now_ms: int) -> Document | None:
    """What waits to be told to Firestore, and for how long the oldest does."""
    if telling is None:
        return None
    oldest_ms = telling.oldest_ms
    return {
        "documents": telling.waiting,
        "oldestSeconds": None if oldest_ms is None else round((now_ms - oldest_ms) / 1000, 1),
        "refused": telling.refused,
    }
