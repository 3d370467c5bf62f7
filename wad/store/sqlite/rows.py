"""The rows of wad.db and our values: columns, and both directions of each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

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


class MessageRecord(NamedTuple):
    """A row of `messages`: its number, and the message as it came first, without what amended it since."""

    number: int
    first: Message
    amended: bytes | None = None
    marked: bool = False
    """Marked as a duplicate: it is not shown."""

    @property
    def shown(self) -> Message:
        """The message as it is now."""
        if self.amended is None:
            return self.first
        return msgspec.structs.replace(self.first, **msgspec.structs.asdict(_amended(self.amended)))


def _row_from(columns: tuple[Any, ...]) -> MessageRecord:
    """The row from its number, whether it is marked, and MESSAGE_COLUMNS."""
    (
        number, marked, ident, account, thread, chat, sender, from_me, at_ms, seen,
        wa_id, status, push_name, client_id, stable_key, fingerprint, _, content, amended,
    ) = columns  # fmt: skip
    first = Message(
        id=ident, account=account, thread=thread, chat=chat, sender=sender, from_me=bool(from_me), at_ms=at_ms,
        seen=seen, content=unpack_content(content), status=MessageStatus(status), wa_id=wa_id, push_name=push_name,
        client_id=client_id, stable_key=stable_key, fingerprint=fingerprint,
    )  # fmt: skip
    return MessageRecord(number, first, amended, bool(marked))


_ROWS: Final = f"SELECT number, duplicate_of != '', {MESSAGE_COLUMNS} FROM messages"


def find_rows(db: sqlite3.Connection, rest: str, values: Iterable[Any] = ()) -> list[MessageRecord]:
    """The rows of a query; `rest` is all of it behind FROM messages."""
    return [_row_from(columns) for columns in db.execute(f"{_ROWS} {rest}", tuple(values))]


def message_from(columns: tuple[Any, ...]) -> Message:
    """The message as it is now, from MESSAGE_COLUMNS."""
    return _row_from((0, False, *columns)).shown


def row_at(db: sqlite3.Connection, number: int) -> MessageRecord | None:
    """The row with this number."""
    return next(iter(find_rows(db, "WHERE number = ?", (number,))), None)


def row_of(db: sqlite3.Connection, ident: str, account: str | None = None) -> MessageRecord | None:
    """The message with this document id, of the account where one is named; it rather than a marked copy of it."""
    rest = (
        "WHERE id = ?1 AND account = coalesce(?2, account)"
        " ORDER BY duplicate_of != '', number LIMIT 1"
    )
    return next(iter(find_rows(db, rest, (ident, account))), None)


HAS_WA_ID: Final = "account = ? AND wa_id = ? AND wa_id != ''"
"""A message of an account with this WhatsApp id, which is never empty; in the words of an index."""


def rows_with(db: sqlite3.Connection, account: str, wa_id: str) -> list[MessageRecord]:
    """The messages of an account with this WhatsApp id, the oldest row first; none for an empty id."""
    return find_rows(db, f"WHERE {HAS_WA_ID} ORDER BY number", (account, wa_id))


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
