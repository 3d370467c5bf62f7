"""Translation of messages that WhatsApp's apps do not show as messages: pins, better copies of a file, and notices."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from wad.core.content import LONGEST_PIN, Content, MessageKind
from wad.worker.translate.base import ident, ident_or_none, milliseconds_or_0

NOTICES: Final = {
    "albumMessage": "the header of an album",
    "call": "the key of a call",
    "encCommentMessage": "a sealed comment",
    "encEventResponseMessage": "a sealed answer to an event",
    "encReactionMessage": "a sealed reaction",
    "messageHistoryBundle": "history for a new member of a group",
    "messageHistoryNotice": "history for a new member of a group",
    "placeholderMessage": "shown on the phone only",
    "pollAddOptionMessage": "a new option of a poll",
    "scheduledCallCreationMessage": "a planned call",
    "scheduledCallEditMessage": "a change of a planned call",
    "secretEncryptedMessage": "a sealed change",
    "statusNotificationMessage": "a notice about a status",
    "statusStickerInteractionMessage": "a reaction to a status",
}
"""Messages that the apps do not show as messages, by field of waE2E.Message."""
_BETTER_COPIES: Final = frozenset({5, 10, 12, 19})
"""waE2E.MessageAssociation.AssociationType: HD video, HD image, motion photo, HEVC video.

The file arrives twice: first as an ordinary message, then as a child of it under another id.
"""
_PIN, _UNPIN = 1, 2  # waE2E.PinInChatMessage.Type
_KEEP, _UNDO_KEEP = 1, 2  # waE2E.KeepType
_PIN_SECONDS: Final = 7 * 86_400
"""The duration of a pin without one: the default of the apps."""


def pin(part: Any, seconds: int) -> Content:
    """A pin of another message, or its end; `seconds`: how long it lasts, 0 if unknown.  Raises Untranslatable."""
    if part.type not in (_PIN, _UNPIN):
        return Content(MessageKind.NOTICE, detail="a pin of an unknown kind")
    return Content(
        MessageKind.PIN,
        target=ident(part.key, "ID", "the target of a pin"),
        active=part.type == _PIN,
        expires_s=min(seconds or _PIN_SECONDS, LONGEST_PIN) if part.type == _PIN else 0,
        told_ms=milliseconds_or_0(part.senderTimestampMS),
    )


def keep(part: Any) -> Content:
    """A disappearing message is kept, or no longer.  Raises Untranslatable."""
    if part.keepType not in (_KEEP, _UNDO_KEEP):
        return Content(MessageKind.NOTICE, detail="a keep of an unknown kind")
    return Content(
        MessageKind.KEEP,
        target=ident(part.key, "ID", "the target of a keep"),
        active=part.keepType == _KEEP,
        told_ms=milliseconds_or_0(part.timestampMS),
    )


def association(body: Any) -> Any:
    """The MessageAssociation of a message, or None."""
    context = body.messageContextInfo
    return context.messageAssociation if context.HasField("messageAssociation") else None


def as_better_copy(content: Content, found: Any) -> Content:
    """The content as an amendment of its parent, if `found`, its association, makes it one."""
    if found is None or found.associationType not in _BETTER_COPIES or content.media is None:
        return content
    parent = ident_or_none(found.parentMessageKey, "ID")
    if not parent:
        return content  # it is shown as a message, rather than lost
    return msgspec.structs.replace(content, kind=MessageKind.MEDIA_UPDATE, target=parent)
