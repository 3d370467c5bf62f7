"""A message's identity: one message is one document, whatever its source and however often it arrives.

The id is derived from what all sources agree on (account, canonical chat, WhatsApp's id, direction, sender in groups),
never from a clock or a random number.  A person is named by the phone number if it is known, else by the LID.

The formulas are those of docs/internals/replaced-backend.md#message-ids, so that the ids match those of the replaced
backend; hashes are kept whole where it cut them to 32 bits, which made messages collide.
"""

from __future__ import annotations

import hashlib

from wad.core.content import Content
from wad.core.jid import Jid


def _sha1(text: str) -> str:
    # Not for security: the replaced backend's document ids are SHA-1, and must stay the same.
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def stable_key(account: str, chat: Jid, wa_id: str, from_me: bool, participant: Jid | None) -> str:
    """The permanent key of a message, 40 hex digits; `participant` is the sender in a group."""
    return _sha1(f"{account}|{chat}|{wa_id}|{int(from_me)}|{participant or ''}")


def legacy_account_id(namespace: str, phone: str) -> str:
    """The replaced backend's id of the account with this number, which begins with `+`."""
    digest = hashlib.sha256(phone.encode()).hexdigest()
    return f"account_{namespace}_{digest[:32]}"


def document_id(key: str) -> str:
    """The document's id from its stable key: 24 hex digits, as in the replaced backend."""
    return key[:24]


def fingerprint(chat: Jid, from_me: bool, sender: Jid | None, at_ms: int, content: Content) -> str:
    """A hash of the message's content and time, 40 hex digits: equal for copies that lost their id."""
    direction = "outbound" if from_me else "inbound"
    text = _sha1(" ".join(content.text.split()))[:8]
    return _sha1(f"{chat}|{direction}|{sender or ''}|{at_ms}|{content.kind}|{text}")
