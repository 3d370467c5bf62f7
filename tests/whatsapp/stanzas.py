"""Handling the stanzas of a logged-in device, and its receipts and acknowledgements."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.whatsapp import delivery, queries
from tests.whatsapp.device import Device
from tests.whatsapp.wire import SERVER, Node, node

if TYPE_CHECKING:
    from tests.whatsapp.server import WhatsApp


def handle(server: WhatsApp, device: Device, stanza: Node) -> None:
    """One stanza; answers to our queries are ignored."""
    match stanza.tag:
        case "iq" if stanza.get("type") in ("get", "set"):
            account = device.account
            asks = queries.is_number_check(stanza)
            if asks and account.number_error is not None:
                error = node("error", code=account.number_error, text="rate-overlimit")
                ident = stanza.get("id")
                device.send(node("iq", error, type_="error", id=ident, from_=SERVER))
            elif account.answers_queries and (account.answers_numbers or not asks):
                device.send(queries.answer(server, device, stanza))
        case "message":
            delivery.deliver(server, device, stanza)
        case "receipt":
            _receipt(server, device, stanza)
        case "ack":
            _ack(device, stanza)
        case "presence":
            _presence(device, stanza)
        case "chatstate":
            _chat_state(server, device, stanza)


def _presence(device: Device, presence: Node) -> None:
    kind = presence.get("type")
    if kind in ("available", "unavailable"):
        device.account.presence = kind
        device.account.server.news.notify()


def _chat_state(server: WhatsApp, device: Device, state: Node) -> None:
    person = server.person(state.jid("to"))
    if person is not None and state.children:
        shown = state.children[0]
        person.chat_states.append((device.account, shown.get("media") or shown.tag))
        server.news.notify()


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
    device.send(node("ack", class_="receipt", id=ident, from_=to, type_=kind, t=server.now()))


def _forward_receipt(
    server: WhatsApp, device: Device, receipt: Node, ident: str, kind: str
) -> None:
    """An account that wrote to another one gets its read receipt; the phone sent the delivery receipt."""
    sender = server.account(receipt.jid("to"))
    if sender is not None and sender is not device.account and kind in ("read", "played"):
        device.account.phone.send_receipt_now(sender, ident, kind)


def _ack(device: Device, ack: Node) -> None:
    if ack.get("class") == "message":
        device.refused(ack.get("id"))
    else:
        device.acknowledged((ack.get("class"), ack.get("id"), ack.get("type")))
    device.account.server.news.notify()
