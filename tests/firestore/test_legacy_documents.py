"""Legacy documents of revisions S and M are taken over and never duplicated."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.contracts.world import (
    ACC,
    ANN,
    ANN_THREAD,
    EPOCH,
    GROUP,
    NOON,
    S,
    arrival,
    contents,
    edit,
    mark,
    one_message,
    one_thread,
    reaction,
    text,
    wa_id,
)
from tests.firestore.counting import a_counter
from tests.firestore.stores import MESSAGES, Console, Document, a_store, leading
from tests.support.waiting import until
from wad.core.change import PutMessage
from wad.core.content import Content, MediaContent, MessageKind
from wad.core.event import ReceiptMark
from wad.core.identity import document_id, stable_key
from wad.core.jid import ThreadId
from wad.store.firestore.client.access import FirestoreAccess

GROUP_THREAD = str(ThreadId.make(ACC, GROUP))


def at(number: int) -> datetime:
    """The time of `arrival(number)`."""
    return datetime.fromtimestamp(NOON / 1000 + number, UTC)


def of_m(number: int, **more: Any) -> Document:
    """A message as revision M writes it: under WhatsApp's id, with its key and without hashes."""
    mine = more.get("direction") == "outbound"
    return {
        "accountId": ACC, "clientJid": str(ANN), "threadId": ANN_THREAD, "direction": "inbound",
        "body": f"text {number}",
        "messageType": "text", "tsClient": at(number), "createdAt": at(number), "updatedAt": at(number),
        "status": "sent" if mine else "delivered", "senderName": None if mine else "Ann", "syncSource": "realtime",
        "key": {"id": wa_id(number), "remoteJid": str(ANN), "fromMe": mine, "timestamp": NOON // 1000 + number}, **more,
    }  # fmt: skip


def of_s(number: int, **more: Any) -> Document:
    """The same as revision S writes it: its own hashes, times in each form, and WhatsApp's id in a field of its own."""
    return {
        **of_m(number), "waMessageIdRaw": wa_id(number), "tsClientMs": NOON + number * 1000, "tsServer": at(number),
        "createdAtMs": NOON + number * 1000, "stableKeyHash": "a50b36ba", "fingerprintHash": "5763a2dc", **more,
    }  # fmt: skip


def sent_by_a_function(number: int, **more: Any) -> Document:
    """The message of a function's request after M's worker has sent it."""
    return {
        "accountId": ACC, "clientJid": str(ANN), "direction": "outbound", "body": f"text {number}", "status": "sent",
        "tsClient": at(number).isoformat().replace("+00:00", "Z"), "createdAtMs": NOON + number * 1000,
        "messageType": "text", "clientMessageId": "c1", "providerMessageId": wa_id(number), **more,
    }  # fmt: skip


async def a_thread(console: Console, *, last: int = 9) -> None:
    """Ann's thread, as the legacy backend wrote it."""
    await console.set(
        f"threads/{ANN_THREAD}",
        {"accountId": ACC, "clientJid": str(ANN), "lastMessageAtMs": NOON + last * 1000, "displayName": "Ann"},
    )  # fmt: skip


OWN_ID = document_id(stable_key(ACC, ANN, wa_id(1), False, None))


@pytest.mark.parametrize(
    ("ident", "document"),
    [
        (wa_id(1), of_m(1)),
        (OWN_ID, of_s(1)),
        ("f" * 40, of_s(1, key=None, waMessageId=wa_id(1))),
    ],
    ids=["M", "S", "S, another id"],
)
async def test_a_stored_message_is_not_stored_again(
    access: FirestoreAccess, tmp_path: Path, console: Console, ident: str, document: Document
) -> None:
    """Under any document id: WhatsApp's, the hash, or another; it has all fields of ours, and keeps its own."""
    await a_thread(console)
    await console.set(f"{MESSAGES}/{ident}", {**document, "extra": 1})
    async with leading(access, tmp_path) as store:
        await store.record(ACC, arrival(1, push_name="Ann"))
        await store.wait_pushed()
        messages = await console.all(MESSAGES)
        assert list(messages) == [ident]
        assert (await one_message(store)).id == ident
    message = messages[ident]
    assert message["extra"] == 1
    assert message["stableKeyHash"] == stable_key(ACC, ANN, wa_id(1), False, None)
    assert (message["tsClient"], message["createdAtMs"]) == (at(1), NOON + 1000)
    assert (message["body"], message["waMessageId"]) == ("text 1", wa_id(1))


async def test_a_sent_request_is_not_stored_again(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """The history has it under WhatsApp's id, an app expects it under its own, and M stored both."""
    await a_thread(console)
    await console.set(f"{MESSAGES}/r1", sent_by_a_function(1, status="read"))
    duplicate = of_m(1, direction="outbound", isDuplicate=True)
    await console.set(f"{MESSAGES}/{wa_id(1)}", duplicate)
    async with leading(access, tmp_path) as store:
        await store.record(ACC, arrival(1, from_me=True))
        await store.wait_pushed()
    messages = await console.all(MESSAGES)
    assert messages.pop(wa_id(1)) == duplicate
    assert list(messages) == ["r1"]
    message = messages["r1"]
    assert (message["clientMessageId"], message["status"]) == ("c1", "read")
    assert message["tsClient"] == at(1)
    assert (await console.there(f"message_ids/{ACC}__{wa_id(1)}"))["docId"] == "r1"


async def test_the_location_of_a_file_is_kept(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """That backend has stored the file; wad adds its type and size."""
    await a_thread(console)
    media = {"type": "image", "url": "https://x/1", "storagePath": "whatsapp_media/a/b/c.jpg"}
    await console.set(f"{MESSAGES}/{wa_id(1)}", of_m(1, messageType="image", media=media))
    picture = Content(MessageKind.IMAGE, "look", media=MediaContent("image/jpeg", size=7))
    async with leading(access, tmp_path) as store:
        await store.record(ACC, arrival(1, content=picture))
        await store.wait_pushed()
        await store.record(ACC, [edit(1, "see")])
        await store.wait_pushed()
    message = await console.there(f"{MESSAGES}/{wa_id(1)}")
    assert message["body"] == "see"
    assert message["media"].items() >= media.items()
    assert (message["media"]["mimetype"], message["media"]["sizeBytes"]) == ("image/jpeg", 7)


@pytest.mark.parametrize(
    ("ident", "document"),
    [
        (wa_id(1), of_m(1, direction="outbound")),
        ("r1", sent_by_a_function(1)),
        ("r1", of_s(1, direction="outbound", waMessageId=wa_id(1), tsClient="yesterday")),
    ],
    ids=["M", "function", "S"],
)
async def test_a_receipt_reaches_a_legacy_message(
    access: FirestoreAccess, tmp_path: Path, console: Console, ident: str, document: Document
) -> None:
    """wad never received the message, and shows it from then on."""
    await a_thread(console)
    await console.set(f"{MESSAGES}/{ident}", document)
    async with leading(access, tmp_path) as store:
        await store.record(ACC, [mark(1, ReceiptMark.READ)])
        await store.wait_pushed()
        shown = await one_message(store)
    assert (shown.id, shown.status, shown.at_ms) == (ident, S.READ, NOON + 1000)
    messages = await console.all(MESSAGES)
    assert list(messages) == [ident]
    assert (messages[ident]["status"], messages[ident]["body"]) == ("read", "text 1")
    assert messages[ident]["tsClient"] == at(1)


async def test_an_edit_and_a_reaction_reach_a_legacy_message(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """In a group, too, where the sender must be the same."""
    await a_thread(console)
    await console.set(f"{MESSAGES}/{wa_id(1)}", of_m(1))
    async with leading(access, tmp_path) as store:
        await store.record(ACC, [edit(1, "better"), reaction(1, "👍")])
        await store.wait_pushed()
    messages = await console.all(MESSAGES)
    assert list(messages) == [wa_id(1)]
    message = messages[wa_id(1)]
    assert (message["body"], message["edited"]) == ("better", True)
    assert message["reactions"][0]["text"] == "👍"


async def test_a_legacy_group_message_keeps_its_sender(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """The history has it again; it stays one message by that sender."""
    await console.set(f"threads/{GROUP_THREAD}", {"accountId": ACC, "lastMessageAtMs": NOON})
    key = {"id": wa_id(1), "remoteJid": str(GROUP), "fromMe": False, "participant": str(ANN)}
    before = of_m(1, key=key, threadId=GROUP_THREAD, clientJid=str(GROUP))
    await console.set(f"threads/{GROUP_THREAD}/messages/{wa_id(1)}", before)
    async with leading(access, tmp_path) as store:
        thumbs = reaction(1, "👍", thread=GROUP_THREAD)
        await store.record(ACC, [thumbs])
        await store.wait_pushed()
        assert (await one_message(store, GROUP_THREAD)).sender == str(ANN)
        await store.record(ACC, arrival(1, GROUP, sender=ANN))
        await store.wait_pushed()
    assert list(await console.all(f"threads/{GROUP_THREAD}/messages")) == [wa_id(1)]


async def test_two_accounts_in_one_group(
    access: FirestoreAccess, tmp_path: Path, console: Console, caplog: pytest.LogCaptureFixture
) -> None:
    """M stored a group's message for both accounts under one id: it is taken over for one, and blocks nothing."""
    other = "other"
    for account in (ACC, other):
        thread = str(ThreadId.make(account, GROUP))
        await console.set(f"threads/{thread}", {"accountId": account, "lastMessageAtMs": NOON})
        key = {"id": wa_id(1), "remoteJid": str(GROUP), "fromMe": False, "participant": str(ANN)}
        before = of_m(1, accountId=account, key=key, threadId=thread, clientJid=str(GROUP))
        await console.set(f"threads/{thread}/messages/{wa_id(1)}", before)
    async with leading(access, tmp_path) as store:
        for account in (ACC, other):
            thread = str(ThreadId.make(account, GROUP))
            await store.record(account, [reaction(1, "👍", thread=thread)])
            await store.wait_pushed()
        assert (await one_message(store, GROUP_THREAD)).id == wa_id(1)
        assert await store.messages(str(ThreadId.make(other, GROUP)), limit=1) == []
    assert "another message here has its id" in caplog.text


async def test_another_accounts_message_of_the_same_id_is_not_removed(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Another machine has taken it over; it must not matter which of the two the id alone finds."""
    threads = {account: str(ThreadId.make(account, GROUP)) for account in (ACC, "other")}
    for account, thread in threads.items():
        path = f"threads/{thread}/messages/{wa_id(1)}"
        await console.set(path, of_m(1, accountId=account, threadId=thread))
    (put,) = [one for one in arrival(1, GROUP, sender=ANN) if isinstance(one, PutMessage)]
    async with leading(access, tmp_path) as store:
        for account, thread in threads.items():
            message = msgspec.structs.replace(
                put.message, id=wa_id(1), account=account, thread=thread, client_id=""
            )
            await store.record(account, [PutMessage(message)])
            await store.wait_pushed()
    for thread in threads.values():
        messages = await console.all(f"threads/{thread}/messages")
        assert {ident: message["wadBy"] for ident, message in messages.items()} == {
            wa_id(1): "here"
        }


async def test_an_unreadable_document_is_left_alone(
    access: FirestoreAccess, tmp_path: Path, console: Console, caplog: pytest.LogCaptureFixture
) -> None:
    """A document without a time, as M wrote for receipts: the receipt waits, and nothing is blocked."""
    await a_thread(console)
    phantom = {"status": "read", "direction": "outbound", "key": {"id": wa_id(1)}}
    await console.set(f"{MESSAGES}/{wa_id(1)}", phantom)
    async with leading(access, tmp_path) as store:
        await store.record(ACC, [mark(1, ReceiptMark.READ)])
        await store.wait_pushed()
        assert await store.messages(ANN_THREAD, limit=1) == []
    assert await console.all(MESSAGES) == {wa_id(1): phantom}
    assert "was put into quarantine" in caplog.text


@pytest.mark.parametrize(
    "spoilt",
    [{"lastMessageAtMs": math.nan}, {"wad": "x"}, {"wad": {"foreign": {"lastMs": "x"}}}],
    ids=["no number", "a text of ours", "a text within"],
)
async def test_an_unreadable_thread_blocks_nothing(
    access: FirestoreAccess, tmp_path: Path, console: Console, spoilt: Document
) -> None:
    """A time that is not a number, as JavaScript writes them, or our own map changed by another program."""
    path = f"threads/{ANN_THREAD}"
    await console.set(path, {"accountId": ACC, "clientJid": str(ANN), **spoilt})
    async with leading(access, tmp_path) as store:
        await store.record(ACC, arrival(1))
        await store.wait_pushed()
    assert (await console.there(path))["lastMessageText"] == "text 1"


async def test_a_thread_of_wads_own_is_not_searched(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """Nor are new messages of any thread: no other program can have them."""
    port = int(access.emulator.rpartition(":")[2])
    console = Console(access)
    await a_thread(console)
    later = round(datetime.now(UTC).timestamp() * 1000) + 3_600_000
    with a_counter(port) as (address, bill):
        through = FirestoreAccess(project=access.project, emulator=address)
        async with a_store(through, tmp_path) as store:
            # A new machine says that it is there, looks for others, and then says that it has looked.
            await until(lambda: bill.calls["Commit"] >= 2, "the machine's first look")
            bill.clear()
            await store.record(
                ACC,
                [*arrival(1, GROUP, sender=ANN), mark(1, ReceiptMark.READ, thread=GROUP_THREAD)],
            )
            await store.record(ACC, arrival(2, at_ms=later))
            await store.wait_pushed()
            assert bill.calls["RunQuery"] == 0
            await store.record(ACC, arrival(3))
            await store.wait_pushed()
            assert bill.calls["RunQuery"] == 3
    console.close()


async def test_another_machine_uses_the_same_document(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Also if its worker received the message, too: there is one document, and the name stays."""
    await a_thread(console)
    await console.set(f"{MESSAGES}/{wa_id(1)}", of_m(1))
    async with leading(access, tmp_path, "here") as here:
        await here.record(ACC, arrival(1))
        await here.wait_pushed()
        before = await console.all(MESSAGES)
        async with leading(access, tmp_path, "there", EPOCH + 1) as there:
            await there.wait_pushed()
            assert await contents(there) == await contents(here)
            assert await console.all(MESSAGES) == before
            await there.record(ACC, arrival(10))
            await there.wait_pushed()
    assert (await console.there(f"threads/{ANN_THREAD}"))["displayName"] == "Ann"
    async with a_store(access, tmp_path, "late") as late:
        await late.record(ACC, arrival(1))
        await late.wait_pushed()
        assert wa_id(1) in await console.all(MESSAGES)
        assert OWN_ID not in await console.all(MESSAGES)


async def test_messages_of_an_interlude_of_that_backend_are_found(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """After its return and ours: the next epoch checks threads again that were checked before."""
    async with leading(access, tmp_path) as store:
        await store.record(ACC, arrival(1))
        await store.wait_pushed()
    path = f"threads/{ANN_THREAD}"
    known = await console.there(path)
    newer = {
        "lastMessageAtMs": NOON + 7000,
        "lastMessageText": "text 7",
        "updatedAt": datetime.now(UTC),
    }
    await console.set(path, {**known, **newer})
    await console.set(f"{MESSAGES}/{wa_id(7)}", of_m(7))
    async with leading(access, tmp_path, epoch=EPOCH + 1) as store:
        await store.record(ACC, arrival(2))
        await store.wait_pushed()
        assert (await console.there(path))["lastMessageText"] == "text 7"
        await store.record(ACC, arrival(7))
        await store.wait_pushed()
        assert (await one_thread(store)).messages == 3
    messages = await console.all(MESSAGES)
    assert len(messages) == 3
    assert messages[wa_id(7)]["stableKeyHash"]


def test_the_shapes_differ_as_the_facts_say() -> None:
    """Otherwise the tests above would test one case four times (docs/internals/replaced-backend.md#documents)."""
    assert "stableKeyHash" not in of_m(1)
    assert "key" not in sent_by_a_function(1)
    assert isinstance(sent_by_a_function(1)["tsClient"], str)
    assert text("text 1").text == of_s(1)["body"]
