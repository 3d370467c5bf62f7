"""The documents for probes, read from the live objects without I/O; unknown values are null, not zero.

The fields are those of the replaced backend (docs/internals/replaced-backend.md#probes), for its probes and banners;
fields that wad has no value for are null.  No account or number is named, since any client may read them.  Probes may
poll often: the accounts are iterated once, and dates are formatted once a second.
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


def health(context: Context) -> Document:
    """The document of /health; the HTTP process replaces `requestId` if the request has an id."""
    now_ms = context.clock.wall_ms()
    accounts = context.accounts
    tally = tally_of(accounts.all(), elsewhere=len(accounts.elsewhere()))
    leader, instance = context.leader, context.loaded.config.instance
    valid = leader.valid_for()
    writable = context.sessions_writable
    oldest_s = None if tally.oldest_ms is None else round((now_ms - tally.oldest_ms) / 1000, 1)
    sync = context.store.sync_status
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
        "requestId": f"health_{now_ms}",
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
        "sync": _sync(sync, now_ms),
        "warnings": sum(len(each) for code, each in found.items() if code not in STATES),
        "internalErrors": context.internal_errors,
    }


def healthz(context: Context) -> Document:
    """The document of /healthz: the process responds."""
    return {"status": "ok", "timestamp": iso(context.clock.wall_ms())}


def ready(context: Context) -> Document:
    """The document of /ready: whether this instance is active; a passive one includes the reason."""
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
    """The public text about files that the daemon cannot use; empty without such files."""
    found = [each for each in context.findings if each.code == "unusable_files"]
    return found[0].kind.sentence(found) if found else ""


def readyz(context: Context) -> Document:
    """The document of /readyz: `ready` if this instance is active and can store messages."""
    active, writable = context.leader.active, context.sessions_writable
    return {
        "status": "ready"
        if active and writable is not False and not _unusable(context)
        else "not_ready",
        "checks": {
            "firestore": firestore(context.store) != "disconnected",
            "worker": active,
            "sessions": writable,
            "timestamp": iso(context.clock.wall_ms()),
        },
    }


def diag(context: Context) -> Document:
    """The document of /diag: the lease, and the accounts with the latest events."""
    leader = context.leader
    latest = [account for account in context.accounts.all() if account.inbound.last_event_ms]
    latest.sort(key=lambda account: account.inbound.last_event_ms or 0, reverse=True)
    return {
        "ready": leader.active,
        "mode": mode(leader),
        "instanceId": context.loaded.config.instance.id,
        "firestoreConnected": firestore_connected(context.store),
        "latestRealtime": [_realtime(account) for account in latest[:3]],
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
    """Totals of all accounts.  `others` are the states of those that are not connected."""

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
        """Counts since the start.  Duplicates are found by id only, so `strongSkipped` is always 0."""
        return {"wrote": self.recorded, "skipped": self.known, "strongSkipped": 0}

    @property
    def history(self) -> Document:
        """Counts since the start; the last two fields are about the latest chunk."""
        return {
            "wrote": self.history_recorded,
            "skipped": self.history_known,
            "lastRunAt": iso_or_null(self.history_ms),
            "lastBatchCount": self.history_messages,
        }

    def add(self, account: Account) -> None:
        """Add an account."""
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
    """The totals of the accounts and of `elsewhere` others that run on other machines."""
    tally = Tally(elsewhere, [State.ELSEWHERE] * elsewhere)
    for account in accounts:
        tally.add(account)
    return tally


def _problem(code: str, found: Sequence[Problem]) -> Document:
    """One kind of problem: their number, and since when the oldest exists."""
    dates = [problem.since_ms for problem in found if problem.since_ms is not None]
    return {
        "code": code,
        "count": len(found),
        "degrades": KINDS[code].degrades,
        "since": iso_or_null(min(dates, default=None)),
    }


def _sync(sync: SyncStatus | None, now_ms: int) -> Document | None:
    """The sync backlog: documents that wait for upload to Firestore, and the age of the oldest."""
    if sync is None:
        return None
    oldest_ms = sync.oldest_ms
    return {
        "documents": sync.waiting,
        "oldestSeconds": None if oldest_ms is None else round((now_ms - oldest_ms) / 1000, 1),
        "refused": sync.refused,
    }
