"""Who is on this WhatsApp: people with a phone whose keys we hold, and the peers among them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.whatsapp import pb
from tests.whatsapp.curve import KeyPair
from tests.whatsapp.device import Device, Envelope, public_key
from tests.whatsapp.signal_protocol import REGISTRATION_ID, PreKey, Session
from tests.whatsapp.wire import Jid, Node, Value, node, now

if TYPE_CHECKING:
    from tests.whatsapp.account import Account
    from tests.whatsapp.server import WhatsApp

RECEIPT_KINDS = ("delivery", "read", "played")


@dataclass(frozen=True)
class Received:
    """What a device under test sent to somebody."""

    account: Account
    ident: str
    text: str
    content: bytes  # waE2E.Message


class Inbox(list[Received]):
    """Messages in order of arrival, found by what is known of one without going through all."""

    def __init__(self) -> None:
        super().__init__()
        self._first: dict[tuple[Account, str | None, str | None], Received] = {}

    def add(self, message: Received) -> None:
        """A message arrived."""
        self.append(message)
        for ident in (message.ident, None):
            for text in (message.text, None):
                self._first.setdefault((message.account, ident, text), message)

    def find(self, account: Account, ident: str | None, text: str | None) -> Received | None:
        """The first one that fits."""
        return self._first.get((account, ident, text))


class Person:
    """Somebody with a number, a hidden id and one phone (device 0).

    `auto_receipts`: the phone acknowledges delivery by itself; `auto_read`: what arrives is read at once; `by_number`:
    messages carry the phone number as their sender, the hidden id beside it (whatsapp-protocol.md 5.6).
    """

    def __init__(self, server: WhatsApp, pn: Jid, lid: Jid, name: str) -> None:
        self.server = server
        self.pn = pn
        self.lid = lid
        self.name = name
        self.inbox = Inbox()
        self.auto_receipts = True
        self.auto_read = False
        self.by_number = False
        self.identity = KeyPair()
        self._signed = PreKey(1)
        self._signature = self.identity.sign(b"\x05" + self._signed.pair.public)
        self._one_time: dict[int, PreKey] = {}
        self._key_number = 0
        self._sessions: dict[bytes, list[Session]] = {}  # by the device's identity, newest last
        self._accepted: set[bytes] = set()  # base keys

    # --- keys ---------------------------------------------------------------------------------

    def bundle_node(self, jid: Jid) -> Node:
        """Their phone's <user> in the answer to a pre-key query, with a fresh one-time key."""
        self._key_number += 1
        fresh = self._one_time[self._key_number] = PreKey(self._key_number)
        signed = public_key(self._signed.id, self._signed.pair.public)
        return node(
            "user",
            node("registration", REGISTRATION_ID.to_bytes(4, "big")),
            node("type", b"\x05"),
            node("identity", self.identity.public),
            node("skey", *signed, node("signature", self._signature)),
            node("key", *public_key(fresh.id, fresh.pair.public)),
            jid=jid,
        )

    def encrypt(self, device: Device, content: bytes) -> tuple[str, bytes]:
        """Encrypt a waE2E.Message for a device, in the session in which it wrote last."""
        sessions = self._sessions.get(device.keys.identity) or self._begin_session(device)
        return sessions[-1].encrypt(content)

    def _begin_session(self, device: Device) -> list[Session]:
        sessions = self._sessions.setdefault(device.keys.identity, [])
        sessions.append(Session.initiate(self.identity, device.keys.bundle()))
        return sessions

    def decrypt(self, device: Device, kind: str, message: bytes) -> bytes:
        """Decrypt what a device sent; either side may have begun another session meanwhile, so all are tried."""
        sessions = self._sessions.setdefault(device.keys.identity, [])
        if kind == "pkmsg":
            header = pb.decode(message[1:])
            base = pb.data(header, 2)
            if base not in self._accepted:
                session = Session.accept(self.identity, self._signed, self._one_time, message)
                plain = session.decrypt(kind, message)
                self._accepted.add(base)
                self._one_time.pop(pb.number(header, 1), None)
                sessions.append(session)
                return plain
        for session in reversed(sessions):
            try:
                plain = session.decrypt(kind, message)
            except ValueError:
                continue
            sessions.remove(session)
            sessions.append(session)  # the one they use is the one to answer in
            return plain
        raise ValueError(f"{self.name} cannot read a {kind}: none of {len(sessions)} sessions fits")

    # --- writing ------------------------------------------------------------------------------

    async def send_text(self, account: Account, text: str, *, id: str = "") -> str:  # noqa: A002
        """Write to an account; queued while its device is away.  The message's id."""
        return await self.send(account, {1: text}, id=id, text=text)

    async def send(
        self,
        account: Account,
        content: pb.Message,
        *,
        id: str = "",  # noqa: A002
        text: str = "",
        garbled: bool = False,
    ) -> str:
        """Send a waE2E.Message, given by field number; garbled, the device cannot read it and asks again."""
        ident, encoded = id or self.server.next_id(), pb.encode(content)
        self.server.ledger.sent(account, self.pn.user, ident, text)
        address: Mapping[str, Value] = {"from_": self.lid, "sender_pn": self.pn}
        if self.by_number:
            address = {"from_": self.pn, "sender_lid": self.lid}
        for device in account.devices.values():
            self._post(device, encoded, garbled=garbled, id=ident, **address)
        await asyncio.sleep(0)  # who sends a thousand lets the connections run
        return ident

    def _post(
        self, device: Device, content: bytes, *, garbled: bool = False, **attrs: Value
    ) -> None:
        def stanza(count: int | None = None) -> Node:
            if count is not None:  # whatsapp-protocol.md 5.6: a resend begins a new session
                self._begin_session(device)
            kind, ciphertext = self.encrypt(device, content)
            if garbled and count is None:
                ciphertext = ciphertext[:-1] + bytes((ciphertext[-1] ^ 1,))
            enc = node("enc", ciphertext, v=2, type_=kind, count=count)
            return node("message", enc, t=now(), type_="text", notify=self.name, **attrs)

        device.post(Envelope(stanza(), stanza))

    async def send_receipt(self, account: Account, ident: str, kind: str = "delivery") -> None:
        """Tell an account that its message was delivered, read or played; queued while its device is away."""
        if kind not in RECEIPT_KINDS:
            raise ValueError(f"a receipt's kind is one of {RECEIPT_KINDS}, not {kind!r}")
        self.send_receipt_now(account, ident, kind)

    def send_receipt_now(self, account: Account, ident: str, kind: str) -> None:
        """The same without waiting."""
        word = None if kind == "delivery" else kind
        self.server.ledger.receipt_sent(account, ident, kind, self.pn.user)
        for device in account.devices.values():
            stanza = node("receipt", id=ident, from_=self.lid, type_=word, t=now())
            device.post(Envelope(stanza))

    # --- reading ------------------------------------------------------------------------------

    def take(self, account: Account, ident: str, content: bytes) -> None:
        """A message arrived and was decrypted."""
        self.inbox.add(Received(account, ident, text_of(content), content))
        if self.auto_receipts:
            self.send_receipt_now(account, ident, "delivery")
        if self.auto_read:
            self.send_receipt_now(account, ident, "read")

    async def received(
        self,
        account: Account,
        *,
        text: str | None = None,
        ident: str | None = None,
        timeout: float = 10,
    ) -> Received:
        """Wait for a message of the account; the first one that fits."""
        what = f"message {text or ident or ''!r} from {account.name} to {self.name}"
        return await self.server.news.until(
            lambda: self.inbox.find(account, ident, text),
            timeout,
            what,
            lambda: [message.text for message in self.inbox[-10:]] or "no message",
        )


class Peer(Person):
    """An ordinary user, with nothing but a phone."""


def text_of(content: bytes) -> str:
    """The text of a waE2E.Message: conversation (1) or extendedTextMessage (6) text (1)."""
    fields = pb.decode(content)
    if 1 in fields:
        return pb.data(fields, 1).decode()
    if 6 in fields:
        return pb.data(pb.decode(pb.data(fields, 6)), 1).decode()
    return ""
