"""Peers: ordinary users, and everything that they can send (contents.py) to an account or a group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from tests.whatsapp import attachments, contents, pb, polls
from tests.whatsapp.contents import Target
from tests.whatsapp.device import Envelope
from tests.whatsapp.groups import Group
from tests.whatsapp.inbox import Received
from tests.whatsapp.people import Person
from tests.whatsapp.wire import Node, Value, node

if TYPE_CHECKING:
    from tests.whatsapp.account import Account

MIMETYPES = {
    "image": "image/jpeg",
    "video": "video/mp4",
    "audio": "audio/ogg; codecs=opus",
    "document": "application/pdf",
    "sticker": "image/webp",
}


class Peer(Person):
    """An ordinary user, with only a phone.

    Methods that are about another message take its id and, unless the other side of the chat wrote it, its author `by`.
    """

    def target(self, to: Account | Group, ident: str, by: Person | None = None) -> Target:
        """Another message of a chat, from this peer's side.  Raises ValueError in a group without an author."""
        if isinstance(to, Group):
            if by is None:
                raise ValueError("in a group a message is known by its author, too")
            return Target(ident, to.address(by), to.jid, by is self, in_group=True)
        author = to.phone if by is None else by
        jids = (author.pn, to.pn) if self.addressing.by_number else (author.lid, to.lid)
        return Target(ident, *jids, from_me=author is self)

    # --- texts --------------------------------------------------------------------------------

    async def reply(
        self, to: Account | Group, ident: str, text: str, *, by: Person | None = None,
        quoted: pb.Message | None = None,
    ) -> str:  # fmt: skip
        """Answer a message, with a quote of it."""
        target = self.target(to, ident, by)
        content = contents.extended_text(text, quoting=target, quoted=quoted or {1: ""})
        return await self.send(to, content)

    async def mention(self, to: Account | Group, text: str, *persons: Person) -> str:
        """A text that mentions persons."""
        return await self.send(
            to, contents.extended_text(text, mentions=[person.lid for person in persons])
        )

    # --- files --------------------------------------------------------------------------------

    async def send_file(
        self, to: Account | Group, kind: str, data: bytes, *, mimetype: str = "",
        caption: str = "", name: str = "", voice: bool = False, view_once: bool = False,
    ) -> str:  # fmt: skip
        """Send a file as one of attachments.MEDIA; `name` is a document's, `voice` makes audio a voice message."""
        content = self.announce(kind, data, mimetype, caption=caption, name=name, voice=voice)
        if kind == "document" and caption:
            content = contents.with_caption(content)
        return await self.send(to, contents.view_once(content) if view_once else content)

    def announce(
        self, kind: str, data: bytes, mimetype: str = "", *, caption: str = "", name: str = "",
        voice: bool = False,
    ) -> pb.Message:  # fmt: skip
        """Upload a file; the content that announces it."""
        fields: dict[str, pb.Message] = {
            "image": {3: caption or None, 6: 48, 7: 64},
            "video": {7: caption or None, 5: 3, 9: 48, 10: 64},
            "audio": {5: 3, 6: int(voice)},
            "document": {20: caption or None, 8: name or None, 3: name or None},
            "sticker": {6: 64, 7: 64},
        }
        host, at = self.server.media, self.server.now()
        return attachments.announce(host, kind, data, mimetype or MIMETYPES[kind], at, fields[kind])

    def download(self, message: Received) -> bytes:
        """The file that an account sent.  Raises ValueError."""
        return attachments.fetch(self.server.media, message.content)

    async def send_hidden(self, to: Account, kind: str = "view_once") -> str:
        """A message of which linked devices learn only that it exists, as with real view-once messages."""
        ident = self.server.next_id()
        self.server.ledger.sent(to, self.pn.user, ident, "")
        hidden = node("unavailable", type_=kind)
        for device in to.devices.values():
            stanza = self.message_node(ident, contents.PLAIN, hidden, **self.origin())
            device.post(Envelope(stanza))
        return ident

    # --- about other messages -----------------------------------------------------------------

    async def react(
        self, to: Account | Group, ident: str, emoji: str, *, by: Person | None = None
    ) -> str:
        """React to a message; "" removes the reaction."""
        return await self.send(
            to, contents.reaction(self.target(to, ident, by), emoji, self.server.now())
        )

    async def edit(
        self, to: Account | Group, ident: str, text: str, *, wrapped: bool = False
    ) -> str:
        """Edit an own message."""
        target = self.target(to, ident, self)
        change = contents.edit(target, contents.text(text), self.server.now(), wrapped=wrapped)
        return await self.send(to, change)

    async def revoke(self, to: Account | Group, ident: str, *, by: Person | None = None) -> str:
        """Delete an own message for everyone, or as a group's admin another member's."""
        return await self.send(to, contents.revoke(self.target(to, ident, by or self)))

    async def poll(
        self, to: Account | Group, question: str, options: Sequence[str], *, selectable: int = 1
    ) -> str:
        """Send a poll."""
        content = contents.with_secret(polls.poll(question, options, selectable=selectable))
        ident = self.server.next_id()
        self.remember(ident, pb.encode(content))
        return await self.send(to, content, id=ident)

    async def vote(
        self, to: Account | Group, ident: str, *options: str, by: Person | None = None
    ) -> str:
        """Vote in a known poll; without an option the vote is withdrawn."""
        target, voter = self.target(to, ident, by), self.address
        if isinstance(to, Group):
            voter = to.address(self)
        vote = polls.poll_vote(target, self.secret(ident), voter, options, self.server.now())
        return await self.send(to, vote)

    # --- calls --------------------------------------------------------------------------------

    def call(self, to: Account) -> str:
        """Let the account's devices ring; the call's id."""
        call = self.server.next_id()
        self._signal(to, call, node("offer", node("audio", enc="opus", rate=16000)))
        return call

    def hang_up(self, to: Account, call: str, reason: str = "timeout") -> None:
        """End a call."""
        self._signal(to, call, node("terminate", reason=reason))

    def _signal(self, to: Account, call: str, signal: Node) -> None:
        signal.attrs |= {"call-id": call, "call-creator": self.lid, "caller_pn": self.pn}
        for device in to.devices.values():
            stanza = node(
                "call", signal, id=self.server.next_id(), from_=self.lid, t=self.server.now(),
                platform="android", version="2.26.1", notify=self.name,
            )  # fmt: skip
            device.post(Envelope(stanza))

    # --- what is not stored -------------------------------------------------------------------

    def show_typing(
        self, to: Account, state: Literal["composing", "recording", "paused"] = "composing"
    ) -> None:
        """Show the account's connected devices that one is writing, speaking, or has stopped."""
        shown = node("paused" if state == "paused" else "composing")
        if state == "recording":
            shown = node("composing", media="audio")
        self._flash(to, "chatstate", shown, **self.origin())

    def show_presence(self, to: Account, *, available: bool, last: int | None = None) -> None:
        """Show the account's connected devices one's presence, or when one was last online."""
        kind = None if available else "unavailable"
        self._flash(to, "presence", from_=self.address, type_=kind, last=last)

    def _flash(self, to: Account, tag: str, *content: Node, **attrs: Value) -> None:
        for device in to.devices.values():
            if device.connection is not None:
                device.send(node(tag, *content, **attrs))
