"""A message as the interfaces show it, and as a line of text."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from wad.api.views.message import MessageView, ReplyView, VersionView, message_view, whole_view
from wad.core.content import (
    Call,
    CallOutcome,
    Contact,
    Content,
    LinkPreview,
    Location,
    MediaContent,
    MessageKind,
    Poll,
    Quote,
)
from wad.core.message import Ballot, Message, MessageStatus, MessageVersion, Reaction
from wadctl.message_tables import line
from wadctl.replies import decoded

K = MessageKind
ANN, BOB = "40700000001@s.whatsapp.net", "40700000002@s.whatsapp.net"


def a_message(content: Content, **more: Any) -> Message:
    """A stored message."""
    return Message(
        id="M", account="a", thread="t", chat=ANN, sender=ANN, from_me=False, at_ms=5, content=content,
        status=MessageStatus.DELIVERED, wa_id="W", **more,
    )  # fmt: skip


def shown(content: Content, **more: Any) -> str:
    """Its line, from the document that crosses the socket."""
    document = msgspec.to_builtins(message_view(a_message(content, **more)))
    return line(decoded(MessageView, document))


def test_no_key_leaves() -> None:
    """What opens an attachment stays in the store."""
    media = MediaContent("image/png", key=b"KEYKEYKEY", direct_path="/v/path", sha256=b"HASHHASH")
    document = msgspec.json.encode(message_view(a_message(Content(K.IMAGE, media=media))))
    for secret in (b"key", b"direct_path", b"sha256", b"/v/path"):
        assert secret not in document.lower()


def test_a_reply_is_whole() -> None:
    """The quoted message, its author and its chat."""
    content = Content(K.TEXT, "yes", target="Q", quote=Quote(BOB, "lunch?", "status@broadcast"))
    assert message_view(a_message(content)).reply_to == ReplyView(
        wa_id="Q", sender=BOB, text="lunch?", chat="status@broadcast"
    )
    assert message_view(a_message(Content(K.TEXT))).reply_to is None


def test_earlier_versions_are_shown() -> None:
    """Every version, with its time."""
    view = message_view(
        a_message(
            Content(K.REVOKE), revoked_ms=9, earlier=(MessageVersion(Content(K.TEXT, "oh"), 5),)
        )
    )
    assert (view.text, view.revoked_ms, view.edited_ms) == ("", 9, None)
    assert view.earlier == (VersionView(kind="text", text="oh", at_ms=5),)


def test_every_field_is_shown() -> None:
    """A program need not know what a missing one means."""
    content = Content(
        K.UNKNOWN, link=LinkPreview("u"), location=Location(1, 2), contacts=(Contact("n"),), poll=Poll("q"),
        call=Call(CallOutcome.ENDED), media=MediaContent(),
    )  # fmt: skip
    document = msgspec.json.decode(msgspec.json.encode(message_view(a_message(content))))
    assert document["link"] == {"url": "u", "title": "", "description": ""}
    assert document["location"]["live"] is False
    assert document["contacts"] == [{"name": "n", "vcard": ""}]
    assert document["poll"] == {"question": "q", "options": [], "selectable": 0}
    assert document["call"] == {"outcome": "ended", "video": False, "group": False, "seconds": 0}
    assert document["media"]["size"] == 0


def test_votes_name_what_was_chosen() -> None:
    """Where they were readable; the choice of an encrypted one is unknown, not empty."""
    digest = hashlib.sha256(b"tea").digest()
    votes = (
        Ballot(ANN, 1, "A", options=(digest, b"\x01")),
        Ballot(BOB, 2, "B", payload=b"sealed"),
        Ballot("", 3, "C", from_me=True),
    )
    content = Content(K.POLL, "?", poll=Poll("?", ("tea", "coffee")))
    chosen = [vote.chosen for vote in message_view(a_message(content, votes=votes)).votes]
    assert chosen == [("tea", "01"), None, ()]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (Content(K.TEXT, "hi"), "hi"),
        (Content(K.LOCATION, "Here, 1.0,2.0"), "Here, 1.0,2.0"),
        (Content(K.IMAGE, "look", media=MediaContent(size=77)), "[image, 77 B] look"),
        (
            Content(K.DOCUMENT, media=MediaContent(filename="a.pdf", size=34 << 10)),
            "[document, a.pdf, 34 kB]",
        ),
        (Content(K.AUDIO, media=MediaContent(voice=True, seconds=4)), "[voice, 4 s]"),
        (Content(K.POLL, "Tea?"), "[poll] Tea?"),
        (Content(K.CALL, call=Call(CallOutcome.MISSED, video=True)), "[video call: missed]"),
        (Content(K.CALL, call=Call(CallOutcome.ENDED)), "[call: ended]"),
        (Content(K.REVOKE), "[deleted]"),
        (Content(K.LOST), "[lost]"),
        (Content(K.UNKNOWN, "Party", detail="eventMessage"), "[unknown: eventMessage] Party"),
        (Content(K.TEXT, "yes", target="Q", quote=Quote(text="lunch?")), 're "lunch?": yes'),
        (Content(K.TEXT, "yes", target="Q"), "re: yes"),
    ],
)
def test_a_line(content: Content, expected: str) -> None:
    """What it says, and what it is where the text does not say it."""
    assert shown(content) == expected


def test_a_line_has_the_status() -> None:
    """The edit, and the reactions."""
    reactions = (Reaction(ANN, "!", 1), Reaction(BOB, "!", 2), Reaction("", "?", 3, from_me=True))
    assert (
        shown(Content(K.TEXT, "new"), edited_ms=9, reactions=reactions) == "new (edited) [! 2, ?]"
    )
    assert shown(Content(K.REVOKE), edited_ms=9, revoked_ms=9) == "[deleted]"
    votes = (Ballot(ANN, 1, "A"),)
    assert shown(Content(K.POLL, "Tea?"), votes=votes) == "[poll] Tea? [votes: 1]"


# --- what is too long for a list ------------------------------------------------------------------

HUGE = "z" * 6_000_000
VCARD = "V" * 60_000
BALLOT = Ballot(BOB, 1, "V", options=(b"x" * 32,) * 9999)


@pytest.mark.parametrize(
    ("content", "more", "cut"),
    [
        (Content(K.TEXT, HUGE), {}, "text"),
        (Content(K.UNKNOWN, detail=HUGE), {}, "detail"),
        (Content(K.IMAGE, media=MediaContent(HUGE, HUGE)), {}, "media"),
        (Content(K.TEXT, "a", quote=Quote(BOB, HUGE), target="Q"), {}, "quote"),
        (Content(K.TEXT, "a", link=LinkPreview(HUGE, HUGE, HUGE)), {}, "link"),
        (Content(K.LOCATION, location=Location(1, 1, HUGE, HUGE, HUGE)), {}, "location"),
        (Content(K.CONTACT, contacts=(Contact(HUGE, VCARD),) * 200), {}, "contacts"),
        (Content(K.POLL, poll=Poll(HUGE, (HUGE, "no"))), {}, "poll"),
        (Content(K.POLL, poll=Poll("Q", tuple(map(str, range(100_000))))), {}, "poll"),
        (Content(K.TEXT, "a", mentions=(ANN,) * 100_000), {}, "mentions"),
        (Content(K.TEXT, "a"), {"push_name": HUGE}, "push_name"),
        (Content(K.TEXT, "a"), {"reactions": (Reaction(BOB, HUGE, 1),) * 1000}, "reactions"),
        (Content(K.TEXT, "a"), {"earlier": (MessageVersion(Content(K.TEXT, HUGE), 1),) * 1000}, "earlier"),
        (Content(K.POLL, poll=Poll("Q")), {"votes": (BALLOT,) * 999}, "votes"),
    ],
    ids=[
        "text", "detail", "media", "quote", "link", "place", "contacts", "question", "options", "mentions", "name",
        "reactions", "versions", "votes",
    ],
)  # fmt: skip
def test_a_text_that_is_too_long_for_a_list_is_cut_and_marked(
    content: Content, more: dict[str, Any], cut: str
) -> None:
    """A stranger chooses how long it is; a page still fits into a reply."""
    view = message_view(a_message(content, **more))
    assert view.cut == (cut,)
    assert len(msgspec.msgpack.encode(view)) < 1 << 19
    assert len(line(view)) < 10_000


def test_a_text_that_fits_is_not_cut() -> None:
    """It is the same as the whole one."""
    poll = Poll("Q", ("yes", "no"))
    content = Content(K.POLL, "Q", poll=poll, mentions=(ANN,), quote=Quote(BOB, "x"), target="Q")
    digest = hashlib.sha256(b"yes").digest()
    message = a_message(
        content, votes=(Ballot(BOB, 1, "V", options=(digest,)),), reactions=(Reaction(BOB, "!", 1),),
        earlier=(MessageVersion(Content(K.TEXT, "before"), 1),),
    )  # fmt: skip
    assert message_view(message) == whole_view(message)
    assert message_view(message).cut == ()


def test_a_vote_for_a_long_option_shows_its_beginning() -> None:
    """Its hash is that of the whole."""
    digest = hashlib.sha256(HUGE.encode()).digest()
    message = a_message(
        Content(K.POLL, poll=Poll("Q", (HUGE,))), votes=(Ballot(BOB, 1, "V", options=(digest,)),)
    )
    assert message_view(message).votes[0].chosen == ("z" * 255 + "\u2026",)
