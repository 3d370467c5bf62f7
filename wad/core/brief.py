"""Messages, threads and outbox entries for lists: everything long is cut.

The sender of a message chooses the length of its text, its names and its contacts.  Here each is cut, and the cut is
noted, so that a page of messages always fits into a reply.  Pure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from wad.core.content import Contact, Content, Poll
from wad.core.message import Ballot, Message, MessageVersion, Reaction, Thread
from wad.core.text import cut

TEXT: Final = 4096  # characters of a text
NAME: Final = 256  # of a name, a file's name, a poll's option
LINE: Final = 1024  # of a title, an address, an earlier text
_VCARD: Final = 2048
_CONTACTS: Final = 20
_OPTIONS: Final = 50
_CROWD: Final = 100  # mentions, reactions, votes
_VERSIONS: Final = 20

T = TypeVar("T", bound=msgspec.Struct)


class Brief(NamedTuple):
    """A message with long fields cut, and the names of those fields."""

    message: Message
    cut: tuple[str, ...]


def brief(message: Message, text: int = TEXT) -> Brief:
    """The message for a list; `text`: characters of its text that remain."""
    if _is_short(message):
        return Brief(message, ())
    content = _content(message.content, text)
    short = replace(
        message,
        content=content,
        push_name=cut(message.push_name, NAME),
        reactions=tuple(map(_reaction, message.reactions[:_CROWD])),
        votes=tuple(map(_ballot, message.votes[:_CROWD])),
        earlier=tuple(map(_version, message.earlier[-_VERSIONS:])),
    )
    before, after = message.content, content
    names = [
        *(name for name in _OF_CONTENT if getattr(before, name) != getattr(after, name)),
        *(name for name in _OF_MESSAGE if getattr(message, name) != getattr(short, name)),
    ]
    return Brief(short, tuple(names)) if names else Brief(message, ())


def _is_short(message: Message) -> bool:
    """Whether no field can be too long: most messages are a plain text."""
    said = message.content
    parts = (
        said.mentions, said.quote, said.link, said.location, said.contacts, said.poll, said.media, said.vote,
        message.reactions, message.votes, message.earlier,
    )  # fmt: skip
    return len(said.text) + len(said.detail) + len(message.push_name) <= NAME and not any(parts)


_OF_CONTENT: Final = (
    "text", "detail", "mentions", "quote", "link", "location", "contacts", "poll", "media", "vote",
)  # fmt: skip
_OF_MESSAGE: Final = ("push_name", "reactions", "votes", "earlier")


def brief_thread(thread: Thread) -> Thread:
    """A thread for a list."""
    return replace(thread, name=cut(thread.name, NAME), last_sender=cut(thread.last_sender, NAME))


def _content(content: Content, text: int) -> Content:
    return replace(
        content,
        text=cut(content.text, text),
        detail=cut(content.detail, LINE),
        mentions=content.mentions[:_CROWD],
        quote=_texts(content.quote, LINE),
        link=_texts(content.link, LINE),
        location=_texts(content.location, LINE),
        contacts=tuple(map(_contact, content.contacts[:_CONTACTS])),
        poll=_mapped(_poll, content.poll),
        media=_texts(content.media, LINE),
        vote=None
        if content.vote is None
        else replace(content.vote, options=content.vote.options[:_OPTIONS]),
    )


def _mapped(change: Callable[[Any], Any], value: T | None) -> T | None:
    return None if value is None else change(value)


def _texts(value: T | None, limit: int) -> T | None:
    """A struct with all its text fields cut."""
    if value is None:
        return None
    texts = {
        name: found
        for name, found in msgspec.structs.asdict(value).items()
        if isinstance(found, str)
    }
    return replace(value, **{name: cut(found, limit) for name, found in texts.items()})


def _contact(contact: Contact) -> Contact:
    return Contact(cut(contact.name, NAME), cut(contact.vcard, _VCARD))


def _poll(poll: Poll) -> Poll:
    options = tuple(cut(option, NAME) for option in poll.options[:_OPTIONS])
    return Poll(cut(poll.question, LINE), options, poll.selectable)


def _reaction(reaction: Reaction) -> Reaction:
    return replace(reaction, text=cut(reaction.text, NAME))


def _ballot(ballot: Ballot) -> Ballot:
    return replace(ballot, options=ballot.options[:_OPTIONS], payload=ballot.payload[:LINE])


def _version(version: MessageVersion) -> MessageVersion:
    return MessageVersion(_content(version.content, LINE), version.at_ms)
