"""Translation of the content of a message: waE2E.Message to Content.

Pure: it only reads its argument.  Field names: WAWebProtobufsE2E.  An unknown field gives a content of kind `unknown`
that names it, with the text that it has.
"""

from __future__ import annotations

import math
from functools import reduce
from typing import Any, Final, NamedTuple

import msgspec

from wad.core.content import (
    THUMBNAIL_LIMIT,
    VCARD_LIMIT,
    Call,
    CallOutcome,
    Contact,
    Content,
    LinkPreview,
    Location,
    MediaContent,
    MessageKind,
    Poll,
    Quote,
    Vote,
)
from wad.core.jid import Jid
from wad.core.message import TEXT_LIMIT, preview
from wad.core.text import cut, repaired
from wad.worker.translate.base import (
    Untranslatable,
    address,
    addresses,
    exact,
    ident,
    ident_or_none,
    milliseconds_or_0,
    shown,
)
from wad.worker.translate.side_messages import NOTICES, as_better_copy, association, keep, pin

_DEPTH: Final = 8  # wrappers in wrappers; the real ones are at most three
_WRAPPING: Final = (
    "WAWebProtobufsE2E.FutureProofMessage",
    "WAWebProtobufsE2E.DeviceSentMessage",
)
_NO_CONTENT: Final = frozenset(
    {
        "senderKeyDistributionMessage", "fastRatchetKeySenderKeyDistributionMessage", "messageContextInfo",
        "stickerSyncRmrMessage", "groupRootKeyShare", "rootSecretDistributeMessage",
    }
)  # fmt: skip
_MEDIA: Final = {
    "imageMessage": MessageKind.IMAGE,
    "videoMessage": MessageKind.VIDEO,
    "ptvMessage": MessageKind.VIDEO,
    "audioMessage": MessageKind.AUDIO,
    "documentMessage": MessageKind.DOCUMENT,
    "stickerMessage": MessageKind.STICKER,
}
_LOCATIONS: Final = ("locationMessage", "liveLocationMessage")
_POLLS: Final = tuple(f"pollCreationMessage{version}" for version in ("", "V2", "V3", "V5", "V6"))
_AS_TEXT: Final = {
    "buttonsMessage": ("contentText", "text"),
    "buttonsResponseMessage": ("selectedDisplayText", "selectedButtonID"),
    "listMessage": ("description", "title"),
    "listResponseMessage": ("title", "description", "singleSelectReply.selectedRowID"),
    "templateMessage": (
        "hydratedTemplate.hydratedContentText",
        "hydratedFourRowTemplate.hydratedContentText",
        "interactiveMessageTemplate.body.text",
    ),
    "templateButtonReplyMessage": ("selectedDisplayText", "selectedID"),
    "interactiveMessage": ("body.text", "header.title"),
    "interactiveResponseMessage": ("body.text", "nativeFlowResponseMessage.name"),
    "highlyStructuredMessage": ("hydratedHsm.hydratedTemplate.hydratedContentText",),
}
"""Text fields of messages by businesses and of the answers to them: shown as text."""
_TEXT_FIELDS: Final = (
    "text",
    "caption",
    "title",
    "name",
    "body",
    "description",
    "message",
    "groupName",
)
_OUTCOMES: Final = {
    "CONNECTED": CallOutcome.ENDED,
    "MISSED": CallOutcome.MISSED,
    "REJECTED": CallOutcome.REJECTED,
    "ACCEPTED_ELSEWHERE": CallOutcome.ACCEPTED,
    "ONGOING": CallOutcome.OFFERED,
}  # waE2E.CallLogMessage.CallOutcome; the rest (silenced, failed) was not answered
_REASON: Final = 200  # characters
_REACTION_LIMIT: Final = 64  # characters; emoji of a family have ten
_NEWER: Final = "newer than the library"
_PLAIN_TEXT: Final = "conversation"
_REVOKE, _EDIT = 0, 14  # waE2E.ProtocolMessage.Type
_INT64: Final = (1 << 63) - 1


class Unwrapped(NamedTuple):
    """The message inside all wrappers, the names of the wrappers, and the association to another message, if any."""

    body: Any
    wrappers: frozenset[str]
    association: Any = None


def unwrap(body: Any) -> Unwrapped:
    """Remove the wrappers of a message (ephemeral, view-once, device-sent, edited, ...)."""
    wrappers: list[str] = []
    associated = association(body)
    while len(wrappers) < _DEPTH:
        name = next((field.name for field, _ in body.ListFields() if _is_wrapper(field)), None)
        if name is None:
            break
        wrappers.append(name)
        body = getattr(body, name).message
        associated = associated or association(body)
    return Unwrapped(body, frozenset(wrappers), associated)


def _is_wrapper(field: Any) -> bool:
    return field.message_type is not None and field.message_type.full_name in _WRAPPING


def content_of(unwrapped: Unwrapped, *, quoting: bool = True) -> Content | None:
    """The content of a message; None if there is nothing to show.

    With `quoting` also the quoted message and the mentions.  Raises Untranslatable for an amendment without a target.
    """
    body, wrappers, associated = unwrapped
    present = [field.name for field, _ in body.ListFields() if field.name not in _NO_CONTENT]
    if not present:
        return Content(MessageKind.UNKNOWN, detail=_NEWER) if _has_more(body) else None
    if "protocolMessage" in present:
        return _protocol(body.protocolMessage)
    if "commentMessage" in present:
        return _comment(body.commentMessage)
    if present[0] == _PLAIN_TEXT:
        return _in_wrappers(Content(MessageKind.TEXT, shown(body, _PLAIN_TEXT)), wrappers)
    if present[0] in NOTICES:
        return Content(MessageKind.NOTICE, detail=NOTICES[present[0]])
    part = getattr(body, present[0])
    if present[0] == "pinInChatMessage":
        return pin(part, body.messageContextInfo.messageAddOnDurationInSecs)
    content = _plain(present[0], part, present)
    if quoting and hasattr(part, "contextInfo"):
        content = _with_context(content, part.contextInfo)
    content = _in_wrappers(content, wrappers, once=getattr(part, "viewOnce", False))
    return as_better_copy(content, associated)


def _in_wrappers(content: Content, wrappers: frozenset[str], *, once: bool = False) -> Content:
    if not (once or wrappers):
        return content
    once = once or any(name.startswith("viewOnce") for name in wrappers)
    return msgspec.structs.replace(
        content, view_once=once, ephemeral="ephemeralMessage" in wrappers
    )


def unreadable(reason: str) -> Content:
    """The placeholder for a message that was received and cannot be read."""
    return Content(MessageKind.UNKNOWN, detail=cut(repaired(reason), _REASON))


def _has_more(body: Any) -> bool:
    """Whether a message without any known field has one that the library does not know either."""
    rest = type(body)()
    rest.CopyFrom(body)
    for name in _NO_CONTENT:
        rest.ClearField(name)
    return bool(rest.ByteSize())


def _plain(name: str, part: Any, present: list[str]) -> Content:
    if name == "extendedTextMessage":
        url = shown(part, "matchedText")
        link = LinkPreview(url, shown(part, "title"), shown(part, "description")) if url else None
        return Content(MessageKind.TEXT, shown(part, "text"), link=link)
    if name in _MEDIA:
        return Content(_MEDIA[name], shown(part, "caption"), media=_media(part))
    if name in _LOCATIONS:
        return _location(part, live=name == "liveLocationMessage")
    if name == "contactMessage":
        return _contacts([part])
    if name == "contactsArrayMessage":
        return _contacts(list(part.contacts))
    if name in _POLLS:
        return _poll(part)
    if name == "pollUpdateMessage":
        return _vote(part)
    if name == "reactionMessage":
        target = _target(part.key, "reaction")
        at_ms = milliseconds_or_0(part.senderTimestampMS)
        return Content(MessageKind.REACTION, reaction_text(part), target=target, told_ms=at_ms)
    if name == "keepInChatMessage":
        return keep(part)
    if name == "callLogMesssage":
        return _call(part)
    if name in _AS_TEXT and (text := _first(part, _AS_TEXT[name])):
        return Content(MessageKind.TEXT, text)
    return Content(MessageKind.UNKNOWN, _first(part, _TEXT_FIELDS), detail=", ".join(present))


def _with_context(content: Content, context: Any) -> Content:
    """Add the data of a ContextInfo; a reply's target is the quoted message."""
    quote = None
    target = ident_or_none(context, "stanzaID")
    if target:
        try:
            quoted = content_of(unwrap(context.quotedMessage), quoting=False)
        except Untranslatable:
            quoted = None
        quote = Quote(
            by=_bare(address(context, "participant")),
            text=preview(quoted) if quoted is not None else "",
            chat=_bare(address(context, "remoteJID")),
        )
    mentions = tuple(map(_bare, addresses(context, "mentionedJID")))
    return msgspec.structs.replace(
        content,
        target=content.target or target,
        quote=quote,
        mentions=mentions,
        forwarded=context.isForwarded,
        expires_s=context.expiration,
    )


def _bare(found: Jid | None) -> str:
    return str(found.bare()) if found is not None else ""


def _media(part: Any) -> MediaContent:
    # Each kind has some of these fields; a missing one counts as empty.
    thumbnail = getattr(part, "JPEGThumbnail", b"") or getattr(part, "pngThumbnail", b"")
    return MediaContent(
        mimetype=shown(part, "mimetype"),
        filename=shown(part, "fileName"),
        size=min(part.fileLength, _INT64),
        seconds=getattr(part, "seconds", 0),
        width=getattr(part, "width", 0),
        height=getattr(part, "height", 0),
        pages=getattr(part, "pageCount", 0),
        voice=getattr(part, "PTT", False),
        animated=getattr(part, "isAnimated", False) or getattr(part, "gifPlayback", False),
        direct_path=exact(part, "directPath"),
        key=part.mediaKey,
        sha256=part.fileSHA256,
        enc_sha256=part.fileEncSHA256,
        key_ms=milliseconds_or_0(part.mediaKeyTimestamp),
        thumbnail=thumbnail if len(thumbnail) <= THUMBNAIL_LIMIT else b"",
    )


def _location(part: Any, *, live: bool) -> Content:
    names = [shown(part, name) for name in ("name", "address", "comment", "caption")]
    latitude, longitude = part.degreesLatitude, part.degreesLongitude
    location = None
    if math.isfinite(latitude) and math.isfinite(longitude):
        names.append(f"{latitude:.6f},{longitude:.6f}")
        location = Location(
            latitude,
            longitude,
            shown(part, "name"),
            shown(part, "address"),
            shown(part, "URL"),
            part.accuracyInMeters,
            live or getattr(part, "isLive", False),
        )
    return Content(MessageKind.LOCATION, ", ".join(filter(None, names)), location=location)


def _contacts(parts: list[Any]) -> Content:
    contacts = tuple(
        Contact(shown(part, "displayName"), shown(part, "vcard")[:VCARD_LIMIT]) for part in parts
    )
    names = ", ".join(contact.name for contact in contacts)
    return Content(MessageKind.CONTACT, names, contacts=contacts)


def _poll(part: Any) -> Content:
    question = shown(part, "name")
    options = tuple(shown(option, "optionName") for option in part.options)
    poll = Poll(question, options, part.selectableOptionsCount)
    text = "\n".join([question, *(f"- {option}" for option in options)])
    return Content(MessageKind.POLL, text, poll=poll)


def reaction_text(reaction: Any) -> str:
    """The text of a reaction: an emoji, of a few characters."""
    return cut(shown(reaction, "text"), _REACTION_LIMIT)


def _vote(part: Any) -> Content:
    return Content(
        MessageKind.POLL_VOTE,
        target=_target(part.pollCreationMessageKey, "vote"),
        vote=Vote(part.vote.encPayload, part.vote.encIV),
        told_ms=milliseconds_or_0(part.senderTimestampMS),
    )


def _call(part: Any) -> Content:
    outcomes = part.DESCRIPTOR.fields_by_name["callOutcome"].enum_type.values_by_number
    outcome = _OUTCOMES.get(outcomes[part.callOutcome].name, CallOutcome.MISSED)
    call = Call(outcome, part.isVideo, len(part.participants) > 1, max(0, part.durationSecs))
    return Content(MessageKind.CALL, call=call)


def _comment(part: Any) -> Content | None:
    """A comment is translated to a reply to its target."""
    content = content_of(unwrap(part.message))
    if content is None:
        return None
    target = content.target or ident_or_none(part.targetMessageKey, "ID")
    return msgspec.structs.replace(content, target=target)


def _protocol(part: Any) -> Content | None:
    if part.type == _REVOKE and part.HasField("key") and part.key.HasField("ID"):
        return Content(MessageKind.REVOKE, target=_target(part.key, "revoke"))
    if part.type == _EDIT:
        inner = content_of(unwrap(part.editedMessage)) or Content(MessageKind.TEXT)
        return Content(
            MessageKind.EDIT,
            cut(inner.text, TEXT_LIMIT),
            target=_target(part.key, "edit"),
            mentions=inner.mentions,
            link=inner.link,
            told_ms=milliseconds_or_0(part.timestampMS),
            poll=inner.poll,
        )
    return None  # history, app state, keys: handled by the library itself


def _target(key: Any, what: str) -> str:
    if not key.HasField("ID"):
        raise Untranslatable(f"a {what} without a target")
    return ident(key, "ID", f"the target of a {what}")


def _first(part: Any, paths: tuple[str, ...]) -> str:
    """The first non-empty text of these fields."""
    for path in paths:
        *outer, name = path.split(".")
        inner = reduce(lambda inner, step: getattr(inner, step, None), outer, part)
        if found := _text_of(inner, name):
            return found
    return ""


def _text_of(part: Any, name: str) -> str:
    """A field's text, if there is such a field and it is a single text."""
    descriptor = getattr(part, "DESCRIPTOR", None)
    field = None if descriptor is None else descriptor.fields_by_name.get(name)
    is_text = field is not None and field.type == field.TYPE_STRING and not field.is_repeated
    return shown(part, name) if is_text else ""
