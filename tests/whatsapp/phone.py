"""What an account's own phone does: it links devices, and writes.  History and app state have their place here."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from tests.whatsapp import contents, pb
from tests.whatsapp.contents import text_of
from tests.whatsapp.curve import mac
from tests.whatsapp.groups import Group
from tests.whatsapp.peers import Peer
from tests.whatsapp.people import Person, Received
from tests.whatsapp.wire import SERVER, Jid, node

if TYPE_CHECKING:
    from tests.whatsapp.account import Account
    from tests.whatsapp.server import WhatsApp

_ADV_PREFIX = b"\x06\x00"  # of what an account signs for a linked device
_RAW_ID = 12345


class Phone(Person):
    """The primary device of an account.  `copies` holds what its linked devices sent, as they told it."""

    def __init__(self, server: WhatsApp, account: Account, pn: Jid, lid: Jid, name: str) -> None:
        super().__init__(server, pn, lid, name)
        self._account = account
        self.copies: list[Received] = []

    async def scan(self, qr: str) -> int:
        """Scan the QR code of a device and link it; the number it gets.  Raises ValueError for a code nobody shows.

        whatsapp-protocol.md 5.1: the code holds a reference, the device's noise and identity keys, and the secret under
        which the account's signature is vouched for; the identity that signs is the one in the phone's key bundle.
        """
        try:
            ref, noise, identity, secret, *_ = qr.rpartition("#")[2].split(",")
            keys = [base64.b64decode(part, validate=True) for part in (noise, identity, secret)]
        except (ValueError, binascii.Error) as error:
            raise ValueError(f"this is no QR code of WhatsApp: {qr[:80]!r}") from error
        connection = self.server.candidate(ref, keys[0], keys[1])
        device = self._account.link(connection.take_candidate())
        details = pb.encode({1: _RAW_ID, 2: self.server.now(), 3: device.number})
        signature = self.keys.identity.sign(_ADV_PREFIX + details + device.keys.identity)
        signed = pb.encode({1: details, 2: self.keys.identity.public, 3: signature})
        success = node(
            "pair-success",
            node("device-identity", pb.encode({1: signed, 2: mac(keys[2], signed)})),
            node("device", jid=device.jid, lid=device.lid),
            node("platform", name="android"),
        )
        ident = self.server.next_id()
        connection.send(
            node("iq", success, from_=SERVER, type_="set", id=ident, t=self.server.now())
        )
        return device.number

    def take_copy(self, ident: str, content: bytes) -> None:
        """A linked device sent a message; content is its deviceSentMessage (31), the message in field 2."""
        self.keep_copy(ident, pb.data(pb.decode(pb.data(pb.decode(content), 31)), 2))

    def keep_copy(self, ident: str, message: bytes, group: Jid | None = None) -> None:
        """A linked device sent a message."""
        self.remember(ident, message)
        self.copies.append(Received(self._account, ident, text_of(message), message, group))

    async def write_text(self, to: Peer | Account | Group, text: str) -> str:
        """The owner writes on the phone.  The message's id."""
        return await self.write(to, contents.text(text))

    async def write(self, to: Peer | Account | Group, content: pb.Message) -> str:
        """The owner writes on the phone; its devices get a copy (whatsapp-protocol.md 5.6).  The message's id."""
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
        self.server.news.tell()
        return ident
