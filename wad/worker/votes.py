"""Decrypting votes: a vote is sealed with a secret of its poll, which the library stores and opens on arrival."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final

from msgspec.structs import replace

from wad.core.content import MessageKind, Vote
from wad.core.errors import EngineFailure
from wad.core.event import Event, MessageReceived

log = logging.getLogger("wad.inbox")

_IV_BYTES: Final = 12
"""Go panics on any other length (crypto/cipher, GCM), and a stranger chooses it."""


def with_decrypted_vote(event: Event | None, read: Callable[[], tuple[bytes, ...]]) -> Event | None:
    """The event; a sealed vote is replaced by the chosen options.

    `read` asks the library (whatsmeow msgsecret.go, DecryptPollVote) and raises EngineFailure, as for an unknown poll:
    then the vote stays sealed.
    """
    if not isinstance(event, MessageReceived) or event.content.kind is not MessageKind.POLL_VOTE:
        return event
    vote = event.content.vote
    if vote is None or not vote.payload or len(vote.iv) != _IV_BYTES:
        return event
    try:
        options = read()
    except EngineFailure as error:
        log.info("a vote stays sealed: %s", error)
        return event
    return replace(event, content=replace(event.content, vote=Vote(options=options)))
