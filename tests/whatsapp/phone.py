"""What the account's own phone does: it links a device by its QR code.  History and app state have their place here."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from tests.whatsapp import pb
from tests.whatsapp.curve import mac
from tests.whatsapp.people import Party, now
from tests.whatsapp.wire import SERVER, node

if TYPE_CHECKING:
    from tests.whatsapp.account import Account


class Phone:
    """The primary device of an account."""

    def __init__(self, account: Account, party: Party) -> None:
        self._account = account
        self.party = party

    async def scan(self, qr: str, *, number: int = 1) -> None:
        """Scan the QR code of a device, which becomes linked device `number`.  Raises ValueError for a stale code.

        whatsapp-protocol.md 5.1: the code holds ref, noise key, identity and the secret under which the account's
        signature is vouched for; the account's identity in it must be the one of the phone's own key bundle.
        """
        ref, _noise, identity, secret, *_ = qr.rpartition("#")[2].split(",")
        connection, device = self._account.server.candidate(ref, base64.b64decode(identity))
        account, party = self._account, self.party
        device.number = number
        device.jid, device.lid = party.pn._replace(device=number), party.lid._replace(device=number)
        details = pb.encode({1: 12345, 2: now(), 3: number})
        signature = party.identity.sign(b"\x06\x00" + details + device.identity)
        signed = pb.encode({1: details, 2: party.identity.public, 3: signature})
        vouched = mac(base64.b64decode(secret), signed)
        account.link(device)
        success = node(
            "pair-success",
            node("device-identity", pb.encode({1: signed, 2: vouched})),
            node("device", jid=device.jid, lid=device.lid),
            node("platform", name="android"),
        )
        ident = account.server.next_id()
        await connection.send(node("iq", success, from_=SERVER, type_="set", id=ident, t=now()))
