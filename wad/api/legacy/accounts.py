"""Accounts in the format of the replaced backend (docs/internals/replaced-backend.md#routes)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from wad.api import dispatch
from wad.api.legacy.vocabulary import Document, iso, mode, status_word, timestamp
from wad.core.account_reference import international
from wad.core.connection import State
from wad.core.errors import Conflict, LegacyRefusal, UnknownAccount
from wad.core.identity import legacy_account_id
from wad.core.names import shown_name
from wad.core.session_location import SessionLocation, elsewhere_reason
from wad.store.app_documents import account_fields
from wad.store.port import AccountStatus

if TYPE_CHECKING:
    from wad.api.caller import Caller
    from wad.api.context import Context
    from wad.flow.accounts.account import Account

_FRESH_MS: Final = 60_000
_QUIET: Final = 300_000  # ms without a message after which /health of an account has a warning
_HEALTHY: Final = (State.CONNECTED, State.CONNECTING, State.AWAITING_SCAN, State.PASSIVE)


def account_of(context: Context, ident: str) -> Account:
    """The account with this id.  Raises LegacyRefusal 404."""
    try:
        return context.accounts.by_id(ident)
    except UnknownAccount as error:
        raise LegacyRefusal(404, "account_not_found", "Account not found") from error


def required_account(context: Context, ident: str) -> Account:
    """The account with this id, which may be missing in the query.  Raises LegacyRefusal 400, 404."""
    if not ident:
        raise LegacyRefusal(400, "invalid_request", "accountId is missing")
    return account_of(context, ident)


@dataclass(frozen=True, slots=True)
class ReadableAccount:
    """An account whose messages are stored here, on whichever machine it runs."""

    id: str
    name: str
    jid: str


async def readable_account(context: Context, ident: str) -> ReadableAccount:
    """The account with this id, of this or another machine.  Raises LegacyRefusal 404."""
    try:
        account = account_of(context, ident)
    except (Conflict, LegacyRefusal):  # Conflict: its session is on another machine
        for status in await context.store.accounts():
            if status.account == ident:
                return ReadableAccount(status.account, status.name, status.jid)
        raise
    return ReadableAccount(account.id, account.card.name, account.card.jid)


async def known_account(context: Context, ident: str) -> ReadableAccount | None:
    """As readable_account(); None for an unknown account."""
    try:
        return await readable_account(context, ident)
    except LegacyRefusal:
        return None


def reply_document(context: Context, caller: Caller, **fields: object) -> Document:
    """A reply with the fields that most replies have: the instance, its mode and the request id."""
    return {
        "success": True,
        **fields,
        "instanceId": context.loaded.config.instance.id,
        "waMode": mode(context.leader),
        "requestId": caller.request_id,
    }


# --- reading -----------------------------------------------------------------------------------


async def list_(context: Context, caller: Caller, *, with_codes: bool) -> Document:
    """Every account; a passive instance returns what the active one published."""
    if context.leader.active:
        codes = with_codes and caller.sees_codes
        shown = [account_document(account, codes) for account in context.accounts.all()]
        shown += [_published(_of(place)) for place in context.accounts.elsewhere()]
    else:
        why = context.leader.reason
        shown = [_published(status, why) for status in await context.store.accounts()]
    reason = context.leader.reason
    return reply_document(context, caller, accounts=shown, cached=False, lockReason=reason)


def account_document(account: Account, codes: bool) -> Document:
    """One account, with its QR code if `codes`; the HTTP process renders the code."""
    card, status, clock = account.card, account.status, account.clock
    since_ms = clock.wall_ms() - int((clock.monotonic() - status.since) * 1000)
    return {
        "id": account.id,
        "name": card.name,
        "phone": card.phone or None,
        "status": status_word(status),
        "qrCode": status.qr if status.qr and codes else None,
        "pairingCode": status.pairing_code if status.pairing_code and codes else None,
        "createdAt": iso(card.created_ms),
        "lastUpdate": timestamp(max(since_ms, 0)),
        "lastError": None if status.state in _HEALTHY else status.reason,
        "passiveModeReason": None,
    }


def _of(place: SessionLocation) -> AccountStatus:
    """The status of an account that runs on another machine."""
    return AccountStatus(
        account=place.account,
        name=shown_name(place.name),
        phone=place.phone,
        state=State.ELSEWHERE,
        reason=elsewhere_reason(place),
        since_ms=place.since_ms,
    )


def _published(status: AccountStatus, passive: str | None = None) -> Document:
    """An account without a live object here; `passive`: why this instance is passive."""
    return {
        "id": status.account,
        "name": status.name,
        "phone": status.phone or None,
        "status": account_fields(status)["status"],
        "qrCode": None,
        "pairingCode": None,
        "createdAt": iso(status.created_ms) if status.created_ms else None,
        "lastUpdate": timestamp(max(status.since_ms, 0)),
        "lastError": None if status.state in _HEALTHY else status.reason,
        "passiveModeReason": passive,
    }


def health(account: Account) -> Document:
    """The state of one account's connection."""
    last_ms, now_ms = account.inbound.last_message_ms, account.clock.wall_ms()
    connected = account.status.state is State.CONNECTED
    silent_ms = None if last_ms is None else now_ms - last_ms
    warning = None
    if not connected:
        warning = account.status.reason
    elif silent_ms is not None and silent_ms > _QUIET:
        warning = f"no message for {silent_ms // 60_000} minutes, which may be normal"
    return {
        "success": True,
        "accountId": account.id,
        "status": status_word(account.status),
        "connected": connected,
        "lastRealMessageMs": last_ms,
        "timeSinceLastRealMs": silent_ms,
        "isDegraded": not connected or bool(account.inbound.error),
        "warning": account.inbound.error or warning,
    }


# --- changing ----------------------------------------------------------------------------------


async def add(context: Context, caller: Caller, name: str, phone: str) -> Document:
    """Add an account and open its pairing window; the account that has this number already is returned as it is.

    Raises BadPhone, Conflict, LegacyRefusal 429 beyond `http.max_accounts`.
    """
    phone = international(phone, context.loaded.config.http.country_code) if phone else ""
    account = _with_number(context, phone) if phone else None
    existing = account is not None
    if account is None:
        account = await _added(context, caller, name, phone)
    if not account.status.paired:
        await call_as(context, caller, "accounts.pair", account=account.id)
    shown = account_document(account, caller.sees_codes)
    names = ("id", "name", "phone", "status", "qrCode", "pairingCode", "createdAt")
    return reply_document(
        context, caller, account={name: shown[name] for name in names}, existing=existing
    )


def _with_number(context: Context, phone: str) -> Account | None:
    """The account with this number.  Raises Conflict if it is on another machine."""
    try:
        return context.accounts.find(phone)
    except UnknownAccount:
        return None


async def _added(context: Context, caller: Caller, name: str, phone: str) -> Account:
    """Add an account.  Raises Conflict, LegacyRefusal 429."""
    limit = context.loaded.config.http.max_accounts
    count = len(context.accounts.all())
    if count >= limit:
        raise LegacyRefusal(
            429,
            "rate_limited",
            f"there are {count} accounts, and HTTP may add accounts up to {limit}",
            {"maxAccounts": limit, "currentAccounts": count, "retryAfterSeconds": 60},
        )
    ident = await _id_of(context, phone) if phone else ""
    added = await call_as(context, caller, "accounts.add", name=name, phone=phone, id=ident)
    return context.accounts.by_id(added["id"])


async def _id_of(context: Context, phone: str) -> str:
    """The id of a new account: that of the replaced backend, unless wad's own id already has threads here."""
    own = f"acc-{phone[1:]}"
    if (await context.store.totals(own)).threads:
        return own
    return legacy_account_id(context.loaded.config.http.account_namespace, phone)


async def regenerate(context: Context, caller: Caller, account: Account) -> Document:
    """Request a QR code, or return the current one; never ends a session.  Raises LegacyRefusal 409."""
    status = account.status
    if status.state is State.CONNECTING:
        return _in_progress(context, caller, account, "already_connecting")
    if status.paired and status.state is not State.LOGGED_OUT:
        raise LegacyRefusal(
            409,
            "invalid_state",
            f"the account is paired ({status.state}); reset it first if its session is no longer needed",
            {"currentStatus": status_word(status)},
        )
    asked = status.pair_until is not None
    await call_as(context, caller, "accounts.pair", account=account.id)
    age_ms = None if account.qr_ms is None else account.clock.wall_ms() - account.qr_ms
    if status.qr and age_ms is not None and age_ms < _FRESH_MS:
        return reply_document(
            context,
            caller,
            message="QR code is still valid",
            qrCode=status.qr if caller.sees_codes else None,
            status="qr_ready",
            ageSeconds=age_ms // 1000,
            idempotent=True,
            accountId=account.id,
        )
    word = "already_in_progress" if asked else "in_progress"
    return _in_progress(context, caller, account, word)


def _in_progress(context: Context, caller: Caller, account: Account, status: str) -> Document:
    return reply_document(
        context, caller, message="a QR code will follow", status=status, accountId=account.id
    )


async def delete(context: Context, caller: Caller, account: Account) -> Document:
    """Remove an account."""
    await call_as(context, caller, "accounts.remove", account=account.id)
    return reply_document(
        context,
        caller,
        message="Account deleted; `wadctl account restore` restores it",
        accountId=account.id,
        deletedFromMemory=True,
        deletedFromFirestore=context.store.kind == "firestore",
        status="deleted",
    )


async def rename(context: Context, caller: Caller, account: Account, name: str) -> Document:
    """Rename an account."""
    await call_as(context, caller, "accounts.rename", account=account.id, name=name)
    shown = {
        "id": account.id,
        "name": account.card.name,
        "phone": account.card.phone or None,
        "status": status_word(account.status),
    }
    return reply_document(context, caller, message="Account renamed", account=shown)


async def reset(context: Context, caller: Caller, account: Account) -> Document:
    """Log an account out, so that it can be paired again."""
    if account.status.paired:
        await call_as(context, caller, "accounts.logout", account=account.id)
    return reply_document(
        context,
        caller,
        message="Account is no longer paired",
        accountId=account.id,
        status="needs_qr",
    )


async def disconnect(context: Context, caller: Caller, account: Account) -> Document:
    """Stop an account until it is started again."""
    await call_as(context, caller, "accounts.stop", account=account.id)
    return reply_document(
        context,
        caller,
        accountId=account.id,
        tsDisconnect=context.clock.wall_ms(),
        reason="user_disconnect",
    )


async def call_as(context: Context, caller: Caller, operation: str, **params: object) -> Any:
    """Call an operation as this caller."""
    assert caller.access is not None  # check_access() refused callers without rights
    return await dispatch.call(context, operation, params, caller.access, caller)
