"""Sealed votes: which are passed to the library, and how its answer is used."""

from __future__ import annotations

import pytest

from wad.core.content import Content, MessageKind, Vote
from wad.core.errors import EngineFailure
from wad.core.event import Event, MessageReceived
from wad.core.jid import Jid
from wad.worker.votes import with_decrypted_vote

BOB = Jid("9", "lid")


def a_message(content: Content) -> MessageReceived:
    """A message with this inside."""
    return MessageReceived("A", BOB, BOB, 1, content)


def sealed(payload: bytes = b"sealed", iv: bytes = bytes(12)) -> MessageReceived:
    """A vote as it arrives."""
    return a_message(Content(MessageKind.POLL_VOTE, vote=Vote(payload, iv), told_ms=7))


def never() -> tuple[bytes, ...]:
    """The library is not asked."""
    raise AssertionError("asked")


@pytest.mark.parametrize("options", [(), (b"1", b"2")])
def test_a_vote_is_decrypted(options: tuple[bytes, ...]) -> None:
    """The chosen options replace the seal; none, if the vote was withdrawn."""
    content = Content(MessageKind.POLL_VOTE, vote=Vote(options=options), told_ms=7)
    assert with_decrypted_vote(sealed(), lambda: options) == a_message(content)


def test_a_vote_in_an_unknown_poll_stays_sealed() -> None:
    """Nothing is lost: a client with the secret can decrypt it."""

    def read() -> tuple[bytes, ...]:
        raise EngineFailure("original message secret not found")

    assert with_decrypted_vote(sealed(), read) == sealed()


@pytest.mark.parametrize(
    "event",
    [
        None,
        a_message(Content(MessageKind.TEXT, "hello")),
        a_message(Content(MessageKind.POLL_VOTE, vote=Vote(options=(b"1",)))),
        sealed(payload=b""),
        *(sealed(iv=bytes(size)) for size in (0, 11, 13, 16)),
    ],
)
def test_the_library_is_not_asked(event: Event | None) -> None:
    """For something that is not a sealed vote; and for a seal over which Go would end the process."""
    assert with_decrypted_vote(event, never) == event
