"""History sync: the old messages that a phone sends to a newly linked device.

See docs/internals/whatsapp-protocol.md#history-sync.  The numbers are those of WAWebProtobufsHistorySync and
WAWebProtobufsWeb.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import groupby

from tests.whatsapp import attachments, contents, pb
from tests.whatsapp.attachments import Kind
from tests.whatsapp.groups import Group
from tests.whatsapp.media import MediaHost
from tests.whatsapp.people import Person


class Sync(IntEnum):
    """HistorySync.HistorySyncType."""

    INITIAL_BOOTSTRAP = 0
    FULL = 2
    RECENT = 3
    PUSH_NAME = 4
    ON_DEMAND = 6


class Status(IntEnum):
    """WebMessageInfo.Status."""

    PENDING = 1
    SENT = 2
    DELIVERED = 3
    READ = 4
    PLAYED = 5


@dataclass(frozen=True)
class Line:
    """An old message, with a time in seconds since 1970; without an author it is the account's own."""

    ident: str
    at: int
    content: pb.Message
    author: Person | None = None
    status: Status = Status.READ


@dataclass(frozen=True)
class Conversation:
    """An old chat, its lines in any order."""

    chat: Person | Group
    lines: Sequence[Line]
    unread: int = 0


@dataclass(frozen=True)
class Chunk:
    """One part: its announcement, and the encoded HistorySync."""

    sync: Sync
    order: int
    progress: int
    history: bytes

    def notification(self, host: MediaHost, *, inline: bool) -> pb.Message:
        """HistorySyncNotification; the history is inline, or on the media host."""
        data = zlib.compress(self.history)
        head: pb.Message = {6: int(self.sync), 7: self.order, 9: self.progress}
        if inline:
            return {**head, 11: data}
        file = attachments.upload(host, data, Kind.HISTORY)
        return {
            1: file.plain_hash, 2: file.size, 3: file.key, 4: file.encrypted_hash, 5: file.path, **head,
        }  # fmt: skip


def chunks(
    conversations: Sequence[Conversation], sync: Sync, *, newest_first: bool, per_chunk: int
) -> Iterator[Chunk]:
    """Split conversations into parts of `size` messages."""
    found = [
        (number, line)
        for number, conversation in enumerate(conversations)
        for line in sorted(conversation.lines, key=lambda line: line.at, reverse=newest_first)
    ]
    parts = [found[at : at + per_chunk] for at in range(0, len(found), per_chunk)] or [[]]
    for order, part in enumerate(parts, 1):
        parts_of_chats = [
            _conversation(conversations[number], [line for _, line in lines])
            for number, lines in groupby(part, key=lambda item: item[0])
        ]
        progress = 100 * order // len(parts)
        history = {
            1: int(sync), 2: parts_of_chats, 5: order, 6: progress, 15: list(_mappings(conversations)),
        }  # fmt: skip
        yield Chunk(sync, order, progress, pb.encode(history))


def push_names(persons: Sequence[Person]) -> Chunk:
    """The push names of persons."""
    names = [{1: str(person.address), 2: person.name} for person in persons]
    return Chunk(Sync.PUSH_NAME, 1, 100, pb.encode({1: int(Sync.PUSH_NAME), 7: names}))


def _mappings(conversations: Sequence[Conversation]) -> Iterator[pb.Message]:
    for conversation in conversations:
        if isinstance(conversation.chat, Person) and conversation.chat.addressing.both:
            yield {1: str(conversation.chat.pn), 2: str(conversation.chat.lid)}


def _conversation(conversation: Conversation, lines: Sequence[Line]) -> pb.Message:
    chat = conversation.chat
    jid = chat.jid if isinstance(chat, Group) else chat.address
    latest = max((line.at for line in conversation.lines), default=None)
    return {
        1: str(jid),
        2: [{1: web_message(chat, line), 2: number} for number, line in enumerate(lines, 1)],
        5: latest,
        6: conversation.unread,
        12: latest,
        13: chat.subject if isinstance(chat, Group) else chat.name,
    }


def web_message(chat: Person | Group, line: Line) -> pb.Message:
    """A WebMessageInfo; its secret is beside the content."""
    jid, participant = (chat.jid, None) if isinstance(chat, Group) else (chat.address, None)
    if isinstance(chat, Group) and line.author is not None:
        participant = str(chat.address(line.author))
    content = contents.with_secret(line.content)
    return {
        1: {1: str(jid), 2: int(line.author is None), 3: line.ident, 4: participant},
        2: content,
        3: line.at,
        4: int(line.status),
        5: participant,
        19: line.author.name if line.author else None,
        49: contents.secret_of(pb.encode(content)) or None,
    }
