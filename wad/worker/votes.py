"""Votes are sealed with a secret of their poll, which the library keeps: it is asked to open them as they come."""

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
"""Go ends the process over any other length (crypto/cipher, GCM), and a stranger chooses it."""


def opened(event: Event | None, read: Callable[[], tuple[bytes, ...]]) -> Event | None:
    """The event, and if it is a sealed vote what was voted for, in place of the seal.

    `read` asks the library (whatsmeow msgsecret.go, DecryptPollVote) and raises EngineFailure, as for a poll that it
    has not seen: then the vote stays sealed.
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
