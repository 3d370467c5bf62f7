"""The push: Firestore's documents after it, and what one machine pulls from another."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from tests.contracts.world import (
    ACC,
    ANN,
    ANN_LID,
    ANN_LID_THREAD,
    ANN_THREAD,
    BOB,
    CLAIMED,
    EPOCH,
    GROUP,
    NOON,
    S,
    a_status,
    amending,
    arrival,
    contents,
    edit,
    mark,
    one_message,
    one_thread,
    queued,
    reaction,
    sending,
    sent,
    text,
    wa_id,
)
from tests.firestore.stores import MESSAGES, Console, a_store, leading
from tests.firestore.test_fields import of_a_function
from tests.support.waiting import until
from wad.core.auto_reply import AutoReply
from wad.core.change import PutAlias, PutChat, PutNumber
from wad.core.errors import Conflict, Fenced, Unavailable
from wad.core.event import ReceiptMark
from wad.core.history import BackfillResult
from wad.core.identity import stable_key
from wad.core.jid import Jid
from wad.core.outbox import Claim, Claimed, Refused, Retry, Sent
from wad.core.outgoing import OwnReaction, Target
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.decode import Snapshot
from wad.store.firestore.documents.build import DocumentWrite
from wad.store.firestore.store import FirestoreStore
from wad.store.firestore.sync.change_log import FACTS, Dirty, KeyKind, put
from wad.store.firestore.sync.outbox_listener import OutboxListener
from wad.store.sqlite.messages import insert_entry

# --- documents ----------------------------------------------------------------------------------


async def test_a_message_is_pushed_with_its_thread(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Both documents, with the server's times."""
    async with leading(access, tmp_path) as store:
        await store.record(ACC, arrival(1, push_name="Ann"))
        await store.wait_pushed()
        (message,) = (await console.all(MESSAGES)).values()
        thread = await console.there(f"threads/{ANN_THREAD}")
    assert (message["body"], message["wadBy"]) == ("text 1", "here")
    assert message["updatedAt"] == message["syncedAt"] == message["wadSyncedAt"]
    assert (thread["lastMessageText"], thread["lastMessageSenderName"]) == ("text 1", "Ann")
    assert (thread["lastMessageAtMs"], thread["unreadCount"]) == (NOON + 1000, 1)


async def test_fields_of_others_stay(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Fields that are not ours are not changed."""
    await console.set(f"threads/{ANN_THREAD}", {"aiEnabled": True, "archived": False})
    async with leading(access, tmp_path) as store:
        await store.record(ACC, arrival(1))
        await store.wait_pushed()
    thread = await console.there(f"threads/{ANN_THREAD}")
    assert (thread["aiEnabled"], thread["lastMessageText"]) == (True, "text 1")


async def test_a_thread_is_never_reverted(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Old messages that are pushed late change nothing; nor do older values of wad than those of another program."""
    other = f"threads/{ACC}__{BOB}"
    known = {"lastMessageAtMs": NOON + 50_000, "lastMessageText": "newer", "displayName": "Bob"}
    await console.set(other, known)
    async with leading(access, tmp_path) as store:
        await store.record(ACC, [*arrival(9), *arrival(9, BOB)])
        await store.wait_pushed()
        await store.record(ACC, [*arrival(1), *arrival(1, BOB)])
        await store.wait_pushed()
        assert (await console.there(f"threads/{ANN_THREAD}"))["lastMessageText"] == "text 9"
        thread = await console.there(other)
        assert {name: thread[name] for name in known} == known
        assert thread["messageCount"] == 2
        await store.record(ACC, arrival(60, BOB))
        await store.wait_pushed()
        assert (await console.there(other))["lastMessageText"] == "text 60"


async def test_a_lid_that_gets_a_number_redirects(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Its messages move, the old thread names the new one, and the alias is stored."""
    async with leading(access, tmp_path) as store:
        await store.record(ACC, arrival(1, ANN_LID))
        await store.wait_pushed()
        assert len(await console.all(f"threads/{ANN_LID_THREAD}/messages")) == 1
        await store.record(ACC, [PutAlias(str(ANN_LID), str(ANN))])
        await store.wait_pushed()
    assert await console.all(f"threads/{ANN_LID_THREAD}/messages") == {}
    assert len(await console.all(MESSAGES)) == 1
    old = await console.there(f"threads/{ANN_LID_THREAD}")
    assert (old["redirectTo"], old["hidden"]) == (ANN_THREAD, True)
    (alias,) = (await console.all("jid_aliases")).values()
    assert (alias["rawJid"], alias["canonicalJid"]) == (str(ANN_LID), str(ANN))


async def test_auto_reply_settings_of_others_stay(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Those of the legacy backend are not changed until they are set here; then they are replaced."""
    await console.set(
        f"accounts/{ACC}",
        {"autoReplyEnabled": True, "autoReplyPrompt": "old", "lastBackfillAt": NOON},
    )
    async with leading(access, tmp_path) as store:
        await store.put_account(a_status(), epoch=EPOCH)
        await store.wait_pushed()
        before = await console.there(f"accounts/{ACC}")
        assert (before["autoReplyPrompt"], before["lastBackfillAt"]) == ("old", NOON)
        assert await store.auto_reply(ACC) == AutoReply(enabled=True, prompt="old")
        assert await store.auto_reply("nobody") is None
        kept, done = AutoReply(enabled=False, prompt="new"), BackfillResult(at_ms=NOON, threads=2)
        shown = msgspec.structs.replace(a_status(), auto_reply=kept, backfill=done)
        await store.put_account(shown, epoch=EPOCH)
        await store.wait_pushed()
        assert await store.accounts() == [shown]
    after = await console.there(f"accounts/{ACC}")
    assert (after["autoReplyEnabled"], after["autoReplyPrompt"]) == (False, "new")
    assert after["lastBackfillAt"].timestamp() * 1000 == NOON
    assert after["lastBackfillResult"]["threads"] == 2


async def test_an_account_is_published_and_withdrawn(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Without its QR code; a withdrawn one is marked, since others may have read it."""
    async with leading(access, tmp_path) as store:
        await store.put_account(a_status(), epoch=EPOCH)
        await store.wait_pushed()
        assert (await console.there(f"accounts/{ACC}"))["status"] == "connected"
        await store.forget_account(ACC, epoch=EPOCH)
        await store.wait_pushed()
    account = await console.there(f"accounts/{ACC}")
    assert (account["status"], account["qrCode"], account["wad"]["status"]) == (
        "deleted",
        None,
        None,
    )


async def test_a_document_that_is_too_large_is_truncated(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """With a mark; the whole text stays here."""
    long = "ă" * 700_000
    async with leading(access, tmp_path) as store:
        await store.record(ACC, arrival(1, content=text(long)))
        await store.wait_pushed()
        (message,) = (await console.all(MESSAGES)).values()
        assert message["truncated"] is True
        assert long.startswith(message["body"])
        assert 10_000 < len(message["body"]) < len(long)
        assert (await one_message(store)).content.text == long
        assert store.sync_status.refused == 0


async def test_a_backlog_of_large_documents_is_read_in_parts(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Many large messages fill the disk's quota, and not the memory."""
    large = [change for n in range(8) for change in arrival(n, content=text("x" * 50_000))]
    async with a_store(access, tmp_path) as store:
        await store._write(lambda db: store._put(db, ACC, large))  # without a note for the push
        found = await store.waiting(100, FACTS, size=250_000)
        assert 1 < len(found) < 8
        assert len(await store.waiting(100, FACTS, size=1)) == 1
        await store.wait_pushed()
        assert len(await console.all(MESSAGES)) == 8


async def test_a_refused_document_is_named_and_blocks_nothing(
    access: FirestoreAccess, tmp_path: Path, console: Console, caplog: pytest.LogCaptureFixture
) -> None:
    """One document of many has an impossible path; the others are pushed."""
    async with leading(access, tmp_path) as store:
        await store._write(lambda db: put(db, KeyKind.ALIAS, "one /not/a/path/"))
        await store.record(ACC, [*arrival(1), *arrival(2), *arrival(3), *arrival(4)])
        await store.wait_pushed()
        assert len(await console.all(MESSAGES)) == 4
        assert store.sync_status.refused == 1
        (item,) = await store.quarantined_items()
        await store.done(
            [DocumentWrite(Dirty(0, KeyKind.ALIAS, "", 0, 0, None), item.name, {})], {}
        )
        assert await store.quarantined_items() == []  # it was taken after all
    assert "not/a/path" in item.name
    assert item.reason
    assert "was put into quarantine" in caplog.text


# --- the outbox ---------------------------------------------------------------------------------


async def test_an_entry_is_in_firestore_before_the_reply(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """It does not wait for the push."""
    async with a_store(access, tmp_path) as store:
        await store.enqueue(queued())
        entry = await console.there(f"outbox/{queued().id}")
        message = await console.there(f"{MESSAGES}/{queued().id}")
    assert (entry["status"], entry["payload"]) == ("queued", {"text": "hello"})
    assert (message["status"], message["clientMessageId"]) == ("queued", "k1")


async def test_one_key_is_one_message_for_all_machines(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """The second request gets the stored entry, although its replica does not have it."""
    async with (
        a_store(access, tmp_path, "here") as here,
        a_store(access, tmp_path, "there") as there,
    ):
        done = await asyncio.gather(here.enqueue(queued()), there.enqueue(queued()))
        assert sorted(one.duplicate for one in done) == [False, True]
        with pytest.raises(Conflict):
            await there.enqueue(queued(body="bye"))
        assert await here.entry(queued().id) == await there.entry(queued().id) == queued()


async def test_a_key_of_the_legacy_backend_is_not_used_again(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """`send_requests` has it; for this account only."""
    await console.set("send_requests/k1", {"accountId": ACC, "status": "sent"})
    await console.set("send_requests/k2", {"accountId": "other", "status": "sent"})
    async with a_store(access, tmp_path) as store:
        with pytest.raises(Conflict, match="replaced backend: sent"):
            await store.enqueue(queued())
        assert not (await store.enqueue(queued("k2"))).duplicate


async def test_a_request_is_found_by_the_legacy_backend(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """If it takes over from wad it sends nothing again; a repetition to wad is still one message."""
    async with leading(access, tmp_path) as store:
        await store.enqueue(queued())
        request = await console.there("send_requests/k1")
        assert (request["accountId"], request["threadId"]) == (ACC, ANN_THREAD)
        assert (request["to"], request["status"]) == (str(ANN), "queued")
        await sent(store, queued(), "W1")
        await store.wait_pushed()
        assert (await store.enqueue(queued())).duplicate
    assert await console.there("send_requests/k1") == request
    async with a_store(access, tmp_path, "there") as there:
        assert (await there.enqueue(queued())).duplicate


async def test_a_request_of_another_account_stays(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Its key was used there and counts there."""
    theirs = {"accountId": "other", "status": "sent"}
    await console.set("send_requests/k1", theirs)
    async with leading(access, tmp_path) as store:
        await sent(store, queued(), "W1")
        await store.wait_pushed()
    assert await console.there("send_requests/k1") == theirs


async def test_a_key_of_a_functions_entry_is_that_entry(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Its document has another id; the same key over HTTP is the same message, and never another one."""
    await a_proxy_send(console)
    async with a_store(access, tmp_path) as store:
        done = await store.enqueue(queued("c1"))
        assert (done.duplicate, done.entry.id) == (True, "r1")
        with pytest.raises(Conflict):
            await store.enqueue(queued("c1", "another text"))
    assert list(await console.all("outbox")) == ["r1"]


async def test_a_key_that_the_legacy_backend_has_sent_is_not_used_again(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Its entry has left the queue, and was never wad's; another account's does not count."""
    await a_proxy_send(console, status="sent")
    await a_proxy_send(console, "r2", status="sent", accountId="other", clientMessageId="c2")
    async with a_store(access, tmp_path) as store:
        with pytest.raises(Conflict, match="replaced backend: sent"):
            await store.enqueue(queued("c1"))
        assert not (await store.enqueue(queued("c2"))).duplicate


async def test_a_sent_message_is_found_by_its_whatsapp_id(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Its document has the key's id, which cannot be derived from the echo; pushed once, by the sender."""
    async with leading(access, tmp_path, "here") as here:
        await here.record(ACC, arrival(1))
        await sent(here, queued(), "W1")
        await here.wait_pushed()
        found = await console.there(f"message_ids/{ACC}__W1")
        key = stable_key(ACC, ANN, "W1", True, None)
        dedupe = await console.there(f"threads/{ANN_THREAD}/dedupe/{key}")
        async with leading(access, tmp_path, "there", EPOCH + 1) as there:
            await there.wait_pushed()
    assert (found["docId"], found["threadId"]) == (queued().id, ANN_THREAD)
    assert (found["requestId"], found["clientMessageId"]) == (queued().id, "k1")
    assert found["expiresAt"] > found["updatedAt"] - timedelta(days=365)
    assert dedupe["canonicalMessageId"] == queued().id
    assert await console.all("message_ids") == {f"{ACC}__W1": found}


async def test_names_are_pushed(access: FirestoreAccess, tmp_path: Path, console: Console) -> None:
    """The name saved on the phone, and the push name; a group is not a contact."""
    async with leading(access, tmp_path) as store:
        await store.record(ACC, arrival(1, push_name="Ann"))
        await store.record(ACC, arrival(1, GROUP, sender=BOB, push_name="Bob"))
        await store.wait_pushed()
        (contact,) = (await console.all("contacts")).values()
        assert (contact["name"], contact["notify"]) == (None, "Ann")
        await store.record(ACC, [PutChat(ANN_THREAD, str(ANN), name="Ann A.", name_ms=NOON)])
        await store.wait_pushed()
        contacts = await console.all("contacts")
    contact = contacts[f"{ACC}__{ANN}"]
    assert (contact["jid"], contact["phoneE164"]) == (str(ANN), f"+{ANN.user}")
    assert (contact["name"], contact["notify"]) == ("Ann A.", "Ann")


async def test_an_entry_is_claimed_in_firestore_and_settled_here(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """The claim is stored before anything can be sent; the outcome is pushed."""
    path = f"outbox/{queued().id}"
    async with leading(access, tmp_path) as store:
        await store.enqueue(queued())
        await store.settle(queued().id, CLAIMED, epoch=EPOCH)
        claimed = await console.there(path)
        await store.settle(queued().id, Sent("W1", NOON), epoch=EPOCH)
        await store.wait_pushed()
        settled, message = (
            await console.there(path),
            await console.there(f"{MESSAGES}/{queued().id}"),
        )
    assert (claimed["status"], claimed["claimedBy"], claimed["claimEpoch"]) == (
        "processing",
        "here",
        EPOCH,
    )
    assert claimed["leaseUntil"] > claimed["claimedAt"]
    assert (settled["status"], settled["providerMessageId"], settled["leaseUntil"]) == (
        "sent",
        "W1",
        None,
    )
    assert (message["status"], message["waMessageId"]) == ("sent", "W1")


async def test_a_claim_whose_epoch_is_over_is_refused(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """By the server: the machine itself has not detected it yet."""
    async with leading(access, tmp_path, "here") as here:
        await here.enqueue(queued())
        async with a_store(access, tmp_path, "there") as there:
            await there.fence(EPOCH + 1)
            with pytest.raises(Fenced):
                await here.settle(queued().id, CLAIMED, epoch=EPOCH)
            assert (await here.entry(queued().id)) == queued()


async def test_an_old_holder_pushes_nothing_exclusive(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Received messages are facts, and pushed; its threads and accounts wait."""
    async with (
        leading(access, tmp_path, "here") as here,
        a_store(access, tmp_path, "there") as there,
    ):
        await there.fence(EPOCH + 1)
        await here.put_account(a_status(), epoch=EPOCH)
        await here.record(ACC, arrival(1))
        await until(lambda: here._pusher.epoch is None)
        await here.wait_pushed()
        assert len(await console.all(MESSAGES)) == 1
        assert await console.all("threads") == {}
        assert await console.get(f"accounts/{ACC}") is None
        assert here.sync_status.waiting == 0


async def test_an_entry_claimed_by_another_is_not_claimed_again(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """A replica without the claim finds it in Firestore, and records it."""
    async with (
        a_store(access, tmp_path, "here") as here,
        a_store(access, tmp_path, "there") as there,
    ):
        await sending(here, queued())
        await there._write(lambda db: insert_entry(db, queued()))
        with pytest.raises(Conflict):
            await there.settle(queued().id, CLAIMED, epoch=EPOCH)
        known = await there.entry(queued().id)
        assert known is not None
        assert known.state is S.SENDING


async def test_our_own_claim_without_an_answer_is_claimed_again(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """The commit arrived and the answer was lost: nothing was sent under it."""
    async with a_store(access, tmp_path) as store:
        await store.enqueue(queued())
        claimed = Claimed(Claim("here", EPOCH), b"s" * 32)
        await store._claim(queued().id, claimed, EPOCH)
        assert (await store.settle(queued().id, claimed, epoch=EPOCH)).state is S.SENDING


async def test_a_failed_message_can_be_sent_again(access: FirestoreAccess, tmp_path: Path) -> None:
    """An operator retries it before its failure is pushed."""
    async with a_store(access, tmp_path) as store:
        await sending(store, queued())
        await store.settle(queued().id, Refused("no", "never"), epoch=EPOCH)
        await store.settle(queued().id, Retry(), epoch=EPOCH)
        assert (await store.settle(queued().id, CLAIMED, epoch=EPOCH)).attempts == 2


# --- what functions put into the outbox ---------------------------------------------------------


async def a_proxy_send(console: Console, ident: str = "r1", **more: object) -> None:
    """The documents of the apps' function: an entry, and an optimistic message whose time is a text."""
    document = of_a_function(requestId=ident, **more)
    thread = document["threadId"]
    await console.set(
        f"threads/{thread}/messages/{ident}",
        {
            "accountId": ACC, "clientJid": str(ANN), "direction": "outbound", "body": "hello", "status": "queued",
            "tsClient": "2026-01-21T12:53:20.000Z", "createdAtMs": NOON, "messageType": "text",
            "clientMessageId": "c1",
        },
    )  # fmt: skip
    await console.set(f"outbox/{ident}", document)


async def test_a_functions_entry_is_taken_and_sent(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """It wakes its account's sender; its optimistic message has a Timestamp from then on."""
    accounts: list[str] = []
    async with leading(access, tmp_path, queued=accounts) as store:
        await a_proxy_send(console)
        await until(lambda: accounts == [ACC])
        entry = await store.next_entry(ACC)
        assert entry is not None
        assert (entry.id, entry.text) == ("r1", "hello")
        await store.settle("r1", CLAIMED, epoch=EPOCH)
        await store.settle("r1", Sent("W1", NOON + 5000), epoch=EPOCH)
        await store.wait_pushed()
    messages = await console.all(MESSAGES)
    assert list(messages) == ["r1"]
    assert (messages["r1"]["status"], messages["r1"]["tsClient"].timestamp()) == (
        "sent",
        NOON / 1000 + 5,
    )
    assert (await console.there("outbox/r1"))["createdByUid"] == "u1"


async def test_entries_queued_meanwhile_are_taken_in_order(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """By the time of queuing."""
    for number in (2, 1, 3):
        at = datetime.fromtimestamp(NOON / 1000 + number, UTC)
        await a_proxy_send(console, f"r{number}", createdAt=at)
    accounts: list[str] = []
    order = []
    async with leading(access, tmp_path, queued=accounts) as store:
        await until(lambda: len(accounts) == 3)
        while (entry := await store.next_entry(ACC)) is not None:
            order.append(entry.id)
            await store.settle(entry.id, CLAIMED, epoch=EPOCH)
    assert order == ["r1", "r2", "r3"]


async def test_an_entry_that_cannot_be_sent_is_rejected(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """It has the reason, and its message has failed."""
    await a_proxy_send(console, payload={"image": {"url": "http://x"}})
    async with leading(access, tmp_path):
        await until_async(lambda: status_is(console, "outbox/r1", "failed"))
    assert "only text" in (await console.there("outbox/r1"))["lastError"]
    assert (await console.there(f"{MESSAGES}/r1"))["status"] == "failed"


async def test_an_entry_that_is_corrected_while_it_is_rejected_is_sent(
    access: FirestoreAccess, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document differs from the one that was read, and is not overwritten."""
    turn_down, accounts = OutboxListener._reject, list[str]()

    async def late(self: OutboxListener, snapshot: Snapshot, why: str, epoch: int) -> None:
        await a_proxy_send(console, snapshot.id)
        await turn_down(self, snapshot, why, epoch)

    monkeypatch.setattr(OutboxListener, "_reject", late)
    await a_proxy_send(console, payload={"image": {"url": "http://x"}})
    async with leading(access, tmp_path, queued=accounts) as store:
        await until(lambda: accounts == [ACC])
        assert (await console.there("outbox/r1"))["status"] == "queued"
        assert await store.next_entry(ACC) is not None


async def test_an_optimistic_message_in_another_thread_is_deleted(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """The function wrote it under the LID; it is one message, under the number."""
    accounts: list[str] = []
    async with leading(access, tmp_path, queued=accounts) as store:
        await store.record(ACC, [PutAlias(str(ANN_LID), str(ANN))])
        await a_proxy_send(console, threadId=ANN_LID_THREAD, toJid=str(ANN_LID))
        await until(lambda: accounts == [ACC])
        await store.wait_pushed()
    assert await console.all(f"threads/{ANN_LID_THREAD}/messages") == {}
    assert list(await console.all(MESSAGES)) == ["r1"]


async def test_an_entry_of_a_dead_worker_is_uncertain(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """It is never sent again by itself, but by an operator; a claim that is still valid is left alone."""
    now = datetime.now(UTC)
    await a_proxy_send(console, "old", status="processing", leaseUntil=now - timedelta(hours=1))
    await a_proxy_send(console, "going", status="processing", leaseUntil=now + timedelta(hours=1))
    async with leading(access, tmp_path) as store:
        await until_async(lambda: status_is(console, "outbox/old", "uncertain"))
        assert await store.next_entry(ACC) is None
        assert await store.entry("going") is None
        assert (await store.settle("old", Retry(), epoch=EPOCH)).state is S.QUEUED


async def status_is(console: Console, path: str, status: str) -> bool:
    """Whether a document has this status."""
    return bool((await console.there(path))["status"] == status)


async def until_async(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait for an asynchronous condition."""
    async with asyncio.timeout(30):
        while not await holds():
            await asyncio.sleep(0.02)


# --- machines -----------------------------------------------------------------------------------


async def everything(store: FirestoreStore) -> None:
    """Something of every kind that a machine can store."""
    await store.record(
        ACC, [*arrival(1, push_name="Ann"), *arrival(2), edit(1, "better"), reaction(2, "👍")]
    )
    await store.record(
        ACC, [*arrival(3, from_me=True), mark(3, ReceiptMark.READ), mark(77, ReceiptMark.DELIVERED)]
    )
    await store.record(ACC, [PutChat(ANN_THREAD, str(ANN), name="Ann A.", name_ms=NOON)])
    await store.record(ACC, [PutAlias(str(ANN_LID), str(ANN)), *arrival(4, ANN_LID)])
    await sent(store, queued(), "O1")
    await sent(store, amending(OwnReaction(Target(wa_id(2), str(ANN)), "🎉")), "R1")
    await store.enqueue(queued("k9", "waits"))
    await store.put_account(a_status(), epoch=EPOCH)


async def test_the_next_holder_has_everything_of_the_last_one(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Messages, amendments, receipts, names, aliases, the outbox and the accounts; and nothing is pushed again."""
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(leading(access, tmp_path, "here"))
        await everything(here)
        await here.mark_read(ANN_THREAD)
        await here.wait_pushed()
        before = await console.group("messages")
        there = await stack.enter_async_context(leading(access, tmp_path, "there", EPOCH + 1))
        await there.wait_pushed()
        assert await contents(there) == await contents(here)
        assert await there.entries(None) == await here.entries(None)
        assert await there.accounts() == await here.accounts()
        assert await there.aliases(ACC) == await here.aliases(ACC)
        assert await console.group("messages") == before
        # A receipt that came before its message is known there, too.
        await there.record(ACC, arrival(77, from_me=True))
        assert S.DELIVERED in {m.status for m in await there.messages(ANN_THREAD, limit=1)}


async def test_a_changed_number_is_known_on_the_next_machine(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """With the former number, another spelling and the number's next owner; nothing is pushed again."""
    new, other = Jid.parse("40700000003@s.whatsapp.net"), Jid.parse("40700000004@s.whatsapp.net")
    async with AsyncExitStack() as stack:
        here = await stack.enter_async_context(leading(access, tmp_path, "here"))
        await here.record(ACC, [PutAlias(str(ANN_LID), str(ANN), NOON), *arrival(1)])
        await here.wait_pushed()
        await here.record(ACC, [PutAlias(str(ANN_LID), str(new), NOON + 1), *arrival(2, new)])
        await here.record(ACC, [PutNumber(str(other), str(ANN_LID), NOON + 2, asked=True)])
        await here.wait_pushed()
        old = await console.there(f"threads/{ANN_THREAD}")
        assert old["redirectTo"].endswith(str(new))
        there = await stack.enter_async_context(leading(access, tmp_path, "there", EPOCH + 1))
        await there.wait_pushed()
        assert await contents(there) == await contents(here)
        for jid in (ANN, new, other, ANN_LID):
            assert await there.recipient(ACC, jid) == await here.recipient(ACC, jid)
        next_owner = PutAlias("999@lid", str(ANN), NOON + 3)
        await there.record(ACC, [next_owner, *arrival(3)])
        await there.wait_pushed()
        old = await console.there(f"threads/{ANN_THREAD}")
        assert (old["redirectTo"], old["lastMessageText"]) == (None, "text 3")
        aliases = {
            one["rawJid"]: one["canonicalJid"]
            for one in (await console.all("jid_aliases")).values()
        }
        assert aliases == {"999@lid": str(ANN), str(ANN_LID): str(new), str(other): str(new)}


@pytest.mark.parametrize("ours", [None, "x", {}, {"told": 1}])
async def test_an_unreadable_document_blocks_nothing(
    access: FirestoreAccess, tmp_path: Path, console: Console, ours: object
) -> None:
    """Another program has changed our data in it; the other documents are recorded, and leadership continues."""
    async with a_store(access, tmp_path, "there") as store:
        await store.record(ACC, [*arrival(1), *arrival(2)])
        await store.wait_pushed()
    spoilt = next(iter(await console.all(MESSAGES)))
    path = f"{MESSAGES}/{spoilt}"
    await console.set(path, {**await console.there(path), "wad": ours})
    async with leading(access, tmp_path) as store:
        assert (await one_message(store)).id != spoilt


async def test_a_new_replica_is_filled_from_firestore(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """The machine's disk was lost: everything that it had pushed is restored."""
    async with leading(access, tmp_path) as store:
        await everything(store)
        await store.wait_pushed()
        before = await contents(store)
    (tmp_path / "fresh").mkdir()
    async with leading(access, tmp_path / "fresh", epoch=EPOCH + 1) as store:
        assert await contents(store) == before


async def test_the_first_machine_pulls_nothing(access: FirestoreAccess, tmp_path: Path) -> None:
    """An installation of one machine needs no index of ours."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("wad.store.firestore.sync.pull.page", None)
        async with leading(access, tmp_path) as store:
            await everything(store)
            await store.wait_pushed()
        async with leading(access, tmp_path, epoch=EPOCH + 1) as store:
            assert store.sync_status.error == ""


async def test_a_failed_pull_is_reported(access: FirestoreAccess, tmp_path: Path) -> None:
    """Nothing exclusive is pushed before it succeeds, so an operator must know the reason."""
    async with leading(access, tmp_path) as store:
        await store.record(ACC, arrival(1))
        await store.wait_pushed()

    def no_index(*values: object) -> Callable[[object], None]:
        def work(client: object) -> None:
            raise Unavailable("Firestore: an index is missing")

        return work

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("wad.store.firestore.sync.pull.page", no_index)
        async with a_store(access, tmp_path, "there") as store, store.lead(EPOCH + 1, print):
            await until(lambda: "an index is missing" in store.sync_status.error)
            assert store.sync_status.warnings


async def test_our_own_documents_are_not_pulled(access: FirestoreAccess, tmp_path: Path) -> None:
    """A restart reads none of them."""
    async with leading(access, tmp_path) as store:
        await everything(store)
        await store.wait_pushed()
    async with leading(access, tmp_path, epoch=EPOCH + 1) as store:
        assert await store.pull() == 0


async def test_a_late_push_of_a_passive_machine_reaches_the_holder(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Its spool had a message when it lost the lease; the holder's thread shows it without waiting for the next
    pull."""
    async with (
        a_store(access, tmp_path, "there") as there,
        leading(access, tmp_path, "here") as here,
    ):
        await there.pull()
        await here.record(ACC, arrival(1))
        await here.wait_pushed()
        await there.record(ACC, arrival(2))
        await until_async(lambda: last_is(here, "text 2"))
        await here.wait_pushed()
    assert (await console.there(f"threads/{ANN_THREAD}"))["lastMessageText"] == "text 2"


async def last_is(store: FirestoreStore, text: str) -> bool:
    """Whether Ann's thread has this last text."""
    return (await one_thread(store)).last_text == text


async def test_an_older_version_of_a_message_is_corrected(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """A passive machine without the edit pushes the message again; the holder restores the text."""
    async with (
        a_store(access, tmp_path, "there") as there,
        leading(access, tmp_path, "here") as here,
    ):
        await here.record(ACC, [*arrival(1), edit(1, "better")])
        await here.wait_pushed()
        await there.record(ACC, arrival(1))
        await there.wait_pushed()
        await until_async(lambda: body_is(console, "better"))
        (message,) = (await console.all(MESSAGES)).values()
    assert message["wadBy"] == "here"


async def body_is(console: Console, body: str) -> bool:
    """Whether the only message has this text."""
    (message,) = (await console.all(MESSAGES)).values()
    return bool(message["body"] == body)
