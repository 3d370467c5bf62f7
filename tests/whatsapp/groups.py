"""Groups: their members, notifications, and the delivery of a member's message."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from tests.whatsapp import contents, pb
from tests.whatsapp.contents import StanzaKind
from tests.whatsapp.device import Device, Envelope
from tests.whatsapp.people import Person, enc_node
from tests.whatsapp.wire import Jid, Node, Value, as_bytes, node

if TYPE_CHECKING:
    from tests.whatsapp.account import Account
    from tests.whatsapp.server import WhatsApp

GROUPS = Jid("", "g.us")


class Group:
    """A group; the first member created it.  `by_number`: members are identified by phone number, not by LID."""

    def __init__(
        self,
        server: WhatsApp,
        jid: Jid,
        subject: str,
        members: Iterable[Person],
        *,
        by_number: bool,
    ) -> None:
        self.server = server
        self.jid = jid
        self.subject = subject
        self.by_number = by_number
        self.members = list(members)
        self.created = server.now()

    description = ""
    """Nothing, or what it is about."""

    shown_as: str | None = None
    """How its members are called in it, where they are called otherwise than by themselves."""

    admins_only = False
    """Whether only its admins may write."""

    @property
    def owner(self) -> Person:
        """Its creator."""
        return self.members[0]

    def accounts(self) -> list[Account]:
        """The members that are accounts under test."""
        found = (self.server.account(member.pn) for member in self.members)
        return [account for account in found if account is not None]

    # --- addresses ----------------------------------------------------------------------------

    def address(self, member: Person) -> Jid:
        """A member's address here."""
        return member.pn if self.by_number else member.lid

    def origin(self, member: Person, number: int = 0) -> Mapping[str, Value]:
        """The attributes of a stanza that a member's device sends to it."""
        other = "participant_lid" if self.by_number else "participant_pn"
        alternative = member.lid if self.by_number else member.pn
        return {
            "from_": self.jid,
            "participant": self.address(member).of_device(number),
            other: alternative.of_device(number) if member.addressing.both else None,
            "addressing_mode": "pn" if self.by_number else "lid",
        }

    def _participant(self, member: Person, **attrs: Value) -> Node:
        other = {"lid": member.lid} if self.by_number else {"phone_number": member.pn}
        return node(
            "participant", jid=self.address(member), display_name=self.shown_as, **other, **attrs
        )

    def info(self) -> Node:
        """The <group> of a query's answer."""
        members = [
            self._participant(m, type_="superadmin" if m is self.owner else None)
            for m in self.members
        ]
        settings = [node("announcement")] if self.admins_only else []
        if self.description:
            settings.append(self._description(self.owner))
        return node(
            "group", *members, *settings, id=self.jid.user, subject=self.subject, creation=self.created,
            creator=self.address(self.owner), s_t=self.created, s_o=self.address(self.owner),
            addressing_mode="pn" if self.by_number else "lid", size=len(members),
        )  # fmt: skip

    # --- changes ------------------------------------------------------------------------------

    def announce(self) -> None:
        """Notify all members of its creation and their membership."""
        self._announce(node("create", self.info(), type_="new"), self.owner)

    def add(self, member: Person) -> None:
        """Add a member."""
        self.members.append(member)
        self._announce(node("add", self._participant(member)), self.owner)

    def remove(self, member: Person) -> None:
        """Remove a member, who cannot read later messages."""
        self._announce(node("remove", self._participant(member)), self.owner)
        self.members.remove(member)
        for other in self.members:
            other.keys.forget_sender_key(self.jid)

    def rename(self, subject: str, by: Person) -> None:
        """Change the subject."""
        self.subject = subject
        at, who = self.server.now(), self.address(by)
        self._announce(node("subject", subject=subject, s_t=at, s_o=who), by)

    def describe(self, description: str, by: Person) -> None:
        """Change the description."""
        self.description = description
        self._announce(self._description(by), by)

    def _description(self, by: Person) -> Node:
        body = node("body", as_bytes(self.description))
        who, at = self.address(by), self.server.now()
        return node("description", body, id=self.server.next_id(), participant=who, t=at)

    def _announce(self, change: Node, by: Person) -> None:
        for account in self.accounts():
            account.notify(change, "w:gp2", notify=by.name, **self.origin(by))

    # --- messages -----------------------------------------------------------------------------

    def deliver(
        self, sender: Person, ident: str, content: bytes, kind: StanzaKind, *, garbled: bool = False
    ) -> None:
        """A member's phone writes: one ciphertext for all, and its key for the devices that do not have it yet."""
        if sender not in self.members:
            raise ValueError(f"{sender.name} is not in the group {self.subject!r}")
        for member in self.members:
            member.remember(ident, content)
        key = sender.keys.sender_key(self.jid)
        distribution = {2: {1: str(self.jid), 2: key.distribution()}}
        common = enc_node("skmsg", key.encrypt(content), kind, garbled=garbled)
        for account in self.accounts():
            self.server.ledger.sent(account, sender.pn.user, ident, contents.text_of(content))
            for device in account.devices.values():
                self._post(sender, device, ident, kind, common, distribution, content)

    def _post(
        self,
        sender: Person,
        device: Device,
        ident: str,
        kind: StanzaKind,
        common: Node,
        distribution: pb.Message,
        content: bytes,
    ) -> None:
        key, keys = sender.keys.sender_key(self.jid), sender.keys
        at = self.server.now()

        def direct(count: int | None = None) -> Node:
            """For a device that could not decrypt it: the key and the content in one, encrypted for it alone."""
            if count is not None:
                keys.begin_session(device)
            word, ciphertext = keys.encrypt(device, pb.encode(distribution) + content)
            enc = enc_node(word, ciphertext, kind, count)
            return sender.message_node(ident, kind, enc, t=at, **self.origin(sender))

        parts = [common]
        if device.keys.identity not in key.sent_to:
            key.sent_to.add(device.keys.identity)
            parts.insert(0, enc_node(*keys.encrypt(device, pb.encode(distribution)), kind))
        stanza = sender.message_node(ident, kind, *parts, t=at, **self.origin(sender))
        device.post(Envelope(stanza, direct))
