"""Who is on this WhatsApp: parties with their keys, peers with an inbox, linked devices."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.whatsapp import pb
from tests.whatsapp.curve import KeyPair, verify
from tests.whatsapp.signal_protocol import Bundle, PreKey, Session
from tests.whatsapp.wire import SERVER, Jid, Node, node

if TYPE_CHECKING:
    from tests.whatsapp.account import Account
    from tests.whatsapp.server import WhatsApp

_REGISTRATION_ID = 4711


def now() -> int:
    """Seconds since 1970."""
    return int(time.time())


def _key(pre_key: PreKey) -> tuple[Node, Node]:
    return node("id", pre_key.id.to_bytes(3, "big")), node("value", pre_key.pair.public)


def _public_key(ident: int, public: bytes) -> tuple[Node, Node]:
    return node("id", ident.to_bytes(3, "big")), node("value", public)


@dataclass(eq=False)
class Device:
    """A linked device, the software under test, as the server knows it from its registration."""

    identity: bytes
    registration: bytes
    signed_id: int
    signed: bytes
    signature: bytes
    number: int = 0
    jid: Jid = SERVER
    lid: Jid = SERVER
    one_time: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def from_registration(cls, registration: bytes) -> Device:
        """From ClientPayload.devicePairingData (whatsapp-protocol.md 4); checks the signed pre-key."""
        data = pb.decode(registration)
        identity, signed_id, signed, signature = (pb.data(data, n) for n in (3, 4, 5, 6))
        if not verify(identity, b"\x05" + signed, signature):
            raise ValueError("the signed pre-key has a bad signature")
        return cls(identity, pb.data(data, 1), int.from_bytes(signed_id, "big"), signed, signature)

    def _next_key(self) -> int | None:
        return min(self.one_time, default=None)

    def bundle(self) -> Bundle:
        """What a party of ours needs to start a session with it; uses up a one-time key."""
        ident = self._next_key()
        one_time = None if ident is None else self.one_time.pop(ident)
        return Bundle(self.identity, self.signed_id, self.signed, ident, one_time)

    def bundle_node(self, jid: Jid) -> Node:
        """The same for another device under test, as a <user> of the answer to a pre-key query."""
        keys = [
            node("registration", self.registration),
            node("type", b"\x05"),
            node("identity", self.identity),
            node(
                "skey", *_public_key(self.signed_id, self.signed), node("signature", self.signature)
            ),
        ]
        ident = self._next_key()
        if ident is not None:
            keys.append(node("key", *_public_key(ident, self.one_time.pop(ident))))
        return node("user", *keys, jid=jid)


@dataclass(eq=False)
class Party:
    """Somebody with a number, a hidden id and one phone (device 0), whose keys we hold."""

    pn: Jid
    lid: Jid
    name: str
    identity: KeyPair = field(default_factory=KeyPair)
    signed: PreKey = field(default_factory=lambda: PreKey(1))
    one_time: dict[int, PreKey] = field(default_factory=dict)
    sessions: dict[bytes, list[Session]] = field(default_factory=dict)
    _bases: set[bytes] = field(default_factory=set)

    def is_at(self, jid: Jid) -> bool:
        """Whether this number or hidden id is theirs."""
        return jid.bare() in (self.pn, self.lid)

    def bundle_node(self, jid: Jid) -> Node:
        """Their phone's <user> in the answer to a pre-key query, with a fresh one-time key."""
        fresh = PreKey(len(self.one_time) + 1)
        self.one_time[fresh.id] = fresh
        signature = self.identity.sign(b"\x05" + self.signed.pair.public)
        return node(
            "user",
            node("registration", _REGISTRATION_ID.to_bytes(4, "big")),
            node("type", b"\x05"),
            node("identity", self.identity.public),
            node("skey", *_key(self.signed), node("signature", signature)),
            node("key", *_key(fresh)),
            jid=jid,
        )

    def encrypt(self, device: Device, content: pb.Message) -> tuple[str, bytes]:
        """Encrypt a waE2E.Message for a device; the newest session is used."""
        sessions = self.sessions.setdefault(device.identity, [])
        if not sessions:
            sessions.append(Session.initiate(self.identity, device.bundle()))
        return sessions[-1].encrypt(pb.encode(content))

    def decrypt(self, device: Device, kind: str, message: bytes) -> bytes:
        """Decrypt what a device sent; either side may have begun another session meanwhile, so all are tried."""
        sessions = self.sessions.setdefault(device.identity, [])
        if kind == "pkmsg":
            base = pb.data(pb.decode(message[1:]), 2)
            if base not in self._bases:
                self._bases.add(base)
                sessions.append(Session.accept(self.identity, self.signed, self.one_time, message))
        for session in reversed(sessions):
            try:
                plain = session.decrypt(kind, message)
            except ValueError:
                continue
            sessions.remove(session)
            sessions.append(session)  # the one they use is the one to answer in
            return plain
        raise ValueError(f"{self.name} cannot read a {kind}: none of {len(sessions)} sessions fits")


@dataclass(frozen=True)
class Received:
    """What a device under test sent to a peer."""

    account: Account
    ident: str
    text: str
    content: bytes


class Peer(Party):
    """An ordinary user.  `auto_receipts`: the phone acknowledges delivery by itself; `auto_read` reads at once."""

    def __init__(self, server: WhatsApp, pn: Jid, lid: Jid, name: str) -> None:
        super().__init__(pn, lid, name)
        self._server = server
        self.inbox: list[Received] = []
        self.auto_receipts = True
        self.auto_read = False

    async def send_text(self, account: Account, text: str, *, ident: str = "") -> str:
        """Write to an account; queued while its device is away.  The message's id."""
        return await self.send(account, {1: text}, ident=ident, text=text)

    async def send(
        self, account: Account, content: pb.Message, *, ident: str = "", text: str = ""
    ) -> str:
        """Send a waE2E.Message, given by field number."""
        ident = ident or self._server.next_id()
        for device in account.devices.values():
            kind, ciphertext = self.encrypt(device, content)
            self._server.ledger.sent(account, self, ident, text)
            stanza = node(
                "message", node("enc", ciphertext, v=2, type_=kind), id=ident, t=now(), type_="text",
                from_=self.lid, sender_pn=self.pn, notify=self.name,
            )  # fmt: skip
            await account.post(stanza)
        return ident

    async def send_receipt(self, account: Account, ident: str, kind: str = "delivery") -> None:
        """Tell an account that its message was delivered, read or played."""
        word = None if kind == "delivery" else kind
        await account.send(node("receipt", id=ident, from_=self.lid, type_=word, t=now()))

    async def received(
        self,
        account: Account,
        *,
        text: str | None = None,
        ident: str | None = None,
        timeout: float = 10,
    ) -> Received:
        """Wait for a message of the account to this peer."""

        def look() -> Received | None:
            for message in self.inbox:
                fits = text in (None, message.text) and ident in (None, message.ident)
                if message.account is account and fits:
                    return message
            return None

        return await self._server.news.until(
            look,
            timeout,
            f"message {text or ident!r} to {self.name}",
            lambda: [m.text for m in self.inbox],
        )

    def take(self, account: Account, ident: str, content: bytes) -> None:
        """A message arrived and was decrypted."""
        self.inbox.append(Received(account, ident, text_of(content), content))


def text_of(content: bytes) -> str:
    """The text of a waE2E.Message: conversation (1) or extendedTextMessage (6) text (1)."""
    fields = pb.decode(content)
    if 1 in fields:
        return pb.data(fields, 1).decode()
    if 6 in fields:
        return pb.data(pb.decode(pb.data(fields, 6)), 1).decode()
    return ""
