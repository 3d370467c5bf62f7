"""One invalid document among valid ones is quarantined by name, shown, retried, dropped; the others go on."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from google.cloud.firestore_v1.types import CommitRequest

from tests.contracts.world import ACC, ANN_THREAD, EPOCH, arrival, queued
from tests.firestore.stores import LEASE, Console, a_store, leading
from tests.firestore.values import Value
from tests.support.waiting import until
from wad.core.errors import BadInput, Conflict, NotFound
from wad.core.message import MessageStatus
from wad.core.outbox import Claim, Claimed
from wad.core.outgoing import Text
from wad.core.quarantine import ItemKind
from wad.store.firestore import store as store_module
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Client, Firestore
from wad.store.firestore.client.decode import get
from wad.store.firestore.store import FirestoreStore
from wad.store.firestore.sync import outbox_listener
from wad.store.firestore.sync.outbox_listener import OutboxListener

pytestmark = pytest.mark.timeout(180)

_THREAD: Final = ANN_THREAD
_TO: Final = ANN_THREAD.partition("__")[2]
_FAR: Final = "projects/other/databases/(default)/documents/users/u1"


def text(value: str) -> Any:
    return Value(string_value=value)


def number(value: int) -> Any:
    return Value(integer_value=value)


def timestamp(moment: datetime) -> Any:
    value = Value()
    value.timestamp_value.seconds = int(moment.timestamp())
    return value


def mapping(**fields: Any) -> Any:
    value = Value()
    value.map_value.SetInParent()
    for name, each in fields.items():
        value.map_value.fields[name].CopyFrom(each)
    return value


async def write(access: FirestoreAccess, path: str, fields: dict[str, Any]) -> None:
    """Write a document of protobuf values, even those that the library would not encode."""
    firestore = Firestore(access, "raw", 1)

    def work(client: Client) -> None:
        request = CommitRequest.pb()(database=client._database_string)
        document = request.writes.add().update
        document.name = f"{client._database_string}/documents/{path}"
        for name, value in fields.items():
            document.fields[name].CopyFrom(value)
        client._firestore_api.commit(
            request=CommitRequest.wrap(request), metadata=client._rpc_metadata, timeout=30
        )

    try:
        await firestore.call(work)
    finally:
        firestore.close()


def entry(**fields: Any) -> dict[str, Any]:
    """An entry as a function writes it."""
    plain = {
        "accountId": text(ACC),
        "threadId": text(_THREAD),
        "toJid": text(_TO),
        "body": text("hi"),
        "status": text("queued"),
        "createdAt": timestamp(datetime.now(UTC)),
    }
    return {**plain, **fields}


async def the_item(store: FirestoreStore) -> str:
    (item,) = await store.quarantine.items()
    return item.id


_NUMBERS: Final = Value(array_value={"values": [Value(double_value=1.0)]})
_HARMLESS: Final[dict[str, dict[str, Any]]] = {
    "a reference into another project": {"createdByRef": Value(reference_value=_FAR)},
    "no number": {"createdAt": Value(double_value=float("nan")), "attemptCount": Value(double_value=float("inf"))},
    "the year 1": {"createdAt": timestamp(datetime(1, 1, 1, tzinfo=UTC))},
    "the year 9999": {"createdAt": timestamp(datetime(9999, 12, 31, tzinfo=UTC))},
    "a number for a text": {"threadId": number(7), "clientMessageId": number(7)},
    "a text for a map": {"payload": text("x"), "wad": text("x")},
    "names of fields": {"odd `name`.x/y": text("x"), "é": text("x")},
    "a vector": {"emb": mapping(__type__=text("__vector__"), value=_NUMBERS)},
    "a place": {"at": Value(geo_point_value={"latitude": 1.0, "longitude": 2.0})},
}  # fmt: skip
_SENSELESS: Final[dict[str, dict[str, Any]]] = {
    "a reference for the account": {"accountId": Value(reference_value=_FAR)},
    "a number for the recipient": {"toJid": number(15550000002)},
    "bytes that are no entry": {"wad": mapping(entry=Value(bytes_value=b"\x00\xff"))},
}


_REFUSED: Final[dict[str, dict[str, Any]]] = {
    "an account that names no directory": {"accountId": text("../x")},
    "a picture by its address": {"payload": mapping(image=mapping(url=text("http://x/y")))},
    "a text too long": {"body": text("x" * 400_000)},
    "a status": {"toJid": text("status@broadcast")},
    "a channel": {"toJid": text("120363000000000001@newsletter")},
    "a broadcast list": {"toJid": text("1700000000@broadcast")},
}


async def fields_of(access: FirestoreAccess, path: str) -> dict[str, Any]:
    """The fields of a document, whatever it refers to."""
    firestore = Firestore(access, "raw", 1)
    try:
        found = await firestore.call(lambda client: get(client, path, timeout=30))
        return dict(found.fields)
    finally:
        firestore.close()


async def test_invalid_entries_block_nothing(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Those whose invalid field does not matter are sent; the others have failed, and are named."""
    kinds = {**_HARMLESS, **_SENSELESS, **_REFUSED}
    idents = {kind: f"a{place:02}" for place, kind in enumerate(kinds)}
    for kind, fields in kinds.items():
        await write(access, f"outbox/{idents[kind]}", entry(**fields))
    async with leading(access, tmp_path) as store:
        await write(access, "outbox/good", entry(clientMessageId=text("c1")))
        async with asyncio.timeout(60):
            while await store.entry("good") is None:
                await asyncio.sleep(0.05)
        for kind in _HARMLESS:
            found = await store.entry(idents[kind])
            assert found is not None, kind
            assert found.state is MessageStatus.QUEUED
        for kind in (*_SENSELESS, *_REFUSED):
            assert await store.entry(idents[kind]) is None, kind
            document = await fields_of(access, f"outbox/{idents[kind]}")
            assert document["status"] == "failed", kind
            assert document["lastError"], kind
        items = await store.quarantine.items()
        assert {item.name for item in items} == {f"outbox/{idents[kind]}" for kind in _SENSELESS}
        assert {item.kind for item in items} == {ItemKind.ENTRY}
        assert store.quarantine.count == len(_SENSELESS)
        assert "quarantine" in {problem.code for problem in store.problems()}


async def test_an_abandoned_claim_is_uncertain_at_once(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """The app reads that its result is uncertain, without any other event."""
    reference = Value(reference_value=_FAR)
    await write(access, "outbox/left", entry(status=text("processing"), createdByRef=reference))
    async with leading(access, tmp_path), asyncio.timeout(60):
        while (await fields_of(access, "outbox/left"))["status"] != "uncertain":
            await asyncio.sleep(0.1)


async def test_claims_that_stay_hide_no_abandoned_one(
    access: FirestoreAccess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not those that cannot be recorded, nor those of a living worker, even if they fill a page of the query."""
    monkeypatch.setattr(outbox_listener, "_PAGE", 2)
    monkeypatch.setattr(outbox_listener, "_PAGES", 1)
    monkeypatch.setattr(store_module, "OutboxListener", partial(OutboxListener, again=0.2))
    claimed = entry(status=text("processing"))
    for ident, to in (("a1", "status@broadcast"), ("a2", "120363000000000001@newsletter")):
        await write(access, f"outbox/{ident}", {**claimed, "toJid": text(to)})
    alive = timestamp(datetime.now(UTC) + timedelta(hours=1))
    for ident in ("b1", "b2", "b3"):
        await write(access, f"outbox/{ident}", {**claimed, "leaseUntil": alive})
    await write(access, "outbox/z", claimed)
    async with leading(access, tmp_path) as store:
        async with asyncio.timeout(60):
            while (await fields_of(access, "outbox/z"))["status"] != "uncertain":
                await asyncio.sleep(0.1)
        items = await store.quarantine.items()
        assert {item.name for item in items} == {"outbox/a1", "outbox/a2"}
        for ident in ("a1", "a2", "b1", "b2", "b3"):
            document = await fields_of(access, f"outbox/{ident}")
            assert document["status"] == "processing", ident


async def test_an_entry_is_retried_once_it_is_corrected(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    await write(access, "outbox/bad", entry(toJid=number(7)))
    news: list[str] = []
    async with leading(access, tmp_path, queued=news) as store:
        await until(lambda: store.quarantine.count == 1, "the quarantine")
        ident = await the_item(store)
        shown = await store.quarantine.show(ident)
        assert "toJid: integer" in shown
        assert "body: string, 2 characters" in shown
        with pytest.raises(BadInput, match="toJid"):
            await store.quarantine.retry(ident)
        assert store.quarantine.count == 1
        await write(access, "outbox/bad", entry(status=text("failed")))
        assert await store.quarantine.retry(ident) == "the entry is queued again"
        await until(lambda: news == [ACC], "the mended entry")
        assert store.quarantine.count == 0
        assert (await console.there("outbox/bad"))["lastError"] is None
        with pytest.raises(NotFound):
            await store.quarantine.retry(ident)


async def test_a_dropped_item_does_not_return(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Not over a restart, either; a new version is read."""
    path = f"wad_facts/{ACC}__x"
    bad = {
        "wadBy": text("other"),
        "wadSyncedAt": timestamp(datetime.now(UTC)),
        "payload": number(1),
    }
    await console.set(f"{LEASE}/machines/other", {"service": "wad"})
    await write(access, path, bad)
    async with a_store(access, tmp_path) as store:
        await store.pull()
        assert [item.name for item in await store.quarantine.items()] == [path]
        await store.quarantine.drop(await the_item(store))
        await store.pull()
        assert store.quarantine.count == 0
    async with a_store(access, tmp_path) as store:
        await store.pull()
        assert store.quarantine.count == 0
        assert await console.get(path) is not None
        await write(
            access, path, {**bad, "wadSyncedAt": timestamp(datetime.now(UTC)), "payload": number(2)}
        )
        await store.pull()
        assert store.quarantine.count == 1


async def test_the_pull_continues_after_invalid_documents(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """In each collection; and a time in the future hides nothing that follows."""
    far, now = datetime(9999, 1, 1, tzinfo=UTC), datetime(2020, 1, 1, tzinfo=UTC)
    unreadable = mapping(told=Value(bytes_value=b"\xc1"))
    for when, stamp in (("now", now), ("far", far)):
        mark = {"wadBy": text("there"), "wadSyncedAt": timestamp(stamp)}
        await write(access, f"threads/{_THREAD}/messages/bad-{when}", {**mark, "wad": unreadable})
        await write(
            access, f"jid_aliases/{when}", {**mark, "accountId": Value(reference_value=_FAR)}
        )
        await write(access, f"outbox/bad-{when}", {**mark, "status": text("sent")})
        await write(access, f"accounts/bad-{when}", {**mark, "wad": number(1)})
    await write(access, "accounts/text", {"wadBy": text("there"), "wadSyncedAt": text("soon")})
    async with a_store(access, tmp_path, "there") as there:
        await there.record(ACC, arrival(1))
        await there.pull()
        await there.wait_pushed()
        async with a_store(access, tmp_path, "here") as here:
            await here.pull()
            assert len(await here.messages(ANN_THREAD, limit=9)) == 1
            assert here.quarantine.count == 8
            await there.record(ACC, arrival(2))
            await there.wait_pushed()
            await here.pull()
            assert len(await here.messages(ANN_THREAD, limit=9)) == 2
            assert here.quarantine.count == 8


async def test_an_entry_without_room_for_a_claim_has_failed(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Its document has nearly the maximum size: it does not block the entries after it."""
    ballast = {"ballast": text("x" * 1_048_200)}
    await write(access, "outbox/big", entry(**ballast))
    claim = Claimed(Claim("here", EPOCH), b"s")
    news: list[str] = []
    async with leading(access, tmp_path, queued=news) as store:
        await until(lambda: news == [ACC], "the entry")
        with pytest.raises(Conflict, match="failed"):
            await store.settle("big", claim, epoch=EPOCH)
        found = await store.entry("big")
        assert found is not None
        assert (found.state, found.error_code) == (MessageStatus.FAILED, "too_long")
        assert (await console.there("outbox/big"))["status"] == "failed"
        await store.enqueue(queued())
        sending = await store.settle(queued().id, claim, epoch=EPOCH)
        assert sending.state is MessageStatus.SENDING


async def test_a_row_whose_document_cannot_be_built_is_quarantined(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """The others are pushed; it is logged again by a retry."""
    async with a_store(access, tmp_path) as store:
        await store.record(ACC, arrival(1))
        await store.wait_pushed()
        await store._write(
            lambda db: db.execute("INSERT INTO accounts VALUES (?,?)", ("acc-x", b"\xc1"))
        )
        async with store.lead(EPOCH, lambda account: None):
            await store.record(ACC, arrival(2))
            await until(lambda: store.quarantine.count == 1, "the quarantine")
            await store.wait_pushed()
            assert len(await console.all(f"threads/{ANN_THREAD}/messages")) == 2
            ident = await the_item(store)
            assert await store.quarantine.retry(ident)
            await until(lambda: store.quarantine.count == 1, "the second try")
            await store._write(lambda db: db.execute("DELETE FROM accounts"))
            await store.wait_pushed()
            assert store.quarantine.count == 0


async def test_a_text_too_long_for_firestore_is_refused_at_once(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """Before it is queued."""
    large = msgspec.structs.replace(queued(), content=Text("x" * 1_100_000))
    async with leading(access, tmp_path) as store:
        with pytest.raises(BadInput, match="Firestore does not accept"):
            await store.enqueue(large)
        assert await store.entry(large.id) is None


async def test_a_lost_fence_is_created_again(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """Firestore was emptied while we hold the lease: exclusive writes go on, in the same epoch; a newer epoch still
    ends it."""
    async with leading(access, tmp_path) as store:
        for path in await console.all(f"{LEASE}/fences"):
            await console.delete(f"{LEASE}/fences/{path}")
        await console.delete(f"{LEASE}/wad/epoch")
        await store.record(ACC, arrival(1))
        await store.wait_pushed()
        assert await console.get(f"threads/{ANN_THREAD}") is not None
        assert (await console.there(f"{LEASE}/wad/epoch"))["epoch"] == EPOCH
        async with a_store(access, tmp_path, "there") as there:
            await there.fence(EPOCH + 1)
            await store.record(ACC, arrival(2))
            await until(lambda: store._pusher.epoch is None, "the end of the epoch")
