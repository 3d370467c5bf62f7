"""An account's own phone: it links devices, syncs with them, and its owner writes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from tests.whatsapp import contents, history, linking, pb
from tests.whatsapp.appstate import AppState
from tests.whatsapp.archive import Archive
from tests.whatsapp.contents import text_of
from tests.whatsapp.device import Device, Envelope
from tests.whatsapp.groups import Group
from tests.whatsapp.history import Chunk, Conversation, Sync
from tests.whatsapp.inbox import Received
from tests.whatsapp.peers import Peer
from tests.whatsapp.people import Person
from tests.whatsapp.wire import Jid, node

if TYPE_CHECKING:
    from tests.whatsapp.account import Account
    from tests.whatsapp.server import WhatsApp

_HISTORY_SYNC_NOTIFICATION, _APP_STATE_SYNC_KEY_SHARE = 5, 6  # ProtocolMessage.Type


class Phone(Person):
    """The primary device of an account.  `copies` contains the messages that its linked devices sent."""

    def __init__(self, server: WhatsApp, account: Account, pn: Jid, lid: Jid, name: str) -> None:
        super().__init__(server, pn, lid, name)
        self._account = account
        self.copies: list[Received] = []
        self.app_state = AppState()
        self.archive = Archive(self)
        self._shares = False

    # --- linking ------------------------------------------------------------------------------

    async def scan(self, qr: str) -> int:
        """Scan the QR code of a device and link it; returns its number.  Raises ValueError for an unknown code."""
        return linking.scan(self._account, qr)

    async def enter_code(self, code: str) -> int:
        """Enter the code that a device shows and link it; returns its number.  Raises ValueError for another code."""
        return await linking.enter_code(self._account, code)

    # --- sync to its devices ------------------------------------------------------------------

    async def send_history(
        self,
        *conversations: Conversation,
        sync: Sync = Sync.RECENT,
        inline: bool = False,
        newest_first: bool = True,
        per_chunk: int = 100,
    ) -> list[str]:
        """Send the history, in parts of `size` messages, each inline or through the media host; their ids."""
        parts = history.chunks(conversations, sync, newest_first=newest_first, per_chunk=per_chunk)
        return [self._send_history_part(part, inline=inline) for part in parts]

    async def send_push_names(self, *persons: Person) -> str:
        """Send push names."""
        return self._send_history_part(history.push_names(persons), inline=True)

    def _send_history_part(self, part: Chunk, *, inline: bool) -> str:
        notification = part.notification(self.server.media, inline=inline)
        return self._send_to_devices({2: _HISTORY_SYNC_NOTIFICATION, 6: notification})

    async def share_app_state(
        self, *, push_name: str = "", contacts: Mapping[Jid, str] | None = None
    ) -> None:
        """Share the account's own name, without which a device cannot send presence, and its address book."""
        at, state = self.server.now(), self.app_state
        if push_name:
            state.set("critical_block", ["setting_pushName"], {7: {1: push_name}}, at)
        for jid, name in (contacts or {}).items():
            value = {3: {1: name, 2: name.partition(" ")[0]}}
            state.set("critical_unblock_low", ["contact", str(jid)], value, at)
        if not self._shares:
            self._shares = True
            self._send_to_devices({2: _APP_STATE_SYNC_KEY_SHARE, 7: state.key_share(at)})
            return
        for name in ("critical_block", "critical_unblock_low"):
            self._account.notify(
                node("collection", name=name, version=state.version(name)), "server_sync"
            )

    def forget_to_share(self) -> None:
        """From now on devices get changes whose key they never got."""
        self._shares = True

    def _send_to_devices(self, protocol_message: pb.Message) -> str:
        ident, content = self.server.next_id(), pb.encode({12: protocol_message})
        for device in self._account.devices.values():
            self.post(device, ident, content, from_=self.pn, category="peer")
        return ident

    # --- requests of its devices ----------------------------------------------------------------

    def take_question(self, device: Device, ident: str, content: bytes) -> None:
        """A device sends a request; the phone acknowledges it, and answers that device."""
        receipt = node(
            "receipt",
            id=ident,
            from_=self.pn,
            type_="peer_msg",
            category="peer",
            t=self.server.now(),
        )
        device.post(Envelope(receipt))
        for answer in self.archive.answers(ident, pb.data(pb.decode(content), 12)):
            self.post(
                device,
                self.server.next_id(),
                pb.encode({12: answer}),
                from_=self.pn,
                category="peer",
            )

    # --- messages of its devices and its owner ------------------------------------------------

    def take_copy(self, ident: str, content: bytes) -> None:
        """A linked device sent a message; content is its deviceSentMessage (31), the message in field 2."""
        self.keep_copy(ident, pb.data(pb.decode(pb.data(pb.decode(content), 31)), 2))

    def keep_copy(self, ident: str, message: bytes, group: Jid | None = None) -> None:
        """A linked device sent a message."""
        self.remember(ident, message)
        self.copies.append(Received(self._account, ident, text_of(message), message, group))

    def read(self, chat: Peer, *idents: str) -> None:
        """The owner reads messages of a chat on the phone; its devices are notified."""
        first, *rest = idents
        more = [node("list", *(node("item", id=ident) for ident in rest))] if rest else []
        for device in self._account.devices.values():
            stanza = node(
                "receipt", *more, id=first, from_=self.lid, recipient=chat.lid, type_="read-self",
                t=self.server.now(),
            )  # fmt: skip
            device.post(Envelope(stanza))

    async def write_text(self, to: Peer | Account | Group, text: str) -> str:
        """The owner writes on the phone.  Returns the message's id."""
        return await self.write(to, contents.text(text))

    async def write(self, to: Peer | Account | Group, content: pb.Message) -> str:
        """The owner writes on the phone; its devices get a copy.  Returns the message's id.

        See docs/internals/whatsapp-protocol.md#receiving.
        """
        if isinstance(to, Group):
            return await self.send(to, content)
        account, ident, content = (
            self._account,
            self.server.next_id(),
            contents.with_secret(content),
        )
        encoded = pb.encode(content)
        if isinstance(to, Peer):
            to.take(account, ident, encoded)
        else:
            await self.send(to, content, id=ident)
        self.remember(ident, encoded)
        self.server.ledger.sent(account, self.pn.user, ident, text_of(encoded))
        copy = pb.encode({31: {1: str(to.lid), 2: content}})
        kind = contents.stanza_kind(content)
        for device in account.devices.values():
            self.post(
                device, ident, copy, kind, from_=self.lid, recipient=to.lid, peer_recipient_pn=to.pn
            )
        self.server.news.notify()
        return ident
