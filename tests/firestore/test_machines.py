"""Machines are distinguished by an id of their working copy: with the same name, and as copies of each other."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest

from tests.contracts.world import ACC, ANN_THREAD, CLAIMED, EPOCH, arrival, queued
from tests.firestore.stores import LEASE, Console, Document
from tests.support.waiting import until
from wad.core.message import MessageStatus
from wad.core.outbox import Claim
from wad.lib.clock import SystemClock
from wad.lib.loops import Loops
from wad.store.firestore.client.access import FirestoreAccess
from wad.store.firestore.client.database import Firestore
from wad.store.firestore.store import FirestoreStore
from wad.store.firestore.sync import machines, retired_machines

NAME = "box"


@asynccontextmanager
async def machine(
    access: FirestoreAccess, file: Path, instance: str = NAME
) -> AsyncIterator[FirestoreStore]:
    """A machine as the daemon opens it, with a random id."""
    store = await FirestoreStore.open_at(
        file,
        Firestore(access, "store", 5),
        lease=LEASE,
        instance=instance,
        host=f"host of {file.stem}",
        clock=SystemClock(),
        quota=1000,
        loops=Loops(SystemClock()),
    )
    try:
        yield store
    finally:
        await store.close()


def codes(store: FirestoreStore) -> list[str]:
    return [problem.code for problem in store.problems()]


async def numbers(store: FirestoreStore) -> int:
    return len(await store.messages(ANN_THREAD, limit=100))


async def test_two_machines_with_one_name_name_each_other(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """The standby detects it at once; the active machine, as soon as the other has registered."""
    async with machine(access, tmp_path / "one.db") as one, one.lead(1, lambda account: None):
        await until(lambda: one._pusher.epoch == 1, "the first look")
        assert codes(one) == []
        async with machine(access, tmp_path / "two.db") as two:
            await until(lambda: codes(one) == codes(two) == ["same_name"], "both know")
            (problem,) = one.problems()
            assert "host of two" in problem.text
            assert NAME in problem.text


async def test_other_names_are_not_a_problem(access: FirestoreAccess, tmp_path: Path) -> None:
    async with (
        machine(access, tmp_path / "one.db", "a") as one,
        machine(access, tmp_path / "two.db", "b") as two,
    ):
        await one.pull()
        await two.pull()
        assert codes(one) == codes(two) == []


async def test_after_a_take_over_the_second_has_the_messages_of_the_first(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """Again and again, under one name."""
    async with (
        machine(access, tmp_path / "one.db") as one,
        machine(access, tmp_path / "two.db") as two,
    ):
        for epoch, (active, standby) in enumerate([(one, two), (two, one), (one, two)], 1):
            async with active.lead(epoch, lambda account: None):
                await until(lambda active=active, epoch=epoch: active._pusher.epoch == epoch)  # type: ignore[misc]
                await active.record(ACC, arrival(epoch))
                await active.wait_pushed()
            await standby.pull()
            assert await numbers(standby) == await numbers(active) == epoch


async def test_a_machine_keeps_its_id_over_restarts(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    ids = set()
    for _ in range(3):
        async with machine(access, tmp_path / "one.db") as one:
            await one.pull()
            ids.add(one.machine)
            assert codes(one) == []
    assert len(ids) == 1


async def test_a_copy_of_the_state_directory_is_noticed_and_loses_nothing(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """A cloned image: both had one id; then each has its own, and both pull what was written under the old one."""
    async with machine(access, tmp_path / "one.db") as one:
        await one.record(ACC, arrival(1))
        await one.pull()
        await one.wait_pushed()
    shutil.copy(tmp_path / "one.db", tmp_path / "two.db")
    async with (
        machine(access, tmp_path / "one.db") as one,
        machine(access, tmp_path / "two.db") as two,
    ):
        await one.record(ACC, arrival(2))
        await two.record(ACC, arrival(3))
        for store in (one, two):
            await store.wait_pushed()
        for _ in range(2):
            for store in (one, two):
                await store.pull()
        assert one.machine != two.machine
        assert await numbers(one) == await numbers(two) == 3
        assert "notice" in codes(one) + codes(two)
        shared = [
            doc for doc in (await console.all(f"{LEASE}/machines")).values() if doc.get("shared")
        ]
        assert len(shared) == 1


async def test_a_claim_of_a_machine_with_our_name_is_not_ours(
    access: FirestoreAccess, tmp_path: Path
) -> None:
    """It may have sent the message: no session here shows it."""
    claim = msgspec.structs.replace(CLAIMED, claim=Claim(NAME, EPOCH))
    async with (
        machine(access, tmp_path / "one.db") as one,
        machine(access, tmp_path / "two.db") as two,
    ):
        async with one.lead(EPOCH, lambda account: None):
            await one.enqueue(queued())
            await one.settle(queued().id, claim, epoch=EPOCH)
            await until(lambda: one._pusher.epoch == EPOCH)
            await one.wait_pushed()
        await two.pull()
        found = await two.entry(queued().id)
        mine = await one.entry(queued().id)
    assert found is not None
    assert mine is not None
    assert (found.state, mine.state) == (MessageStatus.SENDING, MessageStatus.SENDING)
    assert found.claim is not None
    assert found.claim.holder == f"{NAME} ({one.machine})"
    assert mine.claim == Claim(NAME, EPOCH)


async def test_an_interrupted_start_is_not_a_copy(
    access: FirestoreAccess, tmp_path: Path, console: Console
) -> None:
    """It wrote its token and could not record that; the next start did not reach Firestore: the third knows the
    token."""
    file = tmp_path / "one.db"
    async with machine(access, file) as store:
        await store.pull()
        first, word = store.machine, store._machines._token
    with closing(sqlite3.connect(file)) as db, db:
        # As if it had ended before the answer came.
        db.execute("UPDATE OR REPLACE identity SET name = 'next word' WHERE name = 'word'")
    nowhere = FirestoreAccess(project=access.project, emulator="127.0.0.1:9")
    async with machine(nowhere, file) as store:
        await until(lambda: store._machines._token in store._machines._known)
        while store._machines._token not in await store.identity("next word"):
            await asyncio.sleep(0.01)
    async with machine(access, file) as store:
        assert word in store._machines._known
        await store.pull()
        assert store.machine == first
        assert not store._machines.copied


async def test_a_machine_that_was_not_seen_for_long_is_retired_and_nothing_of_it_is_lost(
    access: FirestoreAccess, tmp_path: Path, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its document is deleted; a new machine still pulls what it wrote, once; and it may return."""
    async with machine(access, tmp_path / "one.db") as one:
        await one.record(ACC, arrival(1))
        await one.pull()
        await one.wait_pushed()
        ident = one.machine
    monkeypatch.setattr(retired_machines, "AFTER_MS", 0)
    async with machine(access, tmp_path / "two.db") as two:
        await two.pull()
        assert set(await console.all(f"{LEASE}/machines")) == {two.machine, "retired"}
        assert await numbers(two) == 1
        asked = []
        fetch = two._puller._pull

        async def noted(machine: str, collection: str) -> int:
            asked.append(machine)
            return await fetch(machine, collection)

        monkeypatch.setattr(two._puller, "_pull", noted)
        await two.pull()
        assert ident not in asked
    async with machine(access, tmp_path / "three.db") as three:
        await three.pull()
        assert await numbers(three) == 1
        async with machine(access, tmp_path / "one.db") as one:
            await one.record(ACC, arrival(2))
            await one.pull()
            await one.wait_pushed()
            assert (one.machine, one._machines.copied) == (ident, False)
        for _ in range(2):
            await three.pull()
            assert await numbers(three) == 2
        assert set(await console.all(f"{LEASE}/machines")) == {three.machine, "retired"}


async def test_a_copy_of_a_retired_machine_is_noticed(
    access: FirestoreAccess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its token is kept with its id: an old image that is started again has never written it."""
    async with machine(access, tmp_path / "one.db") as one:
        await one.pull()
    shutil.copy(tmp_path / "one.db", tmp_path / "image.db")
    async with machine(access, tmp_path / "one.db") as one:
        await one.pull()
        ident = one.machine
    monkeypatch.setattr(retired_machines, "AFTER_MS", 0)
    async with machine(access, tmp_path / "two.db") as two:
        await two.pull()
    async with machine(access, tmp_path / "image.db") as image:
        await image.pull()
        assert (image.machine != ident, image._machines.copied) == (True, True)


async def test_all_machines_are_listed(
    access: FirestoreAccess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Page by page."""
    monkeypatch.setattr(machines, "_PAGE", 2)
    for number in range(5):
        async with machine(access, tmp_path / f"m{number}.db") as store:
            await store.record(ACC, arrival(number))
            await store.pull()
            await store.wait_pushed()
    async with machine(access, tmp_path / "new.db") as new:
        await new.pull()
        assert await numbers(new) == 5


@pytest.mark.parametrize(
    "fields",
    [{}, {"ids": 7}, {"ids": {"a": 1, "b": {"seen": "x"}, "..": {"seen": 5}, "c": {"seen": -1}}}],
)
async def test_invalid_entries_of_the_register_are_ignored(
    access: FirestoreAccess, tmp_path: Path, console: Console, fields: Document
) -> None:
    """Machines go on."""
    await console.set(f"{LEASE}/machines/retired", fields)
    async with machine(access, tmp_path / "one.db") as one:
        await one.pull()
        assert (one._machines.retired, codes(one)) == ({}, [])
