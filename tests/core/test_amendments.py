"""What amendments make of a message: the same in any order and with any repetition."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from wad.core.amendments import BETTER_COPY_WINDOW_MS, amended
from wad.core.change import PutAmendment
from wad.core.content import (
    AMENDING,
    LONGEST_PIN,
    Content,
    LinkPreview,
    MediaContent,
    MessageKind,
    Poll,
    Vote,
)
from wad.core.message import Message, MessageStatus

ANN, BOB = "40700000001@s.whatsapp.net", "40700000002@s.whatsapp.net"
ORIGINAL = Message(
    id="M", account="a", thread="t", chat="1-2@g.us", sender=ANN, from_me=False, at_ms=5,
    content=Content(MessageKind.TEXT, "hello"), status=MessageStatus.DELIVERED, wa_id="W",
)  # fmt: skip

PICTURE = msgspec.structs.replace(
    ORIGINAL, content=Content(MessageKind.IMAGE, "hello", media=MediaContent("image/jpeg", size=1))
)


def by(party: str, content: Content, at_ms: int = 9, wa_id: str = "A") -> PutAmendment:
    """An amendment of a member; "" is the account itself."""
    return PutAmendment("t", "W", wa_id, party, not party, at_ms, content)


AMENDMENTS = st.lists(
    st.builds(
        by,
        st.sampled_from([ANN, BOB, ""]),
        st.builds(
            Content,
            st.sampled_from(sorted(AMENDING)),
            st.sampled_from(["", "x", "y"]),
            by_admin=st.booleans(),
            active=st.booleans(),
            expires_s=st.integers(1, 2),
            mentions=st.sampled_from([(), (ANN,)]),
            media=st.sampled_from([None, MediaContent("image/jpeg"), MediaContent("image/png")]),
        ),
        st.integers(1, 4),
        st.sampled_from("AB"),
    ),
    max_size=8,
)


@given(AMENDMENTS, st.data())
def test_order_does_not_matter(found: list[PutAmendment], data: st.DataObject) -> None:
    """The result depends only on the set of amendments, also if a sender uses an id and a time twice."""
    shuffled = data.draw(st.permutations(found))
    for original in (ORIGINAL, PICTURE):
        assert amended(original, shuffled) == amended(original, found)


@given(AMENDMENTS)
def test_the_original_content_is_kept(found: list[PutAmendment]) -> None:
    """It is the current content, or the first of the earlier versions."""
    message = amended(ORIGINAL, found)
    versions = [*(version.content for version in message.earlier), message.content]
    assert versions[0] == ORIGINAL.content
    assert (message.content.kind is MessageKind.REVOKE) == bool(message.revoked_ms)


@given(AMENDMENTS)
def test_only_the_sender_edits(found: list[PutAmendment]) -> None:
    """Edits of others are ignored."""
    edits = [a for a in found if a.content.kind is MessageKind.EDIT and a.by != ANN]
    assert amended(ORIGINAL, edits) == ORIGINAL


def test_nothing_makes_nothing() -> None:
    """A message without amendments is unchanged."""
    assert amended(ORIGINAL, []) == ORIGINAL


def test_an_edit_takes_links_and_mentions_with_it() -> None:
    """They belong to the text."""
    content = Content(
        MessageKind.TEXT, "old", mentions=(BOB,), link=LinkPreview("http://a"), forwarded=True
    )
    message = Message(
        **{name: getattr(ORIGINAL, name) for name in ORIGINAL.__struct_fields__}
        | {"content": content}
    )
    after = amended(message, [by(ANN, Content(MessageKind.EDIT, "new", mentions=(ANN,)))])
    assert after.content == Content(MessageKind.TEXT, "new", mentions=(ANN,), forwarded=True)


def test_a_vote_received_twice_is_one() -> None:
    """A live vote is encrypted, the same vote in history is in clear."""
    sealed = by(BOB, Content(MessageKind.POLL_VOTE, vote=Vote(b"p", b"i")))
    clear = by(BOB, Content(MessageKind.POLL_VOTE, vote=Vote(options=(b"o",))))
    (ballot,) = amended(ORIGINAL, [sealed, clear]).votes
    assert (ballot.payload, ballot.iv, ballot.options) == (b"", b"", (b"o",))


def test_a_vote_that_was_taken_back_is_not_sealed() -> None:
    """No option was chosen, and that is known."""
    sealed = by(BOB, Content(MessageKind.POLL_VOTE, vote=Vote(b"p", b"i")))
    clear = by(BOB, Content(MessageKind.POLL_VOTE, vote=Vote()))
    for votes in ([sealed, clear], [clear, sealed]):
        (ballot,) = amended(ORIGINAL, votes).votes
        assert (ballot.payload, ballot.options) == (b"", ())


def a_copy(size: int, text: str = "") -> Content:
    """A better copy of a file."""
    return Content(MessageKind.MEDIA_UPDATE, text, media=MediaContent("image/jpeg", size=size))


def test_the_newest_copy_of_a_file_counts() -> None:
    """By its author; the caption stays, through edits as well, and nothing of it is left after a revoke."""
    picture = msgspec.structs.replace(
        ORIGINAL,
        content=Content(MessageKind.IMAGE, "hello", media=MediaContent("image/jpeg", size=1)),
    )
    edit = by(ANN, Content(MessageKind.EDIT, "new"), 8)
    found = amended(
        picture, [by(ANN, a_copy(3), 7), by(ANN, a_copy(2), 6), by(BOB, a_copy(9)), edit]
    )
    assert found.content == Content(
        MessageKind.IMAGE, "new", media=MediaContent("image/jpeg", size=3)
    )
    revoke = by(ANN, Content(MessageKind.REVOKE))
    assert amended(picture, [by(ANN, a_copy(3)), revoke]).content == Content(MessageKind.REVOKE)
    assert amended(ORIGINAL, [by(ANN, a_copy(3))]) == ORIGINAL


def test_a_late_copy_of_a_file_leaves_a_trace() -> None:
    """Within minutes it is the same photo in HD; later, its author has replaced what others saw."""
    last = PICTURE.at_ms + BETTER_COPY_WINDOW_MS
    early, late = by(ANN, a_copy(2), last), by(ANN, a_copy(3), last + 1)
    found = amended(PICTURE, [early])
    assert (found.content.media, found.edited_ms, found.earlier) == (early.content.media, 0, ())
    edit = by(ANN, Content(MessageKind.EDIT, "new"), last + 2)
    for changes in ([late, edit, early], [early, edit, late]):
        found = amended(PICTURE, changes)
        assert (found.content.media, found.content.text) == (late.content.media, "new")
        assert found.edited_ms == last + 2
        assert [one.content.media for one in found.earlier] == [
            early.content.media,
            late.content.media,
        ]
        assert [one.at_ms for one in found.earlier] == [PICTURE.at_ms, last + 1]


def test_the_newest_pin_and_keep_count() -> None:
    """Of anyone in the chat; a revoked message has neither."""
    pin = by(BOB, Content(MessageKind.PIN, active=True, expires_s=60), 5)
    unpin = by(ANN, Content(MessageKind.PIN), 6)
    keep = by(BOB, Content(MessageKind.KEEP, active=True), 5)
    undo = by("", Content(MessageKind.KEEP), 6)
    found = amended(ORIGINAL, [keep, pin])
    assert (found.pinned_until_ms, found.kept) == (60_005, True)
    assert amended(ORIGINAL, [unpin, pin, undo, keep]) == ORIGINAL
    revoked = amended(ORIGINAL, [pin, keep, by(ANN, Content(MessageKind.REVOKE))])
    assert (revoked.pinned_until_ms, revoked.kept) == (0, False)


def test_a_pin_ends() -> None:
    """However long its sender says it lasts: the end fits into every format."""
    pin = by(BOB, Content(MessageKind.PIN, active=True, expires_s=1 << 63), 5)
    assert amended(ORIGINAL, [pin]).pinned_until_ms == 5 + LONGEST_PIN * 1000


def test_an_edit_of_a_poll_brings_its_options() -> None:
    """An edit without options leaves them."""
    poll = msgspec.structs.replace(
        ORIGINAL, content=Content(MessageKind.POLL, "Tea?", poll=Poll("Tea?", ("yes",)))
    )
    more = Poll("Tea?", ("yes", "no"))
    edit = by(ANN, Content(MessageKind.EDIT, "Tea?", poll=more))
    assert amended(poll, [edit]).content.poll == more
    plain = by(ANN, Content(MessageKind.EDIT, "Coffee?"))
    assert amended(poll, [plain]).content.poll == poll.content.poll
    assert amended(ORIGINAL, [edit]).content.poll is None
