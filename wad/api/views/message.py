"""The views of stored messages in replies: everything but the media keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Annotated, TypeVar

import msgspec

from wad.api.views.values import values
from wad.core.brief import NAME, brief
from wad.core.content import (
    CallOutcome,
    Contact,
    Content,
    LinkPreview,
    Location,
    MediaContent,
    MessageKind,
    Poll,
)
from wad.core.message import Ballot, Message, MessageStatus, Reaction, Thread
from wad.core.text import cut

T = TypeVar("T")
KindText = Annotated[str, values(MessageKind)]


class ReplyView(msgspec.Struct, frozen=True, kw_only=True):
    """The message replied to: its WhatsApp id, sender and first line; `chat` if it is in another chat."""

    wa_id: str
    sender: str
    text: str
    chat: str


class MediaView(msgspec.Struct, frozen=True, kw_only=True):
    """An attachment as the sender described it; `size` in bytes, `seconds` of audio or video, dimensions in pixels."""

    mimetype: str
    filename: str
    size: int
    seconds: int
    width: int
    height: int
    pages: int
    voice: bool
    animated: bool


class LinkView(LinkPreview, frozen=True, omit_defaults=False):
    """The same fields as in the content; all of them are always present."""


class LocationView(Location, frozen=True, omit_defaults=False):
    """The same fields as in the content; all of them are always present."""


class ContactView(Contact, frozen=True, omit_defaults=False):
    """The same fields as in the content; all of them are always present."""


class PollView(Poll, frozen=True, omit_defaults=False):
    """The same fields as in the content; all of them are always present."""


class CallView(msgspec.Struct, frozen=True, kw_only=True):
    """A call.  `outcome`: offered, accepted, rejected, missed or ended; `seconds`: its duration, if known."""

    outcome: Annotated[str, values(CallOutcome)]
    video: bool
    group: bool
    seconds: int


class VoteView(msgspec.Struct, frozen=True, kw_only=True):
    """A contact's last vote; `chosen` is None while it is encrypted."""

    by: str
    from_me: bool
    at_ms: int
    chosen: tuple[str, ...] | None


class VersionView(msgspec.Struct, frozen=True, kw_only=True):
    """An earlier version of a message, valid from `at_ms` on."""

    kind: KindText
    text: str
    at_ms: int


class MessageView(msgspec.Struct, frozen=True, kw_only=True):
    """One stored message.

    `text` is the current text, `earlier` are its earlier versions (the oldest first).  `detail` describes what could
    not be interpreted, or why it is a placeholder.  `expires_s`: seconds after which it disappears from the phones;
    `kept`: a participant kept it, so it does not disappear.  `pinned_until_ms`: when its pin ends or has ended.
    `cut` names the fields that are shortened in lists; `messages.show` returns them in full.
    """

    id: str
    thread: str
    direction: Annotated[str, values("inbound", "outbound")]
    sender: str
    name: str
    kind: KindText
    text: str
    at_ms: int
    status: Annotated[str, values(MessageStatus)]
    wa_id: str
    client_id: str
    detail: str
    edited_ms: int | None
    revoked_ms: int | None
    revoked_by: str
    reply_to: ReplyView | None
    reactions: tuple[Reaction, ...]
    mentions: tuple[str, ...]
    forwarded: bool
    view_once: bool
    expires_s: int
    pinned_until_ms: int | None = None
    kept: bool = False
    media: MediaView | None
    link: LinkView | None
    location: LocationView | None
    contacts: tuple[ContactView, ...]
    poll: PollView | None
    votes: tuple[VoteView, ...]
    call: CallView | None
    earlier: tuple[VersionView, ...]
    cut: tuple[str, ...]


class ThreadPage(msgspec.Struct, frozen=True):
    """A page of threads, those with the newest messages first; `next` is empty on the last page."""

    threads: list[Thread]
    next: str


class MessagePage(msgspec.Struct, frozen=True):
    """A page of messages, newest first; `next` is empty on the last page."""

    thread: str
    messages: list[MessageView]
    next: str


class MessageShown(msgspec.Struct, frozen=True):
    """A message in full; if that does not fit into a reply, with a piece of its text from the character `at` on.

    `next`: where the next piece of the text begins; None for the last piece.
    """

    message: MessageView
    at: int
    next: int | None


def message_view(message: Message) -> MessageView:
    """A stored message in lists, with long fields shortened."""
    return _view(*brief(message), message.content.poll)


def whole_view(message: Message) -> MessageView:
    """A stored message in full, however large."""
    return _view(message, (), message.content.poll)


def _view(message: Message, shortened: tuple[str, ...], poll: Poll | None) -> MessageView:
    content = message.content
    names = {
        hashlib.sha256(name.encode()).digest(): cut(name, NAME) for name in _options(message, poll)
    }
    return MessageView(
        id=message.id,
        thread=message.thread,
        direction="outbound" if message.from_me else "inbound",
        sender=message.sender,
        name=message.push_name,
        kind=content.kind,
        text=content.text,
        at_ms=message.at_ms,
        status=message.status,
        wa_id=message.wa_id,
        client_id=message.client_id,
        detail=content.detail,
        edited_ms=message.edited_ms or None,
        revoked_ms=message.revoked_ms or None,
        revoked_by=message.revoked_by,
        reply_to=_reply(content),
        reactions=message.reactions,
        mentions=content.mentions,
        forwarded=content.forwarded,
        view_once=content.view_once,
        expires_s=content.expires_s,
        pinned_until_ms=message.pinned_until_ms or None,
        kept=message.kept,
        media=None if content.media is None else _media(content.media),
        link=_view_of(LinkView, content.link),
        location=_view_of(LocationView, content.location),
        contacts=tuple(ContactView(contact.name, contact.vcard) for contact in content.contacts),
        poll=_view_of(PollView, content.poll),
        votes=tuple(_vote(ballot, names) for ballot in message.votes),
        call=_view_of(CallView, content.call),
        earlier=tuple(
            VersionView(kind=version.content.kind, text=version.content.text, at_ms=version.at_ms)
            for version in message.earlier
        ),
        cut=shortened,
    )


def _options(message: Message, poll: Poll | None) -> tuple[str, ...]:
    return poll.options if poll is not None and message.votes else ()


def _view_of(kind: type[T], value: msgspec.Struct | None) -> T | None:
    return None if value is None else kind(**msgspec.structs.asdict(value))


def _reply(content: Content) -> ReplyView | None:
    if not content.target:
        return None
    quote = content.quote
    return ReplyView(
        wa_id=content.target,
        sender=quote.by if quote else "",
        text=quote.text if quote else "",
        chat=quote.chat if quote else "",
    )


def _media(media: MediaContent) -> MediaView:
    return MediaView(
        mimetype=media.mimetype,
        filename=media.filename,
        size=media.size,
        seconds=media.seconds,
        width=media.width,
        height=media.height,
        pages=media.pages,
        voice=media.voice,
        animated=media.animated,
    )


def _vote(ballot: Ballot, names: Mapping[bytes, str]) -> VoteView:
    """The view of a vote, which names options by the SHA-256 of their texts."""
    return VoteView(
        by=ballot.by,
        from_me=ballot.from_me,
        at_ms=ballot.at_ms,
        chosen=None if ballot.payload else tuple(names.get(o, o.hex()) for o in ballot.options),
    )
