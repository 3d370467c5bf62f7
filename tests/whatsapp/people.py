"""The persons on this test server, with phones whose keys it has; what they send and what they receive."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from tests.whatsapp import contents, pb
from tests.whatsapp.device import Device, Envelope
from tests.whatsapp.inbox import Inbox, Received
from tests.whatsapp.keyring import Keyring
from tests.whatsapp.signal_protocol import REGISTRATION_ID
from tests.whatsapp.wire import Jid, Node, Value, node

if TYPE_CHECKING:
    from tests.whatsapp.account import Account
    from tests.whatsapp.groups import Group
    from tests.whatsapp.server import WhatsApp

RECEIPT_KINDS = ("delivery", "read", "played")
# Kinds without a name in the library; each ends its event pump (docs/internals/library.md#events).
FATAL_RECEIPT_KINDS = ("server-error", "enc_rekey_retry", "unheard-of")
_REMEMBERED = 1000  # secrets of messages


class Addressing(StrEnum):
    """The address from which a message is sent, and whether the other one is included.

    See docs/internals/whatsapp-protocol.md#receiving.
    """

    LID_WITH_PN = "lid+pn"
    LID = "lid"
    PN_WITH_LID = "pn+lid"
    PN = "pn"

    @property
    def by_number(self) -> bool:
        """Whether the phone number is the sender."""
        return self in (Addressing.PN, Addressing.PN_WITH_LID)

    @property
    def both(self) -> bool:
        """Whether the other address is included as well."""
        return self in (Addressing.LID_WITH_PN, Addressing.PN_WITH_LID)


class Person:
    """A person with a phone number, a LID and one phone (device 0).

    `auto_receipts`: the phone acknowledges delivery automatically; `auto_read`: messages are read on arrival;
    `addressing`: the address from which their messages are sent.  `chat_states`: what accounts showed them:
    "composing", "audio", "paused".  `cannot_read`: the number of next messages that they cannot decrypt, and request
    again.  `sends_again`: a garbled message can be decrypted when a device asks for it again.  `adds_secrets`: ordinary
    messages have a messageSecret, as real ones do; it costs the library one more commit for each.
    """

    def __init__(self, server: WhatsApp, pn: Jid, lid: Jid, name: str) -> None:
        self.server = server
        self.pn = pn
        self.lid = lid
        self.name = name
        self.keys = Keyring()
        self.inbox = Inbox()
        self.chat_states: list[tuple[Account, str]] = []
        self.auto_receipts = True
        self.auto_read = False
        self.cannot_read = 0
        self.sends_again = True
        self.adds_secrets = True
        self.addressing = Addressing.LID_WITH_PN
        self._secrets: dict[str, bytes] = {}  # by message id, of the last messages seen

    @property
    def address(self) -> Jid:
        """The address from which their messages are sent."""
        return self.pn if self.addressing.by_number else self.lid

    def origin(self) -> Mapping[str, Value]:
        """The attributes of a stanza from them."""
        name, other = (
            ("sender_lid", self.lid) if self.addressing.by_number else ("sender_pn", self.pn)
        )
        return {"from_": self.address, name: other if self.addressing.both else None}

    # --- writing ------------------------------------------------------------------------------

    async def send_text(self, to: Account | Group, text: str, *, id: str = "") -> str:  # noqa: A002
        """Write to an account or a group; queued while a device is disconnected.  Returns the message's id."""
        return await self.send(to, contents.text(text), id=id)

    async def send(
        self,
        to: Account | Group,
        content: pb.Message,
        *,
        id: str = "",  # noqa: A002
        garbled: bool = False,
    ) -> str:
        """Send a waE2E.Message, given by field number; garbled, no device can read it and each asks again."""
        ident = id or self.server.next_id()
        content = contents.with_secret(content) if self.adds_secrets else content
        encoded = pb.encode(content)
        kind = contents.stanza_kind(content)
        to.deliver(self, ident, encoded, kind, garbled=garbled)
        await asyncio.sleep(0)  # a sender of a thousand lets the connections run
        return ident

    def post(
        self,
        device: Device,
        ident: str,
        content: bytes,
        kind: contents.StanzaKind = contents.PLAIN,
        *,
        garbled: bool = False,
        **attrs: Value,
    ) -> None:
        """Send an encoded message to one device, encrypted for it alone; sent again, it keeps its time."""
        at = self.server.now()

        def stanza(count: int | None = None) -> Node:
            if count is not None:
                # A resend starts a new session (docs/internals/whatsapp-protocol.md#receiving).
                self.keys.begin_session(device)
            word, ciphertext = self.keys.encrypt(device, content)
            spoiled = garbled and not (count and self.sends_again)
            enc = enc_node(word, ciphertext, kind, count, garbled=spoiled)
            return self.message_node(ident, kind, enc, **{"t": at, **attrs})

        device.post(Envelope(stanza(), stanza))

    def message_node(
        self, ident: str, kind: contents.StanzaKind, *parts: Node, **attrs: Value
    ) -> Node:
        """The <message> around the ciphertext."""
        return node(
            "message", *parts, id=ident, type_=kind.type, edit=kind.edit, notify=self.name,
            **{"t": self.server.now(), **attrs},
        )  # fmt: skip

    async def send_receipt(
        self, account: Account, ident: str, kind: str = "delivery", *, group: Group | None = None
    ) -> None:
        """Send a receipt: delivered, read or played; queued while the account's device is disconnected.

        A kind of FATAL_RECEIPT_KINDS is sent as well.
        """
        kinds = (*RECEIPT_KINDS, *FATAL_RECEIPT_KINDS)
        if kind not in kinds:
            raise ValueError(f"a receipt's kind is one of {kinds}, not {kind!r}")
        self.send_receipt_now(account, ident, kind, group.jid if group else None)

    def send_receipt_now(
        self, account: Account, ident: str, kind: str, group: Jid | None = None
    ) -> None:
        """The same without waiting."""
        word = None if kind == "delivery" else kind
        self.server.ledger.receipt_sent(account, ident, kind, self.pn.user)
        self._post_receipt(account, ident, word, group)

    def ask_again(self, account: Account, ident: str, group: Jid | None = None) -> None:
        """Report to an account that its message cannot be decrypted (whatsmeow's retry.go)."""
        retry = node("retry", count=1, id=ident, t=self.server.now(), v=1)
        registration = node("registration", REGISTRATION_ID.to_bytes(4, "big"))
        self._post_receipt(account, ident, "retry", group, retry, registration)

    def _post_receipt(
        self, account: Account, ident: str, word: str | None, group: Jid | None, *more: Node
    ) -> None:
        address = {"from_": group or self.lid, "participant": self.lid if group else None}
        for device in account.devices.values():
            stanza = node("receipt", *more, id=ident, type_=word, t=self.server.now(), **address)
            device.post(Envelope(stanza))

    # --- reading ------------------------------------------------------------------------------

    def keep_copy(self, ident: str, message: bytes, group: Jid | None = None) -> None:
        """A linked device of theirs sent a message: only accounts have linked devices.  Raises ValueError."""
        raise ValueError(f"{self.name} has no linked device that could send {ident}")

    def take(self, account: Account, ident: str, content: bytes, group: Jid | None = None) -> None:
        """A message arrived and was decrypted."""
        if self.cannot_read:
            self.cannot_read -= 1
            self.ask_again(account, ident, group)
            return
        self.remember(ident, content)
        self.inbox.add(Received(account, ident, contents.text_of(content), content, group))
        if self.auto_receipts:
            self.send_receipt_now(account, ident, "delivery", group)
        if self.auto_read:
            self.send_receipt_now(account, ident, "read", group)

    def remember(self, ident: str, content: bytes) -> None:
        """Store a message's secret: a vote needs that of its poll."""
        if secret := contents.secret_of(content):
            self._secrets[ident] = secret
            if len(self._secrets) > _REMEMBERED:
                del self._secrets[next(iter(self._secrets))]

    def secret(self, ident: str) -> bytes:
        """The secret of a message that they received.  Raises ValueError."""
        if ident not in self._secrets:
            raise ValueError(f"{self.name} has seen no message {ident} with a secret")
        return self._secrets[ident]

    async def received(
        self,
        account: Account,
        *,
        text: str | None = None,
        ident: str | None = None,
        timeout: float = 30,
    ) -> Received:
        """Wait for a message of the account; the first match."""
        what = f"message {text or ident or ''!r} from {account.name} to {self.name}"
        return await self.server.news.until(
            lambda: self.inbox.find(account, ident, text),
            timeout,
            what,
            lambda: [message.text for message in self.inbox[-10:]] or "no message",
        )


def enc_node(
    word: str,
    ciphertext: bytes,
    kind: contents.StanzaKind,
    count: int | None = None,
    *,
    garbled: bool = False,
) -> Node:
    """An <enc>; garbled, its MAC or signature is wrong."""
    if garbled:
        ciphertext = ciphertext[:-1] + bytes((ciphertext[-1] ^ 1,))
    return node(
        "enc", ciphertext, v=2, type_=word, count=count, mediatype=kind.mediatype,
        **{"decrypt-fail": "hide" if kind.hidden else None},
    )  # fmt: skip
