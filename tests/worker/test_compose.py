"""Contents as the library's protobuf, and their translation back."""

from __future__ import annotations

import msgspec
import pytest

from tests.core.test_outgoing import GOOD, HASH, OURS, THEIRS, a_file
from tests.support.protobufs import Message
from wad.core.event import MessageKind
from wad.core.outgoing import (
    Attachment,
    AttachmentKind,
    ContactCard,
    NewPoll,
    Outgoing,
    OwnReaction,
    SharedLocation,
    StatusText,
    Target,
    Text,
    summary,
    vcard,
)
from wad.engine.compose import MEDIA_TYPE, Envelope, Upload, compose
from wad.worker.translate.content import content_of, unwrap

SECRET = b"s" * 32
UPLOAD = Upload(
    "https://mmg.whatsapp.net/x", "/x?y=1", b"k" * 32, b"e" * 32, bytes.fromhex(HASH), 10, 7_999
)
ENVELOPE = Envelope(SECRET, "15550000001@s.whatsapp.net", 123_456, UPLOAD)


def composed(content: Outgoing) -> Message:
    """The protobuf of a content, as the other end would parse it."""
    message, envelope = Message(), ENVELOPE
    if isinstance(content, Attachment):
        upload = msgspec.structs.replace(UPLOAD, size=content.size)
        envelope = msgspec.structs.replace(ENVELOPE, upload=upload)
    compose(message, content, envelope)
    return Message.FromString(message.SerializeToString())


def kinds(message: Message) -> list[str]:
    """The names of the fields that are set, without the secret's."""
    return [field.name for field, _ in message.ListFields() if field.name != "messageContextInfo"]


@pytest.mark.parametrize("content", GOOD, ids=lambda content: type(content).__name__)
def test_every_kind_is_one_message_with_the_secret_of_its_attempt(content: Outgoing) -> None:
    """The library saves that secret before it sends anything."""
    message = composed(content)
    assert len(kinds(message)) == 1
    assert message.messageContextInfo.messageSecret == SECRET


@pytest.mark.parametrize("content", GOOD, ids=lambda content: type(content).__name__)
def test_our_own_message_is_stored_like_theirs(content: Outgoing) -> None:
    """A composed and translated content is unchanged, except for data of the upload or of the request's time."""
    received = content_of(unwrap(composed(content)))
    assert received is not None
    media = received.media
    if media is not None:
        media = msgspec.structs.replace(media, direct_path="", key=b"", enc_sha256=b"", key_ms=0)
    received = msgspec.structs.replace(received, media=media, told_ms=0)
    assert received == summary(content)


def test_a_plain_text_has_no_other_fields() -> None:
    """A text with a reply or mentions is an extended one."""
    assert composed(Text("hello")).conversation == "hello"
    message = composed(Text("yes @77", THEIRS, ("77@lid",)))
    info = message.extendedTextMessage.contextInfo
    assert (message.extendedTextMessage.text, list(info.mentionedJID)) == ("yes @77", ["77@lid"])
    assert (info.stanzaID, info.participant) == ("T1", THEIRS.sender)
    assert info.quotedMessage.conversation == "a question"


def test_an_answer_to_a_picture_without_a_caption() -> None:
    """It says that it is a picture."""
    picture = Target("O1", OURS.chat, from_me=True, kind=MessageKind.IMAGE)
    info = composed(Text("look", picture)).extendedTextMessage.contextInfo
    assert info.quotedMessage.conversation == "[image]"
    assert not info.HasField("remoteJID")


def test_an_answer_to_a_status_names_its_chat() -> None:
    """The status is in another chat than the answer."""
    status = Target("S1", "status@broadcast", sender=THEIRS.sender, text="lunch")
    info = composed(Text("enjoy", status)).extendedTextMessage.contextInfo
    assert (info.remoteJID, info.participant) == ("status@broadcast", THEIRS.sender)


def test_a_status() -> None:
    """A text on a coloured background."""
    part = composed(StatusText("closed")).extendedTextMessage
    assert (part.text, part.textArgb, part.backgroundArgb) == ("closed", 0xFFFFFFFF, 0xFF128C7E)


@pytest.mark.parametrize(
    "content",
    [
        SharedLocation(1, 2, reply_to=THEIRS),
        ContactCard("Ann", "+40700000001", THEIRS),
        NewPoll("?", ("a", "b"), 1, THEIRS),
        *(a_file(kind, reply_to=THEIRS) for kind in AttachmentKind),
    ],
    ids=lambda content: getattr(content, "kind", type(content).__name__),
)
def test_anything_can_answer(content: Outgoing) -> None:
    """The quoted message is named inside the part."""
    message = composed(content)
    assert getattr(message, kinds(message)[0]).contextInfo.stanzaID == "T1"


@pytest.mark.parametrize("kind", list(AttachmentKind))
def test_a_file_has_its_address_and_keys(kind: AttachmentKind) -> None:
    """Address, keys, hashes and size are those of the upload."""
    message = composed(a_file(kind))
    part = getattr(message, kinds(message)[0])
    assert (part.URL, part.directPath, part.mediaKey) == (
        UPLOAD.url,
        UPLOAD.direct_path,
        UPLOAD.media_key,
    )
    assert (part.fileEncSHA256, part.fileSHA256, part.fileLength) == (
        UPLOAD.enc_sha256, UPLOAD.sha256, UPLOAD.size,
    )  # fmt: skip
    assert part.mediaKeyTimestamp == 7
    assert part.mimetype == a_file(kind).mimetype
    assert kind in MEDIA_TYPE


def test_unknown_properties_of_a_file_are_left_out() -> None:
    """An empty caption, or a width of zero, differs from none."""
    part = composed(a_file()).imageMessage
    assert not any(map(part.HasField, ("caption", "width", "height", "contextInfo")))
    part = composed(a_file(caption="look", width=4, height=3)).imageMessage
    assert (part.caption, part.width, part.height) == ("look", 4, 3)
    part = composed(a_file(AttachmentKind.VIDEO, seconds=9)).videoMessage
    assert (part.seconds, part.HasField("caption")) == (9, False)


def test_a_voice_note_is_marked_as_voice() -> None:
    """WhatsApp's term is push to talk."""
    assert composed(a_file(AttachmentKind.VOICE)).audioMessage.PTT is True
    assert composed(a_file(AttachmentKind.AUDIO)).audioMessage.PTT is False


def test_a_document_with_a_caption_is_wrapped() -> None:
    """Like the apps; they do not show the caption of an unwrapped one."""
    bare = composed(a_file(AttachmentKind.DOCUMENT, filename="bill.pdf")).documentMessage
    assert (bare.fileName, bare.title) == ("bill.pdf", "bill.pdf")
    message = composed(a_file(AttachmentKind.DOCUMENT, caption="the bill"))
    assert message.documentWithCaptionMessage.message.documentMessage.caption == "the bill"


def test_a_poll_is_as_the_library_builds_it() -> None:
    """BuildPollCreation: the first version of the message, with a count."""
    part = composed(NewPoll("Tea?", ("yes", "no"), 0)).pollCreationMessage
    assert [option.optionName for option in part.options] == ["yes", "no"]
    assert (part.selectableOptionsCount, part.HasField("selectableOptionsCount")) == (0, True)


def test_a_message_in_a_group_is_named_with_its_sender() -> None:
    """In a one-to-one chat, and for our own message, the sender is implied."""
    group = Target("T1", "12-34@g.us", sender="77@lid")
    assert composed(OwnReaction(group, "👍")).reactionMessage.key.participant == "77@lid"
    for target in (THEIRS, Target("O1", "12-34@g.us", from_me=True)):
        assert not composed(OwnReaction(target, "👍")).reactionMessage.key.HasField("participant")


def test_a_card_cannot_be_broken_out_of() -> None:
    """Characters with a meaning in a contact card are escaped."""
    card = vcard(ContactCard("Ann; B,\\C\nEND:VCARD", "+40 700 000 001"))
    assert card.splitlines() == [
        "BEGIN:VCARD", "VERSION:3.0", "N:;Ann\\; B\\,\\\\C\\nEND:VCARD;;;", "FN:Ann\\; B\\,\\\\C\\nEND:VCARD",
        "TEL;type=CELL;type=VOICE;waid=40700000001:+40700000001", "END:VCARD",
    ]  # fmt: skip
