"""Translation of the library's events.  Pure: it only reads its arguments.

Each translator returns the event, or None if there is nothing to store (key distribution, app-state and history
notices, a receipt that the library sent itself).  An untranslatable event raises Untranslatable, and the caller
stores the raw bytes.  A message without a valid time has the time 0.  Field names: neonize's Neonize.proto.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from wad.core.content import AMENDING, Call, CallOutcome, Content, MessageKind
from wad.core.event import ChatReceived, Event, MessageReceived, ReceiptMark, ReceiptReceived
from wad.core.jid import Jid
from wad.worker.translate.base import (
    Untranslatable,
    exact,
    ident,
    idents,
    jid,
    jid_or_none,
    milliseconds,
    milliseconds_or_0,
    shown,
    unmended,
    unmended_all,
)
from wad.worker.translate.content import content_of, unreadable, unwrap
from wad.worker.translate.history import history
from wad.worker.translate.targets import target_author

__all__ = ["TRANSLATORS", "Untranslatable", "message", "receipt"]

_ADMIN_REVOKE: Final = "8"
"""The attribute `edit` of a message stanza (whatsmeow types.EditAttribute)."""
_EXPIRATION: Final = 3  # waE2E.ProtocolMessage.Type EPHEMERAL_SETTING
_HIDDEN: Final = 2  # DecryptFailMode: WhatsApp's own clients show no placeholder
_MARKS: Final = {
    "DELIVERED": ReceiptMark.DELIVERED,
    # Delivered to a device whose user is away; the library uses it unless presence is sent.
    "INACTIVE": ReceiptMark.DELIVERED,
    "READ": ReceiptMark.READ,
    "READ_SELF": ReceiptMark.READ,
    "PLAYED": ReceiptMark.PLAYED,
    "PLAYED_SELF": ReceiptMark.PLAYED,
}
_ENDINGS: Final = {
    "timeout": CallOutcome.MISSED,
    "accepted_elsewhere": CallOutcome.ACCEPTED,
    "rejected_elsewhere": CallOutcome.REJECTED,
    "busy": CallOutcome.REJECTED,
    "reject": CallOutcome.REJECTED,
}  # CallTerminate's reason; any other means that the call is over


def message(event: Any) -> Event | None:
    """Translate a neonize Message."""
    unwrapped = unwrap(event.Message)
    protocol = unwrapped.body.protocolMessage
    if protocol.type == _EXPIRATION:
        chat, chat_alt = _chat(event.Info.MessageSource)
        return ChatReceived(
            chat,
            chat_alt,
            expires_s=protocol.ephemeralExpiration,
            expires_ms=milliseconds(event.Info.Timestamp),
        )
    content = content_of(unwrapped)
    if content is None:
        return None
    once = event.IsViewOnce or event.IsViewOnceV2 or event.IsViewOnceV2Extension
    revoked = content.kind is MessageKind.REVOKE
    if content.kind in AMENDING and content.kind is not MessageKind.MEDIA_UPDATE:
        source = event.Info.MessageSource
        chat, sender = jid(source.Chat, "chat"), jid(source.Sender, "sender")
        by = target_author(unwrapped.body, chat, sender)
        content = msgspec.structs.replace(content, target_by=by)
    if once or event.IsEphemeral or revoked:
        content = msgspec.structs.replace(
            content,
            view_once=content.view_once or once,
            ephemeral=content.ephemeral or event.IsEphemeral,
            by_admin=revoked and exact(event.Info, "Edit") == _ADMIN_REVOKE,
        )
    return _received(event.Info, content)


def undecryptable(event: Any) -> Event | None:
    """Translate a neonize UndecryptableMessage: a placeholder until the sender has sent it again.

    One that the sender marked as hidden is an edit, a reaction, a vote, a pin or a revoke: it makes no placeholder.
    """
    if event.DecryptFailMode == _HIDDEN:
        detail = "a hidden change that could not be decrypted"
        return _received(event.Info, Content(MessageKind.NOTICE, detail=detail))
    why = "could not be decrypted; the sender was asked to send it again"
    if event.IsUnavailable:
        why = "is shown on the phone only"
    return _received(event.Info, Content(MessageKind.UNDECRYPTABLE, detail=why))


def placeholder(event: Any, reason: str) -> MessageReceived | None:
    """The placeholder for a Message that could not be translated; None if its id, chat or sender is invalid."""
    try:
        return _received(event.Info, unreadable(reason))
    except Untranslatable:
        return None


def _received(info: Any, content: Content) -> MessageReceived:
    source = info.MessageSource
    chat, chat_alt = _chat(source)
    sender, sender_alt = jid(source.Sender, "sender"), jid_or_none(source.SenderAlt)
    if chat.server == "broadcast" and chat.user != "status" and not source.IsFromMe:
        # From somebody's broadcast list: for its receivers it is a message in the chat with the sender.
        chat, chat_alt = sender, sender_alt
    return MessageReceived(
        id=ident(info, "ID", "a message"),
        chat=chat,
        sender=sender,
        at_ms=milliseconds_or_0(info.Timestamp),
        content=content,
        from_me=source.IsFromMe,
        chat_alt=chat_alt,
        sender_alt=sender_alt,
        push_name=shown(info, "Pushname"),
    )


def _chat(source: Any) -> tuple[Jid, Jid | None]:
    """The chat, and its other address: the recipient's for a sent message, otherwise the sender's in a direct chat."""
    chat = jid(source.Chat, "chat")
    if source.IsFromMe:
        return chat, jid_or_none(source.RecipientAlt)
    return chat, jid_or_none(source.SenderAlt) if _same_user(source) else None


def _same_user(source: Any) -> bool:
    return unmended(source.Chat, "User") == unmended(source.Sender, "User")


def receipt(event: Any) -> ReceiptReceived | None:
    """Translate a neonize Receipt."""
    field = event.DESCRIPTOR.fields_by_name["Type"]
    word = field.enum_type.values_by_number[event.Type].name
    source = event.MessageSource
    if word not in _MARKS or not unmended_all(event, "MessageIDs"):
        return None
    mark, from_me = _MARKS[word], source.IsFromMe or word.endswith("_SELF")
    if from_me and mark is ReceiptMark.DELIVERED:
        return None
    chat, chat_alt = _chat(source)
    ids = tuple(idents(event, "MessageIDs"))
    if not ids:
        raise Untranslatable("a receipt without a valid id")
    return ReceiptReceived(
        ids=ids,
        chat=chat,
        sender=jid(source.Sender, "sender"),
        mark=mark,
        at_ms=milliseconds_or_0(event.Timestamp),
        from_me=from_me,
        chat_alt=chat_alt,
        sender_alt=jid_or_none(source.SenderAlt),
    )


# --- calls ----------------------------------------------------------------------------------------


def call_offer(event: Any) -> MessageReceived:
    """Translate a neonize CallOffer: an incoming call."""
    video = any(exact(node, "Tag") == "video" for node in event.data.Nodes)
    return _call(event.basicCallMeta, Call(CallOutcome.OFFERED, video))


def call_offer_notice(event: Any) -> MessageReceived:
    """Translate a neonize CallOfferNotice: an incoming group call."""
    call = Call(
        CallOutcome.OFFERED, exact(event, "media") == "video", group=exact(event, "type") == "group"
    )
    return _call(event.basicCallMeta, call)


def call_terminate(event: Any) -> MessageReceived:
    """Translate a neonize CallTerminate: the call is over."""
    outcome = _ENDINGS.get(exact(event, "reason"), CallOutcome.ENDED)
    return _call(event.basicCallMeta, Call(outcome), shown(event, "reason"))


def _call(meta: Any, call: Call, detail: str = "") -> MessageReceived:
    caller = jid_or_none(meta.callCreator) or jid(getattr(meta, "from"), "caller")
    return MessageReceived(
        id=ident(meta, "callID", "a call"),
        chat=caller,
        sender=caller,
        at_ms=milliseconds_or_0(meta.timestamp),
        content=Content(MessageKind.CALL, call=call, detail=detail),
        sender_alt=jid_or_none(meta.callCreatorAlt),
    )


# --- groups ---------------------------------------------------------------------------------------


def joined_group(event: Any) -> ChatReceived:
    """Translate a neonize JoinedGroup: the group's subject."""
    name = event.GroupInfo.GroupName
    return ChatReceived(
        jid(event.GroupInfo.JID, "group"),
        name=shown(name, "Name"),
        name_ms=milliseconds_or_0(name.NameSetAt),
    )


def group_info(event: Any) -> ChatReceived | None:
    """Translate a neonize GroupInfoEvent: a new subject, or a new expiry time of messages."""
    if not event.HasField("Name") and not event.HasField("Ephemeral"):
        return None
    at_ms = milliseconds(event.Timestamp)
    timer, name = event.Ephemeral, shown(event.Name, "Name")
    return ChatReceived(
        jid(event.JID, "group"),
        name=name,
        name_ms=at_ms if name else 0,
        expires_s=timer.DisappearingTimer if timer.IsEphemeral else 0,
        expires_ms=at_ms if event.HasField("Ephemeral") else 0,
    )


TRANSLATORS: Final[dict[str, Callable[[Any], Event | None]]] = {
    "Message": message,
    "Receipt": receipt,
    "UndecryptableMessage": undecryptable,
    "HistorySync": history,
    "CallOffer": call_offer,
    "CallOfferNotice": call_offer_notice,
    "CallTerminate": call_terminate,
    "JoinedGroup": joined_group,
    "GroupInfoEvent": group_info,
}
"""By the name of the protobuf, which is also the name of the event."""
