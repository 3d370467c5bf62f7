"""A plain user of the real library, in a process of its own, driven by JSON lines; see driver.py.

    python -P client.py DATABASE

It reads `[method, arguments...]` from stdin, calls that method (or reads that property) of neonize's client, and writes
`{"event": "result", ...}`; each event of the library is a line, too.  It knows nothing of tests: what makes the library
trust the test server comes from the environment (trust.py).
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

_out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # whatever the Go side prints goes to stderr

from google.protobuf.json_format import MessageToDict  # noqa: E402
from neonize import events  # noqa: E402
from neonize.client import NewClient  # noqa: E402
from neonize.utils.enum import MediaType, MediaTypeToMMS, ReceiptType  # noqa: E402
from neonize.utils.jid import Jid2String, build_jid  # noqa: E402


def emit(event: str, **rest: Any) -> None:
    """Report."""
    _out.write(json.dumps({"event": event, **rest}) + "\n")


def brief(event: Any) -> dict[str, Any]:
    """What tests want to know of a MessageEv, and the whole waE2E.Message."""
    source, message = event.Info.MessageSource, event.Message
    return {
        "id": event.Info.ID,
        "text": message.conversation or message.extendedTextMessage.text,
        "chat": Jid2String(source.Chat),
        "sender": Jid2String(source.Sender),
        "alt": Jid2String(source.SenderAlt),
        "recipient_alt": Jid2String(source.RecipientAlt),
        "from_me": source.IsFromMe,
        "group": source.IsGroup,
        "name": event.Info.Pushname,
        "message": MessageToDict(message),
    }


def subscribe(client: NewClient, name: str, kind: type[Any]) -> None:
    """Report all events of a kind."""

    def handler(_client: NewClient, event: Any) -> None:
        emit(name, **(brief(event) if name == "MessageEv" else {"data": MessageToDict(event)}))

    client.event(kind)(handler)


def mark_read(client: NewClient, ident: str, chat: str) -> None:
    """mark_read() takes objects; chat is user@server."""
    jid = build_jid(*chat.split("@"))
    client.mark_read(ident, chat=jid, sender=jid, receipt=ReceiptType.READ)


def media_round_trip(client: NewClient, text: str) -> str:
    """Upload a document, and download it again."""
    data = text.encode()
    up = client.upload(data, MediaType.MediaDocument)
    found: bytes = client.download_media_with_path(
        up.DirectPath,
        up.FileEncSHA256,
        up.FileSHA256,
        up.MediaKey,
        len(data),
        MediaType.MediaDocument,
        MediaTypeToMMS.MediaDocument,
    )
    return found.decode()


_SPECIAL: dict[str, Callable[..., Any]] = {
    "mark_read": mark_read,
    "media_round_trip": media_round_trip,
}


def call(client: NewClient, name: str, *args: Any) -> Any:
    """Do what a line asks for."""
    if name in _SPECIAL:
        return _SPECIAL[name](client, *args)
    value = getattr(client, name)
    value = value(*args) if callable(value) else value
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [MessageToDict(item) for item in value]
    return MessageToDict(value) if hasattr(value, "DESCRIPTOR") else value


def obey(client: NewClient) -> None:
    """Work through stdin; its end is the end of the process."""
    for line in sys.stdin:
        try:
            emit("result", value=call(client, *json.loads(line)))
        except Exception as error:
            emit("result", error=repr(error))
    os._exit(0)


def main() -> None:
    """Connect, and report until the end."""
    client = NewClient(sys.argv[1], uuid="client")
    client.event.qr(lambda _client, data: emit("qr", code=data.decode()))
    names = {kind: name for name, kind in vars(events).items() if isinstance(kind, type)}
    for kind, number in events.EVENT_TO_INT.items():
        if number:
            subscribe(client, names[kind], kind)
    threading.Thread(target=obey, args=(client,), daemon=True).start()
    client.connect()
    emit("returned")
    os._exit(0)


main()
