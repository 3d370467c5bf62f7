"""Sealed changes: which are opened, by which addresses, and what becomes of them."""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.library_events import GROUP, LID, PN, an_event, content
from tests.support.protobufs import HistorySync, Message, pb
from tests.whatsapp import sealing
from tests.whatsapp.contents import Target
from tests.whatsapp.pb import Message as Fields
from tests.whatsapp.pb import encode
from tests.whatsapp.wire import Jid as WireJid
from wad.core.content import Content, MessageKind, Poll
from wad.worker.message_secrets import LIMIT, MessageSecret, MessageSecrets
from wad.worker.sealed_messages import opened

SECRET = bytes(range(32))
OWN = "15550000001@s.whatsapp.net"
EDITED: Fields = {12: {2: 14, 14: {1: "the total is 1000"}, 15: 1_769_000_009_000}}
AT = 1_769_000_010


def wire(text: str) -> WireJid:
    """An address of the test server's."""
    user, _, server = text.partition("@")
    return WireJid(user, server)


def target(author: str = LID, *, from_me: bool = True, chat: str = OWN) -> Target:
    """The message TARGET, from the sender's point of view."""
    return Target("TARGET", wire(author), wire(chat), from_me, in_group=chat == GROUP)


def event(fields: Fields, **around: Any) -> Any:
    """A Message event."""
    return an_event(Message.FromString(encode(fields)), **around)


def secrets(*authors: str, key: bytes = SECRET) -> MessageSecrets:
    """The secret of TARGET is known."""
    found = MessageSecrets(own=(OWN,))
    found.add("TARGET", MessageSecret(key, authors))
    return found


@pytest.mark.parametrize(("author", "editor"), list(itertools.product((PN, LID), repeat=2)))
@pytest.mark.parametrize("stored", [(PN,), (LID,), (), ("\udcff@lid",)])
def test_each_combination_of_addresses_is_tried(
    author: str, editor: str, stored: tuple[str, ...]
) -> None:
    """Both the author of the target and that of the change may be a number or a LID in the seal."""
    sealed = sealing.sealed_edit(target(author), SECRET, wire(editor), EDITED)
    found = opened(event(sealed), secrets(*stored))
    assert found == Content(
        MessageKind.EDIT, "the total is 1000", target="TARGET", told_ms=1_769_000_009_000
    )


@pytest.mark.parametrize(
    ("kind", "inner", "expected"),
    [
        (sealing.SealedEdit.MESSAGE, {1: "new"}, Content(MessageKind.EDIT, "new", target="TARGET")),
        (
            sealing.SealedEdit.EVENT,
            {75: {3: "Party at nine"}},
            Content(MessageKind.EDIT, "Party at nine", target="TARGET"),
        ),
        (
            sealing.SealedEdit.POLL,
            {64: {2: "Tea?", 3: [{1: "yes"}, {1: "no"}], 4: 1}},
            Content(
                MessageKind.EDIT,
                "Tea?\n- yes\n- no",
                target="TARGET",
                poll=Poll("Tea?", ("yes", "no"), 1),
            ),
        ),
        (
            sealing.SealedEdit.OPTION,
            {64: {2: "Tea?", 3: [{1: "yes"}], 4: 1}},
            Content(
                MessageKind.EDIT, "Tea?\n- yes", target="TARGET", poll=Poll("Tea?", ("yes",), 1)
            ),
        ),
    ],
)
def test_each_kind_of_edit(kind: sealing.SealedEdit, inner: Fields, expected: Content) -> None:
    """The plaintext is the new content itself, or an ordinary edit of it."""
    sealed = sealing.sealed_edit(target(), SECRET, wire(LID), inner, kind)
    assert opened(event(sealed), secrets(LID)) == expected


def test_reactions_comments_and_answers() -> None:
    """The family beside edits; an answer to an event is not shown."""
    ours = target(OWN, from_me=False)
    reaction = sealing.sealed_reaction(ours, SECRET, wire(LID), "👍", AT)
    assert opened(event(reaction), secrets()) == Content(
        MessageKind.REACTION, "👍", target="TARGET", told_ms=AT * 1000
    )
    comment = sealing.sealed_comment(ours, SECRET, wire(LID), {1: "I agree"})
    assert opened(event(comment), secrets()) == Content(
        MessageKind.TEXT, "I agree", target="TARGET"
    )
    answer = sealing.sealed_event_response(ours, SECRET, wire(PN), 1)
    found = opened(event(answer), secrets())
    assert found is not None
    assert (found.kind, found.target) == (MessageKind.NOTICE, "TARGET")


def test_in_a_group_the_author_is_in_the_key() -> None:
    """The chat is nobody's address there."""
    other = "15550000077@s.whatsapp.net"
    theirs = target(other, from_me=False, chat=GROUP)
    sealed = sealing.sealed_reaction(theirs, SECRET, wire(LID), "👍", AT)
    assert opened(event(sealed, chat=GROUP), secrets()) is not None


@pytest.mark.parametrize(
    "known",
    [
        MessageSecrets(),
        secrets(LID, key=bytes(32)),
        secrets(LID, key=b"short"),
    ],
)
def test_what_cannot_be_opened_is_a_notice(known: MessageSecrets) -> None:
    """Without the secret, or with a wrong one: no message, and nothing unread."""
    fields = sealing.sealed_edit(target(), SECRET, wire(LID), EDITED)
    assert opened(event(fields), known) is None
    assert content(Message.FromString(encode(fields))).kind is MessageKind.NOTICE


@given(st.binary(max_size=60), st.binary(max_size=20), st.integers(-1, 9), st.binary(max_size=20))
def test_foreign_bytes_are_not_opened(payload: bytes, iv: bytes, kind: int, ident: bytes) -> None:
    """Whatever the fields are."""
    key = {1: OWN, 2: 1, 3: ident}
    edit: Fields = {82: {1: key, 2: payload, 3: iv, 4: kind % 2**32}}
    others: list[Fields] = [{number: {1: key, 2: payload, 3: iv}} for number in (56, 71, 76)]
    for fields in (edit, *others):
        assert opened(event(fields), secrets(LID)) is None


@given(st.binary(max_size=60))
def test_a_seal_around_foreign_bytes(plain: bytes) -> None:
    """A contact with the secret may seal anything: an edit, or nothing."""
    payload, iv = sealing._seal(SECRET, "TARGET", wire(LID), wire(LID), "Message Edit", plain, None)
    found = opened(event({82: {1: target().key(), 2: payload, 3: iv, 4: 2}}), secrets(LID))
    assert found is None or (found.kind, found.target) == (MessageKind.EDIT, "TARGET")


def test_secrets_come_from_messages_and_from_the_spool() -> None:
    """Incoming ones, our phone's, and of older ones those in the spool's bytes; the newest stay in memory."""
    plain = Message(conversation="hi", messageContextInfo={"messageSecret": SECRET})
    known = MessageSecrets()
    known.add_event(an_event(plain))
    assert tuple(known.find("3EB0")) == (MessageSecret(SECRET, (LID, PN)),)
    known.add_event(an_event(Message(deviceSentMessage={"message": plain}), from_me=True))
    assert list(known.find("3EB0"))[-1] == MessageSecret(SECRET, (LID,))
    for number in range(LIMIT):
        known.add(f"N{number}", MessageSecret(os.urandom(32), ()))
    assert tuple(known.find("3EB0")) == ()
    stored = MessageSecrets(lambda wa_id: [an_event(plain)] if wa_id == "3EB0" else [])
    assert tuple(stored.find("3EB0")) == (MessageSecret(SECRET, (LID, PN)),)
    assert tuple(stored.find("OTHER")) == ()
    strangers = MessageSecret(bytes(32), ())
    stored.add("3EB0", strangers)
    assert tuple(stored.find("3EB0")) == (strangers, MessageSecret(SECRET, (LID, PN)))


def test_secrets_come_from_history() -> None:
    """Of both sides, in direct chats and groups."""

    def item(ident: str, sender: str, *, from_me: bool) -> Any:
        key = {"ID": ident, "fromMe": from_me, "participant": sender}
        return {"message": {"key": key, "messageSecret": SECRET}}

    chats = [
        {
            "ID": LID,
            "pnJID": PN,
            "messages": [item("A", "", from_me=False), item("B", "", from_me=True)],
        },
        {"ID": GROUP, "messages": [item("C", PN, from_me=False)]},
    ]
    known = MessageSecrets(own=(OWN,))
    known.add_history(pb.HistorySync(Data=HistorySync(syncType=0, conversations=chats)))
    assert tuple(known.find("A")) == (MessageSecret(SECRET, (LID, PN)),)
    assert tuple(known.find("B")) == (MessageSecret(SECRET, (OWN,)),)
    assert tuple(known.find("C")) == (MessageSecret(SECRET, (PN,)),)


def test_one_id_has_few_secrets() -> None:
    """A stranger may send the same id again and again; the first secrets stay."""
    known = MessageSecrets()
    for number in range(20):
        known.add("A", MessageSecret(bytes([number]) * 32, ()))
    assert [secret.key[0] for secret in known.find("A")] == [0, 1, 2, 19]
