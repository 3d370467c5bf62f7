"""The rows of wad.db and our values: columns, and both directions of each."""

from __future__ import annotations

import sqlite3
from typing import Any, Final

import msgspec

from wad.core.content import Content
from wad.core.jid import Jid, ThreadId
from wad.core.message import Ballot, Message, MessageStatus, MessageVersion, Reaction, Thread
from wad.core.outbox import Entry

MESSAGE_COLUMNS: Final = (
    "id, account, thread, chat, sender, from_me, at_ms, seen, wa_id, status, push_name, client_id, "
    "stable_key, fingerprint, kind, content, amended"
)
PLACEHOLDER: Final = "kind IN ('lost', 'undecryptable')"
"""Of which only its place is known (wad.core.content.PLACEHOLDERS); in the words of an index."""
SHOWN: Final = "duplicate_of = ''"
"""A message that was marked as a duplicate stays, but neither shows in its thread nor counts there."""
THREAD_COLUMNS: Final = (
    "id, account, chat, CASE WHEN saved_name != '' THEN saved_name ELSE push_name END, last_ms, last_text, "
    "last_from_me, newer + min(told_unread, older), messages, expires_s"
)


class Amended(msgspec.Struct, frozen=True, omit_defaults=True):
    """What amendments made of a message; the fields of Message that they touch."""

    content: Content
    edited_ms: int = 0
    revoked_ms: int = 0
    revoked_by: str = ""
    reactions: tuple[Reaction, ...] = ()
    votes: tuple[Ballot, ...] = ()
    earlier: tuple[MessageVersion, ...] = ()


pack: Final = msgspec.msgpack.Encoder().encode
unpack_content: Final = msgspec.msgpack.Decoder(Content).decode
unpack_entry: Final = msgspec.msgpack.Decoder(Entry).decode
_amended: Final = msgspec.msgpack.Decoder(Amended).decode


def message_row(message: Message) -> tuple[Any, ...]:
    """The row of a message that nothing has amended yet."""
    return (
        message.id, message.account, message.thread, message.chat, message.sender, message.from_me, message.at_ms,
        message.seen, message.wa_id, message.status, message.push_name, message.client_id, message.stable_key,
        message.fingerprint, message.content.kind, pack(message.content), None,
    )  # fmt: skip


def told_from(row: tuple[Any, ...]) -> Message:
    """The message in a row of MESSAGE_COLUMNS as it was told first, without amendments."""
    (
        ident, account, thread, chat, sender, from_me, at_ms, seen,
        wa_id, status, push_name, client_id, stable_key, fingerprint, _, content, _,
    ) = row  # fmt: skip
    return Message(
        id=ident, account=account, thread=thread, chat=chat, sender=sender, from_me=bool(from_me), at_ms=at_ms,
        seen=seen, content=unpack_content(content), status=MessageStatus(status), wa_id=wa_id, push_name=push_name,
        client_id=client_id, stable_key=stable_key, fingerprint=fingerprint,
    )  # fmt: skip


def message_from(row: tuple[Any, ...]) -> Message:
    """The message in a row of MESSAGE_COLUMNS as it stands."""
    message = told_from(row)
    if row[-1] is None:
        return message
    return msgspec.structs.replace(message, **msgspec.structs.asdict(_amended(row[-1])))


def shown_content(content: bytes, amended: bytes | None) -> Content:
    """What a message says now, from these two columns."""
    return unpack_content(content) if amended is None else _amended(amended).content


def packed_amended(message: Message) -> bytes | None:
    """The column `amended` of a message; None where nothing amended it."""
    if not (message.earlier or message.reactions or message.votes):
        return None
    return pack(
        Amended(
            message.content, message.edited_ms, message.revoked_ms, message.revoked_by, message.reactions,
            message.votes, message.earlier,
        )
    )  # fmt: skip


def told_message(db: sqlite3.Connection, number: int) -> Message:
    """The message in a row that is there, without amendments."""
    return told_from(_row(db, number))


def message_at(db: sqlite3.Connection, number: int) -> Message:
    """The message in a row that is there, as it stands."""
    return message_from(_row(db, number))


def _row(db: sqlite3.Connection, number: int) -> tuple[Any, ...]:
    query = f"SELECT {MESSAGE_COLUMNS} FROM messages WHERE number = ?"
    found: tuple[Any, ...] = db.execute(query, (number,)).fetchone()
    return found


def thread_from(row: tuple[Any, ...]) -> Thread:
    """The thread in a row of THREAD_COLUMNS."""
    ident, account, chat, name, last_ms, last_text, last_from_me, unread, messages, expires = row
    return Thread(
        id=ident, account=account, chat=chat, name=name, last_ms=last_ms, last_text=last_text,
        last_from_me=bool(last_from_me), unread=unread, messages=messages, expires_s=expires,
    )  # fmt: skip


# --- one person, two addresses ----------------------------------------------------------------------


def is_hidden(text: str) -> bool:
    """Whether an address, or a thread's id, is one by hidden id; the indexes say `LIKE '%lid'`."""
    return text.endswith("lid")


def party(db: sqlite3.Connection, account: str, jid: str) -> str:
    """The number of a hidden id where it is known, else what was given."""
    if not is_hidden(jid):
        return jid
    row = db.execute(
        "SELECT pn FROM aliases WHERE account = ? AND lid = ?", (account, jid)
    ).fetchone()
    return str(row[0]) if row else jid


def thread_of(db: sqlite3.Connection, thread: str) -> str:
    """The thread that this id means: by number where the number of its hidden id is known."""
    if not is_hidden(thread):
        return thread
    parsed = ThreadId.parse(thread)
    number = party(db, parsed.account, str(parsed.jid))
    return str(ThreadId.make(parsed.account, Jid.parse(number)))
