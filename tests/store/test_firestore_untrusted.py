"""Documents of any other program: an invalid field costs that field or that document, nothing else."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.firestore.values import Value, document_at, documents
from wad.audit.firestore.decode import DocumentLocation, is_orphan_receipt, message_row, thread_row
from wad.audit.firestore.rules import has_content, right_status, right_times
from wad.core.change import PutAlias, PutAmendment, PutChat, PutMark, PutMessage, PutNumber
from wad.core.content import Content, MessageKind
from wad.core.errors import BadInput, InvalidData
from wad.core.event import ReceiptMark
from wad.core.lease import LONGEST_TTL, NEWEST_EPOCH
from wad.core.message import Message, MessageStatus
from wad.core.outbox import Entry
from wad.core.outgoing import (
    Attachment,
    AttachmentKind,
    ContactCard,
    NewPoll,
    Outgoing,
    OwnReaction,
    Revoke,
    SharedLocation,
    Target,
    Text,
    TextEdit,
)
from wad.core.untrusted import LATEST_MS, time_ms
from wad.store.app_documents import auto_reply_of, message_fields, moment
from wad.store.firestore.client.decode import NEVER, GeoPoint, Reference, Snapshot, Unreadable
from wad.store.firestore.documents.decode import DocumentFacts, Queued, read_document
from wad.store.firestore.documents.facts import Fact
from wad.store.firestore.documents.facts import packed as packed_fact
from wad.store.firestore.documents.legacy import is_legacy, merged_into, message_of, wa_ids
from wad.store.firestore.documents.lookups import wa_id_fields
from wad.store.firestore.documents.outbox import entry_fields, entry_of
from wad.store.firestore.lease.document import record_of, state_of, tenure_of
from wad.store.firestore.sync.legacy import check_of
from wad.store.firestore.sync.quarantine import type_of

ACC: Final = "acc-1"
CHAT: Final = "15550000002@s.whatsapp.net"
THREAD: Final = f"{ACC}__{CHAT}"
_OUTBOX: Final = (
    "accountId", "threadId", "toJid", "body", "payload", "text", "status", "createdAt", "clientMessageId", "wad",
    "entry", "leaseUntil",
)  # fmt: skip
_MESSAGE: Final = (
    "accountId", "key", "id", "participant", "timestamp", "waMessageId", "direction", "body", "messageType", "media",
    "sizeBytes", "mimetype", "url", "caption", "tsClient", "tsClientMs", "createdAtMs", "createdAt", "senderJid",
    "senderName", "status", "stableKeyHash", "wadBy", "wad", "told", "isDuplicate", "arrivedUs", "fromMe", "clientJid",
)  # fmt: skip
_LEASE: Final = (
    "holderInstanceId", "leaseUntil", "wad", "record", "until", "holder", "nonce", "epoch", "ttl", "acquired_ms",
)  # fmt: skip


def an_entry(**changes: Any) -> Entry:
    entry = Entry(
        id="e1",
        account=ACC,
        thread=THREAD,
        to=CHAT,
        content=Text("hi"),
        client_id="c1",
        secret=b"",
        created_ms=1_700_000_000_000,
    )
    return msgspec.structs.replace(entry, **changes)


def a_message(**changes: Any) -> Message:
    document = document_at(
        "x/y",
        {"body": Value(string_value="hi"), "tsClientMs": Value(integer_value=1_700_000_000_000)},
    )
    return msgspec.structs.replace(message_of(THREAD, "m1", "3EB0", document.fields), **changes)


# --- anything at all ------------------------------------------------------------------------------


@given(documents("outbox/e1", *_OUTBOX))
def test_any_entry_is_read_or_refused(document: Snapshot) -> None:
    """An entry that is read can be stored and written back."""
    with suppress(BadInput):
        entry = entry_of("e1", document.fields, 1_700_000_000_000)
        assert entry.id == "e1"
        assert 0 < entry.created_ms <= 1_700_000_000_000
        assert entry_fields(entry)


@given(documents(f"threads/{THREAD}/messages/m1", *_MESSAGE))
def test_any_message_of_the_backend_before_is_read_or_refused(document: Snapshot) -> None:
    fields = document.fields
    assert all(wa_ids(fields))
    is_legacy("m1", fields)
    merged_into(a_message(), "m1", fields)
    with suppress(BadInput):
        message = message_of(THREAD, "m1", "3EB0", fields)
        assert message_fields(message)
        assert wa_id_fields(message)


@given(
    st.sampled_from(
        ["outbox/e1", f"accounts/{ACC}", f"jid_aliases/{ACC}__7@lid", f"wad_facts/{ACC}__x", "x/y",
         f"threads/{THREAD}/messages/m1", "threads/../messages/m1", "accounts/..", "outbox/" + "x" * 600]
    ).flatmap(lambda path: documents(path, *_OUTBOX, *_MESSAGE, "rawJid", "canonicalJid", "payload"))
)  # fmt: skip
def test_any_document_of_another_machine_is_read_or_set_aside(document: Snapshot) -> None:
    with suppress(InvalidData):
        read_document(document)


@given(documents("locks/lease", *_LEASE), st.floats(0, 1e6), st.integers(0, NEWEST_EPOCH))
def test_any_lease_is_held_for_a_while_or_free(document: Snapshot, age: float, epoch: int) -> None:
    record = record_of(document.fields, age, 1_700_000_000_000, epoch)
    assert epoch <= record.epoch <= NEWEST_EPOCH
    assert 0 <= record.ttl <= max(LONGEST_TTL, age + 600)
    assert record.holder or record.ttl == 0
    state_of(document.fields)
    with suppress(InvalidData):
        tenure_of(document.fields)


@given(documents(f"threads/{THREAD}/messages/m1", *_MESSAGE))
def test_audits_read_any_document(document: Snapshot) -> None:
    fields = document.fields
    assert message_row(DocumentLocation(THREAD, "m1"), fields).stamp.type
    thread_row(THREAD, fields)
    is_orphan_receipt(fields)
    right_times(fields)
    right_status(fields)
    has_content(fields)
    auto_reply_of(dict(fields))
    check_of(document)


@given(documents("x/y", "a"))
def test_a_document_is_shown_without_its_values(document: Snapshot) -> None:
    for value in document.fields.values():
        assert 0 < len(type_of(value)) < 60


# --- single fields --------------------------------------------------------------------------------


def test_every_type_of_value_is_decoded() -> None:
    """A reference into another project, a value out of range, or a type newer than this code."""
    far = Value()
    far.timestamp_value.seconds = 1 << 60
    point = Value()
    point.geo_point_value.latitude = 1.5
    fields = document_at(
        "x/y",
        {
            "reference": Value(reference_value="projects/other/databases/(default)/documents/a/b"),
            "far": far,
            "point": point,
            "new": Value(),
            "odd `name`.with/all": Value(boolean_value=True),
        },
    ).fields
    assert fields == {
        "reference": Reference("projects/other/databases/(default)/documents/a/b"),
        "far": Unreadable("timestamp"),
        "point": GeoPoint(1.5, 0.0),
        "new": None,
        "odd `name`.with/all": True,
    }


@pytest.mark.parametrize("written", [(1, 1 << 30), (1 << 60, 0), (-1 << 60, 0)])
def test_a_document_whose_own_times_are_out_of_range_is_read(written: tuple[int, int]) -> None:
    found = document_at("x/y", {"body": Value(string_value="hello")}, written)
    assert found.fields == {"body": "hello"}
    assert found.update_time == found.create_time == NEVER


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("createdByRef", Reference("projects/other/databases/(default)/documents/users/u")),
        ("emb", {"__type__": "__vector__", "value": [1.0, 2.0]}),
        ("at", GeoPoint(1, 2)),
        ("createdAt", float("nan")),
        ("createdAt", moment(-62_135_596_800_000)),
        ("createdAt", moment(253_402_300_799_000)),
        ("createdAt", Unreadable("timestamp")),
        ("attemptCount", float("inf")),
        ("clientMessageId", 7),
        ("clientMessageId", "a/b"),
        ("threadId", 7),
        ("wad", 7),
        ("wad", {"entry": "text"}),
        ("lastError", b"\xff"),
    ],
)
def test_a_field_that_does_not_matter_costs_nothing(field: str, value: object) -> None:
    """The entry is sent all the same."""
    document = {"accountId": ACC, "toJid": CHAT, "body": "hi", "status": "queued", field: value}
    entry = entry_of("e1", document, 1_700_000_000_000)
    assert (entry.text, entry.state) == ("hi", MessageStatus.QUEUED)
    assert entry.created_ms == 1_700_000_000_000
    assert entry.client_id == "e1"


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "e2"},
        {"account": "acc-2"},
        {"account": "../x", "thread": f"../x__{CHAT}"},
        {"thread": f"acc-2__{CHAT}"},
        {"thread": "acc-1__group"},
        {"to": "1@s.whatsapp.net"},
        {"to": "nobody"},
        {"created_ms": 1 << 60},
        {"attempts": -1},
        {"attempts": (1 << 64) - 1},
        {"deaths": -1},
        {"deaths": 1 << 62},
    ],
)
def test_a_packed_entry_is_that_of_its_document(changes: dict[str, Any]) -> None:
    document = {**entry_fields(an_entry()), "wad": entry_fields(an_entry())["wad"]}
    assert entry_of("e1", document) == an_entry()
    forged = msgspec.msgpack.encode(an_entry(**changes))
    with pytest.raises(InvalidData):
        entry_of("e1", {**document, "wad": {"entry": forged}})


HOSTILE: Final[dict[str, Outgoing]] = {
    "a text too long": Text("x" * 400_000),
    "no text": Text(" "),
    "an invalid target": Text("hi", Target("A", "?")),
    "a target elsewhere": Text("hi", Target("A", "15550000003@s.whatsapp.net")),
    "an invalid mention": Text("hi @x", mentions=("x",)),
    "a file that is none": Attachment(kind=AttachmentKind.IMAGE, sha256="../../x", size=1, mimetype="image/png"),
    "a huge file": Attachment(kind=AttachmentKind.IMAGE, sha256="0" * 64, size=1 << 63, mimetype="image/png"),
    "a negative file": Attachment(kind=AttachmentKind.IMAGE, sha256="0" * 64, size=-1, mimetype="image/png"),
    "a place that is none": SharedLocation(float("nan"), 0.0),
    "a contact without a number": ContactCard("Ann", "x"),
    "a poll of one": NewPoll("?", ("a",)),
    "an emoji of many": OwnReaction(Target("A", CHAT), "x" * 100),
    "an edit of another's message": TextEdit(Target("A", CHAT), "x"),
    "an edit too late": TextEdit(Target("A", CHAT, from_me=True, at_ms=1), "x"),
    "a revoke too late": Revoke(Target("A", CHAT, from_me=True, at_ms=1)),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_queued_packed_entry_has_what_can_be_sent(kind: str) -> None:
    """BadInput, so that its document says why; any other error would be a fault of ours."""
    written = msgspec.msgpack.encode(an_entry(content=HOSTILE[kind]))
    with pytest.raises(BadInput):
        entry_of("e1", {"status": "queued", "wad": {"entry": written}})


def test_bytes_that_are_not_a_text_affect_one_document() -> None:
    packed = entry_fields(an_entry())["wad"]["entry"].replace(b"hi", b"h\xff")
    with pytest.raises(InvalidData):
        entry_of("e1", {"status": "queued", "wad": {"entry": packed}})


@pytest.mark.parametrize(
    ("shown", "state"),
    [
        ("queued", MessageStatus.QUEUED),
        ("sent", MessageStatus.SENT),
        ("failed", MessageStatus.FAILED),
        ("processing", MessageStatus.UNCERTAIN),
        ("cancelled by hand", MessageStatus.UNCERTAIN),
    ],
)
def test_an_entry_claimed_by_another_program_is_not_sent_again(
    shown: str, state: MessageStatus
) -> None:
    """It changes the document's status and leaves the packed entry."""
    document = {**entry_fields(an_entry()), "status": shown}
    assert entry_of("e1", document).state is state


def test_a_text_too_long_is_refused_before_it_waits() -> None:
    document = {"accountId": ACC, "toJid": CHAT, "body": "x" * 400_000, "status": "queued"}
    with pytest.raises(BadInput, match="400000 characters"):
        entry_of("e1", document)


@pytest.mark.parametrize(
    "to",
    ["status@broadcast", "1700000000@broadcast", "120363000000000001@newsletter", "15550000002@hosted",
     "867051314767696@bot", "0@s.whatsapp.net", "1@g.us"],
)  # fmt: skip
@pytest.mark.parametrize("status", ["queued", "processing", "failed"])
def test_an_entry_for_an_address_without_messages_is_refused(to: str, status: str) -> None:
    """BadInput, as for every entry that cannot be sent: any other error would stop the outbox of all accounts."""
    document = {"accountId": ACC, "toJid": to, "body": "hi", "status": status}
    with pytest.raises(BadInput):
        entry_of("e1", document)


@pytest.mark.parametrize(
    "value",
    [1_700_000_000, 1_700_000_000_000, 1_700_000_000_000_000, 1_700_000_000_000_000_000, 1.7e15,
     "1700000000000", "2023-11-14T22:13:20Z", {"_seconds": 1_700_000_000}],
)  # fmt: skip
def test_a_time_in_any_unit(value: object) -> None:
    assert time_ms(value) == 1_700_000_000_000


@given(st.one_of(st.integers(), st.floats(), st.text(), st.datetimes(), st.binary()))
def test_a_time_can_be_written_or_is_none(value: object) -> None:
    found = time_ms(value)
    assert found is None or (0 < found < LATEST_MS and moment(found))


# --- what is packed -------------------------------------------------------------------------------


def snapshot(path: str, **ours: object) -> Snapshot:
    return Snapshot(path, True, {"wadBy": "m", "wad": ours})


def packed(value: object) -> bytes:
    return msgspec.msgpack.encode(value)


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "m2"},
        {"account": "acc-2"},
        {"thread": "acc-1__7@lid"},
        {"at_ms": 1 << 62},
        {"seen": 1 << 62},
        {"chat": "?"},
    ],
)
def test_a_packed_message_is_that_of_its_document(changes: dict[str, Any]) -> None:
    path = f"threads/{THREAD}/messages/m1"
    found = read_document(snapshot(path, told=packed(a_message())))
    assert isinstance(found, DocumentFacts)
    assert found.changes == (PutMessage(a_message()),)
    with pytest.raises(InvalidData):
        read_document(snapshot(path, told=packed(a_message(**changes))))


def test_an_alias_is_that_of_its_document() -> None:
    fields = {"accountId": ACC, "rawJid": "7@lid", "canonicalJid": CHAT}
    found = read_document(Snapshot(f"jid_aliases/{ACC}__7@lid", True, fields))
    assert isinstance(found, DocumentFacts)
    assert found.changes == (PutAlias("7@lid", CHAT),)
    wrong: list[tuple[str, dict[str, str]]] = [
        (f"jid_aliases/{ACC}__8@lid", {}),
        (f"jid_aliases/{ACC}__7@lid", {"accountId": "acc-2"}),
        (f"jid_aliases/{ACC}__7@lid", {"canonicalJid": "9@lid"}),
        (f"jid_aliases/{ACC}__7@lid", {"rawJid": CHAT}),
    ]
    for path, changes in wrong:
        with pytest.raises(InvalidData):
            read_document(Snapshot(path, True, {**fields, **changes}))


def test_another_number_is_that_of_its_document() -> None:
    """It names its person; its time is possible."""
    number = "15550000099@s.whatsapp.net"
    path, ours = f"jid_aliases/{ACC}__{number}", {"person": "7@lid", "atMs": 8, "asked": True}
    fields = {"accountId": ACC, "rawJid": number, "canonicalJid": CHAT, "wad": ours}
    found = read_document(Snapshot(path, True, fields))
    assert isinstance(found, DocumentFacts)
    assert found.changes == (PutNumber(number, "7@lid", 8, asked=True),)
    for wrong in ({"person": "1-2@g.us"}, {"person": number}, {"atMs": 1 << 62}, {"atMs": "8"}):
        with pytest.raises(InvalidData):
            read_document(Snapshot(path, True, {**fields, "wad": ours | wrong}))


FACTS: Final[list[Fact]] = [
    PutChat(THREAD, CHAT, name="Ann", name_ms=1, read_ms=2, unread=3, unread_ms=4, expires_s=5, expires_ms=6),
    PutMark(THREAD, "3EB0", ReceiptMark.READ, CHAT, 7),
    PutAmendment(THREAD, "3EB0", "3EB1", CHAT, from_me=False, at_ms=8, content=Content(MessageKind.EDIT, "x")),
]  # fmt: skip


def fact_document(fact: Fact) -> Snapshot:
    return Snapshot(f"wad_facts/{ACC}__x", True, {"payload": packed_fact(ACC, fact)})


@pytest.mark.parametrize("fact", FACTS)
def test_a_fact_of_another_machine_has_possible_numbers(fact: Fact) -> None:
    """A time far in the future would win over every later fact; a larger number fits into no column."""
    found = read_document(fact_document(fact))
    assert isinstance(found, DocumentFacts)
    assert found.changes == (fact,)
    numbers = [name for name, value in msgspec.structs.asdict(fact).items() if type(value) is int]
    assert numbers
    for name in numbers:
        for value in (-1, LATEST_MS, 1_700_000_000_000_000, (1 << 63) - 1, (1 << 64) - 1):
            forged = msgspec.structs.replace(fact, **{name: value})
            with pytest.raises(InvalidData, match="out of range"):
                read_document(fact_document(forged))


@pytest.mark.parametrize("name", ["told_ms", "expires_s"])
def test_a_pin_of_another_machine_has_possible_numbers(name: str) -> None:
    """Those in its content as well: its end is computed from them."""
    for value in (-1, (1 << 63) - 1):
        content = msgspec.structs.replace(Content(MessageKind.PIN), **{name: value})
        pin = PutAmendment(THREAD, "3EB0", "3EB1", CHAT, from_me=False, at_ms=8, content=content)
        with pytest.raises(InvalidData, match="out of range"):
            read_document(fact_document(pin))


def test_an_entry_of_another_machine_is_read() -> None:
    document = Snapshot("outbox/e1", True, entry_fields(an_entry()))
    found = read_document(document)
    assert isinstance(found, Queued)
    assert found.entry == an_entry()
