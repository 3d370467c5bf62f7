"""What becomes of the stanzas of a logged-in device: messages and receipts go to whom they are for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.whatsapp import queries
from tests.whatsapp.device import Device, Envelope
from tests.whatsapp.people import text_of
from tests.whatsapp.wire import Jid, Node, node, now

if TYPE_CHECKING:
    from tests.whatsapp.server import WhatsApp


def handle(server: WhatsApp, device: Device, stanza: Node) -> None:
    """One stanza; presence, chat states and answers to our queries need nothing."""
    match stanza.tag:
        case "iq" if stanza.get("type") in ("get", "set"):
            if device.account.answers_queries:
                device.send(queries.answer(server, device, stanza))
        case "message":
            _message(server, device, stanza)
        case "receipt":
            _receipt(server, device, stanza)
        case "ack":
            _ack(device, stanza)


# --- acknowledgements -------------------------------------------------------------------------


def _receipt(server: WhatsApp, device: Device, receipt: Node) -> None:
    kind, ident = receipt.get("type") or "delivery", receipt.get("id")
    retry = receipt.child("retry")
    if retry is not None:
        device.wants_again(ident, int(retry.get("count")))
    else:
        more = receipt.child("list")
        for one in (ident, *(item.get("id") for item in (more.children if more else ()))):
            device.acknowledged(("message", one, ""))
            server.ledger.receipted(device.account, one, kind, device.number)
            _forward_receipt(server, device, receipt, one, kind)
    to = receipt.jid("to")
    device.send(node("ack", class_="receipt", id=ident, from_=to, type_=kind, t=now()))


def _forward_receipt(
    server: WhatsApp, device: Device, receipt: Node, ident: str, kind: str
) -> None:
    """An account that wrote to another one learns that it was read; that it was delivered said the phone."""
    sender = server.account(receipt.jid("to"))
    if sender is not None and sender is not device.account and kind in ("read", "played"):
        device.account.phone.send_receipt_now(sender, ident, kind)


def _ack(device: Device, ack: Node) -> None:
    if ack.get("class") == "message":
        device.refused(ack.get("id"))
    else:
        device.acknowledged((ack.get("class"), ack.get("id"), ack.get("type")))


# --- messages ---------------------------------------------------------------------------------


def _message(server: WhatsApp, device: Device, message: Node) -> None:
    """Hand a message to everybody it is for; a frame that comes again is only counted (whatsapp-protocol.md 9.2)."""
    account, ident, to = device.account, message.get("id"), message.jid("to")
    if account.acks_messages:
        device.send(node("ack", class_="message", id=ident, from_=to, t=now()))
    if not server.is_new(account, ident):
        server.ledger.repeated(account, ident)
        return
    phones: list[tuple[Jid, Node]] = []
    devices: list[tuple[Jid, Node]] = []
    for copy in (message.child("participants") or message).children:
        enc = copy.child("enc")
        if copy.tag == "to" and enc is not None:
            jid = copy.jid("jid")
            (devices if jid.device else phones).append((jid, enc))
    text = ""
    for jid, enc in phones:  # first, since they can read it
        text = _to_phone(server, device, ident, jid, enc) or text
    recipient = server.person(to)
    server.ledger.received(account, ident, recipient.pn.user if recipient else to.user, text)
    for jid, enc in devices:
        _to_device(server, device, message, jid, enc, text)
    server.news.tell()


def _to_phone(server: WhatsApp, device: Device, ident: str, jid: Jid, enc: Node) -> str:
    """Let somebody's phone read its copy; the text."""
    person = server.person(jid)
    if person is None:
        raise ValueError(f"{device.jid} writes to {jid}, who is not on this WhatsApp")
    plain = person.decrypt(device, enc.get("type"), enc.content())
    phone = device.account.phone
    if person is phone:
        phone.take_copy(ident, plain)
        return phone.copies[-1].text
    person.take(device.account, ident, plain)
    return text_of(plain)


def _to_device(
    server: WhatsApp, device: Device, message: Node, jid: Jid, enc: Node, text: str
) -> None:
    """Pass a copy on to another device under test, as it is; one that was removed meanwhile gets none."""
    other = server.device(jid)
    if other is None:
        return
    sender, ident = device.account, message.get("id")
    content = [enc]
    identity = message.child("device-identity")
    if enc.get("type") == "pkmsg" and identity is not None:
        content.append(identity)
    server.ledger.sent(other.account, sender.pn.user, ident, text)
    stanza = node(
        "message", *content, id=ident, t=now(), type_="text", from_=device.lid, notify=sender.name
    )
    if other.account is sender:  # what this account sent from one device, told to another
        to = message.jid("to")
        person = server.person(to)
        stanza.attrs["recipient"] = to
        if person is not None:
            stanza.attrs["peer_recipient_pn"] = person.pn
    else:
        stanza.attrs["sender_pn"] = device.jid
    other.post(Envelope(stanza))
