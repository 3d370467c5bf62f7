"""Routes for observers, and two for media that no app calls (reference-backend.md 1.3, 2.4)."""

from __future__ import annotations

from typing import Final

from wad.api.reference import iso
from wad.api.rest.accounts import account_of
from wad.api.rest.exchange import Answer, HttpError, document
from wad.api.rest.routing import Call, Route
from wad.core.connection import State
from wad.core.message import MessageStatus

_OPEN: Final = (MessageStatus.QUEUED, MessageStatus.SENDING)
_STORED: Final = "whatsapp_media/"


async def _metrics(call: Call) -> Answer:
    """The outbox in numbers, of the accounts of this machine; what happened lately counts from the start on."""
    context = call.context
    accounts = context.accounts.all()
    now_ms = context.clock.wall_ms()
    waiting = dict.fromkeys(_OPEN, 0)
    oldest_ms = now_ms
    for account in accounts:
        totals = await context.store.totals(account.id)
        for state in _OPEN:
            waiting[state] += totals.outbox.get(state, 0)
        oldest_ms = min(oldest_ms, totals.oldest_queued_ms or now_ms)
    content = {
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
    return document(200, content)


async def _media_url(call: Call) -> Answer:
    """wad keeps no files in a bucket: there is no address to give."""
    path = call.request.query.get("storagePath", "")
    if not path.startswith(_STORED):
        raise HttpError(400, "invalid_request", f"storagePath must begin with {_STORED}")
    raise HttpError(
        501,
        "not_supported",
        "wad keeps no media in Cloud Storage, so it can sign no address of any",
    )


async def _profile_photo(call: Call) -> Answer:
    """wad asks WhatsApp for no pictures of people."""
    account_of(call)
    if not call.request.query.get("clientJid"):
        raise HttpError(400, "invalid_request", "clientJid is missing")
    raise HttpError(501, "not_supported", "wad asks WhatsApp for no profile pictures")


ROUTES: Final = (
    Route("GET", "/metrics-json", "outbox.list", _metrics, internal=True),
    Route("GET", "/api/media-url", "messages.list", _media_url, query=("storagePath",)),
    Route(
        "GET", "/api/whatsapp/profile-photo/{account}", "accounts.show", _profile_photo,
        query=("clientJid",),
    ),
)  # fmt: skip
