"""Messages: how far they have come, what a list shows of them, and one message from two copies."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.content import Call, CallOutcome
from wad.core.event import Content, MessageKind, ReceiptMark
from wad.core.message import (
    PREVIEW_LENGTH,
    Message,
    MessageStatus,
    arrival_text,
    further,
    merged,
    noun,
    preview,
    status_code,
    status_of,
)

# --- statuses and previews --------------------------------------------------------------------------


@given(*[st.sampled_from(list(MessageStatus))] * 3)
def test_further_is_a_maximum(a: MessageStatus, b: MessageStatus, c: MessageStatus) -> None:
    """Order and repetition do not matter."""
    assert further(a, b) is further(b, a)
    assert further(a, a) is a
    assert further(a, further(b, c)) is further(further(a, b), c)


def test_receipts_are_what_they_say() -> None:
    """The reference was off by one: delivered is delivered, read is read."""
    assert [status_of(mark) for mark in (ReceiptMark.DELIVERED, ReceiptMark.READ, ReceiptMark.PLAYED)] == [
        MessageStatus.DELIVERED, MessageStatus.READ, MessageStatus.PLAYED,
    ]  # fmt: skip


def test_whatsapps_numbers() -> None:
    """2 sent, 3 delivered, 4 read, 5 played; every status has one, and further on is never less."""
    assert {status_code(status): status.value for status in MessageStatus if status_code(status) > 1} == {
        2: "sent", 3: "delivered", 4: "read", 5: "played",
    }  # fmt: skip
    codes = [status_code(status) for status in MessageStatus if status is not MessageStatus.FAILED]
    assert codes == sorted(codes)


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (Content(MessageKind.TEXT, "hello"), "hello"),
        (Content(MessageKind.IMAGE, "caption"), "caption"),
        (Content(MessageKind.IMAGE), "[image]"),
        (Content(MessageKind.TEXT), ""),
        (Content(MessageKind.TEXT, "x" * 500), "x" * PREVIEW_LENGTH),
        (Content(MessageKind.REVOKE), "[deleted]"),
        (Content(MessageKind.UNKNOWN, detail="novelMessage"), "[unknown: novelMessage]"),
        (Content(MessageKind.UNKNOWN), "[unknown]"),
        (Content(MessageKind.CALL, call=Call(CallOutcome.MISSED)), "[call: missed]"),
        (Content(MessageKind.LOST), "[lost]"),
    ],
)
def test_a_preview_is_one_short_line(content: Content, line: str) -> None:
    """The text, or what it is."""
    assert preview(content) == line


# --- two copies -------------------------------------------------------------------------------------

OFFERED, ENDED = (
    Content(MessageKind.CALL, call=Call(outcome))
    for outcome in (CallOutcome.OFFERED, CallOutcome.ENDED)
)


def copy_of(content: Content, at_ms: int = 5, seen: int = 5, sender: str = "") -> Message:
    """One copy of the message M."""
    return Message(
        id="M", account="a", thread="t", chat="c", sender=sender, from_me=False, at_ms=at_ms, content=content,
        status=MessageStatus.DELIVERED, seen=seen, wa_id="W",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("less", "more"),
    [
        (Content(MessageKind.LOST), Content(MessageKind.UNDECRYPTABLE)),
        (Content(MessageKind.LOST), Content(MessageKind.TEXT, "x")),
        (Content(MessageKind.UNDECRYPTABLE), Content(MessageKind.UNKNOWN)),
        (OFFERED, ENDED),
    ],
)
def test_the_copy_with_more_content_stays(less: Content, more: Content) -> None:
    """In either order of arrival."""
    assert merged(copy_of(less), copy_of(more)).content == more
    assert merged(copy_of(more), copy_of(less)).content == more


def test_a_call_has_the_time_of_its_begin() -> None:
    """Its outcome is reported later."""
    assert merged(copy_of(ENDED, at_ms=9), copy_of(OFFERED, at_ms=5)).at_ms == 5


def test_a_message_that_could_not_be_read_stays_where_it_was() -> None:
    """The copy that its sender sends again has a later time; the message keeps the earlier one."""
    placeholder = copy_of(Content(MessageKind.UNDECRYPTABLE), at_ms=5)
    again = copy_of(Content(MessageKind.TEXT, "hello"), at_ms=9)
    after = merged(placeholder, again)
    assert (after.content.text, after.at_ms) == ("hello", 5)
    assert merged(again, placeholder) == after


@pytest.mark.parametrize("first", ["", "15550000002@s.whatsapp.net"])
def test_a_sender_that_one_copy_knows_is_kept(first: str) -> None:
    """The other copy has none, whichever came first."""
    second = "" if first else "15550000002@s.whatsapp.net"
    hello = Content(MessageKind.TEXT, "hello")
    known, again = (copy_of(hello, sender=one) for one in (first, second))
    assert merged(known, again).sender == "15550000002@s.whatsapp.net"


def test_a_copy_without_a_time_leaves_the_time() -> None:
    """The phone's history may have a message without its time."""
    hello = Content(MessageKind.TEXT, "hello")
    timed, untimed = copy_of(hello, at_ms=5), copy_of(hello, at_ms=0)
    assert merged(timed, untimed).at_ms == merged(untimed, timed).at_ms == 5
    assert merged(untimed, untimed).at_ms == 0


COPIES = st.builds(
    copy_of,
    st.sampled_from([Content(MessageKind.LOST), Content(MessageKind.TEXT, "x")]),
    st.sampled_from([0, 5, 9]),
    st.integers(0, 9),
    st.sampled_from(["", "s"]),
)
CALLS = st.builds(
    copy_of,
    st.builds(
        Content,
        st.just(MessageKind.CALL),
        call=st.builds(
            Call, st.sampled_from(CallOutcome), st.booleans(), st.booleans(), st.integers(0, 3)
        ),
    ),
)


@given(COPIES, COPIES, COPIES)
def test_copies_may_arrive_in_any_order(a: Message, b: Message, c: Message) -> None:
    """And any number of times."""
    assert merged(a, b) == merged(b, a)
    assert merged(a, a) == a
    assert merged(a, merged(b, c)) == merged(merged(a, b), c)


@given(CALLS, CALLS, CALLS)
def test_reports_of_a_call_may_arrive_in_any_order(a: Message, b: Message, c: Message) -> None:
    """What one of them says of video, group and duration stays; the most exact outcome counts."""
    assert merged(a, b) == merged(b, a)
    assert merged(a, merged(b, c)) == merged(merged(a, b), c)
    calls = [one.content.call for one in (a, b, merged(a, b))]
    first, second, both = (call for call in calls if call is not None)
    assert (both.video, both.group) == (first.video or second.video, first.group or second.group)


def test_an_arrival_in_words() -> None:
    """What, who and where; a number as people write it, an article that fits, and nothing of the content."""
    bob, team = "15550000002@s.whatsapp.net", "120363000000000001@g.us"
    photo = copy_of(Content(MessageKind.IMAGE, "secret"), sender=bob)
    direct = msgspec.structs.replace(photo, chat=bob, push_name="Bob")
    assert arrival_text(direct) == "received an image from Bob (+15550000002)"
    group = msgspec.structs.replace(photo, chat=team, sender="77@lid")
    assert arrival_text(group) == f"received an image from 77@lid in {team}"
    own = msgspec.structs.replace(photo, chat=bob, from_me=True, sender="")
    assert arrival_text(own) == "sent an image to +15550000002"
    assert {noun(kind).split()[0] for kind in MessageKind} == {"a", "an"}
