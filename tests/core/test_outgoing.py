"""What can be sent: WhatsApp's rules, and what each kind looks like here."""

from __future__ import annotations

import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.sounds import OPUS_HEAD
from wad.core.errors import BadInput, BadPhone, Conflict, NotSupported, TooLong, WadError
from wad.core.event import Content, MessageKind
from wad.core.jid import Jid
from wad.core.message import TEXT_LIMIT, Message, MessageStatus
from wad.core.outgoing import (
    QUOTE_LIMIT,
    Attachment,
    AttachmentKind,
    ContactCard,
    NewPoll,
    Outgoing,
    OwnReaction,
    Revoke,
    SharedLocation,
    StatusText,
    Target,
    Text,
    TextEdit,
    decode,
    encode,
    mentioned,
    same,
    summary,
    target_in,
    target_of,
    vcard,
)
from wad.core.outgoing_rules import (
    EDIT_WINDOW_S,
    OPTIONS_LIMIT,
    REVOKE_WINDOW_S,
    SIZE_LIMITS,
    check,
    check_voice,
)

ANN = Jid.parse("40700000001@s.whatsapp.net")
NOON = 1_700_000_000_000
THEIRS = Target("T1", str(ANN), sender=str(ANN), text="a question", at_ms=NOON)
OURS = Target("O1", str(ANN), from_me=True, text="helo", at_ms=NOON)
HASH = "0123456789abcdef" * 4


def a_file(kind: AttachmentKind = AttachmentKind.IMAGE, **more: object) -> Attachment:
    """A file that may be sent."""
    types = {AttachmentKind.STICKER: "image/webp", AttachmentKind.VOICE: "audio/ogg; codecs=opus"}
    mimetype = types.get(kind, "image/png")
    fine = Attachment(kind=kind, sha256=HASH, size=10, mimetype=mimetype)
    return msgspec.structs.replace(fine, **more)


JIDS = st.sampled_from([str(ANN), "77@lid", "15550000002@s.whatsapp.net", "12-34@g.us"])
TARGETS = st.builds(
    Target, st.text(max_size=5), JIDS, st.booleans(), JIDS | st.just(""),
    st.sampled_from(list(MessageKind)), st.text(max_size=5), st.integers(0, NOON * 2),
)  # fmt: skip
ANSWERED = st.none() | TARGETS
WORDS = st.text(max_size=8)
NUMBERS = st.integers(-5, 1 << 33)
CONTENTS: st.SearchStrategy[Outgoing] = st.one_of(
    st.builds(Text, WORDS, ANSWERED, st.lists(JIDS, max_size=3).map(tuple)),
    st.builds(
        Attachment, kind=st.sampled_from(list(AttachmentKind)), sha256=st.just(HASH) | WORDS, size=NUMBERS,
        mimetype=st.sampled_from(["image/webp", "a/b", "", "audio/ogg; codecs=opus"]), caption=WORDS, filename=WORDS,
        seconds=NUMBERS, width=NUMBERS, height=NUMBERS, reply_to=ANSWERED,
    ),
    st.builds(SharedLocation, st.floats(), st.floats(), WORDS, WORDS, ANSWERED),
    st.builds(ContactCard, WORDS, WORDS | st.just("+15550000002"), ANSWERED),
    st.builds(NewPoll, WORDS, st.lists(WORDS, max_size=15).map(tuple), st.integers(-1, 15), ANSWERED),
    st.builds(StatusText, WORDS),
    st.builds(OwnReaction, TARGETS, WORDS | st.just("👍")),
    st.builds(TextEdit, TARGETS, WORDS),
    st.builds(Revoke, TARGETS),
)  # fmt: skip


# --- laws of all kinds --------------------------------------------------------------------------------


@given(CONTENTS)
def test_a_content_survives_the_pipe(content: Outgoing) -> None:
    """From the outbox to the worker; NaN is nothing that is sent."""
    if not (
        isinstance(content, SharedLocation) and math.isnan(content.latitude + content.longitude)
    ):
        assert decode(encode(content)) == content


@given(CONTENTS, JIDS, st.integers(0, NOON * 2))
def test_a_check_passes_or_has_a_reason(content: Outgoing, to: str, now_ms: int) -> None:
    """Whatever is asked for: nothing, or an error with a class of its own, and the same again."""

    def verdict() -> str:
        try:
            check(content, Jid.parse(to), now_ms)
        except WadError as error:
            return str(error)
        return "fine"

    first = verdict()
    assert first
    assert first == verdict()
    target = target_in(content)
    if first == "fine" and target is not None:
        assert target.chat == to


@given(CONTENTS, CONTENTS)
def test_the_same_is_the_same_whatever_became_of_its_target(
    content: Outgoing, other: Outgoing
) -> None:
    """A message that was edited meanwhile is still the one that is answered."""
    target = target_in(content)
    if target is None:
        assert same(content, other) == (content == other)
        return
    field = "reply_to" if hasattr(content, "reply_to") else "target"
    edited = msgspec.structs.replace(target, text="another text", at_ms=target.at_ms + 1)
    elsewhere = msgspec.structs.replace(target, wa_id=target.wa_id + "x")
    if content == content:  # not so with NaN
        assert same(content, msgspec.structs.replace(content, **{field: edited}))
    assert not same(content, msgspec.structs.replace(content, **{field: elsewhere}))


# --- what is taken, and what is not -------------------------------------------------------------------

GOOD: list[Outgoing] = [
    Text("hello"),
    Text("x" * TEXT_LIMIT),
    Text("yes @77", THEIRS, ("77@lid",)),
    *(a_file(kind) for kind in AttachmentKind),
    a_file(AttachmentKind.VOICE, mimetype="audio/ogg; codecs=opus", seconds=3),
    a_file(AttachmentKind.DOCUMENT, caption="the bill", filename="bill 7.pdf"),
    a_file(AttachmentKind.VIDEO, size=SIZE_LIMITS[AttachmentKind.VIDEO]),
    SharedLocation(-90, 180, "the end", "of the world"),
    ContactCard("Ann", "+40 700 000 001"),
    NewPoll("Tea?", ("yes", "no"), 0),
    NewPoll("Which?", tuple(map(str, range(OPTIONS_LIMIT))), OPTIONS_LIMIT),
    OwnReaction(THEIRS, "👍🏽"),
    OwnReaction(OURS, "1️⃣"),
    OwnReaction(THEIRS, ""),
    TextEdit(OURS, "hello"),
    Revoke(OURS),
]


@pytest.mark.parametrize("content", GOOD, ids=lambda content: type(content).__name__)
def test_valid_contents(content: Outgoing) -> None:
    """Everything up to its limits."""
    check(content, ANN, NOON + 60_000)


@pytest.mark.parametrize("content", GOOD, ids=lambda content: type(content).__name__)
def test_every_kind_can_be_shown(content: Outgoing) -> None:
    """With the id of the message that it points to."""
    shown, target = summary(content), target_in(content)
    assert isinstance(shown, Content)
    assert shown.target == ("" if target is None else target.wa_id)


BAD: list[tuple[Outgoing, type[WadError], str]] = [
    (Text(""), BadInput, "text is empty"),
    (Text(" \n\t"), BadInput, "text is empty"),
    (Text("x" * (TEXT_LIMIT + 1)), TooLong, str(TEXT_LIMIT + 1)),
    (Text("yes", None, ("77@lid",)), BadInput, "@77"),
    (Text("@12-34", None, ("12-34@g.us",)), BadInput, "cannot be mentioned"),
    (Text("x", None, ("77@lid",) * 257), TooLong, "not 257"),
    (Text("yes", Target("T1", "77@lid")), BadInput, "in the chat 77@lid"),
    (a_file(sha256="../../etc/passwd"), BadInput, "SHA-256"),
    (a_file(sha256=HASH.upper()), BadInput, "SHA-256"),
    (a_file(mimetype="picture"), BadInput, "media type"),
    (a_file(mimetype="image/png\nx"), BadInput, "media type"),
    (a_file(size=0), BadInput, "empty"),
    (a_file(size=SIZE_LIMITS[AttachmentKind.IMAGE] + 1), TooLong, "16777216"),
    (a_file(AttachmentKind.STICKER, size=(1 << 20) + 1), TooLong, "sticker may have 1048576"),
    (a_file(AttachmentKind.STICKER, mimetype="image/png"), BadInput, "image/webp"),
    (a_file(AttachmentKind.VOICE, caption="listen"), BadInput, "no caption"),
    (a_file(caption="x" * (TEXT_LIMIT + 1)), TooLong, "the caption"),
    (a_file(filename="a/b"), BadInput, "invalid file name"),
    *(
        (a_file(filename=f"a{char}b"), BadInput, "invalid file name")
        for char in ("\x1b", "\n", "\0", "\x85", "\u2028", "\ud800", "\\")
    ),
    *(
        (a_file(AttachmentKind.VOICE, mimetype=mimetype), BadInput, "Opus in Ogg")
        for mimetype in ("audio/mpeg", "audio/wav", "audio/mp4", "audio/ogg; codecs=vorbis")
    ),
    (a_file(filename="x" * 201), TooLong, "the file's name"),
    (a_file(seconds=-1), BadInput, "must not be negative"),
    (a_file(width=1 << 31), BadInput, "less than 2147483648"),
    (SharedLocation(90.1, 0), BadInput, "latitude"),
    (SharedLocation(0, -180.1), BadInput, "longitude"),
    (SharedLocation(math.nan, 0), BadInput, "latitude"),
    (SharedLocation(0, math.inf), BadInput, "longitude"),
    (SharedLocation(0, 0, "x" * 201), TooLong, "the location's name"),
    (SharedLocation(0, 0, "", "x" * 1001), TooLong, "the address"),
    (ContactCard(" ", "+15550000002"), BadInput, "name is empty"),
    (ContactCard("x" * 201, "+15550000002"), TooLong, "name has 201"),
    (ContactCard("Ann", "12"), BadPhone, "phone number"),
    (NewPoll(" ", ("a", "b")), BadInput, "no question"),
    (NewPoll("x" * 256, ("a", "b")), TooLong, "the question"),
    (NewPoll("?", ("a",)), BadInput, "2 to 12"),
    (NewPoll("?", tuple("abcdefghijklm")), BadInput, "2 to 12"),
    (NewPoll("?", ("a", "a ")), BadInput, "differ"),
    (NewPoll("?", ("a", "")), BadInput, "is empty"),
    (NewPoll("?", ("a", "x" * 101)), TooLong, "an option"),
    (NewPoll("?", ("a", "b"), 3), BadInput, "3 of 2"),
    (NewPoll("?", ("a", "b"), -1), BadInput, "-1 of 2"),
    (OwnReaction(THEIRS, "ok"), BadInput, "not one emoji"),
    (OwnReaction(THEIRS, "👍 👍"), BadInput, "not one emoji"),
    (OwnReaction(THEIRS, "👍" * 21), BadInput, "not one emoji"),
    (OwnReaction(Target("T1", "77@lid"), "👍"), BadInput, "in the chat 77@lid"),
    (TextEdit(THEIRS, "hello"), BadInput, "this account wrote"),
    (TextEdit(OURS, " "), BadInput, "text is empty"),
    (TextEdit(msgspec.structs.replace(OURS, kind=MessageKind.IMAGE), "x"), BadInput, "kind image"),
    (Revoke(THEIRS), BadInput, "this account wrote"),
    (Revoke(msgspec.structs.replace(OURS, kind=MessageKind.REVOKE)), Conflict, "already"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "kind", "says"), BAD)
def test_invalid_contents(content: Outgoing, kind: type[WadError], says: str) -> None:
    """One clear sentence each."""
    with pytest.raises(kind, match=says) as caught:
        check(content, ANN, NOON + 60_000)
    assert type(caught.value) is kind


@pytest.mark.parametrize(
    ("content", "window_s"),
    [(TextEdit(OURS, "hello"), EDIT_WINDOW_S), (Revoke(OURS), REVOKE_WINDOW_S)],
)
def test_it_can_be_too_late(content: Outgoing, window_s: int) -> None:
    """To the millisecond."""
    check(content, ANN, NOON + window_s * 1000)
    with pytest.raises(Conflict, match="minutes old"):
        check(content, ANN, NOON + window_s * 1000 + 1)


# --- pointing to a message ----------------------------------------------------------------------------


def a_message(**more: object) -> Message:
    """A stored message."""
    fine = Message(
        id="d1", account="acc", thread=f"acc__{ANN}", chat=str(ANN), sender=str(ANN), from_me=False, at_ms=NOON,
        content=Content(MessageKind.TEXT, "a question"), status=MessageStatus.DELIVERED, wa_id="T1",
    )  # fmt: skip
    return msgspec.structs.replace(fine, **more)


def test_a_stored_message_is_a_target() -> None:
    """For our own message the sender is empty; long texts are cut."""
    assert target_of(a_message()) == THEIRS
    ours = target_of(a_message(from_me=True, content=Content(MessageKind.TEXT, "x" * 9999)))
    assert (ours.from_me, ours.sender, len(ours.text)) == (True, "", QUOTE_LIMIT)


def test_an_unsent_message_cannot_be_a_target() -> None:
    """WhatsApp has no name for it yet."""
    with pytest.raises(Conflict, match="is queued"):
        target_of(a_message(wa_id="", from_me=True, status=MessageStatus.QUEUED))


def test_mentions() -> None:
    """A number in any spelling, or an address of a person."""
    assert mentioned("+40 700 000 001") == mentioned("40700000001:3@s.whatsapp.net") == str(ANN)
    with pytest.raises(BadInput):
        mentioned("12-34@g.us")
    with pytest.raises(BadPhone):
        mentioned("Ann")


@pytest.mark.parametrize(
    "name",
    [
        "Rechnung\xa07.pdf", "family \U0001f469\u200d\U0001f467.jpg", "\u200ffile\u200e.pdf", "soft\xadhyphen.txt",
        "wide\u3000blank.txt", "private\ue000.txt", "",
    ],
)  # fmt: skip
def test_names_of_files_in_any_script(name: str) -> None:
    """Special blanks, joiners and direction marks are parts of names."""
    check(a_file(filename=name), ANN, NOON)


@pytest.mark.parametrize(
    "head", [b"", b"ID3\x04", b"RIFF....WAVE", b"OggS" + bytes(24) + b"\x01vorbis", b"OpusHead"]
)
def test_a_voice_note_is_opus_in_ogg(head: bytes) -> None:
    """Whatever its media type says."""
    with pytest.raises(BadInput, match="phones cannot play it"):
        check_voice(head)
    check_voice(OPUS_HEAD)


# --- statuses ---------------------------------------------------------------------------------------


STATUS_CHAT = Jid("status", "broadcast")
OF_ANN = Target("S", str(STATUS_CHAT), sender=str(ANN), at_ms=NOON, lid_sender="7@lid")
OURS_SHOWN = Target("S", str(STATUS_CHAT), from_me=True, at_ms=NOON)


def test_a_status_goes_to_all_contacts_and_nothing_else_does() -> None:
    """Only a post, and its deletion."""
    check(StatusText("closed"), STATUS_CHAT, NOON)
    check(Revoke(OURS_SHOWN), STATUS_CHAT, NOON)
    with pytest.raises(BadInput, match="empty"):
        check(StatusText(" "), STATUS_CHAT, NOON)
    with pytest.raises(BadInput, match="posted to status@broadcast"):
        check(StatusText("closed"), ANN, NOON)
    for content in (
        Text("x"),
        Text("x", OF_ANN),
        OwnReaction(OF_ANN, "👍"),
        TextEdit(OURS_SHOWN, "x"),
    ):
        with pytest.raises(NotSupported, match="all contacts"):
            check(content, STATUS_CHAT, NOON)
    with pytest.raises(BadInput, match="that this account wrote"):
        check(Revoke(OF_ANN), STATUS_CHAT, NOON)


def test_an_answer_to_a_status_goes_to_its_author() -> None:
    """By number or by LID; our own has no author to answer."""
    check(Text("x", OF_ANN), ANN, NOON)
    check(Text("x", OF_ANN), Jid("7", "lid"), NOON)
    for status, to in ((OF_ANN, Jid("15550000099", "s.whatsapp.net")), (OURS_SHOWN, ANN)):
        with pytest.raises(BadInput, match="is by"):
            check(Text("x", status), to, NOON)


@pytest.mark.parametrize(
    ("phone", "digits"),
    [
        ("+40 0712345678", "400712345678"),
        ("+49 (0)171 1234567", "491711234567"),
        ("0049 171 1234567", "491711234567"),
    ],
)
def test_a_contact_card_that_an_earlier_wad_queued_is_readable(phone: str, digits: str) -> None:
    """A number that is refused today must not stop the queue in which it waits."""
    assert f"waid={digits}:+{digits}\n" in vcard(ContactCard("Ann", phone))
