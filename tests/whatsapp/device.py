"""A linked device, the software under test: its public keys, its connection, and its queue."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.whatsapp import pb
from tests.whatsapp.curve import verify
from tests.whatsapp.signal_protocol import Bundle
from tests.whatsapp.wire import SERVER, Jid, Node, node

if TYPE_CHECKING:
    from tests.whatsapp.account import Account
    from tests.whatsapp.connection import Connection

_REMEMBERED = 1000

Key = tuple[str, str, str]


def public_key(ident: int, public: bytes) -> tuple[Node, Node]:
    """The content of a <key> or <skey>."""
    return node("id", ident.to_bytes(3, "big")), node("value", public)


@dataclass(eq=False)
class DeviceKeys:
    """The public keys of a device, as it registered and uploaded them."""

    noise: bytes
    identity: bytes
    registration: bytes
    signed_id: int
    signed: bytes
    signature: bytes
    one_time: dict[int, bytes] = field(default_factory=dict)

    @classmethod
    def from_registration(cls, noise: bytes, registration: bytes) -> DeviceKeys:
        """From ClientPayload.devicePairingData.  Raises ValueError for a bad signature.

        See docs/internals/whatsapp-protocol.md#frames-and-noise.
        """
        data = pb.decode(registration)
        identity, signed_id, signed, signature = (pb.data(data, n) for n in (3, 4, 5, 6))
        if not verify(identity, b"\x05" + signed, signature):
            raise ValueError("the signed pre-key has a bad signature")
        number = int.from_bytes(signed_id, "big")
        return cls(noise, identity, pb.data(data, 1), number, signed, signature)

    def upload(self, keys: list[Node]) -> None:
        """The device uploads one-time keys."""
        for key in keys:
            self.one_time[int.from_bytes(key.content("id"), "big")] = key.content("value")

    def _next_key(self) -> tuple[int, bytes] | tuple[None, None]:
        """The oldest one-time key, which is then used up."""
        if not self.one_time:
            return None, None
        ident = next(iter(self.one_time))
        return ident, self.one_time.pop(ident)

    def bundle(self) -> Bundle:
        """The bundle for a phone of ours to start a session with it."""
        return Bundle(self.identity, self.signed_id, self.signed, *self._next_key())

    def bundle_node(self, jid: Jid) -> Node:
        """The same for another device under test: a <user> of the answer to a pre-key query."""
        keys = [
            node("registration", self.registration),
            node("type", b"\x05"),
            node("identity", self.identity),
            node("skey", *public_key(self.signed_id, self.signed), node("signature", self.signature)),
        ]  # fmt: skip
        ident, public = self._next_key()
        if ident is not None and public is not None:
            keys.append(node("key", *public_key(ident, public)))
        return node("user", *keys, jid=jid)


@dataclass
class Envelope:
    """A stanza that waits for a device's acknowledgement.

    `anew` encrypts it again: given the number of a retry for a device that could not decrypt it, without one unchanged.
    """

    stanza: Node
    anew: Callable[[int | None], Node] | None = None

    @property
    def key(self) -> Key:
        """The key of an acknowledgement; a message and several receipts about one message share an id."""
        kind = "" if self.stanza.tag == "message" else self.stanza.get("type")
        return self.stanza.tag, self.stanza.get("id"), kind


class Device:
    """Linked device `number` of an account.  `queue` contains the stanzas that it has not acknowledged."""

    def __init__(self, account: Account, number: int, keys: DeviceKeys) -> None:
        self.account = account
        self.number = number
        self.keys = keys
        self.jid = account.pn.of_device(number)
        self.lid = account.lid.of_device(number)
        self.connection: Connection | None = None
        self.queue: dict[Key, Envelope] = {}
        self._done: dict[str, Envelope] = {}  # the last messages that it acknowledged
        self._held: list[Node] = []  # while the account is silent
        self._refused: dict[str, Envelope] = {}
        self._wanted: dict[str, int] = {}

    def log_in(self, connection: Connection) -> None:
        """Greet it and send its queue, in order; an older connection is replaced.

        See docs/internals/whatsapp-protocol.md#login.
        """
        older, self.connection = self.connection, connection
        if older is not None:
            older.end(node("stream:error", node("conflict", type_="replaced")))
        now = self.account.server.now()
        connection.send(node("success", t=now, lid=self.lid, location="test", creation=now))
        waiting = list(self.queue.values())
        tags = Counter(envelope.stanza.tag for envelope in waiting)
        preview = node(
            "offline_preview", count=len(waiting), message=tags["message"], receipt=tags["receipt"],
            notification=0, appdata=0,
        )  # fmt: skip
        connection.send(node("ib", preview, from_=SERVER))
        for envelope in waiting:
            self._put(envelope.stanza.with_attrs(offline="0"))
        connection.send(node("ib", node("offline", count=len(waiting)), from_=SERVER))

    def logged_off(self, connection: Connection) -> None:
        """A connection of it ended; held stanzas stay in the queue."""
        if self.connection is connection:
            self.connection = None
            self._held.clear()

    def send(self, stanza: Node) -> None:
        """Send a stanza that needs no acknowledgement.  Raises ConnectionError if the device is disconnected.

        A silent account's device gets nothing.
        """
        if self.connection is None:
            raise ConnectionError(f"the device {self.jid} is not connected")
        if self.account.silent:
            return
        self.connection.send(stanza)

    def send_later(self, stanza: Node, delay: float) -> None:
        """The same after a delay in seconds, if it is still connected then."""
        if not delay:
            self.send(stanza)
        elif (connection := self.connection) is not None:
            asyncio.get_running_loop().call_later(delay, self._send_if, connection, stanza)

    def _send_if(self, connection: Connection, stanza: Node) -> None:
        if self.connection is connection:
            with contextlib.suppress(ConnectionError):
                connection.send(stanza)

    def post(self, envelope: Envelope) -> None:
        """Deliver now, or when the device logs in; until it is acknowledged it stays in the queue."""
        self.queue[envelope.key] = envelope
        self._put(envelope.stanza)

    def redeliver(self, ident: str, *, anew: bool = False) -> None:
        """Deliver a message again, the same ciphertext or another one.  Raises ValueError if it is too old."""
        envelope = self.queue.get(("message", ident, "")) or self._done.get(ident)
        if envelope is None:
            raise ValueError(f"{self.jid} got no message {ident} lately")
        self.account.server.ledger.sent_again(self.account, ident)
        if anew:
            if envelope.anew is None:
                raise ValueError(f"{ident} was not encrypted here")
            envelope = Envelope(envelope.anew(None), envelope.anew)
        self.post(envelope)

    def resume(self) -> None:
        """End the silence: held stanzas are sent."""
        held, self._held = self._held, []
        for stanza in held:
            self._put(stanza)

    def _put(self, stanza: Node) -> None:
        if self.account.silent:
            self._held.append(stanza)
            return
        try:
            self.send(stanza)
        except ConnectionError:
            return  # the queue keeps it
        if stanza.tag == "message":
            self.account.server.ledger.on_wire(self.account, stanza.get("id"))

    # --- acknowledgements ---------------------------------------------------------------------

    def acknowledged(self, key: Key) -> Envelope | None:
        """Remove it from the queue, unless the account forgets receipts."""
        if self.account.forgets_receipts:
            return None
        envelope = self.queue.pop(key, None)
        if envelope is not None and envelope.stanza.tag == "message":
            self._done[envelope.stanza.get("id")] = envelope
            if len(self._done) > _REMEMBERED:
                del self._done[next(iter(self._done))]
        return envelope

    def refused(self, ident: str) -> None:
        """The device acknowledged a message without a receipt: it could not decrypt it.

        See docs/internals/whatsapp-protocol.md#receiving.  A message that was not encrypted is never receipted: then
        this is the only answer.
        """
        envelope = self.acknowledged(("message", ident, ""))
        if envelope is None:
            return
        if envelope.stanza.child("enc") is None:
            self.account.server.ledger.receipted(self.account, ident, "ack", self.number)
            return
        self._refused[ident] = envelope
        self._send_anew(ident)

    def wants_again(self, ident: str, count: int) -> None:
        """The device requests a message again.  Its acknowledgement may arrive before or after this."""
        self.account.server.ledger.asked_again(self.account, ident)
        self._wanted[ident] = count
        self._send_anew(ident)

    def _send_anew(self, ident: str) -> None:
        if ident not in self._refused or ident not in self._wanted:
            return
        envelope, count = self._refused.pop(ident), self._wanted.pop(ident)
        if envelope.anew is None:
            raise ValueError(f"{self.jid} cannot read {ident}, and its sender cannot be asked")
        self.post(Envelope(envelope.anew(count), envelope.anew))
