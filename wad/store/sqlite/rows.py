"""Conversion between the rows of wad.db and the values of wad.core, and look-ups of rows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

import msgspec

from wad.core.content import Content
from wad.core.jid import Jid
from wad.core.message import Ballot, Message, MessageStatus, MessageVersion, Reaction, Thread
from wad.core.outbox import Entry
from wad.store.port import AccountStatus

MESSAGE_COLUMNS: Final = (
    "id, account, thread, chat, sender, from_me, at_ms, seen, wa_id, status, push_name, client_id, "
    "stable_key, fingerprint, kind, lid_chat, lid_sender, content, amended"
)
PLACEHOLDER: Final = "kind IN ('lost', 'undecryptable')"
"""The condition for placeholders (wad.core.content.PLACEHOLDERS), written as in the index."""
SHOWN: Final = "duplicate_of = ''"
"""The condition for messages that are shown and counted: those that are not marked as duplicates."""
THREAD_COLUMNS: Final = (
    "id, account, chat, CASE WHEN saved_name != '' THEN saved_name ELSE push_name END, last_ms, last_text, "
    "last_from_me, newer + min(told_unread, older), messages, expires_s, "
    "coalesce((SELECT last.push_name FROM messages AS last WHERE last.id = threads.last_id"
    " AND last.account = threads.account AND NOT last.from_me LIMIT 1), '')"
)
"""The columns of a thread, for a query on `threads`."""


class Amended(msgspec.Struct, frozen=True, omit_defaults=True):
    """The result of a message's amendments: the fields of Message that they change."""

    content: Content
    edited_ms: int = 0
    revoked_ms: int = 0
    revoked_by: str = ""
    reactions: tuple[Reaction, ...] = ()
    votes: tuple[Ballot, ...] = ()
    earlier: tuple[MessageVersion, ...] = ()
    pinned_until_ms: int = 0
    kept: bool = False


pack: Final = msgspec.msgpack.Encoder().encode
unpack_content: Final = msgspec.msgpack.Decoder(Content).decode
unpack_entry: Final = msgspec.msgpack.Decoder(Entry).decode
_unpack_status: Final = msgspec.msgpack.Decoder(AccountStatus).decode
_amended: Final = msgspec.msgpack.Decoder(Amended).decode


def message_row(message: Message) -> tuple[Any, ...]:
    """The row of a message without amendments."""
    return (
        message.id, message.account, message.thread, message.chat, message.sender, message.from_me, message.at_ms,
        message.seen, message.wa_id, message.status, message.push_name, message.client_id, message.stable_key,
        message.fingerprint, message.content.kind, message.lid_chat, message.lid_sender, pack(message.content), None,
    )  # fmt: skip


class MessageRecord(NamedTuple):
    """A row of `messages`: its number, the message without amendments, and the result of the amendments."""

    number: int
    original: Message
    amended: bytes | None = None
    is_duplicate: bool = False
    """It is marked as a duplicate, and not shown."""

    @property
    def present(self) -> Message:
        """The message with its amendments."""
        if self.amended is None:
            return self.original
        changes = msgspec.structs.asdict(_amended(self.amended))
        return msgspec.structs.replace(self.original, **changes)


def _row_from(columns: tuple[Any, ...]) -> MessageRecord:
    """The record of a row: its number, whether it is marked as a duplicate, and MESSAGE_COLUMNS."""
    (
        number, is_duplicate, ident, account, thread, chat, sender, from_me, at_ms, seen,
        wa_id, status, push_name, client_id, stable_key, fingerprint, _, lid_chat, lid_sender, content, amended,
    ) = columns  # fmt: skip
    original = Message(
        id=ident, account=account, thread=thread, chat=chat, sender=sender, from_me=bool(from_me), at_ms=at_ms,
        seen=seen, content=unpack_content(content), status=MessageStatus(status), wa_id=wa_id, push_name=push_name,
        client_id=client_id, stable_key=stable_key, fingerprint=fingerprint, lid_chat=lid_chat, lid_sender=lid_sender,
    )  # fmt: skip
    return MessageRecord(number, original, amended, bool(is_duplicate))


_SELECT: Final = f"SELECT number, duplicate_of != '', {MESSAGE_COLUMNS} FROM messages"


def find_rows(db: sqlite3.Connection, rest: str, values: Iterable[Any] = ()) -> list[MessageRecord]:
    """The rows of a query; `rest` is the part of it after FROM messages."""
    return [_row_from(columns) for columns in db.execute(f"{_SELECT} {rest}", tuple(values))]


def message_from(columns: tuple[Any, ...]) -> Message:
    """The message with its amendments, from MESSAGE_COLUMNS."""
    return _row_from((0, False, *columns)).present


def row_by_number(db: sqlite3.Connection, number: int) -> MessageRecord | None:
    """The row with this number."""
    return next(iter(find_rows(db, "WHERE number = ?", (number,))), None)


def row_by_id(
    db: sqlite3.Connection, ident: str, account: str | None = None
) -> MessageRecord | None:
    """The row with this document id, of this account if one is given; a marked row only if there is no other."""
    rest = (
        "WHERE id = ?1 AND account = coalesce(?2, account)"
        " ORDER BY duplicate_of != '', number LIMIT 1"
    )
    return next(iter(find_rows(db, rest, (ident, account))), None)


HAS_WA_ID: Final = "account = ? AND wa_id = ? AND wa_id != ''"
"""The condition for messages of an account with this WhatsApp id, which is not empty; written as in the index."""


def rows_by_wa_id(db: sqlite3.Connection, account: str, wa_id: str) -> list[MessageRecord]:
    """The rows of an account with this WhatsApp id, the oldest row first; none for an empty id."""
    return find_rows(db, f"WHERE {HAS_WA_ID} ORDER BY number", (account, wa_id))


def present_content(content: bytes, amended: bytes | None) -> Content:
    """The content of a message with its amendments, from these two columns."""
    return unpack_content(content) if amended is None else _amended(amended).content


def packed_amended(original: Message, message: Message) -> bytes | None:
    """The column `amended` of a message; None without amendments."""
    if message == original:
        return None
    return pack(
        Amended(
            message.content, message.edited_ms, message.revoked_ms, message.revoked_by, message.reactions,
            message.votes, message.earlier, message.pinned_until_ms, message.kept,
        )
    )  # fmt: skip


def thread_from(row: tuple[Any, ...]) -> Thread:
    """The thread in a row of THREAD_COLUMNS."""
    (
        ident,
        account,
        chat,
        name,
        last_ms,
        last_text,
        last_from_me,
        unread,
        messages,
        expires,
        sender,
    ) = row
    return Thread(
        id=ident, account=account, chat=chat, name=name, last_ms=last_ms, last_text=last_text,
        last_from_me=bool(last_from_me), last_sender=sender, unread=unread, messages=messages, expires_s=expires,
    )  # fmt: skip


# --- the two addresses of a person ------------------------------------------------------------------


def is_lid(text: str) -> bool:
    """Whether this JID, or the JID of this thread id, is a LID; as `LIKE '%lid'` in the indexes."""
    return text.endswith("lid")


def is_pn(text: str) -> bool:
    """Whether this JID, or the JID of this thread id, is a phone number."""
    return text.endswith("@s.whatsapp.net")


_FOLLOWED: Final = 4
"""Steps from an address to the number of its person: a number, another spelling of it, the LID, the present number."""


def resolve(db: sqlite3.Connection, account: str, jid: str) -> str:
    """The present number of the person with this address, the LID if the number is unknown; else `jid`."""
    for _ in range(_FOLLOWED):
        if is_lid(jid):
            query = "SELECT pn FROM aliases WHERE account = ? AND lid = ?"
        elif is_pn(jid):
            query = "SELECT person FROM numbers WHERE account = ? AND number = ?"
        else:
            break
        row = db.execute(query, (account, jid)).fetchone()
        if row is None:
            break
        jid = str(row[0])
    return jid


def own_addresses(db: sqlite3.Connection, account: str) -> set[str]:
    """The account's own addresses without devices, as far as they were published."""
    row = db.execute("SELECT status FROM accounts WHERE account = ?", (account,)).fetchone()
    if row is None:
        return set()
    status = _unpack_status(row[0])
    return {str(Jid.parse(one).bare()) for one in (status.jid, status.lid) if one}


def resolve_thread(db: sqlite3.Connection, thread: str) -> str:
    """The id of the thread of the person with this address: of their present number, where it is known."""
    if not is_lid(thread) and not is_pn(thread):
        return thread
    account, _, jid = thread.partition("__")
    return f"{account}__{resolve(db, account, jid)}"
