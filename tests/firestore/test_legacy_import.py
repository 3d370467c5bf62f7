"""The import of what other programs have stored in Firestore: afterwards the replica, and so every list, has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.world import ACC, ANN, ANN_LID, ANN_LID_THREAD, ANN_THREAD, NOON, arrival
from tests.firestore.daemons import a_machine
from tests.firestore.legacy_documents import (
    OBJECT_THREAD,
    a_receipt,
    a_thread,
    an_alias,
    message,
    of_a_function,
    of_m,
    of_s,
    put,
)
from tests.firestore.stores import Console, leading
from tests.support.http_client import ask
from wad.core.change import PutAlias
from wad.core.errors import BadInput
from wad.core.token import Role, named
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.store import FirestoreStore
from wad.store.firestore.sync.legacy_import import import_legacy
from wad.store.port import LegacyImport


async def imported(store: FirestoreStore, *, dry_run: bool = False) -> list[LegacyImport]:
    """The steps of an import of the account."""
    return [step async for step in import_legacy(store, [ACC], dry_run=dry_run)]


async def write_history(console: Console) -> None:
    """A thread with messages of all revisions, and documents that are not messages."""
    await console.set(f"threads/{ANN_THREAD}", a_thread(NOON + 3000, text="by the app"))
    await put(
        console,
        W1=of_m("W1", NOON, "first"),
        W2=of_m("W2", NOON + 1000, "ours", out=True),
        request1=of_a_function(NOON + 2000, "by the app", wa_id="W3"),
        request2=of_a_function(NOON + 3000, "never sent"),
        W4=a_receipt("read", NOON + 4000),
        W5=of_m("W5", NOON, "twice") | {"isDuplicate": True},
    )


async def test_history_is_listed_after_an_import(
    access: FirestoreAccess, console: Console, tmp_path: Path
) -> None:
    """In the order of the messages' times, whether these are Timestamps or texts; none of it counts as unread."""
    await write_history(console)
    async with leading(access, tmp_path) as store:
        assert await store.threads(ACC, limit=10) == []
        steps = await imported(store)
        assert (steps[0].threads, steps[0].messages, steps[0].read) == (1, 6, 0)
        last = steps[-1]
        assert (last.read, last.imported, last.known, last.skipped) == (6, 4, 0, 2)
        found = await store.messages(ANN_THREAD, limit=10)
        assert [one.content.text for one in found] == ["never sent", "by the app", "ours", "first"]
        assert [one.id for one in found] == ["request2", "request1", "W2", "W1"]
        assert [one.wa_id for one in found] == ["", "W3", "W2", "W1"]
        (thread,) = await store.threads(ACC, limit=10)
        assert (thread.name, thread.messages, thread.unread) == ("Ann", 4, 0)
        assert (thread.last_ms, thread.last_text) == (NOON + 3000, "never sent")


async def test_the_messages_in_firestore_stay_as_they_are(
    access: FirestoreAccess, console: Console, tmp_path: Path
) -> None:
    """Only the thread's summary is written; a second import changes nothing."""
    await write_history(console)
    before = await console.all(f"threads/{ANN_THREAD}/messages")
    async with leading(access, tmp_path) as store:
        await imported(store)
        await store.wait_pushed()
        again = await imported(store)
        assert (again[-1].imported, again[-1].known) == (0, 4)
        await store.wait_pushed()
    assert await console.all(f"threads/{ANN_THREAD}/messages") == before
    assert await console.all("send_requests") == {}
    assert await console.all("message_ids") == {}


async def test_a_dry_run_only_counts(
    access: FirestoreAccess, console: Console, tmp_path: Path
) -> None:
    """The number of messages is the number of reads; nothing is stored."""
    await write_history(console)
    async with leading(access, tmp_path) as store:
        (step,) = await imported(store, dry_run=True)
        assert step.messages == 6
        assert await store.threads(ACC, limit=10) == []


async def test_what_wad_stored_is_neither_read_nor_doubled(
    access: FirestoreAccess, console: Console, tmp_path: Path
) -> None:
    """A thread that only wad has written is not read; a message that it has as well stays one message."""
    async with leading(access, tmp_path) as store:
        await store.record(ACC, arrival(1))
        await store.wait_pushed()
        assert (await imported(store))[0].messages == 0
        (ours,) = await store.messages(ANN_THREAD, limit=10)
        await console.set(message(ANN_THREAD, ours.wa_id), of_m(ours.wa_id, ours.at_ms, "text 1"))
        await console.set(f"threads/{ANN_THREAD}", a_thread(ours.at_ms))
        steps = await imported(store)
        assert (steps[0].messages, steps[-1].imported) == (2, 0)
        assert len(await store.messages(ANN_THREAD, limit=10)) == 1


async def test_damaged_threads_are_imported_where_they_belong(
    access: FirestoreAccess, console: Console, tmp_path: Path
) -> None:
    """The thread of an object, by the address of its messages; that of a LID, under the number."""
    await console.set(f"threads/{OBJECT_THREAD}", a_thread(NOON, jid={"canonicalJid": str(ANN)}))
    await console.set(message(OBJECT_THREAD, "s1"), of_s("W1", NOON, "an object's"))
    await console.set(f"threads/{ANN_LID_THREAD}", a_thread(NOON, jid=str(ANN_LID)))
    hidden = of_m("W2", NOON + 1000, "hidden", jid=str(ANN_LID))
    await console.set(message(ANN_LID_THREAD, "W2"), hidden)
    await console.set(f"jid_aliases/{ACC}__{ANN_LID}", an_alias())
    async with leading(access, tmp_path) as store:
        await store.record(ACC, [PutAlias(str(ANN_LID), str(ANN))])
        await imported(store)
        found = await store.messages(ANN_THREAD, limit=10)
        assert [one.content.text for one in found] == ["hidden", "an object's"]
        assert [one.id for one in await store.threads(ACC, limit=10)] == [ANN_THREAD]


async def test_an_import_page_by_page(
    access: FirestoreAccess, console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More messages than a page: each is read once."""
    await console.set(f"threads/{ANN_THREAD}", a_thread(NOON))
    await put(
        console, **{f"W{number}": of_m(f"W{number}", NOON + number * 1000) for number in range(7)}
    )
    monkeypatch.setattr("wad.store.firestore.sync.legacy_import.PAGE", 3)
    async with leading(access, tmp_path) as store:
        steps = await imported(store)
        assert [step.read for step in steps] == [0, 3, 6, 7]
        assert len(await store.messages(ANN_THREAD, limit=10)) == 7


async def test_the_command_and_the_apps(
    access: FirestoreAccess, console: Console, tmp_path: Path
) -> None:
    """It asks before it reads; then HTTP and wadctl show what was only in Firestore."""
    await write_history(console)
    token = "wad_of_the_import"
    environ = {
        "WAD_STORE_KIND": "firestore",
        "WAD_HTTP_TOKENS": str(named("apps", Role.VIEWER, token)),
    }
    async with a_machine(tmp_path, access, "a", environ=environ) as machine:
        await machine.daemon.start()
        await machine.until_mode("active")
        await machine.daemon.call("accounts.add", name="shop", id=ACC)
        refused = await machine.daemon.wadctl("store", "import-legacy")
        assert refused.returncode == BadInput.exit_code
        assert "messages: 6, threads: 1; this costs 6 reads of Firestore" in refused.stdout
        done = await machine.daemon.wadctl("store", "import-legacy", "--yes")
        assert done.returncode == 0, done.stderr
        assert "imported 4 messages; 0 were stored already, 2 are not" in done.stdout
        port = machine.daemon.port
        threads = (await ask(port, f"/api/whatsapp/threads/{ACC}", token=token)).document
        assert [one["id"] for one in threads["threads"]] == [ANN_THREAD]
        inbox = (await ask(port, f"/api/whatsapp/inbox/{ACC}", token=token)).document
        assert inbox["count"] == inbox["totalMessages"] == 4
        path = f"/api/whatsapp/messages/{ACC}/{ANN_THREAD}"
        messages = (await ask(port, path, token=token)).document["messages"]
        assert [one["body"] for one in messages] == ["never sent", "by the app", "ours", "first"]
        shown = await machine.daemon.messages("shop")
        assert {one["text"] for one in shown} == {one["body"] for one in messages}
