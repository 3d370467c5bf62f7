"""Identity: one message is one document, whatever its source; `plan` is total, pure and repeatable."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.test_event import EVENTS, MESSAGES, RECEIPTS
from wad.core.addresses import Addresses
from wad.core.change import PutAlias, PutAmendment, PutChat, PutMark, PutMessage
from wad.core.content import AMENDING
from wad.core.event import (
    AliasReceived,
    ChatReceived,
    Content,
    Event,
    HistoryReceived,
    MessageKind,
    MessageReceived,
    ReceiptMark,
    ReceiptReceived,
)
from wad.core.identity import document_id, fingerprint, stable_key
from wad.core.jid import Jid, JidKind, ThreadId
from wad.core.message import Message, MessageStatus
from wad.core.plan import plan

ACC = "account_prod_x"
ANN = Jid.parse("40700000001@s.whatsapp.net")
ANN_LID = Jid.parse("111222@lid")
ME = Jid.parse("40700000009@s.whatsapp.net")
ME_LID = Jid.parse("999@lid")
GROUP = Jid.parse("123-456@g.us")
ALIASES = Addresses([PutAlias(str(ANN_LID), str(ANN))])
NONE = Addresses()
NOON = 1_769_000_000_000


def received(
    chat: Jid = ANN,
    sender: Jid = ANN,
    *,
    wa_id: str = "3EB0AAAABBBBCCCC1111",
    text: str = "hello",
    from_me: bool = False,
    chat_alt: Jid | None = None,
    sender_alt: Jid | None = None,
) -> MessageReceived:
    """A text that arrived."""
    content = Content(MessageKind.TEXT, text)
    return MessageReceived(wa_id, chat, sender, NOON, content, from_me, chat_alt, sender_alt)


def put(event: Event, aliases: Addresses | None = None) -> Message:
    """The only message that an event puts."""
    (found,) = [
        c.message for c in plan(ACC, event, aliases or Addresses()) if isinstance(c, PutMessage)
    ]
    return found


def aliases_of(event: Event) -> list[PutAlias]:
    """The aliases that an event contains."""
    return [change for change in plan(ACC, event, Addresses()) if isinstance(change, PutAlias)]


# --- the reference's formulas -----------------------------------------------------------------------


def test_the_ids_are_the_references() -> None:
    """The vector of docs/internals/replaced-backend.md#message-ids, which was run there."""
    message = put(received(text="  Salut   lume "))
    assert message.id == "a50b36ba146395b2da42bc64"
    assert message.stable_key.startswith("a50b36ba146395b2da42bc64")
    assert message.fingerprint == "5763a2dc1089b653088d7bf6963f62d464e12f43"
    assert message.thread == "account_prod_x__40700000001@s.whatsapp.net"


def test_the_stable_key_is_the_references_formula() -> None:
    """accountId|canonicalJid|waId|fromMe|participant, hashed whole."""
    text = f"{ACC}|{GROUP}|ID|1|{ANN}"
    key = stable_key(ACC, GROUP, "ID", True, ANN)
    assert key == hashlib.sha1(text.encode()).hexdigest()
    assert document_id(key) == key[:24]
    assert (
        stable_key(ACC, ANN, "ID", False, None)
        == hashlib.sha1(f"{ACC}|{ANN}|ID|0|".encode()).hexdigest()
    )


def test_every_part_of_the_identity_counts() -> None:
    """Account, chat, id, direction and participant each make another message."""
    keys = {
        stable_key(*parts)
        for parts in itertools.product(
            [ACC, "b"], [ANN, GROUP], ["A", "B"], [True, False], [None, ANN]
        )
    }
    assert len(keys) == 32


@given(st.text(alphabet=" \t\nab", max_size=8))
def test_blanks_do_not_count_in_the_fingerprint(text: str) -> None:
    """Normalised as the reference did: trimmed, runs of blanks are one."""
    one = fingerprint(ANN, False, None, NOON, Content(MessageKind.TEXT, text))
    other = fingerprint(
        ANN, False, None, NOON, Content(MessageKind.TEXT, f" {' '.join(text.split())}\n")
    )
    assert one == other


# --- identities -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("jid", "alt", "aliases", "expected"),
    [
        (ANN, None, NONE, ANN),
        (ANN, ANN_LID, NONE, ANN),
        (ANN_LID, ANN, NONE, ANN),
        (ANN_LID, None, ALIASES, ANN),
        (ANN_LID, None, NONE, ANN_LID),
        (GROUP, None, ALIASES, GROUP),
        (Jid.parse("111222:4@lid"), Jid.parse("40700000001:4@s.whatsapp.net"), NONE, ANN),
        (Jid.parse("111222:4@lid"), None, ALIASES, ANN),
        (ANN_LID, ME, ALIASES, ME),
        (Jid.parse("40700000001:99@hosted"), None, NONE, ANN),
        (Jid.parse("111222:99@hosted.lid"), None, ALIASES, ANN),
        (Jid.parse("111222:99@hosted.lid"), None, NONE, ANN_LID),
        (Jid.parse("111222:99@hosted.lid"), Jid.parse("40700000001:99@hosted"), NONE, ANN),
    ],
)
def test_a_person_is_named_by_number_where_it_is_known(
    jid: Jid, alt: Jid | None, aliases: Addresses, expected: Jid
) -> None:
    """From the event itself, else from before, else by hidden id; never by device, be it in the cloud."""
    assert aliases.canonical(jid, alt, 1) == expected


def test_a_number_in_the_history_replaces_none_that_is_known() -> None:
    """The phone's history has the numbers of its time; of an unknown person it gives the first one."""
    lid = Jid.parse("900000000000002@lid")
    old, new = (Jid.parse(f"1555000000{n}@s.whatsapp.net") for n in (2, 3))
    said = MessageReceived(
        "H1", lid, lid, 1000, Content(MessageKind.TEXT, "before"), chat_alt=old, sender_alt=old
    )
    chunk = HistoryReceived((AliasReceived(lid, old), said))
    known = Addresses([PutAlias(str(lid), str(new), 5)])
    changes = plan("a", chunk, known, 9_000_000)
    assert {change.at_ms for change in changes if isinstance(change, PutAlias)} == {0}
    (message,) = [change.message for change in changes if isinstance(change, PutMessage)]
    assert (message.chat, message.sender) == (str(new), str(new))
    (message,) = [
        change.message
        for change in plan("a", chunk, Addresses(), 9_000_000)
        if isinstance(change, PutMessage)
    ]
    assert message.chat == str(old)


@pytest.mark.parametrize(
    "event",
    [
        received(ANN, ANN),
        received(ANN_LID, ANN_LID, sender_alt=ANN),
        received(ANN_LID, ANN_LID, chat_alt=ANN, sender_alt=ANN),
        received(ANN, ANN, sender_alt=ANN_LID),
        received(ANN, Jid.parse("40700000001:7@s.whatsapp.net")),
        received(
            ANN_LID, Jid.parse("111222:7@lid"), sender_alt=Jid.parse("40700000001:7@s.whatsapp.net")
        ),
    ],
)
def test_a_message_is_one_however_it_is_addressed(event: MessageReceived) -> None:
    """By number, by hidden id with the number beside it, from any device: one document in one thread."""
    expected = put(received())
    assert (put(event).id, put(event).thread, put(event).sender) == (
        expected.id, expected.thread, expected.sender,
    )  # fmt: skip


def test_a_known_alias_joins_what_the_event_does_not() -> None:
    """A hidden id alone, once its number is known."""
    assert put(received(ANN_LID, ANN_LID), ALIASES).id == put(received()).id


def test_our_phones_message_is_in_the_recipients_thread() -> None:
    """Its chat's other address names the thread; our own does not."""
    event = received(ANN_LID, ME_LID, from_me=True, chat_alt=ANN, sender_alt=ME)
    message = put(event)
    assert (message.thread, message.sender) == (str(ThreadId.make(ACC, ANN)), str(ME))
    assert message.status is MessageStatus.SENT


def test_a_group_message_is_identified_by_its_sender() -> None:
    """Two members may use one id; a member's two addresses are one."""
    by_lid = put(received(GROUP, ANN_LID, sender_alt=ANN))
    assert by_lid.id == put(received(GROUP, ANN)).id
    assert by_lid.id != put(received(GROUP, ME)).id
    assert by_lid.thread == str(ThreadId.make(ACC, GROUP))


def test_an_event_with_both_addresses_reports_an_alias() -> None:
    """Once, without the device, whichever is first."""
    alias = PutAlias(str(ANN_LID), str(ANN))
    devices = received(
        GROUP, Jid.parse("40700000001:3@s.whatsapp.net"), sender_alt=Jid.parse("111222:3@lid")
    )
    assert aliases_of(devices) == [alias]
    assert aliases_of(received(ANN_LID, ANN_LID, chat_alt=ANN, sender_alt=ANN)) == [alias]
    both = received(ANN_LID, ME, from_me=True, chat_alt=ANN, sender_alt=ME_LID)
    assert aliases_of(both) == [alias, PutAlias(str(ME_LID), str(ME))]
    assert aliases_of(received()) == []
    assert aliases_of(received(GROUP, ANN, sender_alt=ANN)) == []


# --- receipts ---------------------------------------------------------------------------------------


def test_a_receipt_marks_every_message_it_names() -> None:
    """Nothing else: it creates no message."""
    event = ReceiptReceived(("A", "B"), ANN_LID, Jid.parse("111222:2@lid"), ReceiptMark.READ, NOON)
    thread = str(ThreadId.make(ACC, ANN))
    assert plan(ACC, event, ALIASES) == [
        PutMark(thread, "A", ReceiptMark.READ, str(ANN), NOON),
        PutMark(thread, "B", ReceiptMark.READ, str(ANN), NOON),
    ]


def test_our_own_receipts_say_what_was_read() -> None:
    """The whole chat up to that time; a delivery receipt of our phone changes nothing."""
    thread = str(ThreadId.make(ACC, ANN))
    event = ReceiptReceived(("A",), ANN, ME, ReceiptMark.READ, NOON, from_me=True)
    assert plan(ACC, event, Addresses()) == [PutChat(thread, str(ANN), read_ms=NOON)]
    event = ReceiptReceived(("A",), ANN, ME, ReceiptMark.DELIVERED, NOON, from_me=True)
    assert plan(ACC, event, Addresses()) == []


# --- amendments, chats, history ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", sorted(AMENDING))
def test_an_amendment_is_not_a_message(kind: MessageKind) -> None:
    """It has its target, its own id, its author, and the time of the author's clock."""
    content = Content(kind, "+", target="TARGET", told_ms=NOON + 5)
    event = MessageReceived("OWN", ANN_LID, ANN_LID, NOON, content, sender_alt=ANN)
    thread = str(ThreadId.make(ACC, ANN))
    expected = PutAmendment(thread, "TARGET", "OWN", str(ANN), False, NOON + 5, content)
    assert plan(ACC, event, ALIASES) == [PutAlias(str(ANN_LID), str(ANN)), expected]


@pytest.mark.parametrize("kind", [MessageKind.PIN, MessageKind.KEEP])
def test_a_pin_is_not_dated_in_the_future(kind: MessageKind) -> None:
    """The newest of all senders counts: the sender's clock orders them within the server's second only."""

    def at_ms(told_ms: int) -> int:
        content = Content(kind, target="T", told_ms=told_ms)
        (change,) = plan(ACC, MessageReceived("ID", ANN, ANN, NOON, content), Addresses())
        assert isinstance(change, PutAmendment)
        return change.at_ms

    assert [at_ms(NOON + told) for told in (-5, 5, 999, 1000, NOON)] == [
        NOON - 5, NOON + 5, NOON + 999, NOON + 999, NOON + 999,
    ]  # fmt: skip
    assert at_ms(0) == NOON


def test_a_notice_changes_no_message() -> None:
    """Its id is stored, since a placeholder with it is not a message either."""
    content = Content(MessageKind.NOTICE, target="T", detail="a sealed change", told_ms=7)
    thread = str(ThreadId.make(ACC, ANN))
    expected = PutAmendment(thread, "ID", "ID", str(ANN), False, NOON, Content(MessageKind.NOTICE))
    assert plan(ACC, MessageReceived("ID", ANN, ANN, NOON, content), Addresses()) == [expected]


def test_our_own_amendment_has_no_author() -> None:
    """Which of our addresses made it depends on the source."""
    content = Content(MessageKind.REACTION, "+", target="T")
    copies = [
        MessageReceived("OWN", ANN, sender, NOON, content, from_me=True)
        for sender in (None, ME, ME_LID)
    ]
    assert len({repr(plan(ACC, event, Addresses())) for event in copies}) == 1


def test_an_amendment_without_a_target_is_kept_as_a_message() -> None:
    """Nothing is dropped."""
    assert put(MessageReceived("ID", ANN, ANN, NOON, Content(MessageKind.EDIT, "x"))).wa_id == "ID"


def test_history_is_planned_part_by_part() -> None:
    """Aliases of one part apply to the next; all parts count as seen before live events."""
    event = HistoryReceived(
        (AliasReceived(ANN_LID, ANN), received(ANN_LID, ANN_LID), ChatReceived(ANN_LID, name="Ann"))
    )
    alias, put_message, chat = plan(ACC, event, Addresses(), seen=1000)
    assert alias == PutAlias(str(ANN_LID), str(ANN))
    assert isinstance(put_message, PutMessage)
    assert put_message.message.thread == str(ThreadId.make(ACC, ANN))
    assert put_message.message.seen == 998
    assert chat == PutChat(str(ThreadId.make(ACC, ANN)), str(ANN), name="Ann")


def test_our_own_message_may_name_no_sender() -> None:
    """History does not give the address that sent it; the document is the same."""
    event = MessageReceived("ID", ANN, None, NOON, Content(MessageKind.TEXT), from_me=True)
    by_me = MessageReceived("ID", ANN, ME, NOON, Content(MessageKind.TEXT), from_me=True)
    assert (put(event).sender, put(event).id) == ("", put(by_me).id)


# --- laws of plan -----------------------------------------------------------------------------------


@given(EVENTS)
def test_plan_is_total_and_repeatable(event: Event) -> None:
    """Any event gives changes, the same ones each time, and does not touch the aliases."""
    aliases = ALIASES.copy()
    assert plan(ACC, event, aliases) == plan(ACC, event, aliases)
    assert vars(aliases) == vars(ALIASES)


@given(MESSAGES)
def test_a_message_is_put_once(event: MessageReceived) -> None:
    """After the aliases that it contains, in a thread of its own account; an amendment is put as such.

    A notice is put without its content, as an amendment of itself.
    """
    *before, last = plan(ACC, event, Addresses())
    assert all(isinstance(change, PutAlias) for change in before)
    if event.content.kind in AMENDING and event.content.target:
        assert isinstance(last, PutAmendment)
        assert (last.target, last.content) == (event.content.target, event.content)
        return
    if event.content.kind is MessageKind.NOTICE:
        assert isinstance(last, PutAmendment)
        assert (last.target, last.content) == (event.id, Content(MessageKind.NOTICE))
        return
    assert isinstance(last, PutMessage)
    message = last.message
    assert ThreadId.parse(message.thread) == ThreadId(ACC, Jid.parse(message.chat))
    assert (message.wa_id, message.content, message.at_ms) == (event.id, event.content, event.at_ms)
    assert len(message.id) == 24
    assert not message.sender or Jid.parse(message.sender).device == 0


@given(MESSAGES)
def test_an_alias_joins_a_number_and_a_hidden_id(event: MessageReceived) -> None:
    """Never two of a kind, and never a group."""
    for alias in aliases_of(event):
        assert Jid.parse(alias.lid).kind is JidKind.LID
        assert Jid.parse(alias.pn).kind is JidKind.PN


@given(RECEIPTS)
def test_a_receipt_creates_no_message(event: ReceiptReceived) -> None:
    """The reference made documents without text of them."""
    changes = [c for c in plan(ACC, event, Addresses()) if not isinstance(c, PutAlias)]
    if event.from_me:
        assert all(isinstance(change, PutChat) for change in changes)
    else:
        assert all(isinstance(change, PutMark) for change in changes)
        assert len(changes) == len(event.ids)


_PLANNER = """
from tests.core.test_plan import ANN, ANN_LID, ME, ME_LID, ACC, NONE, plan, received
print(plan(ACC, received(ANN_LID, ME, from_me=True, chat_alt=ANN, sender_alt=ME_LID), NONE))
"""


def test_every_process_plans_the_same() -> None:
    """The order of changes does not depend on Python's hash seed."""
    plans = {
        subprocess.run(
            [sys.executable, "-c", _PLANNER],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2", "3")
    }
    assert len(plans) == 1
