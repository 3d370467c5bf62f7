"""A phone's old messages, which linked devices may request (waE2E PeerDataOperationRequestMessage).

The answer to a request for history is a history sync of the type ON_DEMAND with the messages just before the one that
the device named; to one for single messages it is a response with each of them that the phone has.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tests.whatsapp import history, pb
from tests.whatsapp.groups import Group
from tests.whatsapp.history import Conversation, Sync
from tests.whatsapp.people import Person

if TYPE_CHECKING:
    from tests.whatsapp.phone import Phone

_HISTORY_SYNC_NOTIFICATION, _REQUEST, _RESPONSE = 5, 16, 17  # ProtocolMessage.Type
_ON_DEMAND, _PLACEHOLDER_RESEND = 3, 4  # PeerDataOperationRequestType


@dataclass(frozen=True)
class Question:
    """A device's request: `count` messages of a chat before one of them, or these messages themselves."""

    chat: str = ""
    before: str = ""
    from_me: bool = False
    at: int = 0
    count: int = 0
    messages: tuple[str, ...] = ()


class Archive:
    """The history of one phone.  `silent`: it answers nothing, as when it is switched off."""

    def __init__(self, phone: Phone) -> None:
        self._phone = phone
        self.conversations: list[Conversation] = []
        self.questions: list[Question] = []
        self.kinds: list[int] = []  # ProtocolMessage.Type of all that devices sent to it
        self.silent = False

    def keep(self, *conversations: Conversation) -> None:
        """Add messages to the phone."""
        self.conversations += conversations

    def answers(self, ident: str, protocol_message: bytes) -> Iterator[pb.Message]:
        """The protocol messages that answer the request with this id; other messages are not requests."""
        message = pb.decode(protocol_message)
        self.kinds.append(pb.number(message, 2))
        if message.get(2) != _REQUEST:
            return
        encoded = pb.data(message, 16)
        request = pb.decode(encoded)
        if request.get(1) == _ON_DEMAND:
            question = _of_history(pb.decode(pb.data(request, 4)))
        elif request.get(1) == _PLACEHOLDER_RESEND:
            question = _of_messages(encoded)
        else:
            raise ValueError(f"the phone does not understand a request of type {request.get(1)!r}")
        self.questions.append(question)
        if self.silent:
            return
        if question.messages:
            yield self._messages(ident, question)
        else:
            yield from self._history(ident, question)

    def _history(self, ident: str, question: Question) -> Iterator[pb.Message]:
        for part in history.chunks(
            self._before(question), Sync.ON_DEMAND, newest_first=True, per_chunk=question.count
        ):
            notification = part.notification(self._phone.server.media, inline=False)
            yield {2: _HISTORY_SYNC_NOTIFICATION, 6: {**notification, 12: ident}}

    def _before(self, question: Question) -> list[Conversation]:
        """The chat, with the preceding messages; without lines if there are no more, and no chat if unknown."""
        for conversation in self.conversations:
            if question.chat not in _names(conversation.chat):
                continue
            older = sorted(
                (line for line in conversation.lines if line.at < question.at),
                key=lambda line: line.at,
            )
            return [replace(conversation, lines=older[-question.count :])]
        return []

    def _messages(self, ident: str, question: Question) -> pb.Message:
        found = [
            {4: {1: pb.encode(history.web_message(conversation.chat, line))}}
            for conversation in self.conversations
            for line in conversation.lines
            if line.ident in question.messages
        ]
        return {2: _RESPONSE, 17: {1: _PLACEHOLDER_RESEND, 2: ident, 3: found}}


def _names(chat: Person | Group) -> tuple[str, ...]:
    return (str(chat.jid),) if isinstance(chat, Group) else (str(chat.pn), str(chat.lid))


def _of_history(request: pb.Fields) -> Question:
    return Question(
        chat=pb.data(request, 1).decode(),
        before=pb.data(request, 2).decode(),
        from_me=bool(request.get(3)),
        at=pb.number(request, 5),
        count=pb.number(request, 4),
    )


def _of_messages(request: bytes) -> Question:
    wanted = [
        value for field, value in pb.fields(request) if field == 5 and isinstance(value, bytes)
    ]
    keys = [pb.data(pb.decode(one), 1) for one in wanted]
    return Question(messages=tuple(pb.data(pb.decode(key), 3).decode() for key in keys))
