"""The routes of accounts, in the form of the reference (reference-backend.md 1.3)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

import msgspec

from wad.api import dispatch
from wad.api.operation import Access
from wad.api.reference import Document, iso, mode, status_word, timestamp
from wad.api.rest import qr
from wad.api.rest.exchange import Answer, HttpError, document
from wad.api.rest.limits import Limit
from wad.api.rest.routing import Call, Route
from wad.core.connection import State
from wad.core.errors import UnknownAccount
from wad.core.names import shown_name
from wad.core.place import Place, told
from wad.store.fields import account_fields
from wad.store.port import AccountStatus

if TYPE_CHECKING:
    from wad.flow.account import Account

_FRESH_MS: Final = 60_000
_QUIET: Final = (
    300_000  # ms without a message after which /health of an account has a word of warning
)
_WELL: Final = (State.CONNECTED, State.CONNECTING, State.AWAITING_SCAN, State.PASSIVE)


class NewAccount(msgspec.Struct):
    """A new account."""

    name: str
    phone: str | None = None


class NewName(msgspec.Struct):
    """Another name."""

    name: str


def account_of(call: Call) -> Account:
    """The account that the path names, by its id.  Raises HttpError 404."""
    try:
        return call.context.accounts.by_id(call.params["account"])
    except UnknownAccount as error:
        raise HttpError(404, "account_not_found", "Account not found") from error


@dataclass(frozen=True, slots=True)
class Known:
    """An account whose messages can be read here, wherever it runs."""

    id: str
    name: str
    jid: str


async def known_of(call: Call) -> Known:
    """The account that the path names: of this machine, or as another one published it.  Raises HttpError 404."""
    try:
        account = account_of(call)
    except HttpError:
        for status in await call.context.store.accounts():
            if status.account == call.params["account"]:
                return Known(status.account, status.name, status.jid)
        raise
    return Known(account.id, account.card.name, account.card.jid)


def framed(call: Call, **fields: object) -> Document:
    """What most answers say besides: who answers, and under which request."""
    context = call.context
    return {
        "success": True,
        **fields,
        "instanceId": context.loaded.config.instance.id,
        "waMode": mode(context.leader),
        "requestId": call.ident,
    }


# --- looking ----------------------------------------------------------------------------------


async def list_(call: Call) -> Answer:
    """Every account; a passive instance tells what the active one published."""
    context = call.context
    if context.leader.active:
        shown = [await account_document(call, account) for account in context.accounts.all()]
        shown += [_published(_of(place)) for place in context.accounts.elsewhere()]
    else:
        why = context.leader.reason
        shown = [_published(status, why) for status in await context.store.accounts()]
    content = framed(call, accounts=shown, cached=False, lockReason=context.leader.reason)
    return document(200, content)


async def list_without_codes(call: Call) -> Answer:
    """The same for who works with messages: never a code, whoever asks."""
    return await list_(replace(call, caller=replace(call.caller, sees_codes=False)))


async def account_document(call: Call, account: Account) -> Document:
    """One account.  Its code is for who may pair it."""
    card, status, clock = account.card, account.status, account.clock
    since_ms = clock.wall_ms() - int((clock.monotonic() - status.since) * 1000)
    shows = bool(status.qr) and call.caller.sees_codes
    return {
        "id": account.id,
        "name": card.name,
        "phone": card.phone or None,
        "status": status_word(status),
        "qrCode": await qr.data_url(status.qr) if shows else None,
        "pairingCode": None,
        "createdAt": iso(card.created_ms),
        "lastUpdate": timestamp(max(since_ms, 0)),
        "lastError": None if status.state in _WELL else status.reason,
        "passiveModeReason": None,
    }


def _of(place: Place) -> AccountStatus:
    """What an account that is elsewhere would publish here."""
    return AccountStatus(
        account=place.account,
        name=shown_name(place.name),
        phone=place.phone,
        state=State.ELSEWHERE,
        reason=told(place),
        since_ms=place.since_ms,
    )


def _published(status: AccountStatus, passive: str | None = None) -> Document:
    """What is known of an account that has nothing live here; `passive`: why this instance does not act."""
    return {
        "id": status.account,
        "name": status.name,
        "phone": status.phone or None,
        "status": account_fields(status)["status"],
        "qrCode": None,
        "pairingCode": None,
        "createdAt": None,
        "lastUpdate": timestamp(max(status.since_ms, 0)),
        "lastError": None if status.state in _WELL else status.reason,
        "passiveModeReason": passive,
    }


async def _health(call: Call) -> Answer:
    account = account_of(call)
    last_ms, now_ms = account.inbound.last_message_ms, account.clock.wall_ms()
    connected = account.status.state is State.CONNECTED
    silent_ms = None if last_ms is None else now_ms - last_ms
    warning = None
    if not connected:
        warning = account.status.reason
    elif silent_ms is not None and silent_ms > _QUIET:
        warning = f"no message for {silent_ms // 60_000} minutes, which may be all there was"
    content = {
        "success": True,
        "accountId": account.id,
        "status": status_word(account.status),
        "connected": connected,
        "lastRealMessageMs": last_ms,
        "timeSinceLastRealMs": silent_ms,
        "isDegraded": not connected or bool(account.inbound.error),
        "warning": account.inbound.error or warning,
    }
    return document(200, content)


async def _qr_page(call: Call) -> Answer:
    account = account_of(call)
    picture = await qr.data_url(account.status.qr) if account.status.qr else None
    page = qr.page(account.card.name, status_word(account.status), picture)
    return Answer(200, page, b"text/html; charset=utf-8", (_POLICY,))


_POLICY: Final = (
    b"content-security-policy",
    b"default-src 'none'; img-src data:; frame-ancestors 'none'",
)


# --- changing ----------------------------------------------------------------------------------


async def add(call: Call) -> Answer:
    """A new account, and the window in which its codes are shown."""
    wanted = await call.request.content(NewAccount)
    most = call.context.loaded.config.http.max_accounts
    there = len(call.context.accounts.all())
    if there >= most:
        raise HttpError(
            429,
            "rate_limited",
            f"there are {there} accounts, and over HTTP at most {most} may be added",
            more={"maxAccounts": most, "currentAccounts": there, "retryAfterSeconds": 60},
            headers=((b"retry-after", b"60"),),
        )
    added = await _ask(call, "accounts.add", name=wanted.name, phone=wanted.phone or "")
    await _ask(call, "accounts.pair", account=added["id"])
    account = call.context.accounts.by_id(added["id"])
    shown = await account_document(call, account)
    names = ("id", "name", "phone", "status", "qrCode", "pairingCode", "createdAt")
    return document(200, framed(call, account={name: shown[name] for name in names}))


async def regenerate(call: Call) -> Answer:
    """A code, or the one that is there; never at the price of a session."""
    account = account_of(call)
    status = account.status
    if status.state is State.CONNECTING:
        return document(200, _in_progress(call, account, "already_connecting"))
    if status.paired and status.state is not State.LOGGED_OUT:
        raise HttpError(
            409,
            "invalid_state",
            f"the account is paired ({status.state}); reset it first if its session is of no more use",
            more={"currentStatus": status_word(status)},
        )
    asked = status.pair_until is not None
    await _ask(call, "accounts.pair", account=account.id)
    age_ms = None if account.qr_ms is None else account.clock.wall_ms() - account.qr_ms
    if status.qr and age_ms is not None and age_ms < _FRESH_MS:
        content = framed(
            call,
            message="QR code is still valid",
            qrCode=await qr.data_url(status.qr) if call.caller.sees_codes else None,
            status="qr_ready",
            ageSeconds=age_ms // 1000,
            idempotent=True,
            accountId=account.id,
        )
        return document(200, content)
    if asked:
        content = _in_progress(call, account, "already_in_progress")
        return document(HTTPStatus.ACCEPTED, content)
    return document(200, _in_progress(call, account, "in_progress"))


def _in_progress(call: Call, account: Account, status: str) -> Document:
    return framed(call, message="a QR code comes", status=status, accountId=account.id)


async def delete(call: Call) -> Answer:
    """Put an account away."""
    account = account_of(call)
    await _ask(call, "accounts.remove", account=account.id)
    content = framed(
        call,
        message="Account deleted; `wadctl account restore` brings it back",
        accountId=account.id,
        deletedFromMemory=True,
        deletedFromFirestore=call.context.store.kind == "firestore",
        status="deleted",
    )
    return document(200, content)


async def _rename(call: Call) -> Answer:
    account = account_of(call)
    wanted = await call.request.content(NewName)
    await _ask(call, "accounts.rename", account=account.id, name=wanted.name)
    shown = {
        "id": account.id,
        "name": account.card.name,
        "phone": account.card.phone or None,
        "status": status_word(account.status),
    }
    return document(200, framed(call, message="Account renamed", account=shown))


async def _reset(call: Call) -> Answer:
    account = account_of(call)
    if account.status.paired:
        await _ask(call, "accounts.logout", account=account.id)
    content = framed(
        call, message="Account is not paired any more", accountId=account.id, status="needs_qr"
    )
    return document(200, content)


async def _disconnect(call: Call) -> Answer:
    account = account_of(call)
    await _ask(call, "accounts.stop", account=account.id)
    content = framed(
        call,
        accountId=account.id,
        tsDisconnect=call.context.clock.wall_ms(),
        reason="user_disconnect",
    )
    return document(200, content)


async def _ask(call: Call, operation: str, **params: object) -> Any:
    """The reply of an operation, asked as this caller."""
    return await dispatch.call(call.context, operation, params, call.access)


ROUTES: Final = (
    Route("GET", "/api/whatsapp/accounts", "accounts.list", list_, headerless=True),
    Route("GET", "/accounts", "accounts.list", list_),
    Route(
        "POST", "/api/whatsapp/add-account", "accounts.add", add,
        least=Access.ADMIN, limit=Limit.ACCOUNTS, body=NewAccount,
    ),
    Route(
        "POST", "/api/whatsapp/regenerate-qr/{account}", "accounts.pair", regenerate,
        least=Access.ADMIN, limit=Limit.QR, headerless=True,
    ),
    Route(
        "DELETE", "/api/whatsapp/accounts/{account}", "accounts.remove", delete,
        limit=Limit.ACCOUNTS,
    ),
    Route(
        "PATCH", "/api/whatsapp/accounts/{account}/name", "accounts.rename", _rename,
        least=Access.ADMIN, limit=Limit.ACCOUNTS, body=NewName,
    ),
    Route("GET", "/api/whatsapp/accounts/{account}/health", "accounts.show", _health),
    Route(
        "POST", "/api/whatsapp/accounts/{account}/reset", "accounts.logout", _reset,
        limit=Limit.ACCOUNTS,
    ),
    Route(
        "POST", "/api/whatsapp/disconnect/{account}", "accounts.stop", _disconnect,
        least=Access.ADMIN, limit=Limit.ACCOUNTS,
    ),
    Route(
        "GET", "/api/whatsapp/qr/{account}", "accounts.show", _qr_page,
        least=Access.ADMIN, browser=True,
    ),
)  # fmt: skip
