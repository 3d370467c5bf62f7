"""Delivery of a message that a device under test sends to all its recipients."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.whatsapp.contents import text_of
from tests.whatsapp.device import Device, Envelope
from tests.whatsapp.groups import Group
from tests.whatsapp.people import Person
from tests.whatsapp.wire import STATUS, Jid, Node, Value, node

if TYPE_CHECKING:
    from tests.whatsapp.server import WhatsApp

Copies = list[tuple[Jid, Node]]


def deliver(server: WhatsApp, device: Device, message: Node) -> None:
    """Deliver a message; a repeated frame is only counted (docs/internals/whatsapp-protocol.md#sending)."""
    account, ident, to = device.account, message.get("id"), message.jid("to")
    account.last_message = message
    if account.acks_messages:
        error = account.ack_error
        ack = node("ack", class_="message", id=ident, from_=to, t=server.now(), error=error)
        device.send_later(ack, account.ack_delay)
    single = message.child("enc")
    if message.get("category") == "peer":
        _to_own_phone(server, device, message)
        return
    if single is not None and single.get("count"):
        _once_more(server, device, message, single)
        return
    if not server.is_new(account, ident):
        server.ledger.repeated(account, ident)
        return
    phones, devices = _copies(message)
    group = server.groups.get(to)
    if to == STATUS:
        _to_contacts(server, device, message, phones)
    elif group is not None:
        _to_group(server, device, message, group, phones, devices)
    else:
        _to_people(server, device, message, phones, devices)
    server.news.notify()


def _to_own_phone(server: WhatsApp, device: Device, message: Node) -> None:
    """A device sends a request to its phone (whatsmeow send.go, preparePeerMessageNode)."""
    account, ident, enc = device.account, message.get("id"), message.child("enc")
    if enc is None or server.person(message.jid("to")) is not account.phone:
        raise ValueError(f"{device.jid} sends a peer message that is not for its phone: {message}")
    if not server.is_new(account, ident):
        server.ledger.repeated(account, ident)
        return
    plain = account.phone.keys.decrypt(device, enc.get("type"), enc.content())
    account.phone.take_question(device, ident, plain)
    server.news.notify()


def _copies(message: Node) -> tuple[Copies, Copies]:
    """The ciphertexts for each phone, and for each linked device."""
    phones: Copies = []
    devices: Copies = []
    for copy in (message.child("participants") or message).children:
        enc = copy.child("enc")
        if copy.tag == "to" and enc is not None:
            jid = copy.jid("jid")
            (devices if jid.device else phones).append((jid, enc))
    return phones, devices


def _once_more(server: WhatsApp, device: Device, message: Node, enc: Node) -> None:
    """A recipient could not decrypt it and asked again; in a group the key is included (whatsmeow's retry.go)."""
    to = message.jid("to")
    group = to if to in server.groups else None
    reader = _reader(server, device, message.jid("participant") if group else to)
    plain = reader.keys.decrypt(device, enc.get("type"), enc.content())
    if group is not None:
        reader.keys.learn(group, device, plain)
    reader.take(device.account, message.get("id"), plain, group)
    server.news.notify()


def _reader(server: WhatsApp, device: Device, jid: Jid) -> Person:
    person = server.person(jid)
    if person is None:
        raise ValueError(f"{device.jid} writes to {jid}, which is not on this WhatsApp")
    return person


# --- one to one -------------------------------------------------------------------------------


def _to_people(
    server: WhatsApp, device: Device, message: Node, phones: Copies, devices: Copies
) -> None:
    ident, to = message.get("id"), message.jid("to")
    text = ""
    for jid, enc in phones:  # first, since they can read it
        text = _to_phone(server, device, ident, jid, enc) or text
    recipient = server.person(to)
    server.ledger.received(device.account, ident, recipient.pn.user if recipient else to.user, text)
    for jid, enc in devices:
        _to_device(server, device, message, jid, enc, text)


def _to_phone(server: WhatsApp, device: Device, ident: str, jid: Jid, enc: Node) -> str:
    """Let a phone read its copy; the text."""
    person = _reader(server, device, jid)
    plain = person.keys.decrypt(device, enc.get("type"), enc.content())
    phone = device.account.phone
    if person is phone:
        phone.take_copy(ident, plain)
        return phone.copies[-1].text
    person.take(device.account, ident, plain)
    return text_of(plain)


def _to_device(
    server: WhatsApp, device: Device, message: Node, jid: Jid, enc: Node, text: str
) -> None:
    """Pass a copy on to another device under test, unchanged; a device that was removed meanwhile gets none."""
    other = server.device(jid)
    if other is None:
        return
    sender = device.account
    attrs: dict[str, Value] = {"from_": device.lid}
    if other.account is sender:  # a message of this account, synced to another device
        to = message.jid("to")
        person = server.person(to)
        attrs |= {"recipient": to, "peer_recipient_pn": person.pn if person else None}
    else:
        attrs |= {"sender_pn": device.jid}
    _pass_on(server, device, other, message, [enc], text, **attrs)


def _pass_on(
    server: WhatsApp,
    device: Device,
    other: Device,
    message: Node,
    parts: list[Node],
    text: str,
    **attrs: Value,
) -> None:
    sender, ident = device.account, message.get("id")
    identity = message.child("device-identity")
    if identity is not None and any(part.get("type") == "pkmsg" for part in parts):
        parts = [*parts, identity]
    server.ledger.sent(other.account, sender.pn.user, ident, text)
    stanza = node(
        "message", *parts, id=ident, t=server.now(), type_=message.get("type"), notify=sender.name,
        **attrs,
    )  # fmt: skip
    other.post(Envelope(stanza))


# --- statuses ---------------------------------------------------------------------------------


def _to_contacts(server: WhatsApp, device: Device, message: Node, phones: Copies) -> None:
    """A status: as in a group, but its readers are those that the device has chosen (whatsmeow broadcast.go)."""
    account, ident, common = device.account, message.get("id"), message.child("enc")
    if common is None:
        raise ValueError(f"{device.jid} posts a status and says nothing")
    text = ""
    for jid, enc in phones:
        person = _reader(server, device, jid)
        plain = person.keys.decrypt(device, enc.get("type"), enc.content())
        person.keys.learn(STATUS, device, plain)
        content = person.keys.decrypt_group(STATUS, device, common.content())
        text = text_of(content)
        if person is account.phone:
            person.keep_copy(ident, content, STATUS)
        else:
            person.take(account, ident, content, STATUS)
    server.ledger.received(account, ident, STATUS.user, text)


# --- groups -----------------------------------------------------------------------------------


def _to_group(
    server: WhatsApp,
    device: Device,
    message: Node,
    group: Group,
    phones: Copies,
    devices: Copies,
) -> None:
    """The copies contain the key with which all members read the one message.

    See docs/internals/whatsapp-protocol.md#sending.
    """
    account, ident = device.account, message.get("id")
    for jid, enc in phones:
        person = _reader(server, device, jid)
        plain = person.keys.decrypt(device, enc.get("type"), enc.content())
        person.keys.learn(group.jid, device, plain)
    common = message.child("enc")
    if common is None:
        raise ValueError(f"{device.jid} writes to the group {group.jid} and says nothing")
    text = ""
    for member in group.members:
        plain = member.keys.decrypt_group(group.jid, device, common.content())
        text = text_of(plain)
        if member is account.phone:
            member.keep_copy(ident, plain, group.jid)
        else:
            member.take(account, ident, plain, group.jid)
    server.ledger.received(account, ident, group.jid.user, text)
    keys = {jid.bare().of_device(jid.device): enc for jid, enc in devices}
    origin = group.origin(account.phone, device.number)
    for other in (d for a in group.accounts() for d in a.devices.values() if d is not device):
        address = other.jid if group.by_number else other.lid
        own = keys.get(address)
        parts = [common] if own is None else [own, common]
        _pass_on(server, device, other, message, parts, text, **origin)
