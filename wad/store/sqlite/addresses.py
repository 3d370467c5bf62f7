"""Addresses inside contents: mentions and quotes name people by LID, and are read with the phone number if it is known.

They are stored as they arrived, since the number may become known at any later time.
"""

from __future__ import annotations

import re
import sqlite3

from msgspec.structs import replace

from wad.core.content import Content
from wad.core.message import Message
from wad.store.sqlite.rows import is_lid, resolve


def with_numbers(db: sqlite3.Connection, message: Message) -> Message:
    """The message with the phone number of everybody it mentions or quotes, where the number is known.

    A mention is also in the text, as @ and the user part of its address: there it is replaced, too.
    """
    content = message.content
    lids = [jid for jid in _addresses(content) if is_lid(jid)]
    if not lids:
        return message
    numbers = {lid: resolve(db, message.account, lid) for lid in lids}
    return replace(message, content=_replaced(content, numbers))


def _addresses(content: Content) -> tuple[str, ...]:
    quote = content.quote
    return content.mentions if quote is None else (*content.mentions, quote.by, quote.chat)


def _replaced(content: Content, numbers: dict[str, str]) -> Content:
    quote, text = content.quote, content.text
    for mention in content.mentions:
        if (number := numbers.get(mention, mention)) != mention:
            lid_user, user = (jid.partition("@")[0] for jid in (mention, number))
            text = re.sub(rf"@{re.escape(lid_user)}(?![0-9])", f"@{user}", text)
    if quote is not None:
        by, chat = (numbers.get(jid, jid) for jid in (quote.by, quote.chat))
        quote = replace(quote, by=by, chat=chat)
    mentions = tuple(numbers.get(jid, jid) for jid in content.mentions)
    return replace(content, text=text, mentions=mentions, quote=quote)
