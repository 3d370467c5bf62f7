"""The life of a message that we send: the law, and what no path through it may do."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wad.core.errors import Conflict
from wad.core.event import MessageKind, ReceiptMark
from wad.core.jid import Jid, ThreadId
from wad.core.message import MessageStatus, further
from wad.core.outbox import (
    Cancel,
    Claim,
    Claimed,
    Entry,
    Marked,
    NotSent,
    Outcome,
    Refused,
    Retry,
    Sent,
    Unknown,
    advance,
    entry_id,
    given_up,
    message_of,
    same_message,
)
from wad.core.outgoing import Text

S = MessageStatus
ANN = Jid.parse("40700000001@s.whatsapp.net")
CLAIM = Claim("here", 3)
EACH: tuple[Outcome, ...] = (
    Claimed(CLAIM, b"s"), Sent("ID", 7), NotSent("offline"), Refused("no", "never"), Unknown("ID", "crash"),
    Marked(ReceiptMark.DELIVERED), Retry(), Cancel(),
)  # fmt: skip

LAW: dict[MessageStatus, dict[type, MessageStatus]] = {
    S.QUEUED: {Claimed: S.SENDING, Refused: S.FAILED, Cancel: S.FAILED},
    S.SENDING: {
        Sent: S.SENT, NotSent: S.QUEUED, Refused: S.FAILED, Unknown: S.UNCERTAIN, Marked: S.DELIVERED,
    },
    S.UNCERTAIN: {Sent: S.SENT, Marked: S.DELIVERED, Retry: S.QUEUED, Cancel: S.FAILED},
    S.FAILED: {Sent: S.SENT, Marked: S.DELIVERED, Retry: S.QUEUED, Cancel: S.FAILED},
    S.SENT: {Marked: S.DELIVERED},
    S.DELIVERED: {Marked: S.DELIVERED},
    S.READ: {Marked: S.READ},
    S.PLAYED: {Marked: S.PLAYED},
}  # fmt: skip
"""Where each outcome leads; what is not here is a conflict."""


def an_entry(state: MessageStatus = S.QUEUED) -> Entry:
    """An entry in a state."""
    sending = state is S.SENDING
    return Entry(
        id=entry_id("acc", "k"),
        account="acc",
        thread=str(ThreadId.make("acc", ANN)),
        to=str(ANN),
        content=Text("hello"),
        client_id="k",
        secret=b"old",
        created_ms=5,
        state=state,
        attempts=int(sending),
        claim=CLAIM if sending else None,
    )


OUTCOMES: st.SearchStrategy[Outcome] = st.one_of(
    st.builds(Claimed, st.builds(Claim, st.text(), st.integers(1, 9)), st.binary(max_size=4)),
    st.builds(Sent, st.text(min_size=1), st.integers(1, 99)),
    st.builds(NotSent, st.text(), st.booleans(), st.booleans()),
    st.builds(Refused, st.text(), st.text()),
    st.builds(Unknown, st.text(), st.text()),
    st.builds(Marked, st.sampled_from(list(ReceiptMark))),
    st.just(Retry()),
    st.just(Cancel()),
)


def test_the_table_has_every_state() -> None:
    """And every outcome."""
    assert set(LAW) == set(MessageStatus)
    assert {kind for row in LAW.values() for kind in row} == {type(outcome) for outcome in EACH}


@pytest.mark.parametrize("state", list(MessageStatus))
@pytest.mark.parametrize("outcome", EACH, ids=lambda outcome: type(outcome).__name__)
def test_the_table_is_the_law(state: MessageStatus, outcome: Outcome) -> None:
    """Every pair of state and outcome leads where it should, or is a conflict that names the state."""
    after = LAW[state].get(type(outcome))
    if after is None:
        with pytest.raises(Conflict, match=f"is {state}"):
            advance(an_entry(state), outcome)
    else:
        assert advance(an_entry(state), outcome).state is after


def test_a_claim_takes_a_secret_of_its_own() -> None:
    """Each attempt is distinguishable in the session's database."""
    entry = advance(an_entry(), Claimed(CLAIM, b"new"))
    assert (entry.claim, entry.secret, entry.attempts) == (CLAIM, b"new", 1)
    assert advance(an_entry(), Claimed(CLAIM)).secret == b"old"


def test_waiting_costs_no_attempt() -> None:
    """What did not leave was not tried."""
    entry = advance(an_entry(S.SENDING), NotSent("offline"))
    assert (entry.state, entry.attempts, entry.claim) == (S.QUEUED, 0, None)
    assert (entry.error_code, entry.error) == ("not_sent", "offline")


def test_a_message_that_kills_the_worker_twice_is_given_up() -> None:
    """It would crash the account again and again; other failures do not count."""
    died = NotSent("SIGSEGV", died=True)
    once = advance(an_entry(S.SENDING), died)
    assert (once.state, once.deaths) == (S.QUEUED, 1)
    assert given_up(an_entry(S.SENDING), died) is None
    again = advance(once, Claimed(CLAIM, b"s"))
    assert given_up(again, NotSent("offline")) is None
    refused = given_up(again, died)
    assert refused is not None
    assert (
        "the worker died 2 times while it was sending this, and it never left: SIGSEGV"
        in refused.why
    )
    failed = advance(again, refused)
    assert failed.state is S.FAILED
    assert advance(failed, Retry()).deaths == 0


def test_an_uncertain_message_remembers_the_id_it_may_have() -> None:
    """So that evidence finds it."""
    entry = advance(an_entry(S.SENDING), Unknown("ID", "crash"))
    assert (entry.wa_id, entry.error_code, entry.claim) == ("ID", "uncertain", None)


def test_sending_again_forgets_the_old_id() -> None:
    """Evidence of the first attempt must not settle the second."""
    uncertain = advance(an_entry(S.SENDING), Unknown("ID", "crash"))
    again = advance(uncertain, Retry())
    assert (again.state, again.wa_id, again.error) == (S.QUEUED, "", "")


def test_evidence_wins_over_giving_up() -> None:
    """A cancelled message that did arrive must not be offered for sending again."""
    uncertain = advance(an_entry(S.SENDING), Unknown("ID", "crash"))
    entry = advance(advance(uncertain, Cancel()), Marked(ReceiptMark.READ))
    assert (entry.state, entry.error, entry.error_code) == (S.READ, "", "")
    with pytest.raises(Conflict):
        advance(entry, Retry())


def test_a_cancelled_failure_keeps_its_reason() -> None:
    """Nothing is sent any more either way, and the operator still sees why it failed."""
    failed = advance(an_entry(S.SENDING), Refused("not_on_whatsapp", "no such number"))
    assert advance(failed, Cancel()) == failed
    uncertain = advance(an_entry(S.SENDING), Unknown("ID", "crash"))
    assert advance(uncertain, Cancel()).error == "cancelled; it may have been sent: crash"


@given(st.lists(OUTCOMES, max_size=25))
def test_no_path_breaks_the_law(outcomes: list[Outcome]) -> None:
    """Whatever happens in whatever order."""
    entry = an_entry()
    for outcome in outcomes:
        before = entry
        try:
            entry = advance(before, outcome)
        except Conflict:
            continue
        # It has a claim exactly while it is being sent.
        assert (entry.claim is not None) == (entry.state is S.SENDING)
        # What certainly left is never queued again.
        if before.state in (S.SENT, S.DELIVERED, S.READ, S.PLAYED):
            assert entry.state is further(before.state, entry.state)
        # Only a person makes a message wait again that may have left.
        if before.state in (S.UNCERTAIN, S.FAILED) and entry.state is S.QUEUED:
            assert isinstance(outcome, Retry)
        # Every failure says why, and nothing else pretends to one.
        assert bool(entry.error_code) or entry.state not in (S.UNCERTAIN,)
        if entry.state in (S.SENT, S.DELIVERED, S.READ, S.PLAYED, S.SENDING):
            assert not entry.error
        # What it is stays what it is.
        assert (entry.id, entry.to, entry.content, entry.created_ms) == (
            before.id, before.to, before.content, before.created_ms,
        )  # fmt: skip
        assert entry.attempts >= 0


@given(st.lists(OUTCOMES, max_size=25))
def test_a_refused_outcome_changes_nothing(outcomes: list[Outcome]) -> None:
    """Entries are values: a conflict leaves the one that was given."""
    entry = an_entry()
    for outcome in outcomes:
        copy = msgspec.structs.replace(entry)
        try:
            entry = advance(entry, outcome)
        except Conflict:
            assert entry == copy


@given(st.permutations([ReceiptMark.DELIVERED, ReceiptMark.READ, ReceiptMark.PLAYED]))
def test_receipts_in_any_order_end_in_the_furthest(marks: list[ReceiptMark]) -> None:
    """They never move a message back."""
    entry = an_entry(S.SENT)
    for mark in marks:
        after = advance(entry, Marked(mark))
        assert further(entry.state, after.state) is after.state
        entry = after
    assert entry.state is S.PLAYED


# --- identity and texts -----------------------------------------------------------------------------


def test_the_same_key_gives_the_same_id() -> None:
    """40 hex digits, from account and key alone."""
    assert entry_id("acc", "k") == entry_id("acc", "k")
    assert len({entry_id("acc", "k"), entry_id("acc", "l"), entry_id("bcc", "k")}) == 3
    assert len(entry_id("acc", "k")) == 40


@given(st.lists(OUTCOMES, max_size=10))
def test_its_message_shows_its_state(outcomes: list[Outcome]) -> None:
    """One id, one status, WhatsApp's id and time once they are known."""
    entry = an_entry()
    for outcome in outcomes:
        try:
            entry = advance(entry, outcome)
        except Conflict:
            continue
    message = message_of(entry)
    assert (message.id, message.status, message.wa_id) == (entry.id, entry.state, entry.wa_id)
    assert (message.thread, message.chat, message.from_me) == (entry.thread, entry.to, True)
    assert (message.content.kind, message.content.text) == (MessageKind.TEXT, "hello")
    assert message.at_ms == (entry.sent_ms or entry.created_ms)


def test_the_same_message_may_be_asked_for_again() -> None:
    """Another recipient or text under the same key may not."""
    same_message(an_entry(), ANN, Text("hello"))
    with pytest.raises(Conflict, match="'k'"):
        same_message(an_entry(), ANN, Text("bye"))
    with pytest.raises(Conflict):
        same_message(an_entry(), Jid.parse("1@lid"), Text("hello"))
