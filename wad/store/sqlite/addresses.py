"""Addresses inside contents: mentions and quotes name people by LID, and are read with the phone number if it is known.

They are stored as they arrived, since the number may become known at any later time.  Whatever leaves the store goes
through `with_numbers`: messages, thread previews, events and the apps' documents.  Messages that name a LID without a
known number are in `hidden_names`, so that what was derived from them is derived again when its number is known.
"""

from __future__ import annotations

import sqlite3

from msgspec.structs import replace

from wad.core.content import Content
from wad.core.mentions import with_other_addresses
from wad.core.message import Message
from wad.store.sqlite.rows import is_lid, resolve


def with_numbers(db: sqlite3.Connection, message: Message) -> Message:
    """The message with the phone number of everybody it mentions or quotes, where the number is known.

    A mention is also in the text, as @ and the user part of its address: there it is replaced, too.
    """
    if not _lids(message):
        return message
    return replace(
        message,
        content=content_with_numbers(db, message.account, message.content),
        earlier=tuple(
            replace(one, content=content_with_numbers(db, message.account, one.content))
            for one in message.earlier
        ),
    )


def content_with_numbers(db: sqlite3.Connection, account: str, content: Content) -> Content:
    """The same for a content."""
    numbers = {lid: resolve(db, account, lid) for lid in _addresses(content) if is_lid(lid)}
    return _replaced(content, numbers) if numbers else content


def note_hidden_names(db: sqlite3.Connection, number: int, message: Message) -> None:
    """Note the LIDs without a known number that the message in this row names."""
    for lid in _lids(message):
        if resolve(db, message.account, lid) == lid:
            db.execute(
                "INSERT OR IGNORE INTO hidden_names VALUES (?,?,?)", (message.account, lid, number)
            )


def pop_hidden_names(db: sqlite3.Connection, account: str, lid: str) -> list[int]:
    """The rows of the messages that name this LID; they are noted no longer."""
    query = "DELETE FROM hidden_names WHERE account = ? AND lid = ? RETURNING number"
    return sorted(number for (number,) in db.execute(query, (account, lid)).fetchall())


def _lids(message: Message) -> set[str]:
    contents = (message.content, *(version.content for version in message.earlier))
    return {jid for content in contents for jid in _addresses(content) if is_lid(jid)}


def _addresses(content: Content) -> tuple[str, ...]:
    quote = content.quote
    return content.mentions if quote is None else (*content.mentions, quote.by, quote.chat)


def _replaced(content: Content, numbers: dict[str, str]) -> Content:
    quote = content.quote
    text = with_other_addresses(content.text, content.mentions, numbers)
    if quote is not None:
        by, chat = (numbers.get(jid, jid) for jid in (quote.by, quote.chat))
        quote = replace(quote, by=by, chat=chat)
    mentions = tuple(numbers.get(jid, jid) for jid in content.mentions)
    return replace(content, text=text, mentions=mentions, quote=quote)
