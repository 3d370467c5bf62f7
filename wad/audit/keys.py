"""Identity keys: equal for documents of one message, and for threads of one conversation.

The reference's fallback key knew neither account nor chat, so that equal texts in two chats were duplicates
(docs/internals/replaced-backend.md#what-its-audits-proved).  Here every key is within one account and one conversation,
and a conversation is named by the phone number if that is known.
"""

from __future__ import annotations

import hashlib
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from wad.audit.rows import Aliases, MessageRow, ThreadRow
from wad.core.errors import BadInput
from wad.core.jid import Jid, JidKind


class KeyMode(StrEnum):
    """The kind of identity: WhatsApp's own if there is one, or always text and time."""

    STABLE = "stable"
    FALLBACK = "fallback"


class Strategy(StrEnum):
    """The source of a key.  `document`: a message of our own outbox without a WhatsApp id yet."""

    STABLE_KEY = "stableKeyHash"
    FINGERPRINT = "fingerprintHash"
    FALLBACK = "fallback"
    DOCUMENT = "document"


class Key(NamedTuple):
    """A key; equal for documents of the same message."""

    strategy: Strategy
    value: str


def key_of(row: MessageRow, aliases: Aliases, mode: KeyMode) -> Key:
    """The identity of a message."""
    chat = canonical(row.account, row.chat, aliases)
    scope = f"{row.account}|{chat}"
    if mode is KeyMode.FALLBACK:
        return Key(Strategy.FALLBACK, _hash(scope, _heuristic(row, aliases)))
    if row.wa_id:
        # Without the sender of our own messages: the outbox does not write one, an echo does.
        by = "" if row.from_me or _is_person(chat) else canonical(row.account, row.sender, aliases)
        return Key(Strategy.STABLE_KEY, _hash(scope, row.wa_id, str(row.from_me), by))
    if row.stable_key:
        return Key(Strategy.STABLE_KEY, _hash(scope, row.stable_key))
    if row.client_id:
        return Key(Strategy.DOCUMENT, _hash(row.id))
    if row.fingerprint:
        return Key(Strategy.FINGERPRINT, _hash(scope, row.fingerprint))
    return Key(Strategy.FALLBACK, _hash(scope, _heuristic(row, aliases)))


def _heuristic(row: MessageRow, aliases: Aliases) -> str:
    by = "" if row.from_me else canonical(row.account, row.sender, aliases)
    at = "unknown" if row.stamp.ms is None else str(row.stamp.ms)
    text = short_hash(" ".join(row.text.split()))
    return f"{'outbound' if row.from_me else 'inbound'}|{by}|{at}|{row.kind}|{text}"


def thread_key(row: ThreadRow, aliases: Aliases) -> str:
    """The identity of a conversation."""
    return _hash(row.account, canonical(row.account, row.chat, aliases))


def canonical(account: str, jid: str, aliases: Aliases) -> str:
    """A party's phone-number address if it is known; an invalid address stays as it is."""
    parsed = parse(jid)
    bare = jid if parsed is None else str(parsed)
    return aliases.get((account, bare), bare)


@lru_cache(maxsize=4096)
def parse(jid: str) -> Jid | None:
    """The party, without device; None for an invalid address such as `[object Object]`."""
    try:
        return Jid.parse(jid).bare()
    except BadInput:
        return None


def is_hidden(jid: str) -> bool:
    """Whether it is a LID."""
    parsed = parse(jid)
    return parsed is not None and parsed.kind is JidKind.LID


def _is_person(jid: str) -> bool:
    parsed = parse(jid)
    return parsed is not None and parsed.is_person


def short_hash(text: str) -> str:
    """8 hex digits that stand for private values in reports (the reference's safeHash)."""
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:8]


def _hash(*parts: str) -> str:
    return hashlib.sha256("|".join(parts).encode()).hexdigest()
