"""A message's identity: one message is one document, whoever tells of it and however often.

Its id is made from what all tellers agree on (account, canonical chat, WhatsApp's id, direction, sender in groups),
never from a clock or a random number.  A person is named by the phone number where it is known, else by the hidden id.

The formulas are those of docs/internals/replaced-backend.md#message-ids, so that ids agree with what the reference
wrote; the hashes are kept whole there, where the reference cut them to 32 bits and made messages collide.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from wad.core.content import Content
from wad.core.jid import Jid, JidKind

Aliases = Mapping[str, str]
"""Bare LID -> bare PN, both as text, of one account."""


def _sha1(text: str) -> str:
    # Not for security: the document ids of the reference are SHA-1, and must stay the same.
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def stable_key(account: str, chat: Jid, wa_id: str, from_me: bool, participant: Jid | None) -> str:
    """The 40 hex digits that name a message for ever; `participant` is the sender in a group."""
    return _sha1(f"{account}|{chat}|{wa_id}|{int(from_me)}|{participant or ''}")


def document_id(key: str) -> str:
    """The document's id from its stable key: 24 hex digits, as the reference made them."""
    return key[:24]


def fingerprint(chat: Jid, from_me: bool, sender: Jid | None, at_ms: int, content: Content) -> str:
    """40 hex digits of what the message says and when: equal for copies that lost their id."""
    direction = "outbound" if from_me else "inbound"
    text = _sha1(" ".join(content.text.split()))[:8]
    return _sha1(f"{chat}|{direction}|{sender or ''}|{at_ms}|{content.kind}|{text}")


def canonical(jid: Jid, alt: Jid | None, aliases: Aliases) -> Jid:
    """Who this is, by number if that is known from the event itself or from before."""
    party = jid.party()
    if party.kind is not JidKind.LID:
        return party
    if alt is not None and alt.kind is JidKind.PN:
        return alt.party()
    known = aliases.get(str(party))
    return Jid.parse(known) if known else party
