"""The views of an account in replies, read from the live object without I/O.

Unknown values are None, not zero.  A field that was added later has a default, so that wadctl can decode the reply of
an older daemon; the daemon itself always sets it.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Final

import msgspec

from wad.api.views.problems import problems_of
from wad.api.views.values import values
from wad.core.brief import LINE, NAME
from wad.core.connection import State, Status
from wad.core.history import BackfillResult
from wad.core.names import shown_name
from wad.core.problem import STATES
from wad.core.session_location import SessionLocation, elsewhere_reason
from wad.core.text import cut

if TYPE_CHECKING:
    from wad.engine.port import Confinement
    from wad.flow.accounts.account import Account
    from wad.flow.accounts.accounts import Accounts

StateText = Annotated[str, values(State)]


class InboundView(msgspec.Struct, frozen=True, kw_only=True):
    """The account's inbound pipeline.  `backlog` rows of the spool wait, the oldest for `oldest_age_s` seconds.

    `untranslated` rows, and `skipped` items of history since the start, could not be translated.  `quarantined` rows
    could not be stored, or not completely: `wadctl quarantine list`.  `lost` messages are known to be lost; each has a
    placeholder in its thread.
    """

    backlog: int
    oldest_age_s: float | None
    recorded: int
    duplicates: int
    untranslated: int
    quarantined: int
    skipped: int
    lost: int | None
    error: str


class ConfinementView(msgspec.Struct, frozen=True, kw_only=True):
    """The confinement of a worker by the kernel.

    `landlock`: the ABI in force, 0 for none.  `summary`: a short description.  `missing`: what a worker should not be
    able to do but can; empty for full confinement.
    """

    landlock: int
    seccomp: bool
    summary: str
    missing: str


class WorkerView(msgspec.Struct, frozen=True, kw_only=True):
    """The account's worker process.

    `receipts`: whether delivery receipts are sent after a message is stored (`after-store`) or before (`early`).
    `receipts` and `confinement` are None until the worker has reported them.  `memory_mb` is resident memory, `cpu_s`
    the processor time since its start; None for a process that has ended.
    """

    pid: int | None
    memory_mb: float | None = None
    cpu_s: float | None = None
    started_ms: int
    restarts: int
    receipts: Annotated[str, values("after-store", "early")] | None
    confinement: ConfinementView | None = None


class BackfillView(msgspec.Struct, frozen=True, kw_only=True):
    """The result of the last backfill: new messages in a number of threads; `error` is why it ended early."""

    at_ms: int
    threads: int
    messages: int
    errors: int
    error: str


class AccountView(msgspec.Struct, frozen=True, kw_only=True):
    """One account.  `action` is what the operator can do about its state.

    `pairing_phone`: the number of the phone on which `pairing_code`, of eight characters, links the account; both are
    None unless such a code was requested.  `pairing_ends_in_s`: seconds until the pairing window closes; None while it
    is closed.  `created_ms` is None for an account that runs on another machine.
    """

    id: str
    name: str
    phone: str
    jid: str
    lid: str
    push_name: str
    state: StateText
    reason: str
    action: str
    state_for_s: float
    enabled: bool
    paired: bool
    qr: str | None
    pairing_code: str | None = None
    pairing_phone: str | None = None
    pairing_ends_in_s: float | None
    retry_in_s: float | None
    worker: WorkerView | None
    inbound: InboundView
    last_event_ms: int | None
    created_ms: int | None
    backfill: BackfillView | None = None
    warnings: tuple[str, ...]


class RemovedReply(msgspec.Struct, frozen=True):
    """The removed account and the directory of its files."""

    account: str
    path: str


def account_view(account: Account) -> AccountView:
    """The view of an account of this machine."""
    status, card, now = account.status, account.card, account.clock.monotonic()
    return AccountView(
        id=account.id,
        name=card.name,
        phone=card.phone,
        jid=card.jid,
        lid=card.lid,
        push_name=cut(card.push_name, NAME),
        state=status.state,
        reason=cut(status.reason, LINE),
        action=_action(status, card.name or account.id),
        state_for_s=round(now - status.since, 1),
        enabled=card.enabled,
        paired=status.paired,
        qr=status.qr or None,
        pairing_code=status.pairing_code or None,
        pairing_phone=f"+{status.pairing_phone}" if status.pairing_phone else None,
        pairing_ends_in_s=_until(status.pair_until, now),
        retry_in_s=_until(status.retry_at, now),
        worker=_worker_view(account),
        inbound=_inbound_view(account),
        last_event_ms=account.inbound.last_event_ms,
        created_ms=card.created_ms,
        backfill=_backfill_view(card.backfill),
        warnings=tuple(cut(p.text, LINE) for p in problems_of(account) if p.code not in STATES),
    )


def _action(status: Status, reference: str) -> str:
    """What the operator can do, with commands that can be typed as they stand."""
    return status.action.replace("ACCOUNT", shlex.quote(reference))


def waits_for(account: Account) -> tuple[str, str]:
    """Why a message of this account is not sent now, and what the operator can do; empty if it can be sent."""
    status, name = account.status, shown_name(account.card.name) or account.id
    if status.state is State.CONNECTED:
        return "", ""
    text = f"account {name} is {status.state} ({cut(status.reason, LINE)}); it is sent once the account is connected"
    return text, _action(status, account.card.name or account.id)


def account_views(accounts: Accounts, now_ms: int) -> list[AccountView]:
    """The views of all accounts: those of this machine and those of other machines."""
    found = [account_view(account) for account in accounts.all()]
    return [*found, *(_elsewhere(location, now_ms) for location in accounts.elsewhere())]


def _elsewhere(location: SessionLocation, now_ms: int) -> AccountView:
    return AccountView(
        id=location.account,
        name=shown_name(location.name),
        phone=location.phone,
        jid=location.jid,
        lid="",
        push_name="",
        state=State.ELSEWHERE,
        reason=elsewhere_reason(location),
        action=_action(
            Status(state=State.ELSEWHERE), shown_name(location.name) or location.account
        ),
        state_for_s=round(max(0, now_ms - location.since_ms) / 1000, 1),
        enabled=False,
        paired=False,
        qr=None,
        pairing_ends_in_s=None,
        retry_in_s=None,
        worker=None,
        inbound=_NO_INBOUND,
        last_event_ms=None,
        created_ms=None,
        backfill=None,
        warnings=(),
    )


_NO_INBOUND: Final = InboundView(
    backlog=0,
    oldest_age_s=None,
    recorded=0,
    duplicates=0,
    untranslated=0,
    quarantined=0,
    skipped=0,
    lost=None,
    error="",
)


def _worker_view(account: Account) -> WorkerView | None:
    worker = account.worker
    if worker is None:
        return None
    usage = worker.usage
    return WorkerView(
        pid=worker.pid,
        memory_mb=None if usage is None else round(usage.memory / 1e6, 1),
        cpu_s=None if usage is None else round(usage.cpu_s, 2),
        started_ms=account.worker_started_ms,
        restarts=account.restarts,
        receipts=worker.receipts,
        confinement=_confinement_view(worker.confinement),
    )


def _confinement_view(found: Confinement | None) -> ConfinementView | None:
    if found is None:
        return None
    return ConfinementView(
        landlock=found.landlock, seccomp=found.seccomp, summary=found.summary, missing=found.missing
    )


def _backfill_view(done: BackfillResult | None) -> BackfillView | None:
    if done is None:
        return None
    return BackfillView(
        at_ms=done.at_ms,
        threads=done.threads,
        messages=done.messages,
        errors=done.errors,
        error=done.error,
    )


def _until(moment: float | None, now: float) -> float | None:
    """Seconds from `now` until a time on the same clock."""
    return None if moment is None else round(max(0.0, moment - now), 1)


def _inbound_view(account: Account) -> InboundView:
    inbound = account.inbound
    oldest = inbound.oldest_ms
    return InboundView(
        backlog=inbound.backlog,
        oldest_age_s=None
        if oldest is None
        else round((account.clock.wall_ms() - oldest) / 1000, 1),
        recorded=inbound.recorded,
        duplicates=inbound.duplicates,
        untranslated=inbound.untranslated,
        quarantined=inbound.set_aside,
        skipped=inbound.skipped,
        lost=inbound.lost,
        error=inbound.error,
    )
