"""Messages, threads and accounts as documents that the apps read.  Pure.

See docs/internals/replaced-backend.md#documents.  The apps rely on this: `tsClient` is always a Timestamp,
`createdAtMs` and `lastMessageAtMs` are integers, `status` is one of the values that they know, media have both
spellings of their type and name, every message has `tsSort`.  Our own data is in the map `wad`, which no app reads.
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from wad.core.auto_reply import AutoReply
from wad.core.connection import State
from wad.core.content import MediaContent, MessageKind
from wad.core.history import BackfillResult
from wad.core.jid import Jid, JidKind, ThreadId
from wad.core.message import PREVIEW_LENGTH, Message, MessageStatus, Thread, preview
from wad.store.port import AccountStatus

Fields = dict[str, Any]

HASH_LENGTH: Final = 40  # hex digits; the reference's 8 collide, and the apps hide what collides
_THUMBNAIL: Final = 150_000  # bytes; in base64 they stay below the reference's 200 kB
_FIRST_MS: Final = -62_135_596_800_000  # the year 1
_LAST_MS: Final = 253_370_764_800_000  # the year 9999
_SECOND_US: Final = 1_000_000
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
"""The apps know queued, sent, delivered and read; the exact status is in `statusDetail`."""
_TYPES: Final = frozenset({"text", "image", "video", "audio", "document", "sticker"})
_ACCOUNT_STATES: Final = {
    State.CONNECTED: "connected",
    State.CONNECTING: "connecting",
    State.RECONNECTING: "connecting",
    State.AWAITING_SCAN: "qr_ready",
}
"""The apps know `connected`, `qr_ready`, `connecting` and `disconnected` (0.6); everything else is `disconnected`."""


def moment(ms: int) -> datetime:
    """A Timestamp; a time out of Firestore's range becomes the nearest that it can store."""
    return datetime.fromtimestamp(min(max(ms, _FIRST_MS), _LAST_MS) / 1000, UTC)


def iso(ms: int) -> str:
    """A time in the format of JavaScript's toISOString()."""
    return moment(ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def peer_type(jid: Jid) -> str:
    """The kind of the other party, in the replaced backend's terms."""
    match jid.kind:
        case JidKind.GROUP:
            return "group"
        case JidKind.LID:
            return "lid"
    return "user"


def phone_of(jid: Jid) -> str | None:
    """The phone number of an address; None if it has none."""
    return f"+{jid.user}" if jid.kind is JidKind.PN else None


# --- messages -------------------------------------------------------------------------------------


def message_path(thread: str, ident: str) -> str:
    """The path of a message's document."""
    return f"threads/{thread}/messages/{ident}"


def message_fields(message: Message) -> Fields:
    """The document of a message."""
    chat = Jid.parse(message.chat)
    content = message.content
    return {
        "accountId": message.account,
        "threadId": message.thread,
        "canonicalThreadId": message.thread,
        "clientJid": message.chat,
        "clientJidRaw": message.chat,
        "rawJid": message.chat,
        "resolvedJid": message.chat,
        "normalizedPhone": phone_of(chat),
        "peerType": peer_type(chat),
        "isGroup": chat.kind is JidKind.GROUP,
        "direction": "outbound" if message.from_me else "inbound",
        "body": content.text or None,
        "messageType": content.kind.value if content.kind.value in _TYPES else "unknown",
        "kind": content.kind.value,
        "preview": preview(content),
        "status": _SHOWN_STATUS[message.status],
        "statusDetail": message.status.value,
        "senderId": message.sender or None,
        "senderJid": message.sender or None,
        "senderName": message.push_name or None,
        **_sender(message, chat),
        "lastSenderName": message.push_name or None,
        "key": _key(message, chat),
        "source": "wad",
        "syncSource": "wad",
        **_identity(message),
        **_times(message),
        **_amended(message),
        **_media(content.kind, content.media, content.text),
    }


def _sender(message: Message, chat: Jid) -> Fields:
    """The number of a received message's sender if it is known, and the name to show: the sender's own, else the
    number.
    """
    if message.from_me:
        return {"senderPhoneE164": None, "senderDisplayName": None}
    phone = phone_of(Jid.parse(message.sender) if message.sender else chat)
    return {"senderPhoneE164": phone, "senderDisplayName": message.push_name or phone}


def _identity(message: Message) -> Fields:
    return {
        "waMessageId": message.wa_id or None,
        "waMessageIdRaw": message.wa_id or None,
        "providerMessageId": message.wa_id or None,
        "clientMessageId": message.client_id or None,
        "stableKeyHash": message.stable_key[:HASH_LENGTH] or None,
        "fingerprintHash": message.fingerprint[:HASH_LENGTH] or None,
        "isDuplicate": False,
    }


def _times(message: Message) -> Fields:
    when = moment(message.at_ms)
    seen = moment(message.seen // 1000) if message.seen else when
    return {
        "tsClient": when,
        "tsClientMs": message.at_ms,
        "tsClientIso": iso(message.at_ms),
        "tsClientFallback": False,
        "tsClientReason": None,
        "tsServer": seen,
        "ingestedAt": seen,
        "tsSort": ts_sort(message),
        "arrivedUs": message.seen,
        "createdAt": when,
        "createdAtMs": message.at_ms,
    }


def ts_sort(message: Message) -> datetime:
    """The sort key of a list: WhatsApp's time, which has whole seconds, and within that second the time of arrival.

    Messages that arrived after that second share its end; `arrivedUs` then distinguishes them.
    """
    sent_us = message.at_ms * 1000
    room = _SECOND_US - 1 - sent_us % _SECOND_US
    late = min(max(message.seen - sent_us, 0), room)
    return moment(message.at_ms) + timedelta(microseconds=late)


def _amended(message: Message) -> Fields:
    return {
        "edited": message.edited_ms > 0,
        "editedAtMs": message.edited_ms or None,
        "deleted": message.revoked_ms > 0,
        "deletedAtMs": message.revoked_ms or None,
        "pinnedUntilMs": message.pinned_until_ms or None,
        "kept": message.kept,
        "reactions": [
            {"by": one.by or None, "fromMe": one.from_me, "text": one.text, "atMs": one.at_ms}
            for one in message.reactions
        ],
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


def _media(kind: MessageKind, media: MediaContent | None, caption: str) -> Fields:
    if media is None:
        return {"media": None, "mediaType": None}
    small = 0 < len(media.thumbnail) <= _THUMBNAIL
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
            "url": media.url or None,
            "storagePath": media.storage_path or None,
            "thumbBase64": base64.b64encode(media.thumbnail).decode() if small else None,
        },
    }


# --- threads --------------------------------------------------------------------------------------


def thread_path(thread: str) -> str:
    """The path of a thread's document."""
    return f"threads/{thread}"


def thread_fields(thread: Thread) -> Fields:
    """The document of a thread, without fields that users or apps set (archived, aiEnabled, ...)."""
    chat = Jid.parse(thread.chat)
    phone = phone_of(chat)
    return {
        "accountId": thread.account,
        "threadId": thread.id,
        "canonicalThreadId": thread.id,
        "redirectTo": None,
        "clientJid": thread.chat,
        "clientJidRaw": thread.chat,
        "rawJid": thread.chat,
        "resolvedJid": thread.chat,
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
        "lastMessageAt": moment(thread.last_ms),
        "lastMessageAtMs": thread.last_ms,
        "lastMessageTimestamp": thread.last_ms // 1000,
        "lastMessageText": thread.last_text,
        "lastMessagePreview": thread.last_text[:PREVIEW_LENGTH],
        "lastMessageDirection": "outbound" if thread.last_from_me else "inbound",
        "lastMessageSenderName": thread.last_sender or None,
        "unreadCount": thread.unread,
        "messageCount": thread.messages,
        "expiresSeconds": thread.expires_s,
    }


def above_floor(fields: Fields, floor_ms: int) -> Fields:
    """A thread's document if another program wrote a message at `floor_ms` that is not stored here.

    Its last message never goes back, and a name is not replaced by a number.
    """
    older = fields.get("lastMessageAtMs", floor_ms) < floor_ms
    nameless = fields.get("name", "") is None
    return {
        name: value
        for name, value in fields.items()
        if not (older and name.startswith("lastMessage"))
        and not (nameless and name in ("displayName", "name", "groupSubject"))
    }


def redirect_fields(thread: str) -> Fields:
    """The document of a LID's thread once its phone number is known."""
    ThreadId.parse(thread)  # only a valid thread id
    return {"redirectTo": thread, "canonicalThreadId": thread, "hidden": True}


# --- accounts -------------------------------------------------------------------------------------


def account_path(account: str) -> str:
    """The path of an account's published status."""
    return f"accounts/{account}"


def account_fields(status: AccountStatus) -> Fields:
    """The document of an account.  Never its QR code: any signed-in user may read this (5.1)."""
    state = State(status.state)
    return {
        "accountId": status.account,
        "name": status.name,
        "status": _ACCOUNT_STATES.get(state, "disconnected"),
        "statusDetail": status.state,
        "phone": status.phone or None,
        "phoneE164": status.phone or None,
        "waJid": status.jid or None,
        "lastError": None if state is State.CONNECTED else status.reason,
        "requiresQR": state in (State.AWAITING_SCAN, State.LOGGED_OUT),
        "qrCode": None,
        "pairingCode": None,
        "worker": {"service": "wad", "instanceId": status.instance},
        **({"createdAt": iso(status.created_ms)} if status.created_ms else {}),
        **({"lastConnectedAt": moment(status.connected_ms)} if status.connected_ms else {}),
        **_auto_reply(status.auto_reply),
        **_backfill(status.backfill),
    }


def _auto_reply(settings: AutoReply | None) -> Fields:
    """The auto-reply fields; if they were never set here, those of the legacy backend or an app stay."""
    if settings is None:
        return {}
    return {"autoReplyEnabled": settings.enabled, "autoReplyPrompt": settings.prompt}


def auto_reply_of(fields: Fields) -> AutoReply | None:
    """The auto-reply settings in a document that any program may have written; None if there are none."""
    enabled, prompt = fields.get("autoReplyEnabled"), fields.get("autoReplyPrompt")
    if not isinstance(enabled, bool) and not isinstance(prompt, str):
        return None
    return AutoReply(enabled=enabled is True, prompt=prompt if isinstance(prompt, str) else None)


def _backfill(done: BackfillResult | None) -> Fields:
    return (
        {}
        if done is None
        else {
            "lastBackfillAt": moment(done.at_ms),
            "lastBackfillResult": backfill_result(done),
        }
    )


def backfill_result(done: BackfillResult) -> Fields:
    """The result of a backfill, as the apps read it."""
    return {
        "threads": done.threads,
        "messages": done.messages,
        "errors": done.errors,
        "threadResults": [
            {"threadId": one.thread, "messages": one.messages, "error": one.error or None}
            for one in done.results
        ],
    }


def gone_account_fields(account: str) -> Fields:
    """The document of an account whose status was withdrawn."""
    return {
        "accountId": account,
        "status": "deleted",
        "statusDetail": "deleted",
        "qrCode": None,
        "wad": {"status": None},
    }
