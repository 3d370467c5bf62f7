"""The documents of messages, threads, accounts and the outbox, field by field; a test for each group of fields."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.contracts.world import (
    ACC,
    ANN,
    ANN_LID,
    ANN_THREAD,
    CLAIMED,
    GROUP,
    NOON,
    S,
    a_status,
    arrival,
    queued,
    text,
)
from wad.core.auto_reply import AutoReply
from wad.core.change import PutMessage
from wad.core.connection import State
from wad.core.errors import BadInput
from wad.core.event import Content, MediaContent, MessageKind
from wad.core.history import BackfillResult, ThreadResult
from wad.core.jid import Jid
from wad.core.message import Message, MessageStatus, Reaction, Thread
from wad.core.outbox import LEFT, Sent, Unknown, advance
from wad.store.app_documents import (
    above_floor,
    account_fields,
    auto_reply_of,
    gone_account_fields,
    message_fields,
    redirect_fields,
    thread_fields,
    ts_sort,
)
from wad.store.firestore.documents.outbox import (
    claimed_fields,
    entry_fields,
    entry_of,
    new_entry_fields,
    reconciled,
)

NOON_AT = datetime.fromtimestamp(NOON / 1000, UTC)


def a_message(number: int = 1, chat: Jid = ANN, **more: Any) -> Message:
    """A message as `plan` creates it, 1 s after noon."""
    (put,) = [c for c in arrival(number, chat, **more) if isinstance(c, PutMessage)]
    return put.message


# --- messages -----------------------------------------------------------------------------------


def test_a_message_has_account_thread_and_chat() -> None:
    """In each spelling that a reader uses; texts, never objects."""
    fields = message_fields(a_message())
    assert (fields["accountId"], fields["threadId"]) == (ACC, ANN_THREAD)
    assert fields["canonicalThreadId"] == ANN_THREAD
    spellings = {fields[name] for name in ("clientJid", "clientJidRaw", "rawJid", "resolvedJid")}
    assert spellings == {str(ANN)}
    assert (fields["peerType"], fields["isGroup"]) == ("user", False)
    assert fields["normalizedPhone"] == f"+{ANN.user}"


@pytest.mark.parametrize(
    ("chat", "peer", "phone"), [(GROUP, "group", None), (ANN_LID, "lid", None)]
)
def test_a_message_has_the_kind_of_its_chat(chat: Jid, peer: str, phone: str | None) -> None:
    """A group or a LID has no number."""
    fields = message_fields(a_message(1, chat, sender=ANN))
    assert (fields["peerType"], fields["normalizedPhone"]) == (peer, phone)
    assert fields["isGroup"] is (peer == "group")


def test_a_message_has_its_times() -> None:
    """tsClient is a Timestamp and createdAtMs an integer, besides all other times."""
    seen_ms = NOON + 3000
    fields = message_fields(a_message(1, seen=seen_ms * 1000 + 7))
    at = datetime.fromtimestamp(NOON / 1000 + 1, UTC)
    assert fields["tsClient"] == fields["createdAt"] == at
    assert fields["tsClientMs"] == fields["createdAtMs"] == NOON + 1000
    assert type(fields["createdAtMs"]) is int
    assert fields["tsClientIso"] == "2026-01-21T12:53:21.000Z"
    assert fields["tsServer"] == fields["ingestedAt"]
    assert fields["tsServer"].timestamp() * 1000 == seen_ms
    assert (fields["tsClientFallback"], fields["tsClientReason"]) == (False, None)


@given(st.lists(st.integers(-2_000_000, 3_000_000), min_size=2, max_size=5), st.integers(0, 1))
def test_messages_of_one_second_sort_by_arrival(lates: list[int], second: int) -> None:
    """tsSort is a Timestamp within WhatsApp's second, in the order of arrival."""
    at_ms = NOON + second * 1000
    messages = [a_message(1, at_ms=at_ms, seen=at_ms * 1000 + late) for late in sorted(lates)]
    found = [ts_sort(message) for message in messages]
    assert {int(at.timestamp()) for at in found} == {at_ms // 1000}
    assert found == sorted(found)
    arrived = [message_fields(message)["arrivedUs"] for message in messages]
    assert arrived == [at_ms * 1000 + late for late in sorted(lates)]


def test_a_message_has_its_ids() -> None:
    """Full hashes, so that a reader never confuses two messages; WhatsApp's id under each name."""
    message = a_message()
    fields = message_fields(message)
    names = ("waMessageId", "waMessageIdRaw", "providerMessageId")
    assert {fields[name] for name in names} == {message.wa_id}
    assert fields["stableKeyHash"] == message.stable_key
    assert len(fields["stableKeyHash"]) == len(fields["fingerprintHash"]) == 40
    assert (fields["clientMessageId"], fields["isDuplicate"]) == (None, False)
    assert fields["key"] == {
        "id": message.wa_id,
        "remoteJid": str(ANN),
        "fromMe": False,
        "timestamp": NOON // 1000 + 1,
    }


def test_a_group_message_names_its_sender() -> None:
    """As participant of the key, and by push name."""
    fields = message_fields(a_message(1, GROUP, sender=ANN, push_name="Ann"))
    assert fields["key"]["participant"] == fields["senderJid"] == fields["senderId"] == str(ANN)
    assert fields["senderName"] == fields["lastSenderName"] == "Ann"


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (S.QUEUED, "queued"), (S.SENDING, "queued"), (S.UNCERTAIN, "queued"), (S.FAILED, "failed"),
        (S.SENT, "sent"), (S.DELIVERED, "delivered"), (S.READ, "read"), (S.PLAYED, "read"),
    ],
)  # fmt: skip
def test_a_status_is_one_that_the_apps_know(status: MessageStatus, shown: str) -> None:
    """The exact status is beside it."""
    fields = message_fields(msgspec.structs.replace(a_message(from_me=True), status=status))
    assert (fields["status"], fields["statusDetail"]) == (shown, str(status))
    assert fields["direction"] == "outbound"


@pytest.mark.parametrize(
    ("content", "kind", "body"),
    [
        (text("hi"), "text", "hi"),
        (Content(MessageKind.LOCATION, "here"), "unknown", "here"),
        (Content(MessageKind.STICKER), "sticker", None),
    ],
)
def test_a_message_has_a_type_and_a_body(content: Content, kind: str, body: str | None) -> None:
    """A type that the apps know; without a body it is null."""
    fields = message_fields(a_message(content=content))
    assert (fields["messageType"], fields["body"]) == (kind, body)
    assert fields["kind"] == content.kind
    assert fields["preview"]


def test_media_are_spelled_both_ways() -> None:
    """mimetype and mimeType, filename and fileName; the thumbnail in base64."""
    media = MediaContent("image/png", "a.png", 77, thumbnail=b"tiny")
    fields = message_fields(a_message(content=Content(MessageKind.IMAGE, "look", media=media)))
    found = fields["media"]
    assert fields["mediaType"] == found["type"] == "image"
    assert found["mimetype"] == found["mimeType"] == "image/png"
    assert found["filename"] == found["fileName"] == "a.png"
    assert (found["sizeBytes"], found["caption"]) == (77, "look")
    assert base64.b64decode(found["thumbBase64"]) == b"tiny"
    assert (found["url"], found["storagePath"]) == (None, None)


def test_a_message_shows_its_amendments() -> None:
    """Edited, deleted, and its reactions."""
    message = msgspec.structs.replace(
        a_message(), edited_ms=NOON, revoked_ms=NOON + 1, reactions=(Reaction(str(ANN), "👍", NOON),)
    )  # fmt: skip
    fields = message_fields(message)
    assert (fields["edited"], fields["editedAtMs"]) == (True, NOON)
    assert (fields["pinnedUntilMs"], fields["kept"]) == (None, False)
    pinned = msgspec.structs.replace(message, pinned_until_ms=NOON, kept=True)
    fields = message_fields(pinned)
    assert (fields["pinnedUntilMs"], fields["kept"]) == (NOON, True)
    assert (fields["deleted"], fields["deletedAtMs"]) == (True, NOON + 1)
    assert fields["reactions"] == [{"by": str(ANN), "fromMe": False, "text": "👍", "atMs": NOON}]


# --- threads ------------------------------------------------------------------------------------


def a_thread(chat: Jid = ANN, name: str = "Ann", last_ms: int = NOON) -> Thread:
    """A thread."""
    return Thread(
        id=f"{ACC}__{chat}", account=ACC, chat=str(chat), name=name, last_ms=last_ms, last_text="x" * 300, unread=2,
        messages=5,
    )  # fmt: skip


def test_a_thread_has_its_party() -> None:
    """Address, name and number under each name that a reader uses."""
    fields = thread_fields(a_thread())
    assert {fields[n] for n in ("clientJid", "canonicalJid", "rawJid", "resolvedJid")} == {str(ANN)}
    names = ("phone", "phoneE164", "phoneNumber", "normalizedPhone")
    assert {fields[name] for name in names} == {f"+{ANN.user}"}
    assert fields["displayName"] == fields["name"] == "Ann"
    assert (fields["redirectTo"], fields["canonicalThreadId"]) == (None, ANN_THREAD)
    assert (fields["isGroup"], fields["isLid"], fields["groupSubject"]) == (False, False, None)


def test_a_thread_without_a_name_shows_its_number() -> None:
    """A group shows its subject."""
    assert thread_fields(a_thread(name=""))["displayName"] == f"+{ANN.user}"
    group = thread_fields(a_thread(GROUP, "Friends"))
    assert (group["groupSubject"], group["displayName"], group["isGroup"]) == (
        "Friends",
        "Friends",
        True,
    )


def test_a_thread_has_its_last_message() -> None:
    """Its time as Timestamp, integer and seconds; a preview of at most 100 characters."""
    fields = thread_fields(msgspec.structs.replace(a_thread(), last_sender="Bob"))
    assert fields["lastMessageAt"] == NOON_AT
    assert fields["lastMessageAtMs"] == NOON
    assert type(fields["lastMessageAtMs"]) is int
    assert fields["lastMessageTimestamp"] == NOON // 1000
    assert len(fields["lastMessagePreview"]) == 100
    assert fields["lastMessageDirection"] == "inbound"
    assert (fields["lastMessageSenderName"], fields["unreadCount"]) == ("Bob", 2)


def test_a_newer_document_of_another_program_is_kept() -> None:
    """Its last message does not go back, and its name is replaced by a name only."""
    fields = thread_fields(a_thread(name=""))
    kept = above_floor(fields, NOON + 1)
    assert not [name for name in kept if name.startswith("lastMessage")]
    assert not {"displayName", "name"} & set(kept)
    assert above_floor(thread_fields(a_thread()), NOON) == thread_fields(a_thread())


def test_an_old_thread_redirects() -> None:
    """It names the thread by number and is hidden; only to a valid thread id."""
    fields = redirect_fields(ANN_THREAD)
    assert fields == {"redirectTo": ANN_THREAD, "canonicalThreadId": ANN_THREAD, "hidden": True}
    with pytest.raises(BadInput):
        redirect_fields(f"{ACC}__[object Object]")


# --- accounts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
def test_an_account_has_a_status_that_the_apps_know(state: State) -> None:
    """One of four values; never a QR code."""
    fields = account_fields(a_status(state=state))
    assert fields["status"] in {"connected", "qr_ready", "connecting", "disconnected"}
    assert (fields["status"] == "connected") is (state is State.CONNECTED)
    assert (fields["statusDetail"], fields["qrCode"], fields["pairingCode"]) == (state, None, None)
    assert (fields["lastError"] is None) is (state is State.CONNECTED)


def test_auto_reply_settings_are_in_the_account_document() -> None:
    """Under the replaced backend's names; without settings here, those of other programs stay."""
    assert not any(name.startswith("autoReply") for name in account_fields(a_status()))
    kept = AutoReply(enabled=True, prompt="Be kind.", more={"faq": []})
    fields = account_fields(msgspec.structs.replace(a_status(), auto_reply=kept))
    assert (fields["autoReplyEnabled"], fields["autoReplyPrompt"]) == (True, "Be kind.")


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({}, None),
        ({"autoReplyEnabled": None, "autoReplyPrompt": 5}, None),
        ({"autoReplyEnabled": True}, AutoReply(enabled=True)),
        ({"autoReplyPrompt": "p"}, AutoReply(prompt="p")),
        ({"autoReplyEnabled": "yes", "autoReplyPrompt": "p"}, AutoReply(prompt="p")),
    ],
)
def test_invalid_auto_reply_settings_are_ignored(fields: dict[str, Any], found: object) -> None:
    """Whichever program wrote them."""
    assert auto_reply_of(fields) == found


def test_a_backfill_is_in_the_account_document() -> None:
    """Its start and result only: nothing that could outlive a crash."""
    assert not any("ackfill" in name for name in account_fields(a_status()))
    done = BackfillResult(at_ms=NOON)
    for number in range(12):
        why = "no answer" if number == 1 else ""
        done = done.plus(ThreadResult(thread=f"t{number}", messages=number, error=why))
    fields = account_fields(msgspec.structs.replace(a_status(), backfill=done.ended("it stopped")))
    assert fields["lastBackfillAt"] == NOON_AT
    result = fields["lastBackfillResult"]
    assert (result["threads"], result["messages"], result["errors"]) == (12, 66, 2)
    assert len(result["threadResults"]) == 10
    assert result["threadResults"][1] == {"threadId": "t1", "messages": 1, "error": "no answer"}


def test_a_withdrawn_account_is_deleted() -> None:
    """As the legacy backend marked it."""
    assert gone_account_fields(ACC)["status"] == "deleted"


# --- the outbox ---------------------------------------------------------------------------------


def test_an_entry_has_the_fields_of_the_functions() -> None:
    """Account, recipient, text, state, and the client's key."""
    entry = queued()
    fields = new_entry_fields(entry)
    assert (fields["requestId"], fields["clientMessageId"]) == (entry.id, "k1")
    assert (fields["threadId"], fields["toJid"]) == (ANN_THREAD, str(ANN))
    assert (fields["body"], fields["payload"]) == ("hello", {"text": "hello"})
    assert (fields["status"], fields["attemptCount"], fields["success"]) == ("queued", 0, False)
    assert fields["createdAt"] == fields["nextAttemptAt"] == NOON_AT
    assert (fields["claimedBy"], fields["leaseUntil"]) == (None, None)


def test_a_claim_names_its_holder_and_its_end() -> None:
    """Holder, epoch, and its expiry."""
    fields = claimed_fields(advance(queued(), CLAIMED), NOON)
    assert (fields["status"], fields["attemptCount"]) == ("processing", 1)
    assert (fields["claimedBy"], fields["claimEpoch"]) == (
        CLAIMED.claim.holder,
        CLAIMED.claim.epoch,
    )
    assert (fields["claimedAt"], (fields["leaseUntil"] - NOON_AT).seconds) == (NOON_AT, 60)


def test_a_sent_entry() -> None:
    """With WhatsApp's id and time."""
    fields = entry_fields(advance(advance(queued(), CLAIMED), Sent("W1", NOON)))
    assert (fields["status"], fields["success"]) == ("sent", True)
    assert (fields["providerMessageId"], fields["sentAt"]) == ("W1", NOON_AT)


def test_an_uncertain_entry() -> None:
    """It has a status of its own: neither processing nor failed."""
    fields = entry_fields(advance(advance(queued(), CLAIMED), Unknown("W1", "crash")))
    assert (fields["status"], fields["success"], fields["lastError"]) == (
        "uncertain",
        False,
        "crash",
    )


@pytest.mark.parametrize("state", MessageStatus)
def test_an_entry_of_ours_is_decoded_unchanged(state: MessageStatus) -> None:
    """From its own document."""
    entry = msgspec.structs.replace(queued(), state=state, secret=b"s")
    assert entry_of(entry.id, entry_fields(entry)) == entry


def of_a_function(**more: Any) -> dict[str, Any]:
    """An entry as the proxy writes it."""
    return {
        "requestId": "r1", "threadId": ANN_THREAD, "accountId": ACC, "toJid": "40700000001@c.us", "body": "hello",
        "payload": {"text": "hello"}, "status": "queued", "attemptCount": 0, "createdAt": NOON_AT,
        "createdByUid": "u1", "clientMessageId": "c1", **more,
    }  # fmt: skip


def test_an_entry_of_a_function_is_read() -> None:
    """Its id is the request's, the chat has the canonical spelling."""
    entry = entry_of("r1", of_a_function())
    assert (entry.id, entry.account, entry.to, entry.thread) == ("r1", ACC, str(ANN), ANN_THREAD)
    assert (entry.text, entry.client_id, entry.created_ms) == ("hello", "c1", NOON)
    assert (entry.state, entry.attempts) == (S.QUEUED, 0)


def test_an_entry_without_a_time_has_its_documents() -> None:
    """Otherwise it would sort at 1970."""
    assert entry_of("r1", of_a_function(createdAt="yesterday"), NOON + 5).created_ms == NOON + 5


def test_an_entry_claimed_by_a_dead_worker_is_uncertain() -> None:
    """It may have been sent."""
    entry = entry_of("r1", of_a_function(status="processing"))
    assert (entry.state, entry.attempts) == (S.UNCERTAIN, 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("accountId", None), ("accountId", "[object Object]"), ("toJid", {"user": "x"}), ("toJid", "[object Object]"),
        ("body", None), ("body", ""), ("payload", {"image": {"url": "http://x"}}),
    ],
)  # fmt: skip
def test_an_entry_that_cannot_be_sent_has_a_reason(field: str, value: object) -> None:
    """No account, no address, no text, or media by URL."""
    document = of_a_function(**{field: value})
    if field == "body":
        document["payload"] = None
    with pytest.raises(BadInput):
        entry_of("r1", document)


_states = st.sampled_from(list(MessageStatus))


@given(_states, _states, st.booleans())
def test_of_two_copies_a_sent_one_wins(
    here: MessageStatus, there: MessageStatus, unpushed: bool
) -> None:
    """Of two sent ones the later status; else ours if it is not pushed yet."""
    ours = msgspec.structs.replace(queued(), state=here, attempts=1)
    theirs = msgspec.structs.replace(queued(), state=there, attempts=2)
    found = reconciled(ours, theirs, unpushed=unpushed)
    if here in LEFT or there in LEFT:
        assert found.state is max(here, there, key=list(MessageStatus).index)
    else:
        assert found is (ours if unpushed else theirs)
