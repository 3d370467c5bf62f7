"""The translation of every kind of message; every test builds the real protobuf."""

from __future__ import annotations

import math

import pytest

from tests.support.library_events import LID, PN, an_event, content
from tests.support.protobufs import Message
from wad.core.content import (
    THUMBNAIL_LIMIT,
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
    Vote,
)
from wad.worker.translate.events import Untranslatable, message

KEY = {"key": {"ID": "TARGET"}}
K = MessageKind


def kinds() -> list[tuple[Message, MessageKind, str]]:
    """One message of each kind, and its display text."""
    button = {"hydratedContentText": "choose"}
    return [
        (Message(conversation="hi"), K.TEXT, "hi"),
        (Message(extendedTextMessage={"text": "hi"}), K.TEXT, "hi"),
        (Message(imageMessage={"caption": "see"}), K.IMAGE, "see"),
        (Message(videoMessage={"caption": "see"}), K.VIDEO, "see"),
        (Message(ptvMessage={"seconds": 4}), K.VIDEO, ""),
        (Message(audioMessage={"seconds": 4}), K.AUDIO, ""),
        (Message(documentMessage={"fileName": "a.pdf"}), K.DOCUMENT, ""),
        (Message(stickerMessage={"mimetype": "image/webp"}), K.STICKER, ""),
        (Message(lottieStickerMessage={"message": {"stickerMessage": {}}}), K.STICKER, ""),
        (
            Message(locationMessage={"degreesLatitude": 1, "degreesLongitude": 2, "name": "Here"}),
            K.LOCATION,
            "Here, 1.000000,2.000000",
        ),
        (Message(contactMessage={"displayName": "Eve"}), K.CONTACT, "Eve"),
        (
            Message(
                contactsArrayMessage={"contacts": [{"displayName": "Eve"}, {"displayName": "Al"}]}
            ),
            K.CONTACT,
            "Eve, Al",
        ),
        (
            Message(pollCreationMessageV3={"name": "Tea?", "options": [{"optionName": "yes"}]}),
            K.POLL,
            "Tea?\n- yes",
        ),
        (
            Message(pollCreationMessageV4={"message": {"pollCreationMessage": {"name": "Q"}}}),
            K.POLL,
            "Q",
        ),
        (Message(pollUpdateMessage={"pollCreationMessageKey": {"ID": "T"}}), K.POLL_VOTE, ""),
        (Message(reactionMessage={**KEY, "text": "+"}), K.REACTION, "+"),
        (Message(protocolMessage={**KEY, "type": 0}), K.REVOKE, ""),
        (
            Message(protocolMessage={**KEY, "type": 14, "editedMessage": {"conversation": "new"}}),
            K.EDIT,
            "new",
        ),
        (Message(buttonsMessage={"contentText": "choose"}), K.TEXT, "choose"),
        (Message(buttonsResponseMessage={"selectedDisplayText": "yes"}), K.TEXT, "yes"),
        (Message(listMessage={"title": "menu"}), K.TEXT, "menu"),
        (Message(listResponseMessage={"title": "soup"}), K.TEXT, "soup"),
        (Message(templateMessage={"hydratedTemplate": button}), K.TEXT, "choose"),
        (Message(templateButtonReplyMessage={"selectedID": "7"}), K.TEXT, "7"),
        (Message(interactiveMessage={"body": {"text": "pay"}}), K.TEXT, "pay"),
        (Message(interactiveResponseMessage={"body": {"text": "paid"}}), K.TEXT, "paid"),
        (Message(commentMessage={"message": {"conversation": "nice"}}), K.TEXT, "nice"),
        (Message(callLogMesssage={"callOutcome": 1}), K.CALL, ""),
        (Message(listMessage={}), K.UNKNOWN, ""),
        (Message(groupInviteMessage={"groupName": "Friends"}), K.UNKNOWN, "Friends"),
        (Message(eventMessage={"name": "Party"}), K.UNKNOWN, "Party"),
        (Message(albumMessage={"expectedImageCount": 2}), K.NOTICE, ""),
    ]


@pytest.mark.parametrize(("body", "kind", "text"), kinds())
def test_every_kind(body: Message, kind: MessageKind, text: str) -> None:
    """Each kind is translated, and its readable part is the text."""
    found = content(body)
    assert (found.kind, found.text) == (kind, text)


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_kind_from_the_future_is_kept(wrapped: bool) -> None:
    """The library itself has no name for it; the usual context is set too."""
    body = Message.FromString(b"\xa2\x1f\x02hi")  # field 500
    body.messageContextInfo.messageSecret = b"s"
    found = content(Message(ephemeralMessage={"message": body}) if wrapped else body)
    assert found == Content(K.UNKNOWN, detail="newer than the library", ephemeral=False)


WRAPPERS = [
    "ephemeralMessage", "viewOnceMessage", "viewOnceMessageV2", "viewOnceMessageV2Extension",
    "documentWithCaptionMessage", "editedMessage", "groupMentionedMessage", "botInvokeMessage", "spoilerMessage",
]  # fmt: skip


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("around", ["", "ephemeralMessage", "deviceSentMessage"])
def test_wrapped_content_is_unwrapped(wrapper: str, around: str) -> None:
    """In one wrapper or two."""
    body = Message(**{wrapper: {"message": {"imageMessage": {"caption": "see"}}}})
    if around:
        body = Message(**{around: {"message": body}})
    found = content(body)
    assert (found.kind, found.text) == (K.IMAGE, "see")
    assert found.view_once == wrapper.startswith("viewOnce")
    assert found.ephemeral == ("ephemeralMessage" in (wrapper, around))


def test_endless_wrappers_are_an_unknown_kind() -> None:
    """The depth is limited."""
    body = Message(conversation="deep")
    for _ in range(20):
        body = Message(ephemeralMessage={"message": body})
    assert content(body).kind is K.UNKNOWN


def test_view_once_may_be_a_flag() -> None:
    """The library removes wrappers, and records them in the event."""
    event = an_event(Message(imageMessage={}))
    event.IsViewOnceV2 = event.IsEphemeral = True
    found = message(event)
    assert found is not None
    assert found == message(
        an_event(Message(ephemeralMessage={"message": {"imageMessage": {"viewOnce": True}}}))
    )


def test_an_unknown_kind_names_what_it_is() -> None:
    """It is stored and shown, never as an empty document."""
    body = Message(requestPhoneNumberMessage={}, messageContextInfo={"messageSecret": b"s"})
    assert content(body) == Content(K.UNKNOWN, detail="requestPhoneNumberMessage")


@pytest.mark.parametrize(
    "body",
    [
        Message(),
        Message(senderKeyDistributionMessage={"groupID": "1@g.us"}),
        Message(messageContextInfo={"messageSecret": b"s"}),
        Message(protocolMessage={"type": 0}),
        Message(protocolMessage={"type": 5}),
        Message(protocolMessage={"type": 6}),
        Message(ephemeralMessage={"message": {"protocolMessage": {"type": 27}}}),
    ],
)
def test_events_without_content_are_not_messages(body: Message) -> None:
    """Key distribution and the library's internal notices make no document."""
    assert message(an_event(body)) is None


@pytest.mark.parametrize(
    "body",
    [
        Message(reactionMessage={"text": "+"}),
        Message(pollUpdateMessage={}),
        Message(protocolMessage={"type": 14, "editedMessage": {"conversation": "new"}}),
    ],
)
def test_an_amendment_of_nothing_is_untranslatable(body: Message) -> None:
    """The caller keeps the raw event."""
    with pytest.raises(Untranslatable, match="without a target"):
        message(an_event(body))


def test_all_that_a_download_needs() -> None:
    """The file's address, the key, both hashes, and the preview data."""
    body = Message(
        videoMessage={
            "mimetype": "video/mp4", "fileLength": 2**40, "seconds": 9, "width": 640, "height": 480,
            "directPath": "/v/t62", "mediaKey": b"k" * 32, "fileSHA256": b"s" * 32, "fileEncSHA256": b"e" * 32,
            "mediaKeyTimestamp": 1_769_000_000, "JPEGThumbnail": b"jpeg", "gifPlayback": True,
        }
    )  # fmt: skip
    assert content(body).media == MediaContent(
        mimetype="video/mp4", size=2**40, seconds=9, width=640, height=480, animated=True, direct_path="/v/t62",
        key=b"k" * 32, sha256=b"s" * 32, enc_sha256=b"e" * 32, key_ms=1_769_000_000_000, thumbnail=b"jpeg",
    )  # fmt: skip


def test_each_kind_of_media_has_its_own_facts() -> None:
    """Pages of a document, the voice of an audio, the small picture of a sticker."""
    document = content(
        Message(documentMessage={"fileName": "a.pdf", "pageCount": 3, "caption": "see"})
    )
    assert document.media == MediaContent(filename="a.pdf", pages=3)
    assert content(Message(audioMessage={"PTT": True, "seconds": 2})).media == MediaContent(
        seconds=2, voice=True
    )
    sticker = content(Message(stickerMessage={"pngThumbnail": b"png", "isAnimated": True}))
    assert sticker.media == MediaContent(animated=True, thumbnail=b"png")


def test_a_large_thumbnail_is_left_out() -> None:
    """Documents stay small; the picture itself can be downloaded."""
    large = content(Message(imageMessage={"JPEGThumbnail": b"x" * (THUMBNAIL_LIMIT + 1)}))
    assert large.media == MediaContent()


def test_a_reply_names_the_quoted_message() -> None:
    """Id, author, chat, and one line of it; also mentions, forwarding and expiration."""
    context = {
        "stanzaID": "Q", "participant": "15550000002:3@s.whatsapp.net", "remoteJID": "status@broadcast",
        "quotedMessage": {"imageMessage": {"caption": "before", "contextInfo": {"stanzaID": "P"}}},
        "mentionedJID": [LID, "nonsense", PN], "isForwarded": True, "expiration": 86400,
    }  # fmt: skip
    found = content(Message(extendedTextMessage={"text": "yes", "contextInfo": context}))
    assert found == Content(
        K.TEXT, "yes", target="Q", quote=Quote(PN, "before", "status@broadcast"), mentions=(LID, PN),
        forwarded=True, expires_s=86400,
    )  # fmt: skip


def test_a_reply_to_an_untranslatable_message_is_still_a_reply() -> None:
    """Only its line is missing."""
    context = {"stanzaID": "Q", "quotedMessage": {"reactionMessage": {"text": "+"}}}
    found = content(Message(imageMessage={"contextInfo": context}))
    assert (found.target, found.quote) == ("Q", Quote())


def test_a_comment_is_a_reply() -> None:
    """To what it comments on."""
    body = Message(
        commentMessage={"message": {"conversation": "x"}, "targetMessageKey": {"ID": "T"}}
    )
    assert content(body) == Content(K.TEXT, "x", target="T")


def test_a_link_has_its_preview() -> None:
    """As its sender made it."""
    part = {"text": "see http://a.b", "matchedText": "http://a.b", "title": "A", "description": "B"}
    assert content(Message(extendedTextMessage=part)).link == LinkPreview("http://a.b", "A", "B")


def test_locations() -> None:
    """One location, and a live location."""
    part = {
        "degreesLatitude": 1.5, "degreesLongitude": -2, "name": "Here", "address": "Street 1", "URL": "http://m",
        "accuracyInMeters": 7,
    }  # fmt: skip
    assert content(Message(locationMessage=part)).location == Location(
        1.5, -2.0, "Here", "Street 1", "http://m", 7
    )
    live = content(Message(liveLocationMessage={"degreesLatitude": 1, "caption": "coming"}))
    assert (live.location, live.text) == (
        Location(1.0, 0.0, live=True), "coming, 1.000000,0.000000",
    )  # fmt: skip


def test_an_invalid_location() -> None:
    """A protobuf may contain numbers that are not finite."""
    part = {"degreesLatitude": math.nan, "name": "Nowhere"}
    assert content(Message(locationMessage=part)) == Content(K.LOCATION, "Nowhere")


def test_contact_cards() -> None:
    """Name and card of each."""
    card = {"displayName": "Eve", "vcard": "BEGIN:VCARD"}
    assert content(Message(contactMessage=card)).contacts == (Contact("Eve", "BEGIN:VCARD"),)
    two = content(Message(contactsArrayMessage={"displayName": "2", "contacts": [card, card]}))
    assert len(two.contacts) == 2


def test_a_poll_and_a_vote() -> None:
    """The options, how many may be chosen; the vote as received, for a client that can decrypt it."""
    options = [{"optionName": "yes"}, {"optionName": "no"}]
    part = {"name": "Tea?", "options": options, "selectableOptionsCount": 1}
    assert content(Message(pollCreationMessage=part)).poll == Poll("Tea?", ("yes", "no"), 1)
    update = {
        "pollCreationMessageKey": {"ID": "T"}, "vote": {"encPayload": b"p", "encIV": b"i"},
        "senderTimestampMS": 1_769_000_000_123,
    }  # fmt: skip
    assert content(Message(pollUpdateMessage=update)) == Content(
        K.POLL_VOTE, target="T", vote=Vote(b"p", b"i"), told_ms=1_769_000_000_123
    )


def test_an_edit_contains_the_new_text() -> None:
    """Also out of its wrapper, with its author's time."""
    protocol = {
        **KEY, "type": 14, "timestampMS": 1_769_000_000_123,
        "editedMessage": {"extendedTextMessage": {"text": "new", "contextInfo": {"mentionedJID": [PN]}}},
    }  # fmt: skip
    expected = Content(K.EDIT, "new", target="TARGET", mentions=(PN,), told_ms=1_769_000_000_123)
    assert content(Message(protocolMessage=protocol)) == expected
    wrapped = Message(editedMessage={"message": {"protocolMessage": protocol}})
    assert content(wrapped) == expected


@pytest.mark.parametrize(("attribute", "by_admin"), [("7", False), ("8", True), ("", False)])
def test_the_author_of_a_revoke(attribute: str, by_admin: bool) -> None:
    """The server reports whether it is the author or an admin."""
    found = content(Message(protocolMessage={**KEY, "type": 0}), edit=attribute)
    assert found == Content(K.REVOKE, target="TARGET", by_admin=by_admin)


def test_a_call_in_the_log() -> None:
    """Its outcome and its duration."""
    part = {"isVideo": True, "callOutcome": 0, "durationSecs": 61}
    assert content(Message(callLogMesssage=part)).call == Call(CallOutcome.ENDED, True, seconds=61)
