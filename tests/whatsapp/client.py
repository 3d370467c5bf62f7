"""A plain client of the real library, in a separate process, controlled by JSON lines; see driver.py.

    python -P client.py DATABASE

It reads `[number, method, arguments...]` from stdin, calls that method (or reads that property) of neonize's client,
and writes `{"event": "result", "number": ..., ...}`; each event of the library is a line, too.  It is independent of
the tests: the environment makes the library trust the test server (trust.py).
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

_out = os.fdopen(os.dup(1), "w", buffering=1)
os.dup2(2, 1)  # all output of the Go side is sent to stderr

from google.protobuf.json_format import MessageToDict  # noqa: E402
from neonize import events  # noqa: E402
from neonize.client import NewClient  # noqa: E402
from neonize.proto.Neonize_pb2 import ReturnFunctionWithError  # noqa: E402
from neonize.proto.waE2E.WAWebProtobufsE2E_pb2 import Message  # noqa: E402
from neonize.utils.enum import (  # noqa: E402
    ChatPresence,
    ChatPresenceMedia,
    MediaType,
    MediaTypeToMMS,
    Presence,
    ReceiptType,
    VoteType,
)
from neonize.utils.jid import Jid2String, build_jid  # noqa: E402

_received: dict[str, Any] = {}  # MessageEv by id


def emit(event: str, **rest: Any) -> None:
    """Report."""
    _out.write(json.dumps({"event": event, **rest}) + "\n")


def brief(event: Any) -> dict[str, Any]:
    """The fields of a MessageEv that tests need, and the whole waE2E.Message."""
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
        "at": event.Info.Timestamp,
        "message": MessageToDict(message),
    }


def subscribe(client: NewClient, name: str, kind: type[Any]) -> None:
    """Report all events of a kind."""

    def handler(_client: NewClient, event: Any) -> None:
        if name == "MessageEv":
            _received[event.Info.ID] = event
        emit(name, **(brief(event) if name == "MessageEv" else {"data": MessageToDict(event)}))

    client.event(kind)(handler)


def jid_of(address: str) -> Any:
    """A JID from user@server."""
    return build_jid(*address.split("@"))


def mark_read(client: NewClient, ident: str, chat: str) -> None:
    """Mark a message as read."""
    jid = jid_of(chat)
    client.mark_read(ident, chat=jid, sender=jid, receipt=ReceiptType.READ)


def send_to(client: NewClient, chat: str, text: str) -> str:
    """Send a text to a chat of any kind; the id."""
    return str(client.send_message(jid_of(chat), text).ID)


def react(client: NewClient, chat: str, sender: str, ident: str, emoji: str) -> str:
    """React to a message."""
    chat_jid = jid_of(chat)
    message = client.build_reaction(chat_jid, jid_of(sender), ident, emoji)
    return str(client.send_message(chat_jid, message).ID)


def edit(client: NewClient, chat: str, ident: str, text: str) -> str:
    """Edit an own message."""
    return str(client.edit_message(jid_of(chat), ident, Message(conversation=text)).ID)


def revoke(client: NewClient, chat: str, ident: str) -> str:
    """Delete a message of one's own."""
    own = client.get_me().JID
    return str(client.revoke_message(jid_of(chat), build_jid(own.User), ident).ID)


def poll(client: NewClient, chat: str, question: str, *options: str) -> str:
    """Send a poll."""
    message = client.build_poll_vote_creation(question, list(options), VoteType.SINGLE)
    return str(client.send_message(jid_of(chat), message).ID)


def vote(client: NewClient, ident: str, *options: str) -> str:
    """Vote in a poll that was received."""
    info = _received[ident].Info
    message = client.build_poll_vote(info, list(options))
    return str(client.send_message(info.MessageSource.Chat, message).ID)


def read_vote(client: NewClient, ident: str) -> list[str]:
    """The hashes of the chosen options, in hexadecimal; decrypt_poll_vote() of 0.5.2 fails on what Go returns."""
    event = _received[ident].SerializeToString()
    go = client._NewClient__client
    answer = go.DecryptPollVote(client.uuid, event, len(event)).contents.get_bytes()
    found = ReturnFunctionWithError.FromString(answer)
    if found.Error:
        raise ValueError(found.Error)
    return [chosen.hex() for chosen in found.PollVoteMessage.selectedOptions]


def download(client: NewClient, ident: str) -> str:
    """The file of a message that was received."""
    return bytes(client.download_any(_received[ident].Message) or b"").decode()


def send_document(client: NewClient, chat: str, text: str, name: str) -> str:
    """Send a file."""
    sent = client.send_document(
        jid_of(chat), text.encode(), caption="see", filename=name, mimetype="text/plain"
    )
    return str(sent.ID)


def presence(client: NewClient, kind: str) -> None:
    """Send one's presence."""
    client.send_presence(Presence[kind.upper()])


def typing(client: NewClient, chat: str) -> None:
    """Send a chat state (typing)."""
    client.send_chat_presence(
        jid_of(chat),
        ChatPresence.CHAT_PRESENCE_COMPOSING,
        ChatPresenceMedia.CHAT_PRESENCE_MEDIA_TEXT,
    )


def with_jids(name: str) -> Callable[..., Any]:
    """A method of the client that takes addresses."""

    def method(client: NewClient, *addresses: str) -> Any:
        return plain(getattr(client, name)(*map(jid_of, addresses)))

    return method


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


def plain(value: Any) -> Any:
    """As JSON can hold it."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        return [plain(item) for item in value]
    return MessageToDict(value) if hasattr(value, "DESCRIPTOR") else value


_SPECIAL: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        mark_read, media_round_trip, send_to, react, edit, revoke, poll, vote, read_vote, download,
        send_document, presence, typing,
    )
} | {name: with_jids(name) for name in ("get_group_info", "get_lid_from_pn", "get_pn_from_lid")}  # fmt: skip


def call(client: NewClient, name: str, *args: Any) -> Any:
    """Execute a line."""
    if name in _SPECIAL:
        return _SPECIAL[name](client, *args)
    value = getattr(client, name)
    return plain(value(*args) if callable(value) else value)


def answer(client: NewClient, number: int, name: str, *args: Any) -> None:
    """Do one call, and report its result."""
    try:
        emit("result", number=number, value=call(client, name, *args))
    except Exception as error:
        emit("result", number=number, error=repr(error))


def obey(client: NewClient) -> None:
    """Execute stdin's lines, each call in a separate thread; the end of stdin ends the process."""
    for line in sys.stdin:
        threading.Thread(target=answer, args=(client, *json.loads(line)), daemon=True).start()
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
