"""The author of its target as an amendment in a group names it.

A WhatsApp id is unique for its sender only, so the key in a reaction, edit, revoke, pin, keep or vote names the author.
"""

from __future__ import annotations

from typing import Any, Final

from wad.core.jid import Jid
from wad.worker.translate.base import address

_KEYS: Final = {
    "reactionMessage": "key",
    "protocolMessage": "key",
    "pinInChatMessage": "key",
    "keepInChatMessage": "key",
    "pollUpdateMessage": "pollCreationMessageKey",
}
"""The field with the target's MessageKey, by the field of waE2E.Message."""


def target_author(body: Any, chat: Jid, sender: Jid) -> str:
    """The author of the target of this amendment; empty in a one-to-one chat, and if it names none."""
    for field, name in _KEYS.items():
        if body.HasField(field):
            return author_in_key(getattr(getattr(body, field), name), chat, sender)
    return ""


def author_in_key(key: Any, chat: Jid, sender: Jid) -> str:
    """The author that a MessageKey names, which `sender` wrote: its own message, or that of a participant."""
    if chat.is_person:
        return ""
    author = sender if key.fromMe else address(key, "participant")
    return "" if author is None else str(author.party())
