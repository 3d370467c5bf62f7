"""From the library's bytes to rows of the spool: for any bytes, every row can be read, and nothing is lost."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.guarded import Guarded, guard
from tests.support.library_events import LID, PN, SECONDS, an_info
from tests.support.protobufs import HistorySync, Message, pb
from tests.support.random_protobufs import NO_TEXTS, field, nested, protobufs, wire_bytes
from wad.core.content import Content, MessageKind
from wad.core.errors import EngineFailure
from wad.core.event import (
    ChatReceived,
    Event,
    HistoryReceived,
    MessageReceived,
    ReceiptReceived,
    decode,
)
from wad.core.text import is_ident
from wad.state.spool import Arrival
from wad.worker.message_secrets import MessageSecrets
from wad.worker.translate.events import TRANSLATORS, Untranslatable
from wad.worker.translation import OpeningKeys, Translated, translated

NOW = 1_769_000_001_234
CUT = b"caf\xc3"
MENDED = "caf\ufffd"


def sealed(raw: bytes) -> tuple[bytes, ...]:
    """No poll is known."""
    raise EngineFailure("no such poll")


def taken(name: str, raw: bytes) -> Translated:
    """The rows of an event."""
    return translated(name, raw, OpeningKeys(sealed, MessageSecrets()), NOW)


def a_jid(user: bytes, server: bytes) -> bytes:
    """A neonize JID."""
    return b"".join(
        [field(1, user), field(2, 0), field(3, 0), field(4, 0), field(5, server), field(6, 0)]
    )


def with_body(
    body: bytes,
    *,
    ident: bytes = b"3EB0",
    user: bytes = b"900000000000002",
    name: bytes = b"Bob",
    seconds: int = SECONDS,
) -> bytes:
    """A Message event around the bytes of a waE2E.Message, from Bob."""
    bob = a_jid(user, b"lid")
    source = field(1, bob) + field(2, bob) + field(6, a_jid(b"15550000002", b"s.whatsapp.net"))
    info = field(1, source) + field(2, ident) + field(5, name) + field(6, seconds)
    return field(1, info) + field(2, body)


def event_of(row: Arrival) -> Event:
    """The event of a row."""
    assert row.event is not None
    return decode(row.event)


def message_of(row: Arrival) -> MessageReceived:
    """The message in a row."""
    found = event_of(row)
    assert isinstance(found, MessageReceived)
    return found


def content_of(body: bytes) -> Content:
    """The message's content is translated, and nothing else is stored."""
    (row,) = taken("Message", with_body(body)).rows
    return message_of(row).content


# --- text is repaired -----------------------------------------------------------------------------


@pytest.mark.parametrize("text", [CUT, b"\xff", b"a\0b", b"\xed\xa0\x80"])
def test_invalid_text_is_repaired(text: bytes) -> None:
    """With U+FFFD for each byte that is not valid text, for a NUL and for a surrogate."""
    found = content_of(field(1, text))
    assert found.kind is MessageKind.TEXT
    assert "\ufffd" in found.text
    assert found.text.isprintable()


def media(number: int) -> bytes:
    """A caption or a name in an attachment."""
    return field(2, b"image/\xff") + field(number, CUT)


CONTEXT = field(1, b"A1") + field(2, PN.encode()) + field(3, field(1, CUT))


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (field(3, media(3)), lambda c: c.text),
        (field(7, media(8)), lambda c: c.media.filename),
        (field(3, field(2, CUT)), lambda c: c.media.mimetype),
        (field(4, field(1, b"Ann") + field(16, CUT)), lambda c: c.contacts[0].vcard),
        (field(4, field(1, CUT)), lambda c: c.contacts[0].name),
        (field(49, field(2, CUT)), lambda c: c.poll.question),
        (field(49, field(2, b"Q") + field(3, field(1, CUT))), lambda c: c.poll.options[0]),
        (field(6, field(1, b"x") + field(2, CUT)), lambda c: c.link.url),
        (field(6, field(1, b"x") + field(2, b"u") + field(6, CUT)), lambda c: c.link.title),
        (field(6, field(1, b"x") + field(17, CONTEXT)), lambda c: c.quote.text),
        (field(46, field(1, field(3, b"A1")) + field(2, CUT)), lambda c: c.text),
        (field(5, field(3, CUT)), lambda c: c.location.name),
        (field(12, field(1, field(3, b"A1")) + field(2, 14) + field(14, field(1, CUT))), lambda c: c.text),
    ],
    ids=[
        "caption", "file name", "MIME type", "vcard", "contact", "poll", "poll option", "link", "title", "quote",
        "reaction", "place", "edit",
    ],
)  # fmt: skip
def test_every_text_of_a_message_is_repaired(body: bytes, read: Any) -> None:
    """It is shown, and it is stored as text."""
    assert read(content_of(body)) == MENDED


def test_the_push_name_is_repaired() -> None:
    """The message is there with it."""
    (row,) = taken("Message", with_body(field(1, b"hi"), name=b"B\xffb")).rows
    assert message_of(row).push_name == "B\ufffdb"


# --- names are not repaired ------------------------------------------------------------------------


@pytest.mark.parametrize("ident", [b"3E\xffB", b"3E\0B", b"3E\nB", b"x" * 300])
def test_a_message_with_an_invalid_id_is_kept_raw(ident: bytes) -> None:
    """If repaired, two ids could become one; nothing can be shown instead."""
    raw = with_body(field(1, b"hi"), ident=ident)
    (row,) = taken("Message", raw).rows
    assert (row.raw, row.event, row.wa_id) == (raw, None, "")
    assert row.reason == "a message with an invalid id"


@pytest.mark.parametrize("user", [b"90\xff", b"9\0", "\u212a9".encode()])
def test_a_message_with_an_invalid_address_is_kept_raw(user: bytes) -> None:
    """With its id, which is valid."""
    raw = with_body(field(1, b"hi"), user=user)
    (row,) = taken("Message", raw).rows
    assert (row.raw, row.event, row.wa_id) == (raw, None, "3EB0")
    assert "invalid" in row.reason


def test_a_message_that_cannot_be_translated_is_shown_as_unknown() -> None:
    """In its thread, while the original is stored raw."""
    raw = with_body(field(46, field(2, b"!") + field(1, field(3, b"\xff"))))
    kept, shown = taken("Message", raw).rows
    assert (kept.raw, kept.event, kept.wa_id) == (raw, None, "3EB0")
    found = message_of(shown)
    assert (found.id, str(found.chat), found.at_ms) == ("3EB0", LID, SECONDS * 1000)
    assert found.content.kind is MessageKind.UNKNOWN
    assert "invalid id" in found.content.detail


def test_a_deeply_nested_message_is_shown_as_unknown() -> None:
    """The library takes more wrappers than Python's protobuf parses."""
    deep = nested(field(1, b"hi"), (40, 1), 60)
    kept, shown = taken("Message", with_body(deep)).rows
    assert kept.event is None
    assert "cannot be parsed" in kept.reason
    assert message_of(shown).content.kind is MessageKind.UNKNOWN


INVALID_TIMES = [0, 2**64 - 1, 40_000_000_000, 253_402_300_799_000, SECONDS * 1_000_000]


@pytest.mark.parametrize("seconds", INVALID_TIMES)
def test_a_receipt_without_a_valid_time_gets_its_arrival_time(seconds: int) -> None:
    """It counts, and what our own phone has read is known."""
    source = an_info().MessageSource.SerializeToString()
    raw = field(1, source) + field(2, b"A1") + field(3, seconds) + field(4, 4)
    (row,) = taken("Receipt", raw).rows
    found = event_of(row)
    assert isinstance(found, ReceiptReceived)
    assert (found.ids, found.at_ms) == (("A1",), NOW)


@pytest.mark.parametrize("seconds", INVALID_TIMES)
def test_a_message_without_a_valid_time_gets_its_arrival_time(seconds: int) -> None:
    """So that it is visible."""
    (row,) = taken("Message", with_body(field(1, b"hi"), seconds=seconds)).rows
    found = message_of(row)
    assert (found.at_ms, found.content.text) == (NOW, "hi")


def test_a_reply_to_an_invalid_id_is_a_plain_message() -> None:
    """Its content counts more than the quoted message."""
    context = field(1, b"\xff") + field(15, b"\xff") + field(15, PN.encode())
    found = content_of(field(6, field(1, b"yes") + field(17, context)))
    assert (found.text, found.target, found.mentions) == ("yes", "", (PN,))


# --- history --------------------------------------------------------------------------------------


def a_message(ident: bytes, body: bytes, seconds: int = SECONDS) -> bytes:
    """A message in a conversation."""
    key = field(1, PN.encode()) + field(2, 0) + field(3, ident)
    return field(2, field(1, field(1, key) + field(2, body) + field(3, seconds)))


def history(*items: bytes, name: bytes = b"Bob") -> bytes:
    """A HistorySync with one conversation."""
    conversation = field(1, PN.encode()) + b"".join(items) + field(13, name)
    return field(
        1, field(1, 2) + field(2, conversation) + field(7, field(1, PN.encode()) + field(2, name))
    )


def test_a_bad_name_in_a_history_part_drops_nothing() -> None:
    """Neither of a chat, nor of its members."""
    (row,) = taken("HistorySync", history(a_message(b"A", field(1, b"hi")), name=b"B\xff")).rows
    found = event_of(row)
    assert isinstance(found, HistoryReceived)
    names = [(e.name, e.push_name) for e in found.events if isinstance(e, ChatReceived)]
    assert names == [("B\ufffd", ""), ("", "B\ufffd")]


@pytest.mark.parametrize(
    "bad",
    [
        a_message(b"\xff", field(1, b"its id is none")),
        a_message(b"BAD", field(46, field(2, b"a reaction to nothing"))),
        a_message(b"BAD", nested(field(1, b"deep"), (40, 1), 60)),
    ],
    ids=["id", "target", "depth"],
)
def test_a_bad_message_of_a_history_part_drops_only_that_message(bad: bytes) -> None:
    """It is stored raw, so that it can be translated again; the others are translated."""
    good = [a_message(b"A", field(1, b"hi")), a_message(b"B", field(1, CUT))]
    kept, row = taken("HistorySync", history(good[0], bad, good[1])).rows
    found = event_of(row)
    assert isinstance(found, HistoryReceived)
    texts = {e.id: e.content.text for e in found.events if isinstance(e, MessageReceived)}
    assert (texts["A"], texts["B"]) == ("hi", MENDED)
    assert kept.event is None
    assert kept.kind == "historysync"
    assert bad in kept.raw
    again = taken("HistorySync", kept.raw).rows
    assert [one.event is None for one in again] == [True, False]


# --- anything -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TRANSLATORS))
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_string_field_is_read_past_its_readers(
    name: str, data: st.DataObject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They decide between a text to repair and a name to read exactly."""
    event = data.draw(protobufs(getattr(pb, name), always=("Message", "Data")))
    with monkeypatch.context() as patched:
        guard(patched)
        try:
            TRANSLATORS[name](Guarded(event))
        except Untranslatable:
            return


FIELDS = [one.name for one in Message.DESCRIPTOR.fields]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(FIELDS), st.data())
def test_any_message_is_shown_or_stored_raw(name: str, data: st.DataObject) -> None:
    """The placeholder can be read back, and stored as text."""
    body = data.draw(
        wire_bytes(Message, always=(name,), others=data.draw(st.integers(0, 4)) == 0, depth=4)
    )
    check_rows("Message", with_body(body))


@pytest.mark.parametrize("name", sorted(TRANSLATORS))
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_event_is_translated_or_stored_raw(name: str, data: st.DataObject) -> None:
    """Or it has no content to show."""
    raw = data.draw(wire_bytes(getattr(pb, name), always=("Message", "Data")))
    if data.draw(st.integers(0, 5)) == 0:
        raw = raw[: data.draw(st.integers(0, len(raw)))]
    check_rows(name, raw)


@settings(max_examples=60, deadline=None)
@given(wire_bytes(HistorySync, always=("conversations",), depth=6))
def test_any_history_is_translated_or_stored_raw(data: bytes) -> None:
    """Item by item."""
    check_rows("HistorySync", field(1, data))


@given(st.sampled_from(sorted(TRANSLATORS)), st.binary(max_size=100))
def test_any_bytes_are_translated_or_stored_raw(name: str, raw: bytes) -> None:
    """Also those that are not events."""
    check_rows(name, raw)


def check_rows(name: str, raw: bytes) -> None:
    """Every row can be read; an untranslatable event is stored raw, with a reason."""
    rows = taken(name, raw).rows
    for row in rows:
        row.reason.encode()
        assert row.wa_id == "" or is_ident(row.wa_id)
        if row.kind == "heard":
            continue
        if row.event is None:
            assert row.raw or not raw
            assert row.reason
        else:
            decode(row.event)
    if name != "HistorySync" and any(row.event is None and row.raw for row in rows):
        assert rows[0].raw == raw


def test_invalid_text_is_drawn() -> None:
    """Otherwise the tests above would find nothing."""
    assert any(text.decode(errors="replace") != text.decode(errors="ignore") for text in NO_TEXTS)
