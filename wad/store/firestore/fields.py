"""Messages, threads and accounts as the apps' documents.  Pure; reference-backend.md 5.1, 0 and "Divergences".

What readers rely on: `tsClient` is always a Timestamp, `createdAtMs` and `lastMessageAtMs` are integers, `status` is
one of the words that the apps know, media carry both spellings of their type and name, every message has `tsSort`.
What is ours lies in the map `wad`, where no app looks.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from wad.core.content import Media, MessageKind
from wad.core.jid import Jid, JidKind, ThreadId
from wad.core.message import PREVIEW_LENGTH, Message, MessageStatus, Thread, preview
from wad.store.port import AccountStatus

Fields = dict[str, Any]

HASH_LENGTH: Final = 40  # hex digits; the reference's 8 collide, and the apps hide what collides
_S: Final = MessageStatus
_SHOWN_STATUS: Final = {
    _S.QUEUED: "queued",
    _S.SENDING: "queued",
    _S.UNCERTAIN: "queued",
    _S.FAILED: "failed",
    _S.SENT: "sent",
    _S.DELIVERED: "delivered",
    _S.READ: "read",
    _S.PLAYED: "read",
}
_TYPES: Final = frozenset({"text", "image", "video", "audio", "document", "sticker"})
_ACCOUNT_STATES: Final = {
    "connected": "connected",
    "connecting": "connecting",
    "awaiting_scan": "qr_ready",
    "reconnecting": "disconnected",
}
"""The apps know `connected`, `qr_ready`, `connecting` and `disconnected` (0.6); everything else is `disconnected`."""


def moment(ms: int) -> datetime:
    """A Timestamp."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def peer_type(jid: Jid) -> str:
    """What the reference calls the other party."""
    match jid.kind:
        case JidKind.GROUP:
            return "group"
        case JidKind.LID:
            return "lid"
    return "user"


def phone_of(jid: Jid) -> str | None:
    """The number in an address; None where it has none."""
    return f"+{jid.user}" if jid.kind is JidKind.PN else None


# --- messages -------------------------------------------------------------------------------------


def message_path(thread: str, ident: str) -> str:
    """Where a message lies."""
    return f"threads/{thread}/messages/{ident}"


def message_fields(message: Message) -> Fields:
    """The document of a message, as it stands."""
    chat = Jid.parse(message.chat)
    when = moment(message.at_ms)
    iso = when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    content = message.content
    return {
        "accountId": message.account,
        "threadId": message.thread,
        "canonicalThreadId": message.thread,
        "clientJid": message.chat,
        "normalizedPhone": phone_of(chat),
        "peerType": peer_type(chat),
        "isGroup": chat.kind is JidKind.GROUP,
        "direction": "outbound" if message.from_me else "inbound",
        "body": content.text or None,
        "messageType": content.kind.value if content.kind.value in _TYPES else "unknown",
        "preview": preview(content),
        "status": _SHOWN_STATUS[message.status],
        "senderId": message.sender or None,
        "senderJid": message.sender or None,
        "senderName": message.push_name or None,
        "lastSenderName": message.push_name or None,
        "key": _key(message, chat),
        "waMessageId": message.wa_id or None,
        "providerMessageId": message.wa_id or None,
        "clientMessageId": message.client_id or None,
        "stableKeyHash": message.stable_key[:HASH_LENGTH] or None,
        "fingerprintHash": message.fingerprint[:HASH_LENGTH] or None,
        "tsClient": when,
        "tsClientMs": message.at_ms,
        "tsClientIso": iso,
        "tsServer": moment(message.seen // 1000) if message.seen else when,
        "tsSort": message.at_ms * 1000 + message.seen % 1000,
        "createdAt": when,
        "createdAtMs": message.at_ms,
        "isDuplicate": False,
        "edited": message.edited_ms > 0,
        "editedAtMs": message.edited_ms or None,
        "deleted": message.revoked_ms > 0,
        "reactions": [
            {"by": one.by or None, "fromMe": one.from_me, "text": one.text, "atMs": one.at_ms}
            for one in message.reactions
        ],
        **_media(content.kind, content.media, content.text),
    }


def _key(message: Message, chat: Jid) -> Fields:
    key: Fields = {
        "id": message.wa_id or None,
        "remoteJid": message.chat,
        "fromMe": message.from_me,
        "timestamp": message.at_ms // 1000,
    }
    if not chat.is_person and message.sender:
        key["participant"] = message.sender
    return key


def _media(kind: MessageKind, media: Media | None, caption: str) -> Fields:
    if media is None:
        return {"media": None, "mediaType": None}
    return {
        "mediaType": kind.value,
        "media": {
            "type": kind.value,
            "mimetype": media.mimetype,
            "mimeType": media.mimetype,
            "filename": media.filename or None,
            "fileName": media.filename or None,
            "sizeBytes": media.size,
            "caption": caption or None,
            "url": None,
            "storagePath": None,
            "thumbBase64": None,
        },
    }


# --- threads --------------------------------------------------------------------------------------


def thread_path(thread: str) -> str:
    """Where a conversation lies."""
    return f"threads/{thread}"


def thread_fields(thread: Thread) -> Fields:
    """The document of a conversation.  Fields that people or apps set (archived, aiEnabled, ...) are not among them."""
    chat = Jid.parse(thread.chat)
    phone = phone_of(chat)
    when = moment(thread.last_ms)
    text = thread.last_text
    return {
        "accountId": thread.account,
        "threadId": thread.id,
        "canonicalThreadId": thread.id,
        "redirectTo": None,
        "clientJid": thread.chat,
        "canonicalJid": thread.chat,
        "peerType": peer_type(chat),
        "isGroup": chat.kind is JidKind.GROUP,
        "isLid": chat.kind is JidKind.LID,
        "isLidThread": chat.kind is JidKind.LID,
        "displayName": thread.name or phone or chat.user,
        "name": thread.name or None,
        "groupSubject": thread.name or None if chat.kind is JidKind.GROUP else None,
        "phone": phone,
        "phoneE164": phone,
        "phoneNumber": phone,
        "normalizedPhone": phone,
        "lastMessageAt": when,
        "lastMessageAtMs": thread.last_ms,
        "lastMessageTimestamp": thread.last_ms // 1000,
        "lastMessageText": text,
        "lastMessagePreview": text[:PREVIEW_LENGTH],
        "lastMessageDirection": "outbound" if thread.last_from_me else "inbound",
        "unreadCount": thread.unread,
        "messageCount": thread.messages,
        "expiresSeconds": thread.expires_s,
    }


def redirect_fields(thread: str) -> Fields:
    """What the document of a conversation by hidden id says once its number is known."""
    ThreadId.parse(thread)  # never a text that is no thread's id
    return {"redirectTo": thread, "canonicalThreadId": thread, "hidden": True}


# --- accounts -------------------------------------------------------------------------------------


def account_path(account: str) -> str:
    """Where an account's published status lies."""
    return f"accounts/{account}"


def account_fields(status: AccountStatus) -> Fields:
    """The document of an account.  Never its QR code: any signed-in user may read this (5.1)."""
    return {
        "accountId": status.account,
        "name": status.name,
        "status": _ACCOUNT_STATES.get(status.state, "disconnected"),
        "phoneE164": status.phone or None,
        "waJid": status.jid or None,
        "lastError": None if status.state == "connected" else status.reason,
        "requiresQR": status.state in ("awaiting_scan", "logged_out"),
        "qrCode": None,
        "worker": {"service": "wad", "instanceId": status.instance},
    }
