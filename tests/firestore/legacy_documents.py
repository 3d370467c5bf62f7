"""Documents as the replaced backend and its functions write them, to the field.

See docs/internals/replaced-backend.md#documents.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from tests.contracts.world import ACC, ANN, ANN_LID, ANN_LID_THREAD, ANN_THREAD
from tests.firestore.stores import Console, Document

OBJECT_THREAD: Final = f"{ACC}__[object Object]"


def moment(ms: int) -> datetime:
    """A Timestamp."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def of_m(
    wa_id: str, at_ms: int, body: str = "hello", *, jid: str = str(ANN), out: bool = False
) -> Document:
    """A message as revision M writes it, under the WhatsApp id."""
    return {
        "accountId": ACC, "clientJid": jid, "threadId": f"{ACC}__{jid}", "body": body, "messageType": "text",
        "direction": "outbound" if out else "inbound", "tsClient": moment(at_ms), "createdAt": moment(at_ms),
        "updatedAt": moment(at_ms), "senderName": "Ann", "status": "sent" if out else "delivered",
        "syncSource": "realtime",
        "key": {"id": wa_id, "remoteJid": jid, "fromMe": out, "timestamp": at_ms // 1000},
    }  # fmt: skip


def of_s(wa_id: str, at_ms: int, body: str = "hello") -> Document:
    """A message as revision S writes it, with its bug: the address is an object."""
    return of_m(wa_id, at_ms, body) | {
        "clientJid": {"canonicalJid": str(ANN), "peerType": "user"}, "threadId": OBJECT_THREAD, "rawJid": str(ANN),
        "clientJidRaw": str(ANN), "waMessageIdRaw": wa_id, "tsClientMs": at_ms, "tsServer": moment(at_ms),
        "ingestedAt": moment(at_ms), "createdAtMs": at_ms, "stableKeyHash": "a50b36ba", "fingerprintHash": "5763a2dc",
        "normalizedPhone": f"+{ANN.user}", "peerType": "user", "isGroup": False,
    }  # fmt: skip


def of_a_function(at_ms: int, body: str = "answer", *, wa_id: str = "") -> Document:
    """A message as the proxy writes it for a send request: its time is a text."""
    iso = moment(at_ms).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    document: Document = {
        "accountId": ACC, "clientJid": str(ANN), "direction": "outbound", "body": body, "status": "sent",
        "tsClient": iso, "tsServer": moment(at_ms), "createdAt": moment(at_ms), "createdAtMs": float(at_ms),
        "messageType": "text", "clientMessageId": f"app-{at_ms}",
    }  # fmt: skip
    return document | ({"providerMessageId": wa_id} if wa_id else {})


def a_receipt(status: str, at_ms: int) -> Document:
    """The document of a status update without a message of that id."""
    return {"status": status, "updatedAt": moment(at_ms)}


def a_thread(at_ms: int, *, jid: Any = str(ANN), text: str = "hello") -> Document:
    """A thread as revision M writes it."""
    return {
        "accountId": ACC, "clientJid": jid, "isLid": str(jid).endswith("@lid"), "displayName": "Ann",
        "lastMessageAt": moment(at_ms), "lastMessageAtMs": at_ms, "lastMessageText": text,
        "lastMessagePreview": text, "lastMessageDirection": "inbound", "archived": False,
    }  # fmt: skip


def an_alias() -> Document:
    """A LID's alias as revision S writes it."""
    return {"accountId": ACC, "rawJid": str(ANN_LID), "canonicalJid": str(ANN), "source": "onWhatsApp"}  # fmt: skip


def message(thread: str, ident: str) -> str:
    """The path of a message."""
    return f"threads/{thread}/messages/{ident}"


async def put(console: Console, **documents: Document) -> None:
    """Write messages of Ann's thread, by id, and the thread."""
    for ident, document in documents.items():
        await console.set(message(ANN_THREAD, ident), document)


async def everything_wrong(console: Console, now_ms: int) -> None:
    """Write one document of each kind of damage."""
    at = now_ms - 600_000
    await console.set(f"threads/{ANN_THREAD}", a_thread(at - 86_400_000, text="the oldest"))
    await console.set(f"threads/{ANN_LID_THREAD}", a_thread(at, jid=str(ANN_LID)))
    await console.set(f"threads/{OBJECT_THREAD}", a_thread(at, jid={"canonicalJid": str(ANN)}))
    await console.set(f"jid_aliases/{ACC}__{ANN_LID}", an_alias())
    await put(
        console,
        W1=of_m("W1", at, "first"),
        W2=of_m("W2", at + 1000, "ours", out=True) | {"status": "read"},
        request1=of_a_function(at + 2000, "by the app", wa_id="W3"),
        W3=of_m("W3", at + 2000, "by the app", out=True),
        W4=a_receipt("delivered", at + 3000),
        request2=of_a_function(at + 4000, "the last", wa_id="W5"),
        W5=a_receipt("read", at + 5000),
    )
    lid = of_m("W6", at + 500, "hidden", jid=str(ANN_LID))
    await console.set(message(ANN_LID_THREAD, "W6"), lid)
    await console.set(message(ANN_LID_THREAD, "W1"), of_m("W1", at, "first", jid=str(ANN_LID)))
    await console.set(message(OBJECT_THREAD, "s7"), of_s("W7", at + 700, "an object's"))
