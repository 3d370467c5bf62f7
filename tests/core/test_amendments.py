"""What amendments make of a message: the same in any order and with any repetition."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wad.core.amendments import amended
from wad.core.change import PutAmendment
from wad.core.content import AMENDING, Content, LinkPreview, MessageKind, Vote
from wad.core.message import Message, MessageStatus

ANN, BOB = "40700000001@s.whatsapp.net", "40700000002@s.whatsapp.net"
TOLD = Message(
    id="M", account="a", thread="t", chat="1-2@g.us", sender=ANN, from_me=False, at_ms=5,
    content=Content(MessageKind.TEXT, "told"), status=MessageStatus.DELIVERED, wa_id="W",
)  # fmt: skip


def by(party: str, content: Content, at_ms: int = 9, wa_id: str = "A") -> PutAmendment:
    """Something that a member did; "" are we."""
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
        ),
        st.integers(1, 4),
        st.sampled_from("AB"),
    ),
    max_size=8,
)


@given(AMENDMENTS, st.data())
def test_order_does_not_matter(found: list[PutAmendment], data: st.DataObject) -> None:
    """Each is one of a set."""
    assert amended(TOLD, data.draw(st.permutations(found))) == amended(TOLD, found)


@given(AMENDMENTS)
def test_what_it_said_at_first_is_never_gone(found: list[PutAmendment]) -> None:
    """It is the present content, or the first of the earlier versions."""
    message = amended(TOLD, found)
    versions = [*(version.content for version in message.earlier), message.content]
    assert versions[0] == TOLD.content
    assert (message.content.kind is MessageKind.REVOKE) == bool(message.revoked_ms)


@given(AMENDMENTS)
def test_nobody_else_puts_words_into_a_mouth(found: list[PutAmendment]) -> None:
    """Edits of others leave no trace."""
    edits = [a for a in found if a.content.kind is MessageKind.EDIT and a.by != ANN]
    assert amended(TOLD, edits) == TOLD


def test_nothing_makes_nothing() -> None:
    """A message without amendments is unchanged."""
    assert amended(TOLD, []) == TOLD


def test_an_edit_takes_links_and_mentions_with_it() -> None:
    """They belong to the text."""
    told = Content(
        MessageKind.TEXT, "old", mentions=(BOB,), link=LinkPreview("http://a"), forwarded=True
    )
    message = Message(
        **{name: getattr(TOLD, name) for name in TOLD.__struct_fields__} | {"content": told}
    )
    after = amended(message, [by(ANN, Content(MessageKind.EDIT, "new", mentions=(ANN,)))])
    assert after.content == Content(MessageKind.TEXT, "new", mentions=(ANN,), forwarded=True)


def test_a_vote_told_twice_is_one() -> None:
    """A live vote is encrypted, the same vote in history is in clear."""
    sealed = by(BOB, Content(MessageKind.POLL_VOTE, vote=Vote(b"p", b"i")))
    clear = by(BOB, Content(MessageKind.POLL_VOTE, vote=Vote(options=(b"o",))))
    (ballot,) = amended(TOLD, [sealed, clear]).votes
    assert (ballot.payload, ballot.iv, ballot.options) == (b"", b"", (b"o",))


def test_a_vote_that_was_taken_back_is_not_sealed() -> None:
    """No option was chosen, and that is known."""
    sealed = by(BOB, Content(MessageKind.POLL_VOTE, vote=Vote(b"p", b"i")))
    clear = by(BOB, Content(MessageKind.POLL_VOTE, vote=Vote()))
    for told in ([sealed, clear], [clear, sealed]):
        (ballot,) = amended(TOLD, told).votes
        assert (ballot.payload, ballot.options) == (b"", ())
