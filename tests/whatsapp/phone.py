"""What an account's own phone does: it links devices, and writes.  History and app state have their place here."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING

from tests.whatsapp import pb
from tests.whatsapp.curve import mac
from tests.whatsapp.people import Peer, Person, Received, text_of
from tests.whatsapp.wire import SERVER, Jid, node, now

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
        details = pb.encode({1: _RAW_ID, 2: now(), 3: device.number})
        signature = self.identity.sign(_ADV_PREFIX + details + device.keys.identity)
        signed = pb.encode({1: details, 2: self.identity.public, 3: signature})
        success = node(
            "pair-success",
            node("device-identity", pb.encode({1: signed, 2: mac(keys[2], signed)})),
            node("device", jid=device.jid, lid=device.lid),
            node("platform", name="android"),
        )
        ident = self.server.next_id()
        connection.send(node("iq", success, from_=SERVER, type_="set", id=ident, t=now()))
        return device.number

    def take_copy(self, ident: str, content: bytes) -> None:
        """A linked device sent a message; content is its deviceSentMessage (31), the message in field 2."""
        message = pb.data(pb.decode(pb.data(pb.decode(content), 31)), 2)
        self.copies.append(Received(self._account, ident, text_of(message), message))

    async def write_text(self, to: Peer | Account, text: str) -> str:
        """The owner writes on the phone; its devices get a copy (whatsapp-protocol.md 5.6).  The message's id."""
        account, content = self._account, {1: text}
        ident = self.server.next_id()
        if isinstance(to, Peer):
            to.inbox.add(Received(account, ident, text, pb.encode(content)))
        else:
            await self.send(to, content, id=ident, text=text)
        self.server.ledger.sent(account, self.pn.user, ident, text)
        copy = pb.encode({31: {1: str(to.lid), 2: content}})
        for device in account.devices.values():
            self._post(
                device, copy, id=ident, from_=self.lid, recipient=to.lid, peer_recipient_pn=to.pn
            )
        self.server.news.tell()
        return ident
